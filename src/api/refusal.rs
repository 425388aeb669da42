//! What the service refuses or fails with, as an error of the API: one match over every reason.

use std::time::Duration;

use super::status::{ApiError, Problem};
use crate::app::{AppError, Reason, Refusal};

/// After how long a caller that was too much may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Refused(refusal) => refusal.into(),
            // Whether the change is on disk is not known to the caller: the same id tells.
            AppError::Store(_) => Self::Unavailable(Problem::new(
                "STORE_FAILED",
                "the store did not confirm the change: the outcome is unknown; send the same request again",
            )),
            AppError::Chain(_) => Self::Unavailable(Problem::new(
                "CHAIN_FAILED",
                "the chain did not answer as it should; send the same request again later",
            )),
            AppError::Record(_) | AppError::Book(_) | AppError::Broken(_) => Self::Internal,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, message, field, metadata } = refusal;
        let problem = Problem { reason: reason.as_str(), message, field: field.to_owned(), metadata };
        match reason {
            Reason::UnknownPool
            | Reason::UnknownAsset
            | Reason::UnknownSource
            | Reason::UnknownAccount
            | Reason::UnknownValidator
            | Reason::UnknownOperation
            | Reason::UnknownTransfer
            | Reason::UnknownPeriod
            | Reason::UnknownDistribution
            | Reason::UnknownPayout => Self::NotFound(problem),
            Reason::AlreadyExists | Reason::RequestIdReused | Reason::SequenceReused => Self::AlreadyExists(problem),
            Reason::SequenceGap
            | Reason::SourceRetired
            | Reason::PeriodNotEnded
            | Reason::PoolPaused
            | Reason::WrongState
            | Reason::HashMismatch
            | Reason::AckOutOfRange
            | Reason::EtagMismatch
            | Reason::AmountMismatch
            | Reason::SimulationOnly => Self::Precondition(problem),
            Reason::EventRejected | Reason::InvalidValue => {
                Self::invalid(problem.field, problem.reason, problem.message)
            }
            // The same request succeeds once the period is open.
            Reason::PeriodNotOpen => Self::Unavailable(problem),
            Reason::Overloaded => Self::Overloaded { message: problem.message, retry_after: RETRY_AFTER },
            Reason::Unimplemented => Self::Unimplemented(problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn refusals_keep_their_reason_their_field_and_their_figures() {
        let refusal = Refusal {
            reason: Reason::SequenceGap,
            message: "sequence 7 is expected next".to_owned(),
            field: "first_sequence",
            metadata: vec![("expected", "7".to_owned())],
        };
        let ApiError::Precondition(problem) = ApiError::from(refusal) else { panic!() };
        assert_eq!((problem.reason, problem.field.as_str()), ("SEQUENCE_GAP", "first_sequence"));
        assert_eq!(problem.metadata, [("expected", "7".to_owned())]);
        let invalid = ApiError::from(AppError::invalid("policy.fee_bps", "is at most 10,000"));
        assert_eq!((invalid.code(), invalid.reason()), (Code::InvalidArgument, "INVALID_VALUE"));
        assert_eq!(invalid.to_string(), "policy.fee_bps: is at most 10,000");
    }

    #[test]
    fn what_is_broken_inside_is_not_told_outside() {
        let error = ApiError::from(AppError::Broken("row 7 of /var/lib/softstake".to_owned()));
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("row 7"));
    }
}
