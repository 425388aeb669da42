//! Records of what a pool goes by: its policies, its staking, its state.

use prost::Message;
use rust_decimal::Decimal;

use super::{Record, RecordError, field, message, required, units};
use crate::domain::amount::BaseUnits;
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use crate::domain::fixed_apr::{AnnualRate, RewardPolicy, SlashPolicy};
use crate::domain::ids::{OperatorGroup, ValidatorId};
use crate::domain::policy::{PoolPolicy, StakingPolicy};
use crate::domain::split::{FeeBps, PayoutUnit};
use crate::pb::softstake::store::v1 as pb;

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
        let policy = &self.policy;
        let rate = match policy.reward {
            RewardPolicy::ProRata => None,
            RewardPolicy::FixedApr(rate) => Some(rate),
        };
        pb::PolicyRecord {
            from_period: self.from_period,
            minimum: policy.eligibility.minimum.to_string(),
            cap: policy.eligibility.cap.map(|cap| cap.to_string()),
            opt_in: policy.eligibility.enrolment == EnrolmentMode::OptIn,
            fee_bps: policy.fee.get(),
            payout_unit: policy.payout_unit.get().to_string(),
            period_seconds: policy.period_seconds,
            fixed_apr_numerator: rate.map(|rate| rate.numerator().to_string()),
            fixed_apr_denominator: rate.map(|rate| rate.denominator().to_string()),
            rewards_absorb_slashes: policy.slash == SlashPolicy::RewardsAbsorb,
            max_house_in: policy.max_house_in.to_string(),
        }
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
                max_house_in: units(name, "max_house_in", &record.max_house_in)?,
            },
        })
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
    /// How it stakes.
    pub staking: StakingPolicy,
}

impl Record for PoolState {
    const NAME: &'static str = "pool state";

    fn encode(&self) -> Vec<u8> {
        let staking = &self.staking;
        pb::PoolStateRecord {
            paused: self.paused.is_some(),
            pause_reason: self.paused.clone().unwrap_or_default(),
            version: self.version,
            staking: Some(pb::StakingRecord {
                reserve_ratio_bps: staking.reserve_ratio_bps,
                reserve_floor: staking.reserve_floor.to_string(),
                hysteresis_bps: staking.hysteresis_bps,
                max_change_per_run: staking.max_change_per_run.map(|most| most.to_string()),
                horizon_seconds: staking.horizon_seconds,
                house_float_floor: staking.house_float_floor.to_string(),
                house_float_target: staking.house_float_target.to_string(),
                max_share_bps: staking.max_share_bps,
                max_group_share_bps: staking.max_group_share_bps,
                max_commission: staking.max_commission.to_string(),
                max_validators: staking.max_validators,
            }),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::PoolStateRecord = message(name, bytes)?;
        let staking = required(name, "staking", record.staking)?;
        Ok(Self {
            paused: record.paused.then_some(record.pause_reason),
            version: record.version,
            staking: StakingPolicy {
                reserve_ratio_bps: staking.reserve_ratio_bps,
                reserve_floor: units(name, "reserve_floor", &staking.reserve_floor)?,
                hysteresis_bps: staking.hysteresis_bps,
                max_change_per_run: staking
                    .max_change_per_run
                    .as_deref()
                    .map(|most| units(name, "max_change_per_run", most))
                    .transpose()?,
                horizon_seconds: staking.horizon_seconds,
                house_float_floor: units(name, "house_float_floor", &staking.house_float_floor)?,
                house_float_target: units(name, "house_float_target", &staking.house_float_target)?,
                max_share_bps: staking.max_share_bps,
                max_group_share_bps: staking.max_group_share_bps,
                max_commission: field(name, "max_commission", Decimal::from_str_exact(&staking.max_commission))?,
                max_validators: staking.max_validators,
            },
        })
    }
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
