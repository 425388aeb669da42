//! What a client does that means harm, below the typed client and with frames of HTTP/2 by hand where need be: for
//! `softstake bench --flood`, and for the tests that bound what it does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderValue, Method, Request, Response, Uri};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use crate::pb::v1;
use v1::pool_service_client::PoolServiceClient;

/// How long a flood waits for a server that says nothing more.
const PATIENCE: Duration = Duration::from_millis(500);

/// The server that a flood goes to, and where it seems to come from.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    /// How many connections came from an address of their own, where each does.
    sources: Option<AtomicU32>,
}

impl Door {
    /// All connections come from the same address.
    pub fn of(address: SocketAddr) -> Self {
        Self { address, sources: None }
    }

    /// Each connection comes from another address of the loopback, as if from a machine of its own.
    pub fn from_many(address: SocketAddr) -> Self {
        Self { address, sources: Some(AtomicU32::new(0)) }
    }

    fn source(&self) -> Option<IpAddr> {
        let number = self.sources.as_ref()?.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = (number % 62_500).to_be_bytes();
        let place = u16::from_be_bytes([high, low]);
        // Neither 0 nor 255 is a machine's last number.
        Some(Ipv4Addr::new(127, 1, (place / 250) as u8, (place % 250) as u8 + 1).into())
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let Some(source) = self.source() else { return TcpStream::connect(self.address).await };
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket.connect(self.address).await
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first request of a client: `:method POST`, `:scheme http`, `:path`, `:authority x`, as HPACK literals.
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let literal = |block: &mut Vec<u8>, index: u8, value: &str| {
        block.push(index);
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    };
    literal(&mut block, 0x04, path);
    literal(&mut block, 0x01, "x");
    // content-type is entry 31 of the static table: a literal without indexing, with a prefix of four bits.
    block.extend_from_slice(&[0x0f, 0x10]);
    block.push(16);
    block.extend_from_slice(b"application/grpc");
    block
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// A message of gRPC before its compression and length.
fn grpc(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes.into()
}

fn request(path: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request
}

/// What stays connected after a flood, and reads nothing.
#[derive(Default)]
pub struct Held {
    /// Connections without a client of HTTP/2.
    pub connections: Vec<TcpStream>,
    senders: Vec<SendRequest<Bytes>>,
    answers: Vec<Response<RecvStream>>,
    drivers: Vec<JoinHandle<()>>,
}

impl Held {
    /// Holds those of another flood too.
    pub fn and(&mut self, other: Self) {
        self.connections.extend(other.connections);
        self.senders.extend(other.senders);
        self.answers.extend(other.answers);
        self.drivers.extend(other.drivers);
    }

    /// How many of the HTTP/2 connections the server has closed.
    pub fn closed(&self) -> usize {
        self.drivers.iter().filter(|driver| driver.is_finished()).count()
    }

    async fn connect(&mut self, door: &Door) -> io::Result<SendRequest<Bytes>> {
        let stream = door.connect().await?;
        let handshake = h2::client::Builder::new().handshake::<_, Bytes>(stream).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        self.drivers.push(tokio::spawn(async move {
            // The server may close it whenever it likes.
            drop(connection.await);
        }));
        self.senders.push(sender.clone());
        Ok(sender)
    }
}

/// Opens `count` streams of payouts that nothing is read of.
pub async fn streams(door: &Door, count: usize, batch: i32) -> io::Result<Held> {
    const PER_CONNECTION: usize = 100;
    let mut held = Held::default();
    let open = grpc(&v1::StreamPayoutsRequest { max_batch_size: batch, ..Default::default() });
    for first in (0..count).step_by(PER_CONNECTION) {
        let mut sender = held.connect(door).await?;
        let mut waiting = Vec::new();
        for _ in first..count.min(first + PER_CONNECTION) {
            let Ok(mut ready) = sender.ready().await else { break };
            let path = "http://localhost/softstake.v1.PayoutService/StreamPayouts";
            let Ok((answer, mut body)) = ready.send_request(request(path), false) else { break };
            drop(body.send_data(open.clone(), true));
            waiting.push(answer);
            sender = ready;
        }
        for answer in waiting {
            held.answers.extend(answer.await);
        }
    }
    Ok(held)
}

/// Begins `count` calls and takes each back at once. Tells how often the server had enough of a connection.
pub async fn rapid_resets(door: &Door, count: usize) -> io::Result<(Held, usize)> {
    let (mut held, mut sent, mut enough) = (Held::default(), 0, 0);
    while sent < count {
        let mut last = Held::default();
        let mut sender = last.connect(door).await?;
        while sent < count {
            let Ok(mut ready) = sender.ready().await else { break };
            let path = "http://localhost/softstake.v1.AdminService/PausePool";
            let Ok((_, mut body)) = ready.send_request(request(path), false) else { break };
            body.send_reset(Reason::CANCEL);
            sender = ready;
            sent += 1;
        }
        if sent < count {
            enough += 1;
        } else {
            held.and(last);
        }
    }
    Ok((held, enough))
}

async fn raw(door: &Door) -> io::Result<TcpStream> {
    let mut stream = door.connect().await?;
    stream.write_all(PREFACE).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    Ok(stream)
}

/// Sends headers that never end, on a connection. Tells how many bytes went out before the server closed it.
pub async fn continuation(door: &Door, most_bytes: usize) -> io::Result<usize> {
    let mut stream = raw(door).await?;
    let mut sent = 0;
    let mut next = frame(HEADERS, 0, 1, &headers("/softstake.v1.PoolService/GetPool"));
    // A header that is never indexed, again and again.
    let mut more = vec![0x10, 1, b'x', 0x7f, 0x81, 0x7e];
    more.extend(std::iter::repeat_n(b'y', 16_256));
    while sent < most_bytes && stream.write_all(&next).await.is_ok() {
        sent += next.len();
        next = frame(CONTINUATION, 0, 1, &more);
    }
    Ok(sent)
}

/// Sends `count` frames of data with nothing in them, for one call that stays open.
pub async fn empty_data(door: &Door, count: usize) -> io::Result<Held> {
    let mut stream = raw(door).await?;
    let (mut reading, mut writing) = stream.split();
    let path = headers("/softstake.v1.BalanceFeedService/StreamBalances");
    let frames: Vec<u8> = frame(DATA, 0, 1, &[]).repeat(1_000);
    let write = async {
        writing.write_all(&frame(HEADERS, END_HEADERS, 1, &path)).await?;
        for _ in 0..count.div_ceil(1_000) {
            writing.write_all(&frames).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let mut told = [0; 4_096];
    let read = async { while reading.read(&mut told).await.is_ok_and(|read| read > 0) {} };
    tokio::select! {
        _ended = write => {}
        () = read => {}
    }
    Ok(Held { connections: vec![stream], ..Held::default() })
}

/// Connects `count` times and says nothing.
pub async fn silence(door: &Door, count: usize) -> Held {
    let mut held = Held::default();
    for _ in 0..count {
        // The server's queue may be full for a moment.
        held.connections.extend(door.connect().await);
    }
    held
}

/// Whether the server has closed a connection.
pub async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut told = [0; 4_096];
    loop {
        match timeout(Duration::from_millis(1), stream.read(&mut told)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

/// A message of 1 GiB: its length is declared as `declared`, and then it is sent until the server has enough. Tells how
/// many bytes the server took.
pub async fn huge(door: &Door, declared: u32) -> io::Result<(Held, usize)> {
    let mut held = Held::default();
    let sender = held.connect(door).await?;
    let path = "http://localhost/softstake.v1.BalanceFeedService/PutBalance";
    let mut ready = sender.ready().await.map_err(io::Error::other)?;
    let (answer, mut body) = ready.send_request(request(path), false).map_err(io::Error::other)?;
    let mut head = vec![0];
    head.extend_from_slice(&declared.to_be_bytes());
    body.send_data(head.into(), false).map_err(io::Error::other)?;
    let chunk = Bytes::from(vec![0; 16_384]);
    let mut sent = 0;
    while sent < 1 << 30 {
        body.reserve_capacity(chunk.len());
        // No more room, for ever or for a while: the server does not read on.
        let room = std::future::poll_fn(|context| body.poll_capacity(context));
        match timeout(PATIENCE, room).await {
            Ok(Some(Ok(room))) if room > 0 => {
                if body.send_data(chunk.slice(..room.min(chunk.len())), false).is_err() {
                    break;
                }
                sent += room.min(chunk.len());
            }
            _ => break,
        }
    }
    drop(timeout(PATIENCE, answer).await);
    Ok((held, sent))
}

/// Asks for `count` pages of one line each, `at_once` at a time on each of `connections`. Tells how many were answered and
/// how many were refused.
pub async fn tiny_pages(door: &Door, count: usize, connections: usize, at_once: usize) -> io::Result<(usize, usize)> {
    let each = count.div_ceil(connections);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let endpoint = Endpoint::from_shared(format!("http://{}", door.address)).map_err(io::Error::other)?;
        let channel = endpoint.local_address(door.source()).connect().await.map_err(io::Error::other)?;
        let client = PoolServiceClient::new(channel);
        all.spawn(async move {
            let page = |_| {
                let mut client = client.clone();
                async move {
                    let parent = "pools/atom".to_owned();
                    let request = v1::ListValidatorsRequest { parent, page_size: 1, ..Default::default() };
                    client.list_validators(request).await.is_ok()
                }
            };
            let pages = stream::iter(0..each).map(page).buffer_unordered(at_once);
            pages.fold((0, 0), |(ok, no), one| async move { if one { (ok + 1, no) } else { (ok, no + 1) } }).await
        });
    }
    let (mut answered, mut refused) = (0, 0);
    while let Some(each) = all.join_next().await {
        let (some, others) = each.map_err(io::Error::other)?;
        answered += some;
        refused += others;
    }
    Ok((answered, refused))
}
