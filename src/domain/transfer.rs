//! Transfers between custody and the staking address: FUND in, DEFUND out.
//!
//! Two witnesses speak of a transfer: custody acknowledges, the chain shows. Either may come in parts. A FUND counts
//! when the chain shows it, in whichever order the two speak; a DEFUND counts as back when custody acknowledges it.

use super::amount::{AmountError, BaseUnits};
use super::ids::{OperationId, TransferId};

/// Which way the tokens go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Custody sends to the staking address.
    Fund,
    /// The staking address sends to custody.
    Defund,
}

/// Whose tokens they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Customers' principal.
    Principal,
    /// The operator's own, for fees.
    HouseFloat,
}

/// Where a transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransferState {
    /// Asked for. Of a DEFUND: its operation is planned.
    Requested,
    /// On its way, or part of it. FUND: custody said so, or part of it has arrived. DEFUND: the chain shows it.
    Sent,
    /// The end of a FUND: the chain shows all of it, or all that there will be.
    Observed,
    /// The end of a DEFUND: custody has it.
    Received,
    /// Ended, and never sent.
    Cancelled,
}

/// Every state, for tables and tests.
pub const TRANSFER_STATES: [TransferState; 5] = [
    TransferState::Requested,
    TransferState::Sent,
    TransferState::Observed,
    TransferState::Received,
    TransferState::Cancelled,
];

/// What happens to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEvent {
    /// Custody acknowledges `amount` more: sent, of a FUND; received, of a DEFUND.
    Acknowledged(BaseUnits),
    /// The chain shows `amount` more: arrived, of a FUND; left, of a DEFUND.
    Seen(BaseUnits),
    /// No more will come of it (custody's word, or the failed rest of an operation). What custody acknowledged of a FUND
    /// and the chain has not shown is back in custody then.
    Finished,
    /// It is no longer wanted, or its operation failed before it did anything.
    Cancelled,
}

/// One transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Its id; custody writes it into the memo of a FUND.
    pub id: TransferId,
    /// Which way.
    pub direction: Direction,
    /// Whose.
    pub purpose: Purpose,
    /// The operation that sends a DEFUND.
    pub operation: Option<OperationId>,
    /// What was asked for; once a DEFUND's operation has ended, what it sent.
    pub asked: BaseUnits,
    /// What custody has acknowledged so far.
    pub acknowledged: BaseUnits,
    /// What the chain has shown so far, surplus left out.
    pub seen: BaseUnits,
    /// What the chain has shown beyond what was asked for, or after the end: it went to suspense.
    pub surplus: BaseUnits,
    /// How many movements the chain has shown under this id. More than one is a split or a repeat.
    pub movements: u32,
    /// Where it stands.
    pub state: TransferState,
}

/// What an event moves, for the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferMoney {
    /// From custody into transit (FUND) or from transit into custody (DEFUND): what an acknowledgement moves.
    pub acknowledged: BaseUnits,
    /// Of a FUND that ends: from transit back into custody, what was acknowledged and never arrived.
    pub returned: BaseUnits,
    /// Of a FUND that the chain shows: what custody had acknowledged before, out of transit.
    pub from_transit: BaseUnits,
    /// Of a FUND that the chain shows: what custody has not acknowledged yet, straight out of custody.
    pub from_custody: BaseUnits,
    /// Of what the chain shows: what nobody asked for.
    pub surplus: BaseUnits,
}

/// A transfer after an event, and what that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferStep {
    /// The transfer as it is now.
    pub transfer: Transfer,
    /// What moves.
    pub money: TransferMoney,
}

/// Why an event was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefusal {
    /// The transfer has ended.
    #[error("the transfer has ended")]
    Ended,
    /// Part of it was sent: it can only go on, or be finished.
    #[error("part of the transfer was sent already: it can't be cancelled")]
    AlreadySent,
    /// Custody acknowledges a DEFUND that has not left the staking address.
    #[error("the transfer has not left the staking address yet: ask again when it is SENT")]
    NotSentYet,
    /// Custody acknowledges more than was asked for or sent.
    #[error("the acknowledgement is past what is expected, {expected} base units at most")]
    MoreThanExpected {
        /// The most that may be acknowledged now.
        expected: BaseUnits,
    },
    /// An acknowledgement of nothing.
    #[error("an acknowledgement needs an amount above zero")]
    Nothing,
    /// A state that this direction can't have.
    #[error("a transfer of this direction is never in this state")]
    Impossible,
    /// A figure is past what an amount can hold.
    #[error("the amount is past the largest that can be held")]
    Overflow,
}

