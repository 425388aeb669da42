//! The real server over a real socket, with mocked validators: the simulated chains under a manual clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_update, reason = "tests")]

mod adapter;
mod backups;
mod bad_feed;
mod bad_input;
mod corrections;
mod deployment;
mod durable;
mod enrolments;
mod faults;
mod floods;
mod guarded;
mod harness;
mod matrix;
mod money;
mod once;
mod operators;
mod order;
mod raw;
mod release;
mod reload;
mod rules;
mod runbook;
mod skeleton;
mod snapshot;
mod split;
mod surface;
