//! What came of a run: its verdict, and the machine-readable summary. The tables are in `tables.rs`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::amounts::{signed, units};
use super::custody::Moved;
use super::feed::Break;
use super::plan::Plan;
use crate::pb::v1;

/// One equation with its figures, or one thing that had to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The pool, or what else it is about.
    pub(super) scope: String,
    pub(super) name: String,
    pub(super) left: String,
    pub(super) right: String,
    pub(super) passed: bool,
}

impl Check {
    /// Two sums that have to be the same.
    pub(super) fn equal(scope: &str, name: &str, left: &[i128], right: &[i128]) -> Self {
        let total = |terms: &[i128]| terms.iter().fold(0_i128, |sum, term| sum.saturating_add(*term));
        let (left_total, right_total) = (total(left), total(right));
        Self {
            scope: scope.to_owned(),
            name: name.to_owned(),
            left: sum_text(left, left_total),
            right: sum_text(right, right_total),
            passed: left_total == right_total,
        }
    }

    /// The same, which also fails where something else does not hold.
    pub(super) fn and(self, holds: bool) -> Self {
        Self { passed: self.passed && holds, ..self }
    }

    /// The line that people read.
    pub(super) fn line(&self) -> String {
        let verdict = if self.passed { "PASS" } else { "FAIL" };
        let sign = if self.passed { "=" } else { "and" };
        let right = if self.right.is_empty() { String::new() } else { format!(" {sign} {}", self.right) };
        format!("{verdict}  {}: {}: {}{right}", self.scope, self.name, self.left)
    }
}

/// `1 + 2 = 3`; a single term stands alone.
fn sum_text(terms: &[i128], total: i128) -> String {
    let text = |term: &i128| if *term < 0 { format!("({term})") } else { term.to_string() };
    match terms {
        [one] => one.to_string(),
        _ => format!("{} = {total}", terms.iter().map(text).collect::<Vec<_>>().join(" + ")),
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) pools: Vec<PoolOutcome>,
    pub(super) checks: Vec<Check>,
    /// What was wrong in particular; the first few.
    pub(super) faults: Vec<String>,
    pub(super) events: u64,
    pub(super) batches: u64,
    pub(super) restart: Option<Break>,
    pub(super) redelivered: u64,
    pub(super) customer: Option<Customer>,
}

/// One pool at the end.
#[derive(Debug)]
pub(super) struct PoolOutcome {
    pub(super) pool: v1::Pool,
    pub(super) validators: Vec<v1::Validator>,
    pub(super) delegations: Vec<v1::Delegation>,
    /// Oldest first.
    pub(super) distributions: Vec<v1::Distribution>,
    /// By account: the periods paid for, and the amounts.
    pub(super) history: BTreeMap<String, Vec<(i64, u128)>>,
    /// The operations that the chain confirmed.
    pub(super) confirmed: Vec<v1::Operation>,
    pub(super) moved: Moved,
}

/// One customer, as AccountService tells it.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) account: String,
    pub(super) payouts: Vec<v1::Payout>,
    pub(super) earnings: Vec<v1::Earnings>,
}

impl Outcome {
    /// Notes something that had to happen.
    pub(super) fn happened(&mut self, what: &str, did: bool, said: String) {
        let name = if did { format!("{what} occurred") } else { format!("{what} never occurred") };
        let check = Check { scope: "story".to_owned(), name, left: said, right: String::new(), passed: did };
        self.checks.push(check);
    }

    /// What could not occur in this run, and why: it is said, and does not fail the run.
    pub(super) fn not_asked(&mut self, what: &str, why: &str) {
        let name = format!("{what} is not asked for here");
        let (left, right) = (why.to_owned(), String::new());
        self.checks.push(Check { scope: "story".to_owned(), name, left, right, passed: true });
    }

    /// Whether everything holds.
    pub(super) fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }
}

impl PoolOutcome {
    /// The largest payouts: amount, period, account.
    pub(super) fn top_payouts(&self, count: usize) -> Vec<(u128, i64, &str)> {
        let all = self.history.iter().flat_map(|(account, payouts)| {
            payouts.iter().map(move |(period, amount)| (*amount, *period, account.as_str()))
        });
        let mut all: Vec<(u128, i64, &str)> = all.collect();
        all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(b.2)));
        all.truncate(count);
        all
    }
}

