//! Time as the rules see it: whole seconds since the Unix epoch, always handed in as a value.

use std::fmt;

/// A moment, in whole seconds since 1970-01-01T00:00:00Z. What arrives with fractions is floored at the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(i64);

/// One UTC day, the default length of a period.
pub const DAY_SECONDS: u32 = 86_400;

/// The year that annual rates refer to: 365 days.
pub const YEAR_SECONDS: u64 = 365 * DAY_SECONDS as u64;

impl UnixSeconds {
    /// The moment `seconds` after the epoch.
    pub const fn new(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// This moment moved by `seconds`, saturating at the ends of time.
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Whole seconds from `earlier` to this moment; zero where `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        if self.0 <= earlier.0 { 0 } else { self.0.abs_diff(earlier.0) }
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
