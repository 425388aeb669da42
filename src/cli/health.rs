//! `softstake health`: asks a running service by gRPC whether it serves. For probes, where there is no shell and no curl.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::config::{Config, ConfigError, Listen};

/// What `health` is told.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Where the service is: http://127.0.0.1:7070, https://softstake.example:7070 or unix:/run/softstake/softstake.sock.
    /// Without it, where the settings say that the service listens on this machine.
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
    /// The settings of the service on this machine, as for serve. An address goes before them.
    #[arg(long, value_name = "FILE", env = "SOFTSTAKE_CONFIG")]
    config: Option<PathBuf>,
    /// The issuers of the server's certificate, in PEM. On this machine the certificate of the settings is asked for.
    #[arg(long, value_name = "FILE", requires = "address")]
    ca: Option<PathBuf>,
    /// A certificate to show, in PEM: only where tls.require_client_certificate is set.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A service by its full name, such as softstake.v1.PayoutService. Without it, the server as a whole.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// The longest that the answer may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
}

/// Why it does not serve, or why that can't be known.
#[derive(Debug, thiserror::Error)]
pub(super) enum HealthError {
    /// The settings can't be kept.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is none.
    #[error("`{0}` is no address; write http://HOST:PORT, https://HOST:PORT or unix:/PATH")]
    Address(String),
    /// TLS to an address, and nobody who vouches for it.
    #[error("{0} speaks TLS; name the issuers of its certificate with --ca")]
    NoIssuers(String),
    /// A file of certificates or keys.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answers.
    #[error("{address} does not answer: {problem}")]
    Away {
        /// Where.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// The answer is another one.
    #[error("{address} is {status}")]
    NotServing {
        /// Where.
        address: String,
        /// How it is.
        status: &'static str,
    },
}

/// Where the service is, and how it is spoken to.
#[derive(Clone, Debug)]
enum Way {
    /// A name or an address with a port, in plain text.
    Plain(String),
    /// The same over TLS, to whom `Trust` says.
    Tls(String, Trust),
    /// A socket file, in plain text.
    Socket(PathBuf),
}

/// Whose certificate is taken.
#[derive(Clone, Debug)]
enum Trust {
    /// One that these issuers have signed, for the name of the address.
    Issuers(PathBuf),
    /// The one in this file and no other: the service's own, which may have been signed for any name.
    Own(PathBuf),
}

/// Asks once. Exit status 0 is serving, 1 anything else, with the reason on standard error.
pub(super) async fn run(args: HealthArgs) -> Result<ExitCode, HealthError> {
    let (way, shown) = way(&args)?;
    let client_cert = args.cert.as_deref().zip(args.key.as_deref());
    let away = |problem: String| HealthError::Away { address: shown.clone(), problem };
    let asked = async {
        let channel = connect(&way, client_cert).await?;
        let request = HealthCheckRequest { service: args.service.clone() };
        let answer = HealthClient::new(channel).check(request).await;
        answer.map(|answer| answer.into_inner().status()).map_err(|status| away(status.message().to_owned()))
    };
    let longest = Duration::from_millis(args.timeout_ms);
    let status = tokio::time::timeout(longest, asked).await;
    match status.map_err(|_| away(format!("no answer within {} ms", args.timeout_ms)))?? {
        ServingStatus::Serving => {
            println!("{shown} serves");
            Ok(ExitCode::SUCCESS)
        }
        ServingStatus::NotServing => Err(HealthError::NotServing { address: shown, status: "not serving" }),
        _ => Err(HealthError::NotServing { address: shown, status: "in an unknown state" }),
    }
}

/// The way that the arguments name, and how to show it.
fn way(args: &HealthArgs) -> Result<(Way, String), HealthError> {
    let Some(address) = &args.address else {
        let config = Config::load(args.config.as_deref())?;
        let shown = config.listen.to_string();
        let way = match (config.listen, config.tls) {
            (Listen::Unix { path, .. }, _) => Way::Socket(path),
            (Listen::Tcp(address), None) => Way::Plain(near(address).to_string()),
            (Listen::Tcp(address), Some(tls)) => Way::Tls(near(address).to_string(), Trust::Own(tls.cert_file)),
        };
        return Ok((way, shown));
    };
    let way = if let Some(path) = address.strip_prefix("unix:") {
        Way::Socket(PathBuf::from(path))
    } else if let Some(host) = address.strip_prefix("https://") {
        let ca = args.ca.clone().ok_or_else(|| HealthError::NoIssuers(address.clone()))?;
        Way::Tls(host.to_owned(), Trust::Issuers(ca))
    } else if let Some(host) = address.strip_prefix("http://") {
        Way::Plain(host.to_owned())
    } else {
        return Err(HealthError::Address(address.clone()));
    };
    Ok((way, address.clone()))
}

/// Where a service that listens on `address` is reached from its own machine: one that listens everywhere, on loopback.
fn near(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn connect(way: &Way, client_cert: Option<(&Path, &Path)>) -> Result<Channel, HealthError> {
    let (host, tls) = match way {
        Way::Socket(path) => return connect_socket(path).await,
        Way::Plain(host) => (host, None),
        Way::Tls(host, trust) => (host, Some(TlsConnector::from(Arc::new(tls(trust, client_cert)?)))),
    };
    let uri: Uri = format!("http://{host}").parse().map_err(|_| HealthError::Address(host.clone()))?;
    let Some(tls) = tls else {
        return Endpoint::from(uri).connect().await.map_err(|error| gone(host, &error));
    };
    let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(|_| HealthError::Address(host.clone()))?;
    let authority = match uri.port_u16() {
        Some(_) => host.clone(),
        None => format!("{host}:443"),
    };
    let connector = service_fn(move |_: Uri| {
        let (authority, name, tls) = (authority.clone(), name.clone(), tls.clone());
        async move {
            let stream = TcpStream::connect(&authority).await?;
            Ok::<_, io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    Endpoint::from(uri).connect_with_connector(connector).await.map_err(|error| gone(host, &error))
}

async fn connect_socket(path: &Path) -> Result<Channel, HealthError> {
    let shown = format!("unix:{}", path.display());
    let path = path.to_owned();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.map_err(|error| gone(&shown, &error))
}

/// What the deepest cause says: the ones above it only say that there was no connection.
fn gone(address: &str, error: &tonic::transport::Error) -> HealthError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    HealthError::Away { address: address.to_owned(), problem: cause.to_string() }
}

fn file_error(path: &Path, problem: impl std::fmt::Display) -> HealthError {
    HealthError::File { path: path.display().to_string(), problem: problem.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, HealthError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| file_error(path, error))
}

fn tls(trust: &Trust, client_cert: Option<(&Path, &Path)>) -> Result<ClientConfig, HealthError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Issuers(path) => {
            let mut roots = RootCertStore::empty();
            for issuer in certificates(path)? {
                roots.add(issuer).map_err(|error| file_error(path, error))?;
            }
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            built.map_err(|error| file_error(path, error))?
        }
        Trust::Own(path) => {
            let own = certificates(path)?.into_iter().next();
            let own = own.ok_or_else(|| file_error(path, "there is no certificate in it; it has to be in PEM"))?;
            Arc::new(Own { certificate: own, provider: provider.clone() })
        }
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| HealthError::Address(error.to_string()))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match client_cert {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, error))?;
            let built = builder.with_client_auth_cert(certificates(cert)?, secret);
            built.map_err(|error| file_error(cert, error))?
        }
    };
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(config)
}

/// Takes one certificate, whatever name it is for, from whoever has its key.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another certificate than the one in tls.cert_file".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:7070", "127.0.0.1:7070"),
            ("[::]:7070", "[::1]:7070"),
            ("10.1.2.3:7070", "10.1.2.3:7070"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(near(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
