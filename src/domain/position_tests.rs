use proptest::prelude::*;

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
    Calendar { origin: at(0), frozen_any: false, oldest: period(0, any), next: Some(period(1, any)) }
}

fn balance(sequence: u64, second: i64, balance: u64) -> BalanceChange {
    BalanceChange { source: SOURCE, sequence, balance: BaseUnits::from_u64(balance), at: at(second) }
}

#[test]
fn half_a_period_is_half_and_a_second_before_the_close_is_a_second() {
    let calendar = calendar();
    let weight_of = |second: i64| {
        let mut position = Position::default();
        position.apply_balance(&calendar, at(second), balance(1, second, 700)).unwrap();
        position.freeze(&calendar).weight
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
    position.apply_balance(&calendar, at(10), balance(1, 10, 100)).unwrap();
    let applied = position.apply_balance(&calendar, at(50), balance(2, 50, 30)).unwrap();
    assert_eq!((applied.period, applied.change), (PeriodIndex(1), -70));
    assert_eq!(position.weights_at(&calendar, at(60)), (3000, Some(1000 + 300)));
    assert_eq!(position.freeze(&calendar).weight, 3000);
    let after = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    assert_eq!(position.weights_at(&after, at(60)), (1300, None));
    assert_eq!(position.freeze(&after).weight, 1000 + 30 * 30);
}

#[test]
fn a_time_that_goes_back_is_clamped_or_rejected() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(20), balance(1, 20, 100)).unwrap();
    let clamped = position.apply_balance(&calendar, at(20), balance(2, 15, 50)).unwrap();
    assert!(clamped.clamped && !clamped.late);
    assert_eq!(clamped.effective, at(20));
    let before = position;
    let far = position.apply_balance(&calendar, at(20), balance(3, 14, 70));
    assert_eq!(far, Err(RejectReason::TooOld));
    assert_eq!(position, before, "a rejection changes nothing");
}

#[test]
fn the_future_and_the_unopened_are_rejected() {
    let calendar = calendar();
    let mut position = Position::default();
    let future = position.apply_balance(&calendar, at(0), balance(1, 11, 1));
    assert_eq!(future, Err(RejectReason::FromFuture));
    let unopened = position.apply_balance(&calendar, at(80), balance(1, 80, 1));
    assert_eq!(unopened, Err(RejectReason::PeriodNotOpen));
    assert!(position.apply_balance(&calendar, at(0), balance(1, 10, 1)).is_ok());
}

#[test]
fn an_opening_balance_may_be_as_old_as_it_likes() {
    let calendar = calendar();
    let mut position = Position::default();
    let applied = position.apply_balance(&calendar, at(0), balance(1, -900_000, 9)).unwrap();
    assert_eq!((applied.effective, applied.late, applied.clamped), (at(0), false, false));
    assert_eq!(position.freeze(&calendar).weight, 9 * 40);
}

#[test]
fn a_late_event_counts_from_the_oldest_open_period_and_keeps_its_own_time() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(5), balance(1, 5, 100)).unwrap();
    assert_eq!(position.freeze(&calendar).weight, 3500);
    let after = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    let late = position.apply_balance(&after, at(45), balance(2, 10, 40)).unwrap();
    assert!(late.late && !late.clamped);
    assert_eq!((late.effective, late.change, late.period), (at(40), -60, PeriodIndex(1)));
    let second = position.apply_balance(&after, at(45), balance(3, 30, 60)).unwrap();
    assert!(second.late && !second.clamped, "in order, though both count from the start");
    assert_eq!(position.apply_balance(&after, at(101), balance(4, 35, 1)), Err(RejectReason::TooOld));
    assert_eq!(position.freeze(&after).weight, 60 * 40);
}

