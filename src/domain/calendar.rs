//! What the rules of a pool are at one point of a partition's journal: the unfrozen periods, and what held in frozen ones.

use std::sync::Arc;

use super::amount::BaseUnits;
use super::eligibility::EligibilityPolicy;
use super::period::OpenPeriod;
use super::time::UnixSeconds;

/// The most runs of frozen periods that a calendar remembers. A run ends where the policy changes, not with a period, so
/// that most pools have one. An event from before the oldest of them is too old, whatever the lateness.
pub const MAX_FROZEN_RUNS: usize = 32;

/// Frozen periods, one after the other, in which the same counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrozenRun {
    /// The start of the first of them.
    pub from: UnixSeconds,
    /// The end of the last of them.
    pub until: UnixSeconds,
    /// What earned in them.
    pub policy: EligibilityPolicy,
    /// The most of one balance that earned in them: the periods' balance limit.
    pub ceiling: BaseUnits,
}

/// What held in frozen periods: up to [`MAX_FROZEN_RUNS`] runs without a gap, up to the oldest unfrozen period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrozenPast(Arc<[FrozenRun]>);

impl FrozenPast {
    /// A past of these runs; `None` where they are too many, or do not follow each other without a gap.
    pub fn new(runs: Vec<FrozenRun>) -> Option<Self> {
        let joined = runs.windows(2).all(|pair| matches!(pair, [one, next] if one.until == next.from));
        let forward = runs.iter().all(|run| run.from < run.until);
        (joined && forward && runs.len() <= MAX_FROZEN_RUNS).then(|| Self(runs.into()))
    }

    /// The runs, oldest first.
    pub fn runs(&self) -> &[FrozenRun] {
        &self.0
    }

    /// The first moment of which it is known what held.
    pub fn known_from(&self) -> Option<UnixSeconds> {
        self.0.first().map(|run| run.from)
    }

    /// The past once `period` is frozen, too.
    fn with(&self, period: &OpenPeriod) -> Self {
        let (policy, ceiling) = (period.policy, period.balance_limit());
        let fresh = FrozenRun { from: period.bounds.start, until: period.bounds.end, policy, ceiling };
        let mut runs = self.0.to_vec();
        match runs.last_mut() {
            Some(last) if (last.until, last.policy, last.ceiling) == (fresh.from, policy, ceiling) => {
                last.until = fresh.until;
            }
            _ => runs.push(fresh),
        }
        let dropped = runs.len().saturating_sub(MAX_FROZEN_RUNS);
        Self(runs.split_off(dropped).into())
    }
}

/// The rules at one point of a partition's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// The start of the pool's first period: no effective time lies before it.
    pub origin: UnixSeconds,
    /// Whether a period was frozen already.
    pub frozen_any: bool,
    /// What held in the periods that were.
    pub past: FrozenPast,
    /// The oldest unfrozen period.
    pub oldest: OpenPeriod,
    /// The one after it, once it is open.
    pub next: Option<OpenPeriod>,
}

impl Calendar {
    /// The calendar of a pool whose first period opens.
    pub fn first(origin: UnixSeconds, period: OpenPeriod) -> Self {
        Self { origin, frozen_any: false, past: FrozenPast::default(), oldest: period, next: None }
    }

    /// The first second that no open period covers.
    pub fn open_until(&self) -> UnixSeconds {
        self.next.map_or(self.oldest.bounds.end, |next| next.bounds.end)
    }

    /// The largest balance that a position may take on: the smaller of the open periods' limits.
    pub fn balance_limit(&self) -> BaseUnits {
        match self.next {
            Some(next) if next.weighed_seconds() > self.oldest.weighed_seconds() => next.balance_limit(),
            _ => self.oldest.balance_limit(),
        }
    }

