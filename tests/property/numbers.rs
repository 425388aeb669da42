//! Numbers that lie where arithmetic breaks, conversions to big integers, and the configuration of every test here.

use num_bigint::BigInt;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use ruint::aliases::U256;
use softstake::domain::amount::{BaseUnits, MAX_BASE_UNITS};

/// 10,000 cases from a fixed seed.
pub fn config(seed: u64) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..ProptestConfig::default() }
}

/// A number of at most `bits` bits: small ones, powers of two and ten with their neighbours, the ends, tokens of 24
/// decimals, and any number of any width.
pub fn number(bits: u32) -> impl Strategy<Value = u128> + Clone {
    let mask = u128::MAX >> (128 - bits);
    let near = -1_i128..=1;
    prop_oneof![
        2 => 0_u128..=3,
        2 => (0..bits, near.clone()).prop_map(move |(power, by)| (1_u128 << power).wrapping_add_signed(by) & mask),
        2 => (0_u32..=38, near).prop_map(move |(power, by)| 10_u128.pow(power).wrapping_add_signed(by) & mask),
        1 => (0_u128..=2).prop_map(move |below| mask - below),
        2 => (1_u128..100_000_000_000).prop_map(move |tokens| (tokens * 10_u128.pow(24)) & mask),
        6 => (any::<u128>(), 0..bits).prop_map(move |(n, shift)| (n & mask) >> shift),
    ]
}

/// An amount, up to the largest.
pub fn amount() -> impl Strategy<Value = u128> + Clone {
    number(127).prop_map(|n| n.min(MAX_BASE_UNITS))
}

/// A payout unit.
pub fn unit() -> impl Strategy<Value = u128> + Clone {
    prop_oneof![3 => Just(1_u128), 2 => (0_u32..=24).prop_map(|power| 10_u128.pow(power)), 1 => amount()]
        .prop_map(|n| n.max(1))
}

/// A 256-bit number of any width.
pub fn wide() -> impl Strategy<Value = U256> + Clone {
    (number(128), number(128), 0_usize..=128)
        .prop_map(|(high, low, shift)| ((U256::from(high) << 128) | U256::from(low)) >> shift)
}

/// The amount of `n` base units.
pub fn units(n: u128) -> BaseUnits {
    BaseUnits::new(n).expect("an amount of a test is within the limit")
}

/// A 256-bit number as a big integer.
pub fn big(n: U256) -> BigInt {
    BigInt::from_bytes_le(num_bigint::Sign::Plus, &n.to_le_bytes::<32>())
}
