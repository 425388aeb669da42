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
fn eligible(balance: u128, standing: Flags, policy: &Opened) -> u128 {
    let barred = standing.opted_out || standing.opted_out_of_all || standing.restricted;
    if barred || (policy.opt_in && !standing.opted_in) || balance < policy.minimum {
        return 0;
    }
    policy.cap.map_or(balance, |cap| balance.min(cap)).min(limit(policy))
}

/// What late events changed in a position's weight of one open period, on the way: a weight never goes below zero.
#[derive(Clone, Copy, Debug, Default)]
struct Adjusted {
    /// What they put into the weight so far.
    weight: U256,
    /// What they took and there was not: it is collected from what follows.
    rest: U256,
    added: U256,
    taken: U256,
}

impl Adjusted {
    /// More weight; what is still to be collected comes first.
    fn gain(&mut self, weight: U256) {
        let collected = weight.min(self.rest);
        self.rest -= collected;
        self.weight += weight - collected;
        self.added += weight - collected;
    }

    /// Less weight.
    fn lose(&mut self, weight: U256) {
        let there = weight.min(self.weight);
        self.weight -= there;
        self.taken += there;
        self.rest += weight - there;
    }

    /// Takes in what late events of this mark change: for each frozen period that it reaches into, by that period's own
    /// rules, `(eligible_new - eligible_old)` x the seconds left in it.
    fn late(&mut self, mark: &Mark, before: Option<&Mark>, opened: &BTreeMap<u64, Opened>) {
        let (Some(late_from), Some(oldest)) = (mark.late_from, opened.get(&mark.oldest)) else { return };
        let (mut gained, mut lost) = (U256::ZERO, U256::ZERO);
        for period in opened.range(..mark.oldest).map(|(_, period)| period) {
            let seconds = (period.end - late_from.max(period.start)).max(0);
            // However much was accepted before the limit was lowered.
            let earns = |mark: &Mark| eligible(mark.balance, mark.standing, period).min(limit(oldest));
            gained += U256::from(earns(mark)) * U256::from(seconds);
            lost += U256::from(before.map_or(0, earns)) * U256::from(seconds);
        }
        if gained > lost { self.gain(gained - lost) } else { self.lose(lost - gained) }
    }

    /// All late marks that came while `index` was the oldest open period.
    fn late_in(&mut self, index: u64, marks: &[Mark], opened: &BTreeMap<u64, Opened>) {
        for (i, mark) in marks.iter().enumerate().filter(|(_, mark)| mark.oldest == index) {
            self.late(mark, i.checked_sub(1).and_then(|before| marks.get(before)), opened);
        }
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
            let mut adjusted = Adjusted { rest, ..Adjusted::default() };
            adjusted.late_in(*index, &account.marks, &history.opened);
            let collected = integral.min(adjusted.rest);
            entry.weights.insert(name.clone(), integral + adjusted.weight - collected);
            entry.added += adjusted.added;
            entry.taken += adjusted.taken + collected;
            rests.insert(name.clone(), adjusted.rest - collected);
        }
    }
    let open = history.frozen.keys().next_back().map_or(0, |last| last + 1);
    for (name, account) in &history.accounts {
        let rest = rests.entry(name.clone()).or_default();
        let mut adjusted = Adjusted { rest: *rest, ..Adjusted::default() };
        adjusted.late_in(open, &account.marks, &history.opened);
        *rest = adjusted.rest;
    }
    (weighed, rests)
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
