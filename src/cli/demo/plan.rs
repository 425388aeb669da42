//! From the arguments to what will be lived: which pools, who holds what, and what happens when.

use std::path::PathBuf;

use super::amounts::one_token;
use super::input::{self, InputError};
use super::population;
use super::reference::Rules;
use super::{DemoArgs, DemoError};
use crate::config::Preset;

/// 2026-11-22T00:00:00Z, where every run begins.
pub(super) const START: i64 = 1_795_305_600;

/// Seconds of a day, which is a period.
pub(super) const DAY: i64 = 86_400;

/// Seconds of a step, but where something happens in between.
pub(super) const HOUR: i64 = 3_600;

/// One pool as it begins.
#[derive(Clone, Debug)]
pub(super) struct PoolPlan {
    pub(super) preset: Preset,
    /// Who holds what, in base units.
    pub(super) opening: Vec<(String, u128)>,
    pub(super) rules: Rules,
    pub(super) validators_csv: Option<PathBuf>,
}

impl PoolPlan {
    /// The sum of the opening balances.
    pub(super) fn opening_total(&self) -> u128 {
        self.opening.iter().fold(0, |sum, (_, units)| sum.saturating_add(*units))
    }

    /// Its resource name.
    pub(super) fn name(&self) -> String {
        format!("pools/{}", self.preset.name())
    }

    /// Whether its chain moves stake between validators without unbonding.
    pub(super) fn redelegates(&self) -> bool {
        matches!(self.preset, Preset::Atom | Preset::Dot | Preset::Trx)
    }

    /// Days from undelegating to maturity, at the longest.
    pub(super) fn unbonding_days(&self) -> u32 {
        match self.preset {
            Preset::Atom => 21,
            Preset::Dot => 28,
            Preset::Trx | Preset::Apt => 14,
            Preset::Near => 2,
        }
    }
}

/// Everything that the run is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) days: u32,
    pub(super) pools: Vec<PoolPlan>,
}

/// When the events of the story happen: seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Story {
    /// Two accounts opt out.
    pub(super) opt_out: i64,
    /// A validator is taken off in each pool.
    pub(super) validator_removed: i64,
    /// From here on, for an hour, most balances leave.
    pub(super) mass_withdrawal: i64,
    /// The server is killed.
    pub(super) kill: i64,
    /// One of the two opts in again.
    pub(super) opt_in: i64,
    /// The last period ends.
    pub(super) end: i64,
}

impl Plan {
    /// Reads the files, draws the population.
    pub(super) fn new(args: &DemoArgs) -> Result<Self, DemoError> {
        let mut balances = match &args.balances {
            Some(path) => input::balances(path)?,
            None => input::Balances::new(),
        };
        let presets = match (&args.preset, balances.is_empty()) {
            (Some(presets), _) => presets.clone(),
            (None, true) => vec![Preset::Atom, Preset::Dot, Preset::Near],
            (None, false) => Preset::ALL.into_iter().filter(|preset| balances.contains_key(preset.asset())).collect(),
        };
        if let Some(preset) = presets.iter().enumerate().find(|(i, preset)| presets[..*i].contains(preset)) {
            return Err(DemoError::Arguments(format!("--preset names {} twice", preset.1.name())));
        }
        if let Some(asset) = balances.keys().find(|asset| presets.iter().all(|preset| preset.asset() != **asset)) {
            return Err(DemoError::Arguments(format!("--balances has {asset}, and --preset names no pool for it")));
        }
        let mut validators_csv = match &args.validators {
            Some(path) => Some(validators(path)?),
            None => None,
        };
        let pools = presets
            .into_iter()
            .map(|preset| {
                let minimum = one_token(preset) / 100;
                let opening = balances
                    .remove(preset.asset())
                    .unwrap_or_else(|| population::seeded(args.seed, preset, minimum, args.accounts));
                // One pool has a cap, which its largest account is above.
                let largest = opening.iter().map(|(_, units)| *units).max().unwrap_or(0);
                let cap = (preset == Preset::Dot && largest / 2 > minimum).then_some(largest / 2);
                let rules = Rules { minimum, cap, fee_bps: 1_000 };
                PoolPlan { preset, opening, rules, validators_csv: validators_csv.take() }
            })
            .collect();
        Ok(Self { seed: args.seed, days: args.days, pools })
    }

    /// When things happen. Short runs have the same story, closer together.
    pub(super) fn story(&self) -> Story {
        let day = |wanted: u32, share: u32| START + i64::from(wanted.min(self.days / share)) * DAY;
        Story {
            opt_out: day(3, 6) + 13 * HOUR + 20 * 60 + 37,
            validator_removed: day(4, 5) + 9 * HOUR,
            mass_withdrawal: day(6, 4) + 10 * HOUR,
            kill: day(10, 2) + HOUR,
            opt_in: day(12, 2) + 17 * HOUR + 45 * 60 + 10,
            end: START + i64::from(self.days) * DAY,
        }
    }
}

/// The file checked, under a path that holds for the server too.
fn validators(path: &std::path::Path) -> Result<PathBuf, DemoError> {
    input::check_validators(path)?;
    std::path::absolute(path)
        .map_err(|error| InputError::Unreadable { path: path.to_owned(), problem: error.to_string() }.into())
}

/// The moments at which the run stops to act: every hour, and where the story says so.
pub(super) fn steps(story: &Story) -> Vec<i64> {
    let mut out: Vec<i64> = (1..).map(|hour| START + hour * HOUR).take_while(|at| *at <= story.end).collect();
    out.extend([story.opt_out, story.opt_in].into_iter().filter(|at| *at < story.end));
    out.sort_unstable();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(days: u32) -> Plan {
        Plan { seed: 1, days, pools: Vec::new() }
    }

    #[test]
    fn a_run_of_thirty_days_leaves_time_for_the_longest_wait_of_atom() {
        let story = plan(30).story();
        assert!(story.mass_withdrawal < START + 8 * DAY);
        assert!(story.mass_withdrawal + 22 * DAY < story.end);
        assert!(story.opt_out < story.validator_removed && story.mass_withdrawal < story.kill);
    }

    #[test]
    fn even_one_day_has_the_whole_story() {
        for days in [1, 2, 3, 5, 9] {
            let story = plan(days).story();
            for at in [story.opt_out, story.validator_removed, story.mass_withdrawal, story.kill, story.opt_in] {
                assert!(at > START && at < story.end, "{days} days: {story:?}");
            }
        }
    }

    #[test]
    fn steps_are_hours_and_the_story_in_order() {
        let story = plan(2).story();
        let steps = steps(&story);
        assert_eq!(steps.len(), 48 + 2);
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= HOUR));
        assert_eq!(steps.last(), Some(&story.end));
        assert!(steps.contains(&story.opt_out) && steps.contains(&(START + DAY)));
    }
}
