//! Balances in. Batches of a source are routed to the pools' books; the answer waits until they are durable.
//!
//! `PutBalance` is a source of its own whose sequences softstake gives: each is durable as an intent before it enters
//! the book, so that a call cut off in between is finished at the next start or by its repeat.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use tokio::sync::Mutex;

use crate::book::Refusal as BookRefusal;
use crate::domain::amount::BaseUnits;
use crate::domain::audit_log::Note;
use crate::domain::feed::{RejectReason, SourceNumber};
use crate::domain::ids::{AccountId, AssetId, SourceId};
use crate::domain::time::UnixSeconds;
use crate::store::records::{PutBalanceIntent, Record, SourceRecord};
use crate::store::{Batch, PartitionId, StoreError, keys};

use super::batch::FeedBatch;
use super::{App, AppError, Once, Pool, Reason, Refusal, Request};

/// The source that `PutBalance` feeds.
pub const PUT_BALANCE: SourceNumber = SourceNumber(1);

/// What that source is called where sources are named.
pub const PUT_BALANCE_NAME: &str = "put-balance";

/// The first number that a registered source may have: what lies below is softstake's own.
const FIRST_REGISTERED: u16 = 16;

/// How many intents are looked at together when the service starts.
const INTENTS_PER_READ: usize = 1_000;

/// How much later than a call the book may look at its time.
const FUTURE_MARGIN_SECONDS: i64 = 60;

/// The sources that may feed.
#[derive(Default)]
pub struct Feed {
    sources: RwLock<BTreeMap<SourceId, SourceRecord>>,
    /// What snapshots may hold.
    pub(super) room: super::snapshot::Room,
    /// Serialises `PutBalance`, whose sequences are given here.
    put: Mutex<()>,
}

impl Feed {
    /// A source by its name.
    pub fn source(&self, id: &SourceId) -> Option<SourceRecord> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All sources, by name.
    pub fn sources(&self) -> Vec<SourceRecord> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes a source in, or its new state.
    pub(super) fn put_source(&self, record: SourceRecord) {
        self.sources.write().unwrap_or_else(PoisonError::into_inner).insert(record.id.clone(), record);
    }

    /// The number of the next source to register.
    pub(super) fn next_number(&self) -> Result<u16, AppError> {
        let last = self.sources().iter().map(|source| source.number).max().unwrap_or(0);
        let next = last.max(FIRST_REGISTERED - 1).checked_add(1);
        next.ok_or_else(|| AppError::Broken("source numbers are used up".to_owned()))
    }
}

/// How far a source is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Every event up to and including this sequence is on disk.
    pub durable_sequence: u64,
    /// What the source vouched for.
    pub watermark: Option<UnixSeconds>,
}

impl App {
    /// Takes a registered source in, here and in the book.
    pub(super) fn open_source(&self, record: SourceRecord) -> Result<(), AppError> {
        self.book.add_source(SourceNumber(record.number));
        self.feed.put_source(record);
        Ok(())
    }

    /// The number of a source that may send.
    pub(super) fn sending(&self, source: &SourceId) -> Result<SourceNumber, AppError> {
        let record = self.feed.source(source).ok_or_else(|| {
            let message = format!("source {source} is not registered; AdminService/RegisterSource registers it");
            AppError::refused(Reason::UnknownSource, message)
        })?;
        if record.retired_at.is_some() {
            let message = format!("source {source} was retired and may send no more; register another one");
            return Err(AppError::refused(Reason::SourceRetired, message));
        }
        Ok(SourceNumber(record.number))
    }

    /// A batch of a registered source, to be filled and handed in. A watermark that lies too far ahead is refused: taken
    /// once, it would stand for good, and no period would wait for the source until then.
    pub fn feed_batch(
        &self,
        source: &SourceId,
        first_sequence: u64,
        watermark: Option<UnixSeconds>,
    ) -> Result<FeedBatch, AppError> {
        let number = self.sending(source)?;
        let latest = self.now().plus(i64::from(self.settings.max_future_seconds));
        if let Some(ahead) = watermark.filter(|watermark| *watermark > latest) {
            let message = format!(
                "{ahead} (Unix seconds) lies ahead of the service's clock; it may be {latest} at most. Nothing of the batch \
                 was taken: vouch for no more than has come"
            );
            return Err(AppError::invalid("watermark", message));
        }
        Ok(FeedBatch::new(self, number, first_sequence, watermark))
    }

    /// How far a source is durable.
    pub fn cursor(&self, source: &SourceId) -> Result<Cursor, AppError> {
        let registered = self.feed.source(source).map(|record| SourceNumber(record.number));
        let own = (source.as_str() == PUT_BALANCE_NAME).then_some(PUT_BALANCE);
        let number = registered.or(own).ok_or_else(|| {
            AppError::refused(Reason::UnknownSource, format!("there is no source {source}; ListSources lists them"))
        })?;
        let state = self.book.source_state(number).unwrap_or_default();
        Ok(Cursor { durable_sequence: state.durable_sequence, watermark: state.watermark })
    }

