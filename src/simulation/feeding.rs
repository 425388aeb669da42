//! The ledger service's feeds on their way: several at once, again, too early and wrongly, and what comes back.

use crate::app::batch::FeedOutcome;
use crate::app::{App, AppError, Reason};
use crate::domain::amount::BaseUnits;
use crate::domain::time::UnixSeconds;

use super::calls::{Ask, CallState, Names};
use super::fault::Fault;
use super::founding::{ACCOUNTS, POOLS};
use super::ledger::{Fate, Line};
use super::world::{Stop, World};

/// A part of a feed on its way.
#[derive(Clone, Debug)]
struct Part {
    source: usize,
    first: u64,
    lines: Vec<Line>,
    watermark: Option<i64>,
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
        if parts.len() > 1 {
            self.coverage.fault(Fault::FeedsInterleaved);
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
                    // The service's clock was set back: it is sent again until its time has come.
                    Reason::InvalidValue if refusal.field == "watermark" => Ok(()),
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
        // What was told may be durable although nobody heard so.
        let told = feed.log.len() as u64;
        let first = if gap { told + 2 + self.rng.below(5) } else { place as u64 + 1 };
        line.balance += 1;
        let wanted = if gap { Reason::SequenceGap } else { Reason::SequenceReused };
        self.coverage.fault(if gap { Fault::FeedGap } else { Fault::FeedOtherBody });
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
        self.coverage.fault(Fault::FeedAgain);
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
                    Ok(position) if Some(position.balance.get()) == holding.corrected_balance() => {}
                    Ok(position) if Some(position.balance.get()) == holding.snapshot => {}
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
