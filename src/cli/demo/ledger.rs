//! The ledger service's other side: reads payouts, credits each once, acknowledges, and checks every single amount.

use std::collections::BTreeMap;

use prost_types::Timestamp;

use super::DemoError;
use super::amounts::units;
use super::plan::{DAY, Plan, START};
use super::reference::{Due, Rules, Wide, split};
use super::world::PoolWorld;
use crate::client::{Client, ClientError, acknowledge};
use crate::pb::v1;
use v1::DistributionState;

/// A payout that is to be credited now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) pool: usize,
    pub(super) account: String,
    pub(super) units: u128,
}

/// The books of the ledger service on payouts.
#[derive(Debug)]
pub(super) struct Ledger {
    pools: Vec<PoolBook>,
    /// Each payout ever credited, by its id.
    credited: BTreeMap<String, u128>,
    /// How many payouts came a second time, and were not credited again.
    pub(super) repeated: u64,
}

/// The payouts of one pool, and what they should be.
#[derive(Debug)]
pub(super) struct PoolBook {
    name: String,
    rules: Rules,
    /// Where the next period to be checked begins.
    next_period: i64,
    carry: u128,
    expected: BTreeMap<i64, Expected>,
    pub(super) sums: Sums,
    /// What was wrong; the first few, for people.
    pub(super) faults: Vec<String>,
    pub(super) fault_count: u64,
    /// By account: the periods paid for, and the amounts.
    pub(super) history: BTreeMap<String, Vec<(i64, u128)>>,
}

#[derive(Debug)]
struct Expected {
    due: Due,
    accounts: BTreeMap<String, usize>,
    /// How many payouts above zero have not come yet.
    left: u64,
}

/// Sums over all distributions checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) receipts: u128,
    pub(super) carry_in: u128,
    pub(super) fee: u128,
    /// The fees recomputed.
    pub(super) fee_due: u128,
    pub(super) payouts: u128,
    /// The payouts recomputed.
    pub(super) payouts_due: u128,
    pub(super) payout_count: u64,
    pub(super) payout_count_due: u64,
    pub(super) house_in: u128,
    pub(super) house_out: u128,
    pub(super) recovery: u128,
    pub(super) carry_out: u128,
    pub(super) carry_due: u128,
    /// Streamed, each once.
    pub(super) credited: u128,
    pub(super) credited_count: u64,
    pub(super) own_weight: Wide,
    pub(super) house_weight: Wide,
    pub(super) weight_total: Wide,
    pub(super) distributions_with_fee: u64,
    pub(super) distributions_with_carry: u64,
}

impl Ledger {
    /// Nothing paid yet.
    pub(super) fn new(plan: &Plan) -> Self {
        let pools = plan.pools.iter().map(|pool| PoolBook {
            name: pool.name(),
            rules: pool.rules,
            next_period: START,
            carry: 0,
            expected: BTreeMap::new(),
            sums: Sums::default(),
            faults: Vec::new(),
            fault_count: 0,
            history: BTreeMap::new(),
        });
        Self { pools: pools.collect(), credited: BTreeMap::new(), repeated: 0 }
    }

    /// The book of pool number `pool`.
    pub(super) fn pool(&self, pool: usize) -> Option<&PoolBook> {
        self.pools.get(pool)
    }

    /// Reads everything that is released and not acknowledged, and says what is to be credited. Without
    /// `acknowledged`, the server is left not knowing, and will send the same again.
    pub(super) async fn collect(
        &mut self,
        client: &Client,
        world: &mut [PoolWorld],
        acknowledged: bool,
    ) -> Result<Vec<Credit>, DemoError> {
        let mut credits = Vec::new();
        let mut reader = client.payouts("", "").until_caught_up();
        while let Some(batch) = reader.next().await.map_err(DemoError::call("StreamPayouts"))? {
            let Some(pool) = self.pools.iter().position(|pool| pool.name == batch.pool) else {
                return Err(DemoError::Ledger(format!("payouts of {}, which is no pool of this run", batch.pool)));
            };
            let period = batch.period_start_time.map_or(0, |time| time.seconds);
            self.check_up_to(client, pool, period, world).await?;
            if let Some(book) = self.pools.get_mut(pool) {
                for payout in &batch.payouts {
                    let amount = units(payout.amount.as_ref());
                    match self.credited.get(&payout.name) {
                        Some(before) if *before == amount => self.repeated += 1,
                        Some(before) => {
                            book.fault(format!("{} came again as {amount}, after {before}", payout.name));
                        }
                        None => {
                            self.credited.insert(payout.name.clone(), amount);
                            book.check(period, &payout.account, amount);
                            credits.push(Credit { pool, account: payout.account.clone(), units: amount });
                        }
                    }
                }
            }
            if acknowledged {
                let mut request = acknowledge(&batch, Vec::new());
                let place = format!("{}-{}", request.distribution.replace('/', "-"), request.revision);
                request.request_id = format!("ack-{place}-{}", request.acknowledged_count);
                client.ack_payouts(request).await.map_err(DemoError::call("AckPayouts"))?;
            }
        }
        Ok(credits)
    }

