use super::*;
use crate::store::MAX_VALUE_BYTES;

fn amount(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn hash() -> SetHash {
    let mut hash = SetHash::EMPTY;
    hash.add(&AccountId::new("a").unwrap(), 7);
    hash
}

fn sealed() -> DistributionRecord {
    DistributionRecord {
        progress: Progress::Sealed,
        holds: vec![Hold { code: "APPROVAL_REQUIRED".to_owned(), message: "it is asked for".to_owned() }],
        receipts: TakenReceipts { count: 3, first_at: UnixSeconds::new(-5), last_at: UnixSeconds::new(9) },
        figures: Figures {
            receipts: amount(100),
            carry_in: amount(1),
            house_in: amount(2),
            fee: amount(10),
            recovery: amount(3),
            payouts: BaseUnits::MAX,
            house_out: amount(4),
            carry_out: amount(5),
        },
        owed: amount(3),
        weight_total: U256::MAX,
        house_weight: U256::from(8),
        payout_unit: PayoutUnit::new(amount(100)).unwrap(),
        fixed_apr: true,
        positions: 30,
        positive_count: 20,
        paid_count: 11,
        hash: hash(),
        approved_by: "ops".to_owned(),
        released_at: Some(UnixSeconds::new(50)),
        void_reason: "wrong".to_owned(),
        receipts_freed: true,
        ..DistributionRecord::new(PeriodIndex(4), 2, UnixSeconds::new(40))
    }
}

#[test]
fn a_distribution_comes_back_in_every_state_and_progress() {
    for state in STATES {
        for (progress, _) in PROGRESS {
            let record = DistributionRecord { state, progress, ..sealed() };
            assert_eq!(DistributionRecord::decode(&record.encode()), Ok(record));
        }
    }
    let fresh = DistributionRecord::new(PeriodIndex(0), 1, UnixSeconds::new(0));
    assert_eq!(DistributionRecord::decode(&fresh.encode()), Ok(fresh));
}

#[test]
fn what_is_split_and_what_is_too_small_follow_from_the_rest() {
    let record = sealed();
    assert_eq!(record.net(), Ok(amount(90)));
    assert_eq!((record.below_unit_count(), record.paid().count), (9, 11));
}

#[test]
fn a_state_that_is_none_is_refused() {
    let mut record = pb::DistributionRecord::decode(sealed().encode().as_slice()).unwrap();
    record.void_mode = "recompute".to_owned();
    assert!(DistributionRecord::decode(&record.encode_to_vec()).is_err());
    record.void_mode = String::new();
    record.hash.pop();
    assert!(DistributionRecord::decode(&record.encode_to_vec()).is_err());
}

#[test]
fn the_largest_seal_fits_a_value_of_the_store() {
    let tally = PayoutTally {
        positions: u64::MAX,
        positive: u64::MAX,
        weight: U256::MAX,
        paid: PayoutSum { count: u64::MAX, amount: BaseUnits::MAX },
        hash: hash(),
    };
    let seal = PayoutSeal { tally, stride: u32::MAX, counts: vec![u32::MAX; 1_024] };
    assert!(seal.encode().len() <= MAX_VALUE_BYTES, "{}", seal.encode().len());
    assert_eq!(PayoutSeal::decode(&seal.encode()), Ok(seal.clone()));
    assert!(PayoutSeal::decode(&PayoutSeal { stride: 0, ..seal }.encode()).is_err());
}

#[test]
fn acknowledgements_and_rejections_come_back() {
    let mut ack = PayoutAckRecord::new(PeriodIndex(4), 2, UnixSeconds::new(1));
    assert_eq!(PayoutAckRecord::decode(&ack.encode()), Ok(ack));
    ack.acknowledged = PayoutSum { count: 5, amount: amount(50) };
    ack.unclaimed = PayoutSum { count: 2, amount: amount(7) };
    assert_eq!(PayoutAckRecord::decode(&ack.encode()), Ok(ack));
    assert_eq!(ack.handled(), 7);
    let rejected = RejectedPayoutRecord {
        period: PeriodIndex(4),
        revision: 2,
        index: 6,
        account: AccountId::new("a").unwrap(),
        amount: amount(3),
        reason: "ACCOUNT_CLOSED".to_owned(),
        message: "gone".to_owned(),
        at: UnixSeconds::new(-1),
    };
    assert_eq!(RejectedPayoutRecord::decode(&rejected.encode()), Ok(rejected));
}
