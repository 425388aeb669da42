//! TransferService: tokens between the exchange's own wallets and the staking address.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::parse::page::{Cursor, cursor};
use super::parse::{Parsed, Path, Together, amount, field, names};
use super::status::ApiError;
use super::streaming::{self, End, Follower, Out, Outgoing, Places};
use super::{Api, answer, caller_of, detached, request, show, span};
use crate::app::Pool;
use crate::app::records::TransferRecord;
use crate::app::transfer::Acknowledgement;
use crate::domain::amount::{BaseUnits, SignedUnits};
use crate::domain::ids::TransferId;
use crate::domain::transfer::{Direction, Purpose, TransferState};
use crate::pb::v1;
use crate::pb::v1::transfer_service_server::TransferService;

const STREAM: &str = "TransferService/StreamTransfers";

/// How many transfers are read at once.
const PER_READ: usize = 256;

/// The service.
#[derive(Clone, Debug)]
pub struct Transfers(pub Api);

#[tonic::async_trait]
impl TransferService for Transfers {
    type StreamTransfersStream = Outgoing<v1::StreamTransfersResponse>;

    async fn stream_transfers(
        &self,
        call: Request<v1::StreamTransfersRequest>,
    ) -> Result<Response<Self::StreamTransfersStream>, Status> {
        let body = call.into_inner();
        let only = names::optional_pool(&Path::of("pool"), &body.pool).map_err(ApiError::from)?;
        let path = Path::of("cursor");
        let cursor = cursor(&path, STREAM, only.as_ref(), &body.cursor).map_err(ApiError::from)?;
        let foreign = || path.wrong("TOKEN_MALFORMED", "is not a token that this service has given out");
        let places = Places::decode(cursor.after.as_deref().unwrap_or_default());
        let places = places.ok_or_else(foreign).map_err(ApiError::from)?;
        if let Some(id) = &only {
            self.0.app.pool(id).map_err(ApiError::from)?;
        }
        let api = self.0.clone();
        let end = body.end_when_caught_up;
        streaming::open(&self.0, span(STREAM, ""), |out| async move {
            let stream = TransferStream { api: api.clone(), cursor, places, out: out.clone() };
            streaming::until_stopped(&api, &out, stream.serve(Follower::new(only), end)).await
        })
    }

    async fn ack_transfer(
        &self,
        call: Request<v1::AckTransferRequest>,
    ) -> Result<Response<v1::AckTransferResponse>, Status> {
        let (api, caller, body) = (self.0.clone(), caller_of(&call)?, call.into_inner());
        detached("TransferService/AckTransfer", &body.request_id.clone(), async move {
            let rejects = body.outcome == v1::TransferOutcome::Rejected as i32;
            let (id, (pool, transfer), outcome, reference, reason) = (
                field::request_id(&Path::of("request_id"), &body.request_id),
                names::transfer(&Path::of("name"), &body.name),
                field::known::<v1::TransferOutcome>(&Path::of("outcome"), body.outcome),
                field::text(&Path::of("custody_reference"), &body.custody_reference, 0..=200),
                field::text(&Path::of("reason"), &body.reason, usize::from(rejects)..=500),
            )
                .together()?;
            let app = &*api.app;
            let pool = app.pool(&pool)?;
            let record = app.transfer(&pool, &transfer).await?;
            let word = word(&pool, &record, outcome, body.amount.as_ref(), reason)?;
            let request = request("TransferService/AckTransfer", id, caller, &body);
            let once = app.acknowledge_transfer(&request, &pool, &transfer, word, &reference).await?;
            let present = present(&api, &pool, &transfer);
            answer(app, &request, Some(&pool), once, present).await
        })
        .await
    }

    async fn report_custody(
        &self,
        call: Request<v1::ReportCustodyRequest>,
    ) -> Result<Response<v1::ReportCustodyResponse>, Status> {
        let (api, caller, body) = (self.0.clone(), caller_of(&call)?, call.into_inner());
        detached("TransferService/ReportCustody", &body.request_id.clone(), async move {
            let (id, pool, (asset, balance), as_of) = (
                field::request_id(&Path::of("request_id"), &body.request_id),
                names::pool(&Path::of("pool"), &body.pool),
                amount::amount(&Path::of("balance"), body.balance.as_ref()),
                field::time(&Path::of("as_of_time"), body.as_of_time.as_ref()),
            )
                .together()?;
            let app = &*api.app;
            let pool = app.pool(&pool)?;
            if asset != pool.record.asset {
                amount::amount_of(&Path::of("balance"), &pool.record.asset, body.balance.as_ref())?;
            }
            let request = request("TransferService/ReportCustody", id, caller, &body);
            let (once, ledger) = app.report_custody(&request, &pool, balance, as_of).await?;
            let difference = balance.signed().checked_sub(ledger).unwrap_or(SignedUnits::new(i128::MAX));
            if difference != SignedUnits::ZERO {
                tracing::warn!(pool = %pool.id(), reported_base_units = %balance, ledger_base_units = %ledger,
                    "custody reports another balance than the ledger has");
            }
            let present = async {
                Ok(v1::ReportCustodyResponse {
                    ledger_balance: Some(show::signed_amount(&pool.record.asset, ledger)),
                    difference: Some(show::signed_amount(&pool.record.asset, difference)),
                })
            };
            answer(app, &request, Some(&pool), once, present).await
        })
        .await
    }
}

