use super::*;
use crate::domain::eligibility::StandingChange;
use crate::domain::feed::RejectReason;
use crate::domain::ids::AssetId;
use crate::store::keys::tag;

#[tokio::test]
async fn half_the_period_is_half_the_weight_and_a_minute_is_a_minute() {
    let mut rig = Rig::open(16).await;
    let events = vec![
        event("whole", 1_000_000, 0),
        event("half", 1_000_000, LENGTH / 2),
        event("minute", 60_000_000, LENGTH - 60),
        event("never", 0, 10),
    ];
    let outcome = rig.send(batch(1, events), LENGTH - 40).await.unwrap();
    assert_eq!(outcome, EventsOutcome { durable_sequence: 4, ..EventsOutcome::default() });
    rig.act(Act::Freeze(0, LENGTH + 5)).await;
    let weights = rig.weights(0).await;
    assert_eq!(weights["whole"], 1_000_000 * 3_600);
    assert_eq!(weights["half"] * 2, weights["whole"]);
    assert_eq!(weights["minute"], 60_000_000 * 60);
    assert_eq!(weights["never"], 0);
    let frozen = rig.book.frozen(POOL, PeriodIndex(0)).await.unwrap().unwrap();
    assert_eq!((frozen.total.count, frozen.total.positive), (4, 3));
    assert!(frozen.cursors.contains(&(SOURCE, 4)));
    assert_eq!(frozen.end_total, BaseUnits::from_u64(62_000_000));
    assert!(rig.book.audit(POOL).unwrap().holds());
    let weight = rig.book.frozen_weight(POOL, &account("half"), PeriodIndex(0)).await.unwrap();
    assert_eq!(weight, Some(weights["half"]));
}

#[tokio::test]
async fn gaps_and_other_bodies_are_refused_and_repeats_get_the_first_answer() {
    let mut rig = Rig::open(4).await;
    let first = batch(1, vec![event("a", 1, 5), event("b", 2, 6), event("a", 3, -900 + 5)]);
    rig.send(first.clone(), 10).await.unwrap();
    let bad = event("b", 9, 4_000);
    let answer = rig.send(batch(4, vec![bad.clone(), event("b", 4, 7)]), 10).await.unwrap();
    assert_eq!(answer.rejected, [(4, RejectReason::FromFuture)]);
    let hash = rig.hash();
    assert_eq!(rig.send(batch(9, vec![event("a", 1, 5)]), 10).await, Err(Refusal::Gap { expected: 6 }));
    let other = batch(2, vec![event("b", 3, 6)]);
    assert_eq!(rig.send(other, 10).await, Err(Refusal::BodyMismatch { sequence: 2 }));
    let again = rig.send(batch(4, vec![bad, event("b", 4, 7)]), 3_999).await.unwrap();
    let repeated = EventsOutcome { repeated: 2, durable_sequence: 5, rejected: answer.rejected, ..Default::default() };
    assert_eq!(again, repeated);
    assert_eq!(rig.hash(), hash, "none of that changed anything");
    rig.reopen().await;
    let after = rig.send(batch(2, vec![event("b", 3, 6)]), 10).await;
    assert_eq!(after, Err(Refusal::BodyMismatch { sequence: 2 }), "bodies are known after a restart");
}

