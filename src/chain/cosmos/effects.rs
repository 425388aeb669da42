//! What a block did to our address, from its events: pure, and called by `history` alone.
//!
//! Everything liquid is read from the bank's own events: `coin_received` and `coin_spent` stand for every change of a
//! balance, whatever module caused it (`x/bank/keeper/send.go`, `keeper.go`). The events of staking and distribution come
//! after those of the coins that they moved, and say what these were; coins that none of them explains came or went as a
//! transfer. So nothing liquid can be missed, and nothing counts twice. Coins that move in a transaction outside of every
//! message (`msg_index`) are its fee, or given back of it, failed transactions included.
//!
//! Where the chain says nothing (what a slash took of unbondings and of stake redelegated elsewhere; what others' rounding
//! left to us), the state before and after the block is compared, and the rest is told: see [`of_stake`].
//!
//! Keys: a transaction's hash, or `block-N`, with four times the place of the event in its list and a part below four;
//! `slash-N` and `rest-N` with the place of the validator among ours. They depend on nothing but the chain.

use std::collections::BTreeMap;

use super::results::{Block, Event, Transaction};
use super::shares::{NumberError, ROUNDING_UNITS, base_units};
use crate::chain::ChainError;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::ids::{OperationId, TransactionId, TransferId, ValidatorId};
use crate::domain::time::UnixSeconds;

/// Parts that one event can have: a cancelled unbonding matures, is withdrawn and delegated again.
const PARTS: u32 = 4;

/// Who we are, and in what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Us {
    /// The staking address.
    pub staking: String,
    /// The one address that a DEFUND goes to.
    pub custody: String,
    /// The denomination that is staked.
    pub denom: String,
}

/// Our stake at one height, by validator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stake {
    /// What our shares are worth, as the chain reads them.
    pub delegated: BTreeMap<ValidatorId, BaseUnits>,
    /// What unbonds, all entries of a validator together.
    pub unbonding: BTreeMap<ValidatorId, BaseUnits>,
}

impl From<NumberError> for ChainError {
    fn from(error: NumberError) -> Self {
        Self::Untrusted(error.to_string())
    }
}

fn untrusted(error: impl std::fmt::Display) -> ChainError {
    ChainError::Untrusted(error.to_string())
}

/// How much of `denom` stands in coins as the chain writes them: `5uatom,3ibc/27394FB0`.
pub fn amount_in(coins: &str, denom: &str) -> Result<BaseUnits, ChainError> {
    let mut found = BaseUnits::ZERO;
    for coin in coins.split(',').filter(|coin| !coin.is_empty()) {
        let digits = coin.bytes().take_while(u8::is_ascii_digit).count();
        let (number, of) = coin.split_at(digits);
        if of == denom {
            found = found.checked_add(base_units(number)?).map_err(untrusted)?;
        } else if number.is_empty() || of.is_empty() {
            return Err(untrusted(format!("{coin:?} are no coins")));
        }
    }
    Ok(found)
}

/// The operation of ours that a memo names: such ids have three parts at least.
fn operation_of(memo: &str) -> Option<OperationId> {
    (memo.matches(':').count() >= 2).then(|| OperationId::new(memo).ok()).flatten()
}

/// The transfer that a memo names, by itself or as the last part of the id of the operation that sends it.
fn transfer_of(memo: &str) -> Option<TransferId> {
    let sent = operation_of(memo).is_some().then(|| memo.split_once(":defund:")).flatten();
    TransferId::new(sent.map_or(memo, |(_, transfer)| transfer)).ok()
}

/// Coins that came or went, and that nothing has explained yet.
#[derive(Clone, Debug)]
struct Coins {
    /// The place of their event.
    place: u32,
    amount: BaseUnits,
    /// The message that moved them; `None` outside of all.
    message: Option<String>,
}

/// One list of events, read from its beginning to its end.
struct Reader<'a> {
    us: &'a Us,
    name: TransactionId,
    height: u64,
    at: UnixSeconds,
    operation: Option<OperationId>,
    received: Vec<Coins>,
    spent: Vec<Coins>,
    effects: Vec<Effect>,
}

/// What a block did apart from its transactions: as it began, and as it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfBlock {
    /// Before its transactions.
    pub begun: Vec<Effect>,
    /// After them.
    pub ended: Vec<Effect>,
}

