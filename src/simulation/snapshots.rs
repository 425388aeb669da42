//! The ledger service's full snapshots: of what it knows to be true, or wrongly, in part, again, and cut off; and what
//! comes back, held against what the world knows of both sides.

use std::collections::BTreeMap;

use crate::app::snapshot::{SnapshotAnswer, SnapshotHead, SnapshotStep};
use crate::app::{App, AppError, Reason};
use crate::domain::amount::BaseUnits;
use crate::domain::feed::RejectReason;
use crate::domain::ids::{AssetId, RequestId};
use crate::domain::snapshot::{Difference, DifferenceCause};

use super::Problem;
use super::calls::{Ask, CallState, Names};
use super::fault::Fault;
use super::founding::{ACCOUNTS, POOLS};
use super::ledger::{Fate, Line};
use super::world::{Stop, World};

/// A pool and an account.
type Place = (usize, usize);

/// One snapshot of a source.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    source: usize,
    head: SnapshotHead,
    pools: Vec<usize>,
    /// What it says.
    said: BTreeMap<Place, u128>,
    /// What the positions may hold and whose they are, where that was certain when it was sent first.
    known: BTreeMap<Place, Known>,
    state: State,
}

/// What the world is certain of about one position.
#[derive(Clone, Debug)]
struct Known {
    /// One of these is held.
    held: Vec<u128>,
    /// Whether the book has an owner of it.
    owned: bool,
    owner: usize,
    /// The last event of the source that was rejected after the position's last one.
    rejected: Option<(u64, RejectReason)>,
}

#[derive(Clone, Debug)]
enum State {
    /// Not answered.
    Open,
    /// Answered.
    Done(SnapshotAnswer),
    /// Refused, or passed by its source.
    Gone,
}

async fn send(app: &App, names: &Names, taken: &Taken) -> Result<SnapshotAnswer, AppError> {
    let mut snapshot = app.begin_snapshot(taken.head.clone())?;
    for ((pool, account), balance) in &taken.said {
        let account = names.accounts.get(*account).unwrap_or(&names.nobody).clone();
        let place = taken.pools.iter().position(|covered| covered == pool);
        let asset = place.and_then(|place| taken.head.assets.get(place));
        let asset = asset.map(AssetId::to_string).unwrap_or_default();
        snapshot.push(app, account, &asset, BaseUnits::new(*balance).unwrap_or(BaseUnits::MAX));
    }
    snapshot.check_room()?;
    let mut work = app.take_snapshot(snapshot);
    loop {
        match work.step(app).await? {
            SnapshotStep::Done(answer) => return Ok(*answer),
            SnapshotStep::More => {}
            SnapshotStep::Full => return Err(AppError::refused(Reason::Overloaded, "no room")),
        }
    }
}

impl World {
    /// A source sends a snapshot of some kind.
    pub(super) async fn snapshot(&mut self) -> Result<(), Stop> {
        self.resume_snapshots().await?;
        match self.rng.below(12) {
            0 => self.snapshot_again().await,
            1 => self.snapshot_to_be_refused().await,
            _ => {
                let Some(taken) = self.draw_snapshot().await? else { return Ok(()) };
                if self.rng.below(10) == 0 {
                    return self.snapshot_incomplete(taken).await;
                }
                self.ledger.snapshots.push(taken);
                if self.rng.below(6) == 0 {
                    self.doom_snapshot();
                }
                self.take(self.ledger.snapshots.len() - 1).await
            }
        }
    }

    /// Sends again what was not answered.
    pub(super) async fn resume_snapshots(&mut self) -> Result<(), Stop> {
        for number in 0..self.ledger.snapshots.len() {
            let open = self.ledger.snapshots.get(number).is_some_and(|taken| matches!(taken.state, State::Open));
            if open {
                self.coverage.fault(Fault::SnapshotAgain);
                self.take(number).await?;
            }
        }
        Ok(())
    }

