//! The exact split of one distribution: fee, recovery and net, then one share per account, pro rata by time weight.
//!
//! `payout_i = q x floor(net x weight_i / (W x q))`, each from the frozen weight alone: no order and no partitioning
//! enters it. What the floors leave over is the carry of the next distribution.

use ruint::aliases::{U256, U512};

use super::amount::{AmountError, BaseUnits};

/// Basis points of a whole: a fee is this many ten-thousandths.
pub const WHOLE_BPS: u32 = 10_000;

/// Why a split could not be made. Each is a defect of its inputs, never of the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A fee above the whole.
    #[error("a fee is 0 to 10,000 basis points, not {0}")]
    FeeAboveWhole(u32),
    /// A payout unit of nothing.
    #[error("a payout unit is at least 1 base unit")]
    ZeroPayoutUnit,
    /// The amounts to split do not fit an amount.
    #[error("what is to be split is past the largest amount, 2^127 - 1 base units")]
    Overflow,
    /// A weight larger than the total that it is part of.
    #[error("a weight is larger than the total of all weights")]
    WeightAboveTotal,
    /// The shares add up to more than there is to share.
    #[error("the shares add up to more than the net reward")]
    PaidAboveNet,
    /// The carry reached (positive weights) x (payout unit): shares are missing, or the total weight is wrong.
    #[error("the carry {carry} is not below {positive_weights} positive weights x the payout unit {payout_unit}")]
    CarryAboveBound {
        /// What was left over.
        carry: BaseUnits,
        /// How many weights above zero took part, the house's included.
        positive_weights: u64,
        /// The payout unit.
        payout_unit: BaseUnits,
    },
}

impl From<AmountError> for SplitError {
    fn from(_: AmountError) -> Self {
        Self::Overflow
    }
}

/// A fee in basis points, 0 to 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeeBps(u16);

impl FeeBps {
    /// A fee of `bps` ten-thousandths.
    pub fn new(bps: u32) -> Result<Self, SplitError> {
        match u16::try_from(bps) {
            Ok(small) if bps <= WHOLE_BPS => Ok(Self(small)),
            _ => Err(SplitError::FeeAboveWhole(bps)),
        }
    }

    /// The ten-thousandths.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// `floor(receipts x bps / 10,000)`: at most `receipts`.
    pub fn of(self, receipts: BaseUnits) -> BaseUnits {
        // A share of at most the whole always fits, so the fallback is never taken.
        receipts.mul_div_floor(u128::from(self.0), u128::from(WHOLE_BPS)).unwrap_or(receipts)
    }
}

/// The smallest amount that a payout is a multiple of, at least one base unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayoutUnit(BaseUnits);

impl PayoutUnit {
    /// One base unit, the default.
    pub const ONE: Self = Self(BaseUnits::from_u64(1));

    /// A unit of `units` base units.
    pub fn new(units: BaseUnits) -> Result<Self, SplitError> {
        if units.is_zero() { Err(SplitError::ZeroPayoutUnit) } else { Ok(Self(units)) }
    }

    /// The base units of one payout unit.
    pub const fn get(self) -> BaseUnits {
        self.0
    }
}

impl Default for PayoutUnit {
    fn default() -> Self {
        Self::ONE
    }
}

/// What a distribution splits, before any account is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitInput {
    /// The sum of the reward receipts assigned to it.
    pub receipts: BaseUnits,
    /// What the last distribution of the pool handed on.
    pub carry_in: BaseUnits,
    /// What the house adds.
    pub house_in: BaseUnits,
    /// The operator's fee.
    pub fee: FeeBps,
    /// The slash receivable that distributions still owe.
    pub owed: BaseUnits,
    /// The payout unit `q`.
    pub payout_unit: PayoutUnit,
    /// `W`: the sum of all weights, the house's included.
    pub weight_total: U256,
}

/// What comes off before the split, and what is left to split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitTerms {
    /// `floor(receipts x fee_bps / 10,000)`.
    pub fee: BaseUnits,
    /// `min(owed, receipts + carry_in - fee)`.
    pub recovery: BaseUnits,
    /// `receipts + carry_in + house_in - fee - recovery`.
    pub net: BaseUnits,
}

