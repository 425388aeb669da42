//! The Cosmos Hub, and chains that are made like it.
//!
//! - **Endpoints.** Several nodes, in order; `endpoints.rs` says which are asked and what they must agree on.
//! - **Transactions** do one thing each, name their operation in the memo, and live for a number of blocks; `reading.rs`
//!   refuses bytes that do anything else. An unbonding can't be taken back (MsgCancelUnbondingDelegation): there is no
//!   operation for it.
//! - **Finality** is at commit: what stands in a block stays.

mod address;
mod client;
mod config;
mod endpoints;
mod fate;
mod reading;
#[cfg(test)]
mod tests;
mod transaction;

use std::fmt;

pub use self::address::AddressError;
use self::client::Client;
use self::config::Terms;
pub use self::config::{CosmosConfig, CosmosConfigError, CosmosEndpoint, GasLimits};
use self::endpoints::Endpoints;
pub use self::fate::Fate;
use crate::chain::{Assembled, ChainError, Signed, Unsigned};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::OperationId;
use crate::domain::operation::OperationKind;

/// One Cosmos chain, with one staking address and one custody address.
pub struct CosmosChain {
    client: Client,
}

impl fmt::Debug for CosmosChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CosmosChain").field("terms", &self.client.terms).finish_non_exhaustive()
    }
}

impl CosmosChain {
    /// The chain of `config`, which is checked whole; no node is asked yet. Needs a Tokio runtime to be called in.
    pub fn new(config: CosmosConfig) -> Result<Self, CosmosConfigError> {
        let endpoints = Endpoints::new(&config)?;
        Ok(Self { client: Client::new(Terms::new(config)?, endpoints) })
    }

    /// The staking address, which follows from the public key.
    pub fn staking_address(&self) -> &str {
        &self.client.terms.address
    }

    /// What the dearest transaction costs.
    pub fn highest_fee(&self) -> BaseUnits {
        self.client.terms.highest_fee()
    }

    /// Builds the transaction for one operation, see [`ChainAdapter::prepare`](crate::chain::ChainAdapter::prepare). Prepare,
    /// sign and submit one at a time: its sequence is the one after all that a node took and no block has yet.
    pub async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        let terms = &self.client.terms;
        // What can't be done anywhere is refused without asking.
        transaction::message(terms, id, kind)?;
        transaction::build(terms, id, kind, self.client.place().await?)
    }

    /// The transaction of `unsigned` and a signature, see [`ChainAdapter::assemble`](crate::chain::ChainAdapter::assemble).
    pub fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        transaction::assemble(&self.client.terms, id, unsigned, signature)
    }

    /// Broadcasts, see [`ChainAdapter::submit`](crate::chain::ChainAdapter::submit). Bytes that are not those of the
    /// operation, or not of the id that they are said to have, are sent to nobody.
    pub async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        let read = reading::signed(&self.client.terms, &signed.bytes)?;
        if read.operation != *id || read.says.lifetime != signed.lifetime {
            return Err(ChainError::Untrusted(format!("the bytes stored for the operation {id} are not its own")));
        }
        if transaction::transaction_id(&signed.bytes)? != signed.transaction {
            return Err(ChainError::Untrusted(format!("the bytes are not those of {}", signed.transaction)));
        }
        self.client.broadcast(signed).await
    }

    /// What became of a transaction, see [`ChainAdapter::lookup`](crate::chain::ChainAdapter::lookup).
    pub async fn fate(&self, signed: &Signed) -> Result<Fate, ChainError> {
        self.client.fate(signed).await.map(|(fate, _)| fate)
    }
}
