use super::super::amount::SignedUnits;
use super::super::ledger::{Account, ClaimAccount, Ledger};
use super::*;

fn units(n: u64) -> BaseUnits {
    BaseUnits::from_u64(n)
}

fn validator() -> ValidatorId {
    ValidatorId::new("v").unwrap()
}

struct Pool {
    view: LedgerView,
    book: BookFigures,
    released: Vec<(RevisionRef, Figures)>,
    cumulative: Cumulative,
    payouts: Vec<RevisionPayouts>,
    chain: ChainFigures,
}

fn tally(count: u64, amount: u64) -> Tally {
    Tally { count, amount: U256::from(amount) }
}

/// A pool in which all hold.
fn pool() -> Pool {
    let balances: [(Account, i128); 7] = [
        (AssetAccount::Custody.into(), -860),
        (AssetAccount::Liquid.into(), 50),
        (AssetAccount::InFlight.into(), 10),
        (AssetAccount::Delegated(validator()).into(), 700),
        (AssetAccount::Unbonding.into(), 100),
        (AssetAccount::Matured.into(), 30),
        (ClaimAccount::Payable.into(), 30),
    ];
    let ledger = Ledger::from_balances(balances.map(|(account, n)| (account, SignedUnits::new(n)))).unwrap();
    let revision = RevisionRef { period: 9, revision: 1 };
    let figures =
        Figures { receipts: units(50), fee: units(5), payouts: units(44), carry_out: units(1), ..Figures::default() };
    let none = Tally::default();
    Pool {
        view: LedgerView::new(ledger, units(1_000)).unwrap(),
        book: BookFigures {
            eligible_sum: U256::from(1_000),
            eligible_total: U256::from(1_000),
            weight_sum: U256::from(86_395),
            weight_integral: U256::from(86_400),
            adjusted_up: U256::from(5),
            adjusted_down: U256::from(10),
        },
        released: vec![(revision, figures)],
        cumulative: Cumulative {
            receipts: U256::from(50),
            fee: U256::from(5),
            payouts: U256::from(44),
            ..Cumulative::default()
        },
        payouts: vec![RevisionPayouts {
            revision,
            computed: tally(3, 44),
            voided: none,
            held: none,
            awaiting: none,
            unacked: tally(2, 30),
            acked: tally(1, 14),
            unclaimed: none,
        }],
        chain: ChainFigures {
            height: 7,
            liquid: units(60),
            delegated: [(validator(), units(700))].into(),
            unbonding: units(130),
            tolerance: units(0),
        },
    }
}

fn failing(pool: &Pool) -> Vec<(u8, &'static str)> {
    let results = check(&Snapshot {
        view: &pool.view,
        book: &pool.book,
        released: &pool.released,
        cumulative: &pool.cumulative,
        payouts: &pool.payouts,
        chain: Some(&pool.chain),
    });
    let numbers: std::collections::BTreeSet<_> = results.iter().map(|result| result.number).collect();
    assert_eq!(numbers, (1..=6).collect());
    let failed: Vec<_> = results.iter().filter(|result| !result.holds).collect();
    assert_eq!(failed.is_empty(), all_hold(&results));
    failed.into_iter().map(|result| (result.number, result.name)).collect()
}

#[test]
fn a_sound_pool_passes_with_figures() {
    assert_eq!(failing(&pool()), []);
}

/// Each seeded bug is caught by the equation that is there for it.
#[test]
fn each_equation_catches_its_own() {
    let caught = |spoil: fn(&mut Pool)| {
        let mut pool = pool();
        spoil(&mut pool);
        failing(&pool)
    };
    assert_eq!(caught(|p| p.released[0].1.fee = units(6)), [(1, "distribution in = out")]);
    assert_eq!(caught(|p| p.book.eligible_sum += U256::from(1)), [(2, "sum(eligible) = eligible_total")]);
    assert_eq!(
        caught(|p| p.view = LedgerView::new(p.view.ledger().clone(), units(999)).unwrap()),
        [(2, "eligible_total = principal")]
    );
    assert_eq!(caught(|p| p.book.weight_sum -= U256::from(1)), [(2, "sum(weight) = integral + adjustments")]);
    assert_eq!(caught(|p| p.cumulative.payouts = U256::from(46)), [(4, "distributed <= received")]);
    assert_eq!(
        caught(|p| p.payouts[0].acked = tally(2, 28)),
        [(5, "payouts by standing, amount"), (5, "payouts by standing, count")]
    );
    assert_eq!(caught(|p| p.chain.liquid = units(50)), [(6, "liquid")]);
    assert_eq!(caught(|p| p.chain.unbonding = units(100)), [(6, "unbonding")]);
    // What may be off by one is off by one.
    assert_eq!(
        caught(|p| {
            p.chain.tolerance = units(1);
            p.chain.unbonding = units(129);
            p.chain.liquid = units(62);
        }),
        [(6, "liquid")]
    );
    // The sums agree, the validators don't.
    assert_eq!(
        caught(|p| p.chain.delegated = [(ValidatorId::new("w").unwrap(), units(700))].into()),
        [(6, "delegated, by validator")]
    );
}

#[test]
fn figures_past_an_amount_are_compared_whole() {
    let mut pool = pool();
    pool.book.eligible_sum = U256::MAX;
    assert_eq!(failing(&pool), [(2, "sum(eligible) = eligible_total")]);
    pool.released[0].1 = Figures { receipts: BaseUnits::MAX, house_in: BaseUnits::MAX, ..Figures::default() };
    assert!(failing(&pool).contains(&(1, "distribution in = out")));
    // What can't be summed can't be checked, and does not pass.
    pool.view = LedgerView::new(pool.view.ledger().clone(), BaseUnits::MAX).unwrap();
    assert!(failing(&pool).contains(&(3, "sum(assets) = sum(claims)")));
}
