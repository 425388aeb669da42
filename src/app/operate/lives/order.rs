//! What a look-up finds, after what came before it; and what an operation waits for before it is sent.

use super::*;
use crate::app::distribute::tests::rig::{policy, settings};
use crate::chain::simulated::presets;

#[tokio::test]
async fn what_a_look_up_says_is_booked_after_what_the_chain_did_before() {
    let config = presets::near().scaled(20);
    let (fee, waits) = (config.fee, i64::try_from(config.unbonding_seconds).unwrap());
    let stake = fee.mul_div_floor(1_000, 1).unwrap();
    let rig = Rig::on(config, 1, policy(), settings(ReleaseLimits::default())).await;
    rig.simulated.custody_send(&TransferId::new("gift").unwrap(), stake.mul_div_floor(2, 1).unwrap()).await.unwrap();
    rig.set_time(60);
    assert!(rig.reconcile().await);
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    let kind = OperationKind::Delegate { validator: validator.clone(), amount: stake };
    rig.begin("in", kind).await;
    rig.operate(61).await;
    rig.operate(120).await;
    // The stake grows each epoch, and nobody has read that when all of it is undelegated.
    let kind = OperationKind::Undelegate { validator: validator.clone(), amount: stake };
    rig.set_time(4 * waits);
    rig.begin("out", kind).await;
    rig.operate(4 * waits).await;
    rig.operate(4 * waits + 60).await;
    assert_eq!(rig.of("out").await.state, OperationState::Confirmed);
    // It has matured, and nobody has read that either when it is withdrawn.
    rig.set_time(9 * waits);
    rig.begin("home", OperationKind::Withdraw { validator: Some(validator.clone()) }).await;
    rig.operate(9 * waits).await;
    rig.operate(9 * waits + 60).await;
    assert_eq!(rig.of("home").await.state, OperationState::Confirmed);
    assert_eq!((rig.held(Held::Unbonding).await, rig.held(Held::Matured).await), (0, 0));
    rig.set_time(9 * waits + 61);
    assert!(rig.reconcile().await);
}

#[tokio::test]
async fn nothing_is_sent_whose_fee_the_books_can_t_pay_beside_what_is_in_flight() {
    let config = presets::near().scaled(20);
    let fee = config.fee;
    let rig = Rig::on(config, 1, policy(), settings(ReleaseLimits::default())).await;
    let gift = fee.mul_div_floor(5, 1).unwrap();
    rig.simulated.custody_send(&TransferId::new("gift").unwrap(), gift).await.unwrap();
    rig.set_time(60);
    assert!(rig.reconcile().await);
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    // All that is liquid is in flight for the one, and nothing is left for the fee of either.
    rig.begin("all", OperationKind::Delegate { validator: validator.clone(), amount: gift }).await;
    rig.begin("other", OperationKind::Withdraw { validator: Some(validator) }).await;
    rig.operate(61).await;
    for id in ["all", "other"] {
        let waiting = rig.of(id).await;
        assert_eq!(waiting.state, OperationState::Planned);
        assert!(waiting.last_error.contains("fee"), "{}", waiting.last_error);
    }
    // More comes, and each is sent in its turn.
    rig.simulated.custody_send(&TransferId::new("more").unwrap(), gift).await.unwrap();
    rig.set_time(120);
    assert!(rig.reconcile().await);
    rig.operate(180).await;
    rig.operate(240).await;
    assert_eq!(rig.of("all").await.state, OperationState::Confirmed);
    rig.set_time(300);
    assert!(rig.reconcile().await);
}
