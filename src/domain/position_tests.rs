use std::collections::BTreeMap;

use proptest::prelude::*;
use ruint::aliases::U256;

use super::*;
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use crate::domain::period::{PeriodBounds, TimeLimits};

const LIMITS: TimeLimits = TimeLimits { max_skew_seconds: 5, max_lateness_seconds: 60, max_future_seconds: 10 };
const SOURCE: SourceNumber = SourceNumber(1);
const LENGTH: i64 = 40;

fn at(second: i64) -> UnixSeconds {
    UnixSeconds::new(1_000_000 + second)
}

fn policy(minimum: u64, cap: Option<u64>) -> EligibilityPolicy {
    let mode = EnrolmentMode::Automatic;
    EligibilityPolicy { minimum: BaseUnits::from_u64(minimum), cap: cap.map(BaseUnits::from_u64), enrolment: mode }
}

fn period(index: u64, policy: EligibilityPolicy) -> OpenPeriod {
    let bounds = PeriodBounds::new(at(index as i64 * LENGTH), LENGTH as u32).unwrap();
    OpenPeriod { index: PeriodIndex(index), bounds, policy, limits: LIMITS }
}

fn calendar() -> Calendar {
    let any = policy(0, None);
    Calendar { next: Some(period(1, any)), ..Calendar::first(at(0), period(0, any)) }
}

fn balance(sequence: u64, second: i64, balance: u64) -> BalanceChange {
    BalanceChange { source: SOURCE, sequence, balance: BaseUnits::from_u64(balance), at: at(second) }
}

#[test]
fn half_a_period_is_half_and_a_second_before_the_close_is_a_second() {
    let calendar = calendar();
    let weight_of = |second: i64| {
        let mut position = Position::default();
        position.apply_balance(&calendar, at(second), balance(1, second, 700), &mut Rest::default()).unwrap();
        position.freeze(&calendar, &mut Rest::default()).weight
    };
    assert_eq!(weight_of(0), 700 * 40);
    assert_eq!(weight_of(20), 700 * 20);
    assert_eq!(weight_of(39), 700);
    assert_eq!(weight_of(40), 0);
}

#[test]
fn weight_stands_on_both_sides_of_a_boundary() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(10), balance(1, 10, 100), &mut Rest::default()).unwrap();
    let applied = position.apply_balance(&calendar, at(50), balance(2, 50, 30), &mut Rest::default()).unwrap();
    assert_eq!((applied.period, applied.change), (PeriodIndex(1), -70));
    assert_eq!(position.weights_at(&calendar, at(60)), (3000, Some(1000 + 300)));
    assert_eq!(position.freeze(&calendar, &mut Rest::default()).weight, 3000);
    let after = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    assert_eq!(position.weights_at(&after, at(60)), (1300, None));
    assert_eq!(position.freeze(&after, &mut Rest::default()).weight, 1000 + 30 * 30);
}

#[test]
fn a_time_that_goes_back_is_clamped_or_rejected() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(20), balance(1, 20, 100), &mut Rest::default()).unwrap();
    let clamped = position.apply_balance(&calendar, at(20), balance(2, 15, 50), &mut Rest::default()).unwrap();
    assert!(clamped.clamped && !clamped.late);
    assert_eq!(clamped.effective, at(20));
    let before = position;
    let far = position.apply_balance(&calendar, at(20), balance(3, 14, 70), &mut Rest::default());
    assert_eq!(far, Err(RejectReason::TooOld));
    assert_eq!(position, before, "a rejection changes nothing");
}

#[test]
fn the_future_and_the_unopened_are_rejected() {
    let calendar = calendar();
    let mut position = Position::default();
    let future = position.apply_balance(&calendar, at(0), balance(1, 11, 1), &mut Rest::default());
    assert_eq!(future, Err(RejectReason::FromFuture));
    let unopened = position.apply_balance(&calendar, at(80), balance(1, 80, 1), &mut Rest::default());
    assert_eq!(unopened, Err(RejectReason::PeriodNotOpen));
    assert!(position.apply_balance(&calendar, at(0), balance(1, 10, 1), &mut Rest::default()).is_ok());
}

