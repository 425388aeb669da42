//! The journal of one book partition: groups of records, cut into values that the store can hold.
//!
//! A value is: version (1), flags (1, bit 0: the last part of its group), part (2), group (8), body, chain (16). The
//! chain is BLAKE3, cut to 16 bytes, of the chain before and all else of the value: it is checksum and order at once.
//! The bodies of a group's parts together are: now (8), records (4), then the records. Little-endian. A group without
//! its last part was never acknowledged. Frozen by a golden test: a change of layout is a new version.

use super::bytes::{Put, Take};
use crate::domain::amount::BaseUnits;
use crate::domain::correction::{Basis, Correction};
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode, Standing, StandingChange};
use crate::domain::feed::SourceNumber;
use crate::domain::ids::AccountId;
use crate::domain::period::{OpenPeriod, PeriodBounds, PeriodIndex, TimeLimits};
use crate::domain::time::UnixSeconds;

const VERSION: u8 = 1;
const LAST: u8 = 1;
const HEADER: usize = 12;
const CHAIN: usize = 16;
/// Body bytes of one value; with header and chain it stays below the store's limit.
const BODY: usize = 7_000;

/// The running hash of a partition's journal.
pub(crate) type Chain = [u8; CHAIN];

/// The most bytes that one record of an event takes. Records of corrections, up to 179 bytes, and of periods, with a cursor
/// of each source, come alone in their groups.
pub(crate) const MAX_RECORD_BYTES: usize = 120;

/// One thing that happened in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A balance, as its source said it.
    Balance {
        /// Whose.
        account: AccountId,
        /// Who said it.
        source: SourceNumber,
        /// Its sequence there.
        sequence: u64,
        /// When, as it was said.
        at: UnixSeconds,
        /// The available balance.
        balance: BaseUnits,
        /// That it is too much for the pool's total: decided before it was journalled.
        pool_full: bool,
    },
    /// A balance, as a snapshot of its source said it. One that its position does not take is not journalled.
    SnapshotBalance {
        /// Whose.
        account: AccountId,
        /// Whose snapshot.
        source: SourceNumber,
        /// The source's sequence that the snapshot stands after.
        sequence: u64,
        /// The time at which it holds.
        at: UnixSeconds,
        /// The available balance.
        balance: BaseUnits,
        /// Which snapshot: the tag of its id.
        snapshot: u64,
    },
    /// A change of standing, from the enrolment log.
    Standing {
        /// Whose.
        account: AccountId,
        /// Its sequence in the log.
        sequence: u64,
        /// When, as it was said.
        at: UnixSeconds,
        /// What changes.
        change: StandingChange,
    },
    /// A position goes from one source to another.
    HandOver {
        /// Whose.
        account: AccountId,
        /// The source that owned it.
        from: SourceNumber,
        /// The source that owns it now.
        to: SourceNumber,
    },
    /// What was held before a later event is corrected.
    Correction {
        /// Whose.
        account: AccountId,
        /// Its sequence in the log of corrections.
        sequence: u64,
        /// What it changes.
        correction: Correction,
        /// That it is too much for the pool's total: decided before it was journalled.
        pool_full: bool,
    },
    /// A period opens.
    Open(OpenPeriod),
    /// The oldest open period is frozen.
    Freeze {
        /// Which one that is.
        index: PeriodIndex,
        /// The last sequence of each source before the cut.
        cursors: Vec<(SourceNumber, u64)>,
    },
}

impl Record {
    /// Whose position it is about, where it is about one.
    pub const fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Balance { account, .. }
            | Self::SnapshotBalance { account, .. }
            | Self::Standing { account, .. }
            | Self::HandOver { account, .. }
            | Self::Correction { account, .. } => Some(account),
            Self::Open(_) | Self::Freeze { .. } => None,
        }
    }

    /// Its source and its sequence there, where it has them: by these it is known whether it was rejected.
    pub const fn sequence(&self) -> Option<(SourceNumber, u64)> {
        match self {
            Self::Balance { source, sequence, .. } => Some((*source, *sequence)),
            Self::Standing { sequence, .. } => Some((SourceNumber::ENROLMENT, *sequence)),
            Self::Correction { sequence, .. } => Some((SourceNumber::CORRECTION, *sequence)),
            Self::SnapshotBalance { .. } | Self::HandOver { .. } | Self::Open(_) | Self::Freeze { .. } => None,
        }
    }
}

/// What was committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number in its partition, from 1.
    pub number: u64,
    /// When it was formed.
    pub now: UnixSeconds,
    /// What happened, in order.
    pub records: Vec<Record>,
}

