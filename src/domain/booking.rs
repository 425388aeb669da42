//! Every movement of tokens as a ledger entry. There is no other way to move an amount.

use super::amount::{AmountError, BaseUnits, SignedUnits};
use super::distribution::Figures;
use super::effect::{Effect, EffectKey, EffectKind};
use super::fixed_apr::SlashPolicy;
use super::ids::{OperationId, ValidatorId};
use super::ledger::{
    AssetAccount as A, ClaimAccount as C, EffectName, Entry, LedgerError, Reason, RevisionRef, down, up,
};
use super::operation::OperationKind;
use super::slash::Slash;
use super::transfer::{Direction, Purpose, Transfer, TransferEvent, TransferMoney, TransferRefusal};

/// Why something can't be booked. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookingError {
    /// The entry can't be made.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The transfer refuses the event.
    #[error(transparent)]
    Transfer(#[from] TransferRefusal),
    /// The distribution's figures don't satisfy equation 1.
    #[error("the distribution takes in {taken} and gives out {given}")]
    Distribution {
        /// Receipts, carry in and house in.
        taken: BaseUnits,
        /// Fee, recovery, payouts, house out and carry out.
        given: BaseUnits,
    },
}

impl From<AmountError> for BookingError {
    fn from(error: AmountError) -> Self {
        Self::Ledger(LedgerError::Amount(error))
    }
}

/// What is known of the causes of an effect.
#[derive(Clone, Copy, Debug, Default)]
pub struct EffectContext<'a> {
    /// The operation of ours that the effect names, and what is still in flight for it.
    pub operation: Option<(&'a OperationKind, BaseUnits)>,
    /// The transfer of ours that the effect names.
    pub transfer: Option<&'a Transfer>,
    /// The rounding units of one operation that the adapter declares: a drop of no more goes to the house, whoever bears
    /// slashes.
    pub rounding: BaseUnits,
    /// Who bears a slash, by the policy of the period that the effect's time lies in.
    pub bearer: SlashPolicy,
    /// The slash that a reversal names, as it was booked.
    pub slash: Option<&'a Slash>,
    /// What the rewards owe for slashes and no distribution is about to recover.
    pub owed: BaseUnits,
}

/// What to do about an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Booking {
    /// Post this.
    Post(Box<Posting>),
    /// Don't post, stop the pool's outflows and tell the operator: what it leaves apart is a person's to accept.
    PauseAndReport(Discrepancy),
}

/// What an effect posts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The entry; it may be empty.
    pub entry: Entry,
    /// How much of the operation's reservation it used: take it off what the operation has in flight.
    pub used: BaseUnits,
    /// The transfer as it is now, where one was known.
    pub transfer: Option<Transfer>,
    /// How much went to suspense: alert above zero.
    pub suspense: BaseUnits,
    /// Whether an operation or transfer of ours, or the chain by itself, explains it. Alert where not.
    pub explained: bool,
    /// By how much what unbonds from a validator changed: the ledger has the sum over all validators alone.
    pub unbonding: Option<(ValidatorId, SignedUnits)>,
    /// The slash that was booked or reversed, as it is now.
    pub slash: Option<Slash>,
}

impl Posting {
    fn of(entry: Entry, explained: bool) -> Self {
        let zero = BaseUnits::ZERO;
        Self { entry, used: zero, transfer: None, suspense: zero, explained, unbonding: None, slash: None }
    }
}

/// What is on the chain and can't be explained by anything that we did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Discrepancy {
    /// Tokens left the staking address for no DEFUND of ours.
    #[error("{amount} base units left the staking address for no DEFUND of ours")]
    Outflow {
        /// How much.
        amount: BaseUnits,
    },
}

/// What an operation of this kind keeps in flight from when it is planned until it ends.
pub const fn reservation(kind: &OperationKind) -> BaseUnits {
    match kind {
        OperationKind::Delegate { amount, .. } | OperationKind::SendToCustody { amount, .. } => *amount,
        OperationKind::Undelegate { .. }
        | OperationKind::Redelegate { .. }
        | OperationKind::Claim { .. }
        | OperationKind::Withdraw { .. } => BaseUnits::ZERO,
    }
}

