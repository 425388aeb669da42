//! What only sending shows. Costs a few fees, and locks the least delegation for the unbonding time.

use std::time::Duration;

use super::Check;
use super::findings::Clause;
use crate::chain::{Assembled, ChainAdapter, ChainError, Lookup, Observation, Signed, Unsigned};
use crate::domain::amount::BaseUnits;
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::ids::{OperationId, TransactionId, ValidatorId};
use crate::domain::operation::OperationKind;
use crate::domain::signing::{self, Lifetime};

/// How many transactions are sent at most, for what they may cost.
const MOST_SENT: u128 = 6;

/// When the first submission is given up: long enough to leave, too short for most answers.
const LOST_AFTER: Duration = Duration::from_millis(2);

/// An operation that ended.
struct Ended {
    signed: Signed,
    failed: Option<String>,
    effects: Vec<Effect>,
}

impl Check {
    /// Assembles, and where it may, sends.
    pub(super) async fn spend(&mut self, first: &Observation, target: Option<&ValidatorId>) {
        let Some(target) = target else { return };
        if self.options.signer.is_none() {
            for clause in [Clause::A1, Clause::A2, Clause::A3, Clause::L1] {
                self.findings.skip(clause, "takes --signer");
            }
        }
        let sends = [Clause::S1, Clause::S2, Clause::S3, Clause::L2, Clause::L3, Clause::G5, Clause::P6];
        if self.options.signer.is_none() || !self.options.spend {
            for clause in sends {
                self.findings.skip(clause, "takes --signer and --spend");
            }
        }
        if self.options.signer.is_none() {
            return;
        }
        let amount = self.least(first, target);
        let kind = OperationKind::Delegate { validator: target.clone(), amount };
        let Some((id, signed)) = self.signed(first, &kind).await else { return };
        self.never_sent(&id, &signed).await;
        if !self.options.spend {
            return;
        }
        let fees = self.descriptor.fee_estimate.mul_div_floor(MOST_SENT, 1);
        let needs = fees.and_then(|fees| fees.checked_add(amount)).unwrap_or(BaseUnits::MAX);
        if first.liquid < needs {
            let why =
                format!("takes {needs} base units at {}, which has {}", self.descriptor.staking_address, first.liquid);
            for clause in sends {
                self.findings.skip(clause, why.clone());
            }
            return;
        }
        self.garbage(signed.lifetime).await;
        let Some(ended) = self.carry_out(&id, signed, true).await else { return };
        self.one_effect(&id, &ended, amount);
        self.doomed(first, target).await;
        // The rest of the check has more to look at; what can't be done now is no breach.
        let back = OperationKind::Undelegate { validator: target.clone(), amount };
        if let Some((id, signed)) = self.signed(first, &back).await {
            let ended = self.carry_out(&id, signed, false).await;
            self.fee_kept(ended.as_ref());
        }
        self.still_the_same(&id, &ended).await;
    }

    /// Builds, signs and assembles, and tries wrong signatures on the way.
    async fn signed(&mut self, first: &Observation, kind: &OperationKind) -> Option<(OperationId, Signed)> {
        let id = self.new_id().ok()?;
        let prepared = self.adapter.prepare(&id, kind).await;
        if let Err(ChainError::Refused(_)) = &prepared {
            return None;
        }
        let unsigned = self.ask(Clause::P1, "Prepare", prepared)?;
        self.judge(first, kind, &unsigned);
        let signature = match self.sign(&id, &unsigned).await {
            Ok(signature) => signature,
            Err(error) => {
                self.findings.skip(Clause::A1, format!("the signer: {error}"));
                self.findings.skip(Clause::S1, format!("the signer: {error}"));
                return None;
            }
        };
        self.wrong_signatures(&id, &unsigned, &signature).await;
        let answer = self.adapter.assemble(&id, &unsigned, &signature).await;
        let Assembled { signed, says } = self.ask(Clause::A2, "Assemble", answer)?;
        let kept = signing::check_signed(&unsigned.says, &says);
        let seen = kept.as_ref().map_or_else(ToString::to_string, |()| format!("transaction {}", signed.transaction));
        self.findings.hold(Clause::A2, kept.is_ok(), seen);
        let answer = self.adapter.assemble(&id, &unsigned, &signature).await;
        let again = self.ask(Clause::A3, "Assemble", answer)?;
        let seen = format!("assembled twice, as {} and {}", signed.transaction, again.signed.transaction);
        self.findings.hold(Clause::A3, again.signed == signed, seen);
        Some((id, signed))
    }

    async fn wrong_signatures(&mut self, id: &OperationId, unsigned: &Unsigned, signature: &[u8]) {
        let mut flipped = signature.to_vec();
        if let Some(last) = flipped.last_mut() {
            *last ^= 1;
        }
        for (what, wrong) in [("a bit flipped", flipped), ("all zero", vec![0; signature.len()]), ("empty", Vec::new())]
        {
            match self.adapter.assemble(id, unsigned, &wrong).await {
                Err(ChainError::Untrusted(_)) => self.findings.pass(Clause::A1, "one bit flipped, all zero, and empty"),
                Err(error) => {
                    self.findings.fail(Clause::A1, format!("a signature {what} is no DATA_LOSS, but: {error}"));
                }
                Ok(_) => self.findings.fail(Clause::A1, format!("a signature {what} was taken")),
            }
        }
    }

