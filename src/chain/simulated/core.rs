//! The chain's node: the log, the state at the last final block, the faults, and what each call does with them.
//!
//! The state only ever stands at a final block. An input is accepted for a later block, written to the log, and takes
//! effect when that block is final; until then it is pending. So nothing that was answered is ever taken back.

use std::sync::Arc;

use super::config::{MAX_SUPPLY, SimulatedConfig, rate_to_integer};
use super::faults::{Faults, SimulatedFault, SubmitFate};
use super::input::{Accepted, Genesis, Input, ValidatorChange};
use super::log::Log;
use super::state::{State, custody_transaction};
use super::transaction::{Transaction, open_signed, peek_signed, signing_key, transaction_id};
use crate::chain::{Assembled, ChainError, Lookup, Observation, RewardStyle, Signed, Unsigned, WithdrawStyle};
use crate::clock::Clock;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::Effect;
use crate::domain::ids::{OperationId, TransactionId, TransferId, ValidatorId};
use crate::domain::operation::OperationKind;
use crate::domain::split::WHOLE_BPS;
use crate::domain::time::UnixSeconds;

/// Nothing happens later than this many seconds after genesis.
const LAST_SECOND: i64 = 1 << 40;

pub(super) struct Core {
    config: Arc<SimulatedConfig>,
    clock: Arc<dyn Clock>,
    key: [u8; 32],
    log: Log,
    inputs: Vec<Accepted>,
    pub(super) state: State,
    pub(super) faults: Faults,
    /// The chain's clock never goes back behind this.
    latest: i64,
    pub(super) conflicts: u64,
}

fn refused(why: impl Into<String>) -> ChainError {
    ChainError::Refused(why.into())
}

impl Core {
    pub(super) fn open(
        config: Arc<SimulatedConfig>,
        clock: Arc<dyn Clock>,
        mut log: Log,
        records: &[Vec<u8>],
    ) -> Result<Self, ChainError> {
        config.check()?;
        let fingerprint = config.fingerprint();
        let now = clock.now_ms().div_euclid(1000);
        let genesis = match records.first() {
            Some(record) => Genesis::decode(record)
                .ok_or_else(|| ChainError::Untrusted("the simulated chain's log has an unknown form".into()))?,
            None => {
                let genesis_at = config.genesis_at.map_or(now.clamp(0, LAST_SECOND), UnixSeconds::get);
                let genesis = Genesis { genesis_at, fingerprint };
                log.append(&genesis.encode())?;
                genesis
            }
        };
        if genesis.fingerprint != fingerprint {
            return Err(refused("the simulated chain's log belongs to another configuration"));
        }
        let mut state = State::genesis(config.clone(), UnixSeconds::new(genesis.genesis_at));
        let mut inputs = Vec::new();
        let mut latest = genesis.genesis_at;
        for (number, record) in records.iter().enumerate().skip(1) {
            let accepted = Accepted::decode(record).ok_or_else(|| {
                ChainError::Untrusted(format!("record {number} of the simulated chain's log is malformed"))
            })?;
            latest = latest.max(accepted.accepted_at);
            state.enqueue(&accepted);
            inputs.push(accepted);
        }
        let faults = Faults::new(config.seed);
        let key = signing_key(&config.chain, config.seed);
        let mut core = Self { config, clock, key, log, inputs, state, faults, latest, conflicts: 0 };
        core.advance();
        Ok(core)
    }

    /// The chain's clock, in whole seconds.
    fn now(&mut self) -> UnixSeconds {
        let genesis = self.state.genesis_at.get();
        let now = self.clock.now_ms().div_euclid(1000).clamp(genesis, genesis + LAST_SECOND);
        self.latest = self.latest.max(now);
        UnixSeconds::new(self.latest)
    }

    /// Brings the state to the last final block, and returns the chain's clock.
    pub(super) fn advance(&mut self) -> UnixSeconds {
        let now = self.now();
        let delay = i64::try_from(self.config.finality_delay_seconds).unwrap_or(i64::MAX);
        let target = self.state.height_at(now.plus(-delay));
        self.state.advance(target);
        now
    }

    /// Refuses to answer while the log is broken: what it holds is unknown then.
    fn ready(&mut self) -> Result<UnixSeconds, ChainError> {
        if self.log.failed() {
            return Err(ChainError::Unavailable("the simulated chain's log failed; open the chain again".into()));
        }
        Ok(self.advance())
    }

