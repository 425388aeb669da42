//! Two persons: what moves money or lowers a guard is proposed by one principal and approved by another.
//!
//! A change asks [`App::second_person`] once everything about it is checked and before it has an effect. Where it takes
//! two, the change is stored whole in place of being made, and [`App::approve`] makes it later as its first caller would
//! have: everything is checked again, against the version of the pool's configuration that it was proposed on. The
//! approval is marked in the commit of the change.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::domain::approval::{AtStake, Proposal};
use crate::domain::audit_log::{Note, cut};
use crate::domain::feed::RejectReason;
use crate::domain::time::{DAY_SECONDS, UnixSeconds};
use crate::store::records::{ApprovalRecord, ApprovalState, Record, proposal_bytes};
use crate::store::{Batch, Direction, KeyRange, MAX_VALUE_BYTES, PartitionId, keys};

use super::audit_log::full_name;
use super::control::Change;
use super::ingest::rejected;
use super::query::lists::Listed;
use super::{App, AppError, Once, Pool, Reason, Request};

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

pub(super) fn overtaken() -> AppError {
    let message = "what this does, or the pool's configuration, has changed since it was proposed; propose it again";
    AppError::refused(Reason::WrongState, message)
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

/// Where an approval stands: in the commit of what it is about, corrections in the log that the book follows, everything
/// else with its pool.
fn partition(record: &ApprovalRecord, pool: &Pool) -> PartitionId {
    if record.proposal.is_correction() { PartitionId::SERVICE } else { pool.control() }
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
        if !at_stake.needs_two(&state.settings.approval) {
            return Ok(None);
        }
        let record = self.numbered(self.proposal(request, pool, state.version, what, proposal()));
        self.metrics.changes_proposed.inc();
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
        self.may_approve(request, &record, hash)?;
        if self.pool_state(&pool).await?.version != record.config_version {
            return self.lapse(&pool, record).await;
        }
        let once = match record.proposal.clone() {
            Proposal::CorrectBalance(asked) => {
                self.enter_corrections().await?;
                self.approve_correction(request, &pool, record, &asked).await?
            }
            proposal => {
                // It may take as long as a chain does, and corrections don't wait for that: of two approvals of one
                // proposal, the pool's own lock lets the second one find it approved.
                drop(guard);
                self.carry_out(&request.approving(record), &pool, proposal).await?
            }
        };
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

    /// The highest number that any approval has.
    pub(super) async fn find_last_approval(&self) -> Result<(), AppError> {
        let last = self.approvals_page(&[], None, 1).await?;
        let last = last.entries.first().map_or(0, |last| last.number);
        self.last_approval.store(last, Ordering::Relaxed);
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

    /// What was not approved in time has lapsed, and so has what the book did not accept any more.
    async fn as_it_stands(&self, record: ApprovalRecord) -> Result<ApprovalRecord, AppError> {
        let rejected = self.rejection_of(&record).await?.is_some();
        let state = if rejected { ApprovalState::Lapsed } else { record.state_at(self.now()) };
        Ok(ApprovalRecord { state, ..record })
    }

    /// Lets a proposal lapse that no longer does what it said.
    pub(super) async fn lapse<T>(&self, pool: &Pool, record: ApprovalRecord) -> Result<T, AppError> {
        let key = keys::approval(record.number);
        let mut batch = Batch::new(partition(&record, pool));
        batch.expect_equals(key.clone(), record.encode());
        batch.put(key, ApprovalRecord { state: ApprovalState::Lapsed, ..record }.encode());
        self.store.commit(vec![batch]).await?;
        Err(overtaken())
    }
}

#[cfg(test)]
#[path = "approve_tests.rs"]
mod tests;
