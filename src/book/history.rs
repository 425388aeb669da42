//! The history of one position, replayed from the event archive and the journal.

use std::collections::{BTreeMap, BTreeSet};

use super::journal::Record;
use super::partition::partition_of;
use super::records::decode_rejected;
use super::{Book, BookError, lock, read};
use crate::domain::amount::BaseUnits;
use crate::domain::calendar::Calendar;
use crate::domain::correction::{Basis, Timeline};
use crate::domain::eligibility::{Standing, StandingChange};
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::AccountId;
use crate::domain::position::Position;
use crate::domain::time::UnixSeconds;
use crate::store::{Direction, KeyRange, PartitionId, keys};

/// The groups that are read at once.
const GROUPS: usize = 256;

/// The most records of one position that are replayed: a balance a second for 11 days.
const MAX_RECORDS: usize = 1_000_000;

/// How many rejected events are read at once.
const REJECTED_PER_READ: usize = 4_096;

/// A position with its history, at one point between groups.
#[derive(Clone, Debug)]
pub struct PositionHistory {
    /// From when on the history is exact: what lies before is no longer archived.
    pub known_from: UnixSeconds,
    /// What was held since.
    pub timeline: Timeline,
    /// The point of the position that it goes up to.
    pub basis: Basis,
    /// From when on the position's weight is not summed yet.
    pub summed_until: UnixSeconds,
    /// The rules at that point.
    pub calendar: Calendar,
}

/// A position at a point of its partition's journal.
struct Point {
    partition: usize,
    id: PartitionId,
    group: u64,
    row: Position,
    calendar: Calendar,
}

impl Book {
    /// A position's history; `None` where there is no such position. Reads the store: the whole history of the account's
    /// partition, as far as it is kept.
    pub async fn position_history(&self, pool: u16, account: &AccountId) -> Result<Option<PositionHistory>, BookError> {
        let Some(point) = self.point_of(pool, account) else { return Ok(None) };
        let partition = u16::try_from(point.partition).unwrap_or(u16::MAX);
        let (mut first, mut records) = (None, Vec::new());
        let mut from = 0;
        while from <= point.group {
            let groups = self.archived_events(pool, partition, from, GROUPS).await?;
            let Some(last) = groups.last() else { break };
            from = last.number + 1;
            for group in groups.iter().filter(|group| group.number <= point.group) {
                first.get_or_insert((group.number, group.now));
                records.extend(group.records.iter().filter(|record| record.account() == Some(account)).cloned());
            }
            if records.len() > MAX_RECORDS {
                return Err(BookError::HistoryTooLong { limit: MAX_RECORDS });
            }
        }
        let rejected = self.rejected_of(pool, &records).await?;
        let (first, now) = first.unwrap_or((point.group + 1, UnixSeconds::new(i64::MAX)));
        let mut replay = Replay::begin(first, now, &point);
        let accepted = |record: &&Record| record.sequence().is_none_or(|sequence| !rejected.contains(&sequence));
        records.iter().filter(accepted).for_each(|record| replay.take(record));
        replay.finish(&point).map(Some)
    }

    fn point_of(&self, pool: u16, account: &AccountId) -> Option<Point> {
        let pool = self.pool(pool)?;
        let partition = partition_of(account.as_str(), pool.partitions.len());
        let _between_groups = read(&pool.gate);
        let rows = read(pool.partitions.get(partition)?);
        let row = *rows.row(rows.find(account.as_str())?)?;
        let calendar = rows.calendar.clone()?;
        Some(Point { partition, id: pool.id(partition), group: rows.group, row, calendar })
    }

    /// Which of the events behind `records` a pool did not accept when they were applied: one read of what was rejected
    /// between the first and the last of each source.
    async fn rejected_of(&self, pool: u16, records: &[Record]) -> Result<BTreeSet<(SourceNumber, u64)>, BookError> {
        let mut sources: BTreeMap<SourceNumber, (u64, u64)> = BTreeMap::new();
        for (source, sequence) in records.iter().filter_map(Record::sequence) {
            let (first, last) = sources.entry(source).or_insert((sequence, sequence));
            (*first, *last) = (sequence.min(*first), sequence.max(*last));
        }
        let mut rejected = self.rejected_in_memory(pool);
        for (source, (first, last)) in sources {
            let mut range = KeyRange {
                from: keys::rejected_event(source.0, first, 0),
                to: keys::after(&keys::rejected_event(source.0, last, u16::MAX)),
            };
            loop {
                let scan =
                    self.shared.store.scan(PartitionId::SERVICE, range.clone(), REJECTED_PER_READ, Direction::Forward);
                let found = scan.await?;
                let of = found.iter().filter_map(|(key, _)| keys::parse_rejected_event(key));
                rejected.extend(of.filter(|(_, _, of)| *of == pool).map(|(_, sequence, _)| (source, sequence)));
                match found.last() {
                    Some((last, _)) if found.len() == REJECTED_PER_READ => range.from = keys::after(last),
                    _ => break,
                }
            }
        }
        Ok(rejected)
    }

