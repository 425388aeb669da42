//! Periods and distributions: closed, approved, voided.

use std::sync::Arc;
use std::time::Duration;

use super::{change, id, reason, request, waits_for};
use crate::api::parse::names::PeriodName;
use crate::api::parse::{Path, Together, field, names};
use crate::api::pool::shown_distribution;
use crate::api::render;
use crate::api::status::ApiError;
use crate::app::records::{PeriodRecord, Progress};
use crate::app::{App, AppError, Pool, close, distribute};
use crate::domain::caller::Caller;
use crate::domain::distribution::AfterVoid;
use crate::domain::payout::SetHash;
use crate::pb::v1;

/// How often a call looks whether the steps have carried out what it decided,
const LOOKS: u32 = 100;

/// and how long apart two looks are.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

async fn distribution(
    app: &App,
    pool: &Pool,
    period: &PeriodRecord,
    revision: Option<u32>,
) -> Result<v1::Distribution, ApiError> {
    shown_distribution(pool, &app.distribution_shown(pool, period, revision).await?)
}

/// The latest revision of a period's distribution, once it is computed.
async fn computed(app: &App, pool: &Pool, period: &PeriodRecord) -> Result<Option<v1::Distribution>, ApiError> {
    match app.last_distribution(pool, period.index).await? {
        Some(last) if last.progress == Progress::Sealed => {
            Ok(Some(distribution(app, pool, period, Some(last.revision)).await?))
        }
        _ => Ok(None),
    }
}

/// ClosePeriod.
pub async fn close_period(
    app: Arc<App>,
    caller: Caller,
    body: v1::ClosePeriodRequest,
) -> Result<v1::ClosePeriodResponse, ApiError> {
    let (id, (pool, name)) = (id(&body.request_id), names::period(&Path::of("name"), &body.name)).together()?;
    let pool = app.pool(&pool)?;
    let index = app.period_named(&pool, name.as_str()).await?.index;
    let request = request("AdminService/ClosePeriod", id, caller, &body);
    let present = async {
        let mut looks = 0;
        // The decision is durable and the steps carry it out, these here or those on the schedule.
        loop {
            if let Err(error) = carry_out(&app, &pool).await {
                tracing::debug!(%error, "closing goes on with the next step");
            }
            let period = app.period_named(&pool, name.as_str()).await?;
            let distribution = computed(&app, &pool, &period).await?;
            looks += 1;
            if distribution.is_some() || looks >= LOOKS {
                let period = app.period_view(&pool, period).await?;
                let period = Some(render::pool::period_view(&pool, &period));
                return Ok(v1::ClosePeriodResponse { period, distribution });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    change(&app, &request, &pool, app.close_period(&request, &pool, index), present).await
}

async fn carry_out(app: &App, pool: &Pool) -> Result<(), AppError> {
    close::step(app, pool, app.now()).await?;
    distribute::step(app, pool, app.now()).await?;
    Ok(())
}

/// The revision that a caller looked at.
fn revision(revision: u32) -> crate::api::parse::Parsed<u32> {
    let path = Path::of("revision");
    if revision == 0 { Err(path.missing()) } else { Ok(revision) }
}

async fn period(app: &App, pool: &Pool, name: &PeriodName) -> Result<PeriodRecord, ApiError> {
    Ok(app.period_named(pool, name.as_str()).await?)
}

/// ApproveDistribution.
pub async fn approve(
    app: Arc<App>,
    caller: Caller,
    body: v1::ApproveDistributionRequest,
) -> Result<v1::ApproveDistributionResponse, ApiError> {
    let (id, (pool, name), revision, hash, comment) = (
        id(&body.request_id),
        names::distribution(&Path::of("name"), &body.name),
        revision(body.revision),
        field::hash(&Path::of("distribution_hash"), &body.distribution_hash),
        field::text(&Path::of("comment"), &body.comment, 0..=500),
    )
        .together()?;
    let pool = app.pool(&pool)?;
    let period = period(&app, &pool, &name).await?;
    let request = request("AdminService/ApproveDistribution", id, caller, &body);
    let hash = SetHash::from_bytes(hash);
    tracing::info!(pool = %pool.id(), period = name.as_str(), revision, comment, "an approval was given");
    let approved = app.approve_distribution(&request, &pool, period.index, revision, hash);
    let present = async {
        let distribution = distribution(&app, &pool, &period, Some(revision)).await?;
        Ok(v1::ApproveDistributionResponse { distribution: Some(distribution) })
    };
    change(&app, &request, &pool, approved, present).await
}

/// VoidDistribution.
pub async fn void(
    app: Arc<App>,
    caller: Caller,
    body: v1::VoidDistributionRequest,
) -> Result<v1::VoidDistributionResponse, ApiError> {
    let (id, (pool, name), revision, mode, reason) = (
        id(&body.request_id),
        names::distribution(&Path::of("name"), &body.name),
        revision(body.revision),
        field::known::<v1::VoidMode>(&Path::of("mode"), body.mode),
        reason(&body.reason),
    )
        .together()?;
    let mode = match mode {
        v1::VoidMode::Carry => AfterVoid::Carry,
        v1::VoidMode::Recompute | v1::VoidMode::Unspecified => AfterVoid::Recompute,
    };
    let pool = app.pool(&pool)?;
    let period = period(&app, &pool, &name).await?;
    let request = request("AdminService/VoidDistribution", id, caller, &body);
    let voided = app.void_distribution(&request, &pool, period.index, revision, mode, &reason);
    let present = async {
        let distribution = distribution(&app, &pool, &period, Some(revision)).await?;
        let approval = waits_for(&app, &request, &pool).await?;
        Ok(v1::VoidDistributionResponse { distribution: Some(distribution), approval })
    };
    change(&app, &request, &pool, voided, present).await
}
