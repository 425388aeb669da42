//! The fixed annual rate against the reference.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use rust_decimal::Decimal;
use softstake::domain::amount::BaseUnits;
use softstake::domain::distribution::Figures;
use softstake::domain::fixed_apr::{AnnualRate, FixedAprTerms, FixedRate};
use softstake::domain::split::{FeeBps, PayoutUnit};

use crate::numbers::{amount, config, number, unit, units};
use crate::reference::{self, ReferenceTerms};

/// A rate from 0 to 1 with up to 28 decimals.
fn rate() -> impl Strategy<Value = (i128, u32)> {
    (0_u32..=28, number(94)).prop_map(|(scale, n)| ((n % (10_u128.pow(scale) + 1)) as i128, scale))
}

proptest! {
    #![proptest_config(config(0x5051_0003))]

    #[test]
    fn every_figure_is_the_reference_s(
        (mantissa, scale) in rate(),
        weights in prop::collection::vec(number(128), 0..16),
        (receipts, carry_in, fee_bps, payout_unit) in (amount(), amount(), 0_u32..=10_000, unit()),
    ) {
        let (receipts, carry_in) = (receipts / 2, carry_in / 2);
        let annual = AnnualRate::new(Decimal::from_i128_with_scale(mantissa, scale)).unwrap();
        let fraction = BigRational::new(mantissa.into(), BigInt::from(10).pow(scale));
        let ours = BigRational::new(annual.numerator().into(), annual.denominator().into());
        prop_assert_eq!(&ours, &fraction);

        let terms = ReferenceTerms { receipts, carry_in, house_in: 0, fee_bps, owed: 0, payout_unit };
        let named: BTreeMap<String, BigInt> =
            weights.iter().enumerate().map(|(i, weight)| (i.to_string(), BigInt::from(*weight))).collect();
        let expected = reference::fixed_apr(&terms, &named, &fraction);
        let fixed = FixedRate::new(annual, PayoutUnit::new(units(payout_unit)).unwrap());
        let mut payouts = BaseUnits::ZERO;
        for (i, weight) in weights.iter().enumerate() {
            let payout = fixed.payout(*weight).unwrap();
            prop_assert_eq!(BigInt::from(payout.get()), expected.payouts[&i.to_string()].clone());
            payouts = payouts.checked_add(payout).unwrap();
        }
        let fee = FeeBps::new(fee_bps).unwrap();
        let got = FixedAprTerms::new(units(receipts), units(carry_in), fee, payouts).unwrap();
        prop_assert_eq!(BigInt::from(got.fee.get()), expected.fee.clone());
        prop_assert_eq!(BigInt::from(got.house_in.get()), expected.house_in.clone());
        prop_assert_eq!(BigInt::from(got.house_out.get()), expected.house_out.clone());
        let figures = Figures::fixed_apr(units(receipts), units(carry_in), &got, payouts);
        prop_assert_eq!(figures.check_equation_1(), Ok(()));
        let (left, right) = expected.equation_1(&terms);
        prop_assert_eq!(left, right);
    }
}
