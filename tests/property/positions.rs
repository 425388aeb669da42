//! The position rules against the reference: random histories over two open periods with policies of their own.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use proptest::prelude::*;
use softstake::domain::adjustment::Rest;
use softstake::domain::amount::BaseUnits;
use softstake::domain::calendar::Calendar;
use softstake::domain::eligibility::{EligibilityPolicy, EnrolmentMode, StandingChange};
use softstake::domain::feed::{RejectReason, SourceNumber};
use softstake::domain::period::{OpenPeriod, PeriodBounds, PeriodIndex, TimeLimits};
use softstake::domain::position::{BalanceChange, Position};
use softstake::domain::time::UnixSeconds;

use crate::history::{history, policy};
use crate::numbers::config;
use crate::reference::{ReferenceEvent, ReferenceLedger, ReferencePolicy};

const SKEW: u32 = 5;
const SOURCE: SourceNumber = SourceNumber(16);

fn open(index: u64, start: i64, seconds: u32, policy: &ReferencePolicy) -> OpenPeriod {
    OpenPeriod {
        index: PeriodIndex(index),
        bounds: PeriodBounds::new(UnixSeconds::new(start), seconds).unwrap(),
        policy: EligibilityPolicy {
            minimum: BaseUnits::new(policy.minimum).unwrap(),
            cap: policy.cap.map(|cap| BaseUnits::new(cap).unwrap_or(BaseUnits::MAX)),
            enrolment: if policy.opt_in_only { EnrolmentMode::OptIn } else { EnrolmentMode::Automatic },
        },
        limits: TimeLimits { max_skew_seconds: SKEW, max_lateness_seconds: 0, max_future_seconds: 1_000_000 },
    }
}

/// What an event is to a position; `None` for a balance.
fn standing(event: &ReferenceEvent) -> Option<StandingChange> {
    Some(match event {
        ReferenceEvent::Balance(_) => return None,
        ReferenceEvent::OptIn => StandingChange::OPT_IN,
        ReferenceEvent::OptOut => StandingChange::OPT_OUT,
        ReferenceEvent::OptOutOfAll => StandingChange::OPT_OUT_OF_ALL,
        ReferenceEvent::RevokeOptOutOfAll => StandingChange::REVOKE_OPT_OUT_OF_ALL,
        ReferenceEvent::Restrict => StandingChange::RESTRICT,
        ReferenceEvent::LiftRestriction => StandingChange::LIFT_RESTRICTION,
    })
}

proptest! {
    #![proptest_config(config(0x5051_0009))]

    #[test]
    fn positions_weigh_what_the_reference_says(
        history in history(), first in policy(), second in policy(), length in 1_u32..60,
    ) {
        let end = i64::from(length);
        let (oldest, next) = (open(0, 0, length, &first), open(1, end, length, &second));
        let calendar = Calendar { next: Some(next), ..Calendar::first(UnixSeconds::new(0), oldest) };
        let now = UnixSeconds::new(1_000);
        let mut ledger = ReferenceLedger::new(i64::from(SKEW));
        let mut positions: BTreeMap<String, Position> = BTreeMap::new();
        let mut last: BTreeMap<String, (i64, bool)> = BTreeMap::new();
        let (mut clock, mut sequence) = (0_i64, 0_u64);
        for (account, step, event) in &history {
            clock += step;
            let (account, at) = (format!("account-{account}"), clock.max(0));
            let position = positions.entry(account.clone()).or_default();
            let change = standing(event);
            let (before, balance_last) = last.get(&account).copied().unwrap_or((i64::MIN, false));
            let too_old = at < before && before - at > i64::from(SKEW);
            // A decision is never too old, nor a balance that one overtook: the reference knows neither rule.
            if too_old && (change.is_some() || !balance_last) {
                continue;
            }
            sequence += 1;
            let at_seconds = UnixSeconds::new(at);
            let applied = match (change, event) {
                (Some(change), _) => position.apply_standing(&calendar, now, change, at_seconds, &mut Rest::default()),
                (None, ReferenceEvent::Balance(balance)) => {
                    let balance = BaseUnits::new(*balance).unwrap();
                    let change = BalanceChange { source: SOURCE, sequence, balance, at: at_seconds };
                    position.apply_balance(&calendar, now, change, &mut Rest::default())
                }
                (None, other) => panic!("{other:?} is no balance"),
            };
            if at >= 2 * end {
                prop_assert_eq!(applied.map(|_| ()), Err(RejectReason::PeriodNotOpen));
                continue;
            }
            if too_old {
                prop_assert_eq!(applied.map(|_| ()), Err(RejectReason::TooOld));
                continue;
            }
            prop_assert!(applied.is_ok(), "{:?} at {}", applied, at);
            prop_assert!(ledger.apply(&account, at, event));
            last.insert(account, (at.max(before), change.is_none()));
        }
        let (weights_first, weights_second) = (ledger.weights(0, end, &first), ledger.weights(end, 2 * end, &second));
        let after = calendar.after_freeze().expect("the next period is open");
        for (account, mut position) in positions {
            let expected = |weights: &BTreeMap<String, BigInt>| weights.get(&account).cloned().unwrap_or_default();
            prop_assert_eq!(BigInt::from(position.freeze(&calendar, &mut Rest::default()).weight), expected(&weights_first), "{}", &account);
            prop_assert_eq!(BigInt::from(position.freeze(&after, &mut Rest::default()).weight), expected(&weights_second), "{}", &account);
        }
    }
}