impl From<AmountError> for TransferRefusal {
    fn from(_: AmountError) -> Self {
        Self::Overflow
    }
}

/// What the table answers: how an event counts in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Count it; the state follows from the figures.
    Count(BaseUnits),
    /// Count it as nobody's: the transfer stays as it is.
    Surplus(BaseUnits),
    /// End it with what has arrived.
    Finish,
    /// Nothing more will leave: it ends once custody has what was sent.
    Curtail,
    /// End it as cancelled.
    Cancel,
}

/// The table: every direction, state and event has its answer.
const fn rule(direction: Direction, state: TransferState, event: TransferEvent) -> Result<Rule, TransferRefusal> {
    use Direction as D;
    use TransferEvent as E;
    use TransferState as S;
    match (direction, state, event) {
        (D::Fund, S::Requested | S::Sent, E::Acknowledged(amount) | E::Seen(amount)) => Ok(Rule::Count(amount)),
        (D::Fund, S::Observed, E::Acknowledged(amount)) => Ok(Rule::Count(amount)),
        (D::Fund, S::Observed | S::Cancelled, E::Seen(amount)) => Ok(Rule::Surplus(amount)),
        (D::Defund, S::Requested, E::Acknowledged(_)) => Err(TransferRefusal::NotSentYet),
        (D::Defund, S::Requested | S::Sent | S::Received, E::Seen(amount)) => Ok(Rule::Count(amount)),
        (D::Defund, S::Sent, E::Acknowledged(amount)) => Ok(Rule::Count(amount)),
        (D::Defund, S::Received | S::Cancelled, E::Acknowledged(_)) => Err(TransferRefusal::Ended),
        // The chain shows tokens leaving for a transfer that was given up: they are on their way to custody all the same.
        (D::Defund, S::Cancelled, E::Seen(amount)) => Ok(Rule::Count(amount)),
        (D::Fund, S::Cancelled, E::Acknowledged(_)) => Err(TransferRefusal::Ended),
        (_, S::Requested, E::Finished | E::Cancelled) => Ok(Rule::Cancel),
        (D::Fund, S::Sent, E::Finished) => Ok(Rule::Finish),
        (D::Defund, S::Sent, E::Finished) => Ok(Rule::Curtail),
        (_, S::Sent, E::Cancelled) => Err(TransferRefusal::AlreadySent),
        (D::Fund, S::Observed, E::Finished | E::Cancelled) => Err(TransferRefusal::Ended),
        (D::Defund, S::Received, E::Finished | E::Cancelled) => Err(TransferRefusal::Ended),
        (_, S::Cancelled, E::Finished | E::Cancelled) => Err(TransferRefusal::Ended),
        (D::Fund, S::Received, _) | (D::Defund, S::Observed, _) => Err(TransferRefusal::Impossible),
    }
}

impl Transfer {
    /// A transfer that is asked for now.
    pub const fn new(
        id: TransferId,
        direction: Direction,
        purpose: Purpose,
        operation: Option<OperationId>,
        asked: BaseUnits,
    ) -> Self {
        Self {
            id,
            direction,
            purpose,
            operation,
            asked,
            acknowledged: BaseUnits::ZERO,
            seen: BaseUnits::ZERO,
            surplus: BaseUnits::ZERO,
            movements: 0,
            state: TransferState::Requested,
        }
    }

    /// Whether it has ended. A FUND that ended may still be acknowledged, for what was seen before custody spoke.
    pub const fn ended(&self) -> bool {
        matches!(self.state, TransferState::Observed | TransferState::Received | TransferState::Cancelled)
    }

