//! One partition of a pool: its positions, one flat row each, behind an open-addressing index.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use ruint::aliases::U256;

use super::journal::Record;
use super::pages::{PAGE_ROWS, PageMark};
use crate::domain::adjustment::{Adjusted, Rest};
use crate::domain::calendar::Calendar;
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::period::PeriodIndex;
use crate::domain::position::{Applied, BalanceChange, Position};
use crate::domain::time::UnixSeconds;

/// The ids of a partition's accounts, end to end.
#[derive(Debug, Default)]
struct Ids {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Ids {
    fn get(&self, ordinal: u32) -> &[u8] {
        let at = ordinal as usize;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(at).copied().unwrap_or(start);
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    fn push(&mut self, id: &str) {
        self.bytes.extend_from_slice(id.as_bytes());
        // 64 bytes for each of the 2^26 accounts of a partition: `Partition::add` keeps to that.
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }
}

/// How many accounts [`Partition::warm`] asks for at once: what they read stays in the nearest caches.
const WARM_AT_ONCE: usize = 64;

/// The most positions of one partition.
const MAX_ROWS: usize = 1 << 26;

/// What applying records did to the pool.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Changes of the eligible total, and when they count from.
    pub(crate) changes: Vec<(PeriodIndex, UnixSeconds, i128)>,
    /// Changes at a period's start by its other policy.
    pub(crate) crossings: Vec<(PeriodIndex, i128)>,
    /// Adjustments of weights of a period.
    pub(crate) adjusted: Vec<(PeriodIndex, Adjusted)>,
    /// By how much rests grew.
    pub(crate) owed: U256,
    /// How much of rests was collected.
    pub(crate) collected: U256,
    /// Positions that are new.
    pub(crate) added: u64,
}

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts.
    Accepted { clamped: bool, late: bool },
    /// It does not.
    Rejected(RejectReason),
    /// It is already in the row: the row's page was written after this group.
    Skipped,
}

/// A partition in memory.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    rows: Vec<Position>,
    ids: Ids,
    index: HashTable<u32>,
    /// What is still to be collected, by ordinal: rare, and never zero.
    rests: BTreeMap<u32, Rest>,
    /// What is known of each page.
    pub(crate) marks: Vec<PageMark>,
    /// The last group that was applied.
    pub(crate) group: u64,
    /// The rules at this point of the journal; `None` before the first period.
    pub(crate) calendar: Option<Calendar>,
}

/// Where an account belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountHash {
    place: u64,
    /// Where it stands in the index of its partition.
    pub(crate) slot: u64,
}

impl AccountHash {
    pub(crate) fn of(account: &[u8]) -> Self {
        let hash = blake3::hash(account);
        let mut halves = [[0; 8]; 2];
        halves[0].copy_from_slice(&hash.as_bytes()[..8]);
        halves[1].copy_from_slice(&hash.as_bytes()[8..16]);
        Self { place: u64::from_le_bytes(halves[0]), slot: u64::from_le_bytes(halves[1]) }
    }

    /// Which partition of `count` the account belongs to: stable for ever.
    pub(crate) const fn partition(self, count: usize) -> usize {
        let count = if count == 0 { 1 } else { count as u64 };
        (self.place % count) as usize
    }
}

/// Which partition of `count` an account belongs to.
pub(crate) fn partition_of(account: &str, count: usize) -> usize {
    AccountHash::of(account.as_bytes()).partition(count)
}

impl Partition {
    /// How many positions there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many bytes the pages of all positions take, about.
    pub(crate) fn page_bytes(&self) -> u64 {
        (self.rows.len() * size_of::<Position>() + self.ids.bytes.len()) as u64
    }

    /// The position at an ordinal.
    pub(crate) fn row(&self, ordinal: u32) -> Option<&Position> {
        self.rows.get(ordinal as usize)
    }

    /// What is still to be collected from the position at an ordinal.
    pub(crate) fn rest(&self, ordinal: u32) -> Rest {
        if self.rests.is_empty() { Rest::ZERO } else { self.rests.get(&ordinal).copied().unwrap_or_default() }
    }

