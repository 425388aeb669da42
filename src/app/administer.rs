//! What operators change: pools, policies, sources, validators, pauses. Each once, by its request id.

use crate::book::{HandOver, MAX_PARTITIONS, MAX_SOURCES, Overloaded};
use crate::domain::approval::{AtStake, Proposal};
use crate::domain::audit_log::{Log, Note};
use crate::domain::feed::SourceNumber;
use crate::domain::ids::{AccountId, AssetId, ChainId, PoolId, SourceId};
use crate::domain::period::{PeriodIndex, parse_period_start};
use crate::domain::policy::{PolicyRefusal, PoolPolicy, PoolSettings};
use crate::domain::policy_change::{FieldChange, changes};
use crate::domain::time::UnixSeconds;
use crate::store::records::{PeriodRecord, PolicyRecord, PoolRecord, PoolState, Record, SourceRecord, ValidatorChoice};
use crate::store::{Batch, Direction, PartitionId, keys};

use super::ingest::{PUT_BALANCE, PUT_BALANCE_NAME, book_refusal};
use super::query::stake::choice_etag;
use super::{App, AppError, Once, Pool, Reason, Request, audit_log, reconcile, restored};

/// How many rejected events are counted at once.
const REJECTED_PER_READ: usize = 4_096;

/// A pool to create.
#[derive(Clone, Debug)]
pub struct NewPool {
    /// Its name.
    pub id: PoolId,
    /// The chain, which has to be connected.
    pub chain: ChainId,
    /// The chain's own asset.
    pub asset: AssetId,
    /// Where its period 0 begins; `None` for the start of the period that now lies in, counted from midnight UTC of 1970
    /// in steps of the period's length. It must not lie ahead.
    pub first_period_start: Option<UnixSeconds>,
    /// How many partitions its book has; changes no result.
    pub partitions: u16,
    /// The policy of its first period.
    pub policy: PoolPolicy,
    /// How it is run.
    pub settings: PoolSettings,
}

fn refuse_policy(field: &'static str) -> impl FnOnce(PolicyRefusal) -> AppError {
    move |refusal| AppError::invalid(field, refusal.to_string())
}

/// What is written down of a change of policy or settings: the fields that have another value, and nothing else.
fn updated(pool: &Pool, changes: &[FieldChange]) -> Note {
    let (mut was, mut is) = (Vec::new(), Vec::new());
    for FieldChange { field, before, after, .. } in changes {
        was.push(format!("{field}={before}"));
        is.push(format!("{field}={after}"));
    }
    let lowered = changes.iter().filter(|change| change.lowers).count();
    let summary = format!("updated: {} fields, {lowered} of them guards that are lowered", changes.len());
    Note::of(resource(pool), summary).changed(was.join(", "), is.join(", "))
}

/// The changes that lower a guard, for whoever approves them, with the rest counted.
fn lowered(changes: &[FieldChange]) -> String {
    let lowered = changes.iter().filter(|change| change.lowers);
    let shown: Vec<String> =
        lowered.map(|FieldChange { field, before, after, .. }| format!("{field} from {before} to {after}")).collect();
    let rest = changes.len() - shown.len();
    format!("lowers {}; changes {rest} other fields", shown.join(", "))
}

fn resource(pool: &Pool) -> String {
    format!("pools/{}", pool.id())
}

