//! The rules. Pure and total: data in, decision out. No async, no clock, no randomness, no IO, no hash-order;
//! times come in as values. Imports nothing of the crate.

pub mod amount;
pub mod curve;
pub mod distribution;
pub mod effect;
pub mod eligibility;
pub mod enrolment;
pub mod feed;
pub mod fixed_apr;
pub mod house_weight;
pub mod ids;
pub mod operation;
pub mod payout;
pub mod period;
pub mod policy;
pub mod position;
pub mod split;
pub mod time;
pub mod validator;
pub mod weight;
