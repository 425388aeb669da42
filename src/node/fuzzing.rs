//! The whole surface, opened to `fuzz/`: any bytes as a call of any method, answered by a service in memory behind the
//! layers that a server has around it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prost::Message;
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretSlice;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Body as _;
use tonic::codegen::http;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Layer, ServiceExt};

use super::audit_log::{self, ChainReport, ExportedEntry, Line, NotedEntry};
use super::credentials;
use super::tasks::BookTasks;
use super::{NodeError, found_pools, settings};
use crate::api::access::certificate::Certificate;
use crate::api::access::layer::{AccessLayer, Judged};
use crate::api::access::refusals::{Refusal, RefusalLog};
use crate::api::access::{Access, Admission};
use crate::api::status::refusal_in;
use crate::api::transport::{AtOnce, Guard, InFlight, Transport, TransportLayer};
use crate::api::{self, Api};
use crate::app::simulate::Simulation;
use crate::app::{App, AppError, Chain};
use crate::book::{Book, BookConfig};
use crate::chain::ChainAdapter;
use crate::chain::simulated::{MemoryLog, SimulatedChain};
use crate::clock::Clock;
use crate::config::{ChainSettings, Config};
use crate::domain::audit_log::{AuditEntry, AuditHead, Log};
use crate::domain::ids::PoolId;
use crate::domain::time::UnixSeconds;
use crate::store::Store;
use crate::store::fuzzing::pieces;
use crate::store::migrations;
use crate::store::model::ModelStore;
use crate::store::records::Record;
use crate::telemetry::Readiness;

/// What the service is configured with: two pools and a source.
const SETTINGS: &str = r#"
sources = ["ledger"]
[clock]
kind = "manual"
start = "2026-11-22T00:00:00Z"
[book]
partitions = 2
[[pools]]
id = "atom"
asset = "ATOM"
first_period_start = "2026-11-22T00:00:00Z"
[pools.chain]
kind = "simulated"
preset = "atom"
[[pools]]
id = "near"
asset = "NEAR"
first_period_start = "2026-11-22T00:00:00Z"
[pools.chain]
kind = "simulated"
preset = "near"
"#;

/// The time at which the service stands: 2026-11-22T06:00:00Z.
const NOW_MS: i64 = 1_795_327_200_000;

/// A service that has committed so often is replaced by a new one, so that it does not grow for ever.
const MAX_COMMITS: u64 = 500;

/// The most calls of one input.
pub const MAX_CALLS: usize = 8;

/// A call that is not answered after so long never will be. Far more than any takes on a machine that does other work.
const LONGEST: Duration = Duration::from_secs(60);

/// A stream that has said nothing after so many rounds of all other tasks has nothing more to say.
const QUIET_ROUNDS: usize = 64;

struct Still;

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }
}

/// The levers, of which the one over time is stuck.
struct Levers(BTreeMap<PoolId, SimulatedChain>);

#[async_trait]
impl Simulation for Levers {
    fn chain(&self, pool: &PoolId) -> Result<&SimulatedChain, AppError> {
        self.0.get(pool).ok_or_else(|| AppError::Broken(format!("pool {pool} has no chain")))
    }

    async fn advance_to(&self, _to: UnixSeconds) -> Result<u64, AppError> {
        Ok(0)
    }
}

/// Nobody is refused where everyone is admitted.
struct Nobody;

impl RefusalLog for Nobody {
    fn refused(&self, refusal: Refusal) {
        assert_eq!(refusal.count, 0, "{refusal:?}");
    }
}

struct World {
    runtime: Runtime,
    guard: Arc<Guard>,
    services: Transport<Judged<Routes>>,
    store: Arc<ModelStore>,
    founded: u64,
    /// The paths of all methods, in the order of the descriptors.
    methods: Vec<String>,
    _stop: watch::Sender<bool>,
    _book: BookTasks,
}

