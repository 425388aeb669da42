use super::*;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn validator(n: u8) -> ValidatorId {
    ValidatorId::new(&format!("v{n}")).unwrap()
}

/// 60 liquid of which 10 are in flight, 700 with v1, 300 with v2, 100 unbonding from v2, 30 matured.
fn ledger() -> Ledger {
    let balances: [(Account, i128); 7] = [
        (AssetAccount::Custody.into(), -1_190),
        (AssetAccount::Liquid.into(), 50),
        (AssetAccount::InFlight.into(), 10),
        (AssetAccount::Delegated(validator(1)).into(), 700),
        (AssetAccount::Delegated(validator(2)).into(), 300),
        (AssetAccount::Unbonding.into(), 100),
        (AssetAccount::Matured.into(), 30),
    ];
    Ledger::from_balances(balances.map(|(account, n)| (account, SignedUnits::new(n)))).unwrap()
}

fn reading() -> Reading {
    Reading {
        liquid: units(60),
        delegated: [(validator(1), units(700)), (validator(2), units(300))].into(),
        unbonding: [(validator(2), units(100))].into(),
        matured: units(30),
    }
}

fn found(change: impl Fn(&mut Reading)) -> Vec<Difference> {
    let mut seen = reading();
    change(&mut seen);
    compare(&ledger(), &[(validator(2), units(100))].into(), &seen, units(2)).unwrap()
}

fn judged(change: impl Fn(&mut Reading)) -> Verdict {
    judge(&found(change))
}

#[test]
fn what_agrees_agrees_and_small_differences_are_told_and_let_pass() {
    assert_eq!(found(|_| {}), []);
    let small = found(|seen| seen.liquid = units(62));
    assert_eq!((small.len(), small[0].tolerated, small[0].apart()), (1, true, SignedUnits::new(2)));
    assert_eq!(judge(&small), Verdict::Agrees);
}

#[test]
fn missing_stake_is_a_drop_by_validator() {
    let drops = judged(|seen| {
        seen.delegated.insert(validator(2), units(285));
        seen.unbonding.insert(validator(2), units(95));
        seen.delegated.remove(&validator(1));
    });
    let one = Drop { delegated: units(700), unbonding: units(0) };
    let two = Drop { delegated: units(15), unbonding: units(5) };
    assert_eq!(drops, Verdict::Dropped([(validator(1), one), (validator(2), two)].into()));
}

#[test]
fn missing_liquid_or_matured_tokens_are_for_a_person() {
    assert_eq!(judged(|seen| seen.liquid = units(50)), Verdict::Unclear);
    assert_eq!(judged(|seen| seen.matured = units(0)), Verdict::Unclear);
    // A drop here and a rise there is somebody moving stake, not a slash.
    let moved = judged(|seen| {
        seen.delegated.insert(validator(1), units(600));
        seen.delegated.insert(validator(2), units(400));
    });
    assert_eq!(moved, Verdict::Unclear);
}

#[test]
fn more_than_the_ledger_has_is_growth_wherever_it_is() {
    let grown = judged(|seen| {
        seen.liquid = units(70);
        seen.delegated.insert(validator(3), units(9));
        seen.unbonding.insert(validator(1), units(8));
        seen.matured = units(37);
    });
    let said = [
        (Compared::Liquid, units(10)),
        (Compared::Delegated(validator(3)), units(9)),
        (Compared::Unbonding(validator(1)), units(8)),
        (Compared::Matured, units(7)),
    ];
    assert_eq!(grown, Verdict::Grown(said.into()));
}

#[test]
fn the_sum_of_unbondings_hides_no_difference_between_validators() {
    let verdict = judged(|seen| seen.unbonding = [(validator(1), units(100))].into());
    assert_eq!(verdict, Verdict::Unclear);
}

#[test]
fn a_pending_reward_is_paid_or_pending_later() {
    let one = |n| -> BTreeMap<_, _> { [(Some(validator(1)), units(n))].into() };
    let lost = |paid, now| lost_rewards(&one(100), &one(paid), &one(now), units(0));
    assert_eq!(lost(0, 100), []);
    assert_eq!(lost(0, 130), []);
    // A claim pays what was pending and what was earned since.
    assert_eq!(lost(105, 0), []);
    let short = lost(90, 3);
    assert_eq!((short[0].ledger, short[0].chain), (units(10), units(3)));
    assert_eq!(judge(&short), Verdict::Unclear);
}
