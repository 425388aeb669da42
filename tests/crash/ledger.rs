//! What the services around softstake know: what they sent, what was acknowledged, and what that has to come to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost_types::Timestamp;
use softstake::client::BalanceEvent;
use softstake::pb::v1;

use crate::numbers::mix;
use crate::program::{POOLS, SOURCES, START};

/// Accounts of one source in each pool.
pub const ACCOUNTS: u64 = 24;

/// The least balance of an account in each pool, in base units; the largest is a thousand times that.
const LEAST: [u128; 2] = [1_000_000_000_000, 1_000_000_000_000_000_000_000_000_000];

/// An amount on the wire.
pub fn amount(asset: &str, base_units: u128) -> v1::Amount {
    v1::Amount { asset: asset.to_owned(), base_units: base_units.to_string() }
}

/// The base units of an amount on the wire.
pub fn units(amount: &Option<v1::Amount>) -> u128 {
    amount.as_ref().unwrap().base_units.parse().unwrap()
}

/// A time on the wire.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// What one position has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub balance: u128,
    pub since: i64,
    /// Base units x seconds up to `since`, over all periods.
    pub weight: u128,
}

impl Held {
    fn take(&mut self, balance: u128, at: i64) {
        assert!(at >= self.since);
        self.weight = self.weight_at(at);
        (self.balance, self.since) = (balance, at);
    }

    /// The time weight gathered until `at`.
    pub fn weight_at(&self, at: i64) -> u128 {
        self.weight + self.balance * u128::from((at - self.since).unsigned_abs())
    }
}

/// One source of balance events, as its producer keeps it.
#[derive(Clone, Debug)]
pub struct Feed {
    pub name: &'static str,
    seed: u64,
    /// The last event of all that are known to be applied.
    pub applied: u64,
    /// What was given to a connection and is not in `positions` yet.
    outbox: VecDeque<BalanceEvent>,
    /// The last events of the batches that were given.
    ends: VecDeque<u64>,
    /// The last event that was acknowledged.
    pub acknowledged: u64,
    /// What was vouched for, and acknowledged.
    pub watermark: Option<i64>,
    /// By account and pool.
    pub positions: BTreeMap<(String, usize), Held>,
}

impl Feed {
    fn new(index: usize, seed: u64) -> Self {
        Self {
            name: SOURCES[index],
            seed: mix(seed ^ (index as u64 + 1)),
            applied: 0,
            outbox: VecDeque::new(),
            ends: VecDeque::new(),
            acknowledged: 0,
            watermark: None,
            positions: BTreeMap::new(),
        }
    }

    pub fn resource(&self) -> String {
        format!("sources/{}", self.name)
    }

    /// The last event that was given.
    pub fn given(&self) -> u64 {
        self.applied + self.outbox.len() as u64
    }

    /// How many batches wait for their acknowledgement.
    pub fn unanswered(&self) -> usize {
        self.ends.iter().filter(|end| **end > self.acknowledged).count()
    }

    /// The next `count` events, which happen at `at`: each sets a balance that no other event sets.
    pub fn next_batch(&mut self, count: u64, at: i64) -> Vec<BalanceEvent> {
        let first = self.given() + 1;
        let events: Vec<BalanceEvent> = (first..first + count)
            .map(|sequence| {
                let drawn = mix(self.seed ^ sequence);
                let pool = usize::from(drawn % 2 == 1);
                let more = (LEAST[pool] >> 32) * u128::from(drawn >> 32);
                BalanceEvent {
                    account: format!("{}-{}", self.name, (drawn >> 8) % ACCOUNTS),
                    asset: POOLS[pool].1.to_owned(),
                    base_units: LEAST[pool] + more * 1_000 + u128::from(sequence % 1_000),
                    event_seconds: at,
                }
            })
            .collect();
        self.outbox.extend(events.iter().cloned());
        self.ends.push_back(self.given());
        events
    }

    /// The events after `after` that were given, in their batches: first sequence and events.
    pub fn batches_after(&self, after: u64) -> Vec<(u64, Vec<BalanceEvent>)> {
        let mut first = after + 1;
        let mut batches = Vec::new();
        for end in self.ends.iter().copied().filter(|end| *end > after) {
            let skipped = usize::try_from(first - 1 - self.applied).unwrap();
            let count = usize::try_from(end + 1 - first).unwrap();
            batches.push((first, self.outbox.iter().skip(skipped).take(count).cloned().collect()));
            first = end + 1;
        }
        batches
    }

