//! PayoutService: released payouts out, acknowledgements in.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::parse::page::{Cursor, cursor};
use super::parse::{Parsed, Path, Together, field, names};
use super::status::ApiError;
use super::streaming::{self, End, Follower, Out, Outgoing, Places};
use super::{Api, answer, caller_of, detached, failure, render, request, show, span};
use crate::app::pay::{MAX_REJECTED, Payout, RejectedAck};
use crate::app::records::DistributionRecord;
use crate::app::{App, Pool};
use crate::domain::ids::{AssetId, PoolId};
use crate::domain::payout::SetHash;
use crate::domain::period::{PeriodBounds, PeriodIndex};
use crate::pb::v1;
use crate::pb::v1::payout_service_server::PayoutService;

const STREAM: &str = "PayoutService/StreamPayouts";

/// How many payouts a batch has, and may have.
const DEFAULT_BATCH: usize = 1_000;
const MAX_BATCH: usize = 10_000;

/// What a payout takes in memory while it waits to be read, at most: a test builds the largest.
const PAYOUT_BYTES: usize = 640;

/// How many payouts of a batch cost what one question does.
const PAYOUTS_PER_QUESTION: usize = 100;

/// How many payouts are shown before others have their turn on the same processor.
const PAYOUTS_AT_ONCE: usize = 128;

/// How many distributions are looked for at once.
const PER_READ: usize = 16;

/// The service.
#[derive(Clone, Debug)]
pub struct Payouts(pub Api);

#[tonic::async_trait]
impl PayoutService for Payouts {
    type StreamPayoutsStream = Outgoing<v1::StreamPayoutsResponse>;

    async fn stream_payouts(
        &self,
        call: Request<v1::StreamPayoutsRequest>,
    ) -> Result<Response<Self::StreamPayoutsStream>, Status> {
        let body = call.into_inner();
        let (only, size) =
            (names::optional_pool(&Path::of("pool"), &body.pool), batch_size(body.max_batch_size)).together()?;
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
            let stream = PayoutStream { api: api.clone(), cursor, places, size, out: out.clone() };
            streaming::until_stopped(&api, &out, stream.serve(Follower::new(only), end)).await
        })
    }

    async fn ack_payouts(
        &self,
        call: Request<v1::AckPayoutsRequest>,
    ) -> Result<Response<v1::AckPayoutsResponse>, Status> {
        let (api, caller, body) = (self.0.clone(), caller_of(&call)?, call.into_inner());
        detached("PayoutService/AckPayouts", &body.request_id.clone(), async move {
            let (id, (pool, period), revision, hash, rejected) = (
                field::request_id(&Path::of("request_id"), &body.request_id),
                names::distribution(&Path::of("distribution"), &body.distribution),
                field::within(&Path::of("revision"), body.revision, 1..=u32::MAX),
                field::hash(&Path::of("distribution_hash"), &body.distribution_hash),
                rejected(&body),
            )
                .together()?;
            let app = &*api.app;
            let pool = app.pool(&pool)?;
            let period = app.period_named(&pool, period.as_str()).await?.index;
            let request = request("PayoutService/AckPayouts", id, caller, &body);
            let (hash, through) = (SetHash::from_bytes(hash), body.acknowledged_count);
            let once = app.ack_payouts(&request, &pool, period, revision, hash, through, rejected).await?;
            answer(app, &request, Some(&pool), once, present(app, &pool, period, revision)).await
        })
        .await
    }
}

fn batch_size(asked: i32) -> Parsed<usize> {
    let path = Path::of("max_batch_size");
    let size = usize::try_from(asked).map_err(|_| {
        path.wrong("NUMBER_OUT_OF_RANGE", format!("is from 0 (the default of {DEFAULT_BATCH}) to {MAX_BATCH}"))
    })?;
    Ok(if size == 0 { DEFAULT_BATCH } else { size.min(MAX_BATCH) })
}

/// The payouts that the ledger service did not credit.
fn rejected(body: &v1::AckPayoutsRequest) -> Parsed<Vec<RejectedAck>> {
    let all = Path::of("rejected");
    if body.rejected.len() > MAX_REJECTED {
        let description = format!("has {} entries; a request has at most {MAX_REJECTED}", body.rejected.len());
        return Err(all.wrong("TOO_MANY_REJECTED", description));
    }
    let mut read = Vec::with_capacity(body.rejected.len());
    for (place, rejected) in body.rejected.iter().enumerate() {
        let path = all.item(place);
        if rejected.index >= body.acknowledged_count {
            let description = format!("is {}, and has to be below acknowledged_count", rejected.index);
            return Err(path.field("index").wrong("NUMBER_OUT_OF_RANGE", description));
        }
        let account = field::account(&path.field("account"), &rejected.account)?;
        let reason = field::known::<v1::RejectedPayoutReason>(&path.field("reason"), rejected.reason)?;
        let reason = reason.as_str_name().trim_start_matches("REJECTED_PAYOUT_REASON_").to_owned();
        let message = field::text(&path.field("message"), &rejected.message, 0..=500)?;
        read.push(RejectedAck { index: rejected.index, account, reason, message });
    }
    let mut places: Vec<u64> = read.iter().map(|rejected| rejected.index).collect();
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(all.wrong("REJECTED_TWICE", "names a payout twice"));
    }
    Ok(read)
}

