//! Which validators get how much: the target, the validators and today's delegations in, the moves and the reason for
//! each out. Deterministic; it depends on no order of its inputs.

use super::names::stable_names;
use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::amount::{AmountError, BaseUnits};
use super::ids::{OperatorGroup, ValidatorId};
use super::operation::OperationKind;
use super::validator::{ChainValidator, ValidatorStatus};

mod fill;
mod moves;

/// A validator with what the operator says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As the chain reports it.
    pub validator: ChainValidator,
    /// Its weight. Where no candidate has one, all eligible ones weigh the same; where one has, those without are not
    /// chosen. Zero chooses none of it.
    pub weight: Option<u32>,
    /// Who runs it, where several are run by one.
    pub group: Option<OperatorGroup>,
    /// Whether the operator has removed it.
    pub removed: bool,
}

/// Our stake with one validator, moves in flight apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// What is staked.
    pub delegated: BaseUnits,
    /// What operations in flight will add.
    pub pending_in: BaseUnits,
    /// What operations in flight will take away.
    pub pending_out: BaseUnits,
    /// What of it the chain no longer shows, such as after a slash that is not booked yet: it can't move.
    pub missing: BaseUnits,
    /// What must not be redelegated yet.
    pub redelegation_locked: BaseUnits,
    /// How many unbondings may be begun there now, so that there is room for the next exits.
    pub unbonding_room: u32,
    /// How many the chain still takes there. Whoever is emptied has no next exit: these may all be used.
    pub unbonding_free: u32,
    /// Whether one begun now becomes part of one that pends, and takes no room.
    pub joins_unbonding: bool,
}

/// What the moves have to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationLimits {
    /// The most of the stake with one validator; the whole for no cap.
    pub max_share_bps: u32,
    /// The most of the stake with one operator group; the whole for no cap.
    pub max_group_share_bps: u32,
    /// The highest commission of a validator that gets stake.
    pub max_commission: Decimal,
    /// The most validators with stake of ours, of chain and policy the smaller.
    pub max_validators: u32,
    /// The least that may stand with one validator.
    pub min_delegation: BaseUnits,
    /// Moves are whole multiples of this.
    pub delegation_unit: BaseUnits,
    /// Moves below this are not worth a transaction, unless they empty a validator.
    pub min_move: BaseUnits,
    /// Whether stake can move without unbonding.
    pub redelegation: bool,
    /// How many unbondings may be begun in all now, where there is such a limit.
    pub unbonding_room: Option<u32>,
}

/// Everything that an allocation depends on.
#[derive(Clone, Debug)]
pub struct AllocationRequest {
    /// What should be staked in all: shares are shares of this, or of what is staked where that is more.
    pub target: BaseUnits,
    /// What to stake now; the staking address has it.
    pub stake: BaseUnits,
    /// What to unstake now.
    pub unstake: BaseUnits,
    /// The validators, in any order, each once.
    pub candidates: Vec<Candidate>,
    /// Today's delegations; one with a validator that is no candidate is drained.
    pub holdings: BTreeMap<ValidatorId, Holding>,
    /// The limits.
    pub limits: AllocationLimits,
}

/// Why stake leaves a validator altogether. The order is the order in which they are drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrainReason {
    /// It is out of the set for ever.
    Tombstoned,
    /// It is jailed.
    Jailed,
    /// The operator removed it, or the chain does not know it.
    Removed,
    /// It is not in the active set and earns nothing.
    Inactive,
    /// It takes more commission than is allowed.
    CommissionAboveMax,
    /// It has no weight, or others were chosen.
    NotChosen,
}

/// Why a move is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveReason {
    /// The source is emptied.
    Drain(DrainReason),
    /// The source is above its own cap or its group's.
    AboveCap,
    /// The source has more than its weight says.
    AboveWeight,
    /// The pool needs liquid tokens and the weights can't be kept for it.
    ReserveNeed,
    /// The validator has less than its weight says.
    BelowWeight,
    /// The rest, which is too small for a move of its own, or which the weights don't place.
    Rest,
}

stable_names!(
    MoveReason,
    /// The stable name.
    fn name(self) {
        Self::Drain(DrainReason::Tombstoned) => "DRAIN_TOMBSTONED",
        Self::Drain(DrainReason::Jailed) => "DRAIN_JAILED",
        Self::Drain(DrainReason::Removed) => "DRAIN_REMOVED",
        Self::Drain(DrainReason::Inactive) => "DRAIN_INACTIVE",
        Self::Drain(DrainReason::CommissionAboveMax) => "DRAIN_COMMISSION_ABOVE_MAX",
        Self::Drain(DrainReason::NotChosen) => "DRAIN_NOT_CHOSEN",
        Self::AboveCap => "ABOVE_CAP",
        Self::AboveWeight => "ABOVE_WEIGHT",
        Self::ReserveNeed => "RESERVE_NEED",
        Self::BelowWeight => "BELOW_WEIGHT",
        Self::Rest => "REST",
    }
);

