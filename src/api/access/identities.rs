//! The identity file: who there is, which roles each has, and by which certificates and tokens each is known.
//!
//! The file holds no secret: of a token it has the SHA-256. It is read again while the service runs, so what is taken
//! out of it is refused from the next call on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::table::Role;
use crate::domain::caller::{Caller, HOST};
use crate::domain::ids::{Principal, SourceId};
use crate::domain::time::UnixSeconds;

/// The most principals, and the most tokens of all of them together.
const MAX_ENTRIES: usize = 10_000;

/// A SHA-256.
pub type Hash = [u8; 32];

/// Why an identity file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(String);

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    revoked_certificates: Vec<String>,
    principals: Vec<RawPrincipal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrincipal {
    name: String,
    roles: Vec<String>,
    #[serde(default)]
    sans: Vec<String>,
    certificates: Option<Vec<String>>,
    #[serde(default)]
    tokens: Vec<RawToken>,
    sources: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    sha256: String,
    expires: String,
}

/// One that may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub principal: Principal,
    /// What it may do.
    pub roles: Vec<Role>,
    /// The certificates that it may show; `None` is each with a name of its own that an issuer has signed. A list that has
    /// become empty is none: its last fingerprint was taken out.
    certificates: Option<BTreeSet<Hash>>,
    /// The sources that it may feed; `None` is every one.
    pub sources: Option<Arc<BTreeSet<SourceId>>>,
}

/// A token of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    hash: Hash,
    expires: UnixSeconds,
    /// Its place among the principals.
    owner: u32,
}

/// By what tokens are looked up.
fn beginning(hash: &Hash) -> &[u8] {
    hash.get(..8).unwrap_or_default()
}

impl Token {
    fn beginning(&self) -> &[u8] {
        beginning(&self.hash)
    }
}

/// Why a credential that was shown is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody is known by it.
    Unknown,
    /// It was a token of this principal, until then.
    Expired(Principal, UnixSeconds),
    /// Its names are those of several principals.
    Ambiguous,
    /// It stands among the revoked ones.
    Revoked,
    /// This principal is known by other certificates.
    NotItsOwn(Principal),
}

/// Everyone who may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    known: Vec<Known>,
    by_san: BTreeMap<String, u32>,
    /// By the beginning of their hashes.
    tokens: Vec<Token>,
    revoked: BTreeSet<Hash>,
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// A SHA-256 from 64 hexadecimal digits, with or without the colons that openssl puts between them.
fn hash(text: &str) -> Option<Hash> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// What is wrong with the form of a file, by its place. The line is not shown, nor a value of it: hashes stand there, and
/// by mistake a token may.
fn misread(text: &str, error: &toml::de::Error) -> IdentityError {
    let told = error.message();
    let of_a_value = ["invalid type: ", "invalid value: "].iter().any(|kind| told.starts_with(kind));
    let told = match told.rsplit_once(", expected ") {
        Some((_, expected)) if of_a_value => format!("expected {expected}"),
        _ => told.to_owned(),
    };
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return IdentityError(told) };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    IdentityError(format!("line {line}, column {column}: {told}"))
}

