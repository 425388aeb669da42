//! The readers of what callers send, opened to `fuzz/`. Whole calls are `node::fuzzing`'s.

use std::sync::{Arc, LazyLock};

use prost::Message;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::access::bearer;
use super::access::certificate::Certificate;
use super::access::identities::{Identities, sha256};
use super::account::{read_place, write_place};
use super::parse::feed::{self, Content, Events};
use super::parse::names::{self, show};
use super::parse::page::{Paged, cursor, page};
use super::parse::token::Binding;
use super::parse::{Path, amount, field};
use super::status::Violation;
use super::streaming::Places;
use crate::domain::ids::{AccountId, PoolId};
use crate::domain::ledger::Account;
use crate::domain::time::UnixSeconds;
use crate::pb::v1;

/// A message of the balance stream. What is taken of it is within every bound, and rows and columns say the same.
pub fn feed(input: &[u8]) {
    let Ok(request) = v1::StreamBalancesRequest::decode(input) else { return };
    match feed::message(&request) {
        Err(violation) => told(&violation),
        Ok(message) => {
            assert!(message.first_sequence > 0);
            match &message.content {
                Content::Events(read) => {
                    assert!(message.first_sequence.checked_add(read.len() as u64).is_some());
                    events(read);
                    same_as_rows(&request, read);
                }
                Content::Snapshot(part) => events(&part.balances),
            }
        }
    }
}

fn events(events: &Events<'_>) {
    assert!(events.len() <= feed::MAX_BATCH_EVENTS);
    let mut count = 0;
    events.for_each(|event| {
        count += 1;
        assert!(AccountId::new(event.account).is_ok(), "{:?}", event.account);
        assert!((1..=64).contains(&event.asset.len()));
    });
    assert_eq!(count, events.len());
}

/// The events as rows read as the events that they were.
fn same_as_rows(request: &v1::StreamBalancesRequest, events: &Events<'_>) {
    let mut rows = Vec::with_capacity(events.len());
    events.for_each(|event| {
        rows.push(v1::BalanceRow {
            account: event.account.to_owned(),
            balance: Some(v1::Amount { asset: event.asset.to_owned(), base_units: event.balance.to_string() }),
            event_time: Some(prost_types::Timestamp { seconds: event.at.get(), nanos: 0 }),
        });
    });
    let (source, first_sequence) = (request.source.clone(), request.first_sequence);
    let batch = Some(v1::stream_balances_request::Batch::Rows(v1::BalanceRows { events: rows }));
    let written = v1::StreamBalancesRequest { source, first_sequence, batch, watermark: None };
    let read = feed::message(&written).map(|message| message.content);
    let Ok(Content::Events(again)) = read else {
        assert!(read.is_err(), "rows are events");
        return assert!(events.is_empty(), "rows of well formed events are well formed");
    };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    events.for_each(|event| before.push(event));
    again.for_each(|event| after.push(event));
    assert_eq!(before, after);
}

/// A violation names its field and says what is wrong, in so many bytes.
fn told(violation: &Violation) {
    assert!(!violation.field.is_empty() && !violation.reason.is_empty() && !violation.description.is_empty());
    assert!(violation.description.len() < 4_096, "{}", violation.description.len());
}

/// Tokens of pages and cursors of streams: the input is a token; then a position, whose token reads as the position.
pub fn token(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    pages::<v1::ListPayoutsRequest>(&|token| v1::ListPayoutsRequest { page_token: token, ..Default::default() }, &text);
    pages::<v1::ListSourcesRequest>(&|token| v1::ListSourcesRequest { page_token: token, ..Default::default() }, &text);
    let Ok(pool) = PoolId::new("atom") else { return };
    for (stream, pool) in [("PayoutService/StreamPayouts", None), ("TransferService/StreamTransfers", Some(&pool))] {
        match cursor(&Path::of("cursor"), stream, pool, &text) {
            Err(violation) => told(&violation),
            Ok(cursor) => assert!(cursor.after.as_ref().is_none_or(|after| cursor.next(after) == text)),
        }
    }
    let position = input.get(..input.len().min(256)).unwrap_or_default();
    let binding = Binding::new("list", b"filter");
    assert_eq!(binding.position(&binding.token(position)).as_deref(), Ok(position));
    assert!(Binding::new("list", b"another").position(&binding.token(position)).is_err());
    places::<1>(position);
    places::<3>(position);
    if let Ok(place) = read_place(position) {
        assert_eq!(write_place(&place), position, "a place has one form");
    }
}

/// The time of what ends: 2026-12-01T00:00:00Z.
const NOW: UnixSeconds = UnixSeconds::new(1_796_083_200);

/// An issuer of clients' certificates.
const AUTHORITY: &[u8] = include_bytes!("../../fuzz/authority.der");

