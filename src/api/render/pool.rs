//! Pools and their periods.

use super::{ledger, policy, rebalance, sum};
use crate::api::parse::names;
use crate::api::show;
use crate::app::Pool;
use crate::app::query::lists::PeriodView;
use crate::app::query::{PoolView, Totals};
use crate::app::records::PeriodRecord;
use crate::domain::amount::AmountError;
use crate::domain::ids::{AssetId, PoolId};
use crate::domain::period::PeriodState;
use crate::domain::weight::SetSum;
use crate::pb::v1;

/// A pool as it is.
pub fn pool(pool: &Pool, view: &PoolView) -> Result<v1::Pool, AmountError> {
    let (record, asset) = (&pool.record, &pool.record.asset);
    let state = match (&view.state.paused, view.begun) {
        (Some(_), _) => v1::PoolState::Paused,
        (None, true) => v1::PoolState::Active,
        (None, false) => v1::PoolState::Created,
    };
    let periods = view.open_periods.iter().map(|record| period(pool.id(), asset, record, None));
    let seen = (view.chain.booked_height > 0).then_some(&view.chain);
    Ok(v1::Pool {
        name: names::show::pool(&record.id),
        chain: record.chain.to_string(),
        asset: asset.to_string(),
        decimals: record.decimals,
        simulated: record.simulated,
        state: state.into(),
        pause_reason: view.state.paused.clone().unwrap_or_default(),
        staking_address: pool.chain.descriptor.staking_address.clone(),
        custody_address: pool.chain.descriptor.custody_address.clone(),
        partition_count: u32::from(record.partitions),
        policy: Some(policy::policy(asset, &view.policy)),
        next_policy: view.next_policy.as_ref().map(|next| policy::policy(asset, &next.policy)),
        next_policy_time: view.next_policy.as_ref().map(|next| show::time(next.at)),
        settings: Some(policy::settings(asset, &view.state.settings)),
        totals: Some(totals(asset, &view.totals)),
        ledger: Some(ledger::balances(asset, &view.ledger)?),
        open_periods: periods.collect(),
        equations: view.equations.iter().map(ledger::equation).collect(),
        equations_time: Some(show::time(view.equations_at)),
        chain_height: view.chain.booked_height,
        chain_observe_time: seen.map(|mark| show::time(mark.booked_at)),
        create_time: Some(show::time(record.created_at)),
        as_of_time: Some(show::time(view.at)),
        etag: view.state.version.to_string(),
        reconciled_height: view.chain.reconciled_height,
        reconcile_time: (view.chain.reconciled_height > 0).then(|| show::time(view.chain.reconciled_at)),
        mismatch: view.chain.mismatch.clone().unwrap_or_default(),
        restored: view.state.restored.map(|restored| v1::RestoredPool {
            restore_time: Some(show::time(restored.at)),
            agreed_height: restored.agreed_height.unwrap_or(0),
        }),
    })
}

fn totals(asset: &AssetId, totals: &Totals) -> v1::PoolTotals {
    let amount = |units| Some(show::amount(asset, units));
    let rate = |rate: Option<rust_decimal::Decimal>| rate.map(|rate| rate.to_string()).unwrap_or_default();
    v1::PoolTotals {
        position_count: totals.positions,
        eligible_count: totals.earning,
        eligible_total: amount(totals.eligible_total),
        staked: amount(totals.staked),
        unbonding: amount(totals.unbonding),
        reserve: Some(show::signed_amount(asset, totals.reserve)),
        reserve_target: amount(totals.reserve_target),
        stake_target: amount(totals.stake_target),
        coverage: rate(totals.coverage),
        trailing_apr: rate(totals.trailing_apr),
        trailing_periods: totals.trailing_periods,
        rewards_total: Some(sum(asset, totals.rewards)),
        payouts_total: Some(sum(asset, totals.payouts)),
        fees_total: Some(sum(asset, totals.fees)),
        gas_float: amount(totals.gas_float),
        open_operation_count: totals.open_operations,
        needs_operator_count: totals.needs_operator,
        forecast: Some(rebalance::forecast(asset, &totals.outlook, &totals.covered)),
        weight_added: totals.adjusted.up.to_string(),
        weight_taken: totals.adjusted.down.to_string(),
        uncollected_weight: totals.uncollected.to_string(),
        slashed_total: Some(sum(asset, totals.slashed)),
        slash_receivable: amount(totals.slash_receivable),
    }
}

/// A period with what its freeze sealed.
pub fn period_view(pool: &Pool, view: &PeriodView) -> v1::Period {
    period(pool.id(), &pool.record.asset, &view.record, view.weights.as_ref())
}

fn period(pool: &PoolId, asset: &AssetId, record: &PeriodRecord, weights: Option<&SetSum>) -> v1::Period {
    let state = match record.state {
        PeriodState::Open => v1::PeriodState::Open,
        PeriodState::Frozen => v1::PeriodState::Frozen,
        PeriodState::Distributed => v1::PeriodState::Distributed,
    };
    let frozen = record.frozen.as_ref();
    v1::Period {
        name: names::show::period(pool, record.bounds.name()),
        start_time: Some(show::time(record.bounds.start)),
        end_time: Some(show::time(record.bounds.end)),
        state: state.into(),
        policy: Some(policy::policy(asset, &record.policy)),
        freeze_time: frozen.map(|frozen| show::time(frozen.at)),
        position_count: frozen.map_or(0, |frozen| frozen.positive_count),
        weight_total: frozen.map(|frozen| frozen.weight_total.to_string()).unwrap_or_default(),
        weight_added: frozen.map(|frozen| frozen.adjusted.up.to_string()).unwrap_or_default(),
        weight_taken: frozen.map(|frozen| frozen.adjusted.down.to_string()).unwrap_or_default(),
        weights_hash: weights.map(|weights| weights.hash.to_le_bytes::<32>().to_vec()).unwrap_or_default(),
    }
}
