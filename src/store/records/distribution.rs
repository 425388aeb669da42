//! Records of distributions, of their payouts per partition, and of what the ledger service said to them.

use prost::Message;
use ruint::aliases::U256;

use super::{Record, RecordError, field, hash, message, required, units, wide};
use crate::domain::amount::{AmountError, BaseUnits};
use crate::domain::apr::PaidOn;
use crate::domain::distribution::{AfterVoid, DistributionState, Figures};
use crate::domain::ids::AccountId;
use crate::domain::ledger::RevisionRef;
use crate::domain::payout::{PayoutSum, PayoutTally, SetHash};
use crate::domain::period::PeriodIndex;
use crate::domain::split::PayoutUnit;
use crate::domain::time::UnixSeconds;
use crate::pb::store::v1 as pb;

/// How far the computation of a revision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its receipts are being assigned.
    Gathering,
    /// Its inputs are pinned; its payouts are being written.
    Splitting,
    /// Everything of it is written and posted.
    Sealed,
}

const PROGRESS: [(Progress, &str); 3] =
    [(Progress::Gathering, "gathering"), (Progress::Splitting, "splitting"), (Progress::Sealed, "sealed")];

/// Why a distribution waits for an operator, as it was when it was assessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The stable name of the limit.
    pub code: String,
    /// The same for people, with the figures.
    pub message: String,
}

/// The receipts that a revision takes: each of them names the revision, and lies in this range of chain times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenReceipts {
    /// How many.
    pub count: u64,
    /// The chain time of the first.
    pub first_at: UnixSeconds,
    /// The chain time of the last.
    pub last_at: UnixSeconds,
}

/// One revision of the distribution of one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistributionRecord {
    /// The period.
    pub period: PeriodIndex,
    /// From 1.
    pub revision: u32,
    /// Where it stands.
    pub state: DistributionState,
    /// How far its computation is. Only a sealed revision has figures and a hash.
    pub progress: Progress,
    /// What held it.
    pub holds: Vec<Hold>,
    /// Which receipts it takes.
    pub receipts: TakenReceipts,
    /// The two sides of equation 1.
    pub figures: Figures,
    /// The slash receivable when the inputs were pinned.
    pub owed: BaseUnits,
    /// `W`: the sum of all weights, the house's included.
    pub weight_total: U256,
    /// The house's own weight.
    pub house_weight: U256,
    /// What was staked or unbonding at the period's end: where the next period's series begins.
    pub staked_at_end: BaseUnits,
    /// Payouts are whole multiples of this.
    pub payout_unit: PayoutUnit,
    /// Whether a fixed rate was paid, instead of a share of what the chain paid.
    pub fixed_apr: bool,
    /// Positions frozen.
    pub positions: u64,
    /// Those of them with a weight.
    pub positive_count: u64,
    /// Those of them with a payout.
    pub paid_count: u64,
    /// The hash of the set of payouts.
    pub hash: SetHash,
    /// When it was begun, and once it is sealed, when it was computed.
    pub computed_at: UnixSeconds,
    /// Who approved it; empty where nobody had to.
    pub approved_by: String,
    /// When it was released.
    pub released_at: Option<UnixSeconds>,
    /// When every payout was acknowledged or unclaimed.
    pub settled_at: Option<UnixSeconds>,
    /// Why it was voided; empty unless it was.
    pub void_reason: String,
    /// Whether a voided revision has given all its receipts back.
    pub receipts_freed: bool,
}

impl DistributionRecord {
    /// A revision whose computation begins.
    pub fn new(period: PeriodIndex, revision: u32, at: UnixSeconds) -> Self {
        Self {
            period,
            revision,
            state: DistributionState::Computed,
            progress: Progress::Gathering,
            holds: Vec::new(),
            receipts: TakenReceipts::default(),
            figures: Figures::default(),
            owed: BaseUnits::ZERO,
            weight_total: U256::ZERO,
            house_weight: U256::ZERO,
            staked_at_end: BaseUnits::ZERO,
            payout_unit: PayoutUnit::ONE,
            fixed_apr: false,
            positions: 0,
            positive_count: 0,
            paid_count: 0,
            hash: SetHash::EMPTY,
            computed_at: at,
            approved_by: String::new(),
            released_at: None,
            settled_at: None,
            void_reason: String::new(),
            receipts_freed: false,
        }
    }

    /// What it pays on the customers' weight.
    pub fn paid_on(&self) -> PaidOn {
        let weight = self.weight_total.saturating_sub(self.house_weight);
        PaidOn { paid: U256::from(self.figures.payouts.get()), weight }
    }

    /// Its name in postings.
    pub fn reference(&self) -> RevisionRef {
        RevisionRef { period: self.period.0, revision: self.revision }
    }

    /// What is split: `receipts + carry_in + house_in - fee - recovery`.
    pub fn net(&self) -> Result<BaseUnits, AmountError> {
        let Figures { receipts, carry_in, house_in, fee, recovery, .. } = self.figures;
        receipts.checked_add(carry_in)?.checked_add(house_in)?.checked_sub(fee)?.checked_sub(recovery)
    }

