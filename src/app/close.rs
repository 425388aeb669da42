//! Periods: opened ahead of their start, frozen once every source has vouched for their end.
//!
//! Called by `step`, and by `AdminService/ClosePeriod`. Every decision is durable in the period's record before the book
//! is told, and what the book does not know is told again: a crash in between changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::book::{FrozenPeriod, Overloaded};
use crate::domain::audit_log::Note;
use crate::domain::feed::SourceNumber;
use crate::domain::period::{OpenPeriod, PeriodBounds, PeriodEvent, PeriodIndex, PeriodState, TimeLimits};
use crate::domain::time::UnixSeconds;
use crate::store::records::{Closing, FrozenFacts, PeriodRecord, PolicyRecord, PoolState};
use crate::store::{KeyRange, keys};

use super::control::Change;
use super::ingest::book_refusal;
use super::{App, AppError, Once, Pool, Reason, Request, Work, forecast, reconcile, restored};

/// How many periods may be unfrozen at once.
const MAX_UNFROZEN: u64 = 2;

/// Opens what is due to open and freezes what is due to freeze.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let work = open_due(app, pool, now).await?;
    let work = work.and(tell_book(app, pool).await?);
    // Periods open on while a pool is held, so that balances are taken in.
    match restored::held(app, pool).await? {
        true => Ok(work),
        false => Ok(work.and(freeze(app, pool, now).await?)),
    }
}

/// Opens the first periods of a pool that is taken in, without waiting for the book: the command stands in its queue
/// before any event that could follow.
pub(super) async fn open_first_period(app: &App, pool: &Pool) -> Result<(), AppError> {
    open_due(app, pool, app.now()).await?;
    for period in unknown_to_book(app, pool).await? {
        drop(app.sender.open_period(pool.number(), period).map_err(overloaded)?);
    }
    Ok(())
}

fn overloaded(full: Overloaded) -> AppError {
    AppError::refused(Reason::Overloaded, full.to_string())
}

/// Where the oldest period that is not past a state was found last. Periods only go forward, so every one before it is
/// past that state for good. A restart finds it again.
#[derive(Debug, Default)]
pub(super) struct Oldest([AtomicU64; 3]);

impl Oldest {
    fn found(&self, state: PeriodState) -> &AtomicU64 {
        let [open, frozen, distributed] = &self.0;
        match state {
            PeriodState::Open => open,
            PeriodState::Frozen => frozen,
            PeriodState::Distributed => distributed,
        }
    }
}

/// The oldest period that is not past `state`. States only fall from one period to the next. Mostly it is the same as
/// the last time: however long the history, that is one read.
pub(super) async fn oldest(app: &App, pool: &Pool, state: PeriodState) -> Result<Option<PeriodRecord>, AppError> {
    let known = pool.oldest.found(state);
    let mut low = known.load(Ordering::Relaxed);
    if let Some(period) = app.period(pool, PeriodIndex(low)).await?.filter(|period| period.state <= state) {
        return Ok(Some(period));
    }
    let Some(last) = app.last_period(pool).await? else { return Ok(None) };
    let mut high = last.index.0.saturating_add(1);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let period = app.period(pool, PeriodIndex(middle)).await?;
        let period = period.ok_or_else(|| AppError::Broken(format!("period {middle} is missing")))?;
        if period.state <= state {
            high = middle;
            found = Some(period);
        } else {
            low = middle + 1;
        }
    }
    known.fetch_max(low, Ordering::Relaxed);
    Ok(found)
}

/// Writes the records of the periods that are due to be open.
async fn open_due(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mut work = Work::Idle;
    while open_next(app, pool, now).await? {
        work = Work::Done;
    }
    Ok(work)
}

/// When a period has to be open, before its start: as early as an event of it may arrive.
fn lead_seconds(app: &App, state: &PoolState) -> i64 {
    i64::from(state.settings.feed.max_skew_seconds.max(app.settings.max_future_seconds))
}

