//! Every bad input has its path and its reason, and every good one its value.

use std::fmt::Debug;
use std::str::FromStr;

use bytes::Bytes;
use proptest::prelude::*;
use prost_types::Timestamp;
use rust_decimal::Decimal;

use super::feed::{Content, Event, Events, MAX_BATCH_EVENTS};
use super::names::show;
use super::token::Binding;
use super::*;
use crate::domain::amount::{BaseUnits, MAX_BASE_UNITS};
use crate::domain::ids::{AccountId, AssetId, PoolId};
use crate::domain::time::UnixSeconds;
use crate::pb::v1;
use v1::stream_balances_request::Batch;

/// Field and reason of what is wrong.
fn wrong<T: Debug>(parsed: Parsed<T>) -> (String, &'static str) {
    let Violation { field, reason, description } = parsed.unwrap_err();
    assert!(!description.is_empty() && description.len() < 200, "{description}");
    (field, reason)
}

fn is(field: &str, reason: &'static str) -> (String, &'static str) {
    (field.to_owned(), reason)
}

fn some_amount(asset: &str, base_units: &str) -> Option<v1::Amount> {
    Some(v1::Amount { asset: asset.to_owned(), base_units: base_units.to_owned() })
}

const PATH: Path<'static> = Path::of("balance");

#[test]
fn amounts() {
    let atom = AssetId::new("ATOM").unwrap();
    let read = |units: &str| amount::amount_of(&PATH, &atom, some_amount("ATOM", units).as_ref());
    assert_eq!(read("0"), Ok(BaseUnits::ZERO));
    assert_eq!(read(&MAX_BASE_UNITS.to_string()), Ok(BaseUnits::MAX));
    let bad = [
        ("", "FIELD_REQUIRED"),
        ("-1", "AMOUNT_NEGATIVE"),
        ("-", "AMOUNT_MALFORMED"),
        ("--1", "AMOUNT_MALFORMED"),
        ("+1", "AMOUNT_MALFORMED"),
        ("01", "AMOUNT_MALFORMED"),
        ("1.5", "AMOUNT_MALFORMED"),
        ("1e3", "AMOUNT_MALFORMED"),
        ("0x10", "AMOUNT_MALFORMED"),
        (" 1", "AMOUNT_MALFORMED"),
        ("1 000", "AMOUNT_MALFORMED"),
        ("1_000", "AMOUNT_MALFORMED"),
        ("١", "AMOUNT_MALFORMED"),
        ("NaN", "AMOUNT_MALFORMED"),
        ("170141183460469231731687303715884105728", "AMOUNT_OVERFLOW"),
        ("999999999999999999999999999999999999999999999999999999999999", "AMOUNT_OVERFLOW"),
    ];
    for (units, reason) in bad {
        assert_eq!(wrong(read(units)), is("balance.base_units", reason), "{units:?}");
    }
    let other = |asset| wrong(amount::amount_of(&PATH, &atom, some_amount(asset, "1").as_ref()));
    assert_eq!(other(""), is("balance.asset", "FIELD_REQUIRED"));
    assert_eq!(other("atom"), is("balance.asset", "ASSET_MALFORMED"));
    assert_eq!(other("A_TOKEN_OF_FAR_TOO_MANY_LETTERS"), is("balance.asset", "ASSET_MALFORMED"));
    assert_eq!(other("NEAR"), is("balance.asset", "ASSET_MISMATCH"));
    assert_eq!(wrong(amount::amount(&PATH, None)), is("balance", "FIELD_REQUIRED"));
    assert_eq!(amount::optional_amount_of(&PATH, &atom, None), Ok(None));
}

