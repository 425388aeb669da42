//! The audit log of a store that no service has open: checked, and exported for those who keep it elsewhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::app::audit_log::{self, Noted, noted_in};
use crate::domain::audit_log::{Act, AuditEntry, AuditHead, ChainBreak, ChainCheck, Log, Note, RefusedCalls};
use crate::domain::ids::Principal;
use crate::domain::time::UnixSeconds;
use crate::store::Store;
use crate::store::migrations;
use crate::store::sled::{SledOptions, SledStore};

use super::NodeError;

/// The form of an export; a reader refuses another one.
pub(super) const FORM: u32 = 1;

/// What became of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Its name.
    pub log: String,
    /// Where it ends: its last entry and the hash of that, in hex; `None` where nothing was written. Or where it breaks.
    pub outcome: Result<Option<(u64, String)>, String>,
}

impl ChainReport {
    fn new(log: &Log, outcome: Result<Option<AuditHead>, ChainBreak>) -> Self {
        let outcome = outcome.map(|head| head.map(|head| (head.sequence, hex(&head.hash))));
        Self { log: log.name(), outcome: outcome.map_err(|broken| broken.to_string()) }
    }
}

/// Hashes that were kept elsewhere.
#[derive(Clone, Debug)]
pub struct NotedEntry(Noted);

impl std::str::FromStr for NotedEntry {
    type Err = String;

    /// Reads `LOG:SEQUENCE:HASH`, as `softstake audit verify` prints it.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text} is not LOG:SEQUENCE:HASH, such as pools/atom:17:0123…");
        let mut parts = text.rsplitn(3, ':');
        let hash = parts.next().and_then(unhex).ok_or_else(form)?;
        let sequence = parts.next().and_then(|sequence| sequence.parse().ok()).ok_or_else(form)?;
        let log = parts.next().and_then(Log::parse).ok_or_else(form)?;
        Ok(Self(Noted { log, sequence, hash }))
    }
}

pub(super) fn noted(entries: &[NotedEntry]) -> Vec<Noted> {
    entries.iter().map(|entry| entry.0.clone()).collect()
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

fn failed(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> NodeError {
    move |error| NodeError::Io { what: what.to_string(), error }
}

/// Opens the store of a stopped service. One that is not there is not made.
async fn open_stopped(data_dir: &Path) -> Result<SledStore, NodeError> {
    let directory = data_dir.join("store");
    let there = directory.join("db").try_exists().map_err(failed(directory.display()))?;
    if !there {
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(failed(format!("{} holds no store; name the data_dir of a service", data_dir.display()))(error));
    }
    let opened = tokio::task::spawn_blocking(move || SledStore::open(&directory, SledOptions::default()));
    let store = opened.await.map_err(|died| NodeError::Failed(died.to_string()))??;
    migrations::migrate(&store).await?;
    Ok(store)
}

/// Walks every chain of the store of a stopped service.
pub async fn verify(data_dir: &Path, entries: &[NotedEntry]) -> Result<Vec<ChainReport>, NodeError> {
    let store = open_stopped(data_dir).await?;
    let outcomes = audit_log::verify(&store, &noted(entries)).await?;
    Ok(outcomes.into_iter().map(|(log, outcome)| ChainReport::new(&log, outcome)).collect())
}

/// A line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// The first one: which chains there are.
    AuditLog { form: u32, logs: Vec<String> },
    /// An entry.
    Entry(Box<ExportedEntry>),
    /// The end of a chain, behind its entries.
    Head { log: String, sequence: u64, at: i64, hash: String },
}

/// An entry as a line has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportedEntry {
    log: String,
    sequence: u64,
    /// Seconds since the Unix epoch.
    at: i64,
    principal: String,
    peer: String,
    method: String,
    request_id: String,
    request_hash: String,
    resource: String,
    summary: String,
    before: String,
    after: String,
    refusal_reason: String,
    refused_count: u64,
    previous_hash: String,
    hash: String,
}

impl ExportedEntry {
    pub(super) fn of(log: &Log, entry: &AuditEntry) -> Self {
        let (refusal_reason, refused_count) = entry.act.refused_fields();
        let refusal_reason = refusal_reason.to_owned();
        let Act { principal, peer, method, request_id, request_hash, note, refused: _ } = entry.act.clone();
        let Note { resource, summary, before, after } = note;
        Self {
            log: log.name(),
            sequence: entry.sequence,
            at: entry.at.get(),
            principal: principal.to_string(),
            peer: peer.to_string(),
            method,
            request_id,
            request_hash: hex(&request_hash),
            resource,
            summary,
            before,
            after,
            refusal_reason,
            refused_count,
            previous_hash: hex(&entry.previous_hash),
            hash: hex(&entry.hash),
        }
    }

