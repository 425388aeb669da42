//! The state of the simulated chain at one height, and how it moves to the next: a pure function of the
//! configuration, the genesis time and the inputs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::config::{RATE_SCALE, SimulatedConfig, UnbondingStyle, rate_to_integer};
use super::input::{Accepted, Input, ValidatorChange};
use super::rewards::Pair;
use super::slashes::Made;
use crate::chain::{Delegation, Observation, RewardStyle, Unbonding, WithdrawStyle};
use crate::domain::amount::BaseUnits;
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::ids::{OperationId, TransactionId, TransferId, ValidatorId};
use crate::domain::time::UnixSeconds;
use crate::domain::validator::{ChainValidator, ValidatorStatus};

/// An amount of the chain as an amount of the contract. Supply and rewards are capped so that it always fits.
pub(super) fn units(amount: u128) -> BaseUnits {
    BaseUnits::new(amount).unwrap_or(BaseUnits::MAX)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValidatorState {
    pub(super) id: ValidatorId,
    shown: ChainValidator,
    pub(super) status: ValidatorStatus,
    pub(super) commission_parts: u64,
    pub(super) others: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) validator: usize,
    pub(super) amount: u128,
    pub(super) matures_at: UnixSeconds,
    pub(super) matured: bool,
}

/// Stake that was redelegated and must not move onward before `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) until: UnixSeconds,
}

/// A transaction that is on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Included {
    pub(super) transaction: TransactionId,
    pub(super) height: u64,
    pub(super) effects: Range<usize>,
    pub(super) failure: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Every whole base unit that was ever earned, paid or not.
    pub(super) earned: u128,
    pub(super) paid: u128,
    pub(super) compounded: u128,
    pub(super) fees: u128,
    pub(super) slashed: u128,
    /// Of it, taken back.
    pub(super) unslashed: u128,
    pub(super) donated: u128,
    pub(super) transferred_in: u128,
    pub(super) transferred_out: u128,
}

/// Where effects come from: their transaction, and the next place in it.
pub(super) struct Origin {
    transaction: TransactionId,
    operation: Option<OperationId>,
    next: u32,
}

impl Origin {
    pub(super) fn operation(transaction: TransactionId, operation: OperationId) -> Self {
        Self { transaction, operation: Some(operation), next: 0 }
    }

    /// What the chain does without a transaction of ours has a name made of what it is and which one.
    pub(super) fn synthetic(what: &str, which: impl std::fmt::Display) -> Self {
        Self { transaction: synthetic_id(what, which), operation: None, next: 0 }
    }
}

#[expect(clippy::expect_used, reason = "the message is the proof")]
fn synthetic_id(what: &str, which: impl std::fmt::Display) -> TransactionId {
    TransactionId::new(&format!("{what}-{which}")).expect("a word, a hyphen and a number or name are a transaction id")
}

/// The transaction by which custody carries out a part of a transfer.
pub(super) fn custody_transaction(transfer: &TransferId, part: u32) -> TransactionId {
    synthetic_id(&custody_part(part), transfer)
}

fn custody_part(part: u32) -> String {
    if part == 0 { "custody".to_owned() } else { format!("custody.{part}") }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) config: Arc<SimulatedConfig>,
    pub(super) genesis_at: UnixSeconds,
    pub(super) height: u64,
    pub(super) nonce: u64,
    pub(super) custody: u128,
    pub(super) liquid: u128,
    /// In the order of their ids.
    pub(super) validators: Vec<ValidatorState>,
    /// Ours with each of `validators`, at the same place.
    pub(super) pairs: Vec<Pair>,
    pub(super) unbondings: Vec<Entry>,
    pub(super) locks: Vec<Lock>,
    /// Slashes that were not taken back, in their order.
    pub(super) slashes: Vec<Made>,
    pub(super) last_claim: Option<UnixSeconds>,
    /// Inputs whose block has not come, by block and order of acceptance.
    queue: BTreeMap<(u64, u64), Input>,
    queued: u64,
    included: BTreeMap<OperationId, Included>,
    sends: BTreeMap<(TransferId, u32), u128>,
    pub(super) effects: Vec<Effect>,
    pub(super) totals: Sums,
}

