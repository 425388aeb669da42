//! What is expected to leave a pool, from how its eligible total ran through its frozen periods.

use crate::domain::amount::{AmountError, BaseUnits, SignedUnits};
use crate::domain::forecast::{self, Covered, Forecast, ForecastTerms, Outflow};
use crate::domain::period::{PeriodIndex, PeriodState};
use crate::domain::policy::ReserveSettings;
use crate::domain::reserve;
use crate::store::{Direction, KeyRange, keys};

use super::records::Record;
use super::{App, AppError, Pool, close};

/// What is expected to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What was asked of the history.
    pub terms: ForecastTerms,
    /// What it says.
    pub forecast: Forecast,
    history: Vec<Outflow>,
}

fn broken(error: AmountError) -> AppError {
    AppError::Broken(format!("the forecast: {error}"))
}

impl Outlook {
    /// What the reserve of a pool of `eligible_total` is sized for.
    pub fn expected(&self, settings: &ReserveSettings, eligible_total: BaseUnits) -> Result<BaseUnits, AppError> {
        let ReserveSettings { forecast_ceiling_bps, reserve_floor, .. } = settings;
        let outflow = self.forecast.outflow;
        reserve::expected_outflow(outflow, eligible_total, *forecast_ceiling_bps, *reserve_floor).map_err(broken)
    }

    /// For how long `reserve` covers what leaves.
    pub fn covered(&self, reserve: SignedUnits) -> Result<Covered, AppError> {
        forecast::covered(&self.history, &self.terms, reserve).map_err(broken)
    }
}

/// The summary of a frozen period, from its curve.
pub(super) async fn summary(app: &App, pool: &Pool, index: PeriodIndex) -> Result<Outflow, AppError> {
    let curve = app.book.frozen_curve(pool.number(), index).await?;
    let curve = curve.ok_or_else(|| AppError::Broken(format!("the book has no curve of period {index}")))?;
    Outflow::of(&curve).map_err(broken)
}

impl App {
    /// What the latest frozen periods say of what may leave. A window is as long as the chain's unbonding, in periods as
    /// long as the latest.
    pub async fn outlook(&self, pool: &Pool, settings: &ReserveSettings) -> Result<Outlook, AppError> {
        let latest = match close::oldest(self, pool, PeriodState::Open).await? {
            Some(open) => Some(open),
            None => self.last_period(pool).await?,
        };
        let period_seconds = latest.as_ref().map_or(1, |period| period.bounds.seconds());
        let terms = ForecastTerms {
            percentile_bps: settings.forecast_percentile_bps,
            windows: settings.forecast_windows,
            window_periods: forecast::window_periods(pool.chain.descriptor.unbonding_seconds, period_seconds),
        };
        let frozen = latest.map_or(0, |period| period.index.0);
        let history = self.outflows(pool, frozen, terms.periods()).await?;
        let forecast = forecast::forecast(&history, &terms).map_err(broken)?;
        Ok(Outlook { terms, forecast, history })
    }

    /// The summaries of up to `count` periods before `end`, earliest first. What was not kept is computed again from the
    /// frozen curve.
    async fn outflows(&self, pool: &Pool, end: u64, count: usize) -> Result<Vec<Outflow>, AppError> {
        let first = end.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        let range = KeyRange { from: keys::outflow(first), to: keys::outflow(end) };
        let found = self.store.scan(pool.control(), range, count, Direction::Forward).await?;
        let mut kept = found.iter().peekable();
        let mut history = Vec::with_capacity(found.len());
        for index in first..end {
            let here = kept.next_if(|(key, _)| keys::parse_outflow(key) == Some(index));
            history.push(match here {
                Some((_, value)) => Outflow::decode(value)?,
                None => summary(self, pool, PeriodIndex(index)).await?,
            });
        }
        Ok(history)
    }
}

#[cfg(test)]
#[path = "forecast_tests.rs"]
mod tests;
