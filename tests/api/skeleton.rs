//! The shortest way through the whole house: a balance, a delegation, a reward, a close, a payout.

use softstake::pb::v1;

use crate::harness::{DAY, HOUR, Setup, units};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_is_staked_earns_and_is_paid() {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    server.put("alice", "ATOM", 1_000_000_000).await;
    server.at(6 * HOUR).await;
    let pool = server.pool("atom").await;
    let totals = pool.totals.unwrap();
    assert_eq!(units(&totals.eligible_total), 1_000_000_000);
    assert!(units(&totals.staked) > 800_000_000, "{totals:?}");
    server.at(DAY + 3 * HOUR).await;
    let distribution = server.distribution("atom", "2026-11-22").await;
    assert_eq!(distribution.state, v1::DistributionState::Released as i32);
    assert!(units(&distribution.receipts_amount) > 0);
    assert!(units(&distribution.fee) > 0);
    let payouts = server.payouts("alice", "ATOM").await;
    assert_eq!(payouts.len(), 1);
    assert_eq!(units(&payouts[0].amount), units(&distribution.payouts_amount));
    server.stop().await;
}
