//! What happens in a step, and the operator among those who make it happen.

use std::sync::Arc;

use crate::app::enrol::Enrol;
use crate::app::{App, Request};
use crate::domain::amount::BaseUnits;
use crate::domain::approval::Proposal;
use crate::domain::caller::Caller;
use crate::domain::correction::AskedCorrection;
use crate::domain::distribution::{AfterVoid, DistributionState};
use crate::domain::effect::EffectKind;
use crate::domain::enrolment::Decision;
use crate::domain::ids::{OperatorGroup, PoolId, RequestId};
use crate::domain::operation::{OperationState, Resolution};
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::store::records::{ApprovalState, OperationRecord, ValidatorChoice};

use super::Problem;
use super::calls::{Ask, CallState};
use super::founding::{self, ACCOUNTS, POOLS, START};
use super::world::{Stop, World};

/// So long after its expiry no transaction is on its way any more, whatever the chain's delays.
const EXPIRED_SECONDS: i64 = 600;

/// What a step may be, and how often of a thousand.
const ACTIONS: &[(&str, u64)] = &[
    ("change_balances", 250),
    ("feeds_interleaved", 90),
    ("feed_nonsense", 30),
    ("feed_wrongly", 25),
    ("feed_again", 25),
    ("snapshot", 24),
    ("run_on_a_pool", 6),
    ("set_enrolment", 30),
    ("hand_over", 20),
    ("retire_source", 2),
    ("take_payouts", 70),
    ("work_custody", 120),
    ("report_custody", 8),
    ("operate", 45),
    ("approve_or_void", 35),
    ("pause_or_resume", 30),
    ("close_period", 15),
    ("update_pool", 20),
    ("put_validator", 20),
    ("correct_balance", 12),
    ("approve", 30),
    ("rebalance", 15),
    ("plan_rebalance", 15),
    ("reconcile", 12),
    ("ask_for_the_unknown", 12),
    ("repeat_request", 30),
    ("checkpoint", 30),
    ("chain_fault", 90),
    ("chain_restarts", 3),
    ("clock", 12),
];

/// What may be proposed to a second person.
const PROPOSING: &[&str] = &["operate", "approve_or_void", "pause_or_resume", "update_pool"];

impl World {
    /// One drawn action, after some time.
    pub(super) async fn act(&mut self) -> Result<(), Stop> {
        self.pass_time();
        let all: u64 = ACTIONS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.below(all);
        let mut action = "";
        for (name, weight) in ACTIONS {
            action = name;
            if drawn < *weight {
                break;
            }
            drawn -= weight;
        }
        self.note(|| format!("-- {action}"));
        self.coverage.hit("action", action);
        self.carry_out(action).await?;
        // Mostly the second person is at hand.
        if PROPOSING.contains(&action) && self.rng.below(4) > 0 { self.approve_proposals(false).await } else { Ok(()) }
    }

    async fn carry_out(&mut self, action: &str) -> Result<(), Stop> {
        let pool = self.rng.index(POOLS);
        match action {
            "change_balances" => self.business().await,
            "feeds_interleaved" => self.interleave().await,
            "feed_nonsense" => {
                self.tell_nonsense();
                Ok(())
            }
            "feed_wrongly" => self.send_wrongly().await,
            "feed_again" => self.send_again().await,
            "snapshot" => self.snapshot().await,
            "run_on_a_pool" => self.run_on_pool().await,
            "set_enrolment" => self.enrol().await,
            "hand_over" => self.change_owner().await,
            "retire_source" => self.retire().await,
            "take_payouts" => self.take_payouts(pool).await,
            "work_custody" => self.work_custody(pool, false).await,
            "report_custody" => self.report_custody().await,
            "operate" => self.operate(pool).await,
            "approve_or_void" => self.decide(pool, false).await,
            "pause_or_resume" => self.pause_or_resume(pool).await,
            "close_period" => self.close(pool).await,
            "update_pool" => self.update_pool(pool).await,
            "put_validator" => self.put_validator(pool).await,
            "correct_balance" => self.correct().await,
            "approve" => self.approve_proposals(false).await,
            "rebalance" => self.ask(Ask::Rebalance { pool }).await.map(|_| ()),
            "plan_rebalance" => self.plan(pool).await,
            "reconcile" => self.reconcile(pool).await,
            "ask_for_the_unknown" => self.ask_for_the_unknown(pool).await,
            "repeat_request" => self.repeat_call().await,
            "checkpoint" => self.checkpoint().await,
            "chain_fault" => self.chain_fault(pool).await,
            "chain_restarts" => self.chain_restarts(pool).await,
            _ => {
                self.clock_jumps();
                Ok(())
            }
        }
    }

