//! The settings' reader, opened to `fuzz/`.

use super::{Config, ConfigError, check, raw};

/// A settings file, and after a line `---` variables, one `NAME=value` a line. What is taken keeps its rules when it is
/// read again; what is refused is told with its key.
pub fn settings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (file, variables) = text.split_once("\n---\n").unwrap_or((&text, ""));
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("SOFTSTAKE_{name}"), value.to_owned()))
        .collect();
    let read = || raw::read(Some(file), variables.iter().cloned()).and_then(check::check);
    match read() {
        Ok(config) => {
            assert_eq!(read().as_ref(), Ok(&config), "the same settings mean the same");
            if variables.is_empty() {
                assert_eq!(Config::from_toml(file).as_ref(), Ok(&config));
            }
        }
        Err(ConfigError::Refused(problems)) => {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.problem.is_empty()));
        }
        Err(ConfigError::Unreadable(problem)) => assert!(!problem.is_empty()),
    }
}
