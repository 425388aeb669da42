//! What operators decide on a revision that is not released: approve it in spite of what holds it, or void it.

use crate::domain::approval::{AtStake, Proposal};
use crate::domain::audit_log::Note;
use crate::domain::booking;
use crate::domain::distribution::{AfterVoid, DistributionEvent, DistributionRefusal, DistributionState};
use crate::domain::payout::SetHash;
use crate::domain::period::PeriodIndex;
use crate::store::keys;
use crate::store::records::{DistributionRecord, PeriodRecord, Progress};

use super::super::control::Change;
use super::super::{App, AppError, Once, Pool, Reason, Request};
use super::{gather, unbookable};

/// Reads a revision that a caller named.
pub(in crate::app) async fn named(
    change: &Change<'_>,
    pool: &Pool,
    period: PeriodIndex,
    revision: u32,
) -> Result<DistributionRecord, AppError> {
    let record = change.read(&keys::distribution(period.0, revision)).await?;
    record.ok_or_else(|| unknown(pool, period, revision))
}

fn unknown(pool: &Pool, period: PeriodIndex, revision: u32) -> AppError {
    let message = format!("pool {} has no revision {revision} of a distribution of period {period}", pool.id());
    AppError::refused(Reason::UnknownDistribution, message)
}

/// What is written down of a decision on a revision that was `before`.
async fn note(
    change: &Change<'_>,
    pool: &Pool,
    record: &DistributionRecord,
    summary: &str,
    before: DistributionState,
) -> Result<Note, AppError> {
    let DistributionRecord { revision, figures, .. } = record;
    let summary = format!("revision {revision}, {} base units of payouts, {summary}", figures.payouts);
    let note = Note::of(resource(change, pool, record.period).await?, summary);
    Ok(note.changed(before.name(), record.state.name()))
}

/// The resource name of the distribution of a period.
pub(in crate::app) async fn resource(
    change: &Change<'_>,
    pool: &Pool,
    period: PeriodIndex,
) -> Result<String, AppError> {
    let record: Option<PeriodRecord> = change.read(&keys::period(period.0)).await?;
    let record = record.ok_or_else(|| AppError::Broken(format!("period {period} is missing")))?;
    Ok(format!("pools/{}/distributions/{}", pool.id(), record.bounds.name()))
}

fn refused(refusal: DistributionRefusal) -> AppError {
    AppError::refused(Reason::WrongState, refusal.to_string())
}

impl App {
    /// Approves a held distribution by the hash that was looked at, once. The next step releases it. For
    /// `AdminService/ApproveDistribution`.
    pub async fn approve_distribution(
        &self,
        request: &Request,
        pool: &Pool,
        period: PeriodIndex,
        revision: u32,
        hash: SetHash,
    ) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            let mut record = named(change, pool, period, revision).await?;
            let before = record.state;
            let state = record.state.after(&DistributionEvent::Approve).map_err(refused)?;
            if hash != record.hash {
                let message = format!("the hash is {hash}, the distribution was sealed with {}", record.hash);
                return Err(AppError::refused(Reason::HashMismatch, message));
            }
            record.state = state;
            let by = &request.caller.principal;
            record.approved_by = by.to_string();
            change.put(keys::distribution(period.0, revision), &record);
            tracing::info!(pool = %pool.id(), period = period.0, revision, %by, "distribution approved");
            note(change, pool, &record, &format!("approved by hash {hash}"), before).await
        })
        .await
    }

    /// Undoes a distribution that is not released, once: what it posted is reversed at once, and the steps give its
    /// receipts back. It waits for a second person where that is about more than the pool's limit for one. For
    /// `AdminService/VoidDistribution`.
    pub async fn void_distribution(
        &self,
        request: &Request,
        pool: &Pool,
        period: PeriodIndex,
        revision: u32,
        mode: AfterVoid,
        reason: &str,
    ) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            let mut record = named(change, pool, period, revision).await?;
            let before = record.state;
            record.state = record.state.after(&DistributionEvent::Void(mode)).map_err(refused)?;
            // Before it is sealed its payouts are not known.
            let sealed = record.progress == Progress::Sealed;
            let at_stake = if sealed { AtStake::Amount(record.figures.payouts) } else { AtStake::Guard };
            let what = if mode == AfterVoid::Carry { "carried" } else { "recomputed" };
            let hash = if sealed { format!("sealed with {}", record.hash) } else { "not sealed yet".to_owned() };
            let payouts = record.figures.payouts;
            let does = format!(
                "voids revision {revision}, {}, {hash}, {payouts} base units of payouts, to be {what}: {reason}",
                before.name()
            );
            let name = resource(change, pool, period).await?;
            let proposal = || Proposal::VoidDistribution { period, revision, mode, reason: reason.to_owned() };
            if let Some(note) = self.second_person(change, (pool, request), at_stake, (name, does), proposal).await? {
                return Ok(note);
            }
            record.void_reason = reason.to_owned();
            // Before it is sealed nothing of it is posted.
            if sealed {
                let entry = booking::void(record.reference(), &record.figures).map_err(unbookable)?;
                change.post(&entry, change.at())?;
            }
            change.delete(keys::live_distribution(period.0));
            if record.receipts.count == 0 {
                gather::finish_void(self, pool, change, &mut record).await?;
            }
            change.put(keys::distribution(period.0, revision), &record);
            tracing::info!(pool = %pool.id(), period = period.0, revision, ?mode, reason, "distribution voided");
            note(change, pool, &record, &format!("voided, to be {what}: {reason}"), before).await
        })
        .await
    }
}
