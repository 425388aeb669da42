//! What a simulated chain is made of. Every figure is a plain field, so that a configuration can shorten it.

use rust_decimal::Decimal;

use super::codec::{Writer, draw};
use super::transaction::Transaction;
use crate::chain::{ChainError, ChainLimits, Descriptor, RewardStyle, WithdrawStyle};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AssetId, ChainId, ValidatorId};
use crate::domain::operation::{ChainPace, OperationKind};
use crate::domain::signing::{Decoded, Lifetime};
use crate::domain::time::UnixSeconds;
use crate::domain::validator::{ChainValidator, ValidatorStatus};

/// Rates inside the chain are integers out of this many.
pub(super) const RATE_SCALE: u64 = 1_000_000_000_000_000_000;

/// The most that may be in the world without rewards: custody at genesis plus donations.
pub(super) const MAX_SUPPLY: u128 = 1 << 120;

/// How unbondings are counted and when they mature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnbondingStyle {
    /// Each is an entry of its own and matures `unbonding_seconds` after its block (ATOM, TRX).
    Entries,
    /// Those of one epoch and validator are one entry, which matures `unbonding_seconds` after the epoch began (DOT).
    EpochEntries,
    /// One bucket per validator; each undelegation restarts the wait of all of it, counted from the start of the
    /// epoch (NEAR). While matured funds wait in the bucket an undelegation fails: on NEAR it would lock them again.
    SingleBucket,
    /// Everything undelegated in one lock-up cycle of the validator matures when that cycle ends; cycles last
    /// `unbonding_seconds` (APT).
    LockupCycle,
}

/// What an undelegation does when the amount does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndelegateStyle {
    /// Fails when it is more than is staked, or when it would leave less than the minimum (ATOM, TRX, NEAR).
    Exact,
    /// Takes at most what is staked; fails when it would leave less than the minimum (DOT).
    Clamps,
    /// Takes at most what is staked, and all of it when it would leave less than the minimum (APT).
    Sweeps,
}

/// A simulated chain: its rules, its validators, and what custody owns at genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedConfig {
    /// The chain's name.
    pub chain: ChainId,
    /// Its asset.
    pub asset: AssetId,
    /// Decimals of the asset.
    pub decimals: u32,
    /// The seed of everything that is drawn: validators, lock-up ends, flaky calls, the signing key.
    pub seed: u64,
    /// The time of block 0; where it is `None`, the moment at which the chain's file is created.
    pub genesis_at: Option<UnixSeconds>,
    /// What the custody address owns at block 0. Nothing else exists then but other people's stake.
    pub custody_balance: BaseUnits,
    /// Seconds between blocks.
    pub block_seconds: u64,
    /// Seconds between reward epochs; a multiple of `block_seconds`. Epoch boundaries count from genesis.
    pub epoch_seconds: u64,
    /// Seconds from undelegating to maturity, the longest where `unbonding` lets it vary.
    pub unbonding_seconds: u64,
    /// How unbondings are counted.
    pub unbonding: UnbondingStyle,
    /// What an undelegation that does not fit does.
    pub undelegate: UndelegateStyle,
    /// Whether an undelegation also pays out what has matured (TRX: of the account; APT: of the validator).
    pub undelegate_withdraws_matured: bool,
    /// How rewards are paid.
    pub reward_style: RewardStyle,
    /// How matured funds become liquid.
    pub withdraw_style: WithdrawStyle,
    /// Whether a claim or a withdrawal of nothing fails (TRX, NEAR) or does nothing (ATOM, DOT, APT).
    pub empty_collect_fails: bool,
    /// The limits, which the chain enforces.
    pub limits: ChainLimits,
    /// What every included transaction pays.
    pub fee: BaseUnits,
    /// What delegating to, undelegating or redelegating from a validator loses of what stays there, by rounding. No effect
    /// says so.
    pub rounding_units: BaseUnits,
    /// The yearly reward before commission, in hundredths of a percent of the stake, not compounded.
    pub apr_bps: u32,
    /// Seconds from acceptance to inclusion; the next block at the earliest.
    pub inclusion_delay_seconds: u64,
    /// Seconds from a block to its finality.
    pub finality_delay_seconds: u64,
    /// Seconds for which a prepared transaction may be included.
    pub expiry_seconds: u64,
    /// Whether transactions consume a nonce (all but TRX).
    pub has_nonce: bool,
    /// The validators; `tokens` is what others have staked with them.
    pub validators: Vec<ChainValidator>,
}

