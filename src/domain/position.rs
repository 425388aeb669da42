//! One account in one pool: its balance and its time weight, the exact integral of eligible x seconds.
//!
//! Two periods may be unfrozen, the oldest (N) and the next (N + 1). A position accrues in N until its first event in
//! N + 1; then it *crosses*: its weight of N is final and set aside, and it accrues in N + 1 from that period's start.
//! A freeze of N takes the weight of every position, crossed or not, and N + 1 becomes the oldest.
//!
//! Every weight fits 128 bits. With `limit` that of period N, `floor((2^127 - 1) / (period + max_lateness seconds))`,
//! nothing earns on more than `limit` in N, so that N itself gives at most `limit x period seconds`. Late events that
//! come while N is the oldest follow each other in time and reach back `max_lateness` seconds at most: what they add is,
//! over all of them, at most `limit x max_lateness seconds`. Together that is below `2^127`. A correction is refused where
//! the weight would pass `2^127` by it.

use super::adjustment::{Adjusted, Rest};
use super::amount::{BaseUnits, MAX_BASE_UNITS};
use super::calendar::{Calendar, FrozenRun};
use super::correction::{Basis, Correction, corrected};
use super::eligibility::{Standing, StandingChange, eligible};
use super::feed::{RejectReason, SourceNumber};
use super::period::{OpenPeriod, PeriodIndex};
use super::time::UnixSeconds;

/// A balance after an event, as its source said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceChange {
    /// Who said it.
    pub source: SourceNumber,
    /// Its sequence there.
    pub sequence: u64,
    /// The available balance from `at` on.
    pub balance: BaseUnits,
    /// When.
    pub at: UnixSeconds,
}

/// What an accepted event did to the pool's totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// When it counts from.
    pub effective: UnixSeconds,
    /// In which period that lies.
    pub period: PeriodIndex,
    /// By how much the eligible total changes there.
    pub change: i128,
    /// Where this was the first event in the next period: by how much the total changes at that period's start, because
    /// its policy counts the same balance differently.
    pub crossing: i128,
    /// Its time went back within the position and was moved up to the last one.
    pub clamped: bool,
    /// Its time lies in frozen periods; the eligible total changes from the start of the oldest unfrozen one.
    pub late: bool,
    /// What that changed in the weight of the oldest unfrozen period.
    pub adjusted: Adjusted,
}

/// What a freeze took from a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The weight in the period that was frozen, less what was collected.
    pub weight: u128,
    /// What was collected of the position's rest.
    pub collected: u128,
    /// By how much the eligible total changes at the start of the period after, by its other policy. Zero where the
    /// position had crossed before.
    pub crossing: i128,
}

/// One account in one pool: 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    available: u128,
    weight: u128,
    weight_before: u128,
    last_sequence: u64,
    last_second: u32,
    owner: u16,
    standing: Standing,
    flags: u8,
}

const _: () = assert!(size_of::<Position>() == 64);

/// The position has crossed into the next period.
const CROSSED: u8 = 1;
/// The last event was a change of standing, not of the balance.
const STANDING_LAST: u8 = 2;

/// The plain fields of a position, for codecs and hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PositionFields {
    /// The balance after the last event.
    pub available: u128,
    /// The weight in the period it accrues in.
    pub weight: u128,
    /// The final weight of the oldest unfrozen period, once it has crossed.
    pub weight_before: u128,
    /// The last sequence of its source that was accepted.
    pub last_sequence: u64,
    /// The time of the last event, in seconds since the pool's origin.
    pub last_second: u32,
    /// The source that owns it; 0 while none does.
    pub owner: u16,
    /// Its standing.
    pub standing: u8,
    /// Bit 0: crossed. Bit 1: the last event was a change of standing.
    pub flags: u8,
}

struct Timing {
    second: u32,
    effective: UnixSeconds,
    clamped: bool,
    /// Where it lies in frozen periods: from when on it counts there.
    late_from: Option<UnixSeconds>,
}

impl Position {
    /// The plain fields.
    pub const fn fields(&self) -> PositionFields {
        PositionFields {
            available: self.available,
            weight: self.weight,
            weight_before: self.weight_before,
            last_sequence: self.last_sequence,
            last_second: self.last_second,
            owner: self.owner,
            standing: self.standing.bits(),
            flags: self.flags,
        }
    }

