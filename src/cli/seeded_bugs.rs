//! `softstake seeded-bugs`: puts every bug in, one at a time, and shows which seed of the simulation, and which of its
//! checks, sees it; the same seed passes without the bug. Only in a build with the feature of that name.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use indicatif::ProgressBar;

use crate::seeded::{self, Bug};
use crate::simulation::{self, Failure, Options, sweep};

/// How much of what a check said is shown.
const SHOWN_CHARS: usize = 110;

/// Checks, by words that only what they say has. What says none of these is a promise that somebody heard.
const CHECKS: &[(&str, &str)] = &[
    ("the auditor has", "the auditor"),
    ("it does not come to rest", "liveness"),
    ("the service found", "an equation, by the service itself"),
    (": equation ", "an equation, after the step"),
    ("the books are broken", "the postings themselves"),
    ("did not fit the books", "the postings themselves"),
    ("ledger and chain", "reconciliation"),
    ("in the ledger and", "reconciliation"),
];

/// Bugs in what the simulation does not run, or can't tell from a change of plan, and the test that sees each.
const TESTS: &[(Bug, &str)] = &[
    (Bug::RestoredUnfenced, "store::sled::tests::backup::a_backup_comes_back_and_is_fenced_at_first"),
    (
        Bug::RestoredActs,
        "app::restored::tests::nothing_is_sent_closed_or_paid_until_ledger_and_chain_agree_and_a_person_resumes_the_pool",
    ),
    (Bug::NoExpectation, "app::control::tests::of_two_services_over_one_store_the_later_commit_is_refused"),
];

/// What `seeded-bugs` is told.
#[derive(Debug, Args)]
pub(super) struct SeededBugsArgs {
    /// The first seed that is tried.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds are tried before a bug counts as missed.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// How many steps the faults of a seed last.
    #[arg(long, default_value_t = 500)]
    steps: u64,
    /// How many seeds are simulated at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only this bug; may be given several times.
    #[arg(long = "bug", value_name = "NAME", value_parser = named)]
    bugs: Vec<Bug>,
    /// Prints a line with each bug that a test sees and the name of that test, and simulates nothing.
    #[arg(long)]
    tests: bool,
}

fn named(name: &str) -> Result<Bug, String> {
    let known = || seeded::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
    seeded::named(name).ok_or_else(|| format!("there is no such bug; there are {}", known()))
}

/// What became of one bug.
struct Hunt {
    bug: Bug,
    /// The seed that saw it, and what it said.
    seen: Option<(u64, Failure)>,
    /// Whether that seed passes without the bug.
    clean: bool,
}

/// Hunts every bug that is asked for. Exit status 1 where one is missed, or a seed fails without any.
pub(super) fn run(args: &SeededBugsArgs) -> ExitCode {
    if args.tests {
        TESTS.iter().for_each(|(bug, test)| show(&format!("{} {test}", bug.name())));
        return ExitCode::SUCCESS;
    }
    let by_test = |bug: &Bug| TESTS.iter().any(|(other, _)| other == bug);
    let all: Vec<Bug> = seeded::ALL.iter().copied().filter(|bug| !by_test(bug)).collect();
    let bugs = if args.bugs.is_empty() { &all } else { &args.bugs };
    let bar = ProgressBar::new(bugs.len() as u64);
    let hunts: Vec<Hunt> = bugs
        .iter()
        .map(|bug| {
            let hunt = hunt(args, *bug);
            bar.inc(1);
            hunt
        })
        .collect();
    bar.finish_and_clear();
    let tested = if args.bugs.is_empty() { TESTS } else { &[] };
    show(&table(&hunts, tested).to_string());
    let caught = hunts.iter().filter(|hunt| hunt.seen.is_some() && hunt.clean).count();
    let verdict = if caught == hunts.len() { "PASS" } else { "FAIL" };
    show(&format!("{verdict}: {caught} of {} bugs seen by the simulation within {} seeds", hunts.len(), args.seeds));
    if !tested.is_empty() {
        show(&format!("{} more are left to the tests named above", tested.len()));
    }
    if caught == hunts.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn hunt(args: &SeededBugsArgs, bug: Bug) -> Hunt {
    let options = Options { seed: args.seed, steps: args.steps, partitions: None, trace: false };
    seeded::activate(Some(bug));
    let swept = sweep::sweep(options, args.seeds, args.jobs, 1, || ());
    seeded::activate(None);
    let seen = swept.failures.into_iter().next();
    let clean = seen.as_ref().is_some_and(|(seed, _)| {
        let outcome = simulation::run(Options { seed: *seed, ..options });
        outcome.failure.is_none()
    });
    Hunt { bug, seen, clean }
}

/// Which check said `message`.
fn check(message: &str) -> &'static str {
    CHECKS.iter().find(|(words, _)| message.contains(words)).map_or("a promise", |(_, check)| check)
}

fn table(hunts: &[Hunt], tested: &[(Bug, &str)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["bug", "what it is", "caught by", "seed", "step", "without it"]);
    let what = |bug: &Bug| format!("{}\n{}", bug.story(), bug.mistake());
    for Hunt { bug, seen, clean } in hunts {
        let (caught, seed, step) = match seen {
            Some((seed, Failure { step, message })) => {
                let said: String = message.replace('\n', " ").chars().take(SHOWN_CHARS).collect();
                (format!("{}\n{said}", check(message)), seed.to_string(), step.to_string())
            }
            None => ("MISSED".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        let without = match (seen, clean) {
            (None, _) => "-",
            (Some(_), true) => "passes",
            (Some(_), false) => "FAILS",
        };
        table.add_row([bug.name(), &what(bug), &caught, &seed, &step, without]);
    }
    for (bug, test) in tested {
        let caught = format!("a test\n{test}");
        table.add_row([bug.name(), &what(bug), &caught, "-", "-", "-"]);
    }
    table
}

fn show(line: &str) {
    use std::io::Write;
    // Where nobody reads any more, the exit status remains.
    let _ = writeln!(std::io::stdout(), "{line}");
}
