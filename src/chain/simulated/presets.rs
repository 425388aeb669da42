//! The five chains with their true figures, simulated. Where a figure comes from stands beside it; what a real chain
//! lets its governance change is what the chain had when this was written.
//!
//! Delays are those of the real chains, in whole blocks. Genesis custody is a large round sum; set it with
//! [`SimulatedConfig::with_custody`].

use super::config::{SimulatedConfig, UnbondingStyle, UndelegateStyle, seeded_validators};
use crate::chain::{ChainLimits, RewardStyle, WithdrawStyle};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AssetId, ChainId};

/// The names of the presets.
pub const NAMES: [&str; 5] = ["atom", "dot", "trx", "near", "apt"];

const SEED: u64 = 1;
const VALIDATORS: usize = 12;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// The preset of one of [`NAMES`], in any case.
pub fn preset(name: &str) -> Option<SimulatedConfig> {
    match name.to_ascii_lowercase().as_str() {
        "atom" => Some(atom()),
        "dot" => Some(dot()),
        "trx" => Some(trx()),
        "near" => Some(near()),
        "apt" => Some(apt()),
        _ => None,
    }
}

/// What the five differ least in.
#[expect(clippy::expect_used, reason = "literals, checked by the test that makes every preset")]
fn base(chain: &str, asset: &str, decimals: u32, whole_tokens: u64) -> SimulatedConfig {
    let asset = AssetId::new(asset).expect("a literal of upper-case letters");
    let unit = BaseUnits::from_u64(10_u64.pow(decimals.min(18)));
    let more = 10_u128.pow(decimals.saturating_sub(18));
    let custody = unit.mul_div_floor(u128::from(whole_tokens) * more, 1).expect("below 2^120 in every preset");
    SimulatedConfig {
        chain: ChainId::new(chain).expect("a literal of letters and hyphens"),
        decimals,
        seed: SEED,
        genesis_at: None,
        custody_balance: custody,
        block_seconds: 6,
        epoch_seconds: 6,
        unbonding_seconds: 21 * DAY,
        unbonding: UnbondingStyle::Entries,
        undelegate: UndelegateStyle::Exact,
        undelegate_withdraws_matured: false,
        reward_style: RewardStyle::ClaimPerValidator,
        withdraw_style: WithdrawStyle::Automatic,
        empty_collect_fails: false,
        limits: ChainLimits {
            min_delegation: BaseUnits::from_u64(1),
            max_unbonding_entries: 7,
            unbonding_entries_per_account: false,
            redelegation: true,
            redelegation_lock_seconds: 0,
            max_validators: u32::MAX,
            min_claim_interval_seconds: 0,
            delegation_unit: BaseUnits::from_u64(1),
        },
        fee: BaseUnits::ZERO,
        rounding_units: BaseUnits::ZERO,
        apr_bps: 0,
        inclusion_delay_seconds: 0,
        finality_delay_seconds: 0,
        expiry_seconds: 120,
        has_nonce: true,
        validators: seeded_validators(SEED, &asset, VALIDATORS),
        asset,
    }
}

/// Cosmos Hub, ATOM.
pub fn atom() -> SimulatedConfig {
    let mut config = base("simulated-cosmoshub", "ATOM", 6, 1_000_000_000);
    // Cosmos SDK x/staking default parameters: unbonding_time 21 days, max_entries 7 per delegator and validator, for
    // redelegations per delegator and pair. Redelegated stake is locked for the unbonding time.
    config.unbonding_seconds = 21 * DAY;
    config.limits.max_unbonding_entries = 7;
    config.limits.redelegation_lock_seconds = 21 * DAY;
    // x/distribution: rewards accrue each block, wait per pair, and are withdrawn by any change of the pair's shares.
    // x/staking: matured unbondings are credited by the end blocker. Blocks take about 6 s; finality is at commit.
    config.reward_style = RewardStyle::ClaimPerValidator;
    config.withdraw_style = WithdrawStyle::Automatic;
    // About 400,000 gas at the Hub's minimum price of 0.005 uatom, rounded up.
    config.fee = BaseUnits::from_u64(2_500);
    // x/mint inflates by 7 to 20% a year; with two thirds of the supply staked the stake earns about 15%.
    config.apr_bps = 1_500;
    config
}

/// Polkadot, DOT, staking on Asset Hub.
pub fn dot() -> SimulatedConfig {
    let mut config = base("simulated-polkadot", "DOT", 10, 1_000_000_000);
    // Runtime: blocks of 6 s, era = 6 sessions of 4 h, BondingDuration 28 eras counted from the era of the unbond,
    // MaxUnlockingChunks 32 with one chunk an era, MaxNominations 16.
    config.epoch_seconds = 24 * HOUR;
    config.unbonding_seconds = 28 * DAY;
    config.unbonding = UnbondingStyle::EpochEntries;
    config.limits.max_unbonding_entries = 32;
    config.limits.unbonding_entries_per_account = true;
    config.limits.max_validators = 16;
    // Staking.MinNominatorBond on chain: 250 DOT. `unbond` clamps to what is active.
    config.limits.min_delegation = BaseUnits::from_u64(2_500_000_000_000);
    config.undelegate = UndelegateStyle::Clamps;
    // Payee Staked: each era's reward is bonded at once. `withdraw_unbonded` is for the whole stash.
    config.reward_style = RewardStyle::Compounding;
    config.withdraw_style = WithdrawStyle::PerAccount;
    // GRANDPA finalises within two or three blocks; a mortal era of 64 blocks.
    config.finality_delay_seconds = 18;
    config.expiry_seconds = 64 * 6;
    // A staking call on Asset Hub costs a few thousandths of a DOT; inflation and the staked half give about 12%.
    config.fee = BaseUnits::from_u64(20_000_000);
    config.apr_bps = 1_200;
    config
}

