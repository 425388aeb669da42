//! What a distribution must keep to be released without a person, as it is written and as it is kept.

use serde::{Deserialize, Serialize};

use super::ReleaseSettings;
use super::check::Problems;
use super::raw::{DecimalText, decimal};

/// The highest limit on a rate: nothing is ever above it.
const MAX_RATE: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawRelease {
    pub approval_required: bool,
    pub max_house_in_base_units: Option<DecimalText>,
    pub max_apr: DecimalText,
    pub max_apr_change: DecimalText,
    pub max_receipts_bps: u32,
}

impl Default for RawRelease {
    fn default() -> Self {
        Self {
            approval_required: false,
            max_house_in_base_units: None,
            max_apr: decimal("0.5"),
            max_apr_change: decimal("1"),
            max_receipts_bps: 200,
        }
    }
}

/// A limit of zero would hold every distribution; whoever wants none sets one that is never reached.
pub(super) fn check(problems: &mut Problems, index: usize, raw: &RawRelease) -> ReleaseSettings {
    let key = |name: &str| format!("pools[{index}].release.{name}");
    let mut limit = |name: &str, text: &DecimalText| {
        let rate = problems.rate(&key(name), text, MAX_RATE);
        if text.0 == "0" {
            problems.add(key(name), "with 0 every distribution is held; set approval_required for that");
        }
        rate
    };
    let (max_apr, max_apr_change) = (limit("max_apr", &raw.max_apr), limit("max_apr_change", &raw.max_apr_change));
    problems.range(&key("max_receipts_bps"), raw.max_receipts_bps, 1..=u32::MAX);
    let house_in = raw.max_house_in_base_units.as_ref();
    ReleaseSettings {
        approval_required: raw.approval_required,
        max_house_in_base_units: house_in.map(|text| problems.base_units(&key("max_house_in_base_units"), text)),
        max_apr,
        max_apr_change,
        max_receipts_bps: raw.max_receipts_bps,
    }
}
