//! What the chain did, booked once. Every token that moves on a chain enters the ledger here and nowhere else.
//!
//! Called by `reconcile` (everything up to a height) and by `operate` (what a look-up says of one operation). Both
//! give the same effects under the same keys, so that whichever comes first books and the other finds it booked.

use crate::chain::ChainError;
use crate::domain::amount::BaseUnits;
use crate::domain::approval::Reward;
use crate::domain::booking::{self, Booking, BookingError, EffectContext, Posting};
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::{OperationId, TransactionId, TransferId};
use crate::domain::operation::{OperationEvent, OperationKind, OperationRefusal, OperationState, transition};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::{ChainMark, OperationRecord, ReceiptRecord, SlashRecord, TransferRecord};

use super::control::Change;
use super::metrics::PoolName;
use super::{App, AppError, Pool, receipt, restored, slash};

/// How many transactions a transfer lists; a transfer has one, and a few where it comes in parts.
const MAX_TRANSACTIONS: usize = 16;

/// How many effects one commit books: each writes up to ten small records, and a commit has 1,024 keys.
const EFFECTS_PER_CHANGE: usize = 96;

/// What became of booking an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Booked {
    /// It is in the change now.
    Now,
    /// It was booked before.
    Before,
}

/// Every effect with `from < height <= to`, as the chain tells it and no later one.
pub(super) async fn all_of(pool: &Pool, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
    let all = pool.chain.adapter.effects(from, to).await?;
    match all.iter().find(|effect| effect.height > to) {
        Some(effect) => {
            let message = format!("asked for effects up to {to}, got one of {}", effect.height);
            Err(ChainError::Untrusted(message))
        }
        None => Ok(all),
    }
}

/// Books effects in their order. With them it is kept how far the chain was seen: an earlier reading is compared with no
/// ledger that is ahead of it.
pub(super) async fn book_all(app: &App, pool: &Pool, all: &[Effect], now: UnixSeconds) -> Result<(), AppError> {
    for some in all.chunks(EFFECTS_PER_CHANGE) {
        let mut change = Change::begin(app, pool, now).await?;
        for effect in some {
            book(app, pool, &mut change, effect).await?;
        }
        let height = some.iter().map(|effect| effect.height).max().unwrap_or(0);
        let mut mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
        if height > mark.seen_height {
            mark.seen_height = height;
            change.put(keys::chain_mark(), &mark);
        }
        change.commit().await?;
    }
    Ok(())
}

/// Books everything that the chain did before what it did at `height` for an operation, so that what a look-up says of that
/// is booked in its turn: what is withdrawn has matured before, and what is undelegated has grown.
pub(super) async fn book_before(
    app: &App,
    pool: &Pool,
    id: &OperationId,
    height: u64,
    now: UnixSeconds,
) -> Result<(), AppError> {
    let booked = app.chain_mark(pool).await?.booked_height;
    if height <= booked {
        return Ok(());
    }
    let mut all = all_of(pool, booked, height).await?;
    if let Some(own) = all.iter().position(|effect| effect.operation.as_ref() == Some(id)) {
        all.truncate(own);
    }
    book_all(app, pool, &all, now).await
}

