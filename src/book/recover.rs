//! Opening: newest checkpoint, then the journal, up to what was acknowledged and no further.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::mpsc;

use super::checkpoint::Checkpoint;
use super::committer::{Committer, rejection};
use super::journal::{Assembly, Group, Record, first_chain};
use super::pages::{self, PAGE_ROWS, Page, PageMark, page_hash, slot_number};
use super::partition::{AccountHash, Verdict};
use super::pool::{Heads, Mode, PeriodCurve, Pool};
use super::records::{
    Manifest, ManifestPartition, RejectedEvent, decode_curve_page, decode_hashes, decode_heads, decode_manifest,
    decode_source,
};
use super::sealing::Sealer;
use super::{
    Book, BookConfig, BookError, BookSender, MAX_PARTITIONS, MAX_SOURCES, PoolSpec, Shared, Source, SourceState, lock,
    write,
};
use crate::domain::feed::{SourceCursor, SourceNumber};
use crate::domain::ids::AssetId;
use crate::store::{Batch, Direction, PartitionId, Store, keys};

/// The values that one scan brings.
const SCAN: usize = 128;
/// The keys that one commit removes.
const REMOVALS: usize = 1_024;

type Rejects = Vec<(SourceNumber, u64, RejectedEvent)>;

impl Book {
    /// Opens the book: every pool of `specs`, and every source that the store knows.
    pub async fn open(
        store: Arc<dyn Store>,
        specs: Vec<PoolSpec>,
        config: BookConfig,
    ) -> Result<(Self, Committer), BookError> {
        let (queue, receiver) = mpsc::channel(config.queue_commands.max(1));
        let queued = Arc::new(AtomicUsize::new(0));
        let sender = BookSender { queue, queued: queued.clone(), limit: config.queue_events };
        let sources = load_sources(store.as_ref()).await?;
        let state = |source: &Source| SourceState {
            durable_sequence: source.cursor.last(),
            watermark: source.cursor.watermark(),
        };
        let published = sources.iter().map(|(number, source)| (*number, state(source))).collect();
        let mut pools = BTreeMap::new();
        let mut found = Vec::new();
        for spec in specs {
            let (pool, rejects) = load_pool(store.as_ref(), spec).await?;
            found.extend(rejects);
            pools.insert(spec.number, Arc::new(pool));
        }
        let shared = Arc::new(Shared {
            store,
            config,
            pools: RwLock::new(pools),
            assets: RwLock::default(),
            sources: Mutex::new(sources),
            published: RwLock::new(published),
            found: Mutex::new(found),
            pending: Mutex::default(),
            failed: AtomicBool::new(false),
            frozen: tokio::sync::Notify::new(),
        });
        let backlog = VecDeque::new();
        let book = Self { shared: shared.clone(), sender };
        let sealer = Some(Sealer { shared: shared.clone() });
        let committer = Committer {
            shared,
            sealer,
            queue: receiver,
            queued,
            backlog,
            staged: None,
            ahead: None,
            rejects: VecDeque::new(),
            failed: None,
        };
        Ok((book, committer))
    }

    /// Takes in one more pool, with what the store has of it. A pool that is there already stays as it is.
    pub async fn add_pool(&self, spec: PoolSpec) -> Result<(), BookError> {
        let there = super::read(&self.shared.pools).get(&spec.number).map(|pool| pool.spec);
        match there {
            Some(old) if old == spec => return Ok(()),
            Some(_) => return Err(BookError::Spec { pool: spec.number, reason: "is open with another layout" }),
            None => {}
        }
        let (pool, rejects) = load_pool(self.shared.store.as_ref(), spec).await?;
        lock(&self.shared.found).extend(rejects);
        write(&self.shared.pools).entry(spec.number).or_insert_with(|| Arc::new(pool));
        Ok(())
    }

    /// Says what a pool stakes: a repeat of an event that was rejected before the pool was there is known by it.
    pub fn name_asset(&self, pool: u16, asset: AssetId) {
        write(&self.shared.assets).insert(pool, asset);
    }

