//! Snapshots against positions: what differs, at one point, in any partitioning, and what applying it leaves.

use super::*;
use crate::domain::feed::RejectReason;
use crate::domain::snapshot::SeenDifference;

const OTHER: SourceNumber = SourceNumber(17);

impl Rig {
    async fn apply(&mut self, batch: SnapshotBatch, now: i64) -> Result<SnapshotOutcome, Refusal> {
        let receipt = self.book.sender().submit_snapshot(batch).unwrap();
        self.committer.step(at(now)).await.unwrap();
        receipt.await
    }

    fn held(&self, balances: &[(&str, u64)]) -> SnapshotBalances {
        let mut held = self.book.snapshot_balances(POOL).unwrap();
        for (name, balance) in balances {
            self.book.hold_balance(&mut held, account(name), BaseUnits::from_u64(*balance));
        }
        held
    }

    fn compare(&self, balances: &[(&str, u64)], limit: usize) -> (Vec<SeenDifference>, SnapshotBalances) {
        let mut held = [self.held(balances)];
        let seen = self.book.compare(SOURCE, &mut held, limit).unwrap();
        let [held] = held;
        (seen, held)
    }
}

/// a to d of the source, x of another one.
async fn five(partitions: u16) -> Rig {
    let mut rig = Rig::open(partitions).await;
    rig.book.add_source(OTHER);
    let events = ["a", "b", "c", "d"].map(|name| event(name, 10, 0)).to_vec();
    rig.send(batch(1, events), 0).await.unwrap();
    let other = EventBatch { source: OTHER, first_sequence: 1, events: vec![event("x", 10, 0)], watermark: None };
    rig.send(other, 0).await.unwrap();
    rig
}

#[tokio::test]
async fn what_differs_is_found_and_gone_once_it_is_applied_in_any_partitioning() {
    let mut hashes = Vec::new();
    for partitions in [1, 3, 8] {
        let mut rig = five(partitions).await;
        let said = [("a", 10), ("b", 7), ("d", 0), ("new", 5), ("nothing", 0), ("x", 3)];
        let (seen, mut left) = rig.compare(&said, 10);
        let short = |one: &SeenDifference| {
            let units = |balance: BaseUnits| balance.get();
            (one.account.to_string(), one.snapshot.map(units), one.held.map(|held| units(held.balance)))
        };
        let seen: Vec<_> = seen.iter().map(short).collect();
        let expected = [
            ("b", Some(7), Some(10)),
            ("c", None, Some(10)),
            ("d", Some(0), Some(10)),
            ("new", Some(5), None),
            ("x", Some(3), Some(10)),
        ];
        assert_eq!(seen, expected.map(|(name, said, held)| (name.to_owned(), said, held)));
        assert_eq!((left.len(), left.is_empty()), (5, false));
        let (first, _) = rig.compare(&said, 2);
        assert_eq!(first.iter().map(|one| one.account.as_str()).collect::<Vec<_>>(), ["b", "c"]);

        let mut taken = rig.book.take_differences(std::slice::from_mut(&mut left), 3);
        assert_eq!(taken.len(), 3);
        taken.extend(rig.book.take_differences(std::slice::from_mut(&mut left), 3));
        assert_eq!((taken.len(), left.len()), (5, 0));
        let outcome = rig.apply(SnapshotBatch { balances: taken, ..snapshot(4, 100, &[]) }, 100).await.unwrap();
        assert_eq!(outcome.refused, [(POOL, account("x"), RejectReason::NotOwner)]);
        assert_eq!(outcome.applied, 4);
        let (seen, _) = rig.compare(&said, 10);
        assert_eq!(seen.iter().map(|one| one.account.as_str()).collect::<Vec<_>>(), ["x"]);
        assert!(rig.book.audit(POOL).unwrap().holds());
        assert_eq!(rig.book.source_state(SOURCE).unwrap().durable_sequence, 4, "a snapshot consumes no sequence");
        assert_eq!(rig.book.rejected_events(SOURCE, 0, 9).await.unwrap(), []);
        let hash = rig.hash();
        rig.reopen().await;
        assert_eq!(rig.hash(), hash, "replaying decides the same");
        rig.act(Act::Checkpoint).await;
        rig.reopen().await;
        assert_eq!(rig.hash(), hash);
        hashes.push(hash);
    }
    assert!(hashes.windows(2).all(|two| two[0] == two[1]));
}

