//! Every call by every role with every kind of credential, over TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message;
use prost_types::FileDescriptorSet;
use softstake::api::access::table::{Role, Row, TABLE, Who};
use softstake::pb::{FILE_DESCRIPTOR_SET, v1};
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::guarded::{Guarded, attempt, fingerprint, identity, old_token, send, token};
use crate::surface::scrape;

/// Who may call what, for a person to read when it changes.
const RELEASED: &str = include_str!("access_matrix.txt");

#[test]
fn the_table_is_the_one_that_was_agreed_on() {
    let mut text = String::new();
    for row in TABLE {
        let who = match row.who {
            Who::Anyone => "anyone".to_owned(),
            Who::Known => "every principal".to_owned(),
            Who::Roles(roles) => roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" "),
        };
        text.push_str(&format!("{}: {who}\n", row.path));
    }
    assert_eq!(text, RELEASED, "who may call what has changed: if it was meant to, change access_matrix.txt too");
}

/// Every call of ours, and whether it streams.
fn calls() -> Vec<(String, bool)> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut calls = Vec::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("softstake.")) {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                calls.push((path, method.client_streaming() || method.server_streaming()));
            }
        }
    }
    calls
}

/// The roles that may make a call, as agreed on.
fn agreed() -> BTreeMap<String, Vec<Role>> {
    let row = |line: &str| {
        let (path, roles) = line.split_once(": ").unwrap();
        (path.to_owned(), roles.split(' ').filter_map(Role::named).collect())
    };
    RELEASED.lines().map(row).collect()
}

/// One way to call: over which connection, with which header, and what comes of it; `None` goes by the table.
struct Way {
    what: &'static str,
    channel: Channel,
    header: Option<String>,
    refused: Option<&'static str>,
}

async fn ways(server: &Guarded, strangers: &Guarded, role: Role) -> Vec<Way> {
    let bare = server.connect(None).await;
    let own = server.connect(Some(&server.pair(role))).await;
    let old = server.connect(Some(&server.old_pair(role))).await;
    let wrong_san = server.connect(Some(&server.stranger())).await;
    // The right name, signed by somebody else.
    let forged = server.connect(Some(&strangers.pair(role))).await;
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let way = |what, channel: &Channel, header, refused| Way { what, channel: channel.clone(), header, refused };
    vec![
        way("nothing", &bare, None, Some("CREDENTIALS_MISSING")),
        way("an expired token", &bare, bearer(old_token(role)), Some("TOKEN_EXPIRED")),
        way("an expired certificate", &old, None, Some("CERTIFICATE_EXPIRED")),
        way("a wrong SAN", &wrong_san, None, Some("CREDENTIALS_UNKNOWN")),
        way("a forged certificate", &forged, None, Some("CERTIFICATE_UNTRUSTED")),
        way("a wrong token", &bare, bearer("guessed".to_owned()), Some("CREDENTIALS_UNKNOWN")),
        way("a wrong token beside the right certificate", &own, bearer("x".to_owned()), Some("CREDENTIALS_UNKNOWN")),
        way("another scheme", &own, Some(format!("Basic {}", token(role))), Some("CREDENTIALS_MALFORMED")),
        way("the right certificate", &own, None, None),
        way("the right token", &bare, bearer(token(role)), None),
        way("the right token beside a stranger's certificate", &wrong_san, bearer(token(role)), None),
    ]
}

