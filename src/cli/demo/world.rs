//! The main loop: time moves to the next moment, then customers, custody and the ledger service do what that stretch of
//! time held, then the story goes on.
//!
//! Events lie in the stretch that has just passed, and the watermark vouches for all of it: so they are never from the
//! future, and a period freezes only after its last event.

use indicatif::ProgressBar;

use super::DemoError;
use super::checks;
use super::custody::Custody;
use super::feed::Feed;
use super::ledger::{Credit, Ledger, PoolBook, day, distribution, stamp};
use super::market::{Change, Market};
use super::plan::{DAY, HOUR, Plan, PoolPlan, START, Story, steps};
use super::reference::Reference;
use super::report::Outcome;
use super::story::{Seen, list_validators};
use crate::cli::child::{Server, moment};
use crate::client::{BalanceEvent, Client};
use crate::pb::sim::v1 as sim;

/// Events of one batch.
const BATCH: usize = 500;

/// Events of one batch when the server is to die with batches in flight.
const SMALL_BATCH: usize = 8;

/// One pool, as the world outside the service knows it.
#[derive(Debug)]
pub(super) struct PoolWorld {
    pub(super) plan: PoolPlan,
    pub(super) market: Market,
    pub(super) reference: Reference,
}

/// Everything outside the service.
#[derive(Debug)]
pub(super) struct World {
    pub(super) pools: Vec<PoolWorld>,
    pub(super) feed: Feed,
    pub(super) custody: Custody,
    pub(super) ledger: Ledger,
    pub(super) seen: Seen,
}

/// Lives `plan` against `server`.
pub(super) async fn live(plan: &Plan, server: &mut Server, bar: &ProgressBar) -> Result<Outcome, DemoError> {
    let story = plan.story();
    bar.set_message("starting");
    let mut client = server.start().await?;
    let mut world = World::new(plan, server.endpoint());
    world.open(&client).await?;
    let mut now = START;
    for next in steps(&story) {
        bar.set_message(format!("{}, day {} of {}", day(now), (now - START) / DAY + 1, plan.days));
        advance(&client, next).await?;
        let changes = world.stretch(&story, now, next);
        now = next;
        if now == story.kill {
            client = world.live_through_a_kill(server, &client, changes, now).await?;
        } else {
            world.send(changes, BATCH, now).await?;
            world.feed.wait().await?;
        }
        if (now - START) % DAY == 0 {
            for pool in &mut world.pools {
                pool.reference.close(now);
            }
        }
        world.custody.serve(&client).await?;
        world.pay(&client, now).await?;
        world.tell(&client, &story, now).await?;
        bar.inc(1);
    }
    bar.set_message("waiting for the last payouts");
    world.settle(&client, now).await?;
    checks::outcome(plan, &client, world).await
}

/// Moves the service's clock. The same again after a lost answer does nothing.
async fn advance(client: &Client, to: i64) -> Result<(), DemoError> {
    let answer = client.advance_time(stamp(to)).await.map_err(DemoError::call("AdvanceTime"))?;
    match answer.now.map(|now| now.seconds) {
        Some(now) if now == to => Ok(()),
        now => Err(DemoError::Server(format!("told to be at {}, it is at {now:?}", moment(to)))),
    }
}

impl World {
    fn new(plan: &Plan, endpoint: String) -> Self {
        let pools = plan.pools.iter().map(|pool| PoolWorld {
            market: Market::new(plan.seed, pool),
            reference: Reference::new(pool.rules, START),
            plan: pool.clone(),
        });
        Self {
            pools: pools.collect(),
            feed: Feed::new(endpoint),
            custody: Custody::default(),
            ledger: Ledger::new(plan),
            seen: Seen::default(),
        }
    }

    /// The opening balances.
    async fn open(&mut self, client: &Client) -> Result<(), DemoError> {
        let answer = client.get_time(sim::GetTimeRequest {}).await.map_err(DemoError::call("GetTime"))?;
        if answer.now.map(|now| now.seconds) != Some(START) {
            return Err(DemoError::Server(format!(
                "its clock stands at {:?} and not at {}",
                answer.now,
                moment(START)
            )));
        }
        for pool in &self.pools {
            list_validators(client, &pool.plan).await?;
        }
        let changes = self.pools.iter().map(|pool| pool.market.open(START)).collect();
        self.send(changes, BATCH, START).await?;
        self.feed.wait().await?;
        self.find_someone_ineligible(client).await
    }

