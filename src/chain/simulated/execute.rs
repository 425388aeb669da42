//! What a transaction does once its block has come. Each operation is checked as a whole before it changes anything;
//! one that fails pays its fee, consumes its nonce and does nothing else.

use super::config::{UnbondingStyle, UndelegateStyle};
use super::rewards::share;
use super::state::{Entry, Included, Lock, Origin, State, units};
use super::transaction::Transaction;
use crate::chain::{RewardStyle, WithdrawStyle};
use crate::domain::effect::EffectKind;
use crate::domain::ids::{TransactionId, TransferId, ValidatorId};
use crate::domain::operation::OperationKind;
use crate::domain::split::WHOLE_BPS;
use crate::domain::validator::ValidatorStatus;

type Outcome = Result<(), String>;

impl State {
    /// Includes a transaction in the present block, or drops it where the chain would: past its expiry, with a nonce
    /// that is not the next, with a fee that can't be paid, or for an operation that is on the chain already.
    /// Of one with a share, it does so many basis points of the amount.
    pub(super) fn include(&mut self, id: TransactionId, said: Transaction, share_bps: Option<u32>) {
        let fee = self.config.fee;
        let expired = said.expires_at < self.at();
        let out_of_turn = said.nonce.is_some_and(|nonce| nonce != self.nonce);
        if expired || out_of_turn || self.liquid < fee.get() || self.included(&said.operation).is_some() {
            return;
        }
        let first = self.effects.len();
        let mut origin = Origin::operation(id.clone(), said.operation.clone());
        self.nonce += 1;
        self.liquid -= fee.get();
        self.totals.fees += fee.get();
        self.emit(&mut origin, EffectKind::FeePaid { amount: fee });
        let kind = share_bps.map_or(Ok(said.kind.clone()), |share_bps| self.part(&said.kind, share_bps));
        let failure = kind.and_then(|kind| self.execute(&kind, &mut origin)).err();
        let effects = first..self.effects.len();
        self.record(said.operation, Included { transaction: id, height: self.height, effects, failure });
    }

    /// What a chain does of `kind` that does only `share_bps` of it, rounded down to whole delegation units.
    fn part(&self, kind: &OperationKind, share_bps: u32) -> Result<OperationKind, String> {
        let mut part = kind.clone();
        if let OperationKind::Delegate { amount, .. }
        | OperationKind::Undelegate { amount, .. }
        | OperationKind::Redelegate { amount, .. }
        | OperationKind::SendToCustody { amount, .. } = &mut part
        {
            let unit = match kind {
                OperationKind::SendToCustody { .. } => 1,
                _ => self.config.limits.delegation_unit.get(),
            };
            let moved = share(amount.get(), u64::from(share_bps), u64::from(WHOLE_BPS));
            *amount = units(moved / unit * unit);
            if amount.is_zero() {
                return Err("none of it could be done".into());
            }
        }
        Ok(part)
    }

    fn execute(&mut self, kind: &OperationKind, origin: &mut Origin) -> Outcome {
        match kind {
            OperationKind::Delegate { validator, amount } => self.delegate(validator, amount.get(), origin),
            OperationKind::Undelegate { validator, amount } => self.undelegate(validator, amount.get(), origin),
            OperationKind::Redelegate { from, to, amount } => self.redelegate(from, to, amount.get(), origin),
            OperationKind::Claim { validator } => self.claim(validator.as_ref(), origin),
            OperationKind::Withdraw { validator } => self.withdraw(validator.as_ref(), origin),
            OperationKind::SendToCustody { transfer, amount } => self.send_to_custody(transfer, amount.get(), origin),
        }
    }

    fn known(&self, validator: &ValidatorId) -> Result<usize, String> {
        self.find(validator).ok_or_else(|| format!("validator {validator} is unknown"))
    }

    /// Amounts are whole units, but for all of a stake that is none: a slash may have left it so.
    fn whole_units(&self, amount: u128, everything: Option<usize>) -> Outcome {
        let unit = self.config.limits.delegation_unit.get();
        if everything.is_some_and(|index| amount > 0 && amount == self.pairs[index].stake) {
            return Ok(());
        }
        if amount == 0 {
            return Err("the amount is zero".into());
        }
        if !amount.is_multiple_of(unit) {
            return Err(format!("the amount is not a multiple of {unit}"));
        }
        Ok(())
    }

