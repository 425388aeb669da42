//! Operations: driven from planned to final, one transaction at a time per chain.
//!
//! Intent is durable before a transaction is sent: the exact signed bytes, their id, nonce and expiry. What the chain
//! does not answer is UNKNOWN and asked again by the operation's id; only identical bytes are ever sent twice, and new
//! ones are built only after proof that the old ones are dead. The table is `domain::operation::transition`.

mod operator;
mod settle;

use crate::chain::{Assembled, ChainError, Signed};
use crate::domain::amount::BaseUnits;
use crate::domain::booking;
use crate::domain::ids::{OperationId, ValidatorId};
use crate::domain::ledger::AssetAccount;
use crate::domain::operation::{OperationAction, OperationBounds, OperationEvent, OperationKind, OperationState};
use crate::domain::signing::{self, SigningBounds, SigningBreach};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::{KeptTransaction, LedgerRecord, OperationRecord, ValidatorChoice};

use super::control::Change;
use super::metrics::PoolName;
use super::{App, AppError, Chain, Pool, Reason, Work};
#[cfg(feature = "seeded-bugs")]
use crate::seeded::{self, Bug};

use self::settle::{Finding, learn, settle, signed};

/// How many operations one step drives.
const PER_STEP: usize = 64;

/// Adds a new operation to `change`, with what it keeps in flight.
pub(super) fn plan(
    change: &mut Change<'_>,
    id: OperationId,
    kind: OperationKind,
    reason: &str,
) -> Result<(), AppError> {
    let entry = booking::plan(&id, &kind).map_err(|error| AppError::Broken(format!("{id}: {error}")))?;
    change.post(&entry, change.at())?;
    let now = change.at();
    let sequence = change.next_sequence();
    let record = OperationRecord {
        sequence,
        in_flight: booking::reservation(&kind),
        kind,
        state: OperationState::Planned,
        reason: reason.to_owned(),
        attempts: 0,
        created_at: now,
        since: now,
        updated_at: now,
        next_attempt_at: now,
        settled: BaseUnits::ZERO,
        fee: BaseUnits::ZERO,
        last_error: String::new(),
        signed: None,
        height: None,
        failures: 0,
        word: None,
        moved_in: None,
        id,
    };
    change.put_new(keys::operation(&record.id), &record);
    change.put_bytes(keys::open_operation(&record.id), &[]);
    change.put_bytes(keys::operation_by_sequence(sequence), record.id.as_str().as_bytes());
    Ok(())
}

/// Drives every open operation of `pool` that is due at `now`.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mut due: Vec<OperationRecord> = app.open_operations(pool).await?;
    show(app, pool, &due, now);
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::on(crate::seeded::Bug::FailureStopsTheRest) {
        let failing = due.iter().position(|operation| operation.failures > 0);
        due.truncate(failing.map_or(due.len(), |failing| failing + 1));
    }
    due.retain(|operation| operation.next_attempt_at <= now && !waits_for_operator(operation));
    if due.is_empty() {
        return Ok(Work::Idle);
    }
    let mut work = Work::Idle;
    let mut failed = None;
    for operation in due.into_iter().take(PER_STEP) {
        let span = tracing::info_span!("operation", pool = %pool.id(), operation_id = %operation.id);
        let driven = tracing::Instrument::instrument(drive(app, pool, operation, now), span).await;
        // One that can't be driven keeps none of the others waiting: an exit may stand behind it.
        match driven {
            Ok(driven) => work = work.and(driven),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(work), Err)
}

/// Why an operation that would move tokens out of the pool's hands may not be sent now, if so: the pool is paused, or
/// stake was slashed and ledger and chain have not agreed since.
pub(super) async fn held_back(app: &App, pool: &Pool, kind: &OperationKind) -> Result<Option<&'static str>, AppError> {
    let outflow = !kind.is_exit() || matches!(kind, OperationKind::SendToCustody { .. });
    let paused = outflow && app.pool_state(pool).await?.paused.is_some();
    #[cfg(feature = "seeded-bugs")]
    let paused = paused && !crate::seeded::on(crate::seeded::Bug::PausedSends);
    if paused {
        return Ok(Some("the pool was paused before it was sent"));
    }
    if let OperationKind::Delegate { validator, .. } | OperationKind::Redelegate { to: validator, .. } = kind
        && !is_chosen(&app.validator_choices(pool).await?, validator)
    {
        return Ok(Some("its validator was taken off the pool's list before it was sent"));
    }
    if !kind.is_exit() && !app.chain_mark(pool).await?.settled() {
        return Ok(Some(
            "stake was slashed before it was sent; nothing is delegated until ledger and chain agree again",
        ));
    }
    Ok(None)
}

/// Whether stake may go to `validator`: where operators chose some, to those alone, as the allocation has it.
fn is_chosen(choices: &[ValidatorChoice], validator: &ValidatorId) -> bool {
    let weight = |choice: &ValidatorChoice| if choice.removed { 0 } else { choice.weight };
    match choices.iter().find(|choice| choice.id == *validator) {
        Some(choice) => weight(choice) > 0,
        None => choices.iter().all(|choice| choice.removed),
    }
}

