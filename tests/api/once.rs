//! Every change happens once: the same id with the same body gets the first answer, whatever happened in between.

use prost::Message;
use softstake::pb::{sim, v1};
use tonic::Code;

use crate::harness::{DAY, Event, FIRST, HOUR, Server, Setup, amount, signed, units};
use crate::raw::{Raw, answer, refused, rows};

const MILLION: u128 = 1_000_000_000_000;

/// Sends the same request twice, with `$between` in between, and demands the same bytes for an answer.
macro_rules! twice {
    ($client:expr, $method:ident, $request:expr $(, $between:expr)?) => {{
        let request = $request;
        let first = answer($client.$method(request.clone()).await);
        $($between;)?
        let second = answer($client.$method(request).await);
        assert_eq!(first.encode_to_vec(), second.encode_to_vec(), "{}", stringify!($method));
        first
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gets_the_first_answer_and_does_nothing() {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let name = || "pools/atom".to_owned();
    let put = v1::PutBalanceRequest {
        request_id: "put".to_owned(),
        account: "alice".to_owned(),
        balance: Some(amount("ATOM", MILLION)),
        event_time: None,
    };
    twice!(raw.feed, put_balance, put, server.put("alice", "ATOM", 2 * MILLION).await);
    assert_eq!(units(&server.position("alice", "atom").await.balance), 2 * MILLION, "a repeat puts nothing back");

    let enrol = v1::SetEnrolmentRequest {
        request_id: "enrol".to_owned(),
        account: "bob".to_owned(),
        pool: name(),
        decision: v1::EnrolmentDecision::OptOut as i32,
        ..Default::default()
    };
    twice!(raw.feed, set_enrolment, enrol, server.enrol("bob", "atom", v1::EnrolmentDecision::OptIn).await);
    server.put("bob", "ATOM", MILLION).await;
    server.at(HOUR).await;
    assert_eq!(server.position("bob", "atom").await.eligibility(), v1::Eligibility::Full);

    let pause = v1::PausePoolRequest { request_id: "pause".to_owned(), name: name(), reason: "once".to_owned() };
    let paused = twice!(raw.admin, pause_pool, pause, server.resume("atom").await);
    assert_eq!(paused.pool.unwrap().state(), v1::PoolState::Paused);
    assert_eq!(server.pool("atom").await.state(), v1::PoolState::Active);
    let resume = v1::ResumePoolRequest { request_id: "resume".to_owned(), name: name(), reason: "once".to_owned() };
    twice!(raw.admin, resume_pool, resume, server.pause("atom").await);
    assert_eq!(server.pool("atom").await.state(), v1::PoolState::Paused);
    server.resume("atom").await;

    let source = v1::RegisterSourceRequest {
        request_id: "source".to_owned(),
        source_id: "desk".to_owned(),
        description: "a second producer".to_owned(),
    };
    twice!(raw.admin, register_source, source);
    let retire = v1::RetireSourceRequest { request_id: "retire".to_owned(), name: "sources/desk".to_owned() };
    twice!(raw.admin, retire_source, retire, server.at(2 * HOUR).await);

    let mut pool = server.pool("atom").await;
    pool.policy.as_mut().unwrap().fee_bps = 2_000;
    let update_mask = Some(prost_types::FieldMask { paths: vec!["policy.fee_bps".to_owned()] });
    let update = v1::UpdatePoolRequest { request_id: "update".to_owned(), pool: Some(pool), update_mask };
    twice!(raw.admin, update_pool, update, server.at(3 * HOUR).await);

    let list = v1::ListValidatorsRequest { parent: name(), include_unlisted: true, ..Default::default() };
    let validator = answer(raw.pools.list_validators(list).await).validators[0].name.clone();
    let weigh = v1::PutValidatorRequest {
        request_id: "weigh".to_owned(),
        name: validator.clone(),
        weight: 7,
        ..Default::default()
    };
    twice!(raw.admin, put_validator, weigh);
    let remove = v1::RemoveValidatorRequest { request_id: "remove".to_owned(), name: validator, ..Default::default() };
    twice!(raw.admin, remove_validator, remove, server.at(4 * HOUR).await);

    server.put("carol", "ATOM", 5 * MILLION).await;
    let rebalance = v1::RebalanceRequest { request_id: "rebalance".to_owned(), name: name() };
    twice!(raw.admin, rebalance, rebalance, server.at(5 * HOUR).await);

    let report = v1::ReportCustodyRequest {
        request_id: "report".to_owned(),
        pool: name(),
        balance: Some(amount("ATOM", MILLION)),
        as_of_time: Some(crate::harness::time(crate::harness::START + 5 * HOUR)),
    };
    let reported = twice!(raw.transfers, report_custody, report, server.at(6 * HOUR).await);
    let ledger = signed(&reported.ledger_balance);
    assert_eq!(signed(&reported.difference), MILLION as i128 - ledger);
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_closes_once() {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(DAY).await;
    // The ledger has not vouched for its end: without an operator it would wait for the grace to pass.
    let mut raw = Raw::connect(&server.endpoint()).await;
    let close =
        |id: &str| v1::ClosePeriodRequest { request_id: id.to_owned(), name: format!("pools/atom/periods/{FIRST}") };
    let closed = twice!(raw.admin, close_period, close("close"), server.at(DAY + 6 * HOUR).await);
    assert_eq!(closed.period.unwrap().name, format!("pools/atom/periods/{FIRST}"));
    let distribution = server.distribution("atom", FIRST).await;
    assert_eq!((distribution.state(), distribution.revision), (v1::DistributionState::Released, 1));
    // By another id it is no new close: an answer or a refusal, and no second distribution.
    if let Err(status) = raw.admin.close_period(close("again")).await {
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
    server.at(DAY + 7 * HOUR).await;
    assert_eq!(server.distribution("atom", FIRST).await, distribution);
    assert_eq!(server.distributions("atom").await.len(), 1);
    server.stop().await;
}

/// A released distribution of three payouts, in one batch.
async fn released() -> (Server, v1::StreamPayoutsResponse) {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    for account in ["alice", "bob", "carol"] {
        server.put(account, "ATOM", MILLION).await;
    }
    server.close(DAY).await;
    let mut batches = server.released("atom").await;
    assert_eq!(batches.len(), 1);
    let batch = batches.remove(0);
    assert!(batch.payouts.len() == 3 && batch.last && batch.simulated);
    assert!(batch.payouts.iter().all(|payout| payout.simulated));
    (server, batch)
}

fn ack(batch: &v1::StreamPayoutsResponse, id: &str, count: u64) -> v1::AckPayoutsRequest {
    let mut request = softstake::client::acknowledge(batch, Vec::new());
    (request.request_id, request.acknowledged_count) = (id.to_owned(), count);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payouts_are_acknowledged_once_and_rejected_ones_stay_unclaimed() {
    let (server, batch) = released().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let each = |index: usize| units(&batch.payouts[index].amount);
    let total = each(0) + each(1) + each(2);
    let payable = async || signed(&server.ledger("atom").await.payable) as u128;
    assert_eq!(payable().await, total);

    let first = twice!(raw.payouts, ack_payouts, ack(&batch, "one", 1));
    assert_eq!((first.acknowledged_count, first.unacknowledged_count), (1, 2));
    assert_eq!(payable().await, total - each(0));
    // Less than before changes nothing; nor does the same by another id.
    answer(raw.payouts.ack_payouts(ack(&batch, "none", 0)).await);
    answer(raw.payouts.ack_payouts(ack(&batch, "one-again", 1)).await);
    assert_eq!(payable().await, total - each(0));
    // Past the end, or with a wrong account, it is refused.
    let far = refused(raw.payouts.ack_payouts(ack(&batch, "far", 4)).await);
    assert_eq!(far.code, Code::FailedPrecondition);
    assert_eq!(far.reason, "ACK_OUT_OF_RANGE");
    let mut wrong = ack(&batch, "wrong", 3);
    let rejected = |index: usize, account: &str| v1::RejectedPayout {
        index: index as u64,
        account: account.to_owned(),
        reason: v1::RejectedPayoutReason::AccountClosed as i32,
        message: "closed last week".to_owned(),
    };
    wrong.rejected = vec![rejected(1, "nobody")];
    let status = refused(raw.payouts.ack_payouts(wrong).await);
    assert_eq!(status.code, Code::InvalidArgument);
    assert!(status.fields[0].starts_with("rejected"), "{status:?}");
    assert_eq!(payable().await, total - each(0));

    // One left over is still streamed, from the cursor on and from the start.
    let again = server.released("atom").await;
    let left: Vec<_> = again.iter().flat_map(|batch| &batch.payouts).map(|payout| &payout.account).collect();
    assert_eq!(left, [&batch.payouts[1].account, &batch.payouts[2].account]);

    let mut rest = ack(&batch, "rest", 3);
    rest.rejected = vec![rejected(1, &batch.payouts[1].account)];
    let settled = twice!(raw.payouts, ack_payouts, rest, server.at(DAY + 2 * HOUR).await);
    assert_eq!((settled.unacknowledged_count, settled.rejected_count), (0, 1));
    let ledger = server.ledger("atom").await;
    assert_eq!((signed(&ledger.payable), signed(&ledger.unclaimed) as u128), (0, each(1)));
    let distribution = server.distribution("atom", FIRST).await;
    assert_eq!(distribution.state(), v1::DistributionState::Settled);
    assert_eq!((distribution.acknowledged_count, distribution.unclaimed_count), (2, 1));
    assert_eq!(units(&distribution.acknowledged_amount), each(0) + each(2));
    let states = [v1::PayoutState::Acknowledged, v1::PayoutState::Unclaimed, v1::PayoutState::Acknowledged];
    for (payout, state) in batch.payouts.iter().zip(states) {
        assert_eq!(server.payouts(&payout.account, "ATOM").await[0].state(), state);
    }
    assert!(server.released("atom").await.is_empty());
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_of_another_hash_pauses_the_pool() {
    let (mut server, batch) = released().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let before = server.ledger("atom").await;
    let mut other = ack(&batch, "other", 3);
    other.distribution_hash[0] ^= 1;
    let status = refused(raw.payouts.ack_payouts(other).await);
    assert_eq!((status.code, status.reason.as_str()), (Code::FailedPrecondition, "HASH_MISMATCH"));
    let pool = server.pool("atom").await;
    assert_eq!(pool.state(), v1::PoolState::Paused);
    assert!(!pool.pause_reason.is_empty());
    assert_eq!(pool.ledger.unwrap(), before);
    // The right one is taken all the same, and a person lets the pool go on.
    let taken = answer(raw.payouts.ack_payouts(ack(&batch, "right", 3)).await);
    assert_eq!(taken.state(), v1::DistributionState::Settled);
    assert_eq!(server.resume("atom").await.state(), v1::PoolState::Active);
    server.stop().await;
}

/// The transfers that have not ended.
async fn open_transfers(server: &Server) -> Vec<v1::Transfer> {
    let mut reader = server.client.transfers("pools/atom", "").until_caught_up();
    let mut open = Vec::new();
    while let Some(item) = reader.next().await.unwrap() {
        open.push(item.transfer.unwrap());
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_is_acknowledged_once_and_counts_when_the_chain_shows_it() {
    let mut server = Setup::new().external_custody().pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    server.put("alice", "ATOM", MILLION).await;
    let pool = server.pool("atom").await;
    assert!(!pool.staking_address.is_empty() && pool.staking_address != pool.custody_address);
    let mut total = 0;
    // First the operator's own tokens for fees, then the customers'.
    for (purpose, hour) in [(v1::TransferPurpose::HouseFloat, 1), (v1::TransferPurpose::Principal, 4)] {
        server.at(hour * HOUR).await;
        let funds = open_transfers(&server).await;
        assert_eq!(funds.len(), 1, "{funds:#?}");
        let fund = &funds[0];
        assert_eq!((fund.direction(), fund.purpose()), (v1::TransferDirection::Fund, purpose));
        assert_eq!((&fund.staking_address, &fund.custody_address), (&pool.staking_address, &pool.custody_address));
        assert!(fund.simulated && !fund.memo.is_empty());
        assert_eq!(units(&server.chain("atom").await.funded), total, "nothing moves but what is sent");
        let before = server.ledger("atom").await;

        let word = |id: &str, outcome: v1::TransferOutcome| v1::AckTransferRequest {
            request_id: format!("{id}-{hour}"),
            name: fund.name.clone(),
            outcome: outcome as i32,
            amount: fund.amount.clone(),
            custody_reference: "wire 7".to_owned(),
            reason: String::new(),
        };
        let sent = word("sent", v1::TransferOutcome::Sent);
        let first = twice!(raw.transfers, ack_transfer, sent, server.at((hour + 1) * HOUR).await);
        assert_eq!(first.transfer.unwrap().state(), v1::TransferState::Sent);
        for (id, outcome) in [("more", v1::TransferOutcome::Sent), ("other", v1::TransferOutcome::Received)] {
            let refused = refused(raw.transfers.ack_transfer(word(id, outcome)).await);
            assert!(matches!(refused.code, Code::FailedPrecondition | Code::InvalidArgument), "{refused:?}");
        }
        let after = server.ledger("atom").await;
        assert_eq!(after.liquid, before.liquid, "a word of custody is no token");
        let amount = units(&fund.amount);
        if purpose == v1::TransferPurpose::Principal {
            assert_eq!(signed(&after.in_transit) as u128, amount);
        }
        let send = sim::v1::SendFromCustodyRequest {
            request_id: format!("send-{}", fund.memo),
            transfer: fund.name.clone(),
            amount: fund.amount.clone(),
        };
        let first = server.client.send_from_custody(send.clone()).await.unwrap();
        assert_eq!(server.client.send_from_custody(send).await.unwrap(), first);
        server.at((hour + 2) * HOUR).await;
        total += amount;
        assert_eq!(units(&server.chain("atom").await.funded), total);
        assert_eq!(signed(&server.ledger("atom").await.in_transit), 0);
    }
    assert!(signed(&server.ledger("atom").await.delegated) > 800_000_000_000);
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_before_a_restart_is_known_after_it() {
    let mut server = Setup::new().pool("atom", "").start().await;
    let put = v1::PutBalanceRequest {
        request_id: "put".to_owned(),
        account: "alice".to_owned(),
        balance: Some(amount("ATOM", 5)),
        event_time: None,
    };
    let events = [Event("bob", "ATOM", 6, 0), Event("carol", "ATOM", 7, 0)];
    let mut raw = Raw::connect(&server.endpoint()).await;
    let first = answer(raw.feed.put_balance(put.clone()).await);
    let (_, end) = raw.stream(vec![rows(1, &events, None)]).await;
    end.unwrap();
    server.put("alice", "ATOM", 8).await;

    server.restart().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let second = answer(raw.feed.put_balance(put.clone()).await);
    assert_eq!(first.encode_to_vec(), second.encode_to_vec());
    assert_eq!(units(&server.position("alice", "atom").await.balance), 8);
    let mut other = put;
    other.balance = Some(amount("ATOM", 9));
    assert_eq!(refused(raw.feed.put_balance(other).await).reason, "REQUEST_ID_REUSED");
    let (answers, end) = raw.stream(vec![rows(1, &events, None)]).await;
    end.unwrap();
    let last = answers.last().unwrap();
    assert_eq!((last.durable_sequence, last.repeated_count, last.accepted_count), (2, 2, 0));
    let reused = [events[0], Event("carol", "ATOM", 70, 0)];
    let (_, end) = raw.stream(vec![rows(1, &reused, None)]).await;
    assert_eq!(refused(end).reason, "SEQUENCE_REUSED");
    assert_eq!(units(&server.position("carol", "atom").await.balance), 7);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_stood_for_one_pool_is_refused_for_another() {
    let server = Setup::new().pool("atom", "").pool("dot", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let pause = |pool: &str| v1::PausePoolRequest {
        request_id: "once".to_owned(),
        name: format!("pools/{pool}"),
        reason: "a test".to_owned(),
    };
    let first = answer(raw.admin.pause_pool(pause("atom")).await);
    let refused = refused(raw.admin.pause_pool(pause("dot")).await);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(server.pool("dot").await.state(), v1::PoolState::Active, "nothing was done");
    assert_eq!(answer(raw.admin.pause_pool(pause("atom")).await).encode_to_vec(), first.encode_to_vec());
}
