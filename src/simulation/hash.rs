//! The hash of a final state: the positions' own, and the control records in a form that no partitioning changes.

use std::collections::BTreeMap;

use crate::store::keys::tag;
use crate::store::records::{LedgerRecord, PostingRecord, Record, RejectedPayoutRecord, StakedChange};
use crate::store::{Direction, PartitionId, Store, keys};

use super::Problem;
use super::founding::POOLS;
use super::world::World;

/// The control records that are the same for any partitioning, byte for byte.
const CONTROL: [u8; 15] = [
    tag::BOOKED_EFFECT,
    tag::OPERATION,
    tag::OPEN_OPERATION,
    tag::OPERATION_BY_SEQUENCE,
    tag::TRANSFER,
    tag::OPEN_TRANSFER,
    tag::PERIOD,
    tag::DISTRIBUTION,
    tag::RECEIPT,
    tag::UNASSIGNED_RECEIPT,
    tag::POLICY,
    tag::VALIDATOR,
    tag::PAYOUT_ACK,
    tag::CHAIN_MARK,
    tag::POOL_STATE,
];

/// Those of the service.
const SERVICE: [u8; 4] = [tag::SOURCE, tag::ENROLMENT_ENTRY, tag::ACCOUNT_ENROLMENT, tag::PUT_BALANCE_INTENT];

impl World {
    /// The hash of everything there is.
    pub(super) async fn state_hash(&self) -> Result<String, Problem> {
        let mut hasher = blake3::Hasher::new();
        self.take_in(&mut hasher, PartitionId::SERVICE, &SERVICE).await?;
        let engine = self.engine.as_ref().ok_or_else(|| Problem::of("the service does not run"))?;
        for number in (1..).take(POOLS) {
            let positions = engine.app.state_hash(number).ok_or_else(|| Problem::of("the book has no such pool"))?;
            hasher.update(&positions.to_le_bytes::<32>());
            let control = PartitionId::control(number);
            self.take_in(&mut hasher, control, &CONTROL).await?;
            self.take_in_money(&mut hasher, control).await?;
            self.take_in_rejected(&mut hasher, control).await?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    async fn take_in(&self, hasher: &mut blake3::Hasher, partition: PartitionId, tags: &[u8]) -> Result<(), Problem> {
        for tag in tags {
            let range = keys::range_of_tag(*tag);
            let disk = self.disk();
            let found = disk.scan(partition, range, usize::MAX, Direction::Forward).await.map_err(Problem::of)?;
            hasher.update(&[*tag]).update(&(found.len() as u64).to_le_bytes());
            for (key, value) in found {
                for bytes in [key, value] {
                    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
                }
            }
        }
        Ok(())
    }

    /// The ledger, and what it was moved by. How much the parts of an acknowledgement come to follows from the partitioning,
    /// and with it how many postings there are; what they come to together does not.
    async fn take_in_money(&self, hasher: &mut blake3::Hasher, control: PartitionId) -> Result<(), Problem> {
        for ledger in self.records::<LedgerRecord>(control, tag::LEDGER).await? {
            for (account, balance) in ledger.ledger.balances() {
                hasher.update(account.to_string().as_bytes()).update(&balance.get().to_le_bytes());
            }
        }
        let mut moved: BTreeMap<(i64, String, String, String), i128> = BTreeMap::new();
        for posting in self.records::<PostingRecord>(control, tag::POSTING).await? {
            let (at, reason, subject) = (posting.at.get(), posting.reason, posting.subject);
            for leg in posting.legs {
                let key = (at, reason.clone(), subject.clone(), leg.account.to_string());
                let sum = moved.entry(key).or_default();
                *sum = sum.wrapping_add(leg.change.get());
            }
        }
        for ((at, reason, subject, account), sum) in moved {
            let words = format!("{at} {reason} {subject} {account} {sum};");
            hasher.update(words.as_bytes());
        }
        for staked in self.records::<StakedChange>(control, tag::STAKED_SERIES).await? {
            hasher.update(&staked.at.get().to_le_bytes()).update(&staked.change.get().to_le_bytes());
        }
        Ok(())
    }

    async fn records<R: Record>(&self, partition: PartitionId, tag: u8) -> Result<Vec<R>, Problem> {
        let range = keys::range_of_tag(tag);
        let found = self.disk().scan(partition, range, usize::MAX, Direction::Forward).await.map_err(Problem::of)?;
        found.iter().map(|(_, value)| R::decode(value).map_err(Problem::of)).collect()
    }

    /// A rejected payout's place in its distribution follows from the partitioning; whose it is and how much does not.
    async fn take_in_rejected(&self, hasher: &mut blake3::Hasher, partition: PartitionId) -> Result<(), Problem> {
        let range = keys::range_of_tag(tag::REJECTED_PAYOUT);
        let found = self.disk().scan(partition, range, usize::MAX, Direction::Forward).await.map_err(Problem::of)?;
        for (key, value) in found {
            let record = RejectedPayoutRecord::decode(&value).map_err(Problem::of)?;
            hasher.update(&key).update(&record.amount.get().to_le_bytes());
        }
        Ok(())
    }
}