    /// The first moment that an event of now may reach into frozen periods: `max_lateness` before now or before the start
    /// of the oldest unfrozen period, whichever is later, and never before what is remembered.
    pub fn reach(&self, now: UnixSeconds) -> UnixSeconds {
        let start = self.oldest.bounds.start;
        let lateness = i64::from(self.oldest.limits.max_lateness_seconds);
        now.max(start).plus(-lateness).max(self.past.known_from().unwrap_or(start))
    }

    /// The calendar once the oldest period is frozen; `None` where no next one is open.
    pub fn after_freeze(&self) -> Option<Self> {
        let (oldest, past) = (self.next?, self.past.with(&self.oldest));
        Some(Self { origin: self.origin, frozen_any: true, past, oldest, next: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::eligibility::EnrolmentMode;
    use crate::domain::period::{PeriodBounds, PeriodIndex, TimeLimits};

    fn period(index: u64, minimum: u64, lateness: u32) -> OpenPeriod {
        let minimum = BaseUnits::from_u64(minimum);
        OpenPeriod {
            index: PeriodIndex(index),
            bounds: PeriodBounds::new(UnixSeconds::new(100 + 10 * index as i64), 10).unwrap(),
            policy: EligibilityPolicy { minimum, cap: None, enrolment: EnrolmentMode::Automatic },
            limits: TimeLimits { max_skew_seconds: 1, max_lateness_seconds: lateness, max_future_seconds: 1 },
        }
    }

    fn after(periods: &[OpenPeriod]) -> Calendar {
        let mut calendar = Calendar::first(UnixSeconds::new(100), periods[0]);
        for period in &periods[1..] {
            calendar = Calendar { next: Some(*period), ..calendar }.after_freeze().unwrap();
        }
        calendar
    }

    #[test]
    fn periods_of_one_policy_are_one_run() {
        let periods: Vec<OpenPeriod> = (0..100).map(|index| period(index, index / 40, 20)).collect();
        let runs = after(&periods).past.runs().to_vec();
        let bounds: Vec<(i64, i64)> = runs.iter().map(|run| (run.from.get(), run.until.get())).collect();
        assert_eq!(bounds, [(100, 500), (500, 900), (900, 1_090)]);
        let lateness: Vec<OpenPeriod> = (0..9).map(|index| period(index, 0, 20 + index as u32 / 4)).collect();
        assert_eq!(after(&lateness).past.runs().len(), 2, "another balance limit is another run");
    }

    #[test]
    fn only_the_last_runs_are_remembered_and_nothing_reaches_past_them() {
        let periods: Vec<OpenPeriod> = (0..60).map(|index| period(index, index, 100_000)).collect();
        let calendar = after(&periods);
        assert_eq!(calendar.past.runs().len(), MAX_FROZEN_RUNS);
        assert_eq!(calendar.past.known_from(), Some(UnixSeconds::new(100 + 10 * 27)));
        assert_eq!(calendar.reach(UnixSeconds::new(700)), UnixSeconds::new(370));
        assert!(FrozenPast::new(calendar.past.runs().to_vec()).is_some_and(|past| past == calendar.past));
    }

    #[test]
    fn lateness_is_told_from_now_or_from_the_start_of_the_oldest_period() {
        let calendar = after(&(0..60).map(|index| period(index, 0, 25)).collect::<Vec<_>>());
        assert_eq!(calendar.oldest.bounds.start, UnixSeconds::new(690));
        assert_eq!(calendar.reach(UnixSeconds::new(700)), UnixSeconds::new(675));
        assert_eq!(calendar.reach(UnixSeconds::new(0)), UnixSeconds::new(665));
    }

    #[test]
    fn a_past_with_a_gap_is_none() {
        let runs = after(&(0..4).map(|index| period(index, index, 25)).collect::<Vec<_>>()).past.runs().to_vec();
        assert!(FrozenPast::new(vec![runs[0], runs[2]]).is_none());
        assert!(FrozenPast::new(vec![runs[1], runs[0]]).is_none());
        assert!(FrozenPast::new(vec![runs[0]; MAX_FROZEN_RUNS + 1]).is_none());
    }
}
