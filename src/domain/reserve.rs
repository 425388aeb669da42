//! How much is to be staked, how much is kept, and what has to move for it.
//!
//! The formulas are those of the design; everything that is already under way is counted, so that a plan repeated
//! before its moves are done asks for nothing twice.

use super::amount::{AmountError, BaseUnits, SignedUnits};
use super::ledger::{AssetAccount, LedgerView};
use super::names::stable_names;
use super::split::WHOLE_BPS;
use super::time::UnixSeconds;

/// What a pool keeps at hand, and how large its moves are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservePolicy {
    /// The share of the eligible total to keep liquid.
    pub reserve_ratio_bps: u32,
    /// The share of the reserve target that custody itself is to hold.
    pub custody_share_bps: u32,
    /// Changes below this share of the eligible total are left alone.
    pub hysteresis_bps: u32,
    /// Changes below this are left alone, whatever the share.
    pub min_change: BaseUnits,
    /// The most that one run stakes or unstakes; `None` for no bound. House credit is brought back without it.
    pub max_change: Option<BaseUnits>,
    /// The most of what is on the chain that one run sends to custody.
    pub max_outflow_per_run_bps: u32,
    /// The most of what was on the chain that goes to custody within a day.
    pub max_outflow_per_day_bps: u32,
    /// The house float to keep at the staking address for fees.
    pub house_float_target: BaseUnits,
    /// The house float below which only exits run.
    pub house_float_floor: BaseUnits,
}

/// A pool at one moment, everything under way included.
#[derive(Clone, Copy, Debug)]
pub struct ReserveInput<'a> {
    /// The ledger with the eligible total as principal.
    pub view: &'a LedgerView,
    /// The forecast drawdown over one unbonding, at least the configured floor; the floor alone until there is history.
    pub forecast: BaseUnits,
    /// What the fees of open operations may come to: as much stays liquid.
    pub fees_due: BaseUnits,
    /// In flight to validators.
    pub delegating: BaseUnits,
    /// Asked of validators by operations that have not taken effect.
    pub undelegating: BaseUnits,
    /// In flight to custody.
    pub defunding: BaseUnits,
    /// Of FUNDs of principal: asked for and not seen.
    pub funds_coming: BaseUnits,
    /// Of FUNDs of house float: asked for and not seen.
    pub house_funds_coming: BaseUnits,
    /// What comes back by the horizon, matured tokens that are not withdrawn included: [`unbonding_due`].
    pub unbonding_due: BaseUnits,
    /// Whether new delegations may be made: not while equation 6 fails, was not looked at lately, or the pool is paused.
    pub may_stake: bool,
    /// What went or is on its way to custody of what was planned within the last day.
    pub sent_in_a_day: BaseUnits,
    /// Whether a DEFUND would go to the one allowed address.
    pub custody_allowed: bool,
}

/// Why a plan is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlanReason {
    /// Less is staked than the target.
    BelowTarget,
    /// The reserve is below its target and what comes back does not fill it.
    ReserveShort,
    /// The reserve is below zero: the house lends customers what they withdraw.
    HouseCredit,
    /// The change is too small to be worth a transaction.
    WithinHysteresis,
    /// The change is cut to the most that one run may do.
    MaxChange,
    /// The staking address has too little: custody is asked.
    LiquidShort,
    /// The staking address has more than it will use.
    LiquidIdle,
    /// Custody has less than its part of the reserve.
    CustodyShort,
    /// The house float is below its floor: only exits run.
    HouseFloatBelowFloor,
    /// The house float is refilled.
    HouseFloatRefill,
    /// The staking address can't pay for its transactions.
    FeesShort,
    /// New delegations are stopped.
    StakingStopped,
    /// What leaves is cut to the most that one run may send to custody.
    MaxOutflowPerRun,
    /// What leaves is cut to the most that may go to custody in a day.
    MaxOutflowPerDay,
    /// Nothing is sent: the chain's adapter names another custody address than the one that is allowed.
    CustodyNotAllowed,
}

