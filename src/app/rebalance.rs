//! Stake follows its target: on a schedule, the rules decide what to move, and one commit plans all of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::{Descriptor, Observation};
use crate::domain::allocation::{Allocation, AllocationLimits, AllocationRequest, Candidate, Holding, allocate};
use crate::domain::amount::{AmountError, BaseUnits};
use crate::domain::audit_log::Note;
use crate::domain::forecast::Covered;
use crate::domain::ids::ValidatorId;
use crate::domain::ladder::{Ladder, Urgency};
use crate::domain::ledger::{AssetAccount, LedgerView};
use crate::domain::operation::{OperationKind, rebalance_id};
use crate::domain::reserve::{self, ReserveInput, StakePlan};
use crate::domain::time::{DAY_SECONDS, UnixSeconds};
use crate::domain::transfer::{Direction, Purpose};
use crate::store::keys;
use crate::store::records::{OperationRecord, RebalanceMark, TransferRecord, ValidatorChoice};

use super::control::Change;
use super::forecast::Outlook;
use super::metrics::{CutBy, PoolName};
use super::{App, AppError, Once, Pool, Request, Work, collect, operate, reconcile, restored, transfer};

/// The most validators with stake at once, whatever the settings and the chain allow: the ledger has an account of each,
/// and is one value of the store.
pub(super) const MAX_VALIDATORS: u32 = 48;

/// The most moves of one run, so that its operations fit a commit. The next run makes the rest.
const MAX_MOVES: usize = 200;

/// What a run would do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// How much is to move.
    pub plan: StakePlan,
    /// Between whom.
    pub allocation: Allocation,
    /// What is expected to leave.
    pub outlook: Outlook,
    /// For how long the reserve covers that.
    pub covered: Covered,
    /// The height that it was decided on.
    pub height: u64,
    /// The operations and transfers that were planned for good; empty of a plan alone.
    pub planned: Vec<String>,
}

/// What a decision rests on.
struct Grounds {
    view: LedgerView,
    observation: Observation,
    operations: Vec<OperationRecord>,
    transfers: Vec<TransferRecord>,
    choices: Vec<ValidatorChoice>,
    sent_in_a_day: BaseUnits,
}

fn broken(error: AmountError) -> AppError {
    AppError::Broken(format!("planning: {error}"))
}

/// Plans claims, withdrawals and, when it is due, a rebalance.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mark: RebalanceMark = app.read(pool.control(), &keys::rebalance_mark()).await?.unwrap_or_default();
    let state = app.pool_state(pool).await?;
    let interval = u64::from(state.settings.reserve.rebalance_interval_seconds);
    if mark.run > 0 && now.since(mark.at) < interval {
        return Ok(Work::Idle);
    }
    let Ok(observation) = pool.chain.adapter.observe().await else { return Ok(Work::Idle) };
    let work = collect::step(app, pool, &observation, now).await?;
    let mut change = Change::begin(app, pool, now).await?;
    let planned = run(app, pool, &mut change, observation).await?;
    change.commit().await?;
    Ok(if planned.planned.is_empty() { work } else { Work::Done })
}

/// Decides and plans for good.
async fn run(app: &App, pool: &Pool, change: &mut Change<'_>, observation: Observation) -> Result<Rebalance, AppError> {
    let mut mark: RebalanceMark = change.read(&keys::rebalance_mark()).await?.unwrap_or_default();
    mark = RebalanceMark { run: mark.run + 1, at: change.at() };
    change.put(keys::rebalance_mark(), &mark);
    let grounds = grounds(app, pool, change, observation).await?;
    let mut decided = decide(app, pool, &grounds, change.at()).await?;
    let plan = decided.plan.clone();
    let mut planned = Vec::new();
    for (n, step) in decided.allocation.moves.iter().enumerate() {
        let number = u32::try_from(n).unwrap_or(u32::MAX);
        let id = rebalance_id(pool.id(), &step.kind, mark.run, number);
        let id = id.map_err(|error| AppError::Broken(error.to_string()))?;
        planned.push(id.to_string());
        operate::plan(change, id, step.kind.clone(), step.reason.name())?;
    }
    app.metrics.operations_planned.inc_by(planned.len() as u64);
    tell(app, pool, &decided);
    let reason = plan.reasons.first().map_or("", |reason| reason.name());
    for (purpose, amount) in [(Purpose::Principal, plan.fund), (Purpose::HouseFloat, plan.house_float_fund)] {
        if !amount.is_zero() {
            planned.push(transfer::request_fund(change, purpose, amount, reason)?.to_string());
        }
    }
    if !plan.defund.is_zero() {
        let id = transfer::request_defund(change, pool, Purpose::Principal, plan.defund, reason)?;
        planned.push(id.to_string());
    }
    if !planned.is_empty() {
        let reasons: Vec<&str> = plan.reasons.iter().map(|reason| reason.name()).collect();
        tracing::info!(pool = %pool.id(), run = mark.run, stake_base_units = %plan.stake,
            unstake_base_units = %plan.unstake, fund_base_units = %plan.fund, defund_base_units = %plan.defund,
            moves = decided.allocation.moves.len(), ?reasons, "rebalance");
    }
    decided.planned = planned;
    Ok(decided)
}

