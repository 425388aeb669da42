//! The chains of a simulated world: each outlives the service, and each is watched for what must never reach it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::app::Chain;
use crate::chain::simulated::{MemoryLog, SimulatedChain, SimulatedConfig};
use crate::chain::{Assembled, ChainAdapter, ChainError, Descriptor, Lookup, Observation, Signed, Unsigned};
use crate::clock::Clock;
use crate::domain::effect::Effect;
use crate::domain::ids::OperationId;
use crate::domain::operation::{OperationKind, OperationState};
use crate::store::records::{OperationRecord, PoolState, Record};
use crate::store::{PartitionId, Store, keys};

use super::disk::Disk;

/// One chain.
pub(super) struct WorldChain {
    /// The preset it was made from.
    pub(super) preset: &'static str,
    /// Its rules.
    pub(super) config: SimulatedConfig,
    /// The chain itself.
    pub(super) chain: SimulatedChain,
    /// What the service is connected to.
    pub(super) watched: Arc<Watched>,
    /// Whether ledger and chain may differ: it was told to show what is not so, or to lose stake without a word.
    pub(super) may_differ: bool,
    log: MemoryLog,
    clock: Arc<dyn Clock>,
}

impl WorldChain {
    pub(super) fn new(
        preset: &'static str,
        config: SimulatedConfig,
        pool: u16,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ChainError> {
        let log = MemoryLog::new();
        let chain = SimulatedChain::open_memory(log.clone(), config.clone(), clock.clone())?;
        let watched =
            Watched { pool, chain: Mutex::new(chain.clone()), disk: Mutex::default(), seen: Mutex::default() };
        Ok(Self { preset, config, chain, watched: Arc::new(watched), may_differ: false, log, clock })
    }

    /// The chain's own node restarts: what is on its log stays, the faults that were armed are gone.
    pub(super) fn reopen(&mut self) -> Result<(), ChainError> {
        let clock = self.clock.clone();
        self.chain = SimulatedChain::open_memory(self.log.clone(), self.config.clone(), clock)?;
        *lock(&self.watched.chain) = self.chain.clone();
        Ok(())
    }

    /// Whether all that the service was shown is so, and the chain has told of all that it did.
    pub(super) fn is_truthful(&self) -> bool {
        !self.may_differ && self.watched.lies().is_empty()
    }

    /// The chain as the service is given it.
    pub(super) fn connection(&self) -> Chain {
        let signer = Arc::new(self.chain.signer());
        let descriptor = self.config.descriptor();
        Chain { max_fee: descriptor.fee_estimate, descriptor, adapter: self.watched.clone(), signer }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the watch remembers of one operation.
#[derive(Default)]
struct Sent {
    bytes: Vec<u8>,
    dead: bool,
    /// Whether what was built last does something else than was asked.
    lies: bool,
}

#[derive(Default)]
struct Seen {
    sent: BTreeMap<OperationId, Sent>,
    breaches: Vec<String>,
    /// Effects as they were told where that was a lie.
    lies: Vec<Effect>,
}

/// The way to a chain, with a watch on it: nothing is sent that is not durable, nothing new flows out of a paused pool,
/// and other bytes follow only on proof that the old ones are dead.
pub(super) struct Watched {
    pool: u16,
    chain: Mutex<SimulatedChain>,
    disk: Mutex<Option<Arc<Disk>>>,
    seen: Mutex<Seen>,
}

impl Watched {
    /// From now on, what is durable is on `disk`.
    pub(super) fn set_disk(&self, disk: Arc<Disk>) {
        *lock(&self.disk) = Some(disk);
    }

    /// What must not have happened and did.
    pub(super) fn breaches(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).breaches)
    }

    /// Effects as the service was told of them where that was a lie.
    pub(super) fn lies(&self) -> Vec<Effect> {
        lock(&self.seen).lies.clone()
    }

    /// How often the chain has lied about an effect since it was opened.
    fn lied(&self) -> u64 {
        self.chain().fault_counts().get("lying_effect").copied().unwrap_or(0)
    }

    async fn note_lies(&self, lied: u64, told: &[Effect]) {
        if self.lied() == lied {
            return;
        }
        let truth = self.chain().final_effects().await.unwrap_or_default();
        let lies = told.iter().filter(|told| !truth.contains(told)).cloned();
        lock(&self.seen).lies.extend(lies);
    }

    fn breach(&self, what: String) {
        lock(&self.seen).breaches.push(what);
    }

    fn chain(&self) -> SimulatedChain {
        lock(&self.chain).clone()
    }

    async fn stored<R: Record>(&self, key: &[u8]) -> Option<R> {
        let disk = lock(&self.disk).clone()?;
        let bytes = disk.get(PartitionId::control(self.pool), key).await.ok()??;
        R::decode(&bytes).ok()
    }

    async fn judge_submit(&self, id: &OperationId, signed: &Signed) {
        let record: Option<OperationRecord> = self.stored(&keys::operation(id)).await;
        let kept = record.as_ref().and_then(|record| record.signed.as_ref());
        if kept.is_none_or(|kept| kept.bytes != signed.bytes) {
            self.breach(format!("{id} was sent, and these bytes are not durable"));
        }
        let may = [OperationState::Submitting, OperationState::Submitted, OperationState::Unknown];
        if let Some(record) = record.filter(|record| !may.contains(&record.state)) {
            self.breach(format!("{id} was sent while it is {}", record.state.name()));
        }
        let mut seen = lock(&self.seen);
        let sent = seen.sent.entry(id.clone()).or_default();
        let lies = sent.lies;
        let replaced = !sent.bytes.is_empty() && sent.bytes != signed.bytes && !sent.dead;
        (sent.bytes, sent.dead) = (signed.bytes.clone(), false);
        if lies {
            seen.breaches.push(format!("{id} was sent, and its bytes do something else"));
        }
        if replaced {
            seen.breaches.push(format!("{id} was sent with other bytes, and nothing proved the old ones dead"));
        }
    }
}

#[async_trait]
impl ChainAdapter for Watched {
    async fn descriptor(&self) -> Result<Descriptor, ChainError> {
        self.chain().descriptor().await
    }

    async fn observe(&self) -> Result<Observation, ChainError> {
        self.chain().observe().await
    }

    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        let outflow = !kind.is_exit() || matches!(kind, OperationKind::SendToCustody { .. });
        if outflow {
            let state: Option<PoolState> = self.stored(&keys::pool_state()).await;
            if let Some(reason) = state.and_then(|state| state.paused) {
                self.breach(format!("{id} was built while its pool is paused: {reason}"));
            }
        }
        let unsigned = self.chain().prepare(id, kind).await?;
        lock(&self.seen).sent.entry(id.clone()).or_default().lies = unsigned.says.intent != *kind;
        Ok(unsigned)
    }

    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        self.chain().assemble(id, unsigned, signature).await
    }

    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        self.judge_submit(id, signed).await;
        self.chain().submit(id, signed).await
    }

    async fn lookup(&self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        let lied = self.lied();
        let found = self.chain().lookup(id, signed).await;
        if let Ok(Lookup::Done { effects, .. } | Lookup::Failed { effects, .. }) = &found {
            self.note_lies(lied, effects).await;
        }
        if found == Ok(Lookup::AbsentForGood)
            && let Some(sent) = lock(&self.seen).sent.get_mut(id)
        {
            sent.dead |= sent.bytes == signed.bytes;
        }
        found
    }

    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        let lied = self.lied();
        let told = self.chain().effects(from, to).await?;
        self.note_lies(lied, &told).await;
        Ok(told)
    }
}
