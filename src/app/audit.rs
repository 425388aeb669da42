//! The equations, over one consistent snapshot of a pool: on a schedule, where a breach stops outflows, and for readers.
//!
//! The control records are read under the pool's lock, the book between two of its groups; the principal is the book's
//! own, so that the two need not be one moment. Equation 6 is evaluated where the chain is reconciled and shown here
//! with its height. Nothing is kept that a restart has to find again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use ruint::aliases::U256;

use crate::chain::Observation;
use crate::domain::amount::{AmountError, BaseUnits, SignedUnits};
use crate::domain::distribution::DistributionState;
use crate::domain::distribution::Figures;
use crate::domain::equations::{self, BookFigures, Cumulative, EquationResult, RevisionPayouts, Snapshot, Tally};
use crate::domain::ledger::{Account, ClaimAccount, LedgerView, RevisionRef};
use crate::domain::payout::PayoutSum;
use crate::domain::time::UnixSeconds;
use crate::store::records::{DistributionRecord, LedgerRecord, PayoutAckRecord, PayoutSeal, PostingRecord, Progress};
use crate::store::{KeyRange, keys};

use super::control::Change;
use super::history::TRAILING_PERIODS;
use super::{App, AppError, Pool, Work};

/// How many postings are read at once.
const POSTINGS_PER_READ: usize = 2_000;

/// Of how many periods the equations of distributions are shown one by one. All are checked; one that fails is shown.
const SHOWN_PERIODS: u64 = 31;

/// Up to how many positions readers are shown the equations as of now. Walking more takes a while, and is not done again
/// within [`SETTLED_SECONDS`].
const WALKED_AT_ONCE: u64 = 100_000;

/// How old, in seconds, the equations of a large pool may be when they are shown.
const SETTLED_SECONDS: u64 = 10;

/// Positions walked per second that an audit may be apart from the last one, so that a large book is walked less often.
const POSITIONS_PER_SECOND: u64 = 50_000;

/// The sums over everything that a pool ever distributed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rewards that the chain has paid.
    pub rewards: U256,
    /// Slashed, less what the chain has given back.
    pub slashed: U256,
    /// Payouts released.
    pub payouts: U256,
    /// Fees of released distributions.
    pub fees: U256,
    /// Payouts of the last [`TRAILING_PERIODS`] released distributions.
    pub trailing_payouts: U256,
    /// The customers' weights that those were split by.
    pub trailing_weight: U256,
    /// How many those were.
    pub trailing_periods: u32,
}

/// What an audit found.
#[derive(Clone, Debug)]
pub struct Audited {
    /// When.
    pub at: UnixSeconds,
    /// The equations, with both sides.
    pub equations: Vec<EquationResult>,
    /// How many positions have a balance.
    pub positions: u64,
    /// How many positions earn.
    pub earning: u64,
    /// The sums.
    pub sums: Sums,
    /// The changes of the control records, and the groups of the book, that it was evaluated after.
    basis: (u64, Vec<u64>),
}

impl Audited {
    /// The first equation that does not hold.
    pub fn broken(&self) -> Option<&EquationResult> {
        self.equations.iter().find(|equation| !equation.holds)
    }
}

/// What readers of a pool are shown beside its records. A restart begins it anew.
#[derive(Debug, Default)]
pub(super) struct Shown {
    seen: Mutex<Option<Arc<Observation>>>,
    on_chain: Mutex<Vec<EquationResult>>,
    audited: Mutex<Option<Arc<Audited>>>,
    stepped: Mutex<Option<UnixSeconds>>,
    /// What the postings come to. Postings never change.
    posted: tokio::sync::Mutex<Posted>,
}

fn held<T: Clone>(slot: &Mutex<T>) -> T {
    slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep<T>(slot: &Mutex<T>, value: T) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

impl Pool {
    /// The chain as it was last seen.
    pub fn seen(&self) -> Option<Arc<Observation>> {
        held(&self.shown.seen)
    }

    /// Remembers how the chain was seen.
    pub(super) fn saw(&self, observation: Observation) -> Arc<Observation> {
        let observation = Arc::new(observation);
        keep(&self.shown.seen, Some(observation.clone()));
        observation
    }

    /// Remembers what the comparison of ledger and chain came to.
    pub(super) fn compared(&self, equations: Vec<EquationResult>) {
        keep(&self.shown.on_chain, equations);
    }
}

fn broken(error: AmountError) -> AppError {
    AppError::Broken(format!("the equations: {error}"))
}

fn wide(amount: BaseUnits) -> U256 {
    U256::from(amount.get())
}

/// Evaluates the equations when they are due, and stops the pool's outflows where one does not hold.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let walk = held(&pool.shown.audited).map_or(0, |last| last.positions / POSITIONS_PER_SECOND);
    let interval = app.settings.observe_interval_seconds.max(walk);
    if held(&pool.shown.stepped).is_some_and(|last| now.since(last) < interval) {
        return Ok(Work::Idle);
    }
    let audited = app.audit(pool, now).await?;
    keep(&pool.shown.stepped, Some(now));
    react(app, pool, &audited, now).await?;
    Ok(Work::Idle)
}

