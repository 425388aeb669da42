//! Who asks for a change: named in the audit log beside what was changed, and compared where a second person is needed.

use super::ids::Principal;

/// The name of the service itself, for what it does on its own schedule and from its configuration.
const SERVICE: &str = "softstake";

/// The name of everyone where plain text is served on loopback without an identity file.
const LOCAL: &str = "local";

/// The name that stands for everyone who has not shown who it is. No call of theirs goes on.
const UNKNOWN: &str = "unknown";

/// What the name of a user of the machine begins with: no principal of the identity file may.
pub const HOST: &str = "host:";

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// From where, as the transport saw it; empty for the service itself.
    pub peer: Box<str>,
}

impl Caller {
    /// The service itself.
    pub fn service() -> Self {
        Self { principal: Principal::fixed(SERVICE), peer: "".into() }
    }

    /// Whoever reaches the loopback address of a service that asks nobody for credentials.
    pub fn local(peer: &str) -> Self {
        Self { principal: Principal::fixed(LOCAL), peer: peer.into() }
    }

    /// Whether it is everyone who reaches that address: one of them can't be told from another.
    pub fn is_local(&self) -> bool {
        self.principal.as_str() == LOCAL
    }

    /// A user of the machine, who did something there with a command: `host:` and the user's name, or number where that is
    /// no name of ours.
    pub fn host(user: &str, uid: u32, peer: &str) -> Self {
        let named = Principal::new(&format!("{HOST}{user}"));
        let principal = named.or_else(|_| Principal::new(&format!("{HOST}{uid}")));
        Self { principal: principal.unwrap_or_else(|_| Principal::fixed(UNKNOWN)), peer: peer.into() }
    }

    /// One that has not shown who it is, for the record of its refusal.
    pub fn unknown(peer: &str) -> Self {
        Self { principal: Principal::fixed(UNKNOWN), peer: peer.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_names_are_valid_names() {
        assert_eq!(Caller::host("maria", 1_000, "").principal.as_str(), "host:maria");
        for unfit in ["", "a b", &"x".repeat(200)] {
            let expected = if unfit.is_empty() { "host:" } else { "host:1000" };
            assert_eq!(Caller::host(unfit, 1_000, "").principal.as_str(), expected);
        }
        for fixed in [Caller::service(), Caller::local("127.0.0.1:9"), Caller::unknown("127.0.0.1:9")] {
            assert_eq!(Principal::new(fixed.principal.as_str()), Ok(fixed.principal));
        }
    }
}
