//! The archive of a run of journal groups: what trimming keeps of a journal.
//!
//! A run is the journal's values as they were acknowledged, chains and all, each after its length (2), one after the
//! other, compressed, and cut into parts. A part is: version (1), method (1: 0 as it is, 1 zstd), part (2), how many
//! parts (2), first group (8), last group (8), the latest time that one of its groups was formed (8), size before
//! compression (4), a piece of the run, CRC-32 (4). Little-endian. Frozen by a golden test: a change of layout is a new
//! version. What zstd makes of a run may change with its releases, what it reads does not.

use super::bytes::{Put, Take, seal, unseal};
use crate::domain::time::UnixSeconds;
use crate::store::MAX_VALUE_BYTES;

const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Fast: the committer waits for it.
const LEVEL: i32 = 1;
/// The piece of one part; with header and CRC it fills a value.
const PIECE: usize = MAX_VALUE_BYTES - 38;
/// The most that a run may claim to be: twice what one commit can journal.
const MAX_SIZE: usize = 2 << 20;

/// What every part of an archive says of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first group.
    pub(crate) first: u64,
    /// The last group.
    pub(crate) last: u64,
    /// The latest time that one of the groups was formed: that of the last, but where a clock was set back.
    pub(crate) latest: UnixSeconds,
}

/// One part.
struct Part<'a> {
    method: u8,
    part: u16,
    parts: u16,
    span: Span,
    size: u32,
    piece: &'a [u8],
}

/// Encodes a run into the values of its parts.
pub(crate) fn encode(span: Span, values: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut run = Vec::with_capacity(values.iter().map(|value| value.len() + 2).sum());
    for value in values {
        run.u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        run.bytes(value);
    }
    let size = u32::try_from(run.len()).unwrap_or(u32::MAX);
    let (method, packed) = match zstd::bulk::compress(&run, LEVEL) {
        Ok(packed) if packed.len() < run.len() => (ZSTD, packed),
        // It would be longer: random bytes stay as they are.
        _ => (PLAIN, run),
    };
    cut(span, method, size, &packed, PIECE)
}

fn cut(span: Span, method: u8, size: u32, packed: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let parts = u16::try_from(packed.chunks(piece).count()).unwrap_or(u16::MAX);
    let part = |(part, piece): (u16, &[u8])| {
        let mut value = Vec::with_capacity(piece.len() + MAX_VALUE_BYTES - PIECE);
        value.u8(VERSION);
        value.u8(method);
        value.u16(part);
        value.u16(parts);
        value.u64(span.first);
        value.u64(span.last);
        value.i64(span.latest.get());
        value.u32(size);
        value.bytes(piece);
        seal(value)
    };
    (0..parts).zip(packed.chunks(piece)).map(part).collect()
}

/// The parts of an archive whose first four bytes say its size and whose others are the run as it was packed, for
/// `fuzz/`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn of_run(method: u8, pieces: u8, run: &[u8]) -> Vec<Vec<u8>> {
    let span = Span { first: 7, last: 9, latest: UnixSeconds::new(1_795_305_700) };
    let Some((size, packed)) = run.split_first_chunk() else { return Vec::new() };
    let piece = packed.len().div_ceil(usize::from(pieces) + 1).max(1);
    cut(span, method, u32::from_le_bytes(*size), packed, piece)
}

fn read(value: &[u8]) -> Option<Part<'_>> {
    let mut take = unseal(value)?;
    let (VERSION, method, part, parts) = (take.u8()?, take.u8()?, take.u16()?, take.u16()?) else { return None };
    let span = Span { first: take.u64()?, last: take.u64()?, latest: UnixSeconds::new(take.i64()?) };
    let size = take.u32()?;
    Some(Part { method, part, parts, span, size, piece: take.0 })
}

/// What one part says of the whole; `None` where it is damaged.
pub(crate) fn span(value: &[u8]) -> Option<Span> {
    read(value).map(|part| part.span)
}

