//! The load: everything that the services around softstake do, all at once, until the connection dies.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prost::Message;
use softstake::client::{Client, ClientError, acknowledge};
use softstake::pb::{sim, v1};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use v1::balance_feed_service_client::BalanceFeedServiceClient;
use v1::stream_balances_request::Batch;

use crate::ledger::{Change, World, amount, time, units};
use crate::numbers::{Numbers, mix};
use crate::program::POOLS;

/// How many batches of a source may wait for their acknowledgement.
const WINDOW: usize = 4;

/// The world, shared by all who act in it.
#[derive(Clone)]
pub struct Shared(pub Arc<Mutex<World>>);

impl Shared {
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// Sends one change. `None`: nobody knows whether it was carried out.
pub async fn send(client: &Client, change: &Change) -> Option<Vec<u8>> {
    let answered = match change.clone() {
        Change::Put(request) => client.put_balance(request).await.map(|answer| answer.encode_to_vec()),
        Change::Validator(request) => client.put_validator(request).await.map(|answer| answer.encode_to_vec()),
        Change::Custody(request) => client.report_custody(request).await.map(|answer| answer.encode_to_vec()),
        Change::Enrolment(request) => client.set_enrolment(request).await.map(|answer| answer.encode_to_vec()),
        Change::Pause(request) => client.pause_pool(request).await.map(|answer| answer.encode_to_vec()),
        Change::Resume(request) => client.resume_pool(request).await.map(|answer| answer.encode_to_vec()),
        Change::Approve(request) => client.approve(request).await.map(|answer| answer.encode_to_vec()),
        Change::Ack(request) => client.ack_payouts(request).await.map(|answer| answer.encode_to_vec()),
        Change::Transfer(request) => client.ack_transfer(request).await.map(|answer| answer.encode_to_vec()),
        Change::Send(request) => client.send_from_custody(request).await.map(|answer| answer.encode_to_vec()),
    };
    match answered {
        Ok(answer) => Some(answer),
        Err(ClientError::OutcomeUnknown { .. }) => None,
        // The chain may have shown it before custody's word arrives; a repeat is refused in the same words.
        Err(ClientError::Refused(refusal)) if matches!(change, Change::Transfer(_)) => {
            Some(refusal.reason.into_bytes())
        }
        Err(error) => panic!("{change:?}: {error}"),
    }
}

/// Asks for a change and keeps its answer. `None`: the connection died.
pub async fn change(shared: &Shared, client: &Client, id: &str, change: Change) -> Option<()> {
    shared.world().ask(id, change.clone());
    let answer = send(client, &change).await?;
    settle(&mut shared.world(), id, &change, answer);
    Some(())
}

/// A change was answered: what follows from it.
pub fn settle(world: &mut World, id: &str, change: &Change, answer: Vec<u8>) {
    match change {
        Change::Put(request) => {
            let answered = v1::PutBalanceResponse::decode(answer.as_slice()).unwrap();
            world.puts.insert(request.account.clone(), units(&request.balance));
            world.put_sequences.insert(id.to_owned(), answered.durable_sequence);
        }
        Change::Ack(request) => {
            let pool = POOLS.iter().position(|(pool, _)| request.distribution.contains(&format!("pools/{pool}/")));
            let key = (pool.unwrap(), request.distribution.clone(), request.revision);
            let delivered = world.delivered.get_mut(&key).unwrap();
            delivered.acknowledged = delivered.acknowledged.max(request.acknowledged_count);
        }
        Change::Send(request) => {
            world.sent.insert(request.transfer.clone(), units(&request.amount));
        }
        _ => {}
    }
    world.answer(id, answer);
}

/// Puts everyone to work. They end when the connection dies.
pub fn begin(shared: &Shared, client: &Client, endpoint: &str, seed: u64) -> JoinSet<Option<()>> {
    let mut load = JoinSet::new();
    let draw = |place: u64| Numbers(mix(seed ^ place));
    load.spawn(feed_packed(shared.clone(), client.clone(), 0, draw(1)));
    load.spawn(feed_rows(shared.clone(), endpoint.to_owned(), 1, draw(2)));
    load.spawn(feed_rows(shared.clone(), endpoint.to_owned(), 2, draw(3)));
    load.spawn(put(shared.clone(), client.clone(), draw(4)));
    load.spawn(advance(shared.clone(), client.clone(), draw(5)));
    load.spawn(credit(shared.clone(), client.clone(), draw(6)));
    load.spawn(administer(shared.clone(), client.clone(), draw(7)));
    load.spawn(transfer(shared.clone(), client.clone()));
    load
}

/// A producer that uses the typed client's writer.
async fn feed_packed(shared: Shared, client: Client, source: usize, mut numbers: Numbers) -> Option<()> {
    let resource = shared.world().feeds[source].resource();
    let mut feed = client.feed(&resource).await.ok()?;
    assert_eq!(feed.next_sequence(), shared.world().feeds[source].given() + 1);
    loop {
        for _ in 0..1 + numbers.below(3) {
            let events = {
                let mut world = shared.world();
                let now = world.now;
                world.feeds[source].next_batch(1 + numbers.below(40), now)
            };
            feed.send(events, None).await.ok()?;
        }
        let now = shared.world().now;
        feed.send(Vec::new(), Some(now)).await.ok()?;
        let report = feed.flush().await.ok()?;
        assert!(report.rejected.is_empty(), "{report:?}");
        let mut world = shared.world();
        let feed = &mut world.feeds[source];
        feed.acknowledged = feed.acknowledged.max(report.durable_sequence);
        feed.watermark = Some(now);
    }
}

/// A producer on a stream of its own, several batches ahead of the answers.
async fn feed_rows(shared: Shared, endpoint: String, source: usize, mut numbers: Numbers) -> Option<()> {
    let (sender, receiver) = mpsc::channel(1);
    let (free, mut room) = mpsc::unbounded_channel();
    (0..WINDOW).for_each(|_| free.send(()).unwrap());
    let to = shared.clone();
    let sending = tokio::spawn(async move {
        while room.recv().await.is_some() {
            let message = {
                let mut world = to.world();
                let now = world.now;
                let feed = &mut world.feeds[source];
                let first = feed.given() + 1;
                let events = feed.next_batch(1 + numbers.below(25), now);
                rows(&feed.resource(), first, &events, (numbers.below(4) == 0).then_some(now))
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answers = async {
        let mut service = BalanceFeedServiceClient::connect(endpoint).await.ok()?;
        let mut answers = service.stream_balances(stream).await.ok()?.into_inner();
        while let Ok(Some(answer)) = answers.message().await {
            assert!(answer.rejected.is_empty(), "{answer:?}");
            let mut world = shared.world();
            let feed = &mut world.feeds[source];
            let before = feed.unanswered();
            feed.acknowledged = feed.acknowledged.max(answer.durable_sequence);
            feed.watermark = feed.watermark.max(answer.watermark.map(|watermark| watermark.seconds));
            (feed.unanswered()..before).for_each(|_| free.send(()).unwrap_or_default());
        }
        None
    };
    let ended = answers.await;
    sending.abort();
    ended
}

/// A batch of rows as a message.
pub fn rows(
    source: &str,
    first_sequence: u64,
    events: &[softstake::client::BalanceEvent],
    watermark: Option<i64>,
) -> v1::StreamBalancesRequest {
    let row = |event: &softstake::client::BalanceEvent| v1::BalanceRow {
        account: event.account.clone(),
        balance: Some(amount(&event.asset, event.base_units)),
        event_time: Some(time(event.event_seconds)),
    };
    v1::StreamBalancesRequest {
        source: source.to_owned(),
        first_sequence,
        batch: Some(Batch::Rows(v1::BalanceRows { events: events.iter().map(row).collect() })),
        watermark: watermark.map(time),
    }
}

/// Someone with grpcurl.
async fn put(shared: Shared, client: Client, mut numbers: Numbers) -> Option<()> {
    loop {
        let id = shared.world().id("put");
        let account = format!("put-{}", numbers.below(20));
        let balance = Some(amount("ATOM", u128::from(numbers.below(1 << 50))));
        let request = v1::PutBalanceRequest { request_id: id.clone(), account, balance, event_time: None };
        change(&shared, &client, &id, Change::Put(request)).await?;
    }
}

/// Time goes by: periods close, distributions are computed and released, operations go to the chains.
async fn advance(shared: Shared, client: Client, mut numbers: Numbers) -> Option<()> {
    loop {
        let to = {
            let mut world = shared.world();
            world.asked = world.asked.max(world.now) + 120 + i64::try_from(numbers.below(1_200)).unwrap();
            world.asked
        };
        match client.advance_time(time(to)).await {
            Ok(_) => shared.world().now = to,
            Err(ClientError::OutcomeUnknown { .. }) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The ledger service credits payouts, each once, and says so.
async fn credit(shared: Shared, client: Client, mut numbers: Numbers) -> Option<()> {
    loop {
        for (pool, (id, _)) in POOLS.iter().enumerate() {
            let mut reader = client.payouts(&format!("pools/{id}"), "").until_caught_up();
            while let Some(batch) = reader.next().await.ok()? {
                deliver(&mut shared.world(), pool, &batch);
                let mut request = acknowledge(&batch, Vec::new());
                // Now and then only some of them, and one that could not be credited.
                if numbers.below(4) == 0 {
                    let some = numbers.below(batch.payouts.len() as u64 + 1);
                    request.acknowledged_count = batch.first_index + some;
                    if let Some(last) = some.checked_sub(1).filter(|_| numbers.below(4) == 0) {
                        request.rejected.push(v1::RejectedPayout {
                            index: batch.first_index + last,
                            account: batch.payouts[usize::try_from(last).unwrap()].account.clone(),
                            reason: v1::RejectedPayoutReason::AccountClosed as i32,
                            message: "closed".to_owned(),
                        });
                    }
                }
                let id = {
                    let mut world = shared.world();
                    let key = (pool, request.distribution.clone(), request.revision);
                    let delivered = world.delivered.get_mut(&key).unwrap();
                    delivered.asked = delivered.asked.max(request.acknowledged_count);
                    delivered.rejected.extend(request.rejected.iter().map(|rejected| rejected.index));
                    world.id("ack")
                };
                request.request_id = id.clone();
                change(&shared, &client, &id, Change::Ack(request)).await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes a batch of payouts in. What was delivered before is the same as before, and what is acknowledged does not come
/// again.
pub fn deliver(world: &mut World, pool: usize, batch: &v1::StreamPayoutsResponse) {
    let key = (pool, batch.distribution.clone(), batch.revision);
    let others = world.delivered.keys().filter(|(of, name, _)| (*of, name) == (pool, &batch.distribution));
    assert!(others.clone().all(|other| *other == key), "a second revision of {} was released", batch.distribution);
    let delivered = world.delivered.entry(key).or_default();
    if delivered.hash.is_empty() {
        delivered.hash.clone_from(&batch.distribution_hash);
    }
    assert_eq!(delivered.hash, batch.distribution_hash, "{}", batch.distribution);
    for (index, payout) in (batch.first_index..).zip(&batch.payouts) {
        assert!(index >= delivered.acknowledged, "payout {index} of {} was acknowledged", batch.distribution);
        let this = (payout.name.clone(), payout.account.clone(), units(&payout.amount));
        let there = delivered.payouts.entry(index).or_insert_with(|| this.clone());
        assert_eq!(*there, this, "{} is delivered in two ways", payout.name);
    }
}

/// Proposes to resume a pool, and approves that.
async fn resume_pool(shared: &Shared, client: &Client, name: String) -> Option<()> {
    let id = shared.world().id("resume");
    let resume = v1::ResumePoolRequest { request_id: id.clone(), name, reason: "a test".to_owned() };
    change(shared, client, &id, Change::Resume(resume)).await?;
    let states = vec![v1::ApprovalState::Pending.into()];
    let waiting =
        client.list_approvals(v1::ListApprovalsRequest { states, ..Default::default() }).await.ok()?.approvals;
    // What a life that ended had proposed lapses with this one.
    let v1::Approval { name, content_hash, .. } = waiting.into_iter().next().expect("it was proposed just now");
    let id = shared.world().id("approve");
    let approve = v1::ApproveRequest { request_id: id.clone(), name, content_hash };
    change(shared, client, &id, Change::Approve(approve)).await
}

/// A life may have ended between a pause and its end.
pub async fn resume(shared: &Shared, client: &Client) -> Option<()> {
    for (pool, _) in POOLS {
        let name = format!("pools/{pool}");
        let found = client.get_pool(v1::GetPoolRequest { name: name.clone() }).await.ok()?.pool.unwrap();
        if found.state() == v1::PoolState::Paused {
            assert_eq!(found.pause_reason, "a test");
            resume_pool(shared, client, name).await?;
        }
    }
    Some(())
}

/// Operators at work.
async fn administer(shared: Shared, client: Client, mut numbers: Numbers) -> Option<()> {
    let mut validators = Vec::new();
    for (pool, _) in POOLS {
        let list = v1::ListValidatorsRequest { parent: format!("pools/{pool}"), page_size: 4, ..Default::default() };
        validators.extend(client.list_validators(list).await.ok()?.validators.into_iter().map(|one| one.name));
    }
    resume(&shared, &client).await?;
    for turn in numbers.below(4).. {
        let (id, now) = {
            let mut world = shared.world();
            (world.id("admin"), world.now)
        };
        let (pool, asset) = POOLS[usize::try_from(numbers.below(2)).unwrap()];
        let name = format!("pools/{pool}");
        let request_id = id.clone();
        let asked = match turn % 4 {
            0 => {
                let name = validators[usize::try_from(numbers.below(validators.len() as u64)).unwrap()].clone();
                let weight = 50 + u32::try_from(numbers.below(50)).unwrap();
                Change::Validator(v1::PutValidatorRequest { request_id, name, weight, ..Default::default() })
            }
            1 => {
                let balance = Some(amount(asset, u128::from(numbers.below(1 << 60))));
                let as_of_time = Some(time(now));
                Change::Custody(v1::ReportCustodyRequest { request_id, pool: name, balance, as_of_time })
            }
            2 => {
                let decision = [v1::EnrolmentDecision::OptOut, v1::EnrolmentDecision::OptIn]
                    [usize::try_from(numbers.below(2)).unwrap()];
                Change::Enrolment(v1::SetEnrolmentRequest {
                    request_id,
                    account: format!("chooser-{}", numbers.below(10)),
                    pool: name,
                    decision: decision as i32,
                    terms_version: "2026-01".to_owned(),
                    jurisdiction: "DE".to_owned(),
                    reason_code: String::new(),
                })
            }
            _ => {
                let pause = v1::PausePoolRequest { request_id, name: name.clone(), reason: "a test".to_owned() };
                change(&shared, &client, &id, Change::Pause(pause)).await?;
                resume_pool(&shared, &client, name).await?;
                continue;
            }
        };
        change(&shared, &client, &id, asked).await?;
    }
    None
}

/// Custody of the second pool: sends what it is asked for, each transfer once.
async fn transfer(shared: Shared, client: Client) -> Option<()> {
    loop {
        let mut reader = client.transfers(&format!("pools/{}", POOLS[1].0), "").until_caught_up();
        while let Some(item) = reader.next().await.ok()? {
            carry_out(&shared, &client, &item.transfer.unwrap()).await?;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn carry_out(shared: &Shared, client: &Client, transfer: &v1::Transfer) -> Option<()> {
    let word = |id: &str, outcome: v1::TransferOutcome, base_units: u128| v1::AckTransferRequest {
        request_id: id.to_owned(),
        name: transfer.name.clone(),
        outcome: outcome as i32,
        amount: Some(amount(POOLS[1].1, base_units)),
        custody_reference: "a wire".to_owned(),
        reason: String::new(),
    };
    let (asked, acknowledged) = (units(&transfer.amount), units(&transfer.acknowledged_amount));
    match transfer.direction() {
        v1::TransferDirection::Fund => {
            if !shared.world().sent.contains_key(&transfer.name) {
                let id = format!("send-{}", transfer.memo);
                let (name, amount) = (transfer.name.clone(), transfer.amount.clone());
                let request = sim::v1::SendFromCustodyRequest { request_id: id.clone(), transfer: name, amount };
                change(shared, client, &id, Change::Send(request)).await?;
            }
            if acknowledged == 0 {
                let id = format!("sent-{}", transfer.memo);
                change(shared, client, &id, Change::Transfer(word(&id, v1::TransferOutcome::Sent, asked))).await?;
            }
        }
        _ => {
            let more = units(&transfer.observed_amount).saturating_sub(acknowledged);
            if more > 0 {
                let id = format!("received-{}-{acknowledged}", transfer.memo);
                change(shared, client, &id, Change::Transfer(word(&id, v1::TransferOutcome::Received, more))).await?;
            }
        }
    }
    Some(())
}
