//! A whole pool in memory: the model store, the book, a simulated chain that nobody asks, and a clock moved by hand.

use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use crate::app::control::Change;
use crate::app::{
    App, AppError, Chain, Descriptor, Once, Pool, Request, Settings, Work, administer, close, distribute, effects,
    operate, pay,
};
use crate::book::{Book, BookConfig, Committer};
use crate::chain::ChainAdapter;
use crate::chain::simulated::{MemoryLog, SimulatedChain, SimulatedConfig, presets};
use crate::clock::Clock;
use crate::domain::amount::BaseUnits;
use crate::domain::caller::Caller;
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use crate::domain::enrolment::RestrictedJurisdictions;
use crate::domain::fixed_apr::{RewardPolicy, SlashPolicy};
use crate::domain::ids::{AccountId, AssetId, OperationId, PoolId, RequestId, TransactionId};
use crate::domain::ledger::ClaimAccount;
use crate::domain::operation::{OperationKind, OperationState};
use crate::domain::period::PeriodIndex;
use crate::domain::policy::{
    AllocationSettings, ApprovalSettings, FeedSettings, PoolPolicy, PoolSettings, ReconcileSettings, ReleaseLimits,
    ReserveSettings,
};
use crate::domain::split::{FeeBps, PayoutUnit};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::model::ModelStore;
use crate::store::records::{ChainMark, DistributionRecord, OperationRecord};

/// The start of the pool's first period: a midnight.
pub const START: i64 = 1_795_305_600;
/// How long its periods are.
pub const LENGTH: i64 = 3_600;

pub struct Hand(AtomicI64);

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1_000
    }
}

pub struct Rig {
    pub app: Arc<App>,
    pub pool: Arc<Pool>,
    pub book: Arc<Book>,
    /// What the chain was made to do.
    pub effects: Mutex<Vec<Effect>>,
    clock: Arc<Hand>,
    committer: Committer,
    requests: u64,
    store: Arc<ModelStore>,
    /// The pool's chain, and one of another asset.
    chains: [Chain; 2],
    /// The chain itself, for what custody and fate do there.
    pub simulated: SimulatedChain,
}

pub fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

pub fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

pub fn at(second: i64) -> UnixSeconds {
    UnixSeconds::new(START + second)
}

pub fn policy() -> PoolPolicy {
    PoolPolicy {
        eligibility: EligibilityPolicy { minimum: units(1), cap: None, enrolment: EnrolmentMode::Automatic },
        fee: FeeBps::new(1_000).unwrap(),
        payout_unit: PayoutUnit::ONE,
        period_seconds: LENGTH as u32,
        reward: RewardPolicy::ProRata,
        slash: SlashPolicy::PlatformAbsorbs,
    }
}

pub fn settings(release: ReleaseLimits) -> PoolSettings {
    PoolSettings {
        reserve: ReserveSettings {
            reserve_ratio_bps: 1_000,
            custody_share_bps: 5_000,
            hysteresis_bps: 0,
            reserve_floor: units(0),
            forecast_percentile_bps: 9_900,
            forecast_windows: 90,
            forecast_ceiling_bps: 5_000,
            horizon_seconds: 0,
            min_move: units(1),
            max_change_per_run: None,
            max_outflow_per_run_bps: 10_000,
            max_outflow_per_day_bps: 10_000,
            custody_address: presets::atom().descriptor().custody_address,
            house_float_target: units(0),
            house_float_floor: units(0),
            rebalance_interval_seconds: 600,
        },
        allocation: AllocationSettings {
            max_share_bps: 10_000,
            max_group_share_bps: 10_000,
            max_commission: rust_decimal::Decimal::ONE,
            max_validators: None,
        },
        release,
        feed: FeedSettings { max_skew_seconds: 60, max_lateness_seconds: 10_000, close_grace_seconds: 600 },
        reconcile: ReconcileSettings::default(),
        restricted: RestrictedJurisdictions::default(),
        approval: ApprovalSettings::default(),
    }
}

impl Rig {
    pub async fn new(partitions: u16, release: ReleaseLimits) -> Self {
        Self::with(partitions, policy(), release).await
    }

    pub async fn with(partitions: u16, policy: PoolPolicy, release: ReleaseLimits) -> Self {
        Self::on(presets::atom(), partitions, policy, settings(release)).await
    }

