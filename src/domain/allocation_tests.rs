use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

#[path = "allocation/entries_tests.rs"]
mod entries;

fn id(n: usize) -> ValidatorId {
    ValidatorId::new(&format!("v{n:03}")).unwrap()
}

fn units(n: u128) -> BaseUnits {
    BaseUnits::new(n).unwrap()
}

fn candidate(n: usize) -> Candidate {
    Candidate {
        validator: ChainValidator {
            id: id(n),
            moniker: String::new(),
            status: ValidatorStatus::Active,
            commission: Decimal::new(5, 2),
            tokens: units(1_000_000),
        },
        weight: None,
        group: None,
        removed: false,
    }
}

fn limits() -> AllocationLimits {
    AllocationLimits {
        max_share_bps: 10_000,
        max_group_share_bps: 10_000,
        max_commission: Decimal::new(20, 2),
        max_validators: 1_000,
        min_delegation: units(1),
        delegation_unit: units(1),
        min_move: units(1),
        redelegation: true,
        unbonding_room: None,
    }
}

fn holding(delegated: u128) -> Holding {
    Holding { delegated: units(delegated), unbonding_room: 7, ..Holding::default() }
}

fn request(validators: usize, stake: u128, limits: AllocationLimits) -> AllocationRequest {
    AllocationRequest {
        target: units(stake),
        stake: units(stake),
        unstake: BaseUnits::ZERO,
        candidates: (0..validators).map(candidate).collect(),
        holdings: BTreeMap::new(),
        limits,
    }
}

/// Moves in short: "D v000 5 BELOW_WEIGHT".
fn short(allocation: &Allocation) -> Vec<String> {
    let line = |step: &Move| match &step.kind {
        OperationKind::Delegate { validator, amount } => format!("D {validator} {amount} {}", step.reason.name()),
        OperationKind::Undelegate { validator, amount } => format!("U {validator} {amount} {}", step.reason.name()),
        OperationKind::Redelegate { from, to, amount } => format!("R {from} {to} {amount} {}", step.reason.name()),
        other => format!("{other:?}"),
    };
    allocation.moves.iter().map(line).collect()
}

#[test]
fn equal_weights_by_default_and_the_largest_remainder_by_id() {
    let out = allocate(&request(3, 100, limits())).unwrap();
    assert_eq!(short(&out), ["D v000 34 BELOW_WEIGHT", "D v001 33 BELOW_WEIGHT", "D v002 33 BELOW_WEIGHT"]);
    assert_eq!(out.not_staked, BaseUnits::ZERO);
}

#[test]
fn weights_are_kept_and_those_without_are_not_chosen() {
    let mut request = request(3, 100, limits());
    request.candidates[0].weight = Some(3);
    request.candidates[2].weight = Some(1);
    let out = allocate(&request).unwrap();
    assert_eq!(short(&out), ["D v000 75 BELOW_WEIGHT", "D v002 25 BELOW_WEIGHT"]);
}

#[test]
fn caps_bind_by_name_and_less_is_staked() {
    let out = allocate(&request(3, 100, AllocationLimits { max_share_bps: 2_000, ..limits() })).unwrap();
    assert_eq!((out.staked, out.not_staked), (units(60), units(40)));
    assert!(out.result.values().all(|amount| *amount == units(20)));
    assert_eq!(out.binding, [0, 1, 2].map(|n| Binding::ValidatorShare(id(n))).into());

    let mut grouped = request(3, 100, AllocationLimits { max_group_share_bps: 3_000, ..limits() });
    let group = OperatorGroup::new("g").unwrap();
    grouped.candidates[0].group = Some(group.clone());
    grouped.candidates[1].group = Some(group);
    let out = allocate(&grouped).unwrap();
    assert_eq!(short(&out), ["D v002 70 BELOW_WEIGHT", "D v000 15 BELOW_WEIGHT", "D v001 15 BELOW_WEIGHT"]);
}

#[test]
fn nobody_eligible_is_said() {
    let mut request = request(2, 100, limits());
    request.candidates[0].validator.status = ValidatorStatus::Inactive;
    request.candidates[1].validator.commission = Decimal::ONE;
    let out = allocate(&request).unwrap();
    assert_eq!((out.moves.len(), out.not_staked), (0, units(100)));
    assert_eq!(out.binding, [Binding::NoEligibleValidator].into());
}

