//! Messages of `softstake.adapter.v1` and `softstake.chain.v1` as values of the contract, and back.
//!
//! Reading is total: what is malformed is named by its field's path, and nothing is put in its place.

mod descriptor;
mod effect;
mod lookup;
mod observation;
#[cfg(test)]
mod tests;
mod transaction;

pub(super) use self::descriptor::{descriptor, write_descriptor};
pub(super) use self::effect::{effects, write_effects};
pub(super) use self::lookup::{lookup, write_lookup};
pub(super) use self::observation::{observation, write_observation};
pub(in crate::chain) use self::transaction::write_contents;
pub(super) use self::transaction::{assembled, operation, signed, unsigned, write_operation, write_signed};

use rust_decimal::Decimal;

use crate::chain::ChainError;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{IdError, OperationId, TransactionId, TransferId, ValidatorId};

/// The longest address that is taken, in bytes.
const MAX_ADDRESS_BYTES: usize = 256;

/// A field that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub(super) struct Malformed {
    path: String,
    problem: String,
}

impl Malformed {
    pub(super) fn new(path: &str, problem: impl ToString) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }

    /// The same, seen from the message around it.
    fn within(self, around: &str) -> Self {
        Self { path: format!("{around}.{}", self.path), problem: self.problem }
    }
}

impl From<Malformed> for ChainError {
    fn from(malformed: Malformed) -> Self {
        Self::Untrusted(malformed.to_string())
    }
}

pub(super) type Read<T> = Result<T, Malformed>;

/// Reads what has to be there.
fn required<T, R>(path: &str, value: Option<T>, read: impl FnOnce(T) -> Read<R>) -> Read<R> {
    let value = value.ok_or_else(|| Malformed::new(path, "is missing"))?;
    read(value).map_err(|malformed| malformed.within(path))
}

/// Reads each of a list.
fn each<T, R>(path: &str, values: Vec<T>, read: impl Fn(T) -> Read<R>) -> Read<Vec<R>> {
    let numbered = values.into_iter().enumerate();
    numbered.map(|(at, value)| read(value).map_err(|malformed| malformed.within(&format!("{path}[{at}]")))).collect()
}

fn name<T>(path: &str, text: &str, read: impl Fn(&str) -> Result<T, IdError>) -> Read<T> {
    read(text).map_err(|error| Malformed::new(path, error))
}

/// The operation's id.
pub(super) fn operation_id(text: &str) -> Read<OperationId> {
    name("operation_id", text, OperationId::new)
}

fn validator(path: &str, text: &str) -> Read<ValidatorId> {
    name(path, text, ValidatorId::new)
}

fn transaction_id(path: &str, text: &str) -> Read<TransactionId> {
    name(path, text, TransactionId::new)
}

fn transfer(path: &str, text: &str) -> Read<TransferId> {
    name(path, text, TransferId::new)
}

fn amount(path: &str, text: &str) -> Read<BaseUnits> {
    text.parse().map_err(|error| Malformed::new(path, error))
}

fn address(path: &str, text: String) -> Read<String> {
    if text.is_empty() || text.len() > MAX_ADDRESS_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Malformed::new(path, "an address is 1 to 256 bytes of printable ASCII"));
    }
    Ok(text)
}

/// A share from 0 to 1.
fn share(path: &str, text: &str) -> Read<Decimal> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let share = Decimal::from_str_exact(text).ok().filter(|share| digits && *share <= Decimal::ONE);
    share.ok_or_else(|| Malformed::new(path, "a share is a decimal from 0 to 1"))
}

/// Bytes that have to be some.
fn some(path: &str, bytes: Vec<u8>) -> Read<Vec<u8>> {
    if bytes.is_empty() { Err(Malformed::new(path, "is empty")) } else { Ok(bytes) }
}
