//! What customers do all day: deposits, sales, withdrawals, whales, dust, and one day on which most of them leave.

use std::collections::BTreeMap;

use super::plan::{HOUR, PoolPlan};
use crate::simulation::rng::Rng;

/// One change of one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The account, by its number in the pool.
    pub(super) who: usize,
    /// The balance after it, in base units.
    pub(super) balance: u128,
    /// When, in seconds since the Unix epoch.
    pub(super) at: i64,
}

/// Of what everyone holds, so many hundredths leave on the day of the mass withdrawal.
const LEAVING_PERCENT: u128 = 70;

/// Over so many hours much of it trickles back.
const TRICKLE_HOURS: u64 = 120;

/// The customers of one pool.
#[derive(Clone, Debug)]
pub(super) struct Market {
    rng: Rng,
    name: &'static str,
    minimum: u128,
    ceiling: u128,
    accounts: Vec<String>,
    numbers: BTreeMap<String, usize>,
    balances: Vec<u128>,
    total: u128,
    opening: Vec<u128>,
    whales: Vec<usize>,
    returning: Vec<(usize, u128)>,
    trickle_hours_left: u64,
}

impl Market {
    /// The customers as they open.
    pub(super) fn new(seed: u64, plan: &PoolPlan) -> Self {
        let opening: Vec<u128> = plan.opening.iter().map(|(_, units)| *units).collect();
        let mut whales: Vec<usize> = (0..opening.len()).collect();
        whales.sort_by_key(|who| std::cmp::Reverse(opening.get(*who).copied()));
        whales.truncate(opening.len().div_ceil(200));
        let total = plan.opening_total();
        Self {
            rng: Rng::new(seed, &format!("market {}", plan.preset.name())),
            name: plan.preset.name(),
            minimum: plan.rules.minimum,
            ceiling: total.saturating_mul(2),
            accounts: plan.opening.iter().map(|(account, _)| account.clone()).collect(),
            numbers: plan.opening.iter().enumerate().map(|(who, (account, _))| (account.clone(), who)).collect(),
            balances: opening.clone(),
            total,
            opening,
            whales,
            returning: Vec::new(),
            trickle_hours_left: 0,
        }
    }

    /// Everyone's balance at the beginning.
    pub(super) fn open(&self, at: i64) -> Vec<Change> {
        self.balances.iter().enumerate().map(|(who, balance)| Change { who, balance: *balance, at }).collect()
    }

    /// The ledger service's id of account number `who`.
    pub(super) fn account(&self, who: usize) -> &str {
        self.accounts.get(who).map_or("", String::as_str)
    }

    /// The accounts' ids, by their numbers.
    pub(super) fn accounts(&self) -> &[String] {
        &self.accounts
    }

    /// The number of an account, by the ledger service's id.
    pub(super) fn who(&self, account: &str) -> Option<usize> {
        self.numbers.get(account).copied()
    }

    /// What account number `who` holds.
    pub(super) fn balance(&self, who: usize) -> u128 {
        self.balances.get(who).copied().unwrap_or(0)
    }

    /// A payout reaches its customer.
    pub(super) fn credit(&mut self, who: usize, units: u128, at: i64) -> Change {
        self.set(who, self.balance(who).saturating_add(units), at)
    }

    /// An ordinary stretch of `[from, to)`, busier by day than by night.
    pub(super) fn trade(&mut self, from: i64, to: i64) -> Vec<Change> {
        let hour = usize::try_from(from.div_euclid(HOUR).rem_euclid(24)).unwrap_or(0);
        const BUSY: [u64; 24] = [2, 1, 1, 1, 1, 2, 3, 5, 7, 9, 10, 10, 9, 9, 10, 10, 9, 8, 7, 7, 6, 5, 4, 3];
        let seconds = u64::try_from(to - from).unwrap_or(0);
        let busy = BUSY.get(hour).copied().unwrap_or(1);
        let wanted = (self.opening.len() as u64 * busy * seconds).div_ceil(600 * 3_600) + 1;
        let mut times: Vec<i64> = (0..wanted).map(|_| self.moment(from, to)).collect();
        times.sort_unstable();
        let mut out = Vec::with_capacity(times.len());
        out.extend(self.trickle(from));
        out.extend(times.into_iter().map(|at| self.one(at)));
        out
    }

