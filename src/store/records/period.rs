//! Records of periods, and of how far a chain is booked and reconciled.

use prost::Message;
use ruint::aliases::U256;

use super::{PolicyRecord, Record, RecordError, field, message, required, signed, units, wide};
use crate::domain::adjustment::AdjustedSum;
use crate::domain::amount::SignedUnits;
use crate::domain::forecast::Outflow;
use crate::domain::period::{PeriodBounds, PeriodIndex, PeriodState};
use crate::domain::policy::PoolPolicy;
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// A period of a pool, from its opening on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodRecord {
    /// Which.
    pub index: PeriodIndex,
    /// When.
    pub bounds: PeriodBounds,
    /// Where it stands.
    pub state: PeriodState,
    /// The snapshot of the policy that it keeps.
    pub policy: PoolPolicy,
    /// That it is decided to freeze it: the book does so, whatever happens in between.
    pub closing: Option<Closing>,
    /// What the freeze found; `None` while it is open.
    pub frozen: Option<FrozenFacts>,
}

/// The decision that a period freezes, durable before the book is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// When it was decided.
    pub at: UnixSeconds,
    /// Whether some source had not vouched for the end.
    pub by_grace: bool,
}

/// What a freeze found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrozenFacts {
    /// When it was frozen.
    pub at: UnixSeconds,
    /// The sum of all weights, without the house's.
    pub weight_total: U256,
    /// How many positions have a weight.
    pub positive_count: u64,
    /// Whether the grace ran out before every source had vouched for the end.
    pub by_grace: bool,
    /// What late events changed in its weights.
    pub adjusted: AdjustedSum,
}

impl Record for PeriodRecord {
    const NAME: &'static str = "period";

