//! Pools: created, changed, paused, resumed.

use std::sync::Arc;

use super::{change, id, reason, request, waits_for};
use crate::api::answer;
use crate::api::parse::policy::{self, ChainDefaults};
use crate::api::parse::{Path, Together, field, names};
use crate::api::pool::shown;
use crate::api::render;
use crate::api::status::ApiError;
use crate::app::App;
use crate::app::administer::NewPool;
use crate::domain::caller::Caller;
use crate::pb::v1;

/// How many partitions a book has where nothing is said.
const DEFAULT_PARTITIONS: u16 = 16;

/// CreatePool.
pub async fn create(
    app: Arc<App>,
    caller: Caller,
    body: v1::CreatePoolRequest,
) -> Result<v1::CreatePoolResponse, ApiError> {
    let partitions = u16::try_from(body.partition_count);
    let too_many = |_| Path::of("partition_count").wrong("NUMBER_OUT_OF_RANGE", "is too many");
    let (id, pool, chain, asset, partitions) = (
        id(&body.request_id),
        field::pool_id(&Path::of("pool_id"), &body.pool_id),
        field::chain(&Path::of("chain"), &body.chain),
        field::asset(&Path::of("asset"), &body.asset),
        partitions.map_err(too_many),
    )
        .together()?;
    let descriptor = app.chain(&chain).ok_or_else(|| {
        Path::of("chain").wrong("CHAIN_UNKNOWN", format!("is {chain}, which the configuration does not connect"))
    })?;
    let defaults = ChainDefaults::of(descriptor);
    let policy_path = Path::of("policy");
    let given = body.policy.clone().unwrap_or_else(policy::default_policy);
    let policy = policy::policy(&policy_path, &asset, &given)?;
    let settings = policy::with_defaults(&asset, &defaults, body.settings.as_ref());
    let settings = policy::settings(&Path::of("settings"), &asset, &settings, policy.period_seconds)?;
    let request = request("AdminService/CreatePool", id, caller, &body);
    let new = NewPool {
        id: pool.clone(),
        chain,
        asset,
        partitions: if partitions == 0 { DEFAULT_PARTITIONS } else { partitions },
        first_period_start: None,
        policy,
        settings,
    };
    let once = app.create_pool(&request, new).await?;
    let present = async {
        let pool = app.pool(&pool)?;
        Ok(v1::CreatePoolResponse { pool: Some(shown(&app, &pool).await?) })
    };
    answer(&app, &request, None, once, present).await
}

/// UpdatePool.
pub async fn update(
    app: Arc<App>,
    caller: Caller,
    body: v1::UpdatePoolRequest,
) -> Result<v1::UpdatePoolResponse, ApiError> {
    let path = Path::of("pool");
    let wanted = body.pool.as_ref().ok_or_else(|| path.missing())?;
    let (id, pool) = (id(&body.request_id), names::pool(&path.field("name"), &wanted.name)).together()?;
    let etag_path = path.field("etag");
    let etag = match wanted.etag.as_str() {
        "" => None,
        text => Some(text.parse::<u64>().map_err(|_| etag_path.wrong("ETAG_MALFORMED", "is no etag of a pool"))?),
    };
    let pool = app.pool(&pool)?;
    let asset = &pool.record.asset;
    let next = app.next_policy(&pool).await?.policy;
    let there =
        (render::policy::policy(asset, &next), render::policy::settings(asset, &app.pool_state(&pool).await?.settings));
    let paths = body.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let masked = policy::masked(paths, wanted, there)?;
    let policy = masked.policy.map(|given| policy::policy(&path.field("policy"), asset, &given)).transpose()?;
    let period_seconds = policy.as_ref().map_or(next.period_seconds, |policy| policy.period_seconds);
    let settings = match masked.settings {
        Some(mut given) => {
            let chain = ChainDefaults::of(&pool.chain.descriptor);
            given.reserve.iter_mut().for_each(|reserve| chain.complete(asset, reserve));
            Some(policy::settings(&path.field("settings"), asset, &given, period_seconds)?)
        }
        None => None,
    };
    let request = request("AdminService/UpdatePool", id, caller, &body);
    let present = async {
        let approval = waits_for(&app, &request, &pool).await?;
        Ok(v1::UpdatePoolResponse { pool: Some(shown(&app, &pool).await?), approval })
    };
    change(&app, &request, &pool, app.update_pool(&request, &pool, etag, policy, settings), present).await
}

/// PausePool.
pub async fn pause(
    app: Arc<App>,
    caller: Caller,
    body: v1::PausePoolRequest,
) -> Result<v1::PausePoolResponse, ApiError> {
    let (id, pool, reason) =
        (id(&body.request_id), names::pool(&Path::of("name"), &body.name), reason(&body.reason)).together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/PausePool", id, caller, &body);
    let present = async { Ok(v1::PausePoolResponse { pool: Some(shown(&app, &pool).await?) }) };
    change(&app, &request, &pool, app.pause_pool(&request, &pool, &reason), present).await
}

/// ResumePool.
pub async fn resume(
    app: Arc<App>,
    caller: Caller,
    body: v1::ResumePoolRequest,
) -> Result<v1::ResumePoolResponse, ApiError> {
    let (id, pool, reason) =
        (id(&body.request_id), names::pool(&Path::of("name"), &body.name), reason(&body.reason)).together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/ResumePool", id, caller, &body);
    let present = async {
        let approval = waits_for(&app, &request, &pool).await?;
        Ok(v1::ResumePoolResponse { pool: Some(shown(&app, &pool).await?), approval })
    };
    change(&app, &request, &pool, app.resume_pool(&request, &pool, &reason), present).await
}
