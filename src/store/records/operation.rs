//! Records of operations, transfers and reward receipts.

use prost::Message;

use super::{Record, RecordError, field, message, required, signed, units};
use crate::domain::amount::{BaseUnits, SignedUnits};
use crate::domain::approval::Reward;
use crate::domain::effect::EffectKey;
use crate::domain::ids::{OperationId, TransactionId, TransferId, ValidatorId};
use crate::domain::operation::{OPERATION_STATES, OperationKind, OperationState};
use crate::domain::signing::Lifetime;
use crate::domain::time::UnixSeconds;
use crate::domain::transfer::{Direction, Purpose, TRANSFER_STATES, Transfer, TransferState};
use crate::pb::store::v1 as pb;

/// A signed transaction as it is kept: exactly these bytes are broadcast, and no others while they may take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptTransaction {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The transaction's id, computed before the broadcast.
    pub transaction: TransactionId,
    /// How long the bytes live.
    pub lifetime: Lifetime,
}

/// What an operator said became of an operation, with proof from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorWord {
    /// Whether it was done. If not, it never will be.
    pub done: bool,
    /// What did it; `None` where nothing did.
    pub transaction: Option<TransactionId>,
    /// The evidence.
    pub evidence: String,
    /// When the operator said so: all that the chain did for it has happened by then.
    pub at: UnixSeconds,
}

/// An operation from its planning on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationRecord {
    /// Its id.
    pub id: OperationId,
    /// Its place among the operations and transfers of its pool.
    pub sequence: u64,
    /// What it does.
    pub kind: OperationKind,
    /// Where it stands.
    pub state: OperationState,
    /// Why it was planned: a stable name.
    pub reason: String,
    /// Builds and broadcasts so far, since it was planned or an operator retried it.
    pub attempts: u32,
    /// When it was planned.
    pub created_at: UnixSeconds,
    /// When it was planned, or an operator last retried it: what its age counts from.
    pub since: UnixSeconds,
    /// When it last changed.
    pub updated_at: UnixSeconds,
    /// When it is looked at next.
    pub next_attempt_at: UnixSeconds,
    /// What it still keeps in flight.
    pub in_flight: BaseUnits,
    /// What the chain moved for it so far.
    pub settled: BaseUnits,
    /// What it cost.
    pub fee: BaseUnits,
    /// What went wrong last; empty if nothing did.
    pub last_error: String,
    /// The bytes that may take effect.
    pub signed: Option<KeptTransaction>,
    /// The height at which it became final.
    pub height: Option<u64>,
    /// Visits in a row that failed.
    pub failures: u32,
    /// How an operator resolved it, if one did.
    pub word: Option<OperatorWord>,
    /// The first transaction that moved something for it: another one does it a second time.
    pub moved_in: Option<TransactionId>,
}

/// A transaction that may be none.
fn any_transaction(text: &str) -> Result<Option<TransactionId>, crate::domain::ids::IdError> {
    (!text.is_empty()).then(|| TransactionId::new(text)).transpose()
}

fn word_from_pb(word: pb::OperatorWordRecord) -> Result<OperatorWord, RecordError> {
    let name = OperationRecord::NAME;
    Ok(OperatorWord {
        done: word.done,
        transaction: field(name, "word.transaction", any_transaction(&word.transaction))?,
        evidence: word.evidence,
        at: UnixSeconds::new(word.at),
    })
}

fn kind_to_pb(kind: &OperationKind, record: &mut pb::OperationRecord) {
    record.kind = kind.name().to_owned();
    let text = |validator: &Option<ValidatorId>| validator.as_ref().map(ToString::to_string).unwrap_or_default();
    match kind {
        OperationKind::Delegate { validator, amount } | OperationKind::Undelegate { validator, amount } => {
            record.validator = validator.to_string();
            record.amount = amount.to_string();
        }
        OperationKind::Redelegate { from, to, amount } => {
            record.validator = from.to_string();
            record.to_validator = to.to_string();
            record.amount = amount.to_string();
        }
        OperationKind::Claim { validator } | OperationKind::Withdraw { validator } => {
            record.validator = text(validator)
        }
        OperationKind::SendToCustody { transfer, amount } => {
            record.transfer = transfer.to_string();
            record.amount = amount.to_string();
        }
    }
}