/// One move, as the operation that makes it, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// A delegate, an undelegate or a redelegate.
    pub kind: OperationKind,
    /// Why.
    pub reason: MoveReason,
}

/// A limit that kept the allocation from doing all that was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// No validator may get stake.
    NoEligibleValidator,
    /// A validator's share is full.
    ValidatorShare(ValidatorId),
    /// A group's share is full.
    GroupShare(OperatorGroup),
    /// Stake leaves this validator in the same run.
    LosesStake(ValidatorId),
    /// No further validator may be opened.
    MaxValidators,
    /// What is left is below the least that may stand with one validator.
    MinDelegation,
    /// What is left is below one unit, or too small to move.
    MinMove,
    /// No further unbonding may be begun with a validator now.
    UnbondingEntries(ValidatorId),
    /// No further unbonding may be begun in all now.
    UnbondingEntriesOfAccount,
    /// Stake can't be redelegated yet.
    RedelegationLocked(ValidatorId),
    /// There is not that much to unstake.
    NothingLeft,
}

/// The moves of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The moves: unstaking, then moving, then staking.
    pub moves: Vec<Move>,
    /// How much of what was asked is staked.
    pub staked: BaseUnits,
    /// How much is unstaked; more than was asked where a validator has to be emptied and can't be otherwise.
    pub unstaked: BaseUnits,
    /// How much moves between validators.
    pub redelegated: BaseUnits,
    /// What was asked to be staked and is not.
    pub not_staked: BaseUnits,
    /// What was asked to be unstaked and is not.
    pub not_unstaked: BaseUnits,
    /// What every validator will have once all is done, those with nothing left out.
    pub result: BTreeMap<ValidatorId, BaseUnits>,
    /// Which limits bound.
    pub binding: BTreeSet<Binding>,
}

/// Decides the moves.
pub fn allocate(request: &AllocationRequest) -> Result<Allocation, AmountError> {
    let mut desk = Desk::open(request)?;
    desk.set_desired(request)?;
    moves::make(&mut desk, request)
}

/// One validator on the desk. Amounts in base units.
#[derive(Clone, Debug)]
struct Seat {
    id: ValidatorId,
    group: Option<usize>,
    weight: u32,
    commission: Decimal,
    tokens: BaseUnits,
    drain: Option<DrainReason>,
    /// Whether stake may come to it in this run.
    chosen: bool,
    /// Delegated with everything in flight.
    start: u128,
    /// What it will have after the moves made so far.
    now: u128,
    /// What it should have.
    desired: u128,
    /// What may be unstaked here, and what of it redelegated.
    movable: u128,
    redelegable: u128,
    unbonding_room: u32,
    unbonding_free: u32,
    joins_unbonding: bool,
    /// Whether stake has left it in this run: then none may come.
    source: bool,
    /// Whether stake was moved to it in this run: then none may be moved onward.
    sink: bool,
}

/// Everything that a run works on, by validator id.
#[derive(Clone, Debug)]
struct Desk {
    seats: Vec<Seat>,
    groups: Vec<OperatorGroup>,
    cap: u128,
    group_cap: u128,
    unit: u128,
    binding: BTreeSet<Binding>,
}

