//! Calls that were refused for who made them: each is told once, and its repeats once a minute with their number, so that
//! a flood of refusals fills neither the log nor the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::Principal;
use crate::domain::time::UnixSeconds;

/// How long repeats are counted before they are told.
const WINDOW_SECONDS: i64 = 60;

/// How many different refusals of known principals are told one by one within a window; further ones are counted as one,
/// under `OTHERS`.
const MAX_KNOWN: usize = 256;

/// The same for those who have not shown who they are. They have a room of their own, so that they crowd out nobody, and a
/// smaller one: a day of their refusals is some 30 MB of the audit log at most.
const MAX_UNKNOWN: usize = 64;

/// How many of these one principal has, or one machine of unknown callers.
const MAX_OF_ONE: usize = 32;

/// What stands for the call and the machine of refusals that are too many to be told one by one.
pub const OTHERS: &str = "others";

/// One refusal, or several that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who it was, where a credential said so: one that may not make this call, or whose credential is over.
    pub principal: Option<Principal>,
    /// The other end, as the transport saw it: with a port for the first one, without one for repeats.
    pub peer: Arc<str>,
    /// The call, such as `AdminService/PausePool`; `unknown` where there is none of that name.
    pub call: &'static str,
    /// The stable reason, such as `TOKEN_EXPIRED`.
    pub reason: &'static str,
    /// How many there were.
    pub count: u64,
}

/// Hears of refusals. It must not wait: it is called while a caller waits for its answer.
pub trait RefusalLog: Send + Sync {
    /// Takes one.
    fn refused(&self, refusal: Refusal);
}

/// What makes two refusals alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    principal: Option<Principal>,
    machine: Arc<str>,
    call: &'static str,
    reason: &'static str,
}

impl Kind {
    /// Whether both are of the same principal, or of the same machine where neither is of one.
    fn is_of_the_one_of(&self, other: &Self) -> bool {
        self.principal == other.principal && (self.principal.is_some() || self.machine == other.machine)
    }

    /// What stands for all further ones of its principal or machine.
    fn others_of_one(&self) -> Self {
        let machine = if self.principal.is_some() { OTHERS.into() } else { self.machine.clone() };
        Self { machine, call: OTHERS, ..self.clone() }
    }

    /// What stands for all further ones of anybody. There are as many of these as reasons.
    fn others(&self) -> Self {
        Self { principal: None, machine: OTHERS.into(), call: OTHERS, reason: self.reason }
    }
}

/// Kinds, each with since when and how many were not told yet.
#[derive(Default)]
struct Room(BTreeMap<Kind, (UnixSeconds, u64)>);

impl Room {
    /// Counts one of `kind`, or of what stands for it; which it was, if it has to be told now.
    fn count(&mut self, kind: Kind, most: usize, now: UnixSeconds) -> Option<Kind> {
        let mut kind = kind;
        if !self.0.contains_key(&kind) {
            if self.0.keys().filter(|other| kind.is_of_the_one_of(other)).count() >= MAX_OF_ONE {
                kind = kind.others_of_one();
            }
            if self.0.len() >= most && !self.0.contains_key(&kind) {
                kind = kind.others();
            }
        }
        match self.0.get_mut(&kind) {
            Some((_, untold)) => {
                *untold = untold.saturating_add(1);
                None
            }
            None => {
                self.0.insert(kind.clone(), (now, 0));
                Some(kind)
            }
        }
    }

    /// Those whose minute is over. What was not repeated in it is forgotten.
    fn step(&mut self, now: UnixSeconds, told: &mut Vec<Refusal>) {
        self.0.retain(|kind, (since, untold)| {
            if (0..WINDOW_SECONDS).contains(&now.get().saturating_sub(since.get())) {
                return true;
            }
            if *untold == 0 {
                return false;
            }
            let Kind { principal, machine, call, reason } = kind.clone();
            told.push(Refusal { principal, peer: machine, call, reason, count: *untold });
            (*since, *untold) = (now, 0);
            true
        });
    }
}

