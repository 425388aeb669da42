//! Which part of a balance earns.

use super::amount::BaseUnits;

/// How an account comes to take part in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EnrolmentMode {
    /// Everyone takes part who has not opted out.
    Automatic,
    /// Only those take part who have opted in.
    OptIn,
}

/// What a pool asks of a balance before it earns. A period keeps its own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EligibilityPolicy {
    /// A balance below this earns nothing.
    pub minimum: BaseUnits,
    /// What lies above this earns nothing.
    pub cap: Option<BaseUnits>,
    /// How an account comes to take part.
    pub enrolment: EnrolmentMode,
}

/// An account's standing in one pool: what besides the balance decides whether it earns. Reasons are kept elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing(u8);

impl Standing {
    /// Nothing was said: takes part where enrolment is automatic.
    pub const NONE: Self = Self(0);
    /// Opted out of this pool.
    pub const OPTED_OUT_POOL: Self = Self(1);
    /// Opted out of all pools.
    pub const OPTED_OUT_ALL: Self = Self(2);
    /// Opted in to this pool, or to all.
    pub const OPTED_IN: Self = Self(4);
    /// Restricted: by jurisdiction, a sanction, or as a sub-account.
    pub const RESTRICTED: Self = Self(8);

    const KNOWN: u8 = 15;

    /// The flags as stored.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Reads stored flags; `None` where a bit has no meaning.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::KNOWN == 0 { Some(Self(bits)) } else { None }
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without those of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether an account of this standing earns in a pool that enrols by `mode`.
    pub const fn earns(self, mode: EnrolmentMode) -> bool {
        let barred = Self::OPTED_OUT_POOL.union(Self::OPTED_OUT_ALL).union(Self::RESTRICTED);
        if self.0 & barred.0 != 0 {
            return false;
        }
        match mode {
            EnrolmentMode::Automatic => true,
            EnrolmentMode::OptIn => self.contains(Self::OPTED_IN),
        }
    }
}

/// A change of an account's standing in one pool. Doing it twice is doing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StandingChange {
    /// Flags that are set.
    pub set: Standing,
    /// Flags that are cleared, before `set`.
    pub clear: Standing,
}

impl StandingChange {
    /// The account opts in to this pool.
    pub const OPT_IN: Self = Self { set: Standing::OPTED_IN, clear: Standing::OPTED_OUT_POOL };
    /// The account opts out of this pool.
    pub const OPT_OUT: Self = Self { set: Standing::OPTED_OUT_POOL, clear: Standing::OPTED_IN };
    /// The account opts out of all pools.
    pub const OPT_OUT_OF_ALL: Self = Self { set: Standing::OPTED_OUT_ALL, clear: Standing::NONE };
    /// The account takes back that it opted out of all pools; what it chose for this one stands.
    pub const REVOKE_OPT_OUT_OF_ALL: Self = Self { set: Standing::NONE, clear: Standing::OPTED_OUT_ALL };
    /// The account may not earn.
    pub const RESTRICT: Self = Self { set: Standing::RESTRICTED, clear: Standing::NONE };
    /// The account may earn again.
    pub const LIFT_RESTRICTION: Self = Self { set: Standing::NONE, clear: Standing::RESTRICTED };

    /// The standing becomes this one, whatever it was.
    pub const fn to(standing: Standing) -> Self {
        Self { set: standing, clear: Standing(Standing::KNOWN) }
    }

    /// The standing after the change.
    pub const fn apply(self, standing: Standing) -> Standing {
        standing.without(self.clear).union(self.set)
    }
}

/// The part of `balance` that earns: nothing below the minimum, at most the cap, and nothing while the standing bars it.
pub fn eligible(balance: BaseUnits, standing: Standing, policy: &EligibilityPolicy) -> BaseUnits {
    if !standing.earns(policy.enrolment) || balance < policy.minimum {
        return BaseUnits::ZERO;
    }
    policy.cap.map_or(balance, |cap| balance.min(cap))
}

