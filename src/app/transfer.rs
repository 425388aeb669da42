//! Transfers between custody and the staking address: asked for here, carried out and acknowledged by custody.

use crate::domain::amount::{BaseUnits, SignedUnits};
use crate::domain::audit_log::Note;
use crate::domain::booking::{self, BookingError};
use crate::domain::ids::TransferId;
use crate::domain::ledger::{Ledger, LedgerView};
use crate::domain::operation::{OperationKind, defund_id};
use crate::domain::time::UnixSeconds;
use crate::domain::transfer::{Direction, Purpose, Transfer, TransferEvent, TransferRefusal};
use crate::store::records::{CustodyReport, LedgerRecord, TransferRecord};
use crate::store::{Direction as StoreDirection, keys};

use super::control::Change;
use super::{App, AppError, Once, Pool, Reason, Request, operate};

/// How many transfers are looked through at once.
const TRANSFERS_PER_READ: usize = 64;

/// What custody says of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// So much of a FUND was sent, or so much of a DEFUND was received.
    Moved(BaseUnits),
    /// It will not be carried out, or no further, for this reason.
    Rejected(String),
}

/// Keeps a transfer, the index of those that are open, and its place in the order of changes.
pub(super) fn put(change: &mut Change<'_>, record: &mut TransferRecord) {
    let id = &record.transfer.id;
    if record.changed != 0 {
        change.delete(keys::transfer_by_change(record.changed, id));
    }
    record.changed = change.version();
    change.put_bytes(keys::transfer_by_change(record.changed, id), &[]);
    change.put(keys::transfer(id), record);
    if record.transfer.ended() {
        change.delete(keys::open_transfer(id));
    } else {
        change.put_bytes(keys::open_transfer(id), &[]);
    }
}

const fn kind(direction: Direction) -> &'static str {
    match direction {
        Direction::Fund => "fund",
        Direction::Defund => "defund",
    }
}

fn name(direction: Direction, sequence: u64) -> Result<TransferId, AppError> {
    let id = TransferId::new(&format!("{}-{sequence}", kind(direction)));
    id.map_err(|error| AppError::Broken(error.to_string()))
}

/// The number that a name of ours is made of; `None` where it is none for a transfer of this direction.
pub(super) fn sequence_of(direction: Direction, id: &TransferId) -> Option<u64> {
    let number = id.as_str().strip_prefix(kind(direction))?.strip_prefix('-')?.parse().ok()?;
    (name(direction, number).ok()? == *id).then_some(number)
}

/// Asks custody to send `amount` to the staking address.
pub(super) fn request_fund(
    change: &mut Change<'_>,
    purpose: Purpose,
    amount: BaseUnits,
    reason: &str,
) -> Result<TransferId, AppError> {
    let sequence = change.next_sequence();
    let id = name(Direction::Fund, sequence)?;
    let transfer = Transfer::new(id.clone(), Direction::Fund, purpose, None, amount);
    keep_new(change, transfer, sequence, reason);
    Ok(id)
}

/// Plans the operation that sends `amount` to custody.
pub(super) fn request_defund(
    change: &mut Change<'_>,
    pool: &Pool,
    purpose: Purpose,
    amount: BaseUnits,
    reason: &str,
) -> Result<TransferId, AppError> {
    let sequence = change.next_sequence();
    let id = name(Direction::Defund, sequence)?;
    let operation = defund_id(pool.id(), &id).map_err(|error| AppError::Broken(error.to_string()))?;
    let transfer = Transfer::new(id.clone(), Direction::Defund, purpose, Some(operation.clone()), amount);
    keep_new(change, transfer, sequence, reason);
    operate::plan(change, operation, OperationKind::SendToCustody { transfer: id.clone(), amount }, reason)?;
    Ok(id)
}

fn keep_new(change: &mut Change<'_>, transfer: Transfer, sequence: u64, reason: &str) {
    let mut record = TransferRecord {
        changed: 0,
        transactions: Vec::new(),
        sequence,
        created_at: change.at(),
        updated_at: change.at(),
        custody_reference: String::new(),
        reason: reason.to_owned(),
        transfer,
    };
    change.put_bytes(keys::transfer_by_sequence(sequence), record.transfer.id.as_str().as_bytes());
    put(change, &mut record);
}

