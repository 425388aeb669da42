//! `softstake serve`: the service, until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{Config, ConfigError};
use crate::node::{self, NodeError};

/// What `serve` is told.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The settings (TOML). Without it: loopback, the store in ./softstake-data, simulated chains, a day a minute.
    #[arg(long, value_name = "FILE", env = "SOFTSTAKE_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// Why the service did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    /// The settings can't be kept.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The signals can't be listened to.
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
    /// The service itself.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Serves until Ctrl-C or SIGTERM, then drains.
pub(super) async fn run(args: ServeArgs) -> Result<ExitCode, ServeError> {
    let config = Config::load(args.config.as_deref())?;
    let stop = super::StopSignals::listen().map_err(ServeError::Signals)?;
    let shutdown = async move {
        let signal = stop.received().await;
        tracing::info!(signal, "asked to stop");
    };
    node::serve(config, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}
