//! The engine's readers, opened to `fuzz/`.

use std::path::Path;

use super::guards::Mark;
use super::{Summary, archive, frame};
use crate::store::fuzzing::pieces;

/// The engine's own record, its keys, its frames and its mark.
pub fn engine(input: &[u8]) {
    if let Ok(Some(summary)) = Summary::decode(input) {
        assert_eq!(summary.encode().get(1..), input.get(1..), "a summary has one form");
    }
    if let Some((partition, key)) = frame::logical_key(input) {
        assert_eq!(frame::physical_key(partition, key), input, "a key has one form");
    }
    if let Some(mark) = input.first_chunk::<{ Mark::BYTES }>() {
        let _number = Mark::decode(mark);
    }
    let middle = input.len() / 2;
    let (key, value) = input.split_at(middle);
    if let Ok(content) = frame::unseal(key, value) {
        assert_eq!(frame::seal(key, content), value, "a frame has one form");
    }
    assert_eq!(frame::unseal(key, &frame::seal(key, value)), Ok(value));
    let _checksum = frame::stored_checksum(value);
}

/// A backup: the whole file; or its blocks, each after its length of two bytes, below the checksums that belong to them.
pub fn backup(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let file = if mode & 0x80 != 0 { rest.to_vec() } else { built(rest) };
    let mut bytes = 0;
    let read = archive::read_from(Path::new("backup"), file.as_slice(), &mut |(key, value)| {
        bytes += key.len() + value.map_or(0, |value| value.len());
        Ok(())
    });
    assert!(bytes <= file.len(), "no more is handed over than there is");
    if let Ok(whole) = read {
        assert_eq!(whole.bytes, file.len() as u64, "all of it was read");
        assert_eq!(&whole.hash, blake3::hash(&file).as_bytes());
    }
}

fn built(rest: &[u8]) -> Vec<u8> {
    let blocks = pieces(rest);
    let mut changes = 0;
    let mut count = |_| {
        changes += 1;
        Ok(())
    };
    // Once to count what it has, as far as it goes; then with that count.
    let _first = archive::read_from(Path::new("backup"), archive::of_blocks(&blocks, 0).as_slice(), &mut count);
    archive::of_blocks(&blocks, changes)
}
