//! Each thing that can be wrong, made wrong.

use super::super::*;
use super::shown;
use super::world::{Act, block_on, run};

/// Two distributions that are paid, with a carry, a voided revision, a rejection and an opt-out, and one that is held.
fn told() -> Input {
    let minute = 60;
    let balance = |who, balance| Act::Balance { who, balance, ago: 0 };
    let acts = [
        Act::Stake { amount: 900 },
        balance(1, 100),
        balance(2, 300),
        Act::Wait { seconds: 20 * minute },
        balance(2, 40),
        Act::Put { who: 3, balance: 77 },
        balance(3, 5),
        Act::Reward { amount: 1_000, hours: 1 },
        Act::Wait { seconds: 50 * minute },
        Act::Decide { what: 0 },
        Act::Decide { what: 2 },
        Act::Enrol { who: 1, decision: 1, everywhere: false },
        Act::Reward { amount: 500, hours: 1 },
        Act::Wait { seconds: 60 * minute },
        Act::Decide { what: 2 },
        Act::Reward { amount: 400, hours: 1 },
        balance(4, 900),
        balance(4, 200),
    ];
    block_on(run(2, true, &acts))
}

#[test]
fn one_figure_that_is_off_by_one_is_named() {
    let input = told();
    assert_eq!(shown(&audit(&input)), "");
    let released = |input: &Input| input.distributions.iter().position(|it| it.state == State::Released).unwrap();
    let paid = |input: &mut Input, change: &dyn Fn(&mut Distribution)| {
        let which = released(input);
        change(&mut input.distributions[which]);
    };
    type Change<'a> = Box<dyn Fn(&mut Input) + 'a>;
    fn seal(input: &mut Input) -> &mut Frozen {
        input.periods[1].frozen.as_mut().unwrap()
    }
    let cases: Vec<(&str, Change<'_>)> = vec![
        ("the sum of the receipts", Box::new(|it| paid(it, &|it| it.figures.receipts += 1))),
        ("the carry in", Box::new(|it| paid(it, &|it| it.figures.carry_in += 1))),
        ("the house in", Box::new(|it| paid(it, &|it| it.figures.house_in += 1))),
        ("the fee", Box::new(|it| paid(it, &|it| it.figures.fee += 1))),
        ("the recovery", Box::new(|it| paid(it, &|it| it.figures.recovery += 1))),
        ("the sum of the payouts", Box::new(|it| paid(it, &|it| it.figures.payouts += 1))),
        ("the house out", Box::new(|it| paid(it, &|it| it.figures.house_out += 1))),
        ("the carry out", Box::new(|it| paid(it, &|it| it.figures.carry_out += 1))),
        ("what its rewards owe", Box::new(|it| paid(it, &|it| it.owed += 1))),
        ("the total weight", Box::new(|it| paid(it, &|it| it.weight_total += U256::from(1)))),
        ("the house's weight", Box::new(|it| paid(it, &|it| it.house_weight += U256::from(1)))),
        ("what is staked or unbonding", Box::new(|it| paid(it, &|it| it.staked_at_end += 1))),
        ("the positions distributed to", Box::new(|it| paid(it, &|it| it.positions += 1))),
        ("the positions with a weight distributed", Box::new(|it| paid(it, &|it| it.positive_count += 1))),
        ("the number of payouts", Box::new(|it| paid(it, &|it| it.paid_count += 1))),
        ("the number of receipts", Box::new(|it| paid(it, &|it| it.receipt_count += 1))),
        ("the hash of the payouts", Box::new(|it| paid(it, &|it| it.hash += U256::from(1)))),
        ("the number of a revision", Box::new(|it| paid(it, &|it| it.revision += 1))),
        (
            "span more than two periods",
            Box::new(|it| {
                paid(it, &|it| it.holds.push("RECEIPT_SPANS_MORE_THAN_TWO_PERIODS".to_owned()));
            }),
        ),
        ("it does not take receipt", Box::new(|it| paid(it, &|it| it.receipts = Some(Vec::new())))),
        (
            "it takes receipt stranger/0",
            Box::new(|it| {
                paid(it, &|it| it.receipts.as_mut().unwrap().push("stranger/0".to_owned()));
            }),
        ),
        (
            "account customer-1: the payout",
            Box::new(|it| {
                paid(it, &|it| it.payouts.as_mut().unwrap().iter_mut().find(|it| it.0 == "customer-1").unwrap().1 += 1);
            }),
        ),
        (
            "it is paid twice",
            Box::new(|it| {
                paid(it, &|it| it.payouts.as_mut().unwrap().extend_from_within(0..1));
            }),
        ),
        (
            "account stranger: the payout",
            Box::new(|it| {
                paid(it, &|it| it.payouts.as_mut().unwrap().push(("stranger".to_owned(), 1)));
            }),
        ),
        ("shows no payouts", Box::new(|it| paid(it, &|it| it.payouts = None))),
        ("and its revisions are", Box::new(|it| paid(it, &|it| it.state = State::Approved))),
        ("another one follows it", Box::new(|it| it.distributions[0].state = State::Released)),
        ("the hash of the payouts", Box::new(|it| it.distributions[0].hash += U256::from(1))),
        ("and its revisions are", Box::new(|it| it.periods[0].state = "FROZEN")),
        ("account customer-2: the frozen weight", Box::new(|it| *seal(it).weights.get_mut("customer-2").unwrap() += 1)),
        (
            "account customer-2: the frozen weight",
            Box::new(|it| assert!(seal(it).weights.remove("customer-2").is_some())),
        ),
        (
            "no position of it by then",
            Box::new(|it| assert!(seal(it).weights.insert("stranger".to_owned(), 0).is_none())),
        ),
        ("the sum of the frozen weights", Box::new(|it| seal(it).weight_total += U256::from(1))),
        ("the weight that late events added", Box::new(|it| seal(it).added += U256::from(1))),
        ("the weight that late events took", Box::new(|it| seal(it).taken += U256::from(1))),
        (
            "account customer-2: the weight still to be collected",
            Box::new(|it| position_of(it, "customer-2").uncollected += U256::from(1)),
        ),
        ("the positions frozen", Box::new(|it| seal(it).count += 1)),
        ("the positions with a weight", Box::new(|it| seal(it).positive += 1)),
        ("the eligible total at its start", Box::new(|it| seal(it).eligible_at_start += 1)),
        ("the eligible total at its end", Box::new(|it| seal(it).eligible_at_end += 1)),
        ("the cut of its freeze", Box::new(|it| *seal(it).cursors.values_mut().next().unwrap() += 1)),
        ("the snapshot that its accounts were weighed by", Box::new(|it| it.periods[1].minimum += 1)),
        ("the fate of sequence", Box::new(|it| it.rejected[0].reason = "TOO_OLD".to_owned())),
        ("the fate of sequence", Box::new(|it| it.rejected.clear())),
        ("account customer-2: the balance", Box::new(|it| position_of(it, "customer-2").balance += 1)),
        ("account customer-1: the standing", Box::new(|it| position_of(it, "customer-1").standing = Flags::default())),
        ("account customer-2: the owner", Box::new(|it| position_of(it, "customer-2").owner = Some(77))),
        (
            "account customer-2: the time of the last event",
            Box::new(|it| {
                position_of(it, "customer-2").last_event_at += 1;
            }),
        ),
        ("the engine has no position of it", Box::new(|it| drop(it.positions.pop()))),
        ("the auditor has none", Box::new(|it| it.positions[0].account = "stranger".to_owned())),
    ];
    for (words, change) in cases {
        let mut changed = input.clone();
        change(&mut changed);
        assert_ne!(changed, input, "{words}");
        let findings = shown(&audit(&changed));
        assert!(findings.contains(words), "wanted “{words}”, found:\n{findings}");
    }
}

