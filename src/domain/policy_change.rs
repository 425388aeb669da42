//! What a change of a pool's policy or settings changes, field by field, and which guards it lowers.

use std::fmt::Display;

use super::eligibility::{EligibilityPolicy, EnrolmentMode};
use super::fixed_apr::{RewardPolicy, SlashPolicy};
use super::policy::{
    AllocationSettings, ApprovalSettings, FeedSettings, PoolPolicy, PoolSettings, ReconcileSettings, ReleaseLimits,
    ReserveSettings,
};

/// One field that a change gives another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Its path, as an update mask names it.
    pub field: &'static str,
    /// What it was.
    pub before: String,
    /// What it becomes.
    pub after: String,
    /// Whether that lowers a guard: something that keeps a mistake or a thief from money.
    pub lowers: bool,
}

/// Which way a field guards.
#[derive(Clone, Copy)]
enum Guard {
    /// It guards nothing.
    None,
    /// A floor: less of it is less guarded.
    Least,
    /// A cap: more of it is less guarded.
    Most,
    /// Any change of it goes past a guard.
    Fixed,
}

/// What a field is without a limit.
const NO_LIMIT: &str = "no limit";

struct Found(Vec<FieldChange>);

impl Found {
    fn field<T: PartialOrd + Display>(&mut self, guard: Guard, field: &'static str, before: T, after: T) {
        if before == after {
            return;
        }
        let lowers = match guard {
            Guard::None => false,
            Guard::Least => after < before,
            Guard::Most => after > before,
            Guard::Fixed => true,
        };
        self.0.push(FieldChange { field, before: before.to_string(), after: after.to_string(), lowers });
    }

    /// A cap, where none is no limit.
    fn cap<T: PartialOrd + Display>(&mut self, guards: bool, field: &'static str, before: Option<T>, after: Option<T>) {
        let lowers = match (&before, &after) {
            (Some(before), Some(after)) => after > before,
            (before, after) => before.is_some() && after.is_none(),
        };
        let shown = |limit: Option<T>| limit.map_or_else(|| NO_LIMIT.to_owned(), |limit| limit.to_string());
        let (before, after) = (shown(before), shown(after));
        if before != after {
            self.0.push(FieldChange { field, before, after, lowers: guards && lowers });
        }
    }
}

/// Every field that another value is given, in the order of the messages.
pub fn changes(before: (&PoolSettings, &PoolPolicy), after: (&PoolSettings, &PoolPolicy)) -> Vec<FieldChange> {
    let mut found = Found(Vec::new());
    policy(&mut found, before.1, after.1);
    let PoolSettings { reserve: from, allocation, release, feed, reconcile, approval, restricted } = before.0;
    let to = after.0;
    reserve(&mut found, from, &to.reserve);
    allocate(&mut found, allocation, &to.allocation);
    limits(&mut found, release, &to.release);
    let FeedSettings { max_skew_seconds, max_lateness_seconds, close_grace_seconds } = *feed;
    found.field(Guard::None, "settings.feed.max_skew_seconds", max_skew_seconds, to.feed.max_skew_seconds);
    let lateness = (max_lateness_seconds, to.feed.max_lateness_seconds);
    found.field(Guard::None, "settings.feed.max_lateness_seconds", lateness.0, lateness.1);
    let grace = (close_grace_seconds, to.feed.close_grace_seconds);
    found.field(Guard::None, "settings.feed.close_grace_seconds", grace.0, grace.1);
    let ReconcileSettings { tolerance } = *reconcile;
    found.field(Guard::Most, "settings.reconcile.tolerance", tolerance, to.reconcile.tolerance);
    if *restricted != to.restricted {
        let (before, after) = (restricted.to_string(), to.restricted.to_string());
        let (field, lowers) = ("settings.enrolment.restricted_jurisdictions", !to.restricted.cover(restricted));
        found.0.push(FieldChange { field, before, after, lowers });
    }
    let ApprovalSettings { single_person_limit } = *approval;
    let limits = (single_person_limit, to.approval.single_person_limit);
    found.field(Guard::Most, "settings.approval.single_person_limit", limits.0, limits.1);
    found.0
}

fn policy(found: &mut Found, before: &PoolPolicy, after: &PoolPolicy) {
    let PoolPolicy { eligibility, fee, payout_unit, period_seconds, reward, slash } = before;
    let EligibilityPolicy { minimum, cap, enrolment } = *eligibility;
    found.field(Guard::None, "policy.minimum_balance", minimum, after.eligibility.minimum);
    found.cap(false, "policy.balance_cap", cap, after.eligibility.cap);
    // Who was asked before is asked no more.
    let mode = |mode: EnrolmentMode| match mode {
        EnrolmentMode::Automatic => "AUTOMATIC",
        EnrolmentMode::OptIn => "OPT_IN",
    };
    let to_automatic = if enrolment == EnrolmentMode::OptIn { Guard::Fixed } else { Guard::None };
    found.field(to_automatic, "policy.enrolment_mode", mode(enrolment), mode(after.eligibility.enrolment));
    found.field(Guard::Most, "policy.fee_bps", fee.get(), after.fee.get());
    found.field(Guard::None, "policy.payout_unit", payout_unit.get(), after.payout_unit.get());
    // What a distribution or a run may do at most, it may do as often as there is one.
    found.field(Guard::Least, "policy.period_seconds", *period_seconds, after.period_seconds);
    // The house pays what a fixed rate says.
    let rate = |reward: &RewardPolicy| match reward {
        RewardPolicy::ProRata => "PRO_RATA".to_owned(),
        RewardPolicy::FixedApr(rate) => format!("FIXED_APR {}/{}", rate.numerator(), rate.denominator()),
    };
    found.field(Guard::Fixed, "policy.reward_policy", rate(reward), rate(&after.reward));
    let bears = |slash: SlashPolicy| match slash {
        SlashPolicy::PlatformAbsorbs => "PLATFORM_ABSORBS",
        SlashPolicy::RewardsAbsorb => "REWARDS_ABSORB",
    };
    found.field(Guard::Fixed, "policy.slash_policy", bears(*slash), bears(after.slash));
}

