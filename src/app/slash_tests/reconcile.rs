//! Drops and increases that no effect explains, and readings that can't be trusted.

use super::teller::{Teller, read};
use super::world::{World, brisk, tokens};
use crate::app::distribute::tests::rig::{at, units};
use crate::app::metrics::PoolName;
use crate::app::reconcile::Resolution;
use crate::app::{AppError, Work, effects, reconcile};
use crate::chain::simulated::{SimulatedFault, presets};
use crate::chain::{ChainAdapter, ChainError};
use crate::domain::amount::{BaseUnits, SignedUnits};
use crate::domain::effect::EffectKind;
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::{OperationId, ValidatorId};
use crate::domain::ledger::{Account, AssetAccount, ClaimAccount, Ledger};
use crate::domain::operation::OperationKind;
use crate::store::records::{LedgerRecord, Record};

fn silent(validator: &ValidatorId, fraction: &str) -> SimulatedFault {
    SimulatedFault::SilentSlash { validator: validator.clone(), fraction: fraction.parse().unwrap() }
}

#[tokio::test]
async fn a_drop_that_nothing_explains_is_a_slash_once_a_later_reading_shows_the_same() {
    for policy in [SlashPolicy::PlatformAbsorbs, SlashPolicy::RewardsAbsorb] {
        let mut world = World::staked(presets::atom(), policy).await;
        let validator = world.largest().await;
        let before = world.delegated(&validator).await;
        world.fault(silent(&validator, "0.05")).await;
        world.pass(60).await;
        let mismatch = world.mark().await.mismatch.unwrap();
        assert!(mismatch.contains(&format!("delegated/{validator}: ledger {before}")), "{mismatch}");
        assert!(world.paused().await.unwrap().contains("ledger and chain differ"));
        assert_eq!(world.rig.app.slashes(&world.rig.pool).await.unwrap(), []);
        let first = world.mark().await.suspect.unwrap();

        world.pass(90).await;
        let record = world.rig.app.slashes(&world.rig.pool).await.unwrap().remove(0);
        assert_eq!((record.slash.lost().unwrap(), record.reported), (before.mul_div_floor(5, 100).unwrap(), false));
        assert_eq!((record.height, record.at, record.slash.bearer), (first.height, first.at, policy));
        assert_eq!(world.mark().await.mismatch, None);
        let reason = world.paused().await.unwrap();
        assert!(reason.contains("was booked as a slash"), "{reason}");
        world.pass(600).await;
        assert_eq!(world.rig.app.slashes(&world.rig.pool).await.unwrap().len(), 1);
        assert!(world.paused().await.is_some(), "a person resumes");
        world.resume().await;
        world.pass(300).await;
        assert_eq!(world.paused().await, None);
        world.sound().await;
    }
}

#[tokio::test]
async fn a_drop_that_vanishes_again_was_a_lie_and_is_never_booked() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let (validator, missing) = (world.largest().await, units(77));
    let before = world.view().await.delegated().unwrap();
    world.fault(SimulatedFault::LyingStake { validator, missing, times: 1 }).await;
    world.pass(60).await;
    assert!(world.paused().await.is_some());
    world.pass(300).await;
    assert_eq!(world.rig.app.slashes(&world.rig.pool).await.unwrap(), []);
    assert_eq!(world.view().await.delegated().unwrap(), before);
    let mark = world.mark().await;
    assert_eq!((mark.mismatch, mark.suspect), (None, None));
    assert!(world.paused().await.is_some(), "agreement alone lifts no pause");
    world.sound().await;
}

#[tokio::test]
async fn two_readings_that_differ_from_each_other_book_nothing() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let validator = world.largest().await;
    for missing in [70, 71, 72] {
        let (validator, missing) = (validator.clone(), units(missing));
        world.fault(SimulatedFault::LyingStake { validator, missing, times: 1 }).await;
        let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
        world.second += 12;
        world.rig.set_time(world.second);
        let found = app.reconcile(&pool).await.unwrap().unwrap();
        assert_eq!((found.agrees(), found.booked), (false, None));
    }
    assert_eq!(world.rig.app.slashes(&world.rig.pool).await.unwrap(), []);
}