fn position_of<'a>(input: &'a mut Input, account: &str) -> &'a mut Position {
    input.positions.iter_mut().find(|position| position.account == account).unwrap()
}

/// The journal is the auditor's ground: where it is not one history, that is a finding too.
#[test]
fn a_journal_that_is_no_one_history_is_named() {
    let input = told();
    let groups = |input: &mut Input, change: &dyn Fn(&mut Vec<Group>)| change(&mut input.partitions[1]);
    let first = |group: &Group, kind: fn(&Record) -> bool| group.records.first().is_some_and(kind);
    let balance = |record: &Record| matches!(record, Record::Balance { .. });
    type Change<'a> = Box<dyn Fn(&mut Input) + 'a>;
    let cases: Vec<(&str, Change<'_>)> = vec![
        ("as number 1", Box::new(|it| groups(it, &|groups| drop(groups.remove(0))))),
        (
            "was applied twice",
            Box::new(|it| {
                groups(it, &|groups| {
                    let again = groups.iter().find(|group| first(group, balance)).unwrap().records.clone();
                    groups.last_mut().unwrap().records.extend(again);
                });
            }),
        ),
        (
            "came after the freeze that was cut at",
            Box::new(|it| {
                groups(it, &|groups| {
                    let freeze =
                        groups.iter().position(|group| first(group, |it| matches!(it, Record::Freeze { .. }))).unwrap();
                    let before = groups[..freeze].iter().rposition(|group| first(group, balance)).unwrap();
                    let moved = std::mem::take(&mut groups[before].records);
                    groups[freeze].records.extend(moved);
                });
            }),
        ),
        (
            "the cut of its freeze in partition 1",
            Box::new(|it| {
                groups(it, &|groups| {
                    for record in groups.iter_mut().flat_map(|group| &mut group.records) {
                        if let Record::Freeze { cursors, .. } = record {
                            cursors.values_mut().for_each(|cursor| *cursor += 1);
                        }
                    }
                });
            }),
        ),
        (
            "opened it out of turn",
            Box::new(|it| {
                groups(it, &|groups| {
                    for record in groups.iter_mut().flat_map(|group| &mut group.records) {
                        if let Record::Open(period) = record {
                            period.start += 1;
                        }
                    }
                });
            }),
        ),
    ];
    for (words, change) in cases {
        let mut changed = input.clone();
        change(&mut changed);
        let findings = shown(&audit(&changed));
        assert!(findings.contains(words), "wanted “{words}”, found:\n{findings}");
    }
}