impl Identities {
    /// Reads an identity file. The message of an error names the entry and says what to do.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let raw: RawFile = toml::from_str(text).map_err(|error| misread(text, &error))?;
        let mut all = Self::default();
        // Told by its place alone: what stands there instead may be the token itself.
        let no_hash = |what: &str, at: usize| {
            IdentityError(format!("{what} {} is no SHA-256; write its 64 hexadecimal digits", at + 1))
        };
        for (at, given) in raw.revoked_certificates.iter().enumerate() {
            let revoked = hash(given).ok_or_else(|| no_hash("revoked_certificates: fingerprint", at))?;
            all.revoked.insert(revoked);
        }
        let mut hashes = BTreeSet::new();
        for raw in raw.principals {
            let owner = u32::try_from(all.known.len()).unwrap_or(u32::MAX);
            let name = raw.name.as_str();
            let principal = Principal::new(name)
                .map_err(|error| IdentityError(format!("the principal `{name}` can't be called so: {error}")))?;
            let own = [Caller::service(), Caller::local(""), Caller::unknown("")];
            if name.starts_with(HOST) || own.iter().any(|taken| taken.principal == principal) {
                return Err(IdentityError(format!("`{name}` is a name of the service's own; choose another")));
            }
            if all.known.iter().any(|known| known.principal == principal) {
                return Err(IdentityError(format!("the principal `{name}` stands there twice; remove one")));
            }
            let mut roles = BTreeSet::new();
            for role in &raw.roles {
                let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
                let unknown = || format!("`{name}`: there is no role `{role}`; the roles are {}", names.join(", "));
                roles.insert(Role::named(role).ok_or_else(|| IdentityError(unknown()))?);
            }
            for san in raw.sans {
                let form =
                    ["URI:", "DNS:", "email:"].iter().any(|kind| san.len() > kind.len() && san.starts_with(kind));
                if !form {
                    let problem = "is no name of a certificate; write it as URI:..., DNS:... or email:...";
                    return Err(IdentityError(format!("`{name}`: `{san}` {problem}")));
                }
                if let Some(other) = all.by_san.insert(san.clone(), owner) {
                    let other = all.known.get(other as usize).map_or(name, |other| other.principal.as_str());
                    return Err(IdentityError(format!(
                        "`{san}` names `{other}` and `{name}`; a name has one principal"
                    )));
                }
            }
            if raw.sources.is_some() && !roles.contains(&Role::Ledger) {
                let problem = "feeds nothing without the role `ledger`; give it that, or remove its sources";
                return Err(IdentityError(format!("`{name}` {problem}")));
            }
            let source = |id: &String| {
                let wrong = |error| IdentityError(format!("`{name}`: the source `{id}` can't be called so: {error}"));
                SourceId::new(id).map_err(wrong)
            };
            let sources = raw.sources.as_ref().map(|sources| sources.iter().map(source).collect::<Result<_, _>>());
            let sources = sources.transpose()?.map(Arc::new);
            let mut certificates = raw.certificates.as_ref().map(|_| BTreeSet::new());
            for (at, given) in raw.certificates.iter().flatten().enumerate() {
                let own = hash(given).ok_or_else(|| no_hash(&format!("`{name}`: fingerprint"), at))?;
                certificates.get_or_insert_default().insert(own);
            }
            for (at, token) in raw.tokens.iter().enumerate() {
                let hash = hash(&token.sha256).ok_or_else(|| no_hash(&format!("`{name}`: the hash of token"), at))?;
                let expires = token.expires.parse::<jiff::Timestamp>().map_err(|_| {
                    let problem = "has an end that is not a time; write it as 2027-01-31T00:00:00Z";
                    IdentityError(format!("`{name}`: token {} {problem}", at + 1))
                })?;
                if !hashes.insert(hash) {
                    return Err(IdentityError(format!("`{name}`: a token stands there twice; a token has one owner")));
                }
                all.tokens.push(Token { hash, expires: UnixSeconds::new(expires.as_second()), owner });
            }
            all.known.push(Known { principal, roles: roles.into_iter().collect(), certificates, sources });
        }
        if all.known.is_empty() {
            return Err(IdentityError("there is no principal, so that nobody could call; add a [[principals]]".into()));
        }
        if all.known.len().max(all.tokens.len()) > MAX_ENTRIES {
            return Err(IdentityError(format!("more than {MAX_ENTRIES} principals or tokens; remove some")));
        }
        all.tokens.sort_unstable_by_key(|token| token.hash);
        Ok(all)
    }

    /// Whose token this is, and when it ends. Tokens are looked up by the beginning of their hashes, so that many of them slow
    /// no call down. The time that takes tells of hashes at most, which nobody turns back into a token; those that begin so
    /// are compared whole, in a time that tells nothing.
    pub fn by_token(&self, token: &[u8], now: UnixSeconds) -> Result<(&Known, UnixSeconds), Refused> {
        let shown = sha256(token);
        let first = self.tokens.partition_point(|one| one.beginning() < beginning(&shown));
        let alike = self.tokens.iter().skip(first).take_while(|one| one.beginning() == beginning(&shown));
        let found = alike.filter(|one| one.hash.ct_eq(&shown).into()).last().ok_or(Refused::Unknown)?;
        let known = self.known.get(found.owner as usize).ok_or(Refused::Unknown)?;
        if found.expires <= now {
            return Err(Refused::Expired(known.principal.clone(), found.expires));
        }
        Ok((known, found.expires))
    }

    /// Whether the certificate with this fingerprint is refused whoever it names.
    pub fn is_revoked(&self, fingerprint: &Hash) -> bool {
        self.revoked.contains(fingerprint)
    }

    /// Whose certificate this is, by its names in the form `URI:…`, `DNS:…` or `email:…`. Its issuer is checked elsewhere.
    pub fn by_certificate(&self, names: &[String], fingerprint: &Hash) -> Result<&Known, Refused> {
        if self.is_revoked(fingerprint) {
            return Err(Refused::Revoked);
        }
        let owners: BTreeSet<u32> = names.iter().filter_map(|name| self.by_san.get(name).copied()).collect();
        let owner = match owners.len() {
            0 => return Err(Refused::Unknown),
            1 => owners.first().copied().unwrap_or(u32::MAX),
            _ => return Err(Refused::Ambiguous),
        };
        let known = self.known.get(owner as usize).ok_or(Refused::Unknown)?;
        if known.certificates.as_ref().is_some_and(|own| !own.contains(fingerprint)) {
            return Err(Refused::NotItsOwn(known.principal.clone()));
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

    fn hex(bytes: &[u8]) -> String {
        HEXLOWER_PERMISSIVE.encode(bytes)
    }

    fn file() -> String {
        let (good, old, own) = (hex(&sha256(b"good")), hex(&sha256(b"old")), hex(&[1; 32]));
        format!(
            r#"
revoked_certificates = ["{revoked}"]
[[principals]]
name = "ledger-1"
roles = ["ledger", "reader"]
sans = ["URI:softstake://ledger-1", "DNS:ledger.internal"]
[[principals.tokens]]
sha256 = "{good}"
expires = "2027-01-31T00:00:00Z"
[[principals.tokens]]
sha256 = "{old}"
expires = "2026-01-31T00:00:00Z"
[[principals]]
name = "maria"
roles = ["operator"]
sans = ["email:maria@exchange.example"]
certificates = ["{own}"]
"#,
            revoked = ["AB"; 32].join(":")
        )
    }

    #[test]
    fn a_token_is_known_by_its_hash_until_it_expires() {
        let all = Identities::parse(&file()).unwrap();
        let (known, until) = all.by_token(b"good", NOW).unwrap();
        assert_eq!(until, UnixSeconds::new(1_801_353_600));
        assert_eq!((known.principal.as_str(), known.roles.as_slice()), ("ledger-1", &[Role::Ledger, Role::Reader][..]));
        let expired = all.by_token(b"old", NOW).unwrap_err();
        assert!(matches!(expired, Refused::Expired(name, _) if name.as_str() == "ledger-1"));
        let last = UnixSeconds::new(1_801_353_600);
        assert!(all.by_token(b"good", UnixSeconds::new(last.get() - 1)).is_ok());
        assert!(all.by_token(b"good", last).is_err(), "it ends at the moment itself");
        for wrong in [&b"bad"[..], b"", b"goo", b"good "] {
            assert_eq!(all.by_token(wrong, NOW), Err(Refused::Unknown));
        }
    }

    #[test]
    fn each_of_many_tokens_is_found_whatever_its_hash_begins_with() {
        let token = |n: usize| format!("token-{n}");
        let mut file = "[[principals]]\nname = \"ledger\"\nroles = [\"ledger\"]\ntokens = [\n".to_owned();
        for n in 0..1_000 {
            let hash = hex(&sha256(token(n).as_bytes()));
            file.push_str(&format!("    {{ sha256 = \"{hash}\", expires = \"2027-01-31T00:00:00Z\" }},\n"));
        }
        let mut all = Identities::parse(&format!("{file}]")).unwrap();
        assert!((0..1_000).all(|n| all.by_token(token(n).as_bytes(), NOW).is_ok()));
        assert_eq!(all.by_token(token(1_000).as_bytes(), NOW), Err(Refused::Unknown));
        // Another one whose hash begins alike is another one.
        all.tokens.iter_mut().for_each(|one| one.hash[31] ^= 1);
        assert!((0..1_000).all(|n| all.by_token(token(n).as_bytes(), NOW) == Err(Refused::Unknown)));
    }

    #[test]
    fn a_certificate_is_known_by_its_names_and_fingerprints() {
        let all = Identities::parse(&file()).unwrap();
        let by = |names: &[&str], fingerprint: u8| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            all.by_certificate(&names, &[fingerprint; 32]).map(|known| known.principal.to_string())
        };
        assert_eq!(by(&["DNS:other", "URI:softstake://ledger-1"], 9), Ok("ledger-1".to_owned()));
        assert_eq!(by(&["URI:softstake://ledger-1", "DNS:ledger.internal"], 9), Ok("ledger-1".to_owned()));
        assert_eq!(by(&["URI:ledger.internal"], 9), Err(Refused::Unknown), "the kind of a name belongs to it");
        assert_eq!(by(&[], 9), Err(Refused::Unknown));
        assert_eq!(by(&["DNS:ledger.internal", "email:maria@exchange.example"], 1), Err(Refused::Ambiguous));
        assert_eq!(by(&["DNS:ledger.internal"], 0xab), Err(Refused::Revoked));
        assert_eq!(by(&["email:maria@exchange.example"], 1), Ok("maria".to_owned()));
        let other = by(&["email:maria@exchange.example"], 2).unwrap_err();
        assert!(matches!(other, Refused::NotItsOwn(name) if name.as_str() == "maria"));
    }

    #[test]
    fn whose_last_fingerprint_is_taken_out_has_no_certificate_left() {
        let emptied = file().replace(&format!("certificates = [\"{}\"]", hex(&[1; 32])), "certificates = []");
        let refused = Identities::parse(&emptied).unwrap();
        let refused = refused.by_certificate(&["email:maria@exchange.example".to_owned()], &[1; 32]);
        assert!(matches!(refused, Err(Refused::NotItsOwn(name)) if name.as_str() == "maria"));
    }

    #[test]
    fn a_file_that_can_not_be_kept_says_what_to_do() {
        let with = |from: &str, to: &str| Identities::parse(&file().replace(from, to)).unwrap_err().to_string();
        for (from, to, told) in [
            ("\"ledger-1\"", "\"maria\"", "`maria` stands there twice"),
            ("\"ledger-1\"", "\"local\"", "a name of the service's own"),
            ("\"ledger-1\"", "\"host:maria\"", "a name of the service's own"),
            ("\"ledger-1\"", "\"\"", "can't be called so"),
            ("\"reader\"", "\"root\"", "no role `root`; the roles are ledger, custody"),
            ("DNS:ledger", "IP:ledger", "URI:..., DNS:... or email:..."),
            ("email:maria@exchange.example", "DNS:ledger.internal", "names `ledger-1` and `maria`"),
            ("2027-01-31T00:00:00Z", "soon", "write it as 2027-01-31T00:00:00Z"),
            (&hex(&sha256(b"old")), &hex(&sha256(b"good")), "a token has one owner"),
            (&hex(&sha256(b"old")), "secret-in-clear", "`ledger-1`: the hash of token 2 is no SHA-256"),
            ("AB:AB", "AB", "fingerprint 1 is no SHA-256"),
            ("sans", "san", "unknown field `san`"),
            ("roles = [\"operator\"]", "roles = [\"operator\"]\nsources = [\"spot\"]", "`maria` feeds nothing without"),
            (
                "roles = [\"ledger\"",
                "sources = [\"sources/spot\"]\nroles = [\"ledger\"",
                "the source `sources/spot` can't",
            ),
        ] {
            let problem = with(from, to);
            assert!(problem.contains(told), "{to}: {problem}");
        }
        assert!(Identities::parse("principals = []").unwrap_err().to_string().contains("nobody could call"));
        assert!(Identities::parse("").is_err());
    }

    #[test]
    fn what_stands_in_the_file_is_not_told_with_what_is_wrong_with_it() {
        let secret = "sst_in_clear";
        for (from, to, told) in [
            ("sha256 = ", "sha256 = sst_in_clear ", "line 8, column 23: "),
            (&format!("[\"{}\"]", hex(&[1; 32])), "\"sst_in_clear\"", "line 17, column 16: expected a sequence"),
            ("roles = [\"ledger\", \"reader\"]", "roles = [[\"sst_in_clear\"]]", "line 5, column "),
            (
                "expires = \"2027-01-31T00:00:00Z\"",
                "expires = \"sst_in_clear\"",
                "token 1 has an end that is not a time",
            ),
            (&hex(&sha256(b"old")), secret, "is no SHA-256"),
        ] {
            let problem = Identities::parse(&file().replacen(from, to, 1)).unwrap_err().to_string();
            assert!(problem.contains(told), "{told}: {problem}");
            assert!(!problem.contains("in_clear") && !problem.contains(&hex(&sha256(b"good"))), "{problem}");
        }
    }
}
