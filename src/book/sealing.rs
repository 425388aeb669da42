//! Sealing a frozen period: its weights go into immutable chunks, a bounded number a step, then a seal per partition,
//! then the curve, then the record that says that all is there.
//!
//! A step encodes the next commit while the store writes the one before. Nothing waits for it: it may be driven beside the
//! committer, which then shares the store's syncs with it and holds no lock for long.

use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};

use super::column::{self, CHUNK_ORDINALS};
use super::committer::Work;
use super::metrics::PoolLabel;
use super::parallel;
use super::partition::Partition;
use super::pool::Pool;
use super::records::{CURVE_PAGE_CHANGES, FrozenRecord, encode_curve_page, encode_frozen, encode_seal};
use super::{BookError, Shared, lock, read, write};
use crate::domain::feed::SourceNumber;
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::domain::weight::SetSum;
use crate::store::{Batch, MAX_COMMIT_BYTES, MAX_COMMIT_KEYS, MAX_VALUE_BYTES, StoreError, keys};

/// The commits of weights that one step makes.
const STEP_COMMITS: usize = 4;
/// What one more chunk and the seals of all partitions may add to a commit.
const COMMIT_MARGIN_BYTES: usize = MAX_VALUE_BYTES + 16 * 1024;
const COMMIT_MARGIN_KEYS: usize = 2 * super::MAX_PARTITIONS as usize;
/// What the key of a chunk takes at most.
const KEY_BYTES: usize = 64;
/// A commit ends when fewer chunks than this may still fit.
const LEAST_ROUND: usize = 12;
/// As many chunks are worth a thread.
const LEAST_CHUNKS: usize = 24;
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
    /// Whether every partition's weights are in it: before that nothing of it is sealed.
    complete: bool,
}

/// The weights of one partition.
#[derive(Clone, Debug, Default)]
struct Part {
    group: u64,
    weights: Arc<Vec<u128>>,
    next: usize,
    sum: SetSum,
    sealed: bool,
}

/// What one commit of sealing writes, and where each partition is after it.
struct Progress {
    batches: Vec<Batch>,
    after: Vec<(usize, Part)>,
}

impl FreezeWork {
    pub(crate) fn new(
        period: OpenPeriod,
        frozen_at: UnixSeconds,
        cursors: Vec<(SourceNumber, u64)>,
        partitions: usize,
    ) -> Self {
        Self { period, frozen_at, cursors, parts: vec![Part::default(); partitions], curve_page: 0, complete: false }
    }

    /// Takes the weights of a partition, frozen in `group`.
    pub(crate) fn set(&mut self, partition: usize, group: u64, weights: Vec<u128>) {
        if let Some(part) = self.parts.get_mut(partition) {
            *part = Part { group, weights: Arc::new(weights), ..Part::default() };
        }
    }