stable_names!(
    PlanReason,
    /// The stable name.
    fn name(self) {
        Self::BelowTarget => "BELOW_TARGET",
        Self::ReserveShort => "RESERVE_SHORT",
        Self::HouseCredit => "HOUSE_CREDIT",
        Self::WithinHysteresis => "WITHIN_HYSTERESIS",
        Self::MaxChange => "MAX_CHANGE",
        Self::LiquidShort => "LIQUID_SHORT",
        Self::LiquidIdle => "LIQUID_IDLE",
        Self::CustodyShort => "CUSTODY_SHORT",
        Self::HouseFloatBelowFloor => "HOUSE_FLOAT_BELOW_FLOOR",
        Self::HouseFloatRefill => "HOUSE_FLOAT_REFILL",
        Self::FeesShort => "FEES_SHORT",
        Self::StakingStopped => "STAKING_STOPPED",
        Self::MaxOutflowPerRun => "MAX_OUTFLOW_PER_RUN",
        Self::MaxOutflowPerDay => "MAX_OUTFLOW_PER_DAY",
        Self::CustodyNotAllowed => "CUSTODY_NOT_ALLOWED",
    }
);

impl PlanReason {
    /// Whether a limit cut what the pool needs, so that an operator should look.
    pub const fn is_cut(self) -> bool {
        matches!(self, Self::MaxOutflowPerRun | Self::MaxOutflowPerDay | Self::CustodyNotAllowed)
    }
}

/// How well customers who leave are covered, in basis points of the reserve target; nothing where the target is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// By the reserve alone, at once.
    pub now_bps: Option<u64>,
    /// By the reserve and everything that comes back by the horizon.
    pub horizon_bps: Option<u64>,
}

/// What a pool should do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StakePlan {
    /// What should be staked in all.
    pub target: BaseUnits,
    /// What should be kept.
    pub reserve_target: BaseUnits,
    /// What is kept; negative is house credit.
    pub reserve: SignedUnits,
    /// Of liquid: the house's, for fees.
    pub gas_float: BaseUnits,
    /// Delegate this much now; the staking address has it.
    pub stake: BaseUnits,
    /// Begin to unstake this much.
    pub unstake: BaseUnits,
    /// Ask custody for this much, beyond what is on its way.
    pub fund: BaseUnits,
    /// Send this much to custody.
    pub defund: BaseUnits,
    /// Ask custody for this much of the house's own.
    pub house_float_fund: BaseUnits,
    /// Why.
    pub reasons: Vec<PlanReason>,
    /// The coverage.
    pub coverage: Coverage,
}

/// Of `liquid`, the house's part that is kept for fees.
pub fn gas_float(view: &LedgerView, policy: &ReservePolicy) -> BaseUnits {
    view.house().positive_part().min(policy.house_float_target)
}

/// What delegations may spend: liquid less gas float less the claims that are neither principal nor house.
pub fn spendable(view: &LedgerView, policy: &ReservePolicy) -> Result<BaseUnits, AmountError> {
    Ok(free_liquid(view, policy)?.positive_part())
}

fn free_liquid(view: &LedgerView, policy: &ReservePolicy) -> Result<SignedUnits, AmountError> {
    let liquid = view.asset(AssetAccount::Liquid);
    #[cfg(feature = "seeded-bugs")]
    let liquid = if crate::seeded::on(crate::seeded::Bug::RestakesMatured) {
        liquid.checked_add(view.asset(AssetAccount::Unbonding))?.checked_add(view.asset(AssetAccount::Matured))?
    } else {
        liquid
    };
    liquid.signed().checked_sub(gas_float(view, policy).signed())?.checked_sub(view.other_claims()?.signed())
}

/// `reserve = custody + liquid - gas float - non-principal claims`.
pub fn reserve(view: &LedgerView, policy: &ReservePolicy) -> Result<SignedUnits, AmountError> {
    view.custody().checked_add(free_liquid(view, policy)?)
}

/// `reserve_target = max(reserve_ratio x eligible_total, forecast)`, and never more than the eligible total: nobody leaves
/// with what is not there, whatever left in the past.
pub fn reserve_target(
    eligible_total: BaseUnits,
    forecast: BaseUnits,
    policy: &ReservePolicy,
) -> Result<BaseUnits, AmountError> {
    Ok(share(eligible_total, policy.reserve_ratio_bps)?.max(forecast.min(eligible_total)))
}

/// What a reserve is sized for: the forecast, where there is one, up to its ceiling, and never less than the floor.
pub fn expected_outflow(
    forecast: Option<BaseUnits>,
    eligible_total: BaseUnits,
    ceiling_bps: u32,
    floor: BaseUnits,
) -> Result<BaseUnits, AmountError> {
    Ok(forecast.unwrap_or_default().min(share(eligible_total, ceiling_bps)?).max(floor))
}

