//! Full snapshots of a source: how a difference between its ledger and the positions is explained.

use super::amount::BaseUnits;
use super::feed::{RejectReason, SourceNumber};
use super::ids::AccountId;
use super::names::stable_names;
use super::time::UnixSeconds;

/// What the book holds of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBalance {
    /// The available balance.
    pub balance: BaseUnits,
    /// The source that owns the position; `None` while only enrolments were seen.
    pub owner: Option<SourceNumber>,
    /// The time of the last event.
    pub last_at: UnixSeconds,
    /// The last sequence of its source that was accepted; 0 before the first.
    pub last_sequence: u64,
}

/// A position that a snapshot sees differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDifference {
    /// The pool's number.
    pub pool: u16,
    /// Whose.
    pub account: AccountId,
    /// The balance in the snapshot; `None` where it does not name the account, which stands for zero.
    pub snapshot: Option<BaseUnits>,
    /// The position; `None` where the book does not know the account.
    pub held: Option<HeldBalance>,
}

/// Why ledger and position differ, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceCause {
    /// The snapshot does not name the account, and the position has a balance.
    AbsentInSnapshot,
    /// The book does not know the account.
    AbsentInBook,
    /// Both know it, with other balances.
    OtherBalance,
    /// Another source owns the position.
    OtherSource,
    /// An event of the account, newer than the position's last one, was rejected.
    EventRejected,
    /// The same, because its time was too far back.
    EventTooOld,
    /// The position has an event of after the snapshot's time: the book is ahead.
    BookAhead,
}

stable_names!(
    DifferenceCause,
    /// The stable name.
    fn name(self) {
        Self::AbsentInSnapshot => "ABSENT_IN_SNAPSHOT",
        Self::AbsentInBook => "ABSENT_IN_BOOK",
        Self::OtherBalance => "OTHER_BALANCE",
        Self::OtherSource => "OTHER_SOURCE",
        Self::EventRejected => "EVENT_REJECTED",
        Self::EventTooOld => "EVENT_TOO_OLD",
        Self::BookAhead => "BOOK_AHEAD",
    }
);

impl DifferenceCause {
    /// Every cause, by its number in records, less one.
    const ALL: [Self; 7] = [
        Self::AbsentInSnapshot,
        Self::AbsentInBook,
        Self::OtherBalance,
        Self::OtherSource,
        Self::EventRejected,
        Self::EventTooOld,
        Self::BookAhead,
    ];

    /// A stable number above 0, for records.
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The cause of a number of [`Self::code`].
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// A difference with its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub seen: SeenDifference,
    /// Why.
    pub cause: DifferenceCause,
    /// The last event of the account that was rejected after the position's last one: its sequence, and why.
    pub rejected: Option<(u64, RejectReason)>,
    /// Why it could not be applied, where it was to be.
    pub refused: Option<RejectReason>,
}

impl Difference {
    /// Explains what a snapshot of `source` as of `as_of` sees differently; `rejected` is the last event of the account
    /// that was rejected.
    ///
    /// Where several things are so, that which the next event would meet first comes first: the owner, then what was
    /// rejected, then time.
    pub fn explain(
        seen: SeenDifference,
        source: SourceNumber,
        as_of: UnixSeconds,
        rejected: Option<(u64, RejectReason)>,
    ) -> Self {
        let last_sequence = seen.held.map_or(0, |held| held.last_sequence);
        let rejected = rejected.filter(|(sequence, _)| *sequence > last_sequence);
        let cause = match (&seen.held, rejected) {
            (Some(held), _) if held.owner.is_some_and(|owner| owner != source) => DifferenceCause::OtherSource,
            (_, Some((_, RejectReason::TooOld))) => DifferenceCause::EventTooOld,
            (_, Some(_)) => DifferenceCause::EventRejected,
            (Some(held), None) if held.last_at > as_of => DifferenceCause::BookAhead,
            (Some(_), None) if seen.snapshot.is_none() => DifferenceCause::AbsentInSnapshot,
            (Some(_), None) => DifferenceCause::OtherBalance,
            (None, None) => DifferenceCause::AbsentInBook,
        };
        Self { seen, cause, rejected, refused: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SourceNumber = SourceNumber(16);

    fn cause(
        snapshot: Option<u64>,
        held: Option<(u16, i64)>,
        rejected: Option<(u64, RejectReason)>,
    ) -> DifferenceCause {
        let held = held.map(|(owner, last_at)| HeldBalance {
            balance: BaseUnits::from_u64(7),
            owner: (owner != 0).then_some(SourceNumber(owner)),
            last_at: UnixSeconds::new(last_at),
            last_sequence: 5,
        });
        let account = AccountId::new("alice").unwrap();
        let seen = SeenDifference { pool: 1, account, snapshot: snapshot.map(BaseUnits::from_u64), held };
        Difference::explain(seen, SOURCE, UnixSeconds::new(100), rejected).cause
    }

    #[test]
    fn every_cause_is_found_in_its_order() {
        use DifferenceCause as Cause;
        let old = Some((9, RejectReason::TooOld));
        assert_eq!(cause(Some(1), Some((17, 101)), old), Cause::OtherSource);
        assert_eq!(cause(Some(1), Some((16, 101)), old), Cause::EventTooOld);
        assert_eq!(cause(Some(1), Some((16, 101)), Some((9, RejectReason::FromFuture))), Cause::EventRejected);
        assert_eq!(cause(None, None, Some((9, RejectReason::FromFuture))), Cause::EventRejected);
        assert_eq!(cause(Some(1), Some((16, 101)), None), Cause::BookAhead);
        assert_eq!(cause(None, Some((16, 100)), None), Cause::AbsentInSnapshot);
        assert_eq!(cause(Some(1), Some((16, 100)), None), Cause::OtherBalance);
        assert_eq!(cause(Some(1), Some((0, 100)), None), Cause::OtherBalance);
        assert_eq!(cause(Some(1), None, None), Cause::AbsentInBook);
        let before = Some((5, RejectReason::TooOld));
        assert_eq!(cause(Some(1), Some((16, 100)), before), Cause::OtherBalance, "a later event was accepted");
    }

    #[test]
    fn causes_keep_their_numbers() {
        for code in 1..=7 {
            assert_eq!(DifferenceCause::from_code(code).map(DifferenceCause::code), Some(code));
        }
        assert_eq!(DifferenceCause::from_code(0).or(DifferenceCause::from_code(8)), None);
    }
}
