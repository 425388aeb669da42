//! After each restart: everything acknowledged is there, once, and the books hold.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use softstake::client::{Client, pack};
use softstake::pb::{sim, v1};
use v1::balance_feed_service_client::BalanceFeedServiceClient;
use v1::stream_balances_request::Batch;

use crate::ledger::{Call, Held, World, units};
use crate::load::{Shared, deliver, rows, send, settle};
use crate::program::{PERIOD, POOLS, SOURCES, START};

/// What one restart has proved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proved {
    /// Events that were acknowledged since the restart before, and are there.
    pub events: u64,
    /// Events that were there without their acknowledgement, and were repeated.
    pub repeated: u64,
    /// Events that were gone without their acknowledgement, and were sent again.
    pub lost: u64,
    /// Changes that were answered before, and were answered in the same words again.
    pub answers: u64,
    /// Changes without an answer that were asked again.
    pub asked_again: u64,
    /// Positions compared.
    pub positions: u64,
    /// Payouts compared with what was delivered before, or delivered for the first time.
    pub payouts: u64,
}

impl Proved {
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.repeated += other.repeated;
        self.lost += other.lost;
        self.answers += other.answers;
        self.asked_again += other.asked_again;
        self.positions += other.positions;
        self.payouts += other.payouts;
    }
}

/// Everything that has to hold after a restart. Afterwards nothing is unanswered.
pub async fn verify(shared: &Shared, client: &Client, endpoint: &str) -> Proved {
    let mut proved = Proved::default();
    clock(shared, client).await;
    for source in 0..SOURCES.len() {
        feed(shared, client, endpoint, source, &mut proved).await;
    }
    requests(shared, client, &mut proved).await;
    positions(shared, client, &mut proved).await;
    for pool in 0..POOLS.len() {
        payouts(shared, client, pool, &mut proved).await;
        reconciled(client, pool).await;
    }
    assert_eq!(shared.world().writes_in_flight(), 0);
    proved
}

/// Time never goes back behind what was acknowledged, nor past what was asked.
async fn clock(shared: &Shared, client: &Client) {
    let now = client.get_time(sim::v1::GetTimeRequest {}).await.unwrap().now.unwrap().seconds;
    let mut world = shared.world();
    assert!((world.now..=world.asked).contains(&now), "{} to {}: {now}", world.now, world.asked);
    (world.now, world.asked) = (now, now);
}

/// What was acknowledged is there; of the rest a front of whole batches. What has no acknowledgement is sent again, from
/// the first such event on, whether it is there or not.
async fn feed(shared: &Shared, client: &Client, endpoint: &str, source: usize, proved: &mut Proved) {
    let resource = shared.world().feeds[source].resource();
    let cursor = client.get_cursor(v1::GetCursorRequest { source: resource.clone() }).await.unwrap();
    let durable = cursor.durable_sequence;
    let batches = {
        let world = shared.world();
        let feed = &world.feeds[source];
        let (acknowledged, given) = (feed.acknowledged, feed.given());
        assert!(durable >= acknowledged, "{resource}: {acknowledged} was acknowledged, {durable} is there");
        assert!(durable <= given, "{resource}: {given} was sent, {durable} is there");
        assert!(feed.is_whole(durable), "{resource}: a part of a batch is there, up to {durable}");
        assert!(cursor.watermark.map(|watermark| watermark.seconds) >= feed.watermark, "{resource}: {cursor:?}");
        proved.events += acknowledged - feed.applied;
        proved.repeated += durable - acknowledged;
        proved.lost += given - durable;
        feed.batches_after(acknowledged)
    };
    let messages: Vec<v1::StreamBalancesRequest> = batches
        .iter()
        .map(|(first, events)| match first % 2 {
            0 => rows(&resource, *first, events, None),
            _ => v1::StreamBalancesRequest {
                source: resource.clone(),
                first_sequence: *first,
                batch: Some(Batch::Packed(pack(events).unwrap())),
                watermark: None,
            },
        })
        .collect();
    if !messages.is_empty() {
        let (mut repeated, mut accepted) = (0, 0);
        let mut service = BalanceFeedServiceClient::connect(endpoint.to_owned()).await.unwrap();
        let mut answers = service.stream_balances(tokio_stream::iter(messages)).await.unwrap().into_inner();
        while let Some(answer) = answers.message().await.unwrap() {
            assert!(answer.rejected.is_empty(), "{answer:?}");
            repeated += answer.repeated_count + answer.already_applied_count;
            accepted += answer.accepted_count;
        }
        let mut world = shared.world();
        let feed = &mut world.feeds[source];
        let expected = (durable - feed.acknowledged, feed.given() - durable);
        assert_eq!((repeated, accepted), expected, "{resource}: repeated and accepted");
        feed.acknowledged = feed.given();
    }
    let mut world = shared.world();
    let feed = &mut world.feeds[source];
    let given = feed.given();
    feed.apply(given);
}

