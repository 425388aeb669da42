//! Two persons: what moves money or lowers a guard is proposed by one principal and approved by another.
//!
//! A change asks [`App::second_person`] once everything about it is checked and before it has an effect. Where it takes
//! two, the change is stored whole in place of being made, and [`App::approve`] makes it later as its first caller would
//! have: everything is checked again, against the version of the pool's configuration that it was proposed on. The
//! approval is marked in the commit of the change.
//!
//! What is not approved in time, or rests on what is another by now, lapses: whoever finds that out writes it down, an
//! approval or the next step.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::approval::{AtStake, Proposal};
use crate::domain::audit_log::{Note, cut};
use crate::domain::caller::Caller;
use crate::domain::feed::RejectReason;
use crate::domain::ids::PoolId;
use crate::domain::time::{DAY_SECONDS, UnixSeconds};
use crate::store::records::{ApprovalRecord, ApprovalState, Record, proposal_bytes};
use crate::store::{Batch, Direction, KeyRange, MAX_VALUE_BYTES, PartitionId, keys};

use super::audit_log::{by, full_name};
use super::control::Change;
use super::ingest::rejected;
use super::query::lists::Listed;
use super::{App, AppError, Once, Pool, Reason, Request, Work, alone};

/// How long a proposal waits: a second person may be away for a weekend, and not for ever.
pub(super) const APPROVAL_SECONDS: i64 = 7 * DAY_SECONDS as i64;

/// How much a proposal and its summary may have together, in bytes, so that the record fits a value of the store.
const MAX_BYTES: usize = MAX_VALUE_BYTES - 1_024;

/// The longest summary that is kept, in bytes. Longer ones are cut: the reasons that a pool is paused for, or hundreds of
/// jurisdictions. What is applied is whole in any case, and so is its hash.
const MAX_SUMMARY_BYTES: usize = 3_600;

/// How many approvals one read takes where a filter may pass over some.
const APPROVALS_PER_READ: usize = 256;

/// Which approval a request made: beside the request's own mark.
pub(super) fn number_key(request: &Request) -> Vec<u8> {
    keys::request(&format!("{}/approval", request.method), &request.id)
}

/// The resource name of an approval.
fn name(record: &ApprovalRecord) -> String {
    format!("approvals/{}", record.number)
}

/// What whoever approves is told of a change that no longer does what it said.
const OVERTAKEN: &str =
    "what this does, or the pool's configuration, has changed since it was proposed; propose it again";

pub(super) fn overtaken() -> AppError {
    AppError::refused(Reason::WrongState, OVERTAKEN)
}

fn is_overtaken(error: &AppError) -> bool {
    matches!(error, AppError::Refused(refusal) if refusal.reason == Reason::WrongState && refusal.message == OVERTAKEN)
}

/// What may wait for a second person, by number, so that a step need not look through all approvals: each with its pool, the
/// version of the configuration that it rests on, when it lapses, and whether it is a correction.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<BTreeMap<u64, (PoolId, u64, UnixSeconds, bool)>>);

impl Waiting {
    /// One more is proposed. It is added before it is committed.
    pub(super) fn add(&self, record: &ApprovalRecord) {
        let waits = (record.pool.clone(), record.config_version, record.expires_at, record.proposal.is_correction());
        self.all().insert(record.number, waits);
    }

    /// Those of a pool that have lapsed, and whether each is a correction.
    fn due(&self, pool: &PoolId, version: u64, now: UnixSeconds) -> Vec<(u64, bool)> {
        let all = self.all();
        let due =
            all.iter().filter(|(_, (of, rests_on, until, _))| of == pool && (*rests_on != version || now >= *until));
        due.map(|(number, (.., is_correction))| (*number, *is_correction)).collect()
    }