#[tokio::test]
async fn one_bad_event_does_not_wedge_its_feed() {
    let mut rig = Rig::open(4).await;
    let limit = BaseUnits::new(((1u128 << 127) - 1) / 13_600).unwrap();
    let huge = FeedEvent { balance: BaseUnits::MAX, ..event("a", 0, 5) };
    let unknown = FeedEvent { pool: EventPool::UnknownAsset("DOGE".into()), ..event("a", 7, 5) };
    let future = event("a", 9, 100);
    let events = vec![event("a", 1, 100), event("a", 2, 30), unknown, huge, future, event("a", 5, 101)];
    rig.book.add_source(SourceNumber(2));
    let outcome = rig.send(batch(1, events), 71).await.unwrap();
    let reasons: Vec<&str> = outcome.rejected.iter().map(|(_, reason)| reason.name()).collect();
    assert_eq!(reasons, ["TOO_OLD", "UNKNOWN_ASSET", "BALANCE_TOO_LARGE"]);
    assert_eq!(outcome.rejected[2], (4, RejectReason::BalanceTooLarge { limit }));
    let foreign = EventBatch { source: SourceNumber(2), ..batch(1, vec![event("a", 1, 101)]) };
    let outcome = rig.send(foreign, 101).await.unwrap();
    assert_eq!(outcome.rejected, [(1, RejectReason::NotOwner)]);
    let view = rig.book.position(POOL, &account("a"), at(101)).unwrap();
    assert_eq!((view.balance, view.last_sequence), (BaseUnits::from_u64(5), 6));
    rig.committer.step(at(102)).await.unwrap();
    let kept = rig.book.rejected_events(SOURCE, 1, 10).await.unwrap();
    assert_eq!(kept.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(kept[1].1.asset, "DOGE");
    assert_eq!(kept[2].1.reason, RejectReason::BalanceTooLarge { limit });
    rig.reopen().await;
    assert_eq!(rig.send(batch(7, vec![event("a", 6, 102)]), 102).await.unwrap().durable_sequence, 7);
}

#[tokio::test]
async fn a_period_that_is_not_open_holds_the_batch_back() {
    let mut rig = Rig::new(2).await;
    let none = rig.send(batch(1, vec![event("a", 1, 5)]), 5).await;
    assert_eq!(none, Err(Refusal::PeriodNotOpen { pool: POOL }));
    assert!(none.unwrap_err().is_retryable());
    rig.act(Act::Open(period(0), 0)).await;
    rig.send(batch(1, vec![event("a", 1, 5)]), 5).await.unwrap();
    let next = rig.send(batch(2, vec![event("a", 2, LENGTH)]), LENGTH).await;
    assert_eq!(next, Err(Refusal::PeriodNotOpen { pool: POOL }));
    rig.act(Act::Open(period(1), LENGTH)).await;
    rig.send(batch(2, vec![event("a", 2, LENGTH)]), LENGTH).await.unwrap();
    let unknown = FeedEvent { pool: EventPool::Pool(9), ..event("a", 1, LENGTH) };
    assert_eq!(rig.send(batch(3, vec![unknown]), LENGTH).await, Err(Refusal::UnknownPool { pool: 9 }));
    let stranger = EventBatch { source: SourceNumber(7), ..batch(1, vec![]) };
    assert_eq!(rig.send(stranger, 0).await, Err(Refusal::UnknownSource { number: SourceNumber(7) }));
    let large = batch(3, vec![event("a", 1, LENGTH); MAX_BATCH_EVENTS + 1]);
    assert_eq!(rig.send(large, LENGTH).await, Err(Refusal::BatchTooLarge { limit: MAX_BATCH_EVENTS }));
}

#[tokio::test]
async fn period_commands_are_idempotent_and_checked() {
    let mut rig = Rig::new(2).await;
    let ask = async |rig: &mut Rig, open: Result<OpenPeriod, u64>| {
        let receipt = match open {
            Ok(period) => rig.book.sender().open_period(POOL, period).unwrap(),
            Err(index) => rig.book.sender().freeze(POOL, PeriodIndex(index)).unwrap(),
        };
        rig.committer.step(at(0)).await.unwrap();
        receipt.await
    };
    assert!(matches!(ask(&mut rig, Ok(period(1))).await, Err(Refusal::Period(_))), "not the pool's start");
    assert!(matches!(ask(&mut rig, Err(0)).await, Err(Refusal::Period(_))), "nothing is open");
    assert_eq!(ask(&mut rig, Ok(period(0))).await, Ok(PeriodOutcome::Done));
    assert_eq!(ask(&mut rig, Ok(period(0))).await, Ok(PeriodOutcome::AlreadyDone));
    assert!(matches!(ask(&mut rig, Ok(period_with(0, 5))).await, Err(Refusal::Period(_))), "another policy");
    assert!(matches!(ask(&mut rig, Err(0)).await, Err(Refusal::Period(_))), "the next one is not open");
    assert!(matches!(ask(&mut rig, Ok(period(2))).await, Err(Refusal::Period(_))), "a hole");
    assert_eq!(ask(&mut rig, Ok(period(1))).await, Ok(PeriodOutcome::Done));
    assert!(matches!(ask(&mut rig, Ok(period(2))).await, Err(Refusal::Period(_))), "three unfrozen");
    assert_eq!(ask(&mut rig, Err(0)).await, Ok(PeriodOutcome::Done));
    assert_eq!(ask(&mut rig, Err(0)).await, Ok(PeriodOutcome::AlreadyDone));
    assert_eq!(ask(&mut rig, Ok(period(0))).await, Ok(PeriodOutcome::AlreadyDone));
    assert!(matches!(ask(&mut rig, Err(2)).await, Err(Refusal::Period(_))), "not the oldest");
}

#[tokio::test]
async fn an_opt_out_keeps_what_was_earned() {
    let mut rig = Rig::open(4).await;
    rig.send(batch(1, vec![event("a", 100, 0), event("b", 100, 0)]), 0).await.unwrap();
    let change =
        EnrolmentChange { pool: POOL, account: account("a"), change: StandingChange::OPT_OUT, at: at(LENGTH / 4) };
    let enrolment = Enrolment { sequence: 1, changes: vec![change] };
    rig.act(Act::Enrol(enrolment.clone(), LENGTH / 4)).await;
    let hash = rig.hash();
    rig.act(Act::Enrol(enrolment, LENGTH / 4)).await;
    assert_eq!(rig.hash(), hash, "the same entry again is a repeat");
    assert_eq!(rig.book.totals(POOL).unwrap().eligible_total, BaseUnits::from_u64(100));
    assert_eq!(rig.book.source_state(SourceNumber::ENROLMENT).unwrap().durable_sequence, 1);
    rig.act(Act::Freeze(0, LENGTH)).await;
    let weights = rig.weights(0).await;
    assert_eq!((weights["a"], weights["b"]), (100 * 900, 100 * 3_600));
}

#[tokio::test]
async fn an_enrolment_that_several_pools_reject_is_written_down_for_each() {
    let mut rig = Rig::open(2).await;
    let other = PoolSpec { number: POOL + 1, ..rig.spec };
    rig.book.add_pool(other).await.unwrap();
    let opened = rig.book.sender().open_period(other.number, period(0)).unwrap();
    rig.committer.step(at(0)).await.unwrap();
    assert_eq!(opened.await, Ok(PeriodOutcome::Done));
    let change = |pool| EnrolmentChange { pool, account: account("a"), change: StandingChange::OPT_OUT, at: at(3_000) };
    let enrolment = Enrolment { sequence: 1, changes: vec![change(POOL), change(other.number)] };
    rig.act(Act::Enrol(enrolment, 1_800)).await;
    // They go to disk with the next group, and a book that can't write them takes nothing more.
    rig.send(batch(1, vec![event("b", 1, 1_800)]), 1_800).await.unwrap();
    assert!(!rig.book.is_closed());
    let kept = rig.book.rejected_events(SourceNumber::ENROLMENT, 1, 10).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|(sequence, event)| (*sequence, event.pool, event.reason)).collect();
    assert_eq!(kept, [POOL, other.number].map(|pool| (1, Some(pool), RejectReason::FromFuture)));
}

