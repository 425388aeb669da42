//! Streams of balance events: as many connections as there are sources, each with a window of batches in flight.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prost_types::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::BenchError;
use super::load::{Load, Share, Update, packed, rows};
use super::measure::Latencies;
use crate::pb::v1;
use v1::balance_feed_service_client::BalanceFeedServiceClient;
use v1::stream_balances_request::Batch;

/// The form of the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Columns.
    Packed,
    /// Messages.
    Rows,
}

/// How long a run of the streams lasts, and how fast it is.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// Every account's opening balance, as fast as it goes.
    Openings,
    /// Random changes as fast as it goes, for so long.
    Flat(Duration),
    /// So many random changes in all, as fast as it goes.
    Count(u64),
    /// Random changes, so many a second, for so long. A batch that has to wait counts from when it was due.
    Even(u64, Duration),
    /// Random changes as fast as it goes until told to stop.
    Until(Arc<Signals>),
}

/// What the streams are told while they run.
#[derive(Debug, Default)]
pub(super) struct Signals {
    stop: AtomicU8,
    watermark: AtomicI64,
}

impl Signals {
    /// Ends the streams.
    pub(super) fn stop(&self) {
        self.stop.store(1, Ordering::Release);
    }

    /// From here on every batch vouches for everything before `seconds`.
    pub(super) fn vouch(&self, seconds: i64) {
        self.watermark.store(seconds, Ordering::Release);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire) != 0
    }

    fn watermark(&self) -> Option<i64> {
        Some(self.watermark.load(Ordering::Acquire)).filter(|seconds| *seconds > 0)
    }
}

/// What the streams came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Fed {
    /// Events acknowledged.
    pub(super) events: u64,
    /// From the first one sent to the last one acknowledged.
    pub(super) took: Duration,
    /// How long each batch took to be acknowledged.
    pub(super) latencies: Latencies,
    /// When how many were acknowledged, after the start.
    pub(super) acked: Vec<(Duration, u64)>,
}

/// The streams, each with its share of the accounts and where it is.
#[derive(Debug)]
pub(super) struct Streams {
    load: Load,
    batch: usize,
    in_flight: usize,
    streams: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    source: String,
    share: Share,
    next_sequence: u64,
    next_batch: u64,
}

/// The name of the source of a stream.
pub(super) fn source(place: u64) -> String {
    format!("ledger-{place}")
}

impl Streams {
    /// `connections` streams of `batch` events a message, with `in_flight` messages not acknowledged in each.
    pub(super) fn new(load: Load, connections: u64, batch: usize, in_flight: usize) -> Self {
        let place = |place| Place {
            source: format!("sources/{}", source(place)),
            share: Share { place, of: connections },
            next_sequence: 1,
            next_batch: 0,
        };
        Self { load, batch, in_flight, streams: (0..connections).map(place).collect() }
    }

    /// The sources, and the last sequence acknowledged of each.
    pub(super) fn acknowledged(&self) -> Vec<(String, u64)> {
        self.streams.iter().map(|place| (place.source.clone(), place.next_sequence - 1)).collect()
    }

    /// Runs all streams against `endpoint`, with events as of `at_seconds`.
    pub(super) async fn run(
        &mut self,
        endpoint: &str,
        form: Form,
        pace: &Pace,
        at_seconds: i64,
    ) -> Result<Fed, BenchError> {
        let mut channels = Vec::new();
        for _ in &self.streams {
            channels.push(super::channel(endpoint).await?);
        }
        let started = Instant::now();
        let mut running = JoinSet::new();
        let streams = self.streams.len() as u64;
        for (index, (place, channel)) in self.streams.iter().zip(channels).enumerate() {
            let stream = Stream {
                load: self.load,
                place: place.clone(),
                batch: self.batch,
                form,
                pace: pace.clone(),
                streams,
                at_seconds,
                started,
                window: Semaphore::new(self.in_flight),
                waiting: Mutex::default(),
            };
            let in_flight = self.in_flight;
            running.spawn(async move { (index, stream.run(channel, in_flight).await) });
        }
        let mut fed = Fed::default();
        while let Some(ended) = running.join_next().await {
            let (index, outcome) = ended.map_err(|error| BenchError::Feed(error.to_string()))?;
            let (place, one) = outcome?;
            self.streams[index] = place;
            fed.events += one.events;
            fed.latencies.join(one.latencies);
            fed.acked.extend(one.acked);
        }
        fed.took = started.elapsed();
        Ok(fed)
    }

