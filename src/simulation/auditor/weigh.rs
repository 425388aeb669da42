//! Time weights: for every account and every frozen period the sum over its stretches of eligible x seconds.

use std::collections::BTreeMap;

use ruint::aliases::U256;

use super::history::{History, Mark};
use super::input::{Flags, Opened, StakedChange};

/// What a frozen period weighs.
#[derive(Clone, Debug, Default)]
pub(super) struct Weighed {
    /// The weight of every position that was there, zeros included.
    pub(super) weights: BTreeMap<String, U256>,
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

/// The part of a balance that earns.
pub(super) fn eligible(balance: u128, standing: Flags, policy: &Opened) -> u128 {
    let barred = standing.opted_out || standing.opted_out_of_all || standing.restricted;
    if barred || (policy.opt_in && !standing.opted_in) || balance < policy.minimum {
        return 0;
    }
    policy.cap.map_or(balance, |cap| balance.min(cap))
}

/// Every frozen period.
pub(super) fn weigh(history: &History) -> BTreeMap<u64, Weighed> {
    let mut weighed: BTreeMap<u64, Weighed> = BTreeMap::new();
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
            let mut weight = U256::ZERO;
            for (from, to, earns) in stretches(&account.marks, period) {
                weight += U256::from(earns) * U256::from(to - from);
                *entry.eligible.entry(from).or_default() += earns as i128;
                *entry.eligible.entry(to).or_default() -= earns as i128;
            }
            entry.weights.insert(name.clone(), weight);
        }
    }
    weighed
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
