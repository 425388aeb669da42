use super::rig::*;
use crate::app::audit;
use crate::app::control::Change;
use crate::domain::distribution::DistributionState;
use crate::domain::policy::ReleaseLimits;
use crate::store::keys;

async fn released() -> Rig {
    let mut rig = Rig::new(3, ReleaseLimits::default()).await;
    rig.run().await.unwrap();
    rig.put("a", 100, 0).await;
    rig.set_time(LENGTH);
    rig.reward("r", 1_001, LENGTH - 5).await;
    rig.run().await.unwrap();
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    assert_eq!(rig.last(0).await.unwrap().state, DistributionState::Released);
    rig
}

#[tokio::test]
async fn what_holds_is_shown_and_stops_nothing() {
    let rig = released().await;
    let audited = rig.app.audit(&rig.pool, rig.app.now()).await.unwrap();
    assert_eq!(audited.broken(), None);
    for number in 1..=5 {
        assert!(audited.equations.iter().any(|one| one.number == number), "{number}: {:?}", audited.equations);
    }
    assert_eq!((audited.positions, audited.earning), (1, 1));
    assert_eq!(audited.sums.rewards, ruint::aliases::U256::from(1_001));
    audit::step(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    assert_eq!(rig.app.pool_state(&rig.pool).await.unwrap().paused, None);
}

#[tokio::test]
async fn one_base_unit_too_many_stops_the_outflows_and_reads_go_on() {
    let rig = released().await;
    let mut record = rig.last(0).await.unwrap();
    record.figures.payouts = record.figures.payouts.checked_add(units(1)).unwrap();
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    change.put(keys::distribution(0, 1), &record);
    change.commit().await.unwrap();
    audit::step(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let paused = rig.app.pool_state(&rig.pool).await.unwrap().paused.unwrap();
    assert!(paused.starts_with("equation 1 is broken"), "{paused}");
    assert!(rig.app.metrics.equations_broken.get() >= 2, "equations 1 and 5");
    let view = rig.app.pool_view(&rig.pool).await.unwrap();
    assert!(view.equations.iter().any(|one| one.number == 5 && !one.holds), "{:?}", view.equations);
}