#[test]
fn an_opening_balance_may_be_as_old_as_it_likes() {
    let calendar = calendar();
    let mut position = Position::default();
    let applied = position.apply_balance(&calendar, at(0), balance(1, -900_000, 9), &mut Rest::default()).unwrap();
    assert_eq!((applied.effective, applied.late, applied.clamped), (at(0), false, false));
    assert_eq!(position.freeze(&calendar, &mut Rest::default()).weight, 9 * 40);
}

#[test]
fn a_late_event_counts_from_the_oldest_open_period_and_keeps_its_own_time() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(5), balance(1, 5, 100), &mut Rest::default()).unwrap();
    assert_eq!(position.freeze(&calendar, &mut Rest::default()).weight, 3500);
    let after = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    let mut rest = Rest::default();
    let late = position.apply_balance(&after, at(45), balance(2, 10, 40), &mut rest).unwrap();
    assert!(late.late && !late.clamped);
    assert_eq!((late.effective, late.change, late.period), (at(40), -60, PeriodIndex(1)));
    assert_eq!(
        (late.adjusted, rest),
        (Adjusted::default(), Rest::new(U256::from(60 * 30))),
        "nothing is there to give"
    );
    let second = position.apply_balance(&after, at(45), balance(3, 30, 60), &mut rest).unwrap();
    assert!(second.late && !second.clamped, "in order, though both count from the start");
    assert_eq!(position.apply_balance(&after, at(101), balance(4, 35, 1), &mut rest), Err(RejectReason::TooOld));
    let frozen = position.freeze(&after, &mut rest);
    assert_eq!((frozen.weight, frozen.collected), (60 * 40 - 60 * 30 + 20 * 10, 60 * 30 - 20 * 10));
    assert!(rest.is_zero());
}

/// Three periods with policies of their own are frozen; then the balance turns out to have been another one.
#[test]
fn each_frozen_period_counts_by_its_own_policy() {
    let policies = [policy(0, Some(100)), policy(500, None), policy(0, None), policy(0, None)];
    let frozen_upto = |balances: &[(i64, u64)], now: i64| {
        let mut calendar =
            Calendar { next: Some(period(1, policies[1])), ..Calendar::first(at(0), period(0, policies[0])) };
        let (mut position, mut rest, mut weights) = (Position::default(), Rest::default(), Vec::new());
        let mut sequence = 0;
        let mut feed = |position: &mut Position, calendar: &Calendar, rest: &mut Rest, second: i64, units: u64| {
            sequence += 1;
            position.apply_balance(calendar, at(now), balance(sequence, second, units), rest).unwrap()
        };
        feed(&mut position, &calendar, &mut rest, 0, 300);
        for index in 2..4u64 {
            weights.push(position.freeze(&calendar, &mut rest).weight);
            calendar = calendar.after_freeze().unwrap();
            calendar.next = Some(period(index, policies[index as usize]));
        }
        let late: Vec<Adjusted> = balances
            .iter()
            .map(|(second, units)| feed(&mut position, &calendar, &mut rest, *second, *units).adjusted)
            .collect();
        (weights, late, rest, position.freeze(&calendar, &mut rest.clone()).weight)
    };
    let (weights, late, rest, weight) = frozen_upto(&[(25, 700)], 85);
    assert_eq!(weights, [100 * 40, 0]);
    // The cap of the first period hides the rise; the minimum of the second is passed by it.
    assert_eq!((late, rest), (vec![Adjusted { up: 700 * 40, down: 0 }], Rest::ZERO));
    assert_eq!(weight, 700 * 40 + 700 * 40);
    let (_, late, rest, weight) = frozen_upto(&[(30, 40), (50, 90)], 85);
    assert_eq!((late, rest), (vec![Adjusted::default(); 2], Rest::new(U256::from(60 * 10u64))));
    assert_eq!(weight, 90 * 40 - 60 * 10);
}

#[test]
fn a_rest_is_collected_from_the_periods_that_follow_until_nothing_is_left() {
    let calendar = calendar();
    let (mut position, mut rest) = (Position::default(), Rest::default());
    position.apply_balance(&calendar, at(0), balance(1, 0, 100), &mut rest).unwrap();
    position.freeze(&calendar, &mut rest);
    let mut calendar = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    position.apply_balance(&calendar, at(45), balance(2, 0, 15), &mut rest).unwrap();
    assert_eq!(rest, Rest::new(U256::from(85 * 40)));
    let mut paid = Vec::new();
    for index in 3..10 {
        paid.push(position.freeze(&calendar, &mut rest).weight);
        calendar = calendar.after_freeze().unwrap();
        calendar.next = Some(period(index, policy(0, None)));
    }
    assert_eq!(paid, [0, 0, 0, 0, 0, 200, 600]);
    assert_eq!(4000 + paid.iter().sum::<u128>(), 15 * 40 * 8, "as if it had been 15 from the start");
}

