//! One pool of the book: its partitions, and what holds for all of them together.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, RwLock};

use ruint::aliases::U256;

use super::checkpoint::Checkpoint;
use super::journal::{Record, first_chain};
use super::partition::{Effects, Partition, Verdict};
use super::records::Head;
use super::sealing::FreezeWork;
use super::{PoolSpec, lock, read, write};
use crate::domain::adjustment::AdjustedSum;
use crate::domain::calendar::Calendar;
use crate::domain::curve::EligibleCurve;
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::store::PartitionId;

/// For how many records ahead the rows are brought near.
const WARM_RECORDS: usize = 64;

/// A pool in memory.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) spec: PoolSpec,
    /// Held for reading by who wants all partitions at one point between groups.
    pub(crate) gate: RwLock<()>,
    pub(crate) partitions: Vec<RwLock<Partition>>,
    pub(crate) meta: RwLock<Meta>,
    /// How far the journals are acknowledged, and the record that says so.
    pub(crate) heads: Mutex<Heads>,
    /// The frozen period that is being sealed.
    pub(crate) freeze: Mutex<Option<FreezeWork>>,
    pub(crate) checkpoint: Mutex<Checkpoint>,
    /// Bytes of journal since the last checkpoint began.
    pub(crate) journal_bytes: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Heads {
    pub(crate) list: Vec<Head>,
    pub(crate) stored: Option<Vec<u8>>,
}

/// What holds for all partitions together, after the last group that was applied.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    pub(crate) calendar: Option<Calendar>,
    pub(crate) eligible: i128,
    pub(crate) positions: u64,
    /// What is still to be collected, over all positions.
    pub(crate) rests: U256,
    pub(crate) curves: BTreeMap<PeriodIndex, PeriodCurve>,
}

/// The eligible total through one unfrozen period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeriodCurve {
    /// Its start total is final once the period before is frozen.
    pub(crate) curve: EligibleCurve,
    /// By how much the total changes at the start, because the policy does.
    pub(crate) crossing: i128,
    /// What late events changed in the period's weights, and what was collected from them.
    pub(crate) adjusted: AdjustedSum,
}

/// How a group is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Whether its effects go into the pool's totals and curves; else those have them already.
    pub(crate) counted: bool,
    /// Whether frozen weights are kept for sealing.
    pub(crate) keep_weights: bool,
}

impl Mode {
    /// A group that happens now.
    pub(crate) const LIVE: Self = Self { counted: true, keep_weights: true };
}

impl Pool {
    /// A pool without positions.
    pub(crate) fn new(spec: PoolSpec) -> Self {
        let partitions = (0..spec.partitions).map(|_| RwLock::new(Partition::default())).collect();
        let head = |index| Head { group: 0, chain: first_chain(PartitionId::book(spec.number, index).0) };
        let list: Vec<Head> = (0..spec.partitions).map(head).collect();
        Self {
            spec,
            gate: RwLock::new(()),
            partitions,
            meta: RwLock::default(),
            checkpoint: Mutex::new(Checkpoint::new(&list)),
            heads: Mutex::new(Heads { list, stored: None }),
            freeze: Mutex::new(None),
            journal_bytes: AtomicU64::new(0),
        }
    }

    /// The store's partition of a book partition.
    pub(crate) fn id(&self, partition: usize) -> PartitionId {
        PartitionId::book(self.spec.number, u16::try_from(partition).unwrap_or(u16::MAX - 1))
    }

    /// The store's control partition.
    pub(crate) fn control(&self) -> PartitionId {
        PartitionId::control(self.spec.number)
    }

