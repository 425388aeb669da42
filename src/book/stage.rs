//! Forming a group: deciding on commands by their sequences. `finish` turns it into one commit.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::{
    Answer, Command, EventPool, EventsOutcome, MAX_BATCH_UNKNOWN, PeriodOutcome, Prepared, Refusal,
    bodies_as_first_sent,
};
use super::committer::Committer;
use super::journal::Record;
use super::partition::AccountHash;
use super::pool::Pool;
use super::records::{Head, RejectedEvent};
use super::{Enrolment, SnapshotOutcome, lock, read};
use crate::domain::amount::BaseUnits;
use crate::domain::calendar::Calendar;
use crate::domain::feed::{Admission, MAX_POOL_TOTAL, RejectReason, SequenceError, SourceNumber};
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::store::Batch;

/// The bytes that the events of one group take at most; with all else a commit stays below the store's limit.
const GROUP_BYTES: usize = 720 * 1024;

/// A group that is ready to be committed, with those who wait for it.
pub(crate) struct Staged {
    pub(crate) now: UnixSeconds,
    pub(crate) groups: Vec<StagedGroup>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) jobs: Vec<Job>,
    /// The sources whose cursor moves, with their new record.
    pub(crate) sources: Vec<(SourceNumber, Vec<u8>)>,
    /// The pools whose heads move, with their new record.
    pub(crate) heads: Vec<(Arc<Pool>, Vec<u8>)>,
    /// How many of the waiting rejections it writes down.
    pub(crate) rejects: usize,
    pub(crate) events: usize,
    pub(crate) journal_bytes: u64,
    /// The balances that it brings to each pool.
    pub(super) brought: BTreeMap<u16, u128>,
    /// Whether what comes after it can be decided before it is applied: it brings events alone.
    pub(super) followed: bool,
}

/// What a group brings to one partition.
pub(crate) struct StagedGroup {
    pub(crate) pool: Arc<Pool>,
    pub(crate) partition: usize,
    pub(crate) head: Head,
    pub(crate) bytes: u64,
    pub(crate) records: Vec<Record>,
    /// Where each record's account stands in the index.
    pub(crate) slots: Vec<u64>,
    /// Which job each record belongs to.
    pub(crate) jobs: Vec<usize>,
}

/// Someone who waits for a group.
pub(crate) enum Job {
    Events { source: SourceNumber, first: u64, known: u64, outcome: EventsOutcome, answer: Answer<EventsOutcome> },
    Snapshot { answer: Answer<SnapshotOutcome>, outcome: SnapshotOutcome },
    Period { answer: Answer<PeriodOutcome>, outcome: PeriodOutcome },
}

impl Job {
    pub(crate) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Events { answer, .. } => drop(answer.send(Err(refusal))),
            Self::Snapshot { answer, .. } => drop(answer.send(Err(refusal))),
            Self::Period { answer, .. } => drop(answer.send(Err(refusal))),
        }
    }
}

/// A group while it is formed.
#[derive(Default)]
pub(crate) struct Forming {
    pub(super) parts: BTreeMap<(u16, usize), Part>,
    pub(super) jobs: Vec<Job>,
    pub(super) sources: BTreeSet<SourceNumber>,
    /// The first new sequence of each source that brings events.
    pub(super) fresh: BTreeMap<SourceNumber, u64>,
    pub(super) unknown: Vec<(SourceNumber, u64, RejectedEvent)>,
    /// The balances that the group brings to each pool.
    pub(super) brought: BTreeMap<u16, u128>,
    /// Those that the group before brings, while it is not applied.
    pub(super) brought_before: BTreeMap<u16, u128>,
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// Whether it brings more than events.
    pub(super) alone: bool,
}

/// What a group brings to one partition, while it is formed.
#[derive(Default)]
pub(super) struct Part {
    pub(super) records: Vec<Record>,
    pub(super) slots: Vec<u64>,
    pub(super) jobs: Vec<usize>,
}

/// What has to be known of a pool while a batch is taken; nothing of it changes meanwhile.
pub(super) struct Gate {
    calendar: Calendar,
    limit: BaseUnits,
    eligible: u128,
    pub(super) partitions: usize,
}

impl Gate {
    fn of(pool: &Pool) -> Result<Self, Refusal> {
        let meta = read(&pool.meta);
        let calendar = meta.calendar.clone().ok_or(Refusal::PeriodNotOpen { pool: pool.spec.number })?;
        let eligible = u128::try_from(meta.eligible).unwrap_or(0);
        Ok(Self { limit: calendar.balance_limit(), calendar, eligible, partitions: pool.partitions.len() })
    }