fn kind_from_pb(record: &pb::OperationRecord) -> Result<OperationKind, RecordError> {
    let name = OperationRecord::NAME;
    let validator = |text: &str| field(name, "validator", ValidatorId::new(text));
    let amount = || units(name, "amount", &record.amount);
    let any = || (!record.validator.is_empty()).then(|| validator(&record.validator)).transpose();
    // One of each kind, so that the names are those of the rule and of nothing else.
    let kind = match record.kind.as_str() {
        "delegate" => OperationKind::Delegate { validator: validator(&record.validator)?, amount: amount()? },
        "undelegate" => OperationKind::Undelegate { validator: validator(&record.validator)?, amount: amount()? },
        "redelegate" => OperationKind::Redelegate {
            from: validator(&record.validator)?,
            to: validator(&record.to_validator)?,
            amount: amount()?,
        },
        "claim" => OperationKind::Claim { validator: any()? },
        "withdraw" => OperationKind::Withdraw { validator: any()? },
        "defund" => OperationKind::SendToCustody {
            transfer: field(name, "transfer", TransferId::new(&record.transfer))?,
            amount: amount()?,
        },
        other => return field(name, "kind", Err(format!("{other} is none"))),
    };
    Ok(kind)
}

impl Record for OperationRecord {
    const NAME: &'static str = "operation";

    fn encode(&self) -> Vec<u8> {
        let mut record = pb::OperationRecord {
            id: self.id.to_string(),
            sequence: self.sequence,
            state: self.state.name().to_owned(),
            reason: self.reason.clone(),
            attempts: self.attempts,
            created_at: self.created_at.get(),
            since: self.since.get(),
            updated_at: self.updated_at.get(),
            next_attempt_at: self.next_attempt_at.get(),
            in_flight: self.in_flight.to_string(),
            settled: self.settled.to_string(),
            fee: self.fee.to_string(),
            last_error: self.last_error.clone(),
            height: self.height,
            failures: self.failures,
            word: self.word.as_ref().map(|word| pb::OperatorWordRecord {
                done: word.done,
                transaction: word.transaction.as_ref().map(ToString::to_string).unwrap_or_default(),
                evidence: word.evidence.clone(),
                at: word.at.get(),
            }),
            moved_in: self.moved_in.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..pb::OperationRecord::default()
        };
        kind_to_pb(&self.kind, &mut record);
        if let Some(signed) = &self.signed {
            record.signed = signed.bytes.clone();
            record.transaction = signed.transaction.to_string();
            let Lifetime { nonce, expires_at, expires_height } = signed.lifetime;
            (record.nonce, record.expires_height) = (nonce, expires_height);
            record.expires_at = expires_at.map(UnixSeconds::get);
        }
        record.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::OperationRecord = message(name, bytes)?;
        let kind = kind_from_pb(&record)?;
        let state = OPERATION_STATES.into_iter().find(|state| state.name() == record.state);
        let signed = match record.transaction.as_str() {
            "" => None,
            transaction => Some(KeptTransaction {
                bytes: record.signed,
                transaction: field(name, "transaction", TransactionId::new(transaction))?,
                lifetime: Lifetime {
                    nonce: record.nonce,
                    expires_at: record.expires_at.map(UnixSeconds::new),
                    expires_height: record.expires_height,
                },
            }),
        };
        Ok(Self {
            id: field(name, "id", OperationId::new(&record.id))?,
            sequence: record.sequence,
            kind,
            state: required(name, "a known state", state)?,
            reason: record.reason,
            attempts: record.attempts,
            created_at: UnixSeconds::new(record.created_at),
            since: UnixSeconds::new(record.since),
            updated_at: UnixSeconds::new(record.updated_at),
            next_attempt_at: UnixSeconds::new(record.next_attempt_at),
            in_flight: units(name, "in_flight", &record.in_flight)?,
            settled: units(name, "settled", &record.settled)?,
            fee: units(name, "fee", &record.fee)?,
            last_error: record.last_error,
            signed,
            height: record.height,
            failures: record.failures,
            word: record.word.map(word_from_pb).transpose()?,
            moved_in: field(name, "moved_in", any_transaction(&record.moved_in))?,
        })
    }
}

