//! The payouts of a revision: a pure function of the frozen weights and the pinned inputs, written partition by
//! partition off the ingest path, checked against the freeze, and sealed.

use crate::book::column::{self, CHUNK_ORDINALS};
use crate::book::parallel;
use crate::domain::amount::BaseUnits;
use crate::domain::apr::PaidOn;
use crate::domain::booking;
use crate::domain::distribution::{DistributionEvent, DistributionState, Figures};
use crate::domain::fixed_apr::{FixedAprTerms, FixedRate, RewardPolicy};
use crate::domain::hold::{Assessed, EarnedOver, HoldLimits, HoldReason, hold_reasons};
use crate::domain::payout::PayoutTally;
use crate::domain::period::PeriodIndex;
use crate::domain::split::{SplitInput, SplitTerms, Splitter};
use crate::domain::time::UnixSeconds;
use crate::domain::weight::SetSum;
use crate::store::records::{
    ChainMark, DistributionRecord, Hold, PayoutSeal, PeriodRecord, PoolState, Progress, Record,
};
use crate::store::{Batch, Direction, KeyRange, MAX_COMMIT_BYTES, MAX_COMMIT_KEYS, MAX_VALUE_BYTES, keys};

use super::super::control::Change;
use super::super::history::TRAILING_PERIODS;
use super::super::{App, AppError, Pool, Work};
use super::{read_revision, unbookable};

/// After so many positions a step ends, so that the pool's other jobs have their turn.
const POSITIONS_PER_STEP: u64 = 250_000;
/// How many weight chunks one scan brings.
const CHUNKS_PER_SCAN: usize = 256;
/// As many chunks are worth a thread.
const LEAST_CHUNKS: usize = 24;
/// Among how many revisions the trailing distributions are looked for.
const TRAILING_REVISIONS: usize = 4 * TRAILING_PERIODS;
/// How many runs of chunks a seal counts, so that it fits a value.
const SEAL_COUNTS: u32 = 1_000;

fn broken(error: impl ToString) -> AppError {
    AppError::Broken(error.to_string())
}

/// What an account's weight earns.
enum Payer {
    ProRata(Box<(SplitInput, SplitTerms)>, Splitter),
    FixedApr(FixedRate),
}

impl Payer {
    fn new(period: &PeriodRecord, record: &DistributionRecord) -> Result<Self, AppError> {
        let policy = &period.policy;
        if let RewardPolicy::FixedApr(rate) = policy.reward {
            return Ok(Self::FixedApr(FixedRate::new(rate, record.payout_unit)));
        }
        let input = SplitInput {
            receipts: record.figures.receipts,
            carry_in: record.figures.carry_in,
            house_in: BaseUnits::ZERO,
            fee: policy.fee,
            owed: record.owed,
            payout_unit: record.payout_unit,
            weight_total: record.weight_total,
        };
        let (terms, splitter) = input.splitter().map_err(broken)?;
        Ok(Self::ProRata(Box::new((input, terms)), splitter))
    }

    fn payout(&self, weight: u128) -> Result<BaseUnits, AppError> {
        match self {
            Self::ProRata(_, splitter) => splitter.payout(weight).map_err(broken),
            Self::FixedApr(rate) => rate.payout(weight).map_err(broken),
        }
    }

    /// The figures of the whole, equation 1 checked.
    fn figures(
        &self,
        period: &PeriodRecord,
        record: &DistributionRecord,
        total: &PayoutTally,
    ) -> Result<Figures, AppError> {
        let payouts = total.paid.amount;
        let Figures { receipts, carry_in, .. } = record.figures;
        let figures = match self {
            Self::ProRata(basis, splitter) => {
                let (input, terms) = &**basis;
                let house_out = splitter.house_share(record.house_weight).map_err(broken)?;
                let positive = total.positive + u64::from(!record.house_weight.is_zero());
                let carry_out = splitter.carry_out(payouts, house_out, positive).map_err(broken)?;
                Figures::pro_rata(input, terms, payouts, house_out, carry_out)
            }
            Self::FixedApr(_) => {
                let terms = FixedAprTerms::new(receipts, carry_in, period.policy.fee, payouts).map_err(broken)?;
                Figures::fixed_apr(receipts, carry_in, &terms, payouts)
            }
        };
        figures.check_equation_1().map_err(broken)?;
        Ok(figures)
    }
}

