//! The baseline: PostgreSQL does the same job with the same load. `benches/postgres/README.md` says why it does it so.

mod lane;
mod numeric;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

use self::lane::Lane;
use self::numeric::Numeric;
use super::feed::Fed;
use super::load::{Load, Share};
use super::measure::Latencies;
use super::reads::{Read, What};

const SCHEMA: &str = include_str!("../../../benches/postgres/schema.sql");
const OPENED: &str = include_str!("../../../benches/postgres/opened.sql");
const SESSION: &str = include_str!("../../../benches/postgres/session.sql");
const BATCH: &str = include_str!("../../../benches/postgres/batch.sql");
const CLOSE: &str = include_str!("../../../benches/postgres/close.sql");
const POSITION: &str = include_str!("../../../benches/postgres/position.sql");
const HISTORY: &str = include_str!("../../../benches/postgres/history.sql");

/// A connection that reads: each statement is planned once, and never for more than one process.
const READING: &str = "SET plan_cache_mode = force_generic_plan; SET max_parallel_workers_per_gather = 0";

/// Connections that read, at most: a backend answers one query at a time, and there are few cores.
const READERS: u64 = 4;

/// Why there are no figures of the baseline.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    /// The database refused, or is not there.
    #[error("PostgreSQL: {}", told(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A task ended early.
    #[error("PostgreSQL: a connection's task: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// What it did is not what had to be done.
    #[error("PostgreSQL: wrong: {0}")]
    Wrong(String),
}

/// The error with what the server said, which the client's own text leaves out.
fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |told| format!("{error}: {told}"))
}

/// A period that was closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// Freeze, split, durable and indexed payouts.
    pub(super) took: Duration,
    pub(super) payouts: u64,
    /// What these payouts and their index take of the disk, in bytes.
    pub(super) bytes: u64,
}

/// PostgreSQL with the schema, and connections that bring events.
pub(super) struct Baseline {
    url: String,
    load: Load,
    batch: usize,
    control: Client,
    lanes: Vec<Lane>,
    period_start: i64,
    distribution: i32,
}

impl Baseline {
    /// Makes the schema in the empty database that `url` names (`host=... user=... dbname=...`), for periods from
    /// `period_start` on, with `connections` connections that each bring the events of one source, `batch` at a time.
    pub(super) async fn connect(
        url: &str,
        load: Load,
        connections: u64,
        batch: usize,
        period_start: i64,
    ) -> Result<Self, PostgresError> {
        let control = client(url).await?;
        control.batch_execute(SCHEMA).await?;
        let mut lanes = Vec::new();
        for place in 0..connections {
            lanes.push(Lane::open(client(url).await?, load, Share { place, of: connections }).await?);
        }
        Ok(Self { url: url.to_owned(), load, batch, control, lanes, period_start, distribution: 0 })
    }

    /// Every account's opening balance as of `at_seconds`, copied in bulk over all connections, and the key built at the end.
    /// There are no acknowledgements.
    pub(super) async fn open(&mut self, at_seconds: i64) -> Result<Fed, PostgresError> {
        let started = Instant::now();
        let copied = futures::future::try_join_all(self.lanes.iter_mut().map(|lane| lane.openings(at_seconds))).await?;
        // VACUUM and CHECKPOINT refuse to run together with others.
        for statement in OPENED.split_inclusive(';').filter(|statement| statement.trim().ends_with(';')) {
            self.control.batch_execute(statement).await?;
        }
        let (events, took) = (copied.iter().sum(), started.elapsed());
        match events == self.load.positions {
            true => Ok(Fed { events, took, ..Fed::default() }),
            false => Err(PostgresError::Wrong(format!("{events} positions opened of {}", self.load.positions))),
        }
    }

    /// Random changes as of `at_seconds`, as fast as it goes for so long, one batch in flight on each connection: one more
    /// would wait in the socket. An event is acknowledged when its batch's transaction is durable. Each connection then
    /// repeats its last batch, which must change nothing.
    pub(super) async fn update(&mut self, at_seconds: i64, long: Duration) -> Result<Fed, PostgresError> {
        let (batch, period_start, started) = (self.batch, self.period_start, Instant::now());
        let mut running = JoinSet::new();
        for mut lane in std::mem::take(&mut self.lanes) {
            running.spawn(async move {
                let fed = lane.run(batch, at_seconds, period_start, started, long).await?;
                Ok::<_, PostgresError>((lane, fed))
            });
        }
        let mut all = Fed::default();
        while let Some(ended) = running.join_next().await {
            let (lane, fed) = ended??;
            self.lanes.push(lane);
            all.events += fed.events;
            all.took = all.took.max(fed.took);
            all.latencies.join(fed.latencies);
            all.acked.extend(fed.acked);
        }
        Ok(all)
    }

