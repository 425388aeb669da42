//! Records of snapshots that are applied: a mark, and what was answered.

use prost::Message;

use super::{Record, RecordError, field, hash, message, required, units};
use crate::domain::amount::BaseUnits;
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::AccountId;
use crate::domain::snapshot::{Difference, DifferenceCause, HeldBalance, SeenDifference};
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// A snapshot of a source whose differences are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// BLAKE3 of all that it says.
    pub content: [u8; 32],
    /// Whether all of it is applied.
    pub done: bool,
    /// The source's sequence that it stands after.
    pub sequence: u64,
    /// How many positions it saw differently.
    pub difference_count: u64,
    /// How many differences could not be applied; known once it is done.
    pub refused_count: u64,
    /// When it came.
    pub at: UnixSeconds,
}

impl Record for SnapshotRecord {
    const NAME: &'static str = "snapshot";

    fn encode(&self) -> Vec<u8> {
        pb::SnapshotRecord {
            content: self.content.to_vec(),
            done: self.done,
            sequence: self.sequence,
            difference_count: self.difference_count,
            refused_count: self.refused_count,
            at: self.at.get(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::SnapshotRecord = message(Self::NAME, bytes)?;
        Ok(Self {
            content: hash(Self::NAME, "content", record.content)?,
            done: record.done,
            sequence: record.sequence,
            difference_count: record.difference_count,
            refused_count: record.refused_count,
            at: UnixSeconds::new(record.at),
        })
    }
}

/// Differences that a snapshot was answered with, in the order of pool and account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotDifferences(pub Vec<Difference>);

impl Record for SnapshotDifferences {
    const NAME: &'static str = "snapshot differences";

    fn encode(&self) -> Vec<u8> {
        pb::SnapshotDifferencesRecord { differences: self.0.iter().map(write).collect() }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: pb::SnapshotDifferencesRecord = message(Self::NAME, bytes)?;
        record.differences.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

fn write(difference: &Difference) -> pb::SnapshotDifferenceRecord {
    let Difference { seen, cause, rejected, refused } = difference;
    let held = seen.held;
    pb::SnapshotDifferenceRecord {
        pool: seen.pool.into(),
        account: seen.account.to_string(),
        snapshot: seen.snapshot.map(|balance| balance.to_string()),
        held: held.map(|held| held.balance.to_string()),
        owner: held.and_then(|held| held.owner).map_or(0, |owner| owner.0.into()),
        last_at: held.map_or(0, |held| held.last_at.get()),
        last_sequence: held.map_or(0, |held| held.last_sequence),
        cause: cause.code().into(),
        rejected_sequence: rejected.map_or(0, |(sequence, _)| sequence),
        rejected: rejected.map(|(_, reason)| write_reason(reason)),
        refused: refused.map(write_reason),
    }
}

fn read(record: pb::SnapshotDifferenceRecord) -> Result<Difference, RecordError> {
    const NAME: &str = SnapshotDifferences::NAME;
    let owner: u16 = field(NAME, "owner", record.owner.try_into())?;
    let held = record.held.map(|held| units(NAME, "held", &held)).transpose()?;
    let held = held.map(|balance| HeldBalance {
        balance,
        owner: (owner != 0).then_some(SourceNumber(owner)),
        last_at: UnixSeconds::new(record.last_at),
        last_sequence: record.last_sequence,
    });
    let cause = u8::try_from(record.cause).ok().and_then(DifferenceCause::from_code);
    let rejected = record.rejected.map(read_reason).transpose()?;
    Ok(Difference {
        seen: SeenDifference {
            pool: field(NAME, "pool", record.pool.try_into())?,
            account: field(NAME, "account", AccountId::new(&record.account))?,
            snapshot: record.snapshot.map(|balance| units(NAME, "snapshot", &balance)).transpose()?,
            held,
        },
        cause: required(NAME, "cause", cause)?,
        rejected: rejected.map(|reason| (record.rejected_sequence, reason)),
        refused: record.refused.map(read_reason).transpose()?,
    })
}

fn write_reason(reason: RejectReason) -> pb::SnapshotRefusalRecord {
    let limit = match reason {
        RejectReason::BalanceTooLarge { limit } => limit,
        _ => BaseUnits::ZERO,
    };
    pb::SnapshotRefusalRecord { code: reason.code().into(), limit: limit.to_string() }
}

fn read_reason(record: pb::SnapshotRefusalRecord) -> Result<RejectReason, RecordError> {
    const NAME: &str = SnapshotDifferences::NAME;
    let limit = units(NAME, "limit", &record.limit)?;
    let reason = u8::try_from(record.code).ok().and_then(|code| RejectReason::from_code(code, limit));
    required(NAME, "reason", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_comes_back() {
        let held = HeldBalance {
            balance: BaseUnits::MAX,
            owner: Some(SourceNumber(17)),
            last_at: UnixSeconds::new(-4),
            last_sequence: 9,
        };
        let limit = BaseUnits::from_u64(77);
        let seen = |snapshot, held| SeenDifference { pool: 3, account: AccountId::new("a").unwrap(), snapshot, held };
        let all = SnapshotDifferences(vec![
            Difference {
                seen: seen(None, Some(held)),
                cause: DifferenceCause::OtherSource,
                rejected: Some((12, RejectReason::TooOld)),
                refused: Some(RejectReason::BalanceTooLarge { limit }),
            },
            Difference {
                seen: seen(Some(BaseUnits::ZERO), Some(HeldBalance { owner: None, ..held })),
                cause: DifferenceCause::OtherBalance,
                rejected: None,
                refused: None,
            },
            Difference {
                seen: seen(Some(BaseUnits::MAX), None),
                cause: DifferenceCause::AbsentInBook,
                rejected: None,
                refused: Some(RejectReason::PeriodNotOpen),
            },
        ]);
        assert_eq!(SnapshotDifferences::decode(&all.encode()).as_ref(), Ok(&all));
        let record = SnapshotRecord {
            content: [7; 32],
            done: true,
            sequence: 5,
            difference_count: 3,
            refused_count: 2,
            at: UnixSeconds::new(8),
        };
        assert_eq!(SnapshotRecord::decode(&record.encode()).as_ref(), Ok(&record));
        let short = pb::SnapshotRecord { content: vec![1], ..Default::default() }.encode_to_vec();
        assert!(SnapshotRecord::decode(&short).is_err());
    }
}
