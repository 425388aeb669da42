use super::*;
use crate::domain::distribution::{AfterVoid, Figures};
use crate::domain::period::PeriodIndex;
use crate::store::records::Progress;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

pub(super) fn sum(count: u64, amount: u64) -> PayoutSum {
    PayoutSum { count, amount: units(amount) }
}

/// A sealed revision of ten payouts of a hundred in all.
pub(super) fn revision(period: u64, state: DistributionState) -> DistributionRecord {
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

pub(super) fn ack(acknowledged: PayoutSum, unclaimed: PayoutSum) -> PayoutAckRecord {
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
