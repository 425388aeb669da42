//! Calls without the typed client: every answer is taken as it stands in the transport.

use std::collections::BTreeMap;
use std::fmt::Debug;

use softstake::pb::v1;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;
use v1::account_service_client::AccountServiceClient;
use v1::admin_service_client::AdminServiceClient;
use v1::balance_feed_service_client::BalanceFeedServiceClient;
use v1::payout_service_client::PayoutServiceClient;
use v1::pool_service_client::PoolServiceClient;
use v1::stream_balances_request::Batch;
use v1::transfer_service_client::TransferServiceClient;

use crate::harness::{Event, START, time};

/// A client of each service, on one connection.
#[derive(Clone)]
pub struct Raw {
    pub feed: BalanceFeedServiceClient<Channel>,
    pub transfers: TransferServiceClient<Channel>,
    pub payouts: PayoutServiceClient<Channel>,
    pub accounts: AccountServiceClient<Channel>,
    pub pools: PoolServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
    pub channel: Channel,
}

impl Raw {
    /// Connects to `endpoint`.
    pub async fn connect(endpoint: &str) -> Self {
        let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
        Self {
            feed: BalanceFeedServiceClient::new(channel.clone()),
            transfers: TransferServiceClient::new(channel.clone()),
            payouts: PayoutServiceClient::new(channel.clone()),
            accounts: AccountServiceClient::new(channel.clone()),
            pools: PoolServiceClient::new(channel.clone()),
            admin: AdminServiceClient::new(channel.clone()),
            channel,
        }
    }

    /// Sends messages on one stream of the feed and closes it. Gives the answers, and how the stream ended.
    pub async fn stream(
        &mut self,
        messages: Vec<v1::StreamBalancesRequest>,
    ) -> (Vec<v1::StreamBalancesResponse>, Result<(), Status>) {
        let mut inbound = match self.feed.stream_balances(tokio_stream::iter(messages)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let mut answers = Vec::new();
        loop {
            match inbound.message().await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => return (answers, Ok(())),
                Err(status) => return (answers, Err(status)),
            }
        }
    }
}

/// Events of the source `ledger` as messages.
pub fn rows(first_sequence: u64, events: &[Event<'_>], watermark: Option<i64>) -> v1::StreamBalancesRequest {
    v1::StreamBalancesRequest {
        source: "sources/ledger".to_owned(),
        first_sequence,
        batch: Some(Batch::Rows(v1::BalanceRows { events: events.iter().map(Event::row).collect() })),
        watermark: watermark.map(|seconds| time(START + seconds)),
    }
}

/// A refusal, as programs see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    pub reason: String,
    pub fields: Vec<String>,
    pub metadata: BTreeMap<String, String>,
}

impl Refused {
    /// Code, reason and the first field at fault.
    pub fn short(&self) -> (Code, &str, &str) {
        (self.code, &self.reason, self.fields.first().map_or("", String::as_str))
    }
}

/// What a call was refused with: one ErrorInfo of our domain, and a message for people.
pub fn refused<T: Debug>(answer: Result<T, Status>) -> Refused {
    let status = answer.unwrap_err();
    let details = status.get_error_details_vec();
    let infos = details.iter().filter(|detail| matches!(detail, tonic_types::ErrorDetail::ErrorInfo(_))).count();
    assert_eq!(infos, 1, "{status:?}");
    assert!(!status.message().is_empty(), "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "softstake");
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    Refused {
        code: status.code(),
        reason: info.reason.clone(),
        fields: violations.into_iter().map(|violation| violation.field).collect(),
        metadata: info.metadata.clone().into_iter().collect(),
    }
}

/// The message of an answer.
pub fn answer<T: Debug>(answer: Result<Response<T>, Status>) -> T {
    answer.unwrap().into_inner()
}
