//! How a world begins: three pools on three chains, their policies, the sources, and who holds what. All drawn.

use rust_decimal::Decimal;

use crate::app::Settings;
use crate::app::administer::NewPool;
use crate::book::BookConfig;
use crate::chain::simulated::{SimulatedConfig, presets};
use crate::domain::amount::BaseUnits;
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use crate::domain::enrolment::RestrictedJurisdictions;
use crate::domain::fixed_apr::{AnnualRate, RewardPolicy, SlashPolicy};
use crate::domain::ids::PoolId;
use crate::domain::policy::{
    AllocationSettings, ApprovalSettings, FeedSettings, PoolPolicy, PoolSettings, ReconcileSettings, ReleaseLimits,
    ReserveSettings,
};
use crate::domain::split::{FeeBps, PayoutUnit};
use crate::domain::time::UnixSeconds;

use super::Problem;
use super::rng::Rng;

/// The first moment of every world: a midnight.
pub(super) const START: i64 = 1_795_305_600;
/// How many pools a world has.
pub(super) const POOLS: usize = 3;
/// How many accounts a world has.
pub(super) const ACCOUNTS: usize = 24;

/// By how much each preset's waits are shortened, so that an unbonding takes some hours and an epoch some minutes.
const DIVISORS: [(&str, u64); 5] = [("atom", 200), ("dot", 200), ("trx", 100), ("near", 20), ("apt", 100)];

/// Draws the chains of a world.
pub(super) fn chains(rng: &mut Rng) -> Vec<(&'static str, SimulatedConfig)> {
    let mut left = DIVISORS.to_vec();
    let mut chosen = Vec::new();
    while chosen.len() < POOLS && !left.is_empty() {
        let (name, divisor) = left.remove(rng.index(left.len()));
        let Some(preset) = presets::preset(name) else { continue };
        let mut config = preset.with_seed(rng.bits()).scaled(divisor);
        config.genesis_at = Some(UnixSeconds::new(START - 600));
        let validators = usize::try_from(rng.between(5, 8)).unwrap_or(5);
        config.validators.truncate(validators);
        // Some chains pay so much that limits have to stop it.
        config.apr_bps = if rng.below(6) == 0 { 10_000 } else { config.apr_bps };
        chosen.push((name, config));
    }
    chosen
}

/// One token of a chain, in base units.
pub(super) fn token(config: &SimulatedConfig) -> u128 {
    10_u128.pow(config.decimals.min(30))
}

/// Draws a policy.
pub(super) fn policy(rng: &mut Rng, config: &SimulatedConfig) -> Result<PoolPolicy, Problem> {
    let token = token(config);
    let minimum = [0, 1, token / 2, token * 10][rng.index(4)];
    let cap = (rng.below(3) == 0).then(|| token * u128::from(rng.between(1_000, 20_000)));
    let enrolment = if rng.below(4) == 0 { EnrolmentMode::OptIn } else { EnrolmentMode::Automatic };
    let fixed = rng.below(5) == 0;
    let rate = AnnualRate::new(Decimal::new(i64::try_from(rng.between(0, 1_500)).unwrap_or(0), 4));
    let reward = if fixed { RewardPolicy::FixedApr(rate.map_err(Problem::of)?) } else { RewardPolicy::ProRata };
    let absorb = !fixed && rng.below(3) == 0;
    let unit = [1, 1, 10, 1_000, token / 1_000_000][rng.index(5)].max(1);
    Ok(PoolPolicy {
        eligibility: EligibilityPolicy { minimum: units(minimum)?, cap: cap.map(units).transpose()?, enrolment },
        fee: FeeBps::new(u32::try_from(rng.between(0, 2_500)).unwrap_or(0)).map_err(Problem::of)?,
        payout_unit: PayoutUnit::new(units(unit)?).map_err(Problem::of)?,
        period_seconds: u32::try_from([3_600, 3_600, 2_700, 5_400][rng.index(4)]).unwrap_or(3_600),
        reward,
        slash: if absorb { SlashPolicy::RewardsAbsorb } else { SlashPolicy::PlatformAbsorbs },
    })
}

