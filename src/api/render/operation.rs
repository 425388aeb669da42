//! Operations.

use crate::api::parse::names;
use crate::api::show;
use crate::app::Pool;
use crate::app::records::OperationRecord;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::ValidatorId;
use crate::domain::operation::{OperationAge, OperationKind, OperationState};
use crate::pb::v1;

/// The parts that a kind is shown in.
pub struct KindParts<'a> {
    /// What.
    pub kind: v1::OperationKind,
    /// At which validator, or from which.
    pub validator: Option<&'a ValidatorId>,
    /// To which.
    pub destination: Option<&'a ValidatorId>,
    /// How much.
    pub amount: Option<BaseUnits>,
}

/// A kind in its parts.
pub fn kind(kind: &OperationKind) -> KindParts<'_> {
    let (shown, validator, destination, amount) = match kind {
        OperationKind::Delegate { validator, amount } => {
            (v1::OperationKind::Delegate, Some(validator), None, Some(*amount))
        }
        OperationKind::Undelegate { validator, amount } => {
            (v1::OperationKind::Undelegate, Some(validator), None, Some(*amount))
        }
        OperationKind::Redelegate { from, to, amount } => {
            (v1::OperationKind::Redelegate, Some(from), Some(to), Some(*amount))
        }
        OperationKind::Claim { validator } => (v1::OperationKind::Claim, validator.as_ref(), None, None),
        OperationKind::Withdraw { validator } => (v1::OperationKind::Withdraw, validator.as_ref(), None, None),
        OperationKind::SendToCustody { amount, .. } => (v1::OperationKind::SendToCustody, None, None, Some(*amount)),
    };
    KindParts { kind: shown, validator, destination, amount }
}

/// The state as callers name it.
pub const fn state(state: OperationState) -> v1::OperationState {
    match state {
        OperationState::Planned => v1::OperationState::Planned,
        OperationState::Submitting => v1::OperationState::Submitting,
        OperationState::Submitted => v1::OperationState::Submitted,
        OperationState::Unknown => v1::OperationState::Unknown,
        OperationState::Confirmed => v1::OperationState::Confirmed,
        OperationState::Failed => v1::OperationState::Failed,
        OperationState::NeedsOperator => v1::OperationState::NeedsOperator,
    }
}

/// An operation with its age.
pub fn operation(pool: &Pool, record: &OperationRecord, age: OperationAge) -> v1::Operation {
    let (id, asset) = (pool.id(), &pool.record.asset);
    let KindParts { kind, validator, destination, amount } = kind(&record.kind);
    let validator_name = |validator: Option<&ValidatorId>| {
        validator.map(|validator| names::show::validator(id, validator)).unwrap_or_default()
    };
    let transfer = match &record.kind {
        OperationKind::SendToCustody { transfer, .. } => names::show::transfer(id, transfer),
        _ => String::new(),
    };
    let confirmed = record.state == OperationState::Confirmed;
    let shortfall = amount.filter(|_| confirmed).map(|_| record.kind.shortfall(record.settled));
    let expected = i64::try_from(age.expected_seconds).unwrap_or(i64::MAX);
    v1::Operation {
        name: names::show::operation(id, &record.id),
        kind: kind.into(),
        state: state(record.state).into(),
        validator: validator_name(validator),
        destination_validator: validator_name(destination),
        amount: amount.map(|amount| show::amount(asset, amount)),
        effective_amount: Some(show::amount(asset, record.settled)),
        reason: record.reason.clone(),
        transfer,
        transaction: record.signed.as_ref().map(|signed| signed.transaction.to_string()).unwrap_or_default(),
        height: record.height.unwrap_or(0),
        fee: Some(show::amount(asset, record.fee)),
        attempts: record.attempts,
        last_error: record.last_error.clone(),
        create_time: Some(show::time(record.created_at)),
        update_time: Some(show::time(record.updated_at)),
        expected_time: Some(show::time(record.since.plus(expected))),
        age_seconds: age.seconds,
        simulated: pool.record.simulated,
        overdue: age.overdue,
        shortfall: shortfall.map(|short| show::amount(asset, short)),
        next_attempt_time: (!record.state.ended()).then(|| show::time(record.next_attempt_at)),
        evidence: record.word.as_ref().map(|word| word.evidence.clone()).unwrap_or_default(),
    }
}