#[tokio::test]
async fn the_same_height_twice_is_one_reading_and_a_stale_one_is_none() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let validator = world.largest().await;
    world.fault(silent(&validator, "0.05")).await;
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    world.second += 12;
    world.rig.set_time(world.second);
    for _ in 0..3 {
        let found = app.reconcile(&pool).await.unwrap().unwrap();
        assert_eq!((found.agrees(), found.booked), (false, None));
    }
    world.fault(SimulatedFault::StaleObserve { blocks: 50, times: 1 }).await;
    assert_eq!(app.reconcile(&pool).await.unwrap(), None);
    assert!(world.mark().await.suspect.is_some());
    world.second += 12;
    world.rig.set_time(world.second);
    let found = app.reconcile(&pool).await.unwrap().unwrap();
    assert_eq!(found.booked, Some(Resolution::Slash));
}

/// The ledger's operations go on between the two readings; what they move is no part of the drop.
#[tokio::test]
async fn a_drop_in_the_middle_of_our_own_operations_is_told_apart_from_them() {
    let mut world = World::staked(presets::atom().scaled(300), SlashPolicy::PlatformAbsorbs).await;
    let config = world.rig.simulated.config().clone();
    let validator = world.largest().await;
    let held = world.delegated(&validator).await;
    let second = world.second;
    // A withdrawal unstakes, a redelegation moves, and the slash lies between plan and effect.
    world.rig.put_units("alice", tokens(&config, 70_000), second).await;
    let other = world.view().await.delegations().map(|(id, _)| id.clone()).find(|id| *id != validator).unwrap();
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    let mut change = crate::app::control::Change::begin(&app, &pool, app.now()).await.unwrap();
    for (n, kind) in [
        OperationKind::Undelegate { validator: validator.clone(), amount: held.mul_div_floor(1, 4).unwrap() },
        OperationKind::Redelegate { from: validator.clone(), to: other, amount: held.mul_div_floor(1, 4).unwrap() },
    ]
    .into_iter()
    .enumerate()
    {
        let id = crate::domain::ids::OperationId::new(&format!("atom:test:9:{n}")).unwrap();
        crate::app::operate::plan(&mut change, id, kind, "test").unwrap();
    }
    change.commit().await.unwrap();
    world.fault(silent(&validator, "0.1")).await;
    world.pass(600).await;
    let slashes = app.slashes(&pool).await.unwrap();
    let lost = BaseUnits::sum(slashes.iter().map(|one| one.slash.lost().unwrap())).unwrap();
    assert_eq!(lost, world.rig.simulated.totals().await.unwrap().slashed);
    assert!(slashes.iter().all(|one| one.slash.validator == validator && !one.reported));
    world.resume().await;
    world.stride(10, 1_200).await;
    world.sound().await;
}

#[tokio::test]
async fn a_silent_slash_of_unbondings_is_found_by_validator() {
    let mut world = World::staked(presets::atom(), SlashPolicy::RewardsAbsorb).await;
    let config = world.rig.simulated.config().clone();
    let second = world.second;
    world.rig.put_units("alice", tokens(&config, 60_000), second).await;
    world.pass(200).await;
    let by_validator = world.rig.app.unbonding_by_validator(&world.rig.pool).await.unwrap();
    let (validator, leaving) = by_validator.into_iter().max_by_key(|(_, amount)| *amount).unwrap();
    world.fault(silent(&validator, "0.02")).await;
    world.pass(60).await;
    let mismatch = world.mark().await.mismatch.unwrap();
    assert!(mismatch.contains(&format!("unbonding/{validator}: ledger {leaving}")), "{mismatch}");
    world.pass(90).await;
    let record = world.rig.app.slashes(&world.rig.pool).await.unwrap().remove(0);
    assert_eq!(record.slash.unbonding, leaving.mul_div_floor(2, 100).unwrap());
    world.sound().await;
}