async fn present(
    app: &App,
    pool: &Pool,
    period: PeriodIndex,
    revision: u32,
) -> Result<v1::AckPayoutsResponse, ApiError> {
    let record = app.distribution(pool, period, revision).await?;
    let record = record.ok_or_else(|| failure::broken(&"an acknowledged distribution is missing"))?;
    let ack = app.payout_ack(pool, period, revision).await?;
    let handled = ack.map_or(0, |ack| ack.handled());
    Ok(v1::AckPayoutsResponse {
        acknowledged_count: handled,
        unacknowledged_count: record.paid_count.saturating_sub(handled),
        rejected_count: ack.map_or(0, |ack| ack.unclaimed.count),
        state: render::distribution::state(record.state).into(),
    })
}

/// One stream of payouts: the released distributions of each pool, oldest first, from the cursor's place on, but never
/// what is acknowledged or rejected already.
struct PayoutStream {
    api: Api,
    cursor: Cursor,
    /// Where each pool is: period, revision, and the index of the next payout.
    places: Places<3>,
    size: usize,
    out: Out<v1::StreamPayoutsResponse>,
}

impl PayoutStream {
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

    /// Sends everything of a pool that was not sent. The periods of a pool are released in order.
    async fn send_pool(&mut self, pool: &Arc<Pool>) -> Result<(), End> {
        let app = self.api.app.clone();
        // Of a restored pool nothing is handed on before it is resumed, which is a change of the pool.
        let turn = self.out.turn(1).await;
        if app.pool_state(pool).await?.restored.is_some() {
            return Ok(());
        }
        drop(turn);
        let mut after = None;
        if let Some([period, revision, next]) = self.places.0.get(&pool.number()).copied() {
            let (period, revision) = (PeriodIndex(period), u32::try_from(revision).unwrap_or(u32::MAX));
            let begun = app.distribution(pool, period, revision).await?;
            if let Some(begun) = begun.filter(|begun| begun.state.is_released() && next < begun.paid_count) {
                self.send_distribution(pool, &begun, next).await?;
            }
            after = Some((period, revision));
        }
        loop {
            let turn = self.out.turn(1).await;
            let unsettled = app.unsettled_distributions(pool, after, PER_READ).await?;
            drop(turn);
            let Some(last) = unsettled.last() else { return Ok(()) };
            after = Some((last.period, last.revision));
            for record in &unsettled {
                self.send_distribution(pool, record, 0).await?;
            }
        }
    }

    /// Sends the payouts of a distribution from `from` on that are not handled yet.
    async fn send_distribution(&mut self, pool: &Pool, record: &DistributionRecord, from: u64) -> Result<(), End> {
        let app = self.api.app.clone();
        let ack = app.payout_ack(pool, record.period, record.revision).await?;
        let mut next = from.max(ack.map_or(0, |ack| ack.handled()));
        let bounds = bounds(&app, pool, record.period).await?;
        while next < record.paid_count {
            let left = usize::try_from(record.paid_count - next).unwrap_or(usize::MAX);
            let count = self.size.min(left);
            let room = self.out.room(count.saturating_mul(PAYOUT_BYTES)).await?;
            let turn = self.out.turn(count / PAYOUTS_PER_QUESTION).await;
            let payouts = app.payouts_from(pool, record.period, record.revision, next, self.size).await?;
            let first_index = next;
            next += payouts.len() as u64;
            if next == first_index {
                return Err(failure::broken(&"a released distribution has fewer payouts than it counts").into());
            }
            self.places.0.insert(pool.number(), [record.period.0, record.revision.into(), next]);
            let cursor = self.cursor.next(&self.places.encode());
            let batch = show_batch(pool, record, bounds, first_index, &payouts).await;
            drop(turn);
            let batch = v1::StreamPayoutsResponse { last: next >= record.paid_count, cursor, ..batch };
            self.out.send_in(room, batch).await?;
        }
        self.places.0.insert(pool.number(), [record.period.0, record.revision.into(), next]);
        Ok(())
    }
}

