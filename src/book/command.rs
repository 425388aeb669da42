//! What the book is asked to do, and what it answers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::bytes::Put;
use super::compare::{SnapshotBatch, SnapshotOutcome};
use super::journal::{MAX_RECORD_BYTES, write_correction};
use super::partition::AccountHash;
use crate::domain::amount::BaseUnits;
use crate::domain::correction::Correction;
use crate::domain::eligibility::StandingChange;
use crate::domain::feed::{RejectReason, SourceCursor, SourceNumber};
use crate::domain::ids::{AccountId, AssetId};
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::UnixSeconds;

/// The most events of one batch.
pub const MAX_BATCH_EVENTS: usize = 4_096;

/// The most events of one batch, and of one group, that no pool takes: each is written down under a key of its own, with
/// the cursor that passes it.
pub const MAX_BATCH_UNKNOWN: usize = 256;

/// Where an event belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPool {
    /// The pool of this number.
    Pool(u16),
    /// No pool takes the asset; the event is rejected, and the asset kept with the rejection.
    UnknownAsset(Box<str>),
}

/// One balance event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Where it belongs.
    pub pool: EventPool,
    /// Whose balance.
    pub account: AccountId,
    /// The balance after it.
    pub balance: BaseUnits,
    /// When.
    pub at: UnixSeconds,
}

/// A batch of a source: the events from `first_sequence` on. A batch without events may bring a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// Who sends it.
    pub source: SourceNumber,
    /// The sequence of the first event, or of the next one where there are none.
    pub first_sequence: u64,
    /// The events, in order.
    pub events: Vec<FeedEvent>,
    /// After these events, everything before this moment has been said.
    pub watermark: Option<UnixSeconds>,
}

/// What became of a batch. Everything in it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsOutcome {
    /// The last durable sequence of the source.
    pub durable_sequence: u64,
    /// The events that were rejected, repeated ones included, in order of sequence.
    pub rejected: Vec<(u64, RejectReason)>,
    /// How many times were moved up to the position's last one.
    pub clamped: u64,
    /// How many reach into frozen periods.
    pub late: u64,
    /// How many were applied before, with the same body.
    pub repeated: u64,
    /// How many were applied so long ago that their bodies were not compared.
    pub already_applied: u64,
}

/// One entry of the enrolment log, fanned out: it is applied to all the positions at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Its sequence in the enrolment log, from 1.
    pub sequence: u64,
    /// The positions that it changes.
    pub changes: Vec<EnrolmentChange>,
}

/// What an enrolment changes in one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentChange {
    /// The pool's number.
    pub pool: u16,
    /// Whose standing.
    pub account: AccountId,
    /// The change.
    pub change: StandingChange,
    /// When.
    pub at: UnixSeconds,
}

/// One position that is to be another source's from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The pool's number.
    pub pool: u16,
    /// Whose position.
    pub account: AccountId,
    /// The source that owns it.
    pub from: SourceNumber,
    /// The source that is to own it.
    pub to: SourceNumber,
}

/// One entry of the log of corrections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionCorrection {
    /// The pool's number.
    pub pool: u16,
    /// Its sequence in the log of corrections, from 1.
    pub sequence: u64,
    /// Whose position.
    pub account: AccountId,
    /// What it changes.
    pub correction: Correction,
}

/// What became of a command about a period or an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodOutcome {
    /// It was done, and is durable.
    Done,
    /// It had been done before.
    AlreadyDone,
}

/// Why the book refused. Nothing of the command was done, but for [`Refusal::Storage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Sequences are missing.
    #[error("sequence {expected} is expected next")]
    Gap {
        /// The sequence that is expected.
        expected: u64,
    },
    /// A sequence that was applied comes again with another body.
    #[error("sequence {sequence} was applied with another body")]
    BodyMismatch {
        /// The sequence.
        sequence: u64,
    },
    /// The source has sent more than a snapshot knows of.
    #[error("the source has gone on to sequence {last}, past the snapshot; send a new snapshot of now")]
    SnapshotPassed {
        /// The last sequence of the source.
        last: u64,
    },
    /// An event lies in a period that is not open yet, or the pool has none: send it again later.
    #[error("pool number {pool} has no open period for an event of this time; send it again later")]
    PeriodNotOpen {
        /// The pool's number.
        pool: u16,
    },
    /// No such source was registered.
    #[error("source number {number} is not registered")]
    UnknownSource {
        /// Its number.
        number: SourceNumber,
    },
    /// The book has no such pool.
    #[error("the book has no pool number {pool}")]
    UnknownPool {
        /// Its number.
        pool: u16,
    },
    /// The batch has too many events.
    #[error("a batch has at most {limit} events")]
    BatchTooLarge {
        /// How many it may have.
        limit: usize,
    },
    /// The account has no position in the pool.
    #[error("the account has no position in pool number {pool}")]
    UnknownPosition {
        /// The pool's number.
        pool: u16,
    },
    /// The position belongs to another source than the one that was named.
    #[error("the position belongs to another source than the one it is to be handed over from")]
    NotOwner,
    /// The batch has too many events that no pool takes.
    #[error("a batch has at most {limit} events that no pool takes; send it in parts")]
    TooManyUnknown {
        /// How many it may have.
        limit: usize,
    },
    /// A period command that does not fit the pool's open periods.
    #[error("{0}")]
    Period(&'static str),
    /// The store failed and the outcome is unknown: ask again after the book was reopened.
    #[error("the outcome is unknown: {0}")]
    Storage(String),
}

impl Refusal {
    /// Whether the same command may succeed later, unchanged.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::PeriodNotOpen { .. } | Self::Storage(_))
    }
}

/// The queue has no room; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the book's queue is full; send again later")]
pub struct Overloaded;

