//! Random histories: permuted, differently partitioned, compared with a second-by-second model.

use proptest::prelude::*;

use super::*;
use crate::domain::eligibility::{StandingChange, eligible};

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
    let (mut last, mut corrections) = ([0i64; 9], 0u64);
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
            8 | 9 => {
                corrections += 1;
                // From anywhere in the pool's life; some are about right now.
                let second = clock * i64::from(step.wait as u16 % 8) / 7;
                let name = name(step.account);
                let asked = Asked { sequence: corrections, name, second, balance: step.balance };
                acts.push(Act::Correct(asked, clock));
            }
            10 => {
                let second = last[step.account].max(clock);
                last[step.account] = second;
                acts.push(Act::Snapshot(snapshot(sequence, second, &[(&name(step.account), step.balance)]), clock));
            }
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

/// What was accepted of one account, with the times at which it counts.
#[derive(Clone, Debug, Default)]
struct Marks {
    balances: Vec<(i64, u64)>,
    standings: Vec<(i64, Standing)>,
    last: i64,
    standing_last: bool,
}

impl Marks {
    fn weigh(&self, from: i64, to: i64, policy: &EligibilityPolicy) -> u128 {
        let breaks = self.balances.iter().map(|mark| mark.0).chain(self.standings.iter().map(|mark| mark.0));
        let mut breaks: Vec<i64> = breaks.filter(|at| from < *at && *at < to).chain([from, to]).collect();
        breaks.sort_unstable();
        let stretch = |pair: &[i64]| {
            let balance = self.balances.iter().rev().find(|mark| mark.0 <= pair[0]).map_or(0, |mark| mark.1);
            let standing = self.standings.iter().rev().find(|mark| mark.0 <= pair[0]).map_or(Standing::NONE, |m| m.1);
            eligible(BaseUnits::from_u64(balance), standing, policy).get() * (pair[1] - pair[0]) as u128
        };
        breaks.windows(2).map(stretch).sum()
    }

    fn correct(&mut self, asked: &Asked) {
        self.balances.retain(|mark| mark.0 != asked.second);
        let place = self.balances.partition_point(|mark| mark.0 < asked.second);
        if place == self.balances.len() {
            self.last = self.last.max(asked.second);
        }
        self.balances.insert(place, (asked.second, asked.balance));
    }
}

/// The weight of every account in every frozen period, from what was accepted by then: all that is due up to that
/// period, as known when it freezes, less what was paid before.
fn model(acts: &[Act], frozen: u64) -> Vec<BTreeMap<String, u128>> {
    let mut accounts: BTreeMap<String, Marks> = BTreeMap::new();
    let mut paid: Vec<BTreeMap<String, u128>> = Vec::new();
    let (mut oldest, mut policies) = (0i64, BTreeMap::new());
    let seconds = |moment: UnixSeconds| moment.get() - at(0).get();
    for act in acts {
        match act {
            Act::Open(period, _) => drop(policies.insert(period.index.0, period.policy)),
            Act::Freeze(index, _) => {
                oldest = (*index as i64 + 1) * LENGTH;
                let due = |(name, marks): (&String, &Marks)| {
                    let of =
                        |index: u64| marks.weigh(index as i64 * LENGTH, (index as i64 + 1) * LENGTH, &policies[&index]);
                    let due: u128 = (0..=*index).map(of).sum();
                    let before: u128 = paid.iter().map(|paid| paid.get(name).copied().unwrap_or(0)).sum();
                    (name.clone(), due.saturating_sub(before))
                };
                paid.push(accounts.iter().map(due).collect());
            }
            Act::Events(_, now) | Act::Snapshot(_, now) => {
                let said: Vec<(&AccountId, BaseUnits, UnixSeconds)> = match act {
                    Act::Events(batch, _) => batch.events.iter().map(|e| (&e.account, e.balance, e.at)).collect(),
                    Act::Snapshot(batch, _) => batch.balances.iter().map(|(_, a, b)| (a, *b, batch.at)).collect(),
                    _ => Vec::new(),
                };
                for (account, balance, at) in said {
                    let mut marks = accounts.get(account.as_str()).cloned().unwrap_or_default();
                    let when = seconds(at);
                    let too_late = marks.last.max(when) < oldest && when < (*now).max(oldest) - 10_000;
                    if (marks.last - when > 60 && !marks.standing_last) || too_late {
                        continue;
                    }
                    (marks.last, marks.standing_last) = (marks.last.max(when), false);
                    marks.balances.push((marks.last, balance.get() as u64));
                    accounts.insert(account.as_str().to_owned(), marks);
                }
            }
            Act::Enrol(enrolment, _) => {
                for change in &enrolment.changes {
                    let marks = accounts.entry(change.account.as_str().to_owned()).or_default();
                    (marks.last, marks.standing_last) = (marks.last.max(seconds(change.at)), true);
                    let standing = marks.standings.last().map_or(Standing::NONE, |mark| mark.1);
                    marks.standings.push((marks.last, change.change.apply(standing)));
                }
            }
            Act::Correct(asked, _) => {
                if let Some(marks) = accounts.get_mut(&asked.name) {
                    marks.correct(asked);
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
