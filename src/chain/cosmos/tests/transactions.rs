//! What softstake builds, and what it refuses to take for its own.

use k256::ecdsa::Signature;
use k256::ecdsa::signature::Signer as _;
use prost::Message as _;
use prost_types::Any;

use super::super::config::{CosmosConfigError, Terms};
use super::super::reading;
use super::super::transaction::{self, CLAIM, DELEGATE, Place, SEND};
use super::vectors::{key, validators};
use super::{config, terms};
use crate::chain::{ChainError, Unsigned};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{OperationId, TransferId, ValidatorId};
use crate::domain::operation::OperationKind;
use crate::domain::signing::{Decoded, Lifetime};
use crate::pb::cosmos::bank::v1beta1::MsgSend;
use crate::pb::cosmos::base::v1beta1::Coin;
use crate::pb::cosmos::staking::v1beta1::MsgDelegate;
use crate::pb::cosmos::tx::v1beta1::{AuthInfo, SignDoc, TxBody, TxRaw};

const PLACE: Place = Place { account_number: 1_234_567, sequence: 42, timeout_height: 28_000_000 };

fn units(units: u64) -> BaseUnits {
    BaseUnits::from_u64(units)
}

fn validator(at: usize) -> ValidatorId {
    ValidatorId::new(&validators()[at]).unwrap()
}

fn id(text: &str) -> OperationId {
    OperationId::new(text).unwrap()
}

fn send(transfer: &str) -> OperationKind {
    OperationKind::SendToCustody { transfer: TransferId::new(transfer).unwrap(), amount: units(9) }
}

/// Every kind that the chain has, with the id of its operation and its fee.
fn kinds() -> Vec<(&'static str, OperationKind, u64)> {
    let (from, to, amount) = (validator(0), validator(1), units(1_000_000));
    vec![
        ("atom:delegate:1:0", OperationKind::Delegate { validator: validator(0), amount }, 1_375),
        ("atom:undelegate:1:0", OperationKind::Undelegate { validator: validator(0), amount }, 1_650),
        ("atom:redelegate:1:0", OperationKind::Redelegate { from, to, amount }, 2_200),
        ("atom:claim:1:v", OperationKind::Claim { validator: Some(validator(2)) }, 1_100),
        ("atom:defund:t-9", send("t-9"), 550),
    ]
}

fn signature(bytes: &[u8]) -> Vec<u8> {
    let signature: Signature = key("custody").signing.sign(bytes);
    signature.to_bytes().to_vec()
}