/// An operation is planned: its tokens go in flight.
pub fn plan(id: &OperationId, kind: &OperationKind) -> Result<Entry, LedgerError> {
    let amount = reservation(kind);
    Entry::new(Reason::OperationPlanned(id.clone()), [down(A::Liquid, amount), up(A::InFlight, amount)])
}

/// An operation has ended, or was abandoned: what is `left` in flight is liquid again.
pub fn release(id: &OperationId, left: BaseUnits) -> Result<Entry, LedgerError> {
    Entry::new(Reason::OperationReleased(id.clone()), [down(A::InFlight, left), up(A::Liquid, left)])
}

/// What the chain did, booked once by its key.
pub fn effect(effect: &Effect, context: &EffectContext<'_>) -> Result<Booking, BookingError> {
    let entry = |name, legs: Vec<_>| Entry::new(Reason::Effect(name, effect.key.clone()), legs);
    let ours = context.operation.is_some();
    let plain = |entry, explained| Ok(Booking::Post(Box::new(Posting::of(entry, explained))));
    let unbonds = |entry, explained, validator: &ValidatorId, change| {
        let unbonding = Some((validator.clone(), change));
        Ok(Booking::Post(Box::new(Posting { unbonding, ..Posting::of(entry, explained) })))
    };
    match &effect.kind {
        EffectKind::TransferIn { amount, .. } => transfer_in(effect, context, *amount),
        EffectKind::TransferOut { amount, .. } => transfer_out(effect, context, *amount),
        EffectKind::Delegated { validator, amount } => {
            let reserved = match context.operation {
                Some((OperationKind::Delegate { .. }, left)) => left,
                _ => BaseUnits::ZERO,
            };
            let used = reserved.min(*amount);
            let legs = vec![
                down(A::InFlight, used),
                down(A::Liquid, amount.saturating_sub(used)),
                up(A::Delegated(validator.clone()), *amount),
            ];
            let entry = entry(EffectName::Delegated, legs)?;
            Ok(Booking::Post(Box::new(Posting { used, ..Posting::of(entry, ours) })))
        }
        EffectKind::Undelegated { validator, amount, .. } => {
            let legs = vec![down(A::Delegated(validator.clone()), *amount), up(A::Unbonding, *amount)];
            unbonds(entry(EffectName::Undelegated, legs)?, ours, validator, amount.signed())
        }
        EffectKind::Redelegated { from, to, amount } => {
            let legs = vec![down(A::Delegated(from.clone()), *amount), up(A::Delegated(to.clone()), *amount)];
            plain(entry(EffectName::Redelegated, legs)?, ours)
        }
        EffectKind::Matured { validator, amount } => {
            let legs = vec![down(A::Unbonding, *amount), up(A::Matured, *amount)];
            unbonds(entry(EffectName::Matured, legs)?, true, validator, amount.negated())
        }
        EffectKind::Withdrawn { amount } => {
            plain(entry(EffectName::Withdrawn, vec![down(A::Matured, *amount), up(A::Liquid, *amount)])?, true)
        }
        EffectKind::RewardPaid { amount, .. } => {
            plain(entry(EffectName::RewardPaid, vec![up(A::Liquid, *amount), up(C::Undistributed, *amount)])?, true)
        }
        EffectKind::RewardCompounded { validator, amount, .. } => {
            let legs = vec![up(A::Delegated(validator.clone()), *amount), up(C::Undistributed, *amount)];
            plain(entry(EffectName::RewardCompounded, legs)?, true)
        }
        EffectKind::FeePaid { amount } => {
            plain(entry(EffectName::FeePaid, vec![down(A::Liquid, *amount), down(C::House, *amount)])?, ours)
        }
        EffectKind::Slashed { validator, delegated, unbonding } => {
            let lost = delegated.checked_add(*unbonding)?;
            let bearer = if lost > context.rounding { context.bearer } else { SlashPolicy::PlatformAbsorbs };
            let slash = Slash {
                validator: validator.clone(),
                delegated: *delegated,
                unbonding: *unbonding,
                bearer,
                returned: BaseUnits::ZERO,
            };
            let entry = entry(EffectName::Slashed, slash.legs()?)?;
            let change = Some((validator.clone(), unbonding.negated()));
            Ok(Booking::Post(Box::new(Posting { unbonding: change, slash: Some(slash), ..Posting::of(entry, true) })))
        }
        EffectKind::SlashReversed { validator, delegated, unbonding, .. } => {
            let change = Some((validator.clone(), unbonding.signed()));
            let known = context.slash.filter(|slash| slash.validator == *validator);
            let Some(slash) = known else {
                let back = delegated.checked_add(*unbonding)?;
                let to = [up(A::Delegated(validator.clone()), *delegated), up(A::Unbonding, *unbonding)];
                let legs = to.into_iter().chain([up(C::Suspense, back)]).collect();
                let posting = Posting::of(entry(EffectName::SlashReversed, legs)?, false);
                return Ok(Booking::Post(Box::new(Posting { suspense: back, unbonding: change, ..posting })));
            };
            let reversal = slash.reverse(*delegated, *unbonding, context.owed)?;
            let posting = Posting::of(entry(EffectName::SlashReversed, reversal.legs)?, true);
            let (suspense, slash) = (reversal.suspense, Some(reversal.slash));
            Ok(Booking::Post(Box::new(Posting { suspense, unbonding: change, slash, ..posting })))
        }
    }
}

