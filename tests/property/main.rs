//! Property tests of the rules against models that were written separately, with big rationals.
//!
//! Every seed is fixed, so that a run is the same everywhere; `PROPTEST_CASES` sets another number of cases than 10,000.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod fixed_apr;
mod history;
mod house_weight;
mod numbers;
mod reference;
mod split;
