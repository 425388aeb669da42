//! Values of the rules, as messages have them.

use prost_types::Timestamp;

use super::parse::names;
use crate::domain::amount::{BaseUnits, SignedUnits};
use crate::domain::enrolment::{Decision, EnrolmentEntry};
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

/// A decision as it stands in the log.
pub fn enrolment(entry: &EnrolmentEntry) -> v1::Enrolment {
    v1::Enrolment {
        sequence: entry.sequence,
        account: entry.account.to_string(),
        pool: entry.pool.as_ref().map(names::show::pool).unwrap_or_default(),
        decision: decision(entry.decision).into(),
        effective_time: Some(time(entry.at)),
        terms_version: entry.terms_version.clone(),
        jurisdiction: entry.jurisdiction.clone(),
        reason_code: entry.reason_code.clone(),
        principal: entry.by.to_string(),
    }
}

/// A decision on an enrolment.
pub const fn decision(decision: Decision) -> v1::EnrolmentDecision {
    match decision {
        Decision::OptIn => v1::EnrolmentDecision::OptIn,
        Decision::OptOut => v1::EnrolmentDecision::OptOut,
        Decision::Restrict => v1::EnrolmentDecision::Restrict,
        Decision::Unrestrict => v1::EnrolmentDecision::Unrestrict,
        Decision::Locate => v1::EnrolmentDecision::Locate,
    }
}
