//! The real binary, started on a folder, measured, and ended.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use softstake::client::{Client, Options};
use softstake::pb::{sim, v1};
use tokio::process::{Child, Command};

use super::{DEADLINE, MOST_GROWTH_KIB};
use crate::harness::amount;

/// A running service.
pub struct Target {
    child: Child,
    options: Options,
    port: u16,
    metrics: u16,
    scheme: &'static str,
    /// What it took when it was quiet.
    quiet_kib: u64,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Target {
    /// Starts it with the settings that `toml` makes of its data folder and port.
    pub async fn start(folder: &Path, tls: Option<Options>, toml: impl Fn(&Path, u16) -> String) -> Self {
        let (port, metrics) = (free_port(), free_port());
        let toml = toml(&folder.join("data"), port)
            .replace("metrics_listen = \"127.0.0.1:0\"", &format!("metrics_listen = \"127.0.0.1:{metrics}\""));
        let config = folder.join("softstake.toml");
        std::fs::write(&config, toml).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let binary = std::env::var_os("SOFTSTAKE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_softstake").into());
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::from(log.try_clone().unwrap())).stderr(Stdio::from(log));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SOFTSTAKE_")) {
            command.env_remove(name);
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let options = Options { deadline: DEADLINE, attempts: 100, ..tls.unwrap_or_default() };
        let target = Self { child: command.spawn().unwrap(), options, port, metrics, scheme, quiet_kib: 0 };
        let client = target.client().await;
        client.get_time(sim::v1::GetTimeRequest {}).await.unwrap();
        target
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A client that is new to it.
    pub async fn client(&self) -> Client {
        let endpoint = format!("{}://localhost:{}", self.scheme, self.port);
        let connecting = async {
            loop {
                match Client::connect(&endpoint, self.options.clone()).await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), connecting).await.expect("it lets nobody in")
    }

    /// A line of `/proc/PID/status`, in KiB.
    fn memory_kib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// From here on its memory is compared.
    pub fn is_quiet(&mut self) {
        self.quiet_kib = self.memory_kib("VmRSS");
    }

    /// Its memory has not grown past the bound at any time.
    pub fn kept_its_memory(&self, after: &str) {
        let growth = self.memory_kib("VmHWM").saturating_sub(self.quiet_kib);
        println!("after {after}: {} KiB, at most {growth} KiB more than when it was quiet", self.memory_kib("VmRSS"));
        assert!(growth < MOST_GROWTH_KIB, "{after}: it grew by {growth} KiB");
    }

    /// How often a limit has refused something.
    pub async fn refused(&self, limit: &str) -> u64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.metrics)).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let line = format!("softstake_transport_refused_total{{limit=\"{limit}\"}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    /// Makes honest calls, a change and a question each, while `flood` lasts: all are answered in their time.
    pub async fn beside_honest_calls<T>(&self, name: &str, flood: impl Future<Output = T>) -> T {
        let client = self.client().await;
        let mut flood = std::pin::pin!(flood);
        let mut calls = 0_u32;
        let mut longest = Duration::ZERO;
        let done = loop {
            let began = now();
            let call = calls;
            let client = &client;
            let honest = async move {
                let put = v1::PutBalanceRequest {
                    request_id: format!("honest-{}-{call}", name.replace(' ', "-")),
                    account: "honest".to_owned(),
                    balance: Some(amount("ATOM", 1_000_000 + u128::from(call))),
                    event_time: None,
                };
                client.put_balance(put).await.unwrap();
                client.get_pool(v1::GetPoolRequest { name: "pools/atom".to_owned() }).await.unwrap();
            };
            let mut honest = std::pin::pin!(honest);
            // The flood goes on while the calls are answered, and its end is not missed.
            let done = tokio::select! {
                () = &mut honest => None,
                done = &mut flood => { honest.await; Some(done) }
            };
            calls += 1;
            longest = longest.max(began.elapsed());
            if let Some(done) = done {
                break done;
            }
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(20), &mut flood).await {
                break done;
            }
        };
        println!("beside {name}: {calls} honest rounds, the longest {} ms", longest.as_millis());
        assert!(longest <= 2 * DEADLINE, "{name}: two honest calls took {longest:?}");
        done
    }

    /// SIGTERM; it has to end well, within `longest`.
    pub async fn stop(mut self, folder: &Path, longest: Duration) {
        let (id, began) = (self.child.id().unwrap().to_string(), now());
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let ended = tokio::time::timeout(longest, self.child.wait()).await;
        println!("it ended after {} ms", began.elapsed().as_millis());
        let status = ended.expect("a flood held the shutdown up").unwrap();
        let said = || std::fs::read_to_string(folder.join("log")).unwrap();
        assert!(status.success(), "{status}:\n{}", said());
        assert!(!said().contains("\"level\":\"ERROR\""), "{}", said());
    }
}

#[expect(clippy::disallowed_methods, reason = "a real process is measured in real time")]
pub fn now() -> Instant {
    Instant::now()
}
