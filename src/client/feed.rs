//! The feed writer: numbers events, keeps what is not durable yet, and sends it again after a broken connection.

use std::collections::VecDeque;

use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::pb::v1;
use v1::stream_balances_request::Batch;

use super::Client;
use super::error::{ClientError, Refusal};
use super::pack::{BalanceEvent, front, pack};
use super::retry::{Attempts, once};

/// How many events may be on their way before [`FeedWriter::send`] waits.
const MAX_UNACKNOWLEDGED: u64 = 262_144;

/// How many messages may wait for the connection.
const OUTBOUND: usize = 4;

/// What became of the events since the report before.
///
/// An answer that is lost with its connection is missing here: the events it spoke of are then counted as repeated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedReport {
    /// Every event up to and including this sequence is on disk.
    pub durable_sequence: u64,
    /// Events that consumed their sequence and changed nothing.
    pub rejected: Vec<v1::RejectedEvent>,
    /// Number of events accepted, clamped and late ones included.
    pub accepted: u64,
    /// Number of accepted events whose time was moved to the position's last one.
    pub clamped: u64,
    /// Number of accepted events that reached into frozen periods.
    pub late: u64,
    /// Number of events that had been applied before.
    pub repeated: u64,
    /// Where snapshots and the positions differ.
    pub differences: Vec<v1::SnapshotDifference>,
    /// What snapshots came to.
    pub snapshots: Vec<v1::SnapshotResult>,
}

/// A full snapshot of a source's balances after everything that was sent before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceSnapshot {
    /// Its id: 1 to 128 bytes of printable ASCII without spaces. A snapshot that is applied is taken once.
    pub snapshot_id: String,
    /// The assets that it covers.
    pub assets: Vec<String>,
    /// When the balances hold, in whole seconds since 1970-01-01T00:00:00Z.
    pub as_of_seconds: i64,
    /// Whether differences are applied.
    pub apply: bool,
    /// Account, asset and balance in base units. What is not named has zero.
    pub balances: Vec<(String, String, u128)>,
}

/// Writes one source's events, in order, each once. There must be one writer for a source at a time.
#[derive(Debug)]
pub struct FeedWriter {
    client: Client,
    source: String,
    next_sequence: u64,
    durable_sequence: u64,
    watermark: Option<i64>,
    /// Messages that are not durable, oldest first.
    pending: VecDeque<Pending>,
    /// How many of them, from the front, the open stream has been given.
    given: usize,
    stream: Option<Stream>,
    attempts: Attempts,
    /// What a snapshot was answered with so far.
    differences: Vec<v1::SnapshotDifference>,
    report: FeedReport,
}

#[derive(Debug)]
struct Pending {
    last_sequence: u64,
    watermark: Option<i64>,
    /// The snapshot that it is a part of, until that is answered, and whether it is its last part.
    snapshot: Option<(String, bool)>,
    message: v1::StreamBalancesRequest,
}

#[derive(Debug)]
struct Stream {
    outbound: mpsc::Sender<v1::StreamBalancesRequest>,
    inbound: Streaming<v1::StreamBalancesResponse>,
}

impl Client {
    /// A writer for `source` (`sources/{source}`), which begins after the last durable event of it.
    pub async fn feed(&self, source: &str) -> Result<FeedWriter, ClientError> {
        let cursor = self.get_cursor(v1::GetCursorRequest { source: source.to_owned() }).await?;
        let durable_sequence = cursor.durable_sequence;
        Ok(FeedWriter {
            client: self.clone(),
            source: source.to_owned(),
            next_sequence: durable_sequence.saturating_add(1),
            durable_sequence,
            watermark: cursor.watermark.map(|time| time.seconds),
            pending: VecDeque::new(),
            given: 0,
            stream: None,
            attempts: Attempts::new(&self.options),
            differences: Vec::new(),
            report: FeedReport { durable_sequence, ..FeedReport::default() },
        })
    }
}

impl FeedWriter {
    /// The sequence that the next event will have. After a restart it tells a ledger service where to go on.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Every event up to and including this sequence is known to be on disk.
    pub fn durable_sequence(&self) -> u64 {
        self.durable_sequence
    }

