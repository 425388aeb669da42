//! The service as a child process: its settings, its start, its sudden death.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::DemoError;
use super::amounts::one_token;
use super::plan::{Plan, PoolPlan, START};
use crate::client::{Client, Options};
use crate::config::Config;
use crate::pb::sim::v1 as sim;

/// How long a start may take, recovery included.
const START_SECONDS: u64 = 120;

/// The service that a run talks to.
#[derive(Debug)]
pub(super) struct Server {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Writes the settings of `plan` into `folder`.
    pub(super) fn prepare(folder: &Path, plan: &Plan) -> Result<Self, DemoError> {
        let problem = |error: std::io::Error| DemoError::Folder { path: folder.to_owned(), error };
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(DemoError::Port)?;
        let port = listener.local_addr().map_err(DemoError::Port)?.port();
        drop(listener);
        let text = settings(&folder.join("data"), port, plan);
        // Refused here it is told at once, and not through a child that dies.
        Config::from_toml(&text)?;
        std::fs::write(folder.join("softstake.toml"), text).map_err(problem)?;
        Ok(Self { folder: folder.to_owned(), port, child: None })
    }

    /// Where it listens.
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it logs to.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Starts it, and waits until it answers.
    pub(super) async fn start(&mut self) -> Result<Client, DemoError> {
        let problem = |error: std::io::Error| DemoError::Folder { path: self.log(), error };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).map_err(problem)?;
        let errors = log.try_clone().map_err(problem)?;
        let program = std::env::current_exe().map_err(DemoError::Child)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(self.folder.join("softstake.toml"));
        // Variables go before the file: the run must be the same in every environment.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SOFTSTAKE_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::from(log)).stderr(Stdio::from(errors)).kill_on_drop(true);
        // A Ctrl-C at the terminal is the demo's: it ends the child itself.
        command.process_group(0);
        let endpoint = self.endpoint();
        let child = self.child.insert(command.spawn().map_err(DemoError::Child)?);
        let answered = tokio::select! {
            answered = connect(&endpoint) => answered,
            status = child.wait() => {
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(DemoError::Server(format!("it ended while it started, {how}")))
            }
        };
        answered.map_err(|error| self.with_log(error))
    }

    /// Kills it as a power cut would: SIGKILL, no warning.
    pub(super) async fn kill(&mut self) -> Result<(), DemoError> {
        match self.child.take() {
            Some(mut child) => child.kill().await.map_err(DemoError::Child),
            None => Ok(()),
        }
    }

    /// The error, with the end of the server's log.
    pub(super) fn with_log(&self, error: DemoError) -> DemoError {
        const LINES: usize = 12;
        let log = std::fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        DemoError::Server(format!("{error}; the end of {}:\n{}", self.log().display(), last.join("\n")))
    }
}

async fn connect(endpoint: &str) -> Result<Client, DemoError> {
    let options = Options {
        deadline: Duration::from_secs(START_SECONDS),
        attempts: 400,
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(300),
        stall: Duration::from_secs(START_SECONDS),
        token: None,
    };
    let client = Client::connect(endpoint, options.clone()).await.map_err(DemoError::call("connecting"))?;
    client.get_time(sim::GetTimeRequest {}).await.map_err(DemoError::call("GetTime"))?;
    // From here on it is there: a call that fails ten times has found it dead.
    Client::connect(endpoint, Options { attempts: 10, ..options }).await.map_err(DemoError::call("connecting"))
}

/// The settings of the child.
fn settings(data: &Path, port: u16, plan: &Plan) -> String {
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

/// A time as the settings and the tables write it.
pub(super) fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::population;
    use super::super::reference::Rules;
    use super::*;
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
            let ChainSettings::Simulated(chain) = &pool.chain;
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
