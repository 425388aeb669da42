//! Stake and operations: planned, moved, retried, reconciled.

use std::sync::Arc;

use super::{change, evidence, id, request, waits_for};
use crate::api::answer;
use crate::api::failure::broken;
use crate::api::parse::{Parsed, Path, Together, field, names};
use crate::api::render;
use crate::api::show;
use crate::api::status::{ApiError, Problem};
use crate::app::rebalance::Rebalance;
use crate::app::reconcile::Resolution;
use crate::app::{App, Pool};
use crate::domain::amount::BaseUnits;
use crate::domain::caller::Caller;
use crate::domain::ids::ValidatorId;
use crate::domain::operation::Resolution as OperationWord;
use crate::pb::v1;

async fn plan(app: &App, pool: &Pool, rebalance: &Rebalance) -> Result<v1::RebalancePlan, ApiError> {
    let view = app.ledger_view(pool).await?;
    render::rebalance::plan(pool, app.now(), &view, rebalance).map_err(|error| broken(&error))
}

/// PlanRebalance.
pub async fn plan_rebalance(app: &App, body: v1::PlanRebalanceRequest) -> Result<v1::PlanRebalanceResponse, ApiError> {
    let pool = app.pool(&names::pool(&Path::of("name"), &body.name)?)?;
    let planned = app.plan_rebalance(&pool).await?;
    Ok(v1::PlanRebalanceResponse { plan: Some(plan(app, &pool, &planned).await?) })
}

/// Rebalance.
pub async fn rebalance(
    app: Arc<App>,
    caller: Caller,
    body: v1::RebalanceRequest,
) -> Result<v1::RebalanceResponse, ApiError> {
    let (id, pool) = (id(&body.request_id), names::pool(&Path::of("name"), &body.name)).together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/Rebalance", id, caller, &body);
    let (once, done) = app.rebalance(&request, &pool).await?;
    let present = async {
        // A repeat of a call that died before it had an answer: what there is to do beyond it.
        let done = match done {
            Some(done) => done,
            None => app.plan_rebalance(&pool).await?,
        };
        Ok(v1::RebalanceResponse { plan: Some(plan(&app, &pool, &done).await?) })
    };
    answer(&app, &request, Some(&pool), once, present).await
}

/// RetryOperation.
pub async fn retry(
    app: Arc<App>,
    caller: Caller,
    body: v1::RetryOperationRequest,
) -> Result<v1::RetryOperationResponse, ApiError> {
    let (id, (pool, operation)) = (id(&body.request_id), names::operation(&Path::of("name"), &body.name)).together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/RetryOperation", id, caller, &body);
    let present = async {
        let record = app.operation(&pool, &operation).await?;
        let age = app.operation_age(&pool, &record);
        Ok(v1::RetryOperationResponse { operation: Some(render::operation::operation(&pool, &record, age)) })
    };
    change(&app, &request, &pool, app.retry_operation(&request, &pool, &operation), present).await
}

/// ResolveOperation.
pub async fn resolve(
    app: Arc<App>,
    caller: Caller,
    body: v1::ResolveOperationRequest,
) -> Result<v1::ResolveOperationResponse, ApiError> {
    let (id, (pool, operation), resolution, evidence) = (
        id(&body.request_id),
        names::operation(&Path::of("name"), &body.name),
        resolution(&body),
        evidence(&body.evidence),
    )
        .together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/ResolveOperation", id, caller, &body);
    let present = async {
        let record = app.operation(&pool, &operation).await?;
        let age = app.operation_age(&pool, &record);
        let operation = Some(render::operation::operation(&pool, &record, age));
        Ok(v1::ResolveOperationResponse { approval: waits_for(&app, &request, &pool).await?, operation })
    };
    let resolved = app.resolve_operation(&request, &pool, &operation, &resolution, &evidence);
    change(&app, &request, &pool, resolved, present).await
}

/// AcceptDifferences.
pub async fn accept(
    app: Arc<App>,
    caller: Caller,
    body: v1::AcceptDifferencesRequest,
) -> Result<v1::AcceptDifferencesResponse, ApiError> {
    let (id, pool, hash, evidence) = (
        id(&body.request_id),
        names::pool(&Path::of("name"), &body.name),
        field::hash(&Path::of("differences_hash"), &body.differences_hash),
        evidence(&body.evidence),
    )
        .together()?;
    let pool = app.pool(&pool)?;
    let request = request("AdminService/AcceptDifferences", id, caller, &body);
    let present = async {
        let mark = app.chain_mark(&pool).await?;
        let approval = waits_for(&app, &request, &pool).await?;
        Ok(v1::AcceptDifferencesResponse { reconciled_height: mark.reconciled_height, approval })
    };
    change(&app, &request, &pool, app.accept_differences(&request, &pool, hash, &evidence), present).await
}

/// What the evidence proves.
fn resolution(body: &v1::ResolveOperationRequest) -> Parsed<OperationWord> {
    use v1::OperationResolution as Proved;
    let transaction = Path::of("transaction");
    match field::known(&Path::of("resolution"), body.resolution)? {
        Proved::Unspecified => Err(Path::of("resolution").missing()),
        Proved::Done => Ok(OperationWord::Done(field::transaction(&transaction, &body.transaction)?)),
        Proved::Absent if body.transaction.is_empty() => Ok(OperationWord::Absent),
        Proved::Absent => {
            Err(transaction.wrong("TRANSACTION_UNEXPECTED", "is for DONE: of what is ABSENT there is none"))
        }
    }
}

fn pending(pool: &Pool, whom: Option<&ValidatorId>, units: BaseUnits) -> v1::PendingReward {
    v1::PendingReward {
        validator: whom.map(|validator| names::show::validator(pool.id(), validator)).unwrap_or_default(),
        amount: Some(show::amount(&pool.record.asset, units)),
    }
}

/// Reconcile.
pub async fn reconcile(app: Arc<App>, body: v1::ReconcileRequest) -> Result<v1::ReconcileResponse, ApiError> {
    let pool = app.pool(&names::pool(&Path::of("name"), &body.name)?)?;
    let found = app.reconcile(&pool).await?.ok_or_else(|| {
        let message = "the chain showed an older height than is booked, or an effect that nothing explains; see the \
                       pool's pause_reason, and ask again";
        ApiError::Unavailable(Problem::new("NOT_COMPARED", message))
    })?;
    let equations = app.check_equations(&pool).await?;
    let holds = found.agrees() && equations.iter().all(|equation| equation.holds);
    let asset = &pool.record.asset;
    Ok(v1::ReconcileResponse {
        chain_height: found.height,
        chain_time: Some(show::time(found.at)),
        equations: equations.iter().map(render::ledger::equation).collect(),
        differences: found.differences.iter().map(|one| render::ledger::difference(asset, one)).collect(),
        holds,
        pending_rewards: found.pending.iter().map(|(whom, units)| pending(&pool, whom.as_ref(), *units)).collect(),
        resolution: match found.booked {
            None => v1::ReconcileResolution::Unspecified,
            Some(Resolution::Slash) => v1::ReconcileResolution::Slash,
            Some(Resolution::Suspense) => v1::ReconcileResolution::Suspense,
        }
        .into(),
        differences_hash: if found.agrees() { Vec::new() } else { found.differences_hash().to_vec() },
    })
}