    /// Every partition's weights are there: it may be sealed.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
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
            part.weights = Arc::default();
        }
    }

    /// The partitions that are not sealed.
    fn open_parts(&self) -> Vec<(usize, Part)> {
        self.parts.iter().cloned().enumerate().filter(|(_, part)| !part.sealed).collect()
    }

    fn take(&mut self, after: Vec<(usize, Part)>) {
        for (partition, part) in after {
            if let Some(place) = self.parts.get_mut(partition) {
                *place = part;
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

/// The next commit of weights, of the partitions in `parts` that are not sealed.
fn chunks(pool: &Pool, index: PeriodIndex, parts: &[(usize, Part)]) -> Result<Progress, BookError> {
    let (mut bytes, mut values) = (0, 0);
    let mut progress = Progress { batches: Vec::new(), after: Vec::new() };
    for (partition, part) in parts.iter().filter(|(_, part)| !part.sealed) {
        let Some(rows) = pool.partitions.get(*partition) else { continue };
        let mut part = part.clone();
        let mut batch = Batch::new(pool.id(*partition));
        let damaged = |_| BookError::Damaged { what: "a frozen weight", partition: pool.id(*partition).0 };
        let all: Vec<&[u128]> = part.weights.chunks(CHUNK_ORDINALS).collect();
        while part.next < all.len() {
            // As many as fit whatever they hold; the next round takes what room they have left.
            let fit = (MAX_COMMIT_BYTES.saturating_sub(bytes + COMMIT_MARGIN_BYTES)) / (MAX_VALUE_BYTES + KEY_BYTES);
            let fit = fit.min(MAX_COMMIT_KEYS.saturating_sub(values + COMMIT_MARGIN_KEYS));
            let first = part.next;
            let round = all.get(first..all.len().min(first + fit)).unwrap_or_default();
            if fit < LEAST_ROUND {
                break;
            }
            let numbered: Vec<(usize, &[u128])> = (first..).zip(round.iter().copied()).collect();
            for sealed in parallel::in_order(&numbered, LEAST_CHUNKS, |run| encode(rows, run)) {
                let (encoded, sum) = sealed.map_err(damaged)?;
                part.sum = part.sum.join(sum);
                for value in encoded {
                    let key = keys::weight_chunk(index.0, u32::try_from(part.next).unwrap_or(u32::MAX));
                    (bytes, values) = (bytes + key.len() + value.len(), values + 1);
                    batch.put(key, value);
                    part.next += 1;
                }
            }
        }
        part.sealed = part.next * CHUNK_ORDINALS >= part.weights.len();
        if part.sealed {
            batch.put(keys::freeze_seal(index.0), encode_seal(&part.sum));
            part.weights = Arc::default();
        }
        if batch.puts.is_empty() {
            break;
        }
        progress.batches.push(batch);
        progress.after.push((*partition, part));
    }
    Ok(progress)
}

/// Chunks of weights encoded, by their numbers, and what they sum up to.
fn encode(
    rows: &RwLock<Partition>,
    chunks: &[(usize, &[u128])],
) -> Result<(Vec<Vec<u8>>, SetSum), column::ColumnError> {
    let mut sum = SetSum::default();
    let mut encoded = Vec::with_capacity(chunks.len());
    for (number, weights) in chunks {
        let first = u32::try_from(number * CHUNK_ORDINALS).unwrap_or(u32::MAX);
        {
            // For one chunk at a time: whoever applies events waits for this no longer than for any reader.
            let rows = read(rows);
            (first..).zip(*weights).for_each(|(ordinal, weight)| sum.add(rows.id(ordinal), *weight));
        }
        encoded.push(column::encode(weights)?);
    }
    Ok((encoded, sum))
}

/// Seals frozen periods. One at a time for a book; dropping the future of a step loses nothing.
pub struct Sealer {
    pub(crate) shared: Arc<Shared>,
}

impl Sealer {
    /// Brings one frozen period a bounded step nearer to its seal. An error means that the book has closed.
    pub async fn step(&mut self) -> Result<Work, BookError> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(BookError::Closed("the committer has failed".to_owned()));
        }
        let mut work = Work::default();
        let pools: Vec<Arc<Pool>> = read(&self.shared.pools).values().cloned().collect();
        for pool in pools {
            let open = lock(&pool.freeze)
                .as_ref()
                .filter(|freeze| freeze.complete)
                .map(|freeze| (freeze.period.index, freeze.open_parts()));
            let Some((index, parts)) = open else { continue };
            if parts.is_empty() {
                self.close(&pool, &mut work).await?;
            } else {
                self.weights(&pool, index, parts, &mut work).await?;
            }
            break;
        }
        work.more = self.has_work();
        Ok(work)
    }

    /// Waits until there is a period to seal.
    pub async fn wait(&self) {
        while !self.has_work() {
            self.shared.frozen.notified().await;
        }
    }

    /// Whether there is a period to seal.
    pub fn has_work(&self) -> bool {
        read(&self.shared.pools).values().any(|pool| lock(&pool.freeze).as_ref().is_some_and(|freeze| freeze.complete))
    }

    /// Writes the next weights, a few commits of them.
    async fn weights(
        &mut self,
        pool: &Pool,
        index: PeriodIndex,
        mut parts: Vec<(usize, Part)>,
        work: &mut Work,
    ) -> Result<(), BookError> {
        let mut ready = chunks(pool, index, &parts)?;
        for commit in 1..=STEP_COMMITS {
            let Progress { batches, after } = ready;
            let written: usize = batches.iter().map(|batch| batch.puts.len()).sum();
            if written == 0 {
                break;
            }
            for (partition, part) in &after {
                if let Some((_, place)) = parts.iter_mut().find(|(of, _)| of == partition) {
                    *place = part.clone();
                }
            }
            let none = Progress { batches: Vec::new(), after: Vec::new() };
            let following = async { if commit < STEP_COMMITS { chunks(pool, index, &parts) } else { Ok(none) } };
            let (done, next) = futures::join!(self.commit(batches), following);
            if !done? {
                work.busy = true;
                break;
            }
            if let Some(freeze) = lock(&pool.freeze).as_mut() {
                freeze.take(after);
            }
            work.sealed += written;
            ready = next?;
        }
        Ok(())
    }

    /// Writes the next pages of the curve, and with the last of them the seal of the whole.
    async fn close(&mut self, pool: &Pool, work: &mut Work) -> Result<(), BookError> {
        let closing = lock(&pool.freeze).as_ref().map(|freeze| freeze.close(pool));
        let Some((batch, page, record)) = closing else { return Ok(()) };
        let written = batch.puts.len();
        if !self.commit(vec![batch]).await? {
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

    /// `false` where the store is busy.
    async fn commit(&self, batches: Vec<Batch>) -> Result<bool, BookError> {
        match self.shared.store.commit(batches).await {
            Ok(()) => Ok(true),
            Err(StoreError::Busy(_)) => {
                self.shared.config.metrics.busy.inc();
                Ok(false)
            }
            Err(error) => {
                // The committer finds it closed, and tells everyone.
                self.shared.failed.store(true, Ordering::Release);
                Err(BookError::Closed(error.to_string()))
            }
        }
    }
}
