use super::super::distribute::tests::rig::{LENGTH, Rig, account, at, units};
use super::*;
use crate::app::approve::{APPROVAL_SECONDS, overtaken};
use crate::app::ingest::PUT_BALANCE;
use crate::book::{EventBatch, EventPool, FeedEvent};
use crate::domain::caller::Caller;
use crate::domain::ids::Principal;
use crate::domain::policy::ReleaseLimits;
use crate::store::records::ApprovalState;

async fn propose(rig: &mut Rig, name: &str, balance: u64, second: i64) -> Result<ApprovalRecord, AppError> {
    let (request, app, asset) = (rig.request(), rig.app.clone(), rig.pool.record.asset.clone());
    let proposed =
        rig.drive(app.correct_balance(&request, (account(name), asset), units(balance), at(second), "why")).await;
    proposed.map(|(_, record)| record)
}

/// A request of somebody else than who proposes.
fn second_person(rig: &mut Rig) -> Request {
    Request { caller: Caller { principal: Principal::new("second").unwrap(), peer: "".into() }, ..rig.request() }
}

async fn approve(rig: &mut Rig, record: &ApprovalRecord) -> Result<ApprovalRecord, AppError> {
    let (request, app) = (second_person(rig), rig.app.clone());
    let approved = rig.drive(app.approve(&request, record.number, record.content_hash)).await;
    approved.map(|(_, record)| record)
}

