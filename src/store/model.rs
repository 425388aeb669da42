//! The store in memory, for tests and the simulation: the contract in a few lines, and faults when asked for.
//!
//! It keeps what is written apart from what is synced, so that a test can go on from what a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Batch, Direction, Expectation, KeyRange, PartitionId, Store, StoreError, limits};

type Map = BTreeMap<(PartitionId, Vec<u8>), Vec<u8>>;

/// What happens to one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens before it, and it says `Busy`.
    Busy,
    /// It breaks off and says `Fatal`: the first `written` batches are written, and the first `synced` of those are on
    /// disk. The store then accepts nothing until it is reopened.
    ///
    /// `0, 0` is a failure before any effect; all and all is a lost answer.
    Fatal {
        /// How many of its batches were written; all of them, where it has fewer.
        written: usize,
        /// How many of those would survive a power cut.
        synced: usize,
    },
}

/// Decides the fault of each commit, from its number (from 0) and its batches.
pub type Faults = Box<dyn FnMut(u64, &[Batch]) -> Option<Fault> + Send>;

/// What ends the process that had the store open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: what was written stays.
    Process,
    /// The power fails: only what was synced stays.
    Power,
}

/// A store in memory.
pub struct ModelStore(Mutex<Inner>);

struct Inner {
    written: Map,
    synced: Map,
    /// What the two differ in.
    pending: BTreeSet<(PartitionId, Vec<u8>)>,
    commits: u64,
    failed: Option<String>,
    faults: Faults,
}

