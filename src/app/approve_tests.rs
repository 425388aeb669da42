use super::super::distribute::tests::rig::{LENGTH, Rig, at, units};
use super::*;
use crate::domain::amount::BaseUnits;
use crate::domain::approval::Reward;
use crate::domain::caller::Caller;
use crate::domain::effect::{EffectKey, EffectKind};
use crate::domain::ids::{Principal, RequestId, TransactionId};
use crate::domain::ledger::ClaimAccount;
use crate::domain::policy::ReleaseLimits;

fn by(name: &str, id: &str, body: &[u8]) -> Request {
    let caller = Caller { principal: Principal::new(name).unwrap(), peer: "".into() };
    Request::new("AdminService/Approve", RequestId::new(id).unwrap(), caller, body)
}

impl App {
    /// Has a second person approve everything that waits, but for corrections.
    pub(crate) async fn approve_waiting(&self) {
        let waiting = self.approvals_page(&[ApprovalState::Pending], None, 100).await.unwrap();
        for record in waiting.entries.iter().filter(|it| !it.proposal.is_correction()) {
            let request = by("second", &format!("approve-{}", record.number), b"");
            let (once, after) = self.approve(&request, record.number, record.content_hash).await.unwrap();
            assert_eq!(
                (once, after.state, after.approved_by.as_str()),
                (Once::First, ApprovalState::Approved, "second")
            );
        }
    }

