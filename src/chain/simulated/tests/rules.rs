//! The rules of the chains, each preset's own.

use super::*;
use crate::chain::simulated::{SimulatedFault, seeded_validators};
use crate::chain::{RewardStyle, WithdrawStyle};
use crate::domain::time::UnixSeconds;
use crate::domain::validator::ValidatorStatus;

const ATOM: u128 = 1_000_000;
const DOT: u128 = 10_000_000_000;
const NEAR: u128 = 1_000_000_000_000_000_000_000_000;
const APT: u128 = 100_000_000;

fn at(seconds: i64) -> UnixSeconds {
    UnixSeconds::new(seconds)
}

#[tokio::test]
async fn the_presets_are_what_they_say() {
    for name in presets::NAMES {
        let rig = Rig::new(preset(name));
        let descriptor = rig.chain.descriptor().await.unwrap();
        assert!(descriptor.simulated);
        assert_eq!(descriptor.asset.as_str(), name.to_ascii_uppercase());
        let observed = rig.observe().await;
        assert_eq!(observed.validators.len(), 12);
        for status in [ValidatorStatus::Inactive, ValidatorStatus::Jailed] {
            assert_eq!(observed.validators.iter().filter(|validator| validator.status == status).count(), 1);
        }
        let commissions: BTreeSet<_> = observed.validators.iter().map(|validator| validator.commission).collect();
        assert!(commissions.len() > 6);
        assert!(commissions.iter().all(|rate| *rate <= "0.2".parse().unwrap()));
        assert!(observed.liquid.is_zero());
        assert_eq!(rig.totals().await.custody_balance, rig.config.custody_balance);
        rig.audit().await;
    }
    assert!(presets::preset("BTC").is_none());
    let near = preset("near");
    assert_eq!(near.custody_balance.get(), 1_000_000_000 * NEAR);
    assert_eq!(near.fee.get(), 2 * NEAR / 1000);
}

#[tokio::test]
async fn blocks_follow_the_clock_and_inputs_wait_for_theirs() {
    let mut config = preset("atom");
    config.inclusion_delay_seconds = 7;
    config.finality_delay_seconds = 20;
    let rig = Rig::new(config);
    let transfer = TransferId::new("fund-a").unwrap();
    rig.chain.custody_send(&transfer, amount(5)).await.unwrap();
    // Accepted at 0, included at 12 s (the first block from 7 s on), final from 32 s on.
    rig.pass(31);
    assert!(rig.observe().await.liquid.is_zero());
    rig.pass(1);
    let observed = rig.observe().await;
    assert_eq!((observed.height, observed.at, observed.liquid), (2, at(START + 12), amount(5)));
    let effects = rig.effects().await;
    assert_eq!((effects.len(), effects[0].height), (1, 2));
    assert_eq!(effects[0].kind, EffectKind::TransferIn { transfer: Some(transfer), amount: amount(5) });
    assert_eq!(rig.chain.effects(0, 1).await.unwrap(), []);
    assert_eq!(rig.chain.effects(1, 2).await.unwrap(), effects);
    assert_eq!(rig.chain.effects(2, 2).await.unwrap(), []);
    assert!(matches!(rig.chain.effects(0, 3).await, Err(ChainError::Refused(_))));
}

