//! A key in a file of this machine, for development: whoever reads the file owns the stake, so that money of customers is
//! signed for by [`super::remote`].
//!
//! The file holds one line, the algorithm and the secret as 64 hexadecimal digits: `secp256k1 0f3c...`. For sr25519 it is
//! the seed that a `MiniSecretKey` is expanded from as Substrate does it. Nobody but its owner may have access to it. The
//! secret is wiped from memory when it is dropped, and never shown.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use async_trait::async_trait;
use data_encoding::HEXLOWER_PERMISSIVE;
use schnorrkel::{ExpansionMode, MiniSecretKey};
use zeroize::Zeroizing;

use super::{KEY_ALGORITHMS, KeyAlgorithm, PublicKey};
use crate::chain::{ChainError, Signer, Unsigned};
use crate::domain::ids::OperationId;

/// The context that Substrate signs in: `sp_core::sr25519::SIGNING_CTX`.
const SUBSTRATE_CONTEXT: &[u8] = b"substrate";

/// Longer than any key's file.
const MAX_FILE_BYTES: u64 = 256;

/// What is wrong with a key's file. No message has anything of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read.
    #[error("the key file can't be read: {0}")]
    Io(#[from] io::Error),
    /// Others have access to it.
    #[error("the key file has mode {0:03o}: make it 600, so that nobody but its owner has access to it")]
    Open(u32),
    /// It is not one line of an algorithm and a secret.
    #[error("the key file is not one line of an algorithm (secp256k1, ed25519 or sr25519) and 64 hexadecimal digits")]
    Malformed,
    /// The digits are no secret of that algorithm.
    #[error("the key file holds no secret key of {}", .0.name())]
    NoKey(KeyAlgorithm),
}

