//! The book dies at every batch that it ever commits, is opened again, and comes to the same.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::histories::{acts, run, steps};
use super::*;
use crate::store::keys::tag;
use crate::store::model::{Crash, Fault, ModelStore};
use crate::store::sled::{SledOptions, SledStore};

impl Mortal for ModelStore {
    fn reborn(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(self.after(Crash::Power))
    }
}

fn history() -> (Vec<Act>, u64) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = loop {
        let steps = steps(60).new_tree(&mut runner).unwrap().current();
        if steps.len() > 45 {
            break steps;
        }
    };
    acts(&steps, true)
}

#[tokio::test]
async fn death_at_any_batch_loses_and_doubles_nothing() {
    let (acts, frozen) = history();
    let (whole, weights, hash) = run(&acts, frozen, 3).await;
    let batches = whole.store.batches();
    assert!(batches > 200, "{batches} batches are few");
    for dies_after in 0..batches {
        let mut rig = Rig::new(3).await;
        rig.store.die_after(dies_after);
        for act in &acts {
            rig.act(act.clone()).await;
        }
        assert_eq!(rig.reopened, 1, "death after {dies_after}");
        assert_eq!(rig.hash(), hash, "death after {dies_after}");
        for index in 0..frozen {
            assert_eq!(rig.weights(index).await, weights[index as usize], "death after {dies_after}, period {index}");
        }
        rig.reopen().await;
        assert_eq!(rig.hash(), hash, "death after {dies_after}, and once more");
    }
}

/// It dies again soon after it was opened, or while it is.
#[tokio::test]
async fn a_second_death_loses_and_doubles_nothing() {
    let (acts, frozen) = history();
    let (whole, weights, hash) = run(&acts, frozen, 2).await;
    let mut second_deaths = 0;
    for first in (1..whole.store.batches()).step_by(13) {
        for second in (0..60).step_by(3) {
            let mut rig = Rig::new(2).await;
            rig.store.die_after(first);
            rig.store.die_again_after(second);
            for act in &acts {
                rig.act(act.clone()).await;
            }
            second_deaths += usize::from(rig.reopened == 2);
            assert_eq!(rig.hash(), hash, "death after {first}, and {second} later");
            assert_eq!(rig.weights(frozen - 1).await, weights[frozen as usize - 1]);
        }
    }
    assert!(second_deaths > 200, "{second_deaths}");
}

/// Redoing what a page already has could decide otherwise than it was decided.
#[tokio::test]
async fn a_page_is_not_given_what_it_already_has() {
    let mut rig = Rig::open(1).await;
    rig.send(batch(1, vec![event("a", 5, 200)]), 200).await.unwrap();
    rig.committer.begin_checkpoint();
    let old = rig.send(batch(2, vec![event("a", 9, 100)]), 205).await.unwrap();
    assert_eq!(old.rejected.len(), 1);
    let change = EnrolmentChange {
        pool: POOL,
        account: account("a"),
        change: crate::domain::eligibility::StandingChange::OPT_IN,
        at: at(210),
    };
    rig.act(Act::Enrol(Enrolment { sequence: 1, changes: vec![change] }, 210)).await;
    while rig.committer.checkpoint_step(at(211)).await.unwrap().more {}
    let hash = rig.hash();
    rig.reopen().await;
    assert_eq!(rig.hash(), hash);
    let view = rig.book.position(POOL, &account("a"), at(211)).unwrap();
    assert_eq!(view.balance, BaseUnits::from_u64(5));
}

#[tokio::test]
async fn recovery_from_any_checkpoint_gives_the_same_state() {
    let (acts, _) = history();
    let mut rig = Rig::new(4).await;
    for (n, act) in acts.iter().enumerate() {
        rig.act(act.clone()).await;
        if n % 7 == 0 {
            let groups = rig.store.keys(tag::JOURNAL);
            rig.act(Act::Checkpoint).await;
            assert!(rig.store.keys(tag::JOURNAL) <= groups);
        }
        let hash = rig.hash();
        rig.reopen().await;
        assert_eq!(rig.hash(), hash, "after {n} acts");
        assert!(rig.book.audit(POOL).unwrap().holds());
    }
    rig.act(Act::Checkpoint).await;
    assert_eq!(rig.store.keys(tag::JOURNAL), 0, "all is in the checkpoint");
    let hash = rig.hash();
    rig.reopen().await;
    assert_eq!(rig.hash(), hash);
}

