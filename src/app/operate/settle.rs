//! What a visit learnt, committed: the next state, the effects, what is given back, and when the next visit is.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::app::control::Change;
use crate::app::effects;
use crate::app::operate::held_back;
use crate::app::{App, AppError, Pool, reconcile, transfer};
use crate::chain::{ChainError, Lookup, Signed};
use crate::domain::amount::BaseUnits;
use crate::domain::booking;
use crate::domain::effect::Effect;
use crate::domain::operation::{
    OperationAction, OperationEvent, OperationKind, OperationState, Transition, transition,
};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::{ChainMark, KeptTransaction, OperationRecord};

/// No pause is longer than this; an operation that needs an operator is looked up as often, for the chain may prove it.
pub(super) const MAX_RETRY_SECONDS: u64 = 3_600;

/// Past so many doublings every pause is the longest one.
const MAX_DOUBLINGS: u32 = 12;

/// What was learnt of an operation in one visit.
pub(super) struct Finding {
    pub(super) event: OperationEvent,
    pub(super) error: String,
    pub(super) effects: Vec<Effect>,
    pub(super) height: Option<u64>,
    /// Whether who answered can't be trusted: the pool is paused in the same commit.
    pub(super) untrusted: bool,
}

impl Finding {
    pub(super) fn of(event: OperationEvent) -> Self {
        Self { event, error: String::new(), effects: Vec::new(), height: None, untrusted: false }
    }

    /// What an error of a chain or a signer comes to where it is no proof of anything.
    pub(super) fn unanswered(event: OperationEvent, error: &ChainError) -> Self {
        Self { untrusted: matches!(error, ChainError::Untrusted(_)), ..Self::with(event, error) }
    }

    pub(super) fn with(event: OperationEvent, error: impl ToString) -> Self {
        Self { error: error.to_string(), ..Self::of(event) }
    }
}

pub(super) fn signed(kept: &KeptTransaction) -> Signed {
    Signed { bytes: kept.bytes.clone(), transaction: kept.transaction.clone(), lifetime: kept.lifetime }
}

