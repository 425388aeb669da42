//! From what each validator has and should have to the moves, as few as will do.

use super::super::amount::{AmountError, BaseUnits};
use super::super::operation::OperationKind;
use super::{Allocation, AllocationRequest, Binding, Desk, DrainReason, Move, MoveReason};

/// One part in so many of a validator's stake is what an unbonding from it takes at least, where so much is needed: an
/// entry is scarcer than an even spread, which new stake restores.
const WORTH_AN_ENTRY: u128 = 4;

/// The same of a validator that takes one more unbonding only.
const WORTH_THE_LAST_ENTRY: u128 = 2;

/// One part in so many of a validator's stake may stand where it is not weighed: moving it would lock the rest of where
/// it goes.
const DRIFT: u128 = 10;

/// A run in progress.
struct Run<'a> {
    desk: &'a mut Desk,
    request: &'a AllocationRequest,
    least: u128,
    min_move: u128,
    account_room: u32,
    undelegate: Vec<(usize, u128, MoveReason)>,
    redelegate: Vec<(usize, usize, u128, MoveReason)>,
    delegate: Vec<(usize, u128, MoveReason)>,
}

/// Makes the moves on an open desk whose seats know what they should have.
pub(super) fn make(desk: &mut Desk, request: &AllocationRequest) -> Result<Allocation, AmountError> {
    let limits = &request.limits;
    let mut run = Run {
        least: limits.min_delegation.get(),
        min_move: limits.min_move.get().max(1).div_ceil(desk.unit).saturating_mul(desk.unit),
        account_room: limits.unbonding_room.unwrap_or(u32::MAX),
        desk,
        request,
        undelegate: Vec::new(),
        redelegate: Vec::new(),
        delegate: Vec::new(),
    };
    let not_unstaked = run.unstake();
    run.redelegate();
    run.empty_by_unstaking();
    let not_staked = run.stake();
    run.finish(not_staked, not_unstaked)
}

