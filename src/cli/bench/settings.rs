//! The settings of the service that is measured.

use std::path::Path;

use super::feed::source;
use super::load::ASSET;
use super::{BenchArgs, POOL};
use crate::cli::child::{moment, quoted};

/// Where time begins: 2026-11-22T00:00:00Z.
pub(super) const START: i64 = 1_795_305_600;

/// A day, which is a period.
pub(super) const DAY: i64 = 86_400;

/// What the service is told, with its state in `data`, listening on `port`. What is not here is as every service has it.
pub(super) fn settings(data: &Path, port: u16, args: &BenchArgs) -> String {
    let sources: Vec<String> = (0..args.connections).map(|place| format!("\"{}\"", source(place))).collect();
    let (sources, start, data) = (sources.join(", "), moment(START), quoted(data));
    // Twice what all accounts may hold.
    let custody = u128::from(args.positions) * 2_000_000_000_000;
    format!(
        r#"listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:0"
data_dir = {data}
sources = [{sources}]

[clock]
kind = "manual"
start = "{start}"

[log]
format = "text"
level = "info"

[limits]
request_timeout_ms = 600000

# Days pass in a moment here.
[intervals]
observe_interval_seconds = 600
rebalance_interval_seconds = 3600
collect_before_end_seconds = 3600

[[pools]]
id = "{POOL}"
asset = "{ASSET}"
period_seconds = {DAY}
first_period_start = "{start}"

[pools.chain]
kind = "simulated"
preset = "atom"
custody_genesis_base_units = "{custody}"

[pools.house]
float_floor_base_units = "1000000"
float_target_base_units = "20000000"
"#
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Config;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    #[test]
    fn the_settings_are_accepted() {
        let args = Line::parse_from(["bench", "--connections", "3"]).args;
        let config = Config::from_toml(&settings(Path::new("/tmp/x"), 7_070, &args)).unwrap();
        assert_eq!(config.sources, ["ledger-0", "ledger-1", "ledger-2"]);
        assert_eq!(config.pools[0].first_period_start_seconds, Some(START));
    }
}