async fn react(app: &App, pool: &Pool, audited: &Audited, now: UnixSeconds) -> Result<(), AppError> {
    let Some(first) = audited.broken() else { return Ok(()) };
    let count = audited.equations.iter().filter(|equation| !equation.holds).count();
    app.metrics.equations_broken.inc_by(count as u64);
    let EquationResult { number, name, left, right, detail, .. } = first;
    let reason = format!("equation {number} is broken ({name}; {detail}): {left} on the left, {right} on the right");
    tracing::error!(pool = %pool.id(), count, reason, "an equation does not hold");
    app.stop_outflows(pool, now, &reason).await
}

impl App {
    /// Evaluates the equations as of now. Where nothing changed since the last time, that still holds.
    pub async fn audit(&self, pool: &Pool, now: UnixSeconds) -> Result<Arc<Audited>, AppError> {
        let guard = Change::begin(self, pool, now).await?;
        let record: LedgerRecord = self.read(pool.control(), &keys::ledger()).await?.unwrap_or_default();
        let no_pool = || AppError::Broken(format!("the book has no pool {}", pool.id()));
        let groups = self.book.totals(pool.number()).ok_or_else(no_pool)?.groups;
        let basis = (record.version, groups);
        let audited = match held(&pool.shown.audited) {
            Some(last) if last.basis == basis => Audited { at: now, ..Audited::clone(&last) },
            _ => self.evaluate(pool, now, record, basis).await?,
        };
        drop(guard);
        let audited = Arc::new(audited);
        keep(&pool.shown.audited, Some(audited.clone()));
        Ok(audited)
    }

    /// The equations for readers: as of now, or of a moment ago where the book is large.
    pub(super) async fn audited(&self, pool: &Pool, now: UnixSeconds) -> Result<Arc<Audited>, AppError> {
        match held(&pool.shown.audited) {
            Some(last) if last.positions > WALKED_AT_ONCE && now.since(last.at) < SETTLED_SECONDS => Ok(last),
            _ => self.audit(pool, now).await,
        }
    }

    /// Evaluates the equations now, and stops the pool's outflows where one does not hold. For `AdminService/Reconcile`.
    pub async fn check_equations(&self, pool: &Pool) -> Result<Vec<EquationResult>, AppError> {
        let now = self.now();
        let audited = self.audit(pool, now).await?;
        react(self, pool, &audited, now).await?;
        Ok(with_chain(pool, &audited))
    }

    /// Under the pool's lock.
    async fn evaluate(
        &self,
        pool: &Pool,
        now: UnixSeconds,
        record: LedgerRecord,
        basis: (u64, Vec<u64>),
    ) -> Result<Audited, AppError> {
        let no_pool = || AppError::Broken(format!("the book has no pool {}", pool.id()));
        let walked = self.book.audit(pool.number()).ok_or_else(no_pool)?;
        // What is below zero is on no side of an equation that holds.
        let total = u128::try_from(walked.eligible_total).ok();
        let principal = BaseUnits::new(total.unwrap_or_default()).map_err(broken)?;
        let book = BookFigures {
            eligible_sum: walked.eligible_sum,
            eligible_total: total.map_or(U256::MAX, U256::from),
            weight_sum: walked.weight_sum,
            weight_integral: walked.integral.unwrap_or(U256::MAX),
            adjusted_up: walked.adjusted.up,
            adjusted_down: walked.adjusted.down,
        };
        let view = LedgerView::new(record.ledger, principal).map_err(broken)?;
        let mut history = History::default();
        let posted = self.posted(pool, record.postings).await?;
        history.cumulative.receipts = posted.rewards;
        history.cumulative.given_back = posted.given_back;
        let range = keys::range_of_tag(keys::tag::DISTRIBUTION);
        let distributions: Vec<DistributionRecord> = self.list(pool.control(), range, usize::MAX).await?;
        let last = distributions.last().map_or(0, |last| last.period.0);
        for distribution in distributions.iter().filter(|one| one.progress == Progress::Sealed) {
            let payouts = self.revision_standing(pool, distribution).await?;
            history.take(distribution, payouts);
        }
        history.trail(&distributions);
        let snapshot = Snapshot {
            view: &view,
            book: &book,
            released: &history.released,
            cumulative: &history.cumulative,
            payouts: &history.payouts,
            chain: None,
        };
        let mut equations = equations::check(&snapshot);
        equations.push(history.in_ledger(&view));
        let old: BTreeSet<String> = history
            .payouts
            .iter()
            .map(|payouts| payouts.revision)
            .filter(|revision| revision.period + SHOWN_PERIODS <= last)
            .map(subject)
            .collect();
        equations.retain(|equation| !equation.holds || !old.contains(&equation.detail));
        history.sums.rewards = posted.rewards;
        history.sums.slashed = posted.slashed.saturating_sub(posted.unslashed);
        Ok(Audited {
            at: now,
            equations,
            positions: walked.with_balance,
            earning: walked.earning,
            sums: history.sums,
            basis,
        })
    }

