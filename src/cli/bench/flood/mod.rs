//! What an honest client notices of floods: its calls, measured while all is quiet and then under each flood in turn. The
//! service has the default limits, but for the time that a call may take. Client, floods and service share the machine; the
//! floods take of it what the other two leave, unless they are told otherwise.

mod honest;
mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use prost_types::Timestamp;
use tokio::sync::oneshot;

use self::honest::Honest;
pub(super) use self::report::Floods;
use self::report::{Seen, Sent, Taken};
use super::feed::{Form, Pace, Streams};
use super::load::{Load, Share};
use super::measure::Usage;
use super::settings::{self, DAY, START};
use super::{BenchArgs, BenchError};
use crate::cli::child::{Server, quoted};
use crate::cli::floods::{self, Door, Held};
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

    /// One wave of it. How much of it was tried is counted meanwhile.
    async fn wave(self, door: &Door, sent: &AtomicU64) -> std::io::Result<()> {
        /// How long what stays open is left so, before the next wave.
        const OPEN: Duration = Duration::from_secs(1);
        let count = |more: usize| sent.fetch_add(more as u64, Ordering::Relaxed);
        let mut held = Held::default();
        match self {
            Self::Streams | Self::SlowReaders => {
                let (all, batch) = if self == Self::Streams { (10_000, 0) } else { (300, 5_000) };
                for _ in 0..all / 100 {
                    held.and(floods::streams(door, 100, batch).await?);
                    count(100);
                }
            }
            Self::Resets => {
                held.and(floods::rapid_resets(door, 5_000).await?.0);
                count(5_000);
            }
            Self::Continuation => {
                count(floods::continuation(door, 4 << 20).await?);
            }
            Self::EmptyData => {
                held.and(floods::empty_data(door, 20_000).await?);
                count(20_000);
            }
            Self::HugeMessages => {
                let wave = futures::future::join_all((0..32).map(|_| floods::huge(door, 1 << 30))).await;
                count(wave.into_iter().flatten().map(|(_, taken)| taken).sum());
            }
            Self::TinyPages => {
                let (answered, refused) = floods::tiny_pages(door, 10_000, 20, 100).await?;
                count(answered + refused);
            }
            Self::SilentHandshakes => {
                for _ in 0..20 {
                    let some = floods::silence(door, 100).await;
                    count(some.connections.len());
                    held.and(some);
                }
            }
        }
        if matches!(self, Self::Streams | Self::SlowReaders | Self::SilentHandshakes) {
            tokio::time::sleep(OPEN).await;
        }
        Ok(())
    }
}

/// Has the thread that calls it take of the processors what others leave.
fn step_back() -> Result<(), BenchError> {
    let thread = std::fs::read_link("/proc/thread-self").map_err(BenchError::Flood)?;
    let thread = thread.file_name().ok_or_else(|| BenchError::Wrong("this thread has no number".to_owned()))?;
    let chrt = std::process::Command::new("chrt").args(["--idle", "--pid", "0"]).arg(thread).status();
    let refused = || BenchError::Wrong("chrt gives no thread less; --flood-equal does without".to_owned());
    chrt.map_err(BenchError::Flood)?.success().then_some(()).ok_or_else(refused)
}

/// Computes until it is dropped, on a thread of its own.
struct Loop {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Loop {
    fn begin(equal: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            if equal || step_back().is_ok() {
                while !stopped.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It has no more to say.
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

/// A flood that comes from a thread of its own, wave after wave, each connection from another address.
struct Attack {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<Result<(), BenchError>>,
    sent: Arc<AtomicU64>,
}

impl Attack {
    fn begin(flood: Flood, address: SocketAddr, equal: bool) -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Flood)?;
        let (stop, mut stopped) = oneshot::channel();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        let waves = async move {
            let door = Door::from_many(address);
            loop {
                if flood.wave(&door, &counted).await.is_err() {
                    // It is refused at the door, and comes again.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        let thread = std::thread::spawn(move || {
            if !equal {
                step_back()?;
            }
            runtime.block_on(async {
                tokio::select! {
                    () = waves => {}
                    _ = &mut stopped => {}
                }
            });
            runtime.shutdown_background();
            Ok(())
        });
        Ok(Self { stop, thread, sent })
    }

    /// Ends it.
    fn end(self) -> Result<(), BenchError> {
        // It is gone already where nobody hears it.
        let _gone = self.stop.send(());
        let died = |_| BenchError::Wrong("the flood's thread died".to_owned());
        self.thread.join().map_err(died)?
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
    let wanted = |flood: &&Flood| args.only.is_empty() || args.only.contains(flood);
    let (above, below): (Vec<Flood>, Vec<Flood>) =
        Flood::value_variants().iter().filter(wanted).partition(|flood| **flood == Flood::SilentHandshakes);
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
        let equal = self.args.flood_equal;
        for flood in floods {
            let beside = self.args.beside_a_loop.then(|| Loop::begin(equal));
            let quiet = honest.calls(long).await?;
            drop(beside);
            let before = Usage::of(server.process_id());
            let attack = Attack::begin(*flood, server.address(), equal)?;
            honest.calls(BETWEEN).await?;
            let (began, sent) = (Instant::now(), attack.sent.load(Ordering::Relaxed));
            let used = Usage::of(server.process_id());
            let flooded = honest.calls(long).await?;
            let after = Usage::of(server.process_id());
            let sent = Sent { count: attack.sent.load(Ordering::Relaxed) - sent, took: began.elapsed() };
            attack.end()?;
            let growth_bytes = after.peak_bytes.saturating_sub(before.memory_bytes);
            let cpu = Duration::from_millis(after.cpu_ms.saturating_sub(used.cpu_ms));
            self.floods.add(Seen::new(*flood, quiet, flooded, sent, Taken { growth_bytes, cpu }));
            honest.calls(BETWEEN).await?;
        }
        self.acknowledged = honest.acknowledged();
        Ok(())
    }
}