    /// A call was answered: those who asked act on it.
    pub(super) fn answered(&mut self, ask: &Ask, state: CallState) -> Result<(), Stop> {
        let done = state == CallState::Done;
        match ask {
            Ask::PutBalance { pool, account, balance, .. } => {
                self.put_balance_answered(*pool, *account, *balance, state);
            }
            Ask::HandOver { pool, account, from, to } if done => self.handed_over(*pool, *account, *from, *to),
            Ask::RetireSource(name) if done => self.source_retired(name.as_str()),
            Ask::AckPayouts { pool, period, revision, through, .. } if done => {
                self.payouts_acknowledged(*pool, *period, *revision, *through);
            }
            _ => {}
        }
        Ok(())
    }

    async fn business(&mut self) -> Result<(), Stop> {
        let count = if self.rng.below(12) == 0 { 40 } else { self.rng.between(1, 5) };
        self.change_balances(count).await?;
        // Now and then it is told later.
        if self.rng.below(5) == 0 {
            return Ok(());
        }
        let source = self.rng.index(self.ledger.put_balance());
        self.send_feeds(&[source], true).await
    }

    async fn interleave(&mut self) -> Result<(), Stop> {
        // Now and then more than the service has room for.
        if self.rng.below(25) == 0 {
            self.change_balances(180).await?;
        }
        let all: Vec<usize> = (0..self.ledger.put_balance()).collect();
        let vouch = self.rng.below(3) > 0;
        self.send_feeds(&all, vouch).await?;
        self.tidy_holdings().await
    }

    async fn enrol(&mut self) -> Result<(), Stop> {
        let account = self.names.accounts[self.rng.index(ACCOUNTS)].clone();
        let pool = (self.rng.below(3) > 0).then(|| self.names.pools[self.rng.index(POOLS)].clone());
        let decision = [Decision::OptIn, Decision::OptIn, Decision::OptOut, Decision::Restrict, Decision::Unrestrict]
            [self.rng.index(5)];
        let (terms_version, jurisdiction) = ("2026-01".to_owned(), "DE".to_owned());
        let enrol = Enrol { account, pool, decision, terms_version, jurisdiction, reason_code: "simulated".to_owned() };
        self.ask(Ask::SetEnrolment(Box::new(enrol))).await.map(|_| ())
    }

    async fn change_owner(&mut self) -> Result<(), Stop> {
        let (pool, account) = (self.rng.index(POOLS), self.rng.index(ACCOUNTS));
        let to = self.rng.index(self.names.sources.len());
        if self.rng.below(6) == 0 {
            // From one that does not own it.
            let owner = self.ledger.holding(pool, account).map_or(0, |holding| holding.owner);
            let from = (owner + 1) % self.names.sources.len();
            if from != to {
                self.ask(Ask::HandOver { pool, account, from, to }).await?;
            }
            return Ok(());
        }
        self.hand_over(pool, account, to).await
    }

    async fn retire(&mut self) -> Result<(), Stop> {
        let last = self.ledger.put_balance() - 1;
        let name = self.names.sources[last].clone();
        self.ask(Ask::RetireSource(name)).await?;
        self.tidy_holdings().await
    }