/// What was answered is answered in the same words; what was not is asked again, by the same id.
async fn requests(shared: &Shared, client: &Client, proved: &mut Proved) {
    let unanswered: Vec<(String, Call)> =
        shared.world().unanswered.iter().map(|(id, call)| (id.clone(), call.clone())).collect();
    for (id, call) in unanswered {
        let answer = send(client, &call.request).await.expect("the program runs");
        settle(&mut shared.world(), &id, &call.request, answer);
        proved.asked_again += 1;
    }
    let answered: Vec<Call> = shared.world().answered.iter().cloned().collect();
    let again = join_all(answered.iter().map(|call| send(client, &call.request))).await;
    for (call, again) in answered.iter().zip(again) {
        assert_eq!(again, call.answer, "{:?} was answered otherwise the first time", call.request);
        proved.answers += 1;
    }
    // Each put has a sequence of its own, and there are no others: none was entered twice, none is missing.
    let world = shared.world();
    let sequences: BTreeSet<u64> = world.put_sequences.values().copied().collect();
    assert_eq!(sequences.len(), world.put_sequences.len(), "two puts share a sequence");
    assert_eq!(sequences.last().copied().unwrap_or(0), sequences.len() as u64, "a put was entered twice");
}

/// Every position is what the events make of it.
async fn positions(shared: &Shared, client: &Client, proved: &mut Proved) {
    let (fed, put) = {
        let world = shared.world();
        let fed: Vec<_> = world
            .feeds
            .iter()
            .flat_map(|feed| &feed.positions)
            .map(|((account, pool), held)| (account.clone(), *pool, *held))
            .collect();
        (fed, world.puts.clone())
    };
    let found = join_all(fed.iter().map(|(account, pool, _)| position(client, account, *pool))).await;
    for ((account, pool, held), found) in fed.iter().zip(found) {
        let name = format!("{account} in {}", POOLS[*pool].0);
        assert_eq!(units(&found.balance), held.balance, "{name}");
        proved.positions += 1;
    }
    let found = join_all(put.keys().map(|account| position(client, account, 0))).await;
    for ((account, balance), found) in put.iter().zip(found) {
        assert_eq!(units(&found.balance), *balance, "{account}");
        proved.positions += 1;
    }
}

async fn position(client: &Client, account: &str, pool: usize) -> v1::Position {
    let name = format!("accounts/{account}/positions/{}", POOLS[pool].0);
    client.get_position(v1::GetPositionRequest { name }).await.unwrap().position.unwrap()
}

/// What is streamed is what was streamed before, without what was acknowledged.
async fn payouts(shared: &Shared, client: &Client, pool: usize, proved: &mut Proved) {
    let mut reader = client.payouts(&format!("pools/{}", POOLS[pool].0), "").until_caught_up();
    while let Some(batch) = reader.next().await.unwrap() {
        proved.payouts += batch.payouts.len() as u64;
        deliver(&mut shared.world(), pool, &batch);
    }
}

/// Ledger and chain agree, and every equation holds.
async fn reconciled(client: &Client, pool: usize) {
    let name = format!("pools/{}", POOLS[pool].0);
    let found = client.reconcile(v1::ReconcileRequest { name }).await.unwrap();
    let broken: Vec<_> = found.equations.iter().filter(|equation| !equation.holds).collect();
    assert!(found.holds && broken.is_empty() && found.differences.is_empty(), "{found:#?}");
    assert!(found.equations.len() >= 6, "{found:#?}");
}

/// At the end of a folder's lives: every payout was delivered and acknowledged once, in the amounts that the accounts'
/// own histories show, and no second of anyone's balance was lost or counted twice.
pub async fn conclude(shared: &Shared, client: &Client) -> (u64, u64) {
    crate::load::resume(shared, client).await.expect("the program runs");
    let now = shared.world().now;
    // To the end of the second period from now, with every watermark past it.
    let end = START + (now - START).div_euclid(PERIOD) * PERIOD + 2 * PERIOD;
    for at in [end, end + 600] {
        client.advance_time(crate::ledger::time(at)).await.unwrap();
        for source in 0..SOURCES.len() {
            let resource = shared.world().feeds[source].resource();
            let mut feed = client.feed(&resource).await.unwrap();
            feed.send(Vec::new(), Some(end)).await.unwrap();
            feed.flush().await.unwrap();
        }
    }
    let at = end + 1_200;
    client.advance_time(crate::ledger::time(at)).await.unwrap();
    {
        let mut world = shared.world();
        (world.now, world.asked) = (at, at);
    }
    for (pool, (id, _)) in POOLS.iter().enumerate() {
        let name = format!("pools/{id}");
        let found = client.get_pool(v1::GetPoolRequest { name: name.clone() }).await.unwrap().pool.unwrap();
        assert_eq!(found.state(), v1::PoolState::Active, "{found:?}");
        let mut reader = client.payouts(&name, "").until_caught_up();
        while let Some(batch) = reader.next().await.unwrap() {
            deliver(&mut shared.world(), pool, &batch);
            let request = softstake::client::acknowledge(&batch, Vec::new());
            client.ack_payouts(request.clone()).await.unwrap();
            let key = (pool, request.distribution, request.revision);
            let mut world = shared.world();
            let delivered = world.delivered.get_mut(&key).unwrap();
            delivered.acknowledged = request.acknowledged_count;
            delivered.asked = request.acknowledged_count;
        }
        reconciled(client, pool).await;
    }
    let payouts = histories(shared, client).await;
    let weights = weights(shared, client, at).await;
    (payouts, weights)
}

