//! What may be signed: what the bytes of a transaction say, held against the operation that they are for.
//!
//! Asked twice for each transaction: of the bytes before they are signed, and of the assembled transaction before it is
//! stored. A breach means that an adapter, a node or a signer does something else than it was asked to.

use std::fmt;

use super::amount::BaseUnits;
use super::operation::OperationKind;
use super::time::UnixSeconds;

/// What ends the life of a transaction's bytes: past it they can never be included. A chain has one of them at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// The nonce or sequence that they consume, where the chain has one: dead once another transaction has consumed it.
    pub nonce: Option<u64>,
    /// The last chain time at which they can be included.
    pub expires_at: Option<UnixSeconds>,
    /// The last height at which they can be included.
    pub expires_height: Option<u64>,
}

/// What the bytes of a transaction say, decoded from the bytes and from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The one thing that they do.
    pub intent: OperationKind,
    /// Whose tokens and stake they move, and who pays the fee.
    pub sender: String,
    /// Where tokens go that leave for custody; `None` where none leave.
    pub recipient: Option<String>,
    /// The most that they can cost, in base units.
    pub max_fee: BaseUnits,
    /// How long they live.
    pub lifetime: Lifetime,
}

/// What every transaction of a pool keeps to, whatever it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningBounds<'a> {
    /// The one sender.
    pub staking_address: &'a str,
    /// The one recipient of what leaves.
    pub custody_address: &'a str,
    /// The most that a transaction may cost, in base units.
    pub max_fee: BaseUnits,
}

/// What is wrong with a transaction. None of its bytes may be signed, stored or sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningBreach {
    /// It does something else.
    #[error("asked for {}, its bytes say {}", Shown(asked), Shown(says))]
    Intent {
        /// What was asked for.
        asked: Box<OperationKind>,
        /// What the bytes say.
        says: Box<OperationKind>,
    },
    /// It is somebody else's.
    #[error("its sender is {says}, and not the staking address {expected}")]
    Sender {
        /// Whose it is.
        says: String,
        /// Whose it has to be.
        expected: String,
    },
    /// Tokens would leave for another address than custody's, or leave at all where nothing is to.
    #[error("its recipient is {}, and not {}", says.as_deref().unwrap_or("nobody"), expected.as_deref().unwrap_or("nobody"))]
    Recipient {
        /// Who would get them.
        says: Option<String>,
        /// Who may.
        expected: Option<String>,
    },
    /// It may cost too much.
    #[error("it may cost {says} base units, and {most} is the most")]
    Fee {
        /// What it may cost.
        says: BaseUnits,
        /// The most.
        most: BaseUnits,
    },
    /// Nothing ends its life, so that it could be included for ever and never be replaced.
    #[error("neither a nonce nor an expiry ends its life")]
    Immortal,
    /// What was signed is not what was to be signed.
    #[error("signed, it says something else than before: {after:?} instead of {before:?}")]
    Changed {
        /// What the unsigned bytes said.
        before: Box<Decoded>,
        /// What the signed bytes say.
        after: Box<Decoded>,
    },
}

/// An operation's kind for people.
struct Shown<'a>(&'a OperationKind);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            OperationKind::Delegate { validator, amount } => write!(f, "delegate {amount} to {validator}"),
            OperationKind::Undelegate { validator, amount } => write!(f, "undelegate {amount} from {validator}"),
            OperationKind::Redelegate { from, to, amount } => write!(f, "redelegate {amount} from {from} to {to}"),
            OperationKind::Claim { validator: Some(validator) } => write!(f, "claim from {validator}"),
            OperationKind::Claim { validator: None } => write!(f, "claim all"),
            OperationKind::Withdraw { validator: Some(validator) } => write!(f, "withdraw from {validator}"),
            OperationKind::Withdraw { validator: None } => write!(f, "withdraw all"),
            OperationKind::SendToCustody { transfer, amount } => write!(f, "send {amount} for transfer {transfer}"),
        }
    }
}

