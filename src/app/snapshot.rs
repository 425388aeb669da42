//! Full snapshots of a source: gathered part by part, compared with the positions at one point of the book, explained,
//! and applied when told to.
//!
//! Called by the balance stream. A snapshot that is applied leaves a mark with the hash of its content before the first
//! position changes: after a crash its repeat applies what is left, and has the answer that the first one would have had.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::batch::FeedBatch;
use super::ingest::book_refusal;
use super::{App, AppError, Reason, unknown_asset};
use crate::book::{
    self, AccountTwice, MAX_BATCH_EVENTS, Refusal as BookRefusal, SnapshotBalances, SnapshotBatch, SnapshotOutcome,
};
use crate::domain::amount::BaseUnits;
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::{AccountId, AssetId, RequestId, SourceId};
use crate::domain::payout::SetHash;
use crate::domain::snapshot::{Difference, HeldBalance, SeenDifference};
use crate::domain::time::UnixSeconds;
use crate::store::records::{Record, SnapshotDifferences, SnapshotRecord};
use crate::store::{Batch, PartitionId, keys};

/// What all snapshots that are being taken may hold together, in bytes: 24 for an account that the book knows, so that
/// 20 million of them fit.
const MAX_HELD_BYTES: usize = 512 << 20;

/// The most differences that are listed: they are kept with the snapshot's mark, in one commit.
pub const MAX_LISTED: usize = 2_048;

/// How many differences one record holds: each has up to 210 bytes.
const PER_RECORD: usize = 32;

/// How many of a source's last rejected events are looked through for an explanation.
const REJECTED_LOOKED_AT: usize = 16_384;

/// The field that names what a snapshot covers.
const ASSETS: &str = "snapshot.assets";

/// What the snapshots that are being taken hold together.
#[derive(Clone, Debug)]
pub(super) struct Room {
    limit: usize,
    taken: Arc<AtomicUsize>,
}

impl Default for Room {
    fn default() -> Self {
        Self { limit: MAX_HELD_BYTES, taken: Arc::default() }
    }
}

/// A place in the room, given back when it is dropped.
#[derive(Debug)]
struct Place {
    room: Room,
    bytes: usize,
}

impl Place {
    /// Takes `bytes` in all; `false` where there is no room for them.
    fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.room.taken.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        before.saturating_add(more) <= self.room.limit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a snapshot says of itself, the same in each of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Whose.
    pub source: SourceId,
    /// The caller's id of it.
    pub id: RequestId,
    /// The sequence that the source's next event will have.
    pub next_sequence: u64,
    /// The assets that it covers.
    pub assets: Vec<AssetId>,
    /// When the balances hold.
    pub as_of: UnixSeconds,
    /// Whether differences are applied.
    pub apply: bool,
}

/// The balances of one asset.
#[derive(Debug)]
struct Covered {
    asset: AssetId,
    pool: u16,
    hash: SetHash,
    balances: SnapshotBalances,
}

/// A snapshot that is being gathered. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Snapshot {
    head: SnapshotHead,
    source: SourceNumber,
    covered: Vec<Covered>,
    place: Place,
}

impl Snapshot {
    /// What it says of itself.
    pub const fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Takes in one balance. `false` where the snapshot does not cover the asset.
    pub fn push(&mut self, app: &App, account: AccountId, asset: &str, balance: BaseUnits) -> bool {
        let Some(covered) = self.covered.iter_mut().find(|covered| covered.asset.as_str() == asset) else {
            return false;
        };
        covered.hash.add(&account, balance.get());
        app.book.hold_balance(&mut covered.balances, account, balance);
        true
    }

    /// Refuses a snapshot that has become too large to be held.
    pub fn check_room(&mut self) -> Result<(), AppError> {
        let bytes = self.covered.iter().map(|covered| covered.balances.bytes()).sum();
        if self.place.grow(bytes) {
            return Ok(());
        }
        let limit = self.place.room.limit;
        let message = format!(
            "snapshots hold {limit} bytes at most at one time, {} for an account that the book knows; send fewer assets \
             in one snapshot, or one snapshot after the other",
            SnapshotBalances::KNOWN_BYTES
        );
        Err(AppError::refused(Reason::SnapshotTooLarge, message))
    }

    /// BLAKE3 of all that it says, in whatever order and parts it came.
    fn content(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        hash.update(b"softstake snapshot");
        hash.update(&self.head.next_sequence.to_le_bytes());
        hash.update(&self.head.as_of.get().to_le_bytes());
        hash.update(&[u8::from(self.head.apply)]);
        let mut covered: Vec<_> = self.covered.iter().collect();
        covered.sort_unstable_by_key(|covered| covered.pool);
        for covered in covered {
            hash.update(&covered.pool.to_le_bytes());
            hash.update(&(covered.balances.len() as u64).to_le_bytes());
            hash.update(&covered.hash.to_bytes());
        }
        hash.finalize().into()
    }
}

