//! The ledger service: it owns the balances, tells them in ordered feeds, and sends again whatever was not acknowledged.

use std::collections::BTreeMap;

use crate::app::batch::FeedOutcome;
use crate::app::{App, AppError, Reason};
use crate::domain::amount::BaseUnits;
use crate::domain::feed::RejectReason;
use crate::domain::time::UnixSeconds;

use super::calls::{Ask, CallState, Names};
use super::chains::WorldChain;
use super::founding::{ACCOUNTS, POOLS, token};
use super::payouts::Delivery;
use super::rng::Rng;
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
    /// The time of the last event.
    last_at: i64,
    /// Events and calls that are not answered.
    open: u32,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Untold,
    Accepted,
    Rejected(RejectReason),
}

/// One event of a feed.
#[derive(Clone, Copy, Debug)]
struct Line {
    pool: usize,
    account: usize,
    balance: u128,
    at: i64,
    fate: Fate,
}

/// One feed.
#[derive(Debug, Default)]
struct Feed {
    log: Vec<Line>,
    /// The last sequence that was acknowledged.
    acked: u64,
    watermark: i64,
    vouched: i64,
    retired: bool,
}

/// The ledger service.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) holdings: Vec<Vec<Holding>>,
    feeds: Vec<Feed>,
    tokens: Vec<u128>,
    /// Payouts that were read, and how far they are.
    pub(super) deliveries: Vec<Delivery>,
    /// Every payout that was ever credited, by pool, period and account.
    pub(super) credited: BTreeMap<(usize, u64, usize), u128>,
}

/// A part of a feed on its way.
#[derive(Clone, Debug)]
struct Part {
    source: usize,
    first: u64,
    lines: Vec<Line>,
    watermark: Option<i64>,
}

impl Ledger {
    pub(super) fn new(rng: &mut Rng, chains: &[WorldChain], sources: usize) -> Self {
        let tokens: Vec<u128> = chains.iter().map(|chain| token(&chain.config)).collect();
        let holding = |rng: &mut Rng| Holding { owner: rng.index(sources), ..Holding::default() };
        let holdings = (0..POOLS).map(|_| (0..ACCOUNTS).map(|_| holding(rng)).collect()).collect();
        let feeds = (0..sources).map(|_| Feed::default()).collect();
        Self { holdings, feeds, tokens, deliveries: Vec::new(), credited: BTreeMap::new() }
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
    fn learn(&mut self, source: usize, first: u64, count: u64, outcome: &FeedOutcome) -> Result<Vec<Fate>, String> {
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
                    holding.accepted = Some(line.balance);
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

async fn hand_in(app: &App, names: &Names, assets: &[String], parts: Vec<Part>) -> Vec<Result<FeedOutcome, AppError>> {
    let mut batches = Vec::new();
    for part in parts {
        let source = names.sources.get(part.source).unwrap_or(&names.no_source);
        let watermark = part.watermark.map(UnixSeconds::new);
        let batch = app.feed_batch(source, part.first, watermark).and_then(|mut batch| {
            for line in &part.lines {
                let account = names.accounts.get(line.account).unwrap_or(&names.nobody).clone();
                let asset = assets.get(line.pool).map_or("NOPE", String::as_str);
                batch.push(
                    account,
                    asset,
                    BaseUnits::new(line.balance).unwrap_or(BaseUnits::MAX),
                    UnixSeconds::new(line.at),
                );
            }
            match batch.hand_in(app)? {
                true => Ok(batch),
                false => Err(AppError::refused(Reason::Overloaded, "no room")),
            }
        });
        batches.push(batch);
    }
    // All are handed in before any is waited for.
    let mut outcomes = Vec::new();
    for batch in batches {
        outcomes.push(match batch {
            Ok(batch) => batch.durable(app).await,
            Err(error) => Err(error),
        });
    }
    outcomes
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
                holding.accepted = Some(balance);
            }
        }
    }

