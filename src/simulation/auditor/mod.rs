//! The independent auditor: recomputes every distribution of a pool from its events, and names what differs.
//!
//! It imports nothing of the crate, so that no mistake of the rules can be repeated here: its input is plain data, its
//! ways are the slow ones that are easy to see right.
