//! How the service has to conduct itself, beside the promises that somebody heard: it drives what is due, gives up in time,
//! releases nothing while it is paused, asks for no more than there is, and never finds its own books broken.

use std::collections::BTreeMap;

use crate::app::rebalance::Rebalance;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::EffectKind;
use crate::domain::ids::{OperationId, ValidatorId};
use crate::domain::ledger::{Account, AssetAccount};
use crate::domain::operation::{OperationKind, OperationState};
use crate::domain::time::UnixSeconds;
use crate::store::records::{ChainMark, LedgerRecord, OperationRecord, PeriodRecord, PoolState, Record};
use crate::store::{PartitionId, Store, keys};

use super::Problem;
use super::calls::{Ask, CallState};
use super::chains::WorldChain;
use super::founding::POOLS;
use super::world::{Stop, World};

/// What was seen of a pool's conduct.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    /// Since when it is paused: the version of its state, where it is.
    paused: Option<u64>,
    /// How many periods it has decided to freeze.
    closed: u64,
    /// Open operations that are tried past their time, and when each was visited last.
    late: BTreeMap<OperationId, UnixSeconds>,
}

impl World {
    /// What the service itself found broken since it was started must not be, unless a chain has lied.
    pub(super) async fn check_unbroken(&mut self) -> Result<(), Stop> {
        let broken = self.app()?.metrics.equations_broken.get();
        if broken == 0 || self.chains.iter().any(|chain| !chain.watched.lies().is_empty()) {
            return Ok(());
        }
        let mut reasons = Vec::new();
        for pool in 0..POOLS {
            let state: Option<PoolState> = self.stored(pool, &keys::pool_state()).await?;
            reasons.extend(state.and_then(|state| state.paused));
        }
        Err(Stop::failed(format!("the service found {broken} equations broken: {}", reasons.join("; "))))
    }

    /// An open operation was visited when it was due, and is tried within its bounds.
    pub(super) fn check_trying(&mut self, pool: usize, operation: &OperationRecord) -> Result<(), Stop> {
        let OperationRecord { id, state, attempts, since, updated_at, next_attempt_at, .. } = operation;
        let needs_operator = *state == OperationState::NeedsOperator;
        let asked = !needs_operator || operation.signed.is_some();
        if asked && self.idle_at.is_some_and(|idle_at| *next_attempt_at < idle_at) {
            return Err(Stop::failed(format!("{id} was due at {next_attempt_at}, and nobody has driven it")));
        }
        if !needs_operator && !state.ended() && *attempts > self.settings.max_attempts {
            return Err(Stop::failed(format!("{id} was tried {attempts} times, and no operator was asked")));
        }
        let late = &mut self.promises.conduct[pool].late;
        if needs_operator || state.ended() || updated_at.since(*since) <= self.settings.max_operation_seconds {
            late.remove(id);
            return Ok(());
        }
        // One that was cut off while it was sent is asked for first, however late that is found.
        let visited = late.insert(id.clone(), *updated_at);
        if visited.is_some_and(|visited| visited != *updated_at) {
            return Err(Stop::failed(format!("{id} is tried since {since}, and no operator was asked")));
        }
        Ok(())
    }

    /// While a pool is paused, nothing of it is released.
    pub(super) async fn check_paused(&mut self, pool: usize) -> Result<(), Stop> {
        let state: Option<PoolState> = self.stored(pool, &keys::pool_state()).await?;
        let paused = state.filter(|state| state.paused.is_some()).map(|state| state.version);
        let before = std::mem::replace(&mut self.promises.conduct[pool].paused, paused);
        if paused.is_none() {
            return Ok(());
        }
        if paused != before {
            return self.check_distributions(pool).await;
        }
        for record in self.distributions(pool).await? {
            if record.state.is_released() && !self.promises.has_released(pool, record.period) {
                let period = record.period;
                return Err(Stop::failed(format!("period {period} of pool {pool} was released while it is paused")));
            }
        }
        Ok(())
    }

