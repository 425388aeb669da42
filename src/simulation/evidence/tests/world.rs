//! A pool on a memory store that lives through acts, and random acts.

use proptest::prelude::*;

use super::super::*;
use crate::app::distribute::tests::rig::{LENGTH, Rig, account, at, policy, units};
use crate::app::enrol::{self, Enrol};
use crate::app::snapshot::{SnapshotHead, SnapshotStep};
use crate::book::{EventBatch, EventPool, EventsOutcome, FeedEvent};
use crate::domain::amount::BaseUnits;
use crate::domain::caller::Caller;
use crate::domain::effect::EffectKey;
use crate::domain::enrolment::Decision;
use crate::domain::fixed_apr::AnnualRate;
use crate::domain::ids::{RequestId, SourceId, TransactionId, ValidatorId};
use crate::domain::policy::{PoolPolicy, ReleaseLimits};
use crate::domain::split::{FeeBps, PayoutUnit};

/// One thing that happens in a world.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// The feed says a balance of this long ago, or ahead where it is below zero.
    Balance {
        who: u8,
        balance: u64,
        ago: i64,
    },
    /// An operator puts a balance by hand.
    Put {
        who: u8,
        balance: u64,
    },
    /// The feed says the largest balance that there may be, or one base unit more.
    Huge {
        who: u8,
        over: bool,
    },
    Enrol {
        who: u8,
        decision: usize,
        everywhere: bool,
    },
    HandOver {
        who: u8,
        to_feed: bool,
    },
    Reward {
        amount: u64,
        hours: i64,
    },
    Compound {
        amount: u64,
    },
    Stake {
        amount: u64,
    },
    Unstake {
        amount: u64,
    },
    Mature {
        amount: u64,
    },
    Policy {
        minimum: u64,
        cap: Option<u64>,
        opt_in: bool,
        fee: u32,
        unit: u64,
        rate: Option<u32>,
        absorb: bool,
    },
    Wait {
        seconds: i64,
    },
    /// A distribution that is held is approved, computed anew or given up.
    Decide {
        what: u8,
    },
    /// The feed vouches for what lies this long back from now on; a period waits for it 600 seconds at most.
    Lag {
        seconds: i64,
    },
    /// The feed was wrong this long ago.
    Correct {
        who: u8,
        balance: u64,
        ago: i64,
    },
    /// The chain destroys stake, or gives back some of what it destroyed first and did not give back.
    Slash {
        amount: u64,
    },
    Unslash {
        amount: u64,
    },
    /// The feed's snapshot of this long ago, which it does not stick to afterwards; whom it does not name has nothing.
    Snapshot {
        balances: Vec<(u8, u64)>,
        ago: i64,
    },
    Restart,
}

struct World {
    rig: Rig,
    now: i64,
    lag: i64,
    sequence: u64,
    effects: u64,
    snapshots: u64,
    delegated: u64,
    unbonding: u64,
    /// The slashes that were not reversed.
    slashes: Vec<EffectKey>,
    source: SourceNumber,
}

fn name(who: u8) -> String {
    format!("customer-{who}")
}

impl World {
    async fn new(partitions: u16, policy: PoolPolicy, approval_required: bool) -> Self {
        let release = ReleaseLimits { approval_required, ..ReleaseLimits::default() };
        let mut rig = Rig::with(partitions, policy, release).await;
        let (request, app) = (rig.request(), rig.app.clone());
        let id = SourceId::new("spot").unwrap();
        let _ = rig.drive(app.register_source(&request, id.clone(), "")).await.unwrap();
        let source = SourceNumber(app.sources().iter().find(|known| known.id == id).unwrap().number);
        rig.run().await.unwrap();
        Self {
            rig,
            now: 0,
            lag: 40,
            sequence: 0,
            effects: 0,
            snapshots: 0,
            delegated: 0,
            unbonding: 0,
            slashes: Vec::new(),
            source,
        }
    }

    async fn send(&mut self, events: Vec<FeedEvent>, watermark: Option<i64>) -> Option<EventsOutcome> {
        let watermark = watermark.map(at);
        let batch = EventBatch { source: self.source, first_sequence: self.sequence + 1, events, watermark };
        let receipt = self.rig.book.sender().submit_events(batch).unwrap();
        let outcome = self.rig.drive(receipt).await.ok()?;
        self.sequence = outcome.durable_sequence;
        Some(outcome)
    }

