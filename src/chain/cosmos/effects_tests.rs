//! Blocks of a real network (cosmos-sdk 0.53.8, CometBFT 0.38.23) in which a staking address lived through everything,
//! with its state before and after each: see `fixtures/README.md`.

use super::*;
use crate::chain::cosmos::captured::{Captured, State, block, fixture};

fn id(validator: &str) -> ValidatorId {
    ValidatorId::new(validator).unwrap()
}

fn units(units: u64) -> BaseUnits {
    BaseUnits::from_u64(units)
}

/// Everything of one block, in its order.
fn told(us: &Us, captured: &Captured) -> Vec<Effect> {
    let block = block(captured);
    let OfBlock { begun, ended } = of_block(us, &block).unwrap();
    let transactions: Vec<Effect> =
        block.transactions.iter().flat_map(|transaction| of_transaction(us, &block, transaction).unwrap()).collect();
    let all = [begun.as_slice(), &transactions, &ended].concat();
    let OfStake { slashed, grown } = of_stake(&block, &captured.before.stake(), &captured.after.stake(), &all).unwrap();
    [begun, slashed, transactions, ended, grown].concat()
}

/// What effects do to what is liquid.
fn to_liquid(kind: &EffectKind) -> i128 {
    match kind {
        EffectKind::TransferIn { amount, .. }
        | EffectKind::Withdrawn { amount }
        | EffectKind::RewardPaid { amount, .. } => amount.signed().get(),
        EffectKind::TransferOut { amount, .. }
        | EffectKind::Delegated { amount, .. }
        | EffectKind::FeePaid { amount } => amount.negated().get(),
        _ => 0,
    }
}

#[test]
fn the_effects_of_every_block_explain_what_it_changed() {
    let (us, blocks) = fixture();
    let mut keys = std::collections::BTreeSet::new();
    for captured in &blocks {
        let (height, before, after) = (captured.height, captured.before.stake(), captured.after.stake());
        let effects = told(&us, captured);
        let liquid = |state: &State| base_units(&state.liquid).unwrap().signed().get();
        let change: i128 = effects.iter().map(|effect| to_liquid(&effect.kind)).sum();
        assert_eq!(liquid(&captured.after), liquid(&captured.before) + change, "liquid, block {height}");
        for whom in before.delegated.keys().chain(after.delegated.keys()).chain(before.unbonding.keys()) {
            let mut moves = Moves::of(&effects, whom);
            for effect in &effects {
                match &effect.kind {
                    EffectKind::Slashed { validator, delegated, unbonding } if validator == whom => {
                        moves.delegated -= delegated.signed().get();
                        moves.unbonding -= unbonding.signed().get();
                    }
                    EffectKind::RewardCompounded { validator, amount, .. } if validator == whom => {
                        moves.delegated += amount.signed().get();
                    }
                    _ => {}
                }
            }
            let of = |all: &BTreeMap<ValidatorId, BaseUnits>| all.get(whom).map_or(0, |amount| amount.signed().get());
            assert_eq!(
                of(&after.unbonding),
                of(&before.unbonding) + moves.unbonding,
                "unbonding {whom}, block {height}"
            );
            let lost = of(&before.delegated) + moves.delegated - of(&after.delegated);
            let most = i128::try_from(ROUNDING_UNITS.get() * moves.touched).unwrap();
            assert!((0..=most).contains(&lost), "delegated {whom}, block {height}: {lost} lost");
        }
        for effect in effects {
            assert!(effect.height == height && keys.insert(effect.key.clone()), "{} twice", effect.key);
        }
    }
}

/// The kinds of what block `height` did, without amounts that are rewards.
fn kinds_at(height: u64) -> Vec<(Option<String>, EffectKind)> {
    let (us, blocks) = fixture();
    let captured = blocks.iter().find(|captured| captured.height == height).unwrap();
    let told = told(&us, captured).into_iter();
    told.map(|effect| (effect.operation.map(|id| id.to_string()), effect.kind)).collect()
}

const V0: &str = "cosmosvaloper1kj8mydlnrejutjf76vkmdpdspsf7y7z9xv5pmz";
const V1: &str = "cosmosvaloper1ak74p5lavtfcht8pssumkhwaxj52z2huzzrcnv";
const V3: &str = "cosmosvaloper17fk3p4ltjh40lxflnhn453fnnextd2nlkychfk";

