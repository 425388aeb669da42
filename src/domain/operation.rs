//! Operations: one thing done on a chain. Their kinds, their names, their states, and the table of (state, event).
//!
//! The rule that the table keeps: only identical bytes are ever broadcast again, and new bytes are made only after the
//! chain has proved that the old ones can never take effect. A lost answer is answered by asking, not by sending.

use super::amount::BaseUnits;
use super::ids::{IdError, OperationId, PoolId, TransactionId, TransferId, ValidatorId};
use super::names::stable_names;
use super::time::UnixSeconds;

/// What an operation is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Stake `amount` liquid tokens with `validator`.
    Delegate { validator: ValidatorId, amount: BaseUnits },
    /// Begin to unstake `amount` from `validator`.
    Undelegate { validator: ValidatorId, amount: BaseUnits },
    /// Move `amount` of stake without unbonding.
    Redelegate { from: ValidatorId, to: ValidatorId, amount: BaseUnits },
    /// Claim the rewards earned with `validator`, or all where the chain claims for the whole account.
    Claim { validator: Option<ValidatorId> },
    /// Withdraw what has matured at `validator`, or all where the chain withdraws for the whole account.
    Withdraw { validator: Option<ValidatorId> },
    /// Send `amount` liquid tokens to custody, for the transfer named.
    SendToCustody { transfer: TransferId, amount: BaseUnits },
}

impl OperationKind {
    /// The stable name of the kind, as it stands in operation ids.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Delegate { .. } => "delegate",
            Self::Undelegate { .. } => "undelegate",
            Self::Redelegate { .. } => "redelegate",
            Self::Claim { .. } => "claim",
            Self::Withdraw { .. } => "withdraw",
            Self::SendToCustody { .. } => "defund",
        }
    }

    /// How much it is to move; `None` where the chain says how much that is.
    pub const fn asked(&self) -> Option<BaseUnits> {
        match self {
            Self::Delegate { amount, .. }
            | Self::Undelegate { amount, .. }
            | Self::Redelegate { amount, .. }
            | Self::SendToCustody { amount, .. } => Some(*amount),
            Self::Claim { .. } | Self::Withdraw { .. } => None,
        }
    }

    /// What was asked for and not done, of one for which the chain has moved `settled` and will move no more.
    pub fn shortfall(&self, settled: BaseUnits) -> BaseUnits {
        self.asked().map_or(BaseUnits::ZERO, |asked| asked.saturating_sub(settled))
    }

    /// Seconds from planning until a chain of this pace has done it, one lost attempt included.
    pub const fn expected_seconds(&self, pace: ChainPace) -> u64 {
        let chain = match self {
            Self::Delegate { .. } | Self::Undelegate { .. } | Self::Redelegate { .. } => pace.stake_move_seconds,
            Self::Claim { .. } | Self::Withdraw { .. } | Self::SendToCustody { .. } => pace.finality_seconds,
        };
        let twice = chain.saturating_mul(2);
        if twice > LEAST_EXPECTED_SECONDS { twice } else { LEAST_EXPECTED_SECONDS }
    }

    /// Whether it brings tokens back or collects them: below the house float's floor only these run.
    pub const fn is_exit(&self) -> bool {
        !matches!(self, Self::Delegate { .. } | Self::Redelegate { .. })
    }
}

/// How soon a chain does what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPace {
    /// Seconds from a broadcast until an ordinary transaction is final.
    pub finality_seconds: u64,
    /// The same for a move of stake: longer where those wait for an epoch.
    pub stake_move_seconds: u64,
}

/// Nothing counts as overdue before so many seconds: a few lost answers and their pauses are no alert.
const LEAST_EXPECTED_SECONDS: u64 = 300;

/// What stands for "all validators" in an operation id.
const ALL: &str = "all";

/// The id of a claim: one per pool, period and validator, so that planning it twice is one operation.
pub fn claim_id(pool: &PoolId, period: u64, validator: Option<&ValidatorId>) -> Result<OperationId, IdError> {
    OperationId::new(&format!("{pool}:claim:{period}:{}", validator.map_or(ALL, ValidatorId::as_str)))
}

/// The id of a withdrawal planned by run `run`.
pub fn withdraw_id(pool: &PoolId, run: u64, validator: Option<&ValidatorId>) -> Result<OperationId, IdError> {
    OperationId::new(&format!("{pool}:withdraw:{run}:{}", validator.map_or(ALL, ValidatorId::as_str)))
}

/// The id of move number `n` of rebalance run `run`.
pub fn rebalance_id(pool: &PoolId, kind: &OperationKind, run: u64, n: u32) -> Result<OperationId, IdError> {
    OperationId::new(&format!("{pool}:{}:{run}:{n}", kind.name()))
}

