//! Decisions of customers to take part or not, and of the operator that one may not.

use std::collections::BTreeSet;
use std::fmt;

use super::eligibility::{EnrolmentMode, Standing, StandingChange};
use super::ids::{AccountId, PoolId, Principal};
use super::names::stable_names;
use super::time::UnixSeconds;

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// The customer takes part.
    OptIn,
    /// The customer does not take part.
    OptOut,
    /// The account may not earn: jurisdiction, sanction, sub-account.
    Restrict,
    /// The account may earn again.
    Unrestrict,
    /// Nothing, but where the customer is.
    Locate,
}

stable_names!(
    Decision,
    /// The stable name.
    fn name(self) {
        Self::OptIn => "OPT_IN",
        Self::OptOut => "OPT_OUT",
        Self::Restrict => "RESTRICT",
        Self::Unrestrict => "UNRESTRICT",
        Self::Locate => "LOCATE",
    }
);

impl Decision {
    /// All of them, in the order of their stored numbers.
    pub const ALL: [Self; 5] = [Self::OptIn, Self::OptOut, Self::Restrict, Self::Unrestrict, Self::Locate];

    /// What it does to the standing in one pool; `everywhere` says whether it was made for all pools. An opt-out of one
    /// pool outlives an opt-in to all, and the other way round.
    pub const fn change(self, everywhere: bool) -> StandingChange {
        match (self, everywhere) {
            (Self::OptIn, false) => StandingChange::OPT_IN,
            (Self::OptIn, true) => StandingChange { set: Standing::OPTED_IN, clear: Standing::OPTED_OUT_ALL },
            (Self::OptOut, false) => StandingChange::OPT_OUT,
            (Self::OptOut, true) => StandingChange::OPT_OUT_OF_ALL,
            (Self::Restrict, _) => StandingChange::RESTRICT,
            (Self::Unrestrict, _) => StandingChange::LIFT_RESTRICTION,
            (Self::Locate, _) => StandingChange { set: Standing::NONE, clear: Standing::NONE },
        }
    }
}

/// Why an account may not earn whose jurisdiction a pool restricts: the stable code of its decision.
pub const RESTRICTED_JURISDICTION: &str = "RESTRICTED_JURISDICTION";

/// Where customers may not earn in a pool, such as `US` or `US-NY`: a code stands for all that lies in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestrictedJurisdictions(BTreeSet<String>);

/// Why codes of jurisdictions were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JurisdictionError {
    /// One can't be a code.
    #[error("`{0}` is no code; one has 1 to 16 letters, digits and hyphens, such as US or US-NY")]
    Code(String),
    /// There are too many to be kept.
    #[error(
        "there are more than {} codes, or {} bytes of them",
        RestrictedJurisdictions::MOST,
        RestrictedJurisdictions::MOST_BYTES
    )]
    TooMany,
}

impl RestrictedJurisdictions {
    /// The most codes: there are 249 countries.
    pub const MOST: usize = 256;

    /// The most bytes of all codes together: they are a part of one record.
    pub const MOST_BYTES: usize = 1_024;

    /// Checks the codes, of which case and order say nothing.
    pub fn new<'c>(codes: impl IntoIterator<Item = &'c str>) -> Result<Self, JurisdictionError> {
        let mut all = BTreeSet::new();
        for code in codes {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if !(1..=16).contains(&code.len()) || !code.bytes().all(fits) {
                return Err(JurisdictionError::Code(code.chars().take(16).collect()));
            }
            all.insert(code.to_ascii_uppercase());
        }
        let bytes: usize = all.iter().map(String::len).sum();
        if all.len() > Self::MOST || bytes > Self::MOST_BYTES {
            return Err(JurisdictionError::TooMany);
        }
        Ok(Self(all))
    }

    /// Whether customers of a jurisdiction, as the ledger service writes it, may not earn. Nobody knows where one without is.
    pub fn bar(&self, jurisdiction: &str) -> bool {
        let jurisdiction = jurisdiction.trim().to_ascii_uppercase();
        let within = |code: &String| {
            jurisdiction.strip_prefix(code.as_str()).map(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.0.iter().any(|code| within(code).unwrap_or(false))
    }

    /// Whether each of `other` is restricted here too.
    pub fn cover(&self, other: &Self) -> bool {
        other.0.iter().all(|code| self.bar(code))
    }

    /// The codes, in order.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for RestrictedJurisdictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.codes().collect::<Vec<_>>().join(" "))
    }
}

