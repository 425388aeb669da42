//! The exact split: against the reference, in any order, in any partitioning, and with the reciprocal.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_traits::Zero;
use proptest::prelude::*;
use ruint::aliases::U256;
use softstake::domain::amount::{BaseUnits, MAX_BASE_UNITS};
use softstake::domain::distribution::Figures;
use softstake::domain::ids::AccountId;
use softstake::domain::payout::PayoutTally;
use softstake::domain::split::{FeeBps, PayoutUnit, SplitError, SplitInput, Splitter, carry_bound};

use crate::numbers::{amount, big, config, number, unit, units, wide};
use crate::reference::{self, ReferenceTerms};

#[derive(Clone, Debug)]
struct Case {
    terms: ReferenceTerms,
    weights: Vec<u128>,
    house_weight: U256,
}

impl Case {
    fn weight_total(&self) -> U256 {
        self.weights.iter().fold(self.house_weight, |sum, weight| sum + U256::from(*weight))
    }

    fn input(&self) -> SplitInput {
        SplitInput {
            receipts: units(self.terms.receipts),
            carry_in: units(self.terms.carry_in),
            house_in: units(self.terms.house_in),
            fee: FeeBps::new(self.terms.fee_bps).unwrap(),
            owed: units(self.terms.owed),
            payout_unit: PayoutUnit::new(units(self.terms.payout_unit)).unwrap(),
            weight_total: self.weight_total(),
        }
    }

    fn named_weights(&self) -> BTreeMap<String, BigInt> {
        self.weights.iter().enumerate().map(|(i, weight)| (name(i), BigInt::from(*weight))).collect()
    }

    fn positive_weights(&self) -> u64 {
        self.weights.iter().filter(|weight| **weight != 0).count() as u64 + u64::from(!self.house_weight.is_zero())
    }
}

fn name(i: usize) -> String {
    format!("account-{i:03}")
}

fn id(i: usize) -> AccountId {
    AccountId::new(&name(i)).unwrap()
}

prop_compose! {
    fn terms()(
        receipts in amount(),
        carry_in in prop_oneof![Just(0), amount()],
        house_in in prop_oneof![Just(0), amount()],
        fee_bps in prop_oneof![Just(0_u32), Just(10_000), 0_u32..=10_000],
        owed in prop_oneof![2 => Just(0), 1 => amount()],
        payout_unit in unit(),
        shrink in 0_u32..4,
    ) -> ReferenceTerms {
        // Most cases fit; some add up past the largest amount and have to be refused.
        let shrink = if shrink == 0 { 0 } else { 2 };
        let (receipts, carry_in, house_in) = (receipts >> shrink, carry_in >> shrink, house_in >> shrink);
        ReferenceTerms { receipts, carry_in, house_in, fee_bps, owed, payout_unit }
    }
}

prop_compose! {
    fn case()(
        terms in terms(),
        weights in prop_oneof![
            4 => prop::collection::vec(number(128), 0..24),
            // Populations of one size, where the floors bite everyone alike.
            1 => (number(128), 1_usize..24).prop_map(|(weight, count)| vec![weight; count]),
        ],
        house_weight in prop_oneof![2 => Just(U256::ZERO), 1 => wide().prop_map(|n| n >> 8)],
    ) -> Case {
        Case { terms, weights, house_weight }
    }
}

fn tally(splitter: &Splitter, case: &Case, order: &[usize]) -> PayoutTally {
    let mut tally = PayoutTally::default();
    for &i in order {
        tally.record(&id(i), case.weights[i], splitter.payout(case.weights[i]).unwrap()).unwrap();
    }
    tally
}