    /// What the log of postings comes to up to one: counted from the log, not from distributions.
    async fn posted(&self, pool: &Pool, through: u64) -> Result<Posted, AppError> {
        let mut summed = pool.shown.posted.lock().await;
        while summed.through < through {
            let range =
                KeyRange { from: keys::posting(summed.through + 1), to: keys::posting(through.saturating_add(1)) };
            let postings: Vec<PostingRecord> = self.list(pool.control(), range, POSTINGS_PER_READ).await?;
            let Some(last) = postings.last() else { break };
            let through = last.sequence;
            postings.iter().for_each(|posting| summed.add(posting));
            summed.through = through;
        }
        Ok(*summed)
    }

    /// Where the payouts of a sealed revision are. What was computed is counted by the seals of the partitions as long as
    /// something may still happen to it.
    pub(super) async fn revision_standing(
        &self,
        pool: &Pool,
        record: &DistributionRecord,
    ) -> Result<RevisionPayouts, AppError> {
        let mut computed = record.paid();
        if !matches!(record.state, DistributionState::Voided(_) | DistributionState::Settled) {
            computed = PayoutSum::NONE;
            let key = keys::payout_seal(record.period.0, record.revision);
            for partition in 0..pool.record.partitions {
                if let Some(seal) = self.read::<PayoutSeal>(pool.book(partition), &key).await? {
                    computed = computed.checked_add(seal.tally.paid).map_err(broken)?;
                }
            }
        }
        let acknowledged = match record.state.is_released() {
            true => self.read(pool.control(), &keys::payout_ack(record.period.0, record.revision)).await?,
            false => None,
        };
        Ok(standing(record, computed, acknowledged.as_ref()))
    }
}

/// What the postings of a pool come to, up to one of them.
#[derive(Clone, Copy, Debug, Default)]
struct Posted {
    /// The last that is counted.
    through: u64,
    /// Rewards.
    rewards: U256,
    /// Slashes, and what chains took back of them.
    slashed: U256,
    unslashed: U256,
    /// Recoveries that a reversed slash gave back to the carry.
    given_back: U256,
}

impl Posted {
    fn add(&mut self, posting: &PostingRecord) {
        let sum = |account: ClaimAccount, negative: bool| {
            let account = Account::from(account);
            let legs = posting.legs.iter().filter(|leg| leg.account == account);
            let part = |change: SignedUnits| if negative { SignedUnits::new(-change.get()) } else { change };
            legs.fold(U256::ZERO, |sum, leg| sum.saturating_add(wide(part(leg.change).positive_part())))
        };
        let bearers = [(ClaimAccount::House, false), (ClaimAccount::SlashReceivable, true)];
        match posting.reason.as_str() {
            "reward_paid" | "reward_compounded" => {
                self.rewards = self.rewards.saturating_add(sum(ClaimAccount::Undistributed, false));
            }
            "slashed" | "unexplained_drop" => {
                let borne = bearers.map(|(account, negative)| sum(account, !negative));
                self.slashed = borne.into_iter().fold(self.slashed, U256::saturating_add);
            }
            "slash_reversed" => {
                let back = bearers.map(|(account, negative)| sum(account, negative));
                let given_back = sum(ClaimAccount::Carry, false);
                self.unslashed = back.into_iter().fold(self.unslashed.saturating_add(given_back), U256::saturating_add);
                self.given_back = self.given_back.saturating_add(given_back);
            }
            _ => {}
        }
    }
}

