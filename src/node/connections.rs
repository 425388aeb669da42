//! Connections are counted before they are served: so many at once, so many from one address, each speaking in time. Each
//! can be cut, by itself or with all others.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::transport::server::Connected;

use super::strangers::Strangers;
use crate::api::access::Standing;
use crate::api::access::certificate::Peer;
use crate::api::transport::{Line, TransportMetrics};

/// What a client says first: the preface of HTTP/2 (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;

/// Where a connection comes from.
pub(super) trait Origin {
    /// The machine, if there is more than this one.
    fn machine(&self) -> Option<String>;
}

impl Origin for Peer {
    fn machine(&self) -> Option<String> {
        // All that comes through a socket file comes from here.
        (self.machine != self.address).then(|| self.machine.to_string())
    }
}

/// How many connections are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) all: usize,
    pub(super) per_address: usize,
    /// How many of them are those of strangers.
    pub(super) strangers: usize,
    /// And how many of these from one address.
    pub(super) strangers_per_address: usize,
    /// The longest until the client has said that it speaks HTTP/2.
    pub(super) preface: Duration,
    /// The longest until somebody who is known has called.
    pub(super) first_call: Duration,
}

/// The connections that there are.
struct Counts {
    bounds: Bounds,
    metrics: TransportMetrics,
    open: Mutex<Open>,
}

struct Open {
    all: usize,
    by_machine: BTreeMap<String, usize>,
    strangers: Strangers,
}

/// The place of one stranger.
struct StrangersPlace {
    counts: Arc<Counts>,
    number: u64,
}

impl Drop for StrangersPlace {
    fn drop(&mut self) {
        // It is gone already where others took its place.
        drop(self.counts.open().strangers.remove(self.number));
    }
}

/// The place of one connection.
struct Place {
    counts: Arc<Counts>,
    machine: Option<String>,
    standing: Standing,
}

impl Counts {
    fn new(bounds: Bounds, metrics: TransportMetrics) -> Self {
        let strangers = Strangers::new(bounds.strangers, bounds.strangers_per_address);
        let open = Mutex::new(Open { all: 0, by_machine: BTreeMap::new(), strangers });
        Self { bounds, metrics, open }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, which is cut by `cut`.
    fn admit(self: &Arc<Self>, machine: Option<String>, cut: CancellationToken) -> Result<Place, &'static str> {
        let mut open = self.open();
        if open.all >= self.bounds.all {
            return Err("max_connections");
        }
        if let Some(machine) = &machine {
            let there = open.by_machine.get(machine).copied().unwrap_or(0);
            if there >= self.bounds.per_address {
                return Err("max_connections_per_address");
            }
            open.by_machine.insert(machine.clone(), there + 1);
        }
        open.all += 1;
        self.metrics.connections.inc();
        let (number, limit) = open.strangers.add(machine.clone(), cut);
        if let Some(limit) = limit {
            self.metrics.refuse(limit);
        }
        let standing = Standing::stranger(StrangersPlace { counts: self.clone(), number });
        Ok(Place { counts: self.clone(), machine, standing })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.standing.known();
        let mut open = self.counts.open();
        open.all -= 1;
        self.counts.metrics.connections.dec();
        if let Some(machine) = &self.machine {
            match open.by_machine.get_mut(machine) {
                Some(there) if *there > 1 => *there -= 1,
                _ => drop(open.by_machine.remove(machine)),
            }
        }
    }
}

/// The connections of `incoming` that there is room for; the others are closed at once. All are cut with `cut`.
pub(super) fn limited<IO>(
    incoming: impl Stream<Item = io::Result<IO>> + Send,
    bounds: Bounds,
    metrics: TransportMetrics,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Limited<IO>>> + Send
where
    IO: Connected + Send,
    IO::ConnectInfo: Origin,
{
    let counts = Arc::new(Counts::new(bounds, metrics));
    incoming.filter_map(move |accepted| {
        let limited = accepted.map(|io| {
            let cut = cut.child_token();
            match counts.admit(io.connect_info().machine(), cut.clone()) {
                Ok(place) => Some(Limited::new(io, place, cut)),
                Err(limit) => {
                    counts.metrics.refuse(limit);
                    tracing::debug!(limit, "a connection is refused");
                    None
                }
            }
        });
        std::future::ready(limited.transpose())
    })
}

/// A connection in its place.
pub(super) struct Limited<IO> {
    io: IO,
    line: Line,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the preface is there: how much of it is missing, and how long that may last.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    /// Until somebody who is known has called.
    first_call: Option<Pin<Box<Sleep>>>,
    place: Place,
}

impl<IO> Limited<IO> {
    fn new(io: IO, place: Place, token: CancellationToken) -> Self {
        let Bounds { preface, first_call, .. } = place.counts.bounds;
        let cut = Box::pin(token.clone().cancelled_owned());
        let preface = Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(preface))));
        let first_call = Some(Box::pin(tokio::time::sleep(first_call)));
        Self { io, line: Line(token), cut, preface, first_call, place }
    }

    fn poll_first_call(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(patience) = &mut self.first_call else { return Ok(()) };
        if self.place.standing.is_known() {
            self.first_call = None;
        } else if patience.as_mut().poll(context).is_ready() {
            self.place.counts.metrics.refuse("first_call_timeout_ms");
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody who is known has called in time"));
        }
        Ok(())
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is cut")),
            Poll::Pending => Ok(()),
        }
    }
}

