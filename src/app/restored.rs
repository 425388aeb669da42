//! Pools of a store that was restored from a backup. What was sent between the backup and the loss is in no book, so that
//! they are held: balances are taken in, reads answered and the chain is booked and compared, but nothing is planned, signed,
//! sent, closed, distributed or handed on. Once ledger and chain were found equal, a person lets them go on.
//!
//! What the chain shows of the lost time is booked as of any other: stake that nothing explains pauses the pool with the
//! transaction. Transfers are known by their ids, which the chain shows, and taken in as what they were: else custody would
//! be asked for the same tokens once more.

use crate::domain::audit_log::{Log, Note};
use crate::domain::caller::Caller;
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::time::UnixSeconds;
use crate::domain::transfer::{Direction, Purpose, Transfer};
use crate::store::records::{LedgerRecord, PoolState, RebalanceMark, Record, Restored, TransferRecord};
use crate::store::{Batch, PartitionId, Store, keys};

use super::audit_log::{append, by, write_down};
use super::control::Change;
use super::{App, AppError, Pool, Reason, reconcile, transfer};

/// By how much every number goes ahead that names something outside or that callers hold: those given out between the backup
/// and the loss must not be given out again for something else. A pool that plans once a second takes 11 days for as many.
const SKIPPED: u64 = 1_000_000;

/// Why a restored pool is paused, for people.
const WHY: &str = "restored from a backup: what was sent after it is in no book. Reconcile until ledger and chain agree, \
                   then ResumePool";

/// Holds every pool of a store that no service has open, and writes down who lifts its fence and why, each in the commit of
/// its change; the entry of the service comes last. Safe to repeat, where it was cut off. Says how many pools are held.
pub async fn hold(store: &dyn Store, caller: &Caller, at: UnixSeconds, reason: &str) -> Result<usize, AppError> {
    let pools = super::pool_records(store).await?;
    for pool in &pools {
        let partition = PartitionId::control(pool.number);
        let mut batch = Batch::new(partition);
        let state = store.get(partition, &keys::pool_state()).await?;
        let state = state.ok_or_else(|| AppError::lost(format!("state of pool {}", pool.id)))?;
        let mut state = PoolState::decode(&state)?;
        let mut ledger: LedgerRecord = read(store, partition, &keys::ledger()).await?;
        let mut mark: RebalanceMark = read(store, partition, &keys::rebalance_mark()).await?;
        let before = state.shown();
        // Held once more, where it was cut off or is of a store that was held already, the lost time began no later.
        let last_sequence = state.restored.map_or(ledger.sequence, |restored| restored.last_sequence);
        state.paused = Some(reconcile::also(state.paused.as_deref(), WHY));
        state.restored = Some(Restored { at, last_sequence, agreed_height: None });
        for number in [&mut state.version, &mut ledger.sequence, &mut ledger.version, &mut mark.run] {
            *number = number.saturating_add(SKIPPED);
        }
        batch.put(keys::pool_state(), state.encode());
        batch.put(keys::ledger(), ledger.encode());
        batch.put(keys::rebalance_mark(), mark.encode());
        let note = Note::of(format!("pools/{}", pool.id), format!("restored from a backup, and held. {reason}"));
        let head = store.get(partition, &keys::audit_head()).await?;
        let act = by(caller.clone(), note.changed(before, state.shown()));
        append(&mut batch, &Log::Pool(pool.id.clone()), head, at, vec![act])?;
        store.commit(vec![batch]).await?;
    }
    let summary =
        format!("restored from a backup; the fence is lifted, and its pools are held ({}). {reason}", pools.len());
    write_down(store, caller.clone(), at, Note::of("", summary).changed("FENCED", "OPEN")).await?;
    Ok(pools.len())
}

async fn read<R: Record + Default>(store: &dyn Store, partition: PartitionId, key: &[u8]) -> Result<R, AppError> {
    let bytes = store.get(partition, key).await?;
    Ok(bytes.as_deref().map(R::decode).transpose()?.unwrap_or_default())
}