#[tokio::test]
async fn late_events_count_in_the_open_period() {
    let mut rig = Rig::open(4).await;
    rig.send(batch(1, vec![event("a", 100, 0)]), 0).await.unwrap();
    rig.act(Act::Freeze(0, LENGTH + 10)).await;
    rig.act(Act::Open(period(2), LENGTH + 10)).await;
    let late = rig.send(batch(2, vec![event("a", 40, LENGTH - 10), event("a", 50, LENGTH - 5)]), LENGTH + 20).await;
    assert_eq!((late.clone().unwrap().late, late.unwrap().clamped), (2, 0));
    rig.act(Act::Freeze(1, 2 * LENGTH)).await;
    assert_eq!(rig.weights(0).await["a"], 100 * 3_600);
    // What the frozen period paid too much: 60 for ten seconds, less the 10 that came back for five.
    assert_eq!(rig.weights(1).await["a"], 50 * 3_600 - 60 * 10 + 10 * 5);
}

#[tokio::test]
async fn a_busy_store_delays_and_loses_nothing() {
    let mut rig = Rig::open(4).await;
    rig.store.busy_for(2);
    let receipt = rig.book.sender().submit_events(batch(1, vec![event("a", 100, 0)])).unwrap();
    assert!(rig.committer.step(at(0)).await.unwrap().busy);
    assert!(rig.committer.step(at(50)).await.unwrap().busy);
    assert_eq!(rig.book.totals(POOL).unwrap().positions, 0);
    let work = rig.committer.step(at(60)).await.unwrap();
    assert_eq!((work.events, work.busy), (1, false));
    assert_eq!(receipt.await.unwrap().durable_sequence, 1);
}

