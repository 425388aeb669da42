//! Operations, what bytes say, and transactions.

use super::{Malformed, Read, address, amount, required, some, transaction_id, transfer, validator};
use crate::chain::{Assembled, Signed, Unsigned};
use crate::domain::operation::OperationKind;
use crate::domain::signing::{Decoded, Lifetime};
use crate::domain::time::UnixSeconds;
use crate::pb::adapter::v1 as pb;
use crate::pb::chain::v1 as wire;
use crate::pb::chain::v1::operation::Kind;

/// What an operation is to do.
pub(in crate::chain::remote) fn operation(operation: wire::Operation) -> Read<OperationKind> {
    let kind = operation.kind.ok_or_else(|| Malformed::new("kind", "is missing"))?;
    Ok(match kind {
        Kind::Delegate(it) => OperationKind::Delegate {
            validator: validator("delegate.validator", &it.validator)?,
            amount: amount("delegate.amount_base_units", &it.amount_base_units)?,
        },
        Kind::Undelegate(it) => OperationKind::Undelegate {
            validator: validator("undelegate.validator", &it.validator)?,
            amount: amount("undelegate.amount_base_units", &it.amount_base_units)?,
        },
        Kind::Redelegate(it) => OperationKind::Redelegate {
            from: validator("redelegate.from", &it.from)?,
            to: validator("redelegate.to", &it.to)?,
            amount: amount("redelegate.amount_base_units", &it.amount_base_units)?,
        },
        Kind::Claim(it) => {
            let validator = it.validator.as_deref().map(|id| validator("claim.validator", id)).transpose()?;
            OperationKind::Claim { validator }
        }
        Kind::Withdraw(it) => {
            let validator = it.validator.as_deref().map(|id| validator("withdraw.validator", id)).transpose()?;
            OperationKind::Withdraw { validator }
        }
        Kind::SendToCustody(it) => OperationKind::SendToCustody {
            transfer: transfer("send_to_custody.transfer", &it.transfer)?,
            amount: amount("send_to_custody.amount_base_units", &it.amount_base_units)?,
        },
    })
}

/// The same as a message.
pub(in crate::chain::remote) fn write_operation(kind: &OperationKind) -> wire::Operation {
    let kind = match kind {
        OperationKind::Delegate { validator, amount } => {
            Kind::Delegate(wire::Delegate { validator: validator.to_string(), amount_base_units: amount.to_string() })
        }
        OperationKind::Undelegate { validator, amount } => Kind::Undelegate(wire::Undelegate {
            validator: validator.to_string(),
            amount_base_units: amount.to_string(),
        }),
        OperationKind::Redelegate { from, to, amount } => Kind::Redelegate(wire::Redelegate {
            from: from.to_string(),
            to: to.to_string(),
            amount_base_units: amount.to_string(),
        }),
        OperationKind::Claim { validator } => {
            Kind::Claim(wire::Claim { validator: validator.as_ref().map(ToString::to_string) })
        }
        OperationKind::Withdraw { validator } => {
            Kind::Withdraw(wire::Withdraw { validator: validator.as_ref().map(ToString::to_string) })
        }
        OperationKind::SendToCustody { transfer, amount } => Kind::SendToCustody(wire::SendToCustody {
            transfer: transfer.to_string(),
            amount_base_units: amount.to_string(),
        }),
    };
    wire::Operation { kind: Some(kind) }
}

fn lifetime(lifetime: wire::Lifetime) -> Lifetime {
    Lifetime {
        nonce: lifetime.nonce,
        expires_at: lifetime.expires_at_seconds.map(UnixSeconds::new),
        expires_height: lifetime.expires_height,
    }
}

fn write_lifetime(lifetime: Lifetime) -> wire::Lifetime {
    wire::Lifetime {
        nonce: lifetime.nonce,
        expires_at_seconds: lifetime.expires_at.map(UnixSeconds::get),
        expires_height: lifetime.expires_height,
    }
}

/// What bytes say.
pub(in crate::chain::remote) fn contents(contents: wire::Contents) -> Read<Decoded> {
    Ok(Decoded {
        intent: required("operation", contents.operation, operation)?,
        sender: address("sender", contents.sender)?,
        recipient: contents.recipient.map(|recipient| address("recipient", recipient)).transpose()?,
        max_fee: amount("max_fee_base_units", &contents.max_fee_base_units)?,
        lifetime: required("lifetime", contents.lifetime, |it| Ok(lifetime(it)))?,
    })
}

/// The same as a message.
pub(in crate::chain) fn write_contents(says: &Decoded) -> wire::Contents {
    wire::Contents {
        operation: Some(write_operation(&says.intent)),
        sender: says.sender.clone(),
        recipient: says.recipient.clone(),
        max_fee_base_units: says.max_fee.to_string(),
        lifetime: Some(write_lifetime(says.lifetime)),
    }
}

/// A transaction before it is signed, of its bytes and what they say.
pub(in crate::chain::remote) fn unsigned(bytes: Vec<u8>, says: Option<wire::Contents>) -> Read<Unsigned> {
    Ok(Unsigned { bytes: some("sign_bytes", bytes)?, says: required("contents", says, contents)? })
}

/// A signed transaction.
pub(in crate::chain::remote) fn signed(transaction: Option<pb::Transaction>) -> Read<Signed> {
    required("transaction", transaction, |it| {
        Ok(Signed {
            bytes: some("signed_bytes", it.signed_bytes)?,
            transaction: transaction_id("id", &it.id)?,
            lifetime: required("lifetime", it.lifetime, |it| Ok(lifetime(it)))?,
        })
    })
}

/// The same as a message.
pub(in crate::chain::remote) fn write_signed(signed: &Signed) -> pb::Transaction {
    pb::Transaction {
        signed_bytes: signed.bytes.clone(),
        id: signed.transaction.to_string(),
        lifetime: Some(write_lifetime(signed.lifetime)),
    }
}

/// What an adapter made of unsigned bytes and a signature.
pub(in crate::chain::remote) fn assembled(answer: pb::AssembleResponse) -> Read<Assembled> {
    let signed = signed(answer.transaction)?;
    let says = required("contents", answer.contents, contents)?;
    if signed.lifetime != says.lifetime {
        return Err(Malformed::new("transaction.lifetime", "is another than that of the contents"));
    }
    Ok(Assembled { signed, says })
}
