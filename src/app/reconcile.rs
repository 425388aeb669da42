//! Ledger against chain, at one height, with every effect up to that height booked. What differs stops outflows.

use std::collections::BTreeMap;

use crate::chain::{ChainError, Observation};
use crate::domain::amount::BaseUnits;
use crate::domain::equations::{self, ChainFigures};
use crate::domain::ledger::{Account, AssetAccount, Ledger, LedgerView};
use crate::domain::time::UnixSeconds;
use crate::store::keys;
use crate::store::records::{ChainMark, PoolState};

use super::control::Change;
use super::effects::{self, Booked};
use super::{App, AppError, Pool, Work};

/// How many effects one commit books: each writes up to eight small records, and a commit has 1,024 keys.
const EFFECTS_PER_CHANGE: usize = 96;

/// One thing of which ledger and chain have another figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What: an account of the ledger.
    pub account: String,
    /// What the ledger has.
    pub ledger: BaseUnits,
    /// What the chain has.
    pub chain: BaseUnits,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciliation {
    /// The height.
    pub height: u64,
    /// The chain's time there.
    pub at: UnixSeconds,
    /// What the chain has.
    pub chain: ChainFigures,
    /// Where ledger and chain differ; empty where they agree.
    pub differences: Vec<Difference>,
}

/// Reads the chain when it is due, books what it did, and compares.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mark = app.chain_mark(pool).await?;
    if mark.booked_height > 0 && now.since(mark.booked_at) < app.settings.observe_interval_seconds {
        return Ok(Work::Idle);
    }
    match reconcile(app, pool, now).await {
        Ok(Some(_)) => {
            let moved = app.chain_mark(pool).await?.booked_height > mark.booked_height;
            Ok(if moved { Work::Done } else { Work::Idle })
        }
        Ok(None) => Ok(Work::Idle),
        // A chain that does not answer is asked again at the next step.
        Err(AppError::Chain(error)) => {
            tracing::warn!(pool = %pool.id(), %error, "the chain was not read");
            Ok(Work::Idle)
        }
        Err(error) => Err(error),
    }
}

