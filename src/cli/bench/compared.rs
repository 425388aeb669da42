//! The same load against PostgreSQL, after the service has ended, and how many times faster the service was.

use std::time::Duration;

use super::load::Load;
use super::measure::{Usage, rate};
use super::postgres::{Baseline, Closed, PostgresError};
use super::reads::What;
use super::report::{Figures, Rates, Row};
use super::settings::{DAY, START};
use super::{BenchArgs, life};

/// Runs the baseline, and writes its figures and the ratios beside the service's.
pub(super) async fn compare(
    args: &BenchArgs,
    url: &str,
    figures: &mut Figures,
    ours: Rates,
) -> Result<(), PostgresError> {
    let load = Load { positions: args.positions, seed: args.seed };
    let (batch, long) = (args.batch as usize, Duration::from_secs(args.seconds));
    let mut baseline = Baseline::connect(url, load, args.connections, batch, START).await?;
    let row = |figures: &mut Figures, job: &str, count, took, latencies| {
        figures.row(Row::new(job, count, took, latencies, Usage::default(), Usage::default()));
    };
    let fed = baseline.open(START).await?;
    row(figures, "PostgreSQL: open positions, bulk", fed.events, fed.took, fed.latencies);
    let fed = baseline.update(START + DAY / 4, long).await?;
    let updates = rate(fed.events, fed.took);
    row(figures, "PostgreSQL: random events", fed.events, fed.took, fed.latencies);
    let read = baseline.read(What::Position, args.reads, life::READERS).await?;
    row(figures, "PostgreSQL: positions, 64 in flight", read.calls, read.took, read.latencies);
    // A hundred base units for each position and more: every position is paid.
    let net = u128::from(args.positions) * 1_000_000;
    let Closed { took, payouts, bytes, .. } = baseline.close(START + DAY, net).await?;
    row(figures, "PostgreSQL: freeze, split, payouts", payouts, took, Default::default());
    let read = baseline.read(What::History(1), (args.reads / 100).max(100), 1).await?;
    row(figures, "PostgreSQL: one account's payouts, 1 distribution", read.calls, read.took, read.latencies);
    let (positions, _) = baseline.disk_bytes().await?;
    figures.figure("PostgreSQL: disk per position", positions / args.positions, "bytes");
    figures.figure("PostgreSQL: disk per payout", bytes / payouts.max(1), "bytes");
    let tenths = |ours: u64, theirs: u64| ours * 10 / theirs.max(1);
    figures.figure("packed events, of PostgreSQL's", tenths(ours.packed, updates), "tenths");
    figures.figure("friendly events, of PostgreSQL's", tenths(ours.rows, updates), "tenths");
    figures.figure("the close, of PostgreSQL's", tenths(ours.close, rate(payouts, took)), "tenths");
    Ok(())
}
