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

/// How many bytes of a connection are read before others have their turn: what it sends costs up to a tenth of a
/// microsecond a byte, where it is frames with nothing in them.
const BYTES_AT_ONCE: usize = 16 * 1024;

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
    number: u64,
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
        Ok(Place { counts: self.clone(), machine, standing, number })
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
    /// How many bytes were read since others had their turn.
    given: usize,
    place: Place,
}

impl<IO> Limited<IO> {
    fn new(io: IO, place: Place, token: CancellationToken) -> Self {
        let Bounds { preface, first_call, .. } = place.counts.bounds;
        let cut = Box::pin(token.clone().cancelled_owned());
        let preface = Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(preface))));
        let first_call = Some(Box::pin(tokio::time::sleep(first_call)));
        let line = Line { cut: token, number: place.number };
        Self { io, line, cut, preface, first_call, given: 0, place }
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
        if this.given >= BYTES_AT_ONCE {
            this.given = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, into);
        // Where there is no more to be read others have their turn anyway.
        this.given = if read.is_pending() { 0 } else { this.given + into.filled().len() - before };
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
#[path = "connections_tests.rs"]
mod tests;