    /// The block for something accepted now that takes at least `delay` seconds.
    fn block_for(&self, now: UnixSeconds, delay: u64) -> u64 {
        let next = self.state.height_at(now) + 1;
        let delay = i64::try_from(delay).unwrap_or(i64::MAX);
        self.state.height_from(now.plus(delay)).max(next).max(self.state.height + 1)
    }

    fn accept(&mut self, now: UnixSeconds, height: u64, input: Input) -> Result<(), ChainError> {
        let accepted = Accepted { accepted_at: now.get(), height, input };
        self.log.append(&accepted.encode())?;
        self.state.enqueue(&accepted);
        self.inputs.push(accepted);
        Ok(())
    }

    /// The state at an earlier final block, replayed from genesis.
    pub(super) fn state_at(&self, height: u64) -> State {
        let mut state = State::genesis(self.config.clone(), self.state.genesis_at);
        self.inputs.iter().for_each(|accepted| state.enqueue(accepted));
        state.advance(height);
        state
    }

    pub(super) fn descriptor_fault(&mut self) -> Result<(), ChainError> {
        let now = self.ready()?;
        self.faults.read(now)
    }

    pub(super) fn observe(&mut self) -> Result<Observation, ChainError> {
        let now = self.ready()?;
        self.faults.read(now)?;
        let (stale, excess) = self.faults.observe();
        let mut observation = if stale > 0 {
            self.state_at(self.state.height.saturating_sub(stale)).observe()
        } else {
            self.state.observe()
        };
        observation.liquid = observation.liquid.checked_add(excess).unwrap_or(BaseUnits::MAX);
        if let Some((validator, missing)) = self.faults.missing_stake() {
            let lied = observation.delegations.iter_mut().filter(|delegation| delegation.validator == validator);
            lied.for_each(|delegation| delegation.amount = delegation.amount.saturating_sub(missing));
        }
        Ok(observation)
    }

    pub(super) fn prepare(&mut self, id: &OperationId, kind: &OperationKind) -> Result<Unsigned, ChainError> {
        let now = self.ready()?;
        self.faults.read(now)?;
        self.supports(kind)?;
        let kind = if self.faults.lies() { self.twist(kind) } else { kind.clone() };
        let nonce = self.config.has_nonce.then(|| self.next_nonce());
        let expires_at = now.plus(i64::try_from(self.config.expiry_seconds).unwrap_or(i64::MAX));
        let transaction =
            Transaction { chain: self.config.chain.clone(), operation: id.clone(), kind, nonce, expires_at };
        let bytes = transaction.encode();
        let said = Transaction::decode(&bytes)
            .ok_or_else(|| ChainError::Untrusted("the prepared transaction can't be read back".into()))?;
        Ok(Unsigned { bytes, says: self.config.says(said) })
    }

    pub(super) fn assemble(
        &mut self,
        id: &OperationId,
        unsigned: &Unsigned,
        signature: &[u8],
    ) -> Result<Assembled, ChainError> {
        let untrusted = |why: &str| ChainError::Untrusted(format!("what was signed for {id}: {why}"));
        let mut bytes = unsigned.bytes.clone();
        bytes.extend_from_slice(signature);
        let said = open_signed(&self.key, &bytes).map_err(untrusted)?;
        let transaction = transaction_id(&bytes).ok_or_else(|| untrusted("the hash is no transaction id"))?;
        let says = self.config.says(said);
        Ok(Assembled { signed: Signed { bytes, transaction, lifetime: says.lifetime }, says })
    }

    fn next_nonce(&self) -> u64 {
        self.state.nonce + self.state.waiting().count() as u64
    }

    /// Refuses what no block of this chain could ever do.
    fn supports(&self, kind: &OperationKind) -> Result<(), ChainError> {
        let amount = match kind {
            OperationKind::Delegate { amount, .. }
            | OperationKind::Undelegate { amount, .. }
            | OperationKind::Redelegate { amount, .. }
            | OperationKind::SendToCustody { amount, .. } => Some(*amount),
            OperationKind::Claim { .. } | OperationKind::Withdraw { .. } => None,
        };
        if amount.is_some_and(BaseUnits::is_zero) {
            return Err(refused("the amount is zero"));
        }
        let fits = match kind {
            OperationKind::Claim { validator } => match self.config.reward_style {
                RewardStyle::ClaimPerValidator => validator.is_some(),
                RewardStyle::ClaimPerAccount => validator.is_none(),
                RewardStyle::Compounding => false,
            },
            OperationKind::Withdraw { validator } => match self.config.withdraw_style {
                WithdrawStyle::PerValidator => validator.is_some(),
                WithdrawStyle::PerAccount => validator.is_none(),
                WithdrawStyle::Automatic => false,
            },
            OperationKind::Redelegate { .. } => self.config.limits.redelegation,
            _ => true,
        };
        if fits { Ok(()) } else { Err(refused("this chain has no such operation")) }
    }

