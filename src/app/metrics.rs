//! What the steps count. `node.rs` registers these handles; this room never sees the registry.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::amount::BaseUnits;
use crate::domain::operation::{OperationEvent, OperationState};
use crate::domain::time::UnixSeconds;

/// A label with a pool's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolName {
    /// The name.
    pub pool: String,
}

/// A label with a source's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceName {
    /// The name.
    pub source: String,
}

/// The names of the limits that cut what leaves a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CutBy {
    /// The pool's name.
    pub pool: String,
    /// The stable name of the limit.
    pub limit: &'static str,
}

/// What an operation met in which state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationRow {
    /// The stable name of the state.
    pub state: &'static str,
    /// The stable name of the event.
    pub event: &'static str,
}

/// Metrics of `app/`.
#[derive(Clone, Debug, Default)]
pub struct AppMetrics {
    /// What operations met, by the rows of their table.
    pub operation_events: Family<OperationRow, Counter>,
    /// Entries of the audit log.
    pub audit_entries: Counter,
    /// Calls refused for who made them, as the audit log has them.
    pub calls_refused: Counter,
    /// Backups that could not be written.
    pub backups_failed: Counter,
    /// The time in Unix seconds that the last backup since the start is consistent for.
    pub backup_last: Gauge,
    /// How long it took, in milliseconds.
    pub backup_duration_ms: Gauge,
    /// How large it is, in bytes.
    pub backup_bytes: Gauge,
    /// Changes refused because the ledger was not the one they were decided on.
    pub conflicts: Counter,
    /// Steps that failed and will be tried again.
    pub step_failures: Counter,
    /// Balance events accepted.
    pub events_accepted: Counter,
    /// Balance events rejected.
    pub events_rejected: Counter,
    /// Changes that wait, or have waited, for a second person.
    pub changes_proposed: Counter,
    /// Changes that a second person approved.
    pub changes_approved: Counter,
    /// Changes that were not approved in time, or overtaken.
    pub changes_lapsed: Counter,
    /// Corrections made.
    pub corrections_made: Counter,
    /// Positions that snapshots saw differently.
    pub snapshot_differences: Counter,
    /// Differences that snapshots applied.
    pub snapshot_applied: Counter,
    /// Operations planned.
    pub operations_planned: Counter,
    /// Operations that need an operator.
    pub operations_stuck: Counter,
    /// Operations that ended short of what was asked for.
    pub operations_short: Counter,
    /// Times that a chain contradicted what was final.
    pub contradictions: Counter,
    /// Open operations that are older than expected, by pool.
    pub operations_overdue: Family<PoolName, Gauge>,
    /// Operations that need an operator now, by pool.
    pub operations_needing_operator: Family<PoolName, Gauge>,
    /// 1 while a pool is paused.
    pub paused: Family<PoolName, Gauge>,
    /// Seconds since the end of the oldest frozen period that is not distributed; 0 where there is none.
    pub undistributed: Family<PoolName, Gauge>,
    /// 1 while a distribution is held for a person.
    pub awaiting_approval: Family<PoolName, Gauge>,
    /// Seconds since the release of the oldest distribution that the ledger has not dealt with; 0 where there is none.
    pub unsettled: Family<PoolName, Gauge>,
    /// Seconds since ledger and chain were last found equal, by the chain's time then.
    pub unreconciled: Family<PoolName, Gauge>,
    /// 1 while the house has less than the float's floor, so that only exits run.
    pub house_float_short: Family<PoolName, Gauge>,
    /// Seconds since the time up to which a source has vouched for everything.
    pub source_behind: Family<SourceName, Gauge>,
    /// Periods frozen by grace, without every watermark.
    pub frozen_by_grace: Counter,
    /// Distributions released.
    pub distributions_released: Counter,
    /// Distributions held.
    pub distributions_held: Counter,
    /// Payouts acknowledged.
    pub payouts_acknowledged: Counter,
    /// Reconciliations that found a difference.
    pub mismatches: Counter,
    /// Readings of the chain that were due and failed.
    pub readings_failed: Family<PoolName, Counter>,
    /// Equations found broken.
    pub equations_broken: Counter,
    /// Rebalances whose outflow a limit cut.
    pub outflows_cut: Family<CutBy, Counter>,
    /// For how many periods the reserve covers what is expected to leave.
    pub covered_periods: Family<PoolName, Gauge>,
    /// Effects that did not fit the books.
    pub effects_unfit: Family<PoolName, Counter>,
    /// Effects that moved tokens of ours and that no operation explains.
    pub effects_unexplained: Family<PoolName, Counter>,
    /// Slashes booked.
    pub slashes: Family<PoolName, Counter>,
    /// Base units slashed, to the precision of the metrics' format; the exact figure is in the pool's totals.
    pub slashed_base_units: Family<PoolName, Counter<f64, AtomicU64>>,
}