impl World {
    fn found() -> Result<Self, NodeError> {
        let io = |error| NodeError::Io { what: "a runtime".to_owned(), error };
        let runtime = Builder::new_current_thread().enable_time().build().map_err(io)?;
        let config = Config::from_toml(SETTINGS).map_err(|error| NodeError::Failed(error.to_string()))?;
        let store = Arc::new(ModelStore::new());
        let (stop, stopping) = watch::channel(false);
        let (api, book) = runtime.block_on(Self::open(&config, &store, stopping))?;
        let founded = store.commits();
        // Longer than what is waited for here, so that the deadline hides nothing.
        let four = AtOnce { most: 4, beside_others: 4 };
        let in_flight = InFlight {
            longest: 2 * LONGEST,
            calls: 64,
            calls_per_principal: 64,
            reads: four,
            changes: four,
            batches: four,
            receiving_bytes: 1 << 20,
            unread: LONGEST,
        };
        let guard = Guard::new(in_flight, api.metrics.clone());
        let now = Arc::new(|| UnixSeconds::new(NOW_MS / 1_000));
        let access = Arc::new(Access::new(Admission::Open, now, Box::new(Nobody)));
        let services = TransportLayer { guard: guard.clone() }.layer(AccessLayer(access).layer(api::routes(&api)));
        Ok(Self { runtime, guard, services, store, founded, methods: methods(), _stop: stop, _book: book })
    }

    async fn open(
        config: &Config,
        store: &Arc<ModelStore>,
        stopping: watch::Receiver<bool>,
    ) -> Result<(Api, BookTasks), NodeError> {
        let clock: Arc<dyn Clock> = Arc::new(Still);
        let (mut chains, mut levers) = (Vec::new(), BTreeMap::new());
        for pool in &config.pools {
            let ChainSettings::Simulated(chain) = &pool.chain;
            let chain = settings::simulated(&pool.id, chain)?;
            let chain = SimulatedChain::open_memory(MemoryLog::new(), chain, clock.clone())?;
            let descriptor = chain.descriptor().await?;
            levers.insert(PoolId::new(&pool.id)?, chain.clone());
            let (max_fee, signer) = (descriptor.fee_estimate, Arc::new(chain.signer()));
            chains.push(Chain { descriptor, signer, adapter: Arc::new(chain), max_fee });
        }
        migrations::migrate(store.as_ref()).await?;
        let shared: Arc<dyn Store> = store.clone();
        let (book, committer) = Book::open(shared.clone(), Vec::new(), BookConfig::default()).await?;
        let tasks = BookTasks::start(committer, clock.clone(), &Readiness::new());
        let sender = book.sender();
        let app = App::new(shared, clock, Arc::new(book), sender, chains, settings::app_settings(config)?);
        app.open().await?;
        found_pools(&app, config).await?;
        let levers = Arc::new(Levers(levers)) as Arc<dyn Simulation>;
        Ok((Api::new(Arc::new(app), Some(levers), settings::api_limits(config), stopping), tasks))
    }

    /// Calls a method with these bytes below the frame of one message.
    fn call(&self, method: &str, message: &[u8]) -> Option<Status> {
        self.runtime.block_on(async {
            let mut frame = vec![0];
            frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
            frame.extend_from_slice(message);
            let request = http::Request::post(method)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Body::new(axum::body::Body::from(frame)))
                .ok()?;
            let answered = tokio::time::timeout(LONGEST, self.services.clone().oneshot(request)).await;
            assert!(answered.is_ok(), "{method} was not answered");
            let (parts, mut body) = answered.ok()?.ok()?.into_parts();
            let mut status = refusal_in(&parts.headers);
            let mut answer = 0;
            // A stream without an end is dropped once it is silent, as by a caller who hangs up.
            let mut silence = 0;
            while silence < QUIET_ROUNDS {
                let next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
                tokio::select! {
                    biased;
                    frame = next => {
                        let Some(Ok(frame)) = frame else { break };
                        status = status.or_else(|| frame.trailers_ref().and_then(refusal_in));
                        answer += frame.data_ref().map_or(0, |data| data.len());
                        silence = 0;
                    }
                    () = tokio::task::yield_now() => silence += 1,
                }
            }
            assert!(answer < 1 << 20, "{method} answered {answer} bytes");
            drop(body);
            assert_eq!(self.guard.metrics.receiving_bytes.get(), 0, "{method} is answered, and its bytes are counted");
            status
        })
    }
}

