//! What everyone is due, computed a second time from the events that were sent: the demo's own rules, written apart from
//! the service's. 512 bits wide throughout, nothing clever.

use std::collections::BTreeMap;

use ruint::Uint;

/// Wide enough for any product here.
pub(super) type Wide = Uint<512, 8>;

/// Who earns, and what the operator keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Below this a balance earns nothing.
    pub(super) minimum: u128,
    /// What is above earns nothing.
    pub(super) cap: Option<u128>,
    /// The fee on receipts, in hundredths of a percent.
    pub(super) fee_bps: u32,
}

/// One account of one pool.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    balance: u128,
    opted_out: bool,
    earning: u128,
    since: i64,
    weight: u128,
}

/// Everyone of one pool.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    rules: Rules,
    period_start: i64,
    holders: Vec<Holder>,
    /// The weights of periods that are over, by their start and then by account.
    closed: BTreeMap<i64, Vec<u128>>,
    /// How often a balance above zero and below the minimum was seen.
    ineligible_seen: u64,
}

impl Reference {
    /// Nobody yet; the first period begins at `start`.
    pub(super) fn new(rules: Rules, start: i64) -> Self {
        Self { rules, period_start: start, holders: Vec::new(), closed: BTreeMap::new(), ineligible_seen: 0 }
    }

    /// The balance of account number `who` is `balance` from `at` on.
    pub(super) fn balance(&mut self, who: usize, at: i64, balance: u128) {
        if balance > 0 && balance < self.rules.minimum {
            self.ineligible_seen += 1;
        }
        self.change(who, at, |holder| holder.balance = balance);
    }

    /// Account number `who` takes part, or not, from `at` on.
    pub(super) fn decide(&mut self, who: usize, at: i64, opted_out: bool) {
        self.change(who, at, |holder| holder.opted_out = opted_out);
    }

    fn change(&mut self, who: usize, at: i64, change: impl FnOnce(&mut Holder)) {
        if who >= self.holders.len() {
            self.holders.resize(who + 1, Holder { since: self.period_start, ..Holder::default() });
        }
        let rules = self.rules;
        if let Some(holder) = self.holders.get_mut(who) {
            holder.gather(at);
            change(holder);
            holder.earning = rules.earning(holder);
        }
    }

    /// Ends the period at `end`; the next begins there.
    pub(super) fn close(&mut self, end: i64) {
        let weights = self.holders.iter_mut().map(|holder| {
            holder.gather(end);
            std::mem::take(&mut holder.weight)
        });
        self.closed.insert(self.period_start, weights.collect());
        self.period_start = end;
    }

    /// The weights of the period that began at `start`, by account; they are given out once.
    pub(super) fn take_weights(&mut self, start: i64) -> Option<Vec<u128>> {
        self.closed.remove(&start)
    }

    /// The sum of what earns now.
    pub(super) fn eligible_total(&self) -> u128 {
        self.holders.iter().fold(0, |sum, holder| sum.saturating_add(holder.earning))
    }

    /// What earns of account number `who` now.
    pub(super) fn earning(&self, who: usize) -> u128 {
        self.holders.get(who).map_or(0, |holder| holder.earning)
    }

    /// The first account whose balance is above zero and below the minimum.
    pub(super) fn someone_below_minimum(&self) -> Option<usize> {
        let below = |holder: &Holder| holder.balance > 0 && holder.balance < self.rules.minimum && !holder.opted_out;
        self.holders.iter().position(below)
    }

    /// How often a balance above zero and below the minimum was seen.
    pub(super) fn ineligible_seen(&self) -> u64 {
        self.ineligible_seen
    }
}

impl Holder {
    fn gather(&mut self, at: i64) {
        let seconds = u128::try_from(at - self.since).unwrap_or(0);
        // The service takes no balance whose weight over a day would not fit.
        self.weight = self.weight.saturating_add(self.earning.saturating_mul(seconds));
        self.since = at.max(self.since);
    }
}

impl Rules {
    fn earning(&self, holder: &Holder) -> u128 {
        if holder.opted_out || holder.balance < self.minimum {
            return 0;
        }
        self.cap.map_or(holder.balance, |cap| holder.balance.min(cap))
    }
}

/// What a distribution should come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) fee: u128,
    pub(super) net: u128,
    /// All accounts' weights; the house's is not in it.
    pub(super) own_weight: Wide,
    /// By account.
    pub(super) payouts: Vec<u128>,
    pub(super) house_out: u128,
    pub(super) carry_out: u128,
}

impl Due {
    /// The sum of the payouts.
    pub(super) fn payouts_total(&self) -> u128 {
        self.payouts.iter().fold(0, |sum, payout| sum.saturating_add(*payout))
    }

