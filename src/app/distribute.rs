//! Distributions: one revision of one frozen period at a time per pool, in the order of the periods.
//!
//! Called by `step`. Each step is one piece of a resumable job, and what was done is told by the records alone:
//! receipts are assigned in portions (`gather`), then the inputs are pinned; payouts are written partition by partition
//! (`split`), each sealed; then one commit posts the figures and assesses them, and another one releases. A crash
//! repeats at most one partition, byte for byte. Voids and approvals are in `decide`.

mod decide;
mod gather;
mod split;

use crate::book::BookError;
use crate::domain::booking::{self, BookingError};
use crate::domain::distribution::{DistributionEvent, DistributionState, NextRevision, next_revision};
use crate::domain::period::{PeriodEvent, PeriodIndex, PeriodState};
use crate::domain::time::UnixSeconds;
use crate::store::records::{DistributionRecord, PayoutAckRecord, PeriodRecord, PoolState, Progress, ReceiptRecord};
use crate::store::{KeyRange, keys};

use super::control::Change;
use super::{App, AppError, Pool, Work, close, pay, reconcile};

pub(super) use decide::{named, resource};

/// Brings the oldest frozen period that is not distributed one piece further.
///
/// Figures that can't be are never posted: they stop the pool's outflows instead.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let advanced = advance(app, pool, now).await.map_err(|error| match error {
        AppError::Book(error @ BookError::EquationBroken { .. }) => AppError::Broken(error.to_string()),
        error => error,
    });
    match advanced {
        Err(AppError::Broken(what)) => {
            if app.pool_state(pool).await?.paused.is_none() {
                app.metrics.equations_broken.inc();
            }
            reconcile::pause(app, pool, now, &format!("a distribution can't be computed: {what}")).await?;
            Ok(Work::Idle)
        }
        done => done,
    }
}

async fn advance(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let Some(period) = close::oldest(app, pool, PeriodState::Frozen).await? else { return Ok(Work::Idle) };
    if period.state != PeriodState::Frozen {
        return Ok(Work::Idle);
    }
    let revisions = app.distributions(pool, period.index).await?;
    let states: Vec<DistributionState> = revisions.iter().map(|revision| revision.state).collect();
    let last = revisions.last();
    if let Some(last) = last.filter(|last| matches!(last.state, DistributionState::Voided(_)) && !last.receipts_freed) {
        return gather::free(app, pool, &period, last, now).await;
    }
    if let NextRevision::Compute(revision) = next_revision(&states) {
        // Every effect of the chain before the period's end is booked, and ledger and chain agree: no receipt of it is
        // still to come.
        if app.chain_mark(pool).await?.reconciled_at < period.bounds.end {
            return Ok(Work::Idle);
        }
        return gather::step(app, pool, &period, revision, now).await;
    }
    let Some(last) = last else { return Ok(Work::Idle) };
    match (last.state, last.progress) {
        (DistributionState::Computed, Progress::Gathering) => {
            gather::step(app, pool, &period, last.revision, now).await
        }
        (DistributionState::Computed, Progress::Splitting) => split::step(app, pool, &period, last, now).await,
        (DistributionState::Approved, _) => release(app, pool, last, now).await,
        (
            DistributionState::Computed
            | DistributionState::Held
            | DistributionState::Released
            | DistributionState::Settled
            | DistributionState::Voided(_),
            _,
        ) => Ok(Work::Idle),
    }
}

fn unbookable(error: BookingError) -> AppError {
    AppError::Broken(error.to_string())
}

/// Reads what `change` finds of a revision, which has to be there.
async fn read_revision(change: &Change<'_>, record: &DistributionRecord) -> Result<DistributionRecord, AppError> {
    let DistributionRecord { period, revision, .. } = record;
    let found = change.read(&keys::distribution(period.0, *revision)).await?;
    found.ok_or_else(|| AppError::Broken(format!("revision {revision} of period {period} is missing")))
}

