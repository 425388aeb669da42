//! Backup while commits go on, and restore.
//!
//! A backup walks the keys in order, a chunk at a time, and commits go on between the chunks. What they change behind
//! the walk is captured by the thread that commits and follows in the archive; what they change ahead of it, the walk
//! finds changed. So the archive is the store as of the moment of the last capture. It is one moment, between two
//! batches, and the archive is finished only once what it has is durable. A walk on the committing thread would be
//! simpler, and stop the service for as long as the store takes to read.
//!
//! On the way the backup keeps the same sum as the store's summary does: if the two differ at the end, the store has
//! lost a record, and there is no backup but an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::archive::{self, ArchiveError, Origin, UNFINISHED, Whole, Writer};
use super::{Captured, Request, Shared, SledOptions, SledStore, Summary, frame, guards, open, stopped, unreadable};
use crate::store::{Batch, MAX_COMMIT_BYTES, MAX_COMMIT_KEYS, StoreError};

/// How much is read while commits wait.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a backup or a restored store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The archive, or the restored directory.
    pub path: PathBuf,
    /// The bytes of the archive.
    pub bytes: u64,
    /// BLAKE3 of the archive.
    pub hash: [u8; 32],
    /// Who asked for the backup, and when.
    pub origin: Origin,
    /// The records, the sum of their checksums, and the batch they are as of.
    pub summary: Summary,
}

/// Ends the capture, however the backup ends.
struct Capture<'a>(&'a Shared);

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        self.0.write().capture = None;
    }
}

/// Writes one archive. Blocks; call on a blocking thread of a runtime.
pub(super) fn backup(
    shared: &Arc<Shared>,
    ended: &watch::Receiver<u64>,
    path: &Path,
    origin: Origin,
) -> Result<BackupReport, ArchiveError> {
    backup_with(shared, ended, path, origin, || ())
}

/// As [`backup`], with something to do between the steps.
pub(super) fn backup_with(
    shared: &Arc<Shared>,
    ended: &watch::Receiver<u64>,
    path: &Path,
    origin: Origin,
    mut between: impl FnMut(),
) -> Result<BackupReport, ArchiveError> {
    if path.try_exists().map_err(ArchiveError::io(path))? {
        return Err(ArchiveError::Exists(path.to_owned()));
    }
    let capture = begin(shared)?;
    let unfinished = beside(path, UNFINISHED);
    let mut writer = Writer::create(&unfinished, origin)?;
    let mut walk = Walk { cursor: frame::first_data_key(), summary: Summary::default(), done: false };
    let (summary, group) = loop {
        let (captured, chunk, summary, group) = walk.step(shared)?;
        for change in captured {
            walk.follow(&mut writer, change)?;
        }
        between();
        match chunk {
            Some(chunk) => walk.add(&mut writer, chunk)?,
            None => break (summary, group),
        }
    };
    drop(capture);
    if !walk.summary.same_records(&summary) {
        return Err(ArchiveError::Store(StoreError::Fatal(format!(
            "the store has {} records and should have {}: some were lost. {}",
            walk.summary.records,
            summary.records,
            frame::RESTORE_HINT
        ))));
    }
    if let Some(group) = group {
        let mut ended = ended.clone();
        Handle::current().block_on(ended.wait_for(|ended| *ended >= group)).map_err(|_| stopped())?;
    }
    if let Some(why) = &shared.read().failed {
        return Err(ArchiveError::Store(StoreError::Fatal(why.clone())));
    }
    let Whole { origin, bytes, hash, summary } = writer.finish(summary)?;
    fs::rename(&unfinished, path).map_err(ArchiveError::io(path))?;
    sync_parent(path)?;
    Ok(BackupReport { path: path.to_owned(), bytes, hash, origin, summary })
}

fn begin(shared: &Shared) -> Result<Capture<'_>, ArchiveError> {
    let mut state = shared.write();
    if let Some(why) = &state.failed {
        return Err(ArchiveError::Store(StoreError::Fatal(why.clone())));
    }
    if state.capture.is_some() {
        return Err(ArchiveError::Running);
    }
    state.capture = Some(Vec::new());
    drop(state);
    Ok(Capture(shared))
}

struct Walk {
    /// All keys before it are in the archive.
    cursor: Vec<u8>,
    /// Of what is in the archive.
    summary: Summary,
    done: bool,
}

/// What was changed since the last step, the records from the cursor on, and the state they are of.
type Step = (Vec<Captured>, Option<Vec<(Vec<u8>, Vec<u8>)>>, Summary, Option<u64>);

