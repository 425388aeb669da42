//! Operations: driven from planned to final, one transaction at a time per chain.
//!
//! Intent is durable before a transaction is sent: the exact signed bytes, their id, nonce and expiry. What the chain
//! does not answer is UNKNOWN and asked again by the operation's id; only identical bytes are ever sent twice, and new
//! ones are built only after proof that the old ones are dead. The table is `domain::operation::transition`.

use crate::chain::{ChainError, Lookup, Signed};
use crate::domain::amount::BaseUnits;
use crate::domain::booking;
use crate::domain::effect::Effect;
use crate::domain::ids::OperationId;
use crate::domain::operation::{
    OperationAction, OperationBounds, OperationEvent, OperationKind, OperationState, Transition, transition,
};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::{ChainMark, KeptTransaction, OperationRecord};

use super::control::Change;
use super::effects::{self, Booked};
use super::{App, AppError, Once, Pool, Reason, Request, Work, transfer};

/// No retry waits longer than this.
const MAX_RETRY_SECONDS: u64 = 3_600;

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
    due.retain(|operation| operation.next_attempt_at <= now);
    if due.is_empty() {
        return Ok(Work::Idle);
    }
    let paused = app.pool_state(pool).await?.paused.is_some();
    let settled = app.chain_mark(pool).await?.settled();
    let mut work = Work::Idle;
    // What flows out and was not sent before a pause is given up: after it, the need may be another.
    let (given_up, due): (Vec<_>, Vec<_>) = due.into_iter().partition(|operation| {
        let outflow = !operation.kind.is_exit() || matches!(operation.kind, OperationKind::SendToCustody { .. });
        let stakes = matches!(operation.kind, OperationKind::Delegate { .. } | OperationKind::Redelegate { .. });
        operation.state == OperationState::Planned && (paused && outflow || !settled && stakes)
    });
    for mut operation in given_up.into_iter().take(PER_STEP) {
        let why = match paused {
            true => "the pool was paused before it was sent",
            false => "stake was slashed before it was sent; nothing is delegated until ledger and chain agree again",
        };
        let finding = Finding::with(OperationEvent::SubmitRefused, why);
        settle(app, pool, &mut operation, finding, now).await?;
        work = Work::Done;
    }
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

/// The bounds of trying on a chain: what is expected, and when a person is asked.
pub(super) fn bounds(app: &App, pool: &Pool) -> OperationBounds {
    let expected_seconds = pool.chain.descriptor.limits.min_claim_interval_seconds.clamp(60, 600);
    OperationBounds {
        max_attempts: app.settings.max_attempts,
        expected_seconds,
        max_seconds: app.settings.max_operation_seconds,
    }
}

/// What was learnt of an operation in one visit.
struct Finding {
    event: OperationEvent,
    error: String,
    effects: Vec<Effect>,
    height: Option<u64>,
}

impl Finding {
    fn of(event: OperationEvent) -> Self {
        Self { event, error: String::new(), effects: Vec::new(), height: None }
    }

    fn with(event: OperationEvent, error: impl ToString) -> Self {
        Self { error: error.to_string(), ..Self::of(event) }
    }
}

/// One visit: asks or tells the chain what the state calls for, and commits what was learnt.
async fn drive(app: &App, pool: &Pool, mut operation: OperationRecord, now: UnixSeconds) -> Result<Work, AppError> {
    let bounds = bounds(app, pool);
    let exhausted = bounds.exhausted(operation.attempts, bounds.age(operation.since, now));
    let finding = match (operation.state, &operation.signed) {
        (OperationState::Confirmed | OperationState::Failed, _) => return Ok(Work::Idle),
        (OperationState::Planned, _) => match exhausted {
            Some(event) => Finding::of(event),
            None => return build(app, pool, operation, now).await,
        },
        // Found after a restart: whether the bytes were sent, nobody knows.
        (OperationState::Submitting, _) => Finding::with(OperationEvent::SubmitLost, "cut off while it was sent"),
        (_, None) => return Ok(Work::Idle),
        (_, Some(kept)) => {
            let found = look_up(pool, &operation, kept).await;
            match exhausted {
                Some(event) if !matches!(found.event, OperationEvent::LookupDone | OperationEvent::LookupFailed) => {
                    if operation.state == OperationState::NeedsOperator {
                        found
                    } else {
                        Finding::of(event)
                    }
                }
                _ => found,
            }
        }
    };
    let (state, action) = (operation.state, settle(app, pool, &mut operation, finding, now).await?);
    if action == OperationAction::Submit {
        return resend(app, pool, operation, now).await;
    }
    let moved = operation.state != state || action == OperationAction::Lookup;
    Ok(if moved { Work::Done } else { Work::Idle })
}