impl SplitInput {
    /// Fee, recovery and net.
    pub fn terms(&self) -> Result<SplitTerms, SplitError> {
        let fee = self.fee.of(self.receipts);
        #[cfg(feature = "seeded-bugs")]
        let fee = if crate::seeded::on(crate::seeded::Bug::FeeOnCarry) {
            self.fee.of(self.receipts.checked_add(self.carry_in)?)
        } else {
            fee
        };
        let after_fee = self.receipts.checked_add(self.carry_in)?.checked_sub(fee)?;
        let recovery = self.owed.min(after_fee);
        #[cfg(feature = "seeded-bugs")]
        let recovery = if crate::seeded::on(crate::seeded::Bug::RecoversTooMuch) && !self.owed.is_zero() {
            after_fee
        } else {
            recovery
        };
        let net = after_fee.checked_sub(recovery)?.checked_add(self.house_in)?;
        Ok(SplitTerms { fee, recovery, net })
    }

    /// The terms, and the splitter that shares out their net.
    pub fn splitter(&self) -> Result<(SplitTerms, Splitter), SplitError> {
        let terms = self.terms()?;
        Ok((terms, Splitter::new(terms.net, self.payout_unit, self.weight_total)))
    }
}

/// Shares out `net` by weight. Made once per distribution, asked once per account, in any order.
///
/// With `D = W x q` and `R = floor(net x 2^128 / D)`, the true quotient `net x w / D` is
/// `(w x R + w x e) / 2^128` for some `0 <= e < 1`. The high half of `w x R` is therefore its floor whenever
/// the low half plus `w` stays below 2^128, as the remainder can then not reach another whole. In any other case,
/// and where `R` does not fit 128 bits, the 256-bit division decides.
#[derive(Clone, Copy, Debug)]
pub struct Splitter {
    net: BaseUnits,
    unit: PayoutUnit,
    weight_total: U256,
    /// `min(W, 2^128 - 1)`: no weight may be above it.
    weight_limit: u128,
    /// `W x q`; `None` past 2^256, where every quotient of 128-bit weights is below one.
    divisor: Option<U256>,
    /// `R`, where it fits.
    reciprocal: Option<u128>,
}

impl Splitter {
    /// A splitter of `net` in multiples of `unit` over weights that add up to `weight_total`.
    pub fn new(net: BaseUnits, unit: PayoutUnit, weight_total: U256) -> Self {
        let divisor = weight_total.checked_mul(U256::from(unit.get().get()));
        let reciprocal = divisor
            .filter(|divisor| !divisor.is_zero())
            // `net` has at most 127 bits, so nothing is shifted out.
            .and_then(|divisor| u128::try_from((U256::from(net.get()) << 128) / divisor).ok());
        let weight_limit = u128::try_from(weight_total).unwrap_or(u128::MAX);
        Self { net, unit, weight_total, weight_limit, divisor, reciprocal }
    }

    /// The share of one account: `q x floor(net x weight / (W x q))`.
    #[inline]
    pub fn payout(&self, weight: u128) -> Result<BaseUnits, SplitError> {
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::on(crate::seeded::Bug::TruncatesPerStage) && !self.weight_total.is_zero() {
            return self.payout_by_stages(weight);
        }
        if let Some(reciprocal) = self.reciprocal {
            let (quotient, fraction) = wide_product(weight, reciprocal);
            #[cfg(feature = "seeded-bugs")]
            let quotient = quotient + u128::from(crate::seeded::on(crate::seeded::Bug::RoundsUp) && fraction > 1 << 64);
            if weight <= self.weight_limit && fraction.checked_add(weight).is_some() {
                // The quotient is exact and the weight at most `W`: times `q` it is at most `net`, and fits.
                return Ok(BaseUnits::new(quotient.wrapping_mul(self.unit.get().get()))?);
            }
        }
        self.payout_by_division(weight)
    }

    /// The same share by a 256-bit division, without the reciprocal.
    pub fn payout_by_division(&self, weight: u128) -> Result<BaseUnits, SplitError> {
        if weight > self.weight_limit {
            return Err(SplitError::WeightAboveTotal);
        }
        match self.divisor {
            Some(divisor) if weight != 0 => {
                // 127 and 128 bits: the product has at most 255. A positive weight means that `W`, and so the
                // divisor, is above zero.
                let quotient = U256::from(self.net.get()) * U256::from(weight) / divisor;
                self.whole_units(u128::try_from(quotient).map_err(|_| SplitError::Overflow)?)
            }
            _ => Ok(BaseUnits::ZERO),
        }
    }

