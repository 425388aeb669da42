//! Whether an adapter keeps the contract: every clause of `softstake.adapter.v1` that can be seen from outside, asked over
//! the wire. Called by `softstake adapter check` and by tests.
//!
//! It changes nothing unless it may spend; then it delegates the least that the chain takes, begins to take it back, and
//! sends what has to fail. Each clause gets one verdict; what was seen first against it stays.

mod account;
mod effects;
mod findings;
mod reads;
mod spend;

use std::time::Duration;

use tonic::transport::Channel;

pub use self::findings::{Line, Report, Verdict};

use self::findings::{Clause, Findings};
use super::convert::write_contents;
use super::{RemoteAdapter, answered};
use crate::chain::{ChainAdapter, ChainError, Descriptor, Observation, Unsigned};
use crate::domain::effect::Effect;
use crate::domain::ids::{IdError, OperationId, ValidatorId};
use crate::domain::signing::SigningBounds;
use crate::domain::validator::ValidatorStatus;
use crate::pb::signer::v1::SignRequest;
use crate::pb::signer::v1::signer_service_client::SignerServiceClient;

/// Whom to ask, and how far to go.
#[derive(Clone, Debug)]
pub struct Options {
    /// The adapter.
    pub adapter: Channel,
    /// The signer, and its key's name; without it nothing is assembled.
    pub signer: Option<(Channel, String)>,
    /// Whether small amounts may be moved.
    pub spend: bool,
    /// What tells this run's operations from all others: letters, digits and hyphens.
    pub run: String,
    /// With whom to delegate; without it, the first active validator.
    pub validator: Option<ValidatorId>,
    /// How long a transaction is waited for; without it, three times the chain's own time and a minute.
    pub patience: Option<Duration>,
    /// How long to wait between two looks.
    pub poll: Duration,
}

/// One run.
struct Check {
    options: Options,
    adapter: RemoteAdapter,
    findings: Findings,
    descriptor: Descriptor,
    /// Everything that was observed, in the order of asking.
    seen: Vec<Observation>,
    operations: u32,
    /// The operations that ended, with their effects by Lookup.
    ended: Vec<(OperationId, Vec<Effect>)>,
}

/// Holds an adapter against every clause.
pub async fn run(options: Options) -> Report {
    let adapter = RemoteAdapter::new(options.adapter.clone());
    let mut findings = Findings::default();
    let descriptor = match adapter.descriptor().await {
        Ok(descriptor) => descriptor,
        Err(error) => {
            findings.failed_call(Clause::D1, "GetDescriptor", &error);
            return findings.report("there is no descriptor to go by");
        }
    };
    let mut check =
        Check { options, adapter, findings, descriptor, seen: Vec::new(), operations: 0, ended: Vec::new() };
    check.descriptor().await;
    let Some(first) = check.observe().await else {
        return check.findings.report("there is no observation to go by");
    };
    check.reads().await;
    let target = check.target(&first);
    check.prepares(&first, target.as_ref()).await;
    check.spend(&first, target.as_ref()).await;
    check.effects(&first).await;
    check.findings.report("nothing came up that shows it")
}

impl Check {
    /// An id that no other run and no pool has.
    fn new_id(&mut self) -> Result<OperationId, IdError> {
        self.operations += 1;
        OperationId::new(&format!("check:{}:{}", self.options.run, self.operations))
    }

    fn bounds(&self) -> SigningBounds<'_> {
        SigningBounds {
            staking_address: &self.descriptor.staking_address,
            custody_address: &self.descriptor.custody_address,
            max_fee: self.descriptor.fee_estimate,
        }
    }

    /// What `answer` has, or a failure of `clause`.
    fn ask<T>(&mut self, clause: Clause, call: &str, answer: Result<T, ChainError>) -> Option<T> {
        answer.map_err(|error| self.findings.failed_call(clause, call, &error)).ok()
    }

    /// Observes, and holds heights against those before.
    async fn observe(&mut self) -> Option<Observation> {
        let answer = self.adapter.observe().await;
        let seen = self.ask(Clause::O1, "Observe", answer)?;
        if let Some(last) = self.seen.last()
            && (seen.height < last.height || seen.at < last.at)
        {
            let (from, to) = ((last.height, last.at), (seen.height, seen.at));
            self.findings.fail(Clause::O2, format!("height {} at {} came after {} at {}", to.0, to.1, from.0, from.1));
        }
        self.seen.push(seen.clone());
        Some(seen)
    }

    /// With whom to delegate.
    fn target(&self, first: &Observation) -> Option<ValidatorId> {
        let active = first.validators.iter().find(|one| one.status == ValidatorStatus::Active);
        self.options.validator.clone().or_else(|| active.map(|one| one.id.clone()))
    }

    /// The signature of `unsigned`, from the signer outside.
    async fn sign(&self, id: &OperationId, unsigned: &Unsigned) -> Result<Vec<u8>, ChainError> {
        let Some((channel, key_id)) = &self.options.signer else {
            return Err(ChainError::Unavailable("no --signer was named".to_owned()));
        };
        let request = SignRequest {
            chain: self.descriptor.chain.to_string(),
            key_id: key_id.clone(),
            operation_id: id.to_string(),
            sign_bytes: unsigned.bytes.clone(),
            contents: Some(write_contents(&unsigned.says)),
        };
        let answer = SignerServiceClient::new(channel.clone()).sign(request).await;
        answered(answer).map(|answer| answer.signature)
    }

    /// How long a transaction is waited for.
    fn patience(&self) -> Duration {
        let pace = self.descriptor.pace;
        let slowest = pace.finality_seconds.max(pace.stake_move_seconds).min(86_400);
        self.options.patience.unwrap_or_else(|| Duration::from_secs(3 * slowest + 60))
    }
}
