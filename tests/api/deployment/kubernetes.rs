//! The base for Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// All resources of the base.
fn resources() -> Vec<Value> {
    let base = yaml("deploy/kustomization.yaml").remove(0);
    words(&base, "resources").iter().flat_map(|name| yaml(&format!("deploy/{name}"))).collect()
}

fn the(kind: &str, name: &str) -> Value {
    let found = resources().into_iter().find(|one| word(one, "kind") == kind && word(one, "metadata.name") == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn pod() -> Value {
    at(&the("StatefulSet", "softstake"), "spec.template.spec").clone()
}

/// The one container.
fn container() -> Value {
    assert_eq!(list(&pod(), "containers").len(), 1);
    at(&pod(), "containers.0").clone()
}

#[test]
fn every_file_of_the_base_is_part_of_it() {
    let base = yaml("deploy/kustomization.yaml").remove(0);
    let named: BTreeSet<&str> = words(&base, "resources").into_iter().collect();
    let files: Vec<String> = std::fs::read_dir(path("deploy/kubernetes"))
        .unwrap()
        .map(|entry| format!("kubernetes/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    assert_eq!(files.iter().map(String::as_str).collect::<BTreeSet<_>>(), named);
    // The settings are the annotated ones, word for word.
    let generated = at(&base, "configMapGenerator.0");
    assert_eq!(words(generated, "files"), ["softstake.toml"]);
    let volume = list(&pod(), "volumes").iter().find(|volume| volume["name"] == "settings").cloned().unwrap();
    assert_eq!(at(&volume, "configMap.name"), at(generated, "name"));
}

#[test]
fn a_store_has_one_writer() {
    let set = the("StatefulSet", "softstake");
    assert_eq!(number(&set, "spec.replicas"), 1);
    let claims = list(&set, "spec.volumeClaimTemplates");
    assert_eq!(claims.len(), 2);
    for claim in claims {
        assert_eq!(words(claim, "spec.accessModes"), ["ReadWriteOncePod"]);
        assert!(word(claim, "spec.resources.requests.storage").ends_with("Gi"));
    }
    assert_eq!(word(&set, "spec.persistentVolumeClaimRetentionPolicy.whenDeleted"), "Retain");
    covers_the_drain(number(&pod(), "terminationGracePeriodSeconds"));
}

#[test]
fn the_pod_keeps_the_restricted_standard_and_has_no_token() {
    let (pod, container) = (pod(), container());
    assert_eq!(at(&pod, "automountServiceAccountToken").as_bool(), Some(false));
    let account = the("ServiceAccount", word(&pod, "serviceAccountName"));
    assert_eq!(at(&account, "automountServiceAccountToken").as_bool(), Some(false));
    assert_eq!(at(&pod, "securityContext.runAsNonRoot").as_bool(), Some(true));
    for who in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(number(&pod, &format!("securityContext.{who}")), USER);
    }
    assert_eq!(word(&pod, "securityContext.seccompProfile.type"), "RuntimeDefault");
    let context = at(&container, "securityContext");
    assert_eq!(at(context, "allowPrivilegeEscalation").as_bool(), Some(false));
    assert_eq!(at(context, "privileged").as_bool(), Some(false));
    assert_eq!(at(context, "readOnlyRootFilesystem").as_bool(), Some(true));
    assert_eq!(words(context, "capabilities.drop"), ["ALL"]);
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod.get(shared).is_none(), "{shared}");
    }
    let namespace = the("Namespace", "softstake");
    for mode in ["enforce", "audit", "warn"] {
        let label = format!("pod-security.kubernetes.io/{mode}");
        assert_eq!(namespace["metadata"]["labels"][label.as_str()], "restricted");
    }
    let resources = at(&container, "resources");
    for bound in ["requests", "limits"] {
        for what in ["cpu", "memory", "ephemeral-storage"] {
            assert!(resources[bound].get(what).is_some(), "{bound} of {what}");
        }
    }
}

#[test]
fn the_probes_ask_by_grpc_and_recovery_is_waited_for() {
    let container = container();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(words(&container, &format!("{probe}.exec.command")), ["/softstake", "health"], "{probe}");
        // The binary gives up by itself before it is given up.
        assert!(number(&container, &format!("{probe}.timeoutSeconds")) > 3, "{probe}");
    }
    let start = number(&container, "startupProbe.periodSeconds") * number(&container, "startupProbe.failureThreshold");
    assert!(start >= 3_600, "{start} s");
    let ready =
        number(&container, "readinessProbe.periodSeconds") * number(&container, "readinessProbe.failureThreshold");
    let live = number(&container, "livenessProbe.periodSeconds") * number(&container, "livenessProbe.failureThreshold");
    assert!(ready < live, "no call is sent to it before it is killed");
}

