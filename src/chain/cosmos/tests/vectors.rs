//! The transactions that CosmJS made, see `tests/chains/vectors/cosmos/README.md`, byte for byte against ours.

use data_encoding::HEXLOWER;
use k256::ecdsa::signature::Signer as _;
use k256::ecdsa::{Signature, SigningKey};
use prost::Message as _;
use prost_types::Any;
use serde_json::Value;

use super::super::address;
use super::super::transaction::{self, CLAIM, DELEGATE, PUBLIC_KEY, REDELEGATE, SEND, UNDELEGATE};
use crate::pb::cosmos::bank::v1beta1::MsgSend;
use crate::pb::cosmos::base::v1beta1::Coin;
use crate::pb::cosmos::crypto::secp256k1::PubKey;
use crate::pb::cosmos::distribution::v1beta1::MsgWithdrawDelegatorReward;
use crate::pb::cosmos::staking::v1beta1::{MsgBeginRedelegate, MsgDelegate, MsgUndelegate};
use crate::pb::cosmos::tx::v1beta1::{SignDoc, TxRaw};

/// One key of the vectors.
pub(super) struct Key {
    pub(super) signing: SigningKey,
    pub(super) public_key: Vec<u8>,
    pub(super) address: String,
}

fn file() -> Value {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chains/vectors/cosmos/vectors.json"));
    serde_json::from_str(text).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn number(value: &Value, name: &str) -> u64 {
    text(value, name).parse().unwrap()
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    HEXLOWER.decode(text(value, name).as_bytes()).unwrap()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}

pub(super) fn key(name: &str) -> Key {
    let found = list(&file()["keys"]).into_iter().find(|key| text(key, "name") == name).unwrap();
    Key {
        signing: SigningKey::from_slice(&bytes(&found, "private_key")).unwrap(),
        public_key: bytes(&found, "public_key"),
        address: text(&found, "address").to_owned(),
    }
}

pub(super) fn validators() -> Vec<String> {
    list(&file()["validators"]).iter().map(|validator| text(validator, "address").to_owned()).collect()
}

fn coin(value: &Value) -> Coin {
    Coin { denom: text(value, "denom").to_owned(), amount: text(value, "amount").to_owned() }
}

/// The message from its fields; of a kind that softstake does not send, as it is.
fn message(value: &Value) -> Any {
    let (fields, type_url) = (&value["fields"], text(value, "type_url"));
    let delegator_address = fields["delegator_address"].as_str().unwrap_or_default().to_owned();
    let validator = |name: &str| text(fields, name).to_owned();
    let amount = || Some(coin(&fields["amount"]));
    match type_url {
        DELEGATE => {
            let validator_address = validator("validator_address");
            transaction::any(type_url, &MsgDelegate { delegator_address, validator_address, amount: amount() })
        }
        UNDELEGATE => {
            let validator_address = validator("validator_address");
            transaction::any(type_url, &MsgUndelegate { delegator_address, validator_address, amount: amount() })
        }
        REDELEGATE => {
            let (from, to) = (validator("validator_src_address"), validator("validator_dst_address"));
            let (validator_src_address, validator_dst_address, amount) = (from, to, amount());
            let message =
                MsgBeginRedelegate { delegator_address, validator_src_address, validator_dst_address, amount };
            transaction::any(type_url, &message)
        }
        CLAIM => {
            let validator_address = validator("validator_address");
            transaction::any(type_url, &MsgWithdrawDelegatorReward { delegator_address, validator_address })
        }
        SEND => {
            let amount = list(&fields["amount"]).iter().map(coin).collect();
            let (from_address, to_address) = (validator("from_address"), validator("to_address"));
            transaction::any(type_url, &MsgSend { from_address, to_address, amount })
        }
        _ => Any { type_url: type_url.to_owned(), value: bytes(value, "value") },
    }
}

#[test]
fn every_transaction_is_what_cosmjs_makes_of_it() {
    let vectors = list(&file()["vectors"]);
    assert!(vectors.len() >= 30, "{}", vectors.len());
    for vector in vectors {
        let name = text(&vector, "name");
        let messages: Vec<Any> = list(&vector["messages"]).iter().map(message).collect();
        for (ours, theirs) in messages.iter().zip(list(&vector["messages"])) {
            assert_eq!(ours.value, bytes(&theirs, "value"), "{name}");
        }
        let body = transaction::body(messages, text(&vector, "memo"), number(&vector, "timeout_height"));
        assert_eq!(body, bytes(&vector, "body"), "{name}");
        let signer = key(text(&vector, "key"));
        let fee = list(&vector["fee"]).iter().map(coin).collect();
        let (sequence, gas) = (number(&vector, "sequence"), number(&vector, "gas_limit"));
        let auth_info = transaction::auth_info(&signer.public_key, sequence, fee, gas);
        assert_eq!(auth_info, bytes(&vector, "auth_info"), "{name}");
        let (chain_id, account_number) = (text(&vector, "chain_id").to_owned(), number(&vector, "account_number"));
        let (body_bytes, auth_info_bytes) = (body.clone(), auth_info.clone());
        let document = SignDoc { body_bytes, auth_info_bytes, chain_id, account_number }.encode_to_vec();
        assert_eq!(document, bytes(&vector, "sign_doc"), "{name}");
        let signature: Signature = signer.signing.sign(&document);
        assert_eq!(signature.to_bytes().to_vec(), bytes(&vector, "signature"), "{name}");
        let signatures = vec![signature.to_bytes().to_vec()];
        let raw = TxRaw { body_bytes: body, auth_info_bytes: auth_info, signatures }.encode_to_vec();
        assert_eq!(raw, bytes(&vector, "tx_raw"), "{name}");
        assert_eq!(transaction::transaction_id(&raw).unwrap().as_str(), text(&vector, "tx_hash"), "{name}");
    }
}

#[test]
fn addresses_are_what_cosmjs_makes_of_keys() {
    let file = file();
    for key in list(&file["keys"]) {
        let address = text(&key, "address");
        assert_eq!(address::account_of("cosmos", &bytes(&key, "public_key")).as_deref(), Ok(address));
        assert_eq!(address::check_account("cosmos", address), Ok(()));
        assert_eq!(address::check_validator("cosmos", text(&key, "validator_address")), Ok(()));
        assert!(address::check_validator("cosmos", address).is_err());
        let envelope = transaction::any(PUBLIC_KEY, &PubKey { key: bytes(&key, "public_key") });
        assert_eq!(envelope.value.len(), 35);
    }
    let refused = list(&file["refused_addresses"]);
    assert!(refused.len() >= 13, "{}", refused.len());
    for address in refused {
        assert!(address::check_account("cosmos", text(&address, "address")).is_err(), "{address}");
    }
    let upper = text(&file["keys"][0], "address").to_uppercase();
    assert!(address::check_account("cosmos", &upper).is_err(), "the chain does not write it so");
}
