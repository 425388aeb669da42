//! What a pause stops: whatever was not sent before it, the very step that it comes in included.

use super::*;
use crate::app::Request;
use crate::app::control::Change;
use crate::app::transfer::{Acknowledgement, request_defund, request_fund};
use crate::domain::caller::Caller;
use crate::domain::ids::{Principal, RequestId};
use crate::domain::operation::Resolution;
use crate::domain::transfer::Transfer;

impl Rig {
    async fn transfer_of(&self, id: &TransferId) -> Transfer {
        self.app.transfer(&self.pool, id).await.unwrap().transfer
    }

    async fn acknowledge(&mut self, id: &TransferId, word: Acknowledgement) {
        let request = self.request();
        let _ = self.app.acknowledge_transfer(&request, &self.pool, id, word, "desk").await.unwrap();
    }

    async fn pause(&mut self, reason: Option<&str>) {
        let request = self.request();
        let _ = match reason {
            Some(reason) => self.app.pause_pool(&request, &self.pool, reason).await.unwrap(),
            None => self.app.resume_pool(&request, &self.pool, "looked at").await.unwrap(),
        };
        self.app.approve_waiting().await;
    }
}

#[tokio::test]
async fn what_stands_behind_a_look_up_that_pauses_the_pool_is_not_sent() {
    let (mut rig, validator) = funded().await;
    // The chain did what a person ruled out, and nobody has booked it yet.
    rig.stuck("ruled-out", &validator, true).await;
    assert_eq!(rig.resolve("ruled-out", &Resolution::Absent).await.unwrap(), Once::First);
    rig.simulated.clear_faults();
    rig.begin("sent", OperationKind::Delegate { validator: validator.clone(), amount: units(100) }).await;
    rig.operate(800).await;
    assert_eq!(rig.of("sent").await.state, OperationState::Submitted);
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let defund = request_defund(&mut change, &rig.pool, Purpose::Principal, units(300), "test").unwrap();
    change.commit().await.unwrap();
    // One step: the look-up of the one books the contradiction, and the other was due in the same step.
    rig.set_time(900);
    let _ = step(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    assert!(rig.paused().await.unwrap().contains("ruled-out"));
    let transfer = rig.transfer_of(&defund).await;
    assert_eq!(transfer.state, TransferState::Cancelled);
    let given_up = rig.of(transfer.operation.unwrap().as_str()).await;
    assert_eq!((given_up.state, given_up.signed, given_up.in_flight), (OperationState::Failed, None, units(0)));
}

#[tokio::test]
async fn what_may_have_been_sent_is_not_sent_once_more_while_the_pool_is_paused() {
    let (mut rig, validator) = funded().await;
    rig.begin("op", OperationKind::Delegate { validator, amount: units(400) }).await;
    rig.fault(Fault::SubmitLostBefore { times: 1 }).await;
    rig.fault(Fault::LookupUnavailable { times: 1 }).await;
    rig.set_time(61);
    let _ = step(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    assert_eq!((rig.of("op").await.state, rig.of("op").await.attempts), (OperationState::Unknown, 1));
    rig.pause(Some("look")).await;
    rig.operate(70).await;
    rig.operate(75).await;
    let held = rig.of("op").await;
    assert_eq!((held.state, held.attempts), (OperationState::Unknown, 1), "looked up, and not sent");
    rig.pause(None).await;
    rig.operate(80).await;
    rig.operate(120).await;
    assert_eq!((rig.of("op").await.state, rig.of("op").await.attempts), (OperationState::Confirmed, 2));
}

#[tokio::test]
async fn a_fund_that_bounced_is_back_in_custody() {
    let (mut rig, _) = funded().await;
    rig.put("alice", 1_000, 60).await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let id = request_fund(&mut change, Purpose::Principal, units(100), "test").unwrap();
    change.commit().await.unwrap();
    let before = rig.app.ledger_view(&rig.pool).await.unwrap().custody();
    rig.acknowledge(&id, Acknowledgement::Moved(units(90))).await;
    assert_eq!(rig.held(Held::InTransit).await, 90);
    rig.acknowledge(&id, Acknowledgement::Rejected("the withdrawal bounced".to_owned())).await;
    let ended = rig.transfer_of(&id).await;
    assert_eq!((ended.state, ended.outstanding(), ended.acknowledged), (TransferState::Observed, units(0), units(0)));
    assert_eq!(rig.held(Held::InTransit).await, 0);
    assert_eq!(rig.app.ledger_view(&rig.pool).await.unwrap().custody(), before);
    assert!(rig.app.open_transfers(&rig.pool).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_word_on_an_operation_that_was_tried_again_since_is_not_taken() {
    let (mut rig, validator) = funded().await;
    rig.stuck("op", &validator, false).await;
    let request = rig.request();
    let _ = rig.app.resolve_operation(&request, &rig.pool, &name("op"), &Resolution::Absent, "seen").await.unwrap();
    let waits = rig.app.proposed_by(&request, rig.pool.control()).await.unwrap().unwrap();
    let request = rig.request();
    let _ = rig.app.retry_operation(&request, &rig.pool, &name("op")).await.unwrap();
    let tried = rig.of("op").await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let (state, since) = (OperationState::NeedsOperator, tried.since.plus(3_600));
    change.put(keys::operation(&name("op")), &OperationRecord { state, since, ..tried });
    change.commit().await.unwrap();
    let caller = Caller { principal: Principal::new("second").unwrap(), peer: "".into() };
    let approve = Request::new("AdminService/Approve", RequestId::new("late").unwrap(), caller, b"");
    let outcome = rig.app.approve(&approve, waits.number, waits.content_hash).await;
    assert!(matches!(&outcome, Err(AppError::Refused(refusal)) if refusal.reason == Reason::WrongState), "{outcome:?}");
    assert_eq!(rig.of("op").await.state, OperationState::NeedsOperator);
}
