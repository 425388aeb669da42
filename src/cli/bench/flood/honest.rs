//! A client that means well, on a machine of its own: one call after another, each measured until it is answered.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::super::feed::source;
use super::super::load::{ASSET, Load, Share, packed};
use super::super::measure::Latencies;
use super::super::{BenchError, POOL};
use crate::client::{Client, ClientError, Options, Tls};
use crate::pb::v1;
use v1::balance_feed_service_client::BalanceFeedServiceClient;
use v1::stream_balances_request::Batch;

/// Where it calls from: no address that a flood comes from.
const OWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// How often its round of calls begins: a hundred times a second, so that a quiet server has time to spare.
const ROUND: Duration = Duration::from_millis(10);

/// How long one call may take, its retries included. One that takes longer is not answered.
const DEADLINE: Duration = Duration::from_secs(30);

/// Events of one batch.
const EVENTS: usize = 100;

/// The calls of a round, as the table names them.
pub(super) const CALLS: [&str; 4] =
    ["100 events acknowledged durable", "GetPosition", "ListPayouts, 100 lines", "PutBalance"];

/// The client.
pub(super) struct Honest {
    load: Load,
    share: Share,
    client: Client,
    batches: mpsc::Sender<v1::StreamBalancesRequest>,
    answers: Streaming<v1::StreamBalancesResponse>,
    next_sequence: u64,
    at_seconds: i64,
    rounds: u64,
    state: u64,
}

/// A connection from its own address.
async fn connect(endpoint: &str, tls: Option<&Tls>) -> Result<Channel, BenchError> {
    let mut endpoint = Endpoint::from_shared(endpoint.to_owned())?.local_address(Some(OWN_ADDRESS));
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.config())?;
    }
    Ok(endpoint.connect().await?)
}

impl Honest {
    /// Connects, and goes on with the events of the source that `share` has, of which `acknowledged` is the last known. What happens, happens at `at_seconds`.
    pub(super) async fn connect(
        endpoint: &str,
        tls: Option<&Tls>,
        load: Load,
        share: Share,
        acknowledged: u64,
        at_seconds: i64,
    ) -> Result<Self, BenchError> {
        let channel = connect(endpoint, tls).await?;
        let options = Options { deadline: DEADLINE, attempts: 1_000, ..Options::default() };
        let call = |error| BenchError::Call { what: "connecting", error };
        let client = Client::with_channel(channel.clone(), options).map_err(call)?;
        let (batches, outbound) = mpsc::channel(1);
        let mut service = BalanceFeedServiceClient::new(channel);
        let answers = service.stream_balances(ReceiverStream::new(outbound)).await?.into_inner();
        let (next_sequence, state) = (acknowledged + 1, load.seed);
        Ok(Self { load, share, client, batches, answers, next_sequence, at_seconds, rounds: 0, state })
    }

    /// The last of its events that is acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.next_sequence - 1
    }

    /// Makes rounds of calls for so long: how long each call took, in the order of [`CALLS`].
    pub(super) async fn calls(&mut self, long: Duration) -> Result<[Latencies; CALLS.len()], BenchError> {
        let mut latencies: [Latencies; CALLS.len()] = Default::default();
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let started = Instant::now();
        while started.elapsed() < long {
            rounds.tick().await;
            for (call, latencies) in latencies.iter_mut().enumerate() {
                let began = Instant::now();
                match call {
                    0 => self.feed().await?,
                    1 => self.position().await?,
                    2 => self.payouts().await?,
                    _ => self.put().await?,
                }
                latencies.push(began.elapsed());
            }
            self.rounds += 1;
        }
        Ok(latencies)
    }

    async fn feed(&mut self) -> Result<(), BenchError> {
        let ended = || BenchError::Feed("an honest stream was ended".to_owned());
        let updates = self.load.updates(self.share, self.rounds, EVENTS);
        let message = v1::StreamBalancesRequest {
            source: format!("sources/{}", source(self.share.place)),
            first_sequence: self.next_sequence,
            batch: Some(Batch::Packed(packed(&updates, self.at_seconds))),
            watermark: None,
        };
        self.next_sequence += EVENTS as u64;
        self.batches.send(message).await.map_err(|_| ended())?;
        while let Some(answer) = self.answers.message().await? {
            if answer.durable_sequence + 1 >= self.next_sequence {
                return Ok(());
            }
        }
        Err(ended())
    }

    async fn position(&mut self) -> Result<(), BenchError> {
        let account = Load::account(self.load.any(&mut self.state));
        let request = v1::GetPositionRequest { name: format!("accounts/{account}/positions/{POOL}") };
        self.client.get_position(request).await.map_err(of("GetPosition")).map(drop)
    }

    async fn payouts(&mut self) -> Result<(), BenchError> {
        let parent = format!("accounts/{}", Load::account(self.load.any(&mut self.state)));
        let request = v1::ListPayoutsRequest { parent, page_size: 100, ..Default::default() };
        self.client.list_payouts(request).await.map_err(of("ListPayouts")).map(drop)
    }

    async fn put(&mut self) -> Result<(), BenchError> {
        let base_units = (1_000_000 + self.rounds).to_string();
        let request = v1::PutBalanceRequest {
            request_id: format!("honest-{}", uuid::Uuid::new_v4().simple()),
            account: "honest".to_owned(),
            balance: Some(v1::Amount { asset: ASSET.to_owned(), base_units }),
            event_time: None,
        };
        self.client.put_balance(request).await.map_err(of("PutBalance")).map(drop)
    }
}

fn of(what: &'static str) -> impl FnOnce(ClientError) -> BenchError {
    move |error| BenchError::Call { what, error }
}