    /// A pool on a chain of its own, with settings of its own.
    pub async fn on(config: SimulatedConfig, partitions: u16, policy: PoolPolicy, settings: PoolSettings) -> Self {
        let clock = Arc::new(Hand(AtomicI64::new(START)));
        let simulated = SimulatedChain::open_memory(MemoryLog::new(), config, clock.clone()).unwrap();
        let descriptor = simulated.descriptor().await.unwrap();
        let settings = PoolSettings {
            reserve: ReserveSettings { custody_address: descriptor.custody_address.clone(), ..settings.reserve },
            ..settings
        };
        let adapter = Arc::new(simulated.clone());
        let beside = if descriptor.asset.as_str() == "NEAR" { presets::atom() } else { presets::near() };
        let max_fee = descriptor.fee_estimate;
        let chain = Chain { descriptor, signer: Arc::new(simulated.signer()), adapter, max_fee };
        let beside = SimulatedChain::open_memory(MemoryLog::new(), beside, clock.clone()).unwrap();
        let descriptor = beside.descriptor().await.unwrap();
        let beside = Chain { descriptor, signer: Arc::new(beside.signer()), adapter: Arc::new(beside), max_fee };
        let chains = [chain, beside];
        let store = Arc::new(ModelStore::new());
        let (app, book, mut committer) = Self::open(&store, &clock, &chains).await;
        app.open().await.unwrap();
        let new = administer::NewPool {
            id: PoolId::new("atom").unwrap(),
            chain: chains[0].descriptor.chain.clone(),
            asset: chains[0].descriptor.asset.clone(),
            first_period_start: Some(at(0)),
            partitions,
            policy,
            settings,
        };
        let request = Request::new("CreatePool", RequestId::new("create").unwrap(), Caller::service(), b"");
        let made = drive(&mut committer, at(0), app.create_pool(&request, new)).await;
        assert_eq!(made.unwrap(), Once::First);
        let pool = app.pool(&PoolId::new("atom").unwrap()).unwrap();
        Self { app, pool, book, effects: Mutex::default(), clock, committer, requests: 0, store, chains, simulated }
    }

    /// Creates a pool of another asset, whose first period began at `start`, and turns to it.
    pub async fn create_beside(&mut self, start: UnixSeconds) -> Result<(), AppError> {
        self.create_restricted(start, &[]).await
    }

    /// The same, with jurisdictions whose customers may not earn.
    pub async fn create_restricted(&mut self, start: UnixSeconds, codes: &[&str]) -> Result<(), AppError> {
        let request = Request::new("CreatePool", RequestId::new("beside").unwrap(), Caller::service(), b"");
        let descriptor = self.chains[1].descriptor.clone();
        let mut settings = settings(ReleaseLimits::default());
        settings.reserve.custody_address = descriptor.custody_address;
        settings.restricted = RestrictedJurisdictions::new(codes.iter().copied()).unwrap();
        let new = administer::NewPool {
            id: PoolId::new("beside").unwrap(),
            chain: descriptor.chain,
            asset: descriptor.asset,
            first_period_start: Some(start),
            partitions: 1,
            policy: policy(),
            settings,
        };
        let app = self.app.clone();
        let created = app.create_pool(&request, new).await;
        if let Ok(pool) = app.pool(&PoolId::new("beside").unwrap()) {
            self.pool = pool;
        }
        created.map(|_| ())
    }

    async fn open(store: &Arc<ModelStore>, clock: &Arc<Hand>, chains: &[Chain]) -> (Arc<App>, Arc<Book>, Committer) {
        let (book, committer) = Book::open(store.clone(), Vec::new(), BookConfig::default()).await.unwrap();
        let book = Arc::new(book);
        let sender = book.sender();
        let settings = Settings {
            claim_lead_seconds: 600,
            observe_interval_seconds: 60,
            max_attempts: 3,
            max_operation_seconds: 600,
            retry_base_seconds: 1,
            max_future_seconds: 60,
        };
        let app = App::new(store.clone(), clock.clone(), book.clone(), sender, chains.to_vec(), settings);
        (Arc::new(app), book, committer)
    }

    /// The process dies and another one takes over.
    pub async fn restart(mut self) -> Self {
        self.store = Arc::new(self.store.after(crate::store::model::Crash::Process));
        let (app, book, mut committer) = Self::open(&self.store, &self.clock, &self.chains).await;
        drive(&mut committer, app.now(), app.open()).await.unwrap();
        let pool = app.pool(self.pool.id()).unwrap();
        Self { app, pool, book, committer, ..self }
    }

    /// The same, connected to a chain that says something else of itself.
    pub async fn restart_as(mut self, change: impl FnOnce(&mut Descriptor)) -> Self {
        change(&mut self.chains[0].descriptor);
        self.restart().await
    }

    /// The same, connected through another adapter.
    pub async fn restart_on(mut self, adapter: Arc<dyn ChainAdapter>) -> Self {
        self.chains[0].adapter = adapter;
        self.restart().await
    }

    /// Another service over the same store, as after a failover that was none.
    pub async fn beside(&self) -> (Arc<App>, Arc<Pool>) {
        let (app, _, mut committer) = Self::open(&self.store, &self.clock, &self.chains).await;
        drive(&mut committer, app.now(), app.open()).await.unwrap();
        let pool = app.pool(self.pool.id()).unwrap();
        (app, pool)
    }

    /// Makes the store die at the `n`th commit from now on, before or after its effect.
    pub fn die_at(&self, n: u64, after: bool) {
        let from = self.store.commits();
        let times = if after { usize::MAX } else { 0 };
        let fault = crate::store::model::Fault::Fatal { written: times, synced: times };
        self.store.set_faults(move |commit, _| (commit == from + n).then_some(fault));
    }

    /// Makes the store be busy at the `n`th commit from now on.
    pub fn busy_at(&self, n: u64) {
        let from = self.store.commits();
        self.store.set_faults(move |commit, _| (commit == from + n).then_some(crate::store::model::Fault::Busy));
    }