    /// What a lying node makes of an operation.
    fn twist(&self, kind: &OperationKind) -> OperationKind {
        let more = |amount: &BaseUnits| amount.checked_add(BaseUnits::from_u64(1)).unwrap_or(BaseUnits::ZERO);
        let mut twisted = kind.clone();
        match &mut twisted {
            OperationKind::Delegate { amount, .. }
            | OperationKind::Undelegate { amount, .. }
            | OperationKind::Redelegate { amount, .. }
            | OperationKind::SendToCustody { amount, .. } => *amount = more(amount),
            OperationKind::Claim { .. } | OperationKind::Withdraw { .. } => {
                if let Ok(transfer) = TransferId::new("elsewhere") {
                    let amount = super::state::units(self.state.liquid);
                    twisted = OperationKind::SendToCustody { transfer, amount };
                }
            }
        }
        twisted
    }

    pub(super) fn submit(&mut self, id: &OperationId, signed: &Signed) -> Result<(), ChainError> {
        let now = self.ready()?;
        let fate = self.faults.submit(now)?;
        if fate == SubmitFate::LostBefore {
            return Err(Faults::lost());
        }
        let delay = match fate {
            SubmitFate::Late(after) => after.max(self.config.inclusion_delay_seconds),
            _ => self.config.inclusion_delay_seconds,
        };
        let done = self.take_in(id, signed, now, delay, matches!(fate, SubmitFate::Late(_)));
        if fate == SubmitFate::Answered { done } else { Err(Faults::lost()) }
    }

    fn take_in(
        &mut self,
        id: &OperationId,
        signed: &Signed,
        now: UnixSeconds,
        delay: u64,
        hidden: bool,
    ) -> Result<(), ChainError> {
        let said = open_signed(&self.key, &signed.bytes).map_err(refused)?;
        let transaction = transaction_id(&signed.bytes).ok_or_else(|| refused("the hash is no transaction id"))?;
        if transaction != signed.transaction {
            return Err(refused("the transaction id is not the hash of the bytes"));
        }
        if said.chain != self.config.chain || said.operation != *id {
            return Err(refused("the transaction is for another chain or operation"));
        }
        let included = self.state.included(id).map(|included| &included.transaction);
        let waiting = self.state.waiting().find(|(_, operation)| *operation == id).map(|(waiting, _)| waiting);
        if let Some(known) = included.or(waiting) {
            if *known == transaction {
                return Ok(());
            }
            let why = format!("the operation is on the chain already, as transaction {known}");
            self.conflicts += 1;
            return Err(refused(why));
        }
        let height = self.block_for(now, delay);
        if said.expires_at < self.state.time_of(height) {
            return Err(refused("the transaction expires before it can be included"));
        }
        let expected = self.next_nonce();
        if said.nonce != self.config.has_nonce.then_some(expected) {
            return Err(refused(format!("the nonce is not the next, which is {expected}")));
        }
        let waiting = self.state.waiting().count() as u128;
        let fees = self.config.fee.get().saturating_mul(waiting + 1);
        if self.state.liquid < fees {
            return Err(refused("the liquid balance can't pay the fee"));
        }
        let with_amount = !matches!(said.kind, OperationKind::Claim { .. } | OperationKind::Withdraw { .. });
        let share_bps = if with_amount { self.faults.share() } else { None };
        let bytes = signed.bytes.clone();
        let input = |hidden| {
            let (id, said, bytes) = (transaction.clone(), said.clone(), bytes.clone());
            Input::Transaction { id, said, bytes, hidden, share_bps }
        };
        self.accept(now, height, input(hidden))?;
        if self.faults.doubled() {
            // The copy is not counted among what waits: everyone sees one transaction.
            self.accept(now, height + 1, input(true))?;
        }
        Ok(())
    }