/// The chain before the first group of a partition.
pub(crate) fn first_chain(partition: u32) -> Chain {
    link(&[0; CHAIN], &[b"softstake journal", &partition.to_le_bytes()])
}

fn link(before: &Chain, bytes: &[&[u8]]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    bytes.iter().for_each(|b| {
        hasher.update(b);
    });
    let mut chain = [0; CHAIN];
    chain.copy_from_slice(&hasher.finalize().as_bytes()[..CHAIN]);
    chain
}

/// Encodes a group into the values of its parts, and moves the chain on.
pub(crate) fn encode(number: u64, now: UnixSeconds, records: &[Record], chain: &mut Chain) -> Vec<Vec<u8>> {
    let mut body = Vec::with_capacity(12 + records.len() * 48);
    body.i64(now.get());
    body.u32(u32::try_from(records.len()).unwrap_or(u32::MAX));
    let mut before = Before::default();
    records.iter().for_each(|record| write(record, &mut before, &mut body));
    cut(number, &body, chain)
}

/// Cuts the body of a group into the values of its parts, and moves the chain on.
pub(super) fn cut(number: u64, body: &[u8], chain: &mut Chain) -> Vec<Vec<u8>> {
    let parts = body.chunks(BODY).count();
    let part = |(index, bytes): (usize, &[u8])| {
        let mut value = Vec::with_capacity(HEADER + bytes.len() + CHAIN);
        value.u8(VERSION);
        value.u8(if index + 1 == parts { LAST } else { 0 });
        value.u16(u16::try_from(index).unwrap_or(u16::MAX));
        value.u64(number);
        value.bytes(bytes);
        *chain = link(chain, &[&value]);
        value.bytes(chain);
        value
    };
    body.chunks(BODY).enumerate().map(part).collect()
}

/// Puts parts together again. Feed it the values in order.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// `None` where it is not known: then the first value is taken as it is, and the others must follow it.
    chain: Option<Chain>,
    number: u64,
    parts: u16,
    body: Vec<u8>,
}

impl Assembly {
    /// To read from group `number` on, where `chain` is that before it.
    pub(crate) fn new(number: u64, chain: Chain) -> Self {
        Self::resume(number, Some(chain))
    }

    /// The same, where the chain before it may not be known.
    pub(crate) fn resume(number: u64, chain: Option<Chain>) -> Self {
        Self { chain, number, parts: 0, body: Vec::new() }
    }

    /// The group that is read next, or is being read.
    pub(crate) const fn next_number(&self) -> u64 {
        self.number
    }

    /// The chain after what was read.
    pub(crate) const fn chain(&self) -> Option<Chain> {
        self.chain
    }

    /// Takes the next value. `Ok(Some)` where it ends a group; `Err` where it is not what must come next.
    pub(crate) fn take(&mut self, value: &[u8]) -> Result<Option<Group>, ()> {
        let (head, chain) = value.split_last_chunk::<CHAIN>().ok_or(())?;
        let linked = self.chain.map_or(*chain, |before| link(&before, &[head]));
        let mut take = Take(head);
        let header = (take.u8(), take.u8(), take.u16(), take.u64());
        let (Some(VERSION), Some(flags), Some(part), Some(number)) = header else { return Err(()) };
        if linked != *chain || part != self.parts || number != self.number {
            return Err(());
        }
        self.chain = Some(linked);
        self.body.extend_from_slice(take.0);
        if flags & LAST == 0 {
            self.parts = self.parts.checked_add(1).ok_or(())?;
            return Ok(None);
        }
        let group = read_group(self.number, &self.body).ok_or(())?;
        self.number += 1;
        self.parts = 0;
        self.body.clear();
        Ok(Some(group))
    }
}

/// When the group was formed that `value` is the first part of, without a look at its chain.
pub(crate) fn peek_time(value: &[u8]) -> Option<UnixSeconds> {
    let mut take = Take(value.get(HEADER..)?);
    take.i64().map(UnixSeconds::new)
}

/// What records are written relative to.
#[derive(Default)]
struct Before {
    sequence: u64,
    at: i64,
}

const BALANCE: u8 = 1;
const BALANCE_POOL_FULL: u8 = 2;
const STANDING: u8 = 3;
const OPEN: u8 = 4;
const FREEZE: u8 = 5;
const HAND_OVER: u8 = 6;
const CORRECTION: u8 = 7;
const SNAPSHOT: u8 = 8;

