//! The bytes that a bech32 address stands for (BIP 173), for the keys of a node's store. Called in this room only.

/// The digits of bech32, in the order of their values.
const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// What the checksum of a valid address comes to.
const VALID: u32 = 1;

/// The digits of a checksum.
const CHECKSUM: usize = 6;

fn checksum(values: impl Iterator<Item = u8>) -> u32 {
    values.fold(1, |sum, value| {
        let top = sum >> 25;
        let sum = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        let parts = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        (0..).zip(parts).fold(sum, |sum, (bit, part)| if top >> bit & 1 == 1 { sum ^ part } else { sum })
    })
}

/// The bytes of `address` if it is a lower-case bech32 address that begins with `prefix`.
pub(super) fn decode(prefix: &str, address: &str) -> Option<Vec<u8>> {
    let digits = address.strip_prefix(prefix)?.strip_prefix('1')?;
    let value = |digit: u8| DIGITS.iter().position(|other| *other == digit).and_then(|at| u8::try_from(at).ok());
    let values: Vec<u8> = digits.bytes().map(value).collect::<Option<_>>()?;
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let whole = high.chain([0]).chain(low).chain(values.iter().copied());
    let data = values.get(..values.len().checked_sub(CHECKSUM)?)?;
    if checksum(whole) != VALID {
        return None;
    }
    let (mut bytes, mut left, mut bits) = (Vec::new(), 0_u32, 0);
    for value in data {
        left = (left << 5 | u32::from(*value)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(left >> bits & 0xff).ok()?);
        }
    }
    let padded = bits < 5 && left & ((1 << bits) - 1) == 0;
    padded.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_decoded_and_others_refused() {
        let bytes = decode("cosmos", "cosmos17xpfvakm2amg962yls6f84z3kell8c5lserqta").unwrap();
        // The fee collector's address: the first 20 bytes of the SHA-256 of its name.
        let name = <sha2::Sha256 as sha2::Digest>::digest(b"fee_collector");
        assert_eq!(bytes, name[..20]);
        for bad in [
            "cosmos17xpfvakm2amg962yls6f84z3kell8c5lserqtb",
            "cosmos17xpfvakm2amg962yls6f84z3kell8c5Lserqta",
            "cosmosvaloper17xpfvakm2amg962yls6f84z3kell8c5lserqta",
            "cosmos1",
            "cosmos",
            "",
        ] {
            assert_eq!(decode("cosmos", bad), None, "{bad}");
        }
    }
}
