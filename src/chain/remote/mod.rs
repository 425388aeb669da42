//! An adapter outside of this process: the contract over `softstake.adapter.v1`, in any language.
//!
//! [`RemoteAdapter`] is the client, and believes nothing that it has not read whole: what is malformed or contradicts
//! itself or the request is [`ChainError::Untrusted`] with the field's path. [`serve`] is the other side, for adapters in
//! this crate; [`check`] holds any adapter against the contract's clauses.

pub mod channel;
pub mod check;
mod convert;
pub mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use async_trait::async_trait;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

pub(in crate::chain) use self::convert::write_contents;
use self::convert::{Malformed, write_operation, write_signed};
use super::{Assembled, ChainAdapter, ChainError, Descriptor, Lookup, Observation, Signed, Unsigned};
use crate::domain::effect::{Effect, EffectKey};
use crate::domain::ids::OperationId;
use crate::domain::operation::OperationKind;
use crate::pb::adapter::v1 as pb;
use crate::pb::adapter::v1::adapter_service_client::AdapterServiceClient;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// How many effects a page is asked for.
const PAGE: u32 = 1_000;

/// The most effects of one range that are taken.
const MAX_EFFECTS: usize = 1_000_000;

/// The longest token of a page that is handed back.
const MAX_TOKEN_BYTES: usize = 1_024;

/// The client of an adapter. Clones share the connection.
#[derive(Clone, Debug)]
pub struct RemoteAdapter {
    client: AdapterServiceClient<Channel>,
    page: u32,
}

impl RemoteAdapter {
    /// The adapter behind `channel`, which bounds each request's time: see [`channel::channel`].
    pub fn new(channel: Channel) -> Self {
        let client = AdapterServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Self { client, page: PAGE }
    }

    /// The same with pages of at most `page` effects.
    #[must_use]
    pub fn with_pages_of(mut self, page: u32) -> Self {
        self.page = page.max(1);
        self
    }
}

/// What a status means, by clause G4.
fn failed(status: &Status) -> ChainError {
    let message = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument => ChainError::Refused(message),
        Code::DataLoss => ChainError::Untrusted(message),
        code => ChainError::Unavailable(format!("{code:?}: {message}")),
    }
}

fn answered<T>(answer: Result<Response<T>, Status>) -> Result<T, ChainError> {
    answer.map(Response::into_inner).map_err(|status| failed(&status))
}

#[async_trait]
impl ChainAdapter for RemoteAdapter {
    async fn descriptor(&self) -> Result<Descriptor, ChainError> {
        let answer = self.client.clone().get_descriptor(pb::GetDescriptorRequest {}).await;
        Ok(convert::descriptor(answered(answer)?)?)
    }

    async fn observe(&self) -> Result<Observation, ChainError> {
        let answer = self.client.clone().observe(pb::ObserveRequest {}).await;
        Ok(convert::observation(answered(answer)?)?)
    }

    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        let request = pb::PrepareRequest { operation_id: id.to_string(), operation: Some(write_operation(kind)) };
        let answer = answered(self.client.clone().prepare(request).await)?;
        Ok(convert::unsigned(answer.sign_bytes, answer.contents)?)
    }

    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        let request = pb::AssembleRequest {
            operation_id: id.to_string(),
            sign_bytes: unsigned.bytes.clone(),
            contents: Some(write_contents(&unsigned.says)),
            signature: signature.to_vec(),
        };
        Ok(convert::assembled(answered(self.client.clone().assemble(request).await)?)?)
    }

    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        let request = pb::SubmitRequest { operation_id: id.to_string(), transaction: Some(write_signed(signed)) };
        answered(self.client.clone().submit(request).await).map(|_| ())
    }

    async fn lookup(&self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        let request = pb::LookupRequest { operation_id: id.to_string(), transaction: Some(write_signed(signed)) };
        Ok(convert::lookup(id, answered(self.client.clone().lookup(request).await)?)?)
    }

    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        let mut all: Vec<Effect> = Vec::new();
        let mut keys: BTreeSet<EffectKey> = BTreeSet::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListEffectsRequest { from_height: from, to_height: to, page_size: self.page, page_token };
            let answer = answered(self.client.clone().list_effects(request).await)?;
            page_token = answer.next_page_token;
            if answer.effects.len() > self.page as usize {
                return Err(Malformed::new("effects", format!("are more than {}, the page", self.page)).into());
            }
            let page = convert::effects(answer.effects, from, to)?;
            if let (Some(last), Some(first)) = (all.last(), page.first())
                && first.height < last.height
            {
                return Err(Malformed::new("effects[0].height", "is before the page before").into());
            }
            if !page_token.is_empty() && (page.is_empty() || page_token.len() > MAX_TOKEN_BYTES) {
                return Err(Malformed::new("next_page_token", "is too long, or of an empty page").into());
            }
            if let Some((at, twice)) = page.iter().enumerate().find(|(_, effect)| !keys.insert(effect.key.clone())) {
                let problem = format!("{} stands there twice", twice.key);
                return Err(Malformed::new(&format!("effects[{at}].key"), problem).into());
            }
            all.extend(page);
            if page_token.is_empty() {
                return Ok(all);
            }
            if all.len() > MAX_EFFECTS {
                return Err(Malformed::new("effects", format!("are more than {MAX_EFFECTS} in one range")).into());
            }
        }
    }
}
