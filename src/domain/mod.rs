//! The rules. Pure and total: data in, decision out. No async, no clock, no randomness, no IO, no hash-order;
//! times come in as values. Imports nothing of the crate.

pub mod amount;
pub mod distribution;
pub mod effect;
pub mod fixed_apr;
pub mod house_weight;
pub mod ids;
pub mod operation;
pub mod payout;
pub mod split;
pub mod time;
pub mod validator;
