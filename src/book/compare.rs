//! The balances of a snapshot, held until all are there, and compared with the positions at one point between groups.
//!
//! A balance of an account that the book knows is held by its place, in 24 bytes; one of an account that it does not know
//! is held with its id. What is left after the comparison are the differences, held the same way.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::journal::Record;
use super::partition::{AccountHash, Partition, Verdict};
use super::pool::Pool;
use super::records::{RejectedEvent, decode_rejected};
use super::{Book, BookError, read};
use crate::domain::amount::BaseUnits;
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::AccountId;
use crate::domain::snapshot::{HeldBalance, SeenDifference};
use crate::domain::time::UnixSeconds;
use crate::store::{Direction, PartitionId, keys};

/// What a balance of an account that the book does not know counts for, in bytes: its id at the longest and the rest.
const UNKNOWN_BYTES: usize = AccountId::MAX_BYTES + 64;

/// A balance of a known account.
#[derive(Clone, Copy, Debug)]
struct Known {
    ordinal: u32,
    low: u64,
    high: u64,
}

const _: () = assert!(size_of::<Known>() == 24);

impl Known {
    fn new(ordinal: u32, balance: BaseUnits) -> Self {
        Self { ordinal, low: balance.get() as u64, high: (balance.get() >> 64) as u64 }
    }

    fn balance(self) -> BaseUnits {
        BaseUnits::new(u128::from(self.high) << 64 | u128::from(self.low)).unwrap_or(BaseUnits::MAX)
    }
}

/// The balances of one pool in a snapshot, or what of them differs.
#[derive(Debug)]
pub struct SnapshotBalances {
    pool: u16,
    known: Vec<Vec<Known>>,
    unknown: Vec<(AccountId, BaseUnits)>,
}

/// An account that a snapshot names twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountTwice(pub AccountId);

/// The first differences in the order of pool and account.
struct Listing {
    limit: usize,
    first: BTreeMap<(u16, String), SeenDifference>,
}

impl Listing {
    fn offer(&mut self, pool: u16, account: &str, compared: impl FnOnce(AccountId) -> SeenDifference) {
        let full = self.first.len() >= self.limit;
        let last = self.first.last_key_value().map(|((pool, account), _)| (*pool, account.as_str()));
        if full && last.is_none_or(|last| last <= (pool, account)) {
            return;
        }
        let Ok(id) = AccountId::new(account) else { return };
        self.first.insert((pool, account.to_owned()), compared(id));
        if full {
            self.first.pop_last();
        }
    }
}

impl SnapshotBalances {
    /// What a balance of an account that the book knows counts for, in bytes.
    pub const KNOWN_BYTES: usize = size_of::<Known>();

    /// How many accounts are held.
    pub fn len(&self) -> usize {
        self.known.iter().map(Vec::len).sum::<usize>() + self.unknown.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.known.iter().all(Vec::is_empty)
    }

    /// What they count for in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let known: usize = self.known.iter().map(Vec::len).sum();
        known * Self::KNOWN_BYTES + self.unknown.len() * UNKNOWN_BYTES
    }
}

/// Balances that a snapshot of a source brings. They consume no sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBatch {
    /// Whose snapshot.
    pub source: SourceNumber,
    /// The source's last sequence, which the snapshot stands after; the source has to be there still.
    pub sequence: u64,
    /// Which snapshot: the tag of its id.
    pub snapshot: u64,
    /// When the balances hold.
    pub at: UnixSeconds,
    /// Pool number, account and balance.
    pub balances: Vec<(u16, AccountId, BaseUnits)>,
}

/// What became of the balances of a snapshot. Those that were applied are durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOutcome {
    /// Those that could not be applied, by pool number and account.
    pub refused: Vec<(u16, AccountId, RejectReason)>,
    /// How many were applied.
    pub applied: u64,
    /// How many times were moved up to the position's last one.
    pub clamped: u64,
    /// How many reach into frozen periods.
    pub late: u64,
}

impl SnapshotOutcome {
    pub(crate) fn add(&mut self, pool: u16, record: &Record, verdict: Verdict) {
        match (verdict, record) {
            (Verdict::Accepted { clamped, late }, _) => {
                self.applied += 1;
                self.clamped += u64::from(clamped);
                self.late += u64::from(late);
            }
            (Verdict::Rejected(reason), Record::SnapshotBalance { account, .. }) => {
                self.refused.push((pool, account.clone(), reason));
            }
            (Verdict::Rejected(_) | Verdict::Skipped, _) => {}
        }
    }
}

