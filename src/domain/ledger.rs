//! The ledger of one pool: assets, claims, and the balanced entries that alone may move amounts between them.
//!
//! The stored ledger leaves out the principal leg: `principal` is the eligible total of the position book, and the
//! custody that people see is the stored custody plus it. [`LedgerView`] puts the two together.

use std::collections::BTreeMap;
use std::fmt;

use super::amount::{AmountError, BaseUnits, SignedUnits};
use super::effect::EffectKey;
use super::ids::{OperationId, TransferId, ValidatorId};

/// Where tokens are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssetAccount {
    /// The exchange's own wallets; negative is house credit. Stored without the principal leg.
    Custody,
    /// Between custody and the staking address, either way.
    InTransit,
    /// At the staking address, free.
    Liquid,
    /// At the staking address, reserved by an operation that is not done.
    InFlight,
    /// Staked with a validator.
    Delegated(ValidatorId),
    /// On its way back from validators.
    Unbonding,
    /// Back from validators, not withdrawn yet.
    Matured,
}

/// Who the tokens belong to. The principal is not here: it is derived from the position book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimAccount {
    /// Rewards received and not in any distribution.
    Undistributed,
    /// Rewards and carry inside a distribution that is not released.
    InDistribution,
    /// Released payouts that the ledger service has not acknowledged.
    Payable,
    /// Handed to the next distribution.
    Carry,
    /// Payouts that were rejected, payable to a named successor.
    Unclaimed,
    /// What arrived unexplained.
    Suspense,
    /// The operator's own; negative is what the operator owes the pool.
    House,
    /// What future rewards owe for a slash. A contra account: it is subtracted from the claims.
    SlashReceivable,
}

/// One account of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// An asset.
    Asset(AssetAccount),
    /// A claim.
    Claim(ClaimAccount),
}

impl From<AssetAccount> for Account {
    fn from(account: AssetAccount) -> Self {
        Self::Asset(account)
    }
}

impl From<ClaimAccount> for Account {
    fn from(account: ClaimAccount) -> Self {
        Self::Claim(account)
    }
}

const DELEGATED: &str = "delegated/";

impl Account {
    /// Whether the balance may go below zero: custody (house credit, and the principal leg it is stored without) and
    /// house (what the operator owes).
    pub const fn may_be_negative(&self) -> bool {
        matches!(self, Self::Asset(AssetAccount::Custody) | Self::Claim(ClaimAccount::House))
    }

    /// Reads the stable name that [`fmt::Display`] writes.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(validator) = name.strip_prefix(DELEGATED) {
            return ValidatorId::new(validator).ok().map(|id| AssetAccount::Delegated(id).into());
        }
        Some(match name {
            "custody" => AssetAccount::Custody.into(),
            "in_transit" => AssetAccount::InTransit.into(),
            "liquid" => AssetAccount::Liquid.into(),
            "in_flight" => AssetAccount::InFlight.into(),
            "unbonding" => AssetAccount::Unbonding.into(),
            "matured" => AssetAccount::Matured.into(),
            "undistributed" => ClaimAccount::Undistributed.into(),
            "in_distribution" => ClaimAccount::InDistribution.into(),
            "payable" => ClaimAccount::Payable.into(),
            "carry" => ClaimAccount::Carry.into(),
            "unclaimed" => ClaimAccount::Unclaimed.into(),
            "suspense" => ClaimAccount::Suspense.into(),
            "house" => ClaimAccount::House.into(),
            "slash_receivable" => ClaimAccount::SlashReceivable.into(),
            _ => return None,
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asset(AssetAccount::Delegated(validator)) => return write!(f, "{DELEGATED}{validator}"),
            Self::Asset(AssetAccount::Custody) => "custody",
            Self::Asset(AssetAccount::InTransit) => "in_transit",
            Self::Asset(AssetAccount::Liquid) => "liquid",
            Self::Asset(AssetAccount::InFlight) => "in_flight",
            Self::Asset(AssetAccount::Unbonding) => "unbonding",
            Self::Asset(AssetAccount::Matured) => "matured",
            Self::Claim(ClaimAccount::Undistributed) => "undistributed",
            Self::Claim(ClaimAccount::InDistribution) => "in_distribution",
            Self::Claim(ClaimAccount::Payable) => "payable",
            Self::Claim(ClaimAccount::Carry) => "carry",
            Self::Claim(ClaimAccount::Unclaimed) => "unclaimed",
            Self::Claim(ClaimAccount::Suspense) => "suspense",
            Self::Claim(ClaimAccount::House) => "house",
            Self::Claim(ClaimAccount::SlashReceivable) => "slash_receivable",
        })
    }
}