impl SimulatedConfig {
    /// The same chain with these validators, such as real ones read from a file.
    pub fn with_validators(mut self, validators: Vec<ChainValidator>) -> Self {
        self.validators = validators;
        self
    }

    /// The same chain with this much in custody at genesis.
    pub fn with_custody(mut self, balance: BaseUnits) -> Self {
        self.custody_balance = balance;
        self
    }

    /// The same chain with another seed, and validators drawn from it.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.validators = seeded_validators(seed, &self.asset, self.validators.len());
        self
    }

    /// The same chain with its waits (unbonding, epochs, lock of redelegated stake, claim interval) `divisor` times
    /// shorter, none shorter than a block. Block time and APR stay.
    pub fn scaled(mut self, divisor: u64) -> Self {
        let divisor = divisor.max(1);
        let block = self.block_seconds.max(1);
        let shorter = |seconds: u64| if seconds == 0 { 0 } else { (seconds / divisor / block).max(1) * block };
        self.epoch_seconds = shorter(self.epoch_seconds);
        self.unbonding_seconds = shorter(self.unbonding_seconds);
        self.limits.redelegation_lock_seconds = shorter(self.limits.redelegation_lock_seconds);
        self.limits.min_claim_interval_seconds = shorter(self.limits.min_claim_interval_seconds);
        self
    }

    /// What the chain says of itself.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            chain: self.chain.clone(),
            asset: self.asset.clone(),
            decimals: self.decimals,
            staking_address: format!("{}-staking", self.chain),
            custody_address: format!("{}-custody", self.chain),
            unbonding_seconds: self.unbonding_seconds,
            unbonding_join_seconds: match self.unbonding {
                UnbondingStyle::Entries | UnbondingStyle::SingleBucket => 0,
                UnbondingStyle::EpochEntries => self.epoch_seconds,
                UnbondingStyle::LockupCycle => self.unbonding_seconds,
            },
            epoch_seconds: self.epoch_seconds,
            reward_style: self.reward_style,
            withdraw_style: self.withdraw_style,
            limits: self.limits.clone(),
            pace: self.pace(),
            fee_estimate: self.fee,
            rounding_units: self.rounding_units,
            simulated: true,
        }
    }

    /// What a transaction says, as every chain's adapter tells it.
    pub(super) fn says(&self, said: Transaction) -> Decoded {
        let descriptor = self.descriptor();
        let leaves = matches!(said.kind, OperationKind::SendToCustody { .. });
        Decoded {
            intent: said.kind,
            sender: descriptor.staking_address,
            recipient: leaves.then_some(descriptor.custody_address),
            max_fee: self.fee,
            lifetime: Lifetime { nonce: said.nonce, expires_at: Some(said.expires_at), expires_height: None },
        }
    }

    /// A transaction is final once its block is; so is a move of stake, whatever the epoch.
    fn pace(&self) -> ChainPace {
        let blocks = self.inclusion_delay_seconds.saturating_add(self.block_seconds);
        let seconds = blocks.saturating_add(self.finality_delay_seconds);
        ChainPace { finality_seconds: seconds, stake_move_seconds: seconds }
    }

    /// Checks what the arithmetic of the chain relies on.
    pub(super) fn check(&self) -> Result<(), ChainError> {
        let refuse = |what: &str| Err(ChainError::Refused(format!("the simulated chain's configuration: {what}")));
        const LONGEST: u64 = 1 << 40;
        if self.block_seconds == 0 || self.block_seconds > LONGEST {
            return refuse("block_seconds is out of range");
        }
        if self.epoch_seconds == 0
            || self.epoch_seconds > LONGEST
            || !self.epoch_seconds.is_multiple_of(self.block_seconds)
        {
            return refuse("epoch_seconds has to be a positive multiple of block_seconds");
        }
        let waits = [
            self.unbonding_seconds,
            self.inclusion_delay_seconds,
            self.finality_delay_seconds,
            self.expiry_seconds,
            self.limits.redelegation_lock_seconds,
            self.limits.min_claim_interval_seconds,
        ];
        if waits.iter().any(|wait| *wait > LONGEST) || self.unbonding_seconds == 0 {
            return refuse("a wait is out of range");
        }
        if self.genesis_at.is_some_and(|at| u64::try_from(at.get()).map_or(true, |at| at > LONGEST)) {
            return refuse("genesis_at is out of range");
        }
        if self.custody_balance.get() > MAX_SUPPLY || self.fee.get() > MAX_SUPPLY {
            return refuse("custody_balance or fee is past 2^120 base units");
        }
        if self.apr_bps > 10_000 {
            return refuse("apr_bps is past 10000");
        }
        if self.limits.delegation_unit.is_zero() {
            return refuse("delegation_unit is zero");
        }
        let mut ids: Vec<&ValidatorId> = self.validators.iter().map(|validator| &validator.id).collect();
        ids.sort();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("a validator stands there twice");
        }
        for validator in &self.validators {
            if rate_to_integer(validator.commission).is_none() || validator.tokens.get() > MAX_SUPPLY {
                return refuse("a validator's commission or tokens are out of range");
            }
        }
        Ok(())
    }

    /// A hash of everything that decides what the chain does with its inputs. Delays and expiry are not in it: they
    /// are decided when an input is accepted.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut out = Writer::default();
        out.text(self.chain.as_str()).text(self.asset.as_str()).u32(self.decimals).u64(self.seed);
        out.u128(self.custody_balance.get()).u64(self.block_seconds).u64(self.epoch_seconds);
        out.u64(self.unbonding_seconds).u8(self.unbonding as u8).u8(self.undelegate as u8);
        out.flag(self.undelegate_withdraws_matured).u8(self.reward_style as u8).u8(self.withdraw_style as u8);
        out.flag(self.empty_collect_fails).u128(self.fee.get()).u32(self.apr_bps).flag(self.has_nonce);
        let limits = &self.limits;
        out.u128(limits.min_delegation.get()).u32(limits.max_unbonding_entries);
        out.flag(limits.unbonding_entries_per_account).flag(limits.redelegation);
        out.u64(limits.redelegation_lock_seconds).u32(limits.max_validators);
        out.u64(limits.min_claim_interval_seconds).u128(limits.delegation_unit.get());
        out.u128(self.rounding_units.get());
        let mut validators: Vec<&ChainValidator> = self.validators.iter().collect();
        validators.sort_by(|a, b| a.id.cmp(&b.id));
        out.u64(validators.len() as u64);
        for validator in validators {
            out.text(validator.id.as_str()).text(&validator.moniker).u8(validator.status as u8);
            out.u64(rate_to_integer(validator.commission).unwrap_or(0)).u128(validator.tokens.get());
        }
        *blake3::hash(&out.into_bytes()).as_bytes()
    }
}

