//! Slashes of the simulated chain, those that no effect tells of included, and their reversal.

use super::config::RATE_SCALE;
use super::rewards::share;
use super::state::{Entry, Origin, State, units};
use crate::domain::effect::{EffectKey, EffectKind};
use crate::domain::time::UnixSeconds;

/// A slash that may be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    validator: usize,
    /// The effect that told of it; `None` where none did.
    told: Option<EffectKey>,
    delegated: u128,
    others: u128,
    /// What entries lost, by when they mature.
    entries: Vec<(UnixSeconds, u128)>,
}

impl State {
    /// Destroys `parts` of [`RATE_SCALE`] of all stake with a validator and of what unbonds from it, rounded down.
    pub(super) fn slash(&mut self, index: usize, parts: u64, silent: bool, order: u64) {
        let of = |amount: u128| share(amount, parts, RATE_SCALE);
        let delegated = of(self.pairs[index].stake);
        self.pairs[index].stake -= delegated;
        let others = of(self.validators[index].others);
        self.validators[index].others -= others;
        let mut entries = Vec::new();
        for entry in self.unbondings.iter_mut().filter(|entry| entry.validator == index && !entry.matured) {
            let lost = of(entry.amount);
            entry.amount -= lost;
            entries.push((entry.matures_at, lost));
        }
        let unbonding: u128 = entries.iter().map(|(_, lost)| lost).sum();
        self.totals.slashed += delegated + unbonding;
        let mut told = None;
        if delegated + unbonding > 0 && !silent {
            let validator = self.validators[index].id.clone();
            let mut origin = Origin::synthetic("slash", order);
            let (delegated, unbonding) = (units(delegated), units(unbonding));
            self.emit(&mut origin, EffectKind::Slashed { validator, delegated, unbonding });
            told = self.effects.last().map(|effect| effect.key.clone());
        }
        self.slashes.push(Made { validator: index, told, delegated, others, entries });
    }

    /// Takes the last slash of a validator back that was not taken back, if there is one. An entry that is still there
    /// gets its part again; the part of one that is gone is delegated.
    pub(super) fn unslash(&mut self, index: usize, order: u64) {
        let Some(last) = self.slashes.iter().rposition(|made| made.validator == index) else { return };
        let made = self.slashes.remove(last);
        let (mut delegated, mut unbonding) = (made.delegated, 0);
        for (matures_at, lost) in made.entries {
            let there =
                |entry: &&mut Entry| entry.validator == index && !entry.matured && entry.matures_at == matures_at;
            match self.unbondings.iter_mut().find(there) {
                Some(entry) => {
                    entry.amount += lost;
                    unbonding += lost;
                }
                None => delegated += lost,
            }
        }
        self.pairs[index].stake += delegated;
        self.validators[index].others += made.others;
        self.totals.unslashed += delegated + unbonding;
        if let Some(slash) = made.told {
            let validator = self.validators[index].id.clone();
            let mut origin = Origin::synthetic("unslash", order);
            let (delegated, unbonding) = (units(delegated), units(unbonding));
            self.emit(&mut origin, EffectKind::SlashReversed { slash, validator, delegated, unbonding });
        }
    }

    /// What an operation that touches a pair loses of what stays there.
    pub(super) fn round(&mut self, index: usize) {
        let lost = self.config.rounding_units.get().min(self.pairs[index].stake);
        self.pairs[index].stake -= lost;
        self.totals.slashed += lost;
    }
}
