//! One change of a pool's control records: everything that is decided together is committed together.
//!
//! Every change, of whatever job, goes through here. It holds the pool's lock, reads the ledger, and commits with
//! the expectation that the ledger is still the one that was read; the ledger's version grows with every change.

use tokio::sync::MutexGuard;

use crate::domain::ledger::{Entry, Ledger};
use crate::domain::time::UnixSeconds;
use crate::store::records::{LedgerRecord, PostingRecord, Record, StakedLevel};
use crate::store::{Batch, StoreError, keys};

use super::{App, AppError, Pool, Request};

/// A change that is being put together. Dropped without [`Change::commit`], it leaves nothing.
pub struct Change<'a> {
    app: &'a App,
    pool: &'a Pool,
    at: UnixSeconds,
    before: Option<Vec<u8>>,
    record: LedgerRecord,
    batch: Batch,
    _guard: MutexGuard<'a, ()>,
}

impl<'a> Change<'a> {
    /// Begins a change of `pool` at `at`, behind every change that was begun before.
    pub async fn begin(app: &'a App, pool: &'a Pool, at: UnixSeconds) -> Result<Self, AppError> {
        let guard = pool.lock.lock().await;
        let before = app.store.get(pool.control(), &keys::ledger()).await?;
        let record = match &before {
            Some(bytes) => LedgerRecord::decode(bytes)?,
            None => LedgerRecord::default(),
        };
        Ok(Self { app, pool, at, before, record, batch: Batch::new(pool.control()), _guard: guard })
    }

    /// The ledger with everything posted so far.
    pub fn ledger(&self) -> &Ledger {
        &self.record.ledger
    }

    /// When the change happens.
    pub fn at(&self) -> UnixSeconds {
        self.at
    }

    /// The batch, for keys and expectations of the caller's own.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Sets `key` to `record`.
    pub fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.batch.put(key, record.encode());
    }

    /// The next number of the pool, for operations and transfers: contiguous in commit order.
    pub fn next_sequence(&mut self) -> u64 {
        self.record.sequence += 1;
        self.record.sequence
    }

    /// Posts a balanced entry that took effect at `effective_at`, for what `reference` names.
    pub fn post(&mut self, entry: &Entry, reference: &str, effective_at: UnixSeconds) -> Result<(), AppError> {
        let staked_before = self.record.ledger.staked_and_unbonding();
        self.record.ledger =
            self.record.ledger.apply(entry).map_err(|error| AppError::Broken(format!("{reference}: {error}")))?;
        self.record.postings += 1;
        let posting = PostingRecord {
            sequence: self.record.postings,
            at: effective_at,
            reference: reference.to_owned(),
            entry: entry.clone(),
        };
        self.batch.put(keys::posting(posting.sequence), posting.encode());
        let level = self.record.ledger.staked_and_unbonding();
        if level != staked_before {
            let staked = StakedLevel { at: effective_at, level };
            self.batch.put(keys::staked_series(effective_at, posting.sequence), staked.encode());
        }
        Ok(())
    }

    /// Adds the answer to the request that asked for this change.
    pub fn answer(&mut self, request: &Request, answer: &[u8]) {
        request.record(&mut self.batch, answer, self.at);
    }

    /// Commits everything, or nothing.
    pub async fn commit(mut self) -> Result<(), AppError> {
        self.record.version += 1;
        let key = keys::ledger();
        match self.before.take() {
            Some(before) => self.batch.expect_equals(key.clone(), before),
            None => self.batch.expect_absent(key.clone()),
        };
        self.batch.put(key, self.record.encode());
        let committed = self.app.store.commit(vec![self.batch]).await;
        if let Err(StoreError::Conflict { .. }) = &committed {
            self.app.metrics.conflicts.inc();
        }
        committed?;
        self.pool.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}
