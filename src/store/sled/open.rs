//! Opening: guards, sled, then what sled does not notice.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use super::committer::Committer;
use super::guards::{self, Mark, OpenError};
use super::{QUEUE, READERS, Shared, SledOptions, SledStore, State, Summary, SyncFile, frame, unreadable};
use crate::store::{PartitionId, StoreError};

/// Twice sled's default. A node that is past a quarter of a segment goes to a blob file, which sled never syncs.
///
/// A leaf is split when it is next visited with more than 16 records, and takes in a neighbour's last 3 without a look
/// at its size: up to 20 records at 7 kB and 0.5 kB of key are 154 kB, too much for a quarter of 512 kB.
const SEGMENT_BYTES: usize = 1024 * 1024;

/// How long sled may take to let go of a store that was dropped a moment ago.
const RELEASE: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const RELEASE_POLL: Duration = Duration::from_millis(5);

/// Opens a store that is not fenced.
pub(super) fn open(directory: &Path, options: SledOptions, sync: SyncFile) -> Result<SledStore, OpenError> {
    let io_error = |source| OpenError::Io { directory: directory.to_owned(), source };
    if guards::is_fenced(directory).map_err(io_error)? {
        return Err(OpenError::Fenced(directory.to_owned()));
    }
    open_fenced(directory, options, sync)
}

/// Opens a store whether it is fenced or not: for what restores it.
pub(super) fn open_fenced(directory: &Path, options: SledOptions, sync: SyncFile) -> Result<SledStore, OpenError> {
    let io_error = |source| OpenError::Io { directory: directory.to_owned(), source };
    let damaged = |what: String| OpenError::Damaged { directory: directory.to_owned(), what };

    let lock = guards::lock(directory)?;
    guards::remove_unfinished_snapshots(directory).map_err(io_error)?;
    guards::sync_data(directory).map_err(io_error)?;
    let database = open_sled(directory, options.cache_bytes)?;
    // sled's default tree: a tree of its own would cost a second root and gain nothing.
    let tree: ::sled::Tree = (*database).clone();
    let file = File::open(directory.join("db")).map_err(io_error)?;

    let mut summary = match guarded(|| read_summary(&tree)).map_err(damaged)? {
        Ok(summary) => summary,
        Err(found) => {
            return Err(OpenError::Newer { directory: directory.to_owned(), found, known: frame::FORMAT });
        }
    };
    let (mark, acknowledged) = Mark::open(directory).map_err(io_error)?;
    match (summary, acknowledged) {
        (None, Some(number)) if number > 0 => {
            return Err(damaged(format!("it is empty, and {number} batches were acknowledged")));
        }
        (Some(summary), Some(number)) if summary.applied < number => {
            let last = summary.applied;
            return Err(damaged(format!("its log ends at batch {last}, and batch {number} was acknowledged")));
        }
        (Some(_), None) => {
            tracing::warn!(directory = %directory.display(), "the store has no readable mark of what it acknowledged");
        }
        _ => {}
    }
    if summary.is_none() {
        if tree.iter().next().is_some() {
            return Err(damaged("it has records and no summary of them".to_owned()));
        }
        let created = create(&tree).map_err(|error| damaged(error.to_string()))?;
        file.sync_all().and_then(|()| guards::sync_everything(directory)).map_err(io_error)?;
        mark.set(created.applied).map_err(io_error)?;
        summary = Some(created);
    }
    let summary = summary.unwrap_or_default();
    let verified = guarded(|| match options.verify {
        true => verify(&tree, &summary).map(|_| ()),
        false => verify_small(&tree, &summary),
    });
    verified.map_err(damaged)?;

    let state = State { summary, ..State::default() };
    let shared = Arc::new(Shared { tree, database, state: RwLock::new(state), _lock: lock });
    let (requests, queue) = mpsc::channel(QUEUE);
    let (ended_at, ended) = watch::channel(0);
    let committer = Committer { shared: Arc::clone(&shared), file, mark, sync, ended: ended_at, summary };
    let thread =
        std::thread::Builder::new().name("store".to_owned()).spawn(move || committer.run(queue)).map_err(io_error)?;
    Ok(SledStore {
        directory: directory.to_owned(),
        requests: Some(requests),
        thread: Some(thread),
        readers: Arc::new(Semaphore::new(READERS)),
        ended,
        shared,
    })
}