#[test]
fn a_position_belongs_to_the_source_that_opened_it() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_standing(&calendar, at(0), StandingChange::OPT_IN, at(0)).unwrap();
    assert_eq!(position.owner(), None);
    position.apply_balance(&calendar, at(0), balance(1, 0, 5)).unwrap();
    let other = BalanceChange { source: SourceNumber(2), ..balance(1, 1, 6) };
    assert_eq!(position.apply_balance(&calendar, at(1), other), Err(RejectReason::NotOwner));
}

#[test]
fn the_balance_limit_is_the_figure() {
    let calendar = calendar();
    let limit = BaseUnits::new(MAX_BASE_UNITS / 100).unwrap();
    let mut position = Position::default();
    let over = BalanceChange { balance: limit.checked_add(BaseUnits::from_u64(1)).unwrap(), ..balance(1, 0, 0) };
    let refused = position.apply_balance(&calendar, at(0), over);
    assert_eq!(refused, Err(RejectReason::BalanceTooLarge { limit }));
    position.apply_balance(&calendar, at(0), BalanceChange { balance: limit, ..over }).unwrap();
    assert_eq!(position.freeze(&calendar).weight, limit.get() * 40);
}

#[test]
fn an_enrolment_that_overtakes_a_balance_does_not_lose_it() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(0), balance(1, 0, 100)).unwrap();
    position.apply_standing(&calendar, at(30), StandingChange::OPT_OUT, at(30)).unwrap();
    assert_eq!(position.eligible(&calendar), BaseUnits::ZERO);
    let behind = position.apply_balance(&calendar, at(30), balance(2, 10, 70)).unwrap();
    assert!(behind.clamped);
    assert_eq!(position.available(), BaseUnits::from_u64(70));
    assert_eq!(position.freeze(&calendar).weight, 3000, "what was earned before the opt-out stays");
}

#[test]
fn a_standing_is_never_too_late() {
    let calendar = calendar();
    let mut position = Position::default();
    position.apply_balance(&calendar, at(30), balance(1, 30, 100)).unwrap();
    let change = position.apply_standing(&calendar, at(35), StandingChange::RESTRICT, at(2)).unwrap();
    assert!(change.clamped);
    assert_eq!((change.effective, change.change), (at(30), -100));
}

#[test]
fn another_policy_in_the_next_period_counts_from_its_start() {
    let mut calendar = calendar();
    calendar.next = Some(period(1, policy(50, Some(80))));
    let mut stays = Position::default();
    stays.apply_balance(&calendar, at(0), balance(1, 0, 100)).unwrap();
    let mut crosses = stays;
    let frozen = stays.freeze(&calendar);
    assert_eq!((frozen.weight, frozen.crossing), (4000, -20));
    let applied = crosses.apply_balance(&calendar, at(45), balance(2, 45, 40)).unwrap();
    assert_eq!((applied.crossing, applied.change), (-20, -80));
    assert_eq!(crosses.freeze(&calendar), Frozen { weight: 4000, crossing: 0 });
    let after = Calendar { next: Some(period(2, policy(0, None))), ..calendar.after_freeze().unwrap() };
    assert_eq!(stays.freeze(&after).weight, 80 * 40);
    assert_eq!(crosses.freeze(&after).weight, 80 * 5);
}

