//! A run on the pool, on every chain: four in five leave within the hour and some come back.

use ruint::aliases::{U256, U512};
use rust_decimal::Decimal;

use super::super::distribute::tests::rig::*;
use super::super::step;
use super::super::transfer::Acknowledgement;
use super::*;
use crate::chain::simulated::{SimulatedConfig, presets};
use crate::domain::distribution::DistributionState;
use crate::domain::operation::OperationState;
use crate::domain::period::PeriodIndex;
use crate::domain::policy::{PoolPolicy, PoolSettings, ReleaseLimits, ReserveSettings};
use crate::domain::split::FeeBps;
use crate::store::KeyRange;
use crate::store::records::DistributionRecord;

/// What each of ten customers holds, in whole tokens.
const TOKENS: u128 = 1_000_000;

/// Seconds between two steps of the world.
const TICK: i64 = 300;

/// When the run begins.
const RUN_AT: i64 = 4 * LENGTH;

/// A chain that waits four hours for an unbonding, in epochs of ten minutes, with validators that keep nothing.
fn scaled(mut config: SimulatedConfig) -> SimulatedConfig {
    let (hours, hour) = (4, 3_600);
    config.unbonding_seconds = hours * hour;
    config.epoch_seconds = if config.epoch_seconds > hour { 600 } else { config.epoch_seconds };
    config.limits.redelegation_lock_seconds = config.limits.redelegation_lock_seconds.min(config.unbonding_seconds);
    config.limits.min_claim_interval_seconds = config.limits.min_claim_interval_seconds.min(hour / 2);
    config.validators.iter_mut().for_each(|validator| validator.commission = Decimal::ZERO);
    config
}

fn amount(units: u128) -> BaseUnits {
    BaseUnits::new(units).unwrap()
}

/// The pool with its chain, its custody and its ledger service.
struct World {
    rig: Rig,
    /// One whole token.
    token: u128,
    /// What customers hold.
    held: BTreeMap<String, u128>,
    now: i64,
    /// The lowest that the reserve was.
    lowest_reserve: i128,
    /// The operations that were looked at.
    seen: u64,
}

impl World {
    /// Without a forecast: it takes more than one window.
    async fn new(config: SimulatedConfig) -> Self {
        Self::with(config, 1).await
    }

    async fn with(config: SimulatedConfig, forecast_windows: u32) -> Self {
        let token = 10_u128.pow(config.decimals);
        let defaults = settings(ReleaseLimits::default());
        let settings = PoolSettings {
            reserve: ReserveSettings {
                hysteresis_bps: 50,
                forecast_windows,
                min_move: config.limits.min_delegation,
                max_change_per_run: Some(amount(10 * TOKENS * token)),
                max_outflow_per_run_bps: crate::domain::policy::DEFAULT_OUTFLOW_PER_RUN_BPS,
                max_outflow_per_day_bps: crate::domain::policy::DEFAULT_OUTFLOW_PER_DAY_BPS,
                house_float_target: amount(20 * token),
                house_float_floor: amount(token),
                rebalance_interval_seconds: 300,
                ..defaults.reserve
            },
            ..defaults
        };
        let policy = PoolPolicy { fee: FeeBps::new(0).unwrap(), ..policy() };
        let rig = Rig::on(scaled(config), 2, policy, settings).await;
        Self { rig, token, held: BTreeMap::new(), now: 0, lowest_reserve: i128::MAX, seen: 0 }
    }

    async fn hold(&mut self, who: &str, units: u128) {
        self.rig.put_units(who, amount(units), self.now).await;
        self.held.insert(who.to_owned(), units);
    }

    /// Custody sends what is asked for and says what arrived.
    async fn custody(&mut self) {
        let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
        for record in app.open_transfers(&pool).await.unwrap() {
            let transfer = &record.transfer;
            if transfer.direction == Direction::Fund && transfer.acknowledged < transfer.asked {
                self.rig.simulated.custody_send(&transfer.id, transfer.asked).await.unwrap();
            }
            let moved = transfer.acknowledgeable();
            if !moved.is_zero() {
                let request = self.rig.request();
                let word = Acknowledgement::Moved(moved);
                let _ = app.acknowledge_transfer(&request, &pool, &transfer.id, word, "").await.unwrap();
            }
        }
    }

