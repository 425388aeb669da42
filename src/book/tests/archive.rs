//! What is trimmed is kept: archive and journal together are the whole history, whatever dies in between.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::histories::{acts, run, steps};
use super::*;
use crate::book::pool::{Mode, Pool};
use crate::store::{PartitionId, keys::tag};

fn history() -> (Vec<Act>, u64) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = loop {
        let steps = steps(60).new_tree(&mut runner).unwrap().current();
        if steps.len() > 45 {
            break steps;
        }
    };
    let (acts, frozen) = acts(&steps, true);
    let trims = |(n, act)| if n % 6 == 5 { vec![act, Act::Checkpoint] } else { vec![act] };
    let mut acts: Vec<Act> = acts.into_iter().enumerate().flat_map(trims).collect();
    // The last of it stays in the journal.
    let sent = |act: &Act| match act {
        Act::Events(batch, when) => Some((batch.first_sequence + batch.events.len() as u64, *when)),
        _ => None,
    };
    let (next, when) = acts.iter().filter_map(sent).next_back().unwrap();
    acts.push(Act::Checkpoint);
    acts.push(Act::Events(batch(next, vec![event("last", 5, when)]), when));
    (acts, frozen)
}

/// All that is kept of every partition, a few groups at a time.
async fn kept<S: Mortal>(rig: &RigOver<S>, limit: usize) -> Vec<Vec<JournalGroup>> {
    let mut all = Vec::new();
    for partition in 0..rig.spec.partitions {
        let mut groups: Vec<JournalGroup> = Vec::new();
        loop {
            let from = groups.last().map_or(0, |group| group.number + 1);
            let more = rig.book.archived_events(POOL, partition, from, limit).await.unwrap();
            assert!(more.len() <= limit);
            if more.is_empty() {
                break;
            }
            groups.extend(more);
        }
        let first = groups.first().map_or(1, |group| group.number);
        let numbers: Vec<u64> = groups.iter().map(|group| group.number).collect();
        let head = rig.book.totals(POOL).unwrap().groups[usize::from(partition)];
        let gapless = numbers.is_empty() || numbers == (first..=head).collect::<Vec<_>>();
        assert!(gapless, "partition {partition}, up to {head}: {numbers:?}");
        all.push(groups);
    }
    all
}

/// Every balance that is kept, by its sequence.
fn balances(kept: &[Vec<JournalGroup>]) -> BTreeMap<u64, (String, u64, i64)> {
    let mut found = BTreeMap::new();
    for record in kept.iter().flatten().flat_map(|group| &group.records) {
        if let JournalRecord::Balance { account, sequence, at: when, balance, .. } = record {
            let seen = (account.as_str().to_owned(), balance.get() as u64, when.get() - at(0).get());
            assert_eq!(found.insert(*sequence, seen), None, "sequence {sequence} stands twice");
        }
    }
    found
}

/// Every balance that was sent and not turned away before it was journalled.
fn sent(acts: &[Act]) -> BTreeMap<u64, (String, u64, i64)> {
    let mut all = BTreeMap::new();
    for act in acts {
        let Act::Events(batch, _) = act else { continue };
        for (sequence, event) in (batch.first_sequence..).zip(&batch.events) {
            let when = event.at.get() - at(0).get();
            all.insert(sequence, (event.account.as_str().to_owned(), event.balance.get() as u64, when));
        }
    }
    all
}

/// The state of a book that was given nothing but these groups.
async fn replayed(kept: &[Vec<JournalGroup>]) -> U256 {
    let rig = Rig::new(kept.len() as u16).await;
    let pool = Pool::new(rig.spec);
    for (partition, groups) in kept.iter().enumerate() {
        for group in groups {
            let mode = Mode { counted: true, keep_weights: false };
            pool.apply(partition, group.number, group.now, &group.records, &[], mode);
        }
    }
    pool.settle();
    write(&rig.book.shared.pools).insert(POOL, Arc::new(pool));
    rig.hash()
}

async fn archive_len(rig: &Rig) -> usize {
    rig.store.keys(tag::ARCHIVE)
}

#[tokio::test]
async fn archive_and_journal_are_every_event_and_replay_to_the_same_state() {
    let (acts, frozen) = history();
    for partitions in [1, 3] {
        let (rig, _, hash) = run(&acts, frozen, partitions).await;
        let (archived, journal) = (archive_len(&rig).await, rig.store.keys(tag::JOURNAL));
        assert!(archived > 3 && journal > 0, "{archived} archived, {journal} in the journal");
        let all = kept(&rig, usize::MAX).await;
        assert_eq!(kept(&rig, 3).await, all, "a few at a time");
        let (found, sent) = (balances(&all), sent(&acts));
        assert!(found.len() > 20);
        for (sequence, event) in &found {
            assert_eq!(Some(event), sent.get(sequence));
        }
        for sequence in sent.keys().filter(|sequence| !found.contains_key(sequence)) {
            let rejected = rig.book.rejected_events(SOURCE, *sequence, 1).await.unwrap();
            assert_eq!(rejected.first().map(|(of, _)| of), Some(sequence), "it was never journalled");
        }
        assert_eq!(replayed(&all).await, hash);
        assert!(rig.store.largest_commit() <= crate::store::MAX_COMMIT_BYTES);
    }
}

