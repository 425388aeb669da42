//! `softstake adapter check`, with its settings read and its connections made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::NodeError;
use crate::chain::remote::channel::{Credentials, channel};
pub use crate::chain::remote::check::{Line, Report, Verdict};
use crate::chain::remote::check::{Options, run};
use crate::domain::ids::ValidatorId;

/// The files of a certificate to show, and of the issuers that are trusted, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The issuers of the services' certificates.
    pub ca: PathBuf,
    /// The certificate to show.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Which adapter to check, and how.
#[derive(Clone, Debug)]
pub struct CheckSettings {
    /// The adapter's URL.
    pub endpoint: String,
    /// The signer's URL and its key's name.
    pub signer: Option<(String, String)>,
    /// For https.
    pub tls: Option<TlsFiles>,
    /// Whether small amounts may be moved.
    pub spend: bool,
    /// What tells this run's operations from all others.
    pub run: String,
    /// With whom to delegate.
    pub validator: Option<String>,
    /// How long one call may take.
    pub call: Duration,
    /// How long a transaction is waited for.
    pub patience: Option<Duration>,
    /// How long to wait between two looks.
    pub poll: Duration,
}

/// Holds an adapter against its contract. An error is one of the settings.
pub async fn check(settings: CheckSettings) -> Result<Report, NodeError> {
    let credentials = settings.tls.as_ref().map(read).transpose()?;
    // Plain text shows no certificate; the two ends need not be of one kind.
    let shown = |url: &str| credentials.as_ref().filter(|_| !url.starts_with("http:"));
    let connect = |url: &str| channel(url, shown(url), settings.call);
    let validator = settings.validator.as_deref().map(ValidatorId::new).transpose()?;
    let signer = match &settings.signer {
        Some((url, key_id)) => Some((connect(url)?, key_id.clone())),
        None => None,
    };
    let options = Options {
        adapter: connect(&settings.endpoint)?,
        signer,
        spend: settings.spend,
        run: settings.run,
        validator,
        patience: settings.patience,
        poll: settings.poll,
    };
    Ok(run(options).await)
}

fn read(files: &TlsFiles) -> Result<Credentials, NodeError> {
    let read = |path: &Path| {
        let io = |error| NodeError::Io { what: format!("reading {}", path.display()), error };
        std::fs::read(path).map_err(io)
    };
    Ok(Credentials { issuers: read(&files.ca)?, certificate: read(&files.cert)?, key: read(&files.key)? })
}
