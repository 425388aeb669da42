//! The split of one distribution, each payout by one wide division.

use std::collections::BTreeMap;

use ruint::aliases::{U256, U512};

use super::input::{Figures, Period};

/// The seconds of the year that annual rates are of.
const YEAR: u64 = 365 * 24 * 3_600;

/// What a distribution has to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Split {
    pub(super) figures: Figures,
    /// Every payout above zero.
    pub(super) payouts: BTreeMap<String, u128>,
    /// Why the figures can't be, where they can't.
    pub(super) impossible: Option<&'static str>,
}

/// `q x floor(amount x weight / (divisor x q))`; nothing where there is nothing to divide by.
fn part(amount: U256, weight: U256, divisor: U256, unit: u128) -> u128 {
    let below = U512::from(divisor) * U512::from(unit);
    if below.is_zero() {
        return 0;
    }
    let whole = U512::from(amount) * U512::from(weight) / below * U512::from(unit);
    u128::try_from(whole).unwrap_or(u128::MAX)
}

/// The share of the receipts that the operator keeps.
fn fee_of(receipts: u128, bps: u32) -> u128 {
    part(U256::from(receipts), U256::from(bps), U256::from(10_000), 1)
}

/// Splits receipts and carry over the weights, of which the house's is one.
pub(super) fn split(
    period: &Period,
    receipts: u128,
    carry_in: u128,
    owed: u128,
    weights: &BTreeMap<String, U256>,
    house_weight: U256,
) -> Split {
    let fee = fee_of(receipts, period.fee_bps);
    let after_fee = receipts + carry_in - fee;
    let pay = |share: &dyn Fn(U256) -> u128| -> BTreeMap<String, u128> {
        let shares = weights.iter().map(|(account, weight)| (account.clone(), share(*weight)));
        shares.filter(|(_, amount)| *amount > 0).collect()
    };
    if let Some((numerator, denominator)) = period.fixed_apr {
        let year = U256::from(denominator) * U256::from(YEAR);
        let payouts = pay(&|weight| part(U256::from(numerator), weight, year, period.payout_unit));
        let paid: u128 = payouts.values().sum();
        let (house_in, house_out) = (paid.saturating_sub(after_fee), after_fee.saturating_sub(paid));
        let figures =
            Figures { receipts, carry_in, house_in, fee, recovery: 0, payouts: paid, house_out, carry_out: 0 };
        return Split { figures, payouts, impossible: None };
    }
    let recovery = owed.min(after_fee);
    let net = after_fee - recovery;
    let total = weights.values().fold(house_weight, |sum, weight| sum + *weight);
    let share = |weight: U256| part(U256::from(net), weight, total, period.payout_unit);
    let payouts = pay(&share);
    let (paid, house_out) = (payouts.values().sum::<u128>(), share(house_weight));
    let carry_out = net.checked_sub(paid + house_out);
    let impossible = carry_out.is_none().then_some("the shares add up to more than the net reward");
    let carry_out = carry_out.unwrap_or(0);
    let figures = Figures { receipts, carry_in, house_in: 0, fee, recovery, payouts: paid, house_out, carry_out };
    Split { figures, payouts, impossible }
}

/// The hash of a set of payouts: the sum modulo 2^256 of BLAKE3 over each one's length of the account's name (one byte),
/// the name, and the amount as 16 bytes, least significant first.
pub(super) fn set_hash(payouts: &BTreeMap<String, u128>) -> U256 {
    let mut sum = U256::ZERO;
    for (account, amount) in payouts {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[account.len() as u8]);
        hasher.update(account.as_bytes());
        hasher.update(&amount.to_le_bytes());
        sum = sum.wrapping_add(U256::from_le_bytes(*hasher.finalize().as_bytes()));
    }
    sum
}
