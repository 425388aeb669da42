//! Operations: one thing done on a chain. Their kinds, their states, and the table of (state, event).

use super::amount::BaseUnits;
use super::ids::{TransferId, ValidatorId};

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
