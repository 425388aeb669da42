//! CometBFT's JSON-RPC over HTTP/1.1: plain or TLS, each request bounded in time and each answer in size. Called by this
//! room's readers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::chain::ChainError;

/// The most bytes of one answer: a full block of the Hub and its events are a few million.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The most connections that are kept for later.
const MAX_IDLE: usize = 16;

type Connection = SendRequest<Empty<Bytes>>;

/// One node's JSON-RPC.
#[derive(Clone)]
pub struct Rpc {
    inner: Arc<Inner>,
}

struct Inner {
    scheme: Scheme,
    host: String,
    port: u16,
    /// What stands before every path.
    prefix: String,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

enum Scheme {
    Plain,
    Tls(TlsConnector, ServerName<'static>),
}

/// What is wrong with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint:?} {rule}")]
pub struct EndpointError {
    endpoint: String,
    rule: &'static str,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("host", &self.inner.host).field("port", &self.inner.port).finish_non_exhaustive()
    }
}

impl Rpc {
    /// The node at `endpoint`, `http://host:port` or `https://host`, with a path in front where there is one. No request
    /// takes longer than `timeout`. `tls` says whom to trust.
    pub fn new(
        endpoint: &str,
        timeout: Duration,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Self, EndpointError> {
        let wrong = |rule| EndpointError { endpoint: endpoint.to_owned(), rule };
        let uri: Uri = endpoint.parse().map_err(|_| wrong("is no address"))?;
        let host = uri.host().ok_or_else(|| wrong("names no host"))?.to_owned();
        let scheme = match (uri.scheme_str(), tls) {
            (Some("http"), _) => Scheme::Plain,
            (Some("https"), Some(config)) => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                Scheme::Tls(config.into(), name.map_err(|_| wrong("has a host that no certificate can name"))?)
            }
            (Some("https"), None) => return Err(wrong("needs authorities to trust")),
            _ => return Err(wrong("begins with neither http:// nor https://")),
        };
        let standard = if matches!(scheme, Scheme::Plain) { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(standard);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let idle = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { scheme, host, port, prefix, timeout, idle }) })
    }

    /// The body of the answer to `GET` of `path` and its query. CometBFT's own errors come as JSON too, whatever the status.
    pub async fn get(&self, path: &str) -> Result<Bytes, ChainError> {
        let asked = tokio::time::timeout(self.inner.timeout, self.inner.get(path)).await;
        asked.unwrap_or_else(|_| Err(unavailable(path, "no answer in time")))
    }
}

fn unavailable(path: &str, error: impl fmt::Display) -> ChainError {
    ChainError::Unavailable(format!("{}: {error}", path.split('?').next().unwrap_or(path)))
}

impl Inner {
    async fn get(&self, path: &str) -> Result<Bytes, ChainError> {
        let request = || {
            Request::get(format!("{}{path}", self.prefix))
                .header(header::HOST, format!("{}:{}", self.host, self.port))
                .header(header::ACCEPT, "application/json")
                .body(Empty::new())
                .map_err(|error| unavailable(path, error))
        };
        // A kept connection may have been closed meanwhile; what is asked changes nothing and may be asked again.
        let kept = self.kept();
        let answered = match kept {
            Some(mut connection) => connection.send_request(request()?).await.ok().map(|answer| (connection, answer)),
            None => None,
        };
        let (connection, answer) = match answered {
            Some(answered) => answered,
            None => {
                let mut connection = self.connect().await.map_err(|error| unavailable(path, error))?;
                let answer = connection.send_request(request()?).await.map_err(|error| unavailable(path, error))?;
                (connection, answer)
            }
        };
        let status = answer.status();
        if !status.is_success() && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(unavailable(path, format!("status {status}")));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| unavailable(path, error))?.to_bytes();
        self.keep(connection);
        Ok(body)
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.is_closed() && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    async fn connect(&self) -> std::io::Result<Connection> {
        let host = self.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.scheme {
            Scheme::Plain => shake(TokioIo::new(stream)).await,
            Scheme::Tls(connector, name) => shake(TokioIo::new(connector.connect(name.clone(), stream).await?)).await,
        }
    }
}

async fn shake<I>(io: I) -> std::io::Result<Connection>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(io).await.map_err(std::io::Error::other)?;
    // It ends when the sender is dropped, and whoever asks is told of its error.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
