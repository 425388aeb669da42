//! Faults that can be switched on. Those that change the chain are inputs of it and outlive a restart; the others
//! live in memory, count down, and say how often they fired.

use crate::domain::names::stable_names;
use std::collections::BTreeMap;

use super::codec::draw;
use crate::chain::{ChainError, Rate};
use crate::domain::amount::BaseUnits;
use crate::domain::effect::Effect;
use crate::domain::ids::ValidatorId;
use crate::domain::time::UnixSeconds;

/// Something that goes wrong. `times` is how often it fires before it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimulatedFault {
    /// `submit` does not answer, and the transaction never arrived.
    SubmitLostBefore { times: u32 },
    /// `submit` does not answer, but the transaction was accepted.
    SubmitLostAfter { times: u32 },
    /// `submit` does not answer; the transaction travels unseen (`lookup` says absent) and, unless it expires or is
    /// overtaken, is included `after_seconds` later.
    SubmitLate { after_seconds: u64, times: u32 },
    /// `submit` refuses the transaction for good, and it never arrives.
    SubmitRefused { times: u32 },
    /// The network delivers a submission twice. The chain includes it once.
    DuplicateSubmit { times: u32 },
    /// A submission of which the chain does only this share, below the whole in basis points: a clamped amount, or a
    /// batch of which some messages failed. Claims and withdrawals name no amount, and pass it by.
    PartialEffect { share_bps: u32, times: u32 },
    /// A transaction that `lookup` has shown as pending vanishes. It comes back unseen so many blocks after the one it
    /// was meant for, unless it expires or is overtaken.
    Reorg { depth: u64, times: u32 },
    /// `lookup` does not answer.
    LookupUnavailable { times: u32 },
    /// `effects` does not answer.
    EffectsUnavailable { times: u32 },
    /// `lookup` or `effects` reports one base unit more than the chain moved.
    LyingEffect { times: u32 },
    /// `observe` answers as of `blocks` earlier.
    StaleObserve { blocks: u64, times: u32 },
    /// `observe` reports this much more liquid than there is.
    LyingObserve { excess: BaseUnits, times: u32 },
    /// `observe` reports this much less staked with the validator than there is.
    LyingStake { validator: ValidatorId, missing: BaseUnits, times: u32 },
    /// `prepare` builds a transaction that says something else than was asked: an amount one too high, or the claim or
    /// withdrawal turned into sending all that is liquid to custody.
    LyingPrepare { times: u32 },
    /// Nothing answers before this chain time.
    Outage { until: UnixSeconds },
    /// Every call fails with a chance of one in `one_in`, drawn from the chain's seed; `submit` before or after its
    /// effect. Until the faults are cleared.
    Flaky { one_in: u32 },
    /// The validator loses this share, more than 0 and at most 1, of everything staked with it or unbonding from it.
    Slash { validator: ValidatorId, fraction: Rate },
    /// The same, but `effects` never says so.
    SilentSlash { validator: ValidatorId, fraction: Rate },
    /// The chain takes back the validator's last slash that was not taken back: what was delegated is so again; so is what
    /// unbonded, unless its entry is still there. `effects` says so where it said the slash.
    Unslash { validator: ValidatorId },
    /// The validator is jailed: it earns nothing and takes no new stake.
    Jail { validator: ValidatorId },
    /// A jailed validator becomes active.
    Unjail { validator: ValidatorId },
    /// The validator is out for ever.
    Tombstone { validator: ValidatorId },
    /// A stranger sends this much to the staking address.
    Donate { amount: BaseUnits },
}

