//! The rules of the split: fee, carry, payout unit, fixed rate, pools apart from each other.

use ruint::aliases::U256;
use softstake::pb::v1;

use crate::harness::{DAY, FIRST, SECOND, Setup, signed, units};

const MILLION: u128 = 1_000_000_000_000;
const DATES: [&str; 3] = [FIRST, SECOND, "2026-11-24"];

/// Equation 1 of a released distribution.
fn adds_up(one: &v1::Distribution) {
    let left = units(&one.receipts_amount) + units(&one.carry_in) + units(&one.house_in);
    let payouts = units(&one.payouts_amount);
    let right = units(&one.fee) + units(&one.recovery) + payouts + units(&one.house_out) + units(&one.carry_out);
    assert_eq!(left, right, "{one:#?}");
    assert_eq!(units(&one.net), left - units(&one.fee) - units(&one.recovery));
    assert!(one.equations.iter().all(|equation| equation.holds), "{one:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fee_is_floored_and_the_carry_is_handed_on() {
    let mut server = Setup::new().pool("atom", "fee_bps = 1234").start().await;
    // Weights that do not divide: a rest is left every day.
    for (place, balance) in [MILLION + 7, 3 * MILLION + 11, 999_999_999_989].into_iter().enumerate() {
        server.put(&format!("account-{place}"), "ATOM", balance).await;
    }
    for day in 1..=3 {
        server.close(day * DAY).await;
    }
    let all = server.distributions("atom").await;
    assert_eq!(all.len(), 3);
    let mut carry = 0;
    let mut carried = false;
    for (one, date) in all.iter().zip(DATES) {
        assert!(one.name.ends_with(date), "{}", one.name);
        adds_up(one);
        let receipts = units(&one.receipts_amount);
        assert!(receipts > 0);
        assert_eq!(units(&one.fee), receipts * 1_234 / 10_000);
        assert_eq!(units(&one.carry_in), carry, "what one hands over, the next one takes");
        carry = units(&one.carry_out);
        carried |= carry > 0;
        assert!(carry < u128::from(one.payout_count), "dust is below a unit an account");
    }
    assert!(carried, "no day left a rest: the test shows nothing");
    assert_eq!(signed(&server.ledger("atom").await.carry), carry as i128);
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payouts_are_whole_multiples_of_the_payout_unit_and_no_dust_is_lost() {
    let policy = "fee_bps = 1000\npayout_unit_base_units = \"1000000\"";
    let mut server = Setup::new().pool("atom", policy).start().await;
    server.put("whale", "ATOM", 10 * MILLION).await;
    server.put("middle", "ATOM", MILLION).await;
    server.put("dust", "ATOM", 1_000_000).await;
    server.close(DAY).await;
    let one = server.distribution("atom", FIRST).await;
    adds_up(&one);
    assert_eq!((one.payout_count, one.below_unit_count), (2, 1));
    for account in ["whale", "middle"] {
        let paid = server.paid("atom", FIRST, account).await;
        assert!(paid > 0 && paid % 1_000_000 == 0, "{account} got {paid}");
    }
    let dust = server.payouts("dust", "ATOM").await;
    assert!(dust.iter().all(|payout| payout.state() == v1::PayoutState::BelowUnit && units(&payout.amount) == 0));
    let carry = units(&one.carry_out);
    assert!(carry > 0 && carry < 3 * 1_000_000, "{carry}");
    // Zero payouts are not streamed.
    let streamed: Vec<_> = server.released("atom").await.into_iter().flat_map(|batch| batch.payouts).collect();
    assert_eq!(streamed.len(), 2);
    assert!(streamed.iter().all(|payout| payout.account != "dust"));
    // The next day splits it too.
    server.close(2 * DAY).await;
    assert_eq!(units(&server.distribution("atom", SECOND).await.carry_in), carry);
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_nobody_holds_hands_everything_on() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(DAY - 1).await;
    server.put("alice", "ATOM", 0).await;
    server.close(DAY).await;
    server.close(2 * DAY).await;
    let second = server.distribution("atom", SECOND).await;
    adds_up(&second);
    assert_eq!((second.payout_count, units(&second.payouts_amount)), (0, 0));
    // Stake that nobody holds is carried by the house, and so is its reward.
    assert!(units(&second.receipts_amount) > 0);
    assert!(units(&second.house_out) > 0, "{second:#?}");
    assert_eq!(units(&second.house_out) + units(&second.carry_out), units(&second.net));
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_rate_is_paid_whatever_the_chain_paid() {
    // Twice what the chain pays: the house adds the rest.
    let policy = "reward = \"fixed_apr\"\nfixed_apr = \"0.3\"\nfee_bps = 1000";
    let mut server = Setup::new().pool("atom", policy).start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.at(DAY / 2).await;
    server.put("bob", "ATOM", MILLION).await;
    server.close(DAY).await;
    let short = server.distribution("atom", FIRST).await;
    adds_up(&short);
    assert!(units(&short.house_in) > 0, "{short:#?}");
    assert_eq!((units(&short.carry_out), units(&short.house_out)), (0, 0));
    let owed = |seconds: u128| {
        let owed = U256::from(MILLION) * U256::from(seconds) * U256::from(3) / U256::from(10 * 31_536_000_u128);
        u128::try_from(owed).unwrap()
    };
    assert_eq!(server.paid("atom", FIRST, "alice").await, owed(86_400));
    assert_eq!(server.paid("atom", FIRST, "bob").await, owed(43_200));

    // A tenth of it: the house keeps what is over.
    let mut pool = server.pool("atom").await;
    pool.policy.as_mut().unwrap().fixed_apr = "0.03".to_owned();
    server.update(pool, &["policy.fixed_apr"]).await;
    server.close(2 * DAY).await;
    server.close(3 * DAY).await;
    let over = server.distribution("atom", DATES[2]).await;
    adds_up(&over);
    assert!(units(&over.house_out) > 0 && units(&over.house_in) == 0, "{over:#?}");
    assert_eq!(server.paid("atom", DATES[2], "alice").await, owed(86_400) / 10);
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_do_not_touch_each_other() {
    let alone = Setup::new().pool("atom", "fee_bps = 1000");
    let both = alone.clone().pool("trx", "fee_bps = 500");
    let mut outcomes = Vec::new();
    for setup in [alone, both] {
        let mut server = setup.start().await;
        server.put("alice", "ATOM", MILLION).await;
        server.put("bob", "ATOM", 2 * MILLION).await;
        if server.client.get_pool(v1::GetPoolRequest { name: "pools/trx".to_owned() }).await.is_ok() {
            server.put("alice", "TRX", 5 * MILLION).await;
            server.enrol("bob", "trx", v1::EnrolmentDecision::OptOut).await;
            server.put("bob", "TRX", MILLION).await;
            server.pause("trx").await;
        }
        server.close(DAY).await;
        let one = server.distribution("atom", FIRST).await;
        assert!(one.payout_count == 2 && units(&one.payouts_amount) > 0);
        outcomes.push((one.distribution_hash.clone(), units(&one.payouts_amount), units(&one.fee)));
        server.reconciled("atom").await;
        server.stop().await;
    }
    assert_eq!(outcomes[0], outcomes[1]);
}
