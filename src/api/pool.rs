//! PoolService: what the pools hold and do. Reads only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::failure::broken;
use super::parse::page::{Page, page};
use super::parse::{Parsed, Path, Together, field, names};
use super::render;
use super::status::ApiError;
use super::{Api, reading};
use crate::app::query::lists::{DistributionView, Listed};
use crate::app::{App, Pool};
use crate::domain::ids::{PoolId, ValidatorId};
use crate::domain::operation::OPERATION_STATES;
use crate::domain::period::PeriodIndex;
use crate::pb::v1;
use crate::pb::v1::pool_service_server::PoolService;

/// The most receipts that a distribution is shown with.
const MAX_RECEIPTS: usize = 1_000;

/// How long apart two looks of a watcher are.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a watcher may leave a pool unread before its stream ends.
const WATCH_STALL: Duration = Duration::from_secs(60);

/// The service.
#[derive(Clone, Debug)]
pub struct Pools(pub Api);

/// A pool as it is now.
pub(super) async fn shown(app: &App, pool: &Pool) -> Result<v1::Pool, ApiError> {
    let view = app.pool_view(pool).await?;
    render::pool::pool(pool, &view).map_err(|error| broken(&error))
}

/// A distribution as it is now.
pub(super) fn shown_distribution(pool: &Pool, view: &DistributionView) -> Result<v1::Distribution, ApiError> {
    render::distribution::distribution(pool, view).map_err(|error| broken(&error))
}

/// The position of the page before, which has to be one that this list gives.
fn after<T>(page: &Page, read: impl FnOnce(&[u8]) -> Option<T>) -> Parsed<Option<T>> {
    let Some(position) = &page.after else { return Ok(None) };
    let foreign = || Path::of("page_token").wrong("TOKEN_MALFORMED", "is not a token of this list");
    read(position).map(Some).ok_or_else(foreign)
}

fn text<T>(read: impl FnOnce(&str) -> Option<T>) -> impl FnOnce(&[u8]) -> Option<T> {
    |position| read(std::str::from_utf8(position).ok()?)
}

fn number(position: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(position.try_into().ok()?))
}

/// The token of the page after this one, by its last entry; empty where there is none.
fn next<T>(page: &Page, listed: &Listed<T>, position: impl FnOnce(&T) -> Vec<u8>) -> String {
    let last = listed.entries.last().filter(|_| listed.more);
    last.map(|last| page.next(&position(last))).unwrap_or_default()
}

impl Pools {
    fn pool(&self, field: &'static str, name: &str) -> Result<Arc<Pool>, ApiError> {
        Ok(self.0.app.pool(&names::pool(&Path::of(field), name)?)?)
    }
}

