//! Slashes that the chain reports, and their reversal.

use super::world::{World, tokens};
use crate::app::distribute::tests::rig::{LENGTH, Rig, policy, units};
use crate::app::metrics::PoolName;
use crate::chain::simulated::{SimulatedFault, presets};
use crate::domain::amount::BaseUnits;
use crate::domain::distribution::DistributionState;
use crate::domain::effect::EffectKind;
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::ValidatorId;
use crate::domain::ledger::{Account, AssetAccount, ClaimAccount};
use crate::domain::operation::OperationKind;
use crate::domain::policy::ReleaseLimits;
use crate::store::keys;
use crate::store::records::PostingRecord;

/// What the postings of a reason did to claims.
async fn legs_of(world: &World, reason: &str) -> Vec<(String, i128)> {
    let range = keys::range_of_tag(keys::tag::POSTING);
    let postings: Vec<PostingRecord> = world.rig.app.list(world.rig.pool.control(), range, usize::MAX).await.unwrap();
    let legs = postings.into_iter().filter(|posting| posting.reason == reason).flat_map(|posting| posting.legs);
    let claims = legs.filter(|leg| matches!(leg.account, Account::Claim(_)));
    claims.map(|leg| (leg.account.to_string(), leg.change.get())).collect()
}

async fn receivable(world: &World) -> BaseUnits {
    world.view().await.claim(ClaimAccount::SlashReceivable)
}

#[tokio::test]
async fn a_slash_that_the_house_bears_comes_off_the_house_and_pauses_nothing() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let validator = world.largest().await;
    let (before, principal) = (world.delegated(&validator).await, world.view().await.principal());
    world.slash(&validator, "0.05").await;
    world.pass(90).await;
    let lost = before.mul_div_floor(5, 100).unwrap();
    let slashes = world.rig.app.slashes(&world.rig.pool).await.unwrap();
    assert_eq!(slashes.iter().map(|one| one.slash.lost().unwrap()).collect::<Vec<_>>(), [lost]);
    assert!(slashes[0].reported);
    let view = world.view().await;
    assert_eq!(legs_of(&world, "slashed").await, [("house".to_owned(), lost.negated().get())]);
    // The house makes good what it owes.
    assert!(view.house().get() > 0, "{}", view.house());
    assert_eq!((receivable(&world).await, view.principal()), (BaseUnits::ZERO, principal));
    assert_eq!(world.paused().await, None);
    let label = PoolName { pool: "atom".to_owned() };
    assert_eq!(world.rig.app.metrics.slashes.get_or_create(&label).get(), 1);
    let shown = world.rig.app.pool_view(&world.rig.pool).await.unwrap();
    assert_eq!(shown.totals.slashed, ruint::aliases::U256::from(lost.get()));
    world.sound().await;
}

#[tokio::test]
async fn nothing_is_delegated_between_a_slash_and_the_next_agreement() {
    let mut world = World::staked(presets::atom(), SlashPolicy::RewardsAbsorb).await;
    let validator = world.largest().await;
    world.slash(&validator, "0.05").await;
    // The slash is booked; ledger and chain are not compared until a later height.
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    world.second += 60;
    world.rig.set_time(world.second);
    let height = world.observe().await.height;
    let mut change = crate::app::control::Change::begin(&app, &pool, app.now()).await.unwrap();
    let mut mark = world.mark().await;
    mark.slashed_height = height + 1;
    change.put(keys::chain_mark(), &mark);
    let id = crate::domain::ids::OperationId::new("atom:delegate:99:0").unwrap();
    let kind = OperationKind::Delegate { validator: validator.clone(), amount: units(5) };
    crate::app::operate::plan(&mut change, id.clone(), kind, "test").unwrap();
    change.commit().await.unwrap();
    world.settle().await;
    let operation = app.operation(&pool, &id).await.unwrap();
    assert_eq!(operation.state, crate::domain::operation::OperationState::Failed);
    assert!(operation.last_error.contains("slashed"), "{}", operation.last_error);
    let plan = app.plan_rebalance(&pool).await.unwrap();
    assert!(plan.plan.stake.is_zero());
    assert!(plan.plan.reasons.iter().any(|reason| reason.name() == "STAKING_STOPPED"));
    world.pass(120).await;
    assert!(world.mark().await.settled());
    world.sound().await;
}

