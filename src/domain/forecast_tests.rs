use proptest::prelude::*;

use super::super::period::PeriodBounds;
use super::super::time::UnixSeconds;
use super::*;

/// How long the periods of these tests are.
const SECONDS: u32 = 12;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn terms(windows: u32, window_periods: usize) -> ForecastTerms {
    ForecastTerms { percentile_bps: 9_900, windows, window_periods }
}

fn curve(n: i64, start: i128, changes: &[(i64, i128)]) -> EligibleCurve {
    let start_at = UnixSeconds::new(n * i64::from(SECONDS));
    let mut curve = EligibleCurve::new(PeriodBounds::new(start_at, SECONDS).unwrap(), start);
    changes.iter().for_each(|(second, change)| curve.add(start_at.plus(*second), *change));
    curve
}

/// A period in which `n` leave and come back.
fn dip(n: u64) -> Outflow {
    let n = i128::from(n);
    Outflow::of(&curve(0, 1_000_000, &[(2, -n), (5, n)])).unwrap()
}

/// The definition: over every pair of an earlier and a later second, the largest fall, policy changes not counted.
fn naive(curves: &[EligibleCurve]) -> u128 {
    let mut levels = vec![0_i128];
    for curve in curves {
        for (_, change) in curve.changes() {
            levels.push(levels.last().unwrap() + change);
        }
    }
    let falls = levels.iter().enumerate().flat_map(|(n, from)| levels[n..].iter().map(move |to| from - to));
    falls.max().unwrap().unsigned_abs()
}

#[test]
fn the_largest_fall_may_begin_in_one_period_and_end_in_another() {
    let first = Outflow::of(&curve(0, 100, &[(1, 50), (8, -20)])).unwrap();
    assert_eq!((first.highest.get(), first.lowest.get(), first.last.get(), first.drawdown), (150, 100, 130, units(20)));
    // The period after it begins with 70 less, by another minimum: nobody left.
    let second = Outflow::of(&curve(1, 60, &[(1, -30), (3, 5), (6, -1)])).unwrap();
    assert_eq!(second.drawdown, units(30));
    assert_eq!(first.join(&second).unwrap().drawdown, units(50));
    assert_eq!(first.join(&Outflow::flat(SignedUnits::new(7))).unwrap(), first);
}

#[test]
fn without_a_week_of_windows_there_is_no_forecast() {
    let history: Vec<Outflow> = (1..=8).map(dip).collect();
    assert_eq!(forecast(&[], &terms(90, 1)), Ok(Forecast::default()));
    assert_eq!(forecast(&history[..6], &terms(90, 1)), Ok(Forecast { outflow: None, windows: 6 }));
    assert_eq!(forecast(&history, &terms(90, 2)), Ok(Forecast { outflow: Some(units(8)), windows: 7 }));
    assert_eq!(forecast(&history, &terms(90, 3)), Ok(Forecast { outflow: None, windows: 6 }));
    assert_eq!(forecast(&history, &terms(90, 30)), Ok(Forecast { outflow: None, windows: 0 }));
}

#[test]
fn the_percentile_is_the_nearest_rank_of_the_latest_windows() {
    let history: Vec<Outflow> = (1..=200).map(dip).collect();
    let of = |bps: u32, windows: u32| {
        let terms = ForecastTerms { percentile_bps: bps, ..terms(windows, 1) };
        forecast(&history, &terms).unwrap().outflow.unwrap().get()
    };
    // The last hundred are 101 to 200.
    assert_eq!(of(9_900, 100), 199);
    assert_eq!(of(9_901, 100), 200);
    assert_eq!((of(10_000, 100), of(5_000, 100), of(1, 100)), (200, 150, 101));
    assert_eq!(of(9_900, 90), 200, "of 90 windows every one is within the last hundredth");
    assert_eq!(of(9_900, 400), 198);
}

