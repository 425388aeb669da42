//! What people read at the end: tables, then a line for each equation, then the verdict.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use rust_decimal::Decimal;

use super::amounts::{shown, shown_signed, units};
use super::ledger::day;
use super::plan::Plan;
use super::report::{Customer, Outcome, PoolOutcome};
use crate::pb::v1;

/// Rows of the table of validators, for each pool.
const VALIDATORS: usize = 16;

/// Payouts shown of each pool.
const PAYOUTS: usize = 5;

/// All of it.
pub(super) fn tables(plan: &Plan, outcome: &Outcome) -> String {
    let mut out = String::new();
    let mut section = |title: &str, table: &Table| {
        // A String takes whatever is written to it.
        let _ = write!(out, "\n{title}\n{table}\n");
    };
    section("Pools (simulated: nothing here is real)", &pools(outcome));
    section("Validators", &validators(outcome));
    section("Distributions", &distributions(outcome));
    section("The top payouts", &top_payouts(outcome));
    if let Some(customer) = &outcome.customer {
        section(&format!("The history of {}", customer.account), &history(outcome, customer));
    }
    out.push('\n');
    for check in &outcome.checks {
        let _ = writeln!(out, "{}", check.line());
    }
    for fault in &outcome.faults {
        let _ = writeln!(out, "      {fault}");
    }
    let failed = outcome.checks.iter().filter(|check| !check.passed).count();
    let verdict = if outcome.passed() { "PASS" } else { "FAIL" };
    let _ = write!(
        out,
        "\n{verdict}: {} days, {} pools, {} events in {} batches, seed {}: {} of {} checks hold",
        plan.days,
        plan.pools.len(),
        outcome.events,
        outcome.batches,
        plan.seed,
        outcome.checks.len() - failed,
        outcome.checks.len()
    );
    out
}

fn table(header: &[&str], figures_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for column in table.column_iter_mut().skip(figures_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn pools(outcome: &Outcome) -> Table {
    let header = [
        "pool",
        "accounts",
        "earning",
        "eligible",
        "staked",
        "unbonding",
        "reserve",
        "rewards",
        "fees",
        "payouts",
        "APR",
    ];
    let mut table = table(&header, 1);
    for one in &outcome.pools {
        let pool = &one.pool;
        let totals = pool.totals.clone().unwrap_or_default();
        let amount = |amount: &Option<v1::Amount>| shown(units(amount.as_ref()), pool.decimals);
        let reserve = totals.reserve.as_ref().map_or("0", |reserve| reserve.base_units.as_str());
        table.add_row([
            format!("{} ({})", pool.name, pool.asset),
            totals.position_count.to_string(),
            totals.eligible_count.to_string(),
            amount(&totals.eligible_total),
            amount(&totals.staked),
            amount(&totals.unbonding),
            shown_signed(reserve, pool.decimals),
            amount(&totals.rewards_total),
            amount(&totals.fees_total),
            amount(&totals.payouts_total),
            percent(&totals.trailing_apr),
        ]);
    }
    table
}

fn validators(outcome: &Outcome) -> Table {
    let mut table = table(&["pool", "validator", "moniker", "commission", "weight", "staked", "unbonding"], 3);
    for one in &outcome.pools {
        let delegation = |name: &str| one.delegations.iter().find(|delegation| delegation.validator == name);
        let staked = |validator: &v1::Validator| units(validator.delegated.as_ref());
        let mut validators: Vec<&v1::Validator> = one.validators.iter().collect();
        validators.sort_by_key(|validator| (std::cmp::Reverse(staked(validator)), validator.name.clone()));
        for validator in validators.into_iter().take(VALIDATORS) {
            let unbondings = delegation(&validator.name).map(|one| one.unbondings.as_slice()).unwrap_or_default();
            let unbonding: u128 = unbondings.iter().map(|one| units(one.amount.as_ref())).sum();
            table.add_row([
                one.pool.asset.clone(),
                validator.address.clone(),
                validator.moniker.clone(),
                percent(&validator.commission),
                if validator.listed { validator.weight.to_string() } else { "off".to_owned() },
                shown(staked(validator), one.pool.decimals),
                shown(unbonding, one.pool.decimals),
            ]);
        }
    }
    table
}

fn distributions(outcome: &Outcome) -> Table {
    let header = ["distribution", "receipts", "fee", "payouts", "paid", "house", "carry out (base units)", "APR"];
    let mut table = table(&header, 1);
    for one in &outcome.pools {
        let amount = |amount: &Option<v1::Amount>| shown(units(amount.as_ref()), one.pool.decimals);
        for found in &one.distributions {
            table.add_row([
                found.name.clone(),
                amount(&found.receipts_amount),
                amount(&found.fee),
                found.payout_count.to_string(),
                amount(&found.payouts_amount),
                amount(&found.house_out),
                units(found.carry_out.as_ref()).to_string(),
                percent(&found.implied_apr),
            ]);
        }
    }
    table
}

fn top_payouts(outcome: &Outcome) -> Table {
    let mut table = table(&["asset", "period", "account", "amount"], 3);
    for one in &outcome.pools {
        for (amount, period, account) in one.top_payouts(PAYOUTS) {
            table.add_row([one.pool.asset.clone(), day(period), account.to_owned(), shown(amount, one.pool.decimals)]);
        }
    }
    table
}

fn history(outcome: &Outcome, customer: &Customer) -> Table {
    let mut table = table(&["period", "asset", "amount", "in all"], 2);
    let pool_of = |asset: &str| outcome.pools.iter().find(|one: &&PoolOutcome| one.pool.asset == asset);
    for payout in &customer.payouts {
        let asset = payout.amount.as_ref().map_or("", |amount| amount.asset.as_str());
        let decimals = pool_of(asset).map_or(0, |one| one.pool.decimals);
        let period = payout.period_start_time.map_or(0, |time| time.seconds);
        table.add_row([day(period), asset.to_owned(), shown(units(payout.amount.as_ref()), decimals), String::new()]);
    }
    for earnings in &customer.earnings {
        let asset = earnings.total.as_ref().map_or("", |amount| amount.asset.as_str());
        let decimals = pool_of(asset).map_or(0, |one| one.pool.decimals);
        let total = shown(units(earnings.total.as_ref()), decimals);
        table.add_row(["total".to_owned(), asset.to_owned(), String::new(), total]);
    }
    table
}

/// A rate as a percentage with two decimals.
fn percent(rate: &str) -> String {
    match Decimal::from_str_exact(rate) {
        Ok(rate) => format!("{} %", (rate * Decimal::ONE_HUNDRED).round_dp(2).normalize()),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_in_percent() {
        assert_eq!(percent("0.1425"), "14.25 %");
        assert_eq!(percent("0.100000000000000000"), "10 %");
        assert_eq!(percent(""), "-");
    }

    #[test]
    fn the_tables_end_with_the_verdict() {
        let mut outcome = Outcome::default();
        outcome.happened("restart", true, "once".to_owned());
        let text = tables(&Plan { seed: 1, days: 2, pools: Vec::new() }, &outcome);
        assert!(text.contains("PASS  story: restart occurred: once"));
        assert!(text.ends_with("1 of 1 checks hold"), "{text}");
    }
}
