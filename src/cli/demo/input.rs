//! The files that a run can be fed with: balances and validators. Whatever is wrong is told with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use rust_decimal::Decimal;

use crate::config::Preset;

/// The largest amount that the service takes.
const MAX_BASE_UNITS: u128 = i128::MAX as u128;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum InputError {
    /// It can't be read.
    #[error("{}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: String },
    /// A line of it is wrong.
    #[error("{}, line {line}: {problem}", path.display())]
    Line { path: PathBuf, line: u64, problem: String },
}

/// Balances by asset, in the order of the file.
pub(super) type Balances = BTreeMap<&'static str, Vec<(String, u128)>>;

/// Reads `account,asset,base_units`.
pub(super) fn balances(path: &Path) -> Result<Balances, InputError> {
    read_balances(path, open(path)?)
}

/// The same of bytes that come from anywhere.
pub(super) fn read_balances(path: &Path, file: impl Read) -> Result<Balances, InputError> {
    let mut out = Balances::new();
    let mut seen = BTreeSet::new();
    for (line, row) in rows(path, file, &["account", "asset", "base_units"])? {
        let wrong = |problem: String| InputError::Line { path: path.to_owned(), line, problem };
        let (account, asset) = (field(&row, 0), field(&row, 1));
        if account.is_empty() || account.len() > 64 || !account.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return Err(wrong(format!("`{account}` is no account: 1 to 64 printable ASCII characters without spaces")));
        }
        let Some(preset) = Preset::ALL.into_iter().find(|preset| preset.asset() == asset) else {
            let known: Vec<&str> = Preset::ALL.iter().map(|preset| preset.asset()).collect();
            return Err(wrong(format!("no pool stakes `{asset}`; there are {}", known.join(", "))));
        };
        let units = base_units(field(&row, 2)).map_err(&wrong)?;
        if !seen.insert((account.to_owned(), asset.to_owned())) {
            return Err(wrong(format!("{account} has a balance of {asset} on an earlier line")));
        }
        out.entry(preset.asset()).or_default().push((account.to_owned(), units));
    }
    if out.is_empty() {
        return Err(InputError::Unreadable { path: path.to_owned(), problem: "there is no balance in it".to_owned() });
    }
    Ok(out)
}

/// Checks `operator_address,moniker,status,jailed,tokens_base_units,commission_rate`, which the server reads itself, and
/// counts its validators.
pub(super) fn check_validators(path: &Path) -> Result<usize, InputError> {
    read_validators(path, open(path)?)
}

/// The same of bytes that come from anywhere.
pub(super) fn read_validators(path: &Path, file: impl Read) -> Result<usize, InputError> {
    let header = ["operator_address", "moniker", "status", "jailed", "tokens_base_units", "commission_rate"];
    let mut seen = BTreeSet::new();
    for (line, row) in rows(path, file, &header)? {
        let wrong = |problem: String| InputError::Line { path: path.to_owned(), line, problem };
        let address = field(&row, 0);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte);
        if address.is_empty() || address.len() > 128 || !address.bytes().all(allowed) {
            return Err(wrong(format!("`{address}` is no validator's address")));
        }
        if !seen.insert(address.to_owned()) {
            return Err(wrong(format!("{address} stands on an earlier line")));
        }
        if !["BONDED", "UNBONDED", "UNBONDING"].contains(&field(&row, 2)) {
            return Err(wrong(format!("`{}` is no status; write BONDED, UNBONDED or UNBONDING", field(&row, 2))));
        }
        if !["true", "false"].contains(&field(&row, 3)) {
            return Err(wrong(format!("`{}` does not say whether it is jailed; write true or false", field(&row, 3))));
        }
        base_units(field(&row, 4)).map_err(&wrong)?;
        let rate = Decimal::from_str_exact(field(&row, 5)).ok();
        if rate.is_none_or(|rate| rate < Decimal::ZERO || rate > Decimal::ONE) {
            return Err(wrong(format!("`{}` is no commission; write a share from 0 to 1", field(&row, 5))));
        }
    }
    if seen.is_empty() {
        return Err(InputError::Unreadable {
            path: path.to_owned(),
            problem: "there is no validator in it".to_owned(),
        });
    }
    Ok(seen.len())
}

