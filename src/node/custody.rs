//! The custody desk of simulated chains whose transfers nobody else carries out (`custody = "automatic"`).

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::app::tick::Desk;
use crate::app::transfer::Acknowledgement;
use crate::app::{App, AppError, Pool, Request, Work};
use crate::chain::simulated::SimulatedChain;
use crate::domain::caller::Caller;
use crate::domain::ids::{PoolId, RequestId};
use crate::domain::transfer::{Direction, Transfer};

/// Carries out the transfers of the pools that it was given, as a custody service would.
pub(super) struct CustodyDesk {
    pub(super) chains: BTreeMap<PoolId, SimulatedChain>,
}

#[async_trait]
impl Desk for CustodyDesk {
    /// Sends what was asked for, and acknowledges what was sent and what arrived.
    async fn step(&self, app: &App, pool: &Pool) -> Result<Work, AppError> {
        let Some(chain) = self.chains.get(pool.id()) else { return Ok(Work::Idle) };
        let mut work = Work::Idle;
        for record in app.open_transfers(pool).await? {
            let transfer = &record.transfer;
            if transfer.direction == Direction::Fund && transfer.acknowledged < transfer.asked {
                chain.custody_send(&transfer.id, transfer.asked).await?;
            }
            let amount = transfer.acknowledgeable();
            if amount.is_zero() {
                continue;
            }
            let request = request(transfer)?;
            let word = Acknowledgement::Moved(amount);
            let _once = app.acknowledge_transfer(&request, pool, &transfer.id, word, "simulated").await?;
            work = Work::Done;
        }
        Ok(work)
    }
}

/// The id says how much had been acknowledged before, so that each part is acknowledged once.
fn request(transfer: &Transfer) -> Result<Request, AppError> {
    let id = format!("custody-desk-{}-{}", transfer.id, transfer.acknowledged);
    let id = RequestId::new(&id).map_err(|error| AppError::Broken(error.to_string()))?;
    Ok(Request::new("TransferService/AckTransfer", id, Caller::service(), transfer.id.as_str().as_bytes()))
}
