//! Many seeds on some threads, each with a world of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::coverage::Coverage;
use super::{Failure, Options, run};

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// How many seeds were simulated.
    pub seeds: u64,
    /// What happened how often.
    pub coverage: Coverage,
    /// The seeds that failed, in order.
    pub failures: Vec<(u64, Failure)>,
}

/// Simulates `count` seeds from `first.seed` on, on `jobs` threads, and gives up after `max_failures`. `progress` is told
/// after every seed.
pub fn sweep(first: Options, count: u64, jobs: usize, max_failures: usize, progress: impl Fn() + Sync) -> Sweep {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let all = Mutex::new(Sweep::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || enough.load(Ordering::Relaxed) {
                return;
            }
            let seed = first.seed.wrapping_add(number);
            let outcome = run(Options { seed, ..first });
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.seeds += 1;
            all.coverage.merge(&outcome.coverage);
            if let Some(failure) = outcome.failure {
                all.failures.push((seed, failure));
                enough.fetch_or(all.failures.len() >= max_failures.max(1), Ordering::Relaxed);
            }
            drop(all);
            progress();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.failures.sort_by_key(|(seed, _)| *seed);
    all
}
