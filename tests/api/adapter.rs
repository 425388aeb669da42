//! `softstake adapter check`, against adapters that keep their contract and adapters that break one clause of it, each
//! over a real socket.

mod example;
mod wrong;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use softstake::chain::ChainAdapter;
use softstake::chain::remote::serve;
use softstake::chain::simulated::{MemoryLog, SimulatedChain, presets};
use softstake::clock::Clock;
use softstake::domain::ids::TransferId;
use softstake::node::adapter_check::{CheckSettings, Report, Verdict, check};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// A clock that moves by two seconds whenever it is read, so that every call is a third of a block later.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(2_000, Ordering::Relaxed)
    }
}

/// A chain in memory with enough at the staking address for every part of the check.
async fn chain(preset: &str) -> SimulatedChain {
    let clock = Arc::new(Ticking(AtomicI64::new(1_800_000_000_000)));
    let config = presets::preset(preset).unwrap();
    let limits = config.limits.clone();
    let least = limits.min_delegation.max(limits.delegation_unit);
    let fees = config.fee.mul_div_floor(10, 1).unwrap();
    let funds = least.checked_add(least).and_then(|twice| twice.checked_add(fees)).unwrap();
    let chain = SimulatedChain::open_memory(MemoryLog::new(), config, clock).unwrap();
    chain.custody_send(&TransferId::new("fund").unwrap(), funds).await.unwrap();
    while chain.observe().await.unwrap().liquid.is_zero() {}
    chain
}

/// Serves `adapter` and the signer of `chain`, and checks it.
async fn checked(chain: &SimulatedChain, adapter: Arc<dyn ChainAdapter>, spend: bool) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let signer = serve::signer(Arc::new(chain.signer()), chain.config().chain.clone(), "k");
    let served = Server::builder().add_service(serve::adapter(adapter)).add_service(signer);
    let serving = tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));
    let report = check(CheckSettings {
        endpoint: url.clone(),
        signer: Some((url, "k".to_owned())),
        tls: None,
        spend,
        run: "test".to_owned(),
        validator: None,
        call: Duration::from_secs(20),
        patience: Some(Duration::from_secs(20)),
        poll: Duration::from_millis(1),
    });
    let report = report.await.unwrap();
    serving.abort();
    report
}

fn shown(report: &Report) -> String {
    report.lines.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_simulated_chain_keeps_every_clause() {
    for preset in presets::NAMES {
        let chain = chain(preset).await;
        let report = checked(&chain, Arc::new(chain.clone()), true).await;
        assert_eq!(report.count(Verdict::Pass), report.lines.len(), "{preset}\n{}", shown(&report));
        let totals = chain.totals().await.unwrap();
        assert_eq!(chain.conflicting_submits(), 0, "{totals:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leave_to_spend_nothing_is_sent() {
    let chain = chain("atom").await;
    let before = chain.final_effects().await.unwrap();
    let report = checked(&chain, Arc::new(chain.clone()), false).await;
    assert!(report.failed().is_empty(), "{}", shown(&report));
    let skipped: Vec<&str> =
        report.lines.iter().filter(|line| line.verdict == Verdict::Skipped).map(|line| line.clause).collect();
    assert_eq!(skipped, ["G5", "P6", "S1", "S2", "S3", "L2", "L3", "E4"], "{}", shown(&report));
    assert_eq!(chain.final_effects().await.unwrap(), before);
}

/// The program itself, on both sides.
#[test]
fn sim_chain_and_adapter_check_as_programs() {
    let program = || Command::new(env!("CARGO_BIN_EXE_softstake"));
    let folder = tempfile::tempdir().unwrap();
    let serve = ["sim-chain", "--preset", "atom", "--seed", "7", "--speed", "20", "--fund", "1000000"];
    let at = ["--listen", "127.0.0.1:0", "--data-dir", folder.path().to_str().unwrap()];
    let mut chain = program().args(serve).args(at).stdout(Stdio::piped()).spawn().unwrap();
    let url = example::address_of(&mut chain);
    let ask = ["adapter", "check", "--endpoint", &url, "--signer", &url, "--key-id", "simulated", "--poll-ms", "50"];
    let checked = program().args(ask).arg("--spend").output().unwrap();
    let elsewhere = program().args(["sim-chain", "--listen", "0.0.0.0:0"]).output().unwrap();
    let nobody = program().args(["adapter", "check", "--endpoint", "http://10.0.0.1:1"]).output().unwrap();
    chain.kill().unwrap();
    chain.wait().unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("PASS    D1  the descriptor is sane: simulated-cosmoshub, ATOM, simulated"), "{said}");
    assert!(said.contains(" clauses hold, 0 are broken, "), "{said}");
    assert!(String::from_utf8(elsewhere.stderr).unwrap().contains("on loopback alone"));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("plain text, which is for this machine alone"));
    let gone = program().args(ask).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8(gone.stdout).unwrap().starts_with("SKIPPED G1"));
}
