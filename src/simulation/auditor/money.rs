//! The distributions in the order of their periods: which receipts each takes, what it is handed, and what it pays.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{About, Findings};
use super::history::History;
use super::input::{Distribution, Figures, Input, Period, Receipt, State};
use super::owed::Debt;
use super::share::{self, Split};
use super::weigh::{self, Weighed};

/// What one distribution hands to the next.
#[derive(Default)]
struct Running<'a> {
    /// The receipts that are paid out.
    taken: BTreeSet<&'a str>,
    /// The carry, and what the rewards owe for slashes.
    debt: Debt,
}

/// Compares every revision.
pub(super) fn distributions(
    input: &Input,
    history: &History,
    weighed: &BTreeMap<u64, Weighed>,
    findings: &mut Findings,
) {
    let mut revisions: BTreeMap<u64, Vec<&Distribution>> = BTreeMap::new();
    for distribution in &input.distributions {
        revisions.entry(distribution.period).or_default().push(distribution);
    }
    for index in revisions.keys().filter(|index| !input.periods.iter().any(|period| period.index == **index)) {
        findings.say(About::period(*index), "it has a distribution, and there is no such period".to_owned());
    }
    let mut running = Running::default();
    let mut ended = true;
    for period in &input.periods {
        let about = About::period(period.index);
        let of_period = revisions.get(&period.index).map_or(&[][..], Vec::as_slice);
        if !of_period.is_empty() && !ended {
            findings.say(about, "it has a distribution before the one of the period before has ended".to_owned());
        }
        ended = ends(period, of_period, findings);
        let Some(weighed) = weighed.get(&period.index) else {
            if !of_period.is_empty() {
                findings.say(about, "it has a distribution, and the journal has no freeze of it".to_owned());
            }
            continue;
        };
        for distribution in of_period.iter().filter(|distribution| distribution.sealed) {
            revision(input, history, period, weighed, distribution, &mut running, findings);
        }
    }
}

/// Whether a period's distribution is over, by its revisions; says where they don't follow each other as they must, or
/// where the period says something else.
fn ends(period: &Period, revisions: &[&Distribution], findings: &mut Findings) -> bool {
    let about = About::period(period.index);
    for (number, distribution) in (1..).zip(revisions) {
        findings.same(about, "the number of a revision", &distribution.revision, &number);
        let last = usize::try_from(number).is_ok_and(|number| number == revisions.len());
        if !last && distribution.state != State::VoidedToRecompute {
            let message = format!("revision {number} is {:?}, and another one follows it", distribution.state);
            findings.say(about, message);
        }
    }
    let ended = revisions.last().is_some_and(|last| match last.state {
        State::Released => true,
        // It ends once it has given back every receipt.
        State::VoidedToCarry => period.state == "DISTRIBUTED",
        State::Computed | State::Held | State::Approved | State::VoidedToRecompute => false,
    });
    if ended != (period.state == "DISTRIBUTED") {
        let states: Vec<State> = revisions.iter().map(|revision| revision.state).collect();
        findings.say(about, format!("the engine has it as {}, and its revisions are {states:?}", period.state));
    }
    ended
}

fn revision<'a>(
    input: &'a Input,
    history: &History,
    period: &Period,
    weighed: &Weighed,
    told: &Distribution,
    running: &mut Running<'a>,
    findings: &mut Findings,
) {
    let about = About::period(period.index);
    let Some(opened) = history.opened.get(&period.index) else { return };
    let receipts = takes(input, period, told, running, findings);
    let sum: u128 = receipts.iter().map(|receipt| receipt.amount).sum();
    findings.same(about, "the number of receipts", &told.receipt_count, &(receipts.len() as u64));
    let span = |receipt: &&&Receipt| receipt.earned_to - receipt.earned_from > 2 * (period.end - period.start);
    let held = told.holds.iter().any(|hold| hold == "RECEIPT_SPANS_MORE_THAN_TWO_PERIODS");
    let spans = receipts.iter().filter(span).count();
    findings.same(about, "held for receipts that span more than two periods", &held, &(spans > 0));

    let mut debt = running.debt.when(input, period, told, findings);
    let house = weigh::house_weight(weighed, &input.staked, opened);
    findings.same(about, "the house's weight", &told.house_weight, &house);
    findings.same(about, "the total weight", &told.weight_total, &(weighed.total() + house));
    let staked = u128::try_from(weigh::staked_at(&input.staked, period.end - 1)).ok();
    findings.same(about, "what is staked or unbonding at its end", &Some(told.staked_at_end), &staked);

    let split = share::split(period, sum, debt.carry, debt.owed, &weighed.weights, house);
    if let Some(why) = split.impossible {
        findings.say(about, format!("its figures can't be: {why}"));
    }
    figures(about, &told.figures, &split.figures, findings);
    findings.same(about, "the positions distributed to", &told.positions, &(weighed.weights.len() as u64));
    findings.same(about, "the positions with a weight distributed to", &told.positive_count, &weighed.positive());
    findings.same(about, "the number of payouts", &told.paid_count, &(split.payouts.len() as u64));
    findings.same(about, "the hash of the payouts", &told.hash, &share::set_hash(&split.payouts));
    payouts(about, told, &split, findings);

    if told.state == State::Released {
        running.taken.extend(receipts.iter().map(|receipt| receipt.key.as_str()));
        debt.owed = debt.owed.saturating_sub(split.figures.recovery);
        debt.carry = split.figures.carry_out;
        running.debt = debt;
    }
}

