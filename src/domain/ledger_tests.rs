use super::super::effect::EffectKey;
use super::super::ids::{OperationId, TransactionId};
use super::*;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn why() -> Reason {
    Reason::OperationPlanned(OperationId::new("atom:delegate:1:1").unwrap())
}

#[test]
fn an_entry_balances_or_is_not_made() {
    let reward = Entry::new(why(), [up(AssetAccount::Liquid, units(5)), up(ClaimAccount::Undistributed, units(5))]);
    assert_eq!(reward.unwrap().legs().len(), 2);
    let lost = Entry::new(why(), [up(AssetAccount::Liquid, units(5))]);
    assert_eq!(lost, Err(LedgerError::Unbalanced { assets: SignedUnits::new(5), claims: SignedUnits::ZERO }));
    // A slash receivable is taken from the claims.
    let slash =
        Entry::new(why(), [down(AssetAccount::Unbonding, units(5)), up(ClaimAccount::SlashReceivable, units(5))]);
    assert!(slash.is_ok());
    let nothing = Entry::new(why(), [up(AssetAccount::Liquid, units(5)), down(AssetAccount::Liquid, units(5))]);
    assert!(nothing.unwrap().is_empty());
    let past = Entry::new(why(), [up(AssetAccount::Liquid, BaseUnits::MAX), up(AssetAccount::Liquid, BaseUnits::MAX)]);
    assert_eq!(past, Err(LedgerError::Amount(AmountError::Overflow)));
}

#[test]
fn only_custody_and_house_go_below_zero() {
    let empty = Ledger::default();
    let fund =
        Entry::new(why(), [down(AssetAccount::Custody, units(9)), up(AssetAccount::InTransit, units(9))]).unwrap();
    let ledger = empty.apply(&fund).unwrap();
    let fee = Entry::new(why(), [down(AssetAccount::Custody, units(1)), down(ClaimAccount::House, units(1))]).unwrap();
    let ledger = ledger.apply(&fee).unwrap();
    assert_eq!(ledger.balance(&ClaimAccount::House.into()), SignedUnits::new(-1));
    let past =
        Entry::new(why(), [down(AssetAccount::InTransit, units(10)), up(AssetAccount::Liquid, units(10))]).unwrap();
    assert_eq!(
        ledger.apply(&past),
        Err(LedgerError::Negative {
            account: AssetAccount::InTransit.into(),
            balance: SignedUnits::new(9),
            change: SignedUnits::new(-10)
        })
    );
}

#[test]
fn the_view_adds_the_principal_leg_to_both_sides() {
    let fund =
        Entry::new(why(), [down(AssetAccount::Custody, units(900)), up(AssetAccount::Liquid, units(900))]).unwrap();
    let ledger = Ledger::default().apply(&fund).unwrap();
    let view = LedgerView::new(ledger.clone(), units(1_000)).unwrap();
    assert_eq!((view.custody(), view.asset(AssetAccount::Liquid)), (SignedUnits::new(100), units(900)));
    assert_eq!(view.assets_total(), Ok(SignedUnits::new(1_000)));
    assert_eq!(view.claims_total(), view.assets_total());
    // Most leave: the house lends what they withdraw.
    let run = LedgerView::new(ledger, units(200)).unwrap();
    assert_eq!((run.custody(), run.asset(AssetAccount::Custody)), (SignedUnits::new(-700), BaseUnits::ZERO));
    assert_eq!(run.assets_total(), run.claims_total());
}

#[test]
fn accounts_have_stable_names_and_a_ledger_comes_back_from_them() {
    let validator = ValidatorId::new("cosmosvaloper1abc").unwrap();
    let entry = Entry::new(
        Reason::Effect(
            EffectName::RewardCompounded,
            EffectKey { transaction: TransactionId::new("tx").unwrap(), index: 3 },
        ),
        [up(AssetAccount::Delegated(validator), units(7)), up(ClaimAccount::Undistributed, units(7))],
    )
    .unwrap();
    assert_eq!((entry.reason().name(), entry.reason().subject().as_str()), ("reward_compounded", "tx/3"));
    let ledger = Ledger::default().apply(&entry).unwrap();
    let stored: Vec<_> = ledger.balances().map(|(account, balance)| (account.to_string(), balance)).collect();
    assert_eq!(stored[0].0, "delegated/cosmosvaloper1abc");
    let read = stored.iter().map(|(name, balance)| (Account::parse(name).unwrap(), *balance));
    assert_eq!(Ledger::from_balances(read), Ok(ledger));
    let all = [
        "custody",
        "in_transit",
        "liquid",
        "in_flight",
        "unbonding",
        "matured",
        "undistributed",
        "in_distribution",
        "payable",
        "carry",
        "unclaimed",
        "suspense",
        "house",
        "slash_receivable",
    ];
    for name in all {
        assert_eq!(Account::parse(name).unwrap().to_string(), name);
    }
    for bad in ["", "principal", "delegated/", "delegated/a b", "Custody"] {
        assert_eq!(Account::parse(bad), None, "{bad:?}");
    }
    let unbalanced = [(AssetAccount::Liquid.into(), SignedUnits::new(1))];
    assert!(Ledger::from_balances(unbalanced).is_err());
}
