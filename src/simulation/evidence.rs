//! What the auditor is given, gathered from a running service: its journal, its published figures, and the chain's own
//! effects. It translates and leaves out; it works out nothing.

use std::collections::BTreeMap;

use ruint::aliases::U256;

use super::auditor::input::{
    Basis, Correction, Distribution, Figures, Flags, Frozen, Group, Opened, Period, Position, Receipt, Record,
    Rejected, Slash, StakedChange, State,
};
use super::auditor::{Finding, Input, audit};
use crate::app::records::{DistributionRecord, PeriodRecord, PostingRecord, Progress};
use crate::app::{App, AppError, Pool};
use crate::book::{Book, JournalGroup, JournalRecord, PositionView};
use crate::domain::correction as domain;
use crate::domain::distribution::{AfterVoid, DistributionState};
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::eligibility::{EnrolmentMode, Standing};
use crate::domain::feed::SourceNumber;
use crate::domain::fixed_apr::{RewardPolicy, SlashPolicy};
use crate::domain::ledger::{Account, AssetAccount};
use crate::domain::period::{OpenPeriod, PeriodIndex};
use crate::domain::time::UnixSeconds;
use crate::store::keys;

/// Audits a pool as it stands: empty where everything that was published is exactly right.
///
/// `effects` is everything that the chain did up to now, in its order ([`SimulatedChain::final_effects`]). The committer
/// must have nothing left to do, and the book's journals must be kept for ever (`archive_for_ever`). Errors are those of
/// reading.
///
/// [`SimulatedChain::final_effects`]: crate::chain::simulated::SimulatedChain::final_effects
pub async fn audit_pool(app: &App, book: &Book, pool: &Pool, effects: &[Effect]) -> Result<Vec<Finding>, AppError> {
    Ok(audit(&gather(app, book, pool, effects).await?))
}

/// Gathers what [`audit`] goes by. As for [`audit_pool`].
pub async fn gather(app: &App, book: &Book, pool: &Pool, effects: &[Effect]) -> Result<Input, AppError> {
    let (number, origin) = (pool.number(), pool.record.first_period_start);
    let mut input = Input {
        pool: pool.id().to_string(),
        origin: origin.get(),
        receipts: effects.iter().filter_map(receipt).collect(),
        staked: effects.iter().filter_map(staked).collect(),
        slashes: effects.iter().filter_map(slash).collect(),
        rounding_units: pool.chain.descriptor.rounding_units.get(),
        ..Input::default()
    };
    untold(app, pool, &mut input).await?;
    for partition in 0..pool.record.partitions {
        let groups = book.archived_events(number, partition, 1, usize::MAX).await?;
        input.partitions.push(groups.into_iter().map(|it| group(it, origin)).collect());
        let accounts = book.accounts_from(number, partition, 0, usize::MAX);
        let views = accounts.iter().filter_map(|account| book.position(number, account, UnixSeconds::new(0)));
        input.positions.extend(views.map(|view| position(&view)));
    }
    for (source, _) in book.sources() {
        let rejected = book.rejected_events(source, 1, usize::MAX).await?.into_iter();
        let of_pool = rejected.filter(|(_, event)| event.pool == Some(number));
        input.rejected.extend(of_pool.map(|(sequence, event)| Rejected {
            source: source.0,
            sequence,
            account: event.account,
            reason: event.reason.name().to_owned(),
        }));
    }
    let last = app.last_period(pool).await?.map_or(0, |last| last.index.next().0);
    for index in (0..last).map(PeriodIndex) {
        let Some(record) = app.period(pool, index).await? else { continue };
        let frozen = frozen(book, pool, index).await?;
        input.periods.push(period(&record, frozen));
        for record in app.distributions(pool, index).await? {
            input.distributions.push(distribution(app, pool, &record).await?);
        }
    }
    Ok(input)
}

fn group(group: JournalGroup, origin: UnixSeconds) -> Group {
    let records = group.records.into_iter().map(|it| record(it, origin)).collect();
    Group { number: group.number, now: group.now.get(), records }
}

fn record(record: JournalRecord, origin: UnixSeconds) -> Record {
    match record {
        JournalRecord::Balance { account, source, sequence, at, balance, pool_full } => Record::Balance {
            account: account.to_string(),
            source: source.0,
            sequence,
            balance: balance.get(),
            at: at.get(),
            pool_full,
        },
        JournalRecord::SnapshotBalance { account, source, sequence, at, balance, .. } => Record::Snapshot {
            account: account.to_string(),
            source: source.0,
            sequence,
            balance: balance.get(),
            at: at.get(),
        },
        JournalRecord::Standing { account, sequence, at, change } => Record::Standing {
            account: account.to_string(),
            sequence,
            at: at.get(),
            set: flags(change.set),
            clear: flags(change.clear),
        },
        JournalRecord::Correction { account, sequence, correction, pool_full } => {
            Record::Correction(corrected(account.to_string(), sequence, &correction, pool_full, origin))
        }
        JournalRecord::HandOver { account, from, to } => {
            Record::HandOver { account: account.to_string(), from: from.0, to: to.0 }
        }
        JournalRecord::Open(period) => Record::Open(opened(&period)),
        JournalRecord::Freeze { index, cursors } => Record::Freeze { index: index.0, cursors: plain_cursors(cursors) },
    }
}

