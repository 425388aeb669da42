//! Sends transactions and asks what became of them. Called by the adapter of this room only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message as _;
use tonic::Code;
use tonic::transport::Channel;

use super::config::Terms;
use super::endpoints::{Endpoints, Node};
use super::fate::{self, Account, Consumer, Fate, Said};
use super::transaction::Place;
use crate::chain::{ChainError, Signed};
use crate::domain::ids::TransactionId;
use crate::pb::cosmos::auth::v1beta1::query_client::QueryClient;
use crate::pb::cosmos::auth::v1beta1::{BaseAccount, QueryAccountRequest};
use crate::pb::cosmos::base::abci::v1beta1::TxResponse;
use crate::pb::cosmos::tx::v1beta1::service_client::ServiceClient;
use crate::pb::cosmos::tx::v1beta1::{BroadcastMode, BroadcastTxRequest, GetTxRequest, GetTxsEventRequest, OrderBy};

/// What an account is, if it is an ordinary one. One that vests holds tokens that can't be sent, and is refused.
const BASE_ACCOUNT: &str = "/cosmos.auth.v1beta1.BaseAccount";

/// The name of the metadata that says which height an answer is of.
const HEIGHT: &str = "x-cosmos-block-height";

/// The most bytes of one answer: a transaction, or two.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// For so many blocks a transaction that a node took counts as seen. After that it may have been dropped, and is sent again.
const SEEN_BLOCKS: u64 = 5;

/// What nodes took of us. Hints, kept in memory only: a wrong or a lost one costs a refusal by a node, or a broadcast of the
/// same bytes, and no more.
#[derive(Debug, Default)]
struct Taken {
    /// The sequence after the last transaction taken, so that several can wait for one block.
    next: u64,
    /// The last height at which that one can be included, and the hint counts.
    until: u64,
    /// By transaction, up to which height it counts as seen.
    seen: BTreeMap<TransactionId, u64>,
}

impl Taken {
    /// A node at `height` took a transaction.
    fn took(&mut self, transaction: &TransactionId, nonce: u64, last: u64, height: u64) {
        self.seen.retain(|_, until| *until > height);
        self.seen.insert(transaction.clone(), height.saturating_add(SEEN_BLOCKS));
        let next = nonce.saturating_add(1);
        if next >= self.next || self.until < last {
            (self.next, self.until) = (next, last);
        }
    }

    /// The sequence of the next transaction: the account's, or the one after all that wait.
    const fn next_sequence(&self, account: &Account) -> u64 {
        let counts = account.height < self.until && self.next > account.sequence;
        if counts { self.next } else { account.sequence }
    }

    /// Whether a transaction that is nowhere at `height` may well wait for its block.
    fn waits(&self, transaction: &TransactionId, height: u64) -> bool {
        self.seen.get(transaction).is_some_and(|until| height < *until)
    }

    /// Nothing is known to wait any more.
    fn forget(&mut self) {
        (self.next, self.until) = (0, 0);
    }
}

/// The side of the adapter that writes.
pub(super) struct Client {
    pub(super) terms: Terms,
    endpoints: Endpoints,
    taken: Mutex<Taken>,
}

impl Client {
    pub(super) fn new(terms: Terms, endpoints: Endpoints) -> Self {
        Self { terms, endpoints, taken: Mutex::default() }
    }

    /// The nodes.
    pub(super) const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The place of the next transaction.
    pub(super) async fn place(&self) -> Result<Place, ChainError> {
        let account = self.endpoints.ask(|node| async move { self.account(&node).await }).await?;
        let timeout_height = account.height.checked_add(self.terms.config.timeout_blocks);
        let timeout_height =
            timeout_height.ok_or_else(|| ChainError::Untrusted("a height beyond all bounds".to_owned()))?;
        let sequence = self.taken().next_sequence(&account);
        Ok(Place { account_number: account.number, sequence, timeout_height })
    }

    /// Broadcasts, and waits until a node has checked it (BROADCAST_MODE_SYNC).
    pub(super) async fn broadcast(&self, signed: &Signed) -> Result<(), ChainError> {
        let (nonce, last) = fate::life(&signed.lifetime)?;
        let answer = self.endpoints.ask(|node| async move {
            let request = BroadcastTxRequest { tx_bytes: signed.bytes.clone(), mode: BroadcastMode::Sync.into() };
            let answer = service(&node.grpc).broadcast_tx(request).await.map_err(|status| node.unavailable(&status))?;
            let answer = answer.into_inner().tx_response;
            Ok((answer.ok_or_else(|| node.untrusted("an answer without a result"))?, node.height()))
        });
        let (answer, height) = answer.await?;
        let judged = fate::broadcast(&signed.transaction, &answer);
        if judged.is_ok() {
            self.taken().took(&signed.transaction, nonce, last, height);
        } else if fate::is_wrong_sequence(&answer) {
            self.taken().forget();
        }
        judged
    }

