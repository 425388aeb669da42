//! Backups.

use std::sync::Arc;

use super::{id, request};
use crate::api::parse::{Path, Together, field};
use crate::api::status::ApiError;
use crate::api::{answer, show};
use crate::app::App;
use crate::domain::caller::Caller;
use crate::pb::v1;

/// Backup.
pub async fn back_up(app: Arc<App>, caller: Caller, body: v1::BackupRequest) -> Result<v1::BackupResponse, ApiError> {
    let (id, name) = (id(&body.request_id), field::text(&Path::of("archive"), &body.archive, 1..=128)).together()?;
    let request = request("AdminService/Backup", id, caller, &body);
    let (once, written) = app.back_up(&request, &name).await?;
    let present = async {
        // A repeat of a call that died before it had an answer: what that one wrote.
        let archive = match written {
            Some(written) => written,
            None => app.backed_up(&name).await?,
        };
        Ok(v1::BackupResponse {
            path: archive.path,
            size_bytes: archive.bytes,
            hash: archive.hash.to_vec(),
            as_of_time: Some(show::time(archive.at)),
        })
    };
    answer(&app, &request, None, once, present).await
}
