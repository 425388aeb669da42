//! A server in this process, on a folder and ports of its own, and what a test says to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use prost_types::Timestamp;
use softstake::client::{BalanceEvent, Client, FeedReport, Options};
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

/// The first day, as periods and distributions are named after it.
pub const FIRST: &str = "2026-11-22";
/// The second day.
pub const SECOND: &str = "2026-11-23";
/// The third day.
pub const THIRD: &str = "2026-11-24";

/// What a test's server is configured with beyond the defaults.
#[derive(Clone, Default)]
pub struct Setup {
    pools: Vec<String>,
    top: String,
    limits: String,
    custody: Option<&'static str>,
    chain: String,
}

impl Setup {
    /// A server with the pools that are added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys above the pools: plain ones first, sections after them.
    pub fn top(mut self, toml: &str) -> Self {
        self.top.push_str(toml);
        self.top.push('\n');
        self
    }

    /// Lines for the limits of the gRPC surface.
    pub fn limits(mut self, toml: &str) -> Self {
        self.limits = toml.to_owned();
        self
    }

    /// Transfers of the pools added from now on are carried out by the test itself.
    pub fn external_custody(mut self) -> Self {
        self.custody = Some("external");
        self
    }

    /// Lines for the chains of the pools added from now on.
    pub fn chain(mut self, toml: &str) -> Self {
        self.chain = toml.to_owned();
        self
    }

    /// A pool on the preset of the same name, with lines for its `[pools.policy]` section and, after them, whole sections.
    pub fn pool(mut self, id: &str, policy: &str) -> Self {
        let asset = id.to_uppercase();
        // The house's float: fees of a few transactions, and of a thousand.
        let (floor, target) = match id {
            "near" => ("20000000000000000000000", "2000000000000000000000000"),
            "dot" => ("200000000", "20000000000"),
            "trx" => ("3000000", "300000000"),
            _ => ("1000000", "50000000"),
        };
        let custody = self.custody.unwrap_or("automatic");
        let chain = &self.chain;
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
custody = "{custody}"
custody_genesis_base_units = "1000000000000000000000000000000000"
{chain}
[pools.house]
float_floor_base_units = "{floor}"
float_target_base_units = "{target}"
[pools.policy]
{policy}
"#
        ));
        self
    }

    /// The configuration's text, on `data_dir`, listening on `port`.
    pub fn toml(&self, data_dir: &Path, port: u16) -> String {
        let mut toml = format!(
            "listen = \"127.0.0.1:{port}\"\nmetrics_listen = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n{}\n",
            data_dir.display(),
            self.top
        );
        toml.push_str(&format!("[limits]\nrequest_timeout_ms = 600000\n{}\n", self.limits));
        toml.push_str("[clock]\nkind = \"manual\"\nstart = \"2026-11-22T00:00:00Z\"\n");
        for pool in &self.pools {
            toml.push_str(pool);
        }
        toml
    }

    fn config(&self, data_dir: &Path) -> Config {
        Config::from_toml(&self.toml(data_dir, 0)).unwrap()
    }

    /// Starts the server.
    pub async fn start(self) -> Server {
        // To look into a failure: SOFTSTAKE_TEST_LOG=info. Only one test of a process can set its log.
        if let Ok(levels) = std::env::var("SOFTSTAKE_TEST_LOG") {
            drop(softstake::telemetry::install(softstake::telemetry::Format::Text, &levels));
        }
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(self.config(&folder.path().join("data"))).await.unwrap();
        let client = connect(&format!("http://{}", node.address)).await;
        Server { setup: self, folder, node: Some(node), client, requests: 0 }
    }
}

