//! Streams that are read: payouts, transfers, a pool's state. Each resumes after the last item that it gave out.

use std::collections::BTreeMap;
use std::future::Future;

use tonic::{Response, Status, Streaming};

use crate::pb::v1;

use super::Client;
use super::error::{ClientError, Refusal};
use super::retry::{Attempts, once};

/// One kind of stream. Only this module makes them.
pub trait Kind: private::Kind {}

impl<K: private::Kind> Kind for K {}

/// Reads a stream, and opens it anew after the last item given out when the connection breaks.
#[derive(Debug)]
pub struct Reader<K: Kind> {
    client: Client,
    kind: K,
    cursor: String,
    until_caught_up: bool,
    inbound: Option<Streaming<K::Item>>,
    attempts: Attempts,
}

/// Reads released payouts, in batches.
pub type PayoutReader = Reader<Payouts>;

/// Reads transfers to carry out or to expect.
pub type TransferReader = Reader<Transfers>;

/// Reads a pool's state whenever it changes.
pub type PoolWatcher = Reader<PoolStates>;

/// The stream of payouts.
#[derive(Debug)]
pub struct Payouts {
    pool: String,
    /// By distribution and revision: the index that has to come next.
    next: BTreeMap<(String, u32), u64>,
}

/// The stream of transfers.
#[derive(Debug)]
pub struct Transfers {
    pool: String,
}

/// The stream of a pool's states.
#[derive(Debug)]
pub struct PoolStates {
    name: String,
}

mod private {
    use super::*;

    pub trait Kind: Send + Sync {
        type Item: Send;

        fn open(
            &self,
            client: &Client,
            cursor: String,
            until_caught_up: bool,
        ) -> impl Future<Output = Result<Response<Streaming<Self::Item>>, Status>> + Send;

        fn cursor(item: &Self::Item) -> &str;

        fn check(&mut self, item: &Self::Item) -> Result<(), ClientError>;
    }
}

impl private::Kind for Payouts {
    type Item = v1::StreamPayoutsResponse;

    async fn open(
        &self,
        client: &Client,
        cursor: String,
        end_when_caught_up: bool,
    ) -> Result<Response<Streaming<Self::Item>>, Status> {
        let pool = self.pool.clone();
        let request = v1::StreamPayoutsRequest { pool, cursor, max_batch_size: 0, end_when_caught_up };
        client.payout_service().stream_payouts(request).await
    }

    fn cursor(item: &Self::Item) -> &str {
        &item.cursor
    }

    /// A gap within a distribution would be payouts that nobody credits.
    fn check(&mut self, item: &Self::Item) -> Result<(), ClientError> {
        let distribution = (item.distribution.clone(), item.revision);
        let expected = self.next.get(&distribution).copied();
        if let Some(expected) = expected.filter(|expected| item.first_index > *expected) {
            return Err(ClientError::Contradiction(format!(
                "payouts {expected} to {} of {} are missing",
                item.first_index - 1,
                item.distribution
            )));
        }
        let next = item.first_index.saturating_add(item.payouts.len() as u64).max(expected.unwrap_or(0));
        if item.last {
            self.next.remove(&distribution);
        } else {
            self.next.insert(distribution, next);
        }
        Ok(())
    }
}

impl private::Kind for Transfers {
    type Item = v1::StreamTransfersResponse;

    async fn open(
        &self,
        client: &Client,
        cursor: String,
        end_when_caught_up: bool,
    ) -> Result<Response<Streaming<Self::Item>>, Status> {
        let request = v1::StreamTransfersRequest { pool: self.pool.clone(), cursor, end_when_caught_up };
        client.transfer_service().stream_transfers(request).await
    }

    fn cursor(item: &Self::Item) -> &str {
        &item.cursor
    }

    fn check(&mut self, _: &Self::Item) -> Result<(), ClientError> {
        Ok(())
    }
}

impl private::Kind for PoolStates {
    type Item = v1::WatchPoolResponse;