#[test]
fn a_late_change_of_standing_counts_from_the_lateness_on() {
    let calendar = calendar();
    let (mut position, mut rest) = (Position::default(), Rest::default());
    position.apply_balance(&calendar, at(0), balance(1, 0, 100), &mut rest).unwrap();
    position.freeze(&calendar, &mut rest);
    let calendar = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    let mut old = position;
    let late = position.apply_standing(&calendar, at(70), StandingChange::OPT_OUT, at(30), &mut rest).unwrap();
    assert!(late.late);
    assert_eq!(rest, Rest::new(U256::from(100 * 10)));
    let mut rest = Rest::default();
    let late = old.apply_standing(&calendar, at(78), StandingChange::OPT_OUT, at(3), &mut rest).unwrap();
    assert!(late.late);
    assert_eq!(rest, Rest::new(U256::from(100 * (40 - 18))), "no more than the lateness of 60 seconds");
}

/// Weights fit, whatever is accepted: an overflow would panic here.
#[test]
fn the_largest_balances_fit_with_everything_that_reaches_back() {
    let mut calendar = calendar();
    let limit = calendar.balance_limit();
    let (mut position, mut rest) = (Position::default(), Rest::default());
    let all = |sequence, second| BalanceChange { balance: limit, ..balance(sequence, second, 0) };
    position.apply_balance(&calendar, at(0), balance(1, 0, 0), &mut rest).unwrap();
    for index in 2..4 {
        position.freeze(&calendar, &mut rest);
        calendar = Calendar { next: Some(period(index, policy(0, None))), ..calendar.after_freeze().unwrap() };
    }
    position.apply_balance(&calendar, at(80), all(2, 20), &mut rest).unwrap();
    assert_eq!(position.freeze(&calendar, &mut rest).weight, limit.get() * 100);
    // The next periods are so long, and reach so far back, that the balance is far past what is accepted in them.
    calendar = calendar.after_freeze().unwrap();
    let bounds = PeriodBounds::new(calendar.oldest.bounds.end, crate::domain::period::MAX_PERIOD_SECONDS).unwrap();
    let limits = TimeLimits { max_lateness_seconds: u32::MAX, ..LIMITS };
    calendar.next = Some(OpenPeriod { index: PeriodIndex(4), bounds, policy: policy(0, None), limits });
    position.freeze(&calendar, &mut rest);
    calendar = calendar.after_freeze().unwrap();
    let long = calendar.oldest.balance_limit();
    assert!(long < limit);
    assert_eq!(position.eligible(&calendar), long);
    calendar.next =
        Some(OpenPeriod { bounds: bounds.following(40).unwrap(), index: PeriodIndex(5), ..calendar.oldest });
    let late = position.apply_balance(&calendar, at(200), balance(3, 20, 0), &mut rest).unwrap();
    assert_eq!(late.change, -long.signed().get());
    assert_eq!(
        rest.get(),
        U256::from(long.get()) * U256::from(140u64),
        "no balance counts for more than the limit now"
    );
    assert_eq!(position.freeze(&calendar, &mut rest).weight, 0);
}

#[test]
fn a_position_belongs_to_the_source_that_opened_it() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_standing(&calendar, at(0), StandingChange::OPT_IN, at(0), &mut Rest::default()).unwrap();
    assert_eq!(position.owner(), None);
    position.apply_balance(&calendar, at(0), balance(1, 0, 5), &mut Rest::default()).unwrap();
    let other = BalanceChange { source: SourceNumber(2), ..balance(1, 1, 6) };
    assert_eq!(position.apply_balance(&calendar, at(1), other, &mut Rest::default()), Err(RejectReason::NotOwner));
}