    /// Whether a batch ends with `sequence`.
    pub fn is_whole(&self, sequence: u64) -> bool {
        sequence == self.applied || self.ends.contains(&sequence)
    }

    /// Everything up to `through` is there: the positions are what it makes of them.
    pub fn apply(&mut self, through: u64) {
        while self.applied < through {
            let event = self.outbox.pop_front().expect("only what was given is there");
            self.applied += 1;
            let pool = usize::from(event.asset == POOLS[1].1);
            let held = self
                .positions
                .entry((event.account, pool))
                .or_insert(Held { since: event.event_seconds, ..Held::default() });
            held.take(event.base_units, event.event_seconds);
        }
        self.ends.retain(|end| *end > through);
        self.acknowledged = self.acknowledged.max(through);
    }
}

/// A change by its id, with its first answer.
#[derive(Clone, Debug)]
pub struct Call {
    pub request: Change,
    /// The answer's bytes; none until there was one.
    pub answer: Option<Vec<u8>>,
}

/// What is asked for by an id.
#[derive(Clone, Debug)]
pub enum Change {
    Put(v1::PutBalanceRequest),
    Validator(v1::PutValidatorRequest),
    Custody(v1::ReportCustodyRequest),
    Enrolment(v1::SetEnrolmentRequest),
    Pause(v1::PausePoolRequest),
    Resume(v1::ResumePoolRequest),
    Approve(v1::ApproveRequest),
    Ack(v1::AckPayoutsRequest),
    Transfer(v1::AckTransferRequest),
    Send(softstake::pb::sim::v1::SendFromCustodyRequest),
}

/// One distribution as it was streamed.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    pub hash: Vec<u8>,
    /// By index: payout, account, base units.
    pub payouts: BTreeMap<u64, (String, String, u128)>,
    /// How many are acknowledged for certain, and at most.
    pub acknowledged: u64,
    pub asked: u64,
    /// The indices of those that were not credited.
    pub rejected: BTreeSet<u64>,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct World {
    /// What the clock shows at least, and what it was asked to show at most.
    pub now: i64,
    pub asked: i64,
    pub feeds: Vec<Feed>,
    /// The balances put one by one.
    pub puts: BTreeMap<String, u128>,
    /// The sequences that PutBalance answered with.
    pub put_sequences: BTreeMap<String, u64>,
    /// Changes that were answered: the last few of each kind are asked again after a restart.
    pub answered: VecDeque<Call>,
    /// Changes that were not answered: they are asked again first of all.
    pub unanswered: BTreeMap<String, Call>,
    /// By pool, distribution and revision.
    pub delivered: BTreeMap<(usize, String, u32), Delivered>,
    /// What custody has sent, by the transfer's name.
    pub sent: BTreeMap<String, u128>,
    /// The changes so far, for their ids.
    pub changes: u64,
}

/// How many answers are kept, to be asked for again.
const KEPT_ANSWERS: usize = 64;

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: START,
            asked: START,
            feeds: (0..SOURCES.len()).map(|index| Feed::new(index, seed)).collect(),
            puts: BTreeMap::new(),
            put_sequences: BTreeMap::new(),
            answered: VecDeque::new(),
            unanswered: BTreeMap::new(),
            delivered: BTreeMap::new(),
            sent: BTreeMap::new(),
            changes: 0,
        }
    }

    /// An id that no other change of this world has.
    pub fn id(&mut self, kind: &str) -> String {
        self.changes += 1;
        format!("{kind}-{}", self.changes)
    }

    /// How many writes wait for their answers.
    pub fn writes_in_flight(&self) -> usize {
        self.feeds.iter().map(Feed::unanswered).sum::<usize>()
            + self.unanswered.len()
            + usize::from(self.asked > self.now)
    }

    /// A change is on its way.
    pub fn ask(&mut self, id: &str, request: Change) {
        self.unanswered.insert(id.to_owned(), Call { request, answer: None });
    }

    /// A change was answered.
    pub fn answer(&mut self, id: &str, answer: Vec<u8>) {
        let mut call = self.unanswered.remove(id).expect("it was asked");
        call.answer = Some(answer);
        self.answered.push_back(call);
        if self.answered.len() > KEPT_ANSWERS {
            self.answered.pop_front();
        }
    }
}
