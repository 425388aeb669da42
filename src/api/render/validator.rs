//! Validators and delegations.

use crate::api::parse::names;
use crate::api::show;
use crate::app::Pool;
use crate::app::query::stake::{DelegationView, ValidatorView};
use crate::domain::validator::ValidatorStatus;
use crate::pb::v1;

/// A validator.
pub fn validator(pool: &Pool, view: &ValidatorView) -> v1::Validator {
    let (chain, asset) = (view.chain.as_ref(), &pool.record.asset);
    let status = match chain.map(|chain| chain.status) {
        None => v1::ValidatorStatus::Unspecified,
        Some(ValidatorStatus::Active) => v1::ValidatorStatus::Active,
        Some(ValidatorStatus::Inactive) => v1::ValidatorStatus::Inactive,
        Some(ValidatorStatus::Jailed) => v1::ValidatorStatus::Jailed,
        Some(ValidatorStatus::Tombstoned) => v1::ValidatorStatus::Tombstoned,
    };
    v1::Validator {
        name: names::show::validator(pool.id(), &view.id),
        address: view.id.to_string(),
        moniker: chain.map(|chain| chain.moniker.clone()).unwrap_or_default(),
        status: status.into(),
        commission: chain.map(|chain| chain.commission.normalize().to_string()).unwrap_or_default(),
        tokens: chain.map(|chain| show::amount(asset, chain.tokens)),
        weight: view.weight,
        operator_group: view.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        listed: view.listed,
        delegated: Some(show::amount(asset, view.delegated)),
        etag: view.etag.clone(),
    }
}

/// A pool's stake with one validator.
pub fn delegation(pool: &Pool, view: &DelegationView) -> v1::Delegation {
    let amount = |units| Some(show::amount(&pool.record.asset, units));
    let unbonding = |unbonding: &crate::app::query::stake::Unbonding| v1::Unbonding {
        amount: amount(unbonding.amount),
        mature_time: Some(show::time(unbonding.matures_at)),
        matured: unbonding.matured,
    };
    v1::Delegation {
        validator: names::show::validator(pool.id(), &view.validator),
        amount: amount(view.amount),
        chain_amount: amount(view.on_chain),
        pending_reward: amount(view.pending_reward),
        redelegation_locked: amount(view.redelegation_locked),
        unbondings: view.unbondings.iter().map(unbonding).collect(),
    }
}
