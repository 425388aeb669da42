//! The embedded engine: sled 0.34.7, one tree, guarded against what is known of it.
//!
//! One thread commits. It takes the commits that wait, checks their expectations against what is stored and against
//! each other, applies them in one sled batch, flushes, syncs the data file and answers them all: one sync for the
//! group, and sled's own batches (two writes each) are shared too. So a commit that is answered is on disk; one whose
//! future was dropped is carried through all the same.
//!
//! Reads run on tokio's blocking threads: a page that is not in memory is read from disk, which must not hold up a
//! worker, and there are as many such threads as reads at once, up to a limit, and no pool of our own to size. A
//! panic in sled stays there and becomes a `Fatal`.
//!
//! **A read never shows what is not durable.** The keys of the group that is being synced are known; a read that
//! touches one waits for the group. Otherwise a repeated request could find the record of the first one, be answered
//! `OK`, and lose both to a power cut. A scan sees each batch whole or not at all.
//!
//! **After a failure nothing more is written.** When sled or the sync fails, the outcome is unknown, and what a later
//! sync says of it is worth nothing (the kernel reports a lost write once). The store refuses every commit, and the
//! reads that touch the group in question, until it is opened again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Batch, Direction, KeyRange, PartitionId, Store, StoreError, limits};

mod archive;
mod backup;
mod committer;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guards;
mod open;
#[cfg(test)]
mod tests;

pub use archive::{ArchiveError, Origin, remove_unfinished};
pub use backup::{BackupReport, check, restore};
pub use frame::Summary;
pub use guards::{OpenError, is_fenced, unfence};

/// A key in sled with its sealed value; none where the change removes the key.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// A change as a backup has to know it.
#[derive(Debug)]
struct Captured {
    key: Vec<u8>,
    /// The checksum of what it replaces.
    old: Option<u32>,
    framed: Option<Vec<u8>>,
}

/// How to open a [`SledStore`].
#[derive(Clone, Copy, Debug)]
pub struct SledOptions {
    /// How many bytes of pages sled keeps in memory.
    pub cache_bytes: u64,
    /// Read every record at open and hold it against the summary: as long as reading the whole store takes. Without it
    /// that is done of the small records only, those outside the books' partitions.
    pub verify: bool,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 192 * 1024 * 1024, verify: false }
    }
}

/// A store in a directory of this machine.
#[derive(Debug)]
pub struct SledStore {
    directory: PathBuf,
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    readers: Arc<Semaphore>,
    ended: watch::Receiver<u64>,
    shared: Arc<Shared>,
}

/// One commit on its way to the thread.
struct Request {
    batches: Vec<Batch>,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// What the thread and the readers share.
#[derive(Debug)]
struct Shared {
    // Dropped before the lock, so that the directory is free only when sled has let go of it.
    tree: ::sled::Tree,
    database: ::sled::Db,
    state: RwLock<State>,
    _lock: File,
}

/// What is going on, as readers have to know it. Batches are applied under its write lock.
#[derive(Debug, Default)]
struct State {
    /// The number of the group at work.
    group: u64,
    /// What that group has changed and not yet synced.
    pending: BTreeSet<Vec<u8>>,
    /// The records as they are applied.
    summary: Summary,
    /// Why the store accepts no more commits.
    failed: Option<String>,
    /// What was changed since a backup began and is not yet in its archive.
    capture: Option<Vec<Captured>>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Nothing panics half-way through a change of the state; sled's own panics are caught by the thread.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a read ended.
enum Outcome<T> {
    Read(T),
    /// It touches a group that is not durable yet.
    Wait(u64),
}

/// At most this many reads at once; more wait.
const READERS: usize = 64;

/// At most this many commits wait for the thread; more wait for a place.
const QUEUE: usize = 1024;

/// How the data file is made durable; another way in tests only.
type SyncFile = Box<dyn FnMut(&File) -> io::Result<()> + Send>;

impl SledStore {
    /// Opens the store in `directory`, or makes one. Blocks, for as long as sled's recovery takes.
    pub fn open(directory: &Path, options: SledOptions) -> Result<Self, OpenError> {
        open::open(directory, options, Box::new(File::sync_data))
    }

    /// Opens the store in `directory` although it is fenced: for what has to be written before [`unfence`].
    pub fn open_fenced(directory: &Path, options: SledOptions) -> Result<Self, OpenError> {
        open::open_fenced(directory, options, Box::new(File::sync_data))
    }

    /// Where the store is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How many bytes the store has on disk.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.shared.database.size_on_disk().map_err(|error| StoreError::Busy(error.to_string()))
    }

    /// The number of records and the sum of their checksums, as of the last batch.
    pub fn summary(&self) -> Summary {
        self.shared.read().summary
    }

    /// Why the store accepts no more commits, if so.
    pub fn failure(&self) -> Option<String> {
        self.shared.read().failed.clone()
    }

