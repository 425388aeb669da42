//! Periods: the intervals that distributions cover. Contiguous from a pool's first start on.

use super::names::stable_names;
use std::fmt;

use super::amount::{BaseUnits, MAX_BASE_UNITS};
use super::eligibility::{EligibilityPolicy, Standing, eligible};
use super::time::{DAY_SECONDS, UnixSeconds};

/// The longest period that a pool may have.
pub const MAX_PERIOD_SECONDS: u32 = 31 * DAY_SECONDS;

/// A period of one pool, counted from 0 at the pool's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeriodIndex(pub u64);

impl PeriodIndex {
    /// The period after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for PeriodIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a period begins and ends: `[start, end)`. Stored per period, since the length may change at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeriodBounds {
    /// The first second of the period.
    pub start: UnixSeconds,
    /// The first second past it.
    pub end: UnixSeconds,
}

/// Why bounds were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a period lasts from 1 second to {MAX_PERIOD_SECONDS} seconds")]
pub struct PeriodLengthError;

impl PeriodBounds {
    /// The period of `seconds` that begins at `start`.
    pub fn new(start: UnixSeconds, seconds: u32) -> Result<Self, PeriodLengthError> {
        if seconds == 0 || seconds > MAX_PERIOD_SECONDS {
            return Err(PeriodLengthError);
        }
        let end = start.plus(i64::from(seconds));
        if end.since(start) != u64::from(seconds) {
            return Err(PeriodLengthError);
        }
        Ok(Self { start, end })
    }

    /// The bounds of the period that follows, of `seconds`.
    pub fn following(self, seconds: u32) -> Result<Self, PeriodLengthError> {
        Self::new(self.end, seconds)
    }

    /// How long the period is.
    pub const fn seconds(self) -> u64 {
        self.end.since(self.start)
    }

    /// Whether `at` lies in the period.
    pub fn contains(self, at: UnixSeconds) -> bool {
        self.start <= at && at < self.end
    }

    /// The period's name: the UTC date where it is a whole UTC day, else its start, such as `20261122T130000Z`.
    pub fn name(self) -> String {
        let day = i64::from(DAY_SECONDS);
        let (year, month, date) = civil_from_days(self.start.get().div_euclid(day));
        let second = self.start.get().rem_euclid(day);
        if second == 0 && self.seconds() == u64::from(DAY_SECONDS) {
            return format!("{year:04}-{month:02}-{date:02}");
        }
        format!("{year:04}{month:02}{date:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

/// The start of the period that a name of [`PeriodBounds::name`] stands for; `None` where it is no such name.
pub fn parse_period_start(name: &str) -> Option<UnixSeconds> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = name.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let fixed = |at: usize, text: &str| name.get(at..at + text.len()) == Some(text);
    let (year, month, date, second) = match name.len() {
        10 if fixed(4, "-") && fixed(7, "-") => (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?, 0),
        16 if fixed(8, "T") && fixed(15, "Z") => {
            let (hour, minute, second) = (digits(9, 11)?, digits(11, 13)?, digits(13, 15)?);
            if hour > 23 || minute > 59 || second > 59 {
                return None;
            }
            (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?, hour * 3600 + minute * 60 + second)
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, date);
    (civil_from_days(days) == (year, month, date)).then(|| UnixSeconds::new(days * i64::from(DAY_SECONDS) + second))
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (H. Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, date: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date (year, month, day of month) of a day since 1970-01-01 (H. Hinnant's `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Where a period stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeriodState {
    /// Balances still count into it.
    Open,
    /// Its weights are cut and will not change.
    Frozen,
    /// Its distribution was released.
    Distributed,
}

stable_names!(
    PeriodState,
    /// The stable name.
    fn name(self) {
        Self::Open => "OPEN",
        Self::Frozen => "FROZEN",
        Self::Distributed => "DISTRIBUTED",
    }
);

/// What can happen to a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodEvent {
    /// Every source vouched for its end, or the grace ran out.
    Freeze,
    /// A distribution of it was released.
    Release,
}

impl PeriodState {
    /// The state after `event`; `None` where the event can't happen in this state.
    pub const fn after(self, event: PeriodEvent) -> Option<Self> {
        match (self, event) {
            (Self::Open, PeriodEvent::Freeze) => Some(Self::Frozen),
            (Self::Frozen, PeriodEvent::Release) => Some(Self::Distributed),
            (Self::Open, PeriodEvent::Release)
            | (Self::Frozen, PeriodEvent::Freeze)
            | (Self::Distributed, PeriodEvent::Freeze | PeriodEvent::Release) => None,
        }
    }
}

/// How far in time an event may lie from where it is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeLimits {
    /// A time that goes back within a position by at most this is moved up to the last one.
    pub max_skew_seconds: u32,
    /// An event that reaches into frozen periods is taken up to this age.
    pub max_lateness_seconds: u32,
    /// An event may lie at most this far ahead of now.
    pub max_future_seconds: u32,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self { max_skew_seconds: 300, max_lateness_seconds: 72 * 3600, max_future_seconds: 300 }
    }
}

/// An unfrozen period with its snapshot of what holds in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenPeriod {
    /// Which period.
    pub index: PeriodIndex,
    /// When.
    pub bounds: PeriodBounds,
    /// What earns in it.
    pub policy: EligibilityPolicy,
    /// The times that are accepted while it is the oldest unfrozen one.
    pub limits: TimeLimits,
}

impl OpenPeriod {
    /// For how many seconds a balance may count in its weights: its own, and those that late events reach back.
    pub fn weighed_seconds(&self) -> u64 {
        self.bounds.seconds().saturating_add(u64::from(self.limits.max_lateness_seconds)).max(1)
    }

