//! The typed client, for the services around softstake: ledger, custody, customer-facing back ends, operators' tools.
//!
//! Calls are tried again on the same request id while the server is away, busy or slow, so that each takes effect once.
//! Streams resume by themselves: the feed from the server's durable cursor, payouts and transfers from the last one
//! dealt with.
//!
//! ```no_run
//! use softstake::client::{BalanceEvent, Client, Options};
//! use softstake::pb::v1;
//!
//! # async fn run() -> Result<(), softstake::client::ClientError> {
//! let client = Client::connect("http://127.0.0.1:7070", Options::default()).await?;
//! let mut feed = client.feed("sources/ledger").await?;
//! let event = BalanceEvent {
//!     account: "alice".to_owned(),
//!     asset: "ATOM".to_owned(),
//!     base_units: 25_000_000,
//!     event_seconds: 1_795_305_600,
//! };
//! feed.send(vec![event], None).await?;
//! feed.flush().await?;
//!
//! let mut payouts = client.payouts("", "");
//! while let Some(batch) = payouts.next().await? {
//!     // Credit each payout once, under its name; store `batch.cursor`; then:
//!     client.ack_payouts(softstake::client::acknowledge(&batch, Vec::new())).await?;
//! }
//! # Ok(())
//! # }
//! ```

mod calls;
mod error;
mod feed;
mod pack;
mod readers;
mod retry;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub use error::{ClientError, ERROR_DOMAIN, Refusal};
pub use feed::{BalanceSnapshot, FeedReport, FeedWriter};
pub use pack::{BalanceEvent, EventError, MAX_EVENTS, pack};
pub use readers::{PayoutReader, PoolWatcher, Reader, TransferReader, acknowledge};
pub use retry::{BearerToken, Options, Tls};

/// A connection to one server. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    token: Token,
    options: Options,
}

/// Adds the bearer token to each call.
#[derive(Clone, Debug)]
struct Token(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// What every generated client sits on.
type Transport = InterceptedService<Channel, Token>;

/// Whether nobody between here and there reads what is sent to this address.
fn hides(endpoint: &str, uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let here = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    here || uri.scheme_str() == Some("https") || endpoint.starts_with("unix:")
}

impl Client {
    /// Connects to `endpoint`, such as `http://127.0.0.1:7070`, or `https://` with [`Options::tls`], and tries again as
    /// `options` say while nobody answers. A connection that breaks later is made anew by itself. A token goes over TLS, or
    /// stays on this machine; else it is an error.
    pub async fn connect(endpoint: &str, options: Options) -> Result<Self, ClientError> {
        let unusable = |problem: String| ClientError::Endpoint { endpoint: endpoint.to_owned(), problem };
        let address = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| unusable(error.to_string()))?;
        if options.token.is_some() && !hides(endpoint, address.uri()) {
            let problem = "a bearer token is not sent in plain text to another machine; connect with https:// and \
                           Options::tls, or to 127.0.0.1, [::1] or localhost";
            return Err(unusable(problem.to_owned()));
        }
        let address = address
            .connect_timeout(options.deadline)
            .keep_alive_while_idle(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let address = match &options.tls {
            Some(tls) => address.tls_config(tls.config()).map_err(|error| unusable(error.to_string()))?,
            None => address,
        };
        let mut attempts = retry::Attempts::new(&options);
        let channel = loop {
            match address.connect().await {
                Ok(channel) => break channel,
                Err(error) => attempts.wait(Refusal::from(Status::from_error(error.into()))).await?,
            }
        };
        Self::with_channel(channel, options)
    }

    /// A client over a channel that was made elsewhere, over a socket file for example. Where a token is set, whoever made it
    /// answers for that nobody listens.
    pub fn with_channel(channel: Channel, options: Options) -> Result<Self, ClientError> {
        let token = options.token.as_ref().map(|token| {
            let mut value = MetadataValue::try_from(format!("Bearer {}", token.text()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let token = token.transpose().map_err(|_: tonic::metadata::errors::InvalidMetadataValue| {
            let problem = "a bearer token is visible ASCII".to_owned();
            ClientError::Endpoint { endpoint: "the bearer token".to_owned(), problem }
        })?;
        Ok(Self { channel, token: Token(token), options })
    }

    /// This client with another deadline for each attempt of a call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        let options = Options { deadline, ..self.options.clone() };
        Self { channel: self.channel.clone(), token: self.token.clone(), options }
    }

    /// How this client waits and tries again.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn transport(&self) -> Transport {
        InterceptedService::new(self.channel.clone(), self.token.clone())
    }
}
