//! Single fields: ids, texts, times, numbers, enums, hashes.

use std::ops::RangeInclusive;

use prost_types::Timestamp;

use super::{Parsed, Path};
use crate::domain::ids::{
    AccountId, AssetId, ChainId, IdError, OperatorGroup, PoolId, RequestId, SourceId, TransactionId, ValidatorId,
};
use crate::domain::time::UnixSeconds;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident -> $id:ident, $reason:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(path: &Path<'_>, text: &str) -> Parsed<$id> {
            if text.is_empty() {
                return Err(path.missing());
            }
            $id::new(text).map_err(|IdError { rule, .. }| path.wrong($reason, format!("is {rule}")))
        }
    )*};
}

ids! {
    /// A customer, by the ledger service's own id.
    account -> AccountId, "ACCOUNT_MALFORMED";
    /// An asset.
    asset -> AssetId, "ASSET_MALFORMED";
    /// The last part of a pool's name.
    pool_id -> PoolId, "POOL_MALFORMED";
    /// A chain.
    chain -> ChainId, "CHAIN_MALFORMED";
    /// The last part of a source's name.
    source_id -> SourceId, "SOURCE_MALFORMED";
    /// A validator's address.
    validator_address -> ValidatorId, "VALIDATOR_MALFORMED";
    /// A transaction, by the chain's hash.
    transaction -> TransactionId, "TRANSACTION_MALFORMED";
    /// The caller's id of a mutation.
    request_id -> RequestId, "REQUEST_ID_MALFORMED";
}

/// An operator group, or none.
pub fn optional_group(path: &Path<'_>, text: &str) -> Parsed<Option<OperatorGroup>> {
    let group = (!text.is_empty()).then(|| OperatorGroup::new(text)).transpose();
    group.map_err(|IdError { rule, .. }| path.wrong("OPERATOR_GROUP_MALFORMED", format!("is {rule}")))
}

/// An asset to filter by, or none.
pub fn optional_asset(path: &Path<'_>, text: &str) -> Parsed<Option<AssetId>> {
    (!text.is_empty()).then(|| asset(path, text)).transpose()
}

/// A time, floored to whole seconds.
pub fn time(path: &Path<'_>, time: Option<&Timestamp>) -> Parsed<UnixSeconds> {
    let time = time.ok_or_else(|| path.missing())?;
    let within = (-62_135_596_800..=253_402_300_799).contains(&time.seconds);
    if !within || !(0..=999_999_999).contains(&time.nanos) {
        let description = "is a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z";
        return Err(path.wrong("TIME_MALFORMED", description));
    }
    Ok(UnixSeconds::new(time.seconds))
}

/// A time, or none.
pub fn optional_time(path: &Path<'_>, given: Option<&Timestamp>) -> Parsed<Option<UnixSeconds>> {
    given.is_some().then(|| time(path, given)).transpose()
}

/// A text for people, of so many characters. Nothing in it can forge a line of a log.
pub fn text(path: &Path<'_>, text: &str, characters: RangeInclusive<usize>) -> Parsed<String> {
    if text.is_empty() && *characters.start() > 0 {
        return Err(path.missing());
    }
    let (least, most) = (characters.start(), characters.end());
    if !characters.contains(&text.chars().count()) {
        return Err(path.wrong("TEXT_LENGTH", format!("has {least} to {most} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(path.wrong("TEXT_MALFORMED", "has no control characters, line ends included"));
    }
    Ok(text.to_owned())
}

/// A number within its bounds.
pub fn within<N: PartialOrd + std::fmt::Display>(path: &Path<'_>, number: N, bounds: RangeInclusive<N>) -> Parsed<N> {
    if !bounds.contains(&number) {
        let (least, most) = bounds.into_inner();
        return Err(path.wrong("NUMBER_OUT_OF_RANGE", format!("is {number}; it has to be from {least} to {most}")));
    }
    Ok(number)
}

/// A value of an enum, other than UNSPECIFIED.
pub fn known<E: TryFrom<i32>>(path: &Path<'_>, value: i32) -> Parsed<E> {
    if value == 0 {
        return Err(path.missing());
    }
    E::try_from(value).map_err(|_| path.wrong("ENUM_UNKNOWN", format!("has no value {value} in this release")))
}

/// Values of an enum to filter by, none of them UNSPECIFIED.
pub fn all_known<E: TryFrom<i32>>(path: &Path<'_>, values: &[i32]) -> Parsed<Vec<E>> {
    values.iter().enumerate().map(|(place, value)| known(&path.item(place), *value)).collect()
}

/// A hash of 32 bytes.
pub fn hash(path: &Path<'_>, bytes: &[u8]) -> Parsed<[u8; 32]> {
    if bytes.is_empty() {
        return Err(path.missing());
    }
    let description = || format!("has 32 bytes, not {}", bytes.len());
    <[u8; 32]>::try_from(bytes).map_err(|_| path.wrong("HASH_MALFORMED", description()))
}
