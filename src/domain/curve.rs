//! How a pool's eligible total ran through one period: the total at its start and the changes per second.
//!
//! It is summed independently of the positions' weights, so that the two prove each other:
//! `sum(weight) = start x length + sum(change x (end - when))`.

use ruint::aliases::U256;

use super::period::PeriodBounds;
use super::time::UnixSeconds;

/// The eligible total of a pool through one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EligibleCurve {
    bounds: PeriodBounds,
    start_total: i128,
    /// One change per second of the period.
    changes: Vec<i128>,
}

/// A stretch over which the eligible total stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its first second.
    pub from: UnixSeconds,
    /// The first second past it.
    pub to: UnixSeconds,
    /// The eligible total meanwhile; negative only where the inputs were out of all bounds.
    pub total: i128,
}

impl EligibleCurve {
    /// A flat curve at `start_total`.
    pub fn new(bounds: PeriodBounds, start_total: i128) -> Self {
        let seconds = usize::try_from(bounds.seconds()).unwrap_or(0);
        Self { bounds, start_total, changes: vec![0; seconds] }
    }

    /// The period that it covers.
    pub const fn bounds(&self) -> PeriodBounds {
        self.bounds
    }

    /// The total at the start.
    pub const fn start_total(&self) -> i128 {
        self.start_total
    }

    /// Moves the whole curve: the total at the start becomes known, or changes.
    pub fn set_start_total(&mut self, start_total: i128) {
        self.start_total = start_total;
    }

    /// Adds a change at `at`; outside of the period it counts at the nearest second of it.
    pub fn add(&mut self, at: UnixSeconds, change: i128) {
        let second = usize::try_from(at.since(self.bounds.start)).unwrap_or(usize::MAX);
        let last = self.changes.len().saturating_sub(1);
        if let Some(slot) = self.changes.get_mut(second.min(last)) {
            *slot = slot.saturating_add(change);
        }
    }

    /// The total after the period's last change.
    pub fn end_total(&self) -> i128 {
        self.changes.iter().fold(self.start_total, |total, change| total.saturating_add(*change))
    }

    /// The seconds (from the start) at which the total changes, and by how much.
    pub fn changes(&self) -> impl Iterator<Item = (u32, i128)> + '_ {
        (0u32..).zip(&self.changes).filter(|(_, change)| **change != 0).map(|(second, change)| (second, *change))
    }

    /// Puts a change back, `second` seconds from the start; says whether that lies in the period.
    pub fn restore(&mut self, second: u32, change: i128) -> bool {
        let slot = usize::try_from(second).ok().and_then(|s| self.changes.get_mut(s));
        slot.map(|slot| *slot = change).is_some()
    }

    /// The stretches of equal total, in order, covering the period without a hole.
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let (mut from, mut total) = (self.bounds.start, self.start_total);
        for (second, change) in self.changes() {
            let at = self.bounds.start.plus(i64::from(second));
            if at > from {
                stretches.push(Stretch { from, to: at, total });
            }
            (from, total) = (at, total.saturating_add(change));
        }
        if self.bounds.end > from {
            stretches.push(Stretch { from, to: self.bounds.end, total });
        }
        stretches
    }

    /// The total at `at`: before the period that of its start, after it that of its end.
    pub fn total_at(&self, at: UnixSeconds) -> i128 {
        let upto = usize::try_from(at.since(self.bounds.start)).unwrap_or(usize::MAX);
        if at < self.bounds.start {
            return self.start_total;
        }
        let known = self.changes.iter().take(upto.saturating_add(1));
        known.fold(self.start_total, |total, change| total.saturating_add(*change))
    }

    /// The integral of the total over the period: `start x length + sum(change x (end - when))`; `None` where it
    /// would be negative, which sound inputs never make it.
    pub fn integral(&self) -> Option<U256> {
        self.integral_from(self.start_total)
    }

    /// The same, had the period started with another total.
    pub fn integral_from(&self, start_total: i128) -> Option<U256> {
        let (mut plus, mut minus) = (U256::ZERO, U256::ZERO);
        let mut book = |units: i128, seconds: u64| {
            let area = U256::from(units.unsigned_abs()) * U256::from(seconds);
            let side = if units < 0 { &mut minus } else { &mut plus };
            *side = side.saturating_add(area);
        };
        book(start_total, self.bounds.seconds());
        for (second, change) in self.changes() {
            book(change, self.bounds.seconds().saturating_sub(u64::from(second)));
        }
        plus.checked_sub(minus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> EligibleCurve {
        let mut curve = EligibleCurve::new(PeriodBounds::new(UnixSeconds::new(1000), 100).unwrap(), 50);
        curve.add(UnixSeconds::new(1000), 10);
        curve.add(UnixSeconds::new(1040), -60);
        curve.add(UnixSeconds::new(1099), 7);
        curve
    }

    #[test]
    fn the_integral_is_the_sum_of_its_stretches() {
        let curve = curve();
        let at = UnixSeconds::new;
        let stretches = curve.stretches();
        let expected = [
            Stretch { from: at(1000), to: at(1040), total: 60 },
            Stretch { from: at(1040), to: at(1099), total: 0 },
            Stretch { from: at(1099), to: at(1100), total: 7 },
        ];
        assert_eq!(stretches, expected);
        assert_eq!(curve.integral(), Some(U256::from(60u64 * 40 + 7)));
        assert_eq!(curve.end_total(), 7);
        assert_eq!((curve.total_at(at(999)), curve.total_at(at(1039)), curve.total_at(at(1040))), (50, 60, 0));
        assert_eq!(curve.total_at(at(5000)), 7);
    }

    #[test]
    fn changes_come_back_as_they_were() {
        let curve = curve();
        let mut again = EligibleCurve::new(curve.bounds(), curve.start_total());
        assert!(curve.changes().all(|(second, change)| again.restore(second, change)));
        assert_eq!(again, curve);
        assert!(!again.restore(100, 1));
    }

    #[test]
    fn what_lies_outside_counts_at_the_edge_and_a_negative_area_is_told() {
        let mut curve = EligibleCurve::new(PeriodBounds::new(UnixSeconds::new(0), 10).unwrap(), 0);
        curve.add(UnixSeconds::new(-5), 3);
        curve.add(UnixSeconds::new(99), -1);
        assert_eq!(curve.changes().collect::<Vec<_>>(), [(0, 3), (9, -1)]);
        curve.set_start_total(-4);
        assert_eq!(curve.integral(), None);
    }
}