/// A transfer with what people need to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRecord {
    /// The transfer.
    pub transfer: Transfer,
    /// Its place among the operations and transfers of its pool.
    pub sequence: u64,
    /// When it was asked for.
    pub created_at: UnixSeconds,
    /// When it last changed.
    pub updated_at: UnixSeconds,
    /// Custody's own reference, from its last acknowledgement.
    pub custody_reference: String,
    /// Why it was asked for, or why it was cancelled.
    pub reason: String,
    /// The version of the pool's ledger that its last change made; 0 before it is kept.
    pub changed: u64,
    /// The transactions seen on the chain for it, the first few.
    pub transactions: Vec<TransactionId>,
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Fund => "fund",
        Direction::Defund => "defund",
    }
}

const fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Principal => "principal",
        Purpose::HouseFloat => "house_float",
    }
}

const fn transfer_state_name(state: TransferState) -> &'static str {
    match state {
        TransferState::Requested => "requested",
        TransferState::Sent => "sent",
        TransferState::Observed => "observed",
        TransferState::Received => "received",
        TransferState::Cancelled => "cancelled",
    }
}

impl Record for TransferRecord {
    const NAME: &'static str = "transfer";

    fn encode(&self) -> Vec<u8> {
        let transfer = &self.transfer;
        pb::TransferRecord {
            id: transfer.id.to_string(),
            sequence: self.sequence,
            direction: direction_name(transfer.direction).to_owned(),
            purpose: purpose_name(transfer.purpose).to_owned(),
            state: transfer_state_name(transfer.state).to_owned(),
            asked: transfer.asked.to_string(),
            acknowledged: transfer.acknowledged.to_string(),
            seen: transfer.seen.to_string(),
            surplus: transfer.surplus.to_string(),
            movements: transfer.movements,
            created_at: self.created_at.get(),
            updated_at: self.updated_at.get(),
            operation: transfer.operation.as_ref().map(ToString::to_string).unwrap_or_default(),
            custody_reference: self.custody_reference.clone(),
            reason: self.reason.clone(),
            changed: self.changed,
            transactions: self.transactions.iter().map(ToString::to_string).collect(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::TransferRecord = message(name, bytes)?;
        let direction =
            [Direction::Fund, Direction::Defund].into_iter().find(|way| direction_name(*way) == record.direction);
        let purpose =
            [Purpose::Principal, Purpose::HouseFloat].into_iter().find(|whose| purpose_name(*whose) == record.purpose);
        let state = TRANSFER_STATES.into_iter().find(|state| transfer_state_name(*state) == record.state);
        let operation = (!record.operation.is_empty()).then(|| OperationId::new(&record.operation)).transpose();
        let transactions = record.transactions.iter().map(|text| TransactionId::new(text)).collect();
        Ok(Self {
            transactions: field(name, "transactions", transactions)?,
            transfer: Transfer {
                id: field(name, "id", TransferId::new(&record.id))?,
                direction: required(name, "a known direction", direction)?,
                purpose: required(name, "a known purpose", purpose)?,
                operation: field(name, "operation", operation)?,
                asked: units(name, "asked", &record.asked)?,
                acknowledged: units(name, "acknowledged", &record.acknowledged)?,
                seen: units(name, "seen", &record.seen)?,
                surplus: units(name, "surplus", &record.surplus)?,
                movements: record.movements,
                state: required(name, "a known state", state)?,
            },
            sequence: record.sequence,
            created_at: UnixSeconds::new(record.created_at),
            updated_at: UnixSeconds::new(record.updated_at),
            custody_reference: record.custody_reference,
            reason: record.reason,
            changed: record.changed,
        })
    }
}

/// What custody says that it holds of a pool's asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustodyReport {
    /// How much.
    pub balance: BaseUnits,
    /// When it held that.
    pub as_of: UnixSeconds,
    /// When it said so.
    pub reported_at: UnixSeconds,
    /// What the ledger said then.
    pub ledger: SignedUnits,
}

impl Record for CustodyReport {
    const NAME: &'static str = "custody report";

