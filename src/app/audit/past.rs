//! What the distributions of a pool come to, summed so that what can't change any more is read once.
//!
//! A period whose last revision is settled, or voided for good, never changes. The periods before the first one that
//! still may are the past: their sums are kept, and of their revisions only those that are shown or fail.

use std::collections::{BTreeSet, VecDeque};

use ruint::aliases::U256;

use super::{Sums, wide};
use crate::app::history::TRAILING_PERIODS;
use crate::app::{App, AppError, Pool};
use crate::domain::apr::PaidOn;
use crate::domain::distribution::{AfterVoid, DistributionState, Figures};
use crate::domain::equations::{self, Cumulative, EquationResult, RevisionPayouts};
use crate::domain::ledger::{ClaimAccount, LedgerView, RevisionRef};
use crate::store::records::{DistributionRecord, Progress};
use crate::store::{KeyRange, keys};

/// Of how many periods the equations of distributions are shown one by one. All are checked; one that fails is shown.
const SHOWN_PERIODS: u64 = 31;

/// The periods of which nothing changes any more.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The first period that may still change: every one before is taken in.
    next: u64,
    history: History,
}

/// What distributions come to, taken in in the order of their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Released revisions: those that are shown one by one, and those that fail.
    pub(super) released: Vec<(RevisionRef, Figures)>,
    /// Where the payouts of sealed revisions are: of those that are shown one by one, and of those that fail.
    pub(super) payouts: Vec<RevisionPayouts>,
    /// The sums over all of them; receipts and what was given back are from the postings.
    pub(super) cumulative: Cumulative,
    /// Slashed, less what the chain has given back, from the postings.
    pub(super) slashed: U256,
    released_payouts: U256,
    released_fees: U256,
    unacked: U256,
    /// What the last released ones paid.
    trailing: VecDeque<PaidOn>,
    /// The last period that has a revision.
    last: u64,
}

impl App {
    /// What was ever distributed: `past`, brought forward, and what may still change. Under the pool's lock.
    pub(super) async fn distributed(&self, pool: &Pool, past: &mut Past) -> Result<History, AppError> {
        let all = keys::range_of_tag(keys::tag::DISTRIBUTION);
        let range = KeyRange { from: keys::distribution(past.next, 0), to: all.to };
        let distributions: Vec<DistributionRecord> = self.list(pool.control(), range, usize::MAX).await?;
        let mut live = None;
        for period in distributions.chunk_by(|one, other| one.period == other.period) {
            let mut payouts = Vec::with_capacity(period.len());
            for record in period {
                payouts.push(match record.progress {
                    Progress::Sealed => Some(self.revision_standing(pool, record).await?),
                    Progress::Gathering | Progress::Splitting => None,
                });
            }
            let is_final = live.is_none() && period.last().is_some_and(is_final);
            let history = if is_final { &mut past.history } else { live.get_or_insert_with(|| past.history.clone()) };
            for (record, payouts) in period.iter().zip(payouts) {
                history.take(record, payouts);
            }
            if let Some(last) = period.last().filter(|_| is_final) {
                past.next = last.period.0.saturating_add(1);
            }
        }
        let history = live.unwrap_or_else(|| past.history.clone());
        past.history.shorten(history.last);
        Ok(history)
    }
}

/// Whether the period of which `record` is the last revision never changes any more.
fn is_final(record: &DistributionRecord) -> bool {
    match record.state {
        DistributionState::Settled => true,
        DistributionState::Voided(AfterVoid::Carry) => record.receipts_freed,
        DistributionState::Voided(AfterVoid::Recompute)
        | DistributionState::Computed
        | DistributionState::Held
        | DistributionState::Approved
        | DistributionState::Released => false,
    }
}

/// What an equation of a revision is evaluated over, in its own words.
fn subject(revision: RevisionRef) -> String {
    format!("period {} revision {}", revision.period, revision.revision)
}

impl History {
    /// Takes the next revision in, with its payouts where it is sealed.
    pub(super) fn take(&mut self, record: &DistributionRecord, payouts: Option<RevisionPayouts>) {
        self.last = record.period.0;
        let Some(payouts) = payouts else { return };
        self.payouts.push(payouts);
        let add = |sum: &mut U256, amount: U256| *sum = sum.saturating_add(amount);
        add(&mut self.unacked, payouts.unacked.amount);
        if matches!(record.state, DistributionState::Voided(_)) {
            return;
        }
        let f = record.figures;
        let all = &mut self.cumulative;
        add(&mut all.house_in, wide(f.house_in));
        add(&mut all.fee, wide(f.fee));
        add(&mut all.payouts, wide(f.payouts));
        add(&mut all.recovery, wide(f.recovery));
        add(&mut all.house_out, wide(f.house_out));
        if !record.state.is_released() {
            return;
        }
        self.released.push((record.reference(), f));
        add(&mut self.released_payouts, wide(f.payouts));
        add(&mut self.released_fees, wide(f.fee));
        self.trailing.push_back(record.paid_on());
        if self.trailing.len() > TRAILING_PERIODS {
            self.trailing.pop_front();
        }
    }

    /// Forgets the single revisions that are neither shown nor fail, where `last` is the last period of all.
    fn shorten(&mut self, last: u64) {
        let kept = |revision: RevisionRef, equations: &dyn Fn() -> Vec<EquationResult>| {
            !is_old(revision, last) || !equations::all_hold(&equations())
        };
        self.released.retain(|one| kept(one.0, &|| equations::of_revisions(std::slice::from_ref(one), &[])));
        self.payouts.retain(|one| kept(one.revision, &|| equations::of_revisions(&[], std::slice::from_ref(one))));
    }

    /// Leaves out the equations of single revisions that hold and are of long ago.
    pub(super) fn keep_shown(&self, equations: &mut Vec<EquationResult>) {
        let revisions = self.payouts.iter().map(|payouts| payouts.revision);
        let old: BTreeSet<String> = revisions.filter(|one| is_old(*one, self.last)).map(subject).collect();
        equations.retain(|equation| !equation.holds || !old.contains(&equation.detail));
    }

    /// The sums for readers.
    pub(super) fn sums(&self) -> Sums {
        let trailing = self.trailing.iter().copied().fold(PaidOn::default(), PaidOn::and);
        Sums {
            rewards: self.cumulative.receipts,
            slashed: self.slashed,
            payouts: self.released_payouts,
            fees: self.released_fees,
            trailing_payouts: trailing.paid,
            trailing_weight: trailing.weight,
            trailing_periods: u32::try_from(self.trailing.len()).unwrap_or(u32::MAX),
        }
    }

    /// The other side of equation 5: what is outstanding is what the ledger owes for it.
    pub(super) fn in_ledger(&self, view: &LedgerView) -> EquationResult {
        let payable = wide(view.claim(ClaimAccount::Payable));
        EquationResult {
            number: 5,
            name: "sum(unacked) = payable",
            left: self.unacked.to_string(),
            right: payable.to_string(),
            holds: self.unacked == payable,
            detail: "all released revisions".to_owned(),
        }
    }
}

fn is_old(revision: RevisionRef, last: u64) -> bool {
    revision.period.saturating_add(SHOWN_PERIODS) <= last
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
