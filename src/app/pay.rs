//! Payouts out: a released distribution is a numbered list that never changes, delivered from any number on, and
//! acknowledged as a prefix with exceptions.
//!
//! Called by `PayoutService` and `step`. The order is that of (partition, ordinal), payouts above zero only, numbered
//! from 0. The partitions' seals count them in runs of chunks, so that a number in the middle is found at once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::book::column::{self, CHUNK_ORDINALS};
use crate::domain::amount::BaseUnits;
use crate::domain::audit_log::Note;
use crate::domain::booking;
use crate::domain::distribution::{DistributionEvent, DistributionState};
use crate::domain::ids::AccountId;
use crate::domain::payout::{AckRefusal, AckStep, AckWindow, PayoutAck, PayoutCounts, PayoutError, PayoutSum, SetHash};
use crate::domain::period::PeriodIndex;
use crate::domain::time::UnixSeconds;
use crate::store::records::{DistributionRecord, PayoutAckRecord, RejectedPayoutRecord};
use crate::store::{Direction, KeyRange, keys};

use super::control::Change;
use super::distribute::{named, resource};
use super::{App, AppError, Once, Pool, Reason, Request, Work, reconcile};

/// The most rejected payouts of one acknowledgement, and the most bytes of their words, so that it fits a commit.
pub const MAX_REJECTED: usize = 1_000;
const MAX_REJECTED_WORDS: usize = 500_000;

/// How many released distributions one step looks at.
const PER_STEP: usize = 16;

/// One payout with its place in its distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// Its place, from 0.
    pub index: u64,
    /// Whose.
    pub account: AccountId,
    /// How much; above zero.
    pub amount: BaseUnits,
}

/// A payout that the ledger service did not take, as it says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedAck {
    /// Its place in the distribution.
    pub index: u64,
    /// Whose it is, as a check.
    pub account: AccountId,
    /// The stable name of the reason.
    pub reason: String,
    /// The same for people.
    pub message: String,
}

/// The payouts above zero of one chunk.
struct ChunkPayouts {
    partition: u16,
    chunk: u32,
    /// Place in the distribution, place in the chunk, amount.
    payouts: Vec<(u64, usize, BaseUnits)>,
}

fn broken(error: impl ToString) -> AppError {
    AppError::Broken(error.to_string())
}

/// Settles the released distributions of which every payout is acknowledged or unclaimed.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mut work = Work::Idle;
    for unsettled in app.unsettled_distributions(pool, None, PER_STEP).await? {
        let Some(ack) = app.payout_ack(pool, unsettled.period, unsettled.revision).await? else { continue };
        if ack.handled() < unsettled.paid_count {
            continue;
        }
        let mut change = Change::begin(app, pool, now).await?;
        let mut record = named(&change, pool, unsettled.period, unsettled.revision).await?;
        if record.state != DistributionState::Released {
            continue;
        }
        settle(&mut change, &mut record, &ack)?;
        change.put(keys::distribution(record.period.0, record.revision), &record);
        change.commit().await?;
        tracing::info!(pool = %pool.id(), period = record.period.0, revision = record.revision,
            acknowledged = ack.acknowledged.count, unclaimed = ack.unclaimed.count, "distribution settled");
        work = Work::Done;
    }
    Ok(work)
}

/// Where the payouts of a revision are: the terms of equation 5. What is released counts as streamed at once, since the
/// stream may be read from any place at any time.
pub fn counts(record: &DistributionRecord, ack: Option<&PayoutAckRecord>) -> Result<PayoutCounts, PayoutError> {
    let computed = PayoutCounts::computed(record.paid());
    match (record.state, ack) {
        (DistributionState::Voided(_), _) => computed.voided(),
        (DistributionState::Released | DistributionState::Settled, Some(ack)) => {
            computed.released()?.streamed(record.paid())?.acknowledged(ack.acknowledged, ack.unclaimed)
        }
        _ => Ok(computed),
    }
}

/// Settles a released distribution of which nothing is outstanding; the caller puts the record.
pub(super) fn settle(
    change: &mut Change<'_>,
    record: &mut DistributionRecord,
    ack: &PayoutAckRecord,
) -> Result<(), AppError> {
    let counts = counts(record, Some(ack)).map_err(broken)?;
    record.state = record.state.after(&DistributionEvent::Settle(&counts)).map_err(broken)?;
    record.settled_at = Some(change.at());
    change.delete(keys::unsettled_distribution(record.period.0, record.revision));
    Ok(())
}

