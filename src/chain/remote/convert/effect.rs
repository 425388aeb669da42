//! What a chain did to our addresses.

use super::{Malformed, Read, amount, each, operation_id, required, transaction_id, transfer, validator};
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::time::UnixSeconds;
use crate::pb::adapter::v1 as pb;
use crate::pb::adapter::v1::effect::Kind;

/// Reads a page of the effects with `from < height <= to`, in chain order.
pub(in crate::chain::remote) fn effects(effects: Vec<pb::Effect>, from: u64, to: u64) -> Read<Vec<Effect>> {
    let effects = each("effects", effects, effect)?;
    let mut last = from;
    for (at, effect) in effects.iter().enumerate() {
        if effect.height <= from || effect.height > to || effect.height < last {
            let problem = format!("{} is not within {last} and {to}, in chain order", effect.height);
            return Err(Malformed::new(&format!("effects[{at}].height"), problem));
        }
        last = effect.height;
    }
    Ok(effects)
}

fn key(key: pb::EffectKey) -> Read<EffectKey> {
    Ok(EffectKey { transaction: transaction_id("transaction", &key.transaction)?, index: key.index })
}

/// A reward's time: not empty and not backwards.
fn earned(from: i64, to: i64) -> Read<(UnixSeconds, UnixSeconds)> {
    if from > to {
        return Err(Malformed::new("earned_to_seconds", "is before its beginning"));
    }
    Ok((UnixSeconds::new(from), UnixSeconds::new(to)))
}

pub(super) fn effect(effect: pb::Effect) -> Read<Effect> {
    let of_ours = effect.operation_id.as_deref().map(operation_id).transpose()?;
    Ok(Effect {
        key: required("key", effect.key, key)?,
        height: effect.height,
        at: UnixSeconds::new(effect.at_seconds),
        operation: of_ours,
        kind: kind(effect.kind.ok_or_else(|| Malformed::new("kind", "is missing"))?)?,
    })
}

fn kind(kind: Kind) -> Read<EffectKind> {
    let units = |text: &str| amount("amount_base_units", text);
    let memo = |text: Option<String>| text.as_deref().map(|text| transfer("transfer", text)).transpose();
    let who = |text: &str| validator("validator", text);
    let (around, read) = match kind {
        Kind::TransferIn(it) => (
            "transfer_in",
            memo(it.transfer)
                .and_then(|transfer| Ok(EffectKind::TransferIn { transfer, amount: units(&it.amount_base_units)? })),
        ),
        Kind::TransferOut(it) => (
            "transfer_out",
            memo(it.transfer)
                .and_then(|transfer| Ok(EffectKind::TransferOut { transfer, amount: units(&it.amount_base_units)? })),
        ),
        Kind::Delegated(it) => (
            "delegated",
            who(&it.validator)
                .and_then(|validator| Ok(EffectKind::Delegated { validator, amount: units(&it.amount_base_units)? })),
        ),
        Kind::Undelegated(it) => (
            "undelegated",
            who(&it.validator).and_then(|validator| {
                let matures_at = UnixSeconds::new(it.matures_at_seconds);
                Ok(EffectKind::Undelegated { validator, amount: units(&it.amount_base_units)?, matures_at })
            }),
        ),
        Kind::Redelegated(it) => (
            "redelegated",
            validator("from", &it.from).and_then(|from| {
                let to = validator("to", &it.to)?;
                Ok(EffectKind::Redelegated { from, to, amount: units(&it.amount_base_units)? })
            }),
        ),
        Kind::Matured(it) => (
            "matured",
            who(&it.validator)
                .and_then(|validator| Ok(EffectKind::Matured { validator, amount: units(&it.amount_base_units)? })),
        ),
        Kind::Withdrawn(it) => {
            ("withdrawn", units(&it.amount_base_units).map(|amount| EffectKind::Withdrawn { amount }))
        }
        Kind::RewardPaid(it) => (
            "reward_paid",
            it.validator.as_deref().map(who).transpose().and_then(|validator| {
                let (earned_from, earned_to) = earned(it.earned_from_seconds, it.earned_to_seconds)?;
                Ok(EffectKind::RewardPaid { validator, amount: units(&it.amount_base_units)?, earned_from, earned_to })
            }),
        ),
        Kind::RewardCompounded(it) => (
            "reward_compounded",
            who(&it.validator).and_then(|validator| {
                let (earned_from, earned_to) = earned(it.earned_from_seconds, it.earned_to_seconds)?;
                let amount = units(&it.amount_base_units)?;
                Ok(EffectKind::RewardCompounded { validator, amount, earned_from, earned_to })
            }),
        ),
        Kind::FeePaid(it) => ("fee_paid", units(&it.amount_base_units).map(|amount| EffectKind::FeePaid { amount })),
        Kind::Slashed(it) => (
            "slashed",
            who(&it.validator).and_then(|validator| {
                let delegated = amount("delegated_base_units", &it.delegated_base_units)?;
                let unbonding = amount("unbonding_base_units", &it.unbonding_base_units)?;
                Ok(EffectKind::Slashed { validator, delegated, unbonding })
            }),
        ),
        Kind::SlashReversed(it) => (
            "slash_reversed",
            required("slash", it.slash, key).and_then(|slash| {
                let validator = who(&it.validator)?;
                let delegated = amount("delegated_base_units", &it.delegated_base_units)?;
                let unbonding = amount("unbonding_base_units", &it.unbonding_base_units)?;
                Ok(EffectKind::SlashReversed { slash, validator, delegated, unbonding })
            }),
        ),
    };
    read.map_err(|malformed| malformed.within(around))
}

