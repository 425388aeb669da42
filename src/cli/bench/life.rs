//! The run: some days of a service's life, each job of it measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost_types::Timestamp;

use super::feed::{Fed, Form, Pace, Signals, Streams};
use super::load::Load;
use super::measure::{Usage, by_second, disk_bytes, rate};
use super::payouts;
use super::reads::{What, read};
use super::report::{Figures, Row};
use super::settings::{DAY, START};
use super::{BenchArgs, BenchError, POOL};
use crate::cli::child::Server;
use crate::client::Client;
use crate::pb::v1;

/// How many seconds of ingest there are before and after a close that it meets.
const AROUND: Duration = Duration::from_secs(4);

/// How long after its end a period is closed, in seconds: by then the chain was read past it, and every reward is booked.
const SETTLED: i64 = 1_200;

/// How many calls are in flight where positions are read.
pub(super) const READERS: u64 = 64;

/// The run while it lasts.
struct Life<'a> {
    args: &'a BenchArgs,
    server: &'a mut Server,
    client: Client,
    load: Load,
    streams: Streams,
    figures: Figures,
    /// The day that runs, from 0.
    day: i64,
}

/// Lives through it.
pub(super) async fn live(args: &BenchArgs, server: &mut Server) -> Result<Figures, BenchError> {
    let client = server.start().await?;
    let load = Load { positions: args.positions, seed: args.seed };
    let streams = Streams::new(load, args.connections, args.batch as usize, args.in_flight as usize);
    let mut life = Life { args, server, client, load, streams, figures: Figures::default(), day: 0 };
    life.feed().await?;
    life.read_positions("GetPosition, 64 in flight").await?;
    life.first_close().await?;
    life.close_under_load().await?;
    life.other_closes().await?;
    life.read_histories().await?;
    life.last_day().await?;
    life.recover().await?;
    life.reconciled().await?;
    Ok(life.figures)
}

