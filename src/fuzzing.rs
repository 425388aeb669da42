//! What `fuzz/` runs: everything that reads bytes from outside or from disk, each as a function that takes any bytes.
//!
//! A target passes on every input, or it panics: what was read has to keep its bounds, and what is written again has to
//! read the same. Only tests and builds with the feature `fuzzing` have this room and those that it opens.

pub mod made;
#[cfg(test)]
mod tests;

use crate::{api, book, chain, cli, clock, config, node, store};

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is the name of its program and of its folder of seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("audit_export", node::fuzzing::audit_export),
    ("book_archive", book::fuzzing::archive),
    ("book_column", book::fuzzing::column),
    ("book_journal", book::fuzzing::journal),
    ("book_page", book::fuzzing::page),
    ("book_records", book::fuzzing::small_records),
    ("calls", node::fuzzing::calls),
    ("chain_log", chain::simulated::fuzzing::chain_log),
    ("clock", clock::fuzz_time_file),
    ("config", config::fuzzing::settings),
    ("csv", csv),
    ("feed", api::fuzzing::feed),
    ("identity", api::fuzzing::identity),
    ("name", api::fuzzing::name),
    ("pem", node::fuzzing::pem),
    ("store_backup", store::fuzzing::backup),
    ("store_engine", store::fuzzing::engine),
    ("store_key", store::fuzzing::key),
    ("store_record", store::fuzzing::record),
    ("token", api::fuzzing::token),
];

/// Files of balances and of validators. A file of validators that the demo lets pass is one that a server takes.
fn csv(input: &[u8]) {
    if let Some(count) = cli::fuzzing::files(input) {
        assert_eq!(node::fuzzing::validators(input), Some(count), "what is checked is what is read");
    } else {
        let _validators = node::fuzzing::validators(input);
    }
}

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
