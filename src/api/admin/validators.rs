//! Validators: listed, weighed, removed.

use std::sync::Arc;

use super::{change, id, request};
use crate::api::parse::{Path, Together, field, names};
use crate::api::render;
use crate::api::status::ApiError;
use crate::app::App;
use crate::app::records::ValidatorChoice;
use crate::domain::caller::Caller;
use crate::pb::v1;

/// The greatest weight.
const MAX_WEIGHT: u32 = 1_000_000;

fn etag(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// PutValidator.
pub async fn put(
    app: Arc<App>,
    caller: Caller,
    body: v1::PutValidatorRequest,
) -> Result<v1::PutValidatorResponse, ApiError> {
    let (id, (pool, validator), weight, group) = (
        id(&body.request_id),
        names::validator(&Path::of("name"), &body.name),
        field::within(&Path::of("weight"), body.weight, 0..=MAX_WEIGHT),
        field::optional_group(&Path::of("operator_group"), &body.operator_group),
    )
        .together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/PutValidator", id, caller, &body);
    let choice = ValidatorChoice { id: validator.clone(), weight, group, removed: false };
    let present = async {
        let view = app.validator_view(&pool, &validator).await?;
        Ok(v1::PutValidatorResponse { validator: Some(render::validator::validator(&pool, &view)) })
    };
    change(&app, &request, &pool, app.put_validator(&request, &pool, etag(&body.etag), choice), present).await
}

/// RemoveValidator.
pub async fn remove(
    app: Arc<App>,
    caller: Caller,
    body: v1::RemoveValidatorRequest,
) -> Result<v1::RemoveValidatorResponse, ApiError> {
    let (id, (pool, validator)) = (id(&body.request_id), names::validator(&Path::of("name"), &body.name)).together()?;
    let pool = app.pool(&pool)?;
    // One that was never heard of is not removed.
    let group = app.validator_view(&pool, &validator).await?.group;
    let request = request("AdminService/RemoveValidator", id, caller, &body);
    let choice = ValidatorChoice { id: validator.clone(), weight: 0, group, removed: true };
    let present = async {
        let view = app.validator_view(&pool, &validator).await?;
        Ok(v1::RemoveValidatorResponse { validator: Some(render::validator::validator(&pool, &view)) })
    };
    change(&app, &request, &pool, app.put_validator(&request, &pool, etag(&body.etag), choice), present).await
}