async fn open_next(app: &App, pool: &Pool, now: UnixSeconds) -> Result<bool, AppError> {
    let state = app.pool_state(pool).await?;
    let due = |start: UnixSeconds| now >= start.plus(-lead_seconds(app, &state));
    let last = app.last_period(pool).await?;
    if last.as_ref().is_some_and(|last| !due(last.bounds.end)) {
        return Ok(false);
    }
    if let (Some(last), Some(oldest)) = (&last, oldest(app, pool, PeriodState::Open).await?)
        && last.index.0 - oldest.index.0 + 1 >= MAX_UNFROZEN
    {
        return Ok(false);
    }
    let (index, start) = match &last {
        Some(last) => (last.index.next(), last.bounds.end),
        None => (PeriodIndex(0), pool.record.first_period_start),
    };
    let mut change = Change::begin(app, pool, now).await?;
    if change.contains(&keys::period(index.0)).await? {
        return Ok(true);
    }
    let policy = policy_of(app, pool, index).await?.policy;
    let bounds = PeriodBounds::new(start, policy.period_seconds)
        .map_err(|error| AppError::Broken(format!("period {index}: {error}")))?;
    let record = PeriodRecord { index, bounds, state: PeriodState::Open, policy, closing: None, frozen: None };
    change.put_new(keys::period(index.0), &record);
    change.commit().await?;
    tracing::info!(pool = %pool.id(), period = %bounds.name(), index = index.0, "period opened");
    Ok(true)
}

/// The policy that counts for a period: the last one set for it or for one before it.
pub(super) async fn policy_of(app: &App, pool: &Pool, index: PeriodIndex) -> Result<PolicyRecord, AppError> {
    let range = KeyRange { from: keys::policy(0), to: keys::policy(index.next().0) };
    let policy = app.last(pool.control(), range).await?;
    policy.ok_or_else(|| AppError::Broken(format!("pool {} has no policy for period {index}", pool.id())))
}

/// The open periods that the book has not been told of, in order.
async fn unknown_to_book(app: &App, pool: &Pool) -> Result<Vec<OpenPeriod>, AppError> {
    let known = app.book.open_periods(pool.number());
    let known = known.ok_or_else(|| AppError::Broken(format!("the book has no pool {}", pool.id())))?;
    let next = known.last().map(|known| known.index.next());
    if let Some(next) = next
        && !app.contains(pool.control(), &keys::period(next.0)).await?
    {
        return Ok(Vec::new());
    }
    let Some(oldest) = oldest(app, pool, PeriodState::Open).await? else { return Ok(Vec::new()) };
    let first = next.map_or(oldest.index, |next| next.max(oldest.index));
    let range = KeyRange { from: keys::period(first.0), to: keys::range_of_tag(keys::tag::PERIOD).to };
    let unknown: Vec<PeriodRecord> = app.list(pool.control(), range, usize::MAX).await?;
    let feed = app.pool_state(pool).await?.settings.feed;
    let limits = TimeLimits {
        max_skew_seconds: feed.max_skew_seconds,
        max_lateness_seconds: feed.max_lateness_seconds,
        max_future_seconds: app.settings.max_future_seconds,
    };
    let open = |record: PeriodRecord| OpenPeriod {
        index: record.index,
        bounds: record.bounds,
        policy: record.policy.eligibility,
        limits,
    };
    Ok(unknown.into_iter().map(open).collect())
}

async fn tell_book(app: &App, pool: &Pool) -> Result<Work, AppError> {
    let mut work = Work::Idle;
    for period in unknown_to_book(app, pool).await? {
        let receipt = app.sender.open_period(pool.number(), period).map_err(overloaded)?;
        receipt.await.map_err(book_refusal)?;
        work = Work::Done;
    }
    Ok(work)
}

/// Brings the oldest open period nearer to its freeze, once that is due.
async fn freeze(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let Some(mut period) = oldest(app, pool, PeriodState::Open).await? else { return Ok(Work::Idle) };
    if period.closing.is_none() {
        if now < period.bounds.end {
            return Ok(Work::Idle);
        }
        let waiting = waiting_sources(app, period.bounds.end);
        #[cfg(feature = "seeded-bugs")]
        let waiting = if crate::seeded::on(crate::seeded::Bug::FreezesTooEarly) { Vec::new() } else { waiting };
        let grace = app.pool_state(pool).await?.settings.feed.close_grace_seconds;
        if !waiting.is_empty() && now < period.bounds.end.plus(i64::from(grace)) {
            return Ok(Work::Idle);
        }
        let mut change = Change::begin(app, pool, now).await?;
        period = read_period(&change, period.index).await?;
        if decide(app, pool, &mut change, &mut period, &waiting) {
            change.commit().await?;
        }
    }
    let Some(closing) = period.closing else { return Ok(Work::Idle) };
    match app.book.sealed(pool.number(), period.index).await? {
        Some(sealed) => finish(app, pool, period.index, closing, &sealed, now).await,
        None => cut(app, pool, &period).await,
    }
}