    async fn say(&mut self, who: u8, balance: BaseUnits, second: i64) {
        let pool = EventPool::Pool(self.rig.pool.number());
        let event = FeedEvent { pool, account: account(&name(who)), balance, at: at(second) };
        self.send(vec![event], None).await;
    }

    async fn effect(&mut self, kind: EffectKind) {
        self.effects += 1;
        self.rig.effect(&format!("tx-{}", self.effects), kind, self.now).await;
    }

    async fn settle(&mut self) {
        let app = self.rig.app.clone();
        let _ = self.rig.drive(enrol::step(&app)).await.unwrap();
        self.rig.reconciled(self.now).await;
        self.rig.run().await.unwrap();
    }

    async fn wait(&mut self, seconds: i64) {
        let until = self.now + seconds;
        while self.now < until {
            self.now = until.min(self.now + LENGTH / 3);
            self.rig.set_time(self.now);
            self.send(Vec::new(), Some(self.now - self.lag)).await.unwrap();
            self.settle().await;
        }
    }

    async fn act(&mut self, act: &Act) {
        let validator = ValidatorId::new("v").unwrap();
        match act.clone() {
            Act::Balance { who, balance, ago } => {
                // Of a period that is not open yet it is sent back, and is no event.
                self.say(who, units(balance), self.now - ago).await;
            }
            Act::Huge { who, over } => {
                // The rig's period, and its lateness.
                let limit = ((1 << 127) - 1) / (LENGTH as u128 + 10_000);
                self.say(who, BaseUnits::new(limit + u128::from(over)).unwrap(), self.now).await;
            }
            Act::Put { who, balance } => {
                let (request, app) = (self.rig.request(), self.rig.app.clone());
                let asset = self.rig.pool.record.asset.clone();
                let put = app.put_balance(&request, account(&name(who)), asset, units(balance), Some(at(self.now)));
                // Another source may own the position.
                drop(self.rig.drive(put).await);
            }
            Act::Enrol { who, decision, everywhere } => {
                let (request, app) = (self.rig.request(), self.rig.app.clone());
                let enrol = Enrol {
                    account: account(&name(who)),
                    pool: (!everywhere).then(|| self.rig.pool.id().clone()),
                    decision: Decision::ALL[decision],
                    terms_version: String::new(),
                    jurisdiction: String::new(),
                    reason_code: String::new(),
                };
                let _ = self.rig.drive(app.set_enrolment(&request, enrol)).await.unwrap();
            }
            Act::HandOver { who, to_feed } => {
                let (request, app, pool) = (self.rig.request(), self.rig.app.clone(), self.rig.pool.clone());
                let (feed, put) = (SourceId::new("spot").unwrap(), SourceId::new("put-balance").unwrap());
                let (from, to) = if to_feed { (put, feed) } else { (feed, put) };
                let account = account(&name(who));
                // The account may have no position, or another owner.
                drop(self.rig.drive(app.hand_over_position(&request, &pool, &account, &from, &to)).await);
            }
            Act::Reward { amount, hours } => {
                let (earned_from, earned_to) = (at(self.now - hours * LENGTH), at(self.now));
                let amount = units(amount);
                self.effect(EffectKind::RewardPaid { validator: None, amount, earned_from, earned_to }).await;
            }
            Act::Compound { amount } => {
                self.delegated += amount;
                let (earned_from, earned_to) = (at(self.now - LENGTH), at(self.now));
                let amount = units(amount);
                self.effect(EffectKind::RewardCompounded { validator, amount, earned_from, earned_to }).await;
            }
            Act::Stake { amount } => {
                self.delegated += amount;
                let amount = units(amount);
                self.effect(EffectKind::TransferIn { transfer: None, amount }).await;
                self.effect(EffectKind::Delegated { validator, amount }).await;
            }
            Act::Unstake { amount } => {
                let amount = amount.min(self.delegated);
                (self.delegated, self.unbonding) = (self.delegated - amount, self.unbonding + amount);
                let (amount, matures_at) = (units(amount), at(self.now + LENGTH));
                self.effect(EffectKind::Undelegated { validator, amount, matures_at }).await;
            }
            Act::Mature { amount } => {
                let amount = amount.min(self.unbonding);
                self.unbonding -= amount;
                self.effect(EffectKind::Matured { validator, amount: units(amount) }).await;
            }
            Act::Correct { who, balance, ago } => {
                let (ask, mut approve, app) = (self.rig.request(), self.rig.request(), self.rig.app.clone());
                approve.caller = Caller::local("the second person");
                let asset = self.rig.pool.record.asset.clone();
                let second = at((self.now - ago).max(0));
                let correct = app.correct_balance(&ask, (account(&name(who)), asset), units(balance), second, "");
                // The account may have no position, and there may be nothing to correct.
                let Ok((_, proposed)) = self.rig.drive(correct).await else { return };
                let approve = app.approve(&approve, proposed.number, proposed.content_hash);
                let _ = self.rig.drive(approve).await.unwrap();
            }
            Act::Slash { amount } => {
                let amount = amount.min(self.delegated);
                self.delegated -= amount;
                let key = format!("tx-{}", self.effects + 1);
                self.slashes.push(EffectKey { transaction: TransactionId::new(&key).unwrap(), index: 0 });
                let (delegated, unbonding) = (units(amount), units(0));
                self.effect(EffectKind::Slashed { validator, delegated, unbonding }).await;
            }
            Act::Unslash { amount } => {
                let Some(slash) = self.slashes.pop() else { return };
                self.delegated += amount;
                let (delegated, unbonding) = (units(amount), units(0));
                self.effect(EffectKind::SlashReversed { slash, validator, delegated, unbonding }).await;
            }
            Act::Policy { minimum, cap, opt_in, fee, unit, rate, absorb } => {
                let enrolment = if opt_in { EnrolmentMode::OptIn } else { EnrolmentMode::Automatic };
                let mut next = policy();
                next.eligibility.minimum = units(minimum);
                next.eligibility.cap = cap.map(|cap| units(minimum + cap));
                next.eligibility.enrolment = enrolment;
                next.fee = FeeBps::new(fee).unwrap();
                next.payout_unit = PayoutUnit::new(units(unit)).unwrap();
                if let Some(rate) = rate {
                    let rate = rust_decimal::Decimal::new(i64::from(rate), 4);
                    next.reward = RewardPolicy::FixedApr(AnnualRate::new(rate).unwrap());
                } else if absorb {
                    next.slash = SlashPolicy::RewardsAbsorb;
                }
                let (request, app, pool) = (self.rig.request(), self.rig.app.clone(), self.rig.pool.clone());
                let _ = self.rig.drive(app.update_pool(&request, &pool, None, Some(next), None)).await.unwrap();
                app.approve_waiting().await;
            }
            Act::Snapshot { balances, ago } => self.snapshot(balances, ago).await,
            Act::Lag { seconds } => self.lag = seconds,
            Act::Wait { seconds } => self.wait(seconds).await,
            Act::Decide { what } => self.decide(what).await,
            // It takes the whole rig: `run` does it.
            Act::Restart => {}
        }
    }