/// Adds the booking of `effect` to `change`, unless it was booked before. What can't be posted is set aside, and what comes
/// after it is booked all the same.
pub(super) async fn book(app: &App, pool: &Pool, change: &mut Change<'_>, effect: &Effect) -> Result<Booked, AppError> {
    let key = keys::booked_effect(&effect.key);
    let known = change.contains(&key).await?;
    #[cfg(feature = "seeded-bugs")]
    let known = known && !crate::seeded::on(crate::seeded::Bug::EffectBookedTwice);
    if known {
        return Ok(Booked::Before);
    }
    #[cfg(feature = "seeded-bugs")]
    let Some(effect) = &mistaken(effect) else {
        change.put_bytes(key, &effect.height.to_be_bytes());
        return Ok(Booked::Now);
    };
    let mut operation: Option<OperationRecord> = match &effect.operation {
        Some(id) => change.read(&keys::operation(id)).await?,
        None => None,
    };
    let mut transfer: Option<TransferRecord> = match transfer_of(effect, operation.as_ref()) {
        Some(id) => change.read(&keys::transfer(id)).await?,
        None => None,
    };
    if transfer.is_none() {
        transfer = restored::asked_after(change, effect).await?;
    }
    let mut slashed: Option<SlashRecord> = None;
    let (mut bearer, mut owed) = (SlashPolicy::default(), BaseUnits::ZERO);
    match &effect.kind {
        EffectKind::Slashed { .. } => bearer = slash::bearer(app, pool, effect.at).await?,
        EffectKind::SlashReversed { slash, .. } => {
            slashed = change.read(&keys::slash(slash)).await?;
            owed = slash::owed(app, pool, change).await?;
        }
        _ => {}
    }
    let context = EffectContext {
        operation: operation.as_ref().map(|operation| (&operation.kind, operation.in_flight)),
        transfer: transfer.as_ref().map(|record| &record.transfer),
        rounding: pool.chain.descriptor.rounding_units,
        bearer,
        slash: slashed.as_ref().map(|record| &record.slash),
        owed,
    };
    let posting = match booking::effect(effect, &context) {
        Ok(Booking::Post(posting)) => *posting,
        Ok(Booking::PauseAndReport(discrepancy)) => {
            return set_aside(pool, change, effect, &discrepancy.to_string()).await;
        }
        Err(error) => return set_aside(pool, change, effect, &error.to_string()).await,
    };
    if let Some(why) = unfit(change, &posting).await? {
        return set_aside(pool, change, effect, &why).await;
    }
    if let Some(operation) = &mut operation
        && let Err(error) = charge(operation, effect, &posting)
    {
        return set_aside(pool, change, effect, &format!("operation {}: {error}", operation.id)).await;
    }
    change.post(&posting.entry, effect.at)?;
    if let Some((validator, by)) = &posting.unbonding {
        slash::unbonding_changed(change, validator, *by).await?;
    }
    match (posting.slash.clone(), slashed) {
        (Some(slash), Some(record)) => slash::reversed(pool, change, &SlashRecord { slash, ..record }),
        (Some(slash), None) => {
            let (key, at, height) = (effect.key.clone(), effect.at, effect.height);
            let record = SlashRecord { key, slash, at, height, reported: true };
            slash::booked(app, pool, change, &record, height).await?;
        }
        (None, _) => {}
    }
    let mut contradicted = false;
    if let Some(operation) = &mut operation {
        contradicted = check_state(pool, change, operation, effect).await?;
        change.put(keys::operation(&operation.id), operation);
    }
    if !contradicted && !posting.explained && moves_our_tokens(&effect.kind) && !posting.entry.is_empty() {
        tell_stranger(pool, change, effect).await?;
    }
    if let (Some(record), Some(after)) = (&mut transfer, posting.transfer) {
        if record.changed == 0 {
            restored::take_in(pool, change, record, effect).await?;
        }
        record.transfer = after;
        record.updated_at = change.at();
        let transaction = &effect.key.transaction;
        if record.transactions.len() < MAX_TRANSACTIONS && !record.transactions.contains(transaction) {
            record.transactions.push(transaction.clone());
        }
        super::transfer::put(change, record);
    }
    if let Some(paid) = receipt_of(effect) {
        receipt::keep(change, &paid);
    }
    if !posting.explained || !posting.suspense.is_zero() {
        tracing::warn!(pool = %pool.id(), transaction = %effect.key.transaction, height = effect.height,
            suspense_base_units = %posting.suspense, "an effect that nothing of ours explains was booked");
    }
    change.put_bytes(key, &booked_as(effect.height, posting.suspense));
    Ok(Booked::Now)
}

/// What is kept of an effect that was booked: its height, and how much of it went to suspense where some did.
fn booked_as(height: u64, suspense: BaseUnits) -> Vec<u8> {
    let suspense = if suspense.is_zero() { Vec::new() } else { suspense.get().to_be_bytes().to_vec() };
    [height.to_be_bytes().to_vec(), suspense].concat()
}

/// How much of an effect that was booked as this went to suspense.
pub(super) fn suspense_of(booked: &[u8]) -> BaseUnits {
    let suspense = booked.get(8..).and_then(|bytes| bytes.try_into().ok()).map(u128::from_be_bytes);
    suspense.and_then(|units| BaseUnits::new(units).ok()).unwrap_or_default()
}

