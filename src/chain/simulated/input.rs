//! What the outside world did to the chain: the only thing besides the configuration that its state depends on.

use super::codec::{Reader, Writer};
use super::transaction::{Transaction, peek_signed, transaction_id};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{TransactionId, TransferId, ValidatorId};
use crate::domain::split::WHOLE_BPS;

/// A change of a validator from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValidatorChange {
    /// It loses this much of [`super::config::RATE_SCALE`] of all stake with it.
    /// `silent` ones are in no list of effects.
    Slash {
        parts: u64,
        silent: bool,
    },
    /// Its last slash is taken back.
    Unslash,
    Jail,
    Unjail,
    Tombstone,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A signed transaction of the staking address. A hidden one travels unseen until its block; of one with a share
    /// the chain does so many basis points of its amount.
    Transaction { id: TransactionId, said: Transaction, bytes: Vec<u8>, hidden: bool, share_bps: Option<u32> },
    /// A transaction that waits for its block is thrown back to the height of this input, and travels unseen.
    ThrownBack { id: TransactionId },
    /// Custody sends a part of a transfer to the staking address, the first one or the only one being part 0.
    CustodySend { transfer: TransferId, part: u32, amount: BaseUnits },
    /// A stranger sends to the staking address.
    Donation { amount: BaseUnits },
    /// A validator is punished or comes back.
    Validator { validator: ValidatorId, change: ValidatorChange },
}

/// An input with its block, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The chain's clock when it was accepted, Unix seconds.
    pub(super) accepted_at: i64,
    /// The block that holds it.
    pub(super) height: u64,
    pub(super) input: Input,
}

impl Accepted {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.i64(self.accepted_at).u64(self.height);
        match &self.input {
            Input::Transaction { bytes, hidden, share_bps, .. } => {
                out.u8(1).flag(*hidden).u32(share_bps.unwrap_or(WHOLE_BPS)).bytes(bytes);
            }
            Input::ThrownBack { id } => {
                out.u8(10).text(id.as_str());
            }
            Input::CustodySend { transfer, part: 0, amount } => {
                out.u8(2).text(transfer.as_str()).u128(amount.get());
            }
            Input::CustodySend { transfer, part, amount } => {
                out.u8(11).text(transfer.as_str()).u128(amount.get()).u32(*part);
            }
            Input::Donation { amount } => {
                out.u8(3).u128(amount.get());
            }
            Input::Validator { validator, change } => {
                let (tag, parts) = match change {
                    ValidatorChange::Slash { parts, silent: false } => (4, *parts),
                    ValidatorChange::Slash { parts, silent: true } => (8, *parts),
                    ValidatorChange::Unslash => (9, 0),
                    ValidatorChange::Jail => (5, 0),
                    ValidatorChange::Unjail => (6, 0),
                    ValidatorChange::Tombstone => (7, 0),
                };
                out.u8(tag).text(validator.as_str()).u64(parts);
            }
        }
        out.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes);
        let accepted_at = input.i64()?;
        let height = input.u64()?;
        let what = match input.u8()? {
            1 => {
                let hidden = input.flag()?;
                let share_bps = Some(input.u32()?).filter(|share| *share != WHOLE_BPS);
                let bytes = input.bytes()?.to_vec();
                Input::Transaction { id: transaction_id(&bytes)?, said: peek_signed(&bytes)?, bytes, hidden, share_bps }
            }
            tag @ (2 | 11) => {
                let transfer = TransferId::new(input.text()?).ok()?;
                let amount = BaseUnits::new(input.u128()?).ok()?;
                let part = if tag == 11 { input.u32()? } else { 0 };
                Input::CustodySend { transfer, part, amount }
            }
            3 => Input::Donation { amount: BaseUnits::new(input.u128()?).ok()? },
            tag @ 4..=9 => {
                let validator = ValidatorId::new(input.text()?).ok()?;
                let parts = input.u64()?;
                let change = match tag {
                    4 | 8 => ValidatorChange::Slash { parts, silent: tag == 8 },
                    9 => ValidatorChange::Unslash,
                    5 => ValidatorChange::Jail,
                    6 => ValidatorChange::Unjail,
                    _ => ValidatorChange::Tombstone,
                };
                Input::Validator { validator, change }
            }
            10 => Input::ThrownBack { id: TransactionId::new(input.text()?).ok()? },
            _ => return None,
        };
        input.end()?;
        Some(Self { accepted_at, height, input: what })
    }
}

/// The first record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Genesis {
    pub(super) genesis_at: i64,
    pub(super) fingerprint: [u8; 32],
}

impl Genesis {
    const FORMAT: u32 = 2;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(Self::FORMAT).i64(self.genesis_at).bytes(&self.fingerprint);
        out.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes);
        if input.u32()? != Self::FORMAT {
            return None;
        }
        let genesis_at = input.i64()?;
        let fingerprint = input.bytes()?.try_into().ok()?;
        input.end()?;
        Some(Self { genesis_at, fingerprint })
    }
}