    fn entry(self) -> Option<AuditEntry> {
        let refused = RefusedCalls::from_fields(self.refusal_reason, self.refused_count);
        let note = Note { resource: self.resource, summary: self.summary, before: self.before, after: self.after };
        Some(AuditEntry {
            sequence: self.sequence,
            at: UnixSeconds::new(self.at),
            act: Act {
                principal: Principal::new(&self.principal).ok()?,
                peer: self.peer.into(),
                method: self.method,
                request_id: self.request_id,
                request_hash: unhex(&self.request_hash)?,
                note,
                refused,
            },
            previous_hash: unhex(&self.previous_hash)?,
            hash: unhex(&self.hash)?,
        })
    }
}

/// Writes every chain of the store of a stopped service, a line of JSON an entry, and says how many entries there are.
/// What can't be read is refused: verify says where.
pub async fn export(data_dir: &Path, out: &mut impl Write) -> Result<u64, NodeError> {
    let store = open_stopped(data_dir).await?;
    export_store(&store, out).await
}

async fn export_store(store: &dyn Store, out: &mut impl Write) -> Result<u64, NodeError> {
    let logs = audit_log::logs(store).await?;
    let mut count = 0;
    write(out, &Line::AuditLog { form: FORM, logs: logs.iter().map(|(log, _)| log.name()).collect() })?;
    for (log, partition) in logs {
        let mut first = 0;
        loop {
            let entries = audit_log::entries(store, partition, first).await?;
            let Some((last, _)) = entries.last() else { break };
            first = last.saturating_add(1);
            for (sequence, entry) in &entries {
                let unreadable = || NodeError::Failed(format!("entry {sequence} of {} can't be read", log.name()));
                let entry = entry.as_ref().ok_or_else(unreadable)?;
                write(out, &Line::Entry(Box::new(ExportedEntry::of(&log, entry))))?;
                count += 1;
            }
        }
        if let Some(AuditHead { sequence, at, hash }) = audit_log::head(store, partition).await? {
            write(out, &Line::Head { log: log.name(), sequence, at: at.get(), hash: hex(&hash) })?;
        }
    }
    out.flush().map_err(failed("writing the export"))?;
    Ok(count)
}

