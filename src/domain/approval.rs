//! What waits for a second person: a change that moves money or lowers a guard, whole, as it was proposed.
//!
//! Whoever approves is another principal, approves the hash of what is applied, and does so against the version of the
//! pool's configuration that it was proposed on.

use super::amount::BaseUnits;
use super::correction::AskedCorrection;
use super::distribution::AfterVoid;
use super::effect::EffectKey;
use super::ids::{OperationId, ValidatorId};
use super::operation::Resolution;
use super::period::PeriodIndex;
use super::policy::{ApprovalSettings, PoolPolicy, PoolSettings};
use super::time::UnixSeconds;

/// A change of one pool that needs two persons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// What an account held was something else.
    CorrectBalance(AskedCorrection),
    /// Another policy or other settings, with some guard lowered: each whole, `None` where it stays.
    UpdatePool {
        /// The policy from the next period on that has not begun.
        policy: Option<Box<PoolPolicy>>,
        /// The settings from now on.
        settings: Option<Box<PoolSettings>>,
    },
    /// A paused pool's outflows go on.
    ResumePool {
        /// Why.
        reason: String,
    },
    /// What became of an operation, by evidence.
    ResolveOperation {
        /// Which one.
        operation: OperationId,
        /// What is said of it.
        resolution: Resolution,
        /// By what.
        evidence: String,
    },
    /// A distribution that is not released is undone.
    VoidDistribution {
        /// Of which period.
        period: PeriodIndex,
        /// Which revision.
        revision: u32,
        /// What comes in its place.
        mode: AfterVoid,
        /// Why.
        reason: String,
    },
    /// The chain's word is taken on what ledger and chain differ in.
    AcceptDifferences {
        /// The hash of the differences.
        hash: [u8; 32],
        /// By what.
        evidence: String,
    },
    /// Tokens that are in suspense were a reward.
    RecordReceipt {
        /// The reward.
        reward: Reward,
        /// By what.
        evidence: String,
    },
}

impl Proposal {
    /// Whether it goes into the book, as a correction, and not into the pool's own records.
    pub const fn is_correction(&self) -> bool {
        matches!(self, Self::CorrectBalance(_))
    }
}

/// A reward that no adapter has told of, as the evidence has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reward {
    /// Its name on the chain.
    pub key: EffectKey,
    /// From whom; `None` where the chain pays for the whole account.
    pub validator: Option<ValidatorId>,
    /// How much.
    pub amount: BaseUnits,
    /// The chain's time of it.
    pub at: UnixSeconds,
    /// The height of it.
    pub height: u64,
    /// The start of the interval that it was earned over.
    pub earned_from: UnixSeconds,
    /// The end of it.
    pub earned_to: UnixSeconds,
}

/// What a change puts at risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStake {
    /// A guard, or what can't be counted.
    Guard,
    /// So much.
    Amount(BaseUnits),
}

impl AtStake {
    /// Whether it takes two persons under a pool's settings.
    pub fn needs_two(self, settings: &ApprovalSettings) -> bool {
        match self {
            Self::Guard => true,
            Self::Amount(amount) => amount > settings.single_person_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_takes_two_persons_always_and_an_amount_past_the_limit() {
        let limited = |units| ApprovalSettings { single_person_limit: BaseUnits::from_u64(units) };
        let amount = |units| AtStake::Amount(BaseUnits::from_u64(units));
        assert!(AtStake::Guard.needs_two(&limited(u64::MAX)));
        assert_eq!([9, 10, 11].map(|units| amount(units).needs_two(&limited(10))), [false, false, true]);
        assert_eq!([0, 1].map(|units| amount(units).needs_two(&ApprovalSettings::default())), [false, true]);
    }
}
