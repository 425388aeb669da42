//! Distributions: the figures of one, their equations, and the table of (state, event).
//!
//! ```text
//! COMPUTED --assess--> APPROVED --release--> RELEASED --settle--> SETTLED
//!     |  \--assess--> HELD --approve--^
//!     \------- void (also from HELD, APPROVED) ------> VOIDED: RECOMPUTE | CARRY
//! ```

use super::names::stable_names;
use ruint::aliases::U256;

use super::amount::{AmountError, BaseUnits};
use super::fixed_apr::FixedAprTerms;
use super::hold::HoldReason;
use super::payout::PayoutCounts;
use super::split::{SplitInput, SplitTerms};

/// Where a revision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DistributionState {
    /// Computed and sealed; the limits have not been looked at.
    Computed,
    /// A limit wants an operator's approval.
    Held,
    /// May be released.
    Approved,
    /// Its figures are posted and its payouts are due.
    Released,
    /// Every payout is acknowledged or unclaimed.
    Settled,
    /// Reversed before release.
    Voided(AfterVoid),
}

stable_names!(
    DistributionState,
    /// The stable name.
    fn name(self) {
        Self::Computed => "COMPUTED",
        Self::Held => "HELD",
        Self::Approved => "APPROVED",
        Self::Released => "RELEASED",
        Self::Settled => "SETTLED",
        Self::Voided(AfterVoid::Recompute) => "VOIDED, RECOMPUTE",
        Self::Voided(AfterVoid::Carry) => "VOIDED, CARRY",
    }
);

/// What follows a void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AfterVoid {
    /// The period is computed again as the next revision, from the same weights.
    Recompute,
    /// The period pays nothing: its receipts are unassigned again and its carry is handed on.
    Carry,
}

/// What can happen to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistributionEvent<'a> {
    /// The limits were looked at: these hold it.
    Assess(&'a [HoldReason]),
    /// An operator approves it in spite of what holds it.
    Approve,
    /// It is released.
    Release,
    /// Its payouts stand as counted.
    Settle(&'a PayoutCounts),
    /// It is voided.
    Void(AfterVoid),
}

/// Why an event was refused. The state stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DistributionRefusal {
    /// The limits have not been looked at yet.
    #[error("the distribution has not been assessed yet")]
    NotAssessed,
    /// The limits have been looked at already.
    #[error("the distribution has been assessed already")]
    AlreadyAssessed,
    /// It is held.
    #[error("the distribution is held and needs an approval")]
    Held,
    /// It is approved already.
    #[error("the distribution is approved already")]
    AlreadyApproved,
    /// It has not been released.
    #[error("the distribution is not released")]
    NotReleased,
    /// It is released: what was released is paid and never taken back.
    #[error("the distribution is released and can't be changed")]
    AlreadyReleased,
    /// It is settled.
    #[error("the distribution is settled")]
    AlreadySettled,
    /// It is voided.
    #[error("the distribution is voided")]
    AlreadyVoided,
    /// Some payouts are neither acknowledged nor unclaimed.
    #[error("{0} payouts are neither acknowledged nor unclaimed")]
    PayoutsOutstanding(u64),
}

impl DistributionState {
    /// The state after `event`, or why it can't happen now.
    pub fn after(self, event: &DistributionEvent<'_>) -> Result<Self, DistributionRefusal> {
        use DistributionEvent as Event;
        use DistributionRefusal as Refusal;
        match (self, event) {
            (Self::Computed, Event::Assess([])) => Ok(Self::Approved),
            (Self::Computed, Event::Assess([_, ..])) => Ok(Self::Held),
            (Self::Computed, Event::Approve | Event::Release) => Err(Refusal::NotAssessed),

            (Self::Held, Event::Approve) => Ok(Self::Approved),
            (Self::Held, Event::Assess(_)) => Err(Refusal::AlreadyAssessed),
            (Self::Held, Event::Release) => Err(Refusal::Held),

            (Self::Approved, Event::Release) => Ok(Self::Released),
            (Self::Approved, Event::Assess(_)) => Err(Refusal::AlreadyAssessed),
            (Self::Approved, Event::Approve) => Err(Refusal::AlreadyApproved),

            (Self::Computed | Self::Held | Self::Approved, Event::Settle(_)) => Err(Refusal::NotReleased),
            (Self::Computed | Self::Held | Self::Approved, Event::Void(then)) => Ok(Self::Voided(*then)),

            (Self::Released, Event::Settle(counts)) => match counts.outstanding() {
                0 => Ok(Self::Settled),
                outstanding => Err(Refusal::PayoutsOutstanding(outstanding)),
            },
            (Self::Released, Event::Assess(_) | Event::Approve | Event::Release | Event::Void(_)) => {
                Err(Refusal::AlreadyReleased)
            }
            (Self::Settled, Event::Assess(_) | Event::Approve | Event::Release | Event::Settle(_) | Event::Void(_)) => {
                Err(Refusal::AlreadySettled)
            }
            (
                Self::Voided(_),
                Event::Assess(_) | Event::Approve | Event::Release | Event::Settle(_) | Event::Void(_),
            ) => Err(Refusal::AlreadyVoided),
        }
    }

