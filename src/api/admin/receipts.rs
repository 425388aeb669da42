//! Rewards that are entered by evidence.

use std::sync::Arc;

use super::{change, evidence, id, request, waits_for};
use crate::api::parse::{Parsed, Path, Together, amount, field, names};
use crate::api::render;
use crate::api::status::ApiError;
use crate::app::records::ReceiptRecord;
use crate::app::{App, Pool};
use crate::domain::approval::Reward;
use crate::domain::caller::Caller;
use crate::domain::effect::EffectKey;
use crate::domain::ids::ValidatorId;
use crate::pb::v1;

/// RecordReceipt.
pub async fn record(
    app: Arc<App>,
    caller: Caller,
    body: v1::RecordReceiptRequest,
) -> Result<v1::RecordReceiptResponse, ApiError> {
    let (id, pool, evidence) =
        (id(&body.request_id), names::pool(&Path::of("pool"), &body.pool), evidence(&body.evidence)).together()?;
    let pool = app.pool(&pool)?;
    let path = Path::of("receipt");
    let reward = reward(&pool, &path, body.receipt.as_ref().ok_or_else(|| path.missing())?)?;
    let request = request("AdminService/RecordReceipt", id, caller, &body);
    let present = async {
        let approval = waits_for(&app, &request, &pool).await?;
        let receipt = render::distribution::receipt(&pool, &ReceiptRecord::of(reward.clone()), "");
        Ok(v1::RecordReceiptResponse { approval, receipt: Some(receipt) })
    };
    change(&app, &request, &pool, app.record_receipt(&request, &pool, &reward, &evidence), present).await
}

/// A reward as it is told. Chain and distribution may be empty: the pool says the one, the service the other.
fn reward(pool: &Pool, path: &Path<'_>, given: &v1::RewardReceipt) -> Result<Reward, ApiError> {
    let chain_path = path.field("chain");
    if !given.chain.is_empty() && given.chain != pool.record.chain.as_str() {
        let message = format!("is another chain than {}, the pool's own", pool.record.chain);
        return Err(chain_path.wrong("CHAIN_UNKNOWN", message).into());
    }
    let paths =
        ["transaction", "amount", "chain_time", "earned_start_time", "earned_end_time"].map(|it| path.field(it));
    let (transaction, amount, at, from, to) = (
        field::transaction(&paths[0], &given.transaction),
        amount::amount_of(&paths[1], &pool.record.asset, given.amount.as_ref()),
        field::time(&paths[2], given.chain_time.as_ref()),
        field::time(&paths[3], given.earned_start_time.as_ref()),
        field::time(&paths[4], given.earned_end_time.as_ref()),
    )
        .together()?;
    if amount.is_zero() {
        return Err(paths[1].wrong("AMOUNT_OUT_OF_RANGE", "is zero, which is no reward").into());
    }
    Ok(Reward {
        key: EffectKey { transaction, index: given.index },
        validator: validator(pool, path, &given.validator)?,
        amount,
        at,
        height: given.height,
        earned_from: from,
        earned_to: to,
    })
}

fn validator(pool: &Pool, path: &Path<'_>, name: &str) -> Parsed<Option<ValidatorId>> {
    if name.is_empty() {
        return Ok(None);
    }
    let path = path.field("validator");
    let (of, validator) = names::validator(&path, name)?;
    if of != *pool.id() {
        return Err(path.wrong("NAME_MALFORMED", "is a validator of another pool"));
    }
    Ok(Some(validator))
}
