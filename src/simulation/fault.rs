//! What goes wrong in a world beside its chains, each under one name: the disk and the process, the ledger service, the
//! custody service, and the clock.

use crate::domain::names::stable_names;
use crate::store::model::Crash;

use super::disk::Image;

/// The group that faults are counted in.
pub(super) const FAULT: &str = "fault";

/// Something that goes wrong, beside what a chain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A commit found the store busy.
    StoreBusy,
    /// A commit failed, and the process heard of it.
    StoreFailed,
    /// The process died in a commit.
    DeathInCommit,
    /// It died between two.
    DeathBetweenCommits,
    /// It died in a commit of what the book does by itself.
    DeathInBook,
    /// It died while it started.
    DeathInRecovery,
    /// What a commit left, and what was lost beyond that.
    Left(Image, Crash),
    /// A feed left sequences out.
    FeedGap,
    /// A feed sent something else under a sequence that was acknowledged.
    FeedOtherBody,
    /// A feed sent again what was acknowledged.
    FeedAgain,
    /// Feeds came across one another.
    FeedsInterleaved,
    /// An event was of some time ago.
    EventLate,
    /// An event was of before what can be taken.
    EventTooOld,
    /// An event was of a time to come.
    EventFromFuture,
    /// An event was of an asset that no pool stakes.
    EventUnknownAsset,
    /// A balance was past what a position holds.
    EventTooLarge,
    /// An event was of a source that does not own the position.
    EventOtherSource,
    /// A request that was answered was sent again.
    RequestAgain,
    /// Another request was sent under its id.
    RequestOtherBody,
    /// An acknowledgement of payouts had a hash of its own.
    AckWrongHash,
    /// An acknowledgement went past the last payout.
    AckPastEnd,
    /// A payout was rejected.
    PayoutRejected,
    /// A snapshot had balances that nobody has told or that are not true.
    SnapshotWrong,
    /// A snapshot's last part did not come.
    SnapshotIncomplete,
    /// A snapshot was sent again.
    SnapshotAgain,
    /// Another snapshot was sent under its id.
    SnapshotOtherContent,
    /// A snapshot stood before or after its source.
    SnapshotOutOfPlace,
    /// The process died while a snapshot was being taken.
    SnapshotCutOff,
    /// Custody did nothing for a while.
    CustodyDelays,
    /// Custody sent more than was asked for.
    CustodyTooMuch,
    /// Custody sent less, and no more.
    CustodyTooLittle,
    /// Custody sent nothing.
    CustodyRejects,
    /// Custody sent once more what it had sent.
    CustodyAgain,
    /// Custody sent in several payments.
    CustodySplits,
    /// Custody acknowledged in several parts.
    CustodyAckInParts,
    /// Custody acknowledged more than there was.
    CustodyAckTooMuch,
    /// The service's clock was set back.
    ClockBack,
    /// It was set ahead.
    ClockAhead,
    /// Hours passed at once.
    ClockHours,
}

stable_names!(
    Fault,
    /// The name under which it is counted.
    fn name(self) {
        Self::StoreBusy => "disk: busy",
        Self::StoreFailed => "disk: failed, and the process heard of it",
        Self::DeathInCommit => "disk: death in a commit",
        Self::DeathBetweenCommits => "disk: death between commits",
        Self::DeathInBook => "disk: death in what the book does by itself",
        Self::DeathInRecovery => "disk: death during recovery",
        Self::Left(Image::Before, Crash::Process) => "disk: before, then the process dies",
        Self::Left(Image::Before, Crash::Power) => "disk: before, then the power fails",
        Self::Left(Image::Torn, Crash::Process) => "disk: torn, then the process dies",
        Self::Left(Image::Torn, Crash::Power) => "disk: torn, then the power fails",
        Self::Left(Image::WrittenNotSynced, Crash::Process) => "disk: written and not synced, then the process dies",
        Self::Left(Image::WrittenNotSynced, Crash::Power) => "disk: written and not synced, then the power fails",
        Self::Left(Image::SyncedNotAcknowledged, Crash::Process) => "disk: acknowledgement lost, then the process dies",
        Self::Left(Image::SyncedNotAcknowledged, Crash::Power) => "disk: acknowledgement lost, then the power fails",
        Self::FeedGap => "ledger: gap",
        Self::FeedOtherBody => "ledger: another body under a sequence",
        Self::FeedAgain => "ledger: events again",
        Self::FeedsInterleaved => "ledger: sources interleaved",
        Self::EventLate => "ledger: late event",
        Self::EventTooOld => "ledger: event too old",
        Self::EventFromFuture => "ledger: event from the future",
        Self::EventUnknownAsset => "ledger: event of an unknown asset",
        Self::EventTooLarge => "ledger: balance too large",
        Self::EventOtherSource => "ledger: event of another source",
        Self::RequestAgain => "ledger: request again",
        Self::RequestOtherBody => "ledger: another request under an id",
        Self::AckWrongHash => "ledger: acknowledgement with a wrong hash",
        Self::AckPastEnd => "ledger: acknowledgement past the end",
        Self::PayoutRejected => "ledger: payout rejected",
        Self::SnapshotWrong => "ledger: wrong snapshot",
        Self::SnapshotIncomplete => "ledger: incomplete snapshot",
        Self::SnapshotAgain => "ledger: snapshot again",
        Self::SnapshotOtherContent => "ledger: another snapshot under an id",
        Self::SnapshotOutOfPlace => "ledger: snapshot out of place",
        Self::SnapshotCutOff => "ledger: snapshot cut off by a crash",
        Self::CustodyDelays => "custody: delays",
        Self::CustodyTooMuch => "custody: sends too much",
        Self::CustodyTooLittle => "custody: sends too little",
        Self::CustodyRejects => "custody: rejects",
        Self::CustodyAgain => "custody: sends again",
        Self::CustodySplits => "custody: sends in several parts",
        Self::CustodyAckInParts => "custody: acknowledges in part",
        Self::CustodyAckTooMuch => "custody: acknowledges too much",
        Self::ClockBack => "clock: back",
        Self::ClockAhead => "clock: ahead",
        Self::ClockHours => "clock: hours",
    }
);
