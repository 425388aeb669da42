//! Settings: one TOML file and `SOFTSTAKE_` environment variables over it, checked whole before anything starts.
//!
//! `deploy/softstake.toml` shows every key with its default. A variable is the key in upper case with `__` between
//! a section and its key: `SOFTSTAKE_LISTEN`, `SOFTSTAKE_LOG__LEVEL`. Pools are set in the file only. A key that is
//! not known is refused by its path, and so is a value that can't be kept: every problem is reported, each with
//! its key and what to do.
//!
//! Everything here is plain types; `node.rs` turns them into those of `domain/`.

mod access;
mod chain;
mod check;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod keys;
mod limits;
mod raw;
mod release;
mod variables;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rust_decimal::Decimal;

pub use access::{IdentitySettings, Listen, TlsSettings};
pub use chain::{CredentialFiles, OutsideService, RemoteSettings, SignerSettings};
pub use limits::Limits;
pub use raw::{BookSettings, FeedSettings, IntervalSettings, OperationSettings};

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where gRPC is served. Without TLS, on loopback or a socket file only.
    pub listen: Listen,
    /// Where `/metrics` and `/healthz` are served, over plain HTTP, to whoever asks.
    pub metrics_listen: SocketAddr,
    /// Whether `metrics_listen` may be reached from outside.
    pub allow_remote_metrics: bool,
    /// TLS; none is plain text.
    pub tls: Option<TlsSettings>,
    /// Who may call; none is everyone who reaches the service, which is on loopback or a socket file then.
    pub identity: Option<IdentitySettings>,
    /// The folder of the store, the clock and the simulated chains.
    pub data_dir: PathBuf,
    /// The folder that backups are written to; without one there are none.
    pub backup_dir: Option<PathBuf>,
    /// Whether simulated pools may be served outside loopback.
    pub allow_simulated: bool,
    /// Whether callers may ask which calls there are.
    pub reflection: Reflection,
    /// The registered producers of balance events.
    pub sources: Vec<String>,
    /// The clock.
    pub clock: ClockSettings,
    /// The log.
    pub log: LogSettings,
    /// Limits of the gRPC surface.
    pub limits: Limits,
    /// Rules of the balance feed.
    pub feed: FeedSettings,
    /// The position book.
    pub book: BookSettings,
    /// How often the loops run.
    pub intervals: IntervalSettings,
    /// How operations are tried.
    pub operations: OperationSettings,
    /// The pools, at least one.
    pub pools: Vec<PoolSettings>,
}

/// Whether callers may ask which calls there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflection {
    /// On loopback they may.
    Auto,
    /// They may.
    On,
    /// They may not.
    Off,
}

/// Which clock runs. Manual and accelerated ones are for simulated chains on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSettings {
    /// The machine's.
    System,
    /// It moves only when told to.
    Manual {
        /// Where it begins, in milliseconds since the Unix epoch; none is the machine's time at the first start.
        start_ms: Option<i64>,
    },
    /// It runs `factor` times faster than real time.
    Accelerated {
        /// As for the manual clock.
        start_ms: Option<i64>,
        /// How many times faster; 1,440 is a day a minute.
        factor: u32,
    },
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Its form.
    pub format: LogFormat,
    /// A tracing filter, such as `info` or `info,softstake::book=debug`.
    pub level: String,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// One pool. Its policy is what the pool is created with; later changes go through AdminService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its id, the last part of its resource name.
    pub id: String,
    /// Its asset, such as `ATOM`.
    pub asset: String,
    /// Whether it is created at the start where it is not there. Else its chain is connected alone, for CreatePool.
    pub create: bool,
    /// The length of a period, in seconds.
    pub period_seconds: u32,
    /// Where the first period begins, in seconds since the Unix epoch, a multiple of `period_seconds`; none is the
    /// period that runs when the pool is created.
    pub first_period_start_seconds: Option<i64>,
    /// Its chain.
    pub chain: ChainSettings,
    /// Who earns, and how much of it.
    pub policy: PolicySettings,
    /// What stays liquid.
    pub reserve: ReserveSettings,
    /// The operator's own tokens that pay the chain's fees.
    pub house: HouseSettings,
    /// Caps on validators.
    pub allocation: AllocationSettings,
    /// What a distribution must keep to be released without a person.
    pub release: ReleaseSettings,
    /// How ledger and chain are compared.
    pub reconcile: ReconcileSettings,
}

