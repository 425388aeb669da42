//! The files that say who may come in: read at the start, and again when they change or on SIGHUP.

use std::collections::BTreeMap;
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
    /// What a later reading is held against; `None` without an identity file.
    pub(super) kept: Option<Kept>,
}

/// What is gone by. Identity and TLS are read each by itself, so that what is wrong with one holds up nothing of the other.
pub(super) struct Kept {
    identity: Identity,
    tls: Option<Tls>,
}

/// What the identity file says.
struct Identity {
    identities: Identities,
    /// The SHA-256 of the file.
    seen: [u8; 32],
}

/// What the files of TLS say.
struct Tls {
    server: Arc<ServerConfig>,
    issuers: Option<Issuers>,
    /// The SHA-256 of the files.
    seen: [u8; 32],
}

type Issuers = Arc<dyn ClientCertVerifier>;

impl Kept {
    fn admission(&self) -> Admission {
        let issuers = self.tls.as_ref().and_then(|tls| tls.issuers.clone());
        Admission::Known { identities: self.identity.identities.clone(), issuers }
    }
}

fn setting(key: &str, path: &Path, problem: impl std::fmt::Display) -> NodeError {
    NodeError::Setting { key: key.to_owned(), problem: format!("{}: {problem}", path.display()) }
}

/// A file's bytes, which may be a key's.
fn read(key: &str, path: &Path) -> Result<SecretSlice<u8>, NodeError> {
    Ok(std::fs::read(path).map_err(|error| setting(key, path, error))?.into())
}

/// The certificates of a file in PEM, of which there is at least one.
pub(super) fn certificates(
    key: &str,
    path: &Path,
    pem: &SecretSlice<u8>,
) -> Result<Vec<CertificateDer<'static>>, NodeError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret()).collect();
    let chain = parsed.map_err(|error| setting(key, path, format!("it is no PEM file: {error}")))?;
    if chain.is_empty() {
        return Err(setting(key, path, "there is no certificate in it; it has to be in PEM"));
    }
    Ok(chain)
}

/// Reads all files that are set.
pub(super) fn load(config: &Config) -> Result<Credentials, NodeError> {
    let Some(settings) = &config.identity else {
        if config.tls.is_some() {
            let problem = "it is not set, and whoever reaches the TLS port could do everything; name an identity file";
            return Err(NodeError::Setting { key: "identity.file".to_owned(), problem: problem.to_owned() });
        }
        return Ok(Credentials { admission: Admission::Open, tls: None, kept: None });
    };
    let identity = IdentityFile::read(settings)?.parse()?;
    let tls = config.tls.as_ref().map(|settings| TlsFiles::read(settings)?.parse()).transpose()?;
    let server = tls.as_ref().map(|tls| tls.server.clone());
    let kept = Kept { identity, tls };
    Ok(Credentials { admission: kept.admission(), tls: server, kept: Some(kept) })
}

/// The identity file as it was read.
struct IdentityFile<'a> {
    path: &'a Path,
    bytes: SecretSlice<u8>,
    seen: [u8; 32],
}

impl<'a> IdentityFile<'a> {
    fn read(settings: &'a IdentitySettings) -> Result<Self, NodeError> {
        let bytes = read("identity.file", &settings.file)?;
        let seen = sha256(bytes.expose_secret());
        Ok(Self { path: &settings.file, bytes, seen })
    }

    fn parse(&self) -> Result<Identity, NodeError> {
        let wrong = |problem: &dyn std::fmt::Display| setting("identity.file", self.path, problem);
        let text = std::str::from_utf8(self.bytes.expose_secret()).map_err(|error| wrong(&error))?;
        let identities = Identities::parse(text).map_err(|error| wrong(&error))?;
        Ok(Identity { identities, seen: self.seen })
    }
}

/// The files of TLS as they were read.
struct TlsFiles<'a> {
    settings: &'a TlsSettings,
    cert: SecretSlice<u8>,
    key: SecretSlice<u8>,
    client_ca: Option<SecretSlice<u8>>,
    seen: [u8; 32],
}

impl<'a> TlsFiles<'a> {
    fn read(settings: &'a TlsSettings) -> Result<Self, NodeError> {
        let cert = read("tls.cert_file", &settings.cert_file)?;
        let key = read("tls.key_file", &settings.key_file)?;
        let client_ca = settings.client_ca_file.as_deref().map(|path| read("tls.client_ca_file", path)).transpose()?;
        let hashes: Vec<[u8; 32]> = [Some(&cert), Some(&key), client_ca.as_ref()]
            .iter()
            .flatten()
            .map(|file| sha256(file.expose_secret()))
            .collect();
        Ok(Self { settings, cert, key, client_ca, seen: sha256(hashes.as_flattened()) })
    }