#[test]
fn the_punished_and_the_removed_are_drained_first() {
    let mut request = request(4, 0, limits());
    request.target = units(300);
    for n in 0..4 {
        request.holdings.insert(id(n), holding(100));
    }
    request.unstake = units(100);
    request.candidates[1].removed = true;
    request.candidates[2].validator.status = ValidatorStatus::Jailed;
    let out = allocate(&request).unwrap();
    assert_eq!(
        short(&out),
        ["U v002 100 DRAIN_JAILED", "R v001 v000 50 DRAIN_REMOVED", "R v001 v003 50 DRAIN_REMOVED"]
    );
}

#[test]
fn what_cannot_be_redelegated_is_unbonded() {
    let mut base = request(2, 0, limits());
    base.target = units(200);
    base.holdings.insert(id(0), Holding { redelegation_locked: units(60), ..holding(100) });
    base.holdings.insert(id(1), holding(100));
    base.candidates[0].validator.status = ValidatorStatus::Tombstoned;
    let out = allocate(&base).unwrap();
    assert_eq!(short(&out), ["U v000 60 DRAIN_TOMBSTONED", "R v000 v001 40 DRAIN_TOMBSTONED"]);
    assert!(out.binding.contains(&Binding::RedelegationLocked(id(0))));

    base.limits.redelegation = false;
    assert_eq!(short(&allocate(&base).unwrap()), ["U v000 100 DRAIN_TOMBSTONED"]);
    base.holdings.get_mut(&id(0)).unwrap().unbonding_room = 0;
    let out = allocate(&base).unwrap();
    assert!(out.moves.is_empty());
    assert_eq!(out.binding, [Binding::UnbondingEntries(id(0))].into());
}

#[test]
fn an_exit_is_served_past_the_weights_where_entries_are_used_up() {
    let mut base = request(2, 0, limits());
    base.target = units(100);
    base.unstake = units(100);
    base.holdings.insert(id(0), Holding { unbonding_room: 0, ..holding(100) });
    base.holdings.insert(id(1), holding(100));
    base.limits.redelegation = false;
    let out = allocate(&base).unwrap();
    assert_eq!(short(&out), ["U v001 100 RESERVE_NEED"]);
    assert_eq!(out.not_unstaked, BaseUnits::ZERO);
}

#[test]
fn a_small_need_makes_few_moves() {
    let mut base = request(100, 0, limits());
    base.target = units(99_000);
    base.unstake = units(1_000);
    base.limits.min_move = units(300);
    for n in 0..100 {
        base.holdings.insert(id(n), holding(1_000));
    }
    let out = allocate(&base).unwrap();
    assert_eq!((out.moves.len(), out.unstaked), (4, units(1_000)));
    base.unstake = BaseUnits::ZERO;
    base.target = units(101_000);
    base.stake = units(1_000);
    let out = allocate(&base).unwrap();
    assert_eq!((out.moves.len(), out.staked), (3, units(1_000)));
}

#[test]
fn a_full_set_opens_no_further_validator() {
    let mut base = request(4, 30, AllocationLimits { max_validators: 2, ..limits() });
    base.target = units(230);
    base.holdings.insert(id(2), holding(100));
    base.holdings.insert(id(3), holding(100));
    let out = allocate(&base).unwrap();
    assert_eq!(short(&out), ["D v002 15 BELOW_WEIGHT", "D v003 15 BELOW_WEIGHT"]);
}

#[test]
fn whole_units_and_the_least_delegation() {
    let base = request(
        5,
        10_999_999,
        AllocationLimits { delegation_unit: units(1_000_000), min_delegation: units(4_000_000), ..limits() },
    );
    let out = allocate(&base).unwrap();
    assert_eq!(short(&out), ["D v000 5000000 BELOW_WEIGHT", "D v001 5000000 BELOW_WEIGHT"]);
    assert_eq!(out.not_staked, units(999_999));
    assert_eq!(out.binding, [Binding::MinMove].into());
}

