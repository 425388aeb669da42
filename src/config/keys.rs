//! The keys that there are, and the refusal of all others by their paths.

use serde_json::Value;

use super::Problem;
use super::raw::{Raw, RawPool};

/// Every key there is, as the tree of a default that has one pool.
pub(super) fn known_keys() -> Value {
    let whole = Raw { pools: vec![RawPool::default()], ..Raw::default() };
    serde_json::to_value(whole).unwrap_or_default()
}

/// Adds every key of `given` that `known` does not have, with its path.
pub(super) fn unknown_keys(path: &str, given: &Value, known: &Value, problems: &mut Vec<Problem>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => unknown_keys(&path, value, known, problems),
                    None => {
                        let names: Vec<&str> = known.keys().map(String::as_str).collect();
                        let problem = format!("there is no such key; the keys here are {}", names.join(", "));
                        problems.push(Problem { key: path, problem });
                    }
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, value) in given.iter().enumerate() {
                if let Some(known) = known.first() {
                    unknown_keys(&format!("{path}[{index}]"), value, known, problems);
                }
            }
        }
        _ => {}
    }
}
