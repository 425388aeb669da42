//! Adapters that break one clause each: the check has to say which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use softstake::chain::simulated::SimulatedChain;
use softstake::chain::{Assembled, ChainAdapter, ChainError, Descriptor, Lookup, Observation, Signed, Unsigned};
use softstake::domain::amount::BaseUnits;
use softstake::domain::effect::{Effect, EffectKind};
use softstake::domain::ids::{OperationId, TransactionId};
use softstake::domain::operation::OperationKind;
use softstake::domain::signing::Lifetime;

use super::{chain, checked, shown};

/// How an adapter breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    OneAddress,
    TwoNames,
    SameValidatorTwice,
    HeightsGoBack,
    OneUnitMore,
    ToCustody,
    DearerThanSaid,
    LivesForEver,
    ReservesNonces,
    BuildsWhatNoBlockDoes,
    RefusesWithoutSaying,
    TakesAnySignature,
    SaysAnotherFee,
    NewIdEachTime,
    TwiceDone,
    RefusesWhatItHas,
    TakesGarbage,
    DeadBeforeItsTime,
    NeverFound,
    Forgets,
    LeavesOut,
    EndsTooEarly,
    NothingBeyond,
    OtherKeys,
    LosesAUnit,
}

/// The simulated chain, misreported.
struct Liar {
    chain: SimulatedChain,
    wrong: Wrong,
    calls: AtomicU64,
}

impl Liar {
    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    fn count(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn told(&self, effects: Vec<Effect>, listed: bool) -> Vec<Effect> {
        let mut told = Vec::new();
        for mut effect in effects {
            let delegated = matches!(effect.kind, EffectKind::Delegated { .. });
            let fee = matches!(effect.kind, EffectKind::FeePaid { .. });
            if self.is(Wrong::LeavesOut) && listed && fee {
                continue;
            }
            if self.is(Wrong::OtherKeys) && listed {
                effect.key.index += 1_000;
            }
            told.push(effect.clone());
            if self.is(Wrong::TwiceDone) && delegated {
                effect.key.index += 1_000;
                told.push(effect);
            }
        }
        told
    }
}

#[async_trait]
impl ChainAdapter for Liar {
    async fn descriptor(&self) -> Result<Descriptor, ChainError> {
        let mut descriptor = self.chain.descriptor().await?;
        if self.is(Wrong::OneAddress) {
            descriptor.custody_address.clone_from(&descriptor.staking_address);
        }
        if self.is(Wrong::TwoNames) {
            descriptor.staking_address = format!("{}-{}", descriptor.staking_address, self.count());
        }
        Ok(descriptor)
    }

    async fn observe(&self) -> Result<Observation, ChainError> {
        let mut seen = self.chain.observe().await?;
        let staked = seen.delegations.len() + seen.unbondings.len();
        match self.wrong {
            Wrong::SameValidatorTwice => seen.validators.push(seen.validators[0].clone()),
            Wrong::HeightsGoBack if self.count() % 2 == 1 => seen.height -= seen.height.min(50),
            Wrong::LosesAUnit if staked > 0 => {
                seen.liquid = seen.liquid.checked_sub(BaseUnits::from_u64(1)).unwrap();
            }
            _ => {}
        }
        Ok(seen)
    }

    async fn prepare(&self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        let mut kind = kind.clone();
        if let (Wrong::OneUnitMore, OperationKind::Delegate { amount, .. }) = (self.wrong, &mut kind) {
            *amount = amount.checked_add(BaseUnits::from_u64(1)).unwrap();
        }
        let prepared = self.chain.prepare(id, &kind).await;
        if let (Wrong::BuildsWhatNoBlockDoes, Err(_)) = (self.wrong, &prepared) {
            let OperationKind::Delegate { validator, .. } = kind else { return prepared };
            let amount = BaseUnits::from_u64(1);
            return self.chain.prepare(id, &OperationKind::Delegate { validator, amount }).await;
        }
        if let (Wrong::RefusesWithoutSaying, Err(ChainError::Refused(why))) = (self.wrong, &prepared) {
            return Err(ChainError::Unavailable(why.clone()));
        }
        let mut unsigned = prepared?;
        let says = &mut unsigned.says;
        match self.wrong {
            Wrong::ToCustody => says.recipient = Some("simulated-cosmoshub-custody".to_owned()),
            Wrong::DearerThanSaid => says.max_fee = says.max_fee.checked_add(says.max_fee).unwrap(),
            Wrong::LivesForEver => says.lifetime = Lifetime::default(),
            Wrong::ReservesNonces => says.lifetime.nonce = says.lifetime.nonce.map(|nonce| nonce + self.count()),
            _ => {}
        }
        Ok(unsigned)
    }

