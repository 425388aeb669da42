use super::rig::*;
use crate::app::audit;
use crate::app::control::Change;
use crate::app::history::HistoryQuery;
use crate::domain::distribution::DistributionState;
use crate::domain::period::PeriodIndex;
use crate::domain::policy::ReleaseLimits;
use crate::store::{Batch, keys};

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

/// What a damaged store forgets is no shorter history and no smaller weight.
#[tokio::test]
async fn payouts_and_weights_that_are_gone_are_named() {
    let mut rig = released().await;
    // One who came later has no payout of the first period, and nothing is missing for it.
    rig.put("b", 100, LENGTH + 50).await;
    let query = HistoryQuery { limit: 10, ..HistoryQuery::default() };
    let histories = async |rig: &Rig| {
        let a = rig.app.account_payouts(&account("a"), &query).await.map(|page| page.payouts.len());
        let b = rig.app.account_payouts(&account("b"), &query).await.map(|page| page.payouts.len());
        (a.map_err(|error| error.to_string()), b.map_err(|error| error.to_string()))
    };
    assert_eq!(histories(&rig).await, (Ok(1), Ok(0)));
    let (partition, ordinal) = rig.app.book.place_of(rig.pool.number(), &account("a")).unwrap();
    assert_eq!(ordinal, 0);
    let forget = async |key: Vec<u8>| {
        let mut batch = Batch::new(rig.pool.book(partition));
        batch.delete(key);
        rig.app.store.commit(vec![batch]).await.unwrap();
    };
    forget(keys::weight_chunk(0, 0)).await;
    let error = rig.app.explain_payout(&rig.pool, PeriodIndex(0), &account("a")).await.unwrap_err().to_string();
    assert!(error.contains("frozen weights") && error.contains("softstake restore"), "{error}");
    forget(keys::payout_chunk(0, 0, 1)).await;
    let error = histories(&rig).await.0.unwrap_err();
    assert!(error.contains("payouts of 0/1") && error.contains("softstake restore"), "{error}");
    let streamed = rig.app.payouts_from(&rig.pool, PeriodIndex(0), 1, 0, 10).await.unwrap_err().to_string();
    assert!(streamed.contains("softstake restore"), "{streamed}");
}
