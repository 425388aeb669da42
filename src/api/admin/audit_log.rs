//! The audit log.

use crate::api::parse::page::page;
use crate::api::parse::{Parsed, Path, Together, field};
use crate::api::show;
use crate::api::status::ApiError;
use crate::app::App;
use crate::app::audit_log::{AuditFilter, AuditPlace};
use crate::domain::audit_log::{Act, AuditEntry, Log};
use crate::domain::time::UnixSeconds;
use crate::pb::v1;

/// The longest resource name.
const MAX_RESOURCE_CHARS: usize = 320;

/// ListAuditEvents.
pub async fn list(app: &App, body: v1::ListAuditEventsRequest) -> Result<v1::ListAuditEventsResponse, ApiError> {
    let (page, resource, from, until) = (
        page(&body),
        field::text(&Path::of("resource"), &body.resource, 0..=MAX_RESOURCE_CHARS),
        field::optional_time(&Path::of("start_time"), body.start_time.as_ref()),
        field::optional_time(&Path::of("end_time"), body.end_time.as_ref()),
    )
        .together()?;
    let after = page.after.as_deref().map(place).transpose()?;
    let filter = AuditFilter { resource: (!resource.is_empty()).then_some(resource), from, until };
    let listed = app.audit_page(&filter, after, page.size).await?;
    let next_page_token = listed.next.map(|next| page.next(&position(next))).unwrap_or_default();
    let audit_events = listed.entries.iter().map(|(log, entry)| event(log, entry)).collect();
    Ok(v1::ListAuditEventsResponse { audit_events, next_page_token })
}

/// A place as a token carries it.
fn position(place: AuditPlace) -> Vec<u8> {
    let AuditPlace { at, partition, sequence } = place;
    [&at.get().to_be_bytes()[..], &partition.to_be_bytes(), &sequence.to_be_bytes()].concat()
}

fn place(position: &[u8]) -> Parsed<AuditPlace> {
    let read = || {
        let (at, rest) = position.split_first_chunk()?;
        let (partition, rest) = rest.split_first_chunk()?;
        let sequence = u64::from_be_bytes(rest.try_into().ok()?);
        let at = UnixSeconds::new(i64::from_be_bytes(*at));
        Some(AuditPlace { at, partition: u32::from_be_bytes(*partition), sequence })
    };
    let malformed =
        || Path::of("page_token").wrong("TOKEN_MALFORMED", "is not a token that this service has given out");
    read().ok_or_else(malformed)
}

fn event(log: &Log, entry: &AuditEntry) -> v1::AuditEvent {
    let Act { principal, peer, method, request_id, request_hash, note, refused: _ } = &entry.act;
    let (refusal_reason, refused_count) = entry.act.refused_fields();
    v1::AuditEvent {
        sequence: entry.sequence,
        event_time: Some(show::time(entry.at)),
        principal: principal.to_string(),
        method: method.clone(),
        request_id: request_id.clone(),
        resource: note.resource.clone(),
        summary: note.summary.clone(),
        request_hash: request_hash.to_vec(),
        previous_hash: entry.previous_hash.to_vec(),
        hash: entry.hash.to_vec(),
        log: log.name(),
        peer: peer.to_string(),
        before: note.before.clone(),
        after: note.after.clone(),
        refusal_reason: refusal_reason.to_owned(),
        refused_count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_a_token() {
        let at = AuditPlace { at: UnixSeconds::new(-7), partition: u32::MAX, sequence: 9 };
        assert_eq!(place(&position(at)), Ok(at));
        for bad in [&[][..], &position(at)[1..], &[position(at), vec![0]].concat()] {
            assert!(place(bad).is_err());
        }
    }
}
