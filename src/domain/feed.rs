//! The order of a source's events: contiguous sequences, repeats compared by body, gaps refused.

use super::names::stable_names;
use std::collections::VecDeque;
use std::fmt;

use super::amount::BaseUnits;
use super::time::UnixSeconds;

/// A producer of balance events, by the number it was registered under. Those below 16 are softstake's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceNumber(pub u16);

impl SourceNumber {
    /// The enrolment log, which has a sequence of its own and owns no position.
    pub const ENROLMENT: Self = Self(0);
    /// The log of approved corrections, which has a sequence of its own and owns no position.
    pub const CORRECTION: Self = Self(2);
}

impl fmt::Display for SourceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For how many sequences back a repeat is compared with what was applied.
pub const REPEAT_WINDOW: u64 = 1_000_000;

/// Why one event was not accepted. It consumes its sequence all the same: one bad event never wedges a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// No pool takes the event's asset.
    UnknownAsset,
    /// The time lies before the position's last event, or further back than lateness allows.
    TooOld,
    /// The time lies further ahead of now than is allowed.
    FromFuture,
    /// The balance is past the largest that a position may hold.
    BalanceTooLarge {
        /// The largest that may be held.
        limit: BaseUnits,
    },
    /// The pool's total would pass [`MAX_POOL_TOTAL`].
    PoolTotalTooLarge,
    /// The position belongs to another source.
    NotOwner,
    /// The time lies in a period that has not been opened.
    PeriodNotOpen,
    /// A correction that rests on a point of its position that is past.
    Overtaken,
}

/// The largest total that a pool may hold, `2^120` base units, so that sums over a pool always fit.
pub const MAX_POOL_TOTAL: u128 = 1 << 120;

stable_names!(
    RejectReason,
    /// A stable name, for answers, logs and metrics.
    fn name(self) {
        Self::UnknownAsset => "UNKNOWN_ASSET",
        Self::TooOld => "TOO_OLD",
        Self::FromFuture => "FROM_FUTURE",
        Self::BalanceTooLarge { .. } => "BALANCE_TOO_LARGE",
        Self::PoolTotalTooLarge => "POOL_TOTAL_TOO_LARGE",
        Self::NotOwner => "NOT_OWNER",
        Self::PeriodNotOpen => "PERIOD_NOT_OPEN",
        Self::Overtaken => "OVERTAKEN",
    }
);

impl RejectReason {
    /// A stable number above 0, for records.
    pub const fn code(self) -> u8 {
        match self {
            Self::UnknownAsset => 1,
            Self::TooOld => 2,
            Self::FromFuture => 3,
            Self::BalanceTooLarge { .. } => 4,
            Self::PoolTotalTooLarge => 5,
            Self::NotOwner => 6,
            Self::PeriodNotOpen => 7,
            Self::Overtaken => 8,
        }
    }

    /// The reason of a number of [`Self::code`]; `limit` is the figure of `BalanceTooLarge`.
    pub const fn from_code(code: u8, limit: BaseUnits) -> Option<Self> {
        Some(match code {
            1 => Self::UnknownAsset,
            2 => Self::TooOld,
            3 => Self::FromFuture,
            4 => Self::BalanceTooLarge { limit },
            5 => Self::PoolTotalTooLarge,
            6 => Self::NotOwner,
            7 => Self::PeriodNotOpen,
            8 => Self::Overtaken,
            _ => return None,
        })
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAsset => f.write_str("no pool takes this asset"),
            Self::TooOld => f.write_str("the time lies too far back; only a correction can go before a last event"),
            Self::FromFuture => f.write_str("the time lies too far in the future"),
            Self::BalanceTooLarge { limit } => write!(f, "a balance is at most {limit} base units here"),
            Self::PoolTotalTooLarge => write!(f, "the pool's total would pass {MAX_POOL_TOTAL} base units"),
            Self::NotOwner => f.write_str("the position belongs to another source"),
            Self::PeriodNotOpen => f.write_str("the time lies in a period that has not been opened"),
            Self::Overtaken => {
                f.write_str("the position has changed since the correction was computed; propose it again")
            }
        }
    }
}

/// Why a batch was refused whole. Nothing of it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Sequences are missing.
    #[error("sequence {expected} is expected next")]
    Gap {
        /// The sequence that is expected.
        expected: u64,
    },
    /// A sequence that was applied comes again with another body.
    #[error("sequence {sequence} was applied with another body")]
    BodyMismatch {
        /// The sequence.
        sequence: u64,
    },
}

/// What a batch brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// How many events at its front were applied before, with the same body.
    pub repeated: u64,
    /// How many events before those were applied so long ago that their bodies can't be compared.
    pub already_applied: u64,
}

impl Admission {
    /// How many events at the front of the batch are not new.
    pub const fn known(self) -> u64 {
        self.repeated + self.already_applied
    }
}

/// The hashes of the bodies of the last events of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashRing {
    /// The sequence of the first hash.
    first: u64,
    hashes: VecDeque<u64>,
}

/// Where a source stands: its last sequence, its watermark and the hashes of its last bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCursor {
    last: u64,
    watermark: Option<UnixSeconds>,
    ring: HashRing,
}

impl SourceCursor {
    /// The cursor of a source whose last sequence is `last` (0 where there was none).
    pub fn new(last: u64, watermark: Option<UnixSeconds>) -> Self {
        Self { last, watermark, ring: HashRing { first: last.saturating_add(1), hashes: VecDeque::new() } }
    }

    /// The last sequence; 0 before the first.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The latest moment that the source vouched for.
    pub const fn watermark(&self) -> Option<UnixSeconds> {
        self.watermark
    }