/// What the chain says of an operation and the bytes last signed for it.
pub(super) async fn look_up(pool: &Pool, operation: &OperationRecord, kept: &KeptTransaction) -> Finding {
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::on(crate::seeded::Bug::TimeoutIsAbsence) && operation.state == OperationState::Unknown {
        return Finding::of(OperationEvent::LookupAbsentForGood);
    }
    match pool.chain.adapter.lookup(&operation.id, &signed(kept)).await {
        #[cfg(feature = "seeded-bugs")]
        Ok(Lookup::Pending) if crate::seeded::on(crate::seeded::Bug::ConfirmsPending) => {
            Finding::of(OperationEvent::LookupDone)
        }
        Err(error) => Finding::unanswered(OperationEvent::LookupUnavailable, &error),
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

/// The same, once everything that the chain did until then is booked: effects are booked in the chain's order alone. Where
/// that can't be asked for, nothing was learnt.
pub(super) async fn learn(
    app: &App,
    pool: &Pool,
    operation: &OperationRecord,
    kept: &KeptTransaction,
    now: UnixSeconds,
) -> Result<Finding, AppError> {
    let found = look_up(pool, operation, kept).await;
    let Some(height) = found.height else { return Ok(found) };
    match effects::book_before(app, pool, &operation.id, height, now).await {
        Ok(()) => Ok(found),
        Err(AppError::Chain(error)) => Ok(Finding::unanswered(OperationEvent::LookupUnavailable, &error)),
        Err(error) => Err(error),
    }
}

/// Commits what was learnt: the next state, the effects, what is given back. `operation` is then what is stored.
///
/// `operation` was read before the chain was asked, and meanwhile an operator may have retried or resolved it, or a
/// reconciliation booked its effects. What those have stored counts: a decision on another state is dropped, and the
/// next visit decides anew.
pub(super) async fn settle(
    app: &App,
    pool: &Pool,
    operation: &mut OperationRecord,
    mut finding: Finding,
    now: UnixSeconds,
) -> Result<OperationAction, AppError> {
    let mut change = Change::begin(app, pool, now).await?;
    let stored: Option<OperationRecord> = change.read(&keys::operation(&operation.id)).await?;
    let stored = stored.ok_or_else(|| AppError::Broken(format!("operation {} is missing", operation.id)))?;
    if stored.state != operation.state {
        *operation = stored;
        return Ok(OperationAction::Nothing);
    }
    // The pool may have been paused while it was signed: from this commit on it is sent, so the question is asked in it.
    if finding.event == OperationEvent::IntentStored
        && let Some(why) = held_back(app, pool, &operation.kind).await?
    {
        operation.signed = None;
        finding = Finding::with(OperationEvent::SubmitRefused, why);
    }
    let Transition { state, action } = transition(operation.state, finding.event)
        .map_err(|refusal| AppError::Broken(format!("{} in {:?}: {refusal}", operation.id, operation.state)))?;
    app.metrics.operation_met(operation.state, finding.event);
    (operation.in_flight, operation.settled, operation.fee) = (stored.in_flight, stored.settled, stored.fee);
    change.put(keys::operation(&operation.id), operation);
    if action == OperationAction::Book {
        for effect in &finding.effects {
            effects::book(app, pool, &mut change, effect).await?;
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
    if state != operation.state {
        announce(app, operation, state, &finding);
    }
    operation.state = state;
    operation.updated_at = now;
    operation.height = finding.height.or(operation.height);
    operation.failures = match finding.event {
        _ if !finding.error.is_empty() => operation.failures.saturating_add(1),
        OperationEvent::SubmitAccepted | OperationEvent::LookupPending => 0,
        _ => operation.failures,
    };
    operation.last_error = finding.error;
    operation.next_attempt_at = next_attempt(app, operation, now);
    if state.ended() {
        end(&mut change, operation).await?;
    }
    if finding.untrusted {
        let reason =
            format!("operation {}: {}; find out who lies before ResumePool", operation.id, operation.last_error);
        reconcile::pause_once_in(pool, &mut change, &reason).await?;
    }
    change.put(keys::operation(&operation.id), operation);
    change.commit().await?;
    Ok(action)
}

/// Ends an operation whose effects are all booked: what is left in flight is liquid again, what was not done is said,
/// and a transfer that it leaves short ends. The next run plans the rest anew, where it is still wanted.
pub(super) async fn end(change: &mut Change<'_>, operation: &mut OperationRecord) -> Result<(), AppError> {
    let entry = booking::release(&operation.id, operation.in_flight)
        .map_err(|error| AppError::Broken(format!("{}: {error}", operation.id)))?;
    change.post(&entry, change.at())?;
    operation.in_flight = BaseUnits::ZERO;
    change.delete(keys::open_operation(&operation.id));
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::on(crate::seeded::Bug::OpenKeyStays) {
        change.put_bytes(keys::open_operation(&operation.id), &[]);
    }
    let short = operation.kind.shortfall(operation.settled);
    if short.is_zero() {
        return Ok(());
    }
    if operation.state == OperationState::Confirmed {
        if operation.last_error.is_empty() {
            let settled = operation.settled;
            operation.last_error =
                format!("the chain moved {settled} base units, {short} less than was asked for; no more will come");
        }
        change.metrics().operations_short.inc();
        tracing::warn!(operation_id = %operation.id, shortfall_base_units = %short,
            settled_base_units = %operation.settled, "an operation ended short");
    }
    if let OperationKind::SendToCustody { transfer, .. } = &operation.kind {
        transfer::operation_ended_short(change, transfer).await?;
    }
    Ok(())
}

fn announce(app: &App, operation: &OperationRecord, state: OperationState, finding: &Finding) {
    let (from, to, event) = (operation.state.name(), state.name(), finding.event.name());
    match state {
        OperationState::NeedsOperator => {
            let error = if finding.error.is_empty() { &operation.last_error } else { &finding.error };
            let transaction = operation.signed.as_ref().map(|kept| kept.transaction.to_string()).unwrap_or_default();
            tracing::error!(operation_id = %operation.id, from, to, event, transaction, attempts = operation.attempts,
                error, "an operation needs an operator: look the transaction up on the chain; ResolveOperation if it was \
                done or never will be, else mend the cause and RetryOperation");
            app.metrics.operations_stuck.inc();
        }
        OperationState::Failed => {
            tracing::warn!(operation_id = %operation.id, from, to, event, error = %finding.error, "operation");
        }
        _ => tracing::info!(operation_id = %operation.id, from, to, event, "operation"),
    }
}

/// When an operation is looked at again: soon while the chain has it, later and later while something fails.
fn next_attempt(app: &App, operation: &OperationRecord, now: UnixSeconds) -> UnixSeconds {
    // Sent for the first time, it has been tried once.
    let tries = operation.failures.max(operation.attempts.saturating_sub(1));
    let wait = match (operation.state, tries) {
        (OperationState::NeedsOperator, _) => MAX_RETRY_SECONDS,
        (OperationState::Submitted, 0) => 1,
        (_, 0) => 0,
        (_, tries) => backoff_seconds(app.settings.retry_base_seconds, tries),
    };
    now.plus(i64::try_from(wait).unwrap_or(i64::MAX))
}

/// The pause after failure number `tries`, which counts from 1: doubled from `base_seconds` on, at most
/// [`MAX_RETRY_SECONDS`]. No chance is in it, so that a run is repeated exactly.
pub(super) fn backoff_seconds(base_seconds: u64, tries: u32) -> u64 {
    let longest = Duration::from_secs(MAX_RETRY_SECONDS);
    let mut pauses = ExponentialBuilder::default()
        .with_factor(2.0)
        .with_min_delay(Duration::from_secs(base_seconds.clamp(1, MAX_RETRY_SECONDS)))
        .with_max_delay(longest)
        .without_max_times()
        .build();
    let nth = tries.saturating_sub(1).min(MAX_DOUBLINGS);
    pauses.nth(nth as usize).unwrap_or(longest).as_secs()
}
