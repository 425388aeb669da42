//! One change of a pool's control records: everything that is decided together is committed together.
//!
//! Every change, of whatever job, goes through here. It holds the pool's lock, reads the ledger, and commits with
//! the expectation that the ledger is still the one that was read; the ledger's version grows with every change.

use std::collections::BTreeMap;

use tokio::sync::MutexGuard;

use crate::domain::amount::BaseUnits;
use crate::domain::audit_log::{Act, Note};
use crate::domain::caller::Caller;
use crate::domain::ledger::{Account, AssetAccount, Entry, Ledger};
use crate::domain::time::UnixSeconds;
use crate::store::records::{ApprovalRecord, LedgerRecord, PostingRecord, Record, StakedChange};
use crate::store::{Batch, Expectation, StoreError, keys};

use super::metrics::AppMetrics;
use super::{App, AppError, Once, Pool, Request, approve, audit_log};

/// A change that is being put together. Dropped without [`Change::commit`], it leaves nothing.
pub struct Change<'a> {
    app: &'a App,
    pool: &'a Pool,
    at: UnixSeconds,
    before: Option<Vec<u8>>,
    record: LedgerRecord,
    /// What the change writes, by key; `None` deletes.
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    expectations: Vec<Expectation>,
    /// What is written down of it in the audit log.
    acts: Vec<Act>,
    _guard: MutexGuard<'a, ()>,
}

impl<'a> Change<'a> {
    /// Begins a change of `pool` at `at`, behind every change that was begun before.
    pub async fn begin(app: &'a App, pool: &'a Pool, at: UnixSeconds) -> Result<Self, AppError> {
        let guard = pool.lock.lock().await;
        let before = app.store.get(pool.control(), &keys::ledger()).await?;
        let record = match &before {
            Some(bytes) => (*pool.ledger.decode(bytes)?).clone(),
            None => LedgerRecord::default(),
        };
        let (writes, expectations, acts) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(Self { app, pool, at, before, record, writes, expectations, acts, _guard: guard })
    }

    /// The ledger with everything posted so far.
    pub fn ledger(&self) -> &Ledger {
        &self.record.ledger
    }

    /// What the steps count.
    pub(super) fn metrics(&self) -> &'a AppMetrics {
        &self.app.metrics
    }

    /// When the change happens.
    pub fn at(&self) -> UnixSeconds {
        self.at
    }

    /// The record at `key` as the change leaves it: what it has written itself, else what is stored.
    pub async fn read<R: Record>(&self, key: &[u8]) -> Result<Option<R>, AppError> {
        Ok(self.read_bytes(key).await?.as_deref().map(R::decode).transpose()?)
    }

    /// What stands at `key` as it is, as the change leaves it.
    pub async fn read_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, AppError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => Ok(self.app.store.get(self.pool.control(), key).await?),
        }
    }

    /// Whether anything stands at `key`, as the change leaves it.
    pub async fn contains(&self, key: &[u8]) -> Result<bool, AppError> {
        Ok(self.read_bytes(key).await?.is_some())
    }

    /// Sets `key` to `record`.
    pub fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.writes.insert(key, Some(record.encode()));
    }

    /// Sets `key` to `record`, which must not be there yet.
    pub fn put_new<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.expectations.push(Expectation::Absent { key: key.clone() });
        self.put(key, record);
    }

    /// Requires that nothing is stored at `key`.
    pub fn expect_absent(&mut self, key: Vec<u8>) {
        self.expectations.push(Expectation::Absent { key });
    }

    /// Sets `key` to `value` as it is, such as an entry of an index.
    pub fn put_bytes(&mut self, key: Vec<u8>, value: &[u8]) {
        self.writes.insert(key, Some(value.to_vec()));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// Has it written down in the audit log, in the same commit, that the service itself did this.
    pub fn note(&mut self, note: Note) {
        self.acts.push(audit_log::by(Caller::service(), note));
    }

    /// How many keys the change writes so far.
    pub fn size(&self) -> usize {
        self.writes.len()
    }

    /// The version that the ledger has once this change is committed: it grows with every change of the pool.
    pub fn version(&self) -> u64 {
        self.record.version + 1
    }

    /// The last number of the pool that was given out, or left out.
    pub fn sequence(&self) -> u64 {
        self.record.sequence
    }

    /// The next number of the pool, for operations and transfers: contiguous in commit order.
    pub fn next_sequence(&mut self) -> u64 {
        self.record.sequence += 1;
        self.record.sequence
    }

    /// Posts a balanced entry that took effect at `effective_at`. One that moves nothing leaves no posting.
    pub fn post(&mut self, entry: &Entry, effective_at: UnixSeconds) -> Result<(), AppError> {
        if entry.is_empty() {
            return Ok(());
        }
        let level_before = staked_and_unbonding(&self.record.ledger)?;
        self.record.ledger = self.record.ledger.apply(entry).map_err(|error| {
            AppError::Broken(format!("{} {}: {error}", entry.reason().name(), entry.reason().subject()))
        })?;
        self.record.postings += 1;
        let posting = PostingRecord::new(self.record.postings, effective_at, entry);
        self.put_new(keys::posting(posting.sequence), &posting);
        let level = staked_and_unbonding(&self.record.ledger)?;
        if level != level_before {
            let change = level.signed().checked_sub(level_before.signed());
            let change = change.map_err(|error| AppError::Broken(format!("the staked total: {error}")))?;
            let staked = StakedChange { at: effective_at, change };
            self.put(keys::staked_series(effective_at, posting.sequence), &staked);
        }
        Ok(())
    }

    /// Commits everything, or nothing.
    pub async fn commit(mut self) -> Result<(), AppError> {
        self.record.version += 1;
        let mut batch = Batch::new(self.pool.control());
        batch.expectations = self.expectations;
        match self.before.take() {
            Some(before) => batch.expect_equals(keys::ledger(), before),
            None => batch.expect_absent(keys::ledger()),
        };
        let written = self.acts.len() as u64;
        if written > 0 {
            let head = self.app.store.get(self.pool.control(), &keys::audit_head()).await?;
            audit_log::append(&mut batch, &self.pool.log(), head, self.at, self.acts)?;
        }
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::on(crate::seeded::Bug::NoExpectation) {
            batch.expectations.clear();
        }
        batch.put(keys::ledger(), self.record.encode());
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            };
        }
        let committed = self.app.store.commit(vec![batch]).await;
        if let Err(StoreError::Conflict { .. }) = &committed {
            self.app.metrics.conflicts.inc();
        }
        committed?;
        self.app.metrics.audit_entries.inc_by(written);
        self.pool.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// What is delegated or unbonding: what the house's weight is measured against.