/// The effects of one transaction of `block`. Of a reward it is not known here since when it was earned: [`date`] says it.
pub fn of_transaction(us: &Us, block: &Block, transaction: &Transaction) -> Result<Vec<Effect>, ChainError> {
    let Transaction { hash, memo, events } = transaction;
    let prefix = format!("{}/", us.staking);
    let signed = |event: &Event| event.kind == "tx" && event.get("acc_seq").is_some_and(|one| one.starts_with(&prefix));
    let operation = events.iter().any(signed).then(|| operation_of(memo)).flatten();
    let mut reader = Reader::new(us, hash.clone(), block, operation);
    for (place, event) in (0..).zip(events) {
        reader.read(place, event, events)?;
    }
    reader.fee()?;
    reader.transfers(transfer_of(memo).as_ref(), events)?;
    Ok(reader.done())
}

/// The effects of what `block` did by itself.
pub fn of_block(us: &Us, block: &Block) -> Result<OfBlock, ChainError> {
    let name = TransactionId::new(&format!("block-{}", block.height)).map_err(untrusted)?;
    let mut reader = Reader::new(us, name, block, None);
    for (place, event) in (0..).zip(&block.events) {
        reader.read(place, event, &block.events)?;
    }
    reader.transfers(None, &block.events)?;
    let ends = |effect: &Effect| {
        let place = usize::try_from(effect.key.index / PARTS).unwrap_or(usize::MAX);
        block.events.get(place).is_some_and(|event| event.is("mode", "EndBlock"))
    };
    let (ended, begun) = reader.done().into_iter().partition(ends);
    Ok(OfBlock { begun, ended })
}

impl<'a> Reader<'a> {
    fn new(us: &'a Us, name: TransactionId, block: &Block, operation: Option<OperationId>) -> Self {
        let (height, at) = (block.height, block.at);
        Self { us, name, height, at, operation, received: Vec::new(), spent: Vec::new(), effects: Vec::new() }
    }

    fn push(&mut self, place: u32, part: u32, kind: EffectKind) {
        let key = EffectKey { transaction: self.name.clone(), index: place.saturating_mul(PARTS).saturating_add(part) };
        let (height, at, operation) = (self.height, self.at, self.operation.clone());
        self.effects.push(Effect { key, height, at, operation, kind });
    }

    fn amount(&self, event: &Event) -> Result<BaseUnits, ChainError> {
        amount_in(event.get("amount").unwrap_or_default(), &self.us.denom)
    }

