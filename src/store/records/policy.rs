//! Records of what a pool goes by: its policies, its staking, its state.

use prost::Message;
use rust_decimal::Decimal;

use super::{Record, RecordError, field, message, required, units};
use crate::domain::amount::BaseUnits;
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use crate::domain::enrolment::RestrictedJurisdictions;
use crate::domain::fixed_apr::{AnnualRate, RewardPolicy, SlashPolicy};
use crate::domain::ids::{OperatorGroup, ValidatorId};
use crate::domain::policy::{
    AllocationSettings, ApprovalSettings, FeedSettings, PoolPolicy, PoolSettings, ReconcileSettings, ReleaseLimits,
    ReserveSettings,
};
use crate::domain::split::{FeeBps, PayoutUnit};
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// The policy that counts from a period on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// The first period that it counts for.
    pub from_period: u64,
    /// The policy.
    pub policy: PoolPolicy,
}

impl PolicyRecord {
    pub(super) fn to_pb(&self) -> pb::PolicyRecord {
        policy_to_pb(self.from_period, &self.policy)
    }

    pub(super) fn from_pb(record: &pb::PolicyRecord) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let reward = match (&record.fixed_apr_numerator, &record.fixed_apr_denominator) {
            (Some(numerator), Some(denominator)) => RewardPolicy::FixedApr(annual_rate(numerator, denominator)?),
            _ => RewardPolicy::ProRata,
        };
        Ok(Self {
            from_period: record.from_period,
            policy: PoolPolicy {
                eligibility: EligibilityPolicy {
                    minimum: units(name, "minimum", &record.minimum)?,
                    cap: record.cap.as_deref().map(|cap| units(name, "cap", cap)).transpose()?,
                    enrolment: if record.opt_in { EnrolmentMode::OptIn } else { EnrolmentMode::Automatic },
                },
                fee: field(name, "fee_bps", FeeBps::new(record.fee_bps))?,
                payout_unit: field(
                    name,
                    "payout_unit",
                    PayoutUnit::new(units(name, "payout_unit", &record.payout_unit)?),
                )?,
                period_seconds: record.period_seconds,
                reward,
                slash: if record.rewards_absorb_slashes {
                    SlashPolicy::RewardsAbsorb
                } else {
                    SlashPolicy::PlatformAbsorbs
                },
            },
        })
    }
}

pub(super) fn policy_to_pb(from_period: u64, policy: &PoolPolicy) -> pb::PolicyRecord {
    let rate = match policy.reward {
        RewardPolicy::ProRata => None,
        RewardPolicy::FixedApr(rate) => Some(rate),
    };
    pb::PolicyRecord {
        from_period,
        minimum: policy.eligibility.minimum.to_string(),
        cap: policy.eligibility.cap.map(|cap| cap.to_string()),
        opt_in: policy.eligibility.enrolment == EnrolmentMode::OptIn,
        fee_bps: policy.fee.get(),
        payout_unit: policy.payout_unit.get().to_string(),
        period_seconds: policy.period_seconds,
        fixed_apr_numerator: rate.map(|rate| rate.numerator().to_string()),
        fixed_apr_denominator: rate.map(|rate| rate.denominator().to_string()),
        rewards_absorb_slashes: policy.slash == SlashPolicy::RewardsAbsorb,
    }
}

/// The denominator of a stored rate is a power of ten, as that of every decimal is.
fn annual_rate(numerator: &str, denominator: &str) -> Result<AnnualRate, RecordError> {
    let name = PolicyRecord::NAME;
    let numerator: i128 = field(name, "fixed_apr_numerator", numerator.parse())?;
    let scale = field(name, "fixed_apr_denominator", u32::try_from(denominator.len().saturating_sub(1)))?;
    let rate = field(name, "fixed_apr", Decimal::try_from_i128_with_scale(numerator, scale))?;
    field(name, "fixed_apr", AnnualRate::new(rate))
}

impl Record for PolicyRecord {
    const NAME: &'static str = "policy";

    fn encode(&self) -> Vec<u8> {
        self.to_pb().encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::from_pb(&message(Self::NAME, bytes)?)
    }
}

/// What operators change of a pool outside its periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Why outflows are stopped; `None` while they run.
    pub paused: Option<String>,
    /// Grows with every change; the etag.
    pub version: u64,
    /// How it is run.
    pub settings: PoolSettings,
    /// What holds it where its store was restored: never without [`Self::paused`], and until it is resumed.
    pub restored: Option<Restored>,
}

