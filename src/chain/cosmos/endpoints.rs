//! The nodes of a chain: which of them are asked, and what they must agree on. Called within this room only.
//!
//! Every call looks at all nodes first, at the same time. One that does not answer rests for some calls; one that is still
//! syncing, or is behind the highest seen by more than `max_lag_blocks`, is passed over. The others are asked in their order
//! until one can answer. A node of another chain, or with another block at a height that two of them have, makes the answer
//! untrusted, since nobody knows which of the two lies.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use futures::future::join_all;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::config::{CosmosConfig, CosmosConfigError, CosmosEndpoint};
use crate::chain::ChainError;
use crate::pb::cosmos::base::tendermint::v1beta1::service_client::ServiceClient;
use crate::pb::cosmos::base::tendermint::v1beta1::{GetBlockByHeightRequest, GetLatestBlockRequest, GetSyncingRequest};
use crate::pb::tendermint::types::{Block, BlockId};

/// For so many calls nobody asks a node that did not answer.
const REST: u32 = 8;

/// The most bytes of one answer: a block comes twice in it.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// The last block that a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) height: u64,
    pub(super) hash: Vec<u8>,
}

/// A node that may be asked.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it is.
    pub(super) endpoint: CosmosEndpoint,
    pub(super) grpc: Channel,
    at: usize,
    head: Head,
}

struct Known {
    endpoint: CosmosEndpoint,
    grpc: Channel,
    /// How many calls it is not asked for.
    rests: AtomicU32,
}

/// Every node of one chain.
pub(super) struct Endpoints {
    chain: String,
    max_lag: u64,
    nodes: Vec<Known>,
    /// The highest block seen, of nodes that nobody contradicted.
    highest: AtomicU64,
}

impl Endpoints {
    /// Connects to none yet. Needs a runtime to be called in, as tonic's channels do.
    pub(super) fn new(config: &CosmosConfig) -> Result<Self, CosmosConfigError> {
        let nodes = config.endpoints.iter().map(|endpoint| {
            let grpc = channel(config, &endpoint.grpc)?;
            Ok::<_, CosmosConfigError>(Known { endpoint: endpoint.clone(), grpc, rests: AtomicU32::new(0) })
        });
        Ok(Self {
            chain: config.chain.as_str().to_owned(),
            max_lag: config.max_lag_blocks,
            nodes: nodes.collect::<Result<_, _>>()?,
            highest: AtomicU64::new(0),
        })
    }

    /// The gRPC of each, in their order.
    pub(super) fn channels(&self) -> impl Iterator<Item = Channel> {
        self.nodes.iter().map(|known| known.grpc.clone())
    }

    /// Asks the nodes that may be asked, one after the other, until one can answer; else the last one's error.
    pub(super) async fn ask<T, F>(&self, question: impl Fn(Node) -> F) -> Result<T, ChainError>
    where
        F: Future<Output = Result<T, ChainError>>,
    {
        let mut last = ChainError::Unavailable("no endpoint answers".to_owned());
        for node in self.good().await? {
            match question(node).await {
                Err(ChainError::Unavailable(why)) => last = ChainError::Unavailable(why),
                answer => return answer,
            }
        }
        Err(last)
    }

    /// The nodes that may be asked, in their order.
    async fn good(&self) -> Result<Vec<Node>, ChainError> {
        let awake = |known: &Known| {
            let rests = |rests: u32| rests.checked_sub(1);
            known.rests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rests).is_err()
        };
        let mut asked: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes.get(*at).is_some_and(awake)).collect();
        if asked.is_empty() {
            asked = (0..self.nodes.len()).collect();
        }
        let (mut seen, mut last) = (Vec::new(), None);
        for answer in join_all(asked.into_iter().map(|at| self.look(at))).await {
            match answer {
                Ok((node, syncing)) => seen.push((node, syncing)),
                Err(ChainError::Unavailable(why)) => last = Some(why),
                Err(other) => return Err(other),
            }
        }
        agreed(&seen).await?;
        let best = seen.iter().map(|(node, _)| node.head.height).max().unwrap_or(0);
        let highest = self.highest.fetch_max(best, Ordering::Relaxed).max(best);
        let good = |(node, syncing): (Node, bool)| {
            let fit = !syncing && node.head.height.saturating_add(self.max_lag) >= highest;
            fit.then_some(node)
        };
        let good: Vec<Node> = seen.into_iter().filter_map(good).collect();
        if good.is_empty() {
            let why = last.unwrap_or_else(|| format!("each is syncing, or behind the height {highest}"));
            return Err(ChainError::Unavailable(format!("no endpoint can be asked: {why}")));
        }
        Ok(good)
    }

    /// Where a node is, and whether it is still syncing. One that does not say rests.
    async fn look(&self, at: usize) -> Result<(Node, bool), ChainError> {
        let known =
            self.nodes.get(at).ok_or_else(|| ChainError::Unavailable("there is no such endpoint".to_owned()))?;
        let name = &known.endpoint.grpc;
        let (mut one, mut other) = (service(&known.grpc), service(&known.grpc));
        let latest = one.get_latest_block(GetLatestBlockRequest {});
        let answers = tokio::try_join!(latest, other.get_syncing(GetSyncingRequest {}));
        let (latest, syncing) = answers.map_err(|status| {
            known.rests.store(REST, Ordering::Relaxed);
            unavailable(name, &status)
        })?;
        let latest = latest.into_inner();
        let head = head(name, &self.chain, latest.block_id, latest.block)?;
        let (endpoint, grpc) = (known.endpoint.clone(), known.grpc.clone());
        Ok((Node { endpoint, grpc, at, head }, syncing.into_inner().syncing))
    }
}