/// Each distribution came whole, and each account's history has its payouts and no others.
async fn histories(shared: &Shared, client: &Client) -> u64 {
    let delivered = shared.world().delivered.clone();
    let mut by_account: BTreeMap<(String, usize), BTreeMap<String, u128>> = BTreeMap::new();
    for ((pool, name, revision), delivered) in &delivered {
        let request = v1::GetDistributionRequest { name: name.clone(), ..Default::default() };
        let found = client.get_distribution(request).await.unwrap().distribution.unwrap();
        assert_eq!(found.revision, *revision, "{name}");
        assert_eq!(found.state(), v1::DistributionState::Settled, "{found:?}");
        let amounts = delivered.payouts.values().map(|(.., amount)| *amount);
        assert_eq!(amounts.sum::<u128>(), units(&found.payouts_amount), "{name}");
        assert_eq!(found.acknowledged_count + found.unclaimed_count, delivered.payouts.len() as u64, "{name}");
        assert_eq!(found.unclaimed_count, delivered.rejected.len() as u64, "{name}");
        for (payout, account, amount) in delivered.payouts.values() {
            let history = by_account.entry((account.clone(), *pool)).or_default();
            assert!(history.insert(payout.clone(), *amount).is_none(), "{payout} came twice");
        }
    }
    let mut compared = 0;
    for ((account, pool), mut expected) in by_account {
        let mut page_token = String::new();
        loop {
            let request = v1::ListPayoutsRequest {
                parent: format!("accounts/{account}"),
                asset: POOLS[pool].1.to_owned(),
                page_size: 1_000,
                page_token,
                ..Default::default()
            };
            let page = client.list_payouts(request).await.unwrap();
            // A share below the payout unit stands in the history, and is nothing to be credited.
            for payout in page.payouts.into_iter().filter(|payout| payout.state() != v1::PayoutState::BelowUnit) {
                assert_eq!(expected.remove(&payout.name), Some(units(&payout.amount)), "{}", payout.name);
                compared += 1;
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert!(expected.is_empty(), "{account} has no {expected:?} in its history");
    }
    compared
}

/// Over all periods together, a position's weights are its balance times its seconds.
async fn weights(shared: &Shared, client: &Client, at: i64) -> u64 {
    let sample: Vec<(String, usize, Held)> = {
        let world = shared.world();
        let all = world.feeds.iter().flat_map(|feed| &feed.positions);
        all.step_by(7).map(|((account, pool), held)| (account.clone(), *pool, *held)).collect()
    };
    let mut distributions = Vec::new();
    for pool in 0..POOLS.len() {
        distributions.push(all_distributions(client, pool).await);
    }
    let mut compared = 0;
    for (account, pool, held) in sample {
        let open = position(client, &account, pool).await;
        assert_eq!(open.as_of_time.unwrap().seconds, at);
        assert_eq!(open.uncollected_weight, "0", "{open:?}");
        let mut sum: u128 = open.time_weight.parse().unwrap();
        for name in &distributions[pool] {
            let name = format!("{name}/payouts/{account}");
            let explained = client.explain_payout(v1::ExplainPayoutRequest { name }).await.unwrap();
            sum += explained.weight.parse::<u128>().unwrap();
        }
        assert_eq!(sum, held.weight_at(at), "{account} in {}", POOLS[pool].0);
        compared += 1;
    }
    compared
}

/// The names of all distributions of a pool.
async fn all_distributions(client: &Client, pool: usize) -> Vec<String> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let parent = format!("pools/{}", POOLS[pool].0);
        let request = v1::ListDistributionsRequest { parent, page_size: 1_000, page_token, ..Default::default() };
        let page = client.list_distributions(request).await.unwrap();
        names.extend(page.distributions.into_iter().map(|one| one.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

/// What the world knows, for a report.
pub fn known(world: &World) -> (u64, u64, u64) {
    let events = world.feeds.iter().map(|feed| feed.applied).sum();
    let distributions = world.delivered.len() as u64;
    (events, world.changes, distributions)
}
