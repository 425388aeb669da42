//! The settings: defaults, the sample file, variables, and every refusal.

use std::collections::BTreeSet;

use serde_json::Value;

use super::keys::known_keys;
use super::raw::{Raw, read};
use super::*;

const SAMPLE: &str = include_str!("../../deploy/softstake.toml");

const POOL: &str =
    "[[pools]]\nid = \"atom\"\nasset = \"ATOM\"\n[pools.chain]\nkind = \"simulated\"\npreset = \"atom\"\n";

fn load(text: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    read(text, variables).and_then(super::check::check)
}

fn problems(text: &str) -> Vec<(String, String)> {
    match Config::from_toml(text) {
        Err(ConfigError::Refused(problems)) => problems.into_iter().map(|p| (p.key, p.problem)).collect(),
        Err(ConfigError::Unreadable(error)) => vec![(String::new(), error)],
        Ok(_) => Vec::new(),
    }
}

#[track_caller]
fn refused(text: &str, key: &str, part: &str) {
    let found = problems(text);
    assert!(found.iter().any(|(k, p)| k == key && p.contains(part)), "wanted {key}: …{part}…, got {found:#?}");
}

#[test]
fn without_a_file_five_simulated_pools_run_a_day_a_minute_on_loopback() {
    let config = Config::default_simulated();
    assert!(config.listen.is_local() && config.metrics_listen.ip().is_loopback());
    assert_eq!(config.clock, ClockSettings::Accelerated { start_ms: None, factor: 1_440 });
    assert_eq!(config.data_dir, Path::new("./softstake-data"));
    let ids: Vec<&str> = config.pools.iter().map(|pool| pool.id.as_str()).collect();
    assert_eq!(ids, ["atom", "dot", "trx", "near", "apt"]);
    for pool in &config.pools {
        let ChainSettings::Simulated(chain) = &pool.chain else { panic!("{:?}", pool.chain) };
        assert_eq!(chain.custody, CustodyMode::Automatic);
        let token = 10_u128.pow(chain.preset.decimals());
        assert_eq!(chain.custody_genesis_base_units, token * 1_000_000_000);
        assert_eq!(pool.policy.minimum_base_units, token / 100);
        assert_eq!(pool.house.float_target_base_units, token * 20);
    }
    assert_eq!(load(None, &[]).unwrap(), config, "reading no file gives the same");
}

#[test]
fn the_sample_file_has_every_key_with_its_default() {
    let config = Config::from_toml(SAMPLE).unwrap();
    assert_eq!(config.pools.len(), 5);
    let sample = Raw { pools: Vec::new(), ..read(Some(SAMPLE), std::iter::empty()).unwrap() };
    assert_eq!(sample, Raw::default(), "what the sample sets is the default");

    let mut known = BTreeSet::new();
    keys("", &known_keys(), &mut known);
    let mut shown = BTreeSet::new();
    let mut section = String::new();
    for line in SAMPLE.lines() {
        let line = line.trim_start_matches('#').trim();
        if let Some(name) = line.strip_prefix('[') {
            if name == "[pools]]" && section.starts_with("pools") {
                break;
            }
            section = name.trim_matches(['[', ']']).to_owned();
            continue;
        }
        if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            shown.insert(if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") });
        }
    }
    assert_eq!(shown, known);
}

