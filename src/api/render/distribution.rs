//! Distributions and the receipts that they take.

use ruint::aliases::U256;

use super::ledger;
use crate::api::parse::names;
use crate::api::show;
use crate::app::Pool;
use crate::app::query::lists::DistributionView;
use crate::app::records::{Hold, Progress, ReceiptRecord};
use crate::domain::amount::AmountError;
use crate::domain::apr::annual_rate;
use crate::domain::distribution::DistributionState;
use crate::domain::payout::PayoutSum;
use crate::pb::v1;

/// One revision of a distribution.
pub fn distribution(pool: &Pool, view: &DistributionView) -> Result<v1::Distribution, AmountError> {
    let (record, asset, bounds) = (&view.record, &pool.record.asset, view.period.bounds);
    let amount = |units| Some(show::amount(asset, units));
    let sealed = record.progress == Progress::Sealed;
    let acknowledged = view.acknowledged.map_or(PayoutSum::NONE, |ack| ack.acknowledged);
    let unclaimed = view.acknowledged.map_or(PayoutSum::NONE, |ack| ack.unclaimed);
    let customers = record.weight_total.saturating_sub(record.house_weight);
    let implied_apr = annual_rate(U256::from(record.figures.payouts.get()), customers).filter(|_| sealed);
    let f = record.figures;
    let name = bounds.name();
    Ok(v1::Distribution {
        name: names::show::distribution(pool.id(), &name),
        revision: record.revision,
        period: names::show::period(pool.id(), &name),
        period_start_time: Some(show::time(bounds.start)),
        period_end_time: Some(show::time(bounds.end)),
        state: state(record.state).into(),
        hold_reasons: record.holds.iter().map(hold).collect(),
        receipts_amount: amount(f.receipts),
        receipt_count: record.receipts.count,
        carry_in: amount(f.carry_in),
        house_in: amount(f.house_in),
        fee: amount(f.fee),
        recovery: amount(f.recovery),
        net: amount(record.net()?),
        payouts_amount: amount(f.payouts),
        house_out: amount(f.house_out),
        carry_out: amount(f.carry_out),
        payout_count: record.paid_count,
        below_unit_count: record.below_unit_count(),
        weight_total: record.weight_total.to_string(),
        house_weight: record.house_weight.to_string(),
        payout_unit: amount(record.payout_unit.get()),
        fee_bps: view.period.policy.fee.get(),
        implied_apr: implied_apr.map(|apr| apr.to_string()).unwrap_or_default(),
        distribution_hash: if sealed { record.hash.to_bytes().to_vec() } else { Vec::new() },
        compute_time: Some(show::time(record.computed_at)),
        release_time: record.released_at.map(show::time),
        settle_time: record.settled_at.map(show::time),
        approved_by: Some(record.approved_by.clone()).filter(|by| !by.is_empty()).into_iter().collect(),
        void_reason: record.void_reason.clone(),
        acknowledged_count: acknowledged.count,
        acknowledged_amount: amount(acknowledged.amount),
        unclaimed_count: unclaimed.count,
        unclaimed_amount: amount(unclaimed.amount),
        equations: view.equations.iter().map(ledger::equation).collect(),
        simulated: pool.record.simulated,
    })
}

/// The state as callers name it.
pub const fn state(state: DistributionState) -> v1::DistributionState {
    match state {
        DistributionState::Computed => v1::DistributionState::Computed,
        DistributionState::Held => v1::DistributionState::Held,
        DistributionState::Approved => v1::DistributionState::Approved,
        DistributionState::Released => v1::DistributionState::Released,
        DistributionState::Settled => v1::DistributionState::Settled,
        DistributionState::Voided(_) => v1::DistributionState::Voided,
    }
}

fn hold(hold: &Hold) -> v1::HoldReason {
    let code = match hold.code.as_str() {
        "APPROVAL_REQUIRED" => v1::HoldCode::ApprovalRequired,
        "RECEIPT_SPANS_MORE_THAN_TWO_PERIODS" => v1::HoldCode::ReceiptSpan,
        "HOUSE_IN_ABOVE_LIMIT" => v1::HoldCode::HouseShortage,
        "POSITIONS_INCOMPLETE" => v1::HoldCode::Incomplete,
        "APR_ABOVE_LIMIT" => v1::HoldCode::MaxApr,
        "APR_CHANGE_ABOVE_LIMIT" => v1::HoldCode::MaxAprChange,
        "RECEIPTS_ABOVE_LIMIT" => v1::HoldCode::MaxReceipts,
        "RECEIPTS_NOT_RECONCILED" => v1::HoldCode::UnreconciledReceipts,
        "ASSET_MISMATCH" => v1::HoldCode::AssetMismatch,
        _ => v1::HoldCode::Unspecified,
    };
    v1::HoldReason { code: code.into(), message: hold.message.clone() }
}

/// A reward as the chain paid it; `distribution` is the name of the period of the distribution that takes it.
pub fn receipt(pool: &Pool, receipt: &ReceiptRecord, distribution: &str) -> v1::RewardReceipt {
    let validator = receipt.reward.validator.as_ref().map(|validator| names::show::validator(pool.id(), validator));
    v1::RewardReceipt {
        chain: pool.record.chain.to_string(),
        transaction: receipt.reward.key.transaction.to_string(),
        index: receipt.reward.key.index,
        amount: Some(show::amount(&pool.record.asset, receipt.reward.amount)),
        chain_time: Some(show::time(receipt.reward.at)),
        height: receipt.reward.height,
        validator: validator.unwrap_or_default(),
        earned_start_time: Some(show::time(receipt.reward.earned_from)),
        earned_end_time: Some(show::time(receipt.reward.earned_to)),
        distribution: names::show::distribution(pool.id(), distribution),
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;
    use crate::domain::amount::BaseUnits;
    use crate::domain::hold::HoldReason;

    #[test]
    fn every_reason_to_hold_has_a_code() {
        let none = BaseUnits::ZERO;
        let reasons = [
            (HoldReason::ApprovalRequired, v1::HoldCode::ApprovalRequired),
            (HoldReason::ReceiptSpan { receipts: 1, longest_seconds: 3, limit_seconds: 2 }, v1::HoldCode::ReceiptSpan),
            (HoldReason::HouseIn { house_in: none, limit: none }, v1::HoldCode::HouseShortage),
            (HoldReason::Incomplete { frozen: 2, computed: 1 }, v1::HoldCode::Incomplete),
            (HoldReason::Apr { rate: None, limit: Decimal::ONE }, v1::HoldCode::MaxApr),
            (HoldReason::AprChange { rate: None, trailing: None, limit: Decimal::ONE }, v1::HoldCode::MaxAprChange),
            (HoldReason::Receipts { receipts: none, earning: U256::ZERO, limit_bps: 1 }, v1::HoldCode::MaxReceipts),
            (HoldReason::Unreconciled { receipts: 1, height: 1 }, v1::HoldCode::UnreconciledReceipts),
            (HoldReason::Asset, v1::HoldCode::AssetMismatch),
        ];
        for (reason, code) in reasons {
            let shown = hold(&Hold { code: reason.code().to_owned(), message: reason.to_string() });
            assert_eq!(shown.code(), code);
        }
    }
}
