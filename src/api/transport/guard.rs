//! What is in flight, of all connections: calls, the bytes of requests that are not answered yet, and answers that wait for
//! their reader. Each is bounded, and what is past a bound is refused and counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::turns::{AtOnce, Party, Turn, Turns};
use crate::api::failure::RETRY_AFTER;
use crate::api::status::ApiError;
use crate::domain::ids::Principal;

/// How often it is looked what waits for its reader, while the longest wait passes.
const LOOKS: u32 = 8;

tokio::task_local! {
    /// The place of the call that runs.
    static PLACE: Arc<Place>;
}

/// The name of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Limit {
    /// The name of its setting.
    pub limit: &'static str,
}

/// A kind of work, each with turns of its own: who asks much does not keep those from working who change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Work {
    /// Answering a question.
    Read,
    /// Carrying out a change.
    Change,
    /// Making a piece of a stream.
    Batch,
}

/// The label of a kind of work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabel {
    work: Work,
}

/// What the transport counts.
#[derive(Clone, Debug, Default)]
pub struct TransportMetrics {
    /// What was refused or cut off, by the limit that it was past.
    pub refused: Family<Limit, Counter>,
    /// Connections that are served.
    pub connections: Gauge,
    /// Calls in flight.
    pub calls: Gauge,
    /// Bytes of requests that are not answered yet.
    pub receiving_bytes: Gauge,
    /// What waits for its turn.
    waiting: Family<WorkLabel, Gauge>,
}

impl TransportMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Connections, handshakes, calls and streams refused or cut off, by the limit that they were past";
        registry.register("transport_refused", help, self.refused.clone());
        registry.register("transport_connections", "Connections that are served", self.connections.clone());
        registry.register("transport_calls", "Calls in flight, streams included", self.calls.clone());
        let help = "Bytes of requests that are not answered yet";
        registry.register("transport_receiving_bytes", help, self.receiving_bytes.clone());
        let help = "Questions, changes and pieces of streams that wait until it is their turn";
        registry.register("transport_waiting", help, self.waiting.clone());
    }

    /// How much work of a kind waits.
    #[cfg(test)]
    pub(super) fn waiting_for(&self, work: Work) -> i64 {
        self.waiting.get_or_create(&WorkLabel { work }).get()
    }

    /// One more is past the limit of that name.
    pub fn refuse(&self, limit: &'static str) {
        self.refused.get_or_create(&Limit { limit }).inc();
    }
}

/// One connection, as its calls know it: it can be cut. Each of its requests carries it in its extensions.
#[derive(Clone, Debug)]
pub struct Line {
    /// Cuts it.
    pub cut: CancellationToken,
    /// Its number, which no other has.
    pub number: u64,
}

/// How much may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The longest that a call may take until its answer begins. A stream's begins at once.
    pub longest: Duration,
    /// The most calls at once, streams included.
    pub calls: usize,
    /// The most of them that are one principal's, where principals are known apart.
    pub calls_per_principal: usize,
    /// How many questions are answered at once.
    pub reads: AtOnce,
    /// How many changes are carried out at once.
    pub changes: AtOnce,
    /// How many pieces of streams are made at once.
    pub batches: AtOnce,
    /// The most bytes of requests that are not answered yet.
    pub receiving_bytes: usize,
    /// How long an answer, or a piece of one, may wait for its reader before its connection is cut.
    pub unread: Duration,
}

/// Counts what is in flight.
pub struct Guard {
    /// The bounds.
    pub limits: InFlight,
    /// What is counted.
    pub metrics: TransportMetrics,
    calls: Arc<Semaphore>,
    /// How many of the calls are whose, where principals are known apart.
    principals: Mutex<BTreeMap<Principal, usize>>,
    reads: Arc<Turns>,
    changes: Arc<Turns>,
    batches: Arc<Turns>,
    receiving: AtomicUsize,
    unread: Mutex<Unread>,
}

/// Pieces of answers that the transport was given and has not come back from, oldest first.
#[derive(Default)]
struct Unread {
    next: u64,
    /// How often it was looked.
    looks: u64,
    /// By its number: at which look it was handed over, and to whom.
    waiting: BTreeMap<u64, (u64, Line)>,
}

impl Guard {
    /// Nothing is in flight yet.
    pub fn new(limits: InFlight, metrics: TransportMetrics) -> Arc<Self> {
        let calls = Arc::new(Semaphore::new(limits.calls.min(Semaphore::MAX_PERMITS)));
        let [reads, changes, batches] = [limits.reads, limits.changes, limits.batches].map(Turns::new);
        let (principals, receiving, unread) = (Mutex::default(), AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { limits, metrics, calls, principals, reads, changes, batches, receiving, unread })
    }

    /// A place for one more call over the connection of that number.
    pub(super) fn admit(self: &Arc<Self>, line: u64) -> Result<Arc<Place>, ApiError> {
        let permit = self.calls.clone().try_acquire_owned().map_err(|_| {
            self.metrics.refuse("max_calls_in_flight");
            let message = format!("{} calls are in flight, and no more are taken", self.limits.calls);
            ApiError::Overloaded { message, retry_after: RETRY_AFTER }
        })?;
        Ok(self.place(Some(permit), line))
    }

    /// A place for a call that is always taken.
    pub(super) fn place(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>, line: u64) -> Arc<Place> {
        self.metrics.calls.inc();
        let (received, caller) = (Mutex::new(Some(0)), OnceLock::new());
        Arc::new(Place { guard: self.clone(), received, line, caller, _permit: permit })
    }

