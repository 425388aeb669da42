//! The audit log, as the service keeps it: every entry is in the same commit as its change.
//!
//! A batch is atomic in one partition, so there is a chain of entries in the service partition and one in each pool's
//! control partition, each with its head, which every commit that adds to it expects: a chain has no forks.
//! [`App::mutate`] and [`App::commit_marked`] carry out every mutation that a caller names, and add its entry.
//!
//! Not written down are the events of a balance stream, which the journals have with their source, and ReportCustody,
//! which moves nothing and of which the pool shows the last.

use std::collections::VecDeque;

use crate::domain::audit_log::{Act, AuditEntry, AuditHead, ChainBreak, ChainCheck, Log, NO_HASH, Note, RefusedCalls};
use crate::domain::caller::Caller;
use crate::domain::time::UnixSeconds;
use crate::store::records::Record;
use crate::store::{Batch, Direction, KeyRange, PartitionId, Store, keys};

use super::{App, AppError, Pool, Request};

/// What is answered often, moves nothing, and is shown by its last word: not written down.
const NOT_AUDITED: &[&str] = &["TransferService/ReportCustody"];

/// How many entries of a chain one read takes.
const ENTRIES_PER_READ: usize = 256;

/// How many entries one page looks at where a filter passes over most of them. The page ends there, with a token.
const LOOKED_AT: usize = 20_000;

/// The longest method and peer that are kept of a call that was refused: both are as the caller sent them.
const MAX_SENT_BYTES: usize = 96;

/// The full name of the RPC of a request; what is no name of one stays as it is.
pub(super) fn full_name(method: &str) -> String {
    if method.starts_with('/') || !method.contains('/') {
        return method.to_owned();
    }
    let end = method.match_indices('/').nth(1).map_or(method.len(), |(at, _)| at);
    format!("softstake.v1.{}", method.get(..end).unwrap_or(method))
}

/// What `caller` did by itself, without a request: the service, or a command on its machine.
pub(super) fn by(caller: Caller, note: Note) -> Act {
    let Caller { principal, peer } = caller;
    let (method, request_id) = (String::new(), String::new());
    Act { principal, peer, method, request_id, request_hash: NO_HASH, note, refused: None }
}

impl Request {
    /// What is written down of it; `None` where nothing is.
    pub(super) fn act(&self, note: Note) -> Option<Act> {
        let Caller { principal, peer } = self.caller.clone();
        (!NOT_AUDITED.contains(&self.method)).then(|| Act {
            principal,
            peer,
            method: full_name(self.method),
            request_id: self.id.to_string(),
            request_hash: self.fingerprint,
            note,
            refused: None,
        })
    }
}

impl Pool {
    /// The chain of entries about it.
    pub(super) fn log(&self) -> Log {
        Log::Pool(self.id().clone())
    }
}

/// Adds entries to a batch of the partition that `log` lies in, behind `head` as it is stored there.
pub(super) fn append(
    batch: &mut Batch,
    log: &Log,
    head: Option<Vec<u8>>,
    at: UnixSeconds,
    acts: Vec<Act>,
) -> Result<(), AppError> {
    let mut last = head.as_deref().map(AuditHead::decode).transpose()?;
    match head {
        Some(head) => batch.expect_equals(keys::audit_head(), head),
        None => batch.expect_absent(keys::audit_head()),
    };
    for act in acts {
        let entry = AuditEntry::following(last.as_ref(), log, at, act);
        let key = keys::audit(entry.sequence);
        batch.expect_absent(key.clone()).put(key, entry.encode());
        last = Some(entry.head());
    }
    if let Some(last) = last {
        batch.put(keys::audit_head(), last.encode());
    }
    Ok(())
}

/// Begins the chain of a pool that is created: whatever a creation that was cut off has left there is of no pool.
pub(super) fn begin(batch: &mut Batch, log: &Log, at: UnixSeconds, act: Act) {
    let entry = AuditEntry::following(None, log, at, act);
    batch.put(keys::audit(entry.sequence), entry.encode()).put(keys::audit_head(), entry.head().encode());
}

impl App {
    /// Carries out a mutation of the service partition: marked as done and written down in the same batch, behind
    /// `first`, the batches of other partitions that it needs.
    pub(super) async fn commit_marked(
        &self,
        request: &Request,
        first: Vec<Batch>,
        mut batch: Batch,
        at: UnixSeconds,
        note: Note,
    ) -> Result<(), AppError> {
        request.mark_in(&mut batch, at);
        let acts = request.act(note).into_iter().collect();
        self.commit_written(first, batch, at, acts).await
    }