fn refused(refusal: &AckRefusal) -> AppError {
    let (reason, field) = match refusal {
        AckRefusal::HashMismatch { .. } => (Reason::HashMismatch, "distribution_hash"),
        AckRefusal::PastStream { .. } => (Reason::AckOutOfRange, "acknowledged_count"),
        AckRefusal::RejectedOutOfPlace { .. } => (Reason::AckOutOfRange, "rejected"),
    };
    AppError::refused_in(field, reason, refusal.to_string())
}

impl App {
    /// The released distributions with payouts outstanding, oldest first, from after the one named.
    pub async fn unsettled_distributions(
        &self,
        pool: &Pool,
        after: Option<(PeriodIndex, u32)>,
        limit: usize,
    ) -> Result<Vec<DistributionRecord>, AppError> {
        let all = keys::range_of_tag(keys::tag::UNSETTLED_DISTRIBUTION);
        let from = match after {
            Some((period, revision)) => keys::after(&keys::unsettled_distribution(period.0, revision)),
            None => all.from,
        };
        let range = KeyRange { from, to: all.to };
        let found = self.store.scan(pool.control(), range, limit, Direction::Forward).await?;
        let mut records = Vec::with_capacity(found.len());
        for (key, _) in found {
            let (period, revision) = keys::parse_unsettled_distribution(&key)
                .ok_or_else(|| broken("an entry of the index of unsettled distributions can't be read"))?;
            let record = self.distribution(pool, PeriodIndex(period), revision).await?;
            records.push(record.ok_or_else(|| broken(format!("distribution {period}/{revision} is missing")))?);
        }
        Ok(records)
    }

    /// How far a released distribution is acknowledged; `None` before its release.
    pub async fn payout_ack(
        &self,
        pool: &Pool,
        period: PeriodIndex,
        revision: u32,
    ) -> Result<Option<PayoutAckRecord>, AppError> {
        self.read(pool.control(), &keys::payout_ack(period.0, revision)).await
    }

