//! Records of the service partition: pools, sources, requests, balances put by hand.

use prost::Message;

use super::{Record, RecordError, field, hash, message, units};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AccountId, AssetId, ChainId, PoolId, SourceId};
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// A pool, as created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRecord {
    /// Its name.
    pub id: PoolId,
    /// Its number, which names its partitions and is never reused.
    pub number: u16,
    /// The chain it stakes on.
    pub chain: ChainId,
    /// What it stakes.
    pub asset: AssetId,
    /// Decimals of the asset, for showing.
    pub decimals: u32,
    /// How many partitions its book has.
    pub partitions: u16,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// Start of its period 0.
    pub first_period_start: UnixSeconds,
    /// Whether its chain is the simulated one.
    pub simulated: bool,
}

impl Record for PoolRecord {
    const NAME: &'static str = "pool";

    fn encode(&self) -> Vec<u8> {
        pb::PoolRecord {
            id: self.id.to_string(),
            number: self.number.into(),
            chain: self.chain.to_string(),
            asset: self.asset.to_string(),
            decimals: self.decimals,
            partitions: self.partitions.into(),
            created_at: self.created_at.get(),
            first_period_start: self.first_period_start.get(),
            simulated: self.simulated,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::PoolRecord = message(Self::NAME, bytes)?;
        Ok(Self {
            id: field(Self::NAME, "id", PoolId::new(&record.id))?,
            number: field(Self::NAME, "number", record.number.try_into())?,
            chain: field(Self::NAME, "chain", ChainId::new(&record.chain))?,
            asset: field(Self::NAME, "asset", AssetId::new(&record.asset))?,
            decimals: record.decimals,
            partitions: field(Self::NAME, "partitions", record.partitions.try_into())?,
            created_at: UnixSeconds::new(record.created_at),
            first_period_start: UnixSeconds::new(record.first_period_start),
            simulated: record.simulated,
        })
    }
}

/// A producer of balance events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// Its name.
    pub id: SourceId,
    /// Its number, which stands for it in journals and is never reused.
    pub number: u16,
    /// What it is, for people.
    pub description: String,
    /// Since when it may send.
    pub registered_at: UnixSeconds,
    /// Since when it may not any more.
    pub retired_at: Option<UnixSeconds>,
}

impl Record for SourceRecord {
    const NAME: &'static str = "source";

    fn encode(&self) -> Vec<u8> {
        pb::SourceRecord {
            id: self.id.to_string(),
            number: self.number.into(),
            description: self.description.clone(),
            registered_at: self.registered_at.get(),
            retired_at: self.retired_at.map(UnixSeconds::get),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::SourceRecord = message(Self::NAME, bytes)?;
        Ok(Self {
            id: field(Self::NAME, "id", SourceId::new(&record.id))?,
            number: field(Self::NAME, "number", record.number.try_into())?,
            description: record.description,
            registered_at: UnixSeconds::new(record.registered_at),
            retired_at: record.retired_at.map(UnixSeconds::new),
        })
    }
}

/// The first answer to a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// BLAKE3 of the method and the body.
    pub fingerprint: [u8; 32],
    /// The encoded response.
    pub answer: Vec<u8>,
    /// When it was answered.
    pub at: UnixSeconds,
}

impl Record for RequestRecord {
    const NAME: &'static str = "request";

    fn encode(&self) -> Vec<u8> {
        pb::RequestRecord { fingerprint: self.fingerprint.to_vec(), answer: self.answer.clone(), at: self.at.get() }
            .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::RequestRecord = message(Self::NAME, bytes)?;
        Ok(Self {
            fingerprint: hash(Self::NAME, "fingerprint", record.fingerprint)?,
            answer: record.answer,
            at: UnixSeconds::new(record.at),
        })
    }
}

/// One balance put by hand, durable before it enters the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBalanceIntent {
    /// Its sequence in the source `put-balance`.
    pub sequence: u64,
    /// Whose balance.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// The balance.
    pub balance: BaseUnits,
    /// Since when.
    pub at: UnixSeconds,
}

impl Record for PutBalanceIntent {
    const NAME: &'static str = "put balance";

    fn encode(&self) -> Vec<u8> {
        pb::PutBalanceIntent {
            sequence: self.sequence,
            account: self.account.to_string(),
            asset: self.asset.to_string(),
            base_units: self.balance.to_string(),
            at: self.at.get(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::PutBalanceIntent = message(Self::NAME, bytes)?;
        Ok(Self {
            sequence: record.sequence,
            account: field(Self::NAME, "account", AccountId::new(&record.account))?,
            asset: field(Self::NAME, "asset", AssetId::new(&record.asset))?,
            balance: units(Self::NAME, "base_units", &record.base_units)?,
            at: UnixSeconds::new(record.at),
        })
    }
}
