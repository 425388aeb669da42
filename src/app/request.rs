//! Once: the first answer to a mutation is stored in the same commit as the change, and returned to every repeat.

use crate::domain::ids::RequestId;
use crate::domain::time::UnixSeconds;
use crate::store::records::{Record, RequestRecord};
use crate::store::{Batch, PartitionId, Store, keys};

use super::error::{AppError, Reason};

/// One mutation as its caller named it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, such as `AdminService/PausePool`; ids of different methods do not meet.
    pub method: &'static str,
    /// The caller's id.
    pub id: RequestId,
    /// BLAKE3 of the method and the canonical body.
    pub fingerprint: [u8; 32],
}

impl Request {
    /// A request from its method, its id and the canonical bytes of its body.
    pub fn new(method: &'static str, id: RequestId, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(method.as_bytes()).update(&[0]).update(body);
        Self { method, id, fingerprint: *hasher.finalize().as_bytes() }
    }

    fn key(&self) -> Vec<u8> {
        keys::request(self.method, &self.id)
    }

    /// The first answer, if this request was carried out before; refused if the id stood for another body.
    pub async fn first_answer(
        &self,
        store: &dyn Store,
        partition: PartitionId,
    ) -> Result<Option<Vec<u8>>, AppError> {
        let Some(bytes) = store.get(partition, &self.key()).await? else { return Ok(None) };
        let record = RequestRecord::decode(&bytes)?;
        if record.fingerprint != self.fingerprint {
            let message = format!(
                "request id {} was used for {} with another body; use a new id for a new request",
                self.id, self.method
            );
            return Err(AppError::refused(Reason::RequestIdReused, message));
        }
        Ok(Some(record.answer))
    }

    /// Adds the answer to the batch that carries the change out.
    pub fn record(&self, batch: &mut Batch, answer: &[u8], at: UnixSeconds) {
        let record = RequestRecord { fingerprint: self.fingerprint, answer: answer.to_vec(), at };
        batch.expect_absent(self.key()).put(self.key(), record.encode());
    }
}