    /// Numbers `events` and gives them to the connection, and after them the vouching that every event before
    /// `watermark_seconds` (since 1970-01-01T00:00:00Z) has been sent. Returns the last sequence given.
    ///
    /// They are durable once [`Self::durable_sequence`] has reached it: [`Self::flush`] waits for that. When this
    /// returns an error, everything given so far is kept and is sent again by the next call. Only `ClientError::Event`
    /// leaves `events` out.
    pub async fn send(
        &mut self,
        events: Vec<BalanceEvent>,
        watermark_seconds: Option<i64>,
    ) -> Result<u64, ClientError> {
        let mut batches = Vec::new();
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(front(rest));
            let before = events.len() - rest.len();
            let packed = pack(batch);
            let refused = |error: super::pack::EventError| ClientError::Event {
                index: before + error.index,
                problem: error.problem,
            };
            batches.push(packed.map_err(refused)?);
            rest = after;
        }
        for packed in batches {
            let count = u64::from(packed.count);
            self.push(Some(Batch::Packed(packed)), count, None);
        }
        if watermark_seconds.is_some() {
            self.push(None, 0, watermark_seconds);
        }
        self.drive(|feed| feed.given == feed.pending.len() && feed.unacknowledged() <= MAX_UNACKNOWLEDGED).await?;
        Ok(self.next_sequence - 1)
    }

    /// Sends a snapshot, in parts, behind everything sent before. [`Self::flush`] waits for what it came to. A snapshot
    /// that is not answered when the connection breaks is sent again whole.
    pub async fn send_snapshot(&mut self, snapshot: BalanceSnapshot) -> Result<(), ClientError> {
        let BalanceSnapshot { snapshot_id, assets, as_of_seconds, apply, balances } = snapshot;
        let event = |(account, asset, base_units)| BalanceEvent { account, asset, base_units, event_seconds: 0 };
        let events: Vec<BalanceEvent> = balances.into_iter().map(event).collect();
        let mut parts = Vec::new();
        let mut rest = events.as_slice();
        while !rest.is_empty() || parts.is_empty() {
            let (batch, after) = rest.split_at(front(rest));
            let before = events.len() - rest.len();
            let refused = |error: super::pack::EventError| ClientError::Event {
                index: before + error.index,
                problem: error.problem,
            };
            let mut packed = pack(batch).map_err(refused)?;
            packed.event_times.clear();
            parts.push(packed);
            rest = after;
        }
        let count = parts.len();
        for (part, packed) in (0u32..).zip(parts) {
            let message = v1::BalanceSnapshot {
                snapshot_id: snapshot_id.clone(),
                assets: assets.clone(),
                as_of_time: Some(Timestamp { seconds: as_of_seconds, nanos: 0 }),
                part,
                last: part as usize + 1 == count,
                apply,
                content: Some(v1::balance_snapshot::Content::Packed(packed)),
            };
            self.push(Some(Batch::Snapshot(message)), 0, None);
            if let Some(pending) = self.pending.back_mut() {
                pending.snapshot = Some((snapshot_id.clone(), part as usize + 1 == count));
            }
        }
        self.drive(|feed| feed.given == feed.pending.len()).await
    }

    /// Waits until everything sent is durable, and tells what became of it since the last flush.
    pub async fn flush(&mut self) -> Result<FeedReport, ClientError> {
        self.drive(|feed| feed.pending.is_empty()).await?;
        let next = FeedReport { durable_sequence: self.durable_sequence, ..FeedReport::default() };
        Ok(std::mem::replace(&mut self.report, next))
    }

    fn push(&mut self, batch: Option<Batch>, count: u64, watermark: Option<i64>) {
        let message = v1::StreamBalancesRequest {
            source: self.source.clone(),
            first_sequence: self.next_sequence,
            batch,
            watermark: watermark.map(|seconds| Timestamp { seconds, nanos: 0 }),
        };
        self.next_sequence = self.next_sequence.saturating_add(count);
        self.pending.push_back(Pending { last_sequence: self.next_sequence - 1, watermark, snapshot: None, message });
    }

    fn unacknowledged(&self) -> u64 {
        self.next_sequence - 1 - self.durable_sequence
    }

    /// Sends and receives until `done`.
    async fn drive(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), ClientError> {
        while !done(self) {
            match self.turn().await {
                Ok(Some(response)) => {
                    self.attempts = Attempts::new(&self.client.options);
                    self.take(response)?;
                }
                Ok(None) => {}
                Err(refusal) => {
                    self.stream = None;
                    self.given = 0;
                    self.differences.clear();
                    self.attempts.wait(refusal).await?;
                    let cursor = v1::GetCursorRequest { source: self.source.clone() };
                    let cursor = self.client.get_cursor(cursor).await?;
                    self.settle(cursor.durable_sequence, cursor.watermark)?;
                }
            }
        }
        Ok(())
    }

    /// Opens the stream, or gives it one message, or takes one answer.
    async fn turn(&mut self) -> Result<Option<v1::StreamBalancesResponse>, Refusal> {
        let options = &self.client.options;
        let Some(stream) = &mut self.stream else {
            let (outbound, messages) = mpsc::channel(OUTBOUND);
            // A server may wait for the first message before it answers at all.
            while let Some(pending) = self.pending.get(self.given) {
                if outbound.try_send(pending.message.clone()).is_err() {
                    break;
                }
                self.given += 1;
            }
            let mut service = self.client.balance_feed_service();
            let inbound = once(options.deadline, service.stream_balances(ReceiverStream::new(messages))).await?;
            self.stream = Some(Stream { outbound, inbound });
            return Ok(None);
        };
        let next = self.pending.get(self.given);
        let turn = async {
            tokio::select! {
                answer = stream.inbound.message() => answer,
                permit = stream.outbound.reserve(), if next.is_some() => {
                    match (permit, next) {
                        (Ok(permit), Some(pending)) => {
                            permit.send(pending.message.clone());
                            self.given += 1;
                            return Ok(None);
                        }
                        // The stream has ended: its last answer says why.
                        _ => stream.inbound.message().await,
                    }
                }
            }
            .and_then(|answer| answer.ok_or_else(|| Status::unavailable("the server ended the stream")))
            .map(Some)
        };
        let turn = tokio::time::timeout(options.stall, turn).await;
        turn.unwrap_or_else(|_| Err(Status::deadline_exceeded("the stream stands still"))).map_err(Refusal::from)
    }

    fn take(&mut self, response: v1::StreamBalancesResponse) -> Result<(), ClientError> {
        let report = &mut self.report;
        report.rejected.extend(response.rejected);
        report.accepted += response.accepted_count;
        report.clamped += response.clamped_count;
        report.late += response.late_count;
        report.repeated += response.repeated_count + response.already_applied_count;
        self.differences.extend(response.differences);
        if let Some(result) = response.snapshot {
            report.differences.append(&mut self.differences);
            let of_it =
                |pending: &&mut Pending| matches!(&pending.snapshot, Some((id, _)) if *id == result.snapshot_id);
            for part in self.pending.iter_mut().skip_while(|pending| !of_it(pending)) {
                if part.snapshot.take().is_none_or(|(_, last)| last) {
                    break;
                }
            }
            report.snapshots.push(result);
        }
        self.settle(response.durable_sequence, response.watermark)
    }

    /// Lets go of what is durable.
    fn settle(&mut self, durable_sequence: u64, watermark: Option<Timestamp>) -> Result<(), ClientError> {
        let (before, next) = (self.durable_sequence, self.next_sequence);
        if durable_sequence < before {
            let contradiction = format!("{} was durable up to {before}, now up to {durable_sequence}", self.source);
            return Err(ClientError::Contradiction(contradiction));
        }
        if durable_sequence >= next {
            let contradiction = format!(
                "{} is durable up to {durable_sequence}, and {next} was not sent: it has another writer",
                self.source
            );
            return Err(ClientError::Contradiction(contradiction));
        }
        self.durable_sequence = durable_sequence;
        self.report.durable_sequence = durable_sequence;
        self.watermark = self.watermark.max(watermark.map(|time| time.seconds));
        while let Some(pending) = self.pending.front() {
            let unanswered = pending.snapshot.is_some() || pending.watermark > self.watermark;
            if pending.last_sequence > self.durable_sequence || unanswered {
                break;
            }
            self.pending.pop_front();
            self.given = self.given.saturating_sub(1);
        }
        Ok(())
    }
}
