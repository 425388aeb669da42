//! Records of enrolment decisions.

use prost::Message;

use super::{Record, RecordError, field, message, required};
use crate::domain::eligibility::Standing;
use crate::domain::enrolment::{CarriedStanding, Decision, EnrolmentEntry, LogEntry};
use crate::domain::ids::{AccountId, PoolId, Principal};
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

impl Record for EnrolmentEntry {
    const NAME: &'static str = "enrolment";

    fn encode(&self) -> Vec<u8> {
        let decision = match self.decision {
            Decision::OptIn => 0,
            Decision::OptOut => 1,
            Decision::Restrict => 2,
            Decision::Unrestrict => 3,
            Decision::Locate => 4,
        };
        pb::EnrolmentEntry {
            sequence: self.sequence,
            account: self.account.to_string(),
            pool: self.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
            decision,
            at: self.at.get(),
            terms_version: self.terms_version.clone(),
            jurisdiction: self.jurisdiction.clone(),
            reason_code: self.reason_code.clone(),
            carried: None,
            principal: self.by.to_string(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decision(message(Self::NAME, bytes)?)
    }
}

fn decision(record: pb::EnrolmentEntry) -> Result<EnrolmentEntry, RecordError> {
    const NAME: &str = EnrolmentEntry::NAME;
    let decision = usize::try_from(record.decision).ok().and_then(|number| Decision::ALL.get(number));
    let pool = (!record.pool.is_empty()).then(|| PoolId::new(&record.pool)).transpose();
    let decision = decision.filter(|_| record.carried.is_none());
    Ok(EnrolmentEntry {
        sequence: record.sequence,
        account: field(NAME, "account", AccountId::new(&record.account))?,
        pool: field(NAME, "pool", pool)?,
        decision: *required(NAME, "a known decision", decision)?,
        at: UnixSeconds::new(record.at),
        terms_version: record.terms_version,
        jurisdiction: record.jurisdiction,
        reason_code: record.reason_code,
        by: field(NAME, "principal", Principal::new(&record.principal))?,
    })
}

impl Record for LogEntry {
    const NAME: &'static str = "entry of the enrolment log";

    fn encode(&self) -> Vec<u8> {
        let entry = match self {
            Self::Decision(entry) => return entry.encode(),
            Self::Carried(entry) => entry,
        };
        pb::EnrolmentEntry {
            sequence: entry.sequence,
            account: entry.account.to_string(),
            pool: entry.pool.to_string(),
            at: entry.at.get(),
            carried: Some(pb::CarriedStanding { standing: entry.standing.bits().into(), since: entry.since.get() }),
            ..pb::EnrolmentEntry::default()
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::EnrolmentEntry = message(Self::NAME, bytes)?;
        let Some(carried) = record.carried else { return Ok(Self::Decision(decision(record)?)) };
        let standing = u8::try_from(carried.standing).ok().and_then(Standing::from_bits);
        Ok(Self::Carried(CarriedStanding {
            sequence: record.sequence,
            account: field(Self::NAME, "account", AccountId::new(&record.account))?,
            pool: field(Self::NAME, "pool", PoolId::new(&record.pool))?,
            standing: required(Self::NAME, "a known standing", standing)?,
            since: UnixSeconds::new(carried.since),
            at: UnixSeconds::new(record.at),
        }))
    }
}