    /// A position of plain fields; `None` where they are none.
    pub fn from_fields(fields: PositionFields) -> Option<Self> {
        let sound = fields.available <= MAX_BASE_UNITS && fields.flags & !(CROSSED | STANDING_LAST) == 0;
        let standing = Standing::from_bits(fields.standing)?;
        sound.then_some(Self {
            available: fields.available,
            weight: fields.weight,
            weight_before: fields.weight_before,
            last_sequence: fields.last_sequence,
            last_second: fields.last_second,
            owner: fields.owner,
            standing,
            flags: fields.flags,
        })
    }

    /// The balance after the last event.
    pub fn available(&self) -> BaseUnits {
        BaseUnits::new(self.available).unwrap_or(BaseUnits::MAX)
    }

    /// The standing after the last event.
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The source that owns the position; `None` while only enrolments were seen.
    pub fn owner(&self) -> Option<SourceNumber> {
        (self.owner != 0).then_some(SourceNumber(self.owner))
    }

    /// The last sequence of its source that was accepted; 0 before the first.
    pub const fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// The time of the last event.
    pub fn last_at(&self, calendar: &Calendar) -> UnixSeconds {
        calendar.origin.plus(i64::from(self.last_second))
    }

    /// Whether the position accrues in the next period already.
    pub const fn crossed(&self) -> bool {
        self.flags & CROSSED != 0
    }

    /// What earns now, under the policy of the period that the position accrues in.
    pub fn eligible(&self, calendar: &Calendar) -> BaseUnits {
        self.eligible_in(self.current(calendar))
    }

    /// Takes a balance, with what is still to be collected from the position. On a rejection nothing changes.
    pub fn apply_balance(
        &mut self,
        calendar: &Calendar,
        now: UnixSeconds,
        change: BalanceChange,
        rest: &mut Rest,
    ) -> Result<Applied, RejectReason> {
        if self.owner != 0 && self.owner != change.source.0 {
            return Err(RejectReason::NotOwner);
        }
        let limit = calendar.balance_limit();
        if change.balance > limit {
            return Err(RejectReason::BalanceTooLarge { limit });
        }
        let timing = self.timing(calendar, now, change.at, false)?;
        let applied = self.enter(calendar, &timing, rest, |position| {
            position.available = change.balance.get();
            position.flags &= !STANDING_LAST;
        });
        self.owner = change.source.0;
        self.last_sequence = change.sequence;
        Ok(applied)
    }

    /// Takes a change of standing. It can't come too late: a time that goes back is moved up to the last one, and one
    /// from before the lateness counts from there on.
    pub fn apply_standing(
        &mut self,
        calendar: &Calendar,
        now: UnixSeconds,
        change: StandingChange,
        at: UnixSeconds,
        rest: &mut Rest,
    ) -> Result<Applied, RejectReason> {
        let timing = self.timing(calendar, now, at, true)?;
        Ok(self.enter(calendar, &timing, rest, |position| {
            position.standing = change.apply(position.standing);
            position.flags |= STANDING_LAST;
        }))
    }

    /// The point that a correction of this position rests on.
    pub fn basis(&self, calendar: &Calendar) -> Basis {
        Basis {
            oldest: calendar.oldest.index,
            last_second: self.last_second,
            last_sequence: self.last_sequence,
            available: self.available(),
            standing: self.standing,
        }
    }

    /// Takes a correction, and says what it did, in the oldest unfrozen period and in the one after it. On a rejection
    /// nothing changes. Where it ends at a later event, it changes weights alone: frozen periods stay as they are, and
    /// their part goes into the oldest unfrozen one, with its rest. Else it is the balance from then on, too.
    pub fn apply_correction(
        &mut self,
        calendar: &Calendar,
        correction: &Correction,
        rest: &mut Rest,
    ) -> Result<(Applied, Adjusted), RejectReason> {
        let basis = self.basis(calendar);
        let ends = correction.until.is_some();
        if basis.oldest != correction.basis.oldest || (!ends && basis != correction.basis) {
            return Err(RejectReason::Overtaken);
        }
        let limit = calendar.balance_limit();
        if correction.balance > limit {
            return Err(RejectReason::BalanceTooLarge { limit });
        }
        let second = u32::try_from(correction.at.since(calendar.origin)).map_err(|_| RejectReason::PeriodNotOpen)?;
        if correction.at >= calendar.open_until() {
            return Err(RejectReason::PeriodNotOpen);
        }
        let (mut after, mut owed, mut next) = (*self, *rest, Adjusted::default());
        if correction.next != 0 {
            if !after.crossed() {
                return Err(RejectReason::Overtaken);
            }
            let weight = corrected(after.weight, correction.next, limit)?;
            next = Adjusted { up: weight.saturating_sub(after.weight), down: after.weight.saturating_sub(weight) };
            after.weight = weight;
        }
        if correction.oldest > 0 {
            corrected(*after.oldest_weight(), correction.oldest, limit)?;
        }
        let adjusted = owed.adjust(after.oldest_weight(), correction.oldest);
        let since = after.since(calendar);
        let timing = Timing {
            second: if ends { after.last_second } else { second.max(after.last_second) },
            effective: if ends { since } else { correction.at.max(since) },
            clamped: false,
            late_from: None,
        };
        let entered = after.enter(calendar, &timing, &mut owed, |position| {
            if !ends {
                position.available = correction.balance.get();
            }
        });
        (*self, *rest) = (after, owed);
        Ok((Applied { adjusted, ..entered }, next))
    }

