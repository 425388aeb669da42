//! The simulated chain: a named mode of the product and the mocked validators of the tests. Nothing falls back to it,
//! and its descriptor says `simulated: true`.
//!
//! It is a deterministic function of its configuration (seed included), its genesis time and the log of its inputs:
//! transactions, sends from custody, donations, and what befalls validators. Time comes from the clock that it is
//! given; every call first moves the chain to the last final block of that time. The log is a file of the chain's own,
//! synced before a call answers, so that a server restarts against it as against a real chain.
//!
//! - **Blocks.** Block `h` has the time `genesis + h x block_seconds`. An input accepted at a time is in a later block.
//!   Everything that is answered is of final blocks; until its block is final an input is pending.
//! - **Money.** Custody owns a configured balance at genesis. Tokens reach the staking address only by
//!   [`SimulatedChain::custody_send`] or as a donation, and nothing is minted but rewards. [`ChainTotals`] counts it all.
//! - **Transactions** carry their operation's id; the chain includes at most one per operation, whatever bytes come.
//!   With a nonce, `prepare` names the one after all that is pending: prepare, sign and submit one at a time.
//! - **Leaving whole.** Who undelegates or redelegates everything on a compounding chain takes what it earned in the
//!   running epoch along: the amount of the effect is then above the amount asked for, and no dust stays behind.
//! - **What is simpler than life.** Stake earns from the block it is delegated in; unbonding stake earns nothing; a slash
//!   does not follow redelegated stake, and shares are always worth one token; on DOT each delegation stands for a
//!   stash of its own, nominations change at once and rewards need no payout call; on APT there is no fee for adding
//!   stake; the limits never change.

mod codec;
mod config;
mod core;
mod execute;
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod input;
mod log;
pub mod presets;
mod rewards;
mod slashes;
mod state;
#[cfg(test)]
pub mod tests;
mod totals;
mod transaction;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

pub use self::config::{SimulatedConfig, UnbondingStyle, UndelegateStyle, seeded_validators};
use self::core::Core;
pub use self::faults::SimulatedFault;
use self::log::Log;
pub use self::log::MemoryLog;
pub use self::totals::{ChainTotals, CustodyDirection, CustodyTransaction};
pub use self::transaction::SimulatedSigner;
use crate::chain::{Assembled, ChainAdapter, ChainError, Descriptor, Lookup, Observation, Signed, Unsigned};
use crate::clock::Clock;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::Effect;
use crate::domain::ids::{OperationId, TransactionId, TransferId};
use crate::domain::operation::OperationKind;

/// A simulated chain with one staking address and one custody address. Clones are handles on the same chain.
#[derive(Clone)]
pub struct SimulatedChain {
    config: Arc<SimulatedConfig>,
    core: Arc<Mutex<Core>>,
    blocks: bool,
}

impl std::fmt::Debug for SimulatedChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedChain").field("chain", &self.config.chain).finish_non_exhaustive()
    }
}

impl SimulatedChain {
    /// Opens the chain whose log is the file at `path`, or creates it there. Blocks on the disk; the file stays locked
    /// until the last handle is gone.
    ///
    /// Refused where the log belongs to another configuration or is open elsewhere, untrusted where a record other
    /// than a torn last one is broken.
    pub fn open(path: &Path, config: SimulatedConfig, clock: Arc<dyn Clock>) -> Result<Self, ChainError> {
        config.check()?;
        let (log, records) = Log::open_file(path)?;
        Self::start(config, clock, log, &records)
    }

    /// The same on a disk in memory, for tests: the chain outlives its handles there.
    pub fn open_memory(disk: MemoryLog, config: SimulatedConfig, clock: Arc<dyn Clock>) -> Result<Self, ChainError> {
        let (log, records) = Log::open_memory(disk)?;
        Self::start(config, clock, log, &records)
    }

    fn start(
        config: SimulatedConfig,
        clock: Arc<dyn Clock>,
        log: Log,
        records: &[Vec<u8>],
    ) -> Result<Self, ChainError> {
        let config = Arc::new(config);
        let blocks = log.blocks();
        let core = Core::open(config.clone(), clock, log, records)?;
        Ok(Self { config, core: Arc::new(Mutex::new(core)), blocks })
    }

    /// The configuration that the chain runs on.
    pub fn config(&self) -> &SimulatedConfig {
        &self.config
    }

