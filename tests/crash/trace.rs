//! What a traced process did to the disk: the output of strace, read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::disk::{Call, Kind};

/// The arguments of strace: every call that changes files, with its data, its times and the paths of its descriptors.
pub const ARGUMENTS: [&str; 11] = [
    "-f",
    "-y",
    "-ttt",
    "-T",
    "-xx",
    "-s",
    "8388608",
    "-e",
    "signal=none",
    "-e",
    "trace=openat,write,writev,pwrite64,pwritev,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,\
     unlinkat,mmap",
];

/// Whether strace is there and may trace.
pub fn is_possible() -> bool {
    std::process::Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
}

/// The calls below `root`, in the order they ended. What had not ended when the process died comes last.
pub fn read(trace: &Path, root: &Path) -> Vec<Call> {
    let text = std::fs::read(trace).unwrap();
    let text = String::from_utf8_lossy(&text);
    let mut waiting: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let (stamp, rest) = rest.trim_start().split_once(' ').unwrap();
        let began = microseconds(stamp);
        if let Some(call) = rest.strip_suffix("<unfinished ...>") {
            waiting.insert(thread, (began, call.to_owned()));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((began, mut call)) = waiting.remove(thread) else { continue };
            call.push_str(resumed.split_once("resumed>").unwrap().1);
            calls.extend(parse(began, &call, root));
        } else {
            calls.extend(parse(began, rest, root));
        }
    }
    for (began, call) in waiting.into_values() {
        // It may have done all of its work, and never said so.
        calls.extend(
            parse(began, &format!("{} = 0", call.trim_end().trim_end_matches(',')), root)
                .map(|call| Call { ended: u64::MAX, ..call }),
        );
    }
    calls.sort_by_key(|call| call.ended);
    calls
}

fn microseconds(text: &str) -> u64 {
    let (seconds, micros) = text.split_once('.').unwrap();
    seconds.parse::<u64>().unwrap() * 1_000_000 + micros.parse::<u64>().unwrap()
}

/// One call, if it succeeded and concerns the folder.
fn parse(began: u64, call: &str, root: &Path) -> Option<Call> {
    let (name, rest) = call.split_once('(')?;
    // The result stands behind the last " = ", which no hexadecimal argument contains.
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let number: i64 = result.split(['<', ' ']).next()?.parse().ok()?;
    if number < 0 {
        return None;
    }
    let took = result.rsplit_once('<').and_then(|(_, took)| took.strip_suffix('>'));
    let took = took.filter(|took| took.contains('.') && !took.contains('\\')).map_or(0, microseconds);
    let arguments = arguments.trim_end().trim_end_matches(')');
    let parts: Vec<&str> = arguments.split(", ").map(str::trim).collect();
    let path = |part: &str| Some(described(part)?).filter(|path| path.starts_with(root));
    let kind = match name {
        "write" => Kind::Write(path(parts[0])?, None, bytes(parts.get(1)?)),
        "pwrite64" => Kind::Write(path(parts[0])?, Some(parts.last()?.parse().ok()?), bytes(parts.get(1)?)),
        "ftruncate" => Kind::Truncate(path(parts[0])?, parts.get(1)?.parse().ok()?),
        "fsync" | "fdatasync" => Kind::Sync(path(parts[0])?),
        "openat" => {
            let writes = parts.get(2)?;
            if !writes.contains("O_WRONLY") && !writes.contains("O_RDWR") {
                return None;
            }
            Kind::Open(path(result)?, writes.contains("O_TRUNC"))
        }
        "rename" => Kind::Rename(named(parts[0], root)?, named(parts.get(1)?, root)?),
        "renameat" | "renameat2" => Kind::Rename(named(parts.get(1)?, root)?, named(parts.get(3)?, root)?),
        "unlink" => Kind::Remove(named(parts[0], root)?),
        "unlinkat" => Kind::Remove(named(parts.get(1)?, root)?),
        "mmap" => {
            let shared = parts.get(3)?.contains("MAP_SHARED") && parts.get(2)?.contains("PROT_WRITE");
            assert!(!shared || path(parts.get(4)?).is_none(), "a file is written through memory: {call:.200}");
            return None;
        }
        _ => {
            assert!(path(parts[0]).is_none(), "nobody has told this reader what {name} does: {call:.200}");
            return None;
        }
    };
    Some(Call { began, ended: began + took, kind })
}

/// The path of a descriptor, `5<\x2f...>`.
fn described(part: &str) -> Option<PathBuf> {
    let inner = part.split_once('<')?.1;
    Some(PathBuf::from(String::from_utf8(unescape(inner.split_once('>')?.0)?).ok()?))
}

/// The path in quotes.
fn named(part: &str, root: &Path) -> Option<PathBuf> {
    let path = PathBuf::from(String::from_utf8(bytes(part)).ok()?);
    path.starts_with(root).then_some(path)
}

fn bytes(part: &str) -> Vec<u8> {
    assert!(!part.ends_with("..."), "strace cut the data off");
    unescape(part.trim_matches('"')).unwrap_or_else(|| panic!("strace wrote bytes otherwise: {part:.200}"))
}

/// `None` where only a part is escaped, as in the names of sockets.
fn unescape(text: &str) -> Option<Vec<u8>> {
    if !text.contains("\\x") {
        return Some(text.as_bytes().to_vec());
    }
    text.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
