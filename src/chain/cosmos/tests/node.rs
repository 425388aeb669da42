//! A node that says what a test wants, over a real socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use prost_types::Any;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::super::config::CosmosEndpoint;
use crate::pb::cosmos::auth::v1beta1::query_server::{Query, QueryServer};
use crate::pb::cosmos::auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse};
use crate::pb::cosmos::base::abci::v1beta1::TxResponse;
use crate::pb::cosmos::base::tendermint::v1beta1 as blocks;
use crate::pb::cosmos::base::tendermint::v1beta1::service_server::{Service as Blocks, ServiceServer as BlocksServer};
use crate::pb::cosmos::tx::v1beta1 as tx;
use crate::pb::cosmos::tx::v1beta1::service_server::{Service as Transactions, ServiceServer as TransactionsServer};
use crate::pb::tendermint::types::{Block, BlockId, Header};

/// What a node says.
#[derive(Clone, Debug)]
pub(super) struct Says {
    pub(super) chain: String,
    pub(super) height: u64,
    /// What makes its blocks' hashes.
    pub(super) fork: String,
    pub(super) syncing: bool,
    pub(super) address: String,
    pub(super) sequence: u64,
    /// The answer to the next broadcast.
    pub(super) broadcast: TxResponse,
    /// What was broadcast.
    pub(super) taken: Vec<Vec<u8>>,
    /// Its index: by hash, and by query.
    pub(super) index: BTreeMap<String, TxResponse>,
    pub(super) searches: BTreeMap<String, Vec<TxResponse>>,
    pub(super) indexes: bool,
}

/// A running node.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) endpoint: CosmosEndpoint,
    says: Arc<Mutex<Says>>,
}

/// Where nobody listens.
pub(super) fn nowhere() -> CosmosEndpoint {
    let nowhere = "http://127.0.0.1:1".to_owned();
    CosmosEndpoint { grpc: nowhere.clone(), rpc: nowhere }
}

impl Node {
    pub(super) async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = CosmosEndpoint { grpc, rpc: nowhere().rpc };
        let node = Self { endpoint, says: Arc::new(Mutex::new(says)) };
        let server = Server::builder()
            .add_service(QueryServer::new(node.clone()))
            .add_service(BlocksServer::new(node.clone()))
            .add_service(TransactionsServer::new(node.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        node
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    pub(super) fn says(&self) -> Says {
        self.says.lock().unwrap().clone()
    }
}

fn block(says: &Says, height: u64) -> (Option<BlockId>, Option<Block>) {
    let hash = format!("{}{height}", says.fork).into_bytes();
    let header = Header { chain_id: says.chain.clone(), height: height.try_into().unwrap(), time: None };
    (Some(BlockId { hash }), Some(Block { header: Some(header) }))
}

#[tonic::async_trait]
impl Blocks for Node {
    async fn get_syncing(
        &self,
        _: Request<blocks::GetSyncingRequest>,
    ) -> Result<Response<blocks::GetSyncingResponse>, Status> {
        Ok(Response::new(blocks::GetSyncingResponse { syncing: self.says().syncing }))
    }

    async fn get_latest_block(
        &self,
        _: Request<blocks::GetLatestBlockRequest>,
    ) -> Result<Response<blocks::GetLatestBlockResponse>, Status> {
        let says = self.says();
        let (block_id, block) = block(&says, says.height);
        Ok(Response::new(blocks::GetLatestBlockResponse { block_id, block }))
    }

    async fn get_block_by_height(
        &self,
        request: Request<blocks::GetBlockByHeightRequest>,
    ) -> Result<Response<blocks::GetBlockByHeightResponse>, Status> {
        let (block_id, block) = block(&self.says(), request.get_ref().height.try_into().unwrap());
        Ok(Response::new(blocks::GetBlockByHeightResponse { block_id, block }))
    }
}

#[tonic::async_trait]
impl Query for Node {
    async fn account(&self, _: Request<QueryAccountRequest>) -> Result<Response<QueryAccountResponse>, Status> {
        let says = self.says();
        let account = BaseAccount { address: says.address, pub_key: None, account_number: 7, sequence: says.sequence };
        let type_url = "/cosmos.auth.v1beta1.BaseAccount".to_owned();
        let account = Some(Any { type_url, value: account.encode_to_vec() });
        let mut response = Response::new(QueryAccountResponse { account });
        response.metadata_mut().insert("x-cosmos-block-height", says.height.into());
        Ok(response)
    }
}

#[tonic::async_trait]
impl Transactions for Node {
    async fn get_tx(&self, request: Request<tx::GetTxRequest>) -> Result<Response<tx::GetTxResponse>, Status> {
        let says = self.says();
        if !says.indexes {
            return Err(Status::unknown("transaction indexing is disabled"));
        }
        let found = says.index.get(&request.get_ref().hash).cloned();
        let tx_response = found.ok_or_else(|| Status::not_found("tx not found"))?;
        Ok(Response::new(tx::GetTxResponse { tx: None, tx_response: Some(tx_response) }))
    }

    async fn broadcast_tx(
        &self,
        request: Request<tx::BroadcastTxRequest>,
    ) -> Result<Response<tx::BroadcastTxResponse>, Status> {
        assert_eq!(request.get_ref().mode(), tx::BroadcastMode::Sync);
        self.set(|says| says.taken.push(request.into_inner().tx_bytes));
        Ok(Response::new(tx::BroadcastTxResponse { tx_response: Some(self.says().broadcast) }))
    }

    async fn get_txs_event(
        &self,
        request: Request<tx::GetTxsEventRequest>,
    ) -> Result<Response<tx::GetTxsEventResponse>, Status> {
        let tx_responses = self.says().searches.get(&request.get_ref().query).cloned().unwrap_or_default();
        let total = tx_responses.len() as u64;
        Ok(Response::new(tx::GetTxsEventResponse { txs: Vec::new(), tx_responses, total }))
    }
}
