//! Sources, and what they own.

use std::sync::Arc;

use super::{change, id, request};
use crate::api::parse::page::page;
use crate::api::parse::{Path, Together, field, names};
use crate::api::status::ApiError;
use crate::api::{account, answer, show};
use crate::app::records::SourceRecord;
use crate::app::{App, AppError, Reason};
use crate::domain::caller::Caller;
use crate::domain::ids::SourceId;
use crate::pb::v1;

/// The most characters of a description.
const MAX_DESCRIPTION: usize = 200;

/// RegisterSource.
pub async fn register(
    app: Arc<App>,
    caller: Caller,
    body: v1::RegisterSourceRequest,
) -> Result<v1::RegisterSourceResponse, ApiError> {
    let (id, source, description) = (
        id(&body.request_id),
        field::source_id(&Path::of("source_id"), &body.source_id),
        field::text(&Path::of("description"), &body.description, 0..=MAX_DESCRIPTION),
    )
        .together()?;
    let request = request("AdminService/RegisterSource", id, caller, &body);
    let once = app.register_source(&request, source.clone(), &description).await?;
    let present = async { Ok(v1::RegisterSourceResponse { source: Some(named(&app, &source).await?) }) };
    answer(&app, &request, None, once, present).await
}

/// RetireSource.
pub async fn retire(
    app: Arc<App>,
    caller: Caller,
    body: v1::RetireSourceRequest,
) -> Result<v1::RetireSourceResponse, ApiError> {
    let (id, source) = (id(&body.request_id), names::source(&Path::of("name"), &body.name)).together()?;
    let request = request("AdminService/RetireSource", id, caller, &body);
    let once = app.retire_source(&request, &source).await?;
    let present = async { Ok(v1::RetireSourceResponse { source: Some(named(&app, &source).await?) }) };
    answer(&app, &request, None, once, present).await
}

/// ListSources.
pub async fn list(app: &App, body: v1::ListSourcesRequest) -> Result<v1::ListSourcesResponse, ApiError> {
    let page = page(&body)?;
    let mut records = app.sources();
    records.retain(|record| page.after.as_ref().is_none_or(|after| record.id.as_str().as_bytes() > after.as_slice()));
    let more = records.len() > page.size;
    records.truncate(page.size);
    let mut sources = Vec::with_capacity(records.len());
    for record in &records {
        sources.push(source(app, record).await?);
    }
    let last = records.last().filter(|_| more);
    let next_page_token = last.map(|last| page.next(last.id.as_str().as_bytes())).unwrap_or_default();
    Ok(v1::ListSourcesResponse { sources, next_page_token })
}

/// HandOverPosition.
pub async fn hand_over(
    app: Arc<App>,
    caller: Caller,
    body: v1::HandOverPositionRequest,
) -> Result<v1::HandOverPositionResponse, ApiError> {
    let (id, (owner, pool), from, to) = (
        id(&body.request_id),
        names::position(&Path::of("name"), &body.name),
        names::source(&Path::of("from_source"), &body.from_source),
        names::source(&Path::of("to_source"), &body.to_source),
    )
        .together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/HandOverPosition", id, caller, &body);
    let present = async {
        let position = app.position(&pool, &owner).await?;
        Ok(v1::HandOverPositionResponse { position: Some(account::show_position(&position, &pool)) })
    };
    change(&app, &request, &pool, app.hand_over_position(&request, &pool, &owner, &from, &to), present).await
}

async fn named(app: &App, id: &SourceId) -> Result<v1::Source, ApiError> {
    let record = app.sources().into_iter().find(|record| record.id == *id);
    let unknown = || AppError::refused(Reason::UnknownSource, format!("there is no source {id}"));
    source(app, &record.ok_or_else(unknown)?).await
}

async fn source(app: &App, record: &SourceRecord) -> Result<v1::Source, ApiError> {
    let cursor = app.cursor(&record.id)?;
    let state = match record.retired_at {
        None => v1::SourceState::Registered,
        Some(_) => v1::SourceState::Retired,
    };
    Ok(v1::Source {
        name: names::show::source(&record.id),
        description: record.description.clone(),
        state: state.into(),
        durable_sequence: cursor.durable_sequence,
        watermark: cursor.watermark.map(show::time),
        rejected_count: app.rejected_count(record).await?,
        create_time: Some(show::time(record.registered_at)),
        retire_time: record.retired_at.map(show::time),
    })
}
