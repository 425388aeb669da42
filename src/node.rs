//! The running service: builds the rooms in their order, drives the steps, serves, and drains.
//!
//! This room alone names engines and adapters. Called by `cli/` and by the tests over a real socket.

pub mod adapter_check;
pub mod audit_log;
pub mod backups;
mod chains;
mod connections;
mod credentials;
mod custody;
pub mod dev_certs;
mod driver;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod host;
mod listener;
mod refusals;
mod serving;
mod settings;
pub mod sim_chain;
mod simulation;
mod strangers;
mod tasks;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::api::access::Access;
use crate::api::transport::Guard;
use crate::app::{self, App, AppError, Descriptor, Request};
use crate::book::{Book, BookConfig, BookError};
use crate::chain::ChainError;
use crate::clock::{AcceleratedClock, Clock, ClockError, ManualClock, SystemClock};
use crate::config::{ClockSettings, Config, Listen, LogFormat};
use crate::domain::caller::Caller;
use crate::domain::ids::{IdError, PoolId, RequestId, SourceId};
use crate::domain::time::UnixSeconds;
use crate::store::migrations::{self, MigrationError};
use crate::store::sled::{ArchiveError, OpenError, SledOptions, SledStore};
use crate::store::{Store, StoreError};
use crate::telemetry::{Format, Health, HttpLimits, Metrics, Readiness, TelemetryError};

pub use self::listener::Address;

use self::backups::BackupFolder;
use self::credentials::Reloader;
use self::custody::CustodyDesk;
use self::driver::Driver;
use self::listener::{Handshakes, TlsSlot};
use self::refusals::Recorder;
use self::simulation::SimulatedWorld;
use self::tasks::BookTasks;

