//! The ledger service: it owns the balances, tells them in ordered feeds, and sends again whatever was not acknowledged.

use std::collections::BTreeMap;

use crate::app::batch::FeedOutcome;
use crate::domain::feed::RejectReason;
use crate::domain::time::UnixSeconds;

use super::calls::{Ask, CallState};
use super::chains::WorldChain;
use super::fault::Fault;
use super::founding::{ACCOUNTS, POOLS, token};
use super::payouts::Delivery;
use super::rng::Rng;
use super::snapshots::Taken;
use super::world::{Stop, World};

/// An asset that no pool stakes.
const UNKNOWN: usize = usize::MAX;

/// What the ledger service knows of one account in one pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holding {
    /// The source that owns it.
    pub(super) owner: usize,
    /// The balance, with everything that is still to be told.
    pub(super) balance: u128,
    /// What the service has accepted last.
    pub(super) accepted: Option<u128>,
    /// From when on, and what, a correction may have made of it, until the next event.
    pub(super) corrected: Option<(UnixSeconds, u128)>,
    /// What a snapshot that was cut off may have made of it, until the next event.
    pub(super) snapshot: Option<u128>,
    /// The sequence of its owner that was accepted last; 0 where there is none.
    pub(super) last_sequence: u64,
    /// The time of the last event.
    last_at: i64,
    /// Events and calls that are not answered.
    pub(super) open: u32,
}

impl Holding {
    /// What a correction may have made of it.
    pub(super) fn corrected_balance(&self) -> Option<u128> {
        self.corrected.map(|(_, balance)| balance)
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Untold,
    Accepted,
    Rejected(RejectReason),
}

/// One event of a feed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) pool: usize,
    pub(super) account: usize,
    pub(super) balance: u128,
    pub(super) at: i64,
    pub(super) fate: Fate,
}

/// One feed.
#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) log: Vec<Line>,
    /// The last sequence that was acknowledged.
    pub(super) acked: u64,
    /// What it may vouch for, and what was taken of that.
    pub(super) watermark: i64,
    pub(super) vouched: i64,
    pub(super) retired: bool,
}

/// The ledger service.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) holdings: Vec<Vec<Holding>>,
    pub(super) feeds: Vec<Feed>,
    pub(super) tokens: Vec<u128>,
    /// Payouts that were read, and how far they are.
    pub(super) deliveries: Vec<Delivery>,
    /// Every snapshot that was ever sent.
    pub(super) snapshots: Vec<Taken>,
    /// Every payout that was ever credited, by pool, period and account.
    pub(super) credited: BTreeMap<(usize, u64, usize), u128>,
}

impl Ledger {
    pub(super) fn new(rng: &mut Rng, chains: &[WorldChain], sources: usize) -> Self {
        let tokens: Vec<u128> = chains.iter().map(|chain| token(&chain.config)).collect();
        let holding = |rng: &mut Rng| Holding { owner: rng.index(sources), ..Holding::default() };
        let holdings = (0..POOLS).map(|_| (0..ACCOUNTS).map(|_| holding(rng)).collect()).collect();
        let feeds = (0..sources).map(|_| Feed::default()).collect();
        Self { holdings, feeds, tokens, deliveries: Vec::new(), snapshots: Vec::new(), credited: BTreeMap::new() }
    }

    pub(super) fn holding(&mut self, pool: usize, account: usize) -> Option<&mut Holding> {
        self.holdings.get_mut(pool)?.get_mut(account)
    }

    /// The source that is softstake's own.
    pub(super) fn put_balance(&self) -> usize {
        self.feeds.len() - 1
    }

    /// Whether nothing is to be told.
    pub(super) fn told(&self) -> bool {
        self.feeds.iter().all(|feed| feed.retired || feed.acked == feed.log.len() as u64)
    }

    fn line(&mut self, source: usize, line: Line) {
        let place = self.holding(line.pool, line.account);
        if let Some(holding) = place.filter(|holding| holding.owner == source) {
            (holding.balance, holding.open) = (line.balance, holding.open + 1);
            holding.last_at = holding.last_at.max(line.at);
        }
        if let Some(feed) = self.feeds.get_mut(source) {
            feed.log.push(line);
        }
    }