fn write_key(key: &EffectKey) -> pb::EffectKey {
    pb::EffectKey { transaction: key.transaction.to_string(), index: key.index }
}

/// Effects as messages.
pub(in crate::chain::remote) fn write_effects(effects: &[Effect]) -> Vec<pb::Effect> {
    let write = |effect: &Effect| pb::Effect {
        key: Some(write_key(&effect.key)),
        height: effect.height,
        at_seconds: effect.at.get(),
        operation_id: effect.operation.as_ref().map(ToString::to_string),
        kind: Some(write_kind(&effect.kind)),
    };
    effects.iter().map(write).collect()
}

fn write_kind(kind: &EffectKind) -> Kind {
    match kind {
        EffectKind::TransferIn { transfer, amount } => Kind::TransferIn(pb::TransferIn {
            transfer: transfer.as_ref().map(ToString::to_string),
            amount_base_units: amount.to_string(),
        }),
        EffectKind::TransferOut { transfer, amount } => Kind::TransferOut(pb::TransferOut {
            transfer: transfer.as_ref().map(ToString::to_string),
            amount_base_units: amount.to_string(),
        }),
        EffectKind::Delegated { validator, amount } => {
            Kind::Delegated(pb::Delegated { validator: validator.to_string(), amount_base_units: amount.to_string() })
        }
        EffectKind::Undelegated { validator, amount, matures_at } => Kind::Undelegated(pb::Undelegated {
            validator: validator.to_string(),
            amount_base_units: amount.to_string(),
            matures_at_seconds: matures_at.get(),
        }),
        EffectKind::Redelegated { from, to, amount } => Kind::Redelegated(pb::Redelegated {
            from: from.to_string(),
            to: to.to_string(),
            amount_base_units: amount.to_string(),
        }),
        EffectKind::Matured { validator, amount } => {
            Kind::Matured(pb::Matured { validator: validator.to_string(), amount_base_units: amount.to_string() })
        }
        EffectKind::Withdrawn { amount } => Kind::Withdrawn(pb::Withdrawn { amount_base_units: amount.to_string() }),
        EffectKind::RewardPaid { validator, amount, earned_from, earned_to } => Kind::RewardPaid(pb::RewardPaid {
            validator: validator.as_ref().map(ToString::to_string),
            amount_base_units: amount.to_string(),
            earned_from_seconds: earned_from.get(),
            earned_to_seconds: earned_to.get(),
        }),
        EffectKind::RewardCompounded { validator, amount, earned_from, earned_to } => {
            Kind::RewardCompounded(pb::RewardCompounded {
                validator: validator.to_string(),
                amount_base_units: amount.to_string(),
                earned_from_seconds: earned_from.get(),
                earned_to_seconds: earned_to.get(),
            })
        }
        EffectKind::FeePaid { amount } => Kind::FeePaid(pb::FeePaid { amount_base_units: amount.to_string() }),
        EffectKind::Slashed { validator, delegated, unbonding } => Kind::Slashed(pb::Slashed {
            validator: validator.to_string(),
            delegated_base_units: delegated.to_string(),
            unbonding_base_units: unbonding.to_string(),
        }),
        EffectKind::SlashReversed { slash, validator, delegated, unbonding } => {
            Kind::SlashReversed(pb::SlashReversed {
                slash: Some(write_key(slash)),
                validator: validator.to_string(),
                delegated_base_units: delegated.to_string(),
                unbonding_base_units: unbonding.to_string(),
            })
        }
    }
}