/// What a snapshot came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAnswer {
    /// The source's sequence that it was compared at; all up to it is durable.
    pub sequence: u64,
    /// Differences in the order of pool and account: at most [`MAX_LISTED`], those that could not be applied first of all.
    pub differences: Vec<Difference>,
    /// How many there were.
    pub difference_count: u64,
    /// How many were applied.
    pub applied_count: u64,
    /// How many could not be applied.
    pub refused_count: u64,
    /// Whether this is the answer to an earlier one.
    pub repeated: bool,
}

/// What a step of a snapshot did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotStep {
    /// There is more to do at once.
    More,
    /// The book has no room for the next piece: step again later.
    Full,
    /// It is done.
    Done(Box<SnapshotAnswer>),
}

/// A whole snapshot on its way: step it until it is done. Dropped before, it leaves what is applied; its repeat goes on.
#[derive(Debug)]
pub struct SnapshotWork {
    head: SnapshotHead,
    source: SourceNumber,
    content: [u8; 32],
    balances: Vec<SnapshotBalances>,
    stage: Stage,
    _place: Place,
}

#[derive(Debug)]
enum Stage {
    /// What came before it is not known to be durable.
    Begun,
    /// Its differences are being applied.
    Applying {
        mark: SnapshotRecord,
        listed: Vec<Difference>,
        waiting: Vec<(u16, AccountId, BaseUnits)>,
        refused: Refused,
    },
}

/// What could not be applied.
#[derive(Debug, Default)]
struct Refused {
    count: u64,
    /// How many of them were no differences at the first attempt: positions of other sources may have moved since. Where
    /// not all differences are listed, nobody can tell those from the others, and they are taken as counted.
    new: u64,
    /// The first in the order of pool and account.
    first: BTreeMap<(u16, AccountId), Difference>,
}

impl App {
    /// Begins to gather a snapshot.
    pub fn begin_snapshot(&self, head: SnapshotHead) -> Result<Snapshot, AppError> {
        let source = self.sending(&head.source)?;
        let covered = head.assets.iter().map(|asset| {
            let pool = self.pool_staking(asset, ASSETS)?;
            let (takes, pool) = (self.takes_balances(&pool), pool.number());
            if !takes {
                return Err(book_refusal(BookRefusal::PeriodNotOpen { pool }));
            }
            let balances = self.book.snapshot_balances(pool).ok_or_else(|| unknown_asset(asset, ASSETS))?;
            Ok(Covered { asset: asset.clone(), pool, hash: SetHash::EMPTY, balances })
        });
        let covered = covered.collect::<Result<_, AppError>>()?;
        Ok(Snapshot { head, source, covered, place: Place { room: self.feed.room.clone(), bytes: 0 } })
    }

    /// Takes a snapshot that is gathered whole.
    pub fn take_snapshot(&self, snapshot: Snapshot) -> SnapshotWork {
        let content = snapshot.content();
        let Snapshot { head, source, covered, place } = snapshot;
        let balances = covered.into_iter().map(|covered| covered.balances).collect();
        SnapshotWork { head, source, content, balances, stage: Stage::Begun, _place: place }
    }

    /// The differences that a snapshot was answered with.
    async fn snapshot_differences(&self, source: SourceNumber, id: &RequestId) -> Result<Vec<Difference>, AppError> {
        let range = keys::snapshot_differences_of(source.0, id);
        let records: Vec<SnapshotDifferences> = self.list(PartitionId::SERVICE, range, usize::MAX).await?;
        Ok(records.into_iter().flat_map(|record| record.0).collect())
    }

    /// Explains what a snapshot sees differently, by what the source was refused.
    async fn explain(
        &self,
        source: SourceNumber,
        as_of: UnixSeconds,
        seen: Vec<SeenDifference>,
    ) -> Result<Vec<Difference>, AppError> {
        let mut rejected: BTreeMap<(u16, &str), (u64, RejectReason)> = BTreeMap::new();
        let events = match seen.is_empty() {
            true => Vec::new(),
            false => self.book.last_rejected_events(source, REJECTED_LOOKED_AT).await?,
        };
        // The newest first.
        for (sequence, event) in &events {
            // An event of before the pool was there names its asset.
            let pool = event.pool.or_else(|| self.pool_of_asset(&event.asset).map(|pool| pool.number()));
            let Some(pool) = pool else { continue };
            rejected.entry((pool, event.account.as_str())).or_insert((*sequence, event.reason));
        }
        let rejected_of = |seen: &SeenDifference| rejected.get(&(seen.pool, seen.account.as_str())).copied();
        let explain = |seen: SeenDifference| {
            let rejected = rejected_of(&seen);
            Difference::explain(seen, source, as_of, rejected)
        };
        Ok(seen.into_iter().map(explain).collect())
    }

