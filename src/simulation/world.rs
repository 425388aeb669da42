//! A world: what outlives the service, and how one step of it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::app::metrics::OperationRow;
use crate::app::{App, AppError, Failure, Pool, Settings};
use crate::book::BookConfig;
use crate::clock::Clock;
use crate::domain::ids::PoolId;
use crate::domain::operation::{OPERATION_EVENTS, OPERATION_STATES};
use crate::domain::time::UnixSeconds;
use crate::store::StoreError;
use crate::store::model::{Crash, ModelStore};

use super::calls::{Ask, Call, Names};
use super::chains::WorldChain;
use super::coverage::Coverage;
use super::custody::Custody;
use super::disk::{Aim, Disk, Doom, Image};
use super::engine::{Engine, Killed};
use super::fault::{FAULT, Fault};
use super::founding::{self, START};
use super::ledger::Ledger;
use super::promises::Promises;
use super::rng::Rng;
use super::{Options, Problem, required};

/// A tick that still finds work after so many others never ends.
const MAX_TICKS: usize = 200;
/// A checkpoint that begins by itself is brought forward by up to so many steps at once.
const CHECKPOINT_STEPS: u32 = 60;
/// In every so manieth step the distributions are looked at between its ticks.
const LOOKED_AT: u64 = 16;
/// A service that dies so often while it starts is started without faults.
const MAX_RESTARTS: usize = 3;

/// Time as somebody sees it.
pub(super) struct Hand {
    now: AtomicI64,
    /// What it showed at most: within one process time does not go back.
    latest: AtomicI64,
}

impl Hand {
    fn new(now: i64) -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(now), latest: AtomicI64::new(now) })
    }

    fn set(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
        self.latest.fetch_max(now, Ordering::Relaxed);
    }

    fn forget(&self) {
        self.latest.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.latest.load(Ordering::Relaxed) * 1_000
    }
}

/// What ends a step early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The process is dead.
    Killed,
    /// Something is that must not be.
    Failed(Problem),
}

impl Stop {
    pub(super) fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed(Problem::of(what))
    }
}

impl From<Killed> for Stop {
    fn from(_: Killed) -> Self {
        Self::Killed
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

/// Everything there is.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) step: u64,
    pub(super) coverage: Coverage,
    pub(super) story: Vec<String>,
    pub(super) names: Names,
    pub(super) chains: Vec<WorldChain>,
    pub(super) calls: Vec<Call>,
    pub(super) ledger: Ledger,
    pub(super) custody: Custody,
    pub(super) promises: Promises,
    pub(super) engine: Option<Engine>,
    disk: Arc<Disk>,
    /// The time of the world and its chains.
    time: Arc<Hand>,
    /// The time that the service sees, and by how much it is wrong.
    clock: Arc<Hand>,
    pub(super) skew: i64,
    pub(super) settings: Settings,
    pub(super) book: BookConfig,
    /// When the service had nothing left to do, since it was started: as its clock said.
    pub(super) idle_at: Option<UnixSeconds>,
    trace: bool,
}

impl World {
    /// Makes a world, with its pools and sources. No fault happens until that is done.
    pub(super) async fn found(options: Options) -> Result<Self, Problem> {
        let mut rng = Rng::new(options.seed, "world");
        let (time, clock) = (Hand::new(START), Hand::new(START));
        let mut chains = Vec::new();
        for (number, (preset, config)) in (1..).zip(founding::chains(&mut rng)) {
            chains.push(WorldChain::new(preset, config, number, time.clone()).map_err(Problem::of)?);
        }
        let pools = chains.iter().map(|chain| PoolId::new(chain.preset)).collect::<Result<Vec<_>, _>>();
        let names = Names::new(pools.map_err(Problem::of)?)?;
        let (settings, book) = (founding::app_settings(&mut rng), founding::book_config(&mut rng));
        let mut world = Self {
            ledger: Ledger::new(&mut rng, &chains, names.sources.len()),
            custody: Custody::default(),
            promises: Promises::default(),
            step: 0,
            coverage: Coverage::default(),
            story: Vec::new(),
            names,
            chains,
            calls: Vec::new(),
            engine: None,
            disk: Disk::new(ModelStore::new()),
            time,
            clock,
            skew: 0,
            settings,
            book,
            idle_at: None,
            trace: options.trace,
            rng,
        };
        let founded = world.settle_down(options.partitions).await;
        match founded {
            Ok(()) => Ok(world),
            Err(Stop::Killed) => Err(Problem::of("the service died while its world was made")),
            Err(Stop::Failed(problem)) => Err(problem),
        }
    }