/// An answer that is to come. Dropping it undoes nothing.
#[derive(Debug)]
pub struct Receipt<T>(pub(super) oneshot::Receiver<Result<T, Refusal>>);

impl<T> Future for Receipt<T> {
    type Output = Result<T, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = |_| Err(Refusal::Storage("the book was closed before it answered".to_owned()));
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(gone))
    }
}

/// The hash by which a repeat of an event is known, in a commit.
const HASH_BYTES: usize = 8;

/// How many bytes of a commit an event of `account` takes at most.
fn event_bytes(account: &AccountId) -> usize {
    MAX_RECORD_BYTES - AccountId::MAX_BYTES + account.as_str().len() + HASH_BYTES
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// An event made ready on the sender's side: hashed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) event: FeedEvent,
    pub(crate) body: u64,
    pub(crate) account: AccountHash,
}

#[derive(Debug)]
pub(crate) enum Command {
    Events {
        source: SourceNumber,
        first_sequence: u64,
        events: Vec<Prepared>,
        watermark: Option<UnixSeconds>,
        answer: Answer<EventsOutcome>,
    },
    Snapshot {
        batch: SnapshotBatch,
        answer: Answer<SnapshotOutcome>,
    },
    Enrolment {
        enrolment: Enrolment,
        body: u64,
        answer: Answer<EventsOutcome>,
    },
    Open {
        pool: u16,
        period: OpenPeriod,
        answer: Answer<PeriodOutcome>,
    },
    Freeze {
        pool: u16,
        index: PeriodIndex,
        answer: Answer<PeriodOutcome>,
    },
    HandOver {
        hand_over: HandOver,
        answer: Answer<PeriodOutcome>,
    },
    Correct {
        correction: PositionCorrection,
        body: u64,
        answer: Answer<EventsOutcome>,
    },
}

impl Command {
    /// How many events it brings; at least 1, so that a queue of anything is bounded.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Events { events, .. } => events.len().max(1),
            Self::Snapshot { batch, .. } => batch.balances.len().max(1),
            Self::Enrolment { enrolment, .. } => enrolment.changes.len().max(1),
            Self::Open { .. } | Self::Freeze { .. } | Self::HandOver { .. } | Self::Correct { .. } => 1,
        }
    }

    /// How many bytes of a commit its events take at most: their records, and the hashes by which repeats are known.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Events { events, .. } => events.iter().map(|event| event_bytes(&event.event.account)).sum(),
            other => other.weight() * (MAX_RECORD_BYTES + HASH_BYTES),
        }
    }

    /// How many of its events no pool takes.
    pub(crate) fn unknown(&self) -> usize {
        let of_none = |event: &&Prepared| matches!(event.event.pool, EventPool::UnknownAsset(_));
        match self {
            Self::Events { events, .. } => events.iter().filter(of_none).count(),
            _ => 0,
        }
    }

    /// Answers with a refusal.
    pub(crate) fn refuse(self, refusal: Refusal) {
        // Whoever asked may have gone; then nobody wants the answer.
        match self {
            Self::Events { answer, .. } | Self::Enrolment { answer, .. } | Self::Correct { answer, .. } => {
                drop(answer.send(Err(refusal)));
            }
            Self::Snapshot { answer, .. } => drop(answer.send(Err(refusal))),
            Self::Open { answer, .. } | Self::Freeze { answer, .. } | Self::HandOver { answer, .. } => {
                drop(answer.send(Err(refusal)));
            }
        }
    }
}

/// The hash by which a repeat of an event is known.
pub(crate) fn event_hash(event: &FeedEvent) -> u64 {
    hash_in(&event.pool, event)
}

/// The hashes of a batch from sequence `first` on, with those that its events had before their pools were there where
/// such an event was taken.
pub(crate) fn bodies_as_first_sent(
    first: u64,
    events: &[Prepared],
    cursor: &SourceCursor,
    assets: &BTreeMap<u16, AssetId>,
) -> Vec<u64> {
    let as_first_sent = |(sequence, prepared): (u64, &Prepared)| {
        let EventPool::Pool(number) = prepared.event.pool else { return prepared.body };
        let before = assets.get(&number).map(|asset| EventPool::UnknownAsset(asset.as_str().into()));
        let before = before.map(|before| hash_in(&before, &prepared.event));
        before.filter(|before| cursor.hash_of(sequence) == Some(*before)).unwrap_or(prepared.body)
    };
    (first..).zip(events).map(as_first_sent).collect()
}

fn hash_in(pool: &EventPool, event: &FeedEvent) -> u64 {
    let mut body = Vec::with_capacity(112);
    match pool {
        EventPool::Pool(number) => {
            body.u8(1);
            body.u16(*number);
        }
        // The pool may be created later: then a repeat is known by `bodies_as_first_sent`.
        EventPool::UnknownAsset(asset) => {
            body.u8(2);
            body.short_text(asset);
        }
    }
    body.short_text(event.account.as_str());
    body.u128(event.balance.get());
    body.i64(event.at.get());
    short_hash(&body)
}

pub(super) fn enrolment_hash(enrolment: &Enrolment) -> u64 {
    let mut body = Vec::with_capacity(96 * enrolment.changes.len());
    for change in &enrolment.changes {
        body.u16(change.pool);
        body.short_text(change.account.as_str());
        body.u8(change.change.set.bits());
        body.u8(change.change.clear.bits());
        body.i64(change.at.get());
    }
    short_hash(&body)
}

pub(super) fn correction_hash(command: &PositionCorrection) -> u64 {
    let mut body = Vec::with_capacity(192);
    body.u16(command.pool);
    body.short_text(command.account.as_str());
    write_correction(&command.correction, &mut body);
    short_hash(&body)
}

fn short_hash(body: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    u64::from_le_bytes(first)
}
