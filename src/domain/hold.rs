//! What a distribution must keep to be released without a person, and why one waits for one.
//!
//! Rates are compared exactly, as products of integers; a decimal is what an operator set or is shown.

use super::names::stable_names;
use std::fmt;

use ruint::aliases::{U256, U512};
use rust_decimal::Decimal;

use super::amount::BaseUnits;
use super::apr::PaidOn;
use super::distribution::Figures;
use super::payout::PayoutTally;
use super::split::WHOLE_BPS;
use super::time::UnixSeconds;

/// Why a distribution waits for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// The pool asks for an approval each time.
    ApprovalRequired,
    /// A receipt was earned over more than two periods, so that who joined late would share in it.
    ReceiptSpan {
        /// How many such receipts there are.
        receipts: u64,
        /// The longest interval among them.
        longest_seconds: u64,
        /// The length of two periods.
        limit_seconds: u64,
    },
    /// The house would add more than the limit.
    HouseIn {
        /// What it would add.
        house_in: BaseUnits,
        /// What it may add without an approval.
        limit: BaseUnits,
    },
    /// The positions computed are not the positions frozen.
    Incomplete {
        /// How many were frozen.
        frozen: u64,
        /// How many were paid or are below the unit.
        computed: u64,
    },
    /// The payouts come to a higher annual rate than the limit.
    Apr {
        /// The rate; `None` where it is past all measure.
        rate: Option<Decimal>,
        /// The highest that needs no approval.
        limit: Decimal,
    },
    /// The annual rate differs from the trailing one by more than the limit.
    AprChange {
        /// The rate.
        rate: Option<Decimal>,
        /// That of the trailing distributions together.
        trailing: Option<Decimal>,
        /// The largest difference, as a share of the trailing rate.
        limit: Decimal,
    },
    /// The receipts come to more of what earned in the period than the limit.
    Receipts {
        /// What they come to.
        receipts: BaseUnits,
        /// What earned on average.
        earning: U256,
        /// The most, in basis points.
        limit_bps: u32,
    },
    /// Receipts lie past the height up to which ledger and chain were found equal.
    Unreconciled {
        /// How many.
        receipts: u64,
        /// That height.
        height: u64,
    },
    /// The chain pays in another asset, or in other decimals, than the pool was created for.
    Asset,
}

stable_names!(
    HoldReason,
    /// The stable name.
    fn code(&self) {
        Self::ApprovalRequired => "APPROVAL_REQUIRED",
        Self::ReceiptSpan { .. } => "RECEIPT_SPANS_MORE_THAN_TWO_PERIODS",
        Self::HouseIn { .. } => "HOUSE_IN_ABOVE_LIMIT",
        Self::Incomplete { .. } => "POSITIONS_INCOMPLETE",
        Self::Apr { .. } => "APR_ABOVE_LIMIT",
        Self::AprChange { .. } => "APR_CHANGE_ABOVE_LIMIT",
        Self::Receipts { .. } => "RECEIPTS_ABOVE_LIMIT",
        Self::Unreconciled { .. } => "RECEIPTS_NOT_RECONCILED",
        Self::Asset => "ASSET_MISMATCH",
    }
);

fn shown(rate: &Option<Decimal>) -> String {
    rate.map_or_else(|| "past all measure".to_owned(), |rate| rate.to_string())
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApprovalRequired => f.write_str("the pool asks for an approval of every distribution"),
            Self::ReceiptSpan { receipts, longest_seconds, limit_seconds } => write!(
                f,
                "{receipts} receipts were earned over more than two periods ({limit_seconds} s), the longest over \
                 {longest_seconds} s"
            ),
            Self::HouseIn { house_in, limit } => {
                write!(f, "the house would add {house_in} base units, more than the limit of {limit}")
            }
            Self::Incomplete { frozen, computed } => {
                write!(f, "{frozen} positions were frozen, {computed} were computed")
            }
            Self::Apr { rate, limit } => {
                write!(f, "the payouts come to an annual rate of {}, above the limit of {limit}", shown(rate))
            }
            Self::AprChange { rate, trailing, limit } => write!(
                f,
                "the annual rate is {}, that of the trailing distributions {}; it may differ by {limit} of that",
                shown(rate),
                shown(trailing)
            ),
            Self::Receipts { receipts, earning, limit_bps } => write!(
                f,
                "the receipts of {receipts} base units are more than {limit_bps} basis points of the {earning} that earned"
            ),
            Self::Unreconciled { receipts, height } => {
                write!(f, "{receipts} receipts lie past height {height}, up to which ledger and chain agree")
            }
            Self::Asset => f.write_str("the chain pays in another asset or other decimals than the pool's"),
        }
    }
}

