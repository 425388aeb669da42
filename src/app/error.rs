//! The one error of this room: a refusal with a stable reason, or a failure of a room below.

use crate::book::BookError;
use crate::chain::ChainError;
use crate::domain::names::stable_names;
use crate::store::StoreError;
use crate::store::records::RecordError;

/// Why something was refused: stable, one word per cause, told to callers as the `ErrorInfo` reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No such pool.
    UnknownPool,
    /// No pool stakes this asset.
    UnknownAsset,
    /// No such source.
    UnknownSource,
    /// The account has no position there.
    UnknownAccount,
    /// No such validator.
    UnknownValidator,
    /// No such operation.
    UnknownOperation,
    /// No such transfer.
    UnknownTransfer,
    /// No such period.
    UnknownPeriod,
    /// No such distribution.
    UnknownDistribution,
    /// No such payout.
    UnknownPayout,
    /// No such approval.
    UnknownApproval,
    /// The thing to create is there already.
    AlreadyExists,
    /// The request id was used with another body.
    RequestIdReused,
    /// The feed skipped sequences.
    SequenceGap,
    /// A repeated sequence carries another body.
    SequenceReused,
    /// The event is well formed and was not accepted; it is journalled as rejected.
    EventRejected,
    /// The source was retired.
    SourceRetired,
    /// The event lies in a period that is not open yet; send it again.
    PeriodNotOpen,
    /// The period has not ended yet.
    PeriodNotEnded,
    /// The state of the thing does not allow this.
    WrongState,
    /// The hash is not the one of the distribution.
    HashMismatch,
    /// Whoever proposed it can't approve it.
    OwnProposal,
    /// The acknowledgement leaves a gap or goes past what was released.
    AckOutOfRange,
    /// The etag is not the current one.
    EtagMismatch,
    /// The events that this asks about are no longer kept.
    ArchiveTooShort,
    /// The position has more events than a correction is computed from.
    HistoryTooLong,
    /// The position held that already, or earned the same with what it held.
    NothingToCorrect,
    /// A value breaks a rule.
    InvalidValue,
    /// The amount is not the expected one.
    AmountMismatch,
    /// The source has gone on past a snapshot; a new one has to be sent.
    SnapshotPassed,
    /// Snapshots hold too much at one time.
    SnapshotTooLarge,
    /// Too much is in flight; try again later.
    Overloaded,
    /// The pool is of a restored store, and waits until ledger and chain agree and it is resumed.
    PoolRestored,
    /// Only simulated chains and clocks can do this.
    SimulationOnly,
}

stable_names!(
    Reason,
    /// The reason as it is told to callers.
    fn as_str(self) {
        Self::UnknownPool => "UNKNOWN_POOL",
        Self::UnknownAsset => "UNKNOWN_ASSET",
        Self::UnknownSource => "UNKNOWN_SOURCE",
        Self::UnknownAccount => "UNKNOWN_ACCOUNT",
        Self::UnknownValidator => "UNKNOWN_VALIDATOR",
        Self::UnknownOperation => "UNKNOWN_OPERATION",
        Self::UnknownTransfer => "UNKNOWN_TRANSFER",
        Self::UnknownPeriod => "UNKNOWN_PERIOD",
        Self::UnknownDistribution => "UNKNOWN_DISTRIBUTION",
        Self::UnknownPayout => "UNKNOWN_PAYOUT",
        Self::UnknownApproval => "UNKNOWN_APPROVAL",
        Self::AlreadyExists => "ALREADY_EXISTS",
        Self::RequestIdReused => "REQUEST_ID_REUSED",
        Self::SequenceGap => "SEQUENCE_GAP",
        Self::SequenceReused => "SEQUENCE_REUSED",
        Self::EventRejected => "EVENT_REJECTED",
        Self::SourceRetired => "SOURCE_RETIRED",
        Self::PeriodNotOpen => "PERIOD_NOT_OPEN",
        Self::PeriodNotEnded => "PERIOD_NOT_ENDED",
        Self::WrongState => "WRONG_STATE",
        Self::HashMismatch => "HASH_MISMATCH",
        Self::OwnProposal => "OWN_PROPOSAL",
        Self::AckOutOfRange => "ACK_OUT_OF_RANGE",
        Self::EtagMismatch => "ETAG_MISMATCH",
        Self::ArchiveTooShort => "ARCHIVE_TOO_SHORT",
        Self::HistoryTooLong => "HISTORY_TOO_LONG",
        Self::NothingToCorrect => "NOTHING_TO_CORRECT",
        Self::InvalidValue => "INVALID_VALUE",
        Self::AmountMismatch => "AMOUNT_MISMATCH",
        Self::SnapshotPassed => "SNAPSHOT_PASSED",
        Self::SnapshotTooLarge => "SNAPSHOT_TOO_LARGE",
        Self::Overloaded => "OVERLOADED",
        Self::PoolRestored => "POOL_RESTORED",
        Self::SimulationOnly => "SIMULATION_ONLY",
    }
);

/// A refusal: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub reason: Reason,
    /// Why, and what to do, for people.
    pub message: String,
    /// The path of the field at fault, as the request has it; empty where no single field is.
    pub field: &'static str,
    /// Figures that help to act, such as the sequence expected.
    pub metadata: Vec<(&'static str, String)>,
}

/// Whatever can go wrong in `app/`.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed; see [`StoreError`] for what is known of the outcome.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The book failed.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A chain failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A rule found the state to be one that can't be: the pool's outflows must stop.
    #[error("the books are broken: {0}")]
    Broken(String),
}

impl AppError {
    /// A refusal without a field.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::refused_in("", reason, message)
    }

    /// A refusal of which a field is the cause.
    pub fn refused_in(field: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { reason, message: message.into(), field, metadata: Vec::new() })
    }

    /// A refusal for what a field holds.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::refused_in(field, Reason::InvalidValue, message)
    }

    /// Something that other records say is there is not.
    pub fn lost(what: impl std::fmt::Display) -> Self {
        Self::Broken(format!("the store has lost the {what}; restore it from a backup (`softstake restore`)"))
    }
}

impl AppError {
    /// What a chain said when it refused for good, if that is what happened.
    pub fn chain_refusal(&self) -> Option<&str> {
        match self {
            Self::Chain(ChainError::Refused(reason)) => Some(reason),
            _ => None,
        }
    }
}

/// What kind of failure an error is, where it is no refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something else changed at the same moment; nothing was done.
    Contention,
    /// Nothing was done; the same may be tried again.
    Busy,
    /// Whether anything was done is unknown; the same has to be asked again.
    OutcomeUnknown,
    /// A chain does not answer as it should.
    Chain,
    /// A fault of softstake's own, or damage.
    Fault,
}

impl AppError {
    /// What kind of failure it is; a refusal is none, and counts as a fault here.
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Store(error) | Self::Book(BookError::Store(error)) => match error {
                StoreError::Conflict { .. } => Failure::Contention,
                StoreError::Busy(_) => Failure::Busy,
                StoreError::Fatal(_) => Failure::OutcomeUnknown,
                StoreError::Refused(_) => Failure::Fault,
            },
            Self::Book(BookError::Closed(_)) => Failure::OutcomeUnknown,
            Self::Chain(_) => Failure::Chain,
            Self::Refused(_) | Self::Record(_) | Self::Book(_) | Self::Broken(_) => Failure::Fault,
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing was due.
    Idle,
    /// Something was done, and more may follow at once.
    Done,
}

impl Work {
    /// `Done` if either did something.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Done { Self::Done } else { other }
    }
}