/// Every method of ours that the descriptors tell of.
pub fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(crate::pb::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let ours = set.file.iter().filter(|file| file.package().starts_with("softstake."));
    let services = ours.flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    let path = |(package, service): (&str, &prost_types::ServiceDescriptorProto)| {
        let path = format!("/{package}.{}/", service.name());
        service.method.iter().map(move |method| format!("{path}{}", method.name())).collect::<Vec<_>>()
    };
    services.flat_map(path).collect()
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Calls, each a byte that picks the method, two for the length of the message, and the message. Nothing that a caller
/// sends is the service's fault: no call ends with INTERNAL or UNKNOWN, and each refusal says something.
pub fn calls(mut input: &[u8]) {
    WORLD.with_borrow_mut(|slot| {
        let used = |world: &World| world.store.commits() > world.founded + MAX_COMMITS;
        if slot.as_ref().is_none_or(used) {
            // The old one goes first.
            *slot = None;
            let founded = World::found();
            assert!(founded.is_ok(), "{:?}", founded.err());
            *slot = founded.ok();
        }
        let Some(world) = slot else { return };
        for _ in 0..MAX_CALLS {
            let Some(([method, low, high], rest)) = input.split_first_chunk() else { return };
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let (message, rest) = rest.split_at(length);
            input = rest;
            let Some(path) = world.methods.get(usize::from(*method) % world.methods.len().max(1)) else { return };
            if let Some(status) = world.call(path, message) {
                let fault = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
                assert!(!fault, "{path}: {status:?}");
                assert!(status.code() == Code::Ok || !status.message().is_empty(), "{path}: {status:?}");
            }
        }
    });
}

/// An export of the audit log: the input itself; or one made of it.
pub fn audit_export(input: &[u8]) {
    match input.split_first() {
        None => {}
        Some((mode, rest)) if mode & 0x80 != 0 => checked(rest),
        Some((_, rest)) => {
            let (export, whole) = exported(rest);
            let reports = audit_log::check_export(export.as_slice(), Path::new("export"), &[]).ok();
            assert_eq!(reports, Some(vec![whole]), "what was written is whole");
            checked(&export);
        }
    }
}

/// A chain of entries, each of which stands in the input as a record after its length, as an export has it and as it is
/// found to be.
pub fn exported(input: &[u8]) -> (Vec<u8>, ChainReport) {
    let log = Log::Service;
    let mut lines = vec![Line::AuditLog { form: audit_log::FORM, logs: vec![log.name()] }];
    let mut head: Option<AuditHead> = None;
    for AuditEntry { at, act, .. } in pieces(input).into_iter().filter_map(|record| AuditEntry::decode(record).ok()) {
        let entry = AuditEntry::following(head.as_ref(), &log, at, act);
        lines.push(Line::Entry(Box::new(ExportedEntry::of(&log, &entry))));
        head = Some(entry.head());
    }
    let end = head.map(|AuditHead { sequence, at, hash }| {
        let hash = blake3::Hash::from_bytes(hash).to_hex().to_string();
        lines.push(Line::Head { log: log.name(), sequence, at: at.get(), hash: hash.clone() });
        (sequence, hash)
    });
    let mut export = Vec::new();
    assert!(lines.iter().all(|line| audit_log::write(&mut export, line).is_ok()));
    (export, ChainReport { log: log.name(), outcome: Ok(end) })
}

/// What an export is found to end with can be noted, and is found again.
fn checked(export: &[u8]) {
    let check = |noted: &[NotedEntry]| {
        audit_log::check_export(export, Path::new("export"), &audit_log::noted(noted))
            .map_err(|error| error.to_string())
    };
    match check(&[]) {
        Err(problem) => assert!(!problem.is_empty()),
        Ok(reports) => {
            let ends = reports.iter().filter_map(|report| Some((&report.log, report.outcome.as_ref().ok()?.as_ref()?)));
            let noted = ends.map(|(log, (sequence, hash))| format!("{log}:{sequence}:{hash}").parse());
            let noted = noted.collect::<Result<Vec<NotedEntry>, _>>();
            assert_eq!(noted.and_then(|noted| check(&noted)).as_ref(), Ok(&reports));
        }
    }
}

/// The files of TLS in PEM: certificates, which may be issuers, and a private key.
pub fn pem(input: &[u8]) {
    let bytes = SecretSlice::from(input.to_vec());
    match credentials::certificates("tls.cert_file", Path::new("cert.pem"), &bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(chain) => {
            let mut roots = RootCertStore::empty();
            let (added, _) = roots.add_parsable_certificates(chain.iter().cloned());
            let certificate = Certificate::new(chain);
            assert!(added <= roots.len() && certificate.is_some_and(|front| front.names.len() < input.len()));
        }
    }
    if let Ok(key) = PrivateKeyDer::from_pem_slice(input) {
        let _key = rustls::crypto::ring::sign::any_supported_type(&key);
    }
}

/// A file of validators, as a simulated chain is configured with: how many, where it is one.
pub fn validators(input: &[u8]) -> Option<usize> {
    settings::read_validators("pools.atom.chain.validators_csv", Path::new("validators.csv"), input)
        .ok()
        .map(|validators| validators.len())
}
