use std::sync::atomic::Ordering;

use super::*;
use crate::chain::cosmos::captured::CHAIN;
use crate::chain::cosmos::fake_node::{self, FakeNode};
use crate::chain::cosmos::observe::observe;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::ChainId;
use crate::domain::time::UnixSeconds;

async fn started(first: u64) -> (Arc<FakeNode>, History) {
    let (node, reads) = fake_node::start().await;
    (node, History::new(reads, first))
}

fn kind_of<T: std::fmt::Debug>(found: Result<T, ChainError>) -> &'static str {
    match found {
        Ok(_) => "ok",
        Err(ChainError::Unavailable(_)) => "unavailable",
        Err(ChainError::Untrusted(_)) => "untrusted",
        Err(ChainError::Refused(_)) => "refused",
    }
}

#[tokio::test]
async fn all_of_a_life_is_told_once_and_the_same_in_any_pieces() {
    let (node, history) = started(0).await;
    let head = node.head.load(Ordering::Relaxed);
    let whole = history.effects(0, head).await.unwrap();
    assert_eq!(whole.len(), 63);
    assert!(whole.is_sorted_by_key(|effect| effect.height));
    let (_, other) = started(0).await;
    let mut pieces = Vec::new();
    for (from, to) in [(0, 2), (2, 9), (9, 10), (10, 52), (52, 52), (52, head)] {
        pieces.extend(other.effects(from, to).await.unwrap());
    }
    assert_eq!(pieces, whole);
    // Since when each reward was earned comes from the node's store: the fixture's node says the third block.
    let began = UnixSeconds::new(1_795_639_410);
    let dated = whole.iter().filter(|effect| match effect.kind {
        EffectKind::RewardPaid { earned_from, earned_to, .. } => earned_from == began && earned_to == effect.at,
        _ => false,
    });
    assert_eq!(dated.count(), 15);
}

#[tokio::test]
async fn a_look_up_tells_what_the_list_tells() {
    let (_, history) = started(0).await;
    let whole = history.effects(2, 60).await.unwrap();
    let own: std::collections::BTreeSet<_> = whole
        .iter()
        .filter(|one| one.operation.is_some())
        .map(|one| (one.key.transaction.clone(), one.height))
        .collect();
    assert_eq!(own.len(), 15);
    for (hash, height) in own {
        let listed: Vec<Effect> = whole.iter().filter(|one| one.key.transaction == hash).cloned().collect();
        assert_eq!(history.effects_of_tx(&hash, height).await, Ok(Some(listed)));
        assert_eq!(history.effects_of_tx(&hash, height - 1).await, Ok(None));
    }
}

#[tokio::test]
async fn what_was_read_is_not_read_again_and_what_is_missing_is_nothing_less() {
    let (node, history) = started(0).await;
    node.head.store(50, Ordering::Relaxed);
    history.effects(2, 40).await.unwrap();
    let known = node.asked.load(Ordering::Relaxed);
    assert_eq!(known, 38);
    history.effects(2, 40).await.unwrap();
    assert_eq!(node.asked.load(Ordering::Relaxed), known);
    assert_eq!(kind_of(history.effects(2, 51).await), "unavailable");
    node.oldest.store(20, Ordering::Relaxed);
    let fresh = History::new(history.reads.clone(), 0);
    assert_eq!(kind_of(fresh.effects(10, 29).await), "unavailable");
    assert_eq!(kind_of(fresh.effects(20, 29).await), "ok");
    // Block 30 is compared with the state before it, which has to be there.
    node.oldest.store(30, Ordering::Relaxed);
    assert_eq!(kind_of(fresh.effects(29, 30).await), "unavailable");
}

#[tokio::test]
async fn an_address_that_was_used_before_is_refused() {
    let (_, history) = started(20).await;
    assert_eq!(kind_of(history.effects(0, 30).await), "refused");
    assert_eq!(history.effects(20, 30).await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_answer_of_another_height_or_chain_is_not_trusted() {
    let (node, history) = started(0).await;
    let reads = &history.reads;
    assert_eq!(reads.latest().await.unwrap().0, 93);
    node.off.store(1, Ordering::Relaxed);
    assert_eq!(kind_of(reads.stake(40).await), "untrusted");
    assert_eq!(kind_of(observe(reads).await), "unavailable", "it names a height that it has not");
    node.off.store(0, Ordering::Relaxed);
    assert_eq!(kind_of(reads.stake(94).await), "unavailable");
    let elsewhere = Reads { chain: ChainId::new("another-1").unwrap(), ..reads.clone() };
    assert_eq!((kind_of(elsewhere.header(40).await), kind_of(observe(&elsewhere).await)), ("untrusted", "untrusted"));
    assert_eq!(reads.chain.as_str(), CHAIN);
}

#[tokio::test]
async fn an_observation_is_of_one_height_and_has_every_page() {
    let (node, history) = started(0).await;
    node.head.store(50, Ordering::Relaxed);
    let seen = observe(&history.reads).await.unwrap();
    assert_eq!((seen.height, seen.at), (50, UnixSeconds::new(1_795_639_458)));
    assert_eq!((seen.delegations.len(), seen.unbondings.len(), seen.validators.len()), (3, 2, 3));
    let stake = history.reads.stake(50).await.unwrap();
    for (one, (validator, amount)) in seen.delegations.iter().zip(&stake.delegated) {
        assert_eq!((&one.validator, one.amount, one.pending_reward), (validator, *amount, BaseUnits::from_u64(12)));
    }
    let locked: Vec<bool> = seen.delegations.iter().map(|one| one.redelegation_locked == one.amount).collect();
    assert_eq!(locked, [true, false, false]);
    assert_eq!(seen.liquid, history.reads.liquid(50).await.unwrap());
}
