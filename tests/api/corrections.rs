//! What goes behind a position's last event: late events over frozen periods, and corrections with approval.

use softstake::client::ClientError;
use softstake::pb::v1;

use crate::harness::{DAY, FIRST, HOUR, SECOND, START, Server, Setup, THIRD, amount, time};

/// A million ATOM.
const MILLION: u128 = 1_000_000_000_000;

fn corrected(id: &str, account: &str, base_units: u128, seconds: i64) -> v1::CorrectBalanceRequest {
    v1::CorrectBalanceRequest {
        request_id: id.to_owned(),
        account: account.to_owned(),
        balance: Some(amount("ATOM", base_units)),
        event_time: Some(time(START + seconds)),
        reason: "the deposit was booked twice".to_owned(),
    }
}

async fn approvals(server: &Server, state: v1::ApprovalState) -> Vec<v1::Approval> {
    let request = v1::ListApprovalsRequest { states: vec![state.into()], ..Default::default() };
    server.client.list_approvals(request).await.unwrap().approvals
}

fn reason_of(error: &ClientError) -> String {
    match error {
        ClientError::Refused(refusal) => refusal.reason.clone(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_waits_for_approval_and_leaves_closed_periods_as_they_are() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", 2 * MILLION).await;
    server.put("bob", "ATOM", MILLION).await;
    server.at(6 * HOUR).await;
    server.put("alice", "ATOM", MILLION).await;
    server.close(DAY).await;
    let paid = server.explain("atom", FIRST, "alice").await;
    server.at(DAY + 12 * HOUR).await;

    // From the second hour to the sixth alice had one million, not two.
    let ask = corrected("fix-1", "alice", MILLION, 2 * HOUR);
    let proposed = server.client.correct_balance(ask.clone()).await.unwrap();
    assert_eq!(server.client.correct_balance(ask).await.unwrap(), proposed, "the same id is the same proposal");
    let waiting = approvals(&server, v1::ApprovalState::Pending).await;
    assert_eq!((waiting.len(), &waiting[0].name), (1, &proposed.approval));
    assert_eq!(waiting[0].resource, "accounts/alice/positions/atom");
    assert!(waiting[0].summary.contains("booked twice"), "{}", waiting[0].summary);
    let weight = async |server: &Server| {
        let position = server.position("alice", "atom").await;
        let second = position.as_of_time.unwrap().seconds - START - DAY;
        let big = |text: &str| text.parse::<i128>().unwrap();
        (big(&position.time_weight) - big(&position.uncollected_weight), MILLION as i128 * i128::from(second))
    };
    let (before, natural) = weight(&server).await;
    assert_eq!(before, natural);

    let approve = |hash: Vec<u8>, id: &str| v1::ApproveRequest {
        request_id: id.to_owned(),
        name: proposed.approval.clone(),
        content_hash: hash,
    };
    let other = server.client.approve(approve(vec![1; 32], "no")).await.unwrap_err();
    assert_eq!(reason_of(&other), "HASH_MISMATCH");
    let hash = waiting[0].content_hash.clone();
    let approved = server.client.approve(approve(hash.clone(), "yes")).await.unwrap().approval.unwrap();
    assert_eq!(approved.state(), v1::ApprovalState::Approved);
    assert_eq!(server.client.approve(approve(hash.clone(), "yes")).await.unwrap().approval.unwrap(), approved);
    let again = server.client.approve(approve(hash, "once-more")).await.unwrap_err();
    assert_eq!(reason_of(&again), "WRONG_STATE");
    let (after, natural) = weight(&server).await;
    assert_eq!(natural - after, MILLION as i128 * i128::from(4 * HOUR));
    let uncollected = server.pool("atom").await.totals.unwrap().uncollected_weight;
    assert_eq!(uncollected, (MILLION * 4 * HOUR as u128).to_string());
    let still = server.explain("atom", FIRST, "alice").await;
    assert_eq!((still.weight, still.payout.unwrap().amount), (paid.weight, paid.payout.unwrap().amount), "it stays");
    assert!(server.pool("atom").await.equations.iter().all(|equation| equation.holds));

    server.restart().await;
    let (after, natural) = weight(&server).await;
    assert_eq!(natural - after, MILLION as i128 * i128::from(4 * HOUR));
    server.close(2 * DAY).await;
    server.reconciled("atom").await;
    assert_eq!(server.pool("atom").await.totals.unwrap().uncollected_weight, "0");
    let alice = server.explain("atom", SECOND, "alice").await;
    assert_eq!(alice.weight, (MILLION * (DAY - 4 * HOUR) as u128).to_string());

    for (ask, reason) in [
        (corrected("r1", "nobody", 1, HOUR), "UNKNOWN_ACCOUNT"),
        (corrected("r2", "alice", 1, 9 * DAY), "INVALID_VALUE"),
        (corrected("r3", "alice", 1, -DAY), "INVALID_VALUE"),
        (corrected("r4", "bob", MILLION, 3 * HOUR), "NOTHING_TO_CORRECT"),
    ] {
        let refused = server.client.correct_balance(ask).await.unwrap_err();
        assert_eq!(reason_of(&refused), reason, "{refused}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_event_is_paid_for_in_the_next_period() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.put("bob", "ATOM", MILLION).await;
    server.close(DAY).await;
    let late = v1::PutBalanceRequest {
        request_id: "late".to_owned(),
        account: "alice".to_owned(),
        balance: Some(amount("ATOM", 0)),
        event_time: Some(time(START + 6 * HOUR)),
    };
    let position = server.client.put_balance(late).await.unwrap().position.unwrap();
    let owed = MILLION * 18 * HOUR as u128;
    assert_eq!(position.uncollected_weight, owed.to_string());
    assert_eq!(server.pool("atom").await.totals.unwrap().uncollected_weight, owed.to_string());
    server.close(2 * DAY).await;
    let position = server.put("alice", "ATOM", MILLION).await.position.unwrap();
    let since = position.last_event_time.unwrap().seconds - START;
    server.close(3 * DAY).await;
    assert_eq!(server.position("alice", "atom").await.uncollected_weight, "0");
    let alice = server.explain("atom", THIRD, "alice").await;
    assert_eq!(alice.weight, (MILLION * (3 * DAY - since - 18 * HOUR) as u128).to_string());
    assert!(server.pool("atom").await.equations.iter().all(|equation| equation.holds));
    server.stop().await;
}
