//! What readers ask of frozen periods. All of it is read from the store.

use ruint::aliases::U256;

use super::column::{self, CHUNK_ORDINALS};
use super::query::units;
use super::records::{decode_curve_page, decode_frozen, decode_seal};
use super::{Book, BookError};
use crate::domain::adjustment::AdjustedSum;
use crate::domain::amount::BaseUnits;
use crate::domain::curve::EligibleCurve;
use crate::domain::feed::SourceNumber;
use crate::domain::ids::AccountId;
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::domain::weight::SetSum;
use crate::store::{Direction, KeyRange, PartitionId, keys};

/// A period that is frozen and sealed. It never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenPeriod {
    /// The period with its snapshot.
    pub period: OpenPeriod,
    /// When it was frozen.
    pub frozen_at: UnixSeconds,
    /// All positions: count, how many have weight, the sum of weights, the hash of the set.
    pub total: SetSum,
    /// The same per partition; their counts say how many ordinals, and so chunks, there are.
    pub partitions: Vec<SetSum>,
    /// The integral of the eligible total; `None` where it is below zero.
    pub integral: Option<U256>,
    /// What late events changed in the weights, and what was collected from them.
    pub adjusted: AdjustedSum,
    /// The eligible total at the period's start.
    pub start_total: BaseUnits,
    /// The eligible total at the period's end.
    pub end_total: BaseUnits,
    /// The last sequence of each source before the cut: what comes after is late.
    pub cursors: Vec<(SourceNumber, u64)>,
    /// The journal group of the freeze, per partition.
    pub groups: Vec<u64>,
}

impl FrozenPeriod {
    /// How many weight chunks a partition has.
    pub fn chunks(&self, partition: u16) -> u32 {
        let count = self.partitions.get(usize::from(partition)).map_or(0, |sum| sum.count);
        u32::try_from(count.div_ceil(CHUNK_ORDINALS as u64)).unwrap_or(u32::MAX)
    }

    /// The second equation: with the adjustments the integral equals the sum of weights.
    pub fn check(&self, pool: u16) -> Result<(), BookError> {
        let AdjustedSum { up, down } = self.adjusted;
        if self.integral.is_some_and(|integral| self.adjusted.explains(self.total.sum, integral)) {
            return Ok(());
        }
        let integral = self.integral.map_or_else(|| "less than nothing".to_owned(), |integral| integral.to_string());
        let integral = if up.is_zero() && down.is_zero() { integral } else { format!("{integral} + {up} - {down}") };
        let (period, weights) = (self.period.index, self.total.sum.to_string());
        Err(BookError::EquationBroken { pool, period, weights, integral })
    }
}

impl Book {
    /// A frozen period, once it is sealed whole; refused where the second equation does not hold. Reads the store.
    pub async fn frozen(&self, pool: u16, index: PeriodIndex) -> Result<Option<FrozenPeriod>, BookError> {
        let sealed = self.sealed(pool, index).await?;
        sealed.map(|sealed| sealed.check(pool).map(|()| sealed)).transpose()
    }

    /// A frozen period as it was sealed, whatever it says. Reads the store.
    pub async fn sealed(&self, pool: u16, index: PeriodIndex) -> Result<Option<FrozenPeriod>, BookError> {
        let Some(pool) = self.pool(pool) else { return Ok(None) };
        let damaged =
            |partition: PartitionId| BookError::Damaged { what: "the seal of a period", partition: partition.0 };
        let store = &self.shared.store;
        let Some(stored) = store.get(pool.control(), &keys::freeze_seal(index.0)).await? else { return Ok(None) };
        let record = decode_frozen(&stored).ok_or(damaged(pool.control()))?;
        let mut partitions = Vec::with_capacity(pool.partitions.len());
        for partition in 0..pool.partitions.len() {
            let id = pool.id(partition);
            let stored = store.get(id, &keys::freeze_seal(index.0)).await?.ok_or(damaged(id))?;
            partitions.push(decode_seal(&stored).ok_or(damaged(id))?);
        }
        let joined = partitions.iter().fold(SetSum::default(), |total, sum| total.join(*sum));
        if joined != record.total {
            return Err(damaged(pool.control()));
        }
        Ok(Some(FrozenPeriod {
            period: record.period,
            frozen_at: record.frozen_at,
            total: record.total,
            partitions,
            integral: record.integral,
            adjusted: record.adjusted,
            start_total: units(record.start_total),
            end_total: units(record.end_total),
            cursors: record.cursors,
            groups: record.groups,
        }))
    }