    /// Lets a source in; one that is known already stays as it is. `false` where there are [`MAX_SOURCES`].
    pub fn add_source(&self, number: SourceNumber) -> bool {
        let mut sources = lock(&self.shared.sources);
        if !sources.contains_key(&number) && sources.len() >= MAX_SOURCES {
            return false;
        }
        sources.entry(number).or_default();
        write(&self.shared.published).entry(number).or_default();
        true
    }
}

async fn load_sources(store: &dyn Store) -> Result<BTreeMap<SourceNumber, Source>, BookError> {
    let damaged = |what| BookError::Damaged { what, partition: PartitionId::SERVICE.0 };
    let mut sources: BTreeMap<SourceNumber, Source> = BTreeMap::new();
    sources.insert(SourceNumber::ENROLMENT, Source::default());
    let mut range = keys::range_of_tag(keys::tag::SOURCE_CURSOR);
    loop {
        let found = store.scan(PartitionId::SERVICE, range.clone(), SCAN, Direction::Forward).await?;
        let Some((last, _)) = found.last() else { break };
        range.from = keys::after(last);
        for (key, value) in found {
            let number = keys::parse_source_cursor(&key).ok_or(damaged("the key of a source's cursor"))?;
            let (last, watermark) = decode_source(&value).ok_or(damaged("the cursor of a source"))?;
            let mut cursor = SourceCursor::new(last, watermark);
            load_hashes(store, number, &mut cursor).await?;
            sources.insert(SourceNumber(number), Source { cursor, stored: Some(value) });
        }
    }
    Ok(sources)
}

async fn load_hashes(store: &dyn Store, number: u16, cursor: &mut SourceCursor) -> Result<(), BookError> {
    let damaged = BookError::Damaged { what: "the body hashes of a source", partition: PartitionId::SERVICE.0 };
    let mut range = keys::body_hashes_of(number);
    loop {
        let found = store.scan(PartitionId::SERVICE, range.clone(), SCAN, Direction::Forward).await?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        range.from = keys::after(last);
        for (key, value) in found {
            let (_, first) = keys::parse_body_hashes(&key).ok_or(damaged.clone())?;
            let hashes = decode_hashes(&value).ok_or(damaged.clone())?;
            if !cursor.restore_hashes(first, &hashes) {
                return Err(damaged);
            }
        }
    }
}

async fn load_pool(store: &dyn Store, spec: PoolSpec) -> Result<(Pool, Rejects), BookError> {
    let number = spec.number;
    if number == 0 || spec.partitions == 0 || spec.partitions > MAX_PARTITIONS {
        return Err(BookError::Spec { pool: number, reason: "has a number from 1 and 1 to 64 partitions" });
    }
    let mut pool = Pool::new(spec);
    let service = PartitionId::SERVICE;
    if let Some(stored) = store.get(service, &keys::journal_heads(number)).await? {
        let damaged = BookError::Damaged { what: "the heads of a pool's journals", partition: service.0 };
        let list = decode_heads(&stored).ok_or(damaged)?;
        if list.len() != pool.partitions.len() {
            return Err(BookError::Spec { pool: number, reason: "was made with another number of partitions" });
        }
        pool.heads = Mutex::new(Heads { list, stored: Some(stored) });
    }
    let control = pool.control();
    let manifest = match store.get(control, &keys::checkpoint_manifest()).await? {
        None => None,
        Some(stored) => {
            let damaged = BookError::Damaged { what: "the checkpoint manifest", partition: control.0 };
            let manifest = decode_manifest(&stored).ok_or(damaged.clone())?;
            if manifest.partitions.len() != pool.partitions.len() {
                return Err(damaged);
            }
            Some(manifest)
        }
    };
    if let Some(manifest) = &manifest {
        pool.checkpoint = Mutex::new(Checkpoint::recovered(manifest));
        load_totals(store, &pool, manifest).await?;
    }
    let mut rejects = Vec::new();
    for partition in 0..pool.partitions.len() {
        let start = manifest.as_ref().and_then(|manifest| manifest.partitions.get(partition).copied());
        if let (Some(start), Some(manifest)) = (start, &manifest) {
            load_pages(store, &pool, partition, &start, manifest).await?;
        }
        replay(store, &pool, partition, start, &mut rejects).await?;
        remove_unacknowledged(store, &pool, partition).await?;
    }
    pool.settle();
    resume_sealing(store, &pool).await?;
    Ok((pool, rejects))
}