    async fn assemble(&self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) -> Result<Assembled, ChainError> {
        let assembled = self.chain.assemble(id, unsigned, signature).await;
        if self.is(Wrong::TakesAnySignature) && assembled.is_err() {
            let bytes = [&unsigned.bytes, signature].concat();
            let (transaction, lifetime) = (TransactionId::new("A0").unwrap(), unsigned.says.lifetime);
            return Ok(Assembled { signed: Signed { bytes, transaction, lifetime }, says: unsigned.says.clone() });
        }
        let mut assembled = assembled?;
        if self.is(Wrong::SaysAnotherFee) {
            assembled.says.max_fee = BaseUnits::ZERO;
        }
        if self.is(Wrong::NewIdEachTime) {
            assembled.signed.transaction = TransactionId::new(&format!("A{}", self.count())).unwrap();
        }
        Ok(assembled)
    }

    async fn submit(&self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        let known = !matches!(self.chain.lookup(id, signed).await?, Lookup::Absent | Lookup::AbsentForGood);
        if self.is(Wrong::RefusesWhatItHas) && known {
            return Err(ChainError::Refused("already known".to_owned()));
        }
        let taken = self.chain.submit(id, signed).await;
        if self.is(Wrong::TakesGarbage) { Ok(()) } else { taken }
    }

    async fn lookup(&self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        let found = self.chain.lookup(id, signed).await?;
        Ok(match (self.wrong, found) {
            (Wrong::DeadBeforeItsTime, Lookup::Absent) => Lookup::AbsentForGood,
            (Wrong::NeverFound, Lookup::Done { .. }) => Lookup::Absent,
            // The first operation is found at its end once, and never again.
            (Wrong::Forgets, Lookup::Done { .. }) if self.count() > 1 => Lookup::Pending,
            (_, Lookup::Done { height, effects }) => Lookup::Done { height, effects: self.told(effects, false) },
            (_, found) => found,
        })
    }

    async fn effects(&self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        let mut effects = match self.chain.effects(from, to).await {
            Err(ChainError::Refused(_)) if self.is(Wrong::NothingBeyond) => Vec::new(),
            effects => self.told(effects?, true),
        };
        if self.is(Wrong::EndsTooEarly) {
            effects.retain(|effect| effect.height < to);
        }
        Ok(effects)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_clause_is_named() {
    let broken = [
        (Wrong::OneAddress, "D1", "custody_address: is the staking address too"),
        (Wrong::TwoNames, "D2", "asked twice"),
        (Wrong::SameValidatorTwice, "G1", "validators[12].id: atom-validator-000 stands there twice"),
        (Wrong::SameValidatorTwice, "O1", "stands there twice"),
        (Wrong::HeightsGoBack, "O2", "came after"),
        (Wrong::OneUnitMore, "P1", "asked for delegate 1 to atom-validator-000, its bytes say delegate 2"),
        (Wrong::ToCustody, "P2", "its recipient is simulated-cosmoshub-custody, and not nobody"),
        (Wrong::DearerThanSaid, "P3", "it may cost 5000 base units, and 2500 is the most"),
        (Wrong::LivesForEver, "P4", "neither a nonce nor an expiry ends its life"),
        (Wrong::ReservesNonces, "P5", "with the nonces [Some(0), Some(1)"),
        (Wrong::BuildsWhatNoBlockDoes, "P6", "which no block could do"),
        (Wrong::RefusesWithoutSaying, "G4", "the amount is zero"),
        (Wrong::TakesAnySignature, "A1", "a signature a bit flipped was taken"),
        (Wrong::SaysAnotherFee, "A2", "it says something else than before"),
        (Wrong::NewIdEachTime, "A3", "assembled twice, as A0 and A1"),
        (Wrong::TwiceDone, "S1", "asked for 1 base units, it delegated 2"),
        (Wrong::RefusesWhatItHas, "S2", "already known"),
        (Wrong::TakesGarbage, "S3", "garbage was taken"),
        (Wrong::DeadBeforeItsTime, "L1", "AbsentForGood of what was not sent"),
        (Wrong::NeverFound, "L2", "and Lookup says Absent"),
        (Wrong::Forgets, "G5", "was final, and is Pending"),
        (Wrong::LeavesOut, "E1", "which Lookup has, is not in the list"),
        (Wrong::EndsTooEarly, "E2", "effects instead of"),
        (Wrong::NothingBeyond, "E3", "0 effects instead of a refusal"),
        (Wrong::OtherKeys, "E4", "in the list"),
        (Wrong::LosesAUnit, "E5", "effects make liquid"),
    ];
    for (wrong, clause, seen) in broken {
        let chain = chain("atom").await;
        let liar = Liar { chain: chain.clone(), wrong, calls: AtomicU64::new(0) };
        let report = checked(&chain, Arc::new(liar), true).await;
        let line = report.lines.iter().find(|line| line.clause == clause).unwrap();
        let said = line.to_string();
        assert!(said.starts_with("FAIL") && said.contains(seen), "{wrong:?}: {said}\n{}", shown(&report));
    }
}