/// Builds and signs the transaction of a planned operation, makes it durable, then sends it.
async fn build(app: &App, pool: &Pool, mut operation: OperationRecord, now: UnixSeconds) -> Result<Work, AppError> {
    let signed = match sign(pool, &operation).await {
        Ok(signed) => signed,
        Err(ChainError::Refused(reason)) => {
            // Nothing was sent, and nothing will be: the tokens are free again.
            settle(app, pool, &mut operation, Finding::with(OperationEvent::SubmitRefused, reason), now).await?;
            return Ok(Work::Done);
        }
        Err(error) => {
            settle(app, pool, &mut operation, Finding::with(OperationEvent::LookupUnavailable, error), now).await?;
            return Ok(Work::Idle);
        }
    };
    operation.signed = Some(KeptTransaction {
        bytes: signed.bytes,
        transaction: signed.transaction,
        nonce: signed.nonce,
        expires_at: signed.expires_at,
    });
    operation.attempts += 1;
    let action = settle(app, pool, &mut operation, Finding::of(OperationEvent::IntentStored), now).await?;
    if action != OperationAction::Submit {
        return Ok(Work::Done);
    }
    resend(app, pool, operation, now).await
}

/// Prepares and signs, and checks before and after that the bytes do what was asked and nothing else.
async fn sign(pool: &Pool, operation: &OperationRecord) -> Result<Signed, ChainError> {
    let unsigned = pool.chain.adapter.prepare(&operation.id, &operation.kind).await?;
    if unsigned.intent != operation.kind {
        let message = format!("asked for {:?}, the bytes say {:?}", operation.kind, unsigned.intent);
        return Err(ChainError::Untrusted(message));
    }
    let signed = pool.chain.signer.sign(&operation.id, &unsigned).await?;
    if signed.nonce != unsigned.nonce || signed.expires_at != unsigned.expires_at {
        return Err(ChainError::Untrusted("the signer changed the nonce or the expiry".to_owned()));
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
        Err(error) => Finding::with(OperationEvent::SubmitLost, error),
    };
    settle(app, pool, &mut operation, finding, now).await?;
    Ok(Work::Done)
}

fn signed(kept: &KeptTransaction) -> Signed {
    Signed {
        bytes: kept.bytes.clone(),
        transaction: kept.transaction.clone(),
        nonce: kept.nonce,
        expires_at: kept.expires_at,
    }
}

async fn look_up(pool: &Pool, operation: &OperationRecord, kept: &KeptTransaction) -> Finding {
    match pool.chain.adapter.lookup(&operation.id, &signed(kept)).await {
        Err(error) => Finding::with(OperationEvent::LookupUnavailable, error),
        Ok(Lookup::AbsentForGood) => Finding::of(OperationEvent::LookupAbsentForGood),
        Ok(Lookup::Absent) => Finding::of(OperationEvent::LookupAbsent),
        Ok(Lookup::Pending) => Finding::of(OperationEvent::LookupPending),
        Ok(Lookup::Done { height, effects }) => {
            Finding { effects, height: Some(height), ..Finding::of(OperationEvent::LookupDone) }
        }
        Ok(Lookup::Failed { height, reason, effects }) => {
            Finding { effects, height: Some(height), ..Finding::with(OperationEvent::LookupFailed, reason) }
        }
    }
}

