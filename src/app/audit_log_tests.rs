//! That every mutation is written down with its change, once, and that what is done to the log is found.

use super::*;
use crate::app::Once;
use crate::app::distribute::tests::rig::{Rig, account, at, units};
use crate::app::enrol::Enrol;
use crate::domain::enrolment::Decision;
use crate::domain::ids::SourceId;
use crate::domain::policy::ReleaseLimits;
use crate::domain::policy_change;
use crate::store::StoreError;

async fn rig() -> Rig {
    Rig::new(1, ReleaseLimits::default()).await
}

async fn all(rig: &Rig) -> Vec<(String, AuditEntry)> {
    let page = rig.app.audit_page(&AuditFilter::default(), None, 1_000).await.unwrap();
    assert_eq!(page.next, None);
    page.entries.into_iter().map(|(log, entry)| (log.name(), entry)).collect()
}

/// The newest entry of one chain.
async fn newest(rig: &Rig, log: &str) -> AuditEntry {
    all(rig).await.into_iter().find(|(of, _)| of == log).unwrap().1
}

async fn pause(rig: &mut Rig, reason: Option<&str>) {
    let (request, app, pool) = (rig.request(), rig.app.clone(), rig.pool.clone());
    let once = match reason {
        Some(reason) => app.pause_pool(&request, &pool, reason).await.unwrap(),
        None => app.resume_pool(&request, &pool, "looked at").await.unwrap(),
    };
    assert_eq!(once, Once::First);
    app.approve_waiting().await;
}

fn breaks(outcomes: Vec<(Log, Result<Option<AuditHead>, ChainBreak>)>) -> Vec<(String, ChainBreak)> {
    outcomes.into_iter().filter_map(|(log, outcome)| Some((log.name(), outcome.err()?))).collect()
}

async fn found(rig: &Rig) -> Vec<(String, ChainBreak)> {
    breaks(verify(&*rig.app.store, &[]).await.unwrap())
}

#[tokio::test]
async fn a_change_of_a_pool_is_written_down_with_who_what_and_both_sides() {
    let mut rig = rig().await;
    pause(&mut rig, Some("a look at it")).await;
    let entry = newest(&rig, "pools/atom").await;
    assert_eq!((entry.act.principal.as_str(), entry.act.method.as_str()), ("softstake", "Test"));
    let note = &entry.act.note;
    assert_eq!(note.resource, "pools/atom");
    assert_eq!((note.before.as_str(), note.after.as_str()), ("OPEN", "PAUSED: a look at it"));
    assert_eq!(found(&rig).await, Vec::new());
}

#[tokio::test]
async fn a_request_that_is_repeated_or_refused_leaves_no_second_entry() {
    let mut rig = rig().await;
    let before = all(&rig).await.len();
    let (request, app, pool) = (rig.request(), rig.app.clone(), rig.pool.clone());
    for _ in 0..3 {
        let _ = app.pause_pool(&request, &pool, "once").await.unwrap();
    }
    let request = rig.request();
    let state = app.pool_state(&pool).await.unwrap();
    assert!(app.update_pool(&request, &pool, Some(state.version + 9), None, None).await.is_err());
    assert_eq!(all(&rig).await.len(), before + 1);
}

#[tokio::test]
async fn a_crash_leaves_both_the_change_and_its_entry_or_neither() {
    for after in [false, true] {
        let mut rig = rig().await;
        let before = all(&rig).await.len();
        // The first commit ties the id to the pool.
        rig.die_at(1, after);
        let (request, app, pool) = (rig.request(), rig.app.clone(), rig.pool.clone());
        assert!(app.pause_pool(&request, &pool, "cut off").await.is_err());
        let rig = rig.restart().await;
        let paused = rig.app.pool_state(&rig.pool).await.unwrap().paused.is_some();
        assert_eq!(all(&rig).await.len() - before, usize::from(paused), "after {after}");
        assert_eq!(found(&rig).await, Vec::new());
    }
}

#[tokio::test]
async fn what_the_service_does_by_itself_stands_behind_what_brought_it_about() {
    let rig = rig().await;
    rig.app.stop_outflows(&rig.pool, rig.app.now(), "the books do not balance").await.unwrap();
    let entry = newest(&rig, "pools/atom").await;
    assert_eq!((entry.act.principal.as_str(), entry.act.method.as_str()), ("softstake", ""));
    assert!(entry.act.note.summary.contains("the books do not balance"));
    assert_eq!(entry.act.note.after, "PAUSED: the books do not balance");
    let before = all(&rig).await.len();
    rig.app.stop_outflows(&rig.pool, rig.app.now(), "the books do not balance").await.unwrap();
    assert_eq!(all(&rig).await.len(), before, "it is stopped already");
}