fn corrected(
    account: String,
    sequence: u64,
    correction: &domain::Correction,
    pool_full: bool,
    origin: UnixSeconds,
) -> Correction {
    let domain::Correction { at, balance, until, oldest, next, basis } = *correction;
    Correction {
        account,
        source: SourceNumber::CORRECTION.0,
        sequence,
        at: at.get(),
        balance: balance.get(),
        until: until.map(UnixSeconds::get),
        oldest,
        next,
        basis: Basis {
            oldest: basis.oldest.0,
            last_event_at: origin.plus(i64::from(basis.last_second)).get(),
            last_sequence: basis.last_sequence,
            balance: basis.available.get(),
            standing: flags(basis.standing),
        },
        pool_full,
    }
}

fn opened(period: &OpenPeriod) -> Opened {
    Opened {
        index: period.index.0,
        start: period.bounds.start.get(),
        end: period.bounds.end.get(),
        minimum: period.policy.minimum.get(),
        cap: period.policy.cap.map(|cap| cap.get()),
        opt_in: period.policy.enrolment == EnrolmentMode::OptIn,
        max_skew: i64::from(period.limits.max_skew_seconds),
        max_lateness: i64::from(period.limits.max_lateness_seconds),
        max_future: i64::from(period.limits.max_future_seconds),
    }
}

/// A source that has sent nothing yet is in a cut or not, which makes no difference.
fn plain_cursors(cursors: Vec<(SourceNumber, u64)>) -> BTreeMap<u16, u64> {
    cursors.into_iter().filter(|(_, last)| *last > 0).map(|(source, last)| (source.0, last)).collect()
}

const fn flags(standing: Standing) -> Flags {
    Flags {
        opted_out: standing.contains(Standing::OPTED_OUT_POOL),
        opted_out_of_all: standing.contains(Standing::OPTED_OUT_ALL),
        opted_in: standing.contains(Standing::OPTED_IN),
        restricted: standing.contains(Standing::RESTRICTED),
    }
}

fn position(view: &PositionView) -> Position {
    Position {
        account: view.account.to_string(),
        balance: view.balance.get(),
        standing: flags(view.standing),
        owner: view.owner.map(|owner| owner.0),
        last_event_at: view.last_event_at.get(),
        uncollected: view.uncollected,
    }
}

fn receipt(effect: &Effect) -> Option<Receipt> {
    let (amount, earned_from, earned_to) = match &effect.kind {
        EffectKind::RewardPaid { amount, earned_from, earned_to, .. }
        | EffectKind::RewardCompounded { amount, earned_from, earned_to, .. } => (*amount, *earned_from, *earned_to),
        _ => return None,
    };
    Some(Receipt {
        key: effect.key.to_string(),
        amount: amount.get(),
        at: effect.at.get(),
        earned_from: earned_from.get(),
        earned_to: earned_to.get(),
        recorded_at: None,
    })
}

/// How an effect changes what is delegated or unbonding.
fn staked(effect: &Effect) -> Option<StakedChange> {
    let change = match &effect.kind {
        EffectKind::Delegated { amount, .. } | EffectKind::RewardCompounded { amount, .. } => amount.signed().get(),
        EffectKind::Matured { amount, .. } => -amount.signed().get(),
        EffectKind::Slashed { delegated, unbonding, .. } => -delegated.signed().get() - unbonding.signed().get(),
        EffectKind::SlashReversed { delegated, unbonding, .. } => delegated.signed().get() + unbonding.signed().get(),
        EffectKind::Undelegated { .. }
        | EffectKind::Redelegated { .. }
        | EffectKind::TransferIn { .. }
        | EffectKind::TransferOut { .. }
        | EffectKind::Withdrawn { .. }
        | EffectKind::RewardPaid { .. }
        | EffectKind::FeePaid { .. } => return None,
    };
    Some(StakedChange { at: effect.at.get(), change })
}

/// A slash that the chain told of, or its reversal.
fn slash(effect: &Effect) -> Option<Slash> {
    let (key, delegated, unbonding, reversal) = match &effect.kind {
        EffectKind::Slashed { delegated, unbonding, .. } => (&effect.key, delegated, unbonding, false),
        EffectKind::SlashReversed { slash, delegated, unbonding, .. } => (slash, delegated, unbonding, true),
        _ => return None,
    };
    let amount = delegated.get().saturating_add(unbonding.get());
    Some(Slash { key: key.to_string(), at: effect.at.get(), amount, reversal })
}