/// When a receipt was earned, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarnedOver {
    /// The first second.
    pub from: UnixSeconds,
    /// The first second after it.
    pub to: UnixSeconds,
    /// The height that it was paid at.
    pub height: u64,
}

/// How many released distributions have to be there before their rate is one to compare with: the first ones pay for
/// periods in which the pool was still being staked.
pub const MIN_TRAILING: u32 = 7;

/// What decides between held and approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// The length of the period.
    pub period_seconds: u64,
    /// What the house may add without an approval.
    pub max_house_in: BaseUnits,
    /// The highest annual rate on customers' weights.
    pub max_apr: Option<Decimal>,
    /// The largest difference to the trailing rate, as a share of it.
    pub max_apr_change: Option<Decimal>,
    /// The most that the receipts come to, in basis points of what earned.
    pub max_receipts_bps: Option<u32>,
}

/// What is known of a computed distribution beside its payouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessed<'a> {
    /// Its figures.
    pub figures: &'a Figures,
    /// The sum of all weights, the house's included.
    pub weight_total: U256,
    /// The house's weight.
    pub house_weight: U256,
    /// How many positions were frozen.
    pub frozen: u64,
    /// What the released distributions before it paid on customers' weights, and how many those were.
    pub trailing: (PaidOn, u32),
    /// The height up to which ledger and chain were found equal.
    pub reconciled_height: u64,
    /// Whether the chain still pays in the pool's asset.
    pub asset_matches: bool,
}

/// Everything that holds a distribution: empty where it may be approved by itself.
pub fn hold_reasons(
    limits: &HoldLimits,
    receipts: impl IntoIterator<Item = EarnedOver>,
    assessed: &Assessed<'_>,
    tally: &PayoutTally,
) -> Vec<HoldReason> {
    let mut reasons = Vec::new();
    let figures = assessed.figures;
    let limit_seconds = limits.period_seconds.saturating_mul(2);
    let (mut long, mut longest_seconds, mut unreconciled) = (0_u64, 0, 0);
    for earned in receipts {
        let span = earned.to.since(earned.from);
        if span > limit_seconds {
            long += 1;
            longest_seconds = span.max(longest_seconds);
        }
        unreconciled += u64::from(earned.height > assessed.reconciled_height);
    }
    if long > 0 {
        reasons.push(HoldReason::ReceiptSpan { receipts: long, longest_seconds, limit_seconds });
    }
    if unreconciled > 0 {
        reasons.push(HoldReason::Unreconciled { receipts: unreconciled, height: assessed.reconciled_height });
    }
    if !assessed.asset_matches {
        reasons.push(HoldReason::Asset);
    }
    if figures.house_in > limits.max_house_in {
        reasons.push(HoldReason::HouseIn { house_in: figures.house_in, limit: limits.max_house_in });
    }
    if let Some(limit_bps) = limits.max_receipts_bps
        && above_share(figures.receipts, limit_bps, assessed.weight_total, limits.period_seconds)
    {
        let earning = assessed.weight_total / U256::from(limits.period_seconds.max(1));
        reasons.push(HoldReason::Receipts { receipts: figures.receipts, earning, limit_bps });
    }
    let customers = assessed.weight_total.saturating_sub(assessed.house_weight);
    let paid = PaidOn { paid: U256::from(figures.payouts.get()), weight: customers };
    if let Some(limit) = limits.max_apr.filter(|limit| paid.is_above(*limit)) {
        reasons.push(HoldReason::Apr { rate: paid.rate(), limit });
    }
    let (trailing, periods) = assessed.trailing;
    let change = limits.max_apr_change.filter(|_| periods >= MIN_TRAILING);
    if let Some(limit) = change.filter(|limit| paid.differs_by_more_than(*limit, &trailing)) {
        reasons.push(HoldReason::AprChange { rate: paid.rate(), trailing: trailing.rate(), limit });
    }
    let (frozen, computed) = (assessed.frozen, tally.paid.count.saturating_add(tally.below_unit()));
    if computed != frozen {
        reasons.push(HoldReason::Incomplete { frozen, computed });
    }
    reasons
}

