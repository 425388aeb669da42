//! Resource names: read here, written here.

use super::{Parsed, Path};
use crate::domain::ids::{AccountId, OperationId, PoolId, SourceId, TransferId, ValidatorId};
use crate::domain::period::parse_period_start;

/// The last part of a period's name, well formed: `2026-11-22` or `20261122T000000Z`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeriodName(Box<str>);

impl PeriodName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const POOL: &str = "pools/{pool}, such as pools/atom";
const VALIDATOR: &str = "pools/{pool}/validators/{validator}";
const PERIOD: &str = "pools/{pool}/periods/{period}, such as pools/atom/periods/2026-11-22";
const DISTRIBUTION: &str = "pools/{pool}/distributions/{period}, such as pools/atom/distributions/2026-11-22";
const PAYOUT: &str = "pools/{pool}/distributions/{period}/payouts/{account}";
const OPERATION: &str = "pools/{pool}/operations/{operation}";
const TRANSFER: &str = "pools/{pool}/transfers/{transfer}";
const SOURCE: &str = "sources/{source}, such as sources/ledger";
const ACCOUNT: &str = "accounts/{account}";
const POSITION: &str = "accounts/{account}/positions/{pool}, such as accounts/alice/positions/atom";
const APPROVAL: &str = "approvals/{approval}";

/// The longest name that can be one: an account and a validator are far below it.
const MAX_NAME_BYTES: usize = 512;

/// Reads a name by `read`, which gives `None` for what is not of the form `form`.
fn name<T>(path: &Path<'_>, text: &str, form: &str, read: impl FnOnce(&str) -> Option<T>) -> Parsed<T> {
    if text.is_empty() {
        return Err(path.missing());
    }
    let read = if text.len() > MAX_NAME_BYTES { None } else { read(text) };
    read.ok_or_else(|| path.wrong("NAME_MALFORMED", format!("is a name of the form {form}")))
}

/// The pool of a name and what follows its collection: `pools/atom/validators/x` is `atom` and `x`.
fn below_pool<'a>(text: &'a str, collection: &str) -> Option<(PoolId, &'a str)> {
    let (pool, rest) = text.strip_prefix("pools/")?.split_once('/')?;
    let rest = rest.strip_prefix(collection)?.strip_prefix('/')?;
    Some((PoolId::new(pool).ok()?, rest))
}

fn period_name(text: &str) -> Option<PeriodName> {
    parse_period_start(text).map(|_| PeriodName(text.into()))
}

fn account_id(text: &str) -> Option<AccountId> {
    AccountId::new(text).ok()
}

/// A pool.
pub fn pool(path: &Path<'_>, text: &str) -> Parsed<PoolId> {
    name(path, text, POOL, |text| PoolId::new(text.strip_prefix("pools/")?).ok())
}

/// A pool, or every pool.
pub fn optional_pool(path: &Path<'_>, text: &str) -> Parsed<Option<PoolId>> {
    (!text.is_empty()).then(|| pool(path, text)).transpose()
}

/// A validator of a pool.
pub fn validator(path: &Path<'_>, text: &str) -> Parsed<(PoolId, ValidatorId)> {
    name(path, text, VALIDATOR, |text| {
        let (pool, validator) = below_pool(text, "validators")?;
        Some((pool, ValidatorId::new(validator).ok()?))
    })
}

/// A period of a pool.
pub fn period(path: &Path<'_>, text: &str) -> Parsed<(PoolId, PeriodName)> {
    name(path, text, PERIOD, |text| {
        let (pool, period) = below_pool(text, "periods")?;
        Some((pool, period_name(period)?))
    })
}

/// A distribution of a pool, by its period.
pub fn distribution(path: &Path<'_>, text: &str) -> Parsed<(PoolId, PeriodName)> {
    name(path, text, DISTRIBUTION, |text| {
        let (pool, period) = below_pool(text, "distributions")?;
        Some((pool, period_name(period)?))
    })
}