/// Nothing can be asked of one without bytes: it takes no place among those that are visited.
fn waits_for_operator(operation: &OperationRecord) -> bool {
    operation.state == OperationState::NeedsOperator && operation.signed.is_none()
}

/// Shows how many of the open operations are late, and how many need a person.
fn show(app: &App, pool: &Pool, open: &[OperationRecord], now: UnixSeconds) {
    let label = PoolName { pool: pool.id().to_string() };
    let count = |wanted: &dyn Fn(&OperationRecord) -> bool| {
        i64::try_from(open.iter().filter(|operation| wanted(operation)).count()).unwrap_or(i64::MAX)
    };
    let overdue = |operation: &OperationRecord| {
        !operation.state.ended() && bounds(app, pool, &operation.kind).age(operation.since, now).overdue
    };
    app.metrics.operations_overdue.get_or_create(&label).set(count(&overdue));
    let stuck = |operation: &OperationRecord| operation.state == OperationState::NeedsOperator;
    app.metrics.operations_needing_operator.get_or_create(&label).set(count(&stuck));
}

/// The bounds of trying on a chain: what is expected of a kind, and when a person is asked.
pub(super) fn bounds(app: &App, pool: &Pool, kind: &OperationKind) -> OperationBounds {
    let expected_seconds = kind.expected_seconds(pool.chain.descriptor.pace);
    OperationBounds {
        max_attempts: app.settings.max_attempts,
        expected_seconds,
        max_seconds: app.settings.max_operation_seconds,
    }
}

/// One visit: asks or tells the chain what the state calls for, and commits what was learnt.
async fn drive(app: &App, pool: &Pool, mut operation: OperationRecord, now: UnixSeconds) -> Result<Work, AppError> {
    let bounds = bounds(app, pool, &operation.kind);
    let exhausted = bounds.exhausted(operation.attempts, bounds.age(operation.since, now));
    #[cfg(feature = "seeded-bugs")]
    let exhausted = exhausted.filter(|_| !crate::seeded::on(crate::seeded::Bug::NeverGivesUp));
    let finding = match (operation.state, &operation.signed) {
        (OperationState::Confirmed, _) => return operator::await_effects(app, pool, &operation, now).await,
        (OperationState::Failed, _) => return Ok(Work::Idle),
        // What flows out and was not sent before a pause is given up: after it, the need may be another.
        (OperationState::Planned, _) => match (held_back(app, pool, &operation.kind).await?, exhausted) {
            (Some(why), _) => Finding::with(OperationEvent::SubmitRefused, why),
            (None, Some(event)) => Finding::with(event, &operation.last_error),
            (None, None) => return build(app, pool, operation, now).await,
        },
        // Found after a restart: whether the bytes were sent, nobody knows.
        (OperationState::Submitting, _) => Finding::with(OperationEvent::SubmitLost, "cut off while it was sent"),
        (_, None) => return Ok(Work::Idle),
        (_, Some(kept)) => {
            let found = learn(app, pool, &operation, kept, now).await?;
            match exhausted {
                Some(event) if gives_up(operation.state, event, found.event) => Finding::with(event, found.error),
                _ => found,
            }
        }
    };
    let (state, action) = (operation.state, settle(app, pool, &mut operation, finding, now).await?);
    if action == OperationAction::Submit {
        // What may have been sent before a pause is looked up until its bytes are dead, and not sent once more.
        return match held_back(app, pool, &operation.kind).await? {
            Some(_) => Ok(Work::Idle),
            None => resend(app, pool, operation, now).await,
        };
    }
    let moved = operation.state != state || action == OperationAction::Lookup;
    Ok(if moved { Work::Done } else { Work::Idle })
}

/// Whether trying ends for a bound, after what the chain said. What it proves to be final goes first; and attempts are used
/// up only where another one would be made: what it has pending is waited for until the time is up.
const fn gives_up(state: OperationState, bound: OperationEvent, found: OperationEvent) -> bool {
    use OperationEvent as E;
    match (state, found) {
        (OperationState::NeedsOperator, _) | (_, E::LookupDone | E::LookupFailed) => false,
        (_, E::LookupPending | E::LookupUnavailable) => matches!(bound, E::TimeExhausted),
        _ => true,
    }
}

/// What the fee of one more transaction lacks, if it does: what is in flight belongs to other operations, and those that
/// may still take effect pay fees of their own.
async fn fee_short(app: &App, pool: &Pool) -> Result<Option<BaseUnits>, AppError> {
    let estimate = pool.chain.descriptor.fee_estimate;
    let open = app.open_operations(pool).await?;
    let alive = open.iter().filter(|operation| operation.signed.is_some() && !operation.state.ended()).count();
    let due = estimate.mul_div_floor(alive as u128 + 1, 1).map_err(|error| AppError::Broken(error.to_string()))?;
    let record: Option<LedgerRecord> = app.read(pool.control(), &keys::ledger()).await?;
    let liquid = record.unwrap_or_default().ledger.balance(&AssetAccount::Liquid.into()).positive_part();
    Ok(Some(due.saturating_sub(liquid)).filter(|short| !short.is_zero()))
}