    /// Its payouts above zero.
    pub const fn paid(&self) -> PayoutSum {
        PayoutSum { count: self.paid_count, amount: self.figures.payouts }
    }

    /// Positions with a weight whose share is below the payout unit.
    pub const fn below_unit_count(&self) -> u64 {
        self.positive_count.saturating_sub(self.paid_count)
    }
}

fn state_to_text(state: DistributionState) -> (&'static str, &'static str) {
    match state {
        DistributionState::Computed => ("computed", ""),
        DistributionState::Held => ("held", ""),
        DistributionState::Approved => ("approved", ""),
        DistributionState::Released => ("released", ""),
        DistributionState::Settled => ("settled", ""),
        DistributionState::Voided(AfterVoid::Recompute) => ("voided", "recompute"),
        DistributionState::Voided(AfterVoid::Carry) => ("voided", "carry"),
    }
}

const STATES: [DistributionState; 7] = [
    DistributionState::Computed,
    DistributionState::Held,
    DistributionState::Approved,
    DistributionState::Released,
    DistributionState::Settled,
    DistributionState::Voided(AfterVoid::Recompute),
    DistributionState::Voided(AfterVoid::Carry),
];

fn set_hash(name: &'static str, bytes: Vec<u8>) -> Result<SetHash, RecordError> {
    hash(name, "hash", bytes).map(SetHash::from_bytes)
}

impl Record for DistributionRecord {
    const NAME: &'static str = "distribution";

    fn encode(&self) -> Vec<u8> {
        let (state, void_mode) = state_to_text(self.state);
        let progress = PROGRESS.iter().find(|(progress, _)| *progress == self.progress).map_or("", |(_, name)| name);
        let hold = |hold: &Hold| pb::HoldRecord { code: hold.code.clone(), message: hold.message.clone() };
        let Figures { receipts, carry_in, house_in, fee, recovery, payouts, house_out, carry_out } = self.figures;
        pb::DistributionRecord {
            period: self.period.0,
            revision: self.revision,
            state: state.to_owned(),
            holds: self.holds.iter().map(hold).collect(),
            receipts: receipts.to_string(),
            carry_in: carry_in.to_string(),
            house_in: house_in.to_string(),
            fee: fee.to_string(),
            recovery: recovery.to_string(),
            owed: self.owed.to_string(),
            payouts: payouts.to_string(),
            house_out: house_out.to_string(),
            carry_out: carry_out.to_string(),
            weight_total: self.weight_total.to_string(),
            house_weight: self.house_weight.to_string(),
            staked_at_end: self.staked_at_end.to_string(),
            payout_unit: self.payout_unit.get().to_string(),
            positions: self.positions,
            positive_count: self.positive_count,
            paid_count: self.paid_count,
            hash: self.hash.to_bytes().to_vec(),
            computed_at: self.computed_at.get(),
            released_at: self.released_at.map(UnixSeconds::get),
            settled_at: self.settled_at.map(UnixSeconds::get),
            receipt_count: self.receipts.count,
            first_receipt_at: self.receipts.first_at.get(),
            last_receipt_at: self.receipts.last_at.get(),
            progress: progress.to_owned(),
            void_mode: void_mode.to_owned(),
            void_reason: self.void_reason.clone(),
            receipts_freed: self.receipts_freed,
            approved_by: self.approved_by.clone(),
            fixed_apr: self.fixed_apr,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::DistributionRecord = message(name, bytes)?;
        let told = (record.state.as_str(), record.void_mode.as_str());
        let state = STATES.into_iter().find(|state| state_to_text(*state) == told);
        let progress = PROGRESS.into_iter().find(|(_, name)| *name == record.progress).map(|(progress, _)| progress);
        let amount = |what: &str, text: &str| units(name, what, text);
        Ok(Self {
            period: PeriodIndex(record.period),
            revision: record.revision,
            state: required(name, "a known state", state)?,
            progress: required(name, "a known progress", progress)?,
            holds: record.holds.into_iter().map(|hold| Hold { code: hold.code, message: hold.message }).collect(),
            receipts: TakenReceipts {
                count: record.receipt_count,
                first_at: UnixSeconds::new(record.first_receipt_at),
                last_at: UnixSeconds::new(record.last_receipt_at),
            },
            figures: Figures {
                receipts: amount("receipts", &record.receipts)?,
                carry_in: amount("carry_in", &record.carry_in)?,
                house_in: amount("house_in", &record.house_in)?,
                fee: amount("fee", &record.fee)?,
                recovery: amount("recovery", &record.recovery)?,
                payouts: amount("payouts", &record.payouts)?,
                house_out: amount("house_out", &record.house_out)?,
                carry_out: amount("carry_out", &record.carry_out)?,
            },
            owed: amount("owed", &record.owed)?,
            weight_total: wide(name, "weight_total", &record.weight_total)?,
            house_weight: wide(name, "house_weight", &record.house_weight)?,
            staked_at_end: units(name, "staked_at_end", &record.staked_at_end)?,
            payout_unit: field(name, "payout_unit", PayoutUnit::new(amount("payout_unit", &record.payout_unit)?))?,
            fixed_apr: record.fixed_apr,
            positions: record.positions,
            positive_count: record.positive_count,
            paid_count: record.paid_count,
            hash: set_hash(name, record.hash)?,
            computed_at: UnixSeconds::new(record.computed_at),
            approved_by: record.approved_by,
            released_at: record.released_at.map(UnixSeconds::new),
            settled_at: record.settled_at.map(UnixSeconds::new),
            void_reason: record.void_reason,
            receipts_freed: record.receipts_freed,
        })
    }
}

/// What the payouts of one partition come to, written with the last of their chunks. They never change after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutSeal {
    /// What was computed.
    pub tally: PayoutTally,
    /// How many chunks one of `counts` covers; at least 1.
    pub stride: u32,
    /// The payouts above zero in each run of chunks.
    pub counts: Vec<u32>,
}

