//! The transactions of the simulated chain: one canonical encoding, and a keyed hash as the signature.

use async_trait::async_trait;

use super::codec::{Reader, Writer};
use crate::chain::{ChainError, Signer, Unsigned};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{ChainId, OperationId, TransactionId, TransferId, ValidatorId};
use crate::domain::operation::OperationKind;
use crate::domain::time::UnixSeconds;

const VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 32;

/// What the bytes of a transaction say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) chain: ChainId,
    pub(super) operation: OperationId,
    pub(super) kind: OperationKind,
    pub(super) nonce: Option<u64>,
    pub(super) expires_at: UnixSeconds,
}

impl Transaction {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION).text(self.chain.as_str()).text(self.operation.as_str());
        write_kind(&mut out, &self.kind);
        out.flag(self.nonce.is_some()).u64(self.nonce.unwrap_or(0)).i64(self.expires_at.get());
        out.into_bytes()
    }

    /// `None` unless `bytes` are exactly what [`Self::encode`] writes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes);
        if input.u8()? != VERSION {
            return None;
        }
        let chain = ChainId::new(input.text()?).ok()?;
        let operation = OperationId::new(input.text()?).ok()?;
        let kind = read_kind(&mut input)?;
        let nonce = match (input.flag()?, input.u64()?) {
            (true, nonce) => Some(nonce),
            (false, 0) => None,
            (false, _) => return None,
        };
        let expires_at = UnixSeconds::new(input.i64()?);
        input.end()?;
        Some(Self { chain, operation, kind, nonce, expires_at })
    }
}

fn write_kind(out: &mut Writer, kind: &OperationKind) {
    let optional = |out: &mut Writer, validator: &Option<ValidatorId>| {
        out.text(validator.as_ref().map_or("", ValidatorId::as_str));
    };
    match kind {
        OperationKind::Delegate { validator, amount } => {
            out.u8(1).text(validator.as_str()).u128(amount.get());
        }
        OperationKind::Undelegate { validator, amount } => {
            out.u8(2).text(validator.as_str()).u128(amount.get());
        }
        OperationKind::Redelegate { from, to, amount } => {
            out.u8(3).text(from.as_str()).text(to.as_str()).u128(amount.get());
        }
        OperationKind::Claim { validator } => {
            optional(out.u8(4), validator);
        }
        OperationKind::Withdraw { validator } => {
            optional(out.u8(5), validator);
        }
        OperationKind::SendToCustody { transfer, amount } => {
            out.u8(6).text(transfer.as_str()).u128(amount.get());
        }
    }
}

fn read_kind(input: &mut Reader<'_>) -> Option<OperationKind> {
    fn validator(input: &mut Reader<'_>) -> Option<ValidatorId> {
        ValidatorId::new(input.text()?).ok()
    }
    fn optional(input: &mut Reader<'_>) -> Option<Option<ValidatorId>> {
        match input.text()? {
            "" => Some(None),
            id => ValidatorId::new(id).ok().map(Some),
        }
    }
    fn amount(input: &mut Reader<'_>) -> Option<BaseUnits> {
        BaseUnits::new(input.u128()?).ok()
    }
    Some(match input.u8()? {
        1 => OperationKind::Delegate { validator: validator(input)?, amount: amount(input)? },
        2 => OperationKind::Undelegate { validator: validator(input)?, amount: amount(input)? },
        3 => OperationKind::Redelegate { from: validator(input)?, to: validator(input)?, amount: amount(input)? },
        4 => OperationKind::Claim { validator: optional(input)? },
        5 => OperationKind::Withdraw { validator: optional(input)? },
        6 => OperationKind::SendToCustody { transfer: TransferId::new(input.text()?).ok()?, amount: amount(input)? },
        _ => return None,
    })
}

/// The id of anything that has bytes: the hash of them, in hex.
pub(super) fn transaction_id(bytes: &[u8]) -> Option<TransactionId> {
    TransactionId::new(blake3::hash(bytes).to_hex().as_str()).ok()
}

/// The key of the simulated staking address: one per chain and seed.
pub(super) fn signing_key(chain: &ChainId, seed: u64) -> [u8; 32] {
    let mut material = Writer::default();
    material.u64(seed).text(chain.as_str());
    blake3::derive_key("softstake simulated chain signing key 1", &material.into_bytes())
}

/// The transaction in signed bytes, if the signature is right and the bytes are canonical.
pub(super) fn open_signed(key: &[u8; 32], bytes: &[u8]) -> Result<Transaction, &'static str> {
    let cut = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or("the transaction is shorter than its signature")?;
    let (body, signature) = bytes.split_at(cut);
    if blake3::keyed_hash(key, body).as_bytes().as_slice() != signature {
        return Err("the signature is wrong");
    }
    Transaction::decode(body).ok_or("the transaction is malformed")
}

/// The transaction in signed bytes, whether or not the signature is right: for reading nonce and expiry.
pub(super) fn peek_signed(bytes: &[u8]) -> Option<Transaction> {
    Transaction::decode(bytes.get(..bytes.len().checked_sub(SIGNATURE_BYTES)?)?)
}

/// Signs for the staking address of a simulated chain. Refuses bytes that do not say what they are said to say.
#[derive(Clone)]
pub struct SimulatedSigner {
    chain: ChainId,
    key: [u8; 32],
}

impl SimulatedSigner {
    /// The signer of the simulated chain with this name and seed.
    pub fn new(chain: &ChainId, seed: u64) -> Self {
        Self { chain: chain.clone(), key: signing_key(chain, seed) }
    }

    fn sign_now(&self, id: &OperationId, unsigned: &Unsigned) -> Result<Vec<u8>, ChainError> {
        let refused = |why: &str| ChainError::Refused(format!("the signer will not sign: {why}"));
        let said = Transaction::decode(&unsigned.bytes).ok_or_else(|| refused("the bytes are malformed"))?;
        if said.chain != self.chain {
            return Err(refused("the bytes are for another chain"));
        }
        if said.operation != *id {
            return Err(refused("the bytes are for another operation"));
        }
        if said.kind != unsigned.says.intent {
            return Err(refused("the bytes say something else than the intent"));
        }
        let lifetime = unsigned.says.lifetime;
        if said.nonce != lifetime.nonce || Some(said.expires_at) != lifetime.expires_at {
            return Err(refused("the bytes hold another nonce or expiry"));
        }
        Ok(blake3::keyed_hash(&self.key, &unsigned.bytes).as_bytes().to_vec())
    }
}

impl std::fmt::Debug for SimulatedSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedSigner").field("chain", &self.chain).finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for SimulatedSigner {
    async fn sign(&self, id: &OperationId, unsigned: &Unsigned) -> Result<Vec<u8>, ChainError> {
        self.sign_now(id, unsigned)
    }
}