/// A client that waits long and tries again.
pub async fn connect(endpoint: &str) -> Client {
    let options = Options { deadline: Duration::from_secs(120), attempts: 3, ..Options::default() };
    Client::connect(endpoint, options).await.unwrap()
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

    /// Where it serves its metrics.
    pub fn metrics_address(&self) -> std::net::SocketAddr {
        self.node.as_ref().unwrap().metrics_address
    }

    /// Where it keeps its state.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Stops it and starts it again on the same folder.
    pub async fn restart(&mut self) {
        self.restart_after(|_| ()).await;
    }

    /// Stops it, does something to its folder, and starts it again.
    pub async fn restart_after(&mut self, between: impl FnOnce(&Path)) {
        self.node.take().unwrap().stop().await;
        between(&self.data());
        let node = Node::start(self.setup.config(&self.data())).await.unwrap();
        self.client = connect(&format!("http://{}", node.address)).await;
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
    pub async fn put(&mut self, account: &str, asset: &str, base_units: u128) -> v1::PutBalanceResponse {
        let request = v1::PutBalanceRequest {
            request_id: self.request_id(),
            account: account.to_owned(),
            balance: Some(amount(asset, base_units)),
            event_time: None,
        };
        self.client.put_balance(request).await.unwrap()
    }

    /// Sends events of the source `ledger` after the last durable one, packed, and after them a watermark, in seconds
    /// after [`START`].
    pub async fn feed(&self, events: &[Event<'_>], watermark: Option<i64>) -> FeedReport {
        let mut feed = self.client.feed("sources/ledger").await.unwrap();
        let events = events.iter().map(Event::packed).collect();
        feed.send(events, watermark.map(|seconds| START + seconds)).await.unwrap();
        feed.flush().await.unwrap()
    }

    /// Moves the clock to so many seconds after [`START`], vouches for the ledger's events before, and lets what is due
    /// run: a period that ends then is closed, and its distribution released.
    pub async fn close(&self, seconds: i64) {
        self.at(seconds).await;
        self.feed(&[], Some(seconds)).await;
        self.at(seconds + 600).await;
    }

    /// Decides on an account's enrolment, in one pool or (`""`) in all.
    pub async fn enrol(&mut self, account: &str, pool: &str, decision: v1::EnrolmentDecision) {
        let request = v1::SetEnrolmentRequest {
            request_id: self.request_id(),
            account: account.to_owned(),
            pool: if pool.is_empty() { String::new() } else { format!("pools/{pool}") },
            decision: decision as i32,
            terms_version: "2026-01".to_owned(),
            jurisdiction: "DE".to_owned(),
            reason_code: "SANCTION".to_owned(),
        };
        self.client.set_enrolment(request).await.unwrap();
    }

    /// A pool.
    pub async fn pool(&self, id: &str) -> v1::Pool {
        let request = v1::GetPoolRequest { name: format!("pools/{id}") };
        self.client.get_pool(request).await.unwrap().pool.unwrap()
    }

    /// The balances of a pool's ledger.
    pub async fn ledger(&self, id: &str) -> v1::LedgerBalances {
        self.pool(id).await.ledger.unwrap()
    }

    /// A position.
    pub async fn position(&self, account: &str, pool: &str) -> v1::Position {
        let name = format!("accounts/{account}/positions/{pool}");
        self.client.get_position(v1::GetPositionRequest { name }).await.unwrap().position.unwrap()
    }

    /// A distribution, by the date of its period.
    pub async fn distribution(&self, pool: &str, date: &str) -> v1::Distribution {
        let request =
            v1::GetDistributionRequest { name: format!("pools/{pool}/distributions/{date}"), ..Default::default() };
        self.client.get_distribution(request).await.unwrap().distribution.unwrap()
    }

    /// All distributions of a pool, oldest first.
    pub async fn distributions(&self, pool: &str) -> Vec<v1::Distribution> {
        let request =
            v1::ListDistributionsRequest { parent: format!("pools/{pool}"), page_size: 1_000, ..Default::default() };
        let mut all = self.client.list_distributions(request).await.unwrap().distributions;
        all.reverse();
        all
    }

    /// All operations of a pool, oldest first.
    pub async fn operations(&self, pool: &str) -> Vec<v1::Operation> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let parent = format!("pools/{pool}");
            let request = v1::ListOperationsRequest { parent, page_size: 1_000, page_token, states: Vec::new() };
            let page = self.client.list_operations(request).await.unwrap();
            all.extend(page.operations);
            if page.next_page_token.is_empty() {
                all.reverse();
                return all;
            }
            page_token = page.next_page_token;
        }
    }

    /// Why a payout is what it is.
    pub async fn explain(&self, pool: &str, date: &str, account: &str) -> v1::ExplainPayoutResponse {
        let name = format!("pools/{pool}/distributions/{date}/payouts/{account}");
        self.client.explain_payout(v1::ExplainPayoutRequest { name }).await.unwrap()
    }

    /// What an account was paid for one period, in base units.
    pub async fn paid(&self, pool: &str, date: &str, account: &str) -> u128 {
        units(&self.explain(pool, date, account).await.payout.unwrap().amount)
    }

    /// What the pool's chain counts itself.
    pub async fn chain(&self, pool: &str) -> sim::v1::GetChainTotalsResponse {
        let request = sim::v1::GetChainTotalsRequest { pool: format!("pools/{pool}") };
        self.client.get_chain_totals(request).await.unwrap()
    }

    /// Makes a pool's chain misbehave `times` times.
    pub async fn fault(&self, pool: &str, kind: sim::v1::FaultKind, times: u32) {
        let (pool, kind) = (format!("pools/{pool}"), kind as i32);
        let request = sim::v1::SetFaultRequest { pool, kind, times, ..Default::default() };
        self.client.set_fault(request).await.unwrap();
    }

    /// Ends the faults of a pool's chain, and tells how often `kind` has hit.
    pub async fn faults_hit(&self, pool: &str, kind: sim::v1::FaultKind) -> u64 {
        let request = sim::v1::ClearFaultsRequest { pool: format!("pools/{pool}") };
        let counts = self.client.clear_faults(request).await.unwrap().counts;
        counts.iter().find(|count| count.kind == kind as i32).map_or(0, |count| count.count)
    }

    /// Compares ledger and chain, and demands that every equation holds.
    pub async fn reconciled(&self, pool: &str) {
        let found = self.reconcile(pool).await;
        let broken: Vec<_> = found.equations.iter().filter(|equation| !equation.holds).collect();
        assert!(found.holds && broken.is_empty() && found.differences.is_empty(), "{found:#?}");
        assert!(!found.equations.is_empty());
    }

    /// Compares ledger and chain.
    pub async fn reconcile(&self, pool: &str) -> v1::ReconcileResponse {
        self.client.reconcile(v1::ReconcileRequest { name: format!("pools/{pool}") }).await.unwrap()
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

    /// The released payouts that nobody has acknowledged.
    pub async fn released(&self, pool: &str) -> Vec<v1::StreamPayoutsResponse> {
        let mut reader = self.client.payouts(&format!("pools/{pool}"), "").until_caught_up();
        let mut batches = Vec::new();
        while let Some(batch) = reader.next().await.unwrap() {
            batches.push(batch);
        }
        batches
    }

    /// Pauses a pool.
    pub async fn pause(&mut self, pool: &str) -> v1::Pool {
        let (request_id, name) = (self.request_id(), format!("pools/{pool}"));
        let request = v1::PausePoolRequest { request_id, name, reason: "a test".to_owned() };
        self.client.pause_pool(request).await.unwrap().pool.unwrap()
    }

    /// Resumes a pool.
    pub async fn resume(&mut self, pool: &str) -> v1::Pool {
        let (request_id, name) = (self.request_id(), format!("pools/{pool}"));
        let request = v1::ResumePoolRequest { request_id, name, reason: "a test".to_owned() };
        self.client.resume_pool(request).await.unwrap();
        self.approve_waiting().await;
        self.pool(pool).await
    }

    /// Approves everything that waits for a second person, newest first.
    pub async fn approve_waiting(&mut self) {
        let states = vec![v1::ApprovalState::Pending.into()];
        let list = v1::ListApprovalsRequest { states, ..Default::default() };
        for waits in self.client.list_approvals(list).await.unwrap().approvals {
            let (request_id, name, content_hash) = (self.request_id(), waits.name, waits.content_hash);
            let approve = v1::ApproveRequest { request_id, name, content_hash };
            let approved = self.client.approve(approve).await.unwrap().approval.unwrap();
            assert_eq!(approved.state(), v1::ApprovalState::Approved);
        }
    }

    /// Changes what `paths` name of a pool's policy and settings.
    pub async fn update(&mut self, mut pool: v1::Pool, paths: &[&str]) -> v1::Pool {
        pool.etag.clear();
        let update_mask = prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
        let request_id = self.request_id();
        let request = v1::UpdatePoolRequest { request_id, pool: Some(pool), update_mask: Some(update_mask) };
        let changed = self.client.update_pool(request).await.unwrap();
        if changed.approval.is_empty() {
            return changed.pool.unwrap();
        }
        self.approve_waiting().await;
        let name = changed.pool.unwrap().name;
        self.client.get_pool(v1::GetPoolRequest { name }).await.unwrap().pool.unwrap()
    }
}

/// One balance event: account, asset, balance, and when, in seconds after [`START`].
#[derive(Clone, Copy, Debug)]
pub struct Event<'a>(pub &'a str, pub &'a str, pub u128, pub i64);

impl Event<'_> {
    fn packed(&self) -> BalanceEvent {
        BalanceEvent {
            account: self.0.to_owned(),
            asset: self.1.to_owned(),
            base_units: self.2,
            event_seconds: START + self.3,
        }
    }

    /// As a message.
    pub fn row(&self) -> v1::BalanceRow {
        v1::BalanceRow {
            account: self.0.to_owned(),
            balance: Some(amount(self.1, self.2)),
            event_time: Some(time(START + self.3)),
        }
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

/// The base units of a signed amount on the wire.
pub fn signed(amount: &Option<v1::SignedAmount>) -> i128 {
    amount.as_ref().unwrap().base_units.parse().unwrap()
}

/// A time on the wire.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}
