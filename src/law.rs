//! The law of the house: who may import whom, and what only some rooms may do. `ARCHITECTURE.md` has the reasons.
//!
//! It reads every source file as tokens, so that what stands inside a macro's call is seen too.

mod scan;
mod tests;

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Every room and what it may import, besides itself. `node` imports all.
const ROOMS: &[(&str, &[&str])] = &[
    ("api", &["app", "domain", "pb"]),
    ("app", &["book", "chain", "store", "domain", "clock"]),
    ("book", &["store", "domain"]),
    ("chain", &["domain", "pb"]),
    ("cli", &["node", "pb", "config", "client", "simulation"]),
    ("client", &["pb"]),
    ("clock", &[]),
    ("config", &[]),
    ("domain", &[]),
    ("fuzzing", &["api", "book", "chain", "cli", "clock", "config", "domain", "node", "pb", "store"]),
    ("law", &[]),
    ("main", &["cli"]),
    ("node", &["api", "app", "book", "chain", "client", "clock", "config", "domain", "pb", "store", "telemetry"]),
    ("pb", &[]),
    ("seeded", &[]),
    ("simulation", &["app", "book", "chain", "clock", "domain", "store"]),
    ("store", &["domain"]),
    ("telemetry", &[]),
];

/// Rooms within rooms that may import more than the room around them.
const INNER_ROOMS: &[(&[&str], &str)] = &[(&["chain", "simulated"], "clock"), (&["store", "records"], "pb")];

/// Rooms within rooms that may import nothing but themselves, not even of the room around them.
const CLOSED_ROOMS: &[&[&str]] = &[&["simulation", "auditor"]];

/// What every room may import: the bugs that a build for that purpose can put in.
const EVERYWHERE: &str = "seeded";

/// The most lines of one file.
const MAX_LINES: usize = 500;

/// One breach of the law.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    file: String,
    line: usize,
    what: String,
}

/// The module that a file below `src/` is: `app/close.rs` is `[app, close]`, `lib.rs` is `[]`.
fn module_of(file: &str) -> Vec<String> {
    let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod" || (last == "lib" && module.len() == 1)) {
        module.pop();
    }
    module
}

fn starts_with(module: &[String], with: &[&str]) -> bool {
    module.len() >= with.len() && module.iter().zip(with).all(|(a, b)| a == b)
}

/// Why `module` must not name `target`, if it must not. Both are paths from the crate's root.
fn import_breach(module: &[String], target: &[String]) -> Option<String> {
    let Some(room) = module.first() else {
        return None; // lib.rs declares the rooms.
    };
    let shown = format!("crate::{}", target.join("::"));
    let Some(wanted) = target.first() else {
        return Some("the crate's root is no room: name the room".to_owned());
    };
    if let Some(closed) = CLOSED_ROOMS.iter().find(|closed| starts_with(module, closed)) {
        let inside = starts_with(target, closed);
        return (!inside).then(|| format!("{} must not import {shown}; it may import: nothing", closed.join("::")));
    }
    if room == wanted || wanted == EVERYWHERE {
        return None;
    }
    if !ROOMS.iter().any(|(name, _)| name == wanted) {
        return Some(format!("{shown} is in no room of the table"));
    }
    let may = ROOMS.iter().find(|(name, _)| name == room).map_or(&[][..], |(_, may)| *may);
    let inner = INNER_ROOMS.iter().any(|(inner, more)| starts_with(module, inner) && more == wanted);
    if may.contains(&wanted.as_str()) || inner {
        return None;
    }
    Some(format!(
        "{room} must not import {shown}; it may import: {}",
        if may.is_empty() { "nothing".to_owned() } else { may.join(", ") }
    ))
}

/// A file that only tests have, and the module that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TestFile {
    module: Vec<String>,
    /// Where `#[path]` puts it, from `src/`.
    file: Option<String>,
}

/// The files that `file` declares for tests only.
fn test_files(file: &str, text: &str) -> Vec<TestFile> {
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let declared = scan::test_modules(&module_of(file), text).into_iter();
    declared.map(|(module, path)| TestFile { module, file: path.map(|path| format!("{folder}{path}")) }).collect()
}

/// Every breach in one file of `src/`; `tests` are the files that only tests have.
fn judge(file: &str, text: &str, tests: &[TestFile]) -> Vec<Breach> {
    let named = tests.iter().find(|test| test.file.as_deref() == Some(file));
    let module = named.map_or_else(|| module_of(file), |test| test.module.clone());
    let test = tests.iter().any(|test| module.starts_with(&test.module));
    let mut breaches = Vec::new();
    if let Some(room) = module.first()
        && !ROOMS.iter().any(|(name, _)| name == room)
    {
        let what = format!("`{room}` is in no room of the table");
        breaches.push(Breach { file: file.to_owned(), line: 1, what });
    }
    breaches.extend(length(file, text));
    breaches.extend(scan::scan(file, &module, test, text));
    breaches
}

/// Every breach in one file of `tests/` or `benches/`, where only skipped tests and overlong files are breaches.
fn judge_test(file: &str, text: &str) -> Vec<Breach> {
    let mut breaches = scan::ignored(file, text);
    breaches.extend(length(file, text));
    breaches
}

fn length(file: &str, text: &str) -> Option<Breach> {
    let lines = text.lines().count();
    let what = format!("{lines} lines; at most {MAX_LINES}, so that a file is read in one go");
    (lines > MAX_LINES).then(|| Breach { file: file.to_owned(), line: lines, what })
}

/// All Rust files below `folder`, with their paths from it, sorted.
fn files(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}
