//! The readers of a simulated chain's log, opened to `fuzz/`. What it writes has one form.

use super::input::{Accepted, Genesis};
use super::log;
use super::transaction::{Transaction, open_signed, peek_signed};

/// A log as it stands in the input, or with the input as its first record; then that record as each thing it may be.
pub fn chain_log(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let bytes = if mode & 0x80 == 0 { log::frame(0, rest) } else { rest.to_vec() };
    let Ok((records, good)) = log::scan(&bytes) else { return };
    let written: Vec<u8> = (0..).zip(&records).flat_map(|(number, record)| log::frame(number, record)).collect();
    assert_eq!(Some(written.as_slice()), bytes.get(..good), "what is good of a log is what its records make");
    for record in &records {
        if let Some(genesis) = Genesis::decode(record) {
            assert_eq!(genesis.encode(), *record);
        }
        if let Some(accepted) = Accepted::decode(record) {
            assert_eq!(Accepted::decode(&accepted.encode()).as_ref(), Some(&accepted));
        }
        if let Some(transaction) = Transaction::decode(record) {
            assert_eq!(transaction.encode(), *record, "a transaction has one form");
        }
        let _peeked = peek_signed(record);
        assert!(open_signed(&[7; 32], record).is_err(), "nobody signs by chance");
    }
}