/// The summary for machines: amounts are integers of base units in decimal strings.
pub(super) fn json(plan: &Plan, outcome: &Outcome) -> String {
    let pools: Vec<Value> = outcome.pools.iter().map(pool).collect();
    let checks: Vec<Value> = outcome
        .checks
        .iter()
        .map(|check| {
            json!({
                "scope": check.scope,
                "name": check.name,
                "left": check.left,
                "right": check.right,
                "passed": check.passed,
            })
        })
        .collect();
    let restart = outcome.restart.map(|cut| {
        json!({
            "events_sent": cut.sent,
            "events_acknowledged": cut.acknowledged,
            "events_durable": cut.durable,
            "payouts_redelivered": outcome.redelivered,
        })
    });
    let customer = outcome.customer.as_ref().map(|customer| {
        let payouts: Vec<Value> = customer
            .payouts
            .iter()
            .map(|payout| json!({"name": payout.name, "base_units": units(payout.amount.as_ref()).to_string()}))
            .collect();
        json!({"account": customer.account, "payouts": payouts})
    });
    let summary = json!({
        "verdict": if outcome.passed() { "PASS" } else { "FAIL" },
        "seed": plan.seed,
        "days": plan.days,
        "events": outcome.events,
        "batches": outcome.batches,
        "restart": restart,
        "pools": pools,
        "customer": customer,
        "checks": checks,
        "faults": outcome.faults,
    });
    format!("{summary:#}")
}

fn pool(one: &PoolOutcome) -> Value {
    let totals = one.pool.totals.clone().unwrap_or_default();
    let amount = |amount: &Option<v1::Amount>| units(amount.as_ref()).to_string();
    let distributions: Vec<Value> = one
        .distributions
        .iter()
        .map(|found| {
            json!({
                "name": found.name,
                "receipts": amount(&found.receipts_amount),
                "carry_in": amount(&found.carry_in),
                "fee": amount(&found.fee),
                "payouts": amount(&found.payouts_amount),
                "payout_count": found.payout_count,
                "house_out": amount(&found.house_out),
                "carry_out": amount(&found.carry_out),
                "weight_total": found.weight_total,
                "house_weight": found.house_weight,
            })
        })
        .collect();
    json!({
        "name": one.pool.name,
        "asset": one.pool.asset,
        "simulated": one.pool.simulated,
        "positions": totals.position_count,
        "eligible_total": amount(&totals.eligible_total),
        "staked": amount(&totals.staked),
        "unbonding": amount(&totals.unbonding),
        "reserve": signed(totals.reserve.as_ref()).to_string(),
        "rewards_total": amount(&totals.rewards_total),
        "payouts_total": amount(&totals.payouts_total),
        "fees_total": amount(&totals.fees_total),
        "custody_sent": one.moved.sent.to_string(),
        "custody_received": one.moved.received.to_string(),
        "operations_confirmed": one.confirmed.len(),
        "distributions": distributions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equation_is_one_line_with_its_figures() {
        let check = Check::equal("atom", "a + b = c", &[1, -2], &[-1]);
        assert_eq!(check.line(), "PASS  atom: a + b = c: 1 + (-2) = -1 = -1");
        let check = Check::equal("atom", "a = b", &[1], &[2]);
        assert_eq!(check.line(), "FAIL  atom: a = b: 1 and 2");
        assert!(!Check::equal("atom", "a = b", &[1], &[1]).and(false).passed);
    }

    #[test]
    fn a_run_passes_only_with_checks_that_all_pass() {
        let mut outcome = Outcome::default();
        assert!(!outcome.passed());
        outcome.happened("restart", true, String::new());
        assert!(outcome.passed());
        outcome.happened("opt-out", false, "nobody".to_owned());
        assert!(!outcome.passed());
        assert_eq!(outcome.checks[1].line(), "FAIL  story: opt-out never occurred: nobody");
    }

    #[test]
    fn the_summary_names_the_verdict() {
        let plan = Plan { seed: 1, days: 2, pools: Vec::new() };
        let summary: Value = serde_json::from_str(&json(&plan, &Outcome::default())).unwrap();
        assert_eq!(summary["verdict"], "FAIL");
        assert_eq!(summary["days"], 2);
    }
}
