//! The surface: every service is healthy, described, reachable and traced, and ends when it is told to.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use prost_types::FileDescriptorSet;
use softstake::config::Config;
use softstake::node::Node;
use softstake::pb::{FILE_DESCRIPTOR_SET, v1};
use softstake::telemetry::{Format, subscriber};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::{HOUR, Setup, amount, units};
use crate::raw::{Raw, answer, refused};

/// The services of the descriptor that the server offers, with the methods of each.
fn described() -> Vec<(String, Vec<prost_types::MethodDescriptorProto>)> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut services = Vec::new();
    for file in set.file {
        if file.package().starts_with("softstake.") {
            let package = file.package().to_owned();
            for service in file.service {
                services.push((format!("{package}.{}", service.name()), service.method));
            }
        }
    }
    assert_eq!(services.len(), 7, "six services and the simulation's");
    services
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_is_healthy_and_described() {
    let server = Setup::new().pool("atom", "").start().await;
    let raw = Raw::connect(&server.endpoint()).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(raw.channel.clone());
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving as i32;
    for (service, _) in described().iter().filter(|(service, _)| service.starts_with("softstake.v1.")) {
        let check = tonic_health::pb::HealthCheckRequest { service: service.clone() };
        assert_eq!(answer(health.check(check).await).status, serving, "{service}");
    }
    let whole = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert_eq!(answer(health.check(whole).await).status, serving);

    let mut v1_names = reflected_v1(&raw).await;
    let mut alpha_names = reflected_v1alpha(&raw).await;
    for (service, _) in described() {
        assert!(v1_names.contains(&service) && alpha_names.contains(&service), "{service}: {v1_names:?}");
    }
    // Each names itself and not the other.
    for names in [&mut v1_names, &mut alpha_names] {
        names.retain(|name| !name.starts_with("grpc.reflection."));
        names.sort();
    }
    assert_eq!(v1_names, alpha_names);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_world_that_is_not_moved_by_hand_offers_no_levers() {
    let folder = tempfile::tempdir().unwrap();
    let toml = Setup::new().limits("max_message_bytes = 65536").pool("atom", "").toml(folder.path(), 0);
    let toml = toml.replace("kind = \"manual\"", "kind = \"accelerated\"");
    let node = Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    let mut raw = Raw::connect(&format!("http://{}", node.address)).await;
    let names = reflected_v1(&raw).await;
    let ours: Vec<_> = names.iter().filter(|name| name.starts_with("softstake.")).collect();
    assert!(ours.len() == 6 && ours.iter().all(|name| name.starts_with("softstake.v1.")), "{names:?}");
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), names.len(), "a service is listed twice: {names:?}");
    let calls = call(&raw, "/softstake.sim.v1.SimulationService/GetTime", false).await;
    assert_eq!(refused(calls).short(), (Code::Unimplemented, "UNKNOWN_CALL", ""));

    // What the transport refuses by itself has a reason too.
    let large = v1::PutBalanceRequest { request_id: "x".repeat(70_000), ..Default::default() };
    let large = refused(raw.feed.put_balance(large).await);
    assert_eq!(large.short(), (Code::InvalidArgument, "MESSAGE_TOO_LARGE", ""));

    // Every metric is under one prefix, once.
    let metrics = scrape(node.metrics_address).await;
    for name in ["softstake_events_accepted_total", "softstake_operations_stuck_total", "softstake_book_groups_total"] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}: {metrics}");
    }
    node.stop().await;
}

pub async fn scrape(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn reflected_v1(raw: &Raw) -> Vec<String> {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let ask = |request: MessageRequest| {
        let question = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut client = ServerReflectionClient::new(raw.channel.clone());
        async move {
            let mut answers = answer(client.server_reflection_info(tokio_stream::iter([question])).await);
            let ServerReflectionResponse { message_response, .. } = answers.message().await.unwrap().unwrap();
            message_response.unwrap()
        }
    };
    // Error details are described too, so that clients can show them.
    for symbol in ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "softstake.v1.PoolService.GetPool"] {
        let found = ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
        assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{symbol}");
    }
    match ask(MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("{other:?}"),
    }
}

async fn reflected_v1alpha(raw: &Raw) -> Vec<String> {
    use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let question = ServerReflectionRequest { host: String::new(), message_request };
    let mut client = ServerReflectionClient::new(raw.channel.clone());
    let mut answers = answer(client.server_reflection_info(tokio_stream::iter([question])).await);
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("{other:?}"),
    }
}