/// A decision as it was entered: the consent record. Never changed; a later one comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentEntry {
    /// Its place among all decisions, from 1.
    pub sequence: u64,
    /// Of or about whom.
    pub account: AccountId,
    /// For which pool; `None` for all, those to come included.
    pub pool: Option<PoolId>,
    /// What was decided.
    pub decision: Decision,
    /// Since when it counts.
    pub at: UnixSeconds,
    /// Which terms the customer accepted.
    pub terms_version: String,
    /// Where the customer is, as the ledger service writes it.
    pub jurisdiction: String,
    /// Why, as the ledger service writes it.
    pub reason_code: String,
    /// Who entered it.
    pub by: Principal,
}

impl EnrolmentEntry {
    /// What was decided, on which grounds, for people.
    pub fn shown(&self) -> String {
        let mut shown = self.decision.name().to_owned();
        for (what, text) in
            [("terms", &self.terms_version), ("jurisdiction", &self.jurisdiction), ("reason", &self.reason_code)]
        {
            if !text.is_empty() {
                shown.push_str(&format!(", {what} {text}"));
            }
        }
        shown
    }
}

/// One entry of the enrolment log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// A decision.
    Decision(EnrolmentEntry),
    /// What decisions came to in a pool that was created after them.
    Carried(CarriedStanding),
}

impl LogEntry {
    /// Its place in the log, from 1.
    pub const fn sequence(&self) -> u64 {
        match self {
            Self::Decision(entry) => entry.sequence,
            Self::Carried(entry) => entry.sequence,
        }
    }

    /// Of or about whom.
    pub const fn account(&self) -> &AccountId {
        match self {
            Self::Decision(entry) => &entry.account,
            Self::Carried(entry) => &entry.account,
        }
    }

    /// When it was written. That of a later entry is never earlier.
    pub const fn at(&self) -> UnixSeconds {
        match self {
            Self::Decision(entry) => entry.at,
            Self::Carried(entry) => entry.at,
        }
    }

    /// Since when it counts in positions: never later than it was written.
    pub const fn counts_from(&self) -> UnixSeconds {
        match self {
            Self::Decision(entry) => entry.at,
            Self::Carried(entry) => entry.since,
        }
    }

    /// Whether it changes anything in a pool.
    pub fn concerns(&self, pool: &PoolId) -> bool {
        match self {
            Self::Decision(entry) if entry.decision == Decision::Locate => false,
            Self::Decision(entry) => entry.pool.as_ref().is_none_or(|of| of == pool),
            Self::Carried(entry) => entry.pool == *pool,
        }
    }

    /// What it does to the standing in a pool that it concerns.
    pub const fn change(&self) -> StandingChange {
        match self {
            Self::Decision(entry) => entry.decision.change(entry.pool.is_none()),
            Self::Carried(entry) => StandingChange::to(entry.standing),
        }
    }
}

/// The standing that an account has in a pool by the decisions that were made before the pool took part in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedStanding {
    /// Its place in the log.
    pub sequence: u64,
    /// Whose.
    pub account: AccountId,
    /// In which pool.
    pub pool: PoolId,
    /// The standing.
    pub standing: Standing,
    /// Since when it counts.
    pub since: UnixSeconds,
    /// When it was written.
    pub at: UnixSeconds,
}

