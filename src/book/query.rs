//! What readers ask of the book.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ruint::aliases::U256;

use super::hash::{meta_hash, position_hash};
use super::partition::{Partition, partition_of};
use super::pool::{Meta, Pool};
use super::records::{RejectedEvent, decode_rejected};
use super::{Book, BookError, BookSender, read};
use crate::domain::adjustment::AdjustedSum;
use crate::domain::amount::BaseUnits;
use crate::domain::curve::EligibleCurve;
use crate::domain::eligibility::Standing;
use crate::domain::feed::SourceNumber;
use crate::domain::ids::AccountId;
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::store::{Direction, KeyRange, PartitionId, keys};

/// Where a source stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// The last sequence that is durable; 0 before the first.
    pub durable_sequence: u64,
    /// The latest moment that the source vouched for.
    pub watermark: Option<UnixSeconds>,
}

/// One position, as if nothing happened until the time it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionView {
    /// Whose.
    pub account: AccountId,
    /// Its partition of the pool's book.
    pub partition: u16,
    /// Its permanent place there.
    pub ordinal: u32,
    /// The balance after the last event.
    pub balance: BaseUnits,
    /// What earns, under the policy of the period that the position accrues in.
    pub eligible: BaseUnits,
    /// What besides the balance decides whether it earns.
    pub standing: Standing,
    /// The source that owns it; `None` while only enrolments were seen.
    pub owner: Option<SourceNumber>,
    /// The time of its last event.
    pub last_event_at: UnixSeconds,
    /// The last sequence of its source that was accepted; 0 before the first.
    pub last_sequence: u64,
    /// The weight so far in the open periods, before what is still to be collected.
    pub weights: Vec<(PeriodIndex, u128)>,
    /// What late events took that no weight could give so far, in base units x seconds.
    pub uncollected: U256,
}

/// One open period of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPeriodTotals {
    /// The period with its snapshot.
    pub period: OpenPeriod,
    /// The eligible total at its start.
    pub start_total: BaseUnits,
    /// The integral of the eligible total over the whole period, if nothing more happens.
    pub integral: Option<U256>,
    /// What late events changed in its weights so far.
    pub adjusted: AdjustedSum,
}

/// A pool as a whole, after the last group that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTotals {
    /// The sum of what earns: the pool's principal.
    pub eligible_total: BaseUnits,
    /// How many positions there are.
    pub positions: u64,
    /// What late events took that no weight could give so far, over all positions, in base units x seconds.
    pub uncollected: U256,
    /// The unfrozen periods, oldest first.
    pub open: Vec<OpenPeriodTotals>,
    /// The frozen period that is being sealed.
    pub sealing: Option<PeriodIndex>,
    /// The last journal group, per partition.
    pub groups: Vec<u64>,
}

/// Both sides of the second equation, at one point between groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How many positions there are.
    pub positions: u64,
    /// How many of them have a balance.
    pub with_balance: u64,
    /// How many of them earn.
    pub earning: u64,
    /// The sum over positions of what earns.
    pub eligible_sum: U256,
    /// The pool's eligible total.
    pub eligible_total: i128,
    /// The sum over positions of their weight in the oldest open period, up to its end.
    pub weight_sum: U256,
    /// The integral of the eligible total over that period.
    pub integral: Option<U256>,
    /// What late events changed in the weights of that period so far.
    pub adjusted: AdjustedSum,
    /// The sum over positions of what is still to be collected.
    pub rest_sum: U256,
    /// The same as it is kept for the pool.
    pub rest_total: U256,
}

impl Audit {
    /// Whether both hold.
    pub fn holds(&self) -> bool {
        let total = u128::try_from(self.eligible_total).map(U256::from);
        total == Ok(self.eligible_sum)
            && self.integral.is_some_and(|integral| self.adjusted.explains(self.weight_sum, integral))
            && self.rest_sum == self.rest_total
    }
}

impl Book {
    /// The way into the queue.
    pub fn sender(&self) -> BookSender {
        self.sender.clone()
    }

    /// Whether the book takes nothing more until it is reopened.
    pub fn is_closed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// The numbers of the pools that the book has.
    pub fn pools(&self) -> Vec<u16> {
        read(&self.shared.pools).keys().copied().collect()
    }

    /// How many partitions a pool has.
    pub fn partitions(&self, pool: u16) -> Option<u16> {
        Some(self.pool(pool)?.spec.partitions)
    }

    /// Where a source stands; `None` where it is not known.
    pub fn source_state(&self, number: SourceNumber) -> Option<SourceState> {
        read(&self.shared.published).get(&number).copied()
    }

    /// Where every source stands, in order of number; the enrolment log is number 0.
    pub fn sources(&self) -> Vec<(SourceNumber, SourceState)> {
        read(&self.shared.published).iter().map(|(number, state)| (*number, *state)).collect()
    }