    async fn waiting(&self) -> Vec<ApprovalRecord> {
        self.approvals_page(&[ApprovalState::Pending], None, 100).await.unwrap().entries
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, AppError>) -> Reason {
    match outcome {
        Err(AppError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

async fn paused(rig: &Rig) -> Option<String> {
    rig.app.pool_state(&rig.pool).await.unwrap().paused
}

/// As the rig tells time: from its start on.
fn seconds(time: UnixSeconds) -> i64 {
    time.get() - at(0).get()
}

async fn rig() -> Rig {
    Rig::new(1, ReleaseLimits::default()).await
}

#[tokio::test]
async fn pausing_takes_one_person_and_resuming_two() {
    let mut rig = rig().await;
    let (app, pool, request) = (rig.app.clone(), rig.pool.clone(), rig.request());
    let _ = app.resume_pool(&request, &pool, "nothing to do").await.unwrap();
    assert_eq!(app.waiting().await, [], "nothing is stopped");
    let request = rig.request();
    let _ = app.pause_pool(&request, &pool, "a look").await.unwrap();
    let version = app.pool_state(&pool).await.unwrap().version;

    let request = rig.request();
    assert_eq!(app.resume_pool(&request, &pool, "looked at").await.unwrap(), Once::First);
    assert!(matches!(app.resume_pool(&request, &pool, "looked at").await, Ok(Once::Repeated { .. })));
    let proposed = app.proposed_by(&request, pool.control()).await.unwrap().unwrap();
    assert_eq!(app.waiting().await, std::slice::from_ref(&proposed));
    assert_eq!((proposed.resource.as_str(), proposed.config_version), ("pools/atom", version));
    assert!(proposed.summary.contains("a look") && proposed.summary.contains("looked at"), "{}", proposed.summary);
    assert_eq!(paused(&rig).await.as_deref(), Some("a look"), "nothing happens before the approval");

    let (number, hash) = (proposed.number, proposed.content_hash);
    assert_eq!(refused(app.approve(&by("softstake", "own", b""), number, hash).await), Reason::OwnProposal);
    assert_eq!(refused(app.approve(&by("second", "wrong", b""), number, [7; 32]).await), Reason::HashMismatch);
    assert_eq!(refused(app.approve(&by("second", "none", b""), number + 1, hash).await), Reason::UnknownApproval);
    assert!(paused(&rig).await.is_some());
    let approve = by("second", "right", b"");
    let (once, after) = app.approve(&approve, number, hash).await.unwrap();
    assert_eq!((once, after.state, after.approved_by.as_str()), (Once::First, ApprovalState::Approved, "second"));
    assert_eq!(paused(&rig).await, None);
    let (again, still) = app.approve(&approve, number, hash).await.unwrap();
    assert!(matches!(again, Once::Repeated { .. }) && still == after);
    assert_eq!(refused(app.approve(&by("third", "late", b""), number, hash).await), Reason::WrongState);
}

#[tokio::test]
async fn what_was_proposed_lapses_where_the_configuration_changed_and_after_a_week() {
    let mut rig = rig().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    for (round, lapses) in [("meanwhile", true), ("late", true), ("in-time", false)] {
        let request = rig.request();
        let _ = app.pause_pool(&request, &pool, round).await.unwrap();
        let request = rig.request();
        let _ = app.resume_pool(&request, &pool, round).await.unwrap();
        let proposed = app.waiting().await.pop().unwrap();
        let since = seconds(proposed.proposed_at);
        match round {
            "meanwhile" => {
                let request = rig.request();
                let _ = app.pause_pool(&request, &pool, "one more reason").await.unwrap();
            }
            "late" => rig.set_time(since + APPROVAL_SECONDS),
            _ => rig.set_time(since + APPROVAL_SECONDS - 1),
        }
        let outcome = app.approve(&by("second", round, b""), proposed.number, proposed.content_hash).await;
        if lapses {
            assert_eq!(refused(outcome), Reason::WrongState, "{round}");
            assert_eq!(app.approval(proposed.number).await.unwrap().state, ApprovalState::Lapsed);
            assert!(paused(&rig).await.is_some());
        } else {
            assert_eq!(outcome.unwrap().1.state, ApprovalState::Approved);
            assert_eq!(paused(&rig).await, None);
        }
    }
}

/// What the log has of an approval, oldest first: what it says, and who wrote it.
async fn written(rig: &Rig, number: u64) -> Vec<(String, String)> {
    let resource = Some(format!("approvals/{number}"));
    let filter = crate::app::audit_log::AuditFilter { resource, ..Default::default() };
    let page = rig.app.audit_page(&filter, None, 100).await.unwrap();
    let entries = page.entries.into_iter().rev().map(|(_, entry)| entry.act);
    entries.map(|act| (format!("{} -> {}", act.note.before, act.note.after), act.principal.to_string())).collect()
}

fn lapsed_after_the_proposal(written: &[(String, String)]) -> bool {
    let [(proposed, _), (lapsed, by)] = written else { return false };
    proposed == " -> PENDING" && lapsed == "PENDING -> LAPSED" && by == Caller::service().principal.as_str()
}

async fn propose_to_resume(rig: &mut Rig) -> ApprovalRecord {
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let request = rig.request();
    let _ = app.pause_pool(&request, &pool, "a look").await.unwrap();
    let request = rig.request();
    let _ = app.resume_pool(&request, &pool, "looked at").await.unwrap();
    app.waiting().await.pop().unwrap()
}

#[tokio::test]
async fn what_lapses_is_written_down_by_whoever_finds_it_out() {
    // By a step: after a week, or where the configuration is another one. It is shown at once.
    for late in [true, false] {
        let mut rig = rig().await;
        let proposed = propose_to_resume(&mut rig).await;
        let (app, pool) = (rig.app.clone(), rig.pool.clone());
        if late {
            rig.set_time(seconds(proposed.expires_at));
        } else {
            let request = rig.request();
            let _ = app.pause_pool(&request, &pool, "one more reason").await.unwrap();
        }
        assert_eq!(app.approval(proposed.number).await.unwrap().state, ApprovalState::Lapsed, "{late}");
        assert_eq!(written(&rig, proposed.number).await.len(), 1, "it is only shown");
        let rig = rig.restart().await;
        let (app, pool) = (rig.app.clone(), rig.pool.clone());
        assert_eq!(step(&app, &pool, app.now()).await.unwrap(), Work::Done);
        assert!(lapsed_after_the_proposal(&written(&rig, proposed.number).await), "{late}");
        assert_eq!(step(&app, &pool, app.now()).await.unwrap(), Work::Idle);
        let stored: Option<ApprovalRecord> = app.read(pool.control(), &keys::approval(proposed.number)).await.unwrap();
        assert_eq!(stored.unwrap().state, ApprovalState::Lapsed);
        assert_eq!(app.metrics.changes_lapsed.get(), 1);
    }
    // By whoever would approve it, and once.
    let mut rig = rig().await;
    let proposed = propose_to_resume(&mut rig).await;
    rig.set_time(seconds(proposed.expires_at));
    for id in ["late", "later"] {
        let outcome = rig.app.approve(&by("second", id, b""), proposed.number, proposed.content_hash).await;
        assert_eq!(refused(outcome), Reason::WrongState);
        assert!(lapsed_after_the_proposal(&written(&rig, proposed.number).await));
    }
}

#[tokio::test]
async fn what_no_longer_does_what_it_said_lapses_with_the_try_to_approve_it() {
    let mut rig = rig().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    rig.set_time(60);
    rig.effect("op", EffectKind::TransferIn { transfer: None, amount: units(10) }, 50).await;
    let request = rig.request();
    let _ = app.record_receipt(&request, &pool, &reward(4), "seen").await.unwrap();
    let proposed = app.waiting().await.pop().unwrap();
    // It is another change than the one of which the hash was approved.
    let other = ApprovalRecord {
        proposal: Proposal::RecordReceipt { reward: reward(5), evidence: "seen".to_owned() },
        ..proposed.clone()
    };
    let mut change = Change::begin(&app, &pool, app.now()).await.unwrap();
    change.put(keys::approval(other.number), &other);
    change.commit().await.unwrap();
    let outcome = app.approve(&by("second", "try", b""), proposed.number, proposed.content_hash).await;
    assert_eq!(refused(outcome), Reason::WrongState);
    assert!(lapsed_after_the_proposal(&written(&rig, proposed.number).await));
    assert_eq!((app.waiting().await, rig.claim(ClaimAccount::Undistributed).await), (vec![], 0));
}

#[tokio::test]
async fn only_an_update_that_lowers_a_guard_waits_and_it_is_applied_whole() {
    let mut rig = rig().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    let before = app.pool_state(&pool).await.unwrap().settings;
    let mut stricter = before.clone();
    stricter.allocation.max_share_bps -= 100;
    let request = rig.request();
    let _ = app.update_pool(&request, &pool, None, None, Some(stricter.clone())).await.unwrap();
    assert_eq!((app.waiting().await, &app.pool_state(&pool).await.unwrap().settings), (vec![], &stricter));
    let mut looser = stricter.clone();
    looser.allocation.max_share_bps += 50;
    looser.feed.max_skew_seconds += 1;
    looser.approval.single_person_limit = units(5);
    let request = rig.request();
    let _ = app.update_pool(&request, &pool, None, None, Some(looser.clone())).await.unwrap();
    assert_eq!(app.pool_state(&pool).await.unwrap().settings, stricter, "it waits, and no part of it is applied");
    let proposed = app.waiting().await.pop().unwrap();
    for told in ["settings.allocation.max_share_bps", "settings.approval.single_person_limit from 0 to 5", "1 other"] {
        assert!(proposed.summary.contains(told), "{}", proposed.summary);
    }
    app.approve_waiting().await;
    assert_eq!(app.pool_state(&pool).await.unwrap().settings, looser);
}

fn reward(amount: u64) -> Reward {
    let key = EffectKey { transaction: TransactionId::new("airdrop").unwrap(), index: 0 };
    let (at, from) = (at(50), at(0));
    Reward { key, validator: None, amount: units(amount), at, height: 5, earned_from: from, earned_to: at }
}

#[tokio::test]
async fn a_reward_is_recorded_out_of_suspense_and_never_twice() {
    let mut rig = rig().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    rig.set_time(60);
    let request = rig.request();
    let outcome = app.record_receipt(&request, &pool, &reward(7), "the announcement").await;
    assert_eq!(refused(outcome), Reason::WrongState, "nothing came in");
    rig.effect("airdrop", EffectKind::TransferIn { transfer: None, amount: units(10) }, 50).await;
    let ahead = Reward { at: at(61), ..reward(7) };
    let request = rig.request();
    assert_eq!(refused(app.record_receipt(&request, &pool, &ahead, "seen").await), Reason::InvalidValue);

    let request = rig.request();
    let _ = app.record_receipt(&request, &pool, &reward(7), "the announcement").await.unwrap();
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 0, "it waits");
    app.approve_waiting().await;
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 7);
    assert_eq!(rig.claim(ClaimAccount::Suspense).await, 3);
    let moved = Reward { at: at(49), earned_to: at(49), ..reward(1) };
    let request = rig.request();
    assert_eq!(refused(app.record_receipt(&request, &pool, &moved, "again").await), Reason::AlreadyExists);
    // An adapter that tells of it after all adds nothing.
    let (from, to) = (at(0), at(50));
    let told = EffectKind::RewardPaid { validator: None, amount: units(7), earned_from: from, earned_to: to };
    let effect =
        crate::domain::effect::Effect { key: reward(7).key, height: 5, at: at(50), operation: None, kind: told };
    crate::app::effects::book_all(&app, &pool, &[effect], app.now()).await.unwrap();
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 7);
    assert!(app.check_equations(&pool).await.unwrap().iter().all(|equation| equation.holds));

    // Nor is a reward that the adapter told of recorded once more, at another time.
    let paid = EffectKind::RewardPaid { validator: None, amount: units(2), earned_from: from, earned_to: to };
    rig.effect("told", paid, 51).await;
    let key = EffectKey { transaction: TransactionId::new("told").unwrap(), index: 0 };
    let told = Reward { key, ..reward(2) };
    let request = rig.request();
    assert_eq!(refused(app.record_receipt(&request, &pool, &told, "again").await), Reason::AlreadyExists);

    rig.set_time(LENGTH);
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    let taken = rig.last(0).await.unwrap();
    assert_eq!((taken.receipts.count, taken.figures.receipts), (2, units(9)));
}

#[tokio::test]
async fn of_two_approvals_at_one_time_one_makes_the_change() {
    let mut rig = rig().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    rig.set_time(60);
    rig.effect("airdrop", EffectKind::TransferIn { transfer: None, amount: units(10) }, 50).await;
    let request = rig.request();
    let _ = app.record_receipt(&request, &pool, &reward(4), "seen").await.unwrap();
    let waits = app.waiting().await.pop().unwrap();
    let (second, third) = (by("second", "one", b""), by("third", "other", b""));
    let one = app.approve(&second, waits.number, waits.content_hash);
    let other = app.approve(&third, waits.number, waits.content_hash);
    let (one, other) = tokio::join!(one, other);
    let (made, late): (Vec<_>, Vec<_>) = [one, other].into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), late.into_iter().map(refused).collect::<Vec<_>>()), (1, vec![Reason::WrongState]));
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 4);
}

