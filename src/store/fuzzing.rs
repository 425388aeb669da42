//! The store's readers, opened to `fuzz/`: records and keys. What was read and written again reads the same.

pub use super::sled::fuzzing::{backup, engine};

use super::keys;
use super::records::{
    ApprovalRecord, ChainMark, CorrectionRecord, CustodyReport, DistributionRecord, LedgerRecord, OperationRecord,
    PayoutAckRecord, PayoutSeal, PeriodRecord, PolicyRecord, PoolRecord, PoolState, PostingRecord, PutBalanceIntent,
    RebalanceMark, ReceiptRecord, Record, RejectedPayoutRecord, RequestRecord, SlashRecord, SnapshotDifferences,
    SnapshotRecord, SourceRecord, StakedChange, TransferRecord, UnbondingRecord, ValidatorChoice,
};
use crate::domain::audit_log::{AuditEntry, AuditHead};
use crate::domain::enrolment::{EnrolmentEntry, LogEntry};
use crate::domain::forecast::Outflow;

fn read<R: Record + PartialEq + std::fmt::Debug>(value: &[u8]) {
    let Ok(record) = R::decode(value) else { return };
    let written = record.encode();
    assert_eq!(R::decode(&written).as_ref(), Ok(&record), "what was written reads the same");
}

macro_rules! readers {
    ($($record:ty),* $(,)?) => { &[$((<$record as Record>::NAME, read::<$record>)),*] };
}

/// Reads a record, and asserts what has to hold.
pub type Reader = fn(&[u8]);

/// The reader of every kind of record, by its name.
pub const READERS: &[(&str, Reader)] = readers![
    ApprovalRecord,
    AuditEntry,
    AuditHead,
    ChainMark,
    CorrectionRecord,
    CustodyReport,
    DistributionRecord,
    EnrolmentEntry,
    LedgerRecord,
    LogEntry,
    OperationRecord,
    Outflow,
    PayoutAckRecord,
    PayoutSeal,
    PeriodRecord,
    PolicyRecord,
    PoolRecord,
    PoolState,
    PostingRecord,
    PutBalanceIntent,
    RebalanceMark,
    ReceiptRecord,
    RejectedPayoutRecord,
    RequestRecord,
    SlashRecord,
    SnapshotDifferences,
    SnapshotRecord,
    SourceRecord,
    StakedChange,
    TransferRecord,
    UnbondingRecord,
    ValidatorChoice,
];

/// Whether a key was of a kind.
pub(super) trait Found {
    fn is_found(&self) -> bool;
}

impl Found for bool {
    fn is_found(&self) -> bool {
        *self
    }
}

impl<T> Found for Option<T> {
    fn is_found(&self) -> bool {
        self.is_some()
    }
}

/// The input cut into pieces, each after its length of two bytes, of which the lower one comes first.
pub fn pieces(mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

/// Records, of which the first byte says of which kind each is.
pub fn record(input: &[u8]) {
    for piece in pieces(input) {
        let Some((kind, value)) = piece.split_first() else { continue };
        if let Some((_, read)) = READERS.get(usize::from(*kind) % READERS.len()) {
            read(value);
        }
    }
}

/// Keys. Each is of the kind that its first byte says, or of none, and lies among its kind.
pub fn key(input: &[u8]) {
    for key in pieces(input) {
        let kinds = keys::kinds(key);
        assert!(kinds.iter().eq(key.first().filter(|_| !kinds.is_empty())), "{key:02x?} reads as {kinds:02x?}");
        if let Some(tag) = kinds.first() {
            let range = keys::range_of_tag(*tag);
            assert!(range.from.as_slice() <= key && key < range.to.as_slice());
            assert!(keys::after(key).as_slice() > key);
        }
    }
}
