//! Names of things, each checked when it is made, so that a name in hand is a valid name.

use std::fmt;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {rule}")]
pub struct IdError {
    /// Which kind of name.
    pub what: &'static str,
    /// What it has to be.
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $max:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The most bytes that such a name may have.
            pub const MAX_BYTES: usize = $max;

            /// Checks `text` and takes it as a name.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $allowed;
                // Every byte is looked at, without a way out between them, so that many are at once.
                if text.is_empty() || text.len() > $max || !text.bytes().fold(true, |all, byte| all & allowed(byte)) {
                    return Err(IdError { what: $what, rule: $rule });
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A customer, by the ledger service's opaque id.
    AccountId, "an account id", "1 to 64 bytes of printable ASCII", 64, |b| (0x21..=0x7e).contains(&b)
);
id!(
    /// A token, such as `ATOM`.
    AssetId, "an asset", "1 to 16 upper-case letters or digits", 16,
    |b| b.is_ascii_uppercase() || b.is_ascii_digit()
);
id!(
    /// A pool, such as `atom`: the last part of its resource name.
    PoolId, "a pool id", "1 to 32 lower-case letters, digits or hyphens", 32,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
id!(
    /// A chain, such as `cosmoshub-4`.
    ChainId, "a chain id", "1 to 64 letters, digits, hyphens, dots or underscores", 64,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
);
id!(
    /// A producer of balance events.
    SourceId, "a source", "1 to 64 letters, digits, hyphens, dots or underscores", 64,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
);
id!(
    /// Whoever may call: a person or a service, by the name that its credentials stand for.
    Principal, "a principal", "1 to 128 bytes of printable ASCII", 128, |b| (0x21..=0x7e).contains(&b)
);
impl Principal {
    /// A name of our own, which a test holds against the rule.
    pub(super) fn fixed(name: &'static str) -> Self {
        Self(name.into())
    }
}

id!(
    /// A validator, by its address on the chain.
    ValidatorId, "a validator", "1 to 128 letters, digits, hyphens, dots, colons or underscores", 128,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':')
);
id!(
    /// A group of validators that one operator runs.
    OperatorGroup, "an operator group", "1 to 64 letters, digits, hyphens, dots or underscores", 64,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
);
id!(
    /// One thing done on a chain, by the id that the chain can be asked for.
    OperationId, "an operation id", "1 to 200 letters, digits, hyphens, dots, colons or underscores", 200,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':')
);
id!(
    /// A transfer between custody and the staking address.
    TransferId, "a transfer id", "1 to 64 letters, digits, hyphens, dots or underscores", 64,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
);
id!(
    /// A caller's id of one mutation; the same id with the same body returns the first answer.
    RequestId, "a request id", "1 to 128 bytes of printable ASCII", 128, |b| (0x21..=0x7e).contains(&b)
);
id!(
    /// A transaction on a chain, as the chain writes its hash.
    TransactionId, "a transaction id", "1 to 128 letters, digits, hyphens, dots, colons or underscores", 128,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':')
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_when_made() {
        assert!(AccountId::new("user-1:spot/main").is_ok());
        for bad in ["", "with space", "tab\t", "é", &"x".repeat(65)] {
            assert!(AccountId::new(bad).is_err(), "{bad:?}");
        }
        assert!(AccountId::new(&"x".repeat(64)).is_ok());
        assert!(AssetId::new("atom").is_err());
        assert!(PoolId::new("pools/atom").is_err());
    }
}
