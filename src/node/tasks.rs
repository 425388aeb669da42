//! The tasks that drive the steps. Each is watched: one that dies, or ends before it was told to, has failed the service.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;
use crate::book::{BookError, Committer, Sealer};
use crate::clock::Clock;
use crate::domain::time::UnixSeconds;
use crate::telemetry::{Health, Readiness};

use super::driver::Driver;

/// How long a task of the book waits before it tries a busy store again.
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// How long a stopping service gives the book to write its last checkpoint.
const LAST_CHECKPOINT: Duration = Duration::from_secs(20);

/// `work`, watched: where it fails, dies or ends while the service is not stopping, the service has failed.
pub(super) async fn watched<E: std::fmt::Display>(
    task: &'static str,
    readiness: Readiness,
    stopping: watch::Receiver<bool>,
    work: impl Future<Output = Result<(), E>>,
) {
    // Nothing that the work leaves behind is used any more: the service ends.
    let problem = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(())) if *stopping.borrow() => return,
        Ok(Ok(())) => "it ended before it was told to".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("it died: {}", last_words(panic.as_ref())),
    };
    tracing::error!(task, problem, "a task of the service has failed; restart the service");
    readiness.set(Health::Failed(format!("{task}: {problem}")));
}

fn last_words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

/// The tasks of the book: the committer's, and the sealer's beside it.
pub(super) struct BookTasks {
    stop: watch::Sender<bool>,
    both: JoinSet<()>,
}

impl BookTasks {
    pub(super) fn start(mut committer: Committer, clock: Arc<dyn Clock>, readiness: &Readiness) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut both = JoinSet::new();
        let sealing = seal(committer.split_sealer(), stopping.clone());
        both.spawn(watched("the sealer", readiness.clone(), stopping.clone(), sealing));
        let committing = commit(committer, clock, stopping.clone());
        both.spawn(watched("the committer", readiness.clone(), stopping, committing));
        Self { stop, both }
    }

    /// Lets the book write a last checkpoint, so long and no longer. Neither task is there afterwards.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.both.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CHECKPOINT, ended).await.is_err() {
            tracing::warn!("the last checkpoint was not finished; the next start replays the journal");
            self.both.shutdown().await;
        }
    }
}

/// Sleeps until there is something, commits, and checkpoints in between; with the stop a last time.
async fn commit(
    mut committer: Committer,
    clock: Arc<dyn Clock>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), BookError> {
    let now = || UnixSeconds::new(clock.now_ms().div_euclid(1_000));
    loop {
        let last = tokio::select! {
            () = committer.wait_for_command() => false,
            _ = stopping.wait_for(|stop| *stop) => true,
        };
        if last {
            committer.begin_checkpoint();
        }
        work_off(&mut committer, &now).await?;
        if last {
            return Ok(());
        }
    }
}

async fn work_off(committer: &mut Committer, now: &impl Fn() -> UnixSeconds) -> Result<(), BookError> {
    loop {
        let work = committer.step(now()).await?;
        let checkpoint = committer.checkpoint_step(now()).await?;
        if work.busy || checkpoint.busy {
            tokio::time::sleep(BUSY_WAIT).await;
        } else if !work.more && !checkpoint.more {
            return Ok(());
        }
    }
}

