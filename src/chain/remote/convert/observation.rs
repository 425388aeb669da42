//! Everything about the staking address at one height.

use std::collections::BTreeSet;

use super::{Malformed, Read, amount, each, share, validator};
use crate::chain::{Delegation, Observation, Unbonding};
use crate::domain::ids::ValidatorId;
use crate::domain::time::UnixSeconds;
use crate::domain::validator::{ChainValidator, ValidatorStatus};
use crate::pb::adapter::v1 as pb;

/// The longest name that a validator has for itself, in bytes.
const MAX_MONIKER_BYTES: usize = 256;

/// Reads it, and holds it against clause O1 as far as it can by itself.
pub(in crate::chain::remote) fn observation(answer: pb::ObserveResponse) -> Read<Observation> {
    let observation = Observation {
        height: answer.height,
        at: UnixSeconds::new(answer.at_seconds),
        liquid: amount("liquid_base_units", &answer.liquid_base_units)?,
        delegations: each("delegations", answer.delegations, delegation)?,
        unbondings: each("unbondings", answer.unbondings, unbonding)?,
        validators: each("validators", answer.validators, chain_validator)?,
    };
    let mut known: BTreeSet<&ValidatorId> = BTreeSet::new();
    for (at, one) in observation.validators.iter().enumerate() {
        if !known.insert(&one.id) {
            return Err(Malformed::new(&format!("validators[{at}].id"), format!("{} stands there twice", one.id)));
        }
    }
    let mut seen: BTreeSet<&ValidatorId> = BTreeSet::new();
    for (at, one) in observation.delegations.iter().enumerate() {
        let path = format!("delegations[{at}].validator");
        if !known.contains(&one.validator) {
            return Err(Malformed::new(&path, format!("{} is not among the validators", one.validator)));
        }
        if !seen.insert(&one.validator) {
            return Err(Malformed::new(&path, format!("{} stands there twice", one.validator)));
        }
    }
    Ok(observation)
}

fn delegation(one: pb::Delegation) -> Read<Delegation> {
    let delegation = Delegation {
        validator: validator("validator", &one.validator)?,
        amount: amount("amount_base_units", &one.amount_base_units)?,
        pending_reward: amount("pending_reward_base_units", &one.pending_reward_base_units)?,
        redelegation_locked: amount("redelegation_locked_base_units", &one.redelegation_locked_base_units)?,
    };
    if delegation.amount.is_zero() && delegation.pending_reward.is_zero() {
        return Err(Malformed::new("amount_base_units", "is zero, and nothing is pending"));
    }
    if delegation.redelegation_locked > delegation.amount {
        return Err(Malformed::new("redelegation_locked_base_units", "is more than the amount"));
    }
    Ok(delegation)
}

fn unbonding(one: pb::Unbonding) -> Read<Unbonding> {
    let unbonding = Unbonding {
        validator: validator("validator", &one.validator)?,
        amount: amount("amount_base_units", &one.amount_base_units)?,
        matures_at: UnixSeconds::new(one.matures_at_seconds),
        matured: one.matured,
    };
    if unbonding.amount.is_zero() {
        return Err(Malformed::new("amount_base_units", "is zero"));
    }
    Ok(unbonding)
}

fn chain_validator(one: pb::Validator) -> Read<ChainValidator> {
    let status = match one.status() {
        pb::ValidatorStatus::Active => ValidatorStatus::Active,
        pb::ValidatorStatus::Inactive => ValidatorStatus::Inactive,
        pb::ValidatorStatus::Jailed => ValidatorStatus::Jailed,
        pb::ValidatorStatus::Tombstoned => ValidatorStatus::Tombstoned,
        pb::ValidatorStatus::Unspecified => return Err(Malformed::new("status", "is not said")),
    };
    if one.moniker.len() > MAX_MONIKER_BYTES {
        return Err(Malformed::new("moniker", "is longer than 256 bytes"));
    }
    Ok(ChainValidator {
        id: validator("id", &one.id)?,
        status,
        commission: share("commission", &one.commission)?,
        tokens: amount("tokens_base_units", &one.tokens_base_units)?,
        moniker: one.moniker,
    })
}

/// The same as a message.
pub(in crate::chain::remote) fn write_observation(observation: &Observation) -> pb::ObserveResponse {
    let delegation = |one: &Delegation| pb::Delegation {
        validator: one.validator.to_string(),
        amount_base_units: one.amount.to_string(),
        pending_reward_base_units: one.pending_reward.to_string(),
        redelegation_locked_base_units: one.redelegation_locked.to_string(),
    };
    let unbonding = |one: &Unbonding| pb::Unbonding {
        validator: one.validator.to_string(),
        amount_base_units: one.amount.to_string(),
        matures_at_seconds: one.matures_at.get(),
        matured: one.matured,
    };
    let validator = |one: &ChainValidator| {
        let status = match one.status {
            ValidatorStatus::Active => pb::ValidatorStatus::Active,
            ValidatorStatus::Inactive => pb::ValidatorStatus::Inactive,
            ValidatorStatus::Jailed => pb::ValidatorStatus::Jailed,
            ValidatorStatus::Tombstoned => pb::ValidatorStatus::Tombstoned,
        };
        pb::Validator {
            id: one.id.to_string(),
            moniker: one.moniker.clone(),
            status: status.into(),
            commission: one.commission.to_string(),
            tokens_base_units: one.tokens.to_string(),
        }
    };
    pb::ObserveResponse {
        height: observation.height,
        at_seconds: observation.at.get(),
        liquid_base_units: observation.liquid.to_string(),
        delegations: observation.delegations.iter().map(delegation).collect(),
        unbondings: observation.unbondings.iter().map(unbonding).collect(),
        validators: observation.validators.iter().map(validator).collect(),
    }
}