/// Which chain, through which adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainSettings {
    /// The simulated chain.
    Simulated(SimulatedSettings),
    /// A chain behind an adapter outside of this process.
    Remote(Box<RemoteSettings>),
}

/// A simulated chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedSettings {
    /// Whose figures it has.
    pub preset: Preset,
    /// The seed of everything random in it.
    pub seed: u64,
    /// The yearly reward rate before commission, where it is not the preset's.
    pub apr: Option<Decimal>,
    /// A CSV file (operator_address,moniker,status,jailed,tokens_base_units,commission_rate) to take the validators
    /// from; none is a seeded set.
    pub validators_csv: Option<PathBuf>,
    /// Who carries out transfers on the custody side.
    pub custody: CustodyMode,
    /// What the custody address holds when the chain begins, in base units.
    pub custody_genesis_base_units: u128,
    /// Seconds from undelegating to maturity, where they are not the preset's.
    pub unbonding_seconds: Option<u64>,
    /// Seconds of one reward epoch, where they are not the preset's.
    pub epoch_seconds: Option<u64>,
}

/// Whose figures a simulated chain has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// Cosmos Hub.
    Atom,
    /// Polkadot.
    Dot,
    /// TRON.
    Trx,
    /// NEAR.
    Near,
    /// Aptos.
    Apt,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 5] = [Self::Atom, Self::Dot, Self::Trx, Self::Near, Self::Apt];

    /// Its name in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Atom => "atom",
            Self::Dot => "dot",
            Self::Trx => "trx",
            Self::Near => "near",
            Self::Apt => "apt",
        }
    }

    /// The chain's native asset.
    pub const fn asset(self) -> &'static str {
        match self {
            Self::Atom => "ATOM",
            Self::Dot => "DOT",
            Self::Trx => "TRX",
            Self::Near => "NEAR",
            Self::Apt => "APT",
        }
    }

    /// Decimals of the asset.
    pub const fn decimals(self) -> u32 {
        match self {
            Self::Atom | Self::Trx => 6,
            Self::Dot => 10,
            Self::Near => 24,
            Self::Apt => 8,
        }
    }
}

/// Who carries out transfers on a simulated chain's custody side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustodyMode {
    /// The simulated chain does, by itself.
    Automatic,
    /// A client of TransferService does, as in production.
    External,
}

/// Who earns, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// A balance below this earns nothing.
    pub minimum_base_units: u128,
    /// What is above this earns nothing; none is no cap.
    pub cap_base_units: Option<u128>,
    /// The operator's share of rewards, in hundredths of a percent.
    pub fee_bps: u32,
    /// How rewards become payouts.
    pub reward: RewardSettings,
    /// Payouts are whole multiples of this many base units.
    pub payout_unit_base_units: u128,
    /// Whether a customer has to ask.
    pub enrolment: EnrolmentMode,
    /// Who bears a slash.
    pub slash: SlashSettings,
}

/// How rewards become payouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewardSettings {
    /// What the chain paid, pro rata.
    ProRata,
    /// A promised yearly rate; the house covers a shortage and keeps a surplus.
    FixedApr(Decimal),
}

/// Whether a customer has to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentMode {
    /// Everyone earns who did not opt out.
    Automatic,
    /// Only those earn who opted in.
    OptIn,
}

/// Who bears a slash. Customers' balances never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlashSettings {
    /// The house.
    PlatformAbsorbs,
    /// The pool's later rewards.
    RewardsAbsorb,
}

