//! What the worlds have to reach together: every fault, and every state and reason that the code has. The lists are the
//! code's own; what can't be reached here stands in one list, with the reason.

use crate::chain::simulated::SimulatedFault;
use crate::domain::distribution::DistributionState;
use crate::domain::feed::RejectReason;
use crate::domain::hold::HoldReason;
use crate::domain::operation::{
    OPERATION_EVENTS, OPERATION_STATES, OperationEvent, OperationEvent as E, OperationState, OperationState as S,
    transition,
};
use crate::domain::period::PeriodState;
use crate::domain::reserve::PlanReason;
use crate::domain::snapshot::DifferenceCause;

use super::coverage::Coverage;
use super::fault::{FAULT, Fault};

/// Every fault fires in one of so many seeds at least.
const ONE_IN: u64 = 100;

/// What no world reaches: group, name, and why.
const OUT_OF_REACH: &[(&str, &str, &str)] = &[
    ("refusal", "SNAPSHOT_TOO_LARGE", "snapshots are held up to 512 MiB, which no world fills"),
    ("refusal", "HISTORY_TOO_LONG", "takes a million records of one position"),
    ("refusal", "POOL_RESTORED", "a store is restored by a command on its machine, while no service runs"),
    ("refusal", "SIMULATION_ONLY", "the node's own answer where a chain is not simulated; here all are"),
    (
        "refusal",
        "UNKNOWN_PAYOUT",
        "the answer to a customer's question, which changes nothing and is asked by no world",
    ),
    (
        "plan reason",
        "FEES_SHORT",
        "takes a house that has earned more than its float, and a float that is raised just then: rarer than one world of 300",
    ),
    (
        "hold reason",
        "POSITIONS_INCOMPLETE",
        "the frozen and the computed positions differ only where the store lost some",
    ),
    ("hold reason", "ASSET_MISMATCH", "a chain that pays in another asset is another chain; each world keeps its own"),
    (
        "hold reason",
        "RECEIPTS_NOT_RECONCILED",
        "a period is distributed once ledger and chain agree past its end, and its receipts lie before that",
    ),
    ("rejected event", "OVERTAKEN", "takes two calls at one time; a world makes one after the other"),
    (
        "rejected event",
        "POOL_TOTAL_TOO_LARGE",
        "takes 48 of the largest balances there are in one group; a world has 24 accounts",
    ),
    (
        "rejected event",
        "PERIOD_NOT_OPEN",
        "such events are sent back before they are journalled: the refusal of that name",
    ),
];

/// Everything that has to be reached at least once, by group and name.
fn all() -> Vec<(&'static str, String)> {
    let groups: [(&str, &[&str]); 8] = [
        ("operation state", OperationState::NAMES),
        ("period state", PeriodState::NAMES),
        ("distribution state", DistributionState::NAMES),
        ("refusal", crate::app::Reason::NAMES),
        ("rejected event", RejectReason::NAMES),
        ("hold reason", HoldReason::NAMES),
        ("plan reason", PlanReason::NAMES),
        ("snapshot difference", DifferenceCause::NAMES),
    ];
    let named = groups.into_iter().flat_map(|(group, names)| names.iter().map(move |name| (group, (*name).to_owned())));
    let pairs = OPERATION_STATES.into_iter().flat_map(|state| OPERATION_EVENTS.map(|event| (state, event)));
    let rows = pairs.filter(|(state, event)| transition(*state, *event).is_ok() && !unasked(*state, *event));
    let rows = rows.map(|(state, event)| ("operation row", row(state.name(), event.name())));
    named.chain(rows).collect()
}

/// A row of the operations' table, as it is counted.
pub(super) fn row(state: &str, event: &str) -> String {
    format!("{state} / {event}")
}

/// Every fault that there is.
fn faults() -> impl Iterator<Item = String> {
    let of_chains = SimulatedFault::NAMES.iter().map(|name| format!("chain: {name}"));
    Fault::NAMES.iter().map(|name| (*name).to_owned()).chain(of_chains)
}

