//! The Cosmos Hub.

#[cfg(test)]
mod captured;
pub mod effects;
pub mod results;
pub mod shares;
