//! Money: what was paid out, kept and carried is what the chain itself counts, to the base unit.

use softstake::pb::v1;
use v1::OperationKind::{Delegate, Redelegate, SendToCustody, Undelegate};

use crate::harness::{DAY, FIRST, HOUR, SECOND, Server, Setup, THIRD, signed, units};

/// A million ATOM.
const MILLION: u128 = 1_000_000_000_000;

/// Holds softstake's books against the chain's own count.
pub async fn adds_up(server: &Server, pool: &str) {
    server.reconciled(pool).await;
    let ledger = server.ledger(pool).await;
    let chain = server.chain(pool).await;
    let sum = |of: [&Option<v1::SignedAmount>; 7]| of.into_iter().map(signed).sum::<i128>();
    let assets = sum([
        &ledger.custody,
        &ledger.in_transit,
        &ledger.liquid,
        &ledger.in_flight,
        &ledger.delegated,
        &ledger.unbonding,
        &ledger.matured,
    ]);
    let claims = sum([
        &ledger.principal,
        &ledger.undistributed,
        &ledger.in_distribution,
        &ledger.payable,
        &ledger.carry,
        &ledger.unclaimed,
        &ledger.suspense,
    ]);
    assert_eq!(assets, claims + signed(&ledger.house) - signed(&ledger.slash_receivable), "{ledger:#?}");
    let liquid = signed(&ledger.liquid) + signed(&ledger.in_flight);
    assert_eq!(liquid as u128, units(&chain.liquid), "{ledger:#?} {chain:#?}");
    assert_eq!(signed(&ledger.delegated) as u128, units(&chain.delegated));
    let unbonding = signed(&ledger.unbonding) + signed(&ledger.matured);
    assert_eq!(unbonding as u128, units(&chain.unbonding));

    // Everything that the chain ever paid is somewhere, once.
    let (mut out, mut house_in, mut carry) = (0, 0, 0);
    for one in server.distributions(pool).await {
        if matches!(one.state(), v1::DistributionState::Released | v1::DistributionState::Settled) {
            let shares = [&one.payouts_amount, &one.fee, &one.recovery, &one.house_out];
            out += shares.into_iter().map(units).sum::<u128>();
            house_in += units(&one.house_in);
            assert_eq!(units(&one.carry_in), carry, "{}", one.name);
            carry = units(&one.carry_out);
        }
    }
    assert_eq!(signed(&ledger.carry) as u128, carry);
    let waiting = (signed(&ledger.undistributed) + signed(&ledger.in_distribution)) as u128;
    assert_eq!(units(&chain.rewards_paid) + house_in, out + carry + waiting, "{ledger:#?} {chain:#?}");
}

/// The ledger service's part of the evening: credits every payout, says so, and brings the credited balances back.
async fn credit(server: &mut Server, pool: &str) {
    let asset = pool.to_uppercase();
    for batch in server.released(pool).await {
        server.client.ack_payouts(softstake::client::acknowledge(&batch, Vec::new())).await.unwrap();
        for payout in &batch.payouts {
            let held = units(&server.position(&payout.account, pool).await.balance);
            server.put(&payout.account, &asset, held + units(&payout.amount)).await;
        }
    }
}