impl Book {
    /// The last rejected events of a source, newest first. Reads the store.
    pub async fn last_rejected_events(
        &self,
        source: SourceNumber,
        limit: usize,
    ) -> Result<Vec<(u64, RejectedEvent)>, BookError> {
        let service = PartitionId::SERVICE;
        let range = keys::rejected_events_of(source.0);
        let found = self.shared.store.scan(service, range, limit, Direction::Reverse).await?;
        let damaged = BookError::Damaged { what: "a rejected event", partition: service.0 };
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let (_, sequence, _) = keys::parse_rejected_event(&key)?;
            Some((sequence, decode_rejected(&value)?))
        };
        found.into_iter().map(|pair| read(pair).ok_or(damaged.clone())).collect()
    }

    /// What is to hold the balances of a pool in a snapshot; `None` where the book has no such pool.
    pub fn snapshot_balances(&self, pool: u16) -> Option<SnapshotBalances> {
        let partitions = self.pool(pool)?.partitions.len();
        Some(SnapshotBalances { pool, known: (0..partitions).map(|_| Vec::new()).collect(), unknown: Vec::new() })
    }

    /// Takes in one balance.
    pub fn hold_balance(&self, balances: &mut SnapshotBalances, account: AccountId, balance: BaseUnits) {
        let partition = AccountHash::of(account.as_str().as_bytes()).partition(balances.known.len());
        let pool = self.pool(balances.pool);
        let rows = pool.as_ref().and_then(|pool| pool.partitions.get(partition));
        let ordinal = rows.and_then(|rows| read(rows).find(account.as_str()));
        match (ordinal, balances.known.get_mut(partition)) {
            (Some(ordinal), Some(known)) => known.push(Known::new(ordinal, balance)),
            _ => balances.unknown.push((account, balance)),
        }
    }

    /// Compares the balances of pools with the positions that `source` owns, all at one point between groups: what is
    /// left of `balances` are the differences. Returns up to `limit` of them, in the order of pool and account.
    pub fn compare(
        &self,
        source: SourceNumber,
        balances: &mut [SnapshotBalances],
        limit: usize,
    ) -> Result<Vec<SeenDifference>, AccountTwice> {
        // In the order in which the committer takes them.
        balances.sort_unstable_by_key(|balances| balances.pool);
        balances.iter_mut().flat_map(|one| &mut one.known).for_each(|one| one.sort_unstable_by_key(|k| k.ordinal));
        let pools: Vec<Arc<Pool>> = balances.iter().filter_map(|balances| self.pool(balances.pool)).collect();
        let _between_groups: Vec<_> = pools.iter().map(|pool| read(&pool.gate)).collect();
        let mut listing = Listing { limit, first: BTreeMap::new() };
        for (pool, balances) in pools.iter().zip(balances) {
            compare_pool(pool, source, balances, &mut listing)?;
        }
        Ok(listing.first.into_values().collect())
    }

    /// Takes up to `limit` differences out of what is left of a comparison: pool, account and the snapshot's balance.
    pub fn take_differences(
        &self,
        balances: &mut [SnapshotBalances],
        limit: usize,
    ) -> Vec<(u16, AccountId, BaseUnits)> {
        let mut taken = Vec::new();
        for balances in balances {
            let Some(pool) = self.pool(balances.pool) else { continue };
            let number = balances.pool;
            for (rows, known) in pool.partitions.iter().zip(&mut balances.known) {
                let rows = read(rows);
                let rest = known.len().saturating_sub(limit - taken.len());
                let named =
                    |known: Known| Some((number, AccountId::new(rows.id(known.ordinal)).ok()?, known.balance()));
                taken.extend(known.drain(rest..).filter_map(named));
            }
            let rest = balances.unknown.len().saturating_sub(limit - taken.len());
            taken.extend(balances.unknown.drain(rest..).map(|(account, balance)| (number, account, balance)));
        }
        taken
    }
}

fn compare_pool(
    pool: &Pool,
    source: SourceNumber,
    balances: &mut SnapshotBalances,
    listing: &mut Listing,
) -> Result<(), AccountTwice> {
    let number = pool.spec.number;
    // Who was unknown may have come in the meantime.
    for (account, balance) in mem::take(&mut balances.unknown) {
        let partition = AccountHash::of(account.as_str().as_bytes()).partition(pool.partitions.len());
        let ordinal = pool.partitions.get(partition).and_then(|rows| read(rows).find(account.as_str()));
        match (ordinal, balances.known.get_mut(partition)) {
            (Some(ordinal), Some(known)) => known.push(Known::new(ordinal, balance)),
            _ => balances.unknown.push((account, balance)),
        }
    }
    // Sorted before but for these.
    balances.known.iter_mut().for_each(|known| known.sort_by_key(|one| one.ordinal));
    balances.unknown.sort_unstable();
    if let Some(twice) = balances.unknown.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(AccountTwice(twice[0].0.clone()));
    }
    balances.unknown.retain(|(_, balance)| !balance.is_zero());
    for (account, balance) in &balances.unknown {
        let snapshot = Some(*balance);
        listing.offer(number, account.as_str(), |account| SeenDifference {
            pool: number,
            account,
            snapshot,
            held: None,
        });
    }
    for (rows, known) in pool.partitions.iter().zip(&mut balances.known) {
        *known = compare_partition(number, source, &read(rows), known, listing)?;
    }
    Ok(())
}

/// What differs in one partition, in the order of ordinals.
fn compare_partition(
    pool: u16,
    source: SourceNumber,
    rows: &Partition,
    known: &[Known],
    listing: &mut Listing,
) -> Result<Vec<Known>, AccountTwice> {
    let mut differing = Vec::new();
    let mut known = known.iter().copied().peekable();
    for ordinal in 0..u32::try_from(rows.len()).unwrap_or(u32::MAX) {
        let said = known.next_if(|known| known.ordinal == ordinal).map(Known::balance);
        if known.peek().is_some_and(|next| next.ordinal == ordinal) {
            let Ok(account) = AccountId::new(rows.id(ordinal)) else { continue };
            return Err(AccountTwice(account));
        }
        let Some(row) = rows.row(ordinal) else { continue };
        let snapshot = match said {
            Some(balance) => balance,
            None if row.owner() == Some(source) => BaseUnits::ZERO,
            None => continue,
        };
        if row.available() == snapshot {
            continue;
        }
        differing.push(Known::new(ordinal, snapshot));
        listing.offer(pool, rows.id(ordinal), |account| {
            let (balance, owner, last_sequence) = (row.available(), row.owner(), row.last_sequence());
            let last_at = rows.calendar.as_ref().map_or(UnixSeconds::new(0), |calendar| row.last_at(calendar));
            let held = Some(HeldBalance { balance, owner, last_at, last_sequence });
            SeenDifference { pool, account, snapshot: said, held }
        });
    }
    Ok(differing)
}
