//! Checkpoints: changed pages are written a few a step while ingest goes on, then the curves, then the manifest that
//! makes it count, then the journal before it is trimmed into the archive.
//!
//! A page carries the last group that is in it, so that replaying leaves its rows alone up to there. While a freeze is
//! unsealed nothing is captured and nothing trimmed: recovery must be able to take the frozen weights again.

use std::sync::atomic::Ordering;

use super::committer::{Committer, Work};
use super::journal::Chain;
use super::metrics::PoolLabel;
use super::pages::{self, PAGE_ROWS, page_hash, slot_number};
use super::pool::Pool;
use super::records::{
    CURVE_PAGE_CHANGES, Head, Manifest, ManifestCurve, ManifestPartition, encode_curve_page, encode_manifest,
};
use super::trim::{Longest, Trim};
use super::{BookError, lock, read, write};
use crate::domain::calendar::Calendar;
use crate::domain::time::UnixSeconds;
use crate::store::{Batch, keys};

/// The values that one step writes.
const STEP_VALUES: usize = 128;
/// The pages that one step looks at.
const STEP_LOOKS: usize = 65_536;

/// How far a pool's checkpoints are.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The last complete one; 0 before the first.
    pub(crate) generation: u64,
    /// The first group that recovery reads, per partition.
    pub(crate) replay_from: Vec<u64>,
    pass: Option<Pass>,
    pub(super) trim: Option<Trim>,
    pub(super) longest: Longest,
}

/// A checkpoint that is being made.
#[derive(Debug)]
struct Pass {
    generation: u64,
    calendar: Option<Calendar>,
    starts: Vec<Start>,
    /// The partition and page that are looked at next.
    partition: usize,
    page: usize,
    curves: Option<Curves>,
}

/// A partition when the checkpoint began.
#[derive(Clone, Copy, Debug)]
struct Start {
    replay_from: u64,
    chain: Chain,
    pages: usize,
}

/// Curves and totals at one point, once all pages are written.
#[derive(Debug)]
struct Curves {
    manifest: Manifest,
    values: Vec<Vec<u8>>,
    next: usize,
}

impl Checkpoint {
    pub(crate) fn new(heads: &[Head]) -> Self {
        Self { generation: 0, replay_from: vec![1; heads.len()], pass: None, trim: None, longest: Longest::default() }
    }

    /// After recovery from a manifest: what is before it may be left to trim.
    pub(crate) fn recovered(manifest: &Manifest) -> Self {
        let replay_from = manifest.partitions.iter().map(|partition| partition.replay_from).collect();
        let (generation, trim) = (manifest.generation, Some(Trim::new(manifest.generation)));
        tracing::debug!(generation, "a checkpoint is resumed");
        Self { generation, replay_from, pass: None, trim, longest: Longest::default() }
    }
}

impl Committer {
    /// Brings a checkpoint a bounded step forward, or begins one where the journal has grown enough.
    pub async fn checkpoint_step(&mut self, now: UnixSeconds) -> Result<Work, BookError> {
        if let Some(reason) = &self.failed {
            return Err(BookError::Closed(reason.clone()));
        }
        let rejects = !self.rejects.is_empty() || !lock(&self.shared.found).is_empty();
        for pool in self.pools() {
            // What waits to be committed, or to be written down as rejected, comes before what would trim it.
            if lock(&pool.freeze).is_some() || self.staged.is_some() || rejects {
                continue;
            }
            let (trimming, passing) = {
                let checkpoint = lock(&pool.checkpoint);
                (checkpoint.trim.is_some(), checkpoint.pass.is_some())
            };
            let done = if trimming {
                self.trim_step(&pool, now).await?
            } else if passing {
                self.pass_step(&pool).await?
            } else if self.is_due(&pool) {
                begin(&pool);
                self.pass_step(&pool).await?
            } else {
                continue;
            };
            return Ok(Work { checkpointed: done.unwrap_or(0), busy: done.is_none(), more: true, ..Work::default() });
        }
        Ok(Work::default())
    }

    /// Whether some pool's journal has grown enough for a checkpoint.
    pub fn checkpoint_due(&self) -> bool {
        self.pools().iter().any(|pool| self.is_due(pool))
    }