/// Two corrections in the time in which a period is over and not frozen: of the next one, and across its start.
#[test]
fn a_correction_that_is_off_by_one_is_named() {
    let balance = |balance| Act::Balance { who: 1, balance, ago: 0 };
    let acts = [
        Act::Lag { seconds: 900 },
        balance(100),
        Act::Wait { seconds: 3_600 },
        Act::Wait { seconds: 100 },
        balance(300),
        Act::Wait { seconds: 100 },
        balance(50),
        Act::Correct { who: 1, balance: 700, ago: 150 },
        Act::Correct { who: 1, balance: 10, ago: 400 },
        Act::Wait { seconds: 3_600 },
    ];
    let input = block_on(run(1, false, &acts));
    assert_eq!(shown(&audit(&input)), "");
    fn corrections(input: &mut Input) -> Vec<&mut Correction> {
        let records = input.partitions.iter_mut().flatten().flat_map(|group| &mut group.records);
        records.filter_map(|it| if let Record::Correction(correction) = it { Some(correction) } else { None }).collect()
    }
    let mut found = input.clone();
    let found: Vec<(i128, i128)> = corrections(&mut found).iter().map(|it| (it.oldest, it.next)).collect();
    assert_eq!(found, [(0, 600 * 50), (-90 * 200, -90 * 50)]);
    let cases: [(&str, fn(&mut Correction)); 4] = [
        ("in the weight of the oldest open period", |it| it.oldest += 1),
        ("in the weight of the next open period", |it| it.next -= 1),
        ("the end of what a correction corrects", |it| it.until = it.until.map(|until| until + 1)),
        ("the frozen weight", |it| it.basis.oldest += 1),
    ];
    for (words, change) in cases {
        let mut changed = input.clone();
        corrections(&mut changed).into_iter().for_each(change);
        let findings = shown(&audit(&changed));
        assert!(findings.contains(words), "wanted “{words}”, found:\n{findings}");
    }
}