/// Whether a transaction that says `says` is what `asked` wants, within `bounds`.
pub fn check_unsigned(asked: &OperationKind, says: &Decoded, bounds: &SigningBounds<'_>) -> Result<(), SigningBreach> {
    if says.intent != *asked {
        let (asked, says) = (Box::new(asked.clone()), Box::new(says.intent.clone()));
        return Err(SigningBreach::Intent { asked, says });
    }
    if says.sender != bounds.staking_address {
        let (says, expected) = (says.sender.clone(), bounds.staking_address.to_owned());
        return Err(SigningBreach::Sender { says, expected });
    }
    let leaves = matches!(asked, OperationKind::SendToCustody { .. });
    let expected = leaves.then_some(bounds.custody_address);
    if says.recipient.as_deref() != expected {
        return Err(SigningBreach::Recipient { says: says.recipient.clone(), expected: expected.map(str::to_owned) });
    }
    if says.max_fee > bounds.max_fee {
        return Err(SigningBreach::Fee { says: says.max_fee, most: bounds.max_fee });
    }
    if says.lifetime == Lifetime::default() {
        return Err(SigningBreach::Immortal);
    }
    Ok(())
}

/// Whether a transaction still says, signed, what it said before.
pub fn check_signed(before: &Decoded, after: &Decoded) -> Result<(), SigningBreach> {
    if before == after {
        return Ok(());
    }
    Err(SigningBreach::Changed { before: Box::new(before.clone()), after: Box::new(after.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{TransferId, ValidatorId};

    fn units(units: u128) -> BaseUnits {
        BaseUnits::new(units).unwrap()
    }

    fn validator(name: &str) -> ValidatorId {
        ValidatorId::new(name).unwrap()
    }

    fn delegate(to: &str, amount: u128) -> OperationKind {
        OperationKind::Delegate { validator: validator(to), amount: units(amount) }
    }

    fn says(intent: OperationKind) -> Decoded {
        let lifetime = Lifetime { nonce: Some(0), ..Lifetime::default() };
        Decoded { intent, sender: "stake".to_owned(), recipient: None, max_fee: units(10), lifetime }
    }

    fn bounds() -> SigningBounds<'static> {
        SigningBounds { staking_address: "stake", custody_address: "custody", max_fee: units(10) }
    }

    fn breach(asked: &OperationKind, says: &Decoded) -> String {
        check_unsigned(asked, says, &bounds()).unwrap_err().to_string()
    }

    #[test]
    fn what_was_asked_for_may_be_signed() {
        let send = OperationKind::SendToCustody { transfer: TransferId::new("t1").unwrap(), amount: units(5) };
        let sends = Decoded { recipient: Some("custody".to_owned()), ..says(send.clone()) };
        assert_eq!(check_unsigned(&send, &sends, &bounds()), Ok(()));
        let asked = delegate("v1", 5);
        assert_eq!(check_unsigned(&asked, &says(asked.clone()), &bounds()), Ok(()));
        assert_eq!(check_signed(&sends, &sends), Ok(()));
    }

    #[test]
    fn anything_else_is_a_breach() {
        let asked = delegate("v1", 5);
        assert_eq!(
            breach(&asked, &says(delegate("v2", 5))),
            "asked for delegate 5 to v1, its bytes say delegate 5 to v2"
        );
        assert_eq!(
            breach(&asked, &says(delegate("v1", 6))),
            "asked for delegate 5 to v1, its bytes say delegate 6 to v1"
        );
        let from = Decoded { sender: "thief".to_owned(), ..says(asked.clone()) };
        assert_eq!(breach(&asked, &from), "its sender is thief, and not the staking address stake");
        let leaks = Decoded { recipient: Some("custody".to_owned()), ..says(asked.clone()) };
        assert_eq!(breach(&asked, &leaks), "its recipient is custody, and not nobody");
        let dear = Decoded { max_fee: units(11), ..says(asked.clone()) };
        assert_eq!(breach(&asked, &dear), "it may cost 11 base units, and 10 is the most");
        let immortal = Decoded { lifetime: Lifetime::default(), ..says(asked.clone()) };
        assert_eq!(breach(&asked, &immortal), "neither a nonce nor an expiry ends its life");
        let send = OperationKind::SendToCustody { transfer: TransferId::new("t1").unwrap(), amount: units(5) };
        assert_eq!(breach(&send, &says(send.clone())), "its recipient is nobody, and not custody");
        let elsewhere = Decoded { recipient: Some("thief".to_owned()), ..says(send.clone()) };
        assert_eq!(breach(&send, &elsewhere), "its recipient is thief, and not custody");
    }

    #[test]
    fn a_signed_transaction_says_what_it_said_before() {
        let before = says(delegate("v1", 5));
        let longer = Lifetime { nonce: Some(1), ..Lifetime::default() };
        let after = Decoded { lifetime: longer, ..before.clone() };
        assert!(check_signed(&before, &after).is_err_and(|breach| breach.to_string().contains("nonce: Some(1)")));
    }
}
