//! What the service refused, as callers see it: the one table of reasons and codes.

use std::fmt;
use std::time::Duration;

use super::status::{ApiError, Problem, Violation};
use crate::app::{AppError, Failure, Reason, Refusal};

/// After how long a caller who was too much sends again.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        let failure = match error {
            AppError::Refused(refusal) => return refusal.into(),
            ref other => other.failure(),
        };
        let message = error.to_string();
        match failure {
            Failure::Contention => Self::Contention(Problem::new("CONTENTION", message)),
            Failure::Busy => Self::Unavailable(Problem::new("STORE_BUSY", message)),
            Failure::OutcomeUnknown => {
                tracing::error!(%error, "the store failed");
                let message = "the store failed, and the outcome is unknown: send the same request again";
                Self::Unavailable(Problem::new("OUTCOME_UNKNOWN", message))
            }
            Failure::Chain => Self::Unavailable(Problem::new("CHAIN_UNAVAILABLE", message)),
            Failure::Fault => broken(&error),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, message, field, metadata } = refusal;
        let mut problem = Problem::new(reason.as_str(), message).at(field);
        problem.metadata = metadata;
        match reason {
            Reason::InvalidValue => {
                let Problem { reason, message, field, .. } = problem;
                Violation { field, reason, description: message }.into()
            }
            Reason::UnknownPool
            | Reason::UnknownAsset
            | Reason::UnknownSource
            | Reason::UnknownAccount
            | Reason::UnknownValidator
            | Reason::UnknownOperation
            | Reason::UnknownTransfer
            | Reason::UnknownPeriod
            | Reason::UnknownDistribution
            | Reason::UnknownPayout
            | Reason::UnknownApproval => Self::NotFound(problem),
            Reason::AlreadyExists | Reason::RequestIdReused | Reason::SequenceReused => Self::AlreadyExists(problem),
            Reason::OwnProposal => Self::Denied(problem),
            Reason::SnapshotTooLarge => Self::TooLarge(problem),
            Reason::Overloaded => Self::Overloaded { message: problem.message, retry_after: RETRY_AFTER },
            // The same events are taken once the period is open.
            Reason::PeriodNotOpen => Self::Unavailable(problem),
            Reason::SequenceGap
            | Reason::EventRejected
            | Reason::SnapshotPassed
            | Reason::SourceRetired
            | Reason::PeriodNotEnded
            | Reason::WrongState
            | Reason::HashMismatch
            | Reason::AckOutOfRange
            | Reason::AmountMismatch
            | Reason::EtagMismatch
            | Reason::ArchiveTooShort
            | Reason::HistoryTooLong
            | Reason::NothingToCorrect
            | Reason::PoolRestored
            | Reason::SimulationOnly => Self::Precondition(problem),
        }
    }
}

/// Our own fault: logged whole, told without its inside.
pub fn broken(error: &impl fmt::Display) -> ApiError {
    tracing::error!(%error, "the service is at fault");
    ApiError::Internal
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn every_refusal_has_its_code_and_keeps_its_figures() {
        let refusal = |reason| Refusal {
            reason,
            message: "no".to_owned(),
            field: "first_sequence",
            metadata: vec![("expected_sequence", "7".to_owned())],
        };
        for (reason, code) in [
            (Reason::UnknownAccount, Code::NotFound),
            (Reason::RequestIdReused, Code::AlreadyExists),
            (Reason::SequenceGap, Code::FailedPrecondition),
            (Reason::InvalidValue, Code::InvalidArgument),
            (Reason::OwnProposal, Code::PermissionDenied),
            (Reason::EtagMismatch, Code::FailedPrecondition),
            (Reason::Overloaded, Code::ResourceExhausted),
            (Reason::SnapshotTooLarge, Code::ResourceExhausted),
            (Reason::SnapshotPassed, Code::FailedPrecondition),
        ] {
            let error = ApiError::from(AppError::Refused(refusal(reason)));
            assert_eq!((error.code(), error.reason()), (code, reason.as_str()));
        }
        let ApiError::Precondition(gap) = ApiError::from(refusal(Reason::SequenceGap)) else { panic!("a gap") };
        assert_eq!((gap.field.as_str(), gap.metadata.len()), ("first_sequence", 1));
        assert_eq!(ApiError::from(AppError::Broken("secret".to_owned())), ApiError::Internal);
    }
}
