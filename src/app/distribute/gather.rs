//! The inputs of a revision: its receipts, assigned in portions that fit a commit, and what else is pinned with the last.
//!
//! Each receipt names the revision that took it; the revision keeps their count, sum and range of chain times. So no
//! record grows with the number of receipts.

use ruint::aliases::U256;

use crate::domain::amount::{BaseUnits, SignedUnits};
use crate::domain::distribution::{AfterVoid, DistributionState};
use crate::domain::fixed_apr::RewardPolicy;
use crate::domain::house_weight::{HouseWeightInput, LevelChange, LevelDelta};
use crate::domain::ledger::ClaimAccount;
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::store::records::{DistributionRecord, PeriodRecord, Progress, ReceiptRecord, StakedChange, TakenReceipts};
use crate::store::{Direction, keys};

use super::super::control::Change;
use super::super::{App, AppError, Pool, Work};
use super::{mark_distributed, read_revision};

/// How many receipts one commit assigns or frees: each changes two keys of the commit's thousand.
const PORTION: usize = 400;

fn broken(error: impl ToString) -> AppError {
    AppError::Broken(error.to_string())
}

/// Begins the revision, or goes on with it: assigns a portion of the period's receipts and, with the last one, pins
/// what the split goes by.
pub(super) async fn step(
    app: &App,
    pool: &Pool,
    period: &PeriodRecord,
    revision: u32,
    now: UnixSeconds,
) -> Result<Work, AppError> {
    let mut change = Change::begin(app, pool, now).await?;
    let key = keys::distribution(period.index.0, revision);
    let mut record = match change.read(&key).await? {
        Some(record) => record,
        None => {
            let record = DistributionRecord::new(period.index, revision, now);
            change.put_new(key.clone(), &record);
            // The key is absent unless another revision lives: at most one of a period can ever be released.
            change.expect_absent(keys::live_distribution(period.index.0));
            change.put_bytes(keys::live_distribution(period.index.0), &revision.to_be_bytes());
            record
        }
    };
    if record.state != DistributionState::Computed || record.progress != Progress::Gathering {
        return Ok(Work::Idle);
    }
    let range = keys::unassigned_receipts_before(period.bounds.end);
    #[cfg(feature = "seeded-bugs")]
    let range = if crate::seeded::on(crate::seeded::Bug::PeriodEndIncluded) {
        keys::unassigned_receipts_before(period.bounds.end.plus(1))
    } else {
        range
    };
    let found = app.store.scan(pool.control(), range, PORTION, Direction::Forward).await?;
    for (index_key, _) in &found {
        let (at, effect) = keys::parse_unassigned_receipt(index_key)
            .ok_or_else(|| broken("an entry of the index of unassigned receipts can't be read"))?;
        let receipt_key = keys::receipt(at, &effect);
        let receipt: Option<ReceiptRecord> = change.read(&receipt_key).await?;
        let mut receipt = receipt.ok_or_else(|| broken("an unassigned receipt is missing"))?;
        if let Some((period, revision)) = receipt.assigned {
            return Err(broken(format!("a receipt is assigned to {period}/{revision} and indexed as unassigned")));
        }
        receipt.assigned = Some((period.index.0, revision));
        take(&mut record, &receipt)?;
        change.put(receipt_key, &receipt);
        change.delete(index_key.clone());
    }
    if found.len() < PORTION {
        pin(app, pool, period, &change, &mut record).await?;
    }
    change.put(key, &record);
    change.commit().await?;
    if record.progress == Progress::Splitting {
        tracing::info!(pool = %pool.id(), period = %period.bounds.name(), revision,
            receipts = record.receipts.count, receipts_base_units = %record.figures.receipts,
            weight_total = %record.weight_total, house_weight = %record.house_weight, "distribution begun");
    }
    Ok(Work::Done)
}

fn take(record: &mut DistributionRecord, receipt: &ReceiptRecord) -> Result<(), AppError> {
    let TakenReceipts { count, first_at, last_at } = record.receipts;
    record.receipts = TakenReceipts {
        count: count + 1,
        first_at: if count == 0 { receipt.reward.at } else { first_at.min(receipt.reward.at) },
        last_at: if count == 0 { receipt.reward.at } else { last_at.max(receipt.reward.at) },
    };
    record.figures.receipts = record.figures.receipts.checked_add(receipt.reward.amount).map_err(broken)?;
    Ok(())
}

/// Everything that the payouts follow from is fixed here, and read from the record from here on.
async fn pin(
    app: &App,
    pool: &Pool,
    period: &PeriodRecord,
    change: &Change<'_>,
    record: &mut DistributionRecord,
) -> Result<(), AppError> {
    let balance = |account: ClaimAccount| change.ledger().balance(&account.into()).unsigned().map_err(broken);
    record.figures.carry_in = balance(ClaimAccount::Carry)?;
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::on(crate::seeded::Bug::CarryForgotten) {
        record.figures.carry_in = BaseUnits::ZERO;
    }
    record.owed = balance(ClaimAccount::SlashReceivable)?;
    record.payout_unit = period.policy.payout_unit;
    record.fixed_apr = matches!(period.policy.reward, RewardPolicy::FixedApr(_));
    let frozen = app.book.frozen(pool.number(), period.index).await?;
    let frozen = frozen.ok_or_else(|| broken(format!("the book has no seal of period {}", period.index)))?;
    (record.house_weight, record.staked_at_end) = house_weight(app, pool, period).await?;
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::on(crate::seeded::Bug::HouseWeightOmitted) {
        record.house_weight = U256::ZERO;
    }
    let total = frozen.total.sum.checked_add(record.house_weight);
    record.weight_total = total.ok_or_else(|| broken("the sum of all weights is past 256 bits"))?;
    record.progress = Progress::Splitting;
    Ok(())
}