/// `target = max(0, eligible_total - reserve_target)`.
pub fn target(eligible_total: BaseUnits, reserve_target: BaseUnits) -> BaseUnits {
    eligible_total.saturating_sub(reserve_target)
}

/// What comes back by the horizon, of unbondings given as (maturity, amount). The horizon is never shorter than one
/// unbonding, since what is unstaked now comes back no sooner: a shorter one would unstake the same need twice.
pub fn unbonding_due(
    unbondings: impl IntoIterator<Item = (UnixSeconds, BaseUnits)>,
    now: UnixSeconds,
    unbonding_seconds: u64,
    horizon_seconds: u64,
) -> Result<BaseUnits, AmountError> {
    let horizon = i64::try_from(unbonding_seconds.max(horizon_seconds)).unwrap_or(i64::MAX);
    let end = now.plus(horizon);
    BaseUnits::sum(unbondings.into_iter().filter(|(matures_at, _)| *matures_at <= end).map(|(_, amount)| amount))
}

/// The most that may leave for custody now, and which limit says so. Both are shares of what the pool has on the chain,
/// which is what there is to lose; that of a day counts what left within it as there.
fn most_outflow(input: &ReserveInput<'_>, policy: &ReservePolicy) -> Result<(BaseUnits, PlanReason), AmountError> {
    let view = input.view;
    let parts = [AssetAccount::Liquid, AssetAccount::InFlight, AssetAccount::Unbonding, AssetAccount::Matured];
    let parts = BaseUnits::sum(parts.map(|account| view.asset(account)))?;
    let on_chain = view.delegated()?.checked_add(parts)?.saturating_sub(input.defunding);
    let per_run = share(on_chain, policy.max_outflow_per_run_bps)?;
    let in_a_day = share(on_chain.checked_add(input.sent_in_a_day)?, policy.max_outflow_per_day_bps)?;
    let left = in_a_day.saturating_sub(input.sent_in_a_day);
    Ok(if left < per_run { (left, PlanReason::MaxOutflowPerDay) } else { (per_run, PlanReason::MaxOutflowPerRun) })
}

/// The rounding is floored: a share is never more than it says.
fn share(amount: BaseUnits, bps: u32) -> Result<BaseUnits, AmountError> {
    amount.mul_div_floor(u128::from(bps.min(WHOLE_BPS)), u128::from(WHOLE_BPS))
}

fn ratio_bps(part: SignedUnits, whole: BaseUnits) -> Result<Option<u64>, AmountError> {
    if whole.is_zero() {
        return Ok(None);
    }
    let ratio = part.positive_part().mul_div_floor(u128::from(WHOLE_BPS), whole.get());
    Ok(Some(ratio.map_or(u64::MAX, |bps| u64::try_from(bps.get()).unwrap_or(u64::MAX))))
}