    /// The signer of this chain's staking address.
    pub fn signer(&self) -> SimulatedSigner {
        SimulatedSigner::new(&self.config.chain, self.config.seed)
    }

    /// Runs `work` on the chain: on a thread for blocking work where the chain is on a disk, at once in memory.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> Result<T, ChainError> + Send + 'static,
    ) -> Result<T, ChainError> {
        let core = self.core.clone();
        let work = move || work(&mut core.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.blocks {
            return work();
        }
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(ChainError::Unavailable(format!("the simulated chain failed: {error}"))))
    }

    /// Custody sends `amount` to the staking address with `transfer` as the memo. It arrives like any transaction, in
    /// a later block. Idempotent by `transfer`: the same again is the same transaction, another amount is refused.
    pub async fn custody_send(&self, transfer: &TransferId, amount: BaseUnits) -> Result<TransactionId, ChainError> {
        self.custody_send_part(transfer, 0, amount).await
    }

    /// The same for one of several payments that carry a transfer out together, counted from 0: each has a transaction of
    /// its own and is sent once.
    pub async fn custody_send_part(
        &self,
        transfer: &TransferId,
        part: u32,
        amount: BaseUnits,
    ) -> Result<TransactionId, ChainError> {
        let transfer = transfer.clone();
        self.run(move |core| core.custody_send(&transfer, part, amount)).await
    }

    /// Every final movement between custody and the staking address, in chain order.
    pub async fn custody_transactions(&self) -> Result<Vec<CustodyTransaction>, ChainError> {
        self.run(|core| {
            core.advance();
            Ok(core.state.custody_transactions())
        })
        .await
    }

    /// The chain's own count of everything at the last final block. Never meets a fault.
    pub async fn totals(&self) -> Result<ChainTotals, ChainError> {
        self.run(|core| {
            core.advance();
            Ok(core.state.totals())
        })
        .await
    }

    /// The same count at an earlier final block, replayed from genesis.
    pub async fn totals_at(&self, height: u64) -> Result<ChainTotals, ChainError> {
        self.run(move |core| {
            core.advance();
            if height > core.state.height {
                return Err(ChainError::Refused(format!("block {height} is not final yet")));
            }
            Ok(core.state_at(height).totals())
        })
        .await
    }

    /// Every final effect until now, in chain order. Never meets a fault.
    pub async fn final_effects(&self) -> Result<Vec<Effect>, ChainError> {
        self.run(|core| {
            core.advance();
            Ok(core.state.effects.clone())
        })
        .await
    }

    /// Switches a fault on. Those that change the chain (a slash, a jailing, a donation) are inputs: they take effect
    /// in the next block, are on disk when this returns, and are refused for unknown validators.
    pub async fn set_fault(&self, fault: SimulatedFault) -> Result<(), ChainError> {
        self.run(move |core| core.set_fault(fault)).await
    }

    /// Switches every fault off that has not fired out. What happened to the chain stays.
    pub fn clear_faults(&self) {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).faults.clear();
    }

    /// How often each fault fired since the chain was opened, by [`SimulatedFault::name`].
    pub fn fault_counts(&self) -> BTreeMap<&'static str, u64> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).faults.fired()
    }

    /// How often, since the chain was opened, other bytes were submitted for an operation that was on the chain
    /// already. The chain refused them; a caller that keeps its promises never sends them.
    pub fn conflicting_submits(&self) -> u64 {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).conflicts
    }
}

#[async_trait]
impl ChainAdapter for SimulatedChain {
    async fn descriptor(&self) -> Result<Descriptor, ChainError> {
        let descriptor = self.config.descriptor();
        self.run(|core| core.descriptor_fault().map(|()| descriptor)).await
    }

    async fn observe(&self) -> Result<Observation, ChainError> {
        self.run(Core::observe).await
    }

    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        let (id, kind) = (id.clone(), kind.clone());
        self.run(move |core| core.prepare(&id, &kind)).await
    }

    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        let (id, unsigned, signature) = (id.clone(), unsigned.clone(), signature.to_vec());
        self.run(move |core| core.assemble(&id, &unsigned, &signature)).await
    }

    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        let (id, signed) = (id.clone(), signed.clone());
        self.run(move |core| core.submit(&id, &signed)).await
    }

    async fn lookup(&self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        let (id, signed) = (id.clone(), signed.clone());
        self.run(move |core| core.lookup(&id, &signed)).await
    }

    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        self.run(move |core| core.effects(from, to)).await
    }
}
