//! `softstake restore`: a data_dir made of a backup, while the service is stopped.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::node::NodeError;
use crate::node::backups::{self, Fence};

/// What `restore` is told.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The archive that AdminService/Backup wrote. All of it is checked before anything is written.
    #[arg(long, value_name = "ARCHIVE", required_unless_present = "unfence", conflicts_with = "unfence")]
    from: Option<PathBuf>,
    /// The data_dir to make. One that has a store already is refused.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Lifts the fence of a restored data_dir. Only once the original is certain never to run again: both would send what
    /// the original had planned.
    #[arg(long, requires = "reason")]
    unfence: bool,
    /// Why the fence is lifted, and how it is certain that the original never runs again: for the audit log, 1 to 500
    /// characters.
    #[arg(long, value_name = "TEXT", requires = "unfence", value_parser = reason)]
    reason: Option<String>,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim().chars().count() {
        1..=500 => Ok(text.trim().to_owned()),
        _ => Err("has to be 1 to 500 characters".to_owned()),
    }
}

/// Runs the command.
pub(super) async fn run(args: RestoreArgs) -> Result<ExitCode, NodeError> {
    let to = args.to.display().to_string();
    let told = match &args.from {
        Some(from) => {
            let restored = backups::restore(from, &args.to).await?;
            format!(
                "restored {} records of {} bytes into {to}, which is fenced: when the original is certain never to run \
                 again, lift the fence with `softstake restore --unfence --to {to} --reason TEXT`",
                restored.records, restored.bytes
            )
        }
        None => match backups::unfence(&args.to, args.reason.as_deref().unwrap_or_default()).await? {
            Fence::Lifted(pools) => format!(
                "the fence of {to} is lifted, and its pools are held ({pools}): after the start, Reconcile each, and \
                 ResumePool once ledger and chain agree"
            ),
            Fence::None => format!("{to} has no fence; nothing was changed"),
        },
    };
    writeln!(io::stdout(), "{told}")
        .map_err(|error| NodeError::Io { what: "writing the outcome".to_owned(), error })?;
    Ok(ExitCode::SUCCESS)
}
