//! What has to hold after every step: the equations, and every promise of the service that somebody has heard.

use std::collections::BTreeMap;

use crate::app::metrics::PoolName;
use crate::domain::distribution::DistributionState;
use crate::domain::equations::EquationResult;
use crate::domain::ids::OperationId;
use crate::domain::operation::OperationState;
use crate::domain::period::PeriodIndex;
use crate::store::records::{DistributionRecord, OperationRecord, PeriodRecord};
use crate::store::{PartitionId, Store, keys};

use super::Problem;
use super::conduct::Conduct;
use super::founding::POOLS;
use super::world::{Stop, World};

/// What was seen and must not change.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Operations that ended, as they were stored then.
    ended: BTreeMap<(usize, OperationId), OperationRecord>,
    /// Those that are open.
    open: BTreeMap<(usize, OperationId), OperationState>,
    /// Distributions that were released.
    released: BTreeMap<(usize, u64), DistributionRecord>,
    /// How many distributions of each pool were released.
    pub(super) closes: [u64; POOLS],
    /// What was seen of each pool's conduct.
    pub(super) conduct: [Conduct; POOLS],
}

impl Promises {
    /// The operations of a pool that ended.
    pub(super) fn ended_of(&self, pool: usize) -> impl Iterator<Item = &OperationRecord> {
        self.ended.iter().filter(move |(key, _)| key.0 == pool).map(|(_, record)| record)
    }

    /// Whether a period's distribution was seen released.
    pub(super) fn has_released(&self, pool: usize, period: PeriodIndex) -> bool {
        self.released.contains_key(&(pool, period.0))
    }
}

/// A released distribution without what may still change: whether it is settled.
fn kept(record: &DistributionRecord) -> DistributionRecord {
    DistributionRecord { state: DistributionState::Released, settled_at: None, ..record.clone() }
}

impl World {
    /// Checks everything. A service that can't be read just now is checked after the next step.
    pub(super) async fn keep_promises(&mut self) -> Result<(), Problem> {
        match self.check_promises().await {
            Ok(()) => Ok(()),
            Err(Stop::Killed) => Err(Problem::of("the service is dead, and nobody has restarted it")),
            Err(Stop::Failed(problem)) => Err(problem),
        }
    }

    async fn check_promises(&mut self) -> Result<(), Stop> {
        if self.engine.as_ref().is_some_and(|engine| engine.book.is_closed()) && !self.disk().has_failed() {
            return Err(Stop::failed("the book has closed, and its store has not failed"));
        }
        for source in 0..self.ledger.put_balance() {
            self.check_cursor(source)?;
        }
        self.check_unbroken().await?;
        let positions = self.step.is_multiple_of(8);
        for pool in 0..POOLS {
            self.check_equations(pool).await?;
            self.check_chain(pool).await?;
            self.check_operations(pool).await?;
            self.check_paused(pool).await?;
            self.check_freezes(pool).await?;
            self.check_agreement(pool).await?;
            if positions {
                self.check_distributions(pool).await?;
            }
        }
        if positions {
            self.check_positions().await?;
        }
        Ok(())
    }

