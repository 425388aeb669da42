//! Plans of stake, with their reasons.

use super::operation;
use crate::api::parse::names;
use crate::api::show;
use crate::app::Pool;
use crate::app::forecast::Outlook;
use crate::app::rebalance::Rebalance;
use crate::domain::allocation::{Allocation, Binding};
use crate::domain::amount::{AmountError, BaseUnits};
use crate::domain::forecast::{CoverBound, Covered};
use crate::domain::ids::{AssetId, OperationId, TransferId, ValidatorId};
use crate::domain::ledger::{AssetAccount, LedgerView};
use crate::domain::time::UnixSeconds;
use crate::pb::v1;

/// What a rebalance does, or would do. `view` is the ledger beside it.
pub fn plan(
    pool: &Pool,
    at: UnixSeconds,
    view: &LedgerView,
    rebalance: &Rebalance,
) -> Result<v1::RebalancePlan, AmountError> {
    let (asset, plan) = (&pool.record.asset, &rebalance.plan);
    let amount = |units| Some(show::amount(asset, units));
    let parts = [AssetAccount::Unbonding, AssetAccount::Matured].map(|account| view.asset(account));
    let (operations, transfers) = moves(pool, rebalance);
    let reasons = plan.reasons.iter().map(|reason| reason.name().to_owned());
    Ok(v1::RebalancePlan {
        pool: names::show::pool(pool.id()),
        as_of_time: Some(show::time(at)),
        eligible_total: amount(view.principal()),
        delegated: amount(view.delegated()?),
        stake_target: amount(plan.target),
        reserve: Some(show::signed_amount(asset, plan.reserve)),
        reserve_target: amount(plan.reserve_target),
        unbonding_due: amount(BaseUnits::sum(parts)?),
        operations,
        transfers,
        limits: reasons.chain(rebalance.allocation.binding.iter().map(limit)).collect(),
        targets: targets(pool, view, &rebalance.allocation),
        forecast: Some(forecast(asset, &rebalance.outlook, &rebalance.covered)),
    })
}

/// What is expected to leave, and for how long the reserve covers it.
pub fn forecast(asset: &AssetId, outlook: &Outlook, covered: &Covered) -> v1::OutflowForecast {
    let bound = match covered.bound {
        CoverBound::History => v1::CoverageBound::History,
        CoverBound::Reserve => v1::CoverageBound::Reserve,
    };
    v1::OutflowForecast {
        outflow: outlook.forecast.outflow.map(|outflow| show::amount(asset, outflow)),
        percentile_bps: outlook.terms.percentile_bps,
        windows: outlook.forecast.windows,
        window_periods: u32::try_from(outlook.terms.window_periods).unwrap_or(u32::MAX),
        covered_periods: covered.periods,
        bound: bound.into(),
    }
}

/// The operations and transfers, in the order in which they are planned; with names once they are.
fn moves(pool: &Pool, rebalance: &Rebalance) -> (Vec<v1::PlannedOperation>, Vec<v1::PlannedTransfer>) {
    let (id, asset, plan) = (pool.id(), &pool.record.asset, &rebalance.plan);
    let mut planned = rebalance.planned.iter();
    let validator = |validator: Option<&ValidatorId>| {
        validator.map(|validator| names::show::validator(id, validator)).unwrap_or_default()
    };
    let mut operations = Vec::new();
    for step in &rebalance.allocation.moves {
        let parts = operation::kind(&step.kind);
        let operation = planned.next().and_then(|name| OperationId::new(name).ok());
        operations.push(v1::PlannedOperation {
            kind: parts.kind.into(),
            validator: validator(parts.validator),
            destination_validator: validator(parts.destination),
            amount: parts.amount.map(|amount| show::amount(asset, amount)),
            reason: step.reason.name().to_owned(),
            operation: operation.map(|operation| names::show::operation(id, &operation)).unwrap_or_default(),
        });
    }
    use v1::{TransferDirection as Way, TransferPurpose as Purpose};
    let wanted = [
        (Way::Fund, Purpose::Principal, plan.fund),
        (Way::Fund, Purpose::HouseFloat, plan.house_float_fund),
        (Way::Defund, Purpose::Principal, plan.defund),
    ];
    let reason = plan.reasons.first().map_or("", |reason| reason.name());
    let mut transfers = Vec::new();
    for (direction, purpose, amount) in wanted.into_iter().filter(|(_, _, amount)| !amount.is_zero()) {
        let transfer = planned.next().and_then(|name| TransferId::new(name).ok());
        transfers.push(v1::PlannedTransfer {
            direction: direction.into(),
            purpose: purpose.into(),
            amount: Some(show::amount(asset, amount)),
            reason: reason.to_owned(),
            transfer: transfer.map(|transfer| names::show::transfer(id, &transfer)).unwrap_or_default(),
        });
    }
    (operations, transfers)
}

/// A limit that binds, for people.
fn limit(binding: &Binding) -> String {
    match binding {
        Binding::NoEligibleValidator => "NO_ELIGIBLE_VALIDATOR".to_owned(),
        Binding::ValidatorShare(id) => format!("MAX_SHARE {id}"),
        Binding::GroupShare(group) => format!("MAX_GROUP_SHARE {group}"),
        Binding::LosesStake(id) => format!("LOSES_STAKE {id}"),
        Binding::MaxValidators => "MAX_VALIDATORS".to_owned(),
        Binding::MinDelegation => "MIN_DELEGATION".to_owned(),
        Binding::MinMove => "MIN_MOVE".to_owned(),
        Binding::UnbondingEntries(id) => format!("UNBONDING_ENTRIES {id}"),
        Binding::UnbondingEntriesOfAccount => "UNBONDING_ENTRIES".to_owned(),
        Binding::RedelegationLocked(id) => format!("REDELEGATION_LOCKED {id}"),
        Binding::NothingLeft => "NOTHING_LEFT".to_owned(),
    }
}

fn targets(pool: &Pool, view: &LedgerView, allocation: &Allocation) -> Vec<v1::ValidatorTarget> {
    let mut rows: std::collections::BTreeMap<&ValidatorId, (BaseUnits, BaseUnits)> = Default::default();
    for (validator, delegated) in view.delegations() {
        rows.entry(validator).or_default().0 = delegated;
    }
    for (validator, target) in &allocation.result {
        rows.entry(validator).or_default().1 = *target;
    }
    let reason = |id: &ValidatorId| {
        let touches = |parts: &operation::KindParts<'_>| parts.validator == Some(id) || parts.destination == Some(id);
        let step = allocation.moves.iter().find(|step| touches(&operation::kind(&step.kind)));
        match step {
            _ if allocation.binding.contains(&Binding::ValidatorShare(id.clone())) => "MAX_SHARE",
            Some(step) => step.reason.name(),
            None => "AS_WEIGHTED",
        }
    };
    let row = |(id, (delegated, target)): (&ValidatorId, (BaseUnits, BaseUnits))| v1::ValidatorTarget {
        validator: names::show::validator(pool.id(), id),
        delegated: Some(show::amount(&pool.record.asset, delegated)),
        target: Some(show::amount(&pool.record.asset, target)),
        reason: reason(id).to_owned(),
    };
    rows.into_iter().map(row).collect()
}
