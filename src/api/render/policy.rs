//! Policies and settings.

use rust_decimal::Decimal;

use crate::api::show;
use crate::domain::eligibility::EnrolmentMode;
use crate::domain::fixed_apr::{RewardPolicy, SlashPolicy};
use crate::domain::ids::AssetId;
use crate::domain::policy::{PoolPolicy, PoolSettings};
use crate::pb::v1;

/// A policy.
pub fn policy(asset: &AssetId, policy: &PoolPolicy) -> v1::Policy {
    let (reward_policy, fixed_apr) = match policy.reward {
        RewardPolicy::ProRata => (v1::RewardPolicy::ProRata, String::new()),
        RewardPolicy::FixedApr(rate) => {
            (v1::RewardPolicy::FixedApr, decimal_text(rate.numerator(), rate.denominator()))
        }
    };
    let minimum = policy.eligibility.minimum;
    v1::Policy {
        minimum_balance: (!minimum.is_zero()).then(|| show::amount(asset, minimum)),
        balance_cap: policy.eligibility.cap.map(|cap| show::amount(asset, cap)),
        fee_bps: policy.fee.get(),
        reward_policy: reward_policy.into(),
        fixed_apr,
        period_seconds: policy.period_seconds,
        enrolment_mode: match policy.eligibility.enrolment {
            EnrolmentMode::Automatic => v1::EnrolmentMode::Automatic,
            EnrolmentMode::OptIn => v1::EnrolmentMode::OptIn,
        }
        .into(),
        slash_policy: match policy.slash {
            SlashPolicy::PlatformAbsorbs => v1::SlashPolicy::PlatformAbsorbs,
            SlashPolicy::RewardsAbsorb => v1::SlashPolicy::RewardsAbsorb,
        }
        .into(),
        payout_unit: Some(show::amount(asset, policy.payout_unit.get())),
    }
}

/// A fraction whose denominator is a power of ten, as a decimal.
fn decimal_text(numerator: u128, denominator: u128) -> String {
    let scale = denominator.checked_ilog10().unwrap_or(0);
    let rate = i128::try_from(numerator).ok().and_then(|whole| Decimal::try_from_i128_with_scale(whole, scale).ok());
    rate.map(|rate| rate.normalize().to_string()).unwrap_or_default()
}

/// Settings.
pub fn settings(asset: &AssetId, settings: &PoolSettings) -> v1::PoolSettings {
    let PoolSettings { reserve, allocation, release, feed, reconcile, approval, restricted } = settings;
    let amount = |units| Some(show::amount(asset, units));
    let rate = |rate: Option<Decimal>| rate.map(|rate| rate.normalize().to_string()).unwrap_or_default();
    v1::PoolSettings {
        reserve: Some(v1::ReserveSettings {
            reserve_ratio_bps: reserve.reserve_ratio_bps,
            reserve_floor: (!reserve.reserve_floor.is_zero()).then(|| show::amount(asset, reserve.reserve_floor)),
            horizon_seconds: reserve.horizon_seconds,
            min_move: amount(reserve.min_move),
            max_change_per_run: reserve.max_change_per_run.map(|most| show::amount(asset, most)),
            house_float_target: amount(reserve.house_float_target),
            house_float_floor: amount(reserve.house_float_floor),
            rebalance_interval_seconds: reserve.rebalance_interval_seconds,
            custody_share_bps: reserve.custody_share_bps,
            hysteresis_bps: reserve.hysteresis_bps,
            forecast_percentile_bps: reserve.forecast_percentile_bps,
            forecast_windows: reserve.forecast_windows,
            forecast_ceiling_bps: reserve.forecast_ceiling_bps,
            max_outflow_per_run_bps: reserve.max_outflow_per_run_bps,
            max_outflow_per_day_bps: reserve.max_outflow_per_day_bps,
            custody_address: reserve.custody_address.clone(),
        }),
        allocation: Some(v1::AllocationSettings {
            max_share_bps: allocation.max_share_bps,
            max_group_share_bps: allocation.max_group_share_bps,
            max_commission: allocation.max_commission.normalize().to_string(),
            max_validators: allocation.max_validators.unwrap_or(0),
        }),
        release_limits: Some(v1::ReleaseLimits {
            approval_required: release.approval_required,
            max_house_in: release.max_house_in.map(|most| show::amount(asset, most)),
            max_apr: rate(release.max_apr),
            max_apr_change: rate(release.max_apr_change),
            max_receipts_bps: release.max_receipts_bps.unwrap_or(0),
        }),
        feed: Some(v1::FeedSettings {
            max_skew_seconds: feed.max_skew_seconds,
            max_lateness_seconds: feed.max_lateness_seconds,
            close_grace_seconds: feed.close_grace_seconds,
        }),
        reconcile: Some(v1::ReconcileSettings {
            tolerance: (!reconcile.tolerance.is_zero()).then(|| show::amount(asset, reconcile.tolerance)),
        }),
        enrolment: Some(v1::EnrolmentSettings {
            restricted_jurisdictions: restricted.codes().map(str::to_owned).collect(),
        }),
        approval: Some(v1::ApprovalSettings {
            single_person_limit: (!approval.single_person_limit.is_zero())
                .then(|| show::amount(asset, approval.single_person_limit)),
        }),
    }
}
