//! Whole pools run by the engine and recomputed by the auditor: random ones, in which it finds nothing, and one in which
//! every figure is changed by the least there is, which it names.

mod changes;
mod world;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::super::auditor::Fate;
use super::*;
use world::{act, block_on, run};

fn shown(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_auditor_finds_nothing_in_any_history(
        acts in proptest::collection::vec(act(), 20..90),
        partitions in 1..5u16,
        approval in any::<bool>(),
    ) {
        let input = block_on(run(partitions, approval, &acts));
        let findings = audit(&input);
        prop_assert!(findings.is_empty(), "{}", shown(&findings));
    }
}

/// Random histories prove nothing where nothing happens in them.
#[test]
fn the_histories_reach_every_kind_of_event_and_of_distribution() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let histories = (proptest::collection::vec(act(), 40..90), any::<bool>());
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..40 {
        let (acts, approval) = histories.new_tree(&mut runner).unwrap().current();
        let input = block_on(run(3, approval, &acts));
        assert_eq!(shown(&audit(&input)), "");
        let mut count = |what: String| *seen.entry(what).or_default() += 1;
        input.rejected.iter().for_each(|rejected| count(rejected.reason.clone()));
        for fate in super::super::auditor::fates(&input).values() {
            if let Fate::Accepted { clamped, late } = fate {
                count(format!("clamped {clamped}"));
                count(format!("late {late}"));
            }
        }
        for record in input.partitions.iter().flatten().flat_map(|group| &group.records) {
            if let Record::Snapshot { .. } = record {
                count("snapshot".to_owned());
            }
            if let Record::Correction(correction) = record {
                let kinds = [("ends", correction.until.is_some()), ("goes on", correction.until.is_none())];
                kinds.into_iter().filter(|(_, is)| *is).for_each(|(kind, _)| count(format!("correction {kind}")));
            }
        }
        for frozen in input.periods.iter().filter_map(|period| period.frozen.as_ref()) {
            let adjusted = [("added", frozen.added), ("taken", frozen.taken)];
            adjusted.into_iter().filter(|(_, weight)| !weight.is_zero()).for_each(|(name, _)| count(name.to_owned()));
        }
        if input.positions.iter().any(|position| !position.uncollected.is_zero()) {
            count("uncollected".to_owned());
        }
        for it in input.distributions.iter().filter(|it| it.sealed) {
            count(format!("{:?}", it.state));
            let Figures { carry_in, house_in, payouts, house_out, recovery, .. } = it.figures;
            let figures = [
                ("carry in", carry_in),
                ("house in", house_in),
                ("house out", house_out),
                ("paid", payouts),
                ("recovery", recovery),
            ];
            figures.into_iter().filter(|(_, figure)| *figure > 0).for_each(|(name, _)| count(name.to_owned()));
            it.holds.iter().for_each(|hold| count(hold.clone()));
        }
    }
    let wanted = [
        "BALANCE_TOO_LARGE",
        "TOO_OLD",
        "FROM_FUTURE",
        "NOT_OWNER",
        "clamped true",
        "late true",
        "correction ends",
        "correction goes on",
        "snapshot",
        "added",
        "taken",
        "uncollected",
        "recovery",
        "Held",
        "Released",
        "VoidedToRecompute",
        "VoidedToCarry",
        "carry in",
        "house in",
        "house out",
        "paid",
        "RECEIPT_SPANS_MORE_THAN_TWO_PERIODS",
    ];
    for what in wanted {
        assert!(seen.get(what).is_some_and(|times| *times > 0), "{what}: {seen:?}");
    }
}