    /// The ledger service credits what was released, and its feed brings the credits as balances.
    async fn ledger(&mut self) {
        let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
        for record in app.unsettled_distributions(&pool, None, 9).await.unwrap() {
            let DistributionRecord { period, revision, hash, paid_count, .. } = record;
            let request = self.rig.request();
            let ack = app.ack_payouts(&request, &pool, period, revision, hash, paid_count, Vec::new());
            let _ = ack.await.unwrap();
            for (who, paid) in self.rig.payouts(period.0).await {
                let held = self.held.get(&who).copied().unwrap_or(0);
                self.hold(&who, held + paid).await;
            }
        }
    }

    async fn view(&self) -> LedgerView {
        self.rig.app.ledger_view(&self.rig.pool).await.unwrap()
    }

    async fn policy(&self) -> crate::domain::reserve::ReservePolicy {
        self.rig.app.pool_state(&self.rig.pool).await.unwrap().settings.reserve.policy()
    }

    async fn reserve_target(&self, view: &LedgerView) -> BaseUnits {
        let settings = self.rig.app.pool_state(&self.rig.pool).await.unwrap().settings.reserve;
        let outlook = self.rig.app.outlook(&self.rig.pool, &settings).await.unwrap();
        let expected = outlook.expected(&settings, view.principal()).unwrap();
        reserve::reserve_target(view.principal(), expected, &settings.policy()).unwrap()
    }

    /// Goes on to `second`, doing everything that is due on the way, and checks the books at each step.
    async fn go_to(&mut self, second: i64) {
        while self.now < second {
            self.now = (self.now + TICK).min(second);
            self.rig.set_time(self.now);
            self.custody().await;
            self.ledger().await;
            let before = reserve::reserve(&self.view().await, &self.policy().await).unwrap().get();
            let mut idle = 0;
            while idle < 3 {
                let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
                let now = app.now();
                let work = self.rig.drive(step::step(&app, &pool, now)).await.unwrap();
                self.rig.seal().await;
                idle = if work == Work::Idle { idle + 1 } else { 0 };
            }
            self.check(before).await;
        }
    }

    async fn check(&mut self, before: i128) {
        let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
        let at = format!("{} s, {}", self.now, pool.record.chain);
        assert_eq!(app.pool_state(&pool).await.unwrap().paused, None, "{at}");
        let equations = app.check_equations(&pool).await.unwrap();
        assert!(equations.iter().any(|one| one.number == 6) || self.now < LENGTH, "{at}");
        assert!(equations.iter().all(|one| one.holds), "{at}: {equations:?}");
        let (view, policy) = (self.view().await, self.policy().await);
        assert_eq!(view.principal().get(), self.held.values().sum::<u128>(), "{at}: every withdrawal is honoured");
        let reserve = reserve::reserve(&view, &policy).unwrap();
        self.lowest_reserve = self.lowest_reserve.min(reserve.get());

        let range = KeyRange {
            from: keys::operation_by_sequence(self.seen + 1),
            ..keys::range_of_tag(keys::tag::OPERATION_BY_SEQUENCE)
        };
        let planned = app.store.scan(pool.control(), range, 1_000, crate::store::Direction::Forward).await.unwrap();
        let (mut unstaked, mut undelegating) = (false, BaseUnits::ZERO);
        for (key, id) in planned {
            self.seen = keys::parse_operation_by_sequence(&key).unwrap();
            let id = crate::domain::ids::OperationId::new(std::str::from_utf8(&id).unwrap()).unwrap();
            let operation = app.operation(&pool, &id).await.unwrap();
            match &operation.kind {
                OperationKind::Delegate { .. } => {
                    assert!(before >= 0 && reserve.get() >= 0, "{at}: staked on credit, {before} then {reserve}");
                }
                OperationKind::Undelegate { .. } => unstaked = true,
                _ => {}
            }
        }
        for operation in app.open_operations(&pool).await.unwrap() {
            assert_ne!(operation.state, OperationState::NeedsOperator, "{at}: {operation:?}");
            if let OperationKind::Undelegate { amount, .. } = operation.kind {
                undelegating = undelegating.checked_add(left(&operation, amount)).unwrap();
            }
        }
        if unstaked {
            // No need is unstaked twice: with all that is on its way the reserve is what it should be, and no more.
            let coming = [AssetAccount::InTransit, AssetAccount::Unbonding, AssetAccount::Matured];
            let coming = coming.map(|account| view.asset(account)).into_iter().chain([undelegating]);
            let coming = BaseUnits::sum(coming).unwrap();
            let target = self.reserve_target(&view).await;
            let slack = i128::try_from(TOKENS * self.token / 20).unwrap();
            let above = reserve.get() + coming.signed().get() - target.signed().get();
            assert!(above <= slack, "{at}: {above} more than is needed comes back");
        }
    }