/// Whether every two neighbours in height have the same block at the lower one's height. A node that no longer has a block,
/// or does not answer now, says nothing about it.
async fn agreed(seen: &[(Node, bool)]) -> Result<(), ChainError> {
    let mut nodes: Vec<&Node> = seen.iter().map(|(node, _)| node).collect();
    nodes.sort_by_key(|node| (node.head.height, node.at));
    let pairs = nodes.iter().zip(nodes.iter().skip(1));
    let compared = join_all(pairs.map(|(lower, higher)| async move {
        let height = lower.head.height;
        let there =
            if higher.head.height == height { Some(higher.head.hash.clone()) } else { higher.block(height).await };
        match there {
            Some(hash) if hash != lower.head.hash => Err(ChainError::Untrusted(format!(
                "{} and {} have different blocks at height {height}",
                lower.endpoint.grpc, higher.endpoint.grpc
            ))),
            _ => Ok(()),
        }
    }));
    compared.await.into_iter().collect()
}

impl Node {
    /// The hash of its block at `height`, if it says so.
    async fn block(&self, height: u64) -> Option<Vec<u8>> {
        let height = i64::try_from(height).ok()?;
        let answer = service(&self.grpc).get_block_by_height(GetBlockByHeightRequest { height }).await.ok()?;
        answer.into_inner().block_id.map(|id| id.hash).filter(|hash| !hash.is_empty())
    }

    /// Its place among the endpoints.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The height of its last block.
    pub(super) const fn height(&self) -> u64 {
        self.head.height
    }

    /// An error of this node's.
    pub(super) fn unavailable(&self, status: &Status) -> ChainError {
        unavailable(&self.endpoint.grpc, status)
    }

    /// What can't be right of this node's answer.
    pub(super) fn untrusted(&self, why: impl std::fmt::Display) -> ChainError {
        ChainError::Untrusted(format!("{}: {why}", self.endpoint.grpc))
    }

    /// Whether an answer from the state of `height` is as new as the node itself said it was, but for the one block that may
    /// be under way.
    pub(super) fn is_current(&self, height: u64) -> bool {
        height.saturating_add(1) >= self.head.height
    }
}

fn service(grpc: &Channel) -> ServiceClient<Channel> {
    ServiceClient::new(grpc.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
}

/// The height and hash of a block of `chain`.
fn head(name: &str, chain: &str, id: Option<BlockId>, block: Option<Block>) -> Result<Head, ChainError> {
    let untrusted = |why: &str| ChainError::Untrusted(format!("{name}: {why}"));
    let header = block.and_then(|block| block.header).ok_or_else(|| untrusted("a block without a header"))?;
    if header.chain_id != chain {
        return Err(untrusted(&format!("a node of the chain {:?}, and not of {chain}", header.chain_id)));
    }
    let height = u64::try_from(header.height).ok().filter(|height| *height > 0);
    let height = height.ok_or_else(|| untrusted("a block without a height"))?;
    let hash = id.map(|id| id.hash).filter(|hash| !hash.is_empty());
    Ok(Head { height, hash: hash.ok_or_else(|| untrusted("a block without a hash"))? })
}

fn unavailable(name: &str, status: &Status) -> ChainError {
    let message: String = status.message().chars().take(300).collect();
    ChainError::Unavailable(format!("{name}: {}: {message}", status.code()))
}

fn channel(config: &CosmosConfig, address: &str) -> Result<Channel, CosmosConfigError> {
    let wrong = |why: String| CosmosConfigError::Endpoint { endpoint: address.to_owned(), why };
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| wrong(error.to_string()))?;
    let endpoint = endpoint.timeout(config.request_timeout).connect_timeout(config.request_timeout);
    let secure = match endpoint.uri().scheme_str() {
        Some("http") => return Ok(endpoint.connect_lazy()),
        Some("https") => true,
        _ => false,
    };
    let pem = config.certificates.as_ref().filter(|_| secure);
    let pem = pem.ok_or_else(|| wrong("it needs http://, or https:// and certificates to judge it by".to_owned()))?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    Ok(endpoint.tls_config(tls).map_err(|error| wrong(error.to_string()))?.connect_lazy())
}
