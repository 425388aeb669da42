//! What happens to an operation between the moment it is read and the moment its fate is stored.

use super::*;
use crate::app::Once;
use crate::app::distribute::tests::rig::{Rig, at, units};
use crate::app::effects::{self, Booked};
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::ids::{TransactionId, ValidatorId};
use crate::domain::ledger::AssetAccount;
use crate::domain::policy::ReleaseLimits;

fn delegate(amount: u64) -> OperationKind {
    OperationKind::Delegate { validator: ValidatorId::new("v1").unwrap(), amount: units(amount) }
}

fn id(name: &str) -> OperationId {
    OperationId::new(name).unwrap()
}

async fn planned(rig: &Rig, name: &str, amount: u64) {
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    plan(&mut change, id(name), delegate(amount), "test").unwrap();
    change.commit().await.unwrap();
}

async fn held(rig: &Rig, account: AssetAccount) -> i128 {
    let change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    change.ledger().balance(&account.into()).get()
}

#[tokio::test]
async fn an_effect_booked_while_the_chain_was_asked_is_not_given_back() {
    let rig = Rig::new(1, ReleaseLimits::default()).await;
    rig.effect("gift", EffectKind::TransferIn { transfer: None, amount: units(500) }, 0).await;
    planned(&rig, "atom:delegate:1:0", 100).await;
    planned(&rig, "atom:delegate:1:1", 150).await;
    let mut read_before = rig.app.operation(&rig.pool, &id("atom:delegate:1:0")).await.unwrap();
    read_before.state = OperationState::Submitted;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    change.put(keys::operation(&read_before.id), &read_before);
    change.commit().await.unwrap();
    // The look-up is under way; an operator reconciles, and the delegation is booked.
    let kind = EffectKind::Delegated { validator: ValidatorId::new("v1").unwrap(), amount: units(100) };
    let key = EffectKey { transaction: TransactionId::new("tx").unwrap(), index: 0 };
    let effect = Effect { key, height: 1, at: at(1), operation: Some(read_before.id.clone()), kind };
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    assert_eq!(effects::book(&rig.app, &rig.pool, &mut change, &effect).await.unwrap(), Booked::Now);
    change.commit().await.unwrap();
    // The look-up answers with the same effect.
    let found = Finding { effects: vec![effect], height: Some(1), ..Finding::of(OperationEvent::LookupDone) };
    settle(&rig.app, &rig.pool, &mut read_before, found, rig.app.now()).await.unwrap();
    assert_eq!(held(&rig, AssetAccount::InFlight).await, 150, "what the other operation reserved");
    assert_eq!(held(&rig, AssetAccount::Liquid).await, 250);
    let stored = rig.app.operation(&rig.pool, &read_before.id).await.unwrap();
    assert_eq!((stored.state, stored.settled), (OperationState::Confirmed, units(100)));
}

#[tokio::test]
async fn what_an_operator_decided_while_the_chain_was_asked_stands() {
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    rig.effect("gift", EffectKind::TransferIn { transfer: None, amount: units(500) }, 0).await;
    planned(&rig, "atom:delegate:1:0", 100).await;
    let mut read_before = rig.app.operation(&rig.pool, &id("atom:delegate:1:0")).await.unwrap();
    read_before.state = OperationState::NeedsOperator;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    change.put(keys::operation(&read_before.id), &read_before);
    change.commit().await.unwrap();
    let request = rig.request();
    let once = rig.app.retry_operation(&request, &rig.pool, &read_before.id).await.unwrap();
    assert_eq!(once, Once::First);
    let found = Finding::with(OperationEvent::LookupUnavailable, "away");
    settle(&rig.app, &rig.pool, &mut read_before, found, rig.app.now()).await.unwrap();
    let stored = rig.app.operation(&rig.pool, &read_before.id).await.unwrap();
    assert_eq!(stored.state, OperationState::Planned, "the retry was acknowledged");
}