/// A rate of 0 to 1 with at most 18 decimals, as an integer out of [`RATE_SCALE`].
pub(super) fn rate_to_integer(rate: Decimal) -> Option<u64> {
    let rate = rate.normalize();
    let mantissa = u64::try_from(rate.mantissa()).ok()?;
    let parts = mantissa.checked_mul(10_u64.checked_pow(18_u32.checked_sub(rate.scale())?)?)?;
    (parts <= RATE_SCALE).then_some(parts)
}

/// Validators as a chain might have them: commissions from 0 to 20%, stakes of others of very different size, the
/// last but one inactive and the last jailed (where there are three or more).
pub fn seeded_validators(seed: u64, asset: &AssetId, count: usize) -> Vec<ChainValidator> {
    let lower = asset.as_str().to_ascii_lowercase();
    let mut validators = Vec::with_capacity(count);
    for index in 0..count {
        let which = index as u64;
        let Ok(id) = ValidatorId::new(&format!("{lower}-validator-{index:03}")) else { continue };
        let status = match count - index {
            1 if count > 2 => ValidatorStatus::Jailed,
            2 if count > 2 => ValidatorStatus::Inactive,
            _ => ValidatorStatus::Active,
        };
        let commission_bps = match index {
            0 => 0,
            1 => 2_000,
            _ => draw(seed, "commission", which) % 2_001,
        };
        let tokens = 1_000_000_000_000 + draw(seed, "tokens", which) % (9_000_000_000_000_000 / (which + 1));
        validators.push(ChainValidator {
            id,
            moniker: format!("Simulated {} {}", asset.as_str(), index + 1),
            status,
            commission: Decimal::new(i64::try_from(commission_bps).unwrap_or(0), 4),
            tokens: BaseUnits::from_u64(tokens),
        });
    }
    validators
}