    /// The released distributions so far.
    async fn released(&self) -> Vec<DistributionRecord> {
        let mut released = Vec::new();
        for period in 0.. {
            let Some(record) = self.rig.app.last_distribution(&self.rig.pool, PeriodIndex(period)).await.unwrap()
            else {
                break;
            };
            assert!(
                matches!(record.state, DistributionState::Released | DistributionState::Settled),
                "{:?}",
                record.holds
            );
            released.push(record);
        }
        released
    }
}

/// Paid on a weight, as an annual rate in millionths.
fn rate(paid: u128, weight: U256) -> u128 {
    let scaled = U512::from(paid) * U512::from(365 * 86_400_u64) * U512::from(1_000_000_u64) / U512::from(weight);
    u128::try_from(scaled).unwrap()
}

/// Four in five leave within the hour, two of them come back with half of what they had, hours apart. Says what those who
/// stay would have earned at most without the house's share, in millionths of the chain's rate.
async fn run_on(config: SimulatedConfig) -> u128 {
    let apr = u128::from(config.apr_bps) * 100;
    let mut world = World::new(config).await;
    let full = TOKENS * world.token;
    let names: Vec<String> = (0..10).map(|n| format!("customer-{n}")).collect();
    for name in &names {
        world.hold(name, full).await;
    }
    world.go_to(RUN_AT).await;
    let staked = world.view().await.delegated().unwrap().get();
    assert!(staked > full * 89 / 10 && staked < full * 91 / 10, "{staked} is staked of {}", full * 10);
    assert!(world.lowest_reserve >= 0);

    // The run.
    for name in names.iter().take(8) {
        world.go_to(world.now + 400).await;
        world.hold(name, 0).await;
    }
    world.go_to(RUN_AT + LENGTH).await;
    assert!(world.lowest_reserve < -i128::try_from(full * 6).unwrap(), "{} was lent", world.lowest_reserve);
    world.go_to(RUN_AT + 3 * LENGTH).await;
    world.hold(&names[0], full / 2).await;
    world.go_to(RUN_AT + 6 * LENGTH).await;
    world.hold(&names[1], full / 2).await;
    world.go_to(RUN_AT + 14 * LENGTH).await;

    // What was lent is back, and what stayed is staked again.
    let (view, policy) = (world.view().await, world.policy().await);
    let reserve = reserve::reserve(&view, &policy).unwrap();
    let reserve_target = reserve::reserve_target(view.principal(), BaseUnits::ZERO, &policy).unwrap();
    assert!(view.custody().get() >= 0, "{} is still lent", view.custody());
    let target = reserve::target(view.principal(), reserve_target).get();
    let staked = view.delegated().unwrap().get();
    assert!(staked.abs_diff(target) < full / 10, "{staked} is staked, {target} should be; the reserve is {reserve}");

    let released = world.released().await;
    assert!(released.len() >= 16, "{}", released.len());
    let (mut house_out, mut without_the_house) = (0, 0);
    for record in &released {
        let customers = record.weight_total - record.house_weight;
        let (period, figures) = (record.period.0, &record.figures);
        let paid = rate(figures.payouts.get(), customers);
        // The growth that compounds within the test is far below a hundredth of the rate.
        assert!(paid <= apr + apr / 100, "period {period}: those who stay earn {paid}, the chain pays {apr}");
        if (2..4).contains(&period) {
            assert!(paid >= apr * 88 / 100, "period {period}: {paid} of {apr} with a tenth in reserve");
            assert!(record.house_weight.is_zero());
        }
        let net = U512::from(figures.receipts.get()) + U512::from(figures.carry_in.get());
        let share = net * U512::from(record.house_weight) / U512::from(record.weight_total);
        assert_eq!(U512::from(figures.house_out.get()), share, "period {period}: house credit earns by its weight");
        house_out += figures.house_out.get();
        without_the_house = rate(figures.receipts.get(), customers).max(without_the_house);
    }
    assert!(house_out > 0, "what was lent earned nothing");
    let last = released.last().unwrap();
    let paid = rate(last.figures.payouts.get(), last.weight_total - last.house_weight);
    assert!(last.house_weight.is_zero() && paid >= apr * 85 / 100, "after it: {paid} of {apr}");
    without_the_house * 1_000_000 / apr
}

