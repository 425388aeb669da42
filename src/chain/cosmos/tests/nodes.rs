//! The client against nodes over sockets: failover, what they must agree on, places, broadcasts and look-ups.

use std::collections::BTreeMap;

use super::super::CosmosConfig;
use super::super::client::Client;
use super::super::config::{CosmosEndpoint, Terms};
use super::super::endpoints::Endpoints;
use super::super::fate::Fate;
use super::fates::charged;
use super::node::{Node, Says, nowhere};
use super::{config, terms};
use crate::chain::{ChainError, Signed};
use crate::domain::ids::TransactionId;
use crate::domain::signing::Lifetime;
use crate::pb::cosmos::base::abci::v1beta1::TxResponse;

fn says() -> Says {
    Says {
        chain: "cosmoshub-4".to_owned(),
        height: 1_000,
        fork: "main".to_owned(),
        syncing: false,
        address: terms().address,
        sequence: 42,
        broadcast: TxResponse::default(),
        taken: Vec::new(),
        index: BTreeMap::new(),
        searches: BTreeMap::new(),
        indexes: true,
    }
}

fn client(endpoints: Vec<CosmosEndpoint>) -> Client {
    let config = CosmosConfig { endpoints, ..config() };
    let endpoints = Endpoints::new(&config).unwrap();
    Client::new(Terms::new(config).unwrap(), endpoints)
}

fn signed(nonce: u64) -> Signed {
    let transaction = TransactionId::new(&format!("{nonce:064}")).unwrap();
    let lifetime = Lifetime { nonce: Some(nonce), expires_at: None, expires_height: Some(1_050) };
    Signed { bytes: vec![1, 2, 3], transaction, lifetime }
}

async fn sequence(client: &Client) -> u64 {
    client.place().await.unwrap().sequence
}

#[tokio::test]
async fn nodes_that_are_dead_behind_or_syncing_are_passed_over() {
    let lagging = Node::start(Says { height: 996, sequence: 1, ..says() }).await;
    let syncing = Node::start(Says { syncing: true, sequence: 2, ..says() }).await;
    let good = Node::start(Says { sequence: 3, ..says() }).await;
    let endpoints = vec![nowhere(), lagging.endpoint.clone(), syncing.endpoint.clone(), good.endpoint.clone()];
    let client = client(endpoints);
    let place = client.place().await.unwrap();
    assert_eq!((place.account_number, place.sequence, place.timeout_height), (7, 3, 1_050));
    // Within the lag that is allowed, the first one counts.
    lagging.set(|says| says.height = 997);
    assert_eq!(sequence(&client).await, 1);
    // What was seen once is not forgotten with the node that said it.
    lagging.set(|says| says.height = 996);
    good.set(|says| says.syncing = true);
    assert!(matches!(client.place().await, Err(ChainError::Unavailable(_))));
    assert!(matches!(super::nodes::client(vec![nowhere()]).place().await, Err(ChainError::Unavailable(_))));
}

#[tokio::test]
async fn a_node_without_an_answer_is_followed_by_the_next() {
    let blind = Node::start(Says { indexes: false, ..says() }).await;
    let good = Node::start(says()).await;
    let alone = client(vec![blind.endpoint.clone()]);
    assert!(matches!(alone.fate(&signed(42)).await, Err(ChainError::Unavailable(_))), "no index proves nothing");
    let (fate, node) = client(vec![blind.endpoint.clone(), good.endpoint.clone()]).fate(&signed(42)).await.unwrap();
    assert_eq!((fate, node.endpoint), (Fate::Absent, good.endpoint));
}

#[tokio::test]
async fn nodes_that_contradict_each_other_or_are_of_another_chain_are_not_trusted() {
    let (one, other) = (Node::start(says()).await, Node::start(says()).await);
    let client = client(vec![one.endpoint.clone(), other.endpoint.clone()]);
    assert_eq!(sequence(&client).await, 42);
    for height in [999, 1_000, 1_002] {
        other.set(|says| (says.height, says.fork) = (height, "fork".to_owned()));
        assert!(matches!(client.place().await, Err(ChainError::Untrusted(_))), "{height}");
    }
    other.set(|says| *says = Says { height: 1_002, ..self::says() });
    assert_eq!(sequence(&client).await, 42);
    other.set(|says| says.chain = "cosmoshub-3".to_owned());
    assert!(matches!(client.place().await, Err(ChainError::Untrusted(_))));
    other.set(|says| *says = self::says());
    one.set(|says| says.address = "cosmos1other".to_owned());
    assert!(matches!(client.place().await, Err(ChainError::Untrusted(_))));
}

