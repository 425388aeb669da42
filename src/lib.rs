//! softstake: the staking back end of an exchange or custodian that offers soft staking.
//!
//! `ARCHITECTURE.md` has the map. Imports run downhill only.

pub mod book;
pub mod chain;
pub mod clock;
pub mod domain;
pub mod store;