pub fn of_kind(operations: &[v1::Operation], kind: v1::OperationKind) -> Vec<&v1::Operation> {
    operations.iter().filter(|operation| operation.kind() == kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_on_the_pool_is_paid_at_once_and_comes_back_from_the_chain() {
    let policy = "fee_bps = 1000\n[pools.reserve]\nratio_bps = 1000";
    let mut server = Setup::new().chain("unbonding_seconds = 172800").pool("atom", policy).start().await;
    for n in 0..10 {
        server.put(&format!("account-{n}"), "ATOM", MILLION + n).await;
    }
    server.close(DAY).await;
    adds_up(&server, "atom").await;
    credit(&mut server, "atom").await;
    adds_up(&server, "atom").await;
    let usual = server.paid("atom", FIRST, "account-0").await;
    assert!(usual > 0);

    server.at(DAY + 6 * HOUR).await;
    for n in 1..10 {
        // Accepted at once, whatever the chain does.
        let left = server.put(&format!("account-{n}"), "ATOM", 0).await.position.unwrap();
        assert_eq!(units(&left.balance), 0);
    }
    let pool = server.pool("atom").await;
    let ledger = pool.ledger.as_ref().unwrap();
    assert!(signed(&ledger.custody) < 0, "the house lends what the chain still holds: {ledger:#?}");
    assert!(signed(&pool.totals.as_ref().unwrap().reserve) < 0);
    assert!(!pool.totals.unwrap().coverage.is_empty());
    adds_up(&server, "atom").await;
    server.at(DAY + 8 * HOUR).await;
    let ledger = server.ledger("atom").await;
    assert!(signed(&ledger.unbonding) as u128 > 7 * MILLION, "{ledger:#?}");
    // More than four in five left: the last of it follows a day after the rest, unless an operator lifts the limit.
    for day in 2..=5 {
        server.close(day * DAY).await;
        adds_up(&server, "atom").await;
        credit(&mut server, "atom").await;
        adds_up(&server, "atom").await;
    }
    // House credit earns for the house: who stayed gets the chain's rate and no multiple of it.
    let (second, third) = (server.distribution("atom", SECOND).await, server.distribution("atom", THIRD).await);
    assert!(units(&second.house_out) > 0 && second.house_weight != "0", "{second:#?}");
    let stayed = server.paid("atom", THIRD, "account-0").await;
    assert!(stayed < usual * 3 / 2, "{stayed} a day against {usual} before the run: {third:#?}");
    // It matured, was withdrawn, and was sent back to custody.
    let ledger = server.ledger("atom").await;
    assert!(signed(&ledger.custody) >= 0, "{ledger:#?}");
    assert_eq!((signed(&ledger.unbonding), signed(&ledger.matured)), (0, 0), "{ledger:#?}");
    assert!(units(&server.chain("atom").await.defunded) > 7 * MILLION);
    let operations = server.operations("atom").await;
    for kind in [Delegate, Undelegate, SendToCustody] {
        assert!(!of_kind(&operations, kind).is_empty(), "{kind:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_past_the_mantissa_of_a_decimal_stay_exact() {
    const WHALE: u128 = 100_000_000_000_000_000_000_000_000_007;
    const { assert!(WHALE > 79_228_162_514_264_337_593_543_950_335, "2^96 - 1 base units") };
    let policy = "fee_bps = 1000\nminimum_base_units = \"10000000000000000000000\"";
    let mut server = Setup::new().pool("near", policy).start().await;
    server.put("whale", "NEAR", WHALE).await;
    server.put("minnow", "NEAR", 3_333_333_333_333_333_333_333_333).await;
    server.put("dust", "NEAR", 1).await;
    for day in 1..=3 {
        server.close(day * DAY).await;
        adds_up(&server, "near").await;
        credit(&mut server, "near").await;
        adds_up(&server, "near").await;
        if day == 2 {
            server.put("whale", "NEAR", WHALE / 2 + 1).await;
        }
    }
    assert!(units(&server.chain("near").await.rewards_paid) > 0);
    let second = server.distribution("near", SECOND).await;
    assert!(units(&second.payouts_amount) > 1_000_000_000_000_000_000_000_000, "{second:#?}");
    let paid = server.payouts("whale", "NEAR").await;
    let earned = v1::GetEarningsRequest { name: "accounts/whale".to_owned(), asset: "NEAR".to_owned() };
    let earned = server.client.get_earnings(earned).await.unwrap().earnings.remove(0);
    assert_eq!(units(&earned.total), paid.iter().map(|payout| units(&payout.amount)).sum::<u128>());
    assert_eq!(units(&earned.acknowledged), units(&earned.total));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_validator_is_drained_without_unbonding() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(3 * HOUR).await;
    let list = v1::ListDelegationsRequest { parent: "pools/atom".to_owned(), ..Default::default() };
    let before = server.client.list_delegations(list.clone()).await.unwrap().delegations;
    assert!(before.len() > 1, "{before:#?}");
    let staked = units(&server.pool("atom").await.totals.unwrap().staked);
    let removed = before.iter().max_by_key(|delegation| units(&delegation.amount)).unwrap();
    let request = v1::RemoveValidatorRequest {
        request_id: server.request_id(),
        name: removed.validator.clone(),
        etag: String::new(),
    };
    server.client.remove_validator(request).await.unwrap();
    let plan = v1::PlanRebalanceRequest { name: "pools/atom".to_owned() };
    let plan = server.client.plan_rebalance(plan).await.unwrap().plan.unwrap();
    assert!(
        plan.operations.iter().any(|planned| planned.kind() == Redelegate && !planned.reason.is_empty()),
        "{plan:#?}"
    );
    assert!(plan.operations.iter().all(|planned| planned.operation.is_empty()), "a shadow run plans nothing for good");
    server.at(6 * HOUR).await;
    let after = server.client.list_delegations(list).await.unwrap().delegations;
    let left = after.iter().find(|delegation| delegation.validator == removed.validator);
    assert!(left.is_none_or(|delegation| units(&delegation.amount) == 0), "{after:#?}");
    assert_eq!(after.iter().map(|delegation| units(&delegation.amount)).sum::<u128>(), staked);
    for delegation in &after {
        // No cap is broken for it: a quarter of the stake each by default.
        assert!(units(&delegation.amount) <= staked / 4 + 1, "{delegation:#?}");
        assert_eq!(delegation.amount, delegation.chain_amount);
    }
    let operations = server.operations("atom").await;
    let moves = of_kind(&operations, Redelegate);
    assert!(!moves.is_empty());
    assert!(moves.iter().all(|one| one.state() == v1::OperationState::Confirmed && one.validator == removed.validator));
    assert!(of_kind(&operations, Undelegate).is_empty());
    adds_up(&server, "atom").await;
    server.stop().await;
}