/// The id of the operation that sends a DEFUND.
pub fn defund_id(pool: &PoolId, transfer: &TransferId) -> Result<OperationId, IdError> {
    OperationId::new(&format!("{pool}:defund:{transfer}"))
}

/// The transfer that the operation `id` sends, if [`defund_id`] made it.
pub fn defund_transfer(id: &OperationId) -> Option<TransferId> {
    let (pool, transfer) = id.as_str().split_once(":defund:")?;
    PoolId::new(pool).ok()?;
    TransferId::new(transfer).ok()
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationState {
    /// Wanted; no bytes that could take effect exist.
    Planned,
    /// Signed bytes are stored; they are being broadcast for the first time.
    Submitting,
    /// The chain has taken them.
    Submitted,
    /// Nobody knows; the chain is asked until it proves the one or the other.
    Unknown,
    /// Final and done.
    Confirmed,
    /// Final and not done.
    Failed,
    /// Attempts or time are exhausted: a person decides.
    NeedsOperator,
}

use OperationState as S;

/// Every state, for tables and tests.
pub const OPERATION_STATES: [OperationState; 7] =
    [S::Planned, S::Submitting, S::Submitted, S::Unknown, S::Confirmed, S::Failed, S::NeedsOperator];

stable_names!(
    OperationState,
    /// The stable name.
    fn name(self) {
        Self::Planned => "PLANNED",
        Self::Submitting => "SUBMITTING",
        Self::Submitted => "SUBMITTED",
        Self::Unknown => "UNKNOWN",
        Self::Confirmed => "CONFIRMED",
        Self::Failed => "FAILED",
        Self::NeedsOperator => "NEEDS_OPERATOR",
    }
);

impl OperationState {
    /// Whether it has ended. One that an operator said was done keeps in flight what is not booked yet.
    pub const fn ended(self) -> bool {
        matches!(self, Self::Confirmed | Self::Failed)
    }
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationEvent {
    /// The signed bytes, their hash, nonce and expiry are durable.
    IntentStored,
    /// The chain took the bytes.
    SubmitAccepted,
    /// The chain, the adapter or the signer refused for good.
    SubmitRefused,
    /// No answer to a broadcast, or a restart during one.
    SubmitLost,
    /// Proved: the bytes can never take effect.
    LookupAbsentForGood,
    /// Not on the chain, and may still come.
    LookupAbsent,
    /// Seen, not final.
    LookupPending,
    /// Final and done.
    LookupDone,
    /// Final and failed.
    LookupFailed,
    /// The chain could not be asked.
    LookupUnavailable,
    /// The bound of attempts is reached.
    AttemptsExhausted,
    /// The bound of time is reached.
    TimeExhausted,
    /// An operator says: try again. `bytes_stored` is whether signed bytes exist that were not proved dead.
    OperatorRetry {
        /// Whether signed bytes exist that were not proved dead.
        bytes_stored: bool,
    },
    /// An operator says, with proof from elsewhere, that it was done.
    OperatorResolvedDone,
    /// An operator says, with proof from elsewhere, that it was not done and never will be.
    OperatorResolvedFailed,
}

use OperationEvent as E;

/// Every event, for tables and tests.
pub const OPERATION_EVENTS: [OperationEvent; 16] = [
    E::IntentStored,
    E::SubmitAccepted,
    E::SubmitRefused,
    E::SubmitLost,
    E::LookupAbsentForGood,
    E::LookupAbsent,
    E::LookupPending,
    E::LookupDone,
    E::LookupFailed,
    E::LookupUnavailable,
    E::AttemptsExhausted,
    E::TimeExhausted,
    E::OperatorRetry { bytes_stored: true },
    E::OperatorRetry { bytes_stored: false },
    E::OperatorResolvedDone,
    E::OperatorResolvedFailed,
];

stable_names!(
    OperationEvent,
    /// The stable name.
    fn name(self) {
        Self::IntentStored => "intent stored",
        Self::SubmitAccepted => "submit accepted",
        Self::SubmitRefused => "submit refused",
        Self::SubmitLost => "submit lost",
        Self::LookupAbsentForGood => "lookup: absent for good",
        Self::LookupAbsent => "lookup: absent",
        Self::LookupPending => "lookup: pending",
        Self::LookupDone => "lookup: done",
        Self::LookupFailed => "lookup: failed",
        Self::LookupUnavailable => "lookup: unavailable",
        Self::AttemptsExhausted => "attempts exhausted",
        Self::TimeExhausted => "time exhausted",
        Self::OperatorRetry { bytes_stored: true } => "operator: retry, bytes stored",
        Self::OperatorRetry { bytes_stored: false } => "operator: retry, no bytes",
        Self::OperatorResolvedDone => "operator: done",
        Self::OperatorResolvedFailed => "operator: failed",
    }
);

/// What to do after a transition is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationAction {
    /// Broadcast the stored bytes, and no others.
    Submit,
    /// Ask the chain.
    Lookup,
    /// Prepare and sign new bytes; the old ones, if any, are proved dead.
    Rebuild,
    /// Book the effects that the look-up gave and give back what stays in flight, in the same commit.
    Book,
    /// Give back what is in flight, in the same commit.
    Release,
    /// Give back what is in flight, once everything that the chain did until now is booked: what was done on an
    /// operator's word must not be planned again before the books show it.
    Settle,
    /// Tell the operator.
    Alert,
    /// Nothing until the next step.
    Nothing,
}

use OperationAction as A;

/// What an event leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The next state, to be made durable first.
    pub state: OperationState,
    /// What to do then.
    pub action: OperationAction,
}

