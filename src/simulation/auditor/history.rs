//! Which events count, and from when: the journal read from its first record on, account by account.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruint::aliases::U256;

use super::finding::{About, Findings};
use super::input::{Basis, Correction, Flags, Group, Input, Opened, Record};
use super::past::{self, Held, Moved};
use super::weigh::{self, limit};

/// What became of a balance event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counts.
    Accepted {
        /// Its time went back within its position and was moved up to the last one.
        clamped: bool,
        /// It reaches into frozen periods.
        late: bool,
    },
    /// It does not, for the reason of this stable name.
    Rejected(&'static str),
}

/// A state that a position came into, and keeps until the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// When, as it was said and moved up to the one before.
    pub(super) said: i64,
    /// From when on it counts: never before the period that was the oldest open one when it came.
    pub(super) from: i64,
    /// The oldest open period when it came.
    pub(super) oldest: u64,
    pub(super) balance: u128,
    pub(super) standing: Flags,
    /// Whether it is of the enrolment log.
    of_standing: bool,
}

/// What an event changes in the weight of an open period beside what it earns from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// The period.
    pub(super) period: u64,
    /// What the position had earned in it by then.
    pub(super) accrued: U256,
    /// The change.
    pub(super) moved: Moved,
    /// Whether it is of the period's own seconds alone, and so never more than they gave.
    pub(super) own: bool,
}

/// One account in the pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) owner: Option<u16>,
    /// The last sequence of its owner that was accepted.
    last_sequence: u64,
    pub(super) marks: Vec<Mark>,
    held: Held,
    /// In the order of the journal.
    pub(super) changes: Vec<Change>,
}

/// Where an event lies in time.
struct Place {
    mark: Mark,
    clamped: bool,
    /// Where it reaches into frozen periods: from when on.
    late_from: Option<i64>,
}

/// All that happened in a pool, as far as it counts.
pub(super) struct History {
    pub(super) origin: i64,
    pub(super) accounts: BTreeMap<String, Account>,
    /// The periods as they were opened.
    pub(super) opened: BTreeMap<u64, Opened>,
    /// The periods that are frozen, with the cut.
    pub(super) frozen: BTreeMap<u64, BTreeMap<u16, u64>>,
    /// What became of each balance.
    pub(super) fates: BTreeMap<(u16, u64), Fate>,
    /// What was rejected: source, sequence and account, with the reason.
    pub(super) rejected: BTreeMap<(u16, u64, String), &'static str>,
}

/// A balance as it was said.
struct Said {
    source: u16,
    sequence: u64,
    balance: u128,
    at: i64,
}

/// Where one partition stands while its journal is read.
struct Reader<'a, 'b> {
    history: &'a mut History,
    findings: &'a mut Findings,
    partition: usize,
    open: VecDeque<Opened>,
    /// The frozen periods, oldest first.
    past: Vec<Opened>,
    /// The last sequence of each source that was read, and the cut of the last freeze.
    last: BTreeMap<u16, u64>,
    cut: BTreeMap<u16, u64>,
    seen: &'a mut BTreeSet<(u16, u64, &'b str)>,
}

impl History {
    /// Reads the journal of every partition.
    pub(super) fn read(input: &Input, findings: &mut Findings) -> Self {
        let mut history = Self {
            origin: input.origin,
            accounts: BTreeMap::new(),
            opened: BTreeMap::new(),
            frozen: BTreeMap::new(),
            fates: BTreeMap::new(),
            rejected: BTreeMap::new(),
        };
        let mut seen = BTreeSet::new();
        let mut ends = BTreeSet::new();
        for (partition, groups) in input.partitions.iter().enumerate() {
            let mut reader = Reader {
                history: &mut history,
                findings,
                partition,
                open: VecDeque::new(),
                past: Vec::new(),
                last: BTreeMap::new(),
                cut: BTreeMap::new(),
                seen: &mut seen,
            };
            for (number, group) in (1..).zip(groups) {
                if group.number != number {
                    let message = format!("partition {partition} has group {} as number {number}", group.number);
                    reader.findings.say(About::default(), message);
                }
                reader.group(group);
            }
            ends.insert(reader.open.iter().map(|period| period.index).collect::<Vec<u64>>());
        }
        if ends.len() > 1 {
            findings.say(About::default(), format!("the partitions end with different periods open: {ends:?}"));
        }
        history
    }
}

