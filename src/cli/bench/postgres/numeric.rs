//! PostgreSQL's `numeric` in its binary form, for whole numbers up to 2^128 - 1: the amounts and weights of the baseline.

use std::error::Error;

use bytes::{Buf, BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Each digit of a numeric is one of 10,000.
const BASE: u128 = 10_000;

/// As many digits as 2^128 - 1 has.
const DIGITS: usize = 10;

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numeric(pub(super) u128);

impl Numeric {
    /// Writes it: how many digits, the weight of the first one, a plus sign, no decimals, then the digits without the zeros
    /// at the end.
    pub(super) fn put(self, out: &mut BytesMut) {
        let mut digits = [0_u16; DIGITS];
        let (mut count, mut rest) = (0, self.0);
        while rest > 0 {
            digits[count] = (rest % BASE) as u16;
            rest /= BASE;
            count += 1;
        }
        let zeros = digits[..count].iter().take_while(|digit| **digit == 0).count();
        out.put_u16((count - zeros) as u16);
        out.put_u16(count.saturating_sub(1) as u16);
        out.put_u32(0);
        digits[zeros..count].iter().rev().for_each(|digit| out.put_u16(*digit));
    }

    fn read(mut raw: &[u8]) -> Option<u128> {
        let (count, weight) = (raw.try_get_u16().ok()?, raw.try_get_i16().ok()?);
        // A sign (or NaN), and decimals.
        if raw.try_get_u32().ok()? != 0 {
            return None;
        }
        let mut value = 0_u128;
        for _ in 0..count {
            value = value.checked_mul(BASE)?.checked_add(u128::from(raw.try_get_u16().ok()?))?;
        }
        if value == 0 {
            return Some(0);
        }
        let zeros = u32::try_from(i32::from(weight) + 1 - i32::from(count)).ok()?;
        value.checked_mul(BASE.checked_pow(zeros)?)
    }
}

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.put(out);
        Ok(IsNull::No)
    }

    fn accepts(r#type: &Type) -> bool {
        *r#type == Type::NUMERIC
    }

    to_sql_checked!();
}

impl FromSql<'_> for Numeric {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Self::read(raw).map(Self).ok_or_else(|| "a numeric that is no whole number of 128 bits".into())
    }

    fn accepts(r#type: &Type) -> bool {
        *r#type == Type::NUMERIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 1, 9_999, 10_000, 10_001, 120_000_000, 10_u128.pow(38), u128::from(u64::MAX), u128::MAX] {
            let mut out = BytesMut::new();
            Numeric(value).put(&mut out);
            assert_eq!(Numeric::read(&out), Some(value));
        }
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let mut out = BytesMut::new();
        Numeric(123_450_000).put(&mut out);
        assert_eq!(out[..], [0, 2, 0, 2, 0, 0, 0, 0, 0, 1, 0x09, 0x29]);
    }

    #[test]
    fn what_is_no_whole_number_is_refused() {
        // -1; 0.1; a count of digits that are not there; 10,000^10.
        for raw in [
            &[0, 1, 0, 0, 0x40, 0, 0, 0, 0, 1][..],
            &[0, 1, 0xff, 0xff, 0, 0, 0, 1, 0x03, 0xe8],
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 1, 0, 10, 0, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(Numeric::read(raw), None, "{raw:?}");
        }
    }
}
