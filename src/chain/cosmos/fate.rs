//! What became of a transaction: what a node's answer to a broadcast proves, and what account and index prove later. The
//! judgements are pure; `client.rs` asks, and nobody outside this room calls.
//!
//! - A transaction stands in a block once at most as one that did something, or was charged: that consumes its sequence, and
//!   each sequence is consumed once. Its bytes can be included up to and in the block `timeout_height`
//!   (`x/auth/ante/basic.go`, `TxTimeoutHeightDecorator`).
//! - **State proves absence, and no index has to.** Where the account's sequence after a block at or past `timeout_height`
//!   is still not past ours, our transaction was not included and can't be any more.
//! - Where the sequence was consumed, only the one who consumed it proves anything, found by the event `tx.acc_seq` that
//!   every charged transaction has (`x/auth/ante/sigverify.go`): another transaction proves that ours is dead; that a hash
//!   is not found proves nothing, since an index may lag, be pruned or be off.
//! - A transaction that the chain refused before charging it (in the ante handler) may stand in a block as failed, without
//!   that event. Fee and sequence are untouched, and the same bytes may be included again while they live
//!   (`baseapp/baseapp.go`, `runTx`), so that it is not final until they can't.

use crate::chain::ChainError;
use crate::domain::ids::TransactionId;
use crate::domain::signing::Lifetime;
use crate::pb::cosmos::base::abci::v1beta1::TxResponse;
use crate::pb::tendermint::abci::Event;

/// The codespace of the errors below, `types/errors/errors.go` of the Cosmos SDK.
const SDK: &str = "sdk";
/// The bytes are no transaction.
const TX_DECODE: u32 = 2;
/// The node knows the bytes already.
const IN_MEMPOOL_CACHE: u32 = 19;
/// The sequence is not the account's next one.
const WRONG_SEQUENCE: u32 = 32;

/// The answer to a broadcast of `transaction`.
///
/// Only bytes that can't be decoded are refused for good: nothing makes them a transaction later, nor did before. Whatever
/// else a node says may be of its own state, of another node's delivery of the same bytes, or may pass: sequence, funds,
/// its minimum fee, its view of the height, and a signature that it judges by the account number of its own state.
pub(super) fn broadcast(transaction: &TransactionId, answer: &TxResponse) -> Result<(), ChainError> {
    if !answer.txhash.is_empty() && answer.txhash != transaction.as_str() {
        let why = format!("sent {transaction}, and the node speaks of {:?}", answer.txhash);
        return Err(ChainError::Untrusted(why));
    }
    match (answer.codespace.as_str(), answer.code) {
        (_, 0) | (SDK, IN_MEMPOOL_CACHE) => Ok(()),
        (SDK, TX_DECODE) => Err(ChainError::Refused(reason(answer))),
        _ => Err(ChainError::Unavailable(format!("the node did not take it: {}", reason(answer)))),
    }
}

/// Whether a node says that the sequence is not the account's next one.
pub(super) fn is_wrong_sequence(answer: &TxResponse) -> bool {
    (answer.codespace.as_str(), answer.code) == (SDK, WRONG_SEQUENCE)
}

/// What a transaction failed of, for people.
pub(super) fn reason(answer: &TxResponse) -> String {
    let log: String = answer.raw_log.chars().take(300).collect();
    format!("{} {}: {log}", answer.codespace, answer.code)
}

/// The account after the block at `height`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) height: u64,
    pub(super) number: u64,
    /// The sequence of its next transaction.
    pub(super) sequence: u64,
}

/// Whose transaction consumed a sequence, as far as the index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consumer {
    Ours,
    Another,
    Unknown,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is nowhere and never will be.
    AbsentForGood,
    /// It is nowhere yet.
    Absent,
    /// It may have taken effect, and the node's index does not say so yet; or a node took it a moment ago; or it stands in a
    /// block as refused without being charged, and may be included again.
    Pending,
    /// Done, in the block at `height`.
    Done { height: u64 },
    /// Failed and charged, in the block at `height`.
    Failed { height: u64, reason: String },
    /// Failed without being charged, in the block at `height`, and it can't be included again.
    Void { height: u64, reason: String },
}

/// Nonce and last height of our transactions, which have both.
pub(super) fn life(lifetime: &Lifetime) -> Result<(u64, u64), ChainError> {
    let both = lifetime.nonce.zip(lifetime.expires_height);
    both.ok_or_else(|| ChainError::Untrusted("the stored transaction has no sequence or no last height".to_owned()))
}

/// What a node's index says of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing, which proves nothing.
    Nothing,
    /// The last word.
    Last(Fate),
    /// It failed in the block at `height` and was not charged.
    Uncharged { height: u64, reason: String },
}

/// What `found` says of our transaction with `lifetime`, whose signer is `address`.
pub(super) fn said(
    address: &str,
    transaction: &TransactionId,
    lifetime: &Lifetime,
    found: Option<&TxResponse>,
) -> Result<Said, ChainError> {
    let (nonce, last) = life(lifetime)?;
    let Some(answer) = found else { return Ok(Said::Nothing) };
    if answer.txhash != transaction.as_str() {
        let why = format!("asked for {transaction}, and the node speaks of {:?}", answer.txhash);
        return Err(ChainError::Untrusted(why));
    }
    let height = u64::try_from(answer.height).ok().filter(|height| *height > 0);
    let height = height.ok_or_else(|| ChainError::Untrusted(format!("{transaction} stands at no height")))?;
    let uncharged = Said::Uncharged { height, reason: reason(answer) };
    if answer.code != 0 && !consumes(&answer.events, address, nonce) {
        return Ok(uncharged);
    }
    if height > last {
        let why = format!("{transaction} stands at {height}, and its last height is {last}");
        return Err(ChainError::Untrusted(why));
    }
    let failed = Fate::Failed { height, reason: reason(answer) };
    Ok(Said::Last(if answer.code == 0 { Fate::Done { height } } else { failed }))
}

/// What became of a transaction that can be included up to `last`. `account` was read before `said` and `consumer`, and
/// `consumer` is `None` where the account says that the sequence is not consumed.
pub(super) fn judge(account: &Account, last: u64, said: Said, consumer: Option<Consumer>) -> Result<Fate, ChainError> {
    let said = match said {
        Said::Last(fate) => return Ok(fate),
        said => said,
    };
    let dead = match consumer {
        None => account.height >= last,
        Some(Consumer::Another) => true,
        Some(Consumer::Ours) => return Ok(Fate::Pending),
        Some(Consumer::Unknown) => {
            let why = "the node's index does not know who consumed the transaction's sequence";
            return Err(ChainError::Unavailable(why.to_owned()));
        }
    };
    Ok(match (said, dead) {
        (Said::Uncharged { height, reason }, true) => Fate::Void { height, reason },
        (Said::Uncharged { .. }, false) => Fate::Pending,
        (_, true) => Fate::AbsentForGood,
        (_, false) => Fate::Absent,
    })
}

/// The value of the event `tx.acc_seq` of a transaction that consumed `sequence` of `address`.
pub(super) fn account_sequence(address: &str, sequence: u64) -> String {
    format!("{address}/{sequence}")
}

/// Whether a transaction with these events consumed the sequence.
pub(super) fn consumes(events: &[Event], address: &str, sequence: u64) -> bool {
    let value = account_sequence(address, sequence);
    let attributes = events.iter().filter(|event| event.r#type == "tx").flat_map(|event| &event.attributes);
    attributes.into_iter().any(|attribute| attribute.key == "acc_seq" && attribute.value == value)
}
