//! Amounts on the wire and before human eyes. Display only: nothing is computed from what is written here.

use crate::config::Preset;
use crate::pb::v1;

/// `units` base units of an asset with so many decimals, with at most six of them, cut off and not rounded.
pub(super) fn shown(units: u128, decimals: u32) -> String {
    let one = 10_u128.saturating_pow(decimals);
    let (whole, part) = (units / one, units % one);
    let digits = format!("{part:0width$}", width = decimals as usize);
    let digits = digits.get(..6.min(digits.len())).unwrap_or_default().trim_end_matches('0');
    let whole = grouped(&whole.to_string());
    if decimals == 0 || digits.is_empty() { whole } else { format!("{whole}.{digits}") }
}

/// A signed amount likewise, from its digits on the wire.
pub(super) fn shown_signed(text: &str, decimals: u32) -> String {
    match text.strip_prefix('-') {
        Some(digits) => format!("-{}", shown(digits.parse().unwrap_or(0), decimals)),
        None => shown(text.parse().unwrap_or(0), decimals),
    }
}

/// Digits in groups of three.
fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An amount for the wire.
pub(super) fn wire(asset: &str, units: u128) -> v1::Amount {
    v1::Amount { asset: asset.to_owned(), base_units: units.to_string() }
}

/// The base units of an amount from the wire; an empty one is none.
pub(super) fn units(amount: Option<&v1::Amount>) -> u128 {
    amount.and_then(|amount| amount.base_units.parse().ok()).unwrap_or(0)
}

/// The base units of a signed amount from the wire; an empty one is none.
pub(super) fn signed(amount: Option<&v1::SignedAmount>) -> i128 {
    amount.and_then(|amount| amount.base_units.parse().ok()).unwrap_or(0)
}

/// One whole token in base units.
pub(super) fn one_token(preset: Preset) -> u128 {
    10_u128.saturating_pow(preset.decimals())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_exactly_and_cut_at_six_decimals() {
        assert_eq!(shown(0, 6), "0");
        assert_eq!(shown(1, 6), "0.000001");
        assert_eq!(shown(1_234_500_000, 6), "1,234.5");
        assert_eq!(shown(999_999_999, 8), "9.999999");
        assert_eq!(shown(79_228_162_514_264_337_593_543_950_336, 24), "79,228.162514");
        assert_eq!(shown(u128::MAX, 24), "340,282,366,920,938.463463");
        assert_eq!(shown(42, 0), "42");
        assert_eq!(shown_signed("-1500000", 6), "-1.5");
    }

    #[test]
    fn what_is_absent_on_the_wire_is_nothing() {
        assert_eq!(units(None), 0);
        assert_eq!(units(Some(&wire("ATOM", 7))), 7);
        let negative = v1::SignedAmount { asset: "ATOM".to_owned(), base_units: "-7".to_owned() };
        assert_eq!(signed(Some(&negative)), -7);
    }
}
