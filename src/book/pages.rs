//! Pages: a partition's positions as checkpoints write them.
//!
//! Version (1), generation (8), group (8), rows (1), then the rows, then a CRC-32. A row: id, balance, weight, weight
//! before, sequence, second (variable), owner (2), standing and flags (1; bit 6: a rest follows, a length and its bytes).
//! Frozen by a golden test.
//!
//! A page has two slots and is written to the one that the last complete checkpoint does not rest on, so that a
//! checkpoint that is cut short leaves the one before it whole.

use super::bytes::{Put, Take, seal, unseal};
use crate::domain::adjustment::Rest;
use crate::domain::ids::AccountId;
use crate::domain::position::{Position, PositionFields};

/// The positions of one page. With the longest ids and the largest amounts a page stays below the store's limit.
pub(crate) const PAGE_ROWS: usize = 44;

const VERSION: u8 = 1;
/// A rest follows.
const REST: u8 = 1 << 6;

/// What is known of a page in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageMark {
    /// Part of the hash of what was written last.
    pub(crate) hash: u128,
    /// The last group in it when it was written; 0 before the first time.
    pub(crate) group: u64,
    /// Whether it changed since.
    pub(crate) dirty: bool,
    /// The slot that the last complete checkpoint rests on.
    pub(crate) slot: u8,
    /// It was written to the other slot, by the checkpoint that is being made.
    pub(crate) moved: bool,
}

/// A page as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) generation: u64,
    pub(crate) group: u64,
    pub(crate) rows: Vec<(AccountId, Position, Rest)>,
}

/// The key number of a page's slot.
pub(crate) const fn slot_number(page: u32, slot: u8) -> u32 {
    page * 2 + slot as u32
}

/// Encodes a page of at most [`PAGE_ROWS`] rows.
pub(crate) fn encode<'a>(
    generation: u64,
    group: u64,
    rows: impl ExactSizeIterator<Item = (&'a str, &'a Position, Rest)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + rows.len() * 80);
    out.u8(VERSION);
    out.u64(generation);
    out.u64(group);
    out.u8(u8::try_from(rows.len()).unwrap_or(u8::MAX));
    for (id, position, rest) in rows {
        let fields = position.fields();
        out.short_text(id);
        out.short_u128(fields.available);
        out.short_u128(fields.weight);
        out.short_u128(fields.weight_before);
        out.varint(fields.last_sequence);
        out.varint(u64::from(fields.last_second));
        out.u16(fields.owner);
        out.u8(fields.standing | fields.flags << 4 | if rest.is_zero() { 0 } else { REST });
        if !rest.is_zero() {
            out.short_u256(rest.get());
        }
    }
    seal(out)
}

/// Decodes a page; `None` where it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<Page> {
    let mut take = unseal(bytes)?;
    if take.u8()? != VERSION {
        return None;
    }
    let (generation, group, count) = (take.u64()?, take.u64()?, take.u8()?);
    let rows = (0..count).map(|_| read_row(&mut take)).collect::<Option<Vec<_>>>()?;
    take.end()?;
    Some(Page { generation, group, rows })
}

fn read_row(take: &mut Take<'_>) -> Option<(AccountId, Position, Rest)> {
    let id = AccountId::new(take.short_text()?).ok()?;
    let (available, weight, weight_before) = (take.short_u128()?, take.short_u128()?, take.short_u128()?);
    let last_sequence = take.varint()?;
    let last_second = u32::try_from(take.varint()?).ok()?;
    let owner = take.u16()?;
    let bits = take.u8()?;
    let rest = if bits & REST == 0 { Rest::ZERO } else { Rest::new(take.short_u256()?) };
    let bits = bits & !REST;
    let fields = PositionFields {
        available,
        weight,
        weight_before,
        last_sequence,
        last_second,
        owner,
        standing: bits & 15,
        flags: bits >> 4,
    };
    Some((id, Position::from_fields(fields)?, rest))
}

/// What a page adds to the sum of its partition's pages, by which a checkpoint knows its own.
pub(crate) fn page_hash(bytes: &[u8]) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    u128::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use ruint::aliases::U256;

    use super::*;

    fn position(seed: u128) -> Position {
        Position::from_fields(PositionFields {
            available: seed >> 1,
            weight: seed,
            weight_before: seed / 3,
            last_sequence: seed as u64,
            last_second: seed as u32,
            owner: seed as u16,
            standing: (seed & 15) as u8,
            flags: (seed & 3) as u8,
        })
        .unwrap()
    }

    #[test]
    fn the_layout_is_frozen() {
        let row = position(0x0123_4567_89ab_cdef);
        let bytes = encode(3, 9, [("alice", &row, Rest::ZERO)].into_iter());
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "01030000000000000009000000000000000105616c69636507f7e6d5c4b3a29108efcdab896745230107a5443983221761ef9bafcdf8acd19101ef9bafcd08efcd3f86238880"
        );
        let with_rest = encode(3, 9, [("alice", &row, Rest::new(U256::from(0x0123)))].into_iter());
        let tail: String = with_rest[with_rest.len() - 8..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(tail, "7f02230177090d16");
    }

    #[test]
    fn the_largest_page_fits_a_value_of_the_store() {
        let (id, row) = ("z".repeat(64), position(u128::MAX));
        // No more than the largest weights of 2^32 seconds.
        let rest = Rest::new(U256::MAX >> 96);
        let bytes = encode(
            u64::MAX,
            u64::MAX,
            (0..PAGE_ROWS).map(|_| (id.as_str(), &row, rest)).collect::<Vec<_>>().into_iter(),
        );
        assert!(bytes.len() <= crate::store::MAX_VALUE_BYTES, "{}", bytes.len());
        let page = decode(&bytes).unwrap();
        assert_eq!((page.generation, page.group, page.rows.len()), (u64::MAX, u64::MAX, PAGE_ROWS));
        assert!(page.rows.iter().all(|(a, p, r)| a.as_str() == id && *p == row && *r == rest));
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let row = position(77);
        let bytes = encode(3, 9, [("alice", &row, Rest::new(U256::from(300)))].into_iter());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad), None, "byte {at}");
        }
    }
}
