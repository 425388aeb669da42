//! The client against servers that break in every way that it promises to survive, over real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::Stream;
use prost_types::Timestamp;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::pb::v1;
use v1::balance_feed_service_server::{BalanceFeedService, BalanceFeedServiceServer};
use v1::payout_service_server::{PayoutService, PayoutServiceServer};
use v1::stream_balances_request::Batch;

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the server remembers, and what it is to do wrong.
#[derive(Default)]
struct World {
    events: BTreeMap<u64, (String, u128)>,
    watermark: Option<Timestamp>,
    requests: Vec<String>,
    tokens: Vec<String>,
    cursors: Vec<String>,
    /// How many more messages or batches pass before the stream breaks; each break takes the next entry.
    breaks: Vec<u32>,
    /// How many more calls fail, and how.
    failures: Vec<Status>,
    /// How long each call takes.
    pause: Duration,
    /// Events to reject, by sequence.
    reject: Vec<u64>,
    /// Take this from the cursor.
    forget: u64,
    /// Take messages of the feed, and do nothing about them.
    hold: bool,
    /// Skip this batch of payouts.
    skip: Option<u64>,
}

#[derive(Clone, Default)]
struct Mock(Arc<Mutex<World>>);

/// A server that runs until this is dropped.
struct Running(Option<Runtime>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Mock {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Serves on `address` in a runtime of its own: dropping that breaks every connection.
    fn serve(&self, address: SocketAddr) -> (Running, SocketAddr) {
        let runtime = Runtime::new().unwrap();
        let inside = runtime.enter();
        // The server before may still be on its way out.
        let listener = (0..1_000).find_map(|_| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            let listener = socket.bind(address).and_then(|()| socket.listen(16));
            listener.map_err(|_| std::thread::sleep(Duration::from_millis(5))).ok()
        });
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let services = Server::builder()
            .add_service(BalanceFeedServiceServer::new(self.clone()))
            .add_service(PayoutServiceServer::new(self.clone()));
        runtime.spawn(services.serve_with_incoming(TcpListenerStream::new(listener)));
        drop(inside);
        (Running(Some(runtime)), address)
    }

    fn start(&self) -> (Running, String) {
        let (running, address) = self.serve(([127, 0, 0, 1], 0).into());
        (running, format!("http://{address}"))
    }
}

impl World {
    fn durable(&self) -> u64 {
        self.events.keys().next_back().copied().unwrap_or(0) - self.forget
    }

    fn take(&mut self, message: &v1::StreamBalancesRequest) -> Result<v1::StreamBalancesResponse, Status> {
        let expected = self.durable() + 1;
        if message.first_sequence > expected {
            let metadata = [("expected".to_owned(), expected.to_string())];
            let details = ErrorDetails::with_error_info("SEQUENCE_GAP", ERROR_DOMAIN, metadata);
            return Err(Status::with_error_details(Code::FailedPrecondition, "a gap", details));
        }
        let mut answer = v1::StreamBalancesResponse { source: message.source.clone(), ..Default::default() };
        if let Some(Batch::Packed(packed)) = &message.batch {
            let mut at = 0;
            for (index, length) in packed.account_lengths.iter().enumerate() {
                let account = String::from_utf8(packed.accounts[at..at + usize::from(*length)].to_vec()).unwrap();
                at += usize::from(*length);
                let half = |column: &[u8]| {
                    column.get(index * 8..index * 8 + 8).map_or(0, |half| u64::from_le_bytes(half.try_into().unwrap()))
                };
                let units = u128::from(half(&packed.balances_high)) << 64 | u128::from(half(&packed.balances_low));
                let sequence = message.first_sequence + index as u64;
                match self.events.insert(sequence, (account.clone(), units)) {
                    None if self.reject.contains(&sequence) => {
                        let reason = v1::RejectedEventReason::UnknownAsset.into();
                        answer.rejected.push(v1::RejectedEvent { sequence, reason, message: "no pool".to_owned() });
                    }
                    None => answer.accepted_count += 1,
                    Some(before) => {
                        assert_eq!(before, (account, units), "sequence {sequence} came again with another body");
                        answer.repeated_count += 1;
                    }
                }
            }
            assert_eq!(at, packed.accounts.len());
        }
        self.watermark = message.watermark.or(self.watermark);
        answer.durable_sequence = self.durable();
        answer.watermark = self.watermark;
        Ok(answer)
    }

