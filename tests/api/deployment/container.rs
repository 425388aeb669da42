//! The image and the compose file.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The instructions of the Dockerfile, one a line, without comments.
fn instructions() -> Vec<String> {
    let text = text("deploy/Dockerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let whole = lines.replace("\\\n", " ");
    whole.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|l| !l.is_empty()).collect()
}

/// What follows a keyword in the last stage.
fn last_stage(keyword: &str) -> Vec<String> {
    let all = instructions();
    let begin = all.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    let rest = all[begin..].iter().filter_map(|line| line.strip_prefix(keyword));
    rest.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_build_image_is_pinned_and_new_enough() {
    let image = instructions()[0].strip_prefix("ARG RUST_IMAGE=rust:").unwrap().to_owned();
    let version: Vec<u32> = image.split('-').next().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert_eq!(version.len(), 3, "a whole version: {image}");
    let wanted = text("Cargo.toml");
    let wanted = wanted.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let wanted: Vec<u32> = wanted.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(version >= wanted, "{version:?} is older than {wanted:?}");
    let bases: Vec<String> = instructions().into_iter().filter(|line| line.starts_with("FROM ")).collect();
    assert_eq!(bases, ["FROM ${RUST_IMAGE} AS build", "FROM scratch"]);
    assert!(instructions().iter().any(|line| line.contains("cargo build --locked --release")));
}

#[test]
fn the_image_runs_as_a_number_and_asks_itself_without_a_shell() {
    assert_eq!(last_stage("USER "), [format!("{USER}:{USER}")]);
    assert_eq!(last_stage("ENTRYPOINT "), ["[\"/softstake\"]"]);
    assert_eq!(last_stage("CMD "), ["[\"serve\"]"]);
    let health = last_stage("HEALTHCHECK ");
    assert!(health[0].ends_with("CMD [\"/softstake\", \"health\"]"), "{health:?}");
    assert!(last_stage("RUN ").is_empty(), "there is nothing to run it with");
    assert_eq!(last_stage("VOLUME "), ["[\"/data\"]"]);
    assert!(last_stage("COPY ").iter().any(|copy| copy.ends_with(" /data") && copy.contains("--chown=65532:65532")));
    assert_eq!(last_stage("EXPOSE "), [ports().map(|port| port.to_string()).join(" ")]);
}

#[test]
fn only_what_is_built_is_sent_to_the_build() {
    let ignore = text(".dockerignore");
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "everything is left out first");
    let sent: BTreeSet<&str> = lines.map(|line| line.strip_prefix('!').unwrap()).collect();
    for name in ["Cargo.toml", "Cargo.lock", "build.rs", "proto", "src"] {
        assert!(sent.contains(name), "{name}");
    }
    assert!(sent.iter().all(|name| !name.starts_with("deploy") && !name.starts_with(".git")), "{sent:?}");
    // Cargo wants the files of all targets to be there.
    let manifest: toml::Value = toml::from_str(&text("Cargo.toml")).unwrap();
    for kind in ["test", "bench"] {
        for target in manifest[kind].as_array().unwrap() {
            let file = target["path"].as_str().unwrap();
            let folder = file.trim_end_matches("/main.rs");
            let by_star = format!("{}/*/main.rs", folder.split('/').next().unwrap());
            assert!(sent.contains(folder) || sent.contains(by_star.as_str()), "{file} is not sent");
        }
    }
}

#[test]
fn the_compose_service_is_locked_down_and_starts_with_its_settings() {
    let compose = yaml("deploy/compose.yaml").remove(0);
    let service = at(&compose, "services.softstake");
    assert_eq!(word(service, "user"), format!("{USER}:{USER}"));
    assert_eq!(at(service, "read_only").as_bool(), Some(true));
    assert_eq!(words(service, "cap_drop"), ["ALL"]);
    assert_eq!(words(service, "security_opt"), ["no-new-privileges:true"]);
    for limit in ["cpus", "memory", "pids"] {
        assert!(service["deploy"]["resources"]["limits"].get(limit).is_some(), "{limit} has no limit");
    }
    assert!(words(service, "tmpfs")[0].starts_with("/tmp:"));
    let grace = word(service, "stop_grace_period").strip_suffix('s').unwrap().parse().unwrap();
    covers_the_drain(grace);

    let variables: BTreeMap<String, String> = at(service, "environment")
        .as_mapping()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned()))
        .collect();
    let config = serves_with(&variables);
    let volumes = words(service, "volumes");
    let backups = config.backup_dir.unwrap();
    for (volume, folder) in [("data", &config.data_dir), ("backups", &backups)] {
        assert!(volumes.contains(&format!("{volume}:{}", folder.display()).as_str()), "{volumes:?}");
    }
    let published = words(service, "ports");
    for (port, address) in ports().into_iter().zip([config.listen.to_string(), config.metrics_listen.to_string()]) {
        assert_eq!(address, format!("0.0.0.0:{port}"));
        assert!(published.contains(&format!("127.0.0.1:{port}:{port}").as_str()), "{published:?}");
    }
    assert_eq!(variables["SOFTSTAKE_CONFIG"], SETTINGS);
    assert_eq!(word(service, "configs.0.target"), SETTINGS);
    // Each file that the settings name is a secret that is mounted, and dev-certs writes it.
    let (tls, identity) = (config.tls.unwrap(), config.identity.unwrap());
    let mounted = words(service, "secrets");
    for file in [Some(tls.cert_file), Some(tls.key_file), tls.client_ca_file, Some(identity.file)].into_iter().flatten()
    {
        let name = file.strip_prefix("/run/secrets").unwrap().to_str().unwrap();
        assert!(mounted.contains(&name), "{name}");
        // A name with a dot is no path here.
        let source = compose["secrets"][name]["file"].as_str().unwrap();
        assert_eq!(source, format!("./secrets/{name}"));
    }
}
