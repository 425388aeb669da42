//! Whole lives of operations, on a simulated chain with faults.

mod order;
mod pauses;

use super::*;
use crate::app::Once;
use crate::app::distribute::tests::rig::{Rig, at, units};
use crate::app::reconcile;
use crate::chain::ChainAdapter;
use crate::chain::simulated::SimulatedFault as Fault;
use crate::domain::ids::{TransactionId, TransferId, ValidatorId};
use crate::domain::ledger::AssetAccount as Held;
use crate::domain::operation::Resolution;
use crate::domain::policy::ReleaseLimits;
use crate::domain::transfer::{Purpose, TransferState};

/// What the staking address has in every test, in base units.
const FUNDED: u64 = 1_000_000;

async fn funded() -> (Rig, ValidatorId) {
    let rig = Rig::new(1, ReleaseLimits::default()).await;
    rig.simulated.custody_send(&TransferId::new("gift").unwrap(), units(FUNDED)).await.unwrap();
    rig.set_time(60);
    assert!(rig.reconcile().await);
    let validator = rig.simulated.observe().await.unwrap().validators[0].id.clone();
    (rig, validator)
}

fn name(text: &str) -> OperationId {
    OperationId::new(text).unwrap()
}

impl Rig {
    /// Whether ledger and chain agree, once everything is booked.
    async fn reconcile(&self) -> bool {
        let found = reconcile::reconcile(&self.app, &self.pool, self.app.now()).await.unwrap();
        found.is_some_and(|found| found.differences.is_empty())
    }

    async fn begin(&self, id: &str, kind: OperationKind) {
        let mut change = Change::begin(&self.app, &self.pool, self.app.now()).await.unwrap();
        plan(&mut change, name(id), kind, "test").unwrap();
        change.commit().await.unwrap();
    }

    async fn fault(&self, fault: Fault) {
        self.simulated.set_fault(fault).await.unwrap();
    }

    /// Operations alone, until nothing is due at `second`.
    async fn operate(&self, second: i64) {
        self.set_time(second);
        while step(&self.app, &self.pool, self.app.now()).await.unwrap() == Work::Done {}
    }

    async fn of(&self, id: &str) -> OperationRecord {
        self.app.operation(&self.pool, &name(id)).await.unwrap()
    }

    async fn held(&self, account: Held) -> i128 {
        let change = Change::begin(&self.app, &self.pool, self.app.now()).await.unwrap();
        change.ledger().balance(&account.into()).get()
    }

    async fn paused(&self) -> Option<String> {
        self.app.pool_state(&self.pool).await.unwrap().paused
    }

    async fn resolve(&mut self, id: &str, word: &Resolution) -> Result<Once, crate::app::AppError> {
        let request = self.request();
        let once = self.app.resolve_operation(&request, &self.pool, &name(id), word, "seen in the explorer").await;
        self.app.approve_waiting().await;
        once
    }

