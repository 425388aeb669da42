//! Who holds what when the run begins: a seeded population with the skew of a real one.

use super::amounts::one_token;
use crate::config::Preset;
use crate::simulation::rng::Rng;

/// Above what 96 bits hold: 79,228 NEAR in yoctoNEAR.
const PAST_96_BITS: u128 = 1 << 96;

/// The opening balances of `count` accounts. The first in a hundred are whales, every 33rd holds dust below `minimum`;
/// the others are spread log-normally about 20 tokens. Accounts have the same names in every pool.
pub(super) fn seeded(seed: u64, preset: Preset, minimum: u128, count: u32) -> Vec<(String, u128)> {
    let mut rng = Rng::new(seed, &format!("population {}", preset.name()));
    let token = one_token(preset);
    let whales = count.div_ceil(100);
    let mut out = Vec::new();
    for index in 0..count {
        let units = if index == 0 && preset == Preset::Near {
            // More than a 96-bit mantissa holds, down to the last yoctoNEAR.
            PAST_96_BITS + rng.amount_below(PAST_96_BITS) + 1
        } else if index < whales {
            token * u128::from(rng.between(5_000, 60_000)) + rng.amount_below(token)
        } else if index % 33 == 32 {
            1 + rng.amount_below(minimum.saturating_sub(1))
        } else {
            rng.log_normal(20 * token) + rng.amount_below(token)
        };
        out.push((format!("user-{:06}", index + 1), units));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_population_has_whales_dust_and_a_skew() {
        for preset in Preset::ALL {
            let minimum = one_token(preset) / 100;
            let drawn = seeded(1, preset, minimum, 1_000);
            assert_eq!(drawn.len(), 1_000);
            assert_eq!(drawn, seeded(1, preset, minimum, 1_000));
            assert_ne!(drawn, seeded(2, preset, minimum, 1_000));
            let dust = drawn.iter().filter(|(_, units)| *units > 0 && *units < minimum).count();
            assert!((25..60).contains(&dust), "{dust}");
            let mut sorted: Vec<u128> = drawn.iter().map(|(_, units)| *units).collect();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let top: u128 = sorted.iter().take(100).sum();
            let all: u128 = sorted.iter().sum();
            assert!(top * 2 > all, "a tenth of the accounts holds more than half");
        }
    }

    #[test]
    fn a_near_account_is_past_what_a_decimal_holds() {
        let drawn = seeded(1, Preset::Near, one_token(Preset::Near) / 100, 10);
        assert!(drawn[0].1 > 79_228_162_514_264_337_593_543_950_335);
    }
}