    /// Closes the period at `end_seconds`: freezes the weights and divides `net` base units among them. The weights must be
    /// the integral of the balances, and the payouts `net` but for less than one base unit an account.
    pub(super) async fn close(&mut self, end_seconds: i64, net: u128) -> Result<Closed, PostgresError> {
        self.distribution += 1;
        let distribution = self.distribution;
        let close = CLOSE
            .replace("{start}", &self.period_start.to_string())
            .replace("{end}", &end_seconds.to_string())
            .replace("{net}", &net.to_string())
            .replace("{distribution}", &distribution.to_string());
        let started = Instant::now();
        self.control.batch_execute(&close).await?;
        let took = started.elapsed();
        self.period_start = end_seconds;
        // Autovacuum would do it a minute later; until then every read would be planned as if it met many rows.
        self.control.batch_execute(&format!("ANALYZE payouts_{distribution}")).await?;
        let check = format!(
            "SELECT count(*), sum(amount), sum(weight), pg_total_relation_size('payouts_{distribution}')
             FROM payouts_{distribution}"
        );
        let row = self.control.query_one(&check, &[]).await?;
        let (payouts, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(3)?);
        let (Numeric(paid), Numeric(weight)) = (row.try_get(1)?, row.try_get(2)?);
        let (payouts, bytes) = (payouts.unsigned_abs(), bytes.unsigned_abs());
        let expected: u128 = self.lanes.iter_mut().map(|lane| lane.end_period(end_seconds)).sum();
        let whole = paid <= net && net - paid < u128::from(payouts);
        if weight != expected || payouts != self.load.positions || !whole {
            let wrong = format!("{payouts} payouts of {paid} of {net}, by weights of {weight}, which are {expected}");
            return Err(PostgresError::Wrong(wrong));
        }
        Ok(Closed { took, payouts, bytes })
    }

    /// Reads positions or histories of accounts at random, `calls` of them, `in_flight` at a time.
    pub(super) async fn read(&self, what: What, calls: u64, in_flight: u64) -> Result<Read, PostgresError> {
        let mut connections = Vec::new();
        for _ in 0..in_flight.min(READERS) {
            let client = client(&self.url).await?;
            let statement = match what {
                What::Position => POSITION,
                What::History(_) => HISTORY,
            };
            client.batch_execute(READING).await?;
            let statement = client.prepare(statement).await?;
            connections.push(Arc::new((client, statement)));
        }
        let (made, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let mut running = JoinSet::new();
        for (place, connection) in (0..in_flight).zip(connections.iter().cycle()) {
            let (load, made, connection) = (self.load, made.clone(), connection.clone());
            running.spawn(async move {
                let mut latencies = Latencies::default();
                let mut state = load.seed ^ (place + 1);
                while made.fetch_add(1, Ordering::Relaxed) < calls {
                    let account = Load::account(load.any(&mut state));
                    let begun = Instant::now();
                    one(&connection.0, &connection.1, what, &account).await?;
                    latencies.push(begun.elapsed());
                }
                Ok::<_, PostgresError>(latencies)
            });
        }
        let mut read = Read { calls, ..Read::default() };
        while let Some(ended) = running.join_next().await {
            read.latencies.join(ended??);
        }
        read.took = started.elapsed();
        Ok(read)
    }

    /// What the positions with their key, and all payouts with their index, take of the disk, in bytes. The log is not in it.
    pub(super) async fn disk_bytes(&self) -> Result<(u64, u64), PostgresError> {
        let sizes =
            "SELECT pg_total_relation_size('positions'), coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint
                     FROM pg_inherits WHERE inhparent = 'payouts'::regclass";
        let row = self.control.query_one(sizes, &[]).await?;
        let (positions, payouts): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((positions.unsigned_abs(), payouts.unsigned_abs()))
    }
}

/// A connection, with a task that serves it.
async fn client(url: &str) -> Result<Client, PostgresError> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Its end is told to whoever uses the client.
    tokio::spawn(connection);
    Ok(client)
}

/// One read. The values are decoded, as whoever asks would.
async fn one(client: &Client, statement: &Statement, what: What, account: &str) -> Result<(), PostgresError> {
    let rows = client.query(statement, &[&account]).await?;
    for row in &rows {
        match what {
            What::Position => {
                let _: (i64, Numeric) = (row.try_get(0)?, row.try_get(1)?);
                let _: (Numeric, Numeric) = (row.try_get(2)?, row.try_get(3)?);
            }
            What::History(_) => {
                let _: (i32, Numeric, Numeric) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            }
        }
    }
    let at_least = match what {
        What::Position => 1,
        What::History(payouts) => payouts,
    };
    match rows.len() >= at_least {
        true => Ok(()),
        false => Err(PostgresError::Wrong(format!("{account} has {} rows and not {at_least}", rows.len()))),
    }
}