    async fn settle_down(&mut self, partitions: Option<u16>) -> Result<(), Stop> {
        self.start().await?;
        let sources = self.names.sources.len() - 1;
        for source in 0..sources {
            let id = self.names.sources[source].clone();
            self.ask(Ask::RegisterSource(id)).await?;
        }
        for index in 0..self.chains.len() {
            let (preset, config) = (self.chains[index].preset, self.chains[index].config.clone());
            let new = founding::pool(&mut self.rng, preset, &config, partitions)?;
            self.note(|| format!("{preset}: {new:?}"));
            self.coverage.hit("preset", preset);
            self.ask(Ask::CreatePool(Box::new(new))).await?;
        }
        self.tick_until_idle().await?;
        self.open_balances().await
    }

    /// Lives through `steps` steps with faults, then comes to rest. Gives the hash of the final state.
    pub(super) async fn live(&mut self, steps: u64) -> Result<String, Problem> {
        while self.step < steps {
            self.step += 1;
            self.one_step().await?;
        }
        self.rest().await?;
        self.count_operation_events();
        self.state_hash().await
    }

    /// Tells the story.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace {
            let (step, now) = (self.step, self.now().get() - START);
            self.story.push(format!("{step:>4} {now:>7}s  {}", what()));
        }
    }

    /// The time of the world.
    pub(super) fn now(&self) -> UnixSeconds {
        UnixSeconds::new(self.time.now.load(Ordering::Relaxed))
    }

    /// Moves the time of the world, and with it what the service sees.
    pub(super) fn move_time(&mut self, by: i64) {
        self.time.set(self.now().get() + by);
        self.clock.set(self.now().get() + self.skew);
    }

    /// Makes the service's clock wrong by `skew`.
    pub(super) fn set_skew(&mut self, skew: i64) {
        self.skew = skew;
        self.clock.set(self.now().get() + skew);
    }

    /// The service, if it runs.
    pub(super) fn app(&self) -> Result<Arc<App>, Stop> {
        self.engine.as_ref().map(|engine| engine.app.clone()).ok_or(Stop::Killed)
    }

    /// A pool of the service.
    pub(super) fn pool(&self, index: usize) -> Result<Arc<Pool>, Stop> {
        let name = self.names.pools.get(index).unwrap_or(&self.names.nowhere);
        self.app()?.pool(name).map_err(|error| Stop::failed(format!("pool {name}: {error}")))
    }

    /// Does something with the service, while its book runs beside it.
    pub(super) async fn drive<T>(&mut self, work: impl AsyncFnOnce(Arc<App>) -> T) -> Result<T, Stop> {
        let app = self.app()?;
        let Some(engine) = &mut self.engine else { return Err(Stop::Killed) };
        Ok(engine.drive(work(app)).await?)
    }

    /// Reads something of the service. A failure that may pass is `None`.
    pub(super) async fn ask_app<T>(
        &mut self,
        what: &str,
        work: impl AsyncFnOnce(Arc<App>) -> Result<T, AppError>,
    ) -> Result<Option<T>, Stop> {
        match self.drive(work).await? {
            Ok(value) => Ok(Some(value)),
            Err(AppError::Refused(refusal)) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                self.note(|| format!("{what}: refused, {refusal}"));
                Ok(None)
            }
            Err(error) => {
                self.note(|| format!("{what}: {error}"));
                self.unanswered(what, &error).map(|_| None)
            }
        }
    }

    async fn one_step(&mut self) -> Result<(), Problem> {
        let doomed = self.draw_doom();
        let done = self.act_and_settle().await;
        let must_restart = match done {
            Ok(()) => self.disk.has_failed() || doomed,
            Err(Stop::Killed) => true,
            Err(Stop::Failed(problem)) => return Err(problem),
        };
        if must_restart {
            self.restart(true).await?;
        }
        self.keep_promises().await
    }

    async fn act_and_settle(&mut self) -> Result<(), Stop> {
        if self.rng.below(2) == 0 {
            self.send_open_calls().await?;
        }
        self.act().await?;
        self.tick_until_idle().await?;
        self.checkpoint_by_itself().await
    }

    /// Makes the checkpoints that are due because a journal has grown. When that is follows from the partitioning, so no
    /// fault of the disk comes of it.
    async fn checkpoint_by_itself(&mut self) -> Result<(), Stop> {
        let disk = self.disk.clone();
        let Some(engine) = self.engine.as_mut().filter(|engine| engine.checkpoint_due()) else { return Ok(()) };
        disk.hold(true);
        let done = engine.checkpoint(false, CHECKPOINT_STEPS).await;
        disk.hold(false);
        self.coverage.hit("world", "checkpoint as a journal has grown");
        Ok(done?)
    }

    /// Plans a crash for this step, now and then.
    fn draw_doom(&mut self) -> bool {
        if self.rng.below(100) < 3 {
            let (after, times) = (self.rng.below(8), 1 + u32::try_from(self.rng.below(3)).unwrap_or(0));
            self.disk.be_busy(after, times);
        }
        if self.rng.below(100) >= 6 {
            return false;
        }
        let aim = if self.rng.below(4) == 0 { Aim::Inner } else { Aim::Story };
        let after = if aim == Aim::Inner { 0 } else { self.rng.below(10) };
        let image = Image::ALL[self.rng.index(Image::ALL.len())];
        let doom = Doom { aim, after, image, draw: self.rng.bits(), kill: self.rng.below(3) > 0 };
        self.note(|| format!("doomed: {doom:?}"));
        self.disk.doom(doom);
        true
    }

    /// Plans a crash for what is being done now: it comes in one of the next commits, or not at all.
    pub(super) fn doom_snapshot(&mut self) {
        let aim = if self.rng.below(2) == 0 { Aim::Inner } else { Aim::Story };
        let after = if aim == Aim::Inner { 0 } else { self.rng.below(2) };
        let image = Image::ALL[self.rng.index(Image::ALL.len())];
        self.disk.doom(Doom { aim, after, image, draw: self.rng.bits(), kill: true });
    }

    /// Ticks until nothing is due.
    pub(super) async fn tick_until_idle(&mut self) -> Result<(), Stop> {
        self.idle_at = None;
        for _ in 0..MAX_TICKS {
            let Some(engine) = &mut self.engine else { return Err(Stop::Killed) };
            let now = engine.app.now();
            let ticked = engine.tick().await?;
            for (what, error) in &ticked.failures {
                self.judge_failure(what, error)?;
            }
            if ticked.worked == 0 || self.disk.has_failed() {
                self.idle_at = ticked.failures.is_empty().then_some(now);
                return Ok(());
            }
            if self.step.is_multiple_of(LOOKED_AT) {
                self.look_at_distributions().await?;
            }
        }
        Err(Stop::failed(format!("there is still work after {MAX_TICKS} ticks")))
    }

    /// Counts the states of distributions between two ticks, or after a crash: some are gone with the next one.
    async fn look_at_distributions(&mut self) -> Result<(), Stop> {
        for pool in 0..self.chains.len() {
            for record in self.distributions(pool).await? {
                self.coverage.hit("distribution state", record.state.name());
            }
        }
        Ok(())
    }

    fn judge_failure(&mut self, what: &str, error: &AppError) -> Result<(), Stop> {
        self.note(|| format!("a step of {what} failed: {error}"));
        let fatal =
            matches!(error, AppError::Store(StoreError::Fatal(_))) || error.failure() == Failure::OutcomeUnknown;
        if fatal && self.disk.has_failed() {
            return Ok(());
        }
        match error {
            AppError::Refused(refusal) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                Ok(())
            }
            // What a chain has lied about may fit nothing that is booked.
            AppError::Broken(_)
                if self.chains.iter().any(|chain| chain.preset == what && !chain.watched.lies().is_empty()) =>
            {
                self.coverage.hit("failure", "Broken by a lie");
                Ok(())
            }
            _ => self.unanswered(&format!("a step of {what}"), error).map(|_| ()),
        }
    }

    /// Starts the service on what is on the disk.
    pub(super) async fn start(&mut self) -> Result<(), Stop> {
        self.engine = None;
        self.idle_at = None;
        self.clock.forget();
        for chain in &self.chains {
            chain.watched.set_disk(self.disk.clone());
        }
        let chains = self.chains.iter().map(WorldChain::connection).collect();
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        let opened = Engine::open(disk, clock, chains, self.settings.clone(), self.book.clone()).await?;
        match opened {
            Ok(engine) => {
                self.engine = Some(engine);
                Ok(())
            }
            Err(error) if self.disk.has_failed() => {
                self.note(|| format!("the start failed: {error}"));
                Err(Stop::Killed)
            }
            Err(error) => Err(Stop::failed(format!("the service does not start: {error}"))),
        }
    }

    /// The process ends in some way, and another one takes over. With `faults` that one may die while it starts.
    pub(super) async fn restart(&mut self, faults: bool) -> Result<(), Problem> {
        for attempt in 0.. {
            let crash = if self.rng.below(2) == 0 { Crash::Process } else { Crash::Power };
            self.record_crash(crash);
            self.engine = None;
            self.disk = self.disk.after(crash);
            if self.rng.below(4) == 0 {
                self.skew = 0;
            }
            self.set_skew(self.skew);
            let again = faults && attempt < MAX_RESTARTS && self.rng.below(4) == 0;
            if again {
                let image = Image::ALL[self.rng.index(Image::ALL.len())];
                let (after, draw) = (self.rng.below(3), self.rng.bits());
                self.disk.doom(Doom {
                    aim: if self.rng.below(2) == 0 { Aim::Story } else { Aim::Inner },
                    after,
                    image,
                    draw,
                    kill: true,
                });
                self.coverage.fault(Fault::DeathInRecovery);
            }
            let started = self.come_back().await;
            match started {
                Ok(()) if !again && !self.disk.has_failed() => return Ok(()),
                // Where the planned death did not come, it comes now.
                Ok(()) | Err(Stop::Killed) => {}
                Err(Stop::Failed(problem)) => return Err(problem),
            }
        }
        Ok(())
    }

    /// The service starts, its clients find out how far it got, and it does what is due.
    async fn come_back(&mut self) -> Result<(), Stop> {
        self.start().await?;
        self.look_at_distributions().await?;
        self.resume_snapshots().await?;
        self.resume_feeds().await?;
        self.send_open_calls().await?;
        self.tick_until_idle().await
    }

    /// Counts what the operations of this process met.
    fn count_operation_events(&mut self) {
        let Some(engine) = &self.engine else { return };
        let met = engine.app.metrics.operation_events.clone();
        for state in OPERATION_STATES {
            for event in OPERATION_EVENTS {
                let row = OperationRow { state: state.name(), event: event.name() };
                let times = met.get(&row).map_or(0, |count| count.get());
                self.coverage.add("operation row", required::row(row.state, row.event), times);
                self.coverage.add("operation state", row.state, times);
            }
        }
        met.clear();
    }

    fn record_crash(&mut self, crash: Crash) {
        self.count_operation_events();
        self.count_busy();
        let struck = self.disk.struck();
        if let Some((doom, batches)) = struck {
            let image = if doom.image == Image::Torn && batches < 2 { Image::Before } else { doom.image };
            self.coverage.fault(Fault::Left(image, crash));
            self.coverage.fault(if doom.kill { Fault::DeathInCommit } else { Fault::StoreFailed });
            if doom.aim == Aim::Inner {
                self.coverage.fault(Fault::DeathInBook);
            }
        } else {
            self.coverage.fault(Fault::DeathBetweenCommits);
        }
        self.note(|| format!("crash: {crash:?}, {struck:?}"));
    }

    /// No more faults of the disk.
    pub(super) fn calm(&mut self) {
        self.disk.calm();
        self.count_busy();
    }

    fn count_busy(&mut self) {
        let busied = self.disk.busied();
        self.coverage.add(FAULT, Fault::StoreBusy.name(), busied);
    }

    /// Whether nothing is going to fail.
    pub(super) fn disk_is_well(&self) -> bool {
        self.disk.is_well()
    }

    /// The disk, for reading.
    pub(super) fn disk(&self) -> Arc<Disk> {
        self.disk.clone()
    }
}
