//! The levers of a simulated world, over the manual clock and the simulated chains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::app::simulate::Simulation;
use crate::app::{App, AppError, Reason};
use crate::chain::simulated::SimulatedChain;
use crate::clock::ManualClock;
use crate::domain::ids::PoolId;
use crate::domain::time::UnixSeconds;

use super::driver::Driver;

/// Time moves in steps of at most this, each followed by everything that is due.
const STEP_SECONDS: i64 = 600;

/// How often it is looked whether the book has sealed what was frozen.
const SEAL_POLL: Duration = Duration::from_millis(1);

/// How often at most: time moves on then, and the ticks of later moments take the period further.
const MAX_SEAL_POLLS: u32 = 60_000;

/// A world in which time and chains do as they are told.
pub(super) struct SimulatedWorld {
    pub(super) app: Arc<App>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) driver: Arc<Driver>,
    pub(super) chains: BTreeMap<PoolId, SimulatedChain>,
    /// One move of time at once.
    pub(super) moving: tokio::sync::Mutex<()>,
}

impl SimulatedWorld {
    /// Does everything that is due at `now`. Time stands still while the book seals what a tick has frozen: a running
    /// service would find it sealed a tick later, which here may be hours.
    async fn tick(&self, now: UnixSeconds) -> Result<u64, AppError> {
        let mut worked = self.driver.tick(now).await;
        for _ in 0..MAX_SEAL_POLLS {
            if !self.is_sealing().await? {
                break;
            }
            tokio::time::sleep(SEAL_POLL).await;
            worked += self.driver.tick(now).await;
        }
        Ok(worked)
    }

    async fn is_sealing(&self) -> Result<bool, AppError> {
        for pool in self.app.pools() {
            if self.app.is_sealing(&pool).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl Simulation for SimulatedWorld {
    fn chain(&self, pool: &PoolId) -> Result<&SimulatedChain, AppError> {
        self.app.pool(pool)?;
        let only = || AppError::refused(Reason::SimulationOnly, format!("the chain of pool {pool} is not simulated"));
        self.chains.get(pool).ok_or_else(only)
    }

    async fn advance_to(&self, to: UnixSeconds) -> Result<u64, AppError> {
        let _moving = self.moving.lock().await;
        let mut worked = self.tick(self.app.now()).await?;
        loop {
            let now = self.app.now();
            if now >= to {
                return Ok(worked);
            }
            let boundary = (now.get().div_euclid(STEP_SECONDS) + 1).saturating_mul(STEP_SECONDS);
            let next = UnixSeconds::new(boundary).min(to);
            let clock = self.clock.clone();
            let moved = tokio::task::spawn_blocking(move || clock.advance_to_ms(next.get().saturating_mul(1_000)));
            match moved.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(AppError::Broken(error.to_string())),
                Err(error) => return Err(AppError::Broken(error.to_string())),
            }
            worked += self.tick(next).await?;
        }
    }
}
