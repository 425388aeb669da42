//! Policies, settings, and the masks that change parts of them.

use rust_decimal::Decimal;

use super::{Parsed, Path, amount, field};
use crate::api::status::{ApiError, Violation};
use crate::app::Descriptor;
use crate::domain::amount::BaseUnits;
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use crate::domain::enrolment::{JurisdictionError, RestrictedJurisdictions};
use crate::domain::fixed_apr::{AnnualRate, RewardPolicy, SlashPolicy};
use crate::domain::ids::AssetId;
use crate::domain::period::MAX_PERIOD_SECONDS;
use crate::domain::policy::{
    AllocationSettings, ApprovalSettings, DEFAULT_FORECAST_CEILING_BPS, DEFAULT_FORECAST_PERCENTILE_BPS,
    DEFAULT_FORECAST_WINDOWS, DEFAULT_MAX_APR_BPS, DEFAULT_MAX_APR_CHANGE_BPS, DEFAULT_MAX_RECEIPTS_BPS,
    DEFAULT_OUTFLOW_PER_DAY_BPS, DEFAULT_OUTFLOW_PER_RUN_BPS, FeedSettings, MAX_FORECAST_WINDOWS, MIN_PERIOD_SECONDS,
    MIN_REBALANCE_SECONDS, PoolPolicy, PoolSettings, ReconcileSettings, ReleaseLimits, ReserveSettings,
};
use crate::domain::split::{FeeBps, PayoutUnit, WHOLE_BPS};
use crate::domain::time::DAY_SECONDS;
use crate::pb::v1;

/// Seconds that a time may go back within a position, where nothing else is said.
const DEFAULT_SKEW_SECONDS: u32 = 300;

/// How far back a late event may reach, where nothing else is said: three days.
const DEFAULT_LATENESS_SECONDS: u32 = 3 * DAY_SECONDS;

/// How long a period waits for watermarks, where nothing else is said.
const DEFAULT_GRACE_SECONDS: u32 = 3_600;

/// The highest limit on a rate: nothing is ever above it.
const MAX_RATE_LIMIT: u32 = 1_000;

/// How long apart two rebalances of a new pool are, where nothing else is said.
const DEFAULT_REBALANCE_SECONDS: u32 = 3_600;

/// A policy of a pool of `asset`.
pub fn policy(path: &Path<'_>, asset: &AssetId, policy: &v1::Policy) -> Parsed<PoolPolicy> {
    let of = |name, given: &Option<v1::Amount>| amount::optional_amount_of(&path.field(name), asset, given.as_ref());
    let fixed_apr = path.field("fixed_apr");
    let rate = amount::optional_rate(&fixed_apr, &policy.fixed_apr, Decimal::ONE)?;
    let reward = match (field::known(&path.field("reward_policy"), policy.reward_policy)?, rate) {
        (v1::RewardPolicy::FixedApr, None) => return Err(fixed_apr.missing()),
        (v1::RewardPolicy::FixedApr, Some(rate)) => RewardPolicy::FixedApr(
            AnnualRate::new(rate).map_err(|error| fixed_apr.wrong("RATE_OUT_OF_RANGE", error.to_string()))?,
        ),
        (_, Some(_)) => {
            return Err(fixed_apr.wrong("FIELD_NOT_ALLOWED", "belongs to FIXED_APR; leave it empty"));
        }
        (_, None) => RewardPolicy::ProRata,
    };
    let bps = field::within(&path.field("fee_bps"), policy.fee_bps, 0..=WHOLE_BPS)?;
    let unit_path = path.field("payout_unit");
    let unit = of("payout_unit", &policy.payout_unit)?.unwrap_or(BaseUnits::from_u64(1));
    let seconds = if policy.period_seconds == 0 { DAY_SECONDS } else { policy.period_seconds };
    Ok(PoolPolicy {
        eligibility: EligibilityPolicy {
            minimum: of("minimum_balance", &policy.minimum_balance)?.unwrap_or_default(),
            cap: of("balance_cap", &policy.balance_cap)?,
            enrolment: match field::known(&path.field("enrolment_mode"), policy.enrolment_mode)? {
                v1::EnrolmentMode::OptIn => EnrolmentMode::OptIn,
                _ => EnrolmentMode::Automatic,
            },
        },
        fee: FeeBps::new(bps).map_err(|error| path.field("fee_bps").wrong("NUMBER_OUT_OF_RANGE", error.to_string()))?,
        payout_unit: PayoutUnit::new(unit).map_err(|error| unit_path.wrong("AMOUNT_ZERO", error.to_string()))?,
        period_seconds: field::within(&path.field("period_seconds"), seconds, MIN_PERIOD_SECONDS..=MAX_PERIOD_SECONDS)?,
        reward,
        slash: match field::known(&path.field("slash_policy"), policy.slash_policy)? {
            v1::SlashPolicy::RewardsAbsorb => SlashPolicy::RewardsAbsorb,
            _ => SlashPolicy::PlatformAbsorbs,
        },
    })
}