    /// A snapshot as of now, once everything before it is told; sometimes with what is not true.
    async fn draw_snapshot(&mut self) -> Result<Option<Taken>, Stop> {
        let source = self.rng.index(self.ledger.put_balance());
        for _ in 0..4 {
            self.send_feeds(&[source], false).await?;
        }
        let Some(feed) = self.ledger.feeds.get(source) else { return Ok(None) };
        if feed.retired || feed.acked < feed.log.len() as u64 {
            return Ok(None);
        }
        let next_sequence = feed.acked + 1;
        let mut pools: Vec<usize> = (0..POOLS).filter(|_| self.rng.below(3) > 0).collect();
        if pools.is_empty() {
            pools.push(self.rng.index(POOLS));
        }
        let wrong = self.rng.below(3) == 0;
        let mut said = BTreeMap::new();
        for pool in pools.iter().copied() {
            for account in 0..ACCOUNTS {
                let Some(holding) = self.ledger.holding(pool, account).copied() else { continue };
                let lies = wrong && self.rng.below(8) == 0;
                let token = self.ledger.tokens.get(pool).copied().unwrap_or(1);
                let balance = match (holding.owner == source, lies) {
                    (true, true) if self.rng.below(3) == 0 => continue,
                    (true, true) => holding.balance / 2 + self.rng.amount_below(holding.balance.max(token)),
                    (true, false) if holding.balance == 0 && self.rng.below(2) == 0 => continue,
                    (true, false) => holding.balance,
                    // Of another source's position, whose owner the book knows.
                    (false, true) if holding.accepted.is_some() => holding.balance + self.rng.amount_below(2),
                    (false, _) => continue,
                };
                if lies {
                    self.coverage.fault(Fault::SnapshotWrong);
                }
                said.insert((pool, account), balance);
            }
        }
        let ago = match self.rng.below(12) {
            0 => -i64::try_from(self.rng.below(300)).unwrap_or(0),
            1..=4 => i64::try_from(self.rng.below(6_000)).unwrap_or(0),
            _ => i64::try_from(self.rng.below(10)).unwrap_or(0),
        };
        let assets = pools.iter().filter_map(|pool| Some(self.chains.get(*pool)?.config.asset.clone())).collect();
        let number = self.ledger.snapshots.len();
        let head = SnapshotHead {
            source: self.names.sources[source].clone(),
            id: RequestId::new(&format!("snapshot-{number}")).map_err(Problem::of)?,
            next_sequence,
            assets,
            as_of: self.now().plus(-ago),
            apply: self.rng.below(2) == 0,
        };
        let known = self.known(source, &pools);
        Ok(Some(Taken { source, head, pools, said, known, state: State::Open }))
    }

    /// What is certain about the positions of some pools.
    fn known(&self, source: usize, pools: &[usize]) -> BTreeMap<Place, Known> {
        let mut known = BTreeMap::new();
        for pool in pools.iter().copied() {
            for account in 0..ACCOUNTS {
                let holding = self.ledger.holdings.get(pool).and_then(|of| of.get(account));
                let Some(holding) = holding.filter(|holding| holding.open == 0) else { continue };
                let asked = |ask: &Ask| match ask {
                    Ask::HandOver { pool: p, account: a, .. } | Ask::PutBalance { pool: p, account: a, .. } => {
                        (*p, *a) == (pool, account)
                    }
                    Ask::RetireSource(_) => true,
                    _ => false,
                };
                if self.calls.iter().any(|call| call.state == CallState::Open && asked(&call.ask)) {
                    continue;
                }
                // Where nothing is known to be accepted, somebody else's event may have been.
                let told = |line: &Line| (line.pool, line.account) == (pool, account);
                let untouched =
                    || holding.snapshot.is_none() && !self.ledger.feeds.iter().any(|it| it.log.iter().any(told));
                if holding.accepted.is_none() && !untouched() {
                    continue;
                }
                let held = [holding.accepted.or(Some(0)), holding.corrected_balance(), holding.snapshot];
                let rejected = self.last_rejected(source, pool, account, holding.last_sequence);
                let (owned, owner) = (holding.accepted.is_some(), holding.owner);
                let held = held.into_iter().flatten().collect();
                known.insert((pool, account), Known { held, owned, owner, rejected });
            }
        }
        known
    }

