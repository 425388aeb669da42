//! Backups: the folder of archives of a running service, and a store made of one while it is stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::app::backup::{Archive, Archives, not_written};
use crate::app::{AppError, restored};
use crate::clock::{Clock, SystemClock};
use crate::domain::time::UnixSeconds;
use crate::store::migrations;
use crate::store::sled::{self, ArchiveError, BackupReport, Origin, SledOptions, SledStore};

use super::{NodeError, host};

/// The archives of one store in one folder.
pub(super) struct BackupFolder {
    store: Arc<SledStore>,
    folder: PathBuf,
}

impl BackupFolder {
    /// Archives of `store` in `folder`, which is made where it is not there, and cleared of what was not finished.
    pub(super) fn open(store: Arc<SledStore>, folder: &Path) -> Result<Self, NodeError> {
        super::create(folder)?;
        sled::remove_unfinished(folder)
            .map_err(|error| NodeError::Io { what: format!("clearing {} of leftovers", folder.display()), error })?;
        Ok(Self { store, folder: folder.to_owned() })
    }
}

#[async_trait]
impl Archives for BackupFolder {
    async fn write(&self, name: &str, mark: [u8; 32], at: UnixSeconds) -> Result<bool, AppError> {
        sled::remove_unfinished(&self.folder).map_err(not_written)?;
        match self.store.backup(&self.folder.join(name), Origin { mark, at: at.get() }).await {
            Ok(_) => Ok(true),
            Err(ArchiveError::Exists(_)) => Ok(false),
            Err(ArchiveError::Store(error)) => Err(error.into()),
            Err(other) => Err(not_written(other)),
        }
    }

    async fn check(&self, name: &str) -> Result<Archive, AppError> {
        let path = self.folder.join(name);
        let read = tokio::task::spawn_blocking(move || sled::check(&path));
        let BackupReport { path, bytes, hash, origin, summary } =
            read.await.map_err(not_written)?.map_err(not_written)?;
        let (path, at) = (path.display().to_string(), UnixSeconds::new(origin.at));
        Ok(Archive { path, bytes, records: summary.records, hash, mark: origin.mark, at })
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

/// What became of a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// It is lifted, and so many pools are held.
    Lifted(usize),
    /// There is none: nothing was changed.
    None,
}

/// Lifts the fence of a restored store, once every pool of it is held and it is written down in its audit log, with the user
/// of the machine and the reason, that the fence is lifted. Whoever calls this is certain that the original never runs again.
pub async fn unfence(data_dir: &Path, reason: &str) -> Result<Fence, NodeError> {
    let directory = data_dir.join("store");
    let failed = |error| NodeError::Io { what: format!("lifting the fence of {}", directory.display()), error };
    if !sled::is_fenced(&directory).map_err(failed)? {
        return Ok(Fence::None);
    }
    let (caller, opening) = (host::user().map_err(failed)?, directory.clone());
    let opened = tokio::task::spawn_blocking(move || SledStore::open_fenced(&opening, SledOptions::default()));
    let store = opened.await.map_err(|died| NodeError::Failed(died.to_string()))??;
    migrations::migrate(&store).await?;
    let now = UnixSeconds::new(SystemClock::new().now_ms().div_euclid(1_000));
    let held = restored::hold(&store, &caller, now, reason).await?;
    // The store is this process's until the fence is away.
    sled::unfence(&directory).map_err(failed)?;
    drop(store);
    Ok(Fence::Lifted(held))
}
