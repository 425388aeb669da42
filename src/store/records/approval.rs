//! Records of what waits for a second person, and of corrections.

use prost::Message;

use super::operation::ReceiptRecord;
use super::policy::{PolicyRecord, policy_to_pb, settings_from_pb, settings_to_pb};
use super::{Record, RecordError, field, message, required, signed, units};
use crate::domain::approval::Proposal;
use crate::domain::correction::{AskedCorrection, Basis, Correction};
use crate::domain::distribution::AfterVoid;
use crate::domain::eligibility::Standing;
use crate::domain::ids::{AccountId, OperationId, PoolId, TransactionId};
use crate::domain::operation::Resolution;
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;
use crate::pb::store::v1::proposal_record::Change;

/// Where a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApprovalState {
    /// It waits.
    Pending,
    /// It was approved, and is carried out.
    Approved,
    /// It was not approved in time, or something else changed what it does.
    Lapsed,
}

/// A change that waits for a second person, or has had one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRecord {
    /// Its number, from 1.
    pub number: u64,
    /// In which pool.
    pub pool: PoolId,
    /// The full name of the RPC that proposed it.
    pub method: String,
    /// What it changes, by name.
    pub resource: String,
    /// What it does, for people, with the reason that was given.
    pub summary: String,
    /// The hash of what is applied.
    pub content_hash: [u8; 32],
    /// The version of the pool's configuration that it was proposed on.
    pub config_version: u64,
    /// Who proposed it.
    pub proposed_by: String,
    /// When.
    pub proposed_at: UnixSeconds,
    /// When it lapses.
    pub expires_at: UnixSeconds,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who approved it.
    pub approved_by: String,
    /// When.
    pub approved_at: Option<UnixSeconds>,
    /// What is to be done.
    pub proposal: Proposal,
    /// The sequence of the correction that it became; 0 before.
    pub sequence: u64,
}

impl ApprovalRecord {
    /// Where it stands at `now`.
    pub fn state_at(&self, now: UnixSeconds) -> ApprovalState {
        match self.state {
            ApprovalState::Pending if now >= self.expires_at => ApprovalState::Lapsed,
            state => state,
        }
    }
}

impl Record for ApprovalRecord {
    const NAME: &'static str = "approval";

