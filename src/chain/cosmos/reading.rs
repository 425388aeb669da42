//! What the bytes of a transaction do, from the bytes alone. Pure, and called within this room only.
//!
//! Everything that could do more than the one thing is refused: bytes that encoding what was read does not give again, which
//! are all fields that `proto/cosmos` leaves out (a tip, another fee payer, extension options, several signers in one), a
//! second message or signer, other keys, tokens and chains, and values that are not written as the chain writes them.

use prost::Message;
use prost_types::Any;

use super::address;
use super::config::Terms;
use super::transaction::{CLAIM, DELEGATE, PUBLIC_KEY, REDELEGATE, SEND, UNDELEGATE};
use crate::chain::ChainError;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{OperationId, ValidatorId};
use crate::domain::operation::{OperationKind, defund_transfer};
use crate::domain::signing::{Decoded, Lifetime};
use crate::pb::cosmos::bank::v1beta1::MsgSend;
use crate::pb::cosmos::base::v1beta1::Coin;
use crate::pb::cosmos::crypto::secp256k1::PubKey;
use crate::pb::cosmos::distribution::v1beta1::MsgWithdrawDelegatorReward;
use crate::pb::cosmos::staking::v1beta1::{MsgBeginRedelegate, MsgDelegate, MsgUndelegate};
use crate::pb::cosmos::tx::signing::v1beta1::SignMode;
use crate::pb::cosmos::tx::v1beta1::{AuthInfo, ModeInfo, SignDoc, SignerInfo, TxBody, TxRaw, mode_info};

/// What bytes do, and for which operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) operation: OperationId,
    pub(super) says: Decoded,
}

/// Reads the bytes to sign: a SignDoc.
pub(super) fn unsigned(terms: &Terms, bytes: &[u8]) -> Result<Read, ChainError> {
    let document: SignDoc = exactly(bytes, "the document to sign")?;
    if document.chain_id != terms.config.chain.as_str() {
        return Err(untrusted(format!("the transaction is for the chain {:?}", document.chain_id)));
    }
    transaction(terms, &document.body_bytes, &document.auth_info_bytes)
}

/// Reads the bytes to send: a TxRaw. Whether its signature is good is not asked.
pub(super) fn signed(terms: &Terms, bytes: &[u8]) -> Result<Read, ChainError> {
    let raw: TxRaw = exactly(bytes, "the transaction")?;
    if raw.signatures.len() != 1 {
        return Err(untrusted(format!("the transaction has {} signatures, and not one", raw.signatures.len())));
    }
    transaction(terms, &raw.body_bytes, &raw.auth_info_bytes)
}

fn transaction(terms: &Terms, body: &[u8], auth_info: &[u8]) -> Result<Read, ChainError> {
    let body: TxBody = exactly(body, "the transaction's body")?;
    let auth_info: AuthInfo = exactly(auth_info, "the transaction's signer and fee")?;
    let operation = OperationId::new(&body.memo).map_err(|_| untrusted("the memo is no operation's id".to_owned()))?;
    let Ok([message]) = <[Any; 1]>::try_from(body.messages) else {
        return Err(untrusted("the transaction has not one message".to_owned()));
    };
    let (intent, sender, recipient) = message_says(terms, &operation, &message)?;
    if body.timeout_height == 0 {
        return Err(untrusted("no height ends the transaction's life".to_owned()));
    }
    let lifetime = Lifetime {
        nonce: Some(sequence(terms, auth_info.signer_infos)?),
        expires_at: None,
        expires_height: Some(body.timeout_height),
    };
    let fee = auth_info.fee.ok_or_else(|| untrusted("the transaction has no fee".to_owned()))?;
    let max_fee = if fee.amount.is_empty() { BaseUnits::ZERO } else { only(terms, fee.amount)? };
    Ok(Read { operation, says: Decoded { intent, sender, recipient, max_fee, lifetime } })
}