/// Calls a method with an empty message, whatever its messages are.
async fn call(raw: &Raw, path: &str, streams: bool) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(raw.channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(path).unwrap();
    // An empty message of no fields stands for any: what it does not know it skips.
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    if !streams {
        return grpc.unary(Request::new(()), path, codec).await.map(|_| ());
    }
    let opened = grpc.streaming(Request::new(tokio_stream::iter([()])), path, codec).await?;
    let mut inbound = opened.into_inner();
    match tokio::time::timeout(Duration::from_secs(10), inbound.message()).await {
        Ok(message) => message.map(|_| ()),
        // It waits for something to say.
        Err(_) => Ok(()),
    }
}

/// What the first release may still leave out, with a reason.
const NOT_YET: [&str; 1] = ["GetPayoutProof"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_answered_by_us() {
    let server = Setup::new().pool("atom", "").start().await;
    let raw = Raw::connect(&server.endpoint()).await;
    let mut calls = 0;
    for (service, methods) in described() {
        for method in methods {
            let streams = method.client_streaming() || method.server_streaming();
            let path = format!("/{service}/{}", method.name());
            calls += 1;
            let Err(status) = call(&raw, &path, streams).await else { continue };
            let details = status.get_error_details();
            let info = details.error_info().unwrap_or_else(|| panic!("{path} gave no reason: {status:?}"));
            assert_eq!(info.domain, "softstake", "{path}");
            let expected = if NOT_YET.contains(&method.name()) {
                // An incomplete request may be told before that.
                matches!(status.code(), Code::Unimplemented | Code::InvalidArgument)
            } else {
                status.code() == Code::InvalidArgument
            };
            assert!(expected, "{path}: {status:?}");
            if status.code() == Code::InvalidArgument {
                let bad = details.bad_request().unwrap_or_else(|| panic!("{path} named no field: {status:?}"));
                assert!(!bad.field_violations.is_empty(), "{path}");
            }
        }
    }
    assert!(calls >= 53, "{calls} calls");
    let nothing = refused(call(&raw, "/softstake.v1.PoolService/Nothing", false).await);
    assert_eq!(nothing.short(), (Code::Unimplemented, "UNKNOWN_CALL", ""));
    server.stop().await;
}

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_id_is_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    // The one test of this binary that sets the process's log; the others' lines are in it too.
    let subscriber = subscriber(Format::Json, "info,softstake=debug", move || writer.clone()).unwrap();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut server = Setup::new().pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    let put = v1::PutBalanceRequest {
        request_id: "traced-5f1c9d".to_owned(),
        account: "alice".to_owned(),
        balance: Some(amount("ATOM", 1_000_000_000_000)),
        event_time: None,
    };
    answer(raw.feed.put_balance(put).await);
    let request_id = "traced-77aa01".to_owned();
    let name = "pools/atom".to_owned();
    answer(raw.admin.pause_pool(v1::PausePoolRequest { request_id, name, reason: "a test".to_owned() }).await);
    let refused = v1::PausePoolRequest { request_id: "traced-no".to_owned(), ..Default::default() };
    raw.admin.pause_pool(refused).await.unwrap_err();
    server.resume("atom").await;
    server.at(2 * HOUR).await;
    let operation = server.operations("atom").await.remove(0);
    let operation = operation.name.rsplit('/').next().unwrap().to_owned();
    let text = log.text();
    let line = |id: &str, rpc: &str| text.lines().any(|line| line.contains(id) && line.contains(rpc));
    assert!(line("traced-5f1c9d", "PutBalance"), "PutBalance left no trace");
    assert!(line("traced-77aa01", "PausePool"), "PausePool left no trace");
    assert!(line("traced-no", "PausePool"), "a refusal left no trace");
    assert!(text.contains(&operation), "operation {operation} left no trace");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_does_not_hold_up_a_shutdown() {
    let server = Setup::new().limits("drain_timeout_ms = 3000").pool("atom", "").start().await;
    let mut raw = Raw::connect(&server.endpoint()).await;
    // Streams on which nobody says anything, and a connection that never speaks at all.
    let (_sender, receiver) = tokio::sync::mpsc::channel::<v1::StreamBalancesRequest>(1);
    let mut feed_client = raw.feed.clone();
    let feed = tokio::spawn(async move {
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        match feed_client.stream_balances(stream).await {
            Ok(answers) => answers.into_inner().message().await.map(|_| ()),
            Err(status) => Err(status),
        }
    });
    let watch = v1::WatchPoolRequest { name: "pools/atom".to_owned() };
    let mut watching = answer(raw.pools.watch_pool(watch).await);
    assert!(watching.message().await.unwrap().is_some());
    let mut payouts = answer(raw.payouts.stream_payouts(v1::StreamPayoutsRequest::default()).await);
    let address = server.endpoint().replace("http://", "");
    let silent = std::net::TcpStream::connect(&address).unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(25), server.stop()).await;
    assert!(stopped.is_ok(), "a silent client held the shutdown up");
    assert!(std::net::TcpStream::connect(&address).is_err(), "it still listens");
    drop(silent);
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while let Ok(Some(_)) = watching.message().await {}
        while let Ok(Some(_)) = payouts.message().await {}
        drop(feed.await);
    });
    ended.await.expect("a stream outlived the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_a_pool_change() {
    let mut server = Setup::new().pool("atom", "").start().await;
    let mut watcher = server.client.watch_pool("pools/atom");
    let first = watcher.next().await.unwrap().unwrap().pool.unwrap();
    assert_eq!(first.state(), v1::PoolState::Active);
    server.put("alice", "ATOM", 5_000_000).await;
    server.pause("atom").await;
    let seen = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let pool = watcher.next().await.unwrap().unwrap().pool.unwrap();
            if pool.state() == v1::PoolState::Paused {
                return units(&pool.totals.unwrap().eligible_total);
            }
        }
    });
    assert_eq!(seen.await.expect("the watcher was told nothing"), 5_000_000);
    server.stop().await;
}

