//! Payouts: their names, the tally and hash that seal a distribution, the counts of equation 5, and the rule by
//! which an acknowledgement is taken.

use std::fmt;

use ruint::aliases::U256;

use super::amount::{AmountError, BaseUnits};
use super::ids::{AccountId, PoolId};
use super::weight::member_hash;

/// One account's share of the one released distribution of a period: the name under which it is paid at most once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayoutId {
    /// The pool.
    pub pool: PoolId,
    /// The index of the period in its pool.
    pub period: u64,
    /// The account.
    pub account: AccountId,
}

impl fmt::Display for PayoutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.pool, self.period, self.account)
    }
}

/// The hash of a set of (account, amount): the sum modulo 2^256 of each one's [`member_hash`]. It depends on no order and
/// on no partitioning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetHash(U256);

impl SetHash {
    /// The hash of the empty set.
    pub const EMPTY: Self = Self(U256::ZERO);

    /// Takes one element in.
    pub fn add(&mut self, account: &AccountId, amount: u128) {
        self.0 = self.0.wrapping_add(member_hash(account.as_str(), amount));
    }

    /// Takes all elements of another set in.
    pub fn merge(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The 32 bytes, least significant first.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0.to_le_bytes()
    }

    /// The hash that those 32 bytes are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_le_bytes(bytes))
    }
}

impl fmt::Display for SetHash {
    /// The 32 bytes in hexadecimal, in the order of [`SetHash::to_bytes`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A number of payouts and what they add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayoutSum {
    /// How many.
    pub count: u64,
    /// What they add up to.
    pub amount: BaseUnits,
}

impl PayoutSum {
    /// None.
    pub const NONE: Self = Self { count: 0, amount: BaseUnits::ZERO };

    /// Both together.
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        let count = self.count.checked_add(other.count).ok_or(AmountError::Overflow)?;
        Ok(Self { count, amount: self.amount.checked_add(other.amount)? })
    }

    /// What is left without `other`.
    pub fn checked_sub(self, other: Self) -> Result<Self, AmountError> {
        let count = self.count.checked_sub(other.count).ok_or(AmountError::Negative)?;
        Ok(Self { count, amount: self.amount.checked_sub(other.amount)? })
    }
}

/// What a distribution computed, account by account; the tallies of its chunks and partitions merge in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayoutTally {
    /// Frozen positions seen, those without weight included.
    pub positions: u64,
    /// Those of them with a weight above zero.
    pub positive: u64,
    /// The sum of their weights.
    pub weight: U256,
    /// The payouts above zero: those that are streamed.
    pub paid: PayoutSum,
    /// The hash of the payouts above zero.
    pub hash: SetHash,
}

impl PayoutTally {
    /// Takes the payout of one frozen position in. On an error this tally is as it was.
    pub fn record(&mut self, account: &AccountId, weight: u128, payout: BaseUnits) -> Result<(), AmountError> {
        let weight_total = self.weight.checked_add(U256::from(weight)).ok_or(AmountError::Overflow)?;
        let positions = self.positions.checked_add(1).ok_or(AmountError::Overflow)?;
        if !payout.is_zero() {
            self.paid = self.paid.checked_add(PayoutSum { count: 1, amount: payout })?;
            self.hash.add(account, payout.get());
        }
        // Of the positions, which were counted, these are a part.
        self.positive += u64::from(weight != 0);
        (self.weight, self.positions) = (weight_total, positions);
        Ok(())
    }

    /// Takes the tally of other positions in. On an error this tally is as it was.
    pub fn merge(&mut self, other: Self) -> Result<(), AmountError> {
        let mut hash = self.hash;
        hash.merge(other.hash);
        *self = Self {
            positions: self.positions.checked_add(other.positions).ok_or(AmountError::Overflow)?,
            positive: self.positive.checked_add(other.positive).ok_or(AmountError::Overflow)?,
            weight: self.weight.checked_add(other.weight).ok_or(AmountError::Overflow)?,
            paid: self.paid.checked_add(other.paid)?,
            hash,
        };
        Ok(())
    }

