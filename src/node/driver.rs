//! Drives the ticks of a running service, one at a time.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::app::App;
use crate::app::tick::tick;
use crate::domain::time::UnixSeconds;

use super::custody::CustodyDesk;

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

    /// Does everything that is due at `now`. Says how many rounds found work.
    pub(super) async fn tick(&self, now: UnixSeconds) -> u64 {
        let _ticking = self.ticking.lock().await;
        tick(&self.app, &self.desk, now).await.worked
    }
}
