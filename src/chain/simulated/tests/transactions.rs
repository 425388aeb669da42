//! Transactions: bytes, signatures, nonces, expiry, and what `lookup` can prove.

use super::*;
use crate::chain::Unsigned;
use crate::domain::ids::ChainId;
use crate::domain::signing::Decoded;

async fn staked(name: &str) -> Rig {
    Rig::funded(preset(name), tokens(&preset(name), 1_000_000)).await
}

#[tokio::test]
async fn a_transaction_is_pending_then_final_with_the_effects_of_the_list() {
    let mut config = preset("atom");
    config.inclusion_delay_seconds = 6;
    config.finality_delay_seconds = 12;
    let mut rig = Rig::funded(config, 1_000_000_000).await;
    let id = rig.id();
    let kind = rig.delegate(0, 1_000_000);
    let signed = rig.signed(&id, &kind).await.unwrap();
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
    rig.chain.submit(&id, &signed).await.unwrap();
    for _ in 0..2 {
        assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Pending));
        rig.pass(6);
    }
    rig.settle();
    let Ok(Lookup::Done { height, effects }) = rig.chain.lookup(&id, &signed).await else { panic!() };
    assert!(effects.iter().all(|effect| effect.operation.as_ref() == Some(&id) && effect.height == height));
    assert!(effects.iter().all(|effect| effect.key.transaction == signed.transaction));
    assert_eq!(rig.chain.effects(height - 1, height).await.unwrap(), effects);
    // Sent again it is the same transaction, and does nothing.
    rig.chain.submit(&id, &signed).await.unwrap();
    rig.settle();
    assert_eq!(rig.delegation(0).await.unwrap().amount, amount(1_000_000));
    assert_eq!(rig.chain.conflicting_submits(), 0);
    rig.audit().await;
}

#[tokio::test]
async fn an_operation_is_on_the_chain_once_whatever_the_bytes() {
    for name in presets::NAMES {
        let mut rig = staked(name).await;
        let id = rig.id();
        let kind = rig.delegate(0, tokens(&rig.config, 1_000));
        let signed = rig.signed(&id, &kind).await.unwrap();
        rig.chain.submit(&id, &signed).await.unwrap();
        rig.pass(1);
        let other = rig.signed(&id, &kind).await.unwrap();
        assert_ne!(other.bytes, signed.bytes);
        assert!(matches!(rig.chain.submit(&id, &other).await, Err(ChainError::Refused(_))));
        rig.settle();
        assert!(matches!(rig.chain.submit(&id, &other).await, Err(ChainError::Refused(_))));
        assert_eq!(rig.chain.conflicting_submits(), 2);
        assert_eq!(rig.totals().await.fees_paid, rig.config.fee);
        assert!(matches!(rig.chain.lookup(&id, &other).await, Ok(Lookup::Done { .. })));
    }
}

#[tokio::test]
async fn absence_is_proved_by_expiry_or_by_the_nonce() {
    let mut rig = staked("atom").await;
    let (first, second) = (rig.id(), rig.id());
    let kind = rig.delegate(0, 5);
    let one = rig.signed(&first, &kind).await.unwrap();
    let two = rig.signed(&second, &kind).await.unwrap();
    assert_eq!((one.lifetime.nonce, two.lifetime.nonce), (Some(0), Some(0)));
    rig.chain.submit(&second, &two).await.unwrap();
    assert!(matches!(rig.chain.submit(&first, &one).await, Err(ChainError::Refused(why)) if why.contains("nonce")));
    assert_eq!(rig.chain.lookup(&first, &one).await, Ok(Lookup::Absent));
    rig.settle();
    assert_eq!(rig.chain.lookup(&first, &one).await, Ok(Lookup::AbsentForGood));
    let again = rig.signed(&first, &kind).await.unwrap();
    assert_eq!(again.lifetime.nonce, Some(1));
    // Exactly at its expiry it may still be included; a block later it can't.
    rig.pass(120 - rig.now().rem_euclid(6));
    assert_eq!(rig.chain.lookup(&first, &again).await, Ok(Lookup::Absent));
    rig.pass(12);
    assert_eq!(rig.chain.lookup(&first, &again).await, Ok(Lookup::AbsentForGood));
    assert!(matches!(rig.chain.submit(&first, &again).await, Err(ChainError::Refused(why)) if why.contains("expire")));

    let mut rig = staked("trx").await;
    let id = rig.id();
    let signed = rig.signed(&id, &rig.delegate(0, 1_000_000)).await.unwrap();
    assert_eq!(signed.lifetime.nonce, None);
    rig.pass(60);
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
    // Only the final head proves it: 57 s and a block later.
    rig.pass(57);
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Absent));
    rig.pass(6);
    assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::AbsentForGood));
}

#[tokio::test]
async fn several_can_wait_for_one_block_in_order() {
    let mut rig = staked("atom").await;
    let mut sent = Vec::new();
    for index in 0..5 {
        let id = rig.id();
        let signed = rig.signed(&id, &rig.delegate(index, 100)).await.unwrap();
        assert_eq!(signed.lifetime.nonce, Some(index as u64));
        rig.chain.submit(&id, &signed).await.unwrap();
        sent.push((id, signed));
    }
    rig.settle();
    let mut heights = BTreeSet::new();
    for (id, signed) in sent {
        let Ok(Lookup::Done { height, .. }) = rig.chain.lookup(&id, &signed).await else { panic!() };
        heights.insert(height);
    }
    assert_eq!(heights.len(), 1);
}

