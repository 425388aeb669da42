//! The house's weight against a count of every second.

use num_bigint::BigInt;
use num_traits::Zero;
use proptest::prelude::*;
use softstake::domain::amount::SignedUnits;
use softstake::domain::house_weight::{HouseWeightInput, LevelChange, LevelDelta};
use softstake::domain::time::UnixSeconds;

use crate::numbers::{amount, big, config, units};

type Series = Vec<(i64, u128)>;

/// Levels at moments in the order of time, some before the period, some after it, some in the same second.
fn series() -> impl Strategy<Value = Series> {
    prop::collection::vec((-20_i64..140, amount()), 0..12).prop_map(|mut series| {
        series.sort_by_key(|(at, _)| *at);
        series
    })
}

fn level(opening: u128, series: &Series, at: i64) -> BigInt {
    BigInt::from(series.iter().rev().find(|(from, _)| *from <= at).map_or(opening, |(_, level)| *level))
}

fn deltas(opening: u128, series: &Series) -> Vec<LevelDelta> {
    let mut before = opening;
    let mut deltas = Vec::new();
    for &(at, level) in series {
        let delta = SignedUnits::new(level as i128 - before as i128);
        deltas.push(LevelDelta { at: UnixSeconds::new(at), delta });
        before = level;
    }
    deltas
}

proptest! {
    #![proptest_config(config(0x5051_0004))]

    #[test]
    fn the_integrals_are_the_sums_over_every_second(
        (staked_at_start, staked) in (amount(), series()),
        (eligible_at_start, eligible) in (amount(), series()),
        length in 0_i64..120,
    ) {
        let changes: Vec<LevelChange> =
            staked.iter().map(|(at, level)| LevelChange { at: UnixSeconds::new(*at), level: units(*level) }).collect();
        let deltas = deltas(eligible_at_start, &eligible);
        let input = HouseWeightInput {
            start: UnixSeconds::new(0),
            end: UnixSeconds::new(length),
            staked_at_start: units(staked_at_start),
            staked: &changes,
            eligible_at_start: units(eligible_at_start),
            eligible: &deltas,
        };
        let (mut house, mut held) = (BigInt::zero(), BigInt::zero());
        for second in 0..length {
            let held_now = level(eligible_at_start, &eligible, second);
            house += (level(staked_at_start, &staked, second) - &held_now).max(BigInt::zero());
            held += held_now;
        }
        let sums = input.integrals().unwrap();
        prop_assert_eq!(big(sums.house), house);
        prop_assert_eq!(big(sums.eligible), held);
    }

    /// The curve equation: `W = E_start x L + sum(delta_i x (end - t_i))`.
    #[test]
    fn the_eligible_integral_is_the_curve_equation(opening in amount(), series in series(), length in 1_i64..120) {
        let inside: Series = series.into_iter().filter(|(at, _)| (0..length).contains(at)).collect();
        let deltas = deltas(opening, &inside);
        let (start, end) = (UnixSeconds::new(0), UnixSeconds::new(length));
        let none = units(0);
        let input = HouseWeightInput {
            start, end, staked_at_start: none, staked: &[], eligible_at_start: units(opening), eligible: &deltas,
        };
        let moved: BigInt = deltas.iter().map(|d| BigInt::from(d.delta.get()) * (length - d.at.get())).sum();
        let sums = input.integrals().unwrap();
        prop_assert_eq!(big(sums.eligible), BigInt::from(opening) * length + moved);
        prop_assert!(sums.house.is_zero());
    }
}
