use std::sync::Arc;

use proptest::prelude::*;

use super::super::tests::{ack, revision, sum};
use super::super::{Audited, Remembered, standing};
use super::*;
use crate::app::control::Change;
use crate::app::distribute::tests::rig::*;
use crate::app::pay::RejectedAck;
use crate::domain::amount::BaseUnits;
use crate::domain::ledger::Ledger;
use crate::domain::policy::ReleaseLimits;

#[test]
fn the_sums_leave_out_what_was_voided_and_not_released() {
    let mut history = History::default();
    let all = [
        revision(0, DistributionState::Settled),
        revision(1, DistributionState::Voided(AfterVoid::Carry)),
        revision(2, DistributionState::Released),
        revision(3, DistributionState::Held),
    ];
    for record in &all {
        let said = ack(sum(4, 40), sum(0, 0));
        history.take(record, Some(standing(record, record.paid(), Some(&said))));
    }
    let sums = history.sums();
    assert_eq!((sums.payouts, sums.fees), (U256::from(200), U256::from(24)));
    assert_eq!((sums.trailing_periods, sums.trailing_weight), (2, U256::from(2_000)));
    assert_eq!(history.cumulative.payouts, U256::from(300), "what is held is distributed all the same");
    let view = LedgerView::new(Ledger::default(), BaseUnits::ZERO).unwrap();
    let payable = history.in_ledger(&view);
    assert_eq!((payable.left.as_str(), payable.right.as_str(), payable.holds), ("120", "0", false));
}

#[test]
fn what_is_short_of_the_present_holds_and_what_fails_stays() {
    let mut history = History::default();
    for period in 0..=SHOWN_PERIODS {
        let mut record = revision(period, DistributionState::Settled);
        record.figures.carry_out = BaseUnits::from_u64(if period == 1 { 4 } else { 3 });
        history.take(&record, Some(standing(&record, record.paid(), Some(&ack(sum(10, 100), sum(0, 0))))));
    }
    history.shorten(SHOWN_PERIODS + 5);
    let periods: Vec<u64> = history.released.iter().map(|one| one.0.period).collect();
    assert_eq!(periods[..2], [1, 6], "the one that fails, and those that are shown");
    assert_eq!(history.payouts.first().map(|one| one.revision.period), Some(6));
}

/// What an audit finds that has nothing to go by but the records and the positions.
async fn fresh(rig: &Rig) -> Audited {
    rig.app.evaluate(&rig.pool, rig.app.now(), &mut Remembered::default(), None).await.unwrap()
}

async fn same(rig: &Rig) -> Arc<Audited> {
    let audited = rig.app.audit(&rig.pool, rig.app.now()).await.unwrap();
    assert_eq!(*audited, fresh(rig).await);
    audited
}

/// Acknowledges a released distribution up to `through`, of which one in three is rejected.
async fn acknowledge(rig: &mut Rig, period: u64, through: u64) {
    let Some(last) = rig.last(period).await.filter(|last| last.state == DistributionState::Released) else { return };
    let (app, pool, request) = (rig.app.clone(), rig.pool.clone(), rig.request());
    let done = app.payout_ack(&pool, last.period, last.revision).await.unwrap().unwrap().handled();
    let payouts = app.payouts_from(&pool, last.period, last.revision, 0, usize::MAX).await.unwrap();
    let through = through.clamp(done, last.paid_count);
    let rejected = payouts.into_iter().filter(|one| (done..through).contains(&one.index) && one.index % 3 == 2);
    let words = || ("CLOSED".to_owned(), "the account is closed".to_owned());
    let rejected = rejected.map(|one| {
        let (reason, message) = words();
        RejectedAck { index: one.index, account: one.account, reason, message }
    });
    let rejected = rejected.collect();
    let _ = app.ack_payouts(&request, &pool, last.period, last.revision, last.hash, through, rejected).await.unwrap();
}

