//! `softstake demo`: a service of its own as a child process, weeks of customers' and validators' life against it through
//! gRPC alone, and every figure computed a second time.

mod amounts;
mod checks;
mod custody;
mod feed;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod input;
mod ledger;
mod market;
mod plan;
mod population;
mod reference;
mod report;
mod server;
mod story;
mod tables;
mod world;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::child::{Server, ServerError, folder};
use crate::client::ClientError;
use crate::config::Preset;

/// What `demo` is told.
#[derive(Clone, Debug, Args)]
pub(super) struct DemoArgs {
    /// Days to live. Fewer than 30 may be too few for an unbonding of ATOM (21 days) to mature, which is then a FAIL.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,

    /// Accounts of each pool's seeded population.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    accounts: u32,

    /// The seed of population, trading and chains.
    #[arg(long, default_value_t = 20_261_122)]
    seed: u64,

    /// The pools: atom, dot, trx, near, apt. Without it: those of --balances, or atom,dot,near.
    #[arg(long, value_delimiter = ',', value_parser = preset)]
    preset: Option<Vec<Preset>>,

    /// Opening balances (CSV: account,asset,base_units) in place of a seeded population.
    #[arg(long, value_name = "FILE")]
    balances: Option<PathBuf>,

    /// Validators (CSV: operator_address,moniker,status,jailed,tokens_base_units,commission_rate) of the first pool.
    #[arg(long, value_name = "FILE")]
    validators: Option<PathBuf>,

    /// Prints one JSON object in place of tables.
    #[arg(long)]
    json: bool,

    /// Keeps the folder with the server's data, settings and log.
    #[arg(long)]
    keep: bool,
}

fn preset(name: &str) -> Result<Preset, String> {
    let known = || Preset::ALL.map(Preset::name).join(", ");
    Preset::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| format!("there are {}", known()))
}

/// Why the run did not come to its end. A run that did, and found something wrong, is no error: it reports FAIL.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// The arguments don't go together.
    #[error("{0}")]
    Arguments(String),
    /// A file is wrong.
    #[error(transparent)]
    Input(#[from] input::InputError),
    /// There is no server to talk to.
    #[error(transparent)]
    Start(#[from] ServerError),
    /// The server does not do what it has to.
    #[error("the server: {0}")]
    Server(String),
    /// A call failed.
    #[error("{what}: {error}")]
    Call { what: &'static str, error: ClientError },
    /// The balance feed failed.
    #[error("the balance feed: {0}")]
    Feed(String),
    /// The payouts make no sense.
    #[error("the payouts: {0}")]
    Ledger(String),
    /// The signals can't be listened to.
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
    /// Told to stop before the end.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
}

impl DemoError {
    /// The error of a call called `what`.
    fn call(what: &'static str) -> impl Fn(ClientError) -> Self {
        move |error| Self::Call { what, error }
    }
}

/// Lives the days, prints what came of them.
pub(super) async fn run(args: DemoArgs) -> Result<ExitCode, DemoError> {
    let plan = plan::Plan::new(&args)?;
    let stop = super::StopSignals::listen().map_err(DemoError::Signals)?;
    let folder = folder(&std::env::temp_dir(), "demo")?;
    let outcome = tokio::select! {
        outcome = live(&plan, &folder) => outcome,
        signal = stop.received() => Err(DemoError::Interrupted(signal)),
    };
    let failed = outcome.as_ref().map_or(true, |outcome| !outcome.passed());
    let interrupted = matches!(outcome, Err(DemoError::Interrupted(_)));
    if args.keep || (failed && !interrupted) {
        let _ = writeln!(std::io::stderr(), "kept: {}", folder.display());
    } else {
        // It lies in the temporary folder: what can't be removed now goes with that.
        let _ = std::fs::remove_dir_all(&folder);
    }
    let outcome = outcome?;
    let text = if args.json { report::json(&plan, &outcome) } else { tables::tables(&plan, &outcome) };
    // Whoever closed the pipe still gets the exit status.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if outcome.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn live(plan: &plan::Plan, folder: &Path) -> Result<report::Outcome, DemoError> {
    let steps = plan::steps(&plan.story()).len() as u64;
    let bar = progress(steps);
    let mut server = Server::prepare(folder, |data, port| server::settings(data, port, plan))?;
    let lived = world::live(plan, &mut server, &bar).await;
    bar.finish_and_clear();
    let lived = lived.map_err(|error| DemoError::Server(server.with_log(&error)));
    server.kill().await?;
    lived
}

/// A bar where somebody watches, and nothing elsewhere.
fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}  [{elapsed}, {eta} left]") {
        bar.set_style(style);
    }
    bar
}