#[test]
fn what_operations_of_ours_did_is_theirs() {
    let of = |id: &str| Some(id.to_owned());
    let fee = |id: &str| (of(id), EffectKind::FeePaid { amount: units(2_500) });
    let delegated = EffectKind::Delegated { validator: id(V0), amount: units(1_000_000_000_000) };
    assert_eq!(kinds_at(4), [fee("atom:delegate:1:0"), (of("atom:delegate:1:0"), delegated)]);
    // It failed in its block, and cost its fee.
    assert_eq!(kinds_at(9), [fee("atom:redelegate:2:1")]);
    let transfer = Some(TransferId::new("t-77").unwrap());
    let sent = EffectKind::TransferOut { transfer, amount: units(123_456_789) };
    assert_eq!(kinds_at(10), [fee("atom:defund:t-77"), (of("atom:defund:t-77"), sent)]);
    // Each change of a delegation withdraws its reward by itself, on both sides of a redelegation.
    let [paid, first, second, moved] = kinds_at(8).try_into().unwrap();
    assert_eq!(paid, fee("atom:redelegate:2:0"));
    for (kind, whom) in [(first, V0), (second, V1)] {
        let whom = id(whom);
        assert!(matches!(&kind.1, EffectKind::RewardPaid { validator: Some(validator), .. } if *validator == whom));
    }
    let (from, to, amount) = (id(V0), id(V1), units(333_333_333_333));
    assert_eq!(moved.1, EffectKind::Redelegated { from, to, amount });
    // At a validator that was slashed the chain moved less than was asked for, which was 100,000,003.
    let (validator, amount, matures_at) = (id(V1), units(100_000_002), UnixSeconds::new(1_795_639_463));
    assert_eq!(kinds_at(31)[1].1, EffectKind::Undelegated { validator, amount, matures_at });
}

#[test]
fn what_nobody_of_ours_asked_for_is_told_too() {
    let transfer = Some(TransferId::new("fund-1").unwrap());
    assert_eq!(kinds_at(3), [(None, EffectKind::TransferIn { transfer, amount: units(2_500_000) })]);
    // Signed with our key, and its memo names nothing of ours.
    assert!(kinds_at(11).len() == 4 && kinds_at(11).iter().all(|(operation, _)| operation.is_none()));
    let [fee, reward, matured, withdrawn, delegated] = kinds_at(47).map_kinds();
    assert!(matches!(fee, EffectKind::FeePaid { .. }) && matches!(reward, EffectKind::RewardPaid { .. }));
    let (validator, amount) = (id(V0), units(3_000_000));
    assert_eq!(matured, EffectKind::Matured { validator: validator.clone(), amount });
    assert_eq!(withdrawn, EffectKind::Withdrawn { amount });
    assert_eq!(delegated, EffectKind::Delegated { validator, amount });
}

#[test]
fn what_the_chain_did_by_itself_is_told_at_its_height() {
    // Two entries of one validator mature in one block, and one event tells of both.
    let amount = units(1_999_999_944);
    let matured = EffectKind::Matured { validator: id(V1), amount };
    assert_eq!(kinds_at(67), [(None, matured), (None, EffectKind::Withdrawn { amount })]);
    // A downtime: of the delegation alone, since what unbonds began before it.
    let slashed = |validator, delegated, unbonding| {
        let (delegated, unbonding) = (units(delegated), units(unbonding));
        (None, EffectKind::Slashed { validator: id(validator), delegated, unbonding })
    };
    assert_eq!(kinds_at(19), [slashed(V1, 110_911_112, 0)]);
    // Two blocks at one height: of the delegation, of what unbonded since, and of what had been redelegated since, at the
    // validator where that is now, whose reward is withdrawn by it.
    let [reward, receiving, own] = kinds_at(52).try_into().unwrap();
    let whom = id(V3);
    assert!(matches!(&reward.1, EffectKind::RewardPaid { validator: Some(validator), .. } if *validator == whom));
    assert_eq!([receiving, own], [slashed(V3, 2_500_000_002, 0), slashed(V0, 30_483_333_329, 100_000_000)]);
}

trait Kinds {
    fn map_kinds<const N: usize>(self) -> [EffectKind; N];
}

impl Kinds for Vec<(Option<String>, EffectKind)> {
    fn map_kinds<const N: usize>(self) -> [EffectKind; N] {
        self.into_iter().map(|(_, kind)| kind).collect::<Vec<_>>().try_into().unwrap()
    }
}

mod made_by_hand {
    //! What the captured blocks have none of.

    use serde_json::{Value, json};

    use super::*;

    fn us() -> Us {
        Us { staking: "cosmos1us".to_owned(), custody: "cosmos1custody".to_owned(), denom: "uatom".to_owned() }
    }

    fn event(kind: &str, attributes: &[(&str, &str)]) -> Value {
        let attributes: Vec<Value> =
            attributes.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        json!({ "type": kind, "attributes": attributes })
    }

    fn events(all: &[Value]) -> Vec<Event> {
        all.iter().map(|one| serde_json::from_value(one.clone()).unwrap()).collect()
    }

    fn block(own: &[Value]) -> Block {
        Block { height: 7, at: UnixSeconds::new(70), transactions: Vec::new(), events: events(own) }
    }