/// TRON, TRX.
pub fn trx() -> SimulatedConfig {
    let mut config = base("simulated-tron", "TRX", 6, 10_000_000_000);
    // java-tron: blocks of 3 s, vote cycles of 6 h, solidified after 19 of 27 witnesses, so 19 blocks.
    config.block_seconds = 3;
    config.epoch_seconds = 6 * HOUR;
    config.finality_delay_seconds = 19 * 3;
    // Chain parameter 70: 14 days. UNFREEZE_MAX_TIMES 32 for the account; an unfreeze also sweeps matured entries.
    config.unbonding_seconds = 14 * DAY;
    config.limits.max_unbonding_entries = 32;
    config.limits.unbonding_entries_per_account = true;
    config.undelegate_withdraws_matured = true;
    // FreezeBalanceV2 of at least 1 TRX; votes are whole TRX, for at most 30 witnesses; voting again has no delay.
    config.limits.min_delegation = BaseUnits::from_u64(1_000_000);
    config.limits.delegation_unit = BaseUnits::from_u64(1_000_000);
    config.limits.max_validators = 30;
    // WithdrawBalance pays the account, once in 24 h, and fails at zero; so does WithdrawExpireUnfreeze.
    config.reward_style = RewardStyle::ClaimPerAccount;
    config.withdraw_style = WithdrawStyle::PerAccount;
    config.limits.min_claim_interval_seconds = DAY;
    config.empty_collect_fails = true;
    // No nonce; an expiration of 60 s by default. About 300 bytes of bandwidth at 1,000 sun.
    config.has_nonce = false;
    config.expiry_seconds = 60;
    config.fee = BaseUnits::from_u64(300_000);
    // Voting and block rewards shared over all votes: about 4.5% before the witness's brokerage.
    config.apr_bps = 450;
    config
}

/// NEAR.
pub fn near() -> SimulatedConfig {
    let mut config = base("simulated-near", "NEAR", 24, 1_000_000_000);
    // An epoch is 43,200 blocks, about 7.2 h; the chain's blocks of about 0.6 s are whole seconds here.
    config.block_seconds = 1;
    config.epoch_seconds = 25_920;
    config.finality_delay_seconds = 2;
    // core-contracts/staking-pool: NUM_EPOCHS_TO_UNLOCK 4, one unstaked bucket, each unstake restarts its wait;
    // `withdraw` of nothing fails. An adapter keeps to one unbonding at a time.
    config.unbonding_seconds = 4 * 25_920;
    config.unbonding = UnbondingStyle::SingleBucket;
    config.limits.max_unbonding_entries = 1;
    config.limits.redelegation = false;
    config.empty_collect_fails = true;
    // Rewards raise the share price each epoch; withdrawals are per pool contract.
    config.reward_style = RewardStyle::Compounding;
    config.withdraw_style = WithdrawStyle::PerValidator;
    // A transaction names a block hash of the last 86,400 blocks, about 14.4 h.
    config.expiry_seconds = 51_840;
    // About 0.002 NEAR for a call of the pool contract.
    config.fee = BaseUnits::from_u64(2_000_000_000_000_000).mul_div_floor(1_000_000, 1).unwrap_or(BaseUnits::MAX);
    // 2.5% a year are minted, 90% of it for stake, which is less than half of the supply.
    config.apr_bps = 450;
    config
}

/// Aptos, APT.
pub fn apt() -> SimulatedConfig {
    let mut config = base("simulated-aptos", "APT", 8, 1_000_000_000);
    // Epochs of 2 h; blocks are faster than a second in life and whole seconds here; finality at once.
    config.block_seconds = 1;
    config.epoch_seconds = 2 * HOUR;
    // staking_config: recurring_lockup_duration 14 days; what is unlocked waits for the pool's lock-up to end.
    config.unbonding_seconds = 14 * DAY;
    config.unbonding = UnbondingStyle::LockupCycle;
    config.limits.max_unbonding_entries = 1;
    config.limits.redelegation = false;
    // delegation_pool: MIN_COINS_ON_SHARES_POOL 10 APT; `unlock` takes all where less would stay, and pays out the
    // cycle that has matured; `withdraw` of nothing succeeds.
    config.limits.min_delegation = BaseUnits::from_u64(1_000_000_000);
    config.undelegate = UndelegateStyle::Sweeps;
    config.undelegate_withdraws_matured = true;
    config.reward_style = RewardStyle::Compounding;
    config.withdraw_style = WithdrawStyle::PerValidator;
    // A sequence number and an expiration that the client chooses. About 1,000 gas units at 100 octa.
    config.expiry_seconds = 60;
    config.fee = BaseUnits::from_u64(100_000);
    // staking_config: the rewards rate began at 7% a year.
    config.apr_bps = 700;
    config
}
