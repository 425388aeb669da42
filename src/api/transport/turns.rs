//! Whose turn it is: of each kind of work so much is done at once, and who waits is served by how little he had so far.
//! First among principals, then among the connections of one, so that whoever asks for much waits behind himself.
//!
//! `guard.rs` has a queue for each kind. The one who has a turn holds it until the work is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::domain::ids::Principal;

/// What one question costs, as it is counted.
const QUESTION: u128 = 1 << 32;

/// What a caller who asks for less than his part may be ahead of all others: the calls that a screen makes at once.
const CREDIT: u128 = 16 * QUESTION;

/// How many members of a queue there are before those that are up with all others are forgotten, at least.
const REMEMBERED: usize = 64;

/// How many calls of a connection wait or are worked at, where it asks little.
const LITTLE: usize = 2;

/// For how many turns it is remembered that somebody was served who asks little.
const CALM: usize = 128;

/// How much of one kind of work is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    /// At most.
    pub most: usize,
    /// While somebody is served who asks little: so much by those who ask much. What they do takes the processors from him even
    /// where he waits in no queue.
    pub beside_others: usize,
}

/// A queue for one kind of work.
pub(super) struct Turns {
    at_once: AtOnce,
    queue: Mutex<Queue>,
}

/// Who asks for a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    /// By whom the call is; `None` where nobody was asked.
    pub(super) principal: Option<Principal>,
    /// The connection.
    pub(super) line: u64,
}

/// The right to work. It is given on when it is dropped.
pub(crate) struct Turn(Option<(Arc<Turns>, Party)>);

type Waiter = oneshot::Sender<Turn>;
/// Those that wait on a connection, each with what its work costs.
type Calls = VecDeque<(Waiter, u64)>;

#[derive(Default)]
struct Queue {
    /// How many have a turn.
    working: usize,
    /// How many wait for one.
    waiting: usize,
    /// For how many turns more those who ask much make room.
    calm: usize,
    principals: Shares<Option<Principal>, Shares<u64, Calls>>,
}

/// What the members of a group have had, against what one who waited all along would have had by now: with each turn that is
/// more by its part of it among those that wait or work. Whoever is new begins there, so that it is no use to be new each time; who
/// asks for less than his part is behind it, by so much and no more.
struct Shares<K, T> {
    now: u128,
    members: BTreeMap<K, Member<T>>,
    /// How many members wait or work.
    busy: usize,
    /// At how many members those are forgotten that have nothing to be remembered for.
    crowded: usize,
}

struct Member<T> {
    had: u128,
    waiting: usize,
    working: usize,
    inner: T,
}

impl<K, T> Default for Shares<K, T> {
    fn default() -> Self {
        Self { now: 0, members: BTreeMap::new(), busy: 0, crowded: REMEMBERED }
    }
}

impl<K: Ord + Clone, T: Default> Shares<K, T> {
    /// What one who had nothing for a while is taken to have had.
    fn floor(&self) -> u128 {
        self.now.saturating_sub(CREDIT)
    }

    fn member(&mut self, key: K) -> &mut Member<T> {
        let (now, floor) = (self.now, self.floor());
        if self.members.len() >= self.crowded && !self.members.contains_key(&key) {
            self.members.retain(|_, member| member.waiting + member.working > 0 || member.had > floor);
            self.crowded = REMEMBERED.max(2 * self.members.len());
        }
        self.members.entry(key).or_insert_with(|| Member { had: now, waiting: 0, working: 0, inner: T::default() })
    }

    /// What changes of a member that waits or works, or does not any more.
    fn change<R>(&mut self, key: K, change: impl FnOnce(&mut Member<T>) -> R) -> R {
        let member = self.member(key);
        let before = member.waiting + member.working;
        let changed = change(member);
        let after = member.waiting + member.working;
        self.busy = self.busy + usize::from(before == 0 && after > 0) - usize::from(before > 0 && after == 0);
        changed
    }

    /// A member has so much more, and works.
    fn serve(&mut self, key: K, cost: u64) {
        let (floor, cost) = (self.floor(), u128::from(cost).saturating_mul(QUESTION));
        self.change(key, |member| {
            member.had = member.had.max(floor).saturating_add(cost);
            member.working += 1;
        });
        self.now = self.now.saturating_add(cost / self.busy.max(1) as u128);
    }