/// Writes the payouts of partitions that have none yet; when all are sealed, posts and assesses the revision.
pub(super) async fn step(
    app: &App,
    pool: &Pool,
    period: &PeriodRecord,
    record: &DistributionRecord,
    now: UnixSeconds,
) -> Result<Work, AppError> {
    let frozen = app.book.frozen(pool.number(), period.index).await?;
    let frozen = frozen.ok_or_else(|| broken(format!("the book has no seal of period {}", period.index)))?;
    let payer = Payer::new(period, record)?;
    let (mut total, mut written) = (PayoutTally::default(), 0);
    for (partition, expected) in (0_u16..).zip(&frozen.partitions) {
        let seal = match app.payout_seal(pool, partition, record).await? {
            Some(seal) => seal,
            None if written >= POSITIONS_PER_STEP => return Ok(Work::Done),
            None => {
                written += expected.count;
                write_partition(app, pool, &payer, record, partition, expected).await?
            }
        };
        total.merge(seal.tally).map_err(broken)?;
    }
    finish(app, pool, period, record, &payer, &total, frozen.total.count, now).await
}

/// Writes every payout chunk of one partition and its seal.
async fn write_partition(
    app: &App,
    pool: &Pool,
    payer: &Payer,
    record: &DistributionRecord,
    partition: u16,
    expected: &SetSum,
) -> Result<PayoutSeal, AppError> {
    let (number, index) = (pool.number(), record.period);
    let chunks = u32::try_from(expected.count.div_ceil(CHUNK_ORDINALS as u64)).map_err(broken)?;
    let stride = chunks.div_ceil(SEAL_COUNTS).max(1);
    let mut seal = PayoutSeal { tally: PayoutTally::default(), stride, counts: Vec::new() };
    let mut writer = Writer { app, batch: Batch::new(pool.book(partition)), bytes: 0 };
    let lost = |chunk| AppError::lost(format!("chunk {chunk} of the frozen weights of partition {partition}"));
    let scan = async |from| app.book.weight_chunks(number, partition, index, from, CHUNKS_PER_SCAN).await;
    let mut next = 0;
    let mut found = scan(next).await?;
    while next < chunks {
        let first = next;
        for (chunk, _) in &found {
            if *chunk != next {
                return Err(lost(next));
            }
            next += 1;
        }
        if next == first {
            return Err(lost(next));
        }
        // The next ones are read while these are paid.
        let paying = async { parallel::in_order(&found, LEAST_CHUNKS, |run| pay(app, pool, payer, partition, run)) };
        let (following, paid) =
            futures::join!(async { if next < chunks { scan(next).await } else { Ok(Vec::new()) } }, paying);
        let mut chunk = first;
        for run in paid {
            let (tally, values) = run?;
            seal.tally.merge(tally).map_err(broken)?;
            for (paid, value) in values {
                match seal.counts.last_mut().filter(|_| chunk % stride != 0) {
                    Some(count) => *count += paid,
                    None => seal.counts.push(paid),
                }
                writer.put(keys::payout_chunk(chunk, index.0, record.revision), value).await?;
                chunk += 1;
            }
        }
        found = following?;
    }
    let PayoutTally { positions, positive, weight, .. } = seal.tally;
    if (positions, positive, weight) != (expected.count, expected.positive, expected.sum) {
        return Err(broken(format!(
            "partition {partition} was frozen with {} positions, {} of them with weights of {} in all, and pays \
             {positions}, {positive}, {weight}",
            expected.count, expected.positive, expected.sum
        )));
    }
    writer.put(keys::payout_seal(index.0, record.revision), seal.encode()).await?;
    writer.flush().await?;
    Ok(seal)
}

/// The payouts of one chunk, to be stored, and how many of them are above zero.
type PaidChunk = (u32, Vec<u8>);

