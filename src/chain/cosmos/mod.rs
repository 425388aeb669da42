//! The Cosmos Hub.

mod bech32;
#[cfg(test)]
mod captured;
pub mod effects;
#[cfg(test)]
mod fake_node;
pub mod history;
pub mod observe;
pub mod reads;
pub mod results;
pub mod rpc;
pub mod shares;