#[test]
fn rates() {
    let rate = |text| amount::rate(&Path::of("commission"), text, Decimal::ONE);
    assert_eq!(rate("0.1425"), Ok(Decimal::from_str("0.1425").unwrap()));
    assert_eq!((rate("0"), rate("1.00").is_ok()), (Ok(Decimal::ZERO), true));
    for text in
        ["-0.1", "+0.1", "1e-2", ".5", "1.", "0,1", "10%", "0.1 ", "NaN", "0.00000000000000000000000000000000001"]
    {
        assert_eq!(wrong(rate(text)), is("commission", "RATE_MALFORMED"), "{text:?}");
    }
    assert_eq!(wrong(rate("1.01")), is("commission", "RATE_OUT_OF_RANGE"));
    assert_eq!(wrong(rate("")), is("commission", "FIELD_REQUIRED"));
    assert_eq!(amount::optional_rate(&PATH, "", Decimal::ONE), Ok(None));
}

#[test]
fn ids_and_texts() {
    let path = Path::of("f");
    assert_eq!(field::account(&path, "user-1:spot/main").unwrap().as_str(), "user-1:spot/main");
    assert_eq!(wrong(field::account(&path, "")), is("f", "FIELD_REQUIRED"));
    for bad in ["a b", "tab\t", "é", "\u{0}", &"x".repeat(65)] {
        assert_eq!(wrong(field::account(&path, bad)), is("f", "ACCOUNT_MALFORMED"), "{bad:?}");
    }
    assert_eq!(wrong(field::request_id(&path, "")), is("f", "FIELD_REQUIRED"));
    assert_eq!(wrong(field::request_id(&path, &"x".repeat(129))), is("f", "REQUEST_ID_MALFORMED"));
    assert_eq!(wrong(field::request_id(&path, "two words")), is("f", "REQUEST_ID_MALFORMED"));
    assert_eq!(wrong(field::pool_id(&path, "Atom")), is("f", "POOL_MALFORMED"));
    assert_eq!(wrong(field::source_id(&path, "a/b")), is("f", "SOURCE_MALFORMED"));
    assert_eq!(wrong(field::chain(&path, "a b")), is("f", "CHAIN_MALFORMED"));
    assert_eq!(wrong(field::transaction(&path, "a b")), is("f", "TRANSACTION_MALFORMED"));
    assert_eq!(wrong(field::validator_address(&path, "a/b")), is("f", "VALIDATOR_MALFORMED"));
    assert_eq!(wrong(field::optional_group(&path, "a b")), is("f", "OPERATOR_GROUP_MALFORMED"));
    assert_eq!((field::optional_group(&path, ""), field::optional_asset(&path, "")), (Ok(None), Ok(None)));

    assert_eq!(field::text(&path, "warum, Übung?", 1..=13), Ok("warum, Übung?".to_owned()));
    assert_eq!(field::text(&path, "", 0..=5), Ok(String::new()));
    assert_eq!(wrong(field::text(&path, "", 1..=5)), is("f", "FIELD_REQUIRED"));
    assert_eq!(wrong(field::text(&path, "sixsix", 1..=5)), is("f", "TEXT_LENGTH"));
    assert_eq!(wrong(field::text(&path, "a\nb", 1..=5)), is("f", "TEXT_MALFORMED"));
    assert_eq!(field::within(&path, 5, 1..=5), Ok(5));
    assert_eq!(wrong(field::within(&path, 6, 1..=5)), is("f", "NUMBER_OUT_OF_RANGE"));
    assert_eq!(field::hash(&path, &[7; 32]), Ok([7; 32]));
    assert_eq!(wrong(field::hash(&path, &[7; 31])), is("f", "HASH_MALFORMED"));
    assert_eq!(wrong(field::hash(&path, &[])), is("f", "FIELD_REQUIRED"));
    assert_eq!(field::known(&path, 1), Ok(v1::VoidMode::Recompute));
    assert_eq!(wrong(field::known::<v1::VoidMode>(&path, 0)), is("f", "FIELD_REQUIRED"));
    assert_eq!(wrong(field::known::<v1::VoidMode>(&path, 9)), is("f", "ENUM_UNKNOWN"));
    assert_eq!(wrong(field::all_known::<v1::VoidMode>(&path, &[1, 9])), is("f[1]", "ENUM_UNKNOWN"));
}

