//! Blocks and their results as CometBFT's JSON-RPC tells them (0.38, `/block`, `/block_results`): read here, by this room's
//! readers, and by nobody else.
//!
//! It is where the events of a block itself are (matured unbondings, slashes): gRPC has those of transactions alone.

use data_encoding::{BASE64, HEXUPPER};
use prost::Message;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::chain::ChainError;
use crate::domain::ids::TransactionId;
use crate::domain::time::UnixSeconds;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// How, in the chain's order.
    #[serde(default, deserialize_with = "or_empty")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Attribute {
    key: String,
    #[serde(default, deserialize_with = "or_empty")]
    value: String,
}

impl Event {
    /// The first value of that name.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.key == key).map(|attribute| attribute.value.as_str())
    }

    /// Whether a value of that name is this one.
    pub fn is(&self, key: &str, value: &str) -> bool {
        self.get(key) == Some(value)
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(|attribute| attribute.value.as_str())
    }
}

/// A transaction that stands in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The SHA-256 of its bytes, as the chain writes it.
    pub hash: TransactionId,
    /// Its memo.
    pub memo: String,
    /// Its events, those of its fee alone where it failed.
    pub events: Vec<Event>,
}

/// A block and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its height.
    pub height: u64,
    /// Its time.
    pub at: UnixSeconds,
    /// Its transactions.
    pub transactions: Vec<Transaction>,
    /// What happened in it by itself, each with an attribute `mode`: `BeginBlock` or `EndBlock`.
    pub events: Vec<Event>,
}

/// The results of a block, which do not name its transactions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Results {
    height: String,
    #[serde(default, deserialize_with = "or_empty")]
    txs_results: Vec<TransactionResult>,
    #[serde(default, deserialize_with = "if_there")]
    finalize_block_events: Option<Vec<Event>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct TransactionResult {
    #[serde(default, deserialize_with = "or_empty")]
    events: Vec<Event>,
}

/// A header and the bytes of the transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The chain that the block is of.
    pub chain: String,
    /// Its height.
    pub height: u64,
    /// Its time.
    pub at: UnixSeconds,
    transactions: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
    #[serde(default, deserialize_with = "or_empty")]
    data: String,
}

#[derive(Deserialize)]
struct BlockAnswer {
    block: BlockJson,
}

#[derive(Deserialize)]
struct BlockJson {
    header: HeaderJson,
    data: DataJson,
}

#[derive(Deserialize)]
struct HeaderJson {
    chain_id: String,
    height: String,
    time: String,
}

#[derive(Deserialize)]
struct DataJson {
    #[serde(default, deserialize_with = "or_empty")]
    txs: Vec<String>,
}

#[derive(Deserialize)]
struct QueryAnswer {
    response: QueryJson,
}

#[derive(Deserialize)]
struct QueryJson {
    #[serde(default)]
    code: u32,
    #[serde(default, deserialize_with = "or_empty")]
    log: String,
    #[serde(default, deserialize_with = "or_empty")]
    value: String,
    height: String,
}

/// A transaction's bytes, as far as the memo.
#[derive(Clone, PartialEq, Message)]
struct RawBytes {
    #[prost(bytes = "vec", tag = "1")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(string, tag = "2")]
    memo: String,
}

/// A `null` is as good as nothing.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// What is there, if only as `null`, told from what is not.
fn if_there<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<Option<T>, D::Error> {
    or_empty(from).map(Some)
}

fn untrusted(what: impl std::fmt::Display) -> ChainError {
    ChainError::Untrusted(what.to_string())
}

/// What CometBFT answered: an error of its own is no answer (a height that it has not or no longer has).
fn answer<T: for<'de> Deserialize<'de>>(json: &[u8], what: &str) -> Result<T, ChainError> {
    let answer: Answer<T> = serde_json::from_slice(json).map_err(|error| untrusted(format!("{what}: {error}")))?;
    match (answer.result, answer.error) {
        (_, Some(error)) => Err(ChainError::Unavailable(format!("{what}: {}: {}", error.message, error.data))),
        (Some(result), None) => Ok(result),
        (None, None) => Err(untrusted(format!("{what}: neither a result nor an error"))),
    }
}

