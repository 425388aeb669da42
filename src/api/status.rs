//! Errors as callers see them: one gRPC code, one ErrorInfo with a stable reason, and the path of each field at fault.
//!
//! This is the only file that makes a `tonic::Status`.

use std::fmt;
use std::time::Duration;

use tonic::codegen::http::{HeaderMap, Response};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, ErrorInfo, FieldViolation, StatusExt};

/// The domain of every reason.
pub const ERROR_DOMAIN: &str = "softstake";

/// An answer travels in headers, and some clients take 8 kB of those: at most so many fields at fault are named,
const MAX_VIOLATIONS: usize = 8;

/// at most so many bytes of the message are told,
const MAX_MESSAGE_BYTES: usize = 500;

/// and at most so many of each description and figure.
const MAX_DETAIL_BYTES: usize = 250;

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path, such as `rows.events[3].balance.base_units`.
    pub field: String,
    /// What is wrong, for programs.
    pub reason: &'static str,
    /// What is wrong, for people.
    pub description: String,
}

/// What stands in the way of a request that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is, for programs.
    pub reason: &'static str,
    /// What it is and what to do, for people.
    pub message: String,
    /// The path of the field that it comes from, where one does.
    pub field: String,
    /// Figures that help to act, such as the sequence expected.
    pub metadata: Vec<(&'static str, String)>,
}

impl Problem {
    /// A problem without a field or figures.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), field: String::new(), metadata: Vec::new() }
    }

    /// With the field that it comes from.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }

    /// With one more figure.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }
}

/// Everything that an RPC can answer in place of its response. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The request itself is wrong: `INVALID_ARGUMENT`.
    Invalid(Vec<Violation>),
    /// What it names is not there: `NOT_FOUND`.
    NotFound(Problem),
    /// What it creates is there already, or its id was used for something else: `ALREADY_EXISTS`.
    AlreadyExists(Problem),
    /// The state of things does not allow it: `FAILED_PRECONDITION`.
    Precondition(Problem),
    /// Something else changed at the same moment: `ABORTED`. The same request may be sent again.
    Contention(Problem),
    /// Too much at once: `RESOURCE_EXHAUSTED`. The same request may be sent again, after a while.
    Overloaded {
        /// What there is too much of.
        message: String,
        /// After how long to send again.
        retry_after: Duration,
    },
    /// The request is more than is ever taken at once: `RESOURCE_EXHAUSTED`. It has to be cut smaller.
    TooLarge(Problem),
    /// A store or a chain did not answer: `UNAVAILABLE`. The outcome is unknown; the same request may be sent again.
    Unavailable(Problem),
    /// No answer in time: `DEADLINE_EXCEEDED`. The outcome is unknown; the same request may be sent again.
    TimedOut {
        /// How long a call may take.
        longest: Duration,
    },
    /// Not offered: `UNIMPLEMENTED`.
    Unimplemented(Problem),
    /// The caller has not shown who it is: `UNAUTHENTICATED`.
    Unauthenticated(Problem),
    /// The caller may not do this: `PERMISSION_DENIED`.
    Denied(Problem),
    /// softstake is at fault: `INTERNAL`. What it is stands in the log, under the request's id.
    Internal,
}

impl ApiError {
    /// A request at fault in one field.
    pub fn invalid(field: impl Into<String>, reason: &'static str, description: impl Into<String>) -> Self {
        Violation { field: field.into(), reason, description: description.into() }.into()
    }

    /// What is not offered in this release.
    pub fn not_offered(what: &str) -> Self {
        let message = format!("{what} is not offered by this release; its messages are final, its service follows");
        Self::Unimplemented(Problem::new("NOT_OFFERED", message))
    }

    /// The gRPC code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound(_) => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Contention(_) => Code::Aborted,
            Self::Overloaded { .. } | Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Unavailable(_) => Code::Unavailable,
            Self::TimedOut { .. } => Code::DeadlineExceeded,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Internal => Code::Internal,
        }
    }

    /// The stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(violations) => violations.first().map_or("INVALID_REQUEST", |first| first.reason),
            Self::Overloaded { .. } => "OVERLOADED",
            Self::TimedOut { .. } => "TIMED_OUT",
            Self::Internal => "INTERNAL",
            Self::NotFound(problem)
            | Self::AlreadyExists(problem)
            | Self::Precondition(problem)
            | Self::Contention(problem)
            | Self::TooLarge(problem)
            | Self::Unavailable(problem)
            | Self::Unimplemented(problem)
            | Self::Unauthenticated(problem)
            | Self::Denied(problem) => problem.reason,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(violations) => {
                for (place, violation) in violations.iter().enumerate() {
                    let between = if place == 0 { "" } else { "; " };
                    write!(f, "{between}{}: {}", violation.field, violation.description)?;
                }
                Ok(())
            }
            Self::Overloaded { message, .. } => f.write_str(message),
            Self::TimedOut { longest } => write!(
                f,
                "no answer within {} ms (limits.request_timeout_ms), and the outcome is unknown: send the same request again",
                longest.as_millis()
            ),
            Self::Internal => f.write_str("softstake is at fault; its log says more under the id of this request"),
            Self::NotFound(problem)
            | Self::AlreadyExists(problem)
            | Self::Precondition(problem)
            | Self::Contention(problem)
            | Self::TooLarge(problem)
            | Self::Unavailable(problem)
            | Self::Unimplemented(problem)
            | Self::Unauthenticated(problem)
            | Self::Denied(problem) => f.write_str(&problem.message),
        }
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// The error as a whole answer, for a call that no handler has answered.
    pub fn response<B: Default>(self) -> Response<B> {
        Status::from(self).into_http()
    }

    /// The error as what ends an answer that has begun.
    pub fn trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        // Only a message that no header can hold is refused, and its code is there all the same.
        let _ = Status::from(self).add_header(&mut trailers);
        trailers
    }
}

