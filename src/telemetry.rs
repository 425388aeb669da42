//! Seeing it: the log, the metrics, and the small HTTP endpoint that shows them.
//!
//! Rooms never import this one: they write `tracing` events and spans, and hand their metric handles to `node.rs`,
//! which registers them here.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, with the spans that it happened in.
    Json,
    /// For people.
    Text,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level or filter is not one.
    #[error("`{filter}` is not a log level or filter: {problem}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This process logs already.
    #[error("the log of this process is set up already")]
    Installed,
}

/// A subscriber that writes what `filter` lets through to `writer`.
pub fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let levels = EnvFilter::try_new(filter)
        .map_err(|error| TelemetryError::Filter { filter: filter.to_owned(), problem: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(levels).with_writer(writer);
    Ok(match format {
        Format::Json => Box::new(builder.json().flatten_event(true).with_span_list(true).finish()),
        Format::Text => Box::new(builder.with_ansi(false).finish()),
    })
}

/// Makes this process log to standard error.
pub fn install(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let subscriber = subscriber(format, filter, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Installed)
}

/// All metrics of this process, under the prefix `softstake`.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("softstake"))))
    }

    /// Registers handles. The registry keeps clones of them; the rooms go on using theirs.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All of them, in the OpenMetrics text form.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the service may be sent work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It opens its store and recovers.
    Starting,
    /// It serves.
    Serving,
    /// It finishes what is in flight and takes nothing new.
    Draining,
    /// It can't go on, for this reason.
    Failed(String),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Serving => f.write_str("serving"),
            Self::Draining => f.write_str("draining"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// Where the service says how it is, and where anyone reads or awaits it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Health>>);

impl Readiness {
    /// A service that is starting.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Health::Starting)))
    }

    /// Says how the service is. What failed stays failed.
    pub fn set(&self, health: Health) {
        self.0.send_if_modified(|now| {
            let changes = !matches!(now, Health::Failed(_)) && *now != health;
            if changes {
                *now = health;
            }
            changes
        });
    }

    /// How the service is.
    pub fn get(&self) -> Health {
        self.0.borrow().clone()
    }

    /// Every change from now on.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.0.subscribe()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// How long a shutdown waits for HTTP clients; a silent one must not hold it up.
pub const HTTP_DRAIN: Duration = Duration::from_secs(1);

/// What the endpoint takes: it asks nobody who they are, so that nobody may be able to hold it up.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// The most connections at once. Where there are more, the oldest goes.
    pub connections: usize,
    /// The longest until a request has come.
    pub request: Duration,
    /// The longest until its answer has been read.
    pub whole: Duration,
    /// The most bytes before the end of its headers.
    pub head_bytes: usize,
}

impl Default for HttpLimits {
    /// Room for a few scrapers and probes that are slow; a request takes some hundred bytes.
    fn default() -> Self {
        let (request, whole) = (Duration::from_secs(5), Duration::from_secs(30));
        Self { connections: 64, request, whole, head_bytes: 16 * 1024 }
    }
}

/// How long the endpoint rests that could not accept, such as where there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `/metrics` and `/healthz` on `listener` until `shutdown`, then at most [`HTTP_DRAIN`] longer. A connection is for
/// one request.
///
/// `/healthz` answers 200 while the service is [`Health::Serving`] and 503 otherwise, the state as its text.
pub async fn serve_http(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    limits: HttpLimits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .with_state((metrics, readiness));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.request).max_buf_size(limits.head_bytes).keep_alive(false);
    let (mut connections, mut begun) = (JoinSet::new(), VecDeque::<AbortHandle>::new());
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(router.clone());
                let served = tokio::time::timeout(limits.whole, http.serve_connection(TokioIo::new(stream), service));
                begun.retain(|begun| !begun.is_finished());
                // Whether its client read the answer is the client's affair.
                begun.push_back(connections.spawn(async move { drop(served.await) }));
                if begun.len() > limits.connections
                    && let Some(oldest) = begun.pop_front()
                {
                    oldest.abort();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the metrics could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // What is open past the drain is cut off with the set.
    drop(tokio::time::timeout(HTTP_DRAIN, async { while connections.join_next().await.is_some() {} }).await);
    Ok(())
}

async fn show_metrics(State((metrics, _)): State<(Metrics, Readiness)>) -> Response {
    match metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be written as text").into_response(),
    }
}