/// Events go on between the steps of a checkpoint.
#[tokio::test]
async fn a_checkpoint_is_fuzzy_and_exact() {
    let mut rig = Rig::open(2).await;
    let mut sequence = 0u64;
    let mut feed = async |rig: &mut Rig, accounts: std::ops::Range<u64>, second: i64| {
        let events: Vec<FeedEvent> = accounts.map(|i| event(&format!("a{i}"), i * 7 + second as u64, second)).collect();
        let first = sequence + 1;
        sequence += events.len() as u64;
        rig.send(batch(first, events), second).await.unwrap();
    };
    for second in 0..6 {
        feed(&mut rig, second * 4_000..(second + 1) * 4_000, second as i64).await;
    }
    rig.act(Act::Checkpoint).await;
    let pages = rig.store.keys(tag::PAGE);
    assert!(pages >= 24_000 / 44, "{pages}");
    feed(&mut rig, 0..3_000, 10).await;
    feed(&mut rig, 20_000..24_050, 11).await;
    rig.committer.begin_checkpoint();
    let mut second = 12;
    loop {
        let more = rig.committer.checkpoint_step(at(0)).await.unwrap().more;
        // What was captured changes again, and what was not, and accounts come new.
        feed(&mut rig, 0..40, second).await;
        feed(&mut rig, 22_000..22_040, second).await;
        feed(&mut rig, 30_000 + second as u64 * 100..30_000 + second as u64 * 100 + 90, second).await;
        second += 1;
        let hash = rig.hash();
        let other = Rig::over(rig.store.clone(), 2).await.unwrap();
        assert_eq!(other.hash(), hash, "at second {second}");
        if !more {
            break;
        }
    }
    assert!(second > 14, "several steps");
    rig.act(Act::Freeze(0, LENGTH)).await;
    rig.act(Act::Checkpoint).await;
    let (hash, weights) = (rig.hash(), rig.weights(0).await);
    rig.reopen().await;
    assert_eq!((rig.hash(), rig.weights(0).await), (hash, weights));
}

#[tokio::test]
async fn a_checkpoint_waits_while_a_freeze_is_unsealed() {
    let mut rig = Rig::open(2).await;
    rig.send(batch(1, (0..2_000).map(|i| event(&format!("a{i}"), i, 5)).collect()), 5).await.unwrap();
    rig.committer.begin_checkpoint();
    let receipt = rig.book.sender().freeze(POOL, PeriodIndex(0)).unwrap();
    // The group is committed; the store is too busy for the seal.
    rig.store.busy_for(0);
    let (now, store) = (at(LENGTH), rig.store.clone());
    rig.committer.step(now).await.unwrap();
    assert_eq!(receipt.await, Ok(PeriodOutcome::Done));
    store.busy_for(3);
    let before = store.batches();
    while read(&rig.book.shared.pools).values().any(|pool| lock(&pool.freeze).is_some()) {
        assert!(rig.committer.checkpoint_step(now).await.unwrap().is_idle());
        rig.committer.step(now).await.unwrap();
    }
    assert!(store.batches() > before);
    // The pages that are captured now are past the freeze, and the journal is read from before it.
    rig.send(batch(2_001, vec![event("a7", 70, LENGTH + 5), event("a7", 71, LENGTH + 9)]), LENGTH + 9).await.unwrap();
    while rig.committer.checkpoint_step(now).await.unwrap().more {}
    let hash = rig.hash();
    let journal = rig.store.keys(tag::JOURNAL);
    rig.reopen().await;
    assert_eq!(rig.hash(), hash);
    assert!(journal > 0, "what came after the checkpoint began is still read");
}

