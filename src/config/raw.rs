//! The settings as written: the file's shape, its defaults, and the refusal of keys that are not in it.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::access::{RawIdentity, RawTls};
use super::chain::RawSigner;
use super::keys::{known_keys, unknown_keys};
use super::limits::Limits;
use super::{ConfigError, Preset, variables};

/// A decimal number kept as its text. A TOML number is refused: it would pass through 64 bits or a float.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct DecimalText(pub String);

impl<'de> Deserialize<'de> for DecimalText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = DecimalText;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a decimal number in quotes, such as \"1000000\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DecimalText, E> {
                Ok(DecimalText(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

pub(super) fn decimal(text: &str) -> DecimalText {
    DecimalText(text.to_owned())
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub listen: String,
    pub socket_mode: String,
    pub metrics_listen: String,
    pub allow_remote_metrics: bool,
    pub data_dir: String,
    pub backup_dir: String,
    pub allow_simulated: bool,
    pub reflection: String,
    pub sources: Vec<String>,
    pub tls: RawTls,
    pub identity: RawIdentity,
    pub clock: RawClock,
    pub log: RawLog,
    pub limits: Limits,
    pub feed: FeedSettings,
    pub book: BookSettings,
    pub intervals: IntervalSettings,
    pub operations: OperationSettings,
    pub pools: Vec<RawPool>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7070".to_owned(),
            socket_mode: "0600".to_owned(),
            metrics_listen: "127.0.0.1:7071".to_owned(),
            allow_remote_metrics: false,
            data_dir: "./softstake-data".to_owned(),
            backup_dir: String::new(),
            allow_simulated: false,
            reflection: "auto".to_owned(),
            sources: vec!["ledger".to_owned()],
            tls: RawTls::default(),
            identity: RawIdentity::default(),
            clock: RawClock::default(),
            log: RawLog::default(),
            limits: Limits::default(),
            feed: FeedSettings::default(),
            book: BookSettings::default(),
            intervals: IntervalSettings::default(),
            operations: OperationSettings::default(),
            pools: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawClock {
    pub kind: String,
    pub factor: u32,
    pub start: Option<String>,
}

impl Default for RawClock {
    fn default() -> Self {
        Self { kind: "system".to_owned(), factor: 1_440, start: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawLog {
    pub format: String,
    pub level: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { format: "json".to_owned(), level: "info".to_owned() }
    }
}

/// Rules of the balance feed, in seconds of the service's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeedSettings {
    /// By how much a time may go back within a position; it is clamped and counted.
    pub max_skew_seconds: u64,
    /// How far past the service's clock an event may lie.
    pub max_future_seconds: u64,
    /// How far before the service's clock an event may lie.
    pub max_lateness_seconds: u64,
    /// How long after its end a period waits for the sources' watermarks. Shorter than every period.
    pub close_grace_seconds: u64,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self { max_skew_seconds: 5, max_future_seconds: 60, max_lateness_seconds: 259_200, close_grace_seconds: 3_600 }
    }
}

/// The position book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BookSettings {
    /// How many partitions a new pool gets. A pool keeps the number that it was created with; no result depends on it.
    pub partitions: u32,
    /// The most events committed together.
    pub group_max_events: usize,
    /// How many commands may wait for the committer.
    pub queue_commands: usize,
    /// How many events may wait for the committer, over all commands.
    pub queue_events: usize,
    /// A checkpoint is due when a pool's journal has grown by this many bytes since the last one, and by a quarter of what its
    /// positions take.
    pub checkpoint_journal_bytes: u64,
    /// Whether the archives of trimmed journals are kept for ever: then anyone can recompute every weight. Else they are
    /// kept for the longest lateness and two periods.
    pub archive_for_ever: bool,
}

impl Default for BookSettings {
    fn default() -> Self {
        Self {
            partitions: 16,
            group_max_events: 8_192,
            queue_commands: 4_096,
            queue_events: 65_536,
            checkpoint_journal_bytes: 64 * 1024 * 1024,
            archive_for_ever: false,
        }
    }
}

/// How often the steps look for work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IntervalSettings {
    /// Milliseconds of real time between two looks at whether anything is due. A manual clock needs none: it looks when
    /// it moves.
    pub tick_ms: u64,
    /// Seconds between two readings of each chain: effects are booked, ledger and chain compared.
    pub observe_interval_seconds: u64,
    /// Seconds between two rebalances of a new pool.
    pub rebalance_interval_seconds: u64,
    /// Seconds before the end of a period at which its rewards begin to be claimed.
    pub collect_before_end_seconds: u64,
}

impl Default for IntervalSettings {
    fn default() -> Self {
        Self {
            tick_ms: 500,
            observe_interval_seconds: 30,
            rebalance_interval_seconds: 300,
            collect_before_end_seconds: 3_600,
        }
    }
}

/// How operations are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperationSettings {
    /// Seconds before the first retry; doubled with each failure in a row, up to an hour.
    pub retry_base_seconds: u64,
    /// How often an operation is built or sent before an operator is asked.
    pub max_attempts: u32,
    /// How old an operation becomes, in seconds, before an operator is asked.
    pub max_age_seconds: u64,
    /// How long one call of a chain or a signer may take, in milliseconds. One that takes longer counts as not answered.
    pub call_timeout_ms: u64,
}

