//! The simulator: the shipped steps on a virtual clock, with every fault, and what proves that they kept their promises.

pub mod auditor;
pub mod evidence;
