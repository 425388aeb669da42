//! Who may call, decided before any handler sees a call: who it is, by its certificate or its token, and whether the
//! table lets one of its roles make this call. What is not allowed there is refused.
//!
//! Whoever shows a token is the token's principal, and a wrong token is refused whatever certificate is beside it; else
//! the certificate's names count. The identity file and the issuers are exchanged as a whole while the service runs, and
//! each call is judged by those of its own moment.

pub mod certificate;
pub mod identities;
pub mod layer;
pub mod refusals;
pub mod table;

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::server::danger::ClientCertVerifier;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::{HeaderMap, header};

use super::status::{ApiError, Problem};
use crate::domain::caller::Caller;
use crate::domain::ids::{Principal, SourceId};
use crate::domain::time::UnixSeconds;
use certificate::{MAX_CHAIN, Peer, Untrusted};
use identities::{Identities, Known, Refused};
use refusals::{Refusal, RefusalLog, Refusals};
use table::{Role, Row, Who};

/// The longest bearer token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 1_024;

/// What a record names as the call where a handshake was refused.
const HANDSHAKE: &str = "handshake";

/// Real time, whatever clock the service keeps: credentials end by the calendar.
pub type Now = Arc<dyn Fn() -> UnixSeconds + Send + Sync>;

/// By whom calls are known.
pub enum Admission {
    /// By nobody: whoever reaches the service is its local principal and may do everything. For loopback and for a
    /// socket file, whose mode says who reaches it.
    Open,
    /// By the identity file.
    Known {
        /// Everyone who may call.
        identities: Identities,
        /// Who signs certificates of clients; `None` takes none.
        issuers: Option<Arc<dyn ClientCertVerifier>>,
    },
}

/// One admission and its time.
struct Held {
    admission: Admission,
    /// Counts up with each exchange.
    generation: u64,
    /// Cancelled when it is exchanged.
    over: CancellationToken,
}

impl Held {
    /// Whether callers are known apart: else all of them are one principal.
    const fn knows_apart(&self) -> bool {
        matches!(self.admission, Admission::Known { .. })
    }
}

/// Whether somebody who is known has called over a connection, which is a stranger's before. Each of its requests carries it
/// in its extensions.
#[derive(Clone)]
pub struct Standing(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl Standing {
    /// A stranger's. `place` is dropped once it is one no more.
    pub fn stranger(place: impl Any + Send) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(place)))))
    }

    /// Somebody who is known has called, or the connection is gone.
    pub fn known(&self) {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(place);
    }

    /// Whether it is a stranger's no more.
    pub fn is_known(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("known", &self.is_known()).finish()
    }
}

/// The labels of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeniedCall {
    call: &'static str,
    reason: &'static str,
}

/// The judge of every call. Shared by all connections.
pub struct Access {
    held: RwLock<Arc<Held>>,
    now: Now,
    refusals: Refusals,
    denied: Family<DeniedCall, Counter>,
}

/// A call that may go on.
struct Admitted {
    /// Who makes it; `None` where it is open to anyone.
    caller: Option<Caller>,
    /// Whether its answer is a stream.
    streams: bool,
    /// What it was judged by.
    held: Arc<Held>,
    /// When the credential ends, so that it has to be judged again.
    until: Option<UnixSeconds>,
    /// The sources that its caller may feed; `None` is every one.
    sources: Option<Arc<BTreeSet<SourceId>>>,
}

/// What is found of a call that may go on.
struct Verdict {
    caller: Option<Caller>,
    until: Option<UnixSeconds>,
    sources: Option<Arc<BTreeSet<SourceId>>>,
}

/// Why a call may not go on: what its caller is told, and what is recorded.
struct Denial {
    error: ApiError,
    principal: Option<Principal>,
}

impl Denial {
    fn unauthenticated(reason: &'static str, message: impl Into<String>) -> Self {
        Self { error: ApiError::Unauthenticated(Problem::new(reason, message)), principal: None }
    }

    fn of(self, principal: &Principal) -> Self {
        Self { principal: Some(principal.clone()), ..self }
    }
}

impl Access {
    /// A judge that goes by `admission`. Refusals are told to `log`.
    pub fn new(admission: Admission, now: Now, log: Box<dyn RefusalLog>) -> Self {
        let held = Held { admission, generation: 0, over: CancellationToken::new() };
        Self { held: RwLock::new(Arc::new(held)), now, refusals: Refusals::new(log), denied: Family::default() }
    }

