//! gRPC: parse, authorise, call the service, answer. A file per service; `status.rs` alone makes a `tonic::Status`.
//!
//! Every handler reads its whole request before anything is done. A change runs in a task of its own, so that a client
//! that hangs up can't cut it in half; a read ends with its caller. Every call is a span with its request id.

pub mod access;
pub mod account;
pub mod admin;
pub mod balance_feed;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod parse;
pub mod payout;
pub mod pool;
pub mod render;
pub mod show;
pub mod simulation;
pub mod status;
mod streaming;
pub mod transfer;
pub mod transport;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::service::Routes;
use tonic::{Response, Status};
use tracing::{Instrument, Span};

use crate::app::simulate::Simulation;
use crate::app::{App, Once, Pool, Request};
use crate::domain::caller::Caller;
use crate::domain::ids::RequestId;
use crate::pb::sim::v1::simulation_service_server::{self, SimulationServiceServer};
use crate::pb::v1;
use access::layer::Feeds;
use account::Accounts;
use admin::Admin;
use balance_feed::BalanceFeed;
use payout::Payouts;
use pool::Pools;
use simulation::Levers;
use status::{ApiError, Problem};
use transfer::Transfers;
use transport::{Place, TransportMetrics, Work};

/// How much one caller may ask for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message taken, in bytes.
    pub max_message_bytes: usize,
    /// The most events in one batch of the feed.
    pub max_batch_events: usize,
    /// How many batches of one feed stream may wait for the book before the stream is read no further.
    pub stream_queue_batches: usize,
    /// The most streams open at once, of all connections.
    pub max_open_streams: usize,
    /// The most bytes of streams' messages that wait for their readers, of all connections.
    pub max_unread_bytes: usize,
    /// How long a message of a stream may wait for its reader before the stream ends.
    pub unread: Duration,
}

/// What every service needs. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The service behind.
    pub app: Arc<App>,
    /// The levers of a simulated world; `None` where anything is real.
    pub simulation: Option<Arc<dyn Simulation>>,
    /// How much one caller may ask for.
    pub limits: Limits,
    /// What is refused.
    pub metrics: TransportMetrics,
    stopping: watch::Receiver<bool>,
    streams: Arc<Semaphore>,
    unread: streaming::Budget,
}

impl Api {
    /// The services over `app`. Streams end once `stopping` is true, or its sender is gone.
    pub fn new(
        app: Arc<App>,
        simulation: Option<Arc<dyn Simulation>>,
        limits: Limits,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(limits.max_open_streams.min(Semaphore::MAX_PERMITS)));
        let unread = streaming::Budget::new(limits.max_unread_bytes);
        Self { app, simulation, limits, metrics: TransportMetrics::default(), stopping, streams, unread }
    }

    /// A place for one more stream, held while the stream is open.
    pub(crate) fn open_stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            self.metrics.refuse("max_open_streams");
            let message = format!("{} streams are open, and no more are taken", self.limits.max_open_streams);
            ApiError::Overloaded { message, retry_after: failure::RETRY_AFTER }
        })
    }

    /// Waits until the service stops.
    pub(crate) async fn stopped(&self) {
        // A sender that is gone stops the service as well.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }

    /// What a stream ends with when the service stops: its caller opens it anew, elsewhere or later.
    pub(crate) fn stopping_error() -> ApiError {
        ApiError::Unavailable(Problem::new("SHUTTING_DOWN", "the service is shutting down; resume the stream later"))
    }
}

/// The names of the services that [`routes`] serves, for health checks and reflection.
pub fn service_names(api: &Api) -> Vec<&'static str> {
    let mut names = vec![
        v1::balance_feed_service_server::SERVICE_NAME,
        v1::transfer_service_server::SERVICE_NAME,
        v1::payout_service_server::SERVICE_NAME,
        v1::account_service_server::SERVICE_NAME,
        v1::pool_service_server::SERVICE_NAME,
        v1::admin_service_server::SERVICE_NAME,
    ];
    names.extend(api.simulation.as_ref().map(|_| simulation_service_server::SERVICE_NAME));
    names
}

/// Every service, for a server.
pub fn routes(api: &Api) -> Routes {
    let largest = api.limits.max_message_bytes;
    macro_rules! served {
        ($($server:path => $service:expr),+ $(,)?) => {
            Routes::default()$(.add_service(<$server>::new($service(api.clone())).max_decoding_message_size(largest)))+
        };
    }
    let routes = served! {
        v1::balance_feed_service_server::BalanceFeedServiceServer<_> => BalanceFeed,
        v1::transfer_service_server::TransferServiceServer<_> => Transfers,
        v1::payout_service_server::PayoutServiceServer<_> => Payouts,
        v1::account_service_server::AccountServiceServer<_> => Accounts,
        v1::pool_service_server::PoolServiceServer<_> => Pools,
        v1::admin_service_server::AdminServiceServer<_> => Admin,
    };
    match &api.simulation {
        None => routes,
        Some(simulation) => {
            let levers = Levers::new(api.clone(), simulation.clone());
            routes.add_service(SimulationServiceServer::new(levers).max_decoding_message_size(largest))
        }
    }
}