    async fn open(&self, client: &Client, _: String, _: bool) -> Result<Response<Streaming<Self::Item>>, Status> {
        client.pool_service().watch_pool(v1::WatchPoolRequest { name: self.name.clone() }).await
    }

    fn cursor(_: &Self::Item) -> &str {
        ""
    }

    fn check(&mut self, _: &Self::Item) -> Result<(), ClientError> {
        Ok(())
    }
}

impl Client {
    /// Reads released payouts of `pool` (`pools/{pool}`, or empty for every pool), after the stored `cursor`, or, where
    /// that is empty, from the first payout that is not acknowledged.
    pub fn payouts(&self, pool: &str, cursor: &str) -> PayoutReader {
        self.reader(Payouts { pool: pool.to_owned(), next: BTreeMap::new() }, cursor)
    }

    /// Reads the transfers of `pool` (`pools/{pool}`, or empty for every pool), after the stored `cursor`, or, where that
    /// is empty, from every transfer that is not terminal.
    pub fn transfers(&self, pool: &str, cursor: &str) -> TransferReader {
        self.reader(Transfers { pool: pool.to_owned() }, cursor)
    }

    /// Reads the state of the pool `name` (`pools/{pool}`) now and whenever it changes.
    pub fn watch_pool(&self, name: &str) -> PoolWatcher {
        self.reader(PoolStates { name: name.to_owned() }, "")
    }

    fn reader<K: Kind>(&self, kind: K, cursor: &str) -> Reader<K> {
        let attempts = Attempts::new(&self.options);
        Reader {
            client: self.clone(),
            kind,
            cursor: cursor.to_owned(),
            until_caught_up: false,
            inbound: None,
            attempts,
        }
    }
}

impl<K: Kind> Reader<K> {
    /// Ends once everything known has been read, instead of waiting for more.
    #[must_use]
    pub fn until_caught_up(mut self) -> Self {
        self.until_caught_up = true;
        self
    }

    /// The cursor of the last item given out: what to store, once that item is dealt with.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The next item; `None` at the end, which comes only with [`Self::until_caught_up`]. May be dropped while it waits.
    pub async fn next(&mut self) -> Result<Option<K::Item>, ClientError> {
        loop {
            match self.turn().await {
                Ok(Some(item)) => {
                    self.attempts = Attempts::new(&self.client.options);
                    self.kind.check(&item)?;
                    K::cursor(&item).clone_into(&mut self.cursor);
                    return Ok(Some(item));
                }
                Ok(None) if self.until_caught_up => {
                    self.inbound = None;
                    return Ok(None);
                }
                Ok(None) => self.again(Status::unavailable("the server ended the stream").into()).await?,
                Err(refusal) => self.again(refusal).await?,
            }
        }
    }

    async fn again(&mut self, refusal: Refusal) -> Result<(), ClientError> {
        self.inbound = None;
        self.attempts.wait(refusal).await
    }

    async fn turn(&mut self) -> Result<Option<K::Item>, Refusal> {
        let inbound = match &mut self.inbound {
            Some(inbound) => inbound,
            none => {
                let opening = self.kind.open(&self.client, self.cursor.clone(), self.until_caught_up);
                none.insert(once(self.client.options.deadline, opening).await?)
            }
        };
        inbound.message().await.map_err(Refusal::from)
    }
}

/// The acknowledgement of everything up to and including `batch`, but for what is `rejected`.
pub fn acknowledge(batch: &v1::StreamPayoutsResponse, rejected: Vec<v1::RejectedPayout>) -> v1::AckPayoutsRequest {
    v1::AckPayoutsRequest {
        request_id: String::new(),
        distribution: batch.distribution.clone(),
        revision: batch.revision,
        distribution_hash: batch.distribution_hash.clone(),
        acknowledged_count: batch.first_index.saturating_add(batch.payouts.len() as u64),
        rejected,
    }
}