/// The refusals of the last minute.
pub struct Refusals {
    counted: Mutex<Counted>,
    log: Box<dyn RefusalLog>,
}

#[derive(Default)]
struct Counted {
    known: Room,
    unknown: Room,
}

impl Refusals {
    /// None yet; they are told to `log`.
    pub fn new(log: Box<dyn RefusalLog>) -> Self {
        Self { counted: Mutex::default(), log }
    }

    /// Tells of one refusal at once, or counts it where one like it was told within the last minute.
    pub fn note(&self, refusal: Refusal, machine: &Arc<str>, now: UnixSeconds) {
        self.step(now);
        let Refusal { principal, call, reason, .. } = &refusal;
        let kind = Kind { principal: principal.clone(), machine: machine.clone(), call, reason };
        let told = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            match kind.principal {
                Some(_) => counted.known.count(kind.clone(), MAX_KNOWN, now),
                None => counted.unknown.count(kind.clone(), MAX_UNKNOWN, now),
            }
        };
        // The first of its kind has its port; what stands for others has none.
        let told = told.map(|told| match told == kind {
            true => refusal,
            false => Refusal { principal: told.principal, peer: told.machine, call: told.call, ..refusal },
        });
        if let Some(refusal) = told {
            self.log.refused(refusal);
        }
    }

    /// Tells the number of all that were not told yet.
    pub fn finish(&self) {
        self.step(UnixSeconds::new(i64::MAX));
    }

    /// Tells the number of those whose minute is over. Called from time to time, and before each new one.
    pub fn step(&self, now: UnixSeconds) {
        let mut told = Vec::new();
        {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let Counted { known, unknown } = &mut *counted;
            known.step(now, &mut told);
            unknown.step(now, &mut told);
        }
        for refusal in told {
            self.log.refused(refusal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<Refusal>>>);

    impl RefusalLog for Told {
        fn refused(&self, refusal: Refusal) {
            self.0.lock().unwrap().push(refusal);
        }
    }

    impl Told {
        fn take(&self) -> Vec<(String, &'static str, u64)> {
            let told = std::mem::take(&mut *self.0.lock().unwrap());
            told.into_iter().map(|one| (one.peer.to_string(), one.reason, one.count)).collect()
        }
    }

    fn refuse(refusals: &Refusals, machine: &str, port: u16, reason: &'static str, at: i64) {
        let peer = format!("{machine}:{port}").into();
        let refusal = Refusal { principal: None, peer, call: "PoolService/GetPool", reason, count: 1 };
        refusals.note(refusal, &machine.into(), UnixSeconds::new(at));
    }

    #[test]
    fn repeats_are_counted_and_told_once_a_minute() {
        let told = Told::default();
        let refusals = Refusals::new(Box::new(told.clone()));
        for second in 0..59 {
            refuse(&refusals, "10.0.0.1", 1_000 + second, "TOKEN_EXPIRED", second.into());
        }
        assert_eq!(told.take(), [("10.0.0.1:1000".to_owned(), "TOKEN_EXPIRED", 1)]);
        refuse(&refusals, "10.0.0.1", 7, "CREDENTIALS_UNKNOWN", 59);
        refuse(&refusals, "10.0.0.2", 7, "TOKEN_EXPIRED", 59);
        assert_eq!(told.take().len(), 2, "another reason, and another machine, is told at once");
        refusals.step(UnixSeconds::new(60));
        assert_eq!(told.take(), [("10.0.0.1".to_owned(), "TOKEN_EXPIRED", 58)]);
        // A new minute began with what was told.
        refuse(&refusals, "10.0.0.1", 9, "TOKEN_EXPIRED", 61);
        assert_eq!(told.take(), []);
        refusals.step(UnixSeconds::new(120));
        assert_eq!(told.take(), [("10.0.0.1".to_owned(), "TOKEN_EXPIRED", 1)]);
        refuse(&refusals, "10.0.0.1", 9, "TOKEN_EXPIRED", 121);
        refusals.finish();
        assert_eq!(told.take().len(), 1, "at the end nothing is left untold");
        refusals.step(UnixSeconds::new(300));
        // Nothing more came, and it is forgotten.
        refusals.step(UnixSeconds::new(400));
        assert!(told.take().is_empty() && refusals.counted.lock().unwrap().unknown.0.is_empty());
        refuse(&refusals, "10.0.0.1", 9, "TOKEN_EXPIRED", 401);
        assert_eq!(told.take(), [("10.0.0.1:9".to_owned(), "TOKEN_EXPIRED", 1)]);
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_all_of_it_is_counted() {
        let told = Told::default();
        let refusals = Refusals::new(Box::new(told.clone()));
        let flood = 10_000;
        for machine in 0..flood {
            refuse(&refusals, &format!("10.0.{}.{}", machine / 250, machine % 250), 1, "CREDENTIALS_MISSING", 5);
        }
        let first = told.take();
        assert_eq!(first.len(), MAX_UNKNOWN + 1);
        assert_eq!(first.last().unwrap().0, OTHERS);
        assert!(refusals.counted.lock().unwrap().unknown.0.len() <= MAX_UNKNOWN + 1);
        refusals.step(UnixSeconds::new(65));
        let later = told.take();
        let all: u64 = first.iter().chain(&later).map(|(_, _, count)| count).sum();
        assert_eq!((later.len(), all), (1, flood));
    }

    #[test]
    fn a_flood_of_strangers_hides_no_known_principal_and_one_of_them_no_other() {
        let told = Told::default();
        let refusals = Refusals::new(Box::new(told.clone()));
        let calls: Vec<&'static str> = super::super::table::TABLE.iter().map(|row| row.call()).collect();
        let refuse = |principal: Option<&str>, machine: &str, call: &'static str| {
            let principal = principal.map(|name| Principal::new(name).unwrap());
            let (peer, reason) = (format!("{machine}:1").into(), "ROLE_MISSING");
            let refusal = Refusal { principal, peer, call, reason, count: 1 };
            refusals.note(refusal, &machine.into(), UnixSeconds::new(5));
        };
        // One machine, every call: it has its share, and the next machine is told of all the same.
        calls.iter().for_each(|call| refuse(None, "10.0.0.1", call));
        let of_one = told.take();
        assert_eq!((of_one.len(), of_one.last().unwrap().0.as_str()), (MAX_OF_ONE + 1, "10.0.0.1"));
        refuse(None, "10.0.0.2", calls[0]);
        assert_eq!(told.take()[0].0, "10.0.0.2:1");
        // And however many there are of those, who is known has room.
        (0..1_000).for_each(|machine| refuse(None, &machine.to_string(), calls[0]));
        told.take();
        for (at, call) in calls.iter().enumerate() {
            refuse(Some("mallory"), &format!("10.1.0.{at}"), call);
        }
        let of_one = told.take();
        assert_eq!((of_one.len(), of_one.last().unwrap().0.as_str()), (MAX_OF_ONE + 1, OTHERS));
        refuse(Some("maria"), "10.0.0.3", calls[0]);
        assert_eq!(told.take()[0].0, "10.0.0.3:1");
    }

    #[test]
    fn a_clock_that_goes_back_holds_nothing_up() {
        let told = Told::default();
        let refusals = Refusals::new(Box::new(told.clone()));
        refuse(&refusals, "a", 1, "TOKEN_EXPIRED", 1_000);
        refuse(&refusals, "a", 1, "TOKEN_EXPIRED", 1_001);
        refusals.step(UnixSeconds::new(10));
        assert_eq!(told.take().len(), 2);
    }
}