/// Whether nothing is done for the pool before a person says so.
pub(super) async fn held(app: &App, pool: &Pool) -> Result<bool, AppError> {
    let held = app.pool_state(pool).await?.restored.is_some();
    #[cfg(feature = "seeded-bugs")]
    let held = held && !crate::seeded::on(crate::seeded::Bug::RestoredActs);
    Ok(held)
}

/// Refuses what a held pool does not do.
pub(super) async fn check(app: &App, pool: &Pool) -> Result<(), AppError> {
    match held(app, pool).await? {
        true => Err(refused(pool, "Reconcile it until ledger and chain agree, and ResumePool first")),
        false => Ok(()),
    }
}

/// Refuses to resume a pool whose books were not found equal to the chain since its store was restored.
pub fn may_resume(pool: &Pool, state: &PoolState) -> Result<(), AppError> {
    match state.restored {
        Some(Restored { agreed_height: None, .. }) => Err(refused(
            pool,
            "ledger and chain were not found equal since; Reconcile, AcceptDifferences where something stays apart, and \
             resume it then",
        )),
        _ => Ok(()),
    }
}

fn refused(pool: &Pool, what: &str) -> AppError {
    AppError::refused(Reason::PoolRestored, format!("pool {} was restored from a backup: {what}", pool.id()))
}

/// Keeps within a change what a comparison came to: the height at which ledger and chain are equal, or that they are not.
pub(super) async fn compared(change: &mut Change<'_>, agreed: Option<u64>) -> Result<(), AppError> {
    let Some(mut state) = change.read::<PoolState>(&keys::pool_state()).await? else { return Ok(()) };
    let Some(restored) = &mut state.restored else { return Ok(()) };
    if restored.agreed_height.is_some() != agreed.is_some() {
        restored.agreed_height = agreed;
        state.version += 1;
        change.put(keys::pool_state(), &state);
    }
    Ok(())
}

/// The transfer that an effect names and a restored store does not know, where its id is one that was given out between the
/// backup and the loss. It is kept once the effect is booked.
pub(super) async fn asked_after(change: &Change<'_>, effect: &Effect) -> Result<Option<TransferRecord>, AppError> {
    let (direction, id, amount) = match &effect.kind {
        EffectKind::TransferIn { transfer: Some(id), amount } => (Direction::Fund, id, *amount),
        EffectKind::TransferOut { transfer: Some(id), amount } => (Direction::Defund, id, *amount),
        _ => return Ok(None),
    };
    let Some(state) = change.read::<PoolState>(&keys::pool_state()).await? else { return Ok(None) };
    let Some(restored) = state.restored else { return Ok(None) };
    let lost = restored.last_sequence.saturating_add(1)..change.sequence();
    let Some(sequence) = transfer::sequence_of(direction, id).filter(|sequence| lost.contains(sequence)) else {
        return Ok(None);
    };
    Ok(Some(TransferRecord {
        transfer: Transfer::new(id.clone(), direction, Purpose::Principal, None, amount),
        sequence,
        created_at: effect.at,
        updated_at: effect.at,
        custody_reference: String::new(),
        reason: "asked for after the backup that was restored; the chain shows it".to_owned(),
        changed: 0,
        transactions: Vec::new(),
    }))
}

/// Keeps such a transfer in its place among the others, and tells of it: what it was for, the chain does not say.
pub(super) async fn take_in(
    pool: &Pool,
    change: &mut Change<'_>,
    record: &TransferRecord,
    effect: &Effect,
) -> Result<(), AppError> {
    let id = &record.transfer.id;
    change.put_bytes(keys::transfer_by_sequence(record.sequence), id.as_str().as_bytes());
    let Effect { key, height, .. } = effect;
    let reason = format!(
        "effect {key} at height {height} is of {id}, which was asked for after the backup: it is booked as principal, and \
         custody's word on it is taken once more"
    );
    reconcile::pause_in(pool, change, &reason).await
}

#[cfg(test)]
#[path = "restored_tests.rs"]
mod tests;
