//! The law on the whole crate, and the law itself on small sources.

use std::path::Path;

use super::*;

#[test]
fn the_crate_keeps_the_law() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut breaches = Vec::new();
    let sources = files(&root.join("src")).unwrap();
    assert!(sources.iter().any(|(name, _)| name == "lib.rs") && sources.len() > 10, "the sources were found");
    let tests: Vec<TestFile> = sources.iter().flat_map(|(name, text)| test_files(name, text)).collect();
    for (name, text) in sources {
        breaches.extend(judge(&name, &text, &tests).into_iter().map(|breach| format!("src/{breach}")));
    }
    for folder in ["tests", "benches"] {
        let Ok(sources) = files(&root.join(folder)) else { continue };
        for (name, text) in sources {
            breaches.extend(judge_test(&name, &text).into_iter().map(|breach| format!("{folder}/{breach}")));
        }
    }
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

#[track_caller]
fn keeps(file: &str, text: &str) {
    let found = judge(file, text, &[]);
    assert!(found.is_empty(), "{file}: {text}: {found:?}");
}

#[track_caller]
fn breaks(file: &str, text: &str, line: usize, part: &str) {
    let found = judge(file, text, &[]);
    let hit = found.iter().any(|breach| breach.line == line && breach.what.contains(part));
    assert!(hit && found.len() == 1, "{file}: {text}: wanted only {line}: …{part}…, got {found:?}");
}

#[test]
fn imports_run_downhill_only() {
    keeps("app/close.rs", "use crate::book::Book; use crate::{domain::ids::PoolId, store::{Store, keys}};");
    breaks("domain/split.rs", "\nuse crate::store::Store;", 2, "domain must not import crate::store::Store");
    breaks("book/mod.rs", "use crate::{store::Store, app::ingest};", 1, "book must not import crate::app::ingest");
    breaks("api/feed.rs", "use crate::store::Store;", 1, "it may import: app, domain, pb");
    breaks("config.rs", "use crate::domain::ids::PoolId;", 1, "it may import: nothing");
    breaks("cli/demo.rs", "use crate::app::query;", 1, "cli must not import crate::app::query");
    keeps("cli/demo.rs", "use crate::client::Client; use crate::pb::v1; use crate::node::Node;");
    keeps("node.rs", "use crate::{api, app, book, chain, clock, config, domain, pb, store, telemetry};");
    breaks("node.rs", "use crate::cli::Command;", 1, "node must not import crate::cli");
    breaks("client/mod.rs", "use crate::domain::amount::BaseUnits;", 1, "client must not import");
    keeps("lib.rs", "pub mod domain; mod law;");
}

#[test]
fn paths_are_resolved_before_they_are_judged() {
    keeps("app/close.rs", "use super::pay::step; use super::super::domain::ids::PoolId;");
    breaks("domain/a/b.rs", "use super::super::super::store::Store;", 1, "crate::store::Store");
    breaks("domain/mod.rs", "mod tests { use super::super::store::Store; }", 1, "crate::store::Store");
    keeps("domain/a.rs", "mod inner { use super::*; use super::super::b::C; }");
    breaks("domain/a.rs", "use super::{b, super::chain::Signer};", 1, "crate::chain::Signer");
    keeps("domain/a.rs", "pub(in crate::domain) struct A; pub(crate) fn b() {}");
    breaks("store/mod.rs", "fn f() { let x = assert!(crate::app::ok()); }", 1, "crate::app::ok");
    breaks("domain/a.rs", "macro_rules! m { () => { $crate::book::Row } }", 1, "crate::book::Row");
    breaks("book/mod.rs", "use crate::*;", 1, "the crate's root is no room");
    breaks("book/mod.rs", "use crate::elsewhere::X;", 1, "in no room of the table");
    breaks("main.rs", "fn main() { softstake::node::run() }", 1, "main must not import crate::node::run");
    keeps("main.rs", "fn main() { softstake::cli::run() }");
    breaks("extra.rs", "fn f() {}", 1, "`extra` is in no room");
    breaks("book/mod.rs", "#[path = \"../app/x.rs\"] mod x;", 1, "#[path] is for");
}