/// The policy of a pool that is created without one: everyone earns, pro rata, and the operator bears slashes.
pub fn default_policy() -> v1::Policy {
    v1::Policy {
        reward_policy: v1::RewardPolicy::ProRata.into(),
        enrolment_mode: v1::EnrolmentMode::Automatic.into(),
        slash_policy: v1::SlashPolicy::PlatformAbsorbs.into(),
        ..v1::Policy::default()
    }
}

/// What the settings of a new pool fall back on: its chain's own figures.
#[derive(Clone, Copy, Debug)]
pub struct ChainDefaults<'a> {
    /// The least that may stand with one validator.
    pub min_move: BaseUnits,
    /// What one transaction costs.
    pub fee: BaseUnits,
    /// Where a DEFUND goes to.
    pub custody_address: &'a str,
}

impl<'a> ChainDefaults<'a> {
    /// Those of a chain.
    pub fn of(chain: &'a Descriptor) -> Self {
        let custody_address = &chain.custody_address;
        Self { min_move: chain.limits.min_delegation, fee: chain.fee_estimate, custody_address }
    }

    /// Fills in what is the chain's where nothing is named.
    pub fn complete(&self, asset: &AssetId, reserve: &mut v1::ReserveSettings) {
        reserve.min_move.get_or_insert_with(|| crate::api::show::amount(asset, self.min_move));
        if reserve.custody_address.is_empty() {
            self.custody_address.clone_into(&mut reserve.custody_address);
        }
    }
}

/// The settings of a new pool, with the defaults of its chain where nothing is said.
pub fn with_defaults(asset: &AssetId, chain: &ChainDefaults<'_>, given: Option<&v1::PoolSettings>) -> v1::PoolSettings {
    let amount = |units: BaseUnits| Some(crate::api::show::amount(asset, units));
    let times = |count: u128| chain.fee.mul_div_floor(count, 1).unwrap_or(chain.fee);
    let given = given.cloned().unwrap_or_default();
    let mut reserve = given.reserve.unwrap_or_else(|| v1::ReserveSettings {
        reserve_ratio_bps: 1_000,
        custody_share_bps: 5_000,
        hysteresis_bps: 50,
        house_float_target: amount(times(200)),
        house_float_floor: amount(times(20)),
        rebalance_interval_seconds: DEFAULT_REBALANCE_SECONDS,
        ..v1::ReserveSettings::default()
    });
    chain.complete(asset, &mut reserve);
    let allocation = given.allocation.unwrap_or_else(|| v1::AllocationSettings {
        max_share_bps: 2_500,
        max_group_share_bps: 4_000,
        max_commission: "0.2".to_owned(),
        max_validators: 0,
    });
    v1::PoolSettings {
        reserve: Some(reserve),
        allocation: Some(allocation),
        release_limits: Some(given.release_limits.unwrap_or_else(default_limits)),
        feed: Some(given.feed.unwrap_or_default()),
        reconcile: Some(given.reconcile.unwrap_or_default()),
        enrolment: Some(given.enrolment.unwrap_or_default()),
        approval: Some(given.approval.unwrap_or_default()),
    }
}

/// The limits of a pool that is created without any.
fn default_limits() -> v1::ReleaseLimits {
    let rate = |bps: u32| Decimal::new(i64::from(bps), 4).normalize().to_string();
    v1::ReleaseLimits {
        max_apr: rate(DEFAULT_MAX_APR_BPS),
        max_apr_change: rate(DEFAULT_MAX_APR_CHANGE_BPS),
        max_receipts_bps: DEFAULT_MAX_RECEIPTS_BPS,
        ..v1::ReleaseLimits::default()
    }
}

