//! Why entries are made: the effect, the step or the word that each books. The names are stored and shown.

use crate::domain::effect::EffectKey;
use crate::domain::ids::{OperationId, TransferId, ValidatorId};

/// One distribution's revision: the period's index and the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionRef {
    /// The period's index in its pool.
    pub period: u64,
    /// The revision, from 1.
    pub revision: u32,
}

/// What kind of effect an entry books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectName {
    /// Tokens arrived at the staking address.
    TransferIn,
    /// Tokens left for custody.
    TransferOut,
    /// Liquid became delegated.
    Delegated,
    /// Delegated became unbonding.
    Undelegated,
    /// Delegated moved.
    Redelegated,
    /// Unbonding matured.
    Matured,
    /// Matured became liquid.
    Withdrawn,
    /// A reward arrived liquid.
    RewardPaid,
    /// A reward was added to the stake.
    RewardCompounded,
    /// A fee was paid.
    FeePaid,
    /// Stake was destroyed.
    Slashed,
    /// Destroyed stake came back.
    SlashReversed,
}

/// Why an entry was made. The names are stored and shown: they don't change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An operation was planned and reserves its tokens.
    OperationPlanned(OperationId),
    /// An operation ended and gives back what it did not use.
    OperationReleased(OperationId),
    /// The chain did something.
    Effect(EffectName, EffectKey),
    /// Custody says that it has sent a FUND.
    FundSent(TransferId),
    /// Custody says that a FUND ended, and has back what it sent and the chain has not shown.
    FundReturned(TransferId),
    /// Custody says that it has received a DEFUND.
    DefundReceived(TransferId),
    /// A distribution took its receipts and carry.
    DistributionComputed(RevisionRef),
    /// A distribution was released.
    DistributionReleased(RevisionRef),
    /// A distribution was voided.
    DistributionVoided(RevisionRef),
    /// The ledger service credited payouts.
    PayoutsAcknowledged(RevisionRef),
    /// The ledger service rejected payouts.
    PayoutsRejected(RevisionRef),
    /// Rejected payouts became payable to a named successor.
    UnclaimedReassigned(RevisionRef),
    /// Reconciliation found more on chain than the ledger had, first at this height.
    UnexplainedIncrease(u64),
    /// Reconciliation found less on chain than the ledger had, first at this height: booked as a slash.
    UnexplainedDrop(u64, ValidatorId),
    /// A person accepted what reconciliation found apart, first at this height.
    DifferencesAccepted(u64),
    /// A reward was recorded by evidence, out of suspense.
    ReceiptRecorded(EffectKey),
    /// Reconciliation at this height found a drop within the rounding of the operations that took effect there.
    Rounding(u64, ValidatorId),
}

impl Reason {
    /// The stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OperationPlanned(_) => "operation_planned",
            Self::OperationReleased(_) => "operation_released",
            Self::Effect(name, _) => match name {
                EffectName::TransferIn => "transfer_in",
                EffectName::TransferOut => "transfer_out",
                EffectName::Delegated => "delegated",
                EffectName::Undelegated => "undelegated",
                EffectName::Redelegated => "redelegated",
                EffectName::Matured => "matured",
                EffectName::Withdrawn => "withdrawn",
                EffectName::RewardPaid => "reward_paid",
                EffectName::RewardCompounded => "reward_compounded",
                EffectName::FeePaid => "fee_paid",
                EffectName::Slashed => "slashed",
                EffectName::SlashReversed => "slash_reversed",
            },
            Self::FundSent(_) => "fund_sent",
            Self::FundReturned(_) => "fund_returned",
            Self::DefundReceived(_) => "defund_received",
            Self::DistributionComputed(_) => "distribution_computed",
            Self::DistributionReleased(_) => "distribution_released",
            Self::DistributionVoided(_) => "distribution_voided",
            Self::PayoutsAcknowledged(_) => "payouts_acknowledged",
            Self::PayoutsRejected(_) => "payouts_rejected",
            Self::UnclaimedReassigned(_) => "unclaimed_reassigned",
            Self::UnexplainedIncrease(_) => "unexplained_increase",
            Self::UnexplainedDrop(..) => "unexplained_drop",
            Self::DifferencesAccepted(_) => "differences_accepted",
            Self::ReceiptRecorded(_) => "receipt_recorded",
            Self::Rounding(..) => "rounding",
        }
    }

    /// What the entry is about, for the posting log: an operation, a transaction and index, a transfer, a revision.
    pub fn subject(&self) -> String {
        match self {
            Self::OperationPlanned(id) | Self::OperationReleased(id) => id.to_string(),
            Self::Effect(_, key) | Self::ReceiptRecorded(key) => key.to_string(),
            Self::FundSent(id) | Self::FundReturned(id) | Self::DefundReceived(id) => id.to_string(),
            Self::DistributionComputed(revision)
            | Self::DistributionReleased(revision)
            | Self::DistributionVoided(revision)
            | Self::PayoutsAcknowledged(revision)
            | Self::PayoutsRejected(revision)
            | Self::UnclaimedReassigned(revision) => format!("{}/{}", revision.period, revision.revision),
            Self::UnexplainedIncrease(height) | Self::DifferencesAccepted(height) => height.to_string(),
            Self::UnexplainedDrop(height, validator) | Self::Rounding(height, validator) => {
                format!("{height}/{validator}")
            }
        }
    }
}