    /// Commits a batch of the service partition with what is written down of it.
    pub(super) async fn commit_written(
        &self,
        mut batches: Vec<Batch>,
        mut batch: Batch,
        at: UnixSeconds,
        acts: Vec<Act>,
    ) -> Result<(), AppError> {
        let written = acts.len() as u64;
        let _guard = self.audit_log.lock().await;
        let head = self.store.get(PartitionId::SERVICE, &keys::audit_head()).await?;
        append(&mut batch, &Log::Service, head, at, acts)?;
        batches.push(batch);
        self.store.commit(batches).await?;
        self.metrics.audit_entries.inc_by(written);
        Ok(())
    }

    /// Writes down that calls of `caller` were refused for a stable `reason`, `count` alike. Whoever calls this bounds how
    /// often. `method` is as that of a [`Request`], or what was called in place of one.
    pub async fn audit_refusal(&self, caller: &Caller, method: &str, reason: &str, count: u64) -> Result<(), AppError> {
        let note = Note::of("", format!("refused, {count} times alike"));
        let sent = |text: &str| text.chars().filter(|c| c.is_ascii_graphic()).take(MAX_SENT_BYTES).collect::<String>();
        let caller = Caller { peer: sent(&caller.peer).into(), ..caller.clone() };
        let refused = Some(RefusedCalls { reason: sent(reason), count });
        let act = Act { method: full_name(&sent(method)), refused, ..by(caller, note) };
        self.metrics.calls_refused.inc_by(count);
        self.commit_written(Vec::new(), Batch::new(PartitionId::SERVICE), self.now(), vec![act]).await
    }
}

/// Writes down, in a store that no service has open, what a command did to it.
pub async fn write_down(store: &dyn Store, caller: Caller, at: UnixSeconds, note: Note) -> Result<(), AppError> {
    let mut batch = Batch::new(PartitionId::SERVICE);
    let head = store.get(PartitionId::SERVICE, &keys::audit_head()).await?;
    append(&mut batch, &Log::Service, head, at, vec![by(caller, note)])?;
    Ok(store.commit(vec![batch]).await?)
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only of this resource and what lies below it.
    pub resource: Option<String>,
    /// Only at this time or later.
    pub from: Option<UnixSeconds>,
    /// Only before this time.
    pub until: Option<UnixSeconds>,
}

impl AuditFilter {
    fn takes(&self, entry: &AuditEntry) -> bool {
        let of = entry.act.note.resource.as_str();
        self.resource.as_deref().is_none_or(|wanted| {
            of.strip_prefix(wanted).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }
}

/// The place of an entry among those of all chains: by time, then by chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPlace {
    /// When.
    pub at: UnixSeconds,
    /// The partition of its chain.
    pub partition: u32,
    /// Its place there.
    pub sequence: u64,
}

/// A page of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries with their chains, newest first.
    pub entries: Vec<(Log, AuditEntry)>,
    /// Behind which place the next page goes on; `None` where there is none.
    pub next: Option<AuditPlace>,
}

/// A chain on its way from its end to its beginning.
struct Reader {
    log: Log,
    partition: PartitionId,
    /// Entries before this one were not read.
    until: u64,
    read: VecDeque<AuditEntry>,
}

impl Reader {
    /// The next entry towards the beginning, which stays the next.
    async fn peek(&mut self, store: &dyn Store) -> Result<Option<&AuditEntry>, AppError> {
        if self.read.is_empty() && self.until > 1 {
            let range = keys::audit_before(self.until);
            let found = store.scan(self.partition, range, ENTRIES_PER_READ, Direction::Reverse).await?;
            self.until = 1;
            for (_, value) in &found {
                let entry = AuditEntry::decode(value)?;
                self.until = entry.sequence;
                self.read.push_back(entry);
            }
        }
        Ok(self.read.front())
    }
}

impl App {
    /// A page of all chains together, newest first, from behind `after`.
    pub async fn audit_page(
        &self,
        filter: &AuditFilter,
        after: Option<AuditPlace>,
        size: usize,
    ) -> Result<AuditPage, AppError> {
        let store = &*self.store;
        let mut readers = Vec::new();
        for (log, partition) in logs(store).await? {
            let mut until = match head(store, partition).await? {
                Some(head) => head.sequence.saturating_add(1),
                None => continue,
            };
            if let Some(time) = filter.until {
                until = first_at(store, partition, until, time).await?;
            }
            if let Some(after) = after {
                until = match partition.0.cmp(&after.partition) {
                    std::cmp::Ordering::Less => first_at(store, partition, until, after.at.plus(1)).await?,
                    std::cmp::Ordering::Equal => until.min(after.sequence),
                    std::cmp::Ordering::Greater => first_at(store, partition, until, after.at).await?,
                };
            }
            readers.push(Reader { log, partition, until, read: VecDeque::new() });
        }
        let mut page = AuditPage { entries: Vec::new(), next: None };
        let mut last = None;
        for looked in 0.. {
            let mut newest: Option<(AuditPlace, usize)> = None;
            for (index, reader) in readers.iter_mut().enumerate() {
                let partition = reader.partition.0;
                if let Some(AuditEntry { at, sequence, .. }) = reader.peek(store).await? {
                    let place = AuditPlace { at: *at, partition, sequence: *sequence };
                    newest = newest.max(Some((place, index)));
                }
            }
            let Some((place, index)) = newest else { break };
            if filter.from.is_some_and(|from| place.at < from) {
                break;
            }
            if page.entries.len() >= size || looked >= LOOKED_AT {
                page.next = last;
                break;
            }
            last = Some(place);
            let Some(reader) = readers.get_mut(index) else { break };
            if let Some(entry) = reader.read.pop_front().filter(|entry| filter.takes(entry)) {
                page.entries.push((reader.log.clone(), entry));
            }
        }
        Ok(page)
    }
}