#[tokio::test]
async fn bad_bytes_are_refused_before_inclusion() {
    let mut rig = staked("atom").await;
    let id = rig.id();
    let kind = rig.delegate(0, 5);
    let good = rig.signed(&id, &kind).await.unwrap();
    let refused = |signed: Signed| {
        let (chain, id) = (rig.chain.clone(), id.clone());
        async move {
            match chain.submit(&id, &signed).await {
                Err(ChainError::Refused(why)) => why,
                other => panic!("{other:?}"),
            }
        }
    };
    let mut broken = good.clone();
    broken.bytes[9] ^= 1;
    assert!(refused(broken).await.contains("signature"));
    let mut short = good.clone();
    short.bytes.truncate(5);
    assert!(refused(short.clone()).await.contains("shorter"));
    assert_eq!(rig.chain.lookup(&id, &short).await, Ok(Lookup::AbsentForGood));
    let mut renamed = good.clone();
    renamed.transaction = crate::domain::ids::TransactionId::new("another").unwrap();
    assert!(refused(renamed).await.contains("hash"));
    let other = OperationId::new("other").unwrap();
    assert!(matches!(rig.chain.submit(&other, &good).await, Err(ChainError::Refused(_))));
    rig.settle();
    assert_eq!(rig.effects().await.len(), 1);

    let mut poor = Rig::funded(preset("atom"), 4_999).await;
    let (one, two) = (poor.id(), poor.id());
    let signed = poor.signed(&one, &poor.delegate(0, 5)).await.unwrap();
    poor.chain.submit(&one, &signed).await.unwrap();
    let signed = poor.signed(&two, &poor.delegate(0, 5)).await.unwrap();
    assert!(matches!(poor.chain.submit(&two, &signed).await, Err(ChainError::Refused(why)) if why.contains("fee")));
}

#[tokio::test]
async fn a_transaction_that_cannot_pay_when_its_block_comes_is_dropped() {
    let mut rig = Rig::funded(preset("atom"), 5_100).await;
    let (one, two) = (rig.id(), rig.id());
    let first = rig.signed(&one, &rig.delegate(0, 2_000)).await.unwrap();
    rig.chain.submit(&one, &first).await.unwrap();
    let second = rig.signed(&two, &rig.delegate(0, 5)).await.unwrap();
    rig.chain.submit(&two, &second).await.unwrap();
    rig.settle();
    assert!(matches!(rig.chain.lookup(&one, &first).await, Ok(Lookup::Done { .. })));
    assert_eq!(rig.chain.lookup(&two, &second).await, Ok(Lookup::Absent));
    rig.fund(10_000).await;
    rig.chain.submit(&two, &second).await.unwrap();
    rig.settle();
    assert!(matches!(rig.chain.lookup(&two, &second).await, Ok(Lookup::Done { .. })));
    rig.audit().await;
}

#[tokio::test]
async fn the_signer_refuses_what_does_not_say_what_it_is_said_to_say() {
    let mut rig = staked("atom").await;
    let id = rig.id();
    let kind = rig.delegate(0, 5);
    let unsigned = rig.chain.prepare(&id, &kind).await.unwrap();
    let signer = rig.chain.signer();
    let refused = |unsigned: Unsigned, id: OperationId| {
        let signer = signer.clone();
        async move { matches!(signer.sign(&id, &unsigned).await, Err(ChainError::Refused(_))) }
    };
    let says = |change: &dyn Fn(&mut Decoded)| {
        let mut said = unsigned.clone();
        change(&mut said.says);
        said
    };
    let other = rig.delegate(0, 6);
    assert!(refused(says(&|says| says.intent = other.clone()), id.clone()).await);
    assert!(refused(says(&|says| says.lifetime.nonce = None), id.clone()).await);
    assert!(refused(says(&|says| says.lifetime.expires_at = None), id.clone()).await);
    assert!(refused(Unsigned { bytes: vec![1, 2, 3], ..unsigned.clone() }, id.clone()).await);
    assert!(refused(unsigned.clone(), OperationId::new("other").unwrap()).await);
    let foreign = super::super::SimulatedSigner::new(&ChainId::new("elsewhere").unwrap(), rig.config.seed);
    assert!(matches!(foreign.sign(&id, &unsigned).await, Err(ChainError::Refused(_))));
    assert!(!format!("{signer:?}").contains("key"));
    let mut signature = signer.sign(&id, &unsigned).await.unwrap();
    signature[0] ^= 1;
    let assembled = rig.chain.assemble(&id, &unsigned, &signature).await;
    assert!(matches!(assembled, Err(ChainError::Untrusted(_))), "{assembled:?}");
}

#[tokio::test]
async fn what_no_block_could_do_is_refused_when_prepared() {
    let mut rig = staked("near").await;
    let id = rig.id();
    for kind in [
        OperationKind::Claim { validator: None },
        OperationKind::Claim { validator: Some(rig.validator(0)) },
        OperationKind::Withdraw { validator: None },
        rig.delegate(0, 0),
    ] {
        assert!(matches!(rig.chain.prepare(&id, &kind).await, Err(ChainError::Refused(_))), "{kind:?}");
    }
}
