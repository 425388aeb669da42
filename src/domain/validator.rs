//! Validators as the chain reports them.

use rust_decimal::Decimal;

use super::amount::BaseUnits;
use super::ids::ValidatorId;

/// Whether a validator earns, and whether stake may stay with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValidatorStatus {
    /// In the active set.
    Active,
    /// Known, not in the active set, not punished.
    Inactive,
    /// Out of the set for a fault, and may come back.
    Jailed,
    /// Out of the set for ever.
    Tombstoned,
}

/// One validator at one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainValidator {
    /// Its address on the chain.
    pub id: ValidatorId,
    /// Its own name for itself, for people.
    pub moniker: String,
    /// Its status.
    pub status: ValidatorStatus,
    /// The share of rewards that it keeps, 0 to 1.
    pub commission: Decimal,
    /// Everything staked with it, by everyone.
    pub tokens: BaseUnits,
}