#[test]
fn times() {
    let path = Path::of("event_time");
    let read = |seconds, nanos| field::time(&path, Some(&Timestamp { seconds, nanos }));
    assert_eq!(read(-1, 999_999_999), Ok(UnixSeconds::new(-1)), "fractions are floored, before 1970 too");
    for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (-62_135_596_801, 0), (253_402_300_800, 0), (i64::MIN, 0)] {
        assert_eq!(wrong(read(seconds, nanos)), is("event_time", "TIME_MALFORMED"), "{seconds} {nanos}");
    }
    assert_eq!(wrong(field::time(&path, None)), is("event_time", "FIELD_REQUIRED"));
    assert_eq!(field::optional_time(&path, None), Ok(None));
}

#[test]
fn resource_names() {
    let path = Path::of("name");
    let atom = PoolId::new("atom").unwrap();
    // An account may look like a part of a name.
    let account = AccountId::new("a/positions/near").unwrap();
    assert_eq!(names::pool(&path, &show::pool(&atom)), Ok(atom.clone()));
    assert_eq!(names::position(&path, &show::position(&account, &atom)), Ok((account.clone(), atom.clone())));
    assert_eq!(names::account(&path, "accounts/a/positions/near"), Ok(account.clone()));
    let (pool, period, who) = names::payout(&path, &show::payout(&atom, "20261122T000000Z", &account)).unwrap();
    assert_eq!((pool, period.as_str(), who), (atom.clone(), "20261122T000000Z", account));
    let (pool, period) = names::distribution(&path, &show::distribution(&atom, "2026-11-22")).unwrap();
    assert_eq!(names::period(&path, &show::period(&pool, period.as_str())), Ok((pool, period)));
    for name in ["cosmosvaloper1abc", "a.pool.near", "0xabc:1"] {
        let (pool, validator) = names::validator(&path, &format!("pools/atom/validators/{name}")).unwrap();
        assert_eq!(show::validator(&pool, &validator), format!("pools/atom/validators/{name}"));
    }
    let (pool, operation) = names::operation(&path, "pools/atom/operations/atom:claim:7").unwrap();
    assert_eq!(show::operation(&pool, &operation), "pools/atom/operations/atom:claim:7");
    let (pool, transfer) = names::transfer(&path, "pools/atom/transfers/t-1").unwrap();
    assert_eq!(show::transfer(&pool, &transfer), "pools/atom/transfers/t-1");
    assert_eq!(show::source(&names::source(&path, "sources/ledger").unwrap()), "sources/ledger");
    assert_eq!(names::approval(&path, "approvals/a-1"), Ok("a-1".to_owned()));
    assert_eq!(names::optional_pool(&path, ""), Ok(None));

    let malformed = is("name", "NAME_MALFORMED");
    for bad in ["atom", "pools/", "pools/Atom", "pools/atom/", "/pools/atom", "pool/atom", "pools/a/b"] {
        assert_eq!(wrong(names::pool(&path, bad)), malformed, "{bad}");
    }
    for bad in ["pools/atom/validators/", "pools/atom/validators/a/b", "pools/atom/validator/a", "pools//validators/a"]
    {
        assert_eq!(wrong(names::validator(&path, bad)), malformed, "{bad}");
    }
    for bad in ["2026-11-31", "2026-11-22/", "26-11-22", "20261122", "latest", ""] {
        assert_eq!(wrong(names::distribution(&path, &format!("pools/atom/distributions/{bad}"))), malformed, "{bad}");
    }
    for bad in ["accounts/", "accounts", "account/a", "accounts/a b", &format!("accounts/{}", "x".repeat(65))] {
        assert_eq!(wrong(names::account(&path, bad)), malformed, "{bad}");
    }
    for bad in ["accounts/a", "accounts/a/positions/", "accounts//positions/atom", "accounts/a/positions/A"] {
        assert_eq!(wrong(names::position(&path, bad)), malformed, "{bad}");
    }
    let payouts = "pools/atom/distributions/2026-11-22";
    for bad in [payouts, "/payouts/", "/payout/a", "/payouts/a b"] {
        assert_eq!(wrong(names::payout(&path, &format!("{payouts}{bad}"))), malformed, "{bad}");
    }
    assert_eq!(wrong(names::source(&path, "ledger")), malformed);
    assert_eq!(wrong(names::approval(&path, "approvals/a/b")), malformed);
    assert_eq!(wrong(names::transfer(&path, &format!("pools/atom/transfers/{}", "x".repeat(600)))), malformed);
    assert_eq!(wrong(names::pool(&path, "")), is("name", "FIELD_REQUIRED"));
}

