//! When things go wrong: lost replies, absent chains, pauses, lies, gifts.

use softstake::pb::{sim, v1};
use v1::OperationKind::{Delegate, Redelegate, Undelegate};

use crate::harness::{DAY, FIRST, HOUR, Setup, amount, signed, units};
use crate::money::{adds_up, of_kind};

/// A million ATOM.
const MILLION: u128 = 1_000_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_stakes_nothing_twice_and_a_lost_submission_is_sent_again() {
    for kind in [sim::v1::FaultKind::ReplyLost, sim::v1::FaultKind::SubmitLost] {
        let mut server = Setup::new().pool("atom", "").start().await;
        server.fault("atom", kind, 4).await;
        server.put("alice", "ATOM", MILLION).await;
        server.at(6 * HOUR).await;
        assert_eq!(server.faults_hit("atom", kind).await, 4, "{kind:?} did not strike");
        let operations = server.operations("atom").await;
        let delegated = of_kind(&operations, Delegate);
        assert!(delegated.iter().all(|one| one.state() == v1::OperationState::Confirmed), "{delegated:#?}");
        let asked: u128 = delegated.iter().map(|one| units(&one.amount)).sum();
        let chain = units(&server.chain("atom").await.delegated);
        assert_eq!(asked, chain, "{kind:?}: what was asked for is staked once");
        assert!(chain > MILLION * 8 / 10 && chain <= MILLION, "{chain}");
        if kind == sim::v1::FaultKind::SubmitLost {
            assert!(delegated.iter().any(|one| one.attempts > 1), "{delegated:#?}");
        }
        // What is under way is counted once: nothing is moved about for it.
        let other = operations.iter().filter(|one| matches!(one.kind(), Redelegate | Undelegate)).count();
        assert_eq!(other, 0, "{operations:#?}");
        adds_up(&server, "atom").await;
        server.close(DAY).await;
        adds_up(&server, "atom").await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_resolves_what_nobody_can_ask_the_chain_about() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.fault("atom", sim::v1::FaultKind::LookupUnavailable, u32::MAX).await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(4 * HOUR).await;
    let operations = server.operations("atom").await;
    let late = of_kind(&operations, Delegate);
    assert!(!late.is_empty() && late.iter().all(|one| one.overdue && one.evidence.is_empty()), "{late:#?}");
    server.at(DAY + 6 * HOUR).await;
    let operations = server.operations("atom").await;
    let mut stuck = of_kind(&operations, Delegate);
    stuck.retain(|one| one.state() == v1::OperationState::NeedsOperator);
    assert!(!stuck.is_empty(), "{operations:#?}");
    let resolve = |one: &v1::Operation, resolution: v1::OperationResolution| v1::ResolveOperationRequest {
        request_id: format!("resolve-{}", one.name.rsplit(':').next().unwrap()),
        name: one.name.clone(),
        resolution: resolution.into(),
        transaction: one.transaction.clone(),
        evidence: "the explorer shows it final".to_owned(),
    };
    for one in &stuck {
        let request = resolve(one, v1::OperationResolution::Done);
        let answer = server.client.resolve_operation(request.clone()).await.unwrap();
        assert_eq!(server.client.resolve_operation(request).await.unwrap(), answer);
        assert_eq!(answer.operation.unwrap().state(), v1::OperationState::NeedsOperator);
        server.approve_waiting().await;
        let operations = server.operations("atom").await;
        let done = operations.iter().find(|there| there.name == one.name).unwrap();
        assert_eq!(
            (done.state(), done.evidence.as_str()),
            (v1::OperationState::Confirmed, "the explorer shows it final")
        );
        assert_eq!((units(&done.effective_amount), units(&done.shortfall)), (units(&one.amount), 0));
    }
    // What has ended takes no word, and nothing is left out of the books.
    let mut again = resolve(stuck[0], v1::OperationResolution::Done);
    again.request_id = "once-more".to_owned();
    let error = server.client.resolve_operation(again).await.unwrap_err();
    assert!(error.to_string().contains("the operation has ended"), "{error}");
    server.at(DAY + 8 * HOUR).await;
    adds_up(&server, "atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_is_away_keeps_no_customer_waiting() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(3 * HOUR).await;
    let request = sim::v1::SetFaultRequest {
        pool: "pools/atom".to_owned(),
        kind: sim::v1::FaultKind::Outage as i32,
        seconds: 6 * HOUR as u64,
        ..Default::default()
    };
    server.client.set_fault(request).await.unwrap();
    let left = server.put("alice", "ATOM", MILLION / 10).await.position.unwrap();
    assert_eq!(units(&left.balance), MILLION / 10);
    server.at(5 * HOUR).await;
    assert_eq!(units(&server.pool("atom").await.totals.unwrap().eligible_total), MILLION / 10);
    let request = sim::v1::ClearFaultsRequest { pool: "pools/atom".to_owned() };
    server.client.clear_faults(request).await.unwrap();
    server.at(12 * HOUR).await;
    assert!(signed(&server.ledger("atom").await.unbonding) > 0);
    adds_up(&server, "atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_pool_stakes_nothing_and_takes_every_balance() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(3 * HOUR).await;
    server.pause("atom").await;
    let staked = units(&server.chain("atom").await.delegated);
    server.put("bob", "ATOM", 5 * MILLION).await;
    server.at(6 * HOUR).await;
    assert_eq!(units(&server.chain("atom").await.delegated), staked);
    // Exits go on: whoever leaves is covered.
    server.put("bob", "ATOM", 0).await;
    let left = server.put("alice", "ATOM", MILLION / 10).await.position.unwrap();
    assert_eq!(units(&left.balance), MILLION / 10);
    server.at(9 * HOUR).await;
    assert!(units(&server.chain("atom").await.delegated) < staked);
    adds_up(&server, "atom").await;
    // Rewards are taken in, payouts wait.
    server.close(DAY).await;
    assert!(server.released("atom").await.is_empty());
    server.resume("atom").await;
    server.put("bob", "ATOM", 5 * MILLION).await;
    server.at(DAY + 6 * HOUR).await;
    assert_eq!(server.distribution("atom", FIRST).await.state(), v1::DistributionState::Released);
    let staked = units(&server.chain("atom").await.delegated);
    // All but the reserve and what is still unbonding.
    assert!(staked > 7 * MILLION / 2, "{:#?}", server.pool("atom").await);
    adds_up(&server, "atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_unexplained_is_no_reward() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(3 * HOUR).await;
    let gift = 77_000_000_000;
    let request = sim::v1::SetFaultRequest {
        pool: "pools/atom".to_owned(),
        kind: sim::v1::FaultKind::Donation as i32,
        amount: Some(amount("ATOM", gift)),
        ..Default::default()
    };
    server.client.set_fault(request).await.unwrap();
    server.close(DAY).await;
    assert_eq!(signed(&server.ledger("atom").await.suspense) as u128, gift);
    let paid = units(&server.chain("atom").await.rewards_paid);
    assert!(paid > 0 && paid < gift / 10);
    let one = server.distribution("atom", FIRST).await;
    assert!(units(&one.receipts_amount) <= paid, "{one:#?}");
    adds_up(&server, "atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_says_something_else_is_not_sent_and_pauses_the_pool() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.fault("atom", sim::v1::FaultKind::LyingPrepare, 1).await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(HOUR).await;
    assert_eq!(server.faults_hit("atom", sim::v1::FaultKind::LyingPrepare).await, 1);
    let pool = server.pool("atom").await;
    assert!(pool.pause_reason.contains("its bytes say"), "{}", pool.pause_reason);
    assert_eq!(units(&server.chain("atom").await.delegated), 0);
    server.resume("atom").await;
    server.at(6 * HOUR).await;
    let operations = server.operations("atom").await;
    let asked: u128 = of_kind(&operations, Delegate)
        .iter()
        .filter(|one| one.state() == v1::OperationState::Confirmed)
        .map(|one| units(&one.amount))
        .sum();
    assert_eq!(asked, units(&server.chain("atom").await.delegated), "only what was asked for was done");
    assert_eq!(asked, MILLION * 9 / 10);
    adds_up(&server, "atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_fails_every_third_call_loses_nothing() {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    let request = sim::v1::SetFaultRequest {
        pool: "pools/atom".to_owned(),
        kind: sim::v1::FaultKind::Flaky as i32,
        one_in: 3,
        ..Default::default()
    };
    server.client.set_fault(request).await.unwrap();
    server.put("alice", "ATOM", MILLION).await;
    server.at(8 * HOUR).await;
    server.put("alice", "ATOM", MILLION / 2).await;
    server.put("bob", "ATOM", 2 * MILLION).await;
    server.at(16 * HOUR).await;
    server.put("alice", "ATOM", 0).await;
    server.close(DAY).await;
    assert!(server.faults_hit("atom", sim::v1::FaultKind::Flaky).await > 10);
    server.at(DAY + 6 * HOUR).await;
    let operations = server.operations("atom").await;
    assert!(operations.iter().all(|one| one.state() != v1::OperationState::Unknown), "{operations:#?}");
    adds_up(&server, "atom").await;
    assert_eq!(server.distribution("atom", FIRST).await.state(), v1::DistributionState::Released);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jailed_validator_is_left() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(3 * HOUR).await;
    let list = v1::ListDelegationsRequest { parent: "pools/atom".to_owned(), ..Default::default() };
    let jailed = server.client.list_delegations(list.clone()).await.unwrap().delegations.remove(0).validator;
    let request = sim::v1::SetFaultRequest {
        pool: "pools/atom".to_owned(),
        kind: sim::v1::FaultKind::Jail as i32,
        validator: jailed.rsplit('/').next().unwrap().to_owned(),
        ..Default::default()
    };
    server.client.set_fault(request).await.unwrap();
    server.at(6 * HOUR).await;
    let list_validators = v1::ListValidatorsRequest { parent: "pools/atom".to_owned(), ..Default::default() };
    let validators = server.client.list_validators(list_validators).await.unwrap().validators;
    let shown = validators.iter().find(|validator| validator.name == jailed);
    assert!(shown.is_none_or(|validator| validator.status() == v1::ValidatorStatus::Jailed), "{shown:#?}");
    let left = server.client.list_delegations(list).await.unwrap().delegations;
    let left = left.into_iter().find(|delegation| delegation.validator == jailed);
    assert!(left.as_ref().is_none_or(|delegation| units(&delegation.amount) == 0), "{left:#?}");
    adds_up(&server, "atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_slash_is_told_at_first_and_booked_by_the_second_reading() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(3 * HOUR).await;
    let request = v1::ListDelegationsRequest { parent: "pools/atom".to_owned(), ..Default::default() };
    let staked = server.client.list_delegations(request).await.unwrap().delegations.remove(0);
    let validator = staked.validator.rsplit('/').next().unwrap().to_owned();
    let slash = sim::v1::SetFaultRequest {
        pool: "pools/atom".to_owned(),
        kind: sim::v1::FaultKind::SilentSlash as i32,
        validator: validator.clone(),
        fraction_bps: 500,
        ..Default::default()
    };
    server.client.set_fault(slash).await.unwrap();
    server.at(4 * HOUR).await;
    let pool = server.pool("atom").await;
    assert_eq!(pool.state(), v1::PoolState::Paused);
    assert!(pool.pause_reason.contains(&format!("delegated/{validator}")), "{}", pool.pause_reason);
    assert!(pool.pause_reason.contains("was booked as a slash"), "{}", pool.pause_reason);
    let slashed = units(&server.chain("atom").await.slashed);
    let totals = pool.totals.unwrap();
    assert_eq!(units(&totals.slashed_total), slashed);
    assert_eq!(units(&totals.slash_receivable), 0, "the house bears it");
    let found = server.reconcile("atom").await;
    assert!(found.holds && found.resolution() == v1::ReconcileResolution::Unspecified, "{found:#?}");
    assert!(!found.pending_rewards.is_empty());
    adds_up(&server, "atom").await;
    server.stop().await;
}
