//! What goes on beside the committer: room in its queue, and sealing.

use super::*;

#[tokio::test]
async fn a_full_queue_says_so() {
    let store = Arc::new(MemStore::default());
    let config = BookConfig { queue_commands: 2, queue_events: 3, ..BookConfig::default() };
    let (book, mut committer) = Book::open(store, vec![], config).await.unwrap();
    book.add_source(SOURCE);
    let sender = book.sender();
    let first = sender.submit_events(batch(1, vec![event("a", 1, 0); 3])).unwrap();
    assert_eq!(sender.submit_events(batch(1, vec![event("a", 1, 0)])).unwrap_err(), Overloaded);
    committer.wait_for_command().await;
    committer.step(at(0)).await.unwrap();
    assert_eq!(first.await, Err(Refusal::UnknownPool { pool: POOL }));
    assert_eq!(sender.queued_events(), 0);
    assert!(sender.submit_events(batch(1, vec![])).is_ok());
}

#[tokio::test]
async fn a_freeze_that_not_every_partition_has_made_is_not_sealed() {
    let mut rig = Rig::open(2).await;
    rig.act(Act::Events(batch(1, vec![event("a", 100, 0), event("b", 100, 0), event("c", 100, 0)]), 0)).await;
    let mut sealer = rig.committer.split_sealer();
    let pool = rig.committer.pools().remove(0);
    let freeze = journal::Record::Freeze { index: PeriodIndex(0), cursors: Vec::new() };
    pool.apply(0, 100, at(LENGTH), std::slice::from_ref(&freeze), &[], pool::Mode::LIVE);
    // The sealer's own task may look just now.
    assert!(!sealer.has_work());
    assert!(sealer.step().await.unwrap().is_idle());
    pool.apply(1, 100, at(LENGTH), &[freeze], &[], pool::Mode::LIVE);
    pool.settle();
    lock(&pool.freeze).as_mut().unwrap().complete();
    while sealer.has_work() {
        sealer.step().await.unwrap();
    }
    let frozen = rig.book.frozen(POOL, PeriodIndex(0)).await.unwrap().unwrap();
    assert_eq!(frozen.total.sum, U256::from(300 * LENGTH));
}

#[tokio::test]
async fn room_that_is_kept_is_nobody_elses_and_periods_need_none() {
    let store = Arc::new(MemStore::default());
    let config = BookConfig { queue_commands: 3, queue_events: 3, ..BookConfig::default() };
    let (book, mut committer) = Book::open(store, vec![], config).await.unwrap();
    book.add_source(SOURCE);
    let sender = book.sender();
    let kept = sender.room(3).unwrap();
    assert!(sender.room(1).is_none());
    drop(kept);
    assert_eq!(sender.queued_events(), 0);
    let kept = sender.room(2).unwrap();
    let one = sender.submit_events(batch(1, vec![event("a", 1, 0)])).unwrap();
    let freeze = sender.freeze(POOL, PeriodIndex(0)).unwrap();
    // Of the room for two it takes that for one.
    let other = kept.submit_events(batch(2, vec![event("a", 2, 0)]));
    assert_eq!(sender.queued_events(), 3);
    committer.wait_for_command().await;
    while committer.has_work() {
        committer.step(at(0)).await.unwrap();
    }
    assert_eq!(one.await, Err(Refusal::UnknownPool { pool: POOL }));
    assert_eq!(freeze.await, Err(Refusal::UnknownPool { pool: POOL }));
    assert_eq!(other.await, Err(Refusal::Gap { expected: 1 }));
    assert_eq!(sender.queued_events(), 0);
}

#[tokio::test]
async fn what_is_formed_while_the_store_syncs_is_published_once_it_is_durable() {
    let mut rig = Rig::open(2).await;
    let sender = rig.book.sender();
    // Of two batches that together are too large for one group, the second is formed while the first is committed.
    let many = |first: u64| (0..4_096).map(|n| event(&format!("account-{}", first + n), 100, 0)).collect();
    let first = sender.submit_events(batch(1, many(1))).unwrap();
    let second = sender.submit_events(batch(4_097, many(4_097))).unwrap();
    let third = sender.submit_events(batch(8_193, many(8_193))).unwrap();
    let durable = |rig: &Rig| rig.book.source_state(SOURCE).unwrap().durable_sequence;
    rig.committer.step(at(0)).await.unwrap();
    let published = durable(&rig);
    assert!(rig.committer.ahead.is_some() && published < 12_288, "{published}");
    assert_eq!(first.await.unwrap().durable_sequence, 4_096);
    while rig.committer.has_work() {
        rig.committer.step(at(0)).await.unwrap();
    }
    assert_eq!((second.await.unwrap().durable_sequence, third.await.unwrap().durable_sequence), (8_192, 12_288));
    assert_eq!(durable(&rig), 12_288);
}
