mod archive;
mod beside;
mod crash;
mod histories;
mod rejections;
mod snapshot;
mod store;
mod unit;

use std::collections::BTreeMap;
use std::sync::Arc;

use ruint::aliases::U256;

use super::*;
use crate::domain::amount::BaseUnits;
use crate::domain::correction::{Basis, Correction, differences};
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode, Standing};
use crate::domain::ids::AccountId;
use crate::domain::period::{OpenPeriod, PeriodBounds, TimeLimits};
use store::MemStore;

const POOL: u16 = 3;
const SOURCE: SourceNumber = SourceNumber(1);
const LENGTH: i64 = 3_600;
const LIMITS: TimeLimits = TimeLimits { max_skew_seconds: 60, max_lateness_seconds: 10_000, max_future_seconds: 30 };

fn at(second: i64) -> UnixSeconds {
    UnixSeconds::new(1_795_305_600 + second)
}

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

fn period_with(index: u64, minimum: u64) -> OpenPeriod {
    let policy =
        EligibilityPolicy { minimum: BaseUnits::from_u64(minimum), cap: None, enrolment: EnrolmentMode::Automatic };
    let bounds = PeriodBounds::new(at(index as i64 * LENGTH), LENGTH as u32).unwrap();
    OpenPeriod { index: PeriodIndex(index), bounds, policy, limits: LIMITS }
}

fn period(index: u64) -> OpenPeriod {
    period_with(index, 0)
}

fn event(name: &str, balance: u64, second: i64) -> FeedEvent {
    FeedEvent {
        pool: EventPool::Pool(POOL),
        account: account(name),
        balance: BaseUnits::from_u64(balance),
        at: at(second),
    }
}

fn batch(first_sequence: u64, events: Vec<FeedEvent>) -> EventBatch {
    EventBatch { source: SOURCE, first_sequence, events, watermark: None }
}

fn snapshot(sequence: u64, second: i64, balances: &[(&str, u64)]) -> SnapshotBatch {
    let balance = |(name, balance): &(&str, u64)| (POOL, account(name), BaseUnits::from_u64(*balance));
    let balances = balances.iter().map(balance).collect();
    SnapshotBatch { source: SOURCE, sequence, snapshot: 77, at: at(second), balances }
}

/// One thing that a test does.
#[derive(Clone, Debug)]
enum Act {
    Events(EventBatch, i64),
    Snapshot(SnapshotBatch, i64),
    Enrol(Enrolment, i64),
    Open(OpenPeriod, i64),
    Freeze(u64, i64),
    Checkpoint,
    Correct(Asked, i64),
}

/// A correction as a test asks for it: `sequence`, whose, from when on, how much.
#[derive(Clone, Debug)]
struct Asked {
    sequence: u64,
    name: String,
    second: i64,
    balance: u64,
}

/// A store that a test can take up again after its death.
trait Mortal: Store + Sized {
    fn reborn(self: &Arc<Self>) -> Arc<Self>;
}

/// A book over a store that survives it.
type Rig = RigOver<MemStore>;

struct RigOver<S> {
    store: Arc<S>,
    spec: PoolSpec,
    book: Book,
    committer: Committer,
    reopened: usize,
}

impl Rig {
    async fn new(partitions: u16) -> Self {
        Self::over(Arc::new(MemStore::default()), partitions).await.unwrap()
    }

    /// With the first two periods open.
    async fn open(partitions: u16) -> Self {
        let mut rig = Self::new(partitions).await;
        rig.act(Act::Open(period(0), 0)).await;
        rig.act(Act::Open(period(1), 0)).await;
        rig
    }
}

impl<S: Mortal> RigOver<S> {
    async fn over(store: Arc<S>, partitions: u16) -> Result<Self, BookError> {
        let spec = PoolSpec { number: POOL, partitions, first_start: at(0) };
        let (book, committer) = Book::open(store.clone(), vec![spec], BookConfig::default()).await?;
        book.add_source(SOURCE);
        Ok(Self { store, spec, book, committer, reopened: 0 })
    }

