//! From the configuration's plain values to the types of the rooms.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rust_decimal::Decimal;

use crate::api::Limits;
use crate::app::administer::NewPool;
use crate::app::{Descriptor, Settings};
use crate::chain::simulated::{SimulatedConfig, presets};
use crate::config::{
    Config, EnrolmentMode, PoolSettings as ConfiguredPool, RewardSettings, SimulatedSettings, SlashSettings,
};
use crate::domain::amount::{AmountError, BaseUnits};
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode as Enrolment};
use crate::domain::enrolment::RestrictedJurisdictions;
use crate::domain::fixed_apr::{AnnualRate, RewardPolicy, SlashPolicy};
use crate::domain::ids::{AssetId, PoolId, ValidatorId};
use crate::domain::policy::{
    AllocationSettings, ApprovalSettings, FeedSettings, PoolPolicy, PoolSettings, ReconcileSettings, ReleaseLimits,
    ReserveSettings,
};
use crate::domain::split::{FeeBps, PayoutUnit};
use crate::domain::time::UnixSeconds;
use crate::domain::validator::{ChainValidator, ValidatorStatus};

use super::NodeError;

/// What is wrong with one key, for people.
fn at<E: std::fmt::Display>(key: impl Into<String>) -> impl FnOnce(E) -> NodeError {
    let key = key.into();
    move |error| NodeError::Setting { key, problem: error.to_string() }
}

fn units(units: u128) -> Result<BaseUnits, AmountError> {
    BaseUnits::new(units)
}

/// What the steps go by.
pub(super) fn app_settings(config: &Config) -> Result<Settings, NodeError> {
    let future = u32::try_from(config.feed.max_future_seconds).map_err(at("feed.max_future_seconds"))?;
    Ok(Settings {
        claim_lead_seconds: config.intervals.collect_before_end_seconds,
        observe_interval_seconds: config.intervals.observe_interval_seconds,
        max_attempts: config.operations.max_attempts,
        max_operation_seconds: config.operations.max_age_seconds,
        retry_base_seconds: config.operations.retry_base_seconds,
        max_future_seconds: future,
    })
}

/// What the gRPC surface takes.
pub(super) fn api_limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        max_message_bytes: limits.max_message_bytes,
        max_batch_events: limits.max_batch_events,
        max_open_streams: limits.max_open_streams,
        stream_queue_batches: limits.stream_queue_batches,
        max_unread_bytes: limits.max_unread_bytes,
        unread: std::time::Duration::from_millis(limits.unread_timeout_ms),
    }
}

/// The simulated chain of a configured pool.
pub(super) fn simulated(id: &str, settings: &SimulatedSettings) -> Result<SimulatedConfig, NodeError> {
    let key = |name: &str| format!("pools.{id}.chain.{name}");
    let preset = settings.preset.name();
    let mut chain = presets::preset(preset)
        .ok_or_else(|| NodeError::Setting { key: key("preset"), problem: format!("there is no preset {preset}") })?
        .with_seed(settings.seed);
    if let Some(path) = &settings.validators_csv {
        chain = chain.with_validators(validators(&key("validators_csv"), path)?);
    }
    let custody = units(settings.custody_genesis_base_units).map_err(at(key("custody_genesis_base_units")))?;
    chain = chain.with_custody(custody);
    if let Some(apr) = settings.apr {
        let bps = (apr * Decimal::from(10_000_u32)).normalize();
        let whole = bps.scale() == 0;
        let bps = u32::try_from(bps.mantissa()).ok().filter(|_| whole);
        chain.apr_bps = bps.ok_or_else(|| NodeError::Setting {
            key: key("apr"),
            problem: "a simulated chain's rate is a whole number of hundredths of a percent, from 0 to 1".to_owned(),
        })?;
    }
    if let Some(seconds) = settings.unbonding_seconds {
        chain.unbonding_seconds = seconds;
        chain.limits.redelegation_lock_seconds = chain.limits.redelegation_lock_seconds.min(seconds);
    }
    if let Some(seconds) = settings.epoch_seconds {
        chain.epoch_seconds = seconds;
        chain.block_seconds = chain.block_seconds.min(seconds);
    }
    Ok(chain)
}

/// One line of a file of validators.
#[derive(serde::Deserialize)]
struct ValidatorLine {
    operator_address: String,
    moniker: String,
    status: String,
    jailed: String,
    tokens_base_units: String,
    commission_rate: String,
}

/// Validators from a CSV file: operator_address,moniker,status,jailed,tokens_base_units,commission_rate.
fn validators(key: &str, path: &Path) -> Result<Vec<ChainValidator>, NodeError> {
    let file = File::open(path).map_err(at(key))?;
    read_validators(key, path, file)
}

/// The same of bytes that come from anywhere.
pub(super) fn read_validators(key: &str, path: &Path, file: impl Read) -> Result<Vec<ChainValidator>, NodeError> {
    let mut reader = csv::Reader::from_reader(file);
    let mut validators = Vec::new();
    for (index, line) in reader.deserialize::<ValidatorLine>().enumerate() {
        let place = |name: &str| format!("{key}: {} line {}, {name}", path.display(), index + 2);
        let line = line.map_err(at(place("the line")))?;
        let status = match (line.jailed.as_str(), line.status.as_str()) {
            ("true", _) => ValidatorStatus::Jailed,
            ("false", "BONDED") => ValidatorStatus::Active,
            ("false", "UNBONDING" | "UNBONDED") => ValidatorStatus::Inactive,
            _ => {
                let problem = "BONDED, UNBONDING or UNBONDED, and jailed true or false, are known".to_owned();
                return Err(NodeError::Setting { key: place("status"), problem });
            }
        };
        let commission = Decimal::from_str_exact(&line.commission_rate);
        validators.push(ChainValidator {
            id: ValidatorId::new(&line.operator_address).map_err(at(place("operator_address")))?,
            moniker: line.moniker,
            status,
            commission: commission.map_err(at(place("commission_rate")))?,
            tokens: line.tokens_base_units.parse().map_err(at(place("tokens_base_units")))?,
        });
    }
    Ok(validators)
}

