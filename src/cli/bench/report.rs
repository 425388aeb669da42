//! The figures, as a table for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde_json::json;

use super::BenchArgs;
use super::measure::{Latencies, Summary, Usage, rate};

/// One job.
#[derive(Clone, Debug)]
pub(super) struct Row {
    job: String,
    count: u64,
    took: Duration,
    latency: Option<Summary>,
    cpu_ms: u64,
    peak_bytes: u64,
}

/// Rates of the service that a baseline is held against, in things a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub(super) packed: u64,
    pub(super) rows: u64,
    pub(super) close: u64,
}

/// One figure that is no job.
#[derive(Clone, Debug)]
struct Figure {
    name: String,
    value: u64,
    unit: &'static str,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    rows: Vec<Row>,
    figures: Vec<Figure>,
    /// Events acknowledged in each second of the feed that a close met.
    pub(super) seconds: Vec<u64>,
    /// What the baseline is held against.
    pub(super) rates: Rates,
    /// How many equations were evaluated at the end; they all hold, or there are no figures.
    pub(super) equations: usize,
}

impl Row {
    /// A job of `count` things, with the server's usage before and after it.
    pub(super) fn new(
        job: &str,
        count: u64,
        took: Duration,
        latencies: Latencies,
        before: Usage,
        after: Usage,
    ) -> Self {
        let cpu_ms = after.cpu_ms.saturating_sub(before.cpu_ms);
        Self { job: job.to_owned(), count, took, latency: latencies.summary(), cpu_ms, peak_bytes: after.peak_bytes }
    }
}

/// A number of thousandths.
pub(super) fn thousandths(value: u64) -> String {
    format!("{}.{:03}", value / 1_000, value % 1_000)
}

/// A number with its thousands apart.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Figures {
    /// Adds a job, and tells of it where somebody waits.
    pub(super) fn row(&mut self, row: Row) {
        tell(&format!(
            "{}: {} in {} s, {} /s",
            row.job,
            grouped(row.count),
            thousandths(row.took.as_millis() as u64),
            grouped(rate(row.count, row.took))
        ));
        self.rows.push(row);
    }

    /// Adds a figure, and tells it where somebody waits.
    pub(super) fn figure(&mut self, name: &str, value: u64, unit: &'static str) {
        tell(&format!("{name}: {} {unit}", grouped(value)));
        self.figures.push(Figure { name: name.to_owned(), value, unit });
    }

    /// The tables.
    pub(super) fn tables(&self, args: &BenchArgs) -> String {
        let mut jobs = Table::new();
        jobs.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        jobs.set_header([
            "job",
            "count",
            "seconds",
            "a second",
            "p50 ms",
            "p99 ms",
            "max ms",
            "server CPU s",
            "peak MB",
        ]);
        for row in &self.rows {
            let latency =
                |pick: fn(&Summary) -> u64| row.latency.as_ref().map_or(String::new(), |one| thousandths(pick(one)));
            jobs.add_row([
                row.job.clone(),
                grouped(row.count),
                thousandths(row.took.as_millis() as u64),
                grouped(rate(row.count, row.took)),
                latency(|one| one.p50_us),
                latency(|one| one.p99_us),
                latency(|one| one.max_us),
                thousandths(row.cpu_ms),
                grouped(row.peak_bytes / 1_000_000),
            ]);
        }
        let mut figures = Table::new();
        figures.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        figures.set_header(["figure", "value", "unit"]);
        for figure in &self.figures {
            figures.add_row([figure.name.clone(), grouped(figure.value), figure.unit.to_owned()]);
        }
        for (table, from) in [(&mut jobs, 1), (&mut figures, 1)] {
            for column in table.column_iter_mut().skip(from) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut out = format!("{jobs}\n\n{figures}\n\n");
        // A String takes whatever is written to it.
        let _ = write!(
            out,
            "{} positions, {} streams of {} batches of {} in flight, seed {}: {} of {} equations hold",
            grouped(args.positions),
            args.connections,
            args.in_flight,
            args.batch,
            args.seed,
            self.equations,
            self.equations
        );
        out
    }

    /// The same as JSON: whole numbers, with the unit in the key.
    pub(super) fn json(&self, args: &BenchArgs) -> String {
        let row = |row: &Row| {
            json!({
                "job": row.job,
                "count": row.count,
                "took_us": row.took.as_micros() as u64,
                "per_second": rate(row.count, row.took),
                "p50_us": row.latency.map(|one| one.p50_us),
                "p99_us": row.latency.map(|one| one.p99_us),
                "max_us": row.latency.map(|one| one.max_us),
                "server_cpu_ms": row.cpu_ms,
                "peak_bytes": row.peak_bytes,
            })
        };
        let figure = |figure: &Figure| json!({ "name": figure.name, "value": figure.value, "unit": figure.unit });
        let all = json!({
            "positions": args.positions,
            "connections": args.connections,
            "batch": args.batch,
            "in_flight": args.in_flight,
            "distributions": args.distributions,
            "seed": args.seed,
            "packed_events_per_second": self.rates.packed,
            "friendly_events_per_second": self.rates.rows,
            "positions_closed_per_second": self.rates.close,
            "jobs": self.rows.iter().map(row).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "events_by_second_while_closing": self.seconds,
            "equations_that_hold": self.equations,
        });
        format!("{all:#}\n")
    }
}

fn tell(line: &str) {
    use std::io::Write as _;
    // The tables at the end have it too.
    let _ = writeln!(std::io::stderr(), "{line}");
}