    fn encode(&self) -> Vec<u8> {
        pb::CustodyReportRecord {
            balance: self.balance.to_string(),
            as_of: self.as_of.get(),
            reported_at: self.reported_at.get(),
            ledger: self.ledger.to_string(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::CustodyReportRecord = message(Self::NAME, bytes)?;
        Ok(Self {
            balance: units(Self::NAME, "balance", &record.balance)?,
            as_of: UnixSeconds::new(record.as_of),
            reported_at: UnixSeconds::new(record.reported_at),
            ledger: signed(Self::NAME, "ledger", &record.ledger)?,
        })
    }
}

/// One reward as the chain paid it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// The reward.
    pub reward: Reward,
    /// The period and revision of the distribution that took it, if one did.
    pub assigned: Option<(u64, u32)>,
}

pub(super) fn effect_key_to_pb(key: &EffectKey) -> pb::EffectKeyRecord {
    pb::EffectKeyRecord { transaction: key.transaction.to_string(), index: key.index }
}

pub(super) fn effect_key_from_pb(name: &'static str, key: &pb::EffectKeyRecord) -> Result<EffectKey, RecordError> {
    let transaction = field(name, "transaction", TransactionId::new(&key.transaction))?;
    Ok(EffectKey { transaction, index: key.index })
}

impl ReceiptRecord {
    /// A receipt that no distribution has taken yet.
    pub const fn of(reward: Reward) -> Self {
        Self { reward, assigned: None }
    }

    pub(super) fn to_pb(&self) -> pb::ReceiptRecord {
        let Reward { key, validator, amount, at, height, earned_from, earned_to } = &self.reward;
        pb::ReceiptRecord {
            key: Some(effect_key_to_pb(key)),
            validator: validator.as_ref().map(ToString::to_string).unwrap_or_default(),
            amount: amount.to_string(),
            at: at.get(),
            height: *height,
            earned_from: earned_from.get(),
            earned_to: earned_to.get(),
            period: self.assigned.map(|(period, _)| period),
            revision: self.assigned.map(|(_, revision)| revision),
        }
    }

    pub(super) fn from_pb(record: pb::ReceiptRecord) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let validator = (!record.validator.is_empty()).then(|| ValidatorId::new(&record.validator)).transpose();
        let reward = Reward {
            key: effect_key_from_pb(name, &required(name, "key", record.key)?)?,
            validator: field(name, "validator", validator)?,
            amount: units(name, "amount", &record.amount)?,
            at: UnixSeconds::new(record.at),
            height: record.height,
            earned_from: UnixSeconds::new(record.earned_from),
            earned_to: UnixSeconds::new(record.earned_to),
        };
        Ok(Self { reward, assigned: record.period.zip(record.revision) })
    }
}

impl Record for ReceiptRecord {
    const NAME: &'static str = "receipt";

    fn encode(&self) -> Vec<u8> {
        self.to_pb().encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::from_pb(message(Self::NAME, bytes)?)
    }
}

/// When a pool was last rebalanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebalanceMark {
    /// The number of the run.
    pub run: u64,
    /// When.
    pub at: UnixSeconds,
}

impl Record for RebalanceMark {
    const NAME: &'static str = "rebalance mark";

    fn encode(&self) -> Vec<u8> {
        pb::RebalanceRecord { run: self.run, at: self.at.get() }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::RebalanceRecord = message(Self::NAME, bytes)?;
        Ok(Self { run: record.run, at: UnixSeconds::new(record.at) })
    }
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
