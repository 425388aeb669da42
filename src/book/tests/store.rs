//! A store in memory that dies where it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::store::{
    Batch, Direction, Expectation, KeyRange, MAX_COMMIT_BYTES, MAX_VALUE_BYTES, PartitionId, Store, StoreError,
};

type Data = BTreeMap<(PartitionId, Vec<u8>), Vec<u8>>;

#[derive(Default)]
pub(super) struct MemStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    data: Data,
    batches: usize,
    dies_after: Option<usize>,
    dies_again: Option<usize>,
    busy: usize,
    largest_commit: usize,
}

impl MemStore {
    /// Dies once `batches` more batches were applied: the commit they are in ends as unknown.
    pub(super) fn die_after(&self, batches: usize) {
        let mut inner = self.inner.lock().unwrap();
        inner.dies_after = Some(inner.batches + batches);
    }

    /// After the next revival it dies once more, `batches` later.
    pub(super) fn die_again_after(&self, batches: usize) {
        self.inner.lock().unwrap().dies_again = Some(batches);
    }

    pub(super) fn revive(&self) {
        let mut inner = self.inner.lock().unwrap();
        let batches = inner.batches;
        inner.dies_after = inner.dies_again.take().map(|more| batches + more);
    }

    pub(super) fn busy_for(&self, commits: usize) {
        self.inner.lock().unwrap().busy = commits;
    }

    /// How many batches were applied.
    pub(super) fn batches(&self) -> usize {
        self.inner.lock().unwrap().batches
    }

    pub(super) fn largest_commit(&self) -> usize {
        self.inner.lock().unwrap().largest_commit
    }

    pub(super) fn keys(&self, tag: u8) -> usize {
        self.inner.lock().unwrap().data.keys().filter(|(_, key)| key[0] == tag).count()
    }

    /// Changes a stored value behind everyone's back.
    pub(super) fn tamper(&self, tag: u8, nth: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner.lock().unwrap();
        change(inner.data.iter_mut().filter(|((_, key), _)| key[0] == tag).nth(nth).unwrap().1);
    }

    pub(super) fn remove(&self, tag: u8, nth: usize) {
        let mut inner = self.inner.lock().unwrap();
        let key = inner.data.keys().filter(|(_, key)| key[0] == tag).nth(nth).unwrap().clone();
        inner.data.remove(&key);
    }

    pub(super) fn remove_all(&self, tag: u8) {
        self.inner.lock().unwrap().data.retain(|(_, key), _| key[0] != tag);
    }
}

impl super::Mortal for MemStore {
    fn reborn(self: &Arc<Self>) -> Arc<Self> {
        self.revive();
        self.clone()
    }
}

#[async_trait]
impl Store for MemStore {
    async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.inner.lock().unwrap().data.get(&(partition, key.to_vec())).cloned())
    }

    async fn scan(
        &self,
        partition: PartitionId,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let inner = self.inner.lock().unwrap();
        if range.from >= range.to {
            return Ok(Vec::new());
        }
        let found = inner.data.range((partition, range.from)..(partition, range.to));
        let pair = |((_, key), value): (&(PartitionId, Vec<u8>), &Vec<u8>)| (key.clone(), value.clone());
        Ok(match direction {
            Direction::Forward => found.take(limit).map(pair).collect(),
            Direction::Reverse => found.rev().take(limit).map(pair).collect(),
        })
    }

    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        let mut inner = self.inner.lock().unwrap();
        if inner.busy > 0 {
            inner.busy -= 1;
            return Err(StoreError::Busy("as told".to_owned()));
        }
        let mut bytes = 0;
        for batch in &batches {
            for (key, value) in &batch.puts {
                bytes += key.len() + value.len();
                if value.len() > MAX_VALUE_BYTES {
                    return Err(StoreError::Refused(format!("a value of {} bytes", value.len())));
                }
            }
            for expectation in &batch.expectations {
                let (key, expected) = match expectation {
                    Expectation::Absent { key } => (key, None),
                    Expectation::Equals { key, value } => (key, Some(value)),
                };
                if inner.data.get(&(batch.partition, key.clone())) != expected {
                    return Err(StoreError::Conflict { partition: batch.partition.0 });
                }
            }
        }
        if bytes >= MAX_COMMIT_BYTES {
            return Err(StoreError::Refused(format!("a commit of {bytes} bytes")));
        }
        inner.largest_commit = inner.largest_commit.max(bytes);
        for batch in batches {
            if inner.dies_after.is_some_and(|at| inner.batches >= at) {
                return Err(StoreError::Fatal("the power is gone".to_owned()));
            }
            inner.batches += 1;
            for (key, value) in batch.puts {
                inner.data.insert((batch.partition, key), value);
            }
            for key in batch.deletes {
                inner.data.remove(&(batch.partition, key));
            }
        }
        // The last batch is applied, and its answer is lost.
        if inner.dies_after.is_some_and(|at| inner.batches >= at) {
            return Err(StoreError::Fatal("the power is gone".to_owned()));
        }
        Ok(())
    }
}
