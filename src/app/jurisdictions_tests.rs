//! Who is where a pool restricts it earns nothing from then on, whichever of the two was said first.

use super::*;
use crate::app::distribute::tests::rig::{Rig, account, at, units};
use crate::app::enrol::{Enrol, step};
use crate::domain::amount::BaseUnits;
use crate::domain::policy::ReleaseLimits;

async fn decide(rig: &mut Rig, name: &str, pool: Option<&str>, decision: Decision, jurisdiction: &str) {
    let enrol = Enrol {
        account: account(name),
        pool: pool.map(|pool| PoolId::new(pool).unwrap()),
        decision,
        terms_version: "v1".to_owned(),
        jurisdiction: jurisdiction.to_owned(),
        reason_code: "SANCTION".to_owned(),
    };
    let (request, app) = (rig.request(), rig.app.clone());
    let _ = app.set_enrolment(&request, enrol).await.unwrap();
    settle(rig).await;
}

async fn settle(rig: &mut Rig) {
    let app = rig.app.clone();
    for _ in 0..20 {
        if rig.drive(step(&app)).await.unwrap() == Work::Idle {
            return;
        }
    }
    panic!("the log never comes to rest");
}

async fn restrict(rig: &mut Rig, codes: &[&str]) {
    let mut settings = rig.app.pool_state(&rig.pool).await.unwrap().settings;
    settings.restricted = RestrictedJurisdictions::new(codes.iter().copied()).unwrap();
    let request = rig.request();
    let _ = rig.app.update_pool(&request, &rig.pool, None, None, Some(settings)).await.unwrap();
    settle(rig).await;
}

async fn eligible(rig: &Rig, name: &str) -> BaseUnits {
    rig.app.position(&rig.pool, &account(name)).await.unwrap().eligible
}

/// The last decision on an account in the pool.
async fn last(rig: &Rig, name: &str) -> (Decision, String, String) {
    let last = rig.app.enrolment(&account(name), Some(rig.pool.id())).await.unwrap().unwrap();
    (last.decision, last.reason_code, last.by.to_string())
}

fn barred() -> (Decision, String, String) {
    (Decision::Restrict, RESTRICTED_JURISDICTION.to_owned(), "softstake".to_owned())
}

#[tokio::test]
async fn an_account_earns_nothing_from_when_its_jurisdiction_is_restricted_and_keeps_what_it_has_earned() {
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    for name in ["alice", "bob", "carol"] {
        rig.put(name, 1_000, 0).await;
    }
    decide(&mut rig, "alice", None, Decision::OptIn, "US-NY").await;
    decide(&mut rig, "bob", None, Decision::OptIn, "DE").await;
    assert_eq!(eligible(&rig, "alice").await, units(1_000));
    rig.set_time(600);
    restrict(&mut rig, &["us"]).await;
    for (name, earns) in [("alice", 0), ("bob", 1_000), ("carol", 1_000)] {
        assert_eq!(eligible(&rig, name).await, units(earns), "{name}");
    }
    assert_eq!(last(&rig, "alice").await, barred());
    assert_eq!(rig.app.position(&rig.pool, &account("alice")).await.unwrap().weight, 600 * 1_000);
    // Once is enough, over a restart too.
    let log = rig.app.enrolments(&account("alice"), None, 100).await.unwrap().0.len();
    let mut rig = rig.restart().await;
    settle(&mut rig).await;
    assert_eq!(rig.app.enrolments(&account("alice"), None, 100).await.unwrap().0.len(), log);
}

#[tokio::test]
async fn an_account_that_moves_is_restricted_with_the_decision_that_says_so() {
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    restrict(&mut rig, &["KP", "US"]).await;
    rig.put("alice", 1_000, 0).await;
    for pool in [Some("atom"), None] {
        decide(&mut rig, "alice", pool, Decision::OptIn, "US").await;
        assert_eq!((eligible(&rig, "alice").await, last(&rig, "alice").await), (units(0), barred()), "{pool:?}");
        // What stands in the list is not lifted, whoever asks for it.
        for lifted in [Some("atom"), None] {
            decide(&mut rig, "alice", lifted, Decision::Unrestrict, "").await;
            assert_eq!((eligible(&rig, "alice").await, last(&rig, "alice").await), (units(0), barred()), "{lifted:?}");
        }
        // Where the account is elsewhere, it is lifted by a decision and not by itself.
        decide(&mut rig, "alice", None, Decision::OptIn, "DE").await;
        assert_eq!(eligible(&rig, "alice").await, units(0));
        decide(&mut rig, "alice", pool, Decision::Unrestrict, "").await;
        assert_eq!(eligible(&rig, "alice").await, units(1_000));
    }
    // A sanction is none of this.
    restrict(&mut rig, &[]).await;
    decide(&mut rig, "alice", None, Decision::Restrict, "").await;
    restrict(&mut rig, &["FR"]).await;
    assert_eq!(eligible(&rig, "alice").await, units(0));
}

/// Where a customer is says nothing of what was decided.
#[tokio::test]
async fn an_account_is_located_without_a_decision() {
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    restrict(&mut rig, &["US"]).await;
    for name in ["alice", "bob"] {
        rig.put(name, 1_000, 0).await;
    }
    decide(&mut rig, "alice", None, Decision::OptIn, "").await;
    decide(&mut rig, "bob", None, Decision::Restrict, "").await;
    for name in ["alice", "bob", "nobody"] {
        decide(&mut rig, name, None, Decision::Locate, "DE").await;
    }
    assert_eq!((eligible(&rig, "alice").await, eligible(&rig, "bob").await), (units(1_000), units(0)));
    let last_of_all = rig.app.enrolment(&account("alice"), None).await.unwrap().unwrap();
    assert_eq!((last_of_all.decision, last_of_all.terms_version.as_str()), (Decision::OptIn, "v1"));
    assert_eq!(rig.app.located(&account("nobody")).await.unwrap().unwrap().decision, Decision::Locate);
    assert!(rig.app.position(&rig.pool, &account("nobody")).await.is_err(), "it makes no position");
    decide(&mut rig, "alice", None, Decision::Locate, "US").await;
    assert_eq!((eligible(&rig, "alice").await, last(&rig, "alice").await), (units(0), barred()));
}

#[tokio::test]
async fn many_accounts_are_looked_through_a_part_at_a_time() {
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    let names: Vec<String> = (0..(LOOKED_THROUGH + 20)).map(|n| format!("a{n}")).collect();
    for name in &names {
        decide(&mut rig, name, None, Decision::OptIn, "US").await;
    }
    restrict(&mut rig, &["US"]).await;
    for name in &names {
        assert_eq!(last(&rig, name).await, barred(), "{name}");
    }
}

#[tokio::test]
async fn a_pool_that_is_created_later_restricts_from_its_first_second() {
    let mut rig = Rig::new(1, ReleaseLimits::default()).await;
    decide(&mut rig, "alice", None, Decision::OptIn, "US").await;
    rig.set_time(3_000);
    rig.create_restricted(at(0), &["US"]).await.unwrap();
    settle(&mut rig).await;
    for (name, held_for) in [("alice", 0), ("bob", 3_000)] {
        rig.put(name, 10, 0).await;
        assert_eq!(rig.app.position(&rig.pool, &account(name)).await.unwrap().weight, 10 * held_for, "{name}");
    }
    assert_eq!(last(&rig, "alice").await, barred());
}
