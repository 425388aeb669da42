//! The transaction of one operation: its bytes to be signed, and the bytes to be sent once there is a signature. Pure, and
//! called within this room only; `reading.rs` says what bytes do.
//!
//! One message, signed with SIGN_MODE_DIRECT: what is signed is the SignDoc, what is sent the TxRaw, and the transaction's id
//! is the SHA-256 of that, in capitals. The memo is the operation's id, by which effects name the operation; of a send to
//! custody it names the transfer too, see [`defund_transfer`]. It is read by everybody, so ids must not tell secrets.
//!
//! Sources: `proto/cosmos/tx/v1beta1/tx.proto` and `docs/architecture/adr-020-protobuf-transaction-encoding.md` of the
//! Cosmos SDK, and ADR-027 there for the encoding, which is what prost writes: fields in order, none of a default value.

use data_encoding::HEXUPPER;
use k256::ecdsa::Signature;
use k256::ecdsa::signature::Verifier as _;
use prost::Message;
use prost_types::Any;
use sha2::{Digest as _, Sha256};

use super::address;
use super::config::{Cost, Terms};
use crate::chain::{Assembled, ChainError, Signed, Unsigned};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{OperationId, TransactionId, ValidatorId};
use crate::domain::operation::{OperationKind, defund_transfer};
use crate::pb::cosmos::bank::v1beta1::MsgSend;
use crate::pb::cosmos::base::v1beta1::Coin;
use crate::pb::cosmos::crypto::secp256k1::PubKey;
use crate::pb::cosmos::distribution::v1beta1::MsgWithdrawDelegatorReward;
use crate::pb::cosmos::staking::v1beta1::{MsgBeginRedelegate, MsgDelegate, MsgUndelegate};
use crate::pb::cosmos::tx::signing::v1beta1::SignMode;
use crate::pb::cosmos::tx::v1beta1::{AuthInfo, Fee, ModeInfo, SignDoc, SignerInfo, TxBody, TxRaw, mode_info};

/// Bytes of a signature: r and s, big-endian.
const SIGNATURE_BYTES: usize = 64;

/// What the envelopes of messages say is in them.
pub(super) const DELEGATE: &str = "/cosmos.staking.v1beta1.MsgDelegate";
pub(super) const UNDELEGATE: &str = "/cosmos.staking.v1beta1.MsgUndelegate";
pub(super) const REDELEGATE: &str = "/cosmos.staking.v1beta1.MsgBeginRedelegate";
pub(super) const CLAIM: &str = "/cosmos.distribution.v1beta1.MsgWithdrawDelegatorReward";
pub(super) const SEND: &str = "/cosmos.bank.v1beta1.MsgSend";
pub(super) const PUBLIC_KEY: &str = "/cosmos.crypto.secp256k1.PubKey";

/// Where on the chain a transaction has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The staking account's number.
    pub(super) account_number: u64,
    /// Which of its transactions it is.
    pub(super) sequence: u64,
    /// The last height at which it can be included.
    pub(super) timeout_height: u64,
}

/// A message in its envelope.
pub(super) fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

/// The encoded TxBody.
pub(super) fn body(messages: Vec<Any>, memo: &str, timeout_height: u64) -> Vec<u8> {
    TxBody { messages, memo: memo.to_owned(), timeout_height }.encode_to_vec()
}

/// The encoded AuthInfo of one signer, who pays `fee`.
pub(super) fn auth_info(public_key: &[u8], sequence: u64, fee: Vec<Coin>, gas_limit: u64) -> Vec<u8> {
    let mode = SignMode::Direct.into();
    let signer = SignerInfo {
        public_key: Some(any(PUBLIC_KEY, &PubKey { key: public_key.to_vec() })),
        mode_info: Some(ModeInfo { sum: Some(mode_info::Sum::Single(mode_info::Single { mode })) }),
        sequence,
    };
    AuthInfo { signer_infos: vec![signer], fee: Some(Fee { amount: fee, gas_limit }) }.encode_to_vec()
}

/// The bytes to sign for an operation. `Refused` where no block could do it.
pub(super) fn build(
    terms: &Terms,
    id: &OperationId,
    kind: &OperationKind,
    place: Place,
) -> Result<Unsigned, ChainError> {
    let cost = terms.cost(kind).ok_or_else(|| refused(format!("there is no {} of a whole account", kind.name())))?;
    let message = message(terms, id, kind)?;
    let document = SignDoc {
        body_bytes: body(vec![message], id.as_str(), place.timeout_height),
        auth_info_bytes: auth_info(&terms.config.public_key, place.sequence, fee(terms, cost), cost.gas),
        chain_id: terms.config.chain.as_str().to_owned(),
        account_number: place.account_number,
    };
    let bytes = document.encode_to_vec();
    let read = super::reading::unsigned(terms, &bytes)?;
    Ok(Unsigned { bytes, says: read.says })
}

