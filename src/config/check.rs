//! From the settings as written to the settings as kept: every rule, and for every breach the key and what to do.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::access;
use super::raw::{DecimalText, Raw, RawChain, RawClock, RawPolicy, RawPool};
use super::{
    AllocationSettings, ChainSettings, ClockSettings, Config, ConfigError, CustodyMode, EnrolmentMode, HouseSettings,
    LogFormat, LogSettings, PolicySettings, PoolSettings, Preset, Problem, ReconcileSettings, Reflection,
    ReserveSettings, RewardSettings, SimulatedSettings, SlashSettings,
};

/// The largest amount that anything may hold, `2^127 - 1` base units.
const MAX_BASE_UNITS: u128 = i128::MAX as u128;

/// The service's own sources, for changes of enrolment and for balances put one by one.
const RESERVED_SOURCES: [&str; 2] = ["enrolment", "put-balance"];

const BPS: u32 = 10_000;
const DAY_SECONDS: u64 = 86_400;

/// Collects what is wrong; each rule answers with a stand-in, so that all problems come out at once.
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Problem { key: key.into(), problem: problem.into() });
    }

    pub(super) fn range<T: PartialOrd + Display>(&mut self, key: &str, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            self.add(key, format!("{value} is outside {} to {}", range.start(), range.end()));
        }
    }

    pub(super) fn one_of<T: Copy>(&mut self, key: &str, text: &str, choices: &[(&str, T)]) -> Option<T> {
        let choice = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if choice.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let given = if text.is_empty() { "it is not set".to_owned() } else { format!("`{text}` is not known") };
            self.add(key, format!("{given}; choose one of {}", names.join(", ")));
        }
        choice
    }

    pub(super) fn base_units(&mut self, key: &str, text: &DecimalText) -> u128 {
        let digits = text.0.as_str();
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || (digits.len() > 1 && digits.starts_with('0')) {
            self.add(
                key,
                format!("`{digits}` is not an amount; write whole base units in digits, such as \"1000000\""),
            );
            return 0;
        }
        match digits.parse::<u128>() {
            Ok(units) if units <= MAX_BASE_UNITS => units,
            _ => {
                self.add(key, format!("{digits} is past the largest amount, {MAX_BASE_UNITS}"));
                0
            }
        }
    }

    /// A rate between 0 and `most`, exactly as written.
    pub(super) fn rate(&mut self, key: &str, text: &DecimalText, most: u32) -> Decimal {
        match Decimal::from_str_exact(&text.0) {
            Ok(rate) if rate >= Decimal::ZERO && rate <= Decimal::from(most) => rate,
            Ok(rate) => {
                self.add(key, format!("{rate} is outside 0 to {most}; a rate is a fraction: \"0.05\" is 5 percent"));
                Decimal::ZERO
            }
            Err(_) => {
                let problem = format!("`{}` is not a rate; write a fraction such as \"0.05\"", text.0);
                self.add(key, problem);
                Decimal::ZERO
            }
        }
    }

    fn moment(&mut self, key: &str, text: &str) -> Option<Timestamp> {
        match text.parse::<Timestamp>() {
            Ok(moment) => Some(moment),
            Err(_) => {
                self.add(key, format!("`{text}` is not a time; write it as 2026-11-22T00:00:00Z"));
                None
            }
        }
    }

    pub(super) fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            self.add(key, format!("`{text}` is not an address; write it as 127.0.0.1:7070"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn id(&mut self, key: &str, text: &str, most: usize, rule: &str, allowed: fn(u8) -> bool) {
        if text.is_empty() || text.len() > most || !text.bytes().all(allowed) {
            self.add(key, format!("`{text}` is not valid: it has to be 1 to {most} {rule}"));
        }
    }
}

/// Checks everything and reports every problem.
pub(super) fn check(raw: Raw) -> Result<Config, ConfigError> {
    let mut problems = Problems(Vec::new());
    let config = Config {
        listen: access::listen(&mut problems, &raw),
        metrics_listen: problems.address("metrics_listen", &raw.metrics_listen),
        data_dir: PathBuf::from(&raw.data_dir),
        backup_dir: (!raw.backup_dir.is_empty()).then(|| PathBuf::from(&raw.backup_dir)),
        allow_remote_metrics: raw.allow_remote_metrics,
        allow_simulated: raw.allow_simulated,
        tls: access::tls(&mut problems, &raw.tls),
        identity: access::identity(&mut problems, &raw.identity),
        reflection: reflection(&mut problems, &raw.reflection),
        clock: clock(&mut problems, &raw.clock),
        log: log(&mut problems, &raw),
        pools: raw.pools.iter().enumerate().map(|(index, pool)| check_pool(&mut problems, index, pool)).collect(),
        sources: raw.sources.clone(),
        limits: raw.limits.clone(),
        feed: raw.feed.clone(),
        book: raw.book.clone(),
        intervals: raw.intervals.clone(),
        operations: raw.operations.clone(),
    };
    if raw.data_dir.is_empty() {
        problems.add("data_dir", "it is empty; name a folder, such as ./softstake-data");
    }
    if config.backup_dir.as_ref().is_some_and(|folder| folder.starts_with(&config.data_dir)) {
        problems.add("backup_dir", "it lies in data_dir, and would be lost with it; name a folder elsewhere");
    }
    numbers(&mut problems, &config);
    names(&mut problems, &config);
    chains(&mut problems, &raw);
    access::exposure(&mut problems, &raw, &config);
    if problems.0.is_empty() { Ok(config) } else { Err(ConfigError::Refused(problems.0)) }
}

fn clock(problems: &mut Problems, raw: &RawClock) -> ClockSettings {
    let start_ms = raw.start.as_deref().and_then(|text| problems.moment("clock.start", text));
    let start_ms = start_ms.map(Timestamp::as_millisecond);
    problems.range("clock.factor", raw.factor, 1..=86_400);
    let system = ClockSettings::System;
    let manual = ClockSettings::Manual { start_ms };
    let accelerated = ClockSettings::Accelerated { start_ms, factor: raw.factor };
    let choices = [("system", system), ("manual", manual), ("accelerated", accelerated)];
    let clock = problems.one_of("clock.kind", &raw.kind, &choices).unwrap_or(system);
    if clock == system && start_ms.is_some() && raw.kind == "system" {
        problems.add("clock.start", "the system clock can't be set; remove it, or choose another clock.kind");
    }
    clock
}

fn reflection(problems: &mut Problems, text: &str) -> Reflection {
    let choices = [("auto", Reflection::Auto), ("on", Reflection::On), ("off", Reflection::Off)];
    problems.one_of("reflection", text, &choices).unwrap_or(Reflection::Auto)
}

fn log(problems: &mut Problems, raw: &Raw) -> LogSettings {
    let choices = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let format = problems.one_of("log.format", &raw.log.format, &choices).unwrap_or(LogFormat::Json);
    // What reads a filter panics at some that are not ASCII, and no name that one may have here is.
    if !raw.log.level.is_ascii() {
        problems.add("log.level", "is not ASCII; write a level (error, warn, info, debug, trace) or a filter");
    } else if let Err(error) = tracing_subscriber::EnvFilter::try_new(&raw.log.level) {
        problems.add("log.level", format!("{error}; write a level (error, warn, info, debug, trace) or a filter"));
    }
    LogSettings { format, level: raw.log.level.clone() }
}

fn numbers(problems: &mut Problems, config: &Config) {
    super::limits::check(problems, &config.limits);
    let feed = &config.feed;
    problems.range("feed.max_skew_seconds", feed.max_skew_seconds, 0..=3_600);
    problems.range("feed.max_future_seconds", feed.max_future_seconds, 0..=DAY_SECONDS);
    problems.range("feed.max_lateness_seconds", feed.max_lateness_seconds, 0..=31 * DAY_SECONDS);
    problems.range("feed.close_grace_seconds", feed.close_grace_seconds, 0..=7 * DAY_SECONDS);
    for (index, pool) in config.pools.iter().enumerate() {
        if feed.close_grace_seconds >= u64::from(pool.period_seconds) {
            let key = format!("pools[{index}].period_seconds");
            problems
                .add(key, format!("it has to be longer than feed.close_grace_seconds, {}", feed.close_grace_seconds));
        }
    }
    let book = &config.book;
    problems.range("book.partitions", book.partitions, 1..=64);
    problems.range("book.group_max_events", book.group_max_events, 1..=100_000);
    problems.range("book.queue_commands", book.queue_commands, 1..=1_000_000);
    problems.range("book.checkpoint_journal_bytes", book.checkpoint_journal_bytes, 65_536..=1_u64 << 40);
    problems.range("book.queue_events", book.queue_events, config.limits.max_batch_events..=100_000_000);
    let every = &config.intervals;
    problems.range("intervals.tick_ms", every.tick_ms, 10..=60_000);
    problems.range("intervals.observe_interval_seconds", every.observe_interval_seconds, 1..=DAY_SECONDS);
    problems.range("intervals.rebalance_interval_seconds", every.rebalance_interval_seconds, 60..=DAY_SECONDS);
    problems.range(
        "intervals.collect_before_end_seconds",
        every.collect_before_end_seconds,
        every.rebalance_interval_seconds..=DAY_SECONDS,
    );
    let tries = &config.operations;
    problems.range("operations.retry_base_seconds", tries.retry_base_seconds, 1..=3_600);
    problems.range("operations.max_attempts", tries.max_attempts, 1..=1_000);
    problems.range("operations.max_age_seconds", tries.max_age_seconds, 60..=31 * DAY_SECONDS);
    problems.range("operations.call_timeout_ms", tries.call_timeout_ms, 100..=600_000);
}

fn names(problems: &mut Problems, config: &Config) {
    if config.sources.is_empty() {
        problems.add("sources", "there is none; name at least one producer of balance events, such as \"ledger\"");
    }
    for (index, source) in config.sources.iter().enumerate() {
        let key = format!("sources[{index}]");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        problems.id(&key, source, 64, "letters, digits, hyphens, dots or underscores", allowed);
        if RESERVED_SOURCES.contains(&source.as_str()) {
            problems.add(&key, format!("`{source}` is the service's own source; choose another name"));
        }
        if config.sources.iter().take(index).any(|earlier| earlier == source) {
            problems.add(&key, format!("`{source}` stands here twice; remove one"));
        }
    }
    if config.pools.is_empty() {
        problems.add("pools", "there is none; add a [[pools]] section, or run without a file for the simulated ones");
    }
    for (index, pool) in config.pools.iter().enumerate() {
        let key = format!("pools[{index}].id");
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        problems.id(&key, &pool.id, 32, "lower-case letters, digits or hyphens", allowed);
        let earlier = config.pools.get(..index).unwrap_or_default();
        if earlier.iter().any(|other| other.id == pool.id) {
            problems.add(&key, format!("another pool is called `{}` already; choose another name", pool.id));
        }
        if earlier.iter().any(|other| other.asset == pool.asset) {
            let key = format!("pools[{index}].asset");
            problems.add(key, format!("another pool stakes {} already; one chain's asset has one pool", pool.asset));
        }
    }
}

/// The kinds of chains: known ones, not mixed, and none that this build can't run.
fn chains(problems: &mut Problems, raw: &Raw) {
    const REAL: [&str; 6] = ["cosmos", "polkadot", "tron", "near", "aptos", "remote"];
    let simulated = raw.pools.iter().any(|pool| pool.chain.kind == "simulated");
    for (index, pool) in raw.pools.iter().enumerate() {
        let kind = pool.chain.kind.as_str();
        let key = format!("pools[{index}].chain.kind");
        if kind == "simulated" {
            continue;
        }
        if REAL.contains(&kind) && simulated {
            let problem =
                "simulated and real chains don't mix in one service; run two services, each with its own data_dir";
            problems.add(&key, problem);
        }
        problems.add(&key, format!("there is no adapter for `{kind}` in this build; the one there is: simulated"));
    }
}

impl ChainSettings {
    /// Whether nothing there is real.
    pub fn is_simulated(&self) -> bool {
        match self {
            Self::Simulated(_) => true,
        }
    }
}

fn check_pool(problems: &mut Problems, index: usize, raw: &RawPool) -> PoolSettings {
    let key = |name: &str| format!("pools[{index}].{name}");
    problems.range(&key("period_seconds"), u64::from(raw.period_seconds), 60..=31 * DAY_SECONDS);
    let first = raw.first_period_start.as_deref();
    let first = first.and_then(|text| problems.moment(&key("first_period_start"), text)).map(Timestamp::as_second);
    if first.is_some_and(|start| start.checked_rem(i64::from(raw.period_seconds)).is_none_or(|rest| rest != 0)) {
        problems.add(key("first_period_start"), format!(
            "it has to be a whole multiple of period_seconds, {}, after 1970-01-01T00:00:00Z; for days, a midnight in UTC",
            raw.period_seconds
        ));
    }
    let reserve = &raw.reserve;
    problems.range(&key("reserve.ratio_bps"), reserve.ratio_bps, 0..=BPS);
    problems.range(&key("reserve.custody_share_bps"), reserve.custody_share_bps, 0..=BPS);
    problems.range(&key("reserve.hysteresis_bps"), reserve.hysteresis_bps, 0..=BPS);
    problems.range(&key("reserve.forecast_percentile_bps"), reserve.forecast_percentile_bps, 1..=BPS);
    problems.range(&key("reserve.forecast_windows"), reserve.forecast_windows, 1..=512);
    problems.range(&key("reserve.forecast_ceiling_bps"), reserve.forecast_ceiling_bps, 1..=BPS);
    problems.range(&key("reserve.max_outflow_per_run_bps"), reserve.max_outflow_per_run_bps, 0..=BPS);
    problems.range(&key("reserve.max_outflow_per_day_bps"), reserve.max_outflow_per_day_bps, 0..=BPS);
    if let Some(address) = &reserve.custody_address
        && (!(1..=128).contains(&address.len()) || !address.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        problems.add(key("reserve.custody_address"), "it is 1 to 128 bytes of printable ASCII without spaces");
    }
    problems.range(&key("reserve.horizon_seconds"), reserve.horizon_seconds, 0..=60 * DAY_SECONDS);
    let caps = &raw.allocation;
    problems.range(&key("allocation.max_share_bps"), caps.max_share_bps, 1..=BPS);
    problems.range(&key("allocation.max_group_share_bps"), caps.max_group_share_bps, caps.max_share_bps.min(BPS)..=BPS);
    problems.range(&key("allocation.max_validators"), caps.max_validators, 1..=48);
    let house = HouseSettings {
        float_floor_base_units: problems
            .base_units(&key("house.float_floor_base_units"), &raw.house.float_floor_base_units),
        float_target_base_units: problems
            .base_units(&key("house.float_target_base_units"), &raw.house.float_target_base_units),
    };
    if house.float_target_base_units < house.float_floor_base_units {
        problems
            .add(key("house.float_target_base_units"), "it is below float_floor_base_units; raise it to that at least");
    }
    let max_change = reserve.max_change_per_run_base_units.as_ref();
    let max_change = max_change.map(|text| {
        let units = problems.base_units(&key("reserve.max_change_per_run_base_units"), text);
        if units == 0 {
            problems
                .add(key("reserve.max_change_per_run_base_units"), "with 0 nothing ever moves; remove it for no limit");
        }
        units
    });
    PoolSettings {
        id: raw.id.clone(),
        asset: raw.asset.clone(),
        create: raw.create,
        period_seconds: raw.period_seconds,
        first_period_start_seconds: first,
        chain: chain(problems, index, &raw.asset, &raw.chain),
        policy: policy(problems, index, &raw.policy),
        reserve: ReserveSettings {
            ratio_bps: reserve.ratio_bps,
            floor_base_units: problems.base_units(&key("reserve.floor_base_units"), &reserve.floor_base_units),
            custody_share_bps: reserve.custody_share_bps,
            hysteresis_bps: reserve.hysteresis_bps,
            min_move_base_units: problems.base_units(&key("reserve.min_move_base_units"), &reserve.min_move_base_units),
            max_change_per_run_base_units: max_change,
            forecast_percentile_bps: reserve.forecast_percentile_bps,
            forecast_windows: reserve.forecast_windows,
            forecast_ceiling_bps: reserve.forecast_ceiling_bps,
            max_outflow_per_run_bps: reserve.max_outflow_per_run_bps,
            max_outflow_per_day_bps: reserve.max_outflow_per_day_bps,
            custody_address: reserve.custody_address.clone(),
            horizon_seconds: reserve.horizon_seconds,
        },
        house,
        allocation: AllocationSettings {
            max_share_bps: caps.max_share_bps,
            max_group_share_bps: caps.max_group_share_bps,
            max_commission: problems.rate(&key("allocation.max_commission"), &caps.max_commission, 1),
            max_validators: caps.max_validators,
        },
        release: super::release::check(problems, index, &raw.release),
        reconcile: ReconcileSettings {
            tolerance_base_units: problems
                .base_units(&key("reconcile.tolerance_base_units"), &raw.reconcile.tolerance_base_units),
        },
    }
}

fn chain(problems: &mut Problems, index: usize, asset: &str, raw: &RawChain) -> ChainSettings {
    let key = |name: &str| format!("pools[{index}].chain.{name}");
    let mut settings = SimulatedSettings {
        preset: Preset::Atom,
        seed: raw.seed,
        apr: None,
        validators_csv: raw.validators_csv.as_ref().map(PathBuf::from),
        custody: CustodyMode::Automatic,
        custody_genesis_base_units: 0,
        unbonding_seconds: raw.unbonding_seconds,
        epoch_seconds: raw.epoch_seconds,
    };
    if raw.kind != "simulated" {
        return ChainSettings::Simulated(settings);
    }
    let presets = Preset::ALL.map(|preset| (preset.name(), preset));
    if let Some(preset) = problems.one_of(&key("preset"), &raw.preset, &presets) {
        settings.preset = preset;
        if asset != preset.asset() {
            let problem = format!("`{asset}` is not what the {} chain issues; set {}", preset.name(), preset.asset());
            problems.add(format!("pools[{index}].asset"), problem);
        }
    }
    settings.apr = raw.apr.as_ref().map(|text| problems.rate(&key("apr"), text, 1));
    if settings.apr.is_some_and(|apr| apr.normalize().scale() > 4) {
        problems.add(key("apr"), "it is finer than a hundredth of a percent; write four decimals at most");
    }
    let custody = [("automatic", CustodyMode::Automatic), ("external", CustodyMode::External)];
    settings.custody = problems.one_of(&key("custody"), &raw.custody, &custody).unwrap_or(settings.custody);
    settings.custody_genesis_base_units =
        problems.base_units(&key("custody_genesis_base_units"), &raw.custody_genesis_base_units);
    if let Some(seconds) = raw.unbonding_seconds {
        problems.range(&key("unbonding_seconds"), seconds, 1..=60 * DAY_SECONDS);
    }
    if let Some(seconds) = raw.epoch_seconds {
        problems.range(&key("epoch_seconds"), seconds, 1..=7 * DAY_SECONDS);
    }
    ChainSettings::Simulated(settings)
}

fn policy(problems: &mut Problems, index: usize, raw: &RawPolicy) -> PolicySettings {
    let key = |name: &str| format!("pools[{index}].policy.{name}");
    let minimum_base_units = problems.base_units(&key("minimum_base_units"), &raw.minimum_base_units);
    let cap_base_units = raw.cap_base_units.as_ref().map(|text| problems.base_units(&key("cap_base_units"), text));
    if cap_base_units.is_some_and(|cap| cap < minimum_base_units || cap == 0) {
        problems
            .add(key("cap_base_units"), "it is zero or below minimum_base_units; raise it, or remove it for no cap");
    }
    problems.range(&key("fee_bps"), raw.fee_bps, 0..=BPS);
    let payout_unit_base_units = problems.base_units(&key("payout_unit_base_units"), &raw.payout_unit_base_units);
    if payout_unit_base_units == 0 {
        problems.add(key("payout_unit_base_units"), "a payout is a multiple of it; set \"1\" or more");
    }
    let fixed = problems.one_of(&key("reward"), &raw.reward, &[("pro_rata", false), ("fixed_apr", true)]);
    let reward = match (fixed.unwrap_or(false), &raw.fixed_apr) {
        (true, Some(text)) => RewardSettings::FixedApr(problems.rate(&key("fixed_apr"), text, 1)),
        (true, None) => {
            problems.add(key("fixed_apr"), "it is not set; write the promised yearly rate, such as \"0.05\"");
            RewardSettings::ProRata
        }
        (false, Some(_)) => {
            problems.add(key("fixed_apr"), "it is set, and nothing reads it; set reward = \"fixed_apr\" or remove it");
            RewardSettings::ProRata
        }
        (false, None) => RewardSettings::ProRata,
    };
    let enrolment = [("automatic", EnrolmentMode::Automatic), ("opt_in", EnrolmentMode::OptIn)];
    let enrolment = problems.one_of(&key("enrolment"), &raw.enrolment, &enrolment).unwrap_or(EnrolmentMode::Automatic);
    let slash =
        [("platform_absorbs", SlashSettings::PlatformAbsorbs), ("rewards_absorb", SlashSettings::RewardsAbsorb)];
    let slash = problems.one_of(&key("slash"), &raw.slash, &slash).unwrap_or(SlashSettings::PlatformAbsorbs);
    if slash == SlashSettings::RewardsAbsorb && fixed == Some(true) {
        problems.add(key("slash"), "rewards_absorb does not go together with fixed_apr; set platform_absorbs");
    }
    PolicySettings {
        minimum_base_units,
        cap_base_units,
        fee_bps: raw.fee_bps,
        reward,
        payout_unit_base_units,
        enrolment,
        slash,
    }
}
