//! A column of up to 256 amounts, as weight chunks and payout chunks hold them.
//!
//! Version (1), count (2), width (1), one presence bit a value, then each value that is not zero in `width` bytes, then
//! a CRC-32. Little-endian; `width` is what the largest takes. Frozen by a golden test: a change of layout is a new
//! version.

use super::bytes::{Put, byte_width, seal, unseal};

/// The ordinals of one chunk.
pub const CHUNK_ORDINALS: usize = 256;

const VERSION: u8 = 1;
/// Version, count and width.
const HEADER: usize = 4;
/// The most bytes of one value.
const WIDEST: usize = 16;

/// A stored column that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored column of amounts is damaged or of an unknown version")]
pub struct ColumnError;

/// Encodes up to [`CHUNK_ORDINALS`] values.
pub fn encode(values: &[u128]) -> Result<Vec<u8>, ColumnError> {
    let count = u16::try_from(values.len()).ok().filter(|_| values.len() <= CHUNK_ORDINALS).ok_or(ColumnError)?;
    // What any of them has, all of them together have.
    let width = byte_width(values.iter().fold(0, |all, value| all | value));
    let mut out = Vec::with_capacity(HEADER + values.len().div_ceil(8) + values.len() * width + WIDEST + 4);
    out.u8(VERSION);
    out.u16(count);
    out.u8(width as u8);
    for eight in values.chunks(8) {
        out.u8(eight.iter().enumerate().fold(0, |bits, (i, value)| bits | (u8::from(*value != 0) << i)));
    }
    let mut at = out.len();
    out.resize(at + values.len() * width + WIDEST, 0);
    for value in values {
        // All 16 bytes, of which the next value overwrites those that are too many, or, after a zero, all.
        out[at..at + WIDEST].copy_from_slice(&value.to_le_bytes());
        at += if *value == 0 { 0 } else { width };
    }
    out.truncate(at);
    Ok(seal(out))
}

/// Decodes a column.
pub fn decode(bytes: &[u8]) -> Result<Vec<u128>, ColumnError> {
    let column = Column::read(bytes).ok_or(ColumnError)?;
    let mut at = 0;
    let value = |index| {
        let present = column.is_present(index);
        let value = if present { column.value(at) } else { 0 };
        at += usize::from(present) * column.width;
        value
    };
    Ok((0..column.count).map(value).collect())
}

/// Decodes the value at `index` alone; `None` past the end.
pub fn get(bytes: &[u8], index: usize) -> Result<Option<u128>, ColumnError> {
    let column = Column::read(bytes).ok_or(ColumnError)?;
    if index >= column.count {
        return Ok(None);
    }
    let before = column.present(index) * column.width;
    Ok(Some(if column.is_present(index) { column.value(before) } else { 0 }))
}

/// Decodes the value at `index` alone; zero past the end.
pub fn value_at(bytes: &[u8], index: usize) -> Result<u128, ColumnError> {
    Ok(get(bytes, index)?.unwrap_or(0))
}

/// A column whose checksum is right and whose lengths fit together.
struct Column<'a> {
    count: usize,
    width: usize,
    bits: &'a [u8],
    values: &'a [u8],
}

impl<'a> Column<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut take = unseal(bytes)?;
        if take.u8()? != VERSION {
            return None;
        }
        let count = usize::from(take.u16()?);
        let width = usize::from(take.u8()?);
        if count > CHUNK_ORDINALS || width > WIDEST {
            return None;
        }
        let bits = take.bytes(count.div_ceil(8))?;
        let column = Self { count, width, bits, values: take.0 };
        (column.present(count) * width == column.values.len()).then_some(column)
    }

    fn is_present(&self, index: usize) -> bool {
        self.bits[index / 8] >> (index % 8) & 1 == 1
    }

    /// How many values before `index` are not zero.
    fn present(&self, index: usize) -> usize {
        let whole: u32 = self.bits[..index / 8].iter().map(|bits| bits.count_ones()).sum();
        let rest = self.bits.get(index / 8).map_or(0, |bits| (bits & ((1 << (index % 8)) - 1)).count_ones());
        (whole + rest) as usize
    }

    /// The value whose bytes begin at `at`.
    fn value(&self, at: usize) -> u128 {
        let bytes = &self.values[at..];
        match bytes.first_chunk::<WIDEST>() {
            Some(wide) if self.width > 0 => u128::from_le_bytes(*wide) & (u128::MAX >> (8 * (WIDEST - self.width))),
            _ => {
                let mut wide = [0; WIDEST];
                wide[..self.width].copy_from_slice(&bytes[..self.width]);
                u128::from_le_bytes(wide)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_frozen() {
        let golden = "010a000205020100ff0002010f623ea3";
        let values = [1, 0, 255, 0, 0, 0, 0, 0, 0, 258];
        let hex: String = encode(&values).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        let none: String = encode(&[]).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(none, "0100000079b8f899");
    }

    #[test]
    fn the_largest_chunk_fits_a_value_of_the_store() {
        let full = encode(&[u128::MAX; CHUNK_ORDINALS]).unwrap();
        assert!(full.len() <= crate::store::MAX_VALUE_BYTES, "{}", full.len());
        assert_eq!(encode(&[0; CHUNK_ORDINALS + 1]), Err(ColumnError));
    }

    proptest! {
        #[test]
        fn columns_come_back(values in proptest::collection::vec(prop_oneof![Just(0u128), any::<u128>(), 0..9u128], 0..=256)) {
            let bytes = encode(&values).unwrap();
            prop_assert_eq!(decode(&bytes), Ok(values.clone()));
            for index in 0..values.len() + 9 {
                prop_assert_eq!(get(&bytes, index), Ok(values.get(index).copied()));
                prop_assert_eq!(value_at(&bytes, index), Ok(values.get(index).copied().unwrap_or(0)));
            }
        }

        #[test]
        fn a_flipped_bit_is_seen(values in proptest::collection::vec(any::<u128>(), 1..20), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&values).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(decode(&bytes), Err(ColumnError));
        }

        #[test]
        fn anything_may_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
            let sealed = seal(bytes);
            let values = decode(&sealed);
            prop_assert_eq!(get(&sealed, 0), values.clone().map(|values| values.first().copied()));
            prop_assert_eq!(get(&sealed, 255), values.map(|values| values.get(255).copied()));
        }
    }
}
