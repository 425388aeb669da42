//! Records of what waits for a second person, and of corrections.

use prost::Message;

use super::{Record, RecordError, field, message, required, signed, units};
use crate::domain::amount::BaseUnits;
use crate::domain::correction::{Basis, Correction};
use crate::domain::eligibility::Standing;
use crate::domain::ids::{AccountId, PoolId};
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

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

/// A correction as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedCorrection {
    /// In which pool.
    pub pool: PoolId,
    /// Whose balance.
    pub account: AccountId,
    /// The balance that held.
    pub balance: BaseUnits,
    /// Since when.
    pub at: UnixSeconds,
}

/// A change that waits for a second person, or has had one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRecord {
    /// Its number, from 1.
    pub number: u64,
    /// The full name of the RPC that proposed it.
    pub method: String,
    /// What it does, for people, with the reason that was given.
    pub summary: String,
    /// The hash of what is applied.
    pub content_hash: [u8; 32],
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
    /// What it corrects.
    pub correction: AskedCorrection,
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
            correct_balance: Some(pb::AskedCorrectionRecord {
                pool: self.correction.pool.to_string(),
                account: self.correction.account.to_string(),
                base_units: self.correction.balance.to_string(),
                at: self.correction.at.get(),
            }),
            sequence: self.sequence,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::ApprovalRecord = message(name, bytes)?;
        let length = record.content_hash.len();
        let hash = record.content_hash.try_into().map_err(|_| format!("{length} bytes where there should be 32"));
        let state = match record.state.as_str() {
            "pending" => ApprovalState::Pending,
            "approved" => ApprovalState::Approved,
            "lapsed" => ApprovalState::Lapsed,
            other => return field(name, "state", Err(format!("{other} is none"))),
        };
        let asked = required(name, "correct_balance", record.correct_balance)?;
        Ok(Self {
            number: record.number,
            method: record.method,
            summary: record.summary,
            content_hash: field(name, "content_hash", hash)?,
            proposed_by: record.proposed_by,
            proposed_at: UnixSeconds::new(record.proposed_at),
            expires_at: UnixSeconds::new(record.expires_at),
            state,
            approved_by: record.approved_by,
            approved_at: record.approved_at.map(UnixSeconds::new),
            correction: AskedCorrection {
                pool: field(name, "pool", PoolId::new(&asked.pool))?,
                account: field(name, "account", AccountId::new(&asked.account))?,
                balance: units(name, "base_units", &asked.base_units)?,
                at: UnixSeconds::new(asked.at),
            },
            sequence: record.sequence,
        })
    }
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

    #[test]
    fn records_come_back() {
        let correction = AskedCorrection {
            pool: PoolId::new("atom").unwrap(),
            account: AccountId::new("alice").unwrap(),
            balance: BaseUnits::MAX,
            at: UnixSeconds::new(-5),
        };
        let approval = ApprovalRecord {
            number: 3,
            method: "softstake.v1.BalanceFeedService/CorrectBalance".to_owned(),
            summary: "what it does".to_owned(),
            content_hash: [7; 32],
            proposed_by: "operator".to_owned(),
            proposed_at: UnixSeconds::new(10),
            expires_at: UnixSeconds::new(20),
            state: ApprovalState::Pending,
            approved_by: String::new(),
            approved_at: None,
            correction,
            sequence: 0,
        };
        assert_eq!(ApprovalRecord::decode(&approval.encode()), Ok(approval.clone()));
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
