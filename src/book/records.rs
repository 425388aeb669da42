//! The book's small stored forms, fixed layouts with a version byte and a CRC-32. Each is frozen by a golden test.

use ruint::aliases::U256;

use super::bytes::{Put, Take, seal, unseal};
use super::journal::{Chain, read_cursors, read_period, read_policy, write_cursors, write_period, write_policy};
use crate::domain::adjustment::AdjustedSum;
use crate::domain::amount::BaseUnits;
use crate::domain::calendar::{Calendar, FrozenPast, FrozenRun};
use crate::domain::curve::EligibleCurve;
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::period::{OpenPeriod, PeriodBounds, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::domain::weight::SetSum;

const VERSION: u8 = 1;

fn begin() -> Vec<u8> {
    vec![VERSION]
}

fn open(bytes: &[u8]) -> Option<Take<'_>> {
    let mut take = unseal(bytes)?;
    (take.u8()? == VERSION).then_some(take)
}

fn put_u256(out: &mut Vec<u8>, value: U256) {
    out.bytes(&value.to_le_bytes::<32>());
}

fn take_u256(take: &mut Take<'_>) -> Option<U256> {
    take.array().map(U256::from_le_bytes::<32>)
}

fn put_adjusted(out: &mut Vec<u8>, adjusted: &AdjustedSum) {
    out.short_u256(adjusted.up);
    out.short_u256(adjusted.down);
}

fn take_adjusted(take: &mut Take<'_>) -> Option<AdjustedSum> {
    Some(AdjustedSum { up: take.short_u256()?, down: take.short_u256()? })
}

fn put_past(out: &mut Vec<u8>, past: &FrozenPast) {
    out.u8(u8::try_from(past.runs().len()).unwrap_or(u8::MAX));
    for run in past.runs() {
        out.i64(run.from.get());
        out.i64(run.until.get());
        write_policy(&run.policy, out);
        out.short_u128(run.ceiling.get());
    }
}

fn take_past(take: &mut Take<'_>) -> Option<FrozenPast> {
    let count = take.u8()?;
    let read = |take: &mut Take<'_>| {
        let (from, until) = (UnixSeconds::new(take.i64()?), UnixSeconds::new(take.i64()?));
        let policy = read_policy(take)?;
        Some(FrozenRun { from, until, policy, ceiling: BaseUnits::new(take.short_u128()?).ok()? })
    };
    FrozenPast::new((0..count).map(|_| read(take)).collect::<Option<_>>()?)
}

fn put_bounds(out: &mut Vec<u8>, bounds: PeriodBounds) {
    out.i64(bounds.start.get());
    out.u32(u32::try_from(bounds.seconds()).unwrap_or(u32::MAX));
}

fn take_bounds(take: &mut Take<'_>) -> Option<PeriodBounds> {
    let start = UnixSeconds::new(take.i64()?);
    PeriodBounds::new(start, take.u32()?).ok()
}

/// How far a partition's journal is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) group: u64,
    pub(crate) chain: Chain,
}

pub(crate) fn encode_heads(heads: &[Head]) -> Vec<u8> {
    let mut out = begin();
    out.u16(u16::try_from(heads.len()).unwrap_or(u16::MAX));
    for head in heads {
        out.u64(head.group);
        out.bytes(&head.chain);
    }
    seal(out)
}

pub(crate) fn decode_heads(bytes: &[u8]) -> Option<Vec<Head>> {
    let mut take = open(bytes)?;
    let count = take.u16()?;
    let heads = (0..count).map(|_| Some(Head { group: take.u64()?, chain: take.array()? })).collect::<Option<_>>()?;
    take.end()?;
    Some(heads)
}

/// Where a source stands.
pub(crate) fn encode_source(last: u64, watermark: Option<UnixSeconds>) -> Vec<u8> {
    let mut out = begin();
    out.u64(last);
    out.u8(u8::from(watermark.is_some()));
    out.i64(watermark.unwrap_or_default().get());
    seal(out)
}