    /// The most of one balance that earns, so that every weight fits: `floor((2^127 - 1) / (period + max_lateness
    /// seconds))`. No larger balance is accepted while the period is open; one that was before earns this much.
    pub fn balance_limit(&self) -> BaseUnits {
        BaseUnits::new(MAX_BASE_UNITS / u128::from(self.weighed_seconds())).unwrap_or(BaseUnits::MAX)
    }

    /// What [`eligible`] says, at most [`Self::balance_limit`].
    pub fn eligible(&self, balance: BaseUnits, standing: Standing) -> BaseUnits {
        let eligible = eligible(balance, standing, &self.policy);
        // Lengths and lateness together are below 2^33 seconds: most balances are far from the limit.
        if eligible.get() >> 94 == 0 { eligible } else { eligible.min(self.balance_limit()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_named_by_its_date_and_anything_else_by_its_start() {
        let midnight = UnixSeconds::new(1_795_305_600);
        let day = PeriodBounds::new(midnight, DAY_SECONDS).unwrap();
        assert_eq!(day.name(), "2026-11-22");
        assert_eq!(parse_period_start("2026-11-22"), Some(midnight));
        let minute = PeriodBounds::new(midnight.plus(3661), 60).unwrap();
        assert_eq!(minute.name(), "20261122T010101Z");
        assert_eq!(parse_period_start("20261122T010101Z"), Some(minute.start));
        let shifted = PeriodBounds::new(midnight.plus(1), DAY_SECONDS).unwrap();
        assert_eq!(shifted.name(), "20261122T000001Z");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "2026-11-31", "2026-13-01", "2026-1-01", "20261122T240000Z", "20261122T0000000", "2026-11-2é"]
        {
            assert_eq!(parse_period_start(bad), None, "{bad}");
        }
        for bad in ["+026-11-22", "20261122t010101Z", "2026-02-29", "2026/11/22"] {
            assert_eq!(parse_period_start(bad), None, "{bad}");
        }
        assert!(parse_period_start("2028-02-29").is_some());
    }

    #[test]
    fn names_and_starts_agree_over_centuries() {
        for step in 0..40_000 {
            let start = UnixSeconds::new(i64::from(step) * 271_000 - 1_000_000_000);
            let bounds = PeriodBounds::new(start, 600).unwrap();
            assert_eq!(parse_period_start(&bounds.name()), Some(start), "{}", bounds.name());
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let start = UnixSeconds::new(0);
        assert_eq!(PeriodBounds::new(start, 0), Err(PeriodLengthError));
        assert_eq!(PeriodBounds::new(start, MAX_PERIOD_SECONDS + 1), Err(PeriodLengthError));
        assert_eq!(PeriodBounds::new(UnixSeconds::new(i64::MAX), 60), Err(PeriodLengthError));
        assert_eq!(PeriodBounds::new(start, 60).unwrap().following(30).unwrap().end, UnixSeconds::new(90));
    }

    #[test]
    fn states_only_go_forward() {
        assert_eq!(PeriodState::Open.after(PeriodEvent::Freeze), Some(PeriodState::Frozen));
        assert_eq!(PeriodState::Frozen.after(PeriodEvent::Release), Some(PeriodState::Distributed));
        assert_eq!(PeriodState::Frozen.after(PeriodEvent::Freeze), None);
        assert_eq!(PeriodState::Open.after(PeriodEvent::Release), None);
    }
}
