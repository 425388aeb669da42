//! What the steps count. `node.rs` registers these handles; this room never sees the registry.

use prometheus_client::metrics::counter::Counter;

/// Counters of `app/`.
#[derive(Clone, Debug, Default)]
pub struct AppMetrics {
    /// Changes refused because the ledger was not the one they were decided on.
    pub conflicts: Counter,
    /// Steps that failed and will be tried again.
    pub step_failures: Counter,
    /// Balance events accepted.
    pub events_accepted: Counter,
    /// Balance events rejected.
    pub events_rejected: Counter,
    /// Operations planned.
    pub operations_planned: Counter,
    /// Operations that need an operator.
    pub operations_stuck: Counter,
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
    /// Equations found broken.
    pub equations_broken: Counter,
}