    /// What became of the lines `[first, first + count)` of a feed.
    pub(super) fn learn(
        &mut self,
        source: usize,
        first: u64,
        count: u64,
        outcome: &FeedOutcome,
    ) -> Result<Vec<Fate>, String> {
        let last = first + count - 1;
        let mut fates = Vec::new();
        for sequence in first..=last {
            let rejected = outcome.rejected.iter().find(|(rejected, _)| *rejected == sequence);
            let fate = rejected.map_or(Fate::Accepted, |(_, reason)| Fate::Rejected(*reason));
            let Some(line) = self.feeds[source].log.get_mut(usize::try_from(sequence - 1).unwrap_or(usize::MAX)) else {
                continue;
            };
            if line.fate != Fate::Untold {
                if line.fate != fate {
                    return Err(format!("event {sequence} of source {source} was {:?} and now is {fate:?}", line.fate));
                }
                continue;
            }
            line.fate = fate;
            let line = *line;
            fates.push(fate);
            if let Some(holding) = self.holding(line.pool, line.account).filter(|holding| holding.owner == source) {
                holding.open = holding.open.saturating_sub(1);
                if fate == Fate::Accepted {
                    (holding.corrected, holding.snapshot) = (None, None);
                    (holding.accepted, holding.last_sequence) = (Some(line.balance), sequence);
                }
            }
        }
        if outcome.durable_sequence < last {
            return Err(format!(
                "{} is durable of source {source}, and {last} was acknowledged",
                outcome.durable_sequence
            ));
        }
        self.feeds[source].acked = self.feeds[source].acked.max(last);
        Ok(fates)
    }
}

impl World {
    /// The first balances.
    pub(super) async fn open_balances(&mut self) -> Result<(), Stop> {
        for pool in 0..POOLS {
            for account in 0..ACCOUNTS {
                if self.rng.below(5) == 0 {
                    continue;
                }
                let balance = self.draw_balance(pool);
                self.tell(pool, account, balance, 0).await?;
            }
        }
        for source in 0..self.ledger.put_balance() {
            self.send_feeds(&[source], true).await?;
        }
        Ok(())
    }

    fn draw_balance(&mut self, pool: usize) -> u128 {
        let token = self.ledger.tokens.get(pool).copied().unwrap_or(1);
        match self.rng.below(12) {
            0 => 0,
            1 => self.rng.amount_below(token),
            _ => self.rng.log_normal(token * 2_000).min(token * 2_000_000),
        }
    }

    /// The balance of an account becomes `balance`, `ago` seconds before now.
    pub(super) async fn tell(&mut self, pool: usize, account: usize, balance: u128, ago: i64) -> Result<(), Stop> {
        let at = self.now().get() - ago;
        let put = self.ledger.put_balance();
        let Some(holding) = self.ledger.holding(pool, account) else { return Ok(()) };
        if holding.owner == put {
            holding.balance = balance;
            if holding.open == 0 {
                holding.open = 1;
                let at = (ago > 0).then(|| UnixSeconds::new(at));
                self.ask(Ask::PutBalance { pool, account, balance, at }).await?;
            }
            return Ok(());
        }
        let source = holding.owner;
        self.ledger.line(source, Line { pool, account, balance, at, fate: Fate::Untold });
        Ok(())
    }

    /// A call of the ledger service was answered.
    pub(super) fn put_balance_answered(&mut self, pool: usize, account: usize, balance: u128, state: CallState) {
        if let Some(holding) = self.ledger.holding(pool, account) {
            holding.open = holding.open.saturating_sub(1);
            if state == CallState::Done {
                (holding.corrected, holding.snapshot) = (None, None);
                holding.accepted = Some(balance);
            }
        }
    }

    /// A position has another owner: that one tells what it holds.
    pub(super) fn handed_over(&mut self, pool: usize, account: usize, from: usize, to: usize) {
        let (at, put) = (self.now().get(), self.ledger.put_balance());
        let Some(holding) = self.ledger.holding(pool, account).filter(|holding| holding.owner == from) else { return };
        (holding.owner, holding.last_sequence) = (to, 0);
        let balance = holding.balance;
        if to != put {
            self.ledger.line(to, Line { pool, account, balance, at, fate: Fate::Untold });
        }
    }

    pub(super) fn source_retired(&mut self, name: &str) {
        let index = self.names.sources.iter().position(|source| source.as_str() == name);
        if let Some(feed) = index.and_then(|index| self.ledger.feeds.get_mut(index)) {
            feed.retired = true;
        }
    }

