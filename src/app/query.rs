//! What readers are shown of pools: figures put together from the records, the book and the chain as it was last seen.
//!
//! Reads only. A chain is asked only where it was not seen since the start.

pub mod lists;
pub mod rates;
pub mod stake;

use std::sync::Arc;

use ruint::aliases::U256;
use rust_decimal::Decimal;

use crate::chain::{Descriptor, Observation};
use crate::domain::adjustment::AdjustedSum;
use crate::domain::amount::{AmountError, BaseUnits, SignedUnits};
use crate::domain::apr::annual_rate;
use crate::domain::equations::EquationResult;
use crate::domain::forecast::Covered;
use crate::domain::ids::ChainId;
use crate::domain::ledger::{AssetAccount, ClaimAccount, LedgerView};
use crate::domain::operation::OperationState;
use crate::domain::period::PeriodState;
use crate::domain::policy::PoolPolicy;
use crate::domain::reserve;
use crate::domain::time::UnixSeconds;
use crate::store::records::{ChainMark, PeriodRecord, PoolState};

use super::audit::{self, Audited};
use super::forecast::Outlook;
use super::{App, AppError, Pool};

/// A policy that is to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPolicy {
    /// The policy.
    pub policy: PoolPolicy,
    /// When it takes effect.
    pub at: UnixSeconds,
}

/// A pool in a few figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Positions with a balance.
    pub positions: u64,
    /// Positions that earn.
    pub earning: u64,
    /// The sum of all eligible balances.
    pub eligible_total: BaseUnits,
    /// Delegated.
    pub staked: BaseUnits,
    /// Unbonding, and matured and not withdrawn.
    pub unbonding: BaseUnits,
    /// What is kept; negative is house credit.
    pub reserve: SignedUnits,
    /// What should be kept.
    pub reserve_target: BaseUnits,
    /// What should be staked.
    pub stake_target: BaseUnits,
    /// The reserve and everything that comes back by the horizon, as a share of the reserve target; `None` where that is
    /// nothing.
    pub coverage: Option<Decimal>,
    /// What is expected to leave.
    pub outlook: Outlook,
    /// For how long the reserve covers that.
    pub covered: Covered,
    /// What the trailing payouts come to in a year; `None` where there are none.
    pub trailing_apr: Option<Decimal>,
    /// How many periods that covers.
    pub trailing_periods: u32,
    /// Rewards that the chain has paid.
    pub rewards: U256,
    /// Payouts released.
    pub payouts: U256,
    /// Fees of released distributions.
    pub fees: U256,
    /// The house's own tokens for chain fees.
    pub gas_float: BaseUnits,
    /// Operations that have not ended.
    pub open_operations: u64,
    /// Operations that wait for a person.
    pub needs_operator: u64,
    /// What late events changed in the weights of the oldest open period.
    pub adjusted: AdjustedSum,
    /// What late events took that no weight could give so far, over all positions.
    pub uncollected: U256,
    /// Slashed, less what the chain has given back.
    pub slashed: U256,
    /// What later distributions have yet to recover of slashes.
    pub slash_receivable: BaseUnits,
}

/// A pool at one moment.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// When.
    pub at: UnixSeconds,
    /// What operators set.
    pub state: PoolState,
    /// Whether its first period has begun.
    pub begun: bool,
    /// The policy in force: that of the period that the moment lies in.
    pub policy: PoolPolicy,
    /// The policy that the next period begins with, where it is another one.
    pub next_policy: Option<NextPolicy>,
    /// The figures.
    pub totals: Totals,
    /// Every account of its ledger.
    pub ledger: LedgerView,
    /// Its periods that are not frozen, earliest first.
    pub open_periods: Vec<PeriodRecord>,
    /// The equations with both sides.
    pub equations: Vec<EquationResult>,
    /// When the equations were evaluated.
    pub equations_at: UnixSeconds,
    /// How far the chain is booked and reconciled.
    pub chain: ChainMark,
}

fn broken(error: AmountError) -> AppError {
    AppError::Broken(format!("the figures of a pool: {error}"))
}

impl App {
    /// The ledger of a pool with the principal, as of now.
    pub async fn ledger_view(&self, pool: &Pool) -> Result<LedgerView, AppError> {
        let record = self.ledger(pool).await?;
        LedgerView::new(record.ledger.clone(), self.principal(pool)?).map_err(broken)
    }

    /// A pool as it is now.
    pub async fn pool_view(&self, pool: &Pool) -> Result<PoolView, AppError> {
        let now = self.now();
        let audited = self.audited(pool, now).await?;
        let state = self.pool_state(pool).await?;
        let ledger = self.ledger_view(pool).await?;
        let totals = self.totals(pool, &state, &ledger, &audited).await?;
        let open_periods = self.open_periods(pool).await?;
        let (policy, next_policy) = self.policies(pool, &open_periods, now).await?;
        Ok(PoolView {
            at: now,
            begun: open_periods.first().is_some_and(|first| first.bounds.start <= now),
            policy,
            next_policy,
            totals,
            ledger,
            open_periods,
            equations: audit::with_chain(pool, &audited),
            equations_at: audited.at,
            chain: self.chain_mark(pool).await?,
            state,
        })
    }

