//! What the engine says of events, positions and frozen periods, held against what the journal says.

use std::collections::BTreeMap;

use ruint::aliases::U256;

use super::finding::{About, Findings};
use super::history::History;
use super::input::{Flags, Input, Opened, Period};
use super::weigh::Weighed;

/// Compares what was rejected, and why.
pub(super) fn fates(input: &Input, history: &History, findings: &mut Findings) {
    let mut told: BTreeMap<(u16, u64), (&str, &str)> = BTreeMap::new();
    for rejected in &input.rejected {
        let key = (rejected.source, rejected.sequence);
        told.insert(key, (&rejected.account, &rejected.reason));
        let known = history.rejected.get(&(rejected.source, rejected.sequence, rejected.account.clone()));
        let about = About { period: None, account: Some(&rejected.account) };
        let what = format!("the fate of sequence {} of source {}", rejected.sequence, rejected.source);
        findings.same(about, &what, &rejected.reason.as_str(), &known.copied().unwrap_or("it accepted"));
    }
    for ((source, sequence, account), reason) in &history.rejected {
        // Several accounts of one entry of the enrolment log share the place where a rejection is kept.
        if !told.contains_key(&(*source, *sequence)) {
            let what = format!("the fate of sequence {sequence} of source {source}");
            findings.same(About { period: None, account: Some(account) }, &what, &"it accepted", reason);
        }
    }
}

/// Compares every position as it stands after the last record.
pub(super) fn positions(input: &Input, history: &History, rests: &BTreeMap<String, U256>, findings: &mut Findings) {
    let told: BTreeMap<&str, _> = input.positions.iter().map(|told| (told.account.as_str(), told)).collect();
    if told.len() != input.positions.len() {
        findings.say(About::default(), "the engine shows an account twice".to_owned());
    }
    for (name, account) in &history.accounts {
        let about = About { period: None, account: Some(name) };
        let Some(told) = told.get(name.as_str()) else {
            findings.say(about, "the engine has no position of it, the auditor has one".to_owned());
            continue;
        };
        let last = account.marks.last();
        findings.same(about, "the balance", &told.balance, &last.map_or(0, |last| last.balance));
        let standing = last.map_or(Flags::default(), |last| last.standing);
        findings.same(about, "the standing", &told.standing, &standing);
        findings.same(about, "the owner", &told.owner, &account.owner);
        let last_at = last.map_or(history.origin, |last| last.said);
        findings.same(about, "the time of the last event", &told.last_event_at, &last_at);
        let rest = rests.get(name).copied().unwrap_or_default();
        findings.same(about, "the weight still to be collected", &told.uncollected, &rest);
    }
    for name in told.keys().filter(|name| !history.accounts.contains_key(**name)) {
        let message = "the engine has a position of it, the auditor has none".to_owned();
        findings.say(About { period: None, account: Some(name) }, message);
    }
}

/// Compares the periods with the journal's, and each frozen weight.
pub(super) fn periods(input: &Input, history: &History, weighed: &BTreeMap<u64, Weighed>, findings: &mut Findings) {
    for (index, period) in (0..).zip(&input.periods) {
        let about = About::period(period.index);
        findings.same(about, "its number", &period.index, &index);
        if let Some(opened) = history.opened.get(&period.index) {
            // The feed's limits are no part of the snapshot that is shown.
            let Period { index, start, end, minimum, cap, opt_in, .. } = *period;
            let shown = Opened { index, start, end, minimum, cap, opt_in, ..*opened };
            findings.same(about, "the snapshot that its accounts were weighed by", &shown, opened);
        }
        let frozen = history.frozen.contains_key(&period.index);
        if period.state != "OPEN" && !frozen {
            findings.say(about, format!("the engine has it as {}, the journal has no freeze of it", period.state));
        }
        let (Some(told), Some(weighed)) = (&period.frozen, weighed.get(&period.index)) else { continue };
        for (account, weight) in &weighed.weights {
            let about = About { account: Some(account), ..about };
            let told = told.weights.get(account).map(|weight| U256::from(*weight));
            findings.same(about, "the frozen weight", &told, &Some(*weight));
        }
        for account in told.weights.keys().filter(|account| !weighed.weights.contains_key(*account)) {
            let message = "the engine froze a weight of it, the auditor has no position of it by then".to_owned();
            findings.say(About { account: Some(account), ..about }, message);
        }
        findings.same(about, "the sum of the frozen weights", &told.weight_total, &weighed.total());
        findings.same(about, "the weight that late events added", &told.added, &weighed.added);
        findings.same(about, "the weight that late events took", &told.taken, &weighed.taken);
        findings.same(about, "the positions frozen", &told.count, &(weighed.weights.len() as u64));
        findings.same(about, "the positions with a weight", &told.positive, &weighed.positive());
        findings.same(about, "the eligible total at its start", &told.eligible_at_start, &weighed.opening);
        let at_end = u128::try_from(weighed.eligible_at(period.end - 1)).ok();
        findings.same(about, "the eligible total at its end", &Some(told.eligible_at_end), &at_end);
        if let Some(cursors) = history.frozen.get(&period.index) {
            findings.same(about, "the cut of its freeze", &told.cursors, cursors);
        }
    }
}
