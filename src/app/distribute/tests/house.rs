use super::rig::*;
use crate::domain::effect::EffectKind;
use crate::domain::ids::ValidatorId;
use crate::domain::policy::ReleaseLimits;
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
