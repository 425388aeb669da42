//! Who may come in, changed while the service runs; plain text with tokens; a socket file; and what dev-certs writes.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use softstake::api::access::table::Role;
use softstake::client::{BalanceEvent, BearerToken, Client, ClientError, Options, Tls};
use softstake::config::Config;
use softstake::node::dev_certs::DevCerts;
use softstake::node::{Address, Node};
use softstake::pb::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::guarded::{Guarded, attempt, fingerprint, identity, token};
use crate::harness::Setup;
use crate::matrix::refusals;
use crate::surface::scrape;

const LIST: &str = "/softstake.v1.PoolService/ListPools";

/// The reason of a refusal; `ok` for an answer.
fn reason(answer: Result<(), Status>) -> String {
    let Err(status) = answer else { return "ok".to_owned() };
    status.get_error_details().error_info().map_or_else(|| format!("{status:?}"), |info| info.reason.clone())
}

async fn list(channel: &Channel, token: Option<&str>) -> String {
    let header = token.map(|token| format!("Bearer {token}"));
    reason(attempt(channel, LIST, header.as_deref(), false).await)
}

fn all_but(role: Role) -> Vec<Role> {
    Role::ALL.into_iter().filter(|other| *other != role).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_taken_out_of_the_file_is_refused_at_the_next_call_of_an_open_connection() {
    let server = Guarded::start("").await;
    let (reader, operator) = (server.pair(Role::Reader), server.pair(Role::Operator));
    let (of_reader, of_operator) = (server.connect(Some(&reader)).await, server.connect(Some(&operator)).await);
    assert_eq!((list(&of_reader, None).await, list(&of_operator, None).await), ("ok".to_owned(), "ok".to_owned()));
    // A stream that is open ends too.
    let watch = v1::WatchPoolRequest { name: "pools/atom".to_owned() };
    let mut watched = [of_reader.clone(), of_operator.clone()].map(v1::pool_service_client::PoolServiceClient::new);
    let mut of_the_reader = watched[0].watch_pool(watch.clone()).await.unwrap().into_inner();
    let mut of_the_operator = watched[1].watch_pool(watch).await.unwrap().into_inner();
    assert!(of_the_reader.message().await.unwrap().is_some() && of_the_operator.message().await.unwrap().is_some());

    server.write("identity.toml", &identity(&all_but(Role::Reader)));
    assert_eq!(list(&of_reader, None).await, "ok", "until the file is read again");
    server.node.reload().unwrap();
    assert_eq!(list(&of_reader, None).await, "CREDENTIALS_UNKNOWN");
    assert_eq!(list(&of_reader, Some(&token(Role::Reader))).await, "CREDENTIALS_UNKNOWN");
    assert_eq!(list(&of_operator, None).await, "ok");
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match of_the_reader.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended as if all were told"),
                Err(status) => return status,
            }
        }
    });
    let ended = ended.await.expect("the stream of one that is refused goes on");
    assert_eq!((ended.code(), reason(Err(ended))), (Code::Unauthenticated, "CREDENTIALS_UNKNOWN".to_owned()));
    // The other's goes on: it hears of a change that comes now.
    let pause = v1::PausePoolRequest { request_id: "r".into(), name: "pools/atom".into(), reason: "because".into() };
    v1::admin_service_client::AdminServiceClient::new(of_operator.clone()).pause_pool(pause).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), async {
        while of_the_operator.message().await.unwrap().unwrap().pool.unwrap().state() != v1::PoolState::Paused {}
    });
    told.await.expect("a stream that may go on hears of changes");

    // By fingerprint: the certificate alone is refused, and refuses whatever is shown beside it.
    let revoked = format!("revoked_certificates = [\"{}\"]\n{}", fingerprint(&operator), identity(&Role::ALL));
    server.write("identity.toml", &revoked);
    server.node.reload().unwrap();
    assert_eq!(list(&of_operator, None).await, "CREDENTIALS_REVOKED");
    assert_eq!(list(&of_operator, Some(&token(Role::Operator))).await, "CREDENTIALS_REVOKED");
    assert_eq!(list(&of_reader, Some(&token(Role::Operator))).await, "ok", "its token was not revoked");
    assert_eq!(list(&of_reader, None).await, "ok", "who is entered again is known again");
    server.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_is_told() {
    let server = Guarded::start("").await;
    let reader = server.connect(Some(&server.pair(Role::Reader))).await;
    for (file, text) in [("identity.toml", "principals = 3"), ("server.pem", "no PEM"), ("ca.pem", "")] {
        let good = std::fs::read_to_string(server.file(file)).unwrap();
        server.write(file, text);
        let error = server.node.reload().unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        assert_eq!(list(&reader, None).await, "ok");
        server.write(file, &good);
        server.node.reload().unwrap();
    }
    // A key without its certificate, as between two writes of one that replaces both.
    let other = DevCerts::make(&[], Duration::from_secs(86_400)).unwrap();
    server.write("server.key", &other.server.key);
    let error = server.node.reload().unwrap_err().to_string();
    assert!(error.contains("does not go with tls.key_file"), "{error}");
    let metrics = scrape(server.node.metrics_address).await;
    assert!(metrics.contains("softstake_credential_reload_failures_total 4\n"), "{metrics}");
    server.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_tls_file_holds_up_no_revocation_and_a_bad_identity_file_no_certificate() {
    let server = Guarded::start("").await;
    let (reader, operator) = (server.pair(Role::Reader), server.pair(Role::Operator));
    let (of_reader, of_operator) = (server.connect(Some(&reader)).await, server.connect(Some(&operator)).await);
    assert_eq!((list(&of_reader, None).await, list(&of_operator, None).await), ("ok".to_owned(), "ok".to_owned()));
    server.write("ca.pem", "half a certi");
    server.write("identity.toml", &identity(&all_but(Role::Reader)));
    let error = server.node.reload().unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
    assert_eq!(list(&of_reader, None).await, "CREDENTIALS_UNKNOWN");
    assert_eq!(list(&of_operator, None).await, "ok", "the issuers are those read before");
    assert_eq!(list(&server.connect(Some(&operator)).await, None).await, "ok", "and so is the server's certificate");

    let next = DevCerts::make(&[], Duration::from_secs(86_400)).unwrap();
    for (file, text) in [("server.pem", &next.server.cert), ("server.key", &next.server.key), ("ca.pem", &next.ca())] {
        server.write(file, text);
    }
    server.write("identity.toml", "principals = 3");
    let error = server.node.reload().unwrap_err().to_string();
    assert!(error.contains("identity.toml"), "{error}");
    assert_eq!(list(&of_operator, None).await, "CERTIFICATE_UNTRUSTED", "the new issuers did not sign it");
    let anew = next.clients.iter().find(|client| client.role == Role::Operator).unwrap().pair.clone();
    let anew = server.connect_to(&next.ca(), Some(&anew)).await.unwrap();
    assert_eq!(list(&anew, None).await, "ok");
    let reader = next.clients.iter().find(|client| client.role == Role::Reader).unwrap().pair.clone();
    let reader = server.connect_to(&next.ca(), Some(&reader)).await.unwrap();
    assert_eq!(list(&reader, None).await, "CREDENTIALS_UNKNOWN", "the identity file is that read before");
    let metrics = scrape(server.node.metrics_address).await;
    assert!(metrics.contains("softstake_credential_reload_failures_total 2\n"), "{metrics}");
    assert!(metrics.contains("softstake_credential_reloads_total 2\n"), "{metrics}");
    server.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_issuers_are_exchanged_while_it_runs() {
    let server = Guarded::start("").await;
    let reader = server.connect(Some(&server.pair(Role::Reader))).await;
    assert_eq!(list(&reader, None).await, "ok");
    let next = DevCerts::make(&[], Duration::from_secs(86_400)).unwrap();
    let ours = next.clients.iter().find(|client| client.role == Role::Reader).unwrap().pair.clone();
    server.write("server.pem", &next.server.cert);
    server.write("server.key", &next.server.key);
    server.write("ca.pem", &next.ca());
    server.node.reload().unwrap();
    assert_eq!(list(&reader, None).await, "CERTIFICATE_UNTRUSTED", "its issuer signs for nobody any more");
    assert!(server.connect_to(&server.certs.ca(), None).await.is_err(), "the server shows its new certificate");
    let anew = server.connect_to(&next.ca(), Some(&ours)).await.unwrap();
    assert_eq!(list(&anew, None).await, "ok");
    server.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reads_the_files_again() {
    let server = Guarded::start("").await;
    let bare = server.connect(None).await;
    let shown = token(Role::Reader);
    assert_eq!(list(&bare, Some(&shown)).await, "ok");
    server.write("identity.toml", &identity(&all_but(Role::Reader)));
    let sent = Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().unwrap();
    assert!(sent.success());
    let refused = tokio::time::timeout(Duration::from_secs(20), async {
        while list(&bare, Some(&shown)).await == "ok" {
            tokio::task::yield_now().await;
        }
    });
    refused.await.expect("the files are read again");
    server.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_can_be_asked_for_in_the_handshake() {
    let server = Guarded::start("require_client_certificate = true").await;
    let reader = server.connect(Some(&server.pair(Role::Reader))).await;
    assert_eq!(list(&reader, None).await, "ok");
    let forger = DevCerts::make(&[], Duration::from_secs(86_400)).unwrap();
    let forged = forger.clients.iter().find(|client| client.role == Role::Reader).unwrap().pair.clone();
    for shown in [None, Some(server.old_pair(Role::Reader)), Some(forged)] {
        // The client may take itself for connected before the server has turned it away.
        if let Ok(channel) = server.connect_to(&server.certs.ca(), shown.as_ref()).await {
            let answer = attempt(&channel, "/grpc.health.v1.Health/Check", None, false).await;
            assert!(answer.unwrap_err().get_error_details().error_info().is_none(), "the server never saw the call");
        }
    }
    // Nobody hears of a handshake that is no handshake.
    let mut nonsense = tokio::net::TcpStream::connect(server.node.address.to_string()).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    drop(nonsense.read_to_end(&mut Vec::new()).await);
    let reasons = ["CERTIFICATE_EXPIRED", "CERTIFICATE_UNTRUSTED", "CREDENTIALS_MISSING"];
    let expected: BTreeSet<_> = reasons.map(|reason| ("unknown".into(), "handshake".into(), reason.into())).into();
    let recorded = tokio::time::timeout(Duration::from_secs(20), async {
        while refusals(&server).await != expected {
            tokio::task::yield_now().await;
        }
    });
    if recorded.await.is_err() {
        assert_eq!(refusals(&server).await, expected, "each kind of refused handshake leaves its record");
    }
    server.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_with_an_identity_file_asks_for_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity.toml");
    std::fs::write(&file, identity(&[Role::Reader])).unwrap();
    let top = format!("[identity]\nfile = \"{}\"", file.display());
    let toml = Setup::new().top(&top).pool("atom", "").toml(&folder.path().join("data"), 0);
    let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    let endpoint = format!("http://{}", node.address);
    let channel = Endpoint::from_shared(endpoint.clone()).unwrap().connect().await.unwrap();
    assert_eq!(list(&channel, None).await, "CREDENTIALS_MISSING");
    let secret = folder.path().join("token");
    std::fs::write(&secret, format!("{}\n", token(Role::Reader))).unwrap();
    let options = Options { token: Some(BearerToken::from_file(&secret).unwrap()), ..Options::default() };
    let client = Client::connect(&endpoint, options).await.unwrap();
    assert_eq!(client.list_pools(v1::ListPoolsRequest::default()).await.unwrap().pools.len(), 1);
    let advanced = client.advance_time(crate::harness::time(crate::harness::START + 60)).await;
    let Err(ClientError::Refused(refusal)) = advanced else { panic!("{advanced:?}") };
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::PermissionDenied, "ROLE_MISSING"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_bound_to_sources_feeds_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity.toml");
    let write = |sources: &str| {
        let bound = identity(&[Role::Ledger]).replacen("roles = ", &format!("sources = {sources}\nroles = "), 1);
        std::fs::write(&file, bound).unwrap();
    };
    write("[\"margin\"]");
    let top = format!("[identity]\nfile = \"{}\"", file.display());
    let toml = Setup::new().top(&top).pool("atom", "").toml(&folder.path().join("data"), 0);
    let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    let options = Options { token: Some(BearerToken::new(token(Role::Ledger))), ..Options::default() };
    let client = Client::connect(&format!("http://{}", node.address), options).await.unwrap();
    let feed = async || {
        let event = BalanceEvent {
            account: "alice".to_owned(),
            asset: "ATOM".to_owned(),
            base_units: 25_000_000,
            event_seconds: crate::harness::START,
        };
        let mut feed = client.feed("sources/ledger").await?;
        feed.send(vec![event], None).await?;
        feed.flush().await.map(|_| ())
    };
    let put = async || {
        let balance = Some(v1::Amount { asset: "ATOM".to_owned(), base_units: "25000000".to_owned() });
        let request = v1::PutBalanceRequest { account: "bob".to_owned(), balance, ..Default::default() };
        client.put_balance(request).await.map(|_| ())
    };
    let refused = |answer: Result<(), ClientError>| match answer {
        Err(ClientError::Refused(refusal)) => (refusal.code, refusal.reason),
        other => panic!("{other:?}"),
    };
    let not_allowed = (Code::PermissionDenied, "SOURCE_NOT_ALLOWED".to_owned());
    assert_eq!((refused(feed().await), refused(put().await)), (not_allowed.clone(), not_allowed.clone()));
    write("[\"ledger\"]");
    node.reload().unwrap();
    feed().await.unwrap();
    assert_eq!(refused(put().await), not_allowed, "what is put has a source of its own");
    write("[\"ledger\", \"put-balance\"]");
    node.reload().unwrap();
    put().await.unwrap();
    let metrics = scrape(node.metrics_address).await;
    let counted =
        "softstake_calls_denied_total{call=\"BalanceFeedService/PutBalance\",reason=\"SOURCE_NOT_ALLOWED\"} 2\n";
    assert!(metrics.contains(counted), "{metrics}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_go_after_their_time_and_who_has_called_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity.toml");
    std::fs::write(&file, identity(&[Role::Reader])).unwrap();
    let top = format!("[identity]\nfile = \"{}\"", file.display());
    let limits = "max_strangers = 2\nmax_strangers_per_address = 2\nfirst_call_timeout_ms = 1000";
    let toml = Setup::new().top(&top).limits(limits).pool("atom", "").toml(&folder.path().join("data"), 0);
    let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    let options = Options { token: Some(BearerToken::new(token(Role::Reader))), ..Options::default() };
    let client = Client::connect(&format!("http://{}", node.address), options).await.unwrap();
    let mut watched = client.watch_pool("pools/atom");
    assert!(watched.next().await.unwrap().is_some());
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(tokio::net::TcpStream::connect(node.address.to_string()).await.unwrap());
    }
    // A health check, which anyone may make, makes nobody known.
    let probe = Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap();
    attempt(&probe, "/grpc.health.v1.Health/Check", None, false).await.unwrap();
    for stranger in &mut strangers {
        let mut said = Vec::new();
        let ended = stranger.read_to_end(&mut said);
        drop(tokio::time::timeout(Duration::from_secs(30), ended).await.expect("a stranger stays"));
    }
    let counted = async |of: &str| {
        let metrics = scrape(node.metrics_address).await;
        metrics.lines().find_map(|line| line.strip_prefix(of)?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let refused = |limit: &str| format!("softstake_transport_refused_total{{limit=\"{limit}\"}}");
    let (crowded, late) = (refused("max_strangers_per_address"), refused("first_call_timeout_ms"));
    let in_time = tokio::time::timeout(Duration::from_secs(30), async {
        while counted("softstake_transport_connections").await > 1 {
            tokio::task::yield_now().await;
        }
    });
    in_time.await.expect("the probe's connection goes too");
    assert_eq!((counted(&crowded).await, counted(&late).await), (2, 2));
    let goes_on = tokio::time::timeout(Duration::from_millis(100), watched.next()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
    assert_eq!(counted(&late).await, 2, "its connection was never cut");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_without_an_identity_file_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let top = "[tls]\ncert_file = \"a\"\nkey_file = \"b\"\n[identity]\nfile = \"c\"";
    let toml = Setup::new().top(top).pool("atom", "").toml(&folder.path().join("data"), 0);
    let config = Config { identity: None, ..Config::from_toml(&toml).unwrap() };
    let Err(error) = Node::start(config).await else { panic!("it started") };
    assert!(error.to_string().starts_with("identity.file: it is not set"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_stops_the_start_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let top = format!("[identity]\nfile = \"{}/none.toml\"", folder.path().display());
    let toml = Setup::new().top(&top).pool("atom", "").toml(&folder.path().join("data"), 0);
    let Err(error) = Node::start(Config::from_toml(&toml).unwrap()).await else { panic!("it started") };
    let error = error.to_string();
    assert!(error.starts_with("identity.file: ") && error.contains("none.toml"), "{error}");
    assert!(!folder.path().join("data").exists(), "nothing was opened before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_file_is_its_owners() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("softstake.sock");
    // A service that was killed has left one behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let toml = Setup::new().pool("atom", "").toml(&folder.path().join("data"), 0);
    let toml = toml.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"unix:{}\"", path.display()), 1);
    let config = Config::from_toml(&toml).unwrap();
    let node = Node::start(config).await.unwrap();
    assert_eq!(node.address, Address::Unix(path.clone()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let channel = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap().connect().await.unwrap();
    assert_eq!(list(&channel, None).await, "ok");
    node.stop().await;
    assert!(!path.exists(), "the file goes with the service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_file_that_another_has_put_there_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("softstake.sock");
    let toml = Setup::new().pool("atom", "").toml(&folder.path().join("data"), 0);
    let toml = toml.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"unix:{}\"", path.display()), 1);
    let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    // Kept under another name, so that its inode is not given to the next file.
    std::fs::rename(&path, folder.path().join("moved.sock")).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    node.stop().await;
    assert!(path.exists(), "its own file is elsewhere");
    drop(other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dev_certs_writes_can_be_served_and_called_with() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("dev");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_softstake"));
        command.arg("dev-certs").arg(&made).args(["--host", "softstake.internal"]).output().unwrap()
    };
    let output = run();
    assert!(output.status.success(), "{output:?}");
    let again = run();
    assert!(!again.status.success(), "nothing is overwritten");
    let read = |name: &str| std::fs::read_to_string(made.join(name)).unwrap();
    for secret in ["ca.key", "server.key", "admin.key", "admin.token"] {
        assert_eq!(std::fs::metadata(made.join(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
        let shown = String::from_utf8_lossy(&output.stdout).contains(read(secret).trim());
        assert!(!shown && !read("identity.toml").contains(read(secret).trim()), "{secret} is told");
    }
    let toml = read("softstake.toml").replace("127.0.0.1:7070", "127.0.0.1:0");
    let toml = format!("metrics_listen = \"127.0.0.1:0\"\n{toml}");
    let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    let endpoint = format!("https://{}", node.address);
    let with_cert = Options {
        tls: Some(Tls::new(read("ca.pem")).with_identity(read("operator.pem"), read("operator.key"))),
        ..Options::default()
    };
    let named = Tls { server_name: Some("softstake.internal".to_owned()), ..Tls::new(read("ca.pem")) };
    let with_token = Options {
        tls: Some(named),
        token: Some(BearerToken::from_file(&made.join("reader.token")).unwrap()),
        ..Options::default()
    };
    for options in [with_cert, with_token] {
        let shown = format!("{options:?}");
        assert!(!shown.contains("KEY") && !shown.contains("sst_"), "{shown}");
        let client = Client::connect(&endpoint, options).await.unwrap();
        assert_eq!(client.list_pools(v1::ListPoolsRequest::default()).await.unwrap().pools.len(), 1);
    }
    node.stop().await;
}

#[test]
fn dev_certs_overwrites_nothing_and_a_shell_reads_its_paths_whatever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("what's \"new\" $HOME \\");
    std::fs::create_dir(&made).unwrap();
    std::fs::write(made.join("simulator.token"), "kept").unwrap();
    let run = || Command::new(env!("CARGO_BIN_EXE_softstake")).arg("dev-certs").arg(&made).output().unwrap();
    let refused = run();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("simulator.token") && told.contains("is kept"), "{told}");
    assert_eq!(std::fs::read_dir(&made).unwrap().count(), 1, "and nothing is half written");
    std::fs::remove_file(made.join("simulator.token")).unwrap();
    let output = run();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    for (begins, files) in [
        ("  softstake serve --config ", vec!["softstake.toml"]),
        ("  grpcurl -cacert ", vec!["ca.pem", "operator.pem", "operator.key"]),
    ] {
        let words = told.lines().find_map(|line| line.strip_prefix(begins)).unwrap();
        let script = format!("for word in {words}; do test -f \"$word\" && echo \"$word\"; done; true");
        let shown = Command::new("sh").args(["-c", &script]).output().unwrap();
        let expected: Vec<String> = files.iter().map(|file| made.join(file).display().to_string()).collect();
        assert_eq!(String::from_utf8(shown.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
    }
    let settings = std::fs::read_to_string(made.join("softstake.toml")).unwrap();
    let config = Config::from_toml(&settings).unwrap();
    assert_eq!((config.data_dir, config.identity.unwrap().file), (made.join("data"), made.join("identity.toml")));
}