#[test]
fn inner_rooms_may_do_more_than_the_rooms_around_them() {
    keeps("chain/simulated.rs", "use crate::clock::Clock;");
    keeps("chain/simulated/state.rs", "use crate::clock::Clock;");
    breaks("chain/remote.rs", "use crate::clock::Clock;", 1, "chain must not import");
    keeps("simulation/evidence.rs", "use crate::app::App; use super::auditor::Input;");
    keeps("simulation/auditor/weights.rs", "use super::input::Event; use crate::simulation::auditor::Finding;");
    breaks("simulation/auditor/weights.rs", "use crate::domain::split::FeeBps;", 1, "it may import: nothing");
    breaks("simulation/auditor/mod.rs", "use super::evidence::gather;", 1, "simulation::auditor must not import");
    keeps("store/records/pool.rs", "use crate::pb::store::v1 as wire;");
    breaks("store/keys.rs", "use crate::pb::store::v1 as wire;", 1, "store must not import");
    keeps("chain/remote.rs", "use tonic::transport::Channel;");
    keeps("chain/cosmos/reads.rs", "use tonic::transport::Channel;");
    breaks("chain/mod.rs", "use tonic::transport::Channel;", 1, "`tonic` is for");
    breaks("app/pay.rs", "fn f() -> Result<(), tonic::Status> { todo() }", 1, "`tonic` is for");
}

#[test]
fn domain_is_pure() {
    for (text, part) in [
        ("fn f(x: f64) {}", "a float"),
        ("const X: u8 = (1.5) as u8;", "1.5 is a float"),
        ("const X: u8 = 1e3 as u8;", "1e3 is a float"),
        ("use std::collections::HashMap;", "hash-order"),
        ("async fn f() {}", "async"),
        ("#[derive(Serialize)] struct X;", "serde"),
        ("use std::fs;", "IO"),
        ("fn f(x: std::time::Instant) {}", "for the clock"),
        ("#[cfg(test)] mod tests { fn f() -> f32 { g() } }", "a float"),
    ] {
        breaks("domain/x.rs", text, 1, part);
    }
    keeps("domain/x.rs", "fn f(x: &X) -> u128 { x.0.1 + 1_000 + 0xfe + 7u128 + 3_usize }");
    keeps("domain/x.rs", "/// Never an f64, a HashMap or async.\nfn f() { let text = \"f64 1.5\"; }");
    keeps("app/x.rs", "use std::collections::BTreeMap; async fn f(x: f64) {}");
}

#[test]
fn time_and_tasks_belong_to_the_clock_and_the_node() {
    breaks("store/sled.rs", "fn f() { let t = Instant::now(); }", 1, "for the clock");
    keeps("clock.rs", "use std::time::{Instant, SystemTime};");
    keeps("cli/bench/reads.rs", "use std::time::Instant;");
    breaks("cli/demo/world.rs", "use std::time::Instant;", 1, "for the clock");
    keeps("store/sled.rs", "#[cfg(test)] mod tests { use std::time::Instant; }");
    breaks("app/pay.rs", "async fn f() { tokio::spawn(g()); }", 1, "node drives them");
    breaks("book/mod.rs", "async fn f() { tokio::time::sleep(d).await }", 1, "node drives them");
    keeps("book/mod.rs", "fn f() { std::thread::scope(|scope| { scope.spawn(|| g()); }) }");
    keeps("node.rs", "fn f() { tokio::spawn(g()); }");
    breaks("app/pay.rs", "fn f() { println!(\"x\"); }", 1, "use tracing");
    keeps("cli/mod.rs", "fn f() { println!(\"x\"); }");
}

#[test]
fn statuses_are_made_in_one_place() {
    breaks("api/feed.rs", "fn f() -> Status { Status::invalid_argument(\"x\") }", 1, "api/status.rs alone");
    breaks("node.rs", "fn f() { tonic::Status::new(c, m) }", 1, "api/status.rs alone");
    keeps("api/status.rs", "fn f() -> Status { Status::invalid_argument(\"x\") }");
    keeps("api/feed.rs", "fn f(s: &Status) -> bool { s.code() == Code::Ok && p == v1::Status::Active }");
}

