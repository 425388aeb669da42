//! A simulated chain by itself, served as an adapter and a signer outside: what `softstake sim-chain` runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::{NodeError, create};
use crate::chain::remote::serve;
use crate::chain::simulated::{MemoryLog, SimulatedChain, presets};
use crate::clock::{AcceleratedClock, Clock, SystemClock};
use crate::domain::ids::TransferId;

/// The name of the one key that the signer holds.
pub const KEY_ID: &str = "simulated";

/// The names of the chains that can be simulated.
pub const PRESETS: [&str; 5] = presets::NAMES;

/// How long to wait between two looks at whether the funds have arrived.
const LOOK: Duration = Duration::from_millis(50);

/// Which chain, and where.
#[derive(Clone, Debug)]
pub struct SimChainSettings {
    /// One of [`PRESETS`].
    pub preset: String,
    /// The seed of validators and the signing key; without it, the preset's.
    pub seed: Option<u64>,
    /// The folder of the chain's log and its clock; without it, all is in memory.
    pub data_dir: Option<PathBuf>,
    /// How many times faster than real time the chain's clock runs; 1 is real time.
    pub speed: u32,
    /// Where to listen, on loopback.
    pub listen: SocketAddr,
    /// How many base units custody sends to the staking address before anything is served, as decimal text.
    pub funds: Option<String>,
}

/// A chain that is served. Drop it only after [`SimChain::stop`].
#[derive(Debug)]
pub struct SimChain {
    /// Where both services are.
    pub address: SocketAddr,
    /// The chain's name.
    pub chain: String,
    /// The staking address.
    pub staking_address: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Real time, and so many times faster since it was begun.
struct Faster {
    inner: SystemClock,
    begun_ms: i64,
    factor: u32,
}

impl Clock for Faster {
    fn now_ms(&self) -> i64 {
        let since_ms = self.inner.now_ms().saturating_sub(self.begun_ms);
        self.begun_ms.saturating_add(since_ms.saturating_mul(i64::from(self.factor)))
    }
}

fn clock(settings: &SimChainSettings) -> Result<Arc<dyn Clock>, NodeError> {
    let inner = SystemClock::new();
    let begun_ms = inner.now_ms();
    Ok(match (&settings.data_dir, settings.speed) {
        (_, 1) => Arc::new(inner),
        (None, factor) => Arc::new(Faster { inner, begun_ms, factor }),
        (Some(folder), factor) => Arc::new(AcceleratedClock::open(&folder.join("clock"), begun_ms, factor)?),
    })
}

fn setting(key: &str, problem: impl ToString) -> NodeError {
    NodeError::Setting { key: key.to_owned(), problem: problem.to_string() }
}

impl SimChain {
    /// Opens the chain and begins to serve it.
    pub async fn start(settings: SimChainSettings) -> Result<Self, NodeError> {
        if !settings.listen.ip().is_loopback() {
            return Err(setting("listen", "a simulated chain is served on loopback alone"));
        }
        let preset = presets::preset(&settings.preset);
        let config = preset.ok_or_else(|| setting("preset", format!("is one of {}", PRESETS.join(", "))))?;
        let config = match settings.seed {
            Some(seed) => config.with_seed(seed),
            None => config,
        };
        if let Some(folder) = &settings.data_dir {
            create(folder)?;
        }
        let clock = clock(&settings)?;
        let chain = match &settings.data_dir {
            Some(folder) => SimulatedChain::open(&folder.join("chain.log"), config, clock)?,
            None => SimulatedChain::open_memory(MemoryLog::new(), config, clock)?,
        };
        if let Some(funds) = &settings.funds {
            let amount = funds.parse().map_err(|error| setting("fund", error))?;
            let sent = chain.custody_send(&TransferId::new("sim-chain-fund")?, amount).await?;
            while !chain.custody_transactions().await?.iter().any(|moved| moved.transaction == sent) {
                tokio::time::sleep(LOOK).await;
            }
        }
        let (listener, address) = super::listen("listen", settings.listen).await?;
        let descriptor = chain.config().descriptor();
        let signer = serve::signer(Arc::new(chain.signer()), descriptor.chain.clone(), KEY_ID);
        let served = Server::builder().add_service(serve::adapter(Arc::new(chain))).add_service(signer);
        let (stop, stopped) = oneshot::channel();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = tokio::spawn(served.serve_with_incoming_shutdown(incoming, async move {
            // An error means that nobody is left to stop it, which is as good as stopped.
            drop(stopped.await);
        }));
        let (chain, staking_address) = (descriptor.chain.to_string(), descriptor.staking_address);
        Ok(Self { address, chain, staking_address, stop, serving })
    }

    /// Takes nothing new, and finishes what is in flight.
    pub async fn stop(self) -> Result<(), NodeError> {
        // Nobody listens where it ended by itself, and then there is nothing to stop.
        let _ended = self.stop.send(());
        let served = self.serving.await.map_err(|error| NodeError::Failed(error.to_string()))?;
        Ok(served?)
    }
}