    /// Goes by `admission` from the next call on. Streams that are open are judged again, and end where they are refused.
    pub fn exchange(&self, admission: Admission) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let next = Held { admission, generation: held.generation.saturating_add(1), over: CancellationToken::new() };
        let last = std::mem::replace(&mut *held, Arc::new(next));
        drop(held);
        last.over.cancel();
    }

    /// Tells how many refusals were repeated, where their minute is over.
    pub fn step(&self) {
        self.refusals.step((self.now)());
    }

    /// Tells the number of all refusals that were not told yet, when the service stops.
    pub fn finish(&self) {
        self.refusals.finish();
    }

    /// Registers what is counted.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Calls refused for who made them, by call and reason";
        registry.register("calls_denied", help, self.denied.clone());
    }

    fn held(&self) -> Arc<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> UnixSeconds {
        (self.now)()
    }

    /// Who makes the call at `path`, if it may. A refusal is counted and told.
    fn admit(&self, path: &str, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Admitted, ApiError> {
        self.admit_as(None, path, peer, headers)
    }

    /// The same of a call that is open and was begun by `before`: it may not go on where its credential is another's now.
    fn admit_as(
        &self,
        before: Option<&Principal>,
        path: &str,
        peer: Option<&Peer>,
        headers: &HeaderMap,
    ) -> Result<Admitted, ApiError> {
        let (held, row) = (self.held(), Row::of(path));
        let judged =
            judge(&held, row, peer, headers, (self.now)()).and_then(|verdict| match (before, &verdict.caller) {
                (Some(before), Some(caller)) if *before != caller.principal => {
                    let message = "this credential is another principal's now; make the call anew";
                    Err(Denial::unauthenticated("CREDENTIALS_UNKNOWN", message).of(before))
                }
                _ => Ok(verdict),
            });
        match judged {
            Ok(Verdict { caller, until, sources }) => {
                Ok(Admitted { caller, streams: row.is_some_and(|row| row.streams), held, until, sources })
            }
            Err(denial) => {
                let call = row.map_or("unknown", Row::call);
                self.note(denial.principal, peer, call, denial.error.reason());
                Err(denial.error)
            }
        }
    }

    /// Counts and tells that a handshake ended with `error`, where that is for the certificate which was shown, or was not
    /// and had to be. What is no handshake at all is nobody's credential.
    pub fn handshake_failed(&self, peer: &Peer, error: &std::io::Error) {
        let reason = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::NoCertificatesPresented) => "CREDENTIALS_MISSING",
            Some(error @ rustls::Error::InvalidCertificate(_)) => Untrusted::by(error).reason(),
            _ => return,
        };
        self.note(None, Some(peer), HANDSHAKE, reason);
    }

    fn note(&self, principal: Option<Principal>, peer: Option<&Peer>, call: &'static str, reason: &'static str) {
        self.denied.get_or_create(&DeniedCall { call, reason }).inc();
        let (peer, machine) = peer.map_or_else(
            || (Arc::from("unknown"), Arc::from("unknown")),
            |peer| (peer.address.clone(), peer.machine.clone()),
        );
        let refusal = Refusal { principal, peer, call, reason, count: 1 };
        self.refusals.note(refusal, &machine, (self.now)());
    }
}