#[tokio::test]
async fn death_at_any_batch_loses_and_doubles_nothing_of_the_history() {
    let (acts, frozen) = history();
    let (whole, _, hash) = run(&acts, frozen, 2).await;
    let all = kept(&whole, usize::MAX).await;
    let expected = balances(&all);
    for dies_after in 0..whole.store.batches() {
        let mut rig = Rig::new(2).await;
        rig.store.die_after(dies_after);
        for act in &acts {
            rig.act(act.clone()).await;
        }
        assert_eq!(rig.reopened, 1, "death after {dies_after}");
        let all = kept(&rig, usize::MAX).await;
        assert_eq!(balances(&all), expected, "death after {dies_after}");
        assert_eq!(replayed(&all).await, hash, "death after {dies_after}");
    }
}

/// Large groups, small ones, and random names: whole groups are moved, within the store's limits.
#[tokio::test]
async fn large_groups_are_archived_whole_and_within_the_limits() {
    let mut rig = Rig::open(1).await;
    let mut sequence = 1;
    for round in 0..3 {
        let name = |i: u64| blake3::hash(&(round * 100_000 + i).to_le_bytes()).to_hex().to_string();
        let events: Vec<FeedEvent> = (0..4_000).map(|i| event(&name(i), i * 1_000_003, round as i64)).collect();
        rig.send(batch(sequence, events), round as i64).await.unwrap();
        sequence += 4_000;
        for i in 0..900 {
            rig.send(batch(sequence, vec![event("small", i, 10)]), 10).await.unwrap();
            sequence += 1;
        }
    }
    rig.store.busy_for(0);
    rig.act(Act::Checkpoint).await;
    assert_eq!(rig.store.keys(tag::JOURNAL), 0);
    let all = kept(&rig, 700).await;
    assert_eq!(balances(&all).len() as u64, sequence - 1);
    assert_eq!(replayed(&all).await, rig.hash());
    assert!(rig.store.largest_commit() <= crate::store::MAX_COMMIT_BYTES);
}

#[tokio::test]
async fn a_busy_store_delays_trimming_and_loses_nothing() {
    let mut rig = Rig::open(2).await;
    for i in 0..20 {
        rig.send(batch(i + 1, vec![event(&format!("a{i}"), i, 5)]), 5).await.unwrap();
    }
    rig.committer.begin_checkpoint();
    let mut steps = 0;
    while rig.committer.checkpoint_step(at(6)).await.unwrap().more {
        rig.store.busy_for(steps % 2);
        steps += 1;
        assert_eq!(balances(&kept(&rig, 4).await).len(), 20, "after step {steps}");
    }
    assert_eq!(rig.store.keys(tag::JOURNAL), 0);
}

/// One checkpoint at `now`.
async fn checkpoint(rig: &mut Rig, now: i64) {
    rig.committer.begin_checkpoint();
    while rig.committer.checkpoint_step(at(now)).await.unwrap().more {}
}

#[tokio::test]
async fn only_what_is_old_enough_is_removed() {
    let keep = 2 * LENGTH + i64::from(LIMITS.max_lateness_seconds);
    let mut rig = Rig::open(1).await;
    for i in 0..5 {
        rig.send(batch(i + 1, vec![event("a", i, i as i64)]), i as i64 * 10).await.unwrap();
        checkpoint(&mut rig, i as i64 * 10).await;
    }
    let oldest =
        async |rig: &Rig| kept(rig, 9).await[0].first().map(|group| (group.number, group.now.get() - at(0).get()));
    assert_eq!(oldest(&rig).await, Some((1, 0)));
    checkpoint(&mut rig, 20 + keep).await;
    assert_eq!(oldest(&rig).await, Some((5, 20)), "what is exactly old enough stays");
    let refused = rig.book.archived_events(POOL, 0, 4, 9).await;
    assert_eq!(refused, Err(BookError::NotKept { partition: PartitionId::book(POOL, 0).0, oldest: 5 }));
    checkpoint(&mut rig, 21 + keep).await;
    assert_eq!(oldest(&rig).await, Some((6, 30)));
    checkpoint(&mut rig, 1 << 40).await;
    assert_eq!((oldest(&rig).await, archive_len(&rig).await), (None, 0));
    rig.send(batch(6, vec![event("a", 9, 50)]), 50).await.unwrap();
    checkpoint(&mut rig, 50).await;
    assert_eq!(oldest(&rig).await, Some((8, 50)), "it goes on where nothing is left");
    let hash = rig.hash();
    rig.reopen().await;
    assert_eq!(rig.hash(), hash);
}