    /// Puts back the hashes of bodies from `first` on, which must end at or before the last sequence and join what
    /// is there. Says whether they fitted.
    pub fn restore_hashes(&mut self, first: u64, hashes: &[u64]) -> bool {
        let ring = &mut self.ring;
        if ring.hashes.is_empty() {
            ring.first = first;
        }
        let next = ring.first + ring.hashes.len() as u64;
        let past = first.saturating_add(hashes.len() as u64);
        if first != next || past > self.last.saturating_add(1) {
            return false;
        }
        ring.hashes.extend(hashes);
        self.trim();
        true
    }

    /// The hash of the body of `sequence`, where it is still kept.
    pub fn hash_of(&self, sequence: u64) -> Option<u64> {
        let at = sequence.checked_sub(self.ring.first)?;
        self.ring.hashes.get(usize::try_from(at).ok()?).copied()
    }

    /// The first sequence whose hash is kept.
    pub const fn first_hash(&self) -> u64 {
        self.ring.first
    }

    /// Decides on a batch whose first event has sequence `first`, by the hashes of its bodies.
    pub fn admit(&self, first: u64, bodies: &[u64]) -> Result<Admission, SequenceError> {
        let expected = self.last.saturating_add(1);
        let too_many = first.checked_add(bodies.len() as u64).is_none();
        if first == 0 || first > expected || too_many {
            return Err(SequenceError::Gap { expected });
        }
        let known = (expected - first).min(bodies.len() as u64);
        let mut admission = Admission::default();
        for (sequence, body) in (first..first + known).zip(bodies) {
            match self.hash_of(sequence) {
                None => admission.already_applied += 1,
                Some(hash) if hash == *body => admission.repeated += 1,
                Some(_) => return Err(SequenceError::BodyMismatch { sequence }),
            }
        }
        Ok(admission)
    }

    /// Takes the next event, of sequence `last() + 1`.
    pub fn take(&mut self, body: u64) {
        self.last += 1;
        if self.ring.hashes.is_empty() {
            self.ring.first = self.last;
        }
        self.ring.hashes.push_back(body);
        self.trim();
    }

    /// Takes a watermark; one that goes back changes nothing.
    pub fn vouch(&mut self, watermark: UnixSeconds) {
        self.watermark = self.watermark.max(Some(watermark));
    }

    fn trim(&mut self) {
        while self.ring.hashes.len() as u64 > REPEAT_WINDOW {
            self.ring.hashes.pop_front();
            self.ring.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(bodies: &[u64]) -> SourceCursor {
        let mut cursor = SourceCursor::default();
        bodies.iter().for_each(|b| cursor.take(*b));
        cursor
    }

    #[test]
    fn a_gap_is_refused_with_the_sequence_expected() {
        let cursor = cursor(&[11, 12, 13]);
        assert_eq!(cursor.admit(5, &[1]), Err(SequenceError::Gap { expected: 4 }));
        assert_eq!(cursor.admit(0, &[1]), Err(SequenceError::Gap { expected: 4 }));
        assert_eq!(cursor.admit(u64::MAX, &[1]), Err(SequenceError::Gap { expected: 4 }));
        assert_eq!(cursor.admit(4, &[1, 2]), Ok(Admission::default()));
        assert_eq!(cursor.admit(4, &[]), Ok(Admission::default()));
    }

    #[test]
    fn a_repeat_is_compared_by_its_body() {
        let cursor = cursor(&[11, 12, 13]);
        assert_eq!(cursor.admit(2, &[12, 13, 14]), Ok(Admission { repeated: 2, already_applied: 0 }));
        assert_eq!(cursor.admit(2, &[12]), Ok(Admission { repeated: 1, already_applied: 0 }));
        assert_eq!(cursor.admit(2, &[12, 99, 14]), Err(SequenceError::BodyMismatch { sequence: 3 }));
    }

    #[test]
    fn what_is_older_than_the_window_is_taken_as_applied() {
        let mut cursor = SourceCursor::default();
        (0..REPEAT_WINDOW + 2).for_each(|b| cursor.take(b));
        assert_eq!(cursor.first_hash(), 3);
        assert_eq!(cursor.admit(1, &[7, 7, 2]), Ok(Admission { repeated: 1, already_applied: 2 }));
        assert_eq!(cursor.admit(3, &[7]), Err(SequenceError::BodyMismatch { sequence: 3 }));
    }

    #[test]
    fn hashes_come_back_in_runs() {
        let mut cursor = SourceCursor::new(6, None);
        assert!(cursor.restore_hashes(3, &[3, 4]));
        assert!(!cursor.restore_hashes(6, &[6]), "a hole");
        assert!(cursor.restore_hashes(5, &[5, 6]));
        assert!(!cursor.restore_hashes(7, &[7]), "past the cursor");
        assert_eq!((cursor.hash_of(2), cursor.hash_of(3), cursor.hash_of(6)), (None, Some(3), Some(6)));
        cursor.take(77);
        assert_eq!(cursor.hash_of(7), Some(77));
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let mut cursor = SourceCursor::default();
        cursor.vouch(UnixSeconds::new(-5));
        cursor.vouch(UnixSeconds::new(10));
        cursor.vouch(UnixSeconds::new(4));
        assert_eq!(cursor.watermark(), Some(UnixSeconds::new(10)));
    }

    #[test]
    fn reasons_keep_their_numbers() {
        for code in 1..=8 {
            assert_eq!(RejectReason::from_code(code, BaseUnits::ZERO).map(RejectReason::code), Some(code));
        }
        assert_eq!(RejectReason::from_code(0, BaseUnits::ZERO), None);
        assert_eq!(RejectReason::from_code(9, BaseUnits::ZERO), None);
    }
}