async fn show_health(State((_, readiness)): State<(Metrics, Readiness)>) -> Response {
    let health = readiness.get();
    let status = if health == Health::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{health}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn log(format: Format, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("put_balance", request_id = "r-1");
            let _in = span.enter();
            tracing::info!(commit_ms = 3, "committed");
            tracing::debug!("details");
        });
        lines.text()
    }

    #[test]
    fn a_json_line_carries_the_fields_and_the_request_id() {
        let text = log(Format::Json, "info");
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "the filter holds debug back: {text}");
        assert_eq!(lines[0]["message"], "committed");
        assert_eq!(lines[0]["commit_ms"], 3);
        assert_eq!(lines[0]["spans"][0]["request_id"], "r-1");
        assert_eq!(lines[0]["span"]["name"], "put_balance");
    }

    #[test]
    fn text_is_plain_and_the_filter_names_targets() {
        let text = log(Format::Text, "warn,softstake::telemetry=debug");
        assert!(text.contains("committed commit_ms=3") && text.contains("details"), "{text}");
        assert!(!text.contains('\u{1b}'), "no colours in a file: {text:?}");
        assert!(log(Format::Text, "error").is_empty());
        assert!(matches!(subscriber(Format::Text, "a=b=c", io::sink), Err(TelemetryError::Filter { .. })));
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_endpoint_shows_metrics_and_health() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, readiness) = (Metrics::new(), Readiness::new());
        let events: Counter = Counter::default();
        metrics.register(|registry| registry.register("feed_events", "Events taken", events.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { stopped.await.unwrap_or_default() };
        let server = tokio::spawn(serve_http(listener, metrics, readiness.clone(), HttpLimits::default(), shutdown));

        let starting = ask(address, "/healthz").await;
        assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"), "{starting}");
        readiness.set(Health::Serving);
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        readiness.set(Health::Failed("the disk is full".to_owned()));
        readiness.set(Health::Serving);
        assert!(ask(address, "/healthz").await.ends_with("failed: the disk is full\n"), "what failed stays failed");

        events.inc_by(7);
        let shown = ask(address, "/metrics").await;
        assert!(shown.contains("application/openmetrics-text; version=1.0.0"), "{shown}");
        assert!(shown.contains("softstake_feed_events_total 7\n") && shown.ends_with("# EOF\n"), "{shown}");
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404"));

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_silent_client_does_not_hold_up_the_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { stopped.await.unwrap_or_default() };
        let server =
            tokio::spawn(serve_http(listener, Metrics::new(), Readiness::new(), HttpLimits::default(), shutdown));
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 503"), "the server has taken both");
        stop.send(()).unwrap();
        let ended = tokio::time::timeout(HTTP_DRAIN * 10, server).await;
        ended.expect("the drain is bounded").unwrap().unwrap();
        drop(half);
    }

    async fn limited(limits: HttpLimits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let never = std::future::pending();
        tokio::spawn(serve_http(listener, Metrics::new(), Readiness::new(), limits, never));
        address
    }

    /// All that comes until the end of the connection.
    async fn until_the_end(stream: &mut TcpStream) -> String {
        let mut told = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut told)).await;
        // A connection that is cut may end in an error.
        drop(ended.expect("the connection is held open"));
        String::from_utf8(told).unwrap()
    }

    #[tokio::test]
    async fn who_says_nothing_or_too_much_to_the_endpoint_is_cut_off() {
        let address = limited(HttpLimits { request: Duration::from_millis(50), ..HttpLimits::default() }).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
        assert!(!until_the_end(&mut silent).await.contains("200"));
        let address = limited(HttpLimits { request: Duration::from_secs(1_000), ..HttpLimits::default() }).await;
        let mut endless = TcpStream::connect(address).await.unwrap();
        let written = async {
            endless.write_all(b"GET /metrics HTTP/1.1\r\n").await?;
            for _ in 0..100 {
                endless.write_all(format!("X-Long: {}\r\n", "x".repeat(1_000)).as_bytes()).await?;
            }
            Ok::<_, io::Error>(())
        };
        // It may be cut off before it has said all.
        drop(written.await);
        let told = until_the_end(&mut endless).await;
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 431"), "{told}");
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 503"));
    }

    #[tokio::test]
    async fn however_many_hold_a_connection_to_the_endpoint_a_probe_is_answered() {
        let hours = Duration::from_secs(10_000);
        let address =
            limited(HttpLimits { connections: 2, request: hours, whole: hours, ..HttpLimits::default() }).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 503"));
        assert_eq!(until_the_end(&mut held[0]).await, "", "the oldest has gone");
        let address = limited(HttpLimits { whole: Duration::from_millis(50), ..HttpLimits::default() }).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        assert_eq!(until_the_end(&mut slow).await, "");
    }
}