/// What an account's decisions come to, taken in one by one in the order of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// The standing after them.
    pub standing: Standing,
    /// When the account was last let in, of one that may earn.
    let_in_at: Option<UnixSeconds>,
}

impl Carry {
    /// Takes the next decision, for a pool that enrols by `mode`.
    pub fn take(&mut self, change: StandingChange, at: UnixSeconds, mode: EnrolmentMode) {
        let before = self.standing;
        self.standing = change.apply(before);
        match (before.earns(mode), self.standing.earns(mode)) {
            (false, true) => self.let_in_at = Some(at),
            (_, false) => self.let_in_at = None,
            (true, true) => {}
        }
    }

    /// Since when the standing counts in a pool whose first period begins at `start`: from then on, but for an account
    /// that was barred until later: nothing is earned before it was let in.
    pub fn since(&self, start: UnixSeconds) -> UnixSeconds {
        self.let_in_at.map_or(start, |at| at.max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(decisions: &[(Decision, i64)], mode: EnrolmentMode) -> (Standing, i64) {
        let mut carry = Carry::default();
        for (decision, at) in decisions {
            carry.take(decision.change(true), UnixSeconds::new(*at), mode);
        }
        (carry.standing, carry.since(UnixSeconds::new(100)).get())
    }

    #[test]
    fn a_code_bars_what_lies_in_it_however_it_is_written() {
        let restricted = RestrictedJurisdictions::new(["us-ny", "KP"]).unwrap();
        for (jurisdiction, barred) in [
            ("KP", true),
            ("kp", true),
            ("US-NY", true),
            ("us-ny-1", true),
            ("US", false),
            ("US-NYC", false),
            ("", false),
        ] {
            assert_eq!(restricted.bar(jurisdiction), barred, "{jurisdiction}");
        }
        assert_eq!(restricted.to_string(), "KP US-NY");
        let wider = RestrictedJurisdictions::new(["US", "KP", "IR"]).unwrap();
        assert!(wider.cover(&restricted) && !restricted.cover(&wider));
        for bad in ["", "a b", "ü", "12345678901234567"] {
            assert!(matches!(RestrictedJurisdictions::new([bad]), Err(JurisdictionError::Code(_))), "{bad}");
        }
        let many: Vec<String> = (0..257).map(|n| format!("X{n}")).collect();
        let many = RestrictedJurisdictions::new(many.iter().map(String::as_str));
        assert_eq!(many, Err(JurisdictionError::TooMany));
    }

    #[test]
    fn what_bars_outlives_a_later_consent() {
        use Decision::{OptIn, OptOut, Restrict, Unrestrict};
        let mode = EnrolmentMode::Automatic;
        let both = Standing::RESTRICTED.union(Standing::OPTED_IN);
        assert_eq!(carried(&[(Restrict, 1), (OptIn, 2)], mode), (both, 100));
        assert_eq!(carried(&[(OptOut, 1), (Restrict, 2), (Unrestrict, 300)], mode), (Standing::OPTED_OUT_ALL, 100));
    }

    #[test]
    fn who_was_barred_counts_from_when_they_were_let_in() {
        use Decision::{OptIn, Restrict, Unrestrict};
        let (automatic, asked) = (EnrolmentMode::Automatic, EnrolmentMode::OptIn);
        assert_eq!(carried(&[(Restrict, 1), (Unrestrict, 300)], automatic), (Standing::NONE, 300));
        assert_eq!(carried(&[(Restrict, 1), (Unrestrict, 30)], automatic), (Standing::NONE, 100));
        // Where everyone takes part, saying so changes nothing; where only those do who said so, it counts from then on.
        assert_eq!(carried(&[(OptIn, 300)], automatic), (Standing::OPTED_IN, 100));
        assert_eq!(carried(&[(OptIn, 300), (OptIn, 400)], asked), (Standing::OPTED_IN, 300));
    }
}
