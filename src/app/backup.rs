//! Backups while the service runs: one archive of everything, by name, in the folder that the configuration names.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::audit_log::Note;
use crate::domain::time::UnixSeconds;
use crate::store::{Batch, PartitionId, StoreError};

use super::{App, AppError, Once, Reason, Request};

/// An archive that was read whole and found to be what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it lies on the server.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many records it has.
    pub records: u64,
    /// BLAKE3 of the whole file.
    pub hash: [u8; 32],
    /// Stands for the request that asked for it.
    pub mark: [u8; 32],
    /// The time that it is consistent for.
    pub at: UnixSeconds,
}

/// Where archives are written.
#[async_trait]
pub trait Archives: Send + Sync {
    /// Writes one archive of everything, as of one moment before this returns, with the `mark` of its request and the time
    /// `at`. Whether it did: where one of that name exists it is left as it is, for an archive has its name only once it is
    /// whole and durable.
    async fn write(&self, name: &str, mark: [u8; 32], at: UnixSeconds) -> Result<bool, AppError>;

    /// Reads an archive whole, and says what it is.
    async fn check(&self, name: &str) -> Result<Archive, AppError>;
}

/// What an archive is called: 1 to 128 letters, digits, hyphens, dots or underscores, not beginning with a dot. One that
/// is being written ends in `.unfinished`, so that none may be called so.
pub fn is_archive_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && !name.ends_with(".unfinished")
        && name.chars().all(fits)
}

impl App {
    /// Says where archives are written. Without it, there are no backups; the first one stands.
    pub fn archive_in(&self, archives: Arc<dyn Archives>) {
        // A second one is not an error of any caller: the service says it once, at its start.
        let _ = self.archives.set(archives);
    }

    /// Writes the archive `name`, once, while everything goes on: it has every change that was answered before this was
    /// called. One backup is written at a time; others wait. A call that was cut off leaves an archive that is whole or
    /// none. What was written is said where this call wrote it; of an earlier one, [`App::backed_up`] says it.
    pub async fn back_up(&self, request: &Request, name: &str) -> Result<(Once, Option<Archive>), AppError> {
        let archives = self.archives()?;
        if !is_archive_name(name) {
            let message = "it has to be 1 to 128 letters, digits, hyphens, dots or underscores, not beginning with a dot \
                           and not ending in .unfinished";
            return Err(AppError::invalid("archive", message));
        }
        let _guard = self.backups.lock().await;
        if let Some(repeated) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            return Ok((repeated, None));
        }
        let (began, at, mark) = (self.clock.now_ms(), self.now(), mark(request));
        let written = async {
            let new = archives.write(name, mark, at).await?;
            let archive = archives.check(name).await;
            match (new, archive) {
                (true, archive) => archive,
                // Written by a service that died before it could say so: what was asked for is there.
                (false, Ok(archive)) if archive.mark == mark => Ok(archive),
                (false, _) => Err(taken(name)),
            }
        };
        let archive = written.await.inspect_err(|error| {
            if !matches!(error, AppError::Refused(_)) {
                self.metrics.backups_failed.inc();
            }
        })?;
        let summary = format!("backed up: {} records, {} bytes", archive.records, archive.bytes);
        let hash = blake3::Hash::from_bytes(archive.hash).to_hex();
        let note = Note::of(format!("backups/{name}"), summary).changed("", format!("blake3={hash}"));
        self.commit_marked(request, Vec::new(), Batch::new(PartitionId::SERVICE), at, note).await?;
        self.metrics.backed_up(archive.at, self.clock.now_ms() - began, archive.bytes);
        Ok((Once::First, Some(archive)))
    }

    /// What a backup that was carried out has written. Reads all of it.
    pub async fn backed_up(&self, name: &str) -> Result<Archive, AppError> {
        self.archives()?.check(name).await
    }

    fn archives(&self) -> Result<Arc<dyn Archives>, AppError> {
        self.archives.get().cloned().ok_or_else(|| {
            let message = "no folder for backups is configured; set `backup_dir` and start the service again";
            AppError::refused(Reason::WrongState, message)
        })
    }
}

/// What stands for a request in the archive that it asked for: its id and its body.
fn mark(request: &Request) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&request.key()).update(&request.fingerprint);
    *hasher.finalize().as_bytes()
}

fn taken(name: &str) -> AppError {
    let message = format!("the backup {name} is there already, and nothing is overwritten; choose another name");
    AppError::refused_in("archive", Reason::AlreadyExists, message)
}

/// A failure to write or read an archive: nothing of the service is changed by it.
pub fn not_written(why: impl std::fmt::Display) -> AppError {
    AppError::Store(StoreError::Busy(format!("there is no backup: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_leave_no_folder() {
        for good in ["a", "2026-11-25", "atom_1.archive", &"x".repeat(128)] {
            assert!(is_archive_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a\0", "a.unfinished", "ä", &"x".repeat(129)] {
            assert!(!is_archive_name(bad), "{bad}");
        }
    }
}