    /// Vouches, in each stream, for every event before `seconds`.
    pub(super) async fn vouch(&mut self, endpoint: &str, seconds: i64) -> Result<(), BenchError> {
        for place in &self.streams {
            let message = v1::StreamBalancesRequest {
                source: place.source.clone(),
                first_sequence: place.next_sequence,
                batch: None,
                watermark: Some(Timestamp { seconds, nanos: 0 }),
            };
            let mut service = BalanceFeedServiceClient::new(super::channel(endpoint).await?);
            let mut answers = service.stream_balances(tokio_stream::once(message)).await?.into_inner();
            let vouched = |answer: &v1::StreamBalancesResponse| {
                answer.watermark.is_some_and(|watermark| watermark.seconds >= seconds)
            };
            while let Some(answer) = answers.message().await? {
                if vouched(&answer) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// One stream while it runs.
struct Stream {
    load: Load,
    place: Place,
    batch: usize,
    form: Form,
    pace: Pace,
    streams: u64,
    at_seconds: i64,
    started: Instant,
    window: Semaphore,
    /// The last sequence of each batch that is not acknowledged, and since when it is due.
    waiting: Mutex<VecDeque<(u64, Instant)>>,
}

impl Stream {
    async fn run(self, channel: Channel, in_flight: usize) -> Result<(Place, Fed), BenchError> {
        let (messages, outbound) = mpsc::channel(in_flight);
        let sending = self.send(messages);
        let receiving = self.receive(channel, outbound);
        let (place, fed) = tokio::try_join!(sending, receiving)?;
        Ok((place, fed))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, messages: mpsc::Sender<v1::StreamBalancesRequest>) -> Result<Place, BenchError> {
        let mut place = self.place.clone();
        let (mut opened, mut sent) = (0, 0_u64);
        loop {
            let due = match &self.pace {
                Pace::Even(a_second, _) => {
                    let micros = u128::from(sent) * u128::from(self.streams) * 1_000_000 / u128::from(*a_second).max(1);
                    let due = self.started + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
                    tokio::time::sleep_until(due.into()).await;
                    Some(due)
                }
                _ => None,
            };
            let Some(updates) = self.next(&mut place, &mut opened, sent) else { return Ok(place) };
            sent += updates.len() as u64;
            let message = self.message(&place, &updates);
            place.next_sequence += updates.len() as u64;
            let ended = |_| BenchError::Feed(format!("the stream of {} ended", place.source));
            self.window.acquire().await.map_err(|error| BenchError::Feed(error.to_string()))?.forget();
            self.waiting().push_back((place.next_sequence - 1, due.unwrap_or_else(Instant::now)));
            messages.send(message).await.map_err(ended)?;
        }
    }

    /// The next updates, if there are any.
    fn next(&self, place: &mut Place, opened: &mut u64, sent: u64) -> Option<Vec<Update>> {
        match &self.pace {
            Pace::Openings => {
                let all = place.share.size(self.load.positions);
                let to = (*opened + self.batch as u64).min(all);
                let updates = (*opened < all).then(|| self.load.openings(place.share, *opened, to));
                *opened = to;
                return updates;
            }
            Pace::Flat(long) | Pace::Even(_, long) if self.started.elapsed() >= *long => return None,
            Pace::Count(all) if sent * self.streams >= *all => return None,
            Pace::Until(signals) if signals.stopped() => return None,
            Pace::Flat(_) | Pace::Even(..) | Pace::Count(_) | Pace::Until(_) => {}
        }
        place.next_batch += 1;
        Some(self.load.updates(place.share, place.next_batch, self.batch))
    }

    fn message(&self, place: &Place, updates: &[Update]) -> v1::StreamBalancesRequest {
        let watermark = match &self.pace {
            Pace::Until(signals) => signals.watermark(),
            _ => None,
        };
        v1::StreamBalancesRequest {
            source: place.source.clone(),
            first_sequence: place.next_sequence,
            batch: Some(match self.form {
                Form::Packed => Batch::Packed(packed(updates, self.at_seconds)),
                Form::Rows => Batch::Rows(rows(updates, self.at_seconds)),
            }),
            watermark: watermark.map(|seconds| Timestamp { seconds, nanos: 0 }),
        }
    }

    async fn receive(
        &self,
        channel: Channel,
        outbound: mpsc::Receiver<v1::StreamBalancesRequest>,
    ) -> Result<Fed, BenchError> {
        let mut service = BalanceFeedServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let mut answers = service.stream_balances(ReceiverStream::new(outbound)).await?.into_inner();
        let mut fed = Fed::default();
        let mut durable = self.place.next_sequence - 1;
        while let Some(answer) = answers.message().await? {
            if let Some(rejected) = answer.rejected.first() {
                return Err(BenchError::Feed(format!("an event was rejected: {rejected:?}")));
            }
            let now = Instant::now();
            let mut waiting = self.waiting();
            while let Some((_, due)) = waiting.front().copied().filter(|(last, _)| *last <= answer.durable_sequence) {
                waiting.pop_front();
                fed.latencies.push(now.saturating_duration_since(due));
                self.window.add_permits(1);
            }
            drop(waiting);
            let news = answer.durable_sequence.saturating_sub(durable);
            durable = answer.durable_sequence;
            fed.events += news;
            fed.acked.push((now - self.started, news));
        }
        match self.waiting().len() {
            0 => Ok(fed),
            left => Err(BenchError::Feed(format!("{left} batches of {} were not acknowledged", self.place.source))),
        }
    }
}