#[tokio::test]
async fn what_a_custody_service_reports_every_minute_is_not_written_down() {
    let mut rig = rig().await;
    let before = all(&rig).await.len();
    let id = rig.request().id;
    let report = Request::new("TransferService/ReportCustody", id, Caller::service(), b"");
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let _ = app.report_custody(&report, &pool, units(5), at(0)).await.unwrap();
    assert_eq!(all(&rig).await.len(), before);
}

#[tokio::test]
async fn decisions_balances_and_sources_are_written_down_in_the_chain_of_the_service() {
    let mut rig = rig().await;
    rig.put("alice", 1_000, 10).await;
    assert_eq!(newest(&rig, "service").await.act.note.resource, "accounts/alice");
    let (request, app) = (rig.request(), rig.app.clone());
    let enrol = Enrol {
        account: account("alice"),
        pool: None,
        decision: Decision::Restrict,
        terms_version: String::new(),
        jurisdiction: "XX".to_owned(),
        reason_code: "SANCTION".to_owned(),
    };
    let _ = app.set_enrolment(&request, enrol).await.unwrap();
    let entry = newest(&rig, "service").await;
    assert_eq!(entry.act.note.after, "RESTRICT, jurisdiction XX, reason SANCTION");
    let request = rig.request();
    let _ = app.register_source(&request, SourceId::new("margin").unwrap(), "margin accounts").await.unwrap();
    assert_eq!(newest(&rig, "service").await.act.note.resource, "sources/margin");
    assert_eq!(found(&rig).await, Vec::new());
}

#[tokio::test]
async fn of_an_update_the_fields_that_changed_are_written_down() {
    let mut rig = rig().await;
    let (request, app, pool) = (rig.request(), rig.app.clone(), rig.pool.clone());
    let state = app.pool_state(&pool).await.unwrap();
    let mut settings = state.settings.clone();
    settings.allocation.max_share_bps = 9_999;
    let policy = app.next_policy(&pool).await.unwrap().policy;
    let changed = policy_change::changes((&state.settings, &policy), (&settings, &policy));
    assert_eq!(changed.len(), 1);
    let _ = app.update_pool(&request, &pool, Some(state.version), None, Some(settings)).await.unwrap();
    let note = newest(&rig, "pools/atom").await.act.note;
    assert_eq!(note.before, format!("settings.allocation.max_share_bps={}", changed[0].before));
    assert_eq!(note.after, "settings.allocation.max_share_bps=9999");
}

#[tokio::test]
async fn refused_calls_are_written_down_and_what_was_sent_is_bounded() {
    let rig = rig().await;
    let long = "x".repeat(5_000);
    let caller = Caller { peer: format!("10.0.0.7:1\n{long}").into(), ..Caller::local("") };
    rig.app.audit_refusal(&caller, &format!("/evil {long}"), "UNAUTHENTICATED", 40).await.unwrap();
    let entry = newest(&rig, "service").await;
    assert_eq!(entry.act.refused, Some(RefusedCalls { reason: "UNAUTHENTICATED".to_owned(), count: 40 }));
    assert!(entry.act.peer.starts_with("10.0.0.7:1x") && entry.act.peer.len() <= MAX_SENT_BYTES);
    assert!(entry.act.method.starts_with("/evilx") && entry.act.method.len() <= MAX_SENT_BYTES);
    assert_eq!(found(&rig).await, Vec::new());
}

#[tokio::test]
async fn pages_of_all_chains_together_are_in_the_order_of_time_and_meet_every_entry_once() {
    let mut rig = rig().await;
    for (second, name) in [(10, "alice"), (20, "bob"), (20, "carol"), (40, "dave")] {
        rig.set_time(second);
        pause(&mut rig, Some(name)).await;
        rig.put(name, 1, second).await;
        pause(&mut rig, None).await;
    }
    let whole = all(&rig).await;
    assert!(whole.len() >= 13 && whole.windows(2).all(|pair| pair[0].1.at >= pair[1].1.at));
    for size in [1, 2, 5] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = rig.app.audit_page(&AuditFilter::default(), after, size).await.unwrap();
            assert!(page.entries.len() <= size);
            paged.extend(page.entries.into_iter().map(|(log, entry)| (log.name(), entry)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole, "{size} at a time");
    }
    let filter = AuditFilter { from: Some(at(20)), until: Some(at(40)), ..AuditFilter::default() };
    let between = rig.app.audit_page(&filter, None, 100).await.unwrap();
    let expected: Vec<_> = whole.iter().filter(|(_, entry)| entry.at == at(20)).collect();
    assert_eq!(between.entries.len(), expected.len());
    let filter = AuditFilter { resource: Some("accounts/bob".to_owned()), ..AuditFilter::default() };
    assert_eq!(rig.app.audit_page(&filter, None, 100).await.unwrap().entries.len(), 1);
    let filter = AuditFilter { resource: Some("accounts/bo".to_owned()), ..AuditFilter::default() };
    assert_eq!(rig.app.audit_page(&filter, None, 100).await.unwrap().entries.len(), 0);
}

