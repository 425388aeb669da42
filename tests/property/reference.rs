//! The reference model of time weight and split. It was written from the design alone, with big rationals, and uses
//! nothing of the crate, so that a mistake there can't repeat itself here. It is slow and obvious on purpose.
//!
//! Other test binaries include it with `#[path]`.
#![allow(dead_code, reason = "included by several test binaries, each of which uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, Zero};

/// What a pool asks of a balance during one period.
#[derive(Clone, Debug)]
pub struct ReferencePolicy {
    /// A smaller balance earns nothing.
    pub minimum: u128,
    /// The part above earns nothing.
    pub cap: Option<u128>,
    /// Only accounts that opted in earn.
    pub opt_in_only: bool,
}

/// What happens to one account in one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceEvent {
    /// The balance is this from now on.
    Balance(u128),
    /// It opts in to the pool.
    OptIn,
    /// It opts out of the pool.
    OptOut,
    /// It opts out of all pools.
    OptOutOfAll,
    /// It takes that back.
    RevokeOptOutOfAll,
    /// It may not earn.
    Restrict,
    /// It may earn again.
    LiftRestriction,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    balance: u128,
    opted_in: bool,
    opted_out: bool,
    opted_out_of_all: bool,
    restricted: bool,
}

impl Standing {
    fn after(mut self, event: &ReferenceEvent) -> Self {
        match event {
            ReferenceEvent::Balance(balance) => self.balance = *balance,
            ReferenceEvent::OptIn => (self.opted_in, self.opted_out) = (true, false),
            ReferenceEvent::OptOut => (self.opted_in, self.opted_out) = (false, true),
            ReferenceEvent::OptOutOfAll => self.opted_out_of_all = true,
            ReferenceEvent::RevokeOptOutOfAll => self.opted_out_of_all = false,
            ReferenceEvent::Restrict => self.restricted = true,
            ReferenceEvent::LiftRestriction => self.restricted = false,
        }
        self
    }

    fn eligible(&self, policy: &ReferencePolicy) -> BigInt {
        let barred = self.opted_out || self.opted_out_of_all || self.restricted;
        let enrolled = self.opted_in || !policy.opt_in_only;
        if barred || !enrolled || self.balance < policy.minimum {
            return BigInt::zero();
        }
        BigInt::from(policy.cap.map_or(self.balance, |cap| cap.min(self.balance)))
    }
}

/// Every standing that every account ever had, from when on.
#[derive(Clone, Debug, Default)]
pub struct ReferenceLedger {
    max_skew_seconds: i64,
    frozen_until: i64,
    accounts: BTreeMap<String, Vec<(i64, Standing)>>,
    /// The same, with late events at their own times: what everyone should have been paid for.
    stated: BTreeMap<String, Vec<(i64, Standing)>>,
    /// The periods that were closed, and what each account's weights in them came to.
    closed: Vec<(i64, i64, ReferencePolicy)>,
    paid: BTreeMap<String, BigInt>,
}

impl ReferenceLedger {
    /// A ledger without accounts. A time that goes back within an account by at most `max_skew_seconds` is moved up.
    pub fn new(max_skew_seconds: i64) -> Self {
        Self { max_skew_seconds, frozen_until: i64::MIN, ..Self::default() }
    }

    /// Takes one event in the order of arrival. `false` where it is refused: its time goes back too far.
    pub fn apply(&mut self, account: &str, at: i64, event: &ReferenceEvent) -> bool {
        let standings = self.accounts.entry(account.to_owned()).or_default();
        let (last, standing) = standings.last().cloned().unwrap_or((i64::MIN, Standing::default()));
        // It goes back where its own time does: a freeze in between moves no time.
        let stated = self.stated.entry(account.to_owned()).or_default();
        let said_last = stated.last().map_or(i64::MIN, |(at, _)| *at);
        if at < said_last && said_last - at > self.max_skew_seconds {
            return false;
        }
        stated.push((at.max(said_last), standing.clone().after(event)));
        standings.push((at.max(last).max(self.frozen_until), standing.after(event)));
        true
    }

