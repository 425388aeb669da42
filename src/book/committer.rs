//! The committer: the one writer of the book.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::command::{Command, Refusal};
use super::journal::Record;
use super::metrics::ReasonLabel;
use super::parallel;
use super::partition::Verdict;
use super::pool::{Mode, Pool};
use super::records::{RejectedEvent, decode_rejected, decode_source};
use super::sealing::Sealer;
use super::stage::{Job, Staged, StagedGroup};
use super::{BookError, Shared, SourceState, lock, read, write};
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::time::UnixSeconds;
use crate::store::{Batch, Direction, Expectation, KeyRange, PartitionId, StoreError, keys};

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Events of the group that was committed.
    pub events: usize,
    /// Values of frozen periods that were sealed.
    pub sealed: usize,
    /// Values of checkpoints that were written, or of journals that were trimmed.
    pub checkpointed: usize,
    /// Periods that were sealed with weights that are not the integral of the eligible total: `Book::frozen` says
    /// [`BookError::EquationBroken`] of them, and goes on saying so.
    pub breaches: usize,
    /// The store was busy: the same is tried again with the next step.
    pub busy: bool,
    /// There is more to do at once.
    pub more: bool,
}

impl Work {
    /// Whether nothing was done and nothing waits.
    pub const fn is_idle(&self) -> bool {
        self.events == 0 && self.sealed == 0 && self.checkpointed == 0 && !self.busy && !self.more
    }
}

/// The one writer of the book. A step is a bounded piece of work; dropping its future loses nothing.
pub struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: mpsc::Receiver<Command>,
    pub(crate) queued: Arc<AtomicUsize>,
    pub(crate) backlog: VecDeque<Command>,
    pub(crate) staged: Option<Staged>,
    /// The group after that, formed while the store syncs.
    pub(crate) ahead: Option<Staged>,
    /// Rejections that are decided and not yet written down. A crash loses none: replaying decides them again.
    pub(crate) rejects: VecDeque<(SourceNumber, u64, RejectedEvent)>,
    pub(crate) failed: Option<String>,
    /// Seals what is frozen in each step, unless that is driven beside the committer.
    pub(crate) sealer: Option<Sealer>,
}

impl Committer {
    /// Takes what is queued, commits it as one group, applies it and answers; then seals a piece of a frozen period.
    ///
    /// An error means that the book has closed, or can't read its store.
    pub async fn step(&mut self, now: UnixSeconds) -> Result<Work, BookError> {
        self.drain();
        if self.failed.is_none() && self.shared.failed.load(Ordering::Acquire) {
            return Err(self.close("a frozen period could not be written".to_owned()));
        }
        if let Some(reason) = self.failed.clone() {
            self.refuse_all(&reason);
            return Err(BookError::Closed(reason));
        }
        if self.staged.is_none() {
            self.staged = self.ahead.take().or_else(|| self.stage(now));
        }
        let mut work = Work::default();
        if self.staged.is_some() {
            match self.commit_staged(now).await? {
                Some(events) => work.events = events,
                None => return Ok(Work { busy: true, more: true, ..work }),
            }
        }
        if let Some(sealer) = &mut self.sealer {
            match sealer.step().await {
                Ok(sealed) => work = Work { events: work.events, ..sealed },
                Err(error) => return Err(self.close(error.to_string())),
            }
        }
        work.more = self.has_work();
        Ok(work)
    }

    /// Leaves the sealing to the caller, who drives it beside the committer from now on: events don't wait for it then.
    pub fn split_sealer(&mut self) -> Sealer {
        self.sealer.take().unwrap_or_else(|| Sealer { shared: self.shared.clone() })
    }

    /// Waits until there is something for [`Self::step`] to do. Dropping the future loses nothing.
    pub async fn wait_for_command(&mut self) {
        if self.has_work() {
            return;
        }
        match self.queue.recv().await {
            Some(command) => self.backlog.push_back(command),
            // The book's own sender lives as long as any Book: nobody is left to ask anything.
            None => std::future::pending().await,
        }
    }