impl Default for ModelStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelStore {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self::of(Map::new(), Box::new(|_, _| None))
    }

    /// An empty store with the faults that `faults` decides.
    pub fn with_faults(faults: impl FnMut(u64, &[Batch]) -> Option<Fault> + Send + 'static) -> Self {
        Self::of(Map::new(), Box::new(faults))
    }

    fn of(map: Map, faults: Faults) -> Self {
        Self(Mutex::new(Inner {
            written: map.clone(),
            synced: map,
            pending: BTreeSet::new(),
            commits: 0,
            failed: None,
            faults,
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A caller's fault plan may panic, before anything is changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, `faults` decides; the count of commits goes on.
    pub fn set_faults(&self, faults: impl FnMut(u64, &[Batch]) -> Option<Fault> + Send + 'static) {
        self.inner().faults = Box::new(faults);
    }

    /// The store as the next process finds it after `crash`, without faults. This one stays as it is.
    pub fn after(&self, crash: Crash) -> Self {
        let inner = self.inner();
        let map = match crash {
            Crash::Process => inner.written.clone(),
            Crash::Power => inner.synced.clone(),
        };
        Self::of(map, Box::new(|_, _| None))
    }

    /// How many commits were tried, those that were refused for their limits apart.
    pub fn commits(&self) -> u64 {
        self.inner().commits
    }

    /// Whether the store has failed and has to be reopened.
    pub fn has_failed(&self) -> bool {
        self.inner().failed.is_some()
    }
}

impl Inner {
    fn readable(&self, touches: bool) -> Result<(), StoreError> {
        match &self.failed {
            Some(why) if touches => Err(StoreError::Fatal(why.clone())),
            _ => Ok(()),
        }
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        if let Some(why) = &self.failed {
            return Err(StoreError::Fatal(why.clone()));
        }
        let number = self.commits;
        self.commits += 1;
        let fault = (self.faults)(number, batches);
        if fault == Some(Fault::Busy) {
            return Err(StoreError::Busy("a fault of the model".to_owned()));
        }
        for batch in batches {
            if !batch.expectations.iter().all(|expectation| self.holds(batch.partition, expectation)) {
                return Err(StoreError::Conflict { partition: batch.partition.0 });
            }
        }
        let Some(Fault::Fatal { written, synced }) = fault else {
            for batch in batches {
                apply(&mut self.written, batch);
                apply(&mut self.synced, batch);
            }
            return Ok(());
        };
        let written = &batches[..written.min(batches.len())];
        for (index, batch) in written.iter().enumerate() {
            apply(&mut self.written, batch);
            if index < synced {
                apply(&mut self.synced, batch);
            }
            let keys = batch.puts.iter().map(|(key, _)| key).chain(&batch.deletes);
            self.pending.extend(keys.map(|key| (batch.partition, key.clone())));
        }
        let why = format!("a fault of the model at commit {number}");
        self.failed = Some(why.clone());
        Err(StoreError::Fatal(why))
    }

    fn holds(&self, partition: PartitionId, expectation: &Expectation) -> bool {
        match expectation {
            Expectation::Absent { key } => !self.written.contains_key(&(partition, key.clone())),
            Expectation::Equals { key, value } => self.written.get(&(partition, key.clone())) == Some(value),
        }
    }
}

fn apply(map: &mut Map, batch: &Batch) {
    for (key, value) in &batch.puts {
        map.insert((batch.partition, key.clone()), value.clone());
    }
    for key in &batch.deletes {
        map.remove(&(batch.partition, key.clone()));
    }
}

#[async_trait]
impl Store for ModelStore {
    async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let inner = self.inner();
        let place = (partition, key.to_vec());
        inner.readable(inner.pending.contains(&place))?;
        Ok(inner.written.get(&place).cloned())
    }

    async fn scan(
        &self,
        partition: PartitionId,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        if range.from >= range.to {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included((partition, range.from)), Bound::Excluded((partition, range.to)));
        let inner = self.inner();
        inner.readable(inner.pending.range(bounds.clone()).next().is_some())?;
        let pairs = inner.written.range(bounds).map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => pairs.take(limit).collect(),
            Direction::Reverse => pairs.rev().take(limit).collect(),
        })
    }

    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        limits::check(&batches)?;
        self.inner().commit(&batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PartitionId = PartitionId(1);
    const B: PartitionId = PartitionId(2);

    fn put(partition: PartitionId, key: &[u8], value: &[u8]) -> Batch {
        let mut batch = Batch::new(partition);
        batch.put(key, value);
        batch
    }

    #[tokio::test]
    async fn busy_changes_nothing_and_passes() {
        let store = ModelStore::with_faults(|number, _| (number == 0).then_some(Fault::Busy));
        let change = || vec![put(A, b"k", b"v")];
        assert!(matches!(store.commit(change()).await, Err(StoreError::Busy(_))));
        assert_eq!(store.get(A, b"k").await, Ok(None));
        assert_eq!(store.commit(change()).await, Ok(()));
        assert_eq!(store.commits(), 2);
    }

    #[tokio::test]
    async fn every_way_to_break_off_leaves_a_prefix() {
        for (written, synced) in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (9, 9)] {
            let store = ModelStore::new();
            store.commit(vec![put(A, b"before", b"1")]).await.unwrap();
            store.set_faults(move |_, _| Some(Fault::Fatal { written, synced }));
            let both = vec![put(A, b"k", b"v"), put(B, b"k", b"v")];
            assert!(matches!(store.commit(both.clone()).await, Err(StoreError::Fatal(_))));
            assert!(store.has_failed());
            assert!(matches!(store.commit(both).await, Err(StoreError::Fatal(_))), "refused until reopened");
            assert_eq!(store.get(A, b"before").await, Ok(Some(b"1".to_vec())), "other reads go on");
            assert_eq!(store.get(A, b"k").await.is_err(), written > 0, "the unknown is not shown");
            for (crash, there) in [(Crash::Process, written), (Crash::Power, synced)] {
                let next = store.after(crash);
                assert_eq!(next.get(A, b"k").await.unwrap().is_some(), there >= 1);
                assert_eq!(next.get(B, b"k").await.unwrap().is_some(), there >= 2);
                assert_eq!(next.get(A, b"before").await, Ok(Some(b"1".to_vec())));
                next.commit(vec![put(A, b"k", b"again")]).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_conflict_comes_before_a_failure() {
        let store = ModelStore::with_faults(|_, _| Some(Fault::Fatal { written: 1, synced: 1 }));
        let mut batch = put(A, b"k", b"v");
        batch.expect_equals(b"k".to_vec(), b"other".to_vec());
        assert_eq!(store.commit(vec![batch]).await, Err(StoreError::Conflict { partition: 1 }));
        assert!(!store.has_failed());
    }
}
