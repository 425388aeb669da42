//! Ledger against chain at one height: what differs, and what may be made of it.
//!
//! A difference is never explained by guessing. What may be booked is a drop of stake (a slash that the chain's adapter
//! did not report) or an increase (nobody's: suspense), each only once a second reading at a later height shows the very
//! same; everything else is left to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::amount::{AmountError, BaseUnits, SignedUnits};
use super::ids::ValidatorId;
use super::ledger::{Account, AssetAccount, Ledger};

/// What is compared. The order is the order in which differences are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compared {
    /// Liquid at the staking address: what an operation keeps in flight is liquid until it takes effect.
    Liquid,
    /// Staked with a validator.
    Delegated(ValidatorId),
    /// Unbonding from a validator, not matured.
    Unbonding(ValidatorId),
    /// Matured and not withdrawn.
    Matured,
    /// What a claim would pay: that it was seen and neither paid nor pending now. `None` stands for the whole account.
    PendingReward(Option<ValidatorId>),
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Liquid => f.write_str("liquid + in_flight"),
            Self::Delegated(validator) => write!(f, "delegated/{validator}"),
            Self::Unbonding(validator) => write!(f, "unbonding/{validator}"),
            Self::Matured => f.write_str("matured"),
            Self::PendingReward(Some(validator)) => write!(f, "pending_reward/{validator}"),
            Self::PendingReward(None) => f.write_str("pending_reward"),
        }
    }
}

/// One thing of which ledger and chain have another figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What.
    pub of: Compared,
    /// What the ledger has.
    pub ledger: BaseUnits,
    /// What the chain has.
    pub chain: BaseUnits,
    /// Whether it is small enough to be let pass.
    pub tolerated: bool,
}

impl Difference {
    fn new(of: Compared, ledger: BaseUnits, chain: BaseUnits, tolerance: BaseUnits) -> Option<Self> {
        let apart = ledger.get().abs_diff(chain.get());
        (apart > 0).then(|| Self { of, ledger, chain, tolerated: apart <= tolerance.get() })
    }

    /// Whether the chain has less.
    fn is_less(&self) -> bool {
        self.chain < self.ledger
    }

    /// The chain's less the ledger's.
    pub fn apart(&self) -> SignedUnits {
        // Neither is past the largest amount, so that their difference is none past an i128.
        SignedUnits::new(self.chain.signed().get() - self.ledger.signed().get())
    }
}

type ByValidator = BTreeMap<ValidatorId, BaseUnits>;

/// The staking address as one reading shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Liquid.
    pub liquid: BaseUnits,
    /// By validator.
    pub delegated: BTreeMap<ValidatorId, BaseUnits>,
    /// Not matured, by validator.
    pub unbonding: BTreeMap<ValidatorId, BaseUnits>,
    /// Matured, not withdrawn.
    pub matured: BaseUnits,
}

