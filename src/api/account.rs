//! AccountService: what a customer holds, earned, and why.

use tonic::{Request, Response, Status};

use super::parse::{Path, names};
use super::status::ApiError;
use super::{Api, reading, show};
use crate::app::Pool;
use crate::app::positions::Position;
use crate::domain::eligibility::Verdict;
use crate::pb::v1;
use crate::pb::v1::account_service_server::AccountService;

/// The service.
#[derive(Clone, Debug)]
pub struct Accounts(pub Api);

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn get_position(
        &self,
        call: Request<v1::GetPositionRequest>,
    ) -> Result<Response<v1::GetPositionResponse>, Status> {
        let body = call.into_inner();
        reading("AccountService/GetPosition", async {
            let (account, pool) = names::position(&Path::of("name"), &body.name)?;
            let pool = self.0.app.pool(&pool)?;
            let position = self.0.app.position(&pool, &account).await?;
            Ok(v1::GetPositionResponse { position: Some(show_position(&position, &pool)) })
        })
        .await
    }

    async fn list_payouts(
        &self,
        _call: Request<v1::ListPayoutsRequest>,
    ) -> Result<Response<v1::ListPayoutsResponse>, Status> {
        reading("AccountService/ListPayouts", async { Err(ApiError::not_offered("ListPayouts")) }).await
    }

    async fn get_earnings(
        &self,
        _call: Request<v1::GetEarningsRequest>,
    ) -> Result<Response<v1::GetEarningsResponse>, Status> {
        reading("AccountService/GetEarnings", async { Err(ApiError::not_offered("GetEarnings")) }).await
    }

    async fn explain_payout(
        &self,
        _call: Request<v1::ExplainPayoutRequest>,
    ) -> Result<Response<v1::ExplainPayoutResponse>, Status> {
        reading("AccountService/ExplainPayout", async { Err(ApiError::not_offered("ExplainPayout")) }).await
    }

    async fn get_payout_proof(
        &self,
        _call: Request<v1::GetPayoutProofRequest>,
    ) -> Result<Response<v1::GetPayoutProofResponse>, Status> {
        reading("AccountService/GetPayoutProof", async { Err(ApiError::not_offered("GetPayoutProof")) }).await
    }
}

/// A position.
pub(super) fn show_position(position: &Position, pool: &Pool) -> v1::Position {
    let asset = &pool.record.asset;
    let period = position.period.map(|period| names::show::period(pool.id(), period.bounds.name()));
    v1::Position {
        name: names::show::position(&position.account, pool.id()),
        account: position.account.to_string(),
        pool: names::show::pool(pool.id()),
        balance: Some(show::amount(asset, position.balance)),
        eligible_balance: Some(show::amount(asset, position.eligible)),
        eligibility: show_verdict(position.verdict).into(),
        enrolment: position.enrolment.as_ref().map_or(0, |entry| show::decision(entry.decision).into()),
        restricted: position.restricted,
        source: position.source.as_ref().map(names::show::source).unwrap_or_default(),
        last_event_time: Some(show::time(position.last_event_at)),
        period: period.unwrap_or_default(),
        time_weight: position.weight.to_string(),
        as_of_time: Some(show::time(position.as_of)),
        uncollected_weight: position.uncollected_weight.to_string(),
        simulated: pool.record.simulated,
    }
}

const fn show_verdict(verdict: Verdict) -> v1::Eligibility {
    match verdict {
        Verdict::Full => v1::Eligibility::Full,
        Verdict::Capped => v1::Eligibility::Capped,
        Verdict::BelowMinimum => v1::Eligibility::BelowMinimum,
        Verdict::OptedOut => v1::Eligibility::OptedOut,
        Verdict::NotOptedIn => v1::Eligibility::NotOptedIn,
        Verdict::Restricted => v1::Eligibility::Restricted,
    }
}