fn staked_and_unbonding(ledger: &Ledger) -> Result<BaseUnits, AppError> {
    let staked = ledger.balances().filter_map(|(account, balance)| match account {
        Account::Asset(AssetAccount::Delegated(_) | AssetAccount::Unbonding) => Some(balance.positive_part()),
        _ => None,
    });
    BaseUnits::sum(staked).map_err(|error| AppError::Broken(format!("the staked total: {error}")))
}

impl App {
    /// Carries out one mutation of a pool, once: `decide` puts the change together and says what it did, and the request
    /// is marked and written down in the audit log in the same commit.
    pub async fn mutate(
        &self,
        pool: &Pool,
        request: &Request,
        decide: impl AsyncFnOnce(&mut Change<'_>) -> Result<Note, AppError>,
    ) -> Result<Once, AppError> {
        let mut change = Change::begin(self, pool, self.now()).await?;
        if let Some(repeated) = request.seen(&*self.store, pool.control()).await? {
            return Ok(repeated);
        }
        self.claim_id(request, pool).await?;
        if let Some(record) = request.approval.as_deref() {
            let stored: Option<ApprovalRecord> = change.read(&keys::approval(record.number)).await?;
            let version = self.pool_state(pool).await?.version;
            if stored.as_ref() != Some(record) || version != record.config_version {
                return Err(approve::overtaken());
            }
        }
        let note = decide(&mut change).await?;
        // What the service did on the way stands behind what brought it about.
        let approved = request.approval.as_deref().map(|record| {
            let (after, note) = approve::approved_by(request, record, change.at);
            change.put(keys::approval(record.number), &after);
            note
        });
        let notes = approved.into_iter().chain([note]);
        change.acts.splice(0..0, notes.filter_map(|note| request.act(note)));
        let (key, record) = request.mark(change.at);
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::on(crate::seeded::Bug::RequestNotMarked) {
            change.commit().await?;
            return Ok(Once::First);
        }
        change.put_new(key, &record);
        change.commit().await?;
        Ok(Once::First)
    }
}

#[cfg(test)]
mod tests {
    use super::super::distribute::tests::rig::Rig;
    use super::*;
    use crate::domain::policy::ReleaseLimits;
    use crate::store::records::ChainMark;

    #[tokio::test]
    async fn of_two_services_over_one_store_the_later_commit_is_refused() {
        let rig = Rig::new(1, ReleaseLimits::default()).await;
        let (other, its_pool) = rig.beside().await;
        let mut late = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
        let mut first = Change::begin(&other, &its_pool, other.now()).await.unwrap();
        let mark = |height| ChainMark { seen_height: height, ..ChainMark::default() };
        first.put(keys::chain_mark(), &mark(1));
        late.put(keys::chain_mark(), &mark(2));
        first.commit().await.unwrap();
        let refused = late.commit().await;
        assert!(matches!(refused, Err(AppError::Store(StoreError::Conflict { .. }))), "{refused:?}");
        assert_eq!(rig.app.chain_mark(&rig.pool).await.unwrap(), mark(1));
    }
}
