//! What a network and a chain do to transactions: twice delivered, done in part, thrown back, reported wrongly.

use super::*;
use crate::chain::simulated::SimulatedFault;

impl Rig {
    async fn with_fault(&self, fault: SimulatedFault) {
        self.chain.set_fault(fault).await.unwrap();
    }

    fn hits(&self, name: &str) -> u64 {
        self.chain.fault_counts().get(name).copied().unwrap_or(0)
    }
}

async fn funded(name: &str) -> Rig {
    Rig::funded(preset(name), tokens(&preset(name), 1_000_000)).await
}

#[tokio::test]
async fn what_is_delivered_twice_is_included_once() {
    for name in ["atom", "dot", "near"] {
        let mut rig = funded(name).await;
        let staked = tokens(&rig.config, 2_000);
        rig.with_fault(SimulatedFault::DuplicateSubmit { times: 1 }).await;
        rig.done(rig.delegate(0, staked)).await;
        rig.settle();
        assert_eq!(rig.delegation(0).await.unwrap().amount, amount(staked), "{name}");
        assert_eq!(rig.totals().await.fees_paid, rig.config.fee, "{name}");
        assert_eq!(rig.hits("duplicate_submit"), 1);
        // The copy takes no nonce of the next one.
        rig.done(rig.delegate(1, staked)).await;
        rig.audit().await;
    }
}

#[tokio::test]
async fn a_part_is_done_and_the_rest_is_not() {
    let mut rig = funded("atom").await;
    rig.with_fault(SimulatedFault::PartialEffect { share_bps: 2_500, times: 2 }).await;
    let effects = rig.done(rig.delegate(0, 1_001)).await;
    assert_eq!(effects, [EffectKind::Delegated { validator: rig.validator(0), amount: amount(250) }]);
    // It is the chain that does so, and a restart changes nothing of it.
    let id = rig.id();
    let signed = rig.signed(&id, &rig.undelegate(0, 100)).await.unwrap();
    rig.chain.submit(&id, &signed).await.unwrap();
    rig.reopen();
    rig.settle();
    let Ok(Lookup::Done { effects, .. }) = rig.chain.lookup(&id, &signed).await else { panic!("done in part") };
    assert!(
        matches!(&effects.last().unwrap().kind, EffectKind::Undelegated { amount: moved, .. } if *moved == amount(25))
    );
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(225));
    // Of too little, nothing can be done.
    rig.with_fault(SimulatedFault::PartialEffect { share_bps: 1, times: 1 }).await;
    assert_eq!(rig.fails(rig.delegate(0, 9_999)).await, "none of it could be done");
    assert_eq!(rig.hits("partial_effect"), 1);
    rig.audit().await;
    let whole = SimulatedFault::PartialEffect { share_bps: 10_000, times: 1 };
    assert!(matches!(rig.chain.set_fault(whole).await, Err(ChainError::Refused(_))));
}

#[tokio::test]
async fn a_claim_is_not_done_in_part() {
    let mut rig = funded("atom").await;
    rig.done(rig.delegate(0, tokens(&rig.config, 1_000))).await;
    rig.pass(DAY);
    rig.with_fault(SimulatedFault::PartialEffect { share_bps: 5_000, times: 1 }).await;
    rig.done(OperationKind::Claim { validator: Some(rig.validator(0)) }).await;
    assert_eq!(rig.hits("partial_effect"), 0);
    let sent = OperationKind::SendToCustody { transfer: TransferId::new("back").unwrap(), amount: amount(11) };
    let transfer = Some(TransferId::new("back").unwrap());
    assert_eq!(rig.done(sent).await, [EffectKind::TransferOut { transfer, amount: amount(5) }]);
    assert_eq!(rig.hits("partial_effect"), 1);
    rig.audit().await;
}

#[tokio::test]
async fn what_was_seen_pending_may_vanish_and_come_back() {
    for name in ["atom", "dot"] {
        let mut rig = funded(name).await;
        let staked = tokens(&rig.config, 2_000);
        let id = rig.id();
        let signed = rig.signed(&id, &rig.delegate(0, staked)).await.unwrap();
        rig.chain.submit(&id, &signed).await.unwrap();
        rig.with_fault(SimulatedFault::Reorg { depth: 5, times: 1 }).await;
        assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Pending));
        assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
        assert_eq!(rig.hits("reorg"), 1);
        // The chain knows of it after a restart too.
        let before = rig.chain.core.lock().unwrap().state.clone();
        rig.reopen();
        assert_eq!(rig.chain.core.lock().unwrap().state, before);
        rig.pass(5 * rig.config.block_seconds as i64);
        rig.settle();
        assert!(matches!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Done { .. })), "{name}");
        assert_eq!(rig.delegation(0).await.unwrap().amount, amount(staked));
        rig.audit().await;
    }
}

#[tokio::test]
async fn what_was_thrown_back_past_its_expiry_is_dead() {
    let mut rig = funded("atom").await;
    let id = rig.id();
    let signed = rig.signed(&id, &rig.delegate(0, 500)).await.unwrap();
    rig.chain.submit(&id, &signed).await.unwrap();
    let depth = rig.config.expiry_seconds / rig.config.block_seconds + 1;
    rig.with_fault(SimulatedFault::Reorg { depth, times: 1 }).await;
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Pending));
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
    rig.pass(3 * rig.config.expiry_seconds as i64);
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::AbsentForGood));
    assert_eq!((rig.delegation(0).await, rig.totals().await.fees_paid), (None, BaseUnits::ZERO));
    rig.audit().await;
}

#[tokio::test]
async fn a_lie_about_an_effect_is_one_unit_and_told_once() {
    let mut rig = funded("atom").await;
    let id = rig.id();
    let signed = rig.signed(&id, &rig.delegate(0, 500)).await.unwrap();
    rig.chain.submit(&id, &signed).await.unwrap();
    rig.with_fault(SimulatedFault::LyingEffect { times: 1 }).await;
    // There is nothing to lie about yet.
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Pending));
    rig.settle();
    let told = |answer| match answer {
        Ok(Lookup::Done { effects, .. }) => effects.last().unwrap().kind.clone(),
        other => panic!("{other:?}"),
    };
    let delegated = |units| EffectKind::Delegated { validator: rig.validator(0), amount: amount(units) };
    assert_eq!(told(rig.chain.lookup(&id, &signed).await), delegated(501));
    assert_eq!(told(rig.chain.lookup(&id, &signed).await), delegated(500));
    assert_eq!(rig.hits("lying_effect"), 1);
    rig.audit().await;
}
