//! Rewards and matured funds: claimed before the end of each period, withdrawn as soon as they have matured.

use crate::chain::{Observation, RewardStyle, WithdrawStyle};
use crate::domain::ids::{IdError, ValidatorId};
use crate::domain::operation::{OperationKind, claim_id, withdraw_id};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::PeriodRecord;

use super::control::Change;
use super::{App, AppError, Pool, Work, operate};

fn broken(error: IdError) -> AppError {
    AppError::Broken(error.to_string())
}

/// How many operations one commit plans: each writes three keys of the commit's thousand.
const PER_CHANGE: u64 = 250;

/// Plans what is due after the chain was seen as `observation`.
pub(super) async fn step(
    app: &App,
    pool: &Pool,
    observation: &Observation,
    now: UnixSeconds,
) -> Result<Work, AppError> {
    let work = claim(app, pool, observation, now).await?;
    Ok(work.and(withdraw(app, pool, observation, now).await?))
}

/// Plans the claims of the running period, once it is about to end. The id is the period's, so that a second plan is
/// the same operation.
async fn claim(app: &App, pool: &Pool, observation: &Observation, now: UnixSeconds) -> Result<Work, AppError> {
    if pool.chain.descriptor.reward_style == RewardStyle::Compounding {
        return Ok(Work::Idle);
    }
    let lead = i64::try_from(app.settings.claim_lead_seconds).unwrap_or(i64::MAX);
    let Some(period) = current_period(app, pool, now).await? else { return Ok(Work::Idle) };
    if now < period.bounds.end.plus(-lead) {
        return Ok(Work::Idle);
    }
    let earning = observation.delegations.iter().filter(|delegation| !delegation.pending_reward.is_zero());
    let whom: Vec<Option<ValidatorId>> = match pool.chain.descriptor.reward_style {
        RewardStyle::ClaimPerValidator => earning.map(|delegation| Some(delegation.validator.clone())).collect(),
        RewardStyle::ClaimPerAccount | RewardStyle::Compounding => earning.take(1).map(|_| None).collect(),
    };
    let mut change = Change::begin(app, pool, now).await?;
    let (mut planned, mut work) = (0_u64, Work::Idle);
    for validator in whom {
        let id = claim_id(pool.id(), period.index.0, validator.as_ref()).map_err(broken)?;
        if change.contains(&keys::operation(&id)).await? {
            continue;
        }
        if planned == PER_CHANGE {
            work = finish(app, change, planned).await?;
            (change, planned) = (Change::begin(app, pool, now).await?, 0);
        }
        operate::plan(&mut change, id, OperationKind::Claim { validator }, "end_of_period")?;
        planned += 1;
    }
    Ok(work.and(finish(app, change, planned).await?))
}

/// The period that `now` lies in.
async fn current_period(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Option<PeriodRecord>, AppError> {
    let Some(last) = app.last_period(pool).await? else { return Ok(None) };
    if last.bounds.start <= now {
        return Ok(Some(last));
    }
    match last.index.0.checked_sub(1) {
        Some(before) => app.period(pool, crate::domain::period::PeriodIndex(before)).await,
        None => Ok(None),
    }
}

/// Plans the withdrawals of what has matured, unless one is under way.
async fn withdraw(app: &App, pool: &Pool, observation: &Observation, now: UnixSeconds) -> Result<Work, AppError> {
    let mut matured: Vec<&ValidatorId> =
        observation.unbondings.iter().filter(|entry| entry.matured).map(|entry| &entry.validator).collect();
    matured.sort();
    matured.dedup();
    let whom: Vec<Option<ValidatorId>> = match pool.chain.descriptor.withdraw_style {
        WithdrawStyle::Automatic => return Ok(Work::Idle),
        WithdrawStyle::PerAccount => matured.first().map(|_| None).into_iter().collect(),
        WithdrawStyle::PerValidator => matured.into_iter().cloned().map(Some).collect(),
    };
    if whom.is_empty() {
        return Ok(Work::Idle);
    }
    let open = app.open_operations(pool).await?;
    let mut change = Change::begin(app, pool, now).await?;
    let (mut planned, mut work) = (0_u64, Work::Idle);
    for validator in whom {
        let kind = OperationKind::Withdraw { validator };
        if open.iter().any(|operation| operation.kind == kind) {
            continue;
        }
        if planned == PER_CHANGE {
            work = finish(app, change, planned).await?;
            (change, planned) = (Change::begin(app, pool, now).await?, 0);
        }
        let OperationKind::Withdraw { validator } = &kind else { continue };
        let run = change.next_sequence();
        let id = withdraw_id(pool.id(), run, validator.as_ref()).map_err(broken)?;
        operate::plan(&mut change, id, kind, "matured")?;
        planned += 1;
    }
    Ok(work.and(finish(app, change, planned).await?))
}

async fn finish(app: &App, change: Change<'_>, planned: u64) -> Result<Work, AppError> {
    if planned == 0 {
        return Ok(Work::Idle);
    }
    change.commit().await?;
    app.metrics.operations_planned.inc_by(planned);
    Ok(Work::Done)
}