    async fn check_equations(&mut self, pool: usize) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let audited = self.ask_app("the equations", async move |app| app.audit(&of, app.now()).await).await?;
        let Some(audited) = audited else { return Ok(()) };
        match audited.broken() {
            None => Ok(()),
            Some(EquationResult { number, name, left, right, detail, .. }) => Err(Stop::failed(format!(
                "pool {pool}: equation {number} ({name}; {detail}): {left} on the left, {right} on the right"
            ))),
        }
    }

    async fn check_chain(&mut self, pool: usize) -> Result<(), Stop> {
        let Some(chain) = self.chains.get(pool) else { return Ok(()) };
        let totals = chain.chain.totals().await.map_err(Problem::of)?;
        if !totals.conserved() {
            return Err(Stop::failed(format!("the chain of pool {pool} has made or lost tokens: {totals:?}")));
        }
        if chain.chain.conflicting_submits() > 0 {
            return Err(Stop::failed(format!("pool {pool}: other bytes were sent for what is on the chain")));
        }
        let engine = self.engine.as_ref().map(|engine| engine.app.metrics.effects_unfit.clone());
        let label = PoolName { pool: chain.preset.to_owned() };
        let unfit = engine.and_then(|unfit| unfit.get(&label).map(|count| count.get())).unwrap_or(0);
        if unfit > 0 && chain.is_truthful() {
            return Err(Stop::failed(format!("pool {pool}: an effect did not fit the books, and nobody lied")));
        }
        match chain.watched.breaches().first() {
            None => Ok(()),
            Some(breach) => Err(Stop::failed(format!("pool {pool}: {breach}"))),
        }
    }

    async fn stored_operation(&self, pool: usize, id: &OperationId) -> Result<OperationRecord, Stop> {
        let number = self.pool(pool)?.number();
        let bytes = self.disk().get(PartitionId::control(number), &keys::operation(id)).await.map_err(Problem::of)?;
        let bytes = bytes.ok_or_else(|| Stop::failed(format!("operation {id} is gone")))?;
        use crate::store::records::Record;
        OperationRecord::decode(&bytes).map_err(|error| Stop::failed(error.to_string()))
    }

    /// An operation that ended stays as it is; every open one that is gone from the list has ended.
    async fn check_operations(&mut self, pool: usize) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let open = self.ask_app("open operations", async move |app| app.open_operations(&of).await).await?;
        let Some(open) = open else { return Ok(()) };
        let mut now_open = BTreeMap::new();
        for operation in open {
            self.coverage.hit("operation state", operation.state.name());
            if self.promises.ended.contains_key(&(pool, operation.id.clone())) {
                return Err(Stop::failed(format!(
                    "operation {} had ended, and is {}",
                    operation.id,
                    operation.state.name()
                )));
            }
            self.check_trying(pool, &operation)?;
            now_open.insert((pool, operation.id), operation.state);
        }
        let gone: Vec<OperationId> = self
            .promises
            .open
            .keys()
            .filter(|key| key.0 == pool && !now_open.contains_key(key))
            .map(|(_, id)| id.clone())
            .collect();
        for id in gone {
            let record = self.stored_operation(pool, &id).await?;
            if !record.state.ended() || !record.in_flight.is_zero() {
                let state = record.state.name();
                return Err(Stop::failed(format!("operation {id} is {state} with {}, and not open", record.in_flight)));
            }
            self.coverage.hit("operation state", record.state.name());
            self.coverage.hit("operation kind", format!("{} {}", record.kind.name(), record.state.name()));
            self.promises.ended.insert((pool, id), record);
        }
        self.promises.open.retain(|key, _| key.0 != pool);
        self.promises.open.append(&mut now_open);
        // One of those that ended, each step.
        let ended: Vec<&OperationId> =
            self.promises.ended.keys().filter(|key| key.0 == pool).map(|(_, id)| id).collect();
        let step = usize::try_from(self.step).unwrap_or(0);
        if let Some(id) = ended.get(step % ended.len().max(1)).map(|id| (*id).clone()) {
            self.check_ended(pool, &id).await?;
        }
        Ok(())
    }

    async fn check_ended(&self, pool: usize, id: &OperationId) -> Result<(), Stop> {
        let record = self.stored_operation(pool, id).await?;
        match self.promises.ended.get(&(pool, id.clone())) {
            Some(ended) if *ended != record => {
                Err(Stop::failed(format!("operation {id} had ended as {ended:?}, and is {record:?}")))
            }
            _ => Ok(()),
        }
    }

    /// All operations that ended, at the end.
    pub(super) async fn check_all_ended(&self) -> Result<(), Stop> {
        for (pool, id) in self.promises.ended.keys() {
            self.check_ended(*pool, id).await?;
        }
        Ok(())
    }

    /// Every distribution of a pool.
    pub(super) async fn distributions(&mut self, pool: usize) -> Result<Vec<DistributionRecord>, Stop> {
        let control = PartitionId::control(self.pool(pool)?.number());
        let range = keys::range_of_tag(keys::tag::DISTRIBUTION);
        let all = self.ask_app("distributions", async move |app| app.list(control, range, usize::MAX).await).await?;
        Ok(all.unwrap_or_default())
    }

    /// What was released never changes, and at most one revision of a period ever is.
    pub(super) async fn check_distributions(&mut self, pool: usize) -> Result<(), Stop> {
        let (control, range) = (PartitionId::control(self.pool(pool)?.number()), keys::range_of_tag(keys::tag::PERIOD));
        let periods = self.ask_app("periods", async move |app| app.list(control, range, usize::MAX).await).await?;
        let periods: Vec<PeriodRecord> = periods.unwrap_or_default();
        for period in periods {
            self.coverage.hit("period state", period.state.name());
        }
        for record in self.distributions(pool).await? {
            self.coverage.hit("distribution state", record.state.name());
            for hold in &record.holds {
                self.coverage.hit("hold reason", hold.code.clone());
            }
            if !record.state.is_released() {
                continue;
            }
            match self.promises.released.get(&(pool, record.period.0)) {
                Some(released) if *released != kept(&record) => {
                    return Err(Stop::failed(format!("pool {pool} had released {released:?}, and has {record:?}")));
                }
                Some(_) => {}
                None => {
                    self.promises.released.insert((pool, record.period.0), kept(&record));
                    if let Some(closes) = self.promises.closes.get_mut(pool) {
                        *closes += 1;
                    }
                }
            }
        }
        Ok(())
    }
}
