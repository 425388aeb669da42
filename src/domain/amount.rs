//! Amounts: integers of base units. Everything that holds money is one of these newtypes; arithmetic is
//! checked, and no float or decimal ever holds an amount.

use std::fmt;
use std::str::FromStr;

use ruint::aliases::U256;

/// The largest amount that anything may hold: `2^127 - 1`, so that a difference always fits [`SignedUnits`].
pub const MAX_BASE_UNITS: u128 = i128::MAX as u128;

/// So many decimal digits always fit 64 bits, whose arithmetic is several times as fast.
const U64_DIGITS: usize = 19;

/// An amount of one asset, in its base units (uatom, planck, sun, yoctoNEAR, octa).
///
/// Always at most [`MAX_BASE_UNITS`]. The asset is known from the pool that the amount belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseUnits(u128);

/// A signed amount in base units: an account of the ledger that may be negative, or a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignedUnits(i128);

/// Why an amount could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The sum, product or literal is past [`MAX_BASE_UNITS`].
    #[error("the amount is past the largest that can be held, 2^127 - 1 base units")]
    Overflow,
    /// A subtraction would go below zero.
    #[error("the amount would go below zero")]
    Negative,
    /// The text is not a plain decimal integer without sign, spaces or leading zeros.
    #[error("an amount is a decimal integer of base units: digits only, no sign, no leading zero")]
    Malformed,
}

impl BaseUnits {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(MAX_BASE_UNITS);

    /// An amount of `units` base units; `Overflow` past [`MAX_BASE_UNITS`].
    pub const fn new(units: u128) -> Result<Self, AmountError> {
        if units > MAX_BASE_UNITS { Err(AmountError::Overflow) } else { Ok(Self(units)) }
    }

    /// An amount that fits 64 bits, which every amount type can hold.
    pub const fn from_u64(units: u64) -> Self {
        Self(units as u128)
    }

    /// The number of base units.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `Overflow`.
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).ok_or(AmountError::Overflow).and_then(Self::new)
    }

    /// The difference, or `Negative`.
    pub fn checked_sub(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_sub(other.0).map(Self).ok_or(AmountError::Negative)
    }

    /// The difference, or zero where it would be negative. For targets and headrooms, never for booking.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `floor(self x numerator / denominator)` through a 256-bit product. The rest stays with whoever the caller
    /// names. `Overflow` if the result does not fit or the denominator is zero.
    pub fn mul_div_floor(self, numerator: u128, denominator: u128) -> Result<Self, AmountError> {
        if denominator == 0 {
            return Err(AmountError::Overflow);
        }
        let product = U256::from(self.0) * U256::from(numerator);
        let quotient = product / U256::from(denominator);
        u128::try_from(quotient).map_err(|_| AmountError::Overflow).and_then(Self::new)
    }

    /// The sum of many, or `Overflow`.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, AmountError> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// What takes this amount away, as a signed one.
    pub const fn negated(self) -> SignedUnits {
        SignedUnits(-self.signed().0)
    }

    /// This amount as a signed one.
    pub const fn signed(self) -> SignedUnits {
        SignedUnits(self.0 as i128)
    }
}

impl fmt::Display for BaseUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BaseUnits {
    type Err = AmountError;

    /// Reads the wire form: a decimal integer without sign, spaces or leading zeros.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let canonical = text == "0" || (!text.starts_with('0') && !text.is_empty());
        if !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountError::Malformed);
        }
        if text.len() <= U64_DIGITS {
            return text.parse().map(Self::from_u64).map_err(|_| AmountError::Overflow);
        }
        text.parse::<u128>().map_err(|_| AmountError::Overflow).and_then(Self::new)
    }
}

impl SignedUnits {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A signed amount of `units` base units.
    pub const fn new(units: i128) -> Self {
        Self(units)
    }

    /// The number of base units.
    pub const fn get(self) -> i128 {
        self.0
    }

    /// The sum, or `Overflow`.
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountError::Overflow)
    }

    /// The difference, or `Overflow`.
    pub fn checked_sub(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_sub(other.0).map(Self).ok_or(AmountError::Overflow)
    }

    /// This amount where it is not negative, else zero.
    pub fn positive_part(self) -> BaseUnits {
        BaseUnits(self.0.max(0).unsigned_abs())
    }

    /// The amount if it is not negative, or `Negative`.
    pub fn unsigned(self) -> Result<BaseUnits, AmountError> {
        u128::try_from(self.0).map(BaseUnits).map_err(|_| AmountError::Negative)
    }
}

impl fmt::Display for SignedUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_canonical() {
        assert_eq!("0".parse(), Ok(BaseUnits::ZERO));
        assert_eq!(MAX_BASE_UNITS.to_string().parse(), Ok(BaseUnits::MAX));
        for bad in ["", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "١"] {
            assert_eq!(bad.parse::<BaseUnits>(), Err(AmountError::Malformed), "{bad:?}");
        }
        let past = (MAX_BASE_UNITS + 1).to_string();
        assert_eq!(past.parse::<BaseUnits>(), Err(AmountError::Overflow));
        assert_eq!("9".repeat(60).parse::<BaseUnits>(), Err(AmountError::Overflow));
    }

    #[test]
    fn a_product_past_128_bits_is_divided_exactly() {
        let nine_tenths = BaseUnits::MAX.mul_div_floor(9_000, 10_000);
        assert_eq!(nine_tenths.map(BaseUnits::get), Ok(153_127_065_114_422_308_558_518_573_344_295_695_154));
        assert_eq!(BaseUnits::MAX.mul_div_floor(3, 2), Err(AmountError::Overflow));
        assert_eq!(BaseUnits::MAX.mul_div_floor(1, 0), Err(AmountError::Overflow));
    }
}
