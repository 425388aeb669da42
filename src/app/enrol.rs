//! Enrolment: decisions are durable first, then an idempotent fan-out enters them in every position they concern.
//!
//! Decisions form one log, and the book follows it as a source whose sequences are the log's, so that what was entered
//! is skipped. A pool that is created later takes part in the log from then on: what the decisions before come to in it
//! is written into the log for that pool alone, account by account, and it takes no balance before that is entered.

use std::collections::BTreeMap;

use crate::book::{Enrolment, EnrolmentChange, Overloaded, Refusal as BookRefusal};
use crate::domain::audit_log::Note;
use crate::domain::enrolment::{CarriedStanding, Carry, Decision, EnrolmentEntry, LogEntry};
use crate::domain::feed::SourceNumber;
use crate::domain::ids::{AccountId, PoolId};
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::store::records::Record;
use crate::store::{Batch, Direction, KeyRange, PartitionId, keys};

use super::{App, AppError, Once, Pool, Reason, Request, Work, close};

/// How many decisions one step enters, and how many one commit writes.
const FAN_OUT: usize = 500;

/// How many entries of the log are read at once.
const ENTRIES_PER_READ: usize = 4_096;

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
            let last = match enrol.decision {
                Decision::Locate => self.located(&enrol.account).await?,
                _ => self.enrolment(&enrol.account, enrol.pool.as_ref()).await?,
            };
            let last = last.ok_or_else(|| AppError::Broken(format!("request {} has left no decision", request.id)))?;
            return Ok((repeated, last));
        }
        let now = self.now();
        let (last, at) = self.log_end(now).await?;
        let entry = EnrolmentEntry {
            sequence: last + 1,
            account: enrol.account,
            pool: enrol.pool,
            decision: enrol.decision,
            at,
            terms_version: enrol.terms_version,
            jurisdiction: enrol.jurisdiction,
            reason_code: enrol.reason_code,
            by: request.caller.principal.clone(),
        };
        let mut batch = Batch::new(PartitionId::SERVICE);
        let restricted = self.decide_with_jurisdiction(&mut batch, &entry).await?;
        let before = match entry.decision {
            Decision::Locate => self.located(&entry.account).await?,
            _ => self.enrolment(&entry.account, entry.pool.as_ref()).await?,
        };
        let resource = match &entry.pool {
            Some(pool) => format!("accounts/{}/positions/{pool}", entry.account),
            None => format!("accounts/{}", entry.account),
        };
        let follows = match restricted {
            0 => String::new(),
            pools => format!("; its jurisdiction restricts it in {pools} pools"),
        };
        let note = Note::of(resource, format!("decision {} of the enrolment log{follows}", entry.sequence));
        let note = note.changed(before.as_ref().map(EnrolmentEntry::shown).unwrap_or_default(), entry.shown());
        self.commit_marked(request, Vec::new(), batch, now, note).await?;
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

    /// Up to `limit` decisions of or about an account, newest first, before `sequence` of the log; and whether there are more.
    pub async fn enrolments(
        &self,
        account: &AccountId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<EnrolmentEntry>, bool), AppError> {
        let range = keys::enrolments_before(account, before.unwrap_or(u64::MAX));
        let wanted = limit.saturating_add(1);
        let found = self.store.scan(PartitionId::SERVICE, range, wanted, Direction::Reverse).await?;
        let mut entries = Vec::with_capacity(found.len().min(limit));
        for (key, _) in found.iter().take(limit) {
            let unreadable = || AppError::Broken("an entry of the index of enrolments can't be read".to_owned());
            let (_, sequence) = keys::parse_enrolment_of_account(key).ok_or_else(unreadable)?;
            let entry = self.read(PartitionId::SERVICE, &keys::enrolment_entry(sequence)).await?;
            entries.push(entry.ok_or_else(|| AppError::lost(format!("enrolment decision {sequence}")))?);
        }
        Ok((entries, found.len() > limit))
    }

    /// The last sequence of the log, and the time of what is written behind it at `now`: times never go back in it.
    pub(super) async fn log_end(&self, now: UnixSeconds) -> Result<(u64, UnixSeconds), AppError> {
        let log = keys::range_of_tag(keys::tag::ENROLMENT_ENTRY);
        let last: Option<LogEntry> = self.last(PartitionId::SERVICE, log).await?;
        Ok(last.map_or((0, now), |last| (last.sequence(), now.max(last.at()))))
    }

    /// Entries of the log after a sequence, in order.
    async fn entries_after(&self, sequence: u64, limit: usize) -> Result<Vec<LogEntry>, AppError> {
        let log = keys::range_of_tag(keys::tag::ENROLMENT_ENTRY);
        let range = KeyRange { from: keys::enrolment_entry(sequence.saturating_add(1)), to: log.to };
        self.list(PartitionId::SERVICE, range, limit).await
    }

    /// Up to which sequence of the log everything is in the positions.
    fn entered(&self) -> u64 {
        self.book.source_state(SourceNumber::ENROLMENT).unwrap_or_default().durable_sequence
    }

    /// Whether a pool takes balances: once what was decided before it was created is in its positions. A balance before
    /// that would earn for who may not, or be moved up to a decision that is older.
    pub(super) fn takes_balances(&self, pool: &Pool) -> bool {
        pool.follows_from.get().is_some_and(|from| self.entered() >= *from)
    }

    /// Whether everything that counts in `pool` before `end` is in its positions: a period that ends there may freeze.
    pub(super) async fn enrolment_complete(&self, pool: &Pool, end: UnixSeconds) -> Result<bool, AppError> {
        if pool.follows_from.get().is_none() {
            return Ok(false);
        }
        let mut entered = self.entered();
        loop {
            let waiting = self.entries_after(entered, FAN_OUT).await?;
            // What was carried over into a pool stands in the order of its times, and before its decisions.
            if let Some(entry) = waiting.iter().find(|entry| entry.concerns(pool.id())) {
                return Ok(entry.counts_from() >= end);
            }
            let Some(last) = waiting.last() else { return Ok(true) };
            entered = last.sequence();
        }
    }

    /// Lets a pool take part in the log: writes down what the decisions so far come to in it, once. It follows the log
    /// from there on. What a crash cut off is written again, behind what was: the last word counts.
    pub(super) async fn carry_over(&self, pool: &Pool) -> Result<Work, AppError> {
        if pool.follows_from.get().is_some() {
            return Ok(Work::Idle);
        }
        let key = keys::counter(&format!("enrolment-from/{}", pool.id()));
        let _guard = self.service_lock.lock().await;
        if let Some(bytes) = self.store.get(PartitionId::SERVICE, &key).await? {
            let unreadable = |_| AppError::Broken(format!("pool {}: its place in the enrolment log", pool.id()));
            let from = bytes.as_slice().try_into().map(u64::from_be_bytes).map_err(unreadable)?;
            pool.follows_from.get_or_init(|| from);
            return Ok(Work::Idle);
        }
        let start = pool.record.first_period_start;
        let carried = self.carried(pool).await?;
        let mut carried: Vec<_> =
            carried.into_iter().map(|(account, carry)| (carry.since(start), account, carry.standing)).collect();
        carried.sort_unstable();
        let (mut sequence, at) = self.log_end(self.now()).await?;
        for some in carried.chunks(FAN_OUT) {
            let mut batch = Batch::new(PartitionId::SERVICE);
            for (since, account, standing) in some.iter().cloned() {
                sequence += 1;
                // The clock may have been set back since a decision.
                let (pool, since) = (pool.id().clone(), since.min(at));
                let entry = LogEntry::Carried(CarriedStanding { sequence, account, pool, standing, since, at });
                let key = keys::enrolment_entry(sequence);
                batch.expect_absent(key.clone()).put(key, entry.encode());
            }
            self.store.commit(vec![batch]).await?;
        }
        let mut batch = Batch::new(PartitionId::SERVICE);
        batch.expect_absent(key.clone()).put(key, sequence.to_be_bytes());
        self.store.commit(vec![batch]).await?;
        pool.follows_from.get_or_init(|| sequence);
        Ok(Work::Done)
    }

    /// What the decisions so far come to in a pool, by account.
    async fn carried(&self, pool: &Pool) -> Result<BTreeMap<AccountId, Carry>, AppError> {
        let mode = close::policy_of(self, pool, PeriodIndex(0)).await?.policy.eligibility.enrolment;
        let restricted = self.pool_state(pool).await?.settings.restricted;
        let mut carried: BTreeMap<AccountId, Carry> = BTreeMap::new();
        let mut jurisdictions: BTreeMap<AccountId, EnrolmentEntry> = BTreeMap::new();
        let mut read = 0;
        loop {
            let entries = self.entries_after(read, ENTRIES_PER_READ).await?;
            let Some(last) = entries.last() else { break };
            read = last.sequence();
            for entry in &entries {
                let LogEntry::Decision(decision) = entry else { continue };
                if !decision.jurisdiction.is_empty() {
                    jurisdictions.insert(decision.account.clone(), decision.clone());
                }
                if entry.concerns(pool.id()) {
                    let carry = carried.entry(decision.account.clone()).or_default();
                    carry.take(entry.change(), decision.at, mode);
                }
            }
        }
        // The decision that says so follows in the log; this holds from the pool's first second.
        for (account, named) in jurisdictions.into_iter().filter(|(_, named)| restricted.bar(&named.jurisdiction)) {
            carried.entry(account).or_default().take(Decision::Restrict.change(false), named.at, mode);
        }
        Ok(carried)
    }
}

