//! Who is at the other end of a connection: its address, and the certificate that it has shown.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::extensions::GeneralName;

use super::identities::{Hash, sha256};
use crate::domain::time::UnixSeconds;

/// For how long the verdict on a chain is taken without another look, for good or ill, while none of its times ends.
const VERDICT_FOR_SECONDS: i64 = 10;

/// The most certificates of a chain, the client's own included. To verify one takes up to a signature of each.
pub const MAX_CHAIN: usize = 4;

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
    /// When each of the chain is valid no more.
    ends: Vec<UnixSeconds>,
    verdict: Mutex<Option<Verdict>>,
}

/// What was found of a chain.
#[derive(Clone, Copy)]
struct Verdict {
    /// By which issuers.
    generation: u64,
    at: UnixSeconds,
    /// When it ends that it is good.
    found: Result<Option<UnixSeconds>, Untrusted>,
}

/// Why a certificate is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// Its time is over, or has not begun.
    Expired,
    /// None of the issuers has signed it for a client.
    Issuer,
    /// It comes with more than [`MAX_CHAIN`] certificates, which are not looked at.
    TooLong,
}

impl Untrusted {
    /// Why a verifier did not take it.
    pub fn by(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(
                rustls::CertificateError::Expired
                | rustls::CertificateError::ExpiredContext { .. }
                | rustls::CertificateError::NotValidYet
                | rustls::CertificateError::NotValidYetContext { .. },
            ) => Self::Expired,
            _ => Self::Issuer,
        }
    }

    /// The stable reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "CERTIFICATE_EXPIRED",
            Self::Issuer | Self::TooLong => "CERTIFICATE_UNTRUSTED",
        }
    }
}

impl Certificate {
    /// The certificate at the front of `chain`; `None` without one.
    pub fn new(mut chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        // One past the most is kept, to tell that there were too many.
        chain.truncate(MAX_CHAIN + 1);
        let first = chain.first()?;
        let fingerprint = sha256(first);
        let names = names(first);
        let ends = chain.iter().take(MAX_CHAIN).filter_map(|one| end(one)).collect();
        Some(Self { chain, fingerprint, names, ends, verdict: Mutex::new(None) })
    }

    /// Whether one of the issuers has signed it and its time is now, and when that will have to be asked again.
    /// `generation` stands for the issuers: a look at the same ones is not repeated for some seconds, whatever came of it.
    pub fn verify(
        &self,
        issuers: &dyn ClientCertVerifier,
        generation: u64,
        now: UnixSeconds,
    ) -> Result<Option<UnixSeconds>, Untrusted> {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |last: &Verdict| {
            last.generation == generation
                && (0..VERDICT_FOR_SECONDS).contains(&now.get().saturating_sub(last.at.get()))
                && !last.found.is_ok_and(|end| end.is_some_and(|end| end <= now))
        };
        if let Some(last) = verdict.filter(fresh) {
            return last.found;
        }
        let found = self.look(issuers, now).map(|()| self.ends.iter().filter(|end| **end > now).min().copied());
        *verdict = Some(Verdict { generation, at: now, found });
        found
    }

    fn look(&self, issuers: &dyn ClientCertVerifier, now: UnixSeconds) -> Result<(), Untrusted> {
        let Some((first, others)) = self.chain.split_first() else { return Err(Untrusted::Issuer) };
        if self.chain.len() > MAX_CHAIN {
            return Err(Untrusted::TooLong);
        }
        let seconds = u64::try_from(now.get()).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let verified = issuers.verify_client_cert(first, others, time).map(|_| ());
        verified.map_err(|error| Untrusted::by(&error))
    }
}

/// The first second in which a certificate is valid no more.
fn end(certificate: &[u8]) -> Option<UnixSeconds> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(UnixSeconds::new(parsed.validity().not_after.timestamp().saturating_add(1)))
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
        date_time_ymd,
    };
    use rustls::RootCertStore;
    use rustls::client::danger::HandshakeSignatureValid;
    use rustls::server::WebPkiClientVerifier;
    use rustls::server::danger::ClientCertVerified;

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
        let end = UnixSeconds::new(END + 1);
        assert_eq!((at(NOW.get()), at(END)), (Ok(Some(end)), Ok(Some(end))));
        assert_eq!(at(END + 1), Err(Untrusted::Expired), "to the second");
        assert_eq!(at(NOW.get() - 40 * 86_400), Err(Untrusted::Expired), "and before it has begun");
    }

    /// Issuers that count how often they are asked.
    #[derive(Debug)]
    struct Asked(Arc<dyn ClientCertVerifier>, AtomicUsize);

    impl ClientCertVerifier for Asked {
        fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
            self.0.root_hint_subjects()
        }
        fn verify_client_cert(
            &self,
            first: &CertificateDer<'_>,
            others: &[CertificateDer<'_>],
            now: UnixTime,
        ) -> Result<ClientCertVerified, rustls::Error> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.verify_client_cert(first, others, now)
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls12_signature(message, certificate, signed)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls13_signature(message, certificate, signed)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    }

    #[test]
    fn a_forged_one_is_looked_at_once_in_some_seconds_and_a_long_chain_never() {
        let (ours, theirs) = (authority(), authority());
        let asked = Asked(issuers(&ours), AtomicUsize::new(0));
        let forged = signed(&theirs, ExtendedKeyUsagePurpose::ClientAuth);
        let at = |certificate: &Certificate, seconds: i64| {
            certificate.verify(&asked, 0, UnixSeconds::new(NOW.get() + seconds))
        };
        for second in 0..VERDICT_FOR_SECONDS {
            assert_eq!(at(&forged, second), Err(Untrusted::Issuer));
        }
        assert_eq!(asked.1.load(Ordering::Relaxed), 1);
        assert_eq!(at(&forged, VERDICT_FOR_SECONDS), Err(Untrusted::Issuer));
        assert_eq!(asked.1.load(Ordering::Relaxed), 2);

        let good = signed(&ours, ExtendedKeyUsagePurpose::ClientAuth);
        let chain = |length: usize| {
            let padding = std::iter::repeat_n(theirs.der().clone(), length - 1);
            Certificate::new(good.chain.iter().cloned().chain(padding).collect()).unwrap()
        };
        assert!(at(&chain(MAX_CHAIN), 0).is_ok());
        assert_eq!(at(&chain(MAX_CHAIN + 1), 0), Err(Untrusted::TooLong));
        assert_eq!(asked.1.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn other_issuers_are_asked_anew_and_a_servers_certificate_is_no_clients() {
        let (ours, theirs) = (authority(), authority());
        let certificate = signed(&ours, ExtendedKeyUsagePurpose::ClientAuth);
        assert!(certificate.verify(issuers(&ours).as_ref(), 0, NOW).is_ok());
        assert_eq!(certificate.verify(issuers(&theirs).as_ref(), 1, NOW), Err(Untrusted::Issuer));
        assert!(certificate.verify(issuers(&ours).as_ref(), 2, NOW).is_ok(), "a refusal is of those issuers alone");
        let server = signed(&ours, ExtendedKeyUsagePurpose::ServerAuth);
        assert_eq!(server.verify(issuers(&ours).as_ref(), 0, NOW), Err(Untrusted::Issuer));
    }
}
