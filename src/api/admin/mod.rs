//! AdminService: what operators change. A file per kind of thing; here is only which call goes where.

mod approvals;
mod audit_log;
mod backups;
mod distributions;
mod operations;
mod pools;
mod receipts;
mod sources;
mod validators;

use std::future::Future;

use prost::Message;
use tonic::{Request, Response, Status};

use super::parse::names::show;
use super::parse::{Path, field};
use super::status::ApiError;
use super::{Api, answer, caller_of, detached, reading, request};
use crate::app::records::ApprovalState;
use crate::app::{App, AppError, Once, Pool};
use crate::domain::ids::RequestId;
use crate::pb::v1;
use crate::pb::v1::admin_service_server::AdminService;

/// The service.
#[derive(Clone, Debug)]
pub struct Admin(pub Api);

/// The longest evidence, in bytes.
const MAX_EVIDENCE_BYTES: usize = 2_000;

/// The id of a change.
fn id(request_id: &str) -> super::parse::Parsed<RequestId> {
    field::request_id(&Path::of("request_id"), request_id)
}

/// Why a pool was paused or resumed, or a distribution voided.
fn reason(text: &str) -> super::parse::Parsed<String> {
    field::text(&Path::of("reason"), text, 1..=500)
}

/// The proof of what an operator says, so long that it fits the records that keep it.
fn evidence(text: &str) -> super::parse::Parsed<String> {
    let path = Path::of("evidence");
    if text.len() > MAX_EVIDENCE_BYTES {
        return Err(path.wrong("TEXT_LENGTH", format!("is at most {MAX_EVIDENCE_BYTES} bytes; name where it is kept")));
    }
    field::text(&path, text, 1..=MAX_EVIDENCE_BYTES)
}

/// A change of one pool: carried out once, and answered from the state of things after it.
async fn change<R: Message + Default>(
    app: &App,
    request: &crate::app::Request,
    pool: &Pool,
    carried_out: impl Future<Output = Result<Once, AppError>>,
    present: impl Future<Output = Result<R, ApiError>>,
) -> Result<R, ApiError> {
    let once = carried_out.await?;
    answer(app, request, Some(pool), once, present).await
}

/// The approval that a change of a pool waits for, by name; empty where it was made.
async fn waits_for(app: &App, request: &crate::app::Request, pool: &Pool) -> Result<String, ApiError> {
    let proposed = app.proposed_by(request, pool.control()).await?;
    let waits = proposed.filter(|record| record.state != ApprovalState::Approved);
    Ok(waits.map(|record| show::approval(record.number)).unwrap_or_default())
}

/// Which change each call is. A change runs to its end though its caller hangs up.
macro_rules! changes {
    ($($method:ident($request:ident) -> $response:ident = $rpc:literal, $handler:path;)*) => {
        #[tonic::async_trait]
        impl AdminService for Admin {
            $(
                async fn $method(
                    &self,
                    call: Request<v1::$request>,
                ) -> Result<Response<v1::$response>, Status> {
                    let (app, caller, body) = (self.0.app.clone(), caller_of(&call)?, call.into_inner());
                    let id = body.request_id.clone();
                    detached($rpc, &id, $handler(app, caller, body)).await
                }
            )*

            async fn plan_rebalance(
                &self,
                call: Request<v1::PlanRebalanceRequest>,
            ) -> Result<Response<v1::PlanRebalanceResponse>, Status> {
                let body = call.into_inner();
                reading("AdminService/PlanRebalance", operations::plan_rebalance(&self.0.app, body)).await
            }

            async fn list_sources(
                &self,
                call: Request<v1::ListSourcesRequest>,
            ) -> Result<Response<v1::ListSourcesResponse>, Status> {
                reading("AdminService/ListSources", sources::list(&self.0.app, call.into_inner())).await
            }

            async fn reconcile(
                &self,
                call: Request<v1::ReconcileRequest>,
            ) -> Result<Response<v1::ReconcileResponse>, Status> {
                let (app, body) = (self.0.app.clone(), call.into_inner());
                detached("AdminService/Reconcile", "", operations::reconcile(app, body)).await
            }

            async fn list_approvals(
                &self,
                call: Request<v1::ListApprovalsRequest>,
            ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
                reading("AdminService/ListApprovals", approvals::list(&self.0.app, call.into_inner())).await
            }

            async fn list_audit_events(
                &self,
                call: Request<v1::ListAuditEventsRequest>,
            ) -> Result<Response<v1::ListAuditEventsResponse>, Status> {
                reading("AdminService/ListAuditEvents", audit_log::list(&self.0.app, call.into_inner())).await
            }
        }
    };
}

changes! {
    create_pool(CreatePoolRequest) -> CreatePoolResponse = "AdminService/CreatePool", pools::create;
    update_pool(UpdatePoolRequest) -> UpdatePoolResponse = "AdminService/UpdatePool", pools::update;
    pause_pool(PausePoolRequest) -> PausePoolResponse = "AdminService/PausePool", pools::pause;
    resume_pool(ResumePoolRequest) -> ResumePoolResponse = "AdminService/ResumePool", pools::resume;
    register_source(RegisterSourceRequest) -> RegisterSourceResponse = "AdminService/RegisterSource",
        sources::register;
    retire_source(RetireSourceRequest) -> RetireSourceResponse = "AdminService/RetireSource", sources::retire;
    hand_over_position(HandOverPositionRequest) -> HandOverPositionResponse = "AdminService/HandOverPosition",
        sources::hand_over;
    put_validator(PutValidatorRequest) -> PutValidatorResponse = "AdminService/PutValidator", validators::put;
    remove_validator(RemoveValidatorRequest) -> RemoveValidatorResponse = "AdminService/RemoveValidator",
        validators::remove;
    rebalance(RebalanceRequest) -> RebalanceResponse = "AdminService/Rebalance", operations::rebalance;
    accept_differences(AcceptDifferencesRequest) -> AcceptDifferencesResponse = "AdminService/AcceptDifferences",
        operations::accept;
    retry_operation(RetryOperationRequest) -> RetryOperationResponse = "AdminService/RetryOperation",
        operations::retry;
    close_period(ClosePeriodRequest) -> ClosePeriodResponse = "AdminService/ClosePeriod", distributions::close_period;
    approve_distribution(ApproveDistributionRequest) -> ApproveDistributionResponse =
        "AdminService/ApproveDistribution", distributions::approve;
    void_distribution(VoidDistributionRequest) -> VoidDistributionResponse = "AdminService/VoidDistribution",
        distributions::void;
    resolve_operation(ResolveOperationRequest) -> ResolveOperationResponse = "AdminService/ResolveOperation",
        operations::resolve;
    record_receipt(RecordReceiptRequest) -> RecordReceiptResponse = "AdminService/RecordReceipt", receipts::record;
    approve(ApproveRequest) -> ApproveResponse = "AdminService/Approve", approvals::approve;
    backup(BackupRequest) -> BackupResponse = "AdminService/Backup", backups::back_up;
}
