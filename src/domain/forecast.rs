//! How much may leave: the outflow of past windows, and what of it a reserve should expect.
//!
//! A period keeps a small exact summary of how its eligible total ran. Summaries of neighbouring periods join into that
//! of the window they make; the jump between one's end and the next one's start, a change of policy, is left out.

use super::amount::{AmountError, BaseUnits, SignedUnits};
use super::curve::EligibleCurve;
use super::split::WHOLE_BPS;

/// How many windows have to be there before a percentile of them is a forecast: a week of daily periods. Of fewer it
/// would say what the last days happened to bring.
pub const MIN_WINDOWS: usize = 7;

/// The most periods that one window spans and one forecast reads, however short the periods are. A window that would be
/// longer is cut to it.
pub const MAX_PERIODS: usize = 512;

/// How the eligible total ran through a stretch of time. Of a joined one, all levels are relative to its first part's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outflow {
    /// The level at its start.
    pub first: SignedUnits,
    /// The level at its end.
    pub last: SignedUnits,
    /// The highest level.
    pub highest: SignedUnits,
    /// The lowest level.
    pub lowest: SignedUnits,
    /// The largest fall from a level to a later one.
    pub drawdown: BaseUnits,
}

impl Outflow {
    /// Of a stretch that stays at one level.
    pub const fn flat(level: SignedUnits) -> Self {
        Self { first: level, last: level, highest: level, lowest: level, drawdown: BaseUnits::ZERO }
    }

    /// The summary of one period's curve. What changes within one second counts as one change.
    pub fn of(curve: &EligibleCurve) -> Result<Self, AmountError> {
        let mut run = Self::flat(SignedUnits::new(curve.start_total()));
        for (_, change) in curve.changes() {
            let level = run.last.checked_add(SignedUnits::new(change))?;
            run = run.join(&Self { first: run.last, ..Self::step(run.last, level)? })?;
        }
        Ok(run)
    }

    /// From one level to the next.
    fn step(from: SignedUnits, to: SignedUnits) -> Result<Self, AmountError> {
        let drawdown = from.checked_sub(to)?.positive_part();
        Ok(Self { first: from, last: to, highest: from.max(to), lowest: from.min(to), drawdown })
    }

    /// This stretch and the one that follows it. Associative; the jump between the two is no outflow.
    pub fn join(&self, next: &Self) -> Result<Self, AmountError> {
        let shift = self.last.checked_sub(next.first)?;
        let lowest = next.lowest.checked_add(shift)?;
        let across = self.highest.checked_sub(lowest)?.positive_part();
        Ok(Self {
            first: self.first,
            last: next.last.checked_add(shift)?,
            highest: self.highest.max(next.highest.checked_add(shift)?),
            lowest: self.lowest.min(lowest),
            drawdown: self.drawdown.max(next.drawdown).max(across),
        })
    }
}

/// What is asked of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForecastTerms {
    /// The percentile, in basis points: 9,900 is P99.
    pub percentile_bps: u32,
    /// The most windows that count, the latest ones.
    pub windows: u32,
    /// How many periods one window spans: [`window_periods`].
    pub window_periods: usize,
}

impl ForecastTerms {
    /// How many of the latest periods have to be read.
    pub fn periods(&self) -> usize {
        let windows = usize::try_from(self.windows).unwrap_or(MAX_PERIODS);
        self.window_periods.saturating_add(windows).saturating_sub(1).min(MAX_PERIODS)
    }
}

/// How many whole periods an unbonding takes, the last one begun counted whole.
pub fn window_periods(unbonding_seconds: u64, period_seconds: u64) -> usize {
    let periods = unbonding_seconds.div_ceil(period_seconds.max(1)).max(1);
    // Half of what may be read, so that there are windows to take a percentile of.
    usize::try_from(periods).unwrap_or(usize::MAX).min(MAX_PERIODS / 2)
}

/// What the history says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The percentile of the outflow over one window; `None` while there is too little history.
    pub outflow: Option<BaseUnits>,
    /// How many windows there were.
    pub windows: u32,
}

/// For how long a reserve covers what may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// How many whole periods.
    pub periods: u32,
    /// What keeps it from being more.
    pub bound: CoverBound,
}

/// What bounds a coverage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoverBound {
    /// There is too little history to say more.
    History,
    /// The percentile of a longer stretch is above the reserve.
    Reserve,
}

impl CoverBound {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::History => "HISTORY",
            Self::Reserve => "RESERVE",
        }
    }
}

/// The percentile of the drawdown over windows of `history`, which is one summary a period, earliest first.
pub fn forecast(history: &[Outflow], terms: &ForecastTerms) -> Result<Forecast, AmountError> {
    let history = latest(history, terms);
    let mut windows = history.to_vec();
    for length in 1..terms.window_periods {
        lengthen(&mut windows, history, length)?;
    }
    let count = u32::try_from(windows.len()).unwrap_or(u32::MAX);
    let outflow = (windows.len() >= MIN_WINDOWS).then(|| percentile(&windows, terms.percentile_bps));
    Ok(Forecast { outflow, windows: count })
}

/// The largest whole number of periods such that `reserve` covers the percentile of every stretch up to so long.
pub fn covered(history: &[Outflow], terms: &ForecastTerms, reserve: SignedUnits) -> Result<Covered, AmountError> {
    let history = latest(history, terms);
    let reserve = reserve.positive_part();
    let mut windows = history.to_vec();
    let mut periods = 0_u32;
    while windows.len() >= MIN_WINDOWS {
        if percentile(&windows, terms.percentile_bps) > reserve {
            return Ok(Covered { periods, bound: CoverBound::Reserve });
        }
        periods += 1;
        lengthen(&mut windows, history, periods as usize)?;
    }
    Ok(Covered { periods, bound: CoverBound::History })
}

fn latest<'a>(history: &'a [Outflow], terms: &ForecastTerms) -> &'a [Outflow] {
    &history[history.len().saturating_sub(terms.periods())..]
}

/// Makes windows of `length + 1` periods out of those of `length`.
fn lengthen(windows: &mut Vec<Outflow>, history: &[Outflow], length: usize) -> Result<(), AmountError> {
    windows.pop();
    for (window, next) in windows.iter_mut().zip(history.iter().skip(length)) {
        *window = window.join(next)?;
    }
    Ok(())
}

/// The nearest-rank percentile of the drawdowns: the smallest that at least so large a share of them does not exceed.
fn percentile(windows: &[Outflow], bps: u32) -> BaseUnits {
    let mut drawdowns: Vec<BaseUnits> = windows.iter().map(|window| window.drawdown).collect();
    drawdowns.sort_unstable();
    let rank = (drawdowns.len() as u64 * u64::from(bps.min(WHOLE_BPS))).div_ceil(u64::from(WHOLE_BPS)).max(1);
    let place = usize::try_from(rank - 1).unwrap_or(usize::MAX);
    drawdowns.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "forecast_tests.rs"]
mod tests;
