//! The position book: every position in memory, durable by a journal.
//!
//! One [`Committer`] for the process takes commands from a bounded queue, forms a group of them, journals the group in
//! the partitions that it touches and the cursors of its sources in one commit, applies it to memory and answers. What
//! an event does is decided when it is applied, from what was journalled alone, so that replaying decides the same. A
//! [`Book`] is the readers' side: cheap to clone, and never waiting on the store but where it says so.
//!
//! A commit's last batch moves the *heads*: how far each partition's journal is acknowledged. What a crash left beyond
//! them was never acknowledged, and is removed at the next open; what is missing before them is a broken journal, and is
//! refused by name.

mod archive;
#[cfg(feature = "bench")]
pub mod bench;
mod bytes;
mod checkpoint;
pub mod column;
mod command;
mod committer;
mod compare;
mod finish;
mod frozen;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hash;
mod history;
mod journal;
pub mod metrics;
mod pages;
pub mod parallel;
mod partition;
mod pool;
mod query;
mod records;
mod recover;
mod replay;
mod sealing;
mod sender;
mod single;
mod stage;
mod trim;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use command::{
    Enrolment, EnrolmentChange, EventBatch, EventPool, EventsOutcome, FeedEvent, HandOver, MAX_BATCH_EVENTS,
    MAX_BATCH_UNKNOWN, Overloaded, PeriodOutcome, PositionCorrection, Receipt, Refusal,
};
pub use committer::{Committer, Work};
pub use compare::{AccountTwice, SnapshotBalances, SnapshotBatch, SnapshotOutcome};
pub use frozen::FrozenPeriod;
pub use history::PositionHistory;
pub use journal::{Group as JournalGroup, Record as JournalRecord};
pub use query::{Audit, OpenPeriodTotals, PoolTotals, PositionView, SourceState};
pub use records::RejectedEvent;
pub use sealing::Sealer;
pub use sender::{BookSender, Room};

use crate::domain::feed::{RejectReason, SourceCursor, SourceNumber};
use crate::domain::ids::AssetId;
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::store::{Store, StoreError};
use metrics::BookMetrics;
use pool::Pool;

/// The most partitions that a pool's book may have.
pub const MAX_PARTITIONS: u16 = 64;

/// The most sources, the enrolment log included: a freeze holds a cursor of each.
pub const MAX_SOURCES: usize = 512;

/// One pool, as the book has to know it. None of this ever changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The pool's number, from 1.
    pub number: u16,
    /// Into how many partitions its positions are cut, 1 to [`MAX_PARTITIONS`]; changes no result.
    pub partitions: u16,
    /// When its first period starts.
    pub first_start: UnixSeconds,
}

/// How much the book takes on at a time.
#[derive(Clone, Debug)]
pub struct BookConfig {
    /// How many commands may wait.
    pub queue_commands: usize,
    /// How many events may wait, over all commands.
    pub queue_events: usize,
    /// How many events one group takes.
    pub group_events: usize,
    /// A checkpoint begins when a pool's journal has grown by this many bytes since the last one, and by a quarter of what its
    /// pages take.
    pub checkpoint_journal_bytes: u64,
    /// Whether what was trimmed from journals is kept for ever.
    pub archive_for_ever: bool,
    /// How long it is kept at least, in seconds; never shorter than the longest lateness and two periods of the pool.
    pub archive_seconds: u64,
    /// Where the book counts.
    pub metrics: BookMetrics,
}

impl Default for BookConfig {
    fn default() -> Self {
        Self {
            queue_commands: 4_096,
            queue_events: 65_536,
            group_events: 8_192,
            checkpoint_journal_bytes: 64 << 20,
            archive_for_ever: false,
            archive_seconds: 0,
            metrics: BookMetrics::default(),
        }
    }
}

/// Why the book can't go on, or can't answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A commit's outcome is unknown, or another process writes: nothing more is taken until the book is reopened.
    #[error("the book takes nothing more until it is reopened: {0}")]
    Closed(String),
    /// A journal does not read as it was written.
    #[error(
        "the journal of partition {partition} is broken at group {group}: it is not what was acknowledged; restore the \
         store from a backup (`softstake restore`)"
    )]
    JournalBroken {
        /// The partition.
        partition: u32,
        /// The group.
        group: u64,
    },
    /// Groups were asked for that are no longer archived.
    #[error("partition {partition} is archived from group {oldest} on")]
    NotKept {
        /// The partition.
        partition: u32,
        /// The oldest group that is kept.
        oldest: u64,
    },
    /// A position has more records than are replayed.
    #[error("the position has more than {limit} records, more than are replayed at once")]
    HistoryTooLong {
        /// How many are.
        limit: usize,
    },
    /// A stored record of the book is damaged.
    #[error("{what} of partition {partition} is damaged; restore the store from a backup (`softstake restore`)")]
    Damaged {
        /// What.
        what: &'static str,
        /// Whose.
        partition: u32,
    },
    /// A pool was opened otherwise than it was made.
    #[error("pool number {pool}: {reason}")]
    Spec {
        /// The pool's number.
        pool: u16,
        /// What is wrong.
        reason: &'static str,
    },
    /// The sum of a frozen period's weights is not the integral of the eligible total with the adjustments.
    #[error("pool number {pool}, period {period}: the weights come to {weights} and the eligible total to {integral}")]
    EquationBroken {
        /// The pool's number.
        pool: u16,
        /// The period.
        period: PeriodIndex,
        /// The sum of the weights.
        weights: String,
        /// The integral, and the adjustments where there were any.
        integral: String,
    },
}

/// What readers and the committer share.
pub(crate) struct Shared {
    store: Arc<dyn Store>,
    config: BookConfig,
    pools: RwLock<BTreeMap<u16, Arc<Pool>>>,
    /// What pools stake, as far as that was told.
    assets: RwLock<BTreeMap<u16, AssetId>>,
    sources: Mutex<BTreeMap<SourceNumber, Source>>,
    published: RwLock<BTreeMap<SourceNumber, SourceState>>,
    /// Rejections that replaying found again, on their way to the committer.
    found: Mutex<Vec<(SourceNumber, u64, RejectedEvent)>>,
    /// The rejections that the committer has yet to write down.
    pending: Mutex<BTreeMap<(SourceNumber, u64, u16), RejectReason>>,
    failed: AtomicBool,
    /// Told when there is a frozen period to seal.
    frozen: tokio::sync::Notify,
}

/// A source as the committer knows it.
#[derive(Debug, Default)]
pub(crate) struct Source {
    cursor: SourceCursor,
    /// The record of the cursor as it is stored.
    stored: Option<Vec<u8>>,
}

/// The readers' side of the book.
#[derive(Clone)]
pub struct Book {
    shared: Arc<Shared>,
    sender: BookSender,
}

// A lock is poisoned by a panic of another thread. What it guards is changed in steps that each leave it sound, and a
// committer that panicked never acknowledges: so the others read on.

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