impl Record for PayoutSeal {
    const NAME: &'static str = "payout seal";

    fn encode(&self) -> Vec<u8> {
        pb::PayoutSealRecord {
            positions: self.tally.positions,
            positive_count: self.tally.positive,
            weight: self.tally.weight.to_string(),
            paid_count: self.tally.paid.count,
            paid: self.tally.paid.amount.to_string(),
            hash: self.tally.hash.to_bytes().to_vec(),
            stride: self.stride,
            counts: self.counts.clone(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::PayoutSealRecord = message(name, bytes)?;
        let tally = PayoutTally {
            positions: record.positions,
            positive: record.positive_count,
            weight: wide(name, "weight", &record.weight)?,
            paid: PayoutSum { count: record.paid_count, amount: units(name, "paid", &record.paid)? },
            hash: set_hash(name, record.hash)?,
        };
        let stride = required(name, "stride", Some(record.stride).filter(|stride| *stride > 0))?;
        Ok(Self { tally, stride, counts: record.counts })
    }
}

/// How far the ledger service acknowledged a released distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayoutAckRecord {
    /// The period.
    pub period: PeriodIndex,
    /// The revision.
    pub revision: u32,
    /// What it credited.
    pub acknowledged: PayoutSum,
    /// What it rejected.
    pub unclaimed: PayoutSum,
    /// When it last said something new.
    pub updated_at: UnixSeconds,
}

impl PayoutAckRecord {
    /// Nothing said yet.
    pub const fn new(period: PeriodIndex, revision: u32, at: UnixSeconds) -> Self {
        Self { period, revision, acknowledged: PayoutSum::NONE, unclaimed: PayoutSum::NONE, updated_at: at }
    }

    /// So many payouts, from the front, are acknowledged or unclaimed.
    pub const fn handled(&self) -> u64 {
        self.acknowledged.count.saturating_add(self.unclaimed.count)
    }
}

impl Record for PayoutAckRecord {
    const NAME: &'static str = "payout acknowledgement";

    fn encode(&self) -> Vec<u8> {
        pb::PayoutAckRecord {
            period: self.period.0,
            revision: self.revision,
            acknowledged_count: self.acknowledged.count,
            acknowledged: self.acknowledged.amount.to_string(),
            unclaimed_count: self.unclaimed.count,
            unclaimed: self.unclaimed.amount.to_string(),
            updated_at: self.updated_at.get(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::PayoutAckRecord = message(name, bytes)?;
        let sum = |count, what, text: &str| Ok(PayoutSum { count, amount: units(name, what, text)? });
        Ok(Self {
            period: PeriodIndex(record.period),
            revision: record.revision,
            acknowledged: sum(record.acknowledged_count, "acknowledged", &record.acknowledged)?,
            unclaimed: sum(record.unclaimed_count, "unclaimed", &record.unclaimed)?,
            updated_at: UnixSeconds::new(record.updated_at),
        })
    }
}

/// A payout that the ledger service did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedPayoutRecord {
    /// The period.
    pub period: PeriodIndex,
    /// The revision.
    pub revision: u32,
    /// Its place in the distribution's order of payouts.
    pub index: u64,
    /// Whose.
    pub account: AccountId,
    /// How much.
    pub amount: BaseUnits,
    /// The stable name of the reason.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// When.
    pub at: UnixSeconds,
}

impl Record for RejectedPayoutRecord {
    const NAME: &'static str = "rejected payout";

    fn encode(&self) -> Vec<u8> {
        pb::RejectedPayoutRecord {
            period: self.period.0,
            revision: self.revision,
            index: self.index,
            account: self.account.to_string(),
            amount: self.amount.to_string(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            at: self.at.get(),
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let name = Self::NAME;
        let record: pb::RejectedPayoutRecord = message(name, bytes)?;
        Ok(Self {
            period: PeriodIndex(record.period),
            revision: record.revision,
            index: record.index,
            account: field(name, "account", AccountId::new(&record.account))?,
            amount: units(name, "amount", &record.amount)?,
            reason: record.reason,
            message: record.message,
            at: UnixSeconds::new(record.at),
        })
    }
}

#[cfg(test)]
#[path = "distribution_tests.rs"]
mod tests;