/// What the headers of an answer say that went wrong, if they do.
pub fn refusal_in(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

impl From<Violation> for ApiError {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (code, reason, message) = (error.code(), error.reason(), shortened(error.to_string(), MAX_MESSAGE_BYTES));
        let mut details = ErrorDetails::new();
        let mut figures: Vec<(&'static str, String)> = Vec::new();
        match error {
            ApiError::Invalid(violations) => {
                let violations = violations.into_iter().take(MAX_VIOLATIONS).map(field_violation);
                details.set_bad_request(violations.collect::<Vec<_>>());
            }
            ApiError::Overloaded { retry_after, .. } => {
                details.set_retry_info(Some(retry_after));
            }
            ApiError::Internal | ApiError::TimedOut { .. } => {}
            ApiError::NotFound(problem)
            | ApiError::AlreadyExists(problem)
            | ApiError::Precondition(problem)
            | ApiError::Contention(problem)
            | ApiError::TooLarge(problem)
            | ApiError::Unavailable(problem)
            | ApiError::Unimplemented(problem)
            | ApiError::Unauthenticated(problem)
            | ApiError::Denied(problem) => {
                if !problem.field.is_empty() {
                    let Problem { reason, message, field, .. } = &problem;
                    let violation = Violation { field: field.clone(), reason, description: message.clone() };
                    details.set_bad_request(vec![field_violation(violation)]);
                }
                figures = problem.metadata;
            }
        }
        let figures = figures.into_iter().map(|(key, value)| (key.to_owned(), shortened(value, MAX_DETAIL_BYTES)));
        let info =
            ErrorInfo { reason: reason.to_owned(), domain: ERROR_DOMAIN.to_owned(), metadata: figures.collect() };
        details.set_error_info(info.reason, info.domain, info.metadata);
        Self::with_error_details(code, message, details)
    }
}

fn field_violation(violation: Violation) -> FieldViolation {
    let mut shown = FieldViolation::new(
        shortened(violation.field, MAX_DETAIL_BYTES),
        shortened(violation.description, MAX_DETAIL_BYTES),
    );
    violation.reason.clone_into(&mut shown.reason);
    shown
}

/// The front of a text that is too long for a header.
fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(field: &str) -> Violation {
        Violation { field: field.to_owned(), reason: "AMOUNT_MALFORMED", description: "digits only".to_owned() }
    }

    #[test]
    fn a_bad_request_names_its_fields() {
        let status = Status::from(ApiError::Invalid(vec![violation("balance.base_units"), violation("b")]));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "balance.base_units: digits only; b: digits only");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("AMOUNT_MALFORMED", "softstake"));
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!((fields[0].field.as_str(), fields[0].reason.as_str()), ("balance.base_units", "AMOUNT_MALFORMED"));
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn every_error_has_its_code_and_one_reason() {
        let problem =
            || Problem::new("SEQUENCE_GAP", "sequence 7 is expected").with("expected", 7).at("first_sequence");
        let overloaded = ApiError::Overloaded { message: "full".to_owned(), retry_after: Duration::from_secs(2) };
        let all = [
            (ApiError::from(violation("a")), Code::InvalidArgument),
            (ApiError::NotFound(problem()), Code::NotFound),
            (ApiError::AlreadyExists(problem()), Code::AlreadyExists),
            (ApiError::Precondition(problem()), Code::FailedPrecondition),
            (ApiError::Contention(problem()), Code::Aborted),
            (overloaded, Code::ResourceExhausted),
            (ApiError::Unavailable(problem()), Code::Unavailable),
            (ApiError::TimedOut { longest: Duration::from_secs(1) }, Code::DeadlineExceeded),
            (ApiError::not_offered("GetPayoutProof"), Code::Unimplemented),
            (ApiError::Unauthenticated(problem()), Code::Unauthenticated),
            (ApiError::Denied(problem()), Code::PermissionDenied),
            (ApiError::Internal, Code::Internal),
        ];
        for (error, code) in all {
            let (reason, figures) = (error.reason(), error.code() == Code::FailedPrecondition);
            let status = Status::from(error);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((status.code(), info.reason.as_str()), (code, reason));
            assert!(reason.len() <= 63 && reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{reason}");
            assert!(!status.message().is_empty());
            if figures {
                assert_eq!(info.metadata["expected"], "7");
                assert_eq!(details.bad_request().unwrap().field_violations[0].field, "first_sequence");
            }
            let retries = details.retry_info().and_then(|retry| retry.retry_delay);
            assert_eq!(retries, (code == Code::ResourceExhausted).then(|| Duration::from_secs(2)));
        }
    }

    #[test]
    fn an_answer_fits_a_header() {
        let long = Violation { description: "é".repeat(5_000), ..violation("a") };
        let status = Status::from(ApiError::Invalid(vec![long; 500]));
        assert!(status.message().len() <= MAX_MESSAGE_BYTES + 3, "{}", status.message().len());
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.len(), MAX_VIOLATIONS);
        let in_headers = status.message().len() * 3 + status.details().len() * 4 / 3;
        assert!(in_headers < 7_000, "{in_headers}");
    }
}