#[tokio::test]
async fn what_is_on_the_chain_alone_goes_to_suspense_after_a_second_reading_and_never_to_rewards() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let validator = world.largest().await;
    world.fault(silent(&validator, "0.05")).await;
    world.pass(150).await;
    let lost = world.rig.app.slashes(&world.rig.pool).await.unwrap()[0].slash.lost().unwrap();
    world.resume().await;
    // It comes back as silently: a price recovery is no reward.
    world.fault(SimulatedFault::Unslash { validator }).await;
    world.pass(60).await;
    assert!(world.paused().await.is_some());
    assert_eq!(world.view().await.claim(ClaimAccount::Suspense), BaseUnits::ZERO);
    world.pass(90).await;
    let view = world.view().await;
    assert_eq!(view.claim(ClaimAccount::Suspense), lost);
    let paid = world.rig.simulated.totals().await.unwrap().rewards_paid;
    let shown = world.rig.app.pool_view(&world.rig.pool).await.unwrap();
    assert_eq!(shown.totals.rewards, ruint::aliases::U256::from(paid.get()));
    assert!(world.paused().await.unwrap().contains("was booked to suspense"));
    world.sound().await;
}

#[tokio::test]
async fn a_lie_about_liquid_tokens_pauses_and_books_nothing() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    world.fault(SimulatedFault::LyingObserve { excess: units(9), times: 1 }).await;
    world.pass(60).await;
    assert!(world.paused().await.is_some());
    world.pass(200).await;
    assert_eq!(world.view().await.claim(ClaimAccount::Suspense), BaseUnits::ZERO);
    world.sound().await;
}

#[tokio::test]
async fn a_difference_within_the_tolerance_is_shown_and_stops_nothing() {
    let config = presets::atom();
    let mut settings = brisk(&config);
    settings.reconcile.tolerance = units(10);
    let mut world = World::with(config, SlashPolicy::PlatformAbsorbs, settings).await;
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    world.fault(SimulatedFault::LyingObserve { excess: units(10), times: 1 }).await;
    world.second += 12;
    world.rig.set_time(world.second);
    let found = app.reconcile(&pool).await.unwrap().unwrap();
    assert!(found.agrees() && found.differences.len() == 1 && found.differences[0].tolerated);
    assert!(world.equations().await.iter().all(|equation| equation.holds));
    assert_eq!(world.paused().await, None);
    world.fault(SimulatedFault::LyingObserve { excess: units(11), times: 1 }).await;
    world.second += 12;
    world.rig.set_time(world.second);
    assert!(!app.reconcile(&pool).await.unwrap().unwrap().agrees());
    assert!(world.paused().await.is_some());
}

#[tokio::test]
async fn what_operations_lose_by_rounding_is_the_house_s_and_stops_nothing() {
    let mut config = presets::near();
    config.rounding_units = units(1);
    let mut world = World::staked(config, SlashPolicy::RewardsAbsorb).await;
    let lost = world.rig.simulated.totals().await.unwrap().slashed;
    assert!(!lost.is_zero());
    assert_eq!(world.paused().await, None);
    assert_eq!(world.view().await.claim(ClaimAccount::SlashReceivable), BaseUnits::ZERO);
    assert_eq!(world.rig.app.slashes(&world.rig.pool).await.unwrap(), []);
    // More than rounding is missing: a slash.
    let validator = world.largest().await;
    world.fault(SimulatedFault::SilentSlash { validator, fraction: "0.01".parse().unwrap() }).await;
    world.pass(150).await;
    assert_eq!(world.rig.app.slashes(&world.rig.pool).await.unwrap().len(), 1);
    world.sound().await;
}

#[tokio::test]
async fn rounding_within_the_tolerance_never_adds_up_to_a_slash() {
    let mut config = presets::near();
    config.rounding_units = units(1);
    let mut settings = brisk(&config);
    settings.reconcile.tolerance = units(3);
    let mut world = World::with(config.clone(), SlashPolicy::RewardsAbsorb, settings).await;
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    let validator = world.largest().await;
    let before = world.rig.simulated.totals().await.unwrap().slashed;
    for n in 0..5 {
        let mut change = crate::app::control::Change::begin(&app, &pool, app.now()).await.unwrap();
        let id = OperationId::new(&format!("atom:test:9:{n}")).unwrap();
        let kind = OperationKind::Delegate {
            validator: validator.clone(),
            amount: tokens(&config, 1).mul_div_floor(1, 10).unwrap(),
        };
        crate::app::operate::plan(&mut change, id, kind, "test").unwrap();
        change.commit().await.unwrap();
        world.pass(150).await;
    }
    let lost = world.rig.simulated.totals().await.unwrap().slashed.checked_sub(before).unwrap();
    assert!(lost > units(4), "{lost}");
    assert_eq!(world.rig.app.slashes(&pool).await.unwrap(), []);
    assert_eq!(world.paused().await, None);
    assert_eq!(world.view().await.claim(ClaimAccount::SlashReceivable), BaseUnits::ZERO);
    world.sound().await;
}

