//! Whole worlds with every fault, each from a seed: what `softstake simulate` runs, with a handful of seeds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use softstake::simulation::{Options, Outcome, run};

fn simulate(seed: u64, steps: u64, partitions: Option<u16>) -> Outcome {
    let outcome = run(Options { seed, steps, partitions, trace: false });
    if let Some(failure) = &outcome.failure {
        panic!("softstake simulate --seed {seed} --steps {steps}: step {}: {}", failure.step, failure.message);
    }
    outcome
}

#[test]
fn worlds_with_every_fault_come_to_rest() {
    for seed in 1..=3 {
        simulate(seed, 300, None);
    }
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    let (first, second) = (simulate(7, 120, None), simulate(7, 120, None));
    assert_eq!(first.hash, second.hash);
    assert_eq!(first.coverage, second.coverage);
    assert_ne!(first.hash, simulate(8, 120, None).hash);
}

#[test]
fn the_number_of_partitions_changes_no_result() {
    for seed in [4, 5] {
        let hashes = [None, Some(1), Some(2), Some(5)].map(|partitions| simulate(seed, 120, partitions).hash);
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "seed {seed}: {hashes:?}");
    }
}
