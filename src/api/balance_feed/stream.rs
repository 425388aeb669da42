//! One balance stream: batches in, the durable cursor out.
//!
//! Several batches may be on their way into the book; their answers go out in order. When the book is full the stream
//! is read no further, so that a caller who is too fast waits in its own buffers.

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tonic::{Code, Status, Streaming};

use super::show_rejected;
use super::snapshot::{self, Gathering};
use crate::api::access::layer::Feeds;
use crate::api::parse::feed::{Content, FeedMessage, message};
use crate::api::parse::snapshot::SnapshotPart;
use crate::api::parse::{Path, names};
use crate::api::status::{ApiError, Problem};
use crate::api::streaming::{End, Out};
use crate::api::{Api, failure, show};
use crate::app::batch::FeedOutcome;
use crate::app::snapshot::SnapshotStep;
use crate::app::{App, AppError};
use crate::domain::ids::{AccountId, SourceId};
use crate::domain::time::UnixSeconds;
use crate::pb::v1;

/// The pause before a full book is asked again, and how often it is asked.
const FULL_PAUSE: Duration = Duration::from_millis(5);
const FULL_ATTEMPTS: u32 = 2_000;

/// How many pieces of a snapshot are applied between two signs that it goes on.
const PIECES_PER_SIGN: u32 = 64;

/// The most rejected events of one answer, so that it fits a message.
const REJECTED_PER_ANSWER: usize = 4_096;

/// One stream.
pub(super) struct FeedStream {
    api: Api,
    feeds: Feeds,
    /// Who sends: what the first message said.
    source: Option<SourceId>,
    /// The snapshot of which not all parts are there.
    gathering: Option<Gathering>,
    /// Batches on their way, in the order they came.
    waiting: FuturesOrdered<BoxFuture<'static, Result<FeedOutcome, AppError>>>,
    rejected: Rejected,
    out: Out<v1::StreamBalancesResponse>,
}

/// What was rejected of a stream so far. It is logged each time that the batches are twice as many, so that a source which
/// goes wrong for long does not fill the log; the metrics count every event.
#[derive(Default)]
struct Rejected {
    batches: u64,
    events: u64,
}

impl Rejected {
    /// One more batch with rejected events: whether it is to be logged.
    fn count(&mut self, events: usize) -> bool {
        self.batches = self.batches.saturating_add(1);
        self.events = self.events.saturating_add(u64::try_from(events).unwrap_or(u64::MAX));
        self.batches.is_power_of_two()
    }
}

impl FeedStream {
    pub(super) fn new(api: Api, feeds: Feeds, out: Out<v1::StreamBalancesResponse>) -> Self {
        Self {
            api,
            feeds,
            source: None,
            gathering: None,
            waiting: FuturesOrdered::new(),
            rejected: Rejected::default(),
            out,
        }
    }

    /// Serves the stream to its end. What was handed in before the end is answered before it.
    pub(super) async fn serve(mut self, inbound: Streaming<v1::StreamBalancesRequest>) -> Result<(), End> {
        match self.take_in(inbound).await {
            Ok(()) => self.drain().await,
            Err(End::Refused(error)) => self.drain().await.and(Err(End::Refused(error))),
            gone => gone,
        }
    }