/// A drop that no effect explains, found by reconciliation first at `height`: booked as a slash.
pub fn unexplained_drop(height: u64, slash: &Slash) -> Result<Entry, LedgerError> {
    Entry::new(Reason::UnexplainedDrop(height, slash.validator.clone()), slash.legs()?)
}

/// A drop at `height` that is no more than what the operations which took effect there may lose by rounding: the house's.
pub fn rounding(height: u64, slash: &Slash) -> Result<Entry, LedgerError> {
    Entry::new(Reason::Rounding(height, slash.validator.clone()), slash.legs()?)
}

fn transfer_in(effect: &Effect, context: &EffectContext<'_>, amount: BaseUnits) -> Result<Booking, BookingError> {
    let fund = context.transfer.filter(|transfer| transfer.direction == Direction::Fund);
    let (money, transfer, purpose) = match fund {
        Some(fund) => {
            let step = fund.apply(TransferEvent::Seen(amount))?;
            (step.money, Some(step.transfer), fund.purpose)
        }
        None => (TransferMoney { surplus: amount, ..TransferMoney::default() }, None, Purpose::Principal),
    };
    let mut legs = vec![up(A::Liquid, amount), up(C::Suspense, money.surplus)];
    match purpose {
        Purpose::Principal => {
            legs.extend([down(A::InTransit, money.from_transit), down(A::Custody, money.from_custody)]);
        }
        Purpose::HouseFloat => legs.push(up(C::House, money.from_transit.checked_add(money.from_custody)?)),
    }
    let entry = Entry::new(Reason::Effect(EffectName::TransferIn, effect.key.clone()), legs)?;
    let suspense = money.surplus;
    Ok(Booking::Post(Box::new(Posting { transfer, suspense, ..Posting::of(entry, suspense.is_zero()) })))
}