/// Why the service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A setting that only the rooms could judge.
    #[error("{key}: {problem}")]
    Setting {
        /// Which.
        key: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The data folder or a socket.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The clock.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's files.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An archive of the store.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store's version.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The book.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The service itself.
    #[error(transparent)]
    App(#[from] AppError),
    /// A name in the settings.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The transport.
    #[error("the gRPC server: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The log.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// It could not go on while it ran.
    #[error("the service ended: {0}")]
    Failed(String),
    /// Reflection.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running service. Drop it only after [`Node::stop`].
pub struct Node {
    /// Where gRPC is served.
    pub address: Address,
    /// Where metrics and health are served over HTTP.
    pub metrics_address: SocketAddr,
    stop: watch::Sender<bool>,
    readiness: Readiness,
    reloader: Arc<Reloader>,
    recorder: Recorder,
    drain: Duration,
    /// Cuts every connection.
    cut: CancellationToken,
    guard: Arc<Guard>,
    unread: JoinHandle<()>,
    book: BookTasks,
    tasks: JoinSet<()>,
}

/// Runs the service until `shutdown`, then drains it. Logs as the configuration says.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()> + Send) -> Result<(), NodeError> {
    let format = match config.log.format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    crate::telemetry::install(format, &config.log.level)?;
    tokio::pin!(shutdown);
    let node = tokio::select! {
        node = Node::start(config) => node?,
        () = &mut shutdown => return Ok(()),
    };
    tracing::info!(address = %node.address, metrics_address = %node.metrics_address, "serving");
    let mut health = node.readiness.watch();
    let failed = async {
        let failed = health.wait_for(|health| matches!(health, Health::Failed(_))).await;
        failed.map_or_else(|_| Health::Draining, |health| health.clone())
    };
    let ended = tokio::select! {
        () = &mut shutdown => Ok(()),
        health = failed => Err(NodeError::Failed(health.to_string())),
    };
    node.stop().await;
    ended
}

/// Which clock, and the levers over it where it is manual.
struct Clocks {
    clock: Arc<dyn Clock>,
    manual: Option<Arc<ManualClock>>,
}

fn open_clock(config: &Config) -> Result<Clocks, NodeError> {
    let path = config.data_dir.join("clock");
    let start = |start_ms: Option<i64>| start_ms.unwrap_or_else(|| SystemClock::new().now_ms());
    Ok(match &config.clock {
        ClockSettings::System => Clocks { clock: Arc::new(SystemClock::new()), manual: None },
        ClockSettings::Manual { start_ms } => {
            let manual = Arc::new(ManualClock::open(&path, start(*start_ms))?);
            Clocks { clock: manual.clone(), manual: Some(manual) }
        }
        ClockSettings::Accelerated { factor, start_ms } => {
            let clock = AcceleratedClock::open(&path, start(*start_ms), *factor)?;
            Clocks { clock: Arc::new(clock), manual: None }
        }
    })
}

fn create(folder: &Path) -> Result<(), NodeError> {
    std::fs::create_dir_all(folder)
        .map_err(|error| NodeError::Io { what: format!("creating {}", folder.display()), error })
}

async fn listen(key: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), NodeError> {
    let what = || format!("listening on {address} failed; free it, or set `{key}` to another address");
    let io = |error| NodeError::Io { what: what(), error };
    let listener = TcpListener::bind(address).await.map_err(io)?;
    let bound = listener.local_addr().map_err(io)?;
    Ok((listener, bound))
}

impl Node {
    /// Opens everything, recovers, and begins to serve.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        // What can't be read here stops the start before anything is opened.
        let credentials = credentials::load(&config)?;
        if config.identity.is_none() && matches!(config.listen, Listen::Tcp(_)) {
            tracing::warn!(
                address = %config.listen,
                "no identity.file is set: whoever reaches this address may make every call, payouts and approvals included"
            );
        }
        create(&config.data_dir)?;
        let (metrics, readiness) = (Metrics::new(), Readiness::new());
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();

        let (http, metrics_address) = listen("metrics_listen", config.metrics_listen).await?;
        let (shown, limits) = ((metrics.clone(), readiness.clone()), HttpLimits::default());
        let http = crate::telemetry::serve_http(http, shown.0, shown.1, limits, stopped(stopping.clone()));
        tasks.spawn(tasks::watched("the metrics endpoint", readiness.clone(), stopping.clone(), http));

        let clocks = open_clock(&config)?;
        let sled = Arc::new(SledStore::open(&config.data_dir.join("store"), SledOptions::default())?);
        let store: Arc<dyn Store> = sled.clone();
        migrations::migrate(store.as_ref()).await?;
        let chains = chains::open(&config, &clocks.clock).await?;

        let specs = app::pool_records(store.as_ref()).await?.iter().map(app::spec).collect();
        let book_config = BookConfig {
            queue_commands: config.book.queue_commands,
            queue_events: config.book.queue_events,
            group_events: config.book.group_max_events,
            checkpoint_journal_bytes: config.book.checkpoint_journal_bytes,
            archive_for_ever: config.book.archive_for_ever,
            ..BookConfig::default()
        };
        let book_metrics = book_config.metrics.clone();
        let (book, committer) = Book::open(store.clone(), specs, book_config).await?;
        let book_tasks = BookTasks::start(committer, clocks.clock.clone(), &readiness);

        let sender = book.sender();
        let app_settings = settings::app_settings(&config)?;
        let app = App::new(store, clocks.clock.clone(), Arc::new(book), sender, chains.all, app_settings);
        let app = Arc::new(app);
        if let Some(folder) = &config.backup_dir {
            app.archive_in(Arc::new(BackupFolder::open(sled, folder)?));
        }
        metrics.register(|registry| {
            book_metrics.register(registry);
            app.metrics.register(registry);
        });
        app.open().await?;
        found_pools(&app, &config, &chains.descriptors).await?;

        let desk = CustodyDesk { chains: chains.automatic };
        let driver = Arc::new(Driver::new(app.clone(), desk));
        let simulation = clocks.manual.map(|clock| {
            let (app, driver, chains) = (app.clone(), driver.clone(), chains.simulated);
            let moving = tokio::sync::Mutex::new(());
            Arc::new(SimulatedWorld { app, clock, driver, chains, moving }) as Arc<dyn app::simulate::Simulation>
        });
        // A manual clock moves by AdvanceTime alone, which drives the steps itself; so does a start.
        driver.tick(app.now()).await;
        if simulation.is_none() {
            let every = Duration::from_millis(config.intervals.tick_ms);
            let driving = tasks::drive(driver, app.clone(), every, stopping.clone()).map(Ok::<_, Infallible>);
            tasks.spawn(tasks::watched("the driver of the steps", readiness.clone(), stopping.clone(), driving));
        }

        let tls = credentials.tls.map(TlsSlot::new);
        let handshakes = Handshakes {
            most: config.limits.max_handshakes,
            longest: Duration::from_millis(config.limits.handshake_timeout_ms),
        };
        let (listener, address) = listener::listen(&config.listen, tls.clone(), handshakes).await?;
        let calendar = SystemClock::new();
        let now = Arc::new(move || UnixSeconds::new(calendar.now_ms().div_euclid(1_000)));
        let (refusals, recorder) = Recorder::start(app.clone());
        let access = Arc::new(Access::new(credentials.admission, now, Box::new(refusals)));
        let reloader = Arc::new(Reloader::new(config.clone(), access.clone(), tls, credentials.kept));
        metrics.register(|registry| {
            access.register(registry);
            recorder.register(registry);
            reloader.register(registry);
        });
        if config.identity.is_some() {
            let reloading = reloader.clone().run(credentials::hangup()?, stopping.clone()).map(Ok::<_, Infallible>);
            tasks.spawn(tasks::watched("the reload of credentials", readiness.clone(), stopping.clone(), reloading));
        }
        let limits = settings::api_limits(&config);
        let api = Api::new(app, simulation, limits, stopping.clone());
        let (cut, transport_metrics) = (CancellationToken::new(), api.metrics.clone());
        metrics.register(|registry| transport_metrics.register(registry));
        let (guard, server) = serving::grpc(&config, api, access, listener, cut.clone(), stopping.clone()).await?;
        let watching = guard.clone().cut_unread().map(Ok::<_, Infallible>);
        let unread =
            tokio::spawn(tasks::watched("the watch of readers", readiness.clone(), stopping.clone(), watching));
        tasks.spawn(tasks::watched("the gRPC server", readiness.clone(), stopping, server));
        readiness.set(Health::Serving);
        let drain = Duration::from_millis(config.limits.drain_timeout_ms);
        let book = book_tasks;
        Ok(Self {
            address,
            metrics_address,
            stop,
            readiness,
            reloader,
            recorder,
            drain,
            cut,
            guard,
            unread,
            book,
            tasks,
        })
    }

    /// Reads the identity and TLS files again, as SIGHUP does: they hold from the next call and the next connection on. Files
    /// that can't be read or kept are an error and change nothing.
    pub fn reload(&self) -> Result<(), NodeError> {
        self.reloader.reload()
    }

    /// Takes nothing new, finishes what is in flight within the drain time, and lets the book write a last checkpoint.
    pub async fn stop(mut self) {
        self.readiness.set(Health::Draining);
        self.stop.send_replace(true);
        let drained = tokio::time::timeout(self.drain, async {
            while self.tasks.join_next().await.is_some() {}
            // What nobody waits for any more is finished all the same.
            self.guard.idle().await;
        });
        if drained.await.is_err() {
            tracing::warn!("the drain time ran out; what was still open is cut off");
            self.tasks.shutdown().await;
        }
        // What was refused until now is written down while the store is open.
        self.reloader.finish();
        self.recorder.stop().await;
        self.cut.cancel();
        self.unread.abort();
        self.book.stop().await;
        tracing::info!("stopped");
    }
}

/// Resolves when the service is told to stop.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the node is gone, which is as good as told.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Sources and pools that the configuration names and the store does not have yet.
async fn found_pools(app: &App, config: &Config, descriptors: &BTreeMap<PoolId, Descriptor>) -> Result<(), NodeError> {
    for source in &config.sources {
        let id = SourceId::new(source)?;
        if app.sources().iter().all(|known| known.id != id) {
            let request = RequestId::new(&format!("config:{id}"))?;
            let request = Request::new("AdminService/RegisterSource", request, Caller::service(), source.as_bytes());
            let _once = app.register_source(&request, id, "named by the configuration").await?;
        }
    }
    for pool in &config.pools {
        let id = PoolId::new(&pool.id)?;
        if !pool.create || app.pool(&id).is_ok() {
            continue;
        }
        let descriptor = descriptors.get(&id).ok_or_else(|| NodeError::Failed(format!("pool {id} has no chain")))?;
        let new = settings::new_pool(config, pool, descriptor)?;
        let request = RequestId::new(&format!("config:{id}"))?;
        let request = Request::new("AdminService/CreatePool", request, Caller::service(), pool.id.as_bytes());
        let _once = app.create_pool(&request, new).await?;
    }
    Ok(())
}
