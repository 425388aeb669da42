//! Addresses: bech32 (BIP 173) of 20 bytes, which of a key's account are RIPEMD-160(SHA-256(public key)), as
//! `crypto/keys/secp256k1/secp256k1.go` of the Cosmos SDK has it. Pure, and called within this room only.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use ripemd::{Digest as _, Ripemd160};
use sha2::Sha256;

/// Bytes of the address of a key's account, and of a validator's operator.
const ADDRESS_BYTES: usize = 20;

/// What stands behind the prefix of an account in the prefix of a validator's operator.
const OPERATOR: &str = "valoper";

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The prefix is none that bech32 can have.
    #[error("{0:?} can't be the prefix of an address")]
    Prefix(String),
    /// It is no address, or not as the chain writes it.
    #[error("{address:?} is no address with the prefix {prefix}")]
    Malformed {
        /// What was given.
        address: String,
        /// The prefix that it should have.
        prefix: String,
    },
}

/// The address of the account of a key, from its compressed public key.
pub(super) fn account_of(prefix: &str, public_key: &[u8]) -> Result<String, AddressError> {
    encode(prefix, &Ripemd160::digest(Sha256::digest(public_key)))
}

/// Whether `address` is an account's, written as the chain writes it.
pub(super) fn check_account(prefix: &str, address: &str) -> Result<(), AddressError> {
    check(prefix, address)
}

/// Whether `address` is that of a validator's operator, on a chain of which the accounts have `prefix`.
pub(super) fn check_validator(prefix: &str, address: &str) -> Result<(), AddressError> {
    check(&format!("{prefix}{OPERATOR}"), address)
}

fn encode(prefix: &str, bytes: &[u8]) -> Result<String, AddressError> {
    let refused = || AddressError::Prefix(prefix.to_owned());
    let prefix = Hrp::parse(prefix).map_err(|_| refused())?;
    bech32::encode_lower::<Bech32>(prefix, bytes).map_err(|_| refused())
}

fn check(prefix: &str, address: &str) -> Result<(), AddressError> {
    let malformed = || AddressError::Malformed { address: address.to_owned(), prefix: prefix.to_owned() };
    let read = CheckedHrpstring::new::<Bech32>(address).map_err(|_| malformed())?;
    let bytes: Vec<u8> = read.byte_iter().collect();
    // Encoding it again shows the prefix, the case, and bits left over behind the last byte.
    if bytes.len() != ADDRESS_BYTES || encode(prefix, &bytes)? != address {
        return Err(malformed());
    }
    Ok(())
}