    /// A period freezes without a grace only where every producer has vouched for all of it.
    pub(super) async fn check_freezes(&mut self, pool: usize) -> Result<(), Stop> {
        let index = self.promises.conduct[pool].closed;
        let period: Option<PeriodRecord> = self.stored(pool, &keys::period(index)).await?;
        let Some(period) = period.filter(|period| period.closing.is_some() || period.frozen.is_some()) else {
            return Ok(());
        };
        self.promises.conduct[pool].closed += 1;
        let by_grace = period.closing.is_some_and(|closing| closing.by_grace);
        if by_grace || period.frozen.is_some_and(|frozen| frozen.by_grace) {
            return Ok(());
        }
        // One that is being retired may be so already.
        let retiring =
            self.calls.iter().any(|call| matches!(call.ask, Ask::RetireSource(_)) && call.state == CallState::Open);
        let end = period.bounds.end.get();
        let feeds = self.ledger.feeds.iter().take(self.ledger.put_balance());
        let behind = feeds.filter(|feed| !feed.retired && feed.watermark < end).count();
        if behind > 0 && !retiring {
            return Err(Stop::failed(format!(
                "period {index} of pool {pool} ends at {end} and was closed, and {behind} feeds have not vouched for that"
            )));
        }
        Ok(())
    }

    /// Ledger and chain differ only where the chain shows what is not so, or has lost stake without a word.
    pub(super) async fn check_agreement(&mut self, pool: usize) -> Result<(), Stop> {
        if !self.chains.get(pool).is_some_and(WorldChain::is_truthful) {
            return Ok(());
        }
        let mark: Option<ChainMark> = self.stored(pool, &keys::chain_mark()).await?;
        let state: Option<PoolState> = self.stored(pool, &keys::pool_state()).await?;
        // A later reading may have agreed again within the same step; the pause stays.
        let paused =
            state.and_then(|state| state.paused).filter(|reason| reason.starts_with("ledger and chain differ"));
        match mark.and_then(|mark| mark.mismatch).or(paused) {
            Some(mismatch) => {
                Err(Stop::failed(format!("pool {pool}: ledger and chain differ, and nobody lied: {mismatch}")))
            }
            None => Ok(()),
        }
    }

    /// At the end: what the ledger has at the staking address is what the chain itself has there.
    pub(super) async fn check_on_chain(&mut self, pool: usize) -> Result<(), Stop> {
        let Some(chain) = self.chains.get(pool).map(|chain| chain.chain.clone()) else { return Ok(()) };
        let totals = chain.totals().await.map_err(Problem::of)?;
        let mark: Option<ChainMark> = self.stored(pool, &keys::chain_mark()).await?;
        let ledger: Option<LedgerRecord> = self.stored(pool, &keys::ledger()).await?;
        let (Some(mark), Some(ledger)) = (mark, ledger) else { return Ok(()) };
        if mark.booked_height != totals.height {
            let (booked, height) = (mark.booked_height, totals.height);
            return Err(Stop::failed(format!("pool {pool}: the chain is at {height}, and {booked} is booked")));
        }
        let mut sums = [0_i128; 4];
        for (account, balance) in ledger.ledger.balances() {
            let place = match account {
                Account::Asset(AssetAccount::Liquid | AssetAccount::InFlight) => 0,
                Account::Asset(AssetAccount::Delegated(_)) => 1,
                Account::Asset(AssetAccount::Unbonding) => 2,
                Account::Asset(AssetAccount::Matured) => 3,
                _ => continue,
            };
            sums[place] += balance.get();
        }
        let there = [totals.liquid, totals.delegated, totals.unbonding, totals.matured].map(|sum| sum.signed().get());
        if sums != there {
            return Err(Stop::failed(format!(
                "pool {pool}: liquid, delegated, unbonding, matured are {sums:?} in the ledger and {there:?} on the chain"
            )));
        }
        Ok(())
    }