#[test]
fn an_unwrap_needs_its_proof() {
    breaks("store/x.rs", "fn f() { g().unwrap(); }", 1, "`.unwrap()` needs");
    breaks("store/x.rs", "fn f() {\n g()\n .expect(\"x\"); }", 3, "`.expect()` needs");
    let proved = "#[expect(clippy::expect_used, reason = \"x < 5\")]";
    keeps("store/x.rs", &format!("{proved} fn f() {{ g().expect(\"x\"); }}"));
    keeps("store/x.rs", &format!("fn f() {{ {proved} let x = match y {{ _ => z }}.expect(\"x\"); }}"));
    keeps("store/x.rs", &format!("{proved} #[inline] pub fn f() {{ g().expect(\"x\"); }}"));
    breaks(
        "store/x.rs",
        &format!("{proved} fn f() {{ g().expect(\"x\"); }}\nfn h() {{ g().expect(\"y\"); }}"),
        2,
        "needs",
    );
    breaks("store/x.rs", "#[expect(clippy::unwrap_used)] fn f() {}", 1, "reason");
    breaks("store/x.rs", "#[allow(clippy::unwrap_used, reason = \"x\")] fn f() {}", 1, "#[expect(");
    keeps("store/x.rs", "#[cfg(test)] mod tests { fn f() { g().unwrap(); } }");
    keeps("store/x.rs", "#[test] fn f() { g().unwrap(); }");
    keeps("store/x.rs", "#[tokio::test(start_paused = true)] async fn f() { g().unwrap(); }");
    keeps("store/x_tests.rs", "#![cfg(test)]\nfn f() { g().unwrap(); }");
    breaks("store/x.rs", "#[cfg(not(test))] fn f() { g().unwrap(); }", 1, "needs");
    breaks("store/x.rs", "#[cfg(test)] use a::{b};\nfn f() { g().unwrap(); }", 2, "needs");
    keeps("store/x.rs", "fn f() { g().unwrap_or_default(); batch.expect_absent(key); }");
}

#[test]
fn files_that_only_tests_have_are_tests() {
    let text = "mod a; #[cfg(test)] pub mod b; mod c; #[cfg(test)]\n#[path = \"keys_tests.rs\"]\nmod tests; mod d;";
    let declared = test_files("store/mod.rs", text);
    let names: Vec<(String, Option<&str>)> =
        declared.iter().map(|test| (test.module.join("::"), test.file.as_deref())).collect();
    assert_eq!(names, [("store::b".to_owned(), None), ("store::tests".to_owned(), Some("store/keys_tests.rs"))]);
    keeps("store/mod.rs", text);
    assert!(judge("store/keys_tests.rs", "use super::super::store::X; fn f() { g().unwrap(); }", &declared).is_empty());
    assert!(judge("store/b.rs", "fn f() { g().unwrap(); }", &declared).is_empty());
    assert!(judge("store/b/c.rs", "fn f() { g().unwrap(); }", &declared).is_empty());
    assert_eq!(judge("store/a.rs", "fn f() { g().unwrap(); }", &declared).len(), 1);
    assert_eq!(judge("store/b.rs", "use crate::app::X;", &declared).len(), 1, "imports are judged there too");
}

#[test]
fn no_test_is_skipped_and_no_file_is_too_long() {
    breaks("store/x.rs", "#[test]\n#[ignore] fn f() {}", 2, "a skipped test");
    breaks("store/x.rs", "#[ignore = \"slow\"] fn f() {}", 1, "a skipped test");
    breaks("store/x.rs", "#[cfg_attr(miri, ignore)] fn f() {}", 1, "a skipped test");
    assert_eq!(judge_test("api/main.rs", "mod a { #[test] #[ignore] fn f() {} }").len(), 1);
    assert!(judge_test("api/main.rs", "fn f() { g().unwrap(); /* #[ignore] */ }").is_empty());
    breaks("store/x.rs", &"\n".repeat(MAX_LINES + 1), MAX_LINES + 1, "at most 500");
    breaks("store/x.rs", "fn f( {", 1, "it is no Rust");
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

#[test]
fn every_seeded_bug_has_a_site_of_its_own() {
    let sources = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let (_, list) = sources.iter().find(|(name, _)| name == "seeded.rs").unwrap();
    let (_, list) = list.split_once("\nbugs! {").unwrap();
    let (list, _) = list.split_once("\n}").unwrap();
    let names: Vec<&str> =
        list.lines().filter_map(|line| line.trim().split_once(", \"")).map(|(name, _)| name).collect();
    assert!(names.len() >= 45, "{names:?}");
    for name in names {
        let site = format!("Bug::{name})");
        let sited = sources.iter().any(|(file, text)| !file.starts_with("cli/") && text.contains(&site));
        assert!(sited, "no room asks whether {name} is on");
    }
}