#[test]
fn a_reserve_covers_as_many_periods_as_its_percentile_allows() {
    let down = |n: i128| Outflow::of(&curve(0, 1_000, &[(3, -n)])).unwrap();
    let history = vec![down(10); 20];
    let covered = |reserve: i128| {
        let covered = covered(&history, &terms(90, 3), SignedUnits::new(reserve)).unwrap();
        (covered.periods, covered.bound)
    };
    // Ten leave in each: thirty-five are three periods' worth.
    assert_eq!(covered(35), (3, CoverBound::Reserve));
    assert_eq!(covered(30), (3, CoverBound::Reserve));
    assert_eq!(covered(9), (0, CoverBound::Reserve));
    assert_eq!(covered(-5), (0, CoverBound::Reserve));
    // Fourteen periods fit seven times into twenty.
    assert_eq!(covered(1_000), (14, CoverBound::History));
    let young = super::covered(&history[..6], &terms(90, 3), SignedUnits::new(1_000)).unwrap();
    assert_eq!(young, Covered { periods: 0, bound: CoverBound::History });
}

#[test]
fn what_is_read_is_bounded() {
    assert_eq!(window_periods(21 * 86_400, 86_400), 21);
    assert_eq!(window_periods(21 * 86_400 + 1, 86_400), 22);
    assert_eq!(window_periods(0, 86_400), 1);
    assert_eq!(window_periods(21 * 86_400, 60), 256);
    assert_eq!(terms(90, 21).periods(), 110);
    assert_eq!(terms(u32::MAX, 256).periods(), MAX_PERIODS);
}

prop_compose! {
    fn curves()(
        periods in prop::collection::vec(
            (0_i128..1_000, prop::collection::vec((0_i64..i64::from(SECONDS), -500_i128..500), 0..6)), 1..9,
        ),
    ) -> Vec<EligibleCurve> {
        periods.iter().zip(0_i64..).map(|((start, changes), n)| curve(n, *start, changes)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn joined_summaries_are_the_definition_however_they_are_joined(curves in curves(), cut in 0_usize..9) {
        let parts: Vec<Outflow> = curves.iter().map(|curve| Outflow::of(curve).unwrap()).collect();
        let join = |parts: &[Outflow]| {
            parts.iter().copied().reduce(|one, next| one.join(&next).unwrap())
        };
        let whole = join(&parts).unwrap();
        prop_assert_eq!(whole.drawdown.get(), naive(&curves));
        for (part, curve) in parts.iter().zip(&curves) {
            prop_assert_eq!(part.drawdown.get(), naive(std::slice::from_ref(curve)));
            prop_assert_eq!(part.last.get(), curve.end_total());
        }
        let (left, right) = parts.split_at(cut.min(parts.len()));
        if let (Some(left), Some(right)) = (join(left), join(right)) {
            prop_assert_eq!(left.join(&right).unwrap(), whole);
        }
    }

    #[test]
    fn windows_are_every_run_of_periods(curves in prop::collection::vec(curves(), 3), length in 1_usize..6, bps in 1_u32..10_001) {
        let curves: Vec<EligibleCurve> = curves.concat();
        let history: Vec<Outflow> = curves.iter().map(|curve| Outflow::of(curve).unwrap()).collect();
        let terms = ForecastTerms { percentile_bps: bps, windows: 90, window_periods: length };
        let found = forecast(&history, &terms).unwrap();
        let mut falls: Vec<u128> = curves.windows(length).map(naive).collect();
        prop_assert_eq!(found.windows as usize, falls.len());
        falls.sort_unstable();
        // The smallest fall that so many of the windows do not exceed.
        let share = |fall: u128| falls.iter().filter(|other| **other <= fall).count() as u64 * 10_000;
        let expected = falls.iter().copied().find(|fall| share(*fall) >= falls.len() as u64 * u64::from(bps));
        match found.outflow {
            Some(outflow) => prop_assert_eq!(Some(outflow.get()), expected),
            None => prop_assert!(falls.len() < MIN_WINDOWS),
        }
        // Covering for as long as a window takes at least what is forecast of one.
        if let Some(outflow) = found.outflow {
            let covered = covered(&history, &terms, outflow.signed()).unwrap();
            prop_assert!(covered.periods as usize >= length || falls.is_empty());
        }
    }
}