#[test]
fn amounts_of_24_decimals_and_a_thousand_validators() {
    let whole = u128::MAX / 4;
    let mut base = request(1_000, whole, AllocationLimits { max_share_bps: 11, ..limits() });
    for (n, candidate) in base.candidates.iter_mut().enumerate() {
        candidate.weight = Some(1 + u32::try_from(n).unwrap() % 7);
    }
    let out = allocate(&base).unwrap();
    assert_eq!(out.staked.get() + out.not_staked.get(), whole);
    assert!(out.not_staked < units(1_000));
}

/// A request out of anything, small enough that limits bind often.
fn any_request() -> impl Strategy<Value = AllocationRequest> {
    let seat = (
        (0_u8..12, prop_oneof![Just(None), (0_u32..5).prop_map(Some)], 0_u8..5, any::<bool>()),
        (0_u128..3, 0_u128..2_000, 0_u128..200, 0_u128..400, 0_u128..300, 0_u32..4),
    );
    let numbers = (0_u128..20_000, 0_u128..6_000, 0_u128..6_000);
    let limits = (
        (500_u32..10_001, 1_000_u32..10_001, 1_u32..14),
        (0_u128..300, 1_u128..40, 0_u128..200, any::<bool>(), prop_oneof![Just(None), (0_u32..4).prop_map(Some)]),
    );
    let scale = prop_oneof![Just(1_u128), Just(1_000_000_007), Just(10_u128.pow(30))];
    (proptest::collection::vec(seat, 0..14), numbers, limits, scale).prop_map(|(seats, numbers, limits, scale)| {
        let mut candidates = Vec::new();
        let mut holdings = BTreeMap::new();
        for (n, ((kind, weight, group, stranger), held)) in seats.into_iter().enumerate() {
            let (some, delegated, coming, out, locked, room) = held;
            if some > 0 {
                let delegated = delegated * scale;
                let holding = Holding {
                    delegated: units(delegated),
                    pending_in: units(if some == 2 { coming * scale } else { 0 }),
                    pending_out: units((out * scale).min(delegated) * u128::from(some == 2)),
                    missing: units(if kind > 8 { (coming * scale).min(delegated) } else { 0 }),
                    redelegation_locked: units((locked * scale).min(delegated)),
                    unbonding_room: room,
                    ..Holding::default()
                };
                holdings.insert(id(n), holding);
            }
            if stranger && kind == 11 {
                continue;
            }
            let mut candidate = candidate(n);
            candidate.weight = weight;
            candidate.group = (group < 3).then(|| OperatorGroup::new(&format!("g{group}")).unwrap());
            candidate.validator.status = match kind {
                0 => ValidatorStatus::Jailed,
                1 => ValidatorStatus::Tombstoned,
                2 => ValidatorStatus::Inactive,
                _ => ValidatorStatus::Active,
            };
            candidate.removed = kind == 3;
            candidate.validator.commission = Decimal::new(if kind == 4 { 90 } else { 5 }, 2);
            candidates.push(candidate);
        }
        let ((share, group_share, most), (least, unit, min_move, redelegation, room)) = limits;
        AllocationRequest {
            target: units(numbers.0 * scale),
            stake: units(numbers.1 * scale),
            unstake: units(numbers.2 * scale),
            candidates,
            holdings,
            limits: AllocationLimits {
                max_share_bps: share,
                max_group_share_bps: group_share,
                max_commission: Decimal::new(20, 2),
                max_validators: most,
                min_delegation: units(least * scale),
                delegation_unit: units(unit),
                min_move: units(min_move * scale),
                redelegation,
                unbonding_room: room,
            },
        }
    })
}

fn start(request: &AllocationRequest, validator: &ValidatorId) -> u128 {
    request
        .holdings
        .get(validator)
        .map_or(0, |holding| holding.delegated.get() - holding.pending_out.get() + holding.pending_in.get())
}

