//! Against a chain of our own that keeps shares as x/staking does, on another big-integer library.

use num_bigint::BigUint;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

const SCALE: u64 = 1_000_000_000_000_000_000;

/// A validator of x/staking: whole tokens, shares in the 18th digit.
#[derive(Clone, Debug)]
struct Validator {
    tokens: BigUint,
    shares: BigUint,
}

impl Validator {
    /// `shares.MulInt(tokens).Quo(all).TruncateInt()`.
    fn worth(&self, shares: &BigUint) -> BigUint {
        if self.shares == BigUint::ZERO {
            return BigUint::ZERO;
        }
        let scale = BigUint::from(SCALE);
        let fine = shares * &self.tokens * &scale * &scale / &self.shares;
        let (whole, rest) = (&fine / &scale, &fine % &scale);
        let twice = &rest + &rest;
        let up = twice > scale || (twice == scale && whole.bit(0));
        (if up { whole + 1u8 } else { whole }) / scale
    }

    fn shares_of(&self, amount: &BigUint) -> BigUint {
        &self.shares * amount / &self.tokens
    }

    /// `AddTokensFromDel`.
    fn delegate(&mut self, amount: &BigUint) -> BigUint {
        let issued = if self.shares == BigUint::ZERO { amount * SCALE } else { self.shares_of(amount) };
        self.tokens += amount;
        self.shares += &issued;
        issued
    }

    /// `ValidateUnbondAmount` and `RemoveDelShares`: what is paid out and the shares that are left, or a refusal.
    fn undelegate(&mut self, held: &BigUint, amount: &BigUint) -> Option<(BigUint, BigUint)> {
        let wanted = self.shares_of(amount);
        if wanted > *held {
            return None;
        }
        let rest = &self.shares - &wanted;
        let paid = if rest == BigUint::ZERO { self.tokens.clone() } else { self.worth(&wanted) };
        self.tokens -= &paid;
        self.shares = rest;
        Some((paid, held - wanted))
    }

    fn rate(&self) -> ExchangeRate {
        let tokens = base_units(&self.tokens.to_string()).unwrap();
        ExchangeRate { tokens, shares: Decimals::from_wire(&self.shares.to_string()).unwrap() }
    }
}

fn decimals(shares: &BigUint) -> Decimals {
    Decimals::from_wire(&shares.to_string()).unwrap()
}

fn number(amount: BaseUnits) -> BigUint {
    BigUint::from(amount.get())
}

#[derive(Clone, Debug)]
enum Step {
    Slash { parts_per_million: u32 },
    Others { amount: u64 },
    OthersLeave { per_mille: u16 },
    Ours { amount: u64 },
    OursLeave { per_mille: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u32..600_000).prop_map(|parts_per_million| Step::Slash { parts_per_million }),
        (1u64..10_000_000_000_000).prop_map(|amount| Step::Others { amount }),
        (1u16..1_000).prop_map(|per_mille| Step::OthersLeave { per_mille }),
        (1u64..1_000_000_000).prop_map(|amount| Step::Ours { amount }),
        (1u16..=1_000).prop_map(|per_mille| Step::OursLeave { per_mille }),
    ]
}

/// What one delegation loses beyond what was delegated and paid out, against what is read.
fn loss(before: &BigUint, moved_in: &BigUint, moved_out: &BigUint, after: &BigUint) -> i64 {
    let (less, more) = (before + moved_in, after + moved_out);
    let apart = if less >= more { &less - &more } else { &more - &less };
    let apart = i64::try_from(apart).unwrap();
    if less >= more { apart } else { -apart }
}

