use super::*;
use crate::app::distribute::tests::rig::*;
use crate::domain::policy::ReleaseLimits;
use crate::domain::snapshot::DifferenceCause as Cause;

fn source() -> SourceId {
    SourceId::new("ledger").unwrap()
}

fn head(rig: &Rig, id: &str, next_sequence: u64, second: i64, apply: bool) -> SnapshotHead {
    let assets = vec![rig.pool.record.asset.clone()];
    SnapshotHead { source: source(), id: RequestId::new(id).unwrap(), next_sequence, assets, as_of: at(second), apply }
}

async fn ledger() -> Rig {
    let mut rig = Rig::new(3, ReleaseLimits::default()).await;
    rig.run().await.unwrap();
    let request = rig.request();
    let app = rig.app.clone();
    let _ = app.register_source(&request, source(), "the ledger").await.unwrap();
    rig
}

async fn feed(rig: &mut Rig, first: u64, events: &[(&str, u64, i64)]) {
    let app = rig.app.clone();
    let mut batch = app.feed_batch(&source(), first, None).unwrap();
    for (name, balance, second) in events {
        batch.push(account(name), rig.pool.record.asset.as_str(), units(*balance), at(*second));
    }
    rig.drive(batch.enter(&app)).await.unwrap();
}

/// The ledger vouches for everything before `second`.
async fn vouch(rig: &mut Rig, next: u64, second: i64) {
    let app = rig.app.clone();
    let batch = app.feed_batch(&source(), next, Some(at(second))).unwrap();
    rig.drive(batch.enter(&app)).await.unwrap();
}

fn gather(rig: &Rig, head: SnapshotHead, balances: &[(&str, u64)]) -> Snapshot {
    let asset = head.assets[0].clone();
    let mut snapshot = rig.app.begin_snapshot(head).unwrap();
    for (name, balance) in balances {
        assert!(snapshot.push(&rig.app, account(name), asset.as_str(), units(*balance)));
    }
    assert!(!snapshot.push(&rig.app, account("a"), "NONE", units(1)));
    snapshot.check_room().unwrap();
    snapshot
}

async fn take(rig: &mut Rig, snapshot: Snapshot) -> Result<SnapshotAnswer, AppError> {
    let app = rig.app.clone();
    let mut work = app.take_snapshot(snapshot);
    rig.drive(async {
        loop {
            match work.step(&app).await? {
                SnapshotStep::Done(answer) => return Ok(*answer),
                SnapshotStep::More => {}
                SnapshotStep::Full => panic!("the queue is empty"),
            }
        }
    })
    .await
}

async fn send(
    rig: &mut Rig,
    id: &str,
    next: u64,
    second: i64,
    apply: bool,
    balances: &[(&str, u64)],
) -> Result<SnapshotAnswer, AppError> {
    let snapshot = gather(rig, head(rig, id, next, second, apply), balances);
    take(rig, snapshot).await
}

fn causes(answer: &SnapshotAnswer) -> Vec<(&str, Cause)> {
    answer.differences.iter().map(|one| (one.seen.account.as_str(), one.cause)).collect()
}

