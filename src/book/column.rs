//! A column of up to 256 amounts, as weight chunks and payout chunks hold them.
//!
//! Version (1), count (2), width (1), one presence bit a value, then each value that is not zero in `width` bytes, then
//! a CRC-32. Little-endian; `width` is what the largest takes. Frozen by a golden test: a change of layout is a new
//! version.

use super::bytes::{Put, byte_width, seal, unseal};

/// The ordinals of one chunk.
pub const CHUNK_ORDINALS: usize = 256;

const VERSION: u8 = 1;

/// A stored column that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored column of amounts is damaged or of an unknown version")]
pub struct ColumnError;

/// Encodes up to [`CHUNK_ORDINALS`] values.
pub fn encode(values: &[u128]) -> Result<Vec<u8>, ColumnError> {
    let count = u16::try_from(values.len()).ok().filter(|_| values.len() <= CHUNK_ORDINALS).ok_or(ColumnError)?;
    let width = values.iter().copied().max().map_or(0, byte_width);
    let present = values.iter().filter(|v| **v != 0).count();
    let mut out = Vec::with_capacity(8 + values.len().div_ceil(8) + present * width);
    out.u8(VERSION);
    out.u16(count);
    out.u8(width as u8);
    for eight in values.chunks(8) {
        out.u8(eight.iter().enumerate().fold(0, |bits, (i, value)| bits | (u8::from(*value != 0) << i)));
    }
    for value in values.iter().filter(|v| **v != 0) {
        out.bytes(&value.to_le_bytes()[..width]);
    }
    Ok(seal(out))
}

/// Decodes a column.
pub fn decode(bytes: &[u8]) -> Result<Vec<u128>, ColumnError> {
    read(bytes).ok_or(ColumnError)
}

/// Decodes the value at `index` alone; zero past the end.
pub fn value_at(bytes: &[u8], index: usize) -> Result<u128, ColumnError> {
    Ok(decode(bytes)?.get(index).copied().unwrap_or(0))
}

fn read(bytes: &[u8]) -> Option<Vec<u128>> {
    let mut take = unseal(bytes)?;
    if take.u8()? != VERSION {
        return None;
    }
    let count = usize::from(take.u16()?);
    let width = usize::from(take.u8()?);
    if count > CHUNK_ORDINALS || width > 16 {
        return None;
    }
    let bits = take.bytes(count.div_ceil(8))?;
    let mut values = vec![0u128; count];
    for (i, value) in values.iter_mut().enumerate() {
        if bits[i / 8] >> (i % 8) & 1 == 1 {
            let mut wide = [0u8; 16];
            wide[..width].copy_from_slice(take.bytes(width)?);
            *value = u128::from_le_bytes(wide);
        }
    }
    take.end()?;
    Some(values)
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
            prop_assert_eq!(value_at(&bytes, 3), Ok(values.get(3).copied().unwrap_or(0)));
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
            let _ = decode(&seal(bytes));
        }
    }
}
