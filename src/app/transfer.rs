//! Transfers between custody and the staking address: asked for here, carried out and acknowledged by custody.

use crate::domain::amount::BaseUnits;
use crate::domain::booking::{self, BookingError};
use crate::domain::ids::TransferId;
use crate::domain::operation::{OperationKind, defund_id};
use crate::domain::transfer::{Direction, Purpose, Transfer, TransferEvent};
use crate::store::keys;
use crate::store::records::TransferRecord;

use super::control::Change;
use super::{App, AppError, Once, Pool, Reason, Request, operate};

/// What custody says of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// So much of a FUND was sent, or so much of a DEFUND was received.
    Moved(BaseUnits),
    /// It will not be carried out, or no further, for this reason.
    Rejected(String),
}

/// Keeps a transfer and the index of those that are open.
pub(super) fn put(change: &mut Change<'_>, record: &TransferRecord) {
    let id = &record.transfer.id;
    change.put(keys::transfer(id), record);
    if record.transfer.ended() {
        change.delete(keys::open_transfer(id));
    } else {
        change.put_bytes(keys::open_transfer(id), &[]);
    }
}

fn name(direction: Direction, sequence: u64) -> Result<TransferId, AppError> {
    let kind = match direction {
        Direction::Fund => "fund",
        Direction::Defund => "defund",
    };
    TransferId::new(&format!("{kind}-{sequence}")).map_err(|error| AppError::Broken(error.to_string()))
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
    let record = TransferRecord {
        sequence,
        created_at: change.at(),
        updated_at: change.at(),
        custody_reference: String::new(),
        reason: reason.to_owned(),
        transfer,
    };
    change.put_bytes(keys::transfer_by_sequence(sequence), record.transfer.id.as_str().as_bytes());
    put(change, &record);
}

/// The operation of a DEFUND has failed: what it did not send will not be sent.
pub(super) async fn operation_failed(change: &mut Change<'_>, id: &TransferId) -> Result<(), AppError> {
    let Some(mut record) = change.read::<TransferRecord>(&keys::transfer(id)).await? else { return Ok(()) };
    if record.transfer.ended() {
        return Ok(());
    }
    let event =
        if record.transfer.seen.is_zero() { TransferEvent::Cancelled } else { TransferEvent::Finished };
    // A part that is on its way stays open until custody has it.
    if let Ok(step) = record.transfer.apply(event) {
        record.transfer = step.transfer;
        record.updated_at = change.at();
        put(change, &record);
    }
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
                    let moved = !record.transfer.seen.is_zero() || !record.transfer.acknowledged.is_zero();
                    let event = if moved { TransferEvent::Finished } else { TransferEvent::Cancelled };
                    let step = record.transfer.apply(event);
                    step.map_err(|error| refused(&record, &BookingError::Transfer(error)))?.transfer
                }
            };
            record.transfer = transfer;
            record.updated_at = change.at();
            custody_reference.clone_into(&mut record.custody_reference);
            put(change, &record);
            Ok(())
        })
        .await
    }
}

fn refused(record: &TransferRecord, error: &BookingError) -> AppError {
    let message = format!("transfer {} is {:?}: {error}", record.transfer.id, record.transfer.state);
    AppError::refused(Reason::WrongState, message)
}
