//! What was noticed, as a table for people and as JSON.

use std::io::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde_json::{Value, json};

use super::super::BenchArgs;
use super::super::measure::{Latencies, Summary, rate};
use super::super::report::{grouped, thousandths};
use super::Flood;
use super::honest::CALLS;

/// How much of a flood was sent, and in which time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) count: u64,
    pub(super) took: Duration,
}

/// What the service took of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// How far its memory was above what it took before, at most and since its start.
    pub(super) growth_bytes: u64,
    /// Processor time under the flood.
    pub(super) cpu: Duration,
}

/// One call, quiet and under a flood.
#[derive(Clone, Debug)]
struct Call {
    name: &'static str,
    /// How often it was made under the flood.
    count: usize,
    quiet: Summary,
    flooded: Summary,
}

/// What was seen of one flood.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    flood: Flood,
    sent: Sent,
    taken: Taken,
    calls: Vec<Call>,
}

impl Call {
    /// How many hundredths of the quiet 99th percentile the flooded one is.
    fn ratio_percent(&self) -> u64 {
        self.flooded.p99_us * 100 / self.quiet.p99_us.max(1)
    }
}

impl Seen {
    pub(super) fn new(
        flood: Flood,
        quiet: [Latencies; CALLS.len()],
        flooded: [Latencies; CALLS.len()],
        sent: Sent,
        taken: Taken,
    ) -> Self {
        let calls = CALLS.into_iter().zip(quiet).zip(flooded).filter_map(|((name, quiet), flooded)| {
            let count = flooded.count();
            Some(Call { name, count, quiet: quiet.summary()?, flooded: flooded.summary()? })
        });
        Self { flood, sent, taken, calls: calls.collect() }
    }

    /// The service's processor time, in hundredths of one processor.
    fn cpu_percent(&self) -> u64 {
        let took = self.sent.took.as_millis().max(1);
        u64::try_from(self.taken.cpu.as_millis() * 100 / took).unwrap_or(u64::MAX)
    }

    fn json(&self) -> Value {
        let summary = |one: &Summary| json!({ "p50_us": one.p50_us, "p99_us": one.p99_us, "max_us": one.max_us });
        let call = |call: &Call| {
            json!({
                "call": call.name,
                "count": call.count,
                "quiet": summary(&call.quiet),
                "flooded": summary(&call.flooded),
                "p99_ratio_percent": call.ratio_percent(),
            })
        };
        json!({
            "flood": self.flood.name(),
            "sent": self.sent.count,
            "unit": self.flood.unit(),
            "sent_per_second": rate(self.sent.count, self.sent.took),
            "memory_growth_bytes": self.taken.growth_bytes,
            "service_cpu_percent": self.cpu_percent(),
            "calls": self.calls.iter().map(call).collect::<Vec<_>>(),
        })
    }
}

/// All floods.
#[derive(Clone, Debug, Default)]
pub(in crate::cli::bench) struct Floods(Vec<Seen>);

impl Floods {
    /// Adds one, and tells of it where somebody waits.
    pub(super) fn add(&mut self, seen: Seen) {
        let worst = seen.calls.iter().map(Call::ratio_percent).max().unwrap_or_default();
        // The table at the end has it too.
        let _ = writeln!(std::io::stderr(), "{}: at most {} times the quiet p99", seen.flood.name(), times(worst));
        self.0.push(seen);
    }

    /// The table.
    pub(in crate::cli::bench) fn table(&self, args: &BenchArgs) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([
            "flood",
            "a second",
            "growth MB",
            "CPU %",
            "call",
            "calls",
            "quiet p50",
            "p99",
            "max ms",
            "flood p50",
            "p99",
            "max ms",
            "p99 ratio",
        ]);
        for seen in &self.0 {
            for (place, call) in seen.calls.iter().enumerate() {
                let sent = format!("{} {}", grouped(rate(seen.sent.count, seen.sent.took)), seen.flood.unit());
                let (growth, cpu) = (grouped(seen.taken.growth_bytes / 1_000_000), seen.cpu_percent().to_string());
                let [flood, sent, growth, cpu] =
                    [seen.flood.name(), sent, growth, cpu].map(|text| if place == 0 { text } else { String::new() });
                let [quiet, flooded] =
                    [&call.quiet, &call.flooded].map(|one| [one.p50_us, one.p99_us, one.max_us].map(thousandths));
                let [a, b, c] = quiet;
                let [d, e, f] = flooded;
                let count = grouped(call.count as u64);
                table.add_row([
                    flood,
                    sent,
                    growth,
                    cpu,
                    call.name.to_owned(),
                    count,
                    a,
                    b,
                    c,
                    d,
                    e,
                    f,
                    times(call.ratio_percent()),
                ]);
            }
        }
        for column in table.column_iter_mut().skip(5) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let beside = if args.beside_a_loop { ", quiet beside a loop" } else { "" };
        let terms = if args.flood_equal { "on equal terms" } else { "from what is left of the processors" };
        let (positions, seconds, seed) = (grouped(args.positions), args.seconds, args.seed);
        format!("{table}\n\n{positions} positions, {seconds} s each, seed {seed}; floods {terms}{beside}")
    }

    /// The same as JSON: whole numbers, with the unit in the key.
    pub(in crate::cli::bench) fn json(&self, args: &BenchArgs) -> String {
        let all = json!({
            "positions": args.positions,
            "seconds": args.seconds,
            "seed": args.seed,
            "flood_on_equal_terms": args.flood_equal,
            "quiet_beside_a_loop": args.beside_a_loop,
            "floods": self.0.iter().map(Seen::json).collect::<Vec<_>>(),
        });
        format!("{all:#}\n")
    }
}

/// Hundredths as a factor.
fn times(percent: u64) -> String {
    format!("{}.{:02}", percent / 100, percent % 100)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn latencies(micros: u64) -> [Latencies; CALLS.len()] {
        std::array::from_fn(|_| {
            let mut latencies = Latencies::default();
            latencies.push(Duration::from_micros(micros));
            latencies
        })
    }

    #[test]
    fn the_ratio_is_that_of_the_99th_percentiles() {
        let sent = Sent { count: 5_000, took: Duration::from_secs(2) };
        let taken = Taken { growth_bytes: 7_000_000, cpu: Duration::from_millis(900) };
        let mut floods = Floods::default();
        floods.add(Seen::new(Flood::Resets, latencies(2_000), latencies(3_500), sent, taken));
        let args = Line::parse_from(["bench", "--flood"]).args;
        let table = floods.table(&args);
        assert!(table.contains("2,500 resets") && table.contains("3.500") && table.contains("1.75"), "{table}");
        let json: Value = serde_json::from_str(&floods.json(&args)).unwrap();
        let seen = &json["floods"][0];
        assert_eq!((&seen["sent_per_second"], &seen["service_cpu_percent"]), (&json!(2_500), &json!(45)));
        assert_eq!(seen["calls"].as_array().unwrap().len(), CALLS.len());
        assert_eq!(seen["calls"][0]["p99_ratio_percent"], 175);
    }
}
