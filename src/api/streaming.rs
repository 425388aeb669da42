//! What every stream out of the service has in common: bounded, ended with the caller or the service, never stalled for
//! ever by a caller who does not read.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use tracing::{Instrument, Span};

use super::Api;
use super::status::ApiError;
use crate::app::{App, Pool};
use crate::domain::ids::PoolId;

/// A stream as the server hands it out.
pub type Outgoing<T> = ReceiverStream<Result<T, Status>>;

/// How many messages may wait for their reader.
const UNREAD_MESSAGES: usize = 16;

/// How long a message may wait for its reader before the stream ends.
const UNREAD: Duration = Duration::from_secs(60);

/// How often new pools are looked for.
const NEW_POOLS: Duration = Duration::from_secs(1);

/// Why a stream ends before everything was said.
pub(super) enum End {
    /// The caller is gone, or reads no more.
    Gone,
    /// It is refused.
    Refused(ApiError),
}

impl<E: Into<ApiError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// The way out to the caller.
pub(super) struct Out<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Out<T> {
    /// Sends one message, waiting for its reader so long and no longer.
    pub(super) async fn send(&self, message: T) -> Result<(), End> {
        match tokio::time::timeout(UNREAD, self.0.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Waits until the caller is gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
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
    let place = api.open_stream()?;
    let (sender, receiver) = mpsc::channel(UNREAD_MESSAGES);
    let served = serve(Out(sender.clone()));
    let task = async move {
        tracing::info!("the stream is open");
        match served.await {
            Ok(()) => tracing::info!("the stream has ended"),
            Err(End::Gone) => tracing::info!("the caller is gone"),
            Err(End::Refused(error)) => {
                super::tell(&error);
                // A caller who is gone needs no reason.
                let _ = tokio::time::timeout(UNREAD, sender.send(Err(error.into()))).await;
            }
        }
        drop(place);
    };
    tokio::spawn(task.instrument(span));
    Ok(Response::new(ReceiverStream::new(receiver)))
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