    /// A position has another owner: that one tells what it holds.
    pub(super) fn handed_over(&mut self, pool: usize, account: usize, from: usize, to: usize) {
        let (at, put) = (self.now().get(), self.ledger.put_balance());
        let Some(holding) = self.ledger.holding(pool, account).filter(|holding| holding.owner == from) else { return };
        holding.owner = to;
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
                let stale = owner == put && holding.open == 0 && holding.accepted.unwrap_or(0) != holding.balance;
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
                self.coverage.hit("action", "event_late");
                3_600 + below(&mut self.rng, 12_000)
            }
            1 => {
                self.coverage.hit("action", "event_from_the_future");
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
        let (name, line) = match self.rng.below(4) {
            0 => ("event_of_an_unknown_asset", line(UNKNOWN, token, now)),
            1 => ("event_too_large", line(pool, (1 << 126) + self.rng.amount_below(1 << 100), now)),
            2 => ("event_of_another_source", line(pool, token, now)),
            _ => ("event_too_old", line(pool, token, now - 200_000)),
        };
        self.coverage.hit("action", name);
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

    /// Sends what the feeds have to tell, several at once. `vouch` moves their watermarks.
    pub(super) async fn send_feeds(&mut self, sources: &[usize], vouch: bool) -> Result<(), Stop> {
        let mut parts = Vec::new();
        for source in sources {
            let now = self.now().get();
            let back = if self.rng.below(3) == 0 { i64::try_from(self.rng.below(300)).unwrap_or(0) } else { 0 };
            let Some(feed) = self.ledger.feeds.get_mut(*source) else { continue };
            if vouch {
                feed.watermark = feed.watermark.max(now - back);
            }
            let from = usize::try_from(feed.acked).unwrap_or(usize::MAX);
            let lines: Vec<Line> = feed.log.iter().skip(from).take(64).copied().collect();
            let whole = from + lines.len() == feed.log.len();
            let watermark = (whole && feed.watermark > feed.vouched).then_some(feed.watermark);
            if !lines.is_empty() || watermark.is_some() {
                parts.push(Part { source: *source, first: feed.acked + 1, lines, watermark });
            }
        }
        self.send_parts(parts).await
    }

    async fn send_parts(&mut self, parts: Vec<Part>) -> Result<(), Stop> {
        let (names, sent) = (self.names.clone(), parts.clone());
        let assets: Vec<String> = self.chains.iter().map(|chain| chain.config.asset.to_string()).collect();
        let outcomes = self.drive(async move |app| hand_in(&app, &names, &assets, sent).await).await?;
        for (part, outcome) in parts.into_iter().zip(outcomes) {
            self.heard(&part, outcome)?;
        }
        Ok(())
    }

    fn heard(&mut self, part: &Part, outcome: Result<FeedOutcome, AppError>) -> Result<(), Stop> {
        let (source, count) = (part.source, part.lines.len() as u64);
        self.note(|| {
            let at = |line: &Line| format!("{}/{} {} at {}", line.pool, line.account, line.balance, line.at);
            let lines: Vec<String> = part.lines.iter().map(at).collect();
            let what = match &outcome {
                Ok(outcome) => format!("durable {}, rejected {:?}", outcome.durable_sequence, outcome.rejected),
                Err(error) => error.to_string(),
            };
            format!("feed {source} from {} watermark {:?}: {what}  {lines:?}", part.first, part.watermark)
        });
        match outcome {
            Ok(outcome) => {
                self.coverage.add("feed", "clamped", outcome.clamped);
                self.coverage.add("feed", "late", outcome.late);
                self.coverage.add("feed", "repeated", outcome.repeated);
                self.coverage.add("feed", "accepted", outcome.accepted);
                if count > 0 {
                    let learnt = self.ledger.learn(source, part.first, count, &outcome).map_err(Stop::failed)?;
                    for fate in learnt {
                        if let Fate::Rejected(reason) = fate {
                            self.coverage.hit("rejected event", reason.name());
                        }
                    }
                }
                if let (Some(feed), Some(watermark)) = (self.ledger.feeds.get_mut(source), part.watermark) {
                    feed.vouched = feed.vouched.max(watermark);
                }
                Ok(())
            }
            Err(AppError::Refused(refusal)) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                let retired = self.ledger.feeds.get(source).is_some_and(|feed| feed.retired);
                match refusal.reason {
                    Reason::Overloaded | Reason::PeriodNotOpen => Ok(()),
                    Reason::SourceRetired if retired => Ok(()),
                    // A retirement whose answer was lost.
                    Reason::SourceRetired if self.retiring() => Ok(()),
                    _ => Err(Stop::failed(format!("feed {source} from {}: {refusal}", part.first))),
                }
            }
            Err(error) => self.unanswered("a feed", &error).map(|_| ()),
        }
    }

    fn retiring(&self) -> bool {
        let retiring = |call: &super::calls::Call| matches!(call.ask, Ask::RetireSource(_));
        self.calls.iter().any(|call| retiring(call) && call.state == CallState::Open)
    }