impl<'b> Reader<'_, 'b> {
    fn group(&mut self, group: &'b Group) {
        for record in &group.records {
            match record {
                Record::Balance { account, source, sequence, balance, at, pool_full } => {
                    self.in_sequence(*source, *sequence, account);
                    let said = Said { source: *source, sequence: *sequence, balance: *balance, at: *at };
                    let fate = match self.balance(account, &said, *pool_full, group.now) {
                        Ok((clamped, late)) => Fate::Accepted { clamped, late },
                        Err(reason) => {
                            self.history.rejected.insert((*source, *sequence, account.clone()), reason);
                            Fate::Rejected(reason)
                        }
                    };
                    self.history.fates.insert((*source, *sequence), fate);
                }
                Record::Snapshot { account, source, sequence, balance, at } => {
                    // It stands after the sequence and has none of its own. What a position does not take of it is not
                    // journalled.
                    let said = Said { source: *source, sequence: *sequence, balance: *balance, at: *at };
                    let last = self.last.get(source).copied().unwrap_or(0);
                    if last > *sequence {
                        let message = format!("a snapshot after sequence {sequence} was applied after {last}");
                        self.findings.say(About { period: None, account: Some(account) }, message);
                    }
                    if let Err(reason) = self.balance(account, &said, false, group.now) {
                        let message = format!("a snapshot's balance was applied, the auditor rejects it as {reason}");
                        self.findings.say(About { period: None, account: Some(account) }, message);
                    }
                }
                Record::Correction(correction) => {
                    let Correction { account, source, sequence, .. } = correction;
                    self.in_sequence(*source, *sequence, account);
                    if let Err(reason) = self.correct(correction) {
                        self.history.rejected.insert((*source, *sequence, account.clone()), reason);
                    }
                }
                Record::Standing { account, sequence, at, set, clear } => {
                    self.in_sequence(0, *sequence, account);
                    if let Err(reason) = self.standing(account, *at, *set, *clear, group.now) {
                        self.history.rejected.insert((0, *sequence, account.clone()), reason);
                    }
                }
                Record::HandOver { account, from, to } => self.hand_over(account, *from, *to),
                Record::Open(period) => self.opens(*period),
                Record::Freeze { index, cursors } => self.freeze(*index, cursors),
            }
        }
    }

    /// Each sequence once, in order, and on its side of the last cut.
    fn in_sequence(&mut self, source: u16, sequence: u64, account: &'b str) {
        // One entry of the enrolment log may concern several accounts.
        let key = if source == 0 { account } else { "" };
        if !self.seen.insert((source, sequence, key)) {
            let message = format!("sequence {sequence} of source {source} was applied twice");
            self.findings.say(About { period: None, account: Some(account) }, message);
        }
        let last = self.last.insert(source, sequence).unwrap_or(0);
        if last > sequence {
            let message = format!("sequence {sequence} of source {source} was applied after {last}");
            self.findings.say(About { period: None, account: Some(account) }, message);
        }
        let cut = self.cut.get(&source).copied().unwrap_or(0);
        if sequence <= cut {
            let message = format!("sequence {sequence} of source {source} came after the freeze that was cut at {cut}");
            self.findings.say(About { period: None, account: Some(account) }, message);
        }
    }

    /// A balance is rejected where the pool's total or the position can't hold it, where the position is another
    /// source's, and where its time can't be.
    fn balance(&mut self, account: &str, said: &Said, pool_full: bool, now: i64) -> Result<(bool, bool), &'static str> {
        let Said { source, sequence, balance, at } = *said;
        if pool_full {
            return Err("POOL_TOTAL_TOO_LARGE");
        }
        let known = self.history.accounts.get(account).cloned().unwrap_or_default();
        if self.open.is_empty() {
            return Err("PERIOD_NOT_OPEN");
        }
        if known.owner.is_some_and(|owner| owner != source) {
            return Err("NOT_OWNER");
        }
        // By whichever open period allows the least.
        if self.open.iter().any(|open| balance > limit(open)) {
            return Err("BALANCE_TOO_LARGE");
        }
        let before = known.marks.last().copied();
        let place = self.place(before, at, now, false)?;
        let mark = Mark { balance, of_standing: false, ..place.mark };
        let late = self.late(&mark, &place);
        let entry = self.history.accounts.entry(account.to_owned()).or_default();
        entry.changes.extend(late);
        entry.owner = Some(source);
        entry.last_sequence = sequence;
        entry.held.balance(mark.said, balance);
        entry.marks.push(mark);
        Ok((place.clamped, place.late_from.is_some()))
    }

    fn standing(&mut self, account: &str, at: i64, set: Flags, clear: Flags, now: i64) -> Result<(), &'static str> {
        if self.open.is_empty() {
            return Err("PERIOD_NOT_OPEN");
        }
        let before = self.history.accounts.get(account).and_then(|known| known.marks.last().copied());
        let place = self.place(before, at, now, true)?;
        let held = place.mark.standing;
        let standing = Flags {
            opted_out: set.opted_out || held.opted_out && !clear.opted_out,
            opted_out_of_all: set.opted_out_of_all || held.opted_out_of_all && !clear.opted_out_of_all,
            opted_in: set.opted_in || held.opted_in && !clear.opted_in,
            restricted: set.restricted || held.restricted && !clear.restricted,
        };
        let mark = Mark { standing, of_standing: true, ..place.mark };
        let late = self.late(&mark, &place);
        let entry = self.history.accounts.entry(account.to_owned()).or_default();
        entry.changes.extend(late);
        entry.held.standing(mark.said, standing);
        entry.marks.push(mark);
        Ok(())
    }

    /// Where an event lies in time: not too far ahead, in a period that is open or was, and no further back than it may.
    /// An enrolment is never too late, and none makes a balance too late that came after it.
    fn place(&self, before: Option<Mark>, at: i64, now: i64, of_standing: bool) -> Result<Place, &'static str> {
        let (Some(oldest), Some(newest)) = (self.open.front(), self.open.back()) else { return Err("PERIOD_NOT_OPEN") };
        if at > now + oldest.max_future {
            return Err("FROM_FUTURE");
        }
        if at >= newest.end {
            return Err("PERIOD_NOT_OPEN");
        }
        let origin = self.history.origin;
        let last = before.map_or(origin, |before| before.said);
        let back = last - at.max(origin);
        let overtaken = before.is_some_and(|before| before.of_standing);
        if back > oldest.max_skew && !of_standing && !overtaken {
            return Err("TOO_OLD");
        }
        let said = at.max(last);
        let late = !self.past.is_empty() && said < oldest.start;
        let reach = self.reach(oldest, now);
        if late && !of_standing && at < reach {
            return Err("TOO_OLD");
        }
        let held = before.unwrap_or(Mark {
            said: origin,
            from: origin,
            oldest: 0,
            balance: 0,
            standing: Flags::default(),
            of_standing: false,
        });
        // An enrolment from before the lateness counts from there on.
        let late_from = late.then(|| said.max(reach));
        let mark = Mark { said, from: said.max(oldest.start), oldest: oldest.index, ..held };
        Ok(Place { mark, clamped: back > 0, late_from })
    }

    /// What a late event changes of frozen periods: it goes into the oldest open one, in which the position has earned
    /// nothing yet, since none of its events lies there.
    fn late(&self, mark: &Mark, place: &Place) -> Option<Change> {
        let (from, oldest) = (place.late_from?, self.open.front()?);
        let (new, old) = ((mark.balance, mark.standing), (place.mark.balance, place.mark.standing));
        let moved = past::late(new, old, from, &self.past, oldest);
        Some(Change { period: oldest.index, accrued: U256::ZERO, moved, own: false })
    }

    /// A correction says that from a time until the position's next balance another one was held, or from then on where
    /// there is no next. It is rejected where it rests on what is so no more, and where no position could hold it. Frozen
    /// periods stay as they are: their part goes into the oldest open one.
    fn correct(&mut self, correction: &Correction) -> Result<(), &'static str> {
        let Correction { account: name, at, balance, until, basis, pool_full, .. } = correction;
        if *pool_full {
            return Err("POOL_TOTAL_TOO_LARGE");
        }
        let (Some(oldest), Some(newest)) = (self.open.front().copied(), self.open.back().copied()) else {
            return Err("PERIOD_NOT_OPEN");
        };
        let origin = self.history.origin;
        let Some(account) = self.history.accounts.get_mut(name) else { return Err("OVERTAKEN") };
        let Some(last) = account.marks.last().copied() else { return Err("OVERTAKEN") };
        let point = Basis {
            oldest: oldest.index,
            last_event_at: last.said,
            last_sequence: account.last_sequence,
            balance: last.balance,
            standing: last.standing,
        };
        if basis.oldest != oldest.index || (until.is_none() && *basis != point) {
            return Err("OVERTAKEN");
        }
        if self.open.iter().any(|open| *balance > limit(open)) {
            return Err("BALANCE_TOO_LARGE");
        }
        if *at >= newest.end {
            return Err("PERIOD_NOT_OPEN");
        }
        // What the position has earned up to its last event is what can have been earned otherwise.
        let crossed = newest.index > oldest.index && last.from >= newest.start;
        let since = last.said.max(if crossed { newest.start } else { oldest.start });
        let next = account.held.next_after(*at);
        let summed = next.map_or(since, |next| next.min(since));
        let mut of_oldest = Moved::default();
        for period in self.past.iter().chain([&oldest]) {
            let moved = account.held.difference(period, *at, summed, *balance);
            of_oldest.gained += moved.gained;
            of_oldest.lost += moved.lost;
        }
        let of_next = match newest.index > oldest.index {
            true => account.held.difference(&newest, *at, summed, *balance),
            false => Moved::default(),
        };
        let about = About { period: Some(oldest.index), account: Some(name) };
        let findings = &mut *self.findings;
        findings.same(about, "the end of what a correction corrects", until, &next);
        let changes = [("oldest", &correction.oldest, of_oldest), ("next", &correction.next, of_next)];
        for (which, engine, auditor) in changes {
            let what = format!("what a correction changes in the weight of the {which} open period");
            findings.same(about, &what, &Some(*engine), &auditor.signed());
        }
        if of_next.net() != Moved::default() {
            let (period, accrued) = (newest.index, U256::ZERO);
            account.changes.push(Change { period, accrued, moved: of_next.net(), own: true });
        }
        let accrued = weigh::accrued(&account.marks, &oldest, since);
        account.changes.push(Change { period: oldest.index, accrued, moved: of_oldest.net(), own: false });
        account.held.correct(*at, *balance);
        if next.is_none() {
            let (said, from) = ((*at).max(origin).max(last.said), (*at).max(since));
            account.marks.push(Mark { said, from, oldest: oldest.index, balance: *balance, ..last });
        }
        Ok(())
    }

    /// How far back an event of now may reach: the lateness before now, or before the oldest open period where the clock
    /// stands before that, and not past the last 32 runs of frozen periods in which one balance counts for the same.
    fn reach(&self, oldest: &Opened, now: i64) -> i64 {
        let rules = |period: &Opened| (period.minimum, period.cap, period.opt_in, limit(period));
        let turns = self.past.windows(2).filter(|pair| matches!(pair, [one, next] if rules(one) != rules(next)));
        let starts: Vec<i64> = self.past.iter().take(1).chain(turns.map(|pair| &pair[1])).map(|it| it.start).collect();
        let known_from = starts.iter().rev().nth(31).or(starts.first()).copied().unwrap_or(oldest.start);
        (now.max(oldest.start) - oldest.max_lateness).max(known_from)
    }

    fn hand_over(&mut self, account: &str, from: u16, to: u16) {
        match self.history.accounts.get_mut(account) {
            Some(known) if known.owner == Some(from) => (known.owner, known.last_sequence) = (Some(to), 0),
            known => {
                let owner = known.and_then(|known| known.owner);
                let message = format!("it was handed over from source {from} to {to}, and its owner is {owner:?}");
                self.findings.say(About { period: None, account: Some(account) }, message);
            }
        }
    }

    fn opens(&mut self, period: Opened) {
        let about = About::period(period.index);
        let follows = match self.open.back() {
            None => period.index == 0 && period.start == self.history.origin,
            Some(last) => self.open.len() < 2 && period.index == last.index + 1 && period.start == last.end,
        };
        if !follows || period.end <= period.start {
            let message = format!("partition {} opened it out of turn: {period:?}", self.partition);
            self.findings.say(about, message);
        }
        let known = *self.history.opened.entry(period.index).or_insert(period);
        self.findings.same(about, &format!("the period as partition {} opened it", self.partition), &period, &known);
        self.open.push_back(period);
    }

    fn freeze(&mut self, index: u64, cursors: &BTreeMap<u16, u64>) {
        let about = About::period(index);
        let frozen = self.open.pop_front();
        self.past.extend(frozen);
        let oldest = frozen.map(|frozen| frozen.index);
        if oldest != Some(index) || self.open.is_empty() {
            let message = format!("partition {} froze it while {oldest:?} was the oldest open one", self.partition);
            self.findings.say(about, message);
        }
        for (source, last) in &self.last {
            let cut = cursors.get(source).copied().unwrap_or(0);
            if *last > cut {
                let message =
                    format!("sequence {last} of source {source} came before the freeze that was cut at {cut}");
                self.findings.say(about, message);
            }
        }
        let known = self.history.frozen.entry(index).or_insert_with(|| cursors.clone());
        let what = format!("the cut of its freeze in partition {}", self.partition);
        self.findings.same(about, &what, cursors, known);
        self.cut = cursors.clone();
    }
}