    /// Of those that wait the one who had least; of several who had as little the one with the fewest that wait.
    fn next(&self) -> Option<K> {
        let floor = self.floor();
        let waiting = self.members.iter().filter(|(_, member)| member.waiting > 0);
        let least = waiting.min_by_key(|(_, member)| (member.had.max(floor), member.waiting));
        least.map(|(key, _)| key.clone())
    }
}

impl Queue {
    /// Whether a party asks little, with one more call.
    fn asks_little(&self, party: &Party, more: usize) -> bool {
        let lines = self.principals.members.get(&party.principal);
        let line = lines.and_then(|lines| lines.inner.members.get(&party.line));
        line.map_or(0, |line| line.waiting + line.working) + more <= LITTLE
    }

    /// Whether there is a turn for a party now.
    fn has_room(&self, at_once: AtOnce, asks_little: bool) -> bool {
        self.working < if self.calm > 0 && !asks_little { at_once.beside_others } else { at_once.most }
    }

    fn serve(&mut self, party: Party, cost: u64, asks_little: bool) {
        self.calm = if asks_little && self.waiting > 0 { CALM } else { self.calm.saturating_sub(1) };
        self.working += 1;
        let Party { principal, line } = party;
        self.principals.member(principal.clone()).inner.serve(line, cost);
        self.principals.serve(principal, cost);
    }

    fn end(&mut self, party: Party) {
        self.working -= 1;
        self.principals.change(party.principal, |principal| {
            principal.working -= 1;
            principal.inner.change(party.line, |line| line.working -= 1);
        });
    }

    fn wait(&mut self, party: Party, waiter: Waiter, cost: u64) {
        self.waiting += 1;
        self.principals.change(party.principal, |principal| {
            principal.waiting += 1;
            principal.inner.change(party.line, |line| {
                line.waiting += 1;
                line.inner.push_back((waiter, cost));
            });
        });
    }

    /// The one of a party that waits longest, which waits no more.
    fn leave(&mut self, party: &Party) -> Option<(Waiter, u64)> {
        self.waiting -= 1;
        self.principals.change(party.principal.clone(), |principal| {
            principal.waiting -= 1;
            principal.inner.change(party.line, |line| {
                line.waiting -= 1;
                line.inner.pop_front()
            })
        })
    }

    /// Whose turn is next, if there is one for him now.
    fn next(&mut self, at_once: AtOnce) -> Option<(Waiter, Party)> {
        loop {
            let principal = self.principals.next()?;
            let line = self.principals.members.get(&principal)?.inner.next()?;
            let party = Party { principal, line };
            let asks_little = self.asks_little(&party, 0);
            if !self.has_room(at_once, asks_little) {
                return None;
            }
            let (waiter, cost) = self.leave(&party)?;
            // Who has gone has had nothing.
            if !waiter.is_closed() {
                self.serve(party.clone(), cost, asks_little);
                return Some((waiter, party));
            }
        }
    }
}