impl Walk {
    /// Takes what was captured and reads the next chunk, both of one moment. No chunk at the end.
    fn step(&self, shared: &Shared) -> Result<Step, ArchiveError> {
        let mut state = shared.write();
        let captured = state.capture.as_mut().map(std::mem::take).unwrap_or_default();
        let group = (!state.pending.is_empty()).then_some(state.group);
        if self.done {
            return Ok((captured, None, state.summary, group));
        }
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for read in shared.tree.range(self.cursor.as_slice()..) {
            let (key, framed) = read.map_err(|error| unreadable(&error))?;
            bytes += key.len() + framed.len();
            chunk.push((key.to_vec(), framed.to_vec()));
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        Ok((captured, Some(chunk), state.summary, group))
    }

    /// Takes a change behind the cursor into the archive; one ahead of it will be found changed.
    fn follow(&mut self, writer: &mut Writer, change: Captured) -> Result<(), ArchiveError> {
        if !self.done && change.key >= self.cursor {
            return Ok(());
        }
        if let Some(old) = change.old {
            self.summary.remove_checksum(&change.key, old);
        }
        if let Some(framed) = &change.framed {
            self.summary.add(&change.key, framed);
        }
        writer.push(&change.key, change.framed.as_deref())
    }

    fn add(&mut self, writer: &mut Writer, chunk: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), ArchiveError> {
        let Some((last, _)) = chunk.last() else {
            self.done = true;
            return Ok(());
        };
        self.cursor.clone_from(last);
        self.cursor.push(0);
        for (key, framed) in chunk {
            frame::unseal(&key, &framed)?;
            self.summary.add(&key, &framed);
            writer.push(&key, Some(&framed))?;
        }
        Ok(())
    }
}

/// Reads all of an archive and holds it against its checksums and its hash. Blocks.
pub fn check(archive: &Path) -> Result<BackupReport, ArchiveError> {
    let Whole { origin, bytes, hash, summary } = archive::read(archive, |_| Ok(()))?;
    Ok(BackupReport { path: archive.to_owned(), bytes, hash, origin, summary })
}

/// Makes a store in `directory` of an archive, after checking all of the archive. Blocks.
///
/// The store is fenced: it opens only after [`super::unfence`]. Two stores of one origin would both send what the
/// origin has planned.
pub fn restore(archive: &Path, directory: &Path) -> Result<BackupReport, ArchiveError> {
    let whole = archive::read(archive, |_| Ok(()))?;
    if directory.try_exists().map_err(ArchiveError::io(directory))? {
        return Err(ArchiveError::Exists(directory.to_owned()));
    }
    let unfinished = beside(directory, UNFINISHED);
    if unfinished.try_exists().map_err(ArchiveError::io(&unfinished))? {
        // What an earlier restore has left. If that one still runs, it holds the lock.
        drop(guards::lock(&unfinished)?);
        fs::remove_dir_all(&unfinished).map_err(ArchiveError::io(&unfinished))?;
    }
    fs::create_dir_all(&unfinished).map_err(ArchiveError::io(&unfinished))?;
    guards::fence(&unfinished, &format!("restored from {}", archive.display()))
        .map_err(ArchiveError::io(&unfinished))?;

    // Nobody relies on it before the end: one sync there does for all.
    let store = open::open_fenced(&unfinished, SledOptions::default(), Box::new(|_| Ok(())))?;
    let mut load = Load { store: &store, batches: Vec::new(), bytes: 0, keys: 0 };
    archive::read(archive, |(key, framed)| load.push(&key, framed))?;
    load.commit()?;
    drop(store);
    let reopened =
        open::open_fenced(&unfinished, SledOptions { verify: true, ..SledOptions::default() }, Box::new(|_| Ok(())))?;
    let summary = reopened.summary();
    drop(reopened);
    if !summary.same_records(&whole.summary) {
        return Err(ArchiveError::Damaged {
            path: archive.to_owned(),
            at: 0,
            what: format!("it gives {} records and says {}", summary.records, whole.summary.records),
        });
    }
    guards::sync_everything(&unfinished).map_err(ArchiveError::io(&unfinished))?;
    fs::rename(&unfinished, directory).map_err(ArchiveError::io(directory))?;
    sync_parent(directory)?;
    let Whole { origin, bytes, hash, .. } = whole;
    Ok(BackupReport { path: directory.to_owned(), bytes, hash, origin, summary })
}

struct Load<'a> {
    store: &'a SledStore,
    batches: Vec<Batch>,
    bytes: usize,
    keys: usize,
}

impl Load<'_> {
    fn push(&mut self, physical: &[u8], framed: Option<Vec<u8>>) -> Result<(), ArchiveError> {
        let Some((partition, key)) = frame::logical_key(physical) else { return Ok(()) };
        let bytes = key.len() + framed.as_ref().map_or(0, Vec::len);
        if self.bytes + bytes > MAX_COMMIT_BYTES || self.keys + 1 > MAX_COMMIT_KEYS {
            self.commit()?;
        }
        self.bytes += bytes;
        self.keys += 1;
        // A batch for each run of one partition, and a new one where a key comes again, so that order decides.
        if self.batches.last().is_none_or(|batch| batch.partition != partition || changes(batch, key)) {
            self.batches.push(Batch::new(partition));
        }
        if let Some(batch) = self.batches.last_mut() {
            match framed {
                Some(framed) => batch.put(key, frame::unseal(physical, &framed)?),
                None => batch.delete(key),
            };
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), ArchiveError> {
        (self.bytes, self.keys) = (0, 0);
        let (reply, answer) = oneshot::channel();
        let request = Request { batches: std::mem::take(&mut self.batches), reply };
        let requests = self.store.requests.as_ref().ok_or_else(stopped)?;
        requests.blocking_send(request).map_err(|_| stopped())?;
        Ok(answer.blocking_recv().map_err(|_| stopped())??)
    }
}

fn changes(batch: &Batch, key: &[u8]) -> bool {
    // A walk goes upwards: only what follows it, a change behind it, can name a key again.
    let walked = batch.deletes.is_empty() && batch.puts.last().is_none_or(|(last, _)| last.as_slice() < key);
    !walked
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> Result<(), ArchiveError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    guards::sync_directory(parent).map_err(ArchiveError::io(parent))
}