#[tokio::test]
async fn a_longer_period_of_before_and_the_settings_keep_it_longer() {
    let mut rig = Rig::new(1).await;
    let mut long = period(0);
    long.bounds = PeriodBounds::new(at(0), 10 * LENGTH as u32).unwrap();
    let mut short = period(1);
    short.bounds = PeriodBounds::new(long.bounds.end, LENGTH as u32).unwrap();
    rig.act(Act::Open(long, 0)).await;
    rig.act(Act::Open(short, 0)).await;
    rig.act(Act::Freeze(0, 10 * LENGTH)).await;
    checkpoint(&mut rig, 10 * LENGTH).await;
    let archives = archive_len(&rig).await;
    let keep = 20 * LENGTH + i64::from(LIMITS.max_lateness_seconds);
    checkpoint(&mut rig, 10 * LENGTH + keep).await;
    assert_eq!((archive_len(&rig).await, archives), (1, 1), "the frozen period was longer than the open one");
    rig.reopen().await;
    checkpoint(&mut rig, 10 * LENGTH + keep).await;
    assert_eq!(archive_len(&rig).await, 1, "nor is it forgotten when the book is opened again");
    for config in [
        BookConfig { archive_for_ever: true, ..BookConfig::default() },
        BookConfig { archive_seconds: keep as u64 + 1, ..BookConfig::default() },
    ] {
        let (book, mut committer) = Book::open(rig.store.clone(), vec![rig.spec], config).await.unwrap();
        while committer.checkpoint_step(at(10 * LENGTH + keep + 1)).await.unwrap().more {}
        assert_eq!(book.archived_events(POOL, 0, 1, 9).await.unwrap().len(), 3);
    }
    checkpoint(&mut rig, 10 * LENGTH + keep + 1).await;
    assert_eq!(archive_len(&rig).await, 0);
}

#[tokio::test]
async fn damage_and_gaps_are_named() {
    let ready = async || {
        let mut rig = Rig::open(1).await;
        for i in 0..4 {
            rig.send(batch(i + 1, vec![event("a", i, 5)]), 5).await.unwrap();
            if i < 3 {
                checkpoint(&mut rig, 5).await;
            }
        }
        assert!(archive_len(&rig).await == 3 && rig.book.archived_events(POOL, 0, 0, 99).await.unwrap().len() == 6);
        rig
    };
    let rig = ready().await;
    rig.store.tamper(tag::ARCHIVE, 1, |value| value[40] ^= 1);
    let error = rig.book.archived_events(POOL, 0, 0, 99).await.unwrap_err();
    assert!(matches!(error, BookError::Damaged { what: "an archive of the journal", .. }), "{error}");
    assert_eq!(rig.book.archived_events(POOL, 0, 5, 99).await.unwrap().len(), 2, "what follows is sound");
    for gap in [1, 2] {
        let rig = ready().await;
        rig.store.remove(tag::ARCHIVE, gap);
        let error = rig.book.archived_events(POOL, 0, 0, 99).await.unwrap_err();
        assert!(matches!(error, BookError::JournalBroken { group, .. } if group == 3 + gap as u64), "{error}");
    }
    let rig = ready().await;
    rig.store.tamper(tag::JOURNAL, 0, |value| value[20] ^= 1);
    let error = rig.book.archived_events(POOL, 0, 0, 99).await.unwrap_err();
    assert!(matches!(error, BookError::JournalBroken { group: 6, .. }), "{error}");
}

/// What is no longer kept can't be told, and what the position itself says still is.
#[tokio::test]
async fn a_history_says_from_when_on_it_is_exact() {
    let keep = 2 * LENGTH + i64::from(LIMITS.max_lateness_seconds);
    let mut rig = Rig::open(1).await;
    rig.send(batch(1, vec![event("a", 5, 10), event("b", 6, 10)]), 10).await.unwrap();
    checkpoint(&mut rig, 10).await;
    rig.send(batch(3, vec![event("a", 7, 600)]), 600).await.unwrap();
    checkpoint(&mut rig, 600).await;
    rig.send(batch(4, vec![event("a", 8, 900)]), 900).await.unwrap();
    let history = async |rig: &Rig, name: &str| rig.book.position_history(POOL, &account(name)).await.unwrap().unwrap();
    let whole = history(&rig, "a").await;
    assert_eq!((whole.known_from, whole.timeline.held().len()), (at(0), 4), "nothing, then three balances");
    checkpoint(&mut rig, 900).await;
    let archived = history(&rig, "a").await;
    assert_eq!(archived.timeline, whole.timeline, "trimming keeps the history");
    checkpoint(&mut rig, 601 + keep).await;
    rig.send(batch(5, vec![event("a", 9, 950)]), 950).await.unwrap();
    checkpoint(&mut rig, 601 + keep).await;
    let cut = history(&rig, "a").await;
    // The oldest group that is kept is of 900 or later, and nothing before it may lie more than 30 seconds ahead of it.
    assert!(cut.known_from >= at(900) && cut.known_from <= at(950), "{}", cut.known_from);
    assert_eq!(cut.timeline.last_balance(), Some(BaseUnits::from_u64(9)));
    let silent = history(&rig, "b").await;
    assert_eq!((silent.known_from, silent.timeline.last_balance()), (at(10), Some(BaseUnits::from_u64(6))));
}