pub(crate) fn decode_source(bytes: &[u8]) -> Option<(u64, Option<UnixSeconds>)> {
    let mut take = open(bytes)?;
    let last = take.u64()?;
    let vouched = take.u8()? == 1;
    let watermark = UnixSeconds::new(take.i64()?);
    take.end()?;
    Some((last, vouched.then_some(watermark)))
}

/// How many body hashes one value holds: those of the sequences `n * 512 + 1` to `(n + 1) * 512`.
pub(crate) const HASHES: u64 = 512;

pub(crate) fn encode_hashes(hashes: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut out = begin();
    hashes.for_each(|hash| out.u64(hash));
    seal(out)
}

pub(crate) fn decode_hashes(bytes: &[u8]) -> Option<Vec<u64>> {
    let take = open(bytes)?;
    let (hashes, []) = take.0.as_chunks::<8>() else { return None };
    Some(hashes.iter().map(|h| u64::from_le_bytes(*h)).collect())
}

/// An event that was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedEvent {
    /// Why.
    pub reason: RejectReason,
    /// The pool's number, where one takes the asset.
    pub pool: Option<u16>,
    /// The asset as the event named it, where no pool takes it; else empty.
    pub asset: String,
    /// Whose balance or standing.
    pub account: String,
    /// The balance that was said; `None` for an enrolment.
    pub balance: Option<BaseUnits>,
    /// The time that was said.
    pub at: UnixSeconds,
    /// When it was rejected.
    pub rejected_at: UnixSeconds,
}

impl RejectedEvent {
    /// The number of the pool that rejected it; 0 where no pool takes it.
    pub(crate) fn pool_number(&self) -> u16 {
        self.pool.unwrap_or(0)
    }
}

pub(crate) fn encode_rejected(event: &RejectedEvent) -> Vec<u8> {
    let mut out = begin();
    out.u8(event.reason.code());
    let limit = if let RejectReason::BalanceTooLarge { limit } = event.reason { limit } else { BaseUnits::ZERO };
    out.u128(limit.get());
    out.u16(event.pool.unwrap_or(0));
    out.short_text(&event.asset);
    out.short_text(&event.account);
    out.u8(u8::from(event.balance.is_some()));
    out.u128(event.balance.unwrap_or_default().get());
    out.i64(event.at.get());
    out.i64(event.rejected_at.get());
    seal(out)
}

pub(crate) fn decode_rejected(bytes: &[u8]) -> Option<RejectedEvent> {
    let mut take = open(bytes)?;
    let code = take.u8()?;
    let reason = RejectReason::from_code(code, BaseUnits::new(take.u128()?).ok()?)?;
    let pool = Some(take.u16()?).filter(|pool| *pool != 0);
    let (asset, account) = (take.short_text()?.to_owned(), take.short_text()?.to_owned());
    let told = take.u8()? == 1;
    let balance = BaseUnits::new(take.u128()?).ok()?;
    let (at, rejected_at) = (UnixSeconds::new(take.i64()?), UnixSeconds::new(take.i64()?));
    take.end()?;
    Some(RejectedEvent { reason, pool, asset, account, balance: told.then_some(balance), at, rejected_at })
}

/// What the frozen weights of one partition come to.
pub(crate) fn encode_seal(sum: &SetSum) -> Vec<u8> {
    let mut out = begin();
    write_sum(&mut out, sum);
    seal(out)
}

pub(crate) fn decode_seal(bytes: &[u8]) -> Option<SetSum> {
    let mut take = open(bytes)?;
    let sum = read_sum(&mut take)?;
    take.end()?;
    Some(sum)
}

fn write_sum(out: &mut Vec<u8>, sum: &SetSum) {
    out.u64(sum.count);
    out.u64(sum.positive);
    put_u256(out, sum.sum);
    put_u256(out, sum.hash);
}

fn read_sum(take: &mut Take<'_>) -> Option<SetSum> {
    Some(SetSum { count: take.u64()?, positive: take.u64()?, sum: take_u256(take)?, hash: take_u256(take)? })
}

