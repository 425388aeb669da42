//! What operators say of an operation that needs one: try again, or this is what became of it.

use crate::app::control::Change;
use crate::app::reconcile;
use crate::app::restored;
use crate::app::{App, AppError, Once, Pool, Reason, Request, Work};
use crate::domain::approval::{AtStake, Proposal};
use crate::domain::audit_log::Note;
use crate::domain::ids::OperationId;
use crate::domain::operation::{
    OperationAction, OperationEvent, OperationRefusal, OperationState, Resolution, Transition, transition,
};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::{ChainMark, OperationRecord, OperatorWord};

use super::settle::{end, learn, look_up, settle};

/// How often an operation that an operator said was done is compared with the books, in seconds.
const COMPARE_SECONDS: i64 = 60;

fn resource(pool: &Pool, id: &OperationId) -> String {
    format!("pools/{}/operations/{id}", pool.id())
}

/// What a word on an operation is about, for whoever approves it: tried again, it is another attempt with other evidence.
fn basis(operation: &OperationRecord) -> String {
    let asked = operation.kind.asked().map(|asked| format!(" of {asked} base units"));
    let signed = operation.signed.as_ref().map(|kept| format!(", signed as {}", kept.transaction));
    format!(
        "this {}{}, {} since {} (Unix seconds){}",
        operation.kind.name(),
        asked.unwrap_or_default(),
        operation.state.name(),
        operation.since,
        signed.unwrap_or_default()
    )
}

/// Where an operation stands for an operator's word.
fn stands(operation: &OperationRecord, held: bool) -> OperationState {
    if held && !operation.state.ended() { OperationState::NeedsOperator } else { operation.state }
}

/// What is written down of an operator's word on an operation that comes to `after`.
fn note(pool: &Pool, operation: &OperationRecord, summary: &str, after: OperationState) -> Note {
    let note = Note::of(resource(pool, &operation.id), summary);
    note.changed(operation.state.name(), after.name())
}

fn wrong_state(operation: &OperationRecord, why: impl std::fmt::Display) -> AppError {
    let message = format!("operation {} is {}: {why}", operation.id, operation.state.name());
    AppError::refused(Reason::WrongState, message)
}

impl App {
    /// Lets an operation that needs an operator be tried again, once. The chain is asked before anything is sent.
    pub async fn retry_operation(&self, request: &Request, pool: &Pool, id: &OperationId) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            let mut operation = self.operation(pool, id).await?;
            let event = OperationEvent::OperatorRetry { bytes_stored: operation.signed.is_some() };
            let next = transition(operation.state, event).map_err(|refusal| wrong_state(&operation, refusal))?;
            if next.action == OperationAction::Rebuild && !operation.settled.is_zero() {
                let moved = operation.settled;
                let why = format!("the chain has moved {moved} base units for it; ResolveOperation as DONE");
                return Err(wrong_state(&operation, why));
            }
            self.metrics.operation_met(operation.state, event);
            let note = note(pool, &operation, "to be tried again", next.state);
            operation.state = next.state;
            (operation.attempts, operation.failures) = (0, 0);
            operation.since = change.at();
            operation.updated_at = change.at();
            operation.next_attempt_at = change.at();
            change.put(keys::operation(id), &operation);
            Ok(note)
        })
        .await
    }

    /// Takes an operator's word, with proof from elsewhere, on what became of an operation that needs one, once. The
    /// chain is asked first: what it proves to be final counts, and a word against it is refused. What it does not prove
    /// waits for a second person. In a pool that is held, every open operation needs one: nothing else ends it there.
    pub async fn resolve_operation(
        &self,
        request: &Request,
        pool: &Pool,
        id: &OperationId,
        resolution: &Resolution,
        evidence: &str,
    ) -> Result<Once, AppError> {
        if let Some(repeated) = request.seen(&*self.store, pool.control()).await? {
            return Ok(repeated);
        }
        let held = restored::held(self, pool).await?;
        let mut operation = self.operation(pool, id).await?;
        transition(stands(&operation, held), resolution.event()).map_err(|refusal| wrong_state(&operation, refusal))?;
        let proved = self.prove(pool, &mut operation, resolution).await?;
        self.mutate(pool, request, async |change| {
            let mut operation = self.operation(pool, id).await?;
            let wanted = transition(OperationState::NeedsOperator, resolution.event());
            if proved && wanted.is_ok_and(|wanted| wanted.state == operation.state) {
                let summary = format!("the chain proves what was to be resolved. {evidence}");
                return Ok(note(pool, &operation, &summary, operation.state));
            }
            let Transition { state, action } =
                transition(stands(&operation, held), resolution.event()).map_err(|refusal| {
                    let why = match proved {
                        true => "the chain proves it, so that nothing is left to resolve".to_owned(),
                        false => refusal.to_string(),
                    };
                    wrong_state(&operation, why)
                })?;
            let transaction = match resolution {
                Resolution::Done(transaction) => Some(transaction.clone()),
                Resolution::Absent => None,
            };
            let done = transaction.is_some();
            let shown = transaction.as_ref().map_or_else(|| "ABSENT".to_owned(), |it| format!("DONE by {it}"));
            let at_stake = operation.kind.asked().map_or(AtStake::Guard, AtStake::Amount);
            let what = (resource(pool, id), format!("resolves {} as {shown}. {evidence}", basis(&operation)));
            let proposal = || Proposal::ResolveOperation {
                operation: id.clone(),
                resolution: resolution.clone(),
                evidence: evidence.to_owned(),
            };
            if let Some(note) = self.second_person(change, (pool, request), at_stake, what, proposal).await? {
                return Ok(note);
            }
            let note = note(pool, &operation, &format!("resolved as {shown}. {evidence}"), state);
            self.metrics.operation_met(operation.state, resolution.event());
            operation.word = Some(OperatorWord { done, transaction, evidence: evidence.to_owned(), at: change.at() });
            operation.state = state;
            operation.updated_at = change.at();
            operation.next_attempt_at = change.at();
            if action == OperationAction::Release {
                end(change, &mut operation).await?;
            }
            tracing::warn!(operation_id = %id, state = state.name(), evidence, "an operation was resolved by an operator");
            change.put(keys::operation(id), &operation);
            Ok(note)
        })
        .await
    }

    /// Asks the chain before an operator's word is taken. Whether it proved the end, which is stored then; refused where
    /// the word can't be so.
    async fn prove(
        &self,
        pool: &Pool,
        operation: &mut OperationRecord,
        resolution: &Resolution,
    ) -> Result<bool, AppError> {
        let Some(kept) = operation.signed.clone() else { return Ok(false) };
        let found = learn(self, pool, operation, &kept, self.now()).await?;
        match found.event {
            OperationEvent::LookupDone | OperationEvent::LookupFailed => {
                settle(self, pool, operation, found, self.now()).await?;
                Ok(true)
            }
            OperationEvent::LookupPending => {
                let why = format!("the chain has transaction {} pending; wait until it is final", kept.transaction);
                Err(wrong_state(operation, why))
            }
            OperationEvent::LookupAbsentForGood if *resolution == Resolution::Done(kept.transaction.clone()) => {
                let why = format!(
                    "the chain proves that transaction {} never took effect; resolve it as ABSENT, or RetryOperation",
                    kept.transaction
                );
                Err(wrong_state(operation, why))
            }
            _ => Ok(false),
        }
    }
}