/// What a configured pool is created as.
pub(super) fn new_pool(config: &Config, pool: &ConfiguredPool, chain: &Descriptor) -> Result<NewPool, NodeError> {
    let key = |name: &str| format!("pools.{}.{name}", pool.id);
    let policy = &pool.policy;
    let reward = match policy.reward {
        RewardSettings::ProRata => RewardPolicy::ProRata,
        RewardSettings::FixedApr(rate) => {
            RewardPolicy::FixedApr(AnnualRate::new(rate).map_err(at(key("policy.fixed_apr")))?)
        }
    };
    let seconds = |name: &str, seconds: u64| u32::try_from(seconds).map_err(at(key(name)));
    let optional = |name: &str, amount: Option<u128>| amount.map(units).transpose().map_err(at(key(name)));
    let payout_unit = units(policy.payout_unit_base_units).map_err(at(key("policy.payout_unit_base_units")))?;
    Ok(NewPool {
        id: PoolId::new(&pool.id).map_err(at(key("id")))?,
        chain: chain.chain.clone(),
        asset: AssetId::new(&pool.asset).map_err(at(key("asset")))?,
        first_period_start: pool.first_period_start_seconds.map(UnixSeconds::new),
        partitions: u16::try_from(config.book.partitions).map_err(at("book.partitions"))?,
        policy: PoolPolicy {
            eligibility: EligibilityPolicy {
                minimum: units(policy.minimum_base_units).map_err(at(key("policy.minimum_base_units")))?,
                cap: optional("policy.cap_base_units", policy.cap_base_units)?,
                enrolment: match policy.enrolment {
                    EnrolmentMode::Automatic => Enrolment::Automatic,
                    EnrolmentMode::OptIn => Enrolment::OptIn,
                },
            },
            fee: FeeBps::new(policy.fee_bps).map_err(at(key("policy.fee_bps")))?,
            payout_unit: PayoutUnit::new(payout_unit).map_err(at(key("policy.payout_unit_base_units")))?,
            period_seconds: pool.period_seconds,
            reward,
            slash: match policy.slash {
                SlashSettings::PlatformAbsorbs => SlashPolicy::PlatformAbsorbs,
                SlashSettings::RewardsAbsorb => SlashPolicy::RewardsAbsorb,
            },
        },
        settings: PoolSettings {
            reserve: ReserveSettings {
                reserve_ratio_bps: pool.reserve.ratio_bps,
                custody_share_bps: pool.reserve.custody_share_bps,
                hysteresis_bps: pool.reserve.hysteresis_bps,
                reserve_floor: units(pool.reserve.floor_base_units).map_err(at(key("reserve.floor_base_units")))?,
                horizon_seconds: pool.reserve.horizon_seconds,
                min_move: units(pool.reserve.min_move_base_units).map_err(at(key("reserve.min_move_base_units")))?,
                forecast_percentile_bps: pool.reserve.forecast_percentile_bps,
                forecast_windows: pool.reserve.forecast_windows,
                forecast_ceiling_bps: pool.reserve.forecast_ceiling_bps,
                max_outflow_per_run_bps: pool.reserve.max_outflow_per_run_bps,
                max_outflow_per_day_bps: pool.reserve.max_outflow_per_day_bps,
                custody_address: pool.reserve.custody_address.clone().unwrap_or_else(|| chain.custody_address.clone()),
                max_change_per_run: optional(
                    "reserve.max_change_per_run_base_units",
                    pool.reserve.max_change_per_run_base_units,
                )?,
                house_float_target: units(pool.house.float_target_base_units)
                    .map_err(at(key("house.float_target_base_units")))?,
                house_float_floor: units(pool.house.float_floor_base_units)
                    .map_err(at(key("house.float_floor_base_units")))?,
                rebalance_interval_seconds: seconds(
                    "intervals.rebalance_interval_seconds",
                    config.intervals.rebalance_interval_seconds,
                )?,
            },
            allocation: AllocationSettings {
                max_share_bps: pool.allocation.max_share_bps,
                max_group_share_bps: pool.allocation.max_group_share_bps,
                max_commission: pool.allocation.max_commission,
                max_validators: Some(pool.allocation.max_validators),
            },
            release: ReleaseLimits {
                approval_required: pool.release.approval_required,
                max_house_in: optional("release.max_house_in_base_units", pool.release.max_house_in_base_units)?,
                max_apr: Some(pool.release.max_apr),
                max_apr_change: Some(pool.release.max_apr_change),
                max_receipts_bps: Some(pool.release.max_receipts_bps),
            },
            feed: FeedSettings {
                max_skew_seconds: seconds("feed.max_skew_seconds", config.feed.max_skew_seconds)?,
                max_lateness_seconds: seconds("feed.max_lateness_seconds", config.feed.max_lateness_seconds)?,
                close_grace_seconds: seconds("feed.close_grace_seconds", config.feed.close_grace_seconds)?,
            },
            reconcile: ReconcileSettings {
                tolerance: units(pool.reconcile.tolerance_base_units)
                    .map_err(at(key("reconcile.tolerance_base_units")))?,
            },
            restricted: RestrictedJurisdictions::default(),
            approval: ApprovalSettings::default(),
        },
    })
}
