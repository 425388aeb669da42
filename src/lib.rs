//! softstake: the staking back end of an exchange or custodian that offers soft staking.
//!
//! `ARCHITECTURE.md` has the map. Imports run downhill only.

pub mod chain;
pub mod client;
pub mod clock;
pub mod domain;
pub mod pb;
pub mod store;