fn reserve(found: &mut Found, before: &ReserveSettings, after: &ReserveSettings) {
    let ReserveSettings {
        reserve_ratio_bps,
        reserve_floor,
        forecast_percentile_bps,
        forecast_windows,
        forecast_ceiling_bps,
        horizon_seconds,
        custody_share_bps,
        hysteresis_bps,
        min_move,
        max_change_per_run,
        max_outflow_per_run_bps,
        max_outflow_per_day_bps,
        custody_address,
        house_float_target,
        house_float_floor,
        rebalance_interval_seconds,
    } = before;
    for (guard, field, before, after) in [
        (Guard::Least, "settings.reserve.reserve_ratio_bps", *reserve_ratio_bps, after.reserve_ratio_bps),
        (
            Guard::Least,
            "settings.reserve.forecast_percentile_bps",
            *forecast_percentile_bps,
            after.forecast_percentile_bps,
        ),
        (Guard::None, "settings.reserve.forecast_windows", *forecast_windows, after.forecast_windows),
        (Guard::Least, "settings.reserve.forecast_ceiling_bps", *forecast_ceiling_bps, after.forecast_ceiling_bps),
        (Guard::None, "settings.reserve.custody_share_bps", *custody_share_bps, after.custody_share_bps),
        (Guard::None, "settings.reserve.hysteresis_bps", *hysteresis_bps, after.hysteresis_bps),
        (
            Guard::Most,
            "settings.reserve.max_outflow_per_run_bps",
            *max_outflow_per_run_bps,
            after.max_outflow_per_run_bps,
        ),
        (
            Guard::Most,
            "settings.reserve.max_outflow_per_day_bps",
            *max_outflow_per_day_bps,
            after.max_outflow_per_day_bps,
        ),
        (
            Guard::Least,
            "settings.reserve.rebalance_interval_seconds",
            *rebalance_interval_seconds,
            after.rebalance_interval_seconds,
        ),
    ] {
        found.field(guard, field, before, after);
    }
    for (guard, field, before, after) in [
        (Guard::Least, "settings.reserve.reserve_floor", *reserve_floor, after.reserve_floor),
        (Guard::None, "settings.reserve.min_move", *min_move, after.min_move),
        (Guard::None, "settings.reserve.house_float_target", *house_float_target, after.house_float_target),
        (Guard::Least, "settings.reserve.house_float_floor", *house_float_floor, after.house_float_floor),
    ] {
        found.field(guard, field, before, after);
    }
    // What is due within a longer time counts as liquid.
    found.field(Guard::Most, "settings.reserve.horizon_seconds", *horizon_seconds, after.horizon_seconds);
    found.cap(true, "settings.reserve.max_change_per_run", *max_change_per_run, after.max_change_per_run);
    let addresses = (custody_address.as_str(), after.custody_address.as_str());
    found.field(Guard::Fixed, "settings.reserve.custody_address", addresses.0, addresses.1);
}

fn allocate(found: &mut Found, before: &AllocationSettings, after: &AllocationSettings) {
    let AllocationSettings { max_share_bps, max_group_share_bps, max_commission, max_validators } = before;
    found.field(Guard::Most, "settings.allocation.max_share_bps", *max_share_bps, after.max_share_bps);
    let groups = (*max_group_share_bps, after.max_group_share_bps);
    found.field(Guard::Most, "settings.allocation.max_group_share_bps", groups.0, groups.1);
    found.field(Guard::Most, "settings.allocation.max_commission", *max_commission, after.max_commission);
    found.cap(true, "settings.allocation.max_validators", *max_validators, after.max_validators);
}

fn limits(found: &mut Found, before: &ReleaseLimits, after: &ReleaseLimits) {
    let ReleaseLimits { approval_required, max_house_in, max_apr, max_apr_change, max_receipts_bps } = before;
    let required = (*approval_required, after.approval_required);
    found.field(Guard::Least, "settings.release_limits.approval_required", required.0, required.1);
    found.cap(true, "settings.release_limits.max_house_in", *max_house_in, after.max_house_in);
    found.cap(true, "settings.release_limits.max_apr", *max_apr, after.max_apr);
    found.cap(true, "settings.release_limits.max_apr_change", *max_apr_change, after.max_apr_change);
    found.cap(true, "settings.release_limits.max_receipts_bps", *max_receipts_bps, after.max_receipts_bps);
}
