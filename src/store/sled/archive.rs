//! The file that a backup is: changes in order, in checksummed blocks, with a hash of everything at the end.
//!
//! ```text
//! "softstake-backup" · version u8 · mark [32] · as of i64
//! 'B' · length u32 · crc32(number of the block, length, payload) u32 · payload      (any number of times)
//! 'E' · blocks u64 · changes u64 · applied u64 · records u64 · checksums u64 · BLAKE3 of all before it
//! ```
//!
//! The mark is of whoever asked for the backup, and the time is theirs: nothing here reads them.
//!
//! A payload is changes: `1 · key length u16 · key · value length u32 · sealed value`, or `0 · key length u16 · key`.
//! A later change of a key replaces an earlier one. All integers are big-endian.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use super::{Change, OpenError, Summary, frame};
use crate::store::StoreError;

const MAGIC: &[u8; 16] = b"softstake-backup";
const VERSION: u8 = 1;
const BLOCK: u8 = b'B';
const END: u8 = b'E';
const PUT: u8 = 1;
const REMOVE: u8 = 0;
const HASH: usize = 32;

/// How the name of an archive ends that is being written.
pub(super) const UNFINISHED: &str = "unfinished";

/// A block is written once it has this many bytes.
const BLOCK_BYTES: usize = 512 * 1024;

/// No block is longer than this; a length beyond it is damage.
const MAX_BLOCK_BYTES: usize = 2 * BLOCK_BYTES;

/// What whoever asks for a backup keeps in it, to know it again by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Stands for the request.
    pub mark: [u8; 32],
    /// When it was asked for, in seconds since the Unix epoch.
    pub at: i64,
}

/// Why there is no backup, or no restored store.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The target is there already, and nothing is ever overwritten.
    #[error("{} exists already; nothing was written", .0.display())]
    Exists(PathBuf),
    /// A backup of this store is being written.
    #[error("another backup of this store is being written")]
    Running,
    /// The archive is not what was written.
    #[error("the archive {} is damaged at byte {at}: {what}; nothing was restored", .path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// Where the damage was met.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// A newer softstake wrote it.
    #[error("the archive {} has version {found}, and this softstake knows up to {VERSION}", .path.display())]
    Newer {
        /// The archive.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The restored store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl ArchiveError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// What stands at the end of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trailer {
    blocks: u64,
    changes: u64,
    summary: Summary,
}

impl Trailer {
    const BYTES: usize = 40;

    fn encode(&self) -> Vec<u8> {
        let Summary { applied, records, checksums, .. } = self.summary;
        [self.blocks, self.changes, applied, records, checksums].iter().flat_map(|part| part.to_be_bytes()).collect()
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let mut parts = bytes.as_chunks::<8>().0.iter().map(|part| u64::from_be_bytes(*part));
        let mut next = || parts.next().unwrap_or_default();
        let (blocks, changes) = (next(), next());
        let (applied, records, checksums) = (next(), next(), next());
        Self { blocks, changes, summary: Summary { applied, records, checksums, ..Summary::default() } }
    }
}

/// An archive that was written or read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Whose it is.
    pub(super) origin: Origin,
    /// What it gives.
    pub(super) summary: Summary,
    /// The bytes of the file.
    pub(super) bytes: u64,
    /// BLAKE3 of the file, its own hash at the end included.
    pub(super) hash: [u8; HASH],
}

