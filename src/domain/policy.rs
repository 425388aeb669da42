//! What a pool goes by: what it pays to whom, and how it is run.

use rust_decimal::Decimal;

use super::amount::BaseUnits;
use super::eligibility::EligibilityPolicy;
use super::fixed_apr::{PolicyError, RewardPolicy, SlashPolicy, check_policies};
use super::period::MAX_PERIOD_SECONDS;
use super::reserve::ReservePolicy;
use super::split::{FeeBps, PayoutUnit, WHOLE_BPS};

/// Periods are at least a minute: shorter ones could not be closed before the next has ended.
pub const MIN_PERIOD_SECONDS: u32 = 60;

/// The least seconds between two rebalances.
pub const MIN_REBALANCE_SECONDS: u32 = 60;

/// What counts for one period. A period keeps the snapshot that was in force when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPolicy {
    /// Who earns on how much.
    pub eligibility: EligibilityPolicy,
    /// The operator's share of the receipts.
    pub fee: FeeBps,
    /// Payouts are whole multiples of this.
    pub payout_unit: PayoutUnit,
    /// How long a period is.
    pub period_seconds: u32,
    /// What is paid.
    pub reward: RewardPolicy,
    /// Who bears a slash.
    pub slash: SlashPolicy,
}

/// How a pool is run. Takes effect at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How much stays liquid.
    pub reserve: ReserveSettings,
    /// How stake is spread.
    pub allocation: AllocationSettings,
    /// What a distribution must keep to be released without a person.
    pub release: ReleaseLimits,
    /// The balance feed's tolerances.
    pub feed: FeedSettings,
}

/// How much stays liquid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveSettings {
    /// The share of the eligible total that is kept liquid.
    pub reserve_ratio_bps: u32,
    /// What is kept liquid at least, until there is history for a forecast.
    pub reserve_floor: BaseUnits,
    /// Unbondings due within this count as reserve; never less than the chain's unbonding time.
    pub horizon_seconds: u64,
    /// The share of the reserve target that custody itself is to hold.
    pub custody_share_bps: u32,
    /// Changes below this share of the eligible total stay off the chain.
    pub hysteresis_bps: u32,
    /// Moves smaller than this stay off the chain, whatever the share.
    pub min_move: BaseUnits,
    /// No run stakes or unstakes more than this.
    pub max_change_per_run: Option<BaseUnits>,
    /// What the house float is filled up to.
    pub house_float_target: BaseUnits,
    /// Below this, the house float allows exits only.
    pub house_float_floor: BaseUnits,
    /// Seconds between two runs.
    pub rebalance_interval_seconds: u32,
}

/// How stake is spread. A cap is never broken: less is staked instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationSettings {
    /// The most of the stake that one validator may hold.
    pub max_share_bps: u32,
    /// The most that one operator's validators may hold together.
    pub max_group_share_bps: u32,
    /// Validators that keep more than this of the rewards get no stake.
    pub max_commission: Decimal,
    /// The most validators that are used at once; `None` for the chain's own limit.
    pub max_validators: Option<u32>,
}

/// What a distribution must keep to be released without a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseLimits {
    /// Whether every distribution waits for an approval.
    pub approval_required: bool,
    /// The most that the house adds to one distribution; `None` for no limit.
    pub max_house_in: Option<BaseUnits>,
}