/// Totals and curves as the manifest has them.
async fn load_totals(store: &dyn Store, pool: &Pool, manifest: &Manifest) -> Result<(), BookError> {
    let control = pool.control();
    let damaged = BookError::Damaged { what: "a page of the checkpoint's curves", partition: control.0 };
    let curve = |head: &super::records::ManifestCurve| {
        (head.index, PeriodCurve { curve: head.curve(), crossing: head.crossing, adjusted: head.adjusted })
    };
    let mut curves: BTreeMap<_, PeriodCurve> = manifest.curves.iter().map(curve).collect();
    for page in 0..manifest.curve_pages {
        let value = store.get(control, &keys::curve_page(manifest.generation, page)).await?.ok_or(damaged.clone())?;
        let (index, changes) = decode_curve_page(&value).ok_or(damaged.clone())?;
        let period = curves.get_mut(&index).ok_or(damaged.clone())?;
        if !changes.into_iter().all(|(second, change)| period.curve.restore(second, change)) {
            return Err(damaged);
        }
    }
    let mut meta = write(&pool.meta);
    (meta.eligible, meta.positions, meta.rests) = (manifest.eligible, manifest.positions, manifest.rests);
    meta.curves = curves;
    Ok(())
}

/// The pages of a partition that the manifest rests on.
async fn load_pages(
    store: &dyn Store,
    pool: &Pool,
    partition: usize,
    start: &ManifestPartition,
    manifest: &Manifest,
) -> Result<(), BookError> {
    let id = pool.id(partition);
    let damaged = BookError::Damaged { what: "a page of positions", partition: id.0 };
    let Some(rows) = pool.partitions.get(partition) else { return Ok(()) };
    write(rows).reserve(start.pages as usize * PAGE_ROWS);
    write(rows).calendar.clone_from(&manifest.calendar);
    let mut sum = 0u128;
    let mut next = 0u32;
    while next < start.pages {
        let upto = next.saturating_add(SCAN as u32 / 2).min(start.pages);
        let range =
            crate::store::KeyRange { from: keys::page(slot_number(next, 0)), to: keys::page(slot_number(upto, 0)) };
        let found = store.scan(id, range, SCAN, Direction::Forward).await?;
        let mut best: BTreeMap<u32, (Page, u8, u128)> = BTreeMap::new();
        for (key, value) in found {
            let number = keys::parse_page(&key).ok_or(damaged.clone())?;
            let page = pages::decode(&value).ok_or(damaged.clone())?;
            let older = best.get(&(number / 2)).is_some_and(|(other, ..)| other.generation > page.generation);
            // A page of a checkpoint that was never completed does not count.
            if page.generation <= manifest.generation && !older {
                best.insert(number / 2, (page, (number % 2) as u8, page_hash(&value)));
            }
        }
        let mut rows = write(rows);
        for number in next..upto {
            let (page, slot, hash) = best.remove(&number).ok_or(damaged.clone())?;
            if rows.len() != number as usize * PAGE_ROWS || page.rows.len() > PAGE_ROWS {
                return Err(damaged);
            }
            sum = sum.wrapping_add(hash);
            for (account, position, rest) in page.rows {
                let ordinal = rows.add(account.as_str(), position).ok_or(damaged.clone())?;
                rows.set_rest(ordinal, rest);
            }
            if let Some(mark) = rows.marks.get_mut(number as usize) {
                *mark = PageMark { hash, group: page.group, dirty: false, slot, moved: false };
            }
        }
        next = upto;
    }
    if sum != start.hash_sum { Err(damaged) } else { Ok(()) }
}