    /// One more call is that principal's.
    fn count(&self, principal: &Principal) -> Result<(), ApiError> {
        let (mut principals, most) = (self.principals(), self.limits.calls_per_principal);
        let calls = principals.entry(principal.clone()).or_insert(0);
        if *calls < most {
            *calls += 1;
            return Ok(());
        }
        drop(principals);
        self.metrics.refuse("max_calls_in_flight_per_principal");
        let message = format!("{most} calls of {principal} are in flight, and no more of it are taken");
        Err(ApiError::Overloaded { message, retry_after: RETRY_AFTER })
    }

    fn principals(&self) -> MutexGuard<'_, BTreeMap<Principal, usize>> {
        self.principals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is in flight. Whoever waits has to have stopped what brings new calls.
    pub async fn idle(&self) {
        let all = u32::try_from(self.limits.calls.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        // It is never closed.
        drop(self.calls.acquire_many(all).await);
    }

    /// Cuts the connections whose readers read nothing for too long. Never ends.
    pub async fn cut_unread(self: Arc<Self>) {
        let mut looks = tokio::time::interval(self.limits.unread / LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.unread().looks += 1;
            loop {
                let mut unread = self.unread();
                let looks = unread.looks;
                let oldest = unread.waiting.first_entry();
                let Some(oldest) = oldest.filter(|oldest| looks - oldest.get().0 > LOOKS.into()) else { break };
                let (_, line) = oldest.remove();
                drop(unread);
                if !line.cut.is_cancelled() {
                    self.metrics.refuse("unread_timeout_ms");
                    tracing::info!("a connection is cut whose reader does not read");
                    line.cut.cancel();
                }
            }
        }
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of an answer has been handed to the transport.
    pub(super) fn handed(&self, line: Line) -> u64 {
        let mut unread = self.unread();
        let number = unread.next;
        unread.next += 1;
        let looks = unread.looks;
        unread.waiting.insert(number, (looks, line));
        number
    }

    /// The transport has come back for more, or is done.
    pub(super) fn taken(&self, number: u64) {
        self.unread().waiting.remove(&number);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A call in flight. It is held by whatever works for the call or carries its answer; with the last of them it is over.
pub(crate) struct Place {
    guard: Arc<Guard>,
    /// The bytes of the request so far; `None` once they count no more.
    received: Mutex<Option<usize>>,
    line: u64,
    /// By whom it is, once that is known.
    caller: OnceLock<CallerOf>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// By whom a call is.
struct CallerOf {
    principal: Principal,
    /// Whether it counts among the calls of its principal.
    counted: bool,
}

impl Place {
    /// The place of the call that runs, to be held by what outlives it. A test's handler may run outside of any.
    pub(crate) fn current() -> Option<Arc<Self>> {
        PLACE.try_with(Arc::clone).ok()
    }

    /// Says by whom the call is. Where principals are known apart it is refused past the limit of one.
    pub(crate) fn is_by(&self, principal: &Principal, apart: bool) -> Result<(), ApiError> {
        if apart {
            self.guard.count(principal)?;
        }
        // It is said once, by the one judge of the call.
        drop(self.caller.set(CallerOf { principal: principal.clone(), counted: apart }));
        Ok(())
    }

    /// Waits until it is the caller's turn, for work that costs so many times what one question does.
    pub(crate) async fn turn(&self, work: Work, cost: u64) -> Turn {
        let turns = match work {
            Work::Read => &self.guard.reads,
            Work::Change => &self.guard.changes,
            Work::Batch => &self.guard.batches,
        };
        let principal = self.caller.get().map(|caller| caller.principal.clone());
        let _waiting = Waiting::new(&self.guard.metrics, work);
        turns.take(Party { principal, line: self.line }, cost).await
    }

    /// Runs a call in its place.
    pub(super) async fn run<T>(self: Arc<Self>, call: impl Future<Output = T>) -> T {
        PLACE.scope(self, call).await
    }

    /// Takes in `bytes` more of the request.
    pub(super) fn receive(&self, bytes: usize) -> Result<(), ApiError> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(so_far) = received.as_mut() else { return Ok(()) };
        let guard = &self.guard;
        let all = guard.receiving.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        if all > guard.limits.receiving_bytes {
            guard.receiving.fetch_sub(bytes, Ordering::AcqRel);
            guard.metrics.refuse("max_receiving_bytes");
            let message = "requests hold too many bytes at once, and no more are taken".to_owned();
            return Err(ApiError::Overloaded { message, retry_after: RETRY_AFTER });
        }
        *so_far += bytes;
        guard.metrics.receiving_bytes.set(i64::try_from(all).unwrap_or(i64::MAX));
        Ok(())
    }

    /// The request is answered, or its stream is open: its bytes count no more.
    pub(super) fn answered(&self) {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(0);
        if received > 0 {
            let before = self.guard.receiving.fetch_sub(received, Ordering::AcqRel);
            self.guard.metrics.receiving_bytes.set(i64::try_from(before.saturating_sub(received)).unwrap_or(i64::MAX));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.answered();
        if let Some(CallerOf { principal, counted: true }) = self.caller.get() {
            let mut principals = self.guard.principals();
            match principals.get_mut(principal) {
                Some(calls) if *calls > 1 => *calls -= 1,
                _ => drop(principals.remove(principal)),
            }
        }
        self.guard.metrics.calls.dec();
    }
}

/// One that waits for its turn, as the metrics have it.
struct Waiting(Gauge);

impl Waiting {
    fn new(metrics: &TransportMetrics, work: Work) -> Self {
        let waiting = metrics.waiting.get_or_create(&WorkLabel { work }).clone();
        waiting.inc();
        Self(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
