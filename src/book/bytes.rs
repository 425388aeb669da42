//! Reading and writing the book's fixed layouts: little-endian integers, variable-length ones, checksums.

use ruint::aliases::U256;

/// Writes to the end of a buffer.
pub(crate) trait Put {
    /// Bytes as they are.
    fn bytes(&mut self, bytes: &[u8]);

    /// One byte.
    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// Two bytes.
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Four bytes.
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Eight bytes.
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Eight bytes.
    fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Sixteen bytes.
    fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    /// Sixteen bytes.
    fn i128(&mut self, value: i128) {
        self.bytes(&value.to_le_bytes());
    }

    /// Seven bits a byte, least first: 1 to 10 bytes.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// A difference: small ones of either sign are short.
    fn zigzag(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// A length byte, then as few bytes as it takes.
    fn short_u128(&mut self, value: u128) {
        let width = byte_width(value);
        self.u8(width as u8);
        self.bytes(&value.to_le_bytes()[..width]);
    }

    /// A length byte, then as few bytes as it takes.
    fn short_u256(&mut self, value: U256) {
        let width = value.byte_len();
        self.u8(width as u8);
        self.bytes(&value.to_le_bytes::<32>()[..width]);
    }

    /// A length byte, then at most 255 bytes.
    fn short_text(&mut self, text: &str) {
        let length = text.len().min(255);
        self.u8(length as u8);
        self.bytes(&text.as_bytes()[..length]);
    }
}

impl Put for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes `value` takes.
pub(crate) const fn byte_width(value: u128) -> usize {
    (128 - value.leading_zeros() as usize).div_ceil(8)
}

/// Reads from the front; `None` where there is not enough or it makes no sense.
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    /// `count` bytes as they are.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    /// A fixed number of bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn i128(&mut self) -> Option<i128> {
        self.array().map(i128::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg())
    }

    pub(crate) fn short_u128(&mut self) -> Option<u128> {
        let width = usize::from(self.u8()?);
        let mut bytes = [0u8; 16];
        bytes.get_mut(..width)?.copy_from_slice(self.bytes(width)?);
        Some(u128::from_le_bytes(bytes))
    }

    pub(crate) fn short_u256(&mut self) -> Option<U256> {
        let width = usize::from(self.u8()?);
        let mut bytes = [0u8; 32];
        bytes.get_mut(..width)?.copy_from_slice(self.bytes(width)?);
        Some(U256::from_le_bytes(bytes))
    }

    pub(crate) fn short_text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.u8()?);
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    /// `Some` where nothing is left.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends the CRC-32 of what is there.
pub(crate) fn seal(mut value: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&value);
    value.u32(crc);
    value
}

/// What [`seal`] sealed, where it is intact.
pub(crate) fn unseal(value: &[u8]) -> Option<Take<'_>> {
    let (body, crc) = value.split_last_chunk::<4>()?;
    (crc32fast::hash(body) == u32::from_le_bytes(*crc)).then_some(Take(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(a in any::<u64>(), b in any::<i64>(), c in any::<u128>(), shift in 0u32..128, text in "[!-~]{0,64}") {
            let mut out = Vec::new();
            out.varint(a >> (shift % 64));
            out.zigzag(b >> (shift % 64));
            out.short_u128(c >> shift);
            out.short_u256(U256::from(c) << (shift as usize));
            out.short_text(&text);
            let sealed = seal(out);
            let mut take = unseal(&sealed).unwrap();
            prop_assert_eq!(take.varint(), Some(a >> (shift % 64)));
            prop_assert_eq!(take.zigzag(), Some(b >> (shift % 64)));
            prop_assert_eq!(take.short_u128(), Some(c >> shift));
            prop_assert_eq!(take.short_u256(), Some(U256::from(c) << (shift as usize)));
            prop_assert_eq!(take.short_text(), Some(text.as_str()));
            prop_assert_eq!(take.end(), Some(()));
        }

        #[test]
        fn reading_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut take = Take(&bytes);
            while take.varint().is_some() && take.short_u128().is_some() && take.short_u256().is_some() && take.short_text().is_some() {}
            let _ = unseal(&bytes);
        }
    }
}
