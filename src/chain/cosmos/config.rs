//! What a Cosmos chain is set up with, and what follows from it: the address, and gas and fee of each operation. Checked
//! once, when the adapter is made, so that no transaction fails over it.

use std::time::Duration;

use k256::ecdsa::VerifyingKey;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::address::{self, AddressError};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{AssetId, ChainId};
use crate::domain::operation::OperationKind;

/// Where one node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosmosEndpoint {
    /// The SDK's gRPC, as `http://host:9090` or `https://…`.
    pub grpc: String,
    /// CometBFT's JSON-RPC of the same node, which has the events of blocks, as `http://host:26657`.
    pub rpc: String,
}

/// The most gas that one transaction may use, by what it does, before the adjustment. A transaction that needs more fails,
/// and its fee is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasLimits {
    /// Of a delegation.
    pub delegate: u64,
    /// Of an undelegation.
    pub undelegate: u64,
    /// Of a redelegation.
    pub redelegate: u64,
    /// Of a claim from one validator.
    pub claim: u64,
    /// Of a send to custody.
    pub send: u64,
}

/// A Cosmos chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosmosConfig {
    /// Its name, which transactions are signed for, as `cosmoshub-4`.
    pub chain: ChainId,
    /// The name of its token in softstake, as `ATOM`.
    pub asset: AssetId,
    /// The staking address had nothing up to this height: blocks up to it are not read.
    pub first_height: u64,
    /// Its nodes, the preferred one first.
    pub endpoints: Vec<CosmosEndpoint>,
    /// The certificates, as PEM, that `https` endpoints are judged by.
    pub certificates: Option<String>,
    /// The compressed secp256k1 public key of the staking address: 33 bytes.
    pub public_key: Vec<u8>,
    /// The one address that tokens leave for.
    pub custody_address: String,
    /// The token that is staked and that fees are paid in, as `uatom`: one of it is one base unit.
    pub denom: String,
    /// What accounts' addresses begin with, as `cosmos`.
    pub prefix: String,
    /// Base units paid per gas.
    pub gas_price: Decimal,
    /// Gas by operation.
    pub gas: GasLimits,
    /// What the gas limits are multiplied by, rounded up.
    pub gas_adjustment: Decimal,
    /// The most that one transaction may cost, in base units.
    pub max_fee: BaseUnits,
    /// How many blocks a transaction lives from its making.
    pub timeout_blocks: u64,
    /// A node that is further behind the highest one seen is passed over.
    pub max_lag_blocks: u64,
    /// How long one request to a node may take.
    pub request_timeout: Duration,
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosmosConfigError {
    /// There is no node to ask.
    #[error("a Cosmos chain needs an endpoint at least")]
    NoEndpoint,
    /// An endpoint is no address, or its certificates are none.
    #[error("the endpoint {endpoint:?} can't be used: {why}")]
    Endpoint {
        /// Which.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
    /// The public key is none.
    #[error("the public key is no compressed point of secp256k1")]
    PublicKey,
    /// An address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Custody would be the staking address.
    #[error("custody's address is the staking address itself")]
    CustodyIsStaking,
    /// Something that must not be zero is.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// Gas, price or adjustment are beyond what can be.
    #[error("gas, its adjustment and its price come to no fee")]
    Fee,
    /// An ordinary transaction would cost too much.
    #[error("a transaction would cost {fee} base units, and {most} is the most")]
    Dear {
        /// What it would cost.
        fee: BaseUnits,
        /// The most.
        most: BaseUnits,
    },
}

/// Gas and fee of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) gas: u64,
    pub(super) fee: BaseUnits,
}

/// A configuration that was checked, with what follows from it.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) config: CosmosConfig,
    pub(super) key: VerifyingKey,
    /// The staking address.
    pub(super) address: String,
    costs: [Cost; 5],
}

impl Terms {
    /// Checks `config`.
    pub(super) fn new(config: CosmosConfig) -> Result<Self, CosmosConfigError> {
        if config.endpoints.is_empty() {
            return Err(CosmosConfigError::NoEndpoint);
        }
        if config.denom.is_empty() {
            return Err(CosmosConfigError::Zero("the length of the denomination"));
        }
        if config.timeout_blocks == 0 {
            return Err(CosmosConfigError::Zero("timeout_blocks"));
        }
        if config.request_timeout.is_zero() {
            return Err(CosmosConfigError::Zero("request_timeout"));
        }
        let key = VerifyingKey::from_sec1_bytes(&config.public_key).map_err(|_| CosmosConfigError::PublicKey)?;
        if key.to_sec1_point(true).as_bytes() != config.public_key {
            return Err(CosmosConfigError::PublicKey);
        }
        let address = address::account_of(&config.prefix, &config.public_key)?;
        address::check_account(&config.prefix, &config.custody_address)?;
        if address == config.custody_address {
            return Err(CosmosConfigError::CustodyIsStaking);
        }
        let gas = config.gas;
        let mut costs = [Cost { gas: 0, fee: BaseUnits::ZERO }; 5];
        for (cost, gas) in costs.iter_mut().zip([gas.delegate, gas.undelegate, gas.redelegate, gas.claim, gas.send]) {
            *cost = price(&config, gas)?;
        }
        Ok(Self { config, key, address, costs })
    }

    /// What the transaction for `kind` may use and cost; `None` where the chain has no such transaction.
    pub(super) fn cost(&self, kind: &OperationKind) -> Option<Cost> {
        let [delegate, undelegate, redelegate, claim, send] = self.costs;
        match kind {
            OperationKind::Delegate { .. } => Some(delegate),
            OperationKind::Undelegate { .. } => Some(undelegate),
            OperationKind::Redelegate { .. } => Some(redelegate),
            OperationKind::Claim { validator: Some(_) } => Some(claim),
            OperationKind::SendToCustody { .. } => Some(send),
            OperationKind::Claim { validator: None } | OperationKind::Withdraw { .. } => None,
        }
    }

    /// The most gas of a transaction.
    pub(super) fn highest_gas(&self) -> u64 {
        self.costs.iter().map(|cost| cost.gas).max().unwrap_or(0)
    }

    /// The dearest transaction.
    pub(super) fn highest_fee(&self) -> BaseUnits {
        self.costs.iter().map(|cost| cost.fee).max().unwrap_or(BaseUnits::ZERO)
    }
}

/// Gas adjusted, and the fee for it, each rounded up.
fn price(config: &CosmosConfig, gas: u64) -> Result<Cost, CosmosConfigError> {
    if gas == 0 {
        return Err(CosmosConfigError::Zero("a gas limit"));
    }
    let adjusted = Decimal::from(gas).checked_mul(config.gas_adjustment).map(|gas| gas.ceil());
    let adjusted = adjusted.ok_or(CosmosConfigError::Fee)?;
    let fee = adjusted.checked_mul(config.gas_price).map(|fee| fee.ceil()).and_then(|fee| fee.to_u128());
    let fee = fee.and_then(|fee| BaseUnits::new(fee).ok()).ok_or(CosmosConfigError::Fee)?;
    let gas = adjusted.to_u64().filter(|gas| *gas > 0).ok_or(CosmosConfigError::Fee)?;
    if fee > config.max_fee {
        return Err(CosmosConfigError::Dear { fee, most: config.max_fee });
    }
    Ok(Cost { gas, fee })
}