/// Draws settings.
pub(super) fn settings(rng: &mut Rng, config: &SimulatedConfig) -> Result<PoolSettings, Problem> {
    let token = token(config);
    let fee = config.fee.get().max(1);
    let float = fee * [400, 400, 4_000][rng.index(3)];
    let bps = |rng: &mut Rng, from: u64, to: u64| u32::try_from(rng.between(from, to)).unwrap_or(0);
    let most = (rng.below(3) == 0).then(|| token * u128::from(rng.between(2_000, 50_000)));
    Ok(PoolSettings {
        reserve: ReserveSettings {
            reserve_ratio_bps: bps(rng, 0, 3_000),
            custody_share_bps: bps(rng, 0, 10_000),
            hysteresis_bps: bps(rng, 0, 300),
            reserve_floor: units(token * u128::from(rng.below(500)))?,
            forecast_percentile_bps: bps(rng, 5_000, 10_000),
            forecast_windows: bps(rng, 1, 30),
            forecast_ceiling_bps: [10_000, 5_000][rng.index(2)],
            horizon_seconds: rng.below(20_000),
            min_move: units(token)?,
            max_change_per_run: most.map(units).transpose()?,
            max_outflow_per_run_bps: [10_000, 5_000, 2_000][rng.index(3)],
            max_outflow_per_day_bps: [10_000, 8_000][rng.index(2)],
            custody_address: match rng.below(20) {
                0 => "somewhere-else".to_owned(),
                _ => config.descriptor().custody_address,
            },
            house_float_target: units(float)?,
            house_float_floor: units(float / 400 * [40, 40, 390, 390][rng.index(4)])?,
            rebalance_interval_seconds: u32::try_from([60, 300, 600, 1_200][rng.index(4)]).unwrap_or(600),
        },
        allocation: AllocationSettings {
            max_share_bps: [10_000, 5_000, 3_000][rng.index(3)],
            max_group_share_bps: [10_000, 6_000][rng.index(2)],
            max_commission: Decimal::new(i64::try_from(rng.between(10, 100)).unwrap_or(100), 2),
            max_validators: (rng.below(3) == 0).then(|| u32::try_from(rng.between(2, 6)).unwrap_or(4)),
        },
        release: release(rng, token)?,
        feed: FeedSettings {
            max_skew_seconds: bps(rng, 0, 120),
            max_lateness_seconds: bps(rng, 3_600, 14_400),
            close_grace_seconds: bps(rng, 300, 1_500),
        },
        reconcile: ReconcileSettings::default(),
        restricted: RestrictedJurisdictions::default(),
        approval: ApprovalSettings { single_person_limit: units(token * [0, 50, 1_000_000][rng.index(3)])? },
    })
}

fn release(rng: &mut Rng, token: u128) -> Result<ReleaseLimits, Problem> {
    Ok(ReleaseLimits {
        approval_required: rng.below(6) == 0,
        max_apr: (rng.below(3) == 0).then(|| Decimal::new(i64::try_from(rng.between(5, 500)).unwrap_or(500), 3)),
        max_apr_change: (rng.below(4) == 0).then(|| Decimal::new(i64::try_from(rng.between(1, 30)).unwrap_or(30), 1)),
        max_receipts_bps: (rng.below(3) == 0).then(|| [1, 1, 20, 200][rng.index(4)]),
        max_house_in: (rng.below(2) == 0).then(|| units(token / 1_000 * u128::from(rng.below(3)))).transpose()?,
    })
}

/// Draws a pool on a chain. `partitions` counts instead of what is drawn, where it is given.
pub(super) fn pool(
    rng: &mut Rng,
    name: &str,
    config: &SimulatedConfig,
    partitions: Option<u16>,
) -> Result<NewPool, Problem> {
    let drawn = u16::try_from(rng.between(1, 4)).unwrap_or(1);
    Ok(NewPool {
        id: PoolId::new(name).map_err(Problem::of)?,
        chain: config.chain.clone(),
        asset: config.asset.clone(),
        first_period_start: Some(UnixSeconds::new(START)),
        partitions: partitions.unwrap_or(drawn),
        policy: policy(rng, config)?,
        // A pool begins without a limit for one person.
        settings: PoolSettings { approval: ApprovalSettings::default(), ..settings(rng, config)? },
    })
}

/// How the service is run.
pub(super) fn app_settings(rng: &mut Rng) -> Settings {
    Settings {
        claim_lead_seconds: rng.between(60, 600),
        observe_interval_seconds: [10, 30, 60][rng.index(3)],
        max_attempts: u32::try_from(rng.between(1, 6)).unwrap_or(4),
        max_operation_seconds: rng.between(600, 3_600),
        retry_base_seconds: rng.between(1, 20),
        max_future_seconds: 120,
    }
}

/// A book with little room. In some worlds checkpoints begin by themselves, which is not the same for any partitioning;
/// a few keep their events no longer than they have to.
pub(super) fn book_config(rng: &mut Rng) -> BookConfig {
    BookConfig {
        queue_commands: 64,
        queue_events: 96,
        group_events: 48,
        checkpoint_journal_bytes: [u64::MAX, u64::MAX, 24_000, 6_000][rng.index(4)],
        archive_for_ever: rng.below(16) > 0,
        ..BookConfig::default()
    }
}

/// An amount.
pub(super) fn units(amount: u128) -> Result<BaseUnits, Problem> {
    BaseUnits::new(amount).map_err(Problem::of)
}