    /// Looks after the operations that need an operator.
    pub(super) async fn operate(&mut self, pool: usize) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let open = self.ask_app("operations", async move |app| app.open_operations(&of).await).await?;
        let open = open.unwrap_or_default();
        for operation in &open {
            if operation.state == OperationState::NeedsOperator {
                let ask = self.draw_word(pool, operation).await?;
                self.ask(ask).await?;
            }
        }
        // One that needs nobody can't be retried or resolved.
        if self.rng.below(5) == 0
            && let Some(operation) = open.first()
        {
            let id = operation.id.clone();
            let resolve = self.rng.below(2) == 0 && operation.state != OperationState::NeedsOperator;
            let ask = match resolve {
                true => Ask::Resolve { pool, id, resolution: Resolution::Absent },
                false => Ask::Retry { pool, id },
            };
            self.ask(ask).await?;
        }
        Ok(())
    }

    /// What an operator says of an operation after a look at the chain itself: only what is proved.
    async fn draw_word(&mut self, pool: usize, operation: &OperationRecord) -> Result<Ask, Stop> {
        let id = operation.id.clone();
        let retry = Ask::Retry { pool, id: id.clone() };
        let Some(chain) = self.chains.get(pool).map(|chain| chain.chain.clone()) else { return Ok(retry) };
        if self.rng.below(2) == 0 {
            return Ok(retry);
        }
        let effects = chain.final_effects().await.map_err(Problem::of)?;
        let own: Vec<_> = effects.iter().filter(|effect| effect.operation.as_ref() == Some(&id)).collect();
        let moved = own.iter().find(|effect| !matches!(effect.kind, EffectKind::FeePaid { .. }));
        let expired = operation.signed.as_ref().is_none_or(|kept| {
            kept.lifetime.expires_at.is_some_and(|expires_at| expires_at.plus(EXPIRED_SECONDS) < self.now())
        });
        Ok(match moved {
            Some(effect) => {
                let resolution = Resolution::Done(effect.key.transaction.clone());
                Ask::Resolve { pool, id, resolution }
            }
            None if own.is_empty() && expired => Ask::Resolve { pool, id, resolution: Resolution::Absent },
            None => retry,
        })
    }

    /// Proposes to correct what an account held at some time in the past.
    async fn correct(&mut self) -> Result<(), Stop> {
        let (pool, account) = (self.rng.index(POOLS), self.rng.index(ACCOUNTS));
        if !self.book.archive_for_ever {
            return self.correct_the_beginning(pool, account).await;
        }
        let held = self.ledger.holding(pool, account).map_or(0, |holding| holding.balance);
        let balance = held / 100 * u128::from(self.rng.between(0, 200));
        let back = i64::try_from(self.rng.between(0, 10_000)).unwrap_or(0);
        let at = self.now().plus(-back);
        self.ask(Ask::Correct { pool, account, balance, at }).await.map(|_| ())
    }

    /// Proposes to correct what lies at the very beginning, where events are not kept for ever. How much of them is kept
    /// follows from the partitioning, so nothing may come of it.
    async fn correct_the_beginning(&mut self, pool: usize, account: usize) -> Result<(), Stop> {
        let (of, account) = (self.pool(pool)?, self.names.accounts[account].clone());
        let (balance, at) = (BaseUnits::from_u64(self.rng.below(1 << 40)), UnixSeconds::new(START + 1));
        let id = RequestId::new(&format!("beginning-{}", self.step)).map_err(Problem::of)?;
        let disk = self.disk();
        disk.hold(true);
        let proposed = async move |app: Arc<App>| {
            let request = Request::new("BalanceFeedService/CorrectBalance", id, Caller::service(), b"");
            let what = (account, of.record.asset.clone());
            app.correct_balance(&request, what, balance, at, "simulated").await
        };
        let done = self.ask_app("a correction of the beginning", proposed).await;
        disk.hold(false);
        done.map(|_| ())
    }

    /// Approves what was proposed, sometimes with a hash that is not that of what is applied, or as its own proposer.
    /// `faithful`: always as it should be, and no corrections, which change what is owed.
    pub(super) async fn approve_proposals(&mut self, faithful: bool) -> Result<(), Stop> {
        let (states, size) = ([ApprovalState::Pending], if faithful { 64 } else { 6 });
        let waiting = async move |app: Arc<App>| app.approvals_page(&states, None, size).await;
        let Some(waiting) = self.ask_app("approvals", waiting).await? else { return Ok(()) };
        for record in waiting.entries {
            let (hash, own) = match if faithful { 9 } else { self.rng.below(8) } {
                0 => ([0; 32], false),
                drawn => (record.content_hash, drawn == 1),
            };
            let approve = Ask::ApproveProposal { number: record.number, hash, own };
            match &record.proposal {
                Proposal::CorrectBalance(_) if faithful || !self.book.archive_for_ever => {}
                Proposal::CorrectBalance(asked) => self.approve_correction(&record.pool, asked, approve).await?,
                _ => {
                    let state = self.ask(approve).await?;
                    if state == CallState::Done {
                        self.coverage.hit("action", format!("approved {}", record.method));
                    }
                }
            }
        }
        Ok(())
    }

    async fn approve_correction(&mut self, pool: &PoolId, asked: &AskedCorrection, approve: Ask) -> Result<(), Stop> {
        let pool = self.names.pools.iter().position(|there| there == pool);
        let account = self.names.accounts.iter().position(|account| *account == asked.account);
        let (Some(pool), Some(account)) = (pool, account) else { return Ok(()) };
        let Some(holding) = self.ledger.holding(pool, account) else { return Ok(()) };
        // Of two corrections that were proposed, the one of the later time counts, whichever is approved first.
        let before = holding.corrected;
        if before.is_none_or(|(at, _)| at <= asked.at) {
            holding.corrected = Some((asked.at, asked.balance.get()));
        }
        let state = self.ask(approve).await?;
        if let (CallState::Refused(_), Some(holding)) = (state, self.ledger.holding(pool, account)) {
            holding.corrected = before;
        }
        Ok(())
    }

    /// Decides on what is held. `faithful`: approves it.
    pub(super) async fn decide(&mut self, pool: usize, faithful: bool) -> Result<(), Stop> {
        for record in self.distributions(pool).await? {
            let (period, revision) = (record.period, record.revision);
            let open = matches!(
                record.state,
                DistributionState::Computed | DistributionState::Held | DistributionState::Approved
            );
            if !open {
                continue;
            }
            let chance = if faithful { 99 } else { self.rng.below(10) };
            match (record.state, chance) {
                (_, 0 | 1) => {
                    let mode = if chance == 0 { AfterVoid::Carry } else { AfterVoid::Recompute };
                    self.coverage.hit("action", if chance == 0 { "void_carry" } else { "void_recompute" });
                    self.ask(Ask::Void { pool, period, revision, mode }).await?;
                }
                (DistributionState::Held, 2) => {
                    let hash = crate::domain::payout::SetHash::EMPTY;
                    self.ask(Ask::Approve { pool, period, revision, hash }).await?;
                }
                (DistributionState::Held, _) => {
                    let hash = record.hash;
                    self.ask(Ask::Approve { pool, period, revision, hash }).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn pause_or_resume(&mut self, pool: usize) -> Result<(), Stop> {
        let pause = self.rng.below(4) == 0;
        let reason = pause.then(|| "an operator's".to_owned());
        self.ask(Ask::Pause { pool, reason }).await.map(|_| ())
    }

    async fn close(&mut self, pool: usize) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let open = self.ask_app("open periods", async move |app| app.open_periods(&of).await).await?;
        let open = open.unwrap_or_default();
        let drawn = open.get(self.rng.index(open.len())).map(|period| period.index);
        let index = drawn.unwrap_or(PeriodIndex(0));
        self.ask(Ask::Close { pool, index }).await.map(|_| ())
    }

    async fn update_pool(&mut self, pool: usize) -> Result<(), Stop> {
        let config = self.chains[pool].config.clone();
        let of = self.pool(pool)?;
        let state = self.ask_app("the pool's state", async move |app| app.pool_state(&of).await).await?;
        let Some(state) = state else { return Ok(()) };
        let etag = match self.rng.below(4) {
            0 => Some(state.version + 1),
            1 => None,
            _ => Some(state.version),
        };
        let policy = if self.rng.below(2) == 0 { Some(founding::policy(&mut self.rng, &config)?) } else { None };
        let mut settings =
            if self.rng.below(2) == 0 { Some(founding::settings(&mut self.rng, &config)?) } else { None };
        if self.rng.below(10) == 0
            && let Some(settings) = &mut settings
        {
            settings.allocation.max_share_bps = 0;
        }
        let (policy, settings) = (policy.map(Box::new), settings.map(Box::new));
        self.ask(Ask::Update { pool, etag, policy, settings }).await.map(|_| ())
    }

    async fn put_validator(&mut self, pool: usize) -> Result<(), Stop> {
        let validators = &self.chains[pool].config.validators;
        let Some(id) = validators.get(self.rng.index(validators.len())).map(|validator| validator.id.clone()) else {
            return Ok(());
        };
        let group = OperatorGroup::new(if self.rng.below(2) == 0 { "north" } else { "south" });
        let weight = u32::try_from(self.rng.between(0, 5)).unwrap_or(1);
        let removed = self.rng.below(4) == 0;
        let choice = ValidatorChoice { id, weight, group: group.ok(), removed };
        let etag = (self.rng.below(6) == 0).then(|| "no such etag".to_owned());
        self.ask(Ask::PutValidator { pool, etag, choice }).await.map(|_| ())
    }

    async fn plan(&mut self, pool: usize) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let plan = self.ask_app("a plan", async move |app| app.plan_rebalance(&of).await).await?;
        let Some(plan) = plan else { return Ok(()) };
        for reason in &plan.plan.reasons {
            self.coverage.hit("plan reason", reason.name());
        }
        self.check_plan(pool, &plan).await
    }

    pub(super) async fn reconcile(&mut self, pool: usize) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let found = self.ask_app("reconcile", async move |app| app.reconcile(&of).await).await?;
        let found = found.flatten();
        let differs = found.as_ref().is_some_and(|found| !found.agrees());
        if let Some(found) = found.filter(|found| differs && found.booked.is_none()) {
            let hash = if self.rng.below(8) == 0 { [0; 32] } else { found.differences_hash() };
            self.ask(Ask::Accept { pool, hash }).await?;
        }
        self.coverage.hit("action", if differs { "reconcile_finds_a_difference" } else { "reconcile_finds_none" });
        Ok(())
    }

    /// Asks for things that are not there, and for what is not due.
    async fn ask_for_the_unknown(&mut self, pool: usize) -> Result<(), Stop> {
        use crate::app::transfer::Acknowledgement;
        use crate::domain::ids::{OperationId, TransferId, ValidatorId};
        let hash = crate::domain::payout::SetHash::EMPTY;
        let period = PeriodIndex(1_000);
        let ask = match self.rng.below(9) {
            0 => Ask::Rebalance { pool: POOLS + 7 },
            1 => Ask::Retry { pool, id: OperationId::new("atom:claim:999:all").map_err(Problem::of)? },
            2 => {
                let id = TransferId::new("fund-999999").map_err(Problem::of)?;
                Ask::AckTransfer { pool, id, word: Acknowledgement::Rejected("unknown".to_owned()) }
            }
            3 => Ask::Approve { pool, period, revision: 1, hash },
            4 if self.rng.below(2) == 0 => Ask::ApproveProposal { number: 9_999, hash: [0; 32], own: false },
            4 => Ask::Close { pool, index: period },
            5 => {
                let id = ValidatorId::new("nobody").map_err(Problem::of)?;
                let choice = ValidatorChoice { id, weight: 1, group: None, removed: false };
                Ask::PutValidator { pool, etag: None, choice }
            }
            6 => Ask::RegisterSource(self.names.sources[self.rng.index(self.names.sources.len())].clone()),
            7 => Ask::RetireSource(self.names.no_source.clone()),
            _ => Ask::HandOver { pool, account: ACCOUNTS + 1, from: 0, to: 1 },
        };
        self.ask(ask).await.map(|_| ())
    }

    async fn checkpoint(&mut self) -> Result<(), Stop> {
        let (begin, steps) = (self.rng.below(3) > 0, u32::try_from(self.rng.between(1, 40)).unwrap_or(1));
        // What is left to do follows from the partitioning where checkpoints begin by themselves.
        let (disk, held) = (self.disk(), self.book.checkpoint_journal_bytes < u64::MAX);
        let Some(engine) = &mut self.engine else { return Err(Stop::Killed) };
        disk.hold(held);
        let done = engine.checkpoint(begin, steps).await;
        disk.hold(false);
        Ok(done?)
    }
}
