//! A node that serves the captured blocks over loopback, gRPC and JSON-RPC, and can be told to misbehave: for this room's
//! tests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost_types::{Duration as ProtoDuration, Timestamp};
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use super::captured::{CHAIN, Captured, State, fixture};
use super::effects::Us;
use super::reads::Reads;
use super::rpc::Rpc;
use crate::domain::ids::ChainId;
use crate::pb::cosmos::bank::v1beta1::query_server::{Query as Bank, QueryServer as BankServer};
use crate::pb::cosmos::bank::v1beta1::{QueryBalanceRequest, QueryBalanceResponse};
use crate::pb::cosmos::base::query::v1beta1::{PageRequest, PageResponse};
use crate::pb::cosmos::base::v1beta1::{Coin, DecCoin};
use crate::pb::cosmos::distribution::v1beta1::query_server::{
    Query as Distribution, QueryServer as DistributionServer,
};
use crate::pb::cosmos::distribution::v1beta1::{
    DelegationDelegatorReward, QueryDelegationTotalRewardsRequest, QueryDelegationTotalRewardsResponse,
};
use crate::pb::cosmos::staking::v1beta1::query_server::{Query as Staking, QueryServer as StakingServer};
use crate::pb::cosmos::staking::v1beta1::*;

const ONE: &str = "000000000000000000";

/// The node.
pub(super) struct FakeNode {
    us: Us,
    blocks: BTreeMap<u64, Captured>,
    /// The last height that it has.
    pub(super) head: AtomicU64,
    /// By how much the height that it names is more than the one that it was asked for.
    pub(super) off: AtomicU64,
    /// The oldest block that it has not pruned.
    pub(super) oldest: AtomicU64,
    /// How many results of blocks it was asked for.
    pub(super) asked: AtomicU64,
}

type Answer<T> = Result<Response<T>, Status>;

/// Starts one that has every captured block, and gives a reader of it.
pub(super) async fn start() -> (Arc<FakeNode>, Reads) {
    let (us, blocks) = fixture();
    let head = blocks.last().unwrap().height;
    let blocks = blocks.into_iter().map(|one| (one.height, one)).collect();
    let (off, asked, oldest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(1));
    let node = Arc::new(FakeNode { us: us.clone(), blocks, head: AtomicU64::new(head), off, asked, oldest });
    let listen = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (grpc, rpc) = (listen().await, listen().await);
    let (to_grpc, to_rpc) = (grpc.local_addr().unwrap(), rpc.local_addr().unwrap());
    let server = Server::builder()
        .add_service(StakingServer::from_arc(node.clone()))
        .add_service(BankServer::from_arc(node.clone()))
        .add_service(DistributionServer::from_arc(node.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(grpc)));
    tokio::spawn(serve(node.clone(), rpc));
    let timeout = Duration::from_secs(20);
    let reads = Reads {
        chain: ChainId::new(CHAIN).unwrap(),
        us,
        prefix: "cosmos".to_owned(),
        grpc: Channel::from_shared(format!("http://{to_grpc}")).unwrap().connect_lazy(),
        rpc: Rpc::new(&format!("http://{to_rpc}/"), timeout, None).unwrap(),
        timeout,
    };
    (node, reads)
}

