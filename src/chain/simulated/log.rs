//! The chain's own append-only log, as durable as a real chain would be: every record is framed with its length, its
//! number and checksums, and is on disk before the call that made it answers.
//!
//! A record is `magic, length, number, checksum of these, payload, checksum of the payload`. At open a torn record at
//! the end is cut off: it was never acknowledged. A broken record with a good one behind it is refused by its place, and
//! so is a broken last one that was acknowledged: how many were stands in a small file beside the log, written after the
//! sync and not synced itself, so that it may be behind after a power cut, never ahead.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
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
    File { file: File, path: PathBuf, acknowledged: File },
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
        let damaged = |problem: String| {
            ChainError::Untrusted(format!(
                "the simulated chain's log {}: {problem}; put back the copy of your backup, or remove the whole data \
                 directory of this simulation",
                path.display()
            ))
        };
        let (records, good) = scan(&bytes).map_err(damaged)?;
        let mark = path.with_extension("acknowledged");
        let unreadable = |error| unavailable("its mark can't be used", path, &error);
        let acknowledged = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&mark);
        let acknowledged = acknowledged.map_err(unreadable)?;
        let number = read_mark(&acknowledged).map_err(unreadable)?;
        if let Some(number) = number.filter(|number| *number > records.len() as u64) {
            return Err(damaged(format!("{number} records were acknowledged, and it has {}", records.len())));
        }
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
        write_mark(&acknowledged, next_number).map_err(unreadable)?;
        let medium = Medium::File { file, path: path.to_path_buf(), acknowledged };
        Ok((Self { medium, next_number, failed: false }, records))
    }

    /// Opens the log on a disk in memory.
    pub(super) fn open_memory(disk: MemoryLog) -> Result<(Self, Vec<Vec<u8>>), ChainError> {
        let mut bytes = disk.contents();
        let (records, good) =
            scan(&bytes).map_err(|problem| ChainError::Untrusted(format!("the simulated chain's log: {problem}")))?;
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
            Medium::File { file, path, acknowledged } => {
                let written = file.write_all(&record).and_then(|()| file.sync_data());
                if let Err(error) = written.and_then(|()| write_mark(acknowledged, self.next_number + 1)) {
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

/// How many records were acknowledged; `None` where the mark can't be read, as after a power cut.
fn read_mark(mark: &File) -> std::io::Result<Option<u64>> {
    let mut bytes = [0; 12];
    match mark.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (number, checksum) = bytes.split_at(8);
    let sound = crc32fast::hash(number).to_le_bytes() == *checksum;
    Ok(number.try_into().ok().filter(|_| sound).map(u64::from_le_bytes))
}

fn write_mark(mark: &File, number: u64) -> std::io::Result<()> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&crc32fast::hash(&number.to_le_bytes()).to_le_bytes());
    mark.write_all_at(&bytes, 0)
}

pub(super) fn frame(number: u64, payload: &[u8]) -> Vec<u8> {
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

/// All records and the length of the good part, or what is wrong.
pub(super) fn scan(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, usize), String> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut place = 0;
    while place < bytes.len() {
        match read_record(&bytes[place..]) {
            Some((number, payload, size)) if number == records.len() as u64 => {
                records.push(payload.to_vec());
                place += size;
            }
            Some((number, ..)) => {
                return Err(format!("it has record {number} at byte {place}, where {} belongs", records.len()));
            }
            None => {
                let behind = (place + 1..bytes.len())
                    .find(|later| bytes[*later..].starts_with(&MAGIC) && read_record(&bytes[*later..]).is_some());
                if behind.is_some() {
                    return Err(format!(
                        "record {}, at byte {place}, is broken, and it is not the last",
                        records.len()
                    ));
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
        let acknowledged = File::create(folder.path().join("mark")).unwrap();
        let medium = Medium::File { file: File::open(&path).unwrap(), path: path.clone(), acknowledged };
        let mut log = Log { medium, next_number: 1, failed: false };
        assert!(matches!(log.append(b"two"), Err(ChainError::Unavailable(_))));
        assert!(log.failed());
        assert!(matches!(log.append(b"three"), Err(ChainError::Unavailable(_))));
        drop(log);
        assert_eq!(Log::open_file(&path).unwrap().1, [b"one".to_vec()]);
    }

    #[test]
    fn a_broken_last_record_is_torn_only_if_it_was_never_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, _) = Log::open_file(&path).unwrap();
        log.append(b"one").unwrap();
        let one = std::fs::metadata(&path).unwrap().len();
        log.append(b"two").unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for at in usize::try_from(one).unwrap()..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            let error = Log::open_file(&path).unwrap_err().to_string();
            assert!(error.contains("2 records were acknowledged, and it has 1") && error.contains("log"), "{error}");
        }
        // Cut off by a power cut that took the mark's last state as well.
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        write_mark(&File::options().write(true).open(path.with_extension("acknowledged")).unwrap(), 1).unwrap();
        assert_eq!(Log::open_file(&path).unwrap().1, [b"one".to_vec()]);
    }
}
