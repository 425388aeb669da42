//! What an honest client notices of floods: its calls, measured while all is quiet and then under each flood in turn. The
//! service has the default limits, but for the time that a call may take; client, floods and service share the machine.

mod honest;
mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use prost_types::Timestamp;
use tokio::sync::oneshot;

use self::honest::Honest;
pub(super) use self::report::Floods;
use self::report::{Seen, Sent};
use super::feed::{Form, Pace, Streams};
use super::load::{Load, Share};
use super::measure::Usage;
use super::settings::{self, DAY, START};
use super::{BenchArgs, BenchError};
use crate::cli::child::{Server, quoted};
use crate::cli::floods::{self, Door};
use crate::client::Tls;
use crate::node::dev_certs::DevCerts;

/// When it is measured: a day after the start, once what happened on it is settled.
const NOW: i64 = START + DAY + 1_200;

/// How long a flood has to begin before anything is measured, and how long the service has to calm down after it.
const BETWEEN: Duration = Duration::from_secs(2);

/// A flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Flood {
    /// Ten thousand streams of payouts at once, again and again.
    Streams,
    /// Calls that are taken back as soon as they are made.
    Resets,
    /// Headers that never end.
    Continuation,
    /// Frames of data with nothing in them.
    EmptyData,
    /// Messages of a gibibyte.
    HugeMessages,
    /// Streams of payouts that nobody reads, each of two batches of megabytes.
    SlowReaders,
    /// Pages of one line.
    TinyPages,
    /// Connections that never say a word to TLS.
    SilentHandshakes,
}

impl Flood {
    /// What of it is counted.
    fn unit(self) -> &'static str {
        match self {
            Self::Streams | Self::SlowReaders => "streams",
            Self::Resets => "resets",
            Self::Continuation | Self::HugeMessages => "bytes",
            Self::EmptyData => "frames",
            Self::TinyPages => "pages",
            Self::SilentHandshakes => "connections",
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// One wave of it, and how much of it was tried.
    async fn wave(self, door: &Door) -> std::io::Result<u64> {
        /// How long what stays open is left so, before the next wave.
        const OPEN: Duration = Duration::from_secs(1);
        let held = match self {
            Self::Streams => (floods::streams(door, 10_000, 0).await?, 10_000),
            Self::Resets => (floods::rapid_resets(door, 5_000).await?.0, 5_000),
            Self::Continuation => return Ok(floods::continuation(door, 4 << 20).await? as u64),
            Self::EmptyData => (floods::empty_data(door, 20_000).await?, 20_000),
            Self::HugeMessages => {
                let waves = futures::future::join_all((0..32).map(|_| floods::huge(door, 1 << 30))).await;
                return Ok(waves.into_iter().flatten().map(|(_, taken)| taken as u64).sum());
            }
            Self::SlowReaders => (floods::streams(door, 300, 5_000).await?, 300),
            Self::TinyPages => {
                let (answered, refused) = floods::tiny_pages(door, 10_000, 20, 100).await?;
                return Ok((answered + refused) as u64);
            }
            Self::SilentHandshakes => (floods::silence(door, 2_000).await, 2_000),
        };
        if matches!(self, Self::Streams | Self::SlowReaders | Self::SilentHandshakes) {
            tokio::time::sleep(OPEN).await;
        }
        Ok(held.1)
    }
}

/// A flood that comes from a thread of its own, wave after wave, each connection from another address.
struct Attack {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    sent: Arc<AtomicU64>,
}

impl Attack {
    fn begin(flood: Flood, address: SocketAddr) -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Flood)?;
        let (stop, mut stopped) = oneshot::channel();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        let waves = async move {
            let door = Door::from_many(address);
            loop {
                match flood.wave(&door).await {
                    Ok(more) => counted.fetch_add(more, Ordering::Relaxed),
                    // It is refused at the door, and comes again.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        0
                    }
                };
            }
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = waves => {}
                    _ = &mut stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Ok(Self { stop, thread, sent })
    }

    /// Ends it.
    fn end(self) {
        // It is gone already where nobody hears it.
        let _gone = self.stop.send(());
        let _ended = self.thread.join();
    }
}

