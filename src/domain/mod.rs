//! The rules. Pure and total: data in, decision out. No async, no clock, no randomness, no IO, no hash-order;
//! times come in as values. Imports nothing of the crate.

pub mod amount;
pub mod curve;
pub mod effect;
pub mod eligibility;
pub mod feed;
pub mod ids;
pub mod operation;
pub mod period;
pub mod position;
pub mod time;
pub mod validator;
pub mod weight;
