//! Where the service listens, and who may come in: TLS, the identity file, and what must not be left open.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::Problems;
use super::raw::Raw;
use super::{ClockSettings, Config};

/// Where gRPC is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On an address.
    Tcp(SocketAddr),
    /// On a socket file.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Who may connect: 0o600 is the service's own user, 0o660 also its group.
        mode: u32,
    },
}

impl Listen {
    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// TLS of the gRPC port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate and those between it and its issuer, in PEM.
    pub cert_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
    /// The issuers of clients' certificates, in PEM; none takes tokens alone.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client without a certificate of theirs is turned away by the handshake already.
    pub require_client_certificate: bool,
}

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// The principals with their roles, certificates and tokens.
    pub file: PathBuf,
    /// How often this file and those of TLS are looked at for changes, in seconds.
    pub reload_interval_seconds: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawTls {
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub client_ca_file: Option<String>,
    pub require_client_certificate: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawIdentity {
    pub file: Option<String>,
    pub reload_interval_seconds: u64,
}

impl Default for RawIdentity {
    fn default() -> Self {
        Self { file: None, reload_interval_seconds: 10 }
    }
}

/// A path, where one is set. An empty one is a mistake, such as a variable that nobody has filled in: taken for none, it
/// would leave open what somebody meant to close.
fn path(problems: &mut Problems, key: &str, text: Option<&String>) -> Option<PathBuf> {
    let text = text?;
    if text.is_empty() {
        problems.add(key, "it is empty; name a file, or remove it");
        return None;
    }
    Some(PathBuf::from(text))
}

/// Where gRPC is served.
pub(super) fn listen(problems: &mut Problems, raw: &Raw) -> Listen {
    let modes = [("0600", 0o600), ("0660", 0o660)];
    let mode = problems.one_of("socket_mode", &raw.socket_mode, &modes).unwrap_or(0o600);
    let Some(socket) = raw.listen.strip_prefix("unix:") else {
        return Listen::Tcp(problems.address("listen", &raw.listen));
    };
    if socket.is_empty() {
        problems.add("listen", "the socket has no path; write it as unix:/run/softstake/softstake.sock");
    }
    Listen::Unix { path: PathBuf::from(socket), mode }
}

/// TLS, where any of it is set.
pub(super) fn tls(problems: &mut Problems, raw: &RawTls) -> Option<TlsSettings> {
    let before = problems.len();
    let cert = path(problems, "tls.cert_file", raw.cert_file.as_ref());
    let key = path(problems, "tls.key_file", raw.key_file.as_ref());
    let client_ca_file = path(problems, "tls.client_ca_file", raw.client_ca_file.as_ref());
    if problems.len() > before {
        return None;
    }
    if raw.require_client_certificate && client_ca_file.is_none() {
        let problem = "it is not set, and tls.require_client_certificate asks for certificates of its issuers; set it";
        problems.add("tls.client_ca_file", problem);
    }
    let whole = match (cert, key) {
        (Some(cert_file), Some(key_file)) => Some((cert_file, key_file)),
        (Some(_), None) => {
            problems.add("tls.key_file", "it is not set; name the file with the private key of tls.cert_file");
            None
        }
        (None, Some(_)) => {
            problems.add("tls.cert_file", "it is not set; name the file with the certificate of tls.key_file");
            None
        }
        (None, None) => {
            if client_ca_file.is_some() {
                let problem = "it is not set, and only TLS asks clients for certificates; set it and tls.key_file";
                problems.add("tls.cert_file", problem);
            }
            None
        }
    };
    let require_client_certificate = raw.require_client_certificate;
    whole.map(|(cert_file, key_file)| TlsSettings { cert_file, key_file, client_ca_file, require_client_certificate })
}

/// The identity file, where one is set.
pub(super) fn identity(problems: &mut Problems, raw: &RawIdentity) -> Option<IdentitySettings> {
    problems.range("identity.reload_interval_seconds", raw.reload_interval_seconds, 1..=86_400);
    let reload_interval_seconds = raw.reload_interval_seconds;
    let file = path(problems, "identity.file", raw.file.as_ref());
    file.map(|file| IdentitySettings { file, reload_interval_seconds })
}

/// What may be reached from where.
pub(super) fn exposure(problems: &mut Problems, raw: &Raw, config: &Config) {
    let local = config.listen.is_local();
    let any_tls = config.tls.is_some() || raw.tls != RawTls::default();
    if !local && !any_tls {
        problems.add(
            "listen",
            format!(
                "{} can be reached from outside, where plain text is not spoken; set tls.cert_file and tls.key_file, or \
                 listen on 127.0.0.1, [::1] or unix:/a/path",
                config.listen
            ),
        );
    }
    if matches!(config.listen, Listen::Unix { .. }) && any_tls {
        problems
            .add("tls.cert_file", "a unix socket speaks plain text, its mode guards it; remove [tls], or set listen");
    }
    let emptied = raw.identity.file.as_ref().is_some_and(String::is_empty);
    if config.identity.is_none() && !emptied && (!local || any_tls) {
        let problem = "it is not set, and nobody could be told from anybody; name a file with principals and their roles \
                       (softstake dev-certs writes one to begin with)";
        problems.add("identity.file", problem);
    }
    if !local && !config.allow_simulated && config.pools.iter().any(|pool| pool.chain.is_simulated()) {
        problems.add(
            "allow_simulated",
            "simulated pools are not served outside loopback; listen on 127.0.0.1, or set it to true where everyone knows \
             that nothing there is real",
        );
    }
    if config.clock != ClockSettings::System {
        if !local {
            problems.add("clock.kind", "only the system clock runs outside loopback; set it to system");
        }
        if config.pools.iter().any(|pool| !pool.chain.is_simulated()) {
            problems.add("clock.kind", "a real chain keeps real time; set it to system");
        }
    }
    if !config.metrics_listen.ip().is_loopback() && !config.allow_remote_metrics {
        problems.add(
            "metrics_listen",
            format!(
                "{} can be reached from outside, and metrics are served to whoever asks; listen on 127.0.0.1, or set \
                 allow_remote_metrics = true where a network policy guards it",
                config.metrics_listen
            ),
        );
    }
    if config.listen == Listen::Tcp(config.metrics_listen) && config.metrics_listen.port() != 0 {
        problems.add("metrics_listen", "it is the same as listen; choose another port");
    }
}