/// The operation of a DEFUND has ended short of it: what it did not send will not be sent, and the transfer ends once
/// custody has what was.
pub(super) async fn operation_ended_short(change: &mut Change<'_>, id: &TransferId) -> Result<(), AppError> {
    let Some(mut record) = change.read::<TransferRecord>(&keys::transfer(id)).await? else { return Ok(()) };
    if record.transfer.ended() {
        return Ok(());
    }
    let step = record.transfer.apply(TransferEvent::Finished);
    let step = step.map_err(|error| AppError::Broken(format!("transfer {id}: {error}")))?;
    let reason = match record.transfer.seen.is_zero() {
        true => "the operation that sends it has failed",
        false => "the operation that sends it has sent a part; what is still needed is asked for anew",
    };
    reason.clone_into(&mut record.reason);
    record.transfer = step.transfer;
    record.updated_at = change.at();
    put(change, &mut record);
    Ok(())
}

impl App {
    /// One transfer.
    pub async fn transfer(&self, pool: &Pool, id: &TransferId) -> Result<TransferRecord, AppError> {
        let record = self.read(pool.control(), &keys::transfer(id)).await?;
        record.ok_or_else(|| {
            AppError::refused(Reason::UnknownTransfer, format!("pool {} has no transfer {id}", pool.id()))
        })
    }

    /// The transfers that have not ended, oldest first.
    pub async fn open_transfers(&self, pool: &Pool) -> Result<Vec<TransferRecord>, AppError> {
        let mut open = Vec::new();
        for id in self.ids(pool, keys::tag::OPEN_TRANSFER, keys::parse_open_transfer).await? {
            open.extend(self.read::<TransferRecord>(pool.control(), &keys::transfer(&id)).await?);
        }
        open.sort_by_key(|record| record.sequence);
        Ok(open)
    }

    /// What left for custody, or is to, of the DEFUNDs of principal that were planned after `since`.
    pub(super) async fn sent_since(&self, pool: &Pool, since: UnixSeconds) -> Result<BaseUnits, AppError> {
        let mut range = keys::range_of_tag(keys::tag::TRANSFER_BY_SEQUENCE);
        let mut sent = BaseUnits::ZERO;
        loop {
            let found =
                self.store.scan(pool.control(), range.clone(), TRANSFERS_PER_READ, StoreDirection::Reverse).await?;
            for (_, id) in &found {
                let id = std::str::from_utf8(id).ok().and_then(|id| TransferId::new(id).ok());
                let id = id.ok_or_else(|| AppError::Broken(format!("pool {}: an index can't be read", pool.id())))?;
                let TransferRecord { transfer, created_at, .. } = self.transfer(pool, &id).await?;
                if created_at <= since {
                    return Ok(sent);
                }
                if transfer.direction == Direction::Defund && transfer.purpose == Purpose::Principal {
                    let went = if transfer.ended() { transfer.seen.max(transfer.acknowledged) } else { transfer.asked };
                    let sum = sent.checked_add(went);
                    sent = sum.map_err(|error| AppError::Broken(format!("what left in a day: {error}")))?;
                }
            }
            match found.last() {
                Some((key, _)) if found.len() == TRANSFERS_PER_READ => range.to.clone_from(key),
                _ => return Ok(sent),
            }
        }
    }

    /// Up to `limit` transfers whose last change came after `version` of the pool's ledger, in the order of those, each
    /// with the version that it made. A transfer that changes meanwhile may come twice.
    pub async fn transfers_changed(
        &self,
        pool: &Pool,
        version: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TransferRecord)>, AppError> {
        let mut range = keys::range_of_tag(keys::tag::TRANSFER_BY_CHANGE);
        // No id is before the first one: what begins with the next version comes after all of this one.
        range.from = keys::transfers_changed_in(version.saturating_add(1)).from;
        let found = self.store.scan(pool.control(), range, limit, StoreDirection::Forward).await?;
        let mut records = Vec::with_capacity(found.len());
        for (key, _) in found {
            let unreadable = || AppError::Broken(format!("pool {}: an index key can't be read", pool.id()));
            let (version, id) = keys::parse_transfer_by_change(&key).ok_or_else(unreadable)?;
            let record = self.read::<TransferRecord>(pool.control(), &keys::transfer(&id)).await?;
            records.extend(record.map(|record| (version, record)));
        }
        Ok(records)
    }