    async fn snapshot(&mut self, balances: Vec<(u8, u64)>, ago: i64) {
        self.snapshots += 1;
        let (app, asset) = (self.rig.app.clone(), self.rig.pool.record.asset.clone());
        let mut snapshot = app
            .begin_snapshot(SnapshotHead {
                source: SourceId::new("spot").unwrap(),
                id: RequestId::new(&format!("snapshot-{}", self.snapshots)).unwrap(),
                next_sequence: self.sequence + 1,
                assets: vec![asset.clone()],
                as_of: at(self.now - ago),
                apply: true,
            })
            .unwrap();
        for (who, balance) in BTreeMap::from_iter(balances) {
            assert!(snapshot.push(&app, account(&name(who)), asset.as_str(), units(balance)));
        }
        let mut work = app.take_snapshot(snapshot);
        let taking = async {
            // Of a period that is not open yet it is refused.
            while let Ok(SnapshotStep::More) = work.step(&app).await {}
        };
        self.rig.drive(taking).await;
    }

    /// Decides on the oldest distribution that is held.
    async fn decide(&mut self, what: u8) {
        let (app, pool) = (self.rig.app.clone(), self.rig.pool.clone());
        let held = app.distributions_page(&pool, |state| state == DistributionState::Held, None, 1).await.unwrap();
        let Some(held) = held.entries.into_iter().next().map(|view| view.record) else { return };
        let request = self.rig.request();
        let (period, revision) = (held.period, held.revision);
        let _ = match what {
            0 => app.void_distribution(&request, &pool, period, revision, AfterVoid::Recompute, "test").await.unwrap(),
            1 => app.void_distribution(&request, &pool, period, revision, AfterVoid::Carry, "test").await.unwrap(),
            _ => app.approve_distribution(&request, &pool, period, revision, held.hash).await.unwrap(),
        };
        app.approve_waiting().await;
        self.settle().await;
    }

