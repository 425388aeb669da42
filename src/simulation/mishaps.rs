//! What goes wrong outside: the chain, its validators, and the clock.

use rust_decimal::Decimal;

use crate::chain::simulated::SimulatedFault;
use crate::domain::amount::BaseUnits;

use super::fault::{FAULT, Fault};
use super::founding::token;
use super::world::{Stop, World};

impl World {
    /// Time passes: little as a rule, sometimes hours.
    pub(super) fn pass_time(&mut self) {
        let below = |world: &mut Self, end: u64| i64::try_from(world.rng.below(end)).unwrap_or(0);
        let by = match self.rng.below(100) {
            0 => {
                self.coverage.fault(Fault::ClockHours);
                3_600 + below(self, 14_400)
            }
            1..=6 => 300 + below(self, 1_200),
            7..=40 => 20 + below(self, 120),
            41..=80 => 1 + below(self, 20),
            _ => 0,
        };
        self.move_time(by);
    }

    /// The service's own clock is set wrong, or right again. Within a process it never goes back; the next one may be
    /// behind the last.
    pub(super) fn clock_jumps(&mut self) {
        let skew = match self.rng.below(4) {
            0 => 0,
            1 => -i64::try_from(self.rng.between(10, 900)).unwrap_or(0),
            2 => i64::try_from(self.rng.between(1, 100)).unwrap_or(0),
            _ => -i64::try_from(self.rng.between(1, 30)).unwrap_or(0),
        };
        if skew != self.skew {
            self.coverage.fault(if skew < self.skew { Fault::ClockBack } else { Fault::ClockAhead });
        }
        self.note(|| format!("the service's clock is {skew} s ahead"));
        self.set_skew(skew);
    }

    /// A fault of a chain, or of one of its validators.
    pub(super) async fn chain_fault(&mut self, pool: usize) -> Result<(), Stop> {
        let fault = self.draw_fault(pool);
        let Some(chain) = self.chains.get_mut(pool) else { return Ok(()) };
        chain.may_differ |= matches!(
            fault,
            SimulatedFault::LyingObserve { .. }
                | SimulatedFault::LyingStake { .. }
                | SimulatedFault::SilentSlash { .. }
        );
        let chain = chain.chain.clone();
        self.coverage.hit("fault set", fault.name());
        let name = fault.name();
        self.note(|| format!("pool {pool}: {fault:?}"));
        chain.set_fault(fault).await.map_err(|error| Stop::failed(format!("{name}: {error}")))
    }

    fn draw_fault(&mut self, pool: usize) -> SimulatedFault {
        let config = &self.chains[pool].config;
        let (token, block) = (token(config), config.block_seconds);
        let validators = config.validators.clone();
        let validator = validators[self.rng.index(validators.len())].id.clone();
        let times = u32::try_from(self.rng.between(1, 4)).unwrap_or(1);
        let amount = BaseUnits::new(1 + self.rng.amount_below(token * 10)).unwrap_or_default();
        let fraction = Decimal::new(i64::try_from(self.rng.between(1, 2_000)).unwrap_or(1), 4);
        match self.rng.below(30) {
            0 | 1 => SimulatedFault::SubmitLostBefore { times },
            2 | 3 => SimulatedFault::SubmitLostAfter { times },
            4 => SimulatedFault::SubmitLate { after_seconds: self.rng.between(block, 90), times },
            5 => SimulatedFault::SubmitLate { after_seconds: self.rng.between(block, 4_500), times },
            6 => SimulatedFault::LookupUnavailable { times: times * 2 },
            7 => SimulatedFault::EffectsUnavailable { times },
            8 => SimulatedFault::StaleObserve { blocks: self.rng.between(1, 200), times },
            9 => SimulatedFault::LyingObserve { excess: amount, times: 1 },
            10 | 11 => SimulatedFault::LyingPrepare { times: 1 },
            12 => {
                let seconds = i64::try_from(self.rng.between(60, 900)).unwrap_or(60);
                SimulatedFault::Outage { until: self.now().plus(seconds) }
            }
            13 => {
                let seconds = i64::try_from(self.rng.between(3_600, 14_400)).unwrap_or(3_600);
                SimulatedFault::Outage { until: self.now().plus(seconds) }
            }
            14 => SimulatedFault::Flaky { one_in: u32::try_from(self.rng.between(3, 30)).unwrap_or(10) },
            15 => SimulatedFault::Jail { validator },
            16 => SimulatedFault::Unjail { validator },
            17 if self.rng.below(3) == 0 => SimulatedFault::Tombstone { validator },
            18 => SimulatedFault::Donate { amount },
            19 | 20 => SimulatedFault::Slash { validator, fraction },
            21 => SimulatedFault::SilentSlash { validator, fraction },
            22 => SimulatedFault::Unslash { validator },
            24 => SimulatedFault::DuplicateSubmit { times },
            25 | 26 => {
                let share_bps = u32::try_from(self.rng.between(1, 9_999)).unwrap_or(5_000);
                SimulatedFault::PartialEffect { share_bps, times: 1 }
            }
            27 => SimulatedFault::Reorg { depth: self.rng.between(1, 60), times: 1 },
            28 => SimulatedFault::LyingEffect { times: 1 },
            23 => SimulatedFault::LyingStake { validator, missing: amount, times },
            29 => SimulatedFault::SubmitRefused { times: 1 },
            _ => SimulatedFault::SubmitLostAfter { times: 1 },
        }
    }

    /// The chain's node restarts: nothing that was final or accepted is gone.
    pub(super) async fn chain_restarts(&mut self, pool: usize) -> Result<(), Stop> {
        self.count_chain_faults(pool);
        let Some(chain) = self.chains.get_mut(pool) else { return Ok(()) };
        let failed = |error| Stop::failed(format!("the chain of pool {pool}: {error}"));
        let before = chain.chain.totals().await.map_err(failed)?;
        chain.reopen().map_err(failed)?;
        let after = chain.chain.totals().await.map_err(failed)?;
        if before != after {
            return Err(Stop::failed(format!(
                "the chain of pool {pool} was {before:?}, and after a restart is {after:?}"
            )));
        }
        Ok(())
    }

    /// Counts the faults that fired since the chain was opened.
    pub(super) fn count_chain_faults(&mut self, pool: usize) {
        let counts = self.chains.get(pool).map(|chain| chain.chain.fault_counts()).unwrap_or_default();
        for (name, times) in counts {
            self.coverage.add(FAULT, format!("chain: {name}"), times);
        }
    }
}