#[tokio::test]
async fn what_is_within_the_limit_for_one_person_is_done_at_once() {
    let mut rig = rig().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    rig.set_time(60);
    rig.effect("airdrop", EffectKind::TransferIn { transfer: None, amount: units(10) }, 50).await;
    let mut settings = app.pool_state(&pool).await.unwrap().settings;
    settings.approval.single_person_limit = BaseUnits::from_u64(7);
    let request = rig.request();
    let _ = app.update_pool(&request, &pool, None, None, Some(settings)).await.unwrap();
    app.approve_waiting().await;
    let request = rig.request();
    let _ = app.record_receipt(&request, &pool, &reward(8), "past it").await.unwrap();
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 0);
    let request = rig.request();
    let _ = app.record_receipt(&request, &pool, &reward(7), "within it").await.unwrap();
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 7);
    // What waits is checked again: the reward is recorded by now.
    let waits = app.waiting().await.pop().unwrap();
    let late = app.approve(&by("second", "late", b""), waits.number, waits.content_hash).await;
    assert_eq!(refused(late), Reason::AlreadyExists);
}

#[tokio::test]
async fn many_small_changes_of_a_day_are_one_large_one() {
    let mut rig = rig().await;
    let (app, pool) = (rig.app.clone(), rig.pool.clone());
    rig.set_time(60);
    rig.effect("airdrop", EffectKind::TransferIn { transfer: None, amount: units(100) }, 50).await;
    let mut settings = app.pool_state(&pool).await.unwrap().settings;
    settings.approval.single_person_limit = units(7);
    let request = rig.request();
    let _ = app.update_pool(&request, &pool, None, None, Some(settings)).await.unwrap();
    app.approve_waiting().await;
    let mut numbered = 0;
    let mut record = async |rig: &mut Rig, amount| {
        numbered += 1;
        let key = EffectKey { transaction: TransactionId::new(&format!("airdrop-{numbered}")).unwrap(), index: 0 };
        let request = rig.request();
        let _ = rig.app.record_receipt(&request, &rig.pool, &Reward { key, ..reward(amount) }, "seen").await.unwrap();
        (rig.claim(ClaimAccount::Undistributed).await, rig.app.waiting().await.len())
    };
    assert_eq!(record(&mut rig, 4).await, (4, 0));
    assert_eq!(record(&mut rig, 4).await, (4, 1), "together they are past the limit");
    assert_eq!(record(&mut rig, 3).await, (7, 1), "what waits does not count");
    assert_eq!(record(&mut rig, 1).await, (7, 2));
    app.approve_waiting().await;
    assert_eq!(rig.claim(ClaimAccount::Undistributed).await, 12);
    // The count outlives the process, and ends with the day.
    let mut rig = rig.restart().await;
    assert_eq!(record(&mut rig, 1).await, (12, 1), "nor does what two have approved make room");
    let day = i64::from(crate::domain::time::DAY_SECONDS);
    rig.set_time(day - at(0).get().rem_euclid(day));
    assert_eq!(record(&mut rig, 7).await, (19, 1));
}