/// Why an event leads nowhere. Nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationRefusal {
    /// The operation has ended.
    #[error("the operation has ended")]
    Ended,
    /// The chain says the opposite of what was final: alert, and stop the pool's outflows.
    #[error("the chain contradicts what was final")]
    Contradiction,
    /// New bytes while old ones may still take effect.
    #[error("bytes that may still take effect exist: they can't be replaced")]
    BytesAlive,
    /// The event answers something that was not asked in this state.
    #[error("the event answers nothing that was asked in this state")]
    Stale,
    /// Only an operation that needs an operator takes an operator's word.
    #[error("the operation does not need an operator")]
    NotNeeded,
}

const fn to(state: OperationState, action: OperationAction) -> Result<Transition, OperationRefusal> {
    Ok(Transition { state, action })
}

/// The table: every pair of state and event has its answer here.
pub const fn transition(state: OperationState, event: OperationEvent) -> Result<Transition, OperationRefusal> {
    use OperationRefusal as R;
    match (state, event) {
        // No bytes exist that could take effect.
        (S::Planned, E::IntentStored) => to(S::Submitting, A::Submit),
        (S::Planned, E::SubmitRefused) => to(S::Failed, A::Release),
        (S::Planned, E::AttemptsExhausted | E::TimeExhausted) => to(S::NeedsOperator, A::Alert),
        // The chain shows what was proved absent, or never signed: nothing is certain any more.
        (S::Planned, E::LookupPending | E::LookupDone | E::LookupFailed) => to(S::NeedsOperator, A::Alert),
        (S::Planned, E::LookupAbsent | E::LookupAbsentForGood | E::LookupUnavailable) => to(S::Planned, A::Nothing),
        (S::Planned, E::SubmitAccepted | E::SubmitLost) => Err(R::Stale),

        // The first broadcast of these bytes: a refusal is proof that nothing happened, and only here.
        (S::Submitting, E::SubmitAccepted) => to(S::Submitted, A::Nothing),
        (S::Submitting, E::SubmitRefused) => to(S::Failed, A::Release),
        (S::Submitting, E::SubmitLost) => to(S::Unknown, A::Lookup),
        (S::Submitting, E::LookupPending) => to(S::Submitted, A::Nothing),
        (S::Submitting, E::LookupAbsent | E::LookupUnavailable) => to(S::Unknown, A::Lookup),

        // The chain has the bytes, or had them.
        (S::Submitted, E::SubmitAccepted | E::SubmitLost) => to(S::Submitted, A::Nothing),
        (S::Submitted, E::SubmitRefused) => to(S::Unknown, A::Lookup),
        (S::Submitted, E::LookupPending | E::LookupUnavailable) => to(S::Submitted, A::Nothing),
        (S::Submitted, E::LookupAbsent) => to(S::Unknown, A::Submit),

        // Identical bytes may be sent again, after asking. A refusal now may mean that they took effect before.
        (S::Unknown, E::SubmitAccepted) => to(S::Submitted, A::Nothing),
        (S::Unknown, E::SubmitRefused | E::SubmitLost) => to(S::Unknown, A::Lookup),
        (S::Unknown, E::LookupAbsent) => to(S::Unknown, A::Submit),
        (S::Unknown, E::LookupPending) => to(S::Submitted, A::Nothing),
        (S::Unknown, E::LookupUnavailable) => to(S::Unknown, A::Nothing),

        // While bytes may take effect, only the chain ends it, or proves them dead.
        (S::Submitting | S::Submitted | S::Unknown, E::LookupDone) => to(S::Confirmed, A::Book),
        (S::Submitting | S::Submitted | S::Unknown, E::LookupFailed) => to(S::Failed, A::Book),
        (S::Submitting | S::Submitted | S::Unknown, E::LookupAbsentForGood) => to(S::Planned, A::Rebuild),
        (S::Submitting | S::Submitted | S::Unknown, E::AttemptsExhausted | E::TimeExhausted) => {
            to(S::NeedsOperator, A::Alert)
        }
        (S::Submitting | S::Submitted | S::Unknown | S::NeedsOperator, E::IntentStored) => Err(R::BytesAlive),
        (
            S::Planned | S::Submitting | S::Submitted | S::Unknown,
            E::OperatorRetry { .. } | E::OperatorResolvedDone | E::OperatorResolvedFailed,
        ) => Err(R::NotNeeded),

        // A person decides, but what the chain proves to be final goes first.
        (S::NeedsOperator, E::LookupDone) => to(S::Confirmed, A::Book),
        (S::NeedsOperator, E::LookupFailed) => to(S::Failed, A::Book),
        (S::NeedsOperator, E::OperatorRetry { bytes_stored: true }) => to(S::Unknown, A::Lookup),
        (S::NeedsOperator, E::OperatorRetry { bytes_stored: false }) => to(S::Planned, A::Rebuild),
        (S::NeedsOperator, E::OperatorResolvedDone) => to(S::Confirmed, A::Settle),
        (S::NeedsOperator, E::OperatorResolvedFailed) => to(S::Failed, A::Release),
        (
            S::NeedsOperator,
            E::SubmitAccepted
            | E::SubmitRefused
            | E::SubmitLost
            | E::LookupAbsentForGood
            | E::LookupAbsent
            | E::LookupPending
            | E::LookupUnavailable
            | E::AttemptsExhausted
            | E::TimeExhausted,
        ) => to(S::NeedsOperator, A::Nothing),

        // Ended.
        (S::Confirmed, E::LookupDone) => to(S::Confirmed, A::Nothing),
        (S::Failed, E::LookupFailed) => to(S::Failed, A::Nothing),
        (S::Confirmed, E::LookupFailed | E::LookupAbsentForGood) => Err(R::Contradiction),
        (S::Failed, E::LookupDone | E::LookupPending) => Err(R::Contradiction),
        (
            S::Confirmed | S::Failed,
            E::IntentStored
            | E::SubmitAccepted
            | E::SubmitRefused
            | E::SubmitLost
            | E::LookupAbsentForGood
            | E::LookupAbsent
            | E::LookupPending
            | E::LookupUnavailable
            | E::AttemptsExhausted
            | E::TimeExhausted
            | E::OperatorRetry { .. }
            | E::OperatorResolvedDone
            | E::OperatorResolvedFailed,
        ) => Err(R::Ended),
    }
}