    /// Whether a period is open for `at`. What lies too far in the future is taken, to be rejected.
    fn takes(&self, at: UnixSeconds, now: UnixSeconds) -> bool {
        let future = at > now.plus(i64::from(self.calendar.oldest.limits.max_future_seconds));
        at < self.calendar.open_until() || future
    }
}

impl From<SequenceError> for Refusal {
    fn from(error: SequenceError) -> Self {
        match error {
            SequenceError::Gap { expected } => Self::Gap { expected },
            SequenceError::BodyMismatch { sequence } => Self::BodyMismatch { sequence },
        }
    }
}

impl Committer {
    /// Forms the next group from what is queued; `None` where there is nothing to commit.
    pub(crate) fn stage(&mut self, now: UnixSeconds) -> Option<Staged> {
        let forming = self.form(now, Forming::default(), false);
        let idle = forming.jobs.is_empty() && self.rejects.is_empty();
        (!idle).then(|| self.finish(now, forming, None))
    }

    /// Forms the group after the one that is being committed, of events alone: what else there is, is decided on what is
    /// applied. Nothing of it is committed before that one is.
    pub(crate) fn stage_ahead(&mut self, now: UnixSeconds) {
        let Some(staged) = self.staged.take() else { return };
        if staged.followed && self.ahead.is_none() {
            self.drain();
            let fresh = Forming { brought_before: staged.brought.clone(), ..Forming::default() };
            let forming = self.form(now, fresh, true);
            self.ahead = (!forming.jobs.is_empty()).then(|| self.finish(now, forming, Some(&staged)));
        }
        self.staged = Some(staged);
    }

    /// Takes into a group what fits it of what is queued.
    fn form(&mut self, now: UnixSeconds, mut forming: Forming, ahead: bool) -> Forming {
        while let Some(command) = self.backlog.front() {
            let (weight, bytes) = (command.weight(), command.bytes());
            let alone = !matches!(command, Command::Events { .. } | Command::Enrolment { .. });
            let room = forming.events + weight <= self.shared.config.group_events
                && forming.bytes + bytes <= GROUP_BYTES
                && forming.unknown.len() + command.unknown() <= MAX_BATCH_UNKNOWN;
            if (ahead && alone) || (!forming.jobs.is_empty() && (alone || !room)) {
                break;
            }
            let Some(command) = self.backlog.pop_front() else { break };
            self.release(weight);
            forming.bytes += bytes;
            let refused = match command {
                Command::Events { source, first_sequence, events, watermark, answer } => {
                    let taken = self.take_events(&mut forming, now, source, first_sequence, events, watermark);
                    match taken {
                        Ok((known, outcome)) => {
                            forming.jobs.push(Job::Events { source, first: first_sequence, known, outcome, answer });
                            false
                        }
                        Err(refusal) => refuse(answer, refusal),
                    }
                }
                Command::Snapshot { batch, answer } => self.take_snapshot(&mut forming, now, batch, answer),
                Command::Enrolment { enrolment, body, answer } => {
                    let first = enrolment.sequence;
                    match self.take_enrolment(&mut forming, now, enrolment, body) {
                        Ok((known, outcome)) => {
                            let source = SourceNumber::ENROLMENT;
                            forming.jobs.push(Job::Events { source, first, known, outcome, answer });
                            false
                        }
                        Err(refusal) => refuse(answer, refusal),
                    }
                }
                Command::Open { pool, period, answer } => {
                    let decided = self.decide_open(pool, period);
                    self.take_period(&mut forming, pool, Record::Open(period), decided, answer)
                }
                Command::Freeze { pool, index, answer } => {
                    let decided = self.decide_freeze(pool, index);
                    let cursors = lock(&self.shared.sources).iter().map(|(n, s)| (*n, s.cursor.last())).collect();
                    self.take_period(&mut forming, pool, Record::Freeze { index, cursors }, decided, answer)
                }
                Command::HandOver { hand_over, answer } => self.take_hand_over(&mut forming, hand_over, answer),
                Command::Correct { correction, body, answer } => {
                    self.take_correction(&mut forming, correction, body, answer)
                }
            };
            if refused {
                self.shared.config.metrics.refused.inc();
            }
            if alone && !forming.jobs.is_empty() {
                forming.alone = true;
                break;
            }
        }
        forming
    }