    fn encode(&self) -> Vec<u8> {
        let policy = PolicyRecord { from_period: self.index.0, policy: self.policy.clone() };
        let state = match self.state {
            PeriodState::Open => "open",
            PeriodState::Frozen => "frozen",
            PeriodState::Distributed => "distributed",
        };
        pb::PeriodRecord {
            index: self.index.0,
            start: self.bounds.start.get(),
            end: self.bounds.end.get(),
            state: state.to_owned(),
            policy: Some(policy.to_pb()),
            frozen_at: self.frozen.map(|frozen| frozen.at.get()),
            weight_total: self.frozen.map(|frozen| frozen.weight_total.to_string()).unwrap_or_default(),
            positive_count: self.frozen.map_or(0, |frozen| frozen.positive_count),
            frozen_by_grace: self.frozen.is_some_and(|frozen| frozen.by_grace),
            closing_at: self.closing.map(|closing| closing.at.get()),
            closing_by_grace: self.closing.is_some_and(|closing| closing.by_grace),
            weight_added: self.frozen.map(|frozen| frozen.adjusted.up.to_string()).unwrap_or_default(),
            weight_taken: self.frozen.map(|frozen| frozen.adjusted.down.to_string()).unwrap_or_default(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::PeriodRecord = message(name, bytes)?;
        let start = UnixSeconds::new(record.start);
        let seconds = UnixSeconds::new(record.end).since(start);
        let seconds = field(name, "end", u32::try_from(seconds))?;
        let state = match record.state.as_str() {
            "open" => PeriodState::Open,
            "frozen" => PeriodState::Frozen,
            "distributed" => PeriodState::Distributed,
            other => return field(name, "state", Err(format!("{other} is none"))),
        };
        let frozen = match record.frozen_at {
            None => None,
            Some(at) => Some(FrozenFacts {
                at: UnixSeconds::new(at),
                weight_total: wide(name, "weight_total", &record.weight_total)?,
                positive_count: record.positive_count,
                by_grace: record.frozen_by_grace,
                adjusted: AdjustedSum {
                    up: wide(name, "weight_added", &record.weight_added)?,
                    down: wide(name, "weight_taken", &record.weight_taken)?,
                },
            }),
        };
        Ok(Self {
            index: PeriodIndex(record.index),
            bounds: field(name, "end", PeriodBounds::new(start, seconds))?,
            state,
            policy: PolicyRecord::from_pb(&required(name, "policy", record.policy)?)?.policy,
            closing: record
                .closing_at
                .map(|at| Closing { at: UnixSeconds::new(at), by_grace: record.closing_by_grace }),
            frozen,
        })
    }
}

impl Record for Outflow {
    const NAME: &'static str = "outflow";

    fn encode(&self) -> Vec<u8> {
        pb::OutflowRecord {
            first: self.first.to_string(),
            last: self.last.to_string(),
            highest: self.highest.to_string(),
            lowest: self.lowest.to_string(),
            drawdown: self.drawdown.to_string(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::OutflowRecord = message(name, bytes)?;
        Ok(Self {
            first: signed(name, "first", &record.first)?,
            last: signed(name, "last", &record.last)?,
            highest: signed(name, "highest", &record.highest)?,
            lowest: signed(name, "lowest", &record.lowest)?,
            drawdown: units(name, "drawdown", &record.drawdown)?,
        })
    }
}

/// How far a chain's effects are booked, and up to where ledger and chain were found equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMark {
    /// Every effect up to this height is booked.
    pub booked_height: u64,
    /// The chain's time at that height.
    pub booked_at: UnixSeconds,
    /// The greatest height of which anything is booked, by an effect or a look-up.
    pub seen_height: u64,
    /// The last height at which ledger and chain were equal.
    pub reconciled_height: u64,
    /// The chain's time at that height.
    pub reconciled_at: UnixSeconds,
    /// What differed at the last reconciliation; `None` if it held.
    pub mismatch: Option<String>,
    /// The height of the last slash that was booked; zero if there was none.
    pub slashed_height: u64,
    /// The first reading that showed what differs now.
    pub suspect: Option<Suspect>,
}

impl ChainMark {
    /// Whether ledger and chain were found equal since the last slash, and are not known to differ: only then is anything
    /// delegated.
    pub fn settled(&self) -> bool {
        self.mismatch.is_none() && (self.slashed_height == 0 || self.reconciled_height > self.slashed_height)
    }
}

/// A reading that showed a difference, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its height.
    pub height: u64,
    /// The chain's time there.
    pub at: UnixSeconds,
    /// BLAKE3 of what differs.
    pub hash: [u8; 32],
}

impl Record for ChainMark {
    const NAME: &'static str = "chain mark";

    fn encode(&self) -> Vec<u8> {
        pb::ChainMarkRecord {
            booked_height: self.booked_height,
            booked_at: self.booked_at.get(),
            seen_height: self.seen_height,
            reconciled_height: self.reconciled_height,
            reconciled_at: self.reconciled_at.get(),
            mismatch: self.mismatch.clone().unwrap_or_default(),
            slashed_height: self.slashed_height,
            suspect_height: self.suspect.map_or(0, |suspect| suspect.height),
            suspect_at: self.suspect.map_or(0, |suspect| suspect.at.get()),
            suspect_hash: self.suspect.map(|suspect| suspect.hash.to_vec()).unwrap_or_default(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::ChainMarkRecord = message(Self::NAME, bytes)?;
        let suspect = match record.suspect_hash.as_slice() {
            [] => None,
            hash => Some(Suspect {
                height: record.suspect_height,
                at: UnixSeconds::new(record.suspect_at),
                hash: field(Self::NAME, "suspect_hash", hash.try_into())?,
            }),
        };
        Ok(Self {
            booked_height: record.booked_height,
            booked_at: UnixSeconds::new(record.booked_at),
            seen_height: record.seen_height,
            reconciled_height: record.reconciled_height,
            reconciled_at: UnixSeconds::new(record.reconciled_at),
            mismatch: (!record.mismatch.is_empty()).then_some(record.mismatch),
            slashed_height: record.slashed_height,
            suspect,
        })
    }
}

/// A change of staked + unbonding, for the house's weight. A change and not a level: an effect may be booked after a
/// later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StakedChange {
    /// When it took effect.
    pub at: UnixSeconds,
    /// By how much what is delegated or unbonding changed.
    pub change: SignedUnits,
}

impl Record for StakedChange {
    const NAME: &'static str = "staked change";

    fn encode(&self) -> Vec<u8> {
        pb::StakedChangeRecord { at: self.at.get(), change: self.change.to_string() }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::StakedChangeRecord = message(Self::NAME, bytes)?;
        Ok(Self { at: UnixSeconds::new(record.at), change: signed(Self::NAME, "change", &record.change)? })
    }
}
