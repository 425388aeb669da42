//! The descriptor and the observation of the Hub, made of what the node says at one height. Called by the adapter of this
//! room.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rust_decimal::Decimal;

use super::reads::{Delegated, Reads, exchange_rate, validator};
use super::shares::{Decimals, ExchangeRate, ROUNDING_UNITS, base_units};
use crate::chain::{
    ChainError, ChainLimits, Delegation, Descriptor, Observation, RewardStyle, Unbonding, WithdrawStyle,
};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AssetId, ValidatorId};
use crate::domain::operation::ChainPace;
use crate::domain::time::UnixSeconds;
use crate::domain::validator::{ChainValidator, ValidatorStatus};
use crate::pb::cosmos::staking::v1beta1::{BondStatus, Params, UnbondingDelegation, Validator};

/// The Hub's decimals, for showing only: a uatom is a millionth of an ATOM.
const DECIMALS: u32 = 6;

/// Seconds of a block, about: rewards are allocated in each, and a transaction is final with the block that it stands in.
const BLOCK_SECONDS: u64 = 6;

/// What no query tells and the descriptor needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The asset's name in softstake.
    pub asset: AssetId,
    /// What a unit of gas costs, in base units.
    pub gas_price: Decimal,
    /// The gas of an ordinary transaction of ours.
    pub typical_gas: u64,
}

impl Terms {
    /// What an ordinary transaction costs, rounded up.
    fn fee(&self) -> Option<BaseUnits> {
        let fee = self.gas_price.checked_mul(Decimal::from(self.typical_gas))?.ceil();
        u128::try_from(fee).ok().and_then(|fee| BaseUnits::new(fee).ok())
    }
}

fn untrusted(what: impl std::fmt::Display) -> ChainError {
    ChainError::Untrusted(what.to_string())
}

/// What the Hub is, with the limits that it says it has now.
pub async fn descriptor(reads: &Reads, terms: &Terms) -> Result<Descriptor, ChainError> {
    let (_, params) = reads.latest().await?;
    described(reads, terms, &params)
}

fn described(reads: &Reads, terms: &Terms, params: &Params) -> Result<Descriptor, ChainError> {
    let unbonding = params.unbonding_time.filter(|time| time.seconds > 0 && time.nanos >= 0);
    let unbonding = unbonding.ok_or_else(|| untrusted("parameters without an unbonding time"))?;
    // A fraction of a second counts as a whole one: nothing matures before.
    let unbonding_seconds = unbonding.seconds.unsigned_abs().saturating_add(u64::from(unbonding.nanos > 0));
    if params.max_entries == 0 {
        return Err(untrusted("parameters that allow no unbonding"));
    }
    let fee = terms.fee().ok_or_else(|| ChainError::Refused("gas price x typical gas is no amount".to_owned()))?;
    Ok(Descriptor {
        chain: reads.chain.clone(),
        asset: terms.asset.clone(),
        decimals: DECIMALS,
        staking_address: reads.us.staking.clone(),
        custody_address: reads.us.custody.clone(),
        unbonding_seconds,
        unbonding_join_seconds: 0,
        epoch_seconds: BLOCK_SECONDS,
        reward_style: RewardStyle::ClaimPerValidator,
        withdraw_style: WithdrawStyle::Automatic,
        limits: ChainLimits {
            min_delegation: BaseUnits::from_u64(1),
            max_unbonding_entries: params.max_entries,
            unbonding_entries_per_account: false,
            redelegation: true,
            redelegation_lock_seconds: unbonding_seconds,
            max_validators: u32::MAX,
            min_claim_interval_seconds: 0,
            delegation_unit: BaseUnits::from_u64(1),
        },
        pace: ChainPace { finality_seconds: 2 * BLOCK_SECONDS, stake_move_seconds: 2 * BLOCK_SECONDS },
        fee_estimate: fee,
        rounding_units: ROUNDING_UNITS,
        simulated: false,
    })
}

