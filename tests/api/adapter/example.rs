//! The example adapter in Python, where Python is there with its packages.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The URL that a service prints when it serves.
pub fn address_of(service: &mut Child) -> String {
    let lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let found = lines.map(Result::unwrap).find_map(|line| {
        let (_, rest) = line.split_once(" at ")?;
        Some(rest.split(',').next()?.to_owned())
    });
    found.expect("the service ended before it served")
}

/// A Python that has what deploy/examples/requirements.txt names, or why there is none.
fn python() -> Option<PathBuf> {
    let required = std::env::var_os("SOFTSTAKE_REQUIRE_PYTHON").is_some_and(|value| value == "1");
    let tools = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let python = Path::new(&tools).join("ci-tools/adapter/bin/python");
    let has = Command::new(&python).args(["-c", "import grpc_tools, grpc"]).stderr(Stdio::null()).status();
    if has.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    assert!(!required, "{} is required, with deploy/examples/requirements.txt", python.display());
    println!("SKIPPED: {} is not there; see deploy/examples/README.md", python.display());
    None
}

#[test]
fn the_example_in_python_keeps_every_clause() {
    let Some(python) = python() else { return };
    let mut adapter = Command::new(python);
    adapter.args(["deploy/examples/adapter.py", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut adapter = adapter.spawn().unwrap();
    let url = address_of(&mut adapter);
    let mut check = Command::new(env!("CARGO_BIN_EXE_softstake"));
    check.args(["adapter", "check", "--endpoint", &url, "--signer", &url, "--key-id", "toy", "--poll-ms", "50"]);
    let checked = check.arg("--spend").output().unwrap();
    adapter.kill().unwrap();
    adapter.wait().unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    assert!(said.ends_with("29 clauses hold, 0 are broken, 0 were not seen\n"), "{said}");
}
