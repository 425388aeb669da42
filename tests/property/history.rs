//! Random histories: the reference against a count of every second, and the split, the curve and the house's weight
//! of the rules against the reference.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_traits::Zero;
use proptest::prelude::*;
use ruint::aliases::U256;
use softstake::domain::amount::SignedUnits;
use softstake::domain::house_weight::{HouseWeightInput, LevelChange, LevelDelta};
use softstake::domain::split::{FeeBps, PayoutUnit, SplitInput};
use softstake::domain::time::UnixSeconds;

use crate::numbers::{amount, big, config, units};
use crate::reference::{self, ReferenceEvent, ReferenceLedger, ReferencePolicy, ReferenceTerms};

const SKEW: i64 = 5;

/// One event as it arrives: account, seconds since the last arrival (some go back), what happens.
pub type Arrival = (u8, i64, ReferenceEvent);

/// What can happen to an account; balances up to what fits a period of two minutes.
pub fn event() -> impl Strategy<Value = ReferenceEvent> {
    prop_oneof![
        8 => amount().prop_map(|n| ReferenceEvent::Balance(n >> 8)),
        2 => (0_u128..40).prop_map(ReferenceEvent::Balance),
        1 => Just(ReferenceEvent::OptIn),
        1 => Just(ReferenceEvent::OptOut),
        1 => Just(ReferenceEvent::OptOutOfAll),
        1 => Just(ReferenceEvent::RevokeOptOutOfAll),
        1 => Just(ReferenceEvent::Restrict),
        1 => Just(ReferenceEvent::LiftRestriction),
    ]
}

/// Minimums, caps and enrolment, binding or not.
pub fn policy() -> impl Strategy<Value = ReferencePolicy> {
    let minimum = prop_oneof![Just(0), 0_u128..20, amount().prop_map(|n| n >> 40)];
    let cap = prop_oneof![2 => Just(None), 1 => (5_u128..30).prop_map(Some), 1 => amount().prop_map(Some)];
    (minimum, cap, prop::bool::weighted(0.25)).prop_map(|(minimum, cap, opt_in_only)| ReferencePolicy {
        minimum,
        cap,
        opt_in_only,
    })
}

/// A history of up to 40 events over 8 accounts.
pub fn history() -> impl Strategy<Value = Vec<Arrival>> {
    let step = prop_oneof![Just(0), 0_i64..12, -2 * SKEW..0];
    prop::collection::vec((0_u8..8, step, event()), 0..40)
}

struct Told {
    ledger: ReferenceLedger,
    /// The events that were taken, with the times at which they count.
    taken: Vec<(String, i64, ReferenceEvent)>,
}

/// Tells a history to the reference, and keeps what counts in a form that needs no reference.
fn tell(history: &[Arrival]) -> Told {
    let mut ledger = ReferenceLedger::new(SKEW);
    let (mut now, mut taken) = (0_i64, Vec::new());
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for (account, step, event) in history {
        now += step;
        let account = format!("account-{account}");
        let before = last.get(&account).copied().unwrap_or(i64::MIN);
        let expected = before <= now || before - now <= SKEW;
        assert_eq!(ledger.apply(&account, now, event), expected);
        if expected {
            let at = now.max(before);
            last.insert(account.clone(), at);
            taken.push((account, at, event.clone()));
        }
    }
    Told { ledger, taken }
}

/// What an account has that earns in one second, told again from the events alone.
fn earns(taken: &[(String, i64, ReferenceEvent)], account: &str, second: i64, policy: &ReferencePolicy) -> BigInt {
    let mine = || taken.iter().filter(|(who, at, _)| who == account && *at <= second).map(|(_, _, event)| event);
    let last = |choices: &[ReferenceEvent]| mine().rev().find(|event| choices.contains(event)).cloned();
    let balance = mine().rev().find_map(|event| match event {
        ReferenceEvent::Balance(balance) => Some(*balance),
        _ => None,
    });
    let choice = last(&[ReferenceEvent::OptIn, ReferenceEvent::OptOut]);
    let out_of_all = last(&[ReferenceEvent::OptOutOfAll, ReferenceEvent::RevokeOptOutOfAll]);
    let restricted = last(&[ReferenceEvent::Restrict, ReferenceEvent::LiftRestriction]);
    let earns = out_of_all != Some(ReferenceEvent::OptOutOfAll)
        && restricted != Some(ReferenceEvent::Restrict)
        && choice != Some(ReferenceEvent::OptOut)
        && (choice == Some(ReferenceEvent::OptIn) || !policy.opt_in_only);
    match balance {
        Some(balance) if earns && balance >= policy.minimum => balance.min(policy.cap.unwrap_or(u128::MAX)).into(),
        _ => BigInt::zero(),
    }
}