#[tokio::test]
async fn an_unknown_outcome_closes_the_book_until_it_is_reopened() {
    let mut rig = Rig::open(4).await;
    rig.store.die_after(1);
    let sender = rig.book.sender();
    let waiting = sender.submit_events(batch(1, vec![event("a", 100, 0)])).unwrap();
    let behind = sender.submit_events(batch(2, vec![event("a", 101, 1)])).unwrap();
    assert!(matches!(rig.committer.step(at(0)).await, Err(BookError::Closed(_))));
    assert!(matches!(waiting.await, Err(Refusal::Storage(_))));
    assert!(matches!(behind.await, Err(Refusal::Storage(_))));
    assert!(matches!(rig.send(batch(1, vec![event("a", 100, 0)]), 0).await, Err(Refusal::Storage(_))));
    assert!(rig.book.is_closed());
    rig.reopen().await;
    assert_eq!(rig.send(batch(1, vec![event("a", 100, 0)]), 0).await.unwrap().repeated, 0);
}

#[tokio::test]
async fn a_second_writer_is_found_out() {
    let mut rig = Rig::open(4).await;
    let mut other = Rig::over(rig.store.clone(), 4).await.unwrap();
    rig.send(batch(1, vec![event("a", 100, 0)]), 0).await.unwrap();
    let refused = other.send(batch(1, vec![event("a", 101, 0)]), 0).await;
    assert!(matches!(refused, Err(Refusal::Storage(_))));
    assert!(other.book.is_closed() && !rig.book.is_closed());
}

#[tokio::test]
async fn watermarks_ride_behind_their_events() {
    let mut rig = Rig::open(2).await;
    let with = EventBatch { watermark: Some(at(50)), ..batch(1, vec![event("a", 1, 5)]) };
    rig.send(with, 60).await.unwrap();
    rig.send(EventBatch { watermark: Some(at(70)), ..batch(2, vec![]) }, 80).await.unwrap();
    rig.send(EventBatch { watermark: Some(at(10)), ..batch(2, vec![]) }, 80).await.unwrap();
    let expected = SourceState { durable_sequence: 1, watermark: Some(at(70)) };
    assert_eq!(rig.book.source_state(SOURCE), Some(expected));
    rig.reopen().await;
    assert_eq!(rig.book.source_state(SOURCE), Some(expected));
    let gap = EventBatch { watermark: Some(at(90)), ..batch(3, vec![]) };
    assert_eq!(rig.send(gap, 90).await, Err(Refusal::Gap { expected: 2 }));
}

#[tokio::test]
async fn many_events_that_no_pool_takes_do_not_burst_a_commit() {
    let mut rig = Rig::open(4).await;
    let unknown = |n: u64| FeedEvent { pool: EventPool::UnknownAsset("DOGE".into()), ..event("a", n, 5) };
    let sender = rig.book.sender();
    let batches = 8;
    let most = MAX_BATCH_UNKNOWN as u64;
    let sent: Vec<_> = (0..batches)
        .map(|n| sender.submit_events(batch(n * most + 1, (0..most).map(unknown).collect())).unwrap())
        .collect();
    while rig.committer.has_work() {
        rig.committer.step(at(10)).await.unwrap();
    }
    for (n, receipt) in (1..).zip(sent) {
        let outcome = receipt.await.unwrap();
        assert!(outcome.durable_sequence >= n * most && outcome.rejected.len() == MAX_BATCH_UNKNOWN);
    }
    let kept = rig.book.rejected_events(SOURCE, 1, 10_000).await.unwrap();
    assert_eq!(kept.len() as u64, batches * most);
    let too_many = batch(batches * most + 1, (0..=most).map(unknown).collect());
    assert_eq!(rig.send(too_many, 10).await, Err(Refusal::TooManyUnknown { limit: MAX_BATCH_UNKNOWN }));
}

