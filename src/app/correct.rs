//! Corrections: proposed with what they change, approved by the hash of that, and entered in the book, each once.
//!
//! An approved correction is durable in a log of its own before the book is told; the book follows the log as a source,
//! so that what a crash cut off is entered by a later step and what was entered is skipped. Between the proposal and the
//! approval everything is computed again: what has changed meanwhile has to be proposed again.

use crate::book::{BookError, Overloaded, PositionCorrection, PositionHistory};
use crate::domain::amount::BaseUnits;
use crate::domain::audit_log::Note;
use crate::domain::calendar::Calendar;
use crate::domain::correction::{Correction, Differences, differences};
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::{AccountId, AssetId};
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::{DAY_SECONDS, UnixSeconds};
use crate::store::records::{ApprovalRecord, ApprovalState, AskedCorrection, CorrectionRecord, Record};
use crate::store::{Batch, Direction, KeyRange, PartitionId, keys};

use super::ingest::{book_refusal, rejected};
use super::query::lists::Listed;
use super::{App, AppError, Once, Pool, Reason, Refusal, Request, Work};

/// How long a proposal waits: a second person may be away for a weekend, and not for ever.
const APPROVAL_SECONDS: i64 = 7 * DAY_SECONDS as i64;

/// How many approved corrections are looked at together.
const CORRECTIONS_PER_READ: usize = 100;

/// How many approvals one read takes where a filter may pass over some.
const APPROVALS_PER_READ: usize = 256;