    async fn gather(&mut self) -> Input {
        self.rig.seal().await;
        let effects = self.rig.effects.lock().unwrap().clone();
        gather(&self.rig.app, &self.rig.book, &self.rig.pool, &effects).await.unwrap()
    }
}

pub(super) async fn run(partitions: u16, approval_required: bool, acts: &[Act]) -> Input {
    let first = PoolPolicy { slash: SlashPolicy::RewardsAbsorb, ..policy() };
    let mut world = World::new(partitions, first, approval_required).await;
    for act in acts {
        if let Act::Restart = act {
            world.rig = world.rig.restart().await;
            world.settle().await;
        }
        world.act(act).await;
    }
    world.wait(LENGTH).await;
    world.gather().await
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let ago = prop_oneof![4 => 0..50i64, 2 => 50..80i64, 2 => 0..LENGTH * 4, 1 => -90..0i64];
    prop_oneof![
        1 => (0..6u8, any::<bool>()).prop_map(|(who, over)| Act::Huge { who, over }),
        10 => (0..6u8, 0..2_000_000u64, ago).prop_map(|(who, balance, ago)| Act::Balance { who, balance, ago }),
        2 => (0..7u8, 0..2_000_000u64).prop_map(|(who, balance)| Act::Put { who, balance }),
        2 => (0..8u8, 0..4usize, any::<bool>())
            .prop_map(|(who, decision, everywhere)| Act::Enrol { who, decision, everywhere }),
        1 => (0..7u8, any::<bool>()).prop_map(|(who, to_feed)| Act::HandOver { who, to_feed }),
        2 => (1..100_000u64, 1..4i64).prop_map(|(amount, hours)| Act::Reward { amount, hours }),
        1 => (1..1_000u64).prop_map(|amount| Act::Compound { amount }),
        2 => (1..4_000_000u64).prop_map(|amount| Act::Stake { amount }),
        1 => (1..4_000_000u64).prop_map(|amount| Act::Unstake { amount }),
        1 => (1..4_000_000u64).prop_map(|amount| Act::Mature { amount }),
        1 => (
            0..900_000u64,
            proptest::option::of(0..900_000u64),
            proptest::bool::weighted(0.2),
            0..10_000u32,
            1..40u64,
            proptest::option::weighted(0.5, 0..9_999u32),
            any::<bool>(),
        )
            .prop_map(|(minimum, cap, opt_in, fee, unit, rate, absorb)| {
                Act::Policy { minimum, cap, opt_in, fee, unit, rate, absorb }
            }),
        8 => (1..LENGTH / 2).prop_map(|seconds| Act::Wait { seconds }),
        3 => (0..5u8).prop_map(|what| Act::Decide { what }),
        2 => (0..900i64).prop_map(|seconds| Act::Lag { seconds }),
        3 => (0..6u8, 0..2_000_000u64, 0..LENGTH * 4)
            .prop_map(|(who, balance, ago)| Act::Correct { who, balance, ago }),
        2 => (1..90_000u64).prop_map(|amount| Act::Slash { amount }),
        1 => (1..90_000u64).prop_map(|amount| Act::Unslash { amount }),
        2 => (proptest::collection::vec((0..7u8, 0..2_000_000u64), 1..6), prop_oneof![3 => 0..50i64, 1 => -90..LENGTH * 4])
            .prop_map(|(balances, ago)| Act::Snapshot { balances, ago }),
        1 => Just(Act::Restart),
    ]
}
