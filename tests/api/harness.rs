//! A server in this process, on a folder and ports of its own, and what a test says to it.

use std::time::Duration;

use prost_types::Timestamp;
use softstake::client::{Client, Options};
use softstake::config::Config;
use softstake::node::Node;
use softstake::pb::{sim, v1};
use tempfile::TempDir;

/// The midnight at which every test begins: 2026-11-22T00:00:00Z.
pub const START: i64 = 1_795_305_600;
/// Seconds of a day.
pub const DAY: i64 = 86_400;
/// Seconds of an hour.
pub const HOUR: i64 = 3_600;

/// What a test's server is configured with beyond the defaults.
pub struct Setup {
    pools: Vec<String>,
    top: String,
}

impl Setup {
    /// A server with the pools that are added.
    pub fn new() -> Self {
        Self { pools: Vec::new(), top: String::new() }
    }

    /// Keys above the pools.
    pub fn top(mut self, toml: &str) -> Self {
        self.top.push_str(toml);
        self
    }

    /// A pool on the preset of the same name, with lines for its `[pools.policy]` section and, after them, whole sections.
    pub fn pool(mut self, id: &str, policy: &str) -> Self {
        let asset = id.to_uppercase();
        self.pools.push(format!(
            r#"
[[pools]]
id = "{id}"
asset = "{asset}"
period_seconds = 86400
first_period_start = "2026-11-22T00:00:00Z"
[pools.chain]
kind = "simulated"
preset = "{id}"
seed = 7
custody = "automatic"
custody_genesis_base_units = "1000000000000000000000000000000000"
[pools.house]
float_floor_base_units = "1000000"
float_target_base_units = "50000000"
[pools.policy]
{policy}
"#
        ));
        self
    }

    /// The configuration on `data_dir`.
    fn config(&self, data_dir: &std::path::Path) -> Config {
        let mut toml = format!(
            "listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n{}\n",
            data_dir.display(),
            self.top
        );
        toml.push_str(
            "[limits]\nrequest_timeout_ms = 600000\n[clock]\nkind = \"manual\"\nstart = \"2026-11-22T00:00:00Z\"\n",
        );
        for pool in &self.pools {
            toml.push_str(pool);
        }
        Config::from_toml(&toml).unwrap()
    }

    /// Starts the server.
    pub async fn start(self) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let config = self.config(&folder.path().join("data"));
        let node = Node::start(config).await.unwrap();
        let client = connect(&node).await;
        Server { setup: self, folder, node: Some(node), client, requests: 0 }
    }
}

async fn connect(node: &Node) -> Client {
    let options = Options { deadline: Duration::from_secs(120), attempts: 3, ..Options::default() };
    Client::connect(&format!("http://{}", node.address), options).await.unwrap()
}

/// A running server and a client of it.
pub struct Server {
    setup: Setup,
    folder: TempDir,
    node: Option<Node>,
    pub client: Client,
    requests: u64,
}

impl Server {
    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.node.as_ref().unwrap().address)
    }

    /// Stops it and starts it again on the same folder.
    pub async fn restart(&mut self) {
        self.node.take().unwrap().stop().await;
        let node = Node::start(self.setup.config(&self.folder.path().join("data"))).await.unwrap();
        self.client = connect(&node).await;
        self.node = Some(node);
    }

    /// Stops it.
    pub async fn stop(mut self) {
        self.node.take().unwrap().stop().await;
    }

    /// A request id that no other request of this test has.
    pub fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("test-{}", self.requests)
    }

    /// Moves the clock to so many seconds after [`START`], and all that is due with it.
    pub async fn at(&self, seconds: i64) {
        self.client.advance_time(time(START + seconds)).await.unwrap();
    }

    /// Puts a balance as of now.
    pub async fn put(&mut self, account: &str, asset: &str, base_units: u128) {
        let request = v1::PutBalanceRequest {
            request_id: self.request_id(),
            account: account.to_owned(),
            balance: Some(amount(asset, base_units)),
            event_time: None,
        };
        self.client.put_balance(request).await.unwrap();
    }

    /// A pool.
    pub async fn pool(&self, id: &str) -> v1::Pool {
        let request = v1::GetPoolRequest { name: format!("pools/{id}") };
        self.client.get_pool(request).await.unwrap().pool.unwrap()
    }

    /// A distribution, by the date of its period.
    pub async fn distribution(&self, pool: &str, date: &str) -> v1::Distribution {
        let request =
            v1::GetDistributionRequest { name: format!("pools/{pool}/distributions/{date}"), ..Default::default() };
        self.client.get_distribution(request).await.unwrap().distribution.unwrap()
    }

    /// What the pool's chain counts itself.
    pub async fn chain(&self, pool: &str) -> sim::v1::GetChainTotalsResponse {
        let request = sim::v1::GetChainTotalsRequest { pool: format!("pools/{pool}") };
        self.client.get_chain_totals(request).await.unwrap()
    }

    /// The payouts of an account, newest first.
    pub async fn payouts(&self, account: &str, asset: &str) -> Vec<v1::Payout> {
        let request = v1::ListPayoutsRequest {
            parent: format!("accounts/{account}"),
            asset: asset.to_owned(),
            page_size: 1_000,
            ..Default::default()
        };
        self.client.list_payouts(request).await.unwrap().payouts
    }
}

/// An amount on the wire.
pub fn amount(asset: &str, base_units: u128) -> v1::Amount {
    v1::Amount { asset: asset.to_owned(), base_units: base_units.to_string() }
}

/// The base units of an amount on the wire.
pub fn units(amount: &Option<v1::Amount>) -> u128 {
    amount.as_ref().unwrap().base_units.parse().unwrap()
}

/// A time on the wire.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}