    /// The positions whose share is below one payout unit, those without weight included: not streamed.
    pub const fn below_unit(&self) -> u64 {
        self.positions.saturating_sub(self.paid.count)
    }
}

/// Where the payouts of one revision are. Equation 5 holds between these, in amount and in count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayoutCounts {
    /// All payouts above zero that the revision computed.
    pub computed: PayoutSum,
    /// Those of a voided revision.
    pub voided: PayoutSum,
    /// Those of a revision that is neither released nor voided.
    pub held: PayoutSum,
    /// Released and not yet streamed.
    pub awaiting: PayoutSum,
    /// Streamed and not yet acknowledged.
    pub unacked: PayoutSum,
    /// Acknowledged by the ledger service.
    pub acked: PayoutSum,
    /// Rejected by the ledger service.
    pub unclaimed: PayoutSum,
}

/// Why payouts could not be moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayoutError {
    /// More payouts were named than stand there.
    #[error("more payouts were to move than stand in {from}")]
    NotThere {
        /// Where they were to come from.
        from: &'static str,
    },
    /// The counts do not add up to what was computed.
    #[error("equation 5 does not hold: computed {} payouts of {}, accounted for {} of {}",
        .computed.count, .computed.amount, .found.count, .found.amount)]
    Unbalanced {
        /// What the revision computed.
        computed: PayoutSum,
        /// What its states add up to.
        found: PayoutSum,
    },
    /// A sum past the largest amount.
    #[error("the sum of the payouts is past the largest amount, 2^127 - 1 base units")]
    Overflow,
}

impl PayoutCounts {
    /// The counts of a revision that has just been computed.
    pub const fn computed(sum: PayoutSum) -> Self {
        let none = PayoutSum::NONE;
        Self { computed: sum, held: sum, voided: none, awaiting: none, unacked: none, acked: none, unclaimed: none }
    }

    /// The revision is voided: everything held is void.
    pub fn voided(mut self) -> Result<Self, PayoutError> {
        shift(&mut self.held, &mut self.voided, self.computed, "held")?;
        self.balanced()
    }

    /// The revision is released: everything held awaits its stream.
    pub fn released(mut self) -> Result<Self, PayoutError> {
        shift(&mut self.held, &mut self.awaiting, self.computed, "held")?;
        self.balanced()
    }

    /// `sum` was put on the stream for the first time.
    pub fn streamed(mut self, sum: PayoutSum) -> Result<Self, PayoutError> {
        shift(&mut self.awaiting, &mut self.unacked, sum, "awaiting")?;
        self.balanced()
    }

    /// `acked` was acknowledged, `rejected` was refused by the ledger service.
    pub fn acknowledged(mut self, acked: PayoutSum, rejected: PayoutSum) -> Result<Self, PayoutError> {
        shift(&mut self.unacked, &mut self.acked, acked, "unacked")?;
        shift(&mut self.unacked, &mut self.unclaimed, rejected, "unacked")?;
        self.balanced()
    }

    /// Released payouts that are neither acknowledged nor unclaimed.
    pub const fn outstanding(&self) -> u64 {
        self.awaiting.count.saturating_add(self.unacked.count)
    }

    /// Equation 5: `computed = voided + held + awaiting + unacked + acked + unclaimed`.
    pub fn check_equation_5(&self) -> Result<(), PayoutError> {
        let found = [self.voided, self.held, self.awaiting, self.unacked, self.acked, self.unclaimed]
            .into_iter()
            .try_fold(PayoutSum::NONE, PayoutSum::checked_add)
            .map_err(|_| PayoutError::Overflow)?;
        let computed = self.computed;
        if found == computed { Ok(()) } else { Err(PayoutError::Unbalanced { computed, found }) }
    }

    fn balanced(self) -> Result<Self, PayoutError> {
        self.check_equation_5().map(|()| self)
    }
}

