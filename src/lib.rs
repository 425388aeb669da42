//! softstake: the staking back end of an exchange or custodian that offers soft staking.
//!
//! `ARCHITECTURE.md` has the map. Imports run downhill only.

pub mod api;
pub mod app;
pub mod book;
pub mod chain;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod law;
pub mod node;
pub mod pb;
#[cfg(feature = "seeded-bugs")]
pub mod seeded;
pub mod simulation;
pub mod store;
pub mod telemetry;