/// The verdict on one call: who makes it, until when that holds, and what it may feed.
fn judge(
    held: &Held,
    row: Option<&Row>,
    peer: Option<&Peer>,
    headers: &HeaderMap,
    now: UnixSeconds,
) -> Result<Verdict, Denial> {
    if row.is_some_and(|row| row.who == Who::Anyone) {
        return Ok(Verdict { caller: None, until: None, sources: None });
    }
    let address = peer.map_or("", |peer| &*peer.address);
    let Admission::Known { identities, issuers } = &held.admission else {
        // Whoever may do everything may hear from the services themselves that there is no such call.
        return Ok(Verdict { caller: Some(Caller::local(address)), until: None, sources: None });
    };
    let (known, until) = identify(identities, issuers.as_deref(), held.generation, peer, headers, now)?;
    let Some(row) = row else {
        let message = "there is no such call here; reflection lists those that are served";
        let error = ApiError::Unimplemented(Problem::new("UNKNOWN_CALL", message));
        return Err(Denial { error, principal: Some(known.principal.clone()) });
    };
    if let Who::Roles(roles) = row.who
        && !roles.iter().any(|role| known.roles.contains(role))
    {
        let list = |roles: &[Role]| roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
        let (wanted, has) = (list(roles), list(&known.roles));
        let has = if has.is_empty() { "none" } else { has.as_str() };
        let message = format!(
            "{} takes one of the roles {wanted}; `{}` has {has}: call with another credential, or have the role added in \
             the identity file",
            row.call(),
            known.principal
        );
        let problem = Problem::new("ROLE_MISSING", message).with("roles", wanted).with("principal", &known.principal);
        return Err(Denial { error: ApiError::Denied(problem), principal: Some(known.principal.clone()) });
    }
    let caller = Caller { principal: known.principal.clone(), peer: address.into() };
    Ok(Verdict { caller: Some(caller), until, sources: known.sources.clone() })
}

/// Whose call it is, and when that credential ends.
fn identify<'a>(
    identities: &'a Identities,
    issuers: Option<&dyn ClientCertVerifier>,
    generation: u64,
    peer: Option<&Peer>,
    headers: &HeaderMap,
    now: UnixSeconds,
) -> Result<(&'a Known, Option<UnixSeconds>), Denial> {
    let certificate = peer.and_then(|peer| peer.certificate.as_deref());
    if certificate.is_some_and(|certificate| identities.is_revoked(&certificate.fingerprint)) {
        return Err(refusal("client certificate", Refused::Revoked));
    }
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(first) = shown.next() {
        let token = bearer(first.as_bytes()).filter(|_| shown.next().is_none()).ok_or_else(|| {
            let message = "the authorization header has to be there once, as `Bearer` and a token";
            Denial::unauthenticated("CREDENTIALS_MALFORMED", message)
        })?;
        let (known, until) = identities.by_token(token, now).map_err(|refused| refusal("token", refused))?;
        return Ok((known, Some(until)));
    }
    let (Some(certificate), Some(issuers)) = (certificate, issuers) else {
        let message = "show who you are: a client certificate, or a token in the header `authorization: Bearer ...`";
        return Err(Denial::unauthenticated("CREDENTIALS_MISSING", message));
    };
    let until = certificate.verify(issuers, generation, now).map_err(|untrusted| {
        let message = match untrusted {
            Untrusted::Expired => "this client certificate is not valid now; connect with one that is".to_owned(),
            Untrusted::Issuer => {
                "this client certificate is signed by none of tls.client_ca_file for clients".to_owned()
            }
            Untrusted::TooLong => format!(
                "a chain has at most {MAX_CHAIN} certificates; leave out what is not between yours and its issuer"
            ),
        };
        Denial::unauthenticated(untrusted.reason(), message)
    })?;
    let known = identities.by_certificate(&certificate.names, &certificate.fingerprint);
    known.map(|known| (known, until)).map_err(|refused| refusal("client certificate", refused))
}

/// The token of an authorization header.
pub(super) fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let form = scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
    form.then_some(token)
}

/// What the caller of a credential that is none is told.
fn refusal(what: &str, refused: Refused) -> Denial {
    match refused {
        Refused::Unknown => {
            let message =
                format!("no principal is known by this {what}; it may have been taken out of the identity file");
            Denial::unauthenticated("CREDENTIALS_UNKNOWN", message)
        }
        Refused::Expired(principal, _) => {
            let message = "this token has expired; have a new one entered in the identity file";
            Denial::unauthenticated("TOKEN_EXPIRED", message).of(&principal)
        }
        Refused::Ambiguous => {
            let message =
                "the names of this client certificate are those of several principals; use one of a single one";
            Denial::unauthenticated("CERTIFICATE_AMBIGUOUS", message)
        }
        Refused::Revoked => {
            let message = "this client certificate is revoked; connect with another one";
            Denial::unauthenticated("CREDENTIALS_REVOKED", message)
        }
        Refused::NotItsOwn(principal) => {
            let message = "this client certificate is not among those that the identity file lists for its principal";
            Denial::unauthenticated("CREDENTIALS_UNKNOWN", message).of(&principal)
        }
    }
}
