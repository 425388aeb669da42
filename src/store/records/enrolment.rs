//! Records of enrolment decisions.

use prost::Message;

use super::{Record, RecordError, field, message, required};
use crate::domain::enrolment::{Decision, EnrolmentEntry};
use crate::domain::ids::{AccountId, PoolId};
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
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::EnrolmentEntry = message(Self::NAME, bytes)?;
        let decision = usize::try_from(record.decision).ok().and_then(|number| Decision::ALL.get(number));
        let pool = (!record.pool.is_empty()).then(|| PoolId::new(&record.pool)).transpose();
        Ok(Self {
            sequence: record.sequence,
            account: field(Self::NAME, "account", AccountId::new(&record.account))?,
            pool: field(Self::NAME, "pool", pool)?,
            decision: *required(Self::NAME, "a known decision", decision)?,
            at: UnixSeconds::new(record.at),
            terms_version: record.terms_version,
            jurisdiction: record.jurisdiction,
            reason_code: record.reason_code,
        })
    }
}