#[tokio::test]
async fn a_pool_total_past_all_bounds_is_rejected_the_same_in_any_partitioning() {
    for partitions in [1, 7] {
        let mut rig = Rig::open(partitions).await;
        let limit = BaseUnits::new(((1u128 << 127) - 1) / 13_600).unwrap();
        let names: Vec<String> = (0..4_000).map(|i| format!("whale-{i}")).collect();
        let events = names.iter().map(|name| FeedEvent { balance: limit, ..event(name, 0, 0) }).collect();
        let outcome = rig.send(batch(1, events), 0).await.unwrap();
        let fits = (crate::domain::feed::MAX_POOL_TOTAL / limit.get()) as usize;
        assert_eq!(outcome.rejected.len(), 4_000 - fits);
        assert_eq!(outcome.rejected[0], (fits as u64 + 1, RejectReason::PoolTotalTooLarge));
        let hash = rig.hash();
        rig.reopen().await;
        assert_eq!(rig.hash(), hash);
    }
}

#[tokio::test]
async fn what_is_broken_is_refused_by_name() {
    async fn written() -> Rig {
        let mut rig = Rig::open(1).await;
        for n in 0..6 {
            rig.send(batch(n + 1, vec![event("a", n, n as i64)]), 10).await.unwrap();
        }
        rig
    }
    let reopen = async |rig: Rig| Rig::over(rig.store.clone(), 1).await.err();
    let book = crate::store::PartitionId::book(POOL, 0).0;
    let rig = written().await;
    rig.store.tamper(tag::JOURNAL, 4, |value| value[20] ^= 4);
    assert_eq!(reopen(rig).await, Some(BookError::JournalBroken { partition: book, group: 5 }));
    let rig = written().await;
    rig.store.remove(tag::JOURNAL, 3);
    assert_eq!(reopen(rig).await, Some(BookError::JournalBroken { partition: book, group: 4 }));
    let rig = written().await;
    rig.store.remove(tag::JOURNAL, 7);
    assert_eq!(reopen(rig).await, Some(BookError::JournalBroken { partition: book, group: 8 }), "a lost tail");
    let rig = written().await;
    rig.store.tamper(tag::JOURNAL_HEADS, 0, |value| value[3] ^= 1);
    assert!(matches!(reopen(rig).await, Some(BookError::Damaged { .. })));
    let rig = written().await;
    rig.store.tamper(tag::BODY_HASHES, 0, |value| value[3] ^= 1);
    assert!(matches!(reopen(rig).await, Some(BookError::Damaged { .. })));
    let mut rig = written().await;
    rig.act(Act::Checkpoint).await;
    rig.store.tamper(tag::PAGE, 0, |value| value[30] ^= 1);
    assert!(matches!(reopen(rig).await, Some(BookError::Damaged { .. })));
    let rig = written().await;
    let layout = Rig::over(rig.store.clone(), 2).await.err();
    assert!(matches!(layout, Some(BookError::Spec { .. })));
}

#[tokio::test]
async fn a_repeat_of_what_no_pool_took_is_a_repeat_once_one_would() {
    let mut rig = Rig::open(2).await;
    let unknown = FeedEvent { pool: EventPool::UnknownAsset("DOGE".into()), ..event("a", 7, 5) };
    rig.send(batch(1, vec![unknown, event("b", 1, 5)]), 10).await.unwrap();
    rig.book.name_asset(POOL, AssetId::new("DOGE").unwrap());
    let again = rig.send(batch(1, vec![event("a", 7, 5), event("b", 1, 5), event("a", 8, 6)]), 10).await.unwrap();
    assert_eq!((again.repeated, again.durable_sequence), (2, 3));
    assert_eq!(again.rejected, [(1, RejectReason::UnknownAsset)]);
    let other = rig.send(batch(1, vec![event("a", 9, 5)]), 10).await;
    assert_eq!(other, Err(Refusal::BodyMismatch { sequence: 1 }));
}