fn shift(from: &mut PayoutSum, to: &mut PayoutSum, sum: PayoutSum, name: &'static str) -> Result<(), PayoutError> {
    *from = from.checked_sub(sum).map_err(|_| PayoutError::NotThere { from: name })?;
    *to = to.checked_add(sum).map_err(|_| PayoutError::Overflow)?;
    Ok(())
}

/// How far the stream of one released distribution has come, as numbers of payouts in the order of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckWindow {
    /// The payouts before this one are settled: acknowledged or unclaimed.
    pub settled: u64,
    /// The payouts before this one have been streamed.
    pub streamed: u64,
    /// The hash that the distribution was sealed with.
    pub hash: SetHash,
}

/// An acknowledgement: everything before `through`, except what is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayoutAck<'a> {
    /// One past the last payout acknowledged.
    pub through: u64,
    /// The places of the payouts that the ledger service rejects, ascending.
    pub rejected: &'a [u64],
    /// The hash of the distribution that the ledger service believes to be crediting.
    pub hash: SetHash,
}

/// What an acknowledgement settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckStep<'a> {
    /// Everything in it was settled before; nothing changes.
    AlreadySettled,
    /// The payouts `[from, through)` settle: `rejected` become unclaimed, the others acknowledged.
    Settle {
        /// The first payout that settles.
        from: u64,
        /// One past the last.
        through: u64,
        /// Those of them that are rejected, ascending.
        rejected: &'a [u64],
    },
}

/// Why an acknowledgement was refused. Nothing changes, save that [`AckRefusal::HashMismatch`] pauses the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckRefusal {
    /// The ledger service credits something other than what was released.
    #[error("the acknowledgement carries the hash {given}, the distribution was sealed with {sealed}")]
    HashMismatch {
        /// The hash given.
        given: SetHash,
        /// The distribution's.
        sealed: SetHash,
    },
    /// It reaches past what was streamed.
    #[error("the acknowledgement reaches to payout {through}, only {streamed} have been streamed")]
    PastStream {
        /// One past the last payout acknowledged.
        through: u64,
        /// How many were streamed.
        streamed: u64,
    },
    /// A rejected payout lies outside the prefix, or the list is not ascending.
    #[error("rejected payouts are listed in ascending order and lie before payout {through}; {place} is out of place")]
    RejectedOutOfPlace {
        /// The place that does not fit.
        place: u64,
        /// One past the last payout acknowledged.
        through: u64,
    },
}

