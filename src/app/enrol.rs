//! Enrolment: decisions are durable first, then an idempotent fan-out enters them in every position they concern.
//!
//! Decisions form one log, and the book follows it as a source whose sequences are the log's, so that what was entered
//! is skipped. Decisions for all pools are entered again for a pool that is created later.

use crate::book::{Enrolment, EnrolmentChange, Overloaded};
use crate::domain::enrolment::{Decision, EnrolmentEntry};
use crate::domain::feed::SourceNumber;
use crate::domain::ids::{AccountId, PoolId};
use crate::domain::time::UnixSeconds;
use crate::store::records::Record;
use crate::store::{Batch, KeyRange, PartitionId, keys};

use super::{App, AppError, Once, Pool, Reason, Request, Work};

/// How many decisions one step enters.
const FAN_OUT: usize = 500;

/// A decision as its caller made it.
#[derive(Clone, Debug)]
pub struct Enrol {
    /// Of or about whom.
    pub account: AccountId,
    /// For which pool; `None` for all.
    pub pool: Option<PoolId>,
    /// What.
    pub decision: Decision,
    /// Which terms the customer accepted.
    pub terms_version: String,
    /// Where the customer is.
    pub jurisdiction: String,
    /// Why.
    pub reason_code: String,
}

impl App {
    /// Makes a decision durable, once, and says what stands in the log. It enters the positions within the next steps,
    /// with the time of this call.
    pub async fn set_enrolment(&self, request: &Request, enrol: Enrol) -> Result<(Once, EnrolmentEntry), AppError> {
        if let Some(pool) = &enrol.pool {
            self.pool(pool)?;
        }
        let _guard = self.service_lock.lock().await;
        if let Some(repeated) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            let last = self.enrolment(&enrol.account, enrol.pool.as_ref()).await?;
            let last = last.ok_or_else(|| AppError::Broken(format!("request {} has left no decision", request.id)))?;
            return Ok((repeated, last));
        }
        let now = self.now();
        let last = self.last_decision().await?;
        let entry = EnrolmentEntry {
            sequence: last.as_ref().map_or(0, |entry| entry.sequence) + 1,
            account: enrol.account,
            pool: enrol.pool,
            decision: enrol.decision,
            at: last.map_or(now, |entry| now.max(entry.at)),
            terms_version: enrol.terms_version,
            jurisdiction: enrol.jurisdiction,
            reason_code: enrol.reason_code,
        };
        let scope = entry.pool.as_ref().map_or("*", PoolId::as_str);
        let mut batch = Batch::new(PartitionId::SERVICE);
        let key = keys::enrolment_entry(entry.sequence);
        batch.expect_absent(key.clone()).put(key, entry.encode());
        batch.put(keys::account_enrolment(&entry.account, scope), entry.encode());
        request.mark_in(&mut batch, now);
        self.store.commit(vec![batch]).await?;
        Ok((Once::First, entry))
    }

    /// The last decision on an account for one pool, or for all.
    pub async fn enrolment(
        &self,
        account: &AccountId,
        pool: Option<&PoolId>,
    ) -> Result<Option<EnrolmentEntry>, AppError> {
        let key = keys::account_enrolment(account, pool.map_or("*", PoolId::as_str));
        self.read(PartitionId::SERVICE, &key).await
    }

    /// The last decision of all, if there is one.
    async fn last_decision(&self) -> Result<Option<EnrolmentEntry>, AppError> {
        self.last(PartitionId::SERVICE, keys::range_of_tag(keys::tag::ENROLMENT_ENTRY)).await
    }

    /// Whether every decision made before `end` is in the positions: a period that ends there may freeze.
    pub(super) async fn enrolment_complete(&self, end: UnixSeconds) -> Result<bool, AppError> {
        let waiting = self.waiting_decisions(1).await?;
        Ok(waiting.first().is_none_or(|entry| entry.at >= end))
    }

    /// The next decisions that are not in the positions yet.
    async fn waiting_decisions(&self, limit: usize) -> Result<Vec<EnrolmentEntry>, AppError> {
        let entered = self.book.source_state(SourceNumber::ENROLMENT).unwrap_or_default().durable_sequence;
        let log = keys::range_of_tag(keys::tag::ENROLMENT_ENTRY);
        let range = KeyRange { from: keys::enrolment_entry(entered + 1), to: log.to };
        self.list(PartitionId::SERVICE, range, limit).await
    }

    /// Enters the decisions made for all pools in a pool that was created after them, as new decisions of now. Once.
    pub(super) async fn replay_enrolment(&self, pool: &Pool) -> Result<(), AppError> {
        let _guard = self.service_lock.lock().await;
        let done = keys::counter(&format!("enrolment-replayed/{}", pool.id()));
        if self.store.get(PartitionId::SERVICE, &done).await?.is_some() {
            return Ok(());
        }
        let every = keys::range_of_tag(keys::tag::ACCOUNT_ENROLMENT);
        let decisions: Vec<EnrolmentEntry> = self.list(PartitionId::SERVICE, every, usize::MAX).await?;
        let last = self.last_decision().await?;
        let mut sequence = last.as_ref().map_or(0, |entry| entry.sequence);
        let at = last.map_or(self.now(), |entry| self.now().max(entry.at));
        for some in decisions.chunks(FAN_OUT) {
            let mut batch = Batch::new(PartitionId::SERVICE);
            for decision in some.iter().filter(|decision| decision.pool.is_none()) {
                sequence += 1;
                let entry = EnrolmentEntry { sequence, at, ..decision.clone() };
                batch.expect_absent(keys::enrolment_entry(sequence));
                batch.put(keys::enrolment_entry(sequence), entry.encode());
            }
            self.store.commit(vec![batch]).await?;
        }
        let mut batch = Batch::new(PartitionId::SERVICE);
        batch.put(done, []);
        self.store.commit(vec![batch]).await?;
        Ok(())
    }
}

