//! The disk of the simulated service: the model store, which fails and dies when it is told to.
//!
//! What counts as a commit of the story is the same for any number of partitions: pages, seals and payouts are written in
//! as many commits as there are partitions, so a crash among those is aimed at the first of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::store::keys::tag;
use crate::store::model::{Crash, Fault, ModelStore};
use crate::store::{Batch, Direction, KeyRange, PartitionId, Store, StoreError};

/// What a commit that breaks off leaves on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// Nothing.
    Before,
    /// Some of its batches, the last one not among them.
    Torn,
    /// All of it, the last batch not synced.
    WrittenNotSynced,
    /// All of it, and only the answer is missing.
    SyncedNotAcknowledged,
}

impl Image {
    pub(super) const ALL: [Self; 4] = [Self::Before, Self::Torn, Self::WrittenNotSynced, Self::SyncedNotAcknowledged];

    /// How many of `batches` are written, and how many of those are synced.
    fn split(self, batches: usize, draw: u64) -> (usize, usize) {
        let upto = |most: usize| usize::try_from(draw % (most as u64 + 1)).unwrap_or(0);
        match self {
            Self::Before => (0, 0),
            Self::Torn => {
                let written = batches.saturating_sub(1);
                (written, upto(written))
            }
            Self::WrittenNotSynced => (batches, upto(batches.saturating_sub(1))),
            Self::SyncedNotAcknowledged => (batches, batches),
        }
    }
}

/// Which commits are counted towards a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Those of the story.
    Story,
    /// The others: seals, payouts, pages, archives.
    Inner,
}

/// A failure that is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doom {
    /// Which commits count.
    pub(super) aim: Aim,
    /// How many of those go well before it.
    pub(super) after: u64,
    /// What it leaves.
    pub(super) image: Image,
    /// Chance for what is left open.
    pub(super) draw: u64,
    /// Whether the process dies with it; else it hears of the failure and has to be restarted.
    pub(super) kill: bool,
}

#[derive(Debug, Default)]
struct Plan {
    doom: Option<Doom>,
    /// A commit of the story that finds the store busy, after so many others; how often.
    busy: Option<(u64, u32)>,
    struck: Option<(Doom, usize)>,
    busied: u64,
    /// Nothing fails, and nothing counts.
    held: bool,
}

impl Plan {
    fn decide(&mut self, batches: &[Batch]) -> Option<Fault> {
        if self.held {
            return None;
        }
        let story = is_story(batches);
        if story && let Some((after, times)) = &mut self.busy {
            if *after > 0 {
                *after -= 1;
            } else {
                *times = times.saturating_sub(1);
                if *times == 0 {
                    self.busy = None;
                }
                self.busied += 1;
                return Some(Fault::Busy);
            }
        }
        let doom = self.doom.as_mut()?;
        let counts = match doom.aim {
            Aim::Story => story,
            Aim::Inner => !story,
        };
        if !counts {
            return None;
        }
        if doom.after > 0 {
            doom.after -= 1;
            return None;
        }
        let doom = self.doom.take()?;
        self.struck = Some((doom, batches.len()));
        let (written, synced) = doom.image.split(batches.len(), doom.draw);
        Some(Fault::Fatal { written, synced })
    }
}

/// Whether a commit is one of the story: a change of a pool's ledger, or of the service's records.
fn is_story(batches: &[Batch]) -> bool {
    let touches = |batch: &Batch, wanted: fn(u8) -> bool| {
        let keys = batch.puts.iter().map(|(key, _)| key).chain(&batch.deletes);
        keys.into_iter().any(|key| key.first().is_some_and(|tag| wanted(*tag)))
    };
    batches.iter().any(|batch| {
        if batch.partition == PartitionId::SERVICE {
            touches(batch, |key| key != tag::REJECTED_EVENT && key != tag::BODY_HASHES)
        } else {
            batch.partition.book_index().is_none() && touches(batch, |key| key == tag::LEDGER)
        }
    })
}

/// A store that dies when it is told to.
pub(super) struct Disk {
    store: ModelStore,
    plan: Arc<Mutex<Plan>>,
    dead: AtomicBool,
    died: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    pub(super) fn new(store: ModelStore) -> Arc<Self> {
        let plan = Arc::new(Mutex::new(Plan::default()));
        let deciding = plan.clone();
        store.set_faults(move |_, batches| lock(&deciding).decide(batches));
        Arc::new(Self { store, plan, dead: AtomicBool::new(false), died: Notify::new() })
    }

    /// What the next process finds.
    pub(super) fn after(&self, crash: Crash) -> Arc<Self> {
        Self::new(self.store.after(crash))
    }

    /// Plans a failure.
    pub(super) fn doom(&self, doom: Doom) {
        lock(&self.plan).doom = Some(doom);
    }

    /// Makes a commit find the store busy.
    pub(super) fn be_busy(&self, after: u64, times: u32) {
        lock(&self.plan).busy = Some((after, times));
    }

    /// Holds back what is planned, or lets it come: for work whose commits are not the same for every partitioning.
    pub(super) fn hold(&self, held: bool) {
        lock(&self.plan).held = held;
    }

    /// Takes back whatever is planned.
    pub(super) fn calm(&self) {
        let mut plan = lock(&self.plan);
        (plan.doom, plan.busy) = (None, None);
    }

    /// Whether no failure is planned.
    pub(super) fn is_well(&self) -> bool {
        let plan = lock(&self.plan);
        plan.doom.is_none() && plan.busy.is_none() && !self.store.has_failed()
    }

    /// The failure that struck, with the number of batches of its commit.
    pub(super) fn struck(&self) -> Option<(Doom, usize)> {
        lock(&self.plan).struck
    }

    /// How often the store was busy since this was asked last.
    pub(super) fn busied(&self) -> u64 {
        std::mem::take(&mut lock(&self.plan).busied)
    }

    /// Whether the store failed: whoever has it open must be restarted.
    pub(super) fn has_failed(&self) -> bool {
        self.store.has_failed()
    }

    /// Waits until a failure has killed the process.
    pub(super) async fn death(&self) {
        while !self.dead.load(Ordering::Relaxed) {
            self.died.notified().await;
        }
    }
}

#[async_trait]
impl Store for Disk {
    async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(partition, key).await
    }

    async fn scan(
        &self,
        partition: PartitionId,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.store.scan(partition, range, limit, direction).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        let done = self.store.commit(batches).await;
        let killed = self.store.has_failed() && self.struck().is_some_and(|(doom, _)| doom.kill);
        if killed {
            // A dead process neither goes on nor hears an answer.
            self.dead.store(true, Ordering::Relaxed);
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        done
    }
}