/// Compares account by account. `unbonding` is what the ledger's account of that name has by validator.
pub fn compare(
    ledger: &Ledger,
    unbonding: &BTreeMap<ValidatorId, BaseUnits>,
    reading: &Reading,
    tolerance: BaseUnits,
) -> Result<Vec<Difference>, AmountError> {
    let held = |account: AssetAccount| ledger.balance(&account.into()).positive_part();
    let liquid = held(AssetAccount::Liquid).checked_add(held(AssetAccount::InFlight))?;
    #[cfg(feature = "seeded-bugs")]
    let liquid =
        if crate::seeded::on(crate::seeded::Bug::InFlightLeftOut) { held(AssetAccount::Liquid) } else { liquid };
    let delegated: BTreeMap<ValidatorId, BaseUnits> = ledger
        .balances()
        .filter_map(|(account, balance)| match account {
            Account::Asset(AssetAccount::Delegated(validator)) => Some((validator.clone(), balance.positive_part())),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    found.extend(Difference::new(Compared::Liquid, liquid, reading.liquid, tolerance));
    let mut both = |of: fn(ValidatorId) -> Compared, booked: &ByValidator, seen: &ByValidator| {
        let validators: BTreeSet<&ValidatorId> = booked.keys().chain(seen.keys()).collect();
        found.extend(validators.into_iter().filter_map(|validator| {
            let figure = |map: &ByValidator| map.get(validator).copied().unwrap_or_default();
            Difference::new(of(validator.clone()), figure(booked), figure(seen), tolerance)
        }));
    };
    both(Compared::Delegated, &delegated, &reading.delegated);
    both(Compared::Unbonding, unbonding, &reading.unbonding);
    found.extend(Difference::new(Compared::Matured, held(AssetAccount::Matured), reading.matured, tolerance));
    Ok(found)
}

/// Stake that is missing at one validator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drop {
    /// Of the delegation.
    pub delegated: BaseUnits,
    /// Of the unbondings.
    pub unbonding: BaseUnits,
}

/// What the differences of one reading come to, those that are tolerated left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing differs.
    Agrees,
    /// Stake is missing, and nothing else differs.
    Dropped(BTreeMap<ValidatorId, Drop>),
    /// There is more than the ledger has, and nothing is missing.
    Grown(Vec<(Compared, BaseUnits)>),
    /// Anything else: only a person can tell.
    Unclear,
}

/// Judges the differences of one reading.
pub fn judge(differences: &[Difference]) -> Verdict {
    let real = || differences.iter().filter(|difference| !difference.tolerated);
    if real().next().is_none() {
        return Verdict::Agrees;
    }
    if real().all(|one| one.chain > one.ledger && !matches!(one.of, Compared::PendingReward(_))) {
        let grown = real().map(|one| (one.of.clone(), one.chain.saturating_sub(one.ledger)));
        return Verdict::Grown(grown.collect());
    }
    let dropped = |one: &Difference| matches!(one.of, Compared::Delegated(_) | Compared::Unbonding(_)) && one.is_less();
    if real().all(dropped) { Verdict::Dropped(drops(real())) } else { Verdict::Unclear }
}

/// Stake that is missing, by validator; what else differs is left out.
pub fn drops<'a>(differences: impl IntoIterator<Item = &'a Difference>) -> BTreeMap<ValidatorId, Drop> {
    let mut drops: BTreeMap<ValidatorId, Drop> = BTreeMap::new();
    for difference in differences.into_iter().filter(|difference| difference.is_less()) {
        let missing = difference.ledger.saturating_sub(difference.chain);
        match &difference.of {
            Compared::Delegated(validator) => drops.entry(validator.clone()).or_default().delegated = missing,
            Compared::Unbonding(validator) => drops.entry(validator.clone()).or_default().unbonding = missing,
            Compared::Liquid | Compared::Matured | Compared::PendingReward(_) => {}
        }
    }
    drops
}

/// Rewards that were pending at the reading before and are neither pending now nor were paid in between. What a claim
/// pays can be more than was pending, by what was earned since, but never less. `None` is the whole account, where one
/// claim is for all of it.
pub fn lost_rewards(
    before: &BTreeMap<Option<ValidatorId>, BaseUnits>,
    paid: &BTreeMap<Option<ValidatorId>, BaseUnits>,
    now: &BTreeMap<Option<ValidatorId>, BaseUnits>,
    tolerance: BaseUnits,
) -> Vec<Difference> {
    let figure = |map: &BTreeMap<Option<ValidatorId>, BaseUnits>, whom: &Option<ValidatorId>| {
        map.get(whom).copied().unwrap_or_default()
    };
    let lost = before.iter().filter_map(|(whom, pending)| {
        let expected = pending.saturating_sub(figure(paid, whom));
        let seen = figure(now, whom);
        (seen < expected).then(|| Difference::new(Compared::PendingReward(whom.clone()), expected, seen, tolerance))?
    });
    lost.collect()
}

#[cfg(test)]
#[path = "reconciliation_tests.rs"]
mod tests;
