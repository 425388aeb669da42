//! What happened since the first observation, against look-ups and observations.

use std::collections::BTreeSet;

use super::Check;
use super::account::unexplained;
use super::findings::Clause;
use crate::chain::{ChainAdapter, ChainError, Observation};
use crate::domain::effect::{Effect, EffectKey};

/// The most places at which a range is split.
const SPLITS: usize = 24;

/// A page of so few effects that most ranges have several.
const SMALL_PAGE: u32 = 2;

impl Check {
    /// E1 to E5, over all that was seen.
    pub(super) async fn effects(&mut self, first: &Observation) {
        let Some(last) = self.observe().await else { return };
        let (from, to) = (first.height, last.height.max(first.height));
        let answer = self.adapter.effects(from, to).await;
        let Some(all) = self.ask(Clause::E1, &format!("ListEffects from {from} to {to}"), answer) else { return };
        let backwards = all.windows(2).find(|pair| pair[1].at < pair[0].at);
        if let Some(pair) = backwards {
            let seen = format!("{} at {} comes after {} at {}", pair[1].key, pair[1].at, pair[0].key, pair[0].at);
            self.findings.fail(Clause::E1, seen);
        }
        self.against_lookups(&all);
        self.findings.pass(Clause::E1, format!("{} effects from height {from} to {to}", all.len()));
        self.splits(from, to, &all).await;
        self.conserved(&all);
        self.findings.pass(Clause::O1, format!("{} observations", self.seen.len()));
        self.findings.pass(Clause::O2, format!("from height {from} to {to}"));
        self.findings.pass(Clause::G1, "every answer of this run");
    }

    /// E1 and E4.
    fn against_lookups(&mut self, all: &[Effect]) {
        if self.ended.is_empty() {
            self.findings.skip(Clause::E4, "takes --signer and --spend");
            return;
        }
        let listed: BTreeSet<&EffectKey> = all.iter().map(|effect| &effect.key).collect();
        let ended = std::mem::take(&mut self.ended);
        for (id, effects) in &ended {
            if let Some(missing) = effects.iter().find(|effect| !listed.contains(&effect.key)) {
                let seen = format!("{} of {id}, which Lookup has, is not in the list", missing.key);
                self.findings.fail(Clause::E1, seen);
            }
            let of_it: Vec<&Effect> = all.iter().filter(|effect| effect.operation.as_ref() == Some(id)).collect();
            let same = of_it.iter().copied().eq(effects.iter());
            let seen = format!("{id}: {} in the list, {} by Lookup", of_it.len(), effects.len());
            self.findings.hold(Clause::E4, same, seen);
        }
        self.findings.pass(Clause::E4, format!("of {} operations", ended.len()));
    }

    /// E2: the range in two parts, split at every place that matters, and in pages.
    async fn splits(&mut self, from: u64, to: u64, all: &[Effect]) {
        let mut places: BTreeSet<u64> = BTreeSet::from([from, to, from + (to - from) / 2]);
        for effect in all {
            places.extend([effect.height.saturating_sub(1), effect.height]);
        }
        let places: Vec<u64> = places.into_iter().filter(|place| (from..=to).contains(place)).collect();
        let mut split = 0;
        for place in places.iter().step_by(places.len().div_ceil(SPLITS).max(1)) {
            let (below, above) = (self.adapter.effects(from, *place).await, self.adapter.effects(*place, to).await);
            let parts: Result<Vec<Effect>, ChainError> = below.and_then(|below| Ok([below, above?].concat()));
            let Some(parts) = self.ask(Clause::E2, "ListEffects of a part", parts) else { return };
            if parts != all {
                let seen = format!("split at height {place}: {} effects instead of {}", parts.len(), all.len());
                self.findings.fail(Clause::E2, seen);
                return;
            }
            split += 1;
        }
        let paged = self.adapter.clone().with_pages_of(SMALL_PAGE).effects(from, to).await;
        let Some(paged) = self.ask(Clause::E2, "ListEffects in small pages", paged) else { return };
        let seen = format!("split at {split} heights, and in pages of {SMALL_PAGE}: {} effects", paged.len());
        self.findings.hold(Clause::E2, paged == all, seen);
    }

    /// E5, from each observation to the next one that is later.
    fn conserved(&mut self, all: &[Effect]) {
        let rounding = self.descriptor.rounding_units;
        let mut moved = 0;
        for pair in self.seen.windows(2) {
            let [before, after] = pair else { continue };
            if after.height < before.height {
                continue;
            }
            let between = |effect: &&Effect| effect.height > before.height && effect.height <= after.height;
            let between: Vec<Effect> = all.iter().filter(between).cloned().collect();
            if let Some(difference) = unexplained(before, &between, after, rounding) {
                self.findings.fail(Clause::E5, difference);
                return;
            }
            moved += between.len();
        }
        let seen = format!("{} observations, {moved} effects in between", self.seen.len());
        self.findings.pass(Clause::E5, seen);
    }
}