impl Desk {
    fn open(request: &AllocationRequest) -> Result<Self, AmountError> {
        let limits = &request.limits;
        let weighed = request.candidates.iter().any(|candidate| candidate.weight.is_some());
        let groups: BTreeSet<_> = request.candidates.iter().filter_map(|candidate| candidate.group.clone()).collect();
        let groups: Vec<_> = groups.into_iter().collect();
        let mut seats = BTreeMap::<ValidatorId, Seat>::new();
        for candidate in &request.candidates {
            let id = candidate.validator.id.clone();
            let weight = candidate.weight.unwrap_or(u32::from(!weighed));
            let seat = Seat {
                id: id.clone(),
                group: candidate.group.as_ref().and_then(|group| groups.binary_search(group).ok()),
                weight,
                commission: candidate.validator.commission,
                tokens: candidate.validator.tokens,
                drain: drain(candidate, weight, limits),
                ..Seat::empty(id.clone())
            };
            seats.insert(id, seat);
        }
        let mut total = BaseUnits::ZERO;
        for (id, holding) in &request.holdings {
            let seat = seats.entry(id.clone()).or_insert_with(|| Seat::empty(id.clone()));
            let here = holding.delegated.saturating_sub(holding.pending_out);
            let start = here.checked_add(holding.pending_in)?;
            total = total.checked_add(start)?;
            seat.start = start.get();
            seat.now = start.get();
            let movable = here.saturating_sub(holding.missing);
            seat.movable = movable.get();
            seat.redelegable = movable.saturating_sub(holding.redelegation_locked).get();
            seat.unbonding_room = holding.unbonding_room;
            seat.unbonding_free = holding.unbonding_free;
            seat.joins_unbonding = holding.joins_unbonding;
        }
        // Shares are of the target, or of what stays staked where that is more: staking adds to no cap.
        let whole = request.target.max(total.saturating_sub(request.unstake));
        let cap = |bps: u32| whole.mul_div_floor(u128::from(bps.min(10_000)), 10_000).map(BaseUnits::get);
        Ok(Self {
            seats: seats.into_values().collect(),
            groups,
            cap: cap(limits.max_share_bps)?,
            group_cap: cap(limits.max_group_share_bps)?,
            unit: limits.delegation_unit.get().max(1),
            binding: BTreeSet::new(),
        })
    }

    /// Chooses the validators and says what each should have.
    fn set_desired(&mut self, request: &AllocationRequest) -> Result<(), AmountError> {
        let limits = &request.limits;
        let total = BaseUnits::sum(self.seats.iter().map(|seat| BaseUnits::new(seat.start).unwrap_or(BaseUnits::MAX)))?;
        let after = total.checked_add(request.stake)?.saturating_sub(request.unstake).get();

        let mut ranked: Vec<usize> = (0..self.seats.len()).filter(|i| self.seats[*i].drain.is_none()).collect();
        ranked.sort_by(|a, b| {
            let (a, b) = (&self.seats[*a], &self.seats[*b]);
            (b.weight.cmp(&a.weight))
                .then(b.start.cmp(&a.start))
                .then(a.commission.cmp(&b.commission))
                .then(b.tokens.cmp(&a.tokens))
                .then(a.id.cmp(&b.id))
        });
        // No more validators than may have stake, nor than the least delegation allows.
        let most = usize::try_from(limits.max_validators).unwrap_or(usize::MAX);
        let spread = match limits.min_delegation.get() {
            0 => usize::MAX,
            least => usize::try_from(after / least).unwrap_or(usize::MAX).max(1),
        };
        for loser in ranked.iter().skip(most) {
            self.seats[*loser].drain = Some(DrainReason::NotChosen);
        }
        ranked.truncate(most);
        // Who has stake keeps the place until it is empty.
        let holders = self.seats.iter().filter(|seat| seat.start > 0).count();
        let mut openings = most.saturating_sub(holders);
        let mut room = spread.saturating_sub(ranked.iter().filter(|i| self.seats[**i].start > 0).count());
        let mut chosen = Vec::new();
        for i in ranked {
            if self.seats[i].start == 0 {
                if openings == 0 || room == 0 {
                    continue;
                }
                openings -= 1;
                room -= 1;
            }
            self.seats[i].chosen = true;
            chosen.push(i);
        }
        fill::fill(self, &chosen, after);
        Ok(())
    }
}

impl Seat {
    /// A validator that nobody but a holding knows.
    fn empty(id: ValidatorId) -> Self {
        Self {
            id,
            group: None,
            weight: 0,
            commission: Decimal::ZERO,
            tokens: BaseUnits::ZERO,
            drain: Some(DrainReason::Removed),
            chosen: false,
            start: 0,
            now: 0,
            desired: 0,
            movable: 0,
            redelegable: 0,
            unbonding_room: 0,
            unbonding_free: 0,
            joins_unbonding: false,
            source: false,
            sink: false,
        }
    }
}

/// Why a candidate may not have stake, if so.
fn drain(candidate: &Candidate, weight: u32, limits: &AllocationLimits) -> Option<DrainReason> {
    match candidate.validator.status {
        ValidatorStatus::Tombstoned => Some(DrainReason::Tombstoned),
        ValidatorStatus::Jailed => Some(DrainReason::Jailed),
        _ if candidate.removed => Some(DrainReason::Removed),
        ValidatorStatus::Inactive => Some(DrainReason::Inactive),
        ValidatorStatus::Active if candidate.validator.commission > limits.max_commission => {
            Some(DrainReason::CommissionAboveMax)
        }
        ValidatorStatus::Active if weight == 0 => Some(DrainReason::NotChosen),
        ValidatorStatus::Active => None,
    }
}

#[cfg(test)]
#[path = "allocation_tests.rs"]
mod tests;
