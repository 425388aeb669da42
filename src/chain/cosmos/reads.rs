//! What a node says of the staking address, at one height: the queries of this room. Nothing is kept but connections.
//!
//! The height is asked for with the metadata `x-cosmos-block-height` in every query, and every answer that names another is
//! refused. A node that has not reached it, or has pruned it, gives no answer, and is never taken at less than its word.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::bech32;
use super::effects::{Stake, Us};
use super::results::{self, Header, Results};
use super::rpc::Rpc;
use super::shares::{Decimals, ExchangeRate, base_units};
use crate::chain::ChainError;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{ChainId, ValidatorId};
use crate::domain::time::UnixSeconds;
use crate::pb::cosmos::bank::v1beta1 as bank;
use crate::pb::cosmos::bank::v1beta1::query_client::QueryClient as BankClient;
use crate::pb::cosmos::base::query::v1beta1::{PageRequest, PageResponse};
use crate::pb::cosmos::distribution::v1beta1 as distribution;
use crate::pb::cosmos::distribution::v1beta1::query_client::QueryClient as DistributionClient;
use crate::pb::cosmos::staking::v1beta1 as staking;
use crate::pb::cosmos::staking::v1beta1::query_client::QueryClient as StakingClient;

/// The name of the metadata that carries a height, in both directions.
const HEIGHT: &str = "x-cosmos-block-height";

/// The most items of a page.
const PAGE: u64 = 200;

/// The most pages of one list: more is no list of a chain's.
const MAX_PAGES: usize = 1_000;

/// The most bytes of one answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The first byte of x/distribution's keys of starting infos (`x/distribution/types/keys.go`).
const STARTING_INFO: u8 = 0x04;

/// A node, and whom it is asked about.
#[derive(Clone, Debug)]
pub struct Reads {
    /// The chain that the node has to be of.
    pub chain: ChainId,
    /// Who we are there.
    pub us: Us,
    /// The prefix of account addresses, `cosmos`; those of validators have `valoper` after it.
    pub prefix: String,
    /// The node's gRPC.
    pub grpc: Channel,
    /// The same node's JSON-RPC.
    pub rpc: Rpc,
    /// The longest that one query takes.
    pub timeout: Duration,
}

/// A page of something and what comes after it.
type Page<T> = (Vec<T>, Option<PageResponse>);

fn untrusted(what: impl std::fmt::Display) -> ChainError {
    ChainError::Untrusted(what.to_string())
}

fn unavailable(status: Status) -> ChainError {
    ChainError::Unavailable(format!("{}: {}", status.code(), status.message().chars().take(300).collect::<String>()))
}

fn missing(what: &str) -> ChainError {
    untrusted(format!("an answer without {what}"))
}

/// The height that an answer names.
fn named<T>(answer: &Response<T>) -> Result<Option<u64>, ChainError> {
    let Some(value) = answer.metadata().get(HEIGHT) else { return Ok(None) };
    let height = value.to_str().ok().and_then(|text| text.parse().ok());
    height.map(Some).ok_or_else(|| untrusted(format!("{value:?} is no height")))
}

/// Every item of a list, page by page.
async fn all<T, F: Future<Output = Result<Page<T>, ChainError>>>(
    mut page: impl FnMut(PageRequest) -> F,
) -> Result<Vec<T>, ChainError> {
    let (mut found, mut key) = (Vec::new(), Vec::new());
    for _ in 0..MAX_PAGES {
        let (items, after) = page(PageRequest { key, limit: PAGE, ..PageRequest::default() }).await?;
        found.extend(items);
        key = after.map(|after| after.next_key).unwrap_or_default();
        if key.is_empty() {
            return Ok(found);
        }
    }
    Err(untrusted("a list that does not end"))
}