/// One distribution's revision: the period's index and the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionRef {
    /// The period's index in its pool.
    pub period: u64,
    /// The revision, from 1.
    pub revision: u32,
}

/// What kind of effect an entry books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectName {
    /// Tokens arrived at the staking address.
    TransferIn,
    /// Tokens left for custody.
    TransferOut,
    /// Liquid became delegated.
    Delegated,
    /// Delegated became unbonding.
    Undelegated,
    /// Delegated moved.
    Redelegated,
    /// Unbonding matured.
    Matured,
    /// Matured became liquid.
    Withdrawn,
    /// A reward arrived liquid.
    RewardPaid,
    /// A reward was added to the stake.
    RewardCompounded,
    /// A fee was paid.
    FeePaid,
    /// Stake was destroyed.
    Slashed,
    /// Destroyed stake came back.
    SlashReversed,
}

/// Why an entry was made. The names are stored and shown: they don't change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An operation was planned and reserves its tokens.
    OperationPlanned(OperationId),
    /// An operation ended and gives back what it did not use.
    OperationReleased(OperationId),
    /// The chain did something.
    Effect(EffectName, EffectKey),
    /// Custody says that it has sent a FUND.
    FundSent(TransferId),
    /// Custody says that a FUND ended, and has back what it sent and the chain has not shown.
    FundReturned(TransferId),
    /// Custody says that it has received a DEFUND.
    DefundReceived(TransferId),
    /// A distribution took its receipts and carry.
    DistributionComputed(RevisionRef),
    /// A distribution was released.
    DistributionReleased(RevisionRef),
    /// A distribution was voided.
    DistributionVoided(RevisionRef),
    /// The ledger service credited payouts.
    PayoutsAcknowledged(RevisionRef),
    /// The ledger service rejected payouts.
    PayoutsRejected(RevisionRef),
    /// Rejected payouts became payable to a named successor.
    UnclaimedReassigned(RevisionRef),
    /// Reconciliation found more on chain than the ledger had, first at this height.
    UnexplainedIncrease(u64),
    /// Reconciliation found less on chain than the ledger had, first at this height: booked as a slash.
    UnexplainedDrop(u64, ValidatorId),
    /// A person accepted what reconciliation found apart, first at this height.
    DifferencesAccepted(u64),
    /// Reconciliation at this height found a drop within the rounding of the operations that took effect there.
    Rounding(u64, ValidatorId),
}

impl Reason {
    /// The stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OperationPlanned(_) => "operation_planned",
            Self::OperationReleased(_) => "operation_released",
            Self::Effect(name, _) => match name {
                EffectName::TransferIn => "transfer_in",
                EffectName::TransferOut => "transfer_out",
                EffectName::Delegated => "delegated",
                EffectName::Undelegated => "undelegated",
                EffectName::Redelegated => "redelegated",
                EffectName::Matured => "matured",
                EffectName::Withdrawn => "withdrawn",
                EffectName::RewardPaid => "reward_paid",
                EffectName::RewardCompounded => "reward_compounded",
                EffectName::FeePaid => "fee_paid",
                EffectName::Slashed => "slashed",
                EffectName::SlashReversed => "slash_reversed",
            },
            Self::FundSent(_) => "fund_sent",
            Self::FundReturned(_) => "fund_returned",
            Self::DefundReceived(_) => "defund_received",
            Self::DistributionComputed(_) => "distribution_computed",
            Self::DistributionReleased(_) => "distribution_released",
            Self::DistributionVoided(_) => "distribution_voided",
            Self::PayoutsAcknowledged(_) => "payouts_acknowledged",
            Self::PayoutsRejected(_) => "payouts_rejected",
            Self::UnclaimedReassigned(_) => "unclaimed_reassigned",
            Self::UnexplainedIncrease(_) => "unexplained_increase",
            Self::UnexplainedDrop(..) => "unexplained_drop",
            Self::DifferencesAccepted(_) => "differences_accepted",
            Self::Rounding(..) => "rounding",
        }
    }

    /// What the entry is about, for the posting log: an operation, a transaction and index, a transfer, a revision.
    pub fn subject(&self) -> String {
        match self {
            Self::OperationPlanned(id) | Self::OperationReleased(id) => id.to_string(),
            Self::Effect(_, key) => key.to_string(),
            Self::FundSent(id) | Self::FundReturned(id) | Self::DefundReceived(id) => id.to_string(),
            Self::DistributionComputed(revision)
            | Self::DistributionReleased(revision)
            | Self::DistributionVoided(revision)
            | Self::PayoutsAcknowledged(revision)
            | Self::PayoutsRejected(revision)
            | Self::UnclaimedReassigned(revision) => format!("{}/{}", revision.period, revision.revision),
            Self::UnexplainedIncrease(height) | Self::DifferencesAccepted(height) => height.to_string(),
            Self::UnexplainedDrop(height, validator) | Self::Rounding(height, validator) => {
                format!("{height}/{validator}")
            }
        }
    }
}