#[tokio::test]
async fn custody_sends_once_by_transfer_and_gets_back() {
    let mut rig = Rig::new(preset("atom").with_custody(amount(1000 * ATOM)));
    let transfer = TransferId::new("fund-1").unwrap();
    let first = rig.chain.custody_send(&transfer, amount(600 * ATOM)).await.unwrap();
    assert_eq!(rig.chain.custody_send(&transfer, amount(600 * ATOM)).await.unwrap(), first);
    assert!(matches!(rig.chain.custody_send(&transfer, amount(1)).await, Err(ChainError::Refused(_))));
    let second = TransferId::new("fund-2").unwrap();
    let too_much = rig.chain.custody_send(&second, amount(401 * ATOM)).await;
    assert_eq!(too_much, Err(ChainError::Refused("custody does not own that much".into())));
    rig.settle();
    assert_eq!(rig.chain.custody_send(&transfer, amount(600 * ATOM)).await.unwrap(), first);
    let back = TransferId::new("defund-1").unwrap();
    let kind = OperationKind::SendToCustody { transfer: back.clone(), amount: amount(100 * ATOM) };
    let out = EffectKind::TransferOut { transfer: Some(back), amount: amount(100 * ATOM) };
    assert_eq!(rig.done(kind).await, [out]);
    let totals = rig.totals().await;
    assert_eq!(totals.custody_balance, amount(500 * ATOM));
    assert_eq!((totals.transferred_in, totals.transferred_out), (amount(600 * ATOM), amount(100 * ATOM)));
    let seen = rig.chain.custody_transactions().await.unwrap();
    assert_eq!((seen.len(), &seen[0].transaction), (2, &first));
    let kind = OperationKind::SendToCustody { transfer: second, amount: amount(501 * ATOM) };
    assert!(rig.fails(kind).await.contains("liquid"));
    rig.audit().await;
}

#[tokio::test]
async fn atom_unbonds_by_itself_with_seven_entries_a_validator() {
    let mut rig = Rig::funded(preset("atom"), 1000 * ATOM).await;
    rig.done(rig.delegate(0, 500 * ATOM)).await;
    rig.done(rig.delegate(1, 100 * ATOM)).await;
    let began = rig.now();
    for _ in 0..7 {
        let effects = rig.done(rig.undelegate(0, 10 * ATOM)).await;
        assert!(matches!(effects.last(), Some(EffectKind::Undelegated { .. })));
    }
    assert!(rig.fails(rig.undelegate(0, 10 * ATOM)).await.contains("7 unbondings"));
    rig.done(rig.undelegate(1, 10 * ATOM)).await;
    assert!(rig.fails(rig.undelegate(1, 91 * ATOM)).await.contains("below"));
    assert_eq!(rig.observe().await.unbondings.len(), 8);
    rig.pass(began + 21 * DAY - rig.now());
    assert_eq!(rig.totals().await.unbonding, amount(80 * ATOM));
    rig.pass(200);
    let totals = rig.totals().await;
    assert_eq!((totals.unbonding, totals.matured), (BaseUnits::ZERO, BaseUnits::ZERO));
    let withdrawn: Vec<_> = rig.effects().await.into_iter().filter(|effect| effect.operation.is_none()).collect();
    let count = |pick: fn(&EffectKind) -> bool| withdrawn.iter().filter(|effect| pick(&effect.kind)).count();
    assert_eq!(count(|kind| matches!(kind, EffectKind::Matured { .. })), 8);
    assert_eq!(count(|kind| matches!(kind, EffectKind::Withdrawn { .. })), 8);
    rig.audit().await;
}

#[tokio::test]
async fn delegations_keep_the_limits() {
    let mut rig = Rig::funded(preset("dot"), 100_000 * DOT).await;
    assert!(rig.fails(rig.delegate(0, 249 * DOT)).await.contains("minimum"));
    assert!(rig.fails(rig.delegate(11, 250 * DOT)).await.contains("jailed"));
    assert!(rig.fails(rig.delegate(0, 100_000 * DOT)).await.contains("liquid"));
    let unknown = OperationKind::Delegate { validator: ValidatorId::new("nobody").unwrap(), amount: amount(250 * DOT) };
    assert!(rig.fails(unknown).await.contains("unknown"));
    rig.done(rig.delegate(10, 250 * DOT)).await;
    let mut few = preset("trx");
    few.limits.max_validators = 2;
    let mut rig = Rig::funded(few, 1_000_000_000).await;
    rig.done(rig.delegate(0, 2_000_000)).await;
    rig.done(rig.delegate(1, 2_000_000)).await;
    assert!(rig.fails(rig.delegate(2, 2_000_000)).await.contains("already delegates to 2"));
    assert!(rig.fails(rig.delegate(1, 2_000_001)).await.contains("multiple"));
    rig.done(rig.redelegate(1, 2, 2_000_000)).await;
    rig.audit().await;
}

