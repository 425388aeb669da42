//! The levers of a simulated world, as `api/` sees them. `node.rs` implements them over the manual clock and the
//! simulated chains; where either is real, there are none.

use async_trait::async_trait;

use crate::domain::amount::BaseUnits;
use crate::domain::ids::{PoolId, TransactionId, TransferId};
use crate::domain::time::UnixSeconds;

use super::AppError;

pub use crate::chain::simulated::{ChainTotals, SimulatedFault};

/// The levers.
#[async_trait]
pub trait Simulation: Send + Sync + 'static {
    /// Moves the clock to `to`, in steps, each followed by all the work that is due. Says how many steps worked.
    async fn advance_to(&self, to: UnixSeconds) -> Result<u64, AppError>;

    /// Makes the chain of a pool misbehave.
    async fn set_fault(&self, pool: &PoolId, fault: SimulatedFault) -> Result<(), AppError>;

    /// Ends the faults of a chain, and says how often each kind has hit.
    async fn clear_faults(&self, pool: &PoolId) -> Result<Vec<(&'static str, u64)>, AppError>;

    /// What the chain counts.
    async fn totals(&self, pool: &PoolId) -> Result<ChainTotals, AppError>;

    /// Sends tokens from the custody address to the staking address, once per transfer.
    async fn send_from_custody(
        &self,
        pool: &PoolId,
        transfer: &TransferId,
        amount: BaseUnits,
    ) -> Result<TransactionId, AppError>;
}