    /// Whether [`Self::step`] would do something at once.
    pub fn has_work(&self) -> bool {
        let sealing = || self.sealer.as_ref().is_some_and(Sealer::has_work);
        self.staged.is_some()
            || self.ahead.is_some()
            || !self.backlog.is_empty()
            || !self.queue.is_empty()
            || !self.rejects.is_empty()
            || !lock(&self.shared.found).is_empty()
            || sealing()
    }

    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        read(&self.shared.pools).values().cloned().collect()
    }

    /// Takes from the queue what one group may need.
    pub(crate) fn drain(&mut self) {
        let mut found = lock(&self.shared.found);
        lock(&self.shared.pending).extend(found.iter().map(waiting));
        self.rejects.extend(found.drain(..));
        drop(found);
        let mut events: usize = self.backlog.iter().map(Command::weight).sum();
        while events < self.shared.config.group_events {
            let Ok(command) = self.queue.try_recv() else { break };
            events += command.weight();
            self.backlog.push_back(command);
        }
        let queued = i64::try_from(self.queued.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.shared.config.metrics.queued_events.set(queued);
    }

    /// Gives back the room in the queue that a command took.
    pub(crate) fn release(&self, weight: usize) {
        self.queued.fetch_sub(weight, Ordering::Relaxed);
    }

    /// Commits what is staged. `None` where the store is busy: it stays staged.
    async fn commit_staged(&mut self, now: UnixSeconds) -> Result<Option<usize>, BookError> {
        let Some(staged) = &self.staged else { return Ok(Some(0)) };
        if !staged.batches.is_empty() {
            let (store, batches) = (self.shared.store.clone(), staged.batches.clone());
            let (committed, ()) = futures::join!(store.commit(batches), async { self.stage_ahead(now) });
            match committed {
                Ok(()) => {}
                Err(StoreError::Busy(_)) => {
                    self.shared.config.metrics.busy.inc();
                    return Ok(None);
                }
                #[cfg(feature = "seeded-bugs")]
                Err(StoreError::Fatal(_)) if crate::seeded::on(crate::seeded::Bug::AckBeforeFlush) => {}
                Err(error) => self.survive(error).await?,
            }
        }
        let Some(staged) = self.staged.take() else { return Ok(Some(0)) };
        let events = staged.events;
        let jobs = self.apply(staged);
        self.answer(jobs).await;
        Ok(Some(events))
    }

    /// A conflict may be our own commit, whose answer was lost with a dropped future; all else closes the book.
    async fn survive(&mut self, error: StoreError) -> Result<(), BookError> {
        if matches!(error, StoreError::Conflict { .. }) && self.is_committed().await {
            return Ok(());
        }
        Err(self.close(error.to_string()))
    }

    async fn is_committed(&self) -> bool {
        let Some(service) = self.staged.as_ref().and_then(|staged| staged.batches.last()) else { return false };
        for expectation in &service.expectations {
            let (Expectation::Absent { key } | Expectation::Equals { key, .. }) = expectation;
            let ours = service.puts.iter().find(|(put, _)| put == key).map(|(_, value)| value);
            let Ok(stored) = self.shared.store.get(PartitionId::SERVICE, key).await else { return false };
            if stored.as_ref() != ours {
                return false;
            }
        }
        !service.expectations.is_empty()
    }

    /// Commits what no command waits for. `false` where the store is busy.
    pub(crate) async fn commit_aside(&mut self, batches: Vec<Batch>) -> Result<bool, BookError> {
        match self.shared.store.commit(batches).await {
            Ok(()) => Ok(true),
            Err(StoreError::Busy(_)) => {
                self.shared.config.metrics.busy.inc();
                Ok(false)
            }
            Err(error) => Err(self.close(error.to_string())),
        }
    }

    /// Takes nothing more until the book is reopened, and tells everyone.
    fn close(&mut self, reason: String) -> BookError {
        self.shared.failed.store(true, Ordering::Release);
        self.shared.config.metrics.closed.set(1);
        self.failed = Some(reason.clone());
        for staged in [self.staged.take(), self.ahead.take()].into_iter().flatten() {
            staged.jobs.into_iter().for_each(|job| job.refuse(Refusal::Storage(reason.clone())));
        }
        self.refuse_all(&reason);
        BookError::Closed(reason)
    }

    fn refuse_all(&mut self, reason: &str) {
        self.drain();
        while let Some(command) = self.backlog.pop_front() {
            self.release(command.weight());
            command.refuse(Refusal::Storage(reason.to_owned()));
            self.drain();
        }
    }

    /// Applies what is durable now. Returns those who wait.
    fn apply(&mut self, staged: Staged) -> Vec<Job> {
        let Staged { now, groups, mut jobs, sources, heads, rejects, events, journal_bytes, .. } = staged;
        let metrics = self.shared.config.metrics.clone();
        self.rejects.drain(..rejects.min(self.rejects.len()));
        let _gates: Vec<_> = heads.iter().map(|(pool, _)| write(&pool.gate)).collect();
        // A freeze walks over every row, which no feed should wait for longer than it has to.
        let freezes = groups.iter().any(|group| matches!(group.records.as_slice(), [Record::Freeze { .. }]));
        let least = if freezes { 1 } else { groups.len().max(1) };
        let applied = parallel::in_order(&groups, least, |run| {
            let one = |group: &StagedGroup| {
                group.pool.apply(group.partition, group.head.group, now, &group.records, &group.slots, Mode::LIVE)
            };
            run.iter().map(one).collect::<Vec<_>>()
        });
        for (group, verdicts) in groups.into_iter().zip(applied.into_iter().flatten()) {
            let StagedGroup { pool, partition, head, bytes, records, jobs: owners, .. } = group;
            if let Some(slot) = lock(&pool.heads).list.get_mut(partition) {
                *slot = head;
            }
            pool.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
            for ((record, verdict), owner) in records.iter().zip(verdicts).zip(owners) {
                match (jobs.get_mut(owner), verdict) {
                    (Some(Job::Events { outcome, .. }), Verdict::Accepted { clamped, late }) => {
                        outcome.clamped += u64::from(clamped);
                        outcome.late += u64::from(late);
                    }
                    (Some(Job::Events { outcome, .. }), Verdict::Rejected(reason)) => {
                        if let Some((source, sequence, event)) = rejection(pool.spec.number, record, reason, now) {
                            outcome.rejected.push((sequence, reason));
                            self.rejects.push_back((source, sequence, event));
                        }
                    }
                    (Some(Job::Snapshot { outcome, .. }), verdict) => outcome.add(pool.spec.number, record, verdict),
                    (Some(Job::Events { .. } | Job::Period { .. }) | None, _) => {}
                }
            }
        }
        for (pool, value) in &heads {
            lock(&pool.heads).stored = Some(value.clone());
            pool.settle();
            if let Some(freeze) = lock(&pool.freeze).as_mut() {
                freeze.complete();
                self.shared.frozen.notify_one();
            }
            metrics.show(pool.spec.number, &read(&pool.meta));
        }
        let mut pending = lock(&self.shared.pending);
        if !self.rejects.is_empty() || !pending.is_empty() {
            *pending = self.rejects.iter().map(waiting).collect();
        }
        let mut known = lock(&self.shared.sources);
        let mut published = write(&self.shared.published);
        for (number, value) in sources {
            let Some(source) = known.get_mut(&number) else { continue };
            // As it was committed: the cursor itself may be past that by the group that was formed meanwhile.
            if let Some((durable_sequence, watermark)) = decode_source(&value) {
                published.insert(number, SourceState { durable_sequence, watermark });
            }
            source.stored = Some(value);
        }
        if events > 0 {
            metrics.groups.inc();
            metrics.group_events.observe(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
            metrics.events.inc_by(events as u64);
        }
        metrics.journal_bytes.inc_by(journal_bytes);
        jobs
    }

    async fn answer(&self, jobs: Vec<Job>) {
        let metrics = &self.shared.config.metrics;
        for job in jobs {
            match job {
                Job::Period { answer, outcome } => drop(answer.send(Ok(outcome))),
                Job::Snapshot { answer, outcome } => {
                    metrics.clamped.inc_by(outcome.clamped);
                    metrics.late.inc_by(outcome.late);
                    drop(answer.send(Ok(outcome)));
                }
                Job::Events { source, first, known, mut outcome, answer } => {
                    for (_, reason) in &outcome.rejected {
                        metrics.rejected.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
                    }
                    metrics.clamped.inc_by(outcome.clamped);
                    metrics.late.inc_by(outcome.late);
                    metrics.repeated.inc_by(outcome.repeated + outcome.already_applied);
                    let answered = match self.rejected_before(source, first, known).await {
                        Ok(mut rejected) => {
                            outcome.rejected.append(&mut rejected);
                            outcome.rejected.sort_unstable_by_key(|(sequence, _)| *sequence);
                            outcome.rejected.dedup();
                            Ok(outcome)
                        }
                        Err(error) => Err(Refusal::Storage(error.to_string())),
                    };
                    // Whoever asked may have gone; it is done all the same.
                    drop(answer.send(answered));
                }
            }
        }
    }

    /// What was rejected of a repeat, the first time.
    async fn rejected_before(
        &self,
        source: SourceNumber,
        first: u64,
        known: u64,
    ) -> Result<Vec<(u64, RejectReason)>, StoreError> {
        if known == 0 {
            return Ok(Vec::new());
        }
        let range = first..first.saturating_add(known);
        let from = keys::rejected_event(source.0, range.start, 0);
        let to = keys::rejected_event(source.0, range.end, 0);
        let range_of_keys = KeyRange { from, to };
        let scan = self.shared.store.scan(PartitionId::SERVICE, range_of_keys, usize::MAX, Direction::Forward);
        let stored = scan.await?.into_iter().filter_map(|(key, value)| {
            let (_, sequence, _) = keys::parse_rejected_event(&key)?;
            Some((sequence, decode_rejected(&value)?.reason))
        });
        let waiting = self.rejects.iter().filter(|(of, sequence, _)| *of == source && range.contains(sequence));
        Ok(stored.chain(waiting.map(|(_, sequence, event)| (*sequence, event.reason))).collect())
    }
}

/// What is known of a rejection until it is written down.
fn waiting(rejected: &(SourceNumber, u64, RejectedEvent)) -> ((SourceNumber, u64, u16), RejectReason) {
    let (source, sequence, event) = rejected;
    ((*source, *sequence, event.pool_number()), event.reason)
}

/// What is kept of a rejected event.
pub(crate) fn rejection(
    pool: u16,
    record: &Record,
    reason: RejectReason,
    now: UnixSeconds,
) -> Option<(SourceNumber, u64, RejectedEvent)> {
    let (account, source, sequence, at, balance) = match record {
        Record::Balance { account, source, sequence, at, balance, .. } => {
            (account, *source, *sequence, *at, Some(*balance))
        }
        Record::Standing { account, sequence, at, .. } => (account, SourceNumber::ENROLMENT, *sequence, *at, None),
        Record::Correction { account, sequence, correction, .. } => {
            (account, SourceNumber::CORRECTION, *sequence, correction.at, Some(correction.balance))
        }
        // What can't be applied of a snapshot is not journalled; who sent it is told.
        Record::SnapshotBalance { .. } | Record::HandOver { .. } | Record::Open(_) | Record::Freeze { .. } => {
            return None;
        }
    };
    let (account, asset) = (account.as_str().to_owned(), String::new());
    let event = RejectedEvent { reason, pool: Some(pool), asset, account, balance, at, rejected_at: now };
    Some((source, sequence, event))
}
