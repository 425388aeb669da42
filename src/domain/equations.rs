//! The equations of the design, as checks over one consistent snapshot of a pool. They are evaluated while the service
//! runs; one that fails stops the pool's outflows.

use std::collections::BTreeMap;
use std::fmt::Display;

use ruint::aliases::U256;

use super::amount::{AmountError, BaseUnits};
use super::distribution::Figures;
use super::ids::ValidatorId;
use super::ledger::{AssetAccount, LedgerView, RevisionRef};

/// One check with its figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EquationResult {
    /// The number of the equation, 1 to 6.
    pub number: u8,
    /// Which part of it, in words that don't change.
    pub name: &'static str,
    /// The left side, in base units (base units x seconds for weights).
    pub left: String,
    /// The right side.
    pub right: String,
    /// Whether it holds.
    pub holds: bool,
    /// What it was evaluated over, and what went wrong.
    pub detail: String,
}

/// Payouts of one standing, in count and amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// How much.
    pub amount: U256,
}

/// All payouts of one revision, by standing. Equation 5 says that none is in two or in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionPayouts {
    /// Which revision.
    pub revision: RevisionRef,
    /// As computed.
    pub computed: Tally,
    /// Of a voided revision.
    pub voided: Tally,
    /// Of a revision that is held.
    pub held: Tally,
    /// Approved and not released.
    pub awaiting: Tally,
    /// Released and not acknowledged.
    pub unacked: Tally,
    /// Acknowledged.
    pub acked: Tally,
    /// Rejected.
    pub unclaimed: Tally,
}

/// The position book at the snapshot: equation 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookFigures {
    /// The sum of every position's eligible balance, counted one by one.
    pub eligible_sum: U256,
    /// The eligible total as it is kept.
    pub eligible_total: U256,
    /// The sum of every position's weight, counted one by one.
    pub weight_sum: U256,
    /// The integral of the eligible total over time, kept apart from the positions.
    pub weight_integral: U256,
    /// Adjustments that raised weights.
    pub adjusted_up: U256,
    /// Adjustments that lowered weights.
    pub adjusted_down: U256,
}

/// Everything ever distributed, revisions that were voided left out: equation 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cumulative {
    /// Reconciled receipts.
    pub receipts: U256,
    /// What the house put in.
    pub house_in: U256,
    /// Fees.
    pub fee: U256,
    /// Payouts.
    pub payouts: U256,
    /// Recoveries.
    pub recovery: U256,
    /// What went to the house beside the fees.
    pub house_out: U256,
    /// Recoveries that a reversed slash gave back to the carry: they are distributed again.
    pub given_back: U256,
}

/// The staking address as the chain shows it, at the height up to which the ledger has booked: equation 6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainFigures {
    /// The height.
    pub height: u64,
    /// Liquid.
    pub liquid: BaseUnits,
    /// By validator.
    pub delegated: BTreeMap<ValidatorId, BaseUnits>,
    /// Unbonding, what has matured and was not withdrawn included.
    pub unbonding: BaseUnits,
    /// By how much a figure may be off.
    pub tolerance: BaseUnits,
}

/// What the equations are evaluated over.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The ledger with the principal.
    pub view: &'a LedgerView,
    /// The position book.
    pub book: &'a BookFigures,
    /// Released distributions.
    pub released: &'a [(RevisionRef, Figures)],
    /// The sums over all of them.
    pub cumulative: &'a Cumulative,
    /// The payouts by revision.
    pub payouts: &'a [RevisionPayouts],
    /// The chain, where it was asked at the height that the ledger stands at.
    pub chain: Option<&'a ChainFigures>,
}

/// Evaluates equations 1 to 6. What passes is there too, with its figures. Equation 7 is the book's own.
pub fn check(snapshot: &Snapshot<'_>) -> Vec<EquationResult> {
    let mut out = of_revisions(snapshot.released, &[]);
    out.extend(book(snapshot.view, snapshot.book));
    out.push(balance(snapshot.view));
    out.push(cumulative(snapshot.cumulative));
    out.extend(of_revisions(&[], snapshot.payouts));
    if let Some(chain) = snapshot.chain {
        out.extend(on_chain(snapshot.view, chain));
    }
    out
}

/// The equations of single revisions: 1 of the figures, 5 of the payouts.
pub fn of_revisions(figures: &[(RevisionRef, Figures)], payouts: &[RevisionPayouts]) -> Vec<EquationResult> {
    let figures = figures.iter().map(|(revision, figures)| distribution(*revision, figures));
    figures.chain(payouts.iter().flat_map(standings)).collect()
}

/// Whether all hold.
pub fn all_hold(results: &[EquationResult]) -> bool {
    results.iter().all(|result| result.holds)
}

fn equal<T: Display + PartialEq>(number: u8, name: &'static str, left: T, right: T, detail: String) -> EquationResult {
    EquationResult { number, name, holds: left == right, left: left.to_string(), right: right.to_string(), detail }
}

fn uncountable(number: u8, name: &'static str, detail: String, error: AmountError) -> EquationResult {
    let detail = format!("{detail}: {error}");
    EquationResult { number, name, left: String::new(), right: String::new(), holds: false, detail }
}

fn wide(amount: BaseUnits) -> U256 {
    U256::from(amount.get())
}

fn sum(amounts: &[U256]) -> U256 {
    amounts.iter().fold(U256::ZERO, |sum, amount| sum.saturating_add(*amount))
}

