//! Rejections on their way from memory to the store.

use async_trait::async_trait;

use super::*;
use crate::domain::feed::RejectReason;
use crate::store::{Batch, Direction, KeyRange, PartitionId};

/// A store in which the committer has its turn between a read and its answer.
#[derive(Default)]
struct Turns {
    inner: MemStore,
    committer: tokio::sync::Mutex<Option<Committer>>,
}

#[async_trait]
impl Store for Turns {
    async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.inner.get(partition, key).await;
        let committer = self.committer.lock().await.take();
        if let Some(mut committer) = committer {
            committer.step(at(10)).await.unwrap();
        }
        found
    }

    async fn scan(
        &self,
        partition: PartitionId,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.inner.scan(partition, range, limit, direction).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        self.inner.commit(batches).await
    }
}

#[tokio::test]
async fn a_rejection_that_is_written_down_meanwhile_is_seen() {
    let store = Arc::new(Turns::default());
    let spec = PoolSpec { number: POOL, partitions: 1, first_start: at(0) };
    let (book, committer) = Book::open(store.clone(), vec![spec], BookConfig::default()).await.unwrap();
    let reason = RejectReason::TooOld;
    let (account, asset) = ("a".to_owned(), String::new());
    let event =
        RejectedEvent { reason, pool: Some(POOL), asset, account, balance: None, at: at(0), rejected_at: at(5) };
    lock(&book.shared.found).push((SOURCE, 1, event));
    *store.committer.lock().await = Some(committer);
    assert_eq!(book.rejection_of(POOL, SOURCE, 1).await, Ok(Some(reason)));
    assert_eq!(book.rejection_of(POOL, SOURCE, 2).await, Ok(None), "the committer has its turn");
    assert!(lock(&book.shared.found).is_empty());
    assert_eq!(book.rejection_of(POOL, SOURCE, 1).await, Ok(Some(reason)));
}
