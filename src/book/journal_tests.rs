use proptest::prelude::*;

use super::*;

fn account(text: &str) -> AccountId {
    AccountId::new(text).unwrap()
}

fn period() -> OpenPeriod {
    OpenPeriod {
        index: PeriodIndex(7),
        bounds: PeriodBounds::new(UnixSeconds::new(1_795_305_600), 86_400).unwrap(),
        policy: EligibilityPolicy {
            minimum: BaseUnits::from_u64(10),
            cap: Some(BaseUnits::MAX),
            enrolment: EnrolmentMode::OptIn,
        },
        limits: TimeLimits::default(),
    }
}

fn one_of_each() -> Vec<Record> {
    let balance = |pool_full| Record::Balance {
        account: account("alice"),
        source: SourceNumber(3),
        sequence: 41,
        at: UnixSeconds::new(1_795_305_601),
        balance: BaseUnits::from_u64(1_000_000),
        pool_full,
    };
    vec![
        balance(false),
        balance(true),
        Record::Standing {
            account: account("bob"),
            sequence: 2,
            at: UnixSeconds::new(1_795_305_660),
            change: StandingChange::OPT_OUT,
        },
        Record::Open(period()),
        Record::Freeze { index: PeriodIndex(6), cursors: vec![(SourceNumber(0), 2), (SourceNumber(3), 41)] },
    ]
}

#[test]
fn the_layout_is_frozen() {
    let mut chain = first_chain(0x1_0001);
    let parts = encode(5, UnixSeconds::new(1_795_305_700), &one_of_each(), &mut chain);
    let hex: String = parts.concat().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, include_str!("journal_golden.hex").trim());
}

#[test]
fn a_group_in_many_parts_comes_back_and_each_value_fits() {
    let records: Vec<Record> = (0..4_000).flat_map(|_| one_of_each()).collect();
    let mut chain = first_chain(9);
    let parts = encode(1, UnixSeconds::new(5), &records, &mut chain);
    assert!(parts.len() > 10 && parts.iter().all(|p| p.len() <= crate::store::MAX_VALUE_BYTES));
    let mut assembly = Assembly::new(1, first_chain(9));
    let (last, rest) = parts.split_last().unwrap();
    assert!(rest.iter().all(|part| assembly.take(part) == Ok(None)), "no part but the last ends the group");
    let group = assembly.take(last).unwrap().unwrap();
    assert_eq!(group.records, records);
    assert_eq!((assembly.chain(), assembly.next_number()), (Some(chain), 2));
}

#[test]
fn a_record_is_no_longer_than_said() {
    let record = Record::SnapshotBalance {
        account: account(&"z".repeat(64)),
        source: SourceNumber(u16::MAX),
        sequence: u64::MAX / 2,
        at: UnixSeconds::new(i64::MIN / 2),
        balance: BaseUnits::MAX,
        snapshot: u64::MAX,
    };
    let mut out = Vec::new();
    write(&record, &mut Before::default(), &mut out);
    assert!(out.len() <= MAX_RECORD_BYTES, "{}", out.len());
}

#[test]
fn any_flipped_bit_or_foreign_order_is_seen() {
    let mut chain = first_chain(9);
    let first = encode(1, UnixSeconds::new(5), &one_of_each(), &mut chain);
    let second = encode(2, UnixSeconds::new(6), &one_of_each(), &mut chain);
    for at in 0..first[0].len() {
        let mut value = first[0].clone();
        value[at] ^= 0x10;
        assert_eq!(Assembly::new(1, first_chain(9)).take(&value), Err(()), "byte {at}");
    }
    assert_eq!(Assembly::new(1, first_chain(9)).take(&second[0]), Err(()), "a group is missing");
    assert_eq!(Assembly::new(1, first_chain(8)).take(&first[0]), Err(()), "another partition's");
}

proptest! {
    #[test]
    fn records_come_back(
        seeds in proptest::collection::vec((any::<u64>(), any::<i64>(), any::<u128>(), "[!-~]{1,64}", 0u8..3, any::<u16>()), 0..200),
    ) {
        let records: Vec<Record> = seeds.into_iter().map(|(sequence, at, units, name, kind, source)| {
            let (account, at) = (account(&name), UnixSeconds::new(at));
            match kind {
                0 => Record::Standing { account, sequence, at, change: StandingChange::RESTRICT },
                _ => Record::Balance {
                    account, source: SourceNumber(source), sequence, at,
                    balance: BaseUnits::new(units >> 1).unwrap(), pool_full: kind == 2,
                },
            }
        }).collect();
        let mut chain = first_chain(1);
        let parts = encode(1, UnixSeconds::new(-3), &records, &mut chain);
        let mut assembly = Assembly::new(1, first_chain(1));
        let group = parts.iter().map(|p| assembly.take(p).unwrap()).last().flatten().unwrap();
        prop_assert_eq!(group, Group { number: 1, now: UnixSeconds::new(-3), records });
    }

    #[test]
    fn anything_may_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Assembly::new(1, first_chain(1)).take(&bytes);
        let _ = read_group(1, &bytes);
    }
}

#[test]
fn a_balance_of_a_snapshot_comes_back() {
    let record = Record::SnapshotBalance {
        account: account("alice"),
        source: SourceNumber(16),
        sequence: 3,
        at: UnixSeconds::new(5),
        balance: BaseUnits::from_u64(0x0102),
        snapshot: 0x1122_3344_5566_7788,
    };
    let mut bytes = Vec::new();
    write(&record, &mut Before::default(), &mut bytes);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "08887766554433221110060a05616c696365020201", "the layout is frozen");
    assert_eq!(read(&mut Take(&bytes), &mut Before::default()), Some(record));
    assert_eq!(read(&mut Take(&bytes[..9]), &mut Before::default()), None);
}

#[test]
fn a_hand_over_comes_back() {
    let record = Record::HandOver { account: account("alice"), from: SourceNumber(1), to: SourceNumber(16) };
    let mut bytes = Vec::new();
    write(&record, &mut Before::default(), &mut bytes);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "060100100005616c696365", "the layout is frozen");
    assert_eq!(read(&mut Take(&bytes), &mut Before::default()), Some(record));
    assert_eq!(read(&mut Take(&bytes[..6]), &mut Before::default()), None);
}

#[test]
fn a_correction_comes_back() {
    let basis = Basis {
        oldest: PeriodIndex(4),
        last_second: 5,
        last_sequence: 6,
        available: BaseUnits::from_u64(7),
        standing: Standing::RESTRICTED,
    };
    let correction = Correction {
        at: UnixSeconds::new(1),
        balance: BaseUnits::from_u64(258),
        until: Some(UnixSeconds::new(2)),
        oldest: -1,
        next: 3,
        basis,
    };
    let record = |until, pool_full| {
        let correction = Correction { until, ..correction };
        Record::Correction { account: account("alice"), sequence: 9, correction, pool_full }
    };
    let mut bytes = Vec::new();
    write(&record(correction.until, false), &mut Before::default(), &mut bytes);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "07090000000000000005616c6963650100000000000000020201010200000000000000ffffffffffffffffffffffffffffffff03000000000000000000000000000000040000000000000005000000060000000000000001070800",
        "the layout is frozen"
    );
    assert_eq!(read(&mut Take(&bytes), &mut Before::default()), Some(record(correction.until, false)));
    let mut open = Vec::new();
    write(&record(None, true), &mut Before::default(), &mut open);
    assert_eq!(read(&mut Take(&open), &mut Before::default()), Some(record(None, true)));
}
