//! All the loops of a pool in their order, as one step. `node.rs` calls it on its schedule; a simulation by hand.

use crate::domain::time::UnixSeconds;

use super::{
    App, AppError, Pool, Work, approve, audit, close, distribute, operate, pay, rebalance, reconcile, restored,
};

/// Does everything that is due for `pool` at `now`, once. Call again while it says [`Work::Done`].
///
/// The order follows the money: what the chain did is booked first, then periods close, then operations are planned
/// and driven, so that no decision rests on books that the same step would have changed. A job that fails keeps the
/// others from nothing but new plans: periods close and exits go on. Where books are broken the outflows stop first.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mut jobs = Jobs { app, pool, now, work: Work::Idle, failed: None, unsure: false };
    jobs.take(reconcile::step(app, pool, now).await).await?;
    jobs.take(close::step(app, pool, now).await).await?;
    if !restored::held(app, pool).await? {
        jobs.take(distribute::step(app, pool, now).await).await?;
        jobs.take(pay::step(app, pool, now).await).await?;
        if !jobs.unsure {
            jobs.take(rebalance::step(app, pool, now).await).await?;
        }
        jobs.take(operate::step(app, pool, now).await).await?;
    }
    jobs.take(approve::step(app, pool, now).await).await?;
    jobs.take(audit::step(app, pool, now).await).await?;
    jobs.failed.map_or(Ok(jobs.work), Err)
}

/// What the jobs of one step came to.
struct Jobs<'a> {
    app: &'a App,
    pool: &'a Pool,
    now: UnixSeconds,
    work: Work,
    /// The first failure.
    failed: Option<AppError>,
    /// Whether something failed that may be better at the next step: nothing is planned on it.
    unsure: bool,
}

impl Jobs<'_> {
    async fn take(&mut self, done: Result<Work, AppError>) -> Result<(), AppError> {
        match done {
            Ok(work) => self.work = self.work.and(work),
            Err(error) => {
                match &error {
                    // A paused pool plans exits alone.
                    AppError::Broken(reason) => reconcile::pause(self.app, self.pool, self.now, reason).await?,
                    _ => self.unsure = true,
                }
                self.failed.get_or_insert(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::control::Change;
    use super::super::distribute::tests::rig::Rig;
    use super::*;
    use crate::domain::period::PeriodState;
    use crate::domain::policy::ReleaseLimits;
    use crate::store::keys;

    #[tokio::test]
    async fn a_pool_whose_chain_cannot_be_booked_still_closes_its_periods() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        rig.put("alice", 1_000, 10).await;
        let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
        change.put_bytes(keys::chain_mark(), &[0xff; 3]);
        change.commit().await.unwrap();
        rig.set_time(2 * 3_600);
        for _ in 0..8 {
            let (app, pool, now) = (rig.app.clone(), rig.pool.clone(), rig.app.now());
            assert!(rig.drive(step(&app, &pool, now)).await.is_err());
            rig.seal().await;
        }
        let first = rig.app.period(&rig.pool, crate::domain::period::PeriodIndex(0)).await.unwrap().unwrap();
        assert_eq!(first.state, PeriodState::Frozen);
        // Balances of now are taken: another pool's feed does not wait for this one either.
        rig.put("alice", 10, 2 * 3_600).await;
    }
}
