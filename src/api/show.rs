//! Values of the rules, as messages have them.

use prost_types::Timestamp;

use crate::domain::amount::{BaseUnits, SignedUnits};
use crate::domain::enrolment::Decision;
use crate::domain::ids::AssetId;
use crate::domain::time::UnixSeconds;
use crate::pb::v1;

/// A time.
pub const fn time(at: UnixSeconds) -> Timestamp {
    Timestamp { seconds: at.get(), nanos: 0 }
}

/// An amount with its asset.
pub fn amount(asset: &AssetId, units: BaseUnits) -> v1::Amount {
    v1::Amount { asset: asset.to_string(), base_units: units.to_string() }
}

/// A signed amount with its asset.
pub fn signed_amount(asset: &AssetId, units: SignedUnits) -> v1::SignedAmount {
    v1::SignedAmount { asset: asset.to_string(), base_units: units.to_string() }
}

/// A decision on an enrolment.
pub const fn decision(decision: Decision) -> v1::EnrolmentDecision {
    match decision {
        Decision::OptIn => v1::EnrolmentDecision::OptIn,
        Decision::OptOut => v1::EnrolmentDecision::OptOut,
        Decision::Restrict => v1::EnrolmentDecision::Restrict,
        Decision::Unrestrict => v1::EnrolmentDecision::Unrestrict,
    }
}