#[tokio::test]
async fn a_run_on_a_pool_of_atom_is_lent_and_repaid() {
    run_on(presets::atom()).await;
}

#[tokio::test]
async fn a_run_on_a_pool_of_dot_is_lent_and_repaid() {
    run_on(presets::dot()).await;
}

#[tokio::test]
async fn a_run_on_a_pool_of_trx_is_lent_and_repaid() {
    run_on(presets::trx()).await;
}

#[tokio::test]
async fn a_run_on_a_pool_of_near_is_lent_and_repaid() {
    // One bucket a validator: stake that nobody holds any more goes on earning until a bucket is free again.
    let without_the_house = run_on(presets::near()).await;
    assert!(without_the_house > 2_000_000, "{without_the_house}");
}

#[tokio::test]
async fn a_run_on_a_pool_of_apt_is_lent_and_repaid() {
    run_on(presets::apt()).await;
}

#[tokio::test]
async fn nothing_leaves_for_an_address_that_nobody_allowed() {
    let mut world = World::new(presets::atom()).await;
    let full = TOKENS * world.token;
    world.hold("stays", full).await;
    world.hold("leaves", full).await;
    world.go_to(2 * LENGTH).await;
    let allowed = world.rig.pool.chain.descriptor.custody_address.clone();
    world.rig = world.rig.restart_as(|chain| "elsewhere".clone_into(&mut chain.custody_address)).await;
    world.hold("leaves", 0).await;
    world.go_to(7 * LENGTH).await;
    let view = world.view().await;
    assert!(view.custody().get() < 0 && view.asset(AssetAccount::Liquid).get() > full * 8 / 10, "{view:?}");
    let planned = world.rig.app.plan_rebalance(&world.rig.pool).await.unwrap();
    assert!(planned.plan.reasons.contains(&reserve::PlanReason::CustodyNotAllowed), "{:?}", planned.plan);
    let cut = CutBy { pool: "atom".to_owned(), limit: "CUSTODY_NOT_ALLOWED" };
    assert!(world.rig.app.metrics.outflows_cut.get_or_create(&cut).get() > 0);
    world.rig = world.rig.restart_as(|chain| chain.custody_address = allowed).await;
    world.go_to(8 * LENGTH).await;
    assert!(world.view().await.custody().get() > 0);
}

#[tokio::test]
async fn what_left_in_a_run_is_kept_liquid_up_to_the_ceiling() {
    let mut world = World::with(presets::atom(), 90).await;
    let full = TOKENS * world.token;
    for n in 0..10 {
        world.hold(&format!("customer-{n}"), full).await;
    }
    world.go_to(RUN_AT).await;
    for n in 0..8 {
        world.hold(&format!("customer-{n}"), 0).await;
    }
    // Seven windows of four periods are ten periods: until then there is no forecast.
    world.go_to(9 * LENGTH + TICK).await;
    let forecast = async |world: &World| world.rig.app.plan_rebalance(&world.rig.pool).await.unwrap();
    assert_eq!(forecast(&world).await.outlook.forecast.outflow, None);
    world.go_to(20 * LENGTH).await;
    let planned = forecast(&world).await;
    let view = world.view().await;
    let outflow = planned.outlook.forecast.outflow.unwrap().get();
    assert!(outflow > full * 79 / 10, "{outflow} left");
    assert_eq!(planned.plan.reserve_target.get(), view.principal().get() / 2);
    assert_eq!((planned.covered.periods, planned.covered.bound.name()), (0, "RESERVE"));
    let staked = view.delegated().unwrap().get();
    assert!(staked.abs_diff(full) < full / 50, "{staked} is staked: half of what is left");
    let shown = world.rig.app.pool_view(&world.rig.pool).await.unwrap().totals;
    assert_eq!((shown.reserve_target, shown.covered), (planned.plan.reserve_target, planned.covered));
}