    /// Hands the position over to another source, and says whether that changed anything. Balance and weight stay; the
    /// sequences of the new owner count from here on.
    pub fn hand_over(&mut self, from: SourceNumber, to: SourceNumber) -> Result<bool, RejectReason> {
        if self.owner == to.0 {
            return Ok(false);
        }
        if self.owner == 0 || self.owner != from.0 {
            return Err(RejectReason::NotOwner);
        }
        self.owner = to.0;
        self.last_sequence = 0;
        Ok(true)
    }

    /// Freezes the oldest period: returns its weight, less what is still to be collected, and goes on in the next one.
    pub fn freeze(&mut self, calendar: &Calendar, rest: &mut Rest) -> Frozen {
        let mut crossing = 0;
        if !self.crossed() {
            let held = calendar.oldest.bounds.end.since(self.since(calendar));
            self.accrue(self.eligible_in(&calendar.oldest), held);
            (self.weight_before, self.weight) = (self.weight, 0);
            crossing = self.crossing(calendar);
        }
        self.flags &= !CROSSED;
        let weight = std::mem::take(&mut self.weight_before);
        #[cfg(feature = "seeded-bugs")]
        let weight = self.mistaken(weight, calendar);
        let collected = rest.collect(weight);
        Frozen { weight: weight - collected, collected, crossing }
    }

    /// The weights in the open periods if nothing happened until `at`: that of the oldest, and that of the next
    /// where `at` or the position lies in it. A rest is collected when the oldest freezes, and still in there.
    pub fn weights_at(&self, calendar: &Calendar, at: UnixSeconds) -> (u128, Option<u128>) {
        let mut position = *self;
        let at = at.min(calendar.open_until()).max(position.since(calendar));
        position.accrue_to(calendar, at);
        if position.crossed() { (position.weight_before, Some(position.weight)) } else { (position.weight, None) }
    }

    /// A frozen weight as a bug that is put in makes it.
    #[cfg(feature = "seeded-bugs")]
    fn mistaken(&mut self, weight: u128, calendar: &Calendar) -> u128 {
        use crate::seeded::{Bug, on};
        let oldest = &calendar.oldest;
        if on(Bug::PeriodOffByOne) {
            return weight + self.eligible_in(oldest).get();
        }
        if on(Bug::WeightOfOneMoment) {
            return self.eligible_in(oldest).get() * u128::from(oldest.bounds.seconds());
        }
        if on(Bug::WeightsOfNow) {
            self.weight += weight;
        }
        weight
    }

    fn eligible_in(&self, period: &OpenPeriod) -> BaseUnits {
        period.eligible(self.available(), self.standing)
    }

