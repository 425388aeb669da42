//! What waits shows in the metrics that alerts look at, and no longer than it waits.

use softstake::pb::v1;

use super::alerts::metrics;
use crate::harness::{DAY, FIRST, HOUR, Server, Setup};

/// The value of one gauge of the pool.
async fn gauge(server: &Server, name: &str) -> i64 {
    let line = format!("softstake_{name}{{pool=\"atom\"}} ");
    let shown = metrics(server).await;
    let value = shown.lines().find_map(|shown| shown.strip_prefix(&line));
    value.unwrap_or_else(|| panic!("{name} is not in {shown}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_person_or_a_service_shows_until_it_is_done() {
    let mut server = Setup::new().pool("atom", "[pools.release]\napproval_required = true").start().await;
    server.put("alice", "ATOM", 1_000_000_000).await;
    server.at(6 * HOUR).await;
    for name in ["pool_paused", "distributions_awaiting_approval", "undistributed_seconds", "unsettled_seconds"] {
        assert_eq!(gauge(&server, name).await, 0, "{name}");
    }
    assert_eq!(gauge(&server, "house_float_short").await, 0);
    assert!(gauge(&server, "unreconciled_seconds").await < HOUR);
    // The ledger vouches for nothing: the period is frozen an hour after its end, and held.
    server.at(DAY + 3 * HOUR).await;
    let behind = format!("softstake_source_behind_seconds{{source=\"ledger\"}} {}", DAY + 3 * HOUR);
    assert!(metrics(&server).await.contains(&behind), "{behind}");
    assert_eq!(gauge(&server, "distributions_awaiting_approval").await, 1);
    assert_eq!(gauge(&server, "undistributed_seconds").await, 3 * HOUR);

    let held = server.distribution("atom", FIRST).await;
    let approve = v1::ApproveDistributionRequest {
        request_id: server.request_id(),
        name: held.name,
        revision: held.revision,
        distribution_hash: held.distribution_hash,
        comment: String::new(),
    };
    server.client.approve_distribution(approve).await.unwrap();
    server.at(DAY + 4 * HOUR).await;
    server.at(DAY + 5 * HOUR).await;
    assert_eq!(gauge(&server, "distributions_awaiting_approval").await, 0);
    assert_eq!(gauge(&server, "undistributed_seconds").await, 0);
    assert!(gauge(&server, "unsettled_seconds").await >= HOUR);
    for batch in server.released("atom").await {
        server.client.ack_payouts(softstake::client::acknowledge(&batch, Vec::new())).await.unwrap();
    }
    server.feed(&[], Some(DAY + 5 * HOUR)).await;
    server.pause("atom").await;
    server.at(DAY + 5 * HOUR + 600).await;
    assert_eq!(gauge(&server, "unsettled_seconds").await, 0);
    assert_eq!(gauge(&server, "pool_paused").await, 1);
    let behind = "softstake_source_behind_seconds{source=\"ledger\"} 600\n";
    assert!(metrics(&server).await.contains(behind), "{behind}");
    server.stop().await;
}
