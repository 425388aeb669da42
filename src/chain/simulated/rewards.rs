//! The chain's own reward arithmetic: exact, and indifferent to how often it is asked.
//!
//! A pair of delegator and validator earns `stake x APR x seconds x (1 - commission)`. The sum is kept as a whole
//! number of base units and a remainder over one common denominator, so nothing is rounded away and a span of time
//! gives the same whether it is walked in one step or in a million.

use ruint::aliases::U256;

use super::config::RATE_SCALE;
use super::state::{Origin, State};
use crate::chain::RewardStyle;
use crate::domain::effect::EffectKind;
use crate::domain::time::{UnixSeconds, YEAR_SECONDS};
use crate::domain::validator::ValidatorStatus;

/// What a stake times seconds times basis points times commission parts is divided by.
const DENOMINATOR: u128 = 10_000 * YEAR_SECONDS as u128 * RATE_SCALE as u128;

/// Rewards stop here, so that everything in the world stays below `2^126` base units.
const MAX_REWARDS: u128 = 1 << 125;

/// Our stake with one validator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) stake: u128,
    /// Fraction of a base unit earned, over [`DENOMINATOR`].
    remainder: u128,
    /// Earned in the epoch that still runs.
    pub(super) earned: u128,
    /// Earned in epochs that are over, not claimed.
    pub(super) pending: u128,
    /// Up to when the above is counted.
    accrued_to: UnixSeconds,
    /// Since when what is not yet paid was earned.
    pub(super) earned_from: UnixSeconds,
}

/// `floor(amount x numerator / denominator)`; the result has to fit, as it does where `numerator <= denominator`.
pub(super) fn share(amount: u128, numerator: u64, denominator: u64) -> u128 {
    let product = U256::from(amount) * U256::from(numerator);
    u128::try_from(product / U256::from(denominator)).unwrap_or(amount)
}

impl State {
    /// Counts what pair `index` earned until `to`, at its present stake and status.
    fn accrue(&mut self, index: usize, to: UnixSeconds) {
        let validator = &self.validators[index];
        let pair = &mut self.pairs[index];
        let seconds = to.since(pair.accrued_to);
        if seconds == 0 {
            return;
        }
        pair.accrued_to = to;
        if pair.stake == 0 || validator.status != ValidatorStatus::Active {
            return;
        }
        // At most 2^126 x 2^14 x 2^42 x 2^60 and a remainder of less than 2^99: below 2^243.
        let numerator = U256::from(pair.stake)
            * U256::from(self.config.apr_bps)
            * U256::from(seconds)
            * U256::from(RATE_SCALE - validator.commission_parts)
            + U256::from(pair.remainder);
        let (whole, remainder) = numerator.div_rem(U256::from(DENOMINATOR));
        pair.remainder = u128::try_from(remainder).unwrap_or(0);
        let left = MAX_REWARDS.saturating_sub(self.totals.earned);
        let whole = u128::try_from(whole).unwrap_or(left).min(left);
        pair.earned += whole;
        self.totals.earned += whole;
    }

    /// Brings pair `index` to the present block. On claiming chains what was earned by the last epoch boundary
    /// becomes claimable; however many boundaries were passed, that takes two steps.
    pub(super) fn settle(&mut self, index: usize) {
        let now = self.at();
        if self.config.reward_style != RewardStyle::Compounding {
            let boundary = self.epoch_start();
            if boundary > self.pairs[index].accrued_to {
                self.accrue(index, boundary);
            }
            if self.pairs[index].accrued_to == boundary {
                let pair = &mut self.pairs[index];
                pair.pending += std::mem::take(&mut pair.earned);
            }
        }
        self.accrue(index, now);
        let pair = &mut self.pairs[index];
        if pair.stake == 0 && pair.earned == 0 && pair.pending == 0 {
            pair.earned_from = now;
        }
    }

    /// Brings every pair to the present block.
    pub(super) fn settle_all(&mut self) {
        for index in 0..self.pairs.len() {
            self.settle(index);
        }
    }

    /// The end of an epoch on a compounding chain: every stake grows by what it earned.
    pub(super) fn compound_epoch(&mut self, origin: &mut Origin) {
        for index in 0..self.pairs.len() {
            self.settle(index);
            self.compound(index, origin);
        }
    }

    /// Adds to the stake of pair `index` what it has earned by now.
    pub(super) fn compound(&mut self, index: usize, origin: &mut Origin) {
        let now = self.at();
        let pair = &mut self.pairs[index];
        let amount = std::mem::take(&mut pair.earned);
        if amount == 0 {
            return;
        }
        pair.stake += amount;
        let earned_from = std::mem::replace(&mut pair.earned_from, now);
        self.totals.compounded += amount;
        let validator = self.validators[index].id.clone();
        let amount = super::state::units(amount);
        self.emit(origin, EffectKind::RewardCompounded { validator, amount, earned_from, earned_to: now });
    }

    /// Pays what pair `index` can claim. Does nothing where that is nothing.
    pub(super) fn pay_pair(&mut self, index: usize, origin: &mut Origin) {
        let earned_to = self.epoch_start();
        let pair = &mut self.pairs[index];
        let amount = std::mem::take(&mut pair.pending);
        if amount == 0 {
            return;
        }
        let earned_from = std::mem::replace(&mut pair.earned_from, earned_to);
        self.liquid += amount;
        self.totals.paid += amount;
        let validator = Some(self.validators[index].id.clone());
        let amount = super::state::units(amount);
        self.emit(origin, EffectKind::RewardPaid { validator, amount, earned_from, earned_to });
    }

    /// Pays what the whole account can claim, in one sum. Says whether that was anything.
    pub(super) fn pay_account(&mut self, origin: &mut Origin) -> bool {
        let earned_to = self.epoch_start();
        let mut amount = 0;
        let mut earned_from = earned_to;
        for index in 0..self.pairs.len() {
            self.settle(index);
            let pair = &mut self.pairs[index];
            if pair.pending > 0 {
                amount += std::mem::take(&mut pair.pending);
                earned_from = earned_from.min(pair.earned_from);
                pair.earned_from = earned_to;
            }
        }
        if amount == 0 {
            return false;
        }
        self.liquid += amount;
        self.totals.paid += amount;
        let kind =
            EffectKind::RewardPaid { validator: None, amount: super::state::units(amount), earned_from, earned_to };
        self.emit(origin, kind);
        true
    }
}
