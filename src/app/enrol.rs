//! Enrolment: decisions are durable first, then an idempotent fan-out enters them in every position they concern.
//!
//! Decisions form one log. Each pool follows it through the book, as a source of its own whose sequences are the
//! log's, so that what was entered is skipped and a pool that is created later replays all of it.

use crate::book::{Command, StandingEvent};
use crate::domain::enrolment::{Decision, EnrolmentEntry};
use crate::domain::ids::{AccountId, PoolId};
use crate::domain::time::UnixSeconds;
use crate::store::records::Record;
use crate::store::{Batch, PartitionId, keys};

use super::{App, AppError, Once, Pool, Request, Work};

/// How many decisions one step enters.
const FAN_OUT: usize = 1_000;

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
    /// Makes a decision durable, once. It enters the positions within the next steps, with the time of this call.
    pub async fn set_enrolment(&self, request: &Request, enrol: Enrol) -> Result<Once, AppError> {
        if let Some(pool) = &enrol.pool {
            self.pool(pool)?;
        }
        let _guard = self.service_lock.lock().await;
        if let Some(repeated) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            return Ok(repeated);
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
        request.mark(&mut batch, now);
        self.store.commit(vec![batch]).await?;
        Ok(Once::First)
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

    /// Whether every decision made before `end` is in the pool's positions: a period that ends there may freeze.
    pub(super) async fn enrolment_complete(&self, pool: &Pool, end: UnixSeconds) -> Result<bool, AppError> {
        let next = keys::enrolment_entry(self.book.enrolment_sequence(pool.number()) + 1);
        let waiting: Vec<EnrolmentEntry> = self.list(PartitionId::SERVICE, keys::range_from(&next), 1).await?;
        Ok(waiting.first().is_none_or(|entry| entry.at >= end))
    }
}

/// Enters the next decisions in the positions of `pool`.
pub async fn step(app: &App, pool: &Pool) -> Result<Work, AppError> {
    let next = keys::enrolment_entry(app.book.enrolment_sequence(pool.number()) + 1);
    let entries: Vec<EnrolmentEntry> = app.list(PartitionId::SERVICE, keys::range_from(&next), FAN_OUT).await?;
    if entries.is_empty() {
        return Ok(Work::Idle);
    }
    let events = entries
        .into_iter()
        .map(|entry| StandingEvent {
            sequence: entry.sequence,
            change: match &entry.pool {
                None => Some(entry.decision.change(true)),
                Some(id) if id == pool.id() => Some(entry.decision.change(false)),
                Some(_) => None,
            },
            account: entry.account,
            at: entry.at,
        })
        .collect();
    app.sender.submit(Command::Enrolment { pool: pool.number(), events }).await?;
    Ok(Work::Done)
}
