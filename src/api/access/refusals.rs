//! Calls that were refused for who made them: each is told once, and its repeats once a minute with their number, so that
//! a flood of refusals fills neither the log nor the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::Principal;
use crate::domain::time::UnixSeconds;

/// How long repeats are counted before they are told.
const WINDOW_SECONDS: i64 = 60;

/// How many different refusals are told one by one within a window; further ones are counted as one, under `OTHERS`.
const MAX_KINDS: usize = 256;

/// The call and the machine of the refusals that are too many to be told one by one.
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

/// The refusals of the last minute.
pub struct Refusals {
    counted: Mutex<Counted>,
    log: Box<dyn RefusalLog>,
}

#[derive(Default)]
struct Counted {
    /// Since when, and how many were not told yet.
    kinds: BTreeMap<Kind, (UnixSeconds, u64)>,
}

impl Refusals {
    /// None yet; they are told to `log`.
    pub fn new(log: Box<dyn RefusalLog>) -> Self {
        Self { counted: Mutex::default(), log }
    }

    /// Tells of one refusal at once, or counts it where one like it was told within the last minute.
    pub fn note(&self, refusal: Refusal, machine: &Arc<str>, now: UnixSeconds) {
        self.step(now);
        let told = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let kind = Kind {
                principal: refusal.principal.clone(),
                machine: machine.clone(),
                call: refusal.call,
                reason: refusal.reason,
            };
            let full = counted.kinds.len() >= MAX_KINDS && !counted.kinds.contains_key(&kind);
            let others = Kind { principal: None, machine: OTHERS.into(), call: OTHERS, reason: refusal.reason };
            let kind = if full { others } else { kind };
            match counted.kinds.get_mut(&kind) {
                Some((_, untold)) => {
                    *untold = untold.saturating_add(1);
                    None
                }
                None => {
                    counted.kinds.insert(kind, (now, 0));
                    Some(if full {
                        Refusal { principal: None, peer: OTHERS.into(), call: OTHERS, ..refusal }
                    } else {
                        refusal
                    })
                }
            }
        };
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
            counted.kinds.retain(|kind, (since, untold)| {
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
        assert!(told.take().is_empty() && refusals.counted.lock().unwrap().kinds.is_empty());
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
        assert_eq!(first.len(), MAX_KINDS + 1);
        assert_eq!(first.last().unwrap().0, OTHERS);
        assert!(refusals.counted.lock().unwrap().kinds.len() <= MAX_KINDS + 1);
        refusals.step(UnixSeconds::new(65));
        let later = told.take();
        let all: u64 = first.iter().chain(&later).map(|(_, _, count)| count).sum();
        assert_eq!((later.len(), all), (1, flood));
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
