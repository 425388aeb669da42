//! The levers of a simulated world, as `api/` sees them. `node.rs` implements them over the manual clock and the
//! simulated chains; where either is real, there are none.

use async_trait::async_trait;

use crate::domain::amount::BaseUnits;
use crate::domain::ids::{PoolId, TransactionId, TransferId};
use crate::domain::time::UnixSeconds;

use super::AppError;

pub use crate::chain::simulated::{ChainTotals, SimulatedChain, SimulatedFault};

/// The levers. Those over chains are the chains' own.
#[async_trait]
pub trait Simulation: Send + Sync + 'static {
    /// The simulated chain of a pool; refused where it has none.
    fn chain(&self, pool: &PoolId) -> Result<&SimulatedChain, AppError>;

    /// Moves the clock to `to`, in steps, each followed by all the work that is due. Says how many steps worked.
    async fn advance_to(&self, to: UnixSeconds) -> Result<u64, AppError>;

    /// Makes the chain of a pool misbehave.
    async fn set_fault(&self, pool: &PoolId, fault: SimulatedFault) -> Result<(), AppError> {
        Ok(self.chain(pool)?.set_fault(fault).await?)
    }

    /// Ends the faults of a chain, and says how often each kind has hit.
    async fn clear_faults(&self, pool: &PoolId) -> Result<Vec<(&'static str, u64)>, AppError> {
        let chain = self.chain(pool)?;
        chain.clear_faults();
        Ok(chain.fault_counts().into_iter().collect())
    }

    /// What the chain counts.
    async fn totals(&self, pool: &PoolId) -> Result<ChainTotals, AppError> {
        Ok(self.chain(pool)?.totals().await?)
    }

    /// Sends tokens from the custody address to the staking address, once per transfer.
    async fn send_from_custody(
        &self,
        pool: &PoolId,
        transfer: &TransferId,
        amount: BaseUnits,
    ) -> Result<TransactionId, AppError> {
        Ok(self.chain(pool)?.custody_send(transfer, amount).await?)
    }
}
