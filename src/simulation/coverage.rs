//! What happened how often: every action, fault, state and refusal, over how many seeds.

use std::collections::BTreeMap;

use super::fault::{FAULT, Fault};

/// How often something happened, and in how many seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// In all.
    pub times: u64,
    /// In how many seeds.
    pub seeds: u64,
}

/// Counters by group and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, String), Count>,
}

impl Coverage {
    /// Counts one more.
    pub(super) fn hit(&mut self, group: &'static str, name: impl Into<String>) {
        self.add(group, name, 1);
    }

    /// Counts a fault that happened.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.hit(FAULT, fault.name());
    }

    /// Counts so many more.
    pub(super) fn add(&mut self, group: &'static str, name: impl Into<String>, times: u64) {
        if times > 0 {
            let count = self.counts.entry((group, name.into())).or_default();
            (count.times, count.seeds) = (count.times + times, 1);
        }
    }

    /// Takes in the counters of more seeds.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            let all = self.counts.entry(key.clone()).or_default();
            (all.times, all.seeds) = (all.times + count.times, all.seeds + count.seeds);
        }
    }

    /// Everything that happened: group, name, how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str, Count)> {
        self.counts.iter().map(|((group, name), count)| (*group, name.as_str(), *count))
    }

    /// How often one thing happened.
    pub fn of(&self, group: &'static str, name: &str) -> Count {
        self.counts.get(&(group, name.to_owned())).copied().unwrap_or_default()
    }
}