/// What stays liquid, so that a customer can always leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveSettings {
    /// The least share of the eligible total, in hundredths of a percent.
    pub ratio_bps: u32,
    /// The least amount, in base units; all there is to go by until there is history to forecast from.
    pub floor_base_units: u128,
    /// Which percentile of the outflow of past windows is kept liquid, in hundredths of a percent.
    pub forecast_percentile_bps: u32,
    /// How many windows that looks back over.
    pub forecast_windows: u32,
    /// The most of the eligible total that the forecast alone keeps liquid, in hundredths of a percent.
    pub forecast_ceiling_bps: u32,
    /// The share of the reserve target that custody itself is to hold, in hundredths of a percent.
    pub custody_share_bps: u32,
    /// Moves below this share of the eligible total stay off the chain, in hundredths of a percent.
    pub hysteresis_bps: u32,
    /// Moves below this many base units stay off the chain, whatever the share.
    pub min_move_base_units: u128,
    /// The most that one run stakes or unstakes, in base units; none is no limit.
    pub max_change_per_run_base_units: Option<u128>,
    /// The most of what the pool has on the chain that one run sends to custody, in hundredths of a percent.
    pub max_outflow_per_run_bps: u32,
    /// The most of it that goes to custody within any day, in hundredths of a percent.
    pub max_outflow_per_day_bps: u32,
    /// The one address that anything may be sent to; none is the one that the chain's adapter names at creation.
    pub custody_address: Option<String>,
    /// Unbondings due within this many seconds count towards the reserve; never less than the chain's unbonding time.
    pub horizon_seconds: u64,
}

/// The operator's own tokens at the staking address that pay the chain's fees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HouseSettings {
    /// Below this only exits run, in base units.
    pub float_floor_base_units: u128,
    /// What is set aside for fees where the house has it, in base units.
    pub float_target_base_units: u128,
}

/// How ledger and chain are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconcileSettings {
    /// By how many base units a figure of the chain may differ from the ledger's without stopping outflows.
    pub tolerance_base_units: u128,
}

/// Caps on validators; none is ever broken, the pool stakes less instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationSettings {
    /// The largest share of the stake with one validator, in hundredths of a percent.
    pub max_share_bps: u32,
    /// The largest share of the stake with one operator's validators, in hundredths of a percent.
    pub max_group_share_bps: u32,
    /// A validator that keeps more than this share of rewards is given nothing.
    pub max_commission: Decimal,
    /// The most validators staked with at once.
    pub max_validators: u32,
}

/// What a distribution must keep to be released without a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseSettings {
    /// Whether every distribution waits for a person.
    pub approval_required: bool,
    /// The most that the house adds to one distribution, in base units; none is no limit.
    pub max_house_in_base_units: Option<u128>,
    /// The highest yearly rate that the payouts may come to.
    pub max_apr: Decimal,
    /// The largest difference to the trailing rate, as a share of it.
    pub max_apr_change: Decimal,
    /// The most that the receipts of one period may come to, in hundredths of a percent of what earned.
    pub max_receipts_bps: u32,
}

/// One setting that can't be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, such as `pools[0].policy.fee_bps`.
    pub key: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Why there are no settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file or the variables could not be read.
    #[error("the settings can't be read: {0}")]
    Unreadable(String),
    /// They were read and can't be kept.
    #[error("the settings can't be kept:\n{}", list(.0))]
    Refused(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    lines.join("\n")
}

impl Config {
    /// Reads `file`, with this process's `SOFTSTAKE_` variables over it. Without a file the variables lie over
    /// [`Self::default_simulated`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            None => None,
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                ConfigError::Unreadable(format!("{}: {error}; name a file with --config", path.display()))
            })?),
        };
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        Self::with_variables(text.as_deref(), std::env::vars_os().filter_map(unicode))
    }

    /// Reads the text of a settings file with `variables` over it, as [`Self::load`] does with this process's own.
    pub fn with_variables(
        text: Option<&str>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        raw::read(text, variables).and_then(check::check)
    }

    /// Reads the text of a settings file alone, without variables.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        raw::read(Some(text), std::iter::empty()).and_then(check::check)
    }

    /// What `serve` runs without a file: loopback, the store in `./softstake-data`, the five presets as simulated
    /// pools whose custody side works by itself, and a day a minute.
    #[expect(clippy::expect_used, reason = "a constant; a test builds it")]
    pub fn default_simulated() -> Self {
        check::check(raw::Raw::simulated()).expect("the built-in settings keep their own rules")
    }
}