/// Commits what was learnt: the next state, the effects, what is given back. `operation` is then what is stored.
///
/// `operation` was read before the chain was asked, and meanwhile an operator may have retried it, or a reconciliation
/// booked its effects. What those have stored counts: a decision on another state is dropped, and the next visit decides
/// anew.
async fn settle(
    app: &App,
    pool: &Pool,
    operation: &mut OperationRecord,
    finding: Finding,
    now: UnixSeconds,
) -> Result<OperationAction, AppError> {
    let Transition { state, action } = transition(operation.state, finding.event)
        .map_err(|refusal| AppError::Broken(format!("{} in {:?}: {refusal}", operation.id, operation.state)))?;
    let mut change = Change::begin(app, pool, now).await?;
    let stored: Option<OperationRecord> = change.read(&keys::operation(&operation.id)).await?;
    let stored = stored.ok_or_else(|| AppError::Broken(format!("operation {} is missing", operation.id)))?;
    if stored.state != operation.state {
        *operation = stored;
        return Ok(OperationAction::Nothing);
    }
    (operation.in_flight, operation.settled, operation.fee) = (stored.in_flight, stored.settled, stored.fee);
    change.put(keys::operation(&operation.id), operation);
    if action == OperationAction::Book {
        for effect in &finding.effects {
            if let Booked::Stop(reason) = effects::book(app, pool, &mut change, effect).await? {
                return Err(AppError::Broken(reason));
            }
        }
        if let Some(booked) = change.read(&keys::operation(&operation.id)).await? {
            *operation = booked;
        }
        let mut mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
        mark.seen_height = mark.seen_height.max(finding.height.unwrap_or(0));
        change.put(keys::chain_mark(), &mark);
    }
    if state == OperationState::Planned {
        operation.signed = None;
    }
    if state.ended() {
        let entry = booking::release(&operation.id, operation.in_flight)
            .map_err(|error| AppError::Broken(format!("{}: {error}", operation.id)))?;
        change.post(&entry, now)?;
        operation.in_flight = BaseUnits::ZERO;
        change.delete(keys::open_operation(&operation.id));
    }
    if state == OperationState::Failed
        && let OperationKind::SendToCustody { transfer, .. } = &operation.kind
    {
        transfer::operation_failed(&mut change, transfer).await?;
    }
    if state != operation.state {
        announce(app, operation, state, &finding);
    }
    operation.state = state;
    operation.updated_at = now;
    operation.height = finding.height.or(operation.height);
    operation.last_error = finding.error;
    operation.next_attempt_at = next_attempt(app, operation, now);
    change.put(keys::operation(&operation.id), operation);
    change.commit().await?;
    Ok(action)
}

fn announce(app: &App, operation: &OperationRecord, state: OperationState, finding: &Finding) {
    let (from, to, event) = (operation.state.name(), state.name(), finding.event.name());
    if matches!(state, OperationState::NeedsOperator | OperationState::Failed) {
        tracing::warn!(operation_id = %operation.id, from, to, event, error = %finding.error, "operation");
    } else {
        tracing::info!(operation_id = %operation.id, from, to, event, "operation");
    }
    if state == OperationState::NeedsOperator {
        app.metrics.operations_stuck.inc();
    }
}

/// When an operation is looked at again: soon while the chain has it, later and later while something fails.
fn next_attempt(app: &App, operation: &OperationRecord, now: UnixSeconds) -> UnixSeconds {
    let base = app.settings.retry_base_seconds.max(1);
    let wait = match operation.state {
        OperationState::Submitted if operation.last_error.is_empty() => 1,
        OperationState::NeedsOperator => MAX_RETRY_SECONDS,
        _ if operation.last_error.is_empty() => 0,
        _ => base.saturating_mul(1 << operation.attempts.min(12)).min(MAX_RETRY_SECONDS),
    };
    now.plus(i64::try_from(wait).unwrap_or(i64::MAX))
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

    /// Lets an operation that needs an operator be tried again, once. The chain is asked before anything is sent.
    pub async fn retry_operation(&self, request: &Request, pool: &Pool, id: &OperationId) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            let mut operation = self.operation(pool, id).await?;
            let event = OperationEvent::OperatorRetry { bytes_stored: operation.signed.is_some() };
            let Transition { state, .. } = transition(operation.state, event).map_err(|refusal| {
                let message = format!("operation {id} is {}: {refusal}", operation.state.name());
                AppError::refused(Reason::WrongState, message)
            })?;
            operation.state = state;
            operation.attempts = 0;
            operation.since = change.at();
            operation.updated_at = change.at();
            operation.next_attempt_at = change.at();
            change.put(keys::operation(id), &operation);
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
#[path = "operate_tests.rs"]
mod tests;
