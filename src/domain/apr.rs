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

#[cfg(test)]
mod tests {
    use super::*;

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
