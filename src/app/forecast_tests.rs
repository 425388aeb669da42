use super::super::control::Change;
use super::super::distribute::tests::rig::*;
use super::*;
use crate::chain::simulated::presets;
use crate::domain::forecast::CoverBound;
use crate::domain::policy::ReleaseLimits;

/// A pool on a chain whose unbonding takes two periods.
async fn pool() -> Rig {
    let mut config = presets::atom();
    config.unbonding_seconds = 2 * LENGTH as u64;
    let mut rig = Rig::on(config, 2, policy(), settings(ReleaseLimits::default())).await;
    rig.run().await.unwrap();
    rig
}

/// Lets a period go by in which `low` is the least that one customer holds of 1,000.
async fn dip(rig: &mut Rig, period: i64, low: u64) {
    rig.put("a", 1_000, period * LENGTH).await;
    rig.set_time(period * LENGTH + 60);
    rig.put("a", low, period * LENGTH + 60).await;
    rig.set_time(period * LENGTH + 90);
    rig.put("a", 1_000, period * LENGTH + 90).await;
    rig.set_time((period + 1) * LENGTH);
    rig.reconciled((period + 1) * LENGTH).await;
    rig.run().await.unwrap();
}

#[tokio::test]
async fn the_floor_counts_until_there_is_history_and_then_what_left() {
    let mut rig = pool().await;
    let mut settings = rig.app.pool_state(&rig.pool).await.unwrap().settings.reserve;
    settings.reserve_floor = units(50);
    for period in 0..7 {
        dip(&mut rig, period, 900 - u64::try_from(period).unwrap()).await;
    }
    let outlook = rig.app.outlook(&rig.pool, &settings).await.unwrap();
    let unbonding_seconds = rig.simulated.config().unbonding_seconds;
    assert_eq!(outlook.terms.window_periods as u64 * LENGTH as u64, unbonding_seconds);
    assert_eq!(outlook.forecast.windows, 6);
    assert_eq!((outlook.forecast.outflow, outlook.expected(&settings, units(1_000)).unwrap()), (None, units(50)));
    // Of single periods there are seven: the reserve of 106 covers one, and of more nothing is known.
    let covered = outlook.covered(units(106).signed()).unwrap();
    assert_eq!(covered, Covered { periods: 1, bound: CoverBound::History });

    dip(&mut rig, 7, 999).await;
    let outlook = rig.app.outlook(&rig.pool, &settings).await.unwrap();
    assert_eq!(
        (outlook.forecast.outflow, outlook.expected(&settings, units(1_000)).unwrap()),
        (Some(units(106)), units(106))
    );
    assert_eq!(outlook.covered(units(105).signed()).unwrap(), Covered { periods: 0, bound: CoverBound::Reserve });
    settings.forecast_percentile_bps = 5_000;
    assert_eq!(rig.app.outlook(&rig.pool, &settings).await.unwrap().forecast.outflow, Some(units(104)));
    settings.forecast_windows = 7;
    settings.forecast_percentile_bps = 10_000;
    assert_eq!(rig.app.outlook(&rig.pool, &settings).await.unwrap().forecast.outflow, Some(units(106)));
    settings.reserve_floor = units(500);
    let outlook = rig.app.outlook(&rig.pool, &settings).await.unwrap();
    assert_eq!(outlook.expected(&settings, units(1_000)).unwrap(), units(500));
    settings.reserve_floor = units(0);
    assert_eq!(outlook.expected(&settings, units(100)).unwrap(), units(50), "half of what is there");
}

#[tokio::test]
async fn what_was_not_kept_is_computed_again() {
    let mut rig = pool().await;
    for period in 0..8 {
        dip(&mut rig, period, 500).await;
    }
    let settings = rig.app.pool_state(&rig.pool).await.unwrap().settings.reserve;
    let before = rig.app.outlook(&rig.pool, &settings).await.unwrap();
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    for period in [0, 3, 7] {
        assert!(change.contains(&keys::outflow(period)).await.unwrap());
        change.delete(keys::outflow(period));
    }
    change.commit().await.unwrap();
    assert_eq!(rig.app.outlook(&rig.pool, &settings).await.unwrap(), before);
    assert_eq!(before.forecast.outflow, Some(units(500)));
    let rig = rig.restart().await;
    assert_eq!(rig.app.outlook(&rig.pool, &settings).await.unwrap(), before);
}
