//! The service as a child process: its settings, its start, its sudden death, and what it takes of the machine.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::client::{Client, ClientError, Options, Tls};
use crate::config::{Config, ConfigError};
use crate::pb::sim::v1 as sim;

/// How long a start may take, recovery included.
const START_SECONDS: u64 = 600;

/// Why there is no service to talk to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    /// The settings written for the server are refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder of the run.
    #[error("{}: {error}", path.display())]
    Folder { path: PathBuf, error: std::io::Error },
    /// No port is free.
    #[error("no free port on the loopback: {0}")]
    Port(std::io::Error),
    /// The process can't be started or ended.
    #[error("the server's process: {0}")]
    Process(std::io::Error),
    /// It does not answer.
    #[error("the server: {0}")]
    Silent(String),
}

/// The service that a run talks to.
#[derive(Debug)]
pub(super) struct Server {
    folder: PathBuf,
    port: u16,
    /// How it is called where its settings have it speak TLS.
    tls: Option<Tls>,
    child: Option<Child>,
}

impl Server {
    /// Writes the settings into `folder`: `settings` of the folder of its data and its port.
    pub(super) fn prepare(folder: &Path, settings: impl FnOnce(&Path, u16) -> String) -> Result<Self, ServerError> {
        let problem = |error: std::io::Error| ServerError::Folder { path: folder.to_owned(), error };
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(ServerError::Port)?;
        let port = listener.local_addr().map_err(ServerError::Port)?.port();
        drop(listener);
        let server = Self { folder: folder.to_owned(), port, tls: None, child: None };
        let text = settings(&server.data(), port);
        // Refused here it is told at once, and not through a child that dies.
        Config::from_toml(&text)?;
        std::fs::write(folder.join("softstake.toml"), text).map_err(problem)?;
        Ok(server)
    }

    /// The same, called with TLS, which its settings have it speak.
    pub(super) fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The same as a client is told it.
    pub(super) fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Where it logs to.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Where its state is.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its process, while it runs.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts it, and waits until it answers.
    pub(super) async fn start(&mut self) -> Result<Client, ServerError> {
        let problem = |error: std::io::Error| ServerError::Folder { path: self.log(), error };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).map_err(problem)?;
        let errors = log.try_clone().map_err(problem)?;
        let program = std::env::current_exe().map_err(ServerError::Process)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(self.folder.join("softstake.toml"));
        // Variables go before the file: the run must be the same in every environment.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SOFTSTAKE_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::from(log)).stderr(Stdio::from(errors)).kill_on_drop(true);
        // A Ctrl-C at the terminal is the parent's: it ends the child itself.
        command.process_group(0);
        let (endpoint, tls) = (self.endpoint(), self.tls.clone());
        let child = self.child.insert(command.spawn().map_err(ServerError::Process)?);
        let answered = tokio::select! {
            answered = connect(&endpoint, tls) => answered.map_err(|error| error.to_string()),
            status = child.wait() => {
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(format!("it ended while it started, {how}"))
            }
        };
        answered.map_err(|error| ServerError::Silent(self.with_log(&error)))
    }

    /// Kills it as a power cut would: SIGKILL, no warning.
    pub(super) async fn kill(&mut self) -> Result<(), ServerError> {
        match self.child.take() {
            Some(mut child) => child.kill().await.map_err(ServerError::Process),
            None => Ok(()),
        }
    }

    /// `problem`, with the end of the server's log.
    pub(super) fn with_log(&self, problem: &dyn std::fmt::Display) -> String {
        const LINES: usize = 12;
        let log = std::fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        format!("{problem}; the end of {}:\n{}", self.log().display(), last.join("\n"))
    }
}

async fn connect(endpoint: &str, tls: Option<Tls>) -> Result<Client, ClientError> {
    let options = Options {
        deadline: Duration::from_secs(START_SECONDS),
        attempts: 4_000,
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        stall: Duration::from_secs(START_SECONDS),
        token: None,
        tls,
    };
    let client = Client::connect(endpoint, options.clone()).await?;
    client.get_time(sim::GetTimeRequest {}).await?;
    // From here on it is there: a call that fails ten times has found it dead.
    Client::connect(endpoint, Options { attempts: 10, longest_pause: Duration::from_millis(300), ..options }).await
}

/// A time as the settings and the tables write it.
pub(super) fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// A path as a TOML string.
pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

/// A folder of its own for a run of `command`, below `parent`.
pub(super) fn folder(parent: &Path, command: &str) -> Result<PathBuf, ServerError> {
    let path = parent.join(format!("softstake-{command}-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&path).map_err(|error| ServerError::Folder { path: path.clone(), error })?;
    Ok(path)
}