async fn read_period(change: &Change<'_>, index: PeriodIndex) -> Result<PeriodRecord, AppError> {
    let period = change.read(&keys::period(index.0)).await?;
    period.ok_or_else(|| AppError::Broken(format!("period {index} is missing")))
}

/// The sources in use that have not vouched for everything before `end`.
fn waiting_sources(app: &App, end: UnixSeconds) -> Vec<String> {
    let sources = app.sources().into_iter();
    let in_use = sources.filter(|source| source.retired_at.is_none());
    let waiting = in_use.filter(|source| {
        let number = SourceNumber(source.number);
        app.book.source_state(number).and_then(|state| state.watermark).is_none_or(|watermark| watermark < end)
    });
    waiting.map(|source| source.id.to_string()).collect()
}

/// Puts the decision to freeze into `change`, unless it was made.
fn decide(app: &App, pool: &Pool, change: &mut Change<'_>, period: &mut PeriodRecord, waiting: &[String]) -> bool {
    if period.closing.is_some() || period.state != PeriodState::Open {
        return false;
    }
    let by_grace = !waiting.is_empty();
    if by_grace {
        app.metrics.frozen_by_grace.inc();
        tracing::warn!(pool = %pool.id(), period = %period.bounds.name(), ?waiting,
            "a period freezes without the watermark of every source");
    }
    period.closing = Some(Closing { at: change.at(), by_grace });
    change.put(keys::period(period.index.0), period);
    true
}

/// Has the book freeze the period, unless it is at it already.
async fn cut(app: &App, pool: &Pool, period: &PeriodRecord) -> Result<Work, AppError> {
    let oldest = app.book.open_periods(pool.number()).and_then(|open| open.first().map(|period| period.index));
    if oldest != Some(period.index) || !app.enrolment_complete(pool, period.bounds.end).await? {
        return Ok(Work::Idle);
    }
    let receipt = app.sender.freeze(pool.number(), period.index).map_err(overloaded)?;
    receipt.await.map_err(book_refusal)?;
    Ok(Work::Done)
}

/// The period is sealed in the book: writes down what the freeze found. Where its sums do not come out the pool's outflows
/// stop with it, and nothing else: it is frozen in the book, and were it open here, no later period could be.
async fn finish(
    app: &App,
    pool: &Pool,
    index: PeriodIndex,
    closing: Closing,
    frozen: &FrozenPeriod,
    now: UnixSeconds,
) -> Result<Work, AppError> {
    let mut change = Change::begin(app, pool, now).await?;
    let mut period = read_period(&change, index).await?;
    let Some(state) = period.state.after(PeriodEvent::Freeze) else { return Ok(Work::Idle) };
    period.state = state;
    period.closing = None;
    period.frozen = Some(FrozenFacts {
        at: frozen.frozen_at,
        weight_total: frozen.total.sum,
        positive_count: frozen.total.positive,
        by_grace: closing.by_grace,
        adjusted: frozen.adjusted,
    });
    change.put(keys::period(index.0), &period);
    change.put(keys::outflow(index.0), &forecast::summary(app, pool, index).await?);
    let sound = frozen.check(pool.number());
    if let Err(error) = &sound {
        reconcile::pause_in(pool, &mut change, &error.to_string()).await?;
    }
    change.commit().await?;
    if sound.is_err() {
        app.metrics.equations_broken.inc();
    }
    tracing::info!(pool = %pool.id(), period = %period.bounds.name(), index = index.0,
        weight_total = %frozen.total.sum, positions = frozen.total.count, by_grace = closing.by_grace, "period frozen");
    Ok(Work::Done)
}