    fn parse(&self) -> Result<Tls, NodeError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let TlsSettings { cert_file, key_file, client_ca_file, require_client_certificate } = self.settings;
        let chain = certificates("tls.cert_file", cert_file, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret())
            .map_err(|_| setting("tls.key_file", key_file, "there is no private key in it; it has to be in PEM"))?;
        let issuers = match (client_ca_file, &self.client_ca) {
            (Some(path), Some(pem)) => Some(issuers(path, pem, provider.clone())?),
            _ => None,
        };
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| setting("tls.cert_file", cert_file, error))?;
        let builder = match &issuers {
            None => builder.with_no_client_auth(),
            Some(issuers) if *require_client_certificate => builder.with_client_cert_verifier(issuers.clone()),
            Some(issuers) => builder.with_client_cert_verifier(Arc::new(Shown(issuers.clone()))),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| {
            setting("tls.cert_file", cert_file, format!("it does not go with tls.key_file: {error}"))
        })?;
        server.alpn_protocols.push(b"h2".to_vec());
        if std::fs::metadata(key_file).is_ok_and(|file| file.permissions().mode() & 0o007 != 0) {
            let file = key_file.display();
            tracing::warn!(%file, "the private key can be read by everyone on this machine; take their rights from it");
        }
        Ok(Tls { server: Arc::new(server), issuers, seen: self.seen })
    }
}

fn issuers(path: &Path, pem: &SecretSlice<u8>, provider: Arc<CryptoProvider>) -> Result<Issuers, NodeError> {
    let key = "tls.client_ca_file";
    let mut roots = RootCertStore::empty();
    for issuer in certificates(key, path, pem)? {
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
    reading: Mutex<Reading>,
    done: Counter,
    failed: Counter,
}

/// How reading has gone so far.
struct Reading {
    kept: Option<Kept>,
    /// What was wrong with the files of each key the last time, so that it is logged once and not at every look.
    told: BTreeMap<&'static str, String>,
}

impl Reloader {
    /// Of files that were read once.
    pub(super) fn new(config: Config, access: Arc<Access>, tls: Option<TlsSlot>, kept: Option<Kept>) -> Self {
        let (done, failed) = (Counter::default(), Counter::default());
        Self { config, access, tls, reading: Mutex::new(Reading { kept, told: BTreeMap::new() }), done, failed }
    }

    /// Registers what is counted.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Times that the identity file or those of TLS were read again and taken";
        registry.register("credential_reloads", help, self.done.clone());
        let help = "Times that the identity file or those of TLS could not be read or taken again";
        registry.register("credential_reload_failures", help, self.failed.clone());
    }

    /// Reads all files and goes by them from the next call and the next connection on, if they have changed. What can't be
    /// read or kept changes nothing of its own: an identity file is taken whatever is wrong with those of TLS, and they
    /// whatever is wrong with it. The error is the first one's.
    pub(super) fn reload(&self) -> Result<(), NodeError> {
        let Some(settings) = &self.config.identity else { return Ok(()) };
        // Held from before the files are read, so that an older reading never comes after a newer one.
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading { kept: Some(kept), told } = &mut *reading else { return Ok(()) };
        let identity = IdentityFile::read(settings).and_then(|file| {
            if file.seen == kept.identity.seen {
                return Ok(false);
            }
            kept.identity = file.parse()?;
            Ok(true)
        });
        let tls = self.config.tls.as_ref().map_or(Ok(false), |settings| {
            let files = TlsFiles::read(settings)?;
            if kept.tls.as_ref().is_some_and(|tls| tls.seen == files.seen) {
                return Ok(false);
            }
            let tls = files.parse()?;
            if let Some(slot) = &self.tls {
                slot.exchange(tls.server.clone());
            }
            kept.tls = Some(tls);
            Ok(true)
        });
        if matches!((&identity, &tls), (Ok(true), _) | (_, Ok(true))) {
            self.access.exchange(kept.admission());
            self.done.inc();
            let taken = |read: &Result<bool, NodeError>| matches!(read, Ok(true));
            tracing::info!(identity = taken(&identity), tls = taken(&tls), "files of credentials were read again");
        }
        let mut first = Ok(());
        for (of, read) in [("identity.file", identity), ("tls", tls)] {
            match read {
                Ok(_) => drop(told.remove(of)),
                Err(error) => {
                    self.failed.inc();
                    let problem = error.to_string();
                    if told.get(of) != Some(&problem) {
                        tracing::error!(%error, of, "files could not be taken; what they said before goes on to hold");
                        told.insert(of, problem);
                    }
                    first = first.and(Err(error));
                }
            }
        }
        first
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
