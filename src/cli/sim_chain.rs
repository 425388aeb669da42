//! `softstake sim-chain`: a simulated chain in a process of its own, for trying adapters and softstake out.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::StopSignals;
use crate::node::NodeError;
use crate::node::sim_chain::{KEY_ID, PRESETS, SimChain, SimChainSettings};

/// What `sim-chain` is told.
#[derive(Debug, Args)]
pub(super) struct SimChainArgs {
    /// The chain to simulate, with its true figures.
    #[arg(long, default_value = "atom", value_parser = PossibleValuesParser::new(PRESETS))]
    preset: String,
    /// The seed of its validators and its signing key.
    #[arg(long)]
    seed: Option<u64>,
    /// The folder of its log and its clock. Without it, the chain is in memory and ends with the process.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// How many times faster than real time its clock runs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    speed: u32,
    /// Where to listen: an address on loopback. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 7080)))]
    listen: SocketAddr,
    /// Base units that custody sends to the staking address before anything is served, for `adapter check --spend`.
    #[arg(long, value_name = "BASE_UNITS")]
    fund: Option<String>,
}

/// Serves until it is told to stop.
pub(super) async fn run(args: SimChainArgs) -> Result<ExitCode, NodeError> {
    let signals = StopSignals::listen();
    let signals = signals.map_err(|error| NodeError::Io { what: "listening for signals".to_owned(), error })?;
    let SimChainArgs { preset, seed, data_dir, speed, listen, fund: funds } = args;
    let chain = SimChain::start(SimChainSettings { preset, seed, data_dir, speed, listen, funds }).await?;
    println!("simulated chain {} with the staking address {}", chain.chain, chain.staking_address);
    println!("adapter and signer at http://{}, key {KEY_ID}", chain.address);
    // Whoever started it may wait for the line; where nobody reads, it serves all the same.
    let _unread = std::io::stdout().flush();
    signals.received().await;
    chain.stop().await?;
    Ok(ExitCode::SUCCESS)
}