#[test]
fn pages() {
    let request = v1::ListPayoutsRequest { parent: "accounts/a".to_owned(), ..Default::default() };
    let first = page::page(&request).unwrap();
    assert_eq!((first.size, first.after.clone()), (50, None));
    let token = first.next(b"position");
    // Another size is no other filter.
    let next = v1::ListPayoutsRequest { page_size: 5_000, page_token: token.clone(), ..request.clone() };
    let page = page::page(&next).unwrap();
    assert_eq!((page.size, page.after.as_deref()), (1_000, Some(&b"position"[..])));
    assert_eq!(first.next(b"").len(), 34);

    let foreign = is("page_token", "TOKEN_FOREIGN");
    let other_account = v1::ListPayoutsRequest { parent: "accounts/b".to_owned(), ..next.clone() };
    assert_eq!(wrong(page::page(&other_account)), foreign);
    let other_asset = v1::ListPayoutsRequest { asset: "ATOM".to_owned(), ..next.clone() };
    assert_eq!(wrong(page::page(&other_asset)), foreign);
    let other_list = v1::ListPoolsRequest { page_size: 0, page_token: token.clone() };
    assert_eq!(wrong(page::page(&other_list)), foreign);

    let too_small = v1::ListPayoutsRequest { page_size: -1, ..request.clone() };
    assert_eq!(wrong(page::page(&too_small)), is("page_size", "PAGE_SIZE_NEGATIVE"));
    let mut changed: Vec<String> = (0..token.len())
        .map(|place| {
            let digit = if &token[place..=place] == "0" { "1" } else { "0" };
            format!("{}{digit}{}", &token[..place], &token[place + 1..])
        })
        .collect();
    changed.extend([token[1..].to_owned(), token[2..].to_owned(), format!("{token}00"), token.to_uppercase()]);
    changed.extend(["x", "é", "zz", "00"].map(str::to_owned));
    changed.push("0".repeat(1_000_000));
    for page_token in changed {
        let bad = v1::ListPayoutsRequest { page_token: page_token.clone(), ..request.clone() };
        assert_eq!(wrong(page::page(&bad)), is("page_token", "TOKEN_MALFORMED"), "{page_token}");
    }
}

#[test]
fn cursors() {
    let (path, atom) = (Path::of("cursor"), PoolId::new("atom").unwrap());
    let cursor = page::cursor(&path, "StreamPayouts", Some(&atom), "").unwrap();
    assert_eq!(cursor.after, None);
    let token = cursor.next(&[1, 2, 3]);
    let again = page::cursor(&path, "StreamPayouts", Some(&atom), &token).unwrap();
    assert_eq!(again.after, Some(vec![1, 2, 3]));
    assert_eq!(wrong(page::cursor(&path, "StreamPayouts", None, &token)), is("cursor", "TOKEN_FOREIGN"));
    assert_eq!(wrong(page::cursor(&path, "StreamTransfers", Some(&atom), &token)), is("cursor", "TOKEN_FOREIGN"));
    assert_eq!(wrong(page::cursor(&path, "StreamPayouts", None, "17")), is("cursor", "TOKEN_MALFORMED"));
}

fn row(account: &str, asset: &str, units: &str, seconds: i64) -> v1::BalanceRow {
    let event_time = Some(Timestamp { seconds, nanos: 0 });
    v1::BalanceRow { account: account.to_owned(), balance: some_amount(asset, units), event_time }
}

fn batch(batch: Batch) -> v1::StreamBalancesRequest {
    let watermark = Some(Timestamp { seconds: 9, nanos: 9 });
    v1::StreamBalancesRequest { source: "sources/ledger".to_owned(), first_sequence: 1, batch: Some(batch), watermark }
}