/// The most bytes of a request id that are logged: a longer one is refused in any case.
const LOGGED_ID_BYTES: usize = 128;

/// The span of one call. `request_id` may be anything that a caller sent.
fn span(rpc: &'static str, request_id: &str) -> Span {
    let end = (0..=request_id.len().min(LOGGED_ID_BYTES)).rev().find(|end| request_id.is_char_boundary(*end));
    let request_id = request_id.get(..end.unwrap_or(0)).unwrap_or_default();
    if request_id.is_empty() { tracing::info_span!("rpc", rpc) } else { tracing::info_span!("rpc", rpc, request_id) }
}

/// Carries a change to its end, whether or not its caller waits for it, and logs what became of it.
pub(crate) async fn detached<T: Send + 'static>(
    rpc: &'static str,
    request_id: &str,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<Response<T>, Status> {
    let span = span(rpc, request_id);
    let place = Place::current();
    let told = async move {
        // Held to the end: work that nobody waits for any more is in flight all the same.
        let outcome = in_turn(place.as_deref(), Work::Change, work).await;
        match &outcome {
            Ok(_) => tracing::info!("done"),
            Err(error) => tell(error),
        }
        outcome
    };
    let outcome = match tokio::spawn(told.instrument(span.clone())).await {
        Ok(outcome) => outcome,
        Err(died) => {
            span.in_scope(|| tracing::error!(error = %died, "the call died"));
            Err(ApiError::Internal)
        }
    };
    Ok(Response::new(outcome?))
}

/// Does work in its caller's turn. What a test calls by itself is nobody's, and waits for nobody.
async fn in_turn<T>(place: Option<&Place>, kind: Work, work: impl Future<Output = T>) -> T {
    let _turn = match place {
        Some(place) => Some(place.turn(kind, 1).await),
        None => None,
    };
    work.await
}

/// Answers a question. It ends where its caller hangs up.
pub(crate) async fn reading<T>(
    rpc: &'static str,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<Response<T>, Status> {
    let told = async move {
        let outcome = in_turn(Place::current().as_deref(), Work::Read, work).await;
        match &outcome {
            Ok(_) => tracing::debug!("answered"),
            Err(error) => tell(error),
        }
        outcome
    };
    Ok(Response::new(told.instrument(span(rpc, "")).await?))
}

/// Logs why a call was not answered as it was asked: the log's own level for what is our fault.
fn tell(error: &ApiError) {
    let (code, reason) = (error.code(), error.reason());
    match error {
        ApiError::Internal | ApiError::Unavailable(_) => tracing::warn!(?code, reason, %error, "refused"),
        _ => tracing::info!(?code, reason, %error, "refused"),
    }
}

/// Who makes a call, as the layer in front of the services has found.
pub(crate) fn caller_of<T>(call: &tonic::Request<T>) -> Result<Caller, ApiError> {
    call.extensions().get().cloned().ok_or_else(|| failure::broken(&"a call that nobody has judged"))
}

/// What the caller of a call may feed, as the layer in front of the services has found.
pub(crate) fn feeds_of<T>(call: &tonic::Request<T>) -> Result<Feeds, ApiError> {
    call.extensions().get().cloned().ok_or_else(|| failure::broken(&"a call that nobody has judged"))
}

/// A mutation as the service knows it: its method, its id, who asks, and its whole body.
pub(crate) fn request(method: &'static str, id: RequestId, caller: Caller, body: &impl Message) -> Request {
    Request::new(method, id, caller, &body.encode_to_vec())
}

/// The answer to a mutation: the first one where it was answered before, else what `present` builds from the state of
/// things now, which is kept for every repeat. `pool` says where the mutation was marked; `None` for the service.
pub(crate) async fn answer<R: Message + Default>(
    app: &App,
    request: &Request,
    pool: Option<&Pool>,
    once: Once,
    present: impl Future<Output = Result<R, ApiError>>,
) -> Result<R, ApiError> {
    if let Once::Repeated { answer: Some(first) } = &once {
        return R::decode(first.as_slice()).map_err(|error| failure::broken(&error));
    }
    let answer = present.await?;
    if let Err(error) = app.keep_answer(request, pool, &answer.encode_to_vec()).await {
        // The change is durable; only its repeats are answered from the state of things then.
        tracing::warn!(%error, "the answer could not be kept");
    }
    Ok(answer)
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_nobody_has_judged_is_nobodys() {
        let mut call = tonic::Request::new(());
        assert!(matches!(caller_of(&call), Err(ApiError::Internal)));
        call.extensions_mut().insert(Caller::local("127.0.0.1:9"));
        assert_eq!(caller_of(&call).ok(), Some(Caller::local("127.0.0.1:9")));
    }
}
