//! Ledger against chain, at one height, with every effect up to that height booked. What differs stops outflows.

mod rounding;

use std::collections::BTreeMap;

use crate::chain::{ChainError, Observation, RewardStyle};
use crate::domain::amount::{AmountError, BaseUnits, SignedUnits};
use crate::domain::audit_log::Note;
use crate::domain::booking;
use crate::domain::effect::{Effect, EffectKey, EffectKind};
use crate::domain::equations::{self, ChainFigures};
use crate::domain::fixed_apr::SlashPolicy;
use crate::domain::ids::{TransactionId, ValidatorId};
use crate::domain::ledger::{Account, AssetAccount, LedgerView};
use crate::domain::reconciliation::{self, Compared, Difference, Drop, Reading, Verdict};
use crate::domain::slash::Slash;
use crate::domain::time::{DAY_SECONDS, UnixSeconds};
use crate::store::keys;
use crate::store::records::{ChainMark, PoolState, SlashRecord, Suspect};

use super::control::Change;
use super::effects;
use super::metrics::PoolName;
use super::{App, AppError, Pool, Work, rebalance, restored, slash};

/// How many differences are told in words: what is told is kept in a record of the store.
const TOLD: usize = 16;

/// How far ahead of the service's clock the chain's time may be, in seconds: a day. Where clocks are right they are seconds
/// apart, and an accelerated one runs on by hours while a step runs. A reading that is wrong by less is corrected by the next.
const MAX_AHEAD_SECONDS: i64 = DAY_SECONDS as i64;

/// After so many observe intervals without an agreement nothing is staked: a few lost answers are no reason.
const STALE_INTERVALS: u64 = 10;

/// The same in seconds at least, where the intervals are short: clocks are apart by as much.
const LEAST_STALE_SECONDS: u64 = 900;

/// How long the reasons of a pause may become: they are kept in a record of the store.
const MAX_REASON_BYTES: usize = 4_000;

/// What stands for the reasons of a pause that did not fit.
const MORE_REASONS: &str = "; and more, which the log has";

/// What a second reading of the same difference was booked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Missing stake: a slash.
    Slash,
    /// More than the ledger had: suspense.
    Suspense,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciliation {
    /// The height.
    pub height: u64,
    /// The chain's time there.
    pub at: UnixSeconds,
    /// What the chain has.
    pub chain: ChainFigures,
    /// What a claim would pay there, by validator, or for the whole account where one claim is for all of it.
    pub pending: BTreeMap<Option<ValidatorId>, BaseUnits>,
    /// Where ledger and chain differed; empty where they agreed.
    pub differences: Vec<Difference>,
    /// What the differences were booked as, where a second reading had shown the same.
    pub booked: Option<Resolution>,
}

impl Reconciliation {
    /// Whether ledger and chain agreed, to within the tolerance.
    pub fn agrees(&self) -> bool {
        self.differences.iter().all(|difference| difference.tolerated)
    }
}

fn broken(error: impl ToString) -> AppError {
    AppError::Broken(format!("comparing with the chain: {}", error.to_string()))
}

