//! Validators that are jailed, tombstoned or removed lose all stake, on chains with every kind of rule.

use super::world::{World, brisk};
use crate::app::control::Change;
use crate::chain::simulated::{SimulatedConfig, SimulatedFault, presets};
use crate::domain::amount::BaseUnits;
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::ValidatorId;
use crate::domain::operation::{OperationKind, OperationState};
use crate::store::keys;
use crate::store::records::{OperationRecord, ValidatorChoice};

/// Every operation that was ever planned.
async fn operations(world: &World) -> Vec<OperationRecord> {
    let range = keys::range_of_tag(keys::tag::OPERATION);
    world.rig.app.list(world.rig.pool.control(), range, usize::MAX).await.unwrap()
}

fn brings(kind: &OperationKind, whom: &ValidatorId) -> bool {
    match kind {
        OperationKind::Delegate { validator, .. } => validator == whom,
        OperationKind::Redelegate { to, .. } => to == whom,
        _ => false,
    }
}

/// Waits until nothing is with the validator, on the chain and in the ledger.
async fn drained(world: &mut World, validator: &ValidatorId, strides: i64, seconds: i64) {
    for _ in 0..strides {
        world.stride(1, seconds).await;
        let on_chain = world.observe().await.delegations.into_iter().find(|held| held.validator == *validator);
        let left = on_chain.map_or(BaseUnits::ZERO, |held| held.amount);
        if left.is_zero() && world.delegated(validator).await.is_zero() {
            world.sound().await;
            return;
        }
    }
    panic!("{validator} still holds {} after {strides} strides", world.delegated(validator).await);
}

/// Jails the largest validator and sees it emptied, with nothing delegated to it meanwhile.
async fn jailed_is_emptied(config: SimulatedConfig, fault: fn(ValidatorId) -> SimulatedFault, stride: i64) {
    let mut world = World::staked(config, SlashPolicy::PlatformAbsorbs).await;
    let validator = world.largest().await;
    let known = operations(&world).await.len();
    world.fault(fault(validator.clone())).await;
    world.slash(&validator, "0.0333").await;
    drained(&mut world, &validator, 60, stride).await;
    world.stride(5, stride).await;
    assert!(world.delegated(&validator).await.is_zero());
    let mut all = operations(&world).await;
    all.sort_by_key(|operation| operation.sequence);
    let later = &all[known..];
    let brought: Vec<_> = later.iter().filter(|operation| brings(&operation.kind, &validator)).collect();
    assert!(brought.is_empty(), "{brought:?}");
    world.sound().await;
}

fn jail(validator: ValidatorId) -> SimulatedFault {
    SimulatedFault::Jail { validator }
}

fn tombstone(validator: ValidatorId) -> SimulatedFault {
    SimulatedFault::Tombstone { validator }
}

#[tokio::test]
async fn atom_moves_a_jailed_validator_s_stake_to_others() {
    jailed_is_emptied(presets::atom(), jail, 600).await;
}

#[tokio::test]
async fn near_unstakes_from_a_jailed_validator() {
    jailed_is_emptied(presets::near(), jail, 25_920).await;
}

#[tokio::test]
async fn trx_moves_votes_off_a_tombstoned_validator_to_the_last_unit() {
    jailed_is_emptied(presets::trx(), tombstone, 3_600).await;
}

#[tokio::test]
async fn dot_keeps_its_minimum_until_it_leaves_whole() {
    jailed_is_emptied(presets::dot(), jail, 86_400).await;
}

#[tokio::test]
async fn apt_waits_for_the_lock_up_and_leaves_whole() {
    jailed_is_emptied(presets::apt(), tombstone, 86_400).await;
}

#[tokio::test]
async fn locked_stake_of_a_tombstoned_validator_is_unbonded() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let first = world.largest().await;
    world.fault(jail(first.clone())).await;
    drained(&mut world, &first, 10, 600).await;
    // What took its stake is locked: no onward move.
    let observation = world.observe().await;
    let locked = observation.delegations.iter().find(|held| !held.redelegation_locked.is_zero()).unwrap();
    let second = locked.validator.clone();
    world.fault(tombstone(second.clone())).await;
    drained(&mut world, &second, 10, 600).await;
    let all = operations(&world).await;
    let failed: Vec<_> = all.iter().filter(|operation| operation.state == OperationState::Failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let unbonded = |one: &&OperationRecord| matches!(&one.kind, OperationKind::Undelegate { validator, .. } if *validator == second);
    assert!(all.iter().any(|one| unbonded(&one)));
}

