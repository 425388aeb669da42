//! Adjustments: what events that reach into frozen periods change in the weight of an open one, and what no period had
//! left to give.

use std::fmt;

use ruint::aliases::U256;

/// What was added to one weight and taken from it, in base units x seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjusted {
    /// Added.
    pub up: u128,
    /// Taken.
    pub down: u128,
}

/// The same over many weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdjustedSum {
    /// Added.
    pub up: U256,
    /// Taken.
    pub down: U256,
}

impl AdjustedSum {
    /// Adds what happened to one weight. 256 bits hold 2^128 of the largest.
    pub fn add(&mut self, one: Adjusted) {
        self.up += U256::from(one.up);
        self.down += U256::from(one.down);
    }

    /// The second equation: whether `sum(weight) = integral of eligible_total + adjustments applied`.
    pub fn explains(&self, weights: U256, integral: U256) -> bool {
        weights.checked_add(self.down) == integral.checked_add(self.up)
    }
}

/// What a position was paid for in frozen periods and, as came out too late, had not earned: base units x seconds that
/// its next weights still have to give. Mostly zero. It outgrows 128 bits no sooner than a weight does, and 256 never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rest(U256);

impl Rest {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);

    /// A rest of so many base units x seconds.
    pub const fn new(weight: U256) -> Self {
        Self(weight)
    }

    /// How many base units x seconds.
    pub const fn get(self) -> U256 {
        self.0
    }

    /// Whether nothing is left to collect.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Collects from `weight` what it has to give, and returns how much that was: at most `weight`.
    pub fn collect(&mut self, weight: u128) -> u128 {
        let paid = u128::try_from(self.0).map_or(weight, |owed| owed.min(weight));
        self.0 -= U256::from(paid);
        paid
    }

    /// Puts a signed difference into a weight. What raises it goes to the rest first; what lowers it below zero is added
    /// to the rest. `weight - rest` changes by exactly `difference`. Where it rises, `weight + difference` must fit.
    pub fn adjust(&mut self, weight: &mut u128, difference: i128) -> Adjusted {
        let size = difference.unsigned_abs();
        if difference < 0 {
            let down = size.min(*weight);
            *weight -= down;
            self.0 += U256::from(size - down);
            Adjusted { up: 0, down }
        } else {
            let up = size - self.collect(size);
            *weight += up;
            Adjusted { up, down: 0 }
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_weight_cannot_give_is_owed_and_paid_first() {
        let (mut weight, mut rest) = (100, Rest::ZERO);
        assert_eq!(rest.adjust(&mut weight, -130), Adjusted { up: 0, down: 100 });
        assert_eq!((weight, rest), (0, Rest::new(U256::from(30))));
        assert_eq!(rest.adjust(&mut weight, 20), Adjusted::default(), "all of it is owed");
        assert_eq!(rest.adjust(&mut weight, 25), Adjusted { up: 15, down: 0 });
        assert_eq!((weight, rest), (15, Rest::ZERO));
    }

    #[test]
    fn a_rest_past_128_bits_is_collected_piece_by_piece() {
        let mut rest = Rest::new(U256::from(u128::MAX) + U256::from(7));
        assert_eq!(rest.collect(u128::MAX), u128::MAX);
        assert_eq!(rest.collect(u128::MAX), 7);
        assert!(rest.is_zero());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_a_weight_and_its_rest(
            start in 0u128..1 << 90, differences in proptest::collection::vec(-(1i128 << 100)..1 << 100, 0..20),
        ) {
            let (mut weight, mut rest, mut sum) = (start, Rest::ZERO, AdjustedSum::default());
            for difference in &differences {
                sum.add(rest.adjust(&mut weight, *difference));
            }
            let exact: i128 = start.cast_signed() + differences.iter().sum::<i128>();
            let owed = u128::try_from(rest.get()).unwrap().cast_signed();
            prop_assert_eq!(weight.cast_signed() - owed, exact);
            prop_assert!(sum.explains(U256::from(weight), U256::from(start)));
        }
    }
}
