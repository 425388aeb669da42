//! What was acknowledged is on disk: after a stop, after a kill, and whether or not the caller waits.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use softstake::client::{Client, Options};
use softstake::pb::{sim, v1};
use tokio::process::{Child, Command};

use crate::harness::{DAY, HOUR, START, Server, Setup, amount, time, units};
use crate::raw::{Raw, answer, rows};

const MILLION: u128 = 1_000_000_000_000;

/// Everything that a restart must keep.
async fn kept(server: &Server) -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut kept = BTreeMap::new();
    let mut pool = server.pool("atom").await;
    // Equation 6 is the chain's and is evaluated when the chain is next looked at.
    pool.equations.retain(|equation| equation.number != 6);
    kept.insert("pool", vec![pool.encode_to_vec()]);
    let mut positions = Vec::new();
    for account in ["alice", "bob", "carol"] {
        positions.push(server.position(account, "atom").await.encode_to_vec());
        positions.extend(server.payouts(account, "ATOM").await.iter().map(Message::encode_to_vec));
    }
    kept.insert("positions and payouts", positions);
    let cursor = v1::GetCursorRequest { source: "sources/ledger".to_owned() };
    kept.insert("cursor", vec![server.client.get_cursor(cursor).await.unwrap().encode_to_vec()]);
    let operations = server.operations("atom").await;
    assert!(!operations.is_empty());
    kept.insert("operations", operations.iter().map(Message::encode_to_vec).collect());
    let distributions = server.distributions("atom").await;
    assert_eq!(distributions.len(), 1);
    kept.insert("distributions", distributions.iter().map(Message::encode_to_vec).collect());
    kept.insert("released", server.released("atom").await.iter().map(Message::encode_to_vec).collect());
    kept.insert("chain", vec![server.chain("atom").await.encode_to_vec()]);
    let now = server.client.get_time(sim::v1::GetTimeRequest {}).await.unwrap();
    kept.insert("time", vec![now.encode_to_vec()]);
    let list = v1::ListDelegationsRequest { parent: "pools/atom".to_owned(), ..Default::default() };
    kept.insert("delegations", vec![server.client.list_delegations(list).await.unwrap().encode_to_vec()]);
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_everything() {
    let mut server = Setup::new().pool("atom", "fee_bps = 1000").start().await;
    server.put("alice", "ATOM", MILLION).await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let events = [crate::harness::Event("bob", "ATOM", MILLION / 3, 0)];
    raw.stream(vec![rows(1, &events, Some(0))]).await.1.unwrap();
    server.at(7 * HOUR).await;
    server.put("carol", "ATOM", MILLION / 7).await;
    server.enrol("carol", "atom", v1::EnrolmentDecision::OptOut).await;
    server.close(DAY).await;
    server.at(DAY + 5 * HOUR).await;
    let before = kept(&server).await;
    for _ in 0..2 {
        server.restart().await;
        let after = kept(&server).await;
        for (what, bytes) in &before {
            assert!(after[what] == *bytes, "a restart changed the {what}");
        }
    }
    // And life goes on.
    server.close(2 * DAY).await;
    assert_eq!(server.distributions("atom").await.len(), 2);
    server.reconciled("atom").await;
    server.stop().await;
}

/// The real binary on a folder.
struct Program {
    child: Child,
    client: Client,
    endpoint: String,
}

impl Program {
    async fn start(folder: &Path, setup: &Setup) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("softstake.toml");
        std::fs::write(&config, setup.toml(&folder.join("data"), port)).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_softstake"));
        command.arg("serve").arg("--config").arg(&config).stdin(Stdio::null());
        command.stdout(Stdio::from(log.try_clone().unwrap())).stderr(Stdio::from(log)).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let options = Options {
            deadline: Duration::from_secs(60),
            attempts: 400,
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_millis(100),
            ..Options::default()
        };
        let client = tokio::select! {
            client = Client::connect(&endpoint, options.clone()) => client.unwrap(),
            status = child.wait() => {
                let log = std::fs::read_to_string(folder.join("log")).unwrap();
                panic!("the program ended with {status:?}:\n{log}");
            }
        };
        // One attempt each from here on: a call that is cut off is not acknowledged.
        let client_options = Options { attempts: 1, ..options };
        client.get_time(sim::v1::GetTimeRequest {}).await.unwrap();
        let client = Client::connect(&endpoint, client_options).await.unwrap_or(client);
        Self { child, client, endpoint }
    }

    /// SIGKILL, and nothing else.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn durable(&self) -> u64 {
        let cursor = v1::GetCursorRequest { source: "sources/ledger".to_owned() };
        self.client.get_cursor(cursor).await.unwrap().durable_sequence
    }

    async fn balance(&self, account: &str) -> Option<u128> {
        let name = format!("accounts/{account}/positions/atom");
        match self.client.get_position(v1::GetPositionRequest { name }).await {
            Ok(answer) => Some(units(&answer.position.unwrap().balance)),
            Err(_) => None,
        }
    }
}

/// How many accounts the events of the crash test go round.
const ACCOUNTS: u64 = 37;

/// Event `sequence` sets the balance of its account to a figure that no other event has.
fn event(sequence: u64) -> (String, u128) {
    (format!("account-{}", sequence % ACCOUNTS), MILLION + u128::from(sequence))
}

