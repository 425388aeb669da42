//! What was decided by and about an account can be read: the consent records.

use softstake::client::ClientError;
use softstake::pb::v1;
use v1::EnrolmentDecision::{Locate, OptIn, OptOut, Restrict};

use crate::harness::{DAY, FIRST, HOUR, Server, Setup};

async fn listed(server: &Server, account: &str, page_size: i32) -> Vec<v1::Enrolment> {
    let (parent, mut page_token, mut all) = (format!("accounts/{account}"), String::new(), Vec::new());
    loop {
        let request = v1::ListEnrolmentsRequest { parent: parent.clone(), page_size, page_token };
        let page = server.client.list_enrolments(request).await.unwrap();
        assert!(page.enrolments.len() <= page_size as usize);
        all.extend(page.enrolments);
        if page.next_page_token.is_empty() {
            return all;
        }
        page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_decision_is_listed_newest_first_with_terms_time_and_whoever_entered_it() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.enrol("alice", "", OptIn).await;
    server.enrol("alic", "", OptOut).await;
    server.at(HOUR).await;
    server.enrol("alice", "atom", OptOut).await;
    server.enrol("alice", "atom", Restrict).await;
    for page_size in [1, 2, 3, 50] {
        let all = listed(&server, "alice", page_size).await;
        let told: Vec<_> = all.iter().map(|one| (one.decision(), one.pool.as_str(), one.sequence)).collect();
        assert_eq!(told, [(Restrict, "pools/atom", 4), (OptOut, "pools/atom", 3), (OptIn, "", 1)]);
        for one in &all {
            assert_eq!((one.account.as_str(), one.terms_version.as_str()), ("alice", "2026-01"));
            assert_eq!((one.jurisdiction.as_str(), one.reason_code.as_str()), ("DE", "SANCTION"));
            assert_eq!(one.principal, "local");
        }
        let times = |n: usize| all[n].effective_time.unwrap().seconds;
        assert_eq!(times(0) - times(2), HOUR);
    }
    assert_eq!(listed(&server, "nobody", 50).await, []);
    server.restart().await;
    assert_eq!(listed(&server, "alic", 50).await.len(), 1);
    server.stop().await;
}

fn restricted(codes: &[&str]) -> v1::Pool {
    let restricted_jurisdictions = codes.iter().map(|code| (*code).to_owned()).collect();
    let enrolment = Some(v1::EnrolmentSettings { restricted_jurisdictions });
    let settings = Some(v1::PoolSettings { enrolment, ..v1::PoolSettings::default() });
    v1::Pool { name: "pools/atom".to_owned(), settings, ..v1::Pool::default() }
}

const PATH: &str = "settings.enrolment.restricted_jurisdictions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_a_restricted_jurisdiction_earns_nothing_from_then_on_and_is_paid_what_was_earned() {
    let mut server = Setup::new().pool("atom", "").start().await;
    for account in ["alice", "bob"] {
        server.put(account, "ATOM", 1_000_000_000_000).await;
    }
    server.enrol("alice", "", OptIn).await;
    server.at(12 * HOUR).await;
    let pool = server.update(restricted(&["de-by", "De"]), &[PATH]).await;
    let told = pool.settings.unwrap().enrolment.unwrap().restricted_jurisdictions;
    assert_eq!(told, ["DE", "DE-BY"]);
    server.at(12 * HOUR + 60).await;
    let position = server.position("alice", "atom").await;
    assert_eq!((position.eligibility(), position.restricted), (v1::Eligibility::Restricted, true));
    assert_eq!(server.position("bob", "atom").await.eligibility(), v1::Eligibility::Full);
    let last = listed(&server, "alice", 50).await.remove(0);
    assert_eq!((last.decision(), last.reason_code.as_str()), (Restrict, "RESTRICTED_JURISDICTION"));
    assert_eq!((last.pool.as_str(), last.principal.as_str()), ("pools/atom", "softstake"));
    // Where a customer is can be said without a decision; a customer who lives there now earns no more.
    server.enrol("carol", "", Locate).await;
    server.put("carol", "ATOM", 1_000_000).await;
    let carol = server.position("carol", "atom").await;
    assert_eq!((carol.eligibility(), carol.enrolment()), (v1::Eligibility::Restricted, Restrict));
    server.close(DAY).await;
    let (alice, bob) = (server.paid("atom", FIRST, "alice").await, server.paid("atom", FIRST, "bob").await);
    assert!(alice > 0 && alice.abs_diff(bob / 2) < bob / 100, "{alice} of {bob}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jurisdiction_that_is_no_code_is_refused_with_its_path() {
    let server = Setup::new().pool("atom", "").start().await;
    for (codes, reason) in
        [(vec!["DE", "nowhere at all"], "JURISDICTION_MALFORMED"), (vec![""], "JURISDICTION_MALFORMED")]
    {
        let update_mask = Some(prost_types::FieldMask { paths: vec![PATH.to_owned()] });
        let request_id = format!("bad-{}", codes.len());
        let request = v1::UpdatePoolRequest { request_id, pool: Some(restricted(&codes)), update_mask };
        let refused = server.client.update_pool(request).await.unwrap_err();
        let ClientError::Refused(refusal) = &refused else { panic!("{refused}") };
        assert_eq!((refusal.code, refusal.reason.as_str()), (tonic::Code::InvalidArgument, reason));
        assert!(refused.to_string().contains("restricted_jurisdictions"), "{refused}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_located_by_a_jurisdiction_and_in_all_pools() {
    let server = Setup::new().pool("atom", "").start().await;
    for (pool, jurisdiction, field) in [("", "", "jurisdiction"), ("pools/atom", "DE", "pool")] {
        let request = v1::SetEnrolmentRequest {
            request_id: format!("locate-{field}"),
            account: "alice".to_owned(),
            pool: pool.to_owned(),
            decision: Locate as i32,
            jurisdiction: jurisdiction.to_owned(),
            ..v1::SetEnrolmentRequest::default()
        };
        let refused = server.client.set_enrolment(request).await.unwrap_err();
        let ClientError::Refused(refusal) = &refused else { panic!("{refused}") };
        assert_eq!(refusal.code, tonic::Code::InvalidArgument);
        assert!(refused.to_string().contains(field), "{refused}");
    }
    server.stop().await;
}
