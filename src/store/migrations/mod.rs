//! From one version of the stored forms to the next: one numbered file each, run in order at start.
//!
//! A migration's last batch and the new version are one batch, so it has happened or it has not. One that changes more
//! than fits there does so in commits of its own before, each of which it can find done and pass over.

use async_trait::async_trait;

use super::{Batch, PartitionId, Store, StoreError, keys};

mod m0001_initial;

/// The version of everything that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// The version that this softstake reads and writes.
    pub const CURRENT: Self = Self(1);
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why the store could not be brought to the current version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// A newer softstake has written it.
    #[error(
        "the store has version {found}, and this softstake knows up to {}: use a newer one; nothing was changed",
        Version::CURRENT
    )]
    Newer {
        /// The version it has.
        found: Version,
    },
    /// The record of the version is no version.
    #[error("the store's version can't be read: it has {bytes} bytes, and should have 4; nothing was changed")]
    Unreadable {
        /// How many bytes it has.
        bytes: usize,
    },
    /// There are records, and no version.
    #[error("the store has records and no version: it is not a store of softstake; nothing was changed")]
    Foreign,
    /// The store refused.
    #[error("migration {migration} stopped: {source}")]
    Store {
        /// Which one; 0 before the first.
        migration: u32,
        /// What the store said.
        source: StoreError,
    },
}

/// One step from version `number - 1` to `number`.
#[async_trait]
trait Migration: Sync {
    /// The version that it leads to.
    fn number(&self) -> u32;

    /// What it does, in a few words.
    fn name(&self) -> &'static str;

    /// Does what does not fit in one batch, and returns the last batch, which is for the service partition.
    async fn run(&self, store: &dyn Store) -> Result<Batch, MigrationError>;
}

const MIGRATIONS: &[&dyn Migration] = &[&m0001_initial::Initial];

/// The version of what is stored; none in an empty store.
pub async fn version(store: &dyn Store) -> Result<Option<Version>, MigrationError> {
    let bytes = store.get(PartitionId::SERVICE, &keys::store_version()).await.map_err(failed(0))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let number =
        <[u8; 4]>::try_from(bytes.as_slice()).map_err(|_| MigrationError::Unreadable { bytes: bytes.len() })?;
    Ok(Some(Version(u32::from_be_bytes(number))))
}

/// Brings the store to [`Version::CURRENT`], one migration after another, and returns it.
///
/// A newer store is refused. Whoever does the same at the same time: each step happens once.
pub async fn migrate(store: &dyn Store) -> Result<Version, MigrationError> {
    run(store, MIGRATIONS, Version::CURRENT).await
}

async fn run(store: &dyn Store, migrations: &[&dyn Migration], current: Version) -> Result<Version, MigrationError> {
    loop {
        let found = version(store).await?;
        let number = found.map_or(0, |found| found.0);
        if number > current.0 {
            return Err(MigrationError::Newer { found: Version(number) });
        }
        let Some(next) = migrations.iter().find(|migration| migration.number() == number + 1) else {
            return Ok(Version(number));
        };
        let mut batch = next.run(store).await?;
        let key = keys::store_version();
        match found {
            None => batch.expect_absent(key.as_slice()),
            Some(found) => batch.expect_equals(key.as_slice(), found.0.to_be_bytes()),
        };
        batch.put(key, next.number().to_be_bytes());
        match store.commit(vec![batch]).await {
            Ok(()) => tracing::info!(version = next.number(), name = next.name(), "the store was migrated"),
            // Somebody else was faster: look again.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(failed(next.number())(error)),
        }
    }
}

fn failed(migration: u32) -> impl FnOnce(StoreError) -> MigrationError {
    move |source| MigrationError::Store { migration, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::model::{Fault, ModelStore};

    const SERVICE: PartitionId = PartitionId::SERVICE;

    async fn put_version(store: &ModelStore, bytes: &[u8]) {
        let mut batch = Batch::new(SERVICE);
        batch.put(keys::store_version(), bytes);
        store.commit(vec![batch]).await.unwrap();
    }

    #[test]
    fn the_numbers_run_from_one_to_the_current_version() {
        let numbers: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.number()).collect();
        assert_eq!(numbers, (1..=Version::CURRENT.0).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_empty_store_becomes_current_and_stays() {
        let store = ModelStore::new();
        assert_eq!(version(&store).await, Ok(None));
        assert_eq!(migrate(&store).await, Ok(Version::CURRENT));
        assert_eq!(version(&store).await, Ok(Some(Version::CURRENT)));
        let commits = store.commits();
        assert_eq!(migrate(&store).await, Ok(Version::CURRENT));
        assert_eq!(store.commits(), commits, "a current store is left alone");
    }

    #[tokio::test]
    async fn a_newer_foreign_or_unreadable_store_is_refused_unchanged() {
        let store = ModelStore::new();
        put_version(&store, &2u32.to_be_bytes()).await;
        let error = migrate(&store).await.unwrap_err();
        assert_eq!(error, MigrationError::Newer { found: Version(2) });
        assert!(error.to_string().contains("has version 2, and this softstake knows up to 1"), "{error}");
        put_version(&store, b"abc").await;
        assert_eq!(migrate(&store).await, Err(MigrationError::Unreadable { bytes: 3 }));

        let foreign = ModelStore::new();
        let mut batch = Batch::new(SERVICE);
        batch.put(b"x".as_slice(), b"y".as_slice());
        foreign.commit(vec![batch]).await.unwrap();
        assert_eq!(migrate(&foreign).await, Err(MigrationError::Foreign));
        assert_eq!(version(&foreign).await, Ok(None));
    }

    struct Second;

    #[async_trait]
    impl Migration for Second {
        fn number(&self) -> u32 {
            2
        }

        fn name(&self) -> &'static str {
            "second"
        }

        async fn run(&self, _: &dyn Store) -> Result<Batch, MigrationError> {
            let mut batch = Batch::new(SERVICE);
            batch.put(keys::counter("seconds"), b"1".as_slice());
            Ok(batch)
        }
    }

    #[tokio::test]
    async fn the_change_and_the_version_are_one() {
        let all: &[&dyn Migration] = &[&m0001_initial::Initial, &Second];
        for synced in [0, 1] {
            let store = ModelStore::with_faults(move |n, _| (n == 1).then_some(Fault::Fatal { written: 1, synced }));
            let error = run(&store, all, Version(2)).await.unwrap_err();
            assert!(matches!(error, MigrationError::Store { migration: 2, .. }));
            let next = store.after(crate::store::model::Crash::Power);
            let there = next.get(SERVICE, &keys::counter("seconds")).await.unwrap().is_some();
            assert_eq!(there, synced == 1);
            assert_eq!(version(&next).await, Ok(Some(Version(1 + u32::from(there)))));
            assert_eq!(run(&next, all, Version(2)).await, Ok(Version(2)));
        }
    }

    #[tokio::test]
    async fn two_at_once_agree() {
        let store = ModelStore::new();
        let (a, b) = tokio::join!(migrate(&store), migrate(&store));
        assert_eq!((a, b), (Ok(Version::CURRENT), Ok(Version::CURRENT)));
    }
}