fn events(request: &v1::StreamBalancesRequest) -> Vec<Event<'_>> {
    let Content::Events(events) = feed::message(request).unwrap().content else { panic!("no events") };
    let mut all = Vec::new();
    events.for_each(|event| all.push(event));
    assert_eq!((events.len(), events.is_empty()), (all.len(), all.is_empty()));
    all
}

/// The same three events as rows and as columns.
fn both() -> (v1::StreamBalancesRequest, v1::StreamBalancesRequest) {
    let near = "79228162514264337593543950336000001";
    let events =
        vec![row("alice", "ATOM", "25", 7), row("a/b", "NEAR", near, -1), row(&"z".repeat(64), "ATOM", "0", i64::MAX)];
    let near: u128 = near.parse().unwrap();
    let (low, high) = (u64::try_from(near & u128::from(u64::MAX)).unwrap(), u64::try_from(near >> 64).unwrap());
    let column = |values: [u64; 3]| values.into_iter().flat_map(u64::to_le_bytes).collect::<Bytes>();
    let packed = v1::PackedBalances {
        count: 3,
        assets: vec!["ATOM".to_owned(), "NEAR".to_owned()],
        account_lengths: Bytes::from_static(&[5, 3, 64]),
        accounts: Bytes::from(format!("alicea/b{}", "z".repeat(64))),
        asset_indices: Bytes::from_static(&[0, 1, 0]),
        balances_low: column([25, low, 0]),
        balances_high: column([0, high, 0]),
        event_times: [7, -1, i64::MAX].into_iter().flat_map(i64::to_le_bytes).collect(),
    };
    (batch(Batch::Rows(v1::BalanceRows { events })), batch(Batch::Packed(packed)))
}

#[test]
fn rows_and_columns_say_the_same() {
    let (rows, columns) = both();
    let read = events(&rows);
    assert_eq!(read, events(&columns));
    assert_eq!((read[1].account, read[1].asset, read[1].at), ("a/b", "NEAR", UnixSeconds::new(-1)));
    assert_eq!(read[1].balance.get(), 79_228_162_514_264_337_593_543_950_336_000_001);
    let message = feed::message(&columns).unwrap();
    assert_eq!((message.source.as_str(), message.first_sequence), ("ledger", 1));
    assert_eq!(message.watermark, Some(UnixSeconds::new(9)));

    // Columns that may be left out.
    let packed = v1::PackedBalances {
        count: 2,
        assets: vec!["ATOM".to_owned()],
        account_lengths: Bytes::from_static(&[1, 1]),
        accounts: Bytes::from_static(b"ab"),
        balances_low: [5_u64, 6].into_iter().flat_map(u64::to_le_bytes).collect(),
        event_times: Bytes::from_static(&[0; 16]),
        ..Default::default()
    };
    let short = batch(Batch::Packed(packed));
    let units: Vec<_> = events(&short).iter().map(|event| (event.account, event.balance.get())).collect();
    assert_eq!(units, [("a", 5), ("b", 6)]);
    assert!(events(&batch(Batch::Packed(v1::PackedBalances::default()))).is_empty());
    assert!(events(&v1::StreamBalancesRequest { batch: None, ..rows }).is_empty());
}

#[test]
fn what_no_pool_takes_does_not_wedge_the_feed() {
    let huge = "9".repeat(60);
    let odd = vec![row("a", "wstETH", "1", 7), row("a", "ATOM", &huge, i64::MIN)];
    let request = batch(Batch::Rows(v1::BalanceRows { events: odd }));
    let read = events(&request);
    assert_eq!((read[0].asset, read[1].balance, read[1].at.get()), ("wstETH", BaseUnits::MAX, i64::MIN));
    let (_, mut columns) = both();
    let Some(Batch::Packed(packed)) = &mut columns.batch else { panic!() };
    packed.balances_high = Bytes::from_static(&[0xff; 24]);
    assert!(events(&columns).iter().all(|event| event.balance == BaseUnits::MAX));
}