    /// Closes the period `[start, end)`, which follows the one closed before. Everyone gets what all closed periods
    /// should have given them by what is known now, less what they got, and nothing where that is less than nothing.
    pub fn close(&mut self, start: i64, end: i64, policy: &ReferencePolicy) -> BTreeMap<String, BigInt> {
        self.closed.push((start, end, policy.clone()));
        let known = Self { accounts: self.stated.clone(), ..Self::new(self.max_skew_seconds) };
        let mut due: BTreeMap<String, BigInt> = BTreeMap::new();
        for (start, end, policy) in &self.closed {
            for (account, weight) in known.weights(*start, *end, policy) {
                *due.entry(account).or_default() += weight;
            }
        }
        for (account, due) in &mut due {
            let paid = self.paid.entry(account.clone()).or_default();
            *due = (&*due - &*paid).max(BigInt::zero());
            *paid += &*due;
        }
        self.freeze(end);
        due
    }

    /// What lies before `until` will not change any more: an event that comes later counts from there.
    pub fn freeze(&mut self, until: i64) {
        self.frozen_until = self.frozen_until.max(until);
    }

    /// What `account` has that earns at `at`.
    pub fn eligible(&self, account: &str, at: i64, policy: &ReferencePolicy) -> BigInt {
        let standings = self.accounts.get(account).map_or(&[][..], Vec::as_slice);
        standings.iter().rev().find(|(from, _)| *from <= at).map_or_else(BigInt::zero, |(_, s)| s.eligible(policy))
    }

    /// What everyone has that earns at `at`.
    pub fn eligible_total(&self, at: i64, policy: &ReferencePolicy) -> BigInt {
        self.accounts.keys().map(|account| self.eligible(account, at, policy)).sum()
    }

    /// The time weight of every account over `[start, end)`, those of zero included.
    pub fn weights(&self, start: i64, end: i64, policy: &ReferencePolicy) -> BTreeMap<String, BigInt> {
        let weight = |account: &String, standings: &Vec<(i64, Standing)>| -> BigInt {
            let moments = breaks(start, end, standings.iter().map(|(at, _)| *at));
            spans(&moments).map(|(from, to)| self.eligible(account, from, policy) * (to - from)).sum()
        };
        self.accounts.iter().map(|(account, standings)| (account.clone(), weight(account, standings))).collect()
    }

    /// The moments within `[start, end)` at which anything changed, `start` first.
    pub fn moments(&self, start: i64, end: i64) -> Vec<i64> {
        let all = self.accounts.values().flatten().map(|(at, _)| *at);
        breaks(start, end, all).into_iter().filter(|at| *at < end).collect()
    }

    /// The integral over `[start, end)` of what is staked and unbonding above the eligible total. `staked` says from
    /// when on how much; before its first entry nothing is.
    pub fn house_weight(&self, start: i64, end: i64, policy: &ReferencePolicy, staked: &[(i64, u128)]) -> BigInt {
        let all = self.accounts.values().flatten().map(|(at, _)| *at).chain(staked.iter().map(|(at, _)| *at));
        let level = |at: i64| staked.iter().rev().find(|(from, _)| *from <= at).map_or(0, |(_, level)| *level);
        spans(&breaks(start, end, all))
            .map(|(from, to)| {
                let above = BigInt::from(level(from)) - self.eligible_total(from, policy);
                above.max(BigInt::zero()) * (to - from)
            })
            .sum()
    }
}

fn breaks(start: i64, end: i64, moments: impl Iterator<Item = i64>) -> BTreeSet<i64> {
    moments.filter(|at| start < *at && *at < end).chain([start, end]).collect()
}

fn spans(moments: &BTreeSet<i64>) -> impl Iterator<Item = (i64, i64)> {
    moments.iter().copied().zip(moments.iter().copied().skip(1))
}

/// What there is to split, and on which terms.
#[derive(Clone, Debug)]
pub struct ReferenceTerms {
    /// Rewards.
    pub receipts: u128,
    /// Carry of the last distribution.
    pub carry_in: u128,
    /// What the house adds.
    pub house_in: u128,
    /// The fee in ten-thousandths.
    pub fee_bps: u32,
    /// What is still to be recovered.
    pub owed: u128,
    /// What a payout is a multiple of.
    pub payout_unit: u128,
}