/// What the chain did without an effect that tells of it: as reconciliation booked it, since nothing else shows when.
async fn untold(app: &App, pool: &Pool, input: &mut Input) -> Result<(), AppError> {
    for slash in app.slashes(pool).await?.into_iter().filter(|slash| !slash.reported) {
        let amount = slash.slash.delegated.get().saturating_add(slash.slash.unbonding.get());
        input.slashes.push(Slash { key: slash.key.to_string(), at: slash.at.get(), amount, reversal: false });
    }
    input.slashes.sort_by_key(|slash| slash.at);
    let range = keys::range_of_tag(keys::tag::POSTING);
    let postings: Vec<PostingRecord> = app.list(pool.control(), range, usize::MAX).await?;
    let untold = ["unexplained_increase", "unexplained_drop", "differences_accepted", "rounding"];
    for posting in postings.iter().filter(|posting| untold.contains(&posting.reason.as_str())) {
        let staked = posting.legs.iter().filter_map(|leg| match &leg.account {
            Account::Asset(AssetAccount::Delegated(_) | AssetAccount::Unbonding) => Some(leg.change.get()),
            _ => None,
        });
        input.staked.push(StakedChange { at: posting.at.get(), change: staked.sum() });
    }
    Ok(())
}

/// What the freeze of a period sealed, once it is sealed whole.
async fn frozen(book: &Book, pool: &Pool, index: PeriodIndex) -> Result<Option<Frozen>, AppError> {
    let number = pool.number();
    let Some(sealed) = book.frozen(number, index).await? else { return Ok(None) };
    let mut weights = BTreeMap::new();
    for partition in 0..pool.record.partitions {
        let chunks = book.weight_chunks(number, partition, index, 0, usize::MAX).await?;
        let column: Vec<u128> = chunks.into_iter().flat_map(|(_, weights)| weights).collect();
        let accounts = book.accounts_from(number, partition, 0, column.len());
        weights.extend(accounts.iter().map(ToString::to_string).zip(column));
    }
    Ok(Some(Frozen {
        weights,
        weight_total: sealed.total.sum,
        added: sealed.adjusted.up,
        taken: sealed.adjusted.down,
        count: sealed.total.count,
        positive: sealed.total.positive,
        eligible_at_start: sealed.start_total.get(),
        eligible_at_end: sealed.end_total.get(),
        cursors: plain_cursors(sealed.cursors),
    }))
}

fn period(record: &PeriodRecord, frozen: Option<Frozen>) -> Period {
    let policy = &record.policy;
    Period {
        index: record.index.0,
        start: record.bounds.start.get(),
        end: record.bounds.end.get(),
        minimum: policy.eligibility.minimum.get(),
        cap: policy.eligibility.cap.map(|cap| cap.get()),
        opt_in: policy.eligibility.enrolment == EnrolmentMode::OptIn,
        fee_bps: policy.fee.get(),
        payout_unit: policy.payout_unit.get().get(),
        fixed_apr: match policy.reward {
            RewardPolicy::ProRata => None,
            RewardPolicy::FixedApr(rate) => Some((rate.numerator(), rate.denominator())),
        },
        rewards_absorb: policy.slash == SlashPolicy::RewardsAbsorb,
        state: record.state.name(),
        frozen,
    }
}

async fn distribution(app: &App, pool: &Pool, record: &DistributionRecord) -> Result<Distribution, AppError> {
    let (state, live) = match record.state {
        DistributionState::Computed => (State::Computed, true),
        DistributionState::Held => (State::Held, true),
        DistributionState::Approved => (State::Approved, true),
        DistributionState::Released | DistributionState::Settled => (State::Released, true),
        DistributionState::Voided(AfterVoid::Recompute) => (State::VoidedToRecompute, false),
        DistributionState::Voided(AfterVoid::Carry) => (State::VoidedToCarry, false),
    };
    let mut receipts = None;
    if live {
        let taken = app.receipts_of(pool, record).await?;
        receipts = Some(taken.iter().map(|receipt| receipt.reward.key.to_string()).collect());
    }
    let mut payouts = None;
    if record.state.is_released() {
        let all = app.payouts_from(pool, record.period, record.revision, 0, usize::MAX).await?;
        payouts = Some(all.into_iter().map(|payout| (payout.account.to_string(), payout.amount.get())).collect());
    }
    let figures = &record.figures;
    Ok(Distribution {
        period: record.period.0,
        revision: record.revision,
        state,
        sealed: record.progress == Progress::Sealed,
        computed_at: record.computed_at.get(),
        receipt_count: record.receipts.count,
        receipts,
        figures: Figures {
            receipts: figures.receipts.get(),
            carry_in: figures.carry_in.get(),
            house_in: figures.house_in.get(),
            fee: figures.fee.get(),
            recovery: figures.recovery.get(),
            payouts: figures.payouts.get(),
            house_out: figures.house_out.get(),
            carry_out: figures.carry_out.get(),
        },
        owed: record.owed.get(),
        weight_total: record.weight_total,
        house_weight: record.house_weight,
        staked_at_end: record.staked_at_end.get(),
        positions: record.positions,
        positive_count: record.positive_count,
        paid_count: record.paid_count,
        hash: U256::from_le_bytes(record.hash.to_bytes()),
        holds: record.holds.iter().map(|hold| hold.code.clone()).collect(),
        payouts,
    })
}

#[cfg(test)]
mod tests;