/// Applies the journal from the manifest on, or from its beginning, up to the acknowledged head.
async fn replay(
    store: &dyn Store,
    pool: &Pool,
    partition: usize,
    start: Option<ManifestPartition>,
    rejects: &mut Rejects,
) -> Result<(), BookError> {
    let id = pool.id(partition);
    let Some(head) = lock(&pool.heads).list.get(partition).copied() else { return Ok(()) };
    let (first, chain, counted_upto) = match start {
        Some(start) => (start.replay_from, start.chain, start.upto),
        None => (1, first_chain(id.0), 0),
    };
    let mut assembly = Assembly::new(first, chain);
    let broken = |group| BookError::JournalBroken { partition: id.0, group };
    let mut range = crate::store::KeyRange { from: keys::journal(first, 0), to: keys::journal(head.group + 1, 0) };
    if let Some(rows) = pool.partitions.get(partition) {
        write(rows).group = first - 1;
    }
    loop {
        let found = store.scan(id, range.clone(), SCAN, Direction::Forward).await?;
        let Some((last, _)) = found.last() else { break };
        range.from = keys::after(last);
        for (_, value) in &found {
            pool.journal_bytes.fetch_add(value.len() as u64, Ordering::Relaxed);
            let taken = assembly.take(value).map_err(|()| broken(assembly.next_number()))?;
            let Some(group) = taken else { continue };
            let counted = group.number > counted_upto;
            let keep_weights = counted && !is_sealed(store, pool, &group).await?;
            let mode = Mode { counted, keep_weights };
            let slot = |record: &Record| record.account().map_or(0, |a| AccountHash::of(a.as_str().as_bytes()).slot);
            let slots: Vec<u64> = group.records.iter().map(slot).collect();
            let verdicts = pool.apply(partition, group.number, group.now, &group.records, &slots, mode);
            let decided = group.records.iter().zip(verdicts).filter(|_| counted);
            rejects.extend(decided.filter_map(|(record, verdict)| match verdict {
                Verdict::Rejected(reason) => rejection(pool.spec.number, record, reason, group.now),
                Verdict::Accepted { .. } | Verdict::Skipped => None,
            }));
        }
    }
    if assembly.next_number() != head.group + 1 || assembly.chain() != Some(head.chain) || counted_upto > head.group {
        return Err(broken(assembly.next_number()));
    }
    Ok(())
}

/// Whether a group freezes a period whose weights are all written.
async fn is_sealed(store: &dyn Store, pool: &Pool, group: &Group) -> Result<bool, BookError> {
    for record in &group.records {
        if let Record::Freeze { index, .. } = record {
            return Ok(store.get(pool.control(), &keys::freeze_seal(index.0)).await?.is_some());
        }
    }
    Ok(false)
}

/// What lies beyond the head was never acknowledged: a commit that was cut short.
async fn remove_unacknowledged(store: &dyn Store, pool: &Pool, partition: usize) -> Result<(), BookError> {
    let id = pool.id(partition);
    let Some(head) = lock(&pool.heads).list.get(partition).copied() else { return Ok(()) };
    let range = keys::range_from(&keys::journal(head.group + 1, 0));
    loop {
        let found = store.scan(id, range.clone(), SCAN.min(REMOVALS), Direction::Forward).await?;
        if found.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new(id);
        batch.deletes = found.into_iter().map(|(key, _)| key).collect();
        store.commit(vec![batch]).await?;
    }
}

/// Where a freeze was being sealed, goes on after the last chunk that is there.
async fn resume_sealing(store: &dyn Store, pool: &Pool) -> Result<(), BookError> {
    let Some(period) = lock(&pool.freeze).as_ref().map(|work| work.period.index) else { return Ok(()) };
    for partition in 0..pool.partitions.len() {
        let id = pool.id(partition);
        let sealed = store.get(id, &keys::freeze_seal(period.0)).await?.is_some();
        let last = store.scan(id, keys::weight_chunks_of(period.0), 1, Direction::Reverse).await?;
        let written = last.first().and_then(|(key, _)| keys::parse_weight_chunk(key));
        let next = written.map_or(0, |(_, chunk)| chunk as usize + 1);
        if let Some(work) = lock(&pool.freeze).as_mut() {
            work.resume(pool, partition, next, sealed);
        }
    }
    if let Some(work) = lock(&pool.freeze).as_mut() {
        work.complete();
    }
    Ok(())
}