/// Seals what is frozen beside the committer. What is left when the service stops is sealed after the next start: a large
/// period takes longer than a stop should.
async fn seal(mut sealer: Sealer, mut stopping: watch::Receiver<bool>) -> Result<(), BookError> {
    loop {
        tokio::select! {
            () = sealer.wait() => {}
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        }
        while sealer.has_work() && !*stopping.borrow() {
            if sealer.step().await?.busy {
                tokio::time::sleep(BUSY_WAIT).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Ticks until the service stops. A tick that takes longer than the interval delays the next.
pub(super) async fn drive(driver: Arc<Driver>, app: Arc<App>, every: Duration, mut stopping: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        driver.tick(app.now()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::book::{Book, BookConfig, EventBatch, EventPool, FeedEvent, PeriodOutcome, PoolSpec, Receipt};
    use crate::domain::amount::BaseUnits;
    use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
    use crate::domain::feed::SourceNumber;
    use crate::domain::ids::AccountId;
    use crate::domain::period::{OpenPeriod, PeriodBounds, PeriodIndex, TimeLimits};
    use crate::store::model::ModelStore;
    use crate::store::{Batch, Direction, KeyRange, PartitionId, Store, StoreError};

    const START: UnixSeconds = UnixSeconds::new(1_795_305_600);

    /// A clock that may break.
    struct Glass(AtomicBool);

    impl Clock for Glass {
        fn now_ms(&self) -> i64 {
            assert!(!self.0.load(Ordering::Relaxed), "the glass is broken");
            START.get() * 1_000
        }
    }

    /// A store whose commits of a seal, and of nothing else, never end once it hangs.
    struct Hanging {
        inner: ModelStore,
        hangs: AtomicBool,
        /// The commits that sealed something.
        seals: AtomicUsize,
    }

    #[async_trait]
    impl Store for Hanging {
        async fn get(&self, partition: PartitionId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.inner.get(partition, key).await
        }
        async fn scan(
            &self,
            partition: PartitionId,
            range: KeyRange,
            limit: usize,
            direction: Direction,
        ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
            self.inner.scan(partition, range, limit, direction).await
        }
        async fn commit(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
            let seal = crate::store::keys::freeze_seal(0);
            if batches.iter().any(|batch| batch.puts.iter().any(|(key, _)| *key == seal)) {
                if self.hangs.load(Ordering::Relaxed) {
                    std::future::pending().await
                }
                self.seals.fetch_add(1, Ordering::Relaxed);
            }
            self.inner.commit(batches).await
        }
    }

    struct Rig {
        book: Book,
        glass: Arc<Glass>,
        store: Arc<Hanging>,
        readiness: Readiness,
        tasks: BookTasks,
    }

    async fn open() -> (Book, Committer, Arc<Hanging>) {
        let (hangs, seals) = (AtomicBool::new(false), AtomicUsize::new(0));
        let store = Arc::new(Hanging { inner: ModelStore::new(), hangs, seals });
        let spec = PoolSpec { number: 3, partitions: 1, first_start: START };
        let (book, committer) = Book::open(store.clone(), vec![spec], BookConfig::default()).await.unwrap();
        (book, committer, store)
    }

    fn open_periods(book: &Book) -> Vec<Receipt<PeriodOutcome>> {
        let policy =
            EligibilityPolicy { minimum: BaseUnits::from_u64(1), cap: None, enrolment: EnrolmentMode::Automatic };
        let limits = TimeLimits { max_skew_seconds: 60, max_lateness_seconds: 10_000, max_future_seconds: 9_000 };
        let open = |index: i64| {
            let bounds = PeriodBounds::new(UnixSeconds::new(START.get() + index * 3_600), 3_600).unwrap();
            let period = OpenPeriod { index: PeriodIndex(index as u64), bounds, policy, limits };
            book.sender().open_period(3, period).unwrap()
        };
        (0..2).map(open).collect()
    }

    async fn rig() -> Rig {
        let (book, committer, store) = open().await;
        let (glass, readiness) = (Arc::new(Glass(AtomicBool::new(false))), Readiness::new());
        let tasks = BookTasks::start(committer, glass.clone(), &readiness);
        for opened in open_periods(&book) {
            opened.await.unwrap();
        }
        Rig { book, glass, store, readiness, tasks }
    }

    impl Rig {
        fn send(&self) -> impl Future {
            let event = FeedEvent {
                pool: EventPool::Pool(3),
                account: AccountId::new("alice").unwrap(),
                balance: BaseUnits::from_u64(7),
                at: START,
            };
            let batch = EventBatch { source: SourceNumber(1), first_sequence: 1, events: vec![event], watermark: None };
            self.book.sender().submit_events(batch).unwrap()
        }

        async fn failed(&self) -> String {
            let mut health = self.readiness.watch();
            let failed = health.wait_for(|health| matches!(health, Health::Failed(_)));
            failed.await.unwrap().to_string()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_committer_that_dies_fails_the_service_at_once() {
        let rig = rig().await;
        rig.glass.0.store(true, Ordering::Relaxed);
        drop(rig.send());
        let failed = tokio::time::timeout(Duration::from_secs(5), rig.failed()).await.unwrap();
        assert_eq!(failed, "failed: the committer: it died: the glass is broken");
        rig.tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_errs_or_ends_too_soon_fails_the_service_and_one_that_was_told_to_end_does_not() {
        let told = |stop: bool| watch::channel(stop).1;
        for (work, stop, health) in [
            (Err("the disk is full"), false, "failed: the sealer: the disk is full"),
            (Err("the disk is full"), true, "failed: the sealer: the disk is full"),
            (Ok(()), false, "failed: the sealer: it ended before it was told to"),
            (Ok(()), true, "starting"),
        ] {
            let readiness = Readiness::new();
            watched("the sealer", readiness.clone(), told(stop), async { work }).await;
            assert_eq!(readiness.get().to_string(), health);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_bounded_and_leaves_no_task_behind_where_the_sealer_hangs() {
        let rig = rig().await;
        rig.send().await;
        rig.store.hangs.store(true, Ordering::Relaxed);
        rig.book.sender().freeze(3, PeriodIndex(0)).unwrap().await.unwrap();
        // The sealer has begun, and waits for the store.
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::time::timeout(LAST_CHECKPOINT * 2, rig.tasks.stop()).await.unwrap();
        assert_eq!(Arc::strong_count(&rig.store), 2, "the book holds it, and this test");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_sealed_at_the_stop_is_left_to_the_next_start() {
        let (book, mut committer, store) = open().await;
        let mut sealer = committer.split_sealer();
        let mut asked = open_periods(&book);
        asked.push(book.sender().freeze(3, PeriodIndex(0)).unwrap());
        for answer in asked {
            committer.step(START).await.unwrap();
            answer.await.unwrap();
        }
        assert!(sealer.has_work());
        seal(sealer, watch::channel(true).1).await.unwrap();
        assert_eq!(store.seals.load(Ordering::Relaxed), 0);
        sealer = committer.split_sealer();
        let (stop, stopping) = watch::channel(false);
        let sealing = tokio::spawn(seal(sealer, stopping));
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.send_replace(true);
        sealing.await.unwrap().unwrap();
        assert!(store.seals.load(Ordering::Relaxed) > 0);
    }
}