#[tokio::test]
async fn rewards_bear_a_slash_over_several_distributions_and_nothing_else_does() {
    let mut world = World::staked(presets::atom(), SlashPolicy::RewardsAbsorb).await;
    let validator = world.largest().await;
    let house = world.view().await.house();
    // About two and a half hours of rewards.
    world.slash(&validator, "0.0003").await;
    world.pass(90).await;
    let lost = receivable(&world).await;
    assert!(!lost.is_zero());
    assert!(world.view().await.house().get() >= house.get() - 100_000, "fees alone");
    let mut owed = lost;
    let mut recovered = BaseUnits::ZERO;
    let mut kinds = [false; 3];
    for period in 0..6 {
        world.pass(LENGTH).await;
        let Some(last) = world.rig.last(period).await else { panic!("period {period} is distributed") };
        assert!(last.state.is_released(), "{:?}", last.state);
        let f = last.figures;
        let at_hand = f.receipts.checked_add(f.carry_in).unwrap().checked_sub(f.fee).unwrap();
        assert_eq!(last.owed, owed);
        assert_eq!(f.recovery, owed.min(at_hand), "recovery = min(owed, receipts + carry_in - fee)");
        if f.recovery == at_hand {
            assert_eq!(f.payouts, BaseUnits::ZERO);
            kinds[0] = true;
        } else if !f.recovery.is_zero() {
            kinds[1] = true;
        } else {
            assert!(!f.payouts.is_zero());
            kinds[2] = true;
        }
        owed = owed.checked_sub(f.recovery).unwrap();
        recovered = recovered.checked_add(f.recovery).unwrap();
        assert_eq!(receivable(&world).await, owed);
        world.sound().await;
    }
    assert_eq!((recovered, owed), (lost, BaseUnits::ZERO));
    assert_eq!(kinds, [true; 3], "all of a net, part of one, and none");
}

#[tokio::test]
async fn an_unbonding_comes_back_smaller_and_those_who_leave_are_paid_all_the_same() {
    let mut world = World::staked(presets::atom().scaled(300), SlashPolicy::PlatformAbsorbs).await;
    let config = world.rig.simulated.config().clone();
    let half = tokens(&config, 30_000);
    let second = world.second;
    world.rig.put_units("alice", half, second).await;
    world.pass(300).await;
    let unbonding = world.view().await.asset(AssetAccount::Unbonding);
    assert!(!unbonding.is_zero());
    let by_validator = world.rig.app.unbonding_by_validator(&world.rig.pool).await.unwrap();
    let (validator, leaving) = by_validator.into_iter().max_by_key(|(_, amount)| *amount).unwrap();
    world.slash(&validator, "0.1").await;
    world.pass(90).await;
    let record = world.rig.app.slashes(&world.rig.pool).await.unwrap().remove(0);
    assert_eq!(record.slash.unbonding, leaving.mul_div_floor(1, 10).unwrap());
    let after = world.view().await.asset(AssetAccount::Unbonding);
    // What is missing is unstaked on top: the reserve counts on what really comes back.
    assert!(after >= unbonding.checked_sub(record.slash.unbonding).unwrap());
    world.sound().await;
    world.stride(12, 1_200).await;
    let view = world.view().await;
    assert_eq!(view.asset(AssetAccount::Unbonding), BaseUnits::ZERO);
    assert!(view.custody().get() >= 0, "the reserve is filled again: {}", view.custody());
    assert_eq!(view.principal(), half);
    world.sound().await;
}

#[tokio::test]
async fn a_slash_taken_back_is_the_house_s_again() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let validator = world.largest().await;
    let before = world.delegated(&validator).await;
    world.slash(&validator, "0.05").await;
    world.fault(SimulatedFault::Unslash { validator: validator.clone() }).await;
    world.pass(90).await;
    assert_eq!(world.delegated(&validator).await, before);
    let record = world.rig.app.slashes(&world.rig.pool).await.unwrap().remove(0);
    assert_eq!(record.slash.returned, record.slash.lost().unwrap());
    let shown = world.rig.app.pool_view(&world.rig.pool).await.unwrap();
    assert_eq!(shown.totals.slashed, ruint::aliases::U256::ZERO);
    assert_eq!(world.view().await.claim(ClaimAccount::Suspense), BaseUnits::ZERO);
    world.sound().await;
}

