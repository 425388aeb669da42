//! What a pool of a restored store does not do, and what it makes of the time that its books have lost.

use super::*;
use crate::app::distribute::tests::rig::{Rig, at, units};
use crate::app::rebalance::Rebalance;
use crate::app::transfer::Acknowledgement;
use crate::app::{Once, Work, operate, step};
use crate::chain::ChainAdapter;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::EffectKind;
use crate::domain::ids::{OperationId, TransferId, ValidatorId};
use crate::domain::ledger::{AssetAccount, ClaimAccount};
use crate::domain::operation::{OperationKind, OperationState, Resolution};
use crate::domain::period::{PeriodIndex, PeriodState};
use crate::domain::policy::ReleaseLimits;
use crate::domain::transfer::TransferState;

const FUNDED: u64 = 1_000_000;

fn host() -> Caller {
    Caller::host("maria", 1_000, "uid=1000@box")
}

async fn funded() -> (Rig, ValidatorId) {
    let rig = Rig::new(1, ReleaseLimits::default()).await;
    rig.simulated.custody_send(&TransferId::new("gift").unwrap(), units(FUNDED)).await.unwrap();
    rig.set_time(60);
    assert!(rig.app.reconcile(&rig.pool).await.unwrap().unwrap().agrees());
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    (rig, validator)
}

