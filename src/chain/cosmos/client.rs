//! Sends transactions and asks what became of them. Called by the adapter of this room only.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message as _;
use tonic::Code;
use tonic::transport::Channel;

use super::config::Terms;
use super::endpoints::{Endpoints, Node};
use super::fate::{self, Account, Consumer, Fate, Said};
use super::transaction::Place;
use crate::chain::{ChainError, Signed};
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

/// The sequence after the last transaction that a node took of us, for as long as that one may be included. A hint, so that
/// several transactions can wait for one block; a wrong one costs a refusal by the node and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    next: u64,
    until: u64,
}

/// The side of the adapter that writes.
pub(super) struct Client {
    pub(super) terms: Terms,
    endpoints: Endpoints,
    waiting: Mutex<Option<Waiting>>,
}

impl Client {
    pub(super) fn new(terms: Terms, endpoints: Endpoints) -> Self {
        Self { terms, endpoints, waiting: Mutex::default() }
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
        let sequence = next_sequence(&account, *self.waiting());
        Ok(Place { account_number: account.number, sequence, timeout_height })
    }

    /// Broadcasts, and waits until a node has checked it (BROADCAST_MODE_SYNC).
    pub(super) async fn broadcast(&self, signed: &Signed) -> Result<(), ChainError> {
        let (nonce, last) = fate::life(&signed.lifetime)?;
        let answer = self.endpoints.ask(|node| async move {
            let request = BroadcastTxRequest { tx_bytes: signed.bytes.clone(), mode: BroadcastMode::Sync.into() };
            let answer = service(&node.grpc).broadcast_tx(request).await.map_err(|status| node.unavailable(&status))?;
            answer.into_inner().tx_response.ok_or_else(|| node.untrusted("an answer without a result"))
        });
        let answer = answer.await?;
        let judged = fate::broadcast(&signed.transaction, &answer);
        let mut waiting = self.waiting();
        if judged.is_ok() {
            let (next, until) = (nonce.saturating_add(1), last);
            let further = waiting.filter(|waiting| waiting.next > next && waiting.until >= until);
            *waiting = further.or(Some(Waiting { next, until }));
        } else if fate::is_wrong_sequence(&answer) {
            *waiting = None;
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
            Ok((fate::judge(&account, last, said, consumer)?, node))
        });
        let (fate, node) = asked.await?;
        if matches!(fate, Fate::AbsentForGood | Fate::Void { .. }) {
            *self.waiting() = None;
        }
        Ok((fate, node))
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The sequence of the next transaction: the account's, or the one after all that wait.
fn next_sequence(account: &Account, waiting: Option<Waiting>) -> u64 {
    let alive = waiting.filter(|waiting| account.height < waiting.until);
    alive.map_or(account.sequence, |waiting| waiting.next.max(account.sequence))
}

fn service(grpc: &Channel) -> ServiceClient<Channel> {
    ServiceClient::new(grpc.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
}
