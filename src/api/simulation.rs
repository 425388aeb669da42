//! SimulationService: the levers of a simulated world.

use std::sync::Arc;

use rust_decimal::Decimal;
use tonic::{Request, Response, Status};

use super::parse::{Path, Together, amount, field, names};
use super::status::{ApiError, Problem};
use super::{Api, detached, reading, show};
use crate::app::simulate::{SimulatedFault, Simulation};
use crate::app::{AppError, Pool};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::AssetId;
use crate::domain::split::WHOLE_BPS;
use crate::domain::time::UnixSeconds;
use crate::pb::sim::v1 as sim;
use sim::simulation_service_server::SimulationService;

/// The furthest that time moves at once: a year.
const MAX_ADVANCE_SECONDS: i64 = 31_536_000;

/// The service.
#[derive(Clone)]
pub struct Levers {
    api: Api,
    simulation: Arc<dyn Simulation>,
}

impl Levers {
    /// The levers of `simulation`.
    pub fn new(api: Api, simulation: Arc<dyn Simulation>) -> Self {
        Self { api, simulation }
    }

    fn pool(&self, name: &str) -> Result<Arc<Pool>, ApiError> {
        Ok(self.api.app.pool(&names::pool(&Path::of("pool"), name)?)?)
    }
}

/// What a simulated chain refuses is the caller's fault, not an outage.
fn refused(error: AppError) -> ApiError {
    match error.chain_refusal() {
        Some(reason) => ApiError::Precondition(Problem::new("CHAIN_REFUSED", format!("the chain refused: {reason}"))),
        None => error.into(),
    }
}

/// When time is to move to.
fn target(now: UnixSeconds, body: &sim::AdvanceTimeRequest) -> Result<UnixSeconds, ApiError> {
    use sim::advance_time_request::Target;
    let (field, to) = match &body.target {
        None => return Err(Path::of("target").missing().into()),
        Some(Target::Seconds(seconds)) => {
            let seconds = i64::try_from(*seconds).unwrap_or(i64::MAX);
            ("seconds", UnixSeconds::new(now.get().saturating_add(seconds)))
        }
        Some(Target::ToTime(time)) => ("to_time", field::time(&Path::of("to_time"), Some(time))?),
    };
    if to.get().saturating_sub(now.get()) > MAX_ADVANCE_SECONDS {
        let description = format!("lies more than {MAX_ADVANCE_SECONDS} seconds ahead of now, {now}");
        return Err(Path::of(field).wrong("TIME_TOO_FAR", description).into());
    }
    Ok(to)
}

/// A number that a kind of fault needs.
fn needed(name: &'static str, number: u64) -> Result<u64, ApiError> {
    if number == 0 { Err(Path::of(name).missing().into()) } else { Ok(number) }
}

/// The fault that a request describes, on a chain of `asset`.
fn fault(asset: &AssetId, now: UnixSeconds, body: &sim::SetFaultRequest) -> Result<SimulatedFault, ApiError> {
    use sim::FaultKind as Kind;
    let kind: Kind = field::known(&Path::of("kind"), body.kind)?;
    let times = body.times.max(1);
    let validator = || field::validator_address(&Path::of("validator"), &body.validator);
    let units = || amount::amount_of(&Path::of("amount"), asset, body.amount.as_ref());
    Ok(match kind {
        Kind::Unspecified => return Err(Path::of("kind").missing().into()),
        Kind::SubmitLost => SimulatedFault::SubmitLostBefore { times },
        Kind::ReplyLost => SimulatedFault::SubmitLostAfter { times },
        Kind::SubmitLate => SimulatedFault::SubmitLate { after_seconds: needed("seconds", body.seconds)?, times },
        Kind::SubmitRefused => SimulatedFault::SubmitRefused { times },
        Kind::DuplicateSubmit => SimulatedFault::DuplicateSubmit { times },
        Kind::PartialEffect => {
            let share_bps = field::within(&Path::of("fraction_bps"), body.fraction_bps, 1..=WHOLE_BPS - 1)?;
            SimulatedFault::PartialEffect { share_bps, times }
        }
        Kind::Reorg => SimulatedFault::Reorg { depth: needed("blocks", body.blocks)?, times },
        Kind::LyingEffect => SimulatedFault::LyingEffect { times },
        Kind::LookupUnavailable => SimulatedFault::LookupUnavailable { times },
        Kind::EffectsUnavailable => SimulatedFault::EffectsUnavailable { times },
        Kind::StaleRead => SimulatedFault::StaleObserve { blocks: needed("blocks", body.blocks)?, times },
        Kind::LyingRead => SimulatedFault::LyingObserve { excess: units()?, times },
        Kind::LyingPrepare => SimulatedFault::LyingPrepare { times },
        Kind::Outage => {
            let seconds = i64::try_from(needed("seconds", body.seconds)?).unwrap_or(MAX_ADVANCE_SECONDS);
            SimulatedFault::Outage { until: now.plus(seconds.min(MAX_ADVANCE_SECONDS)) }
        }
        Kind::Flaky => {
            let one_in = needed("one_in", u64::from(body.one_in))?;
            SimulatedFault::Flaky { one_in: u32::try_from(one_in).unwrap_or(u32::MAX) }
        }
        Kind::Slash | Kind::SilentSlash => {
            let bps = field::within(&Path::of("fraction_bps"), body.fraction_bps, 1..=WHOLE_BPS)?;
            let (validator, fraction) = (validator()?, Decimal::new(i64::from(bps), 4));
            match kind {
                Kind::Slash => SimulatedFault::Slash { validator, fraction },
                _ => SimulatedFault::SilentSlash { validator, fraction },
            }
        }
        Kind::Jail => SimulatedFault::Jail { validator: validator()? },
        Kind::Unjail => SimulatedFault::Unjail { validator: validator()? },
        Kind::Tombstone => SimulatedFault::Tombstone { validator: validator()? },
        Kind::Unslash => SimulatedFault::Unslash { validator: validator()? },
        Kind::LyingStake => SimulatedFault::LyingStake { validator: validator()?, missing: units()?, times },
        Kind::Donation => SimulatedFault::Donate { amount: units()? },
    })
}

