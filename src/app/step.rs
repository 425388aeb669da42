//! All the loops of a pool in their order, as one step. `node.rs` calls it on its schedule; a simulation by hand.

use crate::domain::time::UnixSeconds;

use super::{App, AppError, Pool, Work, audit, close, distribute, operate, pay, rebalance, reconcile};

/// Does everything that is due for `pool` at `now`, once. Call again while it says [`Work::Done`].
///
/// The order follows the money: what the chain did is booked first, then periods close, then operations are planned
/// and driven, so that no decision rests on books that the same step would have changed.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mut work = reconcile::step(app, pool, now).await?;
    work = work.and(close::step(app, pool, now).await?);
    work = work.and(distribute::step(app, pool, now).await?);
    work = work.and(pay::step(app, pool, now).await?);
    work = work.and(rebalance::step(app, pool, now).await?);
    work = work.and(operate::step(app, pool, now).await?);
    Ok(work.and(audit::step(app, pool, now).await?))
}
