//! How bytes lie in sled: keys with their partition, values with a checksum, and the engine's own record.
//!
//! A key is `1 · partition · key`, a value `crc32(key, value) · value`. The engine's own keys begin with 0. Its summary
//! is part of every sled batch, so that a record that is lost, however quietly, no longer agrees with it. It sums twice:
//! over everything, which only reading everything can verify, and over the small records, those outside the books'
//! partitions, which are read and verified at every open. What a book's partition has is chained, summed or sealed by
//! records among the small ones.

use crate::store::{PartitionId, StoreError};

/// The version of the layout that this module knows.
pub(super) const FORMAT: u8 = 1;

/// The key of the [`Summary`].
pub(super) const SUMMARY_KEY: [u8; 2] = [0, 0];

/// How many small records stand between the summary and the data.
///
/// The summary changes with every batch, and sled rewrites a leaf (16 records) every ten changes. With these
/// neighbours such a leaf has a few hundred bytes; next to data it would have up to 120 kB.
pub(super) const SPACERS: u8 = 40;

/// The key of spacer `number`, from 1.
pub(super) fn spacer_key(number: u8) -> [u8; 2] {
    [0, number]
}

const DATA: u8 = 1;
const DATA_PREFIX: usize = 5;
const CRC: usize = 4;

/// The key in sled for `key` of `partition`.
pub(super) fn physical_key(partition: PartitionId, key: &[u8]) -> Vec<u8> {
    let mut physical = Vec::with_capacity(DATA_PREFIX + key.len());
    physical.push(DATA);
    physical.extend_from_slice(&partition.0.to_be_bytes());
    physical.extend_from_slice(key);
    physical
}

/// The partition and the key that a key in sled stands for; `None` for the engine's own.
pub(super) fn logical_key(physical: &[u8]) -> Option<(PartitionId, &[u8])> {
    let (head, key) = physical.split_first_chunk::<DATA_PREFIX>()?;
    let [DATA, a, b, c, d] = *head else { return None };
    Some((PartitionId(u32::from_be_bytes([a, b, c, d])), key))
}

/// The first key of data in sled.
pub(super) fn first_data_key() -> Vec<u8> {
    vec![DATA]
}

fn checksum(physical: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(physical);
    hasher.update(value);
    hasher.finalize()
}

/// A value with its checksum.
pub(super) fn seal(physical: &[u8], value: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(CRC + value.len());
    framed.extend_from_slice(&checksum(physical, value).to_le_bytes());
    framed.extend_from_slice(value);
    framed
}

/// The checksum that a sealed value carries.
pub(super) fn stored_checksum(framed: &[u8]) -> Option<u32> {
    framed.first_chunk::<CRC>().map(|crc| u32::from_le_bytes(*crc))
}

/// The value, where its checksum is right.
pub(super) fn unseal<'a>(physical: &[u8], framed: &'a [u8]) -> Result<&'a [u8], StoreError> {
    if let Some((crc, value)) = framed.split_first_chunk::<CRC>()
        && u32::from_le_bytes(*crc) == checksum(physical, value)
    {
        return Ok(value);
    }
    Err(damaged(physical))
}

/// Names a record whose bytes are not the ones that were written.
fn damaged(physical: &[u8]) -> StoreError {
    let record = match logical_key(physical) {
        Some((partition, key)) => format!("key {} of partition {}", hex(key), partition.0),
        None => format!("the store's own record {}", hex(physical)),
    };
    StoreError::Fatal(format!("{record} is damaged: its checksum does not match. {RESTORE_HINT}"))
}

/// What an operator does about damage.
pub(super) const RESTORE_HINT: &str = "Restore the newest backup into a new directory with `softstake restore`";

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What the engine knows of all records together; kept in the same batch as each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many sled batches were applied, ever.
    pub applied: u64,
    /// How many records there are.
    pub records: u64,
    /// The sum of their checksums, modulo 2^64: no order in it.
    pub checksums: u64,
    /// How many of the records are small ones: those in no book's partition.
    pub small_records: u64,
    /// The sum of the checksums of the small ones, modulo 2^64.
    pub small_checksums: u64,
}

/// Whether a key in sled is one of a small record: it grows with what is done, not with accounts.
fn is_small(physical: &[u8]) -> bool {
    logical_key(physical).is_some_and(|(partition, _)| partition.book_index().is_none())
}

impl Summary {
    const BYTES: usize = 41;

    /// Counts a record in.
    pub(super) fn add(&mut self, physical: &[u8], framed: &[u8]) {
        let checksum = stored_checksum(framed).unwrap_or(0).into();
        self.records = self.records.wrapping_add(1);
        self.checksums = self.checksums.wrapping_add(checksum);
        if is_small(physical) {
            self.small_records = self.small_records.wrapping_add(1);
            self.small_checksums = self.small_checksums.wrapping_add(checksum);
        }
    }

    /// Counts out a record with this checksum.
    pub(super) fn remove_checksum(&mut self, physical: &[u8], checksum: u32) {
        self.records = self.records.wrapping_sub(1);
        self.checksums = self.checksums.wrapping_sub(checksum.into());
        if is_small(physical) {
            self.small_records = self.small_records.wrapping_sub(1);
            self.small_checksums = self.small_checksums.wrapping_sub(checksum.into());
        }
    }

    /// Whether two summaries are of the same records, whatever the batches they came in.
    pub(super) fn same_records(&self, other: &Self) -> bool {
        (self.records, self.checksums) == (other.records, other.checksums)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.push(FORMAT);
        for part in [self.applied, self.records, self.checksums, self.small_records, self.small_checksums] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    /// `Err` carries the format of a newer version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, u8> {
        let Some((format, rest)) = bytes.split_first() else { return Ok(None) };
        if *format > FORMAT {
            return Err(*format);
        }
        if bytes.len() != Self::BYTES {
            return Ok(None);
        }
        let part = |at: usize| rest[at..].first_chunk().map(|part| u64::from_be_bytes(*part));
        let read = || {
            let (applied, records, checksums) = (part(0)?, part(8)?, part(16)?);
            Some(Self { applied, records, checksums, small_records: part(24)?, small_checksums: part(32)? })
        };
        Ok(read())
    }
}
