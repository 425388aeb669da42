//! Every fault, switched on, seen, and counted.

use super::*;
use crate::chain::simulated::SimulatedFault;
use crate::domain::time::UnixSeconds;

async fn ready() -> (Rig, OperationId, Signed) {
    let mut rig = Rig::funded(preset("atom"), 1_000_000_000).await;
    let id = rig.id();
    let signed = rig.signed(&id, &rig.delegate(0, 1_000_000)).await.unwrap();
    (rig, id, signed)
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, ChainError>) {
    assert!(matches!(answer, Err(ChainError::Unavailable(_))), "{answer:?}");
}

impl Rig {
    async fn fault(&self, fault: SimulatedFault) {
        self.chain.set_fault(fault).await.unwrap();
    }

    fn fired(&self, name: &str) -> u64 {
        self.chain.fault_counts().get(name).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn a_submission_lost_before_its_effect_never_arrived() {
    let (rig, id, signed) = ready().await;
    rig.fault(SimulatedFault::SubmitLostBefore { times: 2 }).await;
    unavailable(rig.chain.submit(&id, &signed).await);
    unavailable(rig.chain.submit(&id, &signed).await);
    rig.settle();
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
    rig.chain.submit(&id, &signed).await.unwrap();
    rig.settle();
    assert!(matches!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Done { .. })));
    assert_eq!(rig.fired("submit_lost_before"), 2);
    rig.audit().await;
}

#[tokio::test]
async fn a_submission_lost_after_its_effect_did_arrive() {
    let (rig, id, signed) = ready().await;
    rig.fault(SimulatedFault::SubmitLostAfter { times: 1 }).await;
    unavailable(rig.chain.submit(&id, &signed).await);
    rig.settle();
    assert!(matches!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Done { .. })));
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(1_000_000));
    assert_eq!(rig.fired("submit_lost_after"), 1);
}

#[tokio::test]
async fn a_late_submission_is_absent_until_it_is_there() {
    let (rig, id, signed) = ready().await;
    rig.fault(SimulatedFault::SubmitLate { after_seconds: 60, times: 1 }).await;
    unavailable(rig.chain.submit(&id, &signed).await);
    rig.pass(48);
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
    rig.pass(18);
    assert!(matches!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Done { .. })));
    assert_eq!(rig.fired("submit_late"), 1);

    // Sent again meanwhile it is the same transaction and has one effect.
    let (rig, id, signed) = ready().await;
    rig.fault(SimulatedFault::SubmitLate { after_seconds: 60, times: 1 }).await;
    unavailable(rig.chain.submit(&id, &signed).await);
    rig.chain.submit(&id, &signed).await.unwrap();
    rig.pass(120);
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(1_000_000));
    assert_eq!(rig.totals().await.fees_paid, rig.config.fee);

    // Rebuilt on a guess, while the first was still on its way, it has one effect too, on this chain.
    let (rig, id, signed) = ready().await;
    rig.fault(SimulatedFault::SubmitLate { after_seconds: 60, times: 1 }).await;
    unavailable(rig.chain.submit(&id, &signed).await);
    rig.pass(6);
    let rebuilt = rig.signed(&id, &rig.delegate(0, 1_000_000)).await.unwrap();
    assert_ne!(rebuilt.transaction, signed.transaction);
    rig.chain.submit(&id, &rebuilt).await.unwrap();
    rig.pass(120);
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(1_000_000));
    rig.audit().await;
}

#[tokio::test]
async fn without_a_nonce_a_late_transaction_and_its_rebuilt_twin_have_one_effect() {
    let mut rig = Rig::funded(preset("trx"), 1_000_000_000).await;
    let id = rig.id();
    let kind = rig.delegate(0, 5_000_000);
    let signed = rig.signed(&id, &kind).await.unwrap();
    rig.fault(SimulatedFault::SubmitLate { after_seconds: 30, times: 1 }).await;
    unavailable(rig.chain.submit(&id, &signed).await);
    rig.pass(3);
    let rebuilt = rig.signed(&id, &kind).await.unwrap();
    rig.chain.submit(&id, &rebuilt).await.unwrap();
    rig.pass(300);
    assert!(matches!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Done { .. })));
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(5_000_000));
    assert_eq!(rig.totals().await.fees_paid, rig.config.fee);
    rig.audit().await;
}

