//! What effects make of one observation, against another: clause E5.

use std::collections::BTreeMap;

use crate::chain::Observation;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::ids::ValidatorId;

/// An account of the staking address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    Liquid,
    Delegated(ValidatorId),
    Unbonding(ValidatorId),
    Matured,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Liquid => f.write_str("liquid"),
            Self::Delegated(validator) => write!(f, "delegated with {validator}"),
            Self::Unbonding(validator) => write!(f, "unbonding from {validator}"),
            Self::Matured => f.write_str("matured"),
        }
    }
}

/// Balances; amounts are at most 2^127 - 1, and sums saturate far beyond all there is.
type Book = BTreeMap<Account, i128>;

fn signed(amount: BaseUnits) -> i128 {
    amount.signed().get()
}

fn add(book: &mut Book, account: Account, amount: i128) {
    let balance = book.entry(account).or_default();
    *balance = balance.saturating_add(amount);
}

fn book(seen: &Observation) -> Book {
    let mut book = Book::from([(Account::Liquid, signed(seen.liquid))]);
    for one in &seen.delegations {
        add(&mut book, Account::Delegated(one.validator.clone()), signed(one.amount));
    }
    for one in &seen.unbondings {
        let account = if one.matured { Account::Matured } else { Account::Unbonding(one.validator.clone()) };
        add(&mut book, account, signed(one.amount));
    }
    book
}

/// Moves what one effect moves, and says with whom stake was touched.
fn apply<'a>(book: &mut Book, effect: &'a EffectKind) -> Vec<&'a ValidatorId> {
    use Account::{Delegated, Liquid, Matured, Unbonding};
    let mut shift = |account: Account, amount: i128| add(book, account, amount);
    match effect {
        EffectKind::TransferIn { amount, .. } | EffectKind::RewardPaid { amount, .. } => shift(Liquid, signed(*amount)),
        EffectKind::TransferOut { amount, .. } | EffectKind::FeePaid { amount } => shift(Liquid, -signed(*amount)),
        EffectKind::Delegated { validator, amount } => {
            shift(Liquid, -signed(*amount));
            shift(Delegated(validator.clone()), signed(*amount));
            return vec![validator];
        }
        EffectKind::Undelegated { validator, amount, .. } => {
            shift(Delegated(validator.clone()), -signed(*amount));
            shift(Unbonding(validator.clone()), signed(*amount));
            return vec![validator];
        }
        EffectKind::Redelegated { from, to, amount } => {
            shift(Delegated(from.clone()), -signed(*amount));
            shift(Delegated(to.clone()), signed(*amount));
            return vec![from, to];
        }
        EffectKind::Matured { validator, amount } => {
            shift(Unbonding(validator.clone()), -signed(*amount));
            shift(Matured, signed(*amount));
        }
        EffectKind::Withdrawn { amount } => {
            shift(Matured, -signed(*amount));
            shift(Liquid, signed(*amount));
        }
        EffectKind::RewardCompounded { validator, amount, .. } => {
            shift(Delegated(validator.clone()), signed(*amount));
        }
        EffectKind::Slashed { validator, delegated, unbonding } => {
            shift(Delegated(validator.clone()), -signed(*delegated));
            shift(Unbonding(validator.clone()), -signed(*unbonding));
        }
        EffectKind::SlashReversed { validator, delegated, unbonding, .. } => {
            shift(Delegated(validator.clone()), signed(*delegated));
            shift(Unbonding(validator.clone()), signed(*unbonding));
        }
    }
    Vec::new()
}

/// What `effects`, all those between two observations, leave unexplained: the first account that differs by more than
/// `rounding` for each move of stake there.
pub(super) fn unexplained(
    before: &Observation,
    effects: &[Effect],
    after: &Observation,
    rounding: BaseUnits,
) -> Option<String> {
    let mut expected = book(before);
    let mut touched: BTreeMap<&ValidatorId, i128> = BTreeMap::new();
    for effect in effects {
        for validator in apply(&mut expected, &effect.kind) {
            *touched.entry(validator).or_default() += 1;
        }
    }
    let found = book(after);
    let mut accounts: Vec<&Account> = expected.keys().chain(found.keys()).collect();
    accounts.sort();
    accounts.dedup();
    for account in accounts {
        let [due, is] = [&expected, &found].map(|book| book.get(account).copied().unwrap_or(0));
        let moves = match account {
            Account::Delegated(validator) => touched.get(validator).copied().unwrap_or(0),
            _ => 0,
        };
        let lost = due.saturating_sub(is);
        if lost < 0 || lost > signed(rounding).saturating_mul(moves) {
            return Some(format!(
                "between heights {} and {} effects make {account} {due} base units, and it is {is}",
                before.height, after.height
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Delegation;
    use crate::domain::effect::EffectKey;
    use crate::domain::ids::TransactionId;
    use crate::domain::time::UnixSeconds;

    fn units(units: u64) -> BaseUnits {
        BaseUnits::from_u64(units)
    }

    fn seen(liquid: u64, staked: u64) -> Observation {
        let validator = ValidatorId::new("v1").unwrap();
        let (pending_reward, redelegation_locked) = (units(0), units(0));
        let delegation = Delegation { validator, amount: units(staked), pending_reward, redelegation_locked };
        let (delegations, unbondings, validators) = (vec![delegation], Vec::new(), Vec::new());
        Observation { height: 1, at: UnixSeconds::new(0), liquid: units(liquid), delegations, unbondings, validators }
    }

    fn effects() -> Vec<Effect> {
        let key = |index| EffectKey { transaction: TransactionId::new("T").unwrap(), index };
        let validator = ValidatorId::new("v1").unwrap();
        let kinds = [EffectKind::FeePaid { amount: units(2) }, EffectKind::Delegated { validator, amount: units(50) }];
        let of = |(index, kind)| Effect { key: key(index), height: 1, at: UnixSeconds::new(0), operation: None, kind };
        (0..).zip(kinds).map(of).collect()
    }

    #[test]
    fn every_account_is_explained_to_the_unit() {
        let none = |after: Observation, rounding| unexplained(&seen(100, 10), &effects(), &after, units(rounding));
        assert_eq!(none(seen(48, 60), 0), None);
        let fee = none(seen(50, 60), 1).unwrap();
        assert_eq!(fee, "between heights 1 and 1 effects make liquid 48 base units, and it is 50");
        assert!(none(seen(48, 59), 0).unwrap().contains("effects make delegated with v1 60 base units, and it is 59"));
        assert_eq!(none(seen(48, 59), 1), None);
        assert!(none(seen(48, 61), 1).is_some(), "rounding never adds");
    }
}