#[tokio::test]
async fn the_next_transaction_stands_behind_those_that_wait() {
    let node = Node::start(says()).await;
    let client = client(vec![node.endpoint.clone()]);
    client.broadcast(&signed(42)).await.unwrap();
    client.broadcast(&signed(43)).await.unwrap();
    client.broadcast(&signed(42)).await.unwrap();
    assert_eq!(node.says().taken.len(), 3);
    assert_eq!(sequence(&client).await, 44);
    let refused = TxResponse { codespace: "sdk".to_owned(), code: 32, ..TxResponse::default() };
    node.set(|says| says.broadcast = refused);
    assert!(matches!(client.broadcast(&signed(44)).await, Err(ChainError::Unavailable(_))));
    assert_eq!(sequence(&client).await, 42, "the node knows of none that waits");
    node.set(|says| says.broadcast = TxResponse::default());
    client.broadcast(&signed(42)).await.unwrap();
    node.set(|says| says.sequence = 50);
    assert_eq!(sequence(&client).await, 50, "somebody else sends too");
    node.set(|says| (says.height, says.sequence) = (1_050, 42));
    assert_eq!(sequence(&client).await, 42, "nothing that waited can be included any more");
}

#[tokio::test]
async fn a_look_up_asks_for_who_consumed_the_sequence() {
    let node = Node::start(says()).await;
    let client = client(vec![node.endpoint.clone()]);
    let fate = async || client.fate(&signed(42)).await.map(|(fate, _)| fate);
    assert_eq!(fate().await, Ok(Fate::Absent));
    node.set(|says| says.height = 1_050);
    assert_eq!(fate().await, Ok(Fate::AbsentForGood));
    node.set(|says| says.sequence = 43);
    assert!(matches!(fate().await, Err(ChainError::Unavailable(_))), "the index may lag behind");
    let search = format!("tx.acc_seq='{}/42'", terms().address);
    let events = vec![charged(&terms().address, 42)];
    let found = |hash: &str| TxResponse {
        txhash: hash.to_owned(),
        height: 1_001,
        events: events.clone(),
        ..TxResponse::default()
    };
    let (ours, other) = (signed(42).transaction.as_str().to_owned(), "AB".repeat(32));
    node.set(|says| drop(says.searches.insert(search.clone(), vec![found(&other)])));
    assert_eq!(fate().await, Ok(Fate::AbsentForGood));
    node.set(|says| {
        drop(says.searches.insert(search.clone(), vec![TxResponse { events: Vec::new(), ..found(&other) }]))
    });
    assert!(matches!(fate().await, Err(ChainError::Untrusted(_))), "it did not consume it");
    node.set(|says| drop(says.searches.insert(search.clone(), vec![found(&ours)])));
    assert_eq!(fate().await, Ok(Fate::Pending));
    node.set(|says| drop(says.index.insert(ours.clone(), found(&ours))));
    assert_eq!(fate().await, Ok(Fate::Done { height: 1_001 }));
}

#[tokio::test]
async fn what_a_node_took_counts_as_seen_for_some_blocks() {
    let node = Node::start(says()).await;
    let client = client(vec![node.endpoint.clone()]);
    let fate = async |nonce| client.fate(&signed(nonce)).await.map(|(fate, _)| fate);
    client.broadcast(&signed(42)).await.unwrap();
    assert_eq!((fate(42).await, fate(43).await), (Ok(Fate::Pending), Ok(Fate::Absent)));
    node.set(|says| says.height = 1_004);
    assert_eq!(fate(42).await, Ok(Fate::Pending));
    node.set(|says| says.height = 1_005);
    assert_eq!(fate(42).await, Ok(Fate::Absent), "it may have been dropped");
    client.broadcast(&signed(42)).await.unwrap();
    assert_eq!(fate(42).await, Ok(Fate::Pending));
    node.set(|says| says.height = 1_050);
    assert_eq!(fate(42).await, Ok(Fate::AbsentForGood));
}
