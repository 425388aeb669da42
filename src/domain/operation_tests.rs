use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

#[test]
fn every_pair_is_answered_and_the_end_is_the_end() {
    for state in OPERATION_STATES {
        for event in OPERATION_EVENTS {
            let answer = transition(state, event);
            if let (true, Ok(next)) = (state.ended(), answer) {
                assert_eq!(next, Transition { state, action: A::Nothing }, "{state:?} {event:?}");
            }
            if let Ok(Transition { state: next, action }) = answer {
                let books = matches!(action, A::Book | A::Release | A::Settle);
                assert_eq!(books, next.ended() && !state.ended(), "{state:?} {event:?}: booked exactly at the end");
            }
        }
    }
}

#[test]
fn what_is_expected_of_a_kind_follows_the_chain() {
    let pace = ChainPace { finality_seconds: 20, stake_move_seconds: 40_000 };
    let claim = OperationKind::Claim { validator: None };
    let amount = BaseUnits::from_u64(7);
    let move_stake = OperationKind::Undelegate { validator: ValidatorId::new("v").unwrap(), amount };
    assert_eq!((claim.expected_seconds(pace), move_stake.expected_seconds(pace)), (300, 80_000));
    assert_eq!((claim.asked(), move_stake.asked()), (None, Some(amount)));
    let settled = BaseUnits::from_u64(5);
    assert_eq!(move_stake.shortfall(settled), BaseUnits::from_u64(2));
    assert_eq!(move_stake.shortfall(BaseUnits::from_u64(9)), BaseUnits::ZERO, "a chain may sweep a rest along");
    assert_eq!(claim.shortfall(BaseUnits::ZERO), BaseUnits::ZERO);
}

/// The chain as the table may rely on it, and the bytes that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    /// Bytes were signed and not proved dead.
    alive: bool,
    /// They were broadcast at least once.
    sent: bool,
    /// They took effect.
    landed: bool,
    /// The number of effects, of all bytes ever made; counted to two.
    effects: u8,
}

/// What may truly happen in a world: an honest chain answers what is so, but answers get lost.
fn possible(state: OperationState, world: World) -> Vec<(OperationEvent, World)> {
    let mut all = Vec::new();
    if state == S::Planned {
        all.push((E::IntentStored, World { alive: true, sent: false, landed: false, ..world }));
    }
    // A broadcast whose answer is lost may land or not; the app sends only when told, which `walk` marks as `sent`.
    for event in OPERATION_EVENTS {
        let honest = match event {
            E::IntentStored => false,
            E::SubmitAccepted | E::SubmitLost => world.sent,
            // The refusal of a first broadcast is proof (the adapter's contract); later ones prove nothing: a chain also
            // refuses bytes that it has executed.
            E::SubmitRefused => state != S::Submitting || !world.landed,
            E::LookupAbsentForGood => world.alive && !world.landed,
            E::LookupAbsent => world.alive && !world.landed,
            E::LookupPending => world.landed,
            E::LookupDone => world.landed,
            E::LookupFailed => false,
            E::LookupUnavailable | E::AttemptsExhausted | E::TimeExhausted => true,
            E::OperatorRetry { bytes_stored } => bytes_stored == world.alive,
            E::OperatorResolvedDone => world.landed,
            E::OperatorResolvedFailed => !world.alive,
        };
        if !honest {
            continue;
        }
        let mut next = world;
        if event == E::LookupAbsentForGood || (event == E::SubmitRefused && state == S::Submitting) {
            next.alive = false;
            next.sent = false;
        }
        all.push((event, next));
    }
    all
}

/// Every world that can be reached from a planned operation: none has two effects.
#[test]
fn no_path_takes_effect_twice() {
    let mut seen = BTreeSet::new();
    let mut todo = vec![(S::Planned, World::default())];
    while let Some((state, world)) = todo.pop() {
        assert!(world.effects < 2, "two effects at {state:?} {world:?}");
        if !seen.insert((state, world)) {
            continue;
        }
        // Bytes that were sent and are alive may land at any time, also when we have stopped looking.
        if world.sent && world.alive && !world.landed {
            todo.push((state, World { landed: true, effects: world.effects + 1, ..world }));
        }
        for (event, after) in possible(state, world) {
            let Ok(next) = transition(state, event) else { continue };
            let mut after = after;
            if next.action == A::Rebuild {
                assert!(!after.alive, "rebuilt while bytes may take effect: {state:?} {event:?}");
            }
            if next.action == A::Submit {
                assert!(after.alive, "sent bytes that were proved dead");
                after.sent = true;
            }
            if next.state == S::Failed {
                assert!(!after.landed && !after.alive, "FAILED with live bytes: {state:?} {event:?} {after:?}");
            }
            todo.push((next.state, after));
        }
    }
    // Every state but FAILED-by-chain was reached, so the search was no empty one.
    let states: BTreeSet<_> = seen.iter().map(|(state, _)| *state).collect();
    assert_eq!(states.len(), OPERATION_STATES.len());
    assert!(seen.iter().any(|(state, world)| *state == S::Confirmed && world.effects == 1));
}

