//! The record that was decoded last, for those that every step reads and few change. The same bytes are the same record:
//! the store is asked each time, and nobody has to say that something has changed.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::records::{Record, RecordError};

/// One record with the bytes that it was decoded from.
#[derive(Debug)]
pub(super) struct Memo<R>(Mutex<Option<(Vec<u8>, Arc<R>)>>);

impl<R> Default for Memo<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R: Record> Memo<R> {
    /// The record that `bytes` are.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Arc<R>, RecordError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, record)) = last.as_ref().filter(|(known, _)| known == bytes) {
            return Ok(record.clone());
        }
        let record = Arc::new(R::decode(bytes)?);
        *last = Some((bytes.to_vec(), record.clone()));
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::LedgerRecord;

    #[test]
    fn the_same_bytes_are_decoded_once_and_others_anew() {
        let memo = Memo::<LedgerRecord>::default();
        let bytes = |version| LedgerRecord { version, ..LedgerRecord::default() }.encode();
        let first = memo.decode(&bytes(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &memo.decode(&bytes(1)).unwrap()));
        assert_eq!(memo.decode(&bytes(2)).unwrap().version, 2);
        assert!(memo.decode(&[0xff]).is_err());
        assert_eq!((first.version, memo.decode(&bytes(1)).unwrap().version), (1, 1));
    }
}
