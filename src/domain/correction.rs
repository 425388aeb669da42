//! Corrections: what goes before a position's last event.
//!
//! The feed can't go back behind a position's last event, and a correction does: it says that the balance that held from
//! some moment until the position's next event was another one. What that changes in the weights of all periods since is
//! told as two differences, one for each open period; periods that are frozen stay as they are, and their part is put
//! into the oldest open one, as that of a late event is.

use super::amount::BaseUnits;
use super::eligibility::Standing;
use super::feed::RejectReason;
use super::ids::AccountId;
use super::period::{OpenPeriod, PeriodIndex};
use super::time::UnixSeconds;

/// The most that corrections may bring the weight of an open period to: what the period itself and late events can add
/// beside still fits.
pub const MAX_CORRECTED_WEIGHT: u128 = 1 << 127;

/// What a position held from a moment on, until the next such moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Since when.
    pub from: UnixSeconds,
    /// The balance.
    pub balance: BaseUnits,
    /// What besides decides whether it earns.
    pub standing: Standing,
}

/// The point of a position that a correction was computed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The oldest unfrozen period.
    pub oldest: PeriodIndex,
    /// The time of the position's last event, in seconds since the pool's origin.
    pub last_second: u32,
    /// The last sequence of its source that was accepted.
    pub last_sequence: u64,
    /// The balance after the last event.
    pub available: BaseUnits,
    /// The standing after the last event.
    pub standing: Standing,
}

/// A correction as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedCorrection {
    /// Whose balance.
    pub account: AccountId,
    /// The balance that held.
    pub balance: BaseUnits,
    /// Since when.
    pub at: UnixSeconds,
}

/// A correction with everything that it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// From when on the balance is another one.
    pub at: UnixSeconds,
    /// That balance.
    pub balance: BaseUnits,
    /// The time of the position's next event. `None` where there is none: it is the balance from then on.
    pub until: Option<UnixSeconds>,
    /// By how much the weight of the oldest unfrozen period changes, for it and for all that are frozen, in base units x
    /// seconds.
    pub oldest: i128,
    /// By how much the weight of the period after it changes.
    pub next: i128,
    /// What it rests on. One that changes the balance from now on counts for this very point; of another one, only the
    /// oldest unfrozen period must still be the same.
    pub basis: Basis,
}

/// What a correction changes in weights, in base units x seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// In periods that are frozen.
    pub frozen: i128,
    /// In the oldest unfrozen one.
    pub oldest: i128,
    /// In the one after it.
    pub next: i128,
}

impl Differences {
    /// All of it; `None` where it does not fit.
    pub fn total(&self) -> Option<i128> {
        self.frozen.checked_add(self.oldest)?.checked_add(self.next)
    }
}

/// By how much the weights of `periods` would be others, had the position held `balance` from `at` until `until`.
///
/// `held` is in the order of time; before its first moment nothing was held. Each period counts under its own policy and
/// its own balance limit, whole seconds of it that lie between `at` and `until`. `None` where a sum does not fit.
pub fn differences(
    held: &[Held],
    at: UnixSeconds,
    until: UnixSeconds,
    balance: BaseUnits,
    periods: &[OpenPeriod],
    oldest: PeriodIndex,
) -> Option<Differences> {
    let mut found = Differences::default();
    for period in periods {
        let (from, to) = (at.max(period.bounds.start), until.min(period.bounds.end));
        // What held when the stretch begins, and everything that begins within it.
        let first = held.partition_point(|held| held.from <= from);
        let before = first.checked_sub(1).and_then(|before| held.get(before));
        let within = held.iter().skip(first).take_while(|held| held.from < to);
        let mut sum = 0i128;
        let mut add = |start: UnixSeconds, end: UnixSeconds, there: Option<&Held>| {
            let (before, standing) =
                there.map_or((BaseUnits::ZERO, Standing::NONE), |held| (held.balance, held.standing));
            let eligible = |balance| period.eligible(balance, standing).signed().get();
            let change = eligible(balance) - eligible(before);
            sum = sum.checked_add(change.checked_mul(i128::from(end.since(start)))?)?;
            Some(())
        };
        let (mut start, mut there) = (from, before);
        for held in within {
            add(start, held.from, there)?;
            (start, there) = (held.from, Some(held));
        }
        add(start, to.max(start), there)?;
        let slot = match period.index.cmp(&oldest) {
            std::cmp::Ordering::Less => &mut found.frozen,
            std::cmp::Ordering::Equal => &mut found.oldest,
            std::cmp::Ordering::Greater => &mut found.next,
        };
        *slot = slot.checked_add(sum)?;
    }
    Some(found)
}

/// The balance history of a position, put together from what was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    balances: Vec<(UnixSeconds, BaseUnits)>,
    standings: Vec<(UnixSeconds, Standing)>,
}

impl Timeline {
    /// The balance from `at` on, which is not before the last one.
    pub fn balance(&mut self, at: UnixSeconds, balance: BaseUnits) {
        self.balances.push((at, balance));
    }

    /// The standing from `at` on, which is not before the last one.
    pub fn standing(&mut self, at: UnixSeconds, standing: Standing) {
        self.standings.push((at, standing));
    }

