//! The reward policies, and the one that pays a fixed annual rate whatever the chain paid.

use ruint::aliases::U256;
use rust_decimal::Decimal;

use super::amount::{AmountError, BaseUnits};
use super::split::{FeeBps, PayoutUnit};
use super::time::YEAR_SECONDS;

/// How a pool shares its rewards out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RewardPolicy {
    /// What the chain paid, after fee and recovery, pro rata by time weight.
    #[default]
    ProRata,
    /// A fixed annual rate on the time weight. The house makes up what is missing and keeps what is over.
    FixedApr(AnnualRate),
}

/// Who bears a slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlashPolicy {
    /// The house.
    #[default]
    PlatformAbsorbs,
    /// The pool's later rewards.
    RewardsAbsorb,
}

/// Why a reward policy was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A rate below nothing or above the whole.
    #[error("an annual rate is a share of a whole from 0 to 1 (0.05 is five per cent), not {0}")]
    RateOutOfRange(Decimal),
    /// A fixed rate with slashes taken from rewards: there are no rewards to take them from.
    #[error("FIXED_APR can't be combined with REWARDS_ABSORB: a fixed rate leaves no reward to recover a slash from")]
    FixedAprWithRewardsAbsorb,
}

/// Checks that the two policies of a pool can hold together.
pub fn check_policies(reward: RewardPolicy, slash: SlashPolicy) -> Result<(), PolicyError> {
    match (reward, slash) {
        (RewardPolicy::FixedApr(_), SlashPolicy::RewardsAbsorb) => Err(PolicyError::FixedAprWithRewardsAbsorb),
        (RewardPolicy::FixedApr(_), SlashPolicy::PlatformAbsorbs)
        | (RewardPolicy::ProRata, SlashPolicy::PlatformAbsorbs | SlashPolicy::RewardsAbsorb) => Ok(()),
    }
}

/// An annual rate, 0 to 1, as the exact fraction that its decimal figure stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnualRate {
    numerator: u128,
    denominator: u128,
}

impl AnnualRate {
    /// The fraction that `rate` stands for: 0.0525 is 525 / 10,000. Trailing zeros make no difference.
    pub fn new(rate: Decimal) -> Result<Self, PolicyError> {
        let rate = rate.normalize();
        match u128::try_from(rate.mantissa()) {
            // A scale is at most 28, and 10^28 is below 2^94.
            Ok(numerator) if rate <= Decimal::ONE => Ok(Self { numerator, denominator: 10_u128.pow(rate.scale()) }),
            _ => Err(PolicyError::RateOutOfRange(rate)),
        }
    }

    /// The numerator, below 2^96.
    pub const fn numerator(self) -> u128 {
        self.numerator
    }

    /// The denominator, a power of ten up to 10^28.
    pub const fn denominator(self) -> u128 {
        self.denominator
    }
}

/// Pays the rate: `q x floor(weight x numerator / (denominator x seconds of a year x q))`.
#[derive(Clone, Copy, Debug)]
pub struct FixedRate {
    numerator: U256,
    divisor: U256,
    unit: PayoutUnit,
}

impl FixedRate {
    /// The rate in multiples of `unit`.
    pub fn new(rate: AnnualRate, unit: PayoutUnit) -> Self {
        // 94 bits, 25 bits and 127 bits.
        let divisor = U256::from(rate.denominator) * U256::from(YEAR_SECONDS) * U256::from(unit.get().get());
        Self { numerator: U256::from(rate.numerator), divisor, unit }
    }

    /// What an account of `weight` is owed. It always fits: less than `weight` over the seconds of a year.
    pub fn payout(&self, weight: u128) -> Result<BaseUnits, AmountError> {
        let quotient = U256::from(weight) * self.numerator / self.divisor;
        let units = quotient * U256::from(self.unit.get().get());
        u128::try_from(units).map_err(|_| AmountError::Overflow).and_then(BaseUnits::new)
    }
}

