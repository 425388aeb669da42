//! The clock: the only place that reads time. `node.rs` hands it to the rooms that may have one.

/// Milliseconds since the Unix epoch, never going back within one clock.
pub trait Clock: Send + Sync + 'static {
    /// Now, in milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}
