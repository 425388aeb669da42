use super::rig::*;
use crate::domain::distribution::AfterVoid;
use crate::domain::effect::EffectKind;
use crate::domain::ids::ValidatorId;
use crate::domain::period::PeriodIndex;
use crate::domain::policy::ReleaseLimits;
use crate::store::records::Progress;
use ruint::aliases::U256;

/// A look-up may book a later effect before the list of effects brings an earlier one.
#[tokio::test]
async fn the_house_weighs_the_same_in_whatever_order_effects_are_booked() {
    let validator = || ValidatorId::new("v").unwrap();
    let growth = EffectKind::RewardCompounded {
        validator: validator(),
        amount: units(8),
        earned_from: at(0),
        earned_to: at(LENGTH / 4),
    };
    let delegated = EffectKind::Delegated { validator: validator(), amount: units(600) };
    for later_first in [false, true] {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        rig.run().await.unwrap();
        rig.effect("in", EffectKind::TransferIn { transfer: None, amount: units(1_000) }, 0).await;
        if later_first {
            rig.effect("delegate", delegated.clone(), LENGTH / 2).await;
            rig.effect("growth", growth.clone(), LENGTH / 4).await;
        } else {
            rig.effect("growth", growth.clone(), LENGTH / 4).await;
            rig.effect("delegate", delegated.clone(), LENGTH / 2).await;
        }
        for period in 1..=2 {
            rig.set_time(period * LENGTH);
            rig.reconciled(period * LENGTH).await;
            rig.run().await.unwrap();
        }
        let length = U256::from(LENGTH);
        let first = rig.last(0).await.unwrap();
        assert_eq!(
            first.house_weight,
            U256::from(8) * length * U256::from(3) / U256::from(4) + U256::from(300) * length
        );
        assert_eq!(rig.last(1).await.unwrap().house_weight, U256::from(608) * length, "the level goes on");
    }
}

/// Receipts are gathered in portions, and a person may void in between.
#[tokio::test]
async fn what_was_staked_goes_on_after_a_void_of_a_revision_that_was_not_pinned() {
    let validator = || ValidatorId::new("v").unwrap();
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    rig.run().await.unwrap();
    rig.effect("in", EffectKind::TransferIn { transfer: None, amount: units(1_000) }, 0).await;
    rig.effect("delegate", EffectKind::Delegated { validator: validator(), amount: units(900) }, 1).await;
    for n in 0..401 {
        rig.reward(&format!("reward-{n}"), 1, LENGTH - 5).await;
    }
    rig.set_time(LENGTH);
    rig.run().await.unwrap();
    rig.reconciled(LENGTH).await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let _ = crate::app::distribute::step(&app, &pool, app.now()).await.unwrap();
    let begun = rig.last(0).await.unwrap();
    assert_eq!((begun.progress, begun.receipts.count), (Progress::Gathering, 400));
    let request = rig.request();
    let carry = AfterVoid::Carry;
    let _ = app.void_distribution(&request, &pool, PeriodIndex(0), 1, carry, "looked at").await.unwrap();
    app.approve_waiting().await;
    rig.run().await.unwrap();
    assert_eq!(rig.last(0).await.unwrap().staked_at_end, units(900));
    // It leaves in the next period: from nothing it could not.
    rig.effect(
        "out",
        EffectKind::Undelegated { validator: validator(), amount: units(900), matures_at: at(LENGTH + 20) },
        LENGTH + 10,
    )
    .await;
    rig.effect("matured", EffectKind::Matured { validator: validator(), amount: units(900) }, LENGTH + 20).await;
    rig.set_time(2 * LENGTH);
    rig.reconciled(2 * LENGTH).await;
    rig.run().await.unwrap();
    assert_eq!(rig.last(1).await.unwrap().staked_at_end, units(0));
}
