//! Drives the steps: everything that is due, pool by pool, until nothing is.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::app::{App, AppError, Pool, Work, correct, enrol, step};
use crate::domain::time::UnixSeconds;

use super::custody::CustodyDesk;

/// A pool that still finds work after so many rounds is left for the next tick.
const MAX_ROUNDS: usize = 1_000;

/// Drives the steps of all pools, one tick at a time.
pub(super) struct Driver {
    app: Arc<App>,
    desk: CustodyDesk,
    /// One tick at a time: a step never meets itself.
    ticking: Mutex<()>,
}

impl Driver {
    pub(super) fn new(app: Arc<App>, desk: CustodyDesk) -> Self {
        Self { app, desk, ticking: Mutex::new(()) }
    }

    /// Does everything that is due at `now`. Says how many steps found work. A pool whose step fails is logged and left
    /// for the next tick; the others go on.
    pub(super) async fn tick(&self, now: UnixSeconds) -> u64 {
        let _ticking = self.ticking.lock().await;
        let mut worked = 0;
        match enrol::step(&self.app).await {
            Ok(work) => worked += u64::from(work == Work::Done),
            Err(error) => self.failed("enrolment", &error),
        }
        match correct::step(&self.app).await {
            Ok(work) => worked += u64::from(work == Work::Done),
            Err(error) => self.failed("corrections", &error),
        }
        if let Err(error) = self.app.finish_intents().await {
            self.failed("put-balance", &error);
        }
        for pool in self.app.pools() {
            for _ in 0..MAX_ROUNDS {
                match self.round(&pool, now).await {
                    Ok(Work::Done) => worked += 1,
                    Ok(Work::Idle) => break,
                    Err(error) => {
                        self.failed(pool.id().as_str(), &error);
                        self.stop(&pool, now, &error).await;
                        break;
                    }
                }
            }
        }
        worked
    }

    async fn round(&self, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
        let work = step::step(&self.app, pool, now).await?;
        Ok(work.and(self.desk.step(&self.app, pool).await?))
    }

    fn failed(&self, what: &str, error: &AppError) {
        self.app.metrics.step_failures.inc();
        tracing::error!(pool = what, %error, "a step failed; it will be tried again");
    }

    /// Broken books stop the pool's outflows; anything else may be better at the next tick.
    async fn stop(&self, pool: &Pool, now: UnixSeconds, error: &AppError) {
        if let AppError::Broken(reason) = error
            && let Err(error) = self.app.stop_outflows(pool, now, reason).await
        {
            self.failed(pool.id().as_str(), &error);
        }
    }
}
