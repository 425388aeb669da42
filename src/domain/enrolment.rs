//! Decisions of customers to take part or not, and of the operator that one may not.

use super::eligibility::{Standing, StandingChange};
use super::ids::{AccountId, PoolId};
use super::time::UnixSeconds;

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// The customer takes part.
    OptIn,
    /// The customer does not take part.
    OptOut,
    /// The account may not earn: jurisdiction, sanction, sub-account.
    Restrict,
    /// The account may earn again.
    Unrestrict,
}

impl Decision {
    /// All of them, in the order of their stored numbers.
    pub const ALL: [Self; 4] = [Self::OptIn, Self::OptOut, Self::Restrict, Self::Unrestrict];

    /// What it does to the standing in one pool; `everywhere` says whether it was made for all pools. An opt-out of one
    /// pool outlives an opt-in to all, and the other way round.
    pub const fn change(self, everywhere: bool) -> StandingChange {
        match (self, everywhere) {
            (Self::OptIn, false) => StandingChange::OPT_IN,
            (Self::OptIn, true) => StandingChange { set: Standing::OPTED_IN, clear: Standing::OPTED_OUT_ALL },
            (Self::OptOut, false) => StandingChange::OPT_OUT,
            (Self::OptOut, true) => StandingChange::OPT_OUT_OF_ALL,
            (Self::Restrict, _) => StandingChange::RESTRICT,
            (Self::Unrestrict, _) => StandingChange::LIFT_RESTRICTION,
        }
    }
}

/// A decision as it was entered: the consent record. Never changed; a later one comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentEntry {
    /// Its place among all decisions, from 1.
    pub sequence: u64,
    /// Of or about whom.
    pub account: AccountId,
    /// For which pool; `None` for all, those to come included.
    pub pool: Option<PoolId>,
    /// What was decided.
    pub decision: Decision,
    /// Since when it counts.
    pub at: UnixSeconds,
    /// Which terms the customer accepted.
    pub terms_version: String,
    /// Where the customer is, as the ledger service writes it.
    pub jurisdiction: String,
    /// Why, as the ledger service writes it.
    pub reason_code: String,
}