/// The figures of one distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSplit {
    /// The operator's.
    pub fee: BigInt,
    /// Recovered.
    pub recovery: BigInt,
    /// What was shared out.
    pub net: BigInt,
    /// Each account's, those of zero included.
    pub payouts: BTreeMap<String, BigInt>,
    /// What the house adds.
    pub house_in: BigInt,
    /// What the house gets.
    pub house_out: BigInt,
    /// What is left over.
    pub carry_out: BigInt,
}

impl ReferenceSplit {
    /// Both sides of equation 1.
    pub fn equation_1(&self, terms: &ReferenceTerms) -> (BigInt, BigInt) {
        let left = BigInt::from(terms.receipts) + terms.carry_in + &self.house_in;
        let paid: BigInt = self.payouts.values().sum();
        (left, &self.fee + &self.recovery + paid + &self.house_out + &self.carry_out)
    }
}

/// The largest multiple of `unit` that is at most `value`.
pub fn whole_units(value: &BigRational, unit: u128) -> BigInt {
    let unit = BigInt::from(unit);
    (value / BigRational::from_integer(unit.clone())).floor().to_integer() * unit
}

fn share(of: &BigInt, part: &BigInt, whole: &BigInt) -> BigRational {
    BigRational::from_integer(of.clone()) * BigRational::new(part.clone(), whole.clone())
}

/// Splits pro rata by weight, the house taking part with its own.
pub fn split(terms: &ReferenceTerms, weights: &BTreeMap<String, BigInt>, house_weight: &BigInt) -> ReferenceSplit {
    let receipts = BigInt::from(terms.receipts);
    let fee = share(&receipts, &BigInt::from(terms.fee_bps), &BigInt::from(10_000)).floor().to_integer();
    let recovery = BigInt::from(terms.owed).min(&receipts + terms.carry_in - &fee);
    let house_in = BigInt::from(terms.house_in);
    let net = receipts + terms.carry_in + &house_in - &fee - &recovery;
    let total: BigInt = weights.values().sum::<BigInt>() + house_weight;
    let pay = |weight: &BigInt| {
        if total.is_zero() { BigInt::zero() } else { whole_units(&share(&net, weight, &total), terms.payout_unit) }
    };
    let payouts: BTreeMap<_, _> = weights.iter().map(|(account, weight)| (account.clone(), pay(weight))).collect();
    let house_out = pay(house_weight);
    let carry_out = &net - payouts.values().sum::<BigInt>() - &house_out;
    assert!(!carry_out.is_negative(), "the reference never pays more than there is");
    ReferenceSplit { fee, recovery, net, payouts, house_in, house_out, carry_out }
}

/// Pays `rate` a year of 365 days on every weight, the house making up what is missing and keeping what is over.
pub fn fixed_apr(terms: &ReferenceTerms, weights: &BTreeMap<String, BigInt>, rate: &BigRational) -> ReferenceSplit {
    let receipts = BigInt::from(terms.receipts);
    let fee = share(&receipts, &BigInt::from(terms.fee_bps), &BigInt::from(10_000)).floor().to_integer();
    let year = BigInt::from(365 * 24 * 60 * 60);
    let pay =
        |weight: &BigInt| whole_units(&(rate * BigRational::new(weight.clone(), year.clone())), terms.payout_unit);
    let payouts: BTreeMap<_, _> = weights.iter().map(|(account, weight)| (account.clone(), pay(weight))).collect();
    let over = receipts + terms.carry_in - &fee - payouts.values().sum::<BigInt>();
    let zero = BigInt::zero();
    let (house_in, house_out) = ((-&over).max(zero.clone()), over.max(zero.clone()));
    let net = payouts.values().sum::<BigInt>() + &house_out;
    ReferenceSplit { fee, recovery: zero.clone(), net, payouts, house_in, house_out, carry_out: zero }
}
