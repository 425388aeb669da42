//! An authority, certificates and tokens for trying TLS out, and for tests: a principal for each role.

use std::net::IpAddr;
use std::time::Duration;

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::api::access::identities::sha256;
use crate::api::access::table::Role;
use crate::clock::{Clock, SystemClock};

/// By how much certificates begin before they are made: clocks differ.
const SKEW: Duration = Duration::from_secs(3_600);

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum DevCertsError {
    /// A name or a key.
    #[error("the certificates can't be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The clock is out of what dates can hold.
    #[error("the machine's clock is not at a date that a certificate can have; set it")]
    Clock,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

/// A client of a role.
pub struct DevClient {
    /// What it may do, which is its name too.
    pub role: Role,
    /// Its certificate.
    pub pair: Pair,
    /// Its token.
    pub token: String,
}

/// Everything to try TLS out with.
pub struct DevCerts {
    authority: CertifiedIssuer<'static, KeyPair>,
    /// The server's.
    pub server: Pair,
    /// A client for each role.
    pub clients: Vec<DevClient>,
    /// When the certificates and tokens end, in seconds since the Unix epoch.
    expires: i64,
}

/// When a certificate begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// Its first second, since the Unix epoch.
    pub from: i64,
    /// Its last second.
    pub until: i64,
}

impl Validity {
    fn set(self, params: &mut CertificateParams) -> Result<(), DevCertsError> {
        let date = |seconds: i64| {
            let date = jiff::Timestamp::from_second(seconds).map_err(|_| DevCertsError::Clock)?;
            let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
            let (month, day) = (u8::try_from(date.month()), u8::try_from(date.day()));
            let (Ok(month), Ok(day)) = (month, day) else { return Err(DevCertsError::Clock) };
            Ok(rcgen::date_time_ymd(i32::from(date.year()), month, day))
        };
        // Whole days, so that the last one counts in full.
        params.not_before = date(self.from)?;
        params.not_after = date(self.until.saturating_add(86_400))?;
        Ok(())
    }
}

fn authority(name: &str, validity: Validity) -> Result<CertifiedIssuer<'static, KeyPair>, DevCertsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity.set(&mut params)?;
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

impl DevCerts {
    /// Makes all of it, good from now for `lasting`. `hosts` are names of the server besides those of this machine.
    pub fn make(hosts: &[String], lasting: Duration) -> Result<Self, DevCertsError> {
        let now = SystemClock::new().now_ms().div_euclid(1_000);
        let seconds = |span: Duration| i64::try_from(span.as_secs()).map_err(|_| DevCertsError::Clock);
        let expires = now.checked_add(seconds(lasting)?).ok_or(DevCertsError::Clock)?;
        let validity = Validity { from: now.saturating_sub(seconds(SKEW)?), until: expires };
        let authority = authority("softstake development authority", validity)?;
        let mut names = vec![SanType::DnsName("localhost".try_into()?)];
        names.extend(["127.0.0.1", "::1"].iter().filter_map(|own| own.parse().ok()).map(SanType::IpAddress));
        for host in hosts {
            names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        let server = signed(&authority, "softstake", names, ExtendedKeyUsagePurpose::ServerAuth, validity)?;
        let mut made = Self { authority, server, clients: Vec::new(), expires };
        for role in Role::ALL {
            let pair = made.client(role.name(), &format!("softstake://dev/{role}"), validity)?;
            made.clients.push(DevClient { role, pair, token: new_token() });
        }
        Ok(made)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> String {
        self.authority.pem()
    }

    /// One more client certificate with the URI `uri` among its names.
    pub fn client(&self, name: &str, uri: &str, validity: Validity) -> Result<Pair, DevCertsError> {
        let names = vec![SanType::URI(uri.try_into()?)];
        signed(&self.authority, name, names, ExtendedKeyUsagePurpose::ClientAuth, validity)
    }

    /// An identity file with a principal for each client, `dev-` and its role, known by its certificate and its token.
    pub fn identity(&self) -> String {
        let mut text =
            "# Who may call, for trying it out. README.md says what stands here.\nrevoked_certificates = []\n"
                .to_owned();
        let expires = jiff::Timestamp::from_second(self.expires).unwrap_or(jiff::Timestamp::MAX);
        for DevClient { role, token, .. } in &self.clients {
            text.push_str(&format!(
                "\n[[principals]]\nname = \"dev-{role}\"\nroles = [\"{role}\"]\nsans = [\"URI:softstake://dev/{role}\"]\n\
                 [[principals.tokens]]\nsha256 = \"{}\"\nexpires = \"{expires}\"\n",
                HEXLOWER.encode(&sha256(token.as_bytes()))
            ));
        }
        text
    }

    /// Every file as its name, its text, and whether it is a secret; `folder` is where they will be.
    pub fn files(&self, folder: &str) -> Vec<(String, String, bool)> {
        // Between the quotes of a TOML string.
        let at: String = folder.chars().map(escaped).collect();
        let settings = format!(
            "# TLS on loopback, with the identities beside this file. deploy/softstake.toml has every other setting.\n\
             listen = \"127.0.0.1:7070\"\ndata_dir = \"{at}/data\"\n\n[clock]\nkind = \"accelerated\"\n\n[tls]\ncert_file = \
             \"{at}/server.pem\"\nkey_file = \"{at}/server.key\"\nclient_ca_file = \"{at}/ca.pem\"\n\n[identity]\nfile = \
             \"{at}/identity.toml\"\n\n[feed]\nmax_future_seconds = 3600\n\n[[pools]]\nid = \"atom\"\nasset = \"ATOM\"\n\
             [pools.chain]\nkind = \"simulated\"\npreset = \"atom\"\ncustody_genesis_base_units = \"1000000000000000\"\n\
             [pools.policy]\nminimum_base_units = \"10000\"\nfee_bps = 1000\n[pools.house]\nfloat_floor_base_units = \
             \"1000000\"\nfloat_target_base_units = \"20000000\"\n"
        );
        let mut files = vec![
            ("ca.pem".to_owned(), self.ca(), false),
            ("ca.key".to_owned(), self.authority.key().serialize_pem(), true),
            ("server.pem".to_owned(), self.server.cert.clone(), false),
            ("server.key".to_owned(), self.server.key.clone(), true),
            ("identity.toml".to_owned(), self.identity(), false),
            ("softstake.toml".to_owned(), settings, false),
        ];
        for DevClient { role, pair, token } in &self.clients {
            files.push((format!("{role}.pem"), pair.cert.clone(), false));
            files.push((format!("{role}.key"), pair.key.clone(), true));
            files.push((format!("{role}.token"), token.clone(), true));
        }
        files
    }
}

/// A character as it stands in a TOML string.
fn escaped(c: char) -> String {
    match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    }
}

fn signed(
    authority: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    names: Vec<SanType>,
    purpose: ExtendedKeyUsagePurpose,
    validity: Validity,
) -> Result<Pair, DevCertsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    validity.set(&mut params)?;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, authority)?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}

/// A token that nobody guesses: 244 random bits.
fn new_token() -> String {
    format!("sst_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}