impl Turns {
    /// So many turns at once.
    pub(super) fn new(at_once: AtOnce) -> Arc<Self> {
        let most = at_once.most.max(1);
        let at_once = AtOnce { most, beside_others: at_once.beside_others.clamp(1, most) };
        Arc::new(Self { at_once, queue: Mutex::default() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, for work that costs so many times what one question does.
    pub(super) async fn take(self: &Arc<Self>, party: Party, cost: u64) -> Turn {
        let turn = {
            let mut queue = self.queue();
            let asks_little = queue.asks_little(&party, 1);
            if queue.has_room(self.at_once, asks_little) {
                queue.serve(party.clone(), cost, asks_little);
                return Turn(Some((self.clone(), party)));
            }
            let (waiter, turn) = oneshot::channel();
            queue.wait(party, waiter, cost);
            turn
        };
        // Who waits in the queue is told: it outlives all turns.
        turn.await.unwrap_or(Turn(None))
    }

    /// A turn has ended. There may be room for more than one that waits.
    fn end(self: &Arc<Self>, party: Party) {
        self.queue().end(party);
        loop {
            let Some((next, party)) = self.queue().next(self.at_once) else { return };
            if let Err(mut missed) = next.send(Turn(Some((self.clone(), party.clone())))) {
                // It is this one's turn no more, and still nobody else's.
                drop(missed.0.take());
                self.queue().end(party);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, party)) = self.0.take() {
            turns.end(party);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    const ONE: AtOnce = AtOnce { most: 1, beside_others: 1 };

    fn party(principal: &str, line: u64) -> Party {
        Party { principal: Principal::new(principal).ok(), line }
    }

    /// Turns that are waited for, by who does; the first poll puts each in the queue.
    struct Waiting(Vec<(&'static str, BoxFuture<'static, Turn>)>);

    impl Waiting {
        fn add(&mut self, turns: &Arc<Turns>, name: &'static str, party: Party, cost: u64) {
            let turns = turns.clone();
            let mut waiting = async move { turns.take(party, cost).await }.boxed();
            assert!((&mut waiting).now_or_never().is_none(), "there is no turn yet");
            self.0.push((name, waiting));
        }

        /// Who has a turn now.
        fn served(&mut self) -> Option<(&'static str, Turn)> {
            for place in 0..self.0.len() {
                if let Some(turn) = (&mut self.0[place].1).now_or_never() {
                    return Some((self.0.remove(place).0, turn));
                }
            }
            None
        }

        /// Who is served until nobody waits, in order.
        fn order(&mut self, mut turn: Turn) -> Vec<&'static str> {
            let mut order = Vec::new();
            loop {
                drop(turn);
                let Some((name, next)) = self.served() else { return order };
                order.push(name);
                turn = next;
            }
        }
    }

    fn taken(turns: &Arc<Turns>, by: Party) -> Turn {
        turns.take(by, 1).now_or_never().unwrap()
    }

    #[test]
    fn a_call_waits_behind_one_of_each_other_connection_and_not_behind_all_calls() {
        let turns = Turns::new(ONE);
        let first = taken(&turns, party("local", 1));
        let mut waiting = Waiting(Vec::new());
        for line in 1..=3 {
            for _ in 0..100 {
                waiting.add(&turns, "flood", party("local", line), 1);
            }
        }
        waiting.add(&turns, "honest", party("local", 9), 1);
        let order = waiting.order(first);
        assert_eq!(order.len(), 301);
        assert!(order.iter().position(|name| *name == "honest").unwrap() <= 3, "{order:?}");
    }

    #[test]
    fn many_connections_of_one_principal_are_one_party() {
        let turns = Turns::new(ONE);
        let mut first = taken(&turns, party("flood", 0));
        let mut waiting = Waiting(Vec::new());
        for line in 0..500 {
            waiting.add(&turns, "flood", party("flood", line), 1);
        }
        // The honest one calls again as soon as it is answered, many times over.
        for _ in 0..50 {
            waiting.add(&turns, "honest", party("ledger", 1_000), 1);
            let mut before = 0;
            loop {
                drop(first);
                let (name, turn) = waiting.served().unwrap();
                first = turn;
                if name == "honest" {
                    break;
                }
                before += 1;
            }
            assert!(before <= 1, "{before} others came before it");
        }
    }

    #[test]
    fn it_is_no_use_to_be_new_each_time() {
        let turns = Turns::new(ONE);
        let mut turn = taken(&turns, party("local", 0));
        let mut waiting = Waiting(Vec::new());
        let (mut line, mut before, mut worst) = (1, 0, 0);
        waiting.add(&turns, "honest", party("local", 0), 1);
        for _ in 0..2_000 {
            while waiting.0.len() < 20 {
                line += 1;
                waiting.add(&turns, "new", party("local", line), 1);
            }
            drop(turn);
            let (name, next) = waiting.served().unwrap();
            turn = next;
            if name == "honest" {
                waiting.add(&turns, "honest", party("local", 0), 1);
                before = 0;
            } else {
                before += 1;
            }
            worst = worst.max(before);
        }
        assert!(worst <= 40, "{worst} others came before it");
    }

    #[test]
    fn who_asks_for_less_than_his_part_goes_first() {
        let turns = Turns::new(ONE);
        drop(taken(&turns, party("local", 0)));
        let mut turn = taken(&turns, party("local", 1));
        let mut waiting = Waiting(Vec::new());
        let served = |waiting: &mut Waiting, turn: Turn| {
            drop(turn);
            waiting.served().unwrap()
        };
        for _ in 0..10 {
            // Each of twenty others has eight turns, and then a few calls come one after the other.
            for _ in 0..160 {
                for line in 1..=20 {
                    if waiting.0.len() < 400 {
                        waiting.add(&turns, "flood", party("local", line), 1);
                    }
                }
                turn = served(&mut waiting, turn).1;
            }
            for _ in 0..5 {
                waiting.add(&turns, "honest", party("local", 0), 1);
                let mut before = 0;
                loop {
                    let (name, next) = served(&mut waiting, turn);
                    turn = next;
                    if name == "honest" {
                        break;
                    }
                    before += 1;
                }
                assert!(before <= 1, "{before} others came before it");
            }
        }
    }

    #[test]
    fn those_who_ask_much_do_less_at_once_while_one_is_served_who_does_not() {
        let turns = Turns::new(AtOnce { most: 4, beside_others: 1 });
        let mut waiting = Waiting(Vec::new());
        drop(taken(&turns, party("local", 0)));
        let mut working: Vec<Turn> = (1..=4).map(|line| taken(&turns, party("local", line))).collect();
        for line in (1..=4).cycle().take(400) {
            waiting.add(&turns, "flood", party("local", line), 1);
        }
        for _ in 0..50 {
            working.remove(0);
            working.push(waiting.served().unwrap().1);
        }
        assert_eq!(turns.queue().working, 4, "all have all of it");
        working.truncate(3);
        assert_eq!(waiting.served().map(|(_, turn)| working.push(turn)), Some(()));
        // One who asks little has a turn as soon as there is one, and from then on the others have one at once.
        waiting.add(&turns, "honest", party("local", 0), 1);
        working.remove(0);
        let (name, honest) = waiting.served().unwrap();
        assert_eq!(name, "honest");
        drop((honest, working));
        let mut alone = 0;
        while let Some((_, turn)) = waiting.served() {
            assert!(waiting.served().is_none() || alone >= CALM - 1, "after {alone}");
            alone += 1;
            if alone == CALM / 2 {
                // He need not wait for the one that there is.
                drop(taken(&turns, party("local", 0)));
            }
            drop(turn);
        }
        assert_eq!(turns.queue().working, 0);
    }

    #[test]
    fn what_costs_more_comes_more_rarely() {
        let turns = Turns::new(ONE);
        let first = taken(&turns, party("other", 0));
        let mut waiting = Waiting(Vec::new());
        for _ in 0..40 {
            waiting.add(&turns, "heavy", party("a", 1), 10);
            waiting.add(&turns, "light", party("b", 2), 1);
        }
        let order = waiting.order(first);
        let heavy = order.iter().take(40).filter(|name| **name == "heavy").count();
        assert!((3..=6).contains(&heavy), "{heavy}: {order:?}");
    }

    #[test]
    fn who_has_gone_is_passed_over_and_no_turn_is_lost() {
        let turns = Turns::new(AtOnce { most: 2, beside_others: 2 });
        let (first, second) = (taken(&turns, party("a", 1)), taken(&turns, party("a", 1)));
        let mut waiting = Waiting(Vec::new());
        for name in ["gone", "stays", "gone", "gone"] {
            waiting.add(&turns, name, party("b", 2), 1);
        }
        waiting.0.retain(|(name, _)| *name == "stays");
        drop(first);
        let (name, third) = waiting.served().unwrap();
        assert_eq!(name, "stays");
        drop((second, third));
        assert_eq!(turns.queue().working, 0);
        // One that is given a turn and goes before it looks gives it on as well.
        let held = (taken(&turns, party("a", 1)), taken(&turns, party("a", 1)));
        waiting.add(&turns, "gone", party("b", 2), 1);
        waiting.add(&turns, "stays", party("b", 2), 1);
        drop(held.0);
        waiting.0.retain(|(name, _)| *name == "stays");
        assert_eq!(waiting.served().map(|(name, _turn)| name), Some("stays"));
        drop(held.1);
        assert_eq!(turns.queue().working, 0);
    }

    #[test]
    fn those_who_ask_once_are_not_remembered_for_ever() {
        let turns = Turns::new(ONE);
        for line in 0..100_000 {
            drop(taken(&turns, party("local", line)));
        }
        let queue = turns.queue();
        let lines: usize = queue.principals.members.values().map(|member| member.inner.members.len()).sum();
        assert!(lines <= 4 * REMEMBERED, "{lines} connections are remembered");
    }
}
