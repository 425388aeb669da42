//! What the answers of nodes prove.

use super::super::fate::{self, Account, Consumer, Fate, Said};
use crate::chain::ChainError;
use crate::domain::ids::TransactionId;
use crate::domain::signing::Lifetime;
use crate::pb::cosmos::base::abci::v1beta1::TxResponse;
use crate::pb::tendermint::abci::{Event, EventAttribute};

const NONCE: u64 = 42;
const LAST: u64 = 100;

fn hash() -> TransactionId {
    TransactionId::new(&"AB".repeat(32)).unwrap()
}

fn lifetime() -> Lifetime {
    Lifetime { nonce: Some(NONCE), expires_at: None, expires_height: Some(LAST) }
}

/// The event of a transaction that was charged.
pub(super) fn charged(address: &str, sequence: u64) -> Event {
    let (key, value) = ("acc_seq".to_owned(), format!("{address}/{sequence}"));
    Event { r#type: "tx".to_owned(), attributes: vec![EventAttribute { key, value, index: true }] }
}

fn answer(code: u32) -> TxResponse {
    let codespace = if code == 0 { String::new() } else { "sdk".to_owned() };
    TxResponse { height: 90, txhash: hash().as_str().to_owned(), codespace, code, ..TxResponse::default() }
}

fn judged(
    found: Option<TxResponse>,
    height: u64,
    sequence: u64,
    consumer: Option<Consumer>,
) -> Result<Fate, ChainError> {
    let said = fate::said("us", &hash(), &lifetime(), found.as_ref())?;
    fate::judge(&Account { height, number: 7, sequence }, LAST, said, consumer)
}

#[test]
fn only_what_can_not_be_decoded_is_refused_for_good() {
    assert_eq!(fate::broadcast(&hash(), &answer(0)), Ok(()));
    assert_eq!(fate::broadcast(&hash(), &answer(19)), Ok(()), "the node knows it already");
    for code in (1..50).filter(|code| *code != 19) {
        let refused = matches!(fate::broadcast(&hash(), &answer(code)), Err(ChainError::Refused(_)));
        assert_eq!(refused, code == 2, "{code}");
    }
    for code in [2, 19] {
        let other = TxResponse { codespace: "staking".to_owned(), ..answer(code) };
        assert!(matches!(fate::broadcast(&hash(), &other), Err(ChainError::Unavailable(_))), "{code}");
    }
    let other = TxResponse { txhash: "CD".repeat(32), ..answer(0) };
    assert!(matches!(fate::broadcast(&hash(), &other), Err(ChainError::Untrusted(_))));
}

#[test]
fn absence_is_proved_by_the_account_and_never_by_the_index_alone() {
    assert_eq!(judged(None, LAST - 1, NONCE, None), Ok(Fate::Absent));
    assert_eq!(judged(None, LAST, NONCE, None), Ok(Fate::AbsentForGood));
    // Past its last height, but the sequence is consumed: by whom?
    for height in [LAST - 1, LAST + 1_000] {
        assert_eq!(judged(None, height, NONCE + 1, Some(Consumer::Another)), Ok(Fate::AbsentForGood));
        assert_eq!(judged(None, height, NONCE + 1, Some(Consumer::Ours)), Ok(Fate::Pending));
        let unknown = judged(None, height, NONCE + 1, Some(Consumer::Unknown));
        assert!(matches!(unknown, Err(ChainError::Unavailable(_))), "{unknown:?}");
    }
}

#[test]
fn what_was_charged_is_final_and_what_was_not_lives_on() {
    assert_eq!(judged(Some(answer(0)), 90, NONCE + 1, None), Ok(Fate::Done { height: 90 }));
    let failed = TxResponse { events: vec![charged("us", NONCE)], ..answer(11) };
    assert!(matches!(judged(Some(failed), 90, NONCE + 1, None), Ok(Fate::Failed { height: 90, .. })));
    // Refused before it was charged, by another account's charge or none.
    for events in [Vec::new(), vec![charged("us", NONCE + 1)], vec![charged("them", NONCE)]] {
        let void = TxResponse { events, ..answer(5) };
        assert_eq!(judged(Some(void.clone()), 95, NONCE, None), Ok(Fate::Pending));
        assert!(matches!(judged(Some(void.clone()), LAST, NONCE, None), Ok(Fate::Void { height: 90, .. })));
        let another = judged(Some(void.clone()), 95, NONCE + 1, Some(Consumer::Another));
        assert!(matches!(another, Ok(Fate::Void { .. })));
        assert_eq!(judged(Some(void), 95, NONCE + 1, Some(Consumer::Ours)), Ok(Fate::Pending), "included again");
    }
}

#[test]
fn an_answer_about_another_transaction_is_none() {
    let other = TxResponse { txhash: "CD".repeat(32), ..answer(0) };
    let nowhere = TxResponse { height: 0, ..answer(0) };
    let late = TxResponse { height: 101, ..answer(0) };
    for answer in [other, nowhere, late] {
        assert!(matches!(judged(Some(answer), 90, NONCE, None), Err(ChainError::Untrusted(_))));
    }
    assert_eq!(fate::said("us", &hash(), &lifetime(), None), Ok(Said::Nothing));
    let immortal = Lifetime { expires_height: None, ..lifetime() };
    assert!(matches!(fate::said("us", &hash(), &immortal, None), Err(ChainError::Untrusted(_))));
}
