//! The end: the faults stop, people do their work, and everything has to come to rest within a bounded time.

use crate::domain::effect::{Effect, EffectKey};
use crate::domain::operation::OperationState;
use crate::domain::period::PeriodState;
use crate::store::records::PostingRecord;
use crate::store::{PartitionId, keys};

use super::Problem;
use super::calls::{Ask, CallState};
use super::evidence::audit_pool;
use super::founding::POOLS;
use super::world::{Stop, World};

/// How many of the auditor's findings are told.
const TOLD_FINDINGS: usize = 3;
/// How far time moves at once, in seconds.
const ROUND_SECONDS: i64 = 300;
/// How many rounds it may take.
const MAX_ROUNDS: u64 = 240;
/// After so many rounds the customers are quiet.
const QUIET_AFTER: u64 = 2;
/// An operation and a period are given so many seconds to end.
const PATIENCE_SECONDS: u64 = 7_200;

impl World {
    /// Brings everything to rest.
    pub(super) async fn rest(&mut self) -> Result<(), Problem> {
        self.calm();
        self.note(|| "== the faults stop".to_owned());
        for pool in 0..POOLS {
            if let Some(chain) = self.chains.get(pool) {
                chain.chain.clear_faults();
            }
        }
        if self.skew != 0 {
            self.set_skew(0);
        }
        self.restart(false).await?;
        let mut waiting = String::new();
        for round in 0..MAX_ROUNDS {
            self.step += 1;
            self.move_time(ROUND_SECONDS);
            self.work_faithfully(round).await.map_err(problem)?;
            self.keep_promises().await?;
            waiting = self.waiting_for().await.map_err(problem)?;
            if waiting.is_empty() {
                return self.at_rest().await.map_err(problem);
            }
            self.note(|| format!("waiting: {waiting}"));
        }
        Err(Problem::of(format!("it does not come to rest: {waiting}")))
    }

    async fn work_faithfully(&mut self, round: u64) -> Result<(), Stop> {
        self.resume_snapshots().await?;
        self.send_open_calls().await?;
        self.tidy_holdings().await?;
        for source in 0..self.ledger.put_balance() {
            self.send_feeds(&[source], true).await?;
        }
        for pool in 0..POOLS {
            self.ask(Ask::Pause { pool, reason: None }).await?;
            self.operate(pool).await?;
            self.accept(pool).await?;
            self.decide(pool, true).await?;
            self.approve_proposals(true).await?;
            self.work_custody(pool, true).await?;
            self.take_payouts(pool).await?;
        }
        if round < QUIET_AFTER {
            self.change_balances(3).await?;
        }
        self.tick_until_idle().await
    }

