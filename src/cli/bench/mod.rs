//! `softstake bench`: a service of its own as a child process, measured through gRPC over the loopback: the feed, the close,
//! payouts, reads, recovery, memory and disk, at any number of positions. The equations have to hold at the end.

#![expect(clippy::disallowed_methods, reason = "what is measured here is how long things take")]

#[cfg(feature = "postgres")]
mod compared;
mod feed;
mod flood;
mod life;
mod load;
mod measure;
mod payouts;
#[cfg(feature = "postgres")]
mod postgres;
mod reads;
mod report;
mod settings;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::cli::child::{Server, ServerError, folder};
use crate::client::ClientError;

/// The pool of the run.
const POOL: &str = "atom";

/// What `bench` is told.
#[derive(Clone, Debug, Args)]
pub(super) struct BenchArgs {
    /// Accounts with a balance.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    positions: u64,

    /// Streams of events, each on a connection and with a source of its own.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    connections: u64,

    /// Events of one batch.
    #[arg(long, default_value_t = 8_192, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,

    /// Batches of a stream that may be on their way at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    in_flight: u32,

    /// How long each measurement of the feed lasts, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,

    /// How many periods are closed and paid.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    distributions: u32,

    /// How many positions are read, and a hundredth as many histories.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    reads: u64,

    /// How many random events make the last day, after which the disk is looked at. Without it, as many as positions.
    #[arg(long)]
    day_events: Option<u64>,

    /// The seed of accounts, balances and changes.
    #[arg(long, default_value_t = 20_261_122)]
    seed: u64,

    /// Where the run's folder is made, on the disk that is to be measured.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Writes the figures as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// An empty PostgreSQL database to measure with the same load: `host=... user=... dbname=...`.
    #[cfg(feature = "postgres")]
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,

    /// Measures instead what an honest client notices of floods: each for `--seconds`, after as many that are quiet.
    #[arg(long)]
    flood: bool,

    /// Only these floods.
    #[arg(long, value_name = "FLOOD", value_delimiter = ',', requires = "flood")]
    only: Vec<flood::Flood>,

    /// Has the floods share the processors with client and service on equal terms. Else they take what these leave, as if from a
    /// machine of their own (by chrt(1), SCHED_IDLE).
    #[arg(long, requires = "flood")]
    flood_equal: bool,

    /// Has a thread compute all the while that it is quiet, on the terms of the floods: so that their own use of the processors
    /// is in both figures.
    #[arg(long, requires = "flood")]
    beside_a_loop: bool,

    /// Keeps the folder with the server's data, settings and log.
    #[arg(long)]
    keep: bool,
}

/// Why the run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    /// There is no server to talk to.
    #[error(transparent)]
    Start(#[from] ServerError),
    /// A call failed.
    #[error("{what}: {error}")]
    Call { what: &'static str, error: ClientError },
    /// A stream or a read was refused.
    #[error("the server answered: {0}")]
    Refused(Box<Status>),
    /// No connection.
    #[error("connecting: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The streams of events.
    #[error("the feed: {0}")]
    Feed(String),
    /// The reads.
    #[error("a read: {0}")]
    Read(String),
    /// What was measured is not what had to be done.
    #[error("wrong: {0}")]
    Wrong(String),
    /// The baseline.
    #[cfg(feature = "postgres")]
    #[error("{0}")]
    Postgres(String),
    /// A flood can't be sent, or the folder not be written to.
    #[error("the floods: {0}")]
    Flood(std::io::Error),
    /// The figures can't be written.
    #[error("{}: {error}", path.display())]
    Json { path: PathBuf, error: std::io::Error },
    /// The signals can't be listened to.
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
    /// Told to stop before the end.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
}

impl From<Status> for BenchError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Measures, and prints the figures.
pub(super) async fn run(args: BenchArgs) -> Result<ExitCode, BenchError> {
    let stop = super::StopSignals::listen().map_err(BenchError::Signals)?;
    let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = folder(&parent, "bench")?;
    let outcome = tokio::select! {
        outcome = shown(&args, &folder) => outcome,
        signal = stop.received() => Err(BenchError::Interrupted(signal)),
    };
    if args.keep || matches!(&outcome, Err(error) if !matches!(error, BenchError::Interrupted(_))) {
        let _ = writeln!(std::io::stderr(), "kept: {}", folder.display());
    } else {
        let _ = std::fs::remove_dir_all(&folder);
    }
    let (tables, json) = outcome?;
    if let Some(path) = &args.json {
        let problem = |error| BenchError::Json { path: path.clone(), error };
        std::fs::write(path, json).map_err(problem)?;
    }
    // Whoever closed the pipe still gets the exit status.
    let _ = writeln!(std::io::stdout(), "{tables}");
    Ok(ExitCode::SUCCESS)
}

/// The figures as tables, and as JSON.
async fn shown(args: &BenchArgs, folder: &Path) -> Result<(String, String), BenchError> {
    if args.flood {
        let floods = flood::run(args, folder).await?;
        return Ok((floods.table(args), floods.json(args)));
    }
    let figures = measured(args, folder).await?;
    Ok((figures.tables(args), figures.json(args)))
}

async fn measured(args: &BenchArgs, folder: &Path) -> Result<report::Figures, BenchError> {
    let mut server = Server::prepare(folder, |data, port| settings::settings(data, port, args))?;
    let lived = life::live(args, &mut server).await;
    let lived = lived.map_err(|error| BenchError::Wrong(server.with_log(&error)));
    server.kill().await?;
    #[cfg(feature = "postgres")]
    if let Some(url) = &args.postgres {
        let mut figures = lived?;
        let rates = figures.rates;
        let compared = compared::compare(args, url, &mut figures, rates).await;
        compared.map_err(|error| BenchError::Postgres(error.to_string()))?;
        return Ok(figures);
    }
    lived
}

/// A connection of its own, with windows that don't throttle the loopback.
async fn channel(endpoint: &str) -> Result<Channel, BenchError> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?;
    Ok(endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(8 << 20).connect().await?)
}
