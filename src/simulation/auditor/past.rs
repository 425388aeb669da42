//! What a position held at each moment of its own time, as far as is known by now, and what it would have weighed had it
//! held something else.

use ruint::aliases::U256;

use super::input::{Flags, Opened};
use super::weigh::{eligible, limit};

/// A gain and a loss of weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) gained: U256,
    pub(super) lost: U256,
}

impl Moved {
    /// Takes in that for some seconds so much earned, and not what earned before.
    pub(super) fn add(&mut self, now: u128, before: u128, seconds: i64) {
        self.gained += U256::from(now) * U256::from(seconds);
        self.lost += U256::from(before) * U256::from(seconds);
    }

    /// The same with one of both nothing.
    pub(super) fn net(self) -> Self {
        let both = self.gained.min(self.lost);
        Self { gained: self.gained - both, lost: self.lost - both }
    }

    /// The difference; `None` where it is past 128 bits.
    pub(super) fn signed(self) -> Option<i128> {
        let Self { gained, lost } = self.net();
        let size = i128::try_from(gained.max(lost)).ok()?;
        Some(if lost.is_zero() { size } else { -size })
    }
}

/// What was held, moment by moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    balances: Vec<(i64, u128)>,
    standings: Vec<(i64, Flags)>,
}

impl Held {
    /// The balance from `at` on, which is no earlier than the last.
    pub(super) fn balance(&mut self, at: i64, balance: u128) {
        self.balances.push((at, balance));
    }

    /// The standing from `at` on, which is no earlier than the last.
    pub(super) fn standing(&mut self, at: i64, standing: Flags) {
        self.standings.push((at, standing));
    }

    /// The time of the first balance after `at`.
    pub(super) fn next_after(&self, at: i64) -> Option<i64> {
        self.balances.iter().map(|(moment, _)| *moment).filter(|moment| *moment > at).min()
    }

    /// From `at` until the next balance it was another one.
    pub(super) fn correct(&mut self, at: i64, balance: u128) {
        self.balances.retain(|(moment, _)| *moment != at);
        self.balances.push((at, balance));
        self.balances.sort_by_key(|(moment, _)| *moment);
    }

    /// By how much the weight of a period would be another one, had `balance` been held from `from` until `until`.
    pub(super) fn difference(&self, period: &Opened, from: i64, until: i64, balance: u128) -> Moved {
        let (from, until) = (from.max(period.start), until.min(period.end));
        let mut turns = vec![from, until];
        let moments = self.balances.iter().map(|it| it.0).chain(self.standings.iter().map(|it| it.0));
        turns.extend(moments.filter(|moment| from < *moment && *moment < until));
        turns.sort_unstable();
        turns.dedup();
        let mut moved = Moved::default();
        for (start, end) in turns.iter().zip(turns.iter().skip(1)).filter(|_| from < until) {
            let there = |moment: i64| moment <= *start;
            let held = self.balances.iter().rfind(|(moment, _)| there(*moment)).map_or(0, |(_, held)| *held);
            let standing = self.standings.iter().rfind(|(moment, _)| there(*moment)).map(|(_, standing)| *standing);
            let earns = |balance: u128| eligible(balance, standing.unwrap_or_default(), period);
            moved.add(earns(balance), earns(held), end - start);
        }
        moved
    }
}

/// What an event that reaches back to `from` changes of frozen periods: for each of them, by that period's own rules,
/// `(eligible_new - eligible_old)` x the seconds left in it.
pub(super) fn late(new: (u128, Flags), old: (u128, Flags), from: i64, past: &[Opened], oldest: &Opened) -> Moved {
    let mut moved = Moved::default();
    for period in past {
        let seconds = (period.end - from.max(period.start)).max(0);
        // However much was accepted before the limit was lowered.
        let earns = |(balance, standing): (u128, Flags)| eligible(balance, standing, period).min(limit(oldest));
        moved.add(earns(new), earns(old), seconds);
    }
    moved.net()
}