/// grpcurl on the path, or why there is none.
pub fn grpcurl() -> Option<()> {
    if Command::new("grpcurl").arg("-version").output().is_ok() {
        return Some(());
    }
    let required = std::env::var_os("SOFTSTAKE_REQUIRE_GRPCURL").is_some_and(|value| value == "1");
    assert!(!required, "grpcurl is required and not on the path");
    println!("SKIPPED: grpcurl not found");
    None
}

/// Runs grpcurl, which must succeed, and gives what it said.
async fn run(arguments: &[&str]) -> String {
    let output = tokio::process::Command::new("grpcurl").args(arguments).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "grpcurl {arguments:?}: {said}{errors}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcurl_needs_nothing_but_reflection() {
    if grpcurl().is_none() {
        return;
    }
    let server = Setup::new().pool("atom", "").start().await;
    let address = server.endpoint().replace("http://", "");
    let listed = run(&["-plaintext", &address, "list"]).await;
    for (service, methods) in described() {
        assert!(listed.lines().any(|line| line == service), "{listed}");
        let methods_listed = run(&["-plaintext", &address, "list", &service]).await;
        assert_eq!(methods_listed.lines().count(), methods.len(), "{methods_listed}");
        let told = run(&["-plaintext", &address, "describe", &service]).await;
        assert!(methods.iter().all(|method| told.contains(method.name())), "{told}");
    }
    let body = r#"{"request_id":"tour-1","account":"alice","balance":{"asset":"ATOM","base_units":"25000000"}}"#;
    let put = ["-plaintext", "-d", body, &address, "softstake.v1.BalanceFeedService/PutBalance"];
    let first = run(&put).await;
    assert!(first.contains("\"durableSequence\": \"1\"") && first.contains("25000000"), "{first}");
    assert_eq!(run(&put).await, first);
    let body = r#"{"name":"pools/atom"}"#;
    let pool = run(&["-plaintext", "-d", body, &address, "softstake.v1.PoolService/GetPool"]).await;
    assert!(pool.contains("\"simulated\": true") && pool.contains("25000000"), "{pool}");
    let body = r#"{"seconds":"7200"}"#;
    run(&["-plaintext", "-d", body, &address, "softstake.sim.v1.SimulationService/AdvanceTime"]).await;
    for (service, method, body) in [
        ("TransferService", "StreamTransfers", r#"{"end_when_caught_up":true}"#),
        ("PayoutService", "StreamPayouts", r#"{"end_when_caught_up":true}"#),
        ("AccountService", "GetPosition", r#"{"name":"accounts/alice/positions/atom"}"#),
        ("AdminService", "Reconcile", r#"{"name":"pools/atom"}"#),
    ] {
        run(&["-plaintext", "-d", body, &address, &format!("softstake.v1.{service}/{method}")]).await;
    }
    // An error is shown with its details, which reflection describes too.
    let body = r#"{"name":"pools/doge"}"#;
    let output = tokio::process::Command::new("grpcurl")
        .args(["-plaintext", "-d", body, &address, "softstake.v1.PoolService/GetPool"])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("NotFound") && errors.contains("UNKNOWN_POOL"), "{errors}");
    server.stop().await;
}
