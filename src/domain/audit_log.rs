//! The audit log: who changed what, from where, and what it was before and after. Entries form chains: each names the
//! hash of the one before, so that none can be changed, taken out, put in or moved without a break that is found.
//!
//! A chain lies beside what its entries are about: one of the service and one of each pool.

use super::ids::{PoolId, Principal};
use super::time::UnixSeconds;

/// What a chain's first entry names as the one before.
pub const NO_HASH: [u8; 32] = [0; 32];

/// The most bytes of what a change did, and of what it was before and after, that are kept: an entry is one value of the
/// store.
pub const MAX_SUMMARY_BYTES: usize = 2_600;

/// The most bytes of each of what it was before and after.
pub const MAX_SIDE_BYTES: usize = 1_400;

/// What a cut text ends with.
const CUT: &str = "…";

/// Which chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// What belongs to no pool.
    Service,
    /// What changes one pool.
    Pool(PoolId),
}

impl Log {
    /// Its name: `service`, or the resource name of its pool.
    pub fn name(&self) -> String {
        match self {
            Self::Service => "service".to_owned(),
            Self::Pool(pool) => format!("pools/{pool}"),
        }
    }

    /// The chain of a name.
    pub fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix("pools/") {
            Some(pool) => PoolId::new(pool).ok().map(Self::Pool),
            None => (name == "service").then_some(Self::Service),
        }
    }
}

/// What one change did, as the change itself says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// What it changed, by resource name.
    pub resource: String,
    /// What it did, for people, with the reason or the evidence that was given.
    pub summary: String,
    /// What it was before, as far as it was changed; empty where there was nothing.
    pub before: String,
    /// What it is after.
    pub after: String,
}

impl Note {
    /// A note of something that has no before and after.
    pub fn of(resource: impl Into<String>, summary: impl Into<String>) -> Self {
        Self { resource: resource.into(), summary: summary.into(), ..Self::default() }
    }

    /// With what it was before and is after.
    #[must_use]
    pub fn changed(self, before: impl Into<String>, after: impl Into<String>) -> Self {
        Self { before: before.into(), after: after.into(), ..self }
    }

    /// Cut to what an entry takes.
    fn cut(self) -> Self {
        Self {
            resource: self.resource,
            summary: cut(self.summary, MAX_SUMMARY_BYTES),
            before: cut(self.before, MAX_SIDE_BYTES),
            after: cut(self.after, MAX_SIDE_BYTES),
        }
    }
}

pub fn cut(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most.saturating_sub(CUT.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{CUT}", text.get(..end).unwrap_or_default())
}

/// Calls that were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCalls {
    /// The stable reason.
    pub reason: String,
    /// How many alike the entry stands for, from 1.
    pub count: u64,
}

impl RefusedCalls {
    /// Those of a form that has both fields in every entry: no reason and no count are none.
    pub fn from_fields(reason: String, count: u64) -> Option<Self> {
        (!reason.is_empty() || count > 0).then_some(Self { reason, count })
    }
}

/// What is written down of a change, or of calls that were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Who.
    pub principal: Principal,
    /// From where; empty for the service itself.
    pub peer: Box<str>,
    /// The full name of the RPC; empty for what the service does by itself.
    pub method: String,
    /// The caller's id of the request; empty where there is none.
    pub request_id: String,
    /// The hash of the request; [`NO_HASH`] where there is none.
    pub request_hash: [u8; 32],
    /// What it did.
    pub note: Note,
    /// Set where nothing was done.
    pub refused: Option<RefusedCalls>,
}

impl Act {
    /// The reason and the count of calls that were refused, for a form that has both in every entry.
    pub fn refused_fields(&self) -> (&str, u64) {
        self.refused.as_ref().map_or(("", 0), |refused| (refused.reason.as_str(), refused.count))
    }
}

/// One entry of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place in its chain, from 1.
    pub sequence: u64,
    /// When; never before the entry before it, whatever the clock says.
    pub at: UnixSeconds,
    /// What.
    pub act: Act,
    /// The hash of the entry before; [`NO_HASH`] for the first.
    pub previous_hash: [u8; 32],
    /// The hash of all of this, and of which chain it is in.
    pub hash: [u8; 32],
}

