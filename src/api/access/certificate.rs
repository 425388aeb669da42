//! Who is at the other end of a connection: its address, and the certificate that it has shown.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::extensions::GeneralName;

use super::identities::{Hash, sha256};
use crate::domain::time::UnixSeconds;

/// For how long a chain that was verified is taken without another look: what expires is refused that much later at most.
const VERIFIED_FOR_SECONDS: i64 = 10;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address and port, or that of the socket file.
    pub address: Arc<str>,
    /// The address without a port: one machine, whatever it connects from.
    pub machine: Arc<str>,
    /// What it has shown, if it has.
    pub certificate: Option<Arc<Certificate>>,
}

/// A client's certificate. That the client has its key is proved by the handshake; who signed it is not known yet.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    /// The SHA-256 of the certificate.
    pub fingerprint: Hash,
    /// Its subject alternative names, as `URI:…`, `DNS:…` or `email:…`.
    pub names: Vec<String>,
    verified: Mutex<Option<(u64, UnixSeconds)>>,
}

/// Why a certificate is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// Its time is over, or has not begun.
    Expired,
    /// None of the issuers has signed it for a client.
    Issuer,
}

impl Certificate {
    /// The certificate at the front of `chain`; `None` without one.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        let first = chain.first()?;
        let fingerprint = sha256(first);
        let names = names(first);
        Some(Self { chain, fingerprint, names, verified: Mutex::new(None) })
    }

    /// Whether one of the issuers has signed it and its time is now. `generation` stands for the issuers: a look at the
    /// same ones is not repeated for some seconds.
    pub fn verify(&self, issuers: &dyn ClientCertVerifier, generation: u64, now: UnixSeconds) -> Result<(), Untrusted> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(of, at): (u64, UnixSeconds)| {
            of == generation && (0..VERIFIED_FOR_SECONDS).contains(&now.get().saturating_sub(at.get()))
        };
        if verified.is_some_and(fresh) {
            return Ok(());
        }
        *verified = None;
        let Some((first, others)) = self.chain.split_first() else { return Err(Untrusted::Issuer) };
        let seconds = u64::try_from(now.get()).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        issuers.verify_client_cert(first, others, time).map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                rustls::CertificateError::Expired
                | rustls::CertificateError::ExpiredContext { .. }
                | rustls::CertificateError::NotValidYet
                | rustls::CertificateError::NotValidYetContext { .. },
            ) => Untrusted::Expired,
            _ => Untrusted::Issuer,
        })?;
        *verified = Some((generation, now));
        Ok(())
    }
}

/// The subject alternative names of a certificate that can stand for a principal.
fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let named = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
        _ => None,
    });
    named.collect()
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}