impl AckWindow {
    /// What `ack` settles. A repeated prefix settles nothing twice: rejections of what is settled are passed over.
    pub fn decide<'a>(&self, ack: &PayoutAck<'a>) -> Result<AckStep<'a>, AckRefusal> {
        let (through, streamed) = (ack.through, self.streamed);
        if ack.hash != self.hash {
            return Err(AckRefusal::HashMismatch { given: ack.hash, sealed: self.hash });
        }
        if through > streamed {
            return Err(AckRefusal::PastStream { through, streamed });
        }
        let mut before = None;
        for &place in ack.rejected {
            if place >= through || before.is_some_and(|before| before >= place) {
                return Err(AckRefusal::RejectedOutOfPlace { place, through });
            }
            before = Some(place);
        }
        if through <= self.settled {
            return Ok(AckStep::AlreadySettled);
        }
        let fresh = ack.rejected.partition_point(|&place| place < self.settled);
        Ok(AckStep::Settle { from: self.settled, through, rejected: &ack.rejected[fresh..] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> AccountId {
        AccountId::new(name).unwrap()
    }

    fn sum(count: u64, amount: u64) -> PayoutSum {
        PayoutSum { count, amount: BaseUnits::from_u64(amount) }
    }

    #[test]
    fn the_set_hash_is_what_it_says() {
        let mut hash = SetHash::EMPTY;
        hash.add(&account("ab"), 0x0102);
        let mut bytes = vec![2, b'a', b'b', 2, 1];
        bytes.resize(3 + 16, 0);
        assert_eq!(hash.to_bytes(), *blake3::hash(&bytes).as_bytes());
        assert_eq!(hash.to_string(), blake3::hash(&bytes).to_hex().to_string());
        assert_eq!(SetHash::from_bytes(hash.to_bytes()), hash);
        let mut longest = SetHash::EMPTY;
        longest.add(&account(&"x".repeat(64)), u128::MAX);
        assert_ne!(longest, SetHash::EMPTY);
    }

    #[test]
    fn the_set_hash_knows_who_got_what() {
        let mut hashes = Vec::new();
        for set in [[("a", 1), ("b", 2)], [("a", 2), ("b", 1)], [("a", 1), ("bb", 2)], [("ab", 1), ("", 2)]] {
            let mut hash = SetHash::EMPTY;
            for (name, amount) in set {
                hash.add(&account(if name.is_empty() { "-" } else { name }), amount);
            }
            hashes.push(hash.to_bytes());
        }
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4);
    }

    #[test]
    fn zero_payouts_are_counted_and_not_hashed() {
        let mut tally = PayoutTally::default();
        tally.record(&account("a"), 10, BaseUnits::from_u64(3)).unwrap();
        let hash = tally.hash;
        tally.record(&account("b"), 1, BaseUnits::ZERO).unwrap();
        tally.record(&account("c"), 0, BaseUnits::ZERO).unwrap();
        assert_eq!((tally.positions, tally.positive, tally.below_unit()), (3, 2, 2));
        assert_eq!((tally.paid, tally.weight, tally.hash), (sum(1, 3), U256::from(11), hash));
    }

    #[test]
    fn payouts_are_in_one_place_at_a_time() {
        let counts = PayoutCounts::computed(sum(5, 50)).released().unwrap().streamed(sum(4, 40)).unwrap();
        assert_eq!(counts.outstanding(), 5);
        let counts = counts.acknowledged(sum(2, 25), sum(1, 10)).unwrap();
        assert_eq!((counts.awaiting, counts.unacked, counts.acked), (sum(1, 10), sum(1, 5), sum(2, 25)));
        assert_eq!((counts.unclaimed, counts.outstanding()), (sum(1, 10), 2));
        assert_eq!(counts.released(), Err(PayoutError::NotThere { from: "held" }));
        assert_eq!(counts.voided(), Err(PayoutError::NotThere { from: "held" }));
        let twice = counts.acknowledged(sum(2, 5), PayoutSum::NONE);
        assert_eq!(twice, Err(PayoutError::NotThere { from: "unacked" }));
        let lost = PayoutCounts { acked: sum(1, 25), ..counts };
        assert!(matches!(lost.check_equation_5(), Err(PayoutError::Unbalanced { .. })));
        assert_eq!(PayoutCounts::computed(sum(5, 50)).voided().unwrap().voided, sum(5, 50));
    }

    #[test]
    fn an_acknowledgement_is_a_prefix_with_exceptions() {
        let mut hash = SetHash::EMPTY;
        hash.add(&account("a"), 1);
        let window = AckWindow { settled: 10, streamed: 20, hash };
        let ack = |through, rejected| PayoutAck { through, rejected, hash };
        let step = window.decide(&ack(15, &[3, 10, 14]));
        assert_eq!(step, Ok(AckStep::Settle { from: 10, through: 15, rejected: &[10, 14] }));
        assert_eq!(window.decide(&ack(10, &[])), Ok(AckStep::AlreadySettled));
        assert_eq!(window.decide(&ack(0, &[])), Ok(AckStep::AlreadySettled));
        assert_eq!(window.decide(&ack(21, &[])), Err(AckRefusal::PastStream { through: 21, streamed: 20 }));
        for rejected in [&[15][..], &[12, 12], &[13, 12]] {
            let refused = window.decide(&ack(15, rejected));
            assert!(matches!(refused, Err(AckRefusal::RejectedOutOfPlace { .. })), "{rejected:?}");
        }
        let other = PayoutAck { hash: SetHash::EMPTY, ..ack(15, &[]) };
        assert!(matches!(window.decide(&other), Err(AckRefusal::HashMismatch { .. })));
    }
}