    fn encode(&self) -> Vec<u8> {
        let state = match self.state {
            ApprovalState::Pending => "pending",
            ApprovalState::Approved => "approved",
            ApprovalState::Lapsed => "lapsed",
        };
        pb::ApprovalRecord {
            number: self.number,
            method: self.method.clone(),
            summary: self.summary.clone(),
            content_hash: self.content_hash.to_vec(),
            proposed_by: self.proposed_by.clone(),
            proposed_at: self.proposed_at.get(),
            expires_at: self.expires_at.get(),
            state: state.to_owned(),
            approved_by: self.approved_by.clone(),
            approved_at: self.approved_at.map(UnixSeconds::get),
            proposal: Some(proposal_to_pb(&self.proposal)),
            sequence: self.sequence,
            pool: self.pool.to_string(),
            resource: self.resource.clone(),
            config_version: self.config_version,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::ApprovalRecord = message(name, bytes)?;
        let state = match record.state.as_str() {
            "pending" => ApprovalState::Pending,
            "approved" => ApprovalState::Approved,
            "lapsed" => ApprovalState::Lapsed,
            other => return field(name, "state", Err(format!("{other} is none"))),
        };
        Ok(Self {
            number: record.number,
            method: record.method,
            summary: record.summary,
            content_hash: super::hash(name, "content_hash", record.content_hash)?,
            proposed_by: record.proposed_by,
            proposed_at: UnixSeconds::new(record.proposed_at),
            expires_at: UnixSeconds::new(record.expires_at),
            state,
            approved_by: record.approved_by,
            approved_at: record.approved_at.map(UnixSeconds::new),
            proposal: proposal_from_pb(name, record.proposal)?,
            sequence: record.sequence,
            pool: field(name, "pool", PoolId::new(&record.pool))?,
            resource: record.resource,
            config_version: record.config_version,
        })
    }
}

/// The canonical bytes of what is proposed: what its hash is made of.
pub fn proposal_bytes(proposal: &Proposal) -> Vec<u8> {
    proposal_to_pb(proposal).encode_to_vec()
}

fn proposal_to_pb(proposal: &Proposal) -> pb::ProposalRecord {
    let change = match proposal {
        Proposal::CorrectBalance(AskedCorrection { account, balance, at }) => {
            let (account, base_units) = (account.to_string(), balance.to_string());
            Change::CorrectBalance(pb::AskedCorrectionRecord { account, base_units, at: at.get() })
        }
        Proposal::UpdatePool { policy, settings } => {
            let policy = policy.as_deref().map(|policy| policy_to_pb(0, policy));
            let settings = settings.as_deref().map(settings_to_pb);
            Change::UpdatePool(pb::ProposedUpdateRecord { policy, settings })
        }
        Proposal::ResumePool { reason } => Change::ResumePool(reason.clone()),
        Proposal::ResolveOperation { operation, resolution, evidence } => {
            let done_by = match resolution {
                Resolution::Done(transaction) => Some(transaction.to_string()),
                Resolution::Absent => None,
            };
            let (operation, evidence) = (operation.to_string(), evidence.clone());
            Change::ResolveOperation(pb::ProposedResolutionRecord { operation, done_by, evidence })
        }
        Proposal::VoidDistribution { period, revision, mode, reason } => {
            let recompute = *mode == AfterVoid::Recompute;
            let (period, revision, reason) = (period.0, *revision, reason.clone());
            Change::VoidDistribution(pb::ProposedVoidRecord { period, revision, recompute, reason })
        }
        Proposal::AcceptDifferences { hash, evidence } => {
            let (hash, evidence) = (hash.to_vec(), evidence.clone());
            Change::AcceptDifferences(pb::ProposedAcceptanceRecord { hash, evidence })
        }
        Proposal::RecordReceipt { reward, evidence } => {
            let receipt = Some(ReceiptRecord::of(reward.clone()).to_pb());
            Change::RecordReceipt(pb::ProposedReceiptRecord { receipt, evidence: evidence.clone() })
        }
    };
    pb::ProposalRecord { change: Some(change) }
}

fn proposal_from_pb(name: &'static str, record: Option<pb::ProposalRecord>) -> Result<Proposal, RecordError> {
    let change = required(name, "proposal", record.and_then(|record| record.change))?;
    Ok(match change {
        Change::CorrectBalance(asked) => Proposal::CorrectBalance(AskedCorrection {
            account: field(name, "account", AccountId::new(&asked.account))?,
            balance: units(name, "base_units", &asked.base_units)?,
            at: UnixSeconds::new(asked.at),
        }),
        Change::UpdatePool(pb::ProposedUpdateRecord { policy, settings }) => Proposal::UpdatePool {
            policy: policy.map(|policy| PolicyRecord::from_pb(&policy)).transpose()?.map(|it| Box::new(it.policy)),
            settings: settings.map(|settings| settings_from_pb(name, &settings)).transpose()?.map(Box::new),
        },
        Change::ResumePool(reason) => Proposal::ResumePool { reason },
        Change::ResolveOperation(pb::ProposedResolutionRecord { operation, done_by, evidence }) => {
            let done_by = done_by.map(|done_by| TransactionId::new(&done_by)).transpose();
            Proposal::ResolveOperation {
                operation: field(name, "operation", OperationId::new(&operation))?,
                resolution: field(name, "done_by", done_by)?.map_or(Resolution::Absent, Resolution::Done),
                evidence,
            }
        }
        Change::VoidDistribution(pb::ProposedVoidRecord { period, revision, recompute, reason }) => {
            let mode = if recompute { AfterVoid::Recompute } else { AfterVoid::Carry };
            Proposal::VoidDistribution { period: PeriodIndex(period), revision, mode, reason }
        }
        Change::AcceptDifferences(pb::ProposedAcceptanceRecord { hash, evidence }) => {
            Proposal::AcceptDifferences { hash: super::hash(name, "hash", hash)?, evidence }
        }
        Change::RecordReceipt(pb::ProposedReceiptRecord { receipt, evidence }) => {
            let receipt = ReceiptRecord::from_pb(required(name, "receipt", receipt)?)?;
            Proposal::RecordReceipt { reward: receipt.reward, evidence }
        }
    })
}

/// A correction that was approved: durable before it enters the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrectionRecord {
    /// Its sequence, from 1.
    pub sequence: u64,
    /// The number of its approval.
    pub approval: u64,
    /// The pool's number.
    pub pool: u16,
    /// Whose balance.
    pub account: AccountId,
    /// What it changes.
    pub correction: Correction,
}

impl Record for CorrectionRecord {
    const NAME: &'static str = "correction";