    /// S3: bytes that are nothing.
    async fn garbage(&mut self, lifetime: Lifetime) {
        let (Ok(id), Ok(transaction)) = (self.new_id(), TransactionId::new("00")) else { return };
        let garbage = Signed { bytes: b"this is no transaction".to_vec(), transaction, lifetime };
        match self.adapter.submit(&id, &garbage).await {
            Err(ChainError::Refused(why)) => self.findings.pass(Clause::S3, why),
            Err(error) => self.findings.failed_call(Clause::S3, "Submit of garbage", &error),
            Ok(()) => self.findings.fail(Clause::S3, "garbage was taken"),
        }
        let found = self.adapter.lookup(&id, &garbage).await;
        if matches!(found, Ok(Lookup::Pending | Lookup::Done { .. } | Lookup::Failed { .. })) {
            self.findings.fail(Clause::S3, "garbage is on the chain");
        }
    }

    /// Sends until the chain has ended it. The first answer is given up where `lossy`, and the bytes are sent again at each
    /// turn; what was sent before must not be refused.
    async fn carry_out(&mut self, id: &OperationId, signed: Signed, lossy: bool) -> Option<Ended> {
        let (mut sent, mut how) = (false, "Submit was given up after a moment, and Lookup told");
        if lossy {
            let lost = tokio::time::timeout(LOST_AFTER, self.adapter.submit(id, &signed)).await;
            sent = matches!(lost, Ok(Ok(())));
            if lost.is_ok() {
                how = "Submit answered within 2 ms, too soon to be given up; Lookup told";
            }
        }
        let patience = self.patience();
        let ended = tokio::time::timeout(patience, self.until_ended(id, &signed, &mut sent)).await;
        let Ok(ended) = ended else {
            self.findings
                .fail(Clause::L2, format!("{id} was sent, and nothing final is known of it after {patience:?}"));
            return None;
        };
        let (failed, effects) = ended?;
        self.ended.push((id.clone(), effects.clone()));
        self.findings.pass(Clause::L2, format!("found at its end, with {} effects", effects.len()));
        if lossy {
            self.findings.pass(Clause::L3, how);
        }
        match self.adapter.submit(id, &signed).await {
            Err(ChainError::Refused(why)) => {
                self.findings.fail(Clause::S2, format!("bytes that are on the chain were refused: {why}"));
            }
            Err(ChainError::Untrusted(why)) => self.findings.fail(Clause::G1, format!("Submit: {why}")),
            Ok(()) | Err(ChainError::Unavailable(_)) => {
                self.findings.pass(Clause::S2, "sent again on the way and after its end")
            }
        }
        Some(Ended { signed, failed, effects })
    }

    /// Submits and looks up in turns until the operation has ended.
    async fn until_ended(
        &mut self,
        id: &OperationId,
        signed: &Signed,
        sent: &mut bool,
    ) -> Option<(Option<String>, Vec<Effect>)> {
        loop {
            let found = self.adapter.lookup(id, signed).await;
            match found {
                Ok(Lookup::Done { effects, .. }) => return Some((None, effects)),
                Ok(Lookup::Failed { reason, effects, .. }) => return Some((Some(reason), effects)),
                Ok(Lookup::AbsentForGood) => {
                    let gone = "its bytes died before they were on the chain; run the check again";
                    self.findings.skip(Clause::S1, gone);
                    self.findings.skip(Clause::L2, gone);
                    return None;
                }
                Ok(absent @ (Lookup::Absent | Lookup::Pending)) => {
                    if self.listed(id).await && !self.ended_by_now(id, signed).await {
                        let seen = format!("ListEffects has effects of {id}, and Lookup says {absent:?}");
                        self.findings.fail(Clause::L2, seen);
                        return None;
                    }
                }
                Err(ChainError::Untrusted(why)) => {
                    self.findings.fail(Clause::G1, format!("Lookup: {why}"));
                    self.findings.fail(Clause::L2, why);
                    return None;
                }
                Err(_) => {}
            }
            match self.adapter.submit(id, signed).await {
                Ok(()) => *sent = true,
                Err(ChainError::Refused(why)) if *sent => {
                    self.findings.fail(Clause::S2, format!("bytes that had been taken were refused: {why}"));
                }
                Err(ChainError::Refused(why)) => {
                    // The submission that was given up may have been taken.
                    if matches!(self.adapter.lookup(id, signed).await, Ok(Lookup::Absent | Lookup::AbsentForGood)) {
                        self.findings.skip(Clause::S1, format!("the chain refuses: {why}"));
                        return None;
                    }
                    self.findings.fail(Clause::S2, format!("bytes that had been delivered were refused: {why}"));
                }
                Err(_) => {}
            }
            tokio::time::sleep(self.options.poll).await;
        }
    }

