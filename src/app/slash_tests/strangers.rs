//! What the chain did and nothing of ours explains: it is told, it stops what flows out, and it stops no booking.

use super::teller::{Teller, read};
use crate::app::control::Change;
use crate::app::distribute::tests::rig::{Rig, at, units};
use crate::app::metrics::PoolName;
use crate::app::{Work, operate, reconcile, transfer};
use crate::chain::ChainAdapter;
use crate::domain::effect::EffectKind;
use crate::domain::ids::{OperationId, ValidatorId};
use crate::domain::ledger::{AssetAccount, ClaimAccount};
use crate::domain::operation::{OperationKind, OperationState, defund_id};
use crate::domain::transfer::{Purpose, TransferState};
use crate::store::keys;
use crate::store::records::OperationRecord;

async fn paused(rig: &Rig) -> Option<String> {
    rig.app.pool_state(&rig.pool).await.unwrap().paused
}

fn out(amount: u64) -> EffectKind {
    EffectKind::TransferOut { transfer: None, amount: units(amount) }
}

#[tokio::test]
async fn an_outflow_of_nobody_s_stops_the_pool_and_no_booking_after_it() {
    let (mut rig, teller) = Teller::new().await;
    teller.tell(&rig, 61, "rescue", None, out(5)).await;
    let reward = EffectKind::RewardPaid { validator: None, amount: units(7), earned_from: at(0), earned_to: at(60) };
    teller.tell(&rig, 80, "reward", None, reward).await;
    rig.set_time(120);
    let found = read(&rig).await.unwrap();
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 7);
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let mark = app.chain_mark(&pool).await.unwrap();
    assert_eq!((mark.booked_height, found.differences.len()), (found.height, 1));
    let reason = paused(&rig).await.unwrap();
    assert!(reason.contains("rescue/0") && reason.contains("5 base units left the staking address"), "{reason}");

    // A second reading, a person's word, and the pool is as before.
    rig.set_time(180);
    let request = rig.request();
    let once = app.accept_differences(&request, &pool, found.differences_hash(), "signed by hand").await;
    assert_eq!(once.unwrap(), crate::app::Once::First);
    rig.set_time(240);
    app.approve_waiting().await;
    assert_eq!(rig.claim(ClaimAccount::House).await, -5);
    let request = rig.request();
    let _ = app.resume_pool(&request, &pool, "looked at").await.unwrap();
    app.approve_waiting().await;
    rig.set_time(300);
    assert!(read(&rig).await.unwrap().agrees());
    assert_eq!(paused(&rig).await, None);
    assert_eq!(app.ledger_view(&pool).await.unwrap().asset(AssetAccount::Liquid), units(1_000_002));
}

#[tokio::test]
async fn a_defund_of_ours_is_known_by_its_operation_where_its_memo_is_not_told() {
    let (rig, teller) = Teller::new().await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let id = transfer::request_defund(&mut change, &rig.pool, Purpose::Principal, units(40), "test").unwrap();
    change.commit().await.unwrap();
    let operation = defund_id(rig.pool.id(), &id).unwrap();
    teller.tell(&rig, 61, "defund", Some(&operation), out(40)).await;
    rig.set_time(120);
    assert!(read(&rig).await.unwrap().agrees());
    let record = rig.app.transfer(&rig.pool, &id).await.unwrap();
    assert_eq!((record.transfer.state, record.transfer.seen), (TransferState::Sent, units(40)));
    assert_eq!(rig.app.operation(&rig.pool, &operation).await.unwrap().settled, units(40));
}

/// An operation to delegate 100 units, driven until it is confirmed.
async fn delegated(rig: &Rig) -> (OperationId, ValidatorId) {
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    let id = OperationId::new("atom:delegate:1:0").unwrap();
    let kind = OperationKind::Delegate { validator: validator.clone(), amount: units(100) };
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    operate::plan(&mut change, id.clone(), kind, "test").unwrap();
    change.commit().await.unwrap();
    for second in [61, 90, 110] {
        rig.set_time(second);
        while operate::step(&rig.app, &rig.pool, rig.app.now()).await.unwrap() == Work::Done {}
    }
    let done = rig.app.operation(&rig.pool, &id).await.unwrap();
    assert_eq!((done.state, done.settled), (OperationState::Confirmed, units(100)));
    (id, validator)
}