impl App {
    /// Whether a period of the pool is cut and waits for the book to seal it: only the steps after that take it further.
    /// A book that has closed seals nothing any more, and nothing of a pool that it does not have.
    pub async fn is_sealing(&self, pool: &Pool) -> Result<bool, AppError> {
        let Some(open) = self.book.open_periods(pool.number()).filter(|_| !self.book.is_closed()) else {
            return Ok(false);
        };
        let Some(period) = oldest(self, pool, PeriodState::Open).await? else { return Ok(false) };
        Ok(period.closing.is_some() && open.first().is_none_or(|open| open.index > period.index))
    }

    /// Freezes the oldest open period, which has to have ended, without waiting for watermarks; once. The decision is
    /// durable on return, and the steps carry it out. For `AdminService/ClosePeriod`.
    pub async fn close_period(&self, request: &Request, pool: &Pool, index: PeriodIndex) -> Result<Once, AppError> {
        let once = self
            .mutate(pool, request, async |change| {
                let period: Option<PeriodRecord> = change.read(&keys::period(index.0)).await?;
                let mut period = period.ok_or_else(|| {
                    AppError::refused(Reason::UnknownPeriod, format!("pool {} has no period {index}", pool.id()))
                })?;
                let (name, end) = (period.bounds.name(), period.bounds.end);
                let note =
                    Note::of(format!("pools/{}/periods/{name}", pool.id()), "closed without waiting for watermarks");
                restored::check(self, pool).await?;
                if period.state != PeriodState::Open {
                    return Ok(Note { summary: "was closed already".to_owned(), ..note });
                }
                if change.at() < end {
                    let message = format!("period {name} ends at {end} (Unix seconds); only an ended period closes");
                    return Err(AppError::refused(Reason::PeriodNotEnded, message));
                }
                let first = oldest(self, pool, PeriodState::Open).await?;
                if let Some(first) = first.filter(|first| first.index < index) {
                    let message = format!("period {} is open before {name}; close it first", first.bounds.name());
                    return Err(AppError::refused(Reason::WrongState, message));
                }
                let waiting = waiting_sources(self, end);
                decide(self, pool, change, &mut period, &waiting);
                Ok(note.changed("OPEN", "closing"))
            })
            .await?;
        // The decision is durable: a caller who heard of a failure now would take it as not made.
        if let Err(error) = step(self, pool, self.now()).await {
            tracing::warn!(pool = %pool.id(), %error, "the decision is durable; the next step freezes the period");
        }
        Ok(once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::distribute::tests::rig::{LENGTH, Rig, at};
    use crate::domain::policy::ReleaseLimits;

    #[tokio::test]
    async fn a_period_whose_sums_do_not_come_out_stops_the_outflows_of_its_pool_alone() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        let atom = rig.pool.clone();
        rig.create_beside(at(0)).await.unwrap();
        let near = rig.pool.clone();
        for pool in [&atom, &near] {
            rig.pool = pool.clone();
            rig.put("alice", 1_000, 10).await;
        }
        rig.book.break_curve(atom.number(), PeriodIndex(0), at(5));
        for hour in 1..5 {
            rig.set_time(hour * LENGTH + 700);
            for pool in [&atom, &near] {
                rig.pool = pool.clone();
                rig.reconciled(hour * LENGTH).await;
                rig.run().await.unwrap();
                rig.put("alice", 1_000, hour * LENGTH + 700).await;
            }
        }
        for pool in [&atom, &near] {
            let period = rig.app.period(pool, PeriodIndex(3)).await.unwrap().unwrap();
            assert!(period.state >= PeriodState::Frozen, "{}", pool.id());
        }
        let distributed = async |pool| rig.app.last_distribution(pool, PeriodIndex(0)).await.unwrap();
        let reason = rig.app.pool_state(&atom).await.unwrap().paused.unwrap();
        assert!(reason.contains("the weights come to"), "{reason}");
        assert_eq!(distributed(&atom).await, None);
        assert_eq!(rig.app.pool_state(&near).await.unwrap().paused, None);
        assert!(distributed(&near).await.is_some_and(|last| last.state.is_released()));
        // Readers are shown what was sealed.
        let first = rig.app.period(&atom, PeriodIndex(0)).await.unwrap().unwrap();
        assert!(rig.app.period_view(&atom, first).await.unwrap().weights.is_some());
    }
}