    async fn totals(
        &self,
        pool: &Pool,
        state: &PoolState,
        view: &LedgerView,
        audited: &Audited,
    ) -> Result<Totals, AppError> {
        let (settings, sums) = (&state.settings.reserve, &audited.sums);
        let policy = settings.policy();
        let eligible_total = view.principal();
        let reserve = reserve::reserve(view, &policy).map_err(broken)?;
        let outlook = self.outlook(pool, settings).await?;
        let expected = outlook.expected(settings, eligible_total)?;
        let reserve_target = reserve::reserve_target(eligible_total, expected, &policy).map_err(broken)?;
        // Everything that unbonds comes back by the horizon, which is never shorter than one unbonding.
        let parts = [AssetAccount::Unbonding, AssetAccount::Matured].map(|account| view.asset(account));
        let unbonding = BaseUnits::sum(parts).map_err(broken)?;
        let covered = reserve.checked_add(unbonding.signed()).map_err(broken)?.positive_part();
        let book = self.book.totals(pool.number());
        let adjusted = book.as_ref().and_then(|book| book.open.first()).map(|open| open.adjusted).unwrap_or_default();
        let uncollected = book.map(|book| book.uncollected).unwrap_or_default();
        let operations = self.open_operations(pool).await?;
        let stuck = operations.iter().filter(|operation| operation.state == OperationState::NeedsOperator).count();
        Ok(Totals {
            positions: audited.positions,
            earning: audited.earning,
            eligible_total,
            staked: view.delegated().map_err(broken)?,
            unbonding,
            reserve,
            reserve_target,
            stake_target: reserve::target(eligible_total, reserve_target),
            coverage: rates::share(U256::from(covered.get()), U256::from(reserve_target.get())),
            covered: outlook.covered(reserve)?,
            outlook,
            trailing_apr: annual_rate(sums.trailing_payouts, sums.trailing_weight),
            trailing_periods: sums.trailing_periods,
            rewards: sums.rewards,
            payouts: sums.payouts,
            fees: sums.fees,
            gas_float: reserve::gas_float(view, &policy),
            open_operations: operations.len() as u64,
            needs_operator: stuck as u64,
            adjusted,
            uncollected,
            slashed: sums.slashed,
            slash_receivable: view.claim(ClaimAccount::SlashReceivable),
        })
    }

    /// The periods that are not frozen, earliest first: one or two.
    pub async fn open_periods(&self, pool: &Pool) -> Result<Vec<PeriodRecord>, AppError> {
        let mut open = Vec::new();
        let mut next = self.last_period(pool).await?;
        while let Some(period) = next.take() {
            if period.state != PeriodState::Open {
                break;
            }
            if let Some(before) = period.index.0.checked_sub(1) {
                next = self.period(pool, crate::domain::period::PeriodIndex(before)).await?;
            }
            open.push(period);
        }
        open.reverse();
        Ok(open)
    }

    /// The policy of the period that `now` lies in, and the one that follows it where that is another.
    async fn policies(
        &self,
        pool: &Pool,
        open: &[PeriodRecord],
        now: UnixSeconds,
    ) -> Result<(PoolPolicy, Option<NextPolicy>), AppError> {
        let last = self.next_policy(pool).await?.policy;
        let begun = open.iter().rposition(|period| period.bounds.start <= now).unwrap_or(0);
        let Some(current) = open.get(begun) else { return Ok((last, None)) };
        let announced = open.get(begun + 1).map(|next| (&next.policy, next.bounds.start));
        let following = open.last().map(|period| (&last, period.bounds.end));
        let next = [announced, following].into_iter().flatten().find(|(policy, _)| **policy != current.policy);
        let next = next.map(|(policy, at)| NextPolicy { policy: policy.clone(), at });
        Ok((current.policy.clone(), next))
    }

    /// The chain as it was last seen; it is asked where it was not seen since the start.
    pub async fn last_seen(&self, pool: &Pool) -> Result<Arc<Observation>, AppError> {
        match pool.seen() {
            Some(seen) => Ok(seen),
            None => Ok(pool.saw(pool.chain.adapter.observe().await?)),
        }
    }

    /// A value that is another one after every change of a pool, whether of its records or of a balance.
    pub async fn pool_version(&self, pool: &Pool) -> Result<(u64, Vec<u64>), AppError> {
        Ok((self.ledger(pool).await?.version, self.book.groups(pool.number()).unwrap_or_default()))
    }

    /// The hash of a pool's positions, the same for any number of partitions; `None` for a pool that the book does not have.
    pub fn state_hash(&self, pool: u16) -> Option<ruint::aliases::U256> {
        self.book.state_hash(pool)
    }

    /// A chain that the configuration names.
    pub fn chain(&self, id: &ChainId) -> Option<&Descriptor> {
        self.chains.get(id).map(|chain| &chain.descriptor)
    }
}