    fn current<'a>(&self, calendar: &'a Calendar) -> &'a OpenPeriod {
        match &calendar.next {
            Some(next) if self.crossed() => next,
            _ => &calendar.oldest,
        }
    }

    /// From when on the position's weight is not summed yet.
    pub fn since(&self, calendar: &Calendar) -> UnixSeconds {
        self.last_at(calendar).max(self.current(calendar).bounds.start)
    }

    fn timing(
        &self,
        calendar: &Calendar,
        now: UnixSeconds,
        at: UnixSeconds,
        always: bool,
    ) -> Result<Timing, RejectReason> {
        let limits = calendar.oldest.limits;
        if at > now.plus(i64::from(limits.max_future_seconds)) {
            return Err(RejectReason::FromFuture);
        }
        if at >= calendar.open_until() {
            return Err(RejectReason::PeriodNotOpen);
        }
        let said = u32::try_from(at.since(calendar.origin)).map_err(|_| RejectReason::PeriodNotOpen)?;
        let back = self.last_second.saturating_sub(said);
        // A balance is never lost because an enrolment overtook it.
        if back > limits.max_skew_seconds && !always && self.flags & STANDING_LAST == 0 {
            return Err(RejectReason::TooOld);
        }
        let second = said.max(self.last_second);
        let stated = calendar.origin.plus(i64::from(second));
        let oldest = calendar.oldest.bounds.start;
        let reach = calendar.reach(now);
        let late = calendar.frozen_any && stated < oldest;
        if late && !always && at < reach {
            return Err(RejectReason::TooOld);
        }
        let late_from = late.then(|| stated.max(reach));
        Ok(Timing { second, effective: stated.max(oldest), clamped: back > 0, late_from })
    }

    /// Sums the weight up to the event, then lets it happen.
    ///
    /// An accepted event at or after the position's last effective time that reaches into frozen periods leaves those
    /// periods as they are. For each of them, `(eligible_new - eligible_old)` under that period's own policy, times the
    /// seconds of the period from the event's time to the period's end, is what the event would have changed there had it
    /// come in time. The signed sum is put into the weight of the oldest unfrozen period, the one that every such event's
    /// position accrues in: one that has crossed into the next takes no earlier event. A weight never goes below zero.
    /// What it can't give is the position's rest: it is collected from what later events add, and from the weight of this
    /// period and of each one after it when that freezes, until nothing is left.
    fn enter(
        &mut self,
        calendar: &Calendar,
        timing: &Timing,
        rest: &mut Rest,
        event: impl FnOnce(&mut Self),
    ) -> Applied {
        let crossing = self.accrue_to(calendar, timing.effective);
        let period = *self.current(calendar);
        let before = *self;
        event(self);
        self.last_second = timing.second;
        let difference = timing.late_from.map_or(0, |from| self.frozen_difference(calendar, &before, from));
        #[cfg(feature = "seeded-bugs")]
        let difference = if crate::seeded::on(crate::seeded::Bug::LateEventDropped) { 0 } else { difference };
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::on(crate::seeded::Bug::OptOutForfeits)
            && self.eligible_in(&period).is_zero()
            && self.standing != before.standing
        {
            self.weight = 0;
        }
        Applied {
            effective: timing.effective,
            period: period.index,
            change: self.eligible_in(&period).signed().get() - before.eligible_in(&period).signed().get(),
            crossing,
            clamped: timing.clamped,
            late: timing.late_from.is_some(),
            adjusted: rest.adjust(self.oldest_weight(), difference),
        }
    }

    /// By how much the weights of frozen periods from `from` on would be others, had this position been there in the
    /// place of `before`. It fits: from [`Calendar::reach`] on there are at most `max_lateness` seconds, and no balance
    /// counts for more than the oldest period's limit, however much was accepted before the limit was lowered.
    fn frozen_difference(&self, calendar: &Calendar, before: &Self, from: UnixSeconds) -> i128 {
        let limit = calendar.oldest.balance_limit();
        let of = |run: &FrozenRun| {
            let in_run = |position: &Self| {
                let eligible = eligible(position.available(), position.standing, &run.policy);
                eligible.min(run.ceiling).min(limit).signed().get()
            };
            (in_run(self) - in_run(before)) * i128::from(run.until.since(from.max(run.from)))
        };
        calendar.past.runs().iter().map(of).sum()
    }

    /// The weight in the oldest unfrozen period.
    fn oldest_weight(&mut self) -> &mut u128 {
        if self.crossed() { &mut self.weight_before } else { &mut self.weight }
    }

    /// Sums the weight up to `at`, crossing where it lies in the next period. Returns what the crossing changed.
    fn accrue_to(&mut self, calendar: &Calendar, at: UnixSeconds) -> i128 {
        let mut crossing = 0;
        if let Some(next) = calendar.next.filter(|next| !self.crossed() && at >= next.bounds.start) {
            let held = calendar.oldest.bounds.end.since(self.since(calendar));
            self.accrue(self.eligible_in(&calendar.oldest), held);
            (self.weight_before, self.weight) = (self.weight, 0);
            crossing = self.crossing(calendar);
            self.flags |= CROSSED;
            self.accrue(self.eligible_in(&next), at.since(next.bounds.start));
        } else {
            self.accrue(self.eligible_in(self.current(calendar)), at.since(self.since(calendar)));
        }
        crossing
    }

    /// By how much the next period's policy counts the balance differently.
    fn crossing(&self, calendar: &Calendar) -> i128 {
        calendar.next.map_or(0, |next| {
            self.eligible_in(&next).signed().get() - self.eligible_in(&calendar.oldest).signed().get()
        })
    }

    /// What is eligible is at most the period's limit and the seconds are the period's: it fits, as said at the top.
    fn accrue(&mut self, eligible: BaseUnits, seconds: u64) {
        self.weight += eligible.get() * u128::from(seconds);
    }
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
