//! What a call ends with when it does not end well.

use std::collections::BTreeMap;
use std::fmt;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The domain of the server's own error reasons.
pub const ERROR_DOMAIN: &str = "softstake";

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address can't be used.
    #[error("{endpoint} is no address of a server: {problem}")]
    Endpoint {
        /// The address as it was given.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server refused. Nothing was changed.
    #[error("refused: {0}")]
    Refused(Box<Refusal>),
    /// No definite answer after the last attempt: the call may or may not have taken effect. Send the same request, with
    /// the same id, again.
    #[error("no definite answer after {attempts} attempts, the outcome is unknown; the last one ended with {last}")]
    OutcomeUnknown {
        /// How often it was tried.
        attempts: u32,
        /// How the last attempt ended.
        last: Box<Refusal>,
    },
    /// An event can't be sent as it is. Nothing was sent.
    #[error("event {index} can't be sent: {problem}")]
    Event {
        /// Its place among those given, from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What the server said contradicts what it said before. Going on would lose or repeat something.
    #[error("the server contradicts itself: {0}")]
    Contradiction(String),
}

/// A server's no, or a broken connection's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason, such as `SEQUENCE_GAP`. Empty where it is not the server's own answer.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// The path and the problem of each field at fault.
    pub fields: Vec<(String, String)>,
    /// Figures that belong to the reason.
    pub metadata: BTreeMap<String, String>,
}

impl Refusal {
    /// Whether the same request may succeed later: the server is away, busy or too slow, or the connection broke.
    pub fn is_transient(&self) -> bool {
        match self.code {
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => true,
            Code::ResourceExhausted => self.reason == "OVERLOADED",
            // The server names a reason in all its own errors: these come from a connection that broke.
            Code::Unknown | Code::Internal | Code::Cancelled => self.reason.is_empty(),
            _ => false,
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            fields: violations.iter().map(|one| (one.field.clone(), one.description.clone())).collect(),
            metadata: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        write!(f, ": {}", self.message)
    }
}