    /// Up to `limit` payouts of a released distribution from `from_index` on.
    pub async fn payouts_from(
        &self,
        pool: &Pool,
        period: PeriodIndex,
        revision: u32,
        from_index: u64,
        limit: usize,
    ) -> Result<Vec<Payout>, AppError> {
        let record = self.distribution(pool, period, revision).await?.filter(|record| record.state.is_released());
        let record = record.ok_or_else(|| {
            let message = format!("pool {} has released no revision {revision} of period {period}", pool.id());
            AppError::refused(Reason::UnknownDistribution, message)
        })?;
        let left = record.paid_count.saturating_sub(from_index);
        let mut found = Vec::with_capacity(limit.min(10_000).min(usize::try_from(left).unwrap_or(usize::MAX)));
        if limit == 0 {
            return Ok(found);
        }
        let mut unknown = false;
        self.walk(pool, &record, from_index, |chunk| {
            let first = chunk.chunk.saturating_mul(CHUNK_ORDINALS as u32);
            let accounts = self.book.accounts_from(pool.number(), chunk.partition, first, CHUNK_ORDINALS);
            for (index, place, amount) in chunk.payouts {
                let Some(account) = accounts.get(place).cloned() else {
                    unknown = true;
                    return ControlFlow::Break(());
                };
                found.push(Payout { index, account, amount });
                if found.len() == limit {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
        if unknown {
            return Err(broken("the book does not know the account of a payout"));
        }
        Ok(found)
    }

    /// Shows `visit` the payouts from `from` on, chunk by chunk, until it breaks off.
    async fn walk(
        &self,
        pool: &Pool,
        record: &DistributionRecord,
        from: u64,
        mut visit: impl FnMut(ChunkPayouts) -> ControlFlow<()>,
    ) -> Result<(), AppError> {
        let (period, revision) = (record.period.0, record.revision);
        let mut index = 0;
        for partition in 0..pool.record.partitions {
            let missing = || AppError::lost(format!("payouts of partition {partition} of {period}/{revision}"));
            let seal = self.payout_seal(pool, partition, record).await?.ok_or_else(missing)?;
            if index + seal.tally.paid.count <= from {
                index += seal.tally.paid.count;
                continue;
            }
            let mut chunk = 0;
            for count in &seal.counts {
                if index + u64::from(*count) > from {
                    break;
                }
                index += u64::from(*count);
                chunk += seal.stride;
            }
            let chunks = u32::try_from(seal.tally.positions.div_ceil(CHUNK_ORDINALS as u64)).map_err(broken)?;
            while chunk < chunks {
                let key = keys::payout_chunk(chunk, period, revision);
                let value = self.store.get(pool.book(partition), &key).await?.ok_or_else(missing)?;
                let amounts = column::decode(&value).map_err(broken)?;
                let mut payouts = Vec::new();
                for (place, amount) in amounts.into_iter().enumerate().filter(|(_, amount)| *amount != 0) {
                    if index >= from {
                        payouts.push((index, place, BaseUnits::new(amount).map_err(broken)?));
                    }
                    index += 1;
                }
                if visit(ChunkPayouts { partition, chunk, payouts }).is_break() {
                    return Ok(());
                }
                chunk += 1;
            }
        }
        Ok(())
    }

    /// The number in its distribution of the payout of an ordinal, were it above zero: how many come before it.
    pub(super) async fn payout_index(
        &self,
        pool: &Pool,
        record: &DistributionRecord,
        partition: u16,
        ordinal: u32,
    ) -> Result<u64, AppError> {
        let missing = || AppError::lost(format!("payouts of {}/{}", record.period, record.revision));
        let mut index = 0;
        for before in 0..partition {
            index += self.payout_seal(pool, before, record).await?.ok_or_else(missing)?.tally.paid.count;
        }
        let seal = self.payout_seal(pool, partition, record).await?.ok_or_else(missing)?;
        let (chunk, place) = (ordinal / CHUNK_ORDINALS as u32, ordinal as usize % CHUNK_ORDINALS);
        let runs = chunk / seal.stride;
        index += seal.counts.iter().take(runs as usize).map(|count| u64::from(*count)).sum::<u64>();
        for before in runs * seal.stride..=chunk {
            let key = keys::payout_chunk(before, record.period.0, record.revision);
            let value = self.store.get(pool.book(partition), &key).await?.ok_or_else(missing)?;
            let amounts = column::decode(&value).map_err(broken)?;
            let until = if before == chunk { place } else { amounts.len() };
            index += amounts.iter().take(until).filter(|amount| **amount != 0).count() as u64;
        }
        Ok(index)
    }

    /// Takes an acknowledgement of the first `through` payouts of a released distribution, of which `rejected` were not
    /// credited; once. Another hash than the distribution's pauses the pool. For `PayoutService/AckPayouts`.
    #[expect(clippy::too_many_arguments, reason = "an acknowledgement as its message has it")]
    pub async fn ack_payouts(
        &self,
        request: &Request,
        pool: &Pool,
        period: PeriodIndex,
        revision: u32,
        hash: SetHash,
        through: u64,
        rejected: Vec<RejectedAck>,
    ) -> Result<Once, AppError> {
        if rejected.len() > MAX_REJECTED {
            let message = format!("an acknowledgement rejects at most {MAX_REJECTED} payouts; send several");
            return Err(AppError::invalid("rejected", message));
        }
        let words: usize = rejected.iter().map(|rejected| rejected.reason.len() + rejected.message.len()).sum();
        if words > MAX_REJECTED_WORDS {
            return Err(AppError::invalid("rejected", "the messages are too long together; send several"));
        }
        let mut credited = PayoutSum::NONE;
        let taken = self
            .mutate(pool, request, async |change| {
                let record = named(change, pool, period, revision).await?;
                let count = rejected.len();
                credited = self.take_ack(pool, change, &record, hash, through, rejected).await?;
                let summary = format!(
                    "payouts of revision {revision} acknowledged up to {through}, {count} rejected: {} payouts, {} base \
                     units credited",
                    credited.count, credited.amount
                );
                Ok(Note::of(resource(change, pool, period).await?, summary))
            })
            .await;
        if let Err(AppError::Refused(refusal)) = &taken
            && refusal.reason == Reason::HashMismatch
        {
            let reason = format!("the ledger service acknowledged period {period}/{revision}: {}", refusal.message);
            reconcile::pause(self, pool, self.now(), &reason).await?;
        }
        let once = taken?;
        self.metrics.payouts_acknowledged.inc_by(credited.count);
        // The acknowledgement is durable: a caller who heard of a failure now would take it as not done.
        if let Err(error) = step(self, pool, self.now()).await {
            tracing::warn!(pool = %pool.id(), %error, "the acknowledgement is durable; the next step settles what is due");
        }
        Ok(once)
    }

    async fn take_ack(
        &self,
        pool: &Pool,
        change: &mut Change<'_>,
        record: &DistributionRecord,
        hash: SetHash,
        through: u64,
        mut rejected: Vec<RejectedAck>,
    ) -> Result<PayoutSum, AppError> {
        let key = keys::payout_ack(record.period.0, record.revision);
        let ack: Option<PayoutAckRecord> = change.read(&key).await?;
        let Some(mut ack) = ack.filter(|_| record.state.is_released()) else {
            return Err(AppError::refused(Reason::WrongState, "the distribution is not released"));
        };
        rejected.sort_by_key(|rejected| rejected.index);
        let places: Vec<u64> = rejected.iter().map(|rejected| rejected.index).collect();
        let window = AckWindow { settled: ack.handled(), streamed: record.paid_count, hash: record.hash };
        let said = PayoutAck { through, rejected: &places, hash };
        let decided = window.decide(&said).map_err(|refusal| refused(&refusal))?;
        for late in rejected.iter().filter(|rejected| rejected.index < ack.handled()) {
            // A repeat of a rejection is fine; what was taken as credited can't be rejected any more.
            if !change.contains(&keys::rejected_payout(record.period.0, &late.account)).await? {
                let message = format!("payout {} was acknowledged before; it can't be rejected any more", late.index);
                return Err(AppError::refused(Reason::AckOutOfRange, message));
            }
        }
        let AckStep::Settle { from, through, .. } = decided else { return Ok(PayoutSum::NONE) };
        rejected.retain(|rejected| rejected.index >= from);
        let (all, named) = self.sum_payouts(pool, record, from, through, &rejected).await?;
        let mut refused = PayoutSum::NONE;
        for rejected in rejected {
            let amount = match named.get(&rejected.index) {
                Some((account, amount)) if *account == rejected.account => *amount,
                _ => {
                    let message = format!("payout {} is not one of account {}", rejected.index, rejected.account);
                    return Err(AppError::invalid("rejected", message));
                }
            };
            refused = refused.checked_add(PayoutSum { count: 1, amount }).map_err(broken)?;
            let RejectedAck { index, account, reason, message } = rejected;
            tracing::warn!(pool = %pool.id(), period = record.period.0, index, reason, "payout rejected");
            let at = change.at();
            let (period, revision) = (record.period, record.revision);
            let rejected = RejectedPayoutRecord { period, revision, index, account, amount, reason, message, at };
            change.put_new(keys::rejected_payout(period.0, &rejected.account), &rejected);
        }
        let credited = all.checked_sub(refused).map_err(broken)?;
        #[cfg(feature = "seeded-bugs")]
        let credited = if crate::seeded::on(crate::seeded::Bug::RejectedIsCredited) { all } else { credited };
        let booked = credited.amount;
        #[cfg(feature = "seeded-bugs")]
        let booked = if crate::seeded::on(crate::seeded::Bug::PayoutStaysInCustody) { BaseUnits::ZERO } else { booked };
        for entry in [
            booking::payouts_acknowledged(record.reference(), booked),
            booking::payouts_rejected(record.reference(), refused.amount),
        ] {
            change.post(&entry.map_err(broken)?, change.at())?;
        }
        ack.acknowledged = ack.acknowledged.checked_add(credited).map_err(broken)?;
        ack.unclaimed = ack.unclaimed.checked_add(refused).map_err(broken)?;
        ack.updated_at = change.at();
        counts(record, Some(&ack)).and_then(|counts| counts.check_equation_5()).map_err(broken)?;
        change.put(key, &ack);
        tracing::info!(pool = %pool.id(), period = record.period.0, revision = record.revision, from, through,
            credited_base_units = %credited.amount, rejected_base_units = %refused.amount, "payouts acknowledged");
        Ok(credited)
    }

    /// What the payouts `[from, through)` come to, and those that are named among them.
    async fn sum_payouts(
        &self,
        pool: &Pool,
        record: &DistributionRecord,
        from: u64,
        through: u64,
        rejected: &[RejectedAck],
    ) -> Result<(PayoutSum, BTreeMap<u64, (AccountId, BaseUnits)>), AppError> {
        let (mut all, mut named) = (Ok(PayoutSum::NONE), BTreeMap::new());
        self.walk(pool, record, from, |chunk| {
            for (index, place, amount) in &chunk.payouts {
                if *index >= through {
                    return ControlFlow::Break(());
                }
                all = all.and_then(|sum: PayoutSum| sum.checked_add(PayoutSum { count: 1, amount: *amount }));
                if rejected.binary_search_by_key(index, |rejected| rejected.index).is_ok() {
                    let ordinal = chunk.chunk.saturating_mul(CHUNK_ORDINALS as u32).saturating_add(*place as u32);
                    let account = self.book.account_of(pool.number(), chunk.partition, ordinal);
                    named.extend(account.map(|account| (*index, (account, *amount))));
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
        let all = all.map_err(broken)?;
        if all.count != through - from {
            return Err(broken(format!(
                "payouts {from} to {through} of {} were looked for, {} found",
                record.period, all.count
            )));
        }
        Ok((all, named))
    }
}