/// Settings of a pool of `asset` whose periods last `period_seconds`.
pub fn settings(
    path: &Path<'_>,
    asset: &AssetId,
    settings: &v1::PoolSettings,
    period_seconds: u32,
) -> Result<PoolSettings, ApiError> {
    let (reserve_path, allocation_path) = (path.field("reserve"), path.field("allocation"));
    let (release_path, feed_path) = (path.field("release_limits"), path.field("feed"));
    let release = settings.release_limits.as_ref().ok_or_else(|| release_path.missing())?;
    Ok(PoolSettings {
        reserve: reserve(&reserve_path, asset, settings.reserve.as_ref().ok_or_else(|| reserve_path.missing())?)?,
        allocation: allocation(
            &allocation_path,
            settings.allocation.as_ref().ok_or_else(|| allocation_path.missing())?,
        )?,
        release: release_limits(&release_path, asset, release)?,
        feed: feed(&feed_path, settings.feed.as_ref().ok_or_else(|| feed_path.missing())?, period_seconds)?,
        reconcile: reconcile(&path.field("reconcile"), asset, settings.reconcile.as_ref())?,
        restricted: restricted(&path.field("enrolment"), settings.enrolment.as_ref())?,
        approval: approval(&path.field("approval"), asset, settings.approval.as_ref())?,
    })
}

fn restricted(path: &Path<'_>, given: Option<&v1::EnrolmentSettings>) -> Parsed<RestrictedJurisdictions> {
    let codes = given.map(|given| given.restricted_jurisdictions.as_slice()).unwrap_or_default();
    let path = path.field("restricted_jurisdictions");
    RestrictedJurisdictions::new(codes.iter().map(String::as_str)).map_err(|error| {
        let reason = match error {
            JurisdictionError::Code(_) => "JURISDICTION_MALFORMED",
            JurisdictionError::TooMany => "TOO_MANY_JURISDICTIONS",
        };
        path.wrong(reason, error.to_string())
    })
}

fn approval(path: &Path<'_>, asset: &AssetId, given: Option<&v1::ApprovalSettings>) -> Parsed<ApprovalSettings> {
    let limit = given.and_then(|given| given.single_person_limit.as_ref());
    let limit = amount::optional_amount_of(&path.field("single_person_limit"), asset, limit)?;
    Ok(ApprovalSettings { single_person_limit: limit.unwrap_or_default() })
}

fn reconcile(path: &Path<'_>, asset: &AssetId, given: Option<&v1::ReconcileSettings>) -> Parsed<ReconcileSettings> {
    let tolerance = given.and_then(|given| given.tolerance.as_ref());
    let tolerance = amount::optional_amount_of(&path.field("tolerance"), asset, tolerance)?;
    Ok(ReconcileSettings { tolerance: tolerance.unwrap_or_default() })
}

fn share(path: &Path<'_>, bps: u32) -> Parsed<u32> {
    field::within(path, bps, 0..=WHOLE_BPS)
}

