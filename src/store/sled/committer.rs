//! The thread that commits.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::guards::Mark;
use super::{Captured, Change, Request, Shared, Summary, SyncFile, frame, get, unreadable};
use crate::store::{Batch, Expectation, MAX_COMMIT_BYTES, MAX_COMMIT_KEYS, StoreError};

/// At most this many commits share a sync.
const GROUP_COMMITS: usize = 256;

/// At most this many bytes share a sync, and one commit more.
const GROUP_BYTES: usize = 4 * MAX_COMMIT_BYTES;

type Reply = oneshot::Sender<Result<(), StoreError>>;

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) file: File,
    pub(super) mark: Mark,
    pub(super) sync: SyncFile,
    pub(super) ended: watch::Sender<u64>,
    pub(super) summary: Summary,
}

/// The commits that are answered together.
#[derive(Default)]
struct Group {
    /// What they change, and is not applied yet. Later commits are checked against it.
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    change_bytes: usize,
    /// Whether anything was applied.
    wrote: bool,
    /// Whom to answer once it is durable.
    accepted: Vec<Reply>,
}

impl Committer {
    /// Commits until nobody can ask any more.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut number = 0;
        while let Some(first) = requests.blocking_recv() {
            number += 1;
            let mut bytes = size(&first.batches);
            let mut group = vec![first];
            while group.len() < GROUP_COMMITS && bytes < GROUP_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes += size(&next.batches);
                group.push(next);
            }
            self.carry_through(number, group);
            self.ended.send_replace(number);
        }
    }

    fn carry_through(&mut self, number: u64, requests: Vec<Request>) {
        if let Some(why) = self.shared.read().failed.clone() {
            return requests.into_iter().for_each(|request| answer(request.reply, Err(StoreError::Fatal(why.clone()))));
        }
        self.shared.write().group = number;
        let mut requests = requests.into_iter();
        let mut group = Group::default();
        let done = catch_unwind(AssertUnwindSafe(|| {
            for request in requests.by_ref() {
                self.take(&mut group, request)?;
            }
            self.apply(&mut group)?;
            if group.wrote { self.make_durable() } else { Ok(()) }
        }));
        let result = done.unwrap_or_else(|_| {
            // It may have been in the middle of a batch.
            self.never_flush_again();
            Err("sled panicked".to_owned())
        });
        let mut state = self.shared.write();
        let outcome = match result {
            Ok(()) => {
                state.pending.clear();
                Ok(())
            }
            Err(why) => {
                tracing::error!(error = %why, "the store failed, and accepts no commit until it is opened again");
                let why = format!("{why}; no commit is accepted until the store is opened again");
                state.failed = Some(why.clone());
                Err(StoreError::Fatal(why))
            }
        };
        drop(state);
        for reply in group.accepted.into_iter().chain(requests.map(|request| request.reply)) {
            answer(reply, outcome.clone());
        }
    }

    /// Checks one commit and takes it into the group, or answers it. `Err` means that the store has failed.
    fn take(&mut self, group: &mut Group, request: Request) -> Result<(), String> {
        if let Err(refusal) = self.check(group, &request.batches) {
            answer(request.reply, Err(refusal));
            return Ok(());
        }
        // Whom to answer is known to the group before anything can fail.
        group.accepted.push(request.reply);
        let keys: usize = request.batches.iter().map(|batch| batch.puts.len() + batch.deletes.len()).sum();
        let bytes = size(&request.batches);
        if group.change_bytes + bytes > MAX_COMMIT_BYTES || group.changes.len() + keys > MAX_COMMIT_KEYS {
            self.apply(group)?;
        }
        group.change_bytes += bytes;
        for batch in request.batches {
            for (key, value) in batch.puts {
                let physical = frame::physical_key(batch.partition, &key);
                let framed = frame::seal(&physical, &value);
                group.changes.insert(physical, Some(framed));
            }
            for key in batch.deletes {
                group.changes.insert(frame::physical_key(batch.partition, &key), None);
            }
        }
        Ok(())
    }

    /// Whether all that a commit expects holds, after the commits before it in the group.
    fn check(&self, group: &Group, batches: &[Batch]) -> Result<(), StoreError> {
        for batch in batches {
            for expectation in &batch.expectations {
                let (key, expected) = match expectation {
                    Expectation::Absent { key } => (key, None),
                    Expectation::Equals { key, value } => (key, Some(value.as_slice())),
                };
                let physical = frame::physical_key(batch.partition, key);
                let holds = match group.changes.get(&physical) {
                    Some(None) => expected.is_none(),
                    Some(Some(framed)) => expected == Some(frame::unseal(&physical, framed)?),
                    None => get(&self.shared.tree, &physical)?.as_deref() == expected,
                };
                if !holds {
                    return Err(StoreError::Conflict { partition: batch.partition.0 });
                }
            }
        }
        Ok(())
    }

    /// Applies what the group has gathered in one sled batch: after a crash all of it is there, or nothing.
    fn apply(&mut self, group: &mut Group) -> Result<(), String> {
        if group.changes.is_empty() {
            return Ok(());
        }
        let changes: Vec<Change> = std::mem::take(&mut group.changes).into_iter().collect();
        group.change_bytes = 0;
        group.wrote = true;
        let mut summary = self.summary;
        let mut batch = ::sled::Batch::default();
        let mut replaced = Vec::with_capacity(changes.len());
        for (physical, framed) in &changes {
            let old = self.shared.tree.get(physical).map_err(|error| unreadable(&error).to_string())?;
            let old = old.map(|old| frame::stored_checksum(&old).unwrap_or(0));
            if let Some(old) = old {
                summary.remove_checksum(physical, old);
            }
            replaced.push(old);
            match framed {
                Some(framed) => {
                    summary.add(physical, framed);
                    batch.insert(physical.as_slice(), framed.as_slice());
                }
                None => batch.remove(physical.as_slice()),
            }
        }
        summary.applied += 1;
        batch.insert(&frame::SUMMARY_KEY, frame::seal(&frame::SUMMARY_KEY, &summary.encode()));

        let mut state = self.shared.write();
        state.pending.extend(changes.iter().map(|(physical, _)| physical.clone()));
        if let Err(error) = self.shared.tree.apply_batch(batch) {
            drop(state);
            self.never_flush_again();
            return Err(format!("a batch could not be written: {error}"));
        }
        state.summary = summary;
        if let Some(capture) = &mut state.capture {
            let captured = changes.into_iter().zip(replaced);
            capture.extend(captured.map(|((key, framed), old)| Captured { key, old, framed }));
        }
        self.summary = summary;
        Ok(())
    }

    /// sled's flush ends in `sync_file_range`, which neither writes the file's length nor empties the disk's own
    /// cache; only a sync of the file makes it durable.
    fn make_durable(&mut self) -> Result<(), String> {
        self.shared.tree.flush().map_err(|error| format!("sled could not flush: {error}"))?;
        (self.sync)(&self.file).map_err(|error| format!("the data file could not be synced: {error}"))?;
        self.mark.set(self.summary.applied).map_err(|error| format!("the mark could not be written: {error}"))
    }

    /// After a batch that broke off, what it has written is still in sled's buffers, without the frame that makes it
    /// all or nothing. Dropping the tree would flush that, so this keeps it from being dropped before the process ends.
    fn never_flush_again(&self) {
        std::mem::forget(self.shared.tree.clone());
        std::mem::forget(self.shared.database.clone());
    }
}

fn size(batches: &[Batch]) -> usize {
    let puts = batches.iter().flat_map(|batch| &batch.puts).map(|(key, value)| key.len() + value.len());
    puts.chain(batches.iter().flat_map(|batch| &batch.deletes).map(Vec::len)).sum()
}

fn answer(reply: Reply, result: Result<(), StoreError>) {
    // Who asked may have gone; the change stands all the same.
    let _ = reply.send(result);
}