fn lives(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut validator = Validator { tokens: BigUint::ZERO, shares: BigUint::ZERO };
    let mut others = validator.delegate(&BigUint::from(5_000_000_000_000u64));
    let mut ours = validator.delegate(&BigUint::from(777_777_777u64));
    for step in steps {
        let before = validator.worth(&ours);
        match step {
            Step::Slash { parts_per_million } => {
                let burned = &validator.tokens * *parts_per_million / 1_000_000u32;
                validator.tokens -= burned;
            }
            Step::Others { amount } => {
                others += validator.delegate(&BigUint::from(*amount));
                prop_assert!(validator.worth(&ours) >= before, "somebody else's delegation took ours");
            }
            Step::OthersLeave { per_mille } => {
                let amount = validator.worth(&others) * *per_mille / 1_000u32;
                if let Some((_, left)) = validator.undelegate(&others, &amount) {
                    others = left;
                }
                let after = validator.worth(&ours);
                prop_assert!(after >= before && after <= &before + 1u8, "{before} -> {after}");
            }
            Step::Ours { amount } => {
                let amount = BigUint::from(*amount);
                ours += validator.delegate(&amount);
                let lost = loss(&before, &amount, &BigUint::ZERO, &validator.worth(&ours));
                prop_assert!((0..=1).contains(&lost), "a delegation lost {lost}");
            }
            Step::OursLeave { per_mille } => {
                let most = number(validator.rate().most_of(decimals(&ours)).unwrap());
                let amount = if *per_mille == 1_000 { most.clone() } else { &most * *per_mille / 1_000u32 };
                let Some((paid, left)) = validator.undelegate(&ours, &amount) else {
                    return Err(TestCaseError::fail(format!("{amount} of {ours} shares was refused")));
                };
                ours = left;
                let after = validator.worth(&ours);
                let lost = loss(&before, &BigUint::ZERO, &paid, &after);
                prop_assert!((-1..=1).contains(&lost), "an undelegation lost {lost}");
                // As the event of a redelegation says it: the amount asked for, of which the chain moves 1 less at most.
                prop_assert!(loss(&before, &BigUint::ZERO, &amount, &after) <= 0);
                prop_assert!(paid <= amount && amount <= &paid + 1u8, "asked for {amount}, got {paid}");
                if *per_mille == 1_000 {
                    prop_assert!(after <= BigUint::from(1u8), "a full drain left {after}");
                }
            }
        }
        let worth = validator.rate().worth(decimals(&ours)).unwrap();
        prop_assert_eq!(number(worth), validator.worth(&ours));
        let most = validator.rate().most_of(decimals(&ours)).unwrap();
        prop_assert!(most <= worth && worth.get() - most.get() <= 1);
        prop_assert!(validator.shares_of(&number(most)) <= ours, "a full drain asks for more shares than there are");
    }
    Ok(())
}

#[test]
fn a_stake_lives_through_slashes_as_the_chain_keeps_it() {
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    runner.run(&prop::collection::vec(step(), 1..40), |steps| lives(&steps)).unwrap();
}

#[test]
fn a_full_drain_after_a_slash_asks_for_no_more_than_there_is() {
    // Three shares for a token: 1.0 is read where 0.999…9 is there, and the chain would take 1 for one share digit too many.
    let rate = ExchangeRate { tokens: BaseUnits::from_u64(1_000_000), shares: Decimals::from_text("3000000").unwrap() };
    let shares = Decimals::from_text("2.999999999999999999").unwrap();
    assert_eq!(rate.worth(shares), Ok(BaseUnits::from_u64(1)));
    assert!(rate.shares_of(BaseUnits::from_u64(1)).unwrap() > shares);
    assert_eq!(rate.most_of(shares), Ok(BaseUnits::ZERO));
    assert_eq!(rate.most_of(Decimals::from_text("3").unwrap()), Ok(BaseUnits::from_u64(1)));
    let gone = ExchangeRate { tokens: BaseUnits::ZERO, ..rate };
    assert_eq!((gone.worth(shares), gone.shares_of(BaseUnits::ZERO)), (Ok(BaseUnits::ZERO), None));
    assert_eq!(gone.most_of(shares), Ok(BaseUnits::ZERO));
}

#[test]
fn decimals_are_read_as_both_forms_write_them() {
    let five_percent = Decimals::from_wire("50000000000000000").unwrap();
    assert_eq!(Decimals::from_text("0.05"), Ok(five_percent));
    assert_eq!(five_percent.rate(), Ok(Decimal::new(5, 2)));
    assert_eq!(five_percent.to_string(), "0.050000000000000000");
    assert_eq!(Decimals::from_wire("123999999999999999999").unwrap().truncated(), Ok(BaseUnits::from_u64(123)));
    assert_eq!(Decimals::from_text("0.000000000000000001").unwrap().rate(), Ok(Decimal::new(1, 18)));
    for bad in ["", ".", ".5", "-1", "+1", "1_0", "1.2.3", "0x1", "1.0000000000000000001", "1e3"] {
        assert!(Decimals::from_text(bad).is_err(), "{bad:?}");
    }
    assert!(Decimals::from_wire("1.5").is_err() && Decimals::from_wire(&"9".repeat(79)).is_err());
    assert!(base_units("").is_err() && base_units("-5").is_err() && base_units(&u128::MAX.to_string()).is_err());
    assert_eq!(base_units("5"), Ok(BaseUnits::from_u64(5)));
}