fn reserve(path: &Path<'_>, asset: &AssetId, reserve: &v1::ReserveSettings) -> Parsed<ReserveSettings> {
    let of = |name, given: &Option<v1::Amount>| amount::amount_of(&path.field(name), asset, given.as_ref());
    let optional =
        |name, given: &Option<v1::Amount>| amount::optional_amount_of(&path.field(name), asset, given.as_ref());
    let interval = reserve.rebalance_interval_seconds;
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let (per_run, per_day) = (
        or(reserve.max_outflow_per_run_bps, DEFAULT_OUTFLOW_PER_RUN_BPS),
        or(reserve.max_outflow_per_day_bps, DEFAULT_OUTFLOW_PER_DAY_BPS),
    );
    Ok(ReserveSettings {
        forecast_percentile_bps: share(
            &path.field("forecast_percentile_bps"),
            or(reserve.forecast_percentile_bps, DEFAULT_FORECAST_PERCENTILE_BPS),
        )?,
        forecast_windows: field::within(
            &path.field("forecast_windows"),
            or(reserve.forecast_windows, DEFAULT_FORECAST_WINDOWS),
            1..=MAX_FORECAST_WINDOWS,
        )?,
        forecast_ceiling_bps: share(
            &path.field("forecast_ceiling_bps"),
            or(reserve.forecast_ceiling_bps, DEFAULT_FORECAST_CEILING_BPS),
        )?,
        max_outflow_per_run_bps: share(&path.field("max_outflow_per_run_bps"), per_run)?,
        max_outflow_per_day_bps: share(&path.field("max_outflow_per_day_bps"), per_day)?,
        custody_address: reserve.custody_address.clone(),
        reserve_ratio_bps: share(&path.field("reserve_ratio_bps"), reserve.reserve_ratio_bps)?,
        reserve_floor: optional("reserve_floor", &reserve.reserve_floor)?.unwrap_or_default(),
        horizon_seconds: reserve.horizon_seconds,
        custody_share_bps: share(&path.field("custody_share_bps"), reserve.custody_share_bps)?,
        hysteresis_bps: share(&path.field("hysteresis_bps"), reserve.hysteresis_bps)?,
        min_move: optional("min_move", &reserve.min_move)?.unwrap_or_default(),
        max_change_per_run: optional("max_change_per_run", &reserve.max_change_per_run)?,
        house_float_target: of("house_float_target", &reserve.house_float_target)?,
        house_float_floor: of("house_float_floor", &reserve.house_float_floor)?,
        rebalance_interval_seconds: field::within(
            &path.field("rebalance_interval_seconds"),
            interval,
            MIN_REBALANCE_SECONDS..=u32::MAX,
        )?,
    })
}

fn allocation(path: &Path<'_>, allocation: &v1::AllocationSettings) -> Parsed<AllocationSettings> {
    let cap = |name, bps| field::within(&path.field(name), bps, 1..=WHOLE_BPS);
    Ok(AllocationSettings {
        max_share_bps: cap("max_share_bps", allocation.max_share_bps)?,
        max_group_share_bps: cap("max_group_share_bps", allocation.max_group_share_bps)?,
        max_commission: amount::rate(&path.field("max_commission"), &allocation.max_commission, Decimal::ONE)?,
        max_validators: (allocation.max_validators > 0).then_some(allocation.max_validators),
    })
}

fn release_limits(path: &Path<'_>, asset: &AssetId, limits: &v1::ReleaseLimits) -> Parsed<ReleaseLimits> {
    let max_house_in = path.field("max_house_in");
    Ok(ReleaseLimits {
        approval_required: limits.approval_required,
        max_house_in: amount::optional_amount_of(&max_house_in, asset, limits.max_house_in.as_ref())?,
        max_apr: rate_limit(&path.field("max_apr"), &limits.max_apr)?,
        max_apr_change: rate_limit(&path.field("max_apr_change"), &limits.max_apr_change)?,
        max_receipts_bps: (limits.max_receipts_bps > 0).then_some(limits.max_receipts_bps),
    })
}

fn rate_limit(path: &Path<'_>, text: &str) -> Parsed<Option<Decimal>> {
    match amount::optional_rate(path, text, Decimal::from(MAX_RATE_LIMIT))? {
        Some(rate) if rate.is_zero() => {
            Err(path.wrong("RATE_OUT_OF_RANGE", "is zero, which holds everything; set approval_required for that"))
        }
        rate => Ok(rate),
    }
}

fn feed(path: &Path<'_>, feed: &v1::FeedSettings, period_seconds: u32) -> Parsed<FeedSettings> {
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let grace = or(feed.close_grace_seconds, DEFAULT_GRACE_SECONDS.min(period_seconds / 2));
    Ok(FeedSettings {
        max_skew_seconds: or(feed.max_skew_seconds, DEFAULT_SKEW_SECONDS),
        max_lateness_seconds: or(feed.max_lateness_seconds, DEFAULT_LATENESS_SECONDS),
        close_grace_seconds: field::within(
            &path.field("close_grace_seconds"),
            grace,
            0..=period_seconds.saturating_sub(1),
        )?,
    })
}

/// What a mask changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Masked {
    /// The policy with the changes; `None` where nothing of it is named.
    pub policy: Option<v1::Policy>,
    /// The settings with the changes; `None` where nothing of them is named.
    pub settings: Option<v1::PoolSettings>,
}

