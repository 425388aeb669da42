//! Alert rules and the dashboard name metrics that there are.

use std::collections::BTreeSet;

use prometheus_client::registry::Registry;
use softstake::app::metrics::{AppMetrics, CutBy, OperationRow, PoolName};
use softstake::book::metrics::{BookMetrics, PoolLabel, ReasonLabel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::harness::{Server, Setup};

/// The names of the metrics in the OpenMetrics text form.
fn names(shown: &str) -> BTreeSet<String> {
    let lines = shown.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// What shows only once it has happened.
fn rare() -> BTreeSet<String> {
    let (app, book) = (AppMetrics::default(), BookMetrics::default());
    let pool = PoolName { pool: "atom".to_owned() };
    for family in [&app.readings_failed, &app.effects_unfit, &app.effects_unexplained, &app.slashes] {
        family.get_or_create(&pool).inc();
    }
    app.slashed_base_units.get_or_create(&pool).inc();
    app.outflows_cut.get_or_create(&CutBy { pool: "atom".to_owned(), limit: "" }).inc();
    app.operation_events.get_or_create(&OperationRow { state: "", event: "" }).inc();
    book.rejected.get_or_create(&ReasonLabel { reason: "" }).inc();
    for family in [&book.sealed_periods, &book.checkpoints] {
        family.get_or_create(&PoolLabel { pool: 1 }).inc();
    }
    let mut registry = Registry::with_prefix("softstake");
    app.register(&mut registry);
    book.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    names(&text)
}

/// What a running service shows.
pub(super) async fn metrics(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.metrics_address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut shown = String::new();
    stream.read_to_string(&mut shown).await.unwrap();
    shown.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The names of what a running service shows.
async fn served() -> BTreeSet<String> {
    let mut server = Setup::new().pool("atom", "").start().await;
    server.put("alice", "ATOM", 1_000_000).await;
    server.at(120).await;
    let shown = metrics(&server).await;
    server.stop().await;
    names(&shown)
}

/// Every metric of the service that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("softstake_")).map(str::to_owned).collect()
}

/// The rules, of every group.
fn rules() -> Vec<Value> {
    let file = yaml("deploy/prometheus/alerts.yaml").remove(0);
    list(&file, "groups").iter().flat_map(|group| list(group, "rules").to_vec()).collect()
}

/// What the alerts are called.
pub fn alert_names() -> BTreeSet<String> {
    rules().iter().map(|rule| word(rule, "alert").to_owned()).collect()
}

/// The expressions of the dashboard.
fn panels() -> Vec<String> {
    let board: serde_json::Value = serde_json::from_str(&text("deploy/grafana/softstake.json")).unwrap();
    let targets = board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_metric_that_an_alert_a_panel_or_the_runbook_names_is_there() {
    let mut there = served().await;
    there.extend(rare());
    let mut asked = 0;
    let runbook = text("deploy/runbook.md");
    let named_there = runbook.split('`').filter(|word| word.starts_with("softstake_")).map(str::to_owned);
    let alerts = rules().into_iter().map(|rule| word(&rule, "expr").to_owned());
    let expressions: Vec<String> = alerts.chain(panels()).chain(named_there).collect();
    for expression in expressions {
        let named = named(&expression);
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(missing.is_empty(), "{expression}: there is no {missing:?} among {there:#?}");
        asked += named.len();
    }
    assert!(asked > 40, "{asked}");
}

#[test]
fn every_alert_says_how_urgent_it_is_and_where_to_read_on() {
    let mut seen = BTreeSet::new();
    for rule in rules() {
        let name = word(&rule, "alert");
        assert!(name.starts_with("Softstake") && seen.insert(name.to_owned()), "{name}");
        assert!(["page", "ticket"].contains(&word(&rule, "labels.severity")), "{name}");
        assert!(word(&rule, "annotations.summary").ends_with('.'), "{name}");
        assert_eq!(word(&rule, "annotations.runbook"), format!("runbook.md#{}", name.to_lowercase()));
    }
    assert!(seen.len() > 20);
}