async fn serve(node: Arc<FakeNode>, listener: tokio::net::TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let node = node.clone();
        let answer = service_fn(move |request: http::Request<Incoming>| {
            let answer = node.answer(request.uri()).to_string();
            async move { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(answer)))) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

impl FakeNode {
    fn refused(&self, height: u64) -> Option<Value> {
        let there = self.oldest.load(Ordering::Relaxed)..=self.head.load(Ordering::Relaxed);
        let data = format!("height {height} is not there");
        let error = json!({ "code": -32603, "message": "Internal error", "data": data });
        (!there.contains(&height)).then(|| json!({ "error": error }))
    }

    fn answer(&self, uri: &Uri) -> Value {
        let asked: BTreeMap<&str, &str> =
            uri.query().unwrap().split('&').map(|one| one.split_once('=').unwrap()).collect();
        let height: u64 = asked["height"].parse().unwrap();
        let captured = self.blocks.get(&height);
        match uri.path() {
            "/block_results" => {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let empty = json!({ "height": height.to_string(), "txs_results": null, "finalize_block_events": [] });
                let there = captured.map_or(json!({ "result": empty }), |one| one.results.clone());
                self.refused(height).unwrap_or(there)
            }
            "/block" => {
                let time = 1_795_639_408 + i64::try_from(height).unwrap();
                let time = jiff::Timestamp::from_second(time).unwrap().to_string();
                let header = json!({ "chain_id": CHAIN, "height": height.to_string(), "time": time });
                let empty = json!({ "block": { "header": header, "data": { "txs": [] } } });
                let there = captured.map_or(json!({ "result": empty }), |one| one.block.clone());
                self.refused(height).unwrap_or(there)
            }
            // Every delegation began with the third block.
            "/abci_query" => {
                assert_eq!(asked["path"], "%22/store/distribution/key%22");
                assert!(
                    asked["data"].starts_with("0x0414") && asked["data"].len() == 2 + 2 * (1 + 21 + 21),
                    "{asked:?}"
                );
                json!({ "result": { "response": { "code": 0, "value": "GAM=", "height": asked["height"] } } })
            }
            other => panic!("{other}"),
        }
    }

    /// The state at the height that the request asks for, and the answer's way to say that height.
    fn at<T, A>(&self, request: &Request<T>, answer: impl FnOnce(&State) -> A) -> Answer<A> {
        let head = self.head.load(Ordering::Relaxed);
        let asked = request.metadata().get("x-cosmos-block-height");
        let height: u64 = asked.map_or(head, |asked| asked.to_str().unwrap().parse().unwrap());
        if self.refused(height).is_some() {
            return Err(Status::unknown("cannot query with height in the future"));
        }
        let before = &self.blocks.first_key_value().unwrap().1.before;
        let state = self.blocks.range(..=height).next_back().map_or(before, |(_, one)| &one.after);
        let mut response = Response::new(answer(state));
        let named = height + self.off.load(Ordering::Relaxed);
        response.metadata_mut().insert("x-cosmos-block-height", named.into());
        Ok(response)
    }

    fn coin(&self, amount: &str) -> Coin {
        Coin { denom: self.us.denom.clone(), amount: amount.to_owned() }
    }
}

/// One item a page, whatever was asked for.
fn page<T>(all: Vec<T>, asked: Option<&PageRequest>) -> (Vec<T>, Option<PageResponse>) {
    let at = asked.and_then(|page| page.key.first()).map_or(0, |at| usize::from(*at));
    let more = at + 1 < all.len();
    let next_key = if more { vec![u8::try_from(at + 1).unwrap()] } else { Vec::new() };
    (all.into_iter().skip(at).take(1).collect(), Some(PageResponse { next_key, ..PageResponse::default() }))
}

#[tonic::async_trait]
impl Staking for FakeNode {
    async fn params(&self, request: Request<QueryParamsRequest>) -> Answer<QueryParamsResponse> {
        let unbonding_time = Some(ProtoDuration { seconds: 35, nanos: 0 });
        let params = Params { unbonding_time, max_entries: 7, bond_denom: self.us.denom.clone() };
        self.at(&request, |_| QueryParamsResponse { params: Some(params) })
    }

    async fn validators(&self, request: Request<QueryValidatorsRequest>) -> Answer<QueryValidatorsResponse> {
        self.at(&request, |state| {
            let one = |whom: &String| Validator {
                operator_address: whom.clone(),
                status: BondStatus::Bonded.into(),
                tokens: "5".to_owned(),
                delegator_shares: format!("5{ONE}"),
                commission: Some(Commission { commission_rates: Some(CommissionRates { rate: "1".to_owned() }) }),
                ..Validator::default()
            };
            let all = state.delegated.keys().map(one).collect();
            let (validators, pagination) = page(all, request.get_ref().pagination.as_ref());
            QueryValidatorsResponse { validators, pagination }
        })
    }

    async fn delegator_delegations(
        &self,
        request: Request<QueryDelegatorDelegationsRequest>,
    ) -> Answer<QueryDelegatorDelegationsResponse> {
        self.at(&request, |state| {
            let one = |(whom, amount): (&String, &String)| DelegationResponse {
                delegation: Some(Delegation {
                    delegator_address: request.get_ref().delegator_addr.clone(),
                    validator_address: whom.clone(),
                    shares: format!("{amount}{ONE}"),
                }),
                balance: Some(self.coin(amount)),
            };
            let all = state.delegated.iter().map(one).collect();
            let (delegation_responses, pagination) = page(all, request.get_ref().pagination.as_ref());
            QueryDelegatorDelegationsResponse { delegation_responses, pagination }
        })
    }

    async fn delegator_unbonding_delegations(
        &self,
        request: Request<QueryDelegatorUnbondingDelegationsRequest>,
    ) -> Answer<QueryDelegatorUnbondingDelegationsResponse> {
        self.at(&request, |state| {
            let entry = |balance: &String| UnbondingDelegationEntry {
                creation_height: 1,
                completion_time: Some(Timestamp { seconds: 99, nanos: 0 }),
                balance: balance.clone(),
            };
            let one = |(whom, amount): (&String, &String)| UnbondingDelegation {
                delegator_address: request.get_ref().delegator_addr.clone(),
                validator_address: whom.clone(),
                entries: vec![entry(amount)],
            };
            let all = state.unbonding.iter().map(one).collect();
            let (unbonding_responses, pagination) = page(all, request.get_ref().pagination.as_ref());
            QueryDelegatorUnbondingDelegationsResponse { unbonding_responses, pagination }
        })
    }

    async fn redelegations(&self, request: Request<QueryRedelegationsRequest>) -> Answer<QueryRedelegationsResponse> {
        self.at(&request, |state| {
            let pair = |whom: &String| Redelegation {
                delegator_address: request.get_ref().delegator_addr.clone(),
                validator_src_address: "cosmosvaloper1gone".to_owned(),
                validator_dst_address: whom.clone(),
            };
            let entries = vec![RedelegationEntryResponse { balance: "1".to_owned() }];
            let first = state.delegated.keys().take(1);
            let all =
                first.map(|whom| RedelegationResponse { redelegation: Some(pair(whom)), entries: entries.clone() });
            let (redelegation_responses, pagination) = page(all.collect(), request.get_ref().pagination.as_ref());
            QueryRedelegationsResponse { redelegation_responses, pagination }
        })
    }
}

#[tonic::async_trait]
impl Bank for FakeNode {
    async fn balance(&self, request: Request<QueryBalanceRequest>) -> Answer<QueryBalanceResponse> {
        self.at(&request, |state| QueryBalanceResponse { balance: Some(self.coin(&state.liquid)) })
    }
}

#[tonic::async_trait]
impl Distribution for FakeNode {
    async fn delegation_total_rewards(
        &self,
        request: Request<QueryDelegationTotalRewardsRequest>,
    ) -> Answer<QueryDelegationTotalRewardsResponse> {
        self.at(&request, |state| {
            let coin = |denom: &str, amount: &str| DecCoin { denom: denom.to_owned(), amount: amount.to_owned() };
            let reward = vec![coin("ibc/AB", "7"), coin(&self.us.denom, "12999999999999999999")];
            let one =
                |whom: &String| DelegationDelegatorReward { validator_address: whom.clone(), reward: reward.clone() };
            QueryDelegationTotalRewardsResponse { rewards: state.delegated.keys().map(one).collect() }
        })
    }
}