/// Puts the fields of `wanted` that `paths` name into what is there now.
pub fn masked(
    paths: &[String],
    wanted: &v1::Pool,
    (mut policy, mut settings): (v1::Policy, v1::PoolSettings),
) -> Parsed<Masked> {
    let top = Path::of("update_mask");
    if paths.is_empty() {
        return Err(top.missing());
    }
    let mask = top.field("paths");
    let new_policy = wanted.policy.clone().unwrap_or_default();
    let new_settings = wanted.settings.clone().unwrap_or_default();
    let mut changed = Masked { policy: None, settings: None };
    for (place, path) in paths.iter().enumerate() {
        let known = match path.split_once('.') {
            None if path == "policy" => {
                policy = new_policy.clone();
                true
            }
            None if path == "settings" => {
                settings = new_settings.clone();
                true
            }
            Some(("policy", field)) => set_policy(field, &new_policy, &mut policy),
            Some(("settings", field)) => set_settings(field, &new_settings, &mut settings),
            _ => false,
        };
        if !known {
            return Err(unknown(&mask, place, path));
        }
        if path.starts_with("policy") {
            changed.policy = Some(policy.clone());
        } else {
            changed.settings = Some(settings.clone());
        }
    }
    Ok(changed)
}

fn unknown(mask: &Path<'_>, place: usize, path: &str) -> Violation {
    let shown: String = path.chars().take(64).collect();
    mask.item(place).wrong("MASK_UNKNOWN", format!("names {shown}, which is no field below policy or settings"))
}

/// Copies the field called `field`; `false` where there is none.
macro_rules! copy_field {
    ($field:expr, $from:expr => $to:expr; $($name:ident)*) => {
        match $field {
            $(stringify!($name) => { $to.$name = $from.$name.clone(); true })*
            _ => false,
        }
    };
}

fn set_policy(field: &str, from: &v1::Policy, to: &mut v1::Policy) -> bool {
    copy_field!(field, from => to; minimum_balance balance_cap fee_bps reward_policy fixed_apr period_seconds
        enrolment_mode slash_policy payout_unit)
}

fn set_settings(field: &str, from: &v1::PoolSettings, to: &mut v1::PoolSettings) -> bool {
    let Some((group, field)) = field.split_once('.') else {
        return copy_field!(field, from => to; reserve allocation release_limits feed reconcile approval enrolment);
    };
    match group {
        "reserve" => {
            let from = from.reserve.clone().unwrap_or_default();
            let to = to.reserve.get_or_insert_default();
            copy_field!(field, from => to; reserve_ratio_bps reserve_floor horizon_seconds min_move
                max_change_per_run house_float_target house_float_floor rebalance_interval_seconds custody_share_bps
                hysteresis_bps forecast_percentile_bps forecast_windows max_outflow_per_run_bps max_outflow_per_day_bps
                custody_address forecast_ceiling_bps)
        }
        "allocation" => {
            let from = from.allocation.clone().unwrap_or_default();
            let to = to.allocation.get_or_insert_default();
            copy_field!(field, from => to; max_share_bps max_group_share_bps max_commission max_validators)
        }
        "release_limits" => {
            let from = from.release_limits.clone().unwrap_or_default();
            let to = to.release_limits.get_or_insert_default();
            copy_field!(field, from => to; approval_required max_apr max_apr_change max_house_in
                max_receipts_bps)
        }
        "feed" => {
            let from = from.feed.unwrap_or_default();
            let to = to.feed.get_or_insert_default();
            copy_field!(field, from => to; max_skew_seconds max_lateness_seconds close_grace_seconds)
        }
        "reconcile" => {
            let from = from.reconcile.clone().unwrap_or_default();
            let to = to.reconcile.get_or_insert_default();
            copy_field!(field, from => to; tolerance)
        }
        "enrolment" => {
            let from = from.enrolment.clone().unwrap_or_default();
            let to = to.enrolment.get_or_insert_default();
            copy_field!(field, from => to; restricted_jurisdictions)
        }
        "approval" => {
            let from = from.approval.clone().unwrap_or_default();
            let to = to.approval.get_or_insert_default();
            copy_field!(field, from => to; single_person_limit)
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