impl Run<'_> {
    /// Takes what the pool needs: from those to be drained, then from those above cap or weight, most first, then from
    /// whoever has any.
    fn unstake(&mut self) -> u128 {
        let unit = self.desk.unit;
        let asked = self.request.unstake.get();
        // Exits are served in full: the last unit is rounded up.
        let mut left = asked.div_ceil(unit).saturating_mul(unit);
        for by_weight in [true, false] {
            for (i, reason) in self.sources(by_weight) {
                if left == 0 {
                    break;
                }
                let seat = &self.desk.seats[i];
                // By weight, a validator gives what it has too much of, but no move is smaller than is worth it.
                let above = seat.now.saturating_sub(seat.desired);
                let parts = if seat.unbonding_room <= 1 { WORTH_THE_LAST_ENTRY } else { WORTH_AN_ENTRY };
                let worth = self.min_move.max(seat.now / parts);
                let spare = match (by_weight, above) {
                    (true, 0) => 0,
                    (true, above) => above.max(worth).min(seat.movable),
                    (false, _) => seat.movable,
                };
                let reason = if reason == MoveReason::AboveWeight { MoveReason::ReserveNeed } else { reason };
                let amount = self.take(i, spare.min(left), spare == seat.now);
                if amount > 0 && self.begin_unbonding(i, amount, reason) {
                    left = left.saturating_sub(amount);
                }
            }
        }
        if left > 0 && asked > 0 && self.desk.seats.iter().all(|seat| seat.movable < unit) {
            self.desk.binding.insert(Binding::NothingLeft);
        }
        left.min(asked)
    }

    /// Validators that stake may leave, in the order in which it leaves them.
    fn sources(&self, by_weight: bool) -> Vec<(usize, MoveReason)> {
        let desk = &*self.desk;
        let mut list: Vec<usize> = (0..desk.seats.len()).filter(|i| desk.seats[*i].movable > 0).collect();
        list.sort_by_key(|i| {
            let seat = &desk.seats[*i];
            let spare = if by_weight { seat.now.saturating_sub(seat.desired) } else { seat.now };
            (seat.drain.is_none(), seat.drain, !self.above_cap(*i), std::cmp::Reverse(spare), *i)
        });
        let reason = |i: usize| match desk.seats[i].drain {
            Some(drain) => MoveReason::Drain(drain),
            None if !by_weight => MoveReason::ReserveNeed,
            None if self.above_cap(i) => MoveReason::AboveCap,
            None => MoveReason::AboveWeight,
        };
        list.into_iter().map(|i| (i, reason(i))).collect()
    }

    fn above_cap(&self, i: usize) -> bool {
        let seat = &self.desk.seats[i];
        seat.now > self.desk.cap
            || seat.group.is_some_and(|group| seat.now > seat.desired && self.group_sum(group) > self.desk.group_cap)
    }

    fn group_sum(&self, group: usize) -> u128 {
        self.desk.seats.iter().filter(|seat| seat.group == Some(group)).map(|seat| seat.now).sum()
    }

    /// How much of `amount` may leave a validator: whole units, leaving nothing or no less than the least. `empties`
    /// says that the amount may be everything, which need not be whole units.
    fn take(&self, i: usize, amount: u128, empties: bool) -> u128 {
        let seat = &self.desk.seats[i];
        if empties && amount == seat.now {
            return amount;
        }
        let whole = amount - amount % self.desk.unit;
        let rest = seat.now.saturating_sub(whole);
        if rest == 0 || rest >= self.least {
            return whole;
        }
        let less = seat.now.saturating_sub(self.least).min(whole);
        less - less % self.desk.unit
    }

    fn begin_unbonding(&mut self, i: usize, amount: u128, reason: MoveReason) -> bool {
        if let Some((_, sum, _)) = self.undelegate.iter_mut().find(|(at, ..)| *at == i) {
            *sum += amount;
        } else {
            let seat = &self.desk.seats[i];
            if !seat.joins_unbonding {
                let empties = amount == seat.now;
                if seat.unbonding_room == 0 && !(empties && seat.unbonding_free > 0) {
                    self.desk.binding.insert(Binding::UnbondingEntries(seat.id.clone()));
                    return false;
                }
                if self.account_room == 0 {
                    self.desk.binding.insert(Binding::UnbondingEntriesOfAccount);
                    return false;
                }
                self.account_room -= 1;
            }
            self.undelegate.push((i, amount, reason));
        }
        self.leave(i, amount, false);
        true
    }

    /// Stake leaves a validator: unbonding takes what must not be redelegated first.
    fn leave(&mut self, i: usize, amount: u128, redelegated: bool) {
        let seat = &mut self.desk.seats[i];
        seat.now -= amount;
        seat.movable -= amount;
        if redelegated {
            seat.redelegable -= amount;
        }
        seat.redelegable = seat.redelegable.min(seat.movable);
        seat.source = true;
    }

    /// Moves stake from where it may not be or is too much to where there is too little.
    fn redelegate(&mut self) {
        if !self.request.limits.redelegation {
            return;
        }
        for (from, reason) in self.sources(true) {
            let seat = &self.desk.seats[from];
            if seat.sink {
                continue;
            }
            let spare = seat.now.saturating_sub(seat.desired).min(seat.movable);
            let mut left = spare.min(seat.redelegable);
            if left < spare && seat.drain.is_some() {
                let id = seat.id.clone();
                self.desk.binding.insert(Binding::RedelegationLocked(id));
            }
            let must = matches!(reason, MoveReason::Drain(_) | MoveReason::AboveCap);
            if !must && spare < self.min_move.max(seat.now / DRIFT) {
                continue;
            }
            for to_cap in [false, true] {
                // Only what must leave goes beyond the weights.
                if to_cap && !must {
                    break;
                }
                for to in self.sinks() {
                    if left == 0 {
                        break;
                    }
                    if to == from {
                        continue;
                    }
                    // Past the weights, a move within a group does nothing for a group that is too large.
                    let (a, b) = (&self.desk.seats[from], &self.desk.seats[to]);
                    if to_cap && a.drain.is_none() && a.group.is_some() && a.group == b.group {
                        continue;
                    }
                    let room = self.room(to, to_cap, Some(from));
                    let empties = left == self.desk.seats[from].now && room >= left;
                    let amount = self.take(from, left.min(room), empties);
                    let small = amount < self.min_move && amount < self.desk.seats[from].now;
                    if amount == 0 || small || !self.stands(to, amount) {
                        continue;
                    }
                    self.leave(from, amount, true);
                    left -= amount;
                    self.desk.seats[to].now += amount;
                    self.desk.seats[to].sink = true;
                    match self.redelegate.iter_mut().find(|(a, b, ..)| (*a, *b) == (from, to)) {
                        Some((_, _, sum, _)) => *sum += amount,
                        None => self.redelegate.push((from, to, amount, reason)),
                    }
                }
            }
        }
    }

    /// What a punished or removed validator still has, and what is above a cap, is unstaked where it can't be moved.
    fn empty_by_unstaking(&mut self) {
        let hard = [DrainReason::Tombstoned, DrainReason::Jailed, DrainReason::Removed];
        for (i, reason) in self.sources(true) {
            let movable_elsewhere = self.request.limits.redelegation;
            let wanted = match reason {
                MoveReason::Drain(drain) => hard.contains(&drain) || !movable_elsewhere,
                MoveReason::AboveCap => true,
                _ => false,
            };
            if !wanted || self.desk.seats[i].sink {
                continue;
            }
            let seat = &self.desk.seats[i];
            let spare = match reason {
                MoveReason::Drain(_) => seat.movable,
                _ => seat.now.saturating_sub(seat.desired).min(seat.movable),
            };
            let amount = self.take(i, spare, spare == seat.now);
            if amount > 0 && (amount >= self.min_move || amount == self.desk.seats[i].now) {
                self.begin_unbonding(i, amount, reason);
            }
        }
    }

    /// Validators that stake may come to, the most under-weight first.
    fn sinks(&self) -> Vec<usize> {
        let desk = &*self.desk;
        let may = |i: &usize| {
            let seat = &desk.seats[*i];
            seat.chosen && !seat.source
        };
        let mut list: Vec<usize> = (0..desk.seats.len()).filter(may).collect();
        list.sort_by_key(|i| {
            let seat = &desk.seats[*i];
            (std::cmp::Reverse(seat.desired.saturating_sub(seat.now)), seat.now, *i)
        });
        list
    }

    /// What a validator can still take: up to what it should have, or up to its caps. Whole units. What comes `from` the
    /// same group is not counted twice: the others of the group may fill its cap.
    fn room(&self, i: usize, to_cap: bool, from: Option<usize>) -> u128 {
        let desk = &*self.desk;
        let seat = &desk.seats[i];
        let own = if to_cap { desk.cap } else { seat.desired.min(desk.cap) }.saturating_sub(seat.now);
        let group = seat.group.map_or(u128::MAX, |group| {
            let leaves = from.map(|from| &desk.seats[from]).filter(|from| from.group == Some(group));
            let others = self.group_sum(group).saturating_sub(leaves.map_or(0, |from| from.now));
            desk.group_cap.saturating_sub(others)
        });
        let room = own.min(group);
        room - room % desk.unit
    }

    /// Whether a validator would stand with the least that it needs.
    fn stands(&self, i: usize, amount: u128) -> bool {
        self.desk.seats[i].now + amount >= self.least
    }

    /// Stakes what is asked: first to the weights, then the rest up to the caps.
    fn stake(&mut self) -> u128 {
        let asked = self.request.stake.get();
        let unit = self.desk.unit;
        let mut left = asked - asked % unit;
        for (to_cap, reason) in [(false, MoveReason::BelowWeight), (true, MoveReason::Rest)] {
            for i in self.sinks() {
                let short = self.desk.seats[i].desired.saturating_sub(self.desk.seats[i].now);
                // By weight, a validator gets what it lacks, but no move is smaller than is worth it.
                let wanted = if to_cap { u128::MAX } else { short.max(self.min_move) };
                if short == 0 && !to_cap {
                    continue;
                }
                let amount = self.room(i, true, None).min(wanted).min(left);
                let amount = amount - amount % unit;
                let joins = self.delegate.iter().position(|(at, ..)| *at == i);
                if amount == 0 || (amount < self.min_move && joins.is_none()) || !self.stands(i, amount) {
                    continue;
                }
                match joins {
                    Some(at) => self.delegate[at].1 += amount,
                    None => self.delegate.push((i, amount, reason)),
                }
                self.desk.seats[i].now += amount;
                left -= amount;
            }
        }
        let not_staked = left + asked % unit;
        if not_staked > 0 {
            self.say_what_binds(left);
        }
        not_staked
    }

    fn say_what_binds(&mut self, left: u128) {
        if left < self.min_move {
            self.desk.binding.insert(Binding::MinMove);
            return;
        }
        let mut found = Vec::new();
        let least = self.min_move;
        for (i, seat) in self.desk.seats.iter().enumerate().filter(|(_, seat)| seat.drain.is_none()) {
            if let Some(group) = seat.group
                && self.desk.group_cap.saturating_sub(self.group_sum(group)) < least
            {
                found.push(Binding::GroupShare(self.desk.groups[group].clone()));
            }
            if seat.source {
                found.push(Binding::LosesStake(seat.id.clone()));
            }
            if self.desk.cap.saturating_sub(seat.now) < least {
                found.push(Binding::ValidatorShare(seat.id.clone()));
            }
            if !seat.chosen || !self.stands(i, left.min(self.room(i, true, None))) {
                found.push(Binding::MinDelegation);
            }
        }
        let open = self.desk.seats.iter().filter(|seat| seat.now > 0).count();
        if u32::try_from(open).is_ok_and(|open| open >= self.request.limits.max_validators) {
            found.push(Binding::MaxValidators);
        }
        if self.desk.seats.iter().all(|seat| seat.drain.is_some()) {
            found.push(Binding::NoEligibleValidator);
        }
        self.desk.binding.extend(found);
    }

    fn finish(self, not_staked: u128, not_unstaked: u128) -> Result<Allocation, AmountError> {
        let id = |i: usize| self.desk.seats[i].id.clone();
        let mut out = Allocation {
            not_staked: BaseUnits::new(not_staked)?,
            not_unstaked: BaseUnits::new(not_unstaked)?,
            binding: self.desk.binding.clone(),
            ..Allocation::default()
        };
        for (i, amount, reason) in self.undelegate {
            let amount = BaseUnits::new(amount)?;
            #[cfg(feature = "seeded-bugs")]
            let amount = if crate::seeded::on(crate::seeded::Bug::DrainAsksMore) {
                amount.checked_add(BaseUnits::from_u64(1))?
            } else {
                amount
            };
            out.unstaked = out.unstaked.checked_add(amount)?;
            out.moves.push(Move { kind: OperationKind::Undelegate { validator: id(i), amount }, reason });
        }
        for (from, to, amount, reason) in self.redelegate {
            let amount = BaseUnits::new(amount)?;
            out.redelegated = out.redelegated.checked_add(amount)?;
            out.moves.push(Move { kind: OperationKind::Redelegate { from: id(from), to: id(to), amount }, reason });
        }
        for (i, amount, reason) in self.delegate {
            let amount = BaseUnits::new(amount)?;
            out.staked = out.staked.checked_add(amount)?;
            out.moves.push(Move { kind: OperationKind::Delegate { validator: id(i), amount }, reason });
        }
        for seat in self.desk.seats.iter().filter(|seat| seat.now > 0) {
            out.result.insert(seat.id.clone(), BaseUnits::new(seat.now)?);
        }
        Ok(out)
    }
}
