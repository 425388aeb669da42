//! Records of the ledger and of its postings.

use prost::Message;

use super::{Record, RecordError, field, message, required, signed};
use crate::domain::amount::SignedUnits;
use crate::domain::ledger::{Account, Entry, Ledger, Leg};
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// The ledger of a pool as stored: without the principal leg, which the book derives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerRecord {
    /// Grows with every change of the pool's control records.
    pub version: u64,
    /// How many postings led here: the number of the last one.
    pub postings: u64,
    /// The last number given to an operation or a transfer.
    pub sequence: u64,
    /// The balances.
    pub ledger: Ledger,
}

fn legs_to_pb<'a>(legs: impl IntoIterator<Item = (&'a Account, SignedUnits)>) -> Vec<pb::AmountOf> {
    legs.into_iter()
        .map(|(account, amount)| pb::AmountOf { name: account.to_string(), base_units: amount.to_string() })
        .collect()
}

fn legs_from_pb(name: &'static str, legs: &[pb::AmountOf]) -> Result<Vec<(Account, SignedUnits)>, RecordError> {
    legs.iter()
        .map(|leg| {
            let account = required(name, &format!("the account {}", leg.name), Account::parse(&leg.name))?;
            Ok((account, signed(name, &leg.name, &leg.base_units)?))
        })
        .collect()
}

impl Record for LedgerRecord {
    const NAME: &'static str = "ledger";

    fn encode(&self) -> Vec<u8> {
        pb::LedgerRecord {
            version: self.version,
            postings: self.postings,
            sequence: self.sequence,
            balances: legs_to_pb(self.ledger.balances()),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::LedgerRecord = message(Self::NAME, bytes)?;
        let balances = legs_from_pb(Self::NAME, &record.balances)?;
        Ok(Self {
            version: record.version,
            postings: record.postings,
            sequence: record.sequence,
            ledger: field(Self::NAME, "balances", Ledger::from_balances(balances))?,
        })
    }
}

/// One posting, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostingRecord {
    /// Its place among the pool's postings, from 1.
    pub sequence: u64,
    /// When it took effect.
    pub at: UnixSeconds,
    /// The stable name of why it was made.
    pub reason: String,
    /// What it is about: an operation, an effect, a transfer, a revision.
    pub subject: String,
    /// What it moved.
    pub legs: Vec<Leg>,
}

impl PostingRecord {
    /// The record of an entry.
    pub fn new(sequence: u64, at: UnixSeconds, entry: &Entry) -> Self {
        let reason = entry.reason();
        Self { sequence, at, reason: reason.name().to_owned(), subject: reason.subject(), legs: entry.legs().to_vec() }
    }
}

impl Record for PostingRecord {
    const NAME: &'static str = "posting";

    fn encode(&self) -> Vec<u8> {
        pb::PostingRecord {
            sequence: self.sequence,
            at: self.at.get(),
            reason: self.reason.clone(),
            subject: self.subject.clone(),
            legs: legs_to_pb(self.legs.iter().map(|leg| (&leg.account, leg.change))),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::PostingRecord = message(Self::NAME, bytes)?;
        let legs = legs_from_pb(Self::NAME, &record.legs)?;
        Ok(Self {
            sequence: record.sequence,
            at: UnixSeconds::new(record.at),
            reason: record.reason,
            subject: record.subject,
            legs: legs.into_iter().map(|(account, change)| Leg { account, change }).collect(),
        })
    }
}