#[tokio::test]
async fn what_the_chain_does_twice_for_an_operation_is_booked_and_stops_the_pool() {
    let (rig, teller) = Teller::new().await;
    let (id, validator) = delegated(&rig).await;
    assert_eq!(paused(&rig).await, None);
    let again = EffectKind::Delegated { validator, amount: units(100) };
    teller.tell(&rig, 120, "again", Some(&id), again).await;
    rig.set_time(180);
    assert!(read(&rig).await.unwrap().agrees(), "the books are the chain's");
    let reason = paused(&rig).await.unwrap();
    assert!(reason.contains("in again, but it had done it before, in "), "{reason}");
    assert_eq!(rig.app.metrics.contradictions.get(), 1);
    assert_eq!(rig.app.operation(&rig.pool, &id).await.unwrap().settled, units(200));
}

#[tokio::test]
async fn what_is_done_twice_before_an_operation_is_settled_is_seen_whichever_comes_first() {
    let (rig, teller) = Teller::new().await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let id = transfer::request_defund(&mut change, &rig.pool, Purpose::Principal, units(40), "test").unwrap();
    let operation = defund_id(rig.pool.id(), &id).unwrap();
    let planned: OperationRecord = change.read(&keys::operation(&operation)).await.unwrap().unwrap();
    change.put(keys::operation(&operation), &OperationRecord { state: OperationState::Submitted, ..planned });
    change.commit().await.unwrap();
    teller.tell(&rig, 61, "one", Some(&operation), out(40)).await;
    rig.set_time(80);
    assert!(read(&rig).await.unwrap().agrees());
    assert_eq!(paused(&rig).await, None);
    teller.tell(&rig, 81, "two", Some(&operation), out(40)).await;
    rig.set_time(120);
    assert!(read(&rig).await.unwrap().agrees());
    let reason = paused(&rig).await.unwrap();
    assert!(reason.contains("in two, but it had done it before, in one"), "{reason}");
}

#[tokio::test]
async fn a_move_of_stake_by_nobody_is_booked_counted_and_stops_the_pool() {
    let (rig, teller) = Teller::new().await;
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    let kind = EffectKind::Delegated { validator: validator.clone(), amount: units(100) };
    teller.tell(&rig, 61, "thief", None, kind).await;
    rig.set_time(120);
    assert!(read(&rig).await.unwrap().agrees());
    let reason = paused(&rig).await.unwrap();
    assert!(reason.contains("thief/0") && reason.contains("find out who signed it"), "{reason}");
    let label = PoolName { pool: "atom".to_owned() };
    assert_eq!(rig.app.metrics.effects_unexplained.get_or_create(&label).get(), 1);
    let view = rig.app.ledger_view(&rig.pool).await.unwrap();
    assert_eq!(view.asset(AssetAccount::Delegated(validator)), units(100));
}

#[tokio::test]
async fn a_reason_to_pause_that_comes_in_a_pause_is_told_beside_it() {
    let (mut rig, teller) = Teller::new().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let request = rig.request();
    let _ = app.pause_pool(&request, &pool, "maintenance").await.unwrap();
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    let id = OperationId::new("atom:delegate:1:0").unwrap();
    let kind = OperationKind::Delegate { validator: validator.clone(), amount: units(100) };
    let mut change = Change::begin(&app, &pool, app.now()).await.unwrap();
    operate::plan(&mut change, id.clone(), kind, "test").unwrap();
    let planned: OperationRecord = change.read(&keys::operation(&id)).await.unwrap().unwrap();
    change.put(keys::operation(&id), &OperationRecord { state: OperationState::Failed, ..planned });
    change.commit().await.unwrap();
    teller.tell(&rig, 61, "late", Some(&id), EffectKind::Delegated { validator, amount: units(100) }).await;
    rig.set_time(120);
    assert!(read(&rig).await.unwrap().agrees());
    let reason = paused(&rig).await.unwrap();
    assert!(reason.starts_with("maintenance; operation atom:delegate:1:0: ") && reason.contains("FAILED"), "{reason}");

    // Nor does an operator's pause take the place of the service's.
    for _ in 0..2 {
        let request = rig.request();
        let _ = app.pause_pool(&request, &pool, "I am looking").await.unwrap();
    }
    assert_eq!(paused(&rig).await.unwrap(), format!("{reason}; I am looking"));
    let request = rig.request();
    let _ = app.resume_pool(&request, &pool, "looked at").await.unwrap();
    app.approve_waiting().await;
    assert_eq!(paused(&rig).await, None);
}

#[test]
fn the_reasons_of_a_pause_fit_their_record() {
    let mut reasons = None;
    for n in 0..2_000 {
        reasons = Some(reconcile::also(reasons.as_deref(), &format!("reason number {n}")));
    }
    let reasons = reasons.unwrap();
    assert!(
        reasons.starts_with("reason number 0; reason number 1; ") && reasons.ends_with("; and more, which the log has")
    );
    assert!(reasons.len() < 4_100, "{}", reasons.len());
    assert_eq!(reconcile::also(Some(&reasons), "another"), reasons);
}
