//! A server that knows its callers, over TLS, and calls with every kind of credential.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use softstake::api::access::identities::sha256;
use softstake::api::access::table::Role;
use softstake::clock::{Clock, SystemClock};
use softstake::config::Config;
use softstake::node::Node;
use softstake::node::dev_certs::{DevCerts, Pair, Validity};
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::harness::Setup;

const LASTING: Duration = Duration::from_secs(86_400);

/// Now, in seconds since the Unix epoch.
pub fn now() -> i64 {
    SystemClock::new().now_ms().div_euclid(1_000)
}

/// The token of a role that is good.
pub fn token(role: Role) -> String {
    format!("token-of-the-{role}")
}

/// The token of a role that has expired.
pub fn old_token(role: Role) -> String {
    format!("old-token-of-the-{role}")
}

/// A principal for each of `roles`, known by the certificate of `DevCerts` and by a good and an expired token.
pub fn identity(roles: &[Role]) -> String {
    let hash = |token: &str| sha256(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text = String::new();
    for role in roles {
        let (good, old) = (hash(&token(*role)), hash(&old_token(*role)));
        text.push_str(&format!(
            r#"
[[principals]]
name = "the-{role}"
roles = ["{role}"]
sans = ["URI:softstake://dev/{role}"]
tokens = [
    {{ sha256 = "{good}", expires = "2999-12-31T00:00:00Z" }},
    {{ sha256 = "{old}", expires = "2026-01-01T00:00:00Z" }},
]
"#
        ));
    }
    text
}

/// The SHA-256 of a certificate, as openssl writes it.
pub fn fingerprint(pair: &Pair) -> String {
    let pem = rustls::pki_types::CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    sha256(&pem).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// A running server with TLS and an identity file.
pub struct Guarded {
    pub node: Node,
    pub certs: DevCerts,
    folder: TempDir,
}

impl Guarded {
    /// Starts one that knows every role. `top` are further keys of its `[tls]` section.
    pub async fn start(tls: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = DevCerts::make(&[], LASTING).unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("ca.pem", certs.ca()),
            ("server.pem", certs.server.cert.clone()),
            ("server.key", certs.server.key.clone()),
            ("identity.toml", identity(&Role::ALL)),
        ] {
            std::fs::write(at(name), text).unwrap();
        }
        let dir = folder.path().display();
        // Nothing is read again but by SIGHUP or by hand.
        let top = format!(
            "[tls]\ncert_file = \"{dir}/server.pem\"\nkey_file = \"{dir}/server.key\"\nclient_ca_file = \"{dir}/ca.pem\"\n\
             {tls}\n[identity]\nfile = \"{dir}/identity.toml\"\nreload_interval_seconds = 86400"
        );
        let toml = Setup::new().top(&top).pool("atom", "").toml(&at("data"), 0);
        let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
        Self { node, certs, folder }
    }

    /// The port where it listens.
    pub fn port(&self) -> u16 {
        let address = self.node.address.to_string();
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes one of its files anew.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    /// The certificate of a role.
    pub fn pair(&self, role: Role) -> Pair {
        self.certs.clients.iter().find(|client| client.role == role).unwrap().pair.clone()
    }

    /// A certificate of a role whose time is over.
    pub fn old_pair(&self, role: Role) -> Pair {
        let validity = Validity { from: now() - 40 * 86_400, until: now() - 10 * 86_400 };
        self.certs.client("old", &format!("softstake://dev/{role}"), validity).unwrap()
    }

    /// A certificate with a name that the identity file does not have.
    pub fn stranger(&self) -> Pair {
        let validity = Validity { from: now() - 60, until: now() + 86_400 };
        self.certs.client("stranger", "softstake://dev/stranger", validity).unwrap()
    }

    /// Connects, showing a certificate or none. The server has to be signed by `ca`.
    pub async fn connect_to(&self, ca: &str, shown: Option<&Pair>) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some(Pair { cert, key }) = shown {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.node.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    /// Connects, showing a certificate or none.
    pub async fn connect(&self, shown: Option<&Pair>) -> Channel {
        self.connect_to(&self.certs.ca(), shown).await.unwrap()
    }
}

/// Calls `path` with an empty message and an authorization header, if one is given. A stream that opens is an answer.
pub async fn attempt(channel: &Channel, path: &str, authorization: Option<&str>, streams: bool) -> Result<(), Status> {
    send(channel, path, authorization, streams, ()).await
}

/// The same with a message.
pub async fn send<M: prost::Message + Default + 'static>(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
    streams: bool,
    message: M,
) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(path).unwrap();
    let codec = tonic_prost::ProstCodec::<M, ()>::default();
    let with_header = |authorization: Option<&str>| {
        let mut metadata = tonic::metadata::MetadataMap::new();
        if let Some(text) = authorization {
            metadata.insert("authorization", text.parse().unwrap());
        }
        metadata
    };
    let metadata = with_header(authorization);
    if streams {
        let request = Request::from_parts(metadata, tonic::Extensions::new(), tokio_stream::iter([message]));
        return grpc.streaming(request, path, codec).await.map(|_| ());
    }
    let request = Request::from_parts(metadata, tonic::Extensions::new(), message);
    grpc.unary(request, path, codec).await.map(|_| ())
}
