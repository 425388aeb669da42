//! What slashes make a pool's rewards owe, and what the chain gives back.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{About, Findings};
use super::input::{Distribution, Input, Period, Slash, State};

/// How far the service's clock may be behind the chain's, in seconds: a slash is dated by the one, a revision by the other.
const CLOCKS_APART_SECONDS: i64 = 900;

/// What is owed and what is carried, once so many of the slashes are booked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Debt {
    /// How many slashes and reversals are in it.
    booked: usize,
    /// What the rewards owe.
    pub(super) owed: u128,
    /// What the last distribution handed on, and what the chain gave back that had been recovered already.
    pub(super) carry: u128,
    /// What the rewards bear of each slash and was not given back.
    borne: BTreeMap<String, u128>,
}

impl Debt {
    /// What a revision goes by. All that happened before its period's end is booked when it is computed; of what happened
    /// from then until it is computed, a part may be. Says where no such part gives what the engine has.
    pub(super) fn when(&self, input: &Input, period: &Period, told: &Distribution, findings: &mut Findings) -> Self {
        let mut debts = BTreeSet::from([self.clone()]);
        let mut booked = self.booked;
        while input.slashes.get(booked).is_some_and(|next| next.at < period.end) {
            debts = debts.iter().flat_map(|debt| debt.book(input)).collect();
            booked += 1;
        }
        let least = debts.first().cloned().unwrap_or_default();
        loop {
            let engine = (told.owed, told.figures.carry_in);
            if let Some(debt) = debts.iter().find(|debt| (debt.owed, debt.carry) == engine) {
                return debt.clone();
            }
            let latest = told.computed_at + CLOCKS_APART_SECONDS;
            if input.slashes.get(booked).is_none_or(|next| next.at > latest) {
                break;
            }
            debts = debts.iter().flat_map(|debt| debt.book(input)).collect();
            booked += 1;
        }
        findings.same(About::period(period.index), "what its rewards owe", &told.owed, &least.owed);
        least
    }

    /// Books the next one: a reversal in each of the ways that it may have been.
    fn book(&self, input: &Input) -> Vec<Self> {
        let Some(Slash { key, at, amount, reversal }) = input.slashes.get(self.booked) else { return Vec::new() };
        let mut debt = Self { booked: self.booked + 1, ..self.clone() };
        if !*reversal {
            if *amount > input.rounding_units && borne_by_rewards(input, *at) {
                debt.borne.insert(key.clone(), *amount);
                debt.owed += amount;
            }
            return vec![debt];
        }
        let left = debt.borne.entry(key.clone()).or_default();
        let known = (*amount).min(*left);
        *left -= known;
        // What is still owed is owed no more; what was recovered was the customers', and is carried to them. What a
        // revision was about to recover counts as recovered, though it was voided later.
        let voided = |it: &&Distribution| matches!(it.state, State::VoidedToRecompute | State::VoidedToCarry);
        let until_then = input.distributions.iter().filter(|it| it.computed_at <= *at).filter(voided);
        let taken = until_then.map(|it| it.figures.recovery);
        let ways = BTreeSet::from_iter(taken.chain([0]));
        let reversed = |taken: u128| {
            let owing = known.min(self.owed.saturating_sub(taken));
            Self { owed: self.owed - owing, carry: self.carry + known - owing, ..debt.clone() }
        };
        ways.into_iter().map(reversed).collect()
    }
}

/// Whether the rewards bear what was slashed at a time: as the period says that it lies in; before the first one the first
/// one does.
fn borne_by_rewards(input: &Input, at: i64) -> bool {
    let of = input.periods.iter().find(|period| at < period.end).or(input.periods.last());
    of.is_some_and(|period| period.rewards_absorb)
}
