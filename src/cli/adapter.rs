//! `softstake adapter check`: holds an adapter outside against its contract, one line for each clause.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::node::NodeError;
use crate::node::adapter_check::{CheckSettings, TlsFiles, Verdict, check};

/// What `adapter` is told.
#[derive(Debug, Args)]
pub(super) struct AdapterArgs {
    #[command(subcommand)]
    command: AdapterCommand,
}

#[derive(Debug, Subcommand)]
enum AdapterCommand {
    /// Asks an adapter everything that its contract promises (proto/softstake/adapter/v1/adapter.proto), and says for each
    /// clause what was seen. Exit status 1 if one is broken. Nothing is sent unless --spend is given.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Where the adapter is: https://HOST:PORT, or http://127.0.0.1:PORT on this machine.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Where a signer of the staking address is; without it nothing is assembled.
    #[arg(long, value_name = "URL", requires = "key_id")]
    signer: Option<String>,
    /// The name of the staking address's key at the signer.
    #[arg(long, value_name = "NAME", requires = "signer")]
    key_id: Option<String>,
    /// Move small amounts: delegate the least that the chain takes and begin to take it back, and send what has to fail.
    /// Costs at most six fees, and locks that least amount for the unbonding time.
    #[arg(long, requires = "signer")]
    spend: bool,
    /// With whom to delegate; without it, the first active validator.
    #[arg(long, value_name = "VALIDATOR")]
    validator: Option<String>,
    /// The issuers of the services' certificates, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca: Option<PathBuf>,
    /// The certificate to show, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
    /// The longest that one call may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    call_timeout_ms: u64,
    /// The longest that one transaction is waited for; without it, three times what the adapter says it takes, and a minute.
    #[arg(long, value_name = "SECONDS")]
    patience_seconds: Option<u64>,
    /// How long to wait between two looks, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    poll_ms: u64,
}

/// Checks, and prints the report.
pub(super) async fn run(args: AdapterArgs) -> Result<ExitCode, NodeError> {
    let AdapterCommand::Check(args) = args.command;
    let tls = match (args.ca, args.cert, args.key) {
        (Some(ca), Some(cert), Some(key)) => Some(TlsFiles { ca, cert, key }),
        _ => None,
    };
    let settings = CheckSettings {
        endpoint: args.endpoint,
        signer: args.signer.zip(args.key_id),
        tls,
        spend: args.spend,
        run: uuid::Uuid::new_v4().simple().to_string(),
        validator: args.validator,
        call: Duration::from_millis(args.call_timeout_ms),
        patience: args.patience_seconds.map(Duration::from_secs),
        poll: Duration::from_millis(args.poll_ms),
    };
    let report = check(settings).await?;
    report.lines.iter().for_each(|line| println!("{line}"));
    let count = |verdict| report.count(verdict);
    let (passed, failed, skipped) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skipped));
    println!("{passed} clauses hold, {failed} are broken, {skipped} were not seen");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