    /// What customers did between two moments, by pool.
    fn stretch(&mut self, story: &Story, from: i64, to: i64) -> Vec<Vec<Change>> {
        let leaving = story.mass_withdrawal == from && to == from + HOUR;
        let pools = self.pools.iter_mut();
        pools
            .map(|pool| if leaving { pool.market.mass_withdrawal(from, to) } else { pool.market.trade(from, to) })
            .collect()
    }

    /// Enters changes, by pool, into the reference, and sends them.
    async fn send(&mut self, changes: Vec<Vec<Change>>, batch: usize, watermark: i64) -> Result<(), DemoError> {
        let mut events = Vec::new();
        for (pool, changes) in self.pools.iter_mut().zip(changes) {
            for Change { who, balance, at } in changes {
                pool.reference.balance(who, at, balance);
                events.push(BalanceEvent {
                    account: pool.market.account(who).to_owned(),
                    asset: pool.plan.preset.asset().to_owned(),
                    base_units: balance,
                    event_seconds: at,
                });
            }
        }
        // In the order of time over all pools, as a ledger would send them.
        events.sort_by_key(|event| event.event_seconds);
        self.feed.send(events, batch, watermark).await
    }

    /// Reads the payouts, credits and acknowledges them; the feed brings them back.
    async fn pay(&mut self, client: &Client, now: i64) -> Result<(), DemoError> {
        let credits = self.ledger.collect(client, &mut self.pools, true).await?;
        let changes = self.credit(credits, now);
        self.send(changes, BATCH, now).await?;
        self.feed.wait().await
    }

    fn credit(&mut self, credits: Vec<Credit>, now: i64) -> Vec<Vec<Change>> {
        let mut changes: Vec<Vec<Change>> = self.pools.iter().map(|_| Vec::new()).collect();
        for credit in credits {
            let (Some(pool), Some(changes)) = (self.pools.get_mut(credit.pool), changes.get_mut(credit.pool)) else {
                continue;
            };
            if let Some(who) = pool.market.who(&credit.account) {
                changes.push(pool.market.credit(who, credit.units, now));
            }
        }
        changes
    }

    /// The ledger service has credited payouts and not said so, batches are in flight, and the server dies.
    async fn live_through_a_kill(
        &mut self,
        server: &mut Server,
        client: &Client,
        mut changes: Vec<Vec<Change>>,
        now: i64,
    ) -> Result<Client, DemoError> {
        let credits = self.ledger.collect(client, &mut self.pools, false).await?;
        for (changes, more) in changes.iter_mut().zip(self.credit(credits, now)) {
            changes.extend(more);
        }
        let repeated = self.ledger.repeated;
        self.send(changes, SMALL_BATCH, now).await?;
        self.feed.wait_for_one().await;
        server.kill().await?;
        let client = server.start().await?;
        self.seen.restart = Some(self.feed.resume(&client).await?);
        self.pay(&client, now).await?;
        self.seen.redelivered = self.ledger.repeated - repeated;
        Ok(client)
    }

    /// Goes on, without trading, until the last payouts are credited and the chains and the ledger agree; at most most of a
    /// day. What still differs then is reported by the checks.
    async fn settle(&mut self, client: &Client, end: i64) -> Result<(), DemoError> {
        let mut now = end;
        while now < end + DAY - HOUR {
            now += HOUR / 6;
            advance(client, now).await?;
            self.send(Vec::new(), BATCH, now).await?;
            self.feed.wait().await?;
            self.custody.serve(client).await?;
            self.pay(client, now).await?;
            for index in 0..self.pools.len() {
                self.check_released(client, index, end).await?;
            }
            if checks::settled(client, self, end).await? {
                break;
            }
        }
        self.ledger.finish();
        Ok(())
    }

    /// Distributions without a payout are not streamed: they are looked for here.
    async fn check_released(&mut self, client: &Client, index: usize, end: i64) -> Result<(), DemoError> {
        while let Some(next) = self.ledger.pool(index).map(PoolBook::next_period).filter(|next| *next < end) {
            let name = self.pools.get(index).map(|pool| pool.plan.name()).unwrap_or_default();
            if distribution(client, &name, next).await?.is_none() {
                return Ok(());
            }
            self.ledger.check_up_to(client, index, next, &mut self.pools).await?;
        }
        Ok(())
    }
}