    /// The version of the pool's ledger that the last change of any transfer made; 0 before the first.
    pub async fn last_transfer_change(&self, pool: &Pool) -> Result<u64, AppError> {
        let range = keys::range_of_tag(keys::tag::TRANSFER_BY_CHANGE);
        let last = self.store.scan(pool.control(), range, 1, StoreDirection::Reverse).await?;
        let last = last.first().and_then(|(key, _)| keys::parse_transfer_by_change(key));
        Ok(last.map_or(0, |(version, _)| version))
    }

    /// Takes custody's word on what it holds, once, and says what the ledger has. The latest word is kept.
    pub async fn report_custody(
        &self,
        request: &Request,
        pool: &Pool,
        balance: BaseUnits,
        as_of: UnixSeconds,
    ) -> Result<(Once, SignedUnits), AppError> {
        let principal = self.principal(pool)?;
        let mut ledger = SignedUnits::ZERO;
        let once = self
            .mutate(pool, request, async |change| {
                ledger = custody(change.ledger(), principal)?;
                let before: Option<CustodyReport> = change.read(&keys::custody_report()).await?;
                if before.is_none_or(|before| before.as_of <= as_of) {
                    let reported_at = change.at();
                    change.put(keys::custody_report(), &CustodyReport { balance, as_of, reported_at, ledger });
                }
                Ok(Note::of(format!("pools/{}", pool.id()), format!("custody holds {balance} base units")))
            })
            .await?;
        if let Once::Repeated { .. } = &once {
            let record: Option<LedgerRecord> = self.read(pool.control(), &keys::ledger()).await?;
            ledger = custody(&record.unwrap_or_default().ledger, principal)?;
        }
        Ok((once, ledger))
    }

    /// What custody last said that it holds, if it ever did.
    pub async fn custody_report(&self, pool: &Pool) -> Result<Option<CustodyReport>, AppError> {
        self.read(pool.control(), &keys::custody_report()).await
    }

    /// Takes custody's word on a transfer, once.
    pub async fn acknowledge_transfer(
        &self,
        request: &Request,
        pool: &Pool,
        id: &TransferId,
        word: Acknowledgement,
        custody_reference: &str,
    ) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            let mut record = self.transfer(pool, id).await?;
            let before = format!("{:?}", record.transfer.state).to_uppercase();
            let transfer = match &word {
                Acknowledgement::Moved(amount) => {
                    let acknowledged = booking::acknowledge_transfer(&record.transfer, *amount);
                    let (transfer, entry) = acknowledged.map_err(|error| refused(&record, &error))?;
                    change.post(&entry, change.at())?;
                    transfer
                }
                Acknowledgement::Rejected(reason) => {
                    if record.transfer.direction == Direction::Defund {
                        let message = "a DEFUND is sent by softstake: acknowledge what was received of it";
                        return Err(AppError::refused(Reason::WrongState, message));
                    }
                    record.reason.clone_from(reason);
                    let ended = booking::end_fund(&record.transfer);
                    let (transfer, entry) = ended.map_err(|error| refused(&record, &error))?;
                    change.post(&entry, change.at())?;
                    transfer
                }
            };
            record.transfer = transfer;
            record.updated_at = change.at();
            custody_reference.clone_into(&mut record.custody_reference);
            put(change, &mut record);
            let summary = match &word {
                Acknowledgement::Moved(amount) => format!("custody moved {amount} base units"),
                Acknowledgement::Rejected(reason) => format!("custody rejected it: {reason}"),
            };
            let after = format!("{:?}", record.transfer.state).to_uppercase();
            Ok(Note::of(format!("pools/{}/transfers/{id}", pool.id()), summary).changed(before, after))
        })
        .await
    }
}

/// What the ledger says that custody holds; negative is house credit.
fn custody(ledger: &Ledger, principal: BaseUnits) -> Result<SignedUnits, AppError> {
    let view = LedgerView::new(ledger.clone(), principal).map_err(|error| AppError::Broken(error.to_string()))?;
    Ok(view.custody())
}

fn refused(record: &TransferRecord, error: &BookingError) -> AppError {
    let message = format!("transfer {} is {:?}: {error}", record.transfer.id, record.transfer.state);
    let reason = match error {
        BookingError::Transfer(TransferRefusal::MoreThanExpected { .. } | TransferRefusal::Nothing) => {
            Reason::AmountMismatch
        }
        _ => Reason::WrongState,
    };
    AppError::refused(reason, message)
}
