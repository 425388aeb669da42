//! Every target on every seed and on so many inputs that are made of seeds, always the same ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::made::Made;
use super::{TARGETS, Target, target};

mod seeds;

/// How many inputs are made of a target's seeds.
const MADE: u64 = 20_000;

/// How many of whole calls, each of which a service answers.
const MADE_CALLS: u64 = 3_000;

/// The most bytes of a seed that is kept.
const MAX_SEED_BYTES: usize = 16 << 10;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target)
}

/// The seeds of a target, by their names.
fn kept(target: &str) -> BTreeMap<String, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    let entries = fs::read_dir(folder(target)).unwrap_or_else(|error| panic!("{target} has no seeds: {error}"));
    for entry in entries {
        let entry = entry.unwrap();
        seeds.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    }
    seeds
}

fn replay(name: &str, target: Target, count: u64) {
    let seeds = kept(name);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for (seed, input) in &seeds {
        eprintln!("{name}: {seed}");
        target(input);
    }
    let seeds: Vec<Vec<u8>> = seeds.into_values().collect();
    let mut made = Made::of(&seeds, 7);
    for number in 0..count {
        let input = made.input();
        let failed = std::panic::catch_unwind(|| target(&input)).is_err();
        assert!(!failed, "{name}: made input {number} fails: {input:02x?}");
    }
}

#[test]
fn every_decoder_keeps_its_word_on_seeds_and_on_what_is_made_of_them() {
    for (name, target) in TARGETS.iter().filter(|(name, _)| *name != "calls") {
        replay(name, *target, MADE);
    }
}

#[test]
fn every_call_is_answered_whatever_its_bytes() {
    replay("calls", target("calls").unwrap(), MADE_CALLS);
}

#[test]
fn every_target_has_a_program_and_small_seeds() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(program).unwrap();
        assert!(text.contains(&format!("target!(\"{name}\")")) && manifest.contains(&format!("name = \"{name}\"")));
        for (seed, bytes) in kept(name) {
            assert!(bytes.len() <= MAX_SEED_BYTES, "{name}/{seed} has {} bytes", bytes.len());
        }
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

#[test]
fn every_record_of_the_store_has_its_reader() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/records");
    let texts = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let records: usize = texts.map(|text| text.matches("\nimpl Record for ").count()).sum();
    assert_eq!(crate::store::fuzzing::READERS.len(), records);
}

/// Seeds that the code itself makes; others are there because a run found them. `SOFTSTAKE_WRITE_SEEDS=1` writes them.
/// One that was written by an older version is a seed still.
#[test]
fn every_seed_that_the_code_makes_is_there() {
    for (target, name, bytes) in seeds::all() {
        let path = folder(target).join(name);
        if std::env::var_os("SOFTSTAKE_WRITE_SEEDS").is_some() {
            fs::create_dir_all(folder(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(path.exists(), "{} is missing: run this test with SOFTSTAKE_WRITE_SEEDS=1", path.display());
    }
}
