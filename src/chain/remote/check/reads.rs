//! What can be seen without sending anything.

use std::time::Duration;

use futures::future::join_all;

use super::Check;
use super::findings::Clause;
use crate::chain::{ChainAdapter, ChainError, Lookup, Observation, RewardStyle, Signed, Unsigned, WithdrawStyle};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{OperationId, TransferId, ValidatorId};
use crate::domain::operation::OperationKind;
use crate::domain::signing::{self, SigningBreach};
use crate::pb::adapter::v1::PrepareRequest;

/// How many reads are made at the same time.
const AT_ONCE: usize = 8;

/// After so long a call is given up to see that nothing is lost.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(1);

impl Check {
    /// D1 and D2, as far as they were not read already.
    pub(super) async fn descriptor(&mut self) {
        let first = self.descriptor.clone();
        let of = if first.simulated { "simulated" } else { "real" };
        self.findings
            .pass(Clause::D1, format!("{}, {}, {of}, stakes from {}", first.chain, first.asset, first.staking_address));
        let answer = self.adapter.descriptor().await;
        let Some(again) = self.ask(Clause::D2, "GetDescriptor", answer) else { return };
        let fixed = |it: &crate::chain::Descriptor| {
            let addresses = (it.staking_address.clone(), it.custody_address.clone());
            (it.chain.clone(), it.asset.clone(), it.decimals, addresses, it.simulated)
        };
        self.findings.hold(Clause::D2, fixed(&first) == fixed(&again), "asked twice");
    }

    /// Reads at the same time, and reads that are given up.
    pub(super) async fn reads(&mut self) {
        let asked = (0..AT_ONCE).map(|_| self.adapter.observe());
        for answer in join_all(asked).await {
            if let Err(error) = answer {
                self.findings.failed_call(Clause::G2, "one of several Observe at the same time", &error);
            }
        }
        self.findings.pass(Clause::G2, format!("{AT_ONCE} at the same time"));
        for _ in 0..AT_ONCE {
            drop(tokio::time::timeout(GIVEN_UP_AFTER, self.adapter.observe()).await);
        }
        if self.observe().await.is_some() {
            self.findings
                .pass(Clause::G3, format!("{AT_ONCE} reads given up after a moment, and the next one answered"));
        }
        self.beyond().await;
    }

    /// E3.
    async fn beyond(&mut self) {
        let Some(seen) = self.observe().await else { return };
        let far = seen.height.saturating_add(1 << 40);
        let ranges = [(seen.height, far), (seen.height, seen.height.saturating_sub(1))];
        for (from, to) in ranges.into_iter().filter(|(from, to)| from != to) {
            match self.adapter.effects(from, to).await {
                Err(ChainError::Refused(_)) => {
                    self.findings.pass(Clause::E3, format!("the last final height was {}", seen.height));
                }
                Err(error) => {
                    self.findings.failed_call(Clause::E3, &format!("ListEffects from {from} to {to}"), &error);
                }
                Ok(effects) => {
                    let seen = format!("from {from} to {to}: {} effects instead of a refusal", effects.len());
                    self.findings.fail(Clause::E3, seen);
                }
            }
        }
    }

    /// The least that `first` lets be delegated with `target`.
    pub(super) fn least(&self, first: &Observation, target: &ValidatorId) -> BaseUnits {
        let limits = &self.descriptor.limits;
        let staked =
            first.delegations.iter().any(|one| one.validator == *target && one.amount >= limits.min_delegation);
        let (unit, least) = (limits.delegation_unit, if staked { BaseUnits::ZERO } else { limits.min_delegation });
        let units = least.get().div_ceil(unit.get().max(1)).max(1);
        unit.mul_div_floor(units, 1).unwrap_or(BaseUnits::MAX)
    }

    /// What preparing shows: of what can be done, and of what can't.
    pub(super) async fn prepares(&mut self, first: &Observation, target: Option<&ValidatorId>) {
        let Some(target) = target else {
            self.findings.skip(Clause::P1, "no validator is active");
            return;
        };
        let validator = target.clone();
        let delegate = OperationKind::Delegate { validator, amount: self.least(first, target) };
        self.prepare_twice(first, &delegate).await;
        let Ok(transfer) = TransferId::new("check") else { return };
        let send = OperationKind::SendToCustody { transfer, amount: BaseUnits::from_u64(1) };
        for kind in [send].into_iter().chain(self.collecting(target, true)) {
            let Ok(id) = self.new_id() else { return };
            // What can't be done now may be refused.
            if let Ok(unsigned) = self.adapter.prepare(&id, &kind).await {
                self.judge(first, &kind, &unsigned);
            }
        }
        let nothing = OperationKind::Delegate { validator: target.clone(), amount: BaseUnits::ZERO };
        for kind in [nothing].into_iter().chain(self.collecting(target, false)) {
            let Ok(id) = self.new_id() else { return };
            match self.adapter.prepare(&id, &kind).await {
                Err(ChainError::Refused(_)) => {
                    self.findings.pass(Clause::G4, "what no block could do was refused as such");
                }
                Err(error) => self.findings.failed_call(Clause::G4, &format!("Prepare of {kind:?}"), &error),
                Ok(_) => self.findings.fail(Clause::P6, format!("Prepare built {kind:?}, which no block could do")),
            }
        }
        let empty = PrepareRequest { operation_id: String::new(), operation: None };
        match super::answered(self.adapter.client.clone().prepare(empty).await) {
            Err(ChainError::Refused(_)) => {}
            Err(error) => self.findings.failed_call(Clause::G4, "Prepare of nothing", &error),
            Ok(_) => self.findings.fail(Clause::G4, "Prepare of nothing was answered"),
        }
    }