    pub fn set_time(&self, second: i64) {
        self.clock.0.store(START + second, Ordering::Relaxed);
    }

    pub fn request(&mut self) -> Request {
        self.requests += 1;
        Request::new("Test", RequestId::new(&format!("r{}", self.requests)).unwrap(), Caller::service(), b"")
    }

    pub async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        drive(&mut self.committer, self.app.now(), work).await
    }

    pub async fn put(&mut self, name: &str, balance: u64, second: i64) {
        self.put_units(name, units(balance), second).await;
    }

    pub async fn put_units(&mut self, name: &str, balance: BaseUnits, second: i64) {
        let (request, app) = (self.request(), self.app.clone());
        let asset: AssetId = self.pool.record.asset.clone();
        let put = app.put_balance(&request, account(name), asset, balance, Some(at(second)));
        let _ = self.drive(put).await.unwrap();
    }

    /// The chain pays a reward at `second`, earned over the hour before.
    pub async fn reward(&self, name: &str, amount: u64, second: i64) {
        let kind = EffectKind::RewardPaid {
            validator: None,
            amount: units(amount),
            earned_from: at(second - LENGTH),
            earned_to: at(second),
        };
        self.effect(name, kind, second).await;
    }

    /// The chain does something at `second`; a move of stake it does for an operation of ours.
    pub async fn effect(&self, name: &str, kind: EffectKind, second: i64) {
        let mut change = Change::begin(&self.app, &self.pool, self.app.now()).await.unwrap();
        let asked = match kind.clone() {
            EffectKind::Delegated { validator, amount } => Some(OperationKind::Delegate { validator, amount }),
            EffectKind::Undelegated { validator, amount, .. } => Some(OperationKind::Undelegate { validator, amount }),
            _ => None,
        };
        let operation = asked.as_ref().map(|_| OperationId::new(name).unwrap());
        if let (Some(id), Some(asked)) = (operation.clone(), asked) {
            operate::plan(&mut change, id.clone(), asked, "test").unwrap();
            let planned: OperationRecord = change.read(&keys::operation(&id)).await.unwrap().unwrap();
            change.put(keys::operation(&id), &OperationRecord { state: OperationState::Submitted, ..planned });
        }
        let key = EffectKey { transaction: TransactionId::new(name).unwrap(), index: 0 };
        let effect = Effect { key, height: 1, at: at(second), operation, kind };
        self.effects.lock().unwrap().push(effect.clone());
        effects::book(&self.app, &self.pool, &mut change, &effect).await.unwrap();
        change.commit().await.unwrap();
    }

    /// Ledger and chain agree up to `second`.
    pub async fn reconciled(&self, second: i64) {
        let mut change = Change::begin(&self.app, &self.pool, self.app.now()).await.unwrap();
        change.put(
            keys::chain_mark(),
            &ChainMark { reconciled_at: at(second), reconciled_height: 1, ..ChainMark::default() },
        );
        change.commit().await.unwrap();
    }

    /// Periods, distributions and payouts go on until nothing is due.
    pub async fn run(&mut self) -> Result<(), AppError> {
        let (app, pool) = (self.app.clone(), self.pool.clone());
        let now = app.now();
        let mut idle = 0;
        while idle < 3 {
            let work = self
                .drive(async {
                    let work = close::step(&app, &pool, now).await?;
                    let work = work.and(distribute::step(&app, &pool, now).await?);
                    Ok::<_, AppError>(work.and(pay::step(&app, &pool, now).await?))
                })
                .await?;
            // What the book does by itself, such as sealing a freeze.
            while self.committer.has_work() {
                self.committer.step(now).await?;
            }
            idle = if work == Work::Idle { idle + 1 } else { 0 };
        }
        Ok(())
    }

    /// What the book does by itself, such as sealing a freeze.
    pub async fn seal(&mut self) {
        let now = self.app.now();
        while self.committer.has_work() {
            self.committer.step(now).await.unwrap();
        }
    }

    pub async fn last(&self, period: u64) -> Option<DistributionRecord> {
        self.app.last_distribution(&self.pool, PeriodIndex(period)).await.unwrap()
    }

    /// Every payout of the last revision of a period, by account.
    pub async fn payouts(&self, period: u64) -> Vec<(String, u128)> {
        let last = self.last(period).await.unwrap();
        let all = self.app.payouts_from(&self.pool, last.period, last.revision, 0, usize::MAX).await.unwrap();
        let mut all: Vec<(String, u128)> = all.into_iter().map(|p| (p.account.to_string(), p.amount.get())).collect();
        all.sort();
        all
    }

    pub async fn claim(&self, account: ClaimAccount) -> i128 {
        let change = Change::begin(&self.app, &self.pool, self.app.now()).await.unwrap();
        change.ledger().balance(&account.into()).get()
    }
}

/// Runs `work` while the book's committer runs beside it.
async fn drive<T>(committer: &mut Committer, now: UnixSeconds, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = async {
                committer.wait_for_command().await;
                let _ = committer.step(now).await;
            } => {}
        }
    }
}