/// 1: `receipts + carry_in + house_in = fee + recovery + sum(payouts) + house_out + carry_out`.
fn distribution(revision: RevisionRef, figures: &Figures) -> EquationResult {
    let f = figures;
    let left = sum(&[f.receipts, f.carry_in, f.house_in].map(wide));
    let right = sum(&[f.fee, f.recovery, f.payouts, f.house_out, f.carry_out].map(wide));
    let detail = format!("period {} revision {}", revision.period, revision.revision);
    equal(1, "distribution in = out", left, right, detail)
}

/// 2: `sum(eligible) = eligible_total = principal`; `sum(weight) = integral of eligible_total + adjustments applied`.
fn book(view: &LedgerView, book: &BookFigures) -> [EquationResult; 3] {
    [
        equal(2, "sum(eligible) = eligible_total", book.eligible_sum, book.eligible_total, "all positions".to_owned()),
        equal(2, "eligible_total = principal", book.eligible_total, wide(view.principal()), "the ledger".to_owned()),
        // Lowered weights are added to the left rather than taken from the right: no side goes below zero.
        equal(
            2,
            "sum(weight) = integral + adjustments",
            sum(&[book.weight_sum, book.adjusted_down]),
            sum(&[book.weight_integral, book.adjusted_up]),
            "in base units x seconds; lowered weights are added on the left".to_owned(),
        ),
    ]
}

/// 3: `sum(assets) = sum(claims)`.
fn balance(view: &LedgerView) -> EquationResult {
    let name = "sum(assets) = sum(claims)";
    match (view.assets_total(), view.claims_total()) {
        (Ok(assets), Ok(claims)) => equal(3, name, assets, claims, "with the principal leg".to_owned()),
        (Err(error), _) | (_, Err(error)) => uncountable(3, name, "the sums".to_owned(), error),
    }
}

/// 4: `sum(fee + payouts + recovery + house_out) <= reconciled receipts + sum(house_in)`. A recovery that a reversed slash
/// gave back is no recovery any more: it stands on the right, so that no side goes below zero.
fn cumulative(all: &Cumulative) -> EquationResult {
    let left = sum(&[all.fee, all.payouts, all.recovery, all.house_out]);
    let right = sum(&[all.receipts, all.house_in, all.given_back]);
    EquationResult {
        number: 4,
        name: "distributed <= received",
        left: left.to_string(),
        right: right.to_string(),
        holds: left <= right,
        detail: "all revisions not voided".to_owned(),
    }
}

/// 5: `computed = voided + held + awaiting + unacked + acked + unclaimed`, in amount and count.
fn standings(payouts: &RevisionPayouts) -> [EquationResult; 2] {
    let p = payouts;
    let parts = [p.voided, p.held, p.awaiting, p.unacked, p.acked, p.unclaimed];
    let detail = format!("period {} revision {}", p.revision.period, p.revision.revision);
    let count: u128 = parts.iter().map(|tally| u128::from(tally.count)).sum();
    let amount = sum(&parts.map(|tally| tally.amount));
    [
        equal(5, "payouts by standing, amount", p.computed.amount, amount, detail.clone()),
        equal(5, "payouts by standing, count", u128::from(p.computed.count), count, detail),
    ]
}

/// 6: at one height, the chain's liquid, delegated and unbonding are the ledger's, each to within the tolerance.
pub fn on_chain(view: &LedgerView, chain: &ChainFigures) -> Vec<EquationResult> {
    let tolerance = wide(chain.tolerance);
    let detail = match chain.tolerance.is_zero() {
        true => format!("height {}", chain.height),
        false => format!("height {}, to within {} base units", chain.height, chain.tolerance),
    };
    let near = |name, left: U256, right: U256| EquationResult {
        holds: left.abs_diff(right) <= tolerance,
        ..equal(6, name, left, right, detail.clone())
    };
    // What an operation reserves is still liquid to the chain, until it has an effect.
    let liquid = sum(&[AssetAccount::Liquid, AssetAccount::InFlight].map(|account| wide(view.asset(account))));
    let unbonding = sum(&[AssetAccount::Unbonding, AssetAccount::Matured].map(|account| wide(view.asset(account))));
    let mut delegated: BTreeMap<&ValidatorId, (U256, U256)> = BTreeMap::new();
    for (validator, amount) in &chain.delegated {
        delegated.entry(validator).or_default().0 = wide(*amount);
    }
    for (validator, amount) in view.delegations() {
        delegated.entry(validator).or_default().1 = wide(amount);
    }
    let left = delegated.values().fold(U256::ZERO, |total, (left, _)| total.saturating_add(*left));
    let right = delegated.values().fold(U256::ZERO, |total, (_, right)| total.saturating_add(*right));
    let apart: Vec<String> = delegated
        .iter()
        .filter(|(_, (chain, ledger))| chain.abs_diff(*ledger) > tolerance)
        .map(|(validator, (chain, ledger))| format!("{validator}: chain {chain}, ledger {ledger}"))
        .collect();
    let mut by_validator = equal(6, "delegated, by validator", left, right, detail.clone());
    by_validator.holds = apart.is_empty();
    if !apart.is_empty() {
        by_validator.detail = format!("{detail}; {}", apart.join("; "));
    }
    vec![near("liquid", wide(chain.liquid), liquid), by_validator, near("unbonding", wide(chain.unbonding), unbonding)]
}

#[cfg(test)]
#[path = "equations_tests.rs"]
mod tests;