    /// The name of a source, by its number.
    pub fn source_name(&self, number: SourceNumber) -> Option<SourceId> {
        if number == PUT_BALANCE {
            return SourceId::new(PUT_BALANCE_NAME).ok();
        }
        self.feed.sources().into_iter().find(|source| source.number == number.0).map(|source| source.id)
    }

    /// Puts one balance, once; without a time, now. Answers with its sequence when it is durable, or says why the book
    /// did not accept it.
    pub async fn put_balance(
        &self,
        request: &Request,
        account: AccountId,
        asset: AssetId,
        balance: BaseUnits,
        at: Option<UnixSeconds>,
    ) -> Result<(Once, u64), AppError> {
        let pool = self.pool_staking(&asset, "balance.asset")?;
        let _guard = self.feed.put.lock().await;
        let seen = request.seen(&*self.store, PartitionId::SERVICE).await?;
        #[cfg(feature = "seeded-bugs")]
        let seen = seen.filter(|_| !crate::seeded::on(crate::seeded::Bug::PutAgain));
        let (intent, once) = match seen {
            Some(once) => (self.intent_of(request).await?, once),
            None => {
                let last: Option<PutBalanceIntent> = self.last_intent().await?;
                let sequence = last.map_or(0, |intent| intent.sequence) + 1;
                let at = at.unwrap_or_else(|| self.now());
                self.check_period_open(&pool, at)?;
                let intent = PutBalanceIntent { sequence, account, asset, balance, at };
                self.record_intent(request, &intent).await?;
                (intent, Once::First)
            }
        };
        let sequence = intent.sequence;
        self.enter_intents(sequence - 1).await?;
        let PutBalanceIntent { account, asset, balance, at, .. } = intent;
        let mut batch = FeedBatch::new(self, PUT_BALANCE, sequence, None);
        batch.push(account, asset.as_str(), balance, at);
        // A repeat of what is in the book is answered with what became of it.
        let outcome = batch.enter(self).await?;
        match outcome.rejected.first() {
            None => Ok((once, sequence)),
            Some((_, reason)) => Err(rejected(*reason)),
        }
    }

    /// Refuses what the book would send back until a later period is open: a durable intent stands before all that follow
    /// it, in every pool. What lies so far ahead that the book rejects it for good is taken.
    fn check_period_open(&self, pool: &Pool, at: UnixSeconds) -> Result<(), AppError> {
        let takes = self.takes_balances(pool);
        let pool = pool.number();
        if !takes {
            return Err(book_refusal(BookRefusal::PeriodNotOpen { pool }));
        }
        let open = self.book.open_periods(pool).and_then(|open| open.last().map(|last| last.bounds.end));
        // The book's clock is read a little later, when an event that was too far ahead may be so no longer.
        let ahead = self.now().plus(i64::from(self.settings.max_future_seconds) + FUTURE_MARGIN_SECONDS);
        match open {
            Some(end) if at >= end && at <= ahead => Err(book_refusal(BookRefusal::PeriodNotOpen { pool })),
            // Of a new pool the first period stands in the book's queue, before any event.
            Some(_) | None => Ok(()),
        }
    }

    async fn record_intent(&self, request: &Request, intent: &PutBalanceIntent) -> Result<(), AppError> {
        let mut batch = Batch::new(PartitionId::SERVICE);
        let key = keys::put_balance_intent(intent.sequence);
        batch.expect_absent(key.clone()).put(key, intent.encode());
        batch.put(sequence_key(request), intent.sequence.to_be_bytes());
        let PutBalanceIntent { sequence, account, asset, balance, at } = intent;
        let summary = format!("put by hand as event {sequence} of put-balance, from {at} (Unix seconds)");
        let note =
            Note::of(format!("accounts/{account}"), summary).changed("", format!("{balance} base units of {asset}"));
        self.commit_marked(request, Vec::new(), batch, self.now(), note).await
    }