#[tokio::test]
async fn reads_fail_as_often_as_told() {
    let (rig, id, signed) = ready().await;
    rig.fault(SimulatedFault::LookupUnavailable { times: 1 }).await;
    rig.fault(SimulatedFault::EffectsUnavailable { times: 1 }).await;
    unavailable(rig.chain.lookup(&id, &signed).await);
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
    unavailable(rig.chain.effects(0, 1).await);
    rig.chain.effects(0, 1).await.unwrap();
    assert_eq!((rig.fired("lookup_unavailable"), rig.fired("effects_unavailable")), (1, 1));
    rig.fault(SimulatedFault::LookupUnavailable { times: 0 }).await;
    rig.chain.lookup(&id, &signed).await.unwrap();
    rig.fault(SimulatedFault::LookupUnavailable { times: 5 }).await;
    rig.chain.clear_faults();
    rig.chain.lookup(&id, &signed).await.unwrap();
}

#[tokio::test]
async fn an_observation_can_be_stale_or_a_lie() {
    let (mut rig, ..) = ready().await;
    let before = rig.observe().await;
    rig.done(rig.delegate(0, 1_000_000)).await;
    let now = rig.observe().await;
    rig.fault(SimulatedFault::StaleObserve { blocks: now.height - before.height, times: 1 }).await;
    assert_eq!(rig.observe().await, before);
    assert_eq!(rig.observe().await, now);
    rig.fault(SimulatedFault::LyingObserve { excess: amount(1), times: 1 }).await;
    assert_eq!(rig.observe().await.liquid, now.liquid.checked_add(amount(1)).unwrap());
    assert_eq!(rig.observe().await, now);
    assert_eq!((rig.fired("stale_observe"), rig.fired("lying_observe")), (1, 1));
    let totals = rig.totals().await;
    assert_eq!(rig.chain.totals_at(totals.height).await.unwrap(), totals);
    assert_eq!(rig.chain.totals_at(before.height).await.unwrap().liquid, before.liquid);
    assert!(rig.chain.totals_at(totals.height + 1).await.is_err());
}

#[tokio::test]
async fn a_lying_preparation_shows_in_the_intent() {
    let (mut rig, ..) = ready().await;
    let id = rig.id();
    let claim = OperationKind::Claim { validator: Some(rig.validator(0)) };
    for kind in [rig.delegate(0, 77), claim] {
        rig.fault(SimulatedFault::LyingPrepare { times: 1 }).await;
        let lie = rig.chain.prepare(&id, &kind).await.unwrap();
        assert_ne!(lie.says.intent, kind);
        assert_eq!(rig.chain.prepare(&id, &kind).await.unwrap().says.intent, kind);
    }
    assert_eq!(rig.fired("lying_prepare"), 2);
}

#[tokio::test]
async fn an_outage_silences_everything_until_it_ends() {
    let (rig, id, signed) = ready().await;
    rig.fault(SimulatedFault::Outage { until: UnixSeconds::new(rig.now() + DAY) }).await;
    unavailable(rig.chain.descriptor().await);
    unavailable(rig.chain.observe().await);
    unavailable(rig.chain.prepare(&id, &rig.delegate(0, 5)).await);
    unavailable(rig.chain.submit(&id, &signed).await);
    unavailable(rig.chain.lookup(&id, &signed).await);
    unavailable(rig.chain.effects(0, 0).await);
    unavailable(rig.chain.custody_send(&TransferId::new("t").unwrap(), amount(1)).await);
    assert_eq!(rig.fired("outage"), 7);
    rig.pass(DAY - 1);
    unavailable(rig.chain.observe().await);
    rig.pass(1);
    rig.observe().await;
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::AbsentForGood));
}

#[tokio::test]
async fn a_flaky_chain_fails_the_same_way_for_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        let config = preset("atom").with_seed(seed);
        let mut rig = Rig::funded(config, 1_000_000_000).await;
        rig.fault(SimulatedFault::Flaky { one_in: 3 }).await;
        let mut run = Vec::new();
        for _ in 0..30 {
            run.push(rig.chain.observe().await.is_ok());
            let id = rig.id();
            if let Ok(signed) = rig.signed(&id, &rig.delegate(0, 100)).await {
                run.push(rig.chain.submit(&id, &signed).await.is_ok());
            }
            rig.settle();
        }
        assert_eq!(rig.fired("flaky"), run.iter().filter(|ok| !**ok).count() as u64 + (30 - (run.len() as u64 - 30)));
        rig.chain.clear_faults();
        rig.audit().await;
        runs.push((run, rig.totals().await));
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0].0, runs[2].0);
}

