//! The simulator: the shipped steps on a virtual clock, with every fault, and what proves that they kept their promises.
//!
//! One seed is one world: three pools on three simulated chains, the ledger and custody services, an operator, and a
//! service that dies whenever its disk says so. Everything is drawn from the seed, and nothing else decides: no thread, no
//! real clock, no order of a hash. After every step the equations hold and every promise that was heard is kept; at the
//! end the faults stop, and everything has to come to rest.

pub mod auditor;
mod calls;
mod chains;
mod conduct;
pub mod coverage;
mod custody;
mod disk;
mod engine;
pub mod evidence;
mod fault;
mod feeding;
mod founding;
mod hash;
mod ledger;
mod liveness;
mod mishaps;
mod operator;
mod payouts;
mod promises;
pub mod required;
pub mod rng;
mod snapshots;
pub mod sweep;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use coverage::Coverage;
use world::World;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// How many steps the faults last.
    pub steps: u64,
    /// How many partitions each pool's book has; drawn where it is `None`. Changes no result.
    pub partitions: Option<u16>,
    /// Whether to keep the story.
    pub trace: bool,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In which step; those after the last one are the coming to rest.
    pub step: u64,
    /// What.
    pub message: String,
}

/// What a seed came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The hash of the final state; empty after a failure.
    pub hash: String,
    /// What happened how often.
    pub coverage: Coverage,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
    /// The story, where it was asked for.
    pub story: Vec<String>,
}

/// Simulates one seed. Blocks until it is over.
pub fn run(options: Options) -> Outcome {
    let mut outcome = Outcome::default();
    let mut world = None;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Problem::of)?;
        runtime.block_on(async {
            let world = world.insert(World::found(options).await?);
            world.live(options.steps).await
        })
    }));
    let message = match ran {
        Ok(Ok(hash)) => {
            outcome.hash = hash;
            None
        }
        Ok(Err(problem)) => Some(problem.0),
        Err(panic) => Some(format!("panicked: {}", said(panic.as_ref()))),
    };
    let step = world.as_ref().map_or(0, |world| world.step);
    outcome.failure = message.map(|message| Failure { step, message });
    if let Some(world) = &mut world {
        outcome.coverage = std::mem::take(&mut world.coverage);
        outcome.story = std::mem::take(&mut world.story);
    }
    outcome
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "no message".to_owned())
}

/// Something that must not be, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    pub(crate) fn of(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}