/// Enters the next decisions in the positions that they concern.
pub async fn step(app: &App) -> Result<Work, AppError> {
    // A decision was made at a time that had come. Where the clock was set back since, it waits: the book would reject it.
    let latest = app.now().plus(i64::from(app.settings.max_future_seconds));
    let waiting = app.waiting_decisions(FAN_OUT).await?.into_iter().take_while(|entry| entry.at <= latest);
    let waiting: Vec<EnrolmentEntry> = waiting.collect();
    if waiting.is_empty() {
        return Ok(Work::Idle);
    }
    let pools = app.pools();
    for entry in waiting {
        let concerned = pools.iter().filter(|pool| entry.pool.as_ref().is_none_or(|id| id == pool.id()));
        let changes = concerned
            .map(|pool| EnrolmentChange {
                pool: pool.number(),
                account: entry.account.clone(),
                change: entry.decision.change(entry.pool.is_none()),
                at: entry.at,
            })
            .collect();
        let enrolment = Enrolment { sequence: entry.sequence, changes };
        let full = |full: Overloaded| AppError::refused(Reason::Overloaded, full.to_string());
        let receipt = app.sender.submit_enrolment(enrolment).map_err(full)?;
        receipt.await.map_err(super::ingest::book_refusal)?;
    }
    Ok(Work::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::distribute::tests::rig::{Rig, account, units};
    use crate::domain::policy::ReleaseLimits;

    #[tokio::test]
    async fn a_decision_waits_where_the_clock_was_set_back_behind_it() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        rig.put("alice", 1_000, 10).await;
        rig.set_time(1_000);
        let enrol = Enrol {
            account: account("alice"),
            pool: None,
            decision: Decision::Restrict,
            terms_version: String::new(),
            jurisdiction: String::new(),
            reason_code: String::new(),
        };
        let (request, app) = (rig.request(), rig.app.clone());
        assert_eq!(app.set_enrolment(&request, enrol).await.unwrap().0, Once::First);
        let eligible = async |rig: &Rig| rig.app.position(&rig.pool, &account("alice")).await.unwrap().eligible;
        rig.set_time(100);
        assert_eq!(rig.drive(step(&app)).await.unwrap(), Work::Idle);
        assert_eq!(eligible(&rig).await, units(1_000));
        rig.set_time(1_000);
        assert_eq!(rig.drive(step(&app)).await.unwrap(), Work::Done);
        assert_eq!(eligible(&rig).await, units(0));
    }
}
