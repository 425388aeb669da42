//! BalanceFeedService: balances and decisions in.

mod snapshot;
mod stream;

use tonic::{Request, Response, Status, Streaming};

use super::parse::{Parsed, Path, Together, amount, field, names};
use super::streaming::{self, Outgoing};
use super::{Api, account, answer, caller_of, detached, failure, feeds_of, reading, request, show};
use crate::app::enrol::{self, Enrol};
use crate::app::ingest::PUT_BALANCE_NAME;
use crate::app::records::ApprovalState;
use crate::domain::enrolment::Decision;
use crate::domain::feed::RejectReason;
use crate::domain::ids::SourceId;
use crate::pb::v1;
use crate::pb::v1::balance_feed_service_server::BalanceFeedService;

/// The longest terms version, jurisdiction and reason code, in characters.
const MAX_CODE_CHARS: usize = 64;

/// The longest reason of a correction, in characters.
const MAX_REASON_CHARS: usize = 500;

/// The service.
#[derive(Clone, Debug)]
pub struct BalanceFeed(pub Api);

#[tonic::async_trait]
impl BalanceFeedService for BalanceFeed {
    type StreamBalancesStream = Outgoing<v1::StreamBalancesResponse>;

    async fn stream_balances(
        &self,
        call: Request<Streaming<v1::StreamBalancesRequest>>,
    ) -> Result<Response<Self::StreamBalancesStream>, Status> {
        let span =
            tracing::info_span!("rpc", rpc = "BalanceFeedService/StreamBalances", source = tracing::field::Empty);
        let (api, feeds) = (self.0.clone(), feeds_of(&call)?);
        streaming::open(&self.0, span, |out| stream::FeedStream::new(api, feeds, out).serve(call.into_inner()))
    }

    async fn put_balance(
        &self,
        call: Request<v1::PutBalanceRequest>,
    ) -> Result<Response<v1::PutBalanceResponse>, Status> {
        let (api, caller, feeds) = (self.0.clone(), caller_of(&call)?, feeds_of(&call)?);
        let body = call.into_inner();
        detached("BalanceFeedService/PutBalance", &body.request_id.clone(), async move {
            feeds.check(&SourceId::new(PUT_BALANCE_NAME).map_err(|error| failure::broken(&error))?)?;
            let (id, account, (asset, balance), at) = (
                field::request_id(&Path::of("request_id"), &body.request_id),
                field::account(&Path::of("account"), &body.account),
                amount::amount(&Path::of("balance"), body.balance.as_ref()),
                field::optional_time(&Path::of("event_time"), body.event_time.as_ref()),
            )
                .together()?;
            let app = &*api.app;
            let request = request("BalanceFeedService/PutBalance", id, caller, &body);
            let put = app.put_balance(&request, account.clone(), asset.clone(), balance, at).await;
            let (once, durable_sequence) = put?;
            let present = async {
                let position = match app.pool_of_asset(asset.as_str()) {
                    Some(pool) => Some(account::show_position(&app.position(&pool, &account).await?, &pool)),
                    None => None,
                };
                Ok(v1::PutBalanceResponse { durable_sequence, position })
            };
            answer(app, &request, None, once, present).await
        })
        .await
    }

    async fn get_cursor(&self, call: Request<v1::GetCursorRequest>) -> Result<Response<v1::GetCursorResponse>, Status> {
        let body = call.into_inner();
        reading("BalanceFeedService/GetCursor", async {
            let source = names::source(&Path::of("source"), &body.source)?;
            let cursor = self.0.app.cursor(&source)?;
            Ok(v1::GetCursorResponse {
                source: names::show::source(&source),
                durable_sequence: cursor.durable_sequence,
                watermark: cursor.watermark.map(show::time),
            })
        })
        .await
    }

    async fn correct_balance(
        &self,
        call: Request<v1::CorrectBalanceRequest>,
    ) -> Result<Response<v1::CorrectBalanceResponse>, Status> {
        let (api, caller, body) = (self.0.clone(), caller_of(&call)?, call.into_inner());
        detached("BalanceFeedService/CorrectBalance", &body.request_id.clone(), async move {
            let (id, account, (asset, balance), at, reason) = (
                field::request_id(&Path::of("request_id"), &body.request_id),
                field::account(&Path::of("account"), &body.account),
                amount::amount(&Path::of("balance"), body.balance.as_ref()),
                field::time(&Path::of("event_time"), body.event_time.as_ref()),
                field::text(&Path::of("reason"), &body.reason, 1..=MAX_REASON_CHARS),
            )
                .together()?;
            let app = &*api.app;
            let request = request("BalanceFeedService/CorrectBalance", id, caller, &body);
            let named = (account.clone(), asset.clone());
            let (once, approval) = app.correct_balance(&request, named, balance, at, &reason).await?;
            let present = async {
                let waits = approval.state == ApprovalState::Pending;
                let pool = app.pool(&approval.pool)?;
                let position = app.position(&pool, &account).await?;
                Ok(v1::CorrectBalanceResponse {
                    approval: if waits { names::show::approval(approval.number) } else { String::new() },
                    position: Some(account::show_position(&position, &pool)),
                })
            };
            answer(app, &request, None, once, present).await
        })
        .await
    }

