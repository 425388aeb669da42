//! Random histories: permuted, differently partitioned, compared with a second-by-second model.

use proptest::prelude::*;

use super::*;
use crate::domain::eligibility::{Standing, StandingChange, eligible};

/// Steps of a random history: which account, which balance, after how long.
#[derive(Clone, Debug)]
pub(super) struct Step {
    account: usize,
    balance: u64,
    wait: i64,
    kind: u8,
}

pub(super) fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..9, 0u64..500, 0i64..LENGTH / 6, 0u8..20).prop_map(|(account, balance, wait, kind)| Step {
        account,
        balance,
        wait,
        kind,
    });
    proptest::collection::vec(step, 1..count)
}

pub(super) fn name(account: usize) -> String {
    format!("account-{account}")
}

/// The history as acts: events one by one, opt-outs, periods opened and frozen on the way, with other minimums.
pub(super) fn acts(steps: &[Step], checkpoints: bool) -> (Vec<Act>, u64) {
    let mut acts = vec![Act::Open(period_with(0, 20), 0), Act::Open(period_with(1, 60), 0)];
    let (mut clock, mut sequence, mut enrolments, mut frozen) = (0i64, 0u64, 0u64, 0u64);
    let mut last = [0i64; 9];
    for step in steps {
        clock += step.wait;
        while clock >= (frozen as i64 + 1) * LENGTH + 90 {
            acts.push(Act::Freeze(frozen, clock));
            frozen += 1;
            acts.push(Act::Open(period_with(frozen + 1, (frozen + 1) * 30 % 130), clock));
        }
        let account_name = name(step.account);
        match step.kind {
            0 | 1 => {
                enrolments += 1;
                let change = if step.kind == 0 { StandingChange::OPT_OUT } else { StandingChange::OPT_IN };
                let change = EnrolmentChange { pool: POOL, account: account(&account_name), change, at: at(clock) };
                last[step.account] = clock;
                acts.push(Act::Enrol(Enrolment { sequence: enrolments, changes: vec![change] }, clock));
            }
            2 if checkpoints => acts.push(Act::Checkpoint),
            kind => {
                sequence += 1;
                // A few go back, within the skew and past it, and some reach into frozen periods.
                let silent_since = last[step.account];
                let when = match kind {
                    3 => (clock - 70).max(0),
                    4 => clock - 20,
                    5..8 => silent_since + (clock - silent_since) / i64::from(kind),
                    _ => clock,
                };
                last[step.account] = silent_since.max(when);
                acts.push(Act::Events(batch(sequence, vec![event(&account_name, step.balance, when.max(0))]), clock));
            }
        }
    }
    for _ in 0..2 {
        acts.push(Act::Freeze(frozen, (frozen as i64 + 3) * LENGTH));
        frozen += 1;
        acts.push(Act::Open(period_with(frozen + 1, 0), (frozen as i64 + 3) * LENGTH));
    }
    (acts, frozen)
}