/// Behind its first byte, the only certificate that the issuer has ever signed.
const SIGNED: &[u8] = include_bytes!("../../fuzz/seeds/identity/signed-certificate");

fn issuers() -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.to_vec().into()).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
}

/// A client's certificate, which is not one that an issuer has signed; or an identity file, and after a line `---` what is
/// shown: a header or a certificate's name.
pub fn identity(input: &[u8]) {
    static ISSUERS: LazyLock<Option<Arc<dyn ClientCertVerifier>>> = LazyLock::new(issuers);
    let Some((mode, rest)) = input.split_first() else { return };
    if mode & 0x80 != 0 {
        let certificate = Certificate::new(vec![rest.to_vec().into()]);
        assert!(certificate.is_some() && ISSUERS.is_some(), "there are both");
        let (Some(certificate), Some(issuers)) = (certificate, &*ISSUERS) else { return };
        assert!(certificate.names.iter().all(|name| name.contains(':')));
        let verified = certificate.verify(issuers.as_ref(), 1, NOW);
        let signed = SIGNED.get(1..) == Some(rest);
        assert_eq!(verified.is_ok(), signed, "{verified:?}");
        return;
    }
    let text = String::from_utf8_lossy(rest);
    let (file, shown) = text.split_once("\n---\n").unwrap_or((&text, "Bearer token"));
    match Identities::parse(file) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(identities) => {
            assert_eq!(Identities::parse(file).as_ref(), Ok(&identities), "the same file means the same");
            let name = [shown.to_owned()];
            let fingerprint = sha256(shown.as_bytes());
            let by_certificate = identities.by_certificate(&name, &fingerprint);
            assert!(by_certificate.is_err() || !identities.is_revoked(&fingerprint));
            if let Some(token) = bearer(shown.as_bytes()) {
                assert!(!token.is_empty() && shown.as_bytes().ends_with(token));
                let _known = identities.by_token(token, NOW);
            }
        }
    }
}

fn pages<R: Paged>(request: &dyn Fn(String) -> R, token: &str) {
    match page(&request(token.to_owned())) {
        Err(violation) => told(&violation),
        Ok(page) => {
            assert!((1..=1_000).contains(&page.size));
            if let Some(after) = &page.after {
                assert_eq!(page.next(after), token, "a token has one form");
            }
        }
    }
}

fn places<const N: usize>(position: &[u8]) {
    let Some(places) = Places::<N>::decode(position) else { return };
    let written = places.encode();
    let read = Places::<N>::decode(&written).map(|places| places.0);
    assert_eq!(read, Some(places.0), "what fits a position comes back whole");
}

/// Resource names, ids, amounts, rates, times and texts. A name that was read is written as it was.
pub fn name(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    let path = Path::of("name");
    macro_rules! names {
        ($($read:path => |$parts:pat_param| $written:expr;)*) => {$(
            match $read(&path, text) {
                Ok($parts) => assert_eq!($written, text, "a name has one form"),
                Err(violation) => told(&violation),
            }
        )*};
    }
    names! {
        names::pool => |pool| show::pool(&pool);
        names::validator => |(pool, validator)| show::validator(&pool, &validator);
        names::period => |(pool, period)| show::period(&pool, period.as_str());
        names::distribution => |(pool, period)| show::distribution(&pool, period.as_str());
        names::payout => |(pool, period, account)| show::payout(&pool, period.as_str(), &account);
        names::operation => |(pool, operation)| show::operation(&pool, &operation);
        names::transfer => |(pool, transfer)| show::transfer(&pool, &transfer);
        names::source => |source| show::source(&source);
        names::account => |account| format!("accounts/{account}");
        names::position => |(account, pool)| show::position(&account, &pool);
        names::approval => |approval| format!("approvals/{approval}");
        field::account => |id| id.as_str();
        field::asset => |id| id.as_str();
        field::pool_id => |id| id.as_str();
        field::chain => |id| id.as_str();
        field::source_id => |id| id.as_str();
        field::validator_address => |id| id.as_str();
        field::transaction => |id| id.as_str();
        field::request_id => |id| id.as_str();
        amount::base_units => |units| units.to_string();
    }
    match amount::rate(&path, text, rust_decimal::Decimal::ONE) {
        Ok(rate) => assert!(rate.to_string().parse() == Ok(rate) && !rate.is_sign_negative()),
        Err(violation) => told(&violation),
    }
    match field::text(&path, text, 1..=200) {
        Ok(text) => assert!(!text.contains('\n') && text.chars().count() <= 200),
        Err(violation) => told(&violation),
    }
    if let Some(account) = Account::parse(text) {
        assert_eq!(Account::parse(&account.to_string()), Some(account));
    }
    let _hash = field::hash(&path, input);
}
