//! Annual rates for showing: what was paid on a time weight, as a decimal. No amount ever follows from one.

use ruint::aliases::{U256, U512};
use rust_decimal::Decimal;

use super::time::YEAR_SECONDS;

/// The decimals that are shown; what lies below is cut off.
const SCALE: u32 = 10;

/// The annual rate at which `weight` (base units x seconds) earns `paid` base units: 0.14 is 14 per cent. `None` without
/// weight, or where the rate is past what a decimal holds.
pub fn annual_rate(paid: U256, weight: U256) -> Option<Decimal> {
    if weight.is_zero() {
        return None;
    }
    let scaled = U512::from(paid) * U512::from(YEAR_SECONDS) * U512::from(10_u64.pow(SCALE)) / U512::from(weight);
    let scaled = i128::try_from(scaled).ok()?;
    Decimal::try_from_i128_with_scale(scaled, SCALE).ok().map(|rate| rate.normalize())
}

/// What was paid on a time weight (base units x seconds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaidOn {
    /// Base units.
    pub paid: U256,
    /// Base units x seconds.
    pub weight: U256,
}

impl PaidOn {
    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        Self { paid: self.paid.saturating_add(other.paid), weight: self.weight.saturating_add(other.weight) }
    }

    /// The annual rate, for showing.
    pub fn rate(&self) -> Option<Decimal> {
        annual_rate(self.paid, self.weight)
    }

    /// Whether the annual rate is above `limit`, exactly. Without weight there is no rate.
    pub fn is_above(&self, limit: Decimal) -> bool {
        let (numerator, denominator) = fraction(limit);
        let paid = U512::from(self.paid) * U512::from(YEAR_SECONDS) * denominator;
        !self.weight.is_zero() && paid > U512::from(self.weight) * numerator
    }

    /// Whether the rate differs from `before`'s by more than the share `limit` of it, exactly; also where it is another
    /// one than nothing. Without a weight on either side there is nothing to compare.
    pub fn differs_by_more_than(&self, limit: Decimal, before: &Self) -> bool {
        if self.weight.is_zero() || before.weight.is_zero() {
            return false;
        }
        // Payments have 128 bits and weights 192, so that the products keep below 512 with the limit's 94.
        let (numerator, denominator) = fraction(limit);
        let (now, then) =
            (U512::from(self.paid) * U512::from(before.weight), U512::from(before.paid) * U512::from(self.weight));
        let difference = if now > then { now - then } else { then - now };
        difference.saturating_mul(denominator) > then.saturating_mul(numerator)
    }
}

/// A rate of zero or more as a fraction.
fn fraction(rate: Decimal) -> (U512, U512) {
    (U512::from(rate.mantissa().max(0).unsigned_abs()), U512::from(10_u64).pow(U512::from(rate.scale())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_compared_exactly() {
        let on = |paid: u64, weight: u64| PaidOn { paid: U256::from(paid), weight: U256::from(weight) };
        let five = on(5, 100 * YEAR_SECONDS);
        assert!(!five.is_above(Decimal::new(5, 2)));
        assert!(five.is_above(Decimal::new(4_999_999_999_999_999, 17)));
        assert!(PaidOn { weight: five.weight - U256::from(1), ..five }.is_above(Decimal::new(5, 2)));
        assert!(!on(5, 0).is_above(Decimal::ZERO));
        // A third less and a third more than 6.
        let six = on(6, 50 * YEAR_SECONDS);
        let third = Decimal::new(33_333, 5);
        assert!(on(4, 50 * YEAR_SECONDS).differs_by_more_than(third, &six));
        assert!(on(16, 100 * YEAR_SECONDS).differs_by_more_than(third, &six));
        assert!(!on(4, 50 * YEAR_SECONDS).differs_by_more_than(Decimal::new(33_334, 5), &six));
        assert!(!on(12, 50 * YEAR_SECONDS).differs_by_more_than(Decimal::ONE, &six), "twice is one more");
        assert!(on(0, 50).differs_by_more_than(Decimal::new(99, 2), &six));
        assert!(on(1, 50).differs_by_more_than(Decimal::ONE, &on(0, 50)));
        assert!(!on(1, 50).differs_by_more_than(Decimal::ZERO, &on(9, 0)));
    }

    #[test]
    fn five_on_a_hundred_for_a_year_is_five_per_cent() {
        let year_of_a_hundred = U256::from(100 * YEAR_SECONDS);
        assert_eq!(annual_rate(U256::from(5), year_of_a_hundred).unwrap().to_string(), "0.05");
        assert_eq!(annual_rate(U256::ZERO, year_of_a_hundred), Some(Decimal::ZERO));
        assert_eq!(annual_rate(U256::from(5), U256::ZERO), None);
        assert_eq!(annual_rate(U256::from(1), U256::from(3 * YEAR_SECONDS)).unwrap().to_string(), "0.3333333333");
        assert_eq!(annual_rate(U256::MAX, U256::from(1)), None);
    }
}