/// The kind that a chain counts under a name.
fn kind_of(name: &str) -> sim::FaultKind {
    use sim::FaultKind as Kind;
    match name {
        "submit_lost_before" => Kind::SubmitLost,
        "submit_lost_after" => Kind::ReplyLost,
        "submit_late" => Kind::SubmitLate,
        "submit_refused" => Kind::SubmitRefused,
        "duplicate_submit" => Kind::DuplicateSubmit,
        "partial_effect" => Kind::PartialEffect,
        "reorg" => Kind::Reorg,
        "lying_effect" => Kind::LyingEffect,
        "lookup_unavailable" => Kind::LookupUnavailable,
        "effects_unavailable" => Kind::EffectsUnavailable,
        "stale_observe" => Kind::StaleRead,
        "lying_observe" => Kind::LyingRead,
        "lying_prepare" => Kind::LyingPrepare,
        "outage" => Kind::Outage,
        "flaky" => Kind::Flaky,
        "slash" => Kind::Slash,
        "jail" => Kind::Jail,
        "unjail" => Kind::Unjail,
        "tombstone" => Kind::Tombstone,
        "donate" => Kind::Donation,
        "silent_slash" => Kind::SilentSlash,
        "unslash" => Kind::Unslash,
        "lying_stake" => Kind::LyingStake,
        _ => Kind::Unspecified,
    }
}

#[tonic::async_trait]
impl SimulationService for Levers {
    async fn advance_time(
        &self,
        call: Request<sim::AdvanceTimeRequest>,
    ) -> Result<Response<sim::AdvanceTimeResponse>, Status> {
        let (levers, body) = (self.clone(), call.into_inner());
        detached("SimulationService/AdvanceTime", "", async move {
            let to = target(levers.api.app.now(), &body)?;
            let steps_worked = levers.simulation.advance_to(to).await?;
            Ok(sim::AdvanceTimeResponse { now: Some(show::time(levers.api.app.now())), steps_worked })
        })
        .await
    }

    async fn get_time(&self, _call: Request<sim::GetTimeRequest>) -> Result<Response<sim::GetTimeResponse>, Status> {
        reading("SimulationService/GetTime", async {
            Ok(sim::GetTimeResponse { now: Some(show::time(self.api.app.now())) })
        })
        .await
    }

    async fn set_fault(&self, call: Request<sim::SetFaultRequest>) -> Result<Response<sim::SetFaultResponse>, Status> {
        let (levers, body) = (self.clone(), call.into_inner());
        detached("SimulationService/SetFault", "", async move {
            let pool = levers.pool(&body.pool)?;
            let fault = fault(&pool.record.asset, levers.api.app.now(), &body)?;
            levers.simulation.set_fault(pool.id(), fault).await.map_err(refused)?;
            Ok(sim::SetFaultResponse {})
        })
        .await
    }

    async fn clear_faults(
        &self,
        call: Request<sim::ClearFaultsRequest>,
    ) -> Result<Response<sim::ClearFaultsResponse>, Status> {
        let (levers, body) = (self.clone(), call.into_inner());
        detached("SimulationService/ClearFaults", "", async move {
            let pool = levers.pool(&body.pool)?;
            let counts = levers.simulation.clear_faults(pool.id()).await?.into_iter();
            let counts = counts.map(|(name, count)| sim::FaultCount { kind: kind_of(name).into(), count });
            Ok(sim::ClearFaultsResponse { counts: counts.collect() })
        })
        .await
    }