    /// Checks the distributions of the periods up to the one that begins at `period`, in their order, where they were
    /// not checked before.
    pub(super) async fn check_up_to(
        &mut self,
        client: &Client,
        pool: usize,
        period: i64,
        world: &mut [PoolWorld],
    ) -> Result<(), DemoError> {
        let (Some(book), Some(one)) = (self.pools.get_mut(pool), world.get_mut(pool)) else {
            return Ok(());
        };
        while book.next_period <= period {
            let start = book.next_period;
            let Some(distribution) = distribution(client, &book.name, start).await? else {
                return Err(DemoError::Ledger(format!("{} has no distribution of {}", book.name, day(start))));
            };
            let Some(weights) = one.reference.take_weights(start) else {
                return Err(DemoError::Ledger(format!("{} of {} came before its end", book.name, day(start))));
            };
            book.begin(start, distribution, &weights, one.market.accounts());
            book.next_period += DAY;
        }
        Ok(())
    }

    /// What was promised and never came.
    pub(super) fn finish(&mut self) {
        for book in &mut self.pools {
            for (period, expected) in std::mem::take(&mut book.expected) {
                if expected.left > 0 {
                    book.fault(format!("{} payouts of {} never came", expected.left, day(period)));
                }
            }
        }
    }
}

impl PoolBook {
    fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < 10 {
            self.faults.push(what);
        }
    }

    /// Where the next period to be checked begins.
    pub(super) fn next_period(&self) -> i64 {
        self.next_period
    }

    /// Computes what the distribution should be, and compares.
    fn begin(&mut self, start: i64, found: v1::Distribution, weights: &[u128], accounts: &[String]) {
        let receipts = units(found.receipts_amount.as_ref());
        let house_weight = found.house_weight.parse().unwrap_or(Wide::ZERO);
        let due = split(&self.rules, receipts, self.carry, weights, house_weight);
        let weight_total = found.weight_total.parse().unwrap_or(Wide::ZERO);
        let positive = weights.iter().filter(|weight| **weight > 0).count() as u64;
        let name = found.name.clone();
        let mut differ = |what: &str, found: String, due: String| {
            if found != due {
                self.fault_count += 1;
                if self.faults.len() < 10 {
                    self.faults.push(format!("{name}: {what} is {found} and should be {due}"));
                }
            }
        };
        let amount = |amount: &Option<v1::Amount>| units(amount.as_ref()).to_string();
        differ("carry_in", amount(&found.carry_in), self.carry.to_string());
        differ("house_in", amount(&found.house_in), "0".to_owned());
        differ("fee", amount(&found.fee), due.fee.to_string());
        differ("recovery", amount(&found.recovery), "0".to_owned());
        differ("net", amount(&found.net), due.net.to_string());
        differ("payouts_amount", amount(&found.payouts_amount), due.payouts_total().to_string());
        differ("house_out", amount(&found.house_out), due.house_out.to_string());
        differ("carry_out", amount(&found.carry_out), due.carry_out.to_string());
        differ("payout_count", found.payout_count.to_string(), due.payout_count().to_string());
        differ("below_unit_count", found.below_unit_count.to_string(), (positive - due.payout_count()).to_string());
        differ("weight_total", weight_total.to_string(), (due.own_weight + house_weight).to_string());
        differ("simulated", found.simulated.to_string(), "true".to_owned());
        let bound = positive + u64::from(!house_weight.is_zero());
        let bounded = weight_total.is_zero() || due.carry_out < u128::from(bound.max(1));
        differ("carry below the number of weights", bounded.to_string(), "true".to_owned());

        let sums = &mut self.sums;
        sums.receipts += receipts;
        sums.carry_in += units(found.carry_in.as_ref());
        sums.fee += units(found.fee.as_ref());
        sums.fee_due += due.fee;
        sums.payouts += units(found.payouts_amount.as_ref());
        sums.payouts_due += due.payouts_total();
        sums.payout_count += found.payout_count;
        sums.payout_count_due += due.payout_count();
        sums.house_in += units(found.house_in.as_ref());
        sums.house_out += units(found.house_out.as_ref());
        sums.recovery += units(found.recovery.as_ref());
        sums.carry_out += units(found.carry_out.as_ref());
        sums.carry_due = due.carry_out;
        sums.own_weight += due.own_weight;
        sums.house_weight += house_weight;
        sums.weight_total += weight_total;
        sums.distributions_with_fee += u64::from(units(found.fee.as_ref()) > 0);
        sums.distributions_with_carry += u64::from(units(found.carry_out.as_ref()) > 0);
        self.carry = due.carry_out;
        let accounts = accounts.iter().enumerate().map(|(who, account)| (account.clone(), who)).collect();
        self.expected.insert(start, Expected { left: due.payout_count(), due, accounts });
    }

    /// Compares one payout, the first time that it comes.
    fn check(&mut self, period: i64, account: &str, amount: u128) {
        self.sums.credited += amount;
        self.sums.credited_count += 1;
        self.history.entry(account.to_owned()).or_default().push((period, amount));
        let wrong = match self.expected.get_mut(&period) {
            None => Some(format!("{account} is paid for {}, which is no open distribution", day(period))),
            Some(expected) => match expected.accounts.get(account).copied() {
                None => Some(format!("{account} is paid for {}, and is nobody", day(period))),
                Some(who) => {
                    expected.left = expected.left.saturating_sub(1);
                    let due = expected.due.payouts.get(who).copied().unwrap_or(0);
                    (due != amount || amount == 0)
                        .then(|| format!("{account} is paid {amount} for {} and is due {due}", day(period)))
                }
            },
        };
        if let Some(wrong) = wrong {
            self.fault(wrong);
        }
        if self.expected.get(&period).is_some_and(|one| one.left == 0) {
            // All came; whatever comes now is a repeat, or nobody's.
            self.expected.remove(&period);
        }
    }
}

