//! What waits for, or has had, a second person.

use std::sync::Arc;

use super::{id, request};
use crate::api::parse::page::page;
use crate::api::parse::{Path, Together, field, names};
use crate::api::status::ApiError;
use crate::api::{answer, show};
use crate::app::records::{ApprovalRecord, ApprovalState};
use crate::app::{App, AppError, Reason};
use crate::domain::caller::Caller;
use crate::pb::v1;

/// ListApprovals.
pub async fn list(app: &App, body: v1::ListApprovalsRequest) -> Result<v1::ListApprovalsResponse, ApiError> {
    let page = page(&body)?;
    let path = Path::of("states");
    let mut states = Vec::with_capacity(body.states.len());
    for state in &body.states {
        states.push(match field::known::<v1::ApprovalState>(&path, *state)? {
            v1::ApprovalState::Unspecified => return Err(path.missing().into()),
            v1::ApprovalState::Pending => ApprovalState::Pending,
            v1::ApprovalState::Approved => ApprovalState::Approved,
            v1::ApprovalState::Lapsed => ApprovalState::Lapsed,
        });
    }
    let before = page.after.as_deref().and_then(|after| after.try_into().ok()).map(u64::from_be_bytes);
    let listed = app.approvals_page(&states, before, page.size).await?;
    let last = listed.entries.last().filter(|_| listed.more);
    let next_page_token = last.map(|last| page.next(&last.number.to_be_bytes())).unwrap_or_default();
    Ok(v1::ListApprovalsResponse { approvals: listed.entries.iter().map(approval).collect(), next_page_token })
}

/// Approve.
pub async fn approve(app: Arc<App>, caller: Caller, body: v1::ApproveRequest) -> Result<v1::ApproveResponse, ApiError> {
    let (id, name, hash) = (
        id(&body.request_id),
        names::approval(&Path::of("name"), &body.name),
        field::hash(&Path::of("content_hash"), &body.content_hash),
    )
        .together()?;
    let unknown = |_| {
        let message = format!("there is no approval {name}; AdminService/ListApprovals lists them");
        AppError::refused(Reason::UnknownApproval, message)
    };
    let number: u64 = name.parse().map_err(unknown)?;
    let request = request("AdminService/Approve", id, caller, &body);
    let (once, record) = app.approve(&request, number, hash).await?;
    // A correction is marked where its log is, everything else with its pool.
    let pool = if record.proposal.is_correction() { None } else { Some(app.pool(&record.pool)?) };
    answer(&app, &request, pool.as_deref(), once, async {
        Ok(v1::ApproveResponse { approval: Some(approval(&record)) })
    })
    .await
}

fn approval(record: &ApprovalRecord) -> v1::Approval {
    let state = match record.state {
        ApprovalState::Pending => v1::ApprovalState::Pending,
        ApprovalState::Approved => v1::ApprovalState::Approved,
        ApprovalState::Lapsed => v1::ApprovalState::Lapsed,
    };
    v1::Approval {
        name: names::show::approval(record.number),
        method: record.method.clone(),
        resource: record.resource.clone(),
        summary: record.summary.clone(),
        content_hash: record.content_hash.to_vec(),
        config_version: record.config_version,
        state: state.into(),
        proposed_by: record.proposed_by.clone(),
        approved_by: record.approved_by.clone(),
        create_time: Some(show::time(record.proposed_at)),
        approve_time: record.approved_at.map(show::time),
        expire_time: Some(show::time(record.expires_at)),
    }
}