    /// An account's position as if nothing happened until `at`.
    pub fn position(&self, pool: u16, account: &AccountId, at: UnixSeconds) -> Option<PositionView> {
        let pool = self.pool(pool)?;
        let partition = partition_of(account.as_str(), pool.partitions.len());
        let rows = read(pool.partitions.get(partition)?);
        let ordinal = rows.find(account.as_str())?;
        view(&rows, partition, ordinal, at)
    }

    /// The account that has an ordinal for ever.
    pub fn account_of(&self, pool: u16, partition: u16, ordinal: u32) -> Option<AccountId> {
        let pool = self.pool(pool)?;
        let rows = read(pool.partitions.get(usize::from(partition))?);
        AccountId::new(rows.id(ordinal)).ok()
    }

    /// The accounts from an ordinal on, for who walks a chunk: one lock for all of them.
    pub fn accounts_from(&self, pool: u16, partition: u16, from_ordinal: u32, limit: usize) -> Vec<AccountId> {
        let Some(pool) = self.pool(pool) else { return Vec::new() };
        let Some(rows) = pool.partitions.get(usize::from(partition)) else { return Vec::new() };
        let rows = read(rows);
        let end = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        (from_ordinal..end).take(limit).filter_map(|ordinal| AccountId::new(rows.id(ordinal)).ok()).collect()
    }

    /// Where an account has its permanent place: partition and ordinal.
    pub fn place_of(&self, pool: u16, account: &AccountId) -> Option<(u16, u32)> {
        let pool = self.pool(pool)?;
        let partition = partition_of(account.as_str(), pool.partitions.len());
        let ordinal = read(pool.partitions.get(partition)?).find(account.as_str())?;
        Some((u16::try_from(partition).ok()?, ordinal))
    }

    /// The pool as a whole.
    pub fn totals(&self, pool: u16) -> Option<PoolTotals> {
        let pool = self.pool(pool)?;
        let _between_groups = read(&pool.gate);
        let sealing = super::lock(&pool.freeze).as_ref().map(|work| work.period.index);
        let groups = super::lock(&pool.heads).list.iter().map(|head| head.group).collect();
        let meta = read(&pool.meta);
        let open = unfrozen(&meta).filter_map(|period| {
            let start_total = start_of(&meta, period.index)?;
            let curve = meta.curves.get(&period.index)?;
            let (integral, adjusted) = (curve.curve.integral_from(start_total), curve.adjusted);
            Some(OpenPeriodTotals { period, start_total: units(start_total), integral, adjusted })
        });
        let open = open.collect();
        let (eligible_total, positions, uncollected) = (units(meta.eligible), meta.positions, meta.rests);
        Some(PoolTotals { eligible_total, positions, uncollected, open, sealing, groups })
    }

    /// The sum of what earns, the pool's principal: the cheap part of [`Self::totals`].
    pub fn eligible_total(&self, pool: u16) -> Option<BaseUnits> {
        let pool = self.pool(pool)?;
        let _between_groups = read(&pool.gate);
        let total = read(&pool.meta).eligible;
        Some(units(total))
    }

    /// The unfrozen periods, oldest first: another cheap part.
    pub fn open_periods(&self, pool: u16) -> Option<Vec<OpenPeriod>> {
        let pool = self.pool(pool)?;
        let meta = read(&pool.meta);
        Some(unfrozen(&meta).collect())
    }

    /// The last journal group that was applied, per partition: another cheap part.
    pub fn groups(&self, pool: u16) -> Option<Vec<u64>> {
        let pool = self.pool(pool)?;
        let _between_groups = read(&pool.gate);
        let groups = super::lock(&pool.heads).list.iter().map(|head| head.group).collect();
        Some(groups)
    }

