//! The files that say who may come in: read at the start, and again when they change or on SIGHUP.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use secrecy::{ExposeSecret, SecretSlice};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::NodeError;
use super::listener::TlsSlot;
use crate::api::access::identities::{Identities, sha256};
use crate::api::access::{Access, Admission};
use crate::config::{Config, IdentitySettings, TlsSettings};

/// How often repeated refusals are looked at.
const REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// What the files say.
pub(super) struct Credentials {
    /// Who may call.
    pub(super) admission: Admission,
    /// TLS, where it is set.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// The SHA-256 of all that was read.
    pub(super) seen: [u8; 32],
}

fn setting(key: &str, path: &Path, problem: impl std::fmt::Display) -> NodeError {
    NodeError::Setting { key: key.to_owned(), problem: format!("{}: {problem}", path.display()) }
}

/// A file's bytes, which may be a key's.
fn read(key: &str, path: &Path, read: &mut Vec<[u8; 32]>) -> Result<SecretSlice<u8>, NodeError> {
    let bytes = std::fs::read(path).map_err(|error| setting(key, path, error))?;
    read.push(sha256(&bytes));
    Ok(bytes.into())
}

fn certificates(key: &str, path: &Path, pem: &SecretSlice<u8>) -> Result<Vec<CertificateDer<'static>>, NodeError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret()).collect();
    let chain = parsed.map_err(|error| setting(key, path, format!("it is no PEM file: {error}")))?;
    if chain.is_empty() {
        return Err(setting(key, path, "there is no certificate in it; it has to be in PEM"));
    }
    Ok(chain)
}

/// Reads all files that are set.
pub(super) fn load(config: &Config) -> Result<Credentials, NodeError> {
    let mut seen = Vec::new();
    let Some(IdentitySettings { file, .. }) = &config.identity else {
        return Ok(Credentials { admission: Admission::Open, tls: None, seen: sha256(&[]) });
    };
    let text = read("identity.file", file, &mut seen)?;
    let text = std::str::from_utf8(text.expose_secret()).map_err(|error| setting("identity.file", file, error))?;
    let identities = Identities::parse(text).map_err(|error| setting("identity.file", file, error))?;
    let (tls, issuers) = match &config.tls {
        None => (None, None),
        Some(settings) => {
            let (tls, issuers) = load_tls(settings, &mut seen)?;
            (Some(Arc::new(tls)), issuers)
        }
    };
    let admission = Admission::Known { identities, issuers };
    Ok(Credentials { admission, tls, seen: sha256(seen.as_flattened()) })
}

type Issuers = Arc<dyn ClientCertVerifier>;

fn load_tls(settings: &TlsSettings, seen: &mut Vec<[u8; 32]>) -> Result<(ServerConfig, Option<Issuers>), NodeError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let TlsSettings { cert_file, key_file, client_ca_file, require_client_certificate } = settings;
    let chain = certificates("tls.cert_file", cert_file, &read("tls.cert_file", cert_file, seen)?)?;
    let key = read("tls.key_file", key_file, seen)?;
    if std::fs::metadata(key_file).is_ok_and(|file| file.permissions().mode() & 0o007 != 0) {
        let file = key_file.display();
        tracing::warn!(%file, "the private key can be read by everyone on this machine; take their rights from it");
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret())
        .map_err(|_| setting("tls.key_file", key_file, "there is no private key in it; it has to be in PEM"))?;
    let issuers = match client_ca_file {
        None => None,
        Some(path) => Some(issuers(path, provider.clone(), seen)?),
    };
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| setting("tls.cert_file", cert_file, error))?;
    let builder = match &issuers {
        None => builder.with_no_client_auth(),
        Some(issuers) if *require_client_certificate => builder.with_client_cert_verifier(issuers.clone()),
        Some(issuers) => builder.with_client_cert_verifier(Arc::new(Shown(issuers.clone()))),
    };
    let mut tls = builder
        .with_single_cert(chain, key)
        .map_err(|error| setting("tls.cert_file", cert_file, format!("it does not go with tls.key_file: {error}")))?;
    tls.alpn_protocols.push(b"h2".to_vec());
    Ok((tls, issuers))
}

fn issuers(path: &Path, provider: Arc<CryptoProvider>, seen: &mut Vec<[u8; 32]>) -> Result<Issuers, NodeError> {
    let key = "tls.client_ca_file";
    let mut roots = RootCertStore::empty();
    for issuer in certificates(key, path, &read(key, path, seen)?)? {
        roots.add(issuer).map_err(|error| setting(key, path, error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| setting(key, path, error))?;
    Ok(verifier)
}

/// Takes any certificate whose key the client has, and none at all: who signed it, and whether its time is now, is judged
/// at each call, so that a refusal has a reason and a record, and a certificate that stops being good is refused on
/// connections that are open.
#[derive(Debug)]
struct Shown(Issuers);

impl ClientCertVerifier for Shown {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _first: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Reads the files again.
pub(super) struct Reloader {
    config: Config,
    access: Arc<Access>,
    tls: Option<TlsSlot>,
    seen: Mutex<[u8; 32]>,
    done: Counter,
    failed: Counter,
}

impl Reloader {
    /// Of files that were `loaded` once.
    pub(super) fn new(config: Config, access: Arc<Access>, tls: Option<TlsSlot>, loaded: [u8; 32]) -> Self {
        let (done, failed) = (Counter::default(), Counter::default());
        Self { config, access, tls, seen: Mutex::new(loaded), done, failed }
    }

    /// Registers what is counted.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Times that the identity and TLS files were read again and taken";
        registry.register("credential_reloads", help, self.done.clone());
        let help = "Times that the identity or TLS files had changed and could not be taken";
        registry.register("credential_reload_failures", help, self.failed.clone());
    }

    /// Reads all files and goes by them from the next call and the next connection on, if they have changed. What can't be
    /// read or kept changes nothing.
    pub(super) fn reload(&self) -> Result<(), NodeError> {
        // Held from before the files are read, so that an older reading never comes after a newer one.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = match load(&self.config) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.failed.inc();
                tracing::error!(%error, "the identity and TLS files could not be taken; those read before go on to hold");
                return Err(error);
            }
        };
        if *seen == loaded.seen {
            return Ok(());
        }
        *seen = loaded.seen;
        if let (Some(slot), Some(tls)) = (&self.tls, loaded.tls) {
            slot.exchange(tls);
        }
        self.access.exchange(loaded.admission);
        self.done.inc();
        tracing::info!("the identity and TLS files were read again");
        Ok(())
    }

    /// Tells of the refusals that were only counted so far.
    pub(super) fn finish(&self) {
        self.access.finish();
    }

    /// Looks at the files from time to time and on SIGHUP, until the service stops.
    pub(super) async fn run(self: Arc<Self>, mut hangup: Signal, mut stopping: watch::Receiver<bool>) {
        let seconds = self.config.identity.as_ref().map_or(1, |identity| identity.reload_interval_seconds);
        let mut looks = tokio::time::interval(Duration::from_secs(seconds.max(1)));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refusals = tokio::time::interval(REFUSALS_EVERY);
        refusals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                _ = hangup.recv() => {}
                _ = refusals.tick() => {
                    self.access.step();
                    continue;
                }
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            let this = self.clone();
            // An error is logged; a panic there has to end nothing else.
            drop(tokio::task::spawn_blocking(move || this.reload()).await);
        }
    }
}

/// SIGHUP, which ends the process no longer from here on.
pub(super) fn hangup() -> Result<Signal, NodeError> {
    signal(SignalKind::hangup()).map_err(|error| NodeError::Io { what: "listening to SIGHUP".to_owned(), error })
}