/// Reads the chain when it is due, books what it did, and compares.
pub async fn step(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Work, AppError> {
    let mark = app.chain_mark(pool).await?;
    let interval = app.settings.observe_interval_seconds;
    // Books from the future are no reason to wait for it.
    let lately = now.since(mark.booked_at) < interval && mark.booked_at.since(now) <= interval;
    if mark.booked_height > 0 && lately {
        return Ok(Work::Idle);
    }
    match reconcile(app, pool, now).await {
        Ok(Some(_)) => {
            let moved = app.chain_mark(pool).await?.booked_height > mark.booked_height;
            Ok(if moved { Work::Done } else { Work::Idle })
        }
        Ok(None) => Ok(Work::Idle),
        // A chain that does not answer is asked again at the next step. Exits go on meanwhile; staking ends before long.
        Err(AppError::Chain(error)) => {
            app.metrics.readings_failed.get_or_create(&PoolName { pool: pool.id().to_string() }).inc();
            tracing::warn!(pool = %pool.id(), %error, "the chain was not read");
            Ok(Work::Idle)
        }
        Err(error) => Err(error),
    }
}

/// Books everything up to the chain's present height and compares there. `None` where the chain showed an older height
/// than is booked: nothing can be compared then.
pub(super) async fn reconcile(app: &App, pool: &Pool, now: UnixSeconds) -> Result<Option<Reconciliation>, AppError> {
    let observation = pool.chain.adapter.observe().await?;
    let mark = app.chain_mark(pool).await?;
    let stale = observation.height < mark.seen_height.max(mark.booked_height);
    #[cfg(feature = "seeded-bugs")]
    let stale = stale && !crate::seeded::on(crate::seeded::Bug::StaleTrusted);
    if stale {
        return Ok(None);
    }
    dated(&observation, &mark, now)?;
    let (before, booked_height) = (pool.seen(), mark.booked_height);
    let from = booked_height;
    #[cfg(feature = "seeded-bugs")]
    let from = if crate::seeded::on(crate::seeded::Bug::StaleTrusted) { from.min(observation.height) } else { from };
    let effects = effects::all_of(pool, from, observation.height).await?;
    effects::book_all(app, pool, &effects, now).await?;
    let mut change = Change::begin(app, pool, now).await?;
    let mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    let overtaken = observation.height < mark.seen_height;
    #[cfg(feature = "seeded-bugs")]
    let overtaken = overtaken && !crate::seeded::on(crate::seeded::Bug::StaleTrusted);
    if overtaken {
        // A look-up booked something later in the meantime.
        return Ok(None);
    }
    let style = pool.chain.descriptor.reward_style;
    let tolerance = app.pool_state(pool).await?.settings.reconcile.tolerance;
    let mut lost = Vec::new();
    // The effects reach back to the reading before only where all of them were asked for, and on from it only where it is
    // no later one: another reader may have been shown that.
    let comparable = |before: &Observation| (booked_height..=observation.height).contains(&before.height);
    if let Some(before) = before.filter(|before| comparable(before)) {
        let paid = rewards_paid(style, &effects, before.height)?;
        lost =
            reconciliation::lost_rewards(&pending(style, &before)?, &paid, &pending(style, &observation)?, tolerance);
    }
    let found = settle(app, pool, &mut change, &observation, tolerance, lost).await?;
    let mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    let view = LedgerView::new(change.ledger().clone(), BaseUnits::ZERO).map_err(broken)?;
    // What was found and the pause are durable together: after a crash between the two, nobody would ever be asked.
    restored::compared(&mut change, mark.mismatch.is_none().then_some(mark.reconciled_height)).await?;
    if let Some(mismatch) = mark.mismatch {
        keep_paused_in(pool, &mut change, &format!("ledger and chain differ {mismatch}")).await?;
    }
    if let Some(resolution) = found.booked {
        let words = told(&found.differences);
        let height = observation.height;
        let what = match resolution {
            Resolution::Slash => "was booked as a slash",
            Resolution::Suspense => "was booked to suspense",
        };
        let reason = format!("what differed twice, again at height {height}, {what}: {words}");
        pause_in(pool, &mut change, &reason).await?;
    }
    change.commit().await?;
    // What could not be booked was not seen: the next reading may be an earlier one.
    pool.saw(observation);
    pool.compared(equations::on_chain(&view, &found.chain));
    Ok(Some(found))
}

/// Whether the books are fit to stake by: they have agreed with the chain since the last slash, and lately.
pub(super) async fn fit_to_stake(app: &App, pool: &Pool, now: UnixSeconds) -> Result<bool, AppError> {
    let mark = app.chain_mark(pool).await?;
    let several = app.settings.observe_interval_seconds.saturating_mul(STALE_INTERVALS).max(LEAST_STALE_SECONDS);
    let oldest = several.saturating_add(pool.chain.descriptor.pace.finality_seconds);
    Ok(mark.settled() && mark.reconciled_height > 0 && now.since(mark.reconciled_at) <= oldest)
}

/// Refuses a reading whose time can't be: periods are distributed and the chain is read by the time that the mark keeps of it.
fn dated(observation: &Observation, mark: &ChainMark, now: UnixSeconds) -> Result<(), ChainError> {
    let Observation { height, at, .. } = observation;
    if *at > now.plus(MAX_AHEAD_SECONDS) {
        let message = format!("block {height} is dated {at}, and it is {now} here; look at both clocks");
        return Err(ChainError::Untrusted(message));
    }
    // Where the mark is from the future, it was the earlier reading that was wrong.
    if *height > mark.booked_height && *at < mark.booked_at && mark.booked_at <= now {
        let (booked, then) = (mark.booked_height, mark.booked_at);
        let message = format!("block {height} is dated {at}, and block {booked} before it was dated {then}");
        return Err(ChainError::Untrusted(message));
    }
    Ok(())
}

/// Compares at one height, and makes of what differs what may be made of it.
async fn settle(
    app: &App,
    pool: &Pool,
    change: &mut Change<'_>,
    observation: &Observation,
    tolerance: BaseUnits,
    lost: Vec<Difference>,
) -> Result<Reconciliation, AppError> {
    let (height, at) = (observation.height, observation.at);
    let reading = reading(observation)?;
    let mut mark: ChainMark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    let unbonding = app.unbonding_by_validator(pool).await?;
    let booked = change.ledger().balance(&AssetAccount::Unbonding.into());
    if BaseUnits::sum(unbonding.values().copied()).map_err(broken)?.signed() != booked {
        return Err(broken("what unbonds by validator is not what unbonds in all"));
    }
    let mut differences = reconciliation::compare(change.ledger(), &unbonding, &reading, tolerance).map_err(broken)?;
    differences.extend(lost);
    #[cfg(feature = "seeded-bugs")]
    differences.retain(|_| !crate::seeded::on(crate::seeded::Bug::MismatchTolerated));
    if rounding::rounded(pool, change, &differences, mark.reconciled_height, height, at).await? {
        let unbonding = unbonding_after(app, pool, change).await?;
        differences = reconciliation::compare(change.ledger(), &unbonding, &reading, tolerance).map_err(broken)?;
        mark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    }
    let verdict = reconciliation::judge(&differences);
    let hash = fingerprint(&differences);
    let again = mark.suspect.filter(|suspect| suspect.hash == hash);
    let mut resolution = None;
    match (&verdict, again.filter(|first| first.height < height)) {
        (Verdict::Dropped(drops), Some(first)) => {
            book_drops(app, pool, change, drops, &first, height).await?;
            resolution = Some(Resolution::Slash);
        }
        (Verdict::Grown(found), Some(first)) if fits(change, found) => {
            book_growth(change, found, &first).await?;
            resolution = Some(Resolution::Suspense);
        }
        _ => {}
    }
    mark = change.read(&keys::chain_mark()).await?.unwrap_or_default();
    (mark.booked_height, mark.booked_at, mark.seen_height) = (height, at, height);
    if verdict == Verdict::Agrees || resolution.is_some() {
        (mark.reconciled_height, mark.reconciled_at) = (height, at);
        (mark.mismatch, mark.suspect) = (None, None);
    } else {
        let mismatch = format!("at height {height}: {}", told(&differences));
        app.metrics.mismatches.inc();
        tracing::error!(pool = %pool.id(), %mismatch, "ledger and chain differ");
        mark.mismatch = Some(mismatch);
        mark.suspect = Some(again.unwrap_or(Suspect { height, at, hash }));
    }
    change.put(keys::chain_mark(), &mark);
    let chain = figures(observation, &reading, tolerance)?;
    let pending = pending(pool.chain.descriptor.reward_style, observation)?;
    Ok(Reconciliation { height, at, chain, pending, differences, booked: resolution })
}

fn slash_of(validator: &ValidatorId, drop: &Drop, bearer: SlashPolicy) -> Slash {
    let Drop { delegated, unbonding } = *drop;
    Slash { validator: validator.clone(), delegated, unbonding, bearer, returned: BaseUnits::ZERO }
}

/// Books what two readings showed missing, by the policy of the first one's time.
async fn book_drops(
    app: &App,
    pool: &Pool,
    change: &mut Change<'_>,
    drops: &BTreeMap<ValidatorId, Drop>,
    first: &Suspect,
    height: u64,
) -> Result<(), AppError> {
    let bearer = slash::bearer(app, pool, first.at).await?;
    for (validator, drop) in drops {
        let slash = slash_of(validator, drop, bearer);
        change.post(&booking::unexplained_drop(first.height, &slash).map_err(broken)?, first.at)?;
        slash::unbonding_changed(change, validator, drop.unbonding.negated()).await?;
        let key = drop_key(first.height, validator)?;
        let record = SlashRecord { key, slash, at: first.at, height: first.height, reported: false };
        slash::booked(app, pool, change, &record, height).await?;
    }
    Ok(())
}

/// The name of a drop: one per height and validator. Validators' names may be as long as a whole transaction id.
fn drop_key(height: u64, validator: &ValidatorId) -> Result<EffectKey, AppError> {
    let hash = blake3::hash(validator.as_str().as_bytes()).to_hex();
    let transaction = TransactionId::new(&format!("drop:{height}:{}", &hash[..32])).map_err(broken)?;
    Ok(EffectKey { transaction, index: 0 })
}

/// Whether the ledger has room for the accounts that grew: it is one value of the store.
fn fits(change: &Change<'_>, found: &[(Compared, BaseUnits)]) -> bool {
    let delegated = |account: &Account| matches!(account, Account::Asset(AssetAccount::Delegated(_)));
    let there = change.ledger().balances().filter(|(account, _)| delegated(account)).count();
    let new = found.iter().filter(|(of, _)| match of {
        Compared::Delegated(validator) => {
            change.ledger().balance(&AssetAccount::Delegated(validator.clone()).into()) == SignedUnits::ZERO
        }
        _ => false,
    });
    u32::try_from(there + new.count()).is_ok_and(|count| count <= rebalance::MAX_VALIDATORS)
}

/// Books to suspense what two readings showed beyond the ledger.
async fn book_growth(
    change: &mut Change<'_>,
    found: &[(Compared, BaseUnits)],
    first: &Suspect,
) -> Result<(), AppError> {
    let mut accounts = Vec::new();
    for (of, amount) in found {
        accounts.push((
            match of {
                Compared::Liquid => AssetAccount::Liquid,
                Compared::Delegated(validator) => AssetAccount::Delegated(validator.clone()),
                Compared::Unbonding(validator) => {
                    slash::unbonding_changed(change, validator, amount.signed()).await?;
                    AssetAccount::Unbonding
                }
                Compared::Matured => AssetAccount::Matured,
                Compared::PendingReward(_) => continue,
            },
            *amount,
        ));
    }
    change.post(&booking::unexplained_increase(first.height, accounts).map_err(broken)?, first.at)
}

/// What differs, without the heights and sums that our own operations move.
pub(super) fn fingerprint(differences: &[Difference]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for difference in differences.iter().filter(|difference| !difference.tolerated) {
        hasher.update(format!("{}={};", difference.of, difference.apart()).as_bytes());
    }
    *hasher.finalize().as_bytes()
}

fn told(differences: &[Difference]) -> String {
    let real: Vec<&Difference> = differences.iter().filter(|difference| !difference.tolerated).collect();
    let word = |one: &&Difference| format!("{}: ledger {}, chain {}", one.of, one.ledger, one.chain);
    let mut words: Vec<String> = real.iter().take(TOLD).map(word).collect();
    if real.len() > TOLD {
        words.push(format!("and {} more", real.len() - TOLD));
    }
    words.join("; ")
}

/// What unbonds by validator, as `change` leaves it.
async fn unbonding_after(
    app: &App,
    pool: &Pool,
    change: &Change<'_>,
) -> Result<BTreeMap<ValidatorId, BaseUnits>, AppError> {
    let mut after = BTreeMap::new();
    for validator in app.unbonding_by_validator(pool).await?.into_keys() {
        let record: Option<crate::store::records::UnbondingRecord> = change.read(&keys::unbonding(&validator)).await?;
        after.extend(record.map(|record| (validator, record.amount)));
    }
    Ok(after)
}

fn add<K: Ord>(map: &mut BTreeMap<K, BaseUnits>, key: K, amount: BaseUnits) -> Result<(), AmountError> {
    if !amount.is_zero() {
        let sum = map.entry(key).or_default();
        *sum = sum.checked_add(amount)?;
    }
    Ok(())
}

/// What a claim would pay.
fn pending(
    style: RewardStyle,
    observation: &Observation,
) -> Result<BTreeMap<Option<ValidatorId>, BaseUnits>, AppError> {
    let mut pending = BTreeMap::new();
    for delegation in &observation.delegations {
        let whom = (style == RewardStyle::ClaimPerValidator).then(|| delegation.validator.clone());
        add(&mut pending, whom, delegation.pending_reward).map_err(broken)?;
    }
    Ok(pending)
}

/// What was paid past a height, counted like [`pending`].
fn rewards_paid(
    style: RewardStyle,
    effects: &[Effect],
    after: u64,
) -> Result<BTreeMap<Option<ValidatorId>, BaseUnits>, AppError> {
    let mut paid = BTreeMap::new();
    for effect in effects.iter().filter(|effect| effect.height > after) {
        if let EffectKind::RewardPaid { validator, amount, .. } = &effect.kind {
            let whom = validator.clone().filter(|_| style == RewardStyle::ClaimPerValidator);
            add(&mut paid, whom, *amount).map_err(broken)?;
        }
    }
    Ok(paid)
}

fn reading(observation: &Observation) -> Result<Reading, AppError> {
    let mut reading = Reading { liquid: observation.liquid, ..Reading::default() };
    for delegation in &observation.delegations {
        add(&mut reading.delegated, delegation.validator.clone(), delegation.amount).map_err(broken)?;
    }
    for entry in &observation.unbondings {
        if entry.matured {
            reading.matured = reading.matured.checked_add(entry.amount).map_err(broken)?;
        } else {
            add(&mut reading.unbonding, entry.validator.clone(), entry.amount).map_err(broken)?;
        }
    }
    Ok(reading)
}

fn figures(observation: &Observation, reading: &Reading, tolerance: BaseUnits) -> Result<ChainFigures, AppError> {
    let unbonding = reading.unbonding.values().copied().chain([reading.matured]);
    Ok(ChainFigures {
        height: observation.height,
        liquid: reading.liquid,
        delegated: reading.delegated.clone(),
        unbonding: BaseUnits::sum(unbonding).map_err(broken)?,
        tolerance,
    })
}

/// Stops a pool's outflows for what is found again as long as it stands, unless they are stopped.
pub(super) async fn pause(app: &App, pool: &Pool, now: UnixSeconds, reason: &str) -> Result<(), AppError> {
    let mut change = Change::begin(app, pool, now).await?;
    keep_paused_in(pool, &mut change, reason).await?;
    if change.size() == 0 {
        return Ok(());
    }
    change.commit().await
}

/// The same within a change, so that what calls for it and the pause are durable together.
async fn keep_paused_in(pool: &Pool, change: &mut Change<'_>, reason: &str) -> Result<(), AppError> {
    let state: Option<PoolState> = change.read(&keys::pool_state()).await?;
    if state.is_some_and(|state| state.paused.is_some()) {
        return Ok(());
    }
    pause_in(pool, change, reason).await
}

/// Stops a pool's outflows within a change for what happened once and is not found again; where they are stopped, it is
/// told beside what they are stopped for.
pub(super) async fn pause_in(pool: &Pool, change: &mut Change<'_>, reason: &str) -> Result<(), AppError> {
    let Some(mut state) = change.read::<PoolState>(&keys::pool_state()).await? else { return Ok(()) };
    tracing::error!(pool = %pool.id(), reason, "paused");
    let before = state.shown();
    state.paused = Some(also(state.paused.as_deref(), reason));
    let note = Note::of(format!("pools/{}", pool.id()), format!("outflows stopped by the service: {reason}"));
    change.note(note.changed(before, state.shown()));
    state.version += 1;
    change.put(keys::pool_state(), &state);
    Ok(())
}

/// The same for what is found again as long as it stands: told, and written down, the first time alone.
pub(super) async fn pause_once_in(pool: &Pool, change: &mut Change<'_>, reason: &str) -> Result<(), AppError> {
    let state: Option<PoolState> = change.read(&keys::pool_state()).await?;
    let paused = state.and_then(|state| state.paused);
    if paused.as_deref().is_some_and(|paused| also(Some(paused), reason) == paused) {
        return Ok(());
    }
    pause_in(pool, change, reason).await
}

/// What a pool is stopped for, with one more reason: each is told once, and past the bound of the record the log has them.
pub(super) fn also(before: Option<&str>, reason: &str) -> String {
    match before {
        None => reason.to_owned(),
        Some(before) if before.contains(reason) || before.ends_with(MORE_REASONS) => before.to_owned(),
        Some(before) if before.len() + reason.len() < MAX_REASON_BYTES => format!("{before}; {reason}"),
        Some(before) => format!("{before}{MORE_REASONS}"),
    }
}

impl App {
    /// How far the chain's effects are booked and reconciled.
    pub async fn chain_mark(&self, pool: &Pool) -> Result<ChainMark, AppError> {
        Ok(self.read(pool.control(), &keys::chain_mark()).await?.unwrap_or_default())
    }

    /// Stops a pool's outflows for `reason`, unless they are stopped.
    pub async fn stop_outflows(&self, pool: &Pool, now: UnixSeconds, reason: &str) -> Result<(), AppError> {
        pause(self, pool, now, reason).await
    }

    /// Compares ledger and chain now. `None` where the chain showed an older height than is booked.
    pub async fn reconcile(&self, pool: &Pool) -> Result<Option<Reconciliation>, AppError> {
        reconcile(self, pool, self.now()).await
    }
}
