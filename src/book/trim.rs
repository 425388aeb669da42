//! Trimming: what a checkpoint made superfluous leaves the journal for the archive, in one commit, and the archive once
//! it is old enough.
//!
//! A damaged value is archived as it is: its chain tells whoever reads it. What says nothing of its age is never removed.

use super::archive::{self, Span};
use super::committer::Committer;
use super::journal::peek_time;
use super::pool::Pool;
use super::records::decode_frozen;
use super::{BookError, lock, read};
use crate::domain::period::OpenPeriod;
use crate::domain::time::UnixSeconds;
use crate::store::{Batch, Direction, KeyRange, PartitionId, StoreError, keys};

/// The values that one scan brings.
const SCAN: usize = 48;
/// The values that one step moves or removes; with the archive's own they are fewer than a commit may change.
const STEP_VALUES: usize = 768;
/// The bytes of journal that one archive takes, but for a group that is larger by itself.
const RUN_BYTES: usize = 256 * 1024;
/// The bytes of archives that one step reads to remove them.
const EXPIRE_BYTES: usize = 1 << 20;
/// The pages of old curves that one step removes.
const STEP_PAGES: usize = 128;

/// What the last checkpoint made superfluous.
#[derive(Debug)]
pub(super) struct Trim {
    partition: usize,
    generation: u64,
    /// The partition's journal is trimmed: its archives are looked at.
    expiring: bool,
}

impl Trim {
    pub(super) const fn new(generation: u64) -> Self {
        Self { partition: 0, generation, expiring: false }
    }
}

/// How long a pool's archives are kept, as far as its frozen periods say.
#[derive(Debug, Default)]
pub(super) struct Longest {
    next: u64,
    seconds: u64,
}

/// For a period's corrections: its lateness and twice its length.
fn kept_for(period: &OpenPeriod) -> u64 {
    2 * period.bounds.seconds() + u64::from(period.limits.max_lateness_seconds)
}

type Values = Vec<(Vec<u8>, Vec<u8>)>;

impl Committer {
    /// Archives and removes a bounded piece of what lies before the checkpoint, removes archives that are old enough, or
    /// the curves of the checkpoint before. `None` where the store is busy.
    pub(super) async fn trim_step(&mut self, pool: &Pool, now: UnixSeconds) -> Result<Option<usize>, BookError> {
        let (partition, generation, expiring, before) = {
            let checkpoint = lock(&pool.checkpoint);
            let Some(trim) = &checkpoint.trim else { return Ok(Some(0)) };
            let before = checkpoint.replay_from.get(trim.partition).copied();
            (trim.partition, trim.generation, trim.expiring, before)
        };
        let id = pool.id(partition);
        let (batch, more) = match before {
            None => {
                let (from, to) = (keys::curve_page(0, 0), keys::curve_page(generation, 0));
                let Some(found) = self.scan(pool.control(), KeyRange { from, to }, STEP_PAGES).await? else {
                    return Ok(None);
                };
                let mut batch = Batch::new(pool.control());
                let more = found.len() >= STEP_PAGES;
                batch.deletes = found.into_iter().map(|(key, _)| key).collect();
                (batch, more)
            }
            Some(before) if !expiring => {
                let range = keys::journal_before(before);
                let found = self.gather(id, range, RUN_BYTES, keys::parse_journal).await?;
                let Some((values, more)) = found else { return Ok(None) };
                (archived(id, values, now), more)
            }
            Some(_) => {
                let Some(found) = self.expired(pool, id, now).await? else { return Ok(None) };
                found
            }
        };
        let moved = batch.deletes.len();
        if moved > 0 && !self.commit_aside(vec![batch]).await? {
            return Ok(None);
        }
        if !more {
            let mut checkpoint = lock(&pool.checkpoint);
            match (&mut checkpoint.trim, before) {
                (Some(trim), Some(_)) if expiring => (trim.partition, trim.expiring) = (partition + 1, false),
                (Some(trim), Some(_)) => trim.expiring = true,
                (trim, _) => {
                    tracing::debug!(pool = pool.spec.number, generation, "the journal before a checkpoint is trimmed");
                    *trim = None;
                }
            }
        }
        Ok(Some(moved))
    }