    fn remove(&self, number: u64) {
        self.all().remove(&number);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, (PoolId, u64, UnixSeconds, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written down of a proposal.
pub(super) fn proposed(record: &ApprovalRecord) -> Note {
    tracing::warn!(approval = record.number, by = record.proposed_by, summary = record.summary, "proposed");
    Note::of(name(record), format!("proposed: {}", record.summary)).changed("", "PENDING")
}

/// A proposal once whoever makes `request` has approved it, and what is written down of that.
pub(super) fn approved_by(request: &Request, record: &ApprovalRecord, at: UnixSeconds) -> (ApprovalRecord, Note) {
    let after = ApprovalRecord {
        state: ApprovalState::Approved,
        approved_by: request.caller.principal.to_string(),
        approved_at: Some(at),
        ..record.clone()
    };
    tracing::warn!(approval = record.number, by = after.approved_by, summary = record.summary, "approved");
    let summary = format!("approved what {} proposed: {}", record.proposed_by, record.summary);
    (after, Note::of(name(record), summary).changed("PENDING", "APPROVED"))
}

/// Writes down what has lapsed: where nobody approved it in time, or its pool's configuration is another one.
pub(super) async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let version = app.pool_state(pool).await?.version;
    let due = app.waiting.due(pool.id(), version, now);
    for (number, is_correction) in &due {
        match is_correction {
            true => {
                let guard = app.approvals.lock().await;
                app.lapse_correction(&guard, pool, *number, None).await?;
            }
            false => app.lapse(pool, *number, None).await?,
        }
    }
    Ok(if due.is_empty() { Work::Idle } else { Work::Done })
}

impl App {
    /// A proposal with its number. Numbers are not used twice; one whose proposal was refused after all is left out.
    pub(super) fn numbered(&self, proposed: ApprovalRecord) -> ApprovalRecord {
        ApprovalRecord { number: self.last_approval.fetch_add(1, Ordering::Relaxed) + 1, ..proposed }
    }

    /// A proposal that a request makes, with what it is about and what it does, for people. It has no number yet.
    pub(super) fn proposal(
        &self,
        request: &Request,
        pool: &Pool,
        config_version: u64,
        (resource, summary): (String, String),
        proposal: Proposal,
    ) -> ApprovalRecord {
        let bytes = proposal_bytes(&proposal);
        let summary = cut(summary, MAX_SUMMARY_BYTES.min(MAX_BYTES.saturating_sub(bytes.len())));
        let mut hasher = blake3::Hasher::new();
        for part in [b"softstake proposal", pool.id().as_str().as_bytes(), summary.as_bytes(), &bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hasher.update(&config_version.to_le_bytes());
        let now = self.now();
        ApprovalRecord {
            number: 0,
            pool: pool.id().clone(),
            method: full_name(request.method),
            resource,
            summary,
            content_hash: *hasher.finalize().as_bytes(),
            config_version,
            proposed_by: request.caller.principal.to_string(),
            proposed_at: now,
            expires_at: now.plus(APPROVAL_SECONDS),
            state: ApprovalState::Pending,
            approved_by: String::new(),
            approved_at: None,
            proposal,
            sequence: 0,
        }
    }

    /// Asks whether a change may be made now. `None`: go on. Else it waits for a second person: it was proposed as part
    /// of `change`, which makes nothing else and ends with this note. `what` is the resource that it changes and what it
    /// does, for people, with everything that it rests on: where that is another one at the approval, nothing is made.
    pub(super) async fn second_person(
        &self,
        change: &mut Change<'_>,
        (pool, request): (&Pool, &Request),
        at_stake: AtStake,
        what: (String, String),
        proposal: impl FnOnce() -> Proposal,
    ) -> Result<Option<Note>, AppError> {
        let state = self.pool_state(pool).await?;
        if let Some(approved) = &request.approval {
            // What it does is told with what it rests on: it has to do just that now.
            let now = self.proposal(request, pool, state.version, what, proposal());
            return if now.content_hash == approved.content_hash { Ok(None) } else { Err(overtaken()) };
        }
        let moved = alone::moved(change, request).await?;
        if let Some(sum) = at_stake.alone(&state.settings.approval, moved) {
            alone::keep(change, request, sum);
            return Ok(None);
        }
        let record = self.numbered(self.proposal(request, pool, state.version, what, proposal()));
        self.metrics.changes_proposed.inc();
        self.waiting.add(&record);
        change.put_new(keys::approval(record.number), &record);
        change.put_bytes(number_key(request), &record.number.to_be_bytes());
        Ok(Some(proposed(&record)))
    }

    /// What a request that is marked in the partition `at` proposed, as it stands now; `None` where it was carried out at
    /// once.
    pub async fn proposed_by(&self, request: &Request, at: PartitionId) -> Result<Option<ApprovalRecord>, AppError> {
        let Some(bytes) = self.store.get(at, &number_key(request)).await? else { return Ok(None) };
        let number = bytes.try_into().map(u64::from_be_bytes);
        let number = number.map_err(|_| AppError::Broken(format!("request {} has no approval", request.id)))?;
        Ok(Some(self.approval(number).await?))
    }

    /// Approves what another principal proposed under a number, by the hash of what is applied, once, and carries it out.
    /// Where nobody is asked who they are, nobody can be told from another, and the second person is not enforced.
    pub async fn approve(
        &self,
        request: &Request,
        number: u64,
        hash: [u8; 32],
    ) -> Result<(Once, ApprovalRecord), AppError> {
        let guard = self.approvals.lock().await;
        if let Some(once) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            self.enter_corrections().await?;
            return Ok((once, self.approved(number).await?));
        }
        let record = self.approval(number).await?;
        let pool = self.pool(&record.pool)?;
        if let Some(once) = request.seen(&*self.store, pool.control()).await? {
            return Ok((once, record));
        }
        if record.state == ApprovalState::Lapsed {
            self.find_lapsed(&guard, &pool, &record, None).await?;
        }
        self.may_approve(request, &record, hash)?;
        let made = match record.proposal.clone() {
            Proposal::CorrectBalance(asked) => {
                self.enter_corrections().await?;
                let made = self.approve_correction(request, &pool, record.clone(), &asked).await;
                if made.as_ref().is_err_and(is_overtaken) {
                    self.find_lapsed(&guard, &pool, &record, Some(OVERTAKEN)).await?;
                }
                made
            }
            proposal => {
                // It may take as long as a chain does, and corrections don't wait for that: of two approvals of one
                // proposal, the pool's own lock lets the second one find it approved.
                drop(guard);
                let made = self.carry_out(&request.approving(record), &pool, proposal).await;
                if made.as_ref().is_err_and(is_overtaken) {
                    self.lapse(&pool, number, Some(OVERTAKEN)).await?;
                }
                made
            }
        };
        let once = made?;
        self.waiting.remove(number);
        self.metrics.changes_approved.inc();
        Ok((once, self.approved(number).await?))
    }

    /// Whether this caller may approve this now.
    fn may_approve(&self, request: &Request, record: &ApprovalRecord, hash: [u8; 32]) -> Result<(), AppError> {
        let number = record.number;
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
        Ok(())
    }

    /// Makes a change that was approved, as its first caller would have made it.
    async fn carry_out(&self, request: &Request, pool: &Pool, proposal: Proposal) -> Result<Once, AppError> {
        match proposal {
            Proposal::CorrectBalance(_) => Err(AppError::Broken("a correction is entered in the book".to_owned())),
            Proposal::UpdatePool { policy, settings } => {
                let (policy, settings) = (policy.map(|policy| *policy), settings.map(|settings| *settings));
                self.update_pool(request, pool, None, policy, settings).await
            }
            Proposal::ResumePool { reason } => self.resume_pool(request, pool, &reason).await,
            Proposal::ResolveOperation { operation, resolution, evidence } => {
                self.resolve_operation(request, pool, &operation, &resolution, &evidence).await
            }
            Proposal::VoidDistribution { period, revision, mode, reason } => {
                self.void_distribution(request, pool, period, revision, mode, &reason).await
            }
            Proposal::AcceptDifferences { hash, evidence } => {
                self.accept_differences(request, pool, hash, &evidence).await
            }
            Proposal::RecordReceipt { reward, evidence } => {
                self.record_receipt(request, pool, &reward, &evidence).await
            }
        }
    }

    /// What was approved; of a correction once it is in the book, refused where the book did not accept it any more.
    async fn approved(&self, number: u64) -> Result<ApprovalRecord, AppError> {
        let record = self.approval(number).await?;
        match self.rejection_of(&record).await? {
            None => Ok(record),
            Some(RejectReason::Overtaken) => Err(overtaken()),
            Some(reason) => Err(rejected(reason)),
        }
    }

    /// The highest number that any approval has, and what waits.
    pub(super) async fn find_approvals(&self) -> Result<(), AppError> {
        let all = keys::range_of_tag(keys::tag::APPROVAL);
        for at in self.of_approvals() {
            let mut from = all.from.clone();
            loop {
                let range = KeyRange { from, to: all.to.clone() };
                let some = self.store.scan(at, range, APPROVALS_PER_READ, Direction::Forward).await?;
                for (_, value) in &some {
                    let record = ApprovalRecord::decode(value)?;
                    self.last_approval.fetch_max(record.number, Ordering::Relaxed);
                    if record.state == ApprovalState::Pending {
                        self.waiting.add(&record);
                    }
                }
                match some.last() {
                    Some((last, _)) => from = keys::after(last),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Where approvals stand.
    fn of_approvals(&self) -> impl Iterator<Item = PartitionId> {
        [PartitionId::SERVICE].into_iter().chain(self.pools().into_iter().map(|pool| pool.control()))
    }

    /// An approval by its number, as it stands now.
    pub async fn approval(&self, number: u64) -> Result<ApprovalRecord, AppError> {
        for at in self.of_approvals() {
            if let Some(record) = self.read(at, &keys::approval(number)).await? {
                return self.as_it_stands(record).await;
            }
        }
        let message = format!("there is no approval {number}; AdminService/ListApprovals lists them");
        Err(AppError::refused(Reason::UnknownApproval, message))
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
            let (mut found, mut whole_from) = (BTreeMap::new(), None::<Vec<u8>>);
            for at in self.of_approvals() {
                let range = KeyRange { from: all.from.clone(), to: to.clone() };
                let some = self.store.scan(at, range, APPROVALS_PER_READ, Direction::Reverse).await?;
                if some.len() == APPROVALS_PER_READ {
                    // Before its last, this partition has more that were not read.
                    whole_from = whole_from.max(some.last().map(|(key, _)| key.clone()));
                }
                found.extend(some);
            }
            let known = |key: &Vec<u8>| whole_from.as_ref().is_none_or(|from| key >= from);
            for (_, value) in found.iter().rev().filter(|(key, _)| known(key)) {
                let record = self.as_it_stands(ApprovalRecord::decode(value)?).await?;
                if states.is_empty() || states.contains(&record.state) {
                    entries.push(record);
                }
            }
            match whole_from {
                Some(from) => to = from,
                None => break,
            }
        }
        Ok(Listed::cut(entries, size))
    }

    /// What was not approved in time has lapsed, and so has what rests on another configuration and what the book did not
    /// accept any more.
    async fn as_it_stands(&self, record: ApprovalRecord) -> Result<ApprovalRecord, AppError> {
        let lapsed = match (record.state, self.pool(&record.pool)) {
            (ApprovalState::Pending, Ok(pool)) => self.why_lapsed(&pool, &record).await?.is_some(),
            _ => self.rejection_of(&record).await?.is_some(),
        };
        Ok(if lapsed { ApprovalRecord { state: ApprovalState::Lapsed, ..record } } else { record })
    }

    /// Why a proposal that waits can't be approved any more, if it can't.
    async fn why_lapsed(&self, pool: &Pool, record: &ApprovalRecord) -> Result<Option<&'static str>, AppError> {
        let is_late = record.state_at(self.now()) == ApprovalState::Lapsed;
        let is_overtaken = self.pool_state(pool).await?.version != record.config_version;
        Ok(match (is_late, is_overtaken) {
            (true, _) => Some("it was not approved in time"),
            (false, true) => Some(OVERTAKEN),
            (false, false) => None,
        })
    }

    /// Lets a proposal lapse, of whichever kind.
    async fn find_lapsed(
        &self,
        guard: &tokio::sync::MutexGuard<'_, ()>,
        pool: &Pool,
        record: &ApprovalRecord,
        why: Option<&'static str>,
    ) -> Result<(), AppError> {
        match record.proposal.is_correction() {
            true => self.lapse_correction(guard, pool, record.number, why).await,
            false => self.lapse(pool, record.number, why).await,
        }
    }

    /// Lets a proposal lapse that waits, for `why` or for what is found, in one commit with what is written down of it.
    async fn lapse(&self, pool: &Pool, number: u64, why: Option<&'static str>) -> Result<(), AppError> {
        let mut change = Change::begin(self, pool, self.now()).await?;
        let stored: Option<ApprovalRecord> = change.read(&keys::approval(number)).await?;
        if let Some((after, note)) = self.lapsed(pool, stored, why).await? {
            change.put(keys::approval(number), &after);
            change.note(note);
            change.commit().await?;
            self.metrics.changes_lapsed.inc();
        }
        self.waiting.remove(number);
        Ok(())
    }

    /// The same of a correction, which stands in the service partition. The guard is that of [`App`]'s approvals.
    async fn lapse_correction(
        &self,
        _guard: &tokio::sync::MutexGuard<'_, ()>,
        pool: &Pool,
        number: u64,
        why: Option<&'static str>,
    ) -> Result<(), AppError> {
        let key = keys::approval(number);
        let stored: Option<ApprovalRecord> = self.read(PartitionId::SERVICE, &key).await?;
        let before = stored.as_ref().map(Record::encode).unwrap_or_default();
        if let Some((after, note)) = self.lapsed(pool, stored, why).await? {
            let mut batch = Batch::new(PartitionId::SERVICE);
            batch.expect_equals(key.clone(), before).put(key, after.encode());
            self.commit_written(Vec::new(), batch, self.now(), vec![by(Caller::service(), note)]).await?;
            self.metrics.changes_lapsed.inc();
        }
        self.waiting.remove(number);
        Ok(())
    }

    /// What is stored of a proposal that lapses, and what is written down of that; `None` where it does not.
    async fn lapsed(
        &self,
        pool: &Pool,
        stored: Option<ApprovalRecord>,
        why: Option<&'static str>,
    ) -> Result<Option<(ApprovalRecord, Note)>, AppError> {
        let Some(record) = stored.filter(|record| record.state == ApprovalState::Pending) else { return Ok(None) };
        let found = self.why_lapsed(pool, &record).await?;
        let Some(why) = found.or(why) else { return Ok(None) };
        tracing::warn!(approval = record.number, why, "a proposal has lapsed");
        let summary = format!("lapsed, {why}. {}", record.summary);
        let note = Note::of(name(&record), summary).changed("PENDING", "LAPSED");
        Ok(Some((ApprovalRecord { state: ApprovalState::Lapsed, ..record }, note)))
    }
}

#[cfg(test)]
#[path = "approve_tests.rs"]
mod tests;
