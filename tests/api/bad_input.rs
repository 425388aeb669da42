//! Bad input gets the right code, a reason and the field's path, and changes nothing.

use softstake::pb::v1;
use tonic::Code;

use crate::harness::{DAY, HOUR, START, Server, Setup, amount, time, units};
use crate::raw::{Raw, answer, refused};

const MILLION: u128 = 1_000_000_000_000;
/// 2^127, one more than the largest amount.
const TOO_LARGE: &str = "170141183460469231731687303715884105728";

/// Everything that a bad request could have changed.
#[derive(Clone, Debug, PartialEq)]
struct World {
    pool: v1::Pool,
    cursors: Vec<v1::GetCursorResponse>,
    position: v1::Position,
    operations: usize,
    distributions: Vec<v1::Distribution>,
    sources: v1::ListSourcesResponse,
}

async fn world(server: &Server) -> World {
    let mut cursors = Vec::new();
    for source in ["sources/ledger"] {
        cursors.push(server.client.get_cursor(v1::GetCursorRequest { source: source.to_owned() }).await.unwrap());
    }
    World {
        pool: server.pool("atom").await,
        cursors,
        position: server.position("alice", "atom").await,
        operations: server.operations("atom").await.len(),
        distributions: server.distributions("atom").await,
        sources: server.client.list_sources(v1::ListSourcesRequest::default()).await.unwrap(),
    }
}

/// A server a day old, with a distribution, delegations and a position.
async fn lived_in() -> Server {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    server.put("alice", "ATOM", MILLION).await;
    server.close(DAY).await;
    assert_eq!(server.distributions("atom").await.len(), 1);
    server
}

fn put(change: impl FnOnce(&mut v1::PutBalanceRequest)) -> v1::PutBalanceRequest {
    let mut request = v1::PutBalanceRequest {
        request_id: "bad".to_owned(),
        account: "alice".to_owned(),
        balance: Some(amount("ATOM", 5)),
        event_time: None,
    };
    change(&mut request);
    request
}

fn put_units(base_units: &str) -> v1::PutBalanceRequest {
    put(|request| request.balance.as_mut().unwrap().base_units = base_units.to_owned())
}