fn height_of(digits: &str) -> Result<u64, ChainError> {
    digits.parse().map_err(|_| untrusted(format!("{digits:?} is no height")))
}

/// The moment that an RFC 3339 text names, floored to the second.
pub(super) fn time_of(text: &str) -> Result<UnixSeconds, ChainError> {
    let time: jiff::Timestamp = text.parse().map_err(|error| untrusted(format!("a block's time: {error}")))?;
    Ok(UnixSeconds::new(time.as_nanosecond().div_euclid(1_000_000_000).try_into().map_err(untrusted)?))
}

fn same_height(what: &str, asked: u64, got: u64) -> Result<(), ChainError> {
    if asked == got { Ok(()) } else { Err(untrusted(format!("asked for {what} {asked}, got that of {got}"))) }
}

impl Results {
    /// Of `/block_results`, which have to be those of `height`.
    pub fn read(json: &[u8], height: u64) -> Result<Self, ChainError> {
        let results: Self = answer(json, "the results of a block")?;
        same_height("the results of block", height, height_of(&results.height)?)?;
        if results.finalize_block_events.is_none() {
            return Err(untrusted("a block's results without finalize_block_events: CometBFT 0.38 is needed"));
        }
        Ok(results)
    }

    /// All events, of transactions and of the block itself.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let own = self.finalize_block_events.iter().flatten();
        self.txs_results.iter().flat_map(|transaction| &transaction.events).chain(own)
    }

    /// With the names and memos of the transactions.
    pub fn of(self, header: &Header) -> Result<Block, ChainError> {
        let Header { height, at, transactions, .. } = header;
        same_height("block", height_of(&self.height)?, *height)?;
        if self.txs_results.len() != transactions.len() {
            let (results, there) = (self.txs_results.len(), transactions.len());
            return Err(untrusted(format!("block {height} has {there} transactions and {results} results")));
        }
        let both = transactions.iter().zip(self.txs_results);
        let transactions = both.map(|(bytes, result)| transaction(bytes, result.events)).collect::<Result<_, _>>()?;
        Ok(Block { height: *height, at: *at, transactions, events: self.finalize_block_events.unwrap_or_default() })
    }
}

impl Header {
    /// Of `/block`, which has to be that of `height` on `chain`.
    pub fn read(json: &[u8], height: u64, chain: &str) -> Result<Self, ChainError> {
        let BlockAnswer { block } = answer(json, "a block")?;
        if block.header.chain_id != chain {
            return Err(untrusted(format!("a block of {:?} and not of {chain}", block.header.chain_id)));
        }
        let got = height_of(&block.header.height)?;
        same_height("block", height, got)?;
        let decode = |text: &String| BASE64.decode(text.as_bytes()).map_err(untrusted);
        let transactions = block.data.txs.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Self { chain: block.header.chain_id, height, at: time_of(&block.header.time)?, transactions })
    }
}

/// Of `/abci_query`: what the node's store has under a key at `height`. `None` where it has nothing.
pub fn stored(json: &[u8], height: u64) -> Result<Option<Vec<u8>>, ChainError> {
    let QueryAnswer { response } = answer(json, "the node's store")?;
    if response.code != 0 {
        return Err(ChainError::Unavailable(format!("the node's store: {}", response.log)));
    }
    same_height("the store at", height, height_of(&response.height)?)?;
    let value = BASE64.decode(response.value.as_bytes()).map_err(untrusted)?;
    Ok((!value.is_empty()).then_some(value))
}

/// Transactions whose bytes are no transaction stand in no block, but for what a proposer slips in: it has no memo then.
fn transaction(bytes: &[u8], events: Vec<Event>) -> Result<Transaction, ChainError> {
    let hash = TransactionId::new(&HEXUPPER.encode(&Sha256::digest(bytes))).map_err(untrusted)?;
    let raw = RawBytes::decode(bytes).ok();
    let body = raw.and_then(|raw| Body::decode(raw.body.as_slice()).ok());
    Ok(Transaction { hash, memo: body.map(|body| body.memo).unwrap_or_default(), events })
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