    /// Claims, withdrawals and moves: those that the chain has, or those that it does not have.
    fn collecting(&self, target: &ValidatorId, has: bool) -> Vec<OperationKind> {
        let one = Some(target.clone());
        let claims = match self.descriptor.reward_style {
            RewardStyle::ClaimPerValidator => [true, false],
            RewardStyle::ClaimPerAccount => [false, true],
            RewardStyle::Compounding => [false, false],
        };
        let withdrawals = match self.descriptor.withdraw_style {
            WithdrawStyle::PerValidator => [true, false],
            WithdrawStyle::PerAccount => [false, true],
            WithdrawStyle::Automatic => [false, false],
        };
        let kinds = [
            (claims[0], OperationKind::Claim { validator: one.clone() }),
            (claims[1], OperationKind::Claim { validator: None }),
            (withdrawals[0], OperationKind::Withdraw { validator: one }),
            (withdrawals[1], OperationKind::Withdraw { validator: None }),
        ];
        kinds.into_iter().filter(|(fits, _)| *fits == has).map(|(_, kind)| kind).collect()
    }

    /// The same operation twice, with another one in between.
    async fn prepare_twice(&mut self, first: &Observation, kind: &OperationKind) {
        let (Ok(id), Ok(other)) = (self.new_id(), self.new_id()) else { return };
        let mut nonces = Vec::new();
        for id in [&id, &other, &id, &id] {
            let answer = self.adapter.prepare(id, kind).await;
            if let Err(ChainError::Refused(why)) = &answer {
                self.findings.skip(Clause::P1, format!("not even the least delegation was built: {why}"));
                return;
            }
            let Some(unsigned) = self.ask(Clause::P1, "Prepare", answer) else { return };
            self.judge(first, kind, &unsigned);
            nonces.push(unsigned.says.lifetime.nonce);
        }
        let same = nonces.windows(2).all(|pair| pair[0] == pair[1]);
        self.findings.hold(Clause::P5, same, format!("prepared four times, with the nonces {nonces:?}"));
    }

    /// P1 to P4, of what bytes are said to do.
    pub(super) fn judge(&mut self, first: &Observation, kind: &OperationKind, unsigned: &Unsigned) {
        let name = kind.name();
        let says = &unsigned.says;
        // A breach hides those that are looked for after it; each clause is its own here.
        let breach = signing::check_unsigned(kind, says, &self.bounds());
        match &breach {
            Err(breach @ SigningBreach::Intent { .. }) => self.findings.fail(Clause::P1, breach.to_string()),
            Err(breach @ (SigningBreach::Sender { .. } | SigningBreach::Recipient { .. })) => {
                self.findings.fail(Clause::P2, format!("{name}: {breach}"));
            }
            Err(breach @ SigningBreach::Fee { .. }) => self.findings.fail(Clause::P3, format!("{name}: {breach}")),
            Err(breach) => self.findings.fail(Clause::P4, format!("{name}: {breach}")),
            Ok(()) => {
                self.findings.pass(Clause::P1, "of every transaction that was built");
                self.findings.pass(Clause::P2, "of every transaction that was built");
                self.findings.pass(Clause::P3, format!("{} base units at most", says.max_fee));
            }
        }
        let lifetime = says.lifetime;
        let over = lifetime.expires_at.is_some_and(|at| at < first.at)
            || lifetime.expires_height.is_some_and(|height| height <= first.height);
        let seen = format!("{name}: {lifetime:?} at height {} and {}", first.height, first.at);
        if breach.is_ok() || over {
            self.findings.hold(Clause::P4, !over, seen);
        }
    }

    /// What was never sent, just after it was built.
    pub(super) async fn never_sent(&mut self, id: &OperationId, signed: &Signed) {
        let answer = self.adapter.lookup(id, signed).await;
        let Some(found) = self.ask(Clause::L1, "Lookup of what was not sent", answer) else { return };
        let Some(seen) = self.observe().await else { return };
        let lifetime = signed.lifetime;
        let ended = lifetime.expires_at.is_some_and(|at| at < seen.at)
            || lifetime.expires_height.is_some_and(|height| height < seen.height);
        match found {
            Lookup::Absent => self.findings.pass(Clause::L1, "Absent before it was sent"),
            Lookup::AbsentForGood if ended => {}
            found => self.findings.fail(Clause::L1, format!("{found:?} of what was not sent and may still be")),
        }
    }
}