    fn kinds(memo: &str, all: &[Value]) -> Result<Vec<(bool, EffectKind)>, ChainError> {
        let hash = TransactionId::new("AB").unwrap();
        let transaction = Transaction { hash, memo: memo.to_owned(), events: events(all) };
        let found = of_transaction(&us(), &block(&[]), &transaction)?;
        Ok(found.into_iter().map(|effect| (effect.operation.is_some(), effect.kind)).collect())
    }

    fn signed(by: &str) -> Value {
        event("tx", &[("acc_seq", &format!("{by}/4"))])
    }

    fn received(amount: &str, message: &str) -> Value {
        event("coin_received", &[("receiver", "cosmos1us"), ("amount", amount), ("msg_index", message)])
    }

    fn sent(to: &str, amount: &str) -> [Value; 2] {
        [
            event("coin_spent", &[("spender", "cosmos1us"), ("amount", amount), ("msg_index", "0")]),
            event("transfer", &[("recipient", to), ("sender", "cosmos1us"), ("amount", amount), ("msg_index", "0")]),
        ]
    }

    #[test]
    fn what_goes_elsewhere_than_to_custody_belongs_to_nothing_of_ours() {
        let [spent, transfer] = sent("cosmos1custody", "5uatom");
        let found = kinds("atom:defund:t1", &[signed("cosmos1us"), spent, transfer]).unwrap();
        let named = Some(TransferId::new("t1").unwrap());
        assert_eq!(found, [(true, EffectKind::TransferOut { transfer: named, amount: units(5) })]);
        let [spent, transfer] = sent("cosmos1thief", "5uatom");
        let found = kinds("atom:defund:t1", &[signed("cosmos1us"), spent, transfer]).unwrap();
        assert_eq!(found, [(false, EffectKind::TransferOut { transfer: None, amount: units(5) })]);
    }

    #[test]
    fn a_memo_of_somebody_else_names_no_operation() {
        let all = [signed("cosmos1usurper"), signed("cosmos1them"), received("5uatom,7ibc/AB", "1")];
        let found = kinds("atom:defund:t1", &all).unwrap();
        let named = Some(TransferId::new("t1").unwrap());
        assert_eq!(found, [(false, EffectKind::TransferIn { transfer: named, amount: units(5) })]);
        assert_eq!(
            kinds("what a nice day", &[received("5uatom", "0"), received("9ibc/AB", "1")]).unwrap(),
            [(false, EffectKind::TransferIn { transfer: None, amount: units(5) })]
        );
    }

    #[test]
    fn what_a_transaction_gives_back_of_its_fee_is_not_paid() {
        let spent = event("coin_spent", &[("spender", "cosmos1us"), ("amount", "500uatom")]);
        let back = event("coin_received", &[("receiver", "cosmos1us"), ("amount", "120uatom")]);
        let paid = vec![(true, EffectKind::FeePaid { amount: units(380) })];
        assert_eq!(kinds("atom:claim:1:all", &[signed("cosmos1us"), spent, back]), Ok(paid));
    }

    #[test]
    fn a_reward_counts_where_it_arrived_and_as_a_reward_only_if_it_is_ours() {
        let withdrawn = |of: &str, amount: &str| {
            let attributes = [("delegator", of), ("validator", "v1"), ("amount", amount), ("msg_index", "0")];
            event("withdraw_rewards", &attributes)
        };
        // Ours, paid to another withdraw address.
        assert_eq!(kinds("", &[withdrawn("cosmos1us", "5uatom")]), Ok(vec![]));
        // Another's, paid to us.
        let gift = kinds("", &[received("5uatom", "0"), withdrawn("cosmos1them", "5uatom")]).unwrap();
        assert_eq!(gift, [(false, EffectKind::TransferIn { transfer: None, amount: units(5) })]);
        let (amount, at) = (units(5), UnixSeconds::new(70));
        let reward = EffectKind::RewardPaid { validator: Some(id("v1")), amount, earned_from: at, earned_to: at };
        let several = [received("5uatom,3ibc/AB", "0"), withdrawn("cosmos1us", "5uatom,3ibc/AB")];
        assert_eq!(kinds("", &several), Ok(vec![(false, reward)]));
        assert_eq!(kinds("", &[withdrawn("cosmos1us", "0stake")]), Ok(vec![]));
        assert!(kinds("", &[received("5", "0")]).is_err() && kinds("", &[received("uatom", "0")]).is_err());
    }