    /// Reads every record and holds it against its checksum, and all of them against the summary.
    ///
    /// Commits wait meanwhile: this is for a store that is not in use, and for tests. A backup proves the same
    /// without holding anything up.
    pub async fn verify(&self) -> Result<Summary, StoreError> {
        let shared = Arc::clone(&self.shared);
        let verified = tokio::task::spawn_blocking(move || {
            let state = shared.read();
            open::verify(&shared.tree, &state.summary)
        });
        verified.await.map_err(|error| lost_thread(&error))?
    }

    /// Writes one consistent archive of everything to `archive`, while commits go on.
    pub async fn backup(&self, archive: &Path, origin: Origin) -> Result<BackupReport, ArchiveError> {
        let shared = Arc::clone(&self.shared);
        let ended = self.ended.clone();
        let archive = archive.to_owned();
        tokio::task::spawn_blocking(move || backup::backup(&shared, &ended, &archive, origin))
            .await
            .map_err(|error| ArchiveError::Store(lost_thread(&error)))?
    }

    async fn reading<T: Send + 'static>(
        &self,
        touches: impl Fn(&BTreeSet<Vec<u8>>) -> bool + Clone + Send + 'static,
        read: impl Fn(&::sled::Tree) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut ended = self.ended.clone();
        loop {
            let (shared, touches, read) = (Arc::clone(&self.shared), touches.clone(), read.clone());
            let permit = Arc::clone(&self.readers).acquire_owned().await;
            let outcome = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let state = shared.read();
                if touches(&state.pending) {
                    return match &state.failed {
                        Some(why) => Err(StoreError::Fatal(why.clone())),
                        None => Ok(Outcome::Wait(state.group)),
                    };
                }
                read(&shared.tree).map(Outcome::Read)
            });
            match outcome.await.map_err(|error| lost_thread(&error))?? {
                Outcome::Read(value) => return Ok(value),
                Outcome::Wait(group) => {
                    ended.wait_for(|ended| *ended >= group).await.map_err(|_| stopped())?;
                }
            }
        }
    }
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let physical = frame::physical_key(partition, key);
        let touched = physical.clone();
        self.reading(move |pending| pending.contains(&touched), move |tree| get(tree, &physical)).await
    }

    async fn scan(
        &self,
        partition: PartitionId,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        if range.from >= range.to || limit == 0 {
            return Ok(Vec::new());
        }
        let from = frame::physical_key(partition, &range.from);
        let to = frame::physical_key(partition, &range.to);
        let (low, high) = (from.clone(), to.clone());
        let touches = move |pending: &BTreeSet<Vec<u8>>| {
            pending
                .range::<[u8], _>((Bound::Included(low.as_slice()), Bound::Excluded(high.as_slice())))
                .next()
                .is_some()
        };
        let read = move |tree: &::sled::Tree| {
            let iter = tree.range(from.as_slice()..to.as_slice());
            match direction {
                Direction::Forward => iter.take(limit).map(pair).collect(),
                Direction::Reverse => iter.rev().take(limit).map(pair).collect(),
            }
        };
        self.reading(touches, read).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        limits::check(&batches)?;
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(Request { batches, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for SledStore {
    /// Carries through the commits that wait, and ends the thread: at most a few syncs.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // The thread catches panics and tells them as failures; there is nobody left to tell one here.
            let _ = thread.join();
        }
    }
}

fn get(tree: &::sled::Tree, physical: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let read = tree.get(physical).map_err(|error| match (unreadable(&error), frame::logical_key(physical)) {
        (StoreError::Fatal(why), Some((partition, key))) => {
            StoreError::Fatal(format!("key {} of partition {}: {why}", frame::hex(key), partition.0))
        }
        (error, _) => error,
    });
    match read? {
        None => Ok(None),
        Some(framed) => frame::unseal(physical, &framed).map(|value| Some(value.to_vec())),
    }
}

fn pair(read: ::sled::Result<(::sled::IVec, ::sled::IVec)>) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let (physical, framed) = read.map_err(|error| unreadable(&error))?;
    let value = frame::unseal(&physical, &framed)?;
    let (_, key) = frame::logical_key(&physical)
        .ok_or_else(|| StoreError::Fatal(format!("a record lies outside any partition. {}", frame::RESTORE_HINT)))?;
    Ok((key.to_vec(), value.to_vec()))
}

fn unreadable(error: &::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Corruption { .. } => {
            StoreError::Fatal(format!("a page of the store is damaged ({error}). {}", frame::RESTORE_HINT))
        }
        other => StoreError::Fatal(format!("the store can't be read: {other}")),
    }
}

fn lost_thread(error: &tokio::task::JoinError) -> StoreError {
    StoreError::Fatal(format!("a read did not end: {error}. {}", frame::RESTORE_HINT))
}

fn stopped() -> StoreError {
    StoreError::Fatal("the store's thread has ended".to_owned())
}