fn reason<T: std::fmt::Debug>(answer: Result<T, AppError>) -> Reason {
    match answer {
        Err(AppError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

impl Rig {
    async fn hold(&self) {
        assert_eq!(hold(&*self.app.store, &host(), self.app.now(), "the disk is gone").await.unwrap(), 1);
    }

    async fn steps(&mut self, second: i64) {
        self.set_time(second);
        let (app, pool) = (self.app.clone(), self.pool.clone());
        for _ in 0..50 {
            let work = self.drive(step::step(&app, &pool, app.now())).await.unwrap();
            self.seal().await;
            if work == Work::Idle {
                return;
            }
        }
        panic!("the steps never come to rest");
    }

    async fn resume(&mut self) -> Result<Once, AppError> {
        let request = self.request();
        let once = self.app.resume_pool(&request, &self.pool, "looked at").await;
        self.app.approve_waiting().await;
        once
    }

    async fn rebalance(&mut self) -> Result<(Once, Option<Rebalance>), AppError> {
        let request = self.request();
        self.app.rebalance(&request, &self.pool).await
    }

    async fn planned(&self, id: &str, validator: &ValidatorId) {
        let mut change = Change::begin(&self.app, &self.pool, self.app.now()).await.unwrap();
        let kind = OperationKind::Delegate { validator: validator.clone(), amount: units(400) };
        operate::plan(&mut change, OperationId::new(id).unwrap(), kind, "test").unwrap();
        change.commit().await.unwrap();
    }

    async fn state_of(&self, id: &str) -> OperationState {
        self.app.operation(&self.pool, &OperationId::new(id).unwrap()).await.unwrap().state
    }

    async fn restored(&self) -> Option<Restored> {
        self.app.pool_state(&self.pool).await.unwrap().restored
    }

    async fn held_in(&self, account: AssetAccount) -> i128 {
        let change = Change::begin(&self.app, &self.pool, self.app.now()).await.unwrap();
        change.ledger().balance(&account.into()).get()
    }
}

#[tokio::test]
async fn nothing_is_sent_closed_or_paid_until_ledger_and_chain_agree_and_a_person_resumes_the_pool() {
    let (mut rig, validator) = funded().await;
    rig.put("alice", 1_000, 60).await;
    rig.planned("op", &validator).await;
    rig.hold().await;
    let state = rig.app.pool_state(&rig.pool).await.unwrap();
    assert!(state.paused.as_deref().unwrap().contains("restored from a backup"), "{state:?}");
    // Ledger and chain were equal before; what was found before the restore says nothing.
    assert_eq!(reason(rig.resume().await), Reason::PoolRestored);
    assert_eq!(reason(rig.rebalance().await), Reason::PoolRestored);

    // A period ends, and a day passes; balances are taken in, and the chain is compared.
    rig.steps(2 * 3_600 + 700).await;
    rig.put("bob", 500, 2 * 3_600 - 30).await;
    let request = rig.request();
    let closed = rig.app.close_period(&request, &rig.pool, PeriodIndex(0)).await;
    assert_eq!(reason(closed), Reason::PoolRestored);
    let first = rig.app.period(&rig.pool, PeriodIndex(0)).await.unwrap().unwrap();
    assert_eq!((first.state, first.closing), (PeriodState::Open, None));
    assert_eq!(rig.state_of("op").await, OperationState::Planned);
    assert!(rig.app.open_transfers(&rig.pool).await.unwrap().is_empty());
    assert!(rig.simulated.observe().await.unwrap().delegations.is_empty());
    let restored = rig.restored().await.unwrap();
    assert!(restored.agreed_height.is_some(), "{restored:?}");

    assert_eq!(rig.resume().await.unwrap(), Once::First);
    rig.steps(2 * 3_600 + 760).await;
    rig.steps(2 * 3_600 + 800).await;
    assert_ne!(rig.state_of("op").await, OperationState::Planned, "it is driven again");
    assert_ne!(rig.app.period(&rig.pool, PeriodIndex(0)).await.unwrap().unwrap().state, PeriodState::Open);
    assert_eq!(rig.app.principal(&rig.pool).unwrap(), units(1_500));
}

#[tokio::test]
async fn who_lifted_the_fence_and_why_stands_in_the_log_of_every_pool_and_of_the_service() {
    let (rig, _) = funded().await;
    let version = rig.app.pool_state(&rig.pool).await.unwrap().version;
    rig.hold().await;
    // Cut off before the fence was away, it is done again.
    rig.hold().await;
    let page = rig.app.audit_page(&Default::default(), None, 100).await.unwrap();
    let told: Vec<_> = page.entries.iter().filter(|(_, entry)| entry.act.principal.as_str() == "host:maria").collect();
    assert_eq!(told.len(), 4, "{told:?}");
    for (_, entry) in &told {
        assert!(entry.act.note.summary.contains("the disk is gone") && &*entry.act.peer == "uid=1000@box", "{entry:?}");
    }
    // What callers hold of the lost time fits nothing.
    assert!(rig.app.pool_state(&rig.pool).await.unwrap().version >= version + SKIPPED);
    let outcomes = crate::app::audit_log::verify(&*rig.app.store, &[]).await.unwrap();
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
}

#[tokio::test]
async fn a_later_reading_that_differs_takes_the_agreement_back() {
    let (mut rig, _) = funded().await;
    rig.hold().await;
    rig.set_time(200);
    assert!(rig.app.reconcile(&rig.pool).await.unwrap().unwrap().agrees());
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    compared(&mut change, None).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(reason(rig.resume().await), Reason::PoolRestored);
    rig.set_time(300);
    assert!(rig.app.reconcile(&rig.pool).await.unwrap().unwrap().agrees());
    assert_eq!(rig.resume().await.unwrap(), Once::First);
    assert_eq!(rig.restored().await, None);
}

/// Tokens that custody was asked for in the lost time are on the chain: they are customers', and not asked for again.
#[tokio::test]
async fn a_transfer_of_the_lost_time_is_taken_in_for_what_it_was() {
    let (mut rig, _) = funded().await;
    let suspense = rig.claim(ClaimAccount::Suspense).await;
    rig.hold().await;
    let last = rig.restored().await.unwrap().last_sequence;
    // Where it was cut off before the fence was away it is done again, and the lost time is the same.
    rig.hold().await;
    assert_eq!(rig.restored().await.unwrap().last_sequence, last);
    let (lost, strange) = (format!("fund-{}", last + 3), format!("fund-{}", last + 2 * SKIPPED + 3));
    for (id, amount) in [(&lost, 700), (&strange, 11)] {
        rig.simulated.custody_send(&TransferId::new(id).unwrap(), units(amount)).await.unwrap();
    }
    rig.set_time(200);
    assert!(rig.app.reconcile(&rig.pool).await.unwrap().unwrap().agrees());
    assert_eq!(rig.held_in(AssetAccount::Liquid).await, i128::from(FUNDED) + 711);
    assert_eq!(rig.held_in(AssetAccount::Custody).await, -700);
    assert_eq!(rig.claim(ClaimAccount::Suspense).await, suspense + 11);
    let why = rig.app.pool_state(&rig.pool).await.unwrap().paused.unwrap();
    assert!(why.contains(&format!("is of {lost}, which was asked for after the backup")), "{why}");

    // Custody says it again, and it is known.
    let (request, id) = (rig.request(), TransferId::new(&lost).unwrap());
    let word = Acknowledgement::Moved(units(700));
    assert_eq!(rig.app.acknowledge_transfer(&request, &rig.pool, &id, word, "desk").await.unwrap(), Once::First);
    let kept = rig.app.transfer(&rig.pool, &id).await.unwrap();
    assert_eq!((kept.transfer.state, kept.transfer.acknowledged), (TransferState::Observed, units(700)));
    assert_eq!(kept.transactions.len(), 1);
    // What is asked for from now on has names that were never given out.
    rig.put("alice", 10_000_000, 210).await;
    assert_eq!(rig.resume().await.unwrap(), Once::First);
    rig.steps(260).await;
    let open = rig.app.open_transfers(&rig.pool).await.unwrap();
    assert!(!open.is_empty() && open.iter().all(|open| open.sequence > last + SKIPPED), "{open:?}");
    assert_eq!(rig.app.sent_since(&rig.pool, at(0)).await.unwrap(), BaseUnits::ZERO);
}

/// What left for custody in the lost time is on its way there, and counts once custody has it.
#[tokio::test]
async fn a_defund_of_the_lost_time_is_custodys_once_it_says_so() {
    let (mut rig, _) = funded().await;
    rig.hold().await;
    let last = rig.restored().await.unwrap().last_sequence;
    let id = TransferId::new(&format!("defund-{}", last + 2)).unwrap();
    let house = rig.claim(ClaimAccount::House).await;
    rig.effect("tx-out", EffectKind::TransferOut { transfer: Some(id.clone()), amount: units(300) }, 200).await;
    let held = (rig.held_in(AssetAccount::Liquid).await, rig.held_in(AssetAccount::InTransit).await);
    assert_eq!(held, (i128::from(FUNDED) - 300, 300));
    // It is told twice over: as of the lost time, and as what no operation explains.
    let why = rig.app.pool_state(&rig.pool).await.unwrap().paused.unwrap();
    assert!(why.contains("asked for after the backup") && why.contains("explained by no operation"), "{why}");
    let word = Acknowledgement::Moved(units(300));
    let request = rig.request();
    assert_eq!(rig.app.acknowledge_transfer(&request, &rig.pool, &id, word, "desk").await.unwrap(), Once::First);
    assert_eq!(rig.held_in(AssetAccount::InTransit).await, 0);
    assert_eq!(rig.held_in(AssetAccount::Custody).await, 300);
    assert_eq!(rig.claim(ClaimAccount::House).await, house, "nobody's loss");

    // Of one that no store has given out, nothing is known: it is set aside, as without a restore.
    let strange = TransferId::new(&format!("defund-{}", last + SKIPPED + 9)).unwrap();
    rig.effect("tx-strange", EffectKind::TransferOut { transfer: Some(strange), amount: units(7) }, 210).await;
    assert_eq!(rig.held_in(AssetAccount::Liquid).await, i128::from(FUNDED) - 300);
}

/// What is missing may be in flight for operations, which nothing drives while the pool is held: a person ends them.
#[tokio::test]
async fn a_pool_that_misses_what_is_in_flight_comes_to_an_agreement() {
    let (mut rig, validator) = funded().await;
    // An effect was told wrongly before the backup, and nearly everything was in flight at it.
    rig.effect("told-wrongly", EffectKind::TransferIn { transfer: None, amount: units(500) }, 70).await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let (id, amount) = (OperationId::new("op").unwrap(), units(FUNDED + 400));
    operate::plan(&mut change, id.clone(), OperationKind::Delegate { validator, amount }, "test").unwrap();
    change.commit().await.unwrap();
    rig.hold().await;
    let mut hash = None;
    for second in [200, 260] {
        rig.set_time(second);
        let found = rig.app.reconcile(&rig.pool).await.unwrap().unwrap();
        hash = Some(found.differences_hash());
    }
    let (app, pool, hash) = (rig.app.clone(), rig.pool.clone(), hash.unwrap());
    rig.set_time(320);
    let request = rig.request();
    assert_eq!(reason(app.accept_differences(&request, &pool, hash, "seen").await), Reason::WrongState);
    let request = rig.request();
    let word = Resolution::Absent;
    assert_eq!(app.resolve_operation(&request, &pool, &id, &word, "never sent").await.unwrap(), Once::First);
    app.approve_waiting().await;
    assert_eq!(rig.held_in(AssetAccount::InFlight).await, 0);
    rig.set_time(380);
    let request = rig.request();
    assert_eq!(app.accept_differences(&request, &pool, hash, "seen").await.unwrap(), Once::First);
    rig.set_time(440);
    app.approve_waiting().await;
    assert_eq!(rig.held_in(AssetAccount::Liquid).await, i128::from(FUNDED));
    assert_eq!(rig.resume().await.unwrap(), Once::First);
}