/// The full name of the RPC that proposes corrections.
const METHOD: &str = "softstake.v1.BalanceFeedService/CorrectBalance";

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
            let bytes = self.store.get(PartitionId::SERVICE, &number_key(request)).await?;
            let number = bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            let number = number.ok_or_else(|| AppError::Broken(format!("request {} has no approval", request.id)))?;
            return Ok((once, self.approval(number).await?));
        }
        self.enter_corrections().await?;
        let asked = AskedCorrection { pool: pool.id().clone(), account, balance, at };
        let effect = self.effect_of(&pool, &asked).await?;
        let now = self.now();
        let last: Option<ApprovalRecord> =
            self.last(PartitionId::SERVICE, keys::range_of_tag(keys::tag::APPROVAL)).await?;
        let record = ApprovalRecord {
            number: last.map_or(0, |last| last.number) + 1,
            method: METHOD.to_owned(),
            summary: summary(&asked, &effect, reason),
            content_hash: effect.hash,
            proposed_by: request.caller.principal.to_string(),
            proposed_at: now,
            expires_at: now.plus(APPROVAL_SECONDS),
            state: ApprovalState::Pending,
            approved_by: String::new(),
            approved_at: None,
            correction: asked,
            sequence: 0,
        };
        let mut batch = Batch::new(PartitionId::SERVICE);
        let key = keys::approval(record.number);
        batch.expect_absent(key.clone()).put(key, record.encode());
        batch.put(number_key(request), record.number.to_be_bytes());
        let note = Note::of(format!("approvals/{}", record.number), format!("proposed: {}", record.summary));
        self.commit_marked(request, Vec::new(), batch, now, note.changed("", "PENDING")).await?;
        self.metrics.corrections_proposed.inc();
        tracing::warn!(approval = record.number, by = %request.caller.principal, summary = record.summary, "a correction was proposed");
        Ok((Once::First, record))
    }

    /// Approves what another principal proposed under a number, by the hash of what is applied, once, and carries it out.
    /// What it does is computed again: where that changed, the proposal lapses. Where nobody is asked who they are, nobody
    /// can be told from another, and the second person is not enforced.
    pub async fn approve(
        &self,
        request: &Request,
        number: u64,
        hash: [u8; 32],
    ) -> Result<(Once, ApprovalRecord), AppError> {
        let _guard = self.approvals.lock().await;
        self.enter_corrections().await?;
        if let Some(once) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            return Ok((once, self.approved(number).await?));
        }
        let record = self.approval(number).await?;
        if record.state != ApprovalState::Pending {
            let message = format!("approval {number} waits no more; ListApprovals says where it stands");
            return Err(AppError::refused(Reason::WrongState, message));
        }
        if record.proposed_by == request.caller.principal.as_str() && !request.caller.is_local() {
            let message =
                format!("{} proposed approval {number}; another principal has to approve it", record.proposed_by);
            return Err(AppError::refused(Reason::OwnProposal, message));
        }
        if record.content_hash != hash {
            let message = "the hash is not the one of what is applied; read the approval again and decide again";
            return Err(AppError::refused_in("content_hash", Reason::HashMismatch, message));
        }
        let pool = self.pool(&record.correction.pool)?;
        let effect = match self.effect_of(&pool, &record.correction).await {
            Ok(effect) if effect.hash == record.content_hash => effect,
            Ok(_) => return self.lapse(record).await,
            Err(AppError::Refused(refusal)) if refusal.reason == Reason::NothingToCorrect => {
                return self.lapse(record).await;
            }
            Err(error) => return Err(error),
        };
        let now = self.now();
        let log = keys::range_of_tag(keys::tag::CORRECTION);
        let last: Option<CorrectionRecord> = self.last(PartitionId::SERVICE, log).await?;
        let sequence = last.map_or(0, |last| last.sequence) + 1;
        let correction = CorrectionRecord {
            sequence,
            approval: number,
            pool: pool.number(),
            account: record.correction.account.clone(),
            correction: effect.correction,
        };
        let mut batch = Batch::new(PartitionId::SERVICE);
        let key = keys::approval(number);
        batch.expect_equals(key.clone(), record.encode());
        let approved = ApprovalRecord {
            state: ApprovalState::Approved,
            approved_by: request.caller.principal.to_string(),
            approved_at: Some(now),
            sequence,
            ..record
        };
        batch.put(key, approved.encode());
        batch.expect_absent(keys::correction(sequence)).put(keys::correction(sequence), correction.encode());
        let summary = format!("approved what {} proposed: {}", approved.proposed_by, approved.summary);
        let note = Note::of(format!("approvals/{number}"), summary).changed("PENDING", "APPROVED");
        self.commit_marked(request, Vec::new(), batch, now, note).await?;
        tracing::warn!(approval = number, by = %request.caller.principal, summary = approved.summary, "a correction was approved");
        self.enter_corrections().await?;
        Ok((Once::First, self.approved(number).await?))
    }

    /// What was approved, once it is in the book; refused where the book did not accept it any more.
    async fn approved(&self, number: u64) -> Result<ApprovalRecord, AppError> {
        let record = self.approval(number).await?;
        match self.rejection_of(&record).await? {
            None => Ok(record),
            Some(RejectReason::Overtaken) => Err(overtaken()),
            Some(reason) => Err(rejected(reason)),
        }
    }

    /// An approval by its number, as it stands now.
    pub async fn approval(&self, number: u64) -> Result<ApprovalRecord, AppError> {
        let record = self.read(PartitionId::SERVICE, &keys::approval(number)).await?;
        let record = record.ok_or_else(|| {
            let message = format!("there is no approval {number}; AdminService/ListApprovals lists them");
            AppError::refused(Reason::UnknownApproval, message)
        })?;
        self.as_it_stands(record).await
    }

    /// A page of approvals, newest first, from before the one numbered `before`. With `states`, only those in one of
    /// them.
    pub async fn approvals_page(
        &self,
        states: &[ApprovalState],
        before: Option<u64>,
        size: usize,
    ) -> Result<Listed<ApprovalRecord>, AppError> {
        let all = keys::range_of_tag(keys::tag::APPROVAL);
        let mut to = before.map_or(all.to, keys::approval);
        let mut entries = Vec::new();
        while entries.len() <= size {
            let range = KeyRange { from: all.from.clone(), to };
            let found = self.store.scan(PartitionId::SERVICE, range, APPROVALS_PER_READ, Direction::Reverse).await?;
            let Some((last, _)) = found.last() else { break };
            to = last.clone();
            for (_, value) in &found {
                let record = self.as_it_stands(ApprovalRecord::decode(value)?).await?;
                if states.is_empty() || states.contains(&record.state) {
                    entries.push(record);
                }
            }
        }
        Ok(Listed::cut(entries, size))
    }

    /// What was not approved in time has lapsed, and so has what the book did not accept any more.
    async fn as_it_stands(&self, record: ApprovalRecord) -> Result<ApprovalRecord, AppError> {
        let rejected = self.rejection_of(&record).await?.is_some();
        let state = if rejected { ApprovalState::Lapsed } else { record.state_at(self.now()) };
        Ok(ApprovalRecord { state, ..record })
    }

    /// Why the book did not accept what was approved, if it did not.
    async fn rejection_of(&self, record: &ApprovalRecord) -> Result<Option<RejectReason>, AppError> {
        match self.pool(&record.correction.pool) {
            Ok(pool) if record.sequence > 0 => {
                Ok(self.book.rejection_of(pool.number(), SourceNumber::CORRECTION, record.sequence).await?)
            }
            _ => Ok(None),
        }
    }

    /// Lets a proposal lapse that no longer does what it said.
    async fn lapse<T>(&self, record: ApprovalRecord) -> Result<T, AppError> {
        let key = keys::approval(record.number);
        let mut batch = Batch::new(PartitionId::SERVICE);
        batch.expect_equals(key.clone(), record.encode());
        batch.put(key, ApprovalRecord { state: ApprovalState::Lapsed, ..record }.encode());
        self.store.commit(vec![batch]).await?;
        Err(overtaken())
    }

    /// Enters every approved correction that is not in the book yet, in order.
    async fn enter_corrections(&self) -> Result<Work, AppError> {
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
        let hash = hash_of(asked, &correction, before, total);
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

fn overtaken() -> AppError {
    let message = "what this does has changed since it was proposed; propose it again";
    AppError::refused(Reason::WrongState, message)
}

/// Which approval a request made: beside the request's own mark.
fn number_key(request: &Request) -> Vec<u8> {
    keys::request("BalanceFeedService/CorrectBalance/approval", &request.id)
}

fn summary(asked: &AskedCorrection, effect: &Effect, reason: &str) -> String {
    let AskedCorrection { pool, account, balance, at } = asked;
    let until = effect.correction.until.map_or("on".to_owned(), |until| format!("until {until}"));
    let Differences { frozen, oldest, next } = effect.found;
    format!(
        "{account} in pools/{pool} held {balance} base units instead of {} from {at} {until} (Unix seconds): weights \
         change by {frozen} base units x seconds for frozen periods and {} for open ones, less what the balance does \
         from now on. {reason}",
        effect.before,
        oldest.saturating_add(next),
    )
}

/// The hash of what is applied. For a correction that ends it is what it changes in all; one of the balance from now on
/// rests on the position's last event instead, as its effect grows with time.
fn hash_of(asked: &AskedCorrection, correction: &Correction, before: BaseUnits, total: i128) -> [u8; 32] {
    let AskedCorrection { pool, account, balance, at } = asked;
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