/// Measures every flood: those below TLS first, and then, on the same data, those above it.
pub(super) async fn run(args: &BenchArgs, folder: &Path) -> Result<Floods, BenchError> {
    let mut run = Run {
        args,
        load: Load { positions: args.positions, seed: args.seed },
        share: Share { place: 0, of: args.connections },
        acknowledged: 0,
        floods: Floods::default(),
    };
    let (above, below): (Vec<Flood>, Vec<Flood>) =
        Flood::value_variants().iter().partition(|flood| **flood == Flood::SilentHandshakes);
    let mut server = Server::prepare(folder, |data, port| settings::settings(data, port, args))?;
    let outcome = run.plain(&mut server, &below).await;
    outcome.map_err(|error| BenchError::Wrong(server.with_log(&error)))?;
    server.kill().await?;
    let (tls, secured) = secured(folder)?;
    let settings = |data: &Path, port| secured + &settings::settings(data, port, args);
    let mut server = Server::prepare(folder, settings)?.with_tls(tls.clone());
    let outcome = run.tls(&mut server, &tls, &above).await;
    outcome.map_err(|error| BenchError::Wrong(server.with_log(&error)))?;
    server.kill().await?;
    Ok(run.floods)
}

/// Certificates below `folder`, and the settings that use them.
fn secured(folder: &Path) -> Result<(Tls, String), BenchError> {
    let wrong = |error: &dyn std::fmt::Display| BenchError::Wrong(error.to_string());
    let certs = DevCerts::make(&[], Duration::from_secs(86_400)).map_err(|error| wrong(&error))?;
    for (name, text, _) in certs.files(&folder.display().to_string()) {
        std::fs::write(folder.join(name), text).map_err(BenchError::Flood)?;
    }
    let roles: Vec<String> = certs.clients.iter().map(|client| format!("\"{}\"", client.role)).collect();
    let caller = certs.clients.first().ok_or_else(|| wrong(&"there are no roles"))?;
    let identity = format!(
        "[[principals]]\nname = \"honest\"\nroles = [{}]\nsans = [\"URI:softstake://dev/{}\"]\n",
        roles.join(", "),
        caller.role
    );
    std::fs::write(folder.join("identity.toml"), identity).map_err(BenchError::Flood)?;
    let at = |name: &str| quoted(&folder.join(name));
    let settings = format!(
        "tls.cert_file = {}\ntls.key_file = {}\ntls.client_ca_file = {}\nidentity.file = {}\n",
        at("server.pem"),
        at("server.key"),
        at("ca.pem"),
        at("identity.toml")
    );
    let tls = Tls::new(certs.ca()).with_identity(caller.pair.cert.clone(), caller.pair.key.clone());
    Ok((tls, settings))
}

/// The run while it lasts.
struct Run<'a> {
    args: &'a BenchArgs,
    load: Load,
    /// The accounts of the honest client's events.
    share: Share,
    /// The last of them that is acknowledged.
    acknowledged: u64,
    floods: Floods,
}

impl Run<'_> {
    /// Opens all positions, closes a day, so that there are payouts, and measures.
    async fn plain(&mut self, server: &mut Server, floods: &[Flood]) -> Result<(), BenchError> {
        let client = server.start().await?;
        let BenchArgs { connections, batch, in_flight, .. } = self.args;
        let mut streams = Streams::new(self.load, *connections, *batch as usize, *in_flight as usize);
        streams.run(&server.endpoint(), Form::Packed, &Pace::Openings, START).await?;
        let call = |error| BenchError::Call { what: "AdvanceTime", error };
        for _ in 0..2 {
            client.advance_time(Timestamp { seconds: NOW, nanos: 0 }).await.map_err(call)?;
            streams.vouch(&server.endpoint(), START + DAY).await?;
        }
        self.acknowledged = streams.acknowledged().first().map_or(0, |(_, last)| *last);
        self.measure(server, None, floods).await
    }

    async fn tls(&mut self, server: &mut Server, tls: &Tls, floods: &[Flood]) -> Result<(), BenchError> {
        server.start().await?;
        self.measure(server, Some(tls), floods).await
    }

    async fn measure(&mut self, server: &Server, tls: Option<&Tls>, floods: &[Flood]) -> Result<(), BenchError> {
        let (endpoint, long) = (server.endpoint(), Duration::from_secs(self.args.seconds));
        let mut honest = Honest::connect(&endpoint, tls, self.load, self.share, self.acknowledged, NOW).await?;
        honest.calls(BETWEEN).await?;
        for flood in floods {
            let quiet = honest.calls(long).await?;
            let before = Usage::of(server.process_id());
            let attack = Attack::begin(*flood, server.address())?;
            honest.calls(BETWEEN).await?;
            let (began, sent) = (Instant::now(), attack.sent.load(Ordering::Relaxed));
            let flooded = honest.calls(long).await?;
            let sent = Sent { count: attack.sent.load(Ordering::Relaxed) - sent, took: began.elapsed() };
            attack.end();
            let peak_bytes = Usage::of(server.process_id()).peak_bytes.saturating_sub(before.memory_bytes);
            self.floods.add(Seen::new(*flood, quiet, flooded, sent, peak_bytes));
            honest.calls(BETWEEN).await?;
        }
        self.acknowledged = honest.acknowledged();
        Ok(())
    }
}
