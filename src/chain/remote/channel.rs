//! The way to a service outside: TLS with a certificate of our own, or plain text to this machine.

use std::net::IpAddr;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::chain::ChainError;

/// What is shown to the service, and whose certificate is taken: each in PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The issuers of the service's certificate.
    pub issuers: Vec<u8>,
    /// Our certificate.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A channel to `url`, connected when it is first used and again after it was lost; each request is given up after `longest`,
/// which it tells the service.
///
/// `Refused` where the URL is none, where plain text would leave this machine, and for TLS without credentials.
pub fn channel(url: &str, credentials: Option<&Credentials>, longest: Duration) -> Result<Channel, ChainError> {
    let refused = |why: &str| ChainError::Refused(format!("{url}: {why}"));
    let uri: Uri = url.parse().map_err(|_| refused("is no URL"))?;
    let host = uri.host().ok_or_else(|| refused("names no host"))?.trim_matches(['[', ']']).to_owned();
    let endpoint = Endpoint::from(uri.clone()).timeout(longest).connect_timeout(longest);
    let endpoint = match (uri.scheme_str(), credentials) {
        (Some("https"), Some(credentials)) => {
            let Credentials { issuers, certificate, key } = credentials;
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(issuers))
                .identity(Identity::from_pem(certificate, key))
                .domain_name(host);
            endpoint.tls_config(tls).map_err(|error| refused(&format!("its TLS: {error}")))?
        }
        (Some("https"), None) => return Err(refused("needs the service's issuers, and a certificate and key of ours")),
        (Some("http"), None) if is_loopback(&host) => endpoint,
        (Some("http"), None) => return Err(refused("is plain text, which is for this machine alone; use https")),
        (Some("http"), Some(_)) => return Err(refused("is plain text, and certificates are set; use https")),
        _ => return Err(refused("is neither http nor https")),
    };
    Ok(endpoint.connect_lazy())
}

/// Addresses alone: what a name stands for is decided elsewhere, and may change.
fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(url: &str, credentials: Option<&Credentials>) -> String {
        channel(url, credentials, Duration::from_secs(1)).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn plain_text_stays_on_this_machine() {
        for url in ["http://127.0.0.1:7000", "http://[::1]:7000"] {
            assert!(channel(url, None, Duration::from_secs(1)).is_ok(), "{url}");
        }
        for url in ["http://localhost:7000", "http://10.0.0.1:7000", "http://0.0.0.0:7000", "http://adapter:7000"] {
            assert!(why(url, None).contains("is plain text, which is for this machine alone"), "{url}");
        }
        let none = Credentials { issuers: Vec::new(), certificate: Vec::new(), key: Vec::new() };
        assert!(why("https://adapter:7000", None).contains("needs the service's issuers"));
        assert!(why("https://adapter:7000", Some(&none)).contains("its TLS"));
        assert!(why("http://127.0.0.1:7000", Some(&none)).contains("certificates are set"));
        assert!(why("ftp://127.0.0.1:7000", None).contains("neither http nor https"));
        assert!(why("nowhere", None).contains("neither"));
    }
}
