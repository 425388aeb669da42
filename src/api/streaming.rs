//! What every stream out of the service has in common: bounded, ended with the caller or the service, never stalled for
//! ever by a caller who does not read.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::select_all;
use futures::{FutureExt, Stream};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tonic::{Response, Status};
use tracing::{Instrument, Span};

use super::Api;
use super::failure::RETRY_AFTER;
use super::status::{ApiError, Problem};
use super::transport::{Place, TransportMetrics, Turn, Work};
use crate::app::{App, Pool};
use crate::domain::ids::PoolId;

/// How many messages of one stream may wait for their reader, besides the one that the transport has.
const UNREAD_MESSAGES: usize = 1;

/// The unit in which bytes that wait for their readers are counted.
const UNIT_BYTES: usize = 1_024;

/// The largest message that takes no room: an acknowledgement of the feed never waits because others do not read. A stream has
/// three of them at most.
const SMALL_BYTES: usize = 4_096;

/// How often new pools are looked for.
const NEW_POOLS: Duration = Duration::from_secs(1);

/// Why a stream ends before everything was said.
pub(super) enum End {
    /// The caller is gone.
    Gone,
    /// It is refused.
    Refused(ApiError),
}

impl<E: Into<ApiError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// The bytes that may wait for their readers, of all streams.
#[derive(Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    all: u32,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let all = u32::try_from((bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// What takes more than there is takes all of it, and what is small nothing.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= SMALL_BYTES {
            return None;
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.all);
        self.units.clone().acquire_many_owned(units).await.ok()
    }
}

/// The room that a message takes until the transport has passed it on.
pub(super) struct Room {
    _units: Option<OwnedSemaphorePermit>,
}

/// The way out to the caller.
pub(super) struct Out<T> {
    messages: mpsc::Sender<(T, Room)>,
    budget: Budget,
    longest: Duration,
    metrics: TransportMetrics,
    /// The place of the call; a test's stream may have none.
    call: Option<Arc<Place>>,
}

impl<T: Message> Out<T> {
    /// Sends one message, waiting for its reader so long and no longer.
    pub(super) async fn send(&self, message: T) -> Result<(), End> {
        let room = self.room(message.encoded_len()).await?;
        self.send_in(room, message).await
    }
}

impl<T> Out<T> {
    /// Waits for room for a message of about so many bytes. Who makes large messages asks before making them.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, End> {
        match tokio::time::timeout(self.longest, self.budget.take(bytes)).await {
            Ok(units) => Ok(Room { _units: units }),
            Err(_) => {
                self.metrics.refuse("max_unread_bytes");
                let message = "too much waits to be read; resume the stream from its last cursor".to_owned();
                Err(End::Refused(ApiError::Overloaded { message, retry_after: RETRY_AFTER }))
            }
        }
    }

    /// Sends one message for which there is room.
    pub(super) async fn send_in(&self, room: Room, message: T) -> Result<(), End> {
        match tokio::time::timeout(self.longest, self.messages.send((message, room))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                self.metrics.refuse("unread_timeout_ms");
                let waited = self.longest.as_millis();
                let message =
                    format!("nothing of this stream was read for {waited} ms; resume it from its last cursor");
                Err(End::Refused(ApiError::Contention(Problem::new("STREAM_UNREAD", message))))
            }
        }
    }

    /// Waits until it is the caller's turn, to make a message that costs so many times what one question does.
    pub(super) async fn turn(&self, cost: usize) -> Option<Turn> {
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        match &self.call {
            Some(call) => Some(call.turn(Work::Batch, cost.max(1)).await),
            None => None,
        }
    }

    /// Waits until the caller is gone.
    pub(super) async fn closed(&self) {
        self.messages.closed().await;
    }
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        let (messages, budget, call) = (self.messages.clone(), self.budget.clone(), self.call.clone());
        Self { messages, budget, longest: self.longest, metrics: self.metrics.clone(), call }
    }
}

/// A stream as the server hands it out. Its place and the room of what the transport has are held as long as it lives, so
/// that a reader who does not read is counted.
pub struct Outgoing<T> {
    messages: mpsc::Receiver<(T, Room)>,
    /// What it ends with, where it does not end well.
    end: Option<oneshot::Receiver<Status>>,
    passed: Option<Room>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl<T> Stream for Outgoing<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.passed = None;
        if let Some((message, room)) = ready!(self.messages.poll_recv(context)) {
            self.passed = Some(room);
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(end) = self.end.as_mut() else { return Poll::Ready(None) };
        let end = ready!(Pin::new(end).poll(context));
        self.end = None;
        Poll::Ready(end.ok().map(Err))
    }
}