impl Default for OperationSettings {
    fn default() -> Self {
        Self { retry_base_seconds: 5, max_attempts: 12, max_age_seconds: 86_400, call_timeout_ms: 30_000 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawPool {
    pub id: String,
    pub asset: String,
    pub create: bool,
    pub period_seconds: u32,
    pub first_period_start: Option<String>,
    pub chain: RawChain,
    pub policy: RawPolicy,
    pub reserve: RawReserve,
    pub house: RawHouse,
    pub allocation: RawAllocation,
    pub release: super::release::RawRelease,
    pub reconcile: RawReconcile,
}

impl Default for RawPool {
    fn default() -> Self {
        Self {
            id: String::new(),
            asset: String::new(),
            create: true,
            period_seconds: 86_400,
            first_period_start: None,
            chain: RawChain::default(),
            policy: RawPolicy::default(),
            reserve: RawReserve::default(),
            house: RawHouse::default(),
            allocation: RawAllocation::default(),
            release: super::release::RawRelease::default(),
            reconcile: RawReconcile::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawChain {
    pub kind: String,
    pub preset: String,
    pub seed: u64,
    pub apr: Option<DecimalText>,
    pub validators_csv: Option<String>,
    pub custody: String,
    pub custody_genesis_base_units: DecimalText,
    pub unbonding_seconds: Option<u64>,
    pub epoch_seconds: Option<u64>,
    pub chain: Option<String>,
    pub staking_address: Option<String>,
    pub endpoint: Option<String>,
    pub ca_file: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub max_fee_base_units: Option<DecimalText>,
    pub signer: RawSigner,
}

impl Default for RawChain {
    fn default() -> Self {
        Self {
            kind: String::new(),
            preset: String::new(),
            seed: 1,
            apr: None,
            validators_csv: None,
            custody: "automatic".to_owned(),
            custody_genesis_base_units: decimal("0"),
            unbonding_seconds: None,
            epoch_seconds: None,
            chain: None,
            staking_address: None,
            endpoint: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            max_fee_base_units: None,
            signer: RawSigner::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawPolicy {
    pub minimum_base_units: DecimalText,
    pub cap_base_units: Option<DecimalText>,
    pub fee_bps: u32,
    pub reward: String,
    pub fixed_apr: Option<DecimalText>,
    pub payout_unit_base_units: DecimalText,
    pub enrolment: String,
    pub slash: String,
}

impl Default for RawPolicy {
    fn default() -> Self {
        Self {
            minimum_base_units: decimal("0"),
            cap_base_units: None,
            fee_bps: 0,
            reward: "pro_rata".to_owned(),
            fixed_apr: None,
            payout_unit_base_units: decimal("1"),
            enrolment: "automatic".to_owned(),
            slash: "platform_absorbs".to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawReconcile {
    pub tolerance_base_units: DecimalText,
}

impl Default for RawReconcile {
    fn default() -> Self {
        Self { tolerance_base_units: decimal("0") }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawReserve {
    pub ratio_bps: u32,
    pub floor_base_units: DecimalText,
    pub forecast_percentile_bps: u32,
    pub forecast_windows: u32,
    pub forecast_ceiling_bps: u32,
    pub custody_share_bps: u32,
    pub hysteresis_bps: u32,
    pub min_move_base_units: DecimalText,
    pub max_change_per_run_base_units: Option<DecimalText>,
    pub max_outflow_per_run_bps: u32,
    pub max_outflow_per_day_bps: u32,
    pub custody_address: Option<String>,
    pub horizon_seconds: u64,
}

impl Default for RawReserve {
    fn default() -> Self {
        Self {
            ratio_bps: 1_000,
            floor_base_units: decimal("0"),
            forecast_percentile_bps: 9_900,
            forecast_windows: 90,
            forecast_ceiling_bps: 5_000,
            custody_share_bps: 5_000,
            hysteresis_bps: 50,
            min_move_base_units: decimal("0"),
            max_change_per_run_base_units: None,
            max_outflow_per_run_bps: 5_000,
            max_outflow_per_day_bps: 8_000,
            custody_address: None,
            horizon_seconds: 86_400,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawHouse {
    pub float_floor_base_units: DecimalText,
    pub float_target_base_units: DecimalText,
}

impl Default for RawHouse {
    fn default() -> Self {
        Self { float_floor_base_units: decimal("0"), float_target_base_units: decimal("0") }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawAllocation {
    pub max_share_bps: u32,
    pub max_group_share_bps: u32,
    pub max_commission: DecimalText,
    pub max_validators: u32,
}

impl Default for RawAllocation {
    fn default() -> Self {
        Self { max_share_bps: 2_500, max_group_share_bps: 4_000, max_commission: decimal("0.2"), max_validators: 16 }
    }
}

impl Raw {
    /// The settings of a run without a file.
    pub(super) fn simulated() -> Self {
        Self {
            clock: RawClock { kind: "accelerated".to_owned(), ..RawClock::default() },
            log: RawLog { format: "text".to_owned(), ..RawLog::default() },
            feed: FeedSettings { max_future_seconds: 3_600, ..FeedSettings::default() },
            pools: Preset::ALL.into_iter().map(RawPool::simulated).collect(),
            ..Self::default()
        }
    }
}

impl RawPool {
    /// A pool on a simulated chain, in sizes of whole tokens: a minimum of a hundredth, a fee of a tenth, a float of
    /// 20, and a thousand million in custody.
    pub(super) fn simulated(preset: Preset) -> Self {
        let tokens = |zeros_more: u32, digit: &str| {
            decimal(&format!("{digit}{}", "0".repeat((preset.decimals() + zeros_more) as usize)))
        };
        let hundredth = decimal(&format!("1{}", "0".repeat((preset.decimals() - 2) as usize)));
        Self {
            id: preset.name().to_owned(),
            asset: preset.asset().to_owned(),
            chain: RawChain {
                kind: "simulated".to_owned(),
                preset: preset.name().to_owned(),
                custody_genesis_base_units: tokens(9, "1"),
                ..RawChain::default()
            },
            policy: RawPolicy { minimum_base_units: hundredth, fee_bps: 1_000, ..RawPolicy::default() },
            house: RawHouse { float_floor_base_units: tokens(0, "1"), float_target_base_units: tokens(0, "20") },
            ..Self::default()
        }
    }
}

/// Reads the file's text (or the settings of a run without one) with the variables over it.
/// What is wrong with the form of the file, by its place. The line is not shown: a secret may stand there by mistake.
fn misread(text: &str, error: &toml::de::Error) -> ConfigError {
    let told = error.message();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return ConfigError::Unreadable(format!("it is no TOML: {told}"));
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ConfigError::Unreadable(format!("line {line}, column {column}: it is no TOML: {told}"))
}

/// The key and what it has to be, without what it is.
fn told(error: &config::ConfigError) -> String {
    let of = |key: &Option<String>| key.as_deref().map_or(String::new(), |key| format!("{key}: "));
    match error {
        config::ConfigError::Type { expected, key, .. } => format!("{}expected {expected}", of(key)),
        config::ConfigError::At { error, key, .. } => format!("{}{}", of(key), told(error)),
        config::ConfigError::Message(text) => {
            let of_a_value = ["invalid type: ", "invalid value: "].iter().any(|kind| text.starts_with(kind));
            match text.rsplit_once(", expected ") {
                Some((_, expected)) if of_a_value => format!("expected {expected}"),
                _ => text.clone(),
            }
        }
        other => other.to_string(),
    }
}

pub(super) fn read(text: Option<&str>, variables: impl Iterator<Item = (String, String)>) -> Result<Raw, ConfigError> {
    let unreadable = |error: config::ConfigError| ConfigError::Unreadable(told(&error));
    if let Some(text) = text {
        toml::from_str::<toml::Table>(text).map_err(|error| misread(text, &error))?;
    }
    let builder = match text {
        Some(text) => config::Config::builder().add_source(config::File::from_str(text, config::FileFormat::Toml)),
        None => config::Config::builder().add_source(config::Config::try_from(&Raw::simulated()).map_err(unreadable)?),
    };
    let variables = variables::of_settings(variables)?;
    let environment = config::Environment::with_prefix("SOFTSTAKE")
        .prefix_separator("_")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("sources")
        .source(Some(variables.into_iter().collect()));
    let merged = builder.add_source(environment).build().map_err(unreadable)?;
    let tree: Value = merged.clone().try_deserialize().map_err(unreadable)?;
    let mut problems = Vec::new();
    unknown_keys("", &tree, &known_keys(), &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError::Refused(problems));
    }
    merged.try_deserialize().map_err(unreadable)
}