#[test]
fn the_balance_limit_is_the_figure() {
    let calendar = calendar();
    let limit = BaseUnits::new(MAX_BASE_UNITS / 100).unwrap();
    let mut position = Position::default();
    let over = BalanceChange { balance: limit.checked_add(BaseUnits::from_u64(1)).unwrap(), ..balance(1, 0, 0) };
    let refused = position.apply_balance(&calendar, at(0), over, &mut Rest::default());
    assert_eq!(refused, Err(RejectReason::BalanceTooLarge { limit }));
    position.apply_balance(&calendar, at(0), BalanceChange { balance: limit, ..over }, &mut Rest::default()).unwrap();
    assert_eq!(position.freeze(&calendar, &mut Rest::default()).weight, limit.get() * 40);
}

#[test]
fn an_enrolment_that_overtakes_a_balance_does_not_lose_it() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(0), balance(1, 0, 100), &mut Rest::default()).unwrap();
    position.apply_standing(&calendar, at(30), StandingChange::OPT_OUT, at(30), &mut Rest::default()).unwrap();
    assert_eq!(position.eligible(&calendar), BaseUnits::ZERO);
    let behind = position.apply_balance(&calendar, at(30), balance(2, 10, 70), &mut Rest::default()).unwrap();
    assert!(behind.clamped);
    assert_eq!(position.available(), BaseUnits::from_u64(70));
    assert_eq!(
        position.freeze(&calendar, &mut Rest::default()).weight,
        3000,
        "what was earned before the opt-out stays"
    );
}

#[test]
fn a_standing_is_never_too_late() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(30), balance(1, 30, 100), &mut Rest::default()).unwrap();
    let change =
        position.apply_standing(&calendar, at(35), StandingChange::RESTRICT, at(2), &mut Rest::default()).unwrap();
    assert!(change.clamped);
    assert_eq!((change.effective, change.change), (at(30), -100));
}

#[test]
fn another_policy_in_the_next_period_counts_from_its_start() {
    let mut calendar = calendar();
    calendar.next = Some(period(1, policy(50, Some(80))));
    let mut stays = Position::default();
    stays.apply_balance(&calendar, at(0), balance(1, 0, 100), &mut Rest::default()).unwrap();
    let mut crosses = stays;
    let frozen = stays.freeze(&calendar, &mut Rest::default());
    assert_eq!((frozen.weight, frozen.crossing), (4000, -20));
    let applied = crosses.apply_balance(&calendar, at(45), balance(2, 45, 40), &mut Rest::default()).unwrap();
    assert_eq!((applied.crossing, applied.change), (-20, -80));
    assert_eq!(crosses.freeze(&calendar, &mut Rest::default()), Frozen { weight: 4000, collected: 0, crossing: 0 });
    let after = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    assert_eq!(stays.freeze(&after, &mut Rest::default()).weight, 80 * 40);
    assert_eq!(crosses.freeze(&after, &mut Rest::default()).weight, 80 * 5);
}

