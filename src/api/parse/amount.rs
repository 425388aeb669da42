//! Amounts and rates.

use rust_decimal::Decimal;

use super::{Parsed, Path, field};
use crate::domain::amount::{AmountError, BaseUnits};
use crate::domain::ids::AssetId;
use crate::pb::v1;

/// An amount with its asset.
pub fn amount(path: &Path<'_>, amount: Option<&v1::Amount>) -> Parsed<(AssetId, BaseUnits)> {
    let amount = amount.ok_or_else(|| path.missing())?;
    let asset = field::asset(&path.field("asset"), &amount.asset)?;
    Ok((asset, base_units(&path.field("base_units"), &amount.base_units)?))
}

/// An amount of the asset that it has to be of.
pub fn amount_of(path: &Path<'_>, asset: &AssetId, given: Option<&v1::Amount>) -> Parsed<BaseUnits> {
    let (named, units) = amount(path, given)?;
    if named != *asset {
        let description = format!("is an amount of {named}; one of {asset} belongs here");
        return Err(path.field("asset").wrong("ASSET_MISMATCH", description));
    }
    Ok(units)
}

/// An amount of the asset that it has to be of, or none.
pub fn optional_amount_of(path: &Path<'_>, asset: &AssetId, given: Option<&v1::Amount>) -> Parsed<Option<BaseUnits>> {
    given.is_some().then(|| amount_of(path, asset, given)).transpose()
}

/// A number of base units.
pub fn base_units(path: &Path<'_>, text: &str) -> Parsed<BaseUnits> {
    if text.is_empty() {
        return Err(path.missing());
    }
    text.parse().map_err(|error: AmountError| {
        let negative = text.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && is_digits(rest));
        let (reason, description) = match error {
            AmountError::Overflow => ("AMOUNT_OVERFLOW", "is past the largest amount, 2^127 - 1 base units"),
            AmountError::Negative | AmountError::Malformed if negative => ("AMOUNT_NEGATIVE", "must not be negative"),
            AmountError::Negative | AmountError::Malformed => {
                ("AMOUNT_MALFORMED", "is an integer of base units: decimal digits, no sign, no leading zero, no spaces")
            }
        };
        path.wrong(reason, description)
    })
}

/// A number of base units in a stream, where a figure past the largest amount stands for the largest one: the book then
/// rejects that one event as too large, and the feed goes on.
pub(super) fn saturating_base_units(path: &Path<'_>, text: &str) -> Parsed<BaseUnits> {
    if text.len() > 39 && !text.starts_with('0') && is_digits(text) {
        return Ok(BaseUnits::MAX);
    }
    base_units(path, text).or_else(|wrong| match wrong.reason {
        "AMOUNT_OVERFLOW" => Ok(BaseUnits::MAX),
        _ => Err(wrong),
    })
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A rate as a plain decimal, from 0 to `most`.
pub fn rate(path: &Path<'_>, text: &str, most: Decimal) -> Parsed<Decimal> {
    if text.is_empty() {
        return Err(path.missing());
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let ends = text.starts_with('.') || text.ends_with('.');
    let rate = Decimal::from_str_exact(text).ok().filter(|_| plain && !ends);
    let rate = rate.ok_or_else(|| {
        path.wrong("RATE_MALFORMED", "is a plain decimal of at most 28 digits, such as 0.05: no sign, no exponent")
    })?;
    if rate > most {
        return Err(path.wrong("RATE_OUT_OF_RANGE", format!("is a rate from 0 to {most}")));
    }
    Ok(rate)
}

/// A rate, or none.
pub fn optional_rate(path: &Path<'_>, text: &str, most: Decimal) -> Parsed<Option<Decimal>> {
    (!text.is_empty()).then(|| rate(path, text, most)).transpose()
}