/// Says what an operator should know of a run: what was cut, and how far the reserve goes.
fn tell(app: &App, pool: &Pool, decided: &Rebalance) {
    let name = pool.id().to_string();
    for reason in decided.plan.reasons.iter().filter(|reason| reason.is_cut()) {
        let limit = reason.name();
        tracing::warn!(pool = %pool.id(), limit, defund_base_units = %decided.plan.defund, "a limit cut what leaves");
        app.metrics.outflows_cut.get_or_create(&CutBy { pool: name.clone(), limit }).inc();
    }
    let covered = app.metrics.covered_periods.get_or_create(&PoolName { pool: name });
    covered.set(i64::from(decided.covered.periods));
}

async fn grounds(app: &App, pool: &Pool, change: &Change<'_>, observation: Observation) -> Result<Grounds, AppError> {
    let view = LedgerView::new(change.ledger().clone(), app.principal(pool)?).map_err(broken)?;
    Ok(Grounds {
        view,
        observation,
        operations: app.open_operations(pool).await?,
        transfers: app.open_transfers(pool).await?,
        choices: app.validator_choices(pool).await?,
        sent_in_a_day: app.sent_since(pool, change.at().plus(-i64::from(DAY_SECONDS))).await?,
    })
}

async fn decide(app: &App, pool: &Pool, grounds: &Grounds, now: UnixSeconds) -> Result<Rebalance, AppError> {
    let state = app.pool_state(pool).await?;
    let (reserve_settings, limits) = (&state.settings.reserve, &state.settings.allocation);
    let descriptor = &pool.chain.descriptor;
    let under_way = |wanted: fn(&OperationKind) -> Option<BaseUnits>| {
        let amounts = grounds.operations.iter().filter_map(|operation| Some(left(operation, wanted(&operation.kind)?)));
        BaseUnits::sum(amounts)
    };
    let coming = |purpose: Purpose| {
        let funds = grounds.transfers.iter().map(|record| &record.transfer);
        let funds = funds.filter(|fund| fund.direction == Direction::Fund && fund.purpose == purpose);
        BaseUnits::sum(funds.map(crate::domain::transfer::Transfer::outstanding))
    };
    let unbondings = grounds.observation.unbondings.iter().map(|entry| (entry.matures_at, entry.amount));
    let seen = BaseUnits::sum(grounds.observation.unbondings.iter().map(|entry| entry.amount)).map_err(broken)?;
    let horizon = reserve_settings.horizon_seconds;
    let due = reserve::unbonding_due(unbondings, now, descriptor.unbonding_seconds, horizon).map_err(broken)?;
    // The observation may be ahead of the books, or behind a look-up. What it no longer shows and the books still have
    // unbonding is on its way to liquid; what it shows and the books have not is counted as an open operation's. Counted
    // by the observation alone, the same need would be unstaked twice.
    let (unbonding, matured) = (AssetAccount::Unbonding, AssetAccount::Matured);
    let booked_unbonding = [unbonding, matured].map(|account| grounds.view.asset(account));
    let booked_unbonding = BaseUnits::sum(booked_unbonding).map_err(broken)?;
    let outlook = app.outlook(pool, reserve_settings).await?;
    // One more: that of what this run sends.
    let fees_due = descriptor.fee_estimate.mul_div_floor(grounds.operations.len() as u128 + 1, 1).map_err(broken)?;
    let input = ReserveInput {
        view: &grounds.view,
        forecast: outlook.expected(reserve_settings, grounds.view.principal())?,
        fees_due,
        delegating: under_way(|kind| match kind {
            OperationKind::Delegate { amount, .. } => Some(*amount),
            _ => None,
        })
        .map_err(broken)?,
        undelegating: under_way(|kind| match kind {
            OperationKind::Undelegate { amount, .. } => Some(*amount),
            _ => None,
        })
        .map_err(broken)?,
        defunding: under_way(|kind| match kind {
            OperationKind::SendToCustody { amount, .. } => Some(*amount),
            _ => None,
        })
        .map_err(broken)?,
        funds_coming: coming(Purpose::Principal).map_err(broken)?,
        house_funds_coming: coming(Purpose::HouseFloat).map_err(broken)?,
        unbonding_due: booked_unbonding.saturating_sub(seen.saturating_sub(due)),
        sent_in_a_day: grounds.sent_in_a_day,
        custody_allowed: descriptor.custody_address == reserve_settings.custody_address,
        may_stake: reconcile::fit_to_stake(app, pool, now).await? && state.paused.is_none(),
    };
    let mut plan = reserve::plan(&input, &reserve_settings.policy()).map_err(broken)?;
    if state.paused.is_some() {
        // Who leaves is covered in a pause too: stake comes back. Nothing else moves.
        (plan.fund, plan.house_float_fund, plan.defund) = (BaseUnits::ZERO, BaseUnits::ZERO, BaseUnits::ZERO);
    }
    let urgency = if plan.reserve.get() < 0 { Urgency::HouseCredit } else { Urgency::Ordinary };
    let holdings = holdings(pool, grounds, now, urgency)?;
    let request = AllocationRequest {
        target: plan.target,
        stake: plan.stake,
        unstake: plan.unstake,
        candidates: candidates(grounds),
        limits: AllocationLimits {
            max_share_bps: limits.max_share_bps,
            max_group_share_bps: limits.max_group_share_bps,
            max_commission: limits.max_commission,
            max_validators: limits
                .max_validators
                .unwrap_or(u32::MAX)
                .min(descriptor.limits.max_validators)
                .min(MAX_VALIDATORS),
            min_delegation: descriptor.limits.min_delegation,
            delegation_unit: descriptor.limits.delegation_unit,
            min_move: reserve_settings.min_move,
            redelegation: descriptor.limits.redelegation && input.may_stake,
            unbonding_room: room_of_account(pool, grounds, &holdings, now, urgency),
        },
        holdings,
    };
    let mut allocation = allocate(&request).map_err(broken)?;
    if state.paused.is_some() {
        allocation.moves.retain(|step| matches!(step.kind, OperationKind::Undelegate { .. }));
    }
    allocation.moves.truncate(MAX_MOVES);
    let covered = outlook.covered(plan.reserve)?;
    let height = grounds.observation.height;
    Ok(Rebalance { plan, allocation, outlook, covered, height, planned: Vec::new() })
}

