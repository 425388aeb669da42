//! A formed group as one commit: the journals first, the service partition last.

use std::collections::BTreeMap;

use super::command::MAX_BATCH_UNKNOWN;
use super::committer::Committer;
use super::journal;
use super::pool::Pool;
use super::records::{HASHES, Head, encode_hashes, encode_heads, encode_rejected, encode_source};
use super::stage::{Forming, Part, Staged, StagedGroup};
use super::{lock, read};
use crate::domain::feed::{SourceCursor, SourceNumber};
use crate::domain::time::UnixSeconds;
use crate::store::{Batch, PartitionId, keys};

/// The rejected events that one commit writes down, each under a key of its own.
const REJECTS: usize = 2 * MAX_BATCH_UNKNOWN;

impl Committer {
    /// Turns a formed group into one commit: the journals first, the service partition last. `before` is the group that is
    /// committed and applied before it.
    pub(super) fn finish(&self, now: UnixSeconds, forming: Forming, before: Option<&Staged>) -> Staged {
        let pools = read(&self.shared.pools);
        let mut service = Batch::new(PartitionId::SERVICE);
        let (mut batches, mut groups) = (Vec::new(), Vec::new());
        let mut heads: BTreeMap<u16, Vec<Head>> = BTreeMap::new();
        let mut journal_bytes = 0;
        for ((number, partition), Part { records, slots, jobs }) in forming.parts {
            let Some(pool) = pools.get(&number) else { continue };
            let list = heads.entry(number).or_insert_with(|| heads_after(before, pool));
            let Some(head) = list.get_mut(partition) else { continue };
            head.group += 1;
            let mut batch = Batch::new(pool.id(partition));
            let parts = journal::encode(head.group, now, &records, &mut head.chain);
            let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
            journal_bytes += bytes;
            for (part, value) in (0u16..).zip(parts) {
                batch.put(keys::journal(head.group, part), value);
            }
            batches.push(batch);
            groups.push(StagedGroup { pool: pool.clone(), partition, head: *head, bytes, records, slots, jobs });
        }
        let mut moved = Vec::new();
        for (number, list) in heads {
            let Some(pool) = pools.get(&number) else { continue };
            let value = encode_heads(&list);
            let moved_before = before.and_then(|before| before.heads.iter().find(|(of, _)| of.spec.number == number));
            let stored = moved_before.map(|(_, value)| value.clone()).or_else(|| lock(&pool.heads).stored.clone());
            expect(&mut service, keys::journal_heads(number), stored.as_ref());
            service.put(keys::journal_heads(number), value.clone());
            moved.push((pool.clone(), value));
        }
        let sources = lock(&self.shared.sources);
        let mut cursors = Vec::new();
        for number in forming.sources {
            let Some(source) = sources.get(&number) else { continue };
            let value = encode_source(source.cursor.last(), source.cursor.watermark());
            let moved_before = before.and_then(|before| before.sources.iter().find(|(of, _)| *of == number));
            let stored = moved_before.map(|(_, value)| value).or(source.stored.as_ref());
            expect(&mut service, keys::source_cursor(number.0), stored);
            service.put(keys::source_cursor(number.0), value.clone());
            if let Some(first) = forming.fresh.get(&number) {
                put_hashes(&mut service, number, *first, &source.cursor);
            }
            cursors.push((number, value));
        }
        for (source, sequence, rejected) in &forming.unknown {
            let key = keys::rejected_event(source.0, *sequence, rejected.pool_number());
            service.put(key, encode_rejected(rejected));
        }
        // The first of them are written by the group before.
        let written = before.map_or(0, |before| before.rejects);
        let left = self.rejects.len().saturating_sub(written);
        let rejects = left.min(REJECTS.saturating_sub(forming.unknown.len()));
        for (source, sequence, rejected) in self.rejects.iter().skip(written).take(rejects) {
            let key = keys::rejected_event(source.0, *sequence, rejected.pool_number());
            service.put(key, encode_rejected(rejected));
        }
        if !service.puts.is_empty() {
            batches.push(service);
        }
        let Forming { jobs, events, brought, alone, .. } = forming;
        let (sources, heads, followed) = (cursors, moved, !alone);
        Staged { now, groups, batches, jobs, sources, heads, rejects, events, journal_bytes, brought, followed }
    }
}

/// Where the journals of a pool stand once the group `before` is committed.
fn heads_after(before: Option<&Staged>, pool: &Pool) -> Vec<Head> {
    let mut list = lock(&pool.heads).list.clone();
    let groups = before.map(|before| before.groups.as_slice()).unwrap_or_default();
    for group in groups.iter().filter(|group| group.pool.spec.number == pool.spec.number) {
        if let Some(head) = list.get_mut(group.partition) {
            *head = group.head;
        }
    }
    list
}

fn expect(batch: &mut Batch, key: Vec<u8>, stored: Option<&Vec<u8>>) {
    match stored {
        Some(value) => batch.expect_equals(key, value.clone()),
        None => batch.expect_absent(key),
    };
}

/// Writes the hashes from sequence `first` on, in values of fixed runs, and drops those past the window.
fn put_hashes(batch: &mut Batch, source: SourceNumber, first: u64, cursor: &SourceCursor) {
    let run_of = |sequence: u64| sequence.saturating_sub(1) / HASHES;
    for run in run_of(first)..=run_of(cursor.last()) {
        let start = run * HASHES + 1;
        let hashes = (start..start + HASHES).filter_map(|sequence| cursor.hash_of(sequence));
        batch.put(keys::body_hashes(source.0, start), encode_hashes(hashes));
    }
    let kept = run_of(cursor.first_hash());
    let events = cursor.last() + 1 - first;
    for run in kept.saturating_sub(events / HASHES + 2)..kept {
        batch.delete(keys::body_hashes(source.0, run * HASHES + 1));
    }
}
