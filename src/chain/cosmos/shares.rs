//! The share arithmetic of x/staking and x/distribution, digit by digit: pure, and called by the readers of this room and
//! by whoever builds an undelegation.
//!
//! A validator has tokens and shares; a delegator has shares, and they are worth `shares x tokens / all shares`. The chain
//! writes shares, rates and rewards with 18 decimals (`LegacyDec`), in gRPC as whole numbers of their last digit. What is
//! rounded how stands in `x/staking/types/validator.go`, `x/staking/keeper/delegation.go` and `math/legacy_dec.go` of the
//! Cosmos SDK 0.53.

use std::fmt;

use ruint::UintTryFrom;
use ruint::aliases::{U256, U512};
use rust_decimal::Decimal;

use crate::domain::amount::BaseUnits;

/// The decimals of a `LegacyDec`.
const DECIMALS: u32 = 18;

/// One, in the last digits of a `LegacyDec`.
const ONE: u64 = 1_000_000_000_000_000_000;

/// What one operation may lose of the stake that it touches at one validator, in base units, beyond what its effects say.
///
/// - Delegating `a` issues `floor(shares x a / tokens)` in the 18th digit, which are worth less than `a` by less than one
///   base unit, and a delegation's worth is floored when it is read: 1 at most.
/// - Undelegating `a` removes shares that are worth at most `a`, and the chain pays out the floor of that. The fraction of a
///   unit that is left stays with the validator for all its delegators: 1 at most, as read.
/// - A redelegation is both in turn, and its event names the amount that was asked and not the one that moved, which may be
///   1 less: 2 at most at the receiving validator, and none at the other.
pub const ROUNDING_UNITS: BaseUnits = BaseUnits::from_u64(2);

/// Why a number of the chain was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// It is not what it should be.
    #[error("{0:?} is no number of the chain's")]
    Malformed(String),
    /// It is beyond every amount that can be.
    #[error("an amount is beyond all bounds")]
    Overflow,
}

/// A number that is not negative, with 18 decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimals(U256);

impl Decimals {
    /// None.
    pub const ZERO: Self = Self(U256::ZERO);

    /// As gRPC writes it: the digits of the number times 10^18.
    pub fn from_wire(digits: &str) -> Result<Self, NumberError> {
        let malformed = || NumberError::Malformed(shown(digits));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        U256::from_str_radix(digits, 10).map(Self).map_err(|_| malformed())
    }

    /// As events and JSON write it: `12.5`, with 18 digits after the point at most.
    pub fn from_text(text: &str) -> Result<Self, NumberError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let missing = (DECIMALS as usize).checked_sub(fraction.len());
        let missing = missing.filter(|_| !whole.is_empty()).ok_or_else(|| NumberError::Malformed(shown(text)))?;
        Self::from_wire(&format!("{whole}{fraction}{}", "0".repeat(missing)))
    }

    /// The whole base units of it: what the chain pays of a reward, the rest going to the community pool.
    pub fn truncated(self) -> Result<BaseUnits, NumberError> {
        units(U512::from(self.0) / U512::from(ONE))
    }

    /// As a rate, exactly.
    pub fn rate(self) -> Result<Decimal, NumberError> {
        let digits = i128::try_from(self.0).map_err(|_| NumberError::Overflow)?;
        let rate = Decimal::try_from_i128_with_scale(digits, DECIMALS).map_err(|_| NumberError::Overflow)?;
        Ok(rate.normalize())
    }

    /// Whether there is nothing of it.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl fmt::Display for Decimals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = U256::from(ONE);
        let digits = (self.0 % one).to_string();
        write!(f, "{}.{digits:0>18}", self.0 / one)
    }
}

/// A base amount as the chain writes it.
pub fn base_units(digits: &str) -> Result<BaseUnits, NumberError> {
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u128>().ok()).flatten();
    let number = number.ok_or_else(|| NumberError::Malformed(shown(digits)))?;
    BaseUnits::new(number).map_err(|_| NumberError::Overflow)
}

/// What shares at one validator are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    /// Everything staked with it.
    pub tokens: BaseUnits,
    /// All shares of that.
    pub shares: Decimals,
}

impl ExchangeRate {
    /// What `shares` of ours are worth, as the chain says it: `LegacyDec.Quo` to the nearest 18th digit (a half to the even
    /// one), then floored (`TokensFromShares(..).TruncateInt()`). Of a validator without shares, nothing.
    pub fn worth(self, shares: Decimals) -> Result<BaseUnits, NumberError> {
        if self.shares.is_zero() {
            return if shares.is_zero() { Ok(BaseUnits::ZERO) } else { Err(NumberError::Overflow) };
        }
        let one = U512::from(ONE);
        let product = U512::from(shares.0).checked_mul(U512::from(self.tokens.get()));
        let product = product.and_then(|product| product.checked_mul(one)).and_then(|product| product.checked_mul(one));
        // Cut off after 36 decimals first, and rounded to 18 then, as the chain does it.
        let fine = product.ok_or(NumberError::Overflow)? / U512::from(self.shares.0);
        let (whole, rest, half) = (fine / one, fine % one, U512::from(ONE / 2));
        let up = rest > half || (rest == half && whole.bit(0));
        units((whole + U512::from(u8::from(up))) / one)
    }

    /// How many shares the chain takes `amount` for: floored in the 18th digit (`SharesFromTokens`). `None` where the
    /// validator has no tokens left, of which nobody can move anything.
    pub fn shares_of(self, amount: BaseUnits) -> Option<Decimals> {
        if self.tokens.is_zero() {
            return None;
        }
        let shares = U512::from(self.shares.0) * U512::from(amount.get()) / U512::from(self.tokens.get());
        U256::uint_try_from(shares).ok().map(Decimals)
    }

    /// The most that may be asked for of `shares` of ours, which leaves less than one base unit behind. It is what they are
    /// worth, or one less: where that was rounded up, the chain would take it for more shares than there are and refuse
    /// (`ValidateUnbondAmount`). Shares that are worth less than a unit are worth nothing.
    pub fn most_of(self, shares: Decimals) -> Result<BaseUnits, NumberError> {
        let worth = self.worth(shares)?;
        let fits = self.shares_of(worth).is_some_and(|needed| needed <= shares);
        Ok(if fits { worth } else { worth.saturating_sub(BaseUnits::from_u64(1)) })
    }
}

fn units(number: U512) -> Result<BaseUnits, NumberError> {
    let number = u128::try_from(number).map_err(|_| NumberError::Overflow)?;
    BaseUnits::new(number).map_err(|_| NumberError::Overflow)
}

/// What a message shows of a text from outside.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