proptest! {
    #![proptest_config(config(0x5051_0001))]

    #[test]
    fn every_figure_is_the_reference_s(case in case()) {
        let input = case.input();
        let fits = BigInt::from(case.terms.receipts) + case.terms.carry_in <= BigInt::from(MAX_BASE_UNITS);
        let expected = reference::split(&case.terms, &case.named_weights(), &big(case.house_weight));
        if !fits || expected.net > BigInt::from(MAX_BASE_UNITS) {
            prop_assert_eq!(input.splitter().err(), Some(SplitError::Overflow));
            return Ok(());
        }
        let (terms, splitter) = input.splitter().unwrap();
        prop_assert_eq!(BigInt::from(terms.fee.get()), expected.fee.clone());
        prop_assert_eq!(BigInt::from(terms.recovery.get()), expected.recovery.clone());
        prop_assert_eq!(BigInt::from(terms.net.get()), expected.net.clone());
        for (i, weight) in case.weights.iter().enumerate() {
            let payout = splitter.payout(*weight).unwrap();
            prop_assert_eq!(BigInt::from(payout.get()), expected.payouts[&name(i)].clone());
            prop_assert_eq!(payout.get() % case.terms.payout_unit, 0);
        }
        let house_out = splitter.house_share(case.house_weight).unwrap();
        prop_assert_eq!(BigInt::from(house_out.get()), expected.house_out.clone());

        // Conservation, and the bound on what is left over.
        let order: Vec<usize> = (0..case.weights.len()).collect();
        let tally = tally(&splitter, &case, &order);
        let positive = case.positive_weights();
        let carry_out = splitter.carry_out(tally.paid.amount, house_out, positive).unwrap();
        prop_assert_eq!(BigInt::from(carry_out.get()), expected.carry_out.clone());
        if positive == 0 {
            prop_assert_eq!(carry_out, terms.net);
        } else {
            prop_assert!(U256::from(carry_out.get()) < carry_bound(positive, input.payout_unit));
        }
        let figures = Figures::pro_rata(&input, &terms, tally.paid.amount, house_out, carry_out);
        prop_assert_eq!(figures.check_equation_1(), Ok(()));
        let (left, right) = expected.equation_1(&case.terms);
        prop_assert_eq!(left, right);
        prop_assert_eq!(tally.positions, case.weights.len() as u64);
        prop_assert_eq!(tally.weight + case.house_weight, case.weight_total());
        let unpaid = expected.payouts.values().filter(|payout| payout.is_zero()).count() as u64;
        prop_assert_eq!(tally.below_unit(), unpaid);
    }

    #[test]
    fn neither_order_nor_partitioning_matters(
        case in case(),
        shuffled in Just((0..24).collect::<Vec<usize>>()).prop_shuffle(),
        partitions in 1_usize..9,
    ) {
        let Ok((_, splitter)) = case.input().splitter() else { return Ok(()) };
        let straight: Vec<usize> = (0..case.weights.len()).collect();
        let shuffled: Vec<usize> = shuffled.into_iter().filter(|i| *i < case.weights.len()).collect();
        let whole = tally(&splitter, &case, &straight);
        prop_assert_eq!(tally(&splitter, &case, &shuffled), whole);
        let mut merged = PayoutTally::default();
        for partition in (0..partitions).rev() {
            let members: Vec<usize> = shuffled.iter().copied().filter(|i| i * 7 % partitions == partition).collect();
            merged.merge(tally(&splitter, &case, &members)).unwrap();
        }
        prop_assert_eq!(merged, whole);
    }

    #[test]
    fn an_account_never_gains_by_being_two(case in case(), parts in (number(128), number(128))) {
        let Ok((_, splitter)) = case.input().splitter() else { return Ok(()) };
        let (a, b) = (parts.0 / 2, parts.1 / 2);
        let (Ok(one), Ok(two), Ok(both)) = (splitter.payout(a), splitter.payout(b), splitter.payout(a + b)) else {
            return Ok(());
        };
        prop_assert!(one.get() + two.get() <= both.get());
        prop_assert!(both.get() <= one.get() + two.get() + case.terms.payout_unit);
    }
}

/// `q x floor(net x w / (W x q))` in big integers.
fn exact(net: u128, unit: u128, weight: &BigInt, total: U256) -> BigInt {
    if total.is_zero() {
        return BigInt::zero();
    }
    BigInt::from(net) * weight / (big(total) * unit) * unit
}