#[tonic::async_trait]
impl PoolService for Pools {
    async fn list_pools(&self, call: Request<v1::ListPoolsRequest>) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/ListPools", async {
            let page = page(&body)?;
            let from = after(&page, text(|text| PoolId::new(text).ok()))?;
            let mut pools = self.0.app.pools();
            pools.retain(|pool| from.as_ref().is_none_or(|from| pool.id() > from));
            let more = pools.len() > page.size;
            pools.truncate(page.size);
            let mut shown_pools = Vec::with_capacity(pools.len());
            for pool in &pools {
                shown_pools.push(shown(&self.0.app, pool).await?);
            }
            let listed = Listed { entries: pools, more };
            let next_page_token = next(&page, &listed, |pool| pool.id().as_str().as_bytes().to_vec());
            Ok(v1::ListPoolsResponse { pools: shown_pools, next_page_token })
        })
        .await
    }

    async fn get_pool(&self, call: Request<v1::GetPoolRequest>) -> Result<Response<v1::GetPoolResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/GetPool", async {
            let pool = self.pool("name", &body.name)?;
            Ok(v1::GetPoolResponse { pool: Some(shown(&self.0.app, &pool).await?) })
        })
        .await
    }

    async fn list_validators(
        &self,
        call: Request<v1::ListValidatorsRequest>,
    ) -> Result<Response<v1::ListValidatorsResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/ListValidators", async {
            let (pool, page) = (names::pool(&Path::of("parent"), &body.parent), page(&body)).together()?;
            let pool = self.0.app.pool(&pool)?;
            let from = after(&page, text(|text| ValidatorId::new(text).ok()))?;
            let app = &self.0.app;
            let listed = app.validators_page(&pool, body.include_unlisted, from.as_ref(), page.size).await?;
            Ok(v1::ListValidatorsResponse {
                next_page_token: next(&page, &listed, |view| view.id.as_str().as_bytes().to_vec()),
                validators: listed.entries.iter().map(|view| render::validator::validator(&pool, view)).collect(),
            })
        })
        .await
    }

    async fn list_delegations(
        &self,
        call: Request<v1::ListDelegationsRequest>,
    ) -> Result<Response<v1::ListDelegationsResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/ListDelegations", async {
            let (pool, page) = (names::pool(&Path::of("parent"), &body.parent), page(&body)).together()?;
            let pool = self.0.app.pool(&pool)?;
            let from = after(&page, text(|text| ValidatorId::new(text).ok()))?;
            let listed = self.0.app.delegations_page(&pool, from.as_ref(), page.size).await?;
            Ok(v1::ListDelegationsResponse {
                next_page_token: next(&page, &listed, |view| view.validator.as_str().as_bytes().to_vec()),
                delegations: listed.entries.iter().map(|view| render::validator::delegation(&pool, view)).collect(),
            })
        })
        .await
    }

    async fn list_distributions(
        &self,
        call: Request<v1::ListDistributionsRequest>,
    ) -> Result<Response<v1::ListDistributionsResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/ListDistributions", async {
            let (pool, states, page) = (
                names::pool(&Path::of("parent"), &body.parent),
                field::all_known::<v1::DistributionState>(&Path::of("states"), &body.states),
                page(&body),
            )
                .together()?;
            let pool = self.0.app.pool(&pool)?;
            let before = after(&page, number)?.map(PeriodIndex);
            let wanted = |state| states.is_empty() || states.contains(&render::distribution::state(state));
            let listed = self.0.app.distributions_page(&pool, wanted, before, page.size).await?;
            let distributions: Result<Vec<_>, _> =
                listed.entries.iter().map(|view| shown_distribution(&pool, view)).collect();
            Ok(v1::ListDistributionsResponse {
                distributions: distributions?,
                next_page_token: next(&page, &listed, |view| view.record.period.0.to_be_bytes().to_vec()),
            })
        })
        .await
    }

    async fn get_distribution(
        &self,
        call: Request<v1::GetDistributionRequest>,
    ) -> Result<Response<v1::GetDistributionResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/GetDistribution", async {
            let app = &self.0.app;
            let (pool, period) = names::distribution(&Path::of("name"), &body.name)?;
            let pool = app.pool(&pool)?;
            let period = app.period_named(&pool, period.as_str()).await?;
            let revision = (body.revision > 0).then_some(body.revision);
            let view = app.distribution_shown(&pool, &period, revision).await?;
            let receipts = app.receipts_of(&pool, &view.record).await?;
            let name = period.bounds.name();
            let receipts = receipts.iter().take(MAX_RECEIPTS);
            Ok(v1::GetDistributionResponse {
                distribution: Some(shown_distribution(&pool, &view)?),
                receipts: receipts.map(|receipt| render::distribution::receipt(&pool, receipt, &name)).collect(),
            })
        })
        .await
    }

    async fn list_operations(
        &self,
        call: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/ListOperations", async {
            let (pool, states, page) = (
                names::pool(&Path::of("parent"), &body.parent),
                field::all_known::<v1::OperationState>(&Path::of("states"), &body.states),
                page(&body),
            )
                .together()?;
            let app = &self.0.app;
            let pool = app.pool(&pool)?;
            let before = after(&page, number)?;
            let states: Vec<_> = OPERATION_STATES
                .into_iter()
                .filter(|state| states.contains(&render::operation::state(*state)))
                .collect();
            let listed = app.operations_page(&pool, &states, before, page.size).await?;
            let shown = listed.entries.iter();
            let shown =
                shown.map(|record| render::operation::operation(&pool, record, app.operation_age(&pool, record)));
            Ok(v1::ListOperationsResponse {
                operations: shown.collect(),
                next_page_token: next(&page, &listed, |record| record.sequence.to_be_bytes().to_vec()),
            })
        })
        .await
    }

    async fn get_operation(
        &self,
        call: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::GetOperationResponse>, Status> {
        let body = call.into_inner();
        reading("PoolService/GetOperation", async {
            let app = &self.0.app;
            let (pool, id) = names::operation(&Path::of("name"), &body.name)?;
            let pool = app.pool(&pool)?;
            let record = app.operation(&pool, &id).await?;
            let age = app.operation_age(&pool, &record);
            Ok(v1::GetOperationResponse { operation: Some(render::operation::operation(&pool, &record, age)) })
        })
        .await
    }

    type WatchPoolStream = ReceiverStream<Result<v1::WatchPoolResponse, Status>>;

    async fn watch_pool(&self, call: Request<v1::WatchPoolRequest>) -> Result<Response<Self::WatchPoolStream>, Status> {
        let pool = self.pool("name", &call.into_inner().name)?;
        let place = self.0.open_stream()?;
        let (out, answers) = mpsc::channel(1);
        let span = tracing::info_span!("rpc", rpc = "PoolService/WatchPool", pool = %pool.id());
        let api = self.0.clone();
        let watched = async move {
            let ended = tokio::select! {
                ended = watch(&api.app, &pool, &out) => ended,
                () = api.stopped() => Err(Api::stopping_error()),
                () = out.closed() => Ok(()),
            };
            if let Err(error) = ended {
                // A reader that does not read is not told why its stream ends.
                drop(out.try_send(Err(error.into())));
            }
            drop(place);
        };
        tokio::spawn(watched.instrument(span));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Sends the pool, and again after each change, until its reader is gone or reads no more.
async fn watch(
    app: &App,
    pool: &Pool,
    out: &mpsc::Sender<Result<v1::WatchPoolResponse, Status>>,
) -> Result<(), ApiError> {
    let mut known = None;
    loop {
        let version = app.pool_version(pool).await?;
        if known.as_ref() != Some(&version) {
            let answer = v1::WatchPoolResponse { pool: Some(shown(app, pool).await?) };
            match tokio::time::timeout(WATCH_STALL, out.send(Ok(answer))).await {
                Ok(Ok(())) => known = Some(version),
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}
