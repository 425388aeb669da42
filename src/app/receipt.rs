//! Rewards that no adapter has told of: what came in and stands in suspense was one, by evidence.
//!
//! Called by `AdminService/RecordReceipt`. Nothing is made here: the tokens have to stand in suspense already, put there by
//! an effect that nothing explained or by a reconciliation, and what is recorded comes out of it.

use crate::domain::approval::{AtStake, Proposal, Reward};
use crate::domain::audit_log::Note;
use crate::domain::booking;
use crate::domain::ledger::ClaimAccount;
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::ReceiptRecord;

use super::control::Change;
use super::effects::suspense_of;
use super::{App, AppError, Once, Pool, Reason, Request};

/// Keeps a new receipt, for the next distribution that takes it.
pub(super) fn keep(change: &mut Change<'_>, receipt: &ReceiptRecord) {
    let (at, key) = (receipt.reward.at, &receipt.reward.key);
    change.put_new(keys::receipt(at, key), receipt);
    change.put_bytes(keys::unassigned_receipt(at, key), &[]);
}

/// Refuses a time that no reward of the pool can have.
fn check_times(pool: &Pool, reward: &Reward, now: UnixSeconds) -> Result<(), AppError> {
    let start = pool.record.first_period_start;
    if reward.at < start || reward.at > now {
        let message = format!("it lies before the pool's first period, which begins at {start}, or ahead");
        return Err(AppError::invalid("receipt.chain_time", message));
    }
    if reward.earned_from < start || reward.earned_from > reward.earned_to || reward.earned_to > reward.at {
        let message = format!("it was earned between {start}, when the pool began, and the time that it was paid at");
        return Err(AppError::invalid("receipt.earned_start_time", message));
    }
    Ok(())
}

/// Whether what came in by this name, if an effect of it is booked, went to suspense and was as much. Without such an effect
/// a reconciliation found it.
async fn booked_to_suspense(change: &Change<'_>, reward: &Reward) -> Result<bool, AppError> {
    let booked = change.read_bytes(&keys::booked_effect(&reward.key)).await?;
    Ok(booked.is_none_or(|booked| suspense_of(&booked) >= reward.amount))
}

impl App {
    /// Records by evidence that tokens in suspense were a reward, once: the next distribution whose period ends after it
    /// takes it. It waits for a second person where it is more than the pool's limit for one.
    pub async fn record_receipt(
        &self,
        request: &Request,
        pool: &Pool,
        reward: &Reward,
        evidence: &str,
    ) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            check_times(pool, reward, change.at())?;
            let receipt = keys::receipt(reward.at, &reward.key);
            let known =
                change.contains(&receipt).await? || change.contains(&keys::recorded_receipt(&reward.key)).await?;
            if known || !booked_to_suspense(change, reward).await? {
                let message = format!("{} is in the books already, as something else or as this reward", reward.key);
                return Err(AppError::refused_in("receipt", Reason::AlreadyExists, message));
            }
            let suspense = change.ledger().balance(&ClaimAccount::Suspense.into()).positive_part();
            if reward.amount > suspense {
                let message = format!(
                    "{suspense} base units stand in suspense, which is less; a reward is recorded out of what came in \
                     and nothing explained, so Reconcile first, and compare the amount"
                );
                return Err(AppError::refused_in("receipt.amount", Reason::WrongState, message));
            }
            let name = format!("pools/{}/receipts/{}", pool.id(), reward.key);
            let does = format!("records {} base units in suspense as a reward. {evidence}", reward.amount);
            let proposal = || Proposal::RecordReceipt { reward: reward.clone(), evidence: evidence.to_owned() };
            let (at_stake, what) = (AtStake::Amount(reward.amount), (name.clone(), does));
            if let Some(note) = self.second_person(change, (pool, request), at_stake, what, proposal).await? {
                return Ok(note);
            }
            let entry = booking::receipt_recorded(&reward.key, reward.amount);
            let entry = entry.map_err(|error| AppError::Broken(format!("recording a reward: {error}")))?;
            change.post(&entry, reward.at)?;
            keep(change, &ReceiptRecord::of(reward.clone()));
            change.put_bytes(keys::recorded_receipt(&reward.key), &[]);
            let note = Note::of(name, format!("{} base units in suspense were a reward. {evidence}", reward.amount));
            Ok(note.changed("SUSPENSE", "RECEIPT"))
        })
        .await
    }
}