#[tokio::test]
async fn dot_counts_entries_over_the_account_merges_an_era_and_clamps() {
    let mut config = preset("dot");
    config.limits.max_unbonding_entries = 2;
    let mut rig = Rig::funded(config, 100_000 * DOT).await;
    rig.done(rig.delegate(0, 10_000 * DOT)).await;
    rig.done(rig.delegate(1, 1_000 * DOT)).await;
    rig.done(rig.undelegate(0, 1_000 * DOT)).await;
    rig.done(rig.undelegate(0, 1_000 * DOT)).await;
    let entries = rig.observe().await.unbondings;
    assert_eq!(
        (entries.len(), entries[0].amount, entries[0].matures_at),
        (1, amount(2_000 * DOT), at(START + 28 * DAY))
    );
    assert!(rig.fails(rig.undelegate(1, 900 * DOT)).await.contains("minimum"));
    // Asked for more than there is: everything leaves, this era's reward with it.
    let effects = rig.done(rig.undelegate(1, 5_000 * DOT)).await;
    let [EffectKind::RewardCompounded { amount: reward, .. }, EffectKind::Undelegated { amount: left, .. }] =
        &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(left.get(), 1_000 * DOT + reward.get());
    rig.pass(DAY);
    assert!(rig.fails(rig.undelegate(0, 1_000 * DOT)).await.contains("2 unbondings"));
    rig.pass(28 * DAY);
    assert_eq!(rig.totals().await.matured.get(), 3_000 * DOT + reward.get());
    let effects = rig.done(OperationKind::Withdraw { validator: None }).await;
    assert_eq!(effects, [EffectKind::Withdrawn { amount: amount(3_000 * DOT + reward.get()) }]);
    assert_eq!(rig.done(OperationKind::Withdraw { validator: None }).await, []);
    rig.audit().await;
}