/// What has to be true of any allocation, computed from the request and the moves alone.
fn sound(request: &AllocationRequest, out: &Allocation) -> Result<(), TestCaseError> {
    let limits = &request.limits;
    let mut now: BTreeMap<ValidatorId, i128> =
        request.holdings.keys().map(|v| (v.clone(), i128::try_from(start(request, v)).unwrap())).collect();
    let before: i128 = now.values().sum();
    let (mut staked, mut unstaked, mut moved) = (0, 0, 0);
    let mut leaves = BTreeMap::<ValidatorId, u128>::new();
    let mut redelegated_out = BTreeMap::<ValidatorId, u128>::new();
    let (mut sources, mut sinks, mut unbondings) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let unit = limits.delegation_unit.get();
    for step in &out.moves {
        match &step.kind {
            OperationKind::Delegate { validator, amount } => {
                prop_assert!(!amount.is_zero() && amount.get() % unit == 0 && amount.get() >= limits.min_move.get());
                prop_assert!(sinks.insert(("D", validator.clone(), validator.clone())), "one delegate a validator");
                *now.entry(validator.clone()).or_default() += amount.signed().get();
                staked += amount.get();
            }
            OperationKind::Undelegate { validator, amount } => {
                prop_assert!(!amount.is_zero() && unbondings.insert(validator.clone()));
                prop_assert!(request.holdings[validator].unbonding_room > 0);
                *now.entry(validator.clone()).or_default() -= amount.signed().get();
                *leaves.entry(validator.clone()).or_default() += amount.get();
                sources.insert(validator.clone());
                unstaked += amount.get();
            }
            OperationKind::Redelegate { from, to, amount } => {
                prop_assert!(limits.redelegation && from != to && !amount.is_zero());
                prop_assert!(sinks.insert(("R", from.clone(), to.clone())), "one redelegate a pair");
                *now.entry(from.clone()).or_default() -= amount.signed().get();
                *now.entry(to.clone()).or_default() += amount.signed().get();
                *leaves.entry(from.clone()).or_default() += amount.get();
                *redelegated_out.entry(from.clone()).or_default() += amount.get();
                sources.insert(from.clone());
                moved += amount.get();
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
    // Conservation, and the sums that it reports.
    prop_assert_eq!((staked, unstaked, moved), (out.staked.get(), out.unstaked.get(), out.redelegated.get()));
    let after: i128 = now.values().sum();
    prop_assert_eq!(after, before + i128::try_from(staked).unwrap() - i128::try_from(unstaked).unwrap());
    prop_assert_eq!(staked + out.not_staked.get(), request.stake.get());
    prop_assert!(unstaked + out.not_unstaked.get() >= request.unstake.get());
    now.retain(|_, amount| *amount != 0);
    let result: BTreeMap<_, _> = out.result.iter().map(|(v, amount)| (v.clone(), amount.signed().get())).collect();
    prop_assert_eq!(&now, &result);
    if let Some(room) = limits.unbonding_room {
        prop_assert!(unbondings.len() <= usize::try_from(room).unwrap());
    }
    // Nothing leaves that is not there, or that is locked; nothing comes to where something leaves.
    for (validator, amount) in &leaves {
        let holding = &request.holdings[validator];
        let here = holding.delegated.get() - holding.pending_out.get();
        prop_assert!(*amount <= here.saturating_sub(holding.missing.get()));
    }
    for (validator, amount) in &redelegated_out {
        let holding = &request.holdings[validator];
        let here = (holding.delegated.get() - holding.pending_out.get()).saturating_sub(holding.missing.get());
        prop_assert!(*amount <= here.saturating_sub(holding.redelegation_locked.get()));
    }
    for (_, _, sink) in &sinks {
        prop_assert!(!sources.contains(sink), "{} both gives and takes", sink);
    }
    // No move to whom it may not go, and none past a cap.
    let weighed = request.candidates.iter().any(|candidate| candidate.weight.is_some());
    let whole = u128::try_from(before).unwrap().saturating_sub(request.unstake.get()).max(request.target.get());
    let cap = |bps: u32| units(whole).mul_div_floor(bps.into(), 10_000).unwrap().get();
    let mut groups = BTreeMap::<&OperatorGroup, (u128, u128)>::new();
    for candidate in &request.candidates {
        let validator = &candidate.validator.id;
        let (old, new) = (start(request, validator), now.get(validator).map_or(0, |n| u128::try_from(*n).unwrap()));
        if new > old {
            let weight = candidate.weight.unwrap_or(u32::from(!weighed));
            prop_assert!(candidate.validator.status == ValidatorStatus::Active && !candidate.removed && weight > 0);
            prop_assert!(candidate.validator.commission <= limits.max_commission);
            prop_assert!(new <= cap(limits.max_share_bps), "{} at {} of {}", validator, new, whole);
            prop_assert!(new >= limits.min_delegation.get());
        }
        if new < old && new > 0 {
            prop_assert!(new >= limits.min_delegation.get().min(old), "{} left with {}", validator, new);
        }
        if let Some(group) = &candidate.group {
            let sums = groups.entry(group).or_default();
            (sums.0, sums.1) = (sums.0 + old, sums.1 + new);
        }
    }
    for (group, (old, new)) in groups {
        prop_assert!(new <= old || new <= cap(limits.max_group_share_bps), "{} {} {}", group, old, new);
    }
    let opened = now.keys().filter(|v| start(request, v) == 0).count();
    let held = request.holdings.keys().filter(|v| start(request, v) > 0).count();
    prop_assert!(opened == 0 || held + opened <= usize::try_from(limits.max_validators).unwrap());
    // Whatever is not done has a name.
    prop_assert!(out.not_staked.is_zero() || !out.binding.is_empty(), "unnamed {:?}", out);
    Ok(())
}

#[test]
fn ten_thousand_allocations_are_sound_and_depend_on_no_order() {
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    runner
        .run(&(any_request(), any::<usize>()), |(request, turn)| {
            let out = allocate(&request).unwrap();
            sound(&request, &out)?;
            let mut turned = request.clone();
            if !turned.candidates.is_empty() {
                let by = turn % turned.candidates.len();
                turned.candidates.rotate_left(by);
                turned.candidates.reverse();
            }
            prop_assert_eq!(allocate(&turned).unwrap(), out);
            Ok(())
        })
        .unwrap();
}

/// Once its moves are done, the same question gets an empty answer within a few runs: nothing goes to and fro.
#[test]
fn a_settled_allocation_stays_settled() {
    let config = Config { cases: 3_000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[17; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    runner
        .run(&any_request(), |mut request| {
            for run in 0..6 {
                let out = allocate(&request).unwrap();
                if run > 0 && out.moves.is_empty() {
                    return Ok(());
                }
                let settled = |(validator, amount): (&ValidatorId, &BaseUnits)| {
                    (validator.clone(), Holding { delegated: *amount, unbonding_room: 7, ..Holding::default() })
                };
                request.holdings = out.result.iter().map(settled).collect();
                request.stake = BaseUnits::ZERO;
                // As the reserve's plan would ask: what is staked past the target is not left there.
                request.unstake = BaseUnits::sum(out.result.values().copied()).unwrap().saturating_sub(request.target);
                request.limits.unbonding_room = None;
            }
            prop_assert!(false, "still moving: {:?}", short(&allocate(&request).unwrap()));
            Ok(())
        })
        .unwrap();
}

/// The properties above are worth what they meet: each kind of move, reason and limit has to occur.
#[test]
fn the_random_requests_meet_every_rule() {
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let met = std::cell::RefCell::new(BTreeMap::<String, u32>::new());
    runner
        .run(&any_request(), |request| {
            let out = allocate(&request).unwrap();
            let name = |binding: &Binding| format!("{binding:?}").split('(').next().unwrap_or_default().to_owned();
            let moves = out.moves.iter().map(|step| format!("{} {}", step.kind.name(), step.reason.name()));
            for what in moves.chain(out.binding.iter().map(name)) {
                *met.borrow_mut().entry(what).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    let met = met.into_inner();
    println!("{met:#?}");
    for drain in ["TOMBSTONED", "JAILED", "REMOVED", "INACTIVE", "COMMISSION_ABOVE_MAX", "NOT_CHOSEN"] {
        for kind in ["undelegate", "redelegate"] {
            assert!(met.contains_key(&format!("{kind} DRAIN_{drain}")), "{kind} {drain}");
        }
    }
    for what in [
        "delegate BELOW_WEIGHT",
        "delegate REST",
        "undelegate ABOVE_CAP",
        "undelegate RESERVE_NEED",
        "redelegate ABOVE_CAP",
        "redelegate ABOVE_WEIGHT",
        "NoEligibleValidator",
        "ValidatorShare",
        "GroupShare",
        "LosesStake",
        "MaxValidators",
        "MinDelegation",
        "MinMove",
        "UnbondingEntries",
        "UnbondingEntriesOfAccount",
        "RedelegationLocked",
        "NothingLeft",
    ] {
        assert!(met.contains_key(what), "{what}");
    }
}