/// The first entry of a chain at `time` or later, of those before `until`: times never go back in a chain.
async fn first_at(store: &dyn Store, partition: PartitionId, until: u64, time: UnixSeconds) -> Result<u64, AppError> {
    let (mut low, mut high) = (1, until);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = store.get(partition, &keys::audit(middle)).await?;
        let entry = entry.ok_or_else(|| AppError::lost(format!("audit entry {middle}")))?;
        match AuditEntry::decode(&entry)?.at < time {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

/// The end of the chain of a partition; `None` where none was begun.
pub async fn head(store: &dyn Store, partition: PartitionId) -> Result<Option<AuditHead>, AppError> {
    let head = store.get(partition, &keys::audit_head()).await?;
    Ok(head.as_deref().map(AuditHead::decode).transpose()?)
}

/// Every chain that a store should have, with its partition.
pub async fn logs(store: &dyn Store) -> Result<Vec<(Log, PartitionId)>, AppError> {
    let pools = super::pool_records(store).await?;
    let pools = pools.into_iter().map(|pool| (Log::Pool(pool.id), PartitionId::control(pool.number)));
    Ok([(Log::Service, PartitionId::SERVICE)].into_iter().chain(pools).collect())
}

/// The entries of a chain from `first` on, some hundreds at most, each with the sequence that it is kept under. One that
/// can't be read has no entry.
pub async fn entries(
    store: &dyn Store,
    partition: PartitionId,
    first: u64,
) -> Result<Vec<(u64, Option<AuditEntry>)>, AppError> {
    let range = KeyRange { from: keys::audit(first), to: keys::range_of_tag(keys::tag::AUDIT).to };
    let pairs = store.scan(partition, range, ENTRIES_PER_READ, Direction::Forward).await?;
    let read = |(key, value): &(Vec<u8>, Vec<u8>)| Some((keys::parse_audit(key)?, AuditEntry::decode(value).ok()));
    Ok(pairs.iter().filter_map(read).collect())
}

/// An entry whose hash was kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Its chain.
    pub log: Log,
    /// Its place there.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// The entries of one chain that were noted elsewhere.
pub fn noted_in(log: &Log, noted: &[Noted]) -> Vec<(u64, [u8; 32])> {
    noted.iter().filter(|noted| noted.log == *log).map(|noted| (noted.sequence, noted.hash)).collect()
}

/// Walks every chain of a store, and says of each where it ends or where it breaks.
pub async fn verify(
    store: &dyn Store,
    noted: &[Noted],
) -> Result<Vec<(Log, Result<Option<AuditHead>, ChainBreak>)>, AppError> {
    let logs = logs(store).await?;
    let begun = logs.len() > 1;
    let mut outcomes = Vec::with_capacity(logs.len());
    for (log, partition) in logs {
        let noted = noted_in(&log, noted);
        let head = head(store, partition).await?;
        let mut check = ChainCheck::new(log.clone(), noted.clone());
        let outcome = match walk(store, partition, &mut check).await? {
            Err(broken) => Err(broken),
            // Of a store in which nothing was changed yet there is nothing to tell.
            Ok(0) if head.is_none() && noted.is_empty() && !begun => Ok(None),
            Ok(_) => check.end(head.as_ref()).map(Some),
        };
        outcomes.push((log, outcome));
    }
    Ok(outcomes)
}

/// Walks one chain to its last entry, and counts them.
async fn walk(
    store: &dyn Store,
    partition: PartitionId,
    check: &mut ChainCheck,
) -> Result<Result<u64, ChainBreak>, AppError> {
    let mut count = 0;
    let mut first = 0;
    loop {
        let found = entries(store, partition, first).await?;
        let Some((last, _)) = found.last() else { return Ok(Ok(count)) };
        first = last.saturating_add(1);
        for (sequence, entry) in &found {
            let taken = match entry {
                Some(entry) => check.take(entry),
                None => Err(ChainBreak::Changed(*sequence)),
            };
            if let Err(broken) = taken {
                return Ok(Err(broken));
            }
            count += 1;
        }
    }
}

#[cfg(test)]
#[path = "audit_log_tests.rs"]
mod tests;
