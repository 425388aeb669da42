//! The Cosmos Hub.

pub mod shares;
