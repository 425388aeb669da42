//! What `deploy/` says, held against the service: settings, ports, users, times, and names of metrics.

pub mod alerts;
mod container;
mod gauges;
mod health;
mod kubernetes;
mod systemd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_norway::Value;
use softstake::config::Config;

/// The user of the image, of the pod and of the volumes.
const USER: u64 = 65_532;

/// What a stop takes besides the drain: the last checkpoint, and a second for HTTP clients.
const AFTER_DRAIN_SECONDS: u64 = 21;

/// Where the container looks for its settings.
const SETTINGS: &str = "/etc/softstake/softstake.toml";

/// A path below the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A file of the repository.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    use serde::Deserialize;
    serde_norway::Deserializer::from_str(&text(name)).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// What is at a path of keys and places, such as `spec.containers.0.image`.
#[track_caller]
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, part| {
        let found = part.parse::<usize>().map_or_else(|_| value.get(part), |place| value.get(place));
        found.unwrap_or_else(|| panic!("{path}: there is no `{part}` in {value:?}"))
    })
}

/// The text at a path.
#[track_caller]
fn word<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).as_str().unwrap_or_else(|| panic!("{path} is no text"))
}

/// The number at a path.
#[track_caller]
fn number(value: &Value, path: &str) -> u64 {
    at(value, path).as_u64().unwrap_or_else(|| panic!("{path} is no number"))
}

/// The list at a path.
#[track_caller]
fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    at(value, path).as_sequence().unwrap_or_else(|| panic!("{path} is no list"))
}

/// The texts of the list at a path.
#[track_caller]
fn words<'v>(value: &'v Value, path: &str) -> Vec<&'v str> {
    list(value, path).iter().map(|item| item.as_str().unwrap()).collect()
}

/// The annotated settings.
fn sample() -> Config {
    Config::from_toml(&text("deploy/softstake.toml")).unwrap()
}

/// The ports that the annotated settings name: gRPC, metrics.
fn ports() -> [u64; 2] {
    let config = sample();
    let grpc = config.listen.to_string().rsplit(':').next().unwrap().parse().unwrap();
    [grpc, config.metrics_listen.port().into()]
}

/// Demands that a stop which may take so long takes in the drain, and what comes after it, with room to spare.
#[track_caller]
fn covers_the_drain(seconds: u64) {
    let drain = sample().limits.drain_timeout_ms.div_ceil(1_000);
    assert!(seconds >= drain + AFTER_DRAIN_SECONDS + 10, "{seconds} s of a stop, with {drain} s of drain");
}

/// Demands that the variables that a deployment sets are taken, with the annotated settings below them: every key is one,
/// and the whole may be served outside loopback.
#[track_caller]
fn serves_with(variables: &BTreeMap<String, String>) -> Config {
    let settings = text("deploy/softstake.toml");
    let config = Config::with_variables(Some(&settings), variables.clone().into_iter()).unwrap();
    assert!(config.tls.is_some() && config.identity.is_some(), "nobody comes in unknown");
    assert!(!config.tls.as_ref().unwrap().require_client_certificate, "the probe shows no certificate");
    config
}
