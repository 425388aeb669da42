//! `softstake simulate`: one seed with its story, or many seeds with their counters.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::simulation::coverage::Coverage;
use crate::simulation::required::missing;
use crate::simulation::sweep::sweep;
use crate::simulation::{Failure, Options, run as simulate};

/// What to simulate.
#[derive(Clone, Debug, Args)]
pub(super) struct SimulateArgs {
    /// The seed, or the first of many.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many steps the faults last in each world.
    #[arg(long, default_value_t = 500)]
    steps: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many threads; as many as the machine has, where it is left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Into how many partitions each pool's book is cut; drawn where it is left out. Changes no result.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    partitions: Option<u16>,
    /// Tells the story of a seed.
    #[arg(long)]
    trace: bool,
    /// Prints what happened how often.
    #[arg(long)]
    counters: bool,
    /// Fails where the seeds together leave out a fault, a state or a reason that there is, and names each.
    #[arg(long)]
    require_coverage: bool,
    /// How many failures end the run.
    #[arg(long, default_value_t = 5)]
    max_failures: usize,
}

/// Runs it. Fails where a world failed.
pub(super) fn run(args: &SimulateArgs) -> ExitCode {
    let options = Options { seed: args.seed, steps: args.steps, partitions: args.partitions, trace: args.trace };
    if args.seeds <= 1 { one(args, options) } else { many(args, options) }
}

fn one(args: &SimulateArgs, options: Options) -> ExitCode {
    let outcome = simulate(options);
    for line in &outcome.story {
        println!("{line}");
    }
    if args.counters {
        print_counters(&outcome.coverage, 1);
    }
    match &outcome.failure {
        None => {
            println!("seed {}: at rest after {} steps, state hash {}", options.seed, options.steps, outcome.hash);
            if covers(args, &outcome.coverage, 1) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some(failure) => {
            print_failure(args, options.seed, failure);
            ExitCode::FAILURE
        }
    }
}

fn many(args: &SimulateArgs, options: Options) -> ExitCode {
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let bar = ProgressBar::with_draw_target(Some(args.seeds), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} seeds {wide_bar} {per_sec} {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let options = Options { trace: false, ..options };
    let swept = sweep(options, args.seeds, jobs, args.max_failures, || bar.inc(1));
    let took = bar.elapsed();
    bar.finish_and_clear();
    print_counters(&swept.coverage, swept.seeds);
    for (seed, failure) in &swept.failures {
        print_failure(args, *seed, failure);
    }
    let (seeds, failed) = (swept.seeds, swept.failures.len());
    println!("{seeds} seeds x {} steps on {jobs} threads in {} s: {failed} failed", args.steps, took.as_secs());
    let covered = covers(args, &swept.coverage, seeds);
    if failed == 0 && covered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether everything was reached that has to be, where that is asked for. Names what was not.
fn covers(args: &SimulateArgs, coverage: &Coverage, seeds: u64) -> bool {
    let missing = if args.require_coverage { missing(coverage, seeds) } else { Vec::new() };
    for what in &missing {
        println!("NOT COVERED: {what}");
    }
    missing.is_empty()
}

fn print_failure(args: &SimulateArgs, seed: u64, failure: &Failure) {
    println!("seed {seed} FAILED in step {}: {}", failure.step, failure.message);
    let partitions = args.partitions.map_or(String::new(), |partitions| format!(" --partitions {partitions}"));
    println!("  again: softstake simulate --seed {seed} --steps {}{partitions} --trace", args.steps);
}

fn print_counters(coverage: &Coverage, seeds: u64) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["what", "", "times", "seeds", "of seeds"]);
    for (group, name, count) in coverage.iter() {
        let share = count.seeds * 10_000 / seeds.max(1);
        let share = format!("{}.{:02} %", share / 100, share % 100);
        table.add_row([group.to_owned(), name.to_owned(), count.times.to_string(), count.seeds.to_string(), share]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}
