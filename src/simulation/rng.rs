//! The only source of chance of the simulator and of the demo: splitmix64, so that a seed gives the same story everywhere.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for one purpose of one seed: another purpose draws other numbers.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut state = seed ^ 0x5eed_0f50_f757_a43e;
        for byte in purpose.bytes() {
            state = Self(state ^ u64::from(byte)).bits();
        }
        Self(state)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`; 0 where `end` is 0. The bias is below `end / 2^64`, which no story sees.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.bits() % end }
    }

    /// An index below `length`; 0 where there is none.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// An amount below `end`; 0 where `end` is 0.
    pub fn amount_below(&mut self, end: u128) -> u128 {
        let wide = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        if end == 0 { 0 } else { wide % end }
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from).saturating_add(1))
    }

    /// An amount spread log-normally about `median`, by integers alone: the exponent of two is the sum of twelve
    /// uniform numbers, with a standard deviation of 3.6 (a factor of twelve).
    pub fn log_normal(&mut self, median: u128) -> u128 {
        // In units of 2^-16: the sum is centred on 0, with a standard deviation of one.
        let centred: i64 = (0..12).map(|_| (self.bits() >> 48) as i64).sum::<i64>() - 6 * 65_536;
        let exponent = centred * 36 / 10;
        let fraction = exponent.rem_euclid(65_536).unsigned_abs();
        let doublings = exponent.div_euclid(65_536);
        let value = (median >> 16).saturating_mul(65_536 + u128::from(fraction));
        let value = if median < 1 << 24 { (median * (65_536 + u128::from(fraction))) >> 16 } else { value };
        let shift = u32::try_from(doublings.unsigned_abs()).unwrap_or(127).min(127);
        if doublings < 0 { value >> shift } else { value.checked_shl(shift).unwrap_or(u128::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_fix_the_numbers() {
        let draw = |seed, purpose| Rng::new(seed, purpose).bits();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
    }

    #[test]
    fn log_normal_amounts_are_skewed_about_their_median() {
        let mut rng = Rng::new(7, "test");
        for median in [20_000_000_u128, 20_000_000_000_000_000_000_000_000] {
            let mut drawn: Vec<u128> = (0..10_001).map(|_| rng.log_normal(median)).collect();
            drawn.sort_unstable();
            let middle = drawn[5_000];
            assert!(middle > median * 8 / 10 && middle < median * 12 / 10, "{middle}");
            let mean = drawn.iter().sum::<u128>() / 10_001;
            assert!(mean > 5 * median, "{mean}");
            assert!(drawn[10_000] > 500 * median && drawn[10_000] < median << 22);
        }
    }
}
