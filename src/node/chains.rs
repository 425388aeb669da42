//! The chains of the configuration, connected, and checked before anything is staked: what an adapter or a signer says of
//! itself has to be what the configuration says of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::Chain;
use crate::chain::bounded::Bounded;
use crate::chain::remote::RemoteAdapter;
use crate::chain::remote::channel::{Credentials, channel};
use crate::chain::signer::local::LocalSigner;
use crate::chain::signer::remote::RemoteSigner;
use crate::chain::simulated::SimulatedChain;
use crate::chain::{ChainAdapter, Descriptor, Signer};
use crate::clock::Clock;
use crate::config::{ChainSettings, Config, CustodyMode, OutsideService, PoolSettings, RemoteSettings, SignerSettings};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{ChainId, PoolId};

use super::{NodeError, create, settings};

/// A chain whose last final block is older than this when the service starts is told of: its node has not caught up.
const LATE_SECONDS: i64 = 600;

/// The chains of the configuration, connected.
pub(super) struct Chains {
    pub(super) all: Vec<Chain>,
    /// What each pool's chain says of itself.
    pub(super) descriptors: BTreeMap<PoolId, Descriptor>,
    pub(super) simulated: BTreeMap<PoolId, SimulatedChain>,
    /// Those whose custody side nobody else plays.
    pub(super) automatic: BTreeMap<PoolId, SimulatedChain>,
}

/// Connects every chain.
pub(super) async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Chains, NodeError> {
    let folder = config.data_dir.join("chains");
    create(&folder)?;
    let (all, descriptors) = (Vec::new(), BTreeMap::new());
    let mut chains = Chains { all, descriptors, simulated: BTreeMap::new(), automatic: BTreeMap::new() };
    for pool in &config.pools {
        let id = PoolId::new(&pool.id)?;
        let longest = Duration::from_millis(config.operations.call_timeout_ms);
        let chain = match &pool.chain {
            ChainSettings::Simulated(settings) => {
                let chain_config = settings::simulated(&pool.id, settings)?;
                let path = folder.join(format!("{id}.log"));
                let chain = SimulatedChain::open(&path, chain_config, clock.clone())?;
                let signer = Arc::new(Bounded::new(Arc::new(chain.signer()), longest));
                let descriptor = chain.config().descriptor();
                if settings.custody == CustodyMode::Automatic {
                    chains.automatic.insert(id.clone(), chain.clone());
                }
                chains.simulated.insert(id.clone(), chain.clone());
                let adapter = Arc::new(Bounded::new(Arc::new(chain), longest));
                Chain { max_fee: descriptor.fee_estimate, descriptor, adapter, signer }
            }
            ChainSettings::Remote(settings) => remote(pool, settings, longest, clock.as_ref()).await?,
        };
        chains.descriptors.insert(id, chain.descriptor.clone());
        chains.all.push(chain);
    }
    Ok(chains)
}

