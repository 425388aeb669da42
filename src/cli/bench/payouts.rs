//! Payouts: streamed to a client that adds them up and acknowledges.

use std::time::{Duration, Instant};

use super::BenchError;
use crate::pb::v1;
use v1::payout_service_client::PayoutServiceClient;

/// The most payouts that a batch may have.
const BATCH: i32 = 10_000;

/// An acknowledgement is sent after so many batches, and after the last one.
const ACK_EVERY: u64 = 32;

/// What was paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Paid {
    pub(super) payouts: u64,
    pub(super) base_units: u128,
    pub(super) took: Duration,
}

/// Streams everything that is released and not acknowledged, and acknowledges it.
pub(super) async fn stream(endpoint: &str) -> Result<Paid, BenchError> {
    let channel = super::channel(endpoint).await?;
    let mut service = PayoutServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let mut acks = service.clone();
    let started = Instant::now();
    let request = v1::StreamPayoutsRequest {
        pool: format!("pools/{}", super::POOL),
        max_batch_size: BATCH,
        end_when_caught_up: true,
        ..Default::default()
    };
    let mut batches = service.stream_payouts(request).await?.into_inner();
    let (mut paid, mut read) = (Paid::default(), 0_u64);
    while let Some(batch) = batches.message().await? {
        for payout in &batch.payouts {
            let text = payout.amount.as_ref().map_or("", |amount| &amount.base_units);
            let units: u128 = text.parse().map_err(|_| BenchError::Wrong(format!("a payout of {text:?}")))?;
            paid.base_units += units;
        }
        paid.payouts += batch.payouts.len() as u64;
        read += 1;
        if batch.last || read % ACK_EVERY == 0 {
            let last = batch.first_index + batch.payouts.len() as u64;
            acks.ack_payouts(ack(batch.distribution, batch.revision, batch.distribution_hash, last)).await?;
        }
    }
    paid.took = started.elapsed();
    Ok(paid)
}

/// Acknowledges a whole distribution without reading its payouts.
pub(super) async fn ack_all(endpoint: &str, distribution: &v1::Distribution) -> Result<(), BenchError> {
    let mut service = PayoutServiceClient::new(super::channel(endpoint).await?);
    let v1::Distribution { name, revision, distribution_hash, payout_count, .. } = distribution;
    service.ack_payouts(ack(name.clone(), *revision, distribution_hash.clone(), *payout_count)).await?;
    Ok(())
}

fn ack(distribution: String, revision: u32, hash: Vec<u8>, count: u64) -> v1::AckPayoutsRequest {
    v1::AckPayoutsRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        distribution,
        revision,
        distribution_hash: hash,
        acknowledged_count: count,
        rejected: Vec::new(),
    }
}