    async fn reopen(&mut self) {
        let (mut store, partitions) = (self.store.reborn(), self.spec.partitions);
        let mut reopened = self.reopened + 1;
        loop {
            match Self::over(store.clone(), partitions).await {
                Ok(rig) => {
                    *self = Self { reopened, ..rig };
                    return;
                }
                // It dies while it recovers.
                Err(BookError::Store(_)) => (store, reopened) = (store.reborn(), reopened + 1),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn send(&mut self, batch: EventBatch, now: i64) -> Result<EventsOutcome, Refusal> {
        let receipt = self.book.sender().submit_events(batch).unwrap();
        let _ = self.committer.step(at(now)).await;
        receipt.await
    }

    async fn hand_over(&mut self, hand_over: HandOver) -> Result<PeriodOutcome, Refusal> {
        let receipt = self.book.sender().hand_over(hand_over).unwrap();
        let _ = self.committer.step(at(20)).await;
        receipt.await
    }

    async fn once(&mut self, act: &Act) -> Result<(), String> {
        let sender = self.book.sender();
        let now;
        match act {
            Act::Checkpoint => {
                self.committer.begin_checkpoint();
                while self.committer.checkpoint_step(at(0)).await.map_err(|e| e.to_string())?.more {}
                return Ok(());
            }
            Act::Events(batch, when) => {
                now = at(*when);
                let receipt = sender.submit_events(batch.clone()).unwrap();
                let stepped = self.committer.step(now).await;
                receipt.await.map_err(|e| e.to_string())?;
                stepped.map_err(|e| e.to_string())?;
            }
            Act::Snapshot(batch, when) => {
                now = at(*when);
                let receipt = sender.submit_snapshot(batch.clone()).unwrap();
                let stepped = self.committer.step(now).await;
                receipt.await.map_err(|e| e.to_string())?;
                stepped.map_err(|e| e.to_string())?;
            }
            Act::Enrol(enrolment, when) => {
                now = at(*when);
                let receipt = sender.submit_enrolment(enrolment.clone()).unwrap();
                let stepped = self.committer.step(now).await;
                receipt.await.map_err(|e| e.to_string())?;
                stepped.map_err(|e| e.to_string())?;
            }
            Act::Correct(asked, when) => {
                now = at(*when);
                let done = self.book.source_state(SourceNumber::CORRECTION).unwrap_or_default().durable_sequence;
                if done < asked.sequence {
                    let correction = self.correction(asked).await.map_err(|e| e.to_string())?;
                    let (sequence, account) = (asked.sequence, account(&asked.name));
                    let command = PositionCorrection { pool: POOL, sequence, account, correction };
                    let receipt = sender.submit_correction(command).unwrap();
                    let stepped = self.committer.step(now).await;
                    receipt.await.map_err(|e| e.to_string())?;
                    stepped.map_err(|e| e.to_string())?;
                }
            }
            Act::Open(period, when) => {
                now = at(*when);
                let receipt = sender.open_period(POOL, *period).unwrap();
                let stepped = self.committer.step(now).await;
                receipt.await.map_err(|e| e.to_string())?;
                stepped.map_err(|e| e.to_string())?;
            }
            Act::Freeze(index, when) => {
                now = at(*when);
                let receipt = sender.freeze(POOL, PeriodIndex(*index)).unwrap();
                let stepped = self.committer.step(now).await;
                receipt.await.map_err(|e| e.to_string())?;
                stepped.map_err(|e| e.to_string())?;
                while self.committer.has_work() {
                    self.committer.step(now).await.map_err(|e| e.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// What an asked correction changes now. Of an account without a position nothing: it will be rejected.
    async fn correction(&self, asked: &Asked) -> Result<Correction, BookError> {
        let (from, balance) = (at(asked.second), BaseUnits::from_u64(asked.balance));
        let Some(history) = self.book.position_history(POOL, &account(&asked.name)).await? else {
            let (last_second, last_sequence) = (0, 0);
            let (oldest, available, standing) = (PeriodIndex(0), BaseUnits::ZERO, Standing::NONE);
            let basis = Basis { oldest, last_second, last_sequence, available, standing };
            return Ok(Correction { at: from, balance, until: None, oldest: 0, next: 0, basis });
        };
        let calendar = &history.calendar;
        let mut periods: Vec<OpenPeriod> = [Some(calendar.oldest), calendar.next].into_iter().flatten().collect();
        for index in 0..calendar.oldest.index.0 {
            periods.extend(self.book.frozen_snapshot(POOL, PeriodIndex(index)).await?);
        }
        assert!(history.known_from <= from);
        let until = history.timeline.next_after(from);
        let summed = until.unwrap_or(history.summed_until).min(history.summed_until);
        let held = history.timeline.held();
        let found = differences(&held, from, summed, balance, &periods, calendar.oldest.index).unwrap();
        let oldest = found.frozen + found.oldest;
        Ok(Correction { at: from, balance, until, oldest, next: found.next, basis: history.basis })
    }

    /// Does it, through however many crashes.
    async fn act(&mut self, act: Act) {
        for _ in 0..5 {
            match self.once(&act).await {
                Ok(()) => return,
                Err(_) if self.book.is_closed() => {
                    self.reopen().await;
                    // A freeze that was cut short goes on by itself.
                    while self.committer.has_work() && self.committer.step(at(0)).await.is_ok() {}
                }
                Err(error) => panic!("{act:?}: {error}"),
            }
        }
        panic!("{act:?} does not get through");
    }

    fn hash(&self) -> U256 {
        self.book.state_hash(POOL).unwrap()
    }

    /// Every account's frozen weight, checked against the seals.
    async fn weights(&self, index: u64) -> BTreeMap<String, u128> {
        let frozen = self.book.frozen(POOL, PeriodIndex(index)).await.unwrap().unwrap();
        let mut weights = BTreeMap::new();
        for partition in 0..self.spec.partitions {
            let mut sum = crate::domain::weight::SetSum::default();
            for chunk in 0..frozen.chunks(partition) {
                let column = self.book.weight_chunk(POOL, partition, PeriodIndex(index), chunk).await.unwrap();
                for (ordinal, weight) in (chunk * 256..).zip(column) {
                    let account = self.book.account_of(POOL, partition, ordinal).unwrap();
                    sum.add(account.as_str(), weight);
                    weights.insert(account.as_str().to_owned(), weight);
                }
            }
            assert_eq!(sum, frozen.partitions[usize::from(partition)]);
        }
        assert_eq!(frozen.total.sum, weights.values().map(|w| U256::from(*w)).sum::<U256>());
        let curve = self.book.frozen_curve(POOL, PeriodIndex(index)).await.unwrap().unwrap();
        assert_eq!(curve.integral(), frozen.integral);
        assert_eq!(frozen.check(POOL), Ok(()));
        weights
    }
}