/// The same history, second by second.
#[derive(Clone, Debug)]
enum Step {
    Balance { wait: i64, back: i64, balance: u64 },
    Standing { wait: i64, bits: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let back = prop_oneof![4 => 0i64..4, 1 => 4i64..60];
    let balance = (0i64..9, back, 0u64..200).prop_map(|(wait, back, balance)| Step::Balance { wait, back, balance });
    let standing = (0i64..9, 0u8..16).prop_map(|(wait, bits)| Step::Standing { wait, bits });
    proptest::collection::vec(prop_oneof![4 => balance, 1 => standing], 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Weight is the sum over every second of what was eligible in it: what came in time in its period, what came late
    /// in the ones after. The changes and the adjustments told add up to it.
    #[test]
    fn weight_is_the_integral(steps in steps(), grace in 0i64..LENGTH, lows in proptest::collection::vec(0u64..90, 12)) {
        let policy_of = |index: usize| policy(lows[index % lows.len()], Some(150 - lows[(index + 1) % lows.len()] / 2));
        let mut calendar =
            Calendar { next: Some(period(1, policy_of(1))), ..Calendar::first(at(0), period(0, policy_of(0))) };
        let (mut position, mut rest) = (Position::default(), Rest::default());
        let (mut clock, mut last) = (0i64, 0i64);
        let mut frozen = Vec::new();
        // Balance and standing from each second on; what was paid in each period; changes of the total as told.
        let mut marks: Vec<(i64, u64, Standing)> = vec![(0, 0, Standing::NONE)];
        let weigh = |marks: &[(i64, u64, Standing)], index: usize| -> i128 {
            let second = |second: i64| {
                let (_, held, standing) = marks.iter().rev().find(|(from, ..)| *from <= second).unwrap();
                eligible(BaseUnits::from_u64(*held), *standing, &policy_of(index)).signed().get()
            };
            (index as i64 * LENGTH..(index as i64 + 1) * LENGTH).map(second).sum()
        };
        // What is due up to a period, as known by now, less what was paid before.
        let due = |marks: &[(i64, u64, Standing)], paid: &[u128], index: usize| -> i128 {
            (0..=index).map(|index| weigh(marks, index)).sum::<i128>() - paid.iter().sum::<u128>().cast_signed()
        };
        let mut adjusted: BTreeMap<u64, i128> = BTreeMap::new();
        let mut told: Vec<(UnixSeconds, i128)> = Vec::new();
        let mut freeze_until = |clock: i64, calendar: &mut Calendar, position: &mut Position, rest: &mut Rest,
                            marks: &[(i64, u64, Standing)], adjusted: &mut BTreeMap<u64, i128>,
                            told: &mut Vec<(UnixSeconds, i128)>| {
            while at(clock) >= calendar.oldest.bounds.end.plus(grace) {
                let start = calendar.oldest.bounds.end;
                let index = calendar.oldest.index.0 as usize;
                let due = due(marks, &frozen, index);
                let cut = position.freeze(calendar, rest);
                assert_eq!(cut.weight.cast_signed(), due.max(0), "period {index}");
                assert_eq!(*rest, Rest::new(U256::from(due.min(0).unsigned_abs())), "period {index}");
                *adjusted.entry(index as u64).or_default() -= cut.collected.cast_signed();
                frozen.push(cut.weight);
                told.push((start, cut.crossing));
                *calendar = calendar.after_freeze().unwrap();
                calendar.next = Some(period(index as u64 + 2, policy_of(index + 2)));
            }
        };
        for (sequence, step) in (1u64..).zip(&steps) {
            let (wait, back) = match step {
                Step::Balance { wait, back, .. } => (*wait, *back),
                Step::Standing { wait, .. } => (*wait, 0),
            };
            clock += wait;
            freeze_until(clock, &mut calendar, &mut position, &mut rest, &marks, &mut adjusted, &mut told);
            // What goes back further than the skew does so behind a position that was silent meanwhile.
            let when = if back < 4 { (clock - back).max(0) } else { (clock - back).max(last) };
            let (_, held, standing) = *marks.last().unwrap();
            let oldest = calendar.oldest.bounds.start.since(at(0)) as i64;
            let stated = when.max(last);
            let applied = match step {
                Step::Balance { balance: units, .. } => {
                    marks.push((stated, *units, standing));
                    position.apply_balance(&calendar, at(clock), balance(sequence, when, *units), &mut rest).unwrap()
                }
                Step::Standing { bits, .. } => {
                    let set = Standing::from_bits(*bits).unwrap();
                    let change = StandingChange { set, clear: Standing::from_bits(15).unwrap() };
                    marks.push((stated, held, set));
                    position.apply_standing(&calendar, at(clock), change, at(when), &mut rest).unwrap()
                }
            };
            last = last.max(when);
            prop_assert_eq!(applied.effective, at(stated.max(oldest)));
            prop_assert_eq!((applied.clamped, applied.late), (when < last, stated < oldest));
            *adjusted.entry(calendar.oldest.index.0).or_default() +=
                applied.adjusted.up.cast_signed() - applied.adjusted.down.cast_signed();
            told.push((applied.effective, applied.change));
            let start = period(applied.period.0, policy_of(0)).bounds.start;
            told.push((start, applied.crossing));
        }
        freeze_until(clock + LENGTH, &mut calendar, &mut position, &mut rest, &marks, &mut adjusted, &mut told);
        for (index, weight) in frozen.iter().enumerate() {
            let bounds = period(index as u64, policy_of(index)).bounds;
            let integral: i128 = told.iter().filter(|(when, _)| *when < bounds.end)
                .map(|(when, change)| change * bounds.end.since((*when).max(bounds.start)) as i128).sum();
            let adjusted = adjusted.get(&(index as u64)).copied().unwrap_or(0);
            prop_assert_eq!(integral + adjusted, weight.cast_signed(), "period {}", index);
        }
    }
}