#[tokio::test]
async fn a_validator_that_comes_back_gets_stake_again() {
    let mut world = World::staked(presets::atom(), SlashPolicy::PlatformAbsorbs).await;
    let validator = world.largest().await;
    world.fault(jail(validator.clone())).await;
    drained(&mut world, &validator, 10, 600).await;
    world.fault(SimulatedFault::Unjail { validator: validator.clone() }).await;
    world.stride(2, 600).await;
    let planned = world.rig.app.plan_rebalance(&world.rig.pool).await.unwrap();
    let drains = planned.allocation.moves.iter().filter(|step| step.reason.name().starts_with("DRAIN"));
    assert_eq!(drains.count(), 0);
    world.sound().await;
}

#[tokio::test]
async fn what_the_operator_removes_is_emptied_though_it_still_earns() {
    for (config, stride) in [(presets::atom(), 600), (presets::near(), 25_920), (presets::dot(), 86_400)] {
        let mut world = World::staked(config, SlashPolicy::PlatformAbsorbs).await;
        let validator = world.largest().await;
        let now = world.rig.app.now();
        let mut change = Change::begin(&world.rig.app, &world.rig.pool, now).await.unwrap();
        let choice = ValidatorChoice { id: validator.clone(), weight: 1, group: None, removed: true };
        change.put(keys::validator(&validator), &choice);
        change.commit().await.unwrap();
        drained(&mut world, &validator, 40, stride).await;
    }
}

#[tokio::test]
async fn what_is_above_a_cap_leaves_where_nothing_can_be_moved() {
    let config = presets::near();
    let mut world = World::with(config.clone(), SlashPolicy::PlatformAbsorbs, brisk(&config)).await;
    let (app, pool) = (world.rig.app.clone(), world.rig.pool.clone());
    let mut settings = brisk(&config);
    settings.allocation.max_share_bps = 500;
    settings.reserve.reserve_ratio_bps = 6_000;
    let request = world.rig.request();
    let _ = world.rig.drive(app.update_pool(&request, &pool, None, None, Some(settings))).await.unwrap();
    app.approve_waiting().await;
    world.stride(24, 25_920).await;
    let view = world.view().await;
    let cap = view.principal().mul_div_floor(4_000, 10_000).unwrap().mul_div_floor(510, 10_000).unwrap();
    for (validator, amount) in view.delegations() {
        assert!(amount <= cap, "{validator} holds {amount}, above {cap}");
    }
    world.sound().await;
}

/// Slashes of random size between any two steps: no operation that is planned asks for more than the chain holds.
#[tokio::test]
async fn no_drain_asks_for_more_than_is_held_after_slashes() {
    for seed in 0..6_u64 {
        let preset = presets::NAMES[usize::try_from(seed).unwrap() % presets::NAMES.len()];
        let mut world = World::staked(presets::preset(preset).unwrap(), SlashPolicy::PlatformAbsorbs).await;
        let mut draw = blake3::Hasher::new();
        let mut known = operations(&world).await.len();
        for round in 0..8_u64 {
            draw.update(&seed.to_le_bytes()).update(&round.to_le_bytes());
            let drawn = draw.finalize();
            let bytes = drawn.as_bytes();
            let held: Vec<ValidatorId> = world.view().await.delegations().map(|(id, _)| id.clone()).collect();
            if held.is_empty() {
                break;
            }
            let validator = held[usize::from(bytes[0]) % held.len()].clone();
            let fraction = format!("0.{:06}", u32::from(bytes[1]) * 1_000 + u32::from(bytes[2]) + 1);
            world.slash(&validator, &fraction).await;
            if bytes[3].is_multiple_of(3) {
                world.fault(jail(validator.clone())).await;
            }
            // The chain is a block further than the books: plans are made on what the chain holds.
            world.second += 12;
            world.rig.set_time(world.second);
            let planned = world.rig.app.plan_rebalance(&world.rig.pool).await.unwrap();
            let observation = world.observe().await;
            for step in &planned.allocation.moves {
                let (from, amount) = match &step.kind {
                    OperationKind::Undelegate { validator, amount } => (validator, *amount),
                    OperationKind::Redelegate { from, amount, .. } => (from, *amount),
                    _ => continue,
                };
                let here = observation.delegations.iter().find(|delegation| delegation.validator == *from);
                let here = here.map_or(BaseUnits::ZERO, |delegation| delegation.amount);
                assert!(amount <= here, "{preset} {seed}/{round}: {amount} of {here} at {from}");
            }
            world.stride(1, 600).await;
            let mut all = operations(&world).await;
            all.sort_by_key(|operation| operation.sequence);
            for operation in &all[known..] {
                assert!(
                    !operation.last_error.contains("is below"),
                    "{preset} {seed}/{round}: {:?}: {}",
                    operation.kind,
                    operation.last_error
                );
            }
            known = all.len();
            world.sound().await;
        }
    }
}