/// What was staked or unbonding in a period.
struct Staked {
    at_start: BaseUnits,
    changes: Vec<LevelChange>,
}

impl Staked {
    fn at_end(&self) -> BaseUnits {
        self.changes.last().map_or(self.at_start, |last| last.level)
    }
}

async fn staked(app: &App, pool: &Pool, period: &PeriodRecord) -> Result<Staked, AppError> {
    let (start, end) = (period.bounds.start, period.bounds.end);
    let control = pool.control();
    let at_start = match period.index.0.checked_sub(1) {
        None => {
            let before: Vec<StakedChange> = app.list(control, keys::staked_series_before(start), usize::MAX).await?;
            levels(BaseUnits::ZERO, &before)?.last().map_or(BaseUnits::ZERO, |last| last.level)
        }
        Some(before) => {
            let before = app.last_distribution(pool, PeriodIndex(before)).await?;
            before.ok_or_else(|| broken("the period before has no distribution"))?.staked_at_end
        }
    };
    let changes: Vec<StakedChange> = app.list(control, keys::staked_series_between(start, end), usize::MAX).await?;
    Ok(Staked { at_start, changes: levels(at_start, &changes)? })
}

/// What the stake that the house's credit carries weighs in the period, and what was staked or unbonding at its end.
async fn house_weight(app: &App, pool: &Pool, period: &PeriodRecord) -> Result<(U256, BaseUnits), AppError> {
    let (start, end) = (period.bounds.start, period.bounds.end);
    let staked = staked(app, pool, period).await?;
    let curve = app.book.frozen_curve(pool.number(), period.index).await?;
    let curve = curve.ok_or_else(|| broken(format!("the book has no curve of period {}", period.index)))?;
    let delta = |(second, change): (u32, i128)| LevelDelta {
        at: start.plus(i64::from(second)),
        delta: SignedUnits::new(change),
    };
    let eligible: Vec<LevelDelta> = curve.changes().map(delta).collect();
    let input = HouseWeightInput {
        start,
        end,
        staked_at_start: staked.at_start,
        staked: &staked.changes,
        eligible_at_start: SignedUnits::new(curve.start_total()).unsigned().map_err(broken)?,
        eligible: &eligible,
    };
    Ok((input.house_weight().map_err(broken)?, staked.at_end()))
}

/// The levels that changes lead to from `opening` on, one a second. They are in the order of their seconds; within one,
/// only what they come to together counts.
fn levels(opening: BaseUnits, changes: &[StakedChange]) -> Result<Vec<LevelChange>, AppError> {
    let mut level = opening.signed();
    let mut levels: Vec<LevelChange> = Vec::new();
    for second in changes.chunk_by(|one, other| one.at == other.at) {
        for change in second {
            level = level.checked_add(change.change).map_err(broken)?;
        }
        if let Some(last) = second.last() {
            levels.push(LevelChange { at: last.at, level: level.unsigned().map_err(broken)? });
        }
    }
    Ok(levels)
}

/// Gives a portion of a voided revision's receipts back. With the last one, a void that carries ends the period.
pub(super) async fn free(
    app: &App,
    pool: &Pool,
    period: &PeriodRecord,
    voided: &DistributionRecord,
    now: UnixSeconds,
) -> Result<Work, AppError> {
    let mut change = Change::begin(app, pool, now).await?;
    let mut record = read_revision(&change, voided).await?;
    if record.receipts_freed {
        return Ok(Work::Idle);
    }
    let receipts = app.receipts_of(pool, &record).await?;
    let last = receipts.len() <= PORTION;
    #[cfg(feature = "seeded-bugs")]
    let receipts = if crate::seeded::on(crate::seeded::Bug::ReceiptsKeptByVoid) { Vec::new() } else { receipts };
    for mut receipt in receipts.into_iter().take(PORTION) {
        receipt.assigned = None;
        change.put(keys::receipt(receipt.reward.at, &receipt.reward.key), &receipt);
        change.put_bytes(keys::unassigned_receipt(receipt.reward.at, &receipt.reward.key), &[]);
    }
    if last {
        finish_void(app, pool, &mut change, &mut record).await?;
        change.put(keys::distribution(record.period.0, record.revision), &record);
    }
    change.commit().await?;
    if last {
        tracing::info!(pool = %pool.id(), period = %period.bounds.name(), revision = record.revision,
            "the receipts of a voided distribution are free");
    }
    Ok(Work::Done)
}

/// Notes that a voided revision holds no receipt any more; one that carries ends the period with it, and the next period
/// begins with what was staked at its end, whether that had been pinned or not.
pub(super) async fn finish_void(
    app: &App,
    pool: &Pool,
    change: &mut Change<'_>,
    record: &mut DistributionRecord,
) -> Result<(), AppError> {
    record.receipts_freed = true;
    if record.state == DistributionState::Voided(AfterVoid::Carry) {
        if record.progress == Progress::Gathering {
            let period: Option<PeriodRecord> = change.read(&keys::period(record.period.0)).await?;
            let period = period.ok_or_else(|| broken(format!("period {} is missing", record.period)))?;
            record.staked_at_end = staked(app, pool, &period).await?.at_end();
        }
        mark_distributed(change, record.period).await?;
    }
    Ok(())
}