    fn read(&mut self, place: u32, event: &Event, all: &[Event]) -> Result<(), ChainError> {
        let ours = |key| event.is(key, &self.us.staking);
        let message = event.get("msg_index").map(str::to_owned);
        match event.kind.as_str() {
            "coin_received" if ours("receiver") => {
                let amount = self.amount(event)?;
                self.received.push(Coins { place, amount, message });
            }
            "coin_spent" if ours("spender") => {
                let amount = self.amount(event)?;
                self.spent.push(Coins { place, amount, message });
            }
            "withdraw_rewards" if ours("delegator") => {
                let (amount, validator) = (self.amount(event)?, validator(event, "validator")?);
                // They go to the withdraw address: where that is another, nothing arrives here.
                if !amount.is_zero() && take(&mut self.received, amount, message.as_deref()) {
                    let (earned_from, earned_to) = (self.at, self.at);
                    let validator = Some(validator);
                    self.push(place, 0, EffectKind::RewardPaid { validator, amount, earned_from, earned_to });
                }
            }
            "delegate" if ours("delegator") => {
                let (amount, validator) = (self.amount(event)?, validator(event, "validator")?);
                // Stake that came from elsewhere than our balance is nothing that left it.
                if take(&mut self.spent, amount, message.as_deref()) {
                    self.push(place, 0, EffectKind::Delegated { validator, amount });
                }
            }
            "unbond" if ours("delegator") => {
                let (amount, validator) = (self.amount(event)?, validator(event, "validator")?);
                let matures_at = super::results::time_of(event.get("completion_time").unwrap_or_default())?;
                self.push(place, 0, EffectKind::Undelegated { validator, amount, matures_at });
            }
            // The one event that does not name the delegator: its message does.
            "redelegate" if signed_by(&self.us.staking, message.as_deref(), all) => {
                let amount = self.amount(event)?;
                let (from, to) = (validator(event, "source_validator")?, validator(event, "destination_validator")?);
                self.push(place, 0, EffectKind::Redelegated { from, to, amount });
            }
            // No operation of ours does this. What unbonded is staked again at once, as if it had matured.
            "cancel_unbonding_delegation" if ours("delegator") => {
                let (amount, validator) = (self.amount(event)?, validator(event, "validator")?);
                self.push(place, 0, EffectKind::Matured { validator: validator.clone(), amount });
                self.push(place, 1, EffectKind::Withdrawn { amount });
                self.push(place, 2, EffectKind::Delegated { validator, amount });
            }
            "complete_unbonding" if ours("delegator") => {
                let (amount, validator) = (self.amount(event)?, validator(event, "validator")?);
                if !amount.is_zero() {
                    self.explain_received(amount)?;
                    self.push(place, 0, EffectKind::Matured { validator, amount });
                    self.push(place, 1, EffectKind::Withdrawn { amount });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the coins that came last and are `amount` together: one lot for each entry that matured.
    fn explain_received(&mut self, amount: BaseUnits) -> Result<(), ChainError> {
        let mut left = amount;
        while !left.is_zero() {
            let lot = self.received.pop().and_then(|coins| left.checked_sub(coins.amount).ok());
            let height = self.height;
            left = lot.ok_or_else(|| untrusted(format!("block {height}: {amount} matured and did not arrive")))?;
        }
        Ok(())
    }

    /// What a transaction moved outside of its messages.
    fn fee(&mut self) -> Result<(), ChainError> {
        let outside = |coins: &Coins| coins.message.is_none();
        let sum = |coins: &[Coins]| {
            BaseUnits::sum(coins.iter().filter(|coins| outside(coins)).map(|coins| coins.amount)).map_err(untrusted)
        };
        let (spent, back) = (sum(&self.spent)?, sum(&self.received)?);
        let Ok(amount) = spent.checked_sub(back) else { return Ok(()) };
        let place = self.spent.iter().find(|coins| outside(coins)).map(|coins| coins.place);
        self.spent.retain(|coins| !outside(coins));
        self.received.retain(|coins| !outside(coins));
        if let Some(place) = place.filter(|_| !amount.is_zero()) {
            self.push(place, 0, EffectKind::FeePaid { amount });
        }
        Ok(())
    }

    /// What is left unexplained came or went as a transfer. What went elsewhere than to custody belongs to no operation and
    /// no transfer, whatever its memo says.
    fn transfers(&mut self, named: Option<&TransferId>, all: &[Event]) -> Result<(), ChainError> {
        let ours = self.operation.take();
        for Coins { place, amount, .. } in std::mem::take(&mut self.received) {
            if !amount.is_zero() {
                self.push(place, 0, EffectKind::TransferIn { transfer: named.cloned(), amount });
            }
        }
        for Coins { place, amount, message } in std::mem::take(&mut self.spent) {
            let mut to_custody = false;
            for event in all.iter().filter(|event| event.kind == "transfer" && event.is("sender", &self.us.staking)) {
                let same = event.get("msg_index") == message.as_deref() && self.amount(event)? == amount;
                to_custody |= same && event.is("recipient", &self.us.custody);
            }
            if !amount.is_zero() {
                self.operation = ours.clone().filter(|_| to_custody);
                let transfer = named.filter(|_| to_custody).cloned();
                self.push(place, 0, EffectKind::TransferOut { transfer, amount });
            }
        }
        Ok(())
    }

    fn done(mut self) -> Vec<Effect> {
        self.effects.sort_by_key(|effect| effect.key.index);
        self.effects
    }
}

fn validator(event: &Event, key: &str) -> Result<ValidatorId, ChainError> {
    ValidatorId::new(event.get(key).unwrap_or_default()).map_err(untrusted)
}

/// Takes out the last coins of that amount which the same message moved. Says whether there were any.
fn take(coins: &mut Vec<Coins>, amount: BaseUnits, message: Option<&str>) -> bool {
    let found = coins.iter().rposition(|one| one.amount == amount && one.message.as_deref() == message);
    found.map(|at| coins.remove(at)).is_some()
}

/// Whether the message is a redelegation that we signed.
fn signed_by(us: &str, message: Option<&str>, all: &[Event]) -> bool {
    all.iter().any(|event| {
        event.kind == "message"
            && event.get("msg_index") == message
            && event.is("action", "/cosmos.staking.v1beta1.MsgBeginRedelegate")
            && event.is("sender", us)
    })
}

/// Since when what each reward among `effects` pays was earned, where that is known.
pub fn date(effects: &mut [Effect], since: &BTreeMap<ValidatorId, UnixSeconds>) {
    for effect in effects {
        if let EffectKind::RewardPaid { validator: Some(validator), earned_from, .. } = &mut effect.kind
            && let Some(from) = since.get(validator)
        {
            *earned_from = *from;
        }
    }
}

/// Whether an event may have changed what shares are worth, and so whether the state is to be compared.
pub fn moves_stake(event: &Event) -> bool {
    match event.kind.as_str() {
        "slash" => true,
        "rewards"
        | "commission"
        | "proposer_reward"
        | "withdraw_rewards"
        | "withdraw_commission"
        | "message"
        | "transfer"
        | "coin_spent"
        | "coin_received"
        | "edit_validator" => false,
        _ => event.values().any(|value| value.contains("valoper1")),
    }
}

/// What the events of `block` do not say of our stake, as the state shows it: `moved` is all that they do say.
pub struct OfStake {
    /// What slashes took, which happens before the transactions.
    pub slashed: Vec<Effect>,
    /// What was left to our shares by others' rounding.
    pub grown: Vec<Effect>,
}

/// Compares our stake before and after `block` with what its events moved.
///
/// What is missing where the chain slashed is the slash. What is missing otherwise is our own operations' rounding, of at
/// most [`ROUNDING_UNITS`] each, and is told by nothing: the comparison with the chain books it to the house. What there is
/// more, a unit at most for each event that names the validator, was left in the validator by others' undelegations and is
/// shared among all its delegators as a reward is: it is told as one that compounds. More than that nobody explains.
pub fn of_stake(block: &Block, before: &Stake, after: &Stake, moved: &[Effect]) -> Result<OfStake, ChainError> {
    let (height, at) = (block.height, block.at);
    let own = block.events.iter();
    let all: Vec<&Event> = block.transactions.iter().flat_map(|one| &one.events).chain(own).collect();
    let slashes = all.iter().any(|event| event.kind == "slash");
    let mut validators: Vec<&ValidatorId> =
        [before, after].iter().flat_map(|stake| stake.delegated.keys().chain(stake.unbonding.keys())).collect();
    validators.sort();
    validators.dedup();
    let mut found = OfStake { slashed: Vec::new(), grown: Vec::new() };
    for (index, validator) in (0..).zip(validators) {
        let moves = Moves::of(moved, validator);
        let held =
            |stake: &BTreeMap<ValidatorId, BaseUnits>| stake.get(validator).copied().unwrap_or_default().signed().get();
        let rest = |before, after, moved: i128| held(after).saturating_sub(held(before)).saturating_sub(moved);
        let delegated = rest(&before.delegated, &after.delegated, moves.delegated);
        let unbonding = rest(&before.unbonding, &after.unbonding, moves.unbonding);
        let push = |to: &mut Vec<Effect>, name: &str, kind| {
            let transaction = TransactionId::new(&format!("{name}-{height}")).map_err(untrusted)?;
            to.push(Effect { key: EffectKey { transaction, index }, height, at, operation: None, kind });
            Ok::<(), ChainError>(())
        };
        let less = |rest: i128| BaseUnits::new(if rest < 0 { rest.unsigned_abs() } else { 0 }).map_err(untrusted);
        let (of_stake, of_unbonding) = (less(delegated)?, less(unbonding)?);
        let rounding = ROUNDING_UNITS.get().saturating_mul(moves.touched);
        if slashes && (of_stake.get() > rounding || !of_unbonding.is_zero()) {
            let (validator, delegated, unbonding) = (validator.clone(), of_stake, of_unbonding);
            push(&mut found.slashed, "slash", EffectKind::Slashed { validator, delegated, unbonding })?;
        }
        let more = u128::try_from(delegated).unwrap_or(0);
        let named = |event: &&&Event| moves_stake(event) && event.values().any(|value| value == validator.as_str());
        if more > 0 && more <= all.iter().filter(named).count() as u128 {
            let amount = BaseUnits::new(more).map_err(untrusted)?;
            let (validator, earned_from, earned_to) = (validator.clone(), at, at);
            let kind = EffectKind::RewardCompounded { validator, amount, earned_from, earned_to };
            push(&mut found.grown, "rest", kind)?;
        }
    }
    Ok(found)
}

/// What effects moved at one validator.
#[derive(Default)]
struct Moves {
    delegated: i128,
    unbonding: i128,
    /// How many of them.
    touched: u128,
}

impl Moves {
    fn of(effects: &[Effect], whom: &ValidatorId) -> Self {
        let mut moves = Self::default();
        for effect in effects {
            let (delegated, unbonding) = match &effect.kind {
                EffectKind::Delegated { validator, amount } if validator == whom => (amount.signed().get(), 0),
                EffectKind::Undelegated { validator, amount, .. } if validator == whom => {
                    (amount.negated().get(), amount.signed().get())
                }
                EffectKind::Redelegated { from, amount, .. } if from == whom => (amount.negated().get(), 0),
                EffectKind::Redelegated { to, amount, .. } if to == whom => (amount.signed().get(), 0),
                EffectKind::Matured { validator, amount } if validator == whom => (0, amount.negated().get()),
                _ => continue,
            };
            moves.delegated = moves.delegated.saturating_add(delegated);
            moves.unbonding = moves.unbonding.saturating_add(unbonding);
            moves.touched += u128::from(delegated != 0);
        }
        moves
    }
}

#[cfg(test)]
#[path = "effects_tests.rs"]
mod tests;
