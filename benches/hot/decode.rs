//! Messages of the balance stream: from their bytes to checked events.

use std::hint::black_box;

use bytes::Bytes;
use criterion::Criterion;
use prost::Message;
use prost_types::Timestamp;
use softstake::api::parse::feed::{Content, message};
use softstake::book::{EventPool, FeedEvent};
use softstake::client::{BalanceEvent, pack};
use softstake::domain::ids::AccountId;
use softstake::pb::v1::stream_balances_request::Batch;
use softstake::pb::v1::{Amount, BalanceRow, BalanceRows, StreamBalancesRequest};

use crate::input::{EVENTS, Numbers, START, account, group};

/// Columns.
pub fn packed(criterion: &mut Criterion) {
    let packed = pack(&events()).expect("the events can be packed");
    decode(criterion, "decode a packed batch", Batch::Packed(packed));
}

/// Rows.
pub fn rows(criterion: &mut Criterion) {
    let row = |event: BalanceEvent| BalanceRow {
        account: event.account,
        balance: Some(Amount { asset: event.asset, base_units: event.base_units.to_string() }),
        event_time: Some(Timestamp { seconds: event.event_seconds, nanos: 0 }),
    };
    let rows = BalanceRows { events: events().into_iter().map(row).collect() };
    decode(criterion, "decode a batch of rows", Batch::Rows(rows));
}

fn events() -> Vec<BalanceEvent> {
    let mut numbers = Numbers(1);
    let event = |place: usize| BalanceEvent {
        account: account(numbers.below(10_000_000)),
        asset: "ATOM".to_owned(),
        base_units: u128::from(numbers.next() >> 24),
        event_seconds: START + place as i64 / 100,
    };
    (0..EVENTS).map(event).collect()
}

fn decode(criterion: &mut Criterion, name: &str, batch: Batch) {
    let request = StreamBalancesRequest {
        source: "sources/ledger".to_owned(),
        first_sequence: 1,
        batch: Some(batch),
        watermark: None,
    };
    let wire = Bytes::from(request.encode_to_vec());
    let mut group = group(criterion, name, EVENTS);
    group.bench_function("bound: copy its bytes", |bencher| bencher.iter(|| black_box(&wire[..]).to_vec()));
    group.bench_function("ours: protobuf", |bencher| {
        bencher.iter(|| StreamBalancesRequest::decode(wire.clone()).expect("a message"));
    });
    group.bench_function("ours: protobuf and check", |bencher| {
        bencher.iter(|| {
            let request = StreamBalancesRequest::decode(wire.clone()).expect("a message");
            let mut total = 0;
            each(&request, |account, balance| total += balance + account.len() as u128);
            total
        });
    });
    group.bench_function("ours: protobuf, check and events of the book", |bencher| {
        bencher.iter(|| {
            let request = StreamBalancesRequest::decode(wire.clone()).expect("a message");
            taken(&request)
        });
    });
    group.finish();
}

fn each(request: &StreamBalancesRequest, mut take: impl FnMut(&str, u128)) {
    match message(request).expect("a sound message").content {
        Content::Events(events) => events.for_each(|event| take(event.account, event.balance.get())),
        Content::Snapshot(_) => unreachable!("it is a batch of events"),
    }
}

/// What a stream hands to the book.
fn taken(request: &StreamBalancesRequest) -> Vec<FeedEvent> {
    let Content::Events(events) = message(request).expect("a sound message").content else {
        unreachable!("it is a batch of events")
    };
    let mut taken = Vec::with_capacity(events.len());
    events.for_each(|event| {
        let account = AccountId::new(event.account).expect("it was checked");
        taken.push(FeedEvent { pool: EventPool::Pool(1), account, balance: event.balance, at: event.at });
    });
    taken
}
