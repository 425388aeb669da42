//! What one account earned, when and why. Reads only; for `AccountService`.
//!
//! The payouts of 256 ordinals stand together through all periods, so that one account's year is one short scan. A
//! payout counts here once its distribution is released.

use std::collections::BTreeMap;

use ruint::aliases::U256;
use rust_decimal::Decimal;

use crate::book::column::{self, CHUNK_ORDINALS};
use crate::domain::amount::BaseUnits;
use crate::domain::apr::annual_rate;
use crate::domain::ids::{AccountId, AssetId, PoolId};
use crate::domain::payout::PayoutSum;
use crate::domain::period::{PeriodBounds, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::store::records::{
    DistributionRecord, PayoutAckRecord, PeriodRecord, ReceiptRecord, Record, RejectedPayoutRecord,
};
use crate::store::{Direction, KeyRange, keys};

use super::{App, AppError, Pool, Reason};

/// How many periods the trailing rate covers.
pub const TRAILING_PERIODS: usize = 30;
/// The most receipts that an explanation lists.
pub const MAX_EXPLAINED_RECEIPTS: usize = 1_000;
/// How many periods one scan of an account's payouts brings.
const PERIODS_PER_SCAN: usize = 128;

/// What has become of one account's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayoutStanding {
    /// Released, and not acknowledged.
    AwaitingAck,
    /// Credited by the ledger service.
    Acknowledged,
    /// Rejected by the ledger service.
    Unclaimed,
    /// Below the payout unit: nothing is paid.
    BelowUnit,
}

/// One account's share of one released distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountPayout {
    /// The pool.
    pub pool: PoolId,
    /// Whose.
    pub account: AccountId,
    /// The period.
    pub period: PeriodIndex,
    /// When the period is.
    pub bounds: PeriodBounds,
    /// The revision that was released.
    pub revision: u32,
    /// How much; zero where it is below the payout unit.
    pub amount: BaseUnits,
    /// What has become of it.
    pub standing: PayoutStanding,
    /// When it was released.
    pub released_at: UnixSeconds,
    /// Whether the pool's chain is a simulated one.
    pub simulated: bool,
}

/// Where a page of an account's payouts ends: the next one goes on after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryCursor {
    /// The start of the last period shown.
    pub start: UnixSeconds,
    /// The pool of the last payout shown.
    pub pool: PoolId,
}

/// Which payouts of an account are wanted.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Only of this asset.
    pub asset: Option<AssetId>,
    /// Only for periods that begin at this time or later.
    pub from: Option<UnixSeconds>,
    /// Only for periods that begin before this time.
    pub until: Option<UnixSeconds>,
    /// Only after this place.
    pub after: Option<HistoryCursor>,
    /// How many; at least 1.
    pub limit: usize,
}

/// A page of an account's payouts, newest period first, those of one period's start by pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// The payouts.
    pub payouts: Vec<AccountPayout>,
    /// Where to go on; `None` at the end.
    pub next: Option<HistoryCursor>,
}

/// What an account earned in one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earnings {
    /// The pool.
    pub pool: PoolId,
    /// All its released payouts above zero, unclaimed ones included.
    pub total: PayoutSum,
    /// Those that the ledger service credited.
    pub acknowledged: PayoutSum,
    /// Those that it rejected.
    pub unclaimed: PayoutSum,
    /// What the trailing periods' payouts come to a year on what was held in them; `None` where nothing was held.
    pub trailing_apr: Option<Decimal>,
    /// How many periods that covers.
    pub trailing_periods: u32,
    /// The end of the last period that was paid for.
    pub last_period_end: Option<UnixSeconds>,
    /// Whether the pool's chain is a simulated one.
    pub simulated: bool,
}

/// Everything that one payout follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The payout.
    pub payout: AccountPayout,
    /// The account's frozen time weight.
    pub weight: u128,
    /// The period with its policy.
    pub period: PeriodRecord,
    /// The distribution with its figures.
    pub distribution: DistributionRecord,
    /// What was split.
    pub net: BaseUnits,
    /// `net x weight - amount x weight_total`: what rounding left, over `weight_total`. `None` at a fixed rate.
    pub rounding_rest: Option<U256>,
    /// The receipts that the distribution takes, the first [`MAX_EXPLAINED_RECEIPTS`] of them.
    pub receipts: Vec<ReceiptRecord>,
}

