//! What is written reads back as the same, and what is malformed is named by its path.

use super::transaction::contents;
use super::*;
use crate::chain::simulated::presets;
use crate::chain::{Delegation, Descriptor, Lookup, Observation, Signed, Unbonding};
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::operation::OperationKind;
use crate::domain::signing::{Decoded, Lifetime};
use crate::domain::time::UnixSeconds;
use crate::domain::validator::{ChainValidator, ValidatorStatus};
use crate::pb::adapter::v1 as pb;

fn units(units: u64) -> BaseUnits {
    BaseUnits::from_u64(units)
}

fn who(name: &str) -> ValidatorId {
    ValidatorId::new(name).unwrap()
}

fn id() -> OperationId {
    OperationId::new("atom:delegate:1:0").unwrap()
}

fn memo() -> TransferId {
    TransferId::new("t-1").unwrap()
}

fn key(index: u32) -> EffectKey {
    EffectKey { transaction: TransactionId::new("AB12").unwrap(), index }
}

fn kinds() -> Vec<OperationKind> {
    use OperationKind as K;
    vec![
        K::Delegate { validator: who("v1"), amount: BaseUnits::MAX },
        K::Undelegate { validator: who("v1"), amount: units(1) },
        K::Redelegate { from: who("v1"), to: who("v2"), amount: units(2) },
        K::Claim { validator: Some(who("v1")) },
        K::Claim { validator: None },
        K::Withdraw { validator: Some(who("v1")) },
        K::Withdraw { validator: None },
        K::SendToCustody { transfer: memo(), amount: units(3) },
    ]
}

fn effect_kinds() -> Vec<EffectKind> {
    use EffectKind as K;
    let (validator, amount) = (who("v1"), units(7));
    let (earned_from, earned_to) = (UnixSeconds::new(-5), UnixSeconds::new(5));
    let (delegated, unbonding) = (units(1), units(0));
    vec![
        K::TransferIn { transfer: Some(memo()), amount },
        K::TransferIn { transfer: None, amount: BaseUnits::MAX },
        K::TransferOut { transfer: Some(memo()), amount },
        K::Delegated { validator: validator.clone(), amount },
        K::Undelegated { validator: validator.clone(), amount, matures_at: UnixSeconds::new(9) },
        K::Redelegated { from: validator.clone(), to: who("v2"), amount },
        K::Matured { validator: validator.clone(), amount },
        K::Withdrawn { amount },
        K::RewardPaid { validator: None, amount, earned_from, earned_to },
        K::RewardPaid { validator: Some(validator.clone()), amount, earned_from, earned_to },
        K::RewardCompounded { validator: validator.clone(), amount, earned_from, earned_to },
        K::FeePaid { amount },
        K::Slashed { validator: validator.clone(), delegated, unbonding },
        K::SlashReversed { slash: key(3), validator, delegated, unbonding },
    ]
}

fn all_effects() -> Vec<Effect> {
    let numbered = (0..).zip(effect_kinds());
    let of = |(index, kind): (u32, EffectKind)| Effect {
        key: key(index),
        height: 10 + u64::from(index),
        at: UnixSeconds::new(1_800_000_000),
        operation: Some(id()),
        kind,
    };
    numbered.map(of).collect()
}

fn seen() -> Observation {
    let status =
        [ValidatorStatus::Active, ValidatorStatus::Inactive, ValidatorStatus::Jailed, ValidatorStatus::Tombstoned];
    let one = |(n, status): (u32, ValidatorStatus)| ChainValidator {
        id: who(&format!("v{n}")),
        moniker: "Prüfer".to_owned(),
        status,
        commission: Decimal::new(i64::from(n), 2),
        tokens: BaseUnits::MAX,
    };
    let (pending_reward, redelegation_locked) = (units(1), units(5));
    let delegation = Delegation { validator: who("v1"), amount: units(5), pending_reward, redelegation_locked };
    let matures_at = UnixSeconds::new(77);
    let unbonding = Unbonding { validator: who("gone"), amount: units(4), matures_at, matured: true };
    Observation {
        height: u64::MAX,
        at: UnixSeconds::new(1_800_000_000),
        liquid: units(0),
        delegations: vec![delegation],
        unbondings: vec![unbonding],
        validators: (0..).zip(status).map(one).collect(),
    }
}