#[test]
fn ten_thousand_random_histories_keep_the_rule() {
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let events = proptest::collection::vec(0..OPERATION_EVENTS.len(), 1..40);
    runner
        .run(&events, |picks| {
            let mut state = S::Planned;
            // The generation of bytes that exists, and whether it was proved dead (or never made).
            let (mut generation, mut dead) = (0_u32, true);
            let mut ends = 0;
            for event in picks.into_iter().map(|pick| OPERATION_EVENTS[pick]) {
                // The app tells the truth of its own store; the rest is whatever comes.
                let event = match event {
                    E::OperatorRetry { .. } => E::OperatorRetry { bytes_stored: !dead },
                    event => event,
                };
                let Ok(next) = transition(state, event) else { continue };
                if event == E::LookupAbsentForGood && state != S::NeedsOperator {
                    dead = true;
                }
                if event == E::IntentStored {
                    prop_assert!(dead, "new bytes while generation {} lives", generation);
                    generation += 1;
                    dead = false;
                }
                if next.action == A::Submit {
                    prop_assert!(!dead && generation > 0);
                }
                if next.action == A::Rebuild {
                    prop_assert!(dead);
                }
                if matches!(next.action, A::Book | A::Release | A::Settle) {
                    ends += 1;
                }
                if state.ended() {
                    prop_assert_eq!(next.state, state);
                }
                state = next.state;
            }
            prop_assert_eq!(ends, i32::from(state.ended()));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_lost_answer_is_asked_for_and_never_answered_by_new_bytes() {
    let mut state = S::Planned;
    let mut actions = Vec::new();
    for event in [
        E::IntentStored,
        E::SubmitLost,
        E::LookupUnavailable,
        E::LookupAbsent,
        E::SubmitRefused,
        E::LookupPending,
        E::LookupDone,
    ] {
        let next = transition(state, event).unwrap();
        state = next.state;
        actions.push(next.action);
    }
    assert_eq!(actions, [A::Submit, A::Lookup, A::Nothing, A::Submit, A::Lookup, A::Nothing, A::Book]);
    assert_eq!(state, S::Confirmed);
    assert_eq!(transition(S::Unknown, E::IntentStored), Err(OperationRefusal::BytesAlive));
}

#[test]
fn bounds_end_the_trying() {
    let bounds = OperationBounds { max_attempts: 3, expected_seconds: 60, max_seconds: 600 };
    let start = UnixSeconds::new(1_000);
    let age = bounds.age(start, start.plus(61));
    assert!(age.overdue);
    assert_eq!(bounds.exhausted(2, age), None);
    assert_eq!(bounds.exhausted(3, age), Some(E::AttemptsExhausted));
    assert_eq!(bounds.exhausted(0, bounds.age(start, start.plus(601))), Some(E::TimeExhausted));
    assert!(!bounds.age(start, start.plus(-5)).overdue);
}

#[test]
fn ids_are_derived_and_fit() {
    let pool = PoolId::new(&"p".repeat(32)).unwrap();
    let validator = ValidatorId::new(&"v".repeat(128)).unwrap();
    assert!(claim_id(&pool, u64::MAX, Some(&validator)).is_ok());
    assert!(withdraw_id(&pool, u64::MAX, Some(&validator)).is_ok());
    let atom = PoolId::new("atom").unwrap();
    assert_eq!(claim_id(&atom, 20_414, None).unwrap().as_str(), "atom:claim:20414:all");
    let kind = OperationKind::Delegate { validator: ValidatorId::new("v1").unwrap(), amount: BaseUnits::ZERO };
    assert_eq!(rebalance_id(&atom, &kind, 7, 2).unwrap().as_str(), "atom:delegate:7:2");
    let transfer = TransferId::new("t-9").unwrap();
    assert_eq!(defund_id(&atom, &transfer).unwrap().as_str(), "atom:defund:t-9");
    assert_eq!(defund_transfer(&defund_id(&atom, &transfer).unwrap()), Some(transfer.clone()));
    for other in
        ["atom:delegate:1:0", "atom:defund:", ":defund:t-9", "atom:defund:t:9", "atom:defund:1:defund:t-9", "t-9"]
    {
        assert_eq!(OperationId::new(other).ok().as_ref().and_then(defund_transfer), None, "{other}");
    }
}

/// The diagram of the table: `cargo test the_table_as_a_diagram -- --nocapture` prints it.
#[test]
fn the_table_as_a_diagram() {
    let mut lines = vec!["stateDiagram-v2".to_owned(), "    [*] --> PLANNED".to_owned()];
    for state in OPERATION_STATES {
        for event in OPERATION_EVENTS {
            if let Ok(next) = transition(state, event)
                && (next.state != state || next.action != A::Nothing)
            {
                let action = if next.action == A::Nothing { String::new() } else { format!(" / {:?}", next.action) };
                lines.push(format!(
                    "    {} --> {}: {}{}",
                    state.name(),
                    next.state.name(),
                    event.name().replace(':', ","),
                    action.to_lowercase()
                ));
            }
        }
        if state.ended() {
            lines.push(format!("    {} --> [*]", state.name()));
        }
    }
    println!("{}", lines.join("\n"));
    assert!(lines.iter().any(|line| line == "    UNKNOWN --> UNKNOWN: lookup, absent / submit"));
}
