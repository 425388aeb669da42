//! What the service does, a file per job. Every loop is a step function that `node.rs` or a simulation drives;
//! nothing here spawns or sleeps, and only the RPC-facing functions read the clock, once, at their edge.
//!
//! Called by `api/` and `node.rs`. Each step reads, decides with the rules of `domain/`, and commits once.

pub mod accept;
pub mod administer;
mod alone;
pub mod approve;
pub mod audit;
pub mod audit_log;
pub mod backup;
pub mod batch;
pub mod close;
pub mod collect;
pub mod control;
pub mod correct;
pub mod distribute;
pub mod effects;
pub mod enrol;
pub mod error;
pub mod forecast;
mod gauges;
pub mod history;
pub mod ingest;
mod jurisdictions;
mod memo;
pub mod metrics;
pub mod operate;
pub mod pay;
pub mod positions;
pub mod query;
pub mod rebalance;
pub mod receipt;
pub mod reconcile;
pub mod request;
pub mod restored;
pub mod simulate;
pub mod slash;
#[cfg(test)]
mod slash_tests;
pub mod snapshot;
pub mod step;
pub mod tick;
pub mod transfer;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::{Mutex, watch};

use crate::book::{Book, BookSender, PoolSpec};
use crate::chain::{ChainAdapter, Signer};
use crate::clock::Clock;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AssetId, ChainId, PoolId};
use crate::domain::time::UnixSeconds;
use crate::store::records::{LedgerRecord, PoolRecord, PoolState, Record, SourceRecord};
use crate::store::{Direction, KeyRange, PartitionId, Store, keys};

pub use error::{AppError, Failure, Reason, Refusal, Work};
pub use request::{Once, Request};

/// What a chain is.
pub use crate::chain::Descriptor;

/// What is kept of everything, as readers are shown it.
pub use crate::store::records;

/// What the steps go by, from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long before the end of a period its rewards are claimed.
    pub claim_lead_seconds: u64,
    /// How often the chain is read and reconciled.
    pub observe_interval_seconds: u64,
    /// How often an operation is built or sent before an operator is asked.
    pub max_attempts: u32,
    /// How old an operation becomes before an operator is asked.
    pub max_operation_seconds: u64,
    /// Seconds before the first retry of an operation; doubled each time, up to an hour.
    pub retry_base_seconds: u64,
    /// How far ahead of the clock an event may lie.
    pub max_future_seconds: u32,
}

/// A chain that the configuration names and this process is connected to.
#[derive(Clone)]
pub struct Chain {
    /// What it said of itself when it was connected.
    pub descriptor: Descriptor,
    /// The way to it.
    pub adapter: Arc<dyn ChainAdapter>,
    /// Who signs for it.
    pub signer: Arc<dyn Signer>,
    /// The most that one transaction may cost, whatever the adapter says: nothing dearer is signed.
    pub max_fee: BaseUnits,
}

/// One pool that this process runs.
pub struct Pool {
    /// What it was created as.
    pub record: PoolRecord,
    /// Its chain.
    pub chain: Chain,
    /// Serialises the changes of the pool's control records; the ledger's compare-and-set backs it.
    lock: Mutex<()>,
    /// Counts the changes, for those who watch.
    changes: watch::Sender<u64>,
    /// What its readers are shown beside its records.
    shown: audit::Shown,
    /// Where the oldest periods were found.
    oldest: close::Oldest,
    /// The entry of the enrolment log that the pool follows it after; unset until what came before is carried over.
    follows_from: OnceLock<u64>,
    /// Its ledger as it was read last.
    ledger: memo::Memo<LedgerRecord>,
    /// What operators set of it, as it was read last.
    state: memo::Memo<PoolState>,
}

impl Pool {
    /// Its name.
    pub fn id(&self) -> &PoolId {
        &self.record.id
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.record.number
    }

    /// Where its control records are.
    pub fn control(&self) -> PartitionId {
        PartitionId::control(self.record.number)
    }

    /// Where partition `index` of its book is.
    pub fn book(&self, index: u16) -> PartitionId {
        PartitionId::book(self.record.number, index)
    }

