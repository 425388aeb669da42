//! Ledgers, equations, differences.

use crate::api::show;
use crate::domain::amount::{AmountError, BaseUnits, SignedUnits};
use crate::domain::equations::EquationResult;
use crate::domain::ids::AssetId;
use crate::domain::ledger::{AssetAccount, ClaimAccount, LedgerView};
use crate::domain::reconciliation::Difference;
use crate::pb::v1;

/// Every account of a ledger.
pub fn balances(asset: &AssetId, view: &LedgerView) -> Result<v1::LedgerBalances, AmountError> {
    let signed = |units: SignedUnits| Some(show::signed_amount(asset, units));
    let of_asset = |account: AssetAccount| signed(view.asset(account).signed());
    let of_claim = |account: ClaimAccount| signed(view.claim(account).signed());
    Ok(v1::LedgerBalances {
        custody: signed(view.custody()),
        in_transit: of_asset(AssetAccount::InTransit),
        liquid: of_asset(AssetAccount::Liquid),
        in_flight: of_asset(AssetAccount::InFlight),
        delegated: signed(view.delegated()?.signed()),
        unbonding: of_asset(AssetAccount::Unbonding),
        matured: of_asset(AssetAccount::Matured),
        slash_receivable: of_claim(ClaimAccount::SlashReceivable),
        principal: signed(view.principal().signed()),
        undistributed: of_claim(ClaimAccount::Undistributed),
        in_distribution: of_claim(ClaimAccount::InDistribution),
        payable: of_claim(ClaimAccount::Payable),
        carry: of_claim(ClaimAccount::Carry),
        unclaimed: of_claim(ClaimAccount::Unclaimed),
        suspense: of_claim(ClaimAccount::Suspense),
        house: signed(view.house()),
    })
}

/// One equation with both sides.
pub fn equation(result: &EquationResult) -> v1::EquationResult {
    v1::EquationResult {
        number: u32::from(result.number),
        name: result.name.to_owned(),
        left: result.left.clone(),
        right: result.right.clone(),
        holds: result.holds,
        subject: result.detail.clone(),
    }
}

/// One thing of which ledger and chain have another figure.
pub fn difference(asset: &AssetId, difference: &Difference) -> v1::ChainDifference {
    let signed = |units: BaseUnits| Some(show::signed_amount(asset, units.signed()));
    v1::ChainDifference {
        ledger_account: difference.of.to_string(),
        ledger_amount: signed(difference.ledger),
        chain_amount: signed(difference.chain),
        difference: Some(show::signed_amount(asset, difference.apart())),
        tolerated: difference.tolerated,
    }
}