#[tokio::test]
async fn a_broken_equation_is_told_and_stops_nothing() {
    let mut rig = Rig::open(2).await;
    rig.send(batch(1, vec![event("a", 100, 0)]), 0).await.unwrap();
    rig.book.break_curve(POOL, PeriodIndex(0), at(5));
    assert!(!rig.book.audit(POOL).unwrap().holds());
    let receipt = rig.book.sender().freeze(POOL, PeriodIndex(0)).unwrap();
    let mut breaches = 0;
    for _ in 0..5 {
        breaches += rig.committer.step(at(LENGTH)).await.unwrap().breaches;
    }
    assert_eq!(receipt.await, Ok(PeriodOutcome::Done));
    assert_eq!(breaches, 1);
    let asked = rig.book.frozen(POOL, PeriodIndex(0)).await;
    assert!(matches!(asked, Err(BookError::EquationBroken { .. })));
    assert!(rig.send(batch(2, vec![event("a", 7, LENGTH)]), LENGTH).await.is_ok());
}

#[tokio::test]
async fn a_full_group_stays_below_the_stores_limits() {
    let mut rig = Rig::open(16).await;
    let sender = rig.book.sender();
    let mut receipts = Vec::new();
    for n in 0..6u64 {
        let name = |i: usize| format!("{:0>64}", n * 10_000 + i as u64);
        let wild = |i: usize| if i.is_multiple_of(2) { at(-1_000_000_000) } else { at(3) };
        let event =
            |i: usize| FeedEvent { balance: BaseUnits::new(1 << 100).unwrap(), at: wild(i), ..event(&name(i), 0, 0) };
        let events = (0..MAX_BATCH_EVENTS).map(event).collect();
        receipts.push(sender.submit_events(batch(1 + n * MAX_BATCH_EVENTS as u64, events)).unwrap());
    }
    while rig.committer.has_work() {
        rig.committer.step(at(0)).await.unwrap();
    }
    for receipt in receipts {
        assert_eq!(receipt.await.unwrap().rejected, []);
    }
    assert!(rig.store.largest_commit() < crate::store::MAX_COMMIT_BYTES, "{}", rig.store.largest_commit());
    assert!(rig.store.largest_commit() > 300_000, "{}", rig.store.largest_commit());
    let hash = rig.hash();
    rig.act(Act::Checkpoint).await;
    rig.reopen().await;
    assert_eq!(rig.hash(), hash);
    assert!(rig.book.audit(POOL).unwrap().holds());
}

#[tokio::test]
async fn a_position_is_handed_over_once_and_keeps_its_weight() {
    const OTHER: SourceNumber = SourceNumber(9);
    let mut rig = Rig::open(4).await;
    rig.book.add_source(OTHER);
    rig.send(batch(1, vec![event("a", 100, 0), event("b", 50, 0)]), 10).await.unwrap();
    let over = |name: &str, from, to| HandOver { pool: POOL, account: account(name), from, to };
    assert_eq!(rig.hand_over(over("nobody", SOURCE, OTHER)).await, Err(Refusal::UnknownPosition { pool: POOL }));
    assert_eq!(
        rig.hand_over(over("a", OTHER, SourceNumber(7))).await,
        Err(Refusal::UnknownSource { number: SourceNumber(7) })
    );
    assert_eq!(rig.hand_over(over("a", OTHER, OTHER)).await, Err(Refusal::NotOwner));
    rig.act(Act::Checkpoint).await;
    assert_eq!(rig.hand_over(over("a", SOURCE, OTHER)).await, Ok(PeriodOutcome::Done));
    assert_eq!(rig.hand_over(over("a", SOURCE, OTHER)).await, Ok(PeriodOutcome::AlreadyDone));
    let hash = rig.hash();
    rig.reopen().await;
    rig.book.add_source(OTHER);
    assert_eq!(rig.hash(), hash);
    assert_eq!(rig.book.position(POOL, &account("a"), at(20)).unwrap().owner, Some(OTHER));
    let refused = rig.send(batch(3, vec![event("a", 7, 30)]), 40).await.unwrap();
    assert_eq!(refused.rejected, [(3, RejectReason::NotOwner)]);
    let taken = EventBatch { source: OTHER, first_sequence: 1, events: vec![event("a", 200, 1_800)], watermark: None };
    assert_eq!(rig.send(taken, 1_800).await.unwrap().rejected, []);
    rig.act(Act::Freeze(0, LENGTH + 5)).await;
    assert_eq!(rig.weights(0).await["a"], 100 * 1_800 + 200 * 1_800);
    assert!(rig.book.audit(POOL).unwrap().holds());
}

