//! Corrections: proposed with what they change, approved by the hash of that, and entered in the book, each once.
//!
//! An approved correction is durable in a log of its own before the book is told; the book follows the log as a source,
//! so that what a crash cut off is entered by a later step and what was entered is skipped. Between the proposal and the
//! approval everything is computed again: what has changed meanwhile has to be proposed again.

use crate::book::{BookError, Overloaded, PositionCorrection, PositionHistory};
use crate::domain::amount::BaseUnits;
use crate::domain::approval::Proposal;
use crate::domain::calendar::Calendar;
use crate::domain::correction::{AskedCorrection, Correction, Differences, differences};
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::{AccountId, AssetId, PoolId};
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::store::records::{ApprovalRecord, CorrectionRecord, Record};
use crate::store::{Batch, KeyRange, PartitionId, keys};

use super::approve::{approved_by, number_key, overtaken, proposed};
use super::ingest::book_refusal;
use super::{App, AppError, Once, Pool, Reason, Refusal, Request, Work};

/// How many approved corrections are looked at together.
const CORRECTIONS_PER_READ: usize = 100;

/// What a correction does at this point of the book.
struct Effect {
    correction: Correction,
    /// The balance that was held at its time so far.
    before: BaseUnits,
    found: Differences,
    hash: [u8; 32],
}

fn too_old(known_from: Option<UnixSeconds>) -> AppError {
    let (from, oldest) = match known_from {
        Some(from) => (format!("from {from} (Unix seconds) on"), from.get().to_string()),
        None => ("in part, and less of it every moment".to_owned(), String::new()),
    };
    let message = format!(
        "the position's history is kept {from}; what lies before can't be corrected, see book.archive_for_ever"
    );
    let metadata = if oldest.is_empty() { Vec::new() } else { vec![("oldest_time", oldest)] };
    AppError::Refused(Refusal { reason: Reason::ArchiveTooShort, message, field: "event_time", metadata })
}

