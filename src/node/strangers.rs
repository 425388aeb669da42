//! The connections of strangers, so that they keep out nobody who is known.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::CancellationToken;

/// The connections over which nobody has called yet who is known, each by a number that counts up.
pub(super) struct Strangers {
    /// How many there may be, and how many from one machine.
    most: usize,
    most_of_one: usize,
    next: u64,
    /// Where each comes from, and what cuts it.
    all: BTreeMap<u64, (Option<String>, CancellationToken)>,
    by_machine: BTreeMap<String, BTreeSet<u64>>,
}

impl Strangers {
    /// None yet.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, next: 0, all: BTreeMap::new(), by_machine: BTreeMap::new() }
    }

    /// One more, as its number and the limit that it was past. The oldest is cut then: who is known has called before it is
    /// that.
    pub(super) fn add(&mut self, machine: Option<String>, cut: CancellationToken) -> (u64, Option<&'static str>) {
        let of_machine = machine.as_ref().and_then(|machine| self.by_machine.get(machine));
        let oldest_there = of_machine.filter(|there| there.len() >= self.most_of_one);
        let (oldest, limit) = match oldest_there.and_then(|there| there.first().copied()) {
            Some(oldest) => (Some(oldest), Some("max_strangers_per_address")),
            None if self.all.len() >= self.most => {
                (self.all.first_key_value().map(|(number, _)| *number), Some("max_strangers"))
            }
            None => (None, None),
        };
        if let Some((_, cut)) = oldest.and_then(|oldest| self.remove(oldest)) {
            cut.cancel();
        }
        let number = self.next;
        self.next += 1;
        if let Some(machine) = &machine {
            self.by_machine.entry(machine.clone()).or_default().insert(number);
        }
        self.all.insert(number, (machine, cut));
        (number, limit)
    }

    /// One less: its connection is gone, or somebody who is known has called over it. It may be none already.
    pub(super) fn remove(&mut self, number: u64) -> Option<(Option<String>, CancellationToken)> {
        let removed = self.all.remove(&number)?;
        if let Some(machine) = &removed.0
            && let Some(there) = self.by_machine.get_mut(machine)
        {
            there.remove(&number);
            if there.is_empty() {
                self.by_machine.remove(machine);
            }
        }
        Some(removed)
    }

    /// How many there are, and of how many machines.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.all.len(), self.by_machine.len())
    }
}