/// A chain behind an adapter outside: what it says of itself is compared with the settings, and what would keep the pool
/// from staking is told.
async fn remote(
    pool: &PoolSettings,
    settings: &RemoteSettings,
    longest: Duration,
    clock: &dyn Clock,
) -> Result<Chain, NodeError> {
    let key = |name: &str| format!("pools.{}.chain.{name}", pool.id);
    let wrong = |name: &str, problem: String| NodeError::Setting { key: key(name), problem };
    let asked = |error: crate::chain::ChainError| {
        wrong("endpoint", format!("{error}; see that the adapter at {} runs and answers", settings.adapter.endpoint))
    };
    let max_fee =
        BaseUnits::new(settings.max_fee_base_units).map_err(|error| wrong("max_fee_base_units", error.to_string()))?;
    let way = connect(&key(""), &settings.adapter, longest)?;
    let adapter: Arc<dyn ChainAdapter> = Arc::new(Bounded::new(Arc::new(RemoteAdapter::new(way)), longest));
    let descriptor = adapter.descriptor().await.map_err(asked)?;
    let said: [(&str, &str, &str); 2] = [
        ("chain", descriptor.chain.as_str(), &settings.chain),
        ("staking_address", &descriptor.staking_address, &settings.staking_address),
    ];
    for (name, says, expected) in said {
        if says != expected {
            return Err(wrong(name, format!("the adapter says {says}, and {expected} is set; nothing was staked")));
        }
    }
    if descriptor.asset.as_str() != pool.asset {
        let problem = format!("the adapter's chain issues {}, and the pool is of {}", descriptor.asset, pool.asset);
        return Err(NodeError::Setting { key: format!("pools.{}.asset", pool.id), problem });
    }
    if descriptor.fee_estimate > max_fee {
        let problem = format!("{max_fee} is less than an ordinary transaction costs, {}", descriptor.fee_estimate);
        return Err(wrong("max_fee_base_units", problem));
    }
    let signer = signer(&pool.id, &settings.signer, &descriptor.chain, longest).await?;
    let seen = adapter.observe().await.map_err(asked)?;
    let behind_seconds = clock.now_ms().div_euclid(1_000).saturating_sub(seen.at.get());
    if behind_seconds > LATE_SECONDS {
        tracing::warn!(
            pool = pool.id,
            height = seen.height,
            behind_seconds,
            "the adapter's last final block is old: its node has not caught up; nothing is done until it has"
        );
    }
    if seen.liquid < descriptor.fee_estimate {
        tracing::warn!(pool = pool.id, staking_address = descriptor.staking_address,
            liquid_base_units = %seen.liquid, fee_base_units = %descriptor.fee_estimate,
            "the staking address can't pay the fee of one transaction; operations wait until tokens arrive there");
    }
    tracing::info!(pool = pool.id, chain = %descriptor.chain, height = seen.height, simulated = descriptor.simulated,
        "connected");
    Ok(Chain { descriptor, adapter, signer, max_fee })
}

async fn signer(
    pool: &str,
    settings: &SignerSettings,
    chain: &ChainId,
    longest: Duration,
) -> Result<Arc<dyn Signer>, NodeError> {
    let key = |name: &str| format!("pools.{pool}.chain.signer.{name}");
    match settings {
        SignerSettings::Remote { service, key_id } => {
            let signer = RemoteSigner::new(connect(&key(""), service, longest)?, chain, key_id);
            let held = signer.public_key().await.map_err(|error| NodeError::Setting {
                key: key("endpoint"),
                problem: format!("{error}; see that the signer at {} runs and holds {key_id}", service.endpoint),
            })?;
            let algorithm = held.map_or("simulated", |held| held.algorithm.name());
            tracing::info!(pool, key_id, algorithm, "the signer holds the key");
            Ok(Arc::new(Bounded::new(Arc::new(signer), longest)))
        }
        SignerSettings::File { secret_file } => {
            let signer = LocalSigner::open(secret_file).map_err(|error| NodeError::Setting {
                key: key("secret_file"),
                problem: format!("{}: {error}", secret_file.display()),
            })?;
            tracing::warn!(pool, file = %secret_file.display(),
                "the key of the staking address is in a file of this machine: for development only");
            Ok(Arc::new(Bounded::new(Arc::new(signer), longest)))
        }
    }
}

