//! The exact split: from frozen weights to payouts.

use std::hint::black_box;

use criterion::Criterion;
use ruint::aliases::U256;
use softstake::domain::amount::BaseUnits;
use softstake::domain::split::{PayoutUnit, Splitter};

use crate::input::{Numbers, group};

/// 64 MB of weights, past the caches.
const WEIGHTS: usize = 4 << 20;

/// Balances of up to 2^40 base units over a day.
pub fn some_weights(count: usize) -> Vec<u128> {
    let mut numbers = Numbers(2);
    (0..count).map(|_| u128::from(numbers.next() >> 24) * 86_400).collect()
}

/// A splitter of 2^50 base units over these weights.
pub fn splitter(weights: &[u128], unit: u64) -> Splitter {
    let total = weights.iter().fold(U256::ZERO, |total, weight| total + U256::from(*weight));
    let unit = PayoutUnit::new(BaseUnits::from_u64(unit)).expect("a unit above zero");
    Splitter::new(BaseUnits::from_u64(1 << 50), unit, total)
}

/// One payout per weight.
pub fn weights(criterion: &mut Criterion) {
    let weights = some_weights(WEIGHTS);
    let mut payouts = vec![0_u128; WEIGHTS];
    let mut group = group(criterion, "split", WEIGHTS);
    group.bench_function("bound: read the weights", |bencher| {
        bencher.iter(|| black_box(&weights).iter().fold(0_u128, |sum, weight| sum.wrapping_add(*weight)));
    });
    group.bench_function("bound: read the weights, write as many", |bencher| {
        bencher.iter(|| payouts.copy_from_slice(black_box(&weights)));
    });
    for (name, unit) in [("ours: payouts of 1 base unit", 1), ("ours: payouts of 1,000 base units", 1_000)] {
        let splitter = splitter(&weights, unit);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for (payout, weight) in payouts.iter_mut().zip(&weights) {
                    *payout = splitter.payout(*weight).expect("a weight of the total").get();
                }
            });
        });
    }
    let splitter = splitter(&weights, 1);
    group.bench_function("ours, by 256-bit division", |bencher| {
        bencher.iter(|| {
            for (payout, weight) in payouts.iter_mut().zip(&weights) {
                *payout = splitter.payout_by_division(*weight).expect("a weight of the total").get();
            }
        });
    });
    group.bench_function("plain ruint", |bencher| {
        let (net, total) = (U256::from(splitter.net().get()), splitter.weight_total());
        bencher.iter(|| {
            for (payout, weight) in payouts.iter_mut().zip(&weights) {
                *payout = u128::try_from(net * U256::from(*weight) / total).expect("at most the net");
            }
        });
    });
    group.finish();
}