/// A payout: pool, period and account.
pub fn payout(path: &Path<'_>, text: &str) -> Parsed<(PoolId, PeriodName, AccountId)> {
    name(path, text, PAYOUT, |text| {
        let (pool, rest) = below_pool(text, "distributions")?;
        let (period, rest) = rest.split_once('/')?;
        Some((pool, period_name(period)?, account_id(rest.strip_prefix("payouts/")?)?))
    })
}

/// An operation of a pool.
pub fn operation(path: &Path<'_>, text: &str) -> Parsed<(PoolId, OperationId)> {
    name(path, text, OPERATION, |text| {
        let (pool, operation) = below_pool(text, "operations")?;
        Some((pool, OperationId::new(operation).ok()?))
    })
}

/// A transfer of a pool.
pub fn transfer(path: &Path<'_>, text: &str) -> Parsed<(PoolId, TransferId)> {
    name(path, text, TRANSFER, |text| {
        let (pool, transfer) = below_pool(text, "transfers")?;
        Some((pool, TransferId::new(transfer).ok()?))
    })
}

/// A source.
pub fn source(path: &Path<'_>, text: &str) -> Parsed<SourceId> {
    name(path, text, SOURCE, |text| SourceId::new(text.strip_prefix("sources/")?).ok())
}

/// An account.
pub fn account(path: &Path<'_>, text: &str) -> Parsed<AccountId> {
    name(path, text, ACCOUNT, |text| account_id(text.strip_prefix("accounts/")?))
}

/// A position. An account may contain slashes, a pool may not: the name is read from its end.
pub fn position(path: &Path<'_>, text: &str) -> Parsed<(AccountId, PoolId)> {
    name(path, text, POSITION, |text| {
        let (account, pool) = text.strip_prefix("accounts/")?.rsplit_once("/positions/")?;
        Some((account_id(account)?, PoolId::new(pool).ok()?))
    })
}

/// An approval, by the last part of its name.
pub fn approval(path: &Path<'_>, text: &str) -> Parsed<String> {
    name(path, text, APPROVAL, |text| {
        let id = text.strip_prefix("approvals/")?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (!id.is_empty() && id.len() <= 64 && id.bytes().all(allowed)).then(|| id.to_owned())
    })
}

/// Names as they are written.
pub mod show {
    use std::fmt::Display;

    use super::{AccountId, OperationId, PoolId, SourceId, TransferId, ValidatorId};

    /// A pool.
    pub fn pool(pool: &PoolId) -> String {
        format!("pools/{pool}")
    }

    /// A validator of a pool.
    pub fn validator(pool: &PoolId, validator: &ValidatorId) -> String {
        format!("pools/{pool}/validators/{validator}")
    }

    /// A period of a pool, by the name of the period.
    pub fn period(pool: &PoolId, period: impl Display) -> String {
        format!("pools/{pool}/periods/{period}")
    }

    /// A distribution of a pool, by the name of its period.
    pub fn distribution(pool: &PoolId, period: impl Display) -> String {
        format!("pools/{pool}/distributions/{period}")
    }

    /// A payout, by the name of its period.
    pub fn payout(pool: &PoolId, period: impl Display, account: &AccountId) -> String {
        format!("pools/{pool}/distributions/{period}/payouts/{account}")
    }

    /// An operation of a pool.
    pub fn operation(pool: &PoolId, operation: &OperationId) -> String {
        format!("pools/{pool}/operations/{operation}")
    }

    /// A transfer of a pool.
    pub fn transfer(pool: &PoolId, transfer: &TransferId) -> String {
        format!("pools/{pool}/transfers/{transfer}")
    }

    /// A source.
    pub fn source(source: &SourceId) -> String {
        format!("sources/{source}")
    }

    /// An approval.
    pub fn approval(number: u64) -> String {
        format!("approvals/{number}")
    }

    /// A position.
    pub fn position(account: &AccountId, pool: &PoolId) -> String {
        format!("accounts/{account}/positions/{pool}")
    }
}