impl Reads {
    fn staking(&self) -> StakingClient<Channel> {
        StakingClient::new(self.grpc.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Asks for the state after block `height`, within bounds.
    async fn at<T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        height: u64,
        call: impl FnOnce(MetadataValue<Ascii>) -> F,
    ) -> Result<T, ChainError> {
        let answer = tokio::time::timeout(self.timeout, call(MetadataValue::from(height))).await;
        let answer =
            answer.map_err(|_| ChainError::Unavailable("no answer in time".to_owned()))?.map_err(unavailable)?;
        match named(&answer)? {
            Some(other) if other != height => Err(untrusted(format!("asked for height {height}, got {other}"))),
            _ => Ok(answer.into_inner()),
        }
    }

    /// The last height that the node has committed, and the staking parameters there.
    pub async fn latest(&self) -> Result<(u64, staking::Params), ChainError> {
        let mut client = self.staking();
        let asked = client.params(staking::QueryParamsRequest {});
        let answer = tokio::time::timeout(self.timeout, asked).await;
        let answer =
            answer.map_err(|_| ChainError::Unavailable("no answer in time".to_owned()))?.map_err(unavailable)?;
        let height = named(&answer)?.filter(|height| *height > 0).ok_or_else(|| missing("its height"))?;
        let params = answer.into_inner().params.ok_or_else(|| missing("parameters"))?;
        if params.bond_denom != self.us.denom {
            return Err(untrusted(format!("it stakes {:?} and not {}", params.bond_denom, self.us.denom)));
        }
        Ok((height, params))
    }

    /// Our liquid balance.
    pub async fn liquid(&self, height: u64) -> Result<BaseUnits, ChainError> {
        let request = bank::QueryBalanceRequest { address: self.us.staking.clone(), denom: self.us.denom.clone() };
        let mut client = BankClient::new(self.grpc.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = self.at(height, |at| async move { client.balance(with(request, at)).await }).await?;
        let balance = answer.balance.ok_or_else(|| missing("a balance"))?;
        if balance.denom != self.us.denom {
            return Err(untrusted(format!("asked for {}, got {:?}", self.us.denom, balance.denom)));
        }
        Ok(base_units(&balance.amount)?)
    }

    /// Our delegations. Their worth is as the chain says it.
    pub async fn delegations(&self, height: u64) -> Result<Vec<Delegated>, ChainError> {
        let found = all(|page| async move {
            let delegator_addr = self.us.staking.clone();
            let request = staking::QueryDelegatorDelegationsRequest { delegator_addr, pagination: Some(page) };
            let mut client = self.staking();
            let answer = self.at(height, |at| async move { client.delegator_delegations(with(request, at)).await });
            let answer = answer.await?;
            Ok((answer.delegation_responses, answer.pagination))
        });
        let found = found.await?.into_iter().map(|one| {
            let delegation = one.delegation.ok_or_else(|| missing("a delegation"))?;
            self.ours(&delegation.delegator_address)?;
            let worth = one.balance.filter(|coin| coin.denom == self.us.denom).ok_or_else(|| missing("its worth"))?;
            Ok(Delegated {
                validator: validator(&delegation.validator_address)?,
                shares: Decimals::from_wire(&delegation.shares)?,
                worth: base_units(&worth.amount)?,
            })
        });
        found.collect()
    }

    /// Our unbondings, one list per validator.
    pub async fn unbondings(&self, height: u64) -> Result<Vec<staking::UnbondingDelegation>, ChainError> {
        let found = all(|page| async move {
            let delegator_addr = self.us.staking.clone();
            let request = staking::QueryDelegatorUnbondingDelegationsRequest { delegator_addr, pagination: Some(page) };
            let mut client = self.staking();
            let answer =
                self.at(height, |at| async move { client.delegator_unbonding_delegations(with(request, at)).await });
            let answer = answer.await?;
            Ok((answer.unbonding_responses, answer.pagination))
        });
        let found: Vec<staking::UnbondingDelegation> = found.await?;
        found.iter().try_for_each(|one| self.ours(&one.delegator_address))?;
        Ok(found)
    }

    /// The validators that have received stake of ours by a redelegation which has not matured.
    pub async fn receiving(&self, height: u64) -> Result<Vec<ValidatorId>, ChainError> {
        let found = all(|page| async move {
            let delegator_addr = self.us.staking.clone();
            let request = staking::QueryRedelegationsRequest { delegator_addr, pagination: Some(page) };
            let mut client = self.staking();
            let answer = self.at(height, |at| async move { client.redelegations(with(request, at)).await }).await?;
            Ok((answer.redelegation_responses, answer.pagination))
        });
        let found = found.await?.into_iter().filter(|one| !one.entries.is_empty()).map(|one| {
            let pair = one.redelegation.ok_or_else(|| missing("a redelegation"))?;
            self.ours(&pair.delegator_address)?;
            validator(&pair.validator_dst_address)
        });
        found.collect()
    }

    /// What could be withdrawn from each validator, the fraction of a unit left out: so much is paid.
    pub async fn rewards(&self, height: u64) -> Result<BTreeMap<ValidatorId, BaseUnits>, ChainError> {
        let delegator_address = self.us.staking.clone();
        let request = distribution::QueryDelegationTotalRewardsRequest { delegator_address };
        let mut client = DistributionClient::new(self.grpc.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = self.at(height, |at| async move { client.delegation_total_rewards(with(request, at)).await });
        let rewards = answer.await?.rewards.into_iter().map(|one| {
            let ours = one.reward.iter().find(|coin| coin.denom == self.us.denom);
            let amount = ours.map_or(Ok(Decimals::ZERO), |coin| Decimals::from_wire(&coin.amount))?;
            Ok((validator(&one.validator_address)?, amount.truncated()?))
        });
        rewards.collect()
    }

    /// Every validator, whatever its status.
    pub async fn validators(&self, height: u64) -> Result<Vec<staking::Validator>, ChainError> {
        let found = all(|page| async move {
            let request = staking::QueryValidatorsRequest { status: String::new(), pagination: Some(page) };
            let mut client = self.staking();
            let answer = self.at(height, |at| async move { client.validators(with(request, at)).await }).await?;
            Ok((answer.validators, answer.pagination))
        });
        found.await
    }

    /// Our stake, for comparing two heights.
    pub async fn stake(&self, height: u64) -> Result<Stake, ChainError> {
        let (delegations, unbondings) = tokio::try_join!(self.delegations(height), self.unbondings(height))?;
        let delegated = delegations.into_iter().map(|one| (one.validator, one.worth)).collect();
        let mut unbonding = BTreeMap::new();
        for one in unbondings {
            let balances = one.entries.iter().map(|entry| base_units(&entry.balance));
            let sum = BaseUnits::sum(balances.collect::<Result<Vec<_>, _>>()?).map_err(untrusted)?;
            unbonding.insert(validator(&one.validator_address)?, sum);
        }
        Ok(Stake { delegated, unbonding })
    }

    /// The events of block `height`.
    pub async fn results(&self, height: u64) -> Result<Results, ChainError> {
        let json = self.rpc.get(&format!("/block_results?height={height}")).await?;
        Results::read(&json, height)
    }

    /// Block `height` itself.
    pub async fn header(&self, height: u64) -> Result<Header, ChainError> {
        let json = self.rpc.get(&format!("/block?height={height}")).await?;
        Header::read(&json, height, self.chain.as_str())
    }

    /// Since when the reward of our delegation to `whom`, as it stood after block `height`, was earned: the time of the
    /// block that last changed the delegation or withdrew from it. x/distribution keeps its height for its own
    /// computation, and no query gives it: it is read from the node's store. `None` where there is no delegation.
    pub async fn earning_since(&self, whom: &ValidatorId, height: u64) -> Result<Option<UnixSeconds>, ChainError> {
        let of = |prefix: &str, address: &str| {
            let bytes =
                bech32::decode(prefix, address).ok_or_else(|| untrusted(format!("{address:?} is no address")))?;
            let length = u8::try_from(bytes.len()).map_err(untrusted)?;
            Ok::<_, ChainError>([vec![length], bytes].concat())
        };
        let validator = of(&format!("{}valoper", self.prefix), whom.as_str())?;
        let delegator = of(&self.prefix, &self.us.staking)?;
        let key = [vec![STARTING_INFO], validator, delegator].concat();
        let key = data_encoding::HEXLOWER.encode(&key);
        let path = format!("/abci_query?path=%22/store/distribution/key%22&data=0x{key}&height={height}");
        let Some(stored) = results::stored(&self.rpc.get(&path).await?, height)? else { return Ok(None) };
        let info = <distribution::DelegatorStartingInfo as prost::Message>::decode(stored.as_slice());
        let began = info.map_err(|error| untrusted(format!("a starting info: {error}")))?.height;
        // A delegation of the chain's genesis began with its first block.
        self.header(began.max(1)).await.map(|header| Some(header.at))
    }

    fn ours(&self, delegator: &str) -> Result<(), ChainError> {
        let wrong = || untrusted(format!("asked about {}, got {delegator:?}", self.us.staking));
        (delegator == self.us.staking).then_some(()).ok_or_else(wrong)
    }
}

/// One of our delegations, as the chain keeps it and as it reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// With whom.
    pub validator: ValidatorId,
    /// What is kept.
    pub shares: Decimals,
    /// What they are worth.
    pub worth: BaseUnits,
}

/// What a validator's shares are worth.
pub fn exchange_rate(validator: &staking::Validator) -> Result<ExchangeRate, ChainError> {
    let (tokens, shares) = (base_units(&validator.tokens)?, Decimals::from_wire(&validator.delegator_shares)?);
    Ok(ExchangeRate { tokens, shares })
}

/// The validator of that operator address.
pub fn validator(address: &str) -> Result<ValidatorId, ChainError> {
    ValidatorId::new(address).map_err(untrusted)
}

fn with<T>(message: T, height: MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(HEIGHT, height);
    request
}

/// A node that nobody runs, for tests of what needs none.
#[cfg(test)]
pub(super) fn nowhere() -> Reads {
    let (staking, custody) = ("cosmos1staking".to_owned(), "cosmos1custody".to_owned());
    let timeout = Duration::from_secs(1);
    Reads {
        chain: ChainId::new("softstake-test-1").unwrap(),
        us: Us { staking, custody, denom: "uatom".to_owned() },
        prefix: "cosmos".to_owned(),
        grpc: Channel::from_static("http://127.0.0.1:1").connect_lazy(),
        rpc: Rpc::new("http://127.0.0.1:1", timeout, None).unwrap(),
        timeout,
    }
}
