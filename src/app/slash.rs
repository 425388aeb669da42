//! Slashes in a pool's books: who bears one, how it is told, and what unbonds from each validator.

use std::collections::BTreeMap;

use crate::domain::amount::{AmountError, BaseUnits, SignedUnits};
use crate::domain::distribution::DistributionState;
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::ValidatorId;
use crate::domain::ledger::ClaimAccount;
use crate::domain::period::{PeriodIndex, PeriodState};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::{ChainMark, Progress, SlashRecord, UnbondingRecord};

use super::control::Change;
use super::{App, AppError, Pool, close};

fn broken(error: impl ToString) -> AppError {
    AppError::Broken(error.to_string())
}

/// Who bears what was slashed at `at`: as the policy says of the period that this chain time lies in, whenever it is
/// booked. Before the first period it is the first one's policy, after the last that is open the next one's.
pub(super) async fn bearer(app: &App, pool: &Pool, at: UnixSeconds) -> Result<SlashPolicy, AppError> {
    let Some(mut period) = app.last_period(pool).await?.filter(|last| at < last.bounds.end) else {
        return Ok(app.next_policy(pool).await?.policy.slash);
    };
    while let Some(before) = period.index.0.checked_sub(1).filter(|_| at < period.bounds.start) {
        let found = app.period(pool, PeriodIndex(before)).await?;
        period = found.ok_or_else(|| broken(format!("period {before} is missing")))?;
    }
    Ok(period.policy.slash)
}

/// What the rewards owe for slashes, less what a distribution that is not released is about to recover of it: its
/// figures are fixed.
pub(super) async fn owed(app: &App, pool: &Pool, change: &Change<'_>) -> Result<BaseUnits, AppError> {
    let receivable = change.ledger().balance(&ClaimAccount::SlashReceivable.into()).positive_part();
    let Some(period) = close::oldest(app, pool, PeriodState::Frozen).await? else { return Ok(receivable) };
    let taken = match app.last_distribution(pool, period.index).await? {
        Some(last)
            if matches!(
                last.state,
                DistributionState::Computed | DistributionState::Held | DistributionState::Approved
            ) =>
        {
            match last.progress {
                Progress::Gathering => BaseUnits::ZERO,
                Progress::Splitting => last.owed,
                Progress::Sealed => last.figures.recovery,
            }
        }
        _ => BaseUnits::ZERO,
    };
    Ok(receivable.saturating_sub(taken))
}

/// Keeps a slash that is booked in `change`, tells of it, and stops new delegations until a later height is reconciled.
pub(super) async fn booked(
    app: &App,
    pool: &Pool,
    change: &mut Change<'_>,
    record: &SlashRecord,
    known_at: u64,
) -> Result<(), AppError> {
    let slash = &record.slash;
    let mut mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    mark.slashed_height = mark.slashed_height.max(known_at);
    change.put(keys::chain_mark(), &mark);
    change.put_new(keys::slash(&record.key), record);
    let lost = slash.lost().map_err(broken)?;
    tracing::error!(pool = %pool.id(), validator = %slash.validator, height = record.height, reported = record.reported,
        delegated_base_units = %slash.delegated, unbonding_base_units = %slash.unbonding,
        rewards_absorb = slash.bearer == SlashPolicy::RewardsAbsorb, "slashed");
    app.metrics.slashed(pool.id().as_str(), lost);
    Ok(())
}

/// Keeps what a chain has given back of a slash.
pub(super) fn reversed(pool: &Pool, change: &mut Change<'_>, record: &SlashRecord) {
    tracing::warn!(pool = %pool.id(), validator = %record.slash.validator, slashed_at_height = record.height,
        returned_base_units = %record.slash.returned, "the chain took a slash back");
    change.put(keys::slash(&record.key), record);
}

/// What unbonds from a validator, and what that comes to with a change of `by`, if it can be.
pub(super) async fn unbonding_with(
    change: &Change<'_>,
    validator: &ValidatorId,
    by: SignedUnits,
) -> Result<(BaseUnits, Result<BaseUnits, AmountError>), AppError> {
    let before: Option<UnbondingRecord> = change.read(&keys::unbonding(validator)).await?;
    let before = before.map_or(BaseUnits::ZERO, |record| record.amount);
    Ok((before, before.signed().checked_add(by).and_then(SignedUnits::unsigned)))
}

/// Books by validator what the ledger's account of unbondings has as a sum.
pub(super) async fn unbonding_changed(
    change: &mut Change<'_>,
    validator: &ValidatorId,
    by: SignedUnits,
) -> Result<(), AppError> {
    let key = keys::unbonding(validator);
    let (before, after) = unbonding_with(change, validator, by).await?;
    let amount = after.map_err(|error| broken(format!("{before} unbonds from {validator}, and {by} more: {error}")))?;
    if amount.is_zero() {
        change.delete(key);
    } else {
        change.put(key, &UnbondingRecord { validator: validator.clone(), amount });
    }
    Ok(())
}

impl App {
    /// What unbonds from each validator by the ledger, not matured.
    pub async fn unbonding_by_validator(&self, pool: &Pool) -> Result<BTreeMap<ValidatorId, BaseUnits>, AppError> {
        let range = keys::range_of_tag(keys::tag::UNBONDING);
        let records: Vec<UnbondingRecord> = self.list(pool.control(), range, usize::MAX).await?;
        Ok(records.into_iter().map(|record| (record.validator, record.amount)).collect())
    }

    /// Every slash that was ever booked, by its name.
    pub async fn slashes(&self, pool: &Pool) -> Result<Vec<SlashRecord>, AppError> {
        self.list(pool.control(), keys::range_of_tag(keys::tag::SLASH), usize::MAX).await
    }
}
