//! One batch of a source's events on its way into the book.
//!
//! It is put together, handed in whole and in order (in parts where the book takes no more at once), and answered when
//! it is durable. Several batches of one source may be on their way: what was handed in first is applied first.

use std::collections::VecDeque;

use crate::book::{
    BookError, EventBatch, EventPool, EventsOutcome, FeedEvent, MAX_BATCH_EVENTS, MAX_BATCH_UNKNOWN, Receipt,
    Refusal as BookRefusal,
};
use crate::domain::amount::BaseUnits;
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::{AccountId, AssetId};
use crate::domain::time::UnixSeconds;

use super::ingest::book_refusal;
use super::{App, AppError, Pool, Reason};

/// What became of a batch. Everything in it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedOutcome {
    /// The last durable sequence of the source.
    pub durable_sequence: u64,
    /// The events that were rejected, repeated ones included, in order of sequence.
    pub rejected: Vec<(u64, RejectReason)>,
    /// How many were accepted now, clamped and late ones included.
    pub accepted: u64,
    /// How many times were moved up to the position's last one.
    pub clamped: u64,
    /// How many reach into frozen periods.
    pub late: u64,
    /// How many were applied before, with the same body.
    pub repeated: u64,
    /// How many were applied so long ago that their bodies were not compared.
    pub already_applied: u64,
}

impl FeedOutcome {
    /// Adds what became of the next part, of `count` events from `first_sequence` on.
    fn add(&mut self, app: &App, first_sequence: u64, count: u64, part: EventsOutcome) {
        // What was applied before stands at the front of a part.
        let known = part.repeated + part.already_applied;
        let new = first_sequence.saturating_add(known);
        let rejected = part.rejected.iter().filter(|(sequence, _)| *sequence >= new).count() as u64;
        let accepted = count.saturating_sub(known).saturating_sub(rejected);
        app.metrics.events_rejected.inc_by(rejected);
        app.metrics.events_accepted.inc_by(accepted);
        self.durable_sequence = part.durable_sequence;
        self.rejected.extend(part.rejected);
        self.accepted += accepted;
        self.clamped += part.clamped;
        self.late += part.late;
        self.repeated += part.repeated;
        self.already_applied += part.already_applied;
    }
}

/// A part that was handed in.
struct HandedIn {
    first_sequence: u64,
    count: u64,
    receipt: Receipt<EventsOutcome>,
}

/// A batch of a source: events in order of sequence, without gaps, and what the source vouches for after them.
pub struct FeedBatch {
    source: SourceNumber,
    /// The sequence of the first event that was not handed in.
    next_sequence: u64,
    watermark: Option<UnixSeconds>,
    /// The pools there are, by what they stake, and whether they take balances yet.
    pools: Vec<(AssetId, u16, bool)>,
    /// What was not handed in, in parts that the book takes; empty once everything was.
    parts: VecDeque<Vec<FeedEvent>>,
    /// How many events of the last part no pool takes.
    unknown: usize,
    /// A pool of an event that takes no balances yet.
    not_yet: Option<u16>,
    handed_in: Vec<HandedIn>,
}

impl FeedBatch {
    /// An empty batch whose first event has sequence `first_sequence`.
    pub(super) fn new(app: &App, source: SourceNumber, first_sequence: u64, watermark: Option<UnixSeconds>) -> Self {
        let asset = |pool: &Pool| pool.record.asset.clone();
        let pools = app.pools().iter().map(|pool| (asset(pool), pool.number(), app.takes_balances(pool))).collect();
        let (parts, handed_in) = (VecDeque::from([Vec::new()]), Vec::new());
        Self { source, next_sequence: first_sequence, watermark, pools, parts, unknown: 0, not_yet: None, handed_in }
    }

    /// Makes room for so many events, as far as one part takes them.
    pub fn reserve(&mut self, events: usize) {
        if let Some(part) = self.parts.back_mut() {
            part.reserve_exact(events.min(MAX_BATCH_EVENTS.saturating_sub(part.len())));
        }
    }

    /// Adds the next event. An asset that no pool stakes is taken all the same: the book rejects that one event.
    pub fn push(&mut self, account: AccountId, asset: &str, balance: BaseUnits, at: UnixSeconds) {
        let pool = match self.pools.iter().find(|(of, ..)| of.as_str() == asset) {
            Some((_, number, takes)) => {
                if !takes {
                    self.not_yet = Some(*number);
                }
                EventPool::Pool(*number)
            }
            None => EventPool::UnknownAsset(asset.into()),
        };
        let unknown = usize::from(matches!(pool, EventPool::UnknownAsset(_)));
        let event = FeedEvent { pool, account, balance, at };
        match self.parts.back_mut() {
            Some(part) if part.len() < MAX_BATCH_EVENTS && self.unknown + unknown <= MAX_BATCH_UNKNOWN => {
                part.push(event);
                self.unknown += unknown;
            }
            _ => {
                self.parts.push_back(vec![event]);
                self.unknown = unknown;
            }
        }
    }

    /// Hands in as much as the book has room for. `false`: call again when it has answered something. A batch for a pool
    /// that does not know yet who may earn is refused whole: send it again in a moment.
    pub fn hand_in(&mut self, app: &App) -> Result<bool, AppError> {
        if app.book.is_closed() {
            return Err(BookError::Closed("it has failed".to_owned()).into());
        }
        if let Some(pool) = self.not_yet {
            return Err(book_refusal(BookRefusal::PeriodNotOpen { pool }));
        }
        while let Some(part) = self.parts.front() {
            let Some(room) = app.sender.room(part.len()) else { return Ok(false) };
            let Some(events) = self.parts.pop_front() else { break };
            let (first_sequence, count) = (self.next_sequence, events.len() as u64);
            let watermark = self.watermark.filter(|_| self.parts.is_empty());
            let batch = EventBatch { source: self.source, first_sequence, events, watermark };
            let receipt = room.submit_events(batch);
            self.next_sequence = first_sequence.saturating_add(count);
            self.handed_in.push(HandedIn { first_sequence, count, receipt });
        }
        Ok(true)
    }

    /// Waits until everything that was handed in is durable. Parts before a refused one are durable; sending all again
    /// repeats them.
    pub async fn durable(self, app: &App) -> Result<FeedOutcome, AppError> {
        let mut total = FeedOutcome::default();
        for HandedIn { first_sequence, count, receipt } in self.handed_in {
            let part = receipt.await.map_err(book_refusal)?;
            total.add(app, first_sequence, count, part);
        }
        Ok(total)
    }

    /// Hands everything in, or refuses, and waits until it is durable.
    pub(super) async fn enter(mut self, app: &App) -> Result<FeedOutcome, AppError> {
        if !self.hand_in(app)? {
            return Err(AppError::refused(Reason::Overloaded, "the book's queue is full; send again later"));
        }
        self.durable(app).await
    }
}