fn open_sled(directory: &Path, cache_bytes: u64) -> Result<::sled::Db, OpenError> {
    let config = || {
        ::sled::Config::new()
            .path(directory)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(cache_bytes)
            .use_compression(false)
            // The store's thread flushes, before each answer; a flush at other times would only hide that one is missing.
            .flush_every_ms(None)
    };
    let mut waited = Duration::ZERO;
    loop {
        // A damaged store can make sled panic while it recovers.
        let opened = std::panic::catch_unwind(|| config().open());
        let what = match opened {
            Ok(Ok(database)) => return Ok(database),
            Ok(Err(::sled::Error::Io(source))) => {
                if !source.to_string().contains("could not acquire lock") {
                    return Err(OpenError::Io { directory: directory.to_owned(), source });
                }
                // The directory's own lock is ours: this is sled, still at work on a store that was dropped.
                if waited > RELEASE {
                    return Err(OpenError::InUse(directory.to_owned()));
                }
                std::thread::sleep(RELEASE_POLL);
                waited += RELEASE_POLL;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(panic.as_ref()),
        };
        return Err(OpenError::Damaged { directory: directory.to_owned(), what });
    }
}

/// Runs what reads a store that may be damaged. A panic of sled's is damage, and so is what can't be read.
fn guarded<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
        Ok(Ok(read)) => Ok(read),
        // The error around it gives the same advice.
        Ok(Err(StoreError::Fatal(why))) => {
            Err(why.strip_suffix(frame::RESTORE_HINT).unwrap_or(&why).trim_end_matches([' ', '.']).to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(panic_text(panic.as_ref())),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("sled panicked: {}", text.unwrap_or("without a word"))
}

/// The summary, or the format of a newer version; none in a new store.
fn read_summary(tree: &::sled::Tree) -> Result<Result<Option<Summary>, u8>, StoreError> {
    let Some(framed) = tree.get(frame::SUMMARY_KEY).map_err(|error| unreadable(&error))? else {
        return Ok(Ok(None));
    };
    Ok(match Summary::decode(frame::unseal(&frame::SUMMARY_KEY, &framed)?) {
        Ok(Some(summary)) => Ok(Some(summary)),
        Ok(None) => return Err(StoreError::Fatal("the store's summary can't be read".to_owned())),
        Err(newer) => Err(newer),
    })
}

/// Makes an empty store.
fn create(tree: &::sled::Tree) -> ::sled::Result<Summary> {
    let summary = Summary::default();
    let mut batch = ::sled::Batch::default();
    batch.insert(&frame::SUMMARY_KEY, frame::seal(&frame::SUMMARY_KEY, &summary.encode()));
    for number in 1..=frame::SPACERS {
        let key = frame::spacer_key(number);
        batch.insert(&key, frame::seal(&key, &[]));
    }
    tree.apply_batch(batch)?;
    tree.flush()?;
    Ok(summary)
}

/// Reads every record; `Err` names the first that is damaged, or says what is missing.
pub(super) fn verify(tree: &::sled::Tree, expected: &Summary) -> Result<Summary, StoreError> {
    let mut found = Summary { applied: expected.applied, ..Summary::default() };
    for read in tree.range(frame::first_data_key()..) {
        let (physical, framed) = read.map_err(|error| unreadable(&error))?;
        frame::unseal(&physical, &framed)?;
        found.add(&physical, &framed);
    }
    if found.same_records(expected) {
        return Ok(found);
    }
    Err(lost("records", (found.records, found.checksums), (expected.records, expected.checksums)))
}

/// Reads every small record, and nothing else; `Err` names the first that is damaged, or says what is missing.
///
/// A record that sled has lost, or has gone back to an earlier form of, has no chain or seal that would miss it here:
/// balances of the ledger, receipts, requests that were answered.
fn verify_small(tree: &::sled::Tree, expected: &Summary) -> Result<(), StoreError> {
    let mut found = Summary::default();
    let mut from = frame::first_data_key();
    // The first record from there on tells which partition comes next; a book's is passed over as a whole.
    while let Some(first) = tree.range(from.as_slice()..).next() {
        let (physical, _) = first.map_err(|error| unreadable(&error))?;
        let Some((partition, _)) = frame::logical_key(&physical) else { break };
        let pool = partition.pool_number();
        if partition.book_index().is_some() {
            let Some(next) = pool.checked_add(1) else { break };
            from = frame::physical_key(PartitionId::control(next), &[]);
            continue;
        }
        let to = frame::physical_key(PartitionId(partition.0 + 1), &[]);
        for read in tree.range(from.as_slice()..to.as_slice()) {
            let (physical, framed) = read.map_err(|error| unreadable(&error))?;
            frame::unseal(&physical, &framed)?;
            found.add(&physical, &framed);
        }
        from = to;
    }
    let of = |summary: &Summary| (summary.small_records, summary.small_checksums);
    if of(&found) == of(expected) {
        return Ok(());
    }
    Err(lost("small records", of(&found), of(expected)))
}

/// Says that records are not the ones that were acknowledged: how many there are, and the sum of their checksums.
fn lost(what: &str, found: (u64, u64), expected: (u64, u64)) -> StoreError {
    StoreError::Fatal(format!(
        "the store has {} {what} (checksum {:016x}) and should have {} (checksum {:016x}): some were lost. {}",
        found.0,
        found.1,
        expected.0,
        expected.1,
        frame::RESTORE_HINT
    ))
}