/// The way to a service outside; `section` is the path of its settings, with the last point.
fn connect(section: &str, service: &OutsideService, longest: Duration) -> Result<tonic::transport::Channel, NodeError> {
    let read = |name: &str, path: &Path| {
        std::fs::read(path).map_err(|error| NodeError::Setting {
            key: format!("{section}{name}"),
            problem: format!("{}: {error}", path.display()),
        })
    };
    let credentials = match &service.credentials {
        None => None,
        Some(files) => Some(Credentials {
            issuers: read("ca_file", &files.ca_file)?,
            certificate: read("cert_file", &files.cert_file)?,
            key: read("key_file", &files.key_file)?,
        }),
    };
    channel(&service.endpoint, credentials.as_ref(), longest)
        .map_err(|error| NodeError::Setting { key: format!("{section}endpoint"), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::node::sim_chain::{KEY_ID, SimChain, SimChainSettings};

    async fn sim_chain() -> SimChain {
        let settings = SimChainSettings {
            preset: "atom".to_owned(),
            seed: None,
            data_dir: None,
            speed: 1,
            listen: ([127, 0, 0, 1], 0).into(),
            funds: None,
        };
        SimChain::start(settings).await.unwrap()
    }

    /// The chain of a pool that stakes on `chain`, its settings changed.
    async fn opened(chain: &SimChain, change: impl Fn(String) -> String) -> Result<Chains, NodeError> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://{}", chain.address);
        let text = format!(
            "data_dir = {:?}\n[[pools]]\nid = \"atom\"\nasset = \"ATOM\"\n[pools.chain]\nkind = \"remote\"\n\
             chain = \"{}\"\nstaking_address = \"{}\"\nendpoint = \"{url}\"\nmax_fee_base_units = \"1000000\"\n\
             [pools.chain.signer]\nkind = \"remote\"\nendpoint = \"{url}\"\nkey_id = \"{KEY_ID}\"\n",
            folder.path(),
            chain.chain,
            chain.staking_address
        );
        let config = Config::from_toml(&change(text)).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        open(&config, &clock).await
    }

    async fn refused(chain: &SimChain, from: &str, to: &str) -> String {
        let opened = opened(chain, |text| text.replace(from, to)).await;
        opened.err().expect("it is not what was set").to_string()
    }

    #[tokio::test]
    async fn a_pool_stakes_through_an_adapter_outside() {
        let chain = sim_chain().await;
        let chains = opened(&chain, |text| text).await.unwrap();
        let (id, told) = chains.descriptors.first_key_value().unwrap();
        assert_eq!((id.as_str(), told.chain.as_str(), told.simulated), ("atom", chain.chain.as_str(), true));
        assert_eq!(chains.all[0].max_fee, BaseUnits::from_u64(1_000_000));
        assert!(chains.simulated.is_empty() && chains.automatic.is_empty());
        chain.stop().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_what_was_set_stops_the_start() {
        let chain = sim_chain().await;
        let named = format!("chain = \"{}\"", chain.chain);
        let other = refused(&chain, &named, "chain = \"elsewhere\"").await;
        assert!(other.starts_with("pools.atom.chain.chain: the adapter says"), "{other}");
        let address = refused(&chain, &chain.staking_address, "thief").await;
        assert!(address.starts_with("pools.atom.chain.staking_address: the adapter says"), "{address}");
        let asset = refused(&chain, "ATOM", "DOT").await;
        assert!(asset.starts_with("pools.atom.asset: the adapter's chain issues ATOM"), "{asset}");
        let fee = refused(&chain, "1000000", "1").await;
        assert!(fee.contains("max_fee_base_units: 1 is less than an ordinary transaction costs"), "{fee}");
        let key = refused(&chain, &format!("key_id = \"{KEY_ID}\""), "key_id = \"another\"").await;
        assert!(key.starts_with("pools.atom.chain.signer.endpoint: ") && key.contains("holds another"), "{key}");
        let gone = refused(&chain, &chain.address.to_string(), "127.0.0.1:1").await;
        assert!(gone.starts_with("pools.atom.chain.endpoint: the chain did not answer"), "{gone}");
        let file = "kind = \"file\"\nsecret_file = \"/nowhere/key\"\n";
        let opened = opened(&chain, |text| {
            let (before, _) = text.split_once("[pools.chain.signer]").unwrap();
            format!("{before}[pools.chain.signer]\n{file}")
        });
        let file = opened.await.err().unwrap().to_string();
        assert!(file.starts_with("pools.atom.chain.signer.secret_file: /nowhere/key: "), "{file}");
        chain.stop().await.unwrap();
    }
}