    /// Whether its figures count as paid out: released or settled.
    pub const fn is_released(self) -> bool {
        matches!(self, Self::Released | Self::Settled)
    }
}

/// What the next step of a period is, given its revisions in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRevision {
    /// Compute this revision.
    Compute(u32),
    /// The last revision stands; there is nothing to compute.
    Stands,
    /// The last revision was voided with CARRY: the period pays nothing.
    Nothing,
}

/// Decides on the next revision of a period. A revision follows only a void that asked for it, so that at most one
/// revision of a period is ever released.
pub fn next_revision(revisions: &[DistributionState]) -> NextRevision {
    match revisions.last() {
        None => NextRevision::Compute(1),
        Some(DistributionState::Voided(AfterVoid::Recompute)) => {
            // Past 2^32 voids of one period the last revision stands.
            u32::try_from(revisions.len() + 1).map_or(NextRevision::Stands, NextRevision::Compute)
        }
        Some(DistributionState::Voided(AfterVoid::Carry)) => NextRevision::Nothing,
        Some(
            DistributionState::Computed
            | DistributionState::Held
            | DistributionState::Approved
            | DistributionState::Released
            | DistributionState::Settled,
        ) => NextRevision::Stands,
    }
}

/// The figures of one revision: the two sides of equation 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The sum of the receipts assigned.
    pub receipts: BaseUnits,
    /// What the last distribution handed on.
    pub carry_in: BaseUnits,
    /// What the house adds.
    pub house_in: BaseUnits,
    /// The operator's fee.
    pub fee: BaseUnits,
    /// What goes to the slash receivable.
    pub recovery: BaseUnits,
    /// The sum of the accounts' payouts.
    pub payouts: BaseUnits,
    /// What goes to the house: the share of its weight, or the surplus over a fixed rate.
    pub house_out: BaseUnits,
    /// What is handed on to the next distribution.
    pub carry_out: BaseUnits,
}

/// An equation that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("equation {equation} does not hold: {left} on the left, {right} on the right")]
pub struct EquationBreach {
    /// Its number in the design.
    pub equation: u8,
    /// The left side.
    pub left: U256,
    /// The right side.
    pub right: U256,
}

impl Figures {
    /// The figures of a pro rata split.
    pub const fn pro_rata(
        input: &SplitInput,
        terms: &SplitTerms,
        payouts: BaseUnits,
        house_out: BaseUnits,
        carry_out: BaseUnits,
    ) -> Self {
        let SplitInput { receipts, carry_in, house_in, .. } = *input;
        let SplitTerms { fee, recovery, .. } = *terms;
        Self { receipts, carry_in, house_in, fee, recovery, payouts, house_out, carry_out }
    }

    /// The figures of a distribution at a fixed rate: no recovery and no carry.
    pub const fn fixed_apr(
        receipts: BaseUnits,
        carry_in: BaseUnits,
        terms: &FixedAprTerms,
        payouts: BaseUnits,
    ) -> Self {
        let FixedAprTerms { fee, house_in, house_out } = *terms;
        let none = BaseUnits::ZERO;
        Self { receipts, carry_in, house_in, fee, recovery: none, payouts, house_out, carry_out: none }
    }

    /// Both sides of equation 1 as amounts: what goes in, and what comes out.
    pub fn sides(&self) -> Result<(BaseUnits, BaseUnits), AmountError> {
        let taken = BaseUnits::sum([self.receipts, self.carry_in, self.house_in])?;
        let given = BaseUnits::sum([self.fee, self.recovery, self.payouts, self.house_out, self.carry_out])?;
        Ok((taken, given))
    }