    fn take_events(
        &self,
        forming: &mut Forming,
        now: UnixSeconds,
        source: SourceNumber,
        first: u64,
        events: Vec<Prepared>,
        watermark: Option<UnixSeconds>,
    ) -> Result<(u64, EventsOutcome), Refusal> {
        let mut sources = lock(&self.shared.sources);
        let unknown = Refusal::UnknownSource { number: source };
        let known_source = sources.get_mut(&source).filter(|_| source != SourceNumber::ENROLMENT).ok_or(unknown)?;
        let cursor = &mut known_source.cursor;
        let bodies: Vec<u64> = events.iter().map(|event| event.body).collect();
        #[cfg(feature = "seeded-bugs")]
        let first = if crate::seeded::on(crate::seeded::Bug::GapTaken) { first.min(cursor.last() + 1) } else { first };
        let as_sent = || bodies_as_first_sent(first, &events, cursor, &read(&self.shared.assets));
        let admission = cursor.admit(first, &bodies).or_else(|_| cursor.admit(first, &as_sent()))?;
        let known = admission.known();
        let skip = usize::try_from(known).unwrap_or(usize::MAX);
        let of_pool = |event: &Prepared| match event.event.pool {
            EventPool::Pool(number) => Some((number, event.event.at)),
            EventPool::UnknownAsset(_) => None,
        };
        let gates = self.gates(events.iter().skip(skip).filter_map(of_pool), now)?;
        let job = forming.jobs.len();
        let mut outcome = outcome_of(admission);
        for Prepared { event, body, account: hash } in events.into_iter().skip(skip) {
            cursor.take(body);
            let sequence = cursor.last();
            forming.note(source, sequence);
            let number = match event.pool {
                EventPool::Pool(number) => number,
                EventPool::UnknownAsset(asset) => {
                    let reason = RejectReason::UnknownAsset;
                    outcome.rejected.push((sequence, reason));
                    let rejected = RejectedEvent {
                        reason,
                        pool: None,
                        asset: asset.chars().take(64).collect(),
                        account: event.account.as_str().to_owned(),
                        balance: Some(event.balance),
                        at: event.at,
                        rejected_at: now,
                    };
                    forming.unknown.push((source, sequence, rejected));
                    continue;
                }
            };
            let Some(gate) = gates.get(&number) else { continue };
            let pool_full = forming.is_full(number, gate, event.balance);
            let (account, at, balance) = (event.account, event.at, event.balance);
            let record = Record::Balance { account, source, sequence, at, balance, pool_full };
            forming.add(number, hash.partition(gate.partitions), job, hash.slot, record);
        }
        if let Some(watermark) = watermark.filter(|w| cursor.watermark() < Some(*w)) {
            cursor.vouch(watermark);
            forming.sources.insert(source);
        }
        outcome.durable_sequence = cursor.last();
        Ok((known, outcome))
    }

    fn take_enrolment(
        &self,
        forming: &mut Forming,
        now: UnixSeconds,
        enrolment: Enrolment,
        body: u64,
    ) -> Result<(u64, EventsOutcome), Refusal> {
        let mut sources = lock(&self.shared.sources);
        let cursor = &mut sources.entry(SourceNumber::ENROLMENT).or_default().cursor;
        let admission = cursor.admit(enrolment.sequence, &[body])?;
        let mut outcome = outcome_of(admission);
        outcome.durable_sequence = cursor.last();
        if admission.known() > 0 {
            return Ok((admission.known(), outcome));
        }
        let gates = self.gates(enrolment.changes.iter().map(|change| (change.pool, change.at)), now)?;
        cursor.take(body);
        let sequence = cursor.last();
        forming.note(SourceNumber::ENROLMENT, sequence);
        let job = forming.jobs.len();
        for change in enrolment.changes {
            let Some(gate) = gates.get(&change.pool) else { continue };
            let hash = AccountHash::of(change.account.as_str().as_bytes());
            let (account, at, standing) = (change.account, change.at, change.change);
            let record = Record::Standing { account, sequence, at, change: standing };
            forming.add(change.pool, hash.partition(gate.partitions), job, hash.slot, record);
        }
        outcome.durable_sequence = sequence;
        Ok((0, outcome))
    }

    /// The pools that events go to, once each of them may go there.
    pub(super) fn gates(
        &self,
        events: impl Iterator<Item = (u16, UnixSeconds)>,
        now: UnixSeconds,
    ) -> Result<BTreeMap<u16, Gate>, Refusal> {
        let pools = read(&self.shared.pools);
        let mut gates: BTreeMap<u16, Gate> = BTreeMap::new();
        for (pool, at) in events {
            if let Entry::Vacant(gate) = gates.entry(pool) {
                gate.insert(Gate::of(pools.get(&pool).ok_or(Refusal::UnknownPool { pool })?)?);
            }
            if !gates.get(&pool).is_some_and(|gate| gate.takes(at, now)) {
                return Err(Refusal::PeriodNotOpen { pool });
            }
        }
        Ok(gates)
    }