    async fn set_enrolment(
        &self,
        call: Request<v1::SetEnrolmentRequest>,
    ) -> Result<Response<v1::SetEnrolmentResponse>, Status> {
        let (api, caller, body) = (self.0.clone(), caller_of(&call)?, call.into_inner());
        detached("BalanceFeedService/SetEnrolment", &body.request_id.clone(), async move {
            let decided = field::known::<v1::EnrolmentDecision>(&Path::of("decision"), body.decision);
            let with = |decision| u32::from(body.decision == decision as i32);
            let (id, account, pool, decided, terms_version, jurisdiction, reason_code) = (
                field::request_id(&Path::of("request_id"), &body.request_id),
                field::account(&Path::of("account"), &body.account),
                names::optional_pool(&Path::of("pool"), &body.pool),
                decided,
                code("terms_version", &body.terms_version, with(v1::EnrolmentDecision::OptIn)),
                code("jurisdiction", &body.jurisdiction, with(v1::EnrolmentDecision::Locate)),
                code("reason_code", &body.reason_code, with(v1::EnrolmentDecision::Restrict)),
            )
                .together()?;
            let decision = match decided {
                v1::EnrolmentDecision::Unspecified => return Err(Path::of("decision").missing().into()),
                v1::EnrolmentDecision::OptIn => Decision::OptIn,
                v1::EnrolmentDecision::OptOut => Decision::OptOut,
                v1::EnrolmentDecision::Restrict => Decision::Restrict,
                v1::EnrolmentDecision::Unrestrict => Decision::Unrestrict,
                v1::EnrolmentDecision::Locate => Decision::Locate,
            };
            if decision == Decision::Locate && pool.is_some() {
                let description = "is for no pool alone with LOCATE: a customer is in one place; leave it empty";
                return Err(Path::of("pool").wrong("FIELD_NOT_ALLOWED", description).into());
            }
            let app = &*api.app;
            let request = request("BalanceFeedService/SetEnrolment", id, caller, &body);
            let enrolment = Enrol { account, pool, decision, terms_version, jurisdiction, reason_code };
            let (once, entry) = app.set_enrolment(&request, enrolment).await?;
            // The steps enter it in the positions in any case; here it is done before the caller is answered.
            if let Err(error) = enrol::step(app).await {
                tracing::warn!(%error, "the decision is durable and will enter the positions with the next step");
            }
            let present = async { Ok(v1::SetEnrolmentResponse { enrolment: Some(show::enrolment(&entry)) }) };
            answer(app, &request, None, once, present).await
        })
        .await
    }
}

/// A short text of the ledger service's own; `least` is 1 where it has to be there.
fn code(name: &'static str, text: &str, least: u32) -> Parsed<String> {
    field::text(&Path::of(name), text, least as usize..=MAX_CODE_CHARS)
}

fn show_rejected(sequence: u64, reason: RejectReason) -> v1::RejectedEvent {
    v1::RejectedEvent { sequence, reason: show_reason(reason).into(), message: reason.to_string() }
}

fn show_reason(reason: RejectReason) -> v1::RejectedEventReason {
    use v1::RejectedEventReason as Shown;
    match reason {
        RejectReason::UnknownAsset => Shown::UnknownAsset,
        RejectReason::TooOld => Shown::TooOld,
        RejectReason::FromFuture => Shown::FromFuture,
        RejectReason::BalanceTooLarge { .. } => Shown::BalanceTooLarge,
        RejectReason::PoolTotalTooLarge => Shown::PoolTotalTooLarge,
        RejectReason::NotOwner => Shown::NotOwner,
        RejectReason::PeriodNotOpen => Shown::PeriodNotOpen,
        RejectReason::Overtaken => Shown::Overtaken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::BaseUnits;

    #[test]
    fn every_rejection_is_told_by_its_own_number() {
        for number in 1..=8 {
            let reason = RejectReason::from_code(number, BaseUnits::from_u64(9)).unwrap();
            let shown = show_rejected(5, reason);
            assert_eq!((shown.sequence, shown.reason), (5, i32::from(number)));
            assert!(shown.reason().as_str_name().ends_with(reason.name()), "{}", reason.name());
        }
    }
}