fn transfer_out(effect: &Effect, context: &EffectContext<'_>, amount: BaseUnits) -> Result<Booking, BookingError> {
    let Some(defund) = context.transfer.filter(|transfer| transfer.direction == Direction::Defund) else {
        return Ok(Booking::PauseAndReport(Discrepancy::Outflow { amount }));
    };
    let step = defund.apply(TransferEvent::Seen(amount))?;
    let reserved = match context.operation {
        Some((OperationKind::SendToCustody { .. }, left)) => left,
        _ => BaseUnits::ZERO,
    };
    let used = reserved.min(amount);
    let legs = [down(A::InFlight, used), down(A::Liquid, amount.saturating_sub(used)), up(A::InTransit, amount)];
    let entry = Entry::new(Reason::Effect(EffectName::TransferOut, effect.key.clone()), legs)?;
    Ok(Booking::Post(Box::new(Posting { used, transfer: Some(step.transfer), ..Posting::of(entry, used == amount) })))
}

/// Custody acknowledges `amount` of a transfer: sent, of a FUND; received, of a DEFUND. The house's own tokens are in
/// no account of the pool until the chain shows them, so that an acknowledged house float posts nothing.
pub fn acknowledge_transfer(transfer: &Transfer, amount: BaseUnits) -> Result<(Transfer, Entry), BookingError> {
    let step = transfer.apply(TransferEvent::Acknowledged(amount))?;
    let moved = step.money.acknowledged;
    let id = transfer.id.clone();
    let entry = match (transfer.direction, transfer.purpose) {
        (Direction::Fund, Purpose::Principal) => {
            #[cfg(feature = "seeded-bugs")]
            if crate::seeded::on(crate::seeded::Bug::FundBookedOnWord) {
                let legs = [down(A::Custody, moved), up(A::Liquid, moved)];
                return Ok((step.transfer, Entry::new(Reason::FundSent(id), legs)?));
            }
            Entry::new(Reason::FundSent(id), [down(A::Custody, moved), up(A::InTransit, moved)])?
        }
        (Direction::Fund, Purpose::HouseFloat) => Entry::new(Reason::FundSent(id), [])?,
        (Direction::Defund, Purpose::Principal) => {
            Entry::new(Reason::DefundReceived(id), [down(A::InTransit, moved), up(A::Custody, moved)])?
        }
        // The operator takes house money out: it leaves the pool when custody has it.
        (Direction::Defund, Purpose::HouseFloat) => {
            Entry::new(Reason::DefundReceived(id), [down(A::InTransit, moved), down(C::House, moved)])?
        }
    };
    Ok((step.transfer, entry))
}

/// Custody says that no more will come of a FUND: what it had acknowledged and the chain has not shown is in custody
/// again. The house's own tokens were in no account of the pool.
pub fn end_fund(transfer: &Transfer) -> Result<(Transfer, Entry), BookingError> {
    let step = transfer.apply(TransferEvent::Finished)?;
    let returned = match transfer.purpose {
        Purpose::Principal => step.money.returned,
        Purpose::HouseFloat => BaseUnits::ZERO,
    };
    let legs = [down(A::InTransit, returned), up(A::Custody, returned)];
    Ok((step.transfer, Entry::new(Reason::FundReturned(transfer.id.clone()), legs)?))
}

/// Equation 1, before anything is made from the figures.
fn balanced(figures: &Figures) -> Result<(), BookingError> {
    let (taken, given) = figures.sides()?;
    if taken == given { Ok(()) } else { Err(BookingError::Distribution { taken, given }) }
}

/// A distribution is computed: it takes its receipts and carry, and nothing else moves.
pub fn compute(revision: RevisionRef, figures: &Figures) -> Result<Entry, BookingError> {
    balanced(figures)?;
    let taken = figures.receipts.checked_add(figures.carry_in)?;
    let legs =
        [down(C::Undistributed, figures.receipts), down(C::Carry, figures.carry_in), up(C::InDistribution, taken)];
    Ok(Entry::new(Reason::DistributionComputed(revision), legs)?)
}

/// A distribution is voided before its release: the exact reverse of [`compute`].
pub fn void(revision: RevisionRef, figures: &Figures) -> Result<Entry, BookingError> {
    balanced(figures)?;
    let taken = figures.receipts.checked_add(figures.carry_in)?;
    let legs = [up(C::Undistributed, figures.receipts), up(C::Carry, figures.carry_in), down(C::InDistribution, taken)];
    Ok(Entry::new(Reason::DistributionVoided(revision), legs)?)
}

