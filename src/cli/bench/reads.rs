//! Reads: positions and histories of accounts at random, so many calls in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::BenchError;
use super::load::Load;
use super::measure::Latencies;
use crate::pb::v1;
use v1::account_service_client::AccountServiceClient;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// One position.
    Position,
    /// All payouts of an account, which has to have so many.
    History(usize),
}

/// What the reads came to.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) calls: u64,
    pub(super) took: Duration,
    pub(super) latencies: Latencies,
}

/// Makes `calls` calls, `in_flight` at a time, over two connections.
pub(super) async fn read(
    endpoint: &str,
    load: Load,
    what: What,
    calls: u64,
    in_flight: u64,
) -> Result<Read, BenchError> {
    let channels = [super::channel(endpoint).await?, super::channel(endpoint).await?];
    let made = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut running = JoinSet::new();
    for (place, channel) in (0..in_flight).zip(channels.iter().cycle()) {
        let (mut service, made) = (AccountServiceClient::new(channel.clone()), made.clone());
        running.spawn(async move {
            let mut latencies = Latencies::default();
            let mut state = load.seed ^ (place + 1);
            while made.fetch_add(1, Ordering::Relaxed) < calls {
                let account = Load::account(load.any(&mut state));
                let begun = Instant::now();
                one(&mut service, what, account).await?;
                latencies.push(begun.elapsed());
            }
            Ok::<_, BenchError>(latencies)
        });
    }
    let mut read = Read { calls, ..Read::default() };
    while let Some(ended) = running.join_next().await {
        read.latencies.join(ended.map_err(|error| BenchError::Read(error.to_string()))??);
    }
    read.took = started.elapsed();
    Ok(read)
}

async fn one(
    service: &mut AccountServiceClient<tonic::transport::Channel>,
    what: What,
    account: String,
) -> Result<(), BenchError> {
    match what {
        What::Position => {
            let request = v1::GetPositionRequest { name: format!("accounts/{account}/positions/{}", super::POOL) };
            service.get_position(request).await?;
        }
        What::History(at_least) => {
            let parent = format!("accounts/{account}");
            let request = v1::ListPayoutsRequest { parent, page_size: 1_000, ..Default::default() };
            let answer = service.list_payouts(request).await?.into_inner();
            if answer.payouts.len() < at_least {
                let found = answer.payouts.len();
                return Err(BenchError::Read(format!("{account} has {found} payouts and not {at_least}")));
            }
        }
    }
    Ok(())
}