    /// Whether validator `index` takes `amount` more of ours.
    fn takes(&self, index: usize, amount: u128, leaves: Option<usize>) -> Outcome {
        let validator = &self.validators[index];
        if matches!(validator.status, ValidatorStatus::Jailed | ValidatorStatus::Tombstoned) {
            return Err(format!("validator {} is jailed", validator.id));
        }
        let minimum = self.config.limits.min_delegation.get();
        if self.pairs[index].stake + amount < minimum {
            return Err(format!("the delegation would be below the minimum of {minimum}"));
        }
        let others = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(other, pair)| pair.stake > 0 && *other != index && Some(*other) != leaves);
        let most = self.config.limits.max_validators as usize;
        if others.count() >= most {
            return Err(format!("the account already delegates to {most} validators"));
        }
        Ok(())
    }

    fn delegate(&mut self, validator: &ValidatorId, amount: u128, origin: &mut Origin) -> Outcome {
        let index = self.known(validator)?;
        self.whole_units(amount, None)?;
        self.takes(index, amount, None)?;
        if self.liquid < amount {
            return Err(format!("the liquid balance of {} is below {amount}", self.liquid));
        }
        self.touch(index, origin);
        self.liquid -= amount;
        self.pairs[index].stake += amount;
        self.round(index);
        self.emit(origin, EffectKind::Delegated { validator: validator.clone(), amount: units(amount) });
        Ok(())
    }

    /// Counts the rewards of a pair whose stake is about to change, and pays them where the chain does that.
    fn touch(&mut self, index: usize, origin: &mut Origin) {
        self.settle(index);
        if self.config.reward_style == RewardStyle::ClaimPerValidator {
            self.pay_pair(index, origin);
        }
    }

    /// How much of pair `index` moves when `asked` is to leave it.
    fn leaving(&self, index: usize, asked: u128, style: UndelegateStyle) -> Result<u128, String> {
        let stake = self.pairs[index].stake;
        if stake == 0 {
            return Err("nothing is delegated there".into());
        }
        if asked > stake && style == UndelegateStyle::Exact {
            return Err(format!("the delegation of {stake} is below {asked}"));
        }
        let taken = asked.min(stake);
        let minimum = self.config.limits.min_delegation.get();
        if taken < stake && stake - taken < minimum {
            return match style {
                UndelegateStyle::Sweeps => Ok(stake),
                UndelegateStyle::Exact | UndelegateStyle::Clamps => {
                    Err(format!("the rest of the delegation would be below the minimum of {minimum}"))
                }
            };
        }
        Ok(taken)
    }

    /// Takes `taken` off pair `index`. Who leaves a compounding validator whole takes this epoch's reward along, so
    /// that no dust is left behind.
    fn take(&mut self, index: usize, taken: u128, origin: &mut Origin) -> u128 {
        let whole = taken == self.pairs[index].stake;
        if whole && self.config.reward_style == RewardStyle::Compounding {
            self.compound(index, origin);
        }
        let taken = if whole { self.pairs[index].stake } else { taken };
        self.pairs[index].stake -= taken;
        self.round(index);
        taken
    }

    fn undelegate(&mut self, validator: &ValidatorId, asked: u128, origin: &mut Origin) -> Outcome {
        let index = self.known(validator)?;
        self.whole_units(asked, Some(index))?;
        let taken = self.leaving(index, asked, self.config.undelegate)?;
        let limits = self.config.limits.clone();
        let sweeps = self.config.undelegate_withdraws_matured;
        let per_account = self.config.withdraw_style == WithdrawStyle::PerAccount;
        let swept = |entry: &Entry| sweeps && entry.matured && (per_account || entry.validator == index);
        let matures_at = self.maturity(index);
        let single = self.config.unbonding == UnbondingStyle::SingleBucket;
        let joins =
            |entry: &Entry| entry.validator == index && !entry.matured && (single || entry.matures_at == matures_at);
        if single && self.unbondings.iter().any(|entry| entry.validator == index && entry.matured) {
            return Err("what has matured there has to be withdrawn first".into());
        }
        let entries = self
            .unbondings
            .iter()
            .filter(|entry| !swept(entry) && (limits.unbonding_entries_per_account || entry.validator == index));
        let full = entries.count() >= limits.max_unbonding_entries as usize;
        if full && !self.unbondings.iter().any(joins) {
            return Err(format!("there are already {} unbondings", limits.max_unbonding_entries));
        }
        self.touch(index, origin);
        if sweeps {
            self.pay_matured((!per_account).then_some(index), origin);
        }
        let taken = self.take(index, taken, origin);
        match self.unbondings.iter_mut().find(|entry| joins(entry)) {
            Some(entry) => {
                entry.amount += taken;
                entry.matures_at = matures_at;
            }
            None => self.unbondings.push(Entry { validator: index, amount: taken, matures_at, matured: false }),
        }
        let amount = units(taken);
        self.emit(origin, EffectKind::Undelegated { validator: validator.clone(), amount, matures_at });
        Ok(())
    }

    fn redelegate(&mut self, from: &ValidatorId, to: &ValidatorId, asked: u128, origin: &mut Origin) -> Outcome {
        let limits = self.config.limits.clone();
        if !limits.redelegation {
            return Err("the chain has no redelegation".into());
        }
        let source = self.known(from)?;
        let target = self.known(to)?;
        if source == target {
            return Err("the two validators are the same".into());
        }
        self.whole_units(asked, Some(source))?;
        let taken = self.leaving(source, asked, UndelegateStyle::Exact)?;
        self.takes(target, taken, (taken == self.pairs[source].stake).then_some(source))?;
        let now = self.at();
        self.locks.retain(|lock| lock.until > now);
        if self.locks.iter().any(|lock| lock.to == source) {
            return Err(format!("stake redelegated to {from} must not move onward yet"));
        }
        let same = self.locks.iter().filter(|lock| lock.from == source && lock.to == target);
        if same.count() >= limits.max_unbonding_entries as usize {
            return Err(format!("there are already {} redelegations", limits.max_unbonding_entries));
        }
        self.touch(source, origin);
        self.touch(target, origin);
        let taken = self.take(source, taken, origin);
        self.pairs[target].stake += taken;
        if limits.redelegation_lock_seconds > 0 {
            let wait = i64::try_from(limits.redelegation_lock_seconds).unwrap_or(i64::MAX);
            self.locks.push(Lock { from: source, to: target, until: now.plus(wait) });
        }
        let amount = units(taken);
        self.emit(origin, EffectKind::Redelegated { from: from.clone(), to: to.clone(), amount });
        Ok(())
    }

    fn claim(&mut self, validator: Option<&ValidatorId>, origin: &mut Origin) -> Outcome {
        let now = self.at();
        let wait = self.config.limits.min_claim_interval_seconds;
        if wait > 0 && self.last_claim.is_some_and(|last| now.since(last) < wait) {
            return Err(format!("the last claim is less than {wait} seconds ago"));
        }
        let paid = match (self.config.reward_style, validator) {
            (RewardStyle::ClaimPerValidator, Some(validator)) => {
                let index = self.known(validator)?;
                self.settle(index);
                let anything = self.pairs[index].pending > 0;
                self.pay_pair(index, origin);
                anything
            }
            (RewardStyle::ClaimPerAccount, None) => self.pay_account(origin),
            (RewardStyle::ClaimPerValidator, None) => return Err("a claim names a validator here".into()),
            (RewardStyle::ClaimPerAccount, Some(_)) => return Err("a claim is for the whole account here".into()),
            (RewardStyle::Compounding, _) => return Err("rewards compound here; there is nothing to claim".into()),
        };
        if !paid && self.config.empty_collect_fails {
            return Err("there is nothing to claim".into());
        }
        if paid {
            self.last_claim = Some(now);
        }
        Ok(())
    }

    fn withdraw(&mut self, validator: Option<&ValidatorId>, origin: &mut Origin) -> Outcome {
        let which = match (self.config.withdraw_style, validator) {
            (WithdrawStyle::PerAccount, None) => None,
            (WithdrawStyle::PerValidator, Some(validator)) => Some(self.known(validator)?),
            (WithdrawStyle::PerAccount, Some(_)) => return Err("a withdrawal is for the whole account here".into()),
            (WithdrawStyle::PerValidator, None) => return Err("a withdrawal names a validator here".into()),
            (WithdrawStyle::Automatic, _) => return Err("matured funds are credited by the chain here".into()),
        };
        if !self.pay_matured(which, origin) && self.config.empty_collect_fails {
            return Err("nothing has matured".into());
        }
        Ok(())
    }

    /// Makes liquid what has matured, of one validator or of all. Says whether that was anything.
    fn pay_matured(&mut self, validator: Option<usize>, origin: &mut Origin) -> bool {
        let mut amount = 0;
        self.unbondings.retain(|entry| {
            let paid = entry.matured && validator.is_none_or(|index| index == entry.validator);
            if paid {
                amount += entry.amount;
            }
            !paid
        });
        if amount > 0 {
            self.liquid += amount;
            self.emit(origin, EffectKind::Withdrawn { amount: units(amount) });
        }
        amount > 0
    }

    fn send_to_custody(&mut self, transfer: &TransferId, amount: u128, origin: &mut Origin) -> Outcome {
        if amount == 0 {
            return Err("the amount is zero".into());
        }
        if self.liquid < amount {
            return Err(format!("the liquid balance of {} is below {amount}", self.liquid));
        }
        self.liquid -= amount;
        self.custody += amount;
        self.totals.transferred_out += amount;
        let transfer = Some(transfer.clone());
        self.emit(origin, EffectKind::TransferOut { transfer, amount: units(amount) });
        Ok(())
    }
}
