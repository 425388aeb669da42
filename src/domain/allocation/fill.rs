//! What each validator should have: in proportion to the weights, within the caps, by largest remainder.

use std::cmp::Reverse;

use ruint::aliases::U256;

use super::Desk;

/// The fraction bits of the level, the amount per weight: at 32 bits and weights of at most 32, one step of the level
/// raises no validator by more than one unit.
const LEVEL_BITS: usize = 32;

/// Sets `desired` of the `chosen` seats so that they add up to `total`, or to what the caps allow.
///
/// The level is raised until the total is reached; a validator stops at its cap, a group at its own. In a group that is
/// full, the members share by their weights under a level of the group's.
pub(super) fn fill(desk: &mut Desk, chosen: &[usize], total: u128) {
    let unit = desk.unit;
    let total = total / unit;
    let cap = desk.cap / unit;
    let group_cap = desk.group_cap / unit;
    let weights: Vec<u32> = chosen.iter().map(|i| desk.seats[*i].weight).collect();

    // One level per group, then one for all: a group counts as its cap where its members would pass it.
    let members = |group: usize| -> Vec<usize> {
        (0..chosen.len()).filter(|k| desk.seats[chosen[*k]].group == Some(group)).collect()
    };
    let groups: Vec<Vec<usize>> = (0..desk.groups.len()).map(members).collect();
    let single: Vec<usize> = (0..chosen.len()).filter(|k| desk.seats[chosen[*k]].group.is_none()).collect();
    let at = |k: usize, level: U256| at_level(weights[k], level, cap).0;
    let sum_of = |list: &[usize], level: U256| list.iter().map(|k| U256::from(at(*k, level))).sum::<U256>();
    let sum = |level: U256| {
        let grouped = groups.iter().map(|list| sum_of(list, level).min(U256::from(group_cap))).sum::<U256>();
        grouped + sum_of(&single, level)
    };
    let top = (U256::from(cap) + U256::from(1)) << LEVEL_BITS;
    let level = highest(top, U256::from(total), sum);

    let mut desired = vec![0_u128; chosen.len()];
    let mut remainder = vec![U256::ZERO; chosen.len()];
    for (list, limit) in groups.iter().map(|list| (list, U256::from(group_cap))).chain([(&single, U256::MAX)]) {
        let own = if sum_of(list, level) > limit { highest(top, limit, |level| sum_of(list, level)) } else { level };
        for k in list {
            (desired[*k], remainder[*k]) = at_level(weights[*k], own, cap);
        }
    }

    // What flooring left over goes to the largest remainders, ties by validator id, a unit each and round again.
    let mut left = total.saturating_sub(desired.iter().sum());
    let mut group_left: Vec<u128> =
        groups.iter().map(|list| group_cap.saturating_sub(list.iter().map(|k| desired[*k]).sum())).collect();
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    order.sort_by_key(|k| (Reverse(remainder[*k]), chosen[*k]));
    let mut given = true;
    while left > 0 && given {
        given = false;
        for k in &order {
            let group = desk.seats[chosen[*k]].group;
            let group_full = group.is_some_and(|group| group_left[group] == 0);
            if left == 0 || desired[*k] >= cap || group_full {
                continue;
            }
            desired[*k] += 1;
            left -= 1;
            given = true;
            if let Some(group) = group {
                group_left[group] -= 1;
            }
        }
    }
    for (k, i) in chosen.iter().enumerate() {
        desk.seats[*i].desired = desired[k] * unit;
    }
}

/// A validator's amount at a level and its remainder; nothing remains at the cap.
fn at_level(weight: u32, level: U256, cap: u128) -> (u128, U256) {
    let product = level * U256::from(weight);
    let whole = product >> LEVEL_BITS;
    match u128::try_from(whole) {
        Ok(whole) if whole < cap => (whole, product - (U256::from(whole) << LEVEL_BITS)),
        _ => (cap, U256::ZERO),
    }
}

/// The highest level up to `top` whose sum is at most `most`.
fn highest(top: U256, most: U256, sum: impl Fn(U256) -> U256) -> U256 {
    let (mut low, mut high) = (U256::ZERO, top);
    while low < high {
        let middle = low + (high - low + U256::from(1)) / U256::from(2);
        if sum(middle) <= most {
            low = middle;
        } else {
            high = middle - U256::from(1);
        }
    }
    low
}