    /// Sums both sides of the second equation over every position: a walk over the whole book.
    pub fn audit(&self, pool: u16) -> Option<Audit> {
        let pool = self.pool(pool)?;
        let _between_groups = read(&pool.gate);
        let (mut positions, mut with_balance, mut earning) = (0, 0, 0);
        let (mut eligible_sum, mut weight_sum, mut rest_sum) = (U256::ZERO, U256::ZERO, U256::ZERO);
        for rows in &pool.partitions {
            let rows = read(rows);
            let Some(calendar) = &rows.calendar else { continue };
            rest_sum += rows.rests(0, u32::MAX).fold(U256::ZERO, |sum, (_, rest)| sum + rest.get());
            for ordinal in 0..u32::try_from(rows.len()).unwrap_or(u32::MAX) {
                let Some(row) = rows.row(ordinal) else { continue };
                positions += 1;
                let eligible = row.eligible(calendar);
                with_balance += u64::from(!row.available().is_zero());
                earning += u64::from(!eligible.is_zero());
                eligible_sum += U256::from(eligible.get());
                weight_sum += U256::from(row.weights_at(calendar, calendar.oldest.bounds.end).0);
            }
        }
        let meta = read(&pool.meta);
        let oldest = meta.calendar.as_ref().map(|calendar| calendar.oldest.index);
        let integral = match oldest {
            Some(oldest) => curve_of(&meta, oldest)?.integral(),
            None => Some(U256::ZERO),
        };
        let adjusted = oldest.and_then(|oldest| meta.curves.get(&oldest)).map(|curve| curve.adjusted);
        Some(Audit {
            positions,
            with_balance,
            earning,
            eligible_sum,
            eligible_total: meta.eligible,
            weight_sum,
            integral,
            adjusted: adjusted.unwrap_or_default(),
            rest_sum,
            rest_total: meta.rests,
        })
    }

    /// The sum modulo 2^256 of the hash of every position's logical fields and of the pool's own: the same for any
    /// partitioning, page layout or grouping.
    pub fn state_hash(&self, pool: u16) -> Option<U256> {
        let pool = self.pool(pool)?;
        let _between_groups = read(&pool.gate);
        let mut sum = U256::ZERO;
        for rows in &pool.partitions {
            let rows = read(rows);
            for ordinal in 0..u32::try_from(rows.len()).unwrap_or(u32::MAX) {
                sum = sum.wrapping_add(position_hash(&rows, ordinal));
            }
        }
        Some(sum.wrapping_add(meta_hash(&read(&pool.meta))))
    }

    /// The rejected events of a source from a sequence on. Reads the store.
    pub async fn rejected_events(
        &self,
        source: SourceNumber,
        from_sequence: u64,
        limit: usize,
    ) -> Result<Vec<(u64, RejectedEvent)>, BookError> {
        let service = PartitionId::SERVICE;
        let from = keys::rejected_event(source.0, from_sequence, 0);
        let range = KeyRange { from, to: keys::rejected_events_of(source.0).to };
        let found = self.shared.store.scan(service, range, limit, Direction::Forward).await?;
        let damaged = BookError::Damaged { what: "a rejected event", partition: service.0 };
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let (_, sequence, _) = keys::parse_rejected_event(&key)?;
            Some((sequence, decode_rejected(&value)?))
        };
        found.into_iter().map(|pair| read(pair).ok_or(damaged.clone())).collect()
    }

    pub(super) fn pool(&self, number: u16) -> Option<Arc<Pool>> {
        read(&self.shared.pools).get(&number).cloned()
    }
}

/// The unfrozen periods, oldest first.
fn unfrozen(meta: &Meta) -> impl Iterator<Item = OpenPeriod> {
    meta.calendar.iter().flat_map(|calendar| [Some(calendar.oldest), calendar.next]).flatten()
}

/// A period's curve; that of the next one starts with what the oldest ends with so far.
fn curve_of(meta: &Meta, index: PeriodIndex) -> Option<EligibleCurve> {
    let mut curve = meta.curves.get(&index)?.curve.clone();
    curve.set_start_total(start_of(meta, index)?);
    Some(curve)
}

fn start_of(meta: &Meta, index: PeriodIndex) -> Option<i128> {
    let period = meta.curves.get(&index)?;
    let before = meta.calendar.as_ref().filter(|calendar| calendar.oldest.index.next() == index);
    let before = before.and_then(|calendar| meta.curves.get(&calendar.oldest.index));
    Some(match before {
        Some(before) => before.curve.end_total().saturating_add(period.crossing),
        None => period.curve.start_total(),
    })
}

pub(super) fn units(total: i128) -> BaseUnits {
    u128::try_from(total).ok().and_then(|total| BaseUnits::new(total).ok()).unwrap_or_default()
}

fn view(rows: &Partition, partition: usize, ordinal: u32, at: UnixSeconds) -> Option<PositionView> {
    let calendar = rows.calendar.as_ref()?;
    let row = rows.row(ordinal)?;
    let (oldest, next) = row.weights_at(calendar, at);
    let mut weights = vec![(calendar.oldest.index, oldest)];
    weights.extend(calendar.next.map(|period| period.index).zip(next));
    Some(PositionView {
        account: AccountId::new(rows.id(ordinal)).ok()?,
        partition: u16::try_from(partition).ok()?,
        ordinal,
        balance: row.available(),
        eligible: row.eligible(calendar),
        standing: row.standing(),
        owner: row.owner(),
        last_event_at: row.last_at(calendar),
        last_sequence: row.last_sequence(),
        weights,
        uncollected: rows.rest(ordinal).get(),
    })
}
