//! Shares of a whole for people, as decimals. No amount is ever computed from one.

use ruint::aliases::U256;
use rust_decimal::Decimal;

/// Decimals of a share.
const DECIMALS: u32 = 6;

/// `part / whole`, floored to six decimals; `None` where the whole is nothing, or the share is past all showing.
pub fn share(part: U256, whole: U256) -> Option<Decimal> {
    if whole.is_zero() {
        return None;
    }
    let scaled = part.checked_mul(U256::from(10_u64.pow(DECIMALS)))?.checked_div(whole)?;
    let scaled = i128::try_from(u128::try_from(scaled).ok()?).ok()?;
    Decimal::try_from_i128_with_scale(scaled, DECIMALS).ok().map(|share| share.normalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(n: u128) -> U256 {
        U256::from(n)
    }

    #[test]
    fn a_share_is_floored_and_exact() {
        assert_eq!(share(wide(1), wide(3)).map(|share| share.to_string()), Some("0.333333".to_owned()));
        assert_eq!(share(wide(3), wide(2)).map(|share| share.to_string()), Some("1.5".to_owned()));
        assert_eq!(share(wide(0), wide(2)).map(|share| share.to_string()), Some("0".to_owned()));
        assert_eq!(share(wide(1), wide(0)), None);
        assert_eq!(share(U256::MAX, wide(1)), None);
    }
}
