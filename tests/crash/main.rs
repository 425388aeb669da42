//! The real binary on sled, killed, and its files damaged: nothing acknowledged is lost, doubled or changed in silence.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_update, reason = "tests")]

mod corruption;
mod disk;
mod kills;
mod ledger;
mod load;
mod numbers;
mod power;
mod program;
mod reader;
mod trace;
mod verify;