/// What holds a pool whose store was restored from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// When its fence was lifted.
    pub at: UnixSeconds,
    /// The last number that was given to an operation or a transfer before the backup.
    pub last_sequence: u64,
    /// The height at which ledger and chain were found equal since, if they were.
    pub agreed_height: Option<u64>,
}

impl PoolState {
    /// Whether its outflows run, for people.
    pub fn shown(&self) -> String {
        let state = if self.restored.is_some() { "RESTORED" } else { "PAUSED" };
        self.paused.as_ref().map_or_else(|| "OPEN".to_owned(), |why| format!("{state}: {why}"))
    }

    /// Lets outflows go on.
    pub fn resume(&mut self) {
        (self.paused, self.restored) = (None, None);
    }
}

impl Record for PoolState {
    const NAME: &'static str = "pool state";

    fn encode(&self) -> Vec<u8> {
        pb::PoolStateRecord {
            paused: self.paused.is_some(),
            pause_reason: self.paused.clone().unwrap_or_default(),
            version: self.version,
            restored: self.restored.map(|restored| pb::RestoredRecord {
                at: restored.at.get(),
                last_sequence: restored.last_sequence,
                agreed_height: restored.agreed_height,
            }),
            settings: Some(settings_to_pb(&self.settings)),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::PoolStateRecord = message(name, bytes)?;
        // Whoever is restored is paused: what the record does not say so is damage.
        let restored = record.restored.map(|restored| Restored {
            at: UnixSeconds::new(restored.at),
            last_sequence: restored.last_sequence,
            agreed_height: restored.agreed_height,
        });
        if restored.is_some() {
            required(name, "a pause of a restored pool", record.paused.then_some(()))?;
        }
        Ok(Self {
            restored,
            paused: record.paused.then_some(record.pause_reason),
            version: record.version,
            settings: settings_from_pb(name, &required(name, "settings", record.settings)?)?,
        })
    }
}

pub(super) fn settings_to_pb(settings: &PoolSettings) -> pb::SettingsRecord {
    let PoolSettings { reserve, allocation, release, feed, reconcile, approval, restricted } = settings;
    pb::SettingsRecord {
        reserve_ratio_bps: reserve.reserve_ratio_bps,
        reserve_floor: reserve.reserve_floor.to_string(),
        horizon_seconds: reserve.horizon_seconds,
        custody_share_bps: reserve.custody_share_bps,
        hysteresis_bps: reserve.hysteresis_bps,
        min_move: reserve.min_move.to_string(),
        max_change_per_run: reserve.max_change_per_run.map(|most| most.to_string()),
        house_float_target: reserve.house_float_target.to_string(),
        house_float_floor: reserve.house_float_floor.to_string(),
        rebalance_interval_seconds: reserve.rebalance_interval_seconds,
        max_share_bps: allocation.max_share_bps,
        max_group_share_bps: allocation.max_group_share_bps,
        max_commission: allocation.max_commission.to_string(),
        max_validators: allocation.max_validators,
        approval_required: release.approval_required,
        max_house_in: release.max_house_in.map(|most| most.to_string()),
        max_skew_seconds: feed.max_skew_seconds,
        max_lateness_seconds: feed.max_lateness_seconds,
        close_grace_seconds: feed.close_grace_seconds,
        forecast_percentile_bps: reserve.forecast_percentile_bps,
        forecast_windows: reserve.forecast_windows,
        forecast_ceiling_bps: reserve.forecast_ceiling_bps,
        max_outflow_per_run_bps: reserve.max_outflow_per_run_bps,
        max_outflow_per_day_bps: reserve.max_outflow_per_day_bps,
        custody_address: reserve.custody_address.clone(),
        max_apr: release.max_apr.map(|most| most.to_string()),
        max_apr_change: release.max_apr_change.map(|most| most.to_string()),
        max_receipts_bps: release.max_receipts_bps,
        reconcile_tolerance: reconcile.tolerance.to_string(),
        single_person_limit: approval.single_person_limit.to_string(),
        restricted_jurisdictions: restricted.codes().map(str::to_owned).collect(),
    }
}

pub(super) fn settings_from_pb(name: &'static str, settings: &pb::SettingsRecord) -> Result<PoolSettings, RecordError> {
    let optional = |what: &str, text: &Option<String>| -> Result<Option<BaseUnits>, RecordError> {
        text.as_deref().map(|text| units(name, what, text)).transpose()
    };
    let or_zero = |what: &str, text: &str| if text.is_empty() { Ok(BaseUnits::ZERO) } else { units(name, what, text) };
    let rate = |what: &str, text: &Option<String>| -> Result<Option<Decimal>, RecordError> {
        text.as_deref().map(|text| field(name, what, Decimal::from_str_exact(text))).transpose()
    };
    Ok(PoolSettings {
        reserve: ReserveSettings {
            reserve_ratio_bps: settings.reserve_ratio_bps,
            reserve_floor: units(name, "reserve_floor", &settings.reserve_floor)?,
            forecast_percentile_bps: settings.forecast_percentile_bps,
            forecast_windows: settings.forecast_windows,
            forecast_ceiling_bps: settings.forecast_ceiling_bps,
            horizon_seconds: settings.horizon_seconds,
            custody_share_bps: settings.custody_share_bps,
            hysteresis_bps: settings.hysteresis_bps,
            min_move: units(name, "min_move", &settings.min_move)?,
            max_change_per_run: optional("max_change_per_run", &settings.max_change_per_run)?,
            max_outflow_per_run_bps: settings.max_outflow_per_run_bps,
            max_outflow_per_day_bps: settings.max_outflow_per_day_bps,
            custody_address: settings.custody_address.clone(),
            house_float_target: units(name, "house_float_target", &settings.house_float_target)?,
            house_float_floor: units(name, "house_float_floor", &settings.house_float_floor)?,
            rebalance_interval_seconds: settings.rebalance_interval_seconds,
        },
        allocation: AllocationSettings {
            max_share_bps: settings.max_share_bps,
            max_group_share_bps: settings.max_group_share_bps,
            max_commission: field(name, "max_commission", Decimal::from_str_exact(&settings.max_commission))?,
            max_validators: settings.max_validators,
        },
        release: ReleaseLimits {
            approval_required: settings.approval_required,
            max_house_in: optional("max_house_in", &settings.max_house_in)?,
            max_apr: rate("max_apr", &settings.max_apr)?,
            max_apr_change: rate("max_apr_change", &settings.max_apr_change)?,
            max_receipts_bps: settings.max_receipts_bps,
        },
        feed: FeedSettings {
            max_skew_seconds: settings.max_skew_seconds,
            max_lateness_seconds: settings.max_lateness_seconds,
            close_grace_seconds: settings.close_grace_seconds,
        },
        reconcile: ReconcileSettings { tolerance: or_zero("reconcile_tolerance", &settings.reconcile_tolerance)? },
        approval: ApprovalSettings {
            single_person_limit: or_zero("single_person_limit", &settings.single_person_limit)?,
        },
        restricted: field(
            name,
            "restricted_jurisdictions",
            RestrictedJurisdictions::new(settings.restricted_jurisdictions.iter().map(String::as_str)),
        )?,
    })
}

/// A validator as the operators want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorChoice {
    /// Which.
    pub id: ValidatorId,
    /// Its weight in the allocation, relative to the others'.
    pub weight: u32,
    /// Who runs it, where that matters for the cap of a group.
    pub group: Option<OperatorGroup>,
    /// Whether its stake is to be drained.
    pub removed: bool,
}

impl ValidatorChoice {
    /// What is wanted of it, for people.
    pub fn shown(&self) -> String {
        let group = self.group.as_ref().map(|group| format!(", group {group}")).unwrap_or_default();
        let removed = if self.removed { ", removed" } else { "" };
        format!("weight {}{group}{removed}", self.weight)
    }
}

impl Record for ValidatorChoice {
    const NAME: &'static str = "validator";

    fn encode(&self) -> Vec<u8> {
        pb::ValidatorRecord {
            id: self.id.to_string(),
            weight: self.weight,
            group: self.group.as_ref().map(ToString::to_string).unwrap_or_default(),
            removed: self.removed,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::ValidatorRecord = message(Self::NAME, bytes)?;
        let group = (!record.group.is_empty()).then(|| OperatorGroup::new(&record.group)).transpose();
        Ok(Self {
            id: field(Self::NAME, "id", ValidatorId::new(&record.id))?,
            weight: record.weight,
            group: field(Self::NAME, "group", group)?,
            removed: record.removed,
        })
    }
}
