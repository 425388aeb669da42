//! The adapter of a Cosmos chain: each call asks the nodes that may be asked, one after the other, until one can answer.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::client::Client;
use super::config::{CosmosConfig, CosmosConfigError, Terms};
use super::effects::Us;
use super::endpoints::{Endpoints, Node};
use super::fate::Fate;
use super::history::History;
use super::reads::Reads;
use super::rpc::Rpc;
use super::{observe, reading, transaction};
use crate::chain::{Assembled, ChainAdapter, ChainError, Descriptor, Lookup, Observation, Signed, Unsigned};
use crate::domain::amount::BaseUnits;
use crate::domain::effect::Effect;
use crate::domain::ids::OperationId;
use crate::domain::operation::OperationKind;

/// One Cosmos chain, with one staking address and one custody address.
pub struct CosmosChain {
    client: Client,
    /// What is read of each endpoint, in their order.
    nodes: Vec<(Reads, History)>,
    described: observe::Terms,
}

impl fmt::Debug for CosmosChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CosmosChain").field("terms", &self.client.terms).finish_non_exhaustive()
    }
}

impl CosmosChain {
    /// The chain of `config`, which is checked whole; no node is asked yet. Needs a Tokio runtime to be called in.
    pub fn new(config: CosmosConfig) -> Result<Self, CosmosConfigError> {
        let terms = Terms::new(config)?;
        let config = &terms.config;
        let endpoints = Endpoints::new(config)?;
        let us =
            Us { staking: terms.address.clone(), custody: config.custody_address.clone(), denom: config.denom.clone() };
        let tls = trusted(config)?;
        let mut nodes = Vec::new();
        for (endpoint, grpc) in config.endpoints.iter().zip(endpoints.channels()) {
            let wrong = |error: super::rpc::EndpointError| CosmosConfigError::Endpoint {
                endpoint: endpoint.rpc.clone(),
                why: error.to_string(),
            };
            let rpc = Rpc::new(&endpoint.rpc, config.request_timeout, tls.clone()).map_err(wrong)?;
            let (chain, prefix, timeout) = (config.chain.clone(), config.prefix.clone(), config.request_timeout);
            let reads = Reads { chain, us: us.clone(), prefix, grpc, rpc, timeout };
            nodes.push((reads.clone(), History::new(reads, config.first_height)));
        }
        // The dearest transaction is what an ordinary one costs at most.
        let typical_gas = terms.highest_gas();
        let described = observe::Terms { asset: config.asset.clone(), gas_price: config.gas_price, typical_gas };
        Ok(Self { client: Client::new(terms, endpoints), nodes, described })
    }

    /// The staking address, which follows from the public key.
    pub fn staking_address(&self) -> &str {
        &self.client.terms.address
    }

    /// What the dearest transaction costs.
    pub fn highest_fee(&self) -> BaseUnits {
        self.client.terms.highest_fee()
    }

    fn reads(&self, node: &Node) -> Result<&(Reads, History), ChainError> {
        self.nodes.get(node.at()).ok_or_else(|| ChainError::Unavailable("there is no such endpoint".to_owned()))
    }

    /// The effects of a transaction that stands in the block at `height`.
    async fn effects_of(&self, node: &Node, signed: &Signed, height: u64) -> Result<Vec<Effect>, ChainError> {
        let found = self.reads(node)?.1.effects_of_tx(&signed.transaction, height).await?;
        found.ok_or_else(|| {
            node.untrusted(format!("{} does not stand in the block {height} that it names", signed.transaction))
        })
    }
}

/// Whom `https` endpoints are judged by.
fn trusted(config: &CosmosConfig) -> Result<Option<Arc<rustls::ClientConfig>>, CosmosConfigError> {
    let Some(pem) = &config.certificates else { return Ok(None) };
    let wrong = |error: String| CosmosConfigError::Endpoint { endpoint: "certificates".to_owned(), why: error };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong(error.to_string()))?;
    Ok(Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

#[async_trait]
impl ChainAdapter for CosmosChain {
    async fn descriptor(&self) -> Result<Descriptor, ChainError> {
        let endpoints = self.client.endpoints();
        endpoints.ask(|node| async move { observe::descriptor(&self.reads(&node)?.0, &self.described).await }).await
    }

    async fn observe(&self) -> Result<Observation, ChainError> {
        let endpoints = self.client.endpoints();
        endpoints.ask(|node| async move { observe::observe(&self.reads(&node)?.0).await }).await
    }

    /// Its sequence is the one after all that a node took and no block has yet: prepare, sign and submit one at a time.
    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        let terms = &self.client.terms;
        // What can't be done anywhere is refused without asking.
        transaction::message(terms, id, kind)?;
        transaction::build(terms, id, kind, self.client.place().await?)
    }

    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        transaction::assemble(&self.client.terms, id, unsigned, signature)
    }

    /// Bytes that are not those of the operation, or not of the id that they are said to have, are sent to nobody.
    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        let read = reading::signed(&self.client.terms, &signed.bytes)?;
        if read.operation != *id || read.says.lifetime != signed.lifetime {
            return Err(ChainError::Untrusted(format!("the bytes stored for the operation {id} are not its own")));
        }
        if transaction::transaction_id(&signed.bytes)? != signed.transaction {
            return Err(ChainError::Untrusted(format!("the bytes are not those of {}", signed.transaction)));
        }
        self.client.broadcast(signed).await
    }

    async fn lookup(&self, _: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        let (fate, node) = self.client.fate(signed).await?;
        Ok(match fate {
            Fate::AbsentForGood => Lookup::AbsentForGood,
            Fate::Absent => Lookup::Absent,
            Fate::Pending => Lookup::Pending,
            Fate::Done { height } => Lookup::Done { height, effects: self.effects_of(&node, signed, height).await? },
            Fate::Failed { height, reason } => {
                Lookup::Failed { height, reason, effects: self.effects_of(&node, signed, height).await? }
            }
            Fate::Void { height, reason } => Lookup::Failed { height, reason, effects: Vec::new() },
        })
    }

    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        let endpoints = self.client.endpoints();
        endpoints.ask(|node| async move { self.reads(&node)?.1.effects(from, to).await }).await
    }
}
