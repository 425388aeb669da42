//! `softstake dev-certs`: an authority, certificates and tokens for trying TLS out, in one folder.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::node::dev_certs::{self, DevCerts};

/// What `dev-certs` is told.
#[derive(Debug, Args)]
pub(super) struct DevCertsArgs {
    /// The folder to write to. It is created; files that are there already are never overwritten.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// A name or an address of the server, besides localhost, 127.0.0.1 and ::1. May be given several times.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// For how many days certificates and tokens are good.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
    days: u32,
}

/// Why nothing, or not all, was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevCertsError {
    /// A file or the folder.
    #[error("{path}: {error}; choose a new folder")]
    File {
        /// Which.
        path: String,
        /// What went wrong.
        error: io::Error,
    },
    /// A name that no certificate can hold.
    #[error(transparent)]
    Made(#[from] dev_certs::DevCertsError),
}

/// Writes the files and says what to do with them.
pub(super) fn run(args: &DevCertsArgs) -> Result<ExitCode, DevCertsError> {
    let folder = &args.folder;
    let io = |path: &Path, error| DevCertsError::File { path: path.display().to_string(), error };
    fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
    let shown = fs::canonicalize(folder).map_err(|error| io(folder, error))?;
    let nameless = || io::Error::new(io::ErrorKind::InvalidInput, "the settings can't name a folder that is no UTF-8");
    let shown = shown.to_str().ok_or_else(|| io(folder, nameless()))?;
    let made = DevCerts::make(&args.hosts, Duration::from_secs(u64::from(args.days) * 86_400))?;
    let files = made.files(shown);
    // All or nothing: a key of this authority beside a certificate of an older one would help nobody.
    for (name, ..) in &files {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(io(&path, io::Error::new(io::ErrorKind::AlreadyExists, "it is there already, and is kept")));
        }
    }
    for (name, text, secret) in files {
        let path = folder.join(&name);
        // Keys and tokens are for their owner alone.
        let mode = if secret { 0o600 } else { 0o644 };
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| io(&path, error))?;
        println!("{}", path.display());
    }
    let at = |name: &str| quoted(&format!("{shown}/{name}"));
    let (settings, ca) = (at("softstake.toml"), at("ca.pem"));
    let (cert, key, token) = (at("operator.pem"), at("operator.key"), at("operator.token"));
    println!(
        "\nServe with it:\n  softstake serve --config {settings}\nCall it:\n  grpcurl -cacert {ca} -cert {cert} -key {key} \
         localhost:7070 softstake.v1.PoolService/ListPools\n  grpcurl -cacert {ca} -H \"authorization: Bearer \
         $(cat {token})\" localhost:7070 softstake.v1.PoolService/ListPools\nThese are for trying it out: the authority's \
         key is in the same folder."
    );
    Ok(ExitCode::SUCCESS)
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