/// The one message of an operation.
pub(super) fn message(terms: &Terms, id: &OperationId, kind: &OperationKind) -> Result<Any, ChainError> {
    let delegator_address = terms.address.clone();
    Ok(match kind {
        OperationKind::Delegate { validator, amount } => {
            let (validator_address, amount) = (operator(terms, validator)?, some(terms, *amount)?);
            any(DELEGATE, &MsgDelegate { delegator_address, validator_address, amount })
        }
        OperationKind::Undelegate { validator, amount } => {
            let (validator_address, amount) = (operator(terms, validator)?, some(terms, *amount)?);
            any(UNDELEGATE, &MsgUndelegate { delegator_address, validator_address, amount })
        }
        OperationKind::Redelegate { from, to, amount } => {
            // ErrSelfRedelegation, `x/staking/keeper/delegation.go`.
            if from == to {
                return Err(refused(format!("{from} can't be redelegated to itself")));
            }
            let (validator_src_address, validator_dst_address) = (operator(terms, from)?, operator(terms, to)?);
            let amount = some(terms, *amount)?;
            any(
                REDELEGATE,
                &MsgBeginRedelegate { delegator_address, validator_src_address, validator_dst_address, amount },
            )
        }
        OperationKind::Claim { validator: Some(validator) } => any(
            CLAIM,
            &MsgWithdrawDelegatorReward { delegator_address, validator_address: operator(terms, validator)? },
        ),
        OperationKind::SendToCustody { transfer, amount } => {
            if defund_transfer(id).as_ref() != Some(transfer) {
                return Err(refused(format!("the operation {id} does not name the transfer {transfer}")));
            }
            let to_address = terms.config.custody_address.clone();
            let amount = some(terms, *amount)?.into_iter().collect();
            any(SEND, &MsgSend { from_address: delegator_address, to_address, amount })
        }
        OperationKind::Claim { validator: None } => return Err(refused("rewards are claimed by validator".to_owned())),
        OperationKind::Withdraw { .. } => {
            return Err(refused("the chain credits what has matured by itself".to_owned()));
        }
    })
}

/// What is to be sent: `signature` is that of `unsigned`, for the operation `id`.
pub(super) fn assemble(
    terms: &Terms,
    id: &OperationId,
    unsigned: &Unsigned,
    signature: &[u8],
) -> Result<Assembled, ChainError> {
    let read = super::reading::unsigned(terms, &unsigned.bytes)?;
    if read.operation != *id {
        return Err(untrusted(format!("the bytes for the operation {id} are those of {}", read.operation)));
    }
    if read.says != unsigned.says {
        return Err(untrusted("the bytes do not say what they are said to say".to_owned()));
    }
    verify(terms, &unsigned.bytes, signature)?;
    let document = SignDoc::decode(unsigned.bytes.as_slice()).map_err(|error| untrusted(error.to_string()))?;
    let SignDoc { body_bytes, auth_info_bytes, .. } = document;
    let bytes = TxRaw { body_bytes, auth_info_bytes, signatures: vec![signature.to_vec()] }.encode_to_vec();
    let says = super::reading::signed(terms, &bytes)?.says;
    let transaction = transaction_id(&bytes)?;
    Ok(Assembled { signed: Signed { bytes, transaction, lifetime: says.lifetime }, says })
}

/// Whether `signature` is one of `document` by the staking address's key, as the chain takes it: 64 bytes, and the lower of
/// the two s, as `crypto/keys/secp256k1/secp256k1_nocgo.go` demands, so that nobody can give the same transaction another
/// id.
fn verify(terms: &Terms, document: &[u8], signature: &[u8]) -> Result<(), ChainError> {
    if signature.len() != SIGNATURE_BYTES {
        return Err(untrusted(format!("the signature has {} bytes, and not {SIGNATURE_BYTES}", signature.len())));
    }
    let read = Signature::from_slice(signature).map_err(|_| untrusted("the signature is none".to_owned()))?;
    if read.normalize_s() != read {
        return Err(untrusted("the signature is the higher one of two".to_owned()));
    }
    let verified = terms.key.verify(document, &read);
    verified.map_err(|_| untrusted("the signature is not of these bytes by the staking address's key".to_owned()))
}

/// The id of the transaction with these bytes: its hash, as the chain writes it.
pub(super) fn transaction_id(bytes: &[u8]) -> Result<TransactionId, ChainError> {
    TransactionId::new(&HEXUPPER.encode(&Sha256::digest(bytes))).map_err(|error| untrusted(error.to_string()))
}

/// The coins of a fee: none where it is nothing, since the chain knows no coins of zero.
fn fee(terms: &Terms, cost: Cost) -> Vec<Coin> {
    (!cost.fee.is_zero()).then(|| coin(terms, cost.fee)).into_iter().collect()
}

fn coin(terms: &Terms, amount: BaseUnits) -> Coin {
    Coin { denom: terms.config.denom.clone(), amount: amount.to_string() }
}

/// More than nothing, which no message may move.
fn some(terms: &Terms, amount: BaseUnits) -> Result<Option<Coin>, ChainError> {
    if amount.is_zero() { Err(refused("nothing is to be moved".to_owned())) } else { Ok(Some(coin(terms, amount))) }
}

fn operator(terms: &Terms, validator: &ValidatorId) -> Result<String, ChainError> {
    let checked = address::check_validator(&terms.config.prefix, validator.as_str());
    checked.map_err(|error| refused(error.to_string()))?;
    Ok(validator.as_str().to_owned())
}

fn refused(why: String) -> ChainError {
    ChainError::Refused(why)
}

fn untrusted(why: String) -> ChainError {
    ChainError::Untrusted(why)
}
