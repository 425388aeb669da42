//! AccountService: what a customer holds, earned, and why.

use tonic::{Request, Response, Status};

use super::parse::{Parsed, Path, Together, field, names, page};
use super::status::{ApiError, Violation};
use super::{Api, failure, reading, render, show};
use crate::app::Pool;
use crate::app::history::{AccountPayout, Earnings, Explanation, HistoryCursor, HistoryQuery, PayoutStanding};
use crate::app::positions::Position;
use crate::domain::eligibility::Verdict;
use crate::domain::fixed_apr::RewardPolicy;
use crate::domain::ids::PoolId;
use crate::domain::time::{UnixSeconds, YEAR_SECONDS};
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
        call: Request<v1::ListPayoutsRequest>,
    ) -> Result<Response<v1::ListPayoutsResponse>, Status> {
        let body = call.into_inner();
        reading("AccountService/ListPayouts", async {
            let (account, asset, from, until, page) = (
                names::account(&Path::of("parent"), &body.parent),
                field::optional_asset(&Path::of("asset"), &body.asset),
                field::optional_time(&Path::of("start_time"), body.start_time.as_ref()),
                field::optional_time(&Path::of("end_time"), body.end_time.as_ref()),
                page::page(&body),
            )
                .together()?;
            let after = page.after.as_deref().map(read_place).transpose()?;
            let query = HistoryQuery { asset, from, until, after, limit: page.size };
            let found = self.0.app.account_payouts(&account, &query).await?;
            let mut payouts = Vec::with_capacity(found.payouts.len());
            for payout in &found.payouts {
                payouts.push(show_payout(payout, &*self.0.app.pool(&payout.pool)?));
            }
            let next_page_token = found.next.map(|next| page.next(&write_place(&next))).unwrap_or_default();
            Ok(v1::ListPayoutsResponse { payouts, next_page_token })
        })
        .await
    }

    async fn list_enrolments(
        &self,
        call: Request<v1::ListEnrolmentsRequest>,
    ) -> Result<Response<v1::ListEnrolmentsResponse>, Status> {
        let body = call.into_inner();
        reading("AccountService/ListEnrolments", async {
            let (account, page) = (names::account(&Path::of("parent"), &body.parent), page::page(&body)).together()?;
            let place = page.after.as_deref().map(|place| place.try_into().map(u64::from_be_bytes)).transpose();
            let before = place.map_err(|_| no_token())?;
            let (found, more) = self.0.app.enrolments(&account, before, page.size).await?;
            let last = found.last().filter(|_| more).map(|last| page.next(&last.sequence.to_be_bytes()));
            let enrolments = found.iter().map(show::enrolment).collect();
            Ok(v1::ListEnrolmentsResponse { enrolments, next_page_token: last.unwrap_or_default() })
        })
        .await
    }

    async fn get_earnings(
        &self,
        call: Request<v1::GetEarningsRequest>,
    ) -> Result<Response<v1::GetEarningsResponse>, Status> {
        let body = call.into_inner();
        reading("AccountService/GetEarnings", async {
            let (account, asset) =
                (names::account(&Path::of("name"), &body.name), field::optional_asset(&Path::of("asset"), &body.asset))
                    .together()?;
            let mut earnings = Vec::new();
            for one in self.0.app.account_earnings(&account, asset.as_ref()).await? {
                earnings.push(show_earnings(&one, &*self.0.app.pool(&one.pool)?));
            }
            Ok(v1::GetEarningsResponse { earnings })
        })
        .await
    }

    async fn explain_payout(
        &self,
        call: Request<v1::ExplainPayoutRequest>,
    ) -> Result<Response<v1::ExplainPayoutResponse>, Status> {
        let body = call.into_inner();
        reading("AccountService/ExplainPayout", async {
            let (pool, period, account) = names::payout(&Path::of("name"), &body.name)?;
            let app = &self.0.app;
            let pool = app.pool(&pool)?;
            let period = app.period_named(&pool, period.as_str()).await?;
            let explained = app.explain_payout(&pool, period.index, &account).await?;
            let view = app.distribution_shown(&pool, &period, Some(explained.distribution.revision)).await?;
            let distribution = render::distribution::distribution(&pool, &view);
            let distribution = distribution.map_err(|error| failure::broken(&error))?;
            Ok(show_explanation(&explained, distribution, &pool))
        })
        .await
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

fn no_token() -> Violation {
    Path::of("page_token").wrong("TOKEN_MALFORMED", "is not a token that this service has given out")
}

/// Where a page of payouts ended, from its token.
pub(super) fn read_place(place: &[u8]) -> Parsed<HistoryCursor> {
    let (start, pool) = place.split_first_chunk::<8>().ok_or_else(no_token)?;
    let pool = std::str::from_utf8(pool).ok().and_then(|pool| PoolId::new(pool).ok());
    Ok(HistoryCursor { start: UnixSeconds::new(i64::from_be_bytes(*start)), pool: pool.ok_or_else(no_token)? })
}

/// The same for a token.
pub(super) fn write_place(place: &HistoryCursor) -> Vec<u8> {
    let mut bytes = place.start.get().to_be_bytes().to_vec();
    bytes.extend_from_slice(place.pool.as_str().as_bytes());
    bytes
}

fn show_payout(payout: &AccountPayout, pool: &Pool) -> v1::Payout {
    let period = payout.bounds.name();
    let state = match payout.standing {
        PayoutStanding::AwaitingAck => v1::PayoutState::AwaitingAck,
        PayoutStanding::Acknowledged => v1::PayoutState::Acknowledged,
        PayoutStanding::Unclaimed => v1::PayoutState::Unclaimed,
        PayoutStanding::BelowUnit => v1::PayoutState::BelowUnit,
    };
    v1::Payout {
        name: names::show::payout(pool.id(), &period, &payout.account),
        account: payout.account.to_string(),
        amount: Some(show::amount(&pool.record.asset, payout.amount)),
        period_start_time: Some(show::time(payout.bounds.start)),
        period_end_time: Some(show::time(payout.bounds.end)),
        distribution: names::show::distribution(pool.id(), &period),
        revision: payout.revision,
        state: state.into(),
        release_time: Some(show::time(payout.released_at)),
        simulated: payout.simulated,
    }
}

fn show_earnings(earnings: &Earnings, pool: &Pool) -> v1::Earnings {
    let asset = &pool.record.asset;
    v1::Earnings {
        pool: names::show::pool(pool.id()),
        total: Some(show::amount(asset, earnings.total.amount)),
        acknowledged: Some(show::amount(asset, earnings.acknowledged.amount)),
        unclaimed: Some(show::amount(asset, earnings.unclaimed.amount)),
        payout_count: earnings.total.count,
        trailing_apr: earnings.trailing_apr.map(|apr| apr.to_string()).unwrap_or_default(),
        trailing_periods: earnings.trailing_periods,
        last_period_end_time: earnings.last_period_end.map(show::time),
        simulated: earnings.simulated,
    }
}

fn show_explanation(explained: &Explanation, distribution: v1::Distribution, pool: &Pool) -> v1::ExplainPayoutResponse {
    let (record, policy) = (&explained.distribution, &explained.period.policy);
    let amount = |units| Some(show::amount(&pool.record.asset, units));
    let name = explained.period.bounds.name();
    let receipts = explained.receipts.iter().map(|receipt| render::distribution::receipt(pool, receipt, &name));
    v1::ExplainPayoutResponse {
        payout: Some(show_payout(&explained.payout, pool)),
        weight: explained.weight.to_string(),
        weight_total: record.weight_total.to_string(),
        receipts_amount: amount(record.figures.receipts),
        fee_bps: policy.fee.get(),
        fee: amount(record.figures.fee),
        carry_in: amount(record.figures.carry_in),
        house_in: amount(record.figures.house_in),
        recovery: amount(record.figures.recovery),
        net: amount(explained.net),
        payout_unit: amount(record.payout_unit.get()),
        formula: formula(explained),
        rounding_rest: explained.rounding_rest.map(|rest| rest.to_string()).unwrap_or_default(),
        receipts: receipts.collect(),
        distribution: Some(distribution),
    }
}

/// The rule that the payout follows, with its figures put in.
fn formula(explained: &Explanation) -> String {
    let record = &explained.distribution;
    let (unit, weight, amount) = (record.payout_unit.get(), explained.weight, explained.payout.amount);
    match explained.period.policy.reward {
        RewardPolicy::FixedApr(rate) if record.fixed_apr => {
            let (numerator, denominator) = (rate.numerator(), rate.denominator());
            format!("{unit} x floor({weight} x {numerator} / ({denominator} x {YEAR_SECONDS} x {unit})) = {amount}")
        }
        _ => {
            let (net, total) = (explained.net, record.weight_total);
            format!("{unit} x floor({net} x {weight} / ({total} x {unit})) = {amount}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_history_comes_back_and_a_broken_one_does_not() {
        let place = HistoryCursor { start: UnixSeconds::new(-86_400), pool: PoolId::new("atom").unwrap() };
        assert_eq!(read_place(&write_place(&place)), Ok(place));
        for broken in [&b""[..], b"1234567", b"12345678", b"12345678NO POOL", b"12345678\xff"] {
            assert_eq!(read_place(broken).unwrap_err().reason, "TOKEN_MALFORMED", "{broken:?}");
        }
    }
}