/// The payouts of chunks that follow each other, and what they come to.
fn pay(
    app: &App,
    pool: &Pool,
    payer: &Payer,
    partition: u16,
    chunks: &[(u32, Vec<u128>)],
) -> Result<(PayoutTally, Vec<PaidChunk>), AppError> {
    let mut tally = PayoutTally::default();
    let mut values = Vec::with_capacity(chunks.len());
    for (chunk, weights) in chunks {
        let payouts = pay_chunk(app, pool, payer, partition, *chunk, weights, &mut tally)?;
        let paid = payouts.iter().filter(|payout| **payout != 0).count() as u32;
        values.push((paid, column::encode(&payouts).map_err(broken)?));
    }
    Ok((tally, values))
}

/// The payouts of one chunk, taken into `tally`.
fn pay_chunk(
    app: &App,
    pool: &Pool,
    payer: &Payer,
    partition: u16,
    chunk: u32,
    weights: &[u128],
    tally: &mut PayoutTally,
) -> Result<Vec<u128>, AppError> {
    let first = chunk.saturating_mul(CHUNK_ORDINALS as u32);
    let accounts = app.book.accounts_from(pool.number(), partition, first, weights.len());
    if accounts.len() != weights.len() {
        return Err(broken(format!("partition {partition} does not know the accounts from ordinal {first} on")));
    }
    let mut payouts = Vec::with_capacity(weights.len());
    for (account, weight) in accounts.iter().zip(weights) {
        let payout = payer.payout(*weight)?;
        #[cfg(feature = "seeded-bugs")]
        let payout = mistaken(payout, payouts.len(), chunk)?;
        tally.record(account, *weight, payout).map_err(broken)?;
        payouts.push(payout.get());
    }
    Ok(payouts)
}

/// How many bits of an integer a float keeps.
#[cfg(feature = "seeded-bugs")]
const MANTISSA_BITS: u32 = 53;

/// A payout as a bug that is put in makes it, of the account at `place` of its chunk.
#[cfg(feature = "seeded-bugs")]
fn mistaken(payout: BaseUnits, place: usize, chunk: u32) -> Result<BaseUnits, AppError> {
    use crate::seeded::{Bug, on};
    if on(Bug::DustToTheFirst) && place == 0 && chunk == 0 {
        return payout.checked_add(BaseUnits::from_u64(1)).map_err(broken);
    }
    if on(Bug::AnotherUnit) {
        return BaseUnits::new(payout.get() / 1_000).map_err(broken);
    }
    if on(Bug::PaidInFloats) {
        let cut = (u128::BITS - payout.get().leading_zeros()).saturating_sub(MANTISSA_BITS);
        return BaseUnits::new(payout.get() >> cut << cut).map_err(broken);
    }
    if on(Bug::LastAccountsOmitted) && place >= 4 { Ok(BaseUnits::ZERO) } else { Ok(payout) }
}

/// Puts values into commits as large as the store takes.
struct Writer<'a> {
    app: &'a App,
    batch: Batch,
    bytes: usize,
}

impl Writer<'_> {
    async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), AppError> {
        self.bytes += key.len() + value.len();
        self.batch.put(key, value);
        let full = self.bytes + MAX_VALUE_BYTES + 64 > MAX_COMMIT_BYTES || self.batch.puts.len() >= MAX_COMMIT_KEYS;
        if full { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), AppError> {
        if !self.batch.puts.is_empty() {
            let fresh = Batch::new(self.batch.partition);
            let batch = std::mem::replace(&mut self.batch, fresh);
            self.bytes = 0;
            self.app.store.commit(vec![batch]).await?;
        }
        Ok(())
    }
}