    /// Random events change every page before long, and a checkpoint writes what was changed: it is due when the journal has
    /// grown by a share of all pages, so that pages cost no more than so many times what the journal does.
    fn is_due(&self, pool: &Pool) -> bool {
        let grown = pool.journal_bytes.load(Ordering::Relaxed);
        let least = self.shared.config.checkpoint_journal_bytes;
        grown >= least && grown >= pool.page_bytes() / PAGES_PER_JOURNAL
    }

    /// Begins a checkpoint of every pool that is not making one, however little there is to write.
    pub fn begin_checkpoint(&mut self) {
        for pool in self.pools() {
            let free = lock(&pool.checkpoint).pass.is_none() && lock(&pool.freeze).is_none();
            if free && self.staged.is_none() {
                begin(&pool);
            }
        }
    }

    /// `None` where the store is busy.
    async fn pass_step(&mut self, pool: &Pool) -> Result<Option<usize>, BookError> {
        let Some(mut pass) = lock(&pool.checkpoint).pass.take() else { return Ok(Some(0)) };
        let done = match pass.curves {
            None => self.capture(pool, &mut pass).await,
            Some(_) => self.conclude(pool, &mut pass).await,
        };
        let complete = pass.curves.as_ref().is_some_and(|curves| curves.next > curves.values.len());
        if !complete {
            lock(&pool.checkpoint).pass = Some(pass);
        }
        done
    }

    /// Writes the next changed pages.
    async fn capture(&mut self, pool: &Pool, pass: &mut Pass) -> Result<Option<usize>, BookError> {
        let (mut partition, mut page, mut looks) = (pass.partition, pass.page, 0);
        let mut written: Vec<(usize, usize, u64, u128)> = Vec::new();
        let mut batches: Vec<Batch> = Vec::new();
        while let Some((start, rows)) = pass.starts.get(partition).zip(pool.partitions.get(partition)) {
            let rows = read(rows);
            let mut batch = Batch::new(pool.id(partition));
            while page < start.pages && written.len() < STEP_VALUES && looks < STEP_LOOKS {
                looks += 1;
                if let Some(mark) = rows.marks.get(page).filter(|mark| mark.dirty) {
                    let bytes = encode_page(&rows, page, pass.generation);
                    // Never the slot that the last complete checkpoint rests on.
                    let slot = mark.slot ^ 1;
                    written.push((partition, page, rows.group, page_hash(&bytes)));
                    batch.put(keys::page(slot_number(u32::try_from(page).unwrap_or(u32::MAX / 2), slot)), bytes);
                }
                page += 1;
            }
            if !batch.puts.is_empty() {
                batches.push(batch);
            }
            if page < start.pages {
                break;
            }
            (partition, page) = (partition + 1, 0);
        }
        if !batches.is_empty() && !self.commit_aside(batches).await? {
            return Ok(None);
        }
        for (partition, page, group, hash) in &written {
            let Some(rows) = pool.partitions.get(*partition) else { continue };
            if let Some(mark) = write(rows).marks.get_mut(*page) {
                (mark.hash, mark.group, mark.dirty, mark.moved) = (*hash, *group, false, true);
            }
        }
        (pass.partition, pass.page) = (partition, page);
        if partition >= pass.starts.len() {
            pass.curves = Some(snapshot(pool, pass));
        }
        Ok(Some(written.len()))
    }

    /// Writes the curves, then the manifest.
    async fn conclude(&mut self, pool: &Pool, pass: &mut Pass) -> Result<Option<usize>, BookError> {
        let Some(curves) = &mut pass.curves else { return Ok(Some(0)) };
        let mut batch = Batch::new(pool.control());
        let mut next = curves.next;
        for value in curves.values.iter().skip(next).take(STEP_VALUES) {
            batch.put(keys::curve_page(pass.generation, u32::try_from(next).unwrap_or(u32::MAX)), value.clone());
            next += 1;
        }
        let last = next >= curves.values.len();
        if last {
            batch.put(keys::checkpoint_manifest(), encode_manifest(&curves.manifest));
        }
        let written = batch.puts.len();
        if !self.commit_aside(vec![batch]).await? {
            return Ok(None);
        }
        curves.next = if last { curves.values.len() + 1 } else { next };
        if last {
            for rows in &pool.partitions {
                for mark in write(rows).marks.iter_mut().filter(|mark| mark.moved) {
                    (mark.slot, mark.moved) = (mark.slot ^ 1, false);
                }
            }
            let mut checkpoint = lock(&pool.checkpoint);
            checkpoint.generation = pass.generation;
            checkpoint.replay_from = pass.starts.iter().map(|start| start.replay_from).collect();
            checkpoint.trim = Some(Trim::new(pass.generation));
            let metrics = &self.shared.config.metrics;
            metrics.checkpoints.get_or_create(&PoolLabel { pool: pool.spec.number }).inc();
        }
        Ok(Some(written))
    }
}

