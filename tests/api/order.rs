//! No order, no partitioning and no form of the wire changes a payout.

use std::collections::BTreeMap;

use prost::Message;

use crate::harness::{DAY, Event, FIRST, HOUR, Setup, units};
use crate::raw::{Raw, rows};

/// A day of sixty accounts in three instants, without two events of one account in one instant.
fn day() -> Vec<(i64, Vec<(String, u128)>)> {
    let mut state = 0x5EED_u64;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut instants = Vec::new();
    for (at, every) in [(0, 1), (7 * HOUR + 13, 3), (19 * HOUR + 59, 4)] {
        let mut events = Vec::new();
        for account in 0..60 {
            if draw() % every == 0 {
                events.push((format!("account-{account}"), u128::from(draw()) * u128::from(draw() % 1_000)));
            }
        }
        instants.push((at, events));
    }
    instants
}

/// How one run goes about the same day.
#[derive(Clone, Copy)]
struct Run {
    partitions: u32,
    turned: bool,
    friendly: bool,
}

/// What a run pays: the distribution's hash and sum, and each account's payout, as it was streamed.
type Paid = (Vec<u8>, u128, BTreeMap<String, Vec<u8>>);

async fn live(run: Run) -> Paid {
    let setup = Setup::new().top(&format!("[book]\npartitions = {}", run.partitions));
    let server = setup.pool("atom", "fee_bps = 700\nminimum_base_units = \"1000\"").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let mut sequence = 1;
    for (at, mut events) in day() {
        if run.turned {
            events.reverse();
            events.rotate_left(7);
        }
        server.at(at).await;
        let events: Vec<Event<'_>> =
            events.iter().map(|(account, balance)| Event(account, "ATOM", *balance, at)).collect();
        if run.friendly {
            let (answers, end) = raw.stream(vec![rows(sequence, &events, None)]).await;
            end.unwrap();
            assert_eq!(answers.iter().map(|answer| answer.accepted_count).sum::<u64>(), events.len() as u64);
        } else {
            assert_eq!(server.feed(&events, None).await.accepted, events.len() as u64);
        }
        sequence += events.len() as u64;
    }
    server.close(DAY).await;
    assert_eq!(server.pool("atom").await.partition_count, run.partitions);
    let distribution = server.distribution("atom", FIRST).await;
    let mut payouts = BTreeMap::new();
    for batch in server.released("atom").await {
        assert_eq!(batch.distribution_hash, distribution.distribution_hash);
        for payout in batch.payouts {
            payouts.insert(payout.account.clone(), payout.encode_to_vec());
        }
    }
    assert_eq!(payouts.len() as u64, distribution.payout_count);
    server.reconciled("atom").await;
    server.stop().await;
    (distribution.distribution_hash, units(&distribution.payouts_amount), payouts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_partitions_and_form_change_no_payout() {
    let usual = Run { partitions: 16, turned: false, friendly: false };
    let first = live(usual).await;
    assert!(first.1 > 0 && first.2.len() > 30, "{first:?}");
    let others = [
        ("permuted", Run { turned: true, ..usual }),
        ("one partition, friendly form", Run { partitions: 1, friendly: true, ..usual }),
        ("five partitions, permuted", Run { partitions: 5, turned: true, ..usual }),
    ];
    for (name, other) in others {
        assert!(live(other).await == first, "the run that is {name} pays otherwise");
    }
}