    fn last_rejected(&self, source: usize, pool: usize, account: usize, after: u64) -> Option<(u64, RejectReason)> {
        let log = &self.ledger.feeds.get(source)?.log;
        let of_it = (1..).zip(log).filter(|(_, line)| (line.pool, line.account) == (pool, account));
        let rejected = of_it.filter_map(|(sequence, line)| match line.fate {
            Fate::Rejected(reason) => Some((sequence, reason)),
            Fate::Untold | Fate::Accepted => None,
        });
        rejected.last().filter(|(sequence, _)| *sequence > after)
    }

    /// Sends a snapshot, and learns from its answer.
    async fn take(&mut self, number: usize) -> Result<(), Stop> {
        let Some(taken) = self.ledger.snapshots.get(number).cloned() else { return Ok(()) };
        // Whoever is cut off does not know what was applied.
        for place in self.places(&taken) {
            let balance = taken.said.get(&place).copied().unwrap_or(0);
            if let Some(holding) = self.ledger.holding(place.0, place.1).filter(|_| taken.head.apply) {
                holding.snapshot = Some(balance);
            }
        }
        let (names, sent) = (self.names.clone(), taken.clone());
        let answer = self.drive(async move |app| send(&app, &names, &sent).await).await;
        if let Err(Stop::Killed) = &answer {
            self.coverage.fault(Fault::SnapshotCutOff);
        }
        let answer = answer?;
        self.note(|| format!("snapshot {:?} {:?}: {answer:?}", taken.head, taken.said));
        let state = match answer {
            Ok(answer) => {
                self.judge_snapshot(&taken, &answer)?;
                self.learn_of(&taken, &answer);
                State::Done(answer)
            }
            Err(AppError::Refused(refusal)) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                match refusal.reason {
                    Reason::Overloaded | Reason::PeriodNotOpen => State::Open,
                    Reason::SnapshotPassed | Reason::SourceRetired => State::Gone,
                    _ => return Err(Stop::failed(format!("snapshot {}: {refusal}", taken.head.id))),
                }
            }
            Err(error) => {
                self.unanswered("a snapshot", &error)?;
                State::Open
            }
        };
        let open = matches!(state, State::Open);
        if let Some(taken) = self.ledger.snapshots.get_mut(number) {
            taken.state = state;
            if open {
                // Who knows what will have happened until it is sent again.
                taken.known.clear();
            }
        }
        if open { Ok(()) } else { self.tell_the_truth(&taken).await }
    }

    /// The positions that a snapshot is about: what it names, and what its source owns.
    fn places(&self, taken: &Taken) -> Vec<Place> {
        let all = taken.pools.iter().flat_map(|pool| (0..ACCOUNTS).map(|account| (*pool, account)));
        let owned = |place: &Place| {
            let holding = self.ledger.holdings.get(place.0).and_then(|of| of.get(place.1));
            holding.is_some_and(|holding| holding.owner == taken.source)
        };
        all.filter(|place| taken.said.contains_key(place) || owned(place)).collect()
    }

    fn place_of(&self, difference: &Difference) -> Option<Place> {
        let pool = usize::from(difference.seen.pool).checked_sub(1)?;
        let account = self.names.accounts.iter().position(|account| *account == difference.seen.account)?;
        Some((pool, account))
    }

    /// Holds an answer against what the world knows.
    fn judge_snapshot(&mut self, taken: &Taken, answer: &SnapshotAnswer) -> Result<(), Stop> {
        let id = &taken.head.id;
        let wrong = |what: String| Err(Stop::failed(format!("snapshot {id}: {what}")));
        if answer.sequence + 1 != taken.head.next_sequence {
            return wrong(format!(
                "compared at {}, and it stands before {}",
                answer.sequence, taken.head.next_sequence
            ));
        }
        let settled = if taken.head.apply { answer.difference_count } else { 0 };
        let listed = answer.differences.len() as u64;
        if listed != answer.difference_count || answer.applied_count + answer.refused_count != settled {
            return wrong(format!("the counts do not add up: {answer:?}"));
        }
        let mut differing = BTreeMap::new();
        for difference in &answer.differences {
            let Some(place) = self.place_of(difference) else { return wrong(format!("nobody is {difference:?}")) };
            if differing.last_key_value().is_some_and(|(last, _)| *last >= place) {
                return wrong(format!("{place:?} comes out of order"));
            }
            differing.insert(place, difference);
            self.coverage.hit("snapshot difference", difference.cause.name());
            if let Some(reason) = difference.refused {
                self.coverage.hit("snapshot refused", reason.name());
            }
        }
        for pool in taken.pools.iter().copied() {
            for account in 0..ACCOUNTS {
                let place = (pool, account);
                let Some(known) = taken.known.get(&place) else { continue };
                let said = taken.said.get(&place).copied();
                let looked_at = said.is_some() || (known.owned && known.owner == taken.source);
                let balance = said.unwrap_or(0);
                match differing.get(&place) {
                    None if !looked_at || known.held.contains(&balance) => {}
                    Some(difference) if looked_at => {
                        if let Some(what) = self.wrong_difference(taken, known, said, difference) {
                            return wrong(format!("{place:?} {what}: {difference:?}, {known:?}"));
                        }
                    }
                    found => return wrong(format!("{place:?} says {said:?}, and it is {found:?}, {known:?}")),
                }
            }
        }
        Ok(())
    }

    /// What of a difference is not as the world knows it.
    fn wrong_difference(
        &self,
        taken: &Taken,
        known: &Known,
        said: Option<u128>,
        found: &Difference,
    ) -> Option<&'static str> {
        let balance = |units: Option<BaseUnits>| units.map(BaseUnits::get);
        let held = found.seen.held;
        if balance(found.seen.snapshot) != said {
            return Some("was said otherwise");
        }
        let has = balance(held.map(|held| held.balance)).unwrap_or(0);
        if !known.held.contains(&has) || has == said.unwrap_or(0) {
            return Some("is held otherwise");
        }
        let owner = held.and_then(|held| held.owner);
        let owner = owner.and_then(|owner| self.app().ok()?.source_name(owner));
        let known_owner = known.owned.then(|| self.names.sources[known.owner].clone());
        if owner != known_owner {
            return Some("is owned otherwise");
        }
        let foreign = known.owned && known.owner != taken.source;
        let ahead = held.is_some_and(|held| held.last_at > taken.head.as_of);
        let expected = match (foreign, known.rejected, held) {
            (true, _, _) => DifferenceCause::OtherSource,
            (false, Some((_, RejectReason::TooOld)), _) => DifferenceCause::EventTooOld,
            (false, Some(_), _) => DifferenceCause::EventRejected,
            (false, None, Some(_)) if ahead => DifferenceCause::BookAhead,
            (false, None, Some(_)) if said.is_none() => DifferenceCause::AbsentInSnapshot,
            (false, None, Some(_)) => DifferenceCause::OtherBalance,
            (false, None, None) => DifferenceCause::AbsentInBook,
        };
        if found.cause != expected {
            return Some("has another cause");
        }
        if !foreign && found.rejected != known.rejected {
            return Some("was rejected otherwise");
        }
        if foreign && taken.head.apply && found.refused != Some(RejectReason::NotOwner) {
            return Some("was taken from another source");
        }
        None
    }

    /// What was applied is what the service has accepted last.
    fn learn_of(&mut self, taken: &Taken, answer: &SnapshotAnswer) {
        if !taken.head.apply {
            return;
        }
        for (pool, account) in self.places(taken) {
            if let Some(holding) = self.ledger.holding(pool, account) {
                holding.snapshot = None;
            }
        }
        for difference in answer.differences.iter().filter(|difference| difference.refused.is_none()) {
            let Some((pool, account)) = self.place_of(difference) else { continue };
            let balance = difference.seen.snapshot.unwrap_or_default().get();
            // A position that is another's as the world knows it may be this one's in the book, by an event in its name.
            let known = self.ledger.holding(pool, account).filter(|holding| holding.owner == taken.source);
            if let Some(holding) = known {
                (holding.accepted, holding.corrected) = (Some(balance), None);
                holding.last_sequence = answer.sequence;
            }
        }
    }

    /// What a snapshot said wrongly and was applied is told as it is.
    async fn tell_the_truth(&mut self, taken: &Taken) -> Result<(), Stop> {
        for (pool, account) in self.places(taken) {
            let Some(holding) = self.ledger.holding(pool, account).copied() else { continue };
            let said = taken.said.get(&(pool, account)).copied().unwrap_or(0);
            if taken.head.apply && holding.owner == taken.source && said != holding.balance {
                self.tell(pool, account, holding.balance, 0).await?;
            }
        }
        Ok(())
    }

    /// The same snapshot again has the first answer where it was applied, and another one under its id is refused.
    async fn snapshot_again(&mut self) -> Result<(), Stop> {
        let done = |taken: &&Taken| taken.head.apply && matches!(taken.state, State::Done(_));
        let done: Vec<Taken> = self.ledger.snapshots.iter().filter(done).cloned().collect();
        let Some(mut taken) = done.get(self.rng.index(done.len())).cloned() else { return Ok(()) };
        let State::Done(first) = taken.state.clone() else { return Ok(()) };
        let other = self.rng.below(3) == 0;
        if other {
            taken.head.as_of = taken.head.as_of.plus(1);
        }
        self.coverage.fault(if other { Fault::SnapshotOtherContent } else { Fault::SnapshotAgain });
        let names = self.names.clone();
        let id = taken.head.id.clone();
        match self.drive(async move |app| send(&app, &names, &taken).await).await? {
            Ok(again) if !other && again == (SnapshotAnswer { repeated: true, ..first.clone() }) => Ok(()),
            Err(AppError::Refused(refusal)) => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                match refusal.reason {
                    Reason::RequestIdReused if other => Ok(()),
                    Reason::SourceRetired => Ok(()),
                    _ => Err(Stop::failed(format!("snapshot {id} again: {refusal}"))),
                }
            }
            Ok(again) => Err(Stop::failed(format!("snapshot {id} again, other {other}: {again:?}, first {first:?}"))),
            Err(error) => self.unanswered("a snapshot again", &error).map(|_| ()),
        }
    }

    /// A snapshot whose last part does not come leaves nothing.
    async fn snapshot_incomplete(&mut self, taken: Taken) -> Result<(), Stop> {
        self.coverage.fault(Fault::SnapshotIncomplete);
        let names = self.names.clone();
        let begun = async move |app: std::sync::Arc<App>| {
            let mut snapshot = app.begin_snapshot(taken.head.clone())?;
            for ((_, account), balance) in taken.said.iter().take(5) {
                let asset = taken.head.assets.first().map(AssetId::to_string).unwrap_or_default();
                let balance = BaseUnits::new(*balance).unwrap_or(BaseUnits::MAX);
                snapshot.push(&app, names.accounts[*account].clone(), &asset, balance);
            }
            snapshot.check_room()
        };
        self.ask_app("an incomplete snapshot", begun).await.map(|_| ())
    }

    /// Snapshots that have to be refused: of an asset that nobody stakes, or before or after where the source stands.
    async fn snapshot_to_be_refused(&mut self) -> Result<(), Stop> {
        let Some(mut taken) = self.draw_snapshot().await? else { return Ok(()) };
        taken.head.id = RequestId::new(&format!("refused-{}", self.step)).map_err(Problem::of)?;
        let wanted = match self.rng.below(3) {
            0 => {
                taken.head.assets.push(AssetId::new("NOPE").map_err(Problem::of)?);
                Reason::UnknownAsset
            }
            1 if taken.head.next_sequence > 1 => {
                taken.head.next_sequence -= 1;
                self.coverage.fault(Fault::SnapshotOutOfPlace);
                Reason::SnapshotPassed
            }
            _ => {
                taken.head.next_sequence += 1 + self.rng.below(5);
                self.coverage.fault(Fault::SnapshotOutOfPlace);
                Reason::SequenceGap
            }
        };
        let names = self.names.clone();
        match self.drive(async move |app| send(&app, &names, &taken).await).await? {
            Err(AppError::Refused(refusal)) if refusal.reason == wanted || refusal.reason == Reason::Overloaded => {
                self.coverage.hit("refusal", refusal.reason.as_str());
                Ok(())
            }
            Err(error) if !matches!(error, AppError::Refused(_)) => {
                self.unanswered("a snapshot to be refused", &error).map(|_| ())
            }
            other => Err(Stop::failed(format!("a snapshot was to be refused as {wanted:?}, and it is {other:?}"))),
        }
    }
}
