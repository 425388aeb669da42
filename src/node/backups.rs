//! Backups: the folder of archives of a running service, and a store made of one while it is stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::app::backup::{Archive, Archives, not_written};
use crate::app::{AppError, Reason, audit_log};
use crate::clock::{Clock, SystemClock};
use crate::domain::audit_log::Note;
use crate::domain::caller::Caller;
use crate::domain::time::UnixSeconds;
use crate::store::sled::{self, ArchiveError, BackupReport, SledStore};

use super::NodeError;
use super::audit_log::open_stopped;

/// The archives of one store in one folder.
pub(super) struct BackupFolder {
    store: Arc<SledStore>,
    folder: PathBuf,
}

impl BackupFolder {
    /// Archives of `store` in `folder`, which is made where it is not there.
    pub(super) fn open(store: Arc<SledStore>, folder: &Path) -> Result<Self, NodeError> {
        super::create(folder)?;
        Ok(Self { store, folder: folder.to_owned() })
    }
}

#[async_trait]
impl Archives for BackupFolder {
    async fn write(&self, name: &str) -> Result<(), AppError> {
        match self.store.backup(&self.folder.join(name)).await {
            Ok(_) => Ok(()),
            Err(ArchiveError::Exists(_)) => {
                let message =
                    format!("the backup {name} is there already, and nothing is overwritten; choose another name");
                Err(AppError::refused_in("archive", Reason::AlreadyExists, message))
            }
            Err(ArchiveError::Store(error)) => Err(error.into()),
            Err(other) => Err(not_written(other)),
        }
    }

    async fn check(&self, name: &str) -> Result<Archive, AppError> {
        let path = self.folder.join(name);
        let read = tokio::task::spawn_blocking(move || sled::check(&path));
        let BackupReport { path, bytes, hash, summary } = read.await.map_err(not_written)?.map_err(not_written)?;
        Ok(Archive { path: path.display().to_string(), bytes, records: summary.records, hash })
    }
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How many records the store has.
    pub records: u64,
    /// The bytes of the archive.
    pub bytes: u64,
}

/// Makes the store of a data_dir of an archive, after checking all of it. The store is fenced: no service starts on it
/// before [`unfence`]. A data_dir that has a store already is refused and left as it is.
pub async fn restore(archive: &Path, data_dir: &Path) -> Result<Restored, NodeError> {
    super::create(data_dir)?;
    let (archive, directory) = (archive.to_owned(), data_dir.join("store"));
    let restored = tokio::task::spawn_blocking(move || sled::restore(&archive, &directory));
    let report = restored.await.map_err(|died| NodeError::Failed(died.to_string()))??;
    Ok(Restored { records: report.summary.records, bytes: report.bytes })
}

/// Lifts the fence of a restored store, and writes that down in its audit log. Whoever calls this is certain that the
/// original never runs again.
pub async fn unfence(data_dir: &Path) -> Result<(), NodeError> {
    let directory = data_dir.join("store");
    sled::unfence(&directory)
        .map_err(|error| NodeError::Io { what: format!("lifting the fence of {}", directory.display()), error })?;
    let store = open_stopped(data_dir).await?;
    let now = UnixSeconds::new(SystemClock::new().now_ms().div_euclid(1_000));
    let note = Note::of("", "restored from a backup; the fence was lifted").changed("FENCED", "OPEN");
    Ok(audit_log::write_down(&store, Caller::service(), now, note).await?)
}