/// Why a posting can't be made, if it can't: some account has too little for it.
async fn unfit(change: &Change<'_>, posting: &Posting) -> Result<Option<String>, AppError> {
    if let Err(error) = change.ledger().apply(&posting.entry) {
        return Ok(Some(error.to_string()));
    }
    let Some((validator, by)) = &posting.unbonding else { return Ok(None) };
    let (there, after) = slash::unbonding_with(change, validator, *by).await?;
    Ok(after.is_err().then(|| format!("{there} unbonds from {validator} and can't change by {by}")))
}

/// An effect that does not fit the books, because the books or the effect are wrong or nothing of ours explains what left:
/// nothing of it is posted, the pool is stopped, and what it leaves apart is found by the comparison with the chain. Tried
/// again, it would stand before all that follow it, for ever.
async fn set_aside(pool: &Pool, change: &mut Change<'_>, effect: &Effect, why: &str) -> Result<Booked, AppError> {
    let Effect { key, height, .. } = effect;
    let reason = format!("effect {key} at height {height} does not fit the books: {why}");
    change.metrics().effects_unfit.get_or_create(&PoolName { pool: pool.id().to_string() }).inc();
    change.put_bytes(keys::booked_effect(key), &height.to_be_bytes());
    super::reconcile::pause_in(pool, change, &reason).await?;
    Ok(Booked::Now)
}

/// Whether it takes a key of ours to do this.
const fn moves_our_tokens(kind: &EffectKind) -> bool {
    matches!(
        kind,
        EffectKind::Delegated { .. }
            | EffectKind::Undelegated { .. }
            | EffectKind::Redelegated { .. }
            | EffectKind::TransferOut { .. }
    )
}

/// What moved and no operation of ours asked for: it is booked, for it happened, and a person looks who signed it.
async fn tell_stranger(pool: &Pool, change: &mut Change<'_>, effect: &Effect) -> Result<(), AppError> {
    let Effect { key, height, .. } = effect;
    let reason = format!(
        "effect {key} at height {height} moved tokens of ours and is explained by no operation; find out who signed it \
         before ResumePool"
    );
    change.metrics().effects_unexplained.get_or_create(&PoolName { pool: pool.id().to_string() }).inc();
    super::reconcile::pause_in(pool, change, &reason).await
}

/// What an effect says of an operation that nothing was to come of, or nothing more: it is booked, for it happened, and a
/// person looks. Says whether it was that.
async fn check_state(
    pool: &Pool,
    change: &mut Change<'_>,
    operation: &mut OperationRecord,
    effect: &Effect,
) -> Result<bool, AppError> {
    if matches!(effect.kind, EffectKind::FeePaid { .. }) {
        return Ok(false);
    }
    let said = match transition(operation.state, OperationEvent::LookupDone) {
        // Sent again it would be done twice.
        Ok(next) if operation.state == OperationState::Planned => {
            operation.state = next.state;
            change.metrics().operations_stuck.inc();
            "nothing was signed for it, or what was is proved dead; ResolveOperation as DONE if this was it".to_owned()
        }
        Err(OperationRefusal::Contradiction) => {
            "it is FAILED; find out why, and how much is where, before ResumePool".to_owned()
        }
        _ => match done_before(operation, effect) {
            Some(first) => {
                format!(
                    "it had done it before, in {first}; find out who signed it, and how much is where, before ResumePool"
                )
            }
            None => return Ok(false),
        },
    };
    let (height, transaction) = (effect.height, &effect.key.transaction);
    operation.last_error = format!("the chain did it at height {height}, in {transaction}, but {said}");
    operation.updated_at = change.at();
    change.metrics().contradictions.inc();
    let reason = format!("operation {}: {}", operation.id, operation.last_error);
    super::reconcile::pause_in(pool, change, &reason).await?;
    Ok(true)
}

