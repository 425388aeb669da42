//! Small records: domain values to stored bytes and back. Protobuf inside, so that they can grow.
//!
//! Called by `app/`. A record that was written can always be read back, by this version and every later one.

mod approval;
mod audit_log;
mod distribution;
mod enrolment;
mod ledger;
mod operation;
mod period;
mod policy;
mod service;
mod slash;
mod snapshot;

use prost::Message;
use ruint::aliases::U256;

use crate::domain::amount::{BaseUnits, SignedUnits};

pub use approval::{ApprovalRecord, ApprovalState, CorrectionRecord, proposal_bytes};
pub use distribution::{
    DistributionRecord, Hold, PayoutAckRecord, PayoutSeal, Progress, RejectedPayoutRecord, TakenReceipts,
};
pub use ledger::{LedgerRecord, PostingRecord};
pub use operation::{
    CustodyReport, KeptTransaction, OperationRecord, OperatorWord, RebalanceMark, ReceiptRecord, TransferRecord,
};
pub use period::{ChainMark, Closing, FrozenFacts, PeriodRecord, StakedChange, Suspect};
pub use policy::{PolicyRecord, PoolState, Restored, ValidatorChoice};
pub use service::{PoolRecord, PutBalanceIntent, RequestRecord, SourceRecord};
pub use slash::{SlashRecord, UnbondingRecord};
pub use snapshot::{SnapshotDifferences, SnapshotRecord};

/// A stored record that can't be read: damage that the checksum did not find, or a newer version's form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored {record} can't be read: {detail}; restore the last backup or start the version that wrote it")]
pub struct RecordError {
    /// Which record.
    pub record: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

/// A value with a stored form.
pub trait Record: Sized {
    /// What it is called in messages.
    const NAME: &'static str;

    /// The stored form.
    fn encode(&self) -> Vec<u8>;

    /// The value of a stored form.
    fn decode(bytes: &[u8]) -> Result<Self, RecordError>;
}

/// Reads the protobuf message of the record `name`.
fn message<M: Message + Default>(name: &'static str, bytes: &[u8]) -> Result<M, RecordError> {
    M::decode(bytes).map_err(|error| RecordError { record: name, detail: error.to_string() })
}

/// Turns whatever is wrong with one field into a [`RecordError`].
fn field<T, E: std::fmt::Display>(name: &'static str, what: &str, value: Result<T, E>) -> Result<T, RecordError> {
    value.map_err(|error| RecordError { record: name, detail: format!("{what}: {error}") })
}

/// An amount field.
fn units(name: &'static str, what: &str, text: &str) -> Result<BaseUnits, RecordError> {
    field(name, what, text.parse())
}

/// A field of a hash.
fn hash(name: &'static str, what: &str, bytes: Vec<u8>) -> Result<[u8; 32], RecordError> {
    let length = bytes.len();
    field(name, what, bytes.try_into().map_err(|_| format!("{length} bytes where there should be 32")))
}

/// A signed amount field.
fn signed(name: &'static str, what: &str, text: &str) -> Result<SignedUnits, RecordError> {
    field(name, what, text.parse::<i128>()).map(SignedUnits::new)
}

/// A 256-bit field.
fn wide(name: &'static str, what: &str, text: &str) -> Result<U256, RecordError> {
    field(name, what, text.parse::<U256>())
}

/// A field that the message must have.
fn required<T>(name: &'static str, what: &str, value: Option<T>) -> Result<T, RecordError> {
    value.ok_or_else(|| RecordError { record: name, detail: format!("{what} is missing") })
}