    /// The removal of the next archives that are old enough, and whether there may be more of them.
    async fn expired(
        &self,
        pool: &Pool,
        id: PartitionId,
        now: UnixSeconds,
    ) -> Result<Option<(Batch, bool)>, BookError> {
        let mut batch = Batch::new(id);
        if self.shared.config.archive_for_ever {
            return Ok(Some((batch, false)));
        }
        match self.read_frozen(pool).await? {
            None => return Ok(None),
            Some(false) => return Ok(Some((batch, true))),
            Some(true) => {}
        }
        let calendar = read(&pool.meta).calendar.clone();
        // Before the first period nothing says how long.
        let Some(calendar) = calendar else { return Ok(Some((batch, false))) };
        let open = [Some(calendar.oldest), calendar.next].into_iter().flatten().map(|period| kept_for(&period));
        let least = lock(&pool.checkpoint).longest.seconds.max(self.shared.config.archive_seconds);
        let seconds = i64::try_from(open.fold(least, u64::max)).unwrap_or(i64::MAX);
        let keep_from = now.get().saturating_sub(seconds);
        let range = keys::range_of_tag(keys::tag::ARCHIVE);
        let Some((values, more)) = self.gather(id, range, EXPIRE_BYTES, keys::parse_archive).await? else {
            return Ok(None);
        };
        let first_of = |key: &[u8]| keys::parse_archive(key).map(|(first, _)| first);
        let old = |value: &[u8]| archive::span(value).is_some_and(|span| span.latest.get() < keep_from);
        let stays = values.iter().find(|(_, value)| !old(value)).map(|(key, _)| first_of(key));
        let goes = |(key, _): &(Vec<u8>, Vec<u8>)| stays.is_none_or(|stays| first_of(key) < stays);
        batch.deletes = values.into_iter().take_while(goes).map(|(key, _)| key).collect();
        Ok(Some((batch, more && stays.is_none())))
    }

    /// Looks at more of the frozen periods; whether all were seen. `None` where the store is busy.
    async fn read_frozen(&self, pool: &Pool) -> Result<Option<bool>, BookError> {
        let next = lock(&pool.checkpoint).longest.next;
        let range = keys::range_from(&keys::freeze_seal(next));
        let Some(found) = self.scan(pool.control(), range, SCAN).await? else { return Ok(None) };
        let mut checkpoint = lock(&pool.checkpoint);
        for (key, value) in &found {
            let Some(index) = keys::parse_freeze_seal(key) else { continue };
            // One that can't be read may have been the longest.
            let seconds = decode_frozen(value).map_or(u64::MAX, |record| kept_for(&record.period));
            checkpoint.longest.seconds = checkpoint.longest.seconds.max(seconds);
            checkpoint.longest.next = index.saturating_add(1);
        }
        Ok(Some(found.len() < SCAN))
    }

    /// The values of whole groups, or whole archives, from the front of `range`, and whether there are more of them.
    async fn gather(
        &self,
        id: PartitionId,
        range: KeyRange,
        limit: usize,
        parse: fn(&[u8]) -> Option<(u64, u16)>,
    ) -> Result<Option<(Values, bool)>, BookError> {
        let mut range = range;
        let mut values = Values::new();
        let (mut bytes, mut whole, mut current) = (0, 0, None);
        loop {
            let Some(found) = self.scan(id, range.clone(), SCAN).await? else { return Ok(None) };
            let Some((last, _)) = found.last() else { return Ok(Some((values, false))) };
            range.from = keys::after(last);
            for (key, value) in found {
                let damaged = BookError::Damaged { what: "a key of the journal", partition: id.0 };
                let (group, _) = parse(&key).ok_or(damaged)?;
                if current != Some(group) {
                    (current, whole) = (Some(group), values.len());
                }
                bytes += value.len();
                values.push((key, value));
                if whole > 0 && (bytes > limit || values.len() > STEP_VALUES) {
                    values.truncate(whole);
                    return Ok(Some((values, true)));
                }
            }
        }
    }

    /// `None` where the store is busy.
    async fn scan(&self, id: PartitionId, range: KeyRange, limit: usize) -> Result<Option<Values>, BookError> {
        match self.shared.store.scan(id, range, limit, Direction::Forward).await {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::Busy(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Puts a run of groups into the archive and takes it out of the journal.
fn archived(id: PartitionId, values: Values, now: UnixSeconds) -> Batch {
    let mut batch = Batch::new(id);
    let group_of = |(key, _): &(Vec<u8>, Vec<u8>)| keys::parse_journal(key).map(|(group, _)| group);
    let (Some(first), Some(last)) = (values.first().and_then(group_of), values.last().and_then(group_of)) else {
        return batch;
    };
    let firsts = values.iter().filter(|(key, _)| keys::parse_journal(key).is_some_and(|(_, part)| part == 0));
    // A time that can't be read counts as now: it is kept the longer.
    let latest = firsts.map(|(_, value)| peek_time(value).unwrap_or(now)).max().unwrap_or(now);
    let bytes: Vec<&[u8]> = values.iter().map(|(_, value)| value.as_slice()).collect();
    for (part, value) in (0..).zip(archive::encode(Span { first, last, latest }, &bytes)) {
        batch.put(keys::archive(first, part), value);
    }
    batch.deletes = values.into_iter().map(|(key, _)| key).collect();
    batch
}