    fn decide_open(&self, pool: u16, period: OpenPeriod) -> Result<PeriodOutcome, Refusal> {
        let pools = read(&self.shared.pools);
        let pool = pools.get(&pool).ok_or(Refusal::UnknownPool { pool })?;
        let Some(calendar) = read(&pool.meta).calendar.clone() else {
            if period.bounds.start != pool.spec.first_start {
                return Err(Refusal::Period("the first period starts when the pool does"));
            }
            return Ok(PeriodOutcome::Done);
        };
        if period.index < calendar.oldest.index || period == calendar.oldest || calendar.next == Some(period) {
            return Ok(PeriodOutcome::AlreadyDone);
        }
        if calendar.next.is_some() {
            return Err(Refusal::Period("two periods are unfrozen already"));
        }
        if period.index != calendar.oldest.index.next() || period.bounds.start != calendar.oldest.bounds.end {
            return Err(Refusal::Period("a period follows the one before it without a gap, in number and in time"));
        }
        Ok(PeriodOutcome::Done)
    }

    fn decide_freeze(&self, pool: u16, index: PeriodIndex) -> Result<PeriodOutcome, Refusal> {
        let pools = read(&self.shared.pools);
        let pool = pools.get(&pool).ok_or(Refusal::UnknownPool { pool })?;
        let calendar = read(&pool.meta).calendar.clone().ok_or(Refusal::Period("no period is open"))?;
        if index < calendar.oldest.index {
            return Ok(PeriodOutcome::AlreadyDone);
        }
        if index > calendar.oldest.index {
            return Err(Refusal::Period("only the oldest unfrozen period can be frozen"));
        }
        if calendar.next.is_none() {
            return Err(Refusal::Period("the next period must be open before this one is frozen"));
        }
        if lock(&pool.freeze).is_some() {
            return Err(Refusal::Period("the period frozen before is not sealed yet"));
        }
        Ok(PeriodOutcome::Done)
    }

    /// Puts a period command into the group, in every partition of its pool. Says whether it was refused.
    fn take_period(
        &self,
        forming: &mut Forming,
        pool: u16,
        record: Record,
        decided: Result<PeriodOutcome, Refusal>,
        answer: Answer<PeriodOutcome>,
    ) -> bool {
        let outcome = match decided {
            Ok(outcome) => outcome,
            Err(refusal) => return refuse(answer, refusal),
        };
        if outcome == PeriodOutcome::Done {
            let partitions = read(&self.shared.pools).get(&pool).map_or(0, |pool| pool.partitions.len());
            let job = forming.jobs.len();
            (0..partitions).for_each(|partition| forming.add(pool, partition, job, 0, record.clone()));
        }
        forming.jobs.push(Job::Period { answer, outcome });
        false
    }
}

impl Forming {
    pub(super) fn note(&mut self, source: SourceNumber, sequence: u64) {
        self.sources.insert(source);
        self.fresh.entry(source).or_insert(sequence);
        self.events += 1;
    }

    /// The job that comes next.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Lets someone wait for the group.
    pub(super) fn wait(&mut self, job: Job) {
        self.jobs.push(job);
    }

    /// Whether a balance is too much for what the pool may hold together; else it is counted as brought. What is too large
    /// for a position is rejected as that.
    pub(super) fn is_full(&mut self, pool: u16, gate: &Gate, balance: BaseUnits) -> bool {
        let before = self.brought_before.get(&pool).copied().unwrap_or(0);
        let brought = self.brought.entry(pool).or_default();
        let after = brought.saturating_add(balance.get());
        let sound = balance <= gate.limit;
        let full = sound && gate.eligible.saturating_add(before).saturating_add(after) > MAX_POOL_TOTAL;
        if sound && !full {
            *brought = after;
        }
        full
    }

    pub(super) fn add(&mut self, pool: u16, partition: usize, job: usize, slot: u64, record: Record) {
        let part = self.parts.entry((pool, partition)).or_default();
        part.records.push(record);
        part.slots.push(slot);
        part.jobs.push(job);
    }
}

/// Answers with a refusal. Whoever asked may have gone.
pub(super) fn refuse<T>(answer: Answer<T>, refusal: Refusal) -> bool {
    drop(answer.send(Err(refusal)));
    true
}

pub(super) fn outcome_of(admission: Admission) -> EventsOutcome {
    let Admission { repeated, already_applied } = admission;
    EventsOutcome { repeated, already_applied, ..EventsOutcome::default() }
}