pub(super) async fn run(acts: &[Act], frozen: u64, partitions: u16) -> (Rig, Vec<BTreeMap<String, u128>>, U256) {
    let mut rig = Rig::new(partitions).await;
    for act in acts {
        rig.act(act.clone()).await;
        assert!(rig.book.audit(POOL).unwrap().holds(), "after {act:?}");
    }
    let mut weights = Vec::new();
    for index in 0..frozen {
        weights.push(rig.weights(index).await);
    }
    let hash = rig.hash();
    (rig, weights, hash)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The weight of every account in every frozen period, from what was accepted by then: all that is due up to that
/// period, as known when it freezes, less what was paid before.
fn model(acts: &[Act], frozen: u64) -> Vec<BTreeMap<String, u128>> {
    let mut marks: BTreeMap<String, Vec<(i64, u64, Standing)>> = BTreeMap::new();
    let mut last: BTreeMap<String, (i64, bool)> = BTreeMap::new();
    let mut paid: Vec<BTreeMap<String, u128>> = Vec::new();
    let (mut oldest, mut policies) = (0i64, BTreeMap::new());
    let seconds = |moment: UnixSeconds| moment.get() - at(0).get();
    for act in acts {
        match act {
            Act::Open(period, _) => drop(policies.insert(period.index.0, period.policy)),
            Act::Freeze(index, _) => {
                oldest = (*index as i64 + 1) * LENGTH;
                let weigh = |marks: &[(i64, u64, Standing)], index: u64| -> u128 {
                    let (start, end) = (index as i64 * LENGTH, (index as i64 + 1) * LENGTH);
                    let until = |i: usize| marks.get(i + 1).map_or(i64::MAX, |next| next.0);
                    let stretch = |(i, (from, balance, standing)): (usize, &(i64, u64, Standing))| {
                        let held = (until(i).min(end) - (*from).max(start)).max(0);
                        eligible(BaseUnits::from_u64(*balance), *standing, &policies[&index]).get() * held as u128
                    };
                    marks.iter().enumerate().map(stretch).sum()
                };
                let due = |(name, marks): (&String, &Vec<(i64, u64, Standing)>)| {
                    let due: u128 = (0..=*index).map(|index| weigh(marks, index)).sum();
                    let before: u128 = paid.iter().map(|paid| paid.get(name).copied().unwrap_or(0)).sum();
                    (name.clone(), due.saturating_sub(before))
                };
                paid.push(marks.iter().map(due).collect());
            }
            Act::Events(batch, now) => {
                for event in &batch.events {
                    let name = event.account.as_str().to_owned();
                    let (before, standing_last) = last.get(&name).copied().unwrap_or_default();
                    let when = seconds(event.at);
                    let too_late = before.max(when) < oldest && when < (*now).max(oldest) - 10_000;
                    if (before - when > 60 && !standing_last) || too_late {
                        continue;
                    }
                    last.insert(name.clone(), (before.max(when), false));
                    let marks = marks.entry(name).or_default();
                    let standing = marks.last().map_or(Standing::NONE, |mark| mark.2);
                    marks.push((before.max(when), event.balance.get() as u64, standing));
                }
            }
            Act::Enrol(enrolment, _) => {
                for change in &enrolment.changes {
                    let name = change.account.as_str().to_owned();
                    let (before, _) = last.get(&name).copied().unwrap_or_default();
                    let when = before.max(seconds(change.at));
                    last.insert(name.clone(), (when, true));
                    let marks = marks.entry(name).or_default();
                    let (balance, standing) = marks.last().map_or((0, Standing::NONE), |mark| (mark.1, mark.2));
                    marks.push((when, balance, change.change.apply(standing)));
                }
            }
            Act::Checkpoint => {}
        }
    }
    assert_eq!(paid.len() as u64, frozen);
    paid
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn weights_are_those_of_the_model_in_any_partitioning(steps in steps(60), partitions in 2u16..9) {
        let (acts, frozen) = acts(&steps, true);
        let expected = model(&acts, frozen);
        let (_, one, one_hash) = block_on(run(&acts, frozen, 1));
        let (_, many, many_hash) = block_on(run(&acts, frozen, partitions));
        for (index, weights) in one.iter().enumerate() {
            // An account that came later has no place in an earlier period.
            for (name, weight) in &expected[index] {
                prop_assert_eq!(weights.get(name).copied().unwrap_or(0), *weight, "{} in period {}", name, index);
            }
        }
        prop_assert_eq!(one, many);
        prop_assert_eq!(one_hash, many_hash);
    }

    /// Accounts do not know of each other: any interleaving of their events gives the same weights.
    #[test]
    fn the_order_across_accounts_changes_nothing(seeds in proptest::collection::vec((0i64..LENGTH, 0u64..900), 1..80), cut in 1usize..20) {
        let mut byacc: Vec<Vec<FeedEvent>> = vec![Vec::new(); 7];
        for (i, (second, balance)) in seeds.iter().enumerate() {
            byacc[i % 7].push(event(&name(i % 7), *balance, *second));
        }
        byacc.iter_mut().for_each(|events| events.sort_by_key(|event| event.at));
        let sorted: Vec<FeedEvent> = byacc.concat();
        let mut turns: Vec<FeedEvent> = Vec::new();
        for i in 0..seeds.len() {
            turns.extend(byacc.iter().filter_map(|events| events.get(i).cloned()));
        }
        let batches = |events: Vec<FeedEvent>, cut: usize| -> Vec<Act> {
            let mut acts = vec![Act::Open(period(0), 0), Act::Open(period(1), 0)];
            let part = |(i, part): (usize, &[FeedEvent])| Act::Events(batch((i * cut + 1) as u64, part.to_vec()), LENGTH);
            acts.extend(events.chunks(cut).enumerate().map(part));
            acts.push(Act::Freeze(0, LENGTH));
            acts
        };
        let (_, one, _) = block_on(run(&batches(sorted, cut), 1, 3));
        let (_, other, _) = block_on(run(&batches(turns, 1), 1, 16));
        prop_assert_eq!(one, other);
    }
}