#[tokio::test]
async fn trx_claims_for_the_account_once_a_day_and_sweeps_what_matured() {
    let mut rig = Rig::funded(preset("trx"), 1_000_000 * ATOM).await;
    rig.done(rig.delegate(0, 500_000 * ATOM)).await;
    rig.done(rig.delegate(2, 400_000 * ATOM)).await;
    assert!(rig.fails(OperationKind::Claim { validator: None }).await.contains("nothing"));
    rig.pass(DAY);
    let boundary = (rig.now() - START) / 21_600 * 21_600 + START;
    let effects = rig.done(OperationKind::Claim { validator: None }).await;
    let [EffectKind::RewardPaid { validator: None, earned_to, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(earned_to.get(), boundary);
    rig.pass(DAY / 2);
    assert!(rig.fails(OperationKind::Claim { validator: None }).await.contains("ago"));
    rig.pass(DAY / 2);
    rig.done(OperationKind::Claim { validator: None }).await;
    assert!(rig.fails(OperationKind::Withdraw { validator: None }).await.contains("matured"));
    rig.done(rig.undelegate(0, 500_000 * ATOM)).await;
    // What was earned before leaving can still be claimed.
    rig.pass(DAY);
    assert!(rig.delegation(0).await.is_some_and(|left| left.amount.is_zero() && !left.pending_reward.is_zero()));
    rig.pass(14 * DAY);
    let effects = rig.done(rig.undelegate(2, ATOM)).await;
    assert_eq!(effects[0], EffectKind::Withdrawn { amount: amount(500_000 * ATOM) });
    rig.audit().await;
}

#[tokio::test]
async fn near_restarts_the_wait_of_the_whole_bucket() {
    let mut rig = Rig::funded(preset("near"), 1_000_000 * NEAR).await;
    rig.done(rig.delegate(0, 900_000 * NEAR)).await;
    rig.done(rig.undelegate(0, 1_000 * NEAR)).await;
    let first = rig.observe().await.unbondings;
    rig.pass(2 * 25_920);
    rig.done(rig.undelegate(0, 500 * NEAR)).await;
    let second = rig.observe().await.unbondings;
    assert_eq!((second.len(), second[0].amount), (1, amount(1_500 * NEAR)));
    assert_eq!(second[0].matures_at, first[0].matures_at.plus(2 * 25_920));
    rig.pass(4 * 25_920);
    assert!(rig.observe().await.unbondings[0].matured);
    assert!(rig.fails(rig.undelegate(0, NEAR)).await.contains("withdrawn first"));
    let withdraw = OperationKind::Withdraw { validator: Some(rig.validator(0)) };
    assert_eq!(rig.done(withdraw.clone()).await, [EffectKind::Withdrawn { amount: amount(1_500 * NEAR) }]);
    assert!(rig.fails(withdraw).await.contains("matured"));
    let id = rig.id();
    let kind = rig.redelegate(0, 1, NEAR);
    assert!(matches!(rig.chain.prepare(&id, &kind).await, Err(ChainError::Refused(_))));
    rig.audit().await;
}

#[tokio::test]
async fn apt_waits_for_the_lockup_and_sweeps_a_rest_below_the_minimum() {
    let mut rig = Rig::funded(preset("apt"), 1_000 * APT).await;
    assert!(rig.fails(rig.delegate(0, 9 * APT)).await.contains("minimum"));
    rig.done(rig.delegate(0, 100 * APT)).await;
    rig.done(rig.undelegate(0, 20 * APT)).await;
    rig.done(rig.undelegate(0, 20 * APT)).await;
    let entries = rig.observe().await.unbondings;
    assert_eq!((entries.len(), entries[0].amount), (1, amount(40 * APT)));
    let wait = entries[0].matures_at.get() - rig.now();
    assert!(0 < wait && wait <= 14 * DAY);
    rig.pass(wait);
    // The next unlock asks for 55 of 60 and some reward: all of it goes, and what matured is paid out.
    let effects = rig.done(rig.undelegate(0, 55 * APT)).await;
    assert_eq!(effects[0], EffectKind::Withdrawn { amount: amount(40 * APT) });
    let Some(EffectKind::Undelegated { amount: left, matures_at, .. }) = effects.last() else { panic!("{effects:?}") };
    assert!(left.get() > 60 * APT);
    assert_eq!(*matures_at, entries[0].matures_at.plus(14 * DAY));
    assert_eq!(rig.done(OperationKind::Withdraw { validator: Some(rig.validator(0)) }).await, []);
    assert!(rig.delegation(0).await.is_none());
    rig.pass(3 * DAY);
    assert!(rig.delegation(0).await.is_none(), "no dust comes after a full exit");
    rig.audit().await;
}

#[tokio::test]
async fn atom_locks_redelegated_stake() {
    let mut rig = Rig::funded(preset("atom"), 1000 * ATOM).await;
    rig.done(rig.delegate(0, 500 * ATOM)).await;
    rig.pass(DAY);
    let effects = rig.done(rig.redelegate(0, 1, 100 * ATOM)).await;
    assert!(matches!(&effects[..], [EffectKind::RewardPaid { .. }, EffectKind::Redelegated { .. }]), "{effects:?}");
    assert_eq!(rig.delegation(1).await.unwrap().redelegation_locked, amount(100 * ATOM));
    assert!(rig.fails(rig.redelegate(1, 2, 50 * ATOM)).await.contains("onward"));
    assert!(rig.fails(rig.redelegate(0, 0, 50 * ATOM)).await.contains("same"));
    assert!(rig.fails(rig.redelegate(0, 11, 50 * ATOM)).await.contains("jailed"));
    for _ in 0..6 {
        rig.done(rig.redelegate(0, 1, ATOM)).await;
    }
    assert!(rig.fails(rig.redelegate(0, 1, ATOM)).await.contains("7 redelegations"));
    rig.pass(21 * DAY);
    assert!(rig.delegation(1).await.unwrap().redelegation_locked.is_zero());
    rig.done(rig.redelegate(1, 2, 50 * ATOM)).await;
    rig.audit().await;
}

#[tokio::test]
async fn a_slash_hits_stake_and_unbondings_and_a_jail_stops_rewards() {
    let mut rig = Rig::funded(preset("atom"), 1000 * ATOM).await;
    let id = rig.validator(0);
    rig.done(rig.delegate(0, 500 * ATOM + 7)).await;
    rig.done(rig.undelegate(0, 100 * ATOM + 3)).await;
    rig.chain
        .set_fault(SimulatedFault::Slash { validator: id.clone(), fraction: "0.05".parse().unwrap() })
        .await
        .unwrap();
    rig.chain.set_fault(SimulatedFault::Jail { validator: id.clone() }).await.unwrap();
    rig.settle();
    let slashed = rig.effects().await.pop().unwrap();
    let (delegated, unbonding) = (amount(20 * ATOM), amount(5 * ATOM));
    assert_eq!(slashed.kind, EffectKind::Slashed { validator: id.clone(), delegated, unbonding });
    assert_eq!(rig.totals().await.slashed, amount(25 * ATOM));
    let before = rig.delegation(0).await.unwrap();
    assert_eq!(before.amount, amount(380 * ATOM + 4));
    rig.pass(10 * DAY);
    assert_eq!(rig.delegation(0).await.unwrap(), before);
    assert!(rig.fails(rig.delegate(0, ATOM)).await.contains("jailed"));
    rig.done(rig.undelegate(0, 10 * ATOM)).await;
    rig.chain.set_fault(SimulatedFault::Unjail { validator: id.clone() }).await.unwrap();
    rig.pass(DAY);
    assert!(rig.delegation(0).await.unwrap().pending_reward.get() > 0);
    rig.chain.set_fault(SimulatedFault::Tombstone { validator: id.clone() }).await.unwrap();
    rig.chain.set_fault(SimulatedFault::Unjail { validator: id.clone() }).await.unwrap();
    rig.settle();
    let shown = rig.observe().await.validators.into_iter().find(|validator| validator.id == id).unwrap();
    assert_eq!(shown.status, ValidatorStatus::Tombstoned);
    rig.audit().await;
}

#[tokio::test]
async fn a_chain_can_be_shortened_and_given_real_validators() {
    let config = preset("near").scaled(1440);
    assert_eq!((config.epoch_seconds, config.unbonding_seconds), (18, 72));
    assert_eq!(preset("atom").scaled(1_000_000).unbonding_seconds, 6);
    let mut validators = seeded_validators(9, &config.asset, 105);
    validators[3].tokens = amount(10_000_000_000_000_000);
    validators[3].commission = "0.100000000000000001".parse().unwrap();
    let rig = Rig::new(config.clone().with_validators(validators.clone()));
    assert_eq!(rig.observe().await.validators, validators);
    validators[4].id = validators[3].id.clone();
    let clock = rig.clock.clone();
    let open = |config| SimulatedChain::open_memory(MemoryLog::new(), config, clock.clone()).map(|_| ());
    assert!(matches!(open(config.clone().with_validators(validators)), Err(ChainError::Refused(_))));
    let mut wrong = config.clone();
    wrong.epoch_seconds = 0;
    assert!(matches!(open(wrong), Err(ChainError::Refused(_))));
    assert!(matches!(
        (config.reward_style, config.withdraw_style),
        (RewardStyle::Compounding, WithdrawStyle::PerValidator)
    ));
}

#[tokio::test]
async fn custody_sends_a_transfer_in_parts_and_each_part_once() {
    let mut rig = Rig::new(preset("atom").with_custody(amount(1000 * ATOM)));
    let transfer = TransferId::new("fund-1").unwrap();
    let first = rig.chain.custody_send(&transfer, amount(600 * ATOM)).await.unwrap();
    let second = rig.chain.custody_send_part(&transfer, 1, amount(300 * ATOM)).await.unwrap();
    assert_ne!(first, second);
    for part in [0, 1] {
        assert!(matches!(rig.chain.custody_send_part(&transfer, part, amount(1)).await, Err(ChainError::Refused(_))));
    }
    rig.settle();
    rig.reopen();
    assert_eq!(rig.chain.custody_send_part(&transfer, 1, amount(300 * ATOM)).await.unwrap(), second);
    let seen = rig.chain.final_effects().await.unwrap();
    let seen: Vec<_> = seen.into_iter().map(|effect| (effect.key.transaction, effect.kind)).collect();
    let arrived = |units| EffectKind::TransferIn { transfer: Some(transfer.clone()), amount: amount(units * ATOM) };
    assert_eq!(seen, [(first, arrived(600)), (second, arrived(300))]);
    assert_eq!(rig.totals().await.transferred_in, amount(900 * ATOM));
}