fn write(record: &Record, before: &mut Before, out: &mut Vec<u8>) {
    match record {
        Record::Balance { account, source, sequence, at, balance, pool_full } => {
            out.u8(if *pool_full { BALANCE_POOL_FULL } else { BALANCE });
            out.varint(u64::from(source.0));
            write_when(*sequence, *at, before, out);
            out.short_text(account.as_str());
            out.short_u128(balance.get());
        }
        Record::SnapshotBalance { account, source, sequence, at, balance, snapshot } => {
            out.u8(SNAPSHOT);
            out.u64(*snapshot);
            out.varint(u64::from(source.0));
            write_when(*sequence, *at, before, out);
            out.short_text(account.as_str());
            out.short_u128(balance.get());
        }
        Record::Standing { account, sequence, at, change } => {
            out.u8(STANDING);
            write_when(*sequence, *at, before, out);
            out.short_text(account.as_str());
            out.u8(change.set.bits());
            out.u8(change.clear.bits());
        }
        Record::Open(period) => {
            out.u8(OPEN);
            write_period(period, out);
        }
        Record::Freeze { index, cursors } => {
            out.u8(FREEZE);
            out.u64(index.0);
            write_cursors(cursors, out);
        }
        Record::Correction { account, sequence, correction, pool_full } => {
            out.u8(CORRECTION);
            out.u64(*sequence);
            out.short_text(account.as_str());
            write_correction(correction, out);
            out.u8(u8::from(*pool_full));
        }
        Record::HandOver { account, from, to } => {
            out.u8(HAND_OVER);
            out.u16(from.0);
            out.u16(to.0);
            out.short_text(account.as_str());
        }
    }
}

/// Writes what a correction changes.
pub(crate) fn write_correction(correction: &Correction, out: &mut Vec<u8>) {
    let Correction { at, balance, until, oldest, next, basis } = correction;
    out.i64(at.get());
    out.short_u128(balance.get());
    out.u8(u8::from(until.is_some()));
    out.i64(until.unwrap_or_default().get());
    out.i128(*oldest);
    out.i128(*next);
    out.u64(basis.oldest.0);
    out.u32(basis.last_second);
    out.u64(basis.last_sequence);
    out.short_u128(basis.available.get());
    out.u8(basis.standing.bits());
}

fn read_correction(take: &mut Take<'_>) -> Option<Correction> {
    let at = UnixSeconds::new(take.i64()?);
    let balance = BaseUnits::new(take.short_u128()?).ok()?;
    let (ends, until) = (take.u8()? == 1, UnixSeconds::new(take.i64()?));
    let (oldest, next) = (take.i128()?, take.i128()?);
    let basis = Basis {
        oldest: PeriodIndex(take.u64()?),
        last_second: take.u32()?,
        last_sequence: take.u64()?,
        available: BaseUnits::new(take.short_u128()?).ok()?,
        standing: Standing::from_bits(take.u8()?)?,
    };
    Some(Correction { at, balance, until: ends.then_some(until), oldest, next, basis })
}

fn write_when(sequence: u64, at: UnixSeconds, before: &mut Before, out: &mut Vec<u8>) {
    out.zigzag(sequence.wrapping_sub(before.sequence).cast_signed());
    out.zigzag(at.get().wrapping_sub(before.at));
    *before = Before { sequence, at: at.get() };
}

fn read_group(number: u64, body: &[u8]) -> Option<Group> {
    let mut take = Take(body);
    let now = UnixSeconds::new(take.i64()?);
    let count = take.u32()?;
    let mut before = Before::default();
    let mut records = Vec::with_capacity(usize::try_from(count).ok()?.min(body.len()));
    for _ in 0..count {
        records.push(read(&mut take, &mut before)?);
    }
    take.end()?;
    Some(Group { number, now, records })
}