    async fn get_chain_totals(
        &self,
        call: Request<sim::GetChainTotalsRequest>,
    ) -> Result<Response<sim::GetChainTotalsResponse>, Status> {
        let body = call.into_inner();
        reading("SimulationService/GetChainTotals", async {
            let pool = self.pool(&body.pool)?;
            let totals = self.simulation.totals(pool.id()).await?;
            let amount = |units: BaseUnits| Some(show::amount(&pool.record.asset, units));
            let sum = |parts: [BaseUnits; 2]| BaseUnits::sum(parts).map_err(|error| super::failure::broken(&error));
            Ok(sim::GetChainTotalsResponse {
                height: totals.height,
                chain_time: Some(show::time(totals.at)),
                custody: amount(totals.custody_balance),
                liquid: amount(totals.liquid),
                delegated: amount(totals.delegated),
                unbonding: amount(sum([totals.unbonding, totals.matured])?),
                rewards_pending: amount(totals.pending_rewards),
                rewards_paid: amount(sum([totals.rewards_paid, totals.rewards_compounded])?),
                fees_paid: amount(totals.fees_paid),
                slashed: amount(totals.slashed),
                donated: amount(totals.donated),
                funded: amount(totals.transferred_in),
                defunded: amount(totals.transferred_out),
            })
        })
        .await
    }

    async fn send_from_custody(
        &self,
        call: Request<sim::SendFromCustodyRequest>,
    ) -> Result<Response<sim::SendFromCustodyResponse>, Status> {
        let (levers, body) = (self.clone(), call.into_inner());
        detached("SimulationService/SendFromCustody", &body.request_id.clone(), async move {
            let (_id, (pool, transfer)) = (
                field::request_id(&Path::of("request_id"), &body.request_id),
                names::transfer(&Path::of("transfer"), &body.transfer),
            )
                .together()?;
            let pool = levers.api.app.pool(&pool)?;
            let units = amount::amount_of(&Path::of("amount"), &pool.record.asset, body.amount.as_ref())?;
            // The transfer has to be one that was asked for; the chain sends it once, whatever the id of the call.
            levers.api.app.transfer(&pool, &transfer).await?;
            let sent = levers.simulation.send_from_custody(pool.id(), &transfer, units).await.map_err(refused)?;
            Ok(sim::SendFromCustodyResponse { transaction: sent.to_string() })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::FaultKind as Kind;

    fn read(body: &sim::SetFaultRequest) -> Result<SimulatedFault, ApiError> {
        fault(&AssetId::new("ATOM").unwrap(), UnixSeconds::new(1_000), body)
    }

    #[test]
    fn every_kind_is_a_fault_of_the_chain_and_counted_as_itself() {
        let all = (1..).map_while(|number| Kind::try_from(number).ok());
        let mut kinds = 0;
        for kind in all {
            let body = sim::SetFaultRequest {
                pool: "pools/atom".to_owned(),
                kind: kind.into(),
                validator: "v1".to_owned(),
                fraction_bps: 500,
                times: 0,
                seconds: 60,
                amount: Some(crate::pb::v1::Amount { asset: "ATOM".to_owned(), base_units: "5".to_owned() }),
                blocks: 3,
                one_in: 4,
            };
            assert_eq!(kind_of(read(&body).unwrap().name()), kind);
            kinds += 1;
        }
        assert_eq!(kinds, SimulatedFault::NAMES.len());
    }

    #[test]
    fn what_a_kind_needs_is_asked_for() {
        let needs = [
            (Kind::SubmitLate, "seconds"),
            (Kind::Outage, "seconds"),
            (Kind::StaleRead, "blocks"),
            (Kind::Flaky, "one_in"),
            (Kind::LyingRead, "amount"),
            (Kind::Donation, "amount"),
            (Kind::Slash, "fraction_bps"),
            (Kind::PartialEffect, "fraction_bps"),
            (Kind::Reorg, "blocks"),
            (Kind::Jail, "validator"),
            (Kind::Unspecified, "kind"),
        ];
        for (kind, field) in needs {
            let Err(ApiError::Invalid(wrong)) = read(&sim::SetFaultRequest { kind: kind.into(), ..Default::default() })
            else {
                panic!("{kind:?} needs {field}")
            };
            assert_eq!(wrong[0].field, field);
        }
    }

    #[test]
    fn time_moves_forward_a_year_at_most() {
        use sim::advance_time_request::Target;
        let now = UnixSeconds::new(1_000);
        let to = |wanted| target(now, &sim::AdvanceTimeRequest { target: Some(wanted) });
        assert_eq!(to(Target::Seconds(5)), Ok(UnixSeconds::new(1_005)));
        assert_eq!(to(Target::ToTime(show::time(UnixSeconds::new(900)))), Ok(UnixSeconds::new(900)));
        assert!(to(Target::Seconds(u64::MAX)).is_err());
        assert!(target(now, &sim::AdvanceTimeRequest { target: None }).is_err());
    }
}