    /// Equation 1: `receipts + carry_in + house_in = fee + recovery + payouts + house_out + carry_out`.
    pub fn check_equation_1(&self) -> Result<(), EquationBreach> {
        let left = wide_sum([self.receipts, self.carry_in, self.house_in]);
        let right = wide_sum([self.fee, self.recovery, self.payouts, self.house_out, self.carry_out]);
        if left == right { Ok(()) } else { Err(EquationBreach { equation: 1, left, right }) }
    }
}

fn wide_sum<const N: usize>(amounts: [BaseUnits; N]) -> U256 {
    amounts.into_iter().fold(U256::ZERO, |sum, amount| sum + U256::from(amount.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::payout::PayoutSum;

    fn units(n: u64) -> BaseUnits {
        BaseUnits::from_u64(n)
    }

    const STATES: [DistributionState; 7] = [
        DistributionState::Computed,
        DistributionState::Held,
        DistributionState::Approved,
        DistributionState::Released,
        DistributionState::Settled,
        DistributionState::Voided(AfterVoid::Recompute),
        DistributionState::Voided(AfterVoid::Carry),
    ];

    #[test]
    fn every_pair_of_state_and_event_is_decided() {
        use DistributionRefusal as No;
        use DistributionState::{Approved, Held, Released, Settled, Voided};
        let reasons = [HoldReason::Incomplete { frozen: 2, computed: 1 }];
        let open = PayoutCounts::computed(PayoutSum { count: 3, amount: units(9) }).released().unwrap();
        let done = PayoutCounts::default();
        let events = [
            DistributionEvent::Assess(&[]),
            DistributionEvent::Assess(&reasons),
            DistributionEvent::Approve,
            DistributionEvent::Release,
            DistributionEvent::Settle(&open),
            DistributionEvent::Settle(&done),
            DistributionEvent::Void(AfterVoid::Carry),
        ];
        let void = Ok(Voided(AfterVoid::Carry));
        let unassessed = [Ok(Approved), Ok(Held), Err(No::NotAssessed), Err(No::NotAssessed)];
        let held = [Err(No::AlreadyAssessed), Err(No::AlreadyAssessed), Ok(Approved), Err(No::Held)];
        let approved = [Err(No::AlreadyAssessed), Err(No::AlreadyAssessed), Err(No::AlreadyApproved), Ok(Released)];
        let unpaid = [Err(No::NotReleased), Err(No::NotReleased), void];
        let released = [
            [Err(No::AlreadyReleased); 4].as_slice(),
            &[Err(No::PayoutsOutstanding(3)), Ok(Settled), Err(No::AlreadyReleased)],
        ]
        .concat();
        let expected = [
            [unassessed.as_slice(), &unpaid].concat(),
            [held.as_slice(), &unpaid].concat(),
            [approved.as_slice(), &unpaid].concat(),
            released,
            vec![Err(No::AlreadySettled); 7],
            vec![Err(No::AlreadyVoided); 7],
            vec![Err(No::AlreadyVoided); 7],
        ];
        for (state, row) in STATES.into_iter().zip(expected) {
            let decided: Vec<_> = events.iter().map(|event| state.after(event)).collect();
            assert_eq!(decided, row, "{state:?}");
        }
    }

    #[test]
    fn a_revision_follows_only_a_void_that_asked_for_it() {
        let recompute = DistributionState::Voided(AfterVoid::Recompute);
        assert_eq!(next_revision(&[]), NextRevision::Compute(1));
        assert_eq!(next_revision(&[recompute, recompute]), NextRevision::Compute(3));
        assert_eq!(next_revision(&[recompute, DistributionState::Voided(AfterVoid::Carry)]), NextRevision::Nothing);
        for state in &STATES[..5] {
            assert_eq!(next_revision(&[recompute, *state]), NextRevision::Stands);
        }
    }

    #[test]
    fn the_equations_are_checked_past_the_largest_amount() {
        let max = BaseUnits::MAX;
        let full = Figures { receipts: max, carry_in: max, payouts: max, house_out: max, ..Figures::default() };
        assert_eq!(full.check_equation_1(), Ok(()));
        let short = Figures { carry_out: units(1), ..full };
        assert!(matches!(short.check_equation_1(), Err(EquationBreach { equation: 1, .. })));
    }
}
