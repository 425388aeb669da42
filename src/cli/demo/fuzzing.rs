//! The readers of the demo's files, opened to `fuzz/`.

use std::path::Path;

use super::input::{read_balances, read_validators};

/// Balances, and the validators that are checked before a server reads them: how many, where the check lets them pass.
pub fn files(input: &[u8]) -> Option<usize> {
    if let Ok(balances) = read_balances(Path::new("balances.csv"), input) {
        for (account, units) in balances.into_values().flatten() {
            assert!((1..=64).contains(&account.len()) && units <= i128::MAX as u128);
        }
    }
    read_validators(Path::new("validators.csv"), input).ok()
}