/// Whether `receipts` are more than `bps` of the average of `weight` over the period, exactly. Where nothing earned there
/// is no average.
fn above_share(receipts: BaseUnits, bps: u32, weight: U256, period_seconds: u64) -> bool {
    let left = U512::from(receipts.get()) * U512::from(WHOLE_BPS) * U512::from(period_seconds);
    !weight.is_zero() && left > U512::from(weight) * U512::from(bps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(n: u64) -> BaseUnits {
        BaseUnits::from_u64(n)
    }

    const LIMITS: HoldLimits = HoldLimits {
        period_seconds: 100,
        max_house_in: BaseUnits::from_u64(5),
        max_apr: None,
        max_apr_change: None,
        max_receipts_bps: None,
    };

    fn assessed(figures: &Figures) -> Assessed<'_> {
        Assessed {
            figures,
            weight_total: U256::from(1_000_000),
            house_weight: U256::from(200_000),
            frozen: 0,
            trailing: (PaidOn::default(), 0),
            reconciled_height: 9,
            asset_matches: true,
        }
    }

    fn codes(reasons: &[HoldReason]) -> Vec<&'static str> {
        reasons.iter().map(HoldReason::code).collect()
    }

    #[test]
    fn what_holds_a_distribution_is_named() {
        let over = |from, to| EarnedOver { from: UnixSeconds::new(from), to: UnixSeconds::new(to), height: 9 };
        let tally = PayoutTally { positions: 4, ..PayoutTally::default() };
        let five = Figures { house_in: units(5), ..Figures::default() };
        let fine = Assessed { frozen: 4, ..assessed(&five) };
        assert_eq!(hold_reasons(&LIMITS, [over(0, 100), over(-50, 150)], &fine, &tally), []);
        let six = Figures { house_in: units(6), ..Figures::default() };
        let bad = Assessed { frozen: 5, ..assessed(&six) };
        let reasons = hold_reasons(&LIMITS, [over(0, 201), over(0, 400), over(0, 1)], &bad, &tally);
        let expected = ["RECEIPT_SPANS_MORE_THAN_TWO_PERIODS", "HOUSE_IN_ABOVE_LIMIT", "POSITIONS_INCOMPLETE"];
        assert_eq!(codes(&reasons), expected);
        let span = HoldReason::ReceiptSpan { receipts: 2, longest_seconds: 400, limit_seconds: 200 };
        assert_eq!(reasons[0], span);
        assert_eq!(reasons[2].to_string(), "5 positions were frozen, 4 were computed");
        let late = EarnedOver { height: 10, ..over(0, 1) };
        let elsewhere = Assessed { asset_matches: false, ..fine };
        let reasons = hold_reasons(&LIMITS, [late, over(0, 1)], &elsewhere, &tally);
        assert_eq!(codes(&reasons), ["RECEIPTS_NOT_RECONCILED", "ASSET_MISMATCH"]);
        assert_eq!(reasons[0].to_string(), "1 receipts lie past height 9, up to which ledger and chain agree");
    }

    #[test]
    fn a_rate_that_cannot_be_is_held_to_the_last_base_unit() {
        let reasons = |limits: &HoldLimits, figures: &Figures, trailing: (PaidOn, u32)| {
            codes(&hold_reasons(limits, [], &Assessed { trailing, ..assessed(figures) }, &PayoutTally::default()))
        };
        let none = (PaidOn::default(), 0);
        // Two in a hundred of the 10,000 that earned on average.
        let receipts = HoldLimits { max_receipts_bps: Some(200), ..LIMITS };
        let got = |receipts| Figures { receipts: units(receipts), ..Figures::default() };
        assert!(reasons(&receipts, &got(200), none).is_empty());
        assert_eq!(reasons(&receipts, &got(201), none), ["RECEIPTS_ABOVE_LIMIT"]);
        // A base unit on 800,000 unit-seconds is an annual rate of 39.42.
        let paid = |payouts| Figures { payouts: units(payouts), ..Figures::default() };
        let apr = |limit| HoldLimits { max_apr: Some(limit), ..LIMITS };
        assert!(reasons(&apr(Decimal::new(3_942, 2)), &paid(1), none).is_empty());
        assert_eq!(reasons(&apr(Decimal::new(394_199_999, 7)), &paid(1), none), ["APR_ABOVE_LIMIT"]);
        // The trailing rate counts once there are seven.
        let before = |periods| (PaidOn { paid: U256::from(10), weight: U256::from(800_000) }, periods);
        let change = HoldLimits { max_apr_change: Some(Decimal::new(2, 1)), ..LIMITS };
        assert!(reasons(&change, &paid(12), before(7)).is_empty());
        assert_eq!(reasons(&change, &paid(13), before(7)), ["APR_CHANGE_ABOVE_LIMIT"]);
        assert_eq!(reasons(&change, &paid(7), before(7)), ["APR_CHANGE_ABOVE_LIMIT"]);
        assert!(reasons(&change, &paid(7), before(6)).is_empty());
    }
}