    /// Sends something that has to be refused: a gap, or another body under a sequence that was acknowledged.
    pub(super) async fn send_wrongly(&mut self) -> Result<(), Stop> {
        let source = self.rng.index(self.ledger.put_balance());
        let Some(feed) = self.ledger.feeds.get(source).filter(|feed| !feed.retired) else { return Ok(()) };
        let acked = usize::try_from(feed.acked).unwrap_or(0);
        let place = self.rng.index(acked);
        let Some(mut line) = feed.log.get(place).copied() else { return Ok(()) };
        let gap = self.rng.below(2) == 0;
        let first = if gap { feed.acked + 2 + self.rng.below(5) } else { place as u64 + 1 };
        line.balance += 1;
        let wanted = if gap { Reason::SequenceGap } else { Reason::SequenceReused };
        self.coverage.hit("action", if gap { "feed_gap" } else { "feed_other_body" });
        let part = Part { source, first, lines: vec![line], watermark: None };
        let (names, sent) = (self.names.clone(), vec![part]);
        let assets: Vec<String> = self.chains.iter().map(|chain| chain.config.asset.to_string()).collect();
        let outcome = self.drive(async move |app| hand_in(&app, &names, &assets, sent).await).await?.pop();
        self.note(|| format!("feed {source} from {first}, to be refused as {wanted:?}: {outcome:?}"));
        match outcome {
            Some(Err(AppError::Refused(refusal))) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                let fits =
                    refusal.reason == wanted || matches!(refusal.reason, Reason::Overloaded | Reason::SourceRetired);
                if fits { Ok(()) } else { Err(Stop::failed(format!("{wanted:?} was due, and it was {refusal}"))) }
            }
            Some(Err(error)) => self.unanswered("a feed", &error).map(|_| ()),
            other => Err(Stop::failed(format!("feed {source} from {first}: {wanted:?} was due, and it was {other:?}"))),
        }
    }

    /// Sends a run of events again that was acknowledged.
    pub(super) async fn send_again(&mut self) -> Result<(), Stop> {
        let source = self.rng.index(self.ledger.put_balance());
        let Some(feed) = self.ledger.feeds.get(source).filter(|feed| !feed.retired) else { return Ok(()) };
        let acked = usize::try_from(feed.acked).unwrap_or(0);
        let first = self.rng.index(acked);
        let lines: Vec<Line> = feed.log.iter().take(acked).skip(first).take(20).copied().collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.send_parts(vec![Part { source, first: first as u64 + 1, lines, watermark: None }]).await
    }

    /// After a start: how far is each feed durable? What was acknowledged has to be.
    pub(super) async fn resume_feeds(&mut self) -> Result<(), Stop> {
        for source in 0..self.ledger.put_balance() {
            self.check_cursor(source)?;
            self.send_feeds(&[source], false).await?;
        }
        Ok(())
    }

    /// What was acknowledged is durable.
    pub(super) fn check_cursor(&self, source: usize) -> Result<(), Stop> {
        let name = self.names.sources.get(source).unwrap_or(&self.names.no_source);
        let cursor =
            self.app()?.cursor(name).map_err(|error| Stop::failed(format!("the cursor of {name}: {error}")))?;
        let Some(feed) = self.ledger.feeds.get(source) else { return Ok(()) };
        if cursor.durable_sequence < feed.acked || cursor.durable_sequence > feed.log.len() as u64 {
            let (durable, acked, told) = (cursor.durable_sequence, feed.acked, feed.log.len());
            return Err(Stop::failed(format!("{name}: {acked} of {told} are acknowledged, and {durable} are durable")));
        }
        Ok(())
    }

    /// Every position whose events are all answered holds what was accepted last.
    pub(super) async fn check_positions(&mut self) -> Result<(), Stop> {
        for pool in 0..POOLS {
            for account in 0..ACCOUNTS {
                let Some(holding) = self.ledger.holding(pool, account).copied() else { continue };
                let Some(accepted) = holding.accepted.filter(|_| holding.open == 0) else { continue };
                let (of, name) = (self.pool(pool)?, self.names.accounts[account].clone());
                let found = self.drive(async move |app| app.position(&of, &name).await).await?;
                match found {
                    Ok(position) if position.balance.get() == accepted => {}
                    Ok(position) => {
                        let has = position.balance;
                        return Err(Stop::failed(format!(
                            "account {account} of pool {pool} has {has}, {accepted} was accepted"
                        )));
                    }
                    Err(error) => return Err(Stop::failed(format!("account {account} of pool {pool}: {error}"))),
                }
            }
        }
        Ok(())
    }
}
