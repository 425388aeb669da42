//! Who signs for a real chain: [`remote`], the client of whoever holds the keys, or for development [`local`], a key in a
//! file of this machine.
//!
//! A signer gives a signature of bytes and nothing else: what they say is checked by `app/operate.rs` before and after.

pub mod local;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// ECDSA over secp256k1 of the bytes' SHA-256: 64 bytes r || s with the low s (Cosmos).
    Secp256k1,
    /// Ed25519 of the bytes: 64 bytes (NEAR, Aptos).
    Ed25519,
    /// Schnorrkel of the bytes with the context `substrate`: 64 bytes (Polkadot).
    Sr25519,
}

/// Every algorithm.
pub const KEY_ALGORITHMS: [KeyAlgorithm; 3] = [KeyAlgorithm::Secp256k1, KeyAlgorithm::Ed25519, KeyAlgorithm::Sr25519];

impl KeyAlgorithm {
    /// The name, as it stands in a key's file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secp256k1 => "secp256k1",
            Self::Ed25519 => "ed25519",
            Self::Sr25519 => "sr25519",
        }
    }
}

/// The public half of a signer's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// How it signs.
    pub algorithm: KeyAlgorithm,
    /// 33 bytes compressed for secp256k1, 32 bytes else.
    pub bytes: Vec<u8>,
}
