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
    /// What single persons have moved with it, where they had moved `before` by changes of its kind on the same day; `None`
    /// where it takes two persons under a pool's settings.
    pub fn alone(self, settings: &ApprovalSettings, before: BaseUnits) -> Option<BaseUnits> {
        match self {
            Self::Guard => None,
            // What moves nothing takes nobody's second look.
            Self::Amount(BaseUnits::ZERO) => Some(before),
            // A sum that is past the largest amount is past every limit.
            Self::Amount(amount) => before.checked_add(amount).ok().filter(|sum| *sum <= settings.single_person_limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_takes_two_persons_always_and_amounts_past_the_limit_together() {
        let units = BaseUnits::from_u64;
        let alone = |limit, before, at_stake: AtStake| {
            at_stake.alone(&ApprovalSettings { single_person_limit: units(limit) }, units(before))
        };
        let amount = |some| AtStake::Amount(units(some));
        assert_eq!(alone(u64::MAX, 0, AtStake::Guard), None);
        assert_eq!([9, 10, 11].map(|some| alone(10, 0, amount(some))), [Some(units(9)), Some(units(10)), None]);
        assert_eq!([6, 7].map(|some| alone(10, 4, amount(some))), [Some(units(10)), None], "many small ones");
        assert_eq!([0, 1].map(|some| alone(0, 0, amount(some))), [Some(units(0)), None]);
        assert_eq!(alone(10, 20, amount(0)), Some(units(20)), "the limit was lowered meanwhile");
        let most = ApprovalSettings { single_person_limit: BaseUnits::MAX };
        assert_eq!(AtStake::Amount(BaseUnits::MAX).alone(&most, units(1)), None);
    }
}