/// The end of a chain: kept beside it, so that a chain that is cut short is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The sequence of the last entry.
    pub sequence: u64,
    /// Its time.
    pub at: UnixSeconds,
    /// Its hash.
    pub hash: [u8; 32],
}

impl AuditEntry {
    /// The entry that follows `head`, or the first one.
    pub fn following(head: Option<&AuditHead>, log: &Log, at: UnixSeconds, act: Act) -> Self {
        let (sequence, earliest, previous_hash) = match head {
            Some(head) => (head.sequence.saturating_add(1), head.at, head.hash),
            None => (1, at, NO_HASH),
        };
        let act = Act { note: act.note.cut(), ..act };
        let mut entry = Self { sequence, at: at.max(earliest), act, previous_hash, hash: NO_HASH };
        entry.hash = entry.hash_in(log);
        entry
    }

    /// The end of a chain whose last entry this is.
    pub const fn head(&self) -> AuditHead {
        AuditHead { sequence: self.sequence, at: self.at, hash: self.hash }
    }

    /// The hash that it has to have as an entry of `log`: every text goes with its length, so that no two entries look
    /// alike.
    pub fn hash_in(&self, log: &Log) -> [u8; 32] {
        let Act { principal, peer, method, request_id, request_hash, note, refused: _ } = &self.act;
        let Note { resource, summary, before, after } = note;
        let (reason, count) = self.act.refused_fields();
        let name = log.name();
        let mut hasher = blake3::Hasher::new();
        for text in [
            "softstake audit log",
            &name,
            principal.as_str(),
            peer,
            method,
            request_id,
            resource,
            summary,
            before,
            after,
            reason,
        ] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hasher.update(&self.sequence.to_le_bytes()).update(&self.at.get().to_le_bytes()).update(&count.to_le_bytes());
        hasher.update(request_hash).update(&self.previous_hash);
        *hasher.finalize().as_bytes()
    }
}

/// Where a chain is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// Entries are missing, come twice, or are not in their order.
    #[error("entry {expected} should follow, and {found} does: entries were taken out, put in or moved")]
    OutOfOrder {
        /// The sequence that should follow.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// An entry names another one before it.
    #[error("entry {0} does not continue the entry before it: one of the two was replaced")]
    Unlinked(u64),
    /// An entry is not what was hashed.
    #[error("entry {0} was changed: its hash is not that of what it says")]
    Changed(u64),
    /// The chain ends before its head.
    #[error("it ends after entry {found}, and entry {head} was written: the end was cut off")]
    CutShort {
        /// The last entry that is there; 0 where there is none.
        found: u64,
        /// The last one that was written.
        head: u64,
    },
    /// The chain goes past its head, or ends otherwise.
    #[error("its last entry, {0}, is not the one that its head names: entries were put in, or the head was replaced")]
    AnotherEnd(u64),
    /// Nothing is left of it.
    #[error("there is none, and one was begun when what it is about was created")]
    Gone,
    /// An entry that was noted elsewhere is not there as it was.
    #[error("entry {0} is not the one that was noted elsewhere: the chain was written anew")]
    NotAsNoted(u64),
}

/// Walks a chain from its first entry.
#[derive(Clone, Debug)]
pub struct ChainCheck {
    log: Log,
    last: Option<AuditHead>,
    noted: Vec<(u64, [u8; 32])>,
}

impl ChainCheck {
    /// Before the first entry of `log`. `noted` are entries whose hashes were kept elsewhere: a chain that was written anew
    /// from some entry on is whole by itself, and differs from those.
    pub const fn new(log: Log, noted: Vec<(u64, [u8; 32])>) -> Self {
        Self { log, last: None, noted }
    }

    /// Takes the next entry.
    pub fn take(&mut self, entry: &AuditEntry) -> Result<(), ChainBreak> {
        let (expected, before) = match &self.last {
            Some(last) => (last.sequence.saturating_add(1), last.hash),
            None => (1, NO_HASH),
        };
        if entry.sequence != expected {
            return Err(ChainBreak::OutOfOrder { expected, found: entry.sequence });
        }
        if entry.hash != entry.hash_in(&self.log) {
            return Err(ChainBreak::Changed(entry.sequence));
        }
        if entry.previous_hash != before {
            return Err(ChainBreak::Unlinked(entry.sequence));
        }
        if self.noted.iter().any(|(sequence, hash)| *sequence == entry.sequence && *hash != entry.hash) {
            return Err(ChainBreak::NotAsNoted(entry.sequence));
        }
        self.last = Some(entry.head());
        Ok(())
    }