    /// The share of the house, whose weight may be wider than an account's.
    pub fn house_share(&self, weight: U256) -> Result<BaseUnits, SplitError> {
        if weight > self.weight_total {
            return Err(SplitError::WeightAboveTotal);
        }
        if weight.is_zero() {
            return Ok(BaseUnits::ZERO);
        }
        let product = U512::from(weight) * U512::from(self.net.get());
        let divisor = U512::from(self.weight_total) * U512::from(self.unit.get().get());
        self.whole_units(u128::try_from(product / divisor).map_err(|_| SplitError::Overflow)?)
    }

    /// What the split leaves over: `net - payouts - house_out`, and all of `net` where `W` is zero.
    ///
    /// Each share falls short of its true value by less than `q`, so that the carry of a split that left nobody out
    /// is below `positive_weights x q`; the house counts as one where it has weight. More is a defect and refused.
    pub fn carry_out(
        &self,
        payouts: BaseUnits,
        house_out: BaseUnits,
        positive_weights: u64,
    ) -> Result<BaseUnits, SplitError> {
        let shared = payouts.checked_add(house_out).map_err(|_| SplitError::PaidAboveNet)?;
        let carry = self.net.checked_sub(shared).map_err(|_| SplitError::PaidAboveNet)?;
        let payout_unit = self.unit.get();
        if self.weight_total.is_zero() {
            return if shared.is_zero() { Ok(carry) } else { Err(SplitError::WeightAboveTotal) };
        }
        if U256::from(carry.get()) >= carry_bound(positive_weights, self.unit) {
            return Err(SplitError::CarryAboveBound { carry, positive_weights, payout_unit });
        }
        Ok(carry)
    }

    /// What is shared out.
    pub const fn net(&self) -> BaseUnits {
        self.net
    }

    /// `W`.
    pub const fn weight_total(&self) -> U256 {
        self.weight_total
    }

    /// A share as a bug that is put in makes it: a rate of twelve decimals first, which is cut, then the weight's part.
    #[cfg(feature = "seeded-bugs")]
    fn payout_by_stages(&self, weight: u128) -> Result<BaseUnits, SplitError> {
        let scale = U256::from(1_000_000_000_000_u64);
        let rate = U256::from(self.net.get()) * scale / self.weight_total;
        let amount = rate * U256::from(weight) / scale / U256::from(self.unit.get().get());
        self.whole_units(u128::try_from(amount).map_err(|_| SplitError::Overflow)?)
    }

    fn whole_units(&self, quotient: u128) -> Result<BaseUnits, SplitError> {
        let units = quotient.checked_mul(self.unit.get().get()).ok_or(SplitError::Overflow)?;
        Ok(BaseUnits::new(units)?)
    }
}

/// What the carry of a split with `W` above zero stays below: `positive_weights x q`.
pub fn carry_bound(positive_weights: u64, unit: PayoutUnit) -> U256 {
    U256::from(positive_weights) * U256::from(unit.get().get())
}