fn candidates(grounds: &Grounds) -> Vec<Candidate> {
    let choices: BTreeMap<&ValidatorId, &ValidatorChoice> =
        grounds.choices.iter().map(|choice| (&choice.id, choice)).collect();
    let candidate = |validator: &crate::domain::validator::ChainValidator| {
        let choice = choices.get(&validator.id);
        Candidate {
            validator: validator.clone(),
            weight: choice.filter(|choice| !choice.removed).map(|choice| choice.weight),
            group: choice.and_then(|choice| choice.group.clone()),
            removed: choice.is_some_and(|choice| choice.removed),
        }
    };
    grounds.observation.validators.iter().map(candidate).collect()
}

/// What an open operation has yet to move: what the chain has moved for it is in the ledger already.
fn left(operation: &OperationRecord, amount: BaseUnits) -> BaseUnits {
    amount.saturating_sub(operation.settled)
}

/// The unbondings that pend, or are about to, where `counts` says.
fn ladder(pool: &Pool, grounds: &Grounds, now: UnixSeconds, counts: impl Fn(&ValidatorId) -> bool) -> Ladder {
    let Descriptor { unbonding_seconds, limits, .. } = &pool.chain.descriptor;
    let pending = grounds.observation.unbondings.iter().filter(|entry| counts(&entry.validator));
    let mut matures_at: Vec<UnixSeconds> = pending.map(|entry| entry.matures_at).collect();
    let planned = grounds.operations.iter().filter(|operation| {
        let undelegate = matches!(&operation.kind, OperationKind::Undelegate { validator, .. } if counts(validator));
        undelegate && operation.settled.is_zero()
    });
    let wait = i64::try_from(*unbonding_seconds).unwrap_or(i64::MAX);
    matures_at.extend(planned.map(|_| now.plus(wait)));
    Ladder { most: limits.max_unbonding_entries, matures_at, unbonding_seconds: *unbonding_seconds }
}

/// How many unbondings may be begun in all now, where the chain counts them so. Where each validator has one bucket, an
/// ordinary need leaves one of them free, unless there is no other.
fn room_of_account(
    pool: &Pool,
    grounds: &Grounds,
    holdings: &BTreeMap<ValidatorId, Holding>,
    now: UnixSeconds,
    urgency: Urgency,
) -> Option<u32> {
    let limits = &pool.chain.descriptor.limits;
    if limits.unbonding_entries_per_account {
        return Some(ladder(pool, grounds, now, |_| true).room(now, urgency));
    }
    if limits.max_unbonding_entries > 1 || urgency == Urgency::HouseCredit {
        return None;
    }
    let staked = holdings.values().filter(|holding| !holding.delegated.is_zero());
    let free = staked.clone().filter(|holding| holding.unbonding_free > 0).count();
    let room = if staked.count() <= 1 { free } else { free.saturating_sub(1) };
    Some(u32::try_from(room).unwrap_or(u32::MAX))
}