/// Makes every call in every way as one role; how many were refused.
async fn try_all(server: &Guarded, strangers: &Guarded, role: Role) -> u64 {
    let agreed = agreed();
    let mut refused = 0;
    for way in ways(server, strangers, role).await {
        for (path, streams) in calls() {
            let told = format!("{path} as {role} with {}", way.what);
            let answer = attempt(&way.channel, &path, way.header.as_deref(), streams).await;
            let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
            let allowed = agreed[&path].contains(&role);
            if way.refused.is_none() && allowed {
                let by_us = !matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::Unavailable);
                assert!(by_us, "{told}: {answer:?}");
                continue;
            }
            refused += 1;
            let status = answer.expect_err(&told);
            let details = status.get_error_details();
            let info = details.error_info().unwrap_or_else(|| panic!("{told}: {status:?}"));
            let expected =
                way.refused.map_or((Code::PermissionDenied, "ROLE_MISSING"), |reason| (Code::Unauthenticated, reason));
            assert_eq!((code, info.reason.as_str()), expected, "{told}");
            if expected.1 == "ROLE_MISSING" {
                let wanted: Vec<&str> = agreed[&path].iter().map(|role| role.name()).collect();
                assert_eq!(info.metadata["roles"], wanted.join(", "), "{told}");
            }
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_by_every_role_with_every_credential() {
    let (server, strangers) = (Guarded::start("").await, Guarded::start("").await);
    let tried = Role::ALL.map(|role| try_all(&server, &strangers, role));
    let refused: u64 = futures::future::join_all(tried).await.into_iter().sum();
    // Each refusal is counted, under a call and a reason that are of a known few.
    let metrics = scrape(server.node.metrics_address).await;
    let counted: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("softstake_calls_denied_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(refused > 2_000, "{refused}");
    assert_eq!(counted, refused);
    server.node.stop().await;
    strangers.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_has_no_effect_and_an_unknown_call_tells_a_stranger_nothing() {
    let server = Guarded::start("").await;
    let bare = server.connect(None).await;
    let pause = v1::PausePoolRequest { request_id: "r".into(), name: "pools/atom".into(), reason: "because".into() };
    let path = "/softstake.v1.AdminService/PausePool";
    let (old, reader) = (format!("Bearer {}", old_token(Role::Operator)), format!("Bearer {}", token(Role::Reader)));
    for header in [None, Some(old.as_str()), Some(reader.as_str()), Some("Bearer "), Some("Bearer"), Some("")] {
        send(&bare, path, header, false, pause.clone()).await.unwrap_err();
    }
    let mut pools = v1::pool_service_client::PoolServiceClient::with_interceptor(
        bare.clone(),
        move |mut call: tonic::Request<()>| {
            call.metadata_mut().insert("authorization", reader.parse().unwrap());
            Ok(call)
        },
    );
    let pool =
        pools.get_pool(v1::GetPoolRequest { name: "pools/atom".into() }).await.unwrap().into_inner().pool.unwrap();
    assert_eq!(pool.state(), v1::PoolState::Active);
    // The one that may, may.
    let operator = format!("Bearer {}", token(Role::Operator));
    send(&bare, path, Some(&operator), false, pause).await.unwrap();
    let pool =
        pools.get_pool(v1::GetPoolRequest { name: "pools/atom".into() }).await.unwrap().into_inner().pool.unwrap();
    assert_eq!(pool.state(), v1::PoolState::Paused);

    let nothing = "/softstake.v1.PoolService/Nothing";
    assert_eq!(attempt(&bare, nothing, None, false).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(attempt(&bare, nothing, Some(&operator), false).await.unwrap_err().code(), Code::Unimplemented);
    server.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_needs_no_credential_and_everything_beside_it_does() {
    let server = Guarded::start("").await;
    let bare = server.connect(None).await;
    let known = format!("Bearer {}", token(Role::Custody));
    for row in TABLE.iter().filter(|row| row.path.starts_with("/grpc.")) {
        let Row { path, who, .. } = row;
        let streams = !path.ends_with("/Check");
        let open = attempt(&bare, path, None, streams).await.is_ok();
        assert_eq!(open, *who == Who::Anyone, "{path}");
        attempt(&bare, path, Some(&known), streams).await.unwrap();
    }
    server.node.stop().await;
}

/// What the audit log says of refused calls: who, which call, and why, each from this machine.
pub async fn refusals(server: &Guarded) -> BTreeSet<(String, String, String)> {
    let channel = server.connect(Some(&server.pair(Role::Approver))).await;
    let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
    let listed = v1::ListAuditEventsRequest { page_size: 1_000, ..Default::default() };
    let events = admin.list_audit_events(listed).await.unwrap().into_inner().audit_events;
    let refused = events.into_iter().filter(|event| event.refused_count > 0);
    let told = refused.map(|event| {
        assert!(event.peer.starts_with("127.0.0.1:") && event.request_id.is_empty(), "{event:?}");
        (event.principal, event.method, event.refusal_reason)
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_credential_leaves_an_audit_record_and_no_effect() {
    let (server, strangers) = (Guarded::start("").await, Guarded::start("").await);
    let pause = v1::PausePoolRequest { request_id: "r".into(), name: "pools/atom".into(), reason: "because".into() };
    let path = "/softstake.v1.AdminService/PausePool";
    let method = "softstake.v1.AdminService/PausePool";
    let mut expected = BTreeSet::new();
    let mut expect = |principal: &str, reason: &str| expected.insert((principal.into(), method.into(), reason.into()));
    for way in ways(&server, &strangers, Role::Operator).await {
        let Some(reason) = way.refused else { continue };
        send(&way.channel, path, way.header.as_deref(), false, pause.clone()).await.expect_err(way.what);
        // Only of a token that is over is it known whose it was.
        expect(if reason == "TOKEN_EXPIRED" { "the-operator" } else { "unknown" }, reason);
    }
    let bare = server.connect(None).await;
    let reader = format!("Bearer {}", token(Role::Reader));
    send(&bare, path, Some(&reader), false, pause.clone()).await.unwrap_err();
    expect("the-reader", "ROLE_MISSING");
    // Revoked while its connection is open, by its fingerprint.
    let operator = server.pair(Role::Operator);
    let shown = server.connect(Some(&operator)).await;
    server.write(
        "identity.toml",
        &format!("revoked_certificates = [\"{}\"]\n{}", fingerprint(&operator), identity(&Role::ALL)),
    );
    server.node.reload().unwrap();
    send(&shown, path, None, false, pause).await.unwrap_err();
    expect("unknown", "CREDENTIALS_REVOKED");

    let recorded = tokio::time::timeout(Duration::from_secs(20), async {
        while refusals(&server).await != expected {
            tokio::task::yield_now().await;
        }
    });
    if recorded.await.is_err() {
        assert_eq!(refusals(&server).await, expected, "each kind of refusal leaves its record");
    }
    let mut pools =
        v1::pool_service_client::PoolServiceClient::new(server.connect(Some(&server.pair(Role::Reader))).await);
    let pool =
        pools.get_pool(v1::GetPoolRequest { name: "pools/atom".into() }).await.unwrap().into_inner().pool.unwrap();
    assert_eq!(pool.state(), v1::PoolState::Active, "none of them had an effect");
    let metrics = scrape(server.node.metrics_address).await;
    assert!(metrics.contains("softstake_refusals_unrecorded_total 0\n"), "{metrics}");
    server.node.stop().await;
    strangers.node.stop().await;
}