    /// What became of a transaction, and the node that said so.
    pub(super) async fn fate(&self, signed: &Signed) -> Result<(Fate, Node), ChainError> {
        let (nonce, last) = fate::life(&signed.lifetime)?;
        let asked = self.endpoints.ask(|node| async move {
            // In this order: what is found later can only be newer than the account.
            let account = self.account(&node).await?;
            let found = self.find(&node, signed).await?;
            let said = fate::said(&self.terms.address, &signed.transaction, &signed.lifetime, found.as_ref())?;
            let open = account.sequence > nonce && !matches!(said, Said::Last(_));
            let consumer = if open { Some(self.consumer(&node, signed, nonce).await?) } else { None };
            let fate = fate::judge(&account, last, said, consumer)?;
            let waits = fate == Fate::Absent && self.taken().waits(&signed.transaction, account.height);
            Ok((if waits { Fate::Pending } else { fate }, node))
        });
        let (fate, node) = asked.await?;
        if matches!(fate, Fate::AbsentForGood | Fate::Void { .. }) {
            self.taken().forget();
        }
        Ok((fate, node))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The staking account as `node` has it.
    async fn account(&self, node: &Node) -> Result<Account, ChainError> {
        let request = QueryAccountRequest { address: self.terms.address.clone() };
        let mut client = QueryClient::new(node.grpc.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = client.account(request).await.map_err(|status| node.unavailable(&status))?;
        let height = answer.metadata().get(HEIGHT).and_then(|height| height.to_str().ok()?.parse().ok());
        let height: u64 = height.ok_or_else(|| ChainError::Unavailable(format!("an answer without {HEIGHT}")))?;
        if !node.is_current(height) {
            return Err(ChainError::Unavailable(format!("an answer of the height {height}, which is past")));
        }
        let account = answer.into_inner().account.ok_or_else(|| node.untrusted("an answer without an account"))?;
        if account.type_url != BASE_ACCOUNT {
            return Err(node.untrusted(format!("the staking address is a {:?}", account.type_url)));
        }
        let account = BaseAccount::decode(account.value.as_slice()).map_err(|error| node.untrusted(error))?;
        if account.address != self.terms.address {
            return Err(node.untrusted(format!("asked for {}, got {:?}", self.terms.address, account.address)));
        }
        Ok(Account { height, number: account.account_number, sequence: account.sequence })
    }

    /// The transaction, if the node's index has it. A node without an index says so, and that is no answer.
    async fn find(&self, node: &Node, signed: &Signed) -> Result<Option<TxResponse>, ChainError> {
        let request = GetTxRequest { hash: signed.transaction.as_str().to_owned() };
        match service(&node.grpc).get_tx(request).await {
            Ok(answer) => {
                let found = answer.into_inner().tx_response;
                found.map(Some).ok_or_else(|| node.untrusted("an answer without a result"))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(node.unavailable(&status)),
        }
    }

    /// Whose transaction consumed our sequence `nonce`.
    async fn consumer(&self, node: &Node, signed: &Signed, nonce: u64) -> Result<Consumer, ChainError> {
        let value = fate::account_sequence(&self.terms.address, nonce);
        let request = GetTxsEventRequest {
            order_by: OrderBy::Asc.into(),
            page: 1,
            limit: 2,
            query: format!("tx.acc_seq='{value}'"),
        };
        let answer = service(&node.grpc).get_txs_event(request).await.map_err(|status| node.unavailable(&status))?;
        match answer.into_inner().tx_responses.as_slice() {
            [] => Ok(Consumer::Unknown),
            [one] if !fate::consumes(&one.events, &self.terms.address, nonce) => {
                Err(node.untrusted(format!("{} does not have the event that was asked for", one.txhash)))
            }
            [one] if one.txhash == signed.transaction.as_str() => Ok(Consumer::Ours),
            [_] => Ok(Consumer::Another),
            _ => Err(node.untrusted(format!("two transactions consumed the sequence {nonce}"))),
        }
    }
}

fn service(grpc: &Channel) -> ServiceClient<Channel> {
    ServiceClient::new(grpc.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
}
