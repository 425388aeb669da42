//! What the service knows of pools, as messages have it. Pure: values in, messages out.

pub mod distribution;
pub mod ledger;
pub mod operation;
pub mod policy;
pub mod pool;
pub mod rebalance;
pub mod validator;

use ruint::aliases::U256;

use crate::domain::ids::AssetId;
use crate::pb::v1;

/// A sum of amounts, which may be past the largest single one.
fn sum(asset: &AssetId, sum: U256) -> v1::Amount {
    v1::Amount { asset: asset.to_string(), base_units: sum.to_string() }
}