/// Why a balance earns, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All of it earns.
    Full,
    /// It is above the cap, which earns.
    Capped,
    /// It is below the minimum.
    BelowMinimum,
    /// The account has opted out.
    OptedOut,
    /// The account has not opted in, and the pool asks for it.
    NotOptedIn,
    /// The account is restricted.
    Restricted,
}

impl Verdict {
    /// Why [`eligible`] gives what it gives. What bars the account comes first, then what the balance is.
    pub fn of(balance: BaseUnits, standing: Standing, policy: &EligibilityPolicy) -> Self {
        if standing.contains(Standing::RESTRICTED) {
            Self::Restricted
        } else if standing.contains(Standing::OPTED_OUT_POOL) || standing.contains(Standing::OPTED_OUT_ALL) {
            Self::OptedOut
        } else if !standing.earns(policy.enrolment) {
            Self::NotOptedIn
        } else if balance < policy.minimum {
            Self::BelowMinimum
        } else if policy.cap.is_some_and(|cap| balance > cap) {
            Self::Capped
        } else {
            Self::Full
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(minimum: u64, cap: Option<u64>, enrolment: EnrolmentMode) -> EligibilityPolicy {
        EligibilityPolicy { minimum: BaseUnits::from_u64(minimum), cap: cap.map(BaseUnits::from_u64), enrolment }
    }

    #[test]
    fn the_minimum_is_inclusive_and_the_cap_binds() {
        let policy = policy(10, Some(100), EnrolmentMode::Automatic);
        for (balance, earns) in [(0, 0), (9, 0), (10, 10), (99, 99), (100, 100), (101, 100)] {
            let got = eligible(BaseUnits::from_u64(balance), Standing::NONE, &policy);
            assert_eq!(got, BaseUnits::from_u64(earns), "a balance of {balance}");
        }
    }

    #[test]
    fn every_standing_in_both_modes() {
        for bits in 0..=Standing::KNOWN {
            let standing = Standing(bits);
            let barred = bits & 0b1011 != 0;
            assert_eq!(standing.earns(EnrolmentMode::Automatic), !barred, "{bits:b}");
            assert_eq!(standing.earns(EnrolmentMode::OptIn), !barred && bits & 4 != 0, "{bits:b}");
            assert_eq!(Standing::from_bits(bits), Some(standing));
        }
        assert_eq!(Standing::from_bits(16), None);
    }

    #[test]
    fn the_verdict_says_what_is_eligible() {
        for (bits, mode) in
            (0..=Standing::KNOWN).flat_map(|bits| [(bits, EnrolmentMode::Automatic), (bits, EnrolmentMode::OptIn)])
        {
            let (policy, standing) = (policy(10, Some(100), mode), Standing(bits));
            for balance in [0, 9, 10, 100, 101].map(BaseUnits::from_u64) {
                let earns = match Verdict::of(balance, standing, &policy) {
                    Verdict::Full => balance,
                    Verdict::Capped => BaseUnits::from_u64(100),
                    _ => BaseUnits::ZERO,
                };
                assert_eq!(earns, eligible(balance, standing, &policy), "{balance} {bits:b}");
            }
        }
        let both = Standing::RESTRICTED.union(Standing::OPTED_OUT_ALL);
        let automatic = policy(0, None, EnrolmentMode::Automatic);
        assert_eq!(Verdict::of(BaseUnits::ZERO, both, &automatic), Verdict::Restricted);
        assert_eq!(Verdict::of(BaseUnits::ZERO, Standing::OPTED_OUT_ALL, &automatic), Verdict::OptedOut);
    }

    #[test]
    fn an_opt_out_of_all_outlives_an_opt_in_to_one() {
        let out = StandingChange::OPT_OUT_OF_ALL.apply(Standing::NONE);
        let still_out = StandingChange::OPT_IN.apply(out);
        assert!(!still_out.earns(EnrolmentMode::OptIn));
        let back = StandingChange::REVOKE_OPT_OUT_OF_ALL.apply(still_out);
        assert!(back.earns(EnrolmentMode::OptIn));
        assert_eq!(StandingChange::OPT_OUT.apply(back).bits(), Standing::OPTED_OUT_POOL.bits());
    }
}