fn open(path: &Path) -> Result<File, InputError> {
    File::open(path).map_err(|error| InputError::Unreadable { path: path.to_owned(), problem: error.to_string() })
}

fn rows(path: &Path, file: impl Read, header: &[&str]) -> Result<Vec<(u64, StringRecord)>, InputError> {
    let unreadable = |problem: String| InputError::Unreadable { path: path.to_owned(), problem };
    let mut reader = csv::Reader::from_reader(file);
    let found = reader.headers().map_err(|error| unreadable(error.to_string()))?;
    if found.iter().ne(header.iter().copied()) {
        let problem = format!("the columns have to be {}", header.join(","));
        return Err(InputError::Line { path: path.to_owned(), line: 1, problem });
    }
    let mut out = Vec::new();
    for row in reader.into_records() {
        let row = row.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            InputError::Line { path: path.to_owned(), line, problem: error.to_string() }
        })?;
        out.push((row.position().map_or(0, csv::Position::line), row));
    }
    Ok(out)
}

fn field(row: &StringRecord, index: usize) -> &str {
    row.get(index).unwrap_or_default()
}

fn base_units(text: &str) -> Result<u128, String> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    match text.parse::<u128>() {
        Ok(units) if plain && units <= MAX_BASE_UNITS => Ok(units),
        _ => Err(format!("`{text}` is no amount: base units in digits, no leading zero, at most {MAX_BASE_UNITS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn line_of<T: std::fmt::Debug>(result: Result<T, InputError>) -> (u64, String) {
        match result {
            Err(InputError::Line { line, problem, .. }) => (line, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn balances_are_read_by_asset() {
        let file = file("account,asset,base_units\nalice,ATOM,7\nbob,NEAR,80000000000000000000000000000\nbob,ATOM,0\n");
        let read = balances(file.path()).unwrap();
        assert_eq!(read["ATOM"], [("alice".to_owned(), 7), ("bob".to_owned(), 0)]);
        assert_eq!(read["NEAR"], [("bob".to_owned(), 80_000_000_000_000_000_000_000_000_000)]);
    }

    #[test]
    fn each_wrong_balance_is_told_with_its_line() {
        for (text, line, said) in [
            ("account,asset\nalice,ATOM\n", 1, "columns"),
            ("account,asset,base_units\nalice,ATOM,7\nbob,DOGE,7\n", 3, "DOGE"),
            ("account,asset,base_units\nalice,ATOM,-7\n", 2, "-7"),
            ("account,asset,base_units\nalice,ATOM,+7\n", 2, "+7"),
            ("account,asset,base_units\nalice,ATOM,1.5\n", 2, "1.5"),
            ("account,asset,base_units\nalice,ATOM,07\n", 2, "leading zero"),
            ("account,asset,base_units\nalice,ATOM,\n", 2, "``"),
            ("account,asset,base_units\nalice,ATOM,170141183460469231731687303715884105728\n", 2, "at most"),
            ("account,asset,base_units\na b,ATOM,7\n", 2, "a b"),
            ("account,asset,base_units\nalice,ATOM,7\nalice,ATOM,8\n", 3, "earlier"),
            ("account,asset,base_units\nalice,ATOM\n", 2, "field"),
        ] {
            let file = file(text);
            let (told, problem) = line_of(balances(file.path()));
            assert_eq!(told, line, "{text}");
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn each_wrong_validator_is_told_with_its_line() {
        let header = "operator_address,moniker,status,jailed,tokens_base_units,commission_rate\n";
        let good = "valoper1,\"A, B\",BONDED,false,1000,0.100000000000000000\n";
        assert_eq!(check_validators(file(&format!("{header}{good}")).path()), Ok(1));
        for (row, said) in [
            ("valoper1,C,BONDED,false,1,0\n", "earlier"),
            ("valoper2,C,SLEEPING,false,1,0\n", "SLEEPING"),
            ("valoper2,C,BONDED,no,1,0\n", "true or false"),
            ("valoper2,C,BONDED,false,x,0\n", "`x`"),
            ("valoper2,C,BONDED,false,0999,0\n", "leading zero"),
            ("valoper2,C,BONDED,false,1,1.1\n", "1.1"),
        ] {
            let (told, problem) = line_of(check_validators(file(&format!("{header}{good}{row}")).path()));
            assert_eq!(told, 3);
            assert!(problem.contains(said), "{problem}");
        }
    }
}
