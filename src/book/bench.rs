//! The hot pieces of the book, opened to `benches/hot`: only a build with the feature `bench` has them.

use super::journal::{self, Assembly, Chain, first_chain};
use super::partition::{AccountHash, Effects, Verdict};
use super::pool::{Mode, Pool};
use super::{JournalGroup, JournalRecord, PoolSpec, write};
use crate::domain::period::OpenPeriod;
use crate::domain::position::Position;
use crate::domain::time::UnixSeconds;

/// Where an account stands in the index of its partition.
pub fn slot_of(account: &str) -> u64 {
    AccountHash::of(account.as_bytes()).slot
}

/// A pool of one partition, without a journal.
pub struct Rows {
    pool: Pool,
    group: u64,
}

impl Rows {
    /// A pool that begins with `period` and has a position without balance for each of `accounts`.
    pub fn new(period: OpenPeriod, accounts: impl ExactSizeIterator<Item = String>) -> Self {
        let pool = Pool::new(PoolSpec { number: 1, partitions: 1, first_start: period.bounds.start });
        pool.partitions.iter().for_each(|rows| write(rows).reserve(accounts.len()));
        for account in accounts {
            for rows in &pool.partitions {
                write(rows).add(&account, Position::default());
            }
        }
        let mut rows = Self { pool, group: 0 };
        rows.apply(period.bounds.start, &[JournalRecord::Open(period)], &[]);
        rows
    }

    /// Applies one group, and says how many of its records were accepted.
    pub fn apply(&mut self, now: UnixSeconds, records: &[JournalRecord], slots: &[u64]) -> usize {
        self.group += 1;
        let verdicts = self.pool.apply(0, self.group, now, records, slots, Mode::LIVE);
        verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Accepted { .. })).count()
    }

    /// Freezes the oldest period with `next` open after it, and gives what it took of each position.
    pub fn freeze(&mut self, next: OpenPeriod) -> Vec<u128> {
        let Some(rows) = self.pool.partitions.first() else { return Vec::new() };
        self.group += 1;
        let mut rows = write(rows);
        rows.open(self.pool.spec.first_start, next);
        rows.freeze(self.group, true, &mut Effects::default())
    }
}

/// A journal that is encoded and kept nowhere.
pub struct Journal {
    chain: Chain,
    number: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { chain: first_chain(0), number: 0 }
    }
}

impl Journal {
    /// The values of the next group.
    pub fn encode(&mut self, now: UnixSeconds, records: &[JournalRecord]) -> Vec<Vec<u8>> {
        self.number += 1;
        journal::encode(self.number, now, records, &mut self.chain)
    }
}

/// Reads the values of the first group of a journal.
pub fn decode_first(values: &[Vec<u8>]) -> Option<JournalGroup> {
    let mut assembly = Assembly::new(1, first_chain(0));
    values.iter().find_map(|value| assembly.take(value).ok().flatten())
}