/// Reads a period in `change` and takes it past its distribution.
async fn mark_distributed(change: &mut Change<'_>, index: PeriodIndex) -> Result<PeriodRecord, AppError> {
    let missing = || AppError::Broken(format!("period {index} is not there to be distributed"));
    let mut period: PeriodRecord = change.read(&keys::period(index.0)).await?.ok_or_else(missing)?;
    period.state = period.state.after(PeriodEvent::Release).ok_or_else(missing)?;
    change.put(keys::period(index.0), &period);
    Ok(period)
}

/// Releases an approved revision, unless the pool is paused: its figures are posted and its payouts become due.
async fn release(app: &App, pool: &Pool, last: &DistributionRecord, now: UnixSeconds) -> Result<Work, AppError> {
    let mut change = Change::begin(app, pool, now).await?;
    let state: Option<PoolState> = change.read(&keys::pool_state()).await?;
    #[cfg(feature = "seeded-bugs")]
    let state = state.map(|state| match crate::seeded::on(crate::seeded::Bug::PauseIgnored) {
        true => PoolState { paused: None, ..state },
        false => state,
    });
    if state.is_none_or(|state| state.paused.is_some()) {
        return Ok(Work::Idle);
    }
    let mut record = read_revision(&change, last).await?;
    let Ok(state) = record.state.after(&DistributionEvent::Release) else { return Ok(Work::Idle) };
    record.state = state;
    record.released_at = Some(now);
    let entry = booking::release_distribution(record.reference(), &record.figures).map_err(unbookable)?;
    change.post(&entry, now)?;
    let period = mark_distributed(&mut change, record.period).await?;
    let ack = PayoutAckRecord::new(record.period, record.revision, now);
    change.put_new(keys::payout_ack(record.period.0, record.revision), &ack);
    change.put_bytes(keys::unsettled_distribution(record.period.0, record.revision), &[]);
    // Without payouts there is nothing to wait for.
    if record.paid_count == 0 {
        pay::settle(&mut change, &mut record, &ack)?;
    }
    change.put(keys::distribution(record.period.0, record.revision), &record);
    change.commit().await?;
    app.metrics.distributions_released.inc();
    tracing::info!(pool = %pool.id(), period = %period.bounds.name(), revision = record.revision,
        payouts = record.paid_count, payouts_base_units = %record.figures.payouts, hash = %record.hash,
        "distribution released");
    Ok(Work::Done)
}

impl App {
    /// Every revision of a period's distribution, in order.
    pub async fn distributions(&self, pool: &Pool, period: PeriodIndex) -> Result<Vec<DistributionRecord>, AppError> {
        self.list(pool.control(), keys::distributions_of(period.0), usize::MAX).await
    }

    /// The last revision of a period's distribution: the one that counts.
    pub async fn last_distribution(
        &self,
        pool: &Pool,
        period: PeriodIndex,
    ) -> Result<Option<DistributionRecord>, AppError> {
        self.last(pool.control(), keys::distributions_of(period.0)).await
    }

    /// One revision.
    pub async fn distribution(
        &self,
        pool: &Pool,
        period: PeriodIndex,
        revision: u32,
    ) -> Result<Option<DistributionRecord>, AppError> {
        self.read(pool.control(), &keys::distribution(period.0, revision)).await
    }

    /// The receipts that a revision takes, by chain time. A voided one that has given them back has none.
    pub async fn receipts_of(&self, pool: &Pool, record: &DistributionRecord) -> Result<Vec<ReceiptRecord>, AppError> {
        if record.receipts.count == 0 {
            return Ok(Vec::new());
        }
        let range = KeyRange {
            from: keys::receipts_before(record.receipts.first_at).to,
            to: keys::receipts_before(record.receipts.last_at.plus(1)).to,
        };
        let mut receipts: Vec<ReceiptRecord> = self.list(pool.control(), range, usize::MAX).await?;
        receipts.retain(|receipt| receipt.assigned == Some((record.period.0, record.revision)));
        Ok(receipts)
    }
}

/// A distribution's life; its rig serves the tests of other jobs too.
#[cfg(test)]
pub mod tests;