/// What the open period is going to give: its weight so far, less what will be collected from it.
async fn weight(rig: &Rig, name: &str) -> i128 {
    let position = rig.app.position(&rig.pool, &account(name)).await.unwrap();
    i128::try_from(position.weight).unwrap() - i128::try_from(position.uncollected_weight).unwrap()
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, AppError>) -> Reason {
    match outcome {
        Err(AppError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

/// The first hour is frozen, and the second half over. Alice had 1,000 for half an hour, then 500.
async fn half_past_one() -> Rig {
    let mut rig = Rig::new(3, ReleaseLimits::default()).await;
    rig.put("alice", 1_000, 0).await;
    rig.put("bob", 1_000, 0).await;
    rig.set_time(LENGTH / 2);
    rig.put("alice", 500, LENGTH / 2).await;
    rig.set_time(LENGTH + 700);
    rig.run().await.unwrap();
    rig.set_time(LENGTH * 3 / 2);
    rig
}

#[tokio::test]
async fn what_differs_in_frozen_periods_goes_into_the_open_one_once() {
    let mut rig = half_past_one().await;
    let proposed = propose(&mut rig, "alice", 400, 600).await.unwrap();
    assert_eq!((proposed.number, proposed.state), (1, ApprovalState::Pending));
    assert_eq!(weight(&rig, "alice").await, 500 * 1_800, "nothing happens before the approval");
    let made = approve(&mut rig, &proposed).await.unwrap();
    assert_eq!((made.state, made.approved_by.as_str(), made.sequence), (ApprovalState::Approved, "second", 1));
    assert_eq!(weight(&rig, "alice").await, 500 * 1_800 - 600 * 1_200);
    assert_eq!(reason(approve(&mut rig, &proposed).await), Reason::WrongState);
    // What was corrected is corrected again: from 900 on to 700.
    let more = propose(&mut rig, "alice", 700, 900).await.unwrap();
    approve(&mut rig, &more).await.unwrap();
    assert_eq!(weight(&rig, "alice").await, 500 * 1_800 - 600 * 1_200 + 300 * 900);
    assert!(rig.app.book.audit(rig.pool.number()).unwrap().holds());
    let mut rig = rig.restart().await;
    assert_eq!(weight(&rig, "alice").await, 500 * 1_800 - 600 * 1_200 + 300 * 900);
    rig.seal().await;
}

#[tokio::test]
async fn the_balance_of_now_is_corrected_from_then_on() {
    let mut rig = half_past_one().await;
    let proposed = propose(&mut rig, "bob", 3_000, LENGTH - 100).await.unwrap();
    approve(&mut rig, &proposed).await.unwrap();
    let position = rig.app.position(&rig.pool, &account("bob")).await.unwrap();
    assert_eq!(position.balance, units(3_000));
    assert_eq!(position.weight, 3_000 * 1_800 + 2_000 * 100, "all of the open hour, and the end of the frozen one");
    assert_eq!(rig.app.book.eligible_total(rig.pool.number()), Some(units(3_500)));
    assert!(rig.app.book.audit(rig.pool.number()).unwrap().holds());
}

#[tokio::test]
async fn what_changed_since_it_was_proposed_lapses() {
    let mut rig = half_past_one().await;
    let now = propose(&mut rig, "bob", 3_000, LENGTH - 100).await.unwrap();
    let past = propose(&mut rig, "alice", 400, 600).await.unwrap();
    let again = propose(&mut rig, "alice", 300, 600).await.unwrap();
    rig.put("bob", 10, LENGTH * 3 / 2).await;
    rig.put("alice", 20, LENGTH * 3 / 2).await;
    assert_eq!(reason(approve(&mut rig, &now).await), Reason::WrongState);
    assert_eq!(rig.app.approval(now.number).await.unwrap().state, ApprovalState::Lapsed);
    approve(&mut rig, &past).await.unwrap();
    assert_eq!(reason(approve(&mut rig, &again).await), Reason::WrongState, "it was computed from what is no more");
    let late = propose(&mut rig, "alice", 300, 600).await.unwrap();
    let wrong = ApprovalRecord { content_hash: [0; 32], ..late.clone() };
    assert_eq!(reason(approve(&mut rig, &wrong).await), Reason::HashMismatch);
    rig.set_time(LENGTH * 3 / 2 + APPROVAL_SECONDS);
    let listed = rig.app.approvals_page(&[ApprovalState::Lapsed], None, 2).await.unwrap();
    let numbers: Vec<u64> = listed.entries.iter().map(|record| record.number).collect();
    assert_eq!((numbers, listed.more), (vec![late.number, again.number], true));
    assert_eq!(reason(approve(&mut rig, &late).await), Reason::WrongState, "nobody approved it in time");
    assert_eq!(reason(rig.app.approval(99).await), Reason::UnknownApproval);
}

#[tokio::test]
async fn an_approval_that_the_book_overtook_is_answered_the_same_each_time() {
    let mut rig = half_past_one().await;
    let proposed = propose(&mut rig, "bob", 3_000, LENGTH - 100).await.unwrap();
    let (pool, bob) = (EventPool::Pool(rig.pool.number()), account("bob"));
    let event = FeedEvent { pool, account: bob, balance: units(10), at: at(LENGTH * 3 / 2) };
    // It stands in the queue before the correction, and is not in the book when that is computed.
    let batch = EventBatch { source: PUT_BALANCE, first_sequence: 4, events: vec![event], watermark: None };
    drop(rig.app.sender.submit_events(batch).unwrap());
    let (request, app) = (second_person(&mut rig), rig.app.clone());
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = rig.drive(app.approve(&request, proposed.number, proposed.content_hash)).await;
        answers.push(answer.unwrap_err().to_string());
    }
    assert_eq!(answers[0], overtaken().to_string());
    assert_eq!(answers[0], answers[1]);
    let stands = rig.app.approval(proposed.number).await.unwrap();
    assert_eq!((stands.state, stands.sequence), (ApprovalState::Lapsed, 1));
}

#[tokio::test]
async fn whoever_proposed_it_cannot_approve_it() {
    let mut rig = half_past_one().await;
    let proposed = propose(&mut rig, "bob", 3_000, LENGTH - 100).await.unwrap();
    let (own, app) = (rig.request(), rig.app.clone());
    let refused = rig.drive(app.approve(&own, proposed.number, proposed.content_hash)).await;
    assert_eq!(reason(refused), Reason::OwnProposal);
    assert_eq!(rig.app.approval(proposed.number).await.unwrap(), proposed, "and it still waits");
    let approved = approve(&mut rig, &proposed).await.unwrap();
    assert_eq!((approved.state, approved.approved_by.as_str()), (ApprovalState::Approved, "second"));
}

#[tokio::test]
async fn what_cannot_be_corrected_is_refused_with_the_reason() {
    let mut rig = half_past_one().await;
    assert_eq!(reason(propose(&mut rig, "nobody", 1, 600).await), Reason::UnknownAccount);
    assert_eq!(reason(propose(&mut rig, "alice", 1, 2 * LENGTH).await), Reason::InvalidValue);
    assert_eq!(reason(propose(&mut rig, "alice", 1, -1).await), Reason::InvalidValue);
    assert_eq!(reason(propose(&mut rig, "alice", 1_000, 600).await), Reason::NothingToCorrect);
    assert_eq!(reason(propose(&mut rig, "bob", 1_000, 600).await), Reason::NothingToCorrect);
    let none = rig.app.approvals_page(&[], None, 9).await.unwrap();
    assert!(none.entries.is_empty(), "what is refused leaves nothing");
}

/// The approval is durable, and the process dies before or after the book has it.
#[tokio::test]
async fn a_crash_between_the_approval_and_the_book_loses_and_doubles_nothing() {
    for (commit, after) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut rig = half_past_one().await;
        let proposed = propose(&mut rig, "alice", 400, 600).await.unwrap();
        rig.die_at(commit, after);
        assert!(approve(&mut rig, &proposed).await.is_err());
        let mut rig = rig.restart().await;
        let app = rig.app.clone();
        rig.drive(step(&app)).await.unwrap();
        let stands = rig.app.approval(proposed.number).await.unwrap();
        if stands.state == ApprovalState::Pending {
            assert_eq!((commit, after), (0, false));
            approve(&mut rig, &proposed).await.unwrap();
        }
        assert_eq!(weight(&rig, "alice").await, 500 * 1_800 - 600 * 1_200, "{commit} {after}");
        assert_eq!(rig.drive(step(&app)).await.unwrap(), Work::Idle);
    }
}
