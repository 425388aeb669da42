//! The rules. Pure and total: data in, decision out. No async, no clock, no randomness, no IO, no hash-order;
//! times come in as values. Imports nothing of the crate.

pub mod allocation;
pub mod amount;
pub mod apr;
pub mod booking;
pub mod curve;
pub mod distribution;
pub mod effect;
pub mod eligibility;
pub mod enrolment;
pub mod equations;
pub mod feed;
pub mod fixed_apr;
pub mod house_weight;
pub mod ids;
pub mod ledger;
pub mod operation;
pub mod payout;
pub mod period;
pub mod policy;
pub mod position;
pub mod reserve;
pub mod split;
pub mod time;
pub mod transfer;
pub mod validator;
pub mod weight;