fn says(intent: OperationKind) -> Decoded {
    let lifetime = Lifetime { nonce: Some(0), expires_at: Some(UnixSeconds::new(8)), expires_height: Some(9) };
    Decoded { intent, sender: "stake".into(), recipient: Some("custody".into()), max_fee: units(0), lifetime }
}

fn sent() -> Signed {
    let lifetime = Lifetime { nonce: None, expires_at: None, expires_height: Some(3) };
    Signed { bytes: vec![0, 255], transaction: TransactionId::new("AB12").unwrap(), lifetime }
}

#[test]
fn what_is_written_reads_back() {
    for kind in kinds() {
        assert_eq!(operation(write_operation(&kind)).as_ref(), Ok(&kind));
        let says = says(kind);
        assert_eq!(contents(write_contents(&says)), Ok(says));
    }
    assert_eq!(signed(Some(write_signed(&sent()))), Ok(sent()));
    let effects_ = all_effects();
    assert_eq!(effects(write_effects(&effects_), 9, 100), Ok(effects_.clone()));
    assert_eq!(observation(write_observation(&seen())), Ok(seen()));
    let failed = Lookup::Failed { height: 10, reason: "why".into(), effects: effects_.clone() };
    let done = Lookup::Done { height: 10, effects: effects_ };
    for answer in [Lookup::AbsentForGood, Lookup::Absent, Lookup::Pending, done, failed] {
        assert_eq!(lookup(&id(), write_lookup(&answer)), Ok(answer));
    }
    for name in presets::NAMES {
        let it: Descriptor = presets::preset(name).unwrap().descriptor();
        assert_eq!(descriptor(write_descriptor(&it)), Ok(it));
    }
}

fn bad_descriptor(change: impl FnOnce(&mut pb::GetDescriptorResponse)) -> String {
    let mut answer = write_descriptor(&presets::atom().descriptor());
    change(&mut answer);
    descriptor(answer).unwrap_err().to_string()
}

#[test]
fn a_descriptor_that_is_none_is_named() {
    assert_eq!(
        bad_descriptor(|it| it.asset = "atom".into()),
        "asset: an asset is 1 to 16 upper-case letters or digits"
    );
    assert_eq!(bad_descriptor(|it| it.limits = None), "limits: is missing");
    let min = |it: &mut pb::GetDescriptorResponse, text: &str| {
        it.limits.as_mut().unwrap().min_delegation_base_units = text.into();
    };
    for text in ["", "-1", "1.0", "01"] {
        assert!(
            bad_descriptor(|it| min(it, text)).starts_with("limits.min_delegation_base_units: an amount is"),
            "{text}"
        );
    }
    assert!(bad_descriptor(|it| min(it, &(1_u128 << 127).to_string())).contains("past the largest"));
    assert_eq!(bad_descriptor(|it| it.reward_style = 0), "reward_style: is not said");
    assert_eq!(bad_descriptor(|it| it.withdraw_style = 17), "withdraw_style: is not said");
    assert_eq!(
        bad_descriptor(|it| it.custody_address.clone_from(&it.staking_address)),
        "custody_address: is the staking address too"
    );
    assert!(bad_descriptor(|it| it.staking_address = "a b".into()).starts_with("staking_address: an address"));
    assert_eq!(bad_descriptor(|it| it.epoch_seconds = 0), "epoch_seconds: is zero");
    assert_eq!(bad_descriptor(|it| it.decimals = 39), "decimals: are more than 38");
}

fn bad_observation(change: impl FnOnce(&mut pb::ObserveResponse)) -> String {
    let mut answer = write_observation(&seen());
    change(&mut answer);
    observation(answer).unwrap_err().to_string()
}

#[test]
fn an_observation_that_contradicts_itself_is_named() {
    assert!(bad_observation(|it| it.liquid_base_units = "x".into()).starts_with("liquid_base_units: an amount"));
    assert_eq!(bad_observation(|it| it.validators[1].id = "v0".into()), "validators[1].id: v0 stands there twice");
    assert_eq!(
        bad_observation(|it| it.delegations[0].validator = "v9".into()),
        "delegations[0].validator: v9 is not among the validators"
    );
    assert_eq!(
        bad_observation(|it| it.delegations.push(it.delegations[0].clone())),
        "delegations[1].validator: v1 stands there twice"
    );
    assert_eq!(
        bad_observation(|it| it.delegations[0].redelegation_locked_base_units = "6".into()),
        "delegations[0].redelegation_locked_base_units: is more than the amount"
    );
    assert_eq!(
        bad_observation(|it| it.unbondings[0].amount_base_units = "0".into()),
        "unbondings[0].amount_base_units: is zero"
    );
    for text in ["1.01", "-0.1", "+0.1", "", "0.1e1", "ten"] {
        let why = bad_observation(|it| it.validators[2].commission = text.into());
        assert_eq!(why, "validators[2].commission: a share is a decimal from 0 to 1", "{text}");
    }
    assert_eq!(bad_observation(|it| it.validators[0].status = 0), "validators[0].status: is not said");
}

