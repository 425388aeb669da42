//! The entries that a chain has for unbondings.

use super::*;

#[test]
fn the_last_unbondings_are_for_who_leaves_altogether() {
    let mut base = request(2, 0, limits());
    base.target = units(150);
    base.unstake = units(50);
    base.limits.redelegation = false;
    base.holdings.insert(id(0), Holding { unbonding_room: 0, unbonding_free: 1, ..holding(100) });
    base.holdings.insert(id(1), Holding { unbonding_room: 0, unbonding_free: 1, ..holding(100) });
    let out = allocate(&base).unwrap();
    assert_eq!(short(&out), [""; 0]);
    assert_eq!(out.binding, BTreeSet::from([Binding::UnbondingEntries(id(0)), Binding::UnbondingEntries(id(1))]));
    // One whose stake is all taken needs no entry for a later exit.
    base.candidates[0].removed = true;
    assert_eq!(short(&allocate(&base).unwrap()), ["U v000 100 DRAIN_REMOVED"]);
    base.holdings.insert(id(0), Holding { unbonding_room: 0, ..holding(100) });
    assert_eq!(short(&allocate(&base).unwrap()), [""; 0]);
}

#[test]
fn an_unbonding_that_joins_another_takes_no_room() {
    let mut base = request(2, 0, limits());
    base.target = units(150);
    base.unstake = units(50);
    base.limits.unbonding_room = Some(0);
    base.holdings.insert(id(0), Holding { unbonding_room: 0, joins_unbonding: true, ..holding(100) });
    base.holdings.insert(id(1), holding(100));
    let out = allocate(&base).unwrap();
    assert_eq!(short(&out), ["U v000 50 RESERVE_NEED"]);
}