/// Why an entry could not be made or applied. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The legs don't balance.
    #[error("the entry moves assets by {assets} and claims by {claims}")]
    Unbalanced {
        /// The change of all assets.
        assets: SignedUnits,
        /// The change of all claims.
        claims: SignedUnits,
    },
    /// An account that may not be negative would be.
    #[error("{account} holds {balance} and can't move by {change}")]
    Negative {
        /// Which one.
        account: Account,
        /// What it holds.
        balance: SignedUnits,
        /// What was to be added.
        change: SignedUnits,
    },
    /// A figure is past what an amount can hold.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// One leg of an entry: an account and the signed change of its balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The account.
    pub account: Account,
    /// The change.
    pub change: SignedUnits,
}

/// A leg that adds `amount` to `account`.
pub fn up(account: impl Into<Account>, amount: BaseUnits) -> Leg {
    Leg { account: account.into(), change: amount.signed() }
}

/// A leg that takes `amount` from `account`.
pub fn down(account: impl Into<Account>, amount: BaseUnits) -> Leg {
    Leg { account: account.into(), change: amount.negated() }
}

/// A balanced list of legs with its reason. There is no way to have one that doesn't balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    reason: Reason,
    legs: Vec<Leg>,
}

impl Entry {
    /// Checks that the legs balance. Legs of one account are merged, those of zero dropped, and what stays is in the
    /// order of the accounts.
    pub fn new(reason: Reason, legs: impl IntoIterator<Item = Leg>) -> Result<Self, LedgerError> {
        let mut changes = BTreeMap::<Account, SignedUnits>::new();
        for leg in legs {
            let change = changes.entry(leg.account).or_default();
            *change = change.checked_add(leg.change)?;
        }
        changes.retain(|_, change| *change != SignedUnits::ZERO);
        let (assets, claims) = totals(&changes)?;
        if assets != claims {
            return Err(LedgerError::Unbalanced { assets, claims });
        }
        let legs = changes.into_iter().map(|(account, change)| Leg { account, change }).collect();
        Ok(Self { reason, legs })
    }

    /// Why it was made.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Its legs, by account, none of them zero.
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// Whether it moves nothing, so that there is nothing to post.
    pub const fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }
}

fn totals(balances: &BTreeMap<Account, SignedUnits>) -> Result<(SignedUnits, SignedUnits), AmountError> {
    let mut assets = SignedUnits::ZERO;
    let mut claims = SignedUnits::ZERO;
    for (account, amount) in balances {
        match account {
            Account::Asset(_) => assets = assets.checked_add(*amount)?,
            Account::Claim(ClaimAccount::SlashReceivable) => claims = claims.checked_sub(*amount)?,
            Account::Claim(_) => claims = claims.checked_add(*amount)?,
        }
    }
    Ok((assets, claims))
}

/// The stored ledger of one pool, without the principal leg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    balances: BTreeMap<Account, SignedUnits>,
}

impl Ledger {
    /// A ledger from stored balances, checked as if entries had made them.
    pub fn from_balances(balances: impl IntoIterator<Item = (Account, SignedUnits)>) -> Result<Self, LedgerError> {
        let mut ledger = Self::default();
        for (account, balance) in balances {
            ledger.add(account, balance)?;
        }
        let (assets, claims) = totals(&ledger.balances)?;
        if assets == claims { Ok(ledger) } else { Err(LedgerError::Unbalanced { assets, claims }) }
    }