    /// Reads until the caller has no more to say.
    async fn take_in(&mut self, mut inbound: Streaming<v1::StreamBalancesRequest>) -> Result<(), End> {
        let api = self.api.clone();
        let stopped = api.stopped();
        tokio::pin!(stopped);
        loop {
            let room = self.waiting.len() < self.api.limits.stream_queue_batches.max(1);
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(End::Gone),
                Some(outcome) = self.waiting.next(), if !self.waiting.is_empty() => self.acknowledge(outcome).await?,
                () = &mut stopped => return Err(End::Refused(Api::stopping_error())),
                message = inbound.message(), if room => match message {
                    Ok(Some(message)) => self.take(&message).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(unreadable(&status)),
                },
            }
        }
    }

    /// Answers everything that was handed in.
    async fn drain(&mut self) -> Result<(), End> {
        while let Some(outcome) = self.waiting.next().await {
            self.acknowledge(outcome).await?;
        }
        Ok(())
    }

    /// Takes one message: whole or not at all.
    async fn take(&mut self, request: &v1::StreamBalancesRequest) -> Result<(), End> {
        let FeedMessage { source, first_sequence, content, watermark } =
            message(request).map_err(|wrong| End::Refused(wrong.into()))?;
        self.same_source(&source)?;
        self.feeds.check(&source).map_err(End::Refused)?;
        let events = match content {
            Content::Events(events) if self.gathering.is_none() => events,
            Content::Events(_) => {
                let description = "the parts of a snapshot come one after the other, with nothing between them";
                return Err(End::Refused(Path::of("snapshot").wrong("SNAPSHOT_UNFINISHED", description).into()));
            }
            Content::Snapshot(part) => return self.take_part(source, first_sequence, watermark, *part).await,
        };
        check_count(request, events.len(), self.api.limits.max_batch_events)?;
        let app = self.api.app.clone();
        let mut batch = app.feed_batch(&source, first_sequence, watermark)?;
        batch.reserve(events.len());
        let mut malformed = None;
        events.for_each(|event| match AccountId::new(event.account) {
            Ok(account) => batch.push(account, event.asset, event.balance, event.at),
            Err(error) => malformed = Some(error),
        });
        if let Some(error) = malformed {
            return Err(End::Refused(failure::broken(&error)));
        }
        let mut full = 0;
        while !batch.hand_in(&app)? {
            match self.waiting.next().await {
                Some(outcome) => self.acknowledge(outcome).await?,
                None if full < FULL_ATTEMPTS => {
                    full += 1;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                None => return Err(too_full()),
            }
        }
        tracing::debug!(first_sequence, events = events.len(), "a batch is on its way");
        self.waiting.push_back(Box::pin(async move { batch.durable(&app).await }));
        Ok(())
    }

    /// Takes a part of a snapshot, and with the last one the snapshot.
    async fn take_part(
        &mut self,
        source: SourceId,
        first_sequence: u64,
        watermark: Option<UnixSeconds>,
        part: SnapshotPart<'_>,
    ) -> Result<(), End> {
        if watermark.is_some() {
            let description = "is empty beside a snapshot; send it in the message after";
            return Err(End::Refused(Path::of("watermark").wrong("SNAPSHOT_WITH_WATERMARK", description).into()));
        }
        snapshot::check_count(&part, self.api.limits.max_batch_events).map_err(End::Refused)?;
        let app = self.api.app.clone();
        let gathered = snapshot::gather(&app, &mut self.gathering, &source, first_sequence, part);
        let Some(whole) = gathered.map_err(End::Refused)? else { return Ok(()) };
        self.drain().await?;
        let mut work = app.take_snapshot(whole);
        let (mut full, mut pieces) = (0, 0u32);
        let answer = loop {
            match work.step(&app).await? {
                SnapshotStep::Done(answer) => break answer,
                SnapshotStep::More => {
                    (full, pieces) = (0, pieces.wrapping_add(1));
                    // A long one shows that it goes on.
                    if pieces.is_multiple_of(PIECES_PER_SIGN) {
                        let nothing_new = FeedOutcome {
                            durable_sequence: work.head().next_sequence.saturating_sub(1),
                            ..FeedOutcome::default()
                        };
                        self.acknowledge(Ok(nothing_new)).await?;
                    }
                }
                SnapshotStep::Full if full < FULL_ATTEMPTS => {
                    full += 1;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                SnapshotStep::Full => return Err(too_full()),
            }
        };
        for response in snapshot::responses(&app, work.head(), *answer)? {
            self.out.send(response).await?;
        }
        Ok(())
    }

    /// The source is the same in every message of a stream.
    fn same_source(&mut self, source: &SourceId) -> Result<(), End> {
        match &self.source {
            Some(first) if first == source => Ok(()),
            Some(first) => {
                let description = format!("is {}; this stream is one of {}", source, names::show::source(first));
                Err(End::Refused(Path::of("source").wrong("SOURCE_CHANGED", description).into()))
            }
            None => {
                tracing::Span::current().record("source", source.as_str());
                self.source = Some(source.clone());
                Ok(())
            }
        }
    }

    /// Tells what became of a batch. One that was refused ends the stream: what came after it is not told any more.
    async fn acknowledge(&mut self, outcome: Result<FeedOutcome, AppError>) -> Result<(), End> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                self.waiting.clear();
                return Err(error.into());
            }
        };
        let Some(source) = &self.source else { return Ok(()) };
        let count = outcome.rejected.len();
        if count > 0 && self.rejected.count(count) {
            let (through, Rejected { batches, events }) = (outcome.durable_sequence, &self.rejected);
            tracing::warn!(rejected = count, through_sequence = through, batches, events, "events were rejected");
        }
        for response in responses(&self.api.app, source, outcome)? {
            self.out.send(response).await?;
        }
        Ok(())
    }
}

