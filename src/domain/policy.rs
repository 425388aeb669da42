//! What a pool goes by: what it pays to whom, and how it is run.

use rust_decimal::Decimal;

use super::amount::BaseUnits;
use super::eligibility::EligibilityPolicy;
use super::enrolment::RestrictedJurisdictions;
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
    /// How ledger and chain are compared.
    pub reconcile: ReconcileSettings,
    /// Whose customers may not earn.
    pub restricted: RestrictedJurisdictions,
    /// What takes a second person.
    pub approval: ApprovalSettings,
}

/// How much stays liquid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveSettings {
    /// The share of the eligible total that is kept liquid.
    pub reserve_ratio_bps: u32,
    /// What is kept liquid at least; all there is to go by until there is history for a forecast.
    pub reserve_floor: BaseUnits,
    /// Which percentile of the outflow of past windows is kept liquid, in basis points.
    pub forecast_percentile_bps: u32,
    /// How many windows that looks back over.
    pub forecast_windows: u32,
    /// The most of the eligible total that the forecast alone keeps liquid.
    pub forecast_ceiling_bps: u32,
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
    /// The most that one run sends to custody, of what the pool has on the chain.
    pub max_outflow_per_run_bps: u32,
    /// The most that goes to custody within any day, of what the pool had on the chain at its beginning.
    pub max_outflow_per_day_bps: u32,
    /// The one address that anything may be sent to. Nothing is sent while the chain's adapter names another.
    pub custody_address: String,
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
    /// The highest annual rate that the payouts may come to; `None` for no limit.
    pub max_apr: Option<Decimal>,
    /// The largest difference to the trailing rate, as a share of it; `None` for no limit.
    pub max_apr_change: Option<Decimal>,
    /// The most that the receipts of one period may come to, in basis points of what earned; `None` for no limit.
    pub max_receipts_bps: Option<u32>,
}

/// The percentile of a forecast where nothing else is said: what leaves in 99 windows of 100.
pub const DEFAULT_FORECAST_PERCENTILE_BPS: u32 = 9_900;

/// How many windows a forecast looks back over where nothing else is said: a quarter of a year of days.
pub const DEFAULT_FORECAST_WINDOWS: u32 = 90;

/// The most of the eligible total that a forecast keeps liquid where nothing else is said. After a run on the pool the
/// windows remember that more left than is still there; without a ceiling nothing would be staked for as long as they do,
/// and those who stayed would earn nothing.
pub const DEFAULT_FORECAST_CEILING_BPS: u32 = 5_000;

/// The most windows that can be asked for.
pub const MAX_FORECAST_WINDOWS: u32 = 512;

/// The most of a pool that one run sends to custody where nothing else is said: a wrong figure of a feed can't take all.
pub const DEFAULT_OUTFLOW_PER_RUN_BPS: u32 = 5_000;

/// The most of a pool that goes to custody in a day where nothing else is said: four in five may leave within the hour,
/// and be repaid within the day that their stake comes back.
pub const DEFAULT_OUTFLOW_PER_DAY_BPS: u32 = 8_000;

/// The highest rate that is paid without a person where nothing else is said, in basis points: more than twice what the
/// best of the chains pays, so that a period which makes up for one that paid nothing passes.
pub const DEFAULT_MAX_APR_BPS: u32 = 5_000;

/// The largest change of the rate where nothing else is said, in basis points of the trailing one: a receipt that slips
/// into the next period makes one of nothing and one of twice as much.
pub const DEFAULT_MAX_APR_CHANGE_BPS: u32 = 10_000;

/// The most that a period's receipts come to where nothing else is said, in basis points of what earned: more than any of
/// the chains pays in a month, and less than a growth of 5 per cent that never happened.
pub const DEFAULT_MAX_RECEIPTS_BPS: u32 = 200;

/// The longest address.
pub const MAX_ADDRESS_BYTES: usize = 128;

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

/// How ledger and chain are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReconcileSettings {
    /// By how much a figure of the chain may differ from the ledger's without stopping outflows. Zero by default: both
    /// count whole base units, and what an operation loses by rounding the adapter declares.
    pub tolerance: BaseUnits,
}

/// What takes a second person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApprovalSettings {
    /// Changes of one kind that move no more than this together in a day are carried out for one person. Zero by default:
    /// whatever moves money takes two.
    pub single_person_limit: BaseUnits,
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
    /// A percentile of nothing.
    #[error("forecast_percentile_bps is {0}; it has to be from 1 to {WHOLE_BPS}")]
    Percentile(u32),
    /// No window, or more than are read.
    #[error("forecast_windows is {0}; it has to be from 1 to {MAX_FORECAST_WINDOWS}")]
    Windows(u32),
    /// A limit of zero or below would hold every distribution.
    #[error("{0} is not above zero, so that every distribution would be held; set approval_required instead")]
    ZeroLimit(&'static str),
    /// The address can't be one.
    #[error("custody_address has to be 1 to {MAX_ADDRESS_BYTES} bytes of printable ASCII without spaces")]
    CustodyAddress,
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
            max_outflow_per_run_bps: self.max_outflow_per_run_bps,
            max_outflow_per_day_bps: self.max_outflow_per_day_bps,
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
            ("forecast_ceiling_bps", reserve.forecast_ceiling_bps),
            ("max_outflow_per_run_bps", reserve.max_outflow_per_run_bps),
            ("max_outflow_per_day_bps", reserve.max_outflow_per_day_bps),
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
        if !(1..=WHOLE_BPS).contains(&reserve.forecast_percentile_bps) {
            return Err(PolicyRefusal::Percentile(reserve.forecast_percentile_bps));
        }
        if !(1..=MAX_FORECAST_WINDOWS).contains(&reserve.forecast_windows) {
            return Err(PolicyRefusal::Windows(reserve.forecast_windows));
        }
        let address = reserve.custody_address.as_bytes();
        if !(1..=MAX_ADDRESS_BYTES).contains(&address.len()) || !address.iter().all(u8::is_ascii_graphic) {
            return Err(PolicyRefusal::CustodyAddress);
        }
        let release = &self.release;
        let limits = [
            ("max_apr", release.max_apr),
            ("max_apr_change", release.max_apr_change),
            ("max_receipts_bps", release.max_receipts_bps.map(Decimal::from)),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit <= Decimal::ZERO))
        {
            return Err(PolicyRefusal::ZeroLimit(name));
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