impl Life<'_> {
    fn usage(&self) -> Usage {
        Usage::of(self.server.process_id())
    }

    fn disk(&self) -> u64 {
        disk_bytes(&self.server.data())
    }

    /// Six o'clock of the day that runs: what happens on it happens then.
    fn noon(&self) -> i64 {
        START + self.day * DAY + DAY / 4
    }

    async fn move_to(&self, seconds: i64) -> Result<(), BenchError> {
        let to = Timestamp { seconds, nanos: 0 };
        let call = |error| BenchError::Call { what: "AdvanceTime", error };
        self.client.advance_time(to).await.map_err(call)?;
        Ok(())
    }

    /// Runs the streams, and writes down what they came to.
    async fn stream(&mut self, job: &str, form: Form, pace: Pace, at: i64) -> Result<Fed, BenchError> {
        let before = self.usage();
        let fed = self.streams.run(&self.server.endpoint(), form, &pace, at).await?;
        let row = Row::new(job, fed.events, fed.took, fed.latencies.clone(), before, self.usage());
        self.figures.row(row);
        Ok(fed)
    }

    async fn feed(&mut self) -> Result<(), BenchError> {
        let long = Duration::from_secs(self.args.seconds);
        let empty = self.usage().memory_bytes;
        self.stream("open positions, packed", Form::Packed, Pace::Openings, START).await?;
        self.move_to(self.noon()).await?;
        let noon = self.noon();
        let rows = self.stream("random events, friendly", Form::Rows, Pace::Flat(long), noon).await?;
        let peak = self.stream("random events, packed", Form::Packed, Pace::Flat(long), noon).await?;
        let half = rate(peak.events, peak.took) / 2;
        self.figures.rates.rows = rate(rows.events, rows.took);
        self.figures.rates.packed = rate(peak.events, peak.took);
        self.stream("packed, at half of that rate", Form::Packed, Pace::Even(half, long), noon).await?;
        let usage = self.usage();
        let positions = self.args.positions;
        self.figures.figure("memory, empty service", empty, "bytes");
        self.figures.figure("memory per position", usage.memory_bytes / positions, "bytes");
        self.figures.figure("peak memory per position, feed", usage.peak_bytes / positions, "bytes");
        self.figures.figure("disk after the feed", self.disk(), "bytes");
        Ok(())
    }

    async fn read_positions(&mut self, job: &str) -> Result<(), BenchError> {
        let before = self.usage();
        let calls = self.args.reads;
        let read = read(&self.server.endpoint(), self.load, What::Position, calls, READERS).await?;
        self.figures.row(Row::new(job, read.calls, read.took, read.latencies, before, self.usage()));
        Ok(())
    }

    /// The distribution of the day before the one that runs, released.
    async fn distribution(&self) -> Result<v1::Distribution, BenchError> {
        let call = |error| BenchError::Call { what: "ListDistributions", error };
        let request =
            v1::ListDistributionsRequest { parent: format!("pools/{POOL}"), page_size: 1, ..Default::default() };
        let newest = self.client.list_distributions(request).await.map_err(call)?.distributions.into_iter().next();
        let newest = newest.ok_or_else(|| BenchError::Wrong("nothing was distributed".to_owned()))?;
        let (positions, count) = (self.args.positions, newest.payout_count);
        let ended = newest.period_end_time.map(|time| time.seconds);
        if newest.state() != v1::DistributionState::Released
            || ended != Some(START + self.day * DAY)
            || count < positions
        {
            let state = newest.state().as_str_name();
            let wrong = format!("{} is {state}, with {count} payouts of {positions}", newest.name);
            return Err(BenchError::Wrong(wrong));
        }
        Ok(newest)
    }

    /// Ends the day, with everything vouched for and nothing else to do: freeze, split and sealed payouts.
    async fn close(&mut self) -> Result<Duration, BenchError> {
        self.day += 1;
        let end = START + self.day * DAY;
        self.move_to(end + SETTLED).await?;
        self.streams.vouch(&self.server.endpoint(), end).await?;
        let started = Instant::now();
        self.move_to(end + SETTLED).await?;
        Ok(started.elapsed())
    }

    async fn first_close(&mut self) -> Result<(), BenchError> {
        let before = self.usage();
        let took = self.close().await?;
        let distribution = self.distribution().await?;
        let count = distribution.payout_count;
        self.figures.rates.close = rate(count, took);
        self.figures.row(Row::new(
            "freeze, split, sealed payouts",
            count,
            took,
            Default::default(),
            before,
            self.usage(),
        ));
        let before = self.usage();
        let paid = payouts::stream(&self.server.endpoint()).await?;
        let row = Row::new(
            "payouts streamed and acknowledged",
            paid.payouts,
            paid.took,
            Default::default(),
            before,
            self.usage(),
        );
        self.figures.row(row);
        let total = distribution.payouts_amount.map_or(String::new(), |amount| amount.base_units);
        if (paid.payouts, paid.base_units.to_string()) != (count, total.clone()) {
            let wrong =
                format!("{} payouts of {} streamed, {count} of {total} distributed", paid.payouts, paid.base_units);
            return Err(BenchError::Wrong(wrong));
        }
        Ok(())
    }

    /// A close that meets the feed at its fastest.
    async fn close_under_load(&mut self) -> Result<(), BenchError> {
        self.day += 1;
        let end = START + self.day * DAY;
        let now = end + SETTLED;
        self.move_to(now).await?;
        let signals = Arc::new(Signals::default());
        let endpoint = self.server.endpoint();
        let (client, before) = (self.client.clone(), self.usage());
        let started = Instant::now();
        let closing = async {
            tokio::time::sleep(AROUND).await;
            let begun = started.elapsed();
            signals.vouch(end);
            let request =
                v1::ListDistributionsRequest { parent: format!("pools/{POOL}"), page_size: 1, ..Default::default() };
            loop {
                let call = |what| move |error| BenchError::Call { what, error };
                client.advance_time(Timestamp { seconds: now, nanos: 0 }).await.map_err(call("AdvanceTime"))?;
                let newest = client.list_distributions(request.clone()).await.map_err(call("ListDistributions"))?;
                let ended = |one: &v1::Distribution| one.period_end_time.is_some_and(|time| time.seconds == end);
                if newest
                    .distributions
                    .first()
                    .is_some_and(|one| ended(one) && one.state() == v1::DistributionState::Released)
                {
                    break;
                }
            }
            let ended = started.elapsed();
            tokio::time::sleep(AROUND).await;
            signals.stop();
            Ok::<_, BenchError>((begun, ended))
        };
        let pace = Pace::Until(signals.clone());
        let feeding = self.streams.run(&endpoint, Form::Packed, &pace, now);
        let (fed, (begun, ended)) = tokio::try_join!(feeding, closing)?;
        let usage = self.usage();
        self.figures.row(Row::new("packed, while a close runs", fed.events, fed.took, fed.latencies, before, usage));
        self.figures.row(Row::new(
            "close, while the feed runs",
            self.args.positions,
            ended - begun,
            Default::default(),
            before,
            usage,
        ));
        let seconds = by_second(&fed.acked);
        let quiet = &seconds[1..(begun.as_secs() as usize).max(2).min(seconds.len())];
        let mean = quiet.iter().sum::<u64>() / quiet.len().max(1) as u64;
        // The last second is not a whole one.
        let busy = &seconds[(begun.as_secs() as usize).min(seconds.len() - 1)..seconds.len() - 1];
        let least = busy.iter().min().copied().unwrap_or(0);
        self.figures.figure("feed before the close", mean, "events/s");
        self.figures.figure("feed in the slowest second of and after the close", least, "events/s");
        self.figures.figure("the same, of the rate before", least * 100 / mean.max(1), "%");
        self.figures.seconds = seconds;
        let distribution = self.distribution().await?;
        payouts::ack_all(&endpoint, &distribution).await
    }

    async fn other_closes(&mut self) -> Result<(), BenchError> {
        let (before, started) = (self.disk(), Instant::now());
        let usage = self.usage();
        let (mut slowest, mut count) = (Duration::ZERO, 0);
        for _ in 2..self.args.distributions {
            slowest = slowest.max(self.close().await?);
            let distribution = self.distribution().await?;
            payouts::ack_all(&self.server.endpoint(), &distribution).await?;
            count += distribution.payout_count;
        }
        if count == 0 {
            return Ok(());
        }
        let row = Row::new(
            "days closed and paid, all of it",
            count,
            started.elapsed(),
            Default::default(),
            usage,
            self.usage(),
        );
        self.figures.row(row);
        self.figures.figure("slowest close of them", slowest.as_millis() as u64, "ms");
        let grown = self.disk().saturating_sub(before);
        self.figures.figure("disk per payout, growth over them", grown * 10 / count, "tenths of a byte");
        self.figures.figure(
            "disk per payout, of all there is",
            self.disk() * 10 / (count + 2 * self.args.positions),
            "tenths of a byte",
        );
        Ok(())
    }

    async fn read_histories(&mut self) -> Result<(), BenchError> {
        let what = What::History(self.args.distributions as usize);
        let before = self.usage();
        let read = read(&self.server.endpoint(), self.load, what, (self.args.reads / 100).max(100), 1).await?;
        self.figures.row(Row::new(
            "one account's payouts",
            read.calls,
            read.took,
            read.latencies,
            before,
            self.usage(),
        ));
        Ok(())
    }

    /// A day of random events, closed and paid, then the disk.
    async fn last_day(&mut self) -> Result<(), BenchError> {
        let events = self.args.day_events.unwrap_or(self.args.positions);
        let before = self.disk();
        self.move_to(self.noon()).await?;
        self.stream("the last day's events", Form::Packed, Pace::Count(events), self.noon()).await?;
        self.figures.figure("disk before the last day", before, "bytes");
        self.figures.figure("disk after its events", self.disk(), "bytes");
        Ok(())
    }

    /// Death in the middle of the feed, and the way back.
    async fn recover(&mut self) -> Result<(), BenchError> {
        let noon = self.noon();
        self.stream("random events, before the end", Form::Packed, Pace::Flat(Duration::from_secs(3)), noon).await?;
        self.server.kill().await?;
        let started = Instant::now();
        self.client = self.server.start().await?;
        let took = started.elapsed();
        let row = Row::new(
            "recovery to serving after SIGKILL",
            self.args.positions,
            took,
            Default::default(),
            Usage::default(),
            self.usage(),
        );
        self.figures.row(row);
        self.figures.figure("memory per position, recovered", self.usage().memory_bytes / self.args.positions, "bytes");
        for (source, acknowledged) in self.streams.acknowledged() {
            let call = |error| BenchError::Call { what: "GetCursor", error };
            let cursor = self.client.get_cursor(v1::GetCursorRequest { source: source.clone() }).await.map_err(call)?;
            if cursor.durable_sequence < acknowledged {
                let wrong = format!("{source}: {acknowledged} was acknowledged, {} is there", cursor.durable_sequence);
                return Err(BenchError::Wrong(wrong));
            }
        }
        Ok(())
    }

    /// The equations, and the chain against the ledger.
    async fn reconciled(&mut self) -> Result<(), BenchError> {
        let call = |error| BenchError::Call { what: "Reconcile", error };
        let request = v1::ReconcileRequest { name: format!("pools/{POOL}") };
        let started = Instant::now();
        let found = self.client.reconcile(request).await.map_err(call)?;
        self.figures.figure("equations evaluated in", started.elapsed().as_millis() as u64, "ms");
        if !found.holds || found.equations.iter().any(|equation| !equation.holds) {
            return Err(BenchError::Wrong(format!("{found:?}")));
        }
        self.figures.equations = found.equations.len();
        Ok(())
    }
}
