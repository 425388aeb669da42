//! Limits that hold a distribution for a person, each tripped, and released by an approval.

use rust_decimal::Decimal;

use super::rig::*;
use crate::app::control::Change;
use crate::domain::distribution::DistributionState;
use crate::domain::period::PeriodIndex;
use crate::domain::policy::ReleaseLimits;
use crate::store::keys;
use crate::store::records::ChainMark;

/// One customer who holds a million.
async fn pool(release: ReleaseLimits) -> Rig {
    let mut rig = Rig::new(2, release).await;
    rig.run().await.unwrap();
    rig.put("a", 1_000_000, 0).await;
    rig
}

/// Ends a period in which the chain paid `reward`.
async fn end(rig: &mut Rig, period: i64, reward: u64) {
    rig.set_time((period + 1) * LENGTH);
    if reward > 0 {
        rig.reward(&format!("r{period}"), reward, (period + 1) * LENGTH - 5).await;
    }
    rig.reconciled((period + 1) * LENGTH).await;
    rig.run().await.unwrap();
}

/// What holds a period's distribution; an approval then releases it.
async fn held(rig: &mut Rig, period: u64) -> Vec<String> {
    let record = rig.last(period).await.unwrap();
    let holds = record.holds.iter().map(|hold| hold.code.clone()).collect();
    if record.state == DistributionState::Held {
        let (app, pool, request) = (rig.app.clone(), rig.pool.clone(), rig.request());
        let approve = app.approve_distribution(&request, &pool, PeriodIndex(period), 1, record.hash);
        let _ = approve.await.unwrap();
        rig.run().await.unwrap();
    }
    assert_eq!(rig.last(period).await.unwrap().state, DistributionState::Released);
    holds
}

#[tokio::test]
async fn a_rate_above_the_highest_waits_for_a_person() {
    // 100 of a million in an hour are 0.876 a year, of which a tenth is the fee.
    let mut rig = pool(ReleaseLimits { max_apr: Some(Decimal::new(788, 3)), ..ReleaseLimits::default() }).await;
    end(&mut rig, 0, 100).await;
    assert_eq!(held(&mut rig, 0).await, ["APR_ABOVE_LIMIT"]);
    let mut rig = pool(ReleaseLimits { max_apr: Some(Decimal::new(789, 3)), ..ReleaseLimits::default() }).await;
    end(&mut rig, 0, 100).await;
    assert!(held(&mut rig, 0).await.is_empty());
}

#[tokio::test]
async fn a_rate_that_jumps_or_falls_waits_once_there_is_one_to_compare_with() {
    let mut rig = pool(ReleaseLimits { max_apr_change: Some(Decimal::new(5, 1)), ..ReleaseLimits::default() }).await;
    for period in 0..7 {
        end(&mut rig, period, if period == 0 { 1_000 } else { 100 }).await;
        assert!(held(&mut rig, u64::try_from(period).unwrap()).await.is_empty(), "{period}");
    }
    // Seven periods of 228 on average.
    end(&mut rig, 7, 115).await;
    assert!(held(&mut rig, 7).await.is_empty());
    end(&mut rig, 8, 50).await;
    assert_eq!(held(&mut rig, 8).await, ["APR_CHANGE_ABOVE_LIMIT"]);
    end(&mut rig, 9, 400).await;
    assert_eq!(held(&mut rig, 9).await, ["APR_CHANGE_ABOVE_LIMIT"]);
}

#[tokio::test]
async fn a_growth_that_never_happened_waits() {
    // A batch settled whole that had failed in part: two rises of 5 per cent, one after the other.
    let mut rig = pool(ReleaseLimits { max_receipts_bps: Some(200), ..ReleaseLimits::default() }).await;
    end(&mut rig, 0, 20_000).await;
    assert!(held(&mut rig, 0).await.is_empty(), "exactly two per cent");
    for period in 1..3 {
        end(&mut rig, period, 50_000).await;
        assert_eq!(held(&mut rig, u64::try_from(period).unwrap()).await, ["RECEIPTS_ABOVE_LIMIT"]);
    }
}

#[tokio::test]
async fn receipts_past_the_reconciled_height_wait() {
    let mut rig = pool(ReleaseLimits::default()).await;
    rig.set_time(LENGTH);
    rig.reward("r", 100, LENGTH - 5).await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    change.put(keys::chain_mark(), &ChainMark { reconciled_at: at(LENGTH), ..ChainMark::default() });
    change.commit().await.unwrap();
    rig.run().await.unwrap();
    assert_eq!(held(&mut rig, 0).await, ["RECEIPTS_NOT_RECONCILED"]);
}

#[tokio::test]
async fn a_chain_that_pays_in_other_decimals_waits() {
    let mut rig = pool(ReleaseLimits::default()).await;
    end(&mut rig, 0, 100).await;
    assert!(held(&mut rig, 0).await.is_empty());
    let mut rig = rig.restart_as(|chain| chain.decimals = 18).await;
    end(&mut rig, 1, 100).await;
    assert_eq!(held(&mut rig, 1).await, ["ASSET_MISMATCH"]);
}