#[tokio::test]
async fn a_balance_of_a_snapshot_weighs_as_an_event_of_that_time_does() {
    let (mut one, mut other) = (five(2).await, five(2).await);
    one.apply(snapshot(4, 600, &[("a", 50), ("new", 9)]), 700).await.unwrap();
    other.send(batch(5, vec![event("a", 50, 600), event("new", 9, 600)]), 700).await.unwrap();
    for rig in [&mut one, &mut other] {
        rig.act(Act::Freeze(0, LENGTH + 20)).await;
    }
    assert_eq!(one.weights(0).await, other.weights(0).await);
    // Behind the freeze it is late, like any event.
    one.act(Act::Open(period(2), LENGTH + 30)).await;
    other.act(Act::Open(period(2), LENGTH + 30)).await;
    let outcome = one.apply(snapshot(4, LENGTH - 60, &[("a", 70)]), LENGTH + 90).await.unwrap();
    assert_eq!((outcome.applied, outcome.late), (1, 1));
    let told = other.send(batch(7, vec![event("a", 70, LENGTH - 60)]), LENGTH + 90).await.unwrap();
    assert_eq!(told.late, 1);
    for rig in [&mut one, &mut other] {
        assert!(rig.book.audit(POOL).unwrap().holds());
        rig.act(Act::Freeze(1, 2 * LENGTH + 20)).await;
    }
    assert_eq!(one.weights(1).await, other.weights(1).await);
}

#[tokio::test]
async fn a_snapshot_stands_where_its_source_does_or_is_refused_whole() {
    let mut rig = five(2).await;
    let hash = rig.hash();
    assert_eq!(rig.apply(snapshot(3, 100, &[("a", 1)]), 100).await, Err(Refusal::SnapshotPassed { last: 4 }));
    assert_eq!(rig.apply(snapshot(5, 100, &[("a", 1)]), 100).await, Err(Refusal::Gap { expected: 5 }));
    let stranger = SnapshotBatch { source: SourceNumber(99), ..snapshot(4, 100, &[("a", 1)]) };
    assert_eq!(rig.apply(stranger, 100).await, Err(Refusal::UnknownSource { number: SourceNumber(99) }));
    let far = snapshot(4, 2 * LENGTH, &[("a", 1)]);
    assert_eq!(rig.apply(far, 2 * LENGTH).await, Err(Refusal::PeriodNotOpen { pool: POOL }));
    assert_eq!(rig.hash(), hash);
}

#[tokio::test]
async fn an_account_has_one_balance_in_a_snapshot() {
    let mut rig = five(2).await;
    for name in ["a", "nobody"] {
        let mut held = [rig.held(&[(name, 1), ("b", 2), (name, 1)])];
        assert_eq!(rig.book.compare(SOURCE, &mut held, 9), Err(AccountTwice(account(name))));
    }
    // Unknown when the first part came, known when the second did.
    let mut held = rig.held(&[("late", 1)]);
    rig.send(batch(5, vec![event("late", 1, 5)]), 5).await.unwrap();
    rig.book.hold_balance(&mut held, account("late"), BaseUnits::from_u64(1));
    assert_eq!(held.bytes(), 24 + 128);
    assert_eq!(rig.book.compare(SOURCE, &mut [held], 9), Err(AccountTwice(account("late"))));
}

#[tokio::test]
async fn what_no_position_may_hold_is_refused_by_itself() {
    let mut rig = five(2).await;
    let mut batch = snapshot(4, 100, &[("a", 20)]);
    batch.balances.push((POOL, account("b"), BaseUnits::MAX));
    let outcome = rig.apply(batch, 100).await.unwrap();
    assert_eq!(outcome.applied, 1);
    assert!(matches!(outcome.refused[..], [(POOL, _, RejectReason::BalanceTooLarge { .. })]), "{outcome:?}");
}