    fn breaks_now(&mut self) -> bool {
        match self.breaks.first_mut() {
            Some(0) => {
                self.breaks.remove(0);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

#[tonic::async_trait]
impl BalanceFeedService for Mock {
    type StreamBalancesStream = Answers<v1::StreamBalancesResponse>;

    async fn stream_balances(
        &self,
        request: Request<Streaming<v1::StreamBalancesRequest>>,
    ) -> Answer<Self::StreamBalancesStream> {
        let state = (self.clone(), request.into_inner());
        let answers = futures::stream::try_unfold(state, |(mock, mut messages)| async move {
            let Some(message) = messages.message().await? else { return Ok(None) };
            if mock.world().hold {
                return futures::future::pending().await;
            }
            let mut world = mock.world();
            let answer = world.take(&message)?;
            if world.breaks_now() {
                // Durable, and the answer is lost.
                return Err(Status::unavailable("going away"));
            }
            drop(world);
            Ok(Some((answer, (mock, messages))))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn put_balance(&self, request: Request<v1::PutBalanceRequest>) -> Answer<v1::PutBalanceResponse> {
        let token = request.metadata().get("authorization").map(|token| token.to_str().unwrap().to_owned());
        let (pause, failure) = {
            let mut world = self.world();
            world.tokens.extend(token);
            world.requests.push(request.into_inner().request_id);
            (std::mem::take(&mut world.pause), world.failures.pop())
        };
        tokio::time::sleep(pause).await;
        failure.map_or_else(|| Ok(Response::new(v1::PutBalanceResponse::default())), Err)
    }

    async fn get_cursor(&self, request: Request<v1::GetCursorRequest>) -> Answer<v1::GetCursorResponse> {
        let world = self.world();
        let source = request.into_inner().source;
        let durable_sequence = world.durable();
        Ok(Response::new(v1::GetCursorResponse { source, durable_sequence, watermark: world.watermark }))
    }

    async fn correct_balance(&self, _: Request<v1::CorrectBalanceRequest>) -> Answer<v1::CorrectBalanceResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn set_enrolment(&self, _: Request<v1::SetEnrolmentRequest>) -> Answer<v1::SetEnrolmentResponse> {
        Err(Status::unimplemented("not here"))
    }
}

const BATCHES: u64 = 10;

#[tonic::async_trait]
impl PayoutService for Mock {
    type StreamPayoutsStream = Answers<v1::StreamPayoutsResponse>;

    async fn stream_payouts(&self, request: Request<v1::StreamPayoutsRequest>) -> Answer<Self::StreamPayoutsStream> {
        let cursor = request.into_inner().cursor;
        self.world().cursors.push(cursor.clone());
        let first = if cursor.is_empty() { 0 } else { cursor.parse::<u64>().unwrap() + 1 };
        let batches = futures::stream::try_unfold((self.clone(), first), |(mock, batch)| async move {
            let mut world = mock.world();
            if world.breaks_now() {
                return Err(Status::unavailable("going away"));
            }
            let batch = if world.skip == Some(batch) { batch + 1 } else { batch };
            drop(world);
            if batch == BATCHES {
                return Ok(None);
            }
            let payouts = (0..3).map(|n| v1::PayoutItem { name: format!("{}", batch * 3 + n), ..Default::default() });
            let item = v1::StreamPayoutsResponse {
                distribution: "pools/atom/distributions/2026-11-22".to_owned(),
                revision: 1,
                distribution_hash: vec![7; 32],
                first_index: batch * 3,
                payouts: payouts.collect(),
                last: batch + 1 == BATCHES,
                cursor: batch.to_string(),
                ..Default::default()
            };
            Ok(Some((item, (mock, batch + 1))))
        });
        Ok(Response::new(Box::pin(batches)))
    }

    async fn ack_payouts(&self, _: Request<v1::AckPayoutsRequest>) -> Answer<v1::AckPayoutsResponse> {
        Err(Status::unimplemented("not here"))
    }
}

fn options() -> Options {
    let (first_pause, longest_pause) = (Duration::from_millis(2), Duration::from_millis(100));
    let deadline = Duration::from_secs(5);
    Options { first_pause, longest_pause, deadline, stall: Duration::from_secs(5), ..Options::default() }
}

fn event(n: u64) -> BalanceEvent {
    let units = if n.is_multiple_of(3) { u128::from(n) << 64 | 5 } else { u128::from(n) };
    BalanceEvent { account: format!("a{n}"), asset: "NEAR".to_owned(), base_units: units, event_seconds: 7 }
}

#[tokio::test]
async fn a_call_is_tried_again_on_the_same_id() {
    let mock = Mock::default();
    mock.world().failures = vec![Status::aborted("busy"), Status::unavailable("away")];
    let (_server, endpoint) = mock.start();
    let client = Client::connect(&endpoint, options()).await.unwrap();
    client.put_balance(v1::PutBalanceRequest::default()).await.unwrap();
    let given = v1::PutBalanceRequest { request_id: "mine".to_owned(), ..Default::default() };
    mock.world().pause = Duration::from_secs(60);
    client.with_deadline(Duration::from_millis(100)).put_balance(given).await.unwrap();
    let ids = mock.world().requests.clone();
    assert_eq!(ids.len(), 5);
    assert!(ids[0].len() == 36 && ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_eq!(ids[3..], ["mine", "mine"]);
}

#[tokio::test]
async fn a_refusal_is_final_and_says_what_is_wrong() {
    let mock = Mock::default();
    let mut details = ErrorDetails::with_error_info("BAD_AMOUNT", ERROR_DOMAIN, [("limit".to_owned(), "9".to_owned())]);
    details.add_bad_request_violation("balance.base_units", "digits only");
    mock.world().failures = vec![Status::with_error_details(Code::InvalidArgument, "digits only", details)];
    let (_server, endpoint) = mock.start();
    let client = Client::connect(&endpoint, options()).await.unwrap();
    let error = client.put_balance(v1::PutBalanceRequest::default()).await.unwrap_err();
    let ClientError::Refused(refusal) = &error else { panic!("{error}") };
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, "BAD_AMOUNT"));
    assert_eq!(refusal.fields, [("balance.base_units".to_owned(), "digits only".to_owned())]);
    assert_eq!(refusal.metadata["limit"], "9");
    assert_eq!(error.to_string(), "refused: InvalidArgument (BAD_AMOUNT): digits only");
    assert_eq!(mock.world().requests.len(), 1);
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_is_told_as_unknown() {
    let mock = Mock::default();
    mock.world().failures = vec![Status::unavailable("away"); 9];
    let (_server, endpoint) = mock.start();
    let client = Client::connect(&endpoint, Options { attempts: 3, ..options() }).await.unwrap();
    let error = client.put_balance(v1::PutBalanceRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { attempts: 3, .. }), "{error}");
    let nobody = Client::connect("http://127.0.0.1:1", Options { attempts: 2, ..options() }).await.unwrap_err();
    assert!(matches!(nobody, ClientError::OutcomeUnknown { attempts: 2, .. }), "{nobody}");
    let nonsense = Client::connect("no address", options()).await.unwrap_err();
    assert!(matches!(nonsense, ClientError::Endpoint { .. }), "{nonsense}");
}

#[tokio::test]
async fn the_token_is_sent_and_never_shown() {
    let mock = Mock::default();
    let (_server, endpoint) = mock.start();
    let options = Options { token: Some(BearerToken::new("s3cret")), ..options() };
    let client = Client::connect(&endpoint, options).await.unwrap();
    client.put_balance(v1::PutBalanceRequest::default()).await.unwrap();
    assert_eq!(mock.world().tokens, ["Bearer s3cret"]);
    assert!(!format!("{client:?}").contains("s3cret"));
}

#[tokio::test]
async fn the_token_does_not_leave_this_machine_in_plain_text() {
    let with_token = || Options { token: Some(BearerToken::new("secret")), attempts: 1, ..options() };
    for far in ["http://10.0.0.1:7070", "http://ledger.internal", "http://localhost.example", "http://[fe80::1]:7070"] {
        let refused = Client::connect(far, with_token()).await.unwrap_err();
        let ClientError::Endpoint { endpoint, problem } = &refused else { panic!("{refused:?}") };
        assert!(endpoint == far && problem.contains("https://") && !problem.contains("secret"), "{refused}");
    }
    // Nobody is there, which is another matter.
    for near in ["http://127.0.0.1:1", "http://127.9.9.9:1", "http://[::1]:1", "http://localhost:1", "unix:/nowhere"] {
        let away = Client::connect(near, with_token()).await.unwrap_err();
        assert!(matches!(away, ClientError::OutcomeUnknown { .. }), "{near}: {away:?}");
    }
}

#[tokio::test]
async fn the_feed_resumes_from_the_durable_cursor() {
    let mock = Mock::default();
    mock.world().breaks = vec![2, 0, 1];
    mock.world().reject = vec![20_001];
    let (server, endpoint) = mock.start();
    let address = endpoint["http://".len()..].parse().unwrap();
    let client = Client::connect(&endpoint, options()).await.unwrap();
    let mut feed = client.feed("sources/ledger").await.unwrap();
    assert_eq!(feed.next_sequence(), 1);
    assert_eq!(feed.send((1..=20_000).map(event).collect(), Some(100)).await.unwrap(), 20_000);
    feed.flush().await.unwrap();
    assert_eq!((feed.durable_sequence(), mock.world().watermark), (20_000, Some(Timestamp { seconds: 100, nanos: 0 })));

    // The server dies with everything in flight, and comes back.
    mock.world().hold = true;
    feed.send((20_001..=20_010).map(event).collect(), None).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), feed.flush()).await.is_err());
    drop(server);
    mock.world().hold = false;
    let (_server, _) = mock.serve(address);
    feed.send(Vec::new(), Some(200)).await.unwrap();
    let report = feed.flush().await.unwrap();
    assert_eq!(report.durable_sequence, 20_010);
    let rejected: Vec<_> = report.rejected.iter().map(|event| event.sequence).collect();
    assert_eq!(rejected, [20_001]);
    {
        let world = mock.world();
        assert!(world.breaks.is_empty(), "every break was lived through");
        assert_eq!(world.events.len(), 20_010);
        assert_eq!(world.watermark, Some(Timestamp { seconds: 200, nanos: 0 }));
        for (n, (account, units)) in &world.events {
            assert_eq!((account, *units), (&format!("a{n}"), event(*n).base_units));
        }
    }

    // Another writer begins where this one ended; it can't be taken for this one's events.
    let mut other = client.feed("sources/ledger").await.unwrap();
    assert_eq!(other.next_sequence(), 20_011);
    other.send(vec![event(20_011), event(20_012)], None).await.unwrap();
    other.flush().await.unwrap();
    let mine = feed.send(vec![event(20_011)], None).await;
    let mine = match mine {
        Ok(_) => feed.flush().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(mine, Err(ClientError::Contradiction(_))), "{mine:?}");
}

#[tokio::test]
async fn a_feed_that_forgets_what_it_acknowledged_is_not_written_to() {
    let mock = Mock::default();
    let (_server, endpoint) = mock.start();
    let client = Client::connect(&endpoint, options()).await.unwrap();
    let mut feed = client.feed("sources/ledger").await.unwrap();
    feed.send((1..=9).map(event).collect(), None).await.unwrap();
    feed.flush().await.unwrap();
    mock.world().forget = 4;
    feed.send(vec![event(10)], None).await.unwrap();
    let error = feed.flush().await.unwrap_err();
    let ClientError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!((refusal.reason.as_str(), refusal.metadata["expected"].as_str()), ("SEQUENCE_GAP", "6"));
}

#[tokio::test]
async fn events_that_can_not_be_sent_are_named() {
    let mock = Mock::default();
    let (_server, endpoint) = mock.start();
    let client = Client::connect(&endpoint, options()).await.unwrap();
    let mut feed = client.feed("sources/ledger").await.unwrap();
    for account in ["", "with space", &"x".repeat(65), "é"] {
        let bad = BalanceEvent { account: account.to_owned(), ..event(1) };
        let error = feed.send((1..=9_000).map(event).chain([bad]).collect(), None).await.unwrap_err();
        assert!(matches!(error, ClientError::Event { index: 9_000, .. }), "{error}");
    }
    // 300 assets need two batches.
    let many = (0..300).map(|n| BalanceEvent { asset: format!("T{n}"), ..event(n) }).collect();
    assert_eq!(feed.send(many, None).await.unwrap(), 300);
    assert_eq!(feed.flush().await.unwrap().accepted, 300);
}

#[tokio::test]
async fn payouts_resume_after_the_last_batch_given_out() {
    let mock = Mock::default();
    mock.world().breaks = vec![0, 3, 0, 4];
    let (_server, endpoint) = mock.start();
    let client = Client::connect(&endpoint, options()).await.unwrap();
    let mut reader = client.payouts("", "").until_caught_up();
    let mut names = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        names.extend(batch.payouts.iter().map(|payout| payout.name.parse::<u64>().unwrap()));
        assert_eq!(acknowledge(&batch, Vec::new()).acknowledged_count, names.len() as u64);
    }
    assert_eq!(names, (0..30).collect::<Vec<_>>());
    assert_eq!(reader.cursor(), "9");
    assert_eq!(mock.world().cursors, ["", "", "2", "2", "6"]);
}

#[tokio::test]
async fn payouts_that_are_left_out_are_noticed() {
    let mock = Mock::default();
    mock.world().skip = Some(4);
    let (_server, endpoint) = mock.start();
    let client = Client::connect(&endpoint, options()).await.unwrap();
    let mut reader = client.payouts("", "2").until_caught_up();
    assert_eq!(reader.next().await.unwrap().unwrap().first_index, 9);
    let error = reader.next().await.unwrap_err();
    assert!(error.to_string().contains("payouts 12 to 14 "), "{error}");
}
