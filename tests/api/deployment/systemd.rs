//! The unit for systemd.

use std::collections::BTreeMap;

use super::*;

/// The settings of the unit's `[Service]` section, each with all its values.
fn service() -> BTreeMap<String, Vec<String>> {
    let unit = text("deploy/systemd/softstake.service");
    let section = unit.split("[Service]").nth(1).unwrap().split("[Install]").next().unwrap();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in section.lines().filter(|line| !line.starts_with('#')) {
        if let Some((key, value)) = line.split_once('=') {
            all.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    all
}

#[test]
fn the_unit_is_locked_down() {
    let service = service();
    for (key, value) in [
        ("NoNewPrivileges", "true"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "true"),
        ("PrivateTmp", "true"),
        ("PrivateDevices", "true"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "true"),
        ("RestrictNamespaces", "true"),
        ("SystemCallArchitectures", "native"),
        ("StateDirectory", "softstake softstake-backups"),
        ("StateDirectoryMode", "0700"),
        ("LimitCORE", "0"),
        ("UMask", "0077"),
    ] {
        assert_eq!(service.get(key).map(Vec::as_slice), Some([value.to_owned()].as_slice()), "{key}");
    }
    assert_eq!(service["SystemCallFilter"][0], "@system-service");
    let user = &service["User"][0];
    assert!(text("deploy/systemd/softstake.sysusers.conf").contains(&format!("u {user} ")), "{user}");
}

#[test]
fn the_unit_starts_with_its_settings_and_stops_in_time() {
    let service = service();
    covers_the_drain(service["TimeoutStopSec"][0].parse().unwrap());
    let variables: BTreeMap<String, String> = service["Environment"]
        .iter()
        .map(|one| one.split_once('=').unwrap())
        .map(|(key, value)| (key.to_owned(), value.replace("%d", "/run/credentials/softstake.service")))
        .collect();
    let config = serves_with(&variables);
    assert_eq!(variables["SOFTSTAKE_CONFIG"], SETTINGS);
    let folders = service["StateDirectory"][0].split(' ').map(|name| Path::new("/var/lib").join(name));
    assert_eq!(vec![config.data_dir, config.backup_dir.unwrap()], folders.collect::<Vec<_>>());
    // Each file of TLS is a credential that is handed over.
    let tls = config.tls.unwrap();
    for file in [Some(tls.cert_file), Some(tls.key_file), tls.client_ca_file].into_iter().flatten() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let handed_over = |one: &String| one.split(':').next() == Some(name);
        assert!(service["LoadCredential"].iter().any(handed_over), "{name}");
    }
}
