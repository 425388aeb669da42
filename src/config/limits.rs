//! Limits of the gRPC surface: load past them is refused before memory grows.

use serde::{Deserialize, Serialize};

use super::check::Problems;

/// Limits of the gRPC surface: load past them is refused before memory grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The largest message taken, in bytes.
    pub max_message_bytes: usize,
    /// The most events in one batch of the feed.
    pub max_batch_events: usize,
    /// The most that the headers of one call may take, in bytes.
    pub max_header_bytes: u32,
    /// The most connections at once.
    pub max_connections: usize,
    /// The most connections at once from one address.
    pub max_connections_per_address: usize,
    /// The most connections at once over which nobody has called yet who may. Where there are more, the oldest goes.
    pub max_strangers: usize,
    /// The same from one address.
    pub max_strangers_per_address: usize,
    /// How long a connection may be without a call by somebody who may, in milliseconds.
    pub first_call_timeout_ms: u64,
    /// The most connections at once that are in their handshake.
    pub max_handshakes: usize,
    /// The longest that a connection may take until it has said that it speaks HTTP/2, in milliseconds; TLS and that each.
    pub handshake_timeout_ms: u64,
    /// How long a connection is kept, in milliseconds. Then its client is told to open another one.
    pub max_connection_age_ms: u64,
    /// How long the calls of such a connection may go on, in milliseconds.
    pub max_connection_age_grace_ms: u64,
    /// How often a connection is asked whether its client is still there, in milliseconds.
    pub keepalive_interval_ms: u64,
    /// How long the client may take to answer that, in milliseconds.
    pub keepalive_timeout_ms: u64,
    /// The most calls in flight on one connection.
    pub max_streams_per_connection: u32,
    /// How many calls of one connection may be taken back by its client before they are begun.
    pub max_pending_accept_reset_streams: usize,
    /// How many calls of one connection may break the rules of HTTP/2.
    pub max_local_error_reset_streams: usize,
    /// The most calls in flight, of all connections, streams included.
    pub max_calls_in_flight: usize,
    /// The most of them that are one principal's, where an identity file knows principals apart.
    pub max_calls_in_flight_per_principal: usize,
    /// How many questions are answered at once; 0 is twice the processors.
    pub reads_at_once: usize,
    /// How many changes are carried out at once.
    pub changes_at_once: usize,
    /// How many messages of streams are made at once; 0 is half of the processors, and one at least.
    pub batches_at_once: usize,
    /// The most bytes of requests that are not answered yet, of all connections.
    pub max_receiving_bytes: usize,
    /// The most feed, transfer and payout streams open at once, of all connections.
    pub max_open_streams: usize,
    /// How many batches of one feed stream may wait for the book before the stream is read no further.
    pub stream_queue_batches: usize,
    /// The most bytes of streams' messages that wait for their readers, of all connections.
    pub max_unread_bytes: usize,
    /// How long an answer may wait for its reader, in milliseconds.
    pub unread_timeout_ms: u64,
    /// The longest that a call may take that is not a stream, in milliseconds.
    pub request_timeout_ms: u64,
    /// The longest that a shutdown waits for calls in flight, in milliseconds.
    pub drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 * 1024 * 1024,
            max_batch_events: 10_000,
            max_header_bytes: 16_384,
            max_connections: 1_024,
            max_connections_per_address: 512,
            max_strangers: 512,
            max_strangers_per_address: 256,
            first_call_timeout_ms: 60_000,
            max_handshakes: 256,
            handshake_timeout_ms: 10_000,
            max_connection_age_ms: 3_600_000,
            max_connection_age_grace_ms: 60_000,
            keepalive_interval_ms: 30_000,
            keepalive_timeout_ms: 20_000,
            max_streams_per_connection: 128,
            max_pending_accept_reset_streams: 32,
            max_local_error_reset_streams: 128,
            max_calls_in_flight: 2_048,
            max_calls_in_flight_per_principal: 1_536,
            reads_at_once: 0,
            changes_at_once: 64,
            batches_at_once: 0,
            max_receiving_bytes: 64 * 1024 * 1024,
            max_open_streams: 1_024,
            stream_queue_batches: 16,
            max_unread_bytes: 64 * 1024 * 1024,
            unread_timeout_ms: 60_000,
            request_timeout_ms: 10_000,
            drain_timeout_ms: 10_000,
        }
    }
}