/// The sequence of the one signer, who is the staking address's key.
fn sequence(terms: &Terms, signers: Vec<SignerInfo>) -> Result<u64, ChainError> {
    let Ok([signer]) = <[SignerInfo; 1]>::try_from(signers) else {
        return Err(untrusted("the transaction has not one signer".to_owned()));
    };
    let envelope = signer.public_key.unwrap_or_default();
    let key: PubKey = exactly(&envelope.value, "the signer's key")?;
    if envelope.type_url != PUBLIC_KEY || key.key != terms.config.public_key {
        return Err(untrusted("the signer's key is not the staking address's".to_owned()));
    }
    let direct = mode_info::Single { mode: SignMode::Direct.into() };
    if signer.mode_info != Some(ModeInfo { sum: Some(mode_info::Sum::Single(direct)) }) {
        return Err(untrusted("the transaction is signed in another mode than SIGN_MODE_DIRECT".to_owned()));
    }
    Ok(signer.sequence)
}

/// What a message does, whose tokens it moves, and where they go if they leave.
fn message_says(
    terms: &Terms,
    operation: &OperationId,
    envelope: &Any,
) -> Result<(OperationKind, String, Option<String>), ChainError> {
    match envelope.type_url.as_str() {
        DELEGATE => {
            let said: MsgDelegate = exactly(&envelope.value, "the message")?;
            let (validator, amount) = (operator(terms, &said.validator_address)?, only(terms, said.amount)?);
            Ok((OperationKind::Delegate { validator, amount }, said.delegator_address, None))
        }
        UNDELEGATE => {
            let said: MsgUndelegate = exactly(&envelope.value, "the message")?;
            let (validator, amount) = (operator(terms, &said.validator_address)?, only(terms, said.amount)?);
            Ok((OperationKind::Undelegate { validator, amount }, said.delegator_address, None))
        }
        REDELEGATE => {
            let said: MsgBeginRedelegate = exactly(&envelope.value, "the message")?;
            let (from, to) =
                (operator(terms, &said.validator_src_address)?, operator(terms, &said.validator_dst_address)?);
            let amount = only(terms, said.amount)?;
            Ok((OperationKind::Redelegate { from, to, amount }, said.delegator_address, None))
        }
        CLAIM => {
            let said: MsgWithdrawDelegatorReward = exactly(&envelope.value, "the message")?;
            let validator = Some(operator(terms, &said.validator_address)?);
            Ok((OperationKind::Claim { validator }, said.delegator_address, None))
        }
        SEND => {
            let said: MsgSend = exactly(&envelope.value, "the message")?;
            let transfer = defund_transfer(operation);
            let transfer =
                transfer.ok_or_else(|| untrusted("tokens are sent and the memo names no transfer".to_owned()))?;
            let amount = only(terms, said.amount)?;
            Ok((OperationKind::SendToCustody { transfer, amount }, said.from_address, Some(said.to_address)))
        }
        other => Err(untrusted(format!("the transaction has a message of the type {other:?}"))),
    }
}

/// The message in `bytes`, which are what it is encoded as, and nothing else.
fn exactly<M: Message + Default>(bytes: &[u8], what: &str) -> Result<M, ChainError> {
    let read = M::decode(bytes).map_err(|error| untrusted(format!("{what} can't be read: {error}")))?;
    if read.encode_to_vec() != bytes {
        return Err(untrusted(format!("{what} says more than is known of it, or says it in another way")));
    }
    Ok(read)
}

/// More than nothing of the one token.
fn only(terms: &Terms, coins: impl IntoIterator<Item = Coin>) -> Result<BaseUnits, ChainError> {
    let mut coins = coins.into_iter();
    let (Some(coin), None) = (coins.next(), coins.next()) else {
        return Err(untrusted("the transaction names not one amount".to_owned()));
    };
    if coin.denom != terms.config.denom {
        return Err(untrusted(format!("the transaction is of {:?}, and not of {}", coin.denom, terms.config.denom)));
    }
    let amount: BaseUnits = coin.amount.parse().map_err(|error| untrusted(format!("{:?}: {error}", coin.amount)))?;
    if amount.is_zero() {
        return Err(untrusted("the transaction names an amount of nothing".to_owned()));
    }
    Ok(amount)
}

fn operator(terms: &Terms, text: &str) -> Result<ValidatorId, ChainError> {
    address::check_validator(&terms.config.prefix, text).map_err(|error| untrusted(error.to_string()))?;
    ValidatorId::new(text).map_err(|error| untrusted(error.to_string()))
}

fn untrusted(why: String) -> ChainError {
    ChainError::Untrusted(why)
}