/// One period more, in which `choice` says what customers, operators and the ledger service do.
async fn live(mut rig: Rig, period: u64, choice: u16) -> Rig {
    let start = period as i64 * LENGTH;
    for place in 0..u64::from(choice % 4) {
        let name = format!("a{}", (u64::from(choice) + place) % 7);
        rig.put(&name, u64::from(choice) * 31 % 900, start + place as i64).await;
        same(&rig).await;
    }
    rig.set_time(start + LENGTH);
    rig.reward(&format!("r{period}"), u64::from(choice) * 7 + 1, start + LENGTH - 5).await;
    same(&rig).await;
    rig.run().await.unwrap();
    rig.reconciled(start + LENGTH).await;
    rig.run().await.unwrap();
    same(&rig).await;
    // Whatever is held goes on before the next period, one way or the other.
    let held = rig.last(period).await.unwrap();
    assert_eq!(held.state, DistributionState::Held);
    let (app, pool, request) = (rig.app.clone(), rig.pool.clone(), rig.request());
    let voided = match choice / 4 % 5 {
        0 => Some(AfterVoid::Carry),
        1 => Some(AfterVoid::Recompute),
        _ => None,
    };
    if let Some(then) = voided {
        let _ = app.void_distribution(&request, &pool, held.period, held.revision, then, "a test").await.unwrap();
        app.approve_waiting().await;
        same(&rig).await;
        rig.run().await.unwrap();
        same(&rig).await;
    }
    let last = rig.last(period).await.unwrap();
    if last.state == DistributionState::Held {
        let request = rig.request();
        let by = app.approve_distribution(&request, &pool, last.period, last.revision, last.hash).await;
        let _ = by.unwrap();
        rig.run().await.unwrap();
        same(&rig).await;
    }
    // The ledger service is behind by some periods, and takes the newest in two.
    if !choice.is_multiple_of(3) {
        for unsettled in app.unsettled_distributions(&pool, None, usize::MAX).await.unwrap() {
            let newest = unsettled.period.0 == period;
            acknowledge(&mut rig, unsettled.period.0, if newest { u64::from(choice % 5) } else { u64::MAX }).await;
            same(&rig).await;
        }
    }
    if choice.is_multiple_of(19) {
        rig = rig.restart().await;
        rig.seal().await;
        same(&rig).await;
    }
    rig
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

async fn whole_life(partitions: u16, choices: &[u16]) -> Rig {
    let held = ReleaseLimits { approval_required: true, ..ReleaseLimits::default() };
    let mut rig = Rig::new(partitions, held).await;
    rig.run().await.unwrap();
    for (period, choice) in (0..).zip(choices) {
        rig = live(rig, period, *choice).await;
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    /// More periods than are shown and than trail.
    #[test]
    fn what_is_remembered_changes_no_result(choices in proptest::collection::vec(1u16..1_000, 36..44)) {
        block_on(async {
            let mut rig = whole_life(2, &choices).await;
            for period in 0..choices.len() as u64 {
                acknowledge(&mut rig, period, u64::MAX).await;
            }
            let audited = same(&rig).await;
            prop_assert_eq!(audited.broken(), None);
            let remembered = rig.pool.shown.remembered.lock().await;
            prop_assert_eq!(remembered.past.next, choices.len() as u64);
            Ok(())
        })?;
    }
}

async fn damage(rig: &Rig, period: u64) {
    let mut record = rig.last(period).await.unwrap();
    record.figures.payouts = record.figures.payouts.checked_add(units(1)).unwrap();
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    change.put(keys::distribution(period, record.revision), &record);
    change.commit().await.unwrap();
}

#[tokio::test]
async fn a_settled_distribution_is_read_once_until_a_restart_or_a_full_check() {
    let choices = [11, 13, 14, 11, 17];
    for restart in [false, true] {
        let mut rig = whole_life(2, &choices).await;
        acknowledge(&mut rig, 3, u64::MAX).await;
        assert_eq!(rig.last(0).await.unwrap().state, DistributionState::Settled);
        assert_eq!(same(&rig).await.broken(), None);
        damage(&rig, 0).await;
        let audited = rig.app.audit(&rig.pool, rig.app.now()).await.unwrap();
        assert_eq!(audited.broken(), None, "what is settled is not read again");
        if restart {
            rig = rig.restart().await;
            let audited = same(&rig).await;
            assert_eq!(audited.broken().map(|one| (one.number, one.detail.as_str())), Some((1, "period 0 revision 1")));
        }
        let equations = rig.app.check_equations(&rig.pool).await.unwrap();
        assert!(equations.iter().any(|one| one.number == 1 && !one.holds && one.detail == "period 0 revision 1"));
        assert!(rig.app.pool_state(&rig.pool).await.unwrap().paused.is_some());
        same(&rig).await;
    }
}

#[tokio::test]
async fn the_positions_are_walked_only_after_the_book_has_moved() {
    let mut rig = whole_life(2, &[11]).await;
    same(&rig).await;
    let plant = async |rig: &Rig| {
        let mut remembered = rig.pool.shown.remembered.lock().await;
        let (version, history) = remembered.present.as_mut().unwrap();
        history.cumulative.house_in = U256::from(77);
        let version = *version;
        remembered.walked.as_mut().unwrap().1.with_balance = 99;
        version
    };
    let before = plant(&rig).await;
    rig.reward("more", 5, LENGTH + 1).await;
    let audited = rig.app.audit(&rig.pool, rig.app.now()).await.unwrap();
    assert_eq!(audited.positions, 99, "a change of the records alone walks nothing");
    let after = plant(&rig).await;
    assert!(after > before);
    rig.put("another", 5, LENGTH + 2).await;
    let audited = rig.app.audit(&rig.pool, rig.app.now()).await.unwrap();
    assert_ne!(audited.positions, 99);
    let received = audited.equations.iter().find(|one| one.number == 4).unwrap();
    let planted = U256::from_str_radix(&received.right, 10).unwrap() - audited.sums.rewards;
    assert_eq!(planted, U256::from(77), "a change of the book alone reads no distribution");
}