/// A share as it was read, before its standing is known.
struct Share {
    record: DistributionRecord,
    bounds: PeriodBounds,
    /// How far the distribution's payouts are acknowledged.
    ack: Option<PayoutAckRecord>,
    amount: BaseUnits,
}

fn broken(error: impl ToString) -> AppError {
    AppError::Broken(error.to_string())
}

impl App {
    /// A page of one account's payouts through its pools.
    pub async fn account_payouts(&self, account: &AccountId, query: &HistoryQuery) -> Result<HistoryPage, AppError> {
        let limit = query.limit.max(1);
        let mut payouts = Vec::new();
        let wanted = |pool: &Pool| query.asset.as_ref().is_none_or(|asset| *asset == pool.record.asset);
        for pool in self.pools().into_iter().filter(|pool| wanted(pool)) {
            // Of pools at or before the cursor's, what begins with it was shown.
            let mut until = query.until;
            if let Some(after) = &query.after {
                let shown = *pool.id() <= after.pool;
                let bound = if shown { after.start } else { after.start.plus(1) };
                until = Some(until.map_or(bound, |until| until.min(bound)));
            }
            payouts.extend(self.pool_payouts(&pool, account, query.from, until, limit + 1).await?);
        }
        payouts.sort_by(|a, b| b.bounds.start.cmp(&a.bounds.start).then_with(|| a.pool.cmp(&b.pool)));
        let more = payouts.len() > limit;
        payouts.truncate(limit);
        let last = payouts.last().filter(|_| more);
        let next = last.map(|last| HistoryCursor { start: last.bounds.start, pool: last.pool.clone() });
        Ok(HistoryPage { payouts, next })
    }

    /// Up to `limit` payouts of an account in one pool for periods that begin in `[from, until)`, newest first.
    async fn pool_payouts(
        &self,
        pool: &Pool,
        account: &AccountId,
        from: Option<UnixSeconds>,
        until: Option<UnixSeconds>,
        limit: usize,
    ) -> Result<Vec<AccountPayout>, AppError> {
        let Some(place) = self.book.place_of(pool.number(), account) else { return Ok(Vec::new()) };
        let first = match from {
            Some(from) => self.first_period_from(pool, from).await?,
            None => 0,
        };
        let mut end = match until {
            Some(until) => self.first_period_from(pool, until).await?,
            None => u64::MAX,
        };
        let mut found = Vec::new();
        while first < end && found.len() < limit {
            let (shares, lowest) = self.shares(pool, place, first, end).await?;
            for share in shares.into_iter().rev() {
                if found.len() == limit {
                    break;
                }
                found.extend(self.account_payout(pool, account, place, &share).await?);
            }
            let Some(lowest) = lowest else { break };
            end = lowest;
        }
        Ok(found)
    }