#[tokio::test]
async fn a_pending_reward_that_is_neither_paid_nor_pending_is_a_difference() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    let mut seen = (*pool.seen().unwrap()).clone();
    let most = seen.delegations.iter_mut().max_by_key(|delegation| delegation.pending_reward).unwrap();
    let validator = most.validator.clone();
    most.pending_reward = most.pending_reward.checked_add(tokens(world.rig.simulated.config(), 1)).unwrap();
    pool.saw(seen);
    world.second += 12;
    world.rig.set_time(world.second);
    let found = app.reconcile(&pool).await.unwrap().unwrap();
    assert_eq!(found.differences.len(), 1);
    assert_eq!(found.differences[0].of.to_string(), format!("pending_reward/{validator}"));
    assert!(found.pending.contains_key(&Some(validator)));
    assert!(world.paused().await.is_some());
    world.pass(120).await;
    world.sound().await;
}

#[tokio::test]
async fn a_crash_leaves_no_difference_without_its_pause() {
    let mut met = false;
    for commit in 0..3 {
        let (rig, _) = Teller::new().await;
        rig.simulated.set_fault(SimulatedFault::LyingObserve { excess: units(9), times: 1 }).await.unwrap();
        rig.set_time(120);
        rig.die_at(commit, false);
        let died = crate::app::reconcile::reconcile(&rig.app, &rig.pool, rig.app.now()).await.is_err();
        let rig = rig.restart().await;
        let differs = rig.app.chain_mark(&rig.pool).await.unwrap().mismatch.is_some();
        let paused = rig.app.pool_state(&rig.pool).await.unwrap().paused.is_some();
        assert_eq!(differs, paused, "died at commit {commit}: {died}");
        met |= differs;
    }
    assert!(met);
}

#[tokio::test]
async fn a_later_reading_that_could_not_be_booked_makes_no_reward_a_lost_one() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    world.second += 600;
    world.rig.set_time(world.second);
    world.fault(SimulatedFault::EffectsUnavailable { times: 1 }).await;
    assert!(matches!(app.reconcile(&pool).await, Err(AppError::Chain(_))));
    world.fault(SimulatedFault::StaleObserve { blocks: 30, times: 1 }).await;
    let found = app.reconcile(&pool).await.unwrap().unwrap();
    assert!(found.agrees(), "{:?}", found.differences);
    assert_eq!(world.paused().await, None);
    world.pass(120).await;
    world.sound().await;
}

#[tokio::test]
async fn no_reading_is_compared_with_effects_that_were_booked_ahead_of_it() {
    let (rig, teller) = Teller::new().await;
    let reward = EffectKind::RewardPaid { validator: None, amount: units(7), earned_from: at(0), earned_to: at(60) };
    teller.tell(&rig, 200, "reward", None, reward).await;
    rig.set_time(300);
    let height = rig.simulated.observe().await.unwrap().height;
    // A look-up books what came before its operation, and the process dies before it settles that.
    let id = OperationId::new("atom:delegate:1:0").unwrap();
    effects::book_before(&rig.app, &rig.pool, &id, height, rig.app.now()).await.unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 7);
    rig.simulated.set_fault(SimulatedFault::StaleObserve { blocks: 30, times: 1 }).await.unwrap();
    assert_eq!(read(&rig).await, None);
    assert_eq!(rig.app.pool_state(&rig.pool).await.unwrap().paused, None);
    assert!(read(&rig).await.unwrap().agrees());
}