impl State {
    pub(super) fn genesis(config: Arc<SimulatedConfig>, genesis_at: UnixSeconds) -> Self {
        let mut validators: Vec<ValidatorState> = config
            .validators
            .iter()
            .map(|validator| ValidatorState {
                id: validator.id.clone(),
                shown: validator.clone(),
                status: validator.status,
                commission_parts: rate_to_integer(validator.commission).unwrap_or(RATE_SCALE),
                others: validator.tokens.get(),
            })
            .collect();
        validators.sort_by(|a, b| a.id.cmp(&b.id));
        let pairs = vec![Pair::default(); validators.len()];
        let custody = config.custody_balance.get();
        let mut state = Self {
            config,
            genesis_at,
            height: 0,
            nonce: 0,
            custody,
            liquid: 0,
            validators,
            pairs,
            unbondings: Vec::new(),
            locks: Vec::new(),
            slashes: Vec::new(),
            last_claim: None,
            queue: BTreeMap::new(),
            queued: 0,
            included: BTreeMap::new(),
            sends: BTreeMap::new(),
            effects: Vec::new(),
            totals: Sums::default(),
        };
        state.settle_all();
        state
    }

    /// The time of block `height`.
    pub(super) fn time_of(&self, height: u64) -> UnixSeconds {
        let seconds = height.saturating_mul(self.config.block_seconds);
        self.genesis_at.plus(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// The time of the present block.
    pub(super) fn at(&self) -> UnixSeconds {
        self.time_of(self.height)
    }

    /// The last block at or before `at`.
    pub(super) fn height_at(&self, at: UnixSeconds) -> u64 {
        at.since(self.genesis_at) / self.config.block_seconds
    }

    /// The first block at or after `at`.
    pub(super) fn height_from(&self, at: UnixSeconds) -> u64 {
        at.since(self.genesis_at).div_ceil(self.config.block_seconds)
    }

    fn blocks_per_epoch(&self) -> u64 {
        self.config.epoch_seconds / self.config.block_seconds
    }

    /// The last epoch boundary at or before the present block.
    pub(super) fn epoch_start(&self) -> UnixSeconds {
        self.time_of(self.height - self.height % self.blocks_per_epoch())
    }

    /// Puts an input into the block it was accepted for.
    ///
    /// One that throws a transaction back takes effect at once: it was made while that transaction waited, so that a
    /// replay, which knows all inputs beforehand, finds it waiting too.
    pub(super) fn enqueue(&mut self, accepted: &Accepted) {
        if let Input::ThrownBack { id } = &accepted.input {
            self.throw_back(id, accepted.height);
            return;
        }
        self.queue.insert((accepted.height, self.queued), accepted.input.clone());
        self.queued += 1;
    }

    fn throw_back(&mut self, thrown: &TransactionId, height: u64) {
        let waits = |input: &Input| matches!(input, Input::Transaction { id, hidden: false, .. } if id == thrown);
        let Some(place) = self.queue.iter().find(|(_, input)| waits(input)).map(|(place, _)| *place) else { return };
        if let Some(Input::Transaction { id, said, bytes, share_bps, .. }) = self.queue.remove(&place) {
            self.queue.insert((height, place.1), Input::Transaction { id, said, bytes, hidden: true, share_bps });
        }
    }

    /// The block that everyone sees a transaction waiting for, and its id.
    pub(super) fn waits_for(&self, wanted: &OperationId) -> Option<(u64, TransactionId)> {
        self.queue.iter().find_map(|((height, _), input)| match input {
            Input::Transaction { id, said, hidden: false, .. } if said.operation == *wanted => {
                Some((*height, id.clone()))
            }
            _ => None,
        })
    }

    /// Moves to block `target`, stopping at every block where something happens.
    pub(super) fn advance(&mut self, target: u64) {
        if target <= self.height {
            return;
        }
        while let Some(next) = self.next_event().filter(|next| *next <= target) {
            self.height = next;
            self.step();
        }
        self.height = target;
        self.settle_all();
    }

    /// The next block at which anything but accrual happens. Always past the present one.
    fn next_event(&self) -> Option<u64> {
        let after = self.height + 1;
        let input = self.queue.keys().next().map(|(height, _)| *height);
        let unmatured = self.unbondings.iter().filter(|entry| !entry.matured);
        let maturity = unmatured.map(|entry| self.height_from(entry.matures_at)).min();
        let compounds = self.config.reward_style == RewardStyle::Compounding;
        let staked = compounds && self.pairs.iter().any(|pair| pair.stake > 0 || pair.earned > 0);
        let epoch = staked.then(|| (self.height / self.blocks_per_epoch() + 1) * self.blocks_per_epoch());
        [input, maturity, epoch].into_iter().flatten().min().map(|height| height.max(after))
    }

    /// Everything that happens in the present block: the epoch's rewards, then maturities, then inputs in order.
    fn step(&mut self) {
        if self.config.reward_style == RewardStyle::Compounding && self.height.is_multiple_of(self.blocks_per_epoch()) {
            let mut origin = Origin::synthetic("epoch", self.height / self.blocks_per_epoch());
            self.compound_epoch(&mut origin);
        }
        self.mature();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.height) {
            let ((_, order), input) = entry.remove_entry();
            self.apply(input, order);
        }
    }

    fn mature(&mut self) {
        let now = self.at();
        let due = |entry: &Entry| !entry.matured && entry.matures_at <= now;
        if !self.unbondings.iter().any(due) {
            return;
        }
        let automatic = self.config.withdraw_style == WithdrawStyle::Automatic;
        let mut origin = Origin::synthetic("maturity", self.height);
        let mut credited = 0;
        let entries = std::mem::take(&mut self.unbondings);
        for mut entry in entries {
            if due(&entry) {
                entry.matured = true;
                let validator = self.validators[entry.validator].id.clone();
                if entry.amount > 0 {
                    self.emit(&mut origin, EffectKind::Matured { validator, amount: units(entry.amount) });
                }
                if automatic {
                    credited += entry.amount;
                    continue;
                }
            }
            if entry.amount > 0 {
                self.unbondings.push(entry);
            }
        }
        if credited > 0 {
            self.liquid += credited;
            self.emit(&mut origin, EffectKind::Withdrawn { amount: units(credited) });
        }
    }

    fn apply(&mut self, input: Input, order: u64) {
        match input {
            Input::Transaction { id, said, share_bps, .. } => self.include(id, said, share_bps),
            // It took effect when it was accepted.
            Input::ThrownBack { .. } => {}
            Input::CustodySend { transfer, part, amount } => {
                let mut origin = Origin::synthetic(&custody_part(part), &transfer);
                self.custody -= amount.get();
                self.liquid += amount.get();
                self.totals.transferred_in += amount.get();
                self.sends.insert((transfer.clone(), part), amount.get());
                self.emit(&mut origin, EffectKind::TransferIn { transfer: Some(transfer), amount });
            }
            Input::Donation { amount } => {
                let mut origin = Origin::synthetic("donation", order);
                self.liquid += amount.get();
                self.totals.donated += amount.get();
                self.emit(&mut origin, EffectKind::TransferIn { transfer: None, amount });
            }
            Input::Validator { validator, change } => {
                if let Some(index) = self.find(&validator) {
                    self.change_validator(index, change, order);
                }
            }
        }
    }

    fn change_validator(&mut self, index: usize, change: ValidatorChange, order: u64) {
        self.settle(index);
        let status = self.validators[index].status;
        match change {
            ValidatorChange::Slash { parts, silent } => self.slash(index, parts, silent, order),
            ValidatorChange::Unslash => self.unslash(index, order),
            ValidatorChange::Tombstone => self.validators[index].status = ValidatorStatus::Tombstoned,
            ValidatorChange::Jail if status != ValidatorStatus::Tombstoned => {
                self.validators[index].status = ValidatorStatus::Jailed;
            }
            ValidatorChange::Unjail if status == ValidatorStatus::Jailed => {
                self.validators[index].status = ValidatorStatus::Active;
            }
            ValidatorChange::Jail | ValidatorChange::Unjail => {}
        }
    }

    pub(super) fn emit(&mut self, origin: &mut Origin, kind: EffectKind) {
        let key = EffectKey { transaction: origin.transaction.clone(), index: origin.next };
        origin.next += 1;
        let operation = origin.operation.clone();
        self.effects.push(Effect { key, height: self.height, at: self.at(), operation, kind });
    }

    pub(super) fn find(&self, validator: &ValidatorId) -> Option<usize> {
        self.validators.binary_search_by(|state| state.id.cmp(validator)).ok()
    }

    pub(super) fn record(&mut self, operation: OperationId, included: Included) {
        self.included.insert(operation, included);
    }

    pub(super) fn included(&self, operation: &OperationId) -> Option<&Included> {
        self.included.get(operation)
    }

    /// Transactions that everyone sees waiting for their block: id and operation.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&TransactionId, &OperationId)> {
        self.queue.values().filter_map(|input| match input {
            Input::Transaction { id, said, hidden: false, .. } => Some((id, &said.operation)),
            _ => None,
        })
    }

