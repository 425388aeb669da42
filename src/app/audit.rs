//! The equations, over one consistent snapshot of a pool: on a schedule, where a breach stops outflows, and for readers.
//!
//! The control records are read under the pool's lock, the book between two of its groups; the principal is the book's
//! own, so that the two need not be one moment. Equation 6 is evaluated where the chain is reconciled and shown here
//! with its height. What can't change any more is summed once and remembered (`past`), and the positions are walked only
//! after the book has moved; nothing is kept that a restart has to find again, and a full check begins anew.

mod past;

use std::sync::{Arc, Mutex, PoisonError};

use ruint::aliases::U256;

use crate::book;
use crate::chain::Observation;
use crate::domain::amount::{AmountError, BaseUnits, SignedUnits};
use crate::domain::distribution::DistributionState;
use crate::domain::equations::{self, BookFigures, EquationResult, RevisionPayouts, Snapshot, Tally};
use crate::domain::ledger::{Account, ClaimAccount, Ledger, LedgerView};
use crate::domain::payout::PayoutSum;
use crate::domain::time::UnixSeconds;
use crate::store::records::{DistributionRecord, PayoutAckRecord, PayoutSeal, PostingRecord};
use crate::store::{KeyRange, keys};

use super::control::Change;
use super::{App, AppError, Pool, Work};

use past::{History, Past};

/// How many postings are read at once.
const POSTINGS_PER_READ: usize = 2_000;

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
    /// Payouts of the last [`TRAILING_PERIODS`](super::history::TRAILING_PERIODS) released distributions.
    pub trailing_payouts: U256,
    /// The customers' weights that those were split by.
    pub trailing_weight: U256,
    /// How many those were.
    pub trailing_periods: u32,
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// When.
    pub at: UnixSeconds,
    /// The equations, with both sides. Shared, since most audits find that nothing has changed.
    pub equations: Arc<[EquationResult]>,
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
    remembered: tokio::sync::Mutex<Remembered>,
}

/// What audits need not find again. Whatever is forgotten is found again, with the same result.
#[derive(Debug, Default)]
struct Remembered {
    /// What the postings come to. Postings never change.
    posted: Posted,
    /// The distributions that don't change any more.
    past: Past,
    /// All distributions, at a version of the ledger.
    present: Option<(u64, History)>,
    /// The walk over the positions, after these groups of the book.
    walked: Option<(Vec<u64>, book::Audit)>,
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
    /// Evaluates the equations as of now. What has not changed since the last time is not read again.
    pub async fn audit(&self, pool: &Pool, now: UnixSeconds) -> Result<Arc<Audited>, AppError> {
        let mut remembered = pool.shown.remembered.lock().await;
        let last = held(&pool.shown.audited);
        let audited = Arc::new(self.evaluate(pool, now, &mut remembered, last.as_deref()).await?);
        keep(&pool.shown.audited, Some(audited.clone()));
        Ok(audited)
    }

    /// Evaluates the equations as of now from the records and the positions alone, as the first time after a start: what
    /// was damaged in the past is seen too.
    pub async fn audit_anew(&self, pool: &Pool, now: UnixSeconds) -> Result<Arc<Audited>, AppError> {
        let mut remembered = pool.shown.remembered.lock().await;
        *remembered = Remembered::default();
        let audited = Arc::new(self.evaluate(pool, now, &mut remembered, None).await?);
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

    /// Evaluates the equations now and anew, and stops the pool's outflows where one does not hold. For
    /// `AdminService/Reconcile`.
    pub async fn check_equations(&self, pool: &Pool) -> Result<Vec<EquationResult>, AppError> {
        let now = self.now();
        let audited = self.audit_anew(pool, now).await?;
        react(self, pool, &audited, now).await?;
        Ok(with_chain(pool, &audited))
    }

    /// The control records are read under the pool's lock. The positions are walked without it: changes of the pool
    /// don't wait for a large book.
    async fn evaluate(
        &self,
        pool: &Pool,
        now: UnixSeconds,
        remembered: &mut Remembered,
        last: Option<&Audited>,
    ) -> Result<Audited, AppError> {
        let no_pool = || AppError::Broken(format!("the book has no pool {}", pool.id()));
        let guard = Change::begin(self, pool, now).await?;
        let record = self.ledger(pool).await?;
        let groups = self.book.groups(pool.number()).ok_or_else(no_pool)?;
        let basis = (record.version, groups);
        if let Some(last) = last.filter(|last| last.basis == basis) {
            return Ok(Audited { at: now, ..last.clone() });
        }
        let history = match remembered.present.take() {
            Some((version, history)) if version == record.version => history,
            _ => self.history(pool, record.postings, remembered).await?,
        };
        drop(guard);
        let walked = match remembered.walked.take() {
            Some((groups, walked)) if groups == basis.1 => walked,
            _ => self.book.audit(pool.number()).ok_or_else(no_pool)?,
        };
        let audited = evaluated(now, &record.ledger, &walked, &history, basis)?;
        remembered.present = Some((audited.basis.0, history));
        remembered.walked = Some((audited.basis.1.clone(), walked));
        Ok(audited)
    }

    /// What was ever distributed and received. Under the pool's lock.
    async fn history(&self, pool: &Pool, postings: u64, remembered: &mut Remembered) -> Result<History, AppError> {
        self.posted(pool, postings, &mut remembered.posted).await?;
        let Posted { rewards, slashed, unslashed, given_back, .. } = remembered.posted;
        let mut history = self.distributed(pool, &mut remembered.past).await?;
        (history.cumulative.receipts, history.cumulative.given_back) = (rewards, given_back);
        history.slashed = slashed.saturating_sub(unslashed);
        Ok(history)
    }

    /// Brings what the log of postings comes to forward to one: counted from the log, not from distributions.
    async fn posted(&self, pool: &Pool, through: u64, summed: &mut Posted) -> Result<(), AppError> {
        while summed.through < through {
            let range =
                KeyRange { from: keys::posting(summed.through + 1), to: keys::posting(through.saturating_add(1)) };
            let postings: Vec<PostingRecord> = self.list(pool.control(), range, POSTINGS_PER_READ).await?;
            let Some(last) = postings.last() else { break };
            let through = last.sequence;
            postings.iter().for_each(|posting| summed.add(posting));
            summed.through = through;
        }
        Ok(())
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
            "reward_paid" | "reward_compounded" | "receipt_recorded" => {
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

/// The equations over what was read.
fn evaluated(
    at: UnixSeconds,
    ledger: &Ledger,
    walked: &book::Audit,
    history: &History,
    basis: (u64, Vec<u64>),
) -> Result<Audited, AppError> {
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
    let view = LedgerView::new(ledger.clone(), principal).map_err(broken)?;
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
    history.keep_shown(&mut equations);
    let (positions, earning) = (walked.with_balance, walked.earning);
    Ok(Audited { at, equations: equations.into(), positions, earning, sums: history.sums(), basis })
}

/// The equations of an audit with those of the last comparison with the chain.
pub(super) fn with_chain(pool: &Pool, audited: &Audited) -> Vec<EquationResult> {
    let mut equations = audited.equations.to_vec();
    equations.extend(held(&pool.shown.on_chain));
    equations
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

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
