//! The independent auditor: recomputes every distribution of a pool from its events, and names what differs.
//!
//! It imports nothing of the crate, so that no mistake of the rules can be repeated here: its input is plain data, its
//! ways are the slow ones that are easy to see right. Each account's events are walked once to say which of them count
//! and from when (`history`); a weight is the sum over its stretches of eligible x seconds (`weigh`); a payout is one
//! wide division (`share`). Nothing is carried along from one step to the next that could be counted anew instead.

mod compare;
mod finding;
mod history;
pub mod input;
mod money;
mod owed;
mod past;
mod share;
mod weigh;

pub use finding::Finding;
pub use history::Fate;
pub use input::Input;

use history::History;

/// Recomputes everything that the engine published of one pool. Empty where all of it is exactly right.
pub fn audit(input: &Input) -> Vec<Finding> {
    let mut findings = finding::Findings::new(&input.pool);
    let history = History::read(input, &mut findings);
    let (weights, rests) = weigh::weigh(&history);
    compare::fates(input, &history, &mut findings);
    compare::positions(input, &history, &rests, &mut findings);
    compare::periods(input, &history, &weights, &mut findings);
    money::distributions(input, &history, &weights, &mut findings);
    findings.into_list()
}

/// What became of each balance event of a pool's journal, by source and sequence: for a ledger client that kept what
/// was acknowledged to it.
pub fn fates(input: &Input) -> std::collections::BTreeMap<(u16, u64), Fate> {
    let mut findings = finding::Findings::new(&input.pool);
    History::read(input, &mut findings).fates
}
