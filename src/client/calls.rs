//! Every call that is not a stream. A change without a request id gets a fresh one, the same for all its attempts.

use crate::pb::sim::v1 as sim;
use crate::pb::v1;
use sim::simulation_service_client::SimulationServiceClient;
use v1::account_service_client::AccountServiceClient;
use v1::admin_service_client::AdminServiceClient;
use v1::balance_feed_service_client::BalanceFeedServiceClient;
use v1::payout_service_client::PayoutServiceClient;
use v1::pool_service_client::PoolServiceClient;
use v1::transfer_service_client::TransferServiceClient;

use super::error::ClientError;
use super::retry::{until_answered, with_deadline};
use super::{Client, Transport};

/// Answers may be pages of a thousand entries.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

macro_rules! calls {
    ($service:ident, $connect:ident: $($(#[$doc:meta])* $kind:ident $method:ident($request:path) -> $response:path;)*) => {
        impl Client {
            pub(super) fn $connect(&self) -> $service<Transport> {
                $service::new(self.transport()).max_decoding_message_size(MAX_ANSWER_BYTES)
            }

            $(
                $(#[$doc])*
                pub async fn $method(&self, request: $request) -> Result<$response, ClientError> {
                    let request = calls!(@prepare $kind request);
                    let deadline = self.options.deadline;
                    until_answered(&self.options, || {
                        let mut service = self.$connect();
                        let request = with_deadline(request.clone(), deadline);
                        async move { service.$method(request).await }
                    })
                    .await
                }
            )*
        }
    };
    (@prepare read $request:ident) => { $request };
    (@prepare change $request:ident) => {{
        let mut request = $request;
        if request.request_id.is_empty() {
            request.request_id = uuid::Uuid::new_v4().to_string();
        }
        request
    }};
}

calls! { BalanceFeedServiceClient, balance_feed_service:
    /// Sets one balance.
    change put_balance(v1::PutBalanceRequest) -> v1::PutBalanceResponse;
    /// How far a source's events are durable.
    read get_cursor(v1::GetCursorRequest) -> v1::GetCursorResponse;
    /// Corrects a balance before the last event of its position.
    change correct_balance(v1::CorrectBalanceRequest) -> v1::CorrectBalanceResponse;
    /// Enters an opt-in, an opt-out, a restriction or its end.
    change set_enrolment(v1::SetEnrolmentRequest) -> v1::SetEnrolmentResponse;
}

calls! { TransferServiceClient, transfer_service:
    /// Tells what custody did about a transfer.
    change ack_transfer(v1::AckTransferRequest) -> v1::AckTransferResponse;
    /// Reports what custody holds.
    change report_custody(v1::ReportCustodyRequest) -> v1::ReportCustodyResponse;
}

calls! { PayoutServiceClient, payout_service:
    /// Acknowledges payouts.
    change ack_payouts(v1::AckPayoutsRequest) -> v1::AckPayoutsResponse;
}

calls! { AccountServiceClient, account_service:
    /// One account's position in one pool.
    read get_position(v1::GetPositionRequest) -> v1::GetPositionResponse;
    /// A page of one account's payouts, newest first.
    read list_payouts(v1::ListPayoutsRequest) -> v1::ListPayoutsResponse;
    /// A page of what was decided by and about one account, newest first.
    read list_enrolments(v1::ListEnrolmentsRequest) -> v1::ListEnrolmentsResponse;
    /// One account's totals.
    read get_earnings(v1::GetEarningsRequest) -> v1::GetEarningsResponse;
    /// Every figure that one payout follows from.
    read explain_payout(v1::ExplainPayoutRequest) -> v1::ExplainPayoutResponse;
    /// The proof that one payout belongs to its distribution.
    read get_payout_proof(v1::GetPayoutProofRequest) -> v1::GetPayoutProofResponse;
}

calls! { PoolServiceClient, pool_service:
    /// A page of pools.
    read list_pools(v1::ListPoolsRequest) -> v1::ListPoolsResponse;
    /// One pool.
    read get_pool(v1::GetPoolRequest) -> v1::GetPoolResponse;
    /// A page of a pool's validators.
    read list_validators(v1::ListValidatorsRequest) -> v1::ListValidatorsResponse;
    /// A page of a pool's delegations.
    read list_delegations(v1::ListDelegationsRequest) -> v1::ListDelegationsResponse;
    /// A page of a pool's distributions, newest first.
    read list_distributions(v1::ListDistributionsRequest) -> v1::ListDistributionsResponse;
    /// One distribution.
    read get_distribution(v1::GetDistributionRequest) -> v1::GetDistributionResponse;
    /// A page of a pool's operations, newest first.
    read list_operations(v1::ListOperationsRequest) -> v1::ListOperationsResponse;
    /// One operation.
    read get_operation(v1::GetOperationRequest) -> v1::GetOperationResponse;
}

calls! { AdminServiceClient, admin_service:
    /// Creates a pool.
    change create_pool(v1::CreatePoolRequest) -> v1::CreatePoolResponse;
    /// Changes a pool.
    change update_pool(v1::UpdatePoolRequest) -> v1::UpdatePoolResponse;
    /// Registers a source.
    change register_source(v1::RegisterSourceRequest) -> v1::RegisterSourceResponse;
    /// Retires a source.
    change retire_source(v1::RetireSourceRequest) -> v1::RetireSourceResponse;
    /// A page of sources.
    read list_sources(v1::ListSourcesRequest) -> v1::ListSourcesResponse;
    /// Hands a position over to another source.
    change hand_over_position(v1::HandOverPositionRequest) -> v1::HandOverPositionResponse;
    /// Lists a validator, or changes it.
    change put_validator(v1::PutValidatorRequest) -> v1::PutValidatorResponse;
    /// Takes a validator off.
    change remove_validator(v1::RemoveValidatorRequest) -> v1::RemoveValidatorResponse;
    /// What a rebalance would do now.
    read plan_rebalance(v1::PlanRebalanceRequest) -> v1::PlanRebalanceResponse;
    /// Rebalances now.
    change rebalance(v1::RebalanceRequest) -> v1::RebalanceResponse;
    /// Closes a period.
    change close_period(v1::ClosePeriodRequest) -> v1::ClosePeriodResponse;
    /// Approves a held distribution.
    change approve_distribution(v1::ApproveDistributionRequest) -> v1::ApproveDistributionResponse;
    /// Undoes a distribution that is not released.
    change void_distribution(v1::VoidDistributionRequest) -> v1::VoidDistributionResponse;
    /// Stops a pool's outflows.
    change pause_pool(v1::PausePoolRequest) -> v1::PausePoolResponse;
    /// Lets a pool's outflows go on.
    change resume_pool(v1::ResumePoolRequest) -> v1::ResumePoolResponse;
    /// Tries an operation again.
    change retry_operation(v1::RetryOperationRequest) -> v1::RetryOperationResponse;
    /// Takes the chain's word on what ledger and chain differ in.
    change accept_differences(v1::AcceptDifferencesRequest) -> v1::AcceptDifferencesResponse;
    /// Settles an operation by evidence.
    change resolve_operation(v1::ResolveOperationRequest) -> v1::ResolveOperationResponse;
    /// Enters a reward by evidence.
    change record_receipt(v1::RecordReceiptRequest) -> v1::RecordReceiptResponse;
    /// Compares the ledger with the chain and evaluates the equations.
    read reconcile(v1::ReconcileRequest) -> v1::ReconcileResponse;
    /// A page of approvals, newest first.
    read list_approvals(v1::ListApprovalsRequest) -> v1::ListApprovalsResponse;
    /// Approves what another principal proposed.
    change approve(v1::ApproveRequest) -> v1::ApproveResponse;
    /// A page of the audit log, newest first.
    read list_audit_events(v1::ListAuditEventsRequest) -> v1::ListAuditEventsResponse;
    /// Writes an archive of the store.
    change backup(v1::BackupRequest) -> v1::BackupResponse;
}

// Repeating one of these does no more than the first time.
calls! { SimulationServiceClient, simulation_service:
    /// What time it is.
    read get_time(sim::GetTimeRequest) -> sim::GetTimeResponse;
    /// Makes a simulated chain misbehave.
    read set_fault(sim::SetFaultRequest) -> sim::SetFaultResponse;
    /// Ends the faults of a simulated chain.
    read clear_faults(sim::ClearFaultsRequest) -> sim::ClearFaultsResponse;
    /// What the simulated chain itself counts.
    read get_chain_totals(sim::GetChainTotalsRequest) -> sim::GetChainTotalsResponse;
    /// Sends from custody to the staking address of a simulated chain.
    change send_from_custody(sim::SendFromCustodyRequest) -> sim::SendFromCustodyResponse;
}

impl Client {
    /// Moves simulated time to `to_time`. Returns when all work that fell due on the way is done.
    pub async fn advance_time(&self, to_time: prost_types::Timestamp) -> Result<sim::AdvanceTimeResponse, ClientError> {
        let target = Some(sim::advance_time_request::Target::ToTime(to_time));
        let request = sim::AdvanceTimeRequest { target };
        until_answered(&self.options, || {
            let mut service = self.simulation_service();
            let request = with_deadline(request, self.options.deadline);
            async move { service.advance_time(request).await }
        })
        .await
    }
}
