use super::*;
use crate::domain::distribution::{AfterVoid, Figures};
use crate::domain::ledger::Ledger;
use crate::domain::period::PeriodIndex;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn sum(count: u64, amount: u64) -> PayoutSum {
    PayoutSum { count, amount: units(amount) }
}

/// A sealed revision of ten payouts of a hundred in all.
fn revision(period: u64, state: DistributionState) -> DistributionRecord {
    let mut record = DistributionRecord::new(PeriodIndex(period), 1, UnixSeconds::new(0));
    record.progress = Progress::Sealed;
    record.state = state;
    record.paid_count = 10;
    record.figures = Figures {
        receipts: units(115),
        fee: units(12),
        payouts: units(100),
        carry_out: units(3),
        ..Figures::default()
    };
    record.weight_total = U256::from(1_000);
    record
}

fn ack(acknowledged: PayoutSum, unclaimed: PayoutSum) -> PayoutAckRecord {
    let fresh = PayoutAckRecord::new(PeriodIndex(0), 1, UnixSeconds::new(0));
    PayoutAckRecord { acknowledged, unclaimed, ..fresh }
}

fn hold(record: &DistributionRecord, computed: PayoutSum, ack: Option<&PayoutAckRecord>) -> bool {
    equations::all_hold(&of_revision(record, &standing(record, computed, ack)))
}

#[test]
fn a_revision_holds_in_every_state_and_not_with_a_payout_too_many() {
    let all = [
        DistributionState::Computed,
        DistributionState::Held,
        DistributionState::Approved,
        DistributionState::Released,
        DistributionState::Settled,
        DistributionState::Voided(AfterVoid::Carry),
    ];
    for state in all {
        let record = revision(0, state);
        assert!(hold(&record, sum(10, 100), Some(&ack(sum(4, 40), sum(1, 10)))), "{state:?}");
        assert!(!hold(&record, sum(11, 101), None), "{state:?}: the seals have one more than the record");
    }
    let released = revision(0, DistributionState::Released);
    assert!(!hold(&released, sum(10, 100), Some(&ack(sum(10, 100), sum(1, 10)))), "acknowledged twice");
    let mut lost = revision(0, DistributionState::Released);
    lost.figures.carry_out = units(2);
    assert!(!hold(&lost, sum(10, 100), None), "one base unit is gone");
}

#[test]
fn the_sums_leave_out_what_was_voided_and_not_released() {
    let mut history = History::default();
    let all = [
        revision(0, DistributionState::Settled),
        revision(1, DistributionState::Voided(AfterVoid::Carry)),
        revision(2, DistributionState::Released),
        revision(3, DistributionState::Held),
    ];
    for record in &all {
        let said = ack(sum(4, 40), sum(0, 0));
        history.take(record, standing(record, record.paid(), Some(&said)));
    }
    history.trail(&all);
    assert_eq!((history.sums.payouts, history.sums.fees), (U256::from(200), U256::from(24)));
    assert_eq!((history.sums.trailing_periods, history.sums.trailing_weight), (2, U256::from(2_000)));
    assert_eq!(history.cumulative.payouts, U256::from(300), "what is held is distributed all the same");
    let view = LedgerView::new(Ledger::default(), BaseUnits::ZERO).unwrap();
    let payable = history.in_ledger(&view);
    assert_eq!((payable.left.as_str(), payable.right.as_str(), payable.holds), ("120", "0", false));
}
