//! What the book counts. `node.rs` registers the handles.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::pool::Meta;

/// A label with the reason of a rejection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The stable name of the reason.
    pub reason: &'static str,
}

/// A label with a pool's number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolLabel {
    /// The pool's number.
    pub pool: u16,
}

/// The book's metrics.
#[derive(Clone, Debug)]
pub struct BookMetrics {
    /// Events applied.
    pub events: Counter,
    /// Events rejected, by reason.
    pub rejected: Family<ReasonLabel, Counter>,
    /// Times moved up to a position's last one.
    pub clamped: Counter,
    /// Events that reach into frozen periods.
    pub late: Counter,
    /// What late events added to the weights of the oldest open period, in base units x seconds, by pool. Rounded: it is
    /// to be watched, the API has the figure.
    pub weight_added: Family<PoolLabel, Gauge<f64, AtomicU64>>,
    /// What they took from them.
    pub weight_taken: Family<PoolLabel, Gauge<f64, AtomicU64>>,
    /// What they took that no weight could give yet.
    pub weight_uncollected: Family<PoolLabel, Gauge<f64, AtomicU64>>,
    /// Events that were applied before.
    pub repeated: Counter,
    /// Batches and other commands refused whole.
    pub refused: Counter,
    /// Groups committed.
    pub groups: Counter,
    /// Events a group.
    pub group_events: Histogram,
    /// Bytes of journal written.
    pub journal_bytes: Counter,
    /// Commits that the store was too busy for.
    pub busy: Counter,
    /// Events that wait in the queue.
    pub queued_events: Gauge,
    /// Positions, by pool.
    pub positions: Family<PoolLabel, Gauge>,
    /// Periods sealed, by pool.
    pub sealed_periods: Family<PoolLabel, Counter>,
    /// Sealed periods whose weights are not the integral of the eligible total.
    pub equation_breaches: Counter,
    /// Checkpoints completed, by pool.
    pub checkpoints: Family<PoolLabel, Counter>,
    /// 1 once the book takes nothing more until it is reopened.
    pub closed: Gauge,
}

impl Default for BookMetrics {
    fn default() -> Self {
        Self {
            events: Counter::default(),
            rejected: Family::default(),
            clamped: Counter::default(),
            late: Counter::default(),
            weight_added: Family::default(),
            weight_taken: Family::default(),
            weight_uncollected: Family::default(),
            repeated: Counter::default(),
            refused: Counter::default(),
            groups: Counter::default(),
            group_events: Histogram::new([1.0, 8.0, 64.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0]),
            journal_bytes: Counter::default(),
            busy: Counter::default(),
            queued_events: Gauge::default(),
            positions: Family::default(),
            sealed_periods: Family::default(),
            equation_breaches: Counter::default(),
            checkpoints: Family::default(),
            closed: Gauge::default(),
        }
    }
}

impl BookMetrics {
    /// Shows a pool's totals.
    pub(crate) fn show(&self, pool: u16, meta: &Meta) {
        let pool = PoolLabel { pool };
        self.positions.get_or_create(&pool).set(i64::try_from(meta.positions).unwrap_or(i64::MAX));
        let oldest = meta.calendar.as_ref().and_then(|calendar| meta.curves.get(&calendar.oldest.index));
        let adjusted = oldest.map(|curve| curve.adjusted).unwrap_or_default();
        self.weight_added.get_or_create(&pool).set(f64::from(adjusted.up));
        self.weight_taken.get_or_create(&pool).set(f64::from(adjusted.down));
        self.weight_uncollected.get_or_create(&pool).set(f64::from(meta.rests));
    }

    /// Registers every handle under its name.
    pub fn register(&self, registry: &mut Registry) {
        let book = registry.sub_registry_with_prefix("book");
        book.register("events", "Balance events and enrolments applied", self.events.clone());
        book.register("events_rejected", "Events rejected, by reason", self.rejected.clone());
        book.register("events_clamped", "Event times moved up to the position's last one", self.clamped.clone());
        book.register("events_late", "Events that reach into frozen periods", self.late.clone());
        let open = "late events in the weights of the oldest open period, in base units x seconds, by pool number";
        book.register("weight_added", format!("Added by {open}"), self.weight_added.clone());
        book.register("weight_taken", format!("Taken by {open}"), self.weight_taken.clone());
        let uncollected = "Taken by late events and not collected yet, in base units x seconds, by pool number";
        book.register("weight_uncollected", uncollected, self.weight_uncollected.clone());
        book.register("events_repeated", "Events that were applied before", self.repeated.clone());
        book.register("commands_refused", "Commands refused whole", self.refused.clone());
        book.register("groups", "Groups committed", self.groups.clone());
        book.register("group_events", "Events a group", self.group_events.clone());
        book.register("journal_bytes", "Bytes of journal written", self.journal_bytes.clone());
        book.register("commits_busy", "Commits that the store was too busy for", self.busy.clone());
        book.register("queued_events", "Events that wait in the queue", self.queued_events.clone());
        book.register("positions", "Positions, by pool number", self.positions.clone());
        book.register("periods_sealed", "Frozen periods sealed, by pool number", self.sealed_periods.clone());
        let breaches = self.equation_breaches.clone();
        book.register("equation_breaches", "Sealed periods whose weights are not the integral", breaches);
        book.register("checkpoints", "Checkpoints completed, by pool number", self.checkpoints.clone());
        book.register("closed", "1 once the book must be reopened", self.closed.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_shows_under_its_name() {
        let metrics = BookMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.rejected.get_or_create(&ReasonLabel { reason: "TOO_OLD" }).inc();
        metrics.group_events.observe(3.0);
        metrics.positions.get_or_create(&PoolLabel { pool: 1 }).set(5);
        metrics.sealed_periods.get_or_create(&PoolLabel { pool: 1 }).inc();
        metrics.checkpoints.get_or_create(&PoolLabel { pool: 1 }).inc();
        for weights in [&metrics.weight_added, &metrics.weight_taken, &metrics.weight_uncollected] {
            weights.get_or_create(&PoolLabel { pool: 1 }).set(1e30);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("book_events_rejected_total{reason=\"TOO_OLD\"} 1"), "{text}");
        assert_eq!(text.matches("# TYPE book_").count(), 19);
    }
}
