//! The store in memory, for tests and the simulation: the contract in a few lines, and faults when asked for.
//!
//! It keeps what is written apart from what is synced, so that a test can go on from what a power cut leaves.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Batch, Direction, Expectation, KeyRange, PartitionId, Store, StoreError, limits};

type Map = BTreeMap<PartitionId, BTreeMap<Vec<u8>, Vec<u8>>>;

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
    /// Shared with the store that a crash left, until one of them is written to.
    written: Arc<Map>,
    /// The keys of the commit that broke off, each with what a power cut leaves of it.
    pending: BTreeMap<PartitionId, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
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
        Self::of(Arc::default(), Box::new(|_, _| None))
    }

    /// An empty store with the faults that `faults` decides.
    pub fn with_faults(faults: impl FnMut(u64, &[Batch]) -> Option<Fault> + Send + 'static) -> Self {
        Self::of(Arc::default(), Box::new(faults))
    }

    fn of(written: Arc<Map>, faults: Faults) -> Self {
        Self(Mutex::new(Inner { written, pending: BTreeMap::new(), commits: 0, failed: None, faults }))
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
        let mut map = inner.written.clone();
        if crash == Crash::Power {
            for (partition, keys) in &inner.pending {
                for (key, left) in
                    keys.iter().filter(|(key, left)| value(&inner.written, *partition, key) != left.as_ref())
                {
                    set(Arc::make_mut(&mut map), *partition, key.clone(), left.clone());
                }
            }
        }
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

    fn commit(&mut self, mut batches: Vec<Batch>) -> Result<(), StoreError> {
        if let Some(why) = &self.failed {
            return Err(StoreError::Fatal(why.clone()));
        }
        let number = self.commits;
        self.commits += 1;
        let fault = (self.faults)(number, &batches);
        if fault == Some(Fault::Busy) {
            return Err(StoreError::Busy("a fault of the model".to_owned()));
        }
        for batch in &batches {
            if !batch.expectations.iter().all(|expectation| self.holds(batch.partition, expectation)) {
                return Err(StoreError::Conflict { partition: batch.partition.0 });
            }
        }
        let map = Arc::make_mut(&mut self.written);
        let Some(Fault::Fatal { written, synced }) = fault else {
            for batch in batches {
                let partition = batch.partition;
                changes(batch).for_each(|(key, value)| set(map, partition, key, value));
            }
            return Ok(());
        };
        batches.truncate(written);
        for (index, batch) in batches.into_iter().enumerate() {
            let partition = batch.partition;
            let pending = self.pending.entry(partition).or_default();
            for (key, new) in changes(batch) {
                if index < synced {
                    pending.insert(key.clone(), new.clone());
                } else {
                    pending.entry(key.clone()).or_insert_with(|| value(map, partition, &key).cloned());
                }
                set(map, partition, key, new);
            }
        }
        let why = format!("a fault of the model at commit {number}");
        self.failed = Some(why.clone());
        Err(StoreError::Fatal(why))
    }

    fn holds(&self, partition: PartitionId, expectation: &Expectation) -> bool {
        match expectation {
            Expectation::Absent { key } => value(&self.written, partition, key).is_none(),
            Expectation::Equals { key, value: expected } => value(&self.written, partition, key) == Some(expected),
        }
    }
}

fn value<'a>(map: &'a Map, partition: PartitionId, key: &[u8]) -> Option<&'a Vec<u8>> {
    map.get(&partition)?.get(key)
}

fn set(map: &mut Map, partition: PartitionId, key: Vec<u8>, value: Option<Vec<u8>>) {
    let keys = map.entry(partition).or_default();
    match value {
        Some(value) => keys.insert(key, value),
        None => keys.remove(&key),
    };
}

/// What a batch leaves at each of its keys, in order.
fn changes(batch: Batch) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    let puts = batch.puts.into_iter().map(|(key, value)| (key, Some(value)));
    puts.chain(batch.deletes.into_iter().map(|key| (key, None)))
}

#[async_trait]
impl Store for ModelStore {
    async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let inner = self.inner();
        inner.readable(inner.pending.get(&partition).is_some_and(|keys| keys.contains_key(key)))?;
        Ok(value(&inner.written, partition, key).cloned())
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
        let bounds = (Bound::Included(range.from.as_slice()), Bound::Excluded(range.to.as_slice()));
        let inner = self.inner();
        let pending = inner.pending.get(&partition);
        inner.readable(pending.is_some_and(|keys| keys.range::<[u8], _>(bounds).next().is_some()))?;
        let Some(keys) = inner.written.get(&partition) else { return Ok(Vec::new()) };
        let pairs = keys.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => pairs.take(limit).collect(),
            Direction::Reverse => pairs.rev().take(limit).collect(),
        })
    }

    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        limits::check(&batches)?;
        self.inner().commit(batches)
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
    async fn what_was_not_synced_is_as_it_was_before_the_commit() {
        let store = ModelStore::new();
        let mut before = put(A, b"kept", b"1");
        before.put(b"removed", b"1").put(b"changed", b"1");
        store.commit(vec![before]).await.unwrap();
        store.set_faults(|_, _| Some(Fault::Fatal { written: 2, synced: 1 }));
        let mut later = put(A, b"changed", b"3");
        later.put(b"new", b"3").delete(b"removed");
        store.commit(vec![put(A, b"changed", b"2"), later]).await.unwrap_err();
        let all = KeyRange { from: Vec::new(), to: vec![u8::MAX] };
        for crash in [Crash::Process, Crash::Power] {
            let found = store.after(crash).scan(A, all.clone(), usize::MAX, Direction::Forward).await.unwrap();
            let expected: &[(&[u8], &[u8])] = match crash {
                Crash::Process => &[(b"changed", b"3"), (b"kept", b"1"), (b"new", b"3")],
                Crash::Power => &[(b"changed", b"2"), (b"kept", b"1"), (b"removed", b"1")],
            };
            let found: Vec<(&[u8], &[u8])> = found.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            assert_eq!(found, expected, "{crash:?}");
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
