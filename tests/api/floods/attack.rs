//! What a client does that means harm: below the typed client, with frames of HTTP/2 by hand where need be.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use prost::Message;
use softstake::pb::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first request of a client: `:method POST`, `:scheme http`, `:path`, `:authority x`, as HPACK literals.
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let literal = |block: &mut Vec<u8>, index: u8, value: &str| {
        block.push(index);
        block.push(u8::try_from(value.len()).unwrap());
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
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
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
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes.into()
}

fn request(path: &str) -> Request<()> {
    let request = Request::post(format!("http://localhost{path}"));
    request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
}

/// What stays connected after a flood, and reads nothing.
#[derive(Default)]
pub struct Held {
    pub connections: Vec<TcpStream>,
    pub senders: Vec<SendRequest<Bytes>>,
    pub answers: Vec<Response<RecvStream>>,
    drivers: Vec<JoinHandle<()>>,
}

impl Held {
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

    async fn connect(&mut self, address: SocketAddr) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
        self.drivers.push(tokio::spawn(async move {
            // The server may close it whenever it likes.
            drop(connection.await);
        }));
        self.senders.push(sender.clone());
        sender
    }
}

/// Opens `count` streams of payouts that nothing is read of.
pub async fn streams(address: SocketAddr, count: usize, batch: i32) -> Held {
    const PER_CONNECTION: usize = 100;
    let mut held = Held::default();
    let open = grpc(&v1::StreamPayoutsRequest { max_batch_size: batch, ..Default::default() });
    for first in (0..count).step_by(PER_CONNECTION) {
        let mut sender = held.connect(address).await;
        let mut waiting = Vec::new();
        for _ in first..count.min(first + PER_CONNECTION) {
            let Ok(mut ready) = sender.ready().await else { break };
            let path = "/softstake.v1.PayoutService/StreamPayouts";
            let Ok((answer, mut body)) = ready.send_request(request(path), false) else { break };
            drop(body.send_data(open.clone(), true));
            waiting.push(answer);
            sender = ready;
        }
        for answer in waiting {
            held.answers.extend(answer.await);
        }
    }
    held
}

/// Begins `count` calls and takes each back at once. Tells how often the server had enough of a connection.
pub async fn rapid_resets(address: SocketAddr, count: usize) -> (Held, usize) {
    let (mut held, mut sent, mut enough) = (Held::default(), 0, 0);
    while sent < count {
        let mut last = Held::default();
        let mut sender = last.connect(address).await;
        while sent < count {
            let Ok(mut ready) = sender.ready().await else { break };
            let path = "/softstake.v1.AdminService/PausePool";
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
    (held, enough)
}

async fn raw(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Sends headers that never end, on a connection. Tells how many bytes went out before the server closed it.
pub async fn continuation(address: SocketAddr, most_bytes: usize) -> usize {
    let mut stream = raw(address).await;
    let mut sent = 0;
    let mut next = frame(HEADERS, 0, 1, &headers("/softstake.v1.PoolService/GetPool"));
    // A header that is never indexed, again and again.
    let mut more = vec![0x10, 1, b'x', 0x7f, 0x81, 0x7e];
    more.extend(std::iter::repeat_n(b'y', 16_256));
    while sent < most_bytes && stream.write_all(&next).await.is_ok() {
        sent += next.len();
        next = frame(CONTINUATION, 0, 1, &more);
    }
    sent
}

/// Sends `count` frames of data with nothing in them, for one call that stays open.
pub async fn empty_data(address: SocketAddr, count: usize) -> Held {
    let mut stream = raw(address).await;
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
    Held { connections: vec![stream], ..Held::default() }
}

/// Connects `count` times and says nothing.
pub async fn silence(address: SocketAddr, count: usize) -> Held {
    let mut held = Held::default();
    for _ in 0..count {
        // The server's queue may be full for a moment.
        held.connections.extend(TcpStream::connect(address).await);
    }
    held
}

/// Whether the server has closed a connection.
pub async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut told = [0; 4_096];
    loop {
        match tokio::time::timeout(std::time::Duration::from_millis(1), stream.read(&mut told)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

/// A message of 1 GiB: its length is declared as `declared`, and then it is sent until the server has enough. Tells how
/// many bytes the server took.
pub async fn huge(address: SocketAddr, declared: u32) -> (Held, usize) {
    let mut held = Held::default();
    let sender = held.connect(address).await;
    let path = "/softstake.v1.BalanceFeedService/PutBalance";
    let (answer, mut body) = sender.ready().await.unwrap().send_request(request(path), false).unwrap();
    let mut head = vec![0];
    head.extend_from_slice(&declared.to_be_bytes());
    body.send_data(head.into(), false).unwrap();
    let chunk = Bytes::from(vec![0; 16_384]);
    let mut sent = 0;
    while sent < 1 << 30 {
        body.reserve_capacity(chunk.len());
        // No more room, for ever or for a while: the server does not read on.
        let room = std::future::poll_fn(|context| body.poll_capacity(context));
        match tokio::time::timeout(std::time::Duration::from_millis(500), room).await {
            Ok(Some(Ok(room))) if room > 0 => {
                if body.send_data(chunk.slice(..room.min(chunk.len())), false).is_err() {
                    break;
                }
                sent += room.min(chunk.len());
            }
            _ => break,
        }
    }
    drop(tokio::time::timeout(std::time::Duration::from_millis(500), answer).await);
    (held, sent)
}

/// Asks for `count` pages of one line each, `at_once` at a time on each of `connections`. Tells how many were answered and
/// how many were refused.
pub async fn tiny_pages(address: SocketAddr, count: usize, connections: usize, at_once: usize) -> (usize, usize) {
    use futures::StreamExt;
    use v1::pool_service_client::PoolServiceClient;
    let each = count.div_ceil(connections);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let client = PoolServiceClient::new(endpoint.connect().await.unwrap());
        all.spawn(async move {
            let page = |_| {
                let mut client = client.clone();
                async move {
                    let parent = "pools/atom".to_owned();
                    let request = v1::ListValidatorsRequest { parent, page_size: 1, ..Default::default() };
                    client.list_validators(request).await.is_ok()
                }
            };
            let pages = futures::stream::iter(0..each).map(page).buffer_unordered(at_once);
            pages.fold((0, 0), |(ok, no), one| async move { if one { (ok + 1, no) } else { (ok, no + 1) } }).await
        });
    }
    let each = all.join_all().await;
    each.into_iter().fold((0, 0), |(ok, no), (some, others)| (ok + some, no + others))
}