    /// A value that grows with every change of the pool's control records.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// The service, without its transport.
pub struct App {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    book: Arc<Book>,
    sender: BookSender,
    settings: Settings,
    chains: BTreeMap<ChainId, Chain>,
    pools: RwLock<BTreeMap<PoolId, Arc<Pool>>>,
    feed: ingest::Feed,
    /// Serialises changes of the service partition.
    service_lock: Mutex<()>,
    /// Serialises approvals and corrections, up to the book.
    approvals: Mutex<()>,
    /// The highest number that an approval was given.
    last_approval: AtomicU64,
    /// What may wait for a second person.
    waiting: approve::Waiting,
    /// Serialises what is added to the audit log of the service partition.
    audit_log: Mutex<()>,
    /// Where backups are written; unset where the configuration names no folder.
    archives: OnceLock<Arc<dyn backup::Archives>>,
    /// Lets one backup be written at a time.
    backups: Mutex<()>,
    /// Metrics of the steps.
    pub metrics: metrics::AppMetrics,
}

impl App {
    /// The service over a store and a book. Call [`App::open`] before anything else.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        book: Arc<Book>,
        sender: BookSender,
        chains: Vec<Chain>,
        settings: Settings,
    ) -> Self {
        let chains = chains.into_iter().map(|chain| (chain.descriptor.chain.clone(), chain)).collect();
        Self {
            store,
            clock,
            book,
            sender,
            settings,
            chains,
            pools: RwLock::default(),
            feed: ingest::Feed::default(),
            service_lock: Mutex::new(()),
            approvals: Mutex::new(()),
            last_approval: AtomicU64::new(0),
            waiting: approve::Waiting::default(),
            audit_log: Mutex::new(()),
            archives: OnceLock::new(),
            backups: Mutex::new(()),
            metrics: metrics::AppMetrics::default(),
        }
    }

    /// Now, in whole seconds.
    pub fn now(&self) -> UnixSeconds {
        UnixSeconds::new(self.clock.now_ms().div_euclid(1000))
    }

    /// All pools, by name.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// One pool.
    pub fn pool(&self, id: &PoolId) -> Result<Arc<Pool>, AppError> {
        let pool = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        pool.ok_or_else(|| {
            AppError::refused(Reason::UnknownPool, format!("there is no pool {id}; PoolService/ListPools lists them"))
        })
    }

    /// The pool that stakes an asset, if one does.
    pub fn pool_of_asset(&self, asset: &str) -> Option<Arc<Pool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().find(|pool| pool.record.asset.as_str() == asset).cloned()
    }

    /// The pool that stakes an asset, which `field` of a request names; refused where none does.
    pub(super) fn pool_staking(&self, asset: &AssetId, field: &'static str) -> Result<Arc<Pool>, AppError> {
        self.pool_of_asset(asset.as_str()).ok_or_else(|| unknown_asset(asset, field))
    }

    /// The record at `key`, if there is one.
    pub async fn read<R: Record>(&self, partition: PartitionId, key: &[u8]) -> Result<Option<R>, AppError> {
        let bytes = self.store.get(partition, key).await?;
        Ok(bytes.map(|bytes| R::decode(&bytes)).transpose()?)
    }

    /// The ledger of a pool, as it is now.
    async fn ledger(&self, pool: &Pool) -> Result<Arc<LedgerRecord>, AppError> {
        match self.store.get(pool.control(), &keys::ledger()).await? {
            Some(bytes) => Ok(pool.ledger.decode(&bytes)?),
            None => Ok(Arc::default()),
        }
    }

    /// Whether anything stands at `key`.
    async fn contains(&self, partition: PartitionId, key: &[u8]) -> Result<bool, AppError> {
        Ok(self.store.get(partition, key).await?.is_some())
    }

    /// Up to `limit` records of a range, in key order.
    pub async fn list<R: Record>(
        &self,
        partition: PartitionId,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<R>, AppError> {
        let pairs = self.store.scan(partition, range, limit, Direction::Forward).await?;
        pairs.iter().map(|(_, value)| R::decode(value).map_err(AppError::from)).collect()
    }

    /// The ids that an index of a pool holds, in key order.
    async fn ids<I>(&self, pool: &Pool, tag: u8, parse: impl Fn(&[u8]) -> Option<I>) -> Result<Vec<I>, AppError> {
        let pairs = self.store.scan(pool.control(), keys::range_of_tag(tag), usize::MAX, Direction::Forward).await?;
        let unreadable = || AppError::Broken(format!("pool {}: an index key can't be read", pool.id()));
        pairs.iter().map(|(key, _)| parse(key).ok_or_else(unreadable)).collect()
    }

    /// The last record of a range, if it has one.
    pub async fn last<R: Record>(&self, partition: PartitionId, range: KeyRange) -> Result<Option<R>, AppError> {
        let pairs = self.store.scan(partition, range, 1, Direction::Reverse).await?;
        Ok(pairs.first().map(|(_, value)| R::decode(value)).transpose()?)
    }
}