fn reason(answer: Result<SnapshotAnswer, AppError>) -> Reason {
    match answer {
        Err(AppError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

fn balance(rig: &Rig, name: &str) -> u128 {
    let view = rig.app.book.position(rig.pool.number(), &account(name), rig.app.now());
    view.map_or(0, |view| view.balance.get())
}

#[tokio::test]
async fn differences_are_explained_and_nothing_is_changed_unless_told() {
    let mut rig = ledger().await;
    rig.set_time(500);
    rig.put("by-hand", 4, 10).await;
    feed(&mut rig, 1, &[("gone", 5, 10), ("other", 5, 10), ("ahead", 5, 300), ("old", 5, 400), ("same", 5, 10)]).await;
    // One too old, one from the future, and one that was accepted after it had been rejected.
    feed(&mut rig, 6, &[("old", 9, 20), ("future", 9, 900), ("other", 7, 9_000), ("other", 8, 20)]).await;
    let said = [("other", 9), ("ahead", 6), ("old", 9), ("future", 9), ("same", 5), ("new", 3), ("by-hand", 1)];
    let answer = send(&mut rig, "s", 10, 200, false, &said).await.unwrap();
    assert_eq!((answer.sequence, answer.difference_count, answer.applied_count), (9, 7, 0));
    let expected = [
        ("ahead", Cause::BookAhead),
        ("by-hand", Cause::OtherSource),
        ("future", Cause::EventRejected),
        ("gone", Cause::AbsentInSnapshot),
        ("new", Cause::AbsentInBook),
        ("old", Cause::EventTooOld),
        ("other", Cause::OtherBalance),
    ];
    assert_eq!(causes(&answer), expected);
    assert_eq!(answer.differences[2].rejected, Some((7, RejectReason::FromFuture)));
    assert_eq!(answer.differences[5].rejected, Some((6, RejectReason::TooOld)));
    assert_eq!(answer.differences[1].seen.held.unwrap().owner, Some(crate::app::ingest::PUT_BALANCE));
    assert_eq!((balance(&rig, "gone"), balance(&rig, "new")), (5, 0));
    // A report may be asked for as often as one likes.
    let again = send(&mut rig, "s", 10, 200, false, &said).await.unwrap();
    assert_eq!(again, answer);
}

#[tokio::test]
async fn what_can_be_applied_is_once_and_the_rest_is_listed_with_its_reason() {
    let mut rig = ledger().await;
    rig.set_time(500);
    rig.put("by-hand", 4, 10).await;
    feed(&mut rig, 1, &[("gone", 5, 10), ("other", 5, 10), ("ahead", 5, 400)]).await;
    let said = [("other", 9), ("ahead", 6), ("new", 3), ("by-hand", 1)];
    let answer = send(&mut rig, "s", 4, 100, true, &said).await.unwrap();
    assert_eq!((answer.difference_count, answer.applied_count, answer.refused_count), (5, 3, 2));
    let refused: Vec<_> = answer.differences.iter().map(|one| (one.seen.account.as_str(), one.refused)).collect();
    let expected = [
        ("ahead", Some(RejectReason::TooOld)),
        ("by-hand", Some(RejectReason::NotOwner)),
        ("gone", None),
        ("new", None),
        ("other", None),
    ];
    assert_eq!(refused, expected);
    assert_eq!(["gone", "other", "new", "ahead", "by-hand"].map(|name| balance(&rig, name)), [0, 9, 3, 5, 4]);
    let cursor = rig.app.cursor(&source()).unwrap();
    assert_eq!(cursor.durable_sequence, 3, "a snapshot consumes no sequence");

    // The same in another order, after the source has gone on and the process has died: the first answer.
    feed(&mut rig, 4, &[("new", 30, 450)]).await;
    let mut rig = rig.restart().await;
    let mut other_order = said;
    other_order.reverse();
    let again = send(&mut rig, "s", 4, 100, true, &other_order).await.unwrap();
    assert_eq!(again, SnapshotAnswer { repeated: true, ..answer });
    assert_eq!(balance(&rig, "new"), 30);
    // Another content under its id, and a snapshot of the past.
    assert_eq!(reason(send(&mut rig, "s", 4, 100, true, &said[1..]).await), Reason::RequestIdReused);
    assert_eq!(reason(send(&mut rig, "t", 4, 100, true, &said).await), Reason::SnapshotPassed);
    assert_eq!(reason(send(&mut rig, "t", 9, 100, true, &said).await), Reason::SequenceGap);
    assert_eq!(reason(send(&mut rig, "t", 5, 100, true, &[("a", 1), ("a", 1)]).await), Reason::InvalidValue);
}

#[tokio::test]
async fn one_that_a_crash_cuts_off_comes_to_the_same_as_one_that_none_does() {
    // More than one piece of them.
    let names: Vec<String> = (0..MAX_BATCH_EVENTS + 3_000).map(|n| format!("a{n:05}")).collect();
    let said: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 7)).collect();
    let mut first: Option<(SnapshotAnswer, ruint::aliases::U256)> = None;
    for dies_at in 0..8 {
        let mut rig = ledger().await;
        rig.set_time(500);
        rig.put("a00009", 4, 10).await;
        feed(&mut rig, 1, &[("gone", 5, 10)]).await;
        if dies_at > 0 {
            rig.die_at(dies_at - 1, dies_at % 2 == 0);
        }
        let mut sent = send(&mut rig, "s", 2, 100, true, &said).await;
        if sent.is_err() {
            rig = rig.restart().await;
            sent = send(&mut rig, "s", 2, 100, true, &said).await;
        }
        let answer = SnapshotAnswer { repeated: false, ..sent.unwrap() };
        assert_eq!((answer.difference_count, answer.refused_count), (said.len() as u64 + 1, 1));
        assert_eq!(answer.differences.len(), MAX_LISTED);
        assert_eq!(answer.differences.iter().filter(|one| one.refused.is_some()).count(), 1);
        let hash = rig.app.book.state_hash(rig.pool.number()).unwrap();
        match &first {
            None => first = Some((answer, hash)),
            Some((whole, whole_hash)) => {
                assert_eq!(answer, *whole, "death at {dies_at}");
                assert_eq!(hash, *whole_hash, "death at {dies_at}");
            }
        }
    }
}

#[tokio::test]
async fn what_another_source_moved_since_a_snapshot_was_cut_off_is_counted_too() {
    let mut rig = ledger().await;
    rig.set_time(500);
    rig.put("others", 4, 10).await;
    feed(&mut rig, 1, &[("own", 5, 10)]).await;
    let said = [("others", 4), ("own", 6)];
    rig.die_at(1, false);
    assert!(send(&mut rig, "s", 2, 100, true, &said).await.is_err());
    let mut rig = rig.restart().await;
    rig.put("others", 3, 110).await;
    let answer = send(&mut rig, "s", 2, 100, true, &said).await.unwrap();
    assert_eq!((answer.difference_count, answer.applied_count, answer.refused_count), (2, 1, 1));
    assert_eq!(answer.differences.len(), 2);
    assert_eq!((balance(&rig, "own"), balance(&rig, "others")), (6, 3));
    let again = send(&mut rig, "s", 2, 100, true, &said).await.unwrap();
    assert_eq!(again, SnapshotAnswer { repeated: true, ..answer });
}

#[tokio::test]
async fn a_new_pool_opens_from_a_snapshot() {
    let mut rig = ledger().await;
    rig.set_time(100);
    let answer = send(&mut rig, "opening", 1, 0, true, &[("a", 100), ("b", 300)]).await.unwrap();
    assert_eq!((answer.difference_count, answer.applied_count), (2, 2));
    rig.set_time(LENGTH);
    vouch(&mut rig, 1, LENGTH).await;
    rig.reward("r", 4_000, LENGTH - 5).await;
    rig.run().await.unwrap();
    rig.reconciled(LENGTH).await;
    rig.run().await.unwrap();
    // 3,600 after the fee, held through the whole period.
    assert_eq!(rig.payouts(0).await, [("a".to_owned(), 900), ("b".to_owned(), 2_700)]);
    // Behind the freeze a snapshot is late: the open period is lowered by what was paid too much.
    let answer = send(&mut rig, "late", 1, LENGTH - 1_800, true, &[("a", 100), ("b", 100)]).await.unwrap();
    assert_eq!((answer.difference_count, answer.applied_count), (1, 1));
    rig.set_time(2 * LENGTH);
    vouch(&mut rig, 1, 2 * LENGTH).await;
    rig.reward("s", 4_000, 2 * LENGTH - 5).await;
    rig.run().await.unwrap();
    rig.reconciled(2 * LENGTH).await;
    rig.run().await.unwrap();
    // b holds 100 x 3,600 less 200 x 1,800, which is nothing.
    assert_eq!(rig.payouts(1).await, [("a".to_owned(), 3_600)]);
    assert_eq!(rig.app.audit(&rig.pool, rig.app.now()).await.unwrap().broken(), None);
}

#[test]
fn what_is_held_is_bounded_and_given_back() {
    let room = Room { limit: 100, ..Room::default() };
    let place = || Place { room: room.clone(), bytes: 0 };
    let (mut one, mut other) = (place(), place());
    assert!(one.grow(60) && one.grow(60) && other.grow(40));
    assert!(!other.grow(41), "one byte too many");
    drop(one);
    assert!(other.grow(90));
    drop(other);
    assert_eq!(room.taken.load(Ordering::Relaxed), 0);
}
