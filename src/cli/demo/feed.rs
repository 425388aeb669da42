//! The ledger service's side of the balance feed: numbers events, keeps what is not durable, sends it again after a break.
//! It mixes the friendly and the packed form, and leaves batches in flight where the story wants that; otherwise
//! `client::FeedWriter` is what to use.

use std::collections::VecDeque;
use std::time::Duration;

use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::DemoError;
use super::amounts::wire;
use crate::client::{BalanceEvent, Client, pack};
use crate::pb::v1;
use v1::balance_feed_service_client::BalanceFeedServiceClient;
use v1::stream_balances_request::Batch;

/// The registered source.
pub(super) const SOURCE: &str = "sources/ledger";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The feed of one run.
#[derive(Debug)]
pub(super) struct Feed {
    endpoint: String,
    stream: Option<Stream>,
    next_sequence: u64,
    durable: u64,
    /// Sent and not known to be durable, in sequence.
    outbox: VecDeque<BalanceEvent>,
    watermark: i64,
    durable_watermark: i64,
    packed_next: bool,
    pub(super) counts: Counts,
}

#[derive(Debug)]
struct Stream {
    outbound: mpsc::UnboundedSender<v1::StreamBalancesRequest>,
    inbound: Inbound,
}

/// A server may wait for the first message before it answers at all: sending doesn't wait for that.
#[derive(Debug)]
enum Inbound {
    Opening(JoinHandle<Result<Response<Streaming<v1::StreamBalancesResponse>>, Status>>),
    Open(Box<Streaming<v1::StreamBalancesResponse>>),
}

impl Inbound {
    async fn message(&mut self) -> Result<Option<v1::StreamBalancesResponse>, String> {
        if let Self::Opening(opening) = self {
            let opened = opening.await.map_err(|error| error.to_string())?;
            *self = Self::Open(Box::new(opened.map_err(|status| status.to_string())?.into_inner()));
        }
        match self {
            Self::Open(inbound) => inbound.message().await.map_err(|status| status.to_string()),
            Self::Opening(_) => Err("the stream does not open".to_owned()),
        }
    }
}

/// What the acknowledgements said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Those sent again after a break do not count.
    pub(super) batches: u64,
    pub(super) clamped: u64,
    pub(super) late: u64,
    /// The first few, for people.
    pub(super) rejected: Vec<String>,
    pub(super) rejected_count: u64,
}

/// What a break cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Break {
    /// Sent when the server died.
    pub(super) sent: u64,
    /// Acknowledged when the server died.
    pub(super) acknowledged: u64,
    /// Durable when the server was back.
    pub(super) durable: u64,
}

