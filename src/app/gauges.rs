//! What an operator watches of each pool and source, shown anew at the end of every tick. What only happens now and then
//! is counted where it happens.

use crate::domain::distribution::DistributionState;
use crate::domain::feed::SourceNumber;
use crate::domain::period::PeriodState;
use crate::domain::time::UnixSeconds;
use crate::store::records::SourceRecord;

use super::metrics::{PoolName, SourceName};
use super::{App, AppError, Pool, close};

/// Shows how late every source is.
pub(super) fn show_sources(app: &App, now: UnixSeconds) {
    for source in app.sources() {
        let label = SourceName { source: source.id.to_string() };
        if source.retired_at.is_some() {
            app.metrics.source_behind.remove(&label);
            continue;
        }
        app.metrics.source_behind.get_or_create(&label).set(gauge(now.since(vouched(app, &source))));
    }
}

/// Up to when a source has vouched for everything: from its registration on, where it never has.
fn vouched(app: &App, source: &SourceRecord) -> UnixSeconds {
    let state = app.book.source_state(SourceNumber(source.number));
    state.and_then(|state| state.watermark).unwrap_or(source.registered_at)
}

/// Shows what of a pool waits, and for how long.
pub(super) async fn show_pool(app: &App, pool: &Pool, now: UnixSeconds) -> Result<(), AppError> {
    let label = PoolName { pool: pool.id().to_string() };
    let state = app.pool_state(pool).await?;
    app.metrics.paused.get_or_create(&label).set(i64::from(state.paused.is_some()));

    let mark = app.chain_mark(pool).await?;
    // Nothing is late that has never been: a pool is read for the first time a moment after it is created.
    let unread = if mark.reconciled_height == 0 { 0 } else { now.since(mark.reconciled_at) };
    app.metrics.unreconciled.get_or_create(&label).set(gauge(unread));

    let policy = state.settings.reserve.policy();
    let short = app.ledger_view(pool).await?.house() < policy.house_float_floor.signed();
    app.metrics.house_float_short.get_or_create(&label).set(i64::from(short));

    let (mut undistributed, mut held) = (0, false);
    if let Some(period) = close::oldest(app, pool, PeriodState::Frozen).await?
        && period.state == PeriodState::Frozen
    {
        undistributed = now.since(period.bounds.end);
        let last = app.last_distribution(pool, period.index).await?;
        held = last.is_some_and(|last| last.state == DistributionState::Held);
    }
    app.metrics.undistributed.get_or_create(&label).set(gauge(undistributed));
    app.metrics.awaiting_approval.get_or_create(&label).set(i64::from(held));

    let unsettled = app.unsettled_distributions(pool, None, 1).await?;
    let released = unsettled.first().and_then(|oldest| oldest.released_at);
    let unsettled = released.map_or(0, |released| now.since(released));
    app.metrics.unsettled.get_or_create(&label).set(gauge(unsettled));
    Ok(())
}

fn gauge(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