/// The balance feed's tolerances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedSettings {
    /// How far an event's time may go back within a position.
    pub max_skew_seconds: u32,
    /// How far back a late event may reach.
    pub max_lateness_seconds: u32,
    /// How long after its end a period waits for watermarks before it freezes without them.
    pub close_grace_seconds: u32,
}

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// The reward and the slash policy can't go together.
    #[error(transparent)]
    Combination(#[from] PolicyError),
    /// The period is too short or too long.
    #[error("period_seconds is {0}; it has to be from {MIN_PERIOD_SECONDS} to {MAX_PERIOD_SECONDS}")]
    PeriodSeconds(u32),
    /// The cap is below the minimum, so nobody could ever earn.
    #[error("the cap is below the minimum, so that no balance would ever earn; raise the cap or drop it")]
    CapBelowMinimum,
    /// A share is past the whole.
    #[error("{0} is {1}; a share is at most {WHOLE_BPS} basis points")]
    Share(&'static str, u32),
    /// A share of zero would allow no stake at all.
    #[error("{0} is zero, so that nothing could be staked; pause the pool instead")]
    ZeroCap(&'static str),
    /// A commission is not between 0 and 1.
    #[error("max_commission is {0}; it is a decimal from 0 to 1")]
    Commission(Decimal),
    /// Rebalancing more often than this would only read the chain.
    #[error("rebalance_interval_seconds is {0}; it has to be {MIN_REBALANCE_SECONDS} or more")]
    RebalanceInterval(u32),
    /// The next period could end before the one before it freezes, and a third would be open.
    #[error("close_grace_seconds is {grace}; it has to be below the period's {period} seconds")]
    CloseGrace {
        /// The grace.
        grace: u32,
        /// The length of the period.
        period: u32,
    },
    /// The float's floor is above its target.
    #[error("house_float_floor is above house_float_target, so that the float could never be filled")]
    FloatFloor,
}

impl PoolPolicy {
    /// Whether the parts go together.
    pub fn check(&self) -> Result<(), PolicyRefusal> {
        check_policies(self.reward, self.slash)?;
        if !(MIN_PERIOD_SECONDS..=MAX_PERIOD_SECONDS).contains(&self.period_seconds) {
            return Err(PolicyRefusal::PeriodSeconds(self.period_seconds));
        }
        match self.eligibility.cap {
            Some(cap) if cap < self.eligibility.minimum => Err(PolicyRefusal::CapBelowMinimum),
            _ => Ok(()),
        }
    }
}

impl ReserveSettings {
    /// The part that the plan of stake and reserve goes by.
    pub const fn policy(&self) -> ReservePolicy {
        ReservePolicy {
            reserve_ratio_bps: self.reserve_ratio_bps,
            custody_share_bps: self.custody_share_bps,
            hysteresis_bps: self.hysteresis_bps,
            min_change: self.min_move,
            max_change: self.max_change_per_run,
            house_float_target: self.house_float_target,
            house_float_floor: self.house_float_floor,
        }
    }
}

impl PoolSettings {
    /// Whether the parts go together, in a pool whose periods last `period_seconds`.
    pub fn check(&self, period_seconds: u32) -> Result<(), PolicyRefusal> {
        let (reserve, allocation) = (&self.reserve, &self.allocation);
        let shares = [
            ("reserve_ratio_bps", reserve.reserve_ratio_bps),
            ("custody_share_bps", reserve.custody_share_bps),
            ("hysteresis_bps", reserve.hysteresis_bps),
            ("max_share_bps", allocation.max_share_bps),
            ("max_group_share_bps", allocation.max_group_share_bps),
        ];
        if let Some((name, share)) = shares.into_iter().find(|(_, share)| *share > WHOLE_BPS) {
            return Err(PolicyRefusal::Share(name, share));
        }
        let caps = [
            ("max_share_bps", allocation.max_share_bps),
            ("max_group_share_bps", allocation.max_group_share_bps),
            ("max_validators", allocation.max_validators.unwrap_or(1)),
        ];
        if let Some((name, _)) = caps.into_iter().find(|(_, cap)| *cap == 0) {
            return Err(PolicyRefusal::ZeroCap(name));
        }
        if allocation.max_commission < Decimal::ZERO || allocation.max_commission > Decimal::ONE {
            return Err(PolicyRefusal::Commission(allocation.max_commission));
        }
        if reserve.house_float_floor > reserve.house_float_target {
            return Err(PolicyRefusal::FloatFloor);
        }
        if reserve.rebalance_interval_seconds < MIN_REBALANCE_SECONDS {
            return Err(PolicyRefusal::RebalanceInterval(reserve.rebalance_interval_seconds));
        }
        if self.feed.close_grace_seconds >= period_seconds {
            return Err(PolicyRefusal::CloseGrace { grace: self.feed.close_grace_seconds, period: period_seconds });
        }
        Ok(())
    }
}