impl App {
    /// Creates a pool, once. (chain, asset) names one pool for ever. It takes balances once its first period is open and
    /// what was decided on accounts before is in its positions: within the next steps.
    pub async fn create_pool(&self, request: &Request, new: NewPool) -> Result<Once, AppError> {
        new.policy.check().map_err(refuse_policy("policy"))?;
        new.settings.check(new.policy.period_seconds).map_err(refuse_policy("settings"))?;
        if !new.settings.approval.single_person_limit.is_zero() {
            let message = "a pool begins without one; UpdatePool raises it, with a second person";
            return Err(AppError::invalid("settings.approval.single_person_limit", message));
        }
        if new.partitions == 0 || new.partitions > MAX_PARTITIONS {
            return Err(AppError::invalid("partition_count", format!("it has to be from 1 to {MAX_PARTITIONS}")));
        }
        let chain = self
            .chains
            .get(&new.chain)
            .ok_or_else(|| AppError::invalid("chain", format!("the configuration connects no chain {}", new.chain)))?;
        if chain.descriptor.asset != new.asset {
            let message = format!("{} issues {}, not {}", new.chain, chain.descriptor.asset, new.asset);
            return Err(AppError::invalid("asset", message));
        }
        let guard = self.service_lock.lock().await;
        if let Some(repeated) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            // The first call may have ended before it had taken the pool in.
            let record: Option<PoolRecord> = self.read(PartitionId::SERVICE, &keys::pool(&new.id)).await?;
            if let Some(record) = record.filter(|record| self.pool(&record.id).is_err()) {
                self.take_in(record).await?;
            }
            return Ok(repeated);
        }
        let pools = super::pool_records(&*self.store).await?;
        if let Some(there) = pools.iter().find(|pool| pool.id == new.id || pool.asset == new.asset) {
            let message = format!("pool {} on {} is there already; one asset has one pool", there.id, there.chain);
            return Err(AppError::refused(Reason::AlreadyExists, message));
        }
        let number = pools.iter().map(|pool| pool.number).max().unwrap_or(0);
        let number = number.checked_add(1).ok_or_else(|| AppError::Broken("pool numbers are used up".to_owned()))?;
        let now = self.now();
        let length = i64::from(new.policy.period_seconds);
        let running = UnixSeconds::new(now.get().div_euclid(length) * length);
        let first_period_start = new.first_period_start.unwrap_or(running);
        if first_period_start > now {
            let message = "the first period lies ahead; create the pool when it begins, or leave the start out";
            return Err(AppError::invalid("first_period_start", message));
        }
        let record = PoolRecord {
            id: new.id,
            number,
            chain: new.chain,
            asset: new.asset,
            decimals: chain.descriptor.decimals,
            partitions: new.partitions,
            created_at: now,
            first_period_start,
            simulated: chain.descriptor.simulated,
        };
        let mut control = Batch::new(PartitionId::control(number));
        let policy = PolicyRecord { from_period: 0, policy: new.policy };
        control.put(keys::policy(0), policy.encode());
        let state = PoolState { paused: None, version: 1, settings: new.settings, restored: None };
        control.put(keys::pool_state(), state.encode());
        let mut service = Batch::new(PartitionId::SERVICE);
        let (name, owner) = (keys::pool(&record.id), keys::pool_of_asset(&record.chain, &record.asset));
        service.expect_absent(name.clone()).expect_absent(owner.clone());
        service.put(name, record.encode()).put(owner, record.id.as_str());
        let PoolRecord { id, chain, asset, .. } = &record;
        let note = Note::of(format!("pools/{id}"), format!("created on {chain}, staking {asset}"));
        if let Some(act) = request.act(note.clone()) {
            audit_log::begin(&mut control, &Log::Pool(id.clone()), now, act);
        }
        self.commit_marked(request, vec![control], service, now, note).await?;
        let pool = self.take_in(record).await?;
        drop(guard);
        match self.begin(&pool).await {
            // The pool is there, and its own steps let it begin once the book has room.
            Err(AppError::Refused(refusal)) if refusal.reason == Reason::Overloaded => {}
            begun => begun?,
        }
        Ok(Once::First)
    }

    /// What operators set of a pool.
    pub async fn pool_state(&self, pool: &Pool) -> Result<PoolState, AppError> {
        let state = self.store.get(pool.control(), &keys::pool_state()).await?;
        let state = state.ok_or_else(|| AppError::Broken(format!("pool {} has no state record", pool.id())))?;
        Ok((*pool.state.decode(&state)?).clone())
    }

    /// The policy that counts for a period that begins after all that are open.
    pub async fn next_policy(&self, pool: &Pool) -> Result<PolicyRecord, AppError> {
        let policy = self.last(pool.control(), keys::range_of_tag(keys::tag::POLICY)).await?;
        policy.ok_or_else(|| AppError::Broken(format!("pool {} has no policy", pool.id())))
    }

    /// Changes a pool's policy from the next period on that has not begun, or its settings at once, or both. `etag` is
    /// the version that the change was decided on; `None` takes any. What lowers a guard waits for a second person.
    pub async fn update_pool(
        &self,
        request: &Request,
        pool: &Pool,
        etag: Option<u64>,
        policy: Option<PoolPolicy>,
        settings: Option<PoolSettings>,
    ) -> Result<Once, AppError> {
        if let Some(policy) = &policy {
            policy.check().map_err(refuse_policy("pool.policy"))?;
        }
        self.mutate(pool, request, async |change| {
            let mut state = self.pool_state(pool).await?;
            let next = self.next_policy(pool).await?.policy;
            let before = (state.settings.clone(), next.clone());
            if etag.is_some_and(|etag| etag != state.version) {
                let message = "the pool was changed since it was read; read it again and decide again";
                return Err(AppError::refused(Reason::EtagMismatch, message));
            }
            let period_seconds = policy.as_ref().unwrap_or(&next).period_seconds;
            if let Some(settings) = &settings {
                state.settings = settings.clone();
            }
            state.settings.check(period_seconds).map_err(refuse_policy("pool.settings"))?;
            let changes = changes((&before.0, &before.1), (&state.settings, policy.as_ref().unwrap_or(&next)));
            if changes.iter().any(|change| change.lowers) {
                let what = (resource(pool), lowered(&changes));
                let proposal =
                    || Proposal::UpdatePool { policy: policy.clone().map(Box::new), settings: settings.map(Box::new) };
                let waits = self.second_person(change, (pool, request), AtStake::Guard, what, proposal).await?;
                if let Some(note) = waits {
                    return Ok(note);
                }
            }
            if let Some(policy) = &policy {
                let last: Option<PeriodRecord> = self.last_period(pool).await?;
                let from_period = last.map_or(0, |period| period.index.next().0);
                change.put(keys::policy(from_period), &PolicyRecord { from_period, policy: policy.clone() });
            }
            state.version += 1;
            change.put(keys::pool_state(), &state);
            Ok(updated(pool, &changes))
        })
        .await
    }

    /// Stops a pool's outflows for `reason`, beside what they are stopped for already. It takes one person.
    pub async fn pause_pool(&self, request: &Request, pool: &Pool, reason: &str) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            let mut state = self.pool_state(pool).await?;
            let before = state.shown();
            state.paused = Some(reconcile::also(state.paused.as_deref(), reason));
            state.version += 1;
            change.put(keys::pool_state(), &state);
            Ok(Note::of(resource(pool), format!("paused: {reason}")).changed(before, state.shown()))
        })
        .await
    }

    /// Lets a paused pool's outflows go on. It takes two persons, and neither where nothing is stopped.
    pub async fn resume_pool(&self, request: &Request, pool: &Pool, reason: &str) -> Result<Once, AppError> {
        self.mutate(pool, request, async |change| {
            let mut state = self.pool_state(pool).await?;
            let before = state.shown();
            let Some(paused) = &state.paused else {
                return Ok(Note::of(resource(pool), format!("nothing was stopped. {reason}")));
            };
            restored::may_resume(pool, &state)?;
            let what = (resource(pool), format!("resumes it, {reason}. It is paused for: {paused}"));
            let proposal = || Proposal::ResumePool { reason: reason.to_owned() };
            let waits = self.second_person(change, (pool, request), AtStake::Guard, what, proposal).await?;
            if let Some(note) = waits {
                return Ok(note);
            }
            state.resume();
            state.version += 1;
            change.put(keys::pool_state(), &state);
            Ok(Note::of(resource(pool), format!("resumed. {reason}")).changed(before, state.shown()))
        })
        .await
    }

    /// Sets what operators want of a validator, which the chain has to know unless it is removed. `etag` is that of the
    /// choice that this was decided on; `None` takes any.
    pub async fn put_validator(
        &self,
        request: &Request,
        pool: &Pool,
        etag: Option<&str>,
        choice: ValidatorChoice,
    ) -> Result<Once, AppError> {
        let observation = self.last_seen(pool).await?;
        if !choice.removed && !observation.validators.iter().any(|validator| validator.id == choice.id) {
            let message = format!("{} has no validator {}", pool.record.chain, choice.id);
            return Err(AppError::refused(Reason::UnknownValidator, message));
        }
        self.mutate(pool, request, async |change| {
            let before: Option<ValidatorChoice> = change.read(&keys::validator(&choice.id)).await?;
            if etag.is_some_and(|etag| etag != choice_etag(before.as_ref())) {
                let message = "the validator was changed since it was read; read it again and decide again";
                return Err(AppError::refused(Reason::EtagMismatch, message));
            }
            change.put(keys::validator(&choice.id), &choice);
            let summary = if choice.removed { "removed, to be drained" } else { "listed" };
            let note = Note::of(format!("pools/{}/validators/{}", pool.id(), choice.id), summary);
            Ok(note.changed(before.as_ref().map(ValidatorChoice::shown).unwrap_or_default(), choice.shown()))
        })
        .await
    }

    /// What operators set of the validators of a pool.
    pub async fn validator_choices(&self, pool: &Pool) -> Result<Vec<ValidatorChoice>, AppError> {
        self.list(pool.control(), keys::range_of_tag(keys::tag::VALIDATOR), usize::MAX).await
    }

    /// Registers a producer of balance events, once. Periods wait for its watermark from now on.
    pub async fn register_source(&self, request: &Request, id: SourceId, description: &str) -> Result<Once, AppError> {
        let _guard = self.service_lock.lock().await;
        if let Some(repeated) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            return Ok(repeated);
        }
        if self.feed.source(&id).is_some() || id.as_str() == PUT_BALANCE_NAME {
            return Err(AppError::refused(Reason::AlreadyExists, format!("source {id} is registered already")));
        }
        // Beside those that are registered, the enrolment log, PutBalance and the corrections are sources.
        if self.feed.sources().len() + 3 >= MAX_SOURCES {
            let message = format!("there are {MAX_SOURCES} sources, retired and own ones included; no more fit");
            return Err(AppError::refused(Reason::WrongState, message));
        }
        let number = self.feed.next_number()?;
        let now = self.now();
        let record =
            SourceRecord { id, number, description: description.to_owned(), registered_at: now, retired_at: None };
        let mut batch = Batch::new(PartitionId::SERVICE);
        batch.expect_absent(keys::source(&record.id)).put(keys::source(&record.id), record.encode());
        let note =
            Note::of(format!("sources/{}", record.id), format!("registered. {description}")).changed("", "REGISTERED");
        self.commit_marked(request, Vec::new(), batch, now, note).await?;
        self.open_source(record)?;
        Ok(Once::First)
    }

    /// Retires a producer of balance events, once. No period waits for it any longer, and it may send no more.
    pub async fn retire_source(&self, request: &Request, id: &SourceId) -> Result<Once, AppError> {
        let _guard = self.service_lock.lock().await;
        if let Some(repeated) = request.seen(&*self.store, PartitionId::SERVICE).await? {
            return Ok(repeated);
        }
        let mut record = self.feed.source(id).ok_or_else(|| {
            AppError::refused(Reason::UnknownSource, format!("there is no source {id}; ListSources lists them"))
        })?;
        let now = self.now();
        let before = if record.retired_at.is_some() { "RETIRED" } else { "REGISTERED" };
        record.retired_at = Some(record.retired_at.unwrap_or(now));
        let mut batch = Batch::new(PartitionId::SERVICE);
        batch.put(keys::source(id), record.encode());
        let note = Note::of(format!("sources/{id}"), "retired: no period waits for it").changed(before, "RETIRED");
        self.commit_marked(request, Vec::new(), batch, now, note).await?;
        self.feed.put_source(record);
        Ok(Once::First)
    }

    /// Hands a position over from the source that owns it to another, once. The new owner's next event is its first.
    pub async fn hand_over_position(
        &self,
        request: &Request,
        pool: &Pool,
        account: &AccountId,
        from_source: &SourceId,
        to_source: &SourceId,
    ) -> Result<Once, AppError> {
        let (from, to) = (self.owning(from_source)?, self.owning(to_source)?);
        self.mutate(pool, request, async |_| {
            let hand_over = HandOver { pool: pool.number(), account: account.clone(), from, to };
            let full = |full: Overloaded| AppError::refused(Reason::Overloaded, full.to_string());
            // A repeat after a crash finds it done in the book already.
            self.sender.hand_over(hand_over).map_err(full)?.await.map_err(book_refusal)?;
            let note = Note::of(format!("accounts/{account}/positions/{}", pool.id()), "handed over to another source");
            Ok(note.changed(format!("sources/{from_source}"), format!("sources/{to_source}")))
        })
        .await
    }

    /// The number of a source that may own positions.
    fn owning(&self, source: &SourceId) -> Result<SourceNumber, AppError> {
        if source.as_str() == PUT_BALANCE_NAME {
            return Ok(PUT_BALANCE);
        }
        let record = self.feed.source(source).ok_or_else(|| {
            AppError::refused(Reason::UnknownSource, format!("there is no source {source}; ListSources lists them"))
        })?;
        Ok(SourceNumber(record.number))
    }

    /// How many events of a source were journalled as rejected.
    pub async fn rejected_count(&self, source: &SourceRecord) -> Result<u64, AppError> {
        let mut range = keys::rejected_events_of(source.number);
        let mut count = 0;
        loop {
            let found =
                self.store.scan(PartitionId::SERVICE, range.clone(), REJECTED_PER_READ, Direction::Forward).await?;
            count += found.len() as u64;
            match found.last() {
                Some((last, _)) if found.len() == REJECTED_PER_READ => range.from = keys::after(last),
                _ => return Ok(count),
            }
        }
    }

    /// All sources, by name.
    pub fn sources(&self) -> Vec<SourceRecord> {
        self.feed.sources()
    }

    /// The last period that was opened, if one was.
    pub async fn last_period(&self, pool: &Pool) -> Result<Option<PeriodRecord>, AppError> {
        self.last(pool.control(), keys::range_of_tag(keys::tag::PERIOD)).await
    }

    /// A period by its index.
    pub async fn period(&self, pool: &Pool, index: PeriodIndex) -> Result<Option<PeriodRecord>, AppError> {
        self.read(pool.control(), &keys::period(index.0)).await
    }

    /// A period by its name: among those of equal length around it, found from the first period's start.
    pub async fn period_named(&self, pool: &Pool, name: &str) -> Result<PeriodRecord, AppError> {
        let unknown = || AppError::refused(Reason::UnknownPeriod, format!("pool {} has no period {name}", pool.id()));
        let start = parse_period_start(name).ok_or_else(unknown)?;
        let last = self.last_period(pool).await?.ok_or_else(unknown)?;
        let (mut low, mut high) = (0, last.index.0);
        while low <= high {
            let middle = low + (high - low) / 2;
            let period = self.period(pool, PeriodIndex(middle)).await?.ok_or_else(unknown)?;
            match period.bounds.start.cmp(&start) {
                std::cmp::Ordering::Equal if period.bounds.name() == name => return Ok(period),
                std::cmp::Ordering::Equal => return Err(unknown()),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater if middle == 0 => return Err(unknown()),
                std::cmp::Ordering::Greater => high = middle - 1,
            }
        }
        Err(unknown())
    }
}