    #[test]
    fn a_redelegation_of_somebody_else_is_not_ours() {
        let message = |sender| {
            let action = "/cosmos.staking.v1beta1.MsgBeginRedelegate";
            event("message", &[("action", action), ("sender", sender), ("msg_index", "0")])
        };
        let moved = [("source_validator", "v1"), ("destination_validator", "v2"), ("amount", "5uatom")];
        let moved = event("redelegate", &[&moved[..], &[("msg_index", "0")]].concat());
        assert_eq!(kinds("", &[message("cosmos1them"), moved.clone()]), Ok(vec![]));
        assert_eq!(kinds("", &[message("cosmos1us"), moved]).unwrap().len(), 1);
    }

    #[test]
    fn what_matured_has_to_arrive() {
        let matured = [("delegator", "cosmos1us"), ("validator", "v1"), ("amount", "5uatom"), ("mode", "EndBlock")];
        let matured = event("complete_unbonding", &matured);
        assert!(of_block(&us(), &block(std::slice::from_ref(&matured))).is_err());
        let arrived = event("coin_received", &[("receiver", "cosmos1us"), ("amount", "5uatom"), ("mode", "EndBlock")]);
        let found = of_block(&us(), &block(&[arrived.clone(), arrived, matured])).unwrap();
        let kinds: Vec<EffectKind> = found.ended.into_iter().map(|effect| effect.kind).collect();
        // One more has come by itself, as a spend of the community pool does.
        let gift = EffectKind::TransferIn { transfer: None, amount: units(5) };
        let matured = EffectKind::Matured { validator: id("v1"), amount: units(5) };
        assert_eq!((kinds, found.begun), (vec![gift, matured, EffectKind::Withdrawn { amount: units(5) }], vec![]));
    }

    fn stake(delegated: u64, unbonding: u64) -> Stake {
        let one = |amount| BTreeMap::from([(id("cosmosvaloper1a"), units(amount))]);
        Stake { delegated: one(delegated), unbonding: one(unbonding) }
    }

    #[test]
    fn what_others_leave_behind_is_told_and_no_more_than_they_could() {
        let others = [("validator", "cosmosvaloper1a"), ("delegator", "cosmos1them"), ("amount", "9uatom")];
        let others = event("unbond", &others);
        let grown = |own: &[Value], after: u64| {
            let found = of_stake(&block(own), &stake(100, 0), &stake(after, 0), &[]).unwrap();
            assert!(found.slashed.is_empty());
            found.grown.into_iter().map(|effect| (effect.key.to_string(), effect.kind)).collect::<Vec<_>>()
        };
        let (validator, amount, at) = (id("cosmosvaloper1a"), units(1), UnixSeconds::new(70));
        let one = EffectKind::RewardCompounded { validator, amount, earned_from: at, earned_to: at };
        assert_eq!(grown(std::slice::from_ref(&others), 101), [("rest-7/0".to_owned(), one)]);
        assert_eq!(grown(std::slice::from_ref(&others), 102), []);
        assert_eq!(grown(&[], 101), []);
        assert_eq!(grown(&[others], 99), []);
    }

    #[test]
    fn a_drop_is_a_slash_only_where_the_chain_slashed_and_past_our_own_rounding() {
        let slash = event("slash", &[("address", "cosmosvalcons1a"), ("reason", "missing_signature")]);
        let (validator, amount) = (id("cosmosvaloper1a"), units(10));
        let key = EffectKey { transaction: TransactionId::new("AB").unwrap(), index: 0 };
        let kind = EffectKind::Delegated { validator, amount };
        let ours = [Effect { key, height: 7, at: UnixSeconds::new(70), operation: None, kind }];
        let lost = |own: &[Value], after: Stake| {
            let found = of_stake(&block(own), &stake(100, 50), &after, &ours).unwrap();
            found.slashed.into_iter().map(|effect| effect.kind).collect::<Vec<_>>()
        };
        assert_eq!(lost(&[], stake(60, 40)), []);
        assert_eq!(lost(std::slice::from_ref(&slash), stake(108, 50)), []);
        let slashed = |delegated, unbonding| {
            let (delegated, unbonding) = (units(delegated), units(unbonding));
            EffectKind::Slashed { validator: id("cosmosvaloper1a"), delegated, unbonding }
        };
        assert_eq!(lost(std::slice::from_ref(&slash), stake(105, 40)), [slashed(5, 10)]);
        assert_eq!(lost(&[slash], Stake::default()), [slashed(110, 50)]);
    }

    #[test]
    fn only_events_that_can_change_a_stake_have_it_compared() {
        let one = |kind, value| events(&[event(kind, &[("validator", value)])]).remove(0);
        assert!(moves_stake(&one("unbond", "cosmosvaloper1a")) && moves_stake(&one("slash", "cosmosvalcons1a")));
        assert!(moves_stake(&one("of_some_later_module", "cosmosvaloper1a")));
        assert!(!moves_stake(&one("rewards", "cosmosvaloper1a")) && !moves_stake(&one("unbond", "cosmos1a")));
    }
}
