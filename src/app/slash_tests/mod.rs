//! Slashes, drains and reconciliation of a whole pool on a simulated chain.

mod drain;
mod reconcile;
mod slashes;
mod strangers;
pub mod teller;
mod world;