#[test]
fn a_transaction_that_is_none_is_named() {
    let bad = |change: &dyn Fn(&mut crate::pb::chain::v1::Contents)| {
        let mut answer = write_contents(&says(OperationKind::Delegate { validator: who("v1"), amount: units(1) }));
        change(&mut answer);
        unsigned(vec![1], Some(answer)).unwrap_err().to_string()
    };
    assert_eq!(bad(&|it| it.operation = None), "contents.operation: is missing");
    assert_eq!(bad(&|it| it.operation.as_mut().unwrap().kind = None), "contents.operation.kind: is missing");
    assert_eq!(bad(&|it| it.lifetime = None), "contents.lifetime: is missing");
    assert!(bad(&|it| it.sender = String::new()).starts_with("contents.sender: an address"));
    assert!(bad(&|it| it.recipient = Some(String::new())).starts_with("contents.recipient: an address"));
    assert!(bad(&|it| it.max_fee_base_units = "1.5".into()).starts_with("contents.max_fee_base_units: an amount"));
    let none = unsigned(Vec::new(), None).unwrap_err().to_string();
    assert_eq!(none, "sign_bytes: is empty");
    assert_eq!(signed(None).unwrap_err().to_string(), "transaction: is missing");
    let kind = OperationKind::Claim { validator: None };
    let answer =
        pb::AssembleResponse { transaction: Some(write_signed(&sent())), contents: Some(write_contents(&says(kind))) };
    let why = assembled(answer).unwrap_err().to_string();
    assert_eq!(why, "transaction.lifetime: is another than that of the contents");
}

#[test]
fn effects_that_are_none_are_named() {
    let bad = |change: &dyn Fn(&mut Vec<pb::Effect>)| {
        let mut list = write_effects(&all_effects());
        change(&mut list);
        effects(list, 9, 100).unwrap_err().to_string()
    };
    assert_eq!(bad(&|it| it[2].key = None), "effects[2].key: is missing");
    assert_eq!(bad(&|it| it[2].kind = None), "effects[2].kind: is missing");
    assert!(bad(&|it| it[0].operation_id = Some(String::new())).starts_with("effects[0].operation_id: an operation"));
    assert_eq!(bad(&|it| it[0].height = 9), "effects[0].height: 9 is not within 9 and 100, in chain order");
    assert_eq!(bad(&|it| it[13].height = 101), "effects[13].height: 101 is not within 22 and 100, in chain order");
    assert_eq!(bad(&|it| it.swap(3, 4)), "effects[4].height: 13 is not within 14 and 100, in chain order");
    let earned = bad(&|it| {
        if let Some(pb::effect::Kind::RewardPaid(paid)) = it[8].kind.as_mut() {
            paid.earned_to_seconds = -6;
        }
    });
    assert_eq!(earned, "effects[8].reward_paid.earned_to_seconds: is before its beginning");
}

#[test]
fn a_look_up_answers_what_was_asked() {
    let of = |effects: Vec<Effect>, height| {
        let answer = write_lookup(&Lookup::Done { height, effects });
        lookup(&id(), answer).unwrap_err().to_string()
    };
    let other = OperationId::new("other").unwrap();
    let stolen = lookup(&other, write_lookup(&Lookup::Done { height: 10, effects: all_effects() }));
    assert_eq!(stolen.unwrap_err().to_string(), "done.effects[0].operation_id: is not other, which was asked for");
    assert_eq!(of(all_effects(), 11), "done.effects[0].height: is before the operation's");
    let twice = vec![all_effects()[0].clone(), all_effects()[0].clone()];
    assert_eq!(of(twice, 10), "done.effects[1].key: AB12/0 stands there twice");
    let none = lookup(&id(), pb::LookupResponse { outcome: None });
    assert_eq!(none.unwrap_err().to_string(), "outcome: is missing");
}