#[tokio::test]
async fn what_was_never_acknowledged_is_ignored_and_removed() {
    let mut rig = Rig::open(3).await;
    rig.send(batch(1, vec![event("a", 1, 0), event("b", 1, 0), event("c", 1, 0)]), 0).await.unwrap();
    let (hash, journal) = (rig.hash(), rig.store.keys(tag::JOURNAL));
    let names: Vec<String> = (0..500).map(|i| format!("z{i}")).collect();
    rig.store.die_after(2);
    let lost = rig.send(batch(4, names.iter().map(|name| event(name, 5, 1)).collect()), 1).await;
    assert!(matches!(lost, Err(Refusal::Storage(_))));
    assert!(rig.store.keys(tag::JOURNAL) > journal, "two partitions have it, the third does not");
    rig.reopen().await;
    assert_eq!(rig.hash(), hash);
    assert_eq!(rig.store.keys(tag::JOURNAL), journal);
    assert_eq!(rig.book.source_state(SOURCE).unwrap().durable_sequence, 3);
}

/// A step whose future is dropped while it commits, or just after, is taken up where it was.
#[tokio::test]
async fn a_dropped_step_loses_nothing() {
    let mut rig = Rig::open(2).await;
    let receipt = rig.book.sender().submit_events(batch(1, vec![event("a", 9, 0)])).unwrap();
    rig.committer.staged = rig.committer.stage(at(0));
    assert!(rig.committer.staged.is_none(), "nothing was drained yet");
    rig.store.busy_for(1);
    rig.committer.step(at(0)).await.unwrap();
    // The commit goes through, and the step that made it is gone.
    let batches = rig.committer.staged.as_ref().unwrap().batches.clone();
    crate::store::Store::commit(rig.store.as_ref(), batches).await.unwrap();
    let work = rig.committer.step(at(5)).await.unwrap();
    assert_eq!(work.events, 1);
    assert_eq!(receipt.await.unwrap().durable_sequence, 1);
    rig.store.remove_all(tag::PAGE);
    let hash = rig.hash();
    rig.reopen().await;
    assert_eq!(rig.hash(), hash);
}

/// The power fails in every commit: some of its batches are written, and fewer are on disk.
#[tokio::test]
async fn a_power_cut_in_any_commit_loses_and_doubles_nothing() {
    let (acts, frozen) = history();
    let (_, weights, hash) = run(&acts, frozen, 3).await;
    let mut fell = 0;
    for commit in 0.. {
        let (written, synced) = ((commit % 5) as usize, (commit % 3) as usize);
        let fault = move |number: u64, _: &[crate::store::Batch]| {
            (number == commit).then_some(Fault::Fatal { written, synced: synced.min(written) })
        };
        let mut rig = RigOver::over(Arc::new(ModelStore::with_faults(fault)), 3).await.unwrap();
        for act in &acts {
            rig.act(act.clone()).await;
        }
        assert_eq!(rig.hash(), hash, "power cut in commit {commit}");
        for index in 0..frozen {
            assert_eq!(rig.weights(index).await, weights[index as usize], "power cut in commit {commit}");
        }
        if rig.reopened == 0 {
            break;
        }
        fell += 1;
    }
    assert!(fell > 80, "{fell} commits");
}

impl Mortal for SledStore {
    fn reborn(self: &Arc<Self>) -> Arc<Self> {
        self.clone()
    }
}

/// The engine that is used for real keeps what the book gives it.
#[tokio::test]
async fn a_book_on_disk_is_found_again() {
    let (acts, frozen) = history();
    let (_, weights, hash) = run(&acts, frozen, 3).await;
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(SledStore::open(directory.path(), SledOptions::default()).unwrap());
    let mut rig = RigOver::over(open(), 3).await.unwrap();
    for act in &acts {
        rig.act(act.clone()).await;
    }
    drop(rig);
    let rig = RigOver::over(open(), 3).await.unwrap();
    assert_eq!(rig.hash(), hash);
    for index in 0..frozen {
        assert_eq!(rig.weights(index).await, weights[index as usize]);
    }
}