#[test]
fn a_malformed_row_names_its_field() {
    let read = |row| wrong(feed::message(&batch(Batch::Rows(v1::BalanceRows { events: vec![both_row(), row] }))));
    fn both_row() -> v1::BalanceRow {
        row("a", "ATOM", "1", 7)
    }
    let cases = [
        (row("", "ATOM", "1", 7), "account", "FIELD_REQUIRED"),
        (row(&"x".repeat(65), "ATOM", "1", 7), "account", "ACCOUNT_MALFORMED"),
        (row("a b", "ATOM", "1", 7), "account", "ACCOUNT_MALFORMED"),
        (row("a", "", "1", 7), "balance.asset", "FIELD_REQUIRED"),
        (row("a", "A TOM", "1", 7), "balance.asset", "ASSET_MALFORMED"),
        (row("a", &"A".repeat(65), "1", 7), "balance.asset", "ASSET_MALFORMED"),
        (row("a", "ATOM", "-1", 7), "balance.base_units", "AMOUNT_NEGATIVE"),
        (row("a", "ATOM", "0001", 7), "balance.base_units", "AMOUNT_MALFORMED"),
        (row("a", "ATOM", &"0".repeat(60), 7), "balance.base_units", "AMOUNT_MALFORMED"),
        (v1::BalanceRow { balance: None, ..both_row() }, "balance", "FIELD_REQUIRED"),
        (v1::BalanceRow { event_time: None, ..both_row() }, "event_time", "FIELD_REQUIRED"),
        (
            v1::BalanceRow { event_time: Some(Timestamp { seconds: 7, nanos: -1 }), ..both_row() },
            "event_time",
            "TIME_MALFORMED",
        ),
    ];
    for (row, field, reason) in cases {
        assert_eq!(read(row.clone()), is(&format!("rows.events[1].{field}"), reason), "{row:?}");
    }
    let many = vec![both_row(); MAX_BATCH_EVENTS + 1];
    let many = batch(Batch::Rows(v1::BalanceRows { events: many }));
    assert_eq!(wrong(feed::message(&many)), is("rows.events", "BATCH_TOO_LARGE"));

    let (rows, _) = both();
    let message = |change: fn(&mut v1::StreamBalancesRequest)| {
        let mut request = rows.clone();
        change(&mut request);
        wrong(feed::message(&request))
    };
    assert_eq!(message(|request| request.source.clear()), is("source", "FIELD_REQUIRED"));
    assert_eq!(message(|request| request.source = "ledger".to_owned()), is("source", "NAME_MALFORMED"));
    assert_eq!(message(|request| request.first_sequence = 0), is("first_sequence", "SEQUENCE_ZERO"));
    assert_eq!(message(|request| request.first_sequence = u64::MAX), is("first_sequence", "NUMBER_OUT_OF_RANGE"));
    let watermark = message(|request| request.watermark = Some(Timestamp { seconds: 0, nanos: -1 }));
    assert_eq!(watermark, is("watermark", "TIME_MALFORMED"));
}

