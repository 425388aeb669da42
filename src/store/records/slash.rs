//! Records of slashes, and of what unbonds from each validator.

use prost::Message;

use super::{Record, RecordError, field, message, required, units};
use crate::domain::amount::BaseUnits;
use crate::domain::effect::EffectKey;
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::{TransactionId, ValidatorId};
use crate::domain::slash::Slash;
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// A slash, with what showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlashRecord {
    /// The effect; of one that reconciliation found, a name made of height and validator.
    pub key: EffectKey,
    /// The slash.
    pub slash: Slash,
    /// The chain's time; of one that reconciliation found, that of the first reading that showed it.
    pub at: UnixSeconds,
    /// The height, likewise.
    pub height: u64,
    /// Whether the chain reported it.
    pub reported: bool,
}

impl Record for SlashRecord {
    const NAME: &'static str = "slash";

    fn encode(&self) -> Vec<u8> {
        let Slash { validator, delegated, unbonding, bearer, returned } = &self.slash;
        pb::SlashRecord {
            key: Some(pb::EffectKeyRecord { transaction: self.key.transaction.to_string(), index: self.key.index }),
            validator: validator.to_string(),
            delegated: delegated.to_string(),
            unbonding: unbonding.to_string(),
            rewards_absorb: *bearer == SlashPolicy::RewardsAbsorb,
            returned: returned.to_string(),
            at: self.at.get(),
            height: self.height,
            reported: self.reported,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::SlashRecord = message(name, bytes)?;
        let key = required(name, "key", record.key)?;
        let bearer = if record.rewards_absorb { SlashPolicy::RewardsAbsorb } else { SlashPolicy::PlatformAbsorbs };
        Ok(Self {
            key: EffectKey { transaction: field(name, "key", TransactionId::new(&key.transaction))?, index: key.index },
            slash: Slash {
                validator: field(name, "validator", ValidatorId::new(&record.validator))?,
                delegated: units(name, "delegated", &record.delegated)?,
                unbonding: units(name, "unbonding", &record.unbonding)?,
                bearer,
                returned: units(name, "returned", &record.returned)?,
            },
            at: UnixSeconds::new(record.at),
            height: record.height,
            reported: record.reported,
        })
    }
}

/// What unbonds from one validator and has not matured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnbondingRecord {
    /// From whom.
    pub validator: ValidatorId,
    /// How much.
    pub amount: BaseUnits,
}

impl Record for UnbondingRecord {
    const NAME: &'static str = "unbonding";

    fn encode(&self) -> Vec<u8> {
        pb::UnbondingRecord { validator: self.validator.to_string(), base_units: self.amount.to_string() }
            .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::UnbondingRecord = message(Self::NAME, bytes)?;
        Ok(Self {
            validator: field(Self::NAME, "validator", ValidatorId::new(&record.validator))?,
            amount: units(Self::NAME, "base_units", &record.base_units)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::{ChainMark, Suspect};

    #[test]
    fn what_is_written_is_read() {
        let validator = ValidatorId::new("v").unwrap();
        let record = SlashRecord {
            key: EffectKey { transaction: TransactionId::new("t").unwrap(), index: 3 },
            slash: Slash {
                validator: validator.clone(),
                delegated: BaseUnits::MAX,
                unbonding: BaseUnits::from_u64(1),
                bearer: SlashPolicy::RewardsAbsorb,
                returned: BaseUnits::from_u64(2),
            },
            at: UnixSeconds::new(-5),
            height: 9,
            reported: true,
        };
        assert_eq!(SlashRecord::decode(&record.encode()).unwrap(), record);
        let unbonding = UnbondingRecord { validator, amount: BaseUnits::MAX };
        assert_eq!(UnbondingRecord::decode(&unbonding.encode()).unwrap(), unbonding);
        let suspect = Suspect { height: 7, at: UnixSeconds::new(8), hash: [9; 32] };
        let mark = ChainMark { slashed_height: 6, suspect: Some(suspect), ..ChainMark::default() };
        assert_eq!(ChainMark::decode(&mark.encode()).unwrap(), mark);
        assert!(!mark.settled());
        assert!(ChainMark { reconciled_height: 7, ..mark }.settled());
    }
}