    /// Takes the chain's word on what differs and is not booked by itself.
    async fn accept(&mut self, pool: usize) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let mark = self.ask_app("the chain's mark", async move |app| app.chain_mark(&of).await).await?;
        match mark.and_then(|mark| mark.suspect) {
            Some(suspect) => self.ask(Ask::Accept { pool, hash: suspect.hash }).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// What is not at rest, in words; empty where all is.
    async fn waiting_for(&mut self) -> Result<String, Stop> {
        let mut waiting = Vec::new();
        if !self.ledger.told() {
            waiting.push("a feed is not told".to_owned());
        }
        let open = self.calls.iter().filter(|call| call.state == CallState::Open).count();
        if open > 0 {
            waiting.push(format!("{open} calls are not answered"));
        }
        let now = self.now();
        for pool in 0..POOLS {
            let of = self.pool(pool)?;
            let name = of.id().to_string();
            let operations = self.ask_app("operations", async move |app| app.open_operations(&of).await).await?;
            for operation in operations.unwrap_or_default() {
                let flagged = operation.state == OperationState::NeedsOperator;
                if !flagged && now.since(operation.created_at) > PATIENCE_SECONDS {
                    waiting.push(format!("{} is {}: {}", operation.id, operation.state.name(), operation.last_error));
                }
            }
            let of = self.pool(pool)?;
            let last = self.ask_app("periods", async move |app| app.last_period(&of).await).await?.flatten();
            for index in 0..=last.map_or(0, |last| last.index.0) {
                let (of, index) = (self.pool(pool)?, crate::domain::period::PeriodIndex(index));
                let period = self.ask_app("a period", async move |app| app.period(&of, index).await).await?.flatten();
                let Some(period) = period else { continue };
                let over = period.bounds.end.plus(i64::try_from(PATIENCE_SECONDS).unwrap_or(0)) <= now;
                if period.state != PeriodState::Distributed && over {
                    waiting.push(format!("{name}: period {index} is {:?}", period.state));
                }
            }
            let of = self.pool(pool)?;
            let unsettled =
                self.ask_app("unsettled", async move |app| app.unsettled_distributions(&of, None, 99).await).await?;
            for record in unsettled.unwrap_or_default() {
                let released = record.released_at.unwrap_or(now);
                if now.since(released) > PATIENCE_SECONDS {
                    waiting.push(format!("{name}: period {} is not settled", record.period));
                }
            }
            let of = self.pool(pool)?;
            let mark = self.ask_app("the chain's mark", async move |app| app.chain_mark(&of).await).await?;
            let Some(mark) = mark else { continue };
            if let Some(mismatch) = mark.mismatch {
                waiting.push(format!("{name}: ledger and chain differ {mismatch}"));
            } else if now.since(mark.reconciled_at) > 600 {
                waiting.push(format!("{name}: ledger and chain were last equal at {}", mark.reconciled_at));
            }
            self.check_distributions(pool).await?;
            let closes = self.promises.closes.get(pool).copied().unwrap_or(0);
            if closes < 3 {
                waiting.push(format!("{name}: {closes} distributions were released"));
            }
        }
        Ok(waiting.join("; "))
    }

    /// What has to hold at the end, beside what holds always.
    async fn at_rest(&mut self) -> Result<(), Stop> {
        self.check_all_ended().await?;
        self.check_positions().await?;
        for pool in 0..POOLS {
            let of = self.pool(pool)?;
            let found = self.ask_app("reconcile", async move |app| app.reconcile(&of).await).await?.flatten();
            let differences = found.map(|found| found.differences);
            if differences.as_ref().is_none_or(|differences| !differences.is_empty()) {
                return Err(Stop::failed(format!("pool {pool}: ledger and chain at one height: {differences:?}")));
            }
            self.check_on_chain(pool).await?;
            self.check_settled(pool).await?;
            self.audit(pool).await?;
            self.count_chain_faults(pool);
            let closes = self.promises.closes.get(pool).copied().unwrap_or(0);
            self.coverage.add("distribution state", "released, in all", closes);
        }
        self.coverage.hit("world", "at rest");
        Ok(())
    }

    /// What the chain did, but for what it told or showed wrongly and was booked so: that much the auditor can't know
    /// better.
    async fn as_booked(&mut self, pool: usize, mut effects: Vec<Effect>) -> Result<Vec<Effect>, Stop> {
        let Some(chain) = self.chains.get(pool).filter(|chain| !chain.is_truthful()) else { return Ok(effects) };
        let lies = chain.watched.lies();
        let (control, range) =
            (PartitionId::control(self.pool(pool)?.number()), keys::range_of_tag(keys::tag::POSTING));
        let postings = self.ask_app("postings", async move |app| app.list(control, range, usize::MAX).await).await?;
        let postings: Vec<PostingRecord> = postings.unwrap_or_default();
        let booked = |key: &EffectKey| {
            let subject = key.to_string();
            let of_it = postings.iter().filter(move |posting| posting.subject == subject);
            of_it.flat_map(|posting| &posting.legs)
        };
        // What did not fit is not booked: what it leaves apart is accepted later, as a difference.
        effects.retain(|effect| booked(&effect.key).next().is_some());
        for mut lie in lies {
            let told = lie.kind.amount_mut().get();
            if booked(&lie.key).any(|leg| leg.change.get().unsigned_abs() == told)
                && let Some(effect) = effects.iter_mut().find(|effect| effect.key == lie.key)
            {
                *effect = lie;
            }
        }
        Ok(effects)
    }

    /// The auditor recomputes everything that was ever distributed, from the journal and the chain.
    async fn audit(&mut self, pool: usize) -> Result<(), Stop> {
        if !self.book.archive_for_ever {
            // It reads the journal from its first record on.
            return Ok(());
        }
        let Some(chain) = self.chains.get(pool).map(|chain| chain.chain.clone()) else { return Ok(()) };
        let effects = self.as_booked(pool, chain.final_effects().await.map_err(Problem::of)?).await?;
        let of = self.pool(pool)?;
        let Some(book) = self.engine.as_ref().map(|engine| engine.book.clone()) else { return Err(Stop::Killed) };
        let audit = async move |app: std::sync::Arc<crate::app::App>| audit_pool(&app, &book, &of, &effects).await;
        let findings = self.drive(audit).await?.map_err(|error| Stop::failed(format!("the audit: {error}")))?;
        if findings.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = findings.iter().take(TOLD_FINDINGS).map(ToString::to_string).collect();
        Err(Stop::failed(format!("the auditor has {} findings: {}", findings.len(), told.join("; "))))
    }
}

fn problem(stop: Stop) -> Problem {
    match stop {
        Stop::Killed => Problem::of("the service died after the faults had stopped"),
        Stop::Failed(problem) => problem,
    }
}