/// Books everything up to the chain's present height and compares there. `None` where the chain showed an older height
/// than is booked: nothing can be compared then.
pub(super) async fn reconcile(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Option<Reconciliation>, AppError> {
    let observation = pool.chain.adapter.observe().await?;
    let mark = app.chain_mark(pool).await?;
    if observation.height < mark.seen_height.max(mark.booked_height) {
        return Ok(None);
    }
    let observation = pool.saw(observation);
    let effects = pool.chain.adapter.effects(mark.booked_height, observation.height).await?;
    if let Some(effect) = effects.iter().find(|effect| effect.height > observation.height) {
        let message = format!("asked for effects up to {}, got one of {}", observation.height, effect.height);
        return Err(ChainError::Untrusted(message).into());
    }
    for some in effects.chunks(EFFECTS_PER_CHANGE) {
        let mut change = Change::begin(app, pool, now).await?;
        for effect in some {
            if let Booked::Stop(reason) = effects::book(pool, &mut change, effect).await? {
                change.commit().await?;
                pause(app, pool, now, &reason).await?;
                return Ok(None);
            }
        }
        change.commit().await?;
    }
    let mut change = Change::begin(app, pool, now).await?;
    let mut mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    if observation.height < mark.seen_height {
        // A look-up booked something later in the meantime.
        return Ok(None);
    }
    let found = compare(change.ledger(), &observation)?;
    let view = LedgerView::new(change.ledger().clone(), BaseUnits::ZERO);
    let view = view.map_err(|error| AppError::Broken(format!("comparing with the chain: {error}")))?;
    pool.compared(equations::on_chain(&view, &found.chain));
    mark.booked_height = observation.height;
    mark.booked_at = observation.at;
    mark.seen_height = observation.height;
    if found.differences.is_empty() {
        mark.reconciled_height = observation.height;
        mark.reconciled_at = observation.at;
        mark.mismatch = None;
    } else {
        let words: Vec<String> = found
            .differences
            .iter()
            .map(|difference| {
                format!("{}: ledger {}, chain {}", difference.account, difference.ledger, difference.chain)
            })
            .collect();
        let mismatch = format!("at height {}: {}", observation.height, words.join("; "));
        app.metrics.mismatches.inc();
        tracing::error!(pool = %pool.id(), %mismatch, "ledger and chain differ");
        mark.mismatch = Some(mismatch);
    }
    let mismatch = mark.mismatch.clone();
    change.put(keys::chain_mark(), &mark);
    change.commit().await?;
    if let Some(mismatch) = mismatch {
        pause(app, pool, now, &format!("ledger and chain differ {mismatch}")).await?;
    }
    Ok(Some(found))
}

/// Stops a pool's outflows, unless they are stopped.
pub(super) async fn pause(app: &App, pool: &Pool, now: UnixSeconds, reason: &str) -> Result<(), AppError> {
    let mut change = Change::begin(app, pool, now).await?;
    let Some(mut state) = change.read::<PoolState>(&keys::pool_state()).await? else { return Ok(()) };
    if state.paused.is_some() {
        return Ok(());
    }
    tracing::error!(pool = %pool.id(), reason, "paused");
    state.paused = Some(reason.to_owned());
    state.version += 1;
    change.put(keys::pool_state(), &state);
    change.commit().await
}

/// Compares, to the base unit. What an operation keeps in flight is liquid on the chain until it takes effect.
fn compare(ledger: &Ledger, observation: &Observation) -> Result<Reconciliation, AppError> {
    let broken = |error| AppError::Broken(format!("comparing with the chain: {error}"));
    let held = |account: AssetAccount| ledger.balance(&account.into()).positive_part();
    let sum = |parts: &[BaseUnits]| BaseUnits::sum(parts.iter().copied()).map_err(broken);
    let chain = ChainFigures {
        height: observation.height,
        liquid: observation.liquid,
        delegated: observation
            .delegations
            .iter()
            .filter(|delegation| !delegation.amount.is_zero())
            .map(|delegation| (delegation.validator.clone(), delegation.amount))
            .collect(),
        unbonding: BaseUnits::sum(observation.unbondings.iter().map(|entry| entry.amount)).map_err(broken)?,
    };
    let mut differences = Vec::new();
    let mut note = |account: String, ledger: BaseUnits, chain: BaseUnits| {
        if ledger != chain {
            differences.push(Difference { account, ledger, chain });
        }
    };
    let liquid = sum(&[held(AssetAccount::Liquid), held(AssetAccount::InFlight)])?;
    note("liquid + in_flight".to_owned(), liquid, chain.liquid);
    let unbonding = sum(&[held(AssetAccount::Unbonding), held(AssetAccount::Matured)])?;
    note("unbonding + matured".to_owned(), unbonding, chain.unbonding);
    let mut delegated: BTreeMap<_, _> = chain.delegated.iter().map(|(id, amount)| (id.clone(), *amount)).collect();
    for (account, balance) in ledger.balances() {
        if let Account::Asset(AssetAccount::Delegated(validator)) = account {
            let on_chain = delegated.remove(validator).unwrap_or_default();
            note(account.to_string(), balance.positive_part(), on_chain);
        }
    }
    for (validator, amount) in delegated {
        note(Account::from(AssetAccount::Delegated(validator)).to_string(), BaseUnits::ZERO, amount);
    }
    Ok(Reconciliation { height: observation.height, at: observation.at, chain, differences })
}

impl App {
    /// How far the chain's effects are booked and reconciled.
    pub async fn chain_mark(&self, pool: &Pool) -> Result<ChainMark, AppError> {
        Ok(self.read(pool.control(), &keys::chain_mark()).await?.unwrap_or_default())
    }

    /// Stops a pool's outflows for `reason`, unless they are stopped.
    pub async fn stop_outflows(&self, pool: &Pool, now: UnixSeconds, reason: &str) -> Result<(), AppError> {
        pause(self, pool, now, reason).await
    }

    /// Compares ledger and chain now. `None` where the chain showed an older height than is booked.
    pub async fn reconcile(&self, pool: &Pool) -> Result<Option<Reconciliation>, AppError> {
        reconcile(self, pool, self.now()).await
    }
}