/// How many bytes of pages a checkpoint writes at most for each byte of journal, where there is more than the least of that.
/// Recovery reads as much less: a fifth of it is the journal.
const PAGES_PER_JOURNAL: u64 = 4;

/// Begins a checkpoint at the groups that are applied now.
fn begin(pool: &Pool) {
    let heads = lock(&pool.heads).list.clone();
    let start = |(head, rows): (&Head, &std::sync::RwLock<super::partition::Partition>)| Start {
        replay_from: head.group + 1,
        chain: head.chain,
        pages: read(rows).len().div_ceil(PAGE_ROWS),
    };
    let starts = heads.iter().zip(&pool.partitions).map(start).collect();
    let calendar = read(&pool.meta).calendar.clone();
    pool.journal_bytes.store(0, Ordering::Relaxed);
    let mut checkpoint = lock(&pool.checkpoint);
    let generation = checkpoint.generation + 1;
    tracing::debug!(pool = pool.spec.number, generation, "a checkpoint begins");
    checkpoint.pass = Some(Pass { generation, calendar, starts, partition: 0, page: 0, curves: None });
}

fn encode_page(rows: &super::partition::Partition, page: usize, generation: u64) -> Vec<u8> {
    let first = page * PAGE_ROWS;
    let ordinals: Vec<u32> =
        (first..rows.len().min(first + PAGE_ROWS)).filter_map(|ordinal| u32::try_from(ordinal).ok()).collect();
    let row = |ordinal: &u32| rows.row(*ordinal).map(|position| (rows.id(*ordinal), position, rows.rest(*ordinal)));
    let found: Vec<_> = ordinals.iter().filter_map(row).collect();
    pages::encode(generation, rows.group, found.into_iter())
}

/// Totals and curves as they are now, and what the pages come to.
fn snapshot(pool: &Pool, pass: &Pass) -> Curves {
    let heads = lock(&pool.heads).list.clone();
    let partition = |((start, head), rows): ((&Start, &Head), &std::sync::RwLock<super::partition::Partition>)| {
        let rows = read(rows);
        let marks = rows.marks.iter().take(start.pages);
        ManifestPartition {
            replay_from: start.replay_from,
            chain: start.chain,
            upto: head.group,
            pages: u32::try_from(start.pages).unwrap_or(u32::MAX),
            hash_sum: marks.fold(0u128, |sum, mark| sum.wrapping_add(mark.hash)),
        }
    };
    let partitions = pass.starts.iter().zip(&heads).zip(&pool.partitions).map(partition).collect();
    let meta = read(&pool.meta);
    let mut values = Vec::new();
    let mut curves = Vec::new();
    for (index, period) in &meta.curves {
        curves.push(ManifestCurve {
            index: *index,
            bounds: period.curve.bounds(),
            start_total: period.curve.start_total(),
            crossing: period.crossing,
            adjusted: period.adjusted,
        });
        let changes: Vec<(u32, i128)> = period.curve.changes().collect();
        values.extend(changes.chunks(CURVE_PAGE_CHANGES).map(|part| encode_curve_page(*index, part)));
    }
    let manifest = Manifest {
        generation: pass.generation,
        calendar: pass.calendar.clone(),
        partitions,
        eligible: meta.eligible,
        positions: meta.positions,
        rests: meta.rests,
        curves,
        curve_pages: u32::try_from(values.len()).unwrap_or(u32::MAX),
    };
    Curves { manifest, values, next: 0 }
}
