//! The settings of the service that the demo talks to.

use std::fmt::Write as _;
use std::path::Path;

use super::amounts::one_token;
use super::plan::{Plan, PoolPlan, START};
use crate::cli::child::{moment, quoted};

/// What the service of `plan` is told, with its state in `data`, listening on `port`.
pub(super) fn settings(data: &Path, port: u16, plan: &Plan) -> String {
    let start = moment(START);
    let data = quoted(data);
    let mut out = format!(
        r#"listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:0"
data_dir = {data}
sources = ["ledger"]

[clock]
kind = "manual"
start = "{start}"

[log]
format = "text"
level = "info"

[limits]
request_timeout_ms = 600000

# Hours pass in a moment here, and time moves in steps of ten minutes.
[intervals]
observe_interval_seconds = 600
rebalance_interval_seconds = 3600
collect_before_end_seconds = 3600
"#
    );
    for pool in &plan.pools {
        pool_settings(&mut out, plan.seed, pool);
    }
    out
}

fn pool_settings(out: &mut String, seed: u64, pool: &PoolPlan) {
    let token = one_token(pool.preset);
    let (id, asset) = (pool.preset.name(), pool.preset.asset());
    let custody = pool.opening_total().saturating_mul(4).saturating_add(token.saturating_mul(1_000));
    let validators = pool.validators_csv.as_deref().map(quoted);
    let validators = validators.map(|path| format!("validators_csv = {path}\n")).unwrap_or_default();
    let cap = pool.rules.cap.map(|cap| format!("cap_base_units = \"{cap}\"\n")).unwrap_or_default();
    let (minimum, fee_bps) = (pool.rules.minimum, pool.rules.fee_bps);
    let (floor, target, start) = (token, token.saturating_mul(20), moment(START));
    // A String takes whatever is written to it.
    let _ = write!(
        out,
        r#"
[[pools]]
id = "{id}"
asset = "{asset}"
period_seconds = 86400
first_period_start = "{start}"

[pools.chain]
kind = "simulated"
preset = "{id}"
seed = {seed}
custody = "external"
custody_genesis_base_units = "{custody}"
{validators}
[pools.policy]
minimum_base_units = "{minimum}"
{cap}fee_bps = {fee_bps}

[pools.house]
float_floor_base_units = "{floor}"
float_target_base_units = "{target}"
"#
    );
}

#[cfg(test)]
mod tests {
    use super::super::population;
    use super::super::reference::Rules;
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;
    use crate::config::{ChainSettings, CustodyMode, Preset};

    #[test]
    fn the_settings_of_every_preset_are_accepted() {
        let pools = Preset::ALL.into_iter().map(|preset| {
            let minimum = one_token(preset) / 100;
            let rules = Rules { minimum, cap: Some(minimum * 100_000), fee_bps: 1_000 };
            let opening = population::seeded(1, preset, minimum, 100);
            PoolPlan { preset, opening, rules, validators_csv: Some(PathBuf::from("/a \"b\"/v.csv")) }
        });
        let plan = Plan { seed: 5, days: 30, pools: pools.collect() };
        let config = Config::from_toml(&settings(Path::new("/tmp/x"), 7_070, &plan)).unwrap();
        assert_eq!(config.pools.len(), 5);
        for (pool, planned) in config.pools.iter().zip(&plan.pools) {
            let ChainSettings::Simulated(chain) = &pool.chain else { panic!("{:?}", pool.chain) };
            assert_eq!((chain.preset, chain.custody, chain.seed), (planned.preset, CustodyMode::External, 5));
            assert_eq!(chain.validators_csv, planned.validators_csv);
            assert_eq!(pool.policy.minimum_base_units, planned.rules.minimum);
            assert_eq!(pool.policy.cap_base_units, planned.rules.cap);
            assert_eq!(pool.first_period_start_seconds, Some(START));
        }
    }

    #[test]
    fn the_run_begins_at_a_midnight() {
        assert_eq!(moment(START), "2026-11-22T00:00:00Z");
    }
}
