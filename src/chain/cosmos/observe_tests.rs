use prost_types::{Duration, Timestamp};

use super::*;
use crate::pb::cosmos::staking::v1beta1::{Commission, CommissionRates, Description, UnbondingDelegationEntry};

const VALIDATOR: &str = "cosmosvaloper17fk3p4ltjh40lxflnhn453fnnextd2nlkychfk";

fn one(jailed: bool, status: BondStatus, rate: &str) -> Validator {
    Validator {
        operator_address: VALIDATOR.to_owned(),
        jailed,
        status: status.into(),
        tokens: "999900000000".to_owned(),
        delegator_shares: "1000000000000000000000000000000".to_owned(),
        description: Some(Description { moniker: "one".to_owned() }),
        commission: Some(Commission { commission_rates: Some(CommissionRates { rate: rate.to_owned() }) }),
    }
}

fn units(units: u64) -> BaseUnits {
    BaseUnits::from_u64(units)
}

#[test]
fn validators_are_told_with_their_commission_to_the_last_digit() {
    let found = known(&one(false, BondStatus::Bonded, "123456789012345678")).unwrap();
    assert_eq!(found.commission, Decimal::from_str_exact("0.123456789012345678").unwrap());
    assert_eq!(
        (found.moniker.as_str(), found.status, found.tokens),
        ("one", ValidatorStatus::Active, units(999_900_000_000))
    );
    let status = |jailed, status| known(&one(jailed, status, "0")).map(|one| one.status);
    assert_eq!(status(false, BondStatus::Unbonding), Ok(ValidatorStatus::Inactive));
    assert_eq!(status(false, BondStatus::Unbonded), Ok(ValidatorStatus::Inactive));
    assert_eq!(status(true, BondStatus::Unbonding), Ok(ValidatorStatus::Jailed));
    assert!(status(false, BondStatus::Unspecified).is_err());
    assert!(known(&one(false, BondStatus::Bonded, "1000000000000000001")).is_err());
    assert!(known(&Validator { commission: None, ..one(false, BondStatus::Bonded, "0") }).is_err());
}

#[test]
fn a_delegation_is_worth_what_its_shares_are_and_is_locked_whole() {
    let rates = rates(&[one(false, BondStatus::Bonded, "0")]).unwrap();
    let whom = validator(VALIDATOR).unwrap();
    let shares = Decimals::from_text("1000000007").unwrap();
    // 1000000007 x 0.9999, floored.
    let delegated = |worth| vec![Delegated { validator: whom.clone(), shares, worth: units(worth) }];
    let rewards = BTreeMap::from([(whom.clone(), units(12))]);
    let found = held(delegated(999_900_006), &rates, &[], &rewards).unwrap();
    let zero = BaseUnits::ZERO;
    let whole = Delegation {
        validator: whom.clone(),
        amount: units(999_900_006),
        pending_reward: units(12),
        redelegation_locked: zero,
    };
    assert_eq!(found, [whole.clone()]);
    let locked = held(delegated(999_900_006), &rates, std::slice::from_ref(&whom), &rewards).unwrap();
    assert_eq!(locked, [Delegation { redelegation_locked: units(999_900_006), ..whole }]);
    let lying = held(delegated(999_900_007), &rates, &[], &rewards).unwrap_err();
    assert!(matches!(&lying, ChainError::Untrusted(why) if why.contains("are worth 999900006")), "{lying:?}");
    let dust = vec![Delegated { validator: whom.clone(), shares: Decimals::from_wire("1").unwrap(), worth: zero }];
    assert_eq!(held(dust, &rates, &[], &rewards), Ok(vec![]));
    assert!(held(delegated(999_900_006), &BTreeMap::new(), &[], &rewards).is_err());
}

#[test]
fn unbondings_are_told_in_the_order_in_which_they_began() {
    let entry = |began, seconds, balance: &str| UnbondingDelegationEntry {
        creation_height: began,
        completion_time: Some(Timestamp { seconds, nanos: 999 }),
        balance: balance.to_owned(),
    };
    let from = |entries| UnbondingDelegation {
        delegator_address: "cosmos1".to_owned(),
        validator_address: VALIDATOR.to_owned(),
        entries,
    };
    let found = pending(&[from(vec![entry(3, 30, "3"), entry(9, 90, "0")]), from(vec![entry(5, 50, "5")])]).unwrap();
    let told: Vec<_> = found.iter().map(|one| (one.amount.get(), one.matures_at.get(), one.matured)).collect();
    assert_eq!(told, [(3, 30, false), (5, 50, false), (0, 90, false)]);
    assert!(pending(&[from(vec![UnbondingDelegationEntry { completion_time: None, ..entry(3, 30, "3") }])]).is_err());
}

#[tokio::test]
async fn the_descriptor_has_the_limits_that_the_chain_says() {
    let terms = Terms {
        asset: AssetId::new("ATOM").unwrap(),
        gas_price: Decimal::from_str_exact("0.005").unwrap(),
        typical_gas: 400_001,
    };
    let reads = super::super::reads::nowhere();
    let unbonding_time = Some(Duration { seconds: 1_814_400, nanos: 0 });
    let params = Params { unbonding_time, max_entries: 7, bond_denom: "uatom".to_owned() };
    let found = described(&reads, &terms, &params).unwrap();
    assert_eq!((found.unbonding_seconds, found.limits.redelegation_lock_seconds), (1_814_400, 1_814_400));
    assert_eq!((found.limits.max_unbonding_entries, found.fee_estimate), (7, units(2_001)));
    assert!(!found.limits.unbonding_entries_per_account && !found.simulated);
    assert!(described(&reads, &terms, &Params { max_entries: 0, ..params.clone() }).is_err());
    assert!(described(&reads, &terms, &Params { unbonding_time: None, ..params }).is_err());
    let free = Terms { gas_price: -Decimal::ONE, ..terms };
    assert!(described(&reads, &free, &Params { unbonding_time, max_entries: 7, ..Params::default() }).is_err());
}