#[tokio::test]
async fn faults_of_the_chain_itself_are_counted_and_checked() {
    let (rig, ..) = ready().await;
    let validator = rig.validator(0);
    rig.fault(SimulatedFault::Slash { validator: validator.clone(), fraction: "0.0001".parse().unwrap() }).await;
    rig.fault(SimulatedFault::Jail { validator: validator.clone() }).await;
    rig.fault(SimulatedFault::Unjail { validator: validator.clone() }).await;
    rig.fault(SimulatedFault::Tombstone { validator: validator.clone() }).await;
    rig.fault(SimulatedFault::Donate { amount: amount(123) }).await;
    for name in ["slash", "jail", "unjail", "tombstone", "donate"] {
        assert_eq!(rig.fired(name), 1, "{name}");
    }
    rig.settle();
    let last = rig.effects().await.pop().unwrap();
    assert_eq!(last.kind, EffectKind::TransferIn { transfer: None, amount: amount(123) });
    assert_eq!((last.operation, rig.totals().await.donated), (None, amount(123)));
    let nobody = ValidatorId::new("nobody").unwrap();
    for bad in [
        SimulatedFault::Jail { validator: nobody },
        SimulatedFault::Slash { validator: validator.clone(), fraction: "1.1".parse().unwrap() },
        SimulatedFault::Slash { validator: validator.clone(), fraction: "0".parse().unwrap() },
        SimulatedFault::Slash { validator, fraction: "-0.1".parse().unwrap() },
        SimulatedFault::Donate { amount: BaseUnits::MAX },
    ] {
        assert!(matches!(rig.chain.set_fault(bad).await, Err(ChainError::Refused(_))));
    }
    rig.audit().await;
}

#[tokio::test]
async fn a_slash_taken_back_leaves_everything_as_it_was_and_names_the_slash() {
    let (mut rig, id, signed) = ready().await;
    rig.chain.submit(&id, &signed).await.unwrap();
    rig.settle();
    let undelegate = rig.undelegate(0, 400_000);
    rig.done(undelegate).await;
    let validator = rig.validator(0);
    let figures = |totals: ChainTotals| (totals.delegated, totals.unbonding, totals.slashed);
    let before = figures(rig.totals().await);
    rig.fault(SimulatedFault::Slash { validator: validator.clone(), fraction: "0.01".parse().unwrap() }).await;
    rig.settle();
    assert_eq!(figures(rig.totals().await), (amount(594_000), amount(396_000), amount(10_000)));
    rig.fault(SimulatedFault::Unslash { validator: validator.clone() }).await;
    rig.fault(SimulatedFault::Unslash { validator }).await;
    rig.settle();
    assert_eq!(figures(rig.totals().await), before, "once, however often it is asked for");
    let effects = rig.effects().await;
    let told = effects.iter().filter(|effect| matches!(effect.kind, EffectKind::SlashReversed { .. }));
    assert_eq!(told.count(), 1);
    rig.audit().await;
}

#[tokio::test]
async fn a_silent_slash_is_in_the_balances_and_in_no_effect() {
    let (rig, id, signed) = ready().await;
    rig.chain.submit(&id, &signed).await.unwrap();
    rig.settle();
    let (validator, effects) = (rig.validator(0), rig.effects().await);
    rig.fault(SimulatedFault::SilentSlash { validator: validator.clone(), fraction: "0.01".parse().unwrap() }).await;
    rig.settle();
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(990_000));
    rig.fault(SimulatedFault::Unslash { validator: validator.clone() }).await;
    rig.settle();
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(1_000_000));
    rig.fault(SimulatedFault::LyingStake { validator, missing: amount(7), times: 1 }).await;
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(999_993));
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(1_000_000));
    assert_eq!(rig.effects().await, effects);
    assert_eq!((rig.fired("silent_slash"), rig.fired("unslash"), rig.fired("lying_stake")), (1, 1, 1));
    assert!(rig.totals().await.conserved());
}