    /// At the end: each operation says of itself what the chain did for it, and what that cost. Where the chain has shown
    /// what is not so, what it did may not fit the books and is in none of them.
    pub(super) async fn check_settled(&mut self, pool: usize) -> Result<(), Stop> {
        let Some(chain) = self.chains.get(pool).filter(|chain| chain.is_truthful()) else { return Ok(()) };
        let effects = chain.chain.final_effects().await.map_err(Problem::of)?;
        let mut of: BTreeMap<&OperationId, Vec<&EffectKind>> = BTreeMap::new();
        for effect in &effects {
            if let Some(id) = &effect.operation {
                of.entry(id).or_default().push(&effect.kind);
            }
        }
        for record in self.promises.ended_of(pool) {
            let own = of.get(&record.id).map_or(&[][..], Vec::as_slice);
            let chain = (sum(own, |kind| moved(&record.kind, kind)), sum(own, fee));
            let (id, said) = (&record.id, (record.settled.get(), record.fee.get()));
            if said != chain {
                return Err(Stop::failed(format!(
                    "{id} says that it moved and cost {said:?}, and the chain {chain:?}"
                )));
            }
        }
        Ok(())
    }

    /// A plan takes no more from a validator than the ledger has there, what open operations take included.
    pub(super) async fn check_plan(&mut self, pool: usize, plan: &Rebalance) -> Result<(), Stop> {
        let of = self.pool(pool)?;
        let open = self.ask_app("operations", async move |app| app.open_operations(&of).await).await?;
        let ledger: Option<LedgerRecord> = self.stored(pool, &keys::ledger()).await?;
        let (Some(open), Some(ledger)) = (open, ledger) else { return Ok(()) };
        let mut leaving: BTreeMap<&ValidatorId, u128> = BTreeMap::new();
        let planned = plan.allocation.moves.iter().map(|step| (&step.kind, BaseUnits::ZERO));
        let under_way = open.iter().filter(|operation| !operation.state.ended());
        for (kind, settled) in planned.chain(under_way.map(|operation| (&operation.kind, operation.settled))) {
            if let OperationKind::Undelegate { validator: from, amount }
            | OperationKind::Redelegate { from, amount, .. } = kind
            {
                *leaving.entry(from).or_default() += amount.saturating_sub(settled).get();
            }
        }
        let asked: Vec<&ValidatorId> = plan.allocation.moves.iter().filter_map(|step| source(&step.kind)).collect();
        for (validator, leaving) in leaving.into_iter().filter(|(validator, _)| asked.contains(validator)) {
            let account = Account::Asset(AssetAccount::Delegated(validator.clone()));
            let held = ledger.ledger.balance(&account).positive_part().get();
            if leaving > held {
                return Err(Stop::failed(format!(
                    "pool {pool}: {leaving} base units are to leave {validator}, and {held} are there"
                )));
            }
        }
        Ok(())
    }

    /// A record of a pool, as it lies on the disk.
    async fn stored<R: Record>(&self, pool: usize, key: &[u8]) -> Result<Option<R>, Stop> {
        let number = self.pool(pool)?.number();
        let bytes = self.disk().get(PartitionId::control(number), key).await.map_err(Problem::of)?;
        let record = bytes.map(|bytes| R::decode(&bytes)).transpose();
        record.map_err(|error| Stop::failed(error.to_string()))
    }
}

fn sum(effects: &[&EffectKind], part: impl Fn(&EffectKind) -> Option<BaseUnits>) -> u128 {
    effects.iter().filter_map(|kind| part(kind)).map(BaseUnits::get).sum()
}

const fn fee(effect: &EffectKind) -> Option<BaseUnits> {
    match effect {
        EffectKind::FeePaid { amount } => Some(*amount),
        _ => None,
    }
}

/// What an effect moved of what was asked for.
const fn moved(asked: &OperationKind, effect: &EffectKind) -> Option<BaseUnits> {
    match (asked, effect) {
        (OperationKind::Delegate { .. }, EffectKind::Delegated { amount, .. })
        | (OperationKind::Undelegate { .. }, EffectKind::Undelegated { amount, .. })
        | (OperationKind::Redelegate { .. }, EffectKind::Redelegated { amount, .. })
        | (OperationKind::SendToCustody { .. }, EffectKind::TransferOut { amount, .. })
        | (OperationKind::Claim { .. }, EffectKind::RewardPaid { amount, .. })
        | (OperationKind::Withdraw { .. }, EffectKind::Withdrawn { amount }) => Some(*amount),
        _ => None,
    }
}

const fn source(kind: &OperationKind) -> Option<&ValidatorId> {
    match kind {
        OperationKind::Undelegate { validator, .. } => Some(validator),
        OperationKind::Redelegate { from, .. } => Some(from),
        _ => None,
    }
}