/// Periods with policies of their own, each frozen some time after its end, and events that come late. They are long
/// enough that a calendar remembers all of them.
#[derive(Clone, Debug)]
struct Lateness {
    policies: Vec<ReferencePolicy>,
    length: u32,
    grace: i64,
    /// By how much each event reaches back behind what the account was silent since, in tenths.
    reaches: Vec<i64>,
}

fn lateness() -> impl Strategy<Value = Lateness> {
    let policies = prop::collection::vec(policy(), 6);
    (policies, 20_u32..60, 0_i64..20, prop::collection::vec(prop_oneof![2 => Just(10), 1 => 0_i64..=10], 40))
        .prop_map(|(policies, length, grace, reaches)| Lateness { policies, length, grace, reaches })
}

proptest! {
    #![proptest_config(config(0x5051_0010))]

    #[test]
    fn late_events_are_paid_in_the_periods_that_follow(history in history(), late in lateness()) {
        let length = i64::from(late.length);
        let of = |index: u64| &late.policies[index as usize % late.policies.len()];
        let period = |index: u64| {
            let mut period = open(index, index as i64 * length, late.length, of(index));
            period.limits.max_lateness_seconds = 1_000_000;
            period
        };
        let mut calendar = Calendar { next: Some(period(1)), ..Calendar::first(UnixSeconds::new(0), period(0)) };
        let mut ledger = ReferenceLedger::new(i64::from(SKEW));
        let mut positions: BTreeMap<String, (Position, Rest)> = BTreeMap::new();
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        let (mut clock, mut total, mut reference_total) = (0_i64, BigInt::default(), BigInt::default());
        let mut close = |calendar: &mut Calendar, ledger: &mut ReferenceLedger,
                         positions: &mut BTreeMap<String, (Position, Rest)>| {
            let (index, bounds) = (calendar.oldest.index.0, calendar.oldest.bounds);
            let expected = ledger.close(bounds.start.get(), bounds.end.get(), of(index));
            for (account, (position, rest)) in positions.iter_mut() {
                let weight = position.freeze(calendar, rest).weight;
                assert_eq!(BigInt::from(weight), expected.get(account).cloned().unwrap_or_default(), "{account}, {index}");
                total += weight;
            }
            reference_total += expected.values().sum::<BigInt>();
            let after = calendar.after_freeze().expect("the next period is open");
            *calendar = Calendar { next: Some(period(index + 2)), ..after };
        };
        for (sequence, ((account, step, event), reach)) in (1_u64..).zip(history.iter().zip(&late.reaches)) {
            clock += step.abs();
            while clock >= calendar.oldest.bounds.end.get() + late.grace.min(length - 1) {
                close(&mut calendar, &mut ledger, &mut positions);
            }
            let account = format!("account-{account}");
            let silent_since = last.get(&account).copied().unwrap_or(0);
            let at = silent_since + (clock - silent_since) * reach / 10;
            let (position, rest) = positions.entry(account.clone()).or_default();
            let (now, when) = (UnixSeconds::new(clock), UnixSeconds::new(at));
            let applied = match (standing(event), event) {
                (None, ReferenceEvent::Balance(balance)) => {
                    let balance = BaseUnits::new(balance >> 16).unwrap();
                    let change = BalanceChange { source: SOURCE, sequence, balance, at: when };
                    prop_assert!(ledger.apply(&account, at, &ReferenceEvent::Balance(balance.get())));
                    position.apply_balance(&calendar, now, change, rest)
                }
                (change, _) => {
                    prop_assert!(ledger.apply(&account, at, event));
                    position.apply_standing(&calendar, now, change.expect("no balance"), when, rest)
                }
            };
            prop_assert!(applied.is_ok(), "{:?}", applied);
            prop_assert_eq!(applied.unwrap().late, calendar.frozen_any && when < calendar.oldest.bounds.start);
            last.insert(account, at);
        }
        for _ in 0..4 {
            close(&mut calendar, &mut ledger, &mut positions);
        }
        prop_assert_eq!(total, reference_total);
    }
}