    /// How many bytes all pages take, about.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.partitions.iter().map(|partition| read(partition).page_bytes()).sum()
    }

    /// Applies one group to one partition. `slots` are where its accounts stand in the index, where that is known.
    pub(crate) fn apply(
        &self,
        partition: usize,
        group: u64,
        now: UnixSeconds,
        records: &[Record],
        slots: &[u64],
        mode: Mode,
    ) -> Vec<Verdict> {
        let mut effects = Effects::default();
        let mut verdicts = Vec::with_capacity(records.len());
        let mut frozen = Vec::new();
        let mut opened = Vec::new();
        if let Some(partition) = self.partitions.get(partition) {
            let mut rows = write(partition);
            for (n, record) in records.iter().enumerate() {
                if n.is_multiple_of(WARM_RECORDS) {
                    rows.warm(slots.get(n..(n + WARM_RECORDS).min(slots.len())).unwrap_or_default());
                }
                let slot = slots.get(n).copied();
                verdicts.push(match record {
                    Record::Balance { .. }
                    | Record::SnapshotBalance { .. }
                    | Record::Standing { .. }
                    | Record::Correction { .. } => rows.apply(group, now, record, slot, &mut effects),
                    Record::HandOver { account, from, to } => rows.hand_over(group, account.as_str(), *from, *to),
                    Record::Open(period) => {
                        rows.open(self.spec.first_start, *period);
                        opened.push(*period);
                        Verdict::Accepted { clamped: false, late: false }
                    }
                    Record::Freeze { index, cursors } => {
                        let period = rows.calendar.as_ref().map(|calendar| calendar.oldest);
                        let weights = rows.freeze(group, mode.keep_weights, &mut effects);
                        if let Some(period) = period.filter(|period| period.index == *index) {
                            frozen.push((period, cursors.clone(), weights));
                        }
                        Verdict::Accepted { clamped: false, late: false }
                    }
                });
            }
            rows.group = group;
        }
        if mode.counted {
            self.count(effects, opened);
            if mode.keep_weights {
                let mut work = lock(&self.freeze);
                for (period, cursors, weights) in frozen {
                    let partitions = self.partitions.len();
                    let fresh = work.take().filter(|work| work.period.index == period.index);
                    let mut fresh = fresh.unwrap_or_else(|| FreezeWork::new(period, now, cursors, partitions));
                    fresh.set(partition, group, weights);
                    *work = Some(fresh);
                }
            }
        }
        verdicts
    }

    /// Puts what a group did into the totals and curves.
    fn count(&self, effects: Effects, opened: Vec<crate::domain::period::OpenPeriod>) {
        let mut meta = write(&self.meta);
        for period in opened {
            let curve = || EligibleCurve::new(period.bounds, 0);
            let flat = || PeriodCurve { curve: curve(), crossing: 0, adjusted: AdjustedSum::default() };
            meta.curves.entry(period.index).or_insert_with(flat);
        }
        meta.positions += effects.added;
        meta.rests = meta.rests.wrapping_add(effects.owed).wrapping_sub(effects.collected);
        for (period, adjusted) in effects.adjusted {
            if let Some(curve) = meta.curves.get_mut(&period) {
                curve.adjusted.add(adjusted);
            }
        }
        for (period, at, change) in effects.changes {
            meta.eligible = meta.eligible.saturating_add(change);
            if let Some(curve) = meta.curves.get_mut(&period) {
                curve.curve.add(at, change);
            }
        }
        for (period, change) in effects.crossings {
            meta.eligible = meta.eligible.saturating_add(change);
            if let Some(curve) = meta.curves.get_mut(&period) {
                curve.crossing = curve.crossing.saturating_add(change);
            }
        }
    }

    /// Brings calendar and curves up to date once a group is applied in all partitions.
    ///
    /// What a frozen period ended with is what the next one starts with.
    pub(crate) fn settle(&self) {
        let calendar = self.partitions.first().and_then(|partition| read(partition).calendar.clone());
        let sealing = lock(&self.freeze).as_ref().map(|work| work.period.index);
        let mut meta = write(&self.meta);
        let oldest = calendar.as_ref().map(|calendar| calendar.oldest.index);
        meta.calendar = calendar;
        let Some(oldest) = oldest else { return };
        let frozen: Vec<PeriodIndex> = meta.curves.range(..oldest).map(|(index, _)| *index).collect();
        for index in frozen {
            let Some(end_total) = meta.curves.get(&index).map(|curve| curve.curve.end_total()) else { continue };
            if let Some(next) = meta.curves.get_mut(&index.next()) {
                next.curve.set_start_total(end_total.saturating_add(next.crossing));
            }
            if sealing != Some(index) {
                meta.curves.remove(&index);
            }
        }
    }
}