#[tokio::test]
async fn a_reading_whose_time_can_t_be_is_refused_and_the_chain_is_read_again() {
    let (rig, teller) = Teller::new().await;
    let before = rig.app.chain_mark(&rig.pool).await.unwrap();
    // Milliseconds for seconds, years ahead, and a later block that is dated before an earlier one.
    for skew in [1_795_305_600 * 999, 10 * 366 * 86_400, 90_000, -200] {
        teller.misdate(skew);
        rig.set_time(240);
        let refused = rig.app.reconcile(&rig.pool).await;
        assert!(matches!(refused, Err(AppError::Chain(ChainError::Untrusted(_)))), "{skew}: {refused:?}");
        assert_eq!(rig.app.chain_mark(&rig.pool).await.unwrap(), before);
    }
    teller.misdate(0);
    rig.set_time(300);
    assert_eq!(reconcile::step(&rig.app, &rig.pool, rig.app.now()).await.unwrap(), Work::Done);
    // A clock of ours that is behind is no reason, and what is wrong by less than a day is made good at once.
    teller.misdate(80_000);
    rig.set_time(360);
    assert!(read(&rig).await.unwrap().agrees());
    assert!(rig.app.chain_mark(&rig.pool).await.unwrap().booked_at > rig.app.now());
    teller.misdate(0);
    rig.set_time(372);
    assert_eq!(reconcile::step(&rig.app, &rig.pool, rig.app.now()).await.unwrap(), Work::Done);
    assert!(rig.app.chain_mark(&rig.pool).await.unwrap().booked_at <= rig.app.now());
}

#[tokio::test]
async fn nothing_is_staked_on_books_that_the_chain_has_not_confirmed_lately() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    world.fault(SimulatedFault::EffectsUnavailable { times: u32::MAX }).await;
    world.pass(1_200).await;
    let before = app.open_operations(&pool).await.unwrap().len();
    let config = world.rig.simulated.config().clone();
    let second = world.second;
    world.rig.put_units("bob", tokens(&config, 50_000), second).await;
    world.pass(600).await;
    let plan = app.plan_rebalance(&pool).await.unwrap().plan;
    assert!(plan.stake.is_zero() && plan.fund.is_zero());
    assert!(plan.reasons.iter().any(|reason| reason.name() == "STAKING_STOPPED"));
    let open = app.open_operations(&pool).await.unwrap();
    let staking = open.iter().filter(|operation| matches!(operation.kind, OperationKind::Delegate { .. })).count();
    assert_eq!((open.len(), staking), (before, 0));
    let label = PoolName { pool: "atom".to_owned() };
    assert!(app.metrics.readings_failed.get_or_create(&label).get() > 10);
    // Who leaves is covered all the same.
    let second = world.second;
    world.rig.put_units("bob", units(0), second).await;
    world.rig.put_units("alice", tokens(&config, 20_000), second).await;
    assert!(!app.plan_rebalance(&pool).await.unwrap().plan.unstake.is_zero());
    world.rig.put_units("alice", tokens(&config, 150_000), second).await;
    world.rig.simulated.clear_faults();
    world.pass(900).await;
    assert!(world.view().await.delegated().unwrap() > tokens(&config, 100_000));
    world.sound().await;
}

#[test]
fn a_ledger_with_every_validator_it_may_have_fits_a_value_of_the_store() {
    let most = i128::MAX / 100;
    let delegated = (0..48).map(|n| {
        let id = ValidatorId::new(&format!("cosmosvaloper1{n:038}")).unwrap();
        (Account::from(AssetAccount::Delegated(id)), SignedUnits::new(most))
    });
    let others =
        ["in_transit", "liquid", "in_flight", "unbonding", "matured"].map(|name| Account::parse(name).unwrap());
    let assets: Vec<_> = delegated.chain(others.map(|account| (account, SignedUnits::new(most)))).collect();
    let sum: i128 = assets.iter().map(|(_, amount)| amount.get()).sum();
    let custody = (Account::from(AssetAccount::Custody), SignedUnits::new(-sum));
    let ledger = Ledger::from_balances(assets.into_iter().chain([custody])).unwrap();
    let record = LedgerRecord { version: u64::MAX, postings: u64::MAX, sequence: u64::MAX, ledger };
    assert!(record.encode().len() < 7_000, "{} bytes", record.encode().len());
}