    /// After the last entry: whether the chain ends where its head says. Gives that end.
    pub fn end(self, head: Option<&AuditHead>) -> Result<AuditHead, ChainBreak> {
        let found = self.last.map_or(0, |last| last.sequence);
        let least = self.noted.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
        match (self.last, head) {
            (_, Some(head)) if found < head.sequence => Err(ChainBreak::CutShort { found, head: head.sequence }),
            (None, _) => Err(ChainBreak::Gone),
            (Some(last), Some(head)) if last == *head && found >= least => Ok(last),
            (Some(last), Some(head)) if last == *head => Err(ChainBreak::CutShort { found, head: least }),
            (Some(_), _) => Err(ChainBreak::AnotherEnd(found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::caller::Caller;

    fn act(what: &str) -> Act {
        let Caller { principal, peer } = Caller::local("127.0.0.1:9");
        Act {
            principal,
            peer,
            method: "softstake.v1.AdminService/PausePool".to_owned(),
            request_id: what.to_owned(),
            request_hash: [7; 32],
            note: Note::of("pools/atom", what).changed("OPEN", "PAUSED"),
            refused: None,
        }
    }

    fn log() -> Log {
        Log::Pool(PoolId::new("atom").unwrap())
    }

    fn chain(length: u64) -> Vec<AuditEntry> {
        let mut chain: Vec<AuditEntry> = Vec::new();
        for n in 1..=length {
            let head = chain.last().map(AuditEntry::head);
            let at = UnixSeconds::new(if n == 3 { 0 } else { 100 + n as i64 });
            chain.push(AuditEntry::following(head.as_ref(), &log(), at, act(&n.to_string())));
        }
        chain
    }

    fn check(chain: &[AuditEntry], head: Option<AuditHead>) -> Result<AuditHead, ChainBreak> {
        check_noted(chain, head, Vec::new())
    }

    fn check_noted(
        chain: &[AuditEntry],
        head: Option<AuditHead>,
        noted: Vec<(u64, [u8; 32])>,
    ) -> Result<AuditHead, ChainBreak> {
        let mut check = ChainCheck::new(log(), noted);
        chain.iter().try_for_each(|entry| check.take(entry))?;
        check.end(head.as_ref())
    }

    #[test]
    fn a_chain_as_it_was_written_is_whole_and_its_times_never_go_back() {
        let whole = chain(5);
        let head = whole[4].head();
        assert_eq!(check(&whole, Some(head)), Ok(head));
        assert!(whole.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!(check_noted(&whole, Some(head), vec![(2, whole[1].hash), (5, head.hash)]), Ok(head));
    }

    #[test]
    fn every_change_of_any_field_is_found() {
        let whole = chain(4);
        let head = Some(whole[3].head());
        type Flip = (&'static str, fn(&mut AuditEntry));
        let flips: [Flip; 13] = [
            ("time", |entry| entry.at = entry.at.plus(1)),
            ("principal", |entry| entry.act.principal = Principal::new("mallory").unwrap()),
            ("peer", |entry| entry.act.peer = "".into()),
            ("method", |entry| entry.act.method.push('x')),
            ("request", |entry| entry.act.request_id.push('x')),
            ("request hash", |entry| entry.act.request_hash[0] ^= 1),
            ("resource", |entry| entry.act.note.resource.push('x')),
            ("summary", |entry| entry.act.note.summary.push('x')),
            // The bytes of both sides stay the same, and move from one to the other.
            ("before", |entry| {
                let first = entry.act.note.after.remove(0);
                entry.act.note.before.push(first);
            }),
            ("after", |entry| entry.act.note.after.clear()),
            ("refusal", |entry| entry.act.refused = Some(RefusedCalls { reason: "X".to_owned(), count: 0 })),
            ("previous hash", |entry| entry.previous_hash[31] ^= 0x80),
            ("hash", |entry| entry.hash[5] ^= 1),
        ];
        for (what, flip) in flips {
            for at in 0..4 {
                let mut damaged = whole.clone();
                flip(&mut damaged[at]);
                assert_eq!(check(&damaged, head), Err(ChainBreak::Changed(at as u64 + 1)), "{what} of entry {at}");
            }
        }
    }

    #[test]
    fn what_is_taken_out_put_in_moved_or_cut_off_is_found() {
        let whole = chain(5);
        let head = Some(whole[4].head());
        let without = |at: usize| [&whole[..at], &whole[at + 1..]].concat();
        assert_eq!(check(&without(0), head), Err(ChainBreak::OutOfOrder { expected: 1, found: 2 }));
        assert_eq!(check(&without(2), head), Err(ChainBreak::OutOfOrder { expected: 3, found: 4 }));
        assert_eq!(check(&without(4), head), Err(ChainBreak::CutShort { found: 4, head: 5 }));
        assert_eq!(check(&[], head), Err(ChainBreak::CutShort { found: 0, head: 5 }));
        assert_eq!(check(&[], None), Err(ChainBreak::Gone));
        assert_eq!(check(&whole, None), Err(ChainBreak::AnotherEnd(5)));
        let mut moved = whole.clone();
        moved.swap(1, 2);
        assert_eq!(check(&moved, head), Err(ChainBreak::OutOfOrder { expected: 2, found: 3 }));
        let mut twice = whole.clone();
        twice.insert(2, whole[1].clone());
        assert_eq!(check(&twice, head), Err(ChainBreak::OutOfOrder { expected: 3, found: 2 }));
        let more = [whole.clone(), vec![AuditEntry::following(head.as_ref(), &log(), whole[4].at, act("6"))]].concat();
        assert_eq!(check(&more, head), Err(ChainBreak::AnotherEnd(6)));
    }

    #[test]
    fn an_entry_that_was_replaced_with_its_hash_breaks_the_link_behind_it() {
        let mut forged = chain(4);
        let head = Some(forged[3].head());
        let before = forged[0].head();
        forged[1] = AuditEntry::following(Some(&before), &log(), forged[1].at, act("forged"));
        assert_eq!(check(&forged, head), Err(ChainBreak::Unlinked(3)));
        // Of another chain it can't be taken either.
        let mut foreign = chain(4);
        foreign[1] = AuditEntry::following(Some(&before), &Log::Service, foreign[1].at, act("2"));
        assert_eq!(check(&foreign, head), Err(ChainBreak::Changed(2)));
    }

    #[test]
    fn a_chain_that_was_written_anew_is_not_as_it_was_noted() {
        let whole = chain(4);
        let noted = vec![(3, whole[2].hash), (4, whole[3].hash)];
        let mut anew = whole[..2].to_vec();
        for what in ["forged", "4"] {
            let head = anew[anew.len() - 1].head();
            anew.push(AuditEntry::following(Some(&head), &log(), whole[2].at, act(what)));
        }
        let head = Some(anew[3].head());
        assert_eq!(check(&anew, head), Ok(anew[3].head()), "whole by itself");
        assert_eq!(check_noted(&anew, head, noted.clone()), Err(ChainBreak::NotAsNoted(3)));
        let short = &whole[..2];
        let head = Some(short[1].head());
        assert_eq!(check_noted(short, head, noted), Err(ChainBreak::CutShort { found: 2, head: 4 }));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = "é".repeat(3_000);
        let note = Note::of("pools/atom", long.clone()).changed(long.clone(), long).cut();
        for (text, most) in
            [(&note.summary, MAX_SUMMARY_BYTES), (&note.before, MAX_SIDE_BYTES), (&note.after, MAX_SIDE_BYTES)]
        {
            assert!(text.len() <= most && text.len() + 4 > most && text.ends_with(CUT), "{}", text.len());
        }
    }

    #[test]
    fn the_name_of_a_chain_tells_it_again() {
        for log in [Log::Service, log()] {
            assert_eq!(Log::parse(&log.name()), Some(log));
        }
        for bad in ["", "pools/", "pools/ATOM", "pools", "other"] {
            assert_eq!(Log::parse(bad), None, "{bad:?}");
        }
    }
}