    fn encode(&self) -> Vec<u8> {
        let Correction { at, balance, until, oldest, next, basis } = self.correction;
        pb::CorrectionRecord {
            sequence: self.sequence,
            approval: self.approval,
            pool: self.pool.into(),
            account: self.account.to_string(),
            at: at.get(),
            base_units: balance.to_string(),
            until: until.map(UnixSeconds::get),
            oldest: oldest.to_string(),
            next: next.to_string(),
            basis_period: basis.oldest.0,
            basis_second: basis.last_second,
            basis_sequence: basis.last_sequence,
            basis_base_units: basis.available.to_string(),
            basis_standing: basis.standing.bits().into(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::CorrectionRecord = message(name, bytes)?;
        let standing = u8::try_from(record.basis_standing).ok().and_then(Standing::from_bits);
        Ok(Self {
            sequence: record.sequence,
            approval: record.approval,
            pool: field(name, "pool", record.pool.try_into())?,
            account: field(name, "account", AccountId::new(&record.account))?,
            correction: Correction {
                at: UnixSeconds::new(record.at),
                balance: units(name, "base_units", &record.base_units)?,
                until: record.until.map(UnixSeconds::new),
                oldest: signed(name, "oldest", &record.oldest)?.get(),
                next: signed(name, "next", &record.next)?.get(),
                basis: Basis {
                    oldest: PeriodIndex(record.basis_period),
                    last_second: record.basis_second,
                    last_sequence: record.basis_sequence,
                    available: units(name, "basis_base_units", &record.basis_base_units)?,
                    standing: required(name, "basis_standing", standing)?,
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::BaseUnits;
    use crate::domain::approval::Reward;
    use crate::domain::effect::EffectKey;
    use crate::domain::ids::ValidatorId;

    fn proposals() -> Vec<Proposal> {
        let (reason, evidence) = ("looked at".to_owned(), "the explorer".to_owned());
        let resolve = |resolution| Proposal::ResolveOperation {
            operation: OperationId::new("atom:delegate:1:0").unwrap(),
            resolution,
            evidence: evidence.clone(),
        };
        let void = |mode| {
            let (period, reason) = (PeriodIndex(4), reason.clone());
            Proposal::VoidDistribution { period, revision: 2, mode, reason }
        };
        let transaction = TransactionId::new("0xab").unwrap();
        let reward = Reward {
            key: EffectKey { transaction: transaction.clone(), index: 7 },
            validator: Some(ValidatorId::new("v").unwrap()),
            amount: BaseUnits::MAX,
            at: UnixSeconds::new(5),
            height: u64::MAX,
            earned_from: UnixSeconds::new(-1),
            earned_to: UnixSeconds::new(4),
        };
        vec![
            Proposal::UpdatePool { policy: None, settings: None },
            Proposal::ResumePool { reason: reason.clone() },
            resolve(Resolution::Absent),
            resolve(Resolution::Done(transaction)),
            void(AfterVoid::Carry),
            void(AfterVoid::Recompute),
            Proposal::AcceptDifferences { hash: [9; 32], evidence: evidence.clone() },
            Proposal::RecordReceipt {
                reward: Reward { validator: None, ..reward.clone() },
                evidence: evidence.clone(),
            },
            Proposal::RecordReceipt { reward, evidence },
        ]
    }

    #[test]
    fn records_come_back() {
        let correction = AskedCorrection {
            account: AccountId::new("alice").unwrap(),
            balance: BaseUnits::MAX,
            at: UnixSeconds::new(-5),
        };
        let approval = ApprovalRecord {
            number: 3,
            pool: PoolId::new("atom").unwrap(),
            resource: "accounts/alice/positions/atom".to_owned(),
            config_version: 8,
            method: "softstake.v1.BalanceFeedService/CorrectBalance".to_owned(),
            summary: "what it does".to_owned(),
            content_hash: [7; 32],
            proposed_by: "operator".to_owned(),
            proposed_at: UnixSeconds::new(10),
            expires_at: UnixSeconds::new(20),
            state: ApprovalState::Pending,
            approved_by: String::new(),
            approved_at: None,
            proposal: Proposal::CorrectBalance(correction),
            sequence: 0,
        };
        assert_eq!(ApprovalRecord::decode(&approval.encode()), Ok(approval.clone()));
        for proposal in proposals() {
            let other = ApprovalRecord { proposal, ..approval.clone() };
            assert_eq!(ApprovalRecord::decode(&other.encode()), Ok(other));
        }
        let states = [19, 20].map(|now| approval.state_at(UnixSeconds::new(now)));
        assert_eq!(states, [ApprovalState::Pending, ApprovalState::Lapsed]);
        let approved = ApprovalRecord {
            state: ApprovalState::Approved,
            approved_by: "another".to_owned(),
            approved_at: Some(UnixSeconds::new(15)),
            sequence: 1,
            ..approval
        };
        assert_eq!(ApprovalRecord::decode(&approved.encode()), Ok(approved.clone()));
        assert_eq!(approved.state_at(UnixSeconds::new(99)), ApprovalState::Approved);
        let record = CorrectionRecord {
            sequence: 1,
            approval: 3,
            pool: 9,
            account: AccountId::new("alice").unwrap(),
            correction: Correction {
                at: UnixSeconds::new(-5),
                balance: BaseUnits::MAX,
                until: Some(UnixSeconds::new(7)),
                oldest: i128::MIN,
                next: i128::MAX,
                basis: Basis {
                    oldest: PeriodIndex(4),
                    last_second: u32::MAX,
                    last_sequence: u64::MAX,
                    available: BaseUnits::from_u64(1),
                    standing: Standing::RESTRICTED,
                },
            },
        };
        assert_eq!(CorrectionRecord::decode(&record.encode()), Ok(record));
    }
}
