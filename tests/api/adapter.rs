//! `softstake adapter check`, against adapters that keep their contract and adapters that break one clause of it, each
//! over a real socket.

mod example;
mod wrong;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use softstake::chain::remote::channel::{Credentials, channel};
use softstake::chain::remote::{RemoteAdapter, serve};
use softstake::chain::simulated::{MemoryLog, SimulatedChain, presets};
use softstake::chain::{ChainAdapter, ChainError};
use softstake::clock::Clock;
use softstake::domain::ids::TransferId;
use softstake::node::adapter_check::{CheckSettings, Report, Verdict, check};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

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
    let serving = tokio::spawn(served.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
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

/// Whoever shows no certificate of the right issuer is not served; who does is, by a service whose certificate is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_both_sides_show_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let to = folder.path().join(name);
        let made = Command::new(env!("CARGO_BIN_EXE_softstake")).arg("dev-certs").arg(&to).output().unwrap();
        assert!(made.status.success());
        to
    };
    let (ours, theirs) = (made("ours"), made("theirs"));
    let read = |name: &str| std::fs::read(ours.join(name)).unwrap();
    let identity = Identity::from_pem(read("server.pem"), read("server.key"));
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(read("ca.pem")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let chain = chain("atom").await;
    let served = Server::builder().tls_config(tls).unwrap().add_service(serve::adapter(Arc::new(chain)));
    tokio::spawn(served.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    let asked = |ca: &Path, shown: &Path| {
        let read = |path: PathBuf| std::fs::read(path).unwrap();
        let (certificate, key) = (read(shown.join("ledger.pem")), read(shown.join("ledger.key")));
        let credentials = Credentials { issuers: read(ca.join("ca.pem")), certificate, key };
        let channel = channel(&url, Some(&credentials), Duration::from_secs(20)).unwrap();
        async move { RemoteAdapter::new(channel).descriptor().await }
    };
    assert!(asked(&ours, &ours).await.unwrap().simulated);
    for (ca, shown) in [(&ours, &theirs), (&theirs, &ours)] {
        let answer = asked(ca, shown).await;
        assert!(matches!(answer, Err(ChainError::Unavailable(_))), "{answer:?}");
    }
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
    assert!(said.ends_with("29 clauses hold, 0 are broken, 0 were not seen\n"), "{said}");
    assert!(String::from_utf8(elsewhere.stderr).unwrap().contains("on loopback alone"));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("plain text, which is for this machine alone"));
    let gone = program().args(ask).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8(gone.stdout).unwrap().starts_with("SKIPPED G1"));
}