impl AppMetrics {
    /// Counts what an operation met.
    pub fn operation_met(&self, state: OperationState, event: OperationEvent) {
        self.operation_events.get_or_create(&OperationRow { state: state.name(), event: event.name() }).inc();
    }

    /// Shows the last backup.
    pub fn backed_up(&self, at: UnixSeconds, took_ms: i64, bytes: u64) {
        self.backup_last.set(at.get());
        self.backup_duration_ms.set(took_ms);
        self.backup_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a slash.
    pub fn slashed(&self, pool: &str, lost: BaseUnits) {
        let label = PoolName { pool: pool.to_owned() };
        self.slashes.get_or_create(&label).inc();
        self.slashed_base_units.get_or_create(&label).inc_by(lost.get() as f64);
    }

    /// Puts every counter into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("audit_entries", "Entries of the audit log", &self.audit_entries),
            ("calls_refused", "Calls refused for who made them", &self.calls_refused),
            ("backups_failed", "Backups that could not be written", &self.backups_failed),
            ("conflicts", "Changes refused because the ledger had changed", &self.conflicts),
            ("step_failures", "Steps that failed and will be tried again", &self.step_failures),
            ("events_accepted", "Balance events accepted", &self.events_accepted),
            ("events_rejected", "Balance events rejected", &self.events_rejected),
            ("changes_proposed", "Changes that were proposed to a second person", &self.changes_proposed),
            ("changes_approved", "Changes that a second person approved", &self.changes_approved),
            ("changes_lapsed", "Changes that were not approved in time, or overtaken", &self.changes_lapsed),
            ("corrections_made", "Corrections of balances approved and entered", &self.corrections_made),
            ("snapshot_differences", "Positions that snapshots saw differently", &self.snapshot_differences),
            ("snapshot_applied", "Differences that snapshots applied", &self.snapshot_applied),
            ("operations_planned", "Operations planned", &self.operations_planned),
            ("operations_stuck", "Operations that came to need an operator", &self.operations_stuck),
            ("operations_short", "Operations that ended short of what was asked for", &self.operations_short),
            ("contradictions", "Times that a chain contradicted what was final", &self.contradictions),
            ("periods_frozen_by_grace", "Periods frozen without every watermark", &self.frozen_by_grace),
            ("distributions_released", "Distributions released", &self.distributions_released),
            ("distributions_held", "Distributions held", &self.distributions_held),
            ("payouts_acknowledged", "Payouts acknowledged", &self.payouts_acknowledged),
            ("reconciliation_mismatches", "Reconciliations that found a difference", &self.mismatches),
            ("equations_broken", "Equations found broken", &self.equations_broken),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let met = "What operations met, by state and event";
        registry.register("operation_events", met, self.operation_events.clone());
        let unread = "Readings of the chain that were due and failed";
        registry.register("chain_readings_failed", unread, self.readings_failed.clone());
        let cut = "Rebalances whose outflow a limit cut, by limit";
        registry.register("outflows_cut", cut, self.outflows_cut.clone());
        let covered = "Periods for which the reserve covers the forecast percentile of what leaves";
        registry.register("reserve_covered_periods", covered, self.covered_periods.clone());
        let unfit = "Effects of the chain that did not fit the books";
        registry.register("effects_unfit", unfit, self.effects_unfit.clone());
        let unexplained = "Effects that moved tokens of ours and that no operation explains";
        registry.register("effects_unexplained", unexplained, self.effects_unexplained.clone());
        registry.register("slashes", "Slashes booked", self.slashes.clone());
        registry.register("slashed_base_units", "Base units slashed", self.slashed_base_units.clone());
        let gauges = [
            ("operations_overdue", "Open operations that are older than expected", &self.operations_overdue),
            ("operations_needing_operator", "Operations that need an operator", &self.operations_needing_operator),
            ("pool_paused", "1 while the pool is paused", &self.paused),
            ("undistributed_seconds", "Since the end of the oldest period that waits for release", &self.undistributed),
            ("distributions_awaiting_approval", "1 while one is held for a person", &self.awaiting_approval),
            ("unsettled_seconds", "Since the release of the oldest one not acknowledged whole", &self.unsettled),
            ("unreconciled_seconds", "Since ledger and chain were last found equal", &self.unreconciled),
            ("house_float_short", "1 while only exits run for want of float", &self.house_float_short),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let backups = [
            (
                "backup_last_timestamp_seconds",
                "What the last backup since the start is consistent for",
                &self.backup_last,
            ),
            ("backup_duration_milliseconds", "How long the last backup took", &self.backup_duration_ms),
            ("backup_bytes", "The size of the last backup", &self.backup_bytes),
        ];
        for (name, help, gauge) in backups {
            registry.register(name, help, gauge.clone());
        }
        let behind = "Seconds since the time that a source has vouched for";
        registry.register("source_behind_seconds", behind, self.source_behind.clone());
    }
}
