//! Pages of a pool's history: operations and distributions, newest first.

use std::collections::VecDeque;

use crate::domain::distribution::DistributionState;
use crate::domain::equations::EquationResult;
use crate::domain::ids::OperationId;
use crate::domain::operation::{OperationAge, OperationState};
use crate::domain::period::PeriodIndex;
use crate::domain::weight::SetSum;
use crate::store::records::{DistributionRecord, OperationRecord, PayoutAckRecord, PeriodRecord, Record};
use crate::store::{Direction, KeyRange, keys};

use crate::app::{App, AppError, Pool, Reason, audit, operate};

/// How many records one read takes where a filter may pass over some.
const PER_READ: usize = 256;

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}

impl<T> Listed<T> {
    /// The first `size` of `entries`, which were read one further to know whether there are more.
    pub(in crate::app) fn cut(mut entries: Vec<T>, size: usize) -> Self {
        let more = entries.len() > size;
        entries.truncate(size);
        Self { entries, more }
    }
}

/// A distribution with everything that is shown of it.
#[derive(Clone, Debug)]
pub struct DistributionView {
    /// The revision.
    pub record: DistributionRecord,
    /// Its period.
    pub period: PeriodRecord,
    /// How far its payouts are acknowledged, once it is released.
    pub acknowledged: Option<PayoutAckRecord>,
    /// Its equations.
    pub equations: Vec<EquationResult>,
}

/// A period with what its freeze sealed.
#[derive(Clone, Debug)]
pub struct PeriodView {
    /// The period.
    pub record: PeriodRecord,
    /// Count, sum and hash of the frozen weights, once they are sealed.
    pub weights: Option<SetSum>,
}

impl App {
    /// A page of operations, newest first, from before the one numbered `before`. With `states`, only those in one of
    /// them.
    pub async fn operations_page(
        &self,
        pool: &Pool,
        states: &[OperationState],
        before: Option<u64>,
        size: usize,
    ) -> Result<Listed<OperationRecord>, AppError> {
        let wanted = |record: &OperationRecord| states.is_empty() || states.contains(&record.state);
        if !states.is_empty() && states.iter().all(|state| !state.ended()) {
            let mut open = self.open_operations(pool).await?;
            open.retain(|record| wanted(record) && before.is_none_or(|before| record.sequence < before));
            open.reverse();
            return Ok(Listed::cut(open, size));
        }
        let all = keys::range_of_tag(keys::tag::OPERATION_BY_SEQUENCE);
        let mut to = before.map_or(all.to, keys::operation_by_sequence);
        let mut entries = Vec::new();
        loop {
            let range = KeyRange { from: all.from.clone(), to };
            let found = self.store.scan(pool.control(), range, PER_READ.min(size + 1), Direction::Reverse).await?;
            let Some((last, _)) = found.last() else { break };
            to = last.clone();
            for (_, id) in &found {
                let id = std::str::from_utf8(id).ok().and_then(|id| OperationId::new(id).ok());
                let id = id.ok_or_else(|| AppError::Broken("an operation's id can't be read".to_owned()))?;
                let record = self.operation(pool, &id).await?;
                if wanted(&record) {
                    entries.push(record);
                }
            }
            if entries.len() > size {
                break;
            }
        }
        Ok(Listed::cut(entries, size))
    }

    /// A page of distributions, newest first, the latest revision of each, from before period `before`. With `wanted`,
    /// only those whose state it takes.
    pub async fn distributions_page(
        &self,
        pool: &Pool,
        wanted: impl Fn(DistributionState) -> bool,
        before: Option<PeriodIndex>,
        size: usize,
    ) -> Result<Listed<DistributionView>, AppError> {
        let all = keys::range_of_tag(keys::tag::DISTRIBUTION);
        let mut to = before.map_or(all.to, |before| keys::distribution(before.0, 0));
        let mut last_period = None;
        let mut found: VecDeque<DistributionRecord> = VecDeque::new();
        let mut entries = Vec::new();
        loop {
            let Some(record) = found.pop_front() else {
                let range = KeyRange { from: all.from.clone(), to: to.clone() };
                let limit = PER_READ.min(size + 1);
                let pairs = self.store.scan(pool.control(), range, limit, Direction::Reverse).await?;
                let Some((last, _)) = pairs.last() else { break };
                to = last.clone();
                for (_, value) in &pairs {
                    found.push_back(DistributionRecord::decode(value)?);
                }
                continue;
            };
            if last_period.replace(record.period) == Some(record.period) || !wanted(record.state) {
                continue;
            }
            entries.push(self.distribution_view(pool, record).await?);
            if entries.len() > size {
                break;
            }
        }
        Ok(Listed::cut(entries, size))
    }

    /// One distribution of a period: a revision, or the latest.
    pub async fn distribution_shown(
        &self,
        pool: &Pool,
        period: &PeriodRecord,
        revision: Option<u32>,
    ) -> Result<DistributionView, AppError> {
        let record: Option<DistributionRecord> = match revision {
            Some(revision) => self.read(pool.control(), &keys::distribution(period.index.0, revision)).await?,
            None => self.last(pool.control(), keys::distributions_of(period.index.0)).await?,
        };
        let record = record.ok_or_else(|| {
            let which = revision.map_or_else(String::new, |revision| format!(" with revision {revision}"));
            let message = format!("pool {} has no distribution of {}{which}", pool.id(), period.bounds.name());
            AppError::refused(Reason::UnknownDistribution, message)
        })?;
        self.distribution_view(pool, record).await
    }

    async fn distribution_view(&self, pool: &Pool, record: DistributionRecord) -> Result<DistributionView, AppError> {
        let period = self.period(pool, record.period).await?;
        let period = period.ok_or_else(|| AppError::Broken(format!("period {} is missing", record.period)))?;
        let acknowledged = match record.state.is_released() {
            true => self.read(pool.control(), &keys::payout_ack(record.period.0, record.revision)).await?,
            false => None,
        };
        let equations = match record.progress {
            crate::store::records::Progress::Sealed => {
                audit::of_revision(&record, &self.revision_standing(pool, &record).await?)
            }
            _ => Vec::new(),
        };
        Ok(DistributionView { record, period, acknowledged, equations })
    }

    /// How old an operation is, or was when it ended, against what is expected. One that an operator retried is overdue
    /// when it is older than expected since then.
    pub fn operation_age(&self, pool: &Pool, record: &OperationRecord) -> OperationAge {
        let (bounds, ended) = (operate::bounds(self, pool, &record.kind), record.state.ended());
        let until = if ended { record.updated_at } else { self.now() };
        let overdue = !ended && bounds.age(record.since, until).overdue;
        OperationAge { overdue, ..bounds.age(record.created_at, until) }
    }

    /// A period with what its freeze sealed.
    pub async fn period_view(&self, pool: &Pool, record: PeriodRecord) -> Result<PeriodView, AppError> {
        let weights = match record.frozen {
            Some(_) => self.book.sealed(pool.number(), record.index).await?.map(|sealed| sealed.total),
            None => None,
        };
        Ok(PeriodView { record, weights })
    }
}
