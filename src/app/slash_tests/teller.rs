//! A chain that has done more than it did: what a test tells it to have done, in its effects and its readings alike.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::app::distribute::tests::rig::{Rig, units};
use crate::app::reconcile::{self, Reconciliation};
use crate::chain::simulated::SimulatedChain;
use crate::chain::{
    Assembled, ChainAdapter, ChainError, Delegation, Descriptor, Lookup, Observation, Signed, Unsigned,
};
use crate::domain::amount::BaseUnits;
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::ids::{OperationId, TransactionId, TransferId};
use crate::domain::operation::OperationKind;
use crate::domain::policy::ReleaseLimits;

/// A simulated chain, and what it is told.
pub struct Teller {
    chain: SimulatedChain,
    told: Mutex<Vec<Effect>>,
    /// How far the time of its readings is off, in seconds.
    skew: AtomicI64,
}

impl Teller {
    /// A pool whose staking address has a million units, all booked, and the way to its chain.
    pub async fn new() -> (Rig, Arc<Self>) {
        let rig = Rig::new(1, ReleaseLimits::default()).await;
        rig.simulated.custody_send(&TransferId::new("gift").unwrap(), units(1_000_000)).await.unwrap();
        rig.set_time(60);
        let teller = Arc::new(Self { chain: rig.simulated.clone(), told: Mutex::default(), skew: AtomicI64::new(0) });
        let rig = rig.restart_on(teller.clone()).await;
        assert!(read(&rig).await.unwrap().agrees());
        (rig, teller)
    }

    /// From now on, readings are dated this much later than they are.
    pub fn misdate(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::Relaxed);
    }

    /// The chain does something in the block after `second`.
    pub async fn tell(&self, rig: &Rig, second: i64, name: &str, operation: Option<&OperationId>, kind: EffectKind) {
        rig.set_time(second);
        let Observation { height, at, .. } = self.chain.observe().await.unwrap();
        let key = EffectKey { transaction: TransactionId::new(name).unwrap(), index: 0 };
        let effect = Effect { key, height: height + 1, at, operation: operation.cloned(), kind };
        self.told.lock().unwrap().push(effect);
    }
}

/// Reads the chain now, and compares.
pub async fn read(rig: &Rig) -> Option<Reconciliation> {
    reconcile::reconcile(&rig.app, &rig.pool, rig.app.now()).await.unwrap()
}

fn take(from: &mut BaseUnits, amount: BaseUnits) {
    *from = from.checked_sub(amount).unwrap();
}

fn give(to: &mut BaseUnits, amount: BaseUnits) {
    *to = to.checked_add(amount).unwrap();
}

fn apply(seen: &mut Observation, kind: &EffectKind) {
    match kind {
        EffectKind::TransferOut { amount, .. } => take(&mut seen.liquid, *amount),
        EffectKind::RewardPaid { amount, .. } => give(&mut seen.liquid, *amount),
        EffectKind::Delegated { validator, amount } => {
            take(&mut seen.liquid, *amount);
            match seen.delegations.iter_mut().find(|held| held.validator == *validator) {
                Some(held) => give(&mut held.amount, *amount),
                None => seen.delegations.push(Delegation {
                    validator: validator.clone(),
                    amount: *amount,
                    pending_reward: BaseUnits::ZERO,
                    redelegation_locked: BaseUnits::ZERO,
                }),
            }
        }
        other => panic!("{other:?} is not told here"),
    }
}

#[async_trait]
impl ChainAdapter for Teller {
    async fn descriptor(&self) -> Result<Descriptor, ChainError> {
        self.chain.descriptor().await
    }

    async fn observe(&self) -> Result<Observation, ChainError> {
        let mut seen = self.chain.observe().await?;
        let (told, height) = (self.told.lock().unwrap().clone(), seen.height);
        for effect in told.iter().filter(|effect| effect.height <= height) {
            apply(&mut seen, &effect.kind);
        }
        seen.at = seen.at.plus(self.skew.load(Ordering::Relaxed));
        Ok(seen)
    }

    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        self.chain.prepare(id, kind).await
    }

    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        self.chain.assemble(id, unsigned, signature).await
    }

    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        self.chain.submit(id, signed).await
    }

    async fn lookup(&self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        self.chain.lookup(id, signed).await
    }

    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        let mut all = self.chain.effects(from, to).await?;
        let told = self.told.lock().unwrap().clone();
        all.extend(told.into_iter().filter(|effect| from < effect.height && effect.height <= to));
        all.sort_by_key(|effect| effect.height);
        Ok(all)
    }
}
