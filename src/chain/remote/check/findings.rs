//! One verdict for each clause, and the report of all.

use std::collections::BTreeMap;
use std::fmt;

use crate::chain::ChainError;

/// What became of a clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was seen to hold.
    Pass,
    /// It was seen broken.
    Fail,
    /// It was not looked at, or could not be seen.
    Skipped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skipped => "SKIPPED",
        })
    }
}

macro_rules! clauses {
    ($($name:ident: $text:literal,)*) => {
        /// A clause, by its number in `softstake/adapter/v1/adapter.proto`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Clause { $($name,)* }

        const CLAUSES: &[(Clause, &str, &str)] = &[$((Clause::$name, stringify!($name), $text),)*];
    };
}

clauses! {
    G1: "answers are whole and well formed",
    G2: "reads may be repeated and made at the same time",
    G3: "a call that is given up loses nothing",
    G4: "refusals have the codes of refusals",
    G5: "what was answered is final",
    D1: "the descriptor is sane",
    D2: "the descriptor does not change",
    O1: "observations are whole, each of one height",
    O2: "heights and times never go back",
    P1: "the bytes do exactly what was asked",
    P2: "the sender is the staking address, the recipient custody or nobody",
    P3: "the fee stays within the estimate",
    P4: "something ends the bytes' life",
    P5: "preparing reserves nothing",
    P6: "what can't be done is refused, or fails and costs its fee",
    A1: "a wrong signature is DATA_LOSS",
    A2: "signed, it says what it said before",
    A3: "the same signature gives the same transaction",
    S1: "one operation has one effect, however often it is sent",
    S2: "what was sent before is not refused",
    S3: "what is no transaction is refused, and never on the chain",
    L1: "what was not sent is absent while its bytes live",
    L2: "what is final is found, the same each time",
    L3: "a lost answer of Submit makes no difference",
    E1: "effects come in chain order, without gaps",
    E2: "splitting a range gives the same list",
    E3: "a range past the head is refused",
    E4: "lists and look-ups have the same effects",
    E5: "effects explain every difference between observations",
}

/// One clause of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What became of it.
    pub verdict: Verdict,
    /// Its number.
    pub clause: &'static str,
    /// What it says.
    pub says: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7} {}  {}: {}", self.verdict, self.clause, self.says, self.seen)
    }
}

/// Every clause in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One line for each.
    pub lines: Vec<Line>,
}

impl Report {
    /// How many clauses have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|line| line.verdict == verdict).count()
    }

    /// The clauses that were seen broken.
    pub fn failed(&self) -> Vec<&'static str> {
        self.lines.iter().filter(|line| line.verdict == Verdict::Fail).map(|line| line.clause).collect()
    }
}

/// The verdicts so far. A failure stays; the last of several passes is kept.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<Clause, (Verdict, String)>);

impl Findings {
    pub(super) fn fail(&mut self, clause: Clause, seen: impl Into<String>) {
        if self.0.get(&clause).is_none_or(|(verdict, _)| *verdict != Verdict::Fail) {
            self.0.insert(clause, (Verdict::Fail, seen.into()));
        }
    }

    pub(super) fn pass(&mut self, clause: Clause, seen: impl Into<String>) {
        if self.0.get(&clause).is_none_or(|(verdict, _)| *verdict != Verdict::Fail) {
            self.0.insert(clause, (Verdict::Pass, seen.into()));
        }
    }

    /// A reason why nothing was seen of a clause, where nothing else was.
    pub(super) fn skip(&mut self, clause: Clause, why: impl Into<String>) {
        self.0.entry(clause).or_insert_with(|| (Verdict::Skipped, why.into()));
    }

    /// Passes where `holds`, and fails else.
    pub(super) fn hold(&mut self, clause: Clause, holds: bool, seen: impl Into<String>) {
        if holds { self.pass(clause, seen) } else { self.fail(clause, seen) }
    }

    /// A call that had to give an answer gave an error.
    pub(super) fn failed_call(&mut self, clause: Clause, call: &str, error: &ChainError) {
        let seen = format!("{call}: {error}");
        if matches!(error, ChainError::Untrusted(_)) {
            self.fail(Clause::G1, seen.clone());
        }
        self.fail(clause, seen);
    }

    /// All clauses; `unseen` is why there is nothing of those that nothing was seen of.
    pub(super) fn report(mut self, unseen: &str) -> Report {
        let lines = CLAUSES.iter().map(|(clause, number, says)| {
            let (verdict, seen) = self.0.remove(clause).unwrap_or_else(|| (Verdict::Skipped, unseen.to_owned()));
            Line { verdict, clause: number, says, seen }
        });
        Report { lines: lines.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_of_the_contract_is_in_the_report() {
        let contract = include_str!("../../../../proto/softstake/adapter/v1/adapter.proto");
        let numbered = |line: &str| {
            let text = line.trim_start().strip_prefix("// ")?;
            let (number, _) = text.split_once(". ")?;
            let mut letters = number.chars();
            let is = letters.next()?.is_ascii_uppercase() && letters.as_str().parse::<u8>().is_ok();
            is.then(|| number.to_owned())
        };
        let written: Vec<String> = contract.lines().filter_map(numbered).collect();
        let known: Vec<&str> = CLAUSES.iter().map(|(_, number, _)| *number).collect();
        assert_eq!(written, known);
    }

    #[test]
    fn a_failure_stays() {
        let mut findings = Findings::default();
        findings.skip(Clause::E1, "a");
        findings.pass(Clause::E1, "b");
        findings.skip(Clause::E1, "c");
        findings.fail(Clause::E1, "d");
        findings.pass(Clause::E1, "e");
        findings.fail(Clause::E1, "f");
        let report = findings.report("unseen");
        let line = report.lines.iter().find(|line| line.clause == "E1").unwrap();
        assert_eq!(line.to_string(), "FAIL    E1  effects come in chain order, without gaps: d");
        assert_eq!((report.failed(), report.count(Verdict::Skipped)), (vec!["E1"], CLAUSES.len() - 1));
    }
}
