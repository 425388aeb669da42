//! Time weights: for every account and every frozen period the sum over its stretches of eligible x seconds.

use std::collections::BTreeMap;

use ruint::aliases::U256;

use super::history::{Change, History, Mark};
use super::input::{Flags, Opened, StakedChange};
use super::past::Moved;

/// What a frozen period weighs.
#[derive(Clone, Debug, Default)]
pub(super) struct Weighed {
    /// The weight of every position that was there, zeros included.
    pub(super) weights: BTreeMap<String, U256>,
    /// What late events added to the weights, and took from them.
    pub(super) added: U256,
    pub(super) taken: U256,
    /// The eligible total that the period began with, before what happened in its first second.
    pub(super) opening: u128,
    /// By how much the eligible total changes, second by second, from nothing before the start.
    pub(super) eligible: BTreeMap<i64, i128>,
}

impl Weighed {
    /// The sum of the weights.
    pub(super) fn total(&self) -> U256 {
        self.weights.values().fold(U256::ZERO, |sum, weight| sum + *weight)
    }

    /// How many are above zero.
    pub(super) fn positive(&self) -> u64 {
        self.weights.values().filter(|weight| !weight.is_zero()).count() as u64
    }

    /// The eligible total at a second of the period.
    pub(super) fn eligible_at(&self, second: i64) -> i128 {
        self.eligible.range(..=second).map(|(_, change)| *change).sum()
    }
}

/// The most of one balance that earns in a period, so that every weight fits:
/// `floor((2^127 - 1) / (period + max_lateness seconds))`.
pub(super) fn limit(period: &Opened) -> u128 {
    i128::MAX as u128 / (period.end - period.start + period.max_lateness) as u128
}

/// The part of a balance that earns.
pub(super) fn eligible(balance: u128, standing: Flags, policy: &Opened) -> u128 {
    let barred = standing.opted_out || standing.opted_out_of_all || standing.restricted;
    if barred || (policy.opt_in && !standing.opted_in) || balance < policy.minimum {
        return 0;
    }
    policy.cap.map_or(balance, |cap| balance.min(cap)).min(limit(policy))
}

/// What late events and corrections changed in a position's weight of one open period: it never goes below zero.
#[derive(Clone, Copy, Debug, Default)]
struct Adjusted {
    /// What they took and there was not: it is collected from what follows.
    rest: U256,
    added: U256,
    taken: U256,
}

impl Adjusted {
    /// What the position has, of what it earned.
    fn weight(&self, earned: U256) -> U256 {
        (earned + self.added).saturating_sub(self.taken)
    }

    fn change(&mut self, change: &Change) {
        let Moved { gained, lost } = change.moved;
        // What is still to be collected comes first, but from what the period itself turns out to have given.
        let collected = if change.own { U256::ZERO } else { gained.min(self.rest) };
        self.rest -= collected;
        self.added += gained - collected;
        let there = if change.own { lost } else { lost.min(self.weight(change.accrued)) };
        self.taken += there;
        self.rest += lost - there;
    }

    /// All changes of one period, in the order of the journal.
    fn of(rest: U256, period: u64, changes: &[Change]) -> Self {
        let mut adjusted = Self { rest, ..Self::default() };
        changes.iter().filter(|change| change.period == period).for_each(|change| adjusted.change(change));
        adjusted
    }
}

/// Every frozen period, and what is still to be collected from each position after the last record.
pub(super) fn weigh(history: &History) -> (BTreeMap<u64, Weighed>, BTreeMap<String, U256>) {
    let mut weighed: BTreeMap<u64, Weighed> = BTreeMap::new();
    let mut rests: BTreeMap<String, U256> = BTreeMap::new();
    for index in history.frozen.keys() {
        let Some(period) = history.opened.get(index) else { continue };
        let entry = weighed.entry(*index).or_default();
        for (name, account) in &history.accounts {
            // Who came after the freeze was no position then.
            if account.marks.first().is_none_or(|first| first.oldest > *index) {
                continue;
            }
            let held = account.marks.iter().rfind(|mark| mark.from < period.start);
            entry.opening += held.map_or(0, |held| eligible(held.balance, held.standing, period));
            let mut integral = U256::ZERO;
            for (from, to, earns) in stretches(&account.marks, period) {
                integral += U256::from(earns) * U256::from(to - from);
                *entry.eligible.entry(from).or_default() += earns as i128;
                *entry.eligible.entry(to).or_default() -= earns as i128;
            }
            let rest = rests.get(name).copied().unwrap_or_default();
            let adjusted = Adjusted::of(rest, *index, &account.changes);
            let weight = adjusted.weight(integral);
            let collected = weight.min(adjusted.rest);
            entry.weights.insert(name.clone(), weight - collected);
            entry.added += adjusted.added;
            entry.taken += adjusted.taken + collected;
            rests.insert(name.clone(), adjusted.rest - collected);
        }
    }
    let open = history.frozen.keys().next_back().map_or(0, |last| last + 1);
    for (name, account) in &history.accounts {
        let rest = rests.entry(name.clone()).or_default();
        *rest = Adjusted::of(*rest, open, &account.changes).rest;
    }
    (weighed, rests)
}

/// What a position has earned in a period up to a moment.
pub(super) fn accrued(marks: &[Mark], period: &Opened, until: i64) -> U256 {
    let earned = |(from, to, earns): (i64, i64, u128)| U256::from(earns) * U256::from((to.min(until) - from).max(0));
    stretches(marks, period).into_iter().map(earned).sum()
}

/// The stretches of a position within a period, `[from, to)`, and what earns in each.
fn stretches(marks: &[Mark], period: &Opened) -> Vec<(i64, i64, u128)> {
    let mut stretches = Vec::new();
    for (i, mark) in marks.iter().enumerate() {
        let until = marks.get(i + 1).map_or(i64::MAX, |next| next.from);
        let (from, to) = (mark.from.max(period.start), until.min(period.end));
        if from < to {
            stretches.push((from, to, eligible(mark.balance, mark.standing, period)));
        }
    }
    stretches
}

/// What is staked or unbonding at a second.
pub(super) fn staked_at(staked: &[StakedChange], second: i64) -> i128 {
    staked.iter().filter(|change| change.at <= second).map(|change| change.change).sum()
}

/// The house's weight: the integral over the period of `max(0, staked + unbonding - eligible_total)`.
pub(super) fn house_weight(weighed: &Weighed, staked: &[StakedChange], period: &Opened) -> U256 {
    let inside = |second: &i64| *second > period.start && *second < period.end;
    let mut turns = vec![period.start, period.end];
    turns.extend(staked.iter().map(|change| change.at).filter(inside));
    turns.extend(weighed.eligible.keys().copied().filter(inside));
    turns.sort_unstable();
    turns.dedup();
    let mut weight = U256::ZERO;
    for pair in turns.windows(2) {
        let &[from, to] = pair else { continue };
        let over = (staked_at(staked, from) - weighed.eligible_at(from)).max(0);
        weight += U256::from(over) * U256::from(to - from);
    }
    weight
}
