//! The chain's own count of everything: what an auditor compares softstake's books with.

use super::state::State;
use crate::chain::RewardStyle;
use crate::domain::amount::BaseUnits;
use crate::domain::effect::EffectKind;
use crate::domain::ids::{TransactionId, TransferId};
use crate::domain::time::UnixSeconds;

/// Everything that the chain made, moved and destroyed until one final height, in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTotals {
    /// The final height that this was counted at.
    pub height: u64,
    /// The time of that height.
    pub at: UnixSeconds,
    /// What custody owned at genesis.
    pub genesis_custody: BaseUnits,
    /// What strangers gave to the staking address.
    pub donated: BaseUnits,
    /// Every whole base unit of reward ever earned: paid, compounded and pending.
    pub minted_rewards_total: BaseUnits,
    /// Rewards that arrived liquid.
    pub rewards_paid: BaseUnits,
    /// Rewards that were added to a stake.
    pub rewards_compounded: BaseUnits,
    /// Rewards earned and not yet paid or compounded, those of the running epoch included. They exist in no balance.
    pub pending_rewards: BaseUnits,
    /// Fees paid, those of failed transactions included.
    pub fees_paid: BaseUnits,
    /// Stake and unbondings destroyed, less what was given back.
    pub slashed: BaseUnits,
    /// Liquid at the staking address.
    pub liquid: BaseUnits,
    /// Delegated.
    pub delegated: BaseUnits,
    /// Unbonding, not matured.
    pub unbonding: BaseUnits,
    /// Matured, not withdrawn.
    pub matured: BaseUnits,
    /// Owned by the custody address.
    pub custody_balance: BaseUnits,
    /// Sent from custody to the staking address.
    pub transferred_in: BaseUnits,
    /// Sent from the staking address to custody.
    pub transferred_out: BaseUnits,
}

impl ChainTotals {
    /// What came into the world and is not destroyed: custody at genesis, donations and rewards, less fees and
    /// slashes. `None` if that is not even an amount.
    pub fn expected(&self) -> Option<BaseUnits> {
        let made = [self.genesis_custody, self.donated, self.rewards_paid, self.rewards_compounded];
        let gone = BaseUnits::sum([self.fees_paid, self.slashed]).ok()?;
        BaseUnits::sum(made).ok()?.checked_sub(gone).ok()
    }

    /// What the custody and staking addresses hold, in every form.
    pub fn held(&self) -> Option<BaseUnits> {
        BaseUnits::sum([self.custody_balance, self.liquid, self.delegated, self.unbonding, self.matured]).ok()
    }

    /// Whether nothing was created or lost.
    pub fn conserved(&self) -> bool {
        let minted = BaseUnits::sum([self.rewards_paid, self.rewards_compounded, self.pending_rewards]);
        self.expected().is_some() && self.expected() == self.held() && minted == Ok(self.minted_rewards_total)
    }
}

/// Which way tokens went between custody and the staking address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustodyDirection {
    /// From custody to the staking address.
    Fund,
    /// From the staking address to custody.
    Defund,
}

/// One final movement between custody and the staking address, as the custody address sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyTransaction {
    /// The transaction.
    pub transaction: TransactionId,
    /// Its block.
    pub height: u64,
    /// The time of its block.
    pub at: UnixSeconds,
    /// The transfer that its memo names.
    pub transfer: TransferId,
    /// Which way.
    pub direction: CustodyDirection,
    /// How much.
    pub amount: BaseUnits,
}

fn units(amount: u128) -> BaseUnits {
    super::state::units(amount)
}

impl State {
    pub(super) fn totals(&self) -> ChainTotals {
        let sums = &self.totals;
        let entries = |matured: bool| -> u128 {
            self.unbondings.iter().filter(|entry| entry.matured == matured).map(|entry| entry.amount).sum()
        };
        let pending = self.pairs.iter().map(|pair| pair.pending + pair.earned).sum();
        debug_assert!(self.config.reward_style != RewardStyle::Compounding || sums.paid == 0);
        ChainTotals {
            height: self.height,
            at: self.at(),
            genesis_custody: self.config.custody_balance,
            donated: units(sums.donated),
            minted_rewards_total: units(sums.earned),
            rewards_paid: units(sums.paid),
            rewards_compounded: units(sums.compounded),
            pending_rewards: units(pending),
            fees_paid: units(sums.fees),
            slashed: units(sums.slashed - sums.unslashed),
            liquid: units(self.liquid),
            delegated: units(self.pairs.iter().map(|pair| pair.stake).sum()),
            unbonding: units(entries(false)),
            matured: units(entries(true)),
            custody_balance: units(self.custody),
            transferred_in: units(sums.transferred_in),
            transferred_out: units(sums.transferred_out),
        }
    }

    pub(super) fn custody_transactions(&self) -> Vec<CustodyTransaction> {
        let movements = self.effects.iter().filter_map(|effect| {
            let (transfer, direction, amount) = match &effect.kind {
                EffectKind::TransferIn { transfer: Some(transfer), amount } => {
                    (transfer, CustodyDirection::Fund, *amount)
                }
                EffectKind::TransferOut { transfer: Some(transfer), amount } => {
                    (transfer, CustodyDirection::Defund, *amount)
                }
                _ => return None,
            };
            Some(CustodyTransaction {
                transaction: effect.key.transaction.clone(),
                height: effect.height,
                at: effect.at,
                transfer: transfer.clone(),
                direction,
                amount,
            })
        });
        movements.collect()
    }
}