    /// A delegation that was sent, of which nothing can be learnt, and that a person has to look at.
    async fn stuck(&self, id: &str, validator: &ValidatorId, sent: bool) -> TransactionId {
        self.begin(id, OperationKind::Delegate { validator: validator.clone(), amount: units(400) }).await;
        self.fault(match sent {
            true => Fault::SubmitLostAfter { times: 1 },
            false => Fault::SubmitLostBefore { times: 1 },
        })
        .await;
        self.fault(Fault::LookupUnavailable { times: u32::MAX }).await;
        self.operate(120).await;
        assert_eq!(self.of(id).await.state, OperationState::Unknown);
        self.operate(60 + 700).await;
        let stuck = self.of(id).await;
        assert_eq!(stuck.state, OperationState::NeedsOperator);
        stuck.signed.unwrap().transaction
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, crate::app::AppError>) -> String {
    match answer {
        Err(crate::app::AppError::Refused(refusal)) => {
            assert_eq!(refusal.reason, Reason::WrongState);
            refusal.message
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_done_by_an_operators_word_stays_in_flight_until_it_is_booked() {
    let (mut rig, validator) = funded().await;
    let transaction = rig.stuck("op", &validator, true).await;
    // The chain has done it and the books do not show it yet.
    assert_eq!(rig.held(Held::InFlight).await, 400);
    let word = Resolution::Done(transaction);
    let request = rig.request();
    let once = rig.app.resolve_operation(&request, &rig.pool, &name("op"), &word, "seen").await.unwrap();
    assert_eq!(once, Once::First);
    let again = rig.app.resolve_operation(&request, &rig.pool, &name("op"), &word, "seen").await.unwrap();
    assert!(matches!(again, Once::Repeated { .. }));
    rig.app.approve_waiting().await;
    rig.operate(60 + 701).await;
    assert_eq!(rig.of("op").await.state, OperationState::Confirmed);
    assert_eq!((rig.held(Held::InFlight).await, rig.held(Held::Liquid).await), (400, i128::from(FUNDED) - 400));
    // It is booked once, by its key, out of what is in flight.
    rig.set_time(60 + 800);
    assert!(rig.reconcile().await);
    assert!(rig.reconcile().await);
    rig.simulated.clear_faults();
    rig.operate(60 + 900).await;
    let done = rig.of("op").await;
    assert_eq!((done.state, done.settled, done.in_flight), (OperationState::Confirmed, units(400), units(0)));
    assert_eq!((rig.held(Held::Delegated(validator)).await, rig.held(Held::InFlight).await), (400, 0));
    assert!(rig.app.open_operations(&rig.pool).await.unwrap().is_empty());
    assert_eq!(rig.paused().await, None);
}

#[tokio::test]
async fn the_chains_proof_goes_before_an_operators_word() {
    let (mut rig, validator) = funded().await;
    let transaction = rig.stuck("op", &validator, true).await;
    rig.simulated.clear_faults();
    let why = refused(rig.resolve("op", &Resolution::Absent).await);
    assert!(why.contains("the chain proves it"), "{why}");
    let done = rig.of("op").await;
    assert_eq!((done.state, done.settled, &done.word), (OperationState::Confirmed, units(400), &None));
    let why = refused(rig.resolve("op", &Resolution::Done(transaction)).await);
    assert!(why.contains("ended"), "{why}");

    // A word that the chain's proof bears out is taken.
    let (mut rig, validator) = funded().await;
    let transaction = rig.stuck("op", &validator, true).await;
    rig.simulated.clear_faults();
    assert_eq!(rig.resolve("op", &Resolution::Done(transaction)).await.unwrap(), Once::First);
    assert_eq!(rig.of("op").await.state, OperationState::Confirmed);
    assert!(rig.reconcile().await);

    // What the chain proves dead was not done by that transaction.
    let (mut rig, validator) = funded().await;
    let transaction = rig.stuck("op", &validator, false).await;
    rig.simulated.clear_faults();
    let why = refused(rig.resolve("op", &Resolution::Done(transaction)).await);
    assert!(why.contains("never took effect"), "{why}");
    assert_eq!(rig.of("op").await.state, OperationState::NeedsOperator);
}

#[tokio::test]
async fn only_an_operation_that_needs_an_operator_is_resolved() {
    let (mut rig, validator) = funded().await;
    rig.begin("op", OperationKind::Delegate { validator, amount: units(400) }).await;
    let why = refused(rig.resolve("op", &Resolution::Absent).await);
    assert!(why.contains("does not need an operator"), "{why}");
}

#[tokio::test]
async fn what_never_will_be_gives_back_what_is_in_flight() {
    let (mut rig, validator) = funded().await;
    rig.stuck("op", &validator, false).await;
    assert_eq!(rig.resolve("op", &Resolution::Absent).await.unwrap(), Once::First);
    let ended = rig.of("op").await;
    assert_eq!((ended.state, ended.in_flight), (OperationState::Failed, units(0)));
    assert_eq!(ended.word.unwrap().evidence, "seen in the explorer");
    assert_eq!((rig.held(Held::InFlight).await, rig.held(Held::Liquid).await), (0, i128::from(FUNDED)));
    assert!(rig.reconcile().await);
}

#[tokio::test]
async fn a_chain_that_did_what_an_operator_ruled_out_pauses_the_pool() {
    let (mut rig, validator) = funded().await;
    rig.stuck("op", &validator, true).await;
    assert_eq!(rig.resolve("op", &Resolution::Absent).await.unwrap(), Once::First);
    // It is booked all the same, so that the books are the chain's.
    rig.set_time(60 + 800);
    assert!(rig.reconcile().await);
    assert_eq!(rig.held(Held::Delegated(validator)).await, 400);
    let reason = rig.paused().await.unwrap();
    assert!(reason.contains("operation op: the chain did it at height") && reason.contains("FAILED"), "{reason}");
    assert!(reason.contains(&rig.of("op").await.last_error));
    assert_eq!(rig.app.metrics.contradictions.get(), 1);
}

#[tokio::test]
async fn a_chain_that_shows_nothing_of_what_an_operator_said_was_done_pauses_the_pool() {
    let (mut rig, validator) = funded().await;
    let transaction = rig.stuck("op", &validator, false).await;
    assert_eq!(rig.resolve("op", &Resolution::Done(transaction)).await.unwrap(), Once::First);
    rig.set_time(60 + 800);
    assert!(rig.reconcile().await);
    rig.operate(60 + 900).await;
    let reason = rig.paused().await.unwrap();
    assert!(reason.contains("the chain shows nothing of it"), "{reason}");
    assert_eq!((rig.held(Held::InFlight).await, rig.held(Held::Liquid).await), (0, i128::from(FUNDED)));
    assert!(rig.app.open_operations(&rig.pool).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_defund_resolved_as_absent_ends_its_transfer_and_one_that_leaves_all_the_same_is_on_its_way() {
    let (mut rig, _) = funded().await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let asked = crate::app::transfer::request_defund(&mut change, &rig.pool, Purpose::Principal, units(300), "test");
    let id = asked.unwrap();
    change.commit().await.unwrap();
    rig.fault(Fault::SubmitLostAfter { times: 1 }).await;
    rig.fault(Fault::LookupUnavailable { times: u32::MAX }).await;
    rig.operate(120).await;
    rig.operate(60 + 700).await;
    let operation = rig.app.transfer(&rig.pool, &id).await.unwrap().transfer.operation.unwrap();
    assert_eq!(rig.resolve(operation.as_str(), &Resolution::Absent).await.unwrap(), Once::First);
    assert_eq!(rig.app.transfer(&rig.pool, &id).await.unwrap().transfer.state, TransferState::Cancelled);
    // The operator was wrong: the tokens are on their way to custody, and say so.
    rig.set_time(60 + 800);
    assert!(rig.reconcile().await);
    let transfer = rig.app.transfer(&rig.pool, &id).await.unwrap().transfer;
    assert_eq!((transfer.state, transfer.seen), (TransferState::Sent, units(300)));
    assert_eq!(rig.held(Held::InTransit).await, 300);
    assert!(rig.paused().await.is_some());
}

#[tokio::test]
async fn a_part_is_booked_as_what_it_was_and_the_rest_is_given_back() {
    let (rig, validator) = funded().await;
    rig.fault(Fault::PartialEffect { share_bps: 2_500, times: 1 }).await;
    rig.begin("op", OperationKind::Delegate { validator: validator.clone(), amount: units(400) }).await;
    rig.operate(120).await;
    rig.operate(200).await;
    let done = rig.of("op").await;
    assert_eq!((done.state, done.settled, done.in_flight), (OperationState::Confirmed, units(100), units(0)));
    assert_eq!(done.kind.shortfall(done.settled), units(300));
    assert!(done.last_error.contains("moved 100 base units, 300 less"), "{}", done.last_error);
    assert_eq!((rig.held(Held::Delegated(validator.clone())).await, rig.held(Held::InFlight).await), (100, 0));
    assert!(rig.reconcile().await);

    rig.fault(Fault::PartialEffect { share_bps: 5_000, times: 1 }).await;
    rig.begin("back", OperationKind::Undelegate { validator: validator.clone(), amount: units(100) }).await;
    rig.operate(260).await;
    rig.operate(330).await;
    assert_eq!((rig.of("back").await.state, rig.of("back").await.settled), (OperationState::Confirmed, units(50)));
    assert_eq!((rig.held(Held::Unbonding).await, rig.held(Held::Delegated(validator)).await), (50, 50));
    assert!(rig.reconcile().await);
    assert_eq!(rig.app.metrics.operations_short.get(), 2);
}

#[tokio::test]
async fn a_defund_that_sent_a_part_ends_with_what_was_sent() {
    let (mut rig, _) = funded().await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let asked = crate::app::transfer::request_defund(&mut change, &rig.pool, Purpose::Principal, units(300), "test");
    let id = asked.unwrap();
    change.commit().await.unwrap();
    rig.fault(Fault::PartialEffect { share_bps: 5_000, times: 1 }).await;
    rig.operate(120).await;
    rig.operate(200).await;
    let transfer = rig.app.transfer(&rig.pool, &id).await.unwrap().transfer;
    assert_eq!((transfer.state, transfer.asked, transfer.seen), (TransferState::Sent, units(150), units(150)));
    assert_eq!((rig.held(Held::InTransit).await, rig.held(Held::InFlight).await), (150, 0));
    let too_much = crate::app::transfer::Acknowledgement::Moved(units(151));
    let request = rig.request();
    let refused = rig.app.acknowledge_transfer(&request, &rig.pool, &id, too_much, "c").await;
    assert!(matches!(refused, Err(AppError::Refused(refusal)) if refusal.reason == Reason::AmountMismatch));
    let request = rig.request();
    let word = crate::app::transfer::Acknowledgement::Moved(units(150));
    let once = rig.app.acknowledge_transfer(&request, &rig.pool, &id, word, "c").await.unwrap();
    assert_eq!(once, Once::First);
    assert_eq!(rig.app.transfer(&rig.pool, &id).await.unwrap().transfer.state, TransferState::Received);
    assert!(rig.app.open_transfers(&rig.pool).await.unwrap().is_empty());
}

#[tokio::test]
async fn of_several_claims_one_that_fails_leaves_the_others() {
    let (rig, _) = funded().await;
    let all: Vec<_> = rig.simulated.observe().await.unwrap().validators;
    for (n, validator) in all.iter().take(2).enumerate() {
        let kind = OperationKind::Delegate { validator: validator.id.clone(), amount: units(400_000) };
        rig.begin(&format!("stake{n}"), kind).await;
    }
    rig.operate(120).await;
    rig.operate(200).await;
    let later = 30 * 86_400;
    rig.set_time(later);
    for (n, validator) in [all[0].id.clone(), ValidatorId::new("nobody").unwrap(), all[1].id.clone()].iter().enumerate()
    {
        rig.begin(&format!("claim{n}"), OperationKind::Claim { validator: Some(validator.clone()) }).await;
    }
    rig.operate(later).await;
    rig.operate(later + 60).await;
    let mut states = Vec::new();
    for n in 0..3 {
        states.push(rig.of(&format!("claim{n}")).await.state);
    }
    assert_eq!(states, [OperationState::Confirmed, OperationState::Failed, OperationState::Confirmed]);
    assert!(!rig.of("claim2").await.settled.is_zero());
}

#[tokio::test]
async fn an_operation_that_needs_an_operator_is_still_asked_about_and_the_chain_ends_it() {
    let (rig, validator) = funded().await;
    rig.stuck("op", &validator, true).await;
    rig.simulated.clear_faults();
    // Not at once: an hour later.
    rig.operate(60 + 800).await;
    assert_eq!(rig.of("op").await.state, OperationState::NeedsOperator);
    rig.operate(60 + 700 + 3_600).await;
    let done = rig.of("op").await;
    assert_eq!((done.state, done.settled), (OperationState::Confirmed, units(400)));
}

#[tokio::test]
async fn time_runs_out_in_every_state() {
    // Planned: the signer or the node does not answer.
    let (rig, validator) = funded().await;
    let kind = OperationKind::Delegate { validator: validator.clone(), amount: units(400) };
    rig.begin("planned", kind.clone()).await;
    rig.fault(Fault::Outage { until: at(5_000) }).await;
    rig.operate(120).await;
    assert_eq!(rig.of("planned").await.state, OperationState::Planned);
    rig.operate(60 + 601).await;
    let stuck = rig.of("planned").await;
    assert_eq!((stuck.state, stuck.signed), (OperationState::NeedsOperator, None));
    // Nothing can be asked about it: it is not visited, and keeps the others from nothing.
    assert_eq!(step(&rig.app, &rig.pool, at(50_000)).await.unwrap(), Work::Idle);

    // Submitting and unknown: sent, and nobody answers.
    let (rig, validator) = funded().await;
    rig.stuck("unknown", &validator, true).await;

    // Submitted: the chain has it, and it never becomes final.
    let (rig, _) = funded().await;
    rig.begin("submitted", kind).await;
    rig.operate(61).await;
    assert_eq!(rig.of("submitted").await.state, OperationState::Submitted);
    rig.fault(Fault::LookupUnavailable { times: u32::MAX }).await;
    rig.operate(60 + 601).await;
    assert_eq!(rig.of("submitted").await.state, OperationState::NeedsOperator);
    assert_eq!(rig.app.metrics.operations_stuck.get(), 1);
    let label = PoolName { pool: "atom".to_owned() };
    assert_eq!(step(&rig.app, &rig.pool, rig.app.now()).await.unwrap(), Work::Idle);
    assert_eq!(rig.app.metrics.operations_needing_operator.get_or_create(&label).get(), 1);
    assert_eq!(rig.app.metrics.operations_overdue.get_or_create(&label).get(), 1);
}

#[tokio::test]
async fn the_last_attempt_is_waited_for() {
    let (rig, validator) = funded().await;
    rig.begin("op", OperationKind::Delegate { validator, amount: units(400) }).await;
    // Built and sent, lost; sent again, lost; sent a third time, the last of the rig's three, and taken.
    rig.fault(Fault::SubmitLostBefore { times: 2 }).await;
    let mut second = 61;
    while rig.of("op").await.attempts < 3 {
        rig.operate(second).await;
        second += 1;
    }
    assert_eq!(rig.of("op").await.state, OperationState::Submitted);
    rig.operate(rig.of("op").await.next_attempt_at.get() - at(0).get()).await;
    assert_ne!(rig.of("op").await.state, OperationState::NeedsOperator, "the chain has it pending");
    for later in 0..60 {
        rig.operate(second + later).await;
    }
    assert_eq!(rig.of("op").await.state, OperationState::Confirmed);

    // Where none of them arrives, a person is asked, and is told why.
    let (rig, validator) = funded().await;
    rig.begin("op", OperationKind::Delegate { validator, amount: units(400) }).await;
    rig.fault(Fault::SubmitLostBefore { times: u32::MAX }).await;
    for second in 61..120 {
        rig.operate(second).await;
    }
    let stuck = rig.of("op").await;
    assert_eq!((stuck.state, stuck.attempts), (OperationState::NeedsOperator, 3));
}

#[tokio::test]
async fn an_operation_is_overdue_after_what_is_expected_and_not_before() {
    let (mut rig, validator) = funded().await;
    rig.fault(Fault::Outage { until: at(500_000) }).await;
    rig.begin("op", OperationKind::Delegate { validator, amount: units(400) }).await;
    rig.set_time(60 + 300);
    let age = rig.app.operation_age(&rig.pool, &rig.of("op").await);
    assert_eq!((age.seconds, age.expected_seconds, age.overdue), (300, 300, false));
    rig.operate(60 + 301).await;
    assert!(rig.app.operation_age(&rig.pool, &rig.of("op").await).overdue);
    let label = PoolName { pool: "atom".to_owned() };
    assert_eq!(rig.app.metrics.operations_overdue.get_or_create(&label).get(), 1);
    // A retry gives it its time again; its age stays what it is.
    rig.operate(60 + 1_000).await;
    let request = rig.request();
    assert_eq!(rig.app.retry_operation(&request, &rig.pool, &name("op")).await.unwrap(), Once::First);
    let age = rig.app.operation_age(&rig.pool, &rig.of("op").await);
    assert_eq!((age.seconds, age.overdue), (1_000, false));
}

#[tokio::test]
async fn failures_in_a_row_lengthen_the_pauses_and_an_answer_ends_them() {
    let (rig, validator) = funded().await;
    rig.begin("op", OperationKind::Delegate { validator, amount: units(400) }).await;
    rig.operate(61).await;
    rig.fault(Fault::LookupUnavailable { times: 4 }).await;
    let mut pauses = Vec::new();
    while pauses.len() < 4 {
        let next = rig.of("op").await.next_attempt_at;
        rig.operate(next.get() - at(0).get()).await;
        pauses.push(rig.of("op").await.next_attempt_at.since(next));
    }
    assert_eq!(pauses, [1, 2, 4, 8], "the rig's first pause is a second");
    let next = rig.of("op").await.next_attempt_at;
    rig.operate(next.get() - at(0).get()).await;
    let done = rig.of("op").await;
    assert_eq!((done.state, done.failures), (OperationState::Confirmed, 4));
}

#[test]
fn the_pauses_double_up_to_an_hour() {
    let pauses: Vec<_> = [1, 2, 3, 4, 9, 10, 11, 12, 1_000].map(|nth| settle::backoff_seconds(5, nth)).into();
    assert_eq!(pauses, [5, 10, 20, 40, 1_280, 2_560, 3_600, 3_600, 3_600]);
    assert_eq!(settle::backoff_seconds(0, 1), 1);
    assert_eq!(settle::backoff_seconds(3_600, 2), 3_600);
}

#[tokio::test]
async fn a_chain_that_throws_back_and_delivers_twice_does_it_once() {
    for fault in [Fault::Reorg { depth: 4, times: 2 }, Fault::DuplicateSubmit { times: 1 }] {
        let (rig, validator) = funded().await;
        rig.fault(fault.clone()).await;
        rig.begin("op", OperationKind::Delegate { validator: validator.clone(), amount: units(400) }).await;
        for second in 61..160 {
            rig.operate(second).await;
        }
        assert!(!rig.simulated.fault_counts().is_empty(), "{fault:?} never fired");
        let done = rig.of("op").await;
        assert_eq!((done.state, done.settled), (OperationState::Confirmed, units(400)), "{fault:?}");
        assert_eq!(rig.simulated.conflicting_submits(), 0);
        assert!(rig.reconcile().await, "{fault:?}");
        assert_eq!(rig.held(Held::Delegated(validator)).await, 400);
    }
}

#[tokio::test]
async fn an_effect_that_was_one_unit_less_is_found_and_pauses_the_pool() {
    for through_lookup in [true, false] {
        let (rig, validator) = funded().await;
        rig.begin("op", OperationKind::Delegate { validator, amount: units(400) }).await;
        rig.operate(61).await;
        rig.set_time(120);
        rig.fault(Fault::LyingEffect { times: 1 }).await;
        if through_lookup {
            rig.operate(120).await;
        }
        assert!(!rig.reconcile().await);
        let reason = rig.paused().await.unwrap();
        assert!(reason.contains("ledger and chain differ") && reason.contains("401"), "{reason}");
    }
}

#[tokio::test]
async fn an_effect_of_what_was_never_sent_stops_it_from_being_sent() {
    let (mut rig, validator) = funded().await;
    let kind = OperationKind::Delegate { validator, amount: units(400) };
    // The bytes reach the chain, and a chain that forgot them says that they never can.
    rig.begin("op", kind).await;
    rig.operate(61).await;
    let mut change = Change::begin(&rig.app, &rig.pool, rig.app.now()).await.unwrap();
    let mut forgotten = rig.app.operation(&rig.pool, &name("op")).await.unwrap();
    (forgotten.state, forgotten.signed, forgotten.next_attempt_at) = (OperationState::Planned, None, at(500));
    change.put(keys::operation(&forgotten.id), &forgotten);
    change.commit().await.unwrap();
    rig.set_time(120);
    assert!(rig.reconcile().await);
    assert_eq!(rig.of("op").await.state, OperationState::NeedsOperator);
    assert!(rig.paused().await.unwrap().contains("ResolveOperation as DONE"));
    let request = rig.request();
    let why = refused(rig.app.retry_operation(&request, &rig.pool, &name("op")).await);
    assert!(why.contains("moved 400 base units"), "{why}");
    let by = rig.simulated.effects(0, rig.simulated.totals().await.unwrap().height).await.unwrap();
    let transaction = by.last().unwrap().key.transaction.clone();
    assert_eq!(rig.resolve("op", &Resolution::Done(transaction)).await.unwrap(), Once::First);
    rig.set_time(200);
    assert!(rig.reconcile().await);
    rig.operate(300).await;
    assert!(rig.app.open_operations(&rig.pool).await.unwrap().is_empty());
    assert_eq!(rig.held(Held::InFlight).await, 0);
}