    /// The hour in which most of what everyone holds leaves.
    pub(super) fn mass_withdrawal(&mut self, from: i64, to: i64) -> Vec<Change> {
        let mut order: Vec<usize> = (0..self.balances.len()).filter(|who| self.balance(*who) > 0).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, self.rng.index(last + 1));
        }
        let mut leaving = self.total / 100 * LEAVING_PERCENT;
        let mut times: Vec<i64> = order.iter().map(|_| self.moment(from, to)).collect();
        times.sort_unstable();
        let mut out = Vec::new();
        for (who, at) in order.into_iter().zip(times) {
            if leaving == 0 {
                break;
            }
            let taken = self.balance(who).min(leaving);
            leaving -= taken;
            out.push(self.set(who, self.balance(who) - taken, at));
            let back = taken / 100 * u128::from(self.rng.between(30, 90));
            self.returning.push((who, back));
        }
        self.trickle_hours_left = TRICKLE_HOURS;
        out
    }

    /// Some of those who left come back.
    fn trickle(&mut self, at: i64) -> Vec<Change> {
        let due = (self.returning.len() as u64).checked_div(self.trickle_hours_left).unwrap_or(0);
        self.trickle_hours_left = self.trickle_hours_left.saturating_sub(1);
        let mut out = Vec::new();
        for _ in 0..due {
            let index = self.rng.index(self.returning.len());
            let (who, units) = self.returning.swap_remove(index);
            out.push(self.set(who, self.balance(who).saturating_add(units), at));
        }
        out
    }

    fn one(&mut self, at: i64) -> Change {
        let who = self.rng.index(self.balances.len());
        let held = self.balance(who);
        match self.rng.below(100) {
            0..40 => self.deposit(who, at),
            40..75 => {
                let part = held / 100 * u128::from(self.rng.between(1, 60));
                self.set(who, held - part, at)
            }
            75..83 => self.set(who, 0, at),
            83..88 => {
                let dust = 1 + self.rng.amount_below(self.minimum.saturating_sub(1));
                self.set(who, dust.min(held.max(1)), at)
            }
            88..92 => {
                let whale = self.whales.get(self.rng.index(self.whales.len())).copied().unwrap_or(who);
                let part = self.balance(whale) / 100 * u128::from(self.rng.between(2, 12));
                let buys = self.rng.below(2) == 0 && self.total.saturating_add(part) < self.ceiling;
                let after = if buys { self.balance(whale) + part } else { self.balance(whale) - part };
                self.set(whale, after, at)
            }
            92..96 => {
                let who = self.accounts.len();
                let account = format!("new-{}-{who:06}", self.name);
                self.numbers.insert(account.clone(), who);
                self.accounts.push(account);
                self.balances.push(0);
                self.deposit(who, at)
            }
            _ => {
                let few = 1 + self.rng.amount_below(1_000);
                self.set(who, held.saturating_add(few), at)
            }
        }
    }

    /// As much as somebody once held, or a part of it.
    fn deposit(&mut self, who: usize, at: i64) -> Change {
        let like = self.opening.get(self.rng.index(self.opening.len())).copied().unwrap_or(0);
        let units = like / u128::from(self.rng.between(1, 4)) + 1 + self.rng.amount_below(1_000);
        let room = self.ceiling.saturating_sub(self.total);
        self.set(who, self.balance(who).saturating_add(units.min(room)), at)
    }

    fn moment(&mut self, from: i64, to: i64) -> i64 {
        let seconds = u64::try_from(to - from).unwrap_or(0);
        from + i64::try_from(self.rng.below(seconds)).unwrap_or(0)
    }

    fn set(&mut self, who: usize, balance: u128, at: i64) -> Change {
        if let Some(held) = self.balances.get_mut(who) {
            self.total = self.total.saturating_sub(*held).saturating_add(balance);
            *held = balance;
        }
        Change { who, balance, at }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{DAY, START};
    use super::super::reference::Rules;
    use super::*;
    use crate::config::Preset;

    fn plan() -> PoolPlan {
        let minimum = 10_000;
        PoolPlan {
            preset: Preset::Atom,
            opening: super::super::population::seeded(1, Preset::Atom, minimum, 1_000),
            rules: Rules { minimum, cap: None, fee_bps: 1_000 },
            validators_csv: None,
        }
    }

    #[test]
    fn a_day_has_every_kind_of_trade_in_order_of_time() {
        let mut market = Market::new(1, &plan());
        let mut again = Market::new(1, &plan());
        let (mut count, mut nothing, mut dust) = (0, 0, 0);
        for hour in 0..48 {
            let (from, to) = (START + hour * HOUR, START + (hour + 1) * HOUR);
            let changes = market.trade(from, to);
            assert_eq!(changes, again.trade(from, to));
            assert!(changes.windows(2).all(|pair| pair[0].at <= pair[1].at));
            assert!(changes.iter().all(|change| (from..to).contains(&change.at)));
            count += changes.len();
            nothing += changes.iter().filter(|change| change.balance == 0).count();
            dust += changes.iter().filter(|change| change.balance > 0 && change.balance < 10_000).count();
        }
        assert!(count > 300 && nothing > 20 && dust > 10, "{count} {nothing} {dust}");
        assert!(market.accounts().len() > 1_000);
        assert_eq!(market.total, market.balances.iter().sum());
    }

    #[test]
    fn most_leave_within_the_hour_and_many_come_back() {
        let mut market = Market::new(1, &plan());
        let before = market.total;
        let changes = market.mass_withdrawal(START, START + HOUR);
        assert!(changes.iter().all(|change| (START..START + HOUR).contains(&change.at)));
        let after = market.total;
        assert!(after * 100 <= before * 31 && after * 100 >= before * 29, "{before} {after}");
        for hour in 1..=TRICKLE_HOURS as i64 {
            market.trickle(START + hour * HOUR);
        }
        assert!(market.returning.is_empty());
        assert!(market.total > after * 3 / 2);
    }

    #[test]
    fn a_month_stays_within_what_custody_holds() {
        let mut market = Market::new(3, &plan());
        for hour in 0..30 * 24 {
            market.trade(START + hour * HOUR, START + (hour + 1) * HOUR);
            assert!(market.total <= market.ceiling + market.ceiling / 10);
        }
        assert!(market.total * 4 > market.ceiling / 2, "the pool does not run dry");
        assert_eq!((30 * 24 * HOUR) % DAY, 0);
    }
}