    /// The index of the first period that begins at `at` or later.
    async fn first_period_from(&self, pool: &Pool, at: UnixSeconds) -> Result<u64, AppError> {
        let (mut low, mut high) = (0, self.last_period(pool).await?.map_or(0, |last| last.index.0 + 1));
        while low < high {
            let middle = low + (high - low) / 2;
            let period = self.period(pool, PeriodIndex(middle)).await?;
            let period = period.ok_or_else(|| broken(format!("period {middle} is missing")))?;
            if period.bounds.start < at { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The released shares of a place in the last periods of `[first, end)`, ascending, and the lowest period that was
    /// looked at, where there may be more below it.
    async fn shares(
        &self,
        pool: &Pool,
        (partition, ordinal): (u16, u32),
        first: u64,
        end: u64,
    ) -> Result<(Vec<Share>, Option<u64>), AppError> {
        let chunk = ordinal / CHUNK_ORDINALS as u32;
        // The distributions say what there has to be: a chunk that is not there is either from before the account, or lost.
        let range = KeyRange { from: keys::distributions_of(first).from, to: keys::distributions_of(end).from };
        let found = self.store.scan(pool.control(), range, PERIODS_PER_SCAN, Direction::Reverse).await?;
        let records = found.iter().map(|(_, value)| DistributionRecord::decode(value));
        let mut records = records.collect::<Result<Vec<_>, _>>()?;
        let (Some(newest), Some(lowest)) = (records.first(), records.last()) else { return Ok((Vec::new(), None)) };
        let (newest, lowest) = (newest.period.0, lowest.period.0);
        // The lowest period may have more revisions below the scan's end: it is left to the next scan, unless it is all.
        let full = records.len() == PERIODS_PER_SCAN;
        let keep = if full && newest != lowest { lowest.saturating_add(1) } else { lowest };
        records.retain(|record| record.state.is_released() && record.period.0 >= keep);
        let range = keys::payout_chunks_between(chunk, keep, newest.saturating_add(1));
        let mut columns = BTreeMap::new();
        for (key, value) in self.store.scan(pool.book(partition), range, usize::MAX, Direction::Forward).await? {
            let (_, period, revision) =
                keys::parse_payout_chunk(&key).ok_or_else(|| broken("the key of a payout chunk can't be read"))?;
            columns.insert((period, revision), value);
        }
        // One scan for all of them, where one read for each would cost more than everything else.
        let ended = newest.saturating_add(1);
        let range = KeyRange { from: keys::period(keep), to: keys::period(ended) };
        let periods: Vec<PeriodRecord> = self.list(pool.control(), range, usize::MAX).await?;
        let bounds: BTreeMap<u64, PeriodBounds> = periods.iter().map(|one| (one.index.0, one.bounds)).collect();
        let range = KeyRange { from: keys::payout_ack(keep, 0), to: keys::payout_ack(ended, 0) };
        let acks: Vec<PayoutAckRecord> = self.list(pool.control(), range, usize::MAX).await?;
        let acks: BTreeMap<(u64, u32), PayoutAckRecord> =
            acks.into_iter().map(|ack| ((ack.period.0, ack.revision), ack)).collect();
        let mut shares = Vec::with_capacity(records.len());
        let mut before = false;
        for record in records {
            let Some(value) = columns.get(&(record.period.0, record.revision)) else {
                // Places are never given up: what one distribution was too early for, those before it were as well.
                if !before {
                    let lost = || AppError::lost(format!("payouts of {}/{}", record.period, record.revision));
                    let seal = self.payout_seal(pool, partition, &record).await?.ok_or_else(lost)?;
                    if seal.tally.positions > u64::from(ordinal) {
                        return Err(lost());
                    }
                    before = true;
                }
                continue;
            };
            let amount = column::get(value, ordinal as usize % CHUNK_ORDINALS).map_err(broken)?;
            let Some(amount) = amount else { continue };
            let missing = || broken(format!("period {} is missing", record.period));
            shares.push(Share {
                bounds: bounds.get(&record.period.0).copied().ok_or_else(missing)?,
                ack: acks.get(&(record.period.0, record.revision)).copied(),
                amount: BaseUnits::new(amount).map_err(broken)?,
                record,
            });
        }
        shares.reverse();
        Ok((shares, full.then_some(keep)))
    }

    /// A share with all that is said of it; `None` where the account had no weight, so that there is no payout.
    async fn account_payout(
        &self,
        pool: &Pool,
        account: &AccountId,
        place: (u16, u32),
        share: &Share,
    ) -> Result<Option<AccountPayout>, AppError> {
        let record = &share.record;
        if share.amount.is_zero() {
            let weight = self.book.frozen_weight(pool.number(), account, record.period).await?;
            if weight.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
        Ok(Some(AccountPayout {
            pool: pool.id().clone(),
            account: account.clone(),
            period: record.period,
            bounds: share.bounds,
            revision: record.revision,
            amount: share.amount,
            standing: self.standing(pool, account, place, share).await?,
            released_at: record.released_at.unwrap_or(record.computed_at),
            simulated: pool.record.simulated,
        }))
    }

    async fn standing(
        &self,
        pool: &Pool,
        account: &AccountId,
        (partition, ordinal): (u16, u32),
        share: &Share,
    ) -> Result<PayoutStanding, AppError> {
        let record = &share.record;
        if share.amount.is_zero() {
            return Ok(PayoutStanding::BelowUnit);
        }
        let ack = share.ack;
        let handled = ack.map_or(0, |ack| ack.handled());
        if handled == 0 {
            return Ok(PayoutStanding::AwaitingAck);
        }
        if handled < record.paid_count && self.payout_index(pool, record, partition, ordinal).await? >= handled {
            return Ok(PayoutStanding::AwaitingAck);
        }
        if ack.is_none_or(|ack| ack.unclaimed.count == 0) {
            return Ok(PayoutStanding::Acknowledged);
        }
        let rejected: Option<RejectedPayoutRecord> =
            self.read(pool.control(), &keys::rejected_payout(record.period.0, account)).await?;
        Ok(if rejected.is_some() { PayoutStanding::Unclaimed } else { PayoutStanding::Acknowledged })
    }

    /// What one account earned in each of its pools, by pool; of one asset, where it is given.
    pub async fn account_earnings(
        &self,
        account: &AccountId,
        asset: Option<&AssetId>,
    ) -> Result<Vec<Earnings>, AppError> {
        let mut earnings = Vec::new();
        for pool in self.pools() {
            if asset.is_some_and(|asset| *asset != pool.record.asset) {
                continue;
            }
            if let Some(place) = self.book.place_of(pool.number(), account) {
                earnings.push(self.pool_earnings(&pool, account, place).await?);
            }
        }
        Ok(earnings)
    }

    async fn pool_earnings(&self, pool: &Pool, account: &AccountId, place: (u16, u32)) -> Result<Earnings, AppError> {
        let mut earnings = Earnings {
            pool: pool.id().clone(),
            total: PayoutSum::NONE,
            acknowledged: PayoutSum::NONE,
            unclaimed: PayoutSum::NONE,
            trailing_apr: None,
            trailing_periods: 0,
            last_period_end: None,
            simulated: pool.record.simulated,
        };
        let (mut paid, mut weight) = (U256::ZERO, U256::ZERO);
        let mut end = u64::MAX;
        loop {
            let (shares, lowest) = self.shares(pool, place, 0, end).await?;
            for share in shares.into_iter().rev() {
                if (earnings.trailing_periods as usize) < TRAILING_PERIODS {
                    let frozen = self.book.frozen_weight(pool.number(), account, share.record.period).await?;
                    paid += U256::from(share.amount.get());
                    weight += U256::from(frozen.unwrap_or(0));
                    earnings.trailing_periods += 1;
                }
                if share.amount.is_zero() {
                    continue;
                }
                if earnings.last_period_end.is_none() {
                    earnings.last_period_end = Some(share.bounds.end);
                }
                let one = PayoutSum { count: 1, amount: share.amount };
                earnings.total = earnings.total.checked_add(one).map_err(broken)?;
                let sum = match self.standing(pool, account, place, &share).await? {
                    PayoutStanding::Acknowledged => &mut earnings.acknowledged,
                    PayoutStanding::Unclaimed => &mut earnings.unclaimed,
                    PayoutStanding::AwaitingAck | PayoutStanding::BelowUnit => continue,
                };
                *sum = sum.checked_add(one).map_err(broken)?;
            }
            let Some(lowest) = lowest else { break };
            end = lowest;
        }
        earnings.trailing_apr = annual_rate(paid, weight);
        Ok(earnings)
    }

    /// Why a payout is what it is.
    pub async fn explain_payout(
        &self,
        pool: &Pool,
        period: PeriodIndex,
        account: &AccountId,
    ) -> Result<Explanation, AppError> {
        let unknown = || {
            let message = format!("account {account} has no released payout of period {period} in pool {}", pool.id());
            AppError::refused(Reason::UnknownPayout, message)
        };
        let place = self.book.place_of(pool.number(), account).ok_or_else(unknown)?;
        let (shares, _) = self.shares(pool, place, period.0, period.next().0).await?;
        let share = shares.into_iter().next_back().ok_or_else(unknown)?;
        let payout = self.account_payout(pool, account, place, &share).await?.ok_or_else(unknown)?;
        let weight = self.book.frozen_weight(pool.number(), account, period).await?.ok_or_else(unknown)?;
        let frozen = self.period(pool, period).await?.ok_or_else(unknown)?;
        let record = share.record;
        let net = record.net().map_err(broken)?;
        let exact = U256::from(net.get()) * U256::from(weight);
        let paid = record.weight_total.checked_mul(U256::from(payout.amount.get()));
        let rest = paid.and_then(|paid| exact.checked_sub(paid)).filter(|_| !record.fixed_apr);
        let mut receipts = self.receipts_of(pool, &record).await?;
        receipts.truncate(MAX_EXPLAINED_RECEIPTS);
        Ok(Explanation { payout, weight, period: frozen, net, rounding_rest: rest, receipts, distribution: record })
    }
}
