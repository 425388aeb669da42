//! What stands between sled and the directory: the lock, the leftovers, the fence, the mark of what was acknowledged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::frame::RESTORE_HINT;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("the store in {} is in use: another softstake has it open", .0.display())]
    InUse(PathBuf),
    /// It was restored, and nobody has said yet that the original is dead.
    #[error(
        "the store in {} was restored from a backup and is fenced. When the original is certain never to run again, \
         lift the fence with `softstake restore --unfence --to` and its data_dir, and `--reason`",
        .0.display()
    )]
    Fenced(PathBuf),
    /// A newer softstake wrote it.
    #[error("the store in {} has format {found}, and this softstake knows up to {known}: use a newer one", .directory.display())]
    Newer {
        /// Where it is.
        directory: PathBuf,
        /// Its format.
        found: u8,
        /// The newest format that is known here.
        known: u8,
    },
    /// Its bytes are not the ones that were written.
    #[error("the store in {} is damaged: {what}. {RESTORE_HINT}", .directory.display())]
    Damaged {
        /// Where it is.
        directory: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system refused.
    #[error("the store in {} can't be opened: {source}", .directory.display())]
    Io {
        /// Where it is.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

const LOCK: &str = "lock";
const FENCE: &str = "fenced";
const ACKNOWLEDGED: &str = "acknowledged";

/// Takes the directory for this process, for as long as the file lives.
///
/// sled locks its data file itself, but only after it has looked at the other files, and it lets go of that lock some
/// time after the store is dropped. This lock is exact.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let io_error = |source| OpenError::Io { directory: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(io_error)?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(LOCK)).map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(io_error(source)),
    }
}

/// Removes what a death while sled wrote its snapshot has left: sled would take it for a snapshot and find it corrupt.
/// The data file has everything that such a file has. Call with the lock held.
pub(super) fn remove_unfinished_snapshots(directory: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %entry.path().display(), "removing a snapshot that was not finished");
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    if removed > 0 {
        sync_directory(directory)?;
    }
    Ok(removed)
}

/// Makes durable what a killed process has written to the data file and not synced: sled will read it, and sync a
/// snapshot that points to it. After a power cut that snapshot would point to what is not there. sled itself syncs first
/// only where its log ends within a segment.
pub(super) fn sync_data(directory: &Path) -> io::Result<()> {
    match File::open(directory.join("db")) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes a new store's files durable: sled syncs neither the directory nor its small files.
pub(super) fn sync_everything(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(directory)?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// Whether the store is fenced.
pub fn is_fenced(directory: &Path) -> io::Result<bool> {
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::on(crate::seeded::Bug::RestoredUnfenced) {
        return Ok(false);
    }
    directory.join(FENCE).try_exists()
}

/// Fences a store: it can't be opened until [`unfence`].
pub(super) fn fence(directory: &Path, why: &str) -> io::Result<()> {
    let mut file = File::create(directory.join(FENCE))?;
    writeln!(file, "{why}")?;
    file.sync_all()?;
    sync_directory(directory)
}

/// Lifts the fence of a restored store, once an operator is certain that the original never runs again.
///
/// A store without a fence is left as it is.
pub fn unfence(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(FENCE)) {
        Ok(()) => sync_directory(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The number of the last batch that was acknowledged, beside the data file.
///
/// sled takes a damaged end of its log for the end. With this mark, a store that has forgotten what it acknowledged is
/// found out at the next open. It is written after the sync and not synced itself: after a power cut it may be behind
/// the data, never ahead.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    pub(super) const BYTES: usize = 12;

    /// The mark of a store, and the number it has; `None` where it has none that can be read.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(directory.join(ACKNOWLEDGED))?;
        let mut bytes = [0; Self::BYTES];
        let number = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Self::decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self(file), number))
    }

    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Option<u64> {
        let (number, crc) = bytes.split_first_chunk()?;
        (crc32fast::hash(number).to_le_bytes() == *crc).then_some(u64::from_be_bytes(*number))
    }

    /// Marks `number` as acknowledged.
    pub(super) fn set(&self, number: u64) -> io::Result<()> {
        let number = number.to_be_bytes();
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&crc32fast::hash(&number).to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}
