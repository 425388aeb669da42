use super::*;
use crate::domain::calendar::MAX_FROZEN_RUNS;
use crate::domain::eligibility::{EligibilityPolicy, EnrolmentMode};
use crate::domain::period::TimeLimits;

fn period(index: u64) -> OpenPeriod {
    let policy = EligibilityPolicy { minimum: BaseUnits::from_u64(9), cap: None, enrolment: EnrolmentMode::Automatic };
    let bounds = PeriodBounds::new(UnixSeconds::new(1_000 + 60 * index as i64), 60).unwrap();
    OpenPeriod { index: PeriodIndex(index), bounds, policy, limits: TimeLimits::default() }
}

fn sum() -> SetSum {
    SetSum { count: 3, positive: 2, sum: U256::from(77u64), hash: U256::MAX }
}

/// One of each stored form, by name.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let heads = [Head { group: 5, chain: [7; 16] }, Head { group: 0, chain: [8; 16] }];
    let rejected = RejectedEvent {
        reason: RejectReason::BalanceTooLarge { limit: BaseUnits::from_u64(500) },
        pool: Some(2),
        asset: "DOGE".to_owned(),
        account: "alice".to_owned(),
        balance: Some(BaseUnits::MAX),
        at: UnixSeconds::new(-1),
        rejected_at: UnixSeconds::new(12),
    };
    vec![
        ("heads", encode_heads(&heads)),
        ("source", encode_source(9, Some(UnixSeconds::new(-4)))),
        ("hashes", encode_hashes([1u64, u64::MAX].into_iter())),
        ("rejected", encode_rejected(&rejected)),
        ("seal", encode_seal(&sum())),
        ("frozen", encode_frozen(&frozen())),
        ("curve", encode_curve_page(PeriodIndex(4), &curve())),
        ("manifest", encode_manifest(&manifest())),
    ]
}

fn frozen() -> FrozenRecord {
    FrozenRecord {
        period: period(4),
        frozen_at: UnixSeconds::new(99),
        total: sum(),
        start_total: -1,
        end_total: 10,
        curve_pages: 2,
        integral: Some(U256::from(75u64)),
        adjusted: AdjustedSum { up: U256::from(3u64), down: U256::from(1u64) },
        cursors: vec![(SourceNumber(0), 1), (SourceNumber(9), u64::MAX)],
        groups: vec![3, 4],
    }
}

fn curve() -> Vec<(u32, i128)> {
    vec![(0, 5), (59, -7), (60, i128::MIN), (61, i128::MAX)]
}

fn past(runs: u64) -> FrozenPast {
    let run = |n: u64| FrozenRun {
        from: period(n).bounds.start,
        until: period(n).bounds.end,
        policy: EligibilityPolicy { cap: Some(BaseUnits::MAX), minimum: BaseUnits::MAX, ..period(n).policy },
        ceiling: BaseUnits::MAX,
    };
    FrozenPast::new((0..runs).map(run).collect()).unwrap()
}

fn manifest() -> Manifest {
    let calendar = Calendar {
        origin: UnixSeconds::new(1_000),
        frozen_any: true,
        past: past(2),
        oldest: period(4),
        next: Some(period(5)),
    };
    let partition = ManifestPartition { replay_from: 8, chain: [3; 16], upto: 12, pages: 2, hash_sum: u128::MAX };
    let adjusted = AdjustedSum { up: U256::from(1_000u64), down: U256::ZERO };
    let head =
        ManifestCurve { index: PeriodIndex(4), bounds: period(4).bounds, start_total: 3, crossing: -2, adjusted };
    Manifest {
        generation: 6,
        calendar: Some(calendar),
        partitions: vec![partition; 2],
        eligible: 11,
        positions: 2,
        rests: U256::from(5u64),
        curves: vec![head],
        curve_pages: 1,
    }
}

#[test]
fn the_layouts_are_frozen() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let page: Vec<String> = samples().iter().map(|(name, bytes)| format!("{name} {}", hex(bytes))).collect();
    assert_eq!(page.join("\n"), include_str!("records_golden.txt").trim_end());
}

#[test]
fn records_come_back() {
    let bytes = |name: &str| samples().into_iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(decode_heads(&bytes("heads")).unwrap()[0], Head { group: 5, chain: [7; 16] });
    assert_eq!(decode_source(&bytes("source")), Some((9, Some(UnixSeconds::new(-4)))));
    assert_eq!(decode_source(&encode_source(1, None)), Some((1, None)));
    assert_eq!(decode_hashes(&bytes("hashes")), Some(vec![1, u64::MAX]));
    assert_eq!(decode_rejected(&bytes("rejected")).map(|event| encode_rejected(&event)), Some(bytes("rejected")));
    assert_eq!(decode_seal(&bytes("seal")), Some(sum()));
    assert_eq!(decode_frozen(&bytes("frozen")), Some(frozen()));
    let least = vec![(0, 5), (59, -7), (60, i128::MIN), (61, i128::MAX)];
    assert_eq!(decode_curve_page(&bytes("curve")), Some((PeriodIndex(4), least)));
    assert_eq!(decode_manifest(&bytes("manifest")), Some(manifest()));
}

#[test]
fn any_flipped_bit_is_seen() {
    for (name, bytes) in samples() {
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            let read = match name {
                "heads" => decode_heads(&bad).is_some(),
                "source" => decode_source(&bad).is_some(),
                "hashes" => decode_hashes(&bad).is_some(),
                "rejected" => decode_rejected(&bad).is_some(),
                "seal" => decode_seal(&bad).is_some(),
                "frozen" => decode_frozen(&bad).is_some(),
                "curve" => decode_curve_page(&bad).is_some(),
                _ => decode_manifest(&bad).is_some(),
            };
            assert!(!read, "{name}, byte {at}");
        }
    }
}

#[test]
fn the_largest_of_each_fits_a_value_of_the_store() {
    let limit = crate::store::MAX_VALUE_BYTES;
    let partitions = usize::from(crate::book::MAX_PARTITIONS);
    let widest = AdjustedSum { up: U256::MAX, down: U256::MAX };
    let whole = Manifest {
        partitions: vec![manifest().partitions[0]; partitions],
        curves: vec![ManifestCurve { adjusted: widest, ..manifest().curves[0] }; 3],
        calendar: manifest().calendar.map(|calendar| Calendar { past: past(MAX_FROZEN_RUNS as u64), ..calendar }),
        rests: U256::MAX,
        ..manifest()
    };
    assert!(encode_manifest(&whole).len() <= limit);
    assert!(encode_heads(&vec![Head { group: 1, chain: [0; 16] }; partitions]).len() <= limit);
    assert!(encode_curve_page(PeriodIndex(1), &vec![(9, i128::MIN); CURVE_PAGE_CHANGES]).len() <= limit);
    assert!(encode_hashes(0..HASHES).len() <= limit);
    let many = (0..crate::book::MAX_SOURCES as u16).map(|n| (SourceNumber(n), u64::MAX)).collect();
    let record = FrozenRecord { cursors: many, groups: vec![1; partitions], adjusted: widest, ..frozen() };
    assert!(encode_frozen(&record).len() <= limit);
}
