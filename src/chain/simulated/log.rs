//! The chain's own append-only log, as durable as a real chain would be: every record is framed with its length, its
//! number and checksums, and is on disk before the call that made it answers.
//!
//! A record is `magic, length, number, checksum of these, payload, checksum of the payload`. At open a torn record at
//! the end is cut off: it was never acknowledged. A broken record with a good one behind it is refused by its place.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::chain::ChainError;

const MAGIC: [u8; 4] = *b"sslg";
const HEADER_BYTES: usize = 4 + 4 + 8 + 4;
const TRAILER_BYTES: usize = 4;
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// The disk of a simulated chain that lives in memory. It outlives the chain: open another on a clone of it and the
/// chain is as it was.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Arc<Mutex<Vec<u8>>>);

impl MemoryLog {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes on the disk.
    pub fn contents(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what is on the disk: for tests of what a crash or a broken disk leaves behind.
    pub fn overwrite(&self, bytes: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

#[derive(Debug)]
enum Medium {
    File { file: File, path: PathBuf },
    Memory(MemoryLog),
}

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    medium: Medium,
    next_number: u64,
    failed: bool,
}

fn unavailable(what: &str, path: &Path, error: &std::io::Error) -> ChainError {
    ChainError::Unavailable(format!("the simulated chain's log {}: {what}: {error}", path.display()))
}

impl Log {
    /// Opens or creates the log at `path` and returns its records.
    pub(super) fn open_file(path: &Path) -> Result<(Self, Vec<Vec<u8>>), ChainError> {
        let existed = path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| unavailable("can't be opened", path, &error))?;
        file.try_lock().map_err(|_| {
            ChainError::Refused(format!("the simulated chain's log {} is open elsewhere", path.display()))
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| unavailable("can't be read", path, &error))?;
        let (records, good) = scan(&bytes)?;
        let synced = (|| {
            if good < bytes.len() {
                file.set_len(good as u64)?;
            }
            file.seek(SeekFrom::Start(good as u64))?;
            file.sync_all()?;
            match path.parent().filter(|parent| !existed && !parent.as_os_str().is_empty()) {
                Some(parent) => File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        })();
        synced.map_err(|error| unavailable("can't be synced", path, &error))?;
        let next_number = records.len() as u64;
        let medium = Medium::File { file, path: path.to_path_buf() };
        Ok((Self { medium, next_number, failed: false }, records))
    }

    /// Opens the log on a disk in memory.
    pub(super) fn open_memory(disk: MemoryLog) -> Result<(Self, Vec<Vec<u8>>), ChainError> {
        let mut bytes = disk.contents();
        let (records, good) = scan(&bytes)?;
        bytes.truncate(good);
        disk.overwrite(bytes);
        let next_number = records.len() as u64;
        Ok((Self { medium: Medium::Memory(disk), next_number, failed: false }, records))
    }

    /// Whether appending blocks on a disk.
    pub(super) fn blocks(&self) -> bool {
        matches!(self.medium, Medium::File { .. })
    }

    /// Appends a record; it is on disk when this returns. After a failure what is on disk is unknown, so nothing
    /// more is appended until the log is opened again.
    pub(super) fn append(&mut self, payload: &[u8]) -> Result<(), ChainError> {
        if self.failed {
            return Err(ChainError::Unavailable("the simulated chain's log failed before; open it again".into()));
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(ChainError::Refused("the transaction is too large".into()));
        }
        let record = frame(self.next_number, payload);
        match &mut self.medium {
            Medium::Memory(disk) => {
                disk.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&record);
            }
            Medium::File { file, path } => {
                if let Err(error) = file.write_all(&record).and_then(|()| file.sync_data()) {
                    self.failed = true;
                    return Err(unavailable("can't be written", path, &error));
                }
            }
        }
        self.next_number += 1;
        Ok(())
    }

    /// Whether a write failed, so that what is on disk is unknown.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }
}

fn frame(number: u64, payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + payload.len() + TRAILER_BYTES);
    record.extend_from_slice(&MAGIC);
    // The length is at most MAX_PAYLOAD_BYTES.
    record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    record.extend_from_slice(&number.to_le_bytes());
    record.extend_from_slice(&crc32fast::hash(&record).to_le_bytes());
    record.extend_from_slice(payload);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&number.to_le_bytes());
    checksum.update(payload);
    record.extend_from_slice(&checksum.finalize().to_le_bytes());
    record
}

/// The record at the start of `bytes`, if a whole good one stands there: its number, payload and size.
fn read_record(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
    let number = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let checksum = u32::from_le_bytes(header[16..20].try_into().ok()?);
    if header[..4] != MAGIC || checksum != crc32fast::hash(&header[..16]) || length > MAX_PAYLOAD_BYTES {
        return None;
    }
    let size = HEADER_BYTES + length + TRAILER_BYTES;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let trailer: [u8; 4] = bytes.get(HEADER_BYTES + length..size)?.try_into().ok()?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    (hasher.finalize() == u32::from_le_bytes(trailer)).then_some((number, payload, size))
}

/// All records and the length of the good part.
fn scan(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, usize), ChainError> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut place = 0;
    while place < bytes.len() {
        match read_record(&bytes[place..]) {
            Some((number, payload, size)) if number == records.len() as u64 => {
                records.push(payload.to_vec());
                place += size;
            }
            Some((number, ..)) => {
                return Err(ChainError::Untrusted(format!(
                    "the simulated chain's log has record {number} at byte {place}, where {} belongs",
                    records.len()
                )));
            }
            None => {
                let behind = (place + 1..bytes.len())
                    .find(|later| bytes[*later..].starts_with(&MAGIC) && read_record(&bytes[*later..]).is_some());
                if behind.is_some() {
                    return Err(ChainError::Untrusted(format!(
                        "record {} of the simulated chain's log, at byte {place}, is broken, and it is not the last",
                        records.len()
                    )));
                }
                break;
            }
        }
    }
    Ok((records, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_write_nothing_is_appended_or_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, records) = Log::open_file(&path).unwrap();
        assert!(records.is_empty());
        log.append(b"one").unwrap();
        drop(log);
        // A file that was opened for reading only takes no write.
        let medium = Medium::File { file: File::open(&path).unwrap(), path: path.clone() };
        let mut log = Log { medium, next_number: 1, failed: false };
        assert!(matches!(log.append(b"two"), Err(ChainError::Unavailable(_))));
        assert!(log.failed());
        assert!(matches!(log.append(b"three"), Err(ChainError::Unavailable(_))));
        drop(log);
        assert_eq!(Log::open_file(&path).unwrap().1, [b"one".to_vec()]);
    }
}