/// The book had no room for long.
fn too_full() -> End {
    let message = "the book is full, and was for too long; resume the stream later".to_owned();
    ApiError::Overloaded { message, retry_after: failure::RETRY_AFTER }.into()
}

/// A message that can't be read: too large, or no message of ours. A caller that went away is no error.
fn unreadable(status: &Status) -> End {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            End::Refused(ApiError::invalid("", "MESSAGE_TOO_LARGE", status.message()))
        }
        Code::Internal if status.message().contains("decode") => {
            End::Refused(ApiError::invalid("", "MESSAGE_MALFORMED", status.message()))
        }
        Code::Internal | Code::Unimplemented => {
            End::Refused(ApiError::Unavailable(Problem::new("STREAM_BROKEN", status.message())))
        }
        _ => End::Gone,
    }
}

/// Checks a batch against the limit of this service, which may be below that of the wire.
fn check_count(request: &v1::StreamBalancesRequest, count: usize, most: usize) -> Result<(), ApiError> {
    if count <= most {
        return Ok(());
    }
    let description = format!("has {count} events; this service takes at most {most} in a message");
    let packed = matches!(request.batch, Some(v1::stream_balances_request::Batch::Packed(_)));
    let rows = Path::of("rows");
    let field = if packed { "packed.count".to_owned() } else { rows.field("events").to_string() };
    Err(ApiError::invalid(field, "BATCH_TOO_LARGE", description))
}

/// The answers to one batch: one, unless very many events were rejected.
fn responses(app: &App, source: &SourceId, outcome: FeedOutcome) -> Result<Vec<v1::StreamBalancesResponse>, AppError> {
    let watermark = app.cursor(source)?.watermark;
    let mut rejected = outcome.rejected.iter().map(|(sequence, reason)| show_rejected(*sequence, *reason));
    let mut all = Vec::new();
    loop {
        let response = v1::StreamBalancesResponse {
            source: names::show::source(source),
            durable_sequence: outcome.durable_sequence,
            watermark: watermark.map(show::time),
            rejected: rejected.by_ref().take(REJECTED_PER_ANSWER).collect(),
            ..Default::default()
        };
        all.push(response);
        if rejected.len() == 0 {
            break;
        }
    }
    if let Some(last) = all.last_mut() {
        last.accepted_count = outcome.accepted;
        last.clamped_count = outcome.clamped;
        last.late_count = outcome.late;
        last.repeated_count = outcome.repeated;
        last.already_applied_count = outcome.already_applied;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::stream_balances_request::Batch;

    #[test]
    fn a_batch_past_the_services_own_limit_names_its_field() {
        let rows =
            v1::StreamBalancesRequest { batch: Some(Batch::Rows(v1::BalanceRows::default())), ..Default::default() };
        let packed = v1::StreamBalancesRequest {
            batch: Some(Batch::Packed(v1::PackedBalances::default())),
            ..Default::default()
        };
        assert_eq!(check_count(&rows, 10, 10), Ok(()));
        for (request, path) in [(rows, "rows.events"), (packed, "packed.count")] {
            let Err(ApiError::Invalid(wrong)) = check_count(&request, 11, 10) else { panic!("one too many") };
            assert_eq!((wrong[0].field.as_str(), wrong[0].reason), (path, "BATCH_TOO_LARGE"));
        }
    }

    #[test]
    fn a_source_that_goes_wrong_for_long_is_logged_ever_more_rarely() {
        let mut rejected = Rejected::default();
        let logged = (0..1_000).filter(|_| rejected.count(3)).count();
        assert_eq!((logged, rejected.batches, rejected.events), (10, 1_000, 3_000));
        assert!(Rejected::default().count(1), "the first one is, at once");
    }
}