    /// A period as it was frozen, once it is sealed whole. Reads the store.
    pub async fn frozen_snapshot(&self, pool: u16, index: PeriodIndex) -> Result<Option<OpenPeriod>, BookError> {
        let Some(pool) = self.pool(pool) else { return Ok(None) };
        let control = pool.control();
        let stored = self.shared.store.get(control, &keys::freeze_seal(index.0)).await?;
        let damaged = BookError::Damaged { what: "the seal of a period", partition: control.0 };
        stored.map(|stored| decode_frozen(&stored).map(|record| record.period).ok_or(damaged)).transpose()
    }

    /// The frozen weights of one chunk, by ordinal: those of `chunk * 256` and on. Empty past the last. Reads the store.
    pub async fn weight_chunk(
        &self,
        pool: u16,
        partition: u16,
        index: PeriodIndex,
        chunk: u32,
    ) -> Result<Vec<u128>, BookError> {
        let id = PartitionId::book(pool, partition);
        let key = keys::weight_chunk(index.0, chunk);
        let Some(stored) = self.shared.store.get(id, &key).await? else { return Ok(Vec::new()) };
        column::decode(&stored).map_err(|_| BookError::Damaged { what: "a chunk of frozen weights", partition: id.0 })
    }

    /// Up to `limit` chunks of frozen weights from `from_chunk` on, in one scan. Reads the store.
    pub async fn weight_chunks(
        &self,
        pool: u16,
        partition: u16,
        index: PeriodIndex,
        from_chunk: u32,
        limit: usize,
    ) -> Result<Vec<(u32, Vec<u128>)>, BookError> {
        let id = PartitionId::book(pool, partition);
        let damaged = BookError::Damaged { what: "a chunk of frozen weights", partition: id.0 };
        let all = keys::weight_chunks_of(index.0);
        let range = KeyRange { from: keys::weight_chunk(index.0, from_chunk), to: all.to };
        let found = self.shared.store.scan(id, range, limit, Direction::Forward).await?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let (_, chunk) = keys::parse_weight_chunk(&key)?;
            Some((chunk, column::decode(&value).ok()?))
        };
        found.into_iter().map(|pair| read(pair).ok_or(damaged.clone())).collect()
    }

    /// An account's frozen weight in a period; `None` where it had no place by then. Reads the store.
    pub async fn frozen_weight(
        &self,
        pool: u16,
        account: &AccountId,
        index: PeriodIndex,
    ) -> Result<Option<u128>, BookError> {
        let Some((partition, ordinal)) = self.place_of(pool, account) else { return Ok(None) };
        let chunk = ordinal / CHUNK_ORDINALS as u32;
        let weights = self.weight_chunk(pool, partition, index, chunk).await?;
        if weights.is_empty() {
            // Either the account came later, or what the seal counts is gone.
            let id = PartitionId::book(pool, partition);
            let damaged = |what| BookError::Damaged { what, partition: id.0 };
            let sealed = self.shared.store.get(id, &keys::freeze_seal(index.0)).await?;
            let sealed = sealed.map(|seal| decode_seal(&seal).ok_or(damaged("the seal of a period"))).transpose()?;
            if sealed.is_some_and(|sum| sum.count > u64::from(ordinal)) {
                return Err(damaged("a chunk of frozen weights"));
            }
        }
        Ok(weights.get(ordinal as usize % CHUNK_ORDINALS).copied())
    }

    /// The curve of a frozen period. Reads the store.
    pub async fn frozen_curve(&self, pool: u16, index: PeriodIndex) -> Result<Option<EligibleCurve>, BookError> {
        let Some(pool) = self.pool(pool) else { return Ok(None) };
        let control = pool.control();
        let damaged = BookError::Damaged { what: "the curve of a frozen period", partition: control.0 };
        let store = &self.shared.store;
        let Some(stored) = store.get(control, &keys::freeze_seal(index.0)).await? else { return Ok(None) };
        let record = decode_frozen(&stored).ok_or(damaged.clone())?;
        let mut curve = EligibleCurve::new(record.period.bounds, record.start_total);
        for page in 0..record.curve_pages {
            let value = store.get(control, &keys::frozen_curve(index.0, page)).await?.ok_or(damaged.clone())?;
            let (_, changes) = decode_curve_page(&value).ok_or(damaged.clone())?;
            if !changes.into_iter().all(|(second, change)| curve.restore(second, change)) {
                return Err(damaged);
            }
        }
        Ok(Some(curve))
    }
}

#[cfg(test)]
impl Book {
    /// Makes the second equation of an unfrozen period fail.
    pub(crate) fn break_curve(&self, pool: u16, index: PeriodIndex, at: UnixSeconds) {
        let pool = self.pool(pool).unwrap();
        super::write(&pool.meta).curves.get_mut(&index).unwrap().curve.add(at, 1);
    }
}
