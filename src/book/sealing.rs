//! Sealing a frozen period: its weights go into immutable chunks, a bounded number a step, then a seal per partition,
//! then the curve, then the record that says that all is there.

use super::column::{self, CHUNK_ORDINALS};
use super::committer::{Committer, Work};
use super::metrics::PoolLabel;
use super::pool::Pool;
use super::records::{CURVE_PAGE_CHANGES, FrozenRecord, encode_curve_page, encode_frozen, encode_seal};
use super::{BookError, lock, read, write};
use crate::domain::feed::SourceNumber;
use crate::domain::period::OpenPeriod;
use crate::domain::time::UnixSeconds;
use crate::domain::weight::SetSum;
use crate::store::{Batch, keys};

/// The chunks that one step writes.
const STEP_CHUNKS: usize = 192;
/// The pages of a curve that one step writes.
const STEP_PAGES: usize = 64;

/// A frozen period that is being sealed.
#[derive(Debug)]
pub(crate) struct FreezeWork {
    pub(crate) period: OpenPeriod,
    frozen_at: UnixSeconds,
    cursors: Vec<(SourceNumber, u64)>,
    parts: Vec<Part>,
    curve_page: u32,
}

/// The weights of one partition.
#[derive(Clone, Debug, Default)]
struct Part {
    group: u64,
    weights: Vec<u128>,
    next: usize,
    sum: SetSum,
    sealed: bool,
}

/// What one commit of sealing brings forward.
struct Progress {
    batch: Batch,
    partition: usize,
    next: usize,
    sum: SetSum,
    sealed: bool,
}

impl FreezeWork {
    pub(crate) fn new(
        period: OpenPeriod,
        frozen_at: UnixSeconds,
        cursors: Vec<(SourceNumber, u64)>,
        partitions: usize,
    ) -> Self {
        Self { period, frozen_at, cursors, parts: vec![Part::default(); partitions], curve_page: 0 }
    }

    /// Takes the weights of a partition, frozen in `group`.
    pub(crate) fn set(&mut self, partition: usize, group: u64, weights: Vec<u128>) {
        if let Some(part) = self.parts.get_mut(partition) {
            *part = Part { group, weights, ..Part::default() };
        }
    }

    /// After a crash: the chunks before `next` are there already, and with them the seal if `sealed`.
    pub(crate) fn resume(&mut self, pool: &Pool, partition: usize, next: usize, sealed: bool) {
        let (Some(part), Some(rows)) = (self.parts.get_mut(partition), pool.partitions.get(partition)) else { return };
        let rows = read(rows);
        let there = if sealed { part.weights.len() } else { (next * CHUNK_ORDINALS).min(part.weights.len()) };
        for (ordinal, weight) in (0u32..).zip(part.weights.iter().take(there)) {
            part.sum.add(rows.id(ordinal), *weight);
        }
        part.next = there.div_ceil(CHUNK_ORDINALS);
        if sealed {
            part.sealed = true;
            part.weights = Vec::new();
        }
    }

    fn chunks(&self, pool: &Pool) -> Result<Vec<Progress>, BookError> {
        let mut room = STEP_CHUNKS;
        let mut steps = Vec::new();
        for (partition, part) in self.parts.iter().enumerate().filter(|(_, part)| !part.sealed) {
            if room == 0 {
                break;
            }
            let Some(rows) = pool.partitions.get(partition) else { continue };
            let rows = read(rows);
            let mut batch = Batch::new(pool.id(partition));
            let (mut sum, mut next) = (part.sum, part.next);
            let damaged = |_| BookError::Damaged { what: "a frozen weight", partition: pool.id(partition).0 };
            for weights in part.weights.chunks(CHUNK_ORDINALS).skip(next).take(room) {
                let chunk = u32::try_from(next).unwrap_or(u32::MAX);
                let first = u32::try_from(next * CHUNK_ORDINALS).unwrap_or(u32::MAX);
                (first..).zip(weights).for_each(|(ordinal, weight)| sum.add(rows.id(ordinal), *weight));
                let value = column::encode(weights).map_err(damaged)?;
                batch.put(keys::weight_chunk(self.period.index.0, chunk), value);
                next += 1;
                room -= 1;
            }
            let sealed = next * CHUNK_ORDINALS >= part.weights.len();
            if sealed {
                batch.put(keys::freeze_seal(self.period.index.0), encode_seal(&sum));
            }
            steps.push(Progress { batch, partition, next, sum, sealed });
        }
        Ok(steps)
    }