/// Streams events from the durable cursor on until the connection dies, and keeps what is acknowledged.
async fn feed_until_death(endpoint: String, from: u64, acknowledged: Arc<AtomicU64>, minute: i64) {
    let mut raw = Raw::connect(&endpoint).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let sending = tokio::spawn(async move {
        let mut first = from;
        loop {
            let events: Vec<(String, u128)> = (first..first + 25).map(event).collect();
            let events: Vec<_> = events
                .iter()
                .map(|(account, balance)| crate::harness::Event(account, "ATOM", *balance, minute))
                .collect();
            if sender.send(rows(first, &events, None)).await.is_err() {
                return;
            }
            first += 25;
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    if let Ok(answers) = raw.feed.stream_balances(stream).await {
        let mut answers = answers.into_inner();
        while let Ok(Some(answer)) = answers.message().await {
            acknowledged.fetch_max(answer.durable_sequence, Ordering::SeqCst);
        }
    }
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new().top("[book]\ncheckpoint_journal_bytes = 65536").pool("atom", "fee_bps = 1000");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut put_acknowledged: BTreeMap<String, u128> = BTreeMap::new();
    let mut seed = 0x0D15_EA5E_u64;
    for round in 0..6_i64 {
        let program = Program::start(folder.path(), &setup).await;
        let durable = program.durable().await;
        let told = acknowledged.load(Ordering::SeqCst);
        assert!(durable >= told, "round {round}: {told} was acknowledged, {durable} is there");
        for account in 0..ACCOUNTS {
            let last = (1..=durable).rev().find(|sequence| sequence % ACCOUNTS == account);
            let (name, _) = event(account);
            assert_eq!(program.balance(&name).await, last.map(|last| event(last).1), "round {round}: {name}");
        }
        for (account, balance) in &put_acknowledged {
            assert_eq!(program.balance(account).await, Some(*balance), "round {round}: {account}");
        }
        let found = program.client.reconcile(v1::ReconcileRequest { name: "pools/atom".to_owned() }).await.unwrap();
        assert!(found.holds, "round {round}: {found:#?}");

        // A slow machine's clock was killed before it got to the hour: what lies ahead of it would be rejected.
        let now = program.client.get_time(sim::v1::GetTimeRequest {}).await.unwrap().now.unwrap().seconds - START;
        let feeding = feed_until_death(program.endpoint.clone(), durable + 1, acknowledged.clone(), now);
        let feeding = tokio::spawn(feeding);
        let (client, to) = (program.client.clone(), time(START + (round + 1) * HOUR));
        let living = tokio::spawn(async move { client.advance_time(to).await });
        let client = program.client.clone();
        let putting = tokio::spawn(async move {
            let mut done = BTreeMap::new();
            for n in 0.. {
                let account = format!("put-{round}-{n}");
                let balance = Some(amount("ATOM", n + 1));
                let request = v1::PutBalanceRequest {
                    request_id: account.clone(),
                    account: account.clone(),
                    balance,
                    event_time: None,
                };
                if client.put_balance(request).await.is_err() {
                    return done;
                }
                done.insert(account, n + 1);
            }
            done
        });
        // The moment of death is drawn; the promise holds at every moment.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(150 + (seed >> 33) % 700)).await;
        program.kill().await;
        feeding.await.unwrap();
        drop(living.await.unwrap());
        put_acknowledged.extend(putting.await.unwrap());
    }
    assert!(acknowledged.load(Ordering::SeqCst) > 0 && !put_acknowledged.is_empty(), "no round acknowledged anything");
    // Then the day ends as any other.
    let mut program = Program::start(folder.path(), &setup).await;
    program.client.advance_time(time(START + DAY + 2 * HOUR)).await.unwrap();
    let name = "pools/atom/distributions/2026-11-22".to_owned();
    let request = v1::GetDistributionRequest { name, ..Default::default() };
    let distribution = program.client.get_distribution(request).await.unwrap().distribution.unwrap();
    assert_eq!(distribution.state(), v1::DistributionState::Released);
    let found = program.client.reconcile(v1::ReconcileRequest { name: "pools/atom".to_owned() }).await.unwrap();
    assert!(found.holds, "{found:#?}");
    // And it stops when it is asked to.
    let id = program.child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let status = tokio::time::timeout(Duration::from_secs(30), program.child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_cuts_no_change_in_half() {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", MILLION).await;
    // A long change, seen to be under way, whose caller leaves.
    let advancing = tokio::spawn({
        let client = server.client.clone();
        async move { client.advance_time(time(START + DAY / 2)).await }
    });
    let now = async || server.client.get_time(sim::v1::GetTimeRequest {}).await.unwrap().now.unwrap().seconds - START;
    while now().await == 0 {
        tokio::task::yield_now().await;
    }
    advancing.abort();
    assert!(advancing.await.is_err() || now().await == DAY / 2);
    let arrived = async {
        while now().await < DAY / 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("the change ended with its caller");

    // Many short ones, each left at another point: each happens once or not at all, and its repeat makes it once.
    let request = |n: u128| v1::PutBalanceRequest {
        request_id: format!("left-{n}"),
        account: format!("left-{n}"),
        balance: Some(amount("ATOM", 1_000_000 + n)),
        event_time: None,
    };
    let raw = Raw::connect(&server.endpoint()).await;
    for n in 0..40 {
        let mut feed = raw.feed.clone();
        let left = tokio::time::timeout(Duration::from_micros(100 * n as u64), feed.put_balance(request(n))).await;
        drop(left);
    }
    let mut sequences = Vec::new();
    let mut feed = raw.feed.clone();
    for n in 0..40 {
        let done = answer(feed.put_balance(request(n)).await);
        assert_eq!(units(&done.position.unwrap().balance), 1_000_000 + n);
        sequences.push(done.durable_sequence);
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (2..42).collect::<Vec<u64>>(), "each was entered once");
    server.reconciled("atom").await;
    server.stop().await;
}