#[tokio::test]
async fn a_crash_leaves_an_approved_change_whole_or_waiting() {
    for (commit, after) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut rig = rig().await;
        let request = rig.request();
        let _ = rig.app.pause_pool(&request, &rig.pool, "a look").await.unwrap();
        let request = rig.request();
        let _ = rig.app.resume_pool(&request, &rig.pool, "looked at").await.unwrap();
        let proposed = rig.app.waiting().await.pop().unwrap();
        let approve = by("second", "approve", b"");
        rig.die_at(commit, after);
        assert!(rig.app.approve(&approve, proposed.number, proposed.content_hash).await.is_err());
        let rig = rig.restart().await;
        let approved = rig.app.approval(proposed.number).await.unwrap().state == ApprovalState::Approved;
        assert_eq!(approved, paused(&rig).await.is_none(), "{commit} {after}");
        let (_, record) = rig.app.approve(&approve, proposed.number, proposed.content_hash).await.unwrap();
        assert_eq!((record.state, paused(&rig).await), (ApprovalState::Approved, None));
        // Numbers go on behind those that were given.
        let mut rig = rig;
        let request = rig.request();
        let _ = rig.app.pause_pool(&request, &rig.pool, "again").await.unwrap();
        let request = rig.request();
        let _ = rig.app.resume_pool(&request, &rig.pool, "again").await.unwrap();
        assert!(rig.app.waiting().await[0].number > proposed.number);
    }
}
