//! Where connections come in: an address, in plain text or TLS, or a socket file. Each carries who is at its other end.
//!
//! TLS is spoken here and not in tonic, so that its files can be exchanged while the service runs, and so that a handshake
//! has its own time and holds up no other: whatever else is to be limited before a connection is served belongs here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::NodeError;
use crate::api::access::Access;
use crate::api::access::certificate::{Certificate, Peer};
use crate::api::transport::TransportMetrics;
use crate::config::Listen;

/// How much handshakes may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshakes {
    /// The most at once. Where there are more, the oldest goes: who is silent keeps nobody out.
    pub(super) most: usize,
    /// The longest that one may take.
    pub(super) longest: Duration,
}

/// How long a listener rests that could not accept, such as where there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections may wait for a socket file's accept.
const BACKLOG: u32 = 1_024;

/// The TLS of new connections, which can be exchanged.
#[derive(Clone)]
pub(super) struct TlsSlot(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsSlot {
    /// Begins with `tls`.
    pub(super) fn new(tls: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(tls)))
    }

    /// Goes on with `tls` from the next connection on.
    pub(super) fn exchange(&self, tls: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    fn get(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On an address.
    Tcp(SocketAddr),
    /// On a socket file.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that takes connections.
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a socket, gone when nobody listens any more.
struct SocketFile {
    path: PathBuf,
    /// Its device and inode: another service may have put its own there meanwhile.
    own: Option<(u64, u64)>,
}

impl SocketFile {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), own: inode(path) }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.own.is_some() && inode(&self.path) == self.own {
            // Where it can't be removed, the next start does.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// A socket that takes connections, and their TLS.
pub(super) struct Listener {
    socket: Socket,
    tls: Option<TlsSlot>,
    limits: Handshakes,
    handshakes: JoinSet<Result<Connection, (Peer, io::Error)>>,
    /// Of each handshake the machine, oldest first; some may have ended.
    begun: VecDeque<(Arc<str>, AbortHandle)>,
    /// Whether the last connection could not be accepted: that is told once and not at each attempt.
    failing: bool,
}

/// Listens as the settings say; `tls` is `None` for plain text.
pub(super) async fn listen(
    settings: &Listen,
    tls: Option<TlsSlot>,
    limits: Handshakes,
) -> Result<(Listener, Address), NodeError> {
    let (socket, address) = match settings {
        Listen::Tcp(address) => {
            let (listener, bound) = super::listen("listen", *address).await?;
            (Socket::Tcp(listener), Address::Tcp(bound))
        }
        Listen::Unix { path, mode } => {
            let what = || format!("listening on {} failed; free it, or set `listen` to another path", path.display());
            let listener = listen_on_file(path, *mode).map_err(|error| NodeError::Io { what: what(), error })?;
            (Socket::Unix(listener, SocketFile::at(path)), Address::Unix(path.clone()))
        }
    };
    Ok((Listener { socket, tls, limits, handshakes: JoinSet::new(), begun: VecDeque::new(), failing: false }, address))
}

/// Makes the socket file. Nobody can connect before it has its mode. One that a killed service left behind is replaced.
fn listen_on_file(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
    }
    let left_behind = std::fs::symlink_metadata(path).is_ok_and(|file| {
        use std::os::unix::fs::FileTypeExt;
        file.file_type().is_socket()
    });
    if left_behind {
        std::fs::remove_file(path)?;
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)
}

impl Listener {
    /// The connections, as they come; the listener goes with the stream. It never ends by itself.
    /// Handshakes that are refused are counted, and told to `access` where a certificate was at fault.
    pub(super) fn connections(
        self,
        metrics: TransportMetrics,
        access: Arc<Access>,
    ) -> impl Stream<Item = io::Result<Connection>> + Send {
        futures::stream::unfold((self, metrics, access), |(mut listener, metrics, access)| async move {
            let connection = listener.next(&metrics, &access).await;
            Some((connection, (listener, metrics, access)))
        })
    }

    fn begin(
        &mut self,
        machine: Arc<str>,
        handshake: impl Future<Output = Result<Connection, (Peer, io::Error)>> + Send + 'static,
    ) {
        self.begun.retain(|(_, begun)| !begun.is_finished());
        self.begun.push_back((machine, self.handshakes.spawn(handshake)));
        if self.begun.len() > self.limits.most
            && let Some((_, one_too_many)) = self.begun.remove(surplus(&self.begun))
        {
            one_too_many.abort();
        }
    }

    /// The next connection that is ready to be served.
    async fn next(&mut self, metrics: &TransportMetrics, access: &Access) -> io::Result<Connection> {
        loop {
            // Whoever connects without end lets others have their turn.
            tokio::task::yield_now().await;
            tokio::select! {
                Some(shaken) = self.handshakes.join_next() => match shaken {
                    Ok(Ok(connection)) => return Ok(connection),
                    Ok(Err((peer, error))) => {
                        if error.kind() == io::ErrorKind::TimedOut {
                            metrics.refuse("handshake_timeout_ms");
                        }
                        access.handshake_failed(&peer, &error);
                        tracing::debug!(peer = %peer.address, %error, "a connection ended in its handshake");
                    }
                    Err(died) if died.is_cancelled() => metrics.refuse("max_handshakes"),
                    Err(died) => tracing::error!(error = %died, "a handshake died"),
                },
                accepted = self.socket.accept() => match accepted {
                    Ok((accepted, peer)) => {
                        self.failing = false;
                        match (accepted, &self.tls) {
                        (IncomingStream::Tcp(stream), Some(tls)) => {
                            let acceptor = TlsAcceptor::from(tls.get());
                            let machine = peer.machine.clone();
                            self.begin(machine, shake_hands(acceptor, stream, peer, self.limits.longest));
                        }
                        (IncomingStream::Tcp(stream), None) => {
                            return Ok(Connection { io: Io::Tcp(stream), peer });
                        }
                        (IncomingStream::Unix(stream), _) => return Ok(Connection { io: Io::Unix(stream), peer }),
                    }},
                    // That was one connection's, and the next one is there.
                    Err(error) if is_of_one_connection(&error) => {
                        tracing::debug!(%error, "a connection was gone before it was accepted");
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut self.failing, true) {
                            tracing::warn!(%error, "connections can't be accepted; it is tried again");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// Which of the handshakes goes where there is one too many: the oldest of the machine that has most, so that whoever floods
/// keeps out itself.
fn surplus<T>(begun: &VecDeque<(Arc<str>, T)>) -> usize {
    let mut of_machine: BTreeMap<&str, (usize, Reverse<usize>)> = BTreeMap::new();
    for (place, (machine, _)) in begun.iter().enumerate() {
        of_machine.entry(&**machine).or_insert((0, Reverse(place))).0 += 1;
    }
    of_machine.into_values().max().map_or(0, |(_, Reverse(oldest))| oldest)
}

/// The machine that an address is of, as limits count it: of IPv6 a whole /64, which is what one machine has, and an address
/// of IPv4 in whichever way it is written.
fn machine(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) if address.is_loopback() => address.to_string(),
        IpAddr::V6(address) => format!("{}/64", Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Whether `accept` failed for the connection that it would have given, as accept(2) says of what is pending on that one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    let kinds =
        [ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable];
    kinds.contains(&error.kind())
}

/// A connection that said nothing yet.
enum IncomingStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    async fn accept(&self) -> io::Result<(IncomingStream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without it an answer would wait for the caller's delayed ACK, 40 ms.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                let (address, machine) = (address.to_string().into(), machine(address.ip()).into());
                Ok((IncomingStream::Tcp(stream), Peer { address, machine, certificate: None }))
            }
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let address: Arc<str> = format!("unix:{}", file.path.display()).into();
                let peer = Peer { address: address.clone(), machine: address, certificate: None };
                Ok((IncomingStream::Unix(stream), peer))
            }
        }
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: Peer,
    longest: Duration,
) -> Result<Connection, (Peer, io::Error)> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time");
    let shaken = tokio::time::timeout(longest, acceptor.accept(stream)).await.map_err(late).flatten();
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => return Err((peer, error)),
    };
    let chain = stream.get_ref().1.peer_certificates();
    let chain = chain.map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
    let certificate = chain.and_then(Certificate::new).map(Arc::new);
    Ok(Connection { io: Io::Tls(Box::new(stream)), peer: Peer { certificate, ..peer } })
}

/// What a connection's bytes travel through.
enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// One connection and its other end, which each of its requests carries in its extensions.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

macro_rules! through {
    ($connection:ident, $stream:ident => $call:expr) => {
        match &mut $connection.get_mut().io {
            Io::Tcp($stream) => $call,
            Io::Tls($stream) => $call,
            Io::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        through!(self, stream => Pin::new(stream).poll_read(context, into))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        through!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        through!(self, stream => Pin::new(stream).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
            Io::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_one_name_however_many_addresses_it_takes() {
        for (address, name) in [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("::1", "::1"),
        ] {
            assert_eq!(machine(address.parse().unwrap()), name);
        }
    }

    #[test]
    fn of_too_many_handshakes_the_oldest_goes_of_the_machine_that_has_most() {
        let goes = |machines: &[&str]| {
            let begun = machines.iter().map(|machine| (Arc::from(*machine), ())).collect();
            surplus(&begun)
        };
        assert_eq!(goes(&["honest", "flood", "flood", "flood", "other"]), 1);
        assert_eq!(goes(&["a", "b", "c"]), 0, "all have as many");
        assert_eq!(goes(&["a", "b", "c", "b", "c"]), 1);
    }

    #[test]
    fn a_connection_that_is_gone_holds_up_no_other() {
        let of = |kind: io::ErrorKind| is_of_one_connection(&io::Error::from(kind));
        assert!(of(io::ErrorKind::ConnectionAborted) && of(io::ErrorKind::ConnectionReset));
        // No more file descriptors.
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(24)) && !of(io::ErrorKind::OutOfMemory));
    }
}