fn keys(path: &str, tree: &Value, into: &mut BTreeSet<String>) {
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                keys(&path, value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                keys(path, item, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn the_samples_other_values_are_the_defaults_too() {
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let found = problems(&uncommented);
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["clock.start", "pools[0].policy.fixed_apr"], "only these need another key first: {found:#?}");
}

#[test]
fn variables_lie_over_the_file() {
    let text = format!("listen = \"127.0.0.1:1\"\n{POOL}");
    let variables = [
        ("SOFTSTAKE_LISTEN", "[::1]:7000"),
        ("SOFTSTAKE_LOG__LEVEL", "debug"),
        ("SOFTSTAKE_LIMITS__MAX_BATCH_EVENTS", "77"),
        ("SOFTSTAKE_SOURCES", "ledger,margin"),
        ("SOFTSTAKE_ALLOW_SIMULATED", "true"),
        ("SOFTSTAKE_CONFIG", "not a setting"),
        ("SOFTSTAKE_REQUIRE_GRPCURL", "1"),
        ("SOFTSTAKE_REQUIRE_PYTHON", "1"),
        ("OTHER_LISTEN", "x"),
    ];
    let config = load(Some(&text), &variables).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:7000");
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.limits.max_batch_events, 77);
    assert_eq!(config.sources, ["ledger", "margin"]);
    assert!(config.allow_simulated);
    let config = load(None, &[("SOFTSTAKE_DATA_DIR", "/var/lib/softstake")]).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/softstake"));
    assert_eq!(config.pools.len(), 5);
}

#[test]
fn unknown_keys_are_refused_by_their_path() {
    refused(&format!("lisen = \"x\"\n{POOL}"), "lisen", "no such key; the keys here are");
    refused(&format!("[log]\nlevle = \"info\"\n{POOL}"), "log.levle", "format, level");
    refused(&format!("{POOL}[pools.policy]\nfee = 3\n"), "pools[0].policy.fee", "fee_bps");
    let error = load(None, &[("SOFTSTAKE_LOG__LEVLE", "info")]).unwrap_err().to_string();
    assert!(error.contains("log.levle: there is no such key"), "{error}");
    let error = load(None, &[("SOFTSTAKE_POOLS__0__ID", "atom")]).unwrap_err().to_string();
    assert!(error.contains("SOFTSTAKE_POOLS__0__ID: pools are set in the file only"), "{error}");
}

#[test]
fn variables_that_contradict_one_another_are_refused() {
    for (one, other) in [
        ("SOFTSTAKE_LISTEN", "SOFTSTAKE_LISTEn"),
        ("SOFTSTAKE_LOG", "SOFTSTAKE_log__LEVEL"),
        ("SOFTSTAKE_SOURCES", "SOFTSTAKE_SOURCES__LEVEL"),
    ] {
        for pair in [[(one, "a,b"), (other, "info")], [(other, "info"), (one, "a,b")]] {
            let told = load(None, &pair).unwrap_err().to_string();
            assert!(told.contains(&format!("what {one} says")) && told.contains(other), "{told}");
        }
    }
    let told = load(None, &[("SOFTSTAKE_SOURCES[0]", "ledger")]).unwrap_err().to_string();
    assert!(told.contains("SOFTSTAKE_SOURCES[0]: "), "{told}");
    load(None, &[("SOFTSTAKE_LOG__LEVEL", "info"), ("SOFTSTAKE_LOG__FORMAT", "text")]).unwrap();
}

#[test]
fn wrong_types_are_refused_by_their_path() {
    refused(&format!("{POOL}[pools.policy]\nminimum_base_units = 1000\n"), "", "policy.minimum_base_units");
    refused(&format!("{POOL}[pools.policy]\nminimum_base_units = 1000\n"), "", "in quotes");
    refused(&format!("[limits]\nmax_batch_events = \"many\"\n{POOL}"), "", "limits.max_batch_events");
    let wire = format!("[limits]\nmax_batch_events = 65537\n[book]\nqueue_events = 70000\n{POOL}");
    refused(&wire, "limits.max_batch_events", "outside 1 to 65536");
    refused("listen = ", "", "TOML");
}

#[test]
fn what_stands_in_the_file_is_not_told_with_what_is_wrong_with_it() {
    for (text, place) in [
        (format!("[identity]\nfile = hunter2 2\n{POOL}"), "line 2, column 8: "),
        (format!("[limits]\nmax_batch_events = \"hunter2\"\n{POOL}"), "limits.max_batch_events: expected "),
        (format!("allow_simulated = \"hunter2\"\n{POOL}"), "allow_simulated: expected "),
        (format!("[tls]\ncert_file = [\"hunter2\"]\n{POOL}"), "tls.cert_file: expected "),
    ] {
        let told = Config::from_toml(&text).unwrap_err().to_string();
        assert!(told.contains(place) && !told.contains("hunter2"), "{place}: {told}");
    }
    let told = load(None, &[("SOFTSTAKE_LIMITS__MAX_BATCH_EVENTS", "hunter2")]).unwrap_err().to_string();
    assert!(told.contains("limits.max_batch_events: expected ") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_file_that_is_named_by_nothing_leaves_nothing_open() {
    refused(&format!("[identity]\nfile = \"\"\n{POOL}"), "identity.file", "it is empty");
    let told = load(Some(POOL), &[("SOFTSTAKE_IDENTITY__FILE", "")]).unwrap_err().to_string();
    assert!(told.contains("identity.file: it is empty"), "{told}");
    // Plain text was served to everybody then.
    let outside = "listen = \"0.0.0.0:7070\"\nallow_simulated = true\n[identity]\nfile = \"c\"\n";
    let tls = format!("{outside}[tls]\ncert_file = \"\"\nkey_file = \"\"\n{POOL}");
    refused(&tls, "tls.cert_file", "it is empty");
    refused(&tls, "tls.key_file", "it is empty");
    let all = "cert_file = \"a\"\nkey_file = \"b\"\nclient_ca_file = \"\"";
    refused(&format!("{outside}[tls]\n{all}\n{POOL}"), "tls.client_ca_file", "it is empty");
}

#[test]
fn outside_loopback_there_is_tls_and_everyone_is_known() {
    let tls = "[tls]\ncert_file = \"a\"\nkey_file = \"b\"\n";
    let identity = "[identity]\nfile = \"c\"\n";
    let outside = "listen = \"0.0.0.0:7070\"\nallow_simulated = true\n";
    refused(&format!("{outside}{POOL}"), "listen", "set tls.cert_file and tls.key_file");
    refused(&format!("{outside}{POOL}"), "identity.file", "dev-certs");
    refused(&format!("{outside}{tls}{POOL}"), "identity.file", "nobody could be told from anybody");
    refused(&format!("{outside}{identity}{POOL}"), "listen", "plain text is not spoken");
    assert_eq!(problems(&format!("{outside}{tls}{identity}{POOL}")), []);
    refused(&format!("listen = \"0.0.0.0:7070\"\n{tls}{identity}{POOL}"), "allow_simulated", "outside loopback");
    refused(&format!("{outside}{tls}{identity}[clock]\nkind = \"manual\"\n{POOL}"), "clock.kind", "outside loopback");
    refused(&format!("{tls}{POOL}"), "identity.file", "it is not set");
    assert_eq!(problems(&format!("{identity}{POOL}")), [], "plain text on loopback may know its callers by tokens");
    refused(&format!("listen = \"localhost\"\n{POOL}"), "listen", "127.0.0.1:7070");
    refused(&format!("metrics_listen = \"127.0.0.1:7070\"\n{POOL}"), "metrics_listen", "another port");
    refused(&format!("metrics_listen = \"0.0.0.0:7071\"\n{POOL}"), "metrics_listen", "allow_remote_metrics");
    assert_eq!(problems(&format!("allow_remote_metrics = true\nmetrics_listen = \"0.0.0.0:7071\"\n{POOL}")), []);
}

#[test]
fn half_of_tls_is_refused() {
    let with = |tls: &str| format!("[tls]\n{tls}\n[identity]\nfile = \"c\"\n{POOL}");
    refused(&with("cert_file = \"a\""), "tls.key_file", "the private key of tls.cert_file");
    refused(&with("key_file = \"a\""), "tls.cert_file", "the certificate of tls.key_file");
    refused(&with("client_ca_file = \"a\""), "tls.cert_file", "only TLS asks clients");
    let whole = "cert_file = \"a\"\nkey_file = \"b\"\nrequire_client_certificate = true";
    refused(&with(whole), "tls.client_ca_file", "set it");
    assert_eq!(problems(&with(&format!("{whole}\nclient_ca_file = \"c\""))), []);
    refused(&format!("[identity]\nreload_interval_seconds = 0\n{POOL}"), "identity.reload_interval_seconds", "1 to");
}

#[test]
fn a_socket_file_is_plain_text_and_for_its_owner() {
    let unix = "listen = \"unix:/run/softstake.sock\"\n";
    let config = Config::from_toml(&format!("{unix}socket_mode = \"0660\"\n{POOL}")).unwrap();
    assert_eq!(config.listen, Listen::Unix { path: "/run/softstake.sock".into(), mode: 0o660 });
    assert_eq!(config.listen.to_string(), "unix:/run/softstake.sock");
    refused(&format!("{unix}socket_mode = \"0666\"\n{POOL}"), "socket_mode", "0600, 0660");
    refused(&format!("listen = \"unix:\"\n{POOL}"), "listen", "no path");
    let tls = "[tls]\ncert_file = \"a\"\nkey_file = \"b\"\n[identity]\nfile = \"c\"\n";
    refused(&format!("{unix}{tls}{POOL}"), "tls.cert_file", "its mode guards it");
}

#[test]
fn simulated_and_real_chains_do_not_mix() {
    let near = "[[pools]]\nid = \"near\"\nasset = \"NEAR\"\n[pools.chain]\nkind = \"near\"\n";
    refused(&format!("{POOL}{near}"), "pools[1].chain.kind", "don't mix");
    refused(near, "pools[0].chain.kind", "no adapter for `near` in this build");
    assert_eq!(problems(near).len(), 1, "and nothing else is said of it: {:?}", problems(near));
    let remote = REMOTE.replace("id = \"atom\"", "id = \"other\"").replace("ATOM", "OTHER");
    refused(&format!("{POOL}{remote}"), "pools[1].chain.kind", "don't mix");
}

const REMOTE: &str = r#"
[[pools]]
id = "atom"
asset = "ATOM"
[pools.chain]
kind = "remote"
chain = "cosmoshub-4"
staking_address = "cosmos1us"
endpoint = "http://127.0.0.1:7100"
max_fee_base_units = "20000"
[pools.chain.signer]
kind = "file"
secret_file = "k"
"#;

#[test]
fn a_chain_behind_an_adapter_is_taken_as_the_sample_shows_it() {
    let shown = SAMPLE.lines().filter_map(|line| line.strip_prefix("## ")).filter(|line| !line.contains("secret_file"));
    let shown: Vec<&str> = shown.collect();
    let config = Config::from_toml(&format!("[[pools]]\nid = \"atom\"\nasset = \"ATOM\"\n{}", shown.join("\n")));
    let ChainSettings::Remote(remote) = config.unwrap().pools.remove(0).chain else { panic!("another kind") };
    assert_eq!((remote.chain.as_str(), remote.max_fee_base_units), ("cosmoshub-4", 20_000));
    assert_eq!(remote.adapter.endpoint, "https://adapter.staking.svc:7443");
    let SignerSettings::Remote { service, key_id } = remote.signer else { panic!("another signer") };
    assert_eq!((service.endpoint.as_str(), key_id.as_str()), ("https://signer.custody.svc:7443", "atom-staking"));
    let files = service.credentials.unwrap();
    assert_eq!(files.key_file, Path::new("/etc/softstake/signer-client.key"));

    let ChainSettings::Remote(remote) = Config::from_toml(REMOTE).unwrap().pools.remove(0).chain else { panic!() };
    assert_eq!(remote.signer, SignerSettings::File { secret_file: "k".into() });
}

#[test]
fn a_chain_behind_an_adapter_says_what_it_lacks() {
    let key = |name: &str| format!("pools[0].chain.{name}");
    for name in ["chain", "staking_address", "endpoint", "max_fee_base_units", "signer.secret_file"] {
        let last = name.rsplit('.').next().unwrap();
        let without: String =
            REMOTE.lines().filter(|line| !line.starts_with(&format!("{last} ="))).collect::<Vec<_>>().join("\n");
        assert_eq!(problems(&without).len(), 1, "{name}: {:?}", problems(&without));
        refused(&without, &key(name), if last == "endpoint" { "write a URL" } else { "it is not set" });
    }
    let with = |from: &str, to: &str| REMOTE.replace(from, to);
    refused(&with("127.0.0.1:7100", "10.0.0.1:7100"), &key("endpoint"), "plain text is for");
    refused(&with("127.0.0.1:7100", "localhost:7100"), &key("endpoint"), "plain text is for");
    assert_eq!(problems(&with("127.0.0.1:7100", "[::1]:7100")), []);
    refused(&with("http://", "https://"), &key("ca_file"), "https needs");
    refused(&with("max_fee", "ca_file = \"a\"\nmax_fee"), &key("ca_file"), "set all three");
    let files = "ca_file = \"a\"\ncert_file = \"b\"\nkey_file = \"c\"\nmax_fee";
    refused(&with("max_fee", files), &key("endpoint"), "has to be https");
    assert_eq!(problems(&with("max_fee", files).replace("http://", "https://")), []);
    refused(&with("\"file\"", "\"hsm\""), &key("signer.kind"), "remote, file");
    refused(&with("\"file\"", "\"remote\""), &key("signer.secret_file"), "leave it out");
    refused(&with("max_fee", "seed = 2\nmax_fee"), &key("seed"), "no such key");
    refused(&POOL.replace("preset", "endpoint = \"http://127.0.0.1:1\"\npreset"), &key("endpoint"), "no such key");
    refused(&with("\"cosmos1us\"", "\"a b\""), &key("staking_address"), "visible ASCII");
}

#[test]
fn clocks_are_checked() {
    let with = |text: &str| format!("[clock]\n{text}\n{POOL}");
    refused(&with("kind = \"fast\""), "clock.kind", "system, manual, accelerated");
    refused(&with("kind = \"accelerated\"\nfactor = 0"), "clock.factor", "1 to 86400");
    refused(&with("kind = \"manual\"\nstart = \"today\""), "clock.start", "2026-11-22T00:00:00Z");
    refused(&with("start = \"2026-11-22T00:00:00Z\""), "clock.start", "can't be set");
    let config = Config::from_toml(&with("kind = \"manual\"\nstart = \"2026-11-22T00:00:00Z\"")).unwrap();
    assert_eq!(config.clock, ClockSettings::Manual { start_ms: Some(1_795_305_600_000) });
}

#[test]
fn pools_are_checked() {
    refused("", "pools", "there is none");
    refused(&format!("{POOL}{POOL}"), "pools[1].id", "called `atom` already");
    refused(&format!("{POOL}{POOL}"), "pools[1].asset", "stakes ATOM already");
    refused(&POOL.replace("\"ATOM\"", "\"DOT\""), "pools[0].asset", "set ATOM");
    refused(&POOL.replace("id = \"atom\"", "id = \"Atom Pool\""), "pools[0].id", "lower-case letters");
    refused(&POOL.replace("preset = \"atom\"\n", ""), "pools[0].chain.preset", "it is not set; choose one of atom");
    let with = |key: &str| POOL.replace("[pools.chain]", &format!("{key}\n[pools.chain]"));
    refused(&with("period_seconds = 3600"), "pools[0].period_seconds", "longer than feed.close_grace_seconds");
    refused(&with("period_seconds = 0"), "pools[0].period_seconds", "60 to");
    refused(&with("first_period_start = \"2026-11-22T01:00:00Z\""), "pools[0].first_period_start", "midnight");
    let midnight = Config::from_toml(&with("first_period_start = \"2026-11-22T00:00:00Z\"")).unwrap();
    assert_eq!(midnight.pools[0].first_period_start_seconds, Some(1_795_305_600));
}

#[test]
fn policies_are_checked() {
    let with = |text: &str| format!("{POOL}[pools.policy]\n{text}\n");
    let at = |name: &str| format!("pools[0].policy.{name}");
    for bad in ["-1", "1.5", "1e6", "007", "", " 1"] {
        refused(&with(&format!("minimum_base_units = \"{bad}\"")), &at("minimum_base_units"), "not an amount");
    }
    let past = (1_u128 << 127).to_string();
    refused(&with(&format!("minimum_base_units = \"{past}\"")), &at("minimum_base_units"), "past the largest");
    refused(&with("minimum_base_units = \"9\"\ncap_base_units = \"8\""), &at("cap_base_units"), "below minimum");
    refused(&with("fee_bps = 10001"), &at("fee_bps"), "0 to 10000");
    refused(&with("payout_unit_base_units = \"0\""), &at("payout_unit_base_units"), "or more");
    refused(&with("reward = \"fixed_apr\""), &at("fixed_apr"), "promised yearly rate");
    refused(&with("fixed_apr = \"0.05\""), &at("fixed_apr"), "nothing reads it");
    refused(&with("reward = \"fixed_apr\"\nfixed_apr = \"5%\""), &at("fixed_apr"), "not a rate");
    refused(&with("reward = \"fixed_apr\"\nfixed_apr = \"1.5\""), &at("fixed_apr"), "outside 0 to 1");
    let both = "reward = \"fixed_apr\"\nfixed_apr = \"0.05\"\nslash = \"rewards_absorb\"";
    refused(&with(both), &at("slash"), "does not go together");
    refused(&with("enrolment = \"ask\""), &at("enrolment"), "automatic, opt_in");
    let config = Config::from_toml(&with("reward = \"fixed_apr\"\nfixed_apr = \"0.05\"")).unwrap();
    assert_eq!(config.pools[0].policy.reward, RewardSettings::FixedApr(Decimal::new(5, 2)));
    let near = with(&format!("minimum_base_units = \"{}\"", 79_228_u128 * 10_u128.pow(24) * 1_000));
    assert!(Config::from_toml(&near).is_ok(), "an amount past 96 bits");
}

#[test]
fn the_other_pool_sections_are_checked() {
    let with = |text: &str| format!("{POOL}{text}\n");
    refused(&with("[pools.reserve]\nratio_bps = 20000"), "pools[0].reserve.ratio_bps", "0 to 10000");
    let stuck = with("[pools.reserve]\nmax_change_per_run_base_units = \"0\"");
    refused(&stuck, "pools[0].reserve.max_change_per_run_base_units", "nothing ever moves");
    refused(&with("[pools.house]\nfloat_floor_base_units = \"5\""), "pools[0].house.float_target_base_units", "below");
    refused(&with("[pools.allocation]\nmax_commission = \"1.5\""), "pools[0].allocation.max_commission", "0 to 1");
    let group = with("[pools.allocation]\nmax_share_bps = 5000\nmax_group_share_bps = 100");
    refused(&group, "pools[0].allocation.max_group_share_bps", "5000 to 10000");
    refused(&POOL.replace("kind", "apr = \"-1\"\nkind"), "pools[0].chain.apr", "0 to 1");
    refused(&POOL.replace("kind", "apr = \"0.12345\"\nkind"), "pools[0].chain.apr", "four decimals");
    refused(&POOL.replace("kind", "unbonding_seconds = 0\nkind"), "pools[0].chain.unbonding_seconds", "1 to");
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = format!("listen = \"x\"\nsources = [\"a b\", \"enrolment\"]\n[feed]\nmax_skew_seconds = 99999\n{POOL}");
    let found: Vec<String> = problems(&text).into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, ["listen", "feed.max_skew_seconds", "sources[0]", "sources[1]"]);
    refused(&format!("sources = []\n{POOL}"), "sources", "at least one");
    refused(&format!("sources = [\"a\", \"a\"]\n{POOL}"), "sources[1]", "twice");
    refused(&format!("[log]\nlevel = \"a=b=c\"\n{POOL}"), "log.level", "info");
    refused(&format!("[log]\nlevel = \"info, \u{e9}[x]\"\n{POOL}"), "log.level", "ASCII");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/softstake.toml"))).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/softstake.toml") && error.contains("--config"), "{error}");
}