#[test]
fn the_container_starts_with_its_settings_and_finds_its_files() {
    let (pod, container) = (pod(), container());
    let variables: BTreeMap<String, String> = list(&container, "env")
        .iter()
        .map(|one| (word(one, "name").to_owned(), word(one, "value").to_owned()))
        .collect();
    let config = serves_with(&variables);
    let mounts: BTreeMap<&str, &str> =
        list(&container, "volumeMounts").iter().map(|one| (word(one, "mountPath"), word(one, "name"))).collect();
    assert_eq!(mounts.get(config.data_dir.to_str().unwrap()), Some(&"data"));
    assert_eq!(mounts.get(config.backup_dir.as_ref().unwrap().to_str().unwrap()), Some(&"backups"));
    assert_eq!(variables["SOFTSTAKE_CONFIG"], SETTINGS);
    assert_eq!(mounts.get("/etc/softstake"), Some(&"settings"));
    let (tls, identity) = (config.tls.unwrap(), config.identity.unwrap());
    for file in [Some(tls.cert_file), Some(tls.key_file), tls.client_ca_file, Some(identity.file)].into_iter().flatten()
    {
        let folder = file.parent().unwrap().to_str().unwrap();
        let volume = mounts.get(folder).unwrap_or_else(|| panic!("{folder} is not mounted"));
        let volume = list(&pod, "volumes").iter().find(|one| word(one, "name") == *volume).unwrap();
        assert_eq!(number(volume, "secret.defaultMode"), 0o440, "the group reads it, and nobody else");
    }
    // Every mount has a volume, and the other way round.
    let claims = the("StatefulSet", "softstake");
    let claims = list(&claims, "spec.volumeClaimTemplates").iter().map(|one| word(one, "metadata.name"));
    let volumes: BTreeSet<&str> = list(&pod, "volumes").iter().map(|one| word(one, "name")).chain(claims).collect();
    assert_eq!(mounts.values().copied().collect::<BTreeSet<_>>(), volumes);
    // Ports are the same wherever they stand.
    for (port, name) in ports().into_iter().zip(["grpc", "metrics"]) {
        let one = list(&container, "ports").iter().find(|one| word(one, "name") == name).unwrap();
        assert_eq!(number(one, "containerPort"), port);
        let service = the("Service", "softstake");
        let one = list(&service, "spec.ports").iter().find(|one| word(one, "name") == name).unwrap();
        assert_eq!((number(one, "port"), word(one, "targetPort")), (port, name));
    }
    assert_eq!(config.listen.to_string(), format!("0.0.0.0:{}", ports()[0]));
    assert_eq!(config.metrics_listen.to_string(), format!("0.0.0.0:{}", ports()[1]));
}

#[test]
fn nothing_goes_in_or_out_but_what_is_said() {
    let denied = the("NetworkPolicy", "default-deny");
    assert!(at(&denied, "spec.podSelector").as_mapping().unwrap().is_empty(), "it holds for every pod");
    assert_eq!(words(&denied, "spec.policyTypes"), ["Ingress", "Egress"]);
    assert!(denied["spec"].get("ingress").is_none() && denied["spec"].get("egress").is_none());
    let allowed = the("NetworkPolicy", "softstake");
    let opened: Vec<u64> = list(&allowed, "spec.ingress")
        .iter()
        .flat_map(|rule| {
            assert!(!list(rule, "from").is_empty(), "a rule without `from` lets everyone in");
            list(rule, "ports").iter().map(|one| number(one, "port"))
        })
        .collect();
    assert_eq!(opened, ports());
    assert!(list(&allowed, "spec.egress").is_empty());
}
