//! Full snapshots in the balance stream: in both forms, in parts, explained, applied once, and refused whole.

use softstake::client::{BalanceSnapshot, pack};
use softstake::pb::v1;
use tonic::Code;
use v1::balance_snapshot::Content;
use v1::stream_balances_request::Batch;

use crate::harness::{Event, START, Setup, amount, time, units};
use crate::raw::{Raw, refused, rows};

fn part(first_sequence: u64, id: &str, part: u32, last: bool, balances: &[(&str, u128)]) -> v1::StreamBalancesRequest {
    let row = |(account, base_units): &(&str, u128)| v1::BalanceRow {
        account: (*account).to_owned(),
        balance: Some(amount("ATOM", *base_units)),
        event_time: None,
    };
    let snapshot = v1::BalanceSnapshot {
        snapshot_id: id.to_owned(),
        assets: vec!["ATOM".to_owned()],
        as_of_time: Some(time(START)),
        part,
        last,
        apply: true,
        content: Some(Content::Rows(v1::BalanceRows { events: balances.iter().map(row).collect() })),
    };
    let mut message = rows(first_sequence, &[], None);
    message.batch = Some(Batch::Snapshot(snapshot));
    message
}

fn changed(mut message: v1::StreamBalancesRequest, change: fn(&mut v1::BalanceSnapshot)) -> v1::StreamBalancesRequest {
    let Some(Batch::Snapshot(snapshot)) = &mut message.batch else { panic!("a snapshot") };
    change(snapshot);
    message
}