/// Rows of the operations' table that no driver of operations comes to: they are there so that the table has an answer to
/// everything. State, its events, and why.
const UNASKED: &[(S, &[E], &str)] = &[
    (
        S::Planned,
        &[E::LookupAbsentForGood, E::LookupAbsent, E::LookupPending, E::LookupDone, E::LookupFailed],
        "there are no bytes that could be looked up",
    ),
    (S::Planned, &[E::AttemptsExhausted], "one whose attempts are used up is given up before its bytes are found dead"),
    (
        S::Submitting,
        &[
            E::LookupAbsentForGood,
            E::LookupAbsent,
            E::LookupPending,
            E::LookupDone,
            E::LookupFailed,
            E::LookupUnavailable,
            E::AttemptsExhausted,
            E::TimeExhausted,
        ],
        "one that is found so was cut off: that its broadcast was lost is what happens to it, and nothing else",
    ),
    (
        S::Submitted,
        &[E::SubmitAccepted, E::SubmitRefused, E::SubmitLost],
        "nothing is sent again before a look-up has made it unknown",
    ),
    (
        S::NeedsOperator,
        &[E::SubmitAccepted, E::SubmitRefused, E::SubmitLost, E::AttemptsExhausted, E::TimeExhausted],
        "nothing is sent, and the bounds do not count, until an operator has said so",
    ),
    (
        S::NeedsOperator,
        &[E::LookupPending, E::LookupFailed],
        "asked once an hour, it would have to be in the seconds before it is final, or fail after that long",
    ),
    (S::Confirmed, &[E::LookupDone], "one that has ended is not looked up"),
    (S::Failed, &[E::LookupFailed], "one that has ended is not looked up"),
];

fn unasked(state: OperationState, event: OperationEvent) -> bool {
    UNASKED.iter().any(|(of, events, _)| *of == state && events.contains(&event))
}

fn out_of_reach(group: &str, name: &str) -> bool {
    OUT_OF_REACH.iter().any(|(of, out, _)| *of == group && *out == name)
}

/// What `seeds` worlds together have not reached, each as a sentence; empty where they have reached everything.
pub fn missing(coverage: &Coverage, seeds: u64) -> Vec<String> {
    let mut missing = Vec::new();
    for fault in faults().filter(|fault| !out_of_reach(FAULT, fault)) {
        let fired = coverage.of(FAULT, &fault).seeds;
        if fired == 0 || fired.saturating_mul(ONE_IN) < seeds {
            missing.push(format!("fault {fault}: in {fired} of {seeds} seeds, less than one in {ONE_IN}"));
        }
    }
    for (group, name) in all() {
        if !out_of_reach(group, &name) && coverage.of(group, &name).seeds == 0 {
            missing.push(format!("{group} {name}: never reached"));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_reach_is_there_and_has_a_reason() {
        let all = all();
        for (group, name, why) in OUT_OF_REACH {
            let known = all.iter().any(|(of, known)| of == group && known == name);
            assert!(known || *group == FAULT && faults().any(|fault| fault == *name), "{group} {name}");
            assert!(!why.is_empty());
        }
    }

    #[test]
    fn every_name_stands_once() {
        let mut seen = std::collections::BTreeSet::new();
        for name in all().into_iter().chain(faults().map(|fault| (FAULT, fault))) {
            assert!(seen.insert(name.clone()), "{name:?}");
        }
        let events: Vec<&str> = OPERATION_EVENTS.iter().map(|event| event.name()).collect();
        assert_eq!(events, crate::domain::operation::OperationEvent::NAMES);
        let states: Vec<&str> = OPERATION_STATES.iter().map(|state| state.name()).collect();
        assert_eq!(states, OperationState::NAMES);
    }

    #[test]
    fn the_rows_that_nothing_comes_to_are_rows() {
        for (state, events, why) in UNASKED {
            for event in *events {
                assert!(transition(*state, *event).is_ok() && !why.is_empty(), "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn what_was_not_reached_or_too_seldom_is_named() {
        let mut coverage = Coverage::default();
        for (group, name) in all() {
            coverage.hit(group, name);
        }
        for fault in faults() {
            coverage.hit(FAULT, fault);
        }
        assert_eq!(missing(&coverage, 100), Vec::<String>::new());
        let seldom = missing(&coverage, 101);
        assert_eq!(seldom.len(), faults().filter(|fault| !out_of_reach(FAULT, fault)).count());
        assert!(seldom[0].contains("disk: busy: in 1 of 101 seeds"), "{}", seldom[0]);
        let nothing = missing(&Coverage::default(), 1);
        assert!(nothing.iter().any(|line| line == "refusal WRONG_STATE: never reached"));
        assert!(nothing.iter().any(|line| line == "operation row PLANNED / intent stored: never reached"));
        assert!(!nothing.iter().any(|line| line.contains("SIMULATION_ONLY")));
    }
}