/// A frozen period, sealed whole: the record that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrozenRecord {
    pub(crate) period: OpenPeriod,
    pub(crate) frozen_at: UnixSeconds,
    pub(crate) total: SetSum,
    pub(crate) start_total: i128,
    pub(crate) end_total: i128,
    pub(crate) curve_pages: u32,
    pub(crate) integral: Option<U256>,
    pub(crate) adjusted: AdjustedSum,
    pub(crate) cursors: Vec<(SourceNumber, u64)>,
    pub(crate) groups: Vec<u64>,
}

impl FrozenRecord {
    /// The second equation.
    pub(crate) fn holds(&self) -> bool {
        self.integral.is_some_and(|integral| self.adjusted.explains(self.total.sum, integral))
    }
}

pub(crate) fn encode_frozen(record: &FrozenRecord) -> Vec<u8> {
    let mut out = begin();
    write_period(&record.period, &mut out);
    out.i64(record.frozen_at.get());
    write_sum(&mut out, &record.total);
    out.i128(record.start_total);
    out.i128(record.end_total);
    out.u32(record.curve_pages);
    out.u8(u8::from(record.integral.is_some()));
    put_u256(&mut out, record.integral.unwrap_or_default());
    put_adjusted(&mut out, &record.adjusted);
    write_cursors(&record.cursors, &mut out);
    out.u16(u16::try_from(record.groups.len()).unwrap_or(u16::MAX));
    record.groups.iter().for_each(|group| out.u64(*group));
    seal(out)
}

pub(crate) fn decode_frozen(bytes: &[u8]) -> Option<FrozenRecord> {
    let mut take = open(bytes)?;
    let period = read_period(&mut take)?;
    let frozen_at = UnixSeconds::new(take.i64()?);
    let total = read_sum(&mut take)?;
    let (start_total, end_total, curve_pages) = (take.i128()?, take.i128()?, take.u32()?);
    let sound = take.u8()? == 1;
    let integral = take_u256(&mut take)?;
    let adjusted = take_adjusted(&mut take)?;
    let cursors = read_cursors(&mut take)?;
    let count = take.u16()?;
    let groups = (0..count).map(|_| take.u64()).collect::<Option<_>>()?;
    take.end()?;
    Some(FrozenRecord {
        period,
        frozen_at,
        total,
        start_total,
        end_total,
        curve_pages,
        integral: sound.then_some(integral),
        adjusted,
        cursors,
        groups,
    })
}

/// The changes of a curve that fit one value.
pub(crate) const CURVE_PAGE_CHANGES: usize = 300;

pub(crate) fn encode_curve_page(index: PeriodIndex, changes: &[(u32, i128)]) -> Vec<u8> {
    let mut out = begin();
    out.u64(index.0);
    out.u16(u16::try_from(changes.len()).unwrap_or(u16::MAX));
    for (second, change) in changes {
        out.u32(*second);
        out.u8(u8::from(*change < 0));
        out.short_u128(change.unsigned_abs());
    }
    seal(out)
}

pub(crate) fn decode_curve_page(bytes: &[u8]) -> Option<(PeriodIndex, Vec<(u32, i128)>)> {
    let mut take = open(bytes)?;
    let index = PeriodIndex(take.u64()?);
    let count = take.u16()?;
    let read = |take: &mut Take<'_>| {
        let (second, negative, size) = (take.u32()?, take.u8()? == 1, take.short_u128()?);
        let change = if negative { 0i128.checked_sub_unsigned(size)? } else { i128::try_from(size).ok()? };
        Some((second, change))
    };
    let changes = (0..count).map(|_| read(&mut take)).collect::<Option<_>>()?;
    take.end()?;
    Some((index, changes))
}

/// One partition in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestPartition {
    /// The first group that has to be read.
    pub(crate) replay_from: u64,
    /// The chain before it.
    pub(crate) chain: Chain,
    /// The last group that the totals and curves contain.
    pub(crate) upto: u64,
    /// How many pages there are.
    pub(crate) pages: u32,
    /// The sum of their hashes.
    pub(crate) hash_sum: u128,
}

