use super::*;
use crate::app::ingest::BalanceEvent;
use crate::domain::amount::BaseUnits;
use crate::domain::ids::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke() {
    crate::telemetry::install(crate::telemetry::Format::Text, "info").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let toml = format!(r#"
listen = "127.0.0.1:0"
metrics_listen = "127.0.0.1:0"
data_dir = "{}"
[clock]
kind = "manual"
start = "2026-11-22T00:00:00Z"
[[pools]]
id = "atom"
asset = "ATOM"
period_seconds = 86400
first_period_start = "2026-11-22T00:00:00Z"
[pools.chain]
kind = "simulated"
preset = "atom"
seed = 7
custody = "automatic"
custody_genesis_base_units = "1000000000000000"
[pools.house]
float_floor_base_units = "1000000"
float_target_base_units = "50000000"
[pools.policy]
fee_bps = 1000
"#, folder.path().join("data").display());
    let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    let app = node.api.app.clone();
    let sim = node.api.simulation.clone().unwrap();
    let start = 1_795_305_600;
    let source = SourceId::new("ledger").unwrap();
    let event = |account: &str, n: u64, at: i64| BalanceEvent { account: AccountId::new(account).unwrap(), asset: "ATOM".into(), balance: BaseUnits::from_u64(n), at: UnixSeconds::new(at) };
    let out = app.feed_balances(&source, 1, vec![event("alice", 1_000_000_000_000, start), event("bob", 500_000_000_000, start)], None).await.unwrap();
    println!("{out:?}");
    for hour in 1..=54 {
        sim.advance_to(UnixSeconds::new(start + hour * 3600)).await.unwrap();
        let out = app.feed_balances(&source, 3, vec![], Some(UnixSeconds::new(start + hour * 3600))).await.unwrap();
        let _ = out;
    }
    let pool = app.pool(&PoolId::new("atom").unwrap()).unwrap();
    println!("{:?}", app.chain_mark(&pool).await.unwrap());
    println!("{:?}", app.pool_state(&pool).await.unwrap());
    for period in 0..2 {
        println!("{:#?}", app.distributions(&pool, crate::domain::period::PeriodIndex(period)).await.unwrap());
    }
    println!("{:?}", sim.totals(pool.id()).await.unwrap());
    for op in app.open_operations(&pool).await.unwrap() { println!("{op:?}"); }
    node.stop().await;
}