    /// A difference that could not be applied and was not among the first.
    async fn unlisted(
        &self,
        work: &SnapshotWork,
        all: Vec<(u16, AccountId, BaseUnits)>,
    ) -> Result<Vec<Difference>, AppError> {
        let seen = all.into_iter().map(|(pool, account, balance)| {
            let view = self.book.position(pool, &account, work.head.as_of);
            let held = view.map(|view| HeldBalance {
                balance: view.balance,
                owner: view.owner,
                last_at: view.last_event_at,
                last_sequence: view.last_sequence,
            });
            SeenDifference { pool, account, snapshot: Some(balance), held }
        });
        self.explain(work.source, work.head.as_of, seen.collect()).await
    }
}

impl SnapshotWork {
    /// What the snapshot says of itself.
    pub const fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Brings it one piece further.
    pub async fn step(&mut self, app: &App) -> Result<SnapshotStep, AppError> {
        match self.stage {
            Stage::Begun => self.begin(app).await,
            Stage::Applying { .. } => self.apply(app).await,
        }
    }

    async fn begin(&mut self, app: &App) -> Result<SnapshotStep, AppError> {
        let key = keys::snapshot(self.source.0, &self.head.id);
        let mark: Option<SnapshotRecord> = app.read(PartitionId::SERVICE, &key).await?;
        if mark.as_ref().is_some_and(|mark| mark.content != self.content) {
            let message =
                format!("snapshot {} was sent with another content; give this one an id of its own", self.head.id);
            return Err(AppError::refused_in("snapshot.snapshot_id", Reason::RequestIdReused, message));
        }
        if let Some(mark) = mark.as_ref().filter(|mark| mark.done) {
            let differences = app.snapshot_differences(self.source, &self.head.id).await?;
            return Ok(answer(mark, differences, true, true));
        }
        // Everything that the source has sent before is durable once this is.
        let mut before = FeedBatch::new(app, self.source, self.head.next_sequence, None);
        if !before.hand_in(app)? {
            return Ok(SnapshotStep::Full);
        }
        let last = before.durable(app).await?.durable_sequence;
        let sequence = self.head.next_sequence.saturating_sub(1);
        if last != sequence {
            return Err(book_refusal(book::Refusal::SnapshotPassed { last }));
        }
        let seen = app.book.compare(self.source, &mut self.balances, MAX_LISTED).map_err(twice)?;
        if let Some(mark) = mark {
            // A crash cut it off: what differs now is what is left of it.
            let listed = app.snapshot_differences(self.source, &self.head.id).await?;
            self.stage = Stage::Applying { mark, listed, waiting: Vec::new(), refused: Refused::default() };
            return Ok(SnapshotStep::More);
        }
        let listed = app.explain(self.source, self.head.as_of, seen).await?;
        let difference_count = self.balances.iter().map(SnapshotBalances::len).sum::<usize>() as u64;
        app.metrics.snapshot_differences.inc_by(difference_count);
        let (content, at) = (self.content, app.now());
        let mark = SnapshotRecord { content, done: false, sequence, difference_count, refused_count: 0, at };
        tracing::info!(source = %self.head.source, snapshot = %self.head.id, sequence, difference_count,
            apply = self.head.apply, "a snapshot was compared with the positions");
        if !self.head.apply {
            return Ok(answer(&mark, listed, false, false));
        }
        let mut batch = Batch::new(PartitionId::SERVICE);
        batch.expect_absent(key.clone()).put(key, mark.encode());
        self.put_listed(&mut batch, &listed);
        app.store.commit(vec![batch]).await?;
        self.stage = Stage::Applying { mark, listed, waiting: Vec::new(), refused: Refused::default() };
        Ok(SnapshotStep::More)
    }

    /// Applies the next differences; after the last ones, makes the answer durable.
    async fn apply(&mut self, app: &App) -> Result<SnapshotStep, AppError> {
        let Stage::Applying { mark, waiting, .. } = &mut self.stage else { return Ok(SnapshotStep::More) };
        if waiting.is_empty() {
            *waiting = app.book.take_differences(&mut self.balances, MAX_BATCH_EVENTS);
        }
        if waiting.is_empty() {
            return self.finish(app).await;
        }
        let Some(room) = app.sender.room(waiting.len()) else { return Ok(SnapshotStep::Full) };
        let balances = waiting.clone();
        let (source, sequence, at) = (self.source, mark.sequence, self.head.as_of);
        let batch = SnapshotBatch { source, sequence, snapshot: tag(&self.head.id), at, balances };
        let outcome: SnapshotOutcome = room.submit_snapshot(batch).await.map_err(book_refusal)?;
        app.metrics.snapshot_applied.inc_by(outcome.applied);
        self.note(app, outcome).await?;
        Ok(SnapshotStep::More)
    }

