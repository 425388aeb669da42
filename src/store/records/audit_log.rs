//! Records of the audit log.

use prost::Message;

use super::{Record, RecordError, field, message};
use crate::domain::audit_log::{Act, AuditEntry, AuditHead, NO_HASH, Note, RefusedCalls};
use crate::domain::ids::Principal;
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// A hash that may be none.
fn any_hash(bytes: Vec<u8>) -> Result<[u8; 32], String> {
    let length = bytes.len();
    match length {
        0 => Ok(NO_HASH),
        _ => bytes.try_into().map_err(|_| format!("{length} bytes where there should be 32")),
    }
}

fn of_hash(hash: &[u8; 32]) -> Vec<u8> {
    if *hash == NO_HASH { Vec::new() } else { hash.to_vec() }
}

impl Record for AuditEntry {
    const NAME: &'static str = "audit entry";

    fn encode(&self) -> Vec<u8> {
        let Act { principal, peer, method, request_id, request_hash, note, refused: _ } = &self.act;
        let (refusal, refused_count) = self.act.refused_fields();
        pb::AuditRecord {
            sequence: self.sequence,
            at: self.at.get(),
            principal: principal.to_string(),
            peer: peer.to_string(),
            method: method.clone(),
            request_id: request_id.clone(),
            request_hash: of_hash(request_hash),
            resource: note.resource.clone(),
            summary: note.summary.clone(),
            before: note.before.clone(),
            after: note.after.clone(),
            refusal: refusal.to_owned(),
            refused_count,
            previous_hash: of_hash(&self.previous_hash),
            hash: self.hash.to_vec(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::AuditRecord = message(name, bytes)?;
        Ok(Self {
            sequence: record.sequence,
            at: UnixSeconds::new(record.at),
            act: Act {
                principal: field(name, "principal", Principal::new(&record.principal))?,
                peer: record.peer.into(),
                method: record.method,
                request_id: record.request_id,
                request_hash: field(name, "request_hash", any_hash(record.request_hash))?,
                note: Note {
                    resource: record.resource,
                    summary: record.summary,
                    before: record.before,
                    after: record.after,
                },
                refused: RefusedCalls::from_fields(record.refusal, record.refused_count),
            },
            previous_hash: field(name, "previous_hash", any_hash(record.previous_hash))?,
            hash: field(name, "hash", any_hash(record.hash))?,
        })
    }
}

impl Record for AuditHead {
    const NAME: &'static str = "audit head";

    fn encode(&self) -> Vec<u8> {
        pb::AuditHeadRecord { sequence: self.sequence, at: self.at.get(), hash: self.hash.to_vec() }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::AuditHeadRecord = message(Self::NAME, bytes)?;
        Ok(Self {
            sequence: record.sequence,
            at: UnixSeconds::new(record.at),
            hash: field(Self::NAME, "hash", any_hash(record.hash))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit_log::{Log, MAX_SIDE_BYTES, MAX_SUMMARY_BYTES};
    use crate::domain::ids::RequestId;
    use crate::store::MAX_VALUE_BYTES;

    fn act(refused: Option<RefusedCalls>) -> Act {
        Act {
            principal: Principal::new("operator").unwrap(),
            peer: "10.0.0.7:4711".into(),
            method: "softstake.v1.AdminService/PausePool".to_owned(),
            request_id: "r1".to_owned(),
            request_hash: [9; 32],
            note: Note::of("pools/atom", "paused").changed("OPEN", "PAUSED"),
            refused,
        }
    }

    #[test]
    fn records_come_back() {
        let refused = RefusedCalls { reason: "UNAUTHENTICATED".to_owned(), count: 17 };
        let first = AuditEntry::following(None, &Log::Service, UnixSeconds::new(-5), act(None));
        let second = AuditEntry::following(Some(&first.head()), &Log::Service, UnixSeconds::new(9), act(Some(refused)));
        for entry in [first, second] {
            assert_eq!(AuditEntry::decode(&entry.encode()), Ok(entry.clone()));
            assert_eq!(AuditHead::decode(&entry.head().encode()), Ok(entry.head()));
        }
    }

    #[test]
    fn the_largest_entry_is_a_value_of_the_store() {
        let long = "x".repeat(2 * MAX_SUMMARY_BYTES.max(MAX_SIDE_BYTES));
        let largest = Act {
            principal: Principal::new(&"p".repeat(Principal::MAX_BYTES)).unwrap(),
            peer: "p".repeat(64).into(),
            method: "m".repeat(96),
            request_id: "r".repeat(RequestId::MAX_BYTES),
            note: Note::of("n".repeat(320), long.clone()).changed(long.clone(), long),
            ..act(Some(RefusedCalls { reason: "R".repeat(64), count: u64::MAX }))
        };
        let entry = AuditEntry::following(None, &Log::Service, UnixSeconds::new(i64::MAX), largest);
        let bytes = entry.encode().len();
        assert!(bytes <= MAX_VALUE_BYTES, "{bytes}");
    }
}