    pub(super) fn lookup(&mut self, id: &OperationId, signed: &Signed) -> Result<Lookup, ChainError> {
        let now = self.ready()?;
        self.faults.lookup(now)?;
        if let Some(included) = self.state.included(id) {
            let height = included.height;
            let mut effects = self.state.effects[included.effects.clone()].to_vec();
            self.faults.exaggerate(&mut effects);
            return Ok(match &included.failure {
                Some(reason) => Lookup::Failed { height, reason: reason.clone(), effects },
                None => Lookup::Done { height, effects },
            });
        }
        if let Some((height, transaction)) = self.state.waits_for(id) {
            if let Some(depth) = self.faults.reorg() {
                let later = height.saturating_add(depth);
                self.accept(now, later, Input::ThrownBack { id: transaction })?;
            }
            return Ok(Lookup::Pending);
        }
        // Bytes that can't be read were never and will never be included.
        let dead = peek_signed(&signed.bytes).is_none_or(|said| {
            said.expires_at < self.state.at() || said.nonce.is_some_and(|nonce| nonce < self.state.nonce)
        });
        Ok(if dead { Lookup::AbsentForGood } else { Lookup::Absent })
    }

    pub(super) fn effects(&mut self, from: u64, to: u64) -> Result<Vec<Effect>, ChainError> {
        let now = self.ready()?;
        self.faults.effects(now)?;
        if from > to || to > self.state.height {
            let last = self.state.height;
            return Err(refused(format!(
                "effects of blocks {from} to {to} were asked for; the last final one is {last}"
            )));
        }
        let first = self.state.effects.partition_point(|effect| effect.height <= from);
        let end = self.state.effects.partition_point(|effect| effect.height <= to);
        let mut effects = self.state.effects[first..end].to_vec();
        self.faults.exaggerate(&mut effects);
        Ok(effects)
    }

    pub(super) fn set_fault(&mut self, fault: SimulatedFault) -> Result<(), ChainError> {
        let now = self.ready()?;
        let name = fault.name();
        let known = |validator: &ValidatorId| {
            let found = self.state.find(validator).is_some();
            if found { Ok(validator.clone()) } else { Err(refused(format!("validator {validator} is unknown"))) }
        };
        let (validator, change) = match &fault {
            SimulatedFault::Donate { amount } => {
                let given = self.state.donated().saturating_add(amount.get());
                if given.saturating_add(self.config.custody_balance.get()) > MAX_SUPPLY {
                    return Err(refused("that is more than there can be, 2^120 base units"));
                }
                let height = self.block_for(now, 0);
                self.accept(now, height, Input::Donation { amount: *amount })?;
                self.faults.count(name);
                return Ok(());
            }
            SimulatedFault::Slash { validator, fraction } | SimulatedFault::SilentSlash { validator, fraction } => {
                let parts = rate_to_integer(*fraction)
                    .filter(|parts| *parts > 0)
                    .ok_or_else(|| refused("a slash takes more than 0 and at most 1, with at most 18 decimals"))?;
                let silent = matches!(fault, SimulatedFault::SilentSlash { .. });
                (known(validator)?, ValidatorChange::Slash { parts, silent })
            }
            SimulatedFault::Unslash { validator } => (known(validator)?, ValidatorChange::Unslash),
            SimulatedFault::LyingStake { validator, .. } => {
                known(validator)?;
                self.faults.arm(fault);
                return Ok(());
            }
            SimulatedFault::Jail { validator } => (known(validator)?, ValidatorChange::Jail),
            SimulatedFault::Unjail { validator } => (known(validator)?, ValidatorChange::Unjail),
            SimulatedFault::PartialEffect { share_bps, .. } if *share_bps >= WHOLE_BPS => {
                return Err(refused("a part is less than the whole of 10000 basis points"));
            }
            SimulatedFault::Tombstone { validator } => (known(validator)?, ValidatorChange::Tombstone),
            _ => {
                self.faults.arm(fault);
                return Ok(());
            }
        };
        let height = self.block_for(now, 0);
        self.accept(now, height, Input::Validator { validator, change })?;
        self.faults.count(name);
        Ok(())
    }

    pub(super) fn custody_send(
        &mut self,
        transfer: &TransferId,
        part: u32,
        amount: BaseUnits,
    ) -> Result<TransactionId, ChainError> {
        let now = self.ready()?;
        self.faults.outage(now)?;
        let transaction = custody_transaction(transfer, part);
        if let Some(sent) = self.state.custody_sent(transfer, part) {
            return if sent == amount.get() {
                Ok(transaction)
            } else {
                Err(refused(format!("transfer {transfer} was sent before, with another amount")))
            };
        }
        if amount.is_zero() {
            return Err(refused("the amount is zero"));
        }
        if self.state.custody_free() < amount.get() {
            return Err(refused("custody does not own that much"));
        }
        let height = self.block_for(now, self.config.inclusion_delay_seconds);
        self.accept(now, height, Input::CustodySend { transfer: transfer.clone(), part, amount })?;
        Ok(transaction)
    }
}