/// Our whole state after the last block that the node has committed.
pub async fn observe(reads: &Reads) -> Result<Observation, ChainError> {
    let (height, _) = reads.latest().await?;
    let (header, liquid, delegations, unbondings, receiving, rewards, validators) = tokio::try_join!(
        reads.header(height),
        reads.liquid(height),
        reads.delegations(height),
        reads.unbondings(height),
        reads.receiving(height),
        reads.rewards(height),
        reads.validators(height),
    )?;
    let rates = rates(&validators)?;
    Ok(Observation {
        height,
        at: header.at,
        liquid,
        delegations: held(delegations, &rates, &receiving, &rewards)?,
        unbondings: pending(&unbondings)?,
        validators: validators.iter().map(known).collect::<Result<_, _>>()?,
    })
}

fn rates(validators: &[Validator]) -> Result<BTreeMap<ValidatorId, ExchangeRate>, ChainError> {
    let mut rates = BTreeMap::new();
    for one in validators {
        match rates.entry(validator(&one.operator_address)?) {
            Entry::Vacant(entry) => entry.insert(exchange_rate(one)?),
            Entry::Occupied(entry) => return Err(untrusted(format!("{} is listed twice", entry.key()))),
        };
    }
    Ok(rates)
}

/// Our delegations, of which the node's own reckoning has to be ours. While a redelegation to a validator has not matured,
/// nothing at all of the delegation there may be redelegated (`HasReceivingRedelegation` in `BeginRedelegation`).
fn held(
    delegations: Vec<Delegated>,
    rates: &BTreeMap<ValidatorId, ExchangeRate>,
    receiving: &[ValidatorId],
    rewards: &BTreeMap<ValidatorId, BaseUnits>,
) -> Result<Vec<Delegation>, ChainError> {
    let mut held = Vec::new();
    for Delegated { validator, shares, worth } in delegations {
        let rate = rates.get(&validator).ok_or_else(|| untrusted(format!("{validator} is no validator")))?;
        let amount = rate.worth(shares)?;
        if amount != worth {
            return Err(untrusted(format!("{shares} shares at {validator} are worth {amount}, the node says {worth}")));
        }
        let redelegation_locked = if receiving.contains(&validator) { amount } else { BaseUnits::ZERO };
        let pending_reward = rewards.get(&validator).copied().unwrap_or_default();
        if !amount.is_zero() {
            held.push(Delegation { validator, amount, pending_reward, redelegation_locked });
        }
    }
    held.sort_by(|a, b| a.validator.cmp(&b.validator));
    Ok(held)
}

/// Our unbondings in the order in which they began. None has matured: those that do are credited as the block ends.
fn pending(unbondings: &[UnbondingDelegation]) -> Result<Vec<Unbonding>, ChainError> {
    let mut found = Vec::new();
    for one in unbondings {
        let from = validator(&one.validator_address)?;
        for entry in &one.entries {
            let time = entry.completion_time.ok_or_else(|| untrusted("an unbonding that never matures"))?;
            let (amount, matures_at) = (base_units(&entry.balance)?, UnixSeconds::new(time.seconds));
            let unbonding = Unbonding { validator: from.clone(), amount, matures_at, matured: false };
            found.push((entry.creation_height, unbonding));
        }
    }
    found.sort_by_key(|(began, _)| *began);
    Ok(found.into_iter().map(|(_, unbonding)| unbonding).collect())
}

/// One validator. That it is out for ever is not told apart from jailed: it shows in neither status nor `jailed`, and a
/// validator that was tombstoned never leaves jail.
fn known(one: &Validator) -> Result<ChainValidator, ChainError> {
    let status = match (one.jailed, one.status()) {
        (true, _) => ValidatorStatus::Jailed,
        (false, BondStatus::Bonded) => ValidatorStatus::Active,
        (false, BondStatus::Unbonding | BondStatus::Unbonded) => ValidatorStatus::Inactive,
        (false, BondStatus::Unspecified) => return Err(untrusted(format!("{} has no status", one.operator_address))),
    };
    let rates = one.commission.as_ref().and_then(|commission| commission.commission_rates.as_ref());
    let rate = rates.ok_or_else(|| untrusted(format!("{} has no commission", one.operator_address)))?;
    let commission = Decimals::from_wire(&rate.rate)?.rate()?;
    if commission > Decimal::ONE {
        return Err(untrusted(format!("{} keeps {commission}", one.operator_address)));
    }
    Ok(ChainValidator {
        id: validator(&one.operator_address)?,
        moniker: one.description.as_ref().map(|description| description.moniker.clone()).unwrap_or_default(),
        status,
        commission,
        tokens: base_units(&one.tokens)?,
    })
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