/// What the requests of a connection are told of it.
#[derive(Clone, Debug)]
pub(super) struct Met<I> {
    line: Line,
    standing: Standing,
    inner: I,
}

impl<IO: Connected> Connected for Limited<IO> {
    type ConnectInfo = Met<IO::ConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Met { line: self.line.clone(), standing: self.place.standing.clone(), inner: self.io.connect_info() }
    }
}

/// Tells a request of its connection, and of what that says of itself.
pub(super) fn introduce<I: Clone + Send + Sync + 'static>(mut request: Request<Body>) -> Request<Body> {
    if let Some(Met { line, standing, inner }) = request.extensions_mut().remove::<Met<I>>() {
        request.extensions_mut().insert(line);
        request.extensions_mut().insert(standing);
        request.extensions_mut().insert(inner);
    }
    request
}

impl<IO: AsyncRead + Unpin> AsyncRead for Limited<IO> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_cut(context)?;
        this.poll_first_call(context)?;
        let before = into.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, into);
        let Some((missing, patience)) = &mut this.preface else { return read };
        *missing = missing.saturating_sub(into.filled().len() - before);
        if *missing == 0 {
            this.preface = None;
        } else if read.is_pending() {
            ready!(patience.as_mut().poll(context));
            this.place.counts.metrics.refuse("handshake_timeout_ms");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said in time")));
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Limited<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::api::transport::Limit;

    struct From(DuplexStream, &'static str);

    #[derive(Clone)]
    struct Named(&'static str);

    impl Origin for Named {
        fn machine(&self) -> Option<String> {
            (!self.0.is_empty()).then(|| self.0.to_owned())
        }
    }

    impl Connected for From {
        type ConnectInfo = Named;
        fn connect_info(&self) -> Named {
            Named(self.1)
        }
    }

    impl AsyncRead for From {
        fn poll_read(mut self: Pin<&mut Self>, to: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(to, into)
        }
    }

    const BOUNDS: Bounds = Bounds {
        all: 3,
        per_address: 2,
        strangers: 3,
        strangers_per_address: 3,
        preface: Duration::from_secs(10),
        first_call: Duration::from_secs(60),
    };

    struct Rig {
        metrics: TransportMetrics,
        cut: CancellationToken,
        /// The other ends.
        clients: Vec<DuplexStream>,
        bounds: Bounds,
    }

    impl Rig {
        fn new() -> Self {
            Self::with(BOUNDS)
        }

        fn with(bounds: Bounds) -> Self {
            Self { metrics: TransportMetrics::default(), cut: CancellationToken::new(), clients: Vec::new(), bounds }
        }

        /// Those of the connections from `machines` that are served.
        async fn served(&mut self, machines: &[&'static str]) -> Vec<Limited<From>> {
            let mut ends = Vec::new();
            for machine in machines {
                let (client, server) = tokio::io::duplex(64);
                self.clients.push(client);
                ends.push(Ok(From(server, machine)));
            }
            let incoming = futures::stream::iter(ends);
            let limited = limited(incoming, self.bounds, self.metrics.clone(), self.cut.clone());
            limited.map(Result::unwrap).collect().await
        }

        fn refused(&self, limit: &'static str) -> u64 {
            self.metrics.refused.get_or_create(&Limit { limit }).get()
        }
    }

    #[tokio::test]
    async fn so_many_connections_are_served_and_so_many_of_one_address() {
        let mut rig = Rig::new();
        let served = rig.served(&["a", "a", "a", "b", "", "c"]).await;
        let from: Vec<&str> = served.iter().map(|limited| limited.io.1).collect();
        assert_eq!(from, ["a", "a", "b"]);
        assert_eq!((rig.refused("max_connections"), rig.refused("max_connections_per_address")), (2, 1));
        assert_eq!(rig.metrics.connections.get(), 3);
        let mut refused = rig.clients.remove(2);
        assert_eq!(refused.read(&mut [0; 1]).await.unwrap(), 0, "it is closed, not left waiting");
        drop(served);
        assert_eq!(rig.metrics.connections.get(), 0);
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_is_gone() {
        let metrics = TransportMetrics::default();
        let counts = Arc::new(Counts::new(BOUNDS, metrics));
        let admit = |machine: &str| counts.admit(Some(machine.to_owned()), CancellationToken::new());
        let (first, _second) = (admit("a").ok().unwrap(), admit("a").ok().unwrap());
        assert_eq!(admit("a").err(), Some("max_connections_per_address"));
        drop(first);
        let _third = admit("a").ok().unwrap();
        let _fourth = admit("b").ok().unwrap();
        assert_eq!(admit("b").err(), Some("max_connections"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_too_little_is_cut_off_and_one_that_has_said_it_may_be_silent() {
        let mut rig = Rig::new();
        let mut served = rig.served(&["silent", "slow", "quiet"]).await;
        served[2].connect_info().standing.known();
        rig.clients[1].write_all(&[1; PREFACE_BYTES - 1]).await.unwrap();
        rig.clients[2].write_all(&[1; PREFACE_BYTES]).await.unwrap();
        let mut ends = Vec::new();
        for limited in &mut served {
            let read = async {
                let mut all = [0; 2 * PREFACE_BYTES];
                limited.read_exact(&mut all).await.map_err(|error| error.kind())
            };
            ends.push(tokio::time::timeout(Duration::from_secs(100), read).await.ok());
        }
        assert_eq!(ends, [Some(Err(io::ErrorKind::TimedOut)), Some(Err(io::ErrorKind::TimedOut)), None]);
        assert_eq!(rig.refused("handshake_timeout_ms"), 2);
    }

    #[tokio::test]
    async fn one_connection_is_cut_and_then_all() {
        let mut rig = Rig::new();
        let mut served = rig.served(&["a", "b"]).await;
        let (mut second, mut first) = (served.pop().unwrap(), served.pop().unwrap());
        first.connect_info().line.0.cancel();
        assert_eq!(first.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let waiting = tokio::spawn(async move { second.read(&mut [0; 1]).await });
        tokio::task::yield_now().await;
        rig.cut.cancel();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    /// Whether each of them is open.
    async fn open(served: &mut [Limited<From>]) -> Vec<bool> {
        let mut open = Vec::new();
        for limited in served {
            let read = tokio::time::timeout(Duration::from_millis(1), limited.read(&mut [0; 1])).await;
            open.push(read.is_err());
        }
        open
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_keep_out_nobody_and_who_is_known_is_no_stranger() {
        let bounds = Bounds { all: 10, per_address: 10, strangers: 4, strangers_per_address: 2, ..BOUNDS };
        let mut rig = Rig::with(bounds);
        let machines = ["k", "a", "a", "b", "a", "c", "d", "d"];
        let incoming = machines.map(|machine| {
            let (client, server) = tokio::io::duplex(64);
            rig.clients.push(client);
            Ok(From(server, machine))
        });
        let limited = limited(futures::stream::iter(incoming), bounds, rig.metrics.clone(), rig.cut.clone());
        let mut limited = Box::pin(limited.map(Result::unwrap));
        let mut served = Vec::new();
        while let Some(next) = limited.next().await {
            // The first one calls at once.
            if served.is_empty() {
                next.connect_info().standing.known();
            }
            served.push(next);
        }
        // The third of `a` took the place of its first, `d` those of the oldest of all, and nobody's was `k`'s.
        assert_eq!(open(&mut served).await, [true, false, false, false, true, true, true, true]);
        assert_eq!((rig.refused("max_strangers"), rig.refused("max_strangers_per_address")), (2, 1));
        let strangers = |place: &Place| {
            let open = place.counts.open();
            open.strangers.counts()
        };
        assert_eq!(strangers(&served[0].place), (4, 3));
        served.truncate(1);
        assert_eq!(strangers(&served[0].place), (0, 0), "whose connection is gone has no place");
    }

    #[tokio::test(start_paused = true)]
    async fn who_calls_nothing_in_time_is_cut_off_however_much_it_says() {
        let mut rig = Rig::new();
        let mut served = rig.served(&["stranger", "known"]).await;
        let (mut known, mut stranger) = (served.pop().unwrap(), served.pop().unwrap());
        known.connect_info().standing.known();
        for client in &mut rig.clients {
            client.write_all(&[1; PREFACE_BYTES]).await.unwrap();
        }
        stranger.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        known.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        let mut seconds = 0;
        let ended = loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            rig.clients[0].write_all(&[1]).await.unwrap();
            match stranger.read(&mut [0; 1]).await {
                Ok(_) => seconds += 1,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!((ended, seconds, rig.refused("first_call_timeout_ms")), (io::ErrorKind::TimedOut, 59, 1));
        assert!(tokio::time::timeout(Duration::from_secs(1_000), known.read(&mut [0; 1])).await.is_err());
    }
}
