//! What a chain did to our addresses, as an adapter reports it once it is final.
//!
//! Every booking of tokens comes from an effect and from nothing else. An effect is booked once, by its key.

use std::fmt;

use super::amount::BaseUnits;
use super::ids::{OperationId, TransactionId, TransferId, ValidatorId};
use super::time::UnixSeconds;

/// The name of one effect on one chain: the same whether it comes from a look-up or from the list of effects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectKey {
    /// The transaction, or the chain's own name for what happens without one (an epoch's rewards, a maturity).
    pub transaction: TransactionId,
    /// The place within the transaction.
    pub index: u32,
}

/// As the log of postings names it: `transaction/index`.
impl fmt::Display for EffectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.transaction, self.index)
    }
}

/// One finalised effect on our addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Its name.
    pub key: EffectKey,
    /// The height at which it took effect.
    pub height: u64,
    /// The chain's time at that height.
    pub at: UnixSeconds,
    /// The operation of ours that caused it, where one did.
    pub operation: Option<OperationId>,
    /// What happened.
    pub kind: EffectKind,
}

/// What happened to the staking address. Amounts are what the chain moved, not what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectKind {
    /// Tokens arrived liquid; `transfer` is the memo where it names a transfer of ours.
    TransferIn { transfer: Option<TransferId>, amount: BaseUnits },
    /// Liquid tokens left for custody.
    TransferOut { transfer: Option<TransferId>, amount: BaseUnits },
    /// Liquid became delegated.
    Delegated { validator: ValidatorId, amount: BaseUnits },
    /// Delegated became unbonding.
    Undelegated { validator: ValidatorId, amount: BaseUnits, matures_at: UnixSeconds },
    /// Delegated moved between validators.
    Redelegated { from: ValidatorId, to: ValidatorId, amount: BaseUnits },
    /// Unbonding became matured: it can be withdrawn, or is about to be credited by the chain itself.
    Matured { validator: ValidatorId, amount: BaseUnits },
    /// Matured became liquid, by a withdrawal or by the chain itself.
    Withdrawn { amount: BaseUnits },
    /// A reward arrived liquid, earned over `[earned_from, earned_to)`.
    RewardPaid { validator: Option<ValidatorId>, amount: BaseUnits, earned_from: UnixSeconds, earned_to: UnixSeconds },
    /// A reward was added to the stake, earned over `[earned_from, earned_to)`.
    RewardCompounded { validator: ValidatorId, amount: BaseUnits, earned_from: UnixSeconds, earned_to: UnixSeconds },
    /// A fee was paid from liquid, whether or not the transaction did anything else.
    FeePaid { amount: BaseUnits },
    /// The chain destroyed stake of ours: of the delegation, and of unbondings that have not matured.
    Slashed { validator: ValidatorId, delegated: BaseUnits, unbonding: BaseUnits },
    /// The chain took back what the effect `slash` destroyed: so much is delegated and unbonding again.
    SlashReversed { slash: EffectKey, validator: ValidatorId, delegated: BaseUnits, unbonding: BaseUnits },
}

impl EffectKind {
    /// The amount that it moves; of a slash or its reversal, what is delegated.
    pub const fn amount_mut(&mut self) -> &mut BaseUnits {
        match self {
            Self::TransferIn { amount, .. }
            | Self::TransferOut { amount, .. }
            | Self::Delegated { amount, .. }
            | Self::Undelegated { amount, .. }
            | Self::Redelegated { amount, .. }
            | Self::Matured { amount, .. }
            | Self::Withdrawn { amount }
            | Self::RewardPaid { amount, .. }
            | Self::RewardCompounded { amount, .. }
            | Self::FeePaid { amount } => amount,
            Self::Slashed { delegated, .. } | Self::SlashReversed { delegated, .. } => delegated,
        }
    }
}
