//! softstake: the staking back end of an exchange or custodian that offers soft staking.
//!
//! `ARCHITECTURE.md` has the map. Imports run downhill only.

pub mod chain;
pub mod clock;
pub mod config;
pub mod domain;
pub mod pb;
pub mod store;
pub mod telemetry;
