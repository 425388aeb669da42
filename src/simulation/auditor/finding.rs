//! A difference between the engine and the auditor, as a sentence.

use std::collections::BTreeMap;
use std::fmt;

use ruint::aliases::U256;

use super::input::{Flags, Opened};

/// One thing that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The pool.
    pub pool: String,
    /// The index of the period, where it is about one.
    pub period: Option<u64>,
    /// The account, where it is about one.
    pub account: Option<String>,
    /// What is wrong, with both figures.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}", self.pool)?;
        if let Some(period) = self.period {
            write!(f, ", period {period}")?;
        }
        if let Some(account) = &self.account {
            write!(f, ", account {account}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What was found so far of one pool.
pub(super) struct Findings {
    pool: String,
    list: Vec<Finding>,
}

/// What a finding is about.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) period: Option<u64>,
    pub(super) account: Option<&'a str>,
}

impl About<'_> {
    /// About a whole period.
    pub(super) const fn period(index: u64) -> Self {
        Self { period: Some(index), account: None }
    }
}

impl Findings {
    pub(super) fn new(pool: &str) -> Self {
        Self { pool: pool.to_owned(), list: Vec::new() }
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.list
    }

    /// Says what is wrong.
    pub(super) fn say(&mut self, about: About<'_>, message: String) {
        let About { period, account } = about;
        self.list.push(Finding { pool: self.pool.clone(), period, account: account.map(str::to_owned), message });
    }

    /// Compares one figure of the engine with that of the auditor.
    pub(super) fn same<T: PartialEq + Figure>(&mut self, about: About<'_>, what: &str, engine: &T, auditor: &T) {
        if engine != auditor {
            let (engine, auditor) = (engine.shown(), auditor.shown());
            self.say(about, format!("{what}: the engine has {engine}, the auditor has {auditor}"));
        }
    }
}

/// What can be compared and shown.
pub(super) trait Figure {
    fn shown(&self) -> String;
}

macro_rules! plain_figures {
    ($($plain:ty),*) => {
        $(impl Figure for $plain {
            fn shown(&self) -> String {
                self.to_string()
            }
        })*
    };
}

plain_figures!(u16, u32, u64, i64, u128, i128, bool, U256, &str);

impl<T: Figure> Figure for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Figure::shown)
    }
}

impl Figure for BTreeMap<u16, u64> {
    fn shown(&self) -> String {
        let of_source = |(source, sequence): (&u16, &u64)| format!("{sequence} of source {source}");
        self.iter().map(of_source).collect::<Vec<String>>().join(", ")
    }
}

impl Figure for Flags {
    fn shown(&self) -> String {
        let names = [
            (self.opted_out, "opted out"),
            (self.opted_out_of_all, "opted out of all"),
            (self.opted_in, "opted in"),
            (self.restricted, "restricted"),
        ];
        let set: Vec<&str> = names.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
        if set.is_empty() { "nothing said".to_owned() } else { set.join(", ") }
    }
}

impl Figure for Opened {
    fn shown(&self) -> String {
        let Self { index, start, end, minimum, cap, opt_in, max_skew, max_lateness, max_future } = self;
        format!(
            "period {index} from {start} to {end}, minimum {minimum}, cap {}, opt-in {opt_in}, max_skew {max_skew} s, \
             max_lateness {max_lateness} s, max_future {max_future} s",
            cap.shown()
        )
    }
}