    /// How many payouts are above zero.
    pub(super) fn payout_count(&self) -> u64 {
        self.payouts.iter().filter(|payout| **payout > 0).count() as u64
    }
}

/// Splits what was received and carried in by `weights` and the weight of the house:
/// `payout = floor(net x weight / W)`, where `W` is the sum of all weights.
pub(super) fn split(rules: &Rules, receipts: u128, carry_in: u128, weights: &[u128], house_weight: Wide) -> Due {
    let fee = narrow(Wide::from(receipts) * Wide::from(rules.fee_bps) / Wide::from(10_000));
    let net = receipts.saturating_add(carry_in).saturating_sub(fee);
    let own_weight = weights.iter().fold(Wide::ZERO, |sum, weight| sum + Wide::from(*weight));
    let total = own_weight + house_weight;
    let share = |weight: Wide| {
        if total.is_zero() { 0 } else { narrow(Wide::from(net) * weight / total) }
    };
    let payouts: Vec<u128> = weights.iter().map(|weight| share(Wide::from(*weight))).collect();
    let house_out = share(house_weight);
    let paid = payouts.iter().fold(house_out, |sum, payout| sum.saturating_add(*payout));
    Due { fee, net, own_weight, payouts, house_out, carry_out: net.saturating_sub(paid) }
}

/// A share of a `u128` is one.
fn narrow(wide: Wide) -> u128 {
    u128::try_from(wide).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { minimum: 100, cap: Some(1_000), fee_bps: 1_000 };

    fn weights(mut reference: Reference, end: i64) -> Vec<u128> {
        reference.close(end);
        reference.take_weights(0).unwrap()
    }

    #[test]
    fn weight_is_what_earns_times_how_long() {
        let mut reference = Reference::new(RULES, 0);
        reference.balance(0, 0, 500);
        reference.balance(1, 0, 99);
        reference.balance(2, 0, 5_000);
        reference.balance(3, 43_200, 500);
        reference.balance(4, 86_340, 500);
        reference.balance(1, 86_399, 100);
        assert_eq!(reference.eligible_total(), 500 + 100 + 1_000 + 500 + 500);
        assert_eq!(reference.ineligible_seen(), 1);
        assert_eq!(weights(reference, 86_400), [500 * 86_400, 100, 1_000 * 86_400, 500 * 43_200, 500 * 60]);
    }

    #[test]
    fn what_was_earned_before_an_opt_out_stays() {
        let mut reference = Reference::new(RULES, 0);
        reference.balance(0, 0, 500);
        reference.decide(0, 1_000, true);
        reference.balance(0, 2_000, 900);
        assert_eq!(reference.earning(0), 0);
        reference.decide(0, 86_000, false);
        assert_eq!(weights(reference, 86_400), [500 * 1_000 + 900 * 400]);
    }

    #[test]
    fn a_period_begins_with_what_the_last_one_left() {
        let mut reference = Reference::new(RULES, 0);
        reference.balance(0, 10, 500);
        reference.close(86_400);
        reference.balance(0, 86_401, 0);
        reference.close(2 * 86_400);
        assert_eq!(reference.take_weights(0).unwrap(), [500 * 86_390]);
        assert_eq!(reference.take_weights(86_400).unwrap(), [500]);
        assert_eq!(reference.take_weights(86_400), None);
    }

    #[test]
    fn a_split_keeps_every_unit() {
        let due = split(&RULES, 1_009, 3, &[1, 0, 1, 1], Wide::from(1));
        assert_eq!((due.fee, due.net), (100, 912));
        assert_eq!(due.payouts, [228, 0, 228, 228]);
        assert_eq!((due.house_out, due.carry_out, due.payout_count()), (228, 0, 3));
        let due = split(&RULES, 10, 1, &[1, 1, 1], Wide::ZERO);
        assert_eq!((due.payouts_total(), due.house_out, due.carry_out), (9, 0, 1));
    }

    #[test]
    fn without_weight_everything_is_carried() {
        let due = split(&RULES, 100, 7, &[0, 0], Wide::ZERO);
        assert_eq!((due.payouts_total(), due.carry_out), (0, 97));
    }

    #[test]
    fn the_largest_amounts_fit() {
        let largest = i128::MAX as u128;
        let due = split(&Rules { fee_bps: 0, ..RULES }, largest, 0, &[largest, largest], Wide::from(largest));
        assert_eq!(due.payouts, [largest / 3, largest / 3]);
        assert_eq!(due.payouts_total() + due.house_out + due.carry_out, largest);
    }
}