fn read(take: &mut Take<'_>, before: &mut Before) -> Option<Record> {
    Some(match take.u8()? {
        kind @ (BALANCE | BALANCE_POOL_FULL) => {
            let source = SourceNumber(u16::try_from(take.varint()?).ok()?);
            let (sequence, at) = read_when(take, before)?;
            let account = AccountId::new(take.short_text()?).ok()?;
            let balance = BaseUnits::new(take.short_u128()?).ok()?;
            Record::Balance { account, source, sequence, at, balance, pool_full: kind == BALANCE_POOL_FULL }
        }
        SNAPSHOT => {
            let snapshot = take.u64()?;
            let source = SourceNumber(u16::try_from(take.varint()?).ok()?);
            let (sequence, at) = read_when(take, before)?;
            let account = AccountId::new(take.short_text()?).ok()?;
            let balance = BaseUnits::new(take.short_u128()?).ok()?;
            Record::SnapshotBalance { account, source, sequence, at, balance, snapshot }
        }
        STANDING => {
            let (sequence, at) = read_when(take, before)?;
            let account = AccountId::new(take.short_text()?).ok()?;
            let (set, clear) = (Standing::from_bits(take.u8()?)?, Standing::from_bits(take.u8()?)?);
            Record::Standing { account, sequence, at, change: StandingChange { set, clear } }
        }
        OPEN => Record::Open(read_period(take)?),
        FREEZE => Record::Freeze { index: PeriodIndex(take.u64()?), cursors: read_cursors(take)? },
        CORRECTION => {
            let sequence = take.u64()?;
            let account = AccountId::new(take.short_text()?).ok()?;
            let correction = read_correction(take)?;
            Record::Correction { account, sequence, correction, pool_full: take.u8()? == 1 }
        }
        HAND_OVER => {
            let (from, to) = (SourceNumber(take.u16()?), SourceNumber(take.u16()?));
            Record::HandOver { account: AccountId::new(take.short_text()?).ok()?, from, to }
        }
        _ => return None,
    })
}

fn read_when(take: &mut Take<'_>, before: &mut Before) -> Option<(u64, UnixSeconds)> {
    let sequence = before.sequence.wrapping_add(take.zigzag()?.cast_unsigned());
    let at = before.at.wrapping_add(take.zigzag()?);
    *before = Before { sequence, at };
    Some((sequence, UnixSeconds::new(at)))
}

/// Writes a period with its snapshot.
pub(crate) fn write_period(period: &OpenPeriod, out: &mut Vec<u8>) {
    out.u64(period.index.0);
    out.i64(period.bounds.start.get());
    out.u32(u32::try_from(period.bounds.seconds()).unwrap_or(u32::MAX));
    write_policy(&period.policy, out);
    out.u32(period.limits.max_skew_seconds);
    out.u32(period.limits.max_lateness_seconds);
    out.u32(period.limits.max_future_seconds);
}

/// Writes what earns in a period.
pub(crate) fn write_policy(policy: &EligibilityPolicy, out: &mut Vec<u8>) {
    out.short_u128(policy.minimum.get());
    out.u8(u8::from(policy.cap.is_some()));
    out.short_u128(policy.cap.unwrap_or_default().get());
    out.u8(match policy.enrolment {
        EnrolmentMode::Automatic => 0,
        EnrolmentMode::OptIn => 1,
    });
}

/// Reads what [`write_policy`] wrote.
pub(crate) fn read_policy(take: &mut Take<'_>) -> Option<EligibilityPolicy> {
    let minimum = BaseUnits::new(take.short_u128()?).ok()?;
    let capped = take.u8()? == 1;
    let cap = BaseUnits::new(take.short_u128()?).ok()?;
    let enrolment = match take.u8()? {
        0 => EnrolmentMode::Automatic,
        1 => EnrolmentMode::OptIn,
        _ => return None,
    };
    Some(EligibilityPolicy { minimum, cap: capped.then_some(cap), enrolment })
}

/// Reads what [`write_period`] wrote.
pub(crate) fn read_period(take: &mut Take<'_>) -> Option<OpenPeriod> {
    let index = PeriodIndex(take.u64()?);
    let start = UnixSeconds::new(take.i64()?);
    let bounds = PeriodBounds::new(start, take.u32()?).ok()?;
    let policy = read_policy(take)?;
    let (max_skew_seconds, max_lateness_seconds, max_future_seconds) = (take.u32()?, take.u32()?, take.u32()?);
    let limits = TimeLimits { max_skew_seconds, max_lateness_seconds, max_future_seconds };
    Some(OpenPeriod { index, bounds, policy, limits })
}

/// Writes a cursor per source.
pub(crate) fn write_cursors(cursors: &[(SourceNumber, u64)], out: &mut Vec<u8>) {
    out.u16(u16::try_from(cursors.len()).unwrap_or(u16::MAX));
    for (source, sequence) in cursors {
        out.u16(source.0);
        out.u64(*sequence);
    }
}

/// Reads what [`write_cursors`] wrote.
pub(crate) fn read_cursors(take: &mut Take<'_>) -> Option<Vec<(SourceNumber, u64)>> {
    let count = take.u16()?;
    (0..count).map(|_| Some((SourceNumber(take.u16()?), take.u64()?))).collect()
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
