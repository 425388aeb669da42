//! The feed against a server of its own making, which dies when it is told to.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream as AnyStream, StreamExt};
use tonic::Request;
use v1::balance_feed_service_server::{BalanceFeedService, BalanceFeedServiceServer};

use super::*;
use crate::client::Options;

/// What is on the disk of the pretended server: balances by sequence, and the watermark.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u128>, Option<i64>)>>);

impl Disk {
    /// Takes a message, unless that would be more than `most` events.
    fn take(&self, message: v1::StreamBalancesRequest, most: usize) -> Option<v1::StreamBalancesResponse> {
        let mut disk = self.0.lock().unwrap();
        let low = |bytes: &[u8]| u128::from(u64::from_le_bytes(bytes.try_into().unwrap()));
        let balances: Vec<u128> = match message.batch {
            None => Vec::new(),
            Some(Batch::Rows(rows)) => rows.events.iter().map(row_units).collect(),
            Some(Batch::Packed(packed)) => packed.balances_low.chunks(8).map(low).collect(),
            Some(Batch::Snapshot(_)) => panic!("no snapshot was sent"),
        };
        assert_eq!(message.first_sequence, disk.0.len() as u64 + 1, "a gap, or something twice");
        if disk.0.len() + balances.len() > most {
            return None;
        }
        disk.0.extend(balances);
        disk.1 = message.watermark.map(|time| time.seconds).or(disk.1);
        Some(v1::StreamBalancesResponse {
            durable_sequence: disk.0.len() as u64,
            watermark: disk.1.map(|seconds| Timestamp { seconds, nanos: 0 }),
            ..v1::StreamBalancesResponse::default()
        })
    }
}

/// A server that forgets to answer once it holds so many events.
struct Mock {
    disk: Disk,
    silent_after: usize,
    /// It stops taking events there.
    deaf_after: usize,
}

#[tonic::async_trait]
impl BalanceFeedService for Mock {
    type StreamBalancesStream = Pin<Box<dyn AnyStream<Item = Result<v1::StreamBalancesResponse, Status>> + Send>>;

    async fn stream_balances(
        &self,
        request: Request<tonic::Streaming<v1::StreamBalancesRequest>>,
    ) -> Result<Response<Self::StreamBalancesStream>, Status> {
        let mut inbound = request.into_inner();
        let (answers, outbound) = mpsc::channel(16);
        let (disk, silent_after, deaf_after) = (self.disk.clone(), self.silent_after, self.deaf_after);
        // As a server may: nothing is answered before the first message is there.
        let mut next = inbound.next().await;
        tokio::spawn(async move {
            while let Some(Ok(message)) = next {
                let Some(answer) = disk.take(message, deaf_after) else { return std::future::pending().await };
                if answer.durable_sequence as usize <= silent_after && answers.send(Ok(answer)).await.is_err() {
                    return;
                }
                next = inbound.next().await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }

    async fn get_cursor(&self, _: Request<v1::GetCursorRequest>) -> Result<Response<v1::GetCursorResponse>, Status> {
        let disk = self.disk.0.lock().unwrap();
        Ok(Response::new(v1::GetCursorResponse {
            source: SOURCE.to_owned(),
            durable_sequence: disk.0.len() as u64,
            watermark: disk.1.map(|seconds| Timestamp { seconds, nanos: 0 }),
        }))
    }

    async fn put_balance(&self, _: Request<v1::PutBalanceRequest>) -> Result<Response<v1::PutBalanceResponse>, Status> {
        Err(not_here())
    }

    async fn correct_balance(
        &self,
        _: Request<v1::CorrectBalanceRequest>,
    ) -> Result<Response<v1::CorrectBalanceResponse>, Status> {
        Err(not_here())
    }

    async fn set_enrolment(
        &self,
        _: Request<v1::SetEnrolmentRequest>,
    ) -> Result<Response<v1::SetEnrolmentResponse>, Status> {
        Err(not_here())
    }
}

fn not_here() -> Status {
    Status::unimplemented("not here")
}

fn row_units(row: &v1::BalanceRow) -> u128 {
    super::super::amounts::units(row.balance.as_ref())
}

async fn serve(mock: Mock, port: u16) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tonic::transport::Server::builder().add_service(BalanceFeedServiceServer::new(mock));
    let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
    (port, tokio::spawn(async move { serving.await.unwrap() }))
}

fn events(range: std::ops::Range<u128>) -> Vec<BalanceEvent> {
    let event =
        |n| BalanceEvent { account: format!("a{n}"), asset: "ATOM".to_owned(), base_units: n, event_seconds: 7 };
    range.map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_mixes_both_forms_and_waits_until_all_is_durable() {
    let disk = Disk::default();
    let mock = Mock { disk: disk.clone(), silent_after: usize::MAX, deaf_after: usize::MAX };
    let (port, _server) = serve(mock, 0).await;
    let mut feed = Feed::new(format!("http://127.0.0.1:{port}"));
    feed.send(events(1..101), 8, 10).await.unwrap();
    feed.wait().await.unwrap();
    feed.send(Vec::new(), 8, 20).await.unwrap();
    feed.wait().await.unwrap();
    assert_eq!((feed.sent(), feed.durable(), feed.counts.batches), (100, 100, 13));
    assert!(feed.outbox.is_empty());
    assert_eq!(*disk.0.lock().unwrap(), ((1..101).collect(), Some(20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_death_nothing_is_lost_or_doubled() {
    for (silent_after, deaf_after) in [(16, 40), (0, 40), (40, 40), (0, 0), (96, 96)] {
        let disk = Disk::default();
        let (port, server) = serve(Mock { disk: disk.clone(), silent_after, deaf_after }, 0).await;
        let mut feed = Feed::new(format!("http://127.0.0.1:{port}"));
        feed.send(events(1..101), 8, 10).await.unwrap();
        feed.wait_for_one().await;
        // Whatever it takes before it is deaf, it has taken when it dies.
        while disk.0.lock().unwrap().0.len() < deaf_after / 8 * 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.abort();
        let before = disk.0.lock().unwrap().0.len() as u64;
        let mock = Mock { disk: disk.clone(), silent_after: usize::MAX, deaf_after: usize::MAX };
        let (_, _server) = restart(mock, port).await;
        let client = Client::connect(&feed.endpoint, Options::default()).await.unwrap();
        let cut = feed.resume(&client).await.unwrap();
        assert_eq!(cut.sent, 100);
        assert!(cut.acknowledged <= cut.durable && cut.durable >= before, "{cut:?}");
        assert_eq!(feed.durable(), 100);
        assert_eq!(*disk.0.lock().unwrap(), ((1..101).collect(), Some(10)));
    }
}

/// The port is free once the old server's listener is dropped.
async fn restart(mock: Mock, port: u16) -> (u16, tokio::task::JoinHandle<()>) {
    for _ in 0..200 {
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    serve(mock, port).await
}

#[test]
fn what_is_durable_leaves_the_outbox_and_nothing_else_does() {
    let mut feed = Feed { next_sequence: 6, outbox: events(1..6).into(), ..Feed::new(String::new()) };
    feed.settle(2, None);
    assert_eq!((feed.durable(), feed.outbox.len(), feed.outbox[0].base_units), (2, 3, 3));
    feed.settle(1, Some(Timestamp { seconds: 9, nanos: 0 }));
    assert_eq!((feed.durable(), feed.outbox.len(), feed.durable_watermark), (2, 3, 9));
    feed.settle(5, None);
    assert!(feed.outbox.is_empty());
}