/// The 256-bit product of two 128-bit numbers, as high and low half.
///
/// Nothing here can pass 2^128: a product of two 64-bit numbers leaves room for two more of them. It says `wrapping` so
/// that a build that checks for overflow does not check eight times for what can't be.
#[inline]
fn wide_product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let low = a0.wrapping_mul(b0);
    let cross = a0.wrapping_mul(b1).wrapping_add(low >> 64);
    let middle = a1.wrapping_mul(b0).wrapping_add(cross & LOW);
    let high = a1.wrapping_mul(b1).wrapping_add(cross >> 64).wrapping_add(middle >> 64);
    (high, (low & LOW) | (middle << 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(n: u128) -> BaseUnits {
        BaseUnits::new(n).unwrap()
    }

    #[test]
    fn fee_then_recovery_then_net() {
        let input = SplitInput {
            receipts: units(1_000_003),
            carry_in: units(7),
            house_in: units(50),
            fee: FeeBps::new(1_000).unwrap(),
            owed: units(900_000),
            payout_unit: PayoutUnit::ONE,
            weight_total: U256::from(1),
        };
        let terms = input.terms().unwrap();
        assert_eq!((terms.fee.get(), terms.recovery.get(), terms.net.get()), (100_000, 900_000, 60));
        // What is owed takes everything but what the house adds, and no more.
        let terms = SplitInput { owed: BaseUnits::MAX, ..input }.terms().unwrap();
        assert_eq!((terms.recovery.get(), terms.net.get()), (900_010, 50));
        assert_eq!(SplitInput { house_in: BaseUnits::MAX, ..input }.terms(), Err(SplitError::Overflow));
        assert_eq!(FeeBps::new(10_001), Err(SplitError::FeeAboveWhole(10_001)));
        assert_eq!(FeeBps::new(u32::MAX), Err(SplitError::FeeAboveWhole(u32::MAX)));
        assert_eq!(FeeBps::new(10_000).unwrap().of(BaseUnits::MAX), BaseUnits::MAX);
    }

    #[test]
    fn three_equal_weights_leave_one_unit_as_carry() {
        let splitter = Splitter::new(units(100), PayoutUnit::ONE, U256::from(3));
        assert_eq!(splitter.payout(1), Ok(units(33)));
        assert_eq!(splitter.carry_out(units(99), BaseUnits::ZERO, 3), Ok(units(1)));
        assert_eq!(splitter.carry_out(units(101), BaseUnits::ZERO, 3), Err(SplitError::PaidAboveNet));
        assert!(matches!(
            splitter.carry_out(units(66), BaseUnits::ZERO, 3),
            Err(SplitError::CarryAboveBound { positive_weights: 3, .. })
        ));
    }

    #[test]
    fn a_payout_is_a_multiple_of_the_payout_unit() {
        let splitter = Splitter::new(units(1_000), PayoutUnit::new(units(100)).unwrap(), U256::from(3));
        assert_eq!(splitter.payout(1), Ok(units(300)));
        assert_eq!(splitter.payout(3), Ok(units(1_000)));
        assert_eq!(splitter.carry_out(units(900), BaseUnits::ZERO, 3), Ok(units(100)));
    }

    #[test]
    fn without_weight_everything_is_carried() {
        let splitter = Splitter::new(units(5), PayoutUnit::ONE, U256::ZERO);
        assert_eq!(splitter.payout(0), Ok(BaseUnits::ZERO));
        assert_eq!(splitter.payout(1), Err(SplitError::WeightAboveTotal));
        assert_eq!(splitter.house_share(U256::ZERO), Ok(BaseUnits::ZERO));
        assert_eq!(splitter.house_share(U256::from(1)), Err(SplitError::WeightAboveTotal));
        assert_eq!(splitter.carry_out(BaseUnits::ZERO, BaseUnits::ZERO, 0), Ok(units(5)));
    }

    #[test]
    fn the_ends_of_the_numbers_are_split_exactly() {
        let all = Splitter::new(BaseUnits::MAX, PayoutUnit::ONE, U256::from(u128::MAX));
        assert_eq!(all.payout(u128::MAX), Ok(BaseUnits::MAX));
        assert_eq!(all.payout_by_division(u128::MAX), Ok(BaseUnits::MAX));
        // W x q past 2^256: every share of a 128-bit weight is below one unit.
        let coarse = Splitter::new(BaseUnits::MAX, PayoutUnit::new(BaseUnits::MAX).unwrap(), U256::MAX);
        assert_eq!(coarse.payout(u128::MAX), Ok(BaseUnits::ZERO));
        assert_eq!(coarse.house_share(U256::MAX), Ok(BaseUnits::MAX));
        // One reward unit more than weight: the reciprocal does not fit, the division answers.
        let tiny = Splitter::new(units(10), PayoutUnit::ONE, U256::from(3));
        assert_eq!(tiny.payout(2), Ok(units(6)));
    }

    #[test]
    fn the_wide_product_is_the_product() {
        for (a, b) in [(u128::MAX, u128::MAX), (u128::MAX, 2), (1 << 64, 1 << 64), (u128::MAX - 1, 1 << 127), (0, 9)] {
            let (high, low) = wide_product(a, b);
            assert_eq!((U256::from(high) << 128) + U256::from(low), U256::from(a) * U256::from(b), "{a} x {b}");
        }
    }
}