enum Secret {
    Secp256k1(k256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
    Sr25519(Box<schnorrkel::Keypair>),
}

/// A signer with its key in memory.
pub struct LocalSigner(Secret);

impl LocalSigner {
    /// The key in the file at `path`. Blocks on the disk.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        let mut file = File::open(path)?;
        let mode = Permissions::mode(&file.metadata()?.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open(mode));
        }
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize));
        file.by_ref().take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => KeyFileError::Malformed,
            _ => KeyFileError::Io(error),
        })?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let (name, digits) = line.split_once(' ').ok_or(KeyFileError::Malformed)?;
        let algorithm = KEY_ALGORITHMS.into_iter().find(|algorithm| algorithm.name() == name);
        let mut secret = Zeroizing::new([0; 32]);
        let fits = HEXLOWER_PERMISSIVE.decode_len(digits.len()) == Ok(secret.len());
        let decoded = fits && HEXLOWER_PERMISSIVE.decode_mut(digits.as_bytes(), secret.as_mut_slice()).is_ok();
        match algorithm {
            Some(algorithm) if decoded => Self::of(algorithm, &secret).ok_or(KeyFileError::NoKey(algorithm)),
            _ => Err(KeyFileError::Malformed),
        }
    }

    /// The key of a secret; `None` where it is none of that algorithm.
    pub fn of(algorithm: KeyAlgorithm, secret: &[u8; 32]) -> Option<Self> {
        Some(Self(match algorithm {
            KeyAlgorithm::Secp256k1 => Secret::Secp256k1(k256::ecdsa::SigningKey::from_slice(secret).ok()?),
            KeyAlgorithm::Ed25519 => Secret::Ed25519(ed25519_dalek::SigningKey::from_bytes(secret)),
            KeyAlgorithm::Sr25519 => {
                let seed = MiniSecretKey::from_bytes(secret).ok()?;
                Secret::Sr25519(Box::new(seed.expand_to_keypair(ExpansionMode::Ed25519)))
            }
        }))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        match &self.0 {
            Secret::Secp256k1(key) => {
                let bytes = key.verifying_key().to_sec1_point(true).as_bytes().to_vec();
                PublicKey { algorithm: KeyAlgorithm::Secp256k1, bytes }
            }
            Secret::Ed25519(key) => {
                PublicKey { algorithm: KeyAlgorithm::Ed25519, bytes: key.verifying_key().to_bytes().to_vec() }
            }
            Secret::Sr25519(key) => {
                PublicKey { algorithm: KeyAlgorithm::Sr25519, bytes: key.public.to_bytes().to_vec() }
            }
        }
    }

    /// The signature of `bytes`.
    pub fn signature(&self, bytes: &[u8]) -> Vec<u8> {
        match &self.0 {
            Secret::Secp256k1(key) => {
                let signature: k256::ecdsa::Signature = k256::ecdsa::signature::Signer::sign(key, bytes);
                signature.normalize_s().to_bytes().to_vec()
            }
            Secret::Ed25519(key) => ed25519_dalek::Signer::sign(key, bytes).to_bytes().to_vec(),
            Secret::Sr25519(key) => key.sign_simple(SUBSTRATE_CONTEXT, bytes).to_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for LocalSigner {
    async fn sign(&self, _: &OperationId, unsigned: &Unsigned) -> Result<Vec<u8>, ChainError> {
        Ok(self.signature(&unsigned.bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use data_encoding::HEXLOWER;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn opened(text: &str, mode: u32) -> Result<LocalSigner, KeyFileError> {
        let (_folder, path) = file(text, mode);
        LocalSigner::open(&path)
    }

    #[test]
    fn a_key_is_read_from_a_file_that_nobody_else_reads() {
        let line = format!("secp256k1 {}", "01".repeat(32));
        for mode in [0o600, 0o400] {
            assert!(opened(&format!("{line}\n"), mode).is_ok());
        }
        for mode in [0o640, 0o604, 0o620, 0o660] {
            assert!(matches!(opened(&line, mode), Err(KeyFileError::Open(found)) if found == mode));
        }
        assert!(matches!(LocalSigner::open(Path::new("/nowhere/key")), Err(KeyFileError::Io(_))));
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
        let planted = "5ec2e7".repeat(10);
        for text in [
            "",
            "secp256k1",
            &format!("secp256k1 {planted}"),
            &format!("rsa {}", "01".repeat(32)),
            &format!("secp256k1 {}\n\n", "01".repeat(32)),
            &format!("secp256k1  {}", "01".repeat(32)),
            &format!("secp256k1 {planted}zzzz"),
            &"x".repeat(10_000),
        ] {
            let error = opened(text, 0o600).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed), "{text}: {error}");
            assert!(!error.to_string().contains("5ec2e7") && !format!("{error:?}").contains("5ec2e7"));
        }
        let zero = opened(&format!("secp256k1 {}", "00".repeat(32)), 0o600);
        assert!(matches!(zero, Err(KeyFileError::NoKey(KeyAlgorithm::Secp256k1))));
        let signer = opened(&format!("ed25519 {planted}abcd"), 0o600).unwrap();
        assert!(!format!("{signer:?}").contains("5ec2e7"));
    }

    #[test]
    fn ed25519_signs_as_rfc_8032_has_it() {
        // RFC 8032, 7.1, TEST 2.
        let secret = HEXLOWER.decode(b"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let signer = LocalSigner::of(KeyAlgorithm::Ed25519, &secret.try_into().unwrap()).unwrap();
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(HEXLOWER.encode(&signer.public_key().bytes), public);
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(HEXLOWER.encode(&signer.signature(&[0x72])), signature);
    }

    #[test]
    fn secp256k1_signs_with_the_low_s() {
        use k256::ecdsa::signature::Verifier;
        let signer = LocalSigner::of(KeyAlgorithm::Secp256k1, &[7; 32]).unwrap();
        let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(&signer.public_key().bytes).unwrap();
        assert_eq!(signer.public_key().bytes.len(), 33);
        for n in 0..64_u8 {
            let signature = k256::ecdsa::Signature::from_slice(&signer.signature(&[n])).unwrap();
            assert!(key.verify(&[n], &signature).is_ok());
            assert_eq!(signature.normalize_s(), signature, "{n}");
        }
    }

    #[test]
    fn sr25519_has_the_key_that_substrate_makes_of_a_seed() {
        // The account //Alice of Substrate's development chains, by its seed.
        let seed = HEXLOWER.decode(b"e5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a").unwrap();
        let signer = LocalSigner::of(KeyAlgorithm::Sr25519, &seed.try_into().unwrap()).unwrap();
        let public = signer.public_key().bytes;
        assert_eq!(HEXLOWER.encode(&public), "d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d");
        let signature = schnorrkel::Signature::from_bytes(&signer.signature(b"bytes")).unwrap();
        let key = schnorrkel::PublicKey::from_bytes(&public).unwrap();
        assert!(key.verify_simple(SUBSTRATE_CONTEXT, b"bytes", &signature).is_ok());
        assert!(key.verify_simple(SUBSTRATE_CONTEXT, b"other", &signature).is_err());
    }
}