impl Feed {
    /// A feed that has sent nothing.
    pub(super) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            stream: None,
            next_sequence: 1,
            durable: 0,
            outbox: VecDeque::new(),
            watermark: i64::MIN,
            durable_watermark: i64::MIN,
            packed_next: false,
            counts: Counts::default(),
        }
    }

    /// How many events were sent.
    pub(super) fn sent(&self) -> u64 {
        self.next_sequence - 1
    }

    /// How many of them are known to be on disk.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Sends events in batches of at most `batch`, and after them the watermark, and waits for neither.
    pub(super) async fn send(
        &mut self,
        events: Vec<BalanceEvent>,
        batch: usize,
        watermark: i64,
    ) -> Result<(), DemoError> {
        self.open().await?;
        for events in events.chunks(batch.max(1)) {
            let first = self.next_sequence;
            self.next_sequence += events.len() as u64;
            self.outbox.extend(events.iter().cloned());
            self.counts.batches += 1;
            self.give(first, events)?;
        }
        self.watermark = self.watermark.max(watermark);
        self.give_watermark()
    }

    /// Waits until everything sent is durable.
    pub(super) async fn wait(&mut self) -> Result<(), DemoError> {
        while self.durable < self.sent() || self.durable_watermark < self.watermark {
            self.answer(PATIENCE).await?;
        }
        Ok(())
    }

    /// Waits for one answer, but not for long.
    pub(super) async fn wait_for_one(&mut self) {
        // No answer yet is what is wanted here: the more is in flight.
        let _ = self.answer(Duration::from_millis(200)).await;
    }

    /// The server has died and is back: goes on after its durable cursor, and waits until all is durable.
    pub(super) async fn resume(&mut self, client: &Client) -> Result<Break, DemoError> {
        self.stream = None;
        let cursor = v1::GetCursorRequest { source: SOURCE.to_owned() };
        let cursor = client.get_cursor(cursor).await.map_err(DemoError::call("GetCursor"))?;
        let broken = Break { sent: self.sent(), acknowledged: self.durable, durable: cursor.durable_sequence };
        if broken.durable < broken.acknowledged || broken.durable > broken.sent {
            return Err(DemoError::Feed(format!(
                "after the restart the cursor stands at {}, with {} sent and {} acknowledged",
                broken.durable, broken.sent, broken.acknowledged
            )));
        }
        self.settle(cursor.durable_sequence, cursor.watermark);
        self.open().await?;
        let mut first = self.durable + 1;
        let rest: Vec<BalanceEvent> = self.outbox.iter().cloned().collect();
        for events in rest.chunks(500) {
            self.give(first, events)?;
            first += events.len() as u64;
        }
        self.give_watermark()?;
        self.wait().await?;
        Ok(broken)
    }

    async fn open(&mut self) -> Result<(), DemoError> {
        if self.stream.is_some() {
            return Ok(());
        }
        let address = Channel::from_shared(self.endpoint.clone());
        let address = address.map_err(|error| DemoError::Feed(error.to_string()))?;
        let channel = address.connect().await.map_err(|error| DemoError::Feed(error.to_string()))?;
        let (outbound, requests) = mpsc::unbounded_channel();
        let mut service = BalanceFeedServiceClient::new(channel);
        let requests = UnboundedReceiverStream::new(requests);
        let inbound = Inbound::Opening(tokio::spawn(async move { service.stream_balances(requests).await }));
        self.stream = Some(Stream { outbound, inbound });
        Ok(())
    }

    /// Gives one batch to the connection, in the form whose turn it is.
    fn give(&mut self, first: u64, events: &[BalanceEvent]) -> Result<(), DemoError> {
        self.packed_next = !self.packed_next;
        let batch = if self.packed_next {
            let packed = pack(events);
            Batch::Packed(packed.map_err(|error| DemoError::Feed(format!("event {}: {}", error.index, error.problem)))?)
        } else {
            Batch::Rows(v1::BalanceRows { events: events.iter().map(row).collect() })
        };
        self.put(self.message(first, Some(batch), None))
    }

    fn give_watermark(&mut self) -> Result<(), DemoError> {
        self.put(self.message(self.next_sequence, None, Some(self.watermark)))
    }

    fn message(&self, first: u64, batch: Option<Batch>, watermark: Option<i64>) -> v1::StreamBalancesRequest {
        v1::StreamBalancesRequest {
            source: SOURCE.to_owned(),
            first_sequence: first,
            batch,
            watermark: watermark.map(|seconds| Timestamp { seconds, nanos: 0 }),
        }
    }

    fn put(&mut self, message: v1::StreamBalancesRequest) -> Result<(), DemoError> {
        let stream = self.stream.as_mut().ok_or_else(|| DemoError::Feed("the stream is not open".to_owned()))?;
        stream.outbound.send(message).map_err(|_| DemoError::Feed("the stream has ended".to_owned()))
    }

    async fn answer(&mut self, patience: Duration) -> Result<(), DemoError> {
        let stream = self.stream.as_mut().ok_or_else(|| DemoError::Feed("the stream is not open".to_owned()))?;
        let answer = tokio::time::timeout(patience, stream.inbound.message()).await;
        let answer = answer.map_err(|_| {
            DemoError::Feed(format!("no answer for {patience:?}, at {} of {}", self.durable, self.next_sequence - 1))
        })?;
        let answer = answer.map_err(DemoError::Feed)?;
        let answer = answer.ok_or_else(|| DemoError::Feed("the server ended the stream".to_owned()))?;
        self.counts.clamped += answer.clamped_count;
        self.counts.late += answer.late_count;
        self.counts.rejected_count += answer.rejected.len() as u64;
        for one in answer.rejected.iter().take(5_usize.saturating_sub(self.counts.rejected.len())) {
            self.counts.rejected.push(format!("event {}: {:?}: {}", one.sequence, one.reason(), one.message));
        }
        self.settle(answer.durable_sequence, answer.watermark);
        Ok(())
    }

    fn settle(&mut self, durable: u64, watermark: Option<Timestamp>) {
        let fresh = usize::try_from(durable.saturating_sub(self.durable)).unwrap_or(usize::MAX);
        self.outbox.drain(..fresh.min(self.outbox.len()));
        self.durable = self.durable.max(durable);
        self.durable_watermark = self.durable_watermark.max(watermark.map_or(i64::MIN, |time| time.seconds));
    }
}

fn row(event: &BalanceEvent) -> v1::BalanceRow {
    v1::BalanceRow {
        account: event.account.clone(),
        balance: Some(wire(&event.asset, event.base_units)),
        event_time: Some(Timestamp { seconds: event.event_seconds, nanos: 0 }),
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