impl Pool {
    /// Whether an entry of the log is entered in the pool: what came before the pool followed the log was carried over.
    fn takes(&self, entry: &LogEntry) -> bool {
        let follows = |from: &u64| matches!(entry, LogEntry::Carried(_)) || entry.sequence() > *from;
        entry.concerns(self.id()) && self.follows_from.get().is_some_and(follows)
    }
}

/// Enters the next decisions in the positions that they concern, those of pools that are new to the log first.
pub async fn step(app: &App) -> Result<Work, AppError> {
    let mut work = Work::Idle;
    let pools = app.pools();
    for pool in &pools {
        work = work.and(app.carry_over(pool).await?);
        work = work.and(app.restrict_jurisdictions(pool).await?);
    }
    // A decision was made at a time that had come. Where the clock was set back since, it waits: the book would reject it.
    let latest = app.now().plus(i64::from(app.settings.max_future_seconds));
    let waiting = app.entries_after(app.entered(), FAN_OUT).await?;
    for entry in waiting.into_iter().take_while(|entry| entry.at() <= latest) {
        let (account, change, at) = (entry.account(), entry.change(), entry.counts_from());
        let concerned = pools.iter().filter(|pool| pool.takes(&entry));
        let changes =
            concerned.map(|pool| EnrolmentChange { pool: pool.number(), account: account.clone(), change, at });
        let enrolment = Enrolment { sequence: entry.sequence(), changes: changes.collect() };
        let full = |full: Overloaded| AppError::refused(Reason::Overloaded, full.to_string());
        match app.sender.submit_enrolment(enrolment).map_err(full)?.await {
            Ok(_) => work = Work::Done,
            // The pool's own step opens the period, or freezes those before it.
            Err(BookRefusal::PeriodNotOpen { pool }) => {
                tracing::debug!(pool, sequence = entry.sequence(), "a decision waits for a period to open");
                break;
            }
            Err(refusal) => return Err(super::ingest::book_refusal(refusal)),
        }
    }
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::distribute::tests::rig::{Rig, account, at, units};
    use crate::app::ingest::PUT_BALANCE;
    use crate::book::EventBatch;
    use crate::domain::amount::BaseUnits;
    use crate::domain::policy::ReleaseLimits;

    async fn decide(rig: &mut Rig, name: &str, pool: Option<&str>, decision: Decision) {
        let enrol = Enrol {
            account: account(name),
            pool: pool.map(|pool| PoolId::new(pool).unwrap()),
            decision,
            terms_version: String::new(),
            jurisdiction: String::new(),
            reason_code: String::new(),
        };
        let (request, app) = (rig.request(), rig.app.clone());
        assert_eq!(app.set_enrolment(&request, enrol).await.unwrap().0, Once::First);
    }

    async fn enter(rig: &mut Rig) -> Work {
        let app = rig.app.clone();
        rig.drive(step(&app)).await.unwrap()
    }

    async fn eligible(rig: &Rig, name: &str) -> BaseUnits {
        rig.app.position(&rig.pool, &account(name)).await.unwrap().eligible
    }

    #[tokio::test]
    async fn a_pool_that_is_created_later_knows_all_that_was_decided_for_all_pools() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        for (name, decision) in [
            ("alice", Decision::Restrict),
            ("alice", Decision::OptIn),
            ("bob", Decision::OptOut),
            ("bob", Decision::Restrict),
            ("bob", Decision::Unrestrict),
            ("carol", Decision::OptIn),
        ] {
            decide(&mut rig, name, None, decision).await;
        }
        rig.create_beside(at(0)).await.unwrap();
        enter(&mut rig).await;
        for (name, earns) in [("alice", 0), ("bob", 0), ("carol", 1_000), ("dave", 1_000)] {
            rig.put(name, 1_000, 0).await;
            assert_eq!(eligible(&rig, name).await, units(earns), "{name}");
        }
        let mut rig = rig.restart().await;
        assert_eq!(enter(&mut rig).await, Work::Idle, "it is carried over once");
    }

    #[tokio::test]
    async fn what_was_decided_before_a_pool_counts_before_its_first_balance() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        decide(&mut rig, "alice", None, Decision::OptIn).await;
        decide(&mut rig, "bob", None, Decision::Restrict).await;
        rig.set_time(1_500);
        decide(&mut rig, "carol", None, Decision::OptIn).await;
        decide(&mut rig, "bob", None, Decision::Unrestrict).await;
        rig.set_time(3_000);
        rig.create_beside(at(0)).await.unwrap();
        let (request, app, asset) = (rig.request(), rig.app.clone(), rig.pool.record.asset.clone());
        let early = rig.drive(app.put_balance(&request, account("bob"), asset, units(10), Some(at(0)))).await;
        assert!(matches!(early, Err(AppError::Refused(refusal)) if refusal.reason == Reason::PeriodNotOpen));
        enter(&mut rig).await;
        for (name, held_for) in [("alice", 3_000), ("bob", 1_500), ("carol", 3_000), ("dave", 3_000)] {
            rig.put(name, 10, 0).await;
            let position = rig.app.position(&rig.pool, &account(name)).await.unwrap();
            assert_eq!(position.weight, 10 * held_for, "{name}");
        }
    }

    #[tokio::test]
    async fn a_pool_created_while_the_queue_is_full_knows_what_was_decided_too() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        decide(&mut rig, "bob", None, Decision::Restrict).await;
        let watermark = || EventBatch { source: PUT_BALANCE, first_sequence: 1, events: Vec::new(), watermark: None };
        while rig.app.sender.submit_events(watermark()).is_ok() {}
        let created = rig.create_beside(at(0)).await;
        assert!(created.is_ok(), "{created:?}");
        rig.seal().await;
        let (app, pool) = (rig.app.clone(), rig.pool.clone());
        rig.drive(close::step(&app, &pool, app.now())).await.unwrap();
        enter(&mut rig).await;
        rig.put("bob", 10, 0).await;
        assert_eq!(eligible(&rig, "bob").await, units(0));
    }

    #[tokio::test]
    async fn a_pool_that_is_created_changes_no_standing_in_another() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        rig.put("bob", 1_000, 0).await;
        decide(&mut rig, "bob", None, Decision::Unrestrict).await;
        decide(&mut rig, "bob", Some("atom"), Decision::Restrict).await;
        enter(&mut rig).await;
        let before = rig.app.position(&rig.pool, &account("bob")).await.unwrap();
        let atom = rig.pool.clone();
        rig.set_time(100);
        rig.create_beside(at(0)).await.unwrap();
        enter(&mut rig).await;
        let after = rig.app.position(&atom, &account("bob")).await.unwrap();
        assert!(after.restricted);
        assert_eq!((after.eligible, after.last_event_at), (units(0), before.last_event_at));
        assert!(!rig.app.position(&rig.pool, &account("bob")).await.unwrap().restricted);
    }

    #[tokio::test]
    async fn a_decision_waits_where_the_clock_was_set_back_behind_it() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        rig.put("alice", 1_000, 10).await;
        rig.set_time(1_000);
        decide(&mut rig, "alice", None, Decision::Restrict).await;
        rig.set_time(100);
        assert_eq!(enter(&mut rig).await, Work::Idle);
        assert_eq!(eligible(&rig, "alice").await, units(1_000));
        rig.set_time(1_000);
        assert_eq!(enter(&mut rig).await, Work::Done);
        assert_eq!(eligible(&rig, "alice").await, units(0));
    }
}