    /// The intent that an earlier call of the same request made durable.
    async fn intent_of(&self, request: &Request) -> Result<PutBalanceIntent, AppError> {
        let broken = || AppError::Broken(format!("request {} has no intent", request.id));
        let bytes = self.store.get(PartitionId::SERVICE, &sequence_key(request)).await?;
        let sequence = bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes).ok_or_else(broken)?;
        let intent = self.read(PartitionId::SERVICE, &keys::put_balance_intent(sequence)).await?;
        intent.ok_or_else(broken)
    }

    async fn last_intent(&self) -> Result<Option<PutBalanceIntent>, AppError> {
        self.last(PartitionId::SERVICE, keys::range_of_tag(keys::tag::PUT_BALANCE_INTENT)).await
    }

    /// Enters every intent up to `through` that is not in the book yet, in order.
    async fn enter_intents(&self, through: u64) -> Result<(), AppError> {
        loop {
            let next = self.book.source_state(PUT_BALANCE).unwrap_or_default().durable_sequence + 1;
            if next > through {
                return Ok(());
            }
            let range = keys::range_from(&keys::put_balance_intent(next));
            let intents: Vec<PutBalanceIntent> = self.list(PartitionId::SERVICE, range, INTENTS_PER_READ).await?;
            if intents.is_empty() {
                return Ok(());
            }
            let mut batch = FeedBatch::new(self, PUT_BALANCE, next, None);
            for PutBalanceIntent { account, asset, balance, at, .. } in intents {
                batch.push(account, asset.as_str(), balance, at);
            }
            batch.enter(self).await?;
        }
    }

    /// Finishes what a crash or a full queue cut off: intents that are durable and not in the book.
    pub async fn finish_intents(&self) -> Result<(), AppError> {
        let _guard = self.feed.put.lock().await;
        match self.last_intent().await? {
            Some(last) => self.enter_intents(last.sequence).await,
            None => Ok(()),
        }
    }
}

/// Which intent a request made: beside the request's own mark.
fn sequence_key(request: &Request) -> Vec<u8> {
    keys::request("BalanceFeedService/PutBalance/sequence", &request.id)
}

/// What the book refused, as this room says it.
pub(super) fn book_refusal(refusal: BookRefusal) -> AppError {
    let message = refusal.to_string();
    let reason = match &refusal {
        BookRefusal::Gap { .. } => Reason::SequenceGap,
        BookRefusal::BodyMismatch { .. } => Reason::SequenceReused,
        BookRefusal::PeriodNotOpen { .. } => Reason::PeriodNotOpen,
        BookRefusal::UnknownSource { .. } => Reason::UnknownSource,
        BookRefusal::UnknownPool { .. } => Reason::UnknownPool,
        BookRefusal::BatchTooLarge { .. } | BookRefusal::TooManyUnknown { .. } => Reason::InvalidValue,
        BookRefusal::UnknownPosition { .. } => Reason::UnknownAccount,
        BookRefusal::SnapshotPassed { .. } => Reason::SnapshotPassed,
        BookRefusal::NotOwner | BookRefusal::Period(_) => Reason::WrongState,
        BookRefusal::Storage(_) => return AppError::Store(StoreError::Fatal(message)),
    };
    let mut refused = Refusal { reason, message, field: "", metadata: Vec::new() };
    match refusal {
        BookRefusal::Gap { expected } => {
            refused.field = "first_sequence";
            refused.metadata.push(("expected_sequence", expected.to_string()));
        }
        BookRefusal::BodyMismatch { sequence } => {
            refused.field = "first_sequence";
            refused.metadata.push(("sequence", sequence.to_string()));
        }
        BookRefusal::SnapshotPassed { last } => {
            refused.field = "first_sequence";
            refused.metadata.push(("durable_sequence", last.to_string()));
        }
        _ => {}
    }
    AppError::Refused(refused)
}

/// Why the book did not accept one balance, as an answer to who said it.
pub(super) fn rejected(reason: RejectReason) -> AppError {
    let field = match reason {
        RejectReason::TooOld | RejectReason::FromFuture | RejectReason::PeriodNotOpen => "event_time",
        RejectReason::UnknownAsset => "balance.asset",
        RejectReason::BalanceTooLarge { .. } | RejectReason::PoolTotalTooLarge => "balance.base_units",
        RejectReason::NotOwner | RejectReason::Overtaken => "account",
    };
    let metadata = vec![("rejected", reason.name().to_owned())];
    AppError::Refused(Refusal { reason: Reason::EventRejected, message: reason.to_string(), field, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::distribute::tests::rig::{Rig, at};
    use crate::domain::policy::ReleaseLimits;

    #[tokio::test]
    async fn a_watermark_that_lies_ahead_is_refused_and_leaves_nothing() {
        let mut rig = Rig::new(1, ReleaseLimits::default()).await;
        let (request, app) = (rig.request(), rig.app.clone());
        let ledger = SourceId::new("ledger").unwrap();
        assert_eq!(app.register_source(&request, ledger.clone(), "").await.unwrap(), Once::First);
        let refused = app.feed_batch(&ledger, 1, Some(at(61))).map(|_| ()).unwrap_err();
        assert!(matches!(&refused, AppError::Refused(refusal) if refusal.field == "watermark"), "{refused:?}");
        assert_eq!(app.cursor(&ledger).unwrap(), Cursor::default());
        let batch = app.feed_batch(&ledger, 1, Some(at(60))).unwrap();
        rig.drive(batch.enter(&app)).await.unwrap();
        assert_eq!(app.cursor(&ledger).unwrap().watermark, Some(at(60)));
    }
}
