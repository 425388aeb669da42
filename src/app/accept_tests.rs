use crate::app::distribute::tests::rig::{Rig, units};
use crate::app::{AppError, Once, Reason, Request, reconcile};
use crate::domain::caller::Caller;
use crate::domain::effect::EffectKind;
use crate::domain::ids::{RequestId, TransferId};
use crate::domain::ledger::{AssetAccount, ClaimAccount};
use crate::domain::policy::ReleaseLimits;

fn refusal<T: std::fmt::Debug>(answer: Result<T, AppError>) -> Reason {
    match answer {
        Err(AppError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

/// A pool whose books have a unit too much delegated, and one too little liquid: an effect was told wrongly.
async fn misled() -> Rig {
    let rig = Rig::new(1, ReleaseLimits::default()).await;
    rig.simulated.custody_send(&TransferId::new("gift").unwrap(), units(1_000)).await.unwrap();
    rig.set_time(60);
    assert!(reconcile::reconcile(&rig.app, &rig.pool, rig.app.now()).await.unwrap().unwrap().agrees());
    use crate::chain::ChainAdapter;
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    let kind = EffectKind::Delegated { validator, amount: units(1) };
    rig.effect("told-wrongly", kind, 61).await;
    rig
}

#[tokio::test]
async fn what_no_rule_explains_is_accepted_by_its_hash_once_two_readings_have_shown_it() {
    let mut rig = misled().await;
    rig.set_time(120);
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let first = reconcile::reconcile(&app, &pool, app.now()).await.unwrap().unwrap();
    assert_eq!((first.differences.len(), first.booked), (2, None));
    let hash = first.differences_hash();
    // The same reading again is no second one.
    let request = rig.request();
    assert_eq!(refusal(app.accept_differences(&request, &pool, hash, "seen").await), Reason::WrongState);
    rig.set_time(180);
    assert_eq!(refusal(app.accept_differences(&request, &pool, [1; 32], "seen").await), Reason::HashMismatch);
    let request = Request::new("Accept", RequestId::new("accept").unwrap(), Caller::service(), b"");
    assert_eq!(app.accept_differences(&request, &pool, hash, "seen").await.unwrap(), Once::First);
    assert!(matches!(app.accept_differences(&request, &pool, hash, "seen").await, Ok(Once::Repeated { .. })));
    assert!(app.chain_mark(&pool).await.unwrap().mismatch.is_some(), "a second person has not approved it");
    rig.set_time(200);
    app.approve_waiting().await;
    let mark = app.chain_mark(&pool).await.unwrap();
    assert_eq!((mark.mismatch, mark.reconciled_height), (None, mark.booked_height));
    let view = app.ledger_view(&pool).await.unwrap();
    assert_eq!(view.asset(AssetAccount::Liquid), units(1_000));
    assert!(view.delegated().unwrap().is_zero());
    // The unit that was missing in one place and found in another has only moved.
    assert_eq!(rig.claim(ClaimAccount::Suspense).await, 1_000);
    assert_eq!(rig.claim(ClaimAccount::House).await, 0);
    assert!(app.pool_state(&pool).await.unwrap().paused.is_some(), "a person resumes it");
    let request = rig.request();
    rig.set_time(240);
    assert_eq!(refusal(app.accept_differences(&request, &pool, hash, "seen").await), Reason::WrongState);
}

#[tokio::test]
async fn an_effect_that_does_not_fit_the_books_stops_the_pool_and_nothing_after_it() {
    let rig = misled().await;
    // More matures than unbonds, by what was told: it is set aside, and what comes after is booked.
    let validator = crate::domain::ids::ValidatorId::new("v").unwrap();
    rig.effect("too-much", EffectKind::Matured { validator, amount: units(5) }, 90).await;
    let unfit = rig.app.pool_state(&rig.pool).await.unwrap().paused.unwrap();
    assert!(unfit.contains("too-much/0") && unfit.contains("does not fit the books"), "{unfit}");
    rig.effect("after", EffectKind::TransferIn { transfer: None, amount: units(7) }, 91).await;
    assert_eq!(rig.claim(ClaimAccount::Suspense).await, 1_007);
}
