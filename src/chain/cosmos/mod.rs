//! The Cosmos Hub, and chains that are made like it.
//!
//! - **Endpoints.** Several nodes, in order; `endpoints.rs` says which are asked and what they must agree on.
//! - **Transactions** do one thing each, name their operation in the memo, and live for a number of blocks; `reading.rs`
//!   refuses bytes that do anything else. An unbonding can't be taken back (MsgCancelUnbondingDelegation): there is no
//!   operation for it.
//! - **Reads** are of one node and one height each (`observe.rs`, `history.rs`).
//! - **Finality** is at commit: what stands in a block stays.

mod adapter;
mod address;
mod bech32;
#[cfg(test)]
mod captured;
mod client;
mod config;
pub mod effects;
mod endpoints;
#[cfg(test)]
mod fake_node;
mod fate;
pub mod history;
pub mod observe;
mod reading;
pub mod reads;
pub mod results;
pub mod rpc;
pub mod shares;
#[cfg(test)]
mod tests;
mod transaction;

pub use self::adapter::CosmosChain;
pub use self::address::AddressError;
pub use self::config::{CosmosConfig, CosmosConfigError, CosmosEndpoint, GasLimits};
