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
async fn a_connection_that_says_much_lets_others_have_their_turn() {
    let mut rig = Rig::new();
    let (mut client, server) = tokio::io::duplex(8 * BYTES_AT_ONCE);
    let incoming = futures::stream::iter([Ok(From(server, "a"))]);
    let limited = limited(incoming, rig.bounds, rig.metrics.clone(), rig.cut.clone());
    let mut talks = Box::pin(limited).next().await.unwrap().unwrap();
    client.write_all(&[1; 5 * BYTES_AT_ONCE]).await.unwrap();
    let (mut turns, mut read) = (0, 0);
    while read < 5 * BYTES_AT_ONCE {
        let mut into = [0; BYTES_AT_ONCE / 4];
        let mut into = ReadBuf::new(&mut into);
        let polled = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut talks).poll_read(context, &mut into)));
        match polled.await {
            Poll::Ready(outcome) => outcome.unwrap(),
            Poll::Pending => turns += 1,
        }
        read += into.filled().len();
    }
    assert_eq!(turns, 4, "after each {BYTES_AT_ONCE} bytes");
    rig.clients.clear();
}

#[tokio::test]
async fn one_connection_is_cut_and_then_all() {
    let mut rig = Rig::new();
    let mut served = rig.served(&["a", "b"]).await;
    let (mut second, mut first) = (served.pop().unwrap(), served.pop().unwrap());
    first.connect_info().line.cut.cancel();
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