    /// Remembers what could not be applied.
    async fn note(&mut self, app: &App, outcome: SnapshotOutcome) -> Result<(), AppError> {
        let Stage::Applying { mark, listed, waiting, .. } = &mut self.stage else { return Ok(()) };
        let all_listed = mark.difference_count == listed.len() as u64;
        let sent: BTreeMap<(u16, AccountId), BaseUnits> =
            std::mem::take(waiting).into_iter().map(|(pool, account, balance)| ((pool, account), balance)).collect();
        let listed: BTreeMap<(u16, &AccountId), &Difference> =
            listed.iter().map(|one| ((one.seen.pool, &one.seen.account), one)).collect();
        let (mut known, mut others) = (Vec::new(), Vec::new());
        let mut reasons = BTreeMap::new();
        for (pool, account, reason) in outcome.refused {
            match listed.get(&(pool, &account)) {
                Some(difference) => known.push(Difference::clone(difference)),
                None => {
                    let balance = sent.get(&(pool, account.clone())).copied().unwrap_or_default();
                    others.push((pool, account.clone(), balance));
                }
            }
            reasons.insert((pool, account), reason);
        }
        let new = others.len() as u64;
        known.extend(app.unlisted(self, others).await?);
        let Stage::Applying { refused, .. } = &mut self.stage else { return Ok(()) };
        if all_listed {
            refused.new += new;
        }
        refused.count += reasons.len() as u64;
        for mut difference in known {
            let place = (difference.seen.pool, difference.seen.account.clone());
            difference.refused = reasons.get(&place).copied();
            refused.first.insert(place, difference);
            if refused.first.len() > MAX_LISTED {
                refused.first.pop_last();
            }
        }
        Ok(())
    }

    async fn finish(&mut self, app: &App) -> Result<SnapshotStep, AppError> {
        let Stage::Applying { mark, listed, refused, .. } = &mut self.stage else { return Ok(SnapshotStep::More) };
        let before = mark.encode();
        let difference_count = mark.difference_count + refused.new;
        let done = SnapshotRecord { done: true, difference_count, refused_count: refused.count, ..mark.clone() };
        let listed = merge(std::mem::take(listed), std::mem::take(&mut refused.first));
        let key = keys::snapshot(self.source.0, &self.head.id);
        let mut batch = Batch::new(PartitionId::SERVICE);
        batch.expect_equals(key.clone(), before).put(key, done.encode());
        self.put_listed(&mut batch, &listed);
        app.store.commit(vec![batch]).await?;
        tracing::info!(source = %self.head.source, snapshot = %self.head.id, differences = done.difference_count,
            refused = done.refused_count, "a snapshot was applied");
        Ok(answer(&done, listed, true, false))
    }

    fn put_listed(&self, batch: &mut Batch, listed: &[Difference]) {
        for (chunk, differences) in (0u32..).zip(listed.chunks(PER_RECORD)) {
            let key = keys::snapshot_differences(self.source.0, &self.head.id, chunk);
            batch.put(key, SnapshotDifferences(differences.to_vec()).encode());
        }
    }
}

/// Those that could not be applied, and of the others the first, as many as are listed, in order.
fn merge(listed: Vec<Difference>, refused: BTreeMap<(u16, AccountId), Difference>) -> Vec<Difference> {
    let mut all = refused;
    for difference in listed {
        if all.len() >= MAX_LISTED {
            break;
        }
        let place = (difference.seen.pool, difference.seen.account.clone());
        all.entry(place).or_insert(difference);
    }
    all.into_values().collect()
}

fn answer(mark: &SnapshotRecord, differences: Vec<Difference>, applied: bool, repeated: bool) -> SnapshotStep {
    let applied_count = if applied { mark.difference_count.saturating_sub(mark.refused_count) } else { 0 };
    SnapshotStep::Done(Box::new(SnapshotAnswer {
        sequence: mark.sequence,
        differences,
        difference_count: mark.difference_count,
        applied_count,
        refused_count: mark.refused_count,
        repeated,
    }))
}

fn twice(AccountTwice(account): AccountTwice) -> AppError {
    AppError::invalid("snapshot", format!("names account {account} twice for one asset; each has one balance"))
}

/// What the journal knows a snapshot by.
fn tag(id: &RequestId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(id.as_str().as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