fn results(answers: &[v1::StreamBalancesResponse]) -> Vec<(u64, u64, u64, bool)> {
    let results = answers.iter().filter_map(|answer| answer.snapshot.as_ref());
    results.map(|one| (one.difference_count, one.applied_count, one.refused_count, one.repeated)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_in_parts_is_explained_and_applied_once() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("by-hand", "ATOM", 4).await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let before = [Event("alice", "ATOM", 5, 0), Event("bob", "ATOM", 6, 0), Event("gone", "ATOM", 7, 0)];
    let whole = || {
        vec![
            rows(1, &before, None),
            part(4, "s-1", 0, false, &[("alice", 5), ("bob", 60)]),
            changed(part(4, "s-1", 1, true, &[]), |snapshot| {
                let event = |account: &str, base_units| softstake::client::BalanceEvent {
                    account: account.to_owned(),
                    asset: "ATOM".to_owned(),
                    base_units,
                    event_seconds: 0,
                };
                let mut packed = pack(&[event("new", 8), event("by-hand", 1)]).unwrap();
                packed.event_times.clear();
                snapshot.content = Some(Content::Packed(packed));
            }),
        ]
    };
    let (answers, end) = raw.stream(whole()).await;
    end.unwrap();
    let last = answers.last().unwrap();
    assert_eq!((results(&answers), last.durable_sequence), (vec![(4, 3, 1, false)], 3));
    let told: Vec<_> = last
        .differences
        .iter()
        .map(|one| {
            (&*one.account, units(&one.snapshot_balance), units(&one.position_balance), one.cause(), &*one.owner)
        })
        .collect();
    use v1::SnapshotDifferenceCause::{AbsentInBook, AbsentInSnapshot, OtherBalance, OtherSource};
    let expected = [
        ("bob", 60, 6, OtherBalance, "sources/ledger"),
        ("by-hand", 1, 4, OtherSource, "sources/put-balance"),
        ("gone", 0, 7, AbsentInSnapshot, "sources/ledger"),
        ("new", 8, 0, AbsentInBook, ""),
    ];
    assert_eq!(told, expected);
    assert_eq!(last.differences[1].refused(), v1::RejectedEventReason::NotOwner);
    let (answers, end) = raw.stream(whole()).await;
    end.unwrap();
    assert_eq!(results(&answers), [(4, 3, 1, true)]);
    assert_eq!(answers.last().unwrap().differences, last.differences);
    for (account, balance) in [("alice", 5), ("bob", 60), ("gone", 0), ("new", 8), ("by-hand", 4)] {
        assert_eq!(units(&server.position(account, "atom").await.balance), balance, "{account}");
    }
    // What is left unfinished leaves nothing.
    let (answers, end) = raw.stream(vec![part(4, "s-2", 0, false, &[])]).await;
    end.unwrap();
    assert_eq!(answers, []);
    let (_, end) = raw.stream(vec![part(4, "s-1", 0, true, &[])]).await;
    assert_eq!(refused(end).short(), (Code::AlreadyExists, "REQUEST_ID_REUSED", "snapshot.snapshot_id"));
    let (_, end) = raw.stream(vec![part(3, "s-2", 0, true, &[])]).await;
    let passed = refused(end);
    assert_eq!((passed.code, &*passed.reason), (Code::FailedPrecondition, "SNAPSHOT_PASSED"));
    assert_eq!(passed.metadata["durable_sequence"], "3");
    let (_, end) = raw.stream(vec![part(9, "s-2", 0, true, &[])]).await;
    assert_eq!(refused(end).reason, "SEQUENCE_GAP");
    assert_eq!(units(&server.position("bob", "atom").await.balance), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_part_is_refused_whole_with_its_field() {
    let server = Setup::new().limits("max_batch_events = 100").pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let good = |place, last| part(1, "s", place, last, &[("alice", 5)]);
    let mut vouching = good(0, true);
    vouching.watermark = Some(time(START));
    let many: Vec<(&str, u128)> = vec![("a", 1); 101];
    let cases = [
        (vec![changed(good(0, true), |s| s.snapshot_id.clear())], "FIELD_REQUIRED", "snapshot.snapshot_id"),
        (vec![changed(good(0, true), |s| s.snapshot_id.push(' '))], "SNAPSHOT_ID_MALFORMED", "snapshot.snapshot_id"),
        (vec![changed(good(0, true), |s| s.assets.clear())], "FIELD_REQUIRED", "snapshot.assets"),
        (vec![changed(good(0, true), |s| s.assets.push("ATOM".into()))], "SNAPSHOT_MALFORMED", "snapshot.assets[1]"),
        (
            vec![changed(good(0, true), |s| s.assets = vec!["DOT".into()])],
            "ASSET_NOT_COVERED",
            "snapshot.rows.events[0].balance.asset",
        ),
        (vec![changed(good(0, true), |s| s.as_of_time = None)], "FIELD_REQUIRED", "snapshot.as_of_time"),
        (vec![changed(good(0, true), |s| s.content = None)], "FIELD_REQUIRED", "snapshot.rows"),
        (vec![part(1, "s", 0, true, &[("", 1)])], "FIELD_REQUIRED", "snapshot.rows.events[0].account"),
        (vec![part(1, "s", 0, true, &many)], "BATCH_TOO_LARGE", "snapshot.rows.events"),
        (vec![vouching], "SNAPSHOT_WITH_WATERMARK", "watermark"),
        (vec![good(1, true)], "SNAPSHOT_PART_OUT_OF_ORDER", "snapshot.part"),
        (vec![good(0, false), good(2, true)], "SNAPSHOT_PART_OUT_OF_ORDER", "snapshot.part"),
        (vec![good(0, false), changed(good(1, true), |s| s.apply = false)], "SNAPSHOT_CHANGED", "snapshot.apply"),
        (vec![good(0, false), part(2, "s", 1, true, &[])], "SNAPSHOT_CHANGED", "first_sequence"),
        (vec![good(0, false), rows(1, &[], None)], "SNAPSHOT_UNFINISHED", "snapshot"),
        (vec![good(0, false), good(1, true)], "INVALID_VALUE", "snapshot"),
        (
            vec![changed(good(0, true), |s| {
                let Some(Content::Rows(rows)) = &mut s.content else { panic!("rows") };
                rows.events[0].event_time = Some(time(START));
            })],
            "TIME_NOT_EMPTY",
            "snapshot.rows.events[0].event_time",
        ),
    ];
    for (messages, reason, field) in cases {
        let (answers, end) = raw.stream(messages).await;
        assert_eq!(answers, [], "{reason}");
        assert_eq!(refused(end).short(), (Code::InvalidArgument, reason, field));
    }
    let unknown = changed(part(1, "s", 0, true, &[]), |snapshot| snapshot.assets = vec!["DOT".to_owned()]);
    let (_, end) = raw.stream(vec![unknown]).await;
    assert_eq!((refused(end).code), Code::NotFound);
    let name = "accounts/alice/positions/atom".to_owned();
    assert!(server.client.get_position(v1::GetPositionRequest { name }).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_sends_a_snapshot_in_parts_behind_its_events() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.feed(&[Event("gone", "ATOM", 7, 0)], None).await;
    let mut writer = server.client.feed("sources/ledger").await.unwrap();
    // More than one part.
    let count = softstake::client::MAX_EVENTS + 500;
    let balance = |n: usize| (format!("a{n}"), "ATOM".to_owned(), n as u128);
    let snapshot = |apply| BalanceSnapshot {
        snapshot_id: "month-end".to_owned(),
        assets: vec!["ATOM".to_owned()],
        as_of_seconds: START,
        apply,
        balances: (1..=count).map(balance).collect(),
    };
    writer.send_snapshot(snapshot(false)).await.unwrap();
    let report = writer.flush().await.unwrap();
    let result = &report.snapshots[0];
    assert_eq!((result.difference_count, result.applied_count), (count as u64 + 1, 0));
    assert_eq!(report.differences.len(), 2_048);
    assert!(report.differences.windows(2).all(|two| two[0].account < two[1].account));
    writer.send_snapshot(snapshot(true)).await.unwrap();
    let report = writer.flush().await.unwrap();
    assert_eq!(report.snapshots[0].applied_count, count as u64 + 1);
    server.restart().await;
    let mut writer = server.client.feed("sources/ledger").await.unwrap();
    writer.send_snapshot(snapshot(true)).await.unwrap();
    let report = writer.flush().await.unwrap();
    assert!(report.snapshots[0].repeated);
    assert_eq!((report.differences.len(), report.durable_sequence), (2_048, 1));
    assert_eq!(units(&server.position("a500", "atom").await.balance), 500);
    assert_eq!(units(&server.position("gone", "atom").await.balance), 0);
}