fn check_one(net: u128, unit: u128, weight: u128, total: U256) -> Result<(), TestCaseError> {
    let splitter = Splitter::new(units(net), PayoutUnit::new(units(unit)).unwrap(), total);
    let (fast, divided) = (splitter.payout(weight), splitter.payout_by_division(weight));
    prop_assert_eq!(fast, divided);
    if U256::from(weight) > total {
        prop_assert_eq!(fast, Err(SplitError::WeightAboveTotal));
        return Ok(());
    }
    let exact = exact(net, unit, &BigInt::from(weight), total);
    prop_assert_eq!(fast.map(|payout| BigInt::from(payout.get())), Ok(exact));
    prop_assert_eq!(splitter.house_share(U256::from(weight)), fast);
    Ok(())
}

proptest! {
    #![proptest_config(config(0x5051_0002))]

    #[test]
    fn the_reciprocal_is_the_division(net in amount(), unit in unit(), weight in number(128), total in wide()) {
        check_one(net, unit, weight, total)?;
        check_one(net, unit, weight, total.max(U256::from(weight)))?;
    }

    /// The sizes of real pools, where almost every share comes from the reciprocal.
    #[test]
    fn the_reciprocal_is_the_division_at_real_sizes(
        net in number(100), unit in 1_u128..=1_000, weight in number(112), others in number(126),
    ) {
        let total = weight + others + net;
        check_one(net, unit, weight, U256::from(total))?;
        check_one(net, 1, weight, U256::from(total))?;
    }

    /// Totals made so that the quotient lies on, just below and just above a whole number, where a reciprocal
    /// that is a hair too small tells.
    #[test]
    fn the_reciprocal_holds_where_quotients_turn(
        net in amount(), unit in unit(), weight in number(128), quotient in amount(), by in 0_u8..3,
    ) {
        let (net, weight) = (net.max(1), weight.max(1));
        let quotient = quotient % (net / unit).max(1) + 1;
        let divisor = U256::from(quotient) * U256::from(unit);
        let total = U256::from(net) * U256::from(weight) / divisor;
        let total = (total + U256::from(by)).saturating_sub(U256::from(1));
        check_one(net, unit, weight, total)?;
        check_one(net, 1, weight, total)?;
    }

    #[test]
    fn the_house_s_share_is_exact_at_any_width(net in amount(), unit in unit(), weight in wide(), total in wide()) {
        let splitter = Splitter::new(units(net), PayoutUnit::new(units(unit)).unwrap(), total);
        let share = splitter.house_share(weight);
        if weight > total {
            prop_assert_eq!(share, Err(SplitError::WeightAboveTotal));
        } else {
            let exact = exact(net, unit, &big(weight), total);
            prop_assert_eq!(share.map(|share| BigInt::from(share.get())), Ok(exact));
        }
    }
}

/// A NEAR account above what `rust_decimal` can hold, with its twin that held half the day.
#[test]
fn a_twin_of_half_the_day_gets_half_to_the_unit() {
    let balance = 80_000 * 10_u128.pow(24);
    let (whole_day, half_day, minute) = (balance * 86_400, balance * 43_200, balance * 60);
    let total = U256::from(whole_day) + U256::from(half_day) + U256::from(minute);
    let net = 3 * 86_400 * 10_u128.pow(20) + 120 * 10_u128.pow(20);
    let splitter = Splitter::new(units(net), PayoutUnit::ONE, total);
    let [whole, half, minute] = [whole_day, half_day, minute].map(|weight| splitter.payout(weight).unwrap());
    assert_eq!(whole.get(), 2 * half.get());
    assert_eq!(half.get(), 720 * minute.get());
    assert_eq!(
        splitter.carry_out(BaseUnits::sum([whole, half, minute]).unwrap(), BaseUnits::ZERO, 3),
        Ok(BaseUnits::ZERO)
    );
}
