//! Tests of the simulated chain, over the adapter contract and a clock moved by hand.

mod conservation;
mod durability;
mod faults;
mod network;
mod rewards;
mod rules;
mod transactions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::{ChainTotals, MemoryLog, SimulatedChain, SimulatedConfig, presets};
use crate::chain::{ChainAdapter, ChainError, Delegation, Lookup, Observation, Signed, Signer};
use crate::clock::Clock;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::ids::{OperationId, TransferId, ValidatorId};
use crate::domain::operation::OperationKind;

/// A Sunday midnight; any moment does.
const START: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A clock that moves by two seconds whenever it is read.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(2_000, Ordering::Relaxed)
    }
}

/// A chain in memory of which each call is two seconds later than the one before.
pub fn ticking(config: SimulatedConfig) -> SimulatedChain {
    let clock = Arc::new(Ticking(AtomicI64::new(START * 1000)));
    SimulatedChain::open_memory(MemoryLog::new(), config, clock).unwrap()
}

/// A chain on a disk in memory, with a clock and a signer.
struct Rig {
    clock: Arc<TestClock>,
    disk: MemoryLog,
    chain: SimulatedChain,
    config: SimulatedConfig,
    made: u32,
}

impl Rig {
    fn new(config: SimulatedConfig) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(START * 1000)));
        let disk = MemoryLog::new();
        let chain = SimulatedChain::open_memory(disk.clone(), config.clone(), clock.clone()).unwrap();
        Self { clock, disk, chain, config, made: 0 }
    }

    /// A preset with `whole` base units at the staking address.
    async fn funded(config: SimulatedConfig, units: u128) -> Self {
        let mut rig = Self::new(config);
        rig.fund(units).await;
        rig
    }

    fn reopen(&mut self) {
        self.chain = SimulatedChain::open_memory(self.disk.clone(), self.config.clone(), self.clock.clone()).unwrap();
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    fn now(&self) -> i64 {
        self.clock.now_ms() / 1000
    }

    /// Long enough for anything accepted to be final.
    fn settle(&self) {
        let config = &self.config;
        let wait = config.inclusion_delay_seconds + config.finality_delay_seconds + 2 * config.block_seconds;
        self.pass(wait as i64);
    }

    fn id(&mut self) -> OperationId {
        self.made += 1;
        OperationId::new(&format!("op-{}", self.made)).unwrap()
    }

    async fn fund(&mut self, units: u128) {
        self.made += 1;
        let transfer = TransferId::new(&format!("fund-{}", self.made)).unwrap();
        self.chain.custody_send(&transfer, amount(units)).await.unwrap();
        self.settle();
    }

    async fn signed(&self, id: &OperationId, kind: &OperationKind) -> Result<Signed, ChainError> {
        let unsigned = self.chain.prepare(id, kind).await?;
        assert_eq!(unsigned.says.intent, *kind);
        let signature = self.chain.signer().sign(id, &unsigned).await?;
        let assembled = self.chain.assemble(id, &unsigned, &signature).await?;
        assert_eq!(assembled.says, unsigned.says);
        Ok(assembled.signed)
    }

    /// One operation from preparing to its final answer.
    async fn act(&mut self, kind: OperationKind) -> Lookup {
        let id = self.id();
        let signed = self.signed(&id, &kind).await.unwrap();
        self.chain.submit(&id, &signed).await.unwrap();
        self.settle();
        self.chain.lookup(&id, &signed).await.unwrap()
    }

    /// The effects of an operation that has to succeed, the fee left out.
    async fn done(&mut self, kind: OperationKind) -> Vec<EffectKind> {
        match self.act(kind.clone()).await {
            Lookup::Done { effects, .. } => {
                assert_eq!(effects[0].kind, EffectKind::FeePaid { amount: self.config.fee });
                effects.into_iter().skip(1).map(|effect| effect.kind).collect()
            }
            other => panic!("{kind:?} came to {other:?}"),
        }
    }

    /// Why an operation failed; it has to, and to pay its fee and nothing else.
    async fn fails(&mut self, kind: OperationKind) -> String {
        match self.act(kind.clone()).await {
            Lookup::Failed { effects, reason, .. } => {
                let kinds: Vec<_> = effects.into_iter().map(|effect| effect.kind).collect();
                assert_eq!(kinds, [EffectKind::FeePaid { amount: self.config.fee }]);
                reason
            }
            other => panic!("{kind:?} came to {other:?}"),
        }
    }

    async fn observe(&self) -> Observation {
        self.chain.observe().await.unwrap()
    }

    async fn totals(&self) -> ChainTotals {
        self.chain.totals().await.unwrap()
    }

    async fn effects(&self) -> Vec<Effect> {
        let height = self.totals().await.height;
        self.chain.effects(0, height).await.unwrap()
    }

    fn validator(&self, index: usize) -> ValidatorId {
        self.config.validators[index].id.clone()
    }

    fn delegate(&self, index: usize, units: u128) -> OperationKind {
        OperationKind::Delegate { validator: self.validator(index), amount: amount(units) }
    }

    fn undelegate(&self, index: usize, units: u128) -> OperationKind {
        OperationKind::Undelegate { validator: self.validator(index), amount: amount(units) }
    }

    fn redelegate(&self, from: usize, to: usize, units: u128) -> OperationKind {
        OperationKind::Redelegate { from: self.validator(from), to: self.validator(to), amount: amount(units) }
    }

    async fn delegation(&self, index: usize) -> Option<Delegation> {
        let id = self.validator(index);
        self.observe().await.delegations.into_iter().find(|delegation| delegation.validator == id)
    }

    /// Nothing created, nothing lost, every effect under a name of its own, in order, and summing up to the balances.
    async fn audit(&self) {
        let totals = self.totals().await;
        assert!(totals.conserved(), "{totals:#?}");
        let effects = self.effects().await;
        let keys: BTreeSet<_> = effects.iter().map(|effect| effect.key.clone()).collect();
        assert_eq!(keys.len(), effects.len());
        assert!(effects.windows(2).all(|pair| pair[0].height <= pair[1].height));
        let (mut liquid, mut delegated, mut unbonding, mut matured) = (0_i128, 0_i128, 0_i128, 0_i128);
        for effect in &effects {
            let units = |amount: &BaseUnits| amount.get() as i128;
            match &effect.kind {
                EffectKind::TransferIn { amount, .. } => liquid += units(amount),
                EffectKind::TransferOut { amount, .. } => liquid -= units(amount),
                EffectKind::Delegated { amount, .. } => {
                    liquid -= units(amount);
                    delegated += units(amount);
                }
                EffectKind::Undelegated { amount, matures_at, .. } => {
                    assert!(*matures_at > effect.at);
                    delegated -= units(amount);
                    unbonding += units(amount);
                }
                EffectKind::Redelegated { amount, .. } => assert!(!amount.is_zero()),
                EffectKind::Matured { amount, .. } => {
                    unbonding -= units(amount);
                    matured += units(amount);
                }
                EffectKind::Withdrawn { amount } => {
                    matured -= units(amount);
                    liquid += units(amount);
                }
                EffectKind::RewardPaid { amount, earned_from, earned_to, .. } => {
                    assert!(earned_from < earned_to && *earned_to <= effect.at);
                    liquid += units(amount);
                }
                EffectKind::RewardCompounded { amount, earned_from, earned_to, .. } => {
                    assert!(earned_from < earned_to && *earned_to <= effect.at);
                    delegated += units(amount);
                }
                EffectKind::FeePaid { amount } => liquid -= units(amount),
                EffectKind::Slashed { delegated: staked, unbonding: leaving, .. } => {
                    delegated -= units(staked);
                    unbonding -= units(leaving);
                }
                EffectKind::SlashReversed { slash, delegated: staked, unbonding: leaving, .. } => {
                    let before = effects.iter().take_while(|before| before.key != effect.key);
                    assert!(before.filter(|before| before.key == *slash).count() == 1, "what is reversed was told");
                    delegated += units(staked);
                    unbonding += units(leaving);
                }
            }
        }
        let held = [totals.liquid, totals.delegated, totals.unbonding, totals.matured].map(|held| held.get() as i128);
        assert_eq!([liquid, delegated, unbonding, matured], held);
        let observed = self.observe().await;
        assert_eq!(observed.liquid, totals.liquid);
        assert_eq!(BaseUnits::sum(observed.delegations.iter().map(|held| held.amount)).unwrap(), totals.delegated);
    }
}

fn amount(units: u128) -> BaseUnits {
    BaseUnits::new(units).unwrap()
}

/// So many whole tokens of a preset, in base units.
fn tokens(config: &SimulatedConfig, whole: u128) -> u128 {
    whole * 10_u128.pow(config.decimals)
}

fn preset(name: &str) -> SimulatedConfig {
    presets::preset(name).unwrap()
}
