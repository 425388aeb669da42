//! Which variables of the environment are settings, and that each says something of its own.

use super::{ConfigError, Problem};

/// Names of `SOFTSTAKE_` variables that belong to the command line and the tests, not to the settings.
const NOT_SETTINGS: [&str; 3] = ["SOFTSTAKE_CONFIG", "SOFTSTAKE_REQUIRE_GRPCURL", "SOFTSTAKE_REQUIRE_PYTHON"];

const PREFIX: &str = "SOFTSTAKE_";

/// The variables that are settings.
pub(super) fn of_settings(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let variables: Vec<(String, String)> =
        variables.filter(|(name, _)| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str())).collect();
    if let Some((name, _)) = variables.iter().find(|(name, _)| name.starts_with("SOFTSTAKE_POOLS")) {
        let problem = "pools are set in the file only, not by a variable; unset it".to_owned();
        return Err(ConfigError::Refused(vec![Problem { key: name.clone(), problem }]));
    }
    let contradicting = contradicting(&variables);
    if contradicting.is_empty() { Ok(variables) } else { Err(ConfigError::Refused(contradicting)) }
}

/// What is wrong with the names of variables among themselves: of two that name one setting, whose names are read without
/// their case, or a setting and a part of it, chance would say which one counts.
fn contradicting(variables: &[(String, String)]) -> Vec<Problem> {
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let odd = variables.iter().filter(|(name, _)| !plain(name)).map(|(name, _)| Problem {
        key: name.clone(),
        problem: "a setting's name has letters, digits and underscores; unset it".to_owned(),
    });
    let path = |name: &str| name.to_ascii_lowercase().split("__").map(str::to_owned).collect::<Vec<_>>();
    let mut named: Vec<(Vec<String>, &str)> = variables.iter().map(|(name, _)| (path(name), name.as_str())).collect();
    named.sort();
    // What lies below a path stands right behind it.
    let twice = named.windows(2).filter_map(|pair| match pair {
        [(path, first), (below, second)] if below.starts_with(path) => Some(Problem {
            key: (*second).to_owned(),
            problem: format!("it says again, or in part, what {first} says; unset one of them"),
        }),
        _ => None,
    });
    odd.chain(twice).collect()
}