/// The same history, second by second.
#[derive(Clone, Debug)]
enum Step {
    Balance { wait: i64, back: i64, balance: u64 },
    Standing { wait: i64, bits: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let balance = (0i64..9, 0i64..4, 0u64..200).prop_map(|(wait, back, balance)| Step::Balance { wait, back, balance });
    let standing = (0i64..9, 0u8..16).prop_map(|(wait, bits)| Step::Standing { wait, bits });
    proptest::collection::vec(prop_oneof![4 => balance, 1 => standing], 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Weight is the sum over every second of what was eligible in it, whatever was frozen when, and the changes told
    /// add up to it.
    #[test]
    fn weight_is_the_integral(steps in steps(), grace in 0i64..LENGTH, lows in proptest::collection::vec(0u64..90, 12)) {
        let policy_of = |index: usize| policy(lows[index % lows.len()], Some(150 - lows[(index + 1) % lows.len()] / 2));
        let mut calendar = Calendar {
            origin: at(0), frozen_any: false, oldest: period(0, policy_of(0)), next: Some(period(1, policy_of(1))),
        };
        let mut position = Position::default();
        let (mut clock, mut last) = (0i64, 0i64);
        let mut frozen = Vec::new();
        // Balance and standing from each second on; changes of the total as told.
        let mut marks: Vec<(i64, u64, Standing)> = vec![(0, 0, Standing::NONE)];
        let mut told: Vec<(UnixSeconds, i128)> = Vec::new();
        let freeze_until = |clock: i64, calendar: &mut Calendar, position: &mut Position, frozen: &mut Vec<u128>,
                            told: &mut Vec<(UnixSeconds, i128)>| {
            while at(clock) >= calendar.oldest.bounds.end.plus(grace) {
                let start = calendar.oldest.bounds.end;
                let cut = position.freeze(calendar);
                frozen.push(cut.weight);
                told.push((start, cut.crossing));
                let index = calendar.oldest.index.0 as usize + 2;
                *calendar = calendar.after_freeze().unwrap();
                calendar.next = Some(period(index as u64, policy_of(index)));
            }
        };
        for (sequence, step) in (1u64..).zip(&steps) {
            let (wait, back) = match step {
                Step::Balance { wait, back, .. } => (*wait, *back),
                Step::Standing { wait, .. } => (*wait, 0),
            };
            clock += wait;
            freeze_until(clock, &mut calendar, &mut position, &mut frozen, &mut told);
            let when = (clock - back).max(0);
            let (_, held, standing) = *marks.last().unwrap();
            let oldest = calendar.oldest.bounds.start.since(at(0)) as i64;
            let effective = when.max(last).max(oldest);
            let applied = match step {
                Step::Balance { balance: units, .. } => {
                    marks.push((effective, *units, standing));
                    position.apply_balance(&calendar, at(clock), balance(sequence, when, *units)).unwrap()
                }
                Step::Standing { bits, .. } => {
                    let set = Standing::from_bits(*bits).unwrap();
                    let change = StandingChange { set, clear: Standing::from_bits(15).unwrap() };
                    marks.push((effective, held, set));
                    position.apply_standing(&calendar, at(clock), change, at(when)).unwrap()
                }
            };
            last = last.max(when);
            prop_assert_eq!(applied.effective, at(effective));
            prop_assert_eq!(applied.clamped, when < last);
            told.push((applied.effective, applied.change));
            let start = period(applied.period.0, policy_of(0)).bounds.start;
            told.push((start, applied.crossing));
        }
        let (oldest, next) = position.weights_at(&calendar, calendar.open_until());
        frozen.push(oldest);
        frozen.push(next.unwrap_or(0));
        for (index, weight) in frozen.iter().enumerate() {
            let policy = policy_of(index);
            let mut naive = 0u128;
            for second in index as i64 * LENGTH..(index as i64 + 1) * LENGTH {
                let (_, held, standing) = marks.iter().rev().find(|(from, ..)| *from <= second).unwrap();
                naive += eligible(BaseUnits::from_u64(*held), *standing, &policy).get();
            }
            prop_assert_eq!(*weight, naive, "period {}", index);
            // The changes told come to the same. The last period of all is not crossed into by anyone.
            let bounds = period(index as u64, policy).bounds;
            let covered = index + 1 < frozen.len() || position.crossed();
            let integral: i128 = told.iter().filter(|(when, _)| *when < bounds.end)
                .map(|(when, change)| change * bounds.end.since((*when).max(bounds.start)) as i128).sum();
            prop_assert!(!covered || integral == naive as i128, "period {}: {} told, {} held", index, integral, naive);
        }
    }
}
