//! What a chain is.

use super::{Malformed, Read, address, amount, name, required};
use crate::chain::{ChainLimits, Descriptor, RewardStyle, WithdrawStyle};
use crate::domain::ids::{AssetId, ChainId};
use crate::domain::operation::ChainPace;
use crate::pb::adapter::v1 as pb;

/// The most decimals that an asset is shown with.
const MAX_DECIMALS: u32 = 38;

/// Reads it, and holds it against clause D1.
pub(in crate::chain::remote) fn descriptor(answer: pb::GetDescriptorResponse) -> Read<Descriptor> {
    let reward_style = match answer.reward_style() {
        pb::RewardStyle::ClaimPerValidator => RewardStyle::ClaimPerValidator,
        pb::RewardStyle::ClaimPerAccount => RewardStyle::ClaimPerAccount,
        pb::RewardStyle::Compounding => RewardStyle::Compounding,
        pb::RewardStyle::Unspecified => return Err(Malformed::new("reward_style", "is not said")),
    };
    let withdraw_style = match answer.withdraw_style() {
        pb::WithdrawStyle::Automatic => WithdrawStyle::Automatic,
        pb::WithdrawStyle::PerAccount => WithdrawStyle::PerAccount,
        pb::WithdrawStyle::PerValidator => WithdrawStyle::PerValidator,
        pb::WithdrawStyle::Unspecified => return Err(Malformed::new("withdraw_style", "is not said")),
    };
    let descriptor = Descriptor {
        chain: name("chain", &answer.chain, ChainId::new)?,
        asset: name("asset", &answer.asset, AssetId::new)?,
        decimals: answer.decimals,
        staking_address: address("staking_address", answer.staking_address)?,
        custody_address: address("custody_address", answer.custody_address)?,
        unbonding_seconds: answer.unbonding_seconds,
        unbonding_join_seconds: answer.unbonding_join_seconds,
        epoch_seconds: answer.epoch_seconds,
        reward_style,
        withdraw_style,
        limits: required("limits", answer.limits, limits)?,
        pace: ChainPace { finality_seconds: answer.finality_seconds, stake_move_seconds: answer.stake_move_seconds },
        fee_estimate: amount("fee_estimate_base_units", &answer.fee_estimate_base_units)?,
        rounding_units: amount("rounding_base_units", &answer.rounding_base_units)?,
        simulated: answer.simulated,
    };
    sane(&descriptor)?;
    Ok(descriptor)
}

fn sane(descriptor: &Descriptor) -> Read<()> {
    let limits = &descriptor.limits;
    let rules = [
        (descriptor.staking_address != descriptor.custody_address, "custody_address", "is the staking address too"),
        (descriptor.decimals <= MAX_DECIMALS, "decimals", "are more than 38"),
        (descriptor.epoch_seconds > 0, "epoch_seconds", "is zero"),
        (limits.max_unbonding_entries > 0, "limits.max_unbonding_entries", "is zero"),
        (limits.max_validators > 0, "limits.max_validators", "is zero"),
        (!limits.delegation_unit.is_zero(), "limits.delegation_unit_base_units", "is zero"),
    ];
    match rules.iter().find(|(holds, ..)| !holds) {
        Some((_, path, problem)) => Err(Malformed::new(path, problem)),
        None => Ok(()),
    }
}

fn limits(limits: pb::Limits) -> Read<ChainLimits> {
    Ok(ChainLimits {
        min_delegation: amount("min_delegation_base_units", &limits.min_delegation_base_units)?,
        max_unbonding_entries: limits.max_unbonding_entries,
        unbonding_entries_per_account: limits.unbonding_entries_per_account,
        redelegation: limits.redelegation,
        redelegation_lock_seconds: limits.redelegation_lock_seconds,
        max_validators: limits.max_validators,
        min_claim_interval_seconds: limits.min_claim_interval_seconds,
        delegation_unit: amount("delegation_unit_base_units", &limits.delegation_unit_base_units)?,
    })
}

/// The same as a message.
pub(in crate::chain::remote) fn write_descriptor(descriptor: &Descriptor) -> pb::GetDescriptorResponse {
    let limits = &descriptor.limits;
    let reward_style = match descriptor.reward_style {
        RewardStyle::ClaimPerValidator => pb::RewardStyle::ClaimPerValidator,
        RewardStyle::ClaimPerAccount => pb::RewardStyle::ClaimPerAccount,
        RewardStyle::Compounding => pb::RewardStyle::Compounding,
    };
    let withdraw_style = match descriptor.withdraw_style {
        WithdrawStyle::Automatic => pb::WithdrawStyle::Automatic,
        WithdrawStyle::PerAccount => pb::WithdrawStyle::PerAccount,
        WithdrawStyle::PerValidator => pb::WithdrawStyle::PerValidator,
    };
    pb::GetDescriptorResponse {
        chain: descriptor.chain.to_string(),
        asset: descriptor.asset.to_string(),
        decimals: descriptor.decimals,
        staking_address: descriptor.staking_address.clone(),
        custody_address: descriptor.custody_address.clone(),
        unbonding_seconds: descriptor.unbonding_seconds,
        unbonding_join_seconds: descriptor.unbonding_join_seconds,
        epoch_seconds: descriptor.epoch_seconds,
        reward_style: reward_style.into(),
        withdraw_style: withdraw_style.into(),
        limits: Some(pb::Limits {
            min_delegation_base_units: limits.min_delegation.to_string(),
            max_unbonding_entries: limits.max_unbonding_entries,
            unbonding_entries_per_account: limits.unbonding_entries_per_account,
            redelegation: limits.redelegation,
            redelegation_lock_seconds: limits.redelegation_lock_seconds,
            max_validators: limits.max_validators,
            min_claim_interval_seconds: limits.min_claim_interval_seconds,
            delegation_unit_base_units: limits.delegation_unit.to_string(),
        }),
        finality_seconds: descriptor.pace.finality_seconds,
        stake_move_seconds: descriptor.pace.stake_move_seconds,
        fee_estimate_base_units: descriptor.fee_estimate.to_string(),
        rounding_base_units: descriptor.rounding_units.to_string(),
        simulated: descriptor.simulated,
    }
}