    fn take(&mut self, progress: &Progress) {
        if let Some(part) = self.parts.get_mut(progress.partition) {
            (part.next, part.sum, part.sealed) = (progress.next, progress.sum, progress.sealed);
            if part.sealed {
                part.weights = Vec::new();
            }
        }
    }

    /// The next pages of the curve, and with the last of them the record that closes the seal.
    fn close(&self, pool: &Pool) -> (Batch, u32, Option<FrozenRecord>) {
        let index = self.period.index;
        let mut batch = Batch::new(pool.control());
        let meta = read(&pool.meta);
        let curve = meta.curves.get(&index).map(|curve| &curve.curve);
        let changes: Vec<(u32, i128)> = curve.map(|curve| curve.changes().collect()).unwrap_or_default();
        let pages = changes.len().div_ceil(CURVE_PAGE_CHANGES);
        let mut page = self.curve_page;
        for part in changes.chunks(CURVE_PAGE_CHANGES).skip(page as usize).take(STEP_PAGES) {
            batch.put(keys::frozen_curve(index.0, page), encode_curve_page(index, part));
            page += 1;
        }
        if (page as usize) < pages {
            return (batch, page, None);
        }
        let record = FrozenRecord {
            period: self.period,
            frozen_at: self.frozen_at,
            total: self.parts.iter().fold(SetSum::default(), |total, part| total.join(part.sum)),
            start_total: curve.map_or(0, |curve| curve.start_total()),
            end_total: curve.map_or(0, |curve| curve.end_total()),
            curve_pages: page,
            integral: curve.and_then(|curve| curve.integral()),
            adjusted: meta.curves.get(&index).map(|curve| curve.adjusted).unwrap_or_default(),
            cursors: self.cursors.clone(),
            groups: self.parts.iter().map(|part| part.group).collect(),
        };
        batch.put(keys::freeze_seal(index.0), encode_frozen(&record));
        (batch, page, Some(record))
    }
}

impl Committer {
    /// Brings one frozen period a bounded step nearer to its seal, and tells in `work` what it did.
    pub(crate) async fn seal_step(&mut self, work: &mut Work) -> Result<(), BookError> {
        for pool in self.pools() {
            let steps = lock(&pool.freeze).as_ref().map(|freeze| freeze.chunks(&pool)).transpose()?;
            let Some(steps) = steps else { continue };
            if steps.is_empty() {
                return self.seal_close(&pool, work).await;
            }
            let batches: Vec<Batch> = steps.iter().map(|step| step.batch.clone()).collect();
            let written = batches.iter().map(|batch| batch.puts.len()).sum();
            if !self.commit_aside(batches).await? {
                work.busy = true;
                return Ok(());
            }
            if let Some(freeze) = lock(&pool.freeze).as_mut() {
                steps.iter().for_each(|step| freeze.take(step));
            }
            work.sealed = written;
            return Ok(());
        }
        Ok(())
    }

    async fn seal_close(&mut self, pool: &Pool, work: &mut Work) -> Result<(), BookError> {
        let closing = lock(&pool.freeze).as_ref().map(|freeze| freeze.close(pool));
        let Some((batch, page, record)) = closing else { return Ok(()) };
        let written = batch.puts.len();
        if !self.commit_aside(vec![batch]).await? {
            work.busy = true;
            return Ok(());
        }
        work.sealed = written;
        let Some(record) = record else {
            if let Some(freeze) = lock(&pool.freeze).as_mut() {
                freeze.curve_page = page;
            }
            return Ok(());
        };
        lock(&pool.freeze).take();
        write(&pool.meta).curves.remove(&record.period.index);
        let metrics = &self.shared.config.metrics;
        metrics.sealed_periods.get_or_create(&PoolLabel { pool: pool.spec.number }).inc();
        if !record.holds() {
            // Who asks for the period is told; the book goes on.
            metrics.equation_breaches.inc();
            work.breaches = 1;
        }
        Ok(())
    }
}