stable_names!(
    SimulatedFault,
    /// The name under which it is counted.
    fn name(&self) {
        Self::SubmitLostBefore { .. } => "submit_lost_before",
        Self::SubmitLostAfter { .. } => "submit_lost_after",
        Self::SubmitLate { .. } => "submit_late",
        Self::SubmitRefused { .. } => "submit_refused",
        Self::DuplicateSubmit { .. } => "duplicate_submit",
        Self::PartialEffect { .. } => "partial_effect",
        Self::Reorg { .. } => "reorg",
        Self::LyingEffect { .. } => "lying_effect",
        Self::LookupUnavailable { .. } => "lookup_unavailable",
        Self::EffectsUnavailable { .. } => "effects_unavailable",
        Self::StaleObserve { .. } => "stale_observe",
        Self::LyingObserve { .. } => "lying_observe",
        Self::LyingStake { .. } => "lying_stake",
        Self::LyingPrepare { .. } => "lying_prepare",
        Self::Outage { .. } => "outage",
        Self::Flaky { .. } => "flaky",
        Self::Slash { .. } => "slash",
        Self::SilentSlash { .. } => "silent_slash",
        Self::Unslash { .. } => "unslash",
        Self::Jail { .. } => "jail",
        Self::Unjail { .. } => "unjail",
        Self::Tombstone { .. } => "tombstone",
        Self::Donate { .. } => "donate",
    }
);

impl SimulatedFault {
    fn times(&self) -> Option<u32> {
        match self {
            Self::SubmitLostBefore { times }
            | Self::SubmitLostAfter { times }
            | Self::SubmitLate { times, .. }
            | Self::SubmitRefused { times }
            | Self::DuplicateSubmit { times }
            | Self::PartialEffect { times, .. }
            | Self::Reorg { times, .. }
            | Self::LyingEffect { times }
            | Self::LookupUnavailable { times }
            | Self::EffectsUnavailable { times }
            | Self::StaleObserve { times, .. }
            | Self::LyingObserve { times, .. }
            | Self::LyingStake { times, .. }
            | Self::LyingPrepare { times } => Some(*times),
            _ => None,
        }
    }
}

/// How one submission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubmitFate {
    Answered,
    LostBefore,
    LostAfter,
    Late(u64),
}

/// The faults that are on.
#[derive(Debug)]
pub(super) struct Faults {
    seed: u64,
    calls: u64,
    armed: Vec<(SimulatedFault, u32)>,
    fired: BTreeMap<&'static str, u64>,
}

