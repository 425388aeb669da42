//! One call, tried until it is answered for good.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Response, Status};

use super::error::{ClientError, Refusal};

/// How a client waits and tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long one attempt of one call may take.
    pub deadline: Duration,
    /// How often a call is tried, the first time included; at least once.
    pub attempts: u32,
    /// The pause before the second attempt. It doubles from attempt to attempt.
    pub first_pause: Duration,
    /// The longest pause between two attempts.
    pub longest_pause: Duration,
    /// How long a stream may leave what was sent without an answer before it is opened anew.
    pub stall: Duration,
    /// A bearer token, sent with every call.
    pub token: Option<BearerToken>,
    /// TLS, for an address that begins with `https://`.
    pub tls: Option<Tls>,
}

/// A bearer token. It is never shown.
#[derive(Clone)]
pub struct BearerToken(SecretString);

impl BearerToken {
    /// The token `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// The token that is all there is in a file, but for blanks and line ends around it.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let text = SecretString::from(std::fs::read_to_string(path)?);
        Ok(Self::new(text.expose_secret().trim()))
    }

    pub(super) fn text(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for BearerToken {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for BearerToken {}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(...)")
    }
}

/// TLS to a server whose address begins with `https://`.
#[derive(Clone)]
pub struct Tls {
    /// The issuers of the server's certificate, in PEM.
    pub server_ca: String,
    /// The certificate that this client shows, with those between it and its issuer, and its private key, both in PEM;
    /// none where a token says who it is.
    pub identity: Option<(String, SecretString)>,
    /// The name that the server's certificate has to have, where it is not that of the address.
    pub server_name: Option<String>,
}

impl Tls {
    /// TLS to a server that one of `server_ca`, in PEM, has signed.
    pub fn new(server_ca: impl Into<String>) -> Self {
        Self { server_ca: server_ca.into(), identity: None, server_name: None }
    }

    /// The same, showing a certificate; both in PEM.
    #[must_use]
    pub fn with_identity(self, cert: impl Into<String>, key: impl Into<SecretString>) -> Self {
        Self { identity: Some((cert.into(), key.into())), ..self }
    }

    /// The same for a channel that is made elsewhere.
    pub fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.server_ca));
        if let Some((cert, key)) = &self.identity {
            config = config.identity(Identity::from_pem(cert, key.expose_secret()));
        }
        match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        }
    }

    fn parts(&self) -> (&str, Option<(&str, &str)>, Option<&str>) {
        let identity = self.identity.as_ref().map(|(cert, key)| (cert.as_str(), key.expose_secret()));
        (&self.server_ca, identity, self.server_name.as_deref())
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            attempts: 10,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            token: None,
            tls: None,
        }
    }
}

/// The pauses of one call, and how many attempts it has had.
#[derive(Debug)]
pub(super) struct Attempts {
    pauses: ExponentialBackoff,
    made: u32,
}

impl Attempts {
    pub(super) fn new(options: &Options) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(options.first_pause)
            .with_max_delay(options.longest_pause)
            .with_max_times(usize::try_from(options.attempts.saturating_sub(1)).unwrap_or(usize::MAX))
            .with_jitter();
        Self { pauses: pauses.build(), made: 0 }
    }

    /// Waits before the next attempt, or says that `refusal` is the end of it.
    pub(super) async fn wait(&mut self, refusal: Refusal) -> Result<(), ClientError> {
        self.made = self.made.saturating_add(1);
        if !refusal.is_transient() {
            return Err(ClientError::Refused(Box::new(refusal)));
        }
        let Some(pause) = self.pauses.next() else {
            return Err(ClientError::OutcomeUnknown { attempts: self.made, last: Box::new(refusal) });
        };
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// A request that ends by itself at the deadline, at the server and here.
pub(super) fn with_deadline<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// One attempt, within the deadline.
pub(super) async fn once<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Refusal::from(status)),
        Err(_) => Err(Refusal::from(Status::deadline_exceeded(format!("no answer within {deadline:?}")))),
    }
}

/// Attempts until there is an answer for good. `call` sends the same message each time.
pub(super) async fn until_answered<T, F>(options: &Options, mut call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut attempts = Attempts::new(options);
    loop {
        match once(options.deadline, call()).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => attempts.wait(refusal).await?,
        }
    }
}
