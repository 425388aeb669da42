//! What single persons have moved in a pool in a day, by kind of change: many small changes are one large one, and take a
//! second person past the same limit. It is counted in the commit of each change, whoever made it.

use crate::domain::amount::BaseUnits;
use crate::domain::time::{DAY_SECONDS, UnixSeconds};
use crate::store::keys;

use super::control::Change;
use super::{AppError, Request};

/// What was moved on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moved {
    /// Days since 1970-01-01, UTC.
    day: i64,
    sum: BaseUnits,
}

impl Moved {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (day, sum) = bytes.split_first_chunk::<8>()?;
        let sum = BaseUnits::new(u128::from_be_bytes(sum.try_into().ok()?)).ok()?;
        Some(Self { day: i64::from_be_bytes(*day), sum })
    }

    fn encode(self) -> Vec<u8> {
        [self.day.to_be_bytes().as_slice(), &self.sum.get().to_be_bytes()].concat()
    }
}

fn day_of(at: UnixSeconds) -> i64 {
    at.get().div_euclid(DAY_SECONDS as i64)
}

fn key(request: &Request) -> Vec<u8> {
    keys::counter(&format!("alone/{}", request.method))
}

/// What requests of this kind have moved so far on the day of the change, each for one person.
pub(super) async fn moved(change: &Change<'_>, request: &Request) -> Result<BaseUnits, AppError> {
    let Some(bytes) = change.read_bytes(&key(request)).await? else { return Ok(BaseUnits::ZERO) };
    let moved = Moved::decode(&bytes);
    let moved = moved.ok_or_else(|| AppError::Broken(format!("what {} has moved can't be read", request.method)))?;
    // Where the clock was set back, what was counted later counts all the same.
    Ok(if moved.day < day_of(change.at()) { BaseUnits::ZERO } else { moved.sum })
}

/// Keeps within the change that it brings the day's sum to `sum`.
pub(super) fn keep(change: &mut Change<'_>, request: &Request, sum: BaseUnits) {
    let moved = Moved { day: day_of(change.at()), sum };
    change.put_bytes(key(request), &moved.encode());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_comes_back() {
        let moved = Moved { day: -3, sum: BaseUnits::MAX };
        assert_eq!(Moved::decode(&moved.encode()), Some(moved));
        assert_eq!(Moved::decode(&moved.encode()[..23]), None);
        assert_eq!([-1, 0, 86_399, 86_400].map(|at| day_of(UnixSeconds::new(at))), [-1, 0, 0, 1]);
    }
}