/// Opens a stream that `serve` fills, in a task of its own, if there is a place for one more.
pub(super) fn open<T: Send + 'static, F>(
    api: &Api,
    span: Span,
    serve: impl FnOnce(Out<T>) -> F,
) -> Result<Response<Outgoing<T>>, Status>
where
    F: Future<Output = Result<(), End>> + Send + 'static,
{
    let place = Arc::new(api.open_stream()?);
    let (messages, unread) = mpsc::channel(UNREAD_MESSAGES);
    let (ends, end) = oneshot::channel();
    let (budget, longest, metrics) = (api.unread.clone(), api.limits.unread, api.metrics.clone());
    let call = Place::current();
    let served = serve(Out { messages, budget, longest, metrics, call: call.clone() });
    let held = (place.clone(), call);
    let task = async move {
        tracing::info!("the stream is open");
        match served.await {
            Ok(()) => tracing::info!("the stream has ended"),
            Err(End::Gone) => tracing::info!("the caller is gone"),
            Err(End::Refused(error)) => {
                super::tell(&error);
                // A caller who is gone needs no reason.
                drop(ends.send(error.into()));
            }
        }
        drop(held);
    };
    tokio::spawn(task.instrument(span));
    Ok(Response::new(Outgoing { messages: unread, end: Some(end), passed: None, _place: place }))
}

/// Serves a stream that only reads: it may end anywhere, with its caller or with the service.
pub(super) async fn until_stopped<T>(
    api: &Api,
    out: &Out<T>,
    serve: impl Future<Output = Result<(), End>>,
) -> Result<(), End> {
    tokio::select! {
        ended = serve => ended,
        () = out.closed() => Err(End::Gone),
        () = api.stopped() => Err(End::Refused(Api::stopping_error())),
    }
}

/// Follows the changes of one pool, or of all, those to come included.
pub(super) struct Follower {
    only: Option<PoolId>,
    seen: BTreeMap<u16, watch::Receiver<u64>>,
}

impl Follower {
    pub(super) fn new(only: Option<PoolId>) -> Self {
        Self { only, seen: BTreeMap::new() }
    }

    /// The pools to look at. What changes in them from here on ends the next wait.
    pub(super) fn pools(&mut self, app: &App) -> Result<Vec<Arc<Pool>>, ApiError> {
        let pools = match &self.only {
            Some(id) => vec![app.pool(id)?],
            None => app.pools(),
        };
        for pool in &pools {
            self.seen.entry(pool.number()).or_insert_with(|| pool.watch()).mark_unchanged();
        }
        Ok(pools)
    }

    /// Waits until a pool has changed, or there may be a new one.
    pub(super) async fn changed(&mut self) {
        let changes: Vec<_> = self.seen.values_mut().map(|seen| seen.changed().map(drop).boxed()).collect();
        if changes.is_empty() {
            tokio::time::sleep(NEW_POOLS).await;
        } else {
            // The time is up: there may be a new pool.
            let _ = tokio::time::timeout(NEW_POOLS, select_all(changes)).await;
        }
    }
}

/// Where a stream over several pools is, per pool number. Its cursor holds the first pools that fit one; what it leaves
/// out is sent again.
pub(super) struct Places<const N: usize>(pub(super) BTreeMap<u16, [u64; N]>);

impl<const N: usize> Places<N> {
    /// The bytes of one pool.
    const EACH: usize = 2 + 8 * N;

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut places = BTreeMap::new();
        for entry in bytes.chunks(Self::EACH) {
            let (pool, mut rest) = entry.split_first_chunk::<2>()?;
            let mut place = [0; N];
            for number in &mut place {
                let (head, tail) = rest.split_first_chunk::<8>()?;
                (*number, rest) = (u64::from_be_bytes(*head), tail);
            }
            places.insert(u16::from_be_bytes(*pool), place);
        }
        Some(Self(places))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let most = super::parse::token::MAX_POSITION_BYTES / Self::EACH;
        let mut bytes = Vec::with_capacity(Self::EACH * self.0.len().min(most));
        for (pool, place) in self.0.iter().take(most) {
            bytes.extend_from_slice(&pool.to_be_bytes());
            place.iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_message_never_waits_because_others_do_not_read() {
        let budget = Budget::new(8 * UNIT_BYTES);
        let (messages, _unread) = mpsc::channel::<((), Room)>(UNREAD_MESSAGES);
        let (longest, metrics) = (Duration::from_secs(60), TransportMetrics::default());
        let out = Out { messages, budget, longest, metrics, call: None };
        let Ok(_all) = out.room(9 * UNIT_BYTES).await else { panic!("there is room") };
        assert!(out.room(SMALL_BYTES).now_or_never().is_some_and(|room| room.is_ok()));
        assert!(out.room(SMALL_BYTES + 1).now_or_never().is_none(), "others have not read");
    }

    #[test]
    fn places_come_back_as_far_as_they_fit() {
        let places: Places<3> = Places((1..=40).map(|pool| (pool, [u64::from(pool), 7, u64::MAX])).collect());
        let bytes = places.encode();
        assert!(bytes.len() <= 256, "{}", bytes.len());
        let back = Places::<3>::decode(&bytes).unwrap().0;
        assert!(back.len() == 9 && back.iter().all(|(pool, place)| places.0[pool] == *place));
        assert!(Places::<3>::decode(&bytes[..bytes.len() - 1]).is_none());
        assert!(Places::<1>::decode(&[]).unwrap().0.is_empty());
    }
}
