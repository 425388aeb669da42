//! A pool at work on a simulated chain: one customer, a custody desk, and a clock that is moved by hand.

use crate::app::distribute::tests::rig::{Rig, policy, settings};
use crate::app::transfer::Acknowledgement;
use crate::app::{AppError, Work, step};
use crate::chain::Observation;
use crate::chain::simulated::{SimulatedConfig, SimulatedFault};
use crate::domain::amount::BaseUnits;
use crate::domain::equations::EquationResult;
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::ValidatorId;
use crate::domain::ledger::LedgerView;
use crate::domain::policy::{PoolSettings, ReleaseLimits};
use crate::domain::transfer::Direction;
use crate::store::records::ChainMark;

pub struct World {
    pub rig: Rig,
    pub second: i64,
}

/// Settings of a pool that stakes nine tenths at once, and whose house pays the fees.
pub fn brisk(config: &SimulatedConfig) -> PoolSettings {
    let mut settings = settings(ReleaseLimits::default());
    settings.reserve.min_move = config.limits.min_delegation;
    settings.reserve.house_float_target = config.fee.mul_div_floor(1_000, 1).unwrap();
    settings.reserve.rebalance_interval_seconds = 60;
    settings.allocation.max_share_bps = 4_000;
    settings
}

/// So many whole tokens.
pub fn tokens(config: &SimulatedConfig, whole: u64) -> BaseUnits {
    BaseUnits::from_u64(whole).mul_div_floor(10_u128.pow(config.decimals), 1).unwrap()
}

impl World {
    /// A pool in which a customer has 100,000 tokens, staked as far as its settings say.
    pub async fn staked(config: SimulatedConfig, slash: SlashPolicy) -> Self {
        let settings = brisk(&config);
        Self::with(config, slash, settings).await
    }

    pub async fn with(config: SimulatedConfig, slash: SlashPolicy, settings: PoolSettings) -> Self {
        let balance = tokens(&config, 100_000);
        let mut policy = policy();
        policy.slash = slash;
        let rig = Rig::on(config, 1, policy, settings).await;
        let mut world = Self { rig, second: 0 };
        world.rig.put_units("alice", balance, 1).await;
        world.pass(900).await;
        assert!(!world.view().await.delegated().unwrap().is_zero(), "something is staked");
        world
    }

    /// Lets so many seconds pass, a step each half minute.
    pub async fn pass(&mut self, seconds: i64) {
        let end = self.second + seconds;
        while self.second < end {
            self.second = (self.second + 30).min(end);
            self.rig.set_time(self.second);
            self.settle().await;
        }
    }

    /// Lets time pass in longer strides.
    pub async fn stride(&mut self, strides: i64, seconds: i64) {
        for _ in 0..strides {
            self.second += seconds - 90;
            self.rig.set_time(self.second);
            self.settle().await;
            self.pass(90).await;
        }
    }

    /// All that is due now, custody's part included.
    pub async fn settle(&mut self) {
        let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
        for _ in 0..200 {
            let now = app.now();
            let work = self.rig.drive(step::step(&app, &pool, now)).await;
            let work = match work {
                Ok(work) => work.and(self.custody().await),
                Err(AppError::Chain(_)) => Work::Idle,
                Err(error) => panic!("{error}"),
            };
            self.rig.seal().await;
            if work == Work::Idle {
                return;
            }
        }
        panic!("the steps never come to rest");
    }

    async fn custody(&mut self) -> Work {
        let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
        let mut work = Work::Idle;
        for record in app.open_transfers(&pool).await.unwrap() {
            let transfer = record.transfer;
            if transfer.direction == Direction::Fund && transfer.acknowledged < transfer.asked {
                self.rig.simulated.custody_send(&transfer.id, transfer.asked).await.unwrap();
            }
            if !transfer.acknowledgeable().is_zero() {
                let request = self.rig.request();
                let word = Acknowledgement::Moved(transfer.acknowledgeable());
                let _ = app.acknowledge_transfer(&request, &pool, &transfer.id, word, "desk").await.unwrap();
                work = Work::Done;
            }
        }
        work
    }

    pub async fn fault(&self, fault: SimulatedFault) {
        self.rig.simulated.set_fault(fault).await.unwrap();
    }

    pub async fn slash(&self, validator: &ValidatorId, fraction: &str) {
        let (validator, fraction) = (validator.clone(), fraction.parse().unwrap());
        self.fault(SimulatedFault::Slash { validator, fraction }).await;
    }

    pub async fn view(&self) -> LedgerView {
        self.rig.app.ledger_view(&self.rig.pool).await.unwrap()
    }

    pub async fn observe(&self) -> Observation {
        use crate::chain::ChainAdapter;
        self.rig.simulated.observe().await.unwrap()
    }

    pub async fn mark(&self) -> ChainMark {
        self.rig.app.chain_mark(&self.rig.pool).await.unwrap()
    }

    pub async fn paused(&self) -> Option<String> {
        self.rig.app.pool_state(&self.rig.pool).await.unwrap().paused
    }

    pub async fn resume(&mut self) {
        let (request, app, pool) = (self.rig.request(), self.rig.app.clone(), self.rig.pool.clone());
        let _ = app.resume_pool(&request, &pool, "looked at").await.unwrap();
        app.approve_waiting().await;
    }

    /// The validator with the most of our stake.
    pub async fn largest(&self) -> ValidatorId {
        let view = self.view().await;
        let most = view.delegations().max_by_key(|(_, amount)| *amount);
        most.unwrap().0.clone()
    }

    pub async fn delegated(&self, validator: &ValidatorId) -> BaseUnits {
        let view = self.view().await;
        view.delegations().find(|(id, _)| *id == validator).map_or(BaseUnits::ZERO, |(_, amount)| amount)
    }

    /// Every equation holds, and ledger and chain agree.
    pub async fn sound(&mut self) {
        let equations = self.equations().await;
        let broken: Vec<&EquationResult> = equations.iter().filter(|one| !one.holds).collect();
        assert!(broken.is_empty(), "{broken:#?}");
        assert_eq!(self.mark().await.mismatch, None);
        assert!(self.rig.simulated.totals().await.unwrap().conserved());
    }

    pub async fn equations(&mut self) -> Vec<EquationResult> {
        let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
        self.rig.drive(async { app.check_equations(&pool).await }).await.unwrap()
    }
}
