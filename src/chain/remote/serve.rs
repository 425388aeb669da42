//! The contract's other side: any adapter, and any signer, of this crate as a gRPC service.
//!
//! The one place of this room that makes a Status.

use std::sync::Arc;

use async_trait::async_trait;
use tonic::{Request, Response, Status};

use super::convert::{self, Malformed, write_contents, write_effects, write_signed};
use crate::chain::{ChainAdapter, ChainError, Signer};
use crate::domain::effect::Effect;
use crate::domain::ids::ChainId;
use crate::pb::adapter::v1 as pb;
use crate::pb::adapter::v1::adapter_service_server::{AdapterService, AdapterServiceServer};
use crate::pb::signer::v1 as wire;
use crate::pb::signer::v1::signer_service_server::{SignerService, SignerServiceServer};

/// The most effects of one page, whatever is asked for.
const MAX_PAGE: usize = 1_000;

/// `adapter` as a service.
pub fn adapter(adapter: Arc<dyn ChainAdapter>) -> AdapterServiceServer<impl AdapterService> {
    AdapterServiceServer::new(Served { adapter })
}

/// `signer` as a service, which holds the one key `key_id` of `chain`. What it signs by has no public form.
pub fn signer(signer: Arc<dyn Signer>, chain: ChainId, key_id: &str) -> SignerServiceServer<impl SignerService> {
    SignerServiceServer::new(ServedSigner { signer, chain, key_id: key_id.to_owned() })
}

struct Served {
    adapter: Arc<dyn ChainAdapter>,
}

/// What an error is by clause G4.
fn status(error: ChainError) -> Status {
    match error {
        ChainError::Unavailable(why) => Status::unavailable(why),
        ChainError::Refused(why) => Status::failed_precondition(why),
        ChainError::Untrusted(why) => Status::data_loss(why),
    }
}

fn malformed(malformed: Malformed) -> Status {
    Status::invalid_argument(malformed.to_string())
}

/// The part of `effects` that one page has, and the token of the next: how many effects came before it.
fn page(effects: &[Effect], size: u32, token: &str) -> Result<pb::ListEffectsResponse, Malformed> {
    let begin = match token {
        "" => 0,
        token => token.parse().map_err(|_| Malformed::new("page_token", "is none of this service"))?,
    };
    let size = usize::try_from(size).unwrap_or(MAX_PAGE).min(MAX_PAGE);
    if size == 0 {
        return Err(Malformed::new("page_size", "is zero"));
    }
    let rest = effects.get(begin..).ok_or_else(|| Malformed::new("page_token", "is none of this range"))?;
    let (here, after) = rest.split_at(size.min(rest.len()));
    let next_page_token = if after.is_empty() { String::new() } else { (begin + here.len()).to_string() };
    Ok(pb::ListEffectsResponse { effects: write_effects(here), next_page_token })
}

#[async_trait]
impl AdapterService for Served {
    async fn get_descriptor(
        &self,
        _: Request<pb::GetDescriptorRequest>,
    ) -> Result<Response<pb::GetDescriptorResponse>, Status> {
        let descriptor = self.adapter.descriptor().await.map_err(status)?;
        Ok(Response::new(convert::write_descriptor(&descriptor)))
    }

    async fn observe(&self, _: Request<pb::ObserveRequest>) -> Result<Response<pb::ObserveResponse>, Status> {
        let observation = self.adapter.observe().await.map_err(status)?;
        Ok(Response::new(convert::write_observation(&observation)))
    }

    async fn prepare(&self, request: Request<pb::PrepareRequest>) -> Result<Response<pb::PrepareResponse>, Status> {
        let request = request.into_inner();
        let id = convert::operation_id(&request.operation_id).map_err(malformed)?;
        let operation = request.operation.ok_or_else(|| malformed(Malformed::new("operation", "is missing")))?;
        let kind = convert::operation(operation).map_err(malformed)?;
        let unsigned = self.adapter.prepare(&id, &kind).await.map_err(status)?;
        let contents = Some(write_contents(&unsigned.says));
        Ok(Response::new(pb::PrepareResponse { sign_bytes: unsigned.bytes, contents }))
    }

    async fn assemble(&self, request: Request<pb::AssembleRequest>) -> Result<Response<pb::AssembleResponse>, Status> {
        let request = request.into_inner();
        let id = convert::operation_id(&request.operation_id).map_err(malformed)?;
        let unsigned = convert::unsigned(request.sign_bytes, request.contents).map_err(malformed)?;
        let assembled = self.adapter.assemble(&id, &unsigned, &request.signature).await.map_err(status)?;
        let contents = Some(write_contents(&assembled.says));
        Ok(Response::new(pb::AssembleResponse { transaction: Some(write_signed(&assembled.signed)), contents }))
    }

    async fn submit(&self, request: Request<pb::SubmitRequest>) -> Result<Response<pb::SubmitResponse>, Status> {
        let request = request.into_inner();
        let id = convert::operation_id(&request.operation_id).map_err(malformed)?;
        let signed = convert::signed(request.transaction).map_err(malformed)?;
        self.adapter.submit(&id, &signed).await.map_err(status)?;
        Ok(Response::new(pb::SubmitResponse {}))
    }

    async fn lookup(&self, request: Request<pb::LookupRequest>) -> Result<Response<pb::LookupResponse>, Status> {
        let request = request.into_inner();
        let id = convert::operation_id(&request.operation_id).map_err(malformed)?;
        let signed = convert::signed(request.transaction).map_err(malformed)?;
        let lookup = self.adapter.lookup(&id, &signed).await.map_err(status)?;
        Ok(Response::new(convert::write_lookup(&lookup)))
    }

    async fn list_effects(
        &self,
        request: Request<pb::ListEffectsRequest>,
    ) -> Result<Response<pb::ListEffectsResponse>, Status> {
        let request = request.into_inner();
        let effects = self.adapter.effects(request.from_height, request.to_height).await.map_err(status)?;
        let page = page(&effects, request.page_size, &request.page_token).map_err(malformed)?;
        Ok(Response::new(page))
    }
}

struct ServedSigner {
    signer: Arc<dyn Signer>,
    chain: ChainId,
    key_id: String,
}

impl ServedSigner {
    fn holds(&self, chain: &str, key_id: &str) -> Result<(), Status> {
        if chain == self.chain.as_str() && key_id == self.key_id {
            return Ok(());
        }
        Err(Status::not_found(format!(
            "there is no key {key_id} for {chain} here, but {} for {}",
            self.key_id, self.chain
        )))
    }
}

#[async_trait]
impl SignerService for ServedSigner {
    async fn get_key(&self, request: Request<wire::GetKeyRequest>) -> Result<Response<wire::GetKeyResponse>, Status> {
        let request = request.into_inner();
        self.holds(&request.chain, &request.key_id)?;
        let algorithm = wire::KeyAlgorithm::Simulated.into();
        Ok(Response::new(wire::GetKeyResponse { algorithm, public_key: Vec::new() }))
    }

    async fn sign(&self, request: Request<wire::SignRequest>) -> Result<Response<wire::SignResponse>, Status> {
        let request = request.into_inner();
        self.holds(&request.chain, &request.key_id)?;
        let id = convert::operation_id(&request.operation_id).map_err(malformed)?;
        let unsigned = convert::unsigned(request.sign_bytes, request.contents).map_err(malformed)?;
        let signature = self.signer.sign(&id, &unsigned).await.map_err(status)?;
        Ok(Response::new(wire::SignResponse { signature }))
    }
}
