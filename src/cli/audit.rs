//! `softstake audit`: the audit log of a service that does not run, checked and exported.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::node::NodeError;
use crate::node::audit_log::{self, ChainReport, NotedEntry};

/// What `audit` is told.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Walks every chain of entries, and says where each ends or where it breaks. Exit status 1 where one does.
    Verify(VerifyArgs),
    /// Writes every entry as a line of JSON, for those who keep it elsewhere.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The data_dir of a service that does not run.
    #[arg(long, value_name = "FOLDER", default_value = "./softstake-data", conflicts_with = "file")]
    data_dir: PathBuf,
    /// An export, in place of a data_dir.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// An entry as an earlier `verify` printed it: a log that was written anew is whole by itself, and is found by this.
    /// May be given several times.
    #[arg(long = "noted", value_name = "LOG:SEQUENCE:HASH")]
    noted: Vec<NotedEntry>,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The data_dir of a service that does not run.
    #[arg(long, value_name = "FOLDER", default_value = "./softstake-data")]
    data_dir: PathBuf,
    /// The file to write. One that is there already is not overwritten.
    #[arg(value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub(super) async fn run(args: AuditArgs) -> Result<ExitCode, NodeError> {
    match args.command {
        AuditCommand::Verify(args) => {
            let reports = match &args.file {
                Some(file) => audit_log::verify_export(file, &args.noted)?,
                None => audit_log::verify(&args.data_dir, &args.noted).await?,
            };
            show(&reports, &mut io::stdout()).map_err(|error| told("writing the outcome", error))
        }
        AuditCommand::Export(args) => {
            let what = args.out.display().to_string();
            let file = OpenOptions::new().write(true).create_new(true).open(&args.out);
            let mut out = BufWriter::new(file.map_err(|error| told(&what, error))?);
            let count = audit_log::export(&args.data_dir, &mut out).await?;
            out.get_ref().sync_all().map_err(|error| told(&what, error))?;
            writeln!(io::stdout(), "{count} entries in {what}").map_err(|error| told("writing the outcome", error))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn told(what: &str, error: io::Error) -> NodeError {
    NodeError::Io { what: what.to_owned(), error }
}

fn show(reports: &[ChainReport], out: &mut impl Write) -> io::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for ChainReport { log, outcome } in reports {
        match outcome {
            Ok(Some((sequence, hash))) => writeln!(out, "whole   {log}:{sequence}:{hash}")?,
            Ok(None) => writeln!(out, "empty   {log}")?,
            Err(broken) => {
                code = ExitCode::FAILURE;
                writeln!(out, "BROKEN  {log}: {broken}")?;
            }
        }
    }
    Ok(code)
}
