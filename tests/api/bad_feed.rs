//! A feed with bad events, gaps and repeats: what is malformed is refused whole, what can't be accepted is rejected by
//! itself, and nothing wedges.

use bytes::Bytes;
use softstake::client::{BalanceEvent, pack};
use softstake::pb::v1;
use tonic::Code;
use v1::RejectedEventReason::{BalanceTooLarge, FromFuture, TooOld, UnknownAsset};
use v1::stream_balances_request::Batch;

use crate::harness::{DAY, Event, HOUR, START, Server, Setup, time, units};
use crate::raw::{Raw, answer, refused, rows};

/// How far the ledger's events are durable, and what alice has.
async fn state(server: &Server) -> (u64, Option<u128>, v1::LedgerBalances) {
    let cursor = v1::GetCursorRequest { source: "sources/ledger".to_owned() };
    let durable = server.client.get_cursor(cursor).await.unwrap().durable_sequence;
    let name = "accounts/alice/positions/atom".to_owned();
    let position = server.client.get_position(v1::GetPositionRequest { name }).await.ok();
    let balance = position.map(|answer| units(&answer.position.unwrap().balance));
    (durable, balance, server.ledger("atom").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_batch_is_refused_whole() {
    let server = Setup::new().limits("max_batch_events = 100").pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let (answers, end) = raw.stream(vec![rows(1, &[Event("alice", "ATOM", 5, 0)], None)]).await;
    end.unwrap();
    assert_eq!(answers.last().unwrap().durable_sequence, 1);
    let before = state(&server).await;
    assert_eq!((before.0, before.1), (1, Some(5)));

    let good = || Event("alice", "ATOM", 6, 0).row();
    let with = |change: fn(&mut v1::BalanceRow)| {
        let mut bad = good();
        change(&mut bad);
        let mut message = rows(2, &[], None);
        message.batch = Some(Batch::Rows(v1::BalanceRows { events: vec![good(), bad] }));
        message
    };
    let event =
        BalanceEvent { account: "alice".to_owned(), asset: "ATOM".to_owned(), base_units: 6, event_seconds: START };
    let packed = |change: fn(&mut v1::PackedBalances)| {
        let mut columns = pack(&[event.clone(), event.clone()]).unwrap();
        change(&mut columns);
        let mut message = rows(2, &[], None);
        message.batch = Some(Batch::Packed(columns));
        message
    };
    let mut many = rows(2, &[], None);
    many.batch = Some(Batch::Rows(v1::BalanceRows { events: vec![good(); 101] }));
    let mut zero = with(|_| {});
    zero.first_sequence = 0;
    let mut no_source = with(|_| {});
    no_source.source.clear();
    let cases = [
        (with(|row| row.account = "a".repeat(65)), "ACCOUNT_MALFORMED", "rows.events[1].account"),
        (with(|row| row.account.clear()), "FIELD_REQUIRED", "rows.events[1].account"),
        (with(|row| row.balance = None), "FIELD_REQUIRED", "rows.events[1].balance"),
        (
            with(|row| row.balance.as_mut().unwrap().base_units = "-1".to_owned()),
            "AMOUNT_NEGATIVE",
            "rows.events[1].balance.base_units",
        ),
        (
            with(|row| row.balance.as_mut().unwrap().base_units = "ten".to_owned()),
            "AMOUNT_MALFORMED",
            "rows.events[1].balance.base_units",
        ),
        (with(|row| row.event_time = None), "FIELD_REQUIRED", "rows.events[1].event_time"),
        (packed(|columns| columns.count = 3), "BATCH_MALFORMED", "packed.account_lengths"),
        (packed(|columns| columns.accounts = Bytes::from_static(b"alicealic")), "BATCH_MALFORMED", "packed.accounts"),
        (
            packed(|columns| columns.accounts = Bytes::from_static(b"alicea ice")),
            "ACCOUNT_MALFORMED",
            "packed.accounts",
        ),
        (
            packed(|columns| columns.asset_indices = Bytes::from_static(&[0, 1])),
            "BATCH_MALFORMED",
            "packed.asset_indices",
        ),
        (packed(|columns| columns.event_times = Bytes::new()), "BATCH_MALFORMED", "packed.event_times"),
        (many, "BATCH_TOO_LARGE", "rows.events"),
        (zero, "SEQUENCE_ZERO", "first_sequence"),
        (no_source, "FIELD_REQUIRED", "source"),
    ];
    for (message, reason, field) in cases {
        let (answers, end) = raw.stream(vec![message]).await;
        assert!(answers.iter().all(|answer| answer.accepted_count == 0));
        assert_eq!(refused(end).short(), (Code::InvalidArgument, reason, field));
        assert_eq!(state(&server).await, before, "{reason} at {field} changed something");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_and_other_bodies_are_refused_and_repeats_acknowledged() {
    let server = Setup::new().pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let events = [Event("alice", "ATOM", 5, 0), Event("bob", "ATOM", 7, 0), Event("carol", "ATOM", 9, 0)];
    let (_, end) = raw.stream(vec![rows(1, &events, None)]).await;
    end.unwrap();
    let before = state(&server).await;

    let (_, end) = raw.stream(vec![rows(5, &[Event("alice", "ATOM", 6, 0)], None)]).await;
    let gap = refused(end);
    assert_eq!(gap.short(), (Code::FailedPrecondition, "SEQUENCE_GAP", "first_sequence"));
    assert_eq!(gap.metadata.get("expected_sequence").map(String::as_str), Some("4"));
    assert_eq!(state(&server).await, before);

    let other = [events[0], Event("bob", "ATOM", 8, 0), events[2]];
    let (_, end) = raw.stream(vec![rows(1, &other, None)]).await;
    let reused = refused(end);
    assert_eq!(reused.short(), (Code::AlreadyExists, "SEQUENCE_REUSED", "first_sequence"));
    assert_eq!(reused.metadata.get("sequence").map(String::as_str), Some("2"));
    assert_eq!(state(&server).await, before);

    // A repeat, a part of one, and one that goes on past what is there.
    let (answers, end) = raw.stream(vec![rows(1, &events, None), rows(2, &events[1..], None)]).await;
    end.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.repeated_count).sum::<u64>(), 5);
    assert_eq!(state(&server).await, before);
    let longer = [events[2], Event("alice", "ATOM", 11, 0)];
    let (answers, end) = raw.stream(vec![rows(3, &longer, None)]).await;
    end.unwrap();
    let last = answers.last().unwrap();
    assert_eq!((last.durable_sequence, last.repeated_count, last.accepted_count), (4, 1, 1));
    assert_eq!(state(&server).await.1, Some(11));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_event_does_not_wedge_its_feed() {
    let server = Setup::new().pool("atom", "").start().await;
    server.at(4 * DAY).await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let now = 4 * DAY;
    let mut events: Vec<v1::BalanceRow> = [
        Event("alice", "ATOM", 1, now),
        Event("alice", "DOGE", 2, now),
        Event("bob", "ATOM", 3, now + HOUR),
        Event("carol", "ATOM", 4, now - 3 * DAY - HOUR),
        Event("dave", "ATOM", (1 << 126) + 1, now),
        Event("erin", "ATOM", 0, now),
        Event("alice", "ATOM", 6, now),
    ]
    .iter()
    .map(Event::row)
    .collect();
    events[5].balance.as_mut().unwrap().base_units = "9".repeat(60);
    let mut message = rows(1, &[], None);
    message.batch = Some(Batch::Rows(v1::BalanceRows { events }));
    let (answers, end) = raw.stream(vec![message, rows(8, &[Event("alice", "ATOM", 8, now)], None)]).await;
    end.unwrap();
    assert_eq!(answers.last().unwrap().durable_sequence, 8);
    assert_eq!(answers.iter().map(|answer| answer.accepted_count).sum::<u64>(), 3);
    let rejected: Vec<_> = answers.iter().flat_map(|answer| &answer.rejected).collect();
    let found: Vec<_> = rejected.iter().map(|event| (event.sequence, event.reason())).collect();
    let expected = [(2, UnknownAsset), (3, FromFuture), (4, TooOld), (5, BalanceTooLarge), (6, BalanceTooLarge)];
    assert_eq!(found, expected);
    assert!(rejected.iter().all(|event| !event.message.is_empty()));
    assert_eq!(units(&server.position("alice", "atom").await.balance), 8);
    let nobody = v1::GetPositionRequest { name: "accounts/bob/positions/atom".to_owned() };
    let bob = server.client.get_position(nobody).await.ok().and_then(|answer| answer.position);
    assert!(bob.is_none_or(|position| units(&position.balance) == 0));
    let sources = server.client.list_sources(v1::ListSourcesRequest::default()).await.unwrap().sources;
    let ledger = sources.iter().find(|source| source.name == "sources/ledger").unwrap();
    assert_eq!((ledger.durable_sequence, ledger.rejected_count), (8, 5));
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_has_one_source_until_it_is_handed_over() {
    let mut server = Setup::new().top("sources = [\"ledger\", \"desk\"]").pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let (_, end) = raw.stream(vec![rows(1, &[Event("alice", "ATOM", 5, 0)], None)]).await;
    end.unwrap();
    let desk = |sequence: u64, balance: u128| {
        let mut message = rows(sequence, &[Event("alice", "ATOM", balance, 0)], None);
        message.source = "sources/desk".to_owned();
        message
    };
    let (answers, end) = raw.stream(vec![desk(1, 9)]).await;
    end.unwrap();
    assert_eq!(answers[0].rejected[0].reason(), v1::RejectedEventReason::NotOwner);
    assert_eq!(state(&server).await.1, Some(5));

    let request = v1::HandOverPositionRequest {
        request_id: server.request_id(),
        name: "accounts/alice/positions/atom".to_owned(),
        from_source: "sources/ledger".to_owned(),
        to_source: "sources/desk".to_owned(),
    };
    let handed = answer(raw.admin.hand_over_position(request).await).position.unwrap();
    assert_eq!(handed.source, "sources/desk");
    let (answers, end) = raw.stream(vec![desk(2, 10)]).await;
    end.unwrap();
    assert_eq!((answers[0].accepted_count, state(&server).await.1), (1, Some(10)));
    let (answers, end) = raw.stream(vec![rows(2, &[Event("alice", "ATOM", 6, 0)], None)]).await;
    end.unwrap();
    assert_eq!(answers[0].rejected[0].reason(), v1::RejectedEventReason::NotOwner);

    // A retired source may send no more.
    let request = v1::RetireSourceRequest { request_id: server.request_id(), name: "sources/desk".to_owned() };
    answer(raw.admin.retire_source(request).await);
    let (_, end) = raw.stream(vec![desk(3, 11)]).await;
    let retired = refused(end);
    assert_eq!((retired.code, retired.reason.as_str()), (Code::FailedPrecondition, "SOURCE_RETIRED"));
    assert_eq!(state(&server).await.1, Some(10));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watermark_never_goes_back() {
    let server = Setup::new().pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    server.at(HOUR).await;
    let mark = |seconds: i64| {
        let mut message = rows(1, &[], Some(seconds));
        message.batch = None;
        message
    };
    let (answers, end) = raw.stream(vec![mark(HOUR), mark(HOUR / 2)]).await;
    end.unwrap();
    assert_eq!(answers.last().unwrap().watermark, Some(time(START + HOUR)));
    server.stop().await;
}