    /// The positions of retired sources go to others, and what was put by itself and is out of date is put again.
    pub(super) async fn tidy_holdings(&mut self) -> Result<(), Stop> {
        let put = self.ledger.put_balance();
        for pool in 0..POOLS {
            for account in 0..ACCOUNTS {
                let Some(holding) = self.ledger.holding(pool, account).copied() else { continue };
                let owner = holding.owner;
                let differs = holding.accepted.unwrap_or(0) != holding.balance;
                let stale = holding.open == 0
                    && (owner == put && differs || holding.corrected_balance().or(holding.snapshot).is_some());
                if stale {
                    self.tell(pool, account, holding.balance, 0).await?;
                }
                if owner != put && self.ledger.feeds[owner].retired {
                    // What it never told is told by the next owner.
                    if let Some(holding) = self.ledger.holding(pool, account) {
                        holding.open = 0;
                    }
                    self.hand_over(pool, account, 0).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn hand_over(&mut self, pool: usize, account: usize, to: usize) -> Result<(), Stop> {
        let Some(holding) = self.ledger.holding(pool, account).copied() else { return Ok(()) };
        let asked = self.calls.iter().any(|call| {
            let same = matches!(call.ask, Ask::HandOver { pool: p, account: a, .. } if p == pool && a == account);
            same && call.state == CallState::Open
        });
        if holding.open > 0 || asked || holding.owner == to {
            return Ok(());
        }
        // Without an event there is no owner yet.
        if holding.accepted.is_none() {
            self.handed_over(pool, account, holding.owner, to);
            return Ok(());
        }
        self.ask(Ask::HandOver { pool, account, from: holding.owner, to }).await.map(|_| ())
    }

    /// Business as usual: some balances change.
    pub(super) async fn change_balances(&mut self, count: u64) -> Result<(), Stop> {
        for _ in 0..count {
            let (pool, account) = (self.rng.index(POOLS), self.rng.index(ACCOUNTS));
            let held = self.ledger.holding(pool, account).map_or(0, |holding| holding.balance);
            let balance = match self.rng.below(6) {
                0 => self.draw_balance(pool),
                1 => 0,
                2 => held / 100 * u128::from(self.rng.between(1, 99)),
                _ => held.saturating_add(self.draw_balance(pool) / 10),
            };
            let ago = self.draw_ago();
            self.tell(pool, account, balance, ago).await?;
        }
        Ok(())
    }

    /// How long ago an event was, most of them just now.
    fn draw_ago(&mut self) -> i64 {
        let below = |rng: &mut Rng, end: u64| i64::try_from(rng.below(end)).unwrap_or(0);
        match self.rng.below(40) {
            0 => {
                self.coverage.fault(Fault::EventLate);
                3_600 + below(&mut self.rng, 12_000)
            }
            1 => {
                self.coverage.fault(Fault::EventFromFuture);
                -below(&mut self.rng, 400)
            }
            2..=4 => below(&mut self.rng, 900),
            _ => below(&mut self.rng, 20),
        }
    }

    /// Everybody leaves, or nearly, and comes back later.
    pub(super) async fn run_on_pool(&mut self) -> Result<(), Stop> {
        let pool = self.rng.index(POOLS);
        let share = self.rng.between(60, 95);
        for account in 0..ACCOUNTS {
            let held = self.ledger.holding(pool, account).map_or(0, |holding| holding.balance);
            self.tell(pool, account, held / 100 * u128::from(100 - share), 0).await?;
        }
        Ok(())
    }

    /// Events that must not be accepted: each uses up its sequence.
    pub(super) fn tell_nonsense(&mut self) {
        let source = self.rng.index(self.ledger.put_balance());
        let (pool, account) = (self.rng.index(POOLS), self.rng.index(ACCOUNTS));
        let now = self.now().get();
        let token = self.ledger.tokens.get(pool).copied().unwrap_or(1);
        let line = |pool, balance, at| Line { pool, account, balance, at, fate: Fate::Untold };
        let (fault, line) = match self.rng.below(4) {
            0 => (Fault::EventUnknownAsset, line(UNKNOWN, token, now)),
            1 => (Fault::EventTooLarge, line(pool, (1 << 126) + self.rng.amount_below(1 << 100), now)),
            2 => (Fault::EventOtherSource, line(pool, token, now)),
            _ => (Fault::EventTooOld, line(pool, token, now - 200_000)),
        };
        self.coverage.fault(fault);
        // It says nothing of the true balance.
        let before = self.ledger.holding(pool, account).copied();
        self.ledger.line(source, line);
        if let (Some(before), Some(holding)) = (before, self.ledger.holding(pool, account)) {
            holding.balance = before.balance;
            holding.last_at = before.last_at;
            if holding.owner == source && line.pool != UNKNOWN {
                // Should it be accepted all the same, the truth follows.
                let truth = Line { balance: before.balance, at: now, ..line };
                self.ledger.line(source, truth);
            }
        }
    }
}