#[tokio::test]
async fn of_two_services_over_one_store_the_later_entry_is_refused() {
    let rig = rig().await;
    let caller = Caller::local("");
    rig.app.audit_refusal(&caller, "m", "R", 1).await.unwrap();
    let head = rig.app.store.get(PartitionId::SERVICE, &keys::audit_head()).await.unwrap();
    let mut late = Batch::new(PartitionId::SERVICE);
    append(&mut late, &Log::Service, head, at(0), vec![by(caller.clone(), Note::of("", "late"))]).unwrap();
    rig.app.audit_refusal(&caller, "m", "R", 1).await.unwrap();
    let refused = rig.app.store.commit(vec![late]).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(found(&rig).await, Vec::new(), "no fork");
}

/// Does something to the stored chain of the pool, past all expectations.
async fn tamper(rig: &Rig, change: impl FnOnce(&mut Batch, Vec<AuditEntry>)) {
    let partition = rig.pool.control();
    let entries = entries(&*rig.app.store, partition, 0).await.unwrap();
    let mut batch = Batch::new(partition);
    change(&mut batch, entries.into_iter().filter_map(|(_, entry)| entry).collect());
    rig.app.store.commit(vec![batch]).await.unwrap();
}

#[tokio::test]
async fn whatever_is_done_to_the_stored_chain_is_found_where_it_was_done() {
    type Tampering = fn(&mut Batch, Vec<AuditEntry>);
    let tamperings: [(&str, Tampering, ChainBreak); 7] = [
        (
            "flipped",
            |batch, mut entries| {
                entries[1].act.note.summary.replace_range(0..1, "P");
                batch.put(keys::audit(2), entries[1].encode());
            },
            ChainBreak::Changed(2),
        ),
        (
            "unreadable",
            |batch, _| {
                batch.put(keys::audit(2), vec![0xff; 9]);
            },
            ChainBreak::Changed(2),
        ),
        (
            "deleted",
            |batch, _| {
                batch.delete(keys::audit(2));
            },
            ChainBreak::OutOfOrder { expected: 2, found: 3 },
        ),
        (
            "reordered",
            |batch, entries| {
                batch.put(keys::audit(2), entries[2].encode()).put(keys::audit(3), entries[1].encode());
            },
            ChainBreak::OutOfOrder { expected: 2, found: 3 },
        ),
        (
            "the end cut off",
            |batch, entries| {
                batch.delete(keys::audit(entries.len() as u64));
            },
            ChainBreak::CutShort { found: 8, head: 9 },
        ),
        (
            "all of it gone",
            |batch, entries| {
                for sequence in 1..=entries.len() as u64 {
                    batch.delete(keys::audit(sequence));
                }
                batch.delete(keys::audit_head());
            },
            ChainBreak::Gone,
        ),
        (
            "the head gone",
            |batch, _| {
                batch.delete(keys::audit_head());
            },
            ChainBreak::AnotherEnd(9),
        ),
    ];
    for (what, tampering, broken) in tamperings {
        let mut rig = rig().await;
        for _ in 0..2 {
            pause(&mut rig, Some("look")).await;
            pause(&mut rig, None).await;
        }
        tamper(&rig, tampering).await;
        assert_eq!(found(&rig).await, vec![("pools/atom".to_owned(), broken)], "{what}");
    }
}

#[tokio::test]
async fn a_chain_that_was_written_anew_differs_from_what_was_noted_elsewhere() {
    let mut rig = rig().await;
    pause(&mut rig, Some("look")).await;
    let entry = newest(&rig, "pools/atom").await;
    let noted = [Noted { log: rig.pool.log(), sequence: entry.sequence, hash: entry.hash }];
    let outcomes = verify(&*rig.app.store, &noted).await.unwrap();
    assert_eq!(breaks(outcomes), Vec::new());
    tamper(&rig, |batch, entries| {
        let log = Log::parse("pools/atom").unwrap();
        let act = by(Caller::local(""), Note::of("pools/atom", "nothing happened"));
        let forged = AuditEntry::following(Some(&entries[0].head()), &log, entries[1].at, act);
        batch.put(keys::audit(2), forged.encode()).put(keys::audit_head(), forged.head().encode());
    })
    .await;
    assert_eq!(found(&rig).await, Vec::new(), "whole by itself");
    let outcomes = verify(&*rig.app.store, &noted).await.unwrap();
    assert_eq!(breaks(outcomes), vec![("pools/atom".to_owned(), ChainBreak::NotAsNoted(2))]);
}
