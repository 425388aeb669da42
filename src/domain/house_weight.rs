//! The house's time weight: what it earns for the stake that its own credit carries.
//!
//! After a run on the pool more may be staked and unbonding than customers hold, the difference being lent by the
//! house. Its weight is the integral over the period of `max(0, staked + unbonding - eligible_total)`; without it those
//! who stay would earn a multiple of the chain's rate.

use ruint::aliases::U256;

use super::amount::{BaseUnits, SignedUnits};
use super::time::UnixSeconds;

/// Why the weight could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HouseWeightError {
    /// The changes of a series are not in the order of time.
    #[error("the changes of a series must be in the order of time; {at} comes after {before}")]
    OutOfOrder {
        /// The earlier moment that came second.
        at: UnixSeconds,
        /// The moment before it in the series.
        before: UnixSeconds,
    },
    /// The eligible total went below zero at a moment, or past the largest amount.
    #[error("the eligible total is not an amount at {0}")]
    NotAnAmount(UnixSeconds),
}

/// A series takes a new level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelChange {
    /// From when on.
    pub at: UnixSeconds,
    /// The new level.
    pub level: BaseUnits,
}

/// A series moves by a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelDelta {
    /// From when on.
    pub at: UnixSeconds,
    /// By how much.
    pub delta: SignedUnits,
}

/// The two step functions over one period. What lies before the start takes effect at the start; what lies at
/// or after the end has none. Of several changes in one second the last one holds; of several deltas, their sum.
#[derive(Clone, Copy, Debug)]
pub struct HouseWeightInput<'a> {
    /// The first second of the period.
    pub start: UnixSeconds,
    /// The first second after it.
    pub end: UnixSeconds,
    /// Staked plus unbonding when the period began.
    pub staked_at_start: BaseUnits,
    /// Its later levels, in the order of time.
    pub staked: &'a [LevelChange],
    /// The eligible total when the period began.
    pub eligible_at_start: BaseUnits,
    /// Its later differences, in the order of time.
    pub eligible: &'a [LevelDelta],
}

/// The integrals of one period, in base units x seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodIntegrals {
    /// The integral of `max(0, staked + unbonding - eligible_total)`: the house's weight.
    pub house: U256,
    /// The integral of `eligible_total`: what the accounts' weights add up to (equation 2).
    pub eligible: U256,
}

impl HouseWeightInput<'_> {
    /// Both integrals, in one walk over the two series. Nothing overflows: a level has 127 bits, a time span 64.
    pub fn integrals(&self) -> Result<PeriodIntegrals, HouseWeightError> {
        in_order(self.staked.iter().map(|change| change.at))?;
        in_order(self.eligible.iter().map(|delta| delta.at))?;
        let (mut staked, mut eligible) = (self.staked_at_start, self.eligible_at_start);
        let mut changes = self.staked.iter().peekable();
        let mut deltas = self.eligible.iter().peekable();
        let mut sums = PeriodIntegrals { house: U256::ZERO, eligible: U256::ZERO };
        let mut now = self.start;
        while now < self.end {
            while let Some(change) = changes.next_if(|change| change.at <= now) {
                staked = change.level;
            }
            // The second's deltas first add up, so that only the level that holds must be an amount.
            let mut level = eligible.signed();
            while let Some(delta) = deltas.next_if(|delta| delta.at <= now) {
                level = level.checked_add(delta.delta).map_err(|_| HouseWeightError::NotAnAmount(now))?;
            }
            eligible = level.unsigned().map_err(|_| HouseWeightError::NotAnAmount(now))?;
            let next = [changes.peek().map(|change| change.at), deltas.peek().map(|delta| delta.at)]
                .into_iter()
                .flatten()
                .fold(self.end, UnixSeconds::min);
            let seconds = U256::from(next.since(now));
            sums.house += U256::from(staked.saturating_sub(eligible).get()) * seconds;
            sums.eligible += U256::from(eligible.get()) * seconds;
            now = next;
        }
        Ok(sums)
    }

    /// The house's weight alone.
    pub fn house_weight(&self) -> Result<U256, HouseWeightError> {
        self.integrals().map(|sums| sums.house)
    }
}

fn in_order(times: impl Iterator<Item = UnixSeconds>) -> Result<(), HouseWeightError> {
    let mut before = None;
    for at in times {
        match before {
            Some(before) if at < before => return Err(HouseWeightError::OutOfOrder { at, before }),
            _ => before = Some(at),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(n: u64) -> BaseUnits {
        BaseUnits::from_u64(n)
    }

    fn delta(at: i64, by: i128) -> LevelDelta {
        LevelDelta { at: UnixSeconds::new(at), delta: SignedUnits::new(by) }
    }

    fn change(at: i64, level: u64) -> LevelChange {
        LevelChange { at: UnixSeconds::new(at), level: units(level) }
    }

    const DAY: HouseWeightInput<'static> = HouseWeightInput {
        start: UnixSeconds::new(1_000),
        end: UnixSeconds::new(1_100),
        staked_at_start: BaseUnits::from_u64(90),
        staked: &[],
        eligible_at_start: BaseUnits::from_u64(100),
        eligible: &[],
    };

    #[test]
    fn the_house_earns_only_what_exceeds_the_customers() {
        assert_eq!(DAY.house_weight(), Ok(U256::ZERO));
        // A run after 40 s leaves 10 held against 90 staked; the stake falls to 30 after 90 s.
        let (eligible, staked) = ([delta(1_040, -90)], [change(1_090, 30)]);
        let run = HouseWeightInput { eligible: &eligible, staked: &staked, ..DAY };
        let sums = run.integrals().unwrap();
        assert_eq!(sums.house, U256::from(80 * 50 + 20 * 10));
        assert_eq!(sums.eligible, U256::from(100 * 40 + 10 * 60));
    }

    #[test]
    fn the_edges_of_the_period_hold() {
        let eligible = [delta(900, -50), delta(1_000, -50), delta(1_100, -7), delta(2_000, 1)];
        let input = HouseWeightInput { eligible: &eligible, ..DAY };
        assert_eq!(input.integrals(), Ok(PeriodIntegrals { house: U256::from(9_000), eligible: U256::ZERO }));
        let empty = HouseWeightInput { end: DAY.start, eligible: &eligible, ..DAY };
        assert_eq!(empty.house_weight(), Ok(U256::ZERO));
    }

    #[test]
    fn a_level_below_zero_counts_only_when_it_lasts() {
        let passing = [delta(1_010, -150), delta(1_010, 60)];
        assert!(HouseWeightInput { eligible: &passing, ..DAY }.house_weight().is_ok());
        let lasting = [delta(1_010, -150), delta(1_011, 60)];
        let refused = HouseWeightInput { eligible: &lasting, ..DAY }.house_weight();
        assert_eq!(refused, Err(HouseWeightError::NotAnAmount(UnixSeconds::new(1_010))));
        let backwards = [change(1_011, 1), change(1_010, 1)];
        let refused = HouseWeightInput { staked: &backwards, ..DAY }.house_weight();
        assert!(matches!(refused, Err(HouseWeightError::OutOfOrder { .. })));
    }
}