async fn bounds(app: &App, pool: &Pool, period: PeriodIndex) -> Result<PeriodBounds, ApiError> {
    let record = app.period(pool, period).await?;
    Ok(record.ok_or_else(|| failure::broken(&"the period of a distribution is missing"))?.bounds)
}

/// A batch, without its cursor.
async fn show_batch(
    pool: &Pool,
    record: &DistributionRecord,
    bounds: PeriodBounds,
    first_index: u64,
    payouts: &[Payout],
) -> v1::StreamPayoutsResponse {
    let (asset, simulated, period) = (&pool.record.asset, pool.record.simulated, bounds.name());
    let mut items = Vec::with_capacity(payouts.len());
    for some in payouts.chunks(PAYOUTS_AT_ONCE) {
        items.extend(some.iter().map(|payout| show_item(pool.id(), &period, asset, payout, simulated)));
        tokio::task::yield_now().await;
    }
    v1::StreamPayoutsResponse {
        pool: names::show::pool(pool.id()),
        distribution: names::show::distribution(pool.id(), &period),
        revision: record.revision,
        distribution_hash: record.hash.to_bytes().to_vec(),
        period_start_time: Some(show::time(bounds.start)),
        period_end_time: Some(show::time(bounds.end)),
        payout_count: record.paid_count,
        payout_total: Some(show::amount(asset, record.figures.payouts)),
        first_index,
        payouts: items,
        last: false,
        cursor: String::new(),
        simulated,
    }
}

fn show_item(pool: &PoolId, period: &str, asset: &AssetId, payout: &Payout, simulated: bool) -> v1::PayoutItem {
    v1::PayoutItem {
        name: names::show::payout(pool, period, &payout.account),
        account: payout.account.to_string(),
        amount: Some(show::amount(asset, payout.amount)),
        simulated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::BaseUnits;
    use crate::domain::ids::AccountId;

    /// What an allocation takes beside what was asked for, on 64 bits.
    const ALLOCATION_BYTES: usize = 16;

    #[test]
    fn the_room_of_a_payout_holds_the_largest() {
        let longest = |letter: &str, bytes: usize| letter.repeat(bytes);
        let pool = PoolId::new(&longest("p", PoolId::MAX_BYTES)).unwrap();
        let asset = AssetId::new(&longest("A", AssetId::MAX_BYTES)).unwrap();
        let account = AccountId::new(&longest("a", AccountId::MAX_BYTES)).unwrap();
        let payout = Payout { index: 0, account, amount: BaseUnits::MAX };
        let item = show_item(&pool, "20261122T130000Z", &asset, &payout, true);
        let amount = item.amount.as_ref().unwrap();
        let texts = [&item.name, &item.account, &amount.asset, &amount.base_units];
        let held: usize = texts.iter().map(|text| text.capacity() + ALLOCATION_BYTES).sum();
        let bytes = size_of::<v1::PayoutItem>() + held;
        assert!(bytes <= PAYOUT_BYTES, "{bytes} bytes");
        assert!(bytes > PAYOUT_BYTES / 2, "{bytes} bytes: so much room is for nothing");
    }

    #[test]
    fn a_batch_has_a_size_of_its_own() {
        assert_eq!((batch_size(0), batch_size(7), batch_size(i32::MAX)), (Ok(1_000), Ok(7), Ok(10_000)));
        assert_eq!(batch_size(-1).unwrap_err().field, "max_batch_size");
    }

    #[test]
    fn rejected_payouts_are_read_whole_or_not_at_all() {
        let one = |index, account: &str, reason| v1::RejectedPayout {
            index,
            account: account.to_owned(),
            reason,
            message: String::new(),
        };
        let body = |rejected| v1::AckPayoutsRequest { acknowledged_count: 5, rejected, ..Default::default() };
        let read = rejected(&body(vec![one(4, "bob", 2), one(0, "alice", 1)])).unwrap();
        assert_eq!((read[0].reason.as_str(), read[1].reason.as_str()), ("ACCOUNT_CLOSED", "ACCOUNT_UNKNOWN"));
        for (bad, path) in [
            (vec![one(5, "bob", 1)], "rejected[0].index"),
            (vec![one(1, "bob", 1), one(2, "", 1)], "rejected[1].account"),
            (vec![one(1, "bob", 0)], "rejected[0].reason"),
            (vec![one(1, "bob", 1), one(1, "bob", 1)], "rejected"),
        ] {
            assert_eq!(rejected(&body(bad)).unwrap_err().field, path);
        }
    }
}
