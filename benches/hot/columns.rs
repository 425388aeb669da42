//! Payout chunks: encoded, decoded, and the whole pass over the accounts of a chunk.

use std::hint::black_box;

use criterion::Criterion;
use softstake::book::column::{self, CHUNK_ORDINALS};
use softstake::domain::amount::BaseUnits;
use softstake::domain::ids::AccountId;
use softstake::domain::payout::PayoutTally;
use softstake::domain::weight::member_hash;

use crate::input::{account, group};
use crate::split::{some_weights, splitter};

/// One year of an account: one chunk a day.
const YEAR: usize = 365;

/// A column of 256 amounts.
pub fn chunk(criterion: &mut Criterion) {
    let weights = some_weights(CHUNK_ORDINALS * YEAR);
    let splitter = splitter(&weights, 1);
    let payouts: Vec<u128> =
        weights.iter().map(|weight| splitter.payout(*weight).expect("of the total").get()).collect();
    let chunks: Vec<&[u128]> = payouts.chunks(CHUNK_ORDINALS).collect();
    let encoded: Vec<Vec<u8>> = chunks.iter().map(|chunk| column::encode(chunk).expect("a chunk")).collect();
    let mut group = group(criterion, "payout chunk", payouts.len());
    group.bench_function("bound: copy and checksum its bytes", |bencher| {
        bencher.iter(|| {
            for bytes in &encoded {
                let copy = black_box(&bytes[..]).to_vec();
                black_box((crc32fast::hash(&copy), copy));
            }
        });
    });
    group.bench_function("ours: encode", |bencher| {
        bencher.iter(|| chunks.iter().for_each(|chunk| drop(black_box(column::encode(chunk)))));
    });
    group.bench_function("ours: decode", |bencher| {
        bencher.iter(|| encoded.iter().for_each(|bytes| drop(black_box(column::decode(bytes)))));
    });
    group.finish();
    let mut group = crate::input::group(criterion, "a year of one account's payouts", YEAR);
    group.bench_function("bound: checksum the chunks", |bencher| {
        bencher.iter(|| encoded.iter().map(|bytes| u64::from(crc32fast::hash(black_box(bytes)))).sum::<u64>());
    });
    group.bench_function("ours: one value of each chunk", |bencher| {
        bencher
            .iter(|| encoded.iter().map(|bytes| column::value_at(black_box(bytes), 200).expect("sound")).sum::<u128>());
    });
    group.finish();
}

/// The payouts of a distribution, chunk by chunk.
pub fn payouts(criterion: &mut Criterion) {
    let accounts: Vec<AccountId> =
        (0..CHUNK_ORDINALS * 64).map(|number| AccountId::new(&account(number)).expect("an account")).collect();
    let weights = some_weights(accounts.len());
    let splitter = splitter(&weights, 1);
    let mut group = group(criterion, "payouts of a distribution", accounts.len());
    group.bench_function("bound: one hash an account", |bencher| {
        bencher.iter(|| {
            let hashes = accounts.iter().zip(&weights).map(|(account, weight)| member_hash(account.as_str(), *weight));
            hashes.fold(Default::default(), ruint::aliases::U256::wrapping_add)
        });
    });
    group.bench_function("ours: split, tally, encode", |bencher| {
        bencher.iter(|| {
            let mut tally = PayoutTally::default();
            for (accounts, weights) in accounts.chunks(CHUNK_ORDINALS).zip(weights.chunks(CHUNK_ORDINALS)) {
                let pay = |(account, weight): (&AccountId, &u128)| {
                    let payout: BaseUnits = splitter.payout(*weight).expect("of the total");
                    tally.record(account, *weight, payout).expect("in range");
                    payout.get()
                };
                let payouts: Vec<u128> = accounts.iter().zip(weights).map(pay).collect();
                black_box(column::encode(&payouts).expect("a chunk"));
            }
            tally
        });
    });
    group.finish();
}