/// A distribution is released: fee, recovery, payouts, house and carry are posted.
pub fn release_distribution(revision: RevisionRef, figures: &Figures) -> Result<Entry, BookingError> {
    balanced(figures)?;
    let legs = [
        down(C::InDistribution, figures.receipts.checked_add(figures.carry_in)?),
        down(C::House, figures.house_in),
        up(C::House, figures.fee),
        up(C::House, figures.house_out),
        down(C::SlashReceivable, figures.recovery),
        up(C::Payable, figures.payouts),
        up(C::Carry, figures.carry_out),
    ];
    Ok(Entry::new(Reason::DistributionReleased(revision), legs)?)
}

/// The ledger service has credited payouts of `amount` in all: the claim and the tokens leave the pool's books, and its
/// feed brings the customers' balances back as principal.
pub fn payouts_acknowledged(revision: RevisionRef, amount: BaseUnits) -> Result<Entry, LedgerError> {
    Entry::new(Reason::PayoutsAcknowledged(revision), [down(C::Payable, amount), down(A::Custody, amount)])
}

/// The ledger service has rejected payouts of `amount` in all.
pub fn payouts_rejected(revision: RevisionRef, amount: BaseUnits) -> Result<Entry, LedgerError> {
    Entry::new(Reason::PayoutsRejected(revision), [down(C::Payable, amount), up(C::Unclaimed, amount)])
}

/// Rejected payouts of `amount` in all become payable to a named successor.
pub fn unclaimed_reassigned(revision: RevisionRef, amount: BaseUnits) -> Result<Entry, LedgerError> {
    Entry::new(Reason::UnclaimedReassigned(revision), [down(C::Unclaimed, amount), up(C::Payable, amount)])
}

/// Reconciliation found more on the chain than in the ledger, first at `height`, in these accounts: it goes to suspense,
/// never to rewards.
pub fn unexplained_increase(
    height: u64,
    found: impl IntoIterator<Item = (A, BaseUnits)>,
) -> Result<Entry, LedgerError> {
    let legs = found.into_iter().flat_map(|(account, amount)| [up(account, amount), up(C::Suspense, amount)]);
    Entry::new(Reason::UnexplainedIncrease(height), legs)
}

/// A person proves that `amount` of what is in suspense was a reward: the claim is the customers' from now on.
pub fn receipt_recorded(key: &EffectKey, amount: BaseUnits) -> Result<Entry, LedgerError> {
    Entry::new(Reason::ReceiptRecorded(key.clone()), [down(C::Suspense, amount), up(C::Undistributed, amount)])
}

/// What reconciliation found apart, first at `height`, and a person has accepted: `lost` is less on the chain than in the
/// ledger, `found` is more. What was lost in one account and found in another has moved; what is missing in all is the
/// house's loss, and what is beyond the ledger in all goes to suspense.
pub fn differences_accepted(
    height: u64,
    lost: &[(A, BaseUnits)],
    found: &[(A, BaseUnits)],
) -> Result<Entry, BookingError> {
    let sum = |all: &[(A, BaseUnits)]| BaseUnits::sum(all.iter().map(|(_, amount)| *amount));
    let (missing, beyond) = (sum(lost)?, sum(found)?);
    let downs = lost.iter().map(|(account, amount)| down(account.clone(), *amount));
    let ups = found.iter().map(|(account, amount)| up(account.clone(), *amount));
    let claims = [down(C::House, missing.saturating_sub(beyond)), up(C::Suspense, beyond.saturating_sub(missing))];
    Ok(Entry::new(Reason::DifferencesAccepted(height), downs.chain(ups).chain(claims))?)
}

#[cfg(test)]
#[path = "booking_tests.rs"]
mod tests;