/// The transaction that did before what this one does again for an operation, where it was another one: of one that has
/// ended, anything is too much; of one that has not, what is past that which was asked for.
fn done_before<'a>(operation: &'a OperationRecord, effect: &Effect) -> Option<&'a TransactionId> {
    let asked = operation.kind.asked()?;
    let first = operation.moved_in.as_ref().filter(|first| **first != effect.key.transaction)?;
    let moved = moved(&operation.kind, &effect.kind).is_some_and(|amount| !amount.is_zero());
    (moved && (operation.state.ended() || operation.settled > asked)).then_some(first)
}

/// How much an effect moves of what its operation is to move.
fn moved(operation: &OperationKind, effect: &EffectKind) -> Option<BaseUnits> {
    match (effect, operation) {
        (
            EffectKind::Delegated { amount, .. }
            | EffectKind::Undelegated { amount, .. }
            | EffectKind::Redelegated { amount, .. }
            | EffectKind::TransferOut { amount, .. },
            _,
        )
        | (EffectKind::RewardPaid { amount, .. }, OperationKind::Claim { .. })
        | (EffectKind::Withdrawn { amount }, OperationKind::Withdraw { .. }) => Some(*amount),
        _ => None,
    }
}

/// What an effect takes off its operation's reservation, moves for it, and costs it.
fn charge(operation: &mut OperationRecord, effect: &Effect, posting: &Posting) -> Result<(), BookingError> {
    operation.in_flight = operation.in_flight.checked_sub(posting.used)?;
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::on(crate::seeded::Bug::SettledAsAsked)
        && let Some(asked) = operation.kind.asked()
    {
        operation.settled = asked;
        return Ok(());
    }
    if let EffectKind::FeePaid { amount } = &effect.kind {
        operation.fee = operation.fee.checked_add(*amount)?;
    }
    if let Some(amount) = moved(&operation.kind, &effect.kind) {
        operation.settled = operation.settled.checked_add(amount)?;
        operation.moved_in.get_or_insert_with(|| effect.key.transaction.clone());
    }
    Ok(())
}

/// An effect as a bug that is put in takes it; `None` where it is not posted at all.
#[cfg(feature = "seeded-bugs")]
fn mistaken(effect: &Effect) -> Option<Effect> {
    use crate::seeded::{Bug, on};
    let (from, to) = (effect.at, effect.at);
    let reward = |amount| EffectKind::RewardPaid { validator: None, amount, earned_from: from, earned_to: to };
    let kind = match &effect.kind {
        EffectKind::FeePaid { .. } if on(Bug::FeeUnbooked) => return None,
        EffectKind::Slashed { .. } if on(Bug::SlashUnbooked) => return None,
        EffectKind::TransferIn { transfer: None, amount } if on(Bug::DepositIsReward) => reward(*amount),
        EffectKind::SlashReversed { validator, delegated, .. } if on(Bug::ReboundIsReward) => {
            let (validator, amount) = (validator.clone(), *delegated);
            EffectKind::RewardCompounded { validator, amount, earned_from: from, earned_to: to }
        }
        kind => kind.clone(),
    };
    Some(Effect { kind, ..effect.clone() })
}

/// The transfer that an effect belongs to: of what left, that of its operation, whatever the memo says.
fn transfer_of<'a>(effect: &'a Effect, operation: Option<&'a OperationRecord>) -> Option<&'a TransferId> {
    match (&effect.kind, operation.map(|operation| &operation.kind)) {
        (EffectKind::TransferOut { .. }, Some(OperationKind::SendToCustody { transfer, .. })) => Some(transfer),
        (EffectKind::TransferIn { transfer, .. } | EffectKind::TransferOut { transfer, .. }, _) => transfer.as_ref(),
        _ => None,
    }
}

/// The receipt of a reward effect.
fn receipt_of(effect: &Effect) -> Option<ReceiptRecord> {
    let (validator, amount, earned_from, earned_to) = match &effect.kind {
        EffectKind::RewardPaid { validator, amount, earned_from, earned_to } => {
            (validator.clone(), *amount, *earned_from, *earned_to)
        }
        EffectKind::RewardCompounded { validator, amount, earned_from, earned_to } => {
            (Some(validator.clone()), *amount, *earned_from, *earned_to)
        }
        _ => return None,
    };
    let (key, at, height) = (effect.key.clone(), effect.at, effect.height);
    Some(ReceiptRecord::of(Reward { key, validator, amount, at, height, earned_from, earned_to }))
}