/// Every receipt that is not paid out yet and whose chain time is before the period's end. One that an operator recorded
/// has to be there: in a revision that was computed after it, and it may be in one that was being computed then.
fn takes<'a>(
    input: &'a Input,
    period: &Period,
    told: &Distribution,
    running: &Running<'_>,
    findings: &mut Findings,
) -> Vec<&'a Receipt> {
    let about = About::period(period.index);
    let names: Option<BTreeSet<&str>> = told.receipts.as_ref().map(|names| names.iter().map(String::as_str).collect());
    let due = |receipt: &&Receipt| receipt.at < period.end && !running.taken.contains(receipt.key.as_str());
    let mut takes = Vec::new();
    for receipt in input.receipts.iter().filter(due) {
        let may_miss = receipt.recorded_at.is_some_and(|at| at >= period.end);
        let named = names.as_ref().is_none_or(|names| names.contains(receipt.key.as_str()));
        let later = receipt.recorded_at.is_some_and(|at| at > told.computed_at);
        if named && !later {
            takes.push(receipt);
        } else if !named && !may_miss {
            let message = format!("it does not take receipt {} of {} at {}", receipt.key, receipt.amount, receipt.at);
            findings.say(about, message);
        }
    }
    for name in names.iter().flatten() {
        if !takes.iter().any(|receipt| receipt.key == *name) {
            findings.say(about, format!("it takes receipt {name}, which it must not: paid out before, later, or none"));
        }
    }
    takes
}

fn figures(about: About<'_>, engine: &Figures, auditor: &Figures, findings: &mut Findings) {
    let pairs = [
        ("the sum of the receipts", engine.receipts, auditor.receipts),
        ("the carry in", engine.carry_in, auditor.carry_in),
        ("the house in", engine.house_in, auditor.house_in),
        ("the fee", engine.fee, auditor.fee),
        ("the recovery", engine.recovery, auditor.recovery),
        ("the sum of the payouts", engine.payouts, auditor.payouts),
        ("the house out", engine.house_out, auditor.house_out),
        ("the carry out", engine.carry_out, auditor.carry_out),
    ];
    for (what, engine, auditor) in pairs {
        findings.same(about, what, &engine, &auditor);
    }
}

fn payouts(about: About<'_>, told: &Distribution, split: &Split, findings: &mut Findings) {
    let Some(listed) = &told.payouts else {
        if told.state == State::Released {
            findings.say(about, "it is released, and the engine shows no payouts of it".to_owned());
        }
        return;
    };
    let mut paid: BTreeMap<&str, u128> = BTreeMap::new();
    for (account, amount) in listed {
        if paid.insert(account, *amount).is_some() {
            findings.say(About { account: Some(account), ..about }, "it is paid twice".to_owned());
        }
    }
    let accounts: BTreeSet<&str> = paid.keys().copied().chain(split.payouts.keys().map(String::as_str)).collect();
    for account in accounts {
        let engine = paid.get(account).copied().unwrap_or(0);
        let auditor = split.payouts.get(account).copied().unwrap_or(0);
        findings.same(About { account: Some(account), ..about }, "the payout", &engine, &auditor);
    }
}
