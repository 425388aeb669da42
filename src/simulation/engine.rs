//! The running service: the shipped rooms, without tasks and without a transport. It is driven by hand, and dies where
//! its disk says so.

use std::future::Future;
use std::sync::Arc;

use crate::app::tick::{NoDesk, Ticked, tick};
use crate::app::{App, AppError, Chain, Settings};
use crate::book::{Book, BookConfig, Committer};
use crate::clock::Clock;
use crate::store::Store;

use super::disk::Disk;

/// The process is dead: whatever it was doing is cut off, and nothing of it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Killed;

/// A service that runs.
pub(super) struct Engine {
    pub(super) app: Arc<App>,
    /// The readers' side of its book.
    pub(super) book: Book,
    pub(super) disk: Arc<Disk>,
    committer: Committer,
}

impl Engine {
    /// Opens the service on a disk, as a node does at its start.
    pub(super) async fn open(
        disk: Arc<Disk>,
        clock: Arc<dyn Clock>,
        chains: Vec<Chain>,
        settings: Settings,
        config: BookConfig,
    ) -> Result<Result<Self, AppError>, Killed> {
        let store: Arc<dyn Store> = disk.clone();
        let opening = async {
            let specs = crate::app::pool_records(store.as_ref()).await?.iter().map(crate::app::spec).collect();
            let (book, committer) = Book::open(store.clone(), specs, config).await?;
            let sender = book.sender();
            let app = App::new(store.clone(), clock, Arc::new(book.clone()), sender, chains, settings);
            Ok::<_, AppError>((app, book, committer))
        };
        let (app, book, committer) = tokio::select! {
            biased;
            opened = opening => match opened {
                Ok(opened) => opened,
                Err(error) => return Ok(Err(error)),
            },
            () = disk.death() => return Err(Killed),
        };
        let mut engine = Self { app: Arc::new(app), book, disk, committer };
        let app = engine.app.clone();
        let opened = engine.drive(async move { app.open().await }).await?;
        Ok(opened.map(|()| engine))
    }

    /// Runs `work` while the book's committer runs beside it. What the committer has to do by itself, such as sealing a
    /// freeze, is done at once, so that nothing depends on how many commits it takes.
    pub(super) async fn drive<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Killed> {
        let mut work = std::pin::pin!(work);
        let (committer, disk, app) = (&mut self.committer, &self.disk, &self.app);
        loop {
            tokio::select! {
                biased;
                () = disk.death() => return Err(Killed),
                done = &mut work => return Ok(done),
                () = async {
                    committer.wait_for_command().await;
                    catch_up(committer, app).await;
                } => {}
            }
        }
    }

    /// One tick, and what the book does by itself after it.
    pub(super) async fn tick(&mut self) -> Result<Ticked, Killed> {
        let app = self.app.clone();
        let ticked = self.drive(async move { tick(&app, &NoDesk, app.now()).await }).await?;
        self.catch_up().await?;
        Ok(ticked)
    }

    async fn catch_up(&mut self) -> Result<(), Killed> {
        let (committer, app) = (&mut self.committer, &self.app);
        tokio::select! {
            biased;
            () = catch_up(committer, app) => Ok(()),
            () = self.disk.death() => Err(Killed),
        }
    }

    /// Whether a journal has grown enough for a checkpoint to begin by itself.
    pub(super) fn checkpoint_due(&self) -> bool {
        self.committer.checkpoint_due()
    }

    /// Begins a checkpoint, and brings one forward by up to `steps`.
    pub(super) async fn checkpoint(&mut self, begin: bool, steps: u32) -> Result<(), Killed> {
        let (committer, app) = (&mut self.committer, &self.app);
        if begin {
            committer.begin_checkpoint();
        }
        let writing = async {
            for _ in 0..steps {
                match committer.checkpoint_step(app.now()).await {
                    Ok(work) if work.more => {}
                    Ok(_) | Err(_) => break,
                }
            }
        };
        tokio::select! {
            biased;
            () = writing => Ok(()),
            () = self.disk.death() => Err(Killed),
        }
    }
}

/// An error has closed the book, and told those who wait.
async fn catch_up(committer: &mut Committer, app: &App) {
    loop {
        if committer.step(app.now()).await.is_err() || !committer.has_work() {
            return;
        }
    }
}
