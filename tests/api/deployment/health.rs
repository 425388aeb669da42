//! `softstake health`, as probes run it.

use tokio::process::Command;

use super::*;
use crate::guarded::Guarded;
use crate::harness::Setup;

/// Runs it; its exit status, and what it said.
async fn health(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softstake"));
    let output = command.arg("health").args(args).env_remove("SOFTSTAKE_CONFIG").output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[track_caller]
fn says(answer: &(Option<i32>, String), code: i32, part: &str) {
    assert!(answer.0 == Some(code) && answer.1.contains(part), "wanted {code} and …{part}…, got {answer:?}");
}

#[tokio::test]
async fn a_service_in_plain_text_is_asked_by_its_address() {
    let server = Setup::new().pool("atom", "").start().await;
    let address = server.endpoint();
    says(&health(&[&address]).await, 0, "serves");
    says(&health(&[&address, "--service", "softstake.v1.PayoutService"]).await, 0, "serves");
    says(&health(&[&address, "--service", "softstake.v1.Nothing"]).await, 1, &address);
    server.stop().await;
    says(&health(&[&address]).await, 1, "does not answer");
    says(&health(&["127.0.0.1:7070"]).await, 1, "write http://HOST:PORT");
}

#[tokio::test]
async fn a_service_behind_tls_is_asked_by_its_settings_or_by_its_issuer() {
    let guarded = Guarded::start("").await;
    let address = format!("https://localhost:{}", guarded.port());
    let (ca, stranger) = (guarded.file("ca.pem"), guarded.file("stranger.pem"));
    says(&health(&[&address]).await, 1, "--ca");
    says(&health(&[&address, "--ca", ca.to_str().unwrap()]).await, 0, "serves");

    // By the settings of the machine: the certificate there is the one that is taken, whoever signed it.
    let settings = guarded.file("health.toml");
    let toml = |cert: &str| {
        let dir = ca.parent().unwrap().display();
        format!(
            "listen = \"0.0.0.0:{}\"\nallow_simulated = true\n[tls]\ncert_file = \"{dir}/{cert}\"\nkey_file = \
             \"{dir}/server.key\"\n[identity]\nfile = \"{dir}/identity.toml\"\n[[pools]]\nid = \"atom\"\nasset = \
             \"ATOM\"\nchain = {{ kind = \"simulated\", preset = \"atom\" }}\n",
            guarded.port()
        )
    };
    guarded.write("health.toml", &toml("server.pem"));
    let settings = settings.to_str().unwrap();
    says(&health(&["--config", settings]).await, 0, "serves");
    guarded.write("stranger.pem", &guarded.stranger().cert);
    guarded.write("health.toml", &toml("stranger.pem"));
    says(&health(&["--config", settings]).await, 1, "another certificate");
    says(&health(&[&address, "--ca", stranger.to_str().unwrap()]).await, 1, "does not answer");
    guarded.node.stop().await;
}

#[tokio::test]
async fn a_service_that_wants_a_certificate_of_everyone_is_shown_one() {
    let guarded = Guarded::start("require_client_certificate = true").await;
    let address = format!("https://localhost:{}", guarded.port());
    let pair = guarded.pair(softstake::api::access::table::Role::Reader);
    guarded.write("reader.pem", &pair.cert);
    guarded.write("reader.key", &pair.key);
    let [ca, cert, key] = ["ca.pem", "reader.pem", "reader.key"].map(|name| guarded.file(name));
    let ca = ["--ca", ca.to_str().unwrap()];
    says(&health(&[&address, ca[0], ca[1]]).await, 1, "does not answer");
    let shown = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    says(&health(&[[address.as_str()].as_slice(), &ca, &shown].concat()).await, 0, "serves");
    guarded.node.stop().await;
}

#[tokio::test]
async fn a_socket_file_is_asked_too() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("s").display());
    let toml = Setup::new().pool("atom", "").toml(&folder.path().join("data"), 0);
    let toml = toml.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{socket}\""), 1);
    let node = softstake::node::Node::start(Config::from_toml(&toml).unwrap()).await.unwrap();
    says(&health(&[&socket]).await, 0, "serves");
    node.stop().await;
    says(&health(&[&socket]).await, 1, "does not answer");
}