/// The plan of one run.
pub fn plan(input: &ReserveInput<'_>, policy: &ReservePolicy) -> Result<StakePlan, AmountError> {
    let view = input.view;
    let eligible_total = view.principal();
    let reserve_target = reserve_target(eligible_total, input.forecast, policy)?;
    let target = target(eligible_total, reserve_target);
    let gas_float = gas_float(view, policy);
    let reserve = reserve(view, policy)?;
    // What the house can't pay of the fees that are due is not free either.
    let free = free_liquid(view, policy)?.checked_sub(input.fees_due.saturating_sub(gas_float).signed())?;
    let threshold = share(eligible_total, policy.hysteresis_bps)?.max(policy.min_change).max(BaseUnits::from_u64(1));
    let most = policy.max_change.unwrap_or(BaseUnits::MAX);
    let mut reasons = Vec::new();

    // What will be delegated once everything in flight has taken effect.
    let delegated = view.delegated()?.checked_add(input.delegating)?.saturating_sub(input.undelegating);

    // Unstake.
    let coming = BaseUnits::sum([
        view.asset(AssetAccount::InTransit),
        input.defunding,
        input.undelegating,
        input.unbonding_due,
    ])?;
    let need = reserve_target.signed().checked_sub(reserve)?.checked_sub(coming.signed())?.positive_part();
    let credit = reserve.get() < 0;
    let mut unstake = need.min(delegated);
    if !unstake.is_zero() {
        reasons.push(if credit { PlanReason::HouseCredit } else { PlanReason::ReserveShort });
        let least = if credit { policy.min_change } else { threshold };
        if unstake < least {
            reasons.push(PlanReason::WithinHysteresis);
            unstake = BaseUnits::ZERO;
        } else if !credit && unstake > most {
            reasons.push(PlanReason::MaxChange);
            unstake = most;
        }
    }

    // Stake: first what is wanted, then what of it can be done now.
    let gap = target.saturating_sub(delegated);
    let above = reserve.checked_sub(reserve_target.signed())?.positive_part();
    let wanted_in_all = gap.min(above);
    let mut wanted = wanted_in_all;
    if !wanted.is_zero() {
        reasons.push(PlanReason::BelowTarget);
        if wanted < threshold {
            reasons.push(PlanReason::WithinHysteresis);
            wanted = BaseUnits::ZERO;
        } else if wanted > most {
            reasons.push(PlanReason::MaxChange);
            wanted = most;
        }
    }
    if view.house() < policy.house_float_floor.signed() {
        reasons.push(PlanReason::HouseFloatBelowFloor);
        wanted = BaseUnits::ZERO;
    }
    if !input.may_stake {
        reasons.push(PlanReason::StakingStopped);
        wanted = BaseUnits::ZERO;
    }
    let mut stake = wanted.min(free.positive_part());
    if stake < threshold.min(wanted) {
        stake = BaseUnits::ZERO;
    }

    // FUND: what `wanted` lacks at the staking address, and the fees of exits.
    let mut fund = wanted.signed().checked_sub(free)?.checked_sub(input.funds_coming.signed())?.positive_part();
    if wanted.is_zero() || fund < threshold {
        fund = BaseUnits::ZERO;
    } else {
        reasons.push(PlanReason::LiquidShort);
    }
    let liquid = view.asset(AssetAccount::Liquid);
    if liquid < policy.house_float_floor && !gas_float.is_zero() {
        let short = gas_float.saturating_sub(liquid).saturating_sub(input.funds_coming);
        if short > fund && view.custody().positive_part() >= short {
            reasons.push(PlanReason::FeesShort);
            fund = short;
        }
    }

    // DEFUND: liquid that this and the next runs won't stake.
    let idle = free.positive_part().saturating_sub(wanted_in_all.max(stake));
    let custody_least = share(reserve_target, policy.custody_share_bps)?;
    let custody_short = view.custody().checked_add(input.defunding.signed())? < custody_least.signed();
    let mut defund = BaseUnits::ZERO;
    if fund.is_zero() && idle >= policy.min_change && !idle.is_zero() {
        if custody_short {
            reasons.push(PlanReason::CustodyShort);
            defund = idle;
        } else if idle >= threshold {
            reasons.push(PlanReason::LiquidIdle);
            defund = idle;
        }
    }
    let (most, cut) = most_outflow(input, policy)?;
    if !defund.is_zero() && !input.custody_allowed {
        reasons.push(PlanReason::CustodyNotAllowed);
        defund = BaseUnits::ZERO;
    } else if defund > most {
        reasons.push(cut);
        defund = if most < policy.min_change { BaseUnits::ZERO } else { most };
    }

    // The house float: refilled from half-way to the floor, so that staking need not stop for it.
    let refill_below = policy.house_float_floor.checked_add(policy.house_float_target)?.get() / 2;
    let mut house_float_fund = BaseUnits::ZERO;
    let house = view.house().checked_add(input.house_funds_coming.signed())?;
    if house < BaseUnits::new(refill_below)?.signed() {
        house_float_fund = policy.house_float_target.signed().checked_sub(house)?.positive_part();
        if !house_float_fund.is_zero() {
            reasons.push(PlanReason::HouseFloatRefill);
        }
    }

    let coverage = Coverage {
        now_bps: ratio_bps(reserve, reserve_target)?,
        horizon_bps: ratio_bps(reserve.checked_add(coming.signed())?, reserve_target)?,
    };
    Ok(StakePlan {
        target,
        reserve_target,
        reserve,
        gas_float,
        stake,
        unstake,
        fund,
        defund,
        house_float_fund,
        reasons,
        coverage,
    })
}

#[cfg(test)]
#[path = "reserve_tests.rs"]
mod tests;