fn lost() -> ChainError {
    ChainError::Unavailable("a simulated fault: the answer was lost".into())
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, calls: 0, armed: Vec::new(), fired: BTreeMap::new() }
    }

    pub(super) fn arm(&mut self, fault: SimulatedFault) {
        let times = fault.times().unwrap_or(1);
        if times > 0 {
            self.armed.push((fault, times));
        }
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.fired.entry(name).or_insert(0) += 1;
    }

    pub(super) fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.fired.clone()
    }

    /// Fires the first armed fault that `pick` wants.
    fn fire<T>(&mut self, pick: impl Fn(&SimulatedFault) -> Option<T>) -> Option<T> {
        let (place, picked) =
            self.armed.iter().enumerate().find_map(|(place, (fault, _))| Some((place, pick(fault)?)))?;
        let (fault, left) = &mut self.armed[place];
        let name = fault.name();
        if fault.times().is_some() {
            *left -= 1;
            if *left == 0 {
                self.armed.remove(place);
            }
        }
        self.count(name);
        Some(picked)
    }

    fn flaky(&mut self) -> Option<u64> {
        self.calls += 1;
        let drawn = draw(self.seed, "flaky", self.calls);
        self.fire(|fault| match fault {
            SimulatedFault::Flaky { one_in } if *one_in > 0 && drawn.is_multiple_of(u64::from(*one_in)) => Some(drawn),
            _ => None,
        })
    }

    /// An outage, at the chain time `now`.
    pub(super) fn outage(&mut self, now: UnixSeconds) -> Result<(), ChainError> {
        self.armed.retain(|(fault, _)| !matches!(fault, SimulatedFault::Outage { until } if *until <= now));
        let out = self.fire(|fault| matches!(fault, SimulatedFault::Outage { .. }).then_some(()));
        out.map_or(Ok(()), |()| Err(ChainError::Unavailable("a simulated fault: the chain is out".into())))
    }

    /// What any read meets.
    pub(super) fn read(&mut self, now: UnixSeconds) -> Result<(), ChainError> {
        self.outage(now)?;
        self.flaky().map_or(Ok(()), |_| Err(lost()))
    }

    /// What `lookup` meets.
    pub(super) fn lookup(&mut self, now: UnixSeconds) -> Result<(), ChainError> {
        self.read(now)?;
        let out = self.fire(|fault| matches!(fault, SimulatedFault::LookupUnavailable { .. }).then_some(()));
        out.map_or(Ok(()), |()| Err(lost()))
    }

    /// What `effects` meets.
    pub(super) fn effects(&mut self, now: UnixSeconds) -> Result<(), ChainError> {
        self.read(now)?;
        let out = self.fire(|fault| matches!(fault, SimulatedFault::EffectsUnavailable { .. }).then_some(()));
        out.map_or(Ok(()), |()| Err(lost()))
    }

    /// By how many blocks this observation is stale, and how much liquid it invents.
    pub(super) fn observe(&mut self) -> (u64, BaseUnits) {
        let stale = self.fire(|fault| match fault {
            SimulatedFault::StaleObserve { blocks, .. } => Some(*blocks),
            _ => None,
        });
        let excess = self.fire(|fault| match fault {
            SimulatedFault::LyingObserve { excess, .. } => Some(*excess),
            _ => None,
        });
        (stale.unwrap_or(0), excess.unwrap_or(BaseUnits::ZERO))
    }

    /// How much of whose stake this observation leaves out.
    pub(super) fn missing_stake(&mut self) -> Option<(ValidatorId, BaseUnits)> {
        self.fire(|fault| match fault {
            SimulatedFault::LyingStake { validator, missing, .. } => Some((validator.clone(), *missing)),
            _ => None,
        })
    }

    /// Whether this preparation lies.
    pub(super) fn lies(&mut self) -> bool {
        self.fire(|fault| matches!(fault, SimulatedFault::LyingPrepare { .. }).then_some(())).is_some()
    }

    /// How this submission goes.
    pub(super) fn submit(&mut self, now: UnixSeconds) -> Result<SubmitFate, ChainError> {
        self.outage(now)?;
        if let Some(drawn) = self.flaky() {
            return Ok(if drawn >> 63 == 0 { SubmitFate::LostBefore } else { SubmitFate::LostAfter });
        }
        if self.fire(|fault| matches!(fault, SimulatedFault::SubmitRefused { .. }).then_some(())).is_some() {
            return Err(ChainError::Refused("a simulated fault: the chain takes no such transaction".into()));
        }
        let fate = self.fire(|fault| match fault {
            SimulatedFault::SubmitLostBefore { .. } => Some(SubmitFate::LostBefore),
            SimulatedFault::SubmitLostAfter { .. } => Some(SubmitFate::LostAfter),
            SimulatedFault::SubmitLate { after_seconds, .. } => Some(SubmitFate::Late(*after_seconds)),
            _ => None,
        });
        Ok(fate.unwrap_or(SubmitFate::Answered))
    }

    /// The share, in basis points, that the chain is to do of a submission with an amount.
    pub(super) fn share(&mut self) -> Option<u32> {
        self.fire(|fault| match fault {
            SimulatedFault::PartialEffect { share_bps, .. } => Some(*share_bps),
            _ => None,
        })
    }

    /// Whether this submission is delivered twice.
    pub(super) fn doubled(&mut self) -> bool {
        self.fire(|fault| matches!(fault, SimulatedFault::DuplicateSubmit { .. }).then_some(())).is_some()
    }

    /// By how many blocks a pending transaction that is being looked at is thrown back.
    pub(super) fn reorg(&mut self) -> Option<u64> {
        self.fire(|fault| match fault {
            SimulatedFault::Reorg { depth, .. } => Some(*depth),
            _ => None,
        })
    }

    /// Makes the last of `effects` one unit larger than it was, where one is to lie.
    pub(super) fn exaggerate(&mut self, effects: &mut [Effect]) {
        let Some(effect) = effects.last_mut() else { return };
        if self.fire(|fault| matches!(fault, SimulatedFault::LyingEffect { .. }).then_some(())).is_none() {
            return;
        }
        let amount = effect.kind.amount_mut();
        *amount = amount.checked_add(BaseUnits::from_u64(1)).unwrap_or(BaseUnits::MAX);
    }

    pub(super) fn lost() -> ChainError {
        lost()
    }
}