/// Puts an archive together again: the journal's values. `None` where a part is missing or damaged.
pub(crate) fn decode<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<(Span, Vec<Vec<u8>>)> {
    let parts: Vec<Part<'_>> = values.map(read).collect::<Option<_>>()?;
    let head = parts.first()?;
    let size = usize::try_from(head.size).ok().filter(|size| *size <= MAX_SIZE)?;
    let mut packed = Vec::with_capacity(parts.len() * PIECE);
    for (index, part) in parts.iter().enumerate() {
        let same = (part.method, part.parts, part.span, part.size) == (head.method, head.parts, head.span, head.size);
        if !same || usize::from(part.part) != index || usize::from(part.parts) != parts.len() {
            return None;
        }
        packed.bytes(part.piece);
    }
    let run = match head.method {
        PLAIN => packed,
        ZSTD => zstd::bulk::decompress(&packed, size).ok()?,
        _ => return None,
    };
    if run.len() != size {
        return None;
    }
    let mut take = Take(&run);
    let mut values = Vec::new();
    while !take.0.is_empty() {
        let length = usize::from(take.u16()?);
        values.push(take.bytes(length)?.to_vec());
    }
    Some((head.span, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Span = Span { first: 7, last: 9, latest: UnixSeconds::new(1_795_305_700) };

    fn back(parts: &[Vec<u8>]) -> Option<(Span, Vec<Vec<u8>>)> {
        decode(parts.iter().map(Vec::as_slice))
    }

    /// What was archived by any release must be read by every later one, whatever its zstd makes of the same run.
    #[test]
    fn the_layout_is_frozen() {
        let golden = include_str!("archive_golden.txt");
        let values = [[b'a'; 40].as_slice(), b"journal", &[b'a'; 40]];
        let mut lines = golden.lines();
        for (name, values) in [("zstd", &values[..]), ("plain", &values[1..2])] {
            let hex = lines.next().and_then(|line| line.strip_prefix(name)).unwrap().trim();
            let stored: Vec<u8> =
                (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            let (span, read) = back(std::slice::from_ref(&stored)).unwrap();
            assert_eq!((span, read), (SPAN, values.iter().map(|value| value.to_vec()).collect()), "{name}");
            let fresh = encode(SPAN, values);
            assert_eq!((fresh.len(), &fresh[0][..34]), (1, &stored[..34]), "{name}");
        }
    }

    #[test]
    fn random_bytes_fit_and_come_back() {
        let mut bytes = vec![0; 640 * 1024];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let values: Vec<&[u8]> = bytes.chunks(7_028).collect();
        let parts = encode(SPAN, &values);
        assert!(parts.len() > 90 && parts.iter().all(|part| part.len() <= MAX_VALUE_BYTES));
        assert_eq!(back(&parts).unwrap().1, values);
        let (mut swapped, mut twice) = (parts.clone(), parts.clone());
        swapped.swap(3, 4);
        twice[5] = twice[6].clone();
        for wrong in [&parts[1..], &parts[..parts.len() - 1], &swapped, &twice, &[]] {
            assert_eq!(back(wrong), None);
        }
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let parts = encode(SPAN, &[&[b'a'; 900], b"journal"]);
        for at in 0..parts[0].len() {
            let mut part = parts[0].clone();
            part[at] ^= 0x10;
            assert!(back(&[part.clone()]).is_none() && span(&part).is_none(), "byte {at}");
        }
        assert_eq!(span(&parts[0]), Some(SPAN));
    }

    proptest! {
        #[test]
        fn anything_may_be_read(mut bytes in proptest::collection::vec(any::<u8>(), 32..200), plain in any::<bool>()) {
            (bytes[0], bytes[1]) = (VERSION, if plain { PLAIN } else { ZSTD });
            (bytes[2], bytes[3], bytes[4], bytes[5]) = (0, 0, 1, 0);
            let _ = back(&[seal(bytes)]);
        }
    }
}