fn block_checksum(number: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(&(payload.len() as u64).to_be_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Writes an archive.
pub(super) struct Writer {
    path: PathBuf,
    origin: Origin,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    payload: Vec<u8>,
    blocks: u64,
    changes: u64,
    bytes: u64,
}

impl Writer {
    /// Begins an archive, and holds its file as long: nobody takes it for a leftover.
    pub(super) fn create(path: &Path, origin: Origin) -> Result<Self, ArchiveError> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(ArchiveError::io(path))?;
        match file.try_lock() {
            Ok(()) => file.set_len(0).map_err(ArchiveError::io(path))?,
            Err(TryLockError::WouldBlock) => return Err(ArchiveError::Running),
            Err(TryLockError::Error(error)) => return Err(ArchiveError::io(path)(error)),
        }
        let mut writer = Self {
            path: path.to_owned(),
            origin,
            file: BufWriter::new(file),
            hasher: blake3::Hasher::new(),
            payload: Vec::with_capacity(MAX_BLOCK_BYTES),
            blocks: 0,
            changes: 0,
            bytes: 0,
        };
        writer.write(MAGIC)?;
        writer.write(&[VERSION])?;
        writer.write(&origin.mark)?;
        writer.write(&origin.at.to_be_bytes())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(ArchiveError::io(&self.path))
    }

    /// Appends one change.
    pub(super) fn push(&mut self, key: &[u8], framed: Option<&[u8]>) -> Result<(), ArchiveError> {
        // Keys and values are within the store's limits, far below what these lengths hold.
        let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        self.payload.push(if framed.is_some() { PUT } else { REMOVE });
        self.payload.extend_from_slice(&key_length.to_be_bytes());
        self.payload.extend_from_slice(key);
        if let Some(framed) = framed {
            let length = u32::try_from(framed.len()).unwrap_or(u32::MAX);
            self.payload.extend_from_slice(&length.to_be_bytes());
            self.payload.extend_from_slice(framed);
        }
        self.changes += 1;
        if self.payload.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), ArchiveError> {
        let payload = std::mem::take(&mut self.payload);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.write(&[BLOCK])?;
        self.write(&length.to_be_bytes())?;
        self.write(&block_checksum(self.blocks, &payload).to_be_bytes())?;
        self.write(&payload)?;
        self.blocks += 1;
        self.payload = payload;
        self.payload.clear();
        Ok(())
    }

    /// Ends the archive and makes it durable.
    pub(super) fn finish(mut self, summary: Summary) -> Result<Whole, ArchiveError> {
        if !self.payload.is_empty() {
            self.end_block()?;
        }
        let trailer = Trailer { blocks: self.blocks, changes: self.changes, summary };
        self.write(&[END])?;
        self.write(&trailer.encode())?;
        let hash = *self.hasher.finalize().as_bytes();
        self.write(&hash)?;
        let path = self.path;
        let file = self.file.into_inner().map_err(|error| ArchiveError::io(&path)(error.into_error()))?;
        file.sync_all().map_err(ArchiveError::io(&path))?;
        Ok(Whole { origin: self.origin, summary, bytes: self.bytes, hash: *self.hasher.finalize().as_bytes() })
    }
}

/// Removes what deaths while archives were written have left in a folder, and says how many. One that another process is
/// writing stays.
pub fn remove_unfinished(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let unfinished = entry.path().extension().is_some_and(|extension| extension == UNFINISHED);
        if !unfinished || !entry.file_type()?.is_file() {
            continue;
        }
        let held = OpenOptions::new().write(true).open(entry.path())?;
        if held.try_lock().is_ok() {
            tracing::warn!(file = %entry.path().display(), "removing a backup that was not finished");
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Reads an archive, checks all of it, and hands over its changes in order.
///
/// The last checks come at the end: only when this has returned `Ok` once is any change worth anything.
pub(super) fn read(
    path: &Path,
    mut each: impl FnMut(Change) -> Result<(), ArchiveError>,
) -> Result<Whole, ArchiveError> {
    let file = File::open(path).map_err(ArchiveError::io(path))?;
    read_from(path, BufReader::new(file), &mut each)
}

/// The same of bytes that come from anywhere.
pub(super) fn read_from(
    path: &Path,
    file: impl Read,
    each: &mut impl FnMut(Change) -> Result<(), ArchiveError>,
) -> Result<Whole, ArchiveError> {
    let mut reader = Reader { path, file, hasher: blake3::Hasher::new(), at: 0 };
    if reader.take::<16>()? != *MAGIC {
        return Err(reader.damaged("it does not begin as a backup of softstake does"));
    }
    let [version] = reader.take()?;
    if version > VERSION {
        return Err(ArchiveError::Newer { path: path.to_owned(), found: version });
    }
    if version == 0 {
        return Err(reader.damaged("there is no version 0"));
    }
    let origin = Origin { mark: reader.take()?, at: i64::from_be_bytes(reader.take()?) };
    let (mut blocks, mut changes) = (0, 0);
    let mut payload = Vec::new();
    loop {
        match reader.take()? {
            [BLOCK] => {
                let length = u32::from_be_bytes(reader.take()?) as usize;
                let crc = u32::from_be_bytes(reader.take()?);
                if length > MAX_BLOCK_BYTES {
                    return Err(reader.damaged(&format!("block {blocks} says it has {length} bytes")));
                }
                payload.resize(length, 0);
                reader.fill(&mut payload)?;
                if crc != block_checksum(blocks, &payload) {
                    return Err(reader.damaged(&format!("the checksum of block {blocks} does not match")));
                }
                let mut rest = payload.as_slice();
                while !rest.is_empty() {
                    let Some(change) = next_change(&mut rest) else {
                        return Err(reader.damaged(&format!("block {blocks} has a change that makes no sense")));
                    };
                    if let Some(framed) = &change.1
                        && let Err(error) = frame::unseal(&change.0, framed)
                    {
                        return Err(reader.damaged(&error.to_string()));
                    }
                    changes += 1;
                    each(change)?;
                }
                blocks += 1;
            }
            [END] => break,
            [other] => return Err(reader.damaged(&format!("{other:#04x} begins neither a block nor the end"))),
        }
    }
    let trailer = Trailer::decode(&reader.take()?);
    let expected = *reader.hasher.finalize().as_bytes();
    if reader.take::<HASH>()? != expected {
        return Err(reader.damaged("the hash of the whole does not match"));
    }
    if (trailer.blocks, trailer.changes) != (blocks, changes) {
        return Err(reader.damaged("it does not have as many blocks and changes as it says"));
    }
    let mut more = [0];
    if reader.file.read(&mut more).map_err(ArchiveError::io(path))? > 0 {
        return Err(reader.damaged("there is more after the end"));
    }
    Ok(Whole { origin, summary: trailer.summary, bytes: reader.at, hash: *reader.hasher.finalize().as_bytes() })
}

struct Reader<'a, R> {
    path: &'a Path,
    file: R,
    hasher: blake3::Hasher,
    at: u64,
}

impl<R: Read> Reader<'_, R> {
    fn damaged(&self, what: &str) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.to_owned(), at: self.at, what: what.to_owned() }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                self.hasher.update(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged("it is cut short")),
            Err(error) => Err(ArchiveError::io(self.path)(error)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// A backup with these blocks, whatever they hold, as it would be written, for `fuzz/`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn of_blocks(blocks: &[&[u8]], changes: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    for (number, payload) in (0..).zip(blocks) {
        bytes.push(BLOCK);
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&block_checksum(number, payload).to_be_bytes());
        bytes.extend_from_slice(payload);
    }
    bytes.push(END);
    let trailer = Trailer { blocks: blocks.len() as u64, changes, summary: Summary::default() };
    bytes.extend_from_slice(&trailer.encode());
    let hash = *blake3::hash(&bytes).as_bytes();
    bytes.extend_from_slice(&hash);
    bytes
}

fn next_change(rest: &mut &[u8]) -> Option<Change> {
    let mut take = |length: usize| {
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(head)
    };
    let kind = *take(1)?.first()?;
    let key_length = u16::from_be_bytes(*take(2)?.first_chunk()?);
    let key = take(key_length.into())?.to_vec();
    frame::logical_key(&key)?;
    match kind {
        REMOVE => Some((key, None)),
        PUT => {
            let length = u32::from_be_bytes(*take(4)?.first_chunk()?);
            Some((key, Some(take(usize::try_from(length).ok()?)?.to_vec())))
        }
        _ => None,
    }
}
