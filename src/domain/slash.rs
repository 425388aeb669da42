//! Slashes: who bears what the chain destroyed, and what is undone when the chain gives it back.
//!
//! A slash counts by the policy of the period that its chain time lies in. The house bears it at once; where the rewards
//! bear it, it is owed by the pool's later distributions and recovered from nothing else. A customer's balance never
//! changes.

use super::amount::{AmountError, BaseUnits};
use super::fixed_apr::SlashPolicy;
use super::ids::ValidatorId;
use super::ledger::{AssetAccount as A, ClaimAccount as C, Leg, down, up};

/// A slash as it was booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slash {
    /// At whom.
    pub validator: ValidatorId,
    /// Of the delegation.
    pub delegated: BaseUnits,
    /// Of the unbondings that have not matured.
    pub unbonding: BaseUnits,
    /// Who bears it.
    pub bearer: SlashPolicy,
    /// What of it the chain has given back since.
    pub returned: BaseUnits,
}

/// What a reversal posts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversal {
    /// The slash as it is now.
    pub slash: Slash,
    /// The legs, which balance.
    pub legs: Vec<Leg>,
    /// What came back beyond the slash: nobody's.
    pub suspense: BaseUnits,
}

impl Slash {
    /// All that was destroyed.
    pub fn lost(&self) -> Result<BaseUnits, AmountError> {
        self.delegated.checked_add(self.unbonding)
    }

    /// The legs that book it.
    pub fn legs(&self) -> Result<Vec<Leg>, AmountError> {
        let lost = self.lost()?;
        Ok(vec![
            down(A::Delegated(self.validator.clone()), self.delegated),
            down(A::Unbonding, self.unbonding),
            match self.bearer {
                SlashPolicy::PlatformAbsorbs => down(C::House, lost),
                SlashPolicy::RewardsAbsorb => up(C::SlashReceivable, lost),
            },
        ])
    }

    /// The chain gives back `delegated` and `unbonding`. The posting is reversed for the one who bore it: what the house
    /// bore is the house's again. What the rewards still owe, of which `owed` is in no distribution yet, is owed no more;
    /// what they have paid already was the customers', and goes to the carry, so that they get it with the next
    /// distribution. What is beyond the slash goes to suspense.
    pub fn reverse(
        &self,
        delegated: BaseUnits,
        unbonding: BaseUnits,
        owed: BaseUnits,
    ) -> Result<Reversal, AmountError> {
        let back = delegated.checked_add(unbonding)?;
        let known = back.min(self.lost()?.saturating_sub(self.returned));
        let suspense = back.checked_sub(known)?;
        let mut legs = vec![
            up(A::Delegated(self.validator.clone()), delegated),
            up(A::Unbonding, unbonding),
            up(C::Suspense, suspense),
        ];
        match self.bearer {
            SlashPolicy::PlatformAbsorbs => legs.push(up(C::House, known)),
            SlashPolicy::RewardsAbsorb => {
                let owing = known.min(owed);
                legs.extend([down(C::SlashReceivable, owing), up(C::Carry, known.checked_sub(owing)?)]);
            }
        }
        let slash = Self { returned: self.returned.checked_add(known)?, ..self.clone() };
        Ok(Reversal { slash, legs, suspense })
    }
}

#[cfg(test)]
mod tests {
    use super::super::effect::EffectKey;
    use super::super::ids::TransactionId;
    use super::super::ledger::{EffectName, Entry, Reason};
    use super::*;

    fn units(n: u64) -> BaseUnits {
        BaseUnits::from_u64(n)
    }

    fn slash(bearer: SlashPolicy) -> Slash {
        let validator = ValidatorId::new("v").unwrap();
        Slash { validator, delegated: units(70), unbonding: units(30), bearer, returned: units(0) }
    }

    /// The legs as an entry, which refuses what does not balance.
    fn entry(legs: Vec<Leg>) -> Vec<(String, i128)> {
        let key = EffectKey { transaction: TransactionId::new("t").unwrap(), index: 0 };
        let entry = Entry::new(Reason::Effect(EffectName::Slashed, key), legs).unwrap();
        entry.legs().iter().map(|leg| (leg.account.to_string(), leg.change.get())).collect()
    }

    fn negated(list: Vec<(String, i128)>) -> Vec<(String, i128)> {
        list.into_iter().map(|(name, n)| (name, -n)).collect()
    }

    #[test]
    fn a_reversal_is_the_posting_s_exact_reverse() {
        for bearer in [SlashPolicy::PlatformAbsorbs, SlashPolicy::RewardsAbsorb] {
            let slash = slash(bearer);
            let back = slash.reverse(units(70), units(30), units(100)).unwrap();
            assert_eq!(entry(back.legs), negated(entry(slash.legs().unwrap())));
            assert_eq!((back.slash.returned, back.suspense), (units(100), units(0)));
        }
    }

    #[test]
    fn what_was_recovered_already_goes_to_the_carry() {
        let back = slash(SlashPolicy::RewardsAbsorb).reverse(units(70), units(30), units(60)).unwrap();
        let said = [("delegated/v", 70), ("unbonding", 30), ("carry", 40), ("slash_receivable", -60)];
        assert_eq!(entry(back.legs), said.map(|(name, n)| (name.to_owned(), n)));
    }

    #[test]
    fn more_than_was_slashed_is_nobody_s() {
        let slash = slash(SlashPolicy::PlatformAbsorbs);
        let first = slash.reverse(units(90), units(0), units(0)).unwrap();
        assert_eq!(first.suspense, units(0));
        let second = first.slash.reverse(units(25), units(0), units(0)).unwrap();
        assert_eq!((second.slash.returned, second.suspense), (units(100), units(15)));
        assert_eq!(
            entry(second.legs),
            [("delegated/v", 25), ("suspense", 15), ("house", 10)].map(|(name, n)| (name.to_owned(), n))
        );
    }

    #[test]
    fn a_figure_past_an_amount_is_refused() {
        let huge = Slash { delegated: BaseUnits::MAX, ..slash(SlashPolicy::PlatformAbsorbs) };
        assert!(huge.legs().is_err());
    }
}