fn untrusted(result: Result<impl std::fmt::Debug, ChainError>) -> String {
    match result.unwrap_err() {
        ChainError::Untrusted(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_says_what_was_asked_before_and_after_it_is_signed() {
    let terms = terms();
    for (name, kind, fee) in kinds() {
        let unsigned = transaction::build(&terms, &id(name), &kind, PLACE).unwrap();
        let leaves = matches!(kind, OperationKind::SendToCustody { .. });
        let lifetime = Lifetime { nonce: Some(42), expires_at: None, expires_height: Some(28_000_000) };
        let says = Decoded {
            intent: kind,
            sender: terms.address.clone(),
            recipient: leaves.then(|| terms.config.custody_address.clone()),
            max_fee: units(fee),
            lifetime,
        };
        assert_eq!(unsigned.says, says, "{name}");
        let assembled = transaction::assemble(&terms, &id(name), &unsigned, &signature(&unsigned.bytes)).unwrap();
        assert_eq!((&assembled.says, assembled.signed.lifetime), (&says, lifetime), "{name}");
        assert_eq!(assembled.signed.transaction, transaction::transaction_id(&assembled.signed.bytes).unwrap());
        let raw = TxRaw::decode(assembled.signed.bytes.as_slice()).unwrap();
        let document = SignDoc::decode(unsigned.bytes.as_slice()).unwrap();
        assert_eq!((raw.body_bytes, raw.auth_info_bytes), (document.body_bytes, document.auth_info_bytes));
    }
}

#[test]
fn what_no_block_could_do_is_refused() {
    let terms = terms();
    let stranger = ValidatorId::new(&terms.address).unwrap();
    let refused = [
        ("op", OperationKind::Claim { validator: None }),
        ("op", OperationKind::Withdraw { validator: None }),
        ("op", OperationKind::Withdraw { validator: Some(validator(0)) }),
        ("op", OperationKind::Delegate { validator: validator(0), amount: BaseUnits::ZERO }),
        ("op", OperationKind::Delegate { validator: stranger, amount: units(1) }),
        ("op", OperationKind::Redelegate { from: validator(0), to: validator(0), amount: units(1) }),
        ("atom:defund:t-8", send("t-9")),
        ("t-9", send("t-9")),
    ];
    for (name, kind) in refused {
        let built = transaction::build(&terms, &id(name), &kind, PLACE);
        assert!(matches!(built, Err(ChainError::Refused(_))), "{name} {kind:?}: {built:?}");
    }
}

#[test]
fn a_signature_that_is_none_of_these_bytes_by_this_key_is_not_assembled() {
    let (terms, operation) = (terms(), id("atom:delegate:1:0"));
    let unsigned = transaction::build(&terms, &operation, &kinds()[0].1, PLACE).unwrap();
    let assemble =
        |unsigned: &Unsigned, signature: &[u8]| transaction::assemble(&terms, &operation, unsigned, signature);
    let good = signature(&unsigned.bytes);
    let stranger: Signature = key("second").signing.sign(&unsigned.bytes);
    assert!(untrusted(assemble(&unsigned, &stranger.to_bytes())).contains("staking address's key"));
    assert!(untrusted(assemble(&unsigned, &signature(b"else"))).contains("staking address's key"));
    assert!(untrusted(assemble(&unsigned, &good[1..])).contains("63 bytes"));
    assert!(untrusted(assemble(&unsigned, &[good.as_slice(), &[1]].concat())).contains("65 bytes"));
    assert!(untrusted(assemble(&unsigned, &[0; 64])).contains("none"));
    let low = Signature::from_slice(&good).unwrap();
    let high = Signature::from_scalars(low.r().to_bytes(), (-*low.s()).to_bytes()).unwrap();
    assert!(untrusted(assemble(&unsigned, &high.to_bytes())).contains("higher"));
    let other = transaction::build(&terms, &id("other"), &kinds()[0].1, PLACE).unwrap();
    assert!(untrusted(assemble(&other, &signature(&other.bytes))).contains("are those of other"));
    let says = Decoded { max_fee: units(1), ..unsigned.says.clone() };
    let lies = Unsigned { says, ..unsigned.clone() };
    assert!(untrusted(assemble(&lies, &good)).contains("said to say"));
}

/// The SignDoc of `kind`, changed.
fn changed(name: &str, kind: &OperationKind, change: impl FnOnce(&mut TxBody, &mut AuthInfo, &mut SignDoc)) -> Vec<u8> {
    let unsigned = transaction::build(&terms(), &id(name), kind, PLACE).unwrap();
    let mut document = SignDoc::decode(unsigned.bytes.as_slice()).unwrap();
    let mut body = TxBody::decode(document.body_bytes.as_slice()).unwrap();
    let mut auth_info = AuthInfo::decode(document.auth_info_bytes.as_slice()).unwrap();
    change(&mut body, &mut auth_info, &mut document);
    document.body_bytes = body.encode_to_vec();
    document.auth_info_bytes = auth_info.encode_to_vec();
    document.encode_to_vec()
}

#[test]
fn bytes_that_do_anything_else_are_not_trusted() {
    type Change = fn(&mut TxBody, &mut AuthInfo, &mut SignDoc);
    fn delegation(body: &mut TxBody, change: impl FnOnce(&mut MsgDelegate)) {
        let mut said = MsgDelegate::decode(body.messages[0].value.as_slice()).unwrap();
        change(&mut said);
        body.messages[0].value = said.encode_to_vec();
    }
    fn coin(amount: &str, denom: &str) -> Option<Coin> {
        Some(Coin { denom: denom.to_owned(), amount: amount.to_owned() })
    }
    let changes: &[(&str, Change)] = &[
        ("for the chain", |_, _, document| document.chain_id = "cosmoshub-5".to_owned()),
        ("not one message", |body, _, _| body.messages.push(body.messages[0].clone())),
        ("not one message", |body, _, _| body.messages.clear()),
        ("message of the type", |body, _, _| body.messages[0].type_url = "/cosmos.authz.v1beta1.MsgExec".to_owned()),
        ("message of the type", |body, _, _| body.messages[0].type_url = DELEGATE[1..].to_owned()),
        ("no operation's id", |body, _, _| body.memo.clear()),
        ("no operation's id", |body, _, _| body.memo.push(' ')),
        ("no height ends", |body, _, _| body.timeout_height = 0),
        ("can't be read", |body, _, _| body.messages[0].value.truncate(20)),
        ("says more", |body, _, _| body.messages[0].value.extend([0x78, 1])),
        ("says more", |body, _, _| body.messages[0].type_url = CLAIM.to_owned()),
        ("no address", |body, _, _| delegation(body, |said| said.validator_address = validators()[1].to_uppercase())),
        ("not one amount", |body, _, _| delegation(body, |said| said.amount = None)),
        ("is of \"stake\"", |body, _, _| delegation(body, |said| said.amount = coin("5", "stake"))),
        ("amount of nothing", |body, _, _| delegation(body, |said| said.amount = coin("0", "uatom"))),
        ("decimal integer", |body, _, _| delegation(body, |said| said.amount = coin("05", "uatom"))),
        ("decimal integer", |body, _, _| delegation(body, |said| said.amount = coin("-5", "uatom"))),
        ("not one signer", |_, auth, _| auth.signer_infos.push(auth.signer_infos[0].clone())),
        ("not one signer", |_, auth, _| auth.signer_infos.clear()),
        ("signer's key", |_, auth, _| auth.signer_infos[0].public_key = None),
        ("signer's key", |_, auth, _| {
            let other = crate::pb::cosmos::crypto::secp256k1::PubKey { key: key("second").public_key };
            auth.signer_infos[0].public_key = Some(transaction::any(transaction::PUBLIC_KEY, &other));
        }),
        ("signer's key", |_, auth, _| {
            let envelope = auth.signer_infos[0].public_key.as_mut().unwrap();
            envelope.type_url = "/cosmos.crypto.ed25519.PubKey".to_owned();
        }),
        ("another mode", |_, auth, _| auth.signer_infos[0].mode_info = None),
        ("no fee", |_, auth, _| auth.fee = None),
        ("is of \"uosmo\"", |_, auth, _| auth.fee.as_mut().unwrap().amount[0].denom = "uosmo".to_owned()),
        ("not one amount", |_, auth, _| {
            let fee = auth.fee.as_mut().unwrap();
            fee.amount.push(fee.amount[0].clone());
        }),
    ];
    for (why, change) in changes {
        let bytes = changed("atom:delegate:1:0", &kinds()[0].1, change);
        let said = untrusted(reading::unsigned(&terms(), &bytes));
        assert!(said.contains(why), "{why}: {said}");
    }
}

/// `bytes` with a field that has these bytes behind them.
fn with_field(bytes: &[u8], tag: u32, value: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut all);
    prost::encoding::encode_varint(value.len() as u64, &mut all);
    all.extend(value);
    all
}

#[test]
fn fields_that_softstake_never_sets_are_not_trusted_wherever_they_stand() {
    let terms = terms();
    let unsigned = transaction::build(&terms, &id("op"), &kinds()[0].1, PLACE).unwrap();
    let document = SignDoc::decode(unsigned.bytes.as_slice()).unwrap();
    let option = Any { type_url: "/cosmos.Any".to_owned(), value: Vec::new() }.encode_to_vec();
    let bodies = [(1023, option.as_slice()), (2047, &option), (5, &[8, 1]), (1, &[])];
    for (tag, value) in bodies {
        let changed = SignDoc { body_bytes: with_field(&document.body_bytes, tag, value), ..document.clone() };
        let said = untrusted(reading::unsigned(&terms, &changed.encode_to_vec()));
        assert!(said.contains("says more"), "{tag}: {said}");
    }
    // `unordered`, which would let it be included without its sequence.
    let unordered = SignDoc { body_bytes: [document.body_bytes.as_slice(), &[0x20, 1]].concat(), ..document.clone() };
    assert!(untrusted(reading::unsigned(&terms, &unordered.encode_to_vec())).contains("says more"));
    // A tip, and in the fee a payer and a granter.
    let tip = with_field(&document.auth_info_bytes, 3, b"\x12\x01x");
    let mut fees = vec![tip];
    for tag in [3, 4] {
        let auth_info = AuthInfo::decode(document.auth_info_bytes.as_slice()).unwrap();
        let fee = with_field(&auth_info.fee.clone().unwrap().encode_to_vec(), tag, b"cosmos1x");
        let signer = AuthInfo { fee: None, ..auth_info }.encode_to_vec();
        fees.push(with_field(&signer, 2, &fee));
    }
    for auth_info_bytes in fees {
        let changed = SignDoc { auth_info_bytes, ..document.clone() };
        let said = untrusted(reading::unsigned(&terms, &changed.encode_to_vec()));
        assert!(said.contains("says more"), "{said}");
    }
    let more = with_field(&unsigned.bytes, 9, b"x");
    assert!(untrusted(reading::unsigned(&terms, &more)).contains("says more"));
}

#[test]
fn a_send_goes_to_whom_its_bytes_say_and_names_its_transfer() {
    let bytes = changed("atom:defund:t-9", &send("t-9"), |body, _, _| {
        let mut said = MsgSend::decode(body.messages[0].value.as_slice()).unwrap();
        said.to_address = key("third").address;
        body.messages[0].value = said.encode_to_vec();
    });
    assert_eq!(reading::unsigned(&terms(), &bytes).unwrap().says.recipient, Some(key("third").address));
    let bytes = changed("atom:defund:t-9", &send("t-9"), |body, _, _| body.memo = "atom:delegate:1:0".to_owned());
    assert!(untrusted(reading::unsigned(&terms(), &bytes)).contains("names no transfer"));
    let bytes = changed("atom:defund:t-9", &send("t-9"), |body, _, _| {
        let mut said = MsgSend::decode(body.messages[0].value.as_slice()).unwrap();
        said.amount.push(Coin { denom: "ibc/1".to_owned(), amount: "1".to_owned() });
        body.messages[0] = transaction::any(SEND, &said);
    });
    assert!(untrusted(reading::unsigned(&terms(), &bytes)).contains("not one amount"));
}

#[test]
fn a_transaction_has_one_signature() {
    let unsigned = transaction::build(&terms(), &id("op"), &kinds()[0].1, PLACE).unwrap();
    let SignDoc { body_bytes, auth_info_bytes, .. } = SignDoc::decode(unsigned.bytes.as_slice()).unwrap();
    let mut raw = TxRaw { body_bytes, auth_info_bytes, signatures: vec![signature(&unsigned.bytes)] };
    assert_eq!(reading::signed(&terms(), &raw.encode_to_vec()).unwrap().says, unsigned.says);
    raw.signatures.push(signature(&unsigned.bytes));
    assert!(untrusted(reading::signed(&terms(), &raw.encode_to_vec())).contains("2 signatures"));
    assert!(untrusted(reading::signed(&terms(), &unsigned.bytes)).contains("transaction"));
}

#[test]
fn a_configuration_that_can_fail_later_is_refused_now() {
    let broken = |change: fn(&mut super::CosmosConfig)| {
        let mut config = config();
        change(&mut config);
        Terms::new(config).unwrap_err()
    };
    assert_eq!(
        broken(|config| config.max_fee = units(2_199)),
        CosmosConfigError::Dear { fee: units(2_200), most: units(2_199) }
    );
    assert_eq!(broken(|config| config.gas.claim = 0), CosmosConfigError::Zero("a gas limit"));
    assert_eq!(broken(|config| config.timeout_blocks = 0), CosmosConfigError::Zero("timeout_blocks"));
    assert_eq!(broken(|config| config.gas_price = (-1).into()), CosmosConfigError::Fee);
    assert_eq!(broken(|config| config.public_key[0] = 4), CosmosConfigError::PublicKey);
    assert_eq!(broken(|config| config.custody_address = key("custody").address), CosmosConfigError::CustodyIsStaking);
    assert!(matches!(broken(|config| config.custody_address = validators()[0].clone()), CosmosConfigError::Address(_)));
    assert_eq!(broken(|config| config.endpoints.clear()), CosmosConfigError::NoEndpoint);
    let free = Terms::new(super::CosmosConfig { gas_price: 0.into(), ..config() }).unwrap();
    assert_eq!(transaction::build(&free, &id("op"), &kinds()[0].1, PLACE).unwrap().says.max_fee, BaseUnits::ZERO);
    assert_eq!(terms().highest_fee(), units(2_200));
}