impl App {
    /// Takes in what the store holds: sources, pools, and what a crash cut off. Call it once, before anything else.
    pub async fn open(&self) -> Result<(), AppError> {
        self.book.add_source(ingest::PUT_BALANCE);
        let sources: Vec<SourceRecord> =
            self.list(PartitionId::SERVICE, keys::range_of_tag(keys::tag::SOURCE), usize::MAX).await?;
        for source in sources {
            self.open_source(source)?;
        }
        for record in pool_records(&*self.store).await? {
            let pool = self.take_in(record).await?;
            self.begin(&pool).await?;
        }
        self.find_approvals().await
    }

    /// Takes a pool in, here and in the book. A pool must not be taken in twice.
    async fn take_in(&self, record: PoolRecord) -> Result<Arc<Pool>, AppError> {
        let chain = self.chains.get(&record.chain).cloned().ok_or_else(|| {
            let message = format!(
                "pool {} stakes on {}, which the configuration does not name; name it under [[pools]] again, or start \
                 with another data_dir",
                record.id, record.chain
            );
            AppError::refused(Reason::UnknownPool, message)
        })?;
        if chain.descriptor.simulated != record.simulated {
            let message =
                format!("pool {} was created on another kind of chain: simulated and real never mix", record.id);
            return Err(AppError::refused(Reason::WrongState, message));
        }
        self.book.add_pool(spec(&record)).await?;
        self.book.name_asset(record.number, record.asset.clone());
        let pool = Arc::new(Pool {
            record,
            chain,
            lock: Mutex::new(()),
            changes: watch::Sender::new(0),
            shown: audit::Shown::default(),
            oldest: close::Oldest::default(),
            follows_from: OnceLock::new(),
            ledger: memo::Memo::default(),
            state: memo::Memo::default(),
        });
        self.pools.write().unwrap_or_else(PoisonError::into_inner).insert(pool.id().clone(), pool.clone());
        Ok(pool)
    }

    /// Lets a pool begin that was taken in. What fails here is done by the next steps.
    async fn begin(&self, pool: &Pool) -> Result<(), AppError> {
        self.carry_over(pool).await?;
        close::open_first_period(self, pool).await
    }
}

fn unknown_asset(asset: &AssetId, field: &'static str) -> AppError {
    let message = format!("no pool stakes {asset}; PoolService/ListPools lists the pools");
    AppError::refused_in(field, Reason::UnknownAsset, message)
}

/// A pool as its book has to know it.
pub fn spec(record: &PoolRecord) -> PoolSpec {
    PoolSpec { number: record.number, partitions: record.partitions, first_start: record.first_period_start }
}

/// The pools that the store knows.
pub async fn pool_records(store: &dyn Store) -> Result<Vec<PoolRecord>, AppError> {
    let range = keys::range_of_tag(keys::tag::POOL);
    let pairs = store.scan(PartitionId::SERVICE, range, usize::from(u16::MAX), Direction::Forward).await?;
    pairs.iter().map(|(_, value)| PoolRecord::decode(value).map_err(AppError::from)).collect()
}