    /// What custody sent as this part of a transfer, or is about to send.
    pub(super) fn custody_sent(&self, transfer: &TransferId, part: u32) -> Option<u128> {
        let waiting = self.queue.values().find_map(|input| match input {
            Input::CustodySend { transfer: named, part: of, amount } if named == transfer && *of == part => {
                Some(amount.get())
            }
            _ => None,
        });
        self.sends.get(&(transfer.clone(), part)).copied().or(waiting)
    }

    /// What custody can still send: its balance less what is on its way.
    pub(super) fn custody_free(&self) -> u128 {
        let waiting = self.queue.values().map(|input| match input {
            Input::CustodySend { amount, .. } => amount.get(),
            _ => 0,
        });
        self.custody - waiting.sum::<u128>()
    }

    /// Everything that was given or is about to be given by strangers.
    pub(super) fn donated(&self) -> u128 {
        let waiting = self.queue.values().map(|input| match input {
            Input::Donation { amount } => amount.get(),
            _ => 0,
        });
        self.totals.donated + waiting.sum::<u128>()
    }

    pub(super) fn observe(&self) -> Observation {
        let claims = self.config.reward_style != RewardStyle::Compounding;
        let now = self.at();
        let pairs = self.validators.iter().zip(&self.pairs).enumerate();
        let delegations = pairs.filter(|(_, (_, pair))| pair.stake > 0 || (claims && pair.pending > 0)).map(
            |(index, (validator, pair))| {
                let locked = self.locks.iter().any(|lock| lock.to == index && lock.until > now);
                Delegation {
                    validator: validator.id.clone(),
                    amount: units(pair.stake),
                    pending_reward: units(if claims { pair.pending } else { 0 }),
                    redelegation_locked: units(if locked { pair.stake } else { 0 }),
                }
            },
        );
        let mut unbondings: Vec<Unbonding> = self
            .unbondings
            .iter()
            .map(|entry| Unbonding {
                validator: self.validators[entry.validator].id.clone(),
                amount: units(entry.amount),
                matures_at: entry.matures_at,
                matured: entry.matured,
            })
            .collect();
        unbondings.sort_by(|a, b| (&a.validator, a.matures_at).cmp(&(&b.validator, b.matures_at)));
        let validators = self.validators.iter().zip(&self.pairs).map(|(validator, pair)| ChainValidator {
            status: validator.status,
            tokens: units(validator.others + pair.stake),
            ..validator.shown.clone()
        });
        Observation {
            height: self.height,
            at: now,
            liquid: units(self.liquid),
            delegations: delegations.collect(),
            unbondings,
            validators: validators.collect(),
        }
    }

    /// When something undelegated now from validator `index` matures; always later than the present block.
    pub(super) fn maturity(&self, index: usize) -> UnixSeconds {
        let wait = self.config.unbonding_seconds;
        let after = |start: UnixSeconds, seconds: u64| start.plus(i64::try_from(seconds).unwrap_or(i64::MAX));
        let matures_at = match self.config.unbonding {
            UnbondingStyle::Entries => after(self.at(), wait),
            UnbondingStyle::EpochEntries | UnbondingStyle::SingleBucket => after(self.epoch_start(), wait),
            UnbondingStyle::LockupCycle => {
                let name = self.validators[index].id.as_str();
                let offset = super::codec::draw(self.config.seed, name, 0) % wait;
                let passed = self.at().since(self.genesis_at) + wait - offset;
                after(self.at(), wait - passed % wait)
            }
        };
        matures_at.max(self.time_of(self.height + 1))
    }
}
