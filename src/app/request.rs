//! Once: a mutation is marked in the same commit as the change, and its first answer is kept for every repeat.

use crate::domain::caller::Caller;
use crate::domain::ids::RequestId;
use crate::domain::time::UnixSeconds;
use crate::store::records::{ApprovalRecord, Record, RequestRecord};
use crate::store::{Batch, MAX_VALUE_BYTES, PartitionId, Store, StoreError, keys};

use super::{App, AppError, Pool, Reason};

/// An answer is kept up to this size, so that the record fits a value of the store.
const MAX_ANSWER_BYTES: usize = MAX_VALUE_BYTES - 256;

/// One mutation as its caller named it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, such as `AdminService/PausePool`; ids of different methods do not meet.
    pub method: &'static str,
    /// The caller's id.
    pub id: RequestId,
    /// BLAKE3 of the method and the canonical body. Whoever sends them again gets the first answer.
    pub fingerprint: [u8; 32],
    /// Who asks.
    pub caller: Caller,
    /// What another principal proposed and this request approves: the change is made as it was proposed.
    pub(super) approval: Option<Box<ApprovalRecord>>,
}

impl Request {
    /// A request from its method, its id, who asks, and the canonical bytes of its body.
    pub fn new(method: &'static str, id: RequestId, caller: Caller, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(method.as_bytes()).update(&[0]).update(body);
        Self { method, id, fingerprint: *hasher.finalize().as_bytes(), caller, approval: None }
    }

    /// The same request as it makes the change that it approves.
    pub(super) fn approving(&self, record: ApprovalRecord) -> Self {
        Self { approval: Some(Box::new(record)), ..self.clone() }
    }

    /// Where its mark stands.
    pub(super) fn key(&self) -> Vec<u8> {
        keys::request(self.method, &self.id)
    }

    /// What is known of this request: `None` if it is new; refused if its id stood for another body.
    pub(super) async fn seen(&self, store: &dyn Store, partition: PartitionId) -> Result<Option<Once>, AppError> {
        let Some(bytes) = store.get(partition, &self.key()).await? else { return Ok(None) };
        let record = RequestRecord::decode(&bytes)?;
        if record.fingerprint != self.fingerprint {
            return Err(self.reused());
        }
        Ok(Some(Once::Repeated { answer: (!record.answer.is_empty()).then_some(record.answer) }))
    }

    /// The refusal of an id that stood for another body.
    fn reused(&self) -> AppError {
        let message = format!(
            "request id {} was used for {} with another body; use a new id for a new request",
            self.id, self.method
        );
        AppError::refused_in("request_id", Reason::RequestIdReused, message)
    }

    /// The mark that the request was carried out, for the commit that carries it out. The key has to be absent.
    pub(super) fn mark(&self, at: UnixSeconds) -> (Vec<u8>, RequestRecord) {
        (self.key(), RequestRecord { fingerprint: self.fingerprint, answer: Vec::new(), at })
    }

    /// Adds the mark to a batch of the service partition: [`App::commit_marked`] does, with the entry of the audit log.
    pub(super) fn mark_in(&self, batch: &mut Batch, at: UnixSeconds) {
        let (key, record) = self.mark(at);
        batch.expect_absent(key.clone()).put(key, record.encode());
    }
}

impl App {
    /// Ties the id of a pool's mutation to that pool, before the mutation: the mark itself stands in the pool's own
    /// partition, where the same id sent for another pool would not meet it. Doing it twice is doing it once.
    pub(super) async fn claim_id(&self, request: &Request, pool: &Pool) -> Result<(), AppError> {
        let key = keys::request(&format!("{}/pool", request.method), &request.id);
        let owner = pool.id().as_str().as_bytes();
        let mut claimed = self.store.get(PartitionId::SERVICE, &key).await?;
        if claimed.is_none() {
            let mut batch = Batch::new(PartitionId::SERVICE);
            batch.expect_absent(key.clone()).put(key.clone(), owner);
            match self.store.commit(vec![batch]).await {
                Ok(()) => return Ok(()),
                // Another call of the same id came first.
                Err(StoreError::Conflict { .. }) => claimed = self.store.get(PartitionId::SERVICE, &key).await?,
                Err(error) => return Err(error.into()),
            }
        }
        if claimed.as_deref() == Some(owner) { Ok(()) } else { Err(request.reused()) }
    }
}

/// Whether a mutation was carried out by this call or by an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Once {
    /// By this call. Give the answer to [`App::keep_answer`].
    First,
    /// By an earlier one. Without an answer, that call died before it had one: read the present state instead.
    Repeated {
        /// The first answer, as it was encoded.
        answer: Option<Vec<u8>>,
    },
}

impl App {
    /// Keeps the first answer to a request that was carried out, for its repeats. An answer past what the store takes
    /// is not kept: repeats are answered from the present state then.
    pub async fn keep_answer(&self, request: &Request, pool: Option<&Pool>, answer: &[u8]) -> Result<(), AppError> {
        let partition = pool.map_or(PartitionId::SERVICE, Pool::control);
        let Some(bytes) = self.store.get(partition, &request.key()).await? else { return Ok(()) };
        let mut record = RequestRecord::decode(&bytes)?;
        if !record.answer.is_empty() || answer.len() > MAX_ANSWER_BYTES {
            return Ok(());
        }
        record.answer = answer.to_vec();
        let mut batch = Batch::new(partition);
        batch.expect_equals(request.key(), bytes).put(request.key(), record.encode());
        match self.store.commit(vec![batch]).await {
            Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