    /// A correction that was made: the balance from `at` until the next event.
    pub fn correct(&mut self, correction: &Correction) {
        let covered = |at: UnixSeconds| at >= correction.at && correction.until.is_none_or(|until| at < until);
        self.balances.retain(|(at, _)| !covered(*at));
        let place = self.balances.partition_point(|(at, _)| *at < correction.at);
        self.balances.insert(place, (correction.at, correction.balance));
    }

    /// The balance after everything.
    pub fn last_balance(&self) -> Option<BaseUnits> {
        self.balances.last().map(|(_, balance)| *balance)
    }

    /// The first balance after `at`: the position's next event.
    pub fn next_after(&self, at: UnixSeconds) -> Option<UnixSeconds> {
        self.balances.iter().map(|(moment, _)| *moment).find(|moment| *moment > at)
    }

    /// How many balances and standings there are.
    pub fn len(&self) -> usize {
        self.balances.len() + self.standings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was held, in the order of time. Where a standing was told before any balance, nothing was held. One pass over
    /// both: an account may have a balance for every second.
    pub fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = Vec::with_capacity(self.len());
        let (mut balances, mut standings) = (self.balances.iter().peekable(), self.standings.iter().peekable());
        let (mut balance, mut standing) = (BaseUnits::ZERO, Standing::NONE);
        loop {
            let next = balances.peek().map(|(at, _)| *at).into_iter().chain(standings.peek().map(|(at, _)| *at)).min();
            let Some(from) = next else { return held };
            while let Some((_, after)) = balances.next_if(|(at, _)| *at == from) {
                balance = *after;
            }
            while let Some((_, after)) = standings.next_if(|(at, _)| *at == from) {
                standing = *after;
            }
            held.push(Held { from, balance, standing });
        }
    }
}

/// Whether a weight may become this by a correction.
pub(super) fn corrected(weight: u128, difference: i128, limit: BaseUnits) -> Result<u128, RejectReason> {
    let after = weight.checked_add_signed(difference).filter(|after| *after <= MAX_CORRECTED_WEIGHT);
    after.ok_or(RejectReason::BalanceTooLarge { limit })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
    use crate::domain::period::{PeriodBounds, TimeLimits};

    /// The last of `told` that is not after `at`.
    fn last<T: Copy>(told: &[(UnixSeconds, T)], at: UnixSeconds) -> Option<T> {
        told.iter().rev().find(|(moment, _)| *moment <= at).map(|(_, value)| *value)
    }

    fn told<T: std::fmt::Debug>(
        value: impl Strategy<Value = T>,
        count: usize,
    ) -> impl Strategy<Value = Vec<(UnixSeconds, T)>> {
        let told = proptest::collection::vec((0i64..60, value), 0..count);
        told.prop_map(|mut told| {
            told.sort_by_key(|(at, _)| *at);
            told.into_iter().map(|(at, value)| (UnixSeconds::new(at), value)).collect()
        })
    }

    fn period(index: u64, minimum: u64) -> OpenPeriod {
        let bounds = PeriodBounds::new(UnixSeconds::new(index as i64 * 20), 20).unwrap();
        let minimum = BaseUnits::from_u64(minimum);
        let policy = EligibilityPolicy { minimum, cap: None, enrolment: EnrolmentMode::Automatic };
        OpenPeriod { index: PeriodIndex(index), bounds, policy, limits: TimeLimits::default() }
    }

    proptest! {
        /// What is held at each moment is the last balance and the last standing told by then, and a correction changes
        /// weights by what it changes second by second.
        #[test]
        fn a_history_is_what_was_last_told(
            balances in told((0u64..9).prop_map(BaseUnits::from_u64), 12),
            standings in told(prop_oneof![Just(Standing::NONE), Just(Standing::RESTRICTED)], 6),
            (at, until, balance) in (0i64..60, 0i64..60, 0u64..9),
        ) {
            let mut timeline = Timeline::default();
            balances.iter().for_each(|(at, balance)| timeline.balance(*at, *balance));
            standings.iter().for_each(|(at, standing)| timeline.standing(*at, *standing));
            let held = timeline.held();
            prop_assert!(held.is_sorted_by(|one, other| one.from < other.from));
            let mut moments: Vec<_> = balances.iter().map(|(at, _)| *at).chain(standings.iter().map(|(at, _)| *at)).collect();
            moments.sort_unstable();
            moments.dedup();
            prop_assert_eq!(held.iter().map(|held| held.from).collect::<Vec<_>>(), moments);
            for Held { from, balance, standing } in &held {
                prop_assert_eq!(*balance, last(&balances, *from).unwrap_or_default());
                prop_assert_eq!(*standing, last(&standings, *from).unwrap_or_default());
            }
            let (at, until) = (UnixSeconds::new(at), UnixSeconds::new(until));
            let periods = [period(0, 0), period(1, 3), period(2, 5)];
            let balance = BaseUnits::from_u64(balance);
            let found = differences(&held, at, until, balance, &periods, PeriodIndex(1)).unwrap();
            let changed = periods.map(|period| {
                let seconds = period.bounds.start.max(at).get()..period.bounds.end.min(until).get();
                seconds.map(UnixSeconds::new).map(|second| {
                    let standing = last(&standings, second).unwrap_or_default();
                    let eligible = |balance| period.eligible(balance, standing).signed().get();
                    eligible(balance) - eligible(last(&balances, second).unwrap_or_default())
                }).sum::<i128>()
            });
            prop_assert_eq!([found.frozen, found.oldest, found.next], changed);
        }
    }
}
