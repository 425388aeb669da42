//! The operators' week of deploy/runbook.md, run as it stands there: each block of commands that it marks, in order, with
//! grpcurl over mTLS against the program itself. In between, the world goes on: time, customers, and a chain that fails.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::deployment::alerts::alert_names;
use crate::deployment::text;
use crate::surface::grpcurl;

/// What happens in the world before a block; nothing before the others.
const WORLD: &[(&str, &str)] = &[
    ("add-validators", "advance 60"),
    ("plan", "put alice 250000000000; advance 1800"),
    ("morning", "advance 7200"),
    ("close-period", "put bob 50000000000; advance 79200"),
    ("approve-distribution", "advance 3600"),
    ("released", "advance 600"),
    ("retire-validator", "advance 600"),
    ("retired", "advance 14400"),
    // What is sent now is done, and nobody can ask the chain about it.
    ("look-at-operation", "fault FAULT_KIND_LOOKUP_UNAVAILABLE 4294967295; put carol 90000000000; advance 21600"),
    ("backup", "clear; advance 900"),
    // After the backup custody sends tokens, and the chain takes stake.
    ("restore", "put dave 70000000000; advance 7200; lost=$(delegated)"),
    ("resume-restored", "put dave 70000000000; advance 60; test \"$(delegated)\" = \"$lost\""),
    ("after-restore", "advance 3600; test \"$(delegated)\" = \"$lost\""),
];

/// What the commands find around them: the program, a service that starts and stops, and the levers of the world.
const AROUND: &str = r#"set -euo pipefail
cd "$WORK"
softstake() { "$PROGRAM" "$@"; }
systemctl() {
    if [ "$1" = stop ]; then kill "$service"; wait "$service" || true; return; fi
    "$PROGRAM" serve --config "$SETTINGS" >> "$WORK/log" 2>&1 &
    service=$!
    until "$PROGRAM" health --config "$SETTINGS" > /dev/null 2>&1; do kill -0 "$service"; sleep 0.1; done
}
trap 'kill "$service" 2> /dev/null || true' EXIT
as() {
    grpcurl -cacert "$CERTS/ca.pem" -cert "$CERTS/$1.pem" -key "$CERTS/$1.key" \
        -d "$3" "$ADDRESS" "$2"
}
sim() { as simulator "softstake.sim.v1.SimulationService/$1" "$2"; }
advance() { sim AdvanceTime "{\"seconds\": $1}" > /dev/null; }
fault() { sim SetFault "{\"pool\": \"pools/atom\", \"kind\": \"$1\", \"times\": $2}" > /dev/null; }
clear() { sim ClearFaults '{"pool": "pools/atom"}' > /dev/null; }
delegated() { sim GetChainTotals '{"pool": "pools/atom"}' | sed -n '/"delegated"/,/}/p' | grep baseUnits; }
put() {
    as ledger softstake.v1.BalanceFeedService/PutBalance "{\"request_id\": \"put-$1-$2\", \"account\": \"$1\",
        \"balance\": {\"asset\": \"ATOM\", \"base_units\": \"$2\"}}" > /dev/null
}
systemctl start softstake
"#;

/// The blocks of commands, each by the name of the mark above it.
fn blocks(runbook: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let (mut mark, mut inside) = (None, false);
    for line in runbook.lines() {
        match line {
            "```sh" => {
                let name: String = mark.take().expect("every block of commands is marked, and so run");
                assert!(blocks.iter().all(|(known, _)| *known != name), "{name} stands there twice");
                blocks.push((name, String::new()));
                inside = true;
            }
            "```" => inside = false,
            line if inside => {
                let (_, commands) = blocks.last_mut().unwrap();
                commands.push_str(line);
                commands.push('\n');
            }
            line => {
                let name = line.strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->"));
                mark = name.map(str::to_owned).or(mark);
            }
        }
    }
    blocks
}

/// A port that is free now, and stays so over a restart: below those that systems give to whoever asks for any.
fn free_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn settings(folder: &Path, port: u16) -> String {
    let at = folder.display();
    format!(
        r#"
listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:0"
data_dir = "{at}/data"
backup_dir = "{at}/backups"
[limits]
request_timeout_ms = 600000
[clock]
kind = "manual"
start = "2026-11-22T00:00:00Z"
[tls]
cert_file = "{at}/certs/server.pem"
key_file = "{at}/certs/server.key"
client_ca_file = "{at}/certs/ca.pem"
[identity]
file = "{at}/certs/identity.toml"
[operations]
max_age_seconds = 7200
[[pools]]
id = "atom"
asset = "ATOM"
create = false
[pools.chain]
kind = "simulated"
preset = "atom"
seed = 7
custody_genesis_base_units = "1000000000000000"
[pools.policy]
[pools.house]
float_floor_base_units = "1000000"
float_target_base_units = "20000000"
"#
    )
}

#[test]
fn an_operators_week_goes_as_the_runbook_says() {
    if grpcurl().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (at, softstake) = (|name: &str| folder.path().join(name), env!("CARGO_BIN_EXE_softstake"));
    let made = Command::new(softstake).arg("dev-certs").arg(at("certs")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let port = free_port();
    std::fs::create_dir(at("work")).unwrap();
    std::fs::write(at("settings.toml"), settings(folder.path(), port)).unwrap();

    let blocks = blocks(&text("deploy/runbook.md"));
    let mut script = AROUND.to_owned();
    for (name, commands) in &blocks {
        let world = WORLD.iter().find(|(before, _)| before == name).map_or("", |(_, world)| world);
        script.push_str(&format!("echo '== {name}'\n{world}\n{commands}"));
    }
    script.push_str("echo '== the end'\nsystemctl stop softstake\n");
    for (before, _) in WORLD {
        assert!(blocks.iter().any(|(name, _)| name == before), "the runbook has no block {before}");
    }
    std::fs::write(at("week.sh"), script).unwrap();
    let ran = Command::new("bash")
        .arg(at("week.sh"))
        .env("WORK", at("work"))
        .env("PROGRAM", softstake)
        .env("SETTINGS", at("settings.toml"))
        .env("ADDRESS", format!("localhost:{port}"))
        .env("CERTS", at("certs"))
        .env("DATA_DIR", at("data"))
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let log = std::fs::read_to_string(at("work/log")).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(20).collect();
    assert!(ran.status.success() && said.contains("== the end"), "{said}\n{tail:#?}");
    // The last entries of the audit log: who lifted the fence, and who let the pool go on.
    assert!(said.contains("\"principal\": \"host:") && said.contains("restored from a backup"), "{said}");
    assert_eq!(said.matches("\n== ").count() + 1, blocks.len() + 1, "every block was run: {said}");
}

#[test]
fn every_alert_has_its_section_and_says_what_to_do() {
    let runbook = text("deploy/runbook.md");
    let sections = runbook.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap());
    let mut told = BTreeSet::new();
    for (title, section) in sections {
        for part in ["**Means**: ", "**Look at**: ", "**Do**: "] {
            assert_eq!(section.matches(part).count(), 1, "{title} says {part}");
        }
        told.insert(title.to_owned());
    }
    assert_eq!(told, alert_names());
}