/// The equations of an audit with those of the last comparison with the chain.
pub(super) fn with_chain(pool: &Pool, audited: &Audited) -> Vec<EquationResult> {
    let mut equations = audited.equations.clone();
    equations.extend(held(&pool.shown.on_chain));
    equations
}

/// What an equation of a revision is evaluated over, in its own words.
fn subject(revision: RevisionRef) -> String {
    format!("period {} revision {}", revision.period, revision.revision)
}

fn tally(sum: PayoutSum) -> Tally {
    Tally { count: sum.count, amount: wide(sum.amount) }
}

fn standing(record: &DistributionRecord, computed: PayoutSum, ack: Option<&PayoutAckRecord>) -> RevisionPayouts {
    let paid = record.paid();
    let none = Tally::default();
    let mut payouts = RevisionPayouts {
        revision: record.reference(),
        computed: tally(computed),
        voided: none,
        held: none,
        awaiting: none,
        unacked: none,
        acked: none,
        unclaimed: none,
    };
    match record.state {
        DistributionState::Voided(_) => payouts.voided = tally(paid),
        DistributionState::Computed | DistributionState::Held => payouts.held = tally(paid),
        DistributionState::Approved => payouts.awaiting = tally(paid),
        DistributionState::Released | DistributionState::Settled => {
            let acked = ack.map_or(PayoutSum::NONE, |ack| ack.acknowledged);
            let unclaimed = ack.map_or(PayoutSum::NONE, |ack| ack.unclaimed);
            // Where more was said than was paid, nothing is left and the sum does not come out.
            payouts.unacked = Tally {
                count: paid.count.saturating_sub(acked.count).saturating_sub(unclaimed.count),
                amount: wide(paid.amount.saturating_sub(acked.amount).saturating_sub(unclaimed.amount)),
            };
            (payouts.acked, payouts.unclaimed) = (tally(acked), tally(unclaimed));
        }
    }
    payouts
}

/// The equations 1 and 5 of one revision.
pub(super) fn of_revision(record: &DistributionRecord, payouts: &RevisionPayouts) -> Vec<EquationResult> {
    let figures = [(record.reference(), record.figures)];
    equations::of_revisions(&figures, std::slice::from_ref(payouts))
}

/// What the distributions of a pool come to.
#[derive(Default)]
struct History {
    released: Vec<(RevisionRef, Figures)>,
    payouts: Vec<RevisionPayouts>,
    cumulative: Cumulative,
    sums: Sums,
}

impl History {
    fn take(&mut self, record: &DistributionRecord, payouts: RevisionPayouts) {
        self.payouts.push(payouts);
        if matches!(record.state, DistributionState::Voided(_)) {
            return;
        }
        let f = record.figures;
        let all = &mut self.cumulative;
        let add = |sum: &mut U256, amount: BaseUnits| *sum = sum.saturating_add(wide(amount));
        add(&mut all.house_in, f.house_in);
        add(&mut all.fee, f.fee);
        add(&mut all.payouts, f.payouts);
        add(&mut all.recovery, f.recovery);
        add(&mut all.house_out, f.house_out);
        if record.state.is_released() {
            self.released.push((record.reference(), record.figures));
            add(&mut self.sums.payouts, f.payouts);
            add(&mut self.sums.fees, f.fee);
        }
    }

    /// The trailing figures, from the last released distributions.
    fn trail(&mut self, distributions: &[DistributionRecord]) {
        let released = distributions.iter().rev().filter(|one| one.state.is_released());
        for record in released.take(TRAILING_PERIODS) {
            self.sums.trailing_payouts = self.sums.trailing_payouts.saturating_add(wide(record.figures.payouts));
            let customers = record.weight_total.saturating_sub(record.house_weight);
            self.sums.trailing_weight = self.sums.trailing_weight.saturating_add(customers);
            self.sums.trailing_periods += 1;
        }
    }

    /// The other side of equation 5: what is outstanding is what the ledger owes for it.
    fn in_ledger(&self, view: &LedgerView) -> EquationResult {
        let unacked = self.payouts.iter().fold(U256::ZERO, |sum, one| sum.saturating_add(one.unacked.amount));
        let payable = wide(view.claim(ClaimAccount::Payable));
        EquationResult {
            number: 5,
            name: "sum(unacked) = payable",
            left: unacked.to_string(),
            right: payable.to_string(),
            holds: unacked == payable,
            detail: "all released revisions".to_owned(),
        }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