fn put_asset(asset: &str) -> v1::PutBalanceRequest {
    put(|request| request.balance.as_mut().unwrap().asset = asset.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_balance_is_refused_and_changes_nothing() {
    let server = lived_in().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let before = world(&server).await;
    let now = START + DAY + 600;
    let account = |account: &str| put(|request| account.clone_into(&mut request.account));
    let id = |id: &str| put(|request| id.clone_into(&mut request.request_id));
    let at = |seconds: i64| put(|request| request.event_time = Some(time(seconds)));
    let invalid = Code::InvalidArgument;
    let cases = [
        (put_asset("DOGE"), Code::NotFound, "UNKNOWN_ASSET", "balance.asset"),
        (put_asset("atom"), invalid, "ASSET_MALFORMED", "balance.asset"),
        (put_asset(""), invalid, "FIELD_REQUIRED", "balance.asset"),
        (put(|request| request.balance = None), invalid, "FIELD_REQUIRED", "balance"),
        (put_units(""), invalid, "FIELD_REQUIRED", "balance.base_units"),
        (put_units("-5"), invalid, "AMOUNT_NEGATIVE", "balance.base_units"),
        (put_units("1.5"), invalid, "AMOUNT_MALFORMED", "balance.base_units"),
        (put_units("1e6"), invalid, "AMOUNT_MALFORMED", "balance.base_units"),
        (put_units("007"), invalid, "AMOUNT_MALFORMED", "balance.base_units"),
        (put_units("+7"), invalid, "AMOUNT_MALFORMED", "balance.base_units"),
        (put_units(" 7"), invalid, "AMOUNT_MALFORMED", "balance.base_units"),
        (put_units(TOO_LARGE), invalid, "AMOUNT_OVERFLOW", "balance.base_units"),
        (put_units(&"9".repeat(400)), invalid, "AMOUNT_OVERFLOW", "balance.base_units"),
        (account(""), invalid, "FIELD_REQUIRED", "account"),
        (account(&"a".repeat(65)), invalid, "ACCOUNT_MALFORMED", "account"),
        (account("two words"), invalid, "ACCOUNT_MALFORMED", "account"),
        (account("zoë"), invalid, "ACCOUNT_MALFORMED", "account"),
        (id(""), invalid, "FIELD_REQUIRED", "request_id"),
        (id(&"a".repeat(129)), invalid, "REQUEST_ID_MALFORMED", "request_id"),
        (id("two words"), invalid, "REQUEST_ID_MALFORMED", "request_id"),
        (
            put(|request| request.event_time = Some(prost_types::Timestamp { seconds: now, nanos: -1 })),
            invalid,
            "TIME_MALFORMED",
            "event_time",
        ),
        (at(253_402_300_800), invalid, "TIME_MALFORMED", "event_time"),
    ];
    for (request, code, reason, field) in cases {
        let shown = format!("{request:?}");
        let refused = refused(raw.feed.put_balance(request).await);
        assert_eq!(refused.short(), (code, reason, field), "{shown}");
    }
    assert_eq!(world(&server).await, before);
    // What is well formed and can't be accepted is journalled as rejected: nothing but the sequence is used up.
    let limit = format!("{}", (1_u128 << 127) / u128::from(86_400_u32));
    let cases =
        [(at(now + HOUR), "event_time"), (at(now - 10 * DAY), "event_time"), (put_units(&limit), "balance.base_units")];
    for (n, (mut request, field)) in cases.into_iter().enumerate() {
        request.request_id = format!("rejected-{n}");
        let first = refused(raw.feed.put_balance(request.clone()).await);
        assert_eq!(first.short(), (Code::FailedPrecondition, "EVENT_REJECTED", field), "{request:?}");
        // Its repeat is told the same.
        assert_eq!(refused(raw.feed.put_balance(request).await), first);
    }
    let after = world(&server).await;
    assert_eq!(after.position, before.position);
    assert_eq!((&after.pool.ledger, &after.pool.totals), (&before.pool.ledger, &before.pool.totals));
    // And the next one is taken.
    let mut good = put_units("7");
    good.request_id = "good".to_owned();
    let taken = answer(raw.feed.put_balance(good).await);
    assert_eq!(units(&taken.position.unwrap().balance), 7);
    server.reconciled("atom").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_stands_for_one_body() {
    let server = lived_in().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    answer(raw.feed.put_balance(put_units("77")).await);
    let before = world(&server).await;
    let other = [put_units("78"), put(|request| request.account = "bob".to_owned())];
    for request in other {
        let refused = refused(raw.feed.put_balance(request.clone()).await);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"), "{request:?}");
        assert_eq!(refused.fields, ["request_id"]);
    }
    let pause = |reason: &str| v1::PausePoolRequest {
        request_id: "pause".to_owned(),
        name: "pools/atom".to_owned(),
        reason: reason.to_owned(),
    };
    assert_eq!(world(&server).await, before);
    answer(raw.admin.pause_pool(pause("one")).await);
    let before = world(&server).await;
    let refused = refused(raw.admin.pause_pool(pause("two")).await);
    assert_eq!(refused.short(), (Code::AlreadyExists, "REQUEST_ID_REUSED", "request_id"));
    assert_eq!(world(&server).await, before);
    server.stop().await;
}

/// Calls that name something: what is missing, what is no name, and what is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::needless_update, reason = "some requests have one field, others more")]
async fn names_are_checked_and_looked_up() {
    let server = lived_in().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let before = world(&server).await;
    let mut id = 0;
    macro_rules! check {
        ($client:ident . $method:ident ($request:ident { $($field:ident : $value:expr),* }), $code:ident, $reason:literal, $path:literal) => {{
            #[allow(clippy::needless_update, reason = "some requests have no other field")]
            let request = v1::$request { $($field: $value.into(),)* ..Default::default() };
            let refused = refused(raw.$client.$method(request.clone()).await);
            let path = refused.fields.first().map_or("", String::as_str);
            assert_eq!((refused.code, refused.reason.as_str()), (Code::$code, $reason), "{request:?}: {refused:?}");
            // What is not there need not be a fault of one field.
            assert!(path == $path || (path.is_empty() && Code::$code == Code::NotFound), "{request:?}: {refused:?}");
        }};
        (changing $client:ident . $method:ident ($request:ident { $($field:ident : $value:expr),* }), $code:ident, $reason:literal, $path:literal) => {{
            id += 1;
            check!($client.$method($request { request_id: format!("name-{id}"), $($field: $value),* }), $code, $reason, $path);
        }};
    }
    check!(pools.get_pool(GetPoolRequest { name: "" }), InvalidArgument, "FIELD_REQUIRED", "name");
    check!(pools.get_pool(GetPoolRequest { name: "atom" }), InvalidArgument, "NAME_MALFORMED", "name");
    check!(pools.get_pool(GetPoolRequest { name: "pools/ATOM" }), InvalidArgument, "NAME_MALFORMED", "name");
    check!(pools.get_pool(GetPoolRequest { name: "pools/doge" }), NotFound, "UNKNOWN_POOL", "name");
    check!(pools.list_operations(ListOperationsRequest { parent: "pools/doge" }), NotFound, "UNKNOWN_POOL", "parent");
    check!(pools.list_validators(ListValidatorsRequest { parent: "p" }), InvalidArgument, "NAME_MALFORMED", "parent");
    check!(
        pools.get_distribution(GetDistributionRequest { name: "pools/atom/distributions/2026-11-23" }),
        NotFound,
        "UNKNOWN_DISTRIBUTION",
        "name"
    );
    check!(
        pools.get_distribution(GetDistributionRequest { name: "pools/atom/distributions/2031-01-01" }),
        NotFound,
        "UNKNOWN_PERIOD",
        "name"
    );
    check!(
        pools.get_distribution(GetDistributionRequest { name: "pools/atom/distributions/today" }),
        InvalidArgument,
        "NAME_MALFORMED",
        "name"
    );
    check!(
        pools.get_operation(GetOperationRequest { name: "pools/atom/operations/none" }),
        NotFound,
        "UNKNOWN_OPERATION",
        "name"
    );
    check!(accounts.get_position(GetPositionRequest { name: "alice" }), InvalidArgument, "NAME_MALFORMED", "name");
    check!(
        accounts.get_position(GetPositionRequest { name: "accounts/nobody/positions/atom" }),
        NotFound,
        "UNKNOWN_ACCOUNT",
        "name"
    );
    check!(
        accounts.explain_payout(ExplainPayoutRequest { name: "pools/atom/distributions/2026-11-22/payouts/nobody" }),
        NotFound,
        "UNKNOWN_PAYOUT",
        "name"
    );
    check!(feed.get_cursor(GetCursorRequest { source: "ledger" }), InvalidArgument, "NAME_MALFORMED", "source");
    check!(feed.get_cursor(GetCursorRequest { source: "sources/none" }), NotFound, "UNKNOWN_SOURCE", "source");
    check!(
        changing transfers.ack_transfer(AckTransferRequest {
            name: "pools/atom/transfers/none",
            outcome: v1::TransferOutcome::Sent,
            amount: amount("ATOM", 1)
        }),
        NotFound,
        "UNKNOWN_TRANSFER",
        "name"
    );
    check!(
        changing admin.close_period(ClosePeriodRequest { name: "pools/atom/periods/2031-01-01" }),
        NotFound,
        "UNKNOWN_PERIOD",
        "name"
    );
    check!(
        changing admin.close_period(ClosePeriodRequest { name: "pools/atom/periods/2026-11-23" }),
        FailedPrecondition,
        "PERIOD_NOT_ENDED",
        ""
    );
    check!(
        changing admin.put_validator(PutValidatorRequest { name: "pools/atom/validators/none", weight: 1_u32 }),
        NotFound,
        "UNKNOWN_VALIDATOR",
        "name"
    );
    check!(
        changing admin.retry_operation(RetryOperationRequest { name: "pools/atom/operations/none" }),
        NotFound,
        "UNKNOWN_OPERATION",
        "name"
    );
    check!(
        changing admin.pause_pool(PausePoolRequest { name: "pools/atom", reason: "" }),
        InvalidArgument,
        "FIELD_REQUIRED",
        "reason"
    );
    check!(
        changing admin.register_source(RegisterSourceRequest { source_id: "ledger" }),
        AlreadyExists,
        "ALREADY_EXISTS",
        ""
    );
    check!(
        changing feed.set_enrolment(SetEnrolmentRequest { account: "alice", pool: "pools/atom" }),
        InvalidArgument,
        "FIELD_REQUIRED",
        "decision"
    );
    assert_eq!(world(&server).await, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_token_belongs_to_its_list() {
    let server = Setup::new().pool("atom", "").pool("trx", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let list = |page_size: i32, page_token: &str| v1::ListValidatorsRequest {
        parent: "pools/atom".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        include_unlisted: true,
    };
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = answer(raw.pools.list_validators(list(5, &token)).await);
        assert!(page.validators.len() <= 5);
        seen.extend(page.validators.into_iter().map(|validator| validator.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let whole = answer(raw.pools.list_validators(list(1_000, "")).await).validators;
    assert!(whole.len() > 5);
    assert_eq!(
        seen,
        whole.into_iter().map(|validator| validator.name).collect::<Vec<_>>(),
        "pages skip and repeat nothing"
    );

    let token = answer(raw.pools.list_validators(list(2, "")).await).next_page_token;
    let wrong = |request: v1::ListValidatorsRequest, reason: &'static str| (request, reason);
    let mut other = list(2, &token);
    other.parent = "pools/trx".to_owned();
    let mut changed = token.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == '0' { '1' } else { '0' });
    let cases = [
        wrong(list(2, "nonsense"), "TOKEN_MALFORMED"),
        wrong(list(2, &changed), "TOKEN_MALFORMED"),
        wrong(other, "TOKEN_FOREIGN"),
    ];
    for (request, reason) in cases {
        let refused = refused(raw.pools.list_validators(request).await);
        assert_eq!(refused.short(), (Code::InvalidArgument, reason, "page_token"));
    }
    let refused = refused(raw.pools.list_validators(list(-1, "")).await);
    assert_eq!(refused.short(), (Code::InvalidArgument, "PAGE_SIZE_NEGATIVE", "page_size"));
    let cursor = v1::StreamPayoutsRequest { cursor: token, end_when_caught_up: true, ..Default::default() };
    let refused = crate::raw::refused(raw.payouts.stream_payouts(cursor).await);
    assert_eq!(refused.short(), (Code::InvalidArgument, "TOKEN_FOREIGN", "cursor"));
    server.stop().await;
}