fn holdings(
    pool: &Pool,
    grounds: &Grounds,
    now: UnixSeconds,
    urgency: Urgency,
) -> Result<BTreeMap<ValidatorId, Holding>, AppError> {
    let Descriptor { limits, unbonding_seconds, unbonding_join_seconds, .. } = &pool.chain.descriptor;
    let per_account = limits.unbonding_entries_per_account;
    // What comes back later than this was begun so lately that another one becomes part of it.
    let joins = unbonding_seconds.saturating_sub(*unbonding_join_seconds);
    let joins_after = now.plus(i64::try_from(joins).unwrap_or(i64::MAX));
    let joined = grounds
        .observation
        .unbondings
        .iter()
        .filter(|entry| *unbonding_join_seconds > 0 && !entry.matured && entry.matures_at > joins_after);
    let joined: BTreeSet<&ValidatorId> = joined.map(|entry| &entry.validator).collect();
    let mut holdings: BTreeMap<ValidatorId, Holding> = BTreeMap::new();
    for (validator, delegated) in grounds.view.delegations() {
        holdings.entry(validator.clone()).or_default().delegated = delegated;
    }
    for delegation in &grounds.observation.delegations {
        if let Some(holding) = holdings.get_mut(&delegation.validator) {
            holding.redelegation_locked = delegation.redelegation_locked.min(holding.delegated);
        }
    }
    for operation in &grounds.operations {
        let (from, to, amount) = match &operation.kind {
            OperationKind::Delegate { validator, amount } => (None, Some(validator), *amount),
            OperationKind::Undelegate { validator, amount } => (Some(validator), None, *amount),
            OperationKind::Redelegate { from, to, amount } => (Some(from), Some(to), *amount),
            _ => continue,
        };
        let amount = left(operation, amount);
        if let Some(from) = from {
            let holding = holdings.entry(from.clone()).or_default();
            holding.pending_out = holding.pending_out.checked_add(amount).map_err(broken)?;
        }
        if let Some(to) = to {
            let holding = holdings.entry(to.clone()).or_default();
            holding.pending_in = holding.pending_in.checked_add(amount).map_err(broken)?;
        }
    }
    let on_chain: BTreeMap<&ValidatorId, BaseUnits> =
        grounds.observation.delegations.iter().map(|held| (&held.validator, held.amount)).collect();
    for (validator, holding) in &mut holdings {
        let here = holding.delegated.saturating_sub(holding.pending_out);
        holding.missing = here.saturating_sub(on_chain.get(validator).copied().unwrap_or_default());
        if per_account {
            (holding.unbonding_room, holding.unbonding_free) = (u32::MAX, u32::MAX);
        } else {
            let ladder = ladder(pool, grounds, now, |id| id == validator);
            (holding.unbonding_room, holding.unbonding_free) = (ladder.room(now, urgency), ladder.free());
        }
        holding.joins_unbonding = joined.contains(validator);
    }
    Ok(holdings)
}

impl App {
    /// What customers hold in a pool: the eligible total of its book.
    pub fn principal(&self, pool: &Pool) -> Result<BaseUnits, AppError> {
        let total = self.book.eligible_total(pool.number());
        total.ok_or_else(|| AppError::Broken(format!("the book has no pool {}", pool.id())))
    }

    /// What a rebalance would do now, and why. Nothing is changed.
    pub async fn plan_rebalance(&self, pool: &Pool) -> Result<Rebalance, AppError> {
        let now = self.now();
        let observation = pool.chain.adapter.observe().await?;
        let change = Change::begin(self, pool, now).await?;
        let grounds = grounds(self, pool, &change, observation).await?;
        drop(change);
        decide(self, pool, &grounds, now).await
    }

    /// Rebalances now, once.
    pub async fn rebalance(&self, request: &Request, pool: &Pool) -> Result<(Once, Option<Rebalance>), AppError> {
        let observation = pool.chain.adapter.observe().await?;
        let mut done = None;
        let once = self
            .mutate(pool, request, async |change| {
                restored::check(self, pool).await?;
                let run = done.insert(run(self, pool, change, observation).await?);
                let summary = format!("rebalanced: {} operations and transfers planned", run.planned.len());
                Ok(Note::of(format!("pools/{}", pool.id()), summary))
            })
            .await?;
        Ok((once, done))
    }
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