    /// Whether a list of effects has some of `id` since the first observation.
    async fn listed(&mut self, id: &OperationId) -> bool {
        let from = self.seen.first().map(|first| first.height);
        let (Some(from), Some(now)) = (from, self.observe().await) else { return false };
        let listed = self.adapter.effects(from, now.height.max(from)).await;
        listed.is_ok_and(|effects| effects.iter().any(|effect| effect.operation.as_ref() == Some(id)))
    }

    async fn ended_by_now(&self, id: &OperationId, signed: &Signed) -> bool {
        let found = self.adapter.lookup(id, signed).await;
        matches!(found, Ok(Lookup::Done { .. } | Lookup::Failed { .. }) | Err(_))
    }

    /// S1: the delegation did what was asked, once.
    fn one_effect(&mut self, id: &OperationId, ended: &Ended, amount: BaseUnits) {
        self.fee_kept(Some(ended));
        if let Some(reason) = &ended.failed {
            self.findings.skip(Clause::S1, format!("the delegation failed: {reason}"));
            return;
        }
        let moved = ended.effects.iter().filter_map(|effect| match &effect.kind {
            EffectKind::Delegated { amount, .. } => Some(*amount),
            _ => None,
        });
        let moved = BaseUnits::sum(moved).unwrap_or(BaseUnits::MAX);
        let seen = format!("{id} was sent several times; asked for {amount} base units, it delegated {moved}");
        self.findings.hold(Clause::S1, moved == amount, seen);
    }

    /// P3: what was paid.
    fn fee_kept(&mut self, ended: Option<&Ended>) {
        let Some(ended) = ended else { return };
        let paid = ended.effects.iter().filter_map(|effect| match effect.kind {
            EffectKind::FeePaid { amount } => Some(amount),
            _ => None,
        });
        let paid = BaseUnits::sum(paid).unwrap_or(BaseUnits::MAX);
        let most = self.descriptor.fee_estimate;
        self.findings.hold(Clause::P3, paid <= most, format!("paid {paid} base units, of {most} at most"));
    }

    /// P6: an unknown validator, too little, too much.
    async fn doomed(&mut self, first: &Observation, target: &ValidatorId) {
        let limits = self.descriptor.limits.clone();
        let staked = first.delegations.iter().any(|one| one.validator == *target);
        let mut others = first.validators.iter().map(|one| &one.id);
        let empty = others.rfind(|id| **id != *target && first.delegations.iter().all(|one| one.validator != **id));
        let mut kinds = Vec::new();
        if let Ok(validator) = ValidatorId::new("nobody") {
            kinds.push((
                "an unknown validator",
                OperationKind::Delegate { validator, amount: self.least(first, target) },
            ));
        }
        let below = limits.delegation_unit;
        if let (Some(validator), true) = (empty.filter(|_| !staked), below < limits.min_delegation) {
            kinds.push((
                "less than the minimum",
                OperationKind::Delegate { validator: validator.clone(), amount: below },
            ));
        }
        let units = first.liquid.get() / limits.delegation_unit.get().max(1) + 1;
        if let Ok(amount) = limits.delegation_unit.mul_div_floor(units, 1) {
            kinds.push(("more than there is", OperationKind::Delegate { validator: target.clone(), amount }));
        }
        let mut names = Vec::new();
        for (name, kind) in kinds {
            let Some((id, signed)) = self.signed(first, &kind).await else {
                names.push(format!("{name} (refused)"));
                continue;
            };
            if let Err(ChainError::Refused(_)) = self.adapter.submit(&id, &signed).await {
                names.push(format!("{name} (refused)"));
                continue;
            }
            let Some(ended) = self.carry_out(&id, signed, false).await else { continue };
            self.fee_kept(Some(&ended));
            let only_fees = ended.effects.iter().all(|effect| matches!(effect.kind, EffectKind::FeePaid { .. }));
            if ended.failed.is_none() || !only_fees {
                self.findings.fail(Clause::P6, format!("{name}: {:?}, {:?}", ended.failed, ended.effects));
            }
            names.push(format!("{name} (failed)"));
        }
        if !names.is_empty() {
            self.findings.pass(Clause::P6, names.join(", "));
        }
    }

    /// G5 and L2: asked at the end, it is as it was.
    async fn still_the_same(&mut self, id: &OperationId, ended: &Ended) {
        let answer = self.adapter.lookup(id, &ended.signed).await;
        let Some(found) = self.ask(Clause::G5, "Lookup", answer) else { return };
        let same = match &found {
            Lookup::Done { effects, .. } => ended.failed.is_none() && *effects == ended.effects,
            Lookup::Failed { effects, .. } => ended.failed.is_some() && *effects == ended.effects,
            _ => false,
        };
        let seen = if same { "asked again at the end".to_owned() } else { format!("{id} was final, and is {found:?}") };
        self.findings.hold(Clause::G5, same, seen);
    }
}
