//! The store: bytes in, bytes out, durable on `Ok`. Engines know nothing of what they keep.
//!
//! `app/` and `book/` talk to the [`Store`] trait only; `node.rs` alone names an engine.

pub mod contract;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod keys;
pub mod limits;
pub mod migrations;
pub mod model;
pub mod records;
pub mod sled;

use async_trait::async_trait;

/// What is kept and committed together. A batch belongs to one partition and is atomic there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// A condition that must hold when a batch is applied, else the whole commit is refused with `Conflict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The key has no value.
    Absent { key: Vec<u8> },
    /// The key has exactly this value.
    Equals { key: Vec<u8>, value: Vec<u8> },
}

/// Changes to one partition: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where.
    pub partition: PartitionId,
    /// What must hold before.
    pub expectations: Vec<Expectation>,
    /// Keys to set. A batch changes a key once; a later batch of the same commit may change it again.
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys to remove; removing an absent key is no error.
    pub deletes: Vec<Vec<u8>>,
}

impl Batch {
    /// An empty batch for `partition`.
    pub fn new(partition: PartitionId) -> Self {
        Self { partition, expectations: Vec::new(), puts: Vec::new(), deletes: Vec::new() }
    }

    /// Adds the condition that `key` has no value.
    pub fn expect_absent(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.expectations.push(Expectation::Absent { key: key.into() });
        self
    }

    /// Adds the condition that `key` has exactly `value`.
    pub fn expect_equals(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.expectations.push(Expectation::Equals { key: key.into(), value: value.into() });
        self
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.puts.push((key.into(), value.into()));
        self
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.deletes.push(key.into());
        self
    }
}

/// A half-open range of keys, `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be returned.
    pub from: Vec<u8>,
    /// The first key past the range.
    pub to: Vec<u8>,
}

/// Which end of a range a scan begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Reverse,
}

/// Why the store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An expectation did not hold; nothing was changed.
    #[error("the stored value is not the one that this change was decided on (partition {partition}); read again")]
    Conflict { partition: u32 },
    /// The batch breaks a limit of the store (value, key or batch size); nothing was changed.
    #[error("the batch can't be stored: {0}")]
    Refused(String),
    /// Nothing was changed; the same call may be tried again.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// The outcome is unknown: the change may or may not be on disk. Only reading again tells, and where the engine
    /// itself has failed, only after it was opened again. From a read: the record can't be read or is damaged.
    #[error("the store failed, and the outcome of the last change is unknown: {0}")]
    Fatal(String),
}

/// A value stays at or below this many bytes: past it, sled would spill to blob files that it never syncs.
pub const MAX_VALUE_BYTES: usize = 7 * 1024;

/// A key stays at or below this many bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// The keys and values of one commit together stay below this many bytes.
pub const MAX_COMMIT_BYTES: usize = 1024 * 1024;

/// One commit changes at most this many keys: sled holds a copy of a leaf for each until the batch is applied.
pub const MAX_COMMIT_KEYS: usize = 1024;

/// A durable, ordered map per partition.
///
/// Every engine passes the contract suite in [`contract`]. A read sees each batch whole or not at all, and only what is
/// durable: it waits for a commit that is being synced. A commit whose future is dropped may still happen.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The value of `key`, if it has one.
    async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` pairs of `range`, in key order from the end that `direction` names.
    async fn scan(
        &self,
        partition: PartitionId,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;

    /// Applies the batches in order and makes them durable before `Ok`.
    ///
    /// All expectations are checked before anything is changed. Each batch is atomic by itself: after a crash
    /// a prefix of the batches may be there, never a part of one, and never a later one without an earlier one.
    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError>;
}