    /// Why an event that was applied was rejected by a pool, if it was. Reads the store.
    pub async fn rejection_of(
        &self,
        pool: u16,
        source: SourceNumber,
        sequence: u64,
    ) -> Result<Option<RejectReason>, BookError> {
        let found = lock(&self.shared.found)
            .iter()
            .find(|(of, number, event)| (*of, *number, event.pool_number()) == (source, sequence, pool))
            .map(|(.., event)| event.reason);
        let waiting = found.or_else(|| lock(&self.shared.pending).get(&(source, sequence, pool)).copied());
        if waiting.is_some() {
            return Ok(waiting);
        }
        let service = PartitionId::SERVICE;
        let damaged = BookError::Damaged { what: "a rejected event", partition: service.0 };
        let stored = self.shared.store.get(service, &keys::rejected_event(source.0, sequence, pool)).await?;
        stored.map(|stored| decode_rejected(&stored).map(|event| event.reason).ok_or(damaged)).transpose()
    }

    /// The rejections of a pool that may not be in the store. One moves from what a start has found to what waits, and from
    /// there to the store: who looks in this order misses none.
    fn rejected_in_memory(&self, pool: u16) -> BTreeSet<(SourceNumber, u64)> {
        let mut rejected = BTreeSet::new();
        let found = lock(&self.shared.found);
        rejected.extend(found.iter().filter(|(.., event)| event.pool_number() == pool).map(|(of, n, _)| (*of, *n)));
        drop(found);
        let pending = lock(&self.shared.pending);
        rejected
            .extend(pending.keys().filter(|(.., of)| *of == pool).map(|(source, sequence, _)| (*source, *sequence)));
        rejected
    }
}

/// What was read so far.
struct Replay {
    /// Whether everything was read from the first group on; else from when on times are exact.
    exact_from: Option<UnixSeconds>,
    origin: UnixSeconds,
    last: UnixSeconds,
    /// When the first balance was told.
    told_from: Option<UnixSeconds>,
    timeline: Timeline,
    standing: Standing,
    /// The flags that changes have touched.
    touched: Standing,
    /// When the last of them was touched for the first time.
    standing_known: Option<UnixSeconds>,
    changes: Vec<(UnixSeconds, StandingChange)>,
}

impl Replay {
    /// Begins with group `first`, which was formed at `now`. No event before it may lie further ahead of then than is
    /// allowed: what comes later is not clamped by anything that is not read.
    fn begin(first: u64, now: UnixSeconds, point: &Point) -> Self {
        let calendar = &point.calendar;
        let future = i64::from(calendar.oldest.limits.max_future_seconds);
        let last_at = point.row.last_at(calendar);
        let exact_from = (first > 1).then(|| now.plus(future).min(last_at));
        Self {
            exact_from,
            origin: calendar.origin,
            last: exact_from.unwrap_or(calendar.origin),
            told_from: None,
            timeline: Timeline::default(),
            standing: Standing::NONE,
            touched: Standing::NONE,
            standing_known: None,
            changes: Vec::new(),
        }
    }

    fn take(&mut self, record: &Record) {
        match record {
            Record::Balance { at, balance, .. } | Record::SnapshotBalance { at, balance, .. } => {
                self.balance(*at, *balance);
            }
            Record::Standing { at, change, .. } => {
                self.last = self.last.max(*at);
                let flags = change.set.union(change.clear);
                if !self.touched.contains(flags) {
                    self.standing_known = Some(self.last);
                }
                self.touched = self.touched.union(flags);
                self.changes.push((self.last, *change));
            }
            // Before anything that is kept, one that ends nowhere is as good as an event.
            Record::Correction { correction, .. } if self.told_from.is_none() && self.exact_from.is_some() => {
                if correction.until.is_none() {
                    self.balance(correction.at, correction.balance);
                }
            }
            Record::Correction { correction, .. } => {
                if self.exact_from.is_none_or(|from| correction.until.is_none_or(|until| until > from)) {
                    self.timeline.correct(correction);
                }
                if correction.until.is_none() {
                    self.last = self.last.max(correction.at);
                }
            }
            Record::HandOver { .. } | Record::Open(_) | Record::Freeze { .. } => {}
        }
    }

    fn balance(&mut self, at: UnixSeconds, balance: BaseUnits) {
        self.last = self.last.max(at);
        self.told_from.get_or_insert(self.last);
        self.timeline.balance(self.last, balance);
    }

    fn finish(mut self, point: &Point) -> Result<PositionHistory, BookError> {
        let basis = point.row.basis(&point.calendar);
        let mut known_from = self.origin;
        if let Some(exact_from) = self.exact_from {
            // A flag that no change has touched is what it is now.
            self.standing = basis.standing.without(self.touched);
            if self.told_from.is_none() {
                // The last balance was told before what is kept.
                self.timeline.balance(exact_from, basis.available);
            }
            known_from = self.told_from.into_iter().chain(self.standing_known).fold(exact_from, UnixSeconds::max);
        }
        self.timeline.standing(self.origin, self.standing);
        for (at, change) in self.changes {
            self.standing = change.apply(self.standing);
            self.timeline.standing(at, self.standing);
        }
        let last = self.timeline.last_balance().unwrap_or_default();
        if last != basis.available || self.standing != basis.standing {
            return Err(BookError::Damaged { what: "the history of a position", partition: point.id.0 });
        }
        Ok(PositionHistory {
            known_from,
            timeline: self.timeline,
            basis,
            summed_until: point.row.since(&point.calendar),
            calendar: point.calendar.clone(),
        })
    }
}