/// What was sent before the freeze is in it and what was sent after it is late, though all of it waited in one queue.
#[tokio::test]
async fn an_event_is_late_if_and_only_if_its_sequence_lies_past_the_cursor() {
    for partitions in [1, 5] {
        let mut rig = Rig::open(partitions).await;
        let names: Vec<String> = (0..12).map(|n| format!("racer-{n}")).collect();
        let batch_at =
            |first, units, second| batch(first, names.iter().map(|name| event(name, units, second)).collect());
        let sender = rig.book.sender();
        let before = sender.submit_events(batch_at(1, 10, 0)).unwrap();
        let also = sender.submit_events(batch_at(13, 20, LENGTH - 10)).unwrap();
        let cut = sender.freeze(POOL, PeriodIndex(0)).unwrap();
        let after = sender.submit_events(batch_at(25, 50, LENGTH - 4)).unwrap();
        let open = sender.submit_events(batch_at(37, 60, LENGTH)).unwrap();
        while rig.committer.has_work() {
            rig.committer.step(at(LENGTH + 5)).await.unwrap();
        }
        let late = [before.await, also.await, after.await, open.await].map(|outcome| outcome.unwrap().late);
        assert_eq!((cut.await, late), (Ok(PeriodOutcome::Done), [0, 0, 12, 0]));
        let frozen = rig.book.frozen(POOL, PeriodIndex(0)).await.unwrap().unwrap();
        assert!(frozen.cursors.contains(&(SOURCE, 24)));
        assert!(rig.weights(0).await.values().all(|weight| *weight == 10 * (3_600 - 10) + 20 * 10));
        let totals = rig.book.totals(POOL).unwrap();
        assert_eq!(totals.open[0].adjusted.up, U256::from(12 * (50 - 20) * 4));
        rig.act(Act::Open(period(2), LENGTH)).await;
        rig.act(Act::Freeze(1, 2 * LENGTH)).await;
        assert!(rig.weights(1).await.values().all(|weight| *weight == 60 * 3_600 + 30 * 4));
    }
}

#[tokio::test]
async fn a_rest_outlives_checkpoints_and_is_shown_until_it_is_collected() {
    let mut rig = Rig::open(3).await;
    rig.send(batch(1, vec![event("a", 100, 0), event("b", 7, 0)]), 0).await.unwrap();
    rig.act(Act::Freeze(0, LENGTH + 10)).await;
    rig.act(Act::Open(period(2), LENGTH + 10)).await;
    rig.send(batch(3, vec![event("a", 0, 600)]), LENGTH + 20).await.unwrap();
    let owed = U256::from(100 * 3_000);
    let shown = |rig: &Rig, name: &str| rig.book.position(POOL, &account(name), at(LENGTH + 20)).unwrap().uncollected;
    assert_eq!((shown(&rig, "a"), shown(&rig, "b")), (owed, U256::ZERO));
    assert_eq!(rig.book.totals(POOL).unwrap().uncollected, owed);
    let hash = rig.hash();
    rig.act(Act::Checkpoint).await;
    rig.reopen().await;
    assert_eq!((rig.hash(), shown(&rig, "a")), (hash, owed));
    assert!(rig.book.audit(POOL).unwrap().holds());
    rig.send(batch(4, vec![event("a", 200, 2 * LENGTH - 1_000)]), 2 * LENGTH - 1_000).await.unwrap();
    rig.act(Act::Freeze(1, 2 * LENGTH)).await;
    rig.act(Act::Open(period(3), 2 * LENGTH)).await;
    assert_eq!(rig.weights(1).await["a"], 0);
    assert_eq!(shown(&rig, "a"), owed - U256::from(200 * 1_000));
    rig.act(Act::Freeze(2, 3 * LENGTH)).await;
    assert_eq!(rig.weights(2).await["a"], 200 * 3_600 - 100_000);
    let frozen = rig.book.frozen(POOL, PeriodIndex(2)).await.unwrap().unwrap();
    assert_eq!((frozen.adjusted.up, frozen.adjusted.down), (U256::ZERO, U256::from(100_000)));
    assert_eq!((rig.book.totals(POOL).unwrap().uncollected, shown(&rig, "a")), (U256::ZERO, U256::ZERO));
    assert!(rig.book.audit(POOL).unwrap().holds());
}