/// How the rewards of one distribution and its payouts at a fixed rate are made to meet. There is no carry.
///
/// Nothing is recovered here: a slash receivable that an earlier policy left stays until a pro rata distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedAprTerms {
    /// The operator's fee on the receipts.
    pub fee: BaseUnits,
    /// The shortage, which the house adds.
    pub house_in: BaseUnits,
    /// The surplus, which the house keeps.
    pub house_out: BaseUnits,
}

impl FixedAprTerms {
    /// The terms under which `receipts` and `carry_in` pay `payouts` and the fee exactly.
    pub fn new(receipts: BaseUnits, carry_in: BaseUnits, fee: FeeBps, payouts: BaseUnits) -> Result<Self, AmountError> {
        let fee = fee.of(receipts);
        let available = receipts.checked_add(carry_in)?.checked_sub(fee)?;
        let (house_in, house_out) = (payouts.saturating_sub(available), available.saturating_sub(payouts));
        Ok(Self { fee, house_in, house_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Result<AnnualRate, PolicyError> {
        AnnualRate::new(Decimal::from_str_exact(text).unwrap())
    }

    fn units(n: u64) -> BaseUnits {
        BaseUnits::from_u64(n)
    }

    #[test]
    fn a_rate_is_its_decimal_figure_exactly() {
        let five_and_a_quarter = rate("0.0525").unwrap();
        assert_eq!((five_and_a_quarter.numerator(), five_and_a_quarter.denominator()), (525, 10_000));
        assert_eq!(rate("0.05250"), Ok(five_and_a_quarter));
        assert_eq!(rate("0.0000000000000000000000000001").unwrap().denominator(), 10_u128.pow(28));
        assert_eq!(rate("1").unwrap().numerator(), 1);
        assert!(rate("0").is_ok() && rate("-0").is_ok());
        for refused in ["5", "1.0000000001", "-0.01"] {
            assert!(matches!(rate(refused), Err(PolicyError::RateOutOfRange(_))), "{refused}");
        }
    }

    #[test]
    fn a_year_at_five_per_cent_pays_five_per_cent() {
        let fixed = FixedRate::new(rate("0.05").unwrap(), PayoutUnit::ONE);
        let year_of_a_thousand = 1_000 * u128::from(YEAR_SECONDS);
        assert_eq!(fixed.payout(year_of_a_thousand), Ok(units(50)));
        assert_eq!(fixed.payout(year_of_a_thousand - 1), Ok(units(49)));
        let tens = FixedRate::new(rate("0.05").unwrap(), PayoutUnit::new(units(20)).unwrap());
        assert_eq!(tens.payout(year_of_a_thousand), Ok(units(40)));
        let whole = FixedRate::new(rate("1").unwrap(), PayoutUnit::ONE);
        assert_eq!(whole.payout(u128::MAX).map(BaseUnits::get), Ok(u128::MAX / u128::from(YEAR_SECONDS)));
    }

    #[test]
    fn the_house_makes_up_a_shortage_and_keeps_a_surplus() {
        let fee = FeeBps::new(1_000).unwrap();
        let short = FixedAprTerms::new(units(100), units(5), fee, units(120)).unwrap();
        assert_eq!(short, FixedAprTerms { fee: units(10), house_in: units(25), house_out: units(0) });
        let over = FixedAprTerms::new(units(100), units(5), fee, units(20)).unwrap();
        assert_eq!(over, FixedAprTerms { fee: units(10), house_in: units(0), house_out: units(75) });
    }

    #[test]
    fn a_fixed_rate_does_not_go_with_slashes_on_rewards() {
        let fixed = RewardPolicy::FixedApr(rate("0.05").unwrap());
        assert_eq!(check_policies(fixed, SlashPolicy::RewardsAbsorb), Err(PolicyError::FixedAprWithRewardsAbsorb));
        assert_eq!(check_policies(fixed, SlashPolicy::PlatformAbsorbs), Ok(()));
        assert_eq!(check_policies(RewardPolicy::ProRata, SlashPolicy::RewardsAbsorb), Ok(()));
    }
}