/// Builds and signs the transaction of a planned operation, makes it durable, then sends it. One whose fee can't be paid
/// waits until it can.
async fn build(app: &App, pool: &Pool, mut operation: OperationRecord, now: UnixSeconds) -> Result<Work, AppError> {
    if let Some(short) = fee_short(app, pool).await? {
        let why = format!("its fee can't be paid: {short} base units are missing at the staking address");
        settle(app, pool, &mut operation, Finding::with(OperationEvent::LookupUnavailable, why), now).await?;
        return Ok(Work::Idle);
    }
    let signed = match sign(app, pool, &operation).await {
        Ok(signed) => signed,
        Err(AppError::Chain(ChainError::Refused(reason))) => {
            // Nothing was sent, and nothing will be: the tokens are free again.
            settle(app, pool, &mut operation, Finding::with(OperationEvent::SubmitRefused, reason), now).await?;
            return Ok(Work::Done);
        }
        Err(AppError::Chain(error)) => {
            let finding = Finding::unanswered(OperationEvent::LookupUnavailable, &error);
            settle(app, pool, &mut operation, finding, now).await?;
            return Ok(Work::Idle);
        }
        Err(error) => return Err(error),
    };
    let Signed { bytes, transaction, lifetime } = signed;
    operation.signed = Some(KeptTransaction { bytes, transaction, lifetime });
    operation.attempts += 1;
    let action = settle(app, pool, &mut operation, Finding::of(OperationEvent::IntentStored), now).await?;
    if action != OperationAction::Submit {
        return Ok(Work::Done);
    }
    resend(app, pool, operation, now).await
}

/// Prepares and signs, and checks before and after that the bytes do what was asked and nothing else.
async fn sign(app: &App, pool: &Pool, operation: &OperationRecord) -> Result<Signed, AppError> {
    let Chain { adapter, signer, descriptor, max_fee } = &pool.chain;
    let custody_address = app.pool_state(pool).await?.settings.reserve.custody_address;
    let bounds = SigningBounds {
        staking_address: &descriptor.staking_address,
        custody_address: &custody_address,
        max_fee: *max_fee,
    };
    let breach = |breach: SigningBreach| ChainError::Untrusted(breach.to_string());
    let unsigned = adapter.prepare(&operation.id, &operation.kind).await?;
    let checked = signing::check_unsigned(&operation.kind, &unsigned.says, &bounds);
    #[cfg(feature = "seeded-bugs")]
    let checked = checked.or_else(|breach| if seeded::on(Bug::SignsUnread) { Ok(()) } else { Err(breach) });
    checked.map_err(breach)?;
    let signature = signer.sign(&operation.id, &unsigned).await?;
    let Assembled { signed, says } = adapter.assemble(&operation.id, &unsigned, &signature).await?;
    signing::check_signed(&unsigned.says, &says).map_err(breach)?;
    if signed.lifetime != says.lifetime {
        return Err(ChainError::Untrusted("what is to be stored has another lifetime than its bytes".to_owned()).into());
    }
    Ok(signed)
}

/// Sends the stored bytes, which are the only ones that may be sent.
async fn resend(app: &App, pool: &Pool, mut operation: OperationRecord, now: UnixSeconds) -> Result<Work, AppError> {
    let Some(kept) = &operation.signed else { return Ok(Work::Idle) };
    if operation.state != OperationState::Submitting {
        operation.attempts += 1;
    }
    let finding = match pool.chain.adapter.submit(&operation.id, &signed(kept)).await {
        Ok(()) => Finding::of(OperationEvent::SubmitAccepted),
        Err(ChainError::Refused(reason)) => Finding::with(OperationEvent::SubmitRefused, reason),
        Err(error) => Finding::unanswered(OperationEvent::SubmitLost, &error),
    };
    settle(app, pool, &mut operation, finding, now).await?;
    Ok(Work::Done)
}

impl App {
    /// The operations that have not ended, oldest first.
    pub async fn open_operations(&self, pool: &Pool) -> Result<Vec<OperationRecord>, AppError> {
        let mut open = Vec::new();
        for id in self.ids(pool, keys::tag::OPEN_OPERATION, keys::parse_open_operation).await? {
            open.extend(self.read::<OperationRecord>(pool.control(), &keys::operation(&id)).await?);
        }
        open.sort_by_key(|operation| operation.sequence);
        Ok(open)
    }

    /// One operation.
    pub async fn operation(&self, pool: &Pool, id: &OperationId) -> Result<OperationRecord, AppError> {
        let record = self.read(pool.control(), &keys::operation(id)).await?;
        record.ok_or_else(|| {
            AppError::refused(Reason::UnknownOperation, format!("pool {} has no operation {id}", pool.id()))
        })
    }
}

#[cfg(test)]
mod lives;
#[cfg(test)]
#[path = "operate_tests.rs"]
mod tests;