/// How often an operation may be tried before a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationBounds {
    /// Broadcasts and builds, counted together.
    pub max_attempts: u32,
    /// Seconds from planning until it should be done (a claim: minutes).
    pub expected_seconds: u64,
    /// Seconds from planning, or from an operator's last retry, until a person is asked.
    pub max_seconds: u64,
}

/// The age of an operation against what is expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationAge {
    /// Seconds since it was planned, or since an operator last retried it.
    pub seconds: u64,
    /// What is expected.
    pub expected_seconds: u64,
    /// Whether it is older than expected: shown, and counted in a metric.
    pub overdue: bool,
}

impl OperationBounds {
    /// The age at `now` of an operation that began at `since`. One that has ended is never overdue: pass its end.
    pub const fn age(&self, since: UnixSeconds, now: UnixSeconds) -> OperationAge {
        let seconds = now.since(since);
        let expected_seconds = self.expected_seconds;
        OperationAge { seconds, expected_seconds, overdue: seconds > expected_seconds }
    }

    /// The event that ends the trying, if a bound is reached. Ask before each attempt.
    pub const fn exhausted(&self, attempts: u32, age: OperationAge) -> Option<OperationEvent> {
        if age.seconds > self.max_seconds {
            Some(E::TimeExhausted)
        } else if attempts >= self.max_attempts {
            Some(E::AttemptsExhausted)
        } else {
            None
        }
    }
}

/// What an operator can prove of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It took effect, by this transaction, which is final.
    Done(TransactionId),
    /// It did not, and never will.
    Absent,
}

impl Resolution {
    /// What it comes to in the table.
    pub const fn event(&self) -> OperationEvent {
        match self {
            Self::Done(_) => OperationEvent::OperatorResolvedDone,
            Self::Absent => OperationEvent::OperatorResolvedFailed,
        }
    }
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