    /// All balances that are not zero, by account.
    pub fn balances(&self) -> impl Iterator<Item = (&Account, SignedUnits)> {
        self.balances.iter().map(|(account, balance)| (account, *balance))
    }

    /// The balance of one account as it is stored.
    pub fn balance(&self, account: &Account) -> SignedUnits {
        self.balances.get(account).copied().unwrap_or_default()
    }

    /// The ledger after `entry`, or why it can't be applied.
    pub fn apply(&self, entry: &Entry) -> Result<Self, LedgerError> {
        let mut next = self.clone();
        for leg in &entry.legs {
            next.add(leg.account.clone(), leg.change)?;
        }
        // The sums must stay countable too: what can't be summed can't be checked.
        totals(&next.balances)?;
        Ok(next)
    }

    fn add(&mut self, account: Account, change: SignedUnits) -> Result<(), LedgerError> {
        let balance = self.balance(&account);
        let next = balance.checked_add(change)?;
        if next.get() < 0 && !account.may_be_negative() {
            return Err(LedgerError::Negative { account, balance, change });
        }
        if next == SignedUnits::ZERO {
            self.balances.remove(&account);
        } else {
            self.balances.insert(account, next);
        }
        Ok(())
    }
}

/// The ledger as people see it: with the principal leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerView {
    ledger: Ledger,
    principal: BaseUnits,
    custody: SignedUnits,
}

impl LedgerView {
    /// Puts the eligible total of the position book beside the stored ledger.
    pub fn new(ledger: Ledger, principal: BaseUnits) -> Result<Self, AmountError> {
        let custody = ledger.balance(&AssetAccount::Custody.into()).checked_add(principal.signed())?;
        Ok(Self { ledger, principal, custody })
    }

    /// The stored ledger.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What customers hold.
    pub const fn principal(&self) -> BaseUnits {
        self.principal
    }

    /// Custody with the principal leg; negative is house credit.
    pub const fn custody(&self) -> SignedUnits {
        self.custody
    }

    /// What an asset account holds; zero for custody below zero, which [`Self::custody`] has.
    pub fn asset(&self, account: AssetAccount) -> BaseUnits {
        if account == AssetAccount::Custody {
            return self.custody.positive_part();
        }
        self.ledger.balance(&account.into()).positive_part()
    }

    /// What a claim account holds; zero for house below zero, which [`Self::house`] has.
    pub fn claim(&self, account: ClaimAccount) -> BaseUnits {
        self.ledger.balance(&account.into()).positive_part()
    }

    /// The operator's own account; negative is what the operator owes.
    pub fn house(&self) -> SignedUnits {
        self.ledger.balance(&ClaimAccount::House.into())
    }

    /// The delegations, by validator.
    pub fn delegations(&self) -> impl Iterator<Item = (&ValidatorId, BaseUnits)> {
        self.ledger.balances().filter_map(|(account, balance)| match account {
            Account::Asset(AssetAccount::Delegated(validator)) => Some((validator, balance.positive_part())),
            _ => None,
        })
    }

    /// Everything delegated.
    pub fn delegated(&self) -> Result<BaseUnits, AmountError> {
        BaseUnits::sum(self.delegations().map(|(_, amount)| amount))
    }

    /// The claims that are neither principal nor house: what must stay at hand for others.
    pub fn other_claims(&self) -> Result<BaseUnits, AmountError> {
        use ClaimAccount as C;
        let others = [C::Undistributed, C::InDistribution, C::Payable, C::Carry, C::Unclaimed, C::Suspense];
        BaseUnits::sum(others.map(|account| self.claim(account)))
    }

    /// The sum of all assets, custody with the principal leg.
    pub fn assets_total(&self) -> Result<SignedUnits, AmountError> {
        totals(&self.ledger.balances)?.0.checked_add(self.principal.signed())
    }

    /// The sum of all claims: the principal and the others, less the slash receivable.
    pub fn claims_total(&self) -> Result<SignedUnits, AmountError> {
        totals(&self.ledger.balances)?.1.checked_add(self.principal.signed())
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