/// Visits an operation that an operator said was done and whose effects may not be booked yet. It ends when everything
/// up to the operator's word is booked; until then its tokens stay in flight, so that nobody spends them twice.
pub(super) async fn await_effects(
    app: &App,
    pool: &Pool,
    operation: &OperationRecord,
    now: UnixSeconds,
) -> Result<Work, AppError> {
    let Some(word) = &operation.word else {
        return Err(AppError::Broken(format!("operation {} has ended and is open", operation.id)));
    };
    let named = operation.signed.as_ref().filter(|kept| word.transaction.as_ref() == Some(&kept.transaction));
    let against = match named {
        Some(kept) => {
            let found = look_up(pool, operation, kept).await;
            let refusal = transition(operation.state, found.event).err();
            (refusal == Some(OperationRefusal::Contradiction)).then_some(found.event)
        }
        None => None,
    };
    let mut change = Change::begin(app, pool, now).await?;
    let stored: Option<OperationRecord> = change.read(&keys::operation(&operation.id)).await?;
    let mut operation = stored.ok_or_else(|| AppError::Broken(format!("operation {} is missing", operation.id)))?;
    let mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    let booked = mark.booked_height > 0 && mark.booked_at >= word.at;
    // The books hold all that the chain did, and this is not in it.
    let missing = booked && named.is_some() && operation.kind.asked().is_some() && operation.settled.is_zero();
    let error = match against {
        Some(event) => Some(format!("an operator said that it was done, and the chain says {}", event.name())),
        None if missing => {
            let height = mark.booked_height;
            Some(format!("an operator said that it was done, and the chain shows nothing of it up to height {height}"))
        }
        None => None,
    };
    operation.next_attempt_at = now.plus(COMPARE_SECONDS);
    let ended = error.is_some() || booked;
    if let Some(error) = error {
        let reason = format!("operation {}: {error}", operation.id);
        app.metrics.contradictions.inc();
        reconcile::pause_in(pool, &mut change, &reason).await?;
        operation.last_error = error;
    } else if booked {
        operation.last_error = String::new();
    }
    if ended {
        end(&mut change, &mut operation).await?;
    }
    change.put(keys::operation(&operation.id), &operation);
    change.commit().await?;
    Ok(if ended { Work::Done } else { Work::Idle })
}