proptest! {
    #![proptest_config(config(0x5051_0005))]

    #[test]
    fn the_reference_is_the_count_of_every_second(
        history in history(), policy in policy(), start in 0_i64..40, length in 1_i64..40,
    ) {
        let told = tell(&history);
        let weights = told.ledger.weights(start, start + length, &policy);
        for (account, weight) in &weights {
            let counted: BigInt =
                (start..start + length).map(|second| earns(&told.taken, account, second, &policy)).sum();
            prop_assert_eq!(weight, &counted);
        }
        // Two periods hold what one of both lengths does.
        let middle = start + length / 2;
        let (first, second) =
            (told.ledger.weights(start, middle, &policy), told.ledger.weights(middle, start + length, &policy));
        for (account, weight) in &weights {
            prop_assert_eq!(weight, &(&first[account] + &second[account]));
        }
    }

    #[test]
    fn the_rules_agree_with_the_reference_over_a_history(
        history in history(),
        policy in policy(),
        staked in prop::collection::vec((0_i64..120, amount()), 0..6),
        (start, length) in (0_i64..40, 1_i64..80),
        (receipts, carry_in, fee_bps) in (amount(), amount(), 0_u32..=10_000),
    ) {
        let end = start + length;
        let ledger = tell(&history).ledger;
        let mut staked: Vec<(i64, u128)> = staked.into_iter().map(|(at, level)| (at, level >> 4)).collect();
        staked.sort_by_key(|(at, _)| *at);
        let weights = ledger.weights(start, end, &policy);
        let house = ledger.house_weight(start, end, &policy, &staked);

        // The curve of the eligible total, as the book keeps it, gives both integrals.
        let total = |at: i64| i128::try_from(ledger.eligible_total(at, &policy)).unwrap();
        let opening = total(start);
        let mut before = opening;
        let mut deltas = Vec::new();
        for at in ledger.moments(start, end).into_iter().skip(1) {
            deltas.push(LevelDelta { at: UnixSeconds::new(at), delta: SignedUnits::new(total(at) - before) });
            before = total(at);
        }
        let changes: Vec<LevelChange> =
            staked.iter().map(|(at, level)| LevelChange { at: UnixSeconds::new(*at), level: units(*level) }).collect();
        let input = HouseWeightInput {
            start: UnixSeconds::new(start),
            end: UnixSeconds::new(end),
            staked_at_start: units(0),
            staked: &changes,
            eligible_at_start: SignedUnits::new(opening).unsigned().unwrap(),
            eligible: &deltas,
        };
        let sums = input.integrals().unwrap();
        prop_assert_eq!(big(sums.house), house.clone());
        prop_assert_eq!(big(sums.eligible), weights.values().sum::<BigInt>());

        // And the split of those weights is the reference's, to the unit.
        let terms = ReferenceTerms {
            receipts: receipts / 2, carry_in: carry_in / 2, house_in: 0, fee_bps, owed: 0, payout_unit: 1,
        };
        let expected = reference::split(&terms, &weights, &house);
        let input = SplitInput {
            receipts: units(terms.receipts),
            carry_in: units(terms.carry_in),
            house_in: units(0),
            fee: FeeBps::new(fee_bps).unwrap(),
            owed: units(0),
            payout_unit: PayoutUnit::ONE,
            weight_total: sums.eligible + sums.house,
        };
        let (split_terms, splitter) = input.splitter().unwrap();
        prop_assert_eq!(BigInt::from(split_terms.net.get()), expected.net.clone());
        let mut positive = u64::from(sums.house > U256::ZERO);
        let mut paid = units(0);
        for (account, weight) in &weights {
            let payout = splitter.payout(u128::try_from(weight.clone()).unwrap()).unwrap();
            prop_assert_eq!(BigInt::from(payout.get()), expected.payouts[account].clone());
            paid = paid.checked_add(payout).unwrap();
            positive += u64::from(!weight.is_zero());
        }
        let house_out = splitter.house_share(sums.house).unwrap();
        prop_assert_eq!(BigInt::from(house_out.get()), expected.house_out.clone());
        let carry_out = splitter.carry_out(paid, house_out, positive).unwrap();
        prop_assert_eq!(BigInt::from(carry_out.get()), expected.carry_out);
    }
}

/// What arrives after a freeze counts from the frozen end on and changes nothing before it.
#[test]
fn a_frozen_period_stays_as_it_was() {
    let policy = ReferencePolicy { minimum: 0, cap: None, opt_in_only: false };
    let mut ledger = ReferenceLedger::new(SKEW);
    assert!(ledger.apply("a", 0, &ReferenceEvent::Balance(10)));
    ledger.freeze(100);
    assert!(ledger.apply("a", 90, &ReferenceEvent::Balance(0)));
    assert_eq!(ledger.weights(0, 100, &policy)["a"], BigInt::from(1_000));
    assert_eq!(ledger.weights(100, 200, &policy)["a"], BigInt::zero());
}