/// Everything is written: one commit posts the revision's figures and says whether it waits for a person.
#[expect(clippy::too_many_arguments, reason = "one call, of what the step has in hand")]
async fn finish(
    app: &App,
    pool: &Pool,
    period: &PeriodRecord,
    computed: &DistributionRecord,
    payer: &Payer,
    total: &PayoutTally,
    frozen: u64,
    now: UnixSeconds,
) -> Result<Work, AppError> {
    let figures = payer.figures(period, computed, total)?;
    let receipts = app.receipts_of(pool, computed).await?;
    let trailing = app.trailing_before(pool, computed.period).await?;
    let mut change = Change::begin(app, pool, now).await?;
    let mut record = read_revision(&change, computed).await?;
    if record != *computed {
        // It was voided in the meantime.
        return Ok(Work::Idle);
    }
    let state: Option<PoolState> = change.read(&keys::pool_state()).await?;
    let limits = state.ok_or_else(|| broken(format!("pool {} has no state record", pool.id())))?.settings.release;
    let earned = receipts.iter().map(|receipt| EarnedOver {
        from: receipt.reward.earned_from,
        to: receipt.reward.earned_to,
        height: receipt.reward.height,
    });
    let hold_limits = HoldLimits {
        period_seconds: period.bounds.seconds(),
        max_house_in: limits.max_house_in.unwrap_or(BaseUnits::MAX),
        max_apr: limits.max_apr,
        max_apr_change: limits.max_apr_change,
        max_receipts_bps: limits.max_receipts_bps,
    };
    let mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    let descriptor = &pool.chain.descriptor;
    let assessed = Assessed {
        figures: &figures,
        weight_total: record.weight_total,
        house_weight: record.house_weight,
        frozen,
        trailing,
        reconciled_height: mark.reconciled_height,
        asset_matches: (&descriptor.asset, descriptor.decimals) == (&pool.record.asset, pool.record.decimals),
    };
    let mut holds = hold_reasons(&hold_limits, earned, &assessed, total);
    if limits.approval_required {
        holds.insert(0, HoldReason::ApprovalRequired);
    }
    #[cfg(feature = "seeded-bugs")]
    holds.retain(|_| !crate::seeded::on(crate::seeded::Bug::LimitsNotAsked));
    record.state = record.state.after(&DistributionEvent::Assess(&holds)).map_err(broken)?;
    record.holds = holds.iter().map(|hold| Hold { code: hold.code().to_owned(), message: hold.to_string() }).collect();
    record.figures = figures;
    (record.positions, record.positive_count, record.paid_count) = (total.positions, total.positive, total.paid.count);
    record.hash = total.hash;
    record.progress = Progress::Sealed;
    record.computed_at = now;
    change.post(&booking::compute(record.reference(), &figures).map_err(unbookable)?, now)?;
    change.put(keys::distribution(record.period.0, record.revision), &record);
    change.commit().await?;
    tracing::info!(pool = %pool.id(), period = %period.bounds.name(), revision = record.revision,
        payouts = record.paid_count, payouts_base_units = %figures.payouts, fee_base_units = %figures.fee,
        carry_base_units = %figures.carry_out, "distribution computed");
    if record.state == DistributionState::Held {
        app.metrics.distributions_held.inc();
        tracing::warn!(pool = %pool.id(), period = %period.bounds.name(), revision = record.revision,
            holds = ?record.holds, "distribution held");
    }
    Ok(Work::Done)
}

impl App {
    /// What the last released distributions before a period paid on customers' weights, and how many those were.
    async fn trailing_before(&self, pool: &Pool, period: PeriodIndex) -> Result<(PaidOn, u32), AppError> {
        let range = KeyRange { from: keys::distribution(0, 0), to: keys::distribution(period.0, 0) };
        let found = self.store.scan(pool.control(), range, TRAILING_REVISIONS, Direction::Reverse).await?;
        let mut trailing = (PaidOn::default(), 0);
        for (_, value) in &found {
            let record = DistributionRecord::decode(value)?;
            if !record.state.is_released() || trailing.1 as usize == TRAILING_PERIODS {
                continue;
            }
            trailing = (trailing.0.and(record.paid_on()), trailing.1 + 1);
        }
        Ok(trailing)
    }

    /// What the payouts of one partition come to, once they are all written.
    pub(in crate::app) async fn payout_seal(
        &self,
        pool: &Pool,
        partition: u16,
        record: &DistributionRecord,
    ) -> Result<Option<PayoutSeal>, AppError> {
        self.read(pool.book(partition), &keys::payout_seal(record.period.0, record.revision)).await
    }
}