pub(super) fn write(out: &mut impl Write, line: &Line) -> Result<(), NodeError> {
    let failed = failed("writing the export");
    let text = serde_json::to_string(line).map_err(std::io::Error::from);
    match text.and_then(|text| writeln!(out, "{text}")) {
        Ok(()) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Walks every chain of an export.
pub fn verify_export(path: &Path, entries: &[NotedEntry]) -> Result<Vec<ChainReport>, NodeError> {
    let file = File::open(path).map_err(failed(path.display()))?;
    check_export(BufReader::new(file), path, &noted(entries))
}

/// A chain that is being read from an export.
struct Walked {
    check: Option<ChainCheck>,
    broken: Option<ChainBreak>,
    head: Option<AuditHead>,
    any: bool,
}

/// Walks every chain of the lines of an export, which `path` names in what is told.
pub(super) fn check_export(lines: impl BufRead, path: &Path, noted: &[Noted]) -> Result<Vec<ChainReport>, NodeError> {
    let wrong = |line: usize, what: &str| NodeError::Failed(format!("{} line {line}: {what}", path.display()));
    let mut chains: BTreeMap<Log, Walked> = BTreeMap::new();
    for (index, text) in lines.lines().enumerate() {
        let number = index + 1;
        let text = text.map_err(failed(path.display()))?;
        let line: Line = serde_json::from_str(&text).map_err(|error| wrong(number, &error.to_string()))?;
        match line {
            Line::AuditLog { form, logs } if index == 0 && form == FORM => {
                for log in logs {
                    let log = Log::parse(&log).ok_or_else(|| wrong(number, "it names no chain"))?;
                    let check = Some(ChainCheck::new(log.clone(), noted_in(&log, noted)));
                    chains.insert(log, Walked { check, broken: None, head: None, any: false });
                }
            }
            _ if index == 0 => return Err(wrong(number, "it is no export of an audit log that is known here")),
            Line::AuditLog { .. } => return Err(wrong(number, "a second beginning")),
            Line::Entry(exported) => {
                let chain = Log::parse(&exported.log).and_then(|log| chains.get_mut(&log));
                let chain = chain.ok_or_else(|| wrong(number, "it is of a chain that the first line does not name"))?;
                let sequence = exported.sequence;
                chain.any = true;
                if let (Some(check), None) = (&mut chain.check, &chain.broken) {
                    let taken = exported.entry().ok_or(ChainBreak::Changed(sequence));
                    chain.broken = taken.and_then(|entry| check.take(&entry)).err();
                }
            }
            Line::Head { log, sequence, at, hash } => {
                let chain = Log::parse(&log).and_then(|log| chains.get_mut(&log));
                let chain = chain.ok_or_else(|| wrong(number, "it is of a chain that the first line does not name"))?;
                let hash = unhex(&hash).ok_or_else(|| wrong(number, "the hash is not 64 hex digits"))?;
                chain.head = Some(AuditHead { sequence, at: UnixSeconds::new(at), hash });
            }
        }
    }
    if chains.is_empty() {
        return Err(wrong(1, "it is empty"));
    }
    let begun = chains.len() > 1;
    let report = |(log, walked): (Log, Walked)| {
        let untouched = !walked.any && walked.head.is_none() && !begun && noted.is_empty();
        let outcome = match (walked.broken, walked.check) {
            (Some(broken), _) => Err(broken),
            (None, Some(check)) if !untouched => check.end(walked.head.as_ref()).map(Some),
            (None, _) => Ok(None),
        };
        ChainReport::new(&log, outcome)
    };
    Ok(chains.into_iter().map(report).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::caller::Caller;
    use crate::store::model::ModelStore;

    async fn exported(entries: u64) -> Vec<String> {
        let store = ModelStore::new();
        for n in 0..entries {
            let note = Note::of("pools/atom", format!("change {n}")).changed("a \"quoted\" one", "ü");
            let at = UnixSeconds::new(100 + n as i64);
            audit_log::write_down(&store, Caller::local("127.0.0.1:1"), at, note).await.unwrap();
        }
        let mut out = Vec::new();
        assert_eq!(export_store(&store, &mut out).await.unwrap(), entries);
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn check(lines: &[String], noted: &[Noted]) -> Result<Vec<ChainReport>, String> {
        let text = lines.join("\n");
        check_export(text.as_bytes(), Path::new("export"), noted).map_err(|error| error.to_string())
    }

    fn broken(lines: &[String]) -> String {
        check(lines, &[]).unwrap().remove(0).outcome.unwrap_err()
    }

    #[tokio::test]
    async fn an_export_is_checked_as_the_store_is() {
        let whole = exported(4).await;
        let (sequence, hash) = check(&whole, &[]).unwrap().remove(0).outcome.unwrap().unwrap();
        assert_eq!(sequence, 4);
        let NotedEntry(noted) = format!("service:4:{hash}").parse().unwrap();
        assert!(check(&whole, &[noted]).unwrap()[0].outcome.is_ok());
        assert_eq!(check(&exported(0).await, &[]).unwrap()[0].outcome, Ok(None));

        let mut flipped = whole.clone();
        flipped[2] = flipped[2].replace("change 1", "change 7");
        assert!(broken(&flipped).contains("entry 2 was changed"));
        let mut deleted = whole.clone();
        deleted.remove(3);
        assert!(broken(&deleted).contains("entry 3 should follow, and 4 does"));
        let mut swapped = whole.clone();
        swapped.swap(2, 3);
        assert!(broken(&swapped).contains("entry 2 should follow, and 3 does"));
        let mut cut = whole.clone();
        cut.remove(4);
        assert!(broken(&cut).contains("the end was cut off"));
        cut.remove(4);
        assert!(broken(&cut).contains("its last entry, 3, is not the one that its head names"));
        let mut forged = whole.clone();
        forged[1] = forged[1].replace("\"local\"", "\"nobody else\"");
        assert!(broken(&forged).contains("entry 1 was changed"));
    }

    #[tokio::test]
    async fn what_is_no_export_is_refused_by_its_line() {
        let whole = exported(1).await;
        assert!(check(&[], &[]).unwrap_err().contains("it is empty"));
        assert!(check(&whole[1..], &[]).unwrap_err().contains("line 1: it is no export"));
        let newer = [whole[0].replace("\"form\":1", "\"form\":2")];
        assert!(check(&newer, &[]).unwrap_err().contains("line 1: it is no export"));
        let foreign = [whole[0].clone(), whole[1].replace("\"service\"", "\"pools/atom\"")];
        assert!(check(&foreign, &[]).unwrap_err().contains("line 2: it is of a chain"));
    }

    #[test]
    fn a_noted_entry_is_read_as_it_is_printed() {
        let hash = hex(&[0xab; 32]);
        let NotedEntry(noted) = format!("pools/atom:17:{hash}").parse().unwrap();
        assert_eq!((noted.log.name().as_str(), noted.sequence, noted.hash), ("pools/atom", 17, [0xab; 32]));
        for bad in ["", "17:00", "pools/atom:x:00", &format!("elsewhere:1:{hash}"), &format!("service:{hash}")] {
            assert!(bad.parse::<NotedEntry>().is_err(), "{bad}");
        }
    }
}
