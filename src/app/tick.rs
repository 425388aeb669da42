//! One tick: everything that is due, pool by pool, until nothing is. `node.rs` ticks on its schedule, a simulation by
//! hand: both drive the very same steps.

use async_trait::async_trait;

use crate::domain::time::UnixSeconds;

use super::{App, AppError, Pool, Work, correct, enrol, gauges, restored, step};

/// A pool that still finds work after so many rounds is left for the next tick.
const MAX_ROUNDS: usize = 1_000;

/// A custody service that this process stands in for.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Carries out and acknowledges what is due of a pool's transfers.
    async fn step(&self, app: &App, pool: &Pool) -> Result<Work, AppError>;
}

/// Nobody: custody is a service of its own.
pub struct NoDesk;

#[async_trait]
impl Desk for NoDesk {
    async fn step(&self, _: &App, _: &Pool) -> Result<Work, AppError> {
        Ok(Work::Idle)
    }
}

/// What a tick came to.
#[derive(Debug, Default)]
pub struct Ticked {
    /// How many rounds found work.
    pub worked: u64,
    /// What failed, by its name or its pool's, and is left for the next tick.
    pub failures: Vec<(String, AppError)>,
}

impl Ticked {
    fn failed(&mut self, app: &App, what: &str, error: AppError) {
        app.metrics.step_failures.inc();
        tracing::error!(pool = what, %error, "a step failed; it will be tried again");
        self.failures.push((what.to_owned(), error));
    }
}

/// Does everything that is due at `now`. A pool whose step fails is logged and left for the next tick; the others go on.
/// A tick must not meet another one.
pub async fn tick(app: &App, desk: &dyn Desk, now: UnixSeconds) -> Ticked {
    let mut ticked = Ticked::default();
    match enrol::step(app).await {
        Ok(work) => ticked.worked += u64::from(work == Work::Done),
        Err(error) => ticked.failed(app, "enrolment", error),
    }
    match correct::step(app).await {
        Ok(work) => ticked.worked += u64::from(work == Work::Done),
        Err(error) => ticked.failed(app, "corrections", error),
    }
    if let Err(error) = app.finish_intents().await {
        ticked.failed(app, "put-balance", error);
    }
    for pool in app.pools() {
        for _ in 0..MAX_ROUNDS {
            match round(app, desk, &pool, now).await {
                Ok(Work::Done) => ticked.worked += 1,
                Ok(Work::Idle) => break,
                Err(error) => {
                    // Broken books stop the pool's outflows; anything else may be better at the next tick.
                    if let AppError::Broken(reason) = &error
                        && let Err(error) = app.stop_outflows(&pool, now, reason).await
                    {
                        ticked.failed(app, pool.id().as_str(), error);
                    }
                    ticked.failed(app, pool.id().as_str(), error);
                    break;
                }
            }
        }
        if let Err(error) = gauges::show_pool(app, &pool, now).await {
            ticked.failed(app, pool.id().as_str(), error);
        }
    }
    gauges::show_sources(app, now);
    ticked
}

async fn round(app: &App, desk: &dyn Desk, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let work = step::step(app, pool, now).await?;
    match restored::held(app, pool).await? {
        true => Ok(work),
        false => Ok(work.and(desk.step(app, pool).await?)),
    }
}
