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

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
        date_time_ymd,
    };
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    /// 2026-11-22T00:00:00Z, two days before the certificate ends.
    const NOW: UnixSeconds = UnixSeconds::new(1_795_305_600);
    const END: i64 = 1_795_305_600 + 2 * 86_400;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn issuers(authority: &CertifiedIssuer<'static, KeyPair>) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
    }

    fn signed(authority: &CertifiedIssuer<'static, KeyPair>, purpose: ExtendedKeyUsagePurpose) -> Certificate {
        let mut params = CertificateParams::new(vec!["ledger.internal".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://exchange/ledger".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("a@b.example".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(2026, 11, 1);
        params.not_after = date_time_ymd(2026, 11, 24);
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap();
        Certificate::new(vec![certificate.der().clone()]).unwrap()
    }

    #[test]
    fn its_names_are_those_that_can_stand_for_a_principal() {
        let certificate = signed(&authority(), ExtendedKeyUsagePurpose::ClientAuth);
        assert_eq!(certificate.names, ["DNS:ledger.internal", "URI:spiffe://exchange/ledger", "email:a@b.example"]);
        assert!(Certificate::new(Vec::new()).is_none());
        assert!(Certificate::new(vec![vec![1, 2, 3].into()]).unwrap().names.is_empty(), "no certificate has no names");
    }

    #[test]
    fn it_is_refused_once_its_time_is_over_though_it_was_good_before() {
        let authority = authority();
        let (issuers, certificate) = (issuers(&authority), signed(&authority, ExtendedKeyUsagePurpose::ClientAuth));
        let at = |seconds: i64| certificate.verify(issuers.as_ref(), 0, UnixSeconds::new(seconds));
        assert_eq!(at(NOW.get()), Ok(()));
        assert_eq!(at(END - 1), Ok(()));
        assert_eq!(at(END + VERIFIED_FOR_SECONDS), Err(Untrusted::Expired));
        assert_eq!(at(NOW.get() - 40 * 86_400), Err(Untrusted::Expired), "and before it has begun");
    }

    #[test]
    fn other_issuers_are_asked_anew_and_a_servers_certificate_is_no_clients() {
        let (ours, theirs) = (authority(), authority());
        let certificate = signed(&ours, ExtendedKeyUsagePurpose::ClientAuth);
        assert_eq!(certificate.verify(issuers(&ours).as_ref(), 0, NOW), Ok(()));
        assert_eq!(certificate.verify(issuers(&theirs).as_ref(), 1, NOW), Err(Untrusted::Issuer));
        assert_eq!(certificate.verify(issuers(&ours).as_ref(), 1, NOW), Ok(()), "a refusal is not remembered");
        let server = signed(&ours, ExtendedKeyUsagePurpose::ServerAuth);
        assert_eq!(server.verify(issuers(&ours).as_ref(), 0, NOW), Err(Untrusted::Issuer));
    }
}