/// The head of one unfrozen period's curve in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestCurve {
    pub(crate) index: PeriodIndex,
    pub(crate) bounds: PeriodBounds,
    pub(crate) start_total: i128,
    pub(crate) crossing: i128,
    pub(crate) adjusted: AdjustedSum,
}

impl ManifestCurve {
    pub(crate) fn curve(&self) -> EligibleCurve {
        EligibleCurve::new(self.bounds, self.start_total)
    }
}

/// Where recovery begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) generation: u64,
    /// The calendar before `replay_from`, the same in every partition.
    pub(crate) calendar: Option<Calendar>,
    pub(crate) partitions: Vec<ManifestPartition>,
    pub(crate) eligible: i128,
    pub(crate) positions: u64,
    pub(crate) rests: U256,
    pub(crate) curves: Vec<ManifestCurve>,
    pub(crate) curve_pages: u32,
}

pub(crate) fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    let mut out = begin();
    out.u64(manifest.generation);
    out.u8(u8::from(manifest.calendar.is_some()));
    if let Some(calendar) = &manifest.calendar {
        out.i64(calendar.origin.get());
        out.u8(u8::from(calendar.frozen_any));
        put_past(&mut out, &calendar.past);
        write_period(&calendar.oldest, &mut out);
        out.u8(u8::from(calendar.next.is_some()));
        if let Some(next) = &calendar.next {
            write_period(next, &mut out);
        }
    }
    out.u16(u16::try_from(manifest.partitions.len()).unwrap_or(u16::MAX));
    for partition in &manifest.partitions {
        out.u64(partition.replay_from);
        out.bytes(&partition.chain);
        out.u64(partition.upto);
        out.u32(partition.pages);
        out.u128(partition.hash_sum);
    }
    out.i128(manifest.eligible);
    out.u64(manifest.positions);
    out.short_u256(manifest.rests);
    out.u8(u8::try_from(manifest.curves.len()).unwrap_or(u8::MAX));
    for curve in &manifest.curves {
        out.u64(curve.index.0);
        put_bounds(&mut out, curve.bounds);
        out.i128(curve.start_total);
        out.i128(curve.crossing);
        put_adjusted(&mut out, &curve.adjusted);
    }
    out.u32(manifest.curve_pages);
    seal(out)
}

pub(crate) fn decode_manifest(bytes: &[u8]) -> Option<Manifest> {
    let mut take = open(bytes)?;
    let generation = take.u64()?;
    let calendar = match take.u8()? {
        0 => None,
        _ => {
            let (origin, frozen_any) = (UnixSeconds::new(take.i64()?), take.u8()? == 1);
            let past = take_past(&mut take)?;
            let oldest = read_period(&mut take)?;
            let next = if take.u8()? == 1 { Some(read_period(&mut take)?) } else { None };
            Some(Calendar { origin, frozen_any, past, oldest, next })
        }
    };
    let count = take.u16()?;
    let read = |take: &mut Take<'_>| {
        Some(ManifestPartition {
            replay_from: take.u64()?,
            chain: take.array()?,
            upto: take.u64()?,
            pages: take.u32()?,
            hash_sum: take.u128()?,
        })
    };
    let partitions = (0..count).map(|_| read(&mut take)).collect::<Option<_>>()?;
    let (eligible, positions, rests, count) = (take.i128()?, take.u64()?, take.short_u256()?, take.u8()?);
    let read = |take: &mut Take<'_>| {
        let (index, bounds) = (PeriodIndex(take.u64()?), take_bounds(take)?);
        let (start_total, crossing) = (take.i128()?, take.i128()?);
        Some(ManifestCurve { index, bounds, start_total, crossing, adjusted: take_adjusted(take)? })
    };
    let curves = (0..count).map(|_| read(&mut take)).collect::<Option<_>>()?;
    let curve_pages = take.u32()?;
    take.end()?;
    Some(Manifest { generation, calendar, partitions, eligible, positions, rests, curves, curve_pages })
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