impl App {
    /// Proposes that the balance that an account held from a time until its next event was another one, once. Says what
    /// waits for approval.
    pub async fn correct_balance(
        &self,
        request: &Request,
        (account, asset): (AccountId, AssetId),
        balance: BaseUnits,
        at: UnixSeconds,
        reason: &str,
    ) -> Result<(Once, ApprovalRecord), AppError> {
        let pool = self.pool_staking(&asset, "balance.asset")?;
        let _guard = self.approvals.lock().await;
        if let Some(once) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            let record = self.proposed_by(request, PartitionId::SERVICE).await?;
            return Ok((
                once,
                record.ok_or_else(|| AppError::Broken(format!("request {} has no approval", request.id)))?,
            ));
        }
        self.enter_corrections().await?;
        let asked = AskedCorrection { account, balance, at };
        let effect = self.effect_of(&pool, &asked).await?;
        let version = self.pool_state(&pool).await?.version;
        let (now, summary) = (self.now(), summary(&pool, &asked, &effect, reason));
        let resource = format!("accounts/{}/positions/{}", asked.account, pool.id());
        let record = ApprovalRecord {
            content_hash: effect.hash,
            ..self.numbered(self.proposal(
                request,
                &pool,
                version,
                (resource, summary),
                Proposal::CorrectBalance(asked),
            ))
        };
        let mut batch = Batch::new(PartitionId::SERVICE);
        let key = keys::approval(record.number);
        self.waiting.add(&record);
        batch.expect_absent(key.clone()).put(key, record.encode());
        batch.put(number_key(request), record.number.to_be_bytes());
        self.commit_marked(request, Vec::new(), batch, now, proposed(&record)).await?;
        self.metrics.changes_proposed.inc();
        Ok((Once::First, record))
    }

    /// Enters a correction that another principal approved, by the hash of what it does now.
    pub(super) async fn approve_correction(
        &self,
        request: &Request,
        pool: &Pool,
        record: ApprovalRecord,
        asked: &AskedCorrection,
    ) -> Result<Once, AppError> {
        let effect = match self.effect_of(pool, asked).await {
            Ok(effect) if effect.hash == record.content_hash => effect,
            Ok(_) => return Err(overtaken()),
            Err(AppError::Refused(refusal)) if refusal.reason == Reason::NothingToCorrect => return Err(overtaken()),
            Err(error) => return Err(error),
        };
        let now = self.now();
        let log = keys::range_of_tag(keys::tag::CORRECTION);
        let last: Option<CorrectionRecord> = self.last(PartitionId::SERVICE, log).await?;
        let sequence = last.map_or(0, |last| last.sequence) + 1;
        let correction = CorrectionRecord {
            sequence,
            approval: record.number,
            pool: pool.number(),
            account: asked.account.clone(),
            correction: effect.correction,
        };
        let mut batch = Batch::new(PartitionId::SERVICE);
        let (after, note) = approved_by(request, &record, now);
        let key = keys::approval(record.number);
        batch.expect_equals(key.clone(), record.encode()).put(key, ApprovalRecord { sequence, ..after }.encode());
        batch.expect_absent(keys::correction(sequence)).put(keys::correction(sequence), correction.encode());
        self.commit_marked(request, Vec::new(), batch, now, note).await?;
        self.enter_corrections().await?;
        Ok(Once::First)
    }

    /// Why the book did not accept a correction that was approved, if it did not.
    pub(super) async fn rejection_of(&self, record: &ApprovalRecord) -> Result<Option<RejectReason>, AppError> {
        match self.pool(&record.pool) {
            Ok(pool) if record.sequence > 0 => {
                Ok(self.book.rejection_of(pool.number(), SourceNumber::CORRECTION, record.sequence).await?)
            }
            _ => Ok(None),
        }
    }

    /// Enters every approved correction that is not in the book yet, in order.
    pub(super) async fn enter_corrections(&self) -> Result<Work, AppError> {
        let mut work = Work::Idle;
        loop {
            let entered = self.book.source_state(SourceNumber::CORRECTION).unwrap_or_default().durable_sequence;
            let log = keys::range_of_tag(keys::tag::CORRECTION);
            let range = KeyRange { from: keys::correction(entered + 1), to: log.to };
            let waiting: Vec<CorrectionRecord> = self.list(PartitionId::SERVICE, range, CORRECTIONS_PER_READ).await?;
            if waiting.is_empty() {
                return Ok(work);
            }
            for CorrectionRecord { sequence, pool, account, correction, .. } in waiting {
                let command = PositionCorrection { pool, sequence, account, correction };
                let full = |full: Overloaded| AppError::refused(Reason::Overloaded, full.to_string());
                let outcome = self.sender.submit_correction(command).map_err(full)?.await.map_err(book_refusal)?;
                if outcome.rejected.is_empty() {
                    self.metrics.corrections_made.inc();
                } else {
                    tracing::warn!(sequence, rejected = ?outcome.rejected, "a correction was overtaken");
                }
                work = Work::Done;
            }
        }
    }

    /// What a correction does, computed at the book's present point.
    async fn effect_of(&self, pool: &Pool, asked: &AskedCorrection) -> Result<Effect, AppError> {
        let at = asked.at;
        if at > self.now() {
            return Err(AppError::invalid("event_time", "the time lies ahead; a correction is about what was"));
        }
        if at < pool.record.first_period_start {
            let start = pool.record.first_period_start;
            return Err(AppError::invalid("event_time", format!("the pool begins at {start} (Unix seconds)")));
        }
        let history = self.book.position_history(pool.number(), &asked.account).await;
        let history = history.map_err(|error| match error {
            BookError::NotKept { .. } => too_old(None),
            error @ BookError::HistoryTooLong { .. } => AppError::refused_in(
                "account",
                Reason::HistoryTooLong,
                format!("{error}; send a balance of now instead"),
            ),
            error => error.into(),
        })?;
        let PositionHistory { known_from, timeline, basis, summed_until, calendar } = history.ok_or_else(|| {
            let message = format!("account {} has no position in pool {}", asked.account, pool.id());
            AppError::refused_in("account", Reason::UnknownAccount, message)
        })?;
        if at < known_from {
            return Err(too_old(Some(known_from)));
        }
        if at >= calendar.open_until() {
            return Err(AppError::refused_in(
                "event_time",
                Reason::PeriodNotOpen,
                "the time lies in a period that is not open yet",
            ));
        }
        let limit = calendar.balance_limit();
        if asked.balance > limit {
            return Err(AppError::invalid(
                "balance.base_units",
                format!("a balance is at most {limit} base units here"),
            ));
        }
        let held = timeline.held();
        let before = held.iter().rev().find(|held| held.from <= at).map_or(BaseUnits::ZERO, |held| held.balance);
        let until = timeline.next_after(at);
        let summed = until.unwrap_or(summed_until).min(summed_until);
        let periods = self.periods_since(pool, at, &calendar).await?;
        let too_large = || AppError::invalid("balance.base_units", "what this changes is more than a weight can hold");
        let found = differences(&held, at, summed, asked.balance, &periods, calendar.oldest.index);
        let found = found.ok_or_else(too_large)?;
        let total = found.total().ok_or_else(too_large)?;
        if before == asked.balance || (until.is_some() && total == 0 && found == Differences::default()) {
            let message = "nothing changes: the position held that balance, or earned the same with the one it held";
            return Err(AppError::refused_in("balance", Reason::NothingToCorrect, message));
        }
        let oldest = found.frozen.checked_add(found.oldest).ok_or_else(too_large)?;
        let correction = Correction { at, balance: asked.balance, until, oldest, next: found.next, basis };
        let hash = hash_of(pool.id(), asked, &correction, before, total);
        Ok(Effect { correction, before, found, hash })
    }

    /// The unfrozen periods, and the frozen ones back to the one that `at` lies in.
    async fn periods_since(
        &self,
        pool: &Pool,
        at: UnixSeconds,
        calendar: &Calendar,
    ) -> Result<Vec<OpenPeriod>, AppError> {
        let mut periods: Vec<OpenPeriod> = [Some(calendar.oldest), calendar.next].into_iter().flatten().collect();
        let mut first = calendar.oldest;
        while at < first.bounds.start {
            let index = first.index.0.checked_sub(1).map(PeriodIndex);
            let before = match index {
                Some(index) => self.book.frozen_snapshot(pool.number(), index).await?,
                None => None,
            };
            // The one that was frozen last may not be sealed yet.
            first = before.ok_or_else(|| {
                AppError::refused(Reason::Overloaded, "a period is being sealed; ask again in a moment")
            })?;
            periods.push(first);
        }
        Ok(periods)
    }
}