    /// The rests of `count` positions from `first` on that are not zero, by ordinal.
    pub(crate) fn rests(&self, first: u32, count: u32) -> impl Iterator<Item = (u32, Rest)> + '_ {
        self.rests.range(first..first.saturating_add(count)).map(|(ordinal, rest)| (*ordinal, *rest))
    }

    /// Sets what is still to be collected from the position at an ordinal.
    pub(crate) fn set_rest(&mut self, ordinal: u32, rest: Rest) {
        if !rest.is_zero() {
            self.rests.insert(ordinal, rest);
        } else if !self.rests.is_empty() {
            self.rests.remove(&ordinal);
        }
    }

    /// The account at an ordinal; empty past the end.
    pub(crate) fn id(&self, ordinal: u32) -> &str {
        std::str::from_utf8(self.ids.get(ordinal)).unwrap_or_default()
    }

    /// The ordinal of an account.
    pub(crate) fn find(&self, account: &str) -> Option<u32> {
        self.find_at(account, AccountHash::of(account.as_bytes()).slot)
    }

    fn find_at(&self, account: &str, slot: u64) -> Option<u32> {
        self.index.find(slot, |ordinal| self.ids.get(*ordinal) == account.as_bytes()).copied()
    }

    /// Touches what applying records about the accounts at `slots` will read, so that it is in the processor's caches by
    /// then: each line is asked for without waiting for the one before, where one record after the other would wait for
    /// five of them. Changes nothing, and is worth its while only where many accounts are far apart.
    pub(crate) fn warm(&self, slots: &[u64]) {
        let mut ordinals = [0u32; WARM_AT_ONCE];
        for slots in slots.chunks(WARM_AT_ONCE) {
            let mut touched = 0u64;
            for (ordinal, slot) in ordinals.iter_mut().zip(slots) {
                // The first of the same tag: hardly ever another account's.
                *ordinal = self.index.find(*slot, |_| true).copied().unwrap_or(0);
            }
            let ordinals = &ordinals[..slots.len()];
            for ordinal in ordinals {
                touched ^= u64::from(self.ids.ends.get(*ordinal as usize).copied().unwrap_or(0));
                touched ^= self.rows.get(*ordinal as usize).map_or(0, |row| row.fields().last_sequence);
            }
            for ordinal in ordinals {
                touched ^= u64::from(self.ids.get(*ordinal).first().copied().unwrap_or(0));
            }
            std::hint::black_box(touched);
        }
    }

    /// Adds a position at the next ordinal; `None` where the partition is full.
    pub(crate) fn add(&mut self, account: &str, position: Position) -> Option<u32> {
        self.add_at(account, AccountHash::of(account.as_bytes()).slot, position)
    }

    fn add_at(&mut self, account: &str, slot: u64, position: Position) -> Option<u32> {
        let ordinal = u32::try_from(self.rows.len()).ok().filter(|_| self.rows.len() < MAX_ROWS)?;
        self.ids.push(account);
        self.rows.push(position);
        let ids = &self.ids;
        self.index.insert_unique(slot, ordinal, |other| AccountHash::of(ids.get(*other)).slot);
        if self.rows.len() > self.marks.len() * PAGE_ROWS {
            self.marks.push(PageMark::default());
        }
        Some(ordinal)
    }

    /// Makes room for `rows` positions.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows.reserve_exact(rows);
        self.ids.ends.reserve_exact(rows);
        let ids = &self.ids;
        self.index.reserve(rows, |other| AccountHash::of(ids.get(*other)).slot);
    }

    /// Applies a balance, its source's or a snapshot's, or a standing of group `group`.
    ///
    /// A row whose page was written at that group or later already has it.
    pub(crate) fn apply(
        &mut self,
        group: u64,
        now: UnixSeconds,
        record: &Record,
        slot: Option<u64>,
        effects: &mut Effects,
    ) -> Verdict {
        let account = match record {
            Record::Balance { pool_full: true, .. } | Record::Correction { pool_full: true, .. } => {
                return Verdict::Rejected(RejectReason::PoolTotalTooLarge);
            }
            Record::Balance { account, .. }
            | Record::SnapshotBalance { account, .. }
            | Record::Standing { account, .. }
            | Record::Correction { account, .. } => account.as_str(),
            Record::HandOver { .. } | Record::Open(_) | Record::Freeze { .. } => return Verdict::Skipped,
        };
        let Some(calendar) = &self.calendar else { return Verdict::Rejected(RejectReason::PeriodNotOpen) };
        let oldest = calendar.oldest.index;
        let next = calendar.next.map_or(oldest, |next| next.index);
        let mut adjusted_next = Adjusted::default();
        let mut change = |position: &mut Position, rest: &mut Rest| match record {
            Record::Balance { source, sequence, at, balance, .. }
            | Record::SnapshotBalance { source, sequence, at, balance, .. } => {
                let change = BalanceChange { source: *source, sequence: *sequence, balance: *balance, at: *at };
                position.apply_balance(calendar, now, change, rest)
            }
            Record::Standing { change, at, .. } => position.apply_standing(calendar, now, *change, *at, rest),
            Record::Correction { correction, .. } => {
                position.apply_correction(calendar, correction, rest).map(|(applied, next)| {
                    adjusted_next = next;
                    applied
                })
            }
            Record::HandOver { .. } | Record::Open(_) | Record::Freeze { .. } => Err(RejectReason::PeriodNotOpen),
        };
        let slot = slot.unwrap_or_else(|| AccountHash::of(account.as_bytes()).slot);
        let found = self.find_at(account, slot);
        let mut rest = found.map_or(Rest::ZERO, |ordinal| self.rest(ordinal));
        let rest_before = rest;
        let applied = match found {
            Some(ordinal) => {
                let page = ordinal as usize / PAGE_ROWS;
                let Some(mark) = self.marks.get_mut(page).filter(|mark| mark.group < group) else {
                    return Verdict::Skipped;
                };
                let Some(row) = self.rows.get_mut(ordinal as usize) else { return Verdict::Skipped };
                let applied = change(row, &mut rest);
                mark.dirty |= applied.is_ok();
                if rest != rest_before {
                    self.set_rest(ordinal, rest);
                }
                applied
            }
            None if matches!(record, Record::Correction { .. }) => Err(RejectReason::Overtaken),
            None => {
                let mut position = Position::default();
                let applied = change(&mut position, &mut rest);
                if applied.is_ok() {
                    let Some(ordinal) = self.add_at(account, slot, position) else {
                        return Verdict::Rejected(RejectReason::PoolTotalTooLarge);
                    };
                    if let Some(mark) = self.marks.get_mut(ordinal as usize / PAGE_ROWS) {
                        mark.dirty = true;
                    }
                    effects.added += 1;
                }
                applied
            }
        };
        match applied {
            Ok(Applied { effective, period, change, crossing, clamped, late, adjusted }) => {
                if change != 0 {
                    effects.changes.push((period, effective, change));
                }
                if crossing != 0 {
                    effects.crossings.push((period, crossing));
                }
                if adjusted != Adjusted::default() {
                    effects.adjusted.push((oldest, adjusted));
                }
                if adjusted_next != Adjusted::default() {
                    effects.adjusted.push((next, adjusted_next));
                }
                effects.owed += rest.get().saturating_sub(rest_before.get());
                effects.collected += rest_before.get().saturating_sub(rest.get());
                Verdict::Accepted { clamped, late }
            }
            Err(reason) => Verdict::Rejected(reason),
        }
    }

    /// Whether an account's position would take a balance now.
    pub(crate) fn would_take(
        &self,
        now: UnixSeconds,
        account: &str,
        slot: u64,
        change: BalanceChange,
    ) -> Result<(), RejectReason> {
        let calendar = self.calendar.as_ref().ok_or(RejectReason::PeriodNotOpen)?;
        let ordinal = self.find_at(account, slot);
        let mut position = ordinal.and_then(|ordinal| self.row(ordinal)).copied().unwrap_or_default();
        let mut rest = ordinal.map_or(Rest::ZERO, |ordinal| self.rest(ordinal));
        position.apply_balance(calendar, now, change, &mut rest).map(|_| ())
    }

    /// Hands a position over in group `group`.
    pub(crate) fn hand_over(&mut self, group: u64, account: &str, from: SourceNumber, to: SourceNumber) -> Verdict {
        let Some(ordinal) = self.find(account) else { return Verdict::Rejected(RejectReason::NotOwner) };
        let page = ordinal as usize / PAGE_ROWS;
        let Some(mark) = self.marks.get_mut(page).filter(|mark| mark.group < group) else { return Verdict::Skipped };
        match self.rows.get_mut(ordinal as usize).map(|row| row.hand_over(from, to)) {
            Some(Ok(changed)) => {
                mark.dirty |= changed;
                Verdict::Accepted { clamped: false, late: false }
            }
            Some(Err(reason)) => Verdict::Rejected(reason),
            None => Verdict::Skipped,
        }
    }

    /// Opens a period in this partition's calendar.
    pub(crate) fn open(&mut self, origin: UnixSeconds, period: crate::domain::period::OpenPeriod) {
        match &mut self.calendar {
            None => self.calendar = Some(Calendar::first(origin, period)),
            Some(calendar) if period.index == calendar.oldest.index.next() => calendar.next = Some(period),
            Some(_) => {}
        }
    }

    /// Freezes the oldest period as of group `group`. Returns the weight of every ordinal, where `wanted`.
    pub(crate) fn freeze(&mut self, group: u64, wanted: bool, effects: &mut Effects) -> Vec<u128> {
        let Some(calendar) = &self.calendar else { return Vec::new() };
        let Some(after) = calendar.after_freeze() else { return Vec::new() };
        let mut weights = Vec::with_capacity(if wanted { self.rows.len() } else { 0 });
        let mut crossing = 0i128;
        let mut rests = std::mem::take(&mut self.rests);
        let mut first = 0u32;
        for (page, mark) in self.rows.chunks_mut(PAGE_ROWS).zip(&mut self.marks) {
            #[cfg(feature = "seeded-bugs")]
            if crate::seeded::on(crate::seeded::Bug::ReplaysIntoPages) {
                mark.group = 0;
            }
            let ordinals = first..;
            first += PAGE_ROWS as u32;
            if mark.group >= group {
                continue;
            }
            mark.dirty = true;
            for (ordinal, row) in ordinals.zip(page) {
                let mut rest = if rests.is_empty() { Rest::ZERO } else { rests.remove(&ordinal).unwrap_or_default() };
                let frozen = row.freeze(calendar, &mut rest);
                if !rest.is_zero() {
                    rests.insert(ordinal, rest);
                }
                if frozen.collected > 0 {
                    effects.adjusted.push((calendar.oldest.index, Adjusted { up: 0, down: frozen.collected }));
                    effects.collected += U256::from(frozen.collected);
                }
                crossing = crossing.saturating_add(frozen.crossing);
                if wanted {
                    weights.push(frozen.weight);
                }
            }
        }
        if crossing != 0 {
            effects.crossings.push((after.oldest.index, crossing));
        }
        self.rests = rests;
        self.calendar = Some(after);
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_account_is_stable_for_ever() {
        let places: Vec<usize> = ["alice", "bob", "carol", "user-1:spot"].map(|a| partition_of(a, 16)).to_vec();
        assert_eq!(places, [1, 4, 10, 5]);
        assert_eq!(partition_of("alice", 1), 0);
    }

    #[test]
    fn an_account_is_found_by_its_id_alone() {
        let mut partition = Partition::default();
        for i in 0..10_000u32 {
            assert_eq!(partition.add(&format!("account-{i}"), Position::default()), Some(i));
        }
        for i in (0..10_000u32).step_by(7) {
            assert_eq!(partition.find(&format!("account-{i}")), Some(i));
            assert_eq!(partition.id(i), format!("account-{i}"));
        }
        assert_eq!(partition.find("account-10000"), None);
        assert_eq!(partition.id(10_000), "");
        assert_eq!(partition.marks.len(), 10_000usize.div_ceil(PAGE_ROWS));
    }
}