    /// What is still to come: of a FUND until it is seen, of a DEFUND until custody has it.
    pub fn outstanding(&self) -> BaseUnits {
        if self.ended() {
            return BaseUnits::ZERO;
        }
        match self.direction {
            Direction::Fund => self.asked.saturating_sub(self.seen),
            Direction::Defund => self.asked.saturating_sub(self.acknowledged),
        }
    }

    /// The most that custody may acknowledge now.
    pub fn acknowledgeable(&self) -> BaseUnits {
        match (self.direction, self.state) {
            (Direction::Fund, TransferState::Requested | TransferState::Sent) => {
                self.asked.saturating_sub(self.acknowledged)
            }
            (Direction::Fund, TransferState::Observed) | (Direction::Defund, TransferState::Sent) => {
                self.seen.saturating_sub(self.acknowledged)
            }
            _ => BaseUnits::ZERO,
        }
    }

    /// The transfer after `event`, or why not.
    pub fn apply(&self, event: TransferEvent) -> Result<TransferStep, TransferRefusal> {
        let mut next = self.clone();
        let mut money = TransferMoney::default();
        match (rule(self.direction, self.state, event)?, event) {
            (Rule::Count(amount), TransferEvent::Acknowledged(_)) => {
                if amount.is_zero() {
                    return Err(TransferRefusal::Nothing);
                }
                let expected = self.acknowledgeable();
                if amount > expected {
                    return Err(TransferRefusal::MoreThanExpected { expected });
                }
                next.acknowledged = self.acknowledged.checked_add(amount)?;
                money.acknowledged = match self.direction {
                    // What was seen before it was acknowledged has left custody in the books already.
                    Direction::Fund => next.counted().saturating_sub(self.counted()),
                    Direction::Defund => amount,
                };
                next.state = next.figured();
            }
            (Rule::Count(amount), _) => {
                // A FUND beyond what was asked for is nobody's; a DEFUND left the staking address in any case.
                let credited = match self.direction {
                    Direction::Fund => amount.min(self.asked.saturating_sub(self.seen)),
                    Direction::Defund => amount,
                };
                money.surplus = amount.saturating_sub(credited);
                money.from_transit = credited.min(self.acknowledged.saturating_sub(self.seen));
                money.from_custody = credited.saturating_sub(money.from_transit);
                next.seen = self.seen.checked_add(credited)?;
                next.count_movement(money.surplus)?;
                next.state = next.figured();
            }
            (Rule::Surplus(amount), _) => {
                money.surplus = amount;
                next.count_movement(amount)?;
            }
            (Rule::Finish, _) => {
                money.returned = self.acknowledged.saturating_sub(self.seen);
                next.acknowledged = self.acknowledged.min(self.seen);
                next.state = self.end();
            }
            (Rule::Curtail, _) => {
                next.asked = self.seen;
                next.state = next.figured();
            }
            (Rule::Cancel, _) => next.state = TransferState::Cancelled,
        }
        Ok(TransferStep { transfer: next, money })
    }

    /// Of a FUND: what has left custody in the books.
    fn counted(&self) -> BaseUnits {
        self.acknowledged.max(self.seen)
    }

    const fn end(&self) -> TransferState {
        match self.direction {
            Direction::Fund => TransferState::Observed,
            Direction::Defund => TransferState::Received,
        }
    }

    /// The state that the figures say, of a transfer that something was counted for.
    fn figured(&self) -> TransferState {
        let done = match self.direction {
            Direction::Fund => self.seen >= self.asked,
            Direction::Defund => self.seen >= self.asked && self.acknowledged >= self.seen,
        };
        let moved = !self.seen.is_zero() || !self.acknowledged.is_zero();
        match (done, moved) {
            (true, _) => self.end(),
            (false, true) => TransferState::Sent,
            (false, false) => TransferState::Requested,
        }
    }

    fn count_movement(&mut self, surplus: BaseUnits) -> Result<(), TransferRefusal> {
        self.movements = self.movements.checked_add(1).ok_or(TransferRefusal::Overflow)?;
        self.surplus = self.surplus.checked_add(surplus)?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
