//! The real binary on a folder: started, asked, killed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use softstake::client::{Client, Options};
use softstake::pb::sim;
use tokio::process::{Child, Command};

/// The midnight at which time begins: 2026-11-22T00:00:00Z.
pub const START: i64 = 1_795_305_600;

/// Seconds of a period.
pub const PERIOD: i64 = 3_600;

/// The pools, with their assets.
pub const POOLS: [(&str, &str); 2] = [("atom", "ATOM"), ("near", "NEAR")];

/// The sources of balance events.
pub const SOURCES: [&str; 3] = ["ledger", "margin", "desk"];

/// Short periods, quick chains, and checkpoints that run all the time.
fn toml(data: &Path, port: u16) -> String {
    let data = data.display();
    let mut toml = format!(
        r#"
listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:0"
data_dir = "{data}"
sources = ["ledger", "margin", "desk"]
[log]
level = "info,softstake::book=debug"
[limits]
request_timeout_ms = 600000
[clock]
kind = "manual"
start = "2026-11-22T00:00:00Z"
[feed]
close_grace_seconds = 900
[book]
partitions = 4
checkpoint_journal_bytes = 65536
[intervals]
rebalance_interval_seconds = 600
collect_before_end_seconds = 600
"#
    );
    for (id, asset) in POOLS {
        let (custody, floor, target) = match id {
            "near" => ("external", "20000000000000000000000", "2000000000000000000000000"),
            _ => ("automatic", "1000000", "50000000"),
        };
        toml.push_str(&format!(
            r#"
[[pools]]
id = "{id}"
asset = "{asset}"
period_seconds = 3600
first_period_start = "2026-11-22T00:00:00Z"
[pools.chain]
kind = "simulated"
preset = "{id}"
seed = 7
custody = "{custody}"
custody_genesis_base_units = "1000000000000000000000000000000000"
unbonding_seconds = 7200
epoch_seconds = 600
[pools.house]
float_floor_base_units = "{floor}"
float_target_base_units = "{target}"
[pools.policy]
fee_bps = 1000
# Nobody is there to approve what a life cut short makes unusual.
[pools.release]
max_apr = "1000"
max_apr_change = "1000"
max_receipts_bps = 10000
"#
        ));
    }
    toml
}

/// The binary: `SOFTSTAKE_BIN`, such as a release build, or the one that was built with the tests.
pub fn binary() -> PathBuf {
    std::env::var_os("SOFTSTAKE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_softstake").into(), PathBuf::from)
}

/// Where a folder keeps the service's state.
pub fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// What the service was doing, as its log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It had not said that it serves.
    Opening,
    /// It served, and no checkpoint was being made.
    Serving,
    /// It served, and was writing the pages of a checkpoint or trimming the journal before it.
    Checkpoint,
}

/// A running service.
pub struct Program {
    child: Child,
    /// Whether the child is strace, and the service a child of it.
    traced: bool,
    began: Instant,
    log: PathBuf,
    endpoint: String,
}

impl Program {
    /// Starts it, and does not wait.
    pub fn spawn(folder: &Path) -> Self {
        Self::start(folder, Command::new(binary()), false)
    }

    /// Starts it under strace, which writes to `trace` what it does.
    pub fn spawn_traced(folder: &Path, trace: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(crate::trace::ARGUMENTS).arg("-o").arg(trace).arg(binary());
        Self::start(folder, command, true)
    }

    #[expect(clippy::disallowed_methods, reason = "the life of a real process is measured in real time")]
    fn start(folder: &Path, mut command: Command, traced: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("softstake.toml");
        std::fs::write(&config, toml(&data(folder), port)).unwrap();
        let log = folder.join("log");
        let file = std::fs::File::create(&log).unwrap();
        command.arg("serve").arg("--config").arg(&config).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::from(file.try_clone().unwrap())).stderr(Stdio::from(file));
        // Settings may come from the environment, and what a run of the tests is told is no setting.
        let told = std::env::vars_os().map(|(name, _)| name);
        for name in told.filter(|name| name.as_encoded_bytes().starts_with(b"SOFTSTAKE_")) {
            command.env_remove(name);
        }
        let child = command.spawn().unwrap();
        Self { child, traced, began: Instant::now(), log, endpoint: format!("http://127.0.0.1:{port}") }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Milliseconds since it was started.
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// What it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A client of it, once it serves. A call is tried once: what is cut off is not acknowledged.
    pub async fn ready(&mut self) -> Client {
        let patient = Options {
            deadline: Duration::from_secs(60),
            attempts: 2_000,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(20),
            ..Options::default()
        };
        let ready = async {
            let client = Client::connect(&self.endpoint, patient.clone()).await.unwrap();
            client.get_time(sim::v1::GetTimeRequest {}).await.unwrap();
        };
        tokio::select! {
            () = ready => {}
            status = self.child.wait() => {
                let said = std::fs::read_to_string(&self.log).unwrap();
                panic!("the program ended with {status:?}:\n{said}");
            }
        }
        Client::connect(&self.endpoint, Options { attempts: 1, ..patient }).await.unwrap()
    }

    /// SIGKILL, and nothing else. Tells what the service was doing, and all that it said.
    pub async fn kill(mut self) -> (Phase, String) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the program ended by itself with {status}:\n{}", self.said());
        }
        if self.traced {
            // The service itself is killed; strace ends after it, with everything written down.
            let tracer = self.child.id().unwrap();
            let children = std::fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
            let service = children.split_whitespace().next().unwrap();
            assert!(std::process::Command::new("kill").args(["-KILL", service]).status().unwrap().success());
            self.child.wait().await.unwrap();
        } else {
            self.child.kill().await.unwrap();
        }
        let said = self.said();
        assert!(!said.contains("\"level\":\"ERROR\""), "{said}");
        if !said.contains("\"message\":\"serving\"") {
            return (Phase::Opening, said);
        }
        // A pool makes one at a time, and two pools have them.
        let began = said.matches("a checkpoint begins").count() + said.matches("a checkpoint is resumed").count();
        let ended = said.matches("the journal before a checkpoint is trimmed").count();
        (if began > ended { Phase::Checkpoint } else { Phase::Serving }, said)
    }

    /// SIGTERM; it has to end well.
    pub async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let status = ended.expect("it ends when it is asked to").unwrap();
        assert!(status.success(), "{status}:\n{}", self.said());
    }
}