#[test]
fn a_malformed_column_names_itself() {
    let read = |change: &dyn Fn(&mut v1::PackedBalances)| {
        let (_, mut columns) = both();
        let Some(Batch::Packed(packed)) = &mut columns.batch else { panic!() };
        change(packed);
        wrong(feed::message(&columns))
    };
    type Change = fn(&mut v1::PackedBalances);
    let malformed: [(&str, Change); 15] = [
        ("account_lengths", |packed| packed.count = 2),
        ("account_lengths", |packed| packed.count = 4),
        ("account_lengths", |packed| packed.account_lengths = Bytes::new()),
        ("accounts", |packed| packed.account_lengths = Bytes::from_static(&[5, 3, 63])),
        ("accounts", |packed| packed.accounts = Bytes::new()),
        ("asset_indices", |packed| packed.asset_indices = Bytes::new()),
        ("asset_indices", |packed| packed.asset_indices = Bytes::from_static(&[0, 1])),
        ("asset_indices", |packed| packed.asset_indices = Bytes::from_static(&[0, 1, 2])),
        ("asset_indices", |packed| packed.assets.truncate(1)),
        ("assets[2]", |packed| packed.assets.push("ATOM".to_owned())),
        ("assets", |packed| packed.assets = (0..257).map(|n| format!("T{n}")).collect()),
        ("balances_low", |packed| packed.balances_low = Bytes::from_static(&[0; 23])),
        ("balances_low", |packed| packed.balances_low = Bytes::new()),
        ("balances_high", |packed| packed.balances_high = Bytes::from_static(&[0; 25])),
        ("event_times", |packed| packed.event_times = Bytes::from_static(&[0; 32])),
    ];
    for (place, (field, change)) in malformed.into_iter().enumerate() {
        assert_eq!(read(&change), is(&format!("packed.{field}"), "BATCH_MALFORMED"), "case {place}");
    }
    for lengths in [[0, 8, 64], [5, 3, 65]] {
        let change = |packed: &mut v1::PackedBalances| packed.account_lengths = Bytes::copy_from_slice(&lengths);
        assert_eq!(read(&change), is("packed.account_lengths", "ACCOUNT_MALFORMED"));
    }
    for bad in [b' ', b'\t', 0x7f, 0xc3, 0] {
        let change = |packed: &mut v1::PackedBalances| {
            let mut accounts = packed.accounts.to_vec();
            accounts[6] = bad;
            packed.accounts = Bytes::from(accounts);
        };
        assert_eq!(read(&change), is("packed.accounts", "ACCOUNT_MALFORMED"));
    }
    assert_eq!(read(&|packed| packed.count = u32::MAX), is("packed.count", "BATCH_TOO_LARGE"));
    assert_eq!(read(&|packed| packed.assets.clear()), is("packed.assets", "FIELD_REQUIRED"));
    assert_eq!(read(&|packed| packed.assets[1].clear()), is("packed.assets[1]", "FIELD_REQUIRED"));
    assert_eq!(read(&|packed| packed.assets[1] = "A B".to_owned()), is("packed.assets[1]", "ASSET_MALFORMED"));
}

proptest! {
    /// Whatever the bytes are, a batch is read exactly or refused: no panic, no event that was not sent.
    #[test]
    fn any_bytes_are_read_or_refused(
        count in 0_u32..6,
        assets in proptest::collection::vec("[A-Z]{0,3}", 0..3),
        mut lengths in proptest::collection::vec(0_u8..4, 0..6),
        mut accounts in proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..12),
        mut indices in proptest::collection::vec(0_u8..3, 0..6),
        columns in proptest::collection::vec(any::<u8>(), 0..48),
        exact in any::<bool>(),
    ) {
        let n = usize::try_from(count).unwrap();
        let eight = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if exact {
                bytes.resize(8 * n, 1);
            }
            Bytes::from(bytes)
        };
        if exact {
            lengths.resize(n, 1);
            accounts.resize(lengths.iter().copied().map(usize::from).sum(), b'z');
            indices.resize(n, 0);
        }
        let packed = v1::PackedBalances {
            count,
            assets: assets.clone(),
            account_lengths: Bytes::from(lengths.clone()),
            accounts: Bytes::from(accounts.clone()),
            asset_indices: Bytes::from(indices),
            balances_low: eight(&columns),
            balances_high: eight(&columns[..columns.len() / 2]),
            event_times: eight(&columns),
        };
        let request = batch(Batch::Packed(packed));
        if let Ok(message) = feed::message(&request) {
            let Content::Events(all @ Events::Columns(_)) = message.content else { panic!() };
            let mut read = Vec::new();
            all.for_each(|event| read.push(event));
            prop_assert_eq!(read.len(), n);
            prop_assert!(read.iter().all(|event| assets.iter().any(|asset| asset == event.asset)));
            let joined: String = read.iter().map(|event| event.account).collect();
            prop_assert_eq!(joined.as_bytes(), &accounts[..]);
            prop_assert!(read.iter().all(|event| AccountId::new(event.account).is_ok()));
        }
    }

    #[test]
    fn every_position_comes_back(position in proptest::collection::vec(any::<u8>(), 0..256)) {
        let binding = Binding::new("list", b"filter");
        prop_assert_eq!(binding.position(&binding.token(&position)), Ok(position));
    }
}