/// Every limit has its range, and none contradicts another.
pub(super) fn check(problems: &mut Problems, limits: &Limits) {
    const HOUR_MS: u64 = 3_600_000;
    let mebibytes = |n: usize| n * 1024 * 1024;
    problems.range("limits.max_message_bytes", limits.max_message_bytes, 65_536..=mebibytes(64));
    problems.range("limits.max_batch_events", limits.max_batch_events, 1..=65_536);
    problems.range("limits.max_header_bytes", limits.max_header_bytes, 4_096..=1_048_576);
    problems.range("limits.max_connections", limits.max_connections, 1..=100_000);
    let per_address = limits.max_connections_per_address;
    problems.range("limits.max_connections_per_address", per_address, 1..=limits.max_connections.max(1));
    problems.range("limits.max_strangers", limits.max_strangers, 1..=limits.max_connections.max(1));
    let per_address = limits.max_strangers_per_address;
    problems.range("limits.max_strangers_per_address", per_address, 1..=limits.max_strangers.max(1));
    problems.range("limits.first_call_timeout_ms", limits.first_call_timeout_ms, 1_000..=24 * HOUR_MS);
    problems.range("limits.max_handshakes", limits.max_handshakes, 1..=100_000);
    problems.range("limits.handshake_timeout_ms", limits.handshake_timeout_ms, 100..=600_000);
    problems.range("limits.max_connection_age_ms", limits.max_connection_age_ms, 1_000..=168 * HOUR_MS);
    problems.range("limits.max_connection_age_grace_ms", limits.max_connection_age_grace_ms, 100..=24 * HOUR_MS);
    problems.range("limits.keepalive_interval_ms", limits.keepalive_interval_ms, 1_000..=24 * HOUR_MS);
    problems.range("limits.keepalive_timeout_ms", limits.keepalive_timeout_ms, 100..=600_000);
    problems.range("limits.max_streams_per_connection", limits.max_streams_per_connection, 1..=10_000);
    let resets = limits.max_pending_accept_reset_streams;
    problems.range("limits.max_pending_accept_reset_streams", resets, 1..=10_000);
    problems.range("limits.max_local_error_reset_streams", limits.max_local_error_reset_streams, 1..=10_000);
    problems.range("limits.max_calls_in_flight", limits.max_calls_in_flight, 1..=1_000_000);
    let per_principal = limits.max_calls_in_flight_per_principal;
    let key = "limits.max_calls_in_flight_per_principal";
    problems.range(key, per_principal, 1..=limits.max_calls_in_flight.max(1));
    problems.range("limits.reads_at_once", limits.reads_at_once, 0..=10_000);
    problems.range("limits.changes_at_once", limits.changes_at_once, 1..=10_000);
    problems.range("limits.batches_at_once", limits.batches_at_once, 0..=10_000);
    let most = mebibytes(64 * 1024);
    problems.range("limits.max_receiving_bytes", limits.max_receiving_bytes, limits.max_message_bytes..=most);
    problems.range("limits.max_open_streams", limits.max_open_streams, 1..=limits.max_calls_in_flight.max(1));
    problems.range("limits.stream_queue_batches", limits.stream_queue_batches, 1..=10_000);
    problems.range("limits.max_unread_bytes", limits.max_unread_bytes, mebibytes(8)..=most);
    problems.range("limits.unread_timeout_ms", limits.unread_timeout_ms, 100..=24 * HOUR_MS);
    problems.range("limits.request_timeout_ms", limits.request_timeout_ms, 100..=600_000);
    problems.range("limits.drain_timeout_ms", limits.drain_timeout_ms, 0..=600_000);
}