/// Enters what was approved and is not in the book yet.
pub async fn step(app: &App) -> Result<Work, AppError> {
    let _guard = app.approvals.lock().await;
    app.enter_corrections().await
}

fn summary(pool: &Pool, asked: &AskedCorrection, effect: &Effect, reason: &str) -> String {
    let AskedCorrection { account, balance, at } = asked;
    let until = effect.correction.until.map_or("on".to_owned(), |until| format!("until {until}"));
    let Differences { frozen, oldest, next } = effect.found;
    format!(
        "{account} in pools/{} held {balance} base units instead of {} from {at} {until} (Unix seconds): weights \
         change by {frozen} base units x seconds for frozen periods and {} for open ones, less what the balance does \
         from now on. {reason}",
        pool.id(),
        effect.before,
        oldest.saturating_add(next),
    )
}

/// The hash of what is applied. For a correction that ends it is what it changes in all; one of the balance from now on
/// rests on the position's last event instead, as its effect grows with time.
fn hash_of(
    pool: &PoolId,
    asked: &AskedCorrection,
    correction: &Correction,
    before: BaseUnits,
    total: i128,
) -> [u8; 32] {
    let AskedCorrection { account, balance, at } = asked;
    let mut hasher = blake3::Hasher::new();
    for text in ["softstake correction", pool.as_str(), account.as_str()] {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.update(&balance.get().to_le_bytes()).update(&before.get().to_le_bytes()).update(&at.get().to_le_bytes());
    match correction.until {
        Some(until) => {
            hasher.update(&[1]).update(&until.get().to_le_bytes()).update(&total.to_le_bytes());
        }
        None => {
            let basis = correction.basis;
            hasher.update(&[0]).update(&basis.last_second.to_le_bytes()).update(&basis.last_sequence.to_le_bytes());
            hasher.update(&basis.available.get().to_le_bytes()).update(&[basis.standing.bits()]);
        }
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
#[path = "correct_tests.rs"]
mod tests;
