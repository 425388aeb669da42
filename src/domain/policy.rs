//! What a pool goes by: what it pays to whom, and how it stakes. Checked as a whole when made.

use rust_decimal::Decimal;

use super::amount::BaseUnits;
use super::eligibility::EligibilityPolicy;
use super::fixed_apr::{PolicyError, RewardPolicy, SlashPolicy, check_policies};
use super::period::MAX_PERIOD_SECONDS;
use super::split::{FeeBps, PayoutUnit, WHOLE_BPS};

/// Periods are at least a minute: shorter ones could not be closed before the next has ended.
pub const MIN_PERIOD_SECONDS: u32 = 60;



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
    /// Under a fixed APR: a shortage above this is held for approval.
    pub max_house_in: BaseUnits,
}

/// How a pool stakes. Takes effect at the next run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StakingPolicy {
    /// The share of the eligible total that is kept liquid.
    pub reserve_ratio_bps: u32,
    /// What is kept liquid at least, until there is history for a forecast.
    pub reserve_floor: BaseUnits,
    /// Changes smaller than this share of the target stay undone.
    pub hysteresis_bps: u32,
    /// No run stakes or unstakes more than this.
    pub max_change_per_run: Option<BaseUnits>,
    /// Unbondings due within this count as reserve.
    pub horizon_seconds: u64,
    /// Below this, the house float allows exits only.
    pub house_float_floor: BaseUnits,
    /// What the house float is filled up to.
    pub house_float_target: BaseUnits,
    /// The most of the stake that one validator may hold.
    pub max_share_bps: u32,
    /// The most that one operator's validators may hold together.
    pub max_group_share_bps: u32,
    /// Validators that keep more than this of the rewards get no stake.
    pub max_commission: Decimal,
    /// The most validators that are used at once.
    pub max_validators: u32,
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

impl StakingPolicy {
    /// Whether the parts go together.
    pub fn check(&self) -> Result<(), PolicyRefusal> {
        let shares = [
            ("reserve_ratio_bps", self.reserve_ratio_bps),
            ("hysteresis_bps", self.hysteresis_bps),
            ("max_share_bps", self.max_share_bps),
            ("max_group_share_bps", self.max_group_share_bps),
        ];
        if let Some((name, share)) = shares.into_iter().find(|(_, share)| *share > WHOLE_BPS) {
            return Err(PolicyRefusal::Share(name, share));
        }
        let caps = [
            ("max_share_bps", self.max_share_bps),
            ("max_group_share_bps", self.max_group_share_bps),
            ("max_validators", self.max_validators),
        ];
        if let Some((name, _)) = caps.into_iter().find(|(_, cap)| *cap == 0) {
            return Err(PolicyRefusal::ZeroCap(name));
        }
        if self.max_commission < Decimal::ZERO || self.max_commission > Decimal::ONE {
            return Err(PolicyRefusal::Commission(self.max_commission));
        }
        if self.house_float_floor > self.house_float_target {
            return Err(PolicyRefusal::FloatFloor);
        }
        Ok(())
    }
}
