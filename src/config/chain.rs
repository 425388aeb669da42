//! Chains that are not simulated: how the adapter and the signer of a pool are reached, and what they have to say of
//! themselves.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::Problems;
use super::raw::RawChain;

/// The longest name of a chain, a key or an address.
const MAX_NAME_BYTES: usize = 128;

/// A chain behind an adapter outside of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// What the adapter has to call its chain.
    pub chain: String,
    /// The address that it has to stake from.
    pub staking_address: String,
    /// Where it is.
    pub adapter: OutsideService,
    /// The most that one transaction may cost, in base units: nothing dearer is signed.
    pub max_fee_base_units: u128,
    /// Who signs.
    pub signer: SignerSettings,
}

/// A gRPC service outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideService {
    /// Its URL: https, or http on loopback.
    pub endpoint: String,
    /// TLS, for https.
    pub credentials: Option<CredentialFiles>,
}

/// What TLS to a service outside needs, each in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFiles {
    /// The issuers of the service's certificate.
    pub ca_file: PathBuf,
    /// Our certificate.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Who holds the key of the staking address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerSettings {
    /// A service outside.
    Remote {
        /// Where it is.
        service: OutsideService,
        /// The key's name there.
        key_id: String,
    },
    /// A file of this machine, for development.
    File {
        /// Its path.
        secret_file: PathBuf,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawSigner {
    pub kind: String,
    pub endpoint: Option<String>,
    pub ca_file: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub key_id: Option<String>,
    pub secret_file: Option<String>,
}

/// The settings of a chain of kind `remote`; `key` gives the path of one of its keys.
pub(super) fn remote(problems: &mut Problems, key: &dyn Fn(&str) -> String, raw: &RawChain) -> RemoteSettings {
    let chain = named(problems, &key("chain"), raw.chain.as_deref(), "what the adapter calls its chain");
    let address = raw.staking_address.as_deref();
    let staking_address = named(problems, &key("staking_address"), address, "the address that the pool stakes from");
    let adapter = service(problems, key, [&raw.endpoint, &raw.ca_file, &raw.cert_file, &raw.key_file]);
    let max_fee_base_units = match &raw.max_fee_base_units {
        Some(fee) => problems.base_units(&key("max_fee_base_units"), fee),
        None => {
            problems.add(key("max_fee_base_units"), "it is not set; set the most that one transaction may cost");
            0
        }
    };
    let signer = signer(problems, &|name| key(&format!("signer.{name}")), &raw.signer);
    RemoteSettings { chain, staking_address, adapter, max_fee_base_units, signer }
}

fn signer(problems: &mut Problems, key: &dyn Fn(&str) -> String, raw: &RawSigner) -> SignerSettings {
    let file = SignerSettings::File { secret_file: raw.secret_file.clone().map(PathBuf::from).unwrap_or_default() };
    match problems.one_of(&key("kind"), &raw.kind, &[("remote", true), ("file", false)]) {
        Some(true) => {
            if raw.secret_file.is_some() {
                problems.add(key("secret_file"), "a signer outside has its own keys; leave it out");
            }
            let service = service(problems, key, [&raw.endpoint, &raw.ca_file, &raw.cert_file, &raw.key_file]);
            let key_id = named(problems, &key("key_id"), raw.key_id.as_deref(), "the key's name at the signer");
            SignerSettings::Remote { service, key_id }
        }
        Some(false) => {
            if raw.secret_file.as_deref().is_none_or(str::is_empty) {
                problems.add(key("secret_file"), "it is not set; name the file of the key, of mode 600");
            }
            if raw.endpoint.is_some() {
                problems.add(key("endpoint"), "a key in a file has no endpoint; leave it out, or set kind to remote");
            }
            file
        }
        None => file,
    }
}

fn named(problems: &mut Problems, key: &str, given: Option<&str>, what: &str) -> String {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        problems.add(key, format!("it is not set; set {what}"));
    } else if given.len() > MAX_NAME_BYTES || !given.bytes().all(|byte| byte.is_ascii_graphic()) {
        problems.add(key, format!("it has to be 1 to {MAX_NAME_BYTES} visible ASCII characters"));
    }
    given.to_owned()
}

/// A service by its endpoint and the files of its issuers, our certificate and our key.
fn service(problems: &mut Problems, key: &dyn Fn(&str) -> String, given: [&Option<String>; 4]) -> OutsideService {
    let [endpoint, ca_file, cert_file, key_file] = given.map(|text| text.as_deref().filter(|text| !text.is_empty()));
    let endpoint = endpoint.unwrap_or_default().to_owned();
    let credentials = match (ca_file, cert_file, key_file) {
        (None, None, None) => None,
        (Some(ca_file), Some(cert_file), Some(key_file)) => {
            let [ca_file, cert_file, key_file] = [ca_file, cert_file, key_file].map(PathBuf::from);
            Some(CredentialFiles { ca_file, cert_file, key_file })
        }
        _ => {
            problems.add(key("ca_file"), "ca_file, cert_file and key_file go together; set all three");
            None
        }
    };
    let (scheme, rest) = endpoint.split_once("://").unwrap_or_default();
    match (scheme, &credentials) {
        ("https", Some(_)) => {}
        ("https", None) => problems.add(key("ca_file"), "https needs ca_file, cert_file and key_file"),
        ("http", None) if is_loopback(rest) => {}
        ("http", None) => {
            let problem = "plain text is for addresses of this machine alone, such as http://127.0.0.1:7100; use https";
            problems.add(key("endpoint"), problem);
        }
        ("http", Some(_)) => problems.add(key("endpoint"), "certificates are set, so that it has to be https"),
        _ => problems.add(key("endpoint"), "write a URL such as https://adapter.example:7443"),
    }
    OutsideService { endpoint, credentials }
}

/// Whether what follows the scheme of a URL is an address of this machine: what a name stands for is decided elsewhere.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Keys of a chain that belong to another kind than its own.
pub(super) fn misplaced(problems: &mut Problems, key: &dyn Fn(&str) -> String, raw: &RawChain) {
    let plain = RawChain { kind: raw.kind.clone(), ..RawChain::default() };
    let simulated: [(&str, bool); 8] = [
        ("preset", raw.preset != plain.preset),
        ("seed", raw.seed != plain.seed),
        ("apr", raw.apr.is_some()),
        ("validators_csv", raw.validators_csv.is_some()),
        ("custody", raw.custody != plain.custody),
        ("custody_genesis_base_units", raw.custody_genesis_base_units != plain.custody_genesis_base_units),
        ("unbonding_seconds", raw.unbonding_seconds.is_some()),
        ("epoch_seconds", raw.epoch_seconds.is_some()),
    ];
    let remote: [(&str, bool); 8] = [
        ("chain", raw.chain.is_some()),
        ("staking_address", raw.staking_address.is_some()),
        ("endpoint", raw.endpoint.is_some()),
        ("ca_file", raw.ca_file.is_some()),
        ("cert_file", raw.cert_file.is_some()),
        ("key_file", raw.key_file.is_some()),
        ("max_fee_base_units", raw.max_fee_base_units.is_some()),
        ("signer", raw.signer != plain.signer),
    ];
    let others = if raw.kind == "simulated" { remote } else { simulated };
    for (name, _) in others.into_iter().filter(|(_, given)| *given) {
        problems.add(key(name), format!("a chain of kind {} has no such key; leave it out", raw.kind));
    }
}