#[tokio::test]
async fn what_customers_paid_for_a_slash_taken_back_comes_with_the_next_distribution() {
    let mut world = World::staked(presets::atom(), SlashPolicy::RewardsAbsorb).await;
    let validator = world.largest().await;
    world.slash(&validator, "0.0003").await;
    world.pass(90).await;
    let lost = receivable(&world).await;
    world.pass(LENGTH).await;
    let first = world.rig.last(0).await.unwrap().figures;
    assert!(!first.recovery.is_zero() && first.recovery < lost);
    world.fault(SimulatedFault::Unslash { validator }).await;
    world.pass(90).await;
    assert_eq!(receivable(&world).await, BaseUnits::ZERO);
    let carry = world.view().await.claim(ClaimAccount::Carry);
    assert_eq!(carry, first.carry_out.checked_add(first.recovery).unwrap());
    world.sound().await;
    world.pass(LENGTH).await;
    let second = world.rig.last(1).await.unwrap().figures;
    assert_eq!((second.carry_in, second.recovery), (carry, BaseUnits::ZERO));
    assert!(second.payouts > first.recovery);
    world.sound().await;
}

#[tokio::test]
async fn a_reversal_leaves_what_a_held_distribution_is_about_to_recover() {
    let mut policy = policy();
    policy.slash = SlashPolicy::RewardsAbsorb;
    let release = ReleaseLimits { approval_required: true, ..ReleaseLimits::default() };
    let mut rig = Rig::with(1, policy, release).await;
    let validator = ValidatorId::new("v1").unwrap();
    rig.put("alice", 1_000, 10).await;
    rig.effect("gift", EffectKind::TransferIn { transfer: None, amount: units(500) }, 20).await;
    let staked = EffectKind::Delegated { validator: validator.clone(), amount: units(400) };
    rig.effect("stake", staked, 20).await;
    let slash = EffectKind::Slashed { validator: validator.clone(), delegated: units(100), unbonding: units(0) };
    rig.effect("slash", slash, 30).await;
    rig.reward("reward", 80, 100).await;
    rig.set_time(LENGTH + 600);
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    let held = rig.last(0).await.unwrap();
    assert_eq!((held.state, held.figures.recovery), (DistributionState::Held, units(72)));
    let key = crate::domain::effect::EffectKey {
        transaction: crate::domain::ids::TransactionId::new("slash").unwrap(),
        index: 0,
    };
    let (delegated, unbonding) = (units(100), units(0));
    let back = EffectKind::SlashReversed { slash: key, validator, delegated, unbonding };
    rig.effect("unslash", back, LENGTH + 500).await;
    assert_eq!((rig.claim(ClaimAccount::SlashReceivable).await, rig.claim(ClaimAccount::Carry).await), (72, 72));
    let (request, app, pool) = (rig.request(), rig.app.clone(), rig.pool.clone());
    let _ = app.approve_distribution(&request, &pool, held.period, held.revision, held.hash).await.unwrap();
    rig.run().await.unwrap();
    assert!(rig.last(0).await.unwrap().state.is_released());
    assert_eq!((rig.claim(ClaimAccount::SlashReceivable).await, rig.claim(ClaimAccount::Carry).await), (0, 72));
}

#[tokio::test]
async fn a_slash_counts_by_the_policy_of_the_period_that_it_happened_in() {
    let mut policy = policy();
    let mut rig = Rig::with(1, policy.clone(), ReleaseLimits::default()).await;
    let validator = ValidatorId::new("v1").unwrap();
    rig.put("alice", 1_000, 10).await;
    rig.effect("gift", EffectKind::TransferIn { transfer: None, amount: units(500) }, 20).await;
    rig.effect("stake", EffectKind::Delegated { validator: validator.clone(), amount: units(400) }, 20).await;
    policy.slash = SlashPolicy::RewardsAbsorb;
    let (request, app, pool) = (rig.request(), rig.app.clone(), rig.pool.clone());
    let _ = rig.drive(app.update_pool(&request, &pool, None, Some(policy), None)).await.unwrap();
    app.approve_waiting().await;
    for hour in 1..=4 {
        rig.set_time(hour * LENGTH + 700);
        rig.run().await.unwrap();
    }
    let slashed = |delegated| EffectKind::Slashed { validator: validator.clone(), delegated, unbonding: units(0) };
    // Booked late: what the period's own policy says.
    rig.effect("early", slashed(units(10)), 40).await;
    assert_eq!((rig.claim(ClaimAccount::House).await, rig.claim(ClaimAccount::SlashReceivable).await), (-10, 0));
    rig.effect("before-all", slashed(units(1)), -40).await;
    assert_eq!(rig.claim(ClaimAccount::House).await, -11);
    rig.effect("late", slashed(units(20)), 4 * LENGTH + 5).await;
    assert_eq!((rig.claim(ClaimAccount::House).await, rig.claim(ClaimAccount::SlashReceivable).await), (-11, 20));
}