/// Custody's word on a transfer, which has to fit its direction.
fn word(
    pool: &Pool,
    record: &TransferRecord,
    outcome: v1::TransferOutcome,
    moved: Option<&v1::Amount>,
    reason: String,
) -> Result<Acknowledgement, ApiError> {
    let path = Path::of("outcome");
    let fits = match outcome {
        v1::TransferOutcome::Unspecified => return Err(path.missing().into()),
        v1::TransferOutcome::Sent | v1::TransferOutcome::Rejected => record.transfer.direction == Direction::Fund,
        v1::TransferOutcome::Received => record.transfer.direction == Direction::Defund,
    };
    if !fits {
        let description = match record.transfer.direction {
            Direction::Fund => "this is a FUND: custody has SENT or REJECTED it",
            Direction::Defund => "this is a DEFUND, which softstake sends: custody has RECEIVED it",
        };
        return Err(path.wrong("OUTCOME_MISMATCH", description).into());
    }
    if outcome == v1::TransferOutcome::Rejected {
        return Ok(Acknowledgement::Rejected(reason));
    }
    Ok(Acknowledgement::Moved(above_zero(amount::amount_of(&Path::of("amount"), &pool.record.asset, moved))?))
}

fn above_zero(amount: Parsed<BaseUnits>) -> Parsed<BaseUnits> {
    let amount = amount?;
    if amount.is_zero() {
        let path = Path::of("amount");
        return Err(path.field("base_units").wrong("AMOUNT_ZERO", "has to be above zero"));
    }
    Ok(amount)
}

async fn present(api: &Api, pool: &Pool, transfer: &TransferId) -> Result<v1::AckTransferResponse, ApiError> {
    let record = api.app.transfer(pool, transfer).await?;
    Ok(v1::AckTransferResponse { transfer: Some(show_transfer(&record, pool)) })
}

/// One stream of transfers. Of each pool: first what is open, unless the cursor knows the pool; then every change.
struct TransferStream {
    api: Api,
    cursor: Cursor,
    /// The version of each pool's ledger up to which changes were sent.
    places: Places<1>,
    out: Out<v1::StreamTransfersResponse>,
}

impl TransferStream {
    async fn serve(mut self, mut follower: Follower, end_when_caught_up: bool) -> Result<(), End> {
        loop {
            for pool in follower.pools(&self.api.app)? {
                self.send_pool(&pool).await?;
            }
            if end_when_caught_up {
                return Ok(());
            }
            follower.changed().await;
        }
    }

    /// Sends everything of a pool that was not sent.
    async fn send_pool(&mut self, pool: &Arc<Pool>) -> Result<(), End> {
        let app = self.api.app.clone();
        // Of a restored pool nothing is handed on before it is resumed, which is a change of the pool.
        if app.pool_state(pool).await?.restored.is_some() {
            return Ok(());
        }
        let mut after = match self.places.0.get(&pool.number()) {
            Some([after]) => *after,
            None => {
                // What changes while the open ones are sent comes again after them.
                let last = app.last_transfer_change(pool).await?;
                let mut open = app.open_transfers(pool).await?;
                open.sort_by_key(|record| record.changed);
                for record in open {
                    self.send(pool, record.changed.min(last), &record).await?;
                }
                self.places.0.insert(pool.number(), [last]);
                last
            }
        };
        loop {
            let changed = app.transfers_changed(pool, after, PER_READ).await?;
            let Some((last, _)) = changed.last() else { return Ok(()) };
            after = *last;
            for (version, record) in &changed {
                self.send(pool, *version, record).await?;
            }
        }
    }

    async fn send(&mut self, pool: &Pool, version: u64, record: &TransferRecord) -> Result<(), End> {
        self.places.0.insert(pool.number(), [version]);
        let transfer = Some(show_transfer(record, pool));
        let cursor = self.cursor.next(&self.places.encode());
        self.out.send(v1::StreamTransfersResponse { transfer, cursor }).await
    }
}

/// A transfer.
pub(super) fn show_transfer(record: &TransferRecord, pool: &Pool) -> v1::Transfer {
    let (transfer, asset) = (&record.transfer, &pool.record.asset);
    let direction = match transfer.direction {
        Direction::Fund => v1::TransferDirection::Fund,
        Direction::Defund => v1::TransferDirection::Defund,
    };
    let purpose = match transfer.purpose {
        Purpose::Principal => v1::TransferPurpose::Principal,
        Purpose::HouseFloat => v1::TransferPurpose::HouseFloat,
    };
    let state = match transfer.state {
        TransferState::Requested => v1::TransferState::Requested,
        TransferState::Sent => v1::TransferState::Sent,
        TransferState::Observed => v1::TransferState::Observed,
        TransferState::Received => v1::TransferState::Received,
        TransferState::Cancelled => v1::TransferState::Cancelled,
    };
    let operation = transfer.operation.as_ref().map(|operation| names::show::operation(pool.id(), operation));
    let cancelled = transfer.state == TransferState::Cancelled;
    v1::Transfer {
        name: names::show::transfer(pool.id(), &transfer.id),
        direction: direction.into(),
        purpose: purpose.into(),
        state: state.into(),
        amount: Some(show::amount(asset, transfer.asked)),
        observed_amount: Some(show::amount(asset, transfer.seen)),
        staking_address: pool.chain.descriptor.staking_address.clone(),
        custody_address: pool.chain.descriptor.custody_address.clone(),
        memo: transfer.id.to_string(),
        custody_reference: record.custody_reference.clone(),
        transactions: record.transactions.iter().map(ToString::to_string).collect(),
        operation: operation.unwrap_or_default(),
        end_reason: if cancelled { record.reason.clone() } else { String::new() },
        create_time: Some(show::time(record.created_at)),
        update_time: Some(show::time(record.updated_at)),
        simulated: pool.record.simulated,
        acknowledged_amount: Some(show::amount(asset, transfer.acknowledged)),
        surplus_amount: Some(show::amount(asset, transfer.surplus)),
        ..v1::Transfer::default()
    }
}
