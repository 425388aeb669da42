//! The way into the book's queue, whose room is bounded in commands and in events.
//!
//! Who has [`Room`] has it to himself, so that a batch is given away only where it is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::command::{
    Command, Enrolment, EventBatch, EventPool, EventsOutcome, FeedEvent, HandOver, MAX_BATCH_EVENTS, MAX_BATCH_UNKNOWN,
    Overloaded, PeriodOutcome, PositionCorrection, Prepared, Receipt, Refusal, correction_hash, enrolment_hash,
    event_hash,
};
use super::compare::{SnapshotBatch, SnapshotOutcome};
use super::partition::AccountHash;
use crate::domain::period::{OpenPeriod, PeriodIndex};

/// The way into the book's queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BookSender {
    pub(crate) queue: mpsc::Sender<Command>,
    pub(crate) queued: Arc<AtomicUsize>,
    pub(crate) limit: usize,
}

impl BookSender {
    /// Room in the queue for so many events; `None` where there is none now. Nobody else gets it meanwhile.
    pub fn room(&self, events: usize) -> Option<Room<'_>> {
        let room = self.place(events)?;
        let before = room.queued_before;
        // One command may always wait, however large.
        (before == 0 || before.saturating_add(events.max(1)) <= self.limit).then_some(room)
    }

    /// A place among the commands, however many events wait: what concerns periods is never held up by a busy feed.
    fn place(&self, events: usize) -> Option<Room<'_>> {
        let permit = self.queue.try_reserve().ok()?;
        let weight = events.max(1);
        let queued_before = self.queued.fetch_add(weight, Ordering::Relaxed);
        Some(Room { permit, queued_before, taken: Taken { queued: &self.queued, weight } })
    }

    /// Hands in a batch of events.
    pub fn submit_events(&self, batch: EventBatch) -> Result<Receipt<EventsOutcome>, Overloaded> {
        let room = self.room(batch.events.len()).ok_or(Overloaded)?;
        Ok(room.submit_events(batch))
    }

    /// Hands in balances of a snapshot, at most [`MAX_BATCH_EVENTS`].
    pub fn submit_snapshot(&self, batch: SnapshotBatch) -> Result<Receipt<SnapshotOutcome>, Overloaded> {
        let room = self.room(batch.balances.len()).ok_or(Overloaded)?;
        Ok(room.submit_snapshot(batch))
    }

    /// Hands in an entry of the enrolment log.
    pub fn submit_enrolment(&self, enrolment: Enrolment) -> Result<Receipt<EventsOutcome>, Overloaded> {
        let (answer, receipt) = oneshot::channel();
        if enrolment.changes.len() > MAX_BATCH_EVENTS {
            drop(answer.send(Err(Refusal::BatchTooLarge { limit: MAX_BATCH_EVENTS })));
            return Ok(Receipt(receipt));
        }
        let body = enrolment_hash(&enrolment);
        self.submit(Command::Enrolment { enrolment, body, answer })?;
        Ok(Receipt(receipt))
    }

    /// Opens a period: the pool's first, or the one after the oldest unfrozen.
    pub fn open_period(&self, pool: u16, period: OpenPeriod) -> Result<Receipt<PeriodOutcome>, Overloaded> {
        let (answer, receipt) = oneshot::channel();
        self.place(1).ok_or(Overloaded)?.send(Command::Open { pool, period, answer });
        Ok(Receipt(receipt))
    }

    /// Freezes the oldest unfrozen period, at what is applied when the command's turn comes.
    pub fn freeze(&self, pool: u16, index: PeriodIndex) -> Result<Receipt<PeriodOutcome>, Overloaded> {
        let (answer, receipt) = oneshot::channel();
        self.place(1).ok_or(Overloaded)?.send(Command::Freeze { pool, index, answer });
        Ok(Receipt(receipt))
    }

    /// Hands a position over to another source.
    pub fn hand_over(&self, hand_over: HandOver) -> Result<Receipt<PeriodOutcome>, Overloaded> {
        let (answer, receipt) = oneshot::channel();
        self.submit(Command::HandOver { hand_over, answer })?;
        Ok(Receipt(receipt))
    }

    /// Hands in an entry of the log of corrections.
    pub fn submit_correction(&self, correction: PositionCorrection) -> Result<Receipt<EventsOutcome>, Overloaded> {
        let (answer, receipt) = oneshot::channel();
        let body = correction_hash(&correction);
        self.submit(Command::Correct { correction, body, answer })?;
        Ok(Receipt(receipt))
    }

    /// How many events wait.
    pub fn queued_events(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    fn submit(&self, command: Command) -> Result<(), Overloaded> {
        self.room(command.weight()).ok_or(Overloaded)?.send(command);
        Ok(())
    }
}

/// Room in the queue that is kept for one command. Dropped, it is given back.
#[derive(Debug)]
pub struct Room<'a> {
    permit: mpsc::Permit<'a, Command>,
    /// How many events waited before.
    queued_before: usize,
    taken: Taken<'a>,
}

/// What a command that waits takes of the queue's room.
#[derive(Debug)]
struct Taken<'a> {
    queued: &'a AtomicUsize,
    weight: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

impl Room<'_> {
    /// Hands in a batch of at most as many events as there is room for.
    pub fn submit_events(self, batch: EventBatch) -> Receipt<EventsOutcome> {
        let (answer, receipt) = oneshot::channel();
        let EventBatch { source, first_sequence, events, watermark } = batch;
        if events.len() > MAX_BATCH_EVENTS {
            drop(answer.send(Err(Refusal::BatchTooLarge { limit: MAX_BATCH_EVENTS })));
            return Receipt(receipt);
        }
        let of_none = |event: &&FeedEvent| matches!(event.pool, EventPool::UnknownAsset(_));
        if events.iter().filter(of_none).count() > MAX_BATCH_UNKNOWN {
            drop(answer.send(Err(Refusal::TooManyUnknown { limit: MAX_BATCH_UNKNOWN })));
            return Receipt(receipt);
        }
        let prepare = |event: FeedEvent| Prepared {
            body: event_hash(&event),
            account: AccountHash::of(event.account.as_str().as_bytes()),
            event,
        };
        let events = events.into_iter().map(prepare).collect();
        self.send(Command::Events { source, first_sequence, events, watermark, answer });
        Receipt(receipt)
    }

    /// Hands in balances of a snapshot, as many as there is room for.
    pub fn submit_snapshot(self, batch: SnapshotBatch) -> Receipt<SnapshotOutcome> {
        let (answer, receipt) = oneshot::channel();
        if batch.balances.len() > MAX_BATCH_EVENTS {
            drop(answer.send(Err(Refusal::BatchTooLarge { limit: MAX_BATCH_EVENTS })));
            return Receipt(receipt);
        }
        self.send(Command::Snapshot { batch, answer });
        Receipt(receipt)
    }

    /// The committer gives back what the command takes, when it takes that; what is over is given back now.
    fn send(mut self, command: Command) {
        let weight = command.weight();
        let more = weight.saturating_sub(self.taken.weight);
        self.taken.queued.fetch_add(more, Ordering::Relaxed);
        self.taken.weight = self.taken.weight.saturating_sub(weight);
        self.permit.send(command);
    }
}