/// The released distribution of the period that begins at `start`, if there is one.
pub(super) async fn distribution(
    client: &Client,
    pool: &str,
    start: i64,
) -> Result<Option<v1::Distribution>, DemoError> {
    let request = v1::GetDistributionRequest { name: format!("{pool}/distributions/{}", day(start)), revision: 0 };
    match client.get_distribution(request).await {
        Ok(found) => Ok(found
            .distribution
            .filter(|found| matches!(found.state(), DistributionState::Released | DistributionState::Settled))),
        Err(ClientError::Refused(refusal)) if refusal.code == tonic::Code::NotFound => Ok(None),
        Err(error) => Err(DemoError::Call { what: "GetDistribution", error }),
    }
}

/// The UTC date of a moment, as periods are named.
pub(super) fn day(seconds: i64) -> String {
    let text = crate::cli::child::moment(seconds);
    text.get(..10).unwrap_or(&text).to_owned()
}

/// A time for the wire.
pub(super) fn stamp(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::super::amounts::wire;
    use super::*;

    const RULES: Rules = Rules { minimum: 1, cap: None, fee_bps: 1_000 };

    fn book() -> PoolBook {
        let pool = super::super::plan::PoolPlan {
            preset: crate::config::Preset::Atom,
            opening: Vec::new(),
            rules: RULES,
            validators_csv: None,
        };
        Ledger::new(&Plan { seed: 1, days: 1, pools: vec![pool] }).pools.remove(0)
    }

    fn found(receipts: u128, payouts: u128, count: u64, carry_out: u128) -> v1::Distribution {
        let amount = |units| Some(wire("ATOM", units));
        v1::Distribution {
            receipts_amount: amount(receipts),
            fee: amount(receipts / 10),
            net: amount(receipts - receipts / 10),
            payouts_amount: amount(payouts),
            carry_out: amount(carry_out),
            payout_count: count,
            weight_total: "3".to_owned(),
            house_weight: "0".to_owned(),
            simulated: true,
            ..v1::Distribution::default()
        }
    }

    #[test]
    fn a_right_distribution_and_its_payouts_pass() {
        let mut book = book();
        book.begin(START, found(100, 90, 2, 0), &[1, 0, 2], &["a", "b", "c"].map(str::to_owned));
        book.check(START, "a", 30);
        book.check(START, "c", 60);
        assert_eq!(book.faults, Vec::<String>::new());
        assert_eq!((book.sums.credited, book.sums.credited_count), (90, 2));
        assert!(book.expected.is_empty());
    }

    #[test]
    fn one_unit_too_much_is_told() {
        let mut book = book();
        book.begin(START, found(100, 90, 2, 0), &[1, 0, 2], &["a", "b", "c"].map(str::to_owned));
        book.check(START, "a", 31);
        book.check(START, "b", 1);
        assert_eq!(book.faults.len(), 2);
        assert!(book.faults[0].contains("is paid 31") && book.faults[0].contains("due 30"), "{:?}", book.faults);
    }

    #[test]
    fn a_wrong_figure_of_a_distribution_is_told() {
        let mut book = book();
        book.begin(START, found(100, 89, 2, 1), &[1, 0, 2], &["a", "b", "c"].map(str::to_owned));
        let said = book.faults.join("; ");
        assert!(said.contains("payouts_amount is 89 and should be 90"), "{said}");
        assert!(said.contains("carry_out is 1 and should be 0"), "{said}");
    }

    #[test]
    fn a_payout_that_never_came_is_told() {
        let mut one = book();
        one.begin(START, found(100, 90, 2, 0), &[1, 0, 2], &["a", "b", "c"].map(str::to_owned));
        one.check(START, "a", 30);
        let mut ledger = Ledger { pools: vec![one], credited: BTreeMap::new(), repeated: 0 };
        ledger.finish();
        assert!(ledger.pools[0].faults[0].contains("1 payouts"), "{:?}", ledger.pools[0].faults);
    }
}
